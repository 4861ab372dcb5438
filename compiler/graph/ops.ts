/**
 * The operators of the tensor graph: one row each.
 *
 * A row says everything that the compiler knows of an operator apart from the names of its attributes (graph.ts): what it
 * computes, how many inputs it takes, which shape comes out, what it costs, what its gradient is and how it becomes loops.
 * A new operator is an entry in `OpAttrs`, a row here and tests.
 */
import type { Lowering } from "../loop/context.ts";
import * as attention from "../loop/lower-attend.ts";
import * as gradients from "../loop/lower-gradients.ts";
import * as maps from "../loop/lower-maps.ts";
import * as products from "../loop/lower-products.ts";
import * as reductions from "../loop/lower-reductions.ts";
import * as winograd from "../loop/lower-winograd.ts";
import { add, mul, product, type Size } from "../size.ts";
import { GRADIENTS, type GradientRule } from "./gradient-rules.ts";
import type { OpAttrs, OpName, TensorType } from "./graph.ts";
import * as rewrites from "./rewrite-shapes.ts";
import type { ShapeProblem } from "./shapes.ts";
import * as shapes from "./shapes.ts";

export interface OpRow<K extends OpName> {
  readonly doc: string;
  /** The least and the greatest number of inputs. */
  readonly arity: readonly [number, number];
  /** The result's type; undefined for leaves, whose type is given. Runs only with a fitting number of inputs. */
  readonly shape: ((inputs: readonly TensorType[], attrs: OpAttrs[K]) => TensorType | ShapeProblem) | undefined;
  /** Multiply-adds; undefined where they do not dominate (everything but convolutions and matrix products). */
  readonly macs?: (inputs: readonly TensorType[], output: TensorType) => Size;
  /** The gradients of its inputs, as formulas. */
  readonly gradient: GradientRule<K>;
  /** Its loop nests (compiler/loop). */
  readonly lower: Lowering<K>;
}

const LEAF: { readonly arity: readonly [0, 0]; readonly shape: undefined } = { arity: [0, 0], shape: undefined };

/**
 * Multiply-adds of attention: so many products over the depth C of q and k, and over the width D of the third input, at
 * every pair of a row and a key.
 */
function attentionMacs(inputs: readonly TensorType[], depth: number, width: number): Size {
  const [q, k, third] = inputs.map(({ shape }) => shape);
  const pairs = mul(product(q?.slice(0, -1) ?? []), k?.at(-2) ?? 1);
  return mul(pairs, add(mul(q?.at(-1) ?? 1, depth), mul(third?.at(-1) ?? 1, width)));
}

