/**
 * Which models of a space are timed before a search begins, and what is made of their times.
 *
 * Candidates that differ in their recipe alone are one model. Where there are few models, each is timed. Where there are
 * many, some are: the ones without and with all attention, some at random until every level of every factor was seen, and
 * apart from those a dozen that tell how good the predictions for the others are. Those that are predicted close to the
 * limit are timed too. Pure but for what times a model.
 */
import type { Candidate, LatencySurvey, Search } from "../../../compiler/search/search.ts";
import { randomOrder } from "../methods/random.ts";
import type { Timing } from "./forward.ts";
import { predictTimes } from "./predict.ts";

/** Up to so many models, each is timed. */
const TIMED_EACH = 40;
const LEAST_FIT = 24;
const MOST_FIT = 64;
const CHECKED = 12;
/** Models near the limit that are timed beside those, at most. */
const MOST_NEAR = 16;

export interface Survey {
  /** Candidates (`Candidate.index`) of each model of the feasible space, the one that is timed first. */
  readonly models: readonly (readonly number[])[];
  /** Places among `models`: what predictions are made from, and what they are checked by. */
  readonly fit: readonly number[];
  readonly check: readonly number[];
  /** Whether every model is timed. */
  readonly each: boolean;
}

/** Whether a search needs to know latencies before it trains anything. */
export function asksLatency({ objectives, latencyLimit }: Search): boolean {
  return latencyLimit !== undefined || objectives.some((one) => one.kind === "cost" && one.cost === "latency");
}

function modelsOf({ space }: Search): readonly (readonly number[])[] {
  const factors = space.modelFactors ?? space.factors.map((_, factor) => factor);
  const models = new Map<string, number[]>();
  for (const { index, levels, refused } of space.candidates) {
    if (refused !== undefined) continue;
    const key = factors.map((factor) => levels[factor] ?? 0).join();
    const known = models.get(key);
    if (known === undefined) models.set(key, [index]);
    else known.push(index);
  }
  return [...models.values()];
}

/** What is timed, at least; undefined where no latency is asked for. */
export function surveyOf(search: Search): Survey | undefined {
  if (!asksLatency(search)) return undefined;
  const { space, seed } = search;
  const models = modelsOf(search);
  const places = models.map((_, place) => place);
  if (models.length <= TIMED_EACH) return { models, fit: places, check: [], each: true };
  const factors = space.modelFactors ?? space.factors.map((_, factor) => factor);
  const levelsAt = (place: number): readonly number[] => space.candidates[models[place]?.[0] ?? 0]?.levels ?? [];
  const order = randomOrder(models.length, seed);
  const ends = places.filter((place) => models[place]?.some((index) => index === space.none || index === space.all));
  const fit = new Set(ends);
  const effects = factors.reduce((sum, factor) => sum + (space.factors[factor]?.levels.length ?? 1) - 1, 1);
  const wanted = Math.min(MOST_FIT, Math.max(LEAST_FIT, Math.ceil(1.25 * effects)));
  for (const place of order) if (fit.size < wanted) fit.add(place);
  // A level that chance has left out could only be guessed.
  const seen = new Set([...fit].flatMap((place) => factors.map((factor) => `${factor}/${levelsAt(place)[factor]}`)));
  for (const place of order) {
    const own = factors.map((factor) => `${factor}/${levelsAt(place)[factor]}`);
    if (own.every((key) => seen.has(key))) continue;
    fit.add(place);
    for (const key of own) seen.add(key);
  }
  const check = [...order].filter((place) => !fit.has(place)).slice(0, CHECKED);
  return { models, fit: [...fit], check, each: false };
}

/** What a survey found, for every model. */
interface Found {
  readonly times: ReadonlyMap<number, Timing>;
  readonly predicted: Float64Array | undefined;
  readonly check: LatencySurvey["check"];
}

/** Times a model, given one of its candidates. */
export type TimeModel = (candidate: Candidate) => Promise<Timing>;

