/**
 * The tree-structured Parzen estimator (Bergstra, Bardenet, Bengio and Kégl 2011), with the constants of Optuna's default:
 * ten random trials, then the best tenth (at most 25) against the rest, 24 samples from the better density, of which the
 * one with the greatest ratio of densities is taken. All factors are taken as categories.
 *
 * Univariate: every factor by itself, so that it never learns that two go together. Multivariate: one mixture over whole
 * candidates. A sample that is no candidate (a refused one, or one that another stands for) becomes the nearest that is.
 */

import type { Candidates, Knowledge, Propose } from "../propose.ts";
import { type Draws, drawsOf } from "./draws.ts";
import { byMerit, trialsOf } from "./history.ts";
import { nearest } from "./nearest.ts";
import { proposeRandom } from "./random.ts";

const STARTUP = 10;
const SAMPLES = 24;
const PRIOR = 1;
/** Older than the newest so many trials, a trial weighs less. */
const FLAT = 25;

/** One kernel for each trial and a last one, the prior, which is uniform. */
interface Density {
  /** Trials in order; levels by factor. */
  readonly members: readonly (readonly number[])[];
  /** Of the kernels, summing to 1. */
  readonly weights: Float64Array;
}

function densityOf(members: readonly (readonly number[])[]): Density {
  const n = members.length;
  const ramp = n - FLAT;
  const weights = Float64Array.from({ length: n + 1 }, (_, index) => {
    if (index === n) return PRIOR;
    if (index >= ramp) return 1;
    return ramp === 1 ? 1 / n : 1 / n + ((1 - 1 / n) * index) / (ramp - 1);
  });
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return { members, weights: weights.map((weight) => weight / total) };
}

/** What the kernel of `member` gives to `level`; a kernel is its own level and, by 1/(n + 1), all levels. */
function kernelAt({ members }: Density, member: number, factor: number, level: number, levels: number): number {
  const spread = PRIOR / (members.length + 1);
  const own = members[member];
  if (own === undefined) return 1 / levels;
  return (spread + (own[factor] === level ? 1 : 0)) / (1 + spread * levels);
}

function sampleLevel(density: Density, member: number, factor: number, levels: number, draws: Draws): number {
  return draws.weighted(
    Float64Array.from({ length: levels }, (_, level) => kernelAt(density, member, factor, level, levels)),
  );
}

/** Logarithm of the density of levels of some factors together. */
function logDensity(
  density: Density,
  factors: readonly number[],
  sample: readonly number[],
  sizes: readonly number[],
): number {
  let sum = 0;
  for (const [member, weight] of density.weights.entries()) {
    let product = weight;
    for (const [index, factor] of factors.entries())
      product *= kernelAt(density, member, factor, sample[index] ?? 0, sizes[factor] ?? 1);
    sum += product;
  }
  return Math.log(sum);
}

/** Of 24 samples of the better trials' density over these factors, the one that the others' density holds least likely. */
function bestSample(
  good: Density,
  bad: Density,
  factors: readonly number[],
  sizes: readonly number[],
  draws: Draws,
): readonly number[] {
  let [best, highest]: [readonly number[], number] = [[], -Infinity];
  for (let sample = 0; sample < SAMPLES; sample++) {
    const member = draws.weighted(good.weights);
    const levels = factors.map((factor) => sampleLevel(good, member, factor, sizes[factor] ?? 1, draws));
    const score = logDensity(good, factors, levels, sizes) - logDensity(bad, factors, levels, sizes);
    // Rounding does not decide between equal ones: the first sampled is taken, as is the likelier.
    if (score > highest + 1e-9) [best, highest] = [levels, score];
  }
  return best;
}

function rowOf({ levels, factors }: Candidates, candidate: number): readonly number[] {
  return Array.from(levels.subarray(candidate * factors.length, (candidate + 1) * factors.length));
}

/** Trials under way count among the bad ones, so that two workers are not sent to one place. */
export function proposeTpe(multivariate: boolean): Propose {
  return (known, count) => {
    const { candidates, seed, step } = known;
    const sizes = candidates.factors.map((factor) => factor.levels.length);
    const proposals: number[] = [];
    while (proposals.length < count) {
      const pending = [...known.pending.map(({ candidate }) => candidate), ...proposals];
      proposals.push(proposeOne(known, sizes, pending, multivariate, drawsOf(seed, "tpe", step + proposals.length)));
    }
    return proposals;
  };
}

function proposeOne(
  known: Knowledge,
  sizes: readonly number[],
  pending: readonly number[],
  multivariate: boolean,
  draws: Draws,
): number {
  const { candidates } = known;
  const trials = trialsOf(known.observations);
  if (trials.length < STARTUP) {
    const [first] = proposeRandom({ ...known, pending: pending.map((candidate) => ({ candidate, rung: 0 })) }, 1);
    return first ?? 0;
  }
  const order = byMerit(trials);
  const most = Math.min(Math.ceil(0.1 * trials.length), 25);
  const better = new Set(order.slice(0, most));
  const rows = (good: boolean): (readonly number[])[] =>
    trials.filter((_, index) => better.has(index) === good).map(({ candidate }) => rowOf(candidates, candidate));
  const good = densityOf(rows(true));
  const bad = densityOf([...rows(false), ...pending.map((candidate) => rowOf(candidates, candidate))]);
  const all = sizes.map((_, factor) => factor);
  const sample = multivariate
    ? bestSample(good, bad, all, sizes, draws)
    : all.map((factor) => bestSample(good, bad, [factor], sizes, draws)[0] ?? 0);
  return nearest(candidates, sample, known.closed, draws);
}
