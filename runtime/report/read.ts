/**
 * Reads the folder of a run: what was asked for, what happened, and what the model said of its clips.
 *
 * A run that was killed leaves the last line of metrics.jsonl unfinished, and one that was resumed repeats the updates
 * since its checkpoint: both are ordinary. Anything else that is not as records.ts says is reported with file and line.
 */
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { type Predictions, readPredictions } from "../train/predictions.ts";
import type { MetricLine, RunRecord } from "../train/records.ts";
import {
  either,
  flag,
  kinds,
  list,
  numeral,
  object,
  oneOf,
  optional,
  parse,
  type Shape,
  text,
  values,
} from "../train/shape.ts";
import { ATTENTION_FILE, type AttentionRecord, readAttention } from "./attention/record.ts";

/** Everything that a report shows. */
export interface Run {
  readonly record: RunRecord;
  readonly metrics: readonly MetricLine[];
  readonly validation: Predictions | undefined;
  readonly test: Predictions | undefined;
  /** Where its streams look at each other, if that was looked at. */
  readonly attention?: AttentionRecord | undefined;
}

const METRIC = kinds({ loss: {}, accuracy: {}, uar: {}, macro_f1: {}, auc: { class: text } });
const GOAL = object({ metric: METRIC, better: oneOf("larger", "smaller") });
const STAGE = object({
  name: text,
  epochs: numeral,
  loss: list(
    object({
      weight: numeral,
      kind: oneOf("cross_entropy", "binary_cross_entropy", "mean_squared_error"),
      on: oneOf("output", "streams"),
      smoothing: numeral,
      classWeights: either(oneOf("none", "inverse_frequency"), list(numeral)),
    }),
  ),
  optimizer: kinds({
    sgd: { momentum: numeral, nesterov: flag },
    adam: { beta1: numeral, beta2: numeral, eps: numeral, decoupled: flag },
  }),
  rate: numeral,
  weightDecay: numeral,
  schedule: object({
    warmup: numeral,
    then: kinds({
      constant: {},
      step: { at: list(numeral), gamma: numeral },
      cosine: { to: numeral },
      plateau: { goal: GOAL, gamma: numeral, patience: numeral, least: numeral },
    }),
  }),
  parameters: list(object({ path: text, rate: numeral, decay: numeral, frozenUntil: either(numeral, oneOf("end")) })),
  frozenNorms: list(text),
  accumulate: numeral,
  clipNorm: optional(numeral),
  ema: optional(numeral),
  mixup: optional(numeral),
  stop: optional(object({ goal: GOAL, patience: numeral })),
  keep: GOAL,
});
const RECIPE = object({
  name: text,
  model: text,
  data: object({
    folder: text,
    labels: optional(list(text)),
    split: object({
      protocol: kinds({ folds: { folds: numeral, seed: numeral }, "leave-one-subject-out": {}, fixed: {} }),
      validation: numeral,
    }),
    batch: numeral,
    balance: oneOf("none", "inverse_frequency"),
    sampling: kinds({ middle: {}, random: {}, segments: { count: numeral } }),
    resize: optional(numeral),
    crop: oneOf("random", "centre"),
    flip: numeral,
    jitter: numeral,
    flowBound: numeral,
    evaluation: object({ segments: numeral, crops: oneOf(1, 10) }),
  }),
  stages: list(STAGE),
  precision: kinds({ f32: {}, mixed: { lossScale: optional(numeral) } }),
  seed: numeral,
  metrics: list(METRIC),
});
const SIDE = object({ clips: numeral, subjects: numeral, byClass: list(numeral) });
const RECORD: Shape = object({
  format: oneOf("netc-run"),
  version: oneOf(1),
  name: text,
  netc: text,
  model: object({
    name: text,
    graphHash: text,
    parameters: numeral,
    macs: numeral,
    layers: list(object({ path: text, shape: list(numeral), parameters: numeral, macs: numeral })),
  }),
  request: object({
    source: text,
    model: optional(text),
    recipe: optional(text),
    arguments: values(either(numeral, text, flag)),
    bind: values(numeral),
    fold: either(numeral, text),
  }),
  recipe: RECIPE,
  recipeHash: text,
  data: object({
    folder: text,
    note: text,
    manifestHash: text,
    classes: list(text),
    fold: text,
    train: SIDE,
    validation: SIDE,
    test: SIDE,
  }),
  seed: numeral,
  device: text,
  environment: object({ node: text, system: text, processors: numeral, memoryBytes: numeral }),
  started: text,
  command: list(text),
});
const LINE: Shape = kinds({
  step: {
    stage: numeral,
    epoch: numeral,
    step: numeral,
    loss: numeral,
    norm: numeral,
    rate: numeral,
    seconds: numeral,
    waited: numeral,
  },
  epoch: {
    stage: numeral,
    epoch: numeral,
    step: numeral,
    train: object({ loss: numeral, accuracy: numeral }),
    validation: optional(values(numeral)),
    best: flag,
    rate: numeral,
    seconds: numeral,
    waited: numeral,
    evaluationSeconds: numeral,
    samplesPerSecond: numeral,
    residentBytes: numeral,
    deviceBytes: numeral,
  },
  note: { step: numeral, text },
});

