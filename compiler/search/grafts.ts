/**
 * A candidate as a network and its grafts, one unit at one position each.
 *
 * In: a search whose model is a headline with grafts at single places. Out: for each point the grafts that it consists of,
 * in the order in which they are placed.
 */
import type { Expr, Headline, Position, With } from "../../grammar/ast.ts";
import { factorsOf, keyOf } from "./points.ts";
import { isDropped, namesIn, positionsAt, type Selection, type Substituted, substitute } from "./substitute.ts";
import type { WrittenSearch } from "./written.ts";

/** One unit at one position: the clause that says only this. */
export interface Graft {
  readonly of: With;
  readonly clause: With;
  readonly unit: Substituted;
  readonly place: string;
  /** Equal for equal units at equal positions between equal streams, wherever they are written. */
  readonly key: string;
}

/** Factors that the network without its grafts depends on. */
export function restOf(search: WrittenSearch): readonly number[] {
  const names = search.uses.occurrences.flatMap(({ name, clause }) => (clause?.kind === "With" ? [] : [name]));
  return factorsOf(search, names);
}

/** What finds the grafts of a point. */
export function graftsOf(
  search: WrittenSearch,
  headline: Headline,
): (levels: Uint8Array, selection: Selection) => readonly Graft[] {
  const { text: source } = search.module.source;
  const names = new Set(search.choices.map(({ name }) => name));
  const units = headline.clauses
    .filter((clause) => clause.kind === "With")
    .map((clause) => ({
      clause,
      factors: factorsOf(search, namesIn(clause.unit, names)),
      known: new Map<string, Substituted>(),
    }));
  return (levels, selection) =>
    units.flatMap(({ clause, factors, known }) => {
      if (clause.at === undefined || isDropped(clause, selection)) return [];
      const chosen = keyOf(levels, factors);
      const unit = known.get(chosen) ?? substitute(clause.unit, selection, source);
      known.set(chosen, unit);
      const between = clause.between?.map(({ name }) => name).join(" ") ?? "";
      return positionsAt(clause.at, selection, source).map(({ item, text }): Graft => {
        const key = `${unit.text}\n${between}\n${text}`;
        return { of: clause, clause: oneOf(clause, unit.expr, item), unit, place: text, key };
      });
    });
}

/** The headline of a model whose grafts are all at single places; undefined if it is something else. */
export function headlineOf(model: Expr): Headline | undefined {
  if (model.kind === "Group") return headlineOf(model.value);
  if (model.kind !== "Headline") return undefined;
  const single = model.clauses.every(
    (clause) =>
      clause.kind !== "With" ||
      (clause.at?.items ?? []).every(
        ({ from, to }) => to === undefined && from.kind === "Path" && from.segments.every(isSingle),
      ),
  );
  return single ? model : undefined;
}

function isSingle({
  name,
  index,
}: {
  readonly name: string;
  readonly index: { readonly kind: string } | undefined;
}): boolean {
  return name !== "*" && index?.kind !== "Every";
}

function oneOf(clause: With, unit: Expr, item: Position): With {
  const { start, end } = clause.at ?? clause;
  return { ...clause, unit, at: { kind: "Positions", items: [item], start, end } };
}
