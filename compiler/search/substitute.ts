/**
 * A candidate as syntax: the search's expressions with what was chosen in the place of the names of the choices.
 *
 * In: an expression, and one option for each choice. Out: the expression to elaborate, whose nodes keep their places in
 * the text so that messages point there, and the same as a text, which is what a winner is written as. A graft of a unit
 * that is `none`, or at no position, is left out of both.
 */
import type { Expr, Path, Position, Positions, Sharing, With } from "../../grammar/ast.ts";
import type { Choice, Option } from "./domain.ts";

/** What stands for the name of a choice. */
export type Chosen =
  | {
      readonly kind: "one";
      readonly expr: Expr;
      readonly text: string;
      /** Choices that it is made of. */
      readonly uses: readonly string[];
      readonly missing: readonly Missing[];
    }
  | { readonly kind: "some"; readonly items: readonly { readonly expr: Expr; readonly text: string }[] }
  /** The condition of the choice does not hold. */
  | { readonly kind: "absent" };

export type Selection = ReadonlyMap<string, Chosen>;

/** A name of a choice that is used where it is absent. */
interface Missing {
  readonly name: string;
  readonly at: Expr;
}

export interface Substituted {
  readonly expr: Expr;
  readonly text: string;
  readonly missing: readonly Missing[];
}

/** What a choice is at these levels. `before` is what the choices before it are, which its options may name. */
export function chosenAt(
  { domain, item }: Choice,
  levels: ArrayLike<number>,
  before: Selection,
  source: string,
): Chosen {
  if (domain.kind === "subset")
    return { kind: "some", items: domain.options.filter((_, i) => levels[domain.factor + i] === 1) };
  const level = levels[domain.factor] ?? 0;
  const option = domain.options[domain.optional ? level - 1 : level];
  if (option !== undefined) return filled(option, levels, before, source);
  const { start, end } = item.domain;
  return domain.canBeNone
    ? { kind: "one", expr: { kind: "None", start, end }, text: "none", uses: [], missing: [] }
    : { kind: "absent" };
}

/** An option with its inner choices made. */
function filled(option: Option, levels: ArrayLike<number>, before: Selection, source: string): Chosen {
  const { expr, text, uses, nested } = option;
  if (nested.length === 0 && uses.length === 0) return { kind: "one", expr, text, uses, missing: [] };
  const inner = new Map<Expr, Option>();
  for (const { node, factor, options } of nested) {
    const chosen = options[(levels[factor] ?? 1) - 1] ?? options[0];
    if (chosen !== undefined) inner.set(node, chosen);
  }
  return { kind: "one", uses, ...substitute(expr, before, source, inner) };
}

// ---------------------------------------------------------------------------------------------------------------- text

