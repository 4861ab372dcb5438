/**
 * L1: the tensor graph.
 *
 * What a network computes, before anything is said of loops or memory: nodes of about thirty operators (`ops.ts` is
 * their one table) on tensors whose sizes may still be symbols. A graph is immutable and hash-consed: two equal pure
 * nodes are one node, which keeps the origins of both. Nodes with state or randomness (`input`, `param`, `dropout`)
 * carry a path and are told apart by it.
 */
import type { DType } from "../../grammar/ast.ts";
import type { Origin } from "../origin.ts";
import type { BinaryFn, CompareFn, TensorFn } from "../scalar.ts";
import type { Size } from "../size.ts";
import type { WinogradTile } from "../winograd.ts";
import type { Region } from "./region.ts";

/** How a parameter starts when no file gives its values. Fans are computed from the parameter's shape. */
export type Init =
  | { readonly kind: "constant"; readonly value: number }
  | { readonly kind: "normal"; readonly mean: number; readonly std: number }
  | { readonly kind: "uniform"; readonly low: number; readonly high: number }
  /** He et al. 2015, eq. 10: N(0, 2/fan). PyTorch's `kaiming_normal_(nonlinearity="relu")`. */
  | { readonly kind: "he_normal"; readonly fan: "in" | "out" }
  /** PyTorch's default of Conv and Linear: U(±1/√fan_in). */
  | { readonly kind: "he_uniform"; readonly fan: "in" | "out" };

type Pair = readonly [number, number];

interface Convolution {
  readonly stride: Pair;
  readonly pad: Pair;
  readonly dilation: Pair;
  readonly groups: number;
}

interface Pooling {
  readonly k: Pair;
  readonly stride: Pair;
  readonly pad: Pair;
}

interface Attention {
  /** A factor on every score. */
  readonly scale: number;
}

