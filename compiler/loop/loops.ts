/**
 * L2: loop nests.
 *
 * A kernel is a set of axes, loads given by quasi-affine index maps with guards, a scalar body, at most one reduction,
 * and stores whose values (the epilogue) may load once more. Reduction axes are not declared: an axis absent from the
 * outputs' index maps is reduced. Under the reduction there may be sums of their own (`inner`): what a level of sums
 * has made is `state` to the level above, inner sums to the body, the reduction to the stores. Nothing here says how the loops run: that is a Plan's affair (../schedule).
 *
 * The order of `Kernel.axes` is the order in which a plain nest would run them, outermost first: output axes in the
 * order of the output's layout, then reduction axes with the one that is contiguous in the left operand innermost.
 */
import type { DType } from "../../grammar/ast.ts";
import type { Init } from "../graph/graph.ts";
import type { Scalar } from "../scalar.ts";

// ------------------------------------------------------------------------------------------------------------- indices

/** `Σ coefficient · atom + constant`, in normal form (see affine.ts: sorted, merged, no zero coefficients). */
export interface Affine {
  readonly terms: readonly { readonly coefficient: number; readonly atom: Atom }[];
  readonly constant: number;
}

/** An axis of the kernel (its index in `Kernel.axes`), or a floor division or remainder by a positive constant. */
export type Atom =
  | { readonly kind: "axis"; readonly axis: number }
  | { readonly kind: "div"; readonly of: Affine; readonly by: number }
  | { readonly kind: "mod"; readonly of: Affine; readonly by: number };

/** Holds where `0 <= index < size`. */
export interface Guard {
  readonly index: Affine;
  readonly size: number;
}

// ------------------------------------------------------------------------------------------------------------- buffers

/**
 * How logical indices become an offset.
 * `rows`: dense, dimensions from outermost to innermost in `order` (a permutation of the dimensions).
 * `panels`: shape [...batch, N, K] stored as [...batch][ceil(N/width)][K][width]; the tail of the last panel is
 * unspecified. A width of at least N is a plain K×N matrix.
 */
export type Layout =
  | { readonly kind: "rows"; readonly order: readonly number[] }
  | { readonly kind: "panels"; readonly width: number };

export type BufferRole =
  /** Written by the caller before each run, row-major. */
  | "input"
  /** Read by the caller after each run, row-major. */
  | "output"
  /** Filled once from a file or an initialiser, row-major, in the file's shape. */
  | "param"
  /** Written by load kernels, read by run kernels. */
  | "constant"
  /** Filled once as a `param` is, in its own layout; read by run kernels, and replaced by the last of them: training. */
  | "state"
  /** Lives within one run. */
  | "activation";

export interface Buffer {
  /** Its index in `Loops.buffers`. */
  readonly id: number;
  /** For people: `conv3_1`, `spatial.fc6.weight[0:1024]`. */
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly layout: Layout;
  readonly role: BufferRole;
  /** For `param` and `state`: which part (of axis 0) of which parameter; whole tensors have `rows` undefined. */
  readonly param?: {
    readonly path: string;
    readonly shape: readonly number[];
    readonly init: Init;
    readonly rows?: { readonly start: number; readonly end: number };
  };
}

/** A read of `buffer` at `index` (one entry a logical dimension); where a guard fails the value is `otherwise`. */
export interface Load {
  readonly buffer: number;
  readonly index: readonly Affine[];
  readonly guards: readonly Guard[];
  readonly otherwise: number;
}

// ------------------------------------------------------------------------------------------------------------- scalars

/**
 * Reducers (table in reducers.ts). `softmax` keeps (m, s): running maximum and sum of exp(x - m); `sum2` to `sum4` are
 * sums of several values at once; `attend` keeps (m, s, o): softmax's pair, and the sum of exp(x - m) · v.
 */
export type ReducerName = "sum" | "sum2" | "sum3" | "sum4" | "max" | "min" | "softmax" | "argmax" | "attend";

// ------------------------------------------------------------------------------------------------------------- kernels

export interface Axis {
  /** For people: `n`, `h`, `co`, `kh`. Unique in its kernel. */
  readonly name: string;
  readonly size: number;
}

export interface Store {
  readonly buffer: number;
  /** Distinct points of the output axes write distinct elements. */
  readonly index: readonly Affine[];
  /**
   * Only for padding of the iteration space, and to write what does not depend on an axis at one of its points; where it
   * fails nothing is written.
   */
  readonly guards: readonly Guard[];
  /** May use `state`, and loads that mention output axes only. */
  readonly value: Scalar;
}

/**
 * A sum under the reduction, as attention has: its scores are sums of products, and they are never stored. It runs over
 * axes of its own at each point of the other axes that its loads mention, and the body sees it as a state.
 */
export interface InnerSum {
  /** Axes that nothing else mentions; empty where the sum has one term. */
  readonly axes: readonly number[];
  /** A product of two loads. */
  readonly value: Scalar;
}

export interface Kernel {
  /** For people and file names: the layers it serves, `conv3_1+relu`. */
  readonly name: string;
  readonly axes: readonly Axis[];
  readonly loads: readonly Load[];
  /** Sums that the body is made of, its `state(i)`; undefined for all kernels but those of attention (attention.ts). */
  readonly inner?: readonly InnerSum[];
  /** With a reduction: the values fed to the reducer at each point (one for every operand). Without: unused, empty. */
  readonly body: readonly Scalar[];
  readonly reduce: ReducerName | undefined;
  readonly stores: readonly Store[];
  /** Positions whose work is done here, for naming and profiles. */
  readonly layers: readonly string[];
  /** Multiply-adds of one run (contractions only; 0 otherwise). */
  readonly macs: number;
}

/** One thing the load program does, in order. */
export type LoadStep =
  | { readonly kind: "upload"; readonly buffer: number }
  | { readonly kind: "kernel"; readonly kernel: Kernel };

export interface Loops {
  readonly name: string;
  readonly buffers: readonly Buffer[];
  /** Runs once, when the weights arrive: folding and packing. A parameter's buffer lives from its upload to its last use. */
  readonly load: readonly LoadStep[];
  /** Runs for every prediction. */
  readonly run: readonly Kernel[];
  readonly inputs: readonly { readonly name: string; readonly buffer: number }[];
  readonly outputs: readonly { readonly name: string; readonly buffer: number }[];
}
