/**
 * A study computed into what its report says: the record that all formats write.
 *
 * In: a study as read from its store, and what was found in its scores. Out: plain values. Pure: equal studies give equal
 * reports.
 */
import { createHash } from "node:crypto";
import type { Candidate, Method, Objective, Search } from "../../../compiler/search/search.ts";
import type { Decision, Phase, StudyRow, TrialRow, TrialState } from "../study.ts";
import { checklistOf } from "./checklist.ts";
import { findingsOf, randomTrainings } from "./findings.ts";
import type { CurveStep, Findings, ReportCandidate, ReportLatency, ReportTrial, StudyReport } from "./model.ts";
import { dotsOf, type Notation, notationOf, shortLabel, wordsOf } from "./notation.ts";
import { priorReportOf, zeroCostOf } from "./prior.ts";
import { LIMITED, type Scores, scoresOf, spentOf, type Target } from "./scores.ts";
import { isSynthetic, type StudyData } from "./study-data.ts";
import { bestRandomOf, choiceOf, subjectComparisons, tableOf } from "./table.ts";

/** Up to so many candidates, those that nobody has trained are listed too. */
const LISTED = 10_000;
/** Untried candidates and reasons that are named. */
const NAMED = 5;

export function methodText(method: Method): string {
  switch (method.kind) {
    case "auto":
      return "method by size and budget (Auto)";
    case "factorial":
      return "full factorial";
    case "gp":
      return "Gaussian process over the enumerated space";
    case "random":
      return "search at random";
    case "tpe":
      return method.multivariate ? "multivariate TPE" : "TPE";
    case "evolution":
      return `regularised evolution (population ${method.population}, tournament ${method.tournament})`;
    case "halving":
      return `successive halving (1 in ${method.eta} goes on)`;
    default:
      return method satisfies never;
  }
}

function objectiveText(objective: Objective): string {
  return `${objective.goal} ${objective.kind === "metric" ? objective.metric : objective.cost}`;
}

/** SHA-256 over the decisions in their order, one a line. */
export function journalHash(decisions: readonly Decision[]): string {
  const hash = createHash("sha256");
  for (const { sequence, method, seen, pending, proposals, reason } of decisions)
    hash.update(`${JSON.stringify([sequence, method, seen, pending, proposals, reason])}\n`);
  return hash.digest("hex");
}

/** Trials that a decision ended behind their rung. */
export function stoppedTrials(decisions: readonly Decision[]): ReadonlySet<string> {
  return new Set(
    decisions.flatMap(({ proposals }) =>
      proposals.flatMap((proposal) => (proposal.kind === "stop" ? [proposal.trial] : [])),
    ),
  );
}

/** What is known of a candidate's latency, the surest first. */
function latencyOf(
  { study: { search }, results }: StudyData,
  { index, latency }: Candidate,
  trials: readonly TrialRow[],
): ReportLatency | undefined {
  const measured = trials.flatMap(({ id }) => {
    const { measured: own, latency: median, device } = results[id] ?? {};
    if (own !== undefined) return [own];
    // As earlier studies keep it.
    return median === undefined || device === undefined
      ? []
      : [{ median, low: Number.NaN, high: Number.NaN, device, busy: 0 }];
  });
  const byDevice = new Map<string, (typeof measured)[number][]>();
  const full = measured.filter(({ low }) => !Number.isNaN(low));
  for (const one of full.length > 0 ? full : measured)
    byDevice.set(one.device, [...(byDevice.get(one.device) ?? []), one]);
  const [most] = [...byDevice].sort((a, b) => b[1].length - a[1].length || a[0].localeCompare(b[0]));
  // Of several, the one in the middle.
  const sorted = [...(most?.[1] ?? [])].sort((a, b) => a.median - b.median);
  const own = sorted[Math.floor((sorted.length - 1) / 2)];
  if (own !== undefined) {
    const { median, low, high, device, busy } = own;
    return { milliseconds: median, low, high, device, source: "table", busy };
  }
  if (latency === undefined || search.latency === undefined) return undefined;
  const { device, busy, measured: before } = search.latency;
  const timing = before.find(({ candidate }) => candidate === index);
  return {
    milliseconds: latency.milliseconds,
    low: timing?.low ?? Number.NaN,
    high: timing?.high ?? Number.NaN,
    device,
    source: latency.measured ? "before" : "predicted",
    busy,
  };
}

/** Mean norm of the gradients in the first update. */
function gradientNormOf(data: StudyData, trials: readonly TrialRow[]): number | undefined {
  const norms = trials.flatMap(({ id }) => data.results[id]?.gradientNorm ?? []);
  return norms.length === 0 ? undefined : norms.reduce((sum, norm) => sum + norm, 0) / norms.length;
}

