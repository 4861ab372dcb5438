/**
 * What is computed from the scores of a search: noise between seeds, whether rungs rank, who leads, what positions
 * contribute, and what search at random would have found.
 *
 * In: a study. Out: numbers with intervals, in the metric's own unit and direction. The model is the one that proposes
 * (methods/gaussian.ts); what is of final trials or of search at random is no part of what it knows.
 */
import type { Interval } from "../../metrics/intervals.ts";
import { pickOf } from "../methods/acquire.ts";
import { planOf, viewOf } from "../methods/plan.ts";
import type { Knowledge, Observation } from "../propose.ts";
import { randomBand } from "../statistics/band.ts";
import { kendallTau } from "../statistics/kendall.ts";
import { noiseOf } from "../statistics/noise.ts";
import { importanceOf } from "../statistics/shapley.ts";
import type { BandStep, Findings, Importance, Leader, Noise, RungRank } from "./model.ts";
import { notationOf, optionText, placeOf } from "./notation.ts";
import { priorOfStudy } from "./prior.ts";
import { meanOf, type Scores, scoresOf } from "./scores.ts";
import type { StudyData } from "./study-data.ts";

/** Replicates of confirming are other trainings than those of searching with the same number. */
const APART = 1_000_000;

/** 95 % of a normal distribution. */
const Z = 1.959963984540054;

/** An interval of what is to be large, in the unit of what may be to be small. */
function turned({ value, low, high }: Interval, sign: 1 | -1): Interval {
  return sign > 0 ? { value, low, high } : { value: -value, low: -high, high: -low };
}

/** What the model may know: all but final trials and search at random. */
function knowledgeOf(data: StudyData, sign: 1 | -1): Knowledge {
  const { search } = data.study;
  const { rungs } = planOf(search);
  const view = viewOf(search);
  const indices = new Map(search.space.candidates.map(({ hash, index }) => [hash, index]));
  const observations = data.observations.flatMap((row): readonly Observation[] => {
    const candidate = view.local.get(indices.get(row.candidate) ?? -1);
    const rung = rungs.indexOf(row.epochs);
    if (candidate === undefined || rung < 0 || row.value === undefined) return [];
    if (row.phase === "final" || row.phase === "random" || row.phase === "prior") return [];
    const replicate = row.replicate + (row.phase === "confirm" ? APART : 0);
    return [{ candidate, value: sign * row.value, rung, replicate }];
  });
  return {
    candidates: view.candidates,
    observations,
    pending: [],
    prior: priorOfStudy(data),
    seed: search.seed,
    step: data.decisions.length,
  };
}

/** All candidates that have been trained, the leader first, with what the model expects of them. */
function leadersOf(data: StudyData, known: Knowledge, sign: 1 | -1): readonly Leader[] {
  const { indices, candidates } = viewOf(data.study.search);
  return pickOf(known, candidates.count).flatMap(({ candidate, mean, deviation }) => {
    const index = indices[candidate];
    const expected = { value: mean, low: mean - Z * deviation, high: mean + Z * deviation };
    return index === undefined ? [] : [{ candidate: index, expected: turned(expected, sign) }];
  });
}

/** What each position contributes, by the model and by plain means. */
function contributionsOf(data: StudyData, scores: Scores, known: Knowledge, sign: 1 | -1): Importance | undefined {
  const { factors, candidates } = data.study.search.space;
  const whole = {
    factors,
    levels: Uint8Array.from(candidates.flatMap(({ levels }) => levels)),
    count: candidates.length,
    costs: [],
  };
  // Effects are those of the trainings: their closed form knows no scores.
  const found = importanceOf(
    { ...known, prior: undefined },
    { candidates: whole, modelFactors: data.study.search.space.modelFactors },
  );
  if (found === undefined) return undefined;
  const notation = notationOf(factors);
  const trained = [...scores.tried.values()].flatMap(({ candidate, searched }) =>
    searched.map(({ value }) => ({ levels: candidates[candidate]?.levels ?? [], value })),
  );
  const plain = (factor: number, on: boolean): Importance["contributions"][number]["on"] => {
    const own = trained.filter(({ levels }) => (levels[factor] ?? 0) > 0 === on).map(({ value }) => value);
    return { mean: meanOf(own).value, trainings: own.length };
  };
  const nameOf = (factor: number): string =>
    factors[factor]?.kind === "member" ? placeOf(notation, factors, factor) : (factors[factor]?.name ?? "");
  const byName = new Map(found.positions.map(({ name, factor }) => [name, factor]));
  return {
    contributions: found.positions.map(({ name: _, factor, ...shapley }) => ({
      factor,
      name: nameOf(factor),
      shapley: turned(shapley, sign),
      on: plain(factor, true),
      off: plain(factor, false),
    })),
    pairs: found.pairs.flatMap(({ first, second, ...effect }) => {
      const [a, b] = [byName.get(first), byName.get(second)];
      return a === undefined || b === undefined ? [] : [{ first: a, second: b, effect: turned(effect, sign) }];
    }),
    options: found.options.map(({ factor, levels, weight, ...shapley }) => ({
      factor,
      option: optionText(factors, levels),
      shapley: turned(shapley, sign),
      weight,
    })),
    variance: {
      ...found.variance,
      main: found.variance.main.map(({ factor, share }) => ({ factor, name: nameOf(factor), share })),
    },
    none: sign * found.none,
    all: sign * found.all,
    method: found.method,
    notes: found.notes,
  };
}

