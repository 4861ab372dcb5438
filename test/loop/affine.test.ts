/** The simplifier against brute force: whatever it makes of an expression has the same value at every point. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  add,
  asAxis,
  axis,
  bounds,
  boundsUnder,
  collapse,
  constant,
  evaluate,
  flatten,
  floorDiv,
  isLinear,
  key,
  mod,
  scale,
  strideOf,
  substitute,
  unflatten,
} from "../../compiler/loop/affine.ts";
import type { Affine } from "../../compiler/loop/loops.ts";

const SIZES = [4, 6, 5];

/** An expression as it was written, evaluated without any simplifier. */
type Plain =
  | { readonly op: "axis"; readonly axis: number }
  | { readonly op: "constant"; readonly value: number }
  | { readonly op: "add"; readonly left: Plain; readonly right: Plain }
  | { readonly op: "scale" | "div" | "mod"; readonly of: Plain; readonly by: number };

const divisor = fc.constantFrom(1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 24, 30);
const { plain } = fc.letrec<{ plain: Plain }>((tie) => ({
  plain: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    fc.record({ op: fc.constant("axis" as const), axis: fc.nat(2) }),
    fc.record({ op: fc.constant("constant" as const), value: fc.integer({ min: -7, max: 30 }) }),
    fc.record({ op: fc.constant("add" as const), left: tie("plain"), right: tie("plain") }),
    fc.record({
      op: fc.constant("scale" as const),
      of: tie("plain"),
      by: fc.constantFrom(-2, -1, 2, 3, 4, 5, 6, 20, 30),
    }),
    fc.record({ op: fc.constantFrom("div" as const, "mod" as const), of: tie("plain"), by: divisor }),
  ),
}));

function valueOf(e: Plain, point: readonly number[]): number {
  switch (e.op) {
    case "axis":
      return point[e.axis] ?? Number.NaN;
    case "constant":
      return e.value;
    case "add":
      return valueOf(e.left, point) + valueOf(e.right, point);
    case "scale":
      return valueOf(e.of, point) * e.by;
    case "div":
      return Math.floor(valueOf(e.of, point) / e.by);
    case "mod":
      return valueOf(e.of, point) - e.by * Math.floor(valueOf(e.of, point) / e.by);
  }
}

function build(e: Plain): Affine {
  switch (e.op) {
    case "axis":
      return axis(e.axis);
    case "constant":
      return constant(e.value);
    case "add":
      return collapse(add(build(e.left), build(e.right)), SIZES);
    case "scale":
      return scale(build(e.of), e.by);
    case "div":
      return floorDiv(build(e.of), e.by, SIZES);
    case "mod":
      return mod(build(e.of), e.by, SIZES);
  }
}

function points(sizes: readonly number[]): readonly (readonly number[])[] {
  return sizes.reduce<readonly (readonly number[])[]>(
    (all, size) => all.flatMap((point) => Array.from({ length: size }, (_, i) => [...point, i])),
    [[]],
  );
}

const POINTS = points(SIZES);

