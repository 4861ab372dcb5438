/**
 * Scores and comparisons as lines of text, for a terminal.
 *
 * In: predictions. Out: lines. Beside every number stand its name and its formula, below it what its interval takes for
 * granted.
 */
import type { Metric } from "../../compiler/recipe/recipe.ts";
import { type BootstrapOptions, MCNEMAR_CAVEAT, WILSON_CAVEAT } from "../metrics/intervals.ts";
import { countAt, METRIC_RULES, supportOf } from "../metrics/scores.ts";
import type { Predictions } from "../train/predictions.ts";
import type { ClipPrediction, PredictionHeader } from "../train/records.ts";
import { compareRuns, compareSeeds } from "./comparison.ts";
import { evaluate, showDifference, showInterval, showScore } from "./evaluation.ts";
import { count, percent, table } from "./text.ts";

export interface ScoreOptions extends BootstrapOptions {
  /** Metrics besides the usual ones, such as a recipe's AUC. */
  readonly metrics?: readonly Metric[];
}

/** The header and what it says of its clips: `test: 240 clips of 8 subjects, …`. */
function heading(header: PredictionHeader, clips: readonly ClipPrediction[], subjects: number): readonly string[] {
  const named = clips.every((clip) => clip.subject !== undefined);
  const who = named ? ` of ${count(subjects, "subject")}` : "";
  const crops = `${count(header.segments, "segment")} × ${count(header.crops, "crop")} a clip`;
  return [
    `${header.run}, ${header.side}: ${count(clips.length, "clip")}${who}, ${header.fold}, update ${header.step}, ${crops}`,
    ...(header.note === "" ? [] : [header.note]),
  ];
}

const lines = (text: string): readonly string[] => text.split("\n");
const LISTED = 20;

/** Scores with their formulas and intervals, the confusion matrix, the table of classes, and the clips that failed. */
export function scoresTable(
  header: PredictionHeader,
  predictions: readonly ClipPrediction[],
  { metrics = [], ...options }: ScoreOptions = {},
): readonly string[] {
  const result = evaluate({ header, clips: predictions }, metrics, options);
  const { classes } = header;
  const rows = result.scores.map(({ text, interval }) => [
    text.title,
    showScore(interval.value, text),
    showInterval(interval, (value) => showScore(value, text)),
    text.formula,
  ]);
  const { confusion, failed } = result;
  const failures = failed.length > 0;
  const matrix = classes.map((name, truth) => [
    name,
    ...classes.map((_, predicted) => String(countAt(confusion, truth, predicted))),
    ...(failures ? [String(countAt(confusion, truth, "none"))] : []),
    String(supportOf(confusion, truth)),
  ]);
  const columns = ["true ↓  predicted →", ...classes, ...(failures ? ["none"] : []), "clips"];
  const right = (titles: readonly string[]): ReadonlySet<number> => new Set(titles.map((_, k) => k).slice(1));
  const classTitles = ["class", "recall", "precision", "F1", "AUC", "clips"];
  const classRows = result.classes.map((row) => [
    row.class,
    percent(row.recall),
    percent(row.precision),
    percent(row.f1),
    Number.isNaN(row.auc) ? "–" : row.auc.toFixed(3),
    String(row.support),
  ]);
  return [
    ...heading(header, predictions, result.subjects),
    "",
    ...lines(table(["score", "value", "95 % interval", "formula"], rows, new Set([1]))),
    "",
    `Intervals: ${result.method}.`,
    ...result.notes,
    `Accuracy by Wilson: ${showInterval(result.wilson, (value) => percent(value))}. ${WILSON_CAVEAT}`,
    `Always answering ${result.largest.class} scores accuracy ${percent(result.largest.share)}.`,
    ...METRIC_RULES,
    "",
    ...lines(table(columns, matrix, right(columns))),
    "",
    ...lines(table(classTitles, classRows, right(classTitles))),
    ...(failures
      ? [
          "",
          `${count(failed.length, "clip")} without a prediction, counted as wrong:`,
          ...failed.slice(0, LISTED).map((clip) => `  ${clip.path}: ${clip.failure ?? "no reason is given"}`),
          ...(failed.length > LISTED ? [`  … and ${failed.length - LISTED} more`] : []),
        ]
      : []),
  ];
}

