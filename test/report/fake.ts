/**
 * Runs that never were: records, curves and predictions of the kind that training writes, drawn from a seed.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Recipe } from "../../compiler/recipe/recipe.ts";
import { type Random, randomOf } from "../../runtime/data/random.ts";
import type { Run } from "../../runtime/report/read.ts";
import { encodePredictions, type Predictions } from "../../runtime/train/predictions.ts";
import type {
  ClipPrediction,
  EpochLine,
  MetricLine,
  PredictionHeader,
  RunRecord,
  SideCount,
  StepLine,
} from "../../runtime/train/records.ts";

const CLASSES: readonly string[] = ["anger", "disgust", "fear", "happiness", "sadness", "surprise"];
const NOTE = "SYNTHETIC: six emotions, in the layout of eNTERFACE'05; seed 0";
const HASH = "9b74c9897bac770ffc029102a200c5de19a1b3a4d5e6f708192a3b4c5d6e7f80";

function recipe(): Recipe {
  const stage = {
    loss: [
      { weight: 1, kind: "cross_entropy", on: "output", smoothing: 0.1, classWeights: "none" },
      { weight: 0.3, kind: "cross_entropy", on: "streams", smoothing: 0, classWeights: "inverse_frequency" },
    ],
    weightDecay: 0.0005,
    parameters: [
      { path: "rgb.conv1_1.weight", rate: 0.1, decay: 1, frozenUntil: 3 },
      { path: "rgb.conv1_1.bias", rate: 0.2, decay: 0, frozenUntil: 3 },
      { path: "flow.conv1_1.weight", rate: 1, decay: 1, frozenUntil: "end" },
      { path: "stia.conv3.query.weight", rate: 10, decay: 1, frozenUntil: 0 },
      { path: "fc8.weight", rate: 10, decay: 1, frozenUntil: 0 },
    ],
    frozenNorms: ["flow.bn1"],
    accumulate: 4,
    clipNorm: 20,
    ema: undefined,
    mixup: undefined,
    keep: { metric: { kind: "uar" }, better: "larger" },
  } as const;
  return {
    name: "pain_recipe",
    model: "VGG16x2",
    data: {
      folder: "data/enterface",
      labels: CLASSES,
      split: { protocol: { kind: "folds", folds: 5, seed: 0 }, validation: 0.2 },
      batch: 16,
      balance: "inverse_frequency",
      sampling: { kind: "segments", count: 3 },
      resize: 256,
      crop: "random",
      flip: 0.5,
      jitter: 0.2,
      flowBound: 20,
      evaluation: { segments: 25, crops: 10 },
    },
    stages: [
      {
        ...stage,
        name: "warm",
        epochs: 6,
        optimizer: { kind: "sgd", momentum: 0.9, nesterov: true },
        rate: 0.01,
        schedule: { warmup: 1, then: { kind: "constant" } },
        stop: undefined,
      },
      {
        ...stage,
        name: "whole",
        epochs: 24,
        optimizer: { kind: "adam", beta1: 0.9, beta2: 0.999, eps: 1e-8, decoupled: true },
        rate: 0.001,
        schedule: { warmup: 0, then: { kind: "cosine", to: 0.01 } },
        stop: { goal: { metric: { kind: "uar" }, better: "larger" }, patience: 8 },
      },
    ],
    precision: { kind: "mixed", lossScale: undefined },
    seed: 7,
    metrics: [{ kind: "accuracy" }, { kind: "uar" }, { kind: "macro_f1" }, { kind: "auc", class: "fear" }],
  };
}

const side = (subjects: number, each: number): SideCount => ({
  clips: subjects * each * CLASSES.length,
  subjects,
  byClass: CLASSES.map(() => subjects * each),
});

function layers(): RunRecord["model"]["layers"] {
  const streams = ["rgb", "flow"].flatMap((stream) =>
    [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512].map((channels, index) => {
      const block = [1, 1, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5][index] ?? 5;
      const size = 224 / 2 ** (block - 1);
      const input = index === 0 ? (stream === "rgb" ? 3 : 20) : Math.min(512, channels);
      return {
        path: `${stream}.conv${block}_${index + 1}`,
        shape: [1, channels, size, size],
        parameters: channels * input * 9 + channels,
        macs: channels * input * 9 * size * size,
      };
    }),
  );
  return [
    ...streams,
    { path: "stia.conv3", shape: [1, 256, 56, 56], parameters: 264_448, macs: 5_860_000_000 },
    { path: "head.fc6", shape: [1, 4096], parameters: 102_764_544, macs: 102_760_448 },
    { path: "head.fc8", shape: [1, 6], parameters: 24_582, macs: 24_576 },
  ];
}

/** A record of a run of `name`. */
export function fakeRecord(name: string, seed: number): RunRecord {
  const table = layers();
  return {
    format: "netc-run",
    version: 1,
    name,
    netc: "0.1.0",
    model: {
      name: "VGG16x2",
      graphHash: HASH,
      parameters: table.reduce((sum, layer) => sum + layer.parameters, 0),
      macs: table.reduce((sum, layer) => sum + layer.macs, 0),
      layers: table,
    },
    recipe: recipe(),
    request: { source: "model.net", model: undefined, recipe: undefined, arguments: {}, bind: {}, fold: 1 },
    recipeHash: HASH.replace("9", "1"),
    data: {
      folder: "data/enterface",
      note: NOTE,
      manifestHash: HASH.replace("9", "2"),
      classes: CLASSES,
      fold: "fold 1 of 5",
      train: side(24, 5),
      validation: side(6, 5),
      test: side(12, 5),
    },
    seed,
    device: "NVIDIA L4 (WebGPU, vulkan)",
    environment: { node: "v20.20.0", system: "linux x64", processors: 8, memoryBytes: 32 * 2 ** 30 },
    started: "2026-03-14T09:26:53.000Z",
    command: ["netc", "train", "pain.net", "--seed", String(seed)],
  };
}

