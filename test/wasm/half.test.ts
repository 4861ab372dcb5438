/**
 * Halves: the definition (compiler/half.ts) against the format itself, and the conversions of WASM kernels against both,
 * bit for bit: every half, and many floats with all ties between neighbouring halves among them.
 */
import { describe, expect, it } from "vitest";
import { roundToHalf } from "../../compiler/half.ts";
import type { Expr, KernelProgram, Stmt } from "../../compiler/kernel/ir.ts";
import { renderWasm } from "../../compiler/kernel/wasm.ts";
import { random } from "../loop/nets.ts";
import { maxPool, reduction } from "../schedule/cases.ts";
import { check, conv, inHalves, inputsOf, matmul, runOracle, runWasm } from "./kernels.ts";
import { instantiate } from "./module.ts";

const int = (value: number): Expr => ({ kind: "const", type: "i32", value });

/** One kernel that copies `count` elements, rounding or widening on the way. */
function copyKernel(
  count: number,
  type: "f32" | "vec4",
  form: "load" | "splat",
  halves: { from: boolean; to: boolean },
): KernelProgram {
  const i: Expr = { kind: "var", type: "i32", name: "i" };
  const load: Expr = { kind: "load", type: form === "splat" ? "f32" : type, from: "from", index: i };
  const value: Expr =
    form === "splat"
      ? { kind: "lane", type: "f32", value: { kind: "splat", type: "vec4", value: load }, lane: 2 }
      : load;
  return {
    name: "copy",
    header: [],
    args: [
      { name: "from", access: "read", size: count, vec4: false, half: halves.from },
      { name: "to", access: "read_write", size: count, vec4: false, half: halves.to },
    ],
    locals: [],
    body: [
      {
        kind: "for",
        name: "i",
        from: int(0),
        to: int(count),
        step: type === "vec4" ? 4 : 1,
        body: [{ kind: "store", to: "to", index: i, value }],
      },
    ],
    workgroupSize: [1, 1, 1],
    workgroups: [1, 1, 1],
  };
}

const FORMS = [
  ["f32", "load"],
  ["f32", "splat"],
  ["vec4", "load"],
] as const;

function widened(bits: Uint16Array, type: "f32" | "vec4", form: "load" | "splat"): Uint32Array {
  const program = copyKernel(bits.length, type, form, { from: true, to: false });
  const { memory, run } = instantiate(renderWasm(program, false), 64 + bits.length * 6);
  new Uint16Array(memory.buffer, 64, bits.length).set(bits);
  run(0, 1, 0, 64, 64 + bits.length * 2);
  return new Uint32Array(memory.buffer, 64 + bits.length * 2, bits.length).slice();
}

function narrowed(values: Float32Array, type: "f32" | "vec4", form: "load" | "splat"): Uint16Array {
  const program = copyKernel(values.length, type, form, { from: false, to: true });
  const { memory, run } = instantiate(renderWasm(program, false), 64 + values.length * 6);
  new Float32Array(memory.buffer, 64, values.length).set(values);
  run(0, 1, 0, 64, 64 + values.length * 4);
  return new Uint16Array(memory.buffer, 64 + values.length * 4, values.length).slice();
}

/** What the function `half` of kernels makes of values. */
function rounded(values: Float32Array, type: "f32" | "vec4"): Float32Array {
  const program = copyKernel(values.length, type, "load", { from: false, to: false });
  const body = program.body.map((loop): Stmt => {
    const [store] = loop.kind === "for" ? loop.body : [];
    if (loop.kind !== "for" || store?.kind !== "store") throw new Error("no copy");
    return { ...loop, body: [{ ...store, value: { kind: "unary", type, fn: "half", value: store.value } }] };
  });
  const { memory, run } = instantiate(renderWasm({ ...program, body }, false), 64 + values.length * 8);
  new Float32Array(memory.buffer, 64, values.length).set(values);
  run(0, 1, 0, 64, 64 + values.length * 4);
  return new Float32Array(memory.buffer, 64 + values.length * 4, values.length).slice();
}

/** IEEE 754-2008, 3.4: the value of a half. */
function valueOf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}

const ALL = Uint16Array.from({ length: 65536 }, (_, bits) => bits);
/** Those that are no NaN, from -∞ to ∞, with one zero. */
const ORDERED = [...ALL]
  .map(valueOf)
  .filter((x) => !Number.isNaN(x) && !Object.is(x, -0))
  .sort((a, b) => a - b);

/** The nearest half by search, ties to the even one: the definition, word for word. */
function nearest(x: number): number {
  if (Number.isNaN(x)) return x;
  let [low, high] = [0, ORDERED.length - 1];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if ((ORDERED[middle] ?? 0) <= x) low = middle;
    else high = middle - 1;
  }
  const below = ORDERED[low] ?? 0;
  const above = ORDERED[Math.min(low + 1, ORDERED.length - 1)] ?? 0;
  // Beyond the largest half the next would be 65536.
  const finite = (value: number): number => (Number.isFinite(value) ? value : Math.sign(value) * 65536);
  const [under, over] = [x - finite(below), finite(above) - x];
  const evenBelow = (Math.abs(finite(below)) / spacing(below, above)) % 2 === 0;
  const chosen = below === x || under < over || (under === over && evenBelow) ? below : above;
  return chosen === 0 && (x < 0 || Object.is(x, -0)) ? -0 : chosen;
}

function spacing(a: number, b: number): number {
  const [x, y] = [a, b].map((value) => (Number.isFinite(value) ? value : Math.sign(value) * 65536));
  return Math.abs((x ?? 0) - (y ?? 0)) || 1;
}

