/**
 * The learning rate over time, and what follows from a metric that has stopped to get better.
 *
 * In: a stage's schedule, the time in epochs, the validation score of each epoch. Out: a factor on the learning rate,
 * and states that are plain data, for a checkpoint keeps them. Everything here is a pure function.
 */
import type { EarlyStop, Goal, Schedule } from "../../compiler/recipe/recipe.ts";

/** Of the `plateau` schedule of a stage. */
export interface PlateauState {
  /** The factor that it has come to. */
  readonly factor: number;
  /** The best score so far; undefined: none yet. */
  readonly best: number | undefined;
  /** Epochs since then that were not better, or since the last reduction. */
  readonly bad: number;
}

/** Of early stopping in a stage. */
export interface StopState {
  readonly best: number | undefined;
  /** Epochs since then. */
  readonly bad: number;
}

export const PLATEAU_START: PlateauState = { factor: 1, best: undefined, bad: 0 };
export const STOP_START: StopState = { best: undefined, bad: 0 };

/** True if `score` is better than the best so far. A score that is not finite is better than nothing never. */
export function isBetter(goal: Goal, score: number, best: number | undefined): boolean {
  if (!Number.isFinite(score)) return false;
  if (best === undefined) return true;
  return goal.better === "larger" ? score > best : score < best;
}

/**
 * The factor on a stage's learning rate.
 *
 * - `step` is PyTorch's MultiStepLR: γ for every milestone that has been reached.
 * - `cosine` is eq. 5 of Loshchilov & Hutter, "SGDR" (2017) without restarts, PyTorch's CosineAnnealingLR:
 *   to + (1 − to)(1 + cos(π·t/T))/2, where T is the whole stage.
 * - `plateau` is what `updatePlateau` has come to.
 *
 * During the warm-up the factor rises on a line from 0 at the stage's start to what the schedule gives at its end
 * (Goyal et al. 2017, §2.2). An update takes the point of that line where it ends, so that the first one is not lost.
 *
 * @param time epochs of the stage that are done, with fractions: 2.5 after half of the third
 * @param epochs length of the stage
 * @param update length of one update in epochs: 1 / updates of an epoch; 0 for the factor at an instant
 */
export function rateAt(schedule: Schedule, time: number, epochs: number, plateau: PlateauState, update = 0): number {
  const { warmup } = schedule;
  if (time < warmup) {
    return afterWarmup(schedule, warmup, epochs, plateau) * Math.min(1, (time + update) / warmup);
  }
  return afterWarmup(schedule, time, epochs, plateau);
}

function afterWarmup({ then }: Schedule, time: number, epochs: number, plateau: PlateauState): number {
  switch (then.kind) {
    case "constant":
      return 1;
    case "step":
      return then.gamma ** then.at.filter((milestone) => milestone <= time).length;
    case "cosine": {
      const done = epochs > 0 ? Math.min(1, Math.max(0, time / epochs)) : 1;
      return then.to + ((1 - then.to) * (1 + Math.cos(Math.PI * done))) / 2;
    }
    case "plateau":
      return plateau.factor;
    default:
      throw new Error(`internal: no such schedule ${JSON.stringify(then satisfies never)}`);
  }
}

/** True if the factor is 0 for the whole of a stage: its warm-up takes all of it, and ends where the schedule is at 0. */
export function neverMoves(schedule: Schedule, epochs: number): boolean {
  return schedule.warmup >= epochs && afterWarmup(schedule, schedule.warmup, epochs, PLATEAU_START) < 1e-9;
}

/**
 * The state after an epoch with this score: PyTorch's ReduceLROnPlateau with threshold 0 and without a cool-down. It
 * bears `patience` epochs without an improvement, and reduces after the next one; then it counts anew.
 * Other schedules keep their state.
 */
export function updatePlateau({ then }: Schedule, state: PlateauState, score: number): PlateauState {
  if (then.kind !== "plateau") return state;
  if (isBetter(then.goal, score, state.best)) return { ...state, best: score, bad: 0 };
  const bad = state.bad + 1;
  if (bad <= then.patience) return { ...state, bad };
  return { ...state, factor: Math.max(state.factor * then.gamma, Math.min(then.least, state.factor)), bad: 0 };
}

/** The state after an epoch with this score, and whether the stage ends: after `patience` epochs that were not better. */
export function updateEarlyStop(
  rule: EarlyStop | undefined,
  state: StopState,
  score: number,
): { readonly state: StopState; readonly ends: boolean } {
  if (rule === undefined) return { state, ends: false };
  if (isBetter(rule.goal, score, state.best)) return { state: { best: score, bad: 0 }, ends: false };
  const bad = state.bad + 1;
  return { state: { ...state, bad }, ends: bad >= rule.patience };
}
