/**
 * Training: a recipe followed on a device, from its first batch, or from a checkpoint, to its end.
 *
 * In: a model with its recipe, the sides of a data set, a device, an open run folder. Out: what the run folder holds
 * afterwards: metrics of every update and epoch, checkpoints, and the one of the best epoch. Data order, augmentation and
 * dropout are functions of seed, epoch and batch, and everything else that a step depends on is in the checkpoint, so a
 * run that was stopped anywhere and resumed ends with the same parameters, bit for bit, as one that was not.
 */
import { join } from "node:path";
import type { Metric, Stage } from "../../compiler/recipe/recipe.ts";
import { type BatchSource, type EvaluationSource, openBatches } from "../data/loader/batches.ts";
import { countClasses } from "../data/split.ts";
import type { Runner } from "../engine/runner.ts";
import { metricName, metricValue } from "../metrics/scores.ts";
import {
  type CheckpointRecord,
  checkpointName,
  type LoadedCheckpoint,
  type RunFacts,
  type Saved,
  saveCheckpoint,
} from "./checkpoint.ts";
import {
  demand,
  type EvaluationJob,
  loadValues,
  openEvaluation,
  openInference,
  outputKindOf,
  predictClips,
} from "./evaluate.ts";
import { RunError } from "./fault.ts";
import type { Interruption } from "./interruption.ts";
import { lossScaleCounters, lossScaleOf } from "./loss-scale.ts";
import type { Progress } from "./progress.ts";
import type { EpochLine, MetricLine } from "./records.ts";
import type { RunFolder } from "./run-folder.ts";
import {
  isBetter,
  PLATEAU_START,
  type PlateauState,
  rateAt,
  STOP_START,
  type StopState,
  updateEarlyStop,
  updatePlateau,
} from "./schedule.ts";
import { type EventFile, scalarsOf } from "./tensorboard.ts";
import { Trainer, type Values } from "./trainer.ts";

export interface TrainingJob extends EvaluationJob {
  /** Where parameters start. */
  readonly start: Values;
  readonly run: RunFolder;
  readonly facts: RunFacts;
  /** Where to go on. */
  readonly checkpoint: LoadedCheckpoint | undefined;
  readonly progress: Progress;
  readonly events: EventFile;
  readonly interruption: Interruption;
  /** Updates between two checkpoints within an epoch; undefined: by time alone. */
  readonly saveEvery: number | undefined;
  /** Told of each checkpoint, as soon as it is on the disk. */
  readonly onSaved?: (saved: Saved) => void;
  /** Told of each clip that has been decoded, of those of one side. */
  readonly onPrepared?: (side: SideName, done: number, total: number) => void;
}

export type SideName = "training" | "validation" | "test";

export interface TrainingResult {
  readonly ended: "finished" | "SIGINT" | "SIGTERM" | "max-time";
  readonly step: number;
  readonly best: CheckpointRecord["best"];
}

/** Seconds after which a checkpoint is written within an epoch: what a crash may cost. */
const SAVE_SECONDS = 600;

/** Where training stands: what a checkpoint keeps beside the tensors. */
interface Position {
  step: number;
  stage: number;
  epoch: number;
  /** Updates of the epoch that are done. */
  batch: number;
  plateau: PlateauState;
  stop: StopState;
  best: CheckpointRecord["best"];
  /** Of the epoch so far. */
  lossSum: number;
  right: number;
  samples: number;
}

const START: Position = {
  step: 0,
  stage: 0,
  epoch: 0,
  batch: 0,
  plateau: PLATEAU_START,
  stop: STOP_START,
  best: undefined,
  lossSum: 0,
  right: 0,
  samples: 0,
};

function positionOf({ counters, ...record }: CheckpointRecord): Position {
  const { step, stage, epoch, batch, plateau, stop, best } = record;
  const { lossSum = 0, right = 0, samples = 0 } = counters;
  return { step, stage, epoch, batch, plateau, stop, best, lossSum, right, samples };
}

/** Leaves the preparation of clips, which takes hours where a set is large and its flow is still to be computed. */
class Interrupted extends Error {
  readonly reason: Exclude<TrainingResult["ended"], "finished">;
  constructor(reason: Exclude<TrainingResult["ended"], "finished">) {
    super(reason);
    this.name = "Interrupted";
    this.reason = reason;
  }
}