const pValue = (p: number): string => (Number.isNaN(p) ? "–" : p < 0.0001 ? "< 0.0001" : p.toFixed(4));

const HOLM = "p (Holm) is corrected for the number of scores in the table.";

/** Two models on the same clips: differences with intervals over subjects, and McNemar's test. */
export function comparisonTable(
  a: Predictions,
  b: Predictions,
  { metrics = [], ...options }: ScoreOptions = {},
): readonly string[] | { readonly error: string } {
  const result = compareRuns(a, b, { metrics, ...options });
  if ("error" in result) return result;
  const rows = result.differences.map(({ text, first, second, difference, p, corrected }) => [
    text.title,
    showScore(first, text),
    showScore(second, text),
    showDifference(difference.value, text),
    showInterval(difference, (value) => showDifference(value, text)),
    pValue(p),
    pValue(corrected),
    text.formula,
  ]);
  const test = result.mcnemar;
  const titles = ["score", "first", "second", "difference", "95 % interval", "p", "p (Holm)", "formula"];
  return [
    `first:  ${a.header.run} (${a.header.model}, seed ${a.header.seed})`,
    `second: ${b.header.run} (${b.header.model}, seed ${b.header.seed})`,
    `${a.header.side}: the same ${count(result.clips, "clip")}; a difference is second minus first`,
    ...(a.header.note === "" ? [] : [a.header.note]),
    "",
    ...lines(table(titles, rows, new Set([1, 2, 3, 5, 6]))),
    "",
    `Intervals and p: ${result.method}. ${HOLM}`,
    ...result.notes,
    `McNemar, exact: ${count(test.onlyFirst, "clip")} right in the first only, ${test.onlySecond} in the second only, p = ${pValue(test.p)}.`,
    MCNEMAR_CAVEAT,
    "One run of each says nothing of other seeds: train several and compare those.",
    ...METRIC_RULES,
  ];
}

/** Runs of two models with the same seeds: paired differences with their t interval. */
export function seedsTable(
  first: readonly Predictions[],
  second: readonly Predictions[],
  { metrics = [] }: Pick<ScoreOptions, "metrics"> = {},
): readonly string[] | { readonly error: string } {
  const result = compareSeeds(first, second, { metrics });
  if ("error" in result) return result;
  const { header, seeds } = result;
  const rows = result.differences.map(({ text, first: own, second: other, difference, deviation, p, corrected }) => [
    text.title,
    showScore(own, text),
    showScore(other, text),
    showDifference(difference.value, text),
    Number.isNaN(deviation) ? "–" : showDifference(deviation, text).replace("+", ""),
    showInterval(difference, (value) => showDifference(value, text)),
    pValue(p),
    pValue(corrected),
    text.formula,
  ]);
  const titles = ["score", "first", "second", "difference", "sd", "95 % interval", "p", "p (Holm)", "formula"];
  return [
    `first:  ${header.model}, ${count(seeds.length, "run")}`,
    `second: ${second[0]?.header.model ?? ""}, ${count(seeds.length, "run")}`,
    `${header.side}: the same ${count(result.clips, "clip")}, seeds ${seeds.join(", ")}; means over seeds; a difference is second minus first`,
    ...(header.note === "" ? [] : [header.note]),
    "",
    ...lines(table(titles, rows, new Set([1, 2, 3, 4, 6, 7]))),
    "",
    `Intervals and p: paired t test over ${count(seeds.length, "seed")}. ${HOLM}`,
    ...(seeds.length < 2 ? ["One seed has no spread: train more."] : []),
    "The test is about other seeds on the same people, not about other people.",
    ...METRIC_RULES,
  ];
}
