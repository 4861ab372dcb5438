/**
 * The recipe that trains a candidate: which it is, with which values of its parameters, and the record of it.
 *
 * `recipe = Train(lr=lr)` names a recipe and gives values to its parameters. Without it the last recipe of the file that
 * is for such a network is taken, as everywhere, or the default one.
 */
import type { Expr } from "../../grammar/ast.ts";
import type { Source } from "../../grammar/source.ts";
import { evaluate } from "../elaborate/core.ts";
import { newBuild, topContext } from "../elaborate/draft.ts";
import { attempt, fail, newReports, silent, spanOf, textOf } from "../elaborate/failure.ts";
import { describe } from "../elaborate/types.ts";
import type { Value } from "../elaborate/values.ts";
import type { Model } from "../model.ts";
import { defaultRecipe, lastRecipeFor, namedRecipe } from "../recipe/elaborate.ts";
import { headOf } from "../recipe/kinds.ts";
import type { Recipe } from "../recipe/recipe.ts";
import { type Declared, resolveRecipe } from "../recipe/resolve.ts";
import { modelAt, notAlways } from "./points.ts";
import { type Selection, substitute } from "./substitute.ts";
import { asideOf, makeCandidateModel, tried, type WrittenSearch } from "./written.ts";

type Plain = number | string | boolean;

/** A recipe with the values that a candidate gives to its parameters. */
export interface Called {
  readonly declared: Declared;
  readonly args: ReadonlyMap<string, Plain>;
  /** As the source would write it; undefined where the search does not say. */
  readonly text: string | undefined;
  /** Equal for equal recipes with equal values, however they are written. */
  readonly key: string;
}

/** The recipes of a search's candidates, each text read once. */
export function recipesOf(search: WrittenSearch): (selection: Selection) => Called {
  const known = new Map<string, Called>();
  let otherwise: Called | undefined;
  return (selection) => {
    const { recipe, module } = search;
    if (recipe === undefined) return (otherwise ??= unnamed(search, selection));
    const { expr, text, missing } = substitute(recipe, selection, module.source.text);
    const [absent] = missing;
    if (absent !== undefined) notAlways(absent.name, absent.at, search);
    const before = known.get(text);
    if (before !== undefined) return before;
    const called = calledBy(expr, text, search);
    known.set(text, called);
    return called;
  };
}

function unnamed(search: WrittenSearch, selection: Selection): Called {
  const { context, module, program, model, bind } = search;
  const aside = asideOf(context);
  const made = tried(aside, () => makeCandidateModel(modelAt(search, selection).expr, aside, bind, model));
  const named = lastRecipeFor(made?.build.blocks ?? new Set(), module, program);
  const declared = named ?? { item: defaultRecipe(spanOf(context, model)), module };
  return { declared, args: new Map(), text: undefined, key: "" };
}

function calledBy(expr: Expr, text: string, { context, module, program }: WrittenSearch): Called {
  const name = headOf(expr);
  if (name === undefined || (expr.kind !== "Name" && expr.kind !== "Call"))
    return fail(context, "E0802", `\`recipe\` takes a recipe, this is \`${textOf(context, expr)}\``, expr, {
      helps: ["`recipe = Train(lr=lr)`"],
    });
  const declared = namedRecipe(name, module, program, spanOf(context, expr));
  if (declared === undefined) return silent();
  const { params } = declared.item;
  const args = new Map<string, Plain>();
  for (const [i, arg] of (expr.kind === "Call" ? expr.args : []).entries()) {
    const key = arg.name?.name ?? params[i]?.name.name;
    const value = plain(evaluate(arg.value, context));
    if (value === undefined)
      return fail(
        context,
        "E0802",
        `a recipe takes numbers and texts, this is ${describe(evaluate(arg.value, context))}`,
        arg.value,
      );
    if (key === undefined) return fail(context, "E0401", `\`${name}\` takes no more arguments`, arg);
    if (args.has(key)) return fail(context, "E0401", `\`${key}\` is given twice`, arg, { label: "the second time" });
    args.set(key, value);
  }
  return { declared, args, text, key: keyOf(declared, args, context) };
}

function plain(value: Value): Plain | undefined {
  return typeof value === "number" || typeof value === "string" || typeof value === "boolean" ? value : undefined;
}

function keyOf(
  { item, module }: Declared,
  args: ReadonlyMap<string, Plain>,
  { build: { program } }: WrittenSearch["context"],
): string {
  // A default that names other parameters is told by its text.
  const top = topContext(newBuild({ ...program, reports: newReports() }, new Map()), module);
  const values = item.params.map(({ name, default: otherwise }) => {
    const given = args.get(name.name);
    if (given !== undefined || otherwise === undefined) return [name.name, given];
    const value = attempt(() => plain(evaluate(otherwise, top)));
    return [name.name, value ?? module.source.text.slice(otherwise.start, otherwise.end)];
  });
  // Not its path, which depends on where the command is given.
  const place = [...program.modules.values()].indexOf(module);
  return JSON.stringify([place, item.name.name, values]);
}

/** The record of a recipe for a candidate's model; what is wrong with it is reported and abandons the candidate. */
export function resolved(
  { declared, args }: Called,
  model: Model,
  { context, item, model: written }: WrittenSearch,
  { folder, complete }: { readonly folder: string | undefined; readonly complete: boolean },
): { readonly recipe: Recipe; readonly from: Source } {
  const { program } = context.build;
  const subject = { model, at: spanOf(context, written) };
  const recipe = resolveRecipe(declared, subject, { args, folder, complete }, program);
  if (recipe === undefined) return fail(context, "E0802", "this recipe cannot train the candidates", item.name);
  return { recipe, from: declared.module.source };
}
