/**
 * Whole runs on small drawn sets, in this process: what the tests of the loop share.
 *
 * In: a source text with a recipe, a set of clips, where to stop. Out: the run folder that training leaves, as a person
 * would have it from `netc train`.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { type Capability, WASM_DEFAULT } from "../../compiler/capability.ts";
import { openExperiment } from "../../runtime/cli/experiment.ts";
import { diskResolve } from "../../runtime/cli/sources.ts";
import { type DataPool, openPool } from "../../runtime/data/loader/pool.ts";
import type { OpenProgram } from "../../runtime/engine/devices.ts";
import { initialise } from "../../runtime/engine/init.ts";
import { openWasm } from "../../runtime/engine/wasm/runner.ts";
import { checkpointName, listCheckpoints, loadCheckpoint } from "../../runtime/train/checkpoint.ts";
import type { EvaluationJob } from "../../runtime/train/evaluate.ts";
import { type Experiment, recordOf, withoutFolder } from "../../runtime/train/experiment.ts";
import type { MetricLine } from "../../runtime/train/records.ts";
import { createRun, openRun, readMetrics } from "../../runtime/train/run-folder.ts";
import { openEventFile } from "../../runtime/train/tensorboard.ts";
import { type TrainingJob, type TrainingResult, train } from "../../runtime/train/train.ts";
import type { Values } from "../../runtime/train/trainer.ts";
import { makeSet } from "../data/set.ts";

/** Everything at once: two streams with STIA, frozen groups, two optimizers, what is drawn and what is remembered. */
export const MODEL = `
const L = 2
block ConvBN(c: int, stride: int = 1) = Conv(c, stride=stride, use_bias=false) @conv -> BatchNorm @bn -> ReLU
block Eyes(classes: int = 2)(x: [N, C, H, W]) -> [N, classes]
default over x: f32[N, 3, 16, 16]
  = ConvBN(4, stride=2) @conv1 -> ConvBN(6, stride=2) @conv2
  -> GlobalAvgPool @avgpool -> Dropout(0.3) @drop -> Linear(classes) @fc
model Tiny = Eyes(classes=2) ×2 over spatial: f32[N, 3, 16, 16], temporal: f32[N, 2 * L, 16, 16]
  with STIA at conv2 fuse Average
`;

/** The `data` section of a recipe: three subjects, one of whom is tested and one held out; 16 clips to train on. */
export function data(settings = "batch = 4"): string {
  const view = (sample: string, flip: string): string => `
    sample = ${sample}
    train = [Resize(18), RandomCrop(16), ${flip}]
    eval = [Resize(18), CenterCrop(16)]`;
  return `
  data {
    split = by_subject(folds=3, seed=1)
    validation = 0.5
    ${settings}
    stream "spatial" {${view("random_frame", "HorizontalFlip(0.5)")}
    }
    stream "temporal" {${view("flow(window=random_frame)", "FlowFlip(0.5)")}
    }
  }`;
}

export const EVERYTHING: string = `${MODEL}
recipe Learn(lr: float = 0.01) for Tiny {${data()}
  stage "head" {
    epochs = 3
    optimizer = AdamW(lr=lr, weight_decay=1e-3)
    schedule = Plateau(patience=1, gamma=0.5)
    freeze = conv1
    accumulate = 2
    ema = 0.9
    mixup = 0.3
    clip_norm = 5
  }
  stage "all" {
    epochs = 2
    optimizer = SGD(lr=lr, momentum=0.9, nesterov=true)
    schedule = Warmup(epochs=1) -> Cosine(to=0.05)
    freeze_norms = all_but_first
    ema = 0.95
    group "slow" {
      at = conv1
      lr = 0.1 * lr
      frozen_until = epochs(1)
    }
  }
}
`;

/** A folder for a test file, with a drawn set in `set/`; removed afterwards. */
export async function ground(subjects = 3): Promise<{ readonly at: string; readonly set: string }> {
  const at = mkdtempSync(join(tmpdir(), "netc-loop-"));
  afterAll(() => rmSync(at, { recursive: true, force: true }));
  const set = join(at, "set");
  await makeSet(set, { subjects, clips: 8, width: 32, height: 24 });
  return { at, set };
}

let pool: Promise<DataPool> | undefined;

/** One for the test file; what is decoded stays in a folder of its own. */
function testPool(): Promise<DataPool> {
  if (pool === undefined) {
    const folder = mkdtempSync(join(tmpdir(), "netc-cache-"));
    const opened = openPool({ threads: 1, cache: { folder, bound: 2 ** 30 } });
    pool = opened;
    afterAll(async () => {
      await (await opened).close();
      rmSync(folder, { recursive: true, force: true });
    });
  }
  return pool;
}

