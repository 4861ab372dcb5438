/**
 * What training and evaluation begin with: a source with its recipe, a data set with its sides, a device.
 *
 * In: the options of a command, or the record of a run. Out: everything checked, with its hashes; what is wrong with the
 * source is printed, what is wrong with the rest is thrown.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { cpus, release, type as systemType, totalmem } from "node:os";
import { basename, dirname, isAbsolute, join, relative, resolve as resolvePath } from "node:path";
import { bindModel } from "../../compiler/compile.ts";
import { costOf } from "../../compiler/graph/cost.ts";
import { graphHash } from "../../compiler/graph/hash.ts";
import type { Model, Resolve } from "../../compiler/model.ts";
import { elaborateRecipe } from "../../compiler/recipe/elaborate.ts";
import type { Recipe } from "../../compiler/recipe/recipe.ts";
import type { Source } from "../../grammar/source.ts";
import { type ClipRecord, decodeManifest, MANIFEST_FILE, type Manifest } from "../data/manifest.ts";
import { type Sides, splitSides } from "../data/sides.ts";
import { countClasses } from "../data/split.ts";
import type { RunRecord, SideCount } from "../train/records.ts";
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

export interface Experiment {
  /** Sizes but for the batch are known. */
  readonly model: Model;
  readonly sizes: ReadonlyMap<string, number>;
  readonly recipe: Recipe;
  readonly recipeHash: string;
  readonly seed: number;
  readonly graphHash: string;
  readonly folder: string;
  readonly manifest: Manifest;
  readonly manifestText: string;
  readonly manifestHash: string;
  readonly sides: Sides;
  /** The sources, the entry first, as a run keeps them. */
  readonly sources: readonly { readonly path: string; readonly text: string }[];
}

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");

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
  const folder = request.folder ?? folderOf(recipe, from);
  const { manifest, text } = openManifest(folder, request.moved);
  const seed = request.seed ?? recipe.seed;
  const sides = splitSides(manifest, recipe.data, request.fold, seed);
  if (sides.kind === "sides-error") throw new CommandError(EXIT.wrong, sides.message, sides.help);
  const sizes = new Map([["N", recipe.data.batch], ...bind]);
  const bound = stage(bindModel(model, sizes), { json });
  if (bound === undefined) return undefined;
  return {
    model: bound,
    sizes,
    recipe,
    recipeHash: sha256(JSON.stringify(withoutFolder(recipe))),
    seed,
    graphHash: graphHash(model.graph),
    folder,
    manifest,
    manifestText: text,
    manifestHash: sha256(text),
    sides,
    sources: withoutCommonFolder(
      used.map(({ path, text: content }) => ({ path: path.startsWith("<") ? "model.net" : path, text: content })),
    ),
  };
}

/** A recipe without the folder of its clips: a set may move, and its manifest says whether it is still the same. */
export function withoutFolder(recipe: Recipe): Recipe {
  return { ...recipe, data: { ...recipe.data, folder: "" } };
}

/** A recipe's folder is written from where its file lies. */
function folderOf(recipe: Recipe, from: Source | undefined): string {
  const { folder } = recipe.data;
  if (isAbsolute(folder) || from === undefined || from.path.startsWith("<")) return folder;
  return relative("", resolvePath(dirname(from.path), folder)) || ".";
}

function openManifest(folder: string, moved = false): { readonly manifest: Manifest; readonly text: string } {
  const file = basename(folder) === MANIFEST_FILE ? folder : join(folder, MANIFEST_FILE);
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    const failure = systemError(`read \`${file}\``, error);
    throw new CommandError(failure.exit, failure.message, [
      ...(moved ? ["if the set has moved, `--data FOLDER` says where it is now"] : []),
      `\`netc data scan ${folder} --layout …\` writes the manifest of a set`,
      "`netc data make FOLDER --layout association` draws a synthetic one",
    ]);
  }
  const manifest = decodeManifest(text);
  if ("error" in manifest)
    throw new CommandError(EXIT.wrong, `\`${file}\`: ${manifest.error}`, ["scan the set again: `netc data scan`"]);
  return { manifest, text };
}

function sideCount(classes: readonly string[], clips: readonly ClipRecord[]): SideCount {
  return {
    clips: clips.length,
    subjects: new Set(clips.flatMap(({ subject }) => subject ?? [])).size,
    byClass: countClasses(classes, clips),
  };
}

/** The record of a run that is about to begin. */
export function recordOf(
  experiment: Experiment,
  request: ExperimentRequest,
  more: { readonly netc: string; readonly device: string; readonly command: readonly string[] },
): Omit<RunRecord, "name"> {
  const { model, recipe, sides, manifest } = experiment;
  const { fold, bind, arguments: args } = request;
  const cost = costOf(model.graph);
  const batch = recipe.data.batch;
  const [source] = experiment.sources;
  return {
    format: "netc-run",
    version: 1,
    netc: more.netc,
    model: {
      name: model.name,
      graphHash: experiment.graphHash,
      parameters: Number(cost.total.parameters),
      macs: Number(cost.total.macs) / batch,
      layers: cost.layers
        .filter(({ layer }) => layer !== "")
        .map(({ layer, output, parameters, macs }) => ({
          path: layer,
          shape: output?.map(Number) ?? [],
          parameters: Number(parameters),
          macs: Number(macs) / batch,
        })),
    },
    request: { source: source?.path ?? "", model: request.model, recipe: request.recipe, arguments: args, bind, fold },
    recipe,
    recipeHash: experiment.recipeHash,
    data: {
      folder: experiment.folder,
      note: manifest.note,
      manifestHash: experiment.manifestHash,
      classes: sides.classes,
      fold: sides.fold,
      train: sideCount(sides.classes, sides.train),
      validation: sideCount(sides.classes, sides.validation),
      test: sideCount(sides.classes, sides.test),
    },
    seed: experiment.seed,
    device: more.device,
    environment: {
      node: process.version,
      system: `${systemType()} ${release()} ${process.arch}`,
      processors: cpus().length,
      memoryBytes: totalmem(),
    },
    started: new Date().toISOString(),
    command: more.command,
  };
}