function candidatesOf(data: StudyData, notation: Notation, scores: Scores): readonly ReportCandidate[] {
  const { space } = data.study.search;
  const listed =
    space.candidates.length <= LISTED
      ? space.candidates
      : space.candidates.filter(({ index }) => scores.tried.has(index));
  return listed.map((candidate) => {
    const { index, label, hash, levels, costs, refused } = candidate;
    const tried = scores.tried.get(index);
    return {
      index,
      label,
      short: shortLabel(notation, space, candidate),
      hash,
      dots: notation.sets.map((set) => dotsOf(set, levels, true)),
      words: wordsOf(notation, space.factors, levels),
      levels,
      costs,
      latency: latencyOf(data, candidate, tried?.trials ?? []),
      gradientNorm: gradientNormOf(data, tried?.trials ?? []),
      refused,
      trials: tried?.trials.length ?? 0,
      searched: tried?.searched ?? [],
      final: tried?.final ?? [],
    };
  });
}

function trialsOf(data: StudyData, scores: Scores): readonly ReportTrial[] {
  const indices = new Map(data.study.search.space.candidates.map(({ hash, index }) => [hash, index]));
  const stopped = stoppedTrials(data.decisions);
  return data.trials.map((trial) => {
    const result = data.results[trial.id];
    const progress = scores.progress.get(trial.id);
    return {
      number: trial.number,
      id: trial.id,
      candidate: indices.get(trial.candidate) ?? -1,
      phase: trial.phase,
      replicate: trial.replicate,
      seed: trial.seed,
      state: trial.state,
      left: stopped.has(trial.id),
      epochs: progress?.epochs ?? 0,
      asked: trial.epochs,
      // Of a super-network it is the mean of its scores, and no value of a candidate.
      value: trial.phase === "prior" ? undefined : progress?.value,
      metrics: result?.metrics ?? {},
      seconds: result?.seconds ?? 0,
      overheadSeconds: result?.overheadSeconds ?? 0,
      latency: result?.latency,
      attempts: trial.attempt,
      device: result?.device ?? "",
      error: trial.error,
      points: data.metrics[trial.id] ?? [],
    };
  });
}

/** Scores of full trainings of some phases, over what had been spent on those phases when they came. */
export function searchCurveOf(data: StudyData, target: Target, phases: readonly Phase[]): readonly CurveStep[] {
  const { epochs: full } = data.study.search;
  const numbers = new Map(data.trials.map((trial) => [trial.id, trial]));
  const reached = new Map<string, number>();
  const steps: CurveStep[] = [];
  let spent = 0;
  for (const { trial, phase, epochs, value } of data.observations) {
    if (!phases.includes(phase)) continue;
    spent += Math.max(0, epochs - (reached.get(trial) ?? 0)) / full;
    reached.set(trial, epochs);
    if (value === undefined || epochs < full || phase === "prior") continue;
    const before = steps.at(-1)?.soFar ?? value;
    const soFar = target.sign * Math.max(target.sign * before, target.sign * value);
    steps.push({ spent, trial: numbers.get(trial)?.number ?? 0, value, soFar });
  }
  return steps;
}

function reasonsOf({ space }: Search): StudyReport["space"]["reasons"] {
  const reasons = new Map<string, number>();
  for (const { refused } of space.candidates) {
    if (refused === undefined) continue;
    // Reasons differ in the value that breaks the requirement; what is asked for is the same.
    const kind = refused.replaceAll(/[\d.,]+/g, "#");
    reasons.set(kind, (reasons.get(kind) ?? 0) + 1);
  }
  const example = (kind: string): string =>
    space.candidates.find(({ refused }) => refused?.replaceAll(/[\d.,]+/g, "#") === kind)?.refused ?? kind;
  return [...reasons]
    .sort((a, b) => b[1] - a[1])
    .slice(0, NAMED)
    .map(([kind, candidates]) => ({ reason: example(kind).replaceAll("`", ""), candidates }));
}

/** Words that a shell takes as they are. */
function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** The folder that a study is done again in. */
const AGAIN = "again";

/**
 * What does the study again, from its own sources, in a store of its own; and what checks its decisions. The id of the
 * study that is done again is the same, or something has changed.
 */
function commandsOf({ id, name, search, sources, data }: StudyRow): readonly string[] {
  const given = Object.entries(search.arguments ?? {}).flatMap(([key, value]) => ["--set", `${key}=${value}`]);
  return [
    ["netc", "search", "export", id.slice(0, 12), "--sources", AGAIN],
    [
      ...["netc", "search", "run", `${AGAIN}/${sources[0]?.path ?? "search.net"}`, "--search", name, ...given],
      ...["--spend", String(search.spend), "--data", data, "--store", `${AGAIN}/studies`],
    ],
    ["netc", "search", "replay", id.slice(0, 12)],
  ].map((words) => words.map(quote).join(" "));
}

