/**
 * Constructors of L3 expressions that fold constants as they build.
 *
 * Schedules write index arithmetic in its general form (`row * stride + 0`) and leave it to these functions to drop what
 * is known. Folding is exact: integers only, and nothing that changes the rounding of a float.
 */
import type { BinaryFn, Counters, UnaryFn } from "../scalar.ts";
import type { Builtin, Expr, Stmt, Type } from "./ir.ts";

/** An i32 constant. */
export function int(value: number): Expr {
  return { kind: "const", type: "i32", value };
}

/** An f32 constant. */
export function float(value: number): Expr {
  return { kind: "const", type: "f32", value };
}

export const TRUE: Expr = { kind: "const", type: "bool", value: 1 };

export function builtin(name: Builtin): Expr {
  return { kind: "builtin", type: "i32", name };
}

/** A local of the given type, by name. */
export function local(type: Type, name: string): Expr {
  return { kind: "var", type, name };
}

/** The value of an i32 constant; undefined for everything else. */
export function constantOf(e: Expr): number | undefined {
  return e.kind === "const" && e.type === "i32" ? e.value : undefined;
}

export function add(left: Expr, right: Expr): Expr {
  const r = constantOf(right);
  if (r !== undefined) return plus(left, r);
  const l = constantOf(left);
  return l === undefined ? { kind: "int", type: "i32", op: "add", left, right } : plus(right, l);
}

export function sub(left: Expr, right: Expr): Expr {
  const r = constantOf(right);
  return r === undefined ? { kind: "int", type: "i32", op: "sub", left, right } : plus(left, -r);
}

/** A sum with a constant. Constants gather on the right: (i + 2) - 3 is i - 1. */
function plus(e: Expr, by: number): Expr {
  const value = constantOf(e);
  if (value !== undefined) return int(value + by);
  if (by === 0) return e;
  if (e.kind === "int" && (e.op === "add" || e.op === "sub")) {
    const inner = constantOf(e.right);
    if (inner !== undefined) return plus(e.left, by + (e.op === "add" ? inner : -inner));
  }
  return { kind: "int", type: "i32", op: by < 0 ? "sub" : "add", left: e, right: int(Math.abs(by)) };
}

export function mul(left: Expr, right: Expr): Expr {
  const l = constantOf(left);
  const r = constantOf(right);
  if (l !== undefined && r !== undefined) return int(l * r);
  if (l !== undefined) return mul(right, left);
  if (r === 0) return int(0);
  if (r === 1) return left;
  if (r !== undefined && left.kind === "int" && left.op === "mul") {
    const inner = constantOf(left.right);
    if (inner !== undefined) return mul(left.left, int(inner * r));
  }
  return { kind: "int", type: "i32", op: "mul", left, right };
}

/** `left / by`, rounded down; `left` is not negative. */
export function div(left: Expr, by: number): Expr {
  const l = constantOf(left);
  if (l !== undefined) return int(Math.floor(l / by));
  if (by === 1) return left;
  const exact = quotient(left, by);
  return exact ?? { kind: "int", type: "i32", op: "div", left, right: int(by) };
}

/** The remainder of `left / by`; `left` is not negative. */
export function rem(left: Expr, by: number): Expr {
  const l = constantOf(left);
  if (l !== undefined) return int(l % by);
  if (by === 1 || quotient(left, by) !== undefined) return int(0);
  return { kind: "int", type: "i32", op: "rem", left, right: int(by) };
}

/** `left / by` where every term is seen to be a multiple of `by`; undefined where that is not seen. */
export function quotient(left: Expr, by: number): Expr | undefined {
  if (by === 1) return left;
  const l = constantOf(left);
  if (l !== undefined) return l % by === 0 ? int(l / by) : undefined;
  if (left.kind !== "int") return undefined;
  if (left.op === "mul") {
    const factor = constantOf(left.right);
    return factor !== undefined && factor % by === 0 ? mul(left.left, int(factor / by)) : undefined;
  }
  if (left.op !== "add" && left.op !== "sub") return undefined;
  const a = quotient(left.left, by);
  const b = a && quotient(left.right, by);
  if (a === undefined || b === undefined) return undefined;
  return left.op === "add" ? add(a, b) : sub(a, b);
}

export function minimum(left: Expr, right: Expr): Expr {
  const l = constantOf(left);
  const r = constantOf(right);
  if (l !== undefined && r !== undefined) return int(Math.min(l, r));
  return { kind: "int", type: "i32", op: "min", left, right };
}

function truth(value: boolean): Expr {
  return { kind: "const", type: "bool", value: value ? 1 : 0 };
}

/** Whether a condition is known to hold. */
export function alwaysTrue(e: Expr): boolean {
  return isTruth(e, 1);
}

function isTruth(e: Expr, value: 0 | 1): boolean {
  return e.kind === "const" && e.type === "bool" && e.value === value;
}

export function compare(op: "lt" | "le" | "eq", left: Expr, right: Expr): Expr {
  const l = constantOf(left);
  const r = constantOf(right);
  if (l !== undefined && r !== undefined) return truth(op === "lt" ? l < r : op === "le" ? l <= r : l === r);
  return { kind: "compare", type: "bool", op, left, right };
}

export function and(left: Expr, right: Expr): Expr {
  if (isTruth(left, 0) || isTruth(right, 1)) return left;
  if (isTruth(right, 0) || isTruth(left, 1)) return right;
  return { kind: "logic", type: "bool", op: "and", left, right };
}

export function select(condition: Expr, then: Expr, otherwise: Expr): Expr {
  if (isTruth(condition, 1)) return then;
  if (isTruth(condition, 0)) return otherwise;
  return { kind: "select", type: then.type, condition, then, otherwise };
}

