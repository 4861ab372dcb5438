/**
 * Scalar functions: the one table of what a number can be put through.
 *
 * Each row says what a function is to every part of netc: its value in f64 (the interpreter and constant folding), its
 * text in WGSL, and its derivative as a scalar expression. The WASM back end and the L3 printer know functions by name.
 * A function without a builtin anywhere (`erf`) is composed of others when a graph is lowered, so that no back end ever
 * meets it and all of them compute the same numbers.
 */
import { roundToHalf } from "./half.ts";
import type { Affine } from "./loop/loops.ts";

export type UnaryFn =
  | "neg"
  | "abs"
  | "exp"
  | "log"
  | "sqrt"
  | "rsqrt"
  | "sin"
  | "cos"
  | "tanh"
  | "sigmoid"
  | "erf"
  | "floor"
  | "ceil"
  | "is_finite"
  | "half";
/** Those that a tensor graph has: how numbers are rounded is a matter of kernels. */
export type TensorFn = Exclude<UnaryFn, "half">;
export type BinaryFn = "add" | "sub" | "mul" | "div" | "max" | "min" | "pow";
export type CompareFn = "lt" | "le" | "eq";

/** A scalar expression over a kernel's loads, reduction states and axes. Shared subexpressions are shared objects. */
export type Scalar =
  | { readonly kind: "const"; readonly value: number }
  /** `Kernel.loads[index]`. */
  | { readonly kind: "load"; readonly index: number }
  /** Component `index` of the finished reduction state; only in store values. */
  | { readonly kind: "state"; readonly index: number }
  /** The value of an axis, as a float. */
  | { readonly kind: "axis"; readonly axis: number }
  | { readonly kind: "unary"; readonly fn: UnaryFn; readonly value: Scalar }
  | { readonly kind: "binary"; readonly fn: BinaryFn; readonly left: Scalar; readonly right: Scalar }
  /** `compare(left, right) ? then : otherwise`. */
  | {
      readonly kind: "select";
      readonly compare: CompareFn;
      readonly left: Scalar;
      readonly right: Scalar;
      readonly then: Scalar;
      readonly otherwise: Scalar;
    }
  /**
   * A uniform number in [0, 1), a multiple of 2^-24, drawn by random.ts. Equal draws give equal numbers, anywhere.
   * `element` counts the elements of a tensor, over the kernel's axes, in u32 arithmetic: beyond 2^32 it starts again.
   */
  | { readonly kind: "random"; readonly key: number; readonly element: Affine; readonly counters: Counters<Scalar> };

/** A draw of random numbers. */
export type Draw = Extract<Scalar, { kind: "random" }>;

/** Step (below 2^24) and the low and the high 16 bits of the seed: whole numbers, the same at every point. */
export type Counters<T> = readonly [step: T, seedLow: T, seedHigh: T];

/**
 * The lowest finite f32: what `-∞` is in kernels (masked logits, padding under a maximum), for WGSL has no infinities.
 */
export const LOWEST: number = -3.4028234663852886e38;

interface Row {
  readonly doc: string;
}

export interface UnaryRow extends Row {
  readonly value: (x: number) => number;
  /** WGSL for an operand text of type `f32` or `vec4<f32>`; undefined for composed functions. */
  readonly wgsl: ((x: string, type: "f32" | "vec4<f32>") => string) | undefined;
  /** The same function made of others. */
  readonly composed?: (x: Scalar) => Scalar;
  /** d fn(x)/dx, given the operand and the function's own result. */
  readonly derivative: (x: Scalar, result: Scalar) => Scalar;
  /** Rough price in multiply-adds, for fusion. */
  readonly cost: number;
}

export interface BinaryRow extends Row {
  readonly value: (left: number, right: number) => number;
  readonly wgsl: (left: string, right: string) => string;
  /** Derivatives by the left and by the right operand. */
  readonly derivative: (left: Scalar, right: Scalar, result: Scalar) => readonly [Scalar, Scalar];
  readonly cost: number;
}

export interface CompareRow extends Row {
  readonly value: (left: number, right: number) => boolean;
  readonly wgsl: (left: string, right: string) => string;
}

// ------------------------------------------------------------------------------------------------------- constructors

export function num(value: number): Scalar {
  return { kind: "const", value };
}

/** `fn(value)`, folded if the operand is a constant, composed if the function is. */
export function unary(fn: UnaryFn, value: Scalar): Scalar {
  const row = UNARY[fn];
  if (value.kind === "const") return num(row.value(value.value));
  return row.composed === undefined ? { kind: "unary", fn, value } : row.composed(value);
}