export interface Edit {
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

/** The text of a part of `source` after the edits; of two that overlap the one that begins first counts. */
export function splice(
  source: string,
  { start, end }: { readonly start: number; readonly end: number },
  edits: readonly Edit[],
): string {
  let text = "";
  let at = start;
  for (const edit of [...edits].sort((a, b) => a.start - b.start)) {
    if (edit.start < at) continue;
    text += source.slice(at, edit.start) + edit.text;
    at = edit.end;
  }
  return text + source.slice(at, end);
}

// -------------------------------------------------------------------------------------------------------------- syntax

type Part = Expr | With | Sharing | Positions | Position;

/** A copy in which `replace` says what stands for a part of it; undefined: the part, with its parts replaced. */
export function mapped(expr: Expr, replace: (part: Part) => unknown): Expr {
  const visit = (part: unknown): unknown => {
    if (typeof part !== "object" || part === null) return part;
    if (Array.isArray(part)) return part.flatMap(visit);
    if (isPart(part)) {
      const other = replace(part);
      if (other !== undefined) return other;
    }
    const copy = Object.entries(part).map(([key, value]) => [key, visit(value)] as const);
    return copy.every(([key, value]) => value === Reflect.get(part, key)) ? part : Object.fromEntries(copy);
  };
  // Parts are replaced by parts of their kind: expressions by expressions, lists of positions by such.
  return visit(expr) as Expr;
}

function isPart(part: object): part is Part {
  return "kind" in part;
}

/** `spots` of `at spots`, if that may be a choice. */
function nameOfPosition({ from, to }: Position): string | undefined {
  if (to !== undefined || from.kind !== "Path" || from.segments.length !== 1) return undefined;
  const [only] = from.segments;
  return only === undefined || only.index !== undefined ? undefined : only.name;
}

/** `joint` of `with joint at …`, if that may be a choice. */
function nameOfUnit(unit: Expr): string | undefined {
  if (unit.kind === "Group") return nameOfUnit(unit.value);
  return unit.kind === "Name" ? unit.name : undefined;
}

function isNone(unit: Expr, selection: Selection): boolean {
  if (unit.kind === "Group") return isNone(unit.value, selection);
  if (unit.kind === "None") return true;
  const chosen = unit.kind === "Name" ? selection.get(unit.name) : undefined;
  return chosen?.kind === "absent" || (chosen?.kind === "one" && chosen.expr.kind === "None");
}

interface Place {
  readonly path: Path;
  readonly text: string;
}

/** Positions that a choice stands for; undefined if it stands for something else. */
function placesOf(chosen: Chosen | undefined): readonly Place[] | undefined {
  if (chosen === undefined) return undefined;
  if (chosen.kind === "absent") return [];
  if (chosen.kind === "one" && chosen.expr.kind === "None") return [];
  const items = chosen.kind === "some" ? chosen.items : [chosen];
  const places = items.flatMap(({ expr, text }): readonly Place[] =>
    expr.kind === "PositionLit" ? [{ path: expr.path, text: text.replace(/^@/, "") }] : [],
  );
  return places.length === items.length ? places : undefined;
}

/** Whether nothing is left of a clause: its unit is `none`, or every one of its positions. */
export function isDropped(clause: With | Sharing, selection: Selection): boolean {
  if (clause.kind === "With" && isNone(clause.unit, selection)) return true;
  const items = clause.at?.items ?? [];
  return (
    items.length > 0 &&
    items.every((item) => {
      const name = nameOfPosition(item);
      return name !== undefined && placesOf(selection.get(name))?.length === 0;
    })
  );
}

const COMPOSED: ReadonlySet<Expr["kind"]> = new Set(["Binary", "Unary", "Range", "Pipe", "Headline", "If", "Times"]);

/** `expr`, which stands in `source`, with every choice made; `inner` are those that are sets in it. */
export function substitute(
  expr: Expr,
  selection: Selection,
  source: string,
  inner: ReadonlyMap<Expr, Option> = new Map(),
): Substituted {
  const edits: Edit[] = [];
  const missing: Missing[] = [];
  const out = mapped(expr, (part) => {
    switch (part.kind) {
      case "With":
      case "Sharing": {
        if (!isDropped(part, selection)) return undefined;
        const before = source.slice(0, part.start).trimEnd().length;
        edits.push({ start: before, end: part.end, text: "" });
        return [];
      }
      case "Positions":
        return placed(part, selection, source, edits);
      case "Set":
      case "Call": {
        const chosen = inner.get(part);
        if (chosen === undefined) return undefined;
        edits.push({ start: part.start, end: part.end, text: chosen.text });
        return chosen.expr;
      }
      case "Name": {
        const chosen = selection.get(part.name);
        if (chosen === undefined) return undefined;
        const { start, end } = part;
        switch (chosen.kind) {
          case "absent":
            missing.push({ name: part.name, at: part });
            return undefined;
          case "some":
            edits.push({ start, end, text: `[${chosen.items.map(({ text }) => text).join(", ")}]` });
            return { kind: "List", items: chosen.items.map((item) => item.expr), start, end };
          case "one": {
            missing.push(...chosen.missing);
            const composed = COMPOSED.has(chosen.expr.kind);
            edits.push({ start, end, text: composed ? `(${chosen.text})` : chosen.text });
            return composed ? { kind: "Group", value: chosen.expr, start, end } : chosen.expr;
          }
          default:
            return chosen satisfies never;
        }
      }
      default:
        return undefined;
    }
  });
  return { expr: out, text: splice(source, expr, edits), missing };
}

/** A list of positions with those that are chosen in the places of their names. */
function placed(at: Positions, selection: Selection, source: string, edits: Edit[]): Positions | undefined {
  const items = positionsAt(at, selection, source);
  const [first] = at.items;
  const last = at.items.at(-1);
  const same = items.length === at.items.length && items.every(({ item }, i) => item === at.items[i]);
  if (same || first === undefined || last === undefined) return undefined;
  edits.push({ start: first.start, end: last.end, text: items.map(({ text }) => text).join(", ") });
  return { ...at, items: items.map(({ item }) => item) };
}

/** The positions of a list, chosen ones in the places of their names, and how each is written. */
export function positionsAt(
  at: Positions,
  selection: Selection,
  source: string,
): readonly { readonly item: Position; readonly text: string }[] {
  return at.items.flatMap((item) => {
    const name = nameOfPosition(item);
    const places = name === undefined ? undefined : placesOf(selection.get(name));
    if (places === undefined) return [{ item, text: source.slice(item.start, item.end) }];
    const side = item.side === undefined ? "" : `${item.side} `;
    return places.map(({ path, text }) => ({ item: { ...item, from: path }, text: `${side}${text}` }));
  });
}

// ----------------------------------------------------------------------------------------------------------------- uses

/** Where the name of a choice stands in the model. */
interface Occurrence {
  readonly name: string;
  /** The clause around it, without which it says nothing. */
  readonly clause: With | Sharing | undefined;
}

/** What a model's expression does with the choices. */
export interface ModelUses {
  readonly occurrences: readonly Occurrence[];
  /** Choices that are a unit: what a candidate without attention lacks. */
  readonly units: ReadonlySet<string>;
  /** Choices that say where units go. */
  readonly places: ReadonlySet<string>;
}

/** Whether a choice is one that a candidate without attention lacks. */
export function isGraft({ units, places }: ModelUses, name: string): boolean {
  return units.has(name) || places.has(name);
}

export function choosesGrafts({ units, places }: ModelUses): boolean {
  return units.size + places.size > 0;
}

/** Finds the `names` of choices in a model's expression. */
export function usesOf(expr: Expr, names: ReadonlySet<string>): ModelUses {
  const occurrences: Occurrence[] = [];
  const units = new Set<string>();
  const places = new Set<string>();
  const visit = (part: Expr, clause: With | Sharing | undefined): void => {
    mapped(part, (inside) => {
      if (inside.kind === "With" || inside.kind === "Sharing") {
        enter(inside);
        return inside;
      }
      if (inside.kind === "Name" && names.has(inside.name)) occurrences.push({ name: inside.name, clause });
      return undefined;
    });
  };
  const enter = (clause: With | Sharing): void => {
    const graft = clause.kind === "With";
    for (const item of clause.at?.items ?? []) {
      const name = nameOfPosition(item);
      if (name === undefined || !names.has(name)) continue;
      occurrences.push({ name, clause });
      if (graft) places.add(name);
    }
    if (!graft) return;
    const unit = nameOfUnit(clause.unit);
    if (unit !== undefined && names.has(unit)) units.add(unit);
    visit(clause.unit, clause);
  };
  visit(expr, undefined);
  return { occurrences, units, places };
}

/** Names that occur in an expression. */
export function namesIn(expr: Expr, names: ReadonlySet<string>): readonly string[] {
  const found = new Set<string>();
  mapped(expr, (part) => {
    if (part.kind === "Name" && names.has(part.name)) found.add(part.name);
    return undefined;
  });
  return [...found];
}

/** The choices that a candidate is made of: all but those within clauses that are left out. */
export function usedAt(
  occurrences: readonly Occurrence[],
  others: readonly string[],
  selection: Selection,
): ReadonlySet<string> {
  const used = new Set<string>();
  const use = (name: string): void => {
    if (used.has(name)) return;
    used.add(name);
    const chosen = selection.get(name);
    if (chosen?.kind === "one") for (const inner of chosen.uses) use(inner);
  };
  for (const { name, clause } of occurrences) if (clause === undefined || !isDropped(clause, selection)) use(name);
  for (const name of others) use(name);
  return used;
}
