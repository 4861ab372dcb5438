/**
 * One trial, trained in this process: what the trial's child process does between its order and its outcome.
 *
 * In: an order, with the folder in which an earlier attempt may have left its checkpoint. Out: events (an epoch's
 * metrics, a checkpoint that may be kept elsewhere) and at the end the outcome. The schedule is that of the full training
 * also where only a rung of it is trained, so that carrying on is going on. People are divided by the recipe's own seed,
 * never the trial's: all trials of a study have one validation and one test side. The test side is opened by final
 * trials alone.
 *
 * The value is the objective's metric at the epoch that the recipe keeps, of those so far.
 */
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, linkSync, mkdirSync, mkdtempSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { bindModel } from "../../../compiler/compile.ts";
import type { Model } from "../../../compiler/model.ts";
import type { Metric, Recipe } from "../../../compiler/recipe/recipe.ts";
import { candidateOf, superNetwork } from "../../../compiler/search/elaborate.ts";
import { hasErrors } from "../../../grammar/diagnostic.ts";
import { ClipError, type DataPool, openPool } from "../../data/loader/pool.ts";
import { type Device, deviceName, findDevice, openOn } from "../../engine/devices.ts";
import { EngineError } from "../../engine/runner.ts";
import { metricName, metricOfName, metricValue } from "../../metrics/scores.ts";
import { checkpointName, type LoadedCheckpoint, listCheckpoints, loadCheckpoint } from "../../train/checkpoint.ts";
import { evaluatedName, loadValues, openInference, predictSide } from "../../train/evaluate.ts";
import { type Experiment, experimentOf, openDataSet, withoutFolder } from "../../train/experiment.ts";
import { faultOf, RunError } from "../../train/fault.ts";
import { encodePredictions } from "../../train/predictions.ts";
import type { EpochLine } from "../../train/records.ts";
import type { RunFolder } from "../../train/run-folder.ts";
import { type TrainingJob, train } from "../../train/train.ts";
import { SourceError } from "../../train/trainer.ts";
import { timeForward } from "../latency/forward.ts";
import { quietly, waitWhileMeasured, watchOthers } from "../latency/quiet.ts";
import { freshValues } from "./fresh.ts";
import { gatedJob, gatedRecipe, scoreGates } from "./gates.ts";
import { KernelCache } from "./kernels.ts";
import type { TrialEvent, TrialOrder, TrialOutcome, TrialRecord } from "./messages.ts";
import { storedSources } from "./sources.ts";

/** What all trials of a process share. */
export class TrialHouse {
  readonly kernels: KernelCache = new KernelCache();
  #pool: Promise<DataPool> | undefined;
  #device: Promise<Device> | undefined;
  #whole: Promise<Device> | undefined;

  /** From the first order on that asks for it, the fastest plans are found and shared. */
  tune(device: Device, seconds: number | undefined): void {
    if (seconds !== undefined)
      this.kernels.tune({
        target: device.capability,
        open: (program) => openOn(program, device, { moduleOf: this.kernels.moduleOf }),
        seconds,
      });
  }

  pool(threads: number | undefined): Promise<DataPool> {
    this.#pool ??= openPool(threads === undefined ? {} : { threads });
    return this.#pool;
  }

  /** The device with all its threads, whatever part of it trains. */
  wholeDevice({ device }: TrialOrder): Promise<Device> {
    this.#whole ??= findDevice(device);
    return this.#whole;
  }

  device(order: TrialOrder): Promise<Device> {
    const { threads } = order;
    this.#device ??= this.wholeDevice(order).then((found) =>
      found.device === "wasm" && threads !== undefined
        ? { ...found, capability: { ...found.capability, threads } }
        : found,
    );
    return this.#device;
  }
}

export interface TrialPort {
  readonly say: (event: TrialEvent) => void;
  /** Whether the trial is to be saved and handed back. */
  readonly paused: () => boolean;
}

const START: TrialRecord = {
  kept: undefined,
  epochs: 0,
  seconds: 0,
  overheadSeconds: 0,
  kernels: { hits: 0, misses: 0 },
  latency: undefined,
  gradientNorm: undefined,
};

