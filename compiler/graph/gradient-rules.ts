/**
 * The gradient of each operator: one rule each, referred to by the rows of `ops.ts`.
 *
 * A rule gets a node, the derivative of the loss by the node's value, and an `Algebra` to write formulas with. It gives
 * the derivative by each of the node's inputs, of that input's shape, or undefined where none flows. Rules are formulas
 * of ordinary operators, so gradients are optimised, lowered and differentiated like everything else. They may write
 * more than is asked for: what nobody needs is dropped.
 *
 * Where a function has a corner, the choice is PyTorch's, or else named in the scalar table: relu has derivative 0 at 0,
 * |x| has 0 at 0, a max pool passes to the first of equal elements, a reduced maximum divides evenly among them.
 */
import { BINARY, num, type Scalar, UNARY } from "../scalar.ts";
import {
  type Algebra,
  allButChannels,
  binary,
  broadcast,
  countAlong,
  inputOf,
  knownSizes,
  mean,
  perChannel,
  permute,
  reciprocalRoot,
  reshape,
  select,
  sum,
  transpose,
  unary,
} from "./algebra.ts";
import { ofAttend, ofAttendLogSum } from "./attend-gradient.ts";
import type { GraphNode, NodeOf, OpAttrs, OpName, TensorType } from "./graph.ts";

/** Why an operator cannot be differentiated, in words. */
export interface Refusal {
  readonly refused: string;
}

export type GradientRule<K extends OpName> = (
  node: NodeOf<K>,
  upstream: GraphNode,
  a: Algebra,
) => readonly (GraphNode | undefined)[] | Refusal;

const pair = (sizes: readonly number[]): readonly [number, number] => [sizes[0] ?? 1, sizes[1] ?? 1];

/** Height and width of an image, or of the windows of weights. */
const plane = (x: TensorType): readonly [number, number] => pair(knownSizes(x.shape.slice(2)));

/** A leaf, or an operator through whose steps no gradient flows. */
const none: GradientRule<OpName> = () => [];

// ------------------------------------------------------------------------------------------------------ scalar functions

/** `scalar` as nodes; its load i stands for `leaves[i]`. */
function written(scalar: Scalar, leaves: readonly GraphNode[], a: Algebra, like: GraphNode): GraphNode {
  const visit = (s: Scalar): GraphNode => {
    switch (s.kind) {
      case "const":
        return a.number(s.value, like);
      case "load": {
        const leaf = leaves[s.index];
        if (leaf === undefined) throw new Error(`internal: a derivative has no operand ${s.index}`);
        return leaf;
      }
      case "unary":
        if (s.fn === "half") throw new Error("internal: a derivative is rounded");
        return unary(a, s.fn, visit(s.value));
      case "binary":
        return binary(a, s.fn, visit(s.left), visit(s.right));
      case "select":
        return select(a, s.compare, visit(s.left), visit(s.right), visit(s.then), visit(s.otherwise));
      case "state":
      case "axis":
      case "random":
        throw new Error(`internal: a derivative has a ${s.kind}`);
      default:
        return s satisfies never;
    }
  };
  return visit(scalar);
}

/** upstream · derivative, in the simplest form; undefined if it is 0 everywhere. */
function chain(
  derivative: Scalar,
  upstream: GraphNode,
  leaves: readonly GraphNode[],
  a: Algebra,
): GraphNode | undefined {
  if (derivative.kind === "const") {
    if (derivative.value === 0) return undefined;
    if (derivative.value === 1) return upstream;
    if (derivative.value === -1) return unary(a, "neg", upstream);
  }
  const node = (s: Scalar): GraphNode => written(s, leaves, a, upstream);
  if (derivative.kind === "select") {
    const { compare, left, right } = derivative;
    const branch = (s: Scalar): GraphNode => chain(s, upstream, leaves, a) ?? a.number(0, upstream);
    return select(a, compare, node(left), node(right), branch(derivative.then), branch(derivative.otherwise));
  }
  if (derivative.kind === "binary" && derivative.fn === "div" && derivative.left.kind === "const") {
    const scaled = chain(derivative.left, upstream, leaves, a);
    return scaled && binary(a, "div", scaled, node(derivative.right));
  }
  return binary(a, "mul", upstream, node(derivative));
}

const ofUnary: GradientRule<"unary"> = (node, upstream, a) => {
  const derivative = UNARY[node.attrs.fn].derivative({ kind: "load", index: 0 }, { kind: "load", index: 1 });
  return [chain(derivative, upstream, [inputOf(node, 0), node], a)];
};