/** The float type of an expression. */
function floatType(e: Expr): "f32" | "vec4" {
  if (e.type === "f32" || e.type === "vec4") return e.type;
  throw new Error(`internal: ${e.type} where a float is wanted`);
}

export function unary(fn: UnaryFn, value: Expr): Expr {
  return { kind: "unary", type: floatType(value), fn, value };
}

/** Both sides of one type: a float beside a vec4 is splatted. */
function alike(left: Expr, right: Expr): readonly [Expr, Expr] {
  if (left.type === right.type) return [left, right];
  return [widen(left), widen(right)];
}

export function binary(fn: BinaryFn, left: Expr, right: Expr): Expr {
  const [l, r] = alike(left, right);
  return { kind: "binary", type: floatType(l), fn, left: l, right: r };
}

export function fma(left: Expr, right: Expr, plus: Expr): Expr {
  const wide = left.type === "vec4" || right.type === "vec4" || plus.type === "vec4";
  if (!wide) return { kind: "fma", type: "f32", left, right, add: plus };
  return { kind: "fma", type: "vec4", left: widen(left), right: widen(right), add: widen(plus) };
}

/** Lane-wise `compare(left, right) ? then : otherwise`; a scalar comparison where no side is a vec4. */
export function choose(op: "lt" | "le" | "eq", left: Expr, right: Expr, then: Expr, otherwise: Expr): Expr {
  const wide = [left, right, then, otherwise].some((e) => e.type === "vec4");
  if (!wide) return select({ kind: "compare", type: "bool", op, left, right }, then, otherwise);
  const condition: Expr = { kind: "lanes", type: "bool", op, left: widen(left), right: widen(right) };
  return { kind: "select", type: "vec4", condition, then: widen(then), otherwise: widen(otherwise) };
}

/** A vec4 with equal lanes. */
export function widen(value: Expr): Expr {
  return value.type === "vec4" ? value : { kind: "splat", type: "vec4", value };
}

export function vec4(lanes: readonly [Expr, Expr, Expr, Expr]): Expr {
  const [first] = lanes;
  const equal = first.kind === "const" && lanes.every((e) => e.kind === "const" && Object.is(e.value, first.value));
  return equal ? widen(first) : { kind: "vec4", type: "vec4", lanes };
}

export const LANES = [0, 1, 2, 3] as const;
export type Lane = (typeof LANES)[number];

/** A vec4 from a function of the lane. */
export function lanes(of: (lane: Lane) => Expr): Expr {
  return vec4([of(0), of(1), of(2), of(3)]);
}

export function lane(value: Expr, index: Lane): Expr {
  if (value.type === "f32") return value;
  if (value.kind === "splat") return value.value;
  if (value.kind === "vec4") return value.lanes[index];
  return { kind: "lane", type: "f32", value, lane: index };
}

/** What invocation `from` of the subgroup has. */
export function broadcast(value: Expr, from: number): Expr {
  return { kind: "broadcast", type: "f32", value, from };
}

export function toFloat(value: Expr): Expr {
  const n = constantOf(value);
  return n === undefined ? { kind: "float", type: "f32", value } : float(n);
}

/** Draws with a key: one if the element is the same in all lanes (`stride` 0), else four. */
export function random(key: number, element: Expr, stride: number, counters: Counters<Expr>): Expr {
  const [step, low, high] = counters;
  const same: Counters<Expr> = [lane(step, 0), lane(low, 0), lane(high, 0)];
  return { kind: "random", type: stride === 0 ? "f32" : "vec4", key, element, stride, counters: same };
}

export function load(type: "f32" | "vec4", from: string, index: Expr): Expr {
  return { kind: "load", type, from, index };
}

export function store(to: string, index: Expr, value: Expr): Stmt {
  return { kind: "store", to, index, value };
}

/** An `if` that is left out where its condition is known. */
export function when(condition: Expr, then: readonly Stmt[]): readonly Stmt[] {
  if (then.length === 0 || isTruth(condition, 0)) return [];
  return isTruth(condition, 1) ? then : [{ kind: "if", condition, then, otherwise: [] }];
}

/** The number of this workgroup in a grid of [x, y, 1]. */
export function groupNumber(grid: readonly [number, number, number]): Expr {
  const x = builtin("workgroup.x");
  return grid[1] === 1 ? x : add(mul(builtin("workgroup.y"), int(grid[0])), x);
}

/** A loop from 0 to `to`, left out where it runs once. `none` is zero, in words that a compiler may see through or not. */
export function loop(
  name: string,
  to: number,
  step: number,
  body: (index: Expr) => readonly Stmt[],
  none: Expr = int(0),
): readonly Stmt[] {
  if (to <= step) return body(int(0));
  return [{ kind: "for", name, from: int(0), to: add(int(to), none), step, body: body(local("i32", name)) }];
}

/** The direct operands of an expression. */
export function childrenOf(e: Expr): readonly Expr[] {
  switch (e.kind) {
    case "const":
    case "var":
    case "builtin":
      return [];
    case "int":
    case "compare":
    case "logic":
    case "binary":
    case "lanes":
      return [e.left, e.right];
    case "unary":
    case "splat":
    case "lane":
    case "float":
    case "broadcast":
      return [e.value];
    case "fma":
      return [e.left, e.right, e.add];
    case "select":
      return [e.condition, e.then, e.otherwise];
    case "vec4":
      return e.lanes;
    case "random":
      return [e.element, ...e.counters];
    case "load":
      return [e.index];
    default:
      return e satisfies never;
  }
}
