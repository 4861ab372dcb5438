/**
 * Transcendental functions for WASM, four lanes at a time.
 *
 * WASM has no instruction beyond the square root, so a module that needs `exp` carries its own. Each function here is
 * one WASM function on vectors of four floats, added to a module only when a kernel uses it. Relative errors stay near
 * 2e-7 (test/wasm/math.test.ts measures them); infinities, NaN, zero and subnormal results come out as in IEEE 754.
 * Polynomials are those of the Cephes library (Moshier 1989, `single/expf.c`, `logf.c`, `sinf.c`, `tanhf.c`); `pow` and the argument reduction of `sin` and `cos`
 * work in double precision, because single precision would lose digits there.
 */
import type { UnaryFn } from "../scalar.ts";
import { type Code, i32Const, indexed, plain, shuffle, v128Const, type WasmFunction } from "./wasm-encoder.ts";

/** Functions that need a helper; `pow` takes two vectors, the others one. */
export type MathFn = Extract<UnaryFn, "exp" | "log" | "sin" | "cos" | "tanh" | "sigmoid"> | "pow";

const UNARY_MATH: readonly string[] = ["exp", "log", "sin", "cos", "tanh", "sigmoid"] satisfies MathFn[];

/** Whether a unary function has a helper here. */
export function isMathFn(fn: UnaryFn): fn is Exclude<MathFn, "pow"> {
  return UNARY_MATH.includes(fn);
}

/** Finds (and so adds) the index of another helper. */
type Helper = (fn: MathFn) => number;

type V = Code;

const f32 = (value: number): V => v128Const(new Float32Array(4).fill(value));
const i32 = (value: number): V => v128Const(new Int32Array(4).fill(value));
const f64 = (value: number): V => v128Const(new Float64Array(2).fill(value));
const i64 = (value: bigint): V => v128Const(new BigInt64Array(2).fill(value));
const get = (local: number): V => indexed("local.get", local);
const set = (local: number, value: V): V => [...value, ...indexed("local.set", local)];

type VectorOp = Parameters<typeof plain>[0];
const op = (name: VectorOp, ...values: V[]): V => [...values.flat(), ...plain(name)];
const add = (a: V, b: V): V => op("f32x4.add", a, b);
const sub = (a: V, b: V): V => op("f32x4.sub", a, b);
const mul = (a: V, b: V): V => op("f32x4.mul", a, b);
const div = (a: V, b: V): V => op("f32x4.div", a, b);
const shift = (
  name: "i32x4.shl" | "i32x4.shr_s" | "i32x4.shr_u" | "i64x2.shl" | "i64x2.shr_u",
  a: V,
  bits: number,
): V => [...a, ...i32Const(bits), ...plain(name)];
/** `mask ? then : otherwise`, bit by bit. */
const pick = (then: V, otherwise: V, mask: V): V => op("v128.bitselect", then, otherwise, mask);
const SIGN = i32(0x80000000 | 0);

/** Horner's scheme; coefficients from the highest power down. `x` is a local. */
function polynomial(x: number, coefficients: readonly number[]): V {
  const [first = 0, ...rest] = coefficients;
  return rest.reduce<V>((sum, c) => add(mul(sum, get(x)), f32(c)), f32(first));
}

/** The same on two doubles. */
function polynomial64(x: number, coefficients: readonly number[]): V {
  const [first = 0, ...rest] = coefficients;
  return rest.reduce<V>((sum, c) => op("f64x2.add", op("f64x2.mul", sum, get(x)), f64(c)), f64(first));
}

const vectors = (count: number): "v128"[] => Array.from({ length: count }, () => "v128");

const unaryFunction = (locals: number, code: Code): WasmFunction => ({
  parameters: ["v128"],
  results: ["v128"],
  locals: vectors(locals),
  code,
});

