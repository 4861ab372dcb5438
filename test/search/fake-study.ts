/**
 * A study that never was: 32 placements over five positions whose effects are known, searched, confirmed and trained on
 * fresh seeds. Everything is a function of the options, so a test can compute by itself what a report must say.
 */
import type { Candidate, Factor, Search } from "../../compiler/search/search.ts";
import { randomOf } from "../../runtime/data/random.ts";
import type { Interval } from "../../runtime/metrics/intervals.ts";
import { metricValue } from "../../runtime/metrics/scores.ts";
import type { Findings } from "../../runtime/search/report/model.ts";
import type { StudyData } from "../../runtime/search/report/study-data.ts";
import type {
  Decision,
  MetricPoint,
  ObservationRow,
  Phase,
  Proposal,
  TrialResult,
  TrialRow,
  TrialState,
} from "../../runtime/search/study.ts";
import type { Predictions } from "../../runtime/train/predictions.ts";

export const POSITIONS: readonly string[] = ["conv1", "conv2", "conv3", "conv4", "conv5"];
const BASE = 0.7;
/** What each position adds by itself. */
export const EFFECTS: readonly number[] = [-0.004, 0.002, 0.022, 0.016, 0.004];
/** What conv3 and conv4 lose where both are there. */
export const PAIR = -0.008;
const FULL = 27;
const RUNGS: readonly number[] = [3, 9];
const START = Date.UTC(2026, 10, 24, 9, 0, 0);
const HASHES = "0123456789abcdef";

/** Sixty-four hexadecimal digits that differ with the words. */
function hashOf(...words: readonly (string | number)[]): string {
  const random = randomOf(7, ...words);
  return Array.from({ length: 64 }, () => HASHES[Math.floor(16 * random())]).join("");
}

/** The true score of a placement. */
export function truth(levels: readonly number[]): number {
  const placed = EFFECTS.reduce((sum, effect, k) => sum + effect * (levels[k] ?? 0), BASE);
  return placed + PAIR * (levels[2] ?? 0) * (levels[3] ?? 0);
}

export const FACTORS: readonly Factor[] = [
  ...POSITIONS.map(
    (name): Factor => ({
      name: `spots.${name}`,
      kind: "member",
      optional: true,
      levels: ["", `@${name}`],
      values: undefined,
    }),
  ),
  { name: "joint", kind: "category", optional: true, levels: ["", "STIA(reduction={4, 8})"], values: undefined },
  { name: "joint.reduction", kind: "ordinal", optional: true, levels: ["", "4"], values: [0, 4] },
];

const CANDIDATES: readonly Candidate[] = Array.from({ length: 32 }, (_, index) => {
  const members = POSITIONS.map((_, k) => (index >> (4 - k)) & 1);
  const placed = POSITIONS.filter((_, k) => members[k] === 1);
  const joint = placed.length > 0 ? 1 : 0;
  return {
    index,
    levels: [...members, joint, joint],
    label: joint === 0 ? "none" : `joint=STIA(reduction=4), spots={${placed.map((name) => `@${name}`).join(", ")}}`,
    hash: hashOf("candidate", index),
    costs: {
      params: 1_240_000 + members.reduce((sum, on, k) => sum + on * 2 * (16 << k) ** 2, 0),
      flops: 812_000_000 + members.reduce((sum, on, k) => sum + on * 9_000_000 * (5 - k), 0),
      memory: 6_000_000 + 400_000 * placed.length,
    },
    refused:
      members[0] === 1 && members[1] === 1 && members[2] === 1
        ? "`memory(model) <= 7MB` does not hold: 7200000 and 7000000"
        : undefined,
  };
});

export const byMembers = (dots: string): number => Number.parseInt(dots.replaceAll("○", "0").replaceAll("●", "1"), 2);
export const NONE: number = byMembers("○○○○○");
export const ALL: number = byMembers("●●●●●");

export interface FakeOptions {
  readonly name?: string;
  /** Ended, or in the middle of the search. */
  readonly state?: "complete" | "running";
  readonly note?: string;
  readonly minimize?: boolean;
  /** Whether the parameters are an objective too; they are unless it is said. */
  readonly costs?: boolean;
  /** Standard deviation of the noise that placements with one seed share, and of what they do not. */
  readonly shared?: number;
  readonly own?: number;
}

