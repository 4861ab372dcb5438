/**
 * The costs and identities of all points of a space. In a large one not every point is made into a model (compose.ts);
 * some are made all the same, to see that what was composed holds.
 */
import { composer } from "./compose.ts";
import { isUnsound, type Made, type Maker, makeExpressions, type Unsound } from "./made.ts";
import { factorsOf, keyOf, modelAt, selectionAt } from "./points.ts";
import type { WrittenSearch } from "./written.ts";

/** Beyond so many models, costs are composed where they can be. */
const MOST_EACH = 256;
/** Points that are made to see that costs compose. */
const TRIED = 12;

/** A maker for these points: of each by itself, or, in a large space, composed of single grafts. */
export function makerOf(search: WrittenSearch, points: readonly Uint8Array[]): Maker {
  const make = makeExpressions(search);
  const each: Maker = (levels) => make(modelAt(search, selectionAt(search, levels)));
  const keys = new Set<string>();
  const factors = factorsOf(
    search,
    search.uses.occurrences.map(({ name }) => name),
  );
  for (const levels of points) {
    keys.add(keyOf(levels, factors));
    if (keys.size > MOST_EACH) break;
  }
  if (keys.size <= MOST_EACH) return each;
  const composed = composer(search, make);
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
