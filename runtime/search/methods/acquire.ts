/**
 * What the Gaussian process proposes, and what it holds to lead.
 *
 * One objective: the candidate of the greatest mean + 2 standard deviations. With costs, which are exact: the candidate
 * that is expected to add most to the volume that the front dominates, in closed form, where the front is that of the
 * model's means, not of single noisy values.
 */

import type { Candidates, Knowledge } from "../propose.ts";
import { expectedVolumeGain, paretoFront, type Reference, type Valued } from "../statistics/pareto.ts";
import { drawsOf } from "./draws.ts";
import { fitGaussian, type Posterior, posteriorAt } from "./gaussian.ts";

/** Standard deviations above the mean. */
const CONFIDENCE = 2;

/** All rows of points that have costs scaled to 0 … 1 over the space. */
function scaledCosts({ costs, count }: Candidates): readonly Float64Array[] {
  return costs.map((cost) => {
    let [low, high] = [Infinity, -Infinity];
    for (let i = 0; i < count; i++) [low, high] = [Math.min(low, cost[i] ?? low), Math.max(high, cost[i] ?? high)];
    const range = high > low ? high - low : 1;
    return cost.map((value) => (value - low) / range);
  });
}

function pointAt(mean: Float64Array, costs: readonly Float64Array[], candidate: number): Valued {
  return { value: mean[candidate] ?? 0, costs: costs.map((cost) => cost[candidate] ?? 0) };
}

/** Candidates that any trial has shown something of, once each. */
function shown({ observations }: Knowledge): readonly number[] {
  return [...new Set(observations.map(({ candidate }) => candidate))].sort((a, b) => a - b);
}

/** Values below the worst mean, and costs above the dearest candidate, count for nothing. */
function referenceOf(points: readonly Valued[], costs: number): Reference {
  const values = points.map(({ value }) => value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return { value: low - 0.1 * (high - low), costs: Array.from({ length: costs }, () => 1.05) };
}

/** How good each candidate is to try next; -Infinity for those that may not be proposed. */
function merits(known: Knowledge, posterior: Posterior): Float64Array {
  const { candidates, closed } = known;
  const merit = new Float64Array(candidates.count);
  const { mean, deviation } = posterior;
  if (candidates.costs.length === 0)
    for (let i = 0; i < merit.length; i++) merit[i] = (mean[i] ?? 0) + CONFIDENCE * (deviation[i] ?? 0);
  else {
    const costs = scaledCosts(candidates);
    const points = shown(known).map((candidate) => pointAt(mean, costs, candidate));
    const front = paretoFront(points).flatMap((index) => points[index] ?? []);
    const gain = expectedVolumeGain(front, referenceOf(points, costs.length));
    for (let i = 0; i < merit.length; i++) {
      const own = costs.map((cost) => cost[i] ?? 0);
      merit[i] = gain(mean[i] ?? 0, deviation[i] ?? 0, own);
    }
  }
  for (const candidate of closed ?? []) merit[candidate] = -Infinity;
  return merit;
}

function largest(values: Float64Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if ((values[i] ?? 0) > (values[best] ?? 0)) best = i;
  return best;
}

/** Proposals of the model, each counted as under way for those after it; random ones before the first value. */
export function proposeGaussian(known: Knowledge, count: number): readonly number[] {
  const proposals: number[] = [];
  const top = known.observations.reduce((most, { rung }) => Math.max(most, rung), 0);
  while (proposals.length < count) {
    const pending = [...known.pending, ...proposals.map((candidate) => ({ candidate, rung: top }))];
    proposals.push(largest(meritsOf({ ...known, pending }, known.step + proposals.length)));
  }
  return proposals;
}

function meritsOf(known: Knowledge, step: number): Float64Array {
  const fit = fitGaussian(known);
  if (fit !== undefined) return merits(known, posteriorAt(fit, known.candidates.levels, known.prior));
  const draws = drawsOf(known.seed, "gp", step);
  const merit = Float64Array.from({ length: known.candidates.count }, () => draws.uniform());
  for (const candidate of known.closed ?? []) merit[candidate] = -Infinity;
  return merit;
}

/** A candidate that leads, and what the model says of it: mean and standard deviation of its value at full training. */
export interface Leader {
  readonly candidate: number;
  readonly mean: number;
  readonly deviation: number;
}

/**
 * The `count` candidates that lead, the first first, by the model's mean and never by a single noisy value. Only what has
 * been trained can lead. With costs, those that together dominate the greatest volume, taken one by one.
 */
export function pickOf(known: Knowledge, count: number): readonly Leader[] {
  const fit = fitGaussian({ ...known, pending: [] });
  if (fit === undefined) return [];
  const { candidates, closed, prior } = known;
  const width = candidates.factors.length;
  const trained = shown(known).filter((candidate) => !(closed?.has(candidate) ?? false));
  const levels = new Uint8Array(trained.length * width);
  for (const [index, candidate] of trained.entries())
    levels.set(candidates.levels.subarray(candidate * width, (candidate + 1) * width), index * width);
  const scores = prior === undefined ? undefined : Float64Array.from(trained, (candidate) => prior[candidate] ?? 0);
  const { mean, deviation } = posteriorAt(fit, levels, scores);
  const leaders = trained.map((candidate, index) => ({
    candidate,
    mean: mean[index] ?? 0,
    deviation: deviation[index] ?? 0,
  }));
  leaders.sort((a, b) => b.mean - a.mean || a.candidate - b.candidate);
  return candidates.costs.length === 0 ? leaders.slice(0, count) : widest(leaders, scaledCosts(candidates), count);
}

/** Leaders chosen one by one, each for the volume that it adds. */
function widest(leaders: readonly Leader[], costs: readonly Float64Array[], count: number): readonly Leader[] {
  const points = leaders.map(({ candidate, mean }) => ({
    value: mean,
    costs: costs.map((cost) => cost[candidate] ?? 0),
  }));
  const reference = referenceOf(points, costs.length);
  const chosen: number[] = [];
  while (chosen.length < Math.min(count, leaders.length)) {
    const gain = expectedVolumeGain(
      chosen.flatMap((index) => points[index] ?? []),
      reference,
    );
    let [best, most] = [-1, -1];
    for (const [index, point] of points.entries()) {
      if (chosen.includes(index)) continue;
      const own = gain(point.value, 0, point.costs);
      if (own > most) [best, most] = [index, own];
    }
    // Those that add nothing are dominated; where all are, the rest follows by mean.
    chosen.push(best);
  }
  return chosen.flatMap((index) => leaders[index] ?? []);
}
