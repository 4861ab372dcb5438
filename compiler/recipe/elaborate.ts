/**
 * From a source text to a recipe with its model, and the check of all recipes of a file.
 *
 * A recipe is chosen by name, or it is the last one of the file that is for the model: by `for`, or because it is for no
 * model in particular. Without one the model is trained by the defaults of schema.ts. The model is made once.
 */
import type { BareModel, Callable, Recipe as RecipeItem } from "../../grammar/ast.ts";
import { diagnostic, span } from "../../grammar/diagnostic.ts";
import type { Source, Span } from "../../grammar/source.ts";
import { suggest } from "../../grammar/suggest.ts";
import { newBuild, topContext } from "../elaborate/draft.ts";
import {
  type Elaborated,
  type ElaborateOptions,
  elaborateWith,
  finishModel,
  type Target,
} from "../elaborate/elaborate.ts";
import { evaluate } from "../elaborate/evaluate.ts";
import { attempt, report } from "../elaborate/failure.ts";
import { modelOf } from "../elaborate/models.ts";
import { BARE, type Module, type Program } from "../elaborate/modules.ts";
import { describe } from "../elaborate/types.ts";
import { type BlockValue, isBlock, isCompound } from "../elaborate/values.ts";
import type { Elaboration, Model, Resolve } from "../model.ts";
import type { Recipe } from "./recipe.ts";
import { type Declared, type Given, resolveRecipe } from "./resolve.ts";

export interface RecipeOptions extends ElaborateOptions {
  /** Name of a recipe of the file, or of one that it imports. */
  readonly recipe?: string;
  /** Values of the recipe's parameters. */
  readonly args?: ReadonlyMap<string, number | string | boolean>;
  /** The folder of the clips; it goes before the recipe's own. */
  readonly folder?: string;
  /** The folder and values of parameters may still be missing: the recipe is looked at, not run. */
  readonly draft?: boolean;
}

export interface RecipeElaboration extends Elaboration {
  /** Undefined if there were errors, or the file has no model. */
  readonly recipe: Recipe | undefined;
  /** The file that the recipe is written in, which its relative folder is taken from. */
  readonly from: Source | undefined;
}

/**
 * A model of `source` and the recipe that trains it. With a recipe's name and no model's, the model is the one that the
 * recipe is for, even in another file. Never throws; what is wrong is among the diagnostics.
 */
export function elaborateRecipe(source: Source, resolve: Resolve, options: RecipeOptions = {}): RecipeElaboration {
  const given: Given = { args: options.args ?? new Map(), folder: options.folder, complete: options.draft !== true };
  const { model, diagnostics, result } = elaborateWith(source, resolve, options, {
    target: (program, module) => {
      if (options.recipe === undefined || options.model !== undefined) return undefined;
      const named = namedRecipe(options.recipe, module, program);
      return named === undefined ? undefined : targetOf(named, program);
    },
    then: (found) => {
      const { program, model: made, declaration } = found;
      if (made === undefined || declaration === undefined) return undefined;
      const chosen = chooseRecipe(found, options.recipe);
      if (chosen === undefined) return undefined;
      const at = placeOfModel(found);
      const recipe = attempt(() => resolveRecipe(chosen, { model: made, at }, given, program));
      return recipe === undefined ? undefined : { recipe, from: chosen.module.source };
    },
  });
  return { model, diagnostics, recipe: result?.recipe, from: result?.from };
}

/**
 * Checks `source` as `elaborate` does, and all recipes that are written in it, each with the model it is for. Data may be
 * missing, and so may values of parameters: a command line can give them.
 */
export function elaborateWithRecipes(
  source: Source,
  resolve: Resolve,
  options: ElaborateOptions = {},
): Elaboration & { readonly recipes: readonly Recipe[] } {
  const given: Given = { args: new Map(), folder: undefined, complete: false };
  const { model, diagnostics, result } = elaborateWith(source, resolve, options, {
    then: (found) => {
      const { module, program } = found;
      return ownRecipes(module).flatMap((item) => {
        const declared: Declared = { item, module };
        const subject = attempt(() => subjectFor(declared, found, options));
        return attempt(() => resolveRecipe(declared, subject, given, program)) ?? [];
      });
    },
  });
  return { model, diagnostics, recipes: result ?? [] };
}

function ownRecipes(module: Module): readonly RecipeItem[] {
  return module.file.items.filter((item) => item.kind === "Recipe");
}

// ------------------------------------------------------------------------------------------------------------ the model

function placeOfDeclaration(declaration: Callable | BareModel, module: Module): Span {
  return span(module.source, declaration.kind === "Callable" ? declaration.name : declaration.value);
}

function placeOfModel({ declaration, module, program }: Elaborated): Span {
  if (declaration === undefined) return { source: module.source, start: 0, end: 0 };
  const home = [...program.modules.values()].find(({ file }) => file.items.some((item) => item === declaration));
  return placeOfDeclaration(declaration, home ?? module);
}

/** What a recipe is for: nothing in particular, the file's bare headline, or a model or block by name. */
type For = "any" | "bare" | BlockValue;

function forOf({ item, module }: Declared, program: Program): For | undefined {
  const { target } = item;
  if (target === undefined) return "any";
  const bare = module.file.items.some((other) => other.kind === "BareModel");
  if (bare && target.kind === "Name" && target.name === BARE) return "bare";
  if (target.kind === "Name" || target.kind === "Field") {
    const context = topContext(newBuild(program, new Map()), module);
    const value = attempt(() => evaluate(target, context));
    if (value === undefined) return undefined;
    if (isBlock(value) && value.declaration.keyword !== "op") return value;
    report(
      program.reports,
      diagnostic("E0709", `a recipe is for a model, this is ${describe(value)}`, span(module.source, target)),
    );
    return undefined;
  }
  report(
    program.reports,
    diagnostic("E0709", "a recipe is for a model that has a name", span(module.source, target), {
      helps: ["`model Net = …` and `recipe Train for Net { … }`"],
    }),
  );
  return undefined;
}

