/**
 * Random numbers for WASM, four lanes at a time: the definition of ../random.ts in vector instructions.
 *
 * A vector product of 32-bit lanes is two instructions, each of which takes two lanes to 64 bits. Shuffles gather the
 * lower and the upper words of the four products again.
 */
import { PHILOX, UNIT } from "../random.ts";
import { type Code, i32Const, indexed, plain, shuffle, v128Const, type WasmFunction } from "./wasm-encoder.ts";

/** Bytes of every second 32-bit word of two vectors, from word `first` on. */
const everySecond = (first: 0 | 1): readonly number[] =>
  [0, 2, 4, 6].flatMap((word) => [0, 1, 2, 3].map((byte) => 4 * (word + first) + byte));

const words = (value: number): Code => v128Const(new Int32Array(4).fill(value));

/** A function of vectors of u32, (elements, steps, keys), that gives four uniform numbers in [0, 1). */
export function philoxFunction(): WasmFunction {
  const [left, right, key, multiplier, weyl, low, high] = [0, 1, 2, 3, 4, 5, 6];
  const get = (local: number): Code => indexed("local.get", local);
  const set = (local: number): Code => indexed("local.set", local);
  const round: Code[] = [
    [...get(left), ...get(multiplier), ...plain("i64x2.extmul_low_i32x4_u"), ...set(low)],
    [...get(left), ...get(multiplier), ...plain("i64x2.extmul_high_i32x4_u"), ...set(high)],
    // The upper words, then the lower ones.
    [...get(low), ...get(high), ...shuffle(everySecond(1)), ...get(key), ...plain("v128.xor")],
    [...get(right), ...plain("v128.xor"), ...set(left)],
    [...get(low), ...get(high), ...shuffle(everySecond(0)), ...set(right)],
    [...get(key), ...get(weyl), ...plain("i32x4.add"), ...set(key)],
  ];
  return {
    parameters: ["v128", "v128", "v128"],
    results: ["v128"],
    locals: ["v128", "v128", "v128", "v128"],
    code: [
      ...words(PHILOX.multiplier),
      ...set(multiplier),
      ...words(PHILOX.weyl),
      ...set(weyl),
      ...Array.from({ length: PHILOX.rounds }, () => round.flat()).flat(),
      ...get(left),
      ...i32Const(8),
      ...plain("i32x4.shr_u"),
      ...plain("f32x4.convert_i32x4_s"),
      ...v128Const(new Float32Array(4).fill(UNIT)),
      ...plain("f32x4.mul"),
    ],
  };
}
