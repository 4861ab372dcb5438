/**
 * The meaning of the parts of a convolution by Winograd's minimal filtering, tile by tile in f64. The matrices are written
 * out here, as Toom and Cook's interpolation gives them, and shared with no one.
 */
import type { NodeOf } from "../../compiler/graph/graph.ts";

interface Tensor {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

type Matrix = readonly (readonly number[])[];

const F2 = {
  input: [
    [-1, 0, 1, 0],
    [0, 1, 1, 0],
    [0, -1, 1, 0],
    [0, -1, 0, 1],
  ],
  weight: [
    [-1, 0, 0],
    [1 / 2, 1 / 2, 1 / 2],
    [1 / 2, -1 / 2, 1 / 2],
    [0, 0, 1],
  ],
  output: [
    [1, 1, 1, 0],
    [0, 1, -1, 1],
  ],
};

const F4 = {
  input: [
    [81 / 64, 0, -45 / 16, 0, 1, 0],
    [0, -27 / 16, -9 / 4, 3 / 4, 1, 0],
    [0, 27 / 16, -9 / 4, -3 / 4, 1, 0],
    [0, -27 / 32, -9 / 16, 3 / 2, 1, 0],
    [0, 27 / 32, -9 / 16, -3 / 2, 1, 0],
    [0, 81 / 64, 0, -45 / 16, 0, 1],
  ],
  weight: [
    [64 / 81, 0, 0],
    [-128 / 243, -32 / 81, -8 / 27],
    [-128 / 243, 32 / 81, -8 / 27],
    [32 / 243, 16 / 81, 8 / 27],
    [32 / 243, -16 / 81, 8 / 27],
    [0, 0, 1],
  ],
  output: [
    [1, 1, 1, 1, 1, 0],
    [0, 3 / 4, -3 / 4, 3 / 2, -3 / 2, 0],
    [0, 9 / 16, 9 / 16, 9 / 4, 9 / 4, 0],
    [0, 27 / 64, -27 / 64, 27 / 8, -27 / 8, 1],
  ],
};

/** M·x·Mᵀ. */
function both(m: Matrix, x: Matrix): number[][] {
  const dot = (a: readonly number[], b: readonly number[]): number =>
    a.reduce((sum, v, i) => sum + v * (b[i] ?? Number.NaN), 0);
  const left = m.map((row) =>
    (x[0] ?? []).map((_, j) =>
      dot(
        row,
        x.map((r) => r[j] ?? Number.NaN),
      ),
    ),
  );
  return left.map((row) => m.map((other) => dot(other, row)));
}

const table = (side: number, value: (i: number, j: number) => number): number[][] =>
  Array.from({ length: side }, (_, i) => Array.from({ length: side }, (__, j) => value(i, j)));

export function winograd(
  node: NodeOf<"winograd_input"> | NodeOf<"winograd_weight"> | NodeOf<"winograd_output">,
  { shape, data }: Tensor,
  bias: Tensor | undefined,
): Float64Array {
  const { tile } = node.attrs;
  const m = tile === 2 ? F2 : F4;
  const span = tile + 2;
  const size = node.shape.map(Number);
  const out = new Float64Array(size.reduce((a, b) => a * b, 1)).fill(Number.NaN);
  const [d0 = 1, d1 = 1, d2 = 1, d3 = 1] = shape;
  if (node.op === "winograd_weight") {
    const { adjoint } = node.attrs;
    for (let o = 0; o < d0; o++)
      for (let c = 0; c < d1; c++) {
        const window = [...data.subarray((o * d1 + c) * 9).subarray(0, 9)];
        if (adjoint) window.reverse();
        const g = Array.from({ length: 3 }, (_, i) => window.slice(3 * i, 3 * i + 3));
        both(m.weight, g).forEach((row, i) => {
          row.forEach((v, j) => {
            out[(i * span + j) * d0 * d1 + (adjoint ? o * d1 + c : c * d0 + o)] = v;
          });
        });
      }
    return out;
  }
  const [height, width] =
    node.op === "winograd_input" ? [d2 + 2 * node.attrs.pad[0] - 2, d3 + 2 * node.attrs.pad[1] - 2] : node.attrs.size;
  const [down, across] = [Math.ceil(height / tile), Math.ceil(width / tile)];
  if (node.op === "winograd_input") {
    const [py, px] = node.attrs.pad;
    for (let p = 0; p < d0 * down * across; p++) {
      const [n, y, x] = [Math.floor(p / (down * across)), Math.floor(p / across) % down, p % across];
      for (let c = 0; c < d1; c++) {
        const d = table(span, (i, j) => {
          const [row, column] = [y * tile + i - py, x * tile + j - px];
          const inside = row >= 0 && row < d2 && column >= 0 && column < d3;
          return inside ? (data[((n * d1 + c) * d2 + row) * d3 + column] ?? Number.NaN) : 0;
        });
        both(m.input, d).forEach((row, i) => {
          row.forEach((v, j) => {
            out[((i * span + j) * d0 * down * across + p) * d1 + c] = v;
          });
        });
      }
    }
    return out;
  }
  const { pool } = node.attrs;
  const [rows = 1, columns = 1] = size.slice(2);
  out.fill(Number.NEGATIVE_INFINITY);
  for (let p = 0; p < d1; p++) {
    const [n, y, x] = [Math.floor(p / (down * across)), Math.floor(p / across) % down, p % across];
    for (let o = 0; o < d2; o++) {
      const products = table(span, (i, j) => data[((i * span + j) * d1 + p) * d2 + o] ?? Number.NaN);
      both(m.output, products).forEach((line, i) => {
        line.forEach((v, j) => {
          const [row, column] = [Math.floor((y * tile + i) / pool), Math.floor((x * tile + j) / pool)];
          if (row >= rows || column >= columns) return;
          const at = ((n * d2 + o) * rows + row) * columns + column;
          out[at] = Math.max(out[at] ?? Number.NaN, v + (bias?.data[o] ?? 0));
        });
      });
    }
  }
  return out;
}

const transposed = (m: Matrix): number[][] => (m[0] ?? []).map((_, j) => m.map((row) => row[j] ?? Number.NaN));

/** The two parts of the gradient by the weights: tiles of an image's gradient, and back from products to windows. */
export function winogradGrad(
  node: NodeOf<"winograd_output_grad"> | NodeOf<"winograd_weight_grad">,
  { shape, data }: Tensor,
): Float64Array {
  const { tile } = node.attrs;
  const m = tile === 2 ? F2 : F4;
  const span = tile + 2;
  const out = new Float64Array(node.shape.map(Number).reduce((a, b) => a * b, 1)).fill(Number.NaN);
  const [d0 = 1, d1 = 1, d2 = 1, d3 = 1] = shape;
  if (node.op === "winograd_weight_grad") {
    for (let c = 0; c < d1; c++)
      for (let o = 0; o < d2; o++) {
        const products = table(span, (i, j) => data[((i * span + j) * d1 + c) * d2 + o] ?? Number.NaN);
        both(transposed(m.weight), products).forEach((row, i) => {
          row.forEach((v, j) => {
            out[((o * d1 + c) * 3 + i) * 3 + j] = v;
          });
        });
      }
    return out;
  }
  const [down, across] = [Math.ceil(d2 / tile), Math.ceil(d3 / tile)];
  for (let p = 0; p < d0 * down * across; p++) {
    const [n, y, x] = [Math.floor(p / (down * across)), Math.floor(p / across) % down, p % across];
    for (let o = 0; o < d1; o++) {
      const dy = table(tile, (i, j) => {
        const [row, column] = [y * tile + i, x * tile + j];
        return row < d2 && column < d3 ? (data[((n * d1 + o) * d2 + row) * d3 + column] ?? Number.NaN) : 0;
      });
      both(transposed(m.output), dy).forEach((row, i) => {
        row.forEach((v, j) => {
          out[((i * span + j) * d0 * down * across + p) * d1 + o] = v;
        });
      });
    }
  }
  return out;
}