/** JSON has no NaN and writes null for it: a loss that ran away comes back as what it was. */
const nan = (_key: string, value: unknown): unknown => (value === null ? Number.NaN : value);

/** The lines of metrics.jsonl; one without an end of line is the last of a run that was killed, and is left out. */
export function decodeMetrics(content: string): readonly MetricLine[] | { readonly error: string } {
  const lines = content.split("\n");
  lines.pop();
  const metrics: MetricLine[] = [];
  for (const [index, line] of lines.entries()) {
    const read = parse(line, LINE, nan);
    if ("error" in read) return { error: `line ${index + 1}: ${read.error}` };
    // JSON leaves out fields that are undefined.
    const metric = read.ok as MetricLine;
    metrics.push(metric.kind === "epoch" ? { ...metric, validation: metric.validation } : metric);
  }
  return metrics;
}

/** The text of run.json. */
export function decodeRecord(content: string): RunRecord | { readonly error: string } {
  const read = parse(content, RECORD);
  return "error" in read ? read : (read.ok as RunRecord);
}

/**
 * Reads a run. Its predictions may be missing (it has not been evaluated), its metrics too (it has not begun).
 * @throws a system error where a file is there and cannot be read
 */
export function readRun(folder: string): Run | { readonly error: string; readonly help: readonly string[] } {
  const isFolder = existsSync(folder) && statSync(folder).isDirectory();
  if (!isFolder || !existsSync(join(folder, "run.json")))
    return {
      error: isFolder ? `\`${folder}\` holds no run: it has no run.json` : `\`${folder}\` is no folder`,
      help: ["give the folder that `netc train` wrote"],
    };
  const damaged = (name: string, error: string): { readonly error: string; readonly help: readonly string[] } => ({
    error: `\`${join(folder, name)}\`: ${error}`,
    help: ["it was edited, or written by another version of netc"],
  });
  const record = decodeRecord(readFileSync(join(folder, "run.json"), "utf8"));
  if ("error" in record) return damaged("run.json", record.error);
  const file = join(folder, "metrics.jsonl");
  const metrics = existsSync(file) ? decodeMetrics(readFileSync(file, "utf8")) : [];
  if ("error" in metrics) return damaged("metrics.jsonl", metrics.error);
  const sides: Record<"validation" | "test", Predictions | undefined> = { validation: undefined, test: undefined };
  for (const side of ["validation", "test"] as const) {
    const path = join(folder, "predictions", `${side}.jsonl`);
    if (!existsSync(path)) continue;
    const read = readPredictions(path);
    if ("error" in read) return { error: read.error, help: ["`netc eval` writes it anew"] };
    sides[side] = read;
  }
  const attention = readAttention(join(folder, ATTENTION_FILE));
  if (attention !== undefined && "error" in attention)
    return {
      error: `\`${join(folder, ATTENTION_FILE)}\`: ${attention.error}`,
      help: ["`netc attention` writes it anew"],
    };
  return { record, metrics, ...sides, ...(attention === undefined ? {} : { attention }) };
}
