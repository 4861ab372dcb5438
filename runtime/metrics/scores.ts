/**
 * Numbers that say how well a model did on a set of clips.
 *
 * In: what it said of each clip, and the classes. Out: the confusion matrix and what is computed from it, and the two
 * numbers that need probabilities (AUC, cross-entropy). Pure: no files, no devices, no other room.
 *
 * Names of metrics are mixed up in the literature (WAR with UAR above all), so each has its name and its formula in one
 * table, `METRICS`, and whoever prints a number prints them beside it. One rule holds throughout: a clip that has no
 * prediction counts as an error. It stays in the denominator of its class's recall and stands in no class's column.
 *
 * Every metric is a function of weights on clusters of clips (`Statistics`): all weights 1 is the metric itself, random
 * weights are a replicate of the bootstrap (intervals.ts). So both are the same code.
 */
import type { Metric } from "../../compiler/recipe/recipe.ts";

/** What a model said of one clip; a `ClipPrediction` of a run is one. */
export interface ScoredClip {
  readonly path: string;
  readonly subject: string | undefined;
  readonly class: string;
  /** By number of the class; undefined where there is no prediction. */
  readonly probabilities: readonly number[] | undefined;
}

// ---------------------------------------------------------------------------------------------------------------- names

export interface MetricText {
  /** For people: `Accuracy (WAR)`. */
  readonly title: string;
  readonly formula: string;
  readonly better: "larger" | "smaller";
  /** A share lies between 0 and 1 and is shown in percent. */
  readonly unit: "share" | "area" | "nats";
}

const METRICS: Readonly<Record<Metric["kind"], MetricText>> = {
  accuracy: {
    title: "Accuracy (WAR)",
    formula: "correct clips ÷ all clips",
    better: "larger",
    unit: "share",
  },
  uar: {
    title: "UAR",
    formula: "mean over classes of: correct clips of the class ÷ clips of the class",
    better: "larger",
    unit: "share",
  },
  macro_f1: {
    title: "Macro-F1",
    formula: "mean over classes of: 2·TP ÷ (2·TP + FP + FN)",
    better: "larger",
    unit: "share",
  },
  auc: {
    title: "AUC",
    formula: "share of pairs (clip of the class, other clip) where the first has the higher probability; ties ½",
    better: "larger",
    unit: "area",
  },
  loss: {
    title: "Cross-entropy",
    formula: "mean of −ln p(true class) over the clips with a prediction",
    better: "smaller",
    unit: "nats",
  },
};

/** What holds for every metric, to be printed once below a table of them. */
export const METRIC_RULES: readonly string[] = [
  "A clip without a prediction counts as wrong: it stays among the clips of its class.",
  "Means over classes are over the classes that have clips.",
];

/** The metric's name in files and logs: `uar`, `auc(severe)`. */
export function metricName(metric: Metric): string {
  return metric.kind === "auc" ? `auc(${metric.class})` : metric.kind;
}

/** The metric of a name that `metricName` made; undefined for any other text. */
export function metricOfName(name: string): Metric | undefined {
  const auc = /^auc\((.*)\)$/s.exec(name)?.[1];
  if (auc !== undefined) return { kind: "auc", class: auc };
  return name === "loss" || name === "accuracy" || name === "uar" || name === "macro_f1" ? { kind: name } : undefined;
}

/** Title and formula for people. */
export function metricText(metric: Metric): MetricText {
  const text = METRICS[metric.kind];
  return metric.kind === "auc" ? { ...text, title: `${text.title} of ${metric.class}` } : text;
}

// ----------------------------------------------------------------------------------------------------- confusion matrix

/** How often which class was taken for which. */
export interface Confusion {
  readonly classes: readonly string[];
  /** [K, K + 1], row-major: true class by predicted class; the last column counts clips without a prediction. */
  readonly counts: Float64Array;
}

/** The class of the highest probability (of equal ones the first); undefined without finite probabilities. */
export function predictedClass({ probabilities }: ScoredClip): number | undefined {
  if (probabilities === undefined || probabilities.length === 0 || !probabilities.every(Number.isFinite))
    return undefined;
  return probabilities.indexOf(Math.max(...probabilities));
}

/** @throws RangeError for a clip of another class, or with another number of probabilities */
function classOf(clip: ScoredClip, classes: readonly string[]): number {
  const index = classes.indexOf(clip.class);
  if (index < 0) throw new RangeError(`\`${clip.path}\` is of class \`${clip.class}\`, which is not a class here`);
  const given = clip.probabilities?.length;
  if (given !== undefined && given !== classes.length)
    throw new RangeError(`\`${clip.path}\` has ${given} probabilities for ${classes.length} classes`);
  return index;
}

/** Index into `Confusion.counts` of a clip. */
function cellOf(clip: ScoredClip, classes: readonly string[]): number {
  return classOf(clip, classes) * (classes.length + 1) + (predictedClass(clip) ?? classes.length);
}

