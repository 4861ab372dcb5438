/**
 * Random numbers without a state: the counter-based generator that dropout draws from.
 *
 * A draw is a function of its counters: which element, which training step, which seed, which layer. So a mask is
 * computed where it is used, again in the backward pass, in any order and on any device, and never stored. The generator
 * is Philox2x32-10 (Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3).
 *
 * This file has its definition in exact 32-bit arithmetic; kernel/wgsl.ts and kernel/wasm-random.ts write the same with
 * what those languages have, and give the same bits.
 */
import { sha256 } from "@noble/hashes/sha2.js";
import { utf8ToBytes } from "@noble/hashes/utils.js";

/** Rounds, the multiplier of a round, and what the key grows by after each (the golden ratio). */
export const PHILOX = { rounds: 10, multiplier: 0xd256d193, weyl: 0x9e3779b9 } as const;

/** Rough price of one draw in multiply-adds, for fusion: ten rounds of a long multiplication and some logic. */
export const DRAW_COST = 60;

/** A uniform number has 24 bits, as many as an f32 holds: multiples of this from 0 to below 1. */
export const UNIT: number = 2 ** -24;

/** The upper 32 bits of the product of two u32. */
function highProduct(a: number, b: number): number {
  const [al, ah, bl, bh] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  // Each partial product and each sum is below 2^32, which doubles hold exactly.
  const low = al * bh + ((al * bl) >>> 16);
  const middle = ah * bl + (low % 0x10000);
  return ah * bh + Math.floor(low / 0x10000) + Math.floor(middle / 0x10000);
}

/** Philox2x32-10: two u32 words from a counter of two and a key. */
export function philox(counter: readonly [number, number], key: number): readonly [number, number] {
  let [left, right] = counter;
  let round = key;
  for (let i = 0; i < PHILOX.rounds; i++) {
    const high = highProduct(PHILOX.multiplier, left);
    const low = Math.imul(PHILOX.multiplier, left) >>> 0;
    left = (high ^ round ^ right) >>> 0;
    right = low;
    round = (round + PHILOX.weyl) >>> 0;
  }
  return [left, right];
}

/**
 * A number in [0, 1): the first word's upper 24 bits. Counters are `element` (modulo 2^32) and `step`; the key is `key`
 * exclusive-or the seed, whose halves come apart because an f32 holds whole numbers to 2^24 only.
 */
export function uniform(element: number, step: number, seedLow: number, seedHigh: number, key: number): number {
  const seed = (seedLow | (seedHigh << 16)) >>> 0;
  return (philox([element >>> 0, step >>> 0], (seed ^ key) >>> 0)[0] >>> 8) * UNIT;
}

/**
 * The u32 that tells one layer's draws from another's: the first four bytes of SHA-256 of `path#use`.
 * @param use which application of the path, for layers that a network goes through several times
 */
export function drawKey(path: string, use: number): number {
  return new DataView(sha256(utf8ToBytes(`${path}#${use}`)).buffer).getUint32(0);
}