/** Attributes of each operator. Axes are counted from 0, never negative here. */
export interface OpAttrs {
  readonly input: { readonly name: string };
  readonly param: { readonly path: string; readonly kind: "param" | "state"; readonly init: Init };
  /** A scalar, shape []. */
  readonly constant: { readonly value: number };
  /** x: [N,C,H,W], w: [O,C/groups,KH,KW], b?: [O] -> [N,O,H',W']. */
  readonly conv2d: Convolution;
  /**
   * The parts of a 3×3 convolution of stride 1 by Winograd's minimal filtering (winograd.ts), in tiles of `tile` ×
   * `tile` results with S = tile + 2; only a rewrite makes them. x: [N,C,H,W] -> [S·S, N·TH·TW, C].
   */
  readonly winograd_input: { readonly tile: WinogradTile; readonly pad: Pair };
  /** w: [O,C,3,3] -> [S·S, C, O]; `adjoint`: of the gradient by x, windows turned half around -> [S·S, O, C]. */
  readonly winograd_weight: { readonly tile: WinogradTile; readonly adjoint: boolean };
  /**
   * m: [S·S, N·TH·TW, O], b?: [O] -> [N,O,H',W'] for a convolution to `size` = [H',W']; with `pool` 2 the greatest of each
   * 2 × 2 results, [N,O,⌊H'/2⌋,⌊W'/2⌋].
   */
  readonly winograd_output: { readonly tile: WinogradTile; readonly size: Pair; readonly pool: 1 | 2 };
  /** dy: [N,O,H',W'] -> [S·S, N·TH·TW, O]: what each product has to do with the result. */
  readonly winograd_output_grad: { readonly tile: WinogradTile };
  /** m: [S·S, C, O], the gradient by the transformed weights -> [O,C,3,3], by the weights. */
  readonly winograd_weight_grad: { readonly tile: WinogradTile };
  /** dy: [N,O,H',W'], w: as in conv2d -> [N,C,H,W] with `size` = [H,W]. */
  readonly conv2d_input_grad: Convolution & { readonly size: Pair };
  /** x: [N,C,H,W], dy: [N,O,H',W'] -> [O,C/groups,KH,KW] with `k` = [KH,KW]. */
  readonly conv2d_weight_grad: Convolution & { readonly k: Pair };
  /** x: [...B,D], w: [O,D], b?: [O] -> [...B,O]. */
  readonly linear: Record<never, never>;
  /** a: [...B,M,K], b: [...B,K,P] -> [...B,M,P]; batch axes broadcast. */
  readonly matmul: Record<never, never>;
  /**
   * q: [...B,P,C], k: [...B,K,C], v: [...B,K,D] -> [...B,P,D]: Σ_j A_ij·v_j with A_i = softmax_j(scale · q_i·k_j), whose
   * table [...B,P,K] is never in memory.
   */
  readonly attend: Attention;
  /** q, k -> [...B,P]: ln Σ_j exp(scale · q_i·k_j). With it A_ij = exp(scale · q_i·k_j - log_i). */
  readonly attend_log_sum: Attention;
  /** q, k, v, dy: [...B,P,D], log: [...B,P], row: [...B,P] = Σ_d dy·y -> the gradient by q. */
  readonly attend_query_grad: Attention;
  /** The same inputs -> the gradient by k. */
  readonly attend_key_grad: Attention;
  /** q, k, dy, log -> [...B,K,D], Σ_i A_ij·dy_i: the gradient by v. */
  readonly attend_value_grad: Attention;
  readonly max_pool2d: Pooling;
  /** Where in its window (row · KW + column) the first maximum lies, as a number of x's element type. */
  readonly max_pool2d_index: Pooling;
  /** index: of max_pool2d_index, dy: [N,C,H',W'] -> [N,C,H,W] with `size` = [H,W]. */
  readonly max_pool2d_grad: Pooling & { readonly size: Pair };
  readonly avg_pool2d: Pooling & { readonly countPad: boolean };
  /** dy: [N,C,H',W'] -> [N,C,H,W] with `size` = [H,W]. */
  readonly avg_pool2d_grad: Pooling & { readonly countPad: boolean; readonly size: Pair };
  readonly softmax: { readonly axis: number };
  /** x: [N,C,...], weight, bias, running_mean, running_var: [C] -> x's shape. */
  /** `ofBatch`: mean and var are those of x itself, and its gradient goes through them; none goes by the inputs. */
  readonly batch_norm: { readonly eps: number; readonly momentum: number; readonly ofBatch?: true };
  /** x: [...B,D], weight, bias: [D] -> x's shape. */
  readonly layer_norm: { readonly eps: number };
  readonly reduce: {
    readonly fn: "sum" | "mean" | "max" | "min";
    readonly axes: readonly number[];
    readonly keep: boolean;
  };
  readonly unary: { readonly fn: TensorFn };
  /** Broadcasts from the right. */
  readonly binary: { readonly fn: BinaryFn };
  /** left, right, then, otherwise, broadcast from the right: `left compare right ? then : otherwise`. */
  readonly select: { readonly compare: CompareFn };
  readonly reshape: { readonly shape: readonly Size[] };
  /** out axis i is in axis order[i]. */
  readonly permute: { readonly order: readonly number[] };
  /** Repeats axes of size 1, and adds axes in front. */
  readonly broadcast: { readonly shape: readonly Size[] };
  readonly concat: { readonly axis: number };
  readonly slice: { readonly axis: number; readonly start: Size; readonly size: Size };
  /** Zeros before and behind on one axis. */
  readonly pad: { readonly axis: number; readonly before: number; readonly after: number };
  /**
   * x, counters?: f32[3] -> x's shape. The identity without counters, as outside training. With them, each element is
   * kept and divided by 1 - p where its random number is at least p, else 0. The counters are whole numbers: the step
   * (below 2^24) and the low and the high 16 bits of the seed. A draw depends on them, on the element's row-major
   * number, and on `path` and `use`, so that a mask is made again wherever it is needed (random.ts). `use` tells
   * several applications of one path apart; 0 if absent.
   */
  readonly dropout: { readonly p: number; readonly path: string; readonly use?: number };
  /** [...B,T,S]: entries with s > t become -inf. */
  readonly causal_mask: Record<never, never>;
  readonly detach: Record<never, never>;
  /**
   * The identity, where a region begins that is computed again for the sake of its gradients. `region` keeps the second
   * computation apart from the first. Only training steps have it.
   */
  readonly recompute: { readonly region: number };
  readonly cast: { readonly dtype: DType };
}

export type OpName = keyof OpAttrs;

/** Shape and element type of a value. */
export interface TensorType {
  readonly shape: readonly Size[];
  readonly dtype: DType;
}

export interface NodeOf<K extends OpName> extends TensorType {
  /** Position in `Graph.nodes`. */
  readonly id: number;
  readonly op: K;
  readonly inputs: readonly GraphNode[];
  readonly attrs: OpAttrs[K];
  /** The position (`spatial.conv3.conv3_1`) in whose region the node was made; names kernels and cost rows. */
  readonly layer: string;
  /** Every place that made this node (several after merging). */
  readonly origins: readonly Origin[];
  /** The checkpointed region in which the node was made. It says how to train, not what is computed. */
  readonly region?: Region | undefined;
}

/** A node of any operator; `switch (node.op)` narrows its attributes. */
export type GraphNode = { readonly [K in OpName]: NodeOf<K> }[OpName];

export interface Graph {
  readonly name: string;
  /** In topological order; `nodes[i].id === i`. Only nodes that an output needs. */
  readonly nodes: readonly GraphNode[];
  readonly inputs: readonly NodeOf<"input">[];
  readonly outputs: readonly { readonly name: string; readonly node: GraphNode }[];
}
