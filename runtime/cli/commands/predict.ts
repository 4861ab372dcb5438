/**
 * `netc predict`: a model on the frames and the optical flow of a clip, from source or compiled, to a table of classes.
 */
import { join } from "node:path";
import { Listr, ListrLogger, ListrLogLevels, type LoggerFieldOptions } from "listr2";
import { bindModel, lowerModel } from "../../../compiler/compile.ts";
import type { Program } from "../../../compiler/program.ts";
import { type Clip, type ClipReport, loadClip } from "../../data/clip.ts";
import { EngineError, type Runner } from "../../engine/runner.ts";
import { chooseTarget, type DeviceName, type Target } from "../devices.ts";
import { CommandError, EXIT, type ExitCode } from "../exit.ts";
import { printJson } from "../json.ts";
import { elaborateEntry, report, sizesOf, stage } from "../model.ts";
import { engineFailure, openRunner } from "../open.ts";
import { openOracle } from "../oracle.ts";
import { programFolderOf, readProgramFolder } from "../program-folder.ts";
import { openEntry } from "../sources.ts";
import { grouped, paint, print, table } from "../terminal.ts";
import { isRunFolder, openTrained } from "../trained.ts";
import { compilerFor } from "../tune.ts";
import { openWeights, programWeights, type Weights } from "../weights.ts";

export interface PredictOptions {
  readonly device: DeviceName;
  readonly weights: readonly string[];
  readonly skip: readonly string[];
  readonly seed: number;
  readonly bind: readonly (readonly [string, number])[];
  readonly top: number;
  readonly tune?: number;
  readonly model?: string;
  readonly json?: boolean;
}

/** A program with its weights, and how to open it. */
interface Job {
  readonly program: Program;
  readonly weights: Weights;
  readonly open: () => Promise<Runner>;
  /** How many numbers the weights are, running statistics included. */
  readonly numbers: number;
}

function weightCount(program: Program): number {
  const counted = new Map<string, number>();
  for (const item of program.load) {
    if (item.kind === "upload")
      counted.set(
        item.upload.path,
        item.upload.shape.reduce((product, size) => product * size, 1),
      );
  }
  return [...counted.values()].reduce((sum, count) => sum + count, 0);
}

/** Compiles a source for the device; undefined after printing what is wrong with it. */
async function jobFromSource(file: string, options: PredictOptions): Promise<Job | undefined> {
  const reporting = { json: options.json === true };
  const entry = openEntry(file);
  const model = elaborateEntry(entry, { model: options.model, bind: new Map(), ...reporting });
  if (model === undefined) return undefined;
  const target = await chooseTarget(options.device);
  const sizes = sizesOf(model, options);
  const bound = stage(bindModel(model, sizes), reporting);
  if (bound === undefined) return undefined;
  const weights = await openWeights(bound, options.weights, options.skip, options.seed);
  if (report(weights.diagnostics, reporting)) return undefined;
  const say = (text: string): void => {
    if (!reporting.json) print(text);
  };
  const { compile } = compilerFor(target, options, { exact: false, say });
  const program = stage(await compile(model, { target: target.capability, sizes, seed: options.seed }), reporting);
  if (program === undefined) return undefined;
  const open = async (): Promise<Runner> => {
    if (target.device !== "interp") return openRunner(program, target);
    const lowered = lowerModel(bound, target.capability);
    if ("diagnostics" in lowered) throw new Error("internal: the model was lowered before");
    return openOracle(program, lowered.ok.loops);
  };
  return { program, weights, open, numbers: weightCount(program) };
}

