/**
 * Layouts: from a buffer's logical index to an element offset.
 *
 * Everything that needs an address, or the order in which elements lie, comes here: schedules, the interpreter, the
 * choice of axis orders. Offsets count elements, not bytes.
 */
import type { DType } from "../../grammar/ast.ts";
import { add, collapse, constant, floorDiv, mod, scale } from "./affine.ts";
import type { Affine, Buffer, Layout } from "./loops.ts";

/** Bytes of one stored element: kernels compute in f32 and store that, or halves. 64-bit types are stored in 32 bits: WGSL has no wider ones. */
export function elementBytes(dtype: DType): number {
  return dtype === "f16" || dtype === "bf16" ? 2 : 4;
}

export function product(sizes: readonly number[]): number {
  return sizes.reduce((total, size) => total * size, 1);
}

/** Dimensions 0..rank-1 in their own order: row-major. */
export function rowMajor(rank: number): Layout {
  return { kind: "rows", order: inOrder(rank) };
}

function inOrder(rank: number): readonly number[] {
  return Array.from({ length: rank }, (_, d) => d);
}

/** [N,C,H,W] stored as N,H,W,C: what convolutions read best. */
export const CHANNELS_LAST: Layout = { kind: "rows", order: [0, 2, 3, 1] };

/** [O,C,KH,KW] stored as KH,KW,C,O: a right factor of a convolution, and how its gradient comes about. */
export const FILTERS_LAST: Layout = { kind: "rows", order: [2, 3, 1, 0] };

/** For each dimension, how far apart its neighbours lie in a dense `rows` layout. */
function strides(shape: readonly number[], order: readonly number[]): readonly number[] {
  const result = shape.map(() => 0);
  let stride = 1;
  for (const d of [...order].reverse()) {
    result[d] = stride;
    stride *= shape[d] ?? 1;
  }
  return result;
}

/** The parts of a `panels` layout of shape [...batch, N, K]; `width` is never above N. */
function panels(
  shape: readonly number[],
  width: number,
): { readonly batch: number; readonly n: number; readonly k: number; readonly width: number; readonly count: number } {
  const n = shape.at(-2) ?? 1;
  const k = shape.at(-1) ?? 1;
  const effective = Math.min(width, n);
  return { batch: product(shape.slice(0, -2)), n, k, width: effective, count: Math.ceil(n / effective) };
}

/** Elements a buffer needs, the unspecified tail of panels included. */
export function elementCount(buffer: Buffer): number {
  if (buffer.layout.kind === "rows") return product(buffer.shape);
  const p = panels(buffer.shape, buffer.layout.width);
  return p.batch * p.count * p.k * p.width;
}

/** Bytes a buffer needs. */
export function byteSize(buffer: Buffer): number {
  return elementCount(buffer) * elementBytes(buffer.dtype);
}

/**
 * The element offset of `index` in `buffer`, linear in the axes wherever that can be shown.
 * @param index one expression a dimension of the buffer
 * @param sizes extents of the axes that `index` is written in
 */
export function offset(buffer: Buffer, index: readonly Affine[], sizes: readonly number[]): Affine {
  const { layout, shape } = buffer;
  if (layout.kind === "rows") {
    const by = strides(shape, layout.order);
    return collapse(add(...index.map((part, d) => scale(part, by[d] ?? 0))), sizes);
  }
  const { n, k, width, count } = panels(shape, layout.width);
  const batchShape = shape.slice(0, -2);
  const by = strides(batchShape, inOrder(batchShape.length));
  const column = index.at(-2) ?? constant(0);
  const parts = [
    ...index.slice(0, -2).map((part, d) => scale(part, (by[d] ?? 0) * count * k * width)),
    scale(n <= width ? constant(0) : floorDiv(column, width, sizes), k * width),
    scale(index.at(-1) ?? constant(0), width),
    n <= width ? column : mod(column, width, sizes),
  ];
  return collapse(add(...parts), sizes);
}
