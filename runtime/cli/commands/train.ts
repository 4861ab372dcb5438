/**
 * `netc train`: a recipe followed on a data set, from a source or from where a run was left, to a run folder with
 * checkpoints, metrics, predictions and a report.
 */
import { join } from "node:path";
import type { Model } from "../../../compiler/model.ts";
import { ClipError, openPool } from "../../data/loader/pool.ts";
import { deviceName } from "../../engine/devices.ts";
import { EngineError } from "../../engine/runner.ts";
import { REPLICATES } from "../../metrics/intervals.ts";
import { compareLayouts, deviceChange, refuseChanges, whatChanged } from "../../train/changes.ts";
import { type LoadedCheckpoint, listCheckpoints, loadCheckpoint, type RunFacts } from "../../train/checkpoint.ts";
import { type Experiment, recordOf, withoutFolder } from "../../train/experiment.ts";
import { RunError } from "../../train/fault.ts";
import { onInterrupt, parseDuration } from "../../train/interruption.ts";
import { openProgress, type Progress } from "../../train/progress.ts";
import type { RunRecord } from "../../train/records.ts";
import { createRun, findManifest, openRun, type RunFolder } from "../../train/run-folder.ts";
import { neverMoves } from "../../train/schedule.ts";
import { openEventFile } from "../../train/tensorboard.ts";
import { type TrainingJob, type TrainingResult, train } from "../../train/train.ts";
import { SourceError, type Values } from "../../train/trainer.ts";
import { tryAttendRun } from "../attention.ts";
import { chooseTarget, type DeviceName, type Target } from "../devices.ts";
import { evaluateRun, scoresValue, showScores } from "../evaluation.ts";
import { CommandError, EXIT, type ExitCode } from "../exit.ts";
import { type ExperimentRequest, openExperiment } from "../experiment.ts";
import { printJson } from "../json.ts";
import { report } from "../model.ts";
import { engineFailure, openRunner } from "../open.ts";
import { openEntry } from "../sources.ts";
import { count, grouped, print } from "../terminal.ts";
import { compilerFor } from "../tune.ts";
import { openWeights } from "../weights.ts";
import { writeReport } from "./report.ts";

export interface TrainOptions {
  readonly data?: string;
  readonly run?: string;
  readonly resume?: string;
  readonly allowChanges?: boolean;
  readonly recipe?: string;
  readonly model?: string;
  readonly set: readonly (readonly [string, number | string | boolean])[];
  readonly bind: readonly (readonly [string, number])[];
  readonly fold?: number | string;
  readonly seed?: number;
  readonly device: DeviceName;
  readonly weights: readonly string[];
  readonly skip: readonly string[];
  readonly maxTime?: string;
  readonly saveEvery?: number;
  readonly workers?: number;
  readonly tune?: number;
  readonly test: boolean;
  readonly json?: boolean;
  readonly version: string;
}

/** What was asked for, from the command line and, where a run is resumed, from its record. */
function requestOf(file: string | undefined, options: TrainOptions, record: RunRecord | undefined): ExperimentRequest {
  const path =
    file ?? (options.resume === undefined ? undefined : join(options.resume, "sources", record?.request.source ?? ""));
  if (path === undefined)
    throw new CommandError(EXIT.usage, "there is nothing to train: no .net file was given", [
      "netc train MODEL.net --data FOLDER",
      "netc train --resume runs/RUN",
    ]);
  const before = record?.request;
  return {
    entry: openEntry(path),
    model: options.model ?? before?.model,
    recipe: options.recipe ?? before?.recipe,
    arguments: { ...before?.arguments, ...Object.fromEntries(options.set) },
    bind: { ...before?.bind, ...Object.fromEntries(options.bind) },
    fold: options.fold ?? before?.fold ?? 1,
    folder: options.data ?? record?.data.folder,
    seed: options.seed ?? record?.seed,
    moved: options.data === undefined && record !== undefined,
  };
}

function factsOf(experiment: Experiment, target: Target): RunFacts {
  return {
    model: experiment.model.name,
    graphHash: experiment.graphHash,
    recipe: withoutFolder(experiment.recipe),
    recipeHash: experiment.recipeHash,
    manifestHash: experiment.manifestHash,
    seed: experiment.seed,
    device: target.device === "wasm" ? "wasm" : target.capability.name,
    threads: target.device === "wasm" ? target.capability.threads : undefined,
  };
}

