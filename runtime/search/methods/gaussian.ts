/**
 * A Gaussian process over the candidates of a space: what trials have shown, turned into a mean and a standard deviation
 * for every candidate, trained or not (Rasmussen and Williams 2006, chapters 2 and 5).
 *
 * The model. A trial of candidate x that ends at rung r shows  y = μ_r + s_r (f_r(x) + e_r), where f has the kernel of
 * kernel.ts times a common variance, e is the noise of the seed, and values of one trial at two rungs are correlated by
 * ρ for each rung between them, signal and noise alike; so what a partial training shows counts, at a discount. μ_r has a
 * flat prior. Replicates of a candidate at a rung are one row, their mean, whose noise is the less for their number; what
 * they differ by goes into the likelihood of the noise. Trials under way are rows without a value: they change no mean
 * and lower the deviation, which is the same as believing that they will show the mean ("kriging believer": Ginsbourger
 * et al. 2010).
 *
 * Where there are scores from elsewhere (a super-network's), the mean of f is β times the candidate's score (Rasmussen and
 * Williams, section 2.7). β is normal around 0 with the variance of f, so scores that tell nothing change little.
 *
 * Weights of the kernel, noise and ρ are those of the greatest marginal likelihood on a small fixed grid, with weak priors;
 * the variance is profiled out. There is no optimiser, no start point and no chance in it.
 */

import type { Candidates, Knowledge, Observation } from "../propose.ts";
import { cholesky, solveLower, solveUpper } from "./cholesky.ts";
import { emptyTerms, type FactorKernel, factorKernels, type Shape, type Terms, termsBetween } from "./kernel.ts";

/** All values of one candidate at one rung; none for a trial under way. */
interface Row {
  readonly candidate: number;
  readonly rung: number;
  readonly replicates: readonly number[];
  readonly mean: number;
  /** Sum of squared differences from the mean. */
  readonly scatter: number;
}

export interface Fit {
  readonly kernels: readonly FactorKernel[];
  readonly shape: Shape;
  /** Variance of f, in squared units of the values. */
  readonly variance: number;
  /** Variance of the noise of one seed, in the same units. */
  readonly noise: number;
  /** Correlation between a rung and the next. */
  readonly fidelity: number;
  /** Levels of the rows' candidates, `width` each: first those with values, then those under way. */
  readonly rowLevels: Uint8Array;
  readonly width: number;
  readonly rows: number;
  readonly observed: number;
  /** Correlation of each row's rung with the rung that is predicted. */
  readonly discounts: Float64Array;
  /** Which mean each row has, as `means` numbers of it. */
  readonly groups: readonly number[];
  readonly lower: Float64Array;
  /** V⁻¹(y − Hβ), in units of the kernel of variance 1. */
  readonly weights: Float64Array;
  readonly mean: number;
  /** What one unit of a candidate's score adds to its mean; undefined without scores. */
  readonly slope: number | undefined;
  readonly target: number;
  /** L⁻¹H by group, and for the scores, over all rows; and the factor of HᵀV⁻¹H. */
  readonly basis: readonly Float64Array[];
  readonly basisFactor: Float64Array;
}

/** Rows that the marginal likelihood is computed from, and rows that the model keeps: beyond, it would take seconds. */
const LIKELIHOOD_ROWS = 150;
const MOST_ROWS = 400;

const DECAYS = [0.35, 0.55, 0.75, 0.9] as const;
/** main, pair, rest. */
const WEIGHTS = [
  [0.8, 0.1, 0.1],
  [0.5, 0.4, 0.1],
  [0.5, 0.1, 0.4],
  [0.3, 0.6, 0.1],
  [0.35, 0.3, 0.35],
  [0.1, 0.6, 0.3],
  [0.2, 0.2, 0.6],
  [0.1, 0.1, 0.8],
] as const;
const NOISES = [0.02, 0.06, 0.15, 0.3, 0.6, 1.2, 2.5, 6] as const;
const FIDELITIES = [0.3, 0.5, 0.65, 0.8, 0.9, 0.97] as const;

/** Priors: noise over signal is about 0.4, give or take a factor of three; the values' variance about 1 once scaled. */
const NOISE_CENTRE = Math.log(0.4);
const NOISE_SPREAD = 1.2;
const VARIANCE_WEIGHT = 4;
/** Of β, over that of f. */
const SLOPE_PRECISION = 1;

