/**
 * From a source text to a search with its space, and from one of its candidates to a model with its recipe.
 *
 * A search is chosen by name, or it is the last one of the file. Everything is done at compile time: candidates that are
 * the same model are joined, those that break a requirement are kept with the reason, and those without and with all
 * attention are always there.
 */
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import type * as ast from "../../grammar/ast.ts";
import type { Expr } from "../../grammar/ast.ts";
import { diagnostic } from "../../grammar/diagnostic.ts";
import type { Source } from "../../grammar/source.ts";
import { suggest } from "../../grammar/suggest.ts";
import { evaluate } from "../elaborate/core.ts";
import { type ElaborateOptions, elaborateWith, finishModel } from "../elaborate/elaborate.ts";
import { attempt, fail, report, spanOf, textOf } from "../elaborate/failure.ts";
import type { Module, Program } from "../elaborate/modules.ts";
import { describe } from "../elaborate/types.ts";
import type { Elaboration, Model, Resolve } from "../model.ts";
import { defaultRecipe, namedRecipe } from "../recipe/elaborate.ts";
import { headOf } from "../recipe/kinds.ts";
import type { Recipe } from "../recipe/recipe.ts";
import { type Declared, resolveRecipe } from "../recipe/resolve.ts";
import { showShape } from "../size.ts";
import type { Candidate, CandidateCosts, Search, Space } from "./search.ts";
import {
  brokenBy,
  extremeLevels,
  type Figures,
  type Made,
  makePoint,
  makePoints,
  modelAt,
  pointAt,
  pointsOf,
  selectionAt,
  shown,
} from "./space.ts";
import { startLevels } from "./starts.ts";
import { type Selection, substitute } from "./substitute.ts";
import { asideOf, makeCandidateModel, readSearch, tried, type WrittenSearch } from "./written.ts";

export interface SearchOptions extends ElaborateOptions {
  /** Name of a search of the file; undefined: the last one. */
  readonly search?: string;
  /** Values of the search's parameters, as the source would write them. */
  readonly args?: ReadonlyMap<string, string>;
  /** The folder of the clips; it goes before the recipe's own. */
  readonly folder?: string;
}

export interface SearchElaboration {
  /** Undefined if there were errors, or the file has no search. */
  readonly search: Search | undefined;
  readonly diagnostics: Elaboration["diagnostics"];
  /** The texts that the search is made of, the entry first; those of the standard library belong to netc. */
  readonly sources: readonly Source[];
}

/** The search of `source` and its whole space. Never throws; what is wrong is among the diagnostics. */
export function elaborateSearch(source: Source, resolve: Resolve, options: SearchOptions = {}): SearchElaboration {
  let sources: readonly Source[] = [source];
  const { result, diagnostics } = searching(source, resolve, options, (written) => {
    sources = sourcesOf(written);
    return searchOf(written, options);
  });
  return { search: result, diagnostics, sources };
}

/** A search that was checked without enumerating its space. */
export interface CheckedSearch {
  readonly name: string;
  readonly choices: readonly string[];
}

/** All searches that are written in `source`, checked as far as they can be without enumerating them. */
export function checkSearches(
  source: Source,
  resolve: Resolve,
  options: ElaborateOptions = {},
): { readonly searches: readonly CheckedSearch[]; readonly diagnostics: Elaboration["diagnostics"] } {
  const { result, diagnostics } = elaborateWith(source, resolve, options, {
    target: () => undefined,
    then: ({ module, program }) =>
      ownSearches(module).flatMap((item) => attempt(() => checkedSearch(item, module, program, options)) ?? []),
  });
  return { searches: result ?? [], diagnostics };
}

function checkedSearch(
  item: ast.Search,
  module: Module,
  program: Program,
  options: ElaborateOptions,
): CheckedSearch | undefined {
  // Without values for its parameters there is nothing to check yet.
  if (item.params.some((param) => param.default === undefined)) return undefined;
  const written = readSearch(item, module, program, { args: new Map(), bind: boundTo(options) });
  checkInputs(written);
  const levels = extremeLevels(written, true);
  const { expr } = modelAt(written, selectionAt(written, levels));
  makeCandidateModel(expr, written.context, written.bind, written.model);
  recipeAt(written, levels, { folder: undefined, complete: false });
  return { name: written.name, choices: written.choices.map(({ name }) => name) };
}

