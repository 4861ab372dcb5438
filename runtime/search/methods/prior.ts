/**
 * Whether the scores of a super-network are to be believed, and what they then say of every candidate.
 *
 * In: scores of some or all candidates, and the values of those that were trained in full without anybody having looked at
 * a score. Out: Kendall's τ between the two with a verdict, and the scores as the Gaussian process takes them.
 */

import type { Search } from "../../../compiler/search/search.ts";
import type { Interval } from "../../metrics/intervals.ts";
import type { Candidates } from "../propose.ts";
import { kendallTau } from "../statistics/kendall.ts";
import { fitGaussian, posteriorAt } from "./gaussian.ts";
import type { LedgerTrial } from "./ledger.ts";
import { viewOf } from "./plan.ts";

/** Trained candidates before which nothing is believed. */
const FEWEST = 8;
/**
 * Scores are believed where τ less one standard error is above this. By simulation (specs/performance.md) more is asked in
 * vain: how far they are believed is learned with the rest of the model, so it is enough that they are not worthless.
 */
const LEAST_TAU = 0;
const ERRORS = 1;

export interface PriorTrust {
  /** Candidates that were trained in full and have a score. */
  readonly pairs: number;
  /** Kendall's τ-b between scores and values, with its interval of 95 %. */
  readonly tau: Interval;
  /** Lower end at one standard error, which decides. */
  readonly bound: number;
  readonly trusted: boolean;
}

/**
 * What a super-network is judged by: candidates of the baseline and of the screen, which nobody chose, with their score and
 * the mean of their full trainings.
 * @param scores by `Candidate.index`; larger is better
 */
export function calibrationOf(
  { epochs, objectives }: Search,
  trials: readonly LedgerTrial[],
  scores: ReadonlyMap<number, number>,
): readonly { readonly score: number; readonly value: number }[] {
  const minimize = objectives.some(({ kind, goal }) => kind === "metric" && goal === "minimize");
  const values = new Map<number, number[]>();
  for (const { candidate, phase, values: own } of trials) {
    const value = own.get(epochs);
    if (value === undefined || (phase !== "baseline" && phase !== "screen") || !scores.has(candidate)) continue;
    values.set(candidate, [...(values.get(candidate) ?? []), minimize ? -value : value]);
  }
  return [...values].map(([candidate, all]) => ({
    score: scores.get(candidate) ?? 0,
    value: all.reduce((sum, value) => sum + value, 0) / all.length,
  }));
}

/** @param pairs of scores and means of full trainings, one for each candidate; larger is better in both */
export function judgePrior(pairs: readonly { readonly score: number; readonly value: number }[]): PriorTrust {
  const [scores, values] = [pairs.map(({ score }) => score), pairs.map(({ value }) => value)];
  const { low: bound } = kendallTau(scores, values, ERRORS);
  return {
    pairs: pairs.length,
    tau: kendallTau(scores, values),
    bound,
    // Where all scores are equal there is no τ, and nothing to believe.
    trusted: pairs.length >= FEWEST && bound > LEAST_TAU,
  };
}

/** In words, for the reason of a decision and for the report. */
export function priorText({ pairs, tau, bound, trusted }: PriorTrust): string {
  if (pairs < FEWEST) return `${pairs} of ${FEWEST} candidates to judge it by, not used yet`;
  if (Number.isNaN(tau.value)) return `of ${pairs} candidates all have one score or one value: not used`;
  const shown = `tau ${tau.value.toFixed(2)} of ${pairs}, at least ${bound.toFixed(2)}`;
  return trusted ? `${shown}: used` : `${shown}, not above ${LEAST_TAU}: not used`;
}

/**
 * Scores of all candidates, with mean 0 and deviation 1: those that are there, and for the others what the Gaussian process
 * makes of these. Undefined where all are equal.
 * @param scores by candidate; larger is better
 */
export function priorOf(candidates: Candidates, scores: ReadonlyMap<number, number>): Float64Array | undefined {
  const values = new Float64Array(candidates.count);
  if (scores.size < candidates.count) {
    const observations = [...scores].map(([candidate, value]) => ({ candidate, value, rung: 0, replicate: 0 }));
    const fit = fitGaussian({ candidates, observations, pending: [], seed: 0, step: 0 });
    if (fit === undefined) return undefined;
    values.set(posteriorAt(fit, candidates.levels).mean);
  }
  for (const [candidate, value] of scores) values[candidate] = value;
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const deviation = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
  return deviation > 0 ? values.map((value) => (value - mean) / deviation) : undefined;
}

/**
 * What the model begins with: the scores, if they are to be believed.
 * @param scores by `Candidate.index`; larger is better
 */
export function trustedPrior(
  search: Search,
  trials: readonly LedgerTrial[],
  scores: ReadonlyMap<number, number>,
): Float64Array | undefined {
  if (!judgePrior(calibrationOf(search, trials, scores)).trusted) return undefined;
  const { candidates, local } = viewOf(search);
  const own = [...scores].flatMap(([index, score]) => {
    const candidate = local.get(index);
    return candidate === undefined ? [] : [[candidate, score] as const];
  });
  return priorOf(candidates, new Map(own));
}
