/**
 * Winograd's minimal filtering of windows of three: the numbers of it.
 *
 * `m` neighbouring results of a filter of three taps depend on m + 2 inputs, and m + 2 products are enough (Lavin and Gray
 * 2016, "Fast algorithms for convolutional neural networks", section 4): y = Aᵀ·[(G·g) ⊙ (Bᵀ·d)], in two dimensions
 * applied along both. The matrices are those of Cook and Toom at m + 1 points and infinity. The points set the error:
 * for m = 4 the usual 0, ±1, ±2 lose twice the digits of 0, ±3/4, ±3/2, which are exact in binary too (Barabasz et al.
 * 2020, "Error analysis and improving the accuracy of Winograd convolution", on the choice of points).
 */
import { binary, num, type Scalar } from "./scalar.ts";

/** Results of a tile along one side. */
export type WinogradTile = 2 | 4;

type Matrix = readonly (readonly number[])[];

/** The matrices of F(tile, 3); `span` = tile + 2 values of the transformed input along one side. */
export interface WinogradMatrices {
  readonly span: number;
  /** Aᵀ, tile × span. */
  readonly output: Matrix;
  /** G, span × 3. */
  readonly weight: Matrix;
  /** Bᵀ, span × span. */
  readonly input: Matrix;
  /** A and Gᵀ: y is linear in g, and its gradient by g goes the same way back, Gᵀ·[(Bᵀ·d) ⊙ (A·dy)]. */
  readonly outputGrad: Matrix;
  readonly weightGrad: Matrix;
}

const POINTS: { readonly [T in WinogradTile]: readonly number[] } = {
  2: [0, 1, -1],
  4: [0, 0.75, -0.75, 1.5, -1.5],
};

/** Coefficients of Π (x - root), from the constant one up, filled with zeros to `length`. */
function polynomial(roots: readonly number[], length: number): readonly number[] {
  let product: readonly number[] = [1];
  for (const root of roots) product = [0, ...product].map((below, i) => below - root * (product[i] ?? 0));
  return [...product, ...Array.from({ length: length - product.length }, () => 0)];
}

export function winogradMatrices(tile: WinogradTile): WinogradMatrices {
  return MATRICES[tile];
}

function matricesOf(tile: WinogradTile): WinogradMatrices {
  const points = POINTS[tile];
  const span = tile + 2;
  const others = (at: number): readonly number[] => points.filter((_, i) => i !== at);
  const output = Array.from({ length: tile }, (_, i) => [...points.map((p) => p ** i), i === tile - 1 ? 1 : 0]);
  const weight = [
    ...points.map((p, at) => {
      const scale = others(at).reduce((product, other) => product * (p - other), 1);
      return [0, 1, 2].map((power) => p ** power / scale);
    }),
    [0, 0, 1],
  ];
  return {
    span,
    output,
    weight,
    outputGrad: transposed(output),
    weightGrad: transposed(weight),
    input: [...points.map((_, at) => polynomial(others(at), span)), polynomial(points, span)],
  };
}

const MATRICES: { readonly [T in WinogradTile]: WinogradMatrices } = { 2: matricesOf(2), 4: matricesOf(4) };

/** M·x·Mᵀ for a square table x of scalars. */
export function transformBoth(matrix: Matrix, x: readonly (readonly Scalar[])[]): readonly (readonly Scalar[])[] {
  const times = productWith(matrix);
  const along = transposed(x).map(times);
  return transposed(along).map(times);
}

function transposed<T>(table: readonly (readonly T[])[]): readonly (readonly T[])[] {
  return (table[0] ?? []).map((_, j) => table.flatMap((row) => row[j] ?? []));
}

type Product = (x: readonly Scalar[]) => readonly Scalar[];

const products = new WeakMap<Matrix, Product>();

/**
 * M·x as a function of x. Points come in pairs p, -p: two rows of Bᵀ or G, or two columns of Aᵀ, then differ in signs only,
 * and what they have in common is computed once.
 */
function productWith(matrix: Matrix): Product {
  let product = products.get(matrix);
  if (product === undefined) {
    product = byColumns(matrix) ?? byRows(matrix);
    products.set(matrix, product);
  }
  return product;
}

/** With the first two columns that differ in signs only: what stands in them enters as its sum and its difference. */
function byColumns(matrix: Matrix): Product | undefined {
  const columns = transposed(matrix);
  const pair = columns.flatMap((column, j) => {
    const twin = columns.findIndex((other, k) => k > j && differInSigns(column, other));
    return twin < 0 ? [] : [{ j, twin, column, other: columns[twin] ?? column }];
  })[0];
  if (pair === undefined) return undefined;
  const { j, twin, column, other } = pair;
  const odd = column.map((c, i) => (c === other[i] ? 0 : c));
  const even = matrix.map((row, i) => row.map((c, k) => (k === twin || (k === j && odd[i] !== 0) ? 0 : c)));
  const rest = productWith(even);
  return (x) => {
    const [a, b] = [x[j] ?? num(0), x[twin] ?? num(0)];
    const difference = binary("sub", a, b);
    return rest(x.with(j, binary("add", a, b))).map((value, i) => plus(value, odd[i] ?? 0, difference));
  };
}

/** Rows that differ in signs only are the sum and the difference of two parts. */
function byRows(matrix: Matrix): Product {
  return (x) => {
    const done = new Map<number, Scalar>();
    for (const [i, row] of matrix.entries()) {
      const twin = matrix.findIndex((other, k) => k > i && differInSigns(row, other));
      const other = matrix[twin];
      if (done.has(i) || other === undefined) continue;
      const part = (alike: boolean): Scalar =>
        dot(
          row.map((c, k) => ((c === other[k]) === alike ? c : 0)),
          x,
        );
      const [common, signed] = [part(true), part(false)];
      done.set(i, binary("add", common, signed));
      done.set(twin, binary("sub", common, signed));
    }
    return matrix.map((row, i) => done.get(i) ?? dot(row, x));
  };
}

function differInSigns(a: readonly number[], b: readonly number[]): boolean {
  return a.every((c, i) => Math.abs(c) === Math.abs(b[i] ?? 0)) && a.some((c, i) => c !== b[i]);
}

/** What is added comes first: the others are then subtracted, and nothing is negated. */
function dot(coefficients: readonly number[], x: readonly Scalar[]): Scalar {
  const terms = coefficients.map((c, k) => ({ c, value: x[k] ?? num(0) }));
  return [...terms.filter(({ c }) => c > 0), ...terms.filter(({ c }) => c < 0)].reduce<Scalar>(
    (sum, { c, value }) => plus(sum, c, value),
    num(0),
  );
}

/** sum + c·x without idle arithmetic. */
function plus(sum: Scalar, c: number, x: Scalar): Scalar {
  if (c === 0) return sum;
  const term = Math.abs(c) === 1 ? x : binary("mul", x, num(Math.abs(c)));
  if (sum.kind === "const" && sum.value === 0) return c > 0 ? term : binary("mul", x, num(c));
  return binary(c > 0 ? "add" : "sub", sum, term);
}
