/** Sizes against brute force: whatever the normal form does, every value of the names must agree with plain integers. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  add,
  divExact,
  equal,
  factsOf,
  floorDiv,
  freeNames,
  isKnown,
  mod,
  mul,
  name,
  product,
  type Size,
  showShape,
  showSize,
  sub,
  substitute,
} from "../../compiler/size.ts";

/** A size expression: built once as a `Size`, computed once on integers. `M` has the fact `M % 6 == 0`. */
type Expression =
  | { readonly kind: "number"; readonly value: number }
  | { readonly kind: "name"; readonly name: "H" | "W" | "M" }
  | { readonly kind: "add" | "sub" | "mul"; readonly a: Expression; readonly b: Expression }
  | { readonly kind: "floor" | "mod"; readonly a: Expression; readonly by: number };

const { expression } = fc.letrec<{ expression: Expression }>((tie) => ({
  expression: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    fc.record({ kind: fc.constant("number" as const), value: fc.integer({ min: -20, max: 20 }) }),
    fc.record({ kind: fc.constant("name" as const), name: fc.constantFrom("H", "W", "M") }),
    fc.record({ kind: fc.constantFrom("add", "sub", "mul"), a: tie("expression"), b: tie("expression") }),
    fc.record({ kind: fc.constantFrom("floor", "mod"), a: tie("expression"), by: fc.integer({ min: 1, max: 12 }) }),
  ),
}));

const values = fc.record({
  H: fc.integer({ min: 1, max: 50 }),
  W: fc.integer({ min: 1, max: 50 }),
  M: fc.integer({ min: 1, max: 9 }).map((m) => 6 * m),
});
type Values = { readonly H: number; readonly W: number; readonly M: number };

function known(s: Size | undefined): Size {
  if (s === undefined) throw new Error("a size was expected");
  return s;
}

function build(e: Expression): Size {
  switch (e.kind) {
    case "number":
      return e.value;
    case "name":
      return e.name === "M" ? name("M", 6) : name(e.name);
    case "add":
      return add(build(e.a), build(e.b));
    case "sub":
      return sub(build(e.a), build(e.b));
    case "mul":
      return mul(build(e.a), build(e.b));
    case "floor":
      return known(floorDiv(build(e.a), e.by));
    case "mod":
      return known(mod(build(e.a), e.by));
    default:
      throw new Error(e satisfies never);
  }
}

function compute(e: Expression, v: Values): number {
  switch (e.kind) {
    case "number":
      return e.value;
    case "name":
      return v[e.name];
    case "add":
      return compute(e.a, v) + compute(e.b, v);
    case "sub":
      return compute(e.a, v) - compute(e.b, v);
    case "mul":
      return compute(e.a, v) * compute(e.b, v);
    case "floor":
      return Math.floor(compute(e.a, v) / e.by);
    case "mod": {
      const a = compute(e.a, v);
      return a - e.by * Math.floor(a / e.by);
    }
    default:
      throw new Error(e satisfies never);
  }
}

/** Products of random expressions outgrow exact integers; such cases say nothing. */
const exact = (n: number): boolean => Math.abs(n) < 2 ** 40;
const bind = (s: Size, v: Values): Size => substitute(s, new Map(Object.entries(v)));
const plus0 = (s: Size): Size => (s === 0 ? 0 : s);

