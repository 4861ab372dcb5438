/**
 * Philox2x32-10 from its paper alone, in big integers, for the oracles: Salmon, Moraes, Dror and Shaw 2011, "Parallel
 * random numbers: as easy as 1, 2, 3", section 3.3, with the constants of the Random123 distribution.
 */
import { createHash } from "node:crypto";

const WORD = 1n << 32n;

export function philox2x32(counter: readonly [bigint, bigint], key: bigint): readonly [bigint, bigint] {
  let [left, right] = counter;
  let k = key;
  for (let round = 0; round < 10; round++) {
    if (round > 0) k = (k + 0x9e3779b9n) % WORD;
    const product = 0xd256d193n * left;
    [left, right] = [(product / WORD) ^ k ^ right, product % WORD];
  }
  return [left, right];
}

/** The number of an element that dropout compares with p. Counters are the step and the halves of the seed. */
export function uniformNumber(
  element: number,
  [step = 0, low = 0, high = 0]: ArrayLike<number> & Iterable<number>,
  path: string,
  use: number,
): number {
  const layer = BigInt(`0x${createHash("sha256").update(`${path}#${use}`).digest("hex").slice(0, 8)}`);
  const seed = BigInt(low) + BigInt(high) * 65536n;
  const [word] = philox2x32([BigInt(element) % WORD, BigInt(step)], seed ^ layer);
  return Number(word >> 8n) / 2 ** 24;
}
