/**
 * Losses: from a network's output and its targets to one number, the mean over the examples.
 *
 * They are formulas of ordinary operators, differentiated like the network itself. Definitions, weights and means are
 * PyTorch's. What is subtracted only for the sake of range (the greatest logit) is detached, for it cancels.
 */
import { type Algebra, algebraOf, binary, knownSizes, mean, reshape, sum, unary } from "./algebra.ts";
import { GraphBuilder } from "./builder.ts";
import type { Graph, GraphNode } from "./graph.ts";

/** What a loss is made of: the network's outputs by name, and targets, which become further inputs of the graph. */
export interface LossSite {
  readonly a: Algebra;
  readonly output: (name: string) => GraphNode;
  /** What a node of the given graph is here. */
  readonly at: (node: GraphNode) => GraphNode;
  readonly target: (name: string, shape: GraphNode["shape"]) => GraphNode;
}

/** The graph with one more output, `loss`. */
export function withLoss(graph: Graph, formula: (site: LossSite) => GraphNode): Graph {
  const builder = new GraphBuilder();
  const copyOf = builder.copyAll(graph);
  const [first] = graph.outputs;
  const where = { layer: "loss", origins: first?.node.origins ?? [] };
  const loss = formula({
    a: algebraOf(builder, where),
    output: (wanted) => {
      const output = graph.outputs.find(({ name }) => name === wanted);
      if (output === undefined) throw new Error(`internal: ${graph.name} has no output ${wanted}`);
      return copyOf(output.node);
    },
    at: copyOf,
    target: (name, shape) => builder.leaf("input", { name }, { shape, dtype: first?.node.dtype ?? "f32" }, where),
  });
  const outputs = graph.outputs.map(({ name, node }) => ({ name, node: copyOf(node) }));
  return builder.finish(graph.name, [...outputs, { name: "loss", node: loss }]).graph;
}

export interface CrossEntropyOptions {
  /** The share ε of the target that is spread evenly over all classes; 0 if absent. */
  readonly smoothing?: number;
  /** [C]: how much an example of each class counts. The mean then divides by the sum of the counts. */
  readonly weights?: GraphNode;
}

/**
 * -Σ target · log softmax(logits), averaged (`torch.nn.functional.cross_entropy`).
 * @param logits [N,C]
 * @param target [N,C], the class of each example as a one-hot row
 * @returns shape []
 */
export function softmaxCrossEntropy(
  a: Algebra,
  logits: GraphNode,
  target: GraphNode,
  { smoothing = 0, weights }: CrossEntropyOptions = {},
): GraphNode {
  const [examples = 1, classes = 1] = knownSizes(logits.shape);
  const greatest = a.op("detach", [a.op("reduce", [logits], { fn: "max", axes: [1], keep: true })], {});
  const shifted = binary(a, "sub", logits, greatest);
  const partition = unary(a, "log", sum(a, unary(a, "exp", shifted), [1], true));
  const surprise = binary(a, "sub", partition, shifted);
  const smooth =
    smoothing === 0 ? target : binary(a, "add", binary(a, "mul", target, 1 - smoothing), smoothing / classes);
  const counted = weights === undefined ? smooth : binary(a, "mul", smooth, weights);
  const total = sum(a, binary(a, "mul", counted, surprise), [0, 1], false);
  if (weights === undefined) return binary(a, "mul", total, 1 / examples);
  return binary(a, "div", total, sum(a, binary(a, "mul", target, weights), [0, 1], false));
}

/**
 * -t·log σ(x) - (1-t)·log(1-σ(x)), the mean over all elements (`binary_cross_entropy_with_logits`), written as
 * (1-t)·x + log(1 + e^-x) with both exponents brought below 0.
 * @param target of the logits' shape, from 0 to 1
 */
export function binaryCrossEntropy(a: Algebra, logits: GraphNode, target: GraphNode): GraphNode {
  const zero = a.number(0, logits);
  const against = unary(a, "neg", logits);
  const shift = a.op("detach", [binary(a, "max", against, zero)], {});
  const one = unary(a, "exp", unary(a, "neg", shift));
  const other = unary(a, "exp", binary(a, "sub", against, shift));
  const softplus = binary(a, "add", shift, unary(a, "log", binary(a, "add", one, other)));
  const wrong = binary(a, "sub", logits, binary(a, "mul", logits, target));
  return meanOfAll(a, binary(a, "add", wrong, softplus));
}

/** (x - target)², the mean over all elements. */
export function meanSquaredError(a: Algebra, x: GraphNode, target: GraphNode): GraphNode {
  const distance = binary(a, "sub", x, target);
  return meanOfAll(a, binary(a, "mul", distance, distance));
}

function meanOfAll(a: Algebra, x: GraphNode): GraphNode {
  const all = x.shape.map((_, axis) => axis);
  return reshape(a, mean(a, x, all, false), []);
}
