/**
 * What training and evaluation begin with: a model with its recipe, a data set with its sides, everything checked and
 * hashed.
 *
 * In: a model and a recipe, the folder of a data set, fold and seed. Out: the experiment, and the record of a run of it;
 * what is wrong with the data is thrown.
 */
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { cpus, release, type as systemType, totalmem } from "node:os";
import { basename, join } from "node:path";
import { costOf } from "../../compiler/graph/cost.ts";
import { graphHash } from "../../compiler/graph/hash.ts";
import type { Model } from "../../compiler/model.ts";
import type { Recipe } from "../../compiler/recipe/recipe.ts";
import { type ClipRecord, decodeManifest, MANIFEST_FILE, type Manifest } from "../data/manifest.ts";
import { type Sides, splitSides } from "../data/sides.ts";
import { countClasses } from "../data/split.ts";
import { codeOf, faultOf, RunError } from "./fault.ts";
import type { RunRecord, SideCount } from "./records.ts";

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

/** The folder of a data set, read: its manifest, as a record and as text. */
export interface DataSet {
  readonly folder: string;
  readonly manifest: Manifest;
  readonly manifestText: string;
  readonly manifestHash: string;
}

/**
 * Reads the manifest of a data set.
 * @param moved true if the folder is what a record says: the set may have moved since
 * @throws RunError
 */
export function openDataSet(folder: string, moved = false): DataSet {
  const file = basename(folder) === MANIFEST_FILE ? folder : join(folder, MANIFEST_FILE);
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    const there = existsSync(folder);
    const { kind, message } = faultOf(`read \`${file}\``, error);
    throw new RunError(
      kind,
      codeOf(error) !== "ENOENT"
        ? message
        : there
          ? `\`${folder}\` is no set of clips yet: it has no ${MANIFEST_FILE}`
          : `there is no set of clips \`${folder}\``,
      [
        ...(moved ? ["if the set has moved, `--data FOLDER` says where it is now"] : []),
        ...(there
          ? [`\`netc data scan ${folder} --layout …\` writes the manifest of a set`]
          : ["check the path: `--data` is taken from here, a recipe's own folder from where its file lies"]),
        "`netc data make FOLDER --layout association` draws a synthetic set",
      ],
    );
  }
  const manifest = decodeManifest(text);
  if ("error" in manifest)
    throw new RunError("wrong", `\`${file}\`: ${manifest.error}`, ["scan the set again: `netc data scan`"]);
  return { folder, manifest, manifestText: text, manifestHash: sha256(text) };
}

/** What an experiment is made of, besides the data set. */
export interface ExperimentParts {
  /** With all sizes known, as `bindModel` gives it. */
  readonly model: Model;
  readonly sizes: ReadonlyMap<string, number>;
  readonly recipe: Recipe;
  readonly fold: number | string;
  readonly seed: number;
  /** Who is held out for validation; undefined: the seed says. */
  readonly splitSeed?: number;
  readonly sources: Experiment["sources"];
}

/**
 * Cuts the sides and checks that model and set belong together.
 * @throws RunError
 */
export function experimentOf(parts: ExperimentParts, set: DataSet): Experiment {
  const { model, sizes, recipe, fold, seed, splitSeed = seed, sources } = parts;
  const sides = splitSides(set.manifest, recipe.data, fold, splitSeed);
  if (sides.kind === "sides-error") throw new RunError("wrong", sides.message, sides.help);
  checkClasses(model, sides.classes, set.folder);
  return {
    model,
    sizes,
    recipe,
    recipeHash: sha256(JSON.stringify(withoutFolder(recipe))),
    seed,
    graphHash: graphHash(model.graph),
    ...set,
    sides,
    sources,
  };
}

/** As many classes as the model tells apart; a single number tells two. */
function checkClasses({ name, graph }: Model, classes: readonly string[], folder: string): void {
  const outputs = Number(graph.outputs[0]?.node.shape.at(-1) ?? 0);
  const told = outputs === 1 ? 2 : outputs;
  if (told === classes.length) return;
  const names = classes.map((label) => `\`${label}\``).join(", ");
  throw new RunError(
    "wrong",
    `\`${folder}\` has ${classes.length} classes (${names}), and \`${name}\` tells ${told} apart`,
    [`make the network for as many: \`classes=${classes.length}\``],
  );
}

/** A recipe without the folder of its clips: a set may move, and its manifest says whether it is still the same. */
export function withoutFolder(recipe: Recipe): Recipe {
  return { ...recipe, data: { ...recipe.data, folder: "" } };
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
  request: Omit<RunRecord["request"], "source">,
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