const ofBinary: GradientRule<"binary"> = (node, upstream, a) => {
  const [left, right] = [inputOf(node, 0), inputOf(node, 1)];
  if (node.attrs.fn === "max" && right.op === "constant") {
    // x > c exactly where max(x, c) > c, so that relu's input need not be kept.
    const masked = select(a, "lt", right, node, upstream, a.number(0, upstream));
    return [unbroadcast(masked, left, a), undefined];
  }
  const operand = (at: number): Scalar => {
    const input = inputOf(node, at);
    return input.op === "constant" ? num(input.attrs.value) : { kind: "load", index: at };
  };
  const derivatives = BINARY[node.attrs.fn].derivative(operand(0), operand(1), { kind: "load", index: 2 });
  return derivatives.map((derivative, at) => {
    const input = inputOf(node, at);
    if (input.op === "constant") return undefined;
    const whole = chain(derivative, upstream, [left, right, node], a);
    return whole && unbroadcast(whole, input, a);
  });
};

const ofSelect: GradientRule<"select"> = (node, upstream, a) => {
  const [left, right] = [inputOf(node, 0), inputOf(node, 1)];
  const zero = a.number(0, upstream);
  const { compare } = node.attrs;
  return [
    undefined,
    undefined,
    unbroadcast(select(a, compare, left, right, upstream, zero), inputOf(node, 2), a),
    unbroadcast(select(a, compare, left, right, zero, upstream), inputOf(node, 3), a),
  ];
};

/** Sums over the axes along which `input` was repeated. */
function unbroadcast(gradient: GraphNode, input: GraphNode, a: Algebra): GraphNode {
  const ahead = gradient.shape.length - input.shape.length;
  const repeated = gradient.shape.flatMap((size, axis) =>
    axis < ahead || (input.shape[axis - ahead] === 1 && size !== 1) ? [axis] : [],
  );
  return reshape(a, sum(a, gradient, repeated, true), input.shape);
}

// -------------------------------------------------------------------------------------------------------------- products

const ofConv2d: GradientRule<"conv2d"> = (node, upstream, a) => {
  const [x, w] = [inputOf(node, 0), inputOf(node, 1)];
  return [
    a.op("conv2d_input_grad", [upstream, w], { ...node.attrs, size: plane(x) }),
    a.op("conv2d_weight_grad", [x, upstream], { ...node.attrs, k: plane(w) }),
    ...(node.inputs.length > 2 ? [sum(a, upstream, [0, 2, 3], false)] : []),
  ];
};

/** What a convolution and its gradients have in common. */
function windowsOf({ stride, pad, dilation, groups }: OpAttrs["conv2d"]): OpAttrs["conv2d"] {
  return { stride, pad, dilation, groups };
}

/** Linear in both: by the image's gradient a convolution, by the weights the product of the two images. */
const ofConv2dInputGrad: GradientRule<"conv2d_input_grad"> = (node, upstream, a) => {
  const [dy, w] = [inputOf(node, 0), inputOf(node, 1)];
  const attrs = windowsOf(node.attrs);
  return [a.op("conv2d", [upstream, w], attrs), a.op("conv2d_weight_grad", [upstream, dy], { ...attrs, k: plane(w) })];
};

const ofConv2dWeightGrad: GradientRule<"conv2d_weight_grad"> = (node, upstream, a) => {
  const [x, dy] = [inputOf(node, 0), inputOf(node, 1)];
  const attrs = windowsOf(node.attrs);
  return [
    a.op("conv2d_input_grad", [dy, upstream], { ...attrs, size: plane(x) }),
    a.op("conv2d", [x, upstream], attrs),
  ];
};

/** dx = dy·w, dw = dyᵀ·x over all rows, db = Σ dy. */
const ofLinear: GradientRule<"linear"> = (node, upstream, a) => {
  const [x, w] = [inputOf(node, 0), inputOf(node, 1)];
  const outer = x.shape.slice(0, -1).map((_, axis) => axis);
  const rows = countAlong(x, outer);
  const flat = (value: GraphNode): GraphNode => reshape(a, value, [rows, value.shape.at(-1) ?? 1]);
  return [
    a.op("linear", [upstream, transpose(a, w)], {}),
    a.op("matmul", [transpose(a, flat(upstream)), flat(x)], {}),
    ...(node.inputs.length > 2 ? [sum(a, upstream, outer, false)] : []),
  ];
};

const ofMatmul: GradientRule<"matmul"> = (node, upstream, a) => {
  const [left, right] = [inputOf(node, 0), inputOf(node, 1)];
  return [
    unbroadcast(a.op("matmul", [upstream, transpose(a, right)], {}), left, a),
    unbroadcast(a.op("matmul", [transpose(a, left), upstream], {}), right, a),
  ];
};

// --------------------------------------------------------------------------------------------- pooling and reductions