/** `fn(left, right)`; constants are folded, neutral elements and small constant powers simplified. */
export function binary(fn: BinaryFn, left: Scalar, right: Scalar): Scalar {
  if (left.kind === "const" && right.kind === "const") return num(BINARY[fn].value(left.value, right.value));
  const by = right.kind === "const" ? right.value : undefined;
  const from = left.kind === "const" ? left.value : undefined;
  if (fn === "add" && by === 0) return left;
  if (fn === "add" && from === 0) return right;
  if (fn === "sub" && by === 0) return left;
  if (fn === "mul" && by === 1) return left;
  if (fn === "mul" && from === 1) return right;
  if (fn === "div" && by === 1) return left;
  if (fn === "pow" && by !== undefined) return power(left, by);
  return { kind: "binary", fn, left, right };
}

/** WGSL's pow is exp2(y · log2(x)), undefined for negative x: whole powers are products. */
function power(x: Scalar, exponent: number): Scalar {
  if (exponent === 0.5) return unary("sqrt", x);
  if (exponent === -0.5) return unary("rsqrt", x);
  if (exponent < 0) return binary("div", num(1), power(x, -exponent));
  if (!Number.isInteger(exponent) || exponent > 16) {
    return { kind: "binary", fn: "pow", left: x, right: num(exponent) };
  }
  if (exponent === 0) return num(1);
  if (exponent === 1) return x;
  const half = power(x, Math.floor(exponent / 2));
  const square = binary("mul", half, half);
  return exponent % 2 === 0 ? square : binary("mul", square, x);
}

export function select(compare: CompareFn, left: Scalar, right: Scalar, then: Scalar, otherwise: Scalar): Scalar {
  if (left.kind === "const" && right.kind === "const") {
    return COMPARE[compare].value(left.value, right.value) ? then : otherwise;
  }
  return { kind: "select", compare, left, right, then, otherwise };
}

/** Σ coefficients[i] · x^i by Horner's rule. */
function polynomial(x: Scalar, coefficients: readonly number[]): Scalar {
  return coefficients.map(num).reduceRight((sum: Scalar, c: Scalar): Scalar => binary("add", binary("mul", sum, x), c));
}

/**
 * erf(x) ≈ x·P(x²)/Q(x²) on [-4, 4], the rational minimax fit that Eigen and XLA use in single precision
 * (`generic_fast_erf_float`). Within 2e-7 of erf everywhere, odd, and exact in the first digits near 0.
 */
function rationalErf(argument: Scalar): Scalar {
  const x = binary("max", binary("min", argument, num(4)), num(-4));
  const square = binary("mul", x, x);
  const p = polynomial(
    square,
    [
      -1.60960333262415e-2, -2.95459980854025e-3, -7.34990630326855e-4, -5.69250639462346e-5, -2.10102402082508e-6,
      2.77068142495902e-8, -2.72614225801306e-10,
    ],
  );
  const q = polynomial(
    square,
    [-1.42647390514189e-2, -7.37332916720468e-3, -1.68282697438203e-3, -2.13374055278905e-4, -1.45660718464996e-5],
  );
  return binary("div", binary("mul", x, p), q);
}

/** The value of `rationalErf`, so that constant folding agrees with what kernels compute. */
function erf(argument: number): number {
  return evaluateScalar(rationalErf({ kind: "axis", axis: 0 }), {
    load: () => 0,
    state: () => 0,
    axis: () => argument,
    random: () => 0,
  });
}

// --------------------------------------------------------------------------------------------------------- the tables

