/**
 * A `search` read: its choices, its model and recipe as expressions, its settings; no candidate has been made yet.
 *
 * Choices of positions need to know what positions there are, so the network is made once without its grafts, if and
 * when a range of positions asks.
 */
import type * as ast from "../../grammar/ast.ts";
import type { Expr } from "../../grammar/ast.ts";
import { diagnostic } from "../../grammar/diagnostic.ts";
import { parse } from "../../grammar/parser.ts";
import { suggest } from "../../grammar/suggest.ts";
import { evaluate } from "../elaborate/core.ts";
import { newBuild, topContext } from "../elaborate/draft.ts";
import { attempt, fail, newReports, report, silent, spanOf, textOf } from "../elaborate/failure.ts";
import { type MadeModel, makeModel } from "../elaborate/models.ts";
import type { Module, Program } from "../elaborate/modules.ts";
import type { Context, Local } from "../elaborate/values.ts";
import { compressPositions, positionRange, shortestName } from "../positions.ts";
import { readDefault } from "../recipe/kinds.ts";
import { type Read, readSection, say } from "../recipe/sections.ts";
import { valMetric } from "../recipe/words.ts";
import { type Around, type Choice, readChoice } from "./domain.ts";
import type { Factor, Objective } from "./search.ts";
import {
  type Chosen,
  chosenAt,
  isGraft,
  type ModelUses,
  mapped,
  namesIn,
  type Selection,
  substitute,
  usesOf,
} from "./substitute.ts";
import { LIMIT, OTHER_LIMITS, OTHER_NAMES, SEARCH } from "./words.ts";

export interface WrittenSearch {
  readonly name: string;
  readonly item: ast.Search;
  readonly module: Module;
  readonly program: Program;
  readonly context: Context;
  readonly bind: ReadonlyMap<string, number>;
  /** The search's own parameters, which are no choices. */
  readonly given: Selection;
  readonly choices: readonly Choice[];
  readonly factors: readonly Factor[];
  /** What its model does with the choices. */
  readonly uses: ModelUses;
  readonly model: Expr;
  readonly recipe: Expr | undefined;
  /** Choices that the recipe names. */
  readonly recipeUses: readonly string[];
  readonly requires: readonly Expr[];
  readonly objectives: readonly Objective[];
  readonly values: Read<typeof SEARCH>;
  readonly limits: Read<typeof LIMIT>;
}

export interface Given {
  /** Values of the search's parameters, as the source would write them. */
  readonly args: ReadonlyMap<string, string>;
  readonly bind: ReadonlyMap<string, number>;
}

/** Reads a search; what is wrong is reported and abandons it. */
export function readSearch(item: ast.Search, module: Module, program: Program, from: Given): WrittenSearch {
  const top = topContext(newBuild(program, from.bind), module);
  const choose = item.statements.filter((each): each is ast.Choose => each.kind === "Choose");
  if (item.statements.some((each) => each.kind === "Error")) silent();
  const given = parametersOf(item, from.args, top);
  const context = withParameters(top, given, item);
  const names = new Set(choose.map((each) => each.name.name));
  checkNames(choose, given, context);
  const settings = item.statements.filter((each): each is ast.Setting => each.kind === "Setting");
  const own = (name: string): Expr | undefined => ownSetting(settings, name, context);
  const model = own("model");
  const recipe = own("recipe");
  if (model === undefined)
    return fail(context, "E0802", `\`${item.name.name}\` does not say what its candidates are`, item.name, {
      label: "no model",
      helps: ["`model = VGG16 ×2 with STIA at spots`"],
    });
  if (choose.length === 0)
    return fail(context, "E0802", `\`${item.name.name}\` chooses nothing`, item.name, {
      helps: ["`choose spots in subsets(@conv1..@conv5)`"],
    });
  const { values, limits } = readSettings(item, settings, context);
  const uses = usesOf(model, names);
  const factors: Factor[] = [];
  const between = positionsOf({ model, given, choose, uses, context, bind: from.bind });
  const known = new Set(given.keys());
  const choices = choose.map((each) => {
    const { name } = each.name;
    const graft = uses.places.has(name) ? "place" : uses.units.has(name) ? "unit" : undefined;
    const around: Around = { between, graft, names: new Set(known) };
    known.add(each.name.name);
    return readChoice(each, factors, around, context);
  });
  const recipeUses = recipe === undefined ? [] : namesIn(recipe, names);
  warnOfUnused(choices, uses, recipeUses, context);
  const objectives = objectivesOf(item, context);
  const requires = item.statements.flatMap((each) => (each.kind === "Require" ? each.tests : []));
  return {
    name: item.name.name,
    item,
    module,
    program,
    context,
    bind: from.bind,
    given,
    choices,
    factors,
    uses,
    model,
    recipe,
    recipeUses,
    requires,
    objectives,
    values,
    limits,
  };
}

