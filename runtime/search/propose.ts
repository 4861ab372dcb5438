/**
 * What a method of search is: a pure function from what is known to what is to be trained next.
 *
 * In: the factors and feasible candidates of a space, what trials have shown, which are under way, and a seed. Out: a
 * candidate, or several. No method has a state of its own or reads a clock, so the journal of a study can be checked by
 * proposing everything again.
 */
import type { Factor } from "../../compiler/search/search.ts";

/** The candidates that may be trained, as the methods see them. */
export interface Candidates {
  readonly factors: readonly Factor[];
  /** Levels of candidate i: `levels[i * factors.length + f]`. */
  readonly levels: Uint8Array;
  readonly count: number;
  /** Costs to be minimised, exact, one array for each objective that is a cost; empty for one objective. */
  readonly costs: readonly Float64Array[];
}

export interface Observation {
  readonly candidate: number;
  /** Larger is better. */
  readonly value: number;
  /** Index of the rung: `rungs.length - 1` is a full training. */
  readonly rung: number;
  readonly replicate: number;
}

export interface Knowledge {
  readonly candidates: Candidates;
  readonly observations: readonly Observation[];
  /** Under way, once for each trial. */
  readonly pending: readonly { readonly candidate: number; readonly rung: number }[];
  /**
   * What is expected of each candidate beforehand, larger being better, with mean 0 and deviation 1: the Gaussian process
   * learns how much of it holds.
   */
  readonly prior?: Float64Array | undefined;
  /** Candidates that are not to be proposed, e.g. because their training failed. What they have shown counts. */
  readonly closed?: ReadonlySet<number>;
  /** Seed of the study, and how many proposals came before: together they make the generator. */
  readonly seed: number;
  readonly step: number;
}

/** Proposes `count` candidates to train next, in order. May repeat a candidate: that is a replicate. */
export type Propose = (known: Knowledge, count: number) => readonly number[];
