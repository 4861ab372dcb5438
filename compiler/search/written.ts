/**
 * A `search` read: its choices, its model and recipe as expressions, its settings; no candidate has been made yet.
 *
 * Choices of positions need to know what positions there are, so the network is made once without its grafts, if and
 * when a range of positions asks.
 */
import type * as ast from "../../grammar/ast.ts";
import type { Expr } from "../../grammar/ast.ts";
import { parse } from "../../grammar/parser.ts";
import { suggest } from "../../grammar/suggest.ts";
import { evaluate } from "../elaborate/core.ts";
import { newBuild, topContext } from "../elaborate/draft.ts";
import { attempt, fail, newReports, silent, spanOf, textOf } from "../elaborate/failure.ts";
import { type MadeModel, makeModel } from "../elaborate/models.ts";
import type { Module, Program } from "../elaborate/modules.ts";
import type { Context } from "../elaborate/values.ts";
import { compressPositions, positionRange, shortestName } from "../positions.ts";
import { readDefault } from "../recipe/kinds.ts";
import { type Read, readSection, say } from "../recipe/sections.ts";
import { valMetric } from "../recipe/words.ts";
import { type Choice, readChoice } from "./domain.ts";
import type { Factor, Objective } from "./search.ts";
import { type Chosen, type GraftChoices, graftChoices, type Selection, substitute } from "./substitute.ts";
import { LIMIT, SEARCH } from "./words.ts";

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
  readonly grafts: GraftChoices;
  readonly model: Expr;
  readonly recipe: Expr | undefined;
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
  const context = topContext(newBuild(program, from.bind), module);
  const choose = item.statements.filter((each): each is ast.Choose => each.kind === "Choose");
  if (item.statements.some((each) => each.kind === "Error")) silent();
  const given = parametersOf(item, from.args, context);
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
  const grafts = graftChoices(model, names);
  const factors: Factor[] = [];
  const between = positionsOf({ model, names, given, choose, grafts, context, bind: from.bind });
  const choices = choose.map((each) => readChoice(each, factors, between, context));
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
    grafts,
    model,
    recipe,
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
    given.set(name.name, { kind: "one", expr, text: text ?? textOf(context, expr) });
  }
  return given;
}

/** A value from a command line, standing where the parameter does. */
function expressionOf(text: string, { start, end }: ast.Ident): Expr | undefined {
  const { file, diagnostics } = parse({ path: "<value>", text: `const it = ${text}` });
  const [item] = file.items;
  if (item?.kind !== "Const" || diagnostics.length > 0) return { kind: "String", value: text, start, end };
  return { ...item.value, start, end };
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
    { title: "a search", at, holds: ["limit"], also: EXPRESSIONS },
    context,
  );
  const [limit] = sections;
  const none: ast.Settings = { kind: "Settings", items: [], start, end };
  const limits = readSection(
    LIMIT,
    limit?.settings ?? none,
    { title: "`limit`", at: limit === undefined ? at : spanOf(context, limit.name), holds: [] },
    context,
  ).values;
  return { values, limits };
}

const COSTS = ["params", "flops", "memory", "latency"] as const;

function objectivesOf(item: ast.Search, context: Context): readonly Objective[] {
  const objectives = item.statements.flatMap((each) => (each.kind === "Objective" ? [objectiveOf(each, context)] : []));
  const metrics = objectives.filter(({ kind }) => kind === "metric");
  if (metrics.length > 1)
    fail(context, "E0802", "a search learns one metric; others may be costs", item.name, {
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

function objectiveOf({ how, value }: ast.Objective, context: Context): Objective {
  const name = value.kind === "Call" && value.callee.kind === "Name" ? value.callee.name : undefined;
  const cost = COSTS.find((each) => each === name);
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
  readonly names: ReadonlySet<string>;
  readonly given: Selection;
  readonly choose: readonly ast.Choose[];
  readonly grafts: GraftChoices;
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
      return fail(context, "E0503", `\`${range.from}\` and \`${range.to}\` do not span a range`, node);
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

function ungraftedPositions({ model, names, given, choose, grafts, context, bind }: Base): readonly string[] {
  const selection = new Map<string, Chosen>(given);
  for (const name of names) selection.set(name, { kind: "absent" });
  // What is no graft may be needed to make the network: its first option does.
  const ignored: Factor[] = [];
  const nowhere = (_: string, __: string, node: Expr): never =>
    fail(context, "E0804", "positions are chosen for grafts", node);
  for (const item of choose) {
    if (grafts.all.has(item.name.name)) continue;
    const { domain } = readChoice(item, ignored, nowhere, context);
    const [first] = domain.options;
    if (first !== undefined && domain.kind === "one") selection.set(item.name.name, { kind: "one", ...first });
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

/** A model of a substituted expression. What is wrong with it is reported where `context` reports. */
export function makeCandidateModel(
  expr: Expr,
  { build: { program }, module }: Context,
  bind: ReadonlyMap<string, number>,
  node: Expr,
): MadeModel {
  program.steps = 0;
  const context = topContext(newBuild(program, bind), module);
  return makeModel(program, evaluate(expr, context), module, node, MODEL, bind);
}

/** What every candidate is called: names are part of a graph's text, not of what it computes. */
const MODEL = "Model";

/** `context` with reports of its own: what is said of one candidate is not said of the search. */
export function asideOf({ build: { program }, module }: Context): Context {
  const aside: Program = { ...program, reports: newReports(), steps: 0 };
  return topContext(newBuild(aside, new Map()), module);
}

/** Whether `action` goes through without a word. */
export function tried<T>(context: Context, action: () => T): T | undefined {
  const value = attempt(action);
  return context.build.program.reports.diagnostics.some(({ severity }) => severity === "error") ? undefined : value;
}