function rowsOf(observations: readonly Observation[]): readonly Row[] {
  const sorted = [...observations].sort(
    (a, b) => a.candidate - b.candidate || a.rung - b.rung || a.replicate - b.replicate || a.value - b.value,
  );
  const groups: Observation[][] = [];
  for (const observation of sorted) {
    const last = groups.at(-1);
    if (last?.[0]?.candidate === observation.candidate && last[0].rung === observation.rung) last.push(observation);
    else groups.push([observation]);
  }
  return groups.flatMap((group) => {
    const [first] = group;
    if (first === undefined) return [];
    const mean = group.reduce((sum, { value }) => sum + value, 0) / group.length;
    return [
      {
        candidate: first.candidate,
        rung: first.rung,
        replicates: group.map(({ replicate }) => replicate),
        mean,
        scatter: group.reduce((sum, { value }) => sum + (value - mean) ** 2, 0),
      },
    ];
  });
}

const meanOf = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

function deviationOf(values: readonly number[]): number {
  const mean = meanOf(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(1, values.length - 1));
}

/**
 * For each rung, what a difference of its values is worth at the top: the ratio of deviations over the candidates that
 * have both, since those that were carried on are a choice and spread less than all.
 */
function scales(rows: readonly Row[], top: number): ReadonlyMap<number, number> {
  const at = (rung: number): ReadonlyMap<number, number> =>
    new Map(rows.filter((row) => row.rung === rung).map((row) => [row.candidate, row.mean]));
  const highest = at(top);
  const found = new Map<number, number>();
  for (const rung of new Set(rows.map((row) => row.rung))) {
    const own = at(rung);
    const both = [...own.keys()].filter((candidate) => highest.has(candidate));
    const [all, shared] = [[...own.values()], both.length >= 4];
    const low = deviationOf(shared ? both.map((candidate) => own.get(candidate) ?? 0) : all);
    const high = deviationOf(shared ? both.map((candidate) => highest.get(candidate) ?? 0) : [...highest.values()]);
    found.set(rung, rung === top || !(low > 0) || !(high > 0) ? 1 : high / low);
  }
  return found;
}

/** The best and the latest of more rows than the model keeps. */
function kept(rows: readonly Row[]): readonly Row[] {
  if (rows.length <= MOST_ROWS) return rows;
  const order = rows
    .map((row, index) => ({ row, index }))
    .sort((a, b) => b.row.rung - a.row.rung || b.row.mean - a.row.mean || a.index - b.index);
  const best = order.slice(0, MOST_ROWS / 2);
  // Of the others every so many, so that the model also knows where it is bad.
  const others = order.slice(MOST_ROWS / 2);
  const step = others.length / (MOST_ROWS / 2);
  const spread = Array.from({ length: MOST_ROWS / 2 }, (_, index) => others[Math.floor(index * step)]);
  return [...best, ...spread]
    .flatMap((each) => each ?? [])
    .sort((a, b) => a.index - b.index)
    .map(({ row }) => row);
}

interface Data {
  readonly rows: readonly Row[];
  /** Values, by row. */
  readonly values: Float64Array;
  readonly groups: readonly number[];
  readonly groupCount: number;
  /** Of the observed rows' candidates; undefined without scores. */
  readonly scores: Float64Array | undefined;
  /** Sum of the rows' scatter, and number of values in all. */
  readonly scatter: number;
  readonly total: number;
  /** Row by row, over all pairs of rows. */
  readonly terms: Terms;
}

function levelsOf({ levels, factors }: Candidates, rows: readonly { readonly candidate: number }[]): Uint8Array {
  const width = factors.length;
  const found = new Uint8Array(rows.length * width);
  for (const [index, { candidate }] of rows.entries())
    found.set(levels.subarray(candidate * width, (candidate + 1) * width), index * width);
  return found;
}

function dataOf(
  candidates: Candidates,
  kernels: readonly FactorKernel[],
  rows: readonly Row[],
  prior: Float64Array | undefined,
): Data {
  const width = candidates.factors.length;
  const levels = levelsOf(candidates, rows);
  const n = rows.length;
  const all = emptyTerms(n * n, DECAYS.length);
  for (let i = 0; i < n; i++) {
    const part = (whole: Float64Array): Float64Array => whole.subarray(i * n, (i + 1) * n);
    termsBetween(kernels, levels.subarray(i * width, (i + 1) * width), levels, width, DECAYS, {
      main: part(all.main),
      pair: part(all.pair),
      rest: all.rest.map(part),
    });
  }
  const observed = rows.filter((row) => row.replicates.length > 0);
  const rungs = [...new Set(observed.map((row) => row.rung))].sort((a, b) => a - b);
  return {
    rows,
    values: Float64Array.from(observed, (row) => row.mean),
    groups: rows.map((row) => Math.max(0, rungs.indexOf(row.rung))),
    groupCount: rungs.length,
    scores: prior === undefined ? undefined : Float64Array.from(observed, (row) => prior[row.candidate] ?? 0),
    scatter: observed.reduce((sum, row) => sum + row.scatter, 0),
    total: observed.reduce((sum, row) => sum + row.replicates.length, 0),
    terms: all,
  };
}

