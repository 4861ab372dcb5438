/**
 * From a file to a search that can be run: its space, its recipe and its data set, with what is wrong printed on the way.
 */
import { dirname, relative, resolve as resolvePath } from "node:path";
import type { Recipe } from "../../../../compiler/recipe/recipe.ts";
import { elaborateSearch, winnerSource } from "../../../../compiler/search/elaborate.ts";
import type { Search } from "../../../../compiler/search/search.ts";
import type { Source } from "../../../../grammar/source.ts";
import { recipeOf } from "../../../search/begin.ts";
import { CommandError, EXIT } from "../../exit.ts";
import { folderOf } from "../../experiment.ts";
import { report } from "../../model.ts";
import { type Entry, openEntry } from "../../sources.ts";
import { writeWhole } from "../../write-file.ts";

export interface SearchOptions {
  readonly search?: string;
  readonly set: readonly (readonly [string, number | string | boolean])[];
  readonly data?: string;
  readonly spend?: number;
}

export interface OpenedSearch {
  readonly entry: Entry;
  readonly search: Search;
  readonly sources: readonly Source[];
  readonly recipe: Recipe;
  /** The data set's folder; undefined: neither the recipe nor the command says. */
  readonly folder: string | undefined;
}

/** Enumerates a search; undefined after printing what is wrong with it. */
export function openSearch(
  file: string,
  options: SearchOptions,
  json: boolean,
  draft: boolean,
): OpenedSearch | undefined {
  const entry = openEntry(file);
  const given = Object.fromEntries(options.set.map(([name, value]) => [name, String(value)]));
  const found = elaborateSearch(entry.source, entry.resolve, {
    ...(options.search === undefined ? {} : { search: options.search }),
    args: new Map(Object.entries(given)),
    // What is only planned needs no clips.
    ...(options.data === undefined ? (draft ? { folder: "." } : {}) : { folder: options.data }),
  });
  if (report(found.diagnostics, { json })) return undefined;
  if (found.search === undefined)
    throw new CommandError(EXIT.wrong, `\`${file}\` has no search`, ["`search Placement { choose … model = … }`"]);
  const search: Search = {
    ...found.search,
    ...(options.set.length === 0 ? {} : { arguments: given }),
    spend: options.spend ?? found.search.spend,
  };
  const parts = { entry: entry.source, resolve: entry.resolve };
  const { recipe, from, diagnostics } = recipeOf(search, parts, options.data ?? (draft ? "." : undefined));
  if (report(diagnostics, { json })) return undefined;
  if (recipe === undefined)
    throw new CommandError(EXIT.wrong, `\`${search.name}\` has no recipe that trains its models`);
  const folder = options.data ?? (draft ? undefined : folderOf(recipe, from));
  return { entry, search, sources: found.sources, recipe, folder };
}

/** Writes the text of a candidate as an ordinary source. */
export function emitWinner({ entry, search }: OpenedSearch, candidate: number, output: string, json: boolean): boolean {
  const levels = search.space.candidates[candidate]?.levels;
  if (levels === undefined) throw new Error(`internal: there is no candidate ${candidate}`);
  const from = entry.source.path.startsWith("<") ? process.cwd() : dirname(resolvePath(entry.source.path));
  const to = dirname(resolvePath(output));
  const { text, diagnostics } = winnerSource(entry.source, entry.resolve, {
    search: search.name,
    args: new Map(Object.entries(search.arguments ?? {})),
    levels,
    importPath: (written) => {
      const path = relative(to, resolvePath(from, written)).replaceAll("\\", "/");
      return path.startsWith(".") ? path : `./${path}`;
    },
  });
  if (report(diagnostics, { json }) || text === undefined) return false;
  writeWhole(output, text);
  return true;
}