const ofMaxPool2d: GradientRule<"max_pool2d"> = (node, upstream, a) => {
  const x = inputOf(node, 0);
  const index = a.op("max_pool2d_index", [x], node.attrs);
  return [a.op("max_pool2d_grad", [index, upstream], { ...node.attrs, size: plane(x) })];
};

const ofAvgPool2d: GradientRule<"avg_pool2d"> = (node, upstream, a) => [
  a.op("avg_pool2d_grad", [upstream], { ...node.attrs, size: plane(inputOf(node, 0)) }),
];

const ofAvgPool2dGrad: GradientRule<"avg_pool2d_grad"> = (node, upstream, a) => {
  const { k, stride, pad, countPad } = node.attrs;
  return [a.op("avg_pool2d", [upstream], { k, stride, pad, countPad })];
};

/** dx = y · (dy - Σ dy·y). */
const ofSoftmax: GradientRule<"softmax"> = (node, upstream, a) => {
  const row = sum(a, binary(a, "mul", upstream, node), [node.attrs.axis], true);
  return [binary(a, "mul", node, binary(a, "sub", upstream, row))];
};

const ofReduce: GradientRule<"reduce"> = (node, upstream, a) => {
  const x = inputOf(node, 0);
  const { fn, axes } = node.attrs;
  const kept = x.shape.map((size, axis) => (axes.includes(axis) ? 1 : size));
  const back = reshape(a, upstream, kept);
  if (fn === "sum") return [broadcast(a, back, x.shape)];
  if (fn === "mean") return [broadcast(a, binary(a, "mul", back, 1 / countAlong(x, axes)), x.shape)];
  const extreme = reshape(a, node, kept);
  const [zero, one] = [a.number(0, x), a.number(1, x)];
  const equals = sum(a, select(a, "eq", x, extreme, one, zero), axes, true);
  return [select(a, "eq", x, extreme, binary(a, "div", back, equals), zero)];
};

// ---------------------------------------------------------------------------------------------------------------- norms

/**
 * With the statistics held fast dx = weight · dy / √(var + eps). With those of the batch (Ioffe and Szegedy 2015, section
 * 3), with g = dy and x̂ the normalised x, dx = weight · (g - mean(g) - x̂·mean(g·x̂)) / √(var + eps): the two sums are
 * the gradients of bias and weight, so that two passes over the activations do. In f32 the mean of x̂ is not quite 0, and
 * where a channel's mean is large beside its spread this would show in the sum of dx; what is left of it is taken away.
 */
const ofBatchNorm: GradientRule<"batch_norm"> = (node, upstream, a) => {
  const x = inputOf(node, 0);
  const channel = (vector: GraphNode): GraphNode => perChannel(a, vector, x);
  const spread = reciprocalRoot(a, inputOf(node, 4), node.attrs.eps);
  const centred = binary(a, "sub", x, channel(inputOf(node, 3)));
  const others = allButChannels(x);
  const product = sum(a, binary(a, "mul", upstream, centred), others, false);
  const weight = binary(a, "mul", product, spread);
  const bias = sum(a, upstream, others, false);
  const factor = channel(binary(a, "mul", inputOf(node, 1), spread));
  if (node.attrs.ofBatch !== true) return [binary(a, "mul", upstream, factor), weight, bias];
  const share = 1 / countAlong(x, others);
  const scale = binary(a, "mul", binary(a, "mul", spread, spread), share);
  const along = binary(a, "mul", product, scale);
  const left = binary(a, "mul", binary(a, "mul", product, sum(a, centred, others, false)), scale);
  const average = binary(a, "mul", binary(a, "sub", bias, left), share);
  const rest = binary(
    a,
    "sub",
    binary(a, "sub", upstream, channel(average)),
    binary(a, "mul", centred, channel(along)),
  );
  return [binary(a, "mul", rest, factor), weight, bias];
};

/** dx = (g - mean(g) - x̂·mean(g·x̂)) / √(var + eps) with g = weight · dy (Ba et al. 2016). */
const ofLayerNorm: GradientRule<"layer_norm"> = (node, upstream, a) => {
  const x = inputOf(node, 0);
  const last = [x.shape.length - 1];
  const rows = x.shape.slice(0, -1).map((_, axis) => axis);
  const average = (value: GraphNode): GraphNode => mean(a, value, last, true);
  const centred = binary(a, "sub", x, average(x));
  const spread = reciprocalRoot(a, average(binary(a, "mul", centred, centred)), node.attrs.eps);
  const normal = binary(a, "mul", centred, spread);
  const g = binary(a, "mul", upstream, inputOf(node, 1));
  const along = binary(a, "mul", normal, average(binary(a, "mul", g, normal)));
  return [
    binary(a, "mul", binary(a, "sub", binary(a, "sub", g, average(g)), along), spread),
    sum(a, binary(a, "mul", upstream, normal), rows, false),
    sum(a, upstream, rows, false),
  ];
};

