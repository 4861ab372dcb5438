/**
 * The words that the rooms of a search share: trials, what they give, and the store that keeps them.
 *
 * A study is one `search` on one data set. Its store is the truth: whoever proposes, trains or reports reads it there and
 * writes it there, and everything else (a queue, a process, a display) may be lost. A trial is one training of one
 * candidate with one seed; its id is a hash of what it is, so the same trial is never made twice.
 */
import type { Search } from "../../compiler/search/search.ts";

/**
 * Which part of a study a trial belongs to. `prior`: the super-network, which bears the name of a candidate and is none; `baseline`: `none`, `all` and the starts; `screen`: the first random ones;
 * `search`: proposed by the method; `random`: random search at equal budget; `confirm`: leaders again, on other seeds;
 * `final`: the table's, on seeds that nothing was chosen by, and the only ones that read the test side.
 */
export type Phase = "prior" | "baseline" | "screen" | "search" | "random" | "confirm" | "final";

/**
 * `waiting` to be taken; `running` by a worker; `paused` behind a rung, with a checkpoint, and for good once it has
 * `ended`; `complete`; `failed` by its own fault, more than `MOST_FRUITLESS` times in a row without progress; `cancelled`
 * by a person. One whose worker has gone is `waiting` again.
 */
export type TrialState = "waiting" | "running" | "paused" | "complete" | "failed" | "cancelled";

/** Attempts in a row that may end without a new checkpoint before a trial counts as failed. */
export const MOST_FRUITLESS = 3;

export interface TrialRow {
  /** SHA-256 of study, candidate, phase and replicate, in hexadecimal. */
  readonly id: string;
  /** Number within the study, from 1, in order of proposal. */
  readonly number: number;
  /** `Candidate.hash`. */
  readonly candidate: string;
  readonly phase: Phase;
  /** Which seed: trials of different candidates with one replicate and phase have one seed, so they are paired. */
  readonly replicate: number;
  /** Seed of the training. */
  readonly seed: number;
  /** Epochs it trains to before it waits for its rung's decision; the last rung is the full training. */
  readonly epochs: number;
  readonly state: TrialState;
  /** Rises with every taking; whoever holds an older one may not write any more. */
  readonly attempt: number;
  /** Attempts in a row that ended by the trial's own fault and without progress; a worker that has gone is no fault. */
  readonly fruitless: number;
  readonly worker: string | undefined;
  /** Milliseconds since 1970, by the store's clock. */
  readonly heartbeat: number | undefined;
  /** Why it failed or was cancelled. */
  readonly error: string | undefined;
  readonly started: number | undefined;
  readonly ended: number | undefined;
}

/** Value of the objective's metric on the validation side after so many epochs. */
export interface RungResult {
  readonly trial: string;
  readonly epochs: number;
  readonly value: number;
  /** The object with the checkpoint to go on from. */
  readonly checkpoint: string | undefined;
}

/** One point of a learning curve. A later attempt's points replace those of an earlier one. */
export interface MetricPoint {
  readonly name: string;
  readonly epoch: number;
  readonly value: number;
}

/** Times of a forward pass of one example in milliseconds: median and quartiles of so many passes. */
export interface MeasuredLatency {
  readonly median: number;
  readonly low: number;
  readonly high: number;
  readonly runs: number;
  /** In words, with all its threads. */
  readonly device: string;
  /** Part of the processors' time that other programs took meanwhile. */
  readonly busy: number;
}

/** What a complete trial gives. */
export interface TrialResult {
  /** Metrics by name, of the validation side (`val.uar`) and, of final trials only, the test side (`test.uar`). */
  readonly metrics: Readonly<Record<string, number>>;
  /** Seconds of training, over all attempts; and of everything else. */
  readonly seconds: number;
  readonly overheadSeconds: number;
  /** Median milliseconds of one forward pass of one example on the worker's device, where it was measured. */
  readonly latency: number | undefined;
  /** More of it. */
  readonly measured?: MeasuredLatency;
  /**
   * Norm of all gradients in the first update: a score that costs nothing (Abdelfattah et al. 2021, `grad_norm`). It is
   * reported and chooses nothing.
   */
  readonly gradientNorm?: number;
  /** SHA-256 of the final parameters. */
  readonly weights: string | undefined;
  /** Predictions file of the evaluated sides, by object hash: for paired comparisons over subjects. */
  readonly predictions: Readonly<Record<string, string>>;
  /** Of a super-network: what it makes of candidates, by `Candidate.index`; the objective's metric of the validation side. */
  readonly scores?: Readonly<Record<string, number>>;
  /** Compiled programs found in the cache, and asked for. */
  readonly kernels: { readonly hits: number; readonly misses: number };
  /** What trained it: netc's version and the device in words. */
  readonly device: string;
}

/** Why a trial exists. `netc search replay` makes each again from what was known and compares. */
export interface Decision {
  /** From 1; decisions are applied in this order. */
  readonly sequence: number;
  /** What decided, e.g. `gp`. */
  readonly method: string;
  /** How many rows of the observation log it had seen. */
  readonly seen: number;
  /** Trials that were under way. */
  readonly pending: readonly string[];
  /** What it decided: trials to begin, or to carry on to more epochs, or to end behind their rung. */
  readonly proposals: readonly Proposal[];
  /** In words, for the person who asks why. */
  readonly reason: string;
}

