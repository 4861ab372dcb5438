/**
 * The points of a search: what can be chosen, in every way, and what a point is called.
 *
 * Every point is a choice of one level for each factor. A choice whose condition does not hold has none, so nothing
 * varies within what is absent. No model is made here.
 */
import type { Expr } from "../../grammar/ast.ts";
import { truth } from "../elaborate/arithmetic.ts";
import { fail } from "../elaborate/failure.ts";
import type { Choice } from "./domain.ts";
import { countOf, shown } from "./requirements.ts";
import {
  type Chosen,
  choosesGrafts,
  chosenAt,
  isGraft,
  mapped,
  type Selection,
  type Substituted,
  substitute,
  usedAt,
} from "./substitute.ts";
import type { WrittenSearch } from "./written.ts";

/** Points that are looked through at most: 2^17. */
const MOST_POINTS = 131_072;

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

/** The factors of choices, and of those that they may be made of. */
export function factorsOf(search: WrittenSearch, names: readonly string[]): readonly number[] {
  const used = new Set(names);
  // An option names earlier choices only.
  for (const { name, domain } of [...search.choices].reverse())
    if (used.has(name)) for (const { uses } of domain.options) for (const inner of uses) used.add(inner);
  return search.choices.flatMap(({ name, domain }) => {
    if (!used.has(name)) return [];
    if (domain.kind === "subset") return domain.options.map((_, i) => domain.factor + i);
    return [domain.factor, ...domain.options.flatMap(({ nested }) => nested.map(({ factor }) => factor))];
  });
}

/** The levels of some factors as a text. */
export function keyOf(levels: ArrayLike<number>, factors: readonly number[]): string {
  let key = "";
  for (const factor of factors) key += String.fromCharCode(levels[factor] ?? 0);
  return key;
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
        fail(context, "E0805", `this space has more than ${shown(MOST_POINTS)} points`, search.item.name, {
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
    const graft = isGraft(search.uses, name);
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

/**
 * The levels of a point as they are kept: what plays no part in it (the unit of a graft that is nowhere) has its first
 * level, so that one model has one row of levels, whatever was written.
 */
export function plainLevels(search: WrittenSearch, levels: Uint8Array, selection: Selection): Uint8Array {
  const used = usedAt(search.uses.occurrences, search.recipeUses, selection);
  const plain = levels.slice();
  for (const { name, domain } of search.choices) {
    if (used.has(name)) continue;
    const nested = domain.kind === "subset" ? [] : domain.options.flatMap((option) => option.nested);
    const members = domain.kind === "subset" ? domain.options.map((_, i) => domain.factor + i) : [domain.factor];
    for (const factor of [...members, ...nested.map((each) => each.factor)]) plain[factor] = 0;
  }
  return plain;
}

// ------------------------------------------------------------------------------------------------------------- in words

/** `joint=STIA(reduction=4), spots={conv3, conv4}, lr=0.001`; `none` stands for all grafts where there is none. */
export function labelOf(search: WrittenSearch, selection: Selection): string {
  const { uses, recipeUses, choices } = search;
  const used = usedAt(uses.occurrences, recipeUses, selection);
  const words: string[] = [];
  let bare = choosesGrafts(uses);
  for (const { name } of choices) {
    const chosen = selection.get(name);
    if (chosen === undefined || !used.has(name)) continue;
    if (chosen.kind === "absent") notAlways(name, search.model, search);
    const value = wordOf(chosen);
    if (value === undefined) continue;
    if (isGraft(uses, name)) bare = false;
    words.push(`${name}=${value}`);
  }
  return [...(bare ? ["none"] : []), ...words].join(", ");
}

function wordOf(chosen: Exclude<Chosen, { readonly kind: "absent" }>): string | undefined {
  if (chosen.kind === "one") return chosen.expr.kind === "None" ? undefined : chosen.text.replace(/^@/, "");
  const items = chosen.items.map(({ text }) => text.replace(/^@/, ""));
  return items.length === 0 ? undefined : `{${items.join(", ")}}`;
}