function parametersOf(item: ast.Search, args: ReadonlyMap<string, string>, context: Context): Selection {
  const known = item.params.map((param) => param.name.name);
  for (const name of args.keys()) {
    if (known.includes(name)) continue;
    const near = suggest(name, known);
    say(context, "E0401", `\`${item.name.name}\` has no parameter \`${name}\``, spanOf(context, item.name), {
      helps: near === undefined ? [] : [`did you mean \`${near}\`?`],
      notes: [known.length === 0 ? "it has none" : `its parameters are ${known.join(", ")}`],
    });
  }
  const given = new Map<string, Chosen>();
  for (const { name, default: otherwise } of item.params) {
    const text = args.get(name.name);
    const expr = text === undefined ? otherwise : expressionOf(text, name);
    if (expr === undefined)
      return fail(context, "E0403", `\`${item.name.name}\` needs \`${name.name}\``, name, {
        label: "not given",
        helps: [`\`--set ${name.name}=…\``],
      });
    given.set(name.name, { kind: "one", expr, text: text ?? textOf(context, expr), uses: [], missing: [] });
  }
  return given;
}

/** A value from a command line. All of it stands where the parameter does, for it is in no file. */
function expressionOf(text: string, { start, end }: ast.Ident): Expr {
  const { file, diagnostics } = parse({ path: "<value>", text: `const it = ${text}` });
  const [item, ...more] = file.items;
  if (item?.kind !== "Const" || more.length > 0 || diagnostics.length > 0)
    return { kind: "String", value: text, start, end };
  const moved = (part: unknown): unknown => {
    if (Array.isArray(part)) return part.map(moved);
    if (typeof part !== "object" || part === null) return part;
    const copy = Object.fromEntries(Object.entries(part).map(([key, value]) => [key, moved(value)]));
    return "start" in part ? { ...copy, start, end } : copy;
  };
  // What was an expression is one still: only the places in it are others.
  return moved(item.value) as Expr;
}

/** Parameters of the search are names for all that is evaluated in it, as those of a recipe are. */
function withParameters(top: Context, given: Selection, { params }: ast.Search): Context {
  const names = new Map<string, Local>();
  const context: Context = { ...top, locals: { names, up: undefined } };
  for (const { name } of params) {
    const chosen = given.get(name.name);
    if (chosen?.kind === "one") names.set(name.name, { value: evaluate(chosen.expr, context), at: spanOf(top, name) });
  }
  return context;
}

/** Says which choices change nothing. */
function warnOfUnused(
  choices: readonly Choice[],
  { occurrences }: ModelUses,
  recipeUses: readonly string[],
  context: Context,
): void {
  const used = new Set([...occurrences.map(({ name }) => name), ...recipeUses]);
  const names = new Set(choices.map(({ name }) => name));
  for (const { domain, item } of choices) {
    for (const { uses } of domain.options) for (const name of uses) used.add(name);
    if (item.when !== undefined) for (const name of namesIn(item.when, names)) used.add(name);
  }
  for (const { name, item } of choices) {
    if (used.has(name)) continue;
    const at = spanOf(context, item.name);
    report(
      context.build.program.reports,
      diagnostic("W0801", `\`${name}\` is chosen and changes nothing`, at, {
        label: "neither the model nor the recipe uses it",
      }),
    );
  }
}

