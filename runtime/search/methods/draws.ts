/**
 * The random numbers of the methods. A draw is a function of the study's seed, of what it is for and of its number, so a
 * proposal can be made again from the journal, on any machine and in any order.
 */
import { drawKey, philox } from "../../../compiler/random.ts";

export interface Draws {
  /** In [0, 1), with 53 bits. */
  uniform(): number;
  /** A whole number from 0 to below `count`. */
  below(count: number): number;
  /** Standard normal. */
  normal(): number;
  /** An index, drawn in proportion to its weight. */
  weighted(weights: ArrayLike<number>): number;
}

/**
 * @param purpose keeps streams apart that share a seed
 * @param step which use of this stream
 */
export function drawsOf(seed: number, purpose: string, step = 0): Draws {
  const key = drawKey(`search/${purpose}/${seed}`, step);
  let element = 0;
  const uniform = (): number => {
    const [high, low] = philox([element++, step >>> 0], key);
    return ((high >>> 5) * 2 ** 26 + (low >>> 6)) / 2 ** 53;
  };
  return {
    uniform,
    below: (count) => Math.floor(uniform() * count),
    // Box and Muller 1958; the second of the pair is not kept, so that a draw has no memory.
    normal: () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
    weighted(weights) {
      let total = 0;
      for (let i = 0; i < weights.length; i++) total += weights[i] ?? 0;
      let left = uniform() * total;
      for (let i = 0; i < weights.length; i++) {
        left -= weights[i] ?? 0;
        if (left < 0) return i;
      }
      return weights.length - 1;
    },
  };
}

/** 0 to `count` − 1 in an order drawn from the seed (Fisher and Yates); the same at every step of a study. */
export function shuffled(count: number, seed: number, purpose: string): Uint32Array {
  const draws = drawsOf(seed, purpose);
  const order = Uint32Array.from({ length: count }, (_, index) => index);
  for (let last = count - 1; last > 0; last--) {
    const other = draws.below(last + 1);
    const kept = order[last] ?? 0;
    order[last] = order[other] ?? 0;
    order[other] = kept;
  }
  return order;
}