/** Refuses to go on with what has changed since, unless that is wanted. */
function checkChanges(
  run: RunFolder,
  checkpoint: LoadedCheckpoint,
  experiment: Experiment,
  facts: RunFacts,
  allow: boolean,
): readonly string[] {
  const saved = { ...checkpoint.record.facts, manifest: findManifest(run.path, checkpoint.record.facts.manifestHash) };
  const parameters = experiment.model.parameters.map(({ path, node }) => ({
    name: path,
    shape: node.shape.map(Number),
  }));
  const stored = [...checkpoint.tensors].flatMap(([name, { shape }]) => (name.includes("/") ? [] : [{ name, shape }]));
  const changes = [
    ...whatChanged(saved, { ...facts, manifest: experiment.manifest }),
    ...compareLayouts(stored, parameters),
  ];
  const misfits = parameters.filter(({ name, shape }) => {
    const before = checkpoint.tensors.get(name)?.shape;
    return before !== undefined && String(before) !== String(shape);
  });
  if (misfits.length > 0) {
    const layers = new Set(misfits.map(({ name }) => name.slice(0, Math.max(0, name.lastIndexOf(".")))));
    refuseChanges(run.path, changes, [
      "a run cannot go on with parameters of other shapes: undo the change, or start a run of its own from what fits:",
      `\`--weights ${join(checkpoint.folder, "state.safetensors")} --skip ${[...layers].join(",")}\``,
    ]);
  }
  if (!allow)
    refuseChanges(run.path, changes, [
      "undo the change, or start a run of its own: leave `--resume` out",
      "`--allow-changes` goes on from the checkpoint all the same",
    ]);
  return changes;
}

/** True for a run that was killed in the moment between the making of its folder and its first checkpoint. */
async function isBeforeFirstCheckpoint({ path, record }: RunFolder): Promise<boolean> {
  const { checkpoints, skipped } = await listCheckpoints(path);
  if (checkpoints.length > 0 || skipped.length > 0) return false;
  if (!record.command.some((word) => word.startsWith("--weights"))) return true;
  throw new CommandError(
    EXIT.wrong,
    `\`${path}\` was ended before it had read the weights it was to start from: it has no checkpoint`,
    ["nothing is lost: remove the folder, and give the first command again"],
  );
}

/** Parameters where a run starts. */
async function startOf(model: Model, options: TrainOptions, seed: number, json: boolean): Promise<Values | undefined> {
  const weights = await openWeights(model, options.weights, options.skip, seed);
  if (report(weights.diagnostics, { json })) return undefined;
  const parameters = new Map(model.parameters.map((parameter) => [parameter.path, parameter]));
  return async (path) => {
    const parameter = parameters.get(path);
    if (parameter === undefined) return undefined;
    const shape = parameter.node.shape.map(Number);
    const values = new Float32Array(shape.reduce((product, size) => product * size, 1));
    const { init, node } = parameter;
    await weights.source(
      { path, shape, dtype: node.dtype, init, rows: undefined, order: undefined, allocation: 0 },
      values,
    );
    return values;
  };
}

function openDisplay(experiment: Experiment, checkpoint: LoadedCheckpoint | undefined, quiet: boolean): Progress {
  const { recipe, sides } = experiment;
  const batches = Math.floor(sides.train.length / recipe.data.batch);
  const stages = recipe.stages.map(({ name, epochs, accumulate, keep }) => ({
    name,
    epochs,
    steps: Math.max(1, Math.floor(batches / accumulate)),
    samples: recipe.data.batch * accumulate,
    metric: sides.validation.length > 0 ? keep.metric.kind : undefined,
  }));
  const nowhere = { write: () => true };
  return openProgress(quiet ? nowhere : process.stdout, {
    stages,
    batch: checkpoint?.record.batch,
    best: checkpoint?.record.best?.score,
  });
}

/** Trains, evaluates and reports. */
export async function trainCommand(file: string | undefined, options: TrainOptions): Promise<ExitCode> {
  const json = options.json === true;
  const limit = options.maxTime === undefined ? undefined : parseDuration(options.maxTime);
  if (typeof limit === "object") throw new CommandError(EXIT.usage, limit.error);
  checkOptions(options);
  try {
    return await trainRun(file, options, limit, json);
  } catch (error) {
    throw asCommandError(error, json);
  }
}

/** A stage whose learning rate is always 0 computes for nothing: `--set epochs=1` makes one of the usual schedule. */
function checkRates({ recipe }: Experiment): void {
  for (const { name, schedule, epochs } of recipe.stages) {
    if (!neverMoves(schedule, epochs)) continue;
    const whose = name === "" ? "the training" : `the stage \`${name}\``;
    throw new CommandError(
      EXIT.wrong,
      `the learning rate is 0 for all of ${whose}: its warm-up takes ${count(schedule.warmup, "epoch")} of ${epochs}, and ends where the schedule is at 0`,
      ["more epochs, or a shorter `Warmup`, or `schedule = Constant`"],
    );
  }
}

