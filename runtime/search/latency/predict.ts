/**
 * Times of models that nobody has timed, from those of some: what each graft adds, and what FLOPs and activations cost.
 *
 * The prediction is the mean of a Gaussian process whose covariance is a constant, products of the costs (so a plane over
 * them, hardly held back), what each level of each factor adds by itself, pairs of levels, and noise. Weights and noise
 * are those of the greatest marginal likelihood on a small grid, so that additive grafts are found to be additive. In:
 * levels and costs of all models, times of some. Out: milliseconds for all.
 */
import type { Factor } from "../../../compiler/search/search.ts";
import { cholesky, solveLower, solveUpper } from "../methods/cholesky.ts";
import { emptyTerms, factorKernels, termsBetween } from "../methods/kernel.ts";

export interface Points {
  readonly factors: readonly Factor[];
  /** `factors.length` for each point. */
  readonly levels: Uint8Array;
  readonly costs: readonly Float64Array[];
  readonly count: number;
}

/** Variances in squared shares of the mean time. */
const CONSTANT = 25;
const SLOPE = 25;
const EFFECTS = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1] as const;
/** Of the variance of a level's own effect. */
const PAIR_SHARES = [0.02, 0.2] as const;
const NOISES = [1e-6, 1e-5, 1e-4, 1e-3] as const;

interface Part {
  readonly plane: Float64Array;
  readonly main: Float64Array;
  readonly pair: Float64Array;
}

/** The parts of the covariance between one point and those of `levels` and `costs`. */
function partsTo(points: Points, scales: readonly number[], place: number): Part {
  const { factors, levels, costs, count } = points;
  const width = factors.length;
  const terms = emptyTerms(count, 0);
  const kernels = factorKernels(factors);
  termsBetween(kernels, levels.subarray(place * width, (place + 1) * width), levels, width, [], terms);
  const d = kernels.length;
  const plane = new Float64Array(count).fill(CONSTANT);
  for (const [k, cost] of costs.entries()) {
    const scale = scales[k] ?? 1;
    const own = (cost[place] ?? 0) / scale;
    for (let i = 0; i < count; i++) plane[i] = (plane[i] ?? 0) + (SLOPE * own * (cost[i] ?? 0)) / scale;
  }
  // As sums, not as means: what a level adds does not depend on how many factors there are.
  return {
    plane,
    main: terms.main.map((value) => value * d),
    pair: terms.pair.map((value) => (value * d * (d - 1)) / 2),
  };
}

/** Predicts all points from some. @param samples at least one */
export function predictTimes(
  points: Points,
  samples: readonly { readonly place: number; readonly milliseconds: number }[],
): Float64Array {
  const n = samples.length;
  const centre = samples.reduce((sum, { milliseconds }) => sum + milliseconds, 0) / n;
  const values = Float64Array.from(samples, ({ milliseconds }) => milliseconds / centre);
  const scales = points.costs.map((cost) => cost.reduce((most, value) => Math.max(most, value), 0) || 1);
  const parts = samples.map(({ place }) => partsTo(points, scales, place));
  const at = (row: number, place: number, effect: number, pairs: number): number => {
    const part = parts[row];
    return (part?.plane[place] ?? 0) + effect * ((part?.main[place] ?? 0) + pairs * (part?.pair[place] ?? 0));
  };
  let best: { readonly weights: Float64Array; readonly effect: number; readonly pairs: number } | undefined;
  let highest = Number.NEGATIVE_INFINITY;
  for (const effect of EFFECTS)
    for (const pairs of PAIR_SHARES)
      for (const noise of NOISES) {
        const matrix = new Float64Array(n * n);
        for (const [j, { place }] of samples.entries())
          for (let i = j; i < n; i++) matrix[i * n + j] = at(i, place, effect, pairs) + (i === j ? noise : 0);
        const lower = cholesky(matrix, n);
        if (lower === undefined) continue;
        const weights = values.slice();
        solveLower(lower, n, n, weights, 1);
        let likelihood = 0;
        for (let i = 0; i < n; i++) likelihood -= 0.5 * (weights[i] ?? 0) ** 2 + Math.log(lower[i * n + i] ?? 1);
        if (likelihood <= highest) continue;
        solveUpper(lower, n, n, weights);
        [best, highest] = [{ weights, effect, pairs }, likelihood];
      }
  const found = new Float64Array(points.count).fill(centre);
  if (best === undefined) return found;
  for (let place = 0; place < points.count; place++) {
    let sum = 0;
    for (let row = 0; row < n; row++) sum += (best.weights[row] ?? 0) * at(row, place, best.effect, best.pairs);
    // A line may lead below zero, a time cannot.
    found[place] = centre * Math.max(1e-3, sum);
  }
  return found;
}
