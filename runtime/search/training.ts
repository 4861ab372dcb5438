/**
 * The seam between who minds a trial and who trains it: a worker takes a trial, keeps its heartbeat and listens for
 * orders; the training writes what it finds to the store by itself, under its claim's attempt.
 */
import type { Claim, Orders, StudyRow, StudyStore } from "./study.ts";

export interface TrialWork {
  readonly study: StudyRow;
  readonly claim: Claim;
  readonly store: StudyStore;
  /** Aborted with the orders as its reason: finish the step, save, hand back ("pause"); or leave at once. */
  readonly stop: AbortSignal & { readonly reason: Exclude<Orders, "go on"> | undefined };
  /** Which of the machine's devices, from 0. */
  readonly device: number;
}

/** `complete` and `rung` are in the store, `handed back` and `failed` too; `lost`: another worker has the trial. */
export type TrialEnd = "complete" | "rung" | "handed back" | "failed" | "lost";

/** Trains one trial to its next end. Never throws for what is the trial's fault. */
export type TrainTrial = (work: TrialWork) => Promise<TrialEnd>;