function checkNames(choose: readonly ast.Choose[], given: Selection, context: Context): void {
  const seen = new Map<string, ast.Ident>();
  for (const { name } of choose) {
    const first = seen.get(name.name);
    if (first !== undefined || given.has(name.name))
      fail(context, "E0802", `\`${name.name}\` is chosen twice`, name, {
        label: "the second time",
        secondary: first === undefined ? [] : [{ span: spanOf(context, first), text: "first chosen here" }],
      });
    seen.set(name.name, name);
  }
  // What a choice is made of, or depends on, is chosen before it.
  const later = new Map(choose.map(({ name }) => [name.name, name]));
  for (const { name, domain, when } of choose) {
    for (const expr of when === undefined ? [domain] : [domain, when]) {
      mapped(expr, (part) => {
        const ident = part.kind === "Name" ? later.get(part.name) : undefined;
        if (ident === undefined) return undefined;
        const itself = ident === name;
        return fail(
          context,
          "E0803",
          itself ? `\`${name.name}\` depends on itself` : `\`${ident.name}\` is chosen after \`${name.name}\``,
          part,
          {
            label: itself ? "" : "not chosen yet",
            secondary: itself ? [] : [{ span: spanOf(context, ident), text: "chosen here" }],
            helps: itself ? [] : [`put \`choose ${ident.name} …\` before \`choose ${name.name} …\``],
          },
        );
      });
    }
    later.delete(name.name);
  }
}

// ------------------------------------------------------------------------------------------------------------ settings

/** Settings that are expressions with choices in them; the others are values. */
const EXPRESSIONS = ["model", "recipe"];

function ownSetting(settings: readonly ast.Setting[], name: string, context: Context): Expr | undefined {
  const [first, second] = settings.filter((each) => each.name.name === name);
  if (first !== undefined && second !== undefined)
    say(context, "E0704", `\`${name}\` is set twice`, spanOf(context, second.name), {
      label: "the second time",
      secondary: [{ span: spanOf(context, first.name), text: "first set here" }],
    });
  return first?.value;
}

function readSettings(
  item: ast.Search,
  settings: readonly ast.Setting[],
  context: Context,
): { readonly values: Read<typeof SEARCH>; readonly limits: Read<typeof LIMIT> } {
  const { start, end } = item;
  const at = spanOf(context, item.name);
  const items = settings.filter((each) => !EXPRESSIONS.includes(each.name.name));
  const { values, sections } = readSection(
    SEARCH,
    { kind: "Settings", items, start, end },
    { title: "a search", at, holds: ["limit"], also: EXPRESSIONS, otherNames: OTHER_NAMES },
    context,
  );
  const [limit, second] = sections;
  if (limit !== undefined && second !== undefined)
    say(context, "E0704", "`limit` is set twice", spanOf(context, second.name), {
      label: "the second time",
      secondary: [{ span: spanOf(context, limit.name), text: "first set here" }],
    });
  const none: ast.Settings = { kind: "Settings", items: [], start, end };
  const limits = readSection(
    LIMIT,
    limit?.settings ?? none,
    {
      title: "`limit`",
      at: limit === undefined ? at : spanOf(context, limit.name),
      holds: [],
      otherNames: OTHER_LIMITS,
    },
    context,
  ).values;
  return { values, limits };
}

const COSTS = ["params", "flops", "memory", "latency"] as const;

function objectivesOf(item: ast.Search, context: Context): readonly Objective[] {
  const objectives = item.statements.flatMap((each) => (each.kind === "Objective" ? [objectiveOf(each, context)] : []));
  const metrics = objectives.filter(({ kind }) => kind === "metric");
  const [, second] = item.statements.filter(
    (each): each is ast.Objective => each.kind === "Objective" && costOfObjective(each) === undefined,
  );
  if (second !== undefined)
    fail(context, "E0802", "a search learns one metric; others may be costs", second.value, {
      helps: ["`maximize val.uar` and `minimize params(model)`"],
    });
  if (metrics.length === 1) return objectives;
  const { value } = readDefaultMetric(context);
  return [value, ...objectives];
}

function readDefaultMetric(context: Context): { readonly value: Objective } {
  readDefault(valMetric, "val.accuracy", { context, name: "`maximize`" });
  return { value: { kind: "metric", goal: "maximize", metric: "val.accuracy" } };
}

function costOfObjective({ value }: ast.Objective): (typeof COSTS)[number] | undefined {
  const name = value.kind === "Call" && value.callee.kind === "Name" ? value.callee.name : undefined;
  return COSTS.find((each) => each === name);
}

function objectiveOf(objective: ast.Objective, context: Context): Objective {
  const { how, value } = objective;
  const cost = costOfObjective(objective);
  if (cost !== undefined) return { kind: "cost", goal: how, cost };
  const goal = valMetric.read(value, { context, name: `\`${how}\`` });
  const better = goal.better === "larger" ? "maximize" : "minimize";
  if (how !== better)
    fail(context, "E0802", `\`${how}\` makes the worst of \`${textOf(context, value)}\``, value, {
      helps: [`\`${better} ${textOf(context, value)}\``],
    });
  return { kind: "metric", goal: how, metric: textOf(context, value) };
}