export interface CandidateOptions extends SearchOptions {
  readonly levels: readonly number[];
  /** Whether a training is to begin: then the recipe must say everything. */
  readonly complete?: boolean;
}

export interface CandidateElaboration extends Elaboration {
  readonly recipe: Recipe | undefined;
  /** The file that the recipe is written in, which its relative folder is taken from. */
  readonly from: Source | undefined;
}

/** One candidate's model and recipe. Nothing else of the space is made. */
export function candidateOf(source: Source, resolve: Resolve, options: CandidateOptions): CandidateElaboration {
  const { folder, levels, complete = true } = options;
  const { result, diagnostics } = searching(source, resolve, options, (written) => {
    const { expr } = modelAt(written, selectionAt(written, levels));
    const made = makeCandidateModel(expr, written.context, new Map(options.bind), written.model);
    const model = finishModel(made, written.module, written.program);
    const chosen = recipeAt(written, levels, { folder, complete }, model);
    return { model, ...chosen };
  });
  return { model: result?.model, diagnostics, recipe: result?.recipe, from: result?.from };
}

/** A candidate as an ordinary source: the file without its searches, and one model more. */
export function winnerSource(
  source: Source,
  resolve: Resolve,
  options: CandidateOptions & {
    /** How a file is imported from where the winner will lie; undefined: as it was. */
    readonly importPath?: (written: string) => string;
  },
): { readonly text: string | undefined; readonly diagnostics: Elaboration["diagnostics"] } {
  const { result, diagnostics } = searching(source, resolve, options, (written) => {
    const selection = selectionAt(written, options.levels);
    const { text } = modelAt(written, selection);
    const name = freeName(written.module, `${written.name}Winner`);
    const recipe = written.recipe === undefined ? undefined : substitute(written.recipe, selection, source.text);
    const lines = [withoutSearches(written.module, options.importPath), ""];
    lines.push(`/// Found by the search \`${written.name}\`: ${labelOf(written, options.levels, selection)}.`);
    if (recipe !== undefined) lines.push(`/// Trained by ${recipe.text}.`);
    lines.push(`model ${name} = ${text}`, "");
    return lines.join("\n");
  });
  return { text: result, diagnostics };
}

// ------------------------------------------------------------------------------------------------------- which search

function boundTo({ bind }: ElaborateOptions): ReadonlyMap<string, number> {
  return new Map([["N", 1], ...(bind ?? [])]);
}

function searching<T>(
  source: Source,
  resolve: Resolve,
  options: SearchOptions,
  then: (written: WrittenSearch) => T,
): { readonly result: T | undefined; readonly diagnostics: Elaboration["diagnostics"] } {
  return elaborateWith(source, resolve, options, {
    target: () => undefined,
    then: ({ module, program }) =>
      attempt(() => {
        const item = chosenSearch(module, program, options.search);
        const given = { args: options.args ?? new Map<string, string>(), bind: boundTo(options) };
        return item === undefined ? undefined : then(readSearch(item, module, program, given));
      }),
  });
}

function ownSearches(module: Module): readonly ast.Search[] {
  return module.file.items.filter((item) => item.kind === "Search");
}

function chosenSearch(module: Module, program: Program, wanted: string | undefined): ast.Search | undefined {
  const searches = ownSearches(module);
  const found = wanted === undefined ? searches.at(-1) : searches.find(({ name }) => name.name === wanted);
  if (found !== undefined) return found;
  const names = searches.map(({ name }) => name.name);
  const near = wanted === undefined ? undefined : suggest(wanted, names);
  report(
    program.reports,
    diagnostic(
      "E0802",
      wanted === undefined ? "this file has no search" : `this file has no search \`${wanted}\``,
      { source: module.source, start: 0, end: 0 },
      {
        helps: near === undefined ? [] : [`did you mean \`${near}\`?`],
        notes: [names.length === 0 ? "it has none" : `its searches are ${names.join(", ")}`],
      },
    ),
  );
  return undefined;
}

function sourcesOf({ module, program }: WrittenSearch): readonly Source[] {
  const others = [...program.modules.values()].map(({ source }) => source);
  return [module.source, ...others.filter((each) => each !== module.source && !each.path.startsWith("std/"))];
}

