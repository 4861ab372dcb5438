/**
 * Costs and identities of candidates that are not made.
 *
 * A graft changes no shape, so what it adds to a network does not depend on the other grafts. A candidate is the network
 * without any graft, and single grafts, each one unit at one position: its costs are those of the bare network and what
 * each graft adds. Candidates are the same model if their networks are, and at each position the same units follow one
 * another. In: what was chosen. Out: costs and identity, made of the few networks with one graft or none.
 *
 * This holds for positions that are single places in every stream. Pairs of places at different depths can be in each
 * other's way (E0507), and ranges may overlap; where a search has such, there is no composer.
 */
import type { Clause, Expr, Headline, Position, With } from "../../grammar/ast.ts";
import { digest, isUnsound, type Made, type MakeExpression, type Maker, type Unsound } from "./made.ts";
import { factorsOf, keyOf, selectionAt } from "./points.ts";
import { isDropped, namesIn, positionsAt, type Selection, type Substituted, substitute } from "./substitute.ts";
import type { WrittenSearch } from "./written.ts";

/** One unit at one position: the clause that says only this. */
interface Graft {
  readonly of: With;
  readonly clause: With;
  readonly unit: Substituted;
  readonly place: string;
}

/** The network without grafts. */
interface Base {
  readonly made: Made | Unsound;
  /** With one graft, by unit and position. */
  readonly single: Map<string, Made | Unsound>;
}

/** Composes points of a search; undefined if its model is none that can be. */
export function composer(search: WrittenSearch, make: MakeExpression): Maker | undefined {
  const headline = headlineOf(search.model);
  if (headline === undefined) return undefined;
  const clauses = headline.clauses.filter((clause) => clause.kind === "With");
  const { text: source } = search.module.source;
  const names = new Set(search.choices.map(({ name }) => name));
  const restFactors = factorsOf(
    search,
    search.uses.occurrences.flatMap(({ name, clause }) => (clause?.kind === "With" ? [] : [name])),
  );
  const units = clauses.map((clause) => ({
    clause,
    factors: factorsOf(search, namesIn(clause.unit, names)),
    known: new Map<string, Substituted>(),
  }));
  const bases = new Map<string, Base>();

  /** The network with this graft alone, or with none. What it is made of stands for its text. */
  const madeWith = (selection: Selection, key: string, graft?: Graft): Made | Unsound => {
    const expr = only(headline, graft);
    const { missing, ...model } = substitute(expr, selection, source);
    return make({ ...model, missing: [...missing, ...(graft?.unit.missing ?? [])], text: `${key}\n` });
  };

  const baseAt = (levels: Uint8Array, selection: Selection): Base => {
    const key = keyOf(levels, restFactors);
    const before = bases.get(key);
    if (before !== undefined) return before;
    const base = { made: madeWith(selection, key), single: new Map<string, Made | Unsound>() };
    bases.set(key, base);
    return base;
  };

  const graftsAt = (levels: Uint8Array, selection: Selection): readonly Graft[] =>
    units.flatMap(({ clause, factors, known }) => {
      if (clause.at === undefined || isDropped(clause, selection)) return [];
      const key = keyOf(levels, factors);
      const unit = known.get(key) ?? substitute(clause.unit, selection, source);
      known.set(key, unit);
      return positionsAt(clause.at, selection, source).map(
        ({ item, text }): Graft => ({ of: clause, clause: oneOf(clause, unit.expr, item), unit, place: text }),
      );
    });

  return (levels) => {
    const selection = selectionAt(search, levels);
    const base = baseAt(levels, selection);
    if (isUnsound(base.made)) return base.made;
    const { costs: bare, hash } = base.made;
    let { params, flops, memory } = bare;
    const places = new Map<string, string[]>();
    for (const graft of graftsAt(levels, selection)) {
      const between = graft.of.between?.map(({ name }) => name).join(" ") ?? "";
      const key = `${graft.unit.text}\n${between}\n${graft.place}`;
      let single = base.single.get(key);
      if (single === undefined) {
        single = madeWith(selection, `${keyOf(levels, restFactors)} ${key}`, graft);
        base.single.set(key, single);
      }
      if (isUnsound(single)) return single;
      params += single.costs.params - bare.params;
      flops += single.costs.flops - bare.flops;
      memory += single.costs.memory - bare.memory;
      const here = places.get(graft.place);
      if (here === undefined) places.set(graft.place, [single.hash]);
      else here.push(single.hash);
    }
    // Grafts at different places may be written in any order.
    const grafts = [...places.values()].map((hashes) => hashes.join(" ")).sort();
    return {
      costs: { params, flops, memory },
      hash: grafts.length === 0 ? hash : digest([hash, ...grafts].join("\n")),
    };
  };
}

/** The headline of a model whose grafts are all at single places; undefined if it is something else. */
function headlineOf(model: Expr): Headline | undefined {
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

/** A headline with no graft but one, where its clause stands. */
function only(headline: Headline, graft: Graft | undefined): Headline {
  const clauses = headline.clauses.flatMap((each): readonly Clause[] => {
    if (each.kind !== "With") return [each];
    return each === graft?.of ? [graft.clause] : [];
  });
  return { ...headline, clauses };
}
