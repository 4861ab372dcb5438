/**
 * Halves for WASM, four lanes at a time: the definition of ../half.ts in vector instructions.
 *
 * WASM has no half precision, so both conversions move bits. Every half is an f32, subnormals, infinities and NaN too.
 * The other way rounds to nearest, ties to even: the bits of an f32 that are cut off are rounded by an addition that
 * carries into fraction and exponent, up to infinity; subnormal halves are rounded by the addition of 0.5, whose last
 * bit is worth as much as theirs (F. Giesen, "float->half variants", 2016).
 */
import { type Code, i32Const, indexed, plain, v128Const, type WasmFunction } from "./wasm-encoder.ts";

export type HalfFn = "widen_halves" | "narrow_to_halves";

const words = (value: number): Code => v128Const(new Int32Array(4).fill(value));
const get = (local: number): Code => indexed("local.get", local);
const set = (local: number, value: Code): Code => [...value, ...indexed("local.set", local)];
type VectorOp = Parameters<typeof plain>[0];
const op = (name: VectorOp, ...values: Code[]): Code => [...values.flat(), ...plain(name)];
const shift = (name: "i32x4.shl" | "i32x4.shr_u", value: Code, by: number): Code => [
  ...value,
  ...i32Const(by),
  ...plain(name),
];

/** Bits of an f32. */
const INFINITY = 0x7f800000;
const MAGNITUDE = 0x7fffffff;
/** The exponent field of an f32 is that of a half plus 112. */
const REBIAS = 112 << 23;
/** The last half that is finite, and the least that is normal, with the exponent field of a half in that of an f32. */
const LAST_FINITE = 0x0f7fffff;
const FIRST_NORMAL = 0x00800000;
/** 65536: the least power of two beyond every half. */
const BEYOND = 0x47800000;
/** 2⁻¹⁴: the least normal half. */
const LEAST_NORMAL = 0x38800000;
const ONE_HALF = 0x3f000000;

/**
 * - `widen_halves`: bits of halves in i32 lanes (upper bits 0) to f32 lanes.
 * - `narrow_to_halves`: f32 lanes to bits of the nearest halves in i32 lanes.
 */
export function halfFunction(fn: HalfFn): WasmFunction {
  return fn === "widen_halves" ? widen() : narrow();
}

function widen(): WasmFunction {
  const [half, magnitude, rebased] = [0, 1, 2];
  // An exponent of all ones stays one of all ones.
  const again = op("v128.and", op("i32x4.gt_s", get(magnitude), words(LAST_FINITE)), words(REBIAS));
  // 2⁻¹⁴ + the subnormal, minus 2⁻¹⁴: multiplying instead would meet subnormal f32, which processors are slow at.
  const subnormal = op("f32x4.sub", op("i32x4.add", get(rebased), words(1 << 23)), words(LEAST_NORMAL));
  return {
    parameters: ["v128"],
    results: ["v128"],
    locals: ["v128", "v128"],
    code: [
      ...set(magnitude, shift("i32x4.shl", op("v128.and", get(half), words(0x7fff)), 13)),
      ...set(rebased, op("i32x4.add", op("i32x4.add", get(magnitude), words(REBIAS)), again)),
      ...op("v128.bitselect", subnormal, get(rebased), op("i32x4.gt_s", words(FIRST_NORMAL), get(magnitude))),
      ...shift("i32x4.shl", op("v128.and", get(half), words(0x8000)), 16),
      ...plain("v128.or"),
    ],
  };
}

function narrow(): WasmFunction {
  const [x, magnitude, result] = [0, 1, 2];
  const odd = op("v128.and", shift("i32x4.shr_u", get(magnitude), 13), words(1));
  const rebased = op("i32x4.add", op("i32x4.add", get(magnitude), words(((15 - 127) << 23) + 0xfff)), odd);
  const subnormal = op("i32x4.sub", op("f32x4.add", get(magnitude), words(ONE_HALF)), words(ONE_HALF));
  const special = op("v128.bitselect", words(0x7e00), words(0x7c00), op("i32x4.gt_s", get(magnitude), words(INFINITY)));
  return {
    parameters: ["v128"],
    results: ["v128"],
    locals: ["v128", "v128"],
    code: [
      ...set(magnitude, op("v128.and", get(x), words(MAGNITUDE))),
      ...set(result, shift("i32x4.shr_u", rebased, 13)),
      ...set(
        result,
        op("v128.bitselect", subnormal, get(result), op("i32x4.gt_s", words(LEAST_NORMAL), get(magnitude))),
      ),
      ...set(result, op("v128.bitselect", special, get(result), op("i32x4.gt_s", get(magnitude), words(BEYOND - 1)))),
      ...op("v128.or", get(result), shift("i32x4.shr_u", op("v128.andnot", get(x), words(MAGNITUDE)), 16)),
    ],
  };
}
