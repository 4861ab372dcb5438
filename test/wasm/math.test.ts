/**
 * The transcendental functions of WASM kernels against JavaScript's double precision ones.
 */
import { describe, expect, it } from "vitest";
import type { Expr, KernelProgram } from "../../compiler/kernel/ir.ts";
import { renderWasm } from "../../compiler/kernel/wasm.ts";
import type { BinaryFn, UnaryFn } from "../../compiler/scalar.ts";
import { instantiate } from "./module.ts";

const int = (value: number): Expr => ({ kind: "const", type: "i32", value });

/** One kernel that applies a function to `count` values, vector or scalar. */
function mapKernel(count: number, type: "f32" | "vec4", apply: (a: Expr, b: Expr) => Expr): KernelProgram {
  const i: Expr = { kind: "var", type: "i32", name: "i" };
  const load = (from: string): Expr => ({ kind: "load", type, from, index: i });
  return {
    name: "map",
    header: [],
    args: ["a", "b", "out"].map((name) => ({ name, access: "read_write", size: count, vec4: false })),
    locals: [],
    body: [
      {
        kind: "for",
        name: "i",
        from: int(0),
        to: int(count),
        step: type === "vec4" ? 4 : 1,
        body: [{ kind: "store", to: "out", index: i, value: apply(load("a"), load("b")) }],
      },
    ],
    workgroupSize: [1, 1, 1],
    workgroups: [1, 1, 1],
  };
}

function evaluate(
  type: "f32" | "vec4",
  a: readonly number[],
  b: readonly number[],
  apply: (a: Expr, b: Expr) => Expr,
): number[] {
  const count = Math.ceil(a.length / 4) * 4;
  const { memory, run } = instantiate(renderWasm(mapKernel(count, type, apply), false), 3 * count * 4 + 64);
  new Float32Array(memory.buffer, 64, a.length).set(a);
  new Float32Array(memory.buffer, 64 + count * 4, b.length).set(b);
  run(0, 1, 0, 64, 64 + count * 4, 64 + count * 8);
  return [...new Float32Array(memory.buffer, 64 + count * 8, a.length)];
}

const unary = (type: "f32" | "vec4", fn: UnaryFn, xs: readonly number[]): number[] =>
  evaluate(type, xs, xs, (value) => ({ kind: "unary", type, fn, value }));
const binary = (fn: BinaryFn, xs: readonly number[], ys: readonly number[]): number[] =>
  evaluate("vec4", xs, ys, (left, right) => ({ kind: "binary", type: "vec4", fn, left, right }));

const range = (from: number, to: number, count: number): number[] =>
  Array.from({ length: count }, (_, i) => Math.fround(from + ((to - from) * i) / (count - 1)));

const SUBNORMAL = 1.2e-38;

const CASES: readonly { fn: UnaryFn; reference: (x: number) => number; points: number[]; relative: number }[] = [
  { fn: "exp", reference: Math.exp, points: [...range(-87, 88, 5001), ...range(-1, 1, 1001)], relative: 3e-7 },
  {
    fn: "log",
    reference: Math.log,
    points: [...range(1e-6, 10, 5001), ...range(1, 1e30, 1001), ...[1e-40, 3e-45].map(Math.fround)],
    relative: 3e-7,
  },
  { fn: "tanh", reference: Math.tanh, points: [...range(-12, 12, 5001), ...range(-1e-3, 1e-3, 1001)], relative: 3e-7 },
  { fn: "sigmoid", reference: (x) => 1 / (1 + Math.exp(-x)), points: range(-85, 40, 5001), relative: 4e-7 },
  { fn: "sqrt", reference: Math.sqrt, points: range(0, 1e5, 1001), relative: 1e-7 },
  { fn: "rsqrt", reference: (x) => 1 / Math.sqrt(x), points: range(1e-5, 1e5, 1001), relative: 2e-7 },
];

describe.each(["f32", "vec4"] as const)("%s", (type) => {
  it.each(CASES)("$fn is right to a few 1e-7", ({ fn, reference, points, relative }) => {
    const got = unary(type, fn, points);
    let worst = 0;
    points.forEach((x, i) => {
      const want = reference(x);
      const error = Math.abs((got[i] ?? Number.NaN) - want) / Math.max(Math.abs(want), SUBNORMAL);
      worst = Math.max(worst, Number.isNaN(error) ? Number.POSITIVE_INFINITY : error);
    });
    expect(worst).toBeLessThan(relative);
  });

  it("sin and cos are right near 0 and far from it", () => {
    const points = [...range(-10, 10, 5001), ...range(1e4, 1e5, 1001), ...range(-3e6, -2e6, 1001)];
    for (const [fn, reference] of [
      ["sin", Math.sin],
      ["cos", Math.cos],
    ] as const) {
      const worst = Math.max(...unary(type, fn, points).map((got, i) => Math.abs(got - reference(points[i] ?? 0))));
      expect(worst).toBeLessThan(2e-7);
    }
  });
});

describe("edges", () => {
  const { POSITIVE_INFINITY: INF, NEGATIVE_INFINITY: MINUS_INF, NaN: NOT } = Number;
  it.each([
    ["exp", [MINUS_INF, -1000, -104.5, 89, 1000, INF, 0, NOT], [0, 0, 0, INF, INF, INF, 1, NOT]],
    ["log", [0, -0, -1, INF, 1, NOT], [MINUS_INF, MINUS_INF, NOT, INF, 0, NOT]],
    ["tanh", [MINUS_INF, -100, 0, 100, INF, NOT], [-1, -1, 0, 1, 1, NOT]],
    ["sigmoid", [MINUS_INF, -200, 0, 200, INF, NOT], [0, 0, 0.5, 1, 1, NOT]],
  ] as const)("%s", (fn, xs, want) => {
    expect(unary("vec4", fn, xs)).toEqual(want);
  });

  it("exp fades through the subnormals", () => {
    expect(unary("vec4", "exp", [-90, -100])).toEqual([-90, -100].map((x) => expect.closeTo(Math.exp(x), 44)));
  });

  it("pow follows Math.pow", () => {
    const xs = [2, -2, -2, -2, 0, 0, 9, 1e-3, 7.5, INF, 1.0001, NOT, 5, -8, 1e20, 0];
    const ys = [10, 2, 3, 0.5, 0, 2, 0.5, 3, -2.5, -1, 5000, 2, NOT, -1, 3, -1];
    const got = binary("pow", xs, ys);
    xs.forEach((x, i) => {
      const want = Math.fround(Math.fround(x) ** (ys[i] ?? 0));
      if (Number.isFinite(want) && want !== 0) expect(Math.abs((got[i] ?? 0) / want - 1)).toBeLessThan(2e-7);
      else expect(got[i]).toBe(want);
    });
  });

  it("max and min keep a NaN that meets a constant", () => {
    const zero: Expr = { kind: "splat", type: "vec4", value: { kind: "const", type: "f32", value: 0 } };
    const got = evaluate("vec4", [NOT, -1, 2], [0, 0, 0], (a) => ({
      kind: "binary",
      type: "vec4",
      fn: "max",
      left: zero,
      right: a,
    }));
    expect(got).toEqual([NOT, 0, 2]);
  });
});