export interface Setting {
  readonly at: string;
  readonly set: string;
  readonly text: string;
  readonly seed?: number;
  readonly args?: Readonly<Record<string, number>>;
  readonly target?: Capability;
  readonly open?: OpenProgram;
}

/** The experiment of a text, as the command makes it. */
export function experimentOf({ at, set, text, seed = 7, args = {} }: Setting): Experiment {
  mkdirSync(at, { recursive: true });
  const path = join(at, "model.net");
  writeFileSync(path, text);
  const source = { path, text };
  const experiment = openExperiment(
    {
      entry: { source, resolve: diskResolve(source, at) },
      model: undefined,
      recipe: undefined,
      arguments: args,
      bind: {},
      fold: 1,
      folder: set,
      seed,
    },
    false,
  );
  if (experiment === undefined) throw new Error("the text has errors");
  return experiment;
}

/** Parameters from the seed. */
export function freshValues({ model, seed }: Pick<Experiment, "model" | "seed">): Values {
  const parameters = new Map(model.parameters.map((parameter) => [parameter.path, parameter]));
  return (path) => {
    const parameter = parameters.get(path);
    if (parameter === undefined) return undefined;
    const { init, node } = parameter;
    const shape = node.shape.map(Number);
    const values = new Float32Array(shape.reduce((product, size) => product * size, 1));
    initialise(
      { path, shape, dtype: node.dtype, init, rows: undefined, order: undefined, allocation: 0 },
      seed,
      values,
    );
    return values;
  };
}

/** What evaluation and training need of an experiment. */
async function jobOf(setting: Setting, experiment: Experiment): Promise<EvaluationJob> {
  const { target = WASM_DEFAULT, open = openWasm } = setting;
  return { ...experiment, target, open, pool: await testPool() };
}

export interface TrainingOptions {
  /** Updates of this process after which a signal comes; undefined: none. */
  readonly stopAfter?: number;
  readonly start?: Values;
  readonly saveEvery?: number;
}

/** Trains in the folder `name`, or goes on there. */
export async function trainIn(
  setting: Setting,
  name: string,
  { stopAfter, start, saveEvery }: TrainingOptions = {},
): Promise<TrainingResult & { readonly folder: string; readonly notes: readonly string[] }> {
  const experiment = experimentOf(setting);
  const folder = join(setting.at, name);
  const { at: _, set: __, text: ___, seed = 7, args = {} } = setting;
  const request = { model: undefined, recipe: undefined, arguments: args, bind: {}, fold: 1 };
  const going = (await listCheckpoints(folder)).checkpoints.length > 0;
  const run = going
    ? await openRun(folder)
    : await createRun({
        folder,
        record: recordOf(experiment, request, { netc: "test", device: "wasm", command: [] }),
        sources: experiment.sources,
        manifest: experiment.manifestText,
      });
  const checkpoint = going ? await loadCheckpoint(folder) : undefined;
  if (checkpoint !== undefined) run.cut({ step: checkpoint.record.step, metricsBytes: checkpoint.record.metricsBytes });
  const events = openEventFile(folder);
  const notes: string[] = [];
  let steps = 0;
  const { model, recipe, graphHash, recipeHash, manifestHash } = experiment;
  const job: TrainingJob = {
    ...(await jobOf(setting, experiment)),
    start: start ?? freshValues(experiment),
    run,
    facts: {
      model: model.name,
      graphHash,
      recipe: withoutFolder(recipe),
      recipeHash,
      manifestHash,
      seed,
      device: "wasm",
      threads: 2,
    },
    checkpoint,
    progress: {
      step: () => {
        steps++;
      },
      epoch: () => {},
      note: (text) => notes.push(text),
      end: () => {},
    },
    events,
    interruption: {
      reason: () => (stopAfter !== undefined && steps >= stopAfter ? "SIGINT" : undefined),
      close: () => {},
    },
    saveEvery,
  };
  try {
    return { ...(await train(job)), folder, notes };
  } finally {
    events.close();
    await checkpoint?.close();
    run.close();
  }
}

/** The bytes of the newest checkpoint's state. */
export async function stateOf(folder: string): Promise<Buffer> {
  const { checkpoints } = await listCheckpoints(folder);
  const step = checkpoints[0]?.record.step;
  if (step === undefined) throw new Error(`${folder} has no checkpoint`);
  return readFileSync(join(folder, "checkpoints", checkpointName(step), "state.safetensors"));
}

const TIMINGS = new Set(["seconds", "waited", "evaluationSeconds", "samplesPerSecond", "residentBytes"]);

/** The metrics of a run without what a clock or the system says. */
export function metricsOf(folder: string): readonly MetricLine[] {
  return readMetrics(folder).map((line) =>
    JSON.parse(JSON.stringify(line, (key, value: unknown) => (TIMINGS.has(key) ? undefined : value))),
  );
}
