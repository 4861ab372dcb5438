/**
 * What training and evaluation begin with: a source with its recipe, a data set with its sides, a device.
 *
 * In: the options of a command, or the record of a run. Out: everything checked, with its hashes; what is wrong with the
 * source is printed, what is wrong with the rest is thrown.
 */
import { dirname, isAbsolute, relative, resolve as resolvePath } from "node:path";
import { bindModel } from "../../compiler/compile.ts";
import type { Resolve } from "../../compiler/model.ts";
import { elaborateRecipe } from "../../compiler/recipe/elaborate.ts";
import type { Recipe } from "../../compiler/recipe/recipe.ts";
import type { Source } from "../../grammar/source.ts";
import { type Experiment, experimentOf, openDataSet } from "../train/experiment.ts";
import { RunError } from "../train/fault.ts";
import type { RunRecord } from "../train/records.ts";
import { withoutCommonFolder } from "../train/run-folder.ts";
import { CommandError, EXIT, systemError } from "./exit.ts";
import { report, stage } from "./model.ts";
import type { Entry } from "./sources.ts";

export interface ExperimentRequest extends Omit<RunRecord["request"], "source"> {
  readonly entry: Entry;
  /** The data set's folder; undefined: the recipe says. */
  readonly folder: string | undefined;
  readonly seed: number | undefined;
  /** True if the folder is what the record of a run says: the set may have moved since. */
  readonly moved?: boolean;
}

/** Makes model, recipe and sides; undefined after printing what is wrong with the source. */
export function openExperiment(request: ExperimentRequest, json: boolean): Experiment | undefined {
  const { entry } = request;
  const used: Source[] = [entry.source];
  const resolve: Resolve = (path, from) => {
    const found = entry.resolve(path, from);
    if (found !== undefined && "text" in found && !path.startsWith("std/") && !used.includes(found)) used.push(found);
    return found;
  };
  const bind = new Map(Object.entries(request.bind));
  const { model, recipe, diagnostics, from } = elaborateRecipe(entry.source, resolve, {
    bind,
    args: new Map(Object.entries(request.arguments)),
    ...(request.model === undefined ? {} : { model: request.model }),
    ...(request.recipe === undefined ? {} : { recipe: request.recipe }),
    ...(request.folder === undefined ? {} : { folder: request.folder }),
  });
  if (report(diagnostics, { json })) return undefined;
  if (model === undefined || recipe === undefined)
    throw new CommandError(EXIT.wrong, `\`${entry.source.path}\` defines no model`, [
      "a model is a line such as `VGG16 ×2 with STIA at conv3, conv4`",
    ]);
  const sizes = new Map([["N", recipe.data.batch], ...bind]);
  const parts = { sizes, recipe, fold: request.fold, seed: request.seed ?? recipe.seed };
  const sources = withoutCommonFolder(
    used.map(({ path, text: content }) => ({ path: path.startsWith("<") ? "model.net" : path, text: content })),
  );
  try {
    const set = openDataSet(request.folder ?? folderOf(recipe, from), request.moved);
    const bound = stage(bindModel(model, sizes), { json });
    return bound === undefined ? undefined : experimentOf({ ...parts, model: bound, sources }, set);
  } catch (error) {
    throw error instanceof RunError ? systemError("open the experiment", error) : error;
  }
}

/** A recipe's folder is written from where its file lies. */
export function folderOf(recipe: Recipe, from: Source | undefined): string {
  const { folder } = recipe.data;
  if (isAbsolute(folder) || from === undefined || from.path.startsWith("<")) return folder;
  return relative("", resolvePath(dirname(from.path), folder)) || ".";
}
