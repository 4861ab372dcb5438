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
import type { Clause, Headline } from "../../grammar/ast.ts";
import { type Graft, graftsOf, headlineOf, restOf } from "./grafts.ts";
import { digest, isUnsound, type Made, type MakeExpression, type Maker, type Unsound } from "./made.ts";
import { keyOf, selectionAt } from "./points.ts";
import { type Selection, substitute } from "./substitute.ts";
import type { WrittenSearch } from "./written.ts";

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
  const { text: source } = search.module.source;
  const restFactors = restOf(search);
  const graftsAt = graftsOf(search, headline);
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

  return (levels) => {
    const selection = selectionAt(search, levels);
    const base = baseAt(levels, selection);
    if (isUnsound(base.made)) return base.made;
    const { costs: bare, hash } = base.made;
    let { params, flops, memory } = bare;
    const places = new Map<string, string[]>();
    for (const graft of graftsAt(levels, selection)) {
      const { key } = graft;
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

/** A headline with no graft but one, where its clause stands. */
function only(headline: Headline, graft: Graft | undefined): Headline {
  const clauses = headline.clauses.flatMap((each): readonly Clause[] => {
    if (each.kind !== "With") return [each];
    return each === graft?.of ? [graft.clause] : [];
  });
  return { ...headline, clauses };
}
