/** The tables of scalar functions and reducers: values, derivatives, merges. */
import { describe, expect, it } from "vitest";
import { REDUCERS } from "../../compiler/loop/reducers.ts";
import type { Scalar } from "../../compiler/scalar.ts";
import {
  BINARY,
  type BinaryFn,
  evaluateScalar,
  LOWEST,
  num,
  UNARY,
  type UnaryFn,
  unary,
} from "../../compiler/scalar.ts";
import { random } from "./nets.ts";

const operand = (axis: number): Scalar => ({ kind: "axis", axis });
const at = (scalar: Scalar, ...values: number[]): number =>
  evaluateScalar(scalar, {
    load: () => Number.NaN,
    state: () => Number.NaN,
    axis: (i) => values[i] ?? Number.NaN,
    random: () => Number.NaN,
  });

/** Central difference of fourth order. */
function slope(f: (x: number) => number, x: number): number {
  const h = 1e-3;
  return (8 * (f(x + h) - f(x - h)) - (f(x + 2 * h) - f(x - 2 * h))) / (12 * h);
}

describe("derivatives", () => {
  // Rounding has steps for a slope: the rule is to look past it.
  it("half", () => expect(UNARY.half.derivative(operand(0), num(0.5))).toEqual(num(1)));
  for (const fn of (Object.keys(UNARY) as UnaryFn[]).filter((name) => name !== "half")) {
    it(fn, () => {
      const row = UNARY[fn];
      for (const x of [0.3, 0.9, 1.7, 2.6, ...(["log", "sqrt", "rsqrt"].includes(fn) ? [] : [-0.4, -1.3])]) {
        const derivative = at(row.derivative(operand(0), num(row.value(x))), x);
        expect(derivative).toBeCloseTo(slope(row.value, x), fn === "erf" ? 5 : 8);
      }
    });
  }
  for (const fn of Object.keys(BINARY) as BinaryFn[]) {
    it(fn, () => {
      const row = BINARY[fn];
      for (const [l, r] of [
        [0.7, 1.9],
        [2.3, 0.4],
        [1.1, 3],
      ] as const) {
        const [left, right] = row.derivative(operand(0), operand(1), num(row.value(l, r)));
        expect(at(left, l, r)).toBeCloseTo(
          slope((x) => row.value(x, r), l),
          8,
        );
        expect(at(right, l, r)).toBeCloseTo(
          slope((x) => row.value(l, x), r),
          8,
        );
      }
    });
  }
  it("relu has none at 0, and the two sides of a tie share one", () => {
    const [relu] = BINARY.max.derivative(operand(0), num(0), num(0));
    expect(at(relu, 0)).toBe(0);
    for (const fn of ["max", "min"] as const) {
      const [l, r] = BINARY[fn].derivative(operand(0), operand(1), num(2));
      expect([at(l, 2, 2), at(r, 2, 2)]).toEqual([1, 0]);
    }
  });
});

describe("erf", () => {
  it("is within 2e-7 of known values, and folds to what kernels compute", () => {
    // Abramowitz and Stegun, table 7.1.
    for (const [x, y] of [
      [0.1, 0.112462916],
      [0.5, 0.5204998778],
      [1, 0.8427007929],
      [1.5, 0.9661051465],
      [2, 0.995322265],
      [-2, -0.995322265],
      [9, 1],
    ] as const) {
      expect(Math.abs(UNARY.erf.value(x) - y)).toBeLessThan(2e-7);
      expect(at(unary("erf", operand(0)), x)).toBe(UNARY.erf.value(x));
    }
  });
});

describe("WGSL", () => {
  it("has text for everything but composed functions", () => {
    for (const row of Object.values(UNARY)) expect(row.wgsl === undefined).toBe(row.composed !== undefined);
    expect(UNARY.tanh.wgsl?.("x", "vec4<f32>")).toBe("tanh(clamp(x, vec4<f32>(-15.0), vec4<f32>(15.0)))");
    expect(UNARY.rsqrt.wgsl?.("x", "f32")).toBe("inverseSqrt(x)");
    expect(BINARY.max.wgsl("a", "b")).toBe("max(a, b)");
  });
});

describe("reducers", () => {
  const run = (
    name: keyof typeof REDUCERS,
    values: readonly (readonly number[])[],
    from?: readonly number[],
  ): number[] => {
    const { init, step } = REDUCERS[name];
    return values.reduce<number[]>((state, x) => apply(step, state, x), [...(from ?? init)]);
  };
  const apply = (scalars: readonly Scalar[], state: readonly number[], load: readonly number[]): number[] =>
    scalars.map((s) =>
      evaluateScalar(s, {
        state: (i) => state[i] ?? Number.NaN,
        load: (i) => load[i] ?? Number.NaN,
        axis: () => Number.NaN,
        random: () => Number.NaN,
      }),
    );
  const next = random(5);
  const xs = Array.from({ length: 30 }, () => 4 * next());

  it("compute what they say", () => {
    expect(
      run(
        "sum",
        xs.map((x) => [x]),
      )[0],
    ).toBeCloseTo(
      xs.reduce((a, b) => a + b, 0),
      12,
    );
    expect(
      run(
        "max",
        xs.map((x) => [x]),
      ),
    ).toEqual([Math.max(...xs)]);
    expect(
      run(
        "min",
        xs.map((x) => [x]),
      ),
    ).toEqual([Math.min(...xs)]);
    expect(
      run(
        "argmax",
        xs.map((x, i) => [x, i]),
      ),
    ).toEqual([Math.max(...xs), xs.indexOf(Math.max(...xs))]);
    const [m, s] = run(
      "softmax",
      xs.map((x) => [x]),
    );
    expect(m).toBe(Math.max(...xs));
    expect(s).toBeCloseTo(
      xs.reduce((sum, x) => sum + Math.exp(x - (m ?? 0)), 0),
      12,
    );
  });
  it("merge parts into the whole, empty ones too", () => {
    for (const name of Object.keys(REDUCERS) as (keyof typeof REDUCERS)[]) {
      const points = xs.map((x, i) =>
        name === "argmax" ? [Math.round(x), i] : Array.from({ length: REDUCERS[name].operands }, (_, at) => x + at),
      );
      const whole = run(name, points);
      for (const cut of [0, 1, 13, 30]) {
        const merged = apply(REDUCERS[name].merge, run(name, points.slice(0, cut)), run(name, points.slice(cut)));
        merged.forEach((value, i) => expect(value, `${name} cut at ${cut}`).toBeCloseTo(whole[i] ?? Number.NaN, 12));
        const turned = apply(REDUCERS[name].merge, run(name, points.slice(cut)), run(name, points.slice(0, cut)));
        turned.forEach((value, i) => expect(value, `${name} turned`).toBeCloseTo(whole[i] ?? Number.NaN, 12));
      }
    }
  });
  it("take masked entries for nothing", () => {
    expect(run("softmax", [[LOWEST], [LOWEST], [3], [LOWEST]])).toEqual([3, 1]);
  });
});