/** The model that a named recipe asks for. A recipe for a block says nothing of which network of the file it is. */
function targetOf(declared: Declared, program: Program): Target | undefined {
  const wanted = forOf(declared, program);
  if (wanted === undefined || wanted === "any") return undefined;
  if (wanted !== "bare")
    return wanted.declaration.keyword === "model"
      ? { declaration: wanted.declaration, module: wanted.module }
      : undefined;
  const bare = declared.module.file.items.find((item) => item.kind === "BareModel");
  return bare === undefined ? undefined : { declaration: bare, module: declared.module };
}

function fits(wanted: For, { declaration, blocks }: Elaborated): boolean {
  if (wanted === "any") return true;
  if (wanted === "bare") return declaration?.kind === "BareModel";
  const isModel = wanted.declaration.keyword === "model";
  return wanted.declaration === declaration || (!isModel && blocks.has(wanted.declaration.name.name));
}

/** The model that a recipe is checked with: the one at hand if it is for that, else the one it names. */
function subjectFor(
  declared: Declared,
  found: Elaborated,
  options: ElaborateOptions,
): { readonly model: Model; readonly at: Span } | undefined {
  const { program, module } = found;
  const wanted = forOf(declared, program);
  if (wanted === undefined) return undefined;
  if (fits(wanted, found))
    return found.model === undefined ? undefined : { model: found.model, at: placeOfModel(found) };
  if (typeof wanted === "string") return undefined;
  const bind = options.bind ?? new Map<string, number>();
  const context = topContext(newBuild(program, bind), module);
  const made = modelOf(wanted, { context, node: declared.item.target ?? declared.item });
  const model = finishModel(made, wanted.module, program);
  return { model, at: placeOfDeclaration(wanted.declaration, wanted.module) };
}

// ----------------------------------------------------------------------------------------------------------- the recipe

/** The recipe of a name, written or imported. */
export function namedRecipe(
  name: string,
  module: Module,
  program: Program,
  at: Span = { source: module.source, start: 0, end: 0 },
): Declared | undefined {
  const visible = recipesIn(module);
  const found = visible.get(name);
  if (found !== undefined) return found;
  const names = [...visible.keys()];
  const near = suggest(name, names);
  report(
    program.reports,
    diagnostic("E0709", `this file has no recipe \`${name}\``, at, {
      helps: near === undefined ? [] : [`did you mean \`${near}\`?`],
      notes: [names.length === 0 ? "it has none" : `its recipes are ${names.join(", ")}`],
    }),
  );
  return undefined;
}

/** By the name they have here: imported ones first, then those of the file in its order. */
function recipesIn(module: Module): ReadonlyMap<string, Declared> {
  const imported: [string, Declared][] = [];
  for (const [name, { cell }] of module.names) {
    const value = cell.state.kind === "value" ? cell.state.value : undefined;
    if (value === undefined || !isCompound(value) || value.kind !== "declaration" || value.recipe === undefined)
      continue;
    if (value.module !== module) imported.push([name, { item: value.recipe, module: value.module }]);
  }
  const own = ownRecipes(module).map((item): [string, Declared] => [item.name.name, { item, module }]);
  return new Map([...imported, ...own]);
}

function chooseRecipe(found: Elaborated, name: string | undefined): Declared | undefined {
  const { module, program, model, declaration } = found;
  if (model === undefined || declaration === undefined) return undefined;
  if (name === undefined) {
    const fitting = [...recipesIn(module).values()].filter((declared) => {
      const wanted = forOf(declared, program);
      return wanted !== undefined && fits(wanted, found);
    });
    return fitting.at(-1) ?? { item: defaultRecipe(placeOfModel(found)), module };
  }
  const named = namedRecipe(name, module, program);
  const wanted = named === undefined ? undefined : forOf(named, program);
  if (named === undefined || wanted === undefined) return undefined;
  if (fits(wanted, found)) return named;
  const { target } = named.item;
  const other = typeof wanted === "string" ? BARE : wanted.declaration.name.name;
  report(
    program.reports,
    diagnostic(
      "E0709",
      `\`${name}\` is for \`${other}\`, not for \`${model.name}\``,
      span(named.module.source, target ?? named.item),
      {
        label: "another model",
        secondary: [{ span: placeOfModel(found), text: "this is to be trained" }],
        helps: ["leave the `for …` out, and the recipe is for any model"],
      },
    ),
  );
  return undefined;
}

/** The last recipe that a network with these blocks can be trained by without being named; undefined: none says so. */
export function lastRecipeFor(blocks: ReadonlySet<string>, module: Module, program: Program): Declared | undefined {
  return [...recipesIn(module).values()].findLast((declared) => {
    const wanted = forOf(declared, program);
    if (wanted === undefined || typeof wanted === "string") return wanted === "any";
    return wanted.declaration.keyword !== "model" && blocks.has(wanted.declaration.name.name);
  });
}

/** A recipe in which nothing is said, standing where the model does. */
export function defaultRecipe({ start, end }: Span): RecipeItem {
  return {
    kind: "Recipe",
    attributes: [],
    doc: undefined,
    name: { name: "Default", start, end },
    params: [],
    target: undefined,
    settings: { kind: "Settings", items: [], start, end },
    start,
    end,
  };
}
