/**
 * Evaluating a run: its best parameters on the clips of a side, written into the run folder and shown.
 */
import { join } from "node:path";
import { STATE_PREFIX } from "../../compiler/graph/step.ts";
import { metricName, metricValue } from "../metrics/scores.ts";
import { scoresTable } from "../report/terminal.ts";
import { type LoadedCheckpoint, loadCheckpoint, type WhichCheckpoint } from "../train/checkpoint.ts";
import {
  type EvaluationJob,
  loadValues,
  openEvaluation,
  openInference,
  outputKindOf,
  predictClips,
} from "../train/evaluate.ts";
import { encodePredictions } from "../train/predictions.ts";
import type { ClipPrediction, PredictionHeader, RunRecord } from "../train/records.ts";
import { print } from "./terminal.ts";
import { writeWhole } from "./write-file.ts";

export type Side = PredictionHeader["side"];

export interface EvaluatedSide {
  readonly header: PredictionHeader;
  readonly predictions: readonly ClipPrediction[];
  /** In the run folder. */
  readonly file: string;
  readonly summary: { readonly side: Side; readonly step: number; readonly scores: Readonly<Record<string, number>> };
}

/** A run folder as evaluation sees it: open or only read. */
export interface EvaluatedRun {
  readonly path: string;
  readonly record: RunRecord;
}

/** Evaluates validation and test clips with the checkpoint of the best epoch; without validation clips, with the last. */
export async function evaluateRun(
  job: EvaluationJob,
  run: EvaluatedRun,
  note: (text: string) => void,
): Promise<readonly EvaluatedSide[]> {
  const which: WhichCheckpoint = job.sides.validation.length > 0 ? "best" : "latest";
  const sides: readonly Side[] = (["validation", "test"] as const).filter((side) => job.sides[side].length > 0);
  return evaluateSides(job, run, sides, which, note);
}

/** Evaluates sides with one checkpoint, and writes `predictions/<side>.jsonl`. */
export async function evaluateSides(
  job: EvaluationJob,
  run: EvaluatedRun,
  sides: readonly Side[],
  which: WhichCheckpoint,
  note: (text: string) => void,
): Promise<readonly EvaluatedSide[]> {
  const checkpoint = await loadCheckpoint(run.path, which);
  const runner = await openInference(job);
  try {
    await loadValues(runner, (path) => checkpoint.read(evaluatedName(checkpoint, path)));
    const done: EvaluatedSide[] = [];
    for (const side of sides) {
      const clips = job.sides[side];
      const source = await openEvaluation(job, side, runner.program.inputs, { note });
      try {
        const loss = job.recipe.stages.at(-1)?.loss ?? [];
        const predictions = await predictClips(runner, source, clips, outputKindOf(loss));
        done.push(keep(job, run, side, checkpoint.record.step, predictions));
      } finally {
        source.close();
      }
    }
    return done;
  } finally {
    runner.dispose();
    await checkpoint.close();
  }
}

/** The tensor that is evaluated for a parameter: its moving average where there is one. */
export function evaluatedName(checkpoint: LoadedCheckpoint, path: string): string {
  const average = STATE_PREFIX.average + path;
  return checkpoint.tensors.has(average) ? average : path;
}

function keep(
  { recipe, sides, seed }: EvaluationJob,
  { path, record }: EvaluatedRun,
  side: Side,
  step: number,
  predictions: readonly ClipPrediction[],
): EvaluatedSide {
  const header: PredictionHeader = {
    format: "netc-predictions",
    version: 1,
    run: record.name,
    model: record.model.name,
    graphHash: record.model.graphHash,
    side,
    step,
    seed,
    fold: sides.fold,
    manifestHash: record.data.manifestHash,
    note: record.data.note,
    classes: sides.classes,
    segments: recipe.data.evaluation.segments,
    crops: recipe.data.evaluation.crops,
  };
  const file = join("predictions", `${side}.jsonl`);
  writeWhole(join(path, file), encodePredictions(header, predictions));
  const metrics = [{ kind: "accuracy" }, { kind: "uar" }, { kind: "macro_f1" }, { kind: "loss" }] as const;
  const scores = Object.fromEntries(
    metrics.map((metric) => [metricName(metric), metricValue(metric, predictions, sides.classes)]),
  );
  return { header, predictions, file, summary: { side, step, scores } };
}

/** Prints the scores of a side. */
export function showScores(
  { header, predictions }: Pick<EvaluatedSide, "header" | "predictions">,
  options: { readonly replicates?: number } = {},
): void {
  print();
  for (const line of scoresTable(header, predictions, options)) print(line);
}