/** The covariance of the rows in units of the variance of f; `noise` is relative to it. */
function covariance({ rows, terms }: Data, shape: Shape, noise: number, fidelity: number): Float64Array {
  const n = rows.length;
  const rest = terms.rest[DECAYS.indexOf(shape.decay as (typeof DECAYS)[number])] ?? new Float64Array(n * n);
  const matrix = new Float64Array(n * n);
  for (const [i, row] of rows.entries()) {
    for (let j = 0; j <= i; j++) {
      const at = i * n + j;
      const other = rows[j] ?? row;
      const signal =
        shape.main * (terms.main[at] ?? 0) + shape.pair * (terms.pair[at] ?? 0) + shape.rest * (rest[at] ?? 0);
      const correlation = row.rung === other.rung ? 1 : fidelity ** Math.abs(row.rung - other.rung);
      let seeds = 0;
      if (i === j) seeds = 1 / Math.max(1, row.replicates.length);
      else if (row.candidate === other.candidate && row.replicates.length > 0 && other.replicates.length > 0) {
        const shared = row.replicates.filter((replicate) => other.replicates.includes(replicate)).length;
        seeds = shared / (row.replicates.length * other.replicates.length);
      }
      matrix[at] = correlation * (signal + noise * seeds);
    }
    // Two believers on one candidate, or a kernel without a rest, may be singular without noise.
    matrix[i * n + i] = (matrix[i * n + i] ?? 0) + 1e-8;
  }
  return matrix;
}

interface Solved {
  readonly lower: Float64Array;
  readonly weights: Float64Array;
  readonly means: Float64Array;
  readonly basis: readonly Float64Array[];
  readonly basisFactor: Float64Array;
  readonly variance: number;
  /** Logarithm of the marginal likelihood with priors, up to a constant. */
  readonly likelihood: number;
}

function solve(data: Data, shape: Shape, noise: number, fidelity: number): Solved | undefined {
  const { rows, values, groups, groupCount, scores, scatter, total } = data;
  const p = groupCount + (scores === undefined ? 0 : 1);
  const size = rows.length;
  const n = values.length;
  const lower = cholesky(covariance(data, shape, noise, fidelity), size);
  if (lower === undefined) return undefined;
  // Columns: the values, then one indicator for each rung, then the scores.
  const columns = 1 + p;
  const right = new Float64Array(n * columns);
  for (let i = 0; i < n; i++) {
    right[i * columns] = values[i] ?? 0;
    right[i * columns + 1 + (groups[i] ?? 0)] = 1;
    if (scores !== undefined) right[i * columns + p] = scores[i] ?? 0;
  }
  solveLower(lower, size, n, right, columns);
  const product = (a: number, b: number): number => {
    let sum = 0;
    for (let i = 0; i < n; i++) sum += (right[i * columns + a] ?? 0) * (right[i * columns + b] ?? 0);
    return sum;
  };
  const normal = Float64Array.from({ length: p * p }, (_, at) => product(1 + Math.floor(at / p), 1 + (at % p)));
  if (scores !== undefined) normal[p * p - 1] = (normal[p * p - 1] ?? 0) + SLOPE_PRECISION;
  const basisFactor = cholesky(normal, p);
  if (basisFactor === undefined) return undefined;
  const means = Float64Array.from({ length: p }, (_, group) => product(0, 1 + group));
  solveLower(basisFactor, p, p, means, 1);
  solveUpper(basisFactor, p, p, means);
  const weights = new Float64Array(n);
  let residual = 0;
  for (let i = 0; i < n; i++) {
    let rest = right[i * columns] ?? 0;
    for (let group = 0; group < p; group++) rest -= (right[i * columns + 1 + group] ?? 0) * (means[group] ?? 0);
    weights[i] = rest;
    residual += rest * rest;
  }
  if (scores !== undefined) residual += SLOPE_PRECISION * (means[p - 1] ?? 0) ** 2;
  solveUpper(lower, size, n, weights);
  let logDeterminant = 0;
  for (let i = 0; i < n; i++) logDeterminant += 2 * Math.log(lower[i * size + i] ?? 1);
  for (let group = 0; group < p; group++) logDeterminant += 2 * Math.log(basisFactor[group * p + group] ?? 1);
  const degrees = total - groupCount + VARIANCE_WEIGHT;
  const variance = (residual + scatter / noise + VARIANCE_WEIGHT * 0.7) / degrees;
  const prior = ((Math.log(noise) - NOISE_CENTRE) / NOISE_SPREAD) ** 2;
  return {
    lower,
    weights,
    means,
    basis: Array.from({ length: p }, (_, group) =>
      Float64Array.from({ length: n }, (_, i) => right[i * columns + 1 + group] ?? 0),
    ),
    basisFactor,
    variance,
    likelihood: -0.5 * (degrees * Math.log(variance) + logDeterminant + (total - n) * Math.log(noise) + prior),
  };
}

