/**
 * `netc compile`: from a source to a folder with a program (specs/program.md).
 */
import { bindModel, compile, type Staged } from "../../../compiler/compile.ts";
import type { Model } from "../../../compiler/model.ts";
import type { Program, Upload } from "../../../compiler/program.ts";
import { chooseTarget, targetRecord } from "../devices.ts";
import { CommandError, EXIT, type ExitCode } from "../exit.ts";
import { printJson } from "../json.ts";
import { elaborateEntry, report, sizesOf, stage } from "../model.ts";
import { checkDestination } from "../own-folder.ts";
import { type ExtraFile, PROGRAM_FOLDER, writeProgramFolder } from "../program-folder.ts";
import { openEntry } from "../sources.ts";
import { bytes, grouped, paint, print } from "../terminal.ts";
import { compilerFor } from "../tune.ts";
import { openWeights, type Weights, writeWeights } from "../weights.ts";

export interface CompileCommandOptions {
  readonly output: string;
  readonly target: "webgpu-default" | "this-device" | "wasm";
  readonly batch: number;
  readonly bind: readonly (readonly [string, number])[];
  readonly seed: number;
  readonly tune?: number;
  readonly weights: readonly string[];
  readonly skip: readonly string[];
  readonly model?: string;
  readonly json?: boolean;
  readonly materialize?: boolean;
  readonly emit?: "ts";
}

const WEIGHTS_FILE = "weights.safetensors";

/** Every parameter once, whole, in the order of loading. */
function parametersOf(program: Program): readonly Upload[] {
  const seen = new Map<string, Upload>();
  for (const item of program.load) {
    if (item.kind === "upload" && !seen.has(item.upload.path))
      seen.set(item.upload.path, { ...item.upload, rows: undefined });
  }
  return [...seen.values()];
}

/** Writes the weights first, since the manifest records their length. */
async function extraFiles(
  program: Program,
  model: Model,
  weights: Weights,
  options: CompileCommandOptions,
): Promise<readonly ExtraFile[]> {
  const extras: ExtraFile[] = [];
  if (options.weights.length > 0 || options.materialize === true) {
    const uploads = parametersOf(program).filter(
      ({ path }) => options.materialize === true || weights.loaded.has(path),
    );
    extras.push({
      name: WEIGHTS_FILE,
      contents: async (path) => {
        await writeWeights(path, uploads, weights.source);
      },
    });
  }
  if (options.emit === "ts") {
    // ts-morph takes most of a second to load, and few calls need it.
    const { emitTypeScript } = await import("../../../compiler/emit/typescript.ts");
    extras.push({ name: `${model.name}.net.ts`, contents: emitTypeScript(model) });
  }
  return extras;
}

/** Compiles, with plans tried on this device if it is asked for. */
async function compiled(
  model: Model,
  sizes: ReadonlyMap<string, number>,
  options: CompileCommandOptions,
): Promise<Staged<Program>> {
  const { seed, tune } = options;
  if (tune === undefined) return compile(model, { target: await targetRecord(options.target), sizes, seed });
  if (options.target !== "this-device")
    throw new CommandError(EXIT.usage, "`--tune` tries plans on this device, and the program is for another", [
      "`--target this-device`",
    ]);
  const target = await chooseTarget("auto");
  const say = (text: string): void => {
    if (options.json !== true) print(text);
  };
  const tuning = compilerFor(target, { tune }, { exact: false, say });
  return tuning.compile(model, { target: target.capability, sizes, seed });
}

export async function compileCommand(file: string, options: CompileCommandOptions): Promise<ExitCode> {
  const reporting = { json: options.json === true };
  checkDestination(options.output, PROGRAM_FOLDER);
  const entry = openEntry(file);
  const model = elaborateEntry(entry, { model: options.model, bind: new Map(), ...reporting });
  if (model === undefined) return EXIT.wrong;
  const sizes = sizesOf(model, options);
  const bound = stage(bindModel(model, sizes), reporting);
  if (bound === undefined) return EXIT.wrong;
  const weights = await openWeights(bound, options.weights, options.skip, options.seed);
  if (report(weights.diagnostics, reporting)) return EXIT.wrong;
  const program = stage(await compiled(model, sizes, options), reporting);
  if (program === undefined) return EXIT.wrong;
  const files = await writeProgramFolder(
    program,
    options.output,
    await extraFiles(program, model, weights, options),
    WEIGHTS_FILE,
  );
  const memory = program.allocations
    .filter(({ lifetime }) => lifetime === "run")
    .reduce((sum, { bytes: size }) => sum + size, 0);
  if (reporting.json) {
    printJson({
      output: options.output,
      model: program.name,
      graphHash: program.graphHash,
      target: program.target.name,
      kernels: program.kernels.length,
      steps: program.run.length,
      memory,
      files,
    });
    return EXIT.ok;
  }
  print(`${paint("green", "✓", process.stdout)} ${program.name} for ${program.target.name} in \`${options.output}\``);
  print(
    `  ${grouped(program.kernels.length)} kernels, ${grouped(program.run.length)} steps a run, ${bytes(memory)} of device memory`,
  );
  print(
    `  weights: ${files.includes(WEIGHTS_FILE) ? WEIGHTS_FILE : `made from seed ${program.seed} when the program is loaded`}`,
  );
  print(`  graph ${program.graphHash}`);
  return EXIT.ok;
}
