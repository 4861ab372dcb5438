/**
 * The points of a search, and which of them are the same model.
 *
 * Every point is a choice of one level for each factor. A choice whose condition does not hold has none, so nothing
 * varies within what is absent. Points are made into models, which gives their exact costs and tells which of them are
 * the same. In a large space not every point is made: a graft changes no shape, so what it adds to a network does not
 * depend on the other grafts, and costs and identities are composed from the points with one graft each. Some points are
 * made all the same, to see that this holds.
 */
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import type { Expr } from "../../grammar/ast.ts";
import { truth } from "../elaborate/arithmetic.ts";
import { fail } from "../elaborate/failure.ts";
import { costOf } from "../graph/cost.ts";
import { graphHash } from "../graph/hash.ts";
import type { Choice } from "./domain.ts";
import { countOf } from "./requirements.ts";
import type { CandidateCosts } from "./search.ts";
import {
  type Chosen,
  chosenAt,
  mapped,
  type Selection,
  type Substituted,
  substitute,
  usedAt,
} from "./substitute.ts";
import { asideOf, makeCandidateModel, tried, type WrittenSearch } from "./written.ts";

/** Points that are looked through at most: 2^17. */
const MOST_POINTS = 131_072;
/** Beyond so many points, costs are composed where they can be. */
const MOST_EACH = 256;
/** Models that are made at most: about a minute. */
const MOST_MADE = 4096;
/** Points that are made to see that costs compose. */
const TRIED = 12;

/** A point made. */
export interface Made {
  readonly costs: CandidateCosts;
  /** Of the graph, or of the graphs with one graft that the point is composed of. */
  readonly hash: string;
}

/** A point that is no model, and why. */
export interface Unsound {
  readonly unsound: string;
}

export function isUnsound(point: Made | Unsound): point is Unsound {
  return "unsound" in point;
}

/** What the names of a search's choices stand for at a point. */
export function selectionAt(search: WrittenSearch, levels: ArrayLike<number>): Selection {
  const { text } = search.module.source;
  const selection = new Map<string, Chosen>(search.given);
  for (const choice of search.choices) selection.set(choice.name, chosenAt(choice, levels, selection, text));
  return selection;
}

export function modelAt(search: WrittenSearch, selection: Selection): Substituted {
  return substitute(search.model, selection, search.module.source.text);
}

export function digest(text: string): string {
  return bytesToHex(sha256(utf8ToBytes(text)));
}

// ---------------------------------------------------------------------------------------------------------- enumeration

/** All points of a search in the order of its choices, the last varying fastest. */
export function pointsOf(search: WrittenSearch): readonly Uint8Array[] {
  const { choices, factors, context } = search;
  const { text } = search.module.source;
  const points: Uint8Array[] = [];
  const levels = new Uint8Array(factors.length);
  const selection = new Map<string, Chosen>(search.given);
  const conditions = new Map<string, boolean>();
  const go = (depth: number): void => {
    const choice = choices[depth];
    if (choice === undefined) {
      if (points.length >= MOST_POINTS)
        fail(context, "E0805", `this space has more than ${shownCount(MOST_POINTS)} points`, search.item.name, {
          label: "too large to be enumerated",
          helps: ["fewer members, `subsets(…, size=0..3)`, or fewer levels"],
        });
      points.push(levels.slice());
      return;
    }
    const { when } = choice.item;
    const holds = when === undefined || holdsFor(when, selection, search, conditions);
    for (const set of levelsOf(choice, holds)) {
      for (const [factor, level] of set) levels[factor] = level;
      selection.set(choice.name, chosenAt(choice, levels, selection, text));
      go(depth + 1);
      for (const [factor] of set) levels[factor] = 0;
    }
    selection.delete(choice.name);
  };
  go(0);
  return points;
}

function shownCount(count: number): string {
  return count.toLocaleString("en");
}

type LevelSet = readonly (readonly [factor: number, level: number])[];

/** All ways in which one choice can be made; one, with everything absent, where its condition does not hold. */
function* levelsOf({ domain }: Choice, holds: boolean): Generator<LevelSet> {
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
  if (domain.none) yield [[domain.factor, 0]];
  for (const [i, option] of domain.options.entries()) {
    const own: LevelSet = [[domain.factor, domain.optional ? i + 1 : i]];
    yield* option.nested.reduce<readonly LevelSet[]>(
      (sets, { factor, options }) => sets.flatMap((set) => options.map((_, k): LevelSet => [...set, [factor, k + 1]])),
      [own],
    );
  }
}

