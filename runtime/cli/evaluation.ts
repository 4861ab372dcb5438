/**
 * Evaluating a run: its best parameters on the clips of a side, written into the run folder and shown.
 */
import { join } from "node:path";
import { STATE_PREFIX } from "../../compiler/graph/step.ts";
import type { Metric } from "../../compiler/recipe/recipe.ts";
import { countAt } from "../metrics/scores.ts";
import { evaluate } from "../report/evaluation.ts";
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
import { encodePredictions, type Predictions } from "../train/predictions.ts";
import type { ClipPrediction, PredictionHeader, RunRecord } from "../train/records.ts";
import { print } from "./terminal.ts";
import { writeWhole } from "./write-file.ts";

export type Side = PredictionHeader["side"];

export interface EvaluatedSide {
  readonly header: PredictionHeader;
  readonly predictions: readonly ClipPrediction[];
  /** In the run folder. */
  readonly file: string;
}

/** A run folder as evaluation sees it: open or only read. */
export interface EvaluatedRun {
  readonly path: string;
  readonly record: RunRecord;
}

/** The best epoch's; without clips that chose one, the last. */
export function usualCheckpoint({ sides }: Pick<EvaluationJob, "sides">): WhichCheckpoint {
  return sides.validation.length > 0 ? "best" : "latest";
}

/** Evaluates validation and test clips with the usual checkpoint. */
export async function evaluateRun(job: EvaluationJob, run: EvaluatedRun): Promise<readonly EvaluatedSide[]> {
  const sides: readonly Side[] = (["validation", "test"] as const).filter((side) => job.sides[side].length > 0);
  return evaluateSides(job, run, sides, usualCheckpoint(job));
}

/** Evaluates sides with one checkpoint, and writes `predictions/<side>.jsonl`. */
export async function evaluateSides(
  job: EvaluationJob,
  run: EvaluatedRun,
  sides: readonly Side[],
  which: WhichCheckpoint,
): Promise<readonly EvaluatedSide[]> {
  const checkpoint = await loadCheckpoint(run.path, which);
  const runner = await openInference(job);
  try {
    await loadValues(runner, (path) => checkpoint.read(evaluatedName(checkpoint, path)));
    const done: EvaluatedSide[] = [];
    for (const side of sides) {
      const clips = job.sides[side];
      const source = await openEvaluation(job, side, runner.program.inputs, {});
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
  return { header, predictions, file };
}

/** Scores as `--json` has them: each with its formula and interval, the confusion matrix, and the clips that failed. */
export function scoresValue(predictions: Predictions, metrics: readonly Metric[], replicates: number): object {
  const { header, clips } = predictions;
  const found = evaluate(predictions, metrics, { replicates });
  const { classes } = header;
  return {
    ...header,
    clips: clips.length,
    subjects: found.subjects,
    scores: found.scores.map(({ name, text, interval }) => ({ name, formula: text.formula, ...interval })),
    intervals: found.method,
    notes: found.notes,
    accuracyByWilson: found.wilson,
    byClass: found.classes,
    confusion: {
      rows: "true class",
      columns: [...classes, "none"],
      counts: classes.map((_, truth) => [
        ...classes.map((__, predicted) => countAt(found.confusion, truth, predicted)),
        countAt(found.confusion, truth, "none"),
      ]),
    },
    alwaysTheLargest: found.largest,
    failed: found.failed.map(({ path, class: name, failure }) => ({ path, class: name, failure })),
  };
}

/** Prints the scores of a side. */
export function showScores(
  { header, predictions }: Pick<EvaluatedSide, "header" | "predictions">,
  options: { readonly replicates?: number; readonly metrics?: readonly Metric[] } = {},
): void {
  for (const line of scoresTable(header, predictions, options)) print(line);
}
