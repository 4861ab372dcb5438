/**
 * The space of a search: all its points, as models.
 *
 * Every point is a choice of one level for each factor. A choice whose condition does not hold has none, so nothing
 * varies within what is absent. Points are made into models, which gives their exact costs and tells which of them are
 * the same model; only the first of those is kept. In large spaces not every point is made: a graft changes no shape, so
 * what it adds to parameters and FLOPs does not depend on the others, and costs are composed from the points with one.
 */
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import type { Expr } from "../../grammar/ast.ts";
import { truth } from "../elaborate/arithmetic.ts";
import { evaluate } from "../elaborate/core.ts";
import { fail } from "../elaborate/failure.ts";
import type { Context } from "../elaborate/values.ts";
import { activationPeak, costOf } from "../graph/cost.ts";
import { graphHash } from "../graph/hash.ts";
import type { Choice } from "./domain.ts";
import type { CandidateCosts } from "./search.ts";
import { type Chosen, chosenAt, mapped, type Selection, type Substituted, substitute } from "./substitute.ts";
import { asideOf, makeCandidateModel, tried, type WrittenSearch } from "./written.ts";

/** Points that are looked through at most: 2^17. */
const MOST_POINTS = 131_072;
/** Points that are made into models at most; beyond it costs are composed. */
const MOST_MADE = 4096;

/** A point, and what it is in words. */
interface Point {
  readonly levels: Uint8Array;
  /** The model's expression, as the source would write it. */
  readonly text: string;
}

/** A point made. */
export interface Made {
  readonly costs: CandidateCosts;
  /** Of the graph, or of the text where the point was not made. */
  readonly hash: string;
}

/** What the names of a search's choices stand for at a point. */
export function selectionAt(search: WrittenSearch, levels: ArrayLike<number>): Selection {
  const { source } = search.module;
  const selection = new Map<string, Chosen>(search.given);
  for (const choice of search.choices) selection.set(choice.name, chosenAt(choice, levels, source.text));
  return selection;
}

export function modelAt(search: WrittenSearch, selection: Selection): Substituted {
  return substitute(search.model, selection, search.module.source.text);
}

export function pointAt(search: WrittenSearch, levels: Uint8Array): Point {
  return { levels, text: modelAt(search, selectionAt(search, levels)).text };
}

// ---------------------------------------------------------------------------------------------------------- enumeration

/** All points of a search in the order of its choices, the last varying fastest. */
export function pointsOf(search: WrittenSearch): readonly Point[] {
  const { choices, factors, context } = search;
  const points: Point[] = [];
  const levels = new Uint8Array(factors.length);
  const selection = new Map<string, Chosen>(search.given);
  const conditions = new Map<string, boolean>();
  const go = (depth: number): void => {
    const choice = choices[depth];
    if (choice === undefined) {
      if (points.length >= MOST_POINTS)
        fail(context, "E0805", `this space has more than ${MOST_POINTS} points`, search.item.name, {
          label: "too large to be enumerated",
          helps: ["fewer members, `subsets(…, size=0..3)`, or fewer levels"],
        });
      points.push({ levels: levels.slice(), text: modelAt(search, selection).text });
      return;
    }
    const { when } = choice.item;
    const holds = when === undefined || holdsFor(when, selection, search, conditions);
    for (const set of levelsOf(choice, holds)) {
      for (const [factor, level] of set) levels[factor] = level;
      selection.set(choice.name, chosenAt(choice, levels, search.module.source.text));
      go(depth + 1);
      for (const [factor] of set) levels[factor] = 0;
    }
    selection.delete(choice.name);
  };
  go(0);
  return points;
}

type LevelSet = readonly (readonly [factor: number, level: number])[];

/** All ways in which one choice can be made; one, with everything absent, where its condition does not hold. */
function* levelsOf({ domain, item }: Choice, holds: boolean): Generator<LevelSet> {
  if (!holds) {
    yield [];
    return;
  }
  if (domain.kind === "subset") {
    const { factor, options, least, most } = domain;
    const pick = function* (from: number, chosen: LevelSet): Generator<LevelSet> {
      if (chosen.length >= least) yield chosen;
      if (chosen.length === most) return;
      for (let i = from; i < options.length; i++) yield* pick(i + 1, [...chosen, [factor + i, 1]]);
    };
    yield* pick(0, []);
    return;
  }
  const optional = domain.none || item.when !== undefined;
  if (domain.none) yield [[domain.factor, 0]];
  for (const [i, option] of domain.options.entries()) {
    const own: LevelSet = [[domain.factor, optional ? i + 1 : i]];
    yield* option.nested.reduce<readonly LevelSet[]>(
      (sets, { factor, options }) => sets.flatMap((set) => options.map((_, k): LevelSet => [...set, [factor, k + 1]])),
      [own],
    );
  }
}

