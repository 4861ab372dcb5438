/**
 * Reverse-mode differentiation of graphs.
 *
 * In: a graph, one of its nodes as the loss, and the nodes whose derivatives are wanted. Out: the graph with those
 * derivatives as further outputs. From the loss backwards, every node that depends on a wanted one sums what its users
 * hand back and, by its operator's rule (gradient-rules.ts), hands the derivatives of its inputs on. The gradient is a
 * graph like any other: nodes belong to the layer of the node that they differentiate, and what is not needed, such as
 * the derivative by an input image, is never made. What a rule reads of a checkpointed region is computed again
 * (checkpoint.ts).
 */
import { type Algebra, algebraOf, binary, broadcast, sameShape } from "./algebra.ts";
import { GraphBuilder } from "./builder.ts";
import { recomputing } from "./checkpoint.ts";
import type { Refusal } from "./gradient-rules.ts";
import type { Graph, GraphNode, OpName } from "./graph.ts";
import { OPS } from "./ops.ts";

export interface Differentiated {
  /** The given outputs, then one for each gradient, called `gradient.<path>` (or name, or number of the node). */
  readonly graph: Graph;
  /** By position in `wrt`; undefined where no gradient flows: PyTorch's `None`. Of the shape of the wanted node. */
  readonly gradients: readonly (GraphNode | undefined)[];
  /** What the nodes of the given graph became; without those that no output needs. */
  readonly nodes: ReadonlyMap<GraphNode, GraphNode>;
}

/** A node on the way from the wanted nodes to the loss that has no derivative. */
export interface NotDifferentiable {
  readonly node: GraphNode;
  /** In words, a whole clause. */
  readonly reason: string;
}

/**
 * The derivatives of `loss` by `wrt`, all nodes of `graph`, whose sizes must be numbers. A loss of several elements
 * stands for their sum. Parameters that are state (running statistics) get no gradient.
 */
export function differentiate(
  graph: Graph,
  loss: GraphNode,
  wrt: readonly GraphNode[],
): Differentiated | NotDifferentiable {
  const builder = new GraphBuilder();
  const copyOf = builder.copyAll(graph);
  const flow = flowing(graph, wrt);
  const { again, algebra } = recomputing(graph, builder, copyOf);
  const at = ({ layer, origins }: GraphNode): Algebra => algebraOf(builder, { layer, origins });
  const collected = new Map<GraphNode, GraphNode>();
  const start = at(loss);
  collected.set(loss, broadcast(start, start.number(1, loss), loss.shape));
  for (const node of graph.nodes.toReversed()) {
    const upstream = collected.get(node);
    if (upstream === undefined || !flow.has(node)) continue;
    const parts = ruleOf(again(node), upstream, algebra(node, at(node)));
    if ("refused" in parts) return { node, reason: parts.refused };
    node.inputs.forEach((input, i) => {
      const part = parts[i];
      if (part === undefined || !flow.has(input)) return;
      if (!sameShape(part.shape, input.shape)) throw new Error(`internal: ${node.op} has a gradient of another shape`);
      const before = collected.get(input);
      collected.set(input, before === undefined ? part : binary(at(input), "add", before, part));
    });
  }
  const made = wrt.map((node) => (flow.has(node) ? collected.get(node) : undefined));
  const { graph: finished, nodes } = builder.finish(graph.name, [
    ...graph.outputs.map(({ name, node }) => ({ name, node: copyOf(node) })),
    ...made.flatMap((node, i) => (node === undefined ? [] : [{ name: `gradient.${nameOf(wrt[i])}`, node }])),
  ]);
  const now = (node: GraphNode): GraphNode | undefined => nodes.get(copyOf(node));
  return {
    graph: finished,
    gradients: made.map((node) => node && nodes.get(node)),
    nodes: new Map(graph.nodes.flatMap((node) => [[node, now(node)] as const]).filter(isKept)),
  };
}

function isKept(pair: readonly [GraphNode, GraphNode | undefined]): pair is readonly [GraphNode, GraphNode] {
  return pair[1] !== undefined;
}

function nameOf(node: GraphNode | undefined): string {
  if (node?.op === "param") return node.attrs.path;
  return node?.op === "input" ? node.attrs.name : String(node?.id);
}

/** The wanted nodes and all that depend on them, through operators that let gradients pass. */
function flowing(graph: Graph, wrt: readonly GraphNode[]): ReadonlySet<GraphNode> {
  const wanted = new Set(wrt.filter((node) => node.op !== "param" || node.attrs.kind === "param"));
  const flow = new Set<GraphNode>();
  for (const node of graph.nodes) {
    const reached = node.op !== "detach" && node.inputs.some((input) => flow.has(input));
    if (reached || wanted.has(node)) flow.add(node);
  }
  return flow;
}

/** The compiler cannot see that the row chosen by `node.op` takes `node`; the table's type is what ensures it. */
function ruleOf<K extends OpName>(
  node: GraphNode & { readonly op: K },
  upstream: GraphNode,
  a: Algebra,
): readonly (GraphNode | undefined)[] | Refusal {
  const rule: (node: never, upstream: GraphNode, a: Algebra) => readonly (GraphNode | undefined)[] | Refusal =
    OPS[node.op].gradient;
  return rule(node as never, upstream, a);
}