export const UNARY: { readonly [K in UnaryFn]: UnaryRow } = {
  neg: {
    doc: "-x",
    value: (x) => -x,
    wgsl: (x) => `-(${x})`,
    derivative: () => num(-1),
    cost: 1,
  },
  abs: {
    doc: "|x|; its derivative at 0 is taken as 0",
    value: Math.abs,
    wgsl: (x) => `abs(${x})`,
    derivative: (x) => select("eq", x, num(0), num(0), select("lt", x, num(0), num(-1), num(1))),
    cost: 1,
  },
  exp: {
    doc: "e^x",
    value: Math.exp,
    wgsl: (x) => `exp(${x})`,
    derivative: (_, result) => result,
    cost: 8,
  },
  log: {
    doc: "natural logarithm",
    value: Math.log,
    wgsl: (x) => `log(${x})`,
    derivative: (x) => binary("div", num(1), x),
    cost: 8,
  },
  sqrt: {
    doc: "√x",
    value: Math.sqrt,
    wgsl: (x) => `sqrt(${x})`,
    derivative: (_, result) => binary("div", num(0.5), result),
    cost: 4,
  },
  rsqrt: {
    doc: "1/√x",
    value: (x) => 1 / Math.sqrt(x),
    wgsl: (x) => `inverseSqrt(${x})`,
    derivative: (x, result) => binary("div", binary("mul", num(-0.5), result), x),
    cost: 4,
  },
  sin: {
    doc: "sine of radians",
    value: Math.sin,
    wgsl: (x) => `sin(${x})`,
    derivative: (x) => unary("cos", x),
    cost: 8,
  },
  cos: {
    doc: "cosine of radians",
    value: Math.cos,
    wgsl: (x) => `cos(${x})`,
    derivative: (x) => unary("neg", unary("sin", x)),
    cost: 8,
  },
  tanh: {
    doc: "hyperbolic tangent",
    value: Math.tanh,
    // Drivers compute it from exp(2x), which overflows; beyond 15 the result is ±1 in f32.
    wgsl: (x, type) => `tanh(clamp(${x}, ${type}(-15.0), ${type}(15.0)))`,
    derivative: (_, result) => binary("sub", num(1), binary("mul", result, result)),
    cost: 8,
  },
  sigmoid: {
    doc: "1/(1 + e^-x)",
    value: (x) => 1 / (1 + Math.exp(-x)),
    // Clamped for the same reason: e^88 is the last finite f32.
    wgsl: (x, type) => `(1.0 / (1.0 + exp(-clamp(${x}, ${type}(-80.0), ${type}(80.0)))))`,
    derivative: (_, result) => binary("mul", result, binary("sub", num(1), result)),
    cost: 8,
  },
  erf: {
    doc: "error function, within 2e-7",
    value: erf,
    wgsl: undefined,
    composed: rationalErf,
    derivative: (x) => binary("mul", num(2 / Math.sqrt(Math.PI)), unary("exp", unary("neg", binary("mul", x, x)))),
    cost: 16,
  },
  floor: {
    doc: "greatest whole number ≤ x; its derivative is 0",
    value: Math.floor,
    wgsl: (x) => `floor(${x})`,
    derivative: () => num(0),
    cost: 1,
  },
  ceil: {
    doc: "least whole number ≥ x; its derivative is 0",
    value: Math.ceil,
    wgsl: (x) => `ceil(${x})`,
    derivative: () => num(0),
    cost: 1,
  },
  is_finite: {
    doc: "1 where x is a finite number, 0 where it is infinite or NaN; its derivative is 0",
    value: (x) => (Number.isFinite(x) ? 1 : 0),
    // WGSL lets a compiler assume that there are no infinities and NaN, and compilers recognise the usual tests. Here
    // the exponent's bits, all ones in both, become 256 by an addition: no comparison that an assumption could decide.
    wgsl: (x, type) => {
      const words = type === "f32" ? "u32" : "vec4<u32>";
      const all = (bits: number): string => `${words}(${bits}u)`;
      const exponent = `((bitcast<${words}>(${x}) >> ${all(23)}) & ${all(255)})`;
      return `${type}(${all(1)} - ((${exponent} + ${all(1)}) >> ${all(8)}))`;
    },
    derivative: () => num(0),
    cost: 4,
  },
  half: {
    doc: "the half (IEEE 754 binary16) nearest to x; its derivative is taken as 1, as if nothing were rounded",
    value: roundToHalf,
    wgsl: (x, type) => `${type}(${type === "f32" ? "f16" : "vec4<f16>"}(${x}))`,
    derivative: () => num(1),
    cost: 2,
  },
};

export const BINARY: { readonly [K in BinaryFn]: BinaryRow } = {
  add: {
    doc: "left + right",
    value: (l, r) => l + r,
    wgsl: (l, r) => `(${l} + ${r})`,
    derivative: () => [num(1), num(1)],
    cost: 1,
  },
  sub: {
    doc: "left - right",
    value: (l, r) => l - r,
    wgsl: (l, r) => `(${l} - ${r})`,
    derivative: () => [num(1), num(-1)],
    cost: 1,
  },
  mul: {
    doc: "left · right",
    value: (l, r) => l * r,
    wgsl: (l, r) => `(${l} * ${r})`,
    derivative: (l, r) => [r, l],
    cost: 1,
  },
  div: {
    doc: "left / right",
    value: (l, r) => l / r,
    wgsl: (l, r) => `(${l} / ${r})`,
    derivative: (_, r, result) => [binary("div", num(1), r), unary("neg", binary("div", result, r))],
    cost: 4,
  },
  max: {
    doc: "the greater; where equal, the left operand takes the derivative, but relu = max(x, 0) has derivative 0 at 0",
    value: Math.max,
    wgsl: (l, r) => `max(${l}, ${r})`,
    derivative: (l, r) =>
      r.kind === "const"
        ? [select("lt", r, l, num(1), num(0)), select("lt", r, l, num(0), num(1))]
        : [select("lt", l, r, num(0), num(1)), select("lt", l, r, num(1), num(0))],
    cost: 1,
  },
  min: {
    doc: "the lesser; where equal, the left operand takes the derivative",
    value: Math.min,
    wgsl: (l, r) => `min(${l}, ${r})`,
    derivative: (l, r) => [select("le", l, r, num(1), num(0)), select("le", l, r, num(0), num(1))],
    cost: 1,
  },
  pow: {
    doc: "left^right, for left > 0; whole powers of any number become products when a graph is lowered",
    value: Math.pow,
    wgsl: (l, r) => `pow(${l}, ${r})`,
    derivative: (l, r, result) => [
      binary("mul", r, binary("pow", l, binary("sub", r, num(1)))),
      binary("mul", result, unary("log", l)),
    ],
    cost: 16,
  },
};