function holdsFor(when: Expr, selection: Selection, search: WrittenSearch, known: Map<string, boolean>): boolean {
  const { source } = search.module;
  const key = `${when.start}:${substitute(when, selection, source.text).text}`;
  const before = known.get(key);
  if (before !== undefined) return before;
  const counted = mapped(when, (part) => (part.kind === "Call" ? countOf(part, selection, search) : undefined));
  const { expr, missing } = substitute(counted, selection, source.text);
  const [absent] = missing;
  if (absent !== undefined)
    fail(search.context, "E0803", `\`${absent.name}\` is not always chosen`, absent.at, {
      label: "absent where its own condition does not hold",
    });
  const holds = truth(expr, search.context);
  known.set(key, holds);
  return holds;
}

// ------------------------------------------------------------------------------------------------------- without and all

/** The levels without any graft that is chosen, or with all of them; everything else in its middle. */
export function extremeLevels(search: WrittenSearch, all: boolean): Uint8Array {
  const levels = new Uint8Array(search.factors.length);
  const selection = new Map<string, Chosen>(search.given);
  for (const choice of search.choices) {
    const { domain, item, name } = choice;
    const holds = item.when === undefined || all || holdsFor(item.when, selection, search, new Map());
    if (holds && domain.kind === "subset") domain.options.forEach((_, i) => (levels[domain.factor + i] = all ? 1 : 0));
    else if (holds && domain.kind === "one") {
      const first = domain.none || item.when !== undefined ? 1 : 0;
      const graft = search.grafts.all.has(name);
      const middle = Math.floor((domain.options.length - 1) / 2);
      const level = !graft ? middle + first : all || !domain.none ? first : 0;
      levels[domain.factor] = level;
      const option = domain.options[level - first];
      for (const { factor } of option?.nested ?? []) levels[factor] = 1;
    }
    selection.set(name, chosenAt(choice, levels, search.module.source.text));
  }
  return levels;
}

// --------------------------------------------------------------------------------------------------------------- costs

/** What a point costs, or why there is no such model. */
export function makePoint(search: WrittenSearch, levels: ArrayLike<number>): Made | { readonly refused: string } {
  const aside = asideOf(search.context);
  const { program } = aside.build;
  const made = tried(aside, () => {
    const { expr, missing } = modelAt(search, selectionAt(search, levels));
    reportMissing(missing, search, aside);
    const { graph } = makeCandidateModel(expr, aside, search.bind, search.model);
    const { total } = costOf(graph);
    const memory = activationPeak(graph);
    const { parameters, macs } = total;
    if (typeof parameters !== "number" || typeof macs !== "number" || memory === undefined)
      return fail(aside, "E0805", "sizes of this model are open, so its costs are not known", search.model, {
        helps: ["`--bind H=224` fixes one"],
      });
    return { costs: { params: parameters, flops: 2 * macs, memory }, hash: graphHash(graph) };
  });
  if (made !== undefined) return made;
  const [first] = program.reports.diagnostics;
  return { refused: first === undefined ? "it is no model" : `${first.code}: ${first.message}` };
}

function reportMissing(missing: Substituted["missing"], search: WrittenSearch, context: Context): void {
  const [absent] = missing;
  if (absent === undefined) return;
  const choice = search.choices.find(({ name }) => name === absent.name);
  const when = choice?.item.when;
  fail(context, "E0803", `\`${absent.name}\` is not always chosen`, absent.at, {
    label: "used here",
    secondary:
      when === undefined
        ? []
        : [
            {
              span: { source: search.module.source, start: when.start, end: when.end },
              text: "absent where this does not hold",
            },
          ],
    helps: ["give what uses it the same condition, or leave the condition out"],
  });
}

/** Costs and identities of points: of each by making it, or, if they are of a large space, composed. */
export function makePoints(
  search: WrittenSearch,
  points: readonly Point[],
): readonly (Made | { readonly refused: string })[] {
  if (points.length <= MOST_MADE) {
    const known = new Map<string, Made | { readonly refused: string }>();
    return points.map(({ levels, text }) => {
      const made = known.get(text) ?? makePoint(search, levels);
      known.set(text, made);
      return made;
    });
  }
  return composed(search, points);
}

/**
 * Composed costs. What one graft adds is taken from the point that has no other; parameters and FLOPs add up, and the
 * memory held at once is that of the graft that needs most, for each works after the one before. A unit that is chosen
 * apart from its positions is the same at all of them, so only the positions are taken one by one.
 */
