/**
 * Evaluating a run: its best parameters on the clips of a side, written into the run folder and shown.
 */
import { join } from "node:path";
import type { Metric } from "../../compiler/recipe/recipe.ts";
import { countAt } from "../metrics/scores.ts";
import { evaluate } from "../report/evaluation.ts";
import { scoresTable } from "../report/terminal.ts";
import { loadCheckpoint, type WhichCheckpoint } from "../train/checkpoint.ts";
import {
  type EvaluationJob,
  evaluatedName,
  loadValues,
  openInference,
  type PredictionOf,
  predictSide,
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
      const made = await predictSide(job, runner, side, ofRun(run), checkpoint.record.step);
      const file = join("predictions", `${side}.jsonl`);
      writeWhole(join(run.path, file), encodePredictions(made.header, made.predictions));
      done.push({ ...made, file });
    }
    return done;
  } finally {
    runner.dispose();
    await checkpoint.close();
  }
}

function ofRun({ record }: EvaluatedRun): PredictionOf {
  const { name, model, data } = record;
  return { run: name, model: model.name, graphHash: model.graphHash, manifestHash: data.manifestHash, note: data.note };
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
