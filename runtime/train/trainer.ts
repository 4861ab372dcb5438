/**
 * One stage of training on a device: the compiled step, what it is fed, and the state that it leaves.
 *
 * In: a model, a stage of a recipe, a device, and the values to start from. Out: `step`, which makes one update from one
 * batch or several, and `read`, which gives any parameter or state as it is now. Owns device memory until `dispose`.
 */
import type { Capability } from "../../compiler/capability.ts";
import { type compile, compileStep } from "../../compiler/compile.ts";
import { type RateGroup, STATE_PREFIX, STEP_INPUTS, STEP_REPORT } from "../../compiler/graph/step.ts";
import { COUNTERS } from "../../compiler/graph/training.ts";
import type { Model } from "../../compiler/model.ts";
import type { Program, Upload } from "../../compiler/program.ts";
import type { Recipe, Stage } from "../../compiler/recipe/recipe.ts";
import type { Diagnostic } from "../../grammar/diagnostic.ts";
import type { Batch } from "../data/loader/batches.ts";
import type { OpenProgram } from "../engine/devices.ts";
import type { Runner } from "../engine/runner.ts";
import { firstLossScale, type LossScale, nextLossScale } from "./loss-scale.ts";
import { classWeightsOf, countRight, mixRandom, mixUp, targetsOf } from "./targets.ts";

/** Values by path: of the model's parameters, and of state where there is any. Undefined: it has none for this path. */
export type Values = (path: string) => Promise<Float32Array | undefined> | Float32Array | undefined;

/** What compiles programs: the compiler, or whoever keeps what it made or tries plans on the device. */
export interface Compiler {
  readonly compileStep: (
    ...args: Parameters<typeof compileStep>
  ) => ReturnType<typeof compileStep> | Promise<ReturnType<typeof compileStep>>;
  readonly compile: (
    ...args: Parameters<typeof compile>
  ) => ReturnType<typeof compile> | Promise<ReturnType<typeof compile>>;
}

export interface TrainerOptions {
  readonly model: Model;
  readonly recipe: Recipe;
  /** Number of the stage in the recipe. */
  readonly stage: number;
  readonly target: Capability;
  readonly open: OpenProgram;
  readonly values: Values;
  readonly seed: number;
  /** Training clips by class. */
  readonly byClass: readonly number[];
  /** Of a super-network: its gates in an update. */
  readonly gates?: ((update: number) => Float32Array) | undefined;
  /** By default the compiler itself. */
  readonly compiler?: Compiler | undefined;
}

/** A model that compiles and cannot be trained; what to tell its author. */
export class SourceError extends Error {
  readonly diagnostics: readonly Diagnostic[];
  constructor(diagnostics: readonly Diagnostic[]) {
    super(diagnostics[0]?.message ?? "the step does not compile");
    this.name = "SourceError";
    this.diagnostics = diagnostics;
  }
}

/** What a stage that goes on has besides its tensors. */
interface StageProgress {
  /** Updates of each group so far. */
  readonly updates?: readonly number[];
  readonly lossScale?: LossScale | undefined;
}

/** What an update was. */
export interface StepResult {
  /** Mean over the batches that it is made of. */
  readonly loss: number;
  /** Norm of the gradients before clipping. */
  readonly norm: number;
  /** False if loss or gradients were not finite: then nothing has changed. */
  readonly finite: boolean;
  /** Only the loss scale was too large, in mixed precision: the next update is made with a smaller one. */
  readonly skipped: boolean;
  /** Right answers, and samples. */
  readonly right: number;
  readonly samples: number;
}

/** Where in training an update stands. */
export interface Moment {
  /** Updates since the run began, before this one. */
  readonly step: number;
  readonly epoch: number;
  /** Learning rate before the parameters' own factors. */
  readonly rate: number;
}

const count = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);

export class Trainer {
  readonly stage: Stage;
  readonly program: Program;
  /** Parameters and state that updates change, with their shapes. */
  readonly changing: ReadonlyMap<string, readonly number[]>;
  readonly #options: TrainerOptions;
  readonly #runner: Runner;
  readonly #groups: readonly RateGroup[];
  /** Updates of each group, for Adam's corrections. */
  readonly #updates: number[];
  /** In mixed precision. */
  #lossScale: LossScale | undefined;
  readonly #output: string;
  readonly #outputs: number;