function composed(search: WrittenSearch, points: readonly Point[]): readonly (Made | { readonly refused: string })[] {
  const { all, places, alone } = search.grafts;
  const parts = search.choices.flatMap(({ domain, name }): readonly (readonly number[])[] => {
    if (domain.kind === "subset") return places.has(name) ? domain.options.map((_, i) => [domain.factor + i]) : [];
    const nested = domain.options.flatMap((option) => option.nested.map(({ factor }) => factor));
    return all.has(name) && alone.has(name) && domain.none ? [[domain.factor, ...nested]] : [];
  });
  const known = new Map<string, Made | { readonly refused: string }>();
  const at = (levels: Uint8Array): Made | { readonly refused: string } => {
    const key = levels.join(",");
    const found = known.get(key) ?? makePoint(search, levels);
    known.set(key, found);
    return found;
  };
  return points.map(({ levels, text }) => {
    const bare = levels.slice();
    for (const part of parts) for (const factor of part) bare[factor] = 0;
    const base = at(bare);
    if ("refused" in base) return base;
    let { params, flops, memory } = base.costs;
    for (const part of parts) {
      if (levels[part[0] ?? 0] === 0) continue;
      const one = bare.slice();
      for (const factor of part) one[factor] = levels[factor] ?? 0;
      const single = at(one);
      if ("refused" in single) return single;
      params += single.costs.params - base.costs.params;
      flops += single.costs.flops - base.costs.flops;
      memory = Math.max(memory, single.costs.memory);
    }
    return { costs: { params, flops, memory }, hash: bytesToHex(sha256(utf8ToBytes(text))) };
  });
}

// -------------------------------------------------------------------------------------------------------- requirements

export interface Figures {
  readonly model: CandidateCosts;
  readonly none: CandidateCosts | undefined;
  readonly all: CandidateCosts | undefined;
}

/** The requirement that a candidate breaks, with the values of its sides, or undefined. */
export function brokenBy(
  search: WrittenSearch,
  levels: ArrayLike<number>,
  figures: Figures,
): { readonly text: string; readonly excess: number } | undefined {
  const { source } = search.module;
  for (const name of ["params", "flops", "memory"] as const) {
    const limit = search.limits[name].value;
    const value = figures.model[name];
    if (limit !== undefined && value > limit)
      return { text: `${name} ${shown(value)} is above the limit ${shown(limit)}`, excess: value / limit };
  }
  if (search.requires.length === 0) return undefined;
  const selection = selectionAt(search, levels);
  for (const test of search.requires) {
    const filled = mapped(test, (part) =>
      part.kind === "Call" ? figureOf(part, selection, figures, search) : undefined,
    );
    const { expr, missing } = substitute(filled, selection, source.text);
    reportMissing(missing, search, search.context);
    if (truth(expr, search.context)) continue;
    const text = source.text.slice(test.start, test.end).replace(/\s+/g, " ");
    const comparison = expr.kind === "Binary" ? expr : undefined;
    const sides = [comparison?.left, comparison?.right].map((side) =>
      side === undefined ? undefined : evaluate(side, search.context),
    );
    const [left, right] = sides;
    const numbers = typeof left === "number" && typeof right === "number";
    return {
      text: numbers ? `\`${text}\` does not hold: ${shown(left)} and ${shown(right)}` : `\`${text}\` does not hold`,
      excess: numbers && left > 0 && right > 0 ? Math.max(left / right, right / left) : Number.POSITIVE_INFINITY,
    };
  }
  return undefined;
}

const FIGURES = ["params", "flops", "memory"] as const;

/** `params(model)`, `flops(none)`, `count(spots)` as numbers. */
function figureOf(
  call: Expr & { readonly kind: "Call" },
  selection: Selection,
  figures: Figures,
  search: WrittenSearch,
): Expr | undefined {
  const { callee, args, start, end } = call;
  const name = callee.kind === "Name" ? callee.name : "";
  const of = args[0]?.value;
  const number = (value: number): Expr => ({ kind: "Number", text: String(value), value, start, end });
  if (name === "count") return countOf(call, selection, search);
  if (name === "latency")
    return fail(search.context, "E0802", "latency is measured, and a requirement is checked before", call, {
      helps: ["`limit { latency = 12ms }`"],
    });
  const figure = FIGURES.find((each) => each === name);
  if (figure === undefined) return undefined;
  const whose = of?.kind === "None" ? "none" : of?.kind === "Name" ? of.name : "";
  const costs =
    whose === "model" ? figures.model : whose === "none" ? figures.none : whose === "all" ? figures.all : undefined;
  if (costs === undefined)
    return fail(search.context, "E0802", `\`${name}\` takes \`model\`, \`none\` or \`all\``, of ?? call);
  return number(costs[figure]);
}

/** `count(spots)` as a number: members of a subset that are chosen, or whether something is. */
function countOf(
  { callee, args, start, end, ...call }: Expr & { readonly kind: "Call" },
  selection: Selection,
  search: WrittenSearch,
): Expr | undefined {
  if (callee.kind !== "Name" || callee.name !== "count") return undefined;
  const of = args[0]?.value;
  const chosen = of?.kind === "Name" ? selection.get(of.name) : undefined;
  if (chosen === undefined)
    return fail(
      search.context,
      "E0802",
      "`count` counts what a choice has chosen",
      of ?? { ...call, callee, args, start, end },
      {
        helps: ["`count(spots) <= 3`"],
      },
    );
  const value =
    chosen.kind === "some" ? chosen.items.length : chosen.kind === "absent" || chosen.expr.kind === "None" ? 0 : 1;
  return { kind: "Number", text: String(value), value, start, end };
}

export function shown(value: number): string {
  return Number.isInteger(value) ? value.toLocaleString("en") : String(Number(value.toPrecision(6)));
}