export function fakeStudy(options: FakeOptions = {}): StudyData {
  const { state = "complete", note = "SYNTHETIC: bars that drift; seed 0", shared = 0.006, own = 0.003 } = options;
  const metric = options.minimize === true ? "loss" : "uar";
  const candidates = CANDIDATES.map((one) => (one.index === ALL ? { ...one, refused: undefined } : one));
  const search: Search = {
    name: options.name ?? "Placement",
    space: { factors: FACTORS, candidates, points: 33, none: NONE, all: ALL },
    objectives: [
      { kind: "metric", goal: options.minimize === true ? "minimize" : "maximize", metric: `val.${metric}` },
      ...(options.costs === false ? [] : [{ kind: "cost", goal: "minimize", cost: "params" } as const]),
    ],
    requirements: ["memory(model) <= 7MB"],
    latencyLimit: undefined,
    method: { kind: "gp" },
    spend: 30,
    replicates: { search: 1, confirm: 3, final: 5 },
    rungs: RUNGS,
    epochs: FULL,
    seed: 20261123,
    starts: [],
    randomBaseline: true,
  };
  const normal = (...words: readonly (string | number)[]): number => {
    const random = randomOf(11, ...words);
    return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  };
  const trials: TrialRow[] = [];
  const decisions: Decision[] = [];
  const observations: ObservationRow[] = [];
  const results: Record<string, TrialResult> = {};
  const metrics: Record<string, readonly MetricPoint[]> = {};
  const predictions: Record<string, Predictions> = {};
  let clock = START;

  const scoreOf = (candidate: Candidate, seed: number, side: string): number => {
    const noise = shared * normal("seed", seed, side) + own * normal("own", seed, candidate.index, side);
    const score = truth(candidate.levels) + noise;
    return options.minimize === true ? 2 * (1 - score) : score;
  };
  const predict = (candidate: Candidate, seed: number, score: number): Predictions => {
    const clips = 320;
    return {
      header: {
        format: "netc-predictions",
        version: 1,
        run: `trial-${seed}`,
        model: "Placement",
        graphHash: candidate.hash,
        side: "test",
        step: 1000,
        seed,
        fold: "fold 0",
        manifestHash: hashOf("data"),
        note,
        classes: ["agree", "differ"],
        segments: 1,
        crops: 1,
      },
      clips: Array.from({ length: clips }, (_, k) => {
        // How hard a clip is goes with the clip, so that models err on the same ones.
        const hard = (((k * 97) % clips) + 0.5) / clips;
        const right = hard < score + 0.01 * normal("clip", k, candidate.index);
        const truth = k % 2;
        const own = right ? 0.8 : 0.2;
        return {
          path: `subject${k % 16}/${k}.mkv`,
          subject: `subject${k % 16}`,
          class: truth === 0 ? "agree" : "differ",
          probabilities: truth === 0 ? [own, 1 - own] : [1 - own, own],
          failure: undefined,
        };
      }),
    };
  };

  /** Begins a trial and brings it to `epochs`. */
  const train = (
    index: number,
    phase: Phase,
    replicate: number,
    ending: { readonly epochs?: number; readonly state?: TrialState; readonly error?: string } = {},
  ): Proposal => {
    const candidate = candidates[index];
    if (candidate === undefined) throw new RangeError(`there is no candidate ${index}`);
    const { epochs = FULL, state: last = "complete", error } = ending;
    const number = trials.length + 1;
    const id = hashOf("trial", number);
    const seed = Math.floor(
      randomOf(3, phase === "final" || phase === "confirm" ? phase : "search", replicate)() * 2 ** 31,
    );
    const end = scoreOf(candidate, seed, "val");
    const at = (epoch: number): number => {
      const rise = 1 - Math.exp(-epoch / 6);
      const floor = options.minimize === true ? 1.4 : 0.5;
      return floor + (end - floor) * rise + (epoch < FULL ? 0.012 * normal("epoch", number, epoch) * (1.1 - rise) : 0);
    };
    const started = clock;
    if (last === "complete" || last === "paused") clock += epochs * 11_000;
    const waiting = last === "waiting";
    trials.push({
      id,
      number,
      candidate: candidate.hash,
      phase,
      replicate,
      seed,
      epochs: last === "complete" || last === "running" ? FULL : epochs,
      state: last,
      attempt: waiting ? 0 : error === undefined ? 1 : 3,
      fruitless: error === undefined ? 0 : 3,
      worker: last === "running" ? `gpu${number % 4}` : undefined,
      heartbeat: last === "running" ? clock : undefined,
      error,
      started: waiting ? undefined : started,
      ended: last === "complete" || last === "failed" ? clock : undefined,
    });
    if (!waiting)
      metrics[id] = Array.from({ length: epochs }, (_, k) => [
        { name: `val.${metric}`, epoch: k + 1, value: at(k + 1) },
        { name: "train.loss", epoch: k + 1, value: 0.2 + Math.exp(-(k + 1) / 8) },
      ]).flat();
    for (const rung of [...(phase === "search" || phase === "random" ? RUNGS : []), FULL])
      if (rung <= epochs && (last === "complete" || last === "paused" || rung < epochs))
        observations.push({
          sequence: observations.length + 1,
          trial: id,
          candidate: candidate.hash,
          phase,
          replicate,
          epochs: rung,
          value: rung === FULL ? end : at(rung),
        });
    if (last === "failed")
      observations.push({
        sequence: observations.length + 1,
        trial: id,
        candidate: candidate.hash,
        phase,
        replicate,
        epochs,
        value: undefined,
      });
    if (last === "complete") {
      const told = phase === "final" ? scoreOf(candidate, seed, "test") : undefined;
      const said =
        told === undefined ? undefined : predict(candidate, seed, options.minimize === true ? 1 - told / 2 : told);
      // A table's figure is of the very predictions that are compared over people.
      const test =
        said === undefined || options.minimize === true
          ? told
          : metricValue({ kind: "uar" }, said.clips, said.header.classes);
      const members = candidate.levels.slice(0, 5).reduce((sum, on) => sum + on, 0);
      const milliseconds = 10 + 0.6 * members + 0.01 * (number % 7);
      results[id] = {
        metrics: { [`val.${metric}`]: end, ...(test === undefined ? {} : { [`test.${metric}`]: test }) },
        seconds: epochs * 11,
        overheadSeconds: 0.3,
        latency: phase === "final" && replicate === 0 ? milliseconds : undefined,
        ...(phase === "final" && replicate === 0
          ? {
              measured: {
                median: milliseconds,
                low: 0.99 * milliseconds,
                high: 1.02 * milliseconds,
                runs: 40,
                device: "NVIDIA H100 80GB HBM3 (Vulkan)",
                busy: 0.01,
              },
            }
          : {}),
        weights: hashOf("weights", number),
        predictions: test === undefined ? {} : { test: hashOf("predictions", number) },
        kernels: { hits: number === 1 ? 3 : 38, misses: number === 1 ? 37 : 2 },
        device: "netc 0.1.0, NVIDIA H100 80GB HBM3 (Vulkan)",
      };
      if (said !== undefined) predictions[id] = said;
    }
    return {
      kind: "begin",
      candidate: index,
      phase,
      replicate,
      epochs: phase === "search" ? (RUNGS[0] ?? FULL) : FULL,
    };
  };
  const decide = (method: string, reason: string, proposals: readonly Proposal[]): void => {
    decisions.push({
      sequence: decisions.length + 1,
      method,
      seen: observations.length,
      pending: [],
      proposals,
      reason,
    });
  };

  decide("baseline", "without and with all attention", [train(NONE, "baseline", 0), train(ALL, "baseline", 0)]);
  const drawn = ["●○○○○", "○○●○○", "○●○○●", "●○○●○", "○○○○●", "○●●●○"].map(byMembers);
  decide(
    "random",
    "the first of a space at random",
    drawn.map((index) => train(index, "screen", 0)),
  );
  const searched = [
    "○○○●○",
    "○○●●○",
    "○○●○●",
    "○●●○○",
    "○○●●●",
    "○●○●○",
    "○●●○●",
    "○○○●●",
    "●○●○○",
    "○●●●●",
    "●○●●○",
    "●●○○○",
  ];
  const seen = state === "running" ? 7 : searched.length;
  for (const [k, dots] of searched.slice(0, seen).entries()) {
    const left = dots === "●○●○○" || dots === "●●○○○" ? 3 : dots === "○●○●○" ? 9 : undefined;
    const proposal = train(byMembers(dots), "search", 0, left === undefined ? {} : { epochs: left, state: "paused" });
    decide("gp", `mean + 2 sd is highest at ${dots}`, [proposal]);
    const last = trials.at(-1);
    if (left !== undefined && last !== undefined)
      decide("rungs", `rank ${k} of ${k + 1} after ${left} epochs`, [{ kind: "stop", trial: last.id }]);
  }
  if (state === "running") {
    decide("gp", "upper confidence", [
      train(byMembers("○○○●●"), "search", 0, { epochs: 7, state: "running" }),
      train(byMembers("●○●○○"), "search", 0, { epochs: 2, state: "running" }),
      train(byMembers("●●●○○"), "search", 0, { epochs: 4, state: "failed", error: "the device was lost" }),
      train(byMembers("○●●●●"), "search", 0, { state: "waiting", epochs: 3 }),
    ]);
  } else {
    const random = ["●○○○●", "○○●○○", "●●○●○", "○●○○○", "○●○●●", "○○○○●", "●○●○●", "○●●○○"].map(byMembers);
    decide(
      "random",
      "search at random with an equal budget",
      random.map((index) => train(index, "random", 1)),
    );
    const leaders = ["○○●●○", "○○●●●", "○●●●○", "○○●○●"].map(byMembers);
    decide(
      "confirm",
      "the leaders again",
      leaders.flatMap((index) => [0, 1, 2].map((k) => train(index, "confirm", k))),
    );
    const drawnAgain = observations.filter(
      ({ phase, epochs }) => (phase === "random" || phase === "screen") && epochs === FULL,
    );
    const sign = options.minimize === true ? -1 : 1;
    const best = drawnAgain.reduce((a, b) => (sign * (b.value ?? 0) > sign * (a.value ?? 0) ? b : a));
    const bestRandom = candidates.findIndex(({ hash }) => hash === best.candidate);
    const others = ["○○●○○", "○○○●○", "○●●●●"].map(byMembers).filter((index) => index !== bestRandom);
    const finals = [...new Set([...leaders.slice(0, 3), NONE, ALL, bestRandom, ...others])];
    decide(
      "final",
      "on fresh seeds",
      finals.flatMap((index) => [0, 1, 2, 3, 4].map((k) => train(index, "final", k))),
    );
  }
  return {
    study: {
      id: hashOf("study", search.name).slice(0, 12),
      name: search.name,
      search,
      searchHash: hashOf("search"),
      dataHash: hashOf("data"),
      sources: [{ path: "examples/placement.net", text: "search Placement { … }" }],
      data: "runs/association",
      netc: "0.1.0",
      state: state === "complete" ? "complete" : "running",
      created: START,
    },
    trials,
    decisions,
    observations,
    results,
    metrics,
    predictions,
    note,
  };
}