// -------------------------------------------------------------------------------------------------------------- space

interface Found {
  readonly levels: Uint8Array;
  readonly made: Made;
  readonly identity: string;
}

function searchOf(written: WrittenSearch, options: SearchOptions): Search {
  const { context, values, limits } = written;
  const points = pointsOf(written);
  const extremes =
    written.grafts.all.size === 0 ? [] : [false, true].map((all) => pointAt(written, extremeLevels(written, all)));
  const made = makePoints(written, [...points, ...extremes]);
  const found = new Map<string, Found>();
  const keep = (levels: Uint8Array, point: Made | { readonly refused: string }): string | undefined => {
    if ("refused" in point) return undefined;
    const identity = identityOf(written, levels, point);
    const before = found.get(identity);
    // Of equal models the one is kept in whose description least is said.
    if (before === undefined || present(levels) < present(before.levels))
      found.set(identity, { levels, made: point, identity });
    return identity;
  };
  const identities = [...points, ...extremes].map(({ levels }, i) => {
    const point = made[i];
    return point === undefined ? undefined : keep(levels, point);
  });
  const [none, all] = identities.slice(points.length);
  checkInputs(written);
  if (found.size === 0) {
    // Said again of the first point, where the search's own reports are.
    const { expr } = modelAt(written, selectionAt(written, points[0]?.levels ?? []));
    makeCandidateModel(expr, context, written.bind, written.model);
    fail(context, "E0801", "no point of this space is a model", written.item.name);
  }
  const costsOf = (identity: string | undefined): CandidateCosts | undefined =>
    identity === undefined ? undefined : found.get(identity)?.made.costs;
  const kept = [...found.values()];
  const broken = kept.map(({ levels, made: { costs } }) =>
    brokenBy(written, levels, { model: costs, none: costsOf(none), all: costsOf(all) } satisfies Figures),
  );
  const candidates = kept.map(({ levels, made: { costs, hash } }, index): Candidate => {
    const selection = selectionAt(written, levels);
    return {
      index,
      levels: [...levels],
      label: labelOf(written, levels, selection),
      hash: digest(`${hash}\n${recipeText(written, selection)}`),
      costs,
      refused: broken[index]?.text,
    };
  });
  if (broken.every((each) => each !== undefined)) nothingFeasible(written, candidates, broken);
  const indexOf = (identity: string | undefined): number | undefined => {
    const index = kept.findIndex((each) => each.identity === identity);
    return index < 0 ? undefined : index;
  };
  const space: Space = {
    factors: written.factors,
    candidates,
    points: points.length,
    none: indexOf(none),
    all: indexOf(all),
  };
  const first = candidates.find(({ refused }) => refused === undefined);
  const { recipe } = recipeAt(written, first?.levels ?? [], { folder: options.folder, complete: false });
  const epochs = recipe.stages.reduce((sum, stage) => sum + stage.epochs, 0);
  checkRungs(written, recipe, epochs);
  const { replicates, from } = values.seeds.value;
  return {
    name: written.name,
    space,
    objectives: written.objectives,
    requirements: [
      ...written.requires.map((test) => textOf(context, test)),
      ...Object.entries(limits).flatMap(([name, { value }]) =>
        value === undefined ? [] : [`${name} <= ${shown(value)}`],
      ),
    ],
    latencyLimit: limits.latency.value === undefined ? undefined : 1000 * limits.latency.value,
    method: values.method.value,
    spend: values.spend.value,
    replicates,
    rungs: values.rungs.value,
    epochs,
    seed: from,
    starts: startsOf(written, kept),
    randomBaseline: values.baseline.value.some(({ value }) => value.kind === "random"),
  };
}

/** Without grafts a headline may see other inputs than with them: then its candidates could not share one data set. */
function checkInputs(written: WrittenSearch): void {
  if (written.grafts.all.size === 0) return;
  const seen = [false, true].map((all) => {
    const aside = asideOf(written.context);
    return tried(aside, () => {
      const { expr } = modelAt(written, selectionAt(written, extremeLevels(written, all)));
      const { inputs } = makeCandidateModel(expr, aside, written.bind, written.model).graph;
      return inputs.map(({ attrs, shape }) => `${attrs.name}: ${showShape(shape)}`).join(", ");
    });
  });
  const [bare, full] = seen;
  if (bare === undefined || full === undefined || bare === full) return;
  fail(written.context, "E0802", "the candidates do not all see the same inputs", written.model, {
    label: "what its streams see depends on its grafts",
    notes: [`without grafts they are ${bare}`, `with all of them ${full}`],
    helps: ["say what they see: `… ×2 over spatial: RGB, temporal: Flow with …`"],
  });
}