/** Options that contradict each other. */
function checkOptions({ resume, run, weights, skip, allowChanges }: TrainOptions): void {
  if (resume === undefined) {
    if (allowChanges === true)
      throw new CommandError(EXIT.usage, "`--allow-changes` is about a run that goes on: `--resume RUN`");
    return;
  }
  if (run !== undefined)
    throw new CommandError(
      EXIT.usage,
      "a run that goes on stays in its folder: `--run` and `--resume` exclude each other",
    );
  if (weights.length > 0 || skip.length > 0)
    throw new CommandError(EXIT.usage, "a run that goes on has its weights from its checkpoint, not from `--weights`", [
      "leave `--weights` and `--skip` out, or start a run of its own without `--resume`",
    ]);
}

/** What training throws, as commands end. */
export function asCommandError(error: unknown, json: boolean): unknown {
  if (error instanceof RunError)
    return new CommandError(error.kind === "machine" ? EXIT.machine : EXIT.wrong, error.message, error.help);
  if (error instanceof EngineError) return engineFailure(error);
  if (error instanceof ClipError)
    return new CommandError(
      EXIT.wrong,
      `a clip has changed meanwhile: ${error.message}`,
      error.problem.help === "" ? [] : [error.problem.help],
    );
  if (error instanceof SourceError) {
    report(error.diagnostics, { json });
    return new CommandError(EXIT.wrong, "the model cannot be trained as it is");
  }
  return error;
}

async function trainRun(
  file: string | undefined,
  options: TrainOptions,
  maxSeconds: number | undefined,
  json: boolean,
): Promise<ExitCode> {
  const resumed = options.resume === undefined ? undefined : await openRun(options.resume);
  let run = resumed;
  let checkpoint: LoadedCheckpoint | undefined;
  try {
    const request = requestOf(file, options, resumed?.record);
    const experiment = openExperiment(request, json);
    if (experiment === undefined) return EXIT.wrong;
    const target = await chooseTarget(options.device);
    if (target.device === "interp")
      throw new CommandError(EXIT.usage, "`--device interp` is for looking closely, not for training", [
        "`--device wasm` trains on the CPU",
      ]);
    checkRates(experiment);
    const facts = factsOf(experiment, target);
    const start = await startOf(experiment.model, options, experiment.seed, json);
    if (start === undefined) return EXIT.wrong;
    const ownRecord = recordOf(experiment, request, {
      netc: options.version,
      device: deviceName(target),
      command: process.argv.slice(2),
    });
    const notes: string[] = [...experiment.sides.notes];
    if (resumed !== undefined && (await isBeforeFirstCheckpoint(resumed))) {
      resumed.cut({ step: 0, metricsBytes: 0 });
      notes.push("it was ended before its first checkpoint, and begins anew");
    } else if (resumed !== undefined) {
      checkpoint = await loadCheckpoint(resumed.path);
      for (const { folder, reason } of checkpoint.skipped) notes.push(`passed over \`${folder}\`: ${reason}`);
      const changes = checkChanges(resumed, checkpoint, experiment, facts, options.allowChanges === true);
      notes.push(...changes.map((change) => `changed: ${change}`));
      const device = deviceChange(checkpoint.record.facts, facts);
      if (device !== undefined) notes.push(device);
      const { record } = checkpoint;
      const cut = resumed.cut({ step: record.step, metricsBytes: record.metricsBytes });
      notes.push(
        `resumed after update ${grouped(record.step)}${cut > 0 ? `; ${cut} lines of metrics are made again` : ""}`,
      );
      if (experiment.manifestHash !== record.facts.manifestHash) resumed.keepManifest(experiment.manifestText);
      if (changes.length > 0) resumed.amend(ownRecord, experiment.sources);
      for (const text of [...changes.map((change) => `changed: ${change}`), ...(device === undefined ? [] : [device])])
        resumed.append({ kind: "note", step: record.step, text });
    }
    run ??= await createRun({
      folder: options.run,
      record: ownRecord,
      sources: experiment.sources,
      manifest: experiment.manifestText,
    });
    if (!json) print(headline(experiment, run, deviceName(target)));
    return await follow({ options, experiment, run, checkpoint, facts, start, target, notes, maxSeconds, json });
  } finally {
    await checkpoint?.close();
    run?.close();
  }
}