// ----------------------------------------------------------------------------------------------------------- positions

interface Base {
  readonly model: Expr;
  readonly given: Selection;
  readonly choose: readonly ast.Choose[];
  readonly uses: ModelUses;
  readonly context: Context;
  readonly bind: ReadonlyMap<string, number>;
}

/** Finds the positions between two, in the network without the grafts that are chosen. */
function positionsOf(base: Base): (from: string, to: string, node: Expr) => readonly string[] {
  let known: readonly string[] | undefined;
  const { context } = base;
  return (from, to, node) => {
    known ??= ungraftedPositions(base);
    const range = positionRange(known, from, to);
    if (range.kind === "range") {
      const all = known;
      return range.matches.map((path) => shortestName(all, path));
    }
    if (range.kind === "levels" || range.kind === "backwards")
      return fail(context, "E0503", `\`${range.from}\` and \`${range.to}\` do not span a range`, node, {
        helps: range.kind === "backwards" ? [`\`@${range.to}..@${range.from}\``] : [],
      });
    const near = suggest(range.end, known);
    return fail(
      context,
      range.kind === "none" ? "E0502" : "E0503",
      range.kind === "none" ? `the network has no position \`${range.end}\`` : `\`${range.end}\` is several positions`,
      node,
      {
        helps: near === undefined ? [] : [`did you mean \`${near}\`?`],
        notes: [compressPositions(range.kind === "none" ? known : range.matches)],
      },
    );
  };
}

function ungraftedPositions({ model, given, choose, uses, context, bind }: Base): readonly string[] {
  const selection = new Map<string, Chosen>(given);
  // What is no graft may be needed to make the network: its first option does.
  const nowhere = (_: string, __: string, node: Expr): never =>
    fail(context, "E0804", "positions are chosen for grafts", node, {
      label: "no `with` of the model takes them",
      helps: ["`model = … with STIA at spots`"],
    });
  for (const item of choose) {
    const { name } = item.name;
    if (isGraft(uses, name)) {
      selection.set(name, { kind: "absent" });
      continue;
    }
    const factors: Factor[] = [];
    const choice = readChoice(
      item,
      factors,
      { between: nowhere, graft: undefined, names: new Set(selection.keys()) },
      context,
    );
    const levels = factors.map((_, i) => (i === 0 && choice.domain.kind === "one" && !choice.domain.optional ? 0 : 1));
    if (choice.domain.kind === "subset") levels.fill(0);
    selection.set(name, chosenAt(choice, levels, selection, context.module.source.text));
  }
  const { source } = context.module;
  const { expr } = substitute(model, selection, source.text);
  const made = makeCandidateModel(expr, context, bind, model);
  const [first = ""] = made.streams;
  return made.build.places.flatMap(({ path, aliases, values }) =>
    values.length === 0
      ? []
      : [path, ...aliases].flatMap((each) =>
          first === "" ? [each] : each.startsWith(`${first}.`) ? [each.slice(first.length + 1)] : [],
        ),
  );
}

/**
 * A model of a substituted expression. What is wrong with it is reported where `context` reports.
 * @param gates see `makeModel`
 */
export function makeCandidateModel(
  expr: Expr,
  { build: { program }, module }: Context,
  bind: ReadonlyMap<string, number>,
  node: Expr,
  gates?: ReadonlyMap<ast.With, number>,
): MadeModel {
  program.steps = 0;
  const context = topContext(newBuild(program, bind), module);
  return makeModel(program, evaluate(expr, context), module, node, MODEL, bind, gates);
}

/** What every candidate is called: names are part of a graph's text, not of what it computes. */
const MODEL = "Model";

/** `context` with reports of its own: what is said of one candidate is not said of the search. */
export function asideOf({ build: { program }, module, locals }: Context): Context {
  const aside: Program = { ...program, reports: newReports(), steps: 0 };
  return { ...topContext(newBuild(aside, new Map()), module), locals };
}

/** Whether `action` goes through without a word. */
export function tried<T>(context: Context, action: () => T): T | undefined {
  const value = attempt(action);
  return context.build.program.reports.diagnostics.some(({ severity }) => severity === "error") ? undefined : value;
}
