/**
 * From a source text to a search with its space, and from one of its candidates to a model with its recipe.
 *
 * A search is chosen by name, or it is the last one of the file. Everything is done at compile time: candidates that are
 * the same model are joined, those that break a requirement are kept with the reason, and those without and with all
 * attention are always there.
 */
import type * as ast from "../../grammar/ast.ts";
import { diagnostic } from "../../grammar/diagnostic.ts";
import type { Source } from "../../grammar/source.ts";
import { suggest } from "../../grammar/suggest.ts";
import { type ElaborateOptions, elaborateWith, finishModel } from "../elaborate/elaborate.ts";
import { attempt, fail, report, silent, spanOf, textOf } from "../elaborate/failure.ts";
import { type Module, type Program, parseOnce } from "../elaborate/modules.ts";
import type { Elaboration, Model, Resolve } from "../model.ts";
import type { Recipe } from "../recipe/recipe.ts";
import { showShape } from "../size.ts";
import { makerOf } from "./costs.ts";
import { gatedHeadline, type SuperNetwork, superNetworkOf } from "./gates.ts";
import { digest, isUnsound, type Made, type Maker } from "./made.ts";
import { extremeLevels, factorsOf, labelOf, modelAt, plainLevels, pointsOf, selectionAt } from "./points.ts";
import { type Called, recipesOf, resolved } from "./recipes.ts";
import { type Broken, brokenBy, shown } from "./requirements.ts";
import type { Candidate, Search } from "./search.ts";
import { startLevels } from "./starts.ts";
import { choosesGrafts, type Selection, substitute } from "./substitute.ts";
import { type WinnerOptions, winnerText } from "./winner.ts";
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
  // Most files have none, and their model need not be made once more to say so.
  if (!parseOnce(source).file.items.some(({ kind }) => kind === "Search")) return { searches: [], diagnostics: [] };
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
  const choices = item.statements.flatMap((each) => (each.kind === "Choose" ? [each.name.name] : []));
  const checked = { name: item.name.name, choices };
  // Without values for its parameters there is nothing more to check.
  if (item.params.some((param) => param.default === undefined)) return checked;
  const search = readSearch(item, module, program, { args: new Map(), bind: boundTo(options) });
  checkInputs(search);
  checkPrior(search);
  const models = new Models(search, []);
  for (const all of [true, false]) models.add(extremeLevels(search, all));
  if (models.found.length === 0) nothingSound(search, extremeLevels(search, true));
  checkRecipes(search, models, [], undefined);
  warnOfUnsound(search, models.unsound, undefined);
  return checked;
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
  const { folder, complete = true } = options;
  const { result, diagnostics } = searching(source, resolve, options, (search) => {
    const selection = selectionAt(search, levelsIn(search, options.levels));
    const model = modelFor({ ...search, bind: new Map(options.bind) }, selection);
    return { model, ...resolved(recipesOf(search)(selection), model, search, { folder, complete }) };
  });
  return { model: result?.model, diagnostics, recipe: result?.recipe, from: result?.from };
}

export interface SuperNetworkOptions extends SearchOptions {
  /** Levels of the candidates that it has gates for. */
  readonly points: readonly (readonly number[])[];
}

/** The super-network of some candidates of a search. */
export function superNetwork(
  source: Source,
  resolve: Resolve,
  options: SuperNetworkOptions,
): { readonly made: SuperNetwork | undefined; readonly diagnostics: Elaboration["diagnostics"] } {
  const { result, diagnostics } = searching(source, resolve, options, (search) => {
    const points = options.points.map((levels) => Uint8Array.from(levelsIn(search, levels)));
    const bound = { ...search, bind: new Map(options.bind) };
    return superNetworkOf(bound, points, { folder: options.folder, complete: true });
  });
  return { made: result, diagnostics };
}

/** A candidate as an ordinary source: the file without its searches, with the candidate's model and recipe at its end. */
export function winnerSource(
  source: Source,
  resolve: Resolve,
  options: CandidateOptions & WinnerOptions,
): { readonly text: string | undefined; readonly diagnostics: Elaboration["diagnostics"] } {
  const { result, diagnostics } = searching(source, resolve, options, (search) => {
    const selection = selectionAt(search, levelsIn(search, options.levels));
    return winnerText(search, selection, recipesOf(search)(selection), options);
  });
  return { text: result, diagnostics };
}

