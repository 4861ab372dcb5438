/**
 * Training: a recipe followed on a device, from its first batch, or from a checkpoint, to its end.
 *
 * In: a model with its recipe, the sides of a data set, a device, an open run folder. Out: what the run folder holds
 * afterwards: metrics of every update and epoch, checkpoints, and the one of the best epoch. Data order, augmentation and
 * dropout are functions of seed, epoch and batch, and everything else that a step depends on is in the checkpoint, so a
 * run that was stopped anywhere and resumed ends with the same parameters, bit for bit, as one that was not.
 */
import { compile } from "../../compiler/compile.ts";
import type { Metric, Stage } from "../../compiler/recipe/recipe.ts";
import {
  type BatchSource,
  type EvaluationSource,
  evaluationBatches,
  type LoaderError,
  openBatches,
} from "../data/loader/batches.ts";
import type { DataPool } from "../data/loader/pool.ts";
import type { ClipRecord } from "../data/manifest.ts";
import type { Sides } from "../data/sides.ts";
import { countClasses } from "../data/split.ts";
import type { Runner } from "../engine/runner.ts";
import { metricName, metricValue } from "../metrics/scores.ts";
import {
  type CheckpointRecord,
  type LoadedCheckpoint,
  type RunFacts,
  type Saved,
  saveCheckpoint,
} from "./checkpoint.ts";
import { outputKindOf, predictClips } from "./evaluate.ts";
import { RunError } from "./fault.ts";
import type { Interruption } from "./interruption.ts";
import type { Progress } from "./progress.ts";
import type { ClipPrediction, EpochLine, MetricLine } from "./records.ts";
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
import { SourceError, Trainer, type TrainerOptions, type Values } from "./trainer.ts";

export interface TrainingJob extends Pick<TrainerOptions, "model" | "recipe" | "target" | "open" | "seed"> {
  /** Where parameters start. */
  readonly start: Values;
  readonly sides: Sides;
  /** The set's folder. */
  readonly folder: string;
  readonly pool: DataPool;
  readonly run: RunFolder;
  readonly facts: RunFacts;
  /** Where to go on. */
  readonly checkpoint: LoadedCheckpoint | undefined;
  readonly progress: Progress;
  readonly events: EventFile;
  readonly interruption: Interruption;
  /** Updates between two checkpoints within an epoch; undefined: by time alone. */
  readonly saveEvery: number | undefined;
  readonly onPrepared?: (done: number, total: number) => void;
}

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

/** A result of the loader, or its refusal as an error of the run. */
function demand<T extends { readonly kind: string }>(made: T | LoaderError): T {
  if (made.kind === "loader-error") {
    const { message, help } = made as LoaderError;
    throw new RunError("wrong", message, help);
  }
  return made as T;
}

/**
 * Trains until the recipe's end, or until it is interrupted; then everything is saved.
 * @throws RunError, SourceError, ClipError; what is in the run folder stays good
 */