/** e^x = 2^n e^r with |r| <= ln 2 / 2; 2^n in two factors, so that overflow and subnormals round by themselves. */
function exp(): WasmFunction {
  const [x, n, r, half] = [0, 1, 2, 3];
  const power = (integer: V): V => shift("i32x4.shl", op("i32x4.add", integer, i32(127)), 23);
  return unaryFunction(3, [
    // Beyond these bounds the result is infinite or 0; `pmin(x, c)` is `c < x ? c : x` and keeps a NaN.
    ...set(r, op("f32x4.pmax", op("f32x4.pmin", get(x), f32(104)), f32(-110))),
    ...set(n, op("f32x4.nearest", mul(get(r), f32(Math.LOG2E)))),
    ...set(r, sub(sub(get(r), mul(get(n), f32(0.693359375))), mul(get(n), f32(-2.1219444e-4)))),
    ...set(n, op("i32x4.trunc_sat_f32x4_s", get(n))),
    ...set(half, shift("i32x4.shr_s", get(n), 1)),
    ...set(
      r,
      add(
        add(
          mul(
            mul(
              polynomial(
                r,
                [1.98756915e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1],
              ),
              get(r),
            ),
            get(r),
          ),
          get(r),
        ),
        f32(1),
      ),
    ),
    ...mul(mul(get(r), power(get(half))), power(op("i32x4.sub", get(n), get(half)))),
  ]);
}

/** ln x = e ln 2 + ln m with m in [√½, √2). */
function log(): WasmFunction {
  const [x, m, e, z, small] = [0, 1, 2, 3, 4];
  return unaryFunction(4, [
    // Subnormals are scaled by 2^25 first.
    ...set(small, op("f32x4.lt", get(x), f32(1.17549435e-38))),
    ...set(m, pick(mul(get(x), f32(33554432)), get(x), get(small))),
    ...set(e, op("i32x4.sub", shift("i32x4.shr_u", get(m), 23), i32(126))),
    ...set(e, op("f32x4.convert_i32x4_s", op("i32x4.sub", get(e), op("v128.and", get(small), i32(25))))),
    ...set(m, op("v128.or", op("v128.and", get(m), i32(0x7fffff)), i32(0x3f000000))),
    ...set(z, op("f32x4.lt", get(m), f32(Math.SQRT1_2))),
    ...set(e, sub(get(e), op("v128.and", get(z), f32(1)))),
    ...set(m, sub(add(get(m), op("v128.and", get(m), get(z))), f32(1))),
    ...set(z, mul(get(m), get(m))),
    ...set(
      small,
      mul(
        mul(
          polynomial(
            m,
            [
              7.0376836292e-2, -1.151461031e-1, 1.167699874e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
              2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
            ],
          ),
          get(m),
        ),
        get(z),
      ),
    ),
    ...set(small, sub(add(get(small), mul(get(e), f32(-2.1219444e-4))), mul(get(z), f32(0.5)))),
    ...set(m, add(add(get(m), get(small)), mul(get(e), f32(0.693359375)))),
    ...set(m, pick(f32(Number.POSITIVE_INFINITY), get(m), op("f32x4.eq", get(x), f32(Number.POSITIVE_INFINITY)))),
    ...set(m, pick(f32(Number.NEGATIVE_INFINITY), get(m), op("f32x4.eq", get(x), f32(0)))),
    // x < 0, and NaN, for which no comparison holds.
    ...pick(get(m), f32(Number.NaN), op("f32x4.le", f32(0), get(x))),
  ]);
}

const HIGH_HALF = [8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15];
const LOW_HALVES = [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23];
const high = (value: V): V => [...value, ...value, ...shuffle(HIGH_HALF)];
const joinHalves = (low: V, upper: V): V => [...low, ...upper, ...shuffle(LOW_HALVES)];