async function explore(
  search: Search,
  survey: Survey,
  time: TimeModel,
  told: (done: number, of: number) => void,
): Promise<Found> {
  const { space, latencyLimit } = search;
  const { models, fit, check } = survey;
  const first = (place: number): Candidate => {
    const candidate = space.candidates[models[place]?.[0] ?? -1];
    if (candidate === undefined) throw new RangeError(`there is no model ${place}`);
    return candidate;
  };
  const times = new Map<number, Timing>();
  let of = fit.length + check.length;
  const measure = async (places: readonly number[]): Promise<void> => {
    for (const place of places) {
      times.set(place, await time(first(place)));
      told(times.size, of);
    }
  };
  await measure([...fit, ...check]);
  if (survey.each) return { times, predicted: undefined, check: undefined };
  const factors = (space.modelFactors ?? space.factors.map((_, factor) => factor)).flatMap(
    (factor) => space.factors[factor] ?? [],
  );
  const indices = space.modelFactors ?? space.factors.map((_, factor) => factor);
  const levels = new Uint8Array(models.length * factors.length);
  for (const place of models.keys())
    for (const [k, factor] of indices.entries()) levels[place * factors.length + k] = first(place).levels[factor] ?? 0;
  const costs = (["flops", "memory"] as const).map((cost) =>
    Float64Array.from(models, (_, place) => first(place).costs[cost]),
  );
  const predict = (places: Iterable<number>): Float64Array =>
    predictTimes(
      { factors, levels, costs, count: models.length },
      [...places].map((place) => ({ place, milliseconds: times.get(place)?.median ?? Number.NaN })),
    );
  const before = predict(fit);
  const errors = check.map((place) => {
    const median = times.get(place)?.median ?? Number.NaN;
    return Math.abs((before[place] ?? Number.NaN) - median) / median;
  });
  const sorted = [...errors].sort((a, b) => a - b);
  const checked = {
    models: sorted.length,
    median: sorted[Math.floor(sorted.length / 2)] ?? Number.NaN,
    most: sorted.at(-1) ?? Number.NaN,
  };
  let predicted = predict(times.keys());
  if (latencyLimit !== undefined) {
    // On which side these are, the predictions cannot tell.
    const near = models
      .map((_, place) => ({ place, apart: Math.abs((predicted[place] ?? 0) / latencyLimit - 1) }))
      .filter(({ place, apart }) => !times.has(place) && apart <= checked.most)
      .sort((a, b) => a.apart - b.apart || a.place - b.place)
      .slice(0, MOST_NEAR);
    of += near.length;
    await measure(near.map(({ place }) => place));
    if (near.length > 0) predicted = predict(times.keys());
  }
  return { times, predicted, check: checked };
}

const inMs = (value: number): string => `${Number(value.toPrecision(3))} ms`;

/**
 * The search with what its models take on a device: every feasible candidate has a latency, and those above the limit are
 * refused.
 * @param survey see `surveyOf`
 * @param busy what others took of the processors meanwhile, asked for at the end
 * @param told how many models of how many have been timed
 */
export async function withLatencies(
  search: Search,
  survey: Survey,
  device: { readonly name: string; readonly time: TimeModel; readonly busy: () => number },
  told: (done: number, of: number) => void = () => {},
): Promise<Search> {
  const { models } = survey;
  const { times, predicted, check } = await explore(search, survey, device.time, told);
  const { latencyLimit: limit = Number.POSITIVE_INFINITY } = search;
  const latencies = new Map(
    models.flatMap((candidates, place) => {
      const timing = times.get(place);
      const milliseconds = timing?.median ?? predicted?.[place] ?? Number.NaN;
      const latency = { milliseconds, measured: timing !== undefined, refuses: milliseconds > limit };
      return candidates.map((index) => [index, latency] as const);
    }),
  );
  const from = `predicted from ${times.size} models that were measured`;
  const candidates = search.space.candidates.map((candidate) => {
    const latency = latencies.get(candidate.index);
    if (latency === undefined) return candidate;
    const how = latency.measured ? "measured" : from;
    const refused = latency.refuses
      ? `latency ${inMs(latency.milliseconds)}, ${how}, is above the limit ${inMs(limit)}`
      : undefined;
    return { ...candidate, latency, refused };
  });
  return {
    ...search,
    space: { ...search.space, candidates },
    latency: {
      device: device.name,
      measured: [...times].map(([place, timing]) => ({ candidate: models[place]?.[0] ?? 0, ...timing })),
      models: models.length,
      check,
      busy: device.busy(),
    },
  };
}

/** The candidate that comes nearest to the limit, where all are above it; undefined where some are not. */
export function nearestToLimit({ space }: Search): Candidate | undefined {
  if (space.candidates.some(({ refused }) => refused === undefined)) return undefined;
  return space.candidates
    .filter(({ latency }) => latency !== undefined)
    .reduce<Candidate | undefined>(
      (best, one) => ((one.latency?.milliseconds ?? Infinity) < (best?.latency?.milliseconds ?? Infinity) ? one : best),
      undefined,
    );
}

/** The search as it was before anything was measured. */
export function withoutLatencies({ latency: _, ...search }: Search): Search {
  const candidates = search.space.candidates.map(({ latency, ...candidate }) =>
    latency?.refuses === true ? { ...candidate, refused: undefined } : candidate,
  );
  return { ...search, space: { ...search.space, candidates } };
}