export async function train(job: TrainingJob): Promise<TrainingResult> {
  const training = new Training(job);
  try {
    return await training.run();
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

  constructor(job: TrainingJob) {
    this.#job = job;
    this.#at = job.checkpoint === undefined ? { ...START } : positionOf(job.checkpoint.record);
    this.#byClass = countClasses(job.sides.classes, job.sides.train);
  }

  async run(): Promise<TrainingResult> {
    const { recipe, checkpoint } = this.#job;
    const at = this.#at;
    await this.#readBase();
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
      if (ended !== undefined) return { ended, step: at.step, best: at.best };
    }
    return { ended: "finished", step: at.step, best: at.best };
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
    for (const { path } of model.parameters) {
      const stored = checkpoint?.tensors.has(path) === true ? await checkpoint.read(path) : undefined;
      const value = stored ?? (await start(path));
      if (value === undefined) throw new Error(`internal: ${path} has no start`);
      this.#base.set(path, value);
    }
  }

  /** What the stage has come to is where the next one starts. */
  async #keepBase(trainer: Trainer): Promise<void> {
    for (const { path } of this.#job.model.parameters)
      if (trainer.changing.has(path)) this.#base.set(path, await trainer.read(path));
  }

  async #openStage(checkpoint: LoadedCheckpoint | undefined): Promise<Trainer> {
    const { model, recipe, target, open, seed } = this.#job;
    const at = this.#at;
    // At the beginning of a stage there is no state but the parameters.
    const going = checkpoint !== undefined && (at.epoch > 0 || at.batch > 0) ? checkpoint : undefined;
    const values: Values = async (path) =>
      going?.tensors.has(path) === true ? going.read(path) : this.#base.get(path);
    const updates = Object.entries(going?.record.counters ?? {}).flatMap(([name, value]) =>
      name.startsWith("updates") ? [value] : [],
    );
    const options = { model, recipe, stage: at.stage, target, open, values, seed, byClass: this.#byClass };
    const trainer = await Trainer.open(options, updates);
    this.#trainer = trainer;
    if (going === undefined) {
      at.plateau = PLATEAU_START;
      at.stop = STOP_START;
      at.best = undefined;
    }
    if (recipe.stages.length > 1 && going === undefined) {
      this.#note(`stage ${at.stage + 1} of ${recipe.stages.length}: ${trainer.stage.name}`);
    }
    this.#source ??= demand(
      await openBatches({
        pool: this.#job.pool,
        folder: this.#job.folder,
        clips: this.#job.sides.train,
        classes: this.#job.sides.classes,
        inputs: trainer.program.inputs.filter(({ name }) => !name.startsWith("step.")),
        recipe: recipe.data,
        seed,
        ...(this.#job.onPrepared === undefined ? {} : { onPrepared: this.#job.onPrepared }),
        onFailure: ({ problem }) => this.#note(`left out: \`${problem.path}\`: ${problem.message}`),
      }),
    );
    if (this.#source.batches < trainer.stage.accumulate) {
      throw new RunError(
        "wrong",
        `an epoch has ${this.#source.batches} batches, fewer than the ${trainer.stage.accumulate} of one update`,
        ["a smaller `accumulate` or a smaller `batch`"],
      );
    }
    return trainer;
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
          if (!result.finite) throw await this.#notFinite(trainer, result.loss);
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
      await this.#save(trainer);
      const reason = this.#job.interruption.reason();
      if (stops && at.epoch < stage.epochs) {
        this.#note(`stopped early: no improvement for ${stage.stop?.patience} epochs`);
        at.epoch = stage.epochs;
        await this.#save(trainer);
      }
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
    const { recipe, sides } = this.#job;
    const scores = sides.validation.length > 0 ? await this.#validate(trainer, stage) : undefined;
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
    void recipe;
    this.#write(line);
    this.#job.progress.epoch(line);
    at.epoch += 1;
    at.batch = 0;
    at.lossSum = 0;
    at.right = 0;
    at.samples = 0;
    return stops;
  }

  async #validate(trainer: Trainer, stage: Stage): Promise<ReadonlyMap<string, number>> {
    const { recipe, sides } = this.#job;
    const values: Values = (path) => {
      const source = trainer.evaluated(path);
      return trainer.changing.has(source) ? trainer.read(source) : this.#base.get(path);
    };
    const predictions = await this.#predict(values, stage, sides.validation, "validation");
    const metrics = [{ kind: "loss" } as const, ...recipe.metrics, stage.keep.metric];
    return new Map(metrics.map((metric) => [metricName(metric), metricValue(metric, predictions, sides.classes)]));
  }

  async #predict(
    values: Values,
    stage: Stage,
    clips: readonly ClipRecord[],
    side: "validation" | "test",
  ): Promise<readonly ClipPrediction[]> {
    const evaluator = await this.#openEvaluator(values);
    const open = async (): Promise<EvaluationSource> =>
      openEvaluation(this.#job, clips, evaluator, (text) => this.#note(text));
    const source = side === "validation" ? (this.#validation ??= await open()) : await open();
    try {
      return await predictClips(evaluator, source, clips, outputKindOf(stage.loss));
    } finally {
      if (side === "test") source.close();
    }
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

  async #save(trainer: Trainer): Promise<Saved> {
    const { run, facts, model } = this.#job;
    const at = this.#at;
    const own = model.parameters.map(({ path, node }) => ({ name: path, shape: node.shape.map(Number) }));
    const state = [...trainer.changing].flatMap(([name, shape]) => (name.includes("/") ? [{ name, shape }] : []));
    const layout = [...own, ...state];
    const base = this.#base;
    async function* tensors(): AsyncGenerator<{ name: string; shape: readonly number[]; data: Float32Array }> {
      for (const { name, shape } of layout) {
        const data = trainer.changing.has(name) ? await trainer.read(name) : base.get(name);
        if (data === undefined) throw new Error(`internal: ${name} has no value`);
        yield { name, shape, data };
      }
    }
    run.sync();
    const updates = Object.fromEntries(trainer.updates.map((value, group) => [`updates${group}`, value]));
    const saved = await saveCheckpoint(
      run.path,
      {
        step: at.step,
        stage: at.stage,
        epoch: at.epoch,
        batch: at.batch,
        counters: { ...updates, lossSum: at.lossSum, right: at.right, samples: at.samples },
        plateau: at.plateau,
        stop: at.stop,
        best: at.best,
        metricsBytes: run.metricsBytes(),
        facts,
      },
      { layout, tensors: tensors() },
    );
    this.#savedAt = performance.now();
    for (const warning of saved.warnings) this.#note(warning);
    return saved;
  }

  /** A loss or gradients that are not finite, in words. The update was not made, so all that was saved is good. */
  async #notFinite(trainer: Trainer, loss: number): Promise<RunError> {
    const layer = await trainer.firstNotFinite();
    const what = Number.isFinite(loss) ? "the gradients are" : "the loss is";
    const where =
      layer === undefined ? "" : layer === "" ? ", first where the loss is computed" : `, first at \`${layer}\``;
    return new RunError("wrong", `${what} not finite in step ${this.#at.step + 1}${where}`, [
      "the parameters are as they were before this step",
      "a smaller learning rate, `clip_norm`, or a warm-up",
      `the last checkpoint is good: see \`${this.#job.run.path}/checkpoints\``,
    ]);
  }
}