/** The confusion matrix of `predictions`. */
export function confusionOf(predictions: readonly ScoredClip[], classes: readonly string[]): Confusion {
  const counts = new Float64Array(classes.length * (classes.length + 1));
  for (const clip of predictions) {
    const cell = cellOf(clip, classes);
    counts[cell] = (counts[cell] ?? 0) + 1;
  }
  return { classes, counts };
}

/** One number of the matrix: clips of class `truth` taken for `predicted`, or without a prediction. */
export function countAt({ classes, counts }: Confusion, truth: number, predicted: number | "none"): number {
  return counts[truth * (classes.length + 1) + (predicted === "none" ? classes.length : predicted)] ?? 0;
}

/** What the matrix says of one class. */
export interface ClassScores {
  readonly class: string;
  /** Clips of the class. */
  readonly support: number;
  /** Of them, clips without a prediction. */
  readonly failed: number;
  /** Correct clips ÷ clips taken for the class; NaN where none was. */
  readonly precision: number;
  /** Correct clips ÷ clips of the class; NaN where there are none. */
  readonly recall: number;
  /** 2·TP ÷ (2·TP + FP + FN); NaN where the class neither has clips nor was predicted. */
  readonly f1: number;
}

/** Precision, recall and F1 of every class, in the order of the classes. */
export function classScores(confusion: Confusion): readonly ClassScores[] {
  const { classes } = confusion;
  return classes.map((name, k) => {
    const support = supportOf(confusion, k);
    const taken = classes.reduce((sum, _, truth) => sum + countAt(confusion, truth, k), 0);
    const correct = countAt(confusion, k, k);
    return {
      class: name,
      support,
      failed: countAt(confusion, k, "none"),
      precision: correct / taken,
      recall: correct / support,
      f1: (2 * correct) / (taken + support),
    };
  });
}

/** Clips of class `truth`. */
export function supportOf({ classes, counts }: Confusion, truth: number): number {
  let support = 0;
  const width = classes.length + 1;
  for (let p = 0; p < width; p++) support += counts[truth * width + p] ?? 0;
  return support;
}

/** Correct clips and all clips. */
export function hitsOf({ classes, counts }: Confusion): { readonly correct: number; readonly total: number } {
  let correct = 0;
  for (let k = 0; k < classes.length; k++) correct += counts[k * (classes.length + 1) + k] ?? 0;
  return { correct, total: counts.reduce((sum, count) => sum + count, 0) };
}

function accuracyOf(confusion: Confusion): number {
  const { correct, total } = hitsOf(confusion);
  return correct / total;
}

/** Mean of `value` over the classes that have clips; NaN without any. */
function macroMean(confusion: Confusion, value: (correct: number, support: number, k: number) => number): number {
  const { classes } = confusion;
  let sum = 0;
  let present = 0;
  for (let k = 0; k < classes.length; k++) {
    const support = supportOf(confusion, k);
    if (support === 0) continue;
    sum += value(countAt(confusion, k, k), support, k);
    present++;
  }
  return sum / present;
}

function uarOf(confusion: Confusion): number {
  return macroMean(confusion, (correct, support) => correct / support);
}

function macroF1Of(confusion: Confusion): number {
  const { classes } = confusion;
  return macroMean(confusion, (correct, support, k) => {
    let taken = 0;
    for (let truth = 0; truth < classes.length; truth++) taken += countAt(confusion, truth, k);
    return (2 * correct) / (taken + support);
  });
}

// ----------------------------------------------------------------------------------------------------------- statistics

/** Which cluster each clip belongs to, from 0; clips of one subject are one cluster. */
export interface Clusters {
  readonly of: Int32Array;
  readonly count: number;
}

/** Metrics as a function of how often each cluster counts: writes a value each into `values`; keeps neither. */
export type Statistics = (weights: Float64Array, values: Float64Array) => void;
/** One of them, of those that read no confusion matrix. */
type Statistic = (weights: Float64Array) => number;

/**
 * `metrics` as a function of weights on clusters. What does not depend on the weights is computed once, here; the
 * weighted confusion matrix is computed once for all metrics that read it.
 * @throws RangeError for clips that do not fit `classes`, and for an AUC of a class that is none
 */
export function statisticsOf(
  metrics: readonly Metric[],
  predictions: readonly ScoredClip[],
  classes: readonly string[],
  clusters: Clusters,
): Statistics {
  const matrix = confusionStatistic(predictions, classes, clusters);
  const scores = metrics.map((metric): ((weights: Float64Array, confusion: Confusion) => number) => {
    switch (metric.kind) {
      case "accuracy":
        return (_, confusion) => accuracyOf(confusion);
      case "uar":
        return (_, confusion) => uarOf(confusion);
      case "macro_f1":
        return (_, confusion) => macroF1Of(confusion);
      case "auc":
        return aucStatistic(predictions, classes, clusters, metric.class);
      case "loss":
        return lossStatistic(predictions, classes, clusters);
      default:
        return metric satisfies never;
    }
  });
  return (weights, values) => {
    const confusion = matrix(weights);
    for (const [index, score] of scores.entries()) values[index] = score(weights, confusion);
  };
}