/** Levels from a study's store, which may be of another space. */
function levelsIn({ factors, context, item }: WrittenSearch, levels: readonly number[]): readonly number[] {
  const fit =
    levels.length === factors.length && factors.every((factor, i) => factor.levels[levels[i] ?? -1] !== undefined);
  if (fit) return levels;
  return fail(context, "E0802", "this candidate is not of this space", item.name, {
    label: `${factors.length} ${factors.length === 1 ? "factor" : "factors"}, and the candidate has levels ${levels.join(", ")}`,
    helps: ["the search has changed since the candidate was made"],
  });
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
        helps:
          near !== undefined
            ? [`did you mean \`${near}\`?`]
            : names.length === 0
              ? ["`search Where { choose spots in subsets(@conv1..@conv5) … }`"]
              : [],
        notes: names.length === 0 ? [] : [`its searches are ${names.join(", ")}`],
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

/** A model of the space, and the least that can be said of it. */
interface Found {
  readonly levels: Uint8Array;
  readonly made: Made;
  readonly called: Called;
}

/** Makes all points; of equal ones the one is kept of which least is said. */
class Models {
  readonly #search: WrittenSearch;
  readonly #make: Maker;
  readonly #recipe: (selection: Selection) => Called;
  readonly #found = new Map<string, Found>();
  readonly #unsound = new Map<string, string>();

  constructor(search: WrittenSearch, points: readonly Uint8Array[]) {
    this.#search = search;
    this.#make = makerOf(search, points);
    this.#recipe = recipesOf(search);
  }

  get found(): readonly Found[] {
    return [...this.#found.values()];
  }

  /** By label, why not. */
  get unsound(): ReadonlyMap<string, string> {
    return this.#unsound;
  }

  /** What tells a point from the others; undefined if it is no model. */
  identityOf(levels: Uint8Array): string | undefined {
    const made = this.#make(levels);
    return isUnsound(made) ? undefined : `${made.hash}\n${this.#recipe(selectionAt(this.#search, levels)).key}`;
  }

  add(point: Uint8Array): string | undefined {
    const selection = selectionAt(this.#search, point);
    const levels = plainLevels(this.#search, point, selection);
    const called = this.#recipe(selection);
    const made = this.#make(point);
    if (isUnsound(made)) {
      this.#unsound.set(labelOf(this.#search, selection), made.unsound);
      return undefined;
    }
    const identity = `${made.hash}\n${called.key}`;
    const before = this.#found.get(identity);
    if (before === undefined || said(levels) < said(before.levels)) this.#found.set(identity, { levels, made, called });
    return identity;
  }

  /** Takes a model out that its recipe cannot train. */
  drop(found: Found, reason: string): void {
    this.#found.delete(`${found.made.hash}\n${found.called.key}`);
    this.#unsound.set(labelOf(this.#search, selectionAt(this.#search, found.levels)), reason);
  }

  at(identity: string | undefined): Found | undefined {
    return identity === undefined ? undefined : this.#found.get(identity);
  }
}

function said(levels: ArrayLike<number>): number {
  return Array.from(levels).filter((level) => level !== 0).length;
}

function searchOf(search: WrittenSearch, options: SearchOptions): Search {
  const { context, values, limits, name, uses } = search;
  const points = pointsOf(search);
  checkInputs(search);
  checkPrior(search);
  const models = new Models(search, points);
  for (const levels of points) models.add(levels);
  const [none, all] = choosesGrafts(uses) ? [false, true].map((every) => models.add(extremeLevels(search, every))) : [];
  if (models.found.length === 0) nothingSound(search, points[0] ?? []);
  const epochs = checkRecipes(search, models, [none, all], options.folder);
  const found = models.found;
  const figures = { none: models.at(none)?.made.costs, all: models.at(all)?.made.costs };
  const broken = found.map(({ levels, made: { costs } }) =>
    brokenBy(search, selectionAt(search, levels), { model: costs, ...figures }),
  );
  const candidates = found.map(
    ({ levels, made: { costs, hash }, called: { key } }, index): Candidate => ({
      index,
      levels: [...levels],
      label: labelOf(search, selectionAt(search, levels)),
      hash: digest(`${hash}\n${key}`),
      costs,
      refused: broken[index]?.text,
    }),
  );
  if (broken.every((each) => each !== undefined)) nothingFeasible(search, candidates, broken);
  warnOfUnsound(search, models.unsound, points.length);
  if (values.prior.value !== undefined) {
    const given = { folder: options.folder, complete: false };
    superNetworkOf(
      search,
      found.map(({ levels }) => levels),
      given,
    );
  }
  const indexOf = (identity: string | undefined): number | undefined => {
    const of = models.at(identity);
    return of === undefined ? undefined : found.indexOf(of);
  };
  const { replicates, from } = values.seeds.value;
  return {
    name,
    space: {
      factors: search.factors,
      candidates,
      points: points.length,
      none: indexOf(none),
      all: indexOf(all),
      modelFactors: factorsOf(
        search,
        uses.occurrences.map((each) => each.name),
      ),
      unsound: [...models.unsound].map(([label, reason]) => ({ label, reason })),
    },
    objectives: search.objectives,
    requirements: [
      ...search.requires.map((test) => textOf(context, test)),
      ...Object.entries(limits).flatMap(([of, { value }]) => {
        if (value === undefined) return [];
        return [`${of} <= ${of === "latency" ? `${shown(1000 * value)} ms` : shown(value)}`];
      }),
    ],
    latencyLimit: limits.latency.value === undefined ? undefined : 1000 * limits.latency.value,
    method: values.method.value,
    ...(values.prior.value === undefined
      ? {}
      : {
          prior: {
            epochs: values.prior.value.epochs ?? 2 * epochs,
            scores: values.prior.value.scores,
          },
        }),
    spend: values.spend.value,
    replicates,
    rungs: values.rungs.value,
    epochs,
    seed: from,
    starts: startsOf(search, models, indexOf),
    randomBaseline: values.baseline.value.some(({ value }) => value.kind === "random"),
  };
}

/** Without grafts a headline may see other inputs than with them: then its candidates could not share one data set. */
function checkInputs(search: WrittenSearch): void {
  if (!choosesGrafts(search.uses)) return;
  const [bare, full] = [false, true].map((all) => {
    const aside = asideOf(search.context);
    return tried(aside, () => {
      const { expr } = modelAt(search, selectionAt(search, extremeLevels(search, all)));
      const { inputs } = makeCandidateModel(expr, aside, search.bind, search.model).graph;
      return inputs.map(({ attrs, shape }) => `${attrs.name}: ${showShape(shape)}`).join(", ");
    });
  });
  if (bare === undefined || full === undefined || bare === full) return;
  fail(search.context, "E0802", "the candidates do not all see the same inputs", search.model, {
    label: "what its streams see depends on its grafts",
    notes: [`without grafts they are ${bare}`, `with all of them ${full}`],
    helps: ["say what they see: `… ×2 over spatial: RGB, temporal: Flow with …`"],
  });
}

/** Says of a point why it is no model, where the search's own reports are. */
function nothingSound(search: WrittenSearch, levels: ArrayLike<number>): never {
  const { expr } = modelAt(search, selectionAt(search, levels));
  makeCandidateModel(expr, search.context, search.bind, search.model);
  return silent();
}

function nothingFeasible(
  { context, item }: WrittenSearch,
  candidates: readonly Candidate[],
  broken: readonly (Broken | undefined)[],
): never {
  let nearest = 0;
  for (const [i, each] of broken.entries())
    if ((each?.excess ?? Infinity) < (broken[nearest]?.excess ?? Infinity)) nearest = i;
  const candidate = candidates[nearest];
  const count = candidates.length;
  return fail(context, "E0801", "no model of this space meets its requirements", item.name, {
    label: count === 1 ? "its only model is refused" : `${count} different models, all refused`,
    notes: candidate === undefined ? [] : [`the nearest is \`${candidate.label}\`: ${broken[nearest]?.text ?? ""}`],
  });
}

/** Says which points are left out, for each reason the first. */
function warnOfUnsound(
  { context, item }: WrittenSearch,
  unsound: ReadonlyMap<string, string>,
  points: number | undefined,
): void {
  if (unsound.size === 0) return;
  const first = new Map<string, string>();
  for (const [label, reason] of unsound) if (!first.has(reason)) first.set(reason, label);
  const notes = [...first].slice(0, 3).map(([reason, label]) => `\`${label}\`: ${reason}`);
  const more = first.size - notes.length;
  const what =
    points === undefined
      ? "points of this space are"
      : unsound.size === 1
        ? "one point of this space is"
        : `${unsound.size} points of this space are`;
  report(
    context.build.program.reports,
    diagnostic("W0802", `${what} left out`, spanOf(context, item.name), {
      label: points === undefined ? "" : `${points} points in all`,
      notes: [...notes, ...(more > 0 ? [`and ${more} other ${more === 1 ? "reason" : "reasons"}`] : [])],
    }),
  );
}

// ------------------------------------------------------------------------------------------------------------- recipes

/** Models on which each recipe is tried: the first that has it, and those without and with all grafts. */
const MOST_RECIPES = 256;

/** Tries the recipes on models of the space; gives the epochs of a training, which must be the same for all. */
function checkRecipes(
  search: WrittenSearch,
  models: Models,
  extremes: readonly (string | undefined)[],
  folder: string | undefined,
): number {
  const { context } = search;
  const special = new Set(extremes.map((identity) => models.at(identity)));
  const seen = new Set<string>();
  let epochs: number | undefined;
  for (const found of models.found) {
    const { called, levels } = found;
    if (seen.size >= MOST_RECIPES) break;
    if (seen.has(called.key) && !special.has(found)) continue;
    const aside = asideOf(context);
    const given = { folder, complete: false };
    const made = tried(aside, () => {
      const model = modelFor({ ...search, context: aside }, selectionAt(search, levels));
      return resolved(called, model, { ...search, context: aside }, given).recipe;
    });
    if (made === undefined) {
      const [first] = aside.build.program.reports.diagnostics;
      // Nothing can be trained: said where the search's own reports are.
      if (models.found.length === 1) {
        resolved(called, modelFor(search, selectionAt(search, levels)), search, given);
        silent();
      }
      models.drop(found, first === undefined ? "its recipe cannot train it" : `${first.code}: ${first.message}`);
      continue;
    }
    seen.add(called.key);
    const own = made.stages.reduce((sum, stage) => sum + stage.epochs, 0);
    epochs ??= own;
    if (own !== epochs)
      fail(context, "E0802", "the candidates are not trained equally long", search.recipe ?? search.item.name, {
        label: `${epochs} epochs and ${own}`,
        notes: ["trainings of different lengths cannot be compared, and the budget is counted in trainings"],
      });
    checkRungs(search, made, epochs);
    checkStages(search, made);
  }
  return epochs ?? 0;
}

function modelFor({ context, module, bind, model }: WrittenSearch, selection: Selection): Model {
  const { program } = context.build;
  const { expr } = substitute(model, selection, module.source.text);
  return finishModel(makeCandidateModel(expr, context, bind, model), module, program);
}

function checkRungs({ values, context }: WrittenSearch, recipe: Recipe, epochs: number): void {
  const { value: rungs, at } = values.rungs;
  const last = rungs.at(-1);
  if (last === undefined) return;
  const wrong =
    recipe.stages.length > 1
      ? { message: "a recipe in stages has no rungs: its stages differ", help: "leave `rungs` out" }
      : last >= epochs
        ? { message: `a training has ${epochs} epochs, so none is left after ${last}`, help: "the full one is no rung" }
        : undefined;
  if (wrong === undefined) return;
  report(context.build.program.reports, diagnostic("E0802", wrong.message, at, { helps: [wrong.help] }));
}

/** Only the Gaussian process has a mean to begin with, and only grafts have gates. */
function checkPrior(search: WrittenSearch): void {
  const { values, context } = search;
  if (values.prior.value === undefined) return;
  const { kind } = values.method.value;
  if (kind !== "auto" && kind !== "gp")
    fail(context, "E0802", "only the Gaussian process takes a prior", values.prior.at, {
      secondary: [{ span: spanOf(context, values.method.at), text: "this method looks at trainings alone" }],
      helps: ["`method = GP`, or leave `prior` out"],
    });
  gatedHeadline(search);
}

function checkStages({ values, context }: WrittenSearch, { stages }: Recipe): void {
  if (values.prior.value === undefined || stages.length < 2) return;
  fail(context, "E0802", "a recipe in stages trains no super-network", values.prior.at, {
    notes: ["what its stages freeze and set free is meant for one network"],
    helps: ["leave `prior` out"],
  });
}

function startsOf(
  search: WrittenSearch,
  models: Models,
  indexOf: (identity: string | undefined) => number | undefined,
): readonly number[] {
  const starts: number[] = [];
  for (const { value } of search.values.baseline.value) {
    if (value.kind !== "start") continue;
    const levels = startLevels(search, value);
    const index = indexOf(models.identityOf(levels));
    if (index === undefined)
      return fail(search.context, "E0802", "this start is no point of the space", value.expr, {
        notes: [`it would be \`${labelOf(search, selectionAt(search, levels))}\``],
      });
    if (!starts.includes(index)) starts.push(index);
  }
  return starts;
}
