/**
 * Rules that make a graph cheaper to run once nothing is learned any more.
 *
 * - What does nothing outside training goes away: dropout, detach, neutral operands, moves that end where they began.
 * - Batch norm is an affine map of each channel, `x·s + t` with `s = weight / √(running_var + eps)` and
 *   `t = bias - running_mean·s`. Behind a convolution or a linear layer it becomes part of the weights and the bias.
 *   `s` and `t` are ordinary nodes on the parameters, so parameters keep their paths, shapes and files; that they can be
 *   computed once, when the weights arrive, is seen and used by the loop level.
 * - Layer norm, which depends on its input's statistics, is spelled out in reductions and arithmetic.
 */
import { equal, product } from "../size.ts";
import type { GraphNode, NodeOf } from "./graph.ts";
import type { Rule, Site } from "./rewrite.ts";

export const withoutTraining: Rule = {
  name: "without-training",
  doc: "dropout and detach are the identity outside training",
  ops: ["dropout", "detach"],
  apply: (node) => node.inputs[0],
};

export const neutralOperand: Rule = {
  name: "neutral-operand",
  doc: "x + 0, 0 + x, x - 0, x * 1, 1 * x, x / 1 and x ^ 1 are x",
  ops: ["binary"],
  apply: (node) => {
    if (node.op !== "binary") return undefined;
    const [left, right] = node.inputs;
    switch (node.attrs.fn) {
      case "add":
        return isNumber(right, 0) ? left : isNumber(left, 0) ? right : undefined;
      case "sub":
        return isNumber(right, 0) ? left : undefined;
      case "mul":
        return isNumber(right, 1) ? left : isNumber(left, 1) ? right : undefined;
      case "div":
      case "pow":
        return isNumber(right, 1) ? left : undefined;
      case "max":
      case "min":
        return undefined;
      default:
        return node.attrs.fn satisfies never;
    }
  },
};

export const moves: Rule = {
  name: "moves",
  doc: "two permutes are one, two reshapes are one, and one that changes nothing is none",
  ops: ["permute", "reshape"],
  apply: (node, site) => {
    if (node.op !== "permute" && node.op !== "reshape") return undefined;
    const inner = inputOf(node, 0);
    if (node.op === "reshape") {
      if (inner.op === "reshape") return site.add("reshape", inner.inputs, node.attrs);
      const { shape } = inner;
      return sameShape(shape, node.shape) ? inner : undefined;
    }
    const { order } = node.attrs;
    if (order.every((axis, i) => axis === i)) return inner;
    if (inner.op !== "permute") return undefined;
    return site.add("permute", inner.inputs, { order: order.map((axis) => inner.attrs.order[axis] ?? axis) });
  },
};

const foldBatchNorm: Rule = {
  name: "fold-batch-norm",
  doc: "batch norm behind a convolution or a linear layer becomes part of its weights, even through moves of axes",
  ops: ["batch_norm"],
  apply: (node, site) => {
    if (node.op !== "batch_norm" || node.attrs.ofBatch === true) return undefined;
    const found = producer(inputOf(node, 0), 1, site);
    if (found === undefined) return undefined;
    const { source, moves } = found;
    const { scale, shift } = affine(node, site);
    const [x, weight, bias] = [inputOf(source, 0), inputOf(source, 1), source.inputs[2]];
    const perOutput = weight.shape.map((size, axis) => (axis === 0 ? size : 1));
    const scaled = site.add("binary", [weight, reshaped(scale, perOutput, site)], { fn: "mul" });
    const shifted = bias === undefined ? shift : multiplyAdd(bias, scale, shift, site);
    const where = { layer: source.layer, origins: [...source.origins, ...node.origins] };
    const folded =
      source.op === "conv2d"
        ? site.add("conv2d", [x, scaled, shifted], source.attrs, where)
        : site.add("linear", [x, scaled, shifted], source.attrs, where);
    return moves.reduce<GraphNode>((value, move) => replay(move, value, site), folded);
  },
};

export const spellOutBatchNorm: Rule = {
  name: "spell-out-batch-norm",
  doc: "any other batch norm is x·s + t, unless its gradient is still to be taken through the batch's statistics",
  ops: ["batch_norm"],
  apply: (node, site) => {
    if (node.op !== "batch_norm" || node.attrs.ofBatch === true) return undefined;
    const { scale, shift } = affine(node, site);
    const perChannel = node.shape.slice(1).map((size, i) => (i === 0 ? size : 1));
    return multiplyAdd(inputOf(node, 0), reshaped(scale, perChannel, site), reshaped(shift, perChannel, site), site);
  },
};