/** Reads a compiled program and finds a device of its kind. */
async function jobFromFolder(folder: string, options: PredictOptions): Promise<Job> {
  if (options.tune !== undefined) {
    throw new CommandError(EXIT.usage, "a compiled program has its plans already", [
      "give `--tune` to `netc compile --target this-device`, or predict from the .net file",
    ]);
  }
  if (options.weights.length > 0) {
    throw new CommandError(EXIT.usage, "a compiled program brings its own weights", [
      "give `--weights` to `netc compile`, or predict from the .net file",
    ]);
  }
  if (options.device === "interp") {
    throw new CommandError(EXIT.usage, "`--device interp` takes a .net file: a compiled program has no loop nests", [
      "netc predict MODEL.net CLIP --device interp",
    ]);
  }
  if (options.bind.length > 0 || options.model !== undefined) {
    throw new CommandError(EXIT.usage, "a compiled program is one model with fixed sizes", [
      "give `--model` and `--bind` to `netc compile`",
    ]);
  }
  const program = await readProgramFolder(folder);
  const wanted: DeviceName = options.device === "auto" ? program.target.kind : options.device;
  if (wanted !== program.target.kind) {
    throw new CommandError(
      EXIT.usage,
      `\`${folder}\` was compiled for ${program.target.kind}, not for \`--device ${options.device}\``,
      [`compile it for this device: \`netc compile … --target ${wanted === "wasm" ? "wasm" : "webgpu-default"}\``],
    );
  }
  const target = await chooseTarget(wanted, ["compile it for the CPU: `netc compile … --target wasm`"]);
  if (target.device === "interp") throw new Error("internal: a compiled program names no device");
  const open = (): Promise<Runner> => openRunner(program, target satisfies Target);
  const file = program.weights === undefined ? undefined : join(folder, program.weights.file);
  return { program, weights: await programWeights(file, program.seed), open, numbers: weightCount(program) };
}

async function jobFrom(path: string, options: PredictOptions): Promise<Job | undefined> {
  const folder = programFolderOf(path);
  return folder === undefined ? jobFromSource(path, options) : jobFromFolder(folder, options);
}

/** The model that a run has trained, with the parameters of its best epoch and the preprocessing it was trained with. */
async function jobFromRun(folder: string, options: PredictOptions): Promise<Job | undefined> {
  if (options.weights.length > 0 || options.skip.length > 0 || options.bind.length > 0 || options.model !== undefined) {
    throw new CommandError(EXIT.usage, "a run brings its own model and weights", [
      "without `--weights`, `--skip`, `--model` and `--bind`",
    ]);
  }
  const trained = await openTrained(folder, options);
  return trained === undefined ? undefined : { ...trained, numbers: weightCount(trained.program) };
}

interface Prediction {
  readonly label: string;
  readonly probability: number;
  readonly logit: number;
}

/** Softmax of one row of logits, most probable first. */
function ranked(logits: Float32Array, classes: readonly string[] | undefined): readonly Prediction[] {
  const largest = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const weights = Array.from(logits, (logit) => Math.exp(logit - largest));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return Array.from(logits, (logit, index) => ({
    label: classes?.[index] ?? `class ${index}`,
    probability: (weights[index] ?? 0) / total,
    logit,
  })).sort((a, b) => b.probability - a.probability);
}

const seconds = (milliseconds: number): string =>
  milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;

interface Context {
  clip?: Clip;
  runner?: Runner;
  logits?: Float32Array;
  runTime?: number;
}

function need<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("internal: a task ran before the one it waits for");
  return value;
}

/** Shows how far a task is, in a terminal only: in a log every update would be a line. */
function progress(task: { output: string }, text: string): void {
  if (process.stdout.isTTY) task.output = text;
}

/** Plain lines for a log. A failed task says only that it failed: main.ts prints why, with its help. */
class TaskLog extends ListrLogger<ListrLogLevels> {
  override log(level: ListrLogLevels, message: string | unknown[], options?: LoggerFieldOptions): void {
    super.log(level, message, level === ListrLogLevels.FAILED ? {} : options);
  }
}