function present(levels: ArrayLike<number>): number {
  return Array.from(levels).filter((level) => level !== 0).length;
}

function digest(text: string): string {
  return bytesToHex(sha256(utf8ToBytes(text)));
}

function recipeText({ recipe, module }: WrittenSearch, selection: Selection): string {
  return recipe === undefined ? "" : substitute(recipe, selection, module.source.text).text;
}

function identityOf(written: WrittenSearch, levels: ArrayLike<number>, { hash }: Made): string {
  return `${hash}\n${recipeText(written, selectionAt(written, levels))}`;
}

/** `joint=STIA(reduction=4), spots={conv3, conv4}, lr=0.001`; `none` stands for all grafts where there is none. */
function labelOf({ choices, grafts }: WrittenSearch, _levels: ArrayLike<number>, selection: Selection): string {
  const words = choices.flatMap(({ name }): readonly { readonly name: string; readonly text: string }[] => {
    const chosen = selection.get(name);
    if (chosen === undefined || chosen.kind === "absent") return [];
    if (chosen.kind === "some")
      return chosen.items.length === 0
        ? []
        : [{ name, text: `{${chosen.items.map(({ text }) => text.replace(/^@/, "")).join(", ")}}` }];
    return chosen.expr.kind === "None" ? [] : [{ name, text: chosen.text.replace(/^@/, "") }];
  });
  const bare = grafts.all.size > 0 && !words.some(({ name }) => grafts.all.has(name));
  return [...(bare ? ["none"] : []), ...words.map(({ name, text }) => `${name}=${text}`)].join(", ");
}

function nothingFeasible(
  written: WrittenSearch,
  candidates: readonly Candidate[],
  broken: readonly ({ readonly text: string; readonly excess: number } | undefined)[],
): never {
  let nearest = 0;
  for (const [i, each] of broken.entries())
    if ((each?.excess ?? Infinity) < (broken[nearest]?.excess ?? Infinity)) nearest = i;
  const candidate = candidates[nearest];
  return fail(written.context, "E0801", "no model of this space meets its requirements", written.item.name, {
    label: `${candidates.length} different models, all refused`,
    notes: candidate === undefined ? [] : [`the nearest is \`${candidate.label}\`: ${broken[nearest]?.text ?? ""}`],
  });
}

function checkRungs({ values, context }: WrittenSearch, recipe: Recipe, epochs: number): void {
  const { value: rungs, at } = values.rungs;
  const last = rungs.at(-1);
  if (last === undefined) return;
  const wrong =
    last >= epochs
      ? {
          message: `a training ends after ${epochs} epochs, so ${last} are no part of it`,
          help: "leave the last one out",
        }
      : recipe.stages.length > 1
        ? { message: "a recipe in stages has no rungs: its stages differ", help: "leave `rungs` out" }
        : undefined;
  if (wrong === undefined) return;
  report(context.build.program.reports, diagnostic("E0802", wrong.message, at, { helps: [wrong.help] }));
}

function startsOf(written: WrittenSearch, kept: readonly Found[]): readonly number[] {
  const starts: number[] = [];
  for (const { value } of written.values.baseline.value) {
    if (value.kind !== "start") continue;
    const levels = startLevels(written, value);
    const point = makePoint(written, levels);
    const identity = "refused" in point ? undefined : identityOf(written, levels, point);
    const { text } = pointAt(written, levels);
    const index = kept.findIndex((each) => each.identity === identity || pointAt(written, each.levels).text === text);
    if (index < 0)
      fail(written.context, "E0802", "this start is no point of the space", value.expr, {
        notes: [`it would be \`${labelOf(written, levels, selectionAt(written, levels))}\``],
      });
    if (!starts.includes(index)) starts.push(index);
  }
  return starts;
}

