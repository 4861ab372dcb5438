/**
 * A candidate as syntax: the search's expressions with what was chosen in the place of the names of the choices.
 *
 * In: an expression, and one option for each choice. Out: the expression to elaborate, whose nodes keep their places in
 * the text so that messages point there, and the same as a text, which is what a winner is written as. A graft of a unit
 * that is `none`, or at no position, is left out of both.
 */
import type { Expr, Position, SetLit, With } from "../../grammar/ast.ts";
import type { Choice, Option } from "./domain.ts";

/** What stands for the name of a choice. */
export type Chosen =
  | { readonly kind: "one"; readonly expr: Expr; readonly text: string }
  | { readonly kind: "some"; readonly items: readonly { readonly expr: Expr; readonly text: string }[] }
  /** The condition of the choice does not hold. */
  | { readonly kind: "absent" };

export type Selection = ReadonlyMap<string, Chosen>;

export interface Substituted {
  readonly expr: Expr;
  readonly text: string;
  /** Names of choices that are used where they are absent. */
  readonly missing: readonly { readonly name: string; readonly at: Expr }[];
}

/** What a choice is at these levels. */
export function chosenAt({ domain, item }: Choice, levels: ArrayLike<number>, source: string): Chosen {
  if (domain.kind === "subset")
    return { kind: "some", items: domain.options.filter((_, i) => levels[domain.factor + i] === 1) };
  const level = levels[domain.factor] ?? 0;
  const optional = domain.none || item.when !== undefined;
  const option = domain.options[optional ? level - 1 : level];
  if (option !== undefined) return { kind: "one", ...filled(option, levels, source) };
  const { start, end } = item.domain;
  return domain.none ? { kind: "one", expr: { kind: "None", start, end }, text: "none" } : { kind: "absent" };
}

/** An option with its inner choices made. */
function filled(option: Option, levels: ArrayLike<number>, source: string): { expr: Expr; text: string } {
  if (option.nested.length === 0) return option;
  const inner = new Map<SetLit, Option>();
  for (const { node, factor, options } of option.nested) {
    const chosen = options[(levels[factor] ?? 1) - 1] ?? options[0];
    if (chosen !== undefined) inner.set(node, chosen);
  }
  const edits: Edit[] = [];
  const expr = mapped(option.expr, (part) => {
    const chosen = part.kind === "Set" ? inner.get(part) : undefined;
    if (chosen === undefined) return undefined;
    edits.push({ start: part.start, end: part.end, text: chosen.text });
    return chosen.expr;
  });
  return { expr, text: splice(source, option.expr, edits) };
}

// ---------------------------------------------------------------------------------------------------------------- text

interface Edit {
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

function splice(source: string, { start, end }: Expr, edits: readonly Edit[]): string {
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

/** A copy in which `replace` says what stands for a part of it; undefined: the part, with its parts replaced. */
export function mapped(expr: Expr, replace: (part: Expr | With | Position) => unknown): Expr {
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

function isPart(part: object): part is Expr | With | Position {
  return "kind" in part;
}

/** `spots` of `at spots`, if it is a choice. */
function nameOfPosition({ from, to }: Position, selection: Selection): string | undefined {
  if (to !== undefined || from.kind !== "Path" || from.segments.length !== 1) return undefined;
  const [only] = from.segments;
  return only !== undefined && only.index === undefined && selection.has(only.name) ? only.name : undefined;
}

function isNone(expr: Expr, selection: Selection): boolean {
  if (expr.kind === "Group") return isNone(expr.value, selection);
  if (expr.kind === "None") return true;
  const chosen = expr.kind === "Name" ? selection.get(expr.name) : undefined;
  return chosen?.kind === "absent" || (chosen?.kind === "one" && chosen.expr.kind === "None");
}

/** Positions that a choice stands for; undefined if it stands for something else. */
function positionsOf(chosen: Chosen): readonly { readonly expr: Expr; readonly text: string }[] | undefined {
  const items = chosen.kind === "some" ? chosen.items : chosen.kind === "one" ? [chosen] : [];
  return items.every(({ expr }) => expr.kind === "PositionLit") ? items : undefined;
}

const COMPOSED: ReadonlySet<Expr["kind"]> = new Set(["Binary", "Unary", "Range", "Pipe", "Headline", "If", "Times"]);

/** `expr`, which stands in `source`, with every choice made. */
export function substitute(expr: Expr, selection: Selection, source: string): Substituted {
  const edits: Edit[] = [];
  const missing: { name: string; at: Expr }[] = [];
  const out = mapped(expr, (part) => {
    if (part.kind === "With") {
      const items = part.at?.items ?? [];
      const nowhere =
        items.length > 0 &&
        items.every((item) => {
          const name = nameOfPosition(item, selection);
          const chosen = name === undefined ? undefined : selection.get(name);
          return chosen !== undefined && positionsOf(chosen)?.length === 0;
        });
      if (!nowhere && !isNone(part.unit, selection)) return undefined;
      const before = source.slice(0, part.start).trimEnd().length;
      edits.push({ start: before, end: part.end, text: "" });
      return [];
    }
    if (part.kind === "Position") {
      const name = nameOfPosition(part, selection);
      const chosen = name === undefined ? undefined : selection.get(name);
      const places = chosen === undefined ? undefined : positionsOf(chosen);
      if (places === undefined) return undefined;
      edits.push({
        start: part.start,
        end: part.end,
        text: places.map(({ text }) => text.replace(/^@/, "")).join(", "),
      });
      return places.flatMap(({ expr: place }) => (place.kind === "PositionLit" ? [{ ...part, from: place.path }] : []));
    }
    if (part.kind !== "Name") return undefined;
    const chosen = selection.get(part.name);
    if (chosen === undefined) return undefined;
    if (chosen.kind === "absent") {
      missing.push({ name: part.name, at: part });
      return undefined;
    }
    const { start, end } = part;
    if (chosen.kind === "some") {
      edits.push({ start, end, text: `[${chosen.items.map(({ text }) => text).join(", ")}]` });
      return { kind: "List", items: chosen.items.map((item) => item.expr), start, end };
    }
    const composed = COMPOSED.has(chosen.expr.kind);
    edits.push({ start, end, text: composed ? `(${chosen.text})` : chosen.text });
    return composed ? { kind: "Group", value: chosen.expr, start, end } : chosen.expr;
  });
  return { expr: out, text: splice(source, expr, edits), missing };
}

/** The choices that grafts are made of. */
export interface GraftChoices {
  /** All of them: what a candidate without attention lacks. */
  readonly all: ReadonlySet<string>;
  /** Those that say where. */
  readonly places: ReadonlySet<string>;
  /** Those that say what, at positions that are not chosen: each stands for itself. */
  readonly alone: ReadonlySet<string>;
}

export function graftChoices(expr: Expr, names: ReadonlySet<string>): GraftChoices {
  const [places, units, together] = [new Set<string>(), new Set<string>(), new Set<string>()];
  mapped(expr, (part) => {
    if (part.kind !== "With") return undefined;
    const here = (part.at?.items ?? []).flatMap(({ from }) =>
      from.kind === "Path" ? from.segments.flatMap(({ name }) => (names.has(name) ? [name] : [])) : [],
    );
    for (const name of here) places.add(name);
    mapped(part.unit, (inside) => {
      if (inside.kind === "Name" && names.has(inside.name)) (here.length > 0 ? together : units).add(inside.name);
      return undefined;
    });
    return undefined;
  });
  const alone = new Set([...units].filter((name) => !together.has(name) && !places.has(name)));
  return { all: new Set([...places, ...units, ...together]), places, alone };
}
