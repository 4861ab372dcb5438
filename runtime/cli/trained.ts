/**
 * The model that a run has trained, ready to predict: its sources compiled again, the parameters of its best epoch, and
 * inputs prepared as they were in training.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { bindModel, compile } from "../../compiler/compile.ts";
import { graphHash } from "../../compiler/graph/hash.ts";
import { STATE_PREFIX } from "../../compiler/graph/step.ts";
import type { Program } from "../../compiler/program.ts";
import { trainedPreprocess } from "../data/loader/batches.ts";
import type { Runner } from "../engine/runner.ts";
import { type LoadedCheckpoint, listCheckpoints, loadCheckpoint } from "../train/checkpoint.ts";
import { readRun } from "../train/run-folder.ts";
import { chooseTarget, type DeviceName } from "./devices.ts";
import { CommandError, EXIT, systemError } from "./exit.ts";
import { elaborateEntry, stage } from "./model.ts";
import { openRunner } from "./open.ts";
import { openEntry } from "./sources.ts";
import type { Weights } from "./weights.ts";

/** True for the folder of a run. */
export function isRunFolder(path: string): boolean {
  return existsSync(join(path, "run.json"));
}

export interface Trained {
  readonly program: Program;
  readonly weights: Weights;
  readonly open: () => Promise<Runner>;
}

/**
 * Compiles a run's model for a device, for one sample; undefined after printing what is wrong with its sources.
 * @throws CommandError for a run without a checkpoint, or whose sources have changed
 */
export async function openTrained(
  folder: string,
  options: { readonly device: DeviceName; readonly json?: boolean },
): Promise<Trained | undefined> {
  const reporting = { json: options.json === true };
  try {
    const record = readRun(folder);
    const { request, recipe } = record;
    const entry = openEntry(join(folder, "sources", request.source));
    const model = elaborateEntry(entry, { model: record.model.name, bind: new Map(), ...reporting });
    if (model === undefined) return undefined;
    if (graphHash(model.graph) !== record.model.graphHash)
      throw new CommandError(
        EXIT.wrong,
        `the sources in \`${folder}\` are not those of the run: they make another model`,
        ["undo the change in its `sources` folder"],
      );
    const target = await chooseTarget(options.device);
    if (target.device === "interp")
      throw new CommandError(EXIT.usage, "`--device interp` takes a .net file", ["`--device wasm` runs on the CPU"]);
    const sizes = new Map([["N", 1], ...Object.entries(request.bind)]);
    const bound = stage(bindModel(model, sizes), reporting);
    const compiled = stage(compile(model, { target: target.capability, sizes, seed: record.seed }), reporting);
    if (bound === undefined || compiled === undefined) return undefined;
    const program: Program = {
      ...compiled,
      inputs: compiled.inputs.map((input) => ({
        ...input,
        preprocess: input.preprocess && trainedPreprocess(input.preprocess, recipe.data),
      })),
      outputs: compiled.outputs.map((output) => ({
        ...output,
        classes: output.shape.at(-1) === record.data.classes.length ? record.data.classes : output.classes,
      })),
    };
    const checkpoint = await bestCheckpoint(folder);
    return { program, weights: weightsOf(checkpoint), open: () => openRunner(program, target) };
  } catch (error) {
    throw error instanceof CommandError ? error : systemError(`open the run \`${folder}\``, error);
  }
}

/** The checkpoint of the best epoch; of a run that has not finished one, the newest. */
async function bestCheckpoint(folder: string): Promise<LoadedCheckpoint> {
  const { checkpoints } = await listCheckpoints(folder);
  return loadCheckpoint(folder, checkpoints[0]?.record.best === undefined ? "latest" : "best");
}

function weightsOf(checkpoint: LoadedCheckpoint): Weights {
  return {
    loaded: new Set(checkpoint.tensors.keys()),
    diagnostics: [],
    source: async ({ path, shape, rows }, into) => {
      const average = STATE_PREFIX.average + path;
      const values = await checkpoint.read(checkpoint.tensors.has(average) ? average : path);
      const row = values.length / (shape[0] ?? 1);
      into.set(rows === undefined ? values : values.subarray(rows.start * row, rows.end * row));
    },
  };
}