// -------------------------------------------------------------------------------------------------------------- recipe

interface RecipeGiven {
  readonly folder: string | undefined;
  readonly complete: boolean;
}

/** The recipe that trains a candidate. */
function recipeAt(
  written: WrittenSearch,
  levels: ArrayLike<number>,
  { folder, complete }: RecipeGiven,
  model?: Model,
): { readonly recipe: Recipe; readonly from: Source } {
  const { context, module, program } = written;
  const selection = selectionAt(written, levels);
  const at = spanOf(context, written.model);
  const subject = model ?? modelFor(written, selection);
  const { declared, args } =
    written.recipe === undefined
      ? { declared: { item: defaultRecipe(at), module }, args: new Map<string, number | string | boolean>() }
      : calledRecipe(substitute(written.recipe, selection, module.source.text).expr, written);
  const recipe = resolveRecipe(declared, { model: subject, at }, { args, folder, complete }, program);
  if (recipe === undefined) return fail(context, "E0802", "this recipe cannot train the candidates", written.item.name);
  return { recipe, from: declared.module.source };
}

function modelFor(written: WrittenSearch, selection: Selection): Model {
  const { expr } = modelAt(written, selection);
  const made = makeCandidateModel(expr, written.context, written.bind, written.model);
  return finishModel(made, written.module, written.program);
}

/** `Train(lr=lr)`: the recipe of that name, and the values of its parameters. */
function calledRecipe(
  expr: Expr,
  { context, module, program }: WrittenSearch,
): { readonly declared: Declared; readonly args: ReadonlyMap<string, number | string | boolean> } {
  const name = headOf(expr);
  if (name === undefined || (expr.kind !== "Name" && expr.kind !== "Call"))
    return fail(context, "E0802", `\`recipe\` takes a recipe, this is \`${textOf(context, expr)}\``, expr, {
      helps: ["`recipe = Train(lr=lr)`"],
    });
  const declared = namedRecipe(name, module, program);
  if (declared === undefined) return fail(context, "E0201", `nothing here is a recipe called \`${name}\``, expr);
  const args = new Map<string, number | string | boolean>();
  for (const [i, arg] of (expr.kind === "Call" ? expr.args : []).entries()) {
    const key = arg.name?.name ?? declared.item.params[i]?.name.name;
    const value = evaluate(arg.value, context);
    if (typeof value !== "number" && typeof value !== "string" && typeof value !== "boolean")
      return fail(context, "E0802", `a recipe takes numbers and texts, this is ${describe(value)}`, arg.value);
    if (key === undefined) return fail(context, "E0401", `\`${name}\` takes no more arguments`, arg);
    args.set(key, value);
  }
  return { declared, args };
}

// -------------------------------------------------------------------------------------------------------------- winner

function freeName(module: Module, wanted: string): string {
  const taken = new Set(module.names.keys());
  let name = wanted;
  for (let n = 2; taken.has(name); n++) name = `${wanted}${n}`;
  return name;
}

/** The file's text without its searches and a bare headline, which a file has one of. */
function withoutSearches({ file, source }: Module, importPath: ((written: string) => string) | undefined): string {
  const cuts: { start: number; end: number; text: string }[] = [];
  for (const item of file.items) {
    if (item.kind === "Search" || item.kind === "BareModel")
      cuts.push({ start: beginningOf(source.text, item.start), end: item.end, text: "" });
    if ((item.kind === "Import" || item.kind === "ReExport") && importPath !== undefined) {
      const { from } = item;
      if (from.value.startsWith("."))
        cuts.push({ start: from.start, end: from.end, text: JSON.stringify(importPath(from.value)) });
    }
  }
  let text = "";
  let at = 0;
  for (const cut of cuts.sort((a, b) => a.start - b.start)) {
    text += source.text.slice(at, cut.start) + cut.text;
    at = cut.end;
  }
  return (text + source.text.slice(at)).replace(/\n{3,}/g, "\n\n").trimEnd();
}

/** Where the comments and attributes right before an item begin. */
function beginningOf(text: string, start: number): number {
  const before = text.slice(0, start);
  const [own = ""] = /(?:^[ \t]*(?:\/\/[^\n]*|#\[[^\n]*\])\n)*$/m.exec(before) ?? [];
  return start - own.length;
}