export const COMPARE: { readonly [K in CompareFn]: CompareRow } = {
  lt: { doc: "left < right", value: (l, r) => l < r, wgsl: (l, r) => `(${l} < ${r})` },
  le: { doc: "left ≤ right", value: (l, r) => l <= r, wgsl: (l, r) => `(${l} <= ${r})` },
  eq: { doc: "left = right", value: (l, r) => l === r, wgsl: (l, r) => `(${l} == ${r})` },
};

// ---------------------------------------------------------------------------------------------------------- traversal

/** What the leaves of a scalar stand for. */
export interface Leaves<T> {
  readonly load: (index: number) => T;
  readonly state: (index: number) => T;
  readonly axis: (axis: number) => T;
  readonly random: (draw: Draw, counters: Counters<T>) => T;
}

/** What every kind of scalar becomes in a fold. */
export interface Algebra<T> extends Leaves<T> {
  readonly constant: (value: number) => T;
  readonly unary: (fn: UnaryFn, value: T) => T;
  readonly binary: (fn: BinaryFn, left: T, right: T) => T;
  readonly select: (compare: CompareFn, left: T, right: T, then: T, otherwise: T) => T;
}

/**
 * Scalars folded from their leaves up, each distinct node once. `keep` sees every node with what became of it, and may
 * put something else in its place: a schedule gives it a name, so that sharing survives in the text.
 */
export function foldScalars<T>(
  scalars: readonly Scalar[],
  algebra: Algebra<T>,
  keep: (scalar: Scalar, value: T) => T = (_scalar, value) => value,
): readonly T[] {
  const known = new Map<Scalar, T>();
  const visit = (s: Scalar): T => {
    let value = known.get(s);
    if (value === undefined) {
      value = keep(s, make(s));
      known.set(s, value);
    }
    return value;
  };
  const make = (s: Scalar): T => {
    switch (s.kind) {
      case "const":
        return algebra.constant(s.value);
      case "load":
        return algebra.load(s.index);
      case "state":
        return algebra.state(s.index);
      case "axis":
        return algebra.axis(s.axis);
      case "unary":
        return algebra.unary(s.fn, visit(s.value));
      case "binary":
        return algebra.binary(s.fn, visit(s.left), visit(s.right));
      case "select":
        return algebra.select(s.compare, visit(s.left), visit(s.right), visit(s.then), visit(s.otherwise));
      case "random": {
        const [step, low, high] = s.counters;
        return algebra.random(s, [visit(step), visit(low), visit(high)]);
      }
      default:
        return s satisfies never;
    }
  };
  return scalars.map(visit);
}

/** The value of a scalar in f64. */
export function evaluateScalar(scalar: Scalar, leaves: Leaves<number>): number {
  const [value = Number.NaN] = foldScalars([scalar], {
    ...leaves,
    constant: (number) => number,
    unary: (fn, x) => UNARY[fn].value(x),
    binary: (fn, l, r) => BINARY[fn].value(l, r),
    select: (compare, l, r, then, otherwise) => (COMPARE[compare].value(l, r) ? then : otherwise),
  });
  return value;
}

/** The scalars with their leaves replaced; what they share stays shared, constants fold. */
export function rewriteScalars(scalars: readonly Scalar[], leaves: Leaves<Scalar>): readonly Scalar[] {
  return foldScalars<Scalar>(scalars, { ...leaves, constant: num, unary, binary, select });
}

/** The scalars that an operation is applied to; none for leaves. */
export function operands(s: Scalar): readonly Scalar[] {
  switch (s.kind) {
    case "unary":
      return [s.value];
    case "binary":
      return [s.left, s.right];
    case "select":
      return [s.left, s.right, s.then, s.otherwise];
    case "random":
      return s.counters;
    case "const":
    case "load":
    case "state":
    case "axis":
      return [];
    default:
      return s satisfies never;
  }
}

/** Calls `see` once for every distinct node of the expression. */
export function visitScalar(scalar: Scalar, see: (node: Scalar) => void): void {
  const seen = new Set<Scalar>();
  const visit = (s: Scalar): void => {
    if (seen.has(s)) return;
    seen.add(s);
    see(s);
    operands(s).forEach(visit);
  };
  visit(scalar);
}
