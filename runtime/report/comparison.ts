/**
 * Two models compared, as numbers: for the terminal and for JSON.
 *
 * In: what each predicted of the same clips, once or with several seeds. Out: for every metric both values, their
 * difference with its interval and its p, corrected for the number of metrics; or why these cannot be compared.
 */
import type { Metric } from "../../compiler/recipe/recipe.ts";
import {
  type BootstrapOptions,
  holm,
  type Interval,
  mcnemar,
  pairClips,
  pairedBootstrap,
  seedDifference,
} from "../metrics/intervals.ts";
import { type MetricText, metricName, metricText, metricValue } from "../metrics/scores.ts";
import type { Predictions } from "../train/predictions.ts";
import type { PredictionHeader } from "../train/records.ts";
import { shownMetrics } from "./evaluation.ts";

export interface ComparisonOptions extends BootstrapOptions {
  /** Metrics besides the usual ones, such as a recipe's AUC. */
  readonly metrics?: readonly Metric[];
}

export interface Difference {
  readonly name: string;
  readonly text: MetricText;
  readonly first: number;
  readonly second: number;
  /** Second minus first. */
  readonly difference: Interval;
  readonly p: number;
  /** By Holm, over the metrics. */
  readonly corrected: number;
}

/** Two runs on the same clips. */
export interface RunComparison {
  readonly clips: number;
  readonly differences: readonly Difference[];
  readonly method: string;
  readonly notes: readonly string[];
  readonly mcnemar: ReturnType<typeof mcnemar>;
}

/** Runs of two models with the same seeds; values are means over the seeds. */
export interface SeedComparison {
  /** Of the first run. */
  readonly header: PredictionHeader;
  readonly clips: number;
  readonly seeds: readonly number[];
  readonly differences: readonly (Difference & { readonly deviation: number })[];
}

const sameList = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((item, index) => item === b[index]);

/** Why the predictions `a` and `b` cannot be compared; undefined if they can. */
function unlike(a: PredictionHeader, b: PredictionHeader): string | undefined {
  if (!sameList(a.classes, b.classes))
    return `the classes are not the same: ${a.classes.join(", ")} in the first, ${b.classes.join(", ")} in the second`;
  if (a.side !== b.side) return `the first predicts its ${a.side} clips, the second its ${b.side} clips`;
  return undefined;
}

/** Two models on the same clips: differences with intervals over subjects, and McNemar's test. */
export function compareRuns(
  a: Predictions,
  b: Predictions,
  { metrics = [], ...options }: ComparisonOptions = {},
): RunComparison | { readonly error: string } {
  const problem = unlike(a.header, b.header);
  if (problem !== undefined) return { error: problem };
  const pairs = pairClips(a.clips, b.clips);
  if ("error" in pairs) return pairs;
  const { classes } = a.header;
  const shown = shownMetrics(metrics, classes);
  const result = pairedBootstrap(shown, pairs, classes, options);
  const corrected = holm(result.differences.map(({ p }) => p));
  return {
    clips: pairs.a.length,
    differences: result.differences.flatMap((row, index) => {
      const metric = shown[index];
      if (metric === undefined) return [];
      const { a: first, b: second, difference, p } = row;
      const text = metricText(metric);
      return [
        { name: metricName(metric), text, first, second, difference, p, corrected: corrected[index] ?? Number.NaN },
      ];
    }),
    method: result.method,
    notes: result.notes,
    mcnemar: mcnemar(pairs, classes),
  };
}

/** Paired differences of runs with the same seeds, with their t interval. */
export function compareSeeds(
  first: readonly Predictions[],
  second: readonly Predictions[],
  { metrics = [] }: Pick<ComparisonOptions, "metrics"> = {},
): SeedComparison | { readonly error: string } {
  const [reference] = first;
  if (reference === undefined || second.length === 0) return { error: "there are no runs to compare" };
  const { header } = reference;
  for (const run of [...first, ...second]) {
    const problem = unlike(header, run.header);
    if (problem !== undefined) return { error: `\`${run.header.run}\`: ${problem}` };
    const same = pairClips(reference.clips, run.clips);
    if ("error" in same) return { error: `\`${header.run}\` and \`${run.header.run}\`: ${same.error}` };
  }
  const bySeed = (runs: readonly Predictions[]): ReadonlyMap<number, Predictions> =>
    new Map(runs.map((run) => [run.header.seed, run]));
  const [a, b] = [bySeed(first), bySeed(second)];
  if (a.size < first.length || b.size < second.length)
    return { error: `two runs of the ${a.size < first.length ? "first" : "second"} have the same seed` };
  const lone = [...[...a.keys()].filter((seed) => !b.has(seed)), ...[...b.keys()].filter((seed) => !a.has(seed))];
  if (lone.length > 0) return { error: `seed ${lone.join(", ")} has a run on one side only` };
  const seeds = [...a.keys()].sort((x, y) => x - y);
  const { classes } = header;
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  const results = shownMetrics(metrics, classes).map((metric) => {
    const scores = (runs: ReadonlyMap<number, Predictions>): readonly number[] =>
      seeds.map((seed) => metricValue(metric, runs.get(seed)?.clips ?? [], classes));
    const [own, other] = [scores(a), scores(b)];
    return {
      name: metricName(metric),
      text: metricText(metric),
      first: mean(own),
      second: mean(other),
      ...seedDifference(own, other),
    };
  });
  const corrected = holm(results.map(({ p }) => p));
  return {
    header,
    clips: reference.clips.length,
    seeds,
    differences: results.map((row, index) => ({ ...row, corrected: corrected[index] ?? Number.NaN })),
  };
}
