/**
 * The numbers of one set of predictions, computed once for the terminal, the page and JSON.
 *
 * In: the predictions, and which metrics. Out: each metric with its name, its formula and its interval over subjects;
 * the confusion matrix; the scores of each class; what a model that knows nothing would score.
 */
import type { Metric } from "../../compiler/recipe/recipe.ts";
import { type BootstrapOptions, bootstrapIntervals, type Interval, wilsonInterval } from "../metrics/intervals.ts";
import {
  type ClassScores,
  type Confusion,
  classScores,
  confusionOf,
  hitsOf,
  type MetricText,
  metricName,
  metricText,
  metricValue,
  predictedClass,
  supportOf,
} from "../metrics/scores.ts";
import type { Predictions } from "../train/predictions.ts";
import type { ClipPrediction } from "../train/records.ts";
import { minus, percent } from "./text.ts";

export interface Score {
  readonly metric: Metric;
  readonly name: string;
  readonly text: MetricText;
  readonly interval: Interval;
}

export interface Evaluation {
  readonly scores: readonly Score[];
  /** How the intervals were made, and what to know about them. */
  readonly method: string;
  readonly notes: readonly string[];
  /** Clips without a subject count as one each. */
  readonly subjects: number;
  /** Of the accuracy, with clips taken as independent. */
  readonly wilson: Interval;
  readonly confusion: Confusion;
  /** By class, with the AUC of the class against the rest. */
  readonly classes: readonly (ClassScores & { readonly auc: number })[];
  /** Accuracy of always answering the class that has most clips here, and which it is. */
  readonly largest: { readonly class: string; readonly share: number };
  readonly failed: readonly ClipPrediction[];
}

const ALWAYS: readonly Metric[] = [{ kind: "uar" }, { kind: "accuracy" }, { kind: "macro_f1" }, { kind: "loss" }];

/** The metrics that are always shown, and those of `more` that are not among them and that these classes have. */
export function shownMetrics(more: readonly Metric[], classes: readonly string[]): readonly Metric[] {
  const names = new Set(ALWAYS.map(metricName));
  const added = more.filter((metric) => {
    const fresh = !names.has(metricName(metric)) && (metric.kind !== "auc" || classes.includes(metric.class));
    names.add(metricName(metric));
    return fresh;
  });
  return [...ALWAYS, ...added];
}

/** Scores predictions; `more` are metrics besides the usual ones, such as a recipe's AUC. */
export function evaluate(
  { header, clips }: Predictions,
  more: readonly Metric[] = [],
  options: BootstrapOptions = {},
): Evaluation {
  const { classes } = header;
  const metrics = shownMetrics(more, classes);
  const bootstrap = bootstrapIntervals(metrics, clips, classes, options);
  const confusion = confusionOf(clips, classes);
  const { correct, total } = hitsOf(confusion);
  const supports = classes.map((_, k) => supportOf(confusion, k));
  const most = Math.max(0, ...supports);
  return {
    scores: metrics.map((metric, index) => ({
      metric,
      name: metricName(metric),
      text: metricText(metric),
      interval: bootstrap.intervals[index] ?? { value: Number.NaN, low: Number.NaN, high: Number.NaN },
    })),
    method: bootstrap.method,
    notes: bootstrap.notes,
    subjects: bootstrap.subjects,
    wilson: wilsonInterval(correct, total),
    confusion,
    classes: classScores(confusion).map((row) => ({
      ...row,
      auc: metricValue({ kind: "auc", class: row.class }, clips, classes),
    })),
    largest: { class: classes[supports.indexOf(most)] ?? "", share: most / total },
    failed: clips.filter((clip) => predictedClass(clip) === undefined),
  };
}

/** A value of a metric as people read it: shares in percent. */
export function showScore(value: number, { unit }: MetricText): string {
  if (Number.isNaN(value)) return "–";
  if (unit === "share") return percent(value);
  return value.toFixed(3);
}

/** A difference of two values, with its sign; shares in percentage points. */
export function showDifference(value: number, { unit }: MetricText): string {
  if (Number.isNaN(value)) return "–";
  const text = unit === "share" ? (value * 100).toFixed(1) : value.toFixed(3);
  // A difference that rounds to nothing has no sign.
  const signed = Number(text) === 0 ? text.replace("-", "") : value > 0 ? `+${text}` : minus(text);
  return unit === "share" ? `${signed} pt` : signed;
}

/** Low and high of an interval, `–` where there is none. */
export function showInterval({ low, high }: Interval, show: (value: number) => string): string {
  return Number.isNaN(low) || Number.isNaN(high) ? "–" : `${show(low)} to ${show(high)}`;
}