/**
 * Trains until the recipe's end, or until it is interrupted; then everything is saved.
 * @throws RunError, SourceError, ClipError; what is in the run folder stays good
 */
export async function train(job: TrainingJob): Promise<TrainingResult> {
  const training = new Training(job);
  try {
    return await training.run();
  } catch (error) {
    if (error instanceof Interrupted) return training.left(error.reason);
    throw error;
  } finally {
    training.dispose();
  }
}

class Training {
  readonly #job: TrainingJob;
  readonly #at: Position;
  readonly #byClass: readonly number[];
  /** Parameters where the current stage began, by path; what the stage does not change is read from here. */
  #base: Map<string, Float32Array> = new Map();
  #trainer: Trainer | undefined;
  #source: BatchSource | undefined;
  #validation: EvaluationSource | undefined;
  #evaluator: Runner | undefined;
  #savedAt: number = performance.now();
  /** Update of the newest checkpoint. */
  #savedStep: number;

  constructor(job: TrainingJob) {
    this.#job = job;
    this.#at = job.checkpoint === undefined ? { ...START } : positionOf(job.checkpoint.record);
    this.#savedStep = this.#at.step;
    this.#byClass = countClasses(job.sides.classes, job.sides.train);
  }

  async run(): Promise<TrainingResult> {
    const { recipe, checkpoint } = this.#job;
    const at = this.#at;
    await this.#readBase();
    // From its first moment on a run can be resumed, and without the files of weights that it started from.
    if (checkpoint === undefined) await this.#save(undefined);
    let resuming = checkpoint;
    for (; at.stage < recipe.stages.length; this.#nextStage()) {
      const stage = recipe.stages[at.stage];
      if (stage === undefined || at.epoch >= stage.epochs) continue;
      const trainer = await this.#openStage(resuming);
      resuming = undefined;
      const ended = await this.#runStage(trainer, stage);
      await this.#keepBase(trainer);
      trainer.dispose();
      this.#trainer = undefined;
      if (ended !== undefined) return this.left(ended);
    }
    return this.left("finished");
  }

  left(ended: TrainingResult["ended"]): TrainingResult {
    return { ended, step: this.#at.step, best: this.#at.best };
  }

  dispose(): void {
    this.#trainer?.dispose();
    this.#evaluator?.dispose();
    this.#source?.close();
    this.#validation?.close();
  }

  #nextStage(): void {
    const at = this.#at;
    at.stage += 1;
    at.epoch = 0;
    at.batch = 0;
  }

  // --------------------------------------------------------------------------------------------------------- the values

