/**
 * Random search without replacement, and the full factorial, which is the same without an end: every candidate once in an
 * order drawn from the study's seed, then every candidate again.
 */

import type { Propose } from "../propose.ts";
import { shuffled } from "./draws.ts";
import { usesOf } from "./history.ts";

/** The order in which random search goes through `count` candidates; its beginning is what a study screens. */
export function randomOrder(count: number, seed: number): Uint32Array {
  return shuffled(count, seed, "random");
}

export const proposeRandom: Propose = ({ candidates, observations, pending, closed, seed }, count) => {
  const uses = usesOf(observations, pending);
  const order = randomOrder(candidates.count, seed).filter((candidate) => !(closed?.has(candidate) ?? false));
  const proposals: number[] = [];
  let fewest = order.reduce((least, candidate) => Math.min(least, uses.get(candidate) ?? 0), Infinity);
  while (proposals.length < count && order.length > 0) {
    for (const candidate of order) {
      if (proposals.length === count) break;
      if ((uses.get(candidate) ?? 0) > fewest) continue;
      proposals.push(candidate);
      uses.set(candidate, fewest + 1);
    }
    fewest++;
  }
  return proposals;
};
