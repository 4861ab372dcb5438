/**
 * From an entry text to a checked model, with its diagnostics printed on the way.
 */
import type { Staged } from "../../compiler/compile.ts";
import { elaborate } from "../../compiler/elaborate/elaborate.ts";
import type { Elaboration, Model } from "../../compiler/model.ts";
import { elaborateRecipe, elaborateWithRecipes } from "../../compiler/recipe/elaborate.ts";
import type { Recipe } from "../../compiler/recipe/recipe.ts";
import { type CheckedSearch, checkSearches } from "../../compiler/search/elaborate.ts";
import { freeNames } from "../../compiler/size.ts";
import { type Diagnostic, hasErrors } from "../../grammar/diagnostic.ts";
import { ansiStyle, diagnosticToJson, renderDiagnostics } from "../../grammar/render.ts";
import { CommandError, EXIT } from "./exit.ts";
import { collect } from "./json.ts";
import type { Entry } from "./sources.ts";
import { hasColour } from "./terminal.ts";

export interface ReportOptions {
  /** Keep diagnostics for the JSON that the command prints, instead of drawing them on standard error. */
  readonly json: boolean;
}

/** Prints diagnostics; true if one of them is an error. */
export function report(diagnostics: readonly Diagnostic[], { json }: ReportOptions): boolean {
  if (diagnostics.length > 0) {
    if (json) for (const diagnostic of diagnostics) collect(diagnosticToJson(diagnostic));
    else
      process.stderr.write(
        `${renderDiagnostics(diagnostics, hasColour(process.stderr) ? { style: ansiStyle } : {})}\n`,
      );
  }
  return hasErrors(diagnostics);
}

interface EntryOptions extends ReportOptions {
  readonly model: string | undefined;
  readonly bind: ReadonlyMap<string, number>;
}

/**
 * Elaborates and checks an entry; undefined after printing what is wrong with it.
 * @throws CommandError (exit 1) for a text without a model: a library, or nothing at all
 */
export function elaborateEntry(entry: Entry, options: EntryOptions): Model | undefined {
  return modelIn(elaborate(entry.source, entry.resolve, chosen(options)), entry, options);
}

/** Everything that a file says, checked. A file may hold searches and no model of its own. */
export interface CheckedEntry {
  readonly model: Model | undefined;
  readonly recipes: readonly Recipe[];
  readonly searches: readonly CheckedSearch[];
}

/** `elaborateEntry`, and all recipes and searches of the entry. */
export function checkEntry(entry: Entry, options: EntryOptions): CheckedEntry | undefined {
  const { source, resolve } = entry;
  const { model, recipes, diagnostics } = elaborateWithRecipes(source, resolve, chosen(options));
  const wrong = diagnostics.some(({ severity }) => severity === "error");
  const searching = wrong ? undefined : checkSearches(source, resolve);
  const known = new Set(diagnostics.map(lineOf));
  const further = searching?.diagnostics.filter((each) => !known.has(lineOf(each))) ?? [];
  const searches = searching?.searches ?? [];
  const all = { model, diagnostics: [...diagnostics, ...further] };
  if (model === undefined && (searches.length > 0 || further.length > 0))
    return report(all.diagnostics, options) ? undefined : { model, recipes, searches };
  const checked = modelIn(all, entry, options);
  return checked === undefined ? undefined : { model: checked, recipes, searches };
}

/** One diagnostic in one line: what is found by two checks is said once. */
function lineOf({ code, message, labels }: Diagnostic): string {
  const at = labels.find((label) => label.primary)?.span;
  return `${code} ${at?.source.path} ${at?.start} ${message}`;
}

/** The recipe that trains the entry's model: the one named, the last that fits, or the default one. */
export function recipeOfEntry(
  entry: Entry,
  options: EntryOptions & { readonly recipe: string | undefined },
): Recipe | undefined {
  const { recipe } = options;
  const found = elaborateRecipe(entry.source, entry.resolve, {
    ...chosen(options),
    ...(recipe === undefined ? {} : { recipe }),
    draft: true,
  });
  return modelIn(found, entry, options) === undefined ? undefined : found.recipe;
}

function chosen({ bind, model }: EntryOptions): {
  readonly bind: ReadonlyMap<string, number>;
  readonly model?: string;
} {
  return { bind, ...(model === undefined ? {} : { model }) };
}

function modelIn({ model, diagnostics }: Elaboration, { source }: Entry, options: ReportOptions): Model | undefined {
  if (report(diagnostics, options)) return undefined;
  if (model === undefined) {
    const empty = source.text.trim() === "";
    throw new CommandError(EXIT.wrong, `\`${source.path}\` ${empty ? "is empty" : "defines no model"}`, [
      "a model is a line such as `VGG16 ×2 with STIA at conv3, conv4`, or `model Name(x: f32[N, 3, 224, 224]) = …`",
    ]);
  }
  return model;
}

/** The result of a stage; undefined after printing why there is none. */
export function stage<T>(staged: Staged<T>, options: ReportOptions): T | undefined {
  if ("ok" in staged) return staged.ok;
  report(staged.diagnostics, options);
  return undefined;
}

/**
 * Sizes from `--batch` and `--bind`.
 * @throws CommandError (exit 2) for a name that `model` does not leave open: it would change nothing
 */
export function sizesOf(
  model: Model,
  options: { readonly batch?: number; readonly bind?: readonly (readonly [string, number])[] },
): ReadonlyMap<string, number> {
  const open = new Set(model.graph.inputs.flatMap((node) => node.shape.flatMap((size) => [...freeNames(size)])));
  const unknown = options.bind?.find(([name]) => !open.has(name))?.[0];
  if (unknown !== undefined) {
    throw new CommandError(EXIT.usage, `\`--bind ${unknown}=…\`: \`${model.name}\` has no open size \`${unknown}\``, [
      `its open sizes: ${[...open].map((name) => (name === "N" ? "N (the batch, by `--batch`)" : name)).join(", ") || "none"}`,
    ]);
  }
  return new Map<string, number>([["N", options.batch ?? 1], ...(options.bind ?? [])]);
}