/** What does not look at scores when it proposes. */
const UNIFORM: ReadonlySet<string> = new Set(["factorial", "random"]);

const STATES: readonly TrialState[] = ["waiting", "running", "paused", "complete", "failed", "cancelled"];

/** Computes a report. */
export function reportOf(data: StudyData, findings: Findings = findingsOf(data)): StudyReport {
  const { study, trials, decisions, results } = data;
  const { search } = study;
  const { space } = search;
  const scores = scoresOf(data);
  const { target } = scores;
  const notation = notationOf(space.factors);
  const choice = choiceOf(scores, findings.leaders);
  const bestRandom = bestRandomOf(randomTrainings(data), target.sign);
  const candidates = candidatesOf(data, notation, scores);
  const latencies = new Map(
    candidates.flatMap(({ index, latency }) => (latency === undefined ? [] : [[index, latency.milliseconds] as const])),
  );
  const table = tableOf(search, notation, scores, choice, bestRandom?.candidate, latencies);
  const feasible = space.candidates.filter(({ refused }) => refused === undefined);
  const untried = feasible.filter(({ index }) => !scores.tried.has(index));
  const began = new Map<string, number>();
  for (const { method, proposals } of decisions) {
    const trials = proposals.filter(({ kind }) => kind === "begin").length;
    if (trials > 0) began.set(method, (began.get(method) ?? 0) + trials);
  }
  const stopped = stoppedTrials(decisions);
  const ended = Object.values(results);
  const times = trials.flatMap(({ started, ended }) => [started, ended]).filter((time) => time !== undefined);
  const known: Omit<StudyReport, "checklist"> = {
    ...findings,
    format: "netc-search-report",
    version: 1,
    name: study.name,
    id: study.id,
    state: study.state,
    note: data.note,
    synthetic: isSynthetic(data),
    netc: study.netc,
    created: study.created,
    metric: {
      name: target.name,
      text: target.text,
      goal: target.sign > 0 ? "maximize" : "minimize",
      side: scores.side,
    },
    objectives: search.objectives.map(objectiveText),
    requirements: search.requirements,
    latencyLimit: search.latencyLimit,
    latency: search.latency,
    notation,
    space: {
      points: space.points,
      candidates: space.candidates.length,
      feasible: feasible.length,
      refused: space.candidates.length - feasible.length,
      tried: feasible.length - untried.length,
      finished: [...scores.tried.values()].filter(({ searched, final }) => searched.length + final.length > 0).length,
      reasons: reasonsOf(search),
      untried: untried.slice(0, NAMED).map((candidate) => shortLabel(notation, space, candidate)),
      none: space.none,
      all: space.all,
    },
    method: {
      asked: methodText(search.method),
      used: [...began].map(([name, trials]) => ({ name, trials })),
      adaptive: decisions.some(
        ({ method, proposals }) =>
          !UNIFORM.has(method) && proposals.some((one) => one.kind === "begin" && one.phase === "search"),
      ),
    },
    budget: {
      spend: search.spend,
      spent: spentOf(scores.spent, LIMITED),
      byPhase: scores.spent,
      states: Object.fromEntries(
        STATES.map((state) => [
          state,
          trials.filter((trial) => trial.state === state && !(state === "paused" && stopped.has(trial.id))).length,
        ]),
      ) as Record<TrialState, number>,
      left: trials.filter(({ id }) => stopped.has(id)).length,
      deviceSeconds: ended.reduce((sum, { seconds }) => sum + seconds, 0),
      overheadSeconds: ended.reduce((sum, { overheadSeconds }) => sum + overheadSeconds, 0),
      wallSeconds: times.length === 0 ? 0 : (Math.max(...times) - Math.min(...times)) / 1000,
    },
    prior: priorReportOf(data),
    zeroCost: zeroCostOf(candidates, target.sign),
    seeds: { study: search.seed, replicates: search.replicates },
    rungs: search.rungs,
    epochs: search.epochs,
    devices: [...new Set(ended.map(({ device }) => device))].sort(),
    kernels: {
      hits: ended.reduce((sum, { kernels }) => sum + kernels.hits, 0),
      misses: ended.reduce((sum, { kernels }) => sum + kernels.misses, 0),
    },
    choice,
    bestRandom,
    ...table,
    subjects: subjectComparisons(data, scores, choice, [
      { name: "none", candidate: space.none },
      { name: "best of random", candidate: bestRandom?.candidate },
      { name: "all", candidate: space.all },
    ]),
    searchCurve: searchCurveOf(data, target, LIMITED),
    randomCurve: searchCurveOf(data, target, ["random"]),
    candidates,
    trials: trialsOf(data, scores),
    journal: { decisions: decisions.length, hash: journalHash(decisions) },
    searchHash: study.searchHash,
    dataHash: study.dataHash,
    commands: commandsOf(study),
  };
  return { ...known, checklist: checklistOf(known) };
}