function noiseBetween(scores: Scores): Noise | undefined {
  const values = [...scores.tried.values()].flatMap(({ candidate, searched, finalValidation }) =>
    [...searched, ...finalValidation].map(({ seed, value }) => ({ candidate, seed, value })),
  );
  const { deviation, low, high, degrees, pairing } = noiseOf(values);
  if (Number.isNaN(deviation)) return undefined;
  const times = new Map<number, number>();
  for (const { candidate } of values) times.set(candidate, (times.get(candidate) ?? 0) + 1);
  const candidates = [...times.values()].filter((count) => count > 1).length;
  return { deviation: { value: deviation, low, high }, trainings: degrees + candidates, candidates, pairing };
}

/** How well partial trainings rank, of trials that have come to the end. */
function ranksOf(data: StudyData): readonly RungRank[] {
  const { rungs } = planOf(data.study.search);
  const full = rungs.at(-1) ?? 0;
  const byTrial = new Map<string, Map<number, number>>();
  for (const { trial, phase, epochs, value } of data.observations) {
    if (value === undefined || phase === "final" || phase === "confirm" || phase === "prior") continue;
    const known = byTrial.get(trial);
    if (known === undefined) byTrial.set(trial, new Map([[epochs, value]]));
    else known.set(epochs, value);
  }
  return rungs.slice(0, -1).flatMap((from) => {
    const both = [...byTrial.values()].flatMap((values) => {
      const [early, late] = [values.get(from), values.get(full)];
      return early === undefined || late === undefined ? [] : [[early, late] as const];
    });
    const tau = kendallTau(
      both.map(([early]) => early),
      both.map(([, late]) => late),
    );
    return both.length < 3 || Number.isNaN(tau.value) ? [] : [{ from, to: full, tau, trials: both.length }];
  });
}

/** One training of each candidate that search at random would have drawn, in their order. */
export function randomTrainings(data: StudyData): readonly { readonly candidate: number; readonly value: number }[] {
  const { search } = data.study;
  const { method, screen } = planOf(search);
  const drawn = new Set(screen);
  const indices = new Map(search.space.candidates.map(({ hash, index }) => [hash, index]));
  const found = new Map<number, number>();
  for (const { candidate, phase, epochs, value } of data.observations) {
    const index = indices.get(candidate);
    if (index === undefined || value === undefined || epochs < search.epochs || found.has(index)) continue;
    // Of a full factorial, those that the screen would have been.
    const random =
      phase === "random" ||
      phase === "screen" ||
      (method.kind === "factorial" && phase === "search" && drawn.has(index));
    if (random) found.set(index, value);
  }
  return [...found].map(([candidate, value]) => ({ candidate, value }));
}

/** Fewer values than this say nothing of a distribution. */
const LEAST_SAMPLE = 4;

function bandOf(data: StudyData, sign: 1 | -1, noise: Noise | undefined): readonly BandStep[] {
  const { search } = data.study;
  const values = randomTrainings(data).map(({ value }) => sign * value);
  const counts = Array.from({ length: Math.min(1000, Math.max(1, Math.ceil(search.spend))) }, (_, k) => k + 1);
  if (values.length < LEAST_SAMPLE) return [];
  const { shown, worth } = randomBand(values, counts, noise?.deviation.value ?? 0, search.seed);
  return counts.flatMap((spent, k) => {
    const [expected, own] = [shown[k], worth[k]];
    if (expected === undefined || own === undefined || Number.isNaN(expected.low)) return [];
    const worthText = noise === undefined ? undefined : turned(own, sign);
    return [{ spent, expected: turned(expected, sign), worth: worthText }];
  });
}

/** What a display shows: all but the importance of positions. */
export function currentFindings(data: StudyData): Findings {
  const scores = scoresOf(data);
  const { sign } = scores.target;
  const noise = noiseBetween(scores);
  return {
    leaders: leadersOf(data, knowledgeOf(data, sign), sign),
    noise,
    ranks: ranksOf(data),
    importance: undefined,
    band: bandOf(data, sign, noise),
  };
}

/** Computes everything. */
export function findingsOf(data: StudyData): Findings {
  const scores = scoresOf(data);
  const { sign } = scores.target;
  return { ...currentFindings(data), importance: contributionsOf(data, scores, knowledgeOf(data, sign), sign) };
}
