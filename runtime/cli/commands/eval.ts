/**
 * `netc eval`: a trained run on the clips of a side, with intervals; and two runs, or two sets of runs, compared.
 */
import { join } from "node:path";
import type { Metric } from "../../../compiler/recipe/recipe.ts";
import { openPool } from "../../data/loader/pool.ts";
import { compareRuns, compareSeeds } from "../../report/comparison.ts";
import { comparisonTable, seedsTable } from "../../report/terminal.ts";
import { type Predictions, readPredictions } from "../../train/predictions.ts";
import { readRun } from "../../train/run-folder.ts";
import { chooseTarget, type DeviceName } from "../devices.ts";
import { evaluateSides, type Side, scoresValue, showScores, usualCheckpoint } from "../evaluation.ts";
import { CommandError, EXIT, type ExitCode } from "../exit.ts";
import { openExperiment } from "../experiment.ts";
import { printJson } from "../json.ts";
import { openRunner } from "../open.ts";
import { openEntry } from "../sources.ts";
import { print } from "../terminal.ts";
import { asCommandError } from "./train.ts";

export interface EvalOptions {
  readonly side: Side;
  /** Undefined: the best, or where no clips were held out to choose it, the latest. */
  readonly checkpoint?: "best" | "latest" | number;
  readonly data?: string;
  readonly device: DeviceName;
  readonly segments?: number;
  readonly crops?: 1 | 10;
  readonly bootstrap: number;
  readonly compare?: readonly string[];
  readonly stored?: boolean;
  readonly json?: boolean;
}

/** Evaluates runs, or compares what they predicted. */
export async function evalCommand(runs: readonly string[], options: EvalOptions): Promise<ExitCode> {
  const json = options.json === true;
  try {
    const first: RunPredictions[] = [];
    for (const run of runs) first.push(await predictionsOf(run, options, json));
    const second: RunPredictions[] = [];
    for (const run of options.compare ?? []) second.push(await predictionsOf(run, options, json));
    return show(first, second, options);
  } catch (error) {
    throw asCommandError(error, json);
  }
}

/** Predictions with the metrics that the run's recipe asks for. */
interface RunPredictions extends Predictions {
  readonly metrics: readonly Metric[];
}

/** What a run says of its clips: predicted now, or as it is stored. */
async function predictionsOf(folder: string, options: EvalOptions, json: boolean): Promise<RunPredictions> {
  const record = readRun(folder);
  if (options.stored === true) {
    const stored = readPredictions(join(folder, "predictions", `${options.side}.jsonl`));
    if ("error" in stored)
      throw new CommandError(EXIT.wrong, stored.error, ["leave `--stored` out to predict them now"]);
    return { ...stored, metrics: record.recipe.metrics };
  }
  const entry = openEntry(join(folder, "sources", record.request.source));
  const request = {
    ...record.request,
    entry,
    folder: options.data ?? record.data.folder,
    seed: record.seed,
    moved: options.data === undefined,
  };
  const experiment = openExperiment(request, json);
  if (experiment === undefined) throw new CommandError(EXIT.wrong, `the sources in \`${folder}\` do not compile`);
  if (experiment.graphHash !== record.model.graphHash)
    throw new CommandError(
      EXIT.wrong,
      `the sources in \`${folder}\` are not those of the run: they make another model`,
      ["undo the change in its `sources` folder"],
    );
  if (experiment.manifestHash !== record.data.manifestHash)
    throw new CommandError(
      EXIT.wrong,
      `\`${experiment.folder}\` is not the data set of \`${folder}\`: its manifest differs`,
      ["`--data FOLDER` names the set that the run was trained on"],
    );
  const target = await chooseTarget(options.device);
  if (target.device === "interp")
    throw new CommandError(EXIT.usage, "`--device interp` is for looking closely, not for evaluation", [
      "`--device wasm` evaluates on the CPU",
    ]);
  const { evaluation } = experiment.recipe.data;
  const views = { segments: options.segments ?? evaluation.segments, crops: options.crops ?? evaluation.crops };
  const recipe = { ...experiment.recipe, data: { ...experiment.recipe.data, evaluation: views } };
  const pool = await openPool({ onWarning: warn });
  try {
    const job = {
      ...experiment,
      recipe,
      target: target.capability,
      open: (program: Parameters<typeof openRunner>[0]) => openRunner(program, target),
      pool,
    };
    const which = options.checkpoint ?? usualCheckpoint(job);
    const [done] = await evaluateSides(job, { path: folder, record }, [options.side], which);
    if (done === undefined || done.predictions.length === 0)
      throw new CommandError(EXIT.wrong, `\`${folder}\` has no ${options.side} clips`, [
        "`--side test` evaluates the test clips",
      ]);
    return { header: done.header, clips: done.predictions, metrics: recipe.metrics };
  } finally {
    await pool.close();
  }
}

function warn(text: string): void {
  process.stderr.write(`${text}\n`);
}

function show(first: readonly RunPredictions[], second: readonly RunPredictions[], options: EvalOptions): ExitCode {
  const replicates = options.bootstrap;
  const [a] = first;
  const [b] = second;
  const json = options.json === true;
  if (a === undefined || b === undefined) {
    if (json) printJson({ runs: first.map((run) => scoresValue(run, run.metrics, replicates)) });
    else
      for (const [index, { header, clips, metrics }] of first.entries()) {
        if (index > 0) print();
        showScores({ header, predictions: clips }, { replicates, metrics });
      }
    return EXIT.ok;
  }
  const paired = first.length === 1 && second.length === 1;
  const all = { replicates, metrics: a.metrics };
  if (json) {
    const comparison = paired ? compareRuns(a, b, all) : compareSeeds(first, second, all);
    if ("error" in comparison) throw new CommandError(EXIT.wrong, comparison.error);
    const values = (runs: readonly RunPredictions[]): readonly object[] =>
      runs.map((run) => scoresValue(run, run.metrics, replicates));
    const differences = comparison.differences.map(({ text, ...row }) => ({ ...row, formula: text.formula }));
    printJson({ runs: values(first), compared: values(second), comparison: { ...comparison, differences } });
    return EXIT.ok;
  }
  const table = paired ? comparisonTable(a, b, all) : seedsTable(first, second, all);
  if ("error" in table) throw new CommandError(EXIT.wrong, table.error);
  for (const line of table) print(line);
  return EXIT.ok;
}