/** sin(x + phase·π/2): the quadrant and the rest of x are found in double precision, good to |x| of about 1e8. */
function sine(phase: 0 | 1): WasmFunction {
  const [x, wide, turns, quadrant, rest, z] = [0, 1, 2, 3, 4, 5];
  const reduce = (half: V): V => [
    ...set(wide, op("f64x2.promote_low_f32x4", half)),
    ...set(turns, op("f64x2.nearest", op("f64x2.mul", get(wide), f64(2 / Math.PI)))),
  ];
  const restOf: V = op(
    "f32x4.demote_f64x2_zero",
    op(
      "f64x2.sub",
      op("f64x2.sub", get(wide), op("f64x2.mul", get(turns), f64(1.5707963267341256))),
      op("f64x2.mul", get(turns), f64(6.077100506506192e-11)),
    ),
  );
  const quadrantOf: V = op("i32x4.trunc_sat_f64x2_s_zero", get(turns));
  return unaryFunction(5, [
    ...reduce(get(x)),
    ...set(quadrant, quadrantOf),
    ...set(rest, restOf),
    ...reduce(high(get(x))),
    ...set(quadrant, op("i32x4.add", joinHalves(get(quadrant), quadrantOf), i32(phase))),
    ...set(rest, joinHalves(get(rest), restOf)),
    ...set(z, mul(get(rest), get(rest))),
    // Odd quadrants take the cosine of the rest, quadrants 2 and 3 the other sign.
    ...pick(
      add(
        sub(
          mul(mul(polynomial(z, [2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2]), get(z)), get(z)),
          mul(get(z), f32(0.5)),
        ),
        f32(1),
      ),
      add(mul(mul(polynomial(z, [-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1]), get(z)), get(rest)), get(rest)),
      // All ones where the lowest bit is set.
      shift("i32x4.shr_s", shift("i32x4.shl", get(quadrant), 31), 31),
    ),
    ...op("v128.and", shift("i32x4.shl", get(quadrant), 30), SIGN),
    ...plain("v128.xor"),
  ]);
}

/** A polynomial near 0, else 1 - 2/(e^2|x| + 1) with the sign of x. */
function tanh(helper: Helper): WasmFunction {
  const [x, size, z] = [0, 1, 2];
  return unaryFunction(2, [
    ...set(size, op("f32x4.abs", get(x))),
    ...set(z, mul(get(x), get(x))),
    ...pick(
      add(
        mul(
          mul(
            polynomial(
              z,
              [-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1],
            ),
            get(z),
          ),
          get(x),
        ),
        get(x),
      ),
      op(
        "v128.or",
        sub(f32(1), div(f32(2), add([...add(get(size), get(size)), ...indexed("call", helper("exp"))], f32(1)))),
        op("v128.and", get(x), SIGN),
      ),
      op("f32x4.lt", get(size), f32(0.625)),
    ),
  ]);
}

/** 1 / (1 + e^-x); where that overflows the answer is 0 to within a subnormal. */
function sigmoid(helper: Helper): WasmFunction {
  return unaryFunction(0, div(f32(1), add(f32(1), [...op("f32x4.neg", get(0)), ...indexed("call", helper("exp"))])));
}

/**
 * x^y = 2^(y log2 x), in double precision, two lanes at a time; a negative x needs an integral y.
 */
