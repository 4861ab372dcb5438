/**
 * How alike two candidates are: the covariance that the Gaussian process puts on the space.
 *
 * A factor has two matrices over its levels. `main` is a contrast: its rows sum to zero, so that it speaks of what the
 * factor adds and leaves the mean alone. `alike` is 1 for one level with itself, 0 for two categories, and falls with the
 * distance between two ordinal levels; "absent" is a category beside the ordinal levels. With S₁ the sum and S₂ the sum of
 * squares of `main` over the d factors that vary, and c how much of the likeness a difference leaves,
 *
 *   k(x, y) = w₁ S₁/d  +  w₂ (S₁² − S₂)/(d(d − 1))  +  w₃ Π (c + (1 − c) alike)
 *
 * that is main effects, all pairs of them (as in BOCS: Baptista and Poloczek 2018), and everything else by Hamming
 * distance. Each term is a sum or product of positive semidefinite kernels, so k is one, and k(x, x) is about 1.
 */
import type { Factor } from "../../../compiler/search/search.ts";

/** Weights of the three terms, which sum to 1, and c. */
export interface Shape {
  readonly main: number;
  readonly pair: number;
  readonly rest: number;
  readonly decay: number;
}

/** A factor with at least two levels in use. */
export interface FactorKernel {
  /** Which factor of the space. */
  readonly factor: number;
  readonly levels: number;
  /** levels × levels, row by row. */
  readonly main: Float64Array;
  readonly alike: Float64Array;
}

/** Part of the range of an ordinal factor over which likeness falls to 1/e. */
const REACH = 0.5;

function likeness(factor: Factor): Float64Array {
  const count = factor.levels.length;
  const alike = new Float64Array(count * count);
  const { values } = factor;
  const present = (level: number): boolean => !(factor.optional && level === 0);
  const known = values?.filter((_, level) => present(level)) ?? [];
  const range = known.reduce((a, b) => Math.max(a, b), -Infinity) - known.reduce((a, b) => Math.min(a, b), Infinity);
  for (let a = 0; a < count; a++)
    for (let b = 0; b < count; b++) {
      const ordered = factor.kind === "ordinal" && values !== undefined && range > 0 && present(a) && present(b);
      const distance = Math.abs((values?.[a] ?? 0) - (values?.[b] ?? 0)) / range;
      alike[a * count + b] = a === b ? 1 : ordered ? Math.exp(-distance / REACH) : 0;
    }
  return alike;
}

/** The matrix with its row and column means taken away, scaled so that its diagonal is 1 on average. */
function contrast(alike: Float64Array, count: number): Float64Array {
  const means = Float64Array.from({ length: count }, (_, row) => {
    let sum = 0;
    for (let column = 0; column < count; column++) sum += alike[row * count + column] ?? 0;
    return sum / count;
  });
  const mean = means.reduce((sum, value) => sum + value, 0) / count;
  const centred = alike.map(
    (value, at) => value - (means[Math.floor(at / count)] ?? 0) - (means[at % count] ?? 0) + mean,
  );
  let trace = 0;
  for (let level = 0; level < count; level++) trace += (centred[level * count + level] ?? 0) / count;
  return centred.map((value) => value / trace);
}

/** The kernels of the factors that vary. */
export function factorKernels(factors: readonly Factor[]): readonly FactorKernel[] {
  return factors.flatMap((factor, index) => {
    const levels = factor.levels.length;
    if (levels < 2) return [];
    const alike = likeness(factor);
    return [{ factor: index, levels, main: contrast(alike, levels), alike }];
  });
}

/** What the factors of one candidate are to another: two sums and, for each c, a product. */
export interface Terms {
  /** S₁/d and (S₁² − S₂)/(d(d − 1)). */
  readonly main: Float64Array;
  readonly pair: Float64Array;
  /** One for each c that was asked for. */
  readonly rest: readonly Float64Array[];
}

/**
 * The three terms between one candidate and many.
 * @param row levels of the one, by factor of the space
 * @param levels levels of the many, `width` for each
 */
export function termsBetween(
  kernels: readonly FactorKernel[],
  row: ArrayLike<number>,
  levels: Uint8Array,
  width: number,
  decays: readonly number[],
  into: Terms,
): void {
  const count = levels.length / width;
  const d = kernels.length;
  const { main, pair, rest } = into;
  const [sums, squares] = [main, pair];
  sums.fill(0);
  squares.fill(0);
  for (const product of rest) product.fill(1);
  for (const kernel of kernels) {
    const own = (row[kernel.factor] ?? 0) * kernel.levels;
    const contrasts = kernel.main.subarray(own, own + kernel.levels);
    const alike = kernel.alike.subarray(own, own + kernel.levels);
    for (let i = 0, at = kernel.factor; i < count; i++, at += width) {
      const value = contrasts[levels[at] ?? 0] ?? 0;
      sums[i] = (sums[i] ?? 0) + value;
      squares[i] = (squares[i] ?? 0) + value * value;
    }
    for (const [index, product] of rest.entries()) {
      const c = decays[index] ?? 0;
      const factors = alike.map((value) => c + (1 - c) * value);
      for (let i = 0, at = kernel.factor; i < count; i++, at += width)
        product[i] = (product[i] ?? 0) * (factors[levels[at] ?? 0] ?? 0);
    }
  }
  const pairs = d < 2 ? 1 : d * (d - 1);
  for (let i = 0; i < count; i++) {
    const sum = sums[i] ?? 0;
    // With one factor there is no pair: S₁² − S₂ is zero.
    pair[i] = (sum * sum - (squares[i] ?? 0)) / pairs;
    main[i] = d === 0 ? 0 : sum / d;
  }
}

export function emptyTerms(count: number, decays: number): Terms {
  return {
    main: new Float64Array(count),
    pair: new Float64Array(count),
    rest: Array.from({ length: decays }, () => new Float64Array(count)),
  };
}