export type Proposal =
  | {
      readonly kind: "begin";
      readonly candidate: number;
      readonly phase: Phase;
      readonly replicate: number;
      readonly epochs: number;
    }
  | { readonly kind: "promote"; readonly trial: string; readonly epochs: number }
  | { readonly kind: "stop"; readonly trial: string };

/** A row of the log of what trials have shown, in the order in which the store learned of it. */
export interface ObservationRow {
  /** From 1, without gaps. */
  readonly sequence: number;
  readonly trial: string;
  readonly candidate: string;
  readonly phase: Phase;
  readonly replicate: number;
  readonly epochs: number;
  /** Undefined: it failed. */
  readonly value: number | undefined;
}

export interface StudyRow {
  readonly id: string;
  readonly name: string;
  /** Everything the search says. */
  readonly search: Search;
  /** SHA-256 of the search with its sources, and of the data set's manifest: what must not change under a study. */
  readonly searchHash: string;
  readonly dataHash: string;
  /** The sources, the entry first, as a run keeps them, and the data set's folder. */
  readonly sources: readonly { readonly path: string; readonly text: string }[];
  readonly data: string;
  readonly netc: string;
  readonly state: "running" | "paused" | "complete" | "cancelled";
  readonly created: number;
}

/** A trial taken, with the right to write for it until somebody else takes it. */
export interface Claim {
  readonly trial: TrialRow;
  readonly attempt: number;
  /** The newest checkpoint, of an earlier attempt or the rung before. */
  readonly checkpoint: string | undefined;
}

/** What the store says to who trains: go on, stop and hand back, or drop it, for it is no longer theirs. */
export type Orders = "go on" | "pause" | "cancel" | "lost";

/**
 * Where a study is kept. Every method is one transaction. Whatever bears an attempt that is not the trial's newest changes
 * nothing and says so (false, or "lost").
 * @throws StoreError with kind "unreachable" where the store does not answer, "damaged", "busy", "full" or "refused"
 */
export interface StudyStore {
  /** The address without secrets. */
  readonly address: string;
  /** Adds a study; gives the one that is there if it has the same id. */
  createStudy(study: Omit<StudyRow, "created">): Promise<StudyRow>;
  studies(): Promise<readonly StudyRow[]>;
  study(id: string): Promise<StudyRow | undefined>;
  /** The state alone: workers ask for it every few seconds, and the row with its space is large. */
  studyState(id: string): Promise<StudyRow["state"] | undefined>;
  setStudyState(id: string, state: StudyRow["state"]): Promise<void>;

  /**
   * One coordinator at a time: true for who asks first, and again for the same who until `seconds` have passed without its
   * asking again.
   */
  lead(study: string, who: string, seconds: number): Promise<boolean>;
  /**
   * Writes a decision and the trials it makes, if `sequence` is the next; false if somebody else wrote it. Promotes and
   * stops those of its trials that are still paused; one that was stopped has `ended`.
   */
  decide(study: string, decision: Decision, trials: readonly TrialRow[]): Promise<boolean>;
  decisions(study: string): Promise<readonly Decision[]>;

  trials(study: string): Promise<readonly TrialRow[]>;
  trial(id: string): Promise<TrialRow | undefined>;
  /** Takes a waiting trial, this one or the first; undefined if there is none, or the study is paused. */
  claim(study: string, worker: string, trial?: string): Promise<Claim | undefined>;
  heartbeat(trial: string, attempt: number): Promise<Orders>;
  /** Makes waiting again what has had no heartbeat for `seconds`; gives their ids. */
  reclaim(study: string, seconds: number): Promise<readonly string[]>;
  addMetrics(trial: string, attempt: number, points: readonly MetricPoint[]): Promise<boolean>;
  metrics(trial: string): Promise<readonly MetricPoint[]>;
  /** A checkpoint within a rung: progress, which sets the count of fruitless attempts back. */
  saveProgress(trial: string, attempt: number, epochs: number, checkpoint: string): Promise<boolean>;
  /** The end of a rung that is not the last: logged as an observation; the trial is paused. */
  endRung(result: RungResult, attempt: number): Promise<boolean>;
  rungs(study: string): Promise<readonly RungResult[]>;
  /** The end of a trial: logged as an observation (never of a final trial's test metrics). */
  commit(trial: string, attempt: number, value: number, result: TrialResult): Promise<boolean>;
  results(study: string): Promise<ReadonlyMap<string, TrialResult>>;
  /** The trial's own fault: waiting again, or failed after more than MOST_FRUITLESS in a row without progress. */
  fail(trial: string, attempt: number, error: string): Promise<TrialState | "lost">;
  /** Given back by who was told to stop: waiting again, no attempt counted. */
  release(trial: string, attempt: number): Promise<boolean>;
  /** By a person. */
  cancel(trial: string): Promise<boolean>;
  retry(trial: string): Promise<boolean>;
  observations(study: string): Promise<readonly ObservationRow[]>;

  /** Keeps bytes by their SHA-256; there already: nothing to do. */
  putObject(bytes: Uint8Array): Promise<string>;
  getObject(hash: string): Promise<Uint8Array | undefined>;
  /**
   * Removes what no trial refers to any more, checkpoints of complete and stopped trials among it; gives the number and
   * bytes. While trials are running, what was brought within the last hour stays.
   */
  collectGarbage(): Promise<{ readonly objects: number; readonly bytes: number }>;
  /** Reads every object again; gives those that are not what their name says, or are missing. */
  verify(): Promise<readonly { readonly hash: string; readonly problem: string }[]>;
  close(): Promise<void>;
}