interface Setting {
  readonly shape: Shape;
  readonly noise: number;
  readonly fidelity: number;
}

function shapes(factors: number): readonly Shape[] {
  // One factor has no pairs, and its rest is its main effect again.
  const weights = factors < 2 ? ([[0.9, 0, 0.1]] as const) : WEIGHTS;
  return weights.flatMap(([main, pair, rest]) => DECAYS.map((decay) => ({ main, pair, rest, decay })));
}

/** The setting of the greatest likelihood; where rungs matter, in turns: shape and noise, ρ, shape and noise. */
function chooseSetting(data: Data, factors: number): Setting {
  const several = data.groupCount > 1;
  let best: Setting = { shape: { main: 0.35, pair: 0.3, rest: 0.35, decay: 0.55 }, noise: 0.3, fidelity: 0.8 };
  let highest = -Infinity;
  const consider = (setting: Setting): void => {
    const likelihood = solve(data, setting.shape, setting.noise, setting.fidelity)?.likelihood ?? -Infinity;
    if (likelihood > highest) [best, highest] = [setting, likelihood];
  };
  const shapeAndNoise = (): void => {
    const { fidelity } = best;
    for (const shape of shapes(factors)) for (const noise of NOISES) consider({ shape, noise, fidelity });
  };
  shapeAndNoise();
  if (several) {
    for (const fidelity of FIDELITIES) consider({ ...best, fidelity });
    shapeAndNoise();
  }
  return best;
}

/** Fits the model; undefined where no trial has shown anything. */
export function fitGaussian(known: Knowledge): Fit | undefined {
  const { candidates, pending, prior } = known;
  const raw = rowsOf(known.observations);
  if (raw.length === 0) return undefined;
  const target = raw.reduce((most, row) => Math.max(most, row.rung), 0);
  const ratios = scales(raw, target);
  const scaled = raw.map((row) => {
    const ratio = ratios.get(row.rung) ?? 1;
    return { ...row, mean: row.mean * ratio, scatter: row.scatter * ratio * ratio };
  });
  // The lowest rung was chosen by nobody: its spread is that of the space.
  const lowest = scaled.reduce((least, row) => Math.min(least, row.rung), target);
  const unit = deviationOf(scaled.filter((row) => row.rung === lowest).map((row) => row.mean)) || 1;
  const centre = meanOf(scaled.filter((row) => row.rung === target).map((row) => row.mean));
  const rows = kept(
    scaled.map((row) => ({ ...row, mean: (row.mean - centre) / unit, scatter: row.scatter / (unit * unit) })),
  );
  const kernels = factorKernels(candidates.factors);
  const step = rows.length / LIKELIHOOD_ROWS;
  const sample =
    step <= 1
      ? rows
      : Array.from({ length: LIKELIHOOD_ROWS }, (_, i) => rows[Math.floor(i * step)]).flatMap((row) => row ?? []);
  const setting = chooseSetting(dataOf(candidates, kernels, sample, prior), kernels.length);
  const believers = pending.map(({ candidate, rung }) => ({ candidate, rung, replicates: [], mean: 0, scatter: 0 }));
  believers.sort((a, b) => a.candidate - b.candidate || a.rung - b.rung);
  const all = [...rows, ...believers.slice(0, MOST_ROWS)];
  const data = dataOf(candidates, kernels, all, prior);
  const solved = solve(data, setting.shape, setting.noise, setting.fidelity);
  if (solved === undefined) return undefined;
  const targetGroup = rows.find((row) => row.rung === target);
  const group = data.groups[targetGroup === undefined ? 0 : rows.indexOf(targetGroup)] ?? 0;
  return {
    kernels,
    shape: setting.shape,
    variance: solved.variance * unit * unit,
    noise: solved.variance * setting.noise * unit * unit,
    fidelity: setting.fidelity,
    rowLevels: levelsOf(candidates, all),
    width: candidates.factors.length,
    rows: all.length,
    observed: rows.length,
    discounts: Float64Array.from(all, (row) => setting.fidelity ** Math.abs(target - row.rung)),
    groups: data.groups,
    lower: solved.lower,
    weights: solved.weights.map((weight) => weight * unit),
    mean: (solved.means[group] ?? 0) * unit + centre,
    slope: prior === undefined ? undefined : (solved.means.at(-1) ?? 0) * unit,
    target: group,
    basis: solved.basis,
    basisFactor: solved.basisFactor,
  };
}