export const spellOutLayerNorm: Rule = {
  name: "spell-out-layer-norm",
  doc: "layer norm is (x - mean) · 1/√(var + eps) · weight + bias, var being the mean of the squared distances",
  ops: ["layer_norm"],
  apply: (node, site) => {
    if (node.op !== "layer_norm") return undefined;
    const [x, weight, bias] = [inputOf(node, 0), inputOf(node, 1), inputOf(node, 2)];
    const mean = (value: GraphNode): GraphNode =>
      site.add("reduce", [value], { fn: "mean", axes: [node.shape.length - 1], keep: true });
    const centred = site.add("binary", [x, mean(x)], { fn: "sub" });
    const variance = mean(site.add("binary", [centred, centred], { fn: "mul" }));
    const normal = site.add("binary", [centred, reciprocalRoot(variance, node.attrs.eps, site)], { fn: "mul" });
    return multiplyAdd(normal, weight, bias, site);
  },
};

/** In the order in which they are tried: folding before spelling out. */
export const inferenceRules: readonly Rule[] = [
  withoutTraining,
  neutralOperand,
  moves,
  foldBatchNorm,
  spellOutBatchNorm,
  spellOutLayerNorm,
];

// -------------------------------------------------------------------------------------------------------------- pieces

type Move = NodeOf<"permute"> | NodeOf<"reshape">;

interface Producer {
  readonly source: NodeOf<"conv2d"> | NodeOf<"linear">;
  /** What happens to its result on the way, first to last. */
  readonly moves: readonly Move[];
}

/**
 * The convolution or linear layer whose output channels arrive on `axis` of `value`, if nobody else reads it on the way:
 * otherwise its unscaled result would have to be computed as well.
 */
function producer(value: GraphNode, axis: number, site: Site): Producer | undefined {
  const moves: Move[] = [];
  let node = value;
  let at = axis;
  while (site.uses(node) === 1) {
    if (node.op === "conv2d") return at === 1 ? { source: node, moves: moves.reverse() } : undefined;
    if (node.op === "linear")
      return at === node.shape.length - 1 ? { source: node, moves: moves.reverse() } : undefined;
    if (node.op !== "permute" && node.op !== "reshape") return undefined;
    const before = axisBefore(node, at);
    if (before === undefined) return undefined;
    moves.push(node);
    at = before;
    node = inputOf(node, 0);
  }
  return undefined;
}

/** The axis of the move's input that is axis `axis` of its result. */
function axisBefore(move: Move, axis: number): number | undefined {
  if (move.op === "permute") return move.attrs.order[axis];
  // A reshape keeps an axis if it has the same size, the same size is in front of it, and hence the same behind it.
  const { shape } = inputOf(move, 0);
  const found = shape.findIndex(
    (size, i) =>
      equal(size, move.shape[axis] ?? -1) && equal(product(shape.slice(0, i)), product(move.shape.slice(0, axis))),
  );
  return found < 0 ? undefined : found;
}

function replay(move: Move, value: GraphNode, site: Site): GraphNode {
  return move.op === "permute"
    ? site.add("permute", [value], move.attrs, move)
    : site.add("reshape", [value], move.attrs, move);
}

/** Batch norm with running statistics as `x·scale + shift`, both of shape [C] and made of parameters only. */
function affine(norm: NodeOf<"batch_norm">, site: Site): { readonly scale: GraphNode; readonly shift: GraphNode } {
  const [weight, bias, mean, variance] = [inputOf(norm, 1), inputOf(norm, 2), inputOf(norm, 3), inputOf(norm, 4)];
  const scale = site.add("binary", [weight, reciprocalRoot(variance, norm.attrs.eps, site)], { fn: "mul" });
  const shift = site.add("binary", [bias, site.add("binary", [mean, scale], { fn: "mul" })], { fn: "sub" });
  return { scale, shift };
}

/** 1/√(x + eps). */
function reciprocalRoot(x: GraphNode, eps: number, site: Site): GraphNode {
  const sum = site.add("binary", [x, site.constant(eps)], { fn: "add" });
  return site.add("unary", [sum], { fn: "rsqrt" });
}

function multiplyAdd(x: GraphNode, scale: GraphNode, shift: GraphNode, site: Site): GraphNode {
  return site.add("binary", [site.add("binary", [x, scale], { fn: "mul" }), shift], { fn: "add" });
}

function reshaped(x: GraphNode, shape: GraphNode["shape"], site: Site): GraphNode {
  return sameShape(x.shape, shape) ? x : site.add("reshape", [x], { shape });
}

function sameShape(a: GraphNode["shape"], b: GraphNode["shape"]): boolean {
  return a.length === b.length && a.every((size, i) => equal(size, b[i] ?? -1));
}

function isNumber(node: GraphNode | undefined, value: number): boolean {
  return node?.op === "constant" && node.attrs.value === value;
}

function inputOf(node: GraphNode, index: number): GraphNode {
  const input = node.inputs[index];
  if (input === undefined) throw new Error(`internal: ${node.op} has no input ${index}`);
  return input;
}
