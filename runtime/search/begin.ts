/**
 * A study as it begins: a search with its sources, tied to one data set.
 *
 * In: an elaborated search, the recipe of its first candidate, the data set. Out: the row that the store keeps. What a
 * study is, and so its id, is what its trials depend on: the space, the settings, the recipe and the manifest. A comment
 * in the source is no part of it, nor is the folder in which the clips lie.
 */
import { createHash } from "node:crypto";
import type { Resolve } from "../../compiler/model.ts";
import type { Recipe } from "../../compiler/recipe/recipe.ts";
import { candidateOf } from "../../compiler/search/elaborate.ts";
import type { Search } from "../../compiler/search/search.ts";
import type { Diagnostic } from "../../grammar/diagnostic.ts";
import type { Source } from "../../grammar/source.ts";
import { type DataSet, withoutFolder } from "../train/experiment.ts";
import { withoutCommonFolder } from "../train/run-folder.ts";
import { studyIdOf } from "./store/ids.ts";
import type { StudyRow } from "./study.ts";

const sha256 = (value: unknown): string => createHash("sha256").update(JSON.stringify(value)).digest("hex");

/** The first candidate that may be trained: whatever it is, its recipe says how all are trained. */
function firstCandidate({ space }: Search): { readonly levels: readonly number[]; readonly label: string } {
  const first = space.candidates.find(({ refused }) => refused === undefined);
  if (first === undefined) throw new Error("internal: a search without a feasible candidate");
  return first;
}

/** The recipe of the first candidate, without the folder of its clips. */
export function recipeOf(
  search: Search,
  { entry, resolve }: { readonly entry: Source; readonly resolve: Resolve },
  folder: string | undefined,
): {
  readonly recipe: Recipe | undefined;
  readonly from: Source | undefined;
  readonly diagnostics: readonly Diagnostic[];
} {
  return candidateOf(entry, resolve, {
    search: search.name,
    args: new Map(Object.entries(search.arguments ?? {})),
    levels: firstCandidate(search).levels,
    ...(folder === undefined ? {} : { folder }),
  });
}

/** The row of a study that begins. */
export function studyOf(
  search: Search,
  parts: {
    readonly recipe: Recipe;
    readonly sources: readonly Source[];
    readonly set: DataSet;
    /** The folder as another machine or another day would find it. */
    readonly data: string;
    readonly netc: string;
  },
): Omit<StudyRow, "created"> {
  const { recipe, sources, set, data, netc } = parts;
  const facts = {
    name: search.name,
    searchHash: sha256([search, withoutFolder(recipe)]),
    dataHash: set.manifestHash,
  };
  return {
    id: studyIdOf(facts),
    ...facts,
    search,
    sources: withoutCommonFolder(
      sources.map(({ path, text }) => ({ path: path.startsWith("<") ? "search.net" : path, text })),
    ),
    data,
    netc,
    state: "running",
  };
}
