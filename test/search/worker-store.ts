/**
 * A study store in memory for the tests of the worker: the part of the contract that a worker meets, and a switch that
 * takes the store out of reach. Time is the test's.
 */
import { createHash } from "node:crypto";
import type { Claim, Orders, StudyRow, StudyStore, TrialResult, TrialRow } from "../../runtime/search/study.ts";
import { MOST_FRUITLESS } from "../../runtime/search/study.ts";

export class Unreachable extends Error {
  readonly kind = "unreachable";
  constructor() {
    super("nobody answers");
    this.name = "StoreError";
  }
}

export interface MemoryStore extends StudyStore {
  /** While true every question fails. */
  down: boolean;
  /** The next claim is written, but its answer is lost. */
  loseNextClaim: boolean;
  /** Milliseconds that the store's clock is ahead. */
  ahead: number;
  readonly rows: Map<string, TrialRow>;
  readonly checkpoints: Map<string, string>;
  readonly done: Map<string, TrialResult>;
  studyRow: StudyRow;
}

export function trialRow(number: number, extra: Partial<TrialRow> = {}): TrialRow {
  return {
    id: createHash("sha256").update(`trial ${number}`).digest("hex"),
    number,
    candidate: `candidate ${number}`,
    phase: "search",
    replicate: 0,
    seed: number,
    epochs: 4,
    state: "waiting",
    attempt: 0,
    fruitless: 0,
    worker: undefined,
    heartbeat: undefined,
    error: undefined,
    started: undefined,
    ended: undefined,
    ...extra,
  };
}

export function studyRow(extra: Partial<StudyRow> = {}): StudyRow {
  return {
    id: "study-1",
    name: "placement",
    search: {
      name: "placement",
      space: { factors: [], candidates: [], points: 0, none: undefined, all: undefined },
      objectives: [],
      requirements: [],
      method: { kind: "random" },
      spend: 4,
      replicates: { search: 1, confirm: 0, final: 0 },
      rungs: [],
      epochs: 4,
      seed: 1,
      starts: [],
      randomBaseline: false,
    },
    searchHash: "s",
    dataHash: "d",
    sources: [],
    data: "data",
    netc: "0.1.0",
    state: "running",
    created: 0,
    ...extra,
  };
}

export function memoryStore(trials: readonly TrialRow[], study: StudyRow = studyRow()): MemoryStore {
  const rows = new Map(trials.map((row) => [row.id, row]));
  const checkpoints = new Map<string, string>();
  const done = new Map<string, TrialResult>();
  const now = (): number => Date.now() + store.ahead;
  const held = (id: string, attempt: number): TrialRow | undefined => {
    if (store.down) throw new Unreachable();
    const row = rows.get(id);
    return row?.state === "running" && row.attempt === attempt ? row : undefined;
  };
  const put = (row: TrialRow, change: Partial<TrialRow>): true => {
    rows.set(row.id, { ...row, ...change });
    return true;
  };
  const unused = (): Promise<never> => Promise.reject(new Error("a worker does not ask this"));
  const store: MemoryStore = {
    address: "memory:",
    down: false,
    loseNextClaim: false,
    ahead: 0,
    rows,
    checkpoints,
    done,
    studyRow: study,
    async study() {
      if (store.down) throw new Unreachable();
      return store.studyRow;
    },
    async studyState() {
      if (store.down) throw new Unreachable();
      return store.studyRow.state;
    },
    async trials() {
      if (store.down) throw new Unreachable();
      return [...rows.values()];
    },
    async trial(id) {
      if (store.down) throw new Unreachable();
      return rows.get(id);
    },
    async claim(_study, worker, id): Promise<Claim | undefined> {
      if (store.down) throw new Unreachable();
      if (store.studyRow.state !== "running") return undefined;
      const row = [...rows.values()].find((row) => row.state === "waiting" && (id === undefined || row.id === id));
      if (row === undefined) return undefined;
      const attempt = row.attempt + 1;
      const taken: TrialRow = { ...row, state: "running", attempt, worker, heartbeat: now() };
      rows.set(row.id, taken);
      if (store.loseNextClaim) {
        store.loseNextClaim = false;
        throw new Unreachable();
      }
      return { trial: taken, attempt, checkpoint: checkpoints.get(row.id) };
    },
    async heartbeat(id, attempt): Promise<Orders> {
      const row = held(id, attempt);
      if (row === undefined) {
        const other = rows.get(id);
        return other?.state === "cancelled" && other.attempt === attempt ? "cancel" : "lost";
      }
      put(row, { heartbeat: now() });
      return store.studyRow.state === "paused" ? "pause" : "go on";
    },
    async reclaim(_study, seconds) {
      if (store.down) throw new Unreachable();
      const gone = [...rows.values()].filter(
        (row) => row.state === "running" && (row.heartbeat ?? 0) < now() - 1000 * seconds,
      );
      for (const row of gone) put(row, { state: "waiting", fruitless: row.fruitless + 1 });
      return gone.map((row) => row.id);
    },
    async saveProgress(id, attempt, _epochs, checkpoint) {
      const row = held(id, attempt);
      if (row === undefined) return false;
      checkpoints.set(id, checkpoint);
      return put(row, { fruitless: 0 });
    },
    async commit(id, attempt, _value, result) {
      const row = held(id, attempt);
      if (row === undefined) return false;
      done.set(id, result);
      return put(row, { state: "complete" });
    },
    async fail(id, attempt, error) {
      const row = held(id, attempt);
      if (row === undefined) return "lost";
      const fruitless = row.fruitless + 1;
      const state = fruitless > MOST_FRUITLESS ? "failed" : "waiting";
      put(row, { state, fruitless, error });
      return state;
    },
    async release(id, attempt) {
      const row = held(id, attempt);
      return row === undefined ? false : put(row, { state: "waiting", worker: undefined });
    },
    async cancel(id) {
      const row = rows.get(id);
      return row === undefined ? false : put(row, { state: "cancelled" });
    },
    createStudy: unused,
    studies: unused,
    setStudyState: unused,
    lead: unused,
    decide: unused,
    decisions: unused,
    addMetrics: unused,
    metrics: unused,
    endRung: unused,
    rungs: unused,
    results: unused,
    retry: unused,
    observations: unused,
    putObject: unused,
    getObject: unused,
    collectGarbage: unused,
    verify: unused,
    close: () => Promise.resolve(),
  };
  return store;
}