/** The confusion matrix as a function of weights; the same record with other numbers at each call. */
function confusionStatistic(
  predictions: readonly ScoredClip[],
  classes: readonly string[],
  clusters: Clusters,
): (weights: Float64Array) => Confusion {
  // The clusters' own matrices, sparse: there are never more entries than clips, however many clusters there are.
  const size = classes.length * (classes.length + 1);
  const own = Array.from({ length: clusters.count }, () => new Map<number, number>());
  for (const [clip, prediction] of predictions.entries()) {
    const counts = own[clusters.of[clip] ?? 0];
    const cell = cellOf(prediction, classes);
    counts?.set(cell, (counts.get(cell) ?? 0) + 1);
  }
  const cells = Int32Array.from(own.flatMap((counts) => [...counts.keys()]));
  const entries = Float64Array.from(own.flatMap((counts) => [...counts.values()]));
  const sizes = Int32Array.from(own, (counts) => counts.size);
  const confusion: Confusion = { classes, counts: new Float64Array(size) };
  return (weights) => {
    const sums = confusion.counts.fill(0);
    let entry = 0;
    for (let cluster = 0; cluster < sizes.length; cluster++) {
      const weight = weights[cluster] ?? 0;
      const end = entry + (sizes[cluster] ?? 0);
      if (weight === 0) entry = end;
      for (; entry < end; entry++) {
        const cell = cells[entry] ?? 0;
        sums[cell] = (sums[cell] ?? 0) + (entries[entry] ?? 0) * weight;
      }
    }
    return confusion;
  };
}

/**
 * Area under the ROC curve as the Mann-Whitney statistic with midranks (Hanley and McNeil 1982, section III). A clip
 * without a prediction is an error: it ranks below all if it is of the class, above all if it is not.
 */
function aucStatistic(
  predictions: readonly ScoredClip[],
  classes: readonly string[],
  clusters: Clusters,
  name: string,
): Statistic {
  const of = classes.indexOf(name);
  if (of < 0) throw new RangeError(`there is no class \`${name}\`; the classes are ${classes.join(", ")}`);
  const ranked = predictions
    .map((clip, index) => {
      const positive = classOf(clip, classes) === of;
      const wrong = positive ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
      const score = predictedClass(clip) === undefined ? wrong : (clip.probabilities?.[of] ?? wrong);
      return { score, positive, cluster: clusters.of[index] ?? 0 };
    })
    .sort((a, b) => (a.score < b.score ? -1 : a.score > b.score ? 1 : 0));
  const positive = Uint8Array.from(ranked, (clip) => (clip.positive ? 1 : 0));
  const owner = Int32Array.from(ranked, (clip) => clip.cluster);
  /** 1 where the next clip's score is another. */
  const last = Uint8Array.from(ranked, ({ score }, index) => (ranked[index + 1]?.score === score ? 0 : 1));
  return (weights) => {
    let [below, pairs, ownPositive, ownNegative, positives] = [0, 0, 0, 0, 0];
    for (let clip = 0; clip < owner.length; clip++) {
      const weight = weights[owner[clip] ?? 0] ?? 0;
      if (positive[clip] === 1) ownPositive += weight;
      else ownNegative += weight;
      if (last[clip] === 0) continue;
      pairs += ownPositive * (below + ownNegative / 2);
      below += ownNegative;
      positives += ownPositive;
      ownPositive = 0;
      ownNegative = 0;
    }
    return pairs / (positives * below);
  };
}

/** The smallest normal f32: below it a probability is a rounded zero, whose logarithm says nothing. */
const LEAST_PROBABILITY = 2 ** -126;

function lossStatistic(predictions: readonly ScoredClip[], classes: readonly string[], clusters: Clusters): Statistic {
  const sums = new Float64Array(clusters.count);
  const counts = new Float64Array(clusters.count);
  for (const [clip, prediction] of predictions.entries()) {
    const truth = classOf(prediction, classes);
    if (predictedClass(prediction) === undefined) continue;
    const owner = clusters.of[clip] ?? 0;
    const probability = prediction.probabilities?.[truth] ?? 0;
    sums[owner] = (sums[owner] ?? 0) - Math.log(Math.max(probability, LEAST_PROBABILITY));
    counts[owner] = (counts[owner] ?? 0) + 1;
  }
  return (weights) => {
    let [sum, count] = [0, 0];
    for (let owner = 0; owner < sums.length; owner++) {
      sum += (sums[owner] ?? 0) * (weights[owner] ?? 0);
      count += (counts[owner] ?? 0) * (weights[owner] ?? 0);
    }
    return sum / count;
  };
}

/**
 * The metric of a set of clips; NaN where it has no value (no clips; an AUC without clips on both sides).
 * @throws RangeError for clips that do not fit `classes`, and for an AUC of a class that is none
 */
export function metricValue(metric: Metric, predictions: readonly ScoredClip[], classes: readonly string[]): number {
  const clusters: Clusters = { of: new Int32Array(predictions.length), count: 1 };
  const value = Float64Array.of(Number.NaN);
  statisticsOf([metric], predictions, classes, clusters)(Float64Array.of(1), value);
  return value[0] ?? Number.NaN;
}
