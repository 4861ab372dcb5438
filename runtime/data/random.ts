/**
 * Numbers that look random and are not: everything that this room draws, shuffles or crops is a function of a seed.
 *
 * In: a seed and words that name what the numbers are for. Out: a stream of numbers that depends on both alone, so that
 * one more draw for a hat changes nobody's nose.
 */

/** Numbers in [0, 1), one a call. */
export type Random = () => number;

/** The stream of `seed` for the purpose that `words` name. Key by FNV-1a, numbers by mulberry32 (Ettinger, 2017). */
export function randomOf(seed: number, ...words: readonly (string | number)[]): Random {
  let state = 0x811c9dc5;
  for (const unit of [seed, ...words].join("\n")) state = Math.imul(state ^ (unit.codePointAt(0) ?? 0), 0x01000193);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 4294967296;
  };
}

/** A number between `low` and `high`. */
export function between(random: Random, low: number, high: number): number {
  return low + (high - low) * random();
}

/** One of `items`. */
export function pick<T>(random: Random, items: readonly T[]): T {
  const item = items[Math.floor(random() * items.length)];
  if (item === undefined) throw new Error("internal: nothing to pick from");
  return item;
}

/** `items` in another order (Fisher and Yates). */
export function shuffled<T>(random: Random, items: readonly T[]): T[] {
  const out = [...items];
  for (let i = out.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    const [a, b] = [out[i], out[j]];
    if (a !== undefined && b !== undefined) [out[i], out[j]] = [b, a];
  }
  return out;
}