/** Whether a condition holds. `known` keeps what was found before. */
export function holdsFor(
  when: Expr,
  selection: Selection,
  search: WrittenSearch,
  known: Map<string, boolean>,
): boolean {
  const { text } = search.module.source;
  const counted = mapped(when, (part) => (part.kind === "Call" ? countOf(part, selection, search) : undefined));
  const { expr, missing } = substitute(counted, selection, text);
  // A count stands in no text: conditions with one are seen anew each time.
  const key = counted === when ? `${when.start}:${substitute(when, selection, text).text}` : undefined;
  const before = key === undefined ? undefined : known.get(key);
  if (before !== undefined) return before;
  const [absent] = missing;
  if (absent !== undefined) notAlways(absent.name, absent.at, search);
  const holds = truth(expr, search.context);
  if (key !== undefined) known.set(key, holds);
  return holds;
}

/** Reports that a choice is used where its condition does not hold (E0803). */
export function notAlways(name: string, at: Expr, search: WrittenSearch): never {
  const when = search.choices.find((choice) => choice.name === name)?.item.when;
  const { source } = search.module;
  return fail(search.context, "E0803", `\`${name}\` is not always chosen`, at, {
    label: "used here",
    secondary:
      when === undefined
        ? []
        : [{ span: { source, start: when.start, end: when.end }, text: "absent where this does not hold" }],
    helps: ["give what uses it the same condition, or leave the condition out"],
  });
}

// ------------------------------------------------------------------------------------------------------- without and all

/** The levels without any graft that is chosen, or with all of them; everything else in its middle. */
export function extremeLevels(search: WrittenSearch, all: boolean): Uint8Array {
  const levels = new Uint8Array(search.factors.length);
  const selection = new Map<string, Chosen>(search.given);
  for (const choice of search.choices) {
    const { domain, item, name } = choice;
    const graft = search.uses.grafts.has(name);
    const holds = item.when === undefined || all || holdsFor(item.when, selection, search, new Map());
    if (holds && domain.kind === "subset")
      domain.options.forEach((_, i) => {
        levels[domain.factor + i] = all && graft ? 1 : 0;
      });
    else if (holds && domain.kind === "one" && (all || !graft)) {
      const option = graft ? 0 : Math.floor((domain.options.length - 1) / 2);
      levels[domain.factor] = domain.optional ? option + 1 : option;
      for (const { factor } of domain.options[option]?.nested ?? []) levels[factor] = 1;
    }
    selection.set(name, chosenAt(choice, levels, selection, search.module.source.text));
  }
  return levels;
}

// --------------------------------------------------------------------------------------------------------------- costs

/** Makes points, each model once. */
export type Maker = (levels: Uint8Array) => Made | Unsound;

/** A maker for these points: of each by itself, or, in a large space, composed. */
export function makerOf(search: WrittenSearch, points: readonly Uint8Array[]): Maker {
  const each = makeEach(search);
  const keys = new Set<string>();
  const factors = modelFactors(search);
  for (const levels of points) {
    keys.add(keyOf(levels, factors));
    if (keys.size > MOST_EACH) break;
  }
  if (keys.size <= MOST_EACH) return each;
  const composed = compose(search, each, factors);
  if (composed === undefined) return each;
  for (let i = 0; i < TRIED; i++) {
    const levels = points[Math.floor(((i + 0.5) / TRIED) * points.length)];
    if (levels !== undefined && !agree(composed(levels), each(levels))) return each;
  }
  return composed;
}

function agree(a: Made | Unsound, b: Made | Unsound): boolean {
  if (isUnsound(a) || isUnsound(b)) return isUnsound(a) && isUnsound(b);
  return a.costs.params === b.costs.params && a.costs.flops === b.costs.flops && a.costs.memory === b.costs.memory;
}

/** The factors that models differ in; recipes may have others. */
function modelFactors(search: WrittenSearch): readonly number[] {
  // Whatever a name may stand for counts: one that is used in some candidates only is used.
  const used = new Set(search.uses.occurrences.map(({ name }) => name));
  for (const { name, domain } of [...search.choices].reverse())
    if (used.has(name)) for (const { uses } of domain.options) for (const inner of uses) used.add(inner);
  return search.choices.flatMap(({ name, domain }) => (used.has(name) ? factorsOf(domain) : []));
}

function factorsOf(domain: Choice["domain"]): readonly number[] {
  if (domain.kind === "subset") return domain.options.map((_, i) => domain.factor + i);
  return [domain.factor, ...domain.options.flatMap(({ nested }) => nested.map(({ factor }) => factor))];
}

function keyOf(levels: ArrayLike<number>, factors: readonly number[]): string {
  let key = "";
  for (const factor of factors) key += String.fromCharCode(levels[factor] ?? 0);
  return key;
}

function makeEach(search: WrittenSearch): Maker {
  const known = new Map<string, Made | Unsound>();
  return (levels) => {
    const { text } = modelAt(search, selectionAt(search, levels));
    const before = known.get(text);
    if (before !== undefined) return before;
    if (known.size >= MOST_MADE)
      fail(search.context, "E0805", `this space has more than ${shownCount(MOST_MADE)} different models`, search.model, {
        label: "too many to be made one by one",
        helps: ["fewer levels of what is no graft, or a `when`"],
        notes: ["only the costs of grafts at plain positions add up without making each"],
      });
    const made = makePoint(search, levels);
    known.set(text, made);
    return made;
  };
}