  /** All parameters, from the checkpoint or from their start. */
  async #readBase(): Promise<void> {
    const { model, checkpoint, start } = this.#job;
    for (const { path, node } of model.parameters) {
      const stored = await this.#stored(checkpoint, path, node.shape.map(Number));
      const value = stored ?? (await start(path));
      if (value === undefined) throw new Error(`internal: ${path} has no start`);
      const bad = value.findIndex((x) => !Number.isFinite(x));
      if (bad >= 0)
        throw new RunError(
          "wrong",
          `\`${path}\` holds ${value[bad]} (number ${bad}): nothing can be learned from there`,
          ["give other weights, or leave this position to its fresh start: `--skip`"],
        );
      this.#base.set(path, value);
    }
  }

  /** A tensor of the checkpoint; a model that has changed may have more of them, but none of another shape (the caller's duty). */
  async #stored(
    checkpoint: LoadedCheckpoint | undefined,
    path: string,
    shape: readonly number[],
  ): Promise<Float32Array | undefined> {
    const entry = checkpoint?.tensors.get(path);
    if (checkpoint === undefined || entry === undefined) return undefined;
    if (String(entry.shape) === String(shape)) return checkpoint.read(path);
    throw new Error(`internal: ${path} is [${entry.shape.join(", ")}] in the checkpoint`);
  }

  /** What the stage has come to is where the next one starts. */
  async #keepBase(trainer: Trainer): Promise<void> {
    for (const { path } of this.#job.model.parameters)
      if (trainer.changing.has(path)) this.#base.set(path, await trainer.read(path));
  }

  async #openStage(checkpoint: LoadedCheckpoint | undefined): Promise<Trainer> {
    const { model, recipe, target, open, seed, compiler, gates } = this.#job;
    const at = this.#at;
    // At the beginning of a stage there is no state but the parameters.
    const going = checkpoint !== undefined && (at.epoch > 0 || at.batch > 0) ? checkpoint : undefined;
    const values: Values = (path) =>
      this.#base.get(path) ?? (going?.tensors.has(path) === true ? going.read(path) : undefined);
    const updates = Object.entries(going?.record.counters ?? {}).flatMap(([name, value]) =>
      name.startsWith("updates") ? [value] : [],
    );
    const byClass = this.#byClass;
    const options = { model, recipe, stage: at.stage, target, open, values, seed, byClass, gates, compiler };
    const trainer = await Trainer.open(options, { updates, lossScale: lossScaleOf(going?.record.counters ?? {}) });
    this.#trainer = trainer;
    if (going === undefined) {
      at.plateau = PLATEAU_START;
      at.stop = STOP_START;
      at.best = undefined;
    }
    if (recipe.stages.length > 1 && going === undefined) {
      this.#note(`stage ${at.stage + 1} of ${recipe.stages.length}: ${trainer.stage.name}`);
    }
    const source = await this.#openSources(trainer);
    if (source.batches < trainer.stage.accumulate) {
      throw new RunError(
        "wrong",
        `an epoch has ${source.batches} batches, fewer than the ${trainer.stage.accumulate} of one update`,
        ["a smaller `accumulate` or a smaller `batch`"],
      );
    }
    return trainer;
  }

  /** The clips to train on, and those that are evaluated: what is wrong with them is said before anything is computed. */
  async #openSources(trainer: Trainer): Promise<BatchSource> {
    if (this.#source !== undefined) return this.#source;
    const { pool, folder, sides, recipe, seed } = this.#job;
    const inputs = trainer.program.inputs.filter(({ name }) => !name.startsWith("step."));
    this.#source = demand(
      await openBatches({
        pool,
        folder,
        clips: sides.train,
        classes: sides.classes,
        inputs,
        recipe: recipe.data,
        seed,
        onPrepared: (done, total) => this.#prepared("training", done, total),
        onFailure: ({ problem }) => this.#noteOnce(`left out: \`${problem.path}\`: ${problem.message}`),
      }),
    );
    if (sides.validation.length > 0)
      this.#validation = await openEvaluation(this.#job, "validation", inputs, {
        note: (text) => this.#noteOnce(text),
        onPrepared: (done, total) => this.#prepared("validation", done, total),
      });
    return this.#source;
  }

  // ----------------------------------------------------------------------------------------------------------- the loop

  /** Trains a stage; why it was left before its end, or undefined. */
  async #runStage(trainer: Trainer, stage: Stage): Promise<Exclude<TrainingResult["ended"], "finished"> | undefined> {
    const at = this.#at;
    const source = this.#source;
    if (source === undefined) throw new Error("internal: no batches");
    const updates = Math.floor(source.batches / stage.accumulate);
    while (at.epoch < stage.epochs) {
      const began = performance.now();
      const [resumedAt, samplesBefore] = [at.batch, at.samples];
      let waited = 0;
      const batches = source.epoch(this.#dataEpoch(), at.batch * stage.accumulate);
      try {
        while (at.batch < updates) {
          const started = performance.now();
          const rate =
            stage.rate * rateAt(stage.schedule, at.epoch + at.batch / updates, stage.epochs, at.plateau, 1 / updates);
          const result = await trainer.step(batches, { step: at.step, epoch: at.epoch, rate });
          if (result === undefined) break;
          if (!result.finite && !result.skipped) throw await this.#notFinite(trainer, result.loss);
          at.step += 1;
          at.batch += 1;
          at.lossSum += result.loss;
          at.right += result.right;
          at.samples += result.samples;
          waited += result.waited;
          const { stage: number, epoch, step } = at;
          const { loss, norm } = result;
          const seconds = (performance.now() - started) / 1000;
          const line = {
            kind: "step",
            stage: number,
            epoch,
            step,
            loss,
            norm,
            rate,
            seconds,
            waited: result.waited,
          } as const;
          this.#write(line);
          this.#job.progress.step(line, result.right / result.samples);
          const reason = this.#job.interruption.reason();
          if (at.batch < updates && (reason !== undefined || this.#isDue(resumedAt))) await this.#save(trainer);
          if (reason !== undefined && at.batch < updates) return reason;
        }
      } finally {
        await batches.return?.();
      }
      const seconds = (performance.now() - began) / 1000;
      const samples = at.samples - samplesBefore;
      const stops = await this.#endEpoch(trainer, stage, { seconds, waited, samples, updates });
      if (stops && at.epoch < stage.epochs) {
        this.#note(`stopped early: no improvement for ${stage.stop?.patience} epochs`);
        at.epoch = stage.epochs;
      }
      await this.#save(trainer);
      const reason = this.#job.interruption.reason();
      if (reason !== undefined && (at.epoch < stage.epochs || at.stage + 1 < this.#job.recipe.stages.length))
        return reason;
    }
    return undefined;
  }

  /** Epochs of all stages have orders of their own. */
  #dataEpoch(): number {
    const before = this.#job.recipe.stages.slice(0, this.#at.stage).reduce((sum, { epochs }) => sum + epochs, 0);
    return before + this.#at.epoch;
  }

  #isDue(resumedAt: number): boolean {
    const { saveEvery } = this.#job;
    if (saveEvery !== undefined) return this.#at.batch > resumedAt && this.#at.step % saveEvery === 0;
    return performance.now() - this.#savedAt > SAVE_SECONDS * 1000;
  }

  /** Evaluates and logs; true if the stage is to end early. */
  async #endEpoch(
    trainer: Trainer,
    stage: Stage,
    measured: { readonly seconds: number; readonly waited: number; readonly samples: number; readonly updates: number },
  ): Promise<boolean> {
    const at = this.#at;
    const began = performance.now();
    const source = this.#validation;
    const scores = source === undefined ? undefined : await this.#validate(trainer, stage, source);
    const train = { loss: at.lossSum / measured.updates, accuracy: at.right / at.samples };
    const valueOf = (metric: Metric): number =>
      scores?.get(metricName(metric)) ?? (metric.kind === "loss" ? train.loss : train.accuracy);
    const score = valueOf(stage.keep.metric);
    const best = isBetter(stage.keep, score, at.best?.score);
    if (best) at.best = { score, step: at.step };
    const { then } = stage.schedule;
    if (then.kind === "plateau") at.plateau = updatePlateau(stage.schedule, at.plateau, valueOf(then.goal.metric));
    let stops = false;
    if (stage.stop !== undefined) {
      const { state, ends } = updateEarlyStop(stage.stop, at.stop, valueOf(stage.stop.goal.metric));
      at.stop = state;
      stops = ends;
    }
    const line: EpochLine = {
      kind: "epoch",
      stage: at.stage,
      epoch: at.epoch,
      step: at.step,
      train,
      validation: scores === undefined ? undefined : Object.fromEntries(scores),
      best,
      rate: stage.rate * rateAt(stage.schedule, at.epoch + 1, stage.epochs, at.plateau),
      seconds: measured.seconds,
      waited: measured.waited,
      evaluationSeconds: (performance.now() - began) / 1000,
      samplesPerSecond: measured.samples / measured.seconds,
      residentBytes: process.memoryUsage.rss(),
      deviceBytes: trainer.deviceBytes,
    };
    this.#write(line);
    this.#job.progress.epoch(line);
    at.epoch += 1;
    at.batch = 0;
    at.lossSum = 0;
    at.right = 0;
    at.samples = 0;
    return stops;
  }

  async #validate(trainer: Trainer, stage: Stage, source: EvaluationSource): Promise<ReadonlyMap<string, number>> {
    const { recipe, sides } = this.#job;
    const values: Values = (path) => {
      const source = trainer.evaluated(path);
      return trainer.changing.has(source) ? trainer.read(source) : this.#base.get(path);
    };
    const evaluator = await this.#openEvaluator(values);
    const predictions = await predictClips(evaluator, source, sides.validation, outputKindOf(stage.loss));
    const metrics = [{ kind: "loss" } as const, ...recipe.metrics, stage.keep.metric];
    return new Map(metrics.map((metric) => [metricName(metric), metricValue(metric, predictions, sides.classes)]));
  }

  /** The inference program with these parameters. */
  async #openEvaluator(values: Values): Promise<Runner> {
    const runner = this.#evaluator ?? (await openInference(this.#job));
    this.#evaluator = runner;
    await loadValues(runner, values);
    return runner;
  }

  // -------------------------------------------------------------------------------------------------------- what stays

  #write(line: MetricLine): void {
    this.#job.run.append(line);
    if (line.kind !== "note") this.#job.events.add(line.step, scalarsOf(line));
  }

  #note(text: string): void {
    this.#write({ kind: "note", step: this.#at.step, text });
    this.#job.progress.note(text);
  }

  /** About clips, which are opened once a process: a run that goes on has it in its records already. */
  #noteOnce(text: string): void {
    const { checkpoint, progress } = this.#job;
    if (checkpoint === undefined || checkpoint.record.step === 0) this.#note(text);
    else progress.note(text);
  }

  #prepared(side: SideName, done: number, total: number): void {
    this.#job.onPrepared?.(side, done, total);
    const reason = this.#job.interruption.reason();
    if (reason !== undefined && done < total) throw new Interrupted(reason);
  }

  async #save(trainer: Trainer | undefined): Promise<Saved> {
    const { run, facts, model } = this.#job;
    const at = this.#at;
    const own = model.parameters.map(({ path, node }) => ({ name: path, shape: node.shape.map(Number) }));
    const changing = trainer?.changing ?? new Map<string, readonly number[]>();
    const state = [...changing].flatMap(([name, shape]) => (name.includes("/") ? [{ name, shape }] : []));
    const layout = [...own, ...state];
    const base = this.#base;
    async function* tensors(): AsyncGenerator<{ name: string; shape: readonly number[]; data: Float32Array }> {
      for (const { name, shape } of layout) {
        const data = trainer !== undefined && changing.has(name) ? await trainer.read(name) : base.get(name);
        if (data === undefined) throw new Error(`internal: ${name} has no value`);
        yield { name, shape, data };
      }
    }
    run.sync();
    const updates = Object.fromEntries((trainer?.updates ?? []).map((value, group) => [`updates${group}`, value]));
    const saved = await saveCheckpoint(
      run.path,
      {
        step: at.step,
        stage: at.stage,
        epoch: at.epoch,
        batch: at.batch,
        counters: {
          ...updates,
          ...lossScaleCounters(trainer?.lossScale),
          lossSum: at.lossSum,
          right: at.right,
          samples: at.samples,
        },
        plateau: at.plateau,
        stop: at.stop,
        best: at.best,
        metricsBytes: run.metricsBytes(),
        facts,
      },
      { layout, tensors: tensors() },
    );
    this.#savedAt = performance.now();
    this.#savedStep = at.step;
    for (const warning of saved.warnings) this.#note(warning);
    this.#job.onSaved?.(saved);
    return saved;
  }

  /** A loss or gradients that are not finite, in words. The update was not made, so all that was saved is good. */
  async #notFinite(trainer: Trainer, loss: number): Promise<RunError> {
    const { run, recipe } = this.#job;
    const at = this.#at;
    const what = Number.isFinite(loss)
      ? "the gradients are not finite"
      : `the loss is ${Number.isNaN(loss) ? "not a number" : "infinite"}`;
    const where = placeOf(await trainer.firstNotFinite());
    const stage = recipe.stages.length > 1 ? ` of stage ${at.stage + 1}` : "";
    const saved = join(run.path, "checkpoints", checkpointName(this.#savedStep));
    return new RunError("wrong", `${what} in update ${at.step + 1} (epoch ${at.epoch + 1}${stage})${where}`, [
      `this update was not made; the last checkpoint is good: \`${saved}\``,
      "a smaller learning rate, `clip_norm` or a longer `Warmup` in the recipe is what helps most often",
      `\`netc train MODEL.net --resume ${run.path} --allow-changes\` goes on from that checkpoint with the recipe changed`,
    ]);
  }
}

/** Where numbers first were not finite, as the end of a sentence. */
function placeOf(layers: readonly string[] | undefined): string {
  if (layers === undefined) return "";
  // What a step has besides the model's own layers (compiler/graph/losses.ts and step.ts).
  const own = layers.filter((name) => name !== "loss" && name !== "step");
  const [first, ...others] = own.map((name) => `\`${name}\``);
  if (first === undefined)
    return layers.includes("step") ? ", first where the update is computed" : ", first where the loss is computed";
  return `, first in ${first}${others.length > 0 ? ` (computed together with ${others.join(", ")})` : ""}`;
}