const normal = (random: Random): number => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());

/** The lines of a run of two stages, with a resumption in the middle. */
export function fakeMetrics(seed: number, batches = 45): readonly MetricLine[] {
  const random = randomOf(seed, "metrics");
  const lines: MetricLine[] = [{ kind: "note", step: 0, text: "stage warm begins" }];
  let step = 0;
  let best = 0;
  for (let epoch = 0; epoch < 30; epoch++) {
    const stage = epoch < 6 ? 0 : 1;
    const within = stage === 0 ? epoch : epoch - 6;
    const steps: StepLine[] = [];
    for (let batch = 0; batch < batches; batch++) {
      step++;
      const time = epoch + batch / batches;
      const loss = 0.35 + 1.45 * Math.exp(-time / 7) + 0.12 * normal(random);
      const rate =
        stage === 0
          ? 0.01 * Math.min(1, time)
          : 0.001 * (0.01 + 0.99 * 0.5 * (1 + Math.cos((Math.PI * (time - 6)) / 24)));
      steps.push({
        kind: "step",
        stage,
        epoch: within,
        step,
        loss: Math.max(0.02, loss),
        norm: 2 + 9 * Math.exp(-time / 4) * (1 + 0.4 * random()),
        rate,
        seconds: 0.41 + 0.05 * random(),
        waited: 0.05 * random(),
      });
    }
    lines.push(...steps);
    const uar = 0.17 + 0.52 * (1 - Math.exp(-epoch / 8)) + 0.025 * normal(random);
    const mean = (of: (line: StepLine) => number): number =>
      steps.reduce((sum, line) => sum + of(line), 0) / steps.length;
    const line: EpochLine = {
      kind: "epoch",
      stage,
      epoch: within,
      step,
      train: { loss: mean((one) => one.loss), accuracy: 0.2 + 0.75 * (1 - Math.exp(-epoch / 7)) },
      validation: {
        loss: 0.95 + 0.85 * Math.exp(-epoch / 5) + 0.012 * Math.max(0, epoch - 15) + 0.03 * normal(random),
        accuracy: uar + 0.01 * normal(random),
        uar,
        macro_f1: uar - 0.02 + 0.01 * normal(random),
        "auc(fear)": 0.6 + 0.28 * (1 - Math.exp(-epoch / 8)),
      },
      best: uar > best,
      rate: steps.at(-1)?.rate ?? 0,
      seconds: steps.reduce((sum, one) => sum + one.seconds, 0),
      waited: steps.reduce((sum, one) => sum + one.waited, 0),
      evaluationSeconds: 6 + random(),
      samplesPerSecond: 36 + 3 * normal(random),
      residentBytes: (1.9 + 0.3 * (1 - Math.exp(-epoch / 3))) * 2 ** 30,
      deviceBytes: 5.4 * 2 ** 30,
    };
    best = Math.max(best, uar);
    lines.push(line);
    if (epoch === 5) lines.push({ kind: "note", step, text: "stage whole begins" });
    if (epoch === 16) lines.push({ kind: "note", step, text: "resumed from the checkpoint of this update" });
  }
  return lines;
}

