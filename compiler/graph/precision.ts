/**
 * Mixed precision: which values of a training step are stored as halves (Micikevicius et al. 2018, "Mixed Precision
 * Training", section 3).
 *
 * Kernels compute in f32 whatever they read, and sums never leave f32; what is chosen here is how a result lies in
 * memory until it is read. A value is stored as halves if it
 *
 * - has an entry for each example and at least two axes more: feature maps, sequences, attention, and their gradients.
 *   Parameters and their gradients, statistics of channels, logits and losses have not, and stay f32;
 * - is no result of a reduction, and no score from which a softmax is taken;
 * - is no square, power, quotient or exponential, whose range is larger than that of what they are made of.
 */
import { equal } from "../size.ts";
import type { Graph, GraphNode } from "./graph.ts";

/**
 * The nodes whose results may be stored as halves.
 * @param inputs names of the inputs whose first axis counts examples
 */
export function storedAsHalves(graph: Graph, inputs: ReadonlySet<string>): ReadonlySet<GraphNode> {
  const examples = new Set<GraphNode>();
  for (const node of graph.nodes) if (countsExamples(node, examples, inputs)) examples.add(node);
  const scores = scoresOf(graph);
  return new Set(
    graph.nodes.filter((node) => {
      const map = examples.has(node) && node.shape.length >= 3 && node.dtype === "f32";
      return map && keepsRange(node) && !scores.has(node);
    }),
  );
}

/** Whether the first axis of a node counts examples. */
function countsExamples(node: GraphNode, examples: ReadonlySet<GraphNode>, inputs: ReadonlySet<string>): boolean {
  const rank = node.shape.length;
  /** Of operand `at`, or of any; its first axis is the result's. */
  const operandDoes = (at?: number): boolean =>
    node.inputs.some((input, i) => {
      const aligned = input.shape.length === rank && equal(input.shape[0] ?? 1, node.shape[0] ?? 1);
      return (at === undefined || at === i) && examples.has(input) && aligned;
    });
  switch (node.op) {
    case "input":
      return inputs.has(node.attrs.name) && rank > 0;
    case "param":
    case "constant":
    case "conv2d_weight_grad":
    // Never in mixed precision.
    case "winograd_input":
    case "winograd_weight":
    case "winograd_output":
    case "winograd_output_grad":
    case "winograd_weight_grad":
      return false;
    case "matmul":
      return rank === 2 ? operandDoes(0) : operandDoes();
    case "conv2d":
    case "conv2d_input_grad":
    case "linear":
    case "attend":
    case "attend_log_sum":
    case "attend_query_grad":
    case "attend_key_grad":
    case "attend_value_grad":
      return operandDoes(0);
    case "reduce": {
      const [input] = node.inputs;
      return input !== undefined && examples.has(input) && !node.attrs.axes.includes(0);
    }
    case "reshape": {
      const [input] = node.inputs;
      return input !== undefined && examples.has(input) && equal(input.shape[0] ?? 1, node.shape[0] ?? 1);
    }
    case "permute":
      return node.attrs.order[0] === 0 && operandDoes(0);
    case "concat":
    case "slice":
    case "pad":
      return node.attrs.axis !== 0 && operandDoes();
    case "max_pool2d":
    case "max_pool2d_index":
    case "max_pool2d_grad":
    case "avg_pool2d":
    case "avg_pool2d_grad":
    case "softmax":
    case "batch_norm":
    case "layer_norm":
    case "unary":
    case "binary":
    case "select":
    case "broadcast":
    case "dropout":
    case "causal_mask":
    case "detach":
    case "recompute":
    case "cast":
      return operandDoes();
    default:
      return node satisfies never;
  }
}

/** Whether what a node computes is about as large as what it reads. */
function keepsRange(node: GraphNode): boolean {
  if (node.op === "reduce") return false;
  if (node.op === "unary") return node.attrs.fn !== "exp" && node.attrs.fn !== "rsqrt";
  if (node.op !== "binary") return true;
  const { fn } = node.attrs;
  return fn !== "pow" && fn !== "div" && !(fn === "mul" && node.inputs[0] === node.inputs[1]);
}

/** Everything elementwise between a softmax and the operator behind it that makes its scores, that one included. */
function scoresOf(graph: Graph): ReadonlySet<GraphNode> {
  const scores = new Set<GraphNode>();
  for (const node of graph.nodes.toReversed()) {
    if (node.op === "softmax" || (scores.has(node) && passes(node))) for (const input of node.inputs) scores.add(input);
  }
  return scores;
}

function passes({ op }: GraphNode): boolean {
  return (
    op === "unary" ||
    op === "binary" ||
    op === "select" ||
    op === "reshape" ||
    op === "permute" ||
    op === "broadcast" ||
    op === "concat" ||
    op === "slice" ||
    op === "causal_mask" ||
    op === "recompute"
  );
}
