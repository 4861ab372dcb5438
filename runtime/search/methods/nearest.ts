/** The candidate that a row of levels stands for, or comes nearest to. */

import type { Candidates } from "../propose.ts";
import type { Draws } from "./draws.ts";

/**
 * The open candidate that differs from `row` in the fewest factors; one of them by chance if there are several.
 * @param demand a factor whose level must be the row's
 * @returns undefined if there is none, which takes a demand or a space that is closed altogether
 */
export function nearestWith(
  { factors, levels, count }: Candidates,
  row: readonly number[],
  closed: ReadonlySet<number> | undefined,
  draws: Draws,
  demand?: number,
): number | undefined {
  const width = factors.length;
  let least = Infinity;
  let ties: number[] = [];
  for (let candidate = 0; candidate < count; candidate++) {
    const at = candidate * width;
    if (demand !== undefined && levels[at + demand] !== row[demand]) continue;
    let distance = 0;
    for (let factor = 0; factor < width && distance <= least; factor++)
      if (levels[at + factor] !== row[factor]) distance++;
    if (distance > least || (closed?.has(candidate) ?? false)) continue;
    if (distance < least) [least, ties] = [distance, []];
    ties.push(candidate);
  }
  return ties.length < 2 ? ties[0] : ties[draws.below(ties.length)];
}

/** As `nearestWith`, without a demand; candidate 0 if all are closed. */
export function nearest(
  candidates: Candidates,
  row: readonly number[],
  closed: ReadonlySet<number> | undefined,
  draws: Draws,
): number {
  return nearestWith(candidates, row, closed, draws) ?? 0;
}
