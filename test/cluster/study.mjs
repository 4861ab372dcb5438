/**
 * The study that the cluster tests run, and who decides in it: trials one after the other, some of them over a rung. What
 * is next is a pure function of what the store holds, so a coordinator may be killed and begun again at any moment.
 */
import { createHash } from "node:crypto";
import { FULL_EPOCHS, RUNG_EPOCHS } from "./training.mjs";

export const NETC = "0.1.0";
const hash = (...parts) => createHash("sha256").update(parts.join("\n")).digest("hex");

/** A study whose candidates are so many numbers. */
export function studyOf(trials, seed) {
  const candidates = Array.from({ length: trials }, (_, index) => ({
    index,
    levels: [index],
    label: `place=${index}`,
    hash: hash("candidate", index),
    costs: { params: 1, flops: 1, memory: 1 },
    refused: undefined,
  }));
  const factor = {
    name: "place",
    kind: "category",
    optional: false,
    levels: candidates.map(({ index }) => String(index)),
    values: undefined,
  };
  const search = {
    name: "cluster",
    space: { factors: [factor], candidates, points: trials, none: undefined, all: undefined },
    objectives: [{ kind: "metric", goal: "maximize", metric: "val.uar" }],
    requirements: [],
    method: { kind: "factorial" },
    spend: trials,
    replicates: { search: 1, confirm: 0, final: 0 },
    rungs: [RUNG_EPOCHS],
    epochs: FULL_EPOCHS,
    seed,
    starts: [],
    randomBaseline: false,
  };
  return {
    id: hash("study", seed, trials),
    name: "cluster",
    search,
    searchHash: hash("search", seed, trials),
    dataHash: hash("data"),
    sources: [],
    data: "none",
    netc: NETC,
    state: "running",
  };
}

export function trialOf(study, number) {
  const candidate = study.search.space.candidates[number - 1];
  return {
    id: hash(study.id, candidate.hash, "search", 0),
    number,
    candidate: candidate.hash,
    phase: "search",
    replicate: 0,
    seed: 1000 * study.search.seed + number,
    // Every third waits behind a rung first.
    epochs: number % 3 === 0 ? RUNG_EPOCHS : FULL_EPOCHS,
    state: "waiting",
    attempt: 0,
    fruitless: 0,
    worker: undefined,
    heartbeat: undefined,
    error: undefined,
    started: undefined,
    ended: undefined,
  };
}

/** Keeps `open` trials under way, carries those behind their rung on; undefined: wait; "finished". */
export function nextOf(study, trials, decisions, seen, open) {
  const total = study.search.space.candidates.length;
  if (trials.length === total && trials.every(({ state }) => state === "complete")) return "finished";
  const paused = trials.filter(({ state }) => state === "paused");
  const pending = trials.filter(({ state }) => state === "waiting" || state === "running");
  const room = Math.max(0, Math.min(open - pending.length - paused.length, total - trials.length));
  const begun = Array.from({ length: room }, (_, index) => trialOf(study, trials.length + 1 + index));
  if (paused.length === 0 && begun.length === 0) return undefined;
  const decision = {
    sequence: decisions + 1,
    method: "in turn",
    seen,
    pending: pending.map(({ id }) => id),
    proposals: [
      ...paused.map(({ id }) => ({ kind: "promote", trial: id, epochs: FULL_EPOCHS })),
      ...begun.map(({ number, epochs }) => ({
        kind: "begin",
        candidate: number - 1,
        phase: "search",
        replicate: 0,
        epochs,
      })),
    ],
    reason: "the next in turn",
  };
  return { decision, trials: begun };
}
