/** Studies without trainings: a search over a response surface, and a loop that stands for coordinator and workers. */
import type { Candidate, Method, Search } from "../../compiler/search/search.ts";
import { trialRowsOf } from "../../runtime/search/methods/ledger.ts";
import { planOf } from "../../runtime/search/methods/plan.ts";
import { nextDecision, type StudyKnown } from "../../runtime/search/methods/schedule.ts";
import type { Decision, ObservationRow, TrialRow } from "../../runtime/search/study.ts";
import { generator, normals, subsetsOf } from "../tools/surfaces.mjs";

export interface SearchOptions {
  readonly members: number;
  readonly spend: number;
  readonly method?: Method;
  readonly rungs?: readonly number[];
  readonly epochs?: number;
  readonly seeds?: readonly [search: number, confirm: number, final: number];
  readonly seed?: number;
  readonly refused?: (candidate: number) => boolean;
  readonly randomBaseline?: boolean;
  readonly costs?: boolean;
  readonly goal?: "maximize" | "minimize";
  readonly prior?: Search["prior"];
}

/** A search over all subsets of members; the cost of a member is its number. */
export function searchOver(options: SearchOptions): Search {
  const { members, spend, seeds = [1, 2, 3], epochs = 9, refused = () => false } = options;
  const space = subsetsOf(members);
  const candidates = Array.from({ length: space.count }, (_, index): Candidate => {
    const levels = Array.from(space.levels.subarray(index * members, (index + 1) * members));
    const params = levels.reduce((sum, level, member) => sum + level * (member + 1), 100);
    return {
      index,
      levels,
      label: index === 0 ? "none" : `spots=${index.toString(2)}`,
      hash: `candidate-${index}`,
      costs: { params, flops: 2 * params, memory: 4 * params },
      refused: refused(index) ? "count(spots) <= 3 is false" : undefined,
    };
  });
  return {
    name: "Placement",
    space: { factors: space.factors, candidates, points: space.count, none: 0, all: space.count - 1 },
    objectives: [
      { kind: "metric", goal: options.goal ?? "maximize", metric: "val.uar" },
      ...(options.costs === true ? [{ kind: "cost", goal: "minimize", cost: "params" } as const] : []),
    ],
    requirements: [],
    latencyLimit: undefined,
    method: options.method ?? { kind: "auto" },
    ...(options.prior === undefined ? {} : { prior: options.prior }),
    spend,
    replicates: { search: seeds[0], confirm: seeds[1], final: seeds[2] },
    rungs: options.rungs ?? [],
    epochs,
    seed: options.seed ?? 1,
    starts: [],
    randomBaseline: options.randomBaseline ?? false,
  };
}

export interface World {
  /** What a trial shows after so many epochs; undefined: it fails. */
  readonly value: (candidate: number, epochs: number, trial: TrialRow) => number | undefined;
  /** What a super-network makes of a candidate. */
  readonly score?: (candidate: number) => number;
  readonly workers: number;
  /** Seed of the order in which trials end. */
  readonly order: number;
}

export interface Ended {
  readonly trials: readonly TrialRow[];
  readonly known: StudyKnown;
}

/** Runs a study to its end. Workers take waiting trials in order and end in any; throws if it does not end. */
export function runWorld(search: Search, world: World, study = "study"): Ended {
  const random = generator(world.order);
  const rows = new Map<string, TrialRow>();
  const observations: ObservationRow[] = [];
  const decisions: Decision[] = [];
  const known = (): StudyKnown => ({
    study,
    trials: [...rows.values()],
    observations: [...observations],
    decisions: [...decisions],
    scores,
  });
  let scores: StudyKnown["scores"];
  const inState = (state: TrialRow["state"]): readonly TrialRow[] =>
    [...rows.values()].filter((row) => row.state === state);
  const set = (row: TrialRow, change: Partial<TrialRow>): unknown => rows.set(row.id, { ...row, ...change });
  for (let turn = 0; turn < 20_000; turn++) {
    const idle = world.workers - inState("running").length;
    const [first] = inState("waiting");
    if (idle > 0 && first !== undefined) {
      set(first, { state: "running" });
      continue;
    }
    if (idle > 0) {
      const next = nextDecision(search, known());
      if (next === "finished") return { trials: [...rows.values()], known: known() };
      if (next !== "wait") {
        const before = known();
        decisions.push(next);
        for (const row of trialRowsOf(search, before, next)) {
          if (rows.has(row.id)) throw new Error(`trial ${row.number} is there already`);
          rows.set(row.id, row);
        }
        for (const proposal of next.proposals) {
          const row = proposal.kind === "begin" ? undefined : rows.get(proposal.trial);
          if (row === undefined || proposal.kind === "begin") continue;
          if (row.state !== "paused") throw new Error(`trial ${row.number} is ${row.state}`);
          if (proposal.kind === "promote") set(row, { state: "waiting", epochs: proposal.epochs });
        }
        continue;
      }
      if (inState("running").length === 0) throw new Error("it waits for nothing");
    }
    const running = inState("running");
    const ends = running[Math.floor(random() * running.length)];
    if (ends === undefined) throw new Error("nothing runs");
    const candidate = search.space.candidates.findIndex(({ hash }) => hash === ends.candidate);
    const value = world.value(candidate, ends.epochs, ends);
    const full = ends.epochs === search.epochs || ends.phase === "prior";
    if (ends.phase === "prior" && value !== undefined)
      scores = new Map((planOf(search).prior?.scored ?? []).map((index) => [index, world.score?.(index) ?? 0]));
    observations.push({
      sequence: observations.length + 1,
      trial: ends.id,
      candidate: ends.candidate,
      phase: ends.phase,
      replicate: ends.replicate,
      epochs: ends.epochs,
      value,
    });
    set(ends, { state: value === undefined ? "failed" : full ? "complete" : "paused" });
  }
  throw new Error("the study does not end");
}

/** A surface with noise that depends on seed and candidate alone, whoever trains when; partial trainings tell less. */
export function noisyWorld(surface: ArrayLike<number>, noise: number, epochs = 9): World["value"] {
  return (candidate, ended, trial) => {
    const normal = normals(generator(trial.seed ^ (candidate * 2654435761)));
    const [seedNoise, early] = [normal(), normal()];
    const share = ended / epochs;
    return (surface[candidate] ?? 0) * share ** 0.3 + noise * seedNoise + (1 - share) * 0.5 * early;
  };
}