/** Halves, points midway between neighbours and next to those, and noise of every magnitude, as f32. */
const floats = ((): Float32Array => {
  const next = random(7);
  const values: number[] = [
    0,
    -0,
    Infinity,
    -Infinity,
    NaN,
    65504,
    65519.996,
    65520,
    -65520,
    65536,
    1e30,
    2 ** -25,
    1.5e-45,
  ];
  for (let i = 0; i + 1 < ORDERED.length; i++) {
    const [a, b] = [ORDERED[i] ?? 0, ORDERED[i + 1] ?? 0];
    if (!Number.isFinite(a) || !Number.isFinite(b)) continue;
    const tie = (a + b) / 2;
    const step = Math.abs(b - a) / 4096;
    values.push(a, tie, Math.fround(tie - step), Math.fround(tie + step));
  }
  const bits = new Uint32Array(1);
  for (let i = 0; i < 200_000; i++) {
    bits[0] = Math.floor((next() * 0.5 + 0.5) * 2 ** 32) ^ Math.floor((next() * 0.5 + 0.5) * 2 ** 16);
    values.push(new Float32Array(bits.buffer)[0] ?? 0, (next() - 0.5) * 2 ** Math.floor(next() * 20));
  }
  while (values.length % 4 !== 0) values.push(0);
  return Float32Array.from(values);
})();

describe("halves", () => {
  it("rounds doubles to the nearest, ties to even, beyond 65520 to infinity", () => {
    for (const x of floats)
      if (!Object.is(roundToHalf(x), nearest(x))) throw new Error(`${x} becomes ${roundToHalf(x)}, not ${nearest(x)}`);
    // Just beyond a tie, where an f32 would still see the tie.
    expect(roundToHalf(1 + 2 ** -11)).toBe(1);
    expect(roundToHalf(1 + 2 ** -11 + 2 ** -50)).toBe(1 + 2 ** -10);
    expect(roundToHalf(2 ** -25)).toBe(0);
    expect(roundToHalf(2 ** -25 + 2 ** -70)).toBe(2 ** -24);
  });

  it.each(FORMS)("all 65,536 become f32 in WASM (%s, %s)", (type, form) => {
    const got = widened(ALL, type, form);
    const values = new Float32Array(got.buffer);
    for (const bits of ALL) {
      const want = valueOf(bits);
      if (!Object.is(values[bits], Number.isNaN(want) ? NaN : want)) throw new Error(`${bits}: ${values[bits]}`);
      // A NaN keeps its sign and its fraction.
      if (Number.isNaN(want))
        expect(got[bits]).toBe((((bits & 0x8000) << 16) | 0x7f800000 | ((bits & 1023) << 13)) >>> 0);
    }
  });

  it.each(FORMS)("floats become the nearest in WASM (%s, %s), infinities and NaN too", (type, form) => {
    const got = narrowed(floats, type, form);
    floats.forEach((x, i) => {
      const bits = got[i] ?? 0;
      if (!Object.is(valueOf(bits) === 0 && bits & 0x8000 ? -0 : valueOf(bits), nearest(x)))
        throw new Error(`${x} becomes ${valueOf(bits)}, not ${nearest(x)}`);
    });
  });
});

it.each(["f32", "vec4"] as const)("kernels round to halves and go on in f32 (%s)", (type) => {
  const got = rounded(floats, type);
  floats.forEach((x, i) => {
    if (!Object.is(got[i], nearest(x))) throw new Error(`${x} becomes ${got[i]}, not ${nearest(x)}`);
  });
});

describe("kernels", () => {
  const base = { n: 2, c: 6, h: 9, w: 7, o: 12, k: 3, stride: 1, pad: 1, dilation: 1, groups: 1 };
  const shapes = [
    conv(base),
    conv({ ...base, c: 5, o: 7, stride: 2 }),
    conv({ ...base, c: 64, o: 40, h: 12, w: 12 }),
    matmul(3, 27, 126, 30, "nn"),
    matmul(1, 33, 8, 17, "nn"),
    matmul(2, 5, 9, 126, "nt"),
    matmul(2, 7, 24, 126, "tn"),
    matmul(1, 1, 24, 1000, "packed"),
    maxPool(2, 5, 9, 3, 2, 1),
    maxPool(1, 8, 8, 2, 2, 0),
    reduction("sum", 3, 50, 12),
    reduction("max", 5, 33, 1),
  ];
  // Packed weights are never halves.
  const cases = shapes.flatMap((c) => {
    const last = c.buffers.length - 1;
    const plain = (id: number): boolean => c.buffers[id]?.layout.kind === "rows";
    return [inHalves(c, (id) => id !== last && plain(id)), inHalves(c, (id) => id === last), inHalves(c, plain)];
  });

  it.each(cases)("$name", (c) => {
    const stored = c.outs.some((id) => c.buffers[id]?.dtype === "f16");
    const { relL2, max } = check(c, 2);
    expect(relL2).toBeLessThan(stored ? 2e-5 : 1e-6);
    // Where a sum lies between two halves, f32 and f64 may choose differently.
    expect(max).toBeLessThan(stored ? 2 ** -10 : 1e-5);
    const [want, got] = [runOracle(c, inputsOf(c)), runWasm(c, inputsOf(c), 1)];
    const [out = 0] = c.outs;
    const equal = [...(got.get(out) ?? [])].filter((x, i) => x === want.get(out)?.[i]).length;
    if (stored) expect(equal / (got.get(out)?.length ?? 1)).toBeGreaterThan(0.98);
  });
});