/** What a model would have found in such a study, with the true effects as its values. */
export function fakeFindings(): Findings {
  const half = 0.0042;
  const around = (value: number, half: number): Interval => ({ value, low: value - half, high: value + half });
  const pairs = POSITIONS.flatMap((_, first) =>
    POSITIONS.slice(first + 1).map((_, k) => {
      const second = first + 1 + k;
      return {
        first,
        second,
        effect: around(first === 2 && second === 3 ? PAIR : 0.0009 * (((first * 5 + second) % 3) - 1), 0.0045),
      };
    }),
  );
  return {
    leaders: [
      { candidate: byMembers("○○●●●"), expected: around(0.7325, 0.0061) },
      { candidate: byMembers("○○●●○"), expected: around(0.7301, 0.0059) },
      { candidate: NONE, expected: around(0.7002, 0.0058) },
    ],
    noise: { deviation: { value: 0.0067, low: 0.0051, high: 0.0098 }, trainings: 20, candidates: 6, pairing: 0.8 },
    ranks: [
      { from: 3, to: 27, tau: { value: 0.41, low: 0.05, high: 0.68 }, trials: 17 },
      { from: 9, to: 27, tau: { value: 0.73, low: 0.47, high: 0.88 }, trials: 18 },
    ],
    importance: {
      contributions: POSITIONS.map((name, factor) => ({
        factor,
        name,
        shapley: around((EFFECTS[factor] ?? 0) + (factor === 2 || factor === 3 ? PAIR / 2 : 0), half),
        on: { mean: 0.715 + (EFFECTS[factor] ?? 0) / 2, trainings: 14 + factor },
        off: { mean: 0.715 - (EFFECTS[factor] ?? 0) / 2, trainings: 18 - factor },
      })),
      pairs,
      options: [],
      variance: {
        main: POSITIONS.map((name, factor) => ({ factor, name, share: [0.02, 0.01, 0.55, 0.3, 0.04][factor] ?? 0 })),
        pairs: pairs.map(({ first, second }) => ({ first, second, share: first === 2 && second === 3 ? 0.05 : 0.001 })),
        rest: 0.021,
        deviation: 0.0142,
        points: 64,
        exact: true,
      },
      none: 0.7002,
      all: 0.7325,
      method: "exact Shapley values of the Gaussian process's mean; 95 % posterior intervals",
      notes: [],
    },
    band: Array.from({ length: 30 }, (_, k) => ({
      spent: k + 1,
      expected: {
        value: 0.712 + 0.0062 * Math.log1p(k),
        low: 0.703 + 0.0065 * Math.log1p(k),
        high: 0.726 + 0.0037 * Math.log1p(k),
      },
      worth: around(0.708 + 0.0058 * Math.log1p(k), 0.004),
    })),
  };
}
