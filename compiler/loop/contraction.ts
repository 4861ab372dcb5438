/**
 * Contractions: recognising a matrix product in a loop nest.
 *
 * A kernel is a contraction if it sums a product of two factors. Its axes then fall into four classes by where they
 * occur, as in TVM's DLight: in both factors and the output, batch; in the left factor and the output, M; in the right
 * factor and the output, N; in both factors only, K. Convolutions, linear layers and attention products are all this
 * one thing, told apart by index maps alone (implicit GEMM). Schedules for any device start from the record made here.
 *
 *   out[batch, m, n] = epilogue(Σ_k left(batch, m, k) · right(batch, k, n))
 */

import type { Scalar } from "../scalar.ts";
import { axisSizes, loadsOf, offsetOf, outputAxes, reductionAxes, scalarAxes } from "./access.ts";
import { strideOf } from "./affine.ts";
import { type Attention, attentionOf } from "./attention.ts";
import { product } from "./layout.ts";
import type { Buffer, Kernel } from "./loops.ts";

/** One factor of the product: a scalar over loads of its own, nearly always a single plain load. */
export interface Factor {
  /** A cheap prologue over `loads`, or `{ kind: "load" }` itself. */
  readonly value: Scalar;
  /** Numbers of its loads in `Kernel.loads`. No load belongs to both factors. */
  readonly loads: readonly number[];
  /** The load, if the factor is that load and nothing else. */
  readonly plain: number | undefined;
  /** The load, if the factor is the half nearest to that load. */
  readonly rounded: number | undefined;
}

/**
 * Axis classes list axis numbers in the kernel's order, outermost first; flattening a class means row-major in that
 * order, the last axis fastest. Axes of size 1 do not exist in kernels, so any class may be empty (flattened size 1).
 */
export interface Contraction {
  /** Has the batch, M and K axes. */
  readonly left: Factor;
  /** Has the batch, K and N axes: weights, in a network's layers. */
  readonly right: Factor;
  readonly batch: readonly number[];
  readonly m: readonly number[];
  /** Its last axis, if any, is the one in which neighbouring outputs lie next to each other in memory. */
  readonly n: readonly number[];
  readonly k: readonly number[];
  /** Flattened extents. */
  readonly sizes: { readonly batch: number; readonly m: number; readonly n: number; readonly k: number };
}

/**
 * The contraction that a kernel is, or undefined. Products whose innermost output axis is a batch axis (depthwise
 * convolution) are not taken as one: a reduction that runs along that axis serves them better.
 */
export function classify(kernel: Kernel, buffers: readonly Buffer[]): Contraction | undefined {
  const [body] = kernel.body;
  if (kernel.reduce !== "sum" || kernel.inner !== undefined || body?.kind !== "binary" || body.fn !== "mul")
    return undefined;
  const first = factor(body.left);
  const second = factor(body.right);
  if (first.loads.length === 0 || second.loads.length === 0) return undefined;
  if (first.loads.some((load) => second.loads.includes(load))) return undefined;

  const firstAxes = new Set(scalarAxes(kernel, first.value));
  const secondAxes = new Set(scalarAxes(kernel, second.value));
  const k = reductionAxes(kernel);
  const outputs = outputAxes(kernel);
  if (k.some((axis) => !firstAxes.has(axis) || !secondAxes.has(axis))) return undefined;
  if (outputs.some((axis) => !firstAxes.has(axis) && !secondAxes.has(axis))) return undefined;

  const batch = outputs.filter((axis) => firstAxes.has(axis) && secondAxes.has(axis));
  const innermost = innermostOutput(kernel, buffers, outputs);
  if (innermost !== undefined && batch.includes(innermost)) return undefined;
  if (outputs.length === batch.length) return undefined;
  const swapped = innermost !== undefined && firstAxes.has(innermost);
  const [left, right] = swapped ? [second, first] : [first, second];
  const rightAxes = swapped ? firstAxes : secondAxes;
  const m = outputs.filter((axis) => !rightAxes.has(axis));
  const n = outputs.filter((axis) => rightAxes.has(axis) && !batch.includes(axis));
  const extent = axisSizes(kernel);
  const flat = (axes: readonly number[]): number => product(axes.map((axis) => extent[axis] ?? 1));
  return { left, right, batch, m, n, k, sizes: { batch: flat(batch), m: flat(m), n: flat(n), k: flat(k) } };
}

function factor(value: Scalar): Factor {
  const inner = value.kind === "unary" && value.fn === "half" ? value.value : undefined;
  return {
    value,
    loads: loadsOf(value),
    plain: value.kind === "load" ? value.index : undefined,
    rounded: inner?.kind === "load" ? inner.index : undefined,
  };
}

/** The output axis along which the first store moves by one element, else the last output axis. */
function innermostOutput(kernel: Kernel, buffers: readonly Buffer[], outputs: readonly number[]): number | undefined {
  const [store] = kernel.stores;
  if (store === undefined) return undefined;
  const address = offsetOf(kernel, buffers, store);
  return outputs.find((axis) => strideOf(address, axis) === 1) ?? outputs.at(-1);
}

/** How a kernel is to be scheduled. */
export type KernelClass =
  | { readonly kind: "attend"; readonly attention: Attention }
  | { readonly kind: "contract"; readonly contraction: Contraction }
  | { readonly kind: "reduce" }
  | { readonly kind: "map" };

export function kernelClass(kernel: Kernel, buffers: readonly Buffer[]): KernelClass {
  if (kernel.reduce === undefined) return { kind: "map" };
  const attention = attentionOf(kernel);
  if (attention !== undefined) return { kind: "attend", attention };
  const contraction = classify(kernel, buffers);
  return contraction === undefined ? { kind: "reduce" } : { kind: "contract", contraction };
}
