/** What the tests of runs share: a folder that goes away, records, states. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import type { Goal, Recipe, Stage } from "../../compiler/recipe/recipe.ts";
import type { CheckpointRecord, LoadedCheckpoint, RunFacts, StateStream } from "../../runtime/train/checkpoint.ts";
import type { RunRecord } from "../../runtime/train/records.ts";
import { PLATEAU_START, STOP_START } from "../../runtime/train/schedule.ts";

const UAR: Goal = { metric: { kind: "uar" }, better: "larger" };

const stage: Stage = {
  name: "",
  epochs: 20,
  loss: [{ weight: 1, kind: "cross_entropy", on: "output", smoothing: 0, classWeights: "none" }],
  optimizer: { kind: "sgd", momentum: 0.9, nesterov: false },
  rate: 0.01,
  weightDecay: 5e-4,
  schedule: { warmup: 0, then: { kind: "step", at: [10, 15], gamma: 0.1 } },
  parameters: ["conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias", "fc.weight"].map((path) => ({
    path,
    rate: 1,
    decay: path.endsWith("bias") ? 0 : 1,
    frozenUntil: 0,
  })),
  frozenNorms: [],
  accumulate: 1,
  clipNorm: undefined,
  ema: undefined,
  mixup: undefined,
  stop: { goal: UAR, patience: 5 },
  keep: UAR,
};

/** A recipe of one stage, with what is given put into it. */
export function recipeWith(changes: Partial<Stage> = {}): Recipe {
  return {
    name: "fine_tune",
    model: "Pain",
    data: {
      folder: "data/pain",
      labels: undefined,
      split: { protocol: { kind: "folds", folds: 5, seed: 1 }, validation: 0.2 },
      batch: 16,
      balance: "none",
      sampling: { kind: "random" },
      resize: 256,
      crop: "random",
      flip: 0.5,
      jitter: 0,
      flowBound: 20,
      evaluation: { segments: 5, crops: 1 },
    },
    stages: [{ ...stage, ...changes }],
    precision: { kind: "f32" },
    seed: 7,
    metrics: [{ kind: "uar" }],
  };
}

export const facts: RunFacts = {
  model: "Pain",
  graphHash: "a".repeat(64),
  recipe: recipeWith(),
  recipeHash: "b".repeat(64),
  manifestHash: "c".repeat(64),
  seed: 7,
  device: "WASM SIMD",
  threads: 2,
};

export function recordAt(step: number, changes: Partial<CheckpointRecord> = {}): CheckpointRecord {
  return {
    step,
    stage: 0,
    epoch: Math.floor(step / 10),
    batch: step % 10,
    counters: { order: step, augment: 3 * step },
    plateau: PLATEAU_START,
    stop: STOP_START,
    best: undefined,
    metricsBytes: 0,
    facts,
    ...changes,
  };
}

/** Numbers that tell tensor and step; among them those that break naive copies. */
export function numbersOf(name: string, length: number, step: number): Float32Array {
  const special = [Number.NaN, Number.POSITIVE_INFINITY, -0, 1e-45];
  return Float32Array.from({ length }, (_, i) => special[i - 3] ?? Math.fround(step + name.length / 7 + i));
}

export const SHAPES: readonly { readonly name: string; readonly shape: readonly number[] }[] = [
  { name: "conv1.weight", shape: [3, 1, 5] },
  { name: "bn1.running_mean", shape: [7] },
  { name: "scale", shape: [] },
  { name: "nothing", shape: [0, 4] },
  { name: "momentum/conv1.weight", shape: [3, 1, 5] },
  { name: "average/scale", shape: [] },
];

export function elements(shape: readonly number[]): number {
  return shape.reduce((product, n) => product * n, 1);
}

/** A state that comes tensor by tensor, all in one array that is used again. */
export function stateAt(step: number, layout: StateStream["layout"] = SHAPES): StateStream {
  const room = new Float32Array(Math.max(1, ...layout.map(({ shape }) => elements(shape))));
  return {
    layout,
    tensors: (async function* () {
      for (const { name, shape } of layout) {
        const data = room.subarray(0, elements(shape));
        data.set(numbersOf(name, data.length, step));
        yield { name, shape, data };
      }
    })(),
  };
}

/** The step whose numbers a checkpoint holds, all of them; an error if there is a single other one. */
export async function stepIn(loaded: LoadedCheckpoint): Promise<number> {
  const { step } = loaded.record;
  for (const { name, shape } of loaded.tensors.values()) {
    const bits = (data: Float32Array): string =>
      Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("hex");
    if (bits(await loaded.read(name)) !== bits(numbersOf(name, elements(shape), step)))
      throw new Error(`${name} of ${loaded.folder} holds other numbers`);
  }
  await loaded.close();
  return step;
}

/** A folder for a test file, removed afterwards. */
export function playground(): string {
  const at = mkdtempSync(join(tmpdir(), "netc-train-"));
  afterAll(() => rmSync(at, { recursive: true, force: true }));
  return at;
}

/** What an error says, and what it advises. */
export async function messageOf(work: () => unknown): Promise<string> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const help = "help" in error && Array.isArray(error.help) ? error.help : [];
    return [error.message, ...help.map((line) => `help: ${line}`)].join("\n");
  }
  return "no error";
}

export const runRecord: Omit<RunRecord, "name"> = {
  format: "netc-run",
  version: 1,
  netc: "0.1.0",
  model: { name: "Pain", graphHash: facts.graphHash, parameters: 15, macs: 1000, layers: [] },
  request: { source: "model.net", model: undefined, recipe: undefined, arguments: {}, bind: {}, fold: 1 },
  recipe: facts.recipe,
  recipeHash: facts.recipeHash,
  data: {
    folder: "data/pain",
    note: "SYNTHETIC: nobody",
    manifestHash: facts.manifestHash,
    classes: ["calm", "pain"],
    fold: "1 of 5",
    train: { clips: 8, subjects: 4, byClass: [4, 4] },
    validation: { clips: 2, subjects: 1, byClass: [1, 1] },
    test: { clips: 2, subjects: 1, byClass: [1, 1] },
  },
  seed: 7,
  device: "WASM SIMD",
  environment: { node: "20.20.0", system: "linux", processors: 2, memoryBytes: 1 },
  started: "2026-04-12T09:05:07Z",
  command: ["netc", "train", "pain.net"],
};
