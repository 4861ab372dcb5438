/**
 * Predictions of a model for the clips of a side.
 *
 * In: a model with its recipe, its parameters, a device, the clips (windows × crops of each, in batches). Out: for every
 * clip the mean of its views' class probabilities. A clip that cannot be read comes out without any and counts as wrong.
 */
import { compile } from "../../compiler/compile.ts";
import { STATE_PREFIX } from "../../compiler/graph/step.ts";
import type { ProgramInput } from "../../compiler/program.ts";
import type { LossTerm } from "../../compiler/recipe/recipe.ts";
import { type EvaluationSource, evaluationBatches, type LoaderError } from "../data/loader/batches.ts";
import type { DataPool } from "../data/loader/pool.ts";
import type { ClipRecord } from "../data/manifest.ts";
import type { Sides } from "../data/sides.ts";
import type { Runner } from "../engine/runner.ts";
import type { LoadedCheckpoint } from "./checkpoint.ts";
import { RunError } from "./fault.ts";
import type { ClipPrediction, PredictionHeader } from "./records.ts";
import { SourceError, type TrainerOptions, type Values } from "./trainer.ts";

/** What evaluation needs of an experiment. */
export interface EvaluationJob
  extends Pick<TrainerOptions, "model" | "recipe" | "target" | "open" | "seed" | "compiler" | "gates"> {
  readonly sides: Sides;
  /** The set's folder. */
  readonly folder: string;
  readonly pool: DataPool;
}

/** How outputs are probabilities: by softmax, or by a sigmoid each (made to sum to 1) where the loss is binary. */
export type OutputKind = "softmax" | "sigmoid";

export function outputKindOf(loss: readonly LossTerm[]): OutputKind {
  const term = loss.find(({ on }) => on === "output");
  return term?.kind === "binary_cross_entropy" ? "sigmoid" : "softmax";
}

/** Class probabilities of one row of outputs. One number is the logit of the second of two classes. */
export function probabilitiesOf(logits: Float32Array, kind: OutputKind): number[] {
  const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
  if (logits.length === 1) {
    const p = sigmoid(logits[0] ?? 0);
    return [1 - p, p];
  }
  const greatest = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const weights = Array.from(logits, (x) => (kind === "softmax" ? Math.exp(x - greatest) : sigmoid(x)));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / total);
}

/**
 * Predicts every clip of `clips`, in their order.
 * @param source views of these very clips
 */
export async function predictClips(
  runner: Runner,
  source: EvaluationSource,
  clips: readonly ClipRecord[],
  kind: OutputKind,
): Promise<ClipPrediction[]> {
  const [output] = runner.program.outputs;
  if (output === undefined) throw new Error("internal: a model without outputs");
  const sums: number[][] = clips.map(() => []);
  for await (const { inputs, rows } of source.run()) {
    for (const [name, values] of inputs) runner.write(name, values);
    await runner.run();
    const logits = await runner.read(output.name);
    const width = logits.length / rows.length;
    rows.forEach((place, row) => {
      if (place === undefined) return;
      const sum = sums[place.clip] ?? [];
      probabilitiesOf(logits.subarray(row * width, (row + 1) * width), kind).forEach((p, c) => {
        sum[c] = (sum[c] ?? 0) + p / source.views;
      });
    });
  }
  const failures = new Map(source.failures.map(({ clip, problem }) => [clip, problem.message]));
  return clips.map(({ path, subject, class: name }, clip) => {
    const failure = failures.get(clip);
    const probabilities = failure === undefined ? sums[clip] : undefined;
    return { path, subject, class: name, probabilities, failure };
  });
}

/** The inference program of a job's model, opened. */
export async function openInference(job: EvaluationJob): Promise<Runner> {
  const { model, recipe, target, open, seed, compiler } = job;
  const sizes = new Map([["N", recipe.data.batch]]);
  const compiled = await (compiler?.compile ?? compile)(model, { target, sizes, seed });
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

/** The views of the clips of a side, for a program with these inputs. */
export async function openEvaluation(
  { pool, folder, sides, recipe }: EvaluationJob,
  side: "validation" | "test",
  inputs: readonly ProgramInput[],
  told: { readonly note?: (text: string) => void; readonly onPrepared?: (done: number, total: number) => void },
): Promise<EvaluationSource> {
  return demand(
    await evaluationBatches({
      pool,
      folder,
      clips: sides[side],
      classes: sides.classes,
      inputs,
      recipe: recipe.data,
      ...(told.onPrepared === undefined ? {} : { onPrepared: told.onPrepared }),
      onFailure: ({ problem }) => told.note?.(`counts as wrong: \`${problem.path}\`: ${problem.message}`),
    }),
  );
}

/** Whose predictions they are. */
export interface PredictionOf {
  /** Name of the run. */
  readonly run: string;
  readonly model: string;
  readonly graphHash: string;
  readonly manifestHash: string;
  /** The manifest's own words. */
  readonly note: string;
}

/**
 * Predicts the clips of a side with an opened inference program that has its parameters.
 * @param step of the checkpoint that they are from
 */
export async function predictSide(
  job: EvaluationJob,
  runner: Runner,
  side: "validation" | "test",
  { run, model, graphHash, manifestHash, note }: PredictionOf,
  step: number,
): Promise<{ readonly header: PredictionHeader; readonly predictions: readonly ClipPrediction[] }> {
  const { recipe, sides, seed } = job;
  const source = await openEvaluation(job, side, runner.program.inputs, {});
  try {
    const kind = outputKindOf(recipe.stages.at(-1)?.loss ?? []);
    const predictions = await predictClips(runner, source, sides[side], kind);
    const header: PredictionHeader = {
      format: "netc-predictions",
      version: 1,
      run,
      model,
      graphHash,
      side,
      step,
      seed,
      fold: sides.fold,
      manifestHash,
      note,
      classes: sides.classes,
      segments: recipe.data.evaluation.segments,
      crops: recipe.data.evaluation.crops,
    };
    return { header, predictions };
  } finally {
    source.close();
  }
}

/** The tensor that is evaluated for a parameter: its moving average where there is one. */
export function evaluatedName({ tensors }: Pick<LoadedCheckpoint, "tensors">, path: string): string {
  const average = STATE_PREFIX.average + path;
  return tensors.has(average) ? average : path;
}

/** A result of the loader, or its refusal as an error of the run. */
export function demand<T extends { readonly kind: string }>(made: T | LoaderError): T {
  if (made.kind === "loader-error") {
    const { message, help } = made as LoaderError;
    throw new RunError("wrong", message, help);
  }
  return made as T;
}