/** The work as a list of tasks: a live list in a terminal, plain lines elsewhere, nothing with `--json`. */
function tasks(job: Job, clipPath: string, quiet: boolean): Listr<Context> {
  const list = new Listr<Context>(
    [
      {
        title: `read ${clipPath}`,
        task: async (context, task) => {
          const title = task.title;
          const clip = await loadClip(clipPath, job.program.inputs, (part, done, total) => {
            progress(task, `${part === "frames" ? "frames" : "optical flow"} ${done} of ${total}`);
          });
          if (clip.kind !== "clip") {
            const at = clip.kind === "input" ? job.program.name : clip.path;
            throw new CommandError(EXIT.wrong, `\`${at}\`: ${clip.message}`, [clip.help]);
          }
          context.clip = clip;
          task.title = `${title}: ${describeClip(clip.report)}`;
        },
      },
      {
        title: `load ${grouped(job.numbers)} weights`,
        task: async (context, task) => {
          const started = performance.now();
          const runner = await job.open();
          context.runner = runner;
          await runner.load(job.weights.source, (done, total) => {
            progress(task, `${done} of ${total}`);
          });
          task.title = `${task.title} onto ${runner.device}: ${seconds(performance.now() - started)}`;
        },
      },
      {
        title: `run ${grouped(job.program.run.length)} kernels`,
        task: async (context, task) => {
          const runner = need(context.runner);
          for (const [name, data] of need(context.clip).tensors) runner.write(name, data);
          const started = performance.now();
          await runner.run();
          context.runTime = performance.now() - started;
          const [output] = job.program.outputs;
          if (output === undefined) throw new CommandError(EXIT.wrong, "this model has no output");
          context.logits = await runner.read(output.name);
          const gmac = job.program.run.reduce((sum, step) => sum + step.macs, 0) / 1e9;
          task.title = `${task.title}: ${gmac.toFixed(3)} GMAC in ${seconds(context.runTime)}`;
        },
      },
    ],
    {
      silentRendererCondition: quiet,
      fallbackRenderer: "simple",
      // The error is printed once, with its help, by main.ts.
      rendererOptions: { showErrorMessage: false },
      fallbackRendererOptions: { logger: new TaskLog({ useIcons: true, toStderr: [ListrLogLevels.FAILED] }) },
    },
  );
  return list;
}

function describeClip({ frames, size, decoder, flow, flowSeconds }: ClipReport): string {
  const motion =
    flow === "tvl1" ? `, TV-L1 flow in ${flowSeconds.toFixed(1)} s` : flow === "images" ? ", flow from images" : "";
  return `${frames} frames of ${size.join("×")} by ${decoder}${motion}`;
}

const BAR = 24;

/** Runs a model on a clip. */
export async function predict(modelPath: string, clipPath: string, options: PredictOptions): Promise<ExitCode> {
  const job = isRunFolder(modelPath) ? await jobFromRun(modelPath, options) : await jobFrom(modelPath, options);
  if (job === undefined) return EXIT.wrong;
  const context: Context = {};
  try {
    await tasks(job, clipPath, options.json === true).run(context);
  } catch (error) {
    throw error instanceof EngineError ? engineFailure(error) : error;
  } finally {
    context.runner?.dispose();
  }
  const { report: clip } = need(context.clip);
  const predictions = ranked(need(context.logits), job.program.outputs[0]?.classes);
  const trained = job.weights.loaded.size > 0;
  if (options.json === true) {
    printJson({
      model: job.program.name,
      device: context.runner?.device,
      trained,
      milliseconds: context.runTime,
      clip,
      predictions,
    });
    return EXIT.ok;
  }
  for (const warning of clip.warnings) print(`${paint("yellow", "warning", process.stdout)}: ${warning}`);
  const shown = predictions.slice(0, options.top);
  const rows = shown.map(({ label, probability, logit }) => [
    label,
    `${(probability * 100).toFixed(1)} %`,
    "█".repeat(Math.round(probability * BAR)).padEnd(BAR, "·"),
    logit.toFixed(4),
  ]);
  print();
  print(table(["class", "probability", "", "logit"], rows, new Set([1, 3])));
  if (shown.length < predictions.length)
    print(`… ${predictions.length - shown.length} more classes (--top ${predictions.length})`);
  if (!trained) {
    print();
    print(
      `${paint("yellow", "untrained", process.stdout)}: no weights were given, every parameter has its random start (seed ${job.program.seed}).`,
    );
    print("These probabilities mean nothing. `--weights FILE.safetensors` loads trained ones.");
  }
  return EXIT.ok;
}