export const OPS: { readonly [K in OpName]: OpRow<K> } = {
  input: { doc: "a tensor that the caller supplies", ...LEAF, gradient: GRADIENTS.input, lower: maps.lowerInput },
  param: {
    doc: "a tensor that the model owns: learned, or kept as a running statistic",
    ...LEAF,
    gradient: GRADIENTS.param,
    lower: maps.lowerParam,
  },
  constant: { doc: "one number, shape []", ...LEAF, gradient: GRADIENTS.constant, lower: maps.lowerConstant },
  conv2d: {
    doc: "cross-correlation of x [N,C,H,W] with w [O,C/groups,KH,KW], plus b [O]; zeros around the image",
    arity: [2, 3],
    shape: shapes.conv2d,
    macs: ([, w], out) => mul(product(out.shape), product(w?.shape.slice(1) ?? [])),
    gradient: GRADIENTS.conv2d,
    lower: products.lowerConv2d,
  },
  conv2d_input_grad: {
    doc: "the gradient of conv2d by x, from the result's gradient and w",
    arity: [2, 2],
    shape: shapes.conv2dInputGrad,
    macs: ([dy, w]) => mul(product(dy?.shape ?? []), product(w?.shape.slice(1) ?? [])),
    gradient: GRADIENTS.conv2d_input_grad,
    lower: gradients.lowerConv2dInputGrad,
  },
  conv2d_weight_grad: {
    doc: "the gradient of conv2d by w, from x and the result's gradient",
    arity: [2, 2],
    shape: shapes.conv2dWeightGrad,
    macs: ([, dy], out) => mul(product(dy?.shape ?? []), product(out.shape.slice(1))),
    gradient: GRADIENTS.conv2d_weight_grad,
    lower: gradients.lowerConv2dWeightGrad,
  },
  winograd_input: {
    doc: "Bᵀ·d·B of every tile d of an image, of which neighbours share two rows or columns",
    arity: [1, 1],
    shape: rewrites.winogradInput,
    gradient: GRADIENTS.winograd_input,
    lower: winograd.lowerWinogradInput,
  },
  winograd_weight: {
    doc: "G·g·Gᵀ of every 3×3 window g",
    arity: [1, 1],
    shape: rewrites.winogradWeight,
    gradient: GRADIENTS.winograd_weight,
    lower: winograd.lowerWinogradWeight,
  },
  winograd_output: {
    doc: "Aᵀ·m·A of every tile m of products, plus b [O], put together to an image; pooled where asked for",
    arity: [1, 2],
    shape: rewrites.winogradOutput,
    gradient: GRADIENTS.winograd_output,
    lower: winograd.lowerWinogradOutput,
  },
  winograd_output_grad: {
    doc: "A·dy·Aᵀ of every tile dy of the gradient by an image",
    arity: [1, 1],
    shape: rewrites.winogradOutputGrad,
    gradient: GRADIENTS.winograd_output_grad,
    lower: winograd.lowerWinogradOutputGrad,
  },
  winograd_weight_grad: {
    doc: "Gᵀ·m·G of every m: the gradient by a 3×3 window, from that by the window transformed",
    arity: [1, 1],
    shape: rewrites.winogradWeightGrad,
    gradient: GRADIENTS.winograd_weight_grad,
    lower: winograd.lowerWinogradWeightGrad,
  },
  linear: {
    doc: "x·wᵀ + b on the last axis: x [...B,D], w [O,D], b [O]",
    arity: [2, 3],
    shape: shapes.linear,
    macs: ([, w], out) => mul(product(out.shape), w?.shape[1] ?? 1),
    gradient: GRADIENTS.linear,
    lower: products.lowerLinear,
  },
  matmul: {
    doc: "matrix product of the last two axes; the axes before them broadcast",
    arity: [2, 2],
    shape: shapes.matmul,
    macs: ([a], out) => mul(product(out.shape), a?.shape.at(-1) ?? 1),
    gradient: GRADIENTS.matmul,
    lower: products.lowerMatmul,
  },
  attend: {
    doc: "softmax(scale · q·kᵀ)·v for q [...B,P,C], k [...B,K,C], v [...B,K,D], the table [P,K] never in memory",
    arity: [3, 3],
    shape: rewrites.attend,
    macs: (inputs) => attentionMacs(inputs, 1, 1),
    gradient: GRADIENTS.attend,
    lower: attention.lowerAttend,
  },
  attend_log_sum: {
    doc: "ln Σ exp(scale · q·kᵀ) of every row of attention",
    arity: [2, 2],
    shape: rewrites.attendLogSum,
    macs: (inputs) => attentionMacs(inputs, 1, 0),
    gradient: GRADIENTS.attend_log_sum,
    lower: attention.lowerAttendLogSum,
  },
  attend_query_grad: {
    doc: "the gradient of attend by q, from q, k, v, the result's gradient, attend_log_sum and Σ dy·y of every row",
    arity: [6, 6],
    shape: rewrites.attendGrad("query"),
    macs: (inputs) => attentionMacs(inputs, 2, 1),
    gradient: GRADIENTS.attend_query_grad,
    lower: attention.lowerAttendQueryGrad,
  },
  attend_key_grad: {
    doc: "the gradient of attend by k, from the same",
    arity: [6, 6],
    shape: rewrites.attendGrad("key"),
    macs: (inputs) => attentionMacs(inputs, 2, 1),
    gradient: GRADIENTS.attend_key_grad,
    lower: attention.lowerAttendKeyGrad,
  },
  attend_value_grad: {
    doc: "the gradient of attend by v, from q, k, the result's gradient and attend_log_sum",
    arity: [4, 4],
    shape: rewrites.attendValueGrad,
    macs: (inputs) => attentionMacs(inputs, 1, 1),
    gradient: GRADIENTS.attend_value_grad,
    lower: attention.lowerAttendValueGrad,
  },
  max_pool2d: {
    doc: "the largest value of each window; padding is never the largest",
    arity: [1, 1],
    shape: shapes.pool2d("max_pool2d"),
    gradient: GRADIENTS.max_pool2d,
    lower: reductions.lowerMaxPool2d,
  },
  max_pool2d_index: {
    doc: "where in each window its first greatest value lies: row · width of the window + column",
    arity: [1, 1],
    shape: shapes.pool2d("max_pool2d_index"),
    gradient: GRADIENTS.max_pool2d_index,
    lower: reductions.lowerMaxPool2dIndex,
  },
  max_pool2d_grad: {
    doc: "the gradient of max_pool2d: each element gathers from the windows whose first maximum it is",
    arity: [2, 2],
    shape: shapes.maxPool2dGrad,
    gradient: GRADIENTS.max_pool2d_grad,
    lower: gradients.lowerMaxPool2dGrad,
  },
  avg_pool2d: {
    doc: "the mean of each window; countPad divides by the whole window at the edges too",
    arity: [1, 1],
    shape: shapes.pool2d("avg_pool2d"),
    gradient: GRADIENTS.avg_pool2d,
    lower: reductions.lowerAvgPool2d,
  },
  avg_pool2d_grad: {
    doc: "the gradient of avg_pool2d: each element gathers its share from the windows that cover it",
    arity: [1, 1],
    shape: shapes.avgPool2dGrad,
    gradient: GRADIENTS.avg_pool2d_grad,
    lower: gradients.lowerAvgPool2dGrad,
  },
  softmax: {
    doc: "exp(x) divided by its sum along one axis",
    arity: [1, 1],
    shape: shapes.softmax,
    gradient: GRADIENTS.softmax,
    lower: reductions.lowerSoftmax,
  },
  batch_norm: {
    doc: "(x - mean) / √(var + eps) · weight + bias for each channel (axis 1); running statistics outside training",
    arity: [5, 5],
    shape: shapes.batchNorm,
    gradient: GRADIENTS.batch_norm,
    lower: maps.lowerBatchNorm,
  },
  layer_norm: {
    doc: "(x - mean) / √(var + eps) · weight + bias with the statistics of the last axis",
    arity: [3, 3],
    shape: shapes.layerNorm,
    gradient: GRADIENTS.layer_norm,
    lower: reductions.lowerLayerNorm,
  },
  reduce: {
    doc: "sum, mean, max or min over axes, which are dropped or kept as 1",
    arity: [1, 1],
    shape: shapes.reduce,
    gradient: GRADIENTS.reduce,
    lower: reductions.lowerReduce,
  },
  unary: {
    doc: "a scalar function of every element",
    arity: [1, 1],
    shape: shapes.same,
    gradient: GRADIENTS.unary,
    lower: maps.lowerUnary,
  },
  binary: {
    doc: "a scalar function of two tensors, broadcast from the right",
    arity: [2, 2],
    shape: shapes.binary,
    gradient: GRADIENTS.binary,
    lower: maps.lowerBinary,
  },
  select: {
    doc: "the third or the fourth tensor, by a comparison of the first two; all broadcast from the right",
    arity: [4, 4],
    shape: shapes.select,
    gradient: GRADIENTS.select,
    lower: maps.lowerSelect,
  },
  reshape: {
    doc: "the same elements in the same order in another shape",
    arity: [1, 1],
    shape: shapes.reshape,
    gradient: GRADIENTS.reshape,
    lower: maps.lowerReshape,
  },
  permute: {
    doc: "axes in another order: out axis i is in axis order[i]",
    arity: [1, 1],
    shape: shapes.permute,
    gradient: GRADIENTS.permute,
    lower: maps.lowerPermute,
  },
  broadcast: {
    doc: "axes of size 1 repeated, and axes added in front",
    arity: [1, 1],
    shape: shapes.broadcastTo,
    gradient: GRADIENTS.broadcast,
    lower: maps.lowerBroadcast,
  },
  concat: {
    doc: "tensors one behind the other on one axis",
    arity: [1, Number.POSITIVE_INFINITY],
    shape: shapes.concat,
    gradient: GRADIENTS.concat,
    lower: maps.lowerConcat,
  },
  slice: {
    doc: "`size` elements of one axis, from `start` on",
    arity: [1, 1],
    shape: shapes.slice,
    gradient: GRADIENTS.slice,
    lower: maps.lowerSlice,
  },
  pad: {
    doc: "zeros before and behind on one axis",
    arity: [1, 1],
    shape: shapes.pad,
    gradient: GRADIENTS.pad,
    lower: maps.lowerPad,
  },
  dropout: {
    doc: "with counters: zero with probability p, else divided by 1 - p; without, as outside training, the identity",
    arity: [1, 2],
    shape: shapes.dropout,
    gradient: GRADIENTS.dropout,
    lower: maps.lowerDropout,
  },
  causal_mask: {
    doc: "[...B,T,S]: entries with s > t become -∞",
    arity: [1, 1],
    shape: shapes.causalMask,
    gradient: GRADIENTS.causal_mask,
    lower: maps.lowerCausalMask,
  },
  detach: {
    doc: "the identity, through which no gradient flows",
    arity: [1, 1],
    shape: shapes.same,
    gradient: GRADIENTS.detach,
    lower: maps.lowerDetach,
  },
  recompute: {
    doc: "the identity, where a checkpointed region begins that is computed again for its gradients",
    arity: [1, 1],
    shape: shapes.same,
    gradient: GRADIENTS.recompute,
    lower: maps.lowerRecompute,
  },
  cast: {
    doc: "the same numbers in another element type",
    arity: [1, 1],
    shape: shapes.castTo,
    gradient: GRADIENTS.cast,
    lower: maps.lowerCast,
  },
};

/** Operators whose type is given, not computed. */
export type LeafName = "input" | "param" | "constant";

/** The type of `op` on inputs of these types. The number of inputs must fit the row's arity. */
export function shapeOf<K extends Exclude<OpName, LeafName>>(
  op: K,
  inputs: readonly TensorType[],
  attrs: OpAttrs[K],
): TensorType | ShapeProblem {
  const { arity, shape }: OpRow<K> = OPS[op];
  if (shape === undefined || inputs.length < arity[0] || inputs.length > arity[1]) {
    throw new Error(`internal: ${op} does not take ${inputs.length} inputs`);
  }
  return shape(inputs, attrs);
}