// ---------------------------------------------------------------------------------------------------------- evaluation

/** What evaluation needs of a job. */
export type EvaluationJob = Pick<
  TrainingJob,
  "model" | "recipe" | "target" | "open" | "seed" | "sides" | "folder" | "pool"
>;

/** The inference program of a job's model, opened. */
export async function openInference({ model, recipe, target, open, seed }: EvaluationJob): Promise<Runner> {
  const compiled = compile(model, { target, sizes: new Map([["N", recipe.data.batch]]), seed });
  if ("diagnostics" in compiled) throw new SourceError(compiled.diagnostics);
  return open(compiled.ok);
}

/** Loads parameters. */
export async function loadValues(runner: Runner, values: Values): Promise<void> {
  await runner.load(async ({ path, shape, rows }, into) => {
    const value = await values(path);
    if (value === undefined) throw new Error(`internal: no value for ${path}`);
    const row = value.length / (shape[0] ?? 1);
    into.set(rows === undefined ? value : value.subarray(rows.start * row, rows.end * row));
  });
}

/** The views of clips for an opened inference program. */
export async function openEvaluation(
  { pool, folder, sides, recipe }: EvaluationJob,
  clips: readonly ClipRecord[],
  runner: Runner,
  note: (text: string) => void,
): Promise<EvaluationSource> {
  return demand(
    await evaluationBatches({
      pool,
      folder,
      clips,
      classes: sides.classes,
      inputs: runner.program.inputs,
      recipe: recipe.data,
      onFailure: ({ problem }) => note(`counts as wrong: \`${problem.path}\`: ${problem.message}`),
    }),
  );
}
