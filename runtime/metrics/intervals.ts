/**
 * How far a number can be trusted, and whether two differ.
 *
 * In: predictions for clips, or scores of several seeds. Out: intervals of 95 % and p values, each with the name of its
 * method and with what it takes for granted.
 *
 * Clips of one person resemble each other, so a set of 240 clips of 8 people tells about people what 8 observations tell.
 * The bootstrap here therefore draws subjects, not clips (the cluster bootstrap: Davison and Hinkley 1997, section 3.8);
 * what takes clips as independent (Wilson, McNemar) says so. Everything random is a function of a seed.
 */
import type { Metric } from "../../compiler/recipe/recipe.ts";
import { binomialHalf, tCritical, tTwoSided } from "./distributions.ts";
import { type Clusters, predictedClass, type ScoredClip, type Statistics, statisticsOf } from "./scores.ts";

const ALPHA = 0.05;
/** The standard normal's quantile at 0.975. */
const Z = 1.959963984540054;

/** A value and its 95 % interval; low and high are NaN where there is none. */
export interface Interval {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

export interface BootstrapOptions {
  /** Replicates; 10,000 if not given. */
  readonly replicates?: number;
  /** The same seed gives the same intervals; 0 if not given. */
  readonly seed?: number;
}

export const REPLICATES = 10_000;

// ------------------------------------------------------------------------------------------------------------- subjects

/** The subjects as clusters: clips without a subject are a cluster each. */
function clustersOf(clips: readonly ScoredClip[]): Clusters & { readonly unnamed: number } {
  const numbers = new Map<string, number>();
  let count = 0;
  let unnamed = 0;
  const of = Int32Array.from(clips, ({ subject }) => {
    if (subject === undefined) unnamed++;
    const known = subject === undefined ? undefined : numbers.get(subject);
    if (known !== undefined) return known;
    if (subject !== undefined) numbers.set(subject, count);
    return count++;
  });
  return { of, count, unnamed };
}

/** Below this number of subjects the percentile interval is markedly too narrow. */
const FEW = 20;

function clusterNotes(clusters: Clusters & { readonly unnamed: number }, clips: number): readonly string[] {
  const notes: string[] = [];
  const { count, unnamed } = clusters;
  if (unnamed > 0)
    notes.push(
      unnamed === clips
        ? "No clip names its subject: each counts as a subject of its own, and the intervals are too narrow if there are several clips of one person."
        : `${unnamed} of ${clips} clips name no subject: each counts as a subject of its own.`,
    );
  if (count === 1) notes.push("There is one subject only: nothing can be said about others, and there is no interval.");
  else if (count > 1 && count < FEW)
    notes.push(`There are ${count} subjects only: intervals of a bootstrap over so few tend to be too narrow.`);
  return notes;
}

/**
 * Numbers in [0, 1) from a seed: sfc32 (Doty-Humphrey, PractRand). The room imports no other, so it has its own; with
 * 128 bits of state, since a bootstrap draws millions.
 */
function generator(seed: number): () => number {
  let [a, b, c, counter] = [0x9e3779b9, Math.floor(seed / 2 ** 32) | 0, seed | 0, 1];
  const next = (): number => {
    const sum = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return (sum >>> 0) / 2 ** 32;
  };
  for (let warmUp = 0; warmUp < 16; warmUp++) next();
  return next;
}

/** Replicates of `many` values each: `count` draws of all clusters with replacement, the same draws for all values. */
function resample(
  statistics: Statistics,
  many: number,
  clusters: Clusters,
  { replicates = REPLICATES, seed = 0 }: BootstrapOptions,
): readonly Float64Array[] {
  const random = generator(seed);
  const weights = new Float64Array(clusters.count);
  const values = new Float64Array(many);
  const found = Array.from(values, () => new Float64Array(replicates));
  for (let replicate = 0; replicate < replicates; replicate++) {
    weights.fill(0);
    for (let draw = 0; draw < clusters.count; draw++) {
      const drawn = Math.floor(random() * clusters.count);
      weights[drawn] = (weights[drawn] ?? 0) + 1;
    }
    statistics(weights, values);
    for (const [index, of] of found.entries()) of[replicate] = values[index] ?? Number.NaN;
  }
  return found;
}

/** Quantile of sorted values, linear between them (Hyndman and Fan 1996, type 7). */
function quantile(sorted: Float64Array, p: number): number {
  const at = p * (sorted.length - 1);
  const below = Math.floor(at);
  const [low, high] = [sorted[below], sorted[Math.min(below + 1, sorted.length - 1)]];
  return low === undefined || high === undefined ? Number.NaN : low + (at - below) * (high - low);
}

/** Sorted replicates that have a value: an AUC has none where a draw holds no clip of its class. */
function usable(replicates: Float64Array): Float64Array {
  return replicates.filter((value) => !Number.isNaN(value)).sort();
}

function percentiles(value: number, replicates: Float64Array, clusters: number): Interval {
  const sorted = usable(replicates);
  const none = clusters < 2 || sorted.length === 0 || Number.isNaN(value);
  return {
    value,
    low: none ? Number.NaN : quantile(sorted, ALPHA / 2),
    high: none ? Number.NaN : quantile(sorted, 1 - ALPHA / 2),
  };
}

export interface Bootstrap {
  /** One for each metric that was asked for. */
  readonly intervals: readonly Interval[];
  readonly subjects: number;
  readonly method: string;
  readonly notes: readonly string[];
}

const grouped = (count: number): string => String(count).replaceAll(/\B(?=(?:\d{3})+$)/g, ",");
const ones = (count: number): Float64Array => new Float64Array(count).fill(1);

/** 95 % intervals of metrics: percentiles of a bootstrap over subjects (Efron and Tibshirani 1993, chapter 13). */
export function bootstrapIntervals(
  metrics: readonly Metric[],
  predictions: readonly ScoredClip[],
  classes: readonly string[],
  options: BootstrapOptions = {},
): Bootstrap {
  const clusters = clustersOf(predictions);
  const statistics = statisticsOf(metrics, predictions, classes, clusters);
  const values = new Float64Array(metrics.length);
  statistics(ones(clusters.count), values);
  const replicates = resample(statistics, metrics.length, clusters, options);
  const { replicates: count = REPLICATES, seed = 0 } = options;
  const worst = Math.max(0, ...replicates.map((values) => values.length - usable(values).length));
  return {
    intervals: replicates.map((own, index) => percentiles(values[index] ?? Number.NaN, own, clusters.count)),
    subjects: clusters.count,
    method: `95 % percentile interval, ${grouped(count)} bootstrap draws of the subjects, seed ${seed}`,
    notes: [
      ...clusterNotes(clusters, predictions.length),
      ...(worst > 0 && predictions.length > 0
        ? [
            `Up to ${grouped(worst)} of ${grouped(count)} draws held no clip that a metric needs, and were left out for it.`,
          ]
        : []),
    ],
  };
}

// ------------------------------------------------------------------------------------------------------ two models

/** Two models' predictions for the same clips, in the same order. */
export interface PairedClips {
  readonly a: readonly ScoredClip[];
  readonly b: readonly ScoredClip[];
}

/** Puts the predictions of two models side by side; refuses other clips, classes or subjects, and says which. */
export function pairClips(
  a: readonly ScoredClip[],
  b: readonly ScoredClip[],
): PairedClips | { readonly error: string } {
  const first = new Map(a.map((clip) => [clip.path, clip]));
  const second = new Map(b.map((clip) => [clip.path, clip]));
  for (const [clips, known, name] of [[a, first, "first"] as const, [b, second, "second"] as const])
    if (known.size !== clips.length) return { error: `the ${name} lists ${clips.length - known.size} clips twice` };
  const onlyFirst = a.filter((clip) => !second.has(clip.path));
  const onlySecond = b.filter((clip) => !first.has(clip.path));
  if (onlyFirst.length > 0 || onlySecond.length > 0)
    return {
      error: `the clips are not the same: ${onlyIn(onlyFirst, "first")}, ${onlyIn(onlySecond, "second")}`,
    };
  const paired: ScoredClip[] = [];
  for (const clip of a) {
    const other = second.get(clip.path);
    if (other === undefined) return { error: `\`${clip.path}\` is missing` };
    if (other.class !== clip.class)
      return { error: `\`${clip.path}\` is \`${clip.class}\` in the first and \`${other.class}\` in the second` };
    if (other.subject !== clip.subject)
      return {
        error: `\`${clip.path}\` shows ${clip.subject ?? "nobody known"} in the first and ${other.subject ?? "nobody known"} in the second`,
      };
    paired.push(other);
  }
  return { a, b: paired };
}

function onlyIn(clips: readonly ScoredClip[], name: string): string {
  const examples = clips.slice(0, 3).map((clip) => `\`${clip.path}\``);
  const more = clips.length > 3 ? ", …" : "";
  return `${clips.length} only in the ${name}${clips.length === 0 ? "" : ` (${examples.join(", ")}${more})`}`;
}

export interface Difference {
  /** Second minus first. */
  readonly difference: Interval;
  readonly a: number;
  readonly b: number;
  /** Two-sided; NaN with a single subject. */
  readonly p: number;
}

/** What a paired bootstrap finds. */
export interface PairedBootstrap {
  readonly differences: readonly Difference[];
  readonly subjects: number;
  readonly method: string;
  readonly notes: readonly string[];
}

/**
 * Differences of metrics between two models on the same clips, by one bootstrap over subjects for both. The p value
 * inverts the percentile interval: twice the smaller share of replicates on one side of zero, each count plus one
 * (Davison and Hinkley 1997, section 4.2: a p value is never 0).
 */
export function pairedBootstrap(
  metrics: readonly Metric[],
  pairs: PairedClips,
  classes: readonly string[],
  options: BootstrapOptions = {},
): PairedBootstrap {
  return seedsBootstrap(metrics, [pairs], classes, options);
}

/**
 * The same for two models that were trained with several seeds each: a metric is the mean over the seeds, and the draws
 * are of subjects. It asks about other people for these trainings, not about other trainings. All seeds list the same clips
 * in one order.
 * @throws RangeError without any pair
 */
export function seedsBootstrap(
  metrics: readonly Metric[],
  seeds: readonly PairedClips[],
  classes: readonly string[],
  options: BootstrapOptions = {},
): PairedBootstrap {
  const [one] = seeds;
  if (one === undefined) throw new RangeError("there are no predictions to compare");
  const clusters = clustersOf(one.a);
  const models = seeds.flatMap(({ a, b }) => [
    { sign: -1, statistics: statisticsOf(metrics, a, classes, clusters) },
    { sign: 1, statistics: statisticsOf(metrics, b, classes, clusters) },
  ]);
  const [own, other, single] = [0, 0, 0].map(() => new Float64Array(metrics.length)) as [
    Float64Array,
    Float64Array,
    Float64Array,
  ];
  const difference: Statistics = (weights, values) => {
    own.fill(0);
    other.fill(0);
    for (const { sign, statistics } of models) {
      statistics(weights, single);
      const sum = sign < 0 ? own : other;
      for (let index = 0; index < sum.length; index++)
        sum[index] = (sum[index] ?? 0) + (single[index] ?? 0) / seeds.length;
    }
    for (let index = 0; index < values.length; index++) values[index] = (other[index] ?? 0) - (own[index] ?? 0);
  };
  const replicates = resample(difference, metrics.length, clusters, options);
  const values = new Float64Array(metrics.length);
  difference(ones(clusters.count), values); // leaves the two models' own values behind as well
  const { replicates: count = REPLICATES, seed = 0 } = options;
  return {
    differences: replicates.map((all, index) => {
      const usual = usable(all);
      const atMost = usual.filter((value) => value <= 0).length;
      const atLeast = usual.filter((value) => value >= 0).length;
      const p = Math.min(1, (2 * (Math.min(atMost, atLeast) + 1)) / (usual.length + 1));
      return {
        a: own[index] ?? Number.NaN,
        b: other[index] ?? Number.NaN,
        difference: percentiles(values[index] ?? Number.NaN, usual, clusters.count),
        p: clusters.count < 2 ? Number.NaN : p,
      };
    }),
    subjects: clusters.count,
    method: `paired bootstrap, ${grouped(count)} draws of the subjects, the same for both, seed ${seed}`,
    notes: clusterNotes(clusters, one.a.length),
  };
}

export interface McNemar {
  /** Clips that only the first, and that only the second, has right. */
  readonly onlyFirst: number;
  readonly onlySecond: number;
  /** Two-sided exact p value. */
  readonly p: number;
}

export const MCNEMAR_CAVEAT =
  "McNemar's test takes clips as independent. Clips of one subject are not, so its p value tends to be too small; the bootstrap over subjects is the one to trust.";

/** McNemar's exact test (1947): of the clips that one model alone has right, is it half and half? */
export function mcnemar({ a, b }: PairedClips, classes: readonly string[]): McNemar {
  let [onlyFirst, onlySecond] = [0, 0];
  for (const [index, clip] of a.entries()) {
    const other = b[index];
    if (other === undefined) continue;
    const truth = classes.indexOf(clip.class);
    const [first, second] = [predictedClass(clip) === truth, predictedClass(other) === truth];
    if (first && !second) onlyFirst++;
    if (second && !first) onlySecond++;
  }
  return { onlyFirst, onlySecond, p: mcnemarP(onlyFirst, onlySecond) };
}

/** The exact two-sided p value of `onlyFirst` against `onlySecond` clips. */
export function mcnemarP(onlyFirst: number, onlySecond: number): number {
  const [few, all] = [Math.min(onlyFirst, onlySecond), onlyFirst + onlySecond];
  return Math.min(1, 2 * binomialHalf(few, all));
}

// ----------------------------------------------------------------------------------------------------------- proportions

export const WILSON_CAVEAT =
  "Wilson's interval takes clips as independent. Clips of one subject are not, so it tends to be too narrow.";

/** Wilson's score interval of a proportion (1927), for `correct` of `total` independent clips. */
export function wilsonInterval(correct: number, total: number): Interval {
  const share = correct / total;
  const denominator = 1 + Z ** 2 / total;
  const centre = (share + Z ** 2 / (2 * total)) / denominator;
  const half = (Z * Math.sqrt((share * (1 - share)) / total + Z ** 2 / (4 * total ** 2))) / denominator;
  return { value: share, low: Math.max(0, centre - half), high: Math.min(1, centre + half) };
}

// ----------------------------------------------------------------------------------------------------------------- seeds

export interface SeedDifference {
  /** Mean of the paired differences, second minus first, with its t interval. */
  readonly difference: Interval;
  /** Sample standard deviation of the differences (n − 1). */
  readonly deviation: number;
  readonly pairs: number;
  /** Two-sided p value of the paired t test. */
  readonly p: number;
}

/**
 * The paired t test of scores of two models trained with the same seeds: `first[i]` and `second[i]` share a seed. It asks
 * about other seeds on the same data, not about other people. Interval and p are NaN for fewer than two pairs.
 * @throws RangeError for lists of different lengths
 */
export function seedDifference(first: readonly number[], second: readonly number[]): SeedDifference {
  if (first.length !== second.length)
    throw new RangeError(`${first.length} scores cannot be paired with ${second.length}`);
  const pairs = first.length;
  const differences = second.map((value, index) => value - (first[index] ?? Number.NaN));
  const mean = differences.reduce((sum, value) => sum + value, 0) / pairs;
  const squares = differences.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const deviation = pairs < 2 ? Number.NaN : Math.sqrt(squares / (pairs - 1));
  const error = deviation / Math.sqrt(pairs);
  const half = pairs < 2 ? Number.NaN : tCritical(ALPHA, pairs - 1) * error;
  const p = error === 0 ? (mean === 0 ? 1 : 0) : tTwoSided(mean / error, pairs - 1);
  return { difference: { value: mean, low: mean - half, high: mean + half }, deviation, pairs, p };
}

/**
 * p values corrected for their number (Holm 1979), in the order given: rejecting those at or below 0.05 makes a false
 * rejection anywhere in the family no likelier than that. A NaN is no test: it stays, and does not count.
 */
export function holm(pValues: readonly number[]): readonly number[] {
  const corrected = Array.from(pValues, () => Number.NaN);
  const order = pValues
    .map((p, index) => ({ p, index }))
    .filter(({ p }) => !Number.isNaN(p))
    .sort((a, b) => a.p - b.p);
  let largest = 0;
  for (const [rank, { p, index }] of order.entries()) {
    largest = Math.max(largest, Math.min(1, (order.length - rank) * p));
    corrected[index] = largest;
  }
  return corrected;
}