function pow(): WasmFunction {
  const [x, y, m, e, s, t, low, odd] = [0, 1, 2, 3, 4, 5, 6, 7];
  const mul64 = (a: V, b: V): V => op("f64x2.mul", a, b);
  const add64 = (a: V, b: V): V => op("f64x2.add", a, b);
  const sub64 = (a: V, b: V): V => op("f64x2.sub", a, b);
  // ln((1 + s)/(1 - s)) = 2 (s + s³/3 + s⁵/5 + …), |s| <= 0.172.
  const logSeries = [15, 13, 11, 9, 7, 5, 3, 1].map((n) => (2 * Math.LOG2E) / n);
  // 2^f, |f| <= 1/2.
  const expSeries: number[] = [];
  for (let n = 0, term = 1; n <= 9; n++, term *= Math.LN2 / n) expSeries.unshift(term);
  const half = (base: V, exponent: V): V => [
    ...set(m, op("f64x2.promote_low_f32x4", base)),
    // A number's exponent bits under those of 2^52 are that number plus 2^52.
    ...set(e, sub64(op("v128.or", shift("i64x2.shr_u", get(m), 52), i64(0x4330000000000000n)), f64(2 ** 52 + 1023))),
    ...set(t, get(m)),
    ...set(m, op("v128.or", op("v128.and", get(m), i64(0xfffffffffffffn)), i64(0x3ff0000000000000n))),
    ...set(s, op("f64x2.lt", f64(Math.SQRT2), get(m))),
    ...set(e, add64(get(e), op("v128.and", get(s), f64(1)))),
    ...set(m, pick(mul64(get(m), f64(0.5)), get(m), get(s))),
    ...set(s, op("f64x2.div", sub64(get(m), f64(1)), add64(get(m), f64(1)))),
    ...set(m, mul64(get(s), get(s))),
    ...set(e, add64(get(e), mul64(get(s), polynomial64(m, logSeries)))),
    ...set(e, pick(f64(-1e30), get(e), op("f64x2.eq", get(t), f64(0)))),
    ...set(e, pick(f64(1e30), get(e), op("f64x2.eq", get(t), f64(Number.POSITIVE_INFINITY)))),
    ...set(e, mul64(get(e), op("f64x2.promote_low_f32x4", exponent))),
    ...set(e, op("f64x2.pmax", op("f64x2.pmin", get(e), f64(1000)), f64(-1000))),
    ...set(t, op("f64x2.nearest", get(e))),
    ...set(s, sub64(get(e), get(t))),
    ...op(
      "f32x4.demote_f64x2_zero",
      mul64(polynomial64(s, expSeries), shift("i64x2.shl", add64(get(t), f64(2 ** 52 + 1023)), 52)),
    ),
  ];
  const size = op("f32x4.abs", get(x));
  const halfOfY = mul(get(y), f32(0.5));
  return {
    parameters: ["v128", "v128"],
    results: ["v128"],
    locals: vectors(6),
    code: [
      ...set(low, half(size, get(y))),
      ...set(low, joinHalves(get(low), half(high(size), high(get(y))))),
      // y is odd where y is integral and y/2 is not.
      ...set(
        odd,
        op(
          "v128.and",
          op("f32x4.ne", halfOfY, op("f32x4.floor", halfOfY)),
          op("f32x4.eq", get(y), op("f32x4.floor", get(y))),
        ),
      ),
      ...set(t, op("f32x4.lt", get(x), f32(0))),
      ...set(low, op("v128.xor", get(low), op("v128.and", op("v128.and", get(t), get(odd)), SIGN))),
      // NaN where x < 0 and y is no integer, or where either is NaN (but for y = 0).
      ...set(odd, op("v128.and", get(t), op("f32x4.ne", get(y), op("f32x4.floor", get(y))))),
      ...set(
        odd,
        op("v128.or", get(odd), op("v128.or", op("f32x4.ne", get(x), get(x)), op("f32x4.ne", get(y), get(y)))),
      ),
      ...set(low, pick(f32(Number.NaN), get(low), get(odd))),
      ...pick(f32(1), get(low), op("f32x4.eq", get(y), f32(0))),
    ],
  };
}

/** The WASM function for `fn`; `helper` gives the index of another that it calls. */
export function mathFunction(fn: MathFn, helper: Helper): WasmFunction {
  switch (fn) {
    case "exp":
      return exp();
    case "log":
      return log();
    case "sin":
      return sine(0);
    case "cos":
      return sine(1);
    case "tanh":
      return tanh(helper);
    case "sigmoid":
      return sigmoid(helper);
    case "pow":
      return pow();
    default:
      return fn satisfies never;
  }
}