  private constructor(
    options: TrainerOptions,
    stage: Stage,
    runner: Runner,
    groups: readonly RateGroup[],
    { updates = [], lossScale }: StageProgress,
  ) {
    this.#options = options;
    this.stage = stage;
    this.#runner = runner;
    this.program = runner.program;
    this.#groups = groups;
    this.#updates = groups.map((_, group) => updates[group] ?? 0);
    this.#lossScale = lossScale ?? firstLossScale(options.recipe.precision);
    this.changing = new Map(runner.program.state.map(({ path, shape }) => [path, shape]));
    const output = runner.program.outputs.find(({ name }) => name !== STEP_REPORT);
    if (output === undefined) throw new Error("internal: a step without the model's output");
    this.#output = output.name;
    this.#outputs = output.shape.at(-1) ?? 1;
    this.#writeConstants();
  }

  /**
   * Compiles the stage's step and loads it.
   * @param progress where a stage goes on
   */
  static async open(options: TrainerOptions, progress: StageProgress = {}): Promise<Trainer> {
    const { model, recipe, target, seed } = options;
    const { precision } = recipe;
    const stage = recipe.stages[options.stage];
    if (stage === undefined) throw new Error(`internal: the recipe has no stage ${options.stage}`);
    const sizes = new Map([["N", recipe.data.batch]]);
    const make = options.compiler?.compileStep ?? compileStep;
    const compiled = await make(model, stage, { target, sizes, seed, precision });
    if ("diagnostics" in compiled) {
      throw new SourceError(compiled.diagnostics);
    }
    const { program, groups } = compiled.ok;
    const runner = await options.open(program);
    try {
      await runner.load(async (upload, into) => into.set(await partOf(upload, options.values)));
      return new Trainer(options, stage, runner, groups, progress);
    } catch (error) {
      runner.dispose();
      throw error;
    }
  }

  get device(): string {
    return this.#runner.device;
  }

  get deviceBytes(): number {
    return this.program.allocations.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Updates of each group so far. */
  get updates(): readonly number[] {
    return this.#updates;
  }

  /** The loss scale of the next update, in mixed precision. */
  get lossScale(): LossScale | undefined {
    return this.#lossScale;
  }

  /** One update from `stage.accumulate` batches. */
  async step(
    batches: AsyncIterator<Batch>,
    moment: Moment,
  ): Promise<(StepResult & { readonly waited: number }) | undefined> {
    const { accumulate } = this.stage;
    let [loss, right, samples, waited] = [0, 0, 0, 0];
    let report: Float32Array = new Float32Array(3);
    this.#writeRates(moment);
    if (this.#lossScale !== undefined)
      this.#runner.write(STEP_INPUTS.lossScale, Float32Array.of(this.#lossScale.scale, 1 / this.#lossScale.scale));
    const gates = this.#options.gates?.(moment.step);
    if (gates !== undefined && this.#has(STEP_INPUTS.gates)) this.#runner.write(STEP_INPUTS.gates, gates);
    for (let part = 0; part < accumulate; part++) {
      const next = await batches.next();
      if (next.done === true) return undefined;
      const batch = next.value;
      waited += batch.waitedSeconds;
      this.#writeBatch(batch, moment);
      this.#writeCounters(moment.step * accumulate + part);
      this.#runner.write(STEP_INPUTS.control, Float32Array.of(part === accumulate - 1 ? 1 : 0, part === 0 ? 1 : 0));
      await this.#runner.run();
      report = await this.#runner.read(STEP_REPORT);
      loss += (report[0] ?? Number.NaN) / accumulate;
      right += countRight(await this.#runner.read(this.#output), batch.labels);
      samples += batch.labels.length;
      if (report[2] === 1) continue;
      const skipped = Number.isFinite(report[0]) && this.#moveLossScale(true);
      // The rest of this update's batches, so that the next one begins with its own.
      if (skipped) for (let rest = part + 1; rest < accumulate; rest++) await batches.next();
      const mean = (loss * accumulate) / (part + 1);
      return { loss: mean, norm: report[1] ?? Number.NaN, finite: false, skipped, right, samples, waited };
    }
    this.#moveLossScale(false);
    this.#groups.forEach(({ frozenUntil }, group) => {
      if (moment.epoch >= frozenUntil) this.#updates[group] = (this.#updates[group] ?? 0) + 1;
    });
    return { loss, norm: report[1] ?? Number.NaN, finite: true, skipped: false, right, samples, waited };
  }

  /**
   * The layers of the first kernel whose numbers are not finite when the last batch is computed once more, in the order of
   * computation; empty where a kernel is of no layer, such as the loss. Undefined if all numbers are finite.
   */
  async firstNotFinite(): Promise<readonly string[] | undefined> {
    let found: readonly string[] | undefined;
    await this.#runner.trace((layers, written) => {
      if (written.every((values) => values.every(Number.isFinite))) return true;
      // A layer that contains another one of them (a block, of which this is the last operation) says less.
      found = layers.filter((name) => name !== "" && !layers.some((inner) => inner.startsWith(`${name}.`)));
      return false;
    });
    return found;
  }