describe("affine expressions", () => {
  it("keep their value, stay within their bounds, have whole numbers", () => {
    fc.assert(
      fc.property(plain, (written) => {
        const e = build(written);
        const { min, max } = bounds(e, SIZES);
        const wrong = POINTS.filter((point) => {
          const value = evaluate(e, point);
          return value !== valueOf(written, point) || value < min || value > max;
        });
        expect(wrong).toEqual([]);
        expect(key(e)).not.toMatch(/\d\.\d|e|NaN|undefined/);
      }),
      { numRuns: 1500, seed: 7 },
    );
  });

  it("keep their value when axes are replaced", () => {
    fc.assert(
      fc.property(plain, fc.constantFrom(2, 3, 4, 6, 12), (written, radix) => {
        // One axis b of 120 in place of all three, cut by other radices than the expression's own.
        const sizes = [120];
        const replacements = [
          mod(floorDiv(axis(0), radix, sizes), 4, sizes),
          mod(axis(0), 6, sizes),
          mod(floorDiv(axis(0), 24, sizes), 5, sizes),
        ];
        const moved = substitute(build(written), replacements, sizes);
        const wrong = Array.from({ length: 120 }, (_, b) => b).filter((b) => {
          const point = [Math.floor(b / radix) % 4, b % 6, Math.floor(b / 24) % 5];
          return evaluate(moved, [b]) !== valueOf(written, point);
        });
        expect(wrong).toEqual([]);
      }),
      { numRuns: 500, seed: 8 },
    );
  });

  it("bounds under guards hold wherever the guards do", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: -5, max: 5 }), { minLength: 4, maxLength: 4 }),
        fc.array(fc.integer({ min: -3, max: 3 }), { minLength: 4, maxLength: 4 }),
        fc.integer({ min: 1, max: 9 }),
        ([a = 0, b = 0, c = 0, d = 0], [e = 0, f = 0, g = 0, h = 0], size) => {
          const index = add(axis(0, a), axis(1, b), axis(2, c), constant(d));
          const guard = { index: add(axis(0, e), axis(1, f), axis(2, g), constant(h)), size };
          const { min, max } = boundsUnder(index, [guard], SIZES);
          const held = POINTS.filter((point) => {
            const at = evaluate(guard.index, point);
            return at >= 0 && at < size;
          });
          expect(held.map((point) => evaluate(index, point)).filter((value) => value < min || value > max)).toEqual([]);
        },
      ),
      { numRuns: 500, seed: 9 },
    );
  });

  it("a reshape there and back is nothing", () => {
    fc.assert(
      fc.property(
        fc.constantFrom([4, 6, 5], [2, 60], [120], [2, 2, 6, 5], [8, 3, 5], [24, 5], [1, 4, 30, 1]),
        fc.constantFrom([10, 12], [5, 4, 6], [3, 5, 8], [120], [60, 2], [2, 3, 4, 5]),
        (from, to) => {
          const index = from.map((_, d) => axis(d));
          const there = unflatten(flatten(index, from, from), to, from);
          const back = unflatten(flatten(there, to, from), from, from);
          back.forEach((part, d) => {
            const identity = (from[d] ?? 0) === 1 ? part.terms.length === 0 : asAxis(part) === d;
            expect(identity, `${key(part)} for ${from.join("x")} via ${to.join("x")}`).toBe(true);
          });
        },
      ),
      { numRuns: 100, seed: 10 },
    );
  });
});

describe("simplifications", () => {
  const sizes = [3136, 512];
  it("(p / 56)·56 + p mod 56 is p", () => {
    const e = add(scale(floorDiv(axis(0), 56, sizes), 56), mod(axis(0), 56, sizes));
    expect(asAxis(collapse(e, sizes))).toBe(0);
  });
  it("joins remainders of quotients", () => {
    const e = add(scale(mod(floorDiv(axis(0), 7, sizes), 7, sizes), 7), mod(axis(0), 7, sizes));
    expect(key(collapse(e, sizes))).toBe(key(mod(axis(0), 49, sizes)));
  });
  it("drops what divides and what is too small to matter", () => {
    const e = add(scale(axis(0), 512), axis(1));
    expect(asAxis(floorDiv(e, 512, sizes))).toBe(0);
    expect(asAxis(mod(e, 512, sizes))).toBe(1);
    expect(asAxis(floorDiv(add(e, constant(-512)), 512, sizes))).toBeUndefined();
    expect(key(floorDiv(add(scale(axis(0), 2), constant(-1)), 2, sizes))).toBe(key(add(axis(0), constant(-1))));
  });
  it("knows strides, except inside divisions", () => {
    const e = add(scale(axis(0), 3), floorDiv(axis(1), 7, sizes));
    expect(strideOf(e, 0)).toBe(3);
    expect(strideOf(e, 1)).toBeUndefined();
    expect(isLinear(e)).toBe(false);
  });
});