/** Makes one point. */
function makePoint(search: WrittenSearch, levels: ArrayLike<number>): Made | Unsound {
  const { expr, missing } = modelAt(search, selectionAt(search, levels));
  const [absent] = missing;
  if (absent !== undefined) notAlways(absent.name, absent.at, search);
  const aside = asideOf(search.context);
  const made = tried(aside, () => {
    const { graph } = makeCandidateModel(expr, aside, search.bind, search.model);
    const { parameters, macs, activationBytes } = costOf(graph).total;
    if (typeof parameters !== "number" || typeof macs !== "number" || typeof activationBytes !== "number")
      return fail(search.context, "E0805", "sizes of these models are open, so their costs are not known", search.model, {
        helps: ["`over x: f32[N, 3, 224, 224]` fixes them, or `--bind H=224`"],
      });
    return { costs: { params: parameters, flops: 2 * macs, memory: activationBytes }, hash: graphHash(graph) };
  });
  if (made !== undefined) return made;
  const [first] = aside.build.program.reports.diagnostics;
  return { unsound: first === undefined ? "it is no model" : `${first.code}: ${first.message}` };
}

/** One graft, or a choice among several: the factors that say which, and that are all 0 without it. */
type Graft = readonly number[];

/**
 * Composed costs. A point is the network without its independent grafts, and each of them by itself. Undefined if the
 * search has no such grafts. Two points are the same if they have the same network and grafts that make the same of it,
 * in the same order.
 */
function compose(search: WrittenSearch, each: Maker, factors: readonly number[]): Maker | undefined {
  const grafts = search.choices.flatMap(({ domain, name }): readonly Graft[] => {
    if (!search.uses.independent.has(name)) return [];
    return domain.kind === "subset" ? factorsOf(domain).map((factor) => [factor]) : [factorsOf(domain)];
  });
  if (grafts.length === 0) return undefined;
  const free = new Set(grafts.flat());
  const rest = factors.filter((factor) => !free.has(factor));
  const bases = new Map<string, { readonly made: Made | Unsound; readonly single: Map<string, Made | Unsound> }>();
  const without = (levels: Uint8Array): Uint8Array => levels.map((level, factor) => (free.has(factor) ? 0 : level));
  return (levels) => {
    const key = keyOf(levels, rest);
    const base = bases.get(key) ?? { made: each(without(levels)), single: new Map<string, Made | Unsound>() };
    bases.set(key, base);
    if (isUnsound(base.made)) return base.made;
    const { costs: bare, hash } = base.made;
    let { params, flops, memory } = bare;
    const parts = [hash];
    for (const [i, graft] of grafts.entries()) {
      if (levels[graft[0] ?? 0] === 0) continue;
      const which = `${i}:${keyOf(levels, graft)}`;
      let single = base.single.get(which);
      if (single === undefined) {
        const one = without(levels);
        for (const factor of graft) one[factor] = levels[factor] ?? 0;
        single = each(one);
        base.single.set(which, single);
      }
      if (isUnsound(single)) return single;
      // `spots` of a unit that is none leaves the network as it is.
      if (single.hash === hash) continue;
      params += single.costs.params - bare.params;
      flops += single.costs.flops - bare.flops;
      memory += single.costs.memory - bare.memory;
      parts.push(single.hash);
    }
    return { costs: { params, flops, memory }, hash: parts.length === 1 ? hash : parts.join(" ") };
  };
}

// ------------------------------------------------------------------------------------------------------------- in words

/** `joint=STIA(reduction=4), spots={conv3, conv4}, lr=0.001`; `none` stands for all grafts where there is none. */
export function labelOf(search: WrittenSearch, selection: Selection): string {
  const { uses, recipeUses, choices } = search;
  const used = usedAt(uses.occurrences, recipeUses, selection);
  const words: string[] = [];
  let bare = uses.grafts.size > 0;
  for (const { name } of choices) {
    const chosen = selection.get(name);
    if (chosen === undefined || !used.has(name)) continue;
    if (chosen.kind === "absent") notAlways(name, search.model, search);
    const value = wordOf(chosen);
    if (value === undefined) continue;
    if (uses.grafts.has(name)) bare = false;
    words.push(`${name}=${value}`);
  }
  return [...(bare ? ["none"] : []), ...words].join(", ");
}

function wordOf(chosen: Exclude<Chosen, { readonly kind: "absent" }>): string | undefined {
  if (chosen.kind === "one") return chosen.expr.kind === "None" ? undefined : chosen.text.replace(/^@/, "");
  const items = chosen.items.map(({ text }) => text.replace(/^@/, ""));
  return items.length === 0 ? undefined : `{${items.join(", ")}}`;
}
