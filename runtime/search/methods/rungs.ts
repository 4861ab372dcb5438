/**
 * Partial trainings: which rungs still tell what full trainings show, and who is carried on.
 *
 * Trials of the baseline and the screen pass every rung and are all trained in full, so the correlation of a rung with the
 * end is measured from the start, on candidates that were not chosen by it; those that were chosen later count as well,
 * and being a choice, they lower it rather than raise it.
 */
import type { Interval } from "../../metrics/intervals.ts";
import { kendallTau } from "../statistics/kendall.ts";
import type { LedgerTrial } from "./ledger.ts";

/** A rung is used no more if its τ may be below this. */
const LEAST_TAU = 0.3;
/**
 * "May be" is one standard error. The 95 % bound of a τ of 0.6 passes 0.3 only with sixteen fully trained candidates,
 * more than a study has when it has to decide; and rungs that are dropped too early cost as much as rungs kept too long.
 */
const ERRORS = 1;
/** Pairs before which nothing is judged. */
const FEWEST = 6;

export interface RungTrust {
  /** Epochs of the partial training. */
  readonly epochs: number;
  /** Fully trained trials that have a value here. */
  readonly pairs: number;
  /** Kendall's τ-b between values here and at the end, with its interval of 95 %. */
  readonly tau: Interval;
  /** Lower end at one standard error, which decides. */
  readonly bound: number;
  readonly trusted: boolean;
}

/** How far each partial training can be trusted, by what complete trials have shown. `rungs` ends with the full training. */
export function rungTrust(rungs: readonly number[], trials: readonly LedgerTrial[]): readonly RungTrust[] {
  const full = rungs.at(-1) ?? 0;
  return rungs.slice(0, -1).map((epochs) => {
    const both = trials.filter(({ values }) => values.has(epochs) && values.has(full));
    const at = (rung: number): readonly number[] => both.map(({ values }) => values.get(rung) ?? 0);
    const tau = kendallTau(at(epochs), at(full));
    const bound = kendallTau(at(epochs), at(full), ERRORS).low;
    // Where all values are equal there is no τ, and nothing to choose by.
    return { epochs, pairs: both.length, tau, bound, trusted: both.length < FEWEST || bound >= LEAST_TAU };
  });
}

/** In words, for the reason of a decision; empty without partial trainings. */
export function trustText(trust: readonly RungTrust[]): string {
  return trust
    .map(({ epochs, pairs, tau, bound, trusted }) => {
      const name = `${epochs} ${epochs === 1 ? "epoch" : "epochs"}`;
      if (pairs < FEWEST) return `${name}: ${pairs} pairs, not judged yet`;
      const shown = `${name}: tau ${tau.value.toFixed(2)} of ${pairs}, at least ${bound.toFixed(2)}`;
      return trusted ? shown : `${shown}: not used any more`;
    })
    .join("; ");
}

/**
 * The trial to carry on: of those at a usable rung, from the highest, one that is among the best 1/η of all that have
 * been there (asynchronous successive halving: Li et al. 2020), so that nobody waits for a rung to fill.
 * @param trials of the search alone: against random ones nearly all that a model proposes would be carried on
 * @param merit how good a trial at a rung is; larger is better
 */
export function promotion(
  rungs: readonly number[],
  usable: readonly number[],
  trials: readonly LedgerTrial[],
  eta: number,
  merit: (trial: LedgerTrial, rung: number) => number,
): LedgerTrial | undefined {
  for (const rung of [...usable].reverse()) {
    if (rung === rungs.at(-1)) continue;
    const entrants = trials.filter(({ values }) => values.has(rung));
    const best = entrants
      .map((trial, index) => ({ trial, index, merit: merit(trial, rung) }))
      .sort((a, b) => b.merit - a.merit || a.index - b.index)
      .slice(0, Math.floor(entrants.length / eta));
    const next = best.find(({ trial }) => trial.state === "paused" && trial.goal === rung);
    if (next !== undefined) return next.trial;
  }
  return undefined;
}
