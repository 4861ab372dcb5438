/**
 * How a candidate is written in a table: a dot for every position, and a word for every other choice.
 *
 * In: the factors of a space. Out: which of them are positions, what they and the others are called in a heading, and
 * the dots and words of a candidate's levels.
 */
import type { Candidate, Factor, Space } from "../../../compiler/search/search.ts";

export const PLACED = "●";
export const EMPTY = "○";
/** What stands for a candidate where a trial is of none. */
export const SUPER_NETWORK = "super-network";

/** Positions that one choice takes its members from. */
export interface PositionSet {
  /** Of the choice: `spots`. */
  readonly name: string;
  /** What all its positions begin with: `conv`; may be empty. */
  readonly stem: string;
  readonly positions: readonly {
    /** Index of the factor. */
    readonly factor: number;
    readonly name: string;
    /** The name without the stem: `3` of `conv3`. */
    readonly short: string;
  }[];
}

export interface Notation {
  readonly sets: readonly PositionSet[];
  /** The other factors, a column each. */
  readonly others: readonly { readonly factor: number; readonly title: string; readonly name: string }[];
  /** Factors that place something: the members of sets, or where there are none, choices that may be absent. */
  readonly placing: readonly number[];
}

/** The letters that all names begin with, where something is left of each. */
function stemOf(names: readonly string[]): string {
  const [first = ""] = names;
  const letters = /^[A-Za-z_]+/.exec(first)?.[0] ?? "";
  return names.length > 1 && names.every((name) => name.startsWith(letters) && name.length > letters.length)
    ? letters
    : "";
}

export function notationOf(factors: readonly Factor[]): Notation {
  const sets = new Map<string, { readonly factor: number; readonly name: string }[]>();
  const others: { readonly factor: number; readonly name: string }[] = [];
  for (const [factor, { name, kind }] of factors.entries()) {
    if (kind !== "member") {
      others.push({ factor, name });
      continue;
    }
    const dot = name.indexOf(".");
    const set = dot < 0 ? "" : name.slice(0, dot);
    const position = name.slice(dot + 1).replace(/^@/, "");
    const known = sets.get(set);
    if (known === undefined) sets.set(set, [{ factor, name: position }]);
    else known.push({ factor, name: position });
  }
  const last = (name: string): string => name.slice(name.lastIndexOf(".") + 1);
  const members = [...sets.values()].flat().map(({ factor }) => factor);
  const parts = new Set(factors.map(({ name }) => name));
  return {
    sets: [...sets].map(([name, positions]) => {
      const stem = stemOf(positions.map((position) => position.name));
      return {
        name,
        stem,
        positions: positions.map((position) => ({ ...position, short: position.name.slice(stem.length) })),
      };
    }),
    others: others.map(({ factor, name }) => {
      const alone = others.filter((other) => last(other.name) === last(name)).length === 1;
      return { factor, name, title: alone ? last(name) : name };
    }),
    placing:
      members.length > 0
        ? members
        : factors.flatMap(({ name, optional }, factor) => {
            // A choice within another is not a place of its own.
            const parent = name.slice(0, Math.max(0, name.lastIndexOf(".")));
            return optional && !parts.has(parent) ? [factor] : [];
          }),
  };
}

/** More positions than one takes in at a glance. */
const MANY = 8;

/** The dots of a set: `○○●●○`; many of them in groups, by what stands before `_` or by fours, if `grouped`. */
export function dotsOf({ positions }: PositionSet, levels: readonly number[], grouped = false): string {
  const groupOf = (name: string, k: number): string => {
    const end = name.lastIndexOf("_");
    return end < 0 ? String(Math.floor(k / 4)) : name.slice(0, end);
  };
  let text = "";
  for (const [k, { factor, name }] of positions.entries()) {
    const before = positions[k - 1];
    if (grouped && positions.length > MANY && before !== undefined && groupOf(before.name, k - 1) !== groupOf(name, k))
      text += " ";
    text += (levels[factor] ?? 0) > 0 ? PLACED : EMPTY;
  }
  return text;
}

/** An argument that is itself chosen, as levels are written: `reduction={2, 4, 8}`. */
const CHOSEN = /(\w+) *= *\{[^{}]*\}/g;

/** A level without the arguments that have columns of their own: `STIA` of `STIA(reduction={2, 4, 8})`. */
function bare(level: string): string {
  return level
    .replaceAll(CHOSEN, "")
    .replaceAll(/(?:, *)+(?=\))|(?<=\()(?: *,)+ */g, "")
    .replaceAll(/(?:, *){2,}/g, ", ")
    .replaceAll(/\( *\)/g, "");
}

