/**
 * `netc eval`: a trained run on the clips of a side, with intervals; and two runs, or two sets of runs, compared.
 */
import { join } from "node:path";
import { openPool } from "../../data/loader/pool.ts";
import { comparisonTable, seedsTable } from "../../report/terminal.ts";
import { type Predictions, readPredictions } from "../../train/predictions.ts";
import { readRun } from "../../train/run-folder.ts";
import { chooseTarget, type DeviceName } from "../devices.ts";
import { evaluateSides, type Side, showScores } from "../evaluation.ts";
import { CommandError, EXIT, type ExitCode } from "../exit.ts";
import { openExperiment } from "../experiment.ts";
import { printJson } from "../json.ts";
import { openRunner } from "../open.ts";
import { openEntry } from "../sources.ts";
import { print } from "../terminal.ts";
import { asCommandError } from "./train.ts";

export interface EvalOptions {
  readonly side: Side;
  readonly checkpoint: "best" | "latest" | number;
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
    const first: Predictions[] = [];
    for (const run of runs) first.push(await predictionsOf(run, options, json));
    const second: Predictions[] = [];
    for (const run of options.compare ?? []) second.push(await predictionsOf(run, options, json));
    return show(first, second, options);
  } catch (error) {
    throw asCommandError(error, json);
  }
}

/** What a run says of its clips: predicted now, or as it is stored. */
async function predictionsOf(folder: string, options: EvalOptions, json: boolean): Promise<Predictions> {
  const record = readRun(folder);
  if (options.stored === true) {
    const stored = readPredictions(join(folder, "predictions", `${options.side}.jsonl`));
    if ("error" in stored)
      throw new CommandError(EXIT.wrong, stored.error, ["leave `--stored` out to predict them now"]);
    return stored;
  }
  const entry = openEntry(join(folder, "sources", record.request.source));
  const request = { ...record.request, entry, folder: options.data ?? record.data.folder, seed: record.seed };
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
    const [done] = await evaluateSides(job, { path: folder, record }, [options.side], options.checkpoint, warn);
    if (done === undefined || done.predictions.length === 0)
      throw new CommandError(EXIT.wrong, `\`${folder}\` has no ${options.side} clips`, [
        "`--side test` evaluates the test clips",
      ]);
    return { header: done.header, clips: done.predictions };
  } finally {
    await pool.close();
  }
}

function warn(text: string): void {
  process.stderr.write(`${text}\n`);
}

function show(first: readonly Predictions[], second: readonly Predictions[], options: EvalOptions): ExitCode {
  const replicates = options.bootstrap;
  if (options.json === true) {
    printJson({ runs: first.map(({ header }) => header), compared: second.map(({ header }) => header) });
    return EXIT.ok;
  }
  const [a] = first;
  const [b] = second;
  if (a !== undefined && b !== undefined) {
    const table =
      first.length === 1 && second.length === 1 ? comparisonTable(a, b, { replicates }) : seedsTable(first, second);
    if ("error" in table) throw new CommandError(EXIT.wrong, table.error);
    for (const line of table) print(line);
    return EXIT.ok;
  }
  for (const { header, clips } of first) showScores({ header, predictions: clips }, { replicates });
  return EXIT.ok;
}