function headline({ model, sides, folder, manifest }: Experiment, run: RunFolder, device: string): string {
  const sizes = `${sides.train.length} to train, ${sides.validation.length} to validate, ${sides.test.length} to test`;
  return [
    `${model.name} on ${device}`,
    `${folder}: ${sizes} (${sides.fold})${manifest.note === "" ? "" : `\n${manifest.note}`}`,
    `run folder: ${run.path}`,
  ].join("\n");
}

interface Following {
  readonly options: TrainOptions;
  readonly experiment: Experiment;
  readonly run: RunFolder;
  readonly checkpoint: LoadedCheckpoint | undefined;
  readonly facts: RunFacts;
  readonly start: Values;
  readonly target: Exclude<Target, { device: "interp" }>;
  readonly notes: readonly string[];
  readonly maxSeconds: number | undefined;
  readonly json: boolean;
}

async function follow(all: Following): Promise<ExitCode> {
  const { options, experiment, run, checkpoint, facts, start, target, notes, maxSeconds, json } = all;
  const { model, recipe, seed, sides, folder } = experiment;
  const progress = openDisplay(experiment, checkpoint, json);
  const interruption = onInterrupt({
    maxSeconds,
    heard: () => progress.note("stopping as soon as everything is saved (once more to leave at once)"),
  });
  const events = openEventFile(run.path, {
    purgeStep: checkpoint === undefined ? undefined : checkpoint.record.step + 1,
  });
  const pool = await openPool({
    ...(options.workers === undefined ? {} : { threads: options.workers }),
    onWarning: (message) => progress.note(message),
  });
  const job: TrainingJob = {
    model,
    recipe,
    target: target.capability,
    open: (program) => openRunner(program, target),
    // The same numbers bit for bit: a run is repeated and resumed with other plans or none.
    compiler: compilerFor(target, options, { exact: true, say: (text) => progress.note(text) }),
    seed,
    start,
    sides,
    folder,
    pool,
    run,
    facts,
    checkpoint,
    progress,
    events,
    interruption,
    saveEvery: options.saveEvery,
    onPrepared: tellPreparation((text) => progress.note(text)),
  };
  let shown = true;
  try {
    for (const note of notes) progress.note(note);
    const result = await trainResumably(job);
    progress.end(ending(result, run));
    shown = false;
    if (result.ended !== "finished") {
      if (json) printJson({ run: run.path, ...result });
      return EXIT.ok;
    }
    // Nothing is left to be saved: from here on a signal ends the command at once.
    interruption.close();
    const scores = options.test ? await evaluateRun(job, run) : [];
    await tryAttendRun(job, run, scores, (text) => progress.note(text));
    const { page } = writeReport(run.path, { bootstrap: REPLICATES, seed: 0 });
    const { metrics } = recipe;
    if (json) {
      const sides = scores.map(({ header, predictions: clips }) => scoresValue({ header, clips }, metrics, REPLICATES));
      printJson({ run: run.path, ...result, scores: sides, report: page });
    } else {
      for (const score of scores) {
        print();
        showScores(score, { metrics });
      }
      print();
      print(`report: ${page}`);
    }
    return EXIT.ok;
  } finally {
    // A line that stands in a terminal is not to be mixed with what is said of the error.
    if (shown && process.stdout.isTTY && !json) progress.end("");
    interruption.close();
    events.close();
    await pool.close();
  }
}

/** Trains; an error that is none of the recipe's says how to go on once its cause is gone. */
async function trainResumably(job: TrainingJob): Promise<TrainingResult> {
  try {
    return await train(job);
  } catch (error) {
    const known = error instanceof ClipError || error instanceof EngineError ? asCommandError(error, false) : error;
    if (!(known instanceof CommandError)) throw error;
    const help = `what was trained before is saved: \`netc train --resume ${job.run.path}\` goes on from there`;
    throw new CommandError(known.exit, known.message, [...known.help, help]);
  }
}

/** Says every now and then how far decoding has come: of a large set it takes hours, once. */
function tellPreparation(note: (text: string) => void): NonNullable<TrainingJob["onPrepared"]> {
  let told = performance.now();
  return (side, done, total) => {
    if (done === total || performance.now() - told < 5000) return;
    told = performance.now();
    note(`decoding the ${side} clips and computing their flow: ${grouped(done)} of ${grouped(total)}`);
  };
}

function ending({ ended, step }: TrainingResult, run: RunFolder): string {
  if (ended === "finished") return `trained: ${grouped(step)} updates`;
  const why = ended === "max-time" ? "the time is over" : "stopped";
  return `${why} after update ${grouped(step)}, everything is saved; \`netc train --resume ${run.path}\` goes on`;
}