export interface Posterior {
  /** Mean and standard deviation of the value that full training would show on average over seeds. */
  readonly mean: Float64Array;
  readonly deviation: Float64Array;
}

const BLOCK = 512;

/** Covariances between the rows and many points, in units of the variance of f: rows × points. */
export function crossCovariance(fit: Fit, levels: Uint8Array): Float64Array {
  const { shape, width, rows } = fit;
  const count = levels.length / width;
  const found = new Float64Array(rows * count);
  const terms = emptyTerms(count, 1);
  const [rest] = terms.rest;
  for (let row = 0; row < rows; row++) {
    termsBetween(
      fit.kernels,
      fit.rowLevels.subarray(row * width, (row + 1) * width),
      levels,
      width,
      [shape.decay],
      terms,
    );
    const discount = fit.discounts[row] ?? 1;
    for (let i = 0; i < count; i++)
      found[row * count + i] =
        discount *
        (shape.main * (terms.main[i] ?? 0) + shape.pair * (terms.pair[i] ?? 0) + shape.rest * (rest?.[i] ?? 0));
  }
  return found;
}

/**
 * What the model says of points; `levels` holds `width` levels for each.
 * @param scores of the points, where the model was fitted with scores; 0, the mean of the space, if not given
 */
export function posteriorAt(fit: Fit, levels: Uint8Array, scores?: Float64Array): Posterior {
  const { width, rows, observed, kernels, shape, slope = 0 } = fit;
  const count = levels.length / width;
  const mean = new Float64Array(count);
  const deviation = new Float64Array(count);
  for (let from = 0; from < count; from += BLOCK) {
    const to = Math.min(count, from + BLOCK);
    const points = levels.subarray(from * width, to * width);
    const size = to - from;
    const cross = crossCovariance(fit, points);
    for (let i = 0; i < size; i++) {
      let sum = fit.mean + slope * (scores?.[from + i] ?? 0);
      for (let row = 0; row < observed; row++) sum += (fit.weights[row] ?? 0) * (cross[row * size + i] ?? 0);
      mean[from + i] = sum;
    }
    solveLower(fit.lower, rows, rows, cross, size);
    for (let i = 0; i < size; i++) {
      const at = (from + i) * width;
      let left = priorVariance(kernels, shape, levels.subarray(at, at + width));
      for (let row = 0; row < rows; row++) left -= (cross[row * size + i] ?? 0) ** 2;
      deviation[from + i] = Math.sqrt(
        Math.max(0, left + meanVariance(fit, cross, size, i, scores?.[from + i] ?? 0)) * fit.variance,
      );
    }
  }
  return { mean, deviation };
}

/** k(x, x): about 1, and exactly so where all levels of every factor are alike. */
function priorVariance(kernels: readonly FactorKernel[], shape: Shape, row: Uint8Array): number {
  let [sum, squares] = [0, 0];
  for (const { factor, levels, main } of kernels) {
    const value = main[(row[factor] ?? 0) * (levels + 1)] ?? 0;
    sum += value;
    squares += value * value;
  }
  const d = kernels.length;
  return (
    shape.main * (d === 0 ? 0 : sum / d) + shape.pair * (d < 2 ? 0 : (sum * sum - squares) / (d * (d - 1))) + shape.rest
  );
}

/** What not knowing the rungs' means and β adds, in units of the variance (Rasmussen and Williams, equation 2.42). */
function meanVariance(
  { basis, basisFactor, target, slope }: Fit,
  solved: Float64Array,
  size: number,
  i: number,
  score: number,
): number {
  const p = basis.length;
  const rest = Float64Array.from({ length: p }, (_, group) => {
    let sum = group === target ? 1 : slope !== undefined && group === p - 1 ? score : 0;
    const own = basis[group];
    if (own !== undefined)
      for (let row = 0; row < own.length; row++) sum -= (own[row] ?? 0) * (solved[row * size + i] ?? 0);
    return sum;
  });
  solveLower(basisFactor, p, p, rest, 1);
  return rest.reduce((sum, value) => sum + value * value, 0);
}
