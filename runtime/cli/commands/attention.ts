/**
 * `netc attention`: where the streams of a network look at each other, on clips of a run or on any clips, as a page.
 */
import { existsSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { bindModel } from "../../../compiler/compile.ts";
import { elaborate } from "../../../compiler/elaborate/elaborate.ts";
import { attentionForm } from "../../../compiler/graph/attention.ts";
import { graphHash } from "../../../compiler/graph/hash.ts";
import type { Model } from "../../../compiler/model.ts";
import type { Program } from "../../../compiler/program.ts";
import { openPool } from "../../data/loader/pool.ts";
import { REPLICATES } from "../../metrics/intervals.ts";
import { renderAttention } from "../../report/attention/page.ts";
import { type AttentionRecord, encodeAttention } from "../../report/attention/record.ts";
import { loadCheckpoint } from "../../train/checkpoint.ts";
import type { EvaluationJob } from "../../train/evaluate.ts";
import { readPredictions } from "../../train/predictions.ts";
import type { RunRecord } from "../../train/records.ts";
import { readRun } from "../../train/run-folder.ts";
import type { Values } from "../../train/trainer.ts";
import { attend, attendRun, attentionJob, type ClipToShow, checkpointValues } from "../attention.ts";
import { chooseTarget, type DeviceName, type Target } from "../devices.ts";
import type { EvaluatedRun } from "../evaluation.ts";
import { CommandError, EXIT, type ExitCode } from "../exit.ts";
import { openExperiment } from "../experiment.ts";
import { printJson } from "../json.ts";
import { elaborateEntry, report, sizesOf, stage } from "../model.ts";
import { openRunner } from "../open.ts";
import { writeOwnFolder } from "../own-folder.ts";
import { openEntry } from "../sources.ts";
import { count, paint, print, table } from "../terminal.ts";
import { openWeights } from "../weights.ts";
import { writeReport } from "./report.ts";
import { asCommandError } from "./train.ts";

export interface AttentionOptions {
  readonly output?: string;
  readonly data?: string;
  readonly device: DeviceName;
  readonly side: "test" | "validation";
  readonly weights: readonly string[];
  readonly skip: readonly string[];
  readonly seed: number;
  readonly bind: readonly (readonly [string, number])[];
  readonly model?: string;
  readonly json?: boolean;
}

const FILE = "attention.json";
const PAGE = "attention.html";
const FOLDER = { marker: FILE, argument: "-o" } as const;

type DeviceTarget = Exclude<Target, { device: "interp" }>;

/** Looks at clips, and writes what is seen. */
export async function attentionCommand(
  subject: string,
  clips: readonly string[],
  options: AttentionOptions,
): Promise<ExitCode> {
  const json = options.json === true;
  const isRun = existsSync(subject) && statSync(subject).isDirectory();
  if (!isRun && clips.length === 0)
    throw new CommandError(EXIT.usage, "there is nothing to look at: no clip was given", [
      `netc attention ${subject} CLIP…`,
      "the folder of a run brings its own test clips: `netc attention runs/RUN`",
    ]);
  try {
    const target = await chooseTarget(options.device);
    if (target.device === "interp")
      throw new CommandError(EXIT.usage, "`--device interp` does not show attention", [
        "`--device wasm` runs on the CPU",
      ]);
    if (isRun && clips.length === 0 && options.output === undefined) return await ofRun(subject, target, options);
    const record = isRun
      ? await ofRunClips(subject, clips, target, options)
      : await ofModel(subject, clips, target, options);
    if (record === undefined) return EXIT.wrong;
    const folder = options.output ?? "attention";
    await writeOwnFolder(folder, FOLDER, async (into) => {
      writeFileSync(join(into, FILE), encodeAttention(record));
      writeFileSync(join(into, PAGE), renderAttention(record));
      return [FILE, PAGE];
    });
    tell(record, join(folder, PAGE), join(folder, FILE), json);
    return EXIT.ok;
  } catch (error) {
    throw asCommandError(error, json);
  }
}

function warn(text: string): void {
  process.stderr.write(`${text}\n`);
}

function nothing(model: Model | { readonly name: string }): CommandError {
  return new CommandError(EXIT.wrong, `\`${model.name}\` has no attention to show`, [
    "graft a unit that attends: `with STIA at conv3` between streams, `with NonLocal at conv3` within one",
  ]);
}

// ---------------------------------------------------------------------------------------------------------------- runs

/** A run with its data and sources, ready to be evaluated. */
async function withRun<T>(
  folder: string,
  target: DeviceTarget,
  options: { readonly data?: string | undefined; readonly json?: boolean | undefined },
  work: (job: EvaluationJob, run: EvaluatedRun) => Promise<T>,
): Promise<T> {
  const record = readRun(folder);
  const entry = openEntry(join(folder, "sources", record.request.source));
  const request = { ...record.request, entry, folder: options.data ?? record.data.folder, seed: record.seed };
  const experiment = openExperiment(request, options.json === true);
  if (experiment === undefined) throw new CommandError(EXIT.wrong, `the sources in \`${folder}\` do not compile`);
  if (experiment.graphHash !== record.model.graphHash)
    throw new CommandError(EXIT.wrong, `the sources in \`${folder}\` make another model than the run's`, [
      "undo the change in its `sources` folder",
    ]);
  if (experiment.manifestHash !== record.data.manifestHash)
    throw new CommandError(EXIT.wrong, `\`${experiment.folder}\` is not the data set of \`${folder}\``, [
      "`--data FOLDER` names the set that the run was trained on",
    ]);
  const pool = await openPool({ onWarning: warn });
  try {
    const open = (program: Program): ReturnType<typeof openRunner> => openRunner(program, target);
    return await work({ ...experiment, target: target.capability, open, pool }, { path: folder, record });
  } finally {
    await pool.close();
  }
}

/** The run's own clips, into the run's own folder and page. */
async function ofRun(folder: string, target: DeviceTarget, options: AttentionOptions): Promise<ExitCode> {
  const predictions = readPredictions(join(folder, "predictions", `${options.side}.jsonl`));
  if ("error" in predictions)
    throw new CommandError(EXIT.wrong, predictions.error, [
      `\`netc eval ${folder} --side ${options.side}\` makes them; or name the clips to look at`,
    ]);
  return withRun(folder, target, options, async (job, run) => {
    const record = await attendRun(job, run, predictions, warn);
    if (record === undefined) throw nothing(job.model);
    const { page } = writeReport(folder, { bootstrap: REPLICATES, seed: 0 });
    tell(record, `${page}#attention`, join(folder, "attention", FILE), options.json === true);
    return EXIT.ok;
  });
}

/** Any clips with the parameters of a run. */
async function ofRunClips(
  folder: string,
  clips: readonly string[],
  target: DeviceTarget,
  options: AttentionOptions,
): Promise<AttentionRecord> {
  if (clips.length === 0)
    throw new CommandError(EXIT.usage, "`-o` is for clips that you name: those of a run stay in its folder");
  return withRun(folder, target, options, async (job, run) => {
    const checkpoint = await loadCheckpoint(folder, job.sides.validation.length > 0 ? "best" : "latest");
    try {
      const record = await attend(
        attentionJob(job),
        checkpointValues(checkpoint),
        named(clips),
        {
          graphHash: run.record.model.graphHash,
          step: checkpoint.record.step,
          trained: true,
          note: "",
          classes: job.sides.classes,
          choice: "The window in the middle of each clip.",
        },
        warn,
      );
      return shown(record, job.model);
    } finally {
      await checkpoint.close();
    }
  });
}

function named(clips: readonly string[]): readonly ClipToShow[] {
  return clips.map((file) => ({ path: basename(file), file }));
}

function shown(record: AttentionRecord | undefined, model: Model): AttentionRecord {
  if (record === undefined) throw nothing(model);
  if (record.clips.length === 0) throw new CommandError(EXIT.wrong, "none of the clips can be read");
  return record;
}

/**
 * Looks at a run before its report is written, if that was not done yet for its predictions; what goes wrong is told to
 * `note`. A folder without sources, or a model without attention, is left alone.
 */
export async function attendIfMissing(
  folder: string,
  found: {
    readonly step: number | undefined;
    readonly side: "test" | "validation";
    readonly shown: number | undefined;
  },
  note: (text: string) => void,
): Promise<boolean> {
  if (found.step === undefined || found.step === found.shown || !existsSync(join(folder, "sources"))) return false;
  try {
    if (!attends(readRun(folder), folder)) return false;
    const predictions = readPredictions(join(folder, "predictions", `${found.side}.jsonl`));
    const target = await chooseTarget("auto");
    if ("error" in predictions || target.device === "interp") return false;
    return await withRun(
      folder,
      target,
      {},
      async (job, run) => (await attendRun(job, run, predictions, note)) !== undefined,
    );
  } catch (error) {
    note(
      `attention is not shown: ${error instanceof Error ? error.message : String(error)}\n  \`netc attention ${folder} --data FOLDER\` shows it where the clips have moved`,
    );
    return false;
  }
}

/** Whether the model of a run attends anywhere, by its sources alone. */
function attends({ request, model: { name } }: RunRecord, folder: string): boolean {
  const { source, resolve } = openEntry(join(folder, "sources", request.source));
  const bind = new Map(Object.entries(request.bind));
  const { model } = elaborate(source, resolve, { bind, model: name });
  const bound = model === undefined ? undefined : bindModel(model, new Map([["N", 1], ...bind]));
  return bound !== undefined && "ok" in bound && attentionForm(bound.ok).maps.length > 0;
}

// -------------------------------------------------------------------------------------------------------------- models

/** Any clips with a model from a source. */
async function ofModel(
  file: string,
  clips: readonly string[],
  target: DeviceTarget,
  options: AttentionOptions,
): Promise<AttentionRecord | undefined> {
  const reporting = { json: options.json === true };
  const model = elaborateEntry(openEntry(file), { model: options.model, bind: new Map(), ...reporting });
  if (model === undefined) return undefined;
  const bound = stage(bindModel(model, sizesOf(model, options)), reporting);
  if (bound === undefined) return undefined;
  if (attentionForm(bound).maps.length === 0) throw nothing(model);
  const weights = await openWeights(bound, options.weights, options.skip, options.seed);
  if (report(weights.diagnostics, reporting)) return undefined;
  const parameters = new Map(bound.parameters.map((parameter) => [parameter.path, parameter]));
  const values: Values = async (path) => {
    const parameter = parameters.get(path);
    if (parameter === undefined) return undefined;
    const shape = parameter.node.shape.map(Number);
    const into = new Float32Array(shape.reduce((product, size) => product * size, 1));
    const { init, node } = parameter;
    await weights.source(
      { path, shape, dtype: node.dtype, init, rows: undefined, order: undefined, allocation: 0 },
      into,
    );
    return into;
  };
  const outputs = Number(bound.graph.outputs[0]?.node.shape.at(-1) ?? 0);
  const record = await attend(
    {
      model: bound,
      target: target.capability,
      open: (program) => openRunner(program, target),
      seed: options.seed,
      data: undefined,
      output: "softmax",
    },
    values,
    named(clips),
    {
      graphHash: graphHash(model.graph),
      step: undefined,
      trained: weights.loaded.size > 0,
      note: "",
      classes: bound.classes ?? Array.from({ length: outputs }, (_, c) => `class ${c}`),
      choice: "The window in the middle of each clip.",
    },
    warn,
  );
  return shown(record, bound);
}

// -------------------------------------------------------------------------------------------------------------- telling

function tell(record: AttentionRecord, page: string, file: string, json: boolean): void {
  const edges = record.edges.map(({ name, queries, keys, gate }) => ({ name, from: queries, at: keys, gate }));
  if (json) {
    printJson({ page, file, trained: record.trained, edges, clips: record.clips.map(({ path }) => path) });
    return;
  }
  const size = ([height = 0, width = 0]: readonly number[]): string => `${height}×${width}`;
  print(
    table(
      ["edge", "places", "look at", "gate, mean |γ|"],
      edges.map(({ name, from, at, gate }) => [name, size(from.size), size(at.size), gate?.toPrecision(3) ?? "–"]),
    ),
  );
  print();
  print(`${paint("green", "✓", process.stdout)} ${count(record.clips.length, "clip")}: \`${page}\``);
}