describe("sizes agree with integers", () => {
  test("built from expressions", () => {
    fc.assert(
      fc.property(expression, values, (e, v) => {
        const want = compute(e, v);
        fc.pre(exact(want));
        expect(plus0(bind(build(e), v))).toBe(plus0(want));
      }),
      { numRuns: 2000 },
    );
  });

  test("equal sizes are equal for all values; the difference of a size and itself is 0", () => {
    fc.assert(
      fc.property(expression, expression, fc.array(values, { minLength: 3, maxLength: 3 }), (e, f, vs) => {
        const [a, b] = [build(e), build(f)];
        if (equal(a, b)) for (const v of vs) expect(bind(a, v)).toBe(bind(b, v));
        expect(sub(a, a)).toBe(0);
        expect(equal(sub(add(a, b), b), a)).toBe(true);
        expect(equal(mul(a, b), mul(b, a))).toBe(true);
        expect(equal(mul(a, add(b, 1)), add(mul(a, b), a))).toBe(true);
      }),
      { numRuns: 1000 },
    );
  });

  test("exact division undoes multiplication, and only that", () => {
    fc.assert(
      fc.property(expression, expression, (e, f) => {
        const [a, b] = [build(e), build(f)];
        const back = divExact(mul(a, b), b);
        if (b === 0) expect(back).toBeUndefined();
        else expect(equal(known(back), a)).toBe(true);
        const quotient = divExact(a, b);
        if (quotient !== undefined) expect(equal(mul(quotient, b), a)).toBe(true);
      }),
      { numRuns: 1000 },
    );
  });

  test("names bound in two steps", () => {
    fc.assert(
      fc.property(expression, values, (e, v) => {
        const first = substitute(build(e), new Map([["H", v.H]]));
        expect(freeNames(first).has("H")).toBe(false);
        expect(plus0(bind(first, v))).toBe(plus0(bind(build(e), v)));
      }),
    );
  });
});

describe("normal forms", () => {
  const H = name("H");
  const W = name("W");
  const window = (n: Size, k: number, stride: number, pad: number): Size =>
    add(known(floorDiv(add(n, 2 * pad - k), stride)), 1);

  test("an image that is a multiple of 32 is halved without a remainder", () => {
    const image = name("H", 32);
    const stem = window(image, 7, 2, 3);
    expect(showSize(stem)).toBe("H / 2");
    const pooled = window(stem, 3, 2, 1);
    const layer2 = window(pooled, 3, 2, 1);
    const layer3 = window(layer2, 3, 2, 1);
    expect(equal(layer3, known(divExact(image, 16)))).toBe(true);
    expect(showShape([name("N"), 1024, layer3, layer3])).toBe("[N, 1024, H / 16, H / 16]");
    expect(substitute(layer3, new Map([["H", 224]]))).toBe(14);
  });

  test("without the fact the floor stays, and nested floors are one", () => {
    expect(showSize(window(window(H, 7, 2, 3), 3, 2, 1))).toBe("⌊(H + 3) / 4⌋");
    expect(showSize(known(floorDiv(known(floorDiv(H, 2)), 2)))).toBe("⌊H / 4⌋");
  });

  test("shown as written by hand", () => {
    expect(showSize(sub(mul(2, H), 3))).toBe("2 * H - 3");
    expect(showSize(sub(0, H))).toBe("-H");
    expect(showSize(mul(mul(name("H", 32), name("W", 32)), 3))).toBe("3 * H * W");
    expect(showSize(known(divExact(mul(name("H", 32), name("W", 32)), 256)))).toBe("H * W / 256");
    expect(showSize(known(mod(H, 2)))).toBe("H - 2 * ⌊H / 2⌋");
    expect(showSize(known(floorDiv(known(divExact(name("H", 32), 32)), 2)))).toBe("⌊(H / 32) / 2⌋");
    expect(showShape([])).toBe("[]");
  });

  test("numbers stay numbers", () => {
    expect(sub(add(H, 3), H)).toBe(3);
    expect(product([2, 3, 4])).toBe(24);
    expect(isKnown(mul(0, H))).toBe(true);
    expect(floorDiv(-1, 2)).toBe(-1);
    expect(mod(-1, 4)).toBe(3);
  });

  test("what does not divide says so", () => {
    expect(divExact(7, 2)).toBeUndefined();
    expect(divExact(H, 3)).toBeUndefined();
    expect(divExact(H, W)).toBeUndefined();
    expect(divExact(3, H)).toBeUndefined();
    expect(divExact(H, 0)).toBeUndefined();
    expect(floorDiv(H, 0)).toBeUndefined();
    expect(mod(H, W)).toBeUndefined();
    expect(equal(mod(mul(H, W), W) ?? 1, 0)).toBe(true);
  });

  test("facts and names", () => {
    const s = add(known(floorDiv(name("H", 4), 8)), mul(W, 2));
    expect([...freeNames(s)].sort()).toEqual(["H", "W"]);
    expect(factsOf(s).get("H")).toBe(4);
    expect(factsOf(s).get("W")).toBe(1);
  });
});