  /** A parameter or state that updates change, as it is now. */
  read(path: string): Promise<Float32Array> {
    return this.#runner.readState(path);
  }

  /** The parameters to evaluate: their moving average where the stage keeps one. */
  evaluated(path: string): string {
    const average = STATE_PREFIX.average + path;
    return this.changing.has(average) ? average : path;
  }

  dispose(): void {
    this.#runner.dispose();
  }

  #has(input: string): boolean {
    return this.program.inputs.some(({ name }) => name === input);
  }

  #writeConstants(): void {
    if (this.#has(STEP_INPUTS.classWeights))
      this.#runner.write(STEP_INPUTS.classWeights, classWeightsOf(this.stage, this.#options.byClass));
  }

  /** After an update; false if gradients overflowed and no other scale can help. */
  #moveLossScale(overflowed: boolean): boolean {
    if (this.#lossScale === undefined) return !overflowed;
    const next = nextLossScale(this.#lossScale, this.#options.recipe.precision, overflowed);
    this.#lossScale = next ?? this.#lossScale;
    return next !== undefined;
  }

  #writeRates({ epoch, rate }: Moment): void {
    const { optimizer } = this.stage;
    const rates = this.#groups.flatMap(({ frozenUntil }, group) => {
      const updates = (this.#updates[group] ?? 0) + 1;
      const open = epoch >= frozenUntil;
      if (optimizer.kind !== "adam") return [open ? rate : 0, 1, 1];
      const { beta1, beta2 } = optimizer;
      return [open ? rate : 0, 1 / (1 - beta1 ** updates), 1 / Math.sqrt(1 - beta2 ** updates)];
    });
    this.#runner.write(STEP_INPUTS.rates, Float32Array.from(rates));
  }

  /** Every batch draws masks of its own. */
  #writeCounters(batch: number): void {
    if (!this.#has(COUNTERS)) return;
    const { seed } = this.#options;
    // f32 holds whole numbers below 2^24; after that many batches masks come again.
    this.#runner.write(COUNTERS, Float32Array.of(batch % 2 ** 24, seed & 0xffff, (seed >>> 16) & 0xffff));
  }

  #writeBatch({ index, inputs, labels }: Batch, { epoch }: Moment): void {
    const { seed, stage } = this.#options;
    const target = targetsOf(labels, this.#outputs);
    if (this.stage.mixup !== undefined) {
      mixUp([...inputs.values(), target], labels.length, this.stage.mixup, mixRandom(seed, stage, epoch, index));
    }
    for (const [name, values] of inputs) this.#runner.write(name, values);
    this.#runner.write(STEP_INPUTS.target, target);
  }
}

/** The rows of a value that an upload asks for. State without a value starts at 0, a moving average where its parameter is. */
async function partOf(upload: Upload, values: Values): Promise<Float32Array> {
  const { path, rows, shape } = upload;
  const average = path.startsWith(STATE_PREFIX.average) ? path.slice(STATE_PREFIX.average.length) : undefined;
  const value = (await values(path)) ?? (average === undefined ? undefined : await values(average));
  if (value === undefined && !path.includes("/")) throw new Error(`internal: no value for ${path}`);
  const whole = value ?? new Float32Array(count(shape));
  const row = whole.length / (shape[0] ?? 1);
  return rows === undefined ? whole : whole.subarray(rows.start * row, rows.end * row);
}