/** The words of the other choices; `–` for what is absent. */
export function wordsOf(
  { others }: Notation,
  factors: readonly Factor[],
  levels: readonly number[],
): readonly string[] {
  return others.map(({ factor }) => bare(factors[factor]?.levels[levels[factor] ?? 0] ?? "") || "–");
}

/** An option of a choice with what is chosen within it: `STIA`, `STIA(4)`. */
export function optionText(
  factors: readonly Factor[],
  levels: readonly { readonly factor: number; readonly level: number }[],
): string {
  const [own = "", ...within] = levels.map(({ factor, level }) => bare(factors[factor]?.levels[level] ?? ""));
  return within.length === 0 ? own : `${own.replace(/\)$/, "")}${own.endsWith(")") ? ", " : "("}${within.join(", ")})`;
}

/** A candidate in one short text, for a line: `○○●●○ STIA(4) lr=0.001`; `○○○○○ none` without any attention. */
export function shortLabel(notation: Notation, { factors, none }: Space, { index, levels }: Candidate): string {
  const dots = notation.sets.map((set) => dotsOf(set, levels));
  const words = wordsOf(notation, factors, levels);
  const given = notation.others.map((other, k) => ({ ...other, word: words[k] ?? "–" }));
  const parentOf = (name: string): string => name.slice(0, Math.max(0, name.lastIndexOf(".")));
  const named = new Set(given.map(({ name }) => name));
  const choices = given.flatMap(({ name, title, word }) => {
    if (word === "–" || named.has(parentOf(name))) return [];
    const within = given.filter((one) => parentOf(one.name) === name && one.word !== "–");
    // A number says nothing without its name.
    const own = /^[\d.e+-]+$/.test(word) ? `${title}=${word}` : word;
    if (within.length === 0) return [own];
    // Where there are other arguments too, each has its name.
    return own.endsWith(")")
      ? [`${own.slice(0, -1)}, ${within.map((one) => `${one.title}=${one.word}`).join(", ")})`]
      : [`${own}(${within.map((one) => one.word).join(", ")})`];
  });
  const text = [...dots, ...choices].join(" ");
  if (text === "") return "none";
  return index === none && choices.length === 0 ? `${text} none` : text;
}

/** Heading of a set's dots: `conv 12345`, or its ends where that would be long; with the set's name if there are several. */
export function headingOf({ name, stem, positions }: PositionSet, several: boolean): string {
  const shorts = positions.map(({ short }) => short);
  const [first = "", last = ""] = [shorts[0], shorts.at(-1)];
  const brief = shorts.every((short) => short.length === 1);
  const text =
    shorts.length === 1
      ? `${stem}${first}`
      : brief && stem !== ""
        ? `${stem} ${shorts.join("")}`
        : `${stem}${first}…${last}`;
  return several || !brief || stem === "" ? `${name}: ${text}` : text;
}

/** What a position is called in words: `conv3`; `spots.conv3` where other sets have it too. */
export function placeOf({ sets }: Notation, factors: readonly Factor[], factor: number): string {
  const name = factors[factor]?.name ?? "";
  const position = name.slice(name.indexOf(".") + 1).replace(/^@/, "");
  const shared = sets.filter(({ positions }) => positions.some((one) => one.name === position)).length > 1;
  return shared ? name.replace(".@", ".") : position;
}

/** What the dots stand for, in words. */
export function legendOf({ name, positions }: PositionSet): string {
  return `${name === "" ? "positions" : name}, from left to right: ${positions.map((position) => position.name).join(", ")}`;
}

export type Role = "none" | "all" | "single" | "left out" | "other";

/** Which row of an ablation table a candidate is: without, with all, at one place only, at all places but one. */
export function roleOf(
  { placing }: Notation,
  { none, all }: Space,
  { index, levels }: Candidate,
): { readonly role: Role; readonly factor?: number } {
  if (index === none) return { role: "none" };
  if (index === all) return { role: "all" };
  const placed = placing.filter((factor) => (levels[factor] ?? 0) > 0);
  const [only] = placed;
  if (placed.length === 1 && only !== undefined) return { role: "single", factor: only };
  const absent = placing.filter((factor) => (levels[factor] ?? 0) === 0);
  const [missing] = absent;
  if (absent.length === 1 && placing.length > 2 && missing !== undefined) return { role: "left out", factor: missing };
  return { role: "other" };
}