// ------------------------------------------------------------------------------------------------------------ movements

const ofReshape: GradientRule<"reshape"> = (node, upstream, a) => [reshape(a, upstream, inputOf(node, 0).shape)];

const ofPermute: GradientRule<"permute"> = (node, upstream, a) => {
  const { order } = node.attrs;
  return [
    permute(
      a,
      upstream,
      order.map((_, axis) => order.indexOf(axis)),
    ),
  ];
};

const ofConcat: GradientRule<"concat"> = (node, upstream, a) => {
  const { axis } = node.attrs;
  let start = 0;
  return node.inputs.map((input) => {
    const size = countAlong(input, [axis]);
    const part = a.op("slice", [upstream], { axis, start, size });
    start += size;
    return part;
  });
};

const ofSlice: GradientRule<"slice"> = (node, upstream, a) => {
  const { axis } = node.attrs;
  const [before = 0, size = 0] = knownSizes([node.attrs.start, node.attrs.size]);
  const after = countAlong(inputOf(node, 0), [axis]) - before - size;
  return [before + after === 0 ? upstream : a.op("pad", [upstream], { axis, before, after })];
};

const ofPad: GradientRule<"pad"> = (node, upstream, a) => {
  const { axis, before } = node.attrs;
  return [a.op("slice", [upstream], { axis, start: before, size: countAlong(inputOf(node, 0), [axis]) })];
};

const ofBroadcast: GradientRule<"broadcast"> = (node, upstream, a) => [unbroadcast(upstream, inputOf(node, 0), a)];

// ------------------------------------------------------------------------------------------------------------- the rest

/** Linear in x and its own transpose: the same mask again. Without counters it is the identity. */
const ofDropout: GradientRule<"dropout"> = (node, upstream, a) => [
  node.inputs[1] === undefined ? upstream : a.op("dropout", [upstream, node.inputs[1]], node.attrs),
];

/** e^0 where an entry is kept, e^-∞ where it is masked. */
const ofCausalMask: GradientRule<"causal_mask"> = (node, upstream, a) => {
  const open = broadcast(a, a.number(0, upstream), node.shape);
  return [binary(a, "mul", upstream, unary(a, "exp", a.op("causal_mask", [open], {})))];
};

const ofCast: GradientRule<"cast"> = (node, upstream, a) => {
  const { dtype } = inputOf(node, 0);
  const real = (type: TensorType["dtype"]): boolean => /^b?f/.test(type);
  return real(dtype) && real(node.dtype) ? [a.op("cast", [upstream], { dtype })] : [undefined];
};

const noSecond: GradientRule<OpName> = () => ({ refused: "the gradient of attention has no gradient of its own" });

const onlyLater: GradientRule<OpName> = () => ({ refused: "convolutions take this form when gradients are there" });

/** The rules by operator. `detach` is the identity through which nothing flows. */
export const GRADIENTS: { readonly [K in OpName]: GradientRule<K> } = {
  input: none,
  param: none,
  constant: none,
  conv2d: ofConv2d,
  conv2d_input_grad: ofConv2dInputGrad,
  conv2d_weight_grad: ofConv2dWeightGrad,
  winograd_input: onlyLater,
  winograd_weight: onlyLater,
  winograd_output: onlyLater,
  winograd_output_grad: onlyLater,
  winograd_weight_grad: onlyLater,
  linear: ofLinear,
  matmul: ofMatmul,
  attend: ofAttend,
  attend_log_sum: ofAttendLogSum,
  attend_query_grad: noSecond,
  attend_key_grad: noSecond,
  attend_value_grad: noSecond,
  max_pool2d: ofMaxPool2d,
  max_pool2d_index: none,
  max_pool2d_grad: () => ({ refused: "the gradient of a max pool has no gradient of its own" }),
  avg_pool2d: ofAvgPool2d,
  avg_pool2d_grad: ofAvgPool2dGrad,
  softmax: ofSoftmax,
  batch_norm: ofBatchNorm,
  layer_norm: ofLayerNorm,
  reduce: ofReduce,
  unary: ofUnary,
  binary: ofBinary,
  select: ofSelect,
  reshape: ofReshape,
  permute: ofPermute,
  broadcast: ofBroadcast,
  concat: ofConcat,
  slice: ofSlice,
  pad: ofPad,
  dropout: ofDropout,
  causal_mask: ofCausalMask,
  detach: none,
  recompute: (_, upstream) => [upstream],
  cast: ofCast,
};
