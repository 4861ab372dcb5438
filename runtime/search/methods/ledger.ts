/**
 * The state of a study's trials, worked out from its journal: decisions say what was begun, carried on or ended;
 * observations what came of it; and which are under way is told.
 *
 * Nothing else is looked at, no clock and no worker, so that a decision made again from the journal is the same.
 */
import { createHash } from "node:crypto";
import type { Search } from "../../../compiler/search/search.ts";
import { trialIdOf } from "../store/ids.ts";
import type { Decision, ObservationRow, Phase, Proposal, TrialResult, TrialRow } from "../study.ts";

/** What decisions are made from. Read the trials before the observations: then a trial that ends between the two has ended. */
export interface StudyKnown {
  /** Id of the study. */
  readonly study: string;
  /** Of the trials only which are under way matters: those that wait or run. */
  readonly trials: readonly Pick<TrialRow, "id" | "state">[];
  readonly observations: readonly ObservationRow[];
  readonly decisions: readonly Decision[];
  /** What the super-network made of candidates, by `Candidate.index`, in the metric's own unit; it counts once that has ended. */
  readonly scores?: ReadonlyMap<number, number> | undefined;
}

export interface LedgerTrial {
  readonly id: string;
  /** `Candidate.index`. */
  readonly candidate: number;
  readonly phase: Phase;
  readonly replicate: number;
  /** Epochs it trains to, or has trained to. */
  readonly goal: number;
  /** `paused`: behind a rung. `failed`: it ended without a value, by its own fault or a person's will. */
  readonly state: "pending" | "paused" | "complete" | "failed" | "stopped";
  /** Values by epochs, rising. */
  readonly values: ReadonlyMap<number, number>;
}

/** The scores of a study's super-network among its results, if it has any. */
export function scoresAmong(results: ReadonlyMap<string, TrialResult>): ReadonlyMap<number, number> | undefined {
  for (const { scores } of results.values())
    if (scores !== undefined) return new Map(Object.entries(scores).map(([index, score]) => [Number(index), score]));
  return undefined;
}

/** Phases that share seeds: their trials of one replicate are paired. */
type SeedGroup = "search" | "confirm" | "final";

export function groupOf(phase: Phase): SeedGroup {
  return phase === "confirm" || phase === "final" ? phase : "search";
}

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");

/**
 * The seed of a training: 32 bits, a function of the study's seed, the group of phases and the replicate, and so the same
 * for every candidate. The two highest bits are the group's, so that confirming and final seeds are none of those before;
 * within a group, a seed that an earlier replicate has is drawn again.
 */
export function trialSeed(studySeed: number, phase: Phase, replicate: number): number {
  const group = groupOf(phase);
  const high = ["search", "confirm", "final"].indexOf(group) * 2 ** 30;
  const seen = new Set<number>();
  for (let each = 0; ; each++) {
    let seed = -1;
    for (let draw = 0; seed < 0 || seen.has(seed); draw++)
      seed = Number.parseInt(sha256(`${studySeed}\n${group}\n${each}\n${draw}`).slice(0, 8), 16) % 2 ** 30;
    if (each === replicate) return high + seed;
    seen.add(seed);
  }
}

type Begin = Extract<Proposal, { kind: "begin" }>;

interface Begun {
  readonly id: string;
  readonly begin: Begin;
  goal: number;
  stopped: boolean;
}

/** The trials of a study so far, in the order in which they were begun. */
export function ledgerOf(search: Search, known: StudyKnown): readonly LedgerTrial[] {
  const begun = new Map<string, Begun>();
  for (const { proposals } of known.decisions)
    for (const proposal of proposals) {
      if (proposal.kind === "begin") {
        const hash = search.space.candidates[proposal.candidate]?.hash ?? "";
        const id = trialIdOf(known.study, hash, proposal.phase, proposal.replicate);
        begun.set(id, { id, begin: proposal, goal: proposal.epochs, stopped: false });
        continue;
      }
      const trial = begun.get(proposal.trial);
      if (trial === undefined) continue;
      if (proposal.kind === "promote") trial.goal = proposal.epochs;
      else trial.stopped = true;
    }
  const values = new Map<string, Map<number, number>>();
  for (const { trial, epochs, value } of known.observations) {
    if (value === undefined) continue;
    const own = values.get(trial) ?? new Map<number, number>();
    values.set(trial, own.set(epochs, value));
  }
  const pending = pendingOf(known);
  return [...begun.values()].map(({ id, begin, goal, stopped }) => {
    const own = new Map([...(values.get(id) ?? [])].sort(([a], [b]) => a - b));
    const { candidate, phase, replicate } = begin;
    const last = phase === "prior" || goal === search.epochs;
    const state = stateOf(own.has(goal), last, stopped, pending.has(id));
    return { id, candidate, phase, replicate, goal, state, values: own };
  });
}

function stateOf(reached: boolean, full: boolean, stopped: boolean, pending: boolean): LedgerTrial["state"] {
  if (reached && full) return "complete";
  if (stopped) return "stopped";
  if (reached) return "paused";
  return pending ? "pending" : "failed";
}

/** Trials that wait or run. */
export function pendingOf({ trials }: StudyKnown): ReadonlySet<string> {
  return new Set(trials.filter(({ state }) => state === "waiting" || state === "running").map(({ id }) => id));
}

/** The rows that a decision adds to the store; `known` is what it was made from. */
export function trialRowsOf(search: Search, known: StudyKnown, decision: Decision): readonly TrialRow[] {
  let number = known.decisions.reduce(
    (sum, { proposals }) => sum + proposals.filter(({ kind }) => kind === "begin").length,
    0,
  );
  return decision.proposals.flatMap((proposal) => {
    if (proposal.kind !== "begin") return [];
    const hash = search.space.candidates[proposal.candidate]?.hash ?? "";
    number++;
    return [
      {
        id: trialIdOf(known.study, hash, proposal.phase, proposal.replicate),
        number,
        candidate: hash,
        phase: proposal.phase,
        replicate: proposal.replicate,
        seed: trialSeed(search.seed, proposal.phase, proposal.replicate),
        epochs: proposal.epochs,
        state: "waiting" as const,
        attempt: 0,
        fruitless: 0,
        worker: undefined,
        heartbeat: undefined,
        error: undefined,
        started: undefined,
        ended: undefined,
      },
    ];
  });
}