export interface FakePredictions {
  readonly run?: string;
  readonly side?: "validation" | "test";
  readonly seed?: number;
  /** How well classes are told apart, 0 not at all. */
  readonly skill?: number;
  readonly subjects?: number;
  readonly each?: number;
  /** Clips that could not be read. */
  readonly failed?: number;
  readonly classes?: readonly string[];
  readonly note?: string;
}

/** Predictions for clips of people who are more or less easy to read; who and what is shown does not depend on the seed. */
export function fakePredictions(options: FakePredictions = {}): Predictions {
  const { run = "stia-conv3", seed = 7, skill = 1.5, subjects = 12, each = 5, failed = 0 } = options;
  const { side: of = "test", classes = CLASSES, note = NOTE } = options;
  const header: PredictionHeader = {
    format: "netc-predictions",
    version: 1,
    run,
    model: "VGG16x2",
    graphHash: HASH,
    side: of,
    step: 1080,
    seed,
    fold: "fold 1 of 5",
    manifestHash: HASH.replace("9", "2"),
    note,
    classes,
    segments: 25,
    crops: 10,
  };
  const random = randomOf(seed, "predictions", run, of);
  const clips: ClipPrediction[] = [];
  for (let s = 0; s < subjects; s++) {
    const ease = skill * (0.4 + 1.2 * randomOf(1, "person", s)());
    for (const [k, name] of classes.entries())
      for (let index = 0; index < each; index++) {
        const scores = classes.map(
          (_, c) => normal(random) + (c === k ? ease : c === (k + 1) % classes.length ? 0.5 : 0),
        );
        const total = scores.reduce((sum, score) => sum + Math.exp(score), 0);
        clips.push({
          path: `subject ${s + 1}/${name}/sentence ${index + 1}.avi`,
          subject: `subject ${s + 1}`,
          class: name,
          probabilities: scores.map((score) => Math.exp(score) / total),
          failure: undefined,
        });
      }
  }
  for (let index = 0; index < failed; index++) {
    const at = Math.floor(((index + 0.5) * clips.length) / failed);
    const clip = clips[at];
    if (clip !== undefined)
      clips[at] = { ...clip, probabilities: undefined, failure: "the file ends in the middle of a frame" };
  }
  return { header, clips };
}

/** A run with everything. */
export function fakeRun(name = "stia-conv3", seed = 7): Run {
  return {
    record: fakeRecord(name, seed),
    metrics: fakeMetrics(seed),
    validation: fakePredictions({ run: name, seed, side: "validation", subjects: 6 }),
    test: fakePredictions({ run: name, seed, failed: 3 }),
  };
}

/** A value a line. */
export function jsonLines(lines: readonly unknown[]): string {
  return lines.map((line) => `${JSON.stringify(line)}\n`).join("");
}

/** Writes a run's folder as training does, and returns it. */
export function writeRun(folder: string, run: Run): string {
  mkdirSync(join(folder, "predictions"), { recursive: true });
  writeFileSync(join(folder, "run.json"), JSON.stringify(run.record, undefined, 2));
  writeFileSync(join(folder, "metrics.jsonl"), jsonLines(run.metrics));
  for (const side of ["validation", "test"] as const) {
    const predictions = run[side];
    if (predictions === undefined) continue;
    const file = join(folder, "predictions", `${side}.jsonl`);
    writeFileSync(file, encodePredictions(predictions.header, predictions.clips));
  }
  return folder;
}