/**
 * Trains a trial to its next end. Never throws: what goes wrong is an outcome.
 * @param before what an earlier attempt left beside its checkpoint
 */
export async function trainHere(
  order: TrialOrder,
  before: TrialRecord | undefined,
  house: TrialHouse,
  port: TrialPort,
): Promise<TrialOutcome> {
  house.kernels.take();
  try {
    return await new Trial(order, before ?? START, house, port).run();
  } catch (error) {
    return { kind: "failed", ...failureOf(error) };
  }
}

/** Whose fault it is, in words. */
function failureOf(error: unknown): { readonly machine: boolean; readonly message: string } {
  if (error instanceof RunError)
    return { machine: error.kind === "machine", message: [error.message, ...error.help].join("; ") };
  if (error instanceof EngineError) return { machine: error.problem.kind !== "usage", message: error.message };
  if (error instanceof ClipError) return { machine: false, message: `a clip has changed: ${error.message}` };
  if (error instanceof SourceError) return { machine: false, message: error.message };
  const fault = faultOf("train the trial", error);
  if (fault.kind === "machine") return { machine: true, message: fault.message };
  return { machine: false, message: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}

class Trial {
  readonly #order: TrialOrder;
  readonly #house: TrialHouse;
  readonly #port: TrialPort;
  readonly #began: number = performance.now();
  readonly #before: TrialRecord;
  readonly #run: string;
  #kept: TrialRecord["kept"];
  #epochs: number;
  #seconds = 0;
  #kernels: TrialRecord["kernels"];
  #latency: TrialRecord["latency"];
  #gradientNorm: number | undefined;

  constructor(order: TrialOrder, before: TrialRecord, house: TrialHouse, port: TrialPort) {
    this.#order = order;
    this.#before = before;
    this.#house = house;
    this.#port = port;
    this.#run = join(order.folder, "run");
    this.#kept = before.kept;
    this.#epochs = before.epochs;
    this.#kernels = before.kernels;
    this.#latency = before.latency;
    this.#gradientNorm = before.gradientNorm;
  }

  async run(): Promise<TrialOutcome> {
    const order = this.#order;
    const { model, recipe, gates } = this.#candidate();
    const experiment = this.#experiment(model, recipe);
    const device = await this.#house.device(order);
    this.#house.tune(device, order.tune);
    const pool = await this.#house.pool(order.threads);
    mkdirSync(this.#run, { recursive: true });
    const checkpoint = existsSync(join(this.#run, "checkpoints")) ? await loadCheckpoint(this.#run) : undefined;
    const own = this.#jobOf(experiment, device, pool, checkpoint);
    const job = gates === undefined ? own : gatedJob(own, gates);
    try {
      if (order.measure) await this.#measure({ ...job, model });
      const { ended } = await train(job);
      const paused = async (): Promise<TrialOutcome> => ({
        kind: "paused",
        record: this.#record(),
        folder: await this.#linked(),
      });
      if (ended === "SIGTERM") return await paused();
      if (gates !== undefined)
        return (await this.#scored({ ...job, sides: experiment.sides }, gates, device)) ?? (await paused());
      const value = this.#value();
      if (order.epochs < order.fullEpochs) {
        const folder = await this.#linked();
        if (folder === undefined) throw new Error("internal: a rung without a checkpoint");
        return { kind: "rung", value, record: this.#record(), folder };
      }
      const kept = await this.#evaluate(job, experiment);
      const record = this.#record();
      return { kind: "complete", value, record, ...kept, device: `netc, ${deviceName(device)}` };
    } finally {
      await checkpoint?.close();
    }
  }

  // ------------------------------------------------------------------------------------------------------ what is trained

  /** The candidate, or the super-network with the gates of those that it is to score. */
  #candidate(): { readonly model: Model; readonly recipe: Recipe; readonly gates?: readonly Float32Array[] } {
    const { sources, search, arguments: args, levels, data, metric, scored } = this.#order;
    const { entry, resolve } = storedSources(sources);
    const options = { search, args: new Map(Object.entries(args)), folder: data };
    if (scored !== undefined) {
      const points = scored.map((each) => each.levels);
      const { made, diagnostics } = superNetwork(entry, resolve, { ...options, points });
      if (made !== undefined) return { ...made, recipe: gatedRecipe(made.recipe, this.#order.epochs) };
      throw new RunError(
        "wrong",
        `the super-network does not compile: ${diagnostics.find(({ severity }) => severity === "error")?.message ?? ""}`,
      );
    }
    const { model, recipe, diagnostics } = candidateOf(entry, resolve, { ...options, levels, complete: true });
    if (model === undefined || recipe === undefined || hasErrors(diagnostics))
      throw new RunError(
        "wrong",
        `this candidate does not compile: ${diagnostics.find(({ severity }) => severity === "error")?.message ?? "it has no model"}`,
      );
    const own = metricOfName(metric);
    if (own === undefined) throw new RunError("wrong", `there is no metric \`${metric}\``);
    const named = recipe.metrics.some((each) => metricName(each) === metric);
    return { model, recipe: named ? recipe : { ...recipe, metrics: [...recipe.metrics, own] } };
  }

  #experiment(model: Model, recipe: Recipe): Experiment {
    const { data, dataHash, seed, sources } = this.#order;
    const set = openDataSet(data);
    if (set.manifestHash !== dataHash)
      throw new RunError("wrong", `the data set \`${data}\` has changed since the study began`, [
        "put its manifest back, or begin another study with `--fork`",
      ]);
    const sizes = new Map([["N", recipe.data.batch]]);
    const bound = bindModel(model, sizes);
    if ("diagnostics" in bound) throw new SourceError(bound.diagnostics);
    const parts = { model: bound.ok, sizes, recipe, fold: 1, seed, splitSeed: recipe.seed, sources };
    const experiment = experimentOf(parts, set);
    if (experiment.sides.validation.length === 0)
      throw new RunError(
        "wrong",
        "trials are compared by their validation side, and the recipe holds nobody out for it",
        ["`validation = 0.2` in the recipe's `data` section"],
      );
    return experiment;
  }

  #jobOf(
    experiment: Experiment,
    device: Device,
    pool: DataPool,
    checkpoint: LoadedCheckpoint | undefined,
  ): TrainingJob {
    const { model, recipe, seed, sides, folder, graphHash, recipeHash, manifestHash } = experiment;
    const { kernels } = this.#house;
    const { capability } = device;
    return {
      model,
      recipe,
      target: capability,
      compiler: kernels,
      open: (program) => {
        kernels.count(program);
        return openOn(program, device, { moduleOf: kernels.moduleOf });
      },
      seed,
      start: freshValues(model, seed),
      sides,
      folder,
      pool,
      run: memoryRun(this.#run),
      facts: {
        model: model.name,
        graphHash,
        recipe: withoutFolder(recipe),
        recipeHash,
        manifestHash,
        seed,
        device: device.device === "wasm" ? "wasm" : capability.name,
        threads: device.device === "wasm" ? device.capability.threads : undefined,
      },
      checkpoint,
      progress: {
        step: ({ seconds, step, norm }) => {
          this.#seconds += seconds;
          if (step === 1 && Number.isFinite(norm)) this.#gradientNorm = norm;
        },
        epoch: (line) => this.#epochEnded(line),
        note: (text) => this.#port.say({ kind: "note", text }),
        end: () => {},
      },
      events: { name: "", add: () => {}, close: () => {} },
      interruption: {
        reason: () => {
          waitWhileMeasured();
          if (this.#port.paused()) return "SIGTERM";
          const { epochs, fullEpochs } = this.#order;
          return epochs < fullEpochs && this.#epochs >= epochs ? "max-time" : undefined;
        },
        close: () => {},
      },
      saveEvery: this.#order.saveEvery,
      onSaved: ({ folder }) => {
        this.#port.say({ kind: "saved", record: this.#record(), folder: this.#link(folder) });
      },
    };
  }

  // ------------------------------------------------------------------------------------------------------- what is told

  #record(): TrialRecord {
    const { hits, misses } = this.#house.kernels.take();
    this.#kernels = { hits: this.#kernels.hits + hits, misses: this.#kernels.misses + misses };
    const all = (performance.now() - this.#began) / 1000;
    return {
      kept: this.#kept,
      epochs: this.#epochs,
      seconds: this.#before.seconds + this.#seconds,
      overheadSeconds: this.#before.overheadSeconds + Math.max(0, all - this.#seconds),
      kernels: this.#kernels,
      latency: this.#latency,
      gradientNorm: this.#gradientNorm,
    };
  }

  #epochEnded(line: EpochLine): void {
    this.#epochs += 1;
    this.#seconds += line.evaluationSeconds;
    const scores = line.validation ?? {};
    if (line.best) this.#kept = { step: line.step, metrics: scores };
    const epoch = this.#epochs;
    const points = [
      { name: "train.loss", epoch, value: line.train.loss },
      { name: "train.accuracy", epoch, value: line.train.accuracy },
      ...Object.entries(scores).map(([name, value]) => ({ name: `val.${name}`, epoch, value })),
    ];
    this.#port.say({ kind: "epoch", epochs: epoch, points: points.filter(({ value }) => Number.isFinite(value)) });
  }

  #value(): number {
    const { metric } = this.#order;
    const value = this.#kept?.metrics[metric];
    if (value === undefined || !Number.isFinite(value))
      throw new RunError(
        "wrong",
        `\`val.${metric}\` of the kept epoch is ${value ?? "not there"}, which nothing can be compared by`,
        ["a metric that every validation side has, such as `val.uar`"],
      );
    return value;
  }

  /**
   * Checkpoints under names that training does not remove: the one given, and that of the best epoch. Links cost nothing;
   * where the disk has none, it is a copy.
   */
  #link(folder: string): string {
    const best = this.#kept === undefined ? undefined : join(this.#run, "checkpoints", checkpointName(this.#kept.step));
    const wanted = new Set(
      [folder, ...(best !== undefined && existsSync(best) ? [best] : [])].map((at) => basename(at)),
    );
    const target = mkdtempSync(join(this.#order.folder, "saved-"));
    for (const name of wanted) {
      const into = join(target, "checkpoints", name);
      mkdirSync(into, { recursive: true });
      const from = join(this.#run, "checkpoints", name);
      for (const file of readdirSync(from)) {
        try {
          linkSync(join(from, file), join(into, file));
        } catch {
          copyFileSync(join(from, file), join(into, file));
        }
      }
    }
    return target;
  }

  async #linked(): Promise<string | undefined> {
    const { checkpoints } = await listCheckpoints(this.#run);
    const [newest] = checkpoints;
    return newest === undefined ? undefined : this.#link(newest.folder);
  }

  // ------------------------------------------------------------------------------------------------------------ the end

  /** Scores of a super-network that has been trained; undefined if it is to be handed back before all are there. */
  async #scored(job: TrainingJob, gates: readonly Float32Array[], device: Device): Promise<TrialOutcome | undefined> {
    const { metric, scored = [] } = this.#order;
    const wanted = metricOfName(metric);
    if (wanted === undefined) throw new RunError("wrong", `there is no metric \`${metric}\``);
    const began = performance.now();
    const checkpoint = await loadCheckpoint(this.#run);
    try {
      const values = await scoreGates(job, checkpoint, gates, wanted, this.#port.paused);
      this.#seconds += (performance.now() - began) / 1000;
      if (values === undefined) return undefined;
      const scores: Record<string, number> = {};
      for (const [i, { candidate }] of scored.entries()) {
        const value = values[i];
        if (value !== undefined && Number.isFinite(value)) scores[candidate] = value;
      }
      const all = Object.values(scores);
      if (all.length === 0)
        throw new RunError("wrong", `\`val.${metric}\` of no candidate is a number under the super-network`);
      return {
        kind: "complete",
        // What is observed of it is no value of a candidate: their mean.
        value: all.reduce((sum, value) => sum + value, 0) / all.length,
        record: this.#record(),
        metrics: {},
        weights: await hashOf(checkpoint, job.model),
        predictions: {},
        scores,
        device: `netc, ${deviceName(device)}`,
      };
    } finally {
      await checkpoint.close();
    }
  }

  /** The kept parameters' hash; of a final trial also their predictions for validation and test. */
  async #evaluate(
    job: TrainingJob,
    { manifest, graphHash, manifestHash }: Experiment,
  ): Promise<Pick<Extract<TrialOutcome, { kind: "complete" }>, "metrics" | "weights" | "predictions">> {
    const checkpoint = await loadCheckpoint(this.#run, "best");
    try {
      const weights = await hashOf(checkpoint, job.model);
      const metrics: Record<string, number> = {};
      for (const [name, value] of Object.entries(this.#kept?.metrics ?? {}))
        if (Number.isFinite(value)) metrics[`val.${name}`] = value;
      if (this.#order.phase !== "final") return { metrics, weights, predictions: {} };
      const began = performance.now();
      const runner = await openInference(job);
      const predictions: Record<string, string> = {};
      try {
        await loadValues(runner, (path) => checkpoint.read(evaluatedName(checkpoint, path)));
        const { model, recipe, sides } = job;
        const of = {
          run: `trial-${this.#order.seed}`,
          model: model.name,
          graphHash,
          manifestHash,
          note: manifest.note,
        };
        for (const side of ["validation", "test"] as const) {
          if (sides[side].length === 0) continue;
          const made = await predictSide(job, runner, side, of, checkpoint.record.step);
          predictions[side] = encodePredictions(made.header, made.predictions);
          const short = side === "test" ? "test" : "val";
          const wanted: readonly Metric[] = [{ kind: "loss" }, ...recipe.metrics];
          for (const metric of wanted) {
            const value = metricValue(metric, made.predictions, sides.classes);
            if (Number.isFinite(value)) metrics[`${short}.${metricName(metric)}`] = value;
          }
        }
      } finally {
        runner.dispose();
      }
      this.#seconds += (performance.now() - began) / 1000;
      return { metrics, weights, predictions };
    } finally {
      await checkpoint.close();
    }
  }

  /** Times a forward pass of one example, on all of the device and while nothing else of netc's works. */
  async #measure(job: TrainingJob): Promise<void> {
    if (this.#latency !== undefined) return;
    const device = await this.#house.wholeDevice(this.#order);
    const { kernels } = this.#house;
    const one: TrainingJob = {
      ...job,
      recipe: { ...job.recipe, data: { ...job.recipe.data, batch: 1 } },
      target: device.capability,
      open: (program) => openOn(program, device, { moduleOf: kernels.moduleOf }),
    };
    const runner = await openInference(one);
    try {
      await loadValues(runner, job.start);
      this.#latency = await quietly(async () => {
        const others = watchOthers();
        const timing = await timeForward(runner);
        return { ...timing, device: deviceName(device), busy: others() };
      });
    } finally {
      runner.dispose();
    }
  }
}

/** SHA-256 over names and numbers of the evaluated parameters. */
async function hashOf(checkpoint: LoadedCheckpoint, model: Model): Promise<string> {
  const hash = createHash("sha256");
  for (const { path } of model.parameters) {
    const values = await checkpoint.read(evaluatedName(checkpoint, path));
    hash.update(path).update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }
  return hash.digest("hex");
}

/** A run whose metrics go to the store and not to a file: only its checkpoints are on the disk. */
function memoryRun(path: string): RunFolder {
  return {
    path,
    get record(): never {
      throw new Error("internal: a trial's run has no record");
    },
    append: () => {},
    metricsBytes: () => 0,
    sync: () => {},
    cut: () => 0,
    amend: () => {},
    keepManifest: () => {},
    close: () => {},
  };
}
