/**
 * The two factors of a contraction, seen as matrices: points along M or N, and four lanes at a time.
 *
 * A factor is read in quads: four lanes along K or along its side (M or N), whichever lies in memory as one aligned vec4,
 * else whichever walks through memory. Where a side is several axes flattened together (n, h, w of a convolution) and a
 * quad may cross from one to the next, each lane gets a point of its own.
 */
import { add, compare, lanes as fourLanes, int, minimum, select, TRUE, widen } from "../kernel/build.ts";
import type { Expr, Stmt } from "../kernel/ir.ts";
import { strideOf } from "../loop/affine.ts";
import type { Contraction, Factor } from "../loop/contraction.ts";
import { product } from "../loop/layout.ts";
import type { Load } from "../loop/loops.ts";
import { bind, decode, evaluate, hoist, type Point, part, type Writer } from "./emit.ts";
import { addressOf, extentsOf, type Flat, laneAccess } from "./flat.ts";

/** Four points: one with lanes along an axis, or four singles. */
export type Quad =
  | { readonly kind: "vector"; readonly point: Point }
  | { readonly kind: "four"; readonly points: readonly Point[] };

/** A factor with the axes that are its own. */
export interface Side {
  readonly name: "m" | "n";
  readonly factor: Factor;
  readonly loads: readonly Load[];
  readonly axes: readonly number[];
  /** Flattened extent of the axes. */
  readonly total: number;
  /** Direction of its quads. */
  readonly along: "k" | "side";
}

/** One side of a contraction of a flat kernel. */
export function sideOf(flat: Flat, c: Contraction, name: "m" | "n"): Side {
  const factor = name === "m" ? c.left : c.right;
  const axes = name === "m" ? c.m : c.n;
  const loads = factor.loads.flatMap((index) => flat.kernel.loads[index] ?? []);
  const vector = (axis: number | undefined): boolean => {
    if (axis === undefined || (flat.kernel.axes[axis]?.size ?? 0) % 4 !== 0) return false;
    const accesses = new Set(loads.map((l) => laneAccess(flat, l, axis)));
    return accesses.has("vector") && !accesses.has("gather");
  };
  const walks = (axis: number | undefined): boolean =>
    axis !== undefined && loads.some((l) => strideOf(addressOf(l), axis) === 1);
  const inner = c.k.at(-1);
  const last = axes.at(-1);
  const along = vector(inner) ? "k" : vector(last) ? "side" : walks(last) && !walks(inner) ? "side" : "k";
  return { name, factor, loads, axes, total: product(extentsOf(flat.kernel, axes)), along };
}

/** Whether quads along the last of `axes` never cross into the next row of the flattened axes. */
function unbroken(flat: Flat, axes: readonly number[]): boolean {
  return axes.length > 0 && extentsOf(flat.kernel, axes.slice(-1)).every((size) => size % 4 === 0);
}

/** The point at a position of a side; positions beyond the end give the last point, whose results nobody stores. */
export function sidePoint(w: Writer, side: Side, base: Point, position: Expr, exact: boolean, out: Stmt[]): Point {
  const at = exact ? position : bind(w, side.name, minimum(position, int(side.total - 1)), out);
  const coords = [...base.coords];
  decode(w, at, side.axes, coords, out);
  return { ...base, coords };
}

/** Four neighbours of a side, from a position that is a multiple of four. */
export function sideQuad(w: Writer, side: Side, base: Point, position: Expr, exact: boolean, out: Stmt[]): Quad {
  const last = side.axes.at(-1);
  if (last !== undefined && unbroken(w.flat, side.axes)) {
    const at = exact ? position : bind(w, side.name, minimum(position, int(side.total - 4)), out);
    const coords = [...base.coords];
    decode(w, at, side.axes, coords, out);
    return { kind: "vector", point: { ...base, coords, lanes: last } };
  }
  return { kind: "four", points: [0, 1, 2, 3].map((l) => sidePoint(w, side, base, add(position, int(l)), exact, out)) };
}

/** Applies `hoist` to every point of a quad. */
export function hoistQuad(w: Writer, side: Side, known: readonly number[], quad: Quad, out: Stmt[]): Quad {
  if (quad.kind === "vector") return { ...quad, point: hoist(w, side.loads, known, quad.point, out) };
  return { kind: "four", points: quad.points.map((p) => hoist(w, side.loads, known, p, out)) };
}

/** Where along K a load is: coordinates of the K axes, and whether it is still below the end. */
export interface DepthPoint {
  readonly coords: ReadonlyMap<number, Expr>;
  readonly lanes?: number;
  readonly valid: Expr;
}

/** How positions along K become coordinates. */
export interface Depth {
  readonly axes: readonly number[];
  /** Extent of the axis, or of the flattened axes, that positions count. */
  readonly extent: number;
  /** Outer axes that are fixed for a step, if positions count the innermost axis only. */
  readonly fixed: ReadonlyMap<number, Expr>;
  /** Whether positions may reach beyond `extent`. */
  readonly masked: boolean;
}

/** The K coordinates of one position. */
export function depthPoint(w: Writer, depth: Depth, position: Expr, out: Stmt[]): DepthPoint {
  const valid = depth.masked ? compare("lt", position, int(depth.extent)) : TRUE;
  const inner = depth.axes.filter((axis) => !depth.fixed.has(axis));
  const found: (Expr | undefined)[] = [];
  decode(w, position, inner, found, out);
  const coords = new Map(depth.fixed);
  for (const [axis, e] of found.entries()) if (e !== undefined) coords.set(axis, e);
  return { coords, valid };
}

/** Four neighbours along K from a position that is a multiple of four. */
export function depthQuad(w: Writer, depth: Depth, position: Expr, out: Stmt[]): readonly DepthPoint[] {
  const last = depth.axes.at(-1);
  if (last !== undefined && unbroken(w.flat, depth.axes))
    return [{ ...depthPoint(w, depth, position, out), lanes: last }];
  return [0, 1, 2, 3].map((l) => depthPoint(w, depth, add(position, int(l)), out));
}

function meet(point: Point, k: DepthPoint): Point {
  const coords = [...point.coords];
  for (const [axis, e] of k.coords) coords[axis] = e;
  return { ...point, coords, valid: k.valid, ...(k.lanes === undefined ? {} : { lanes: k.lanes }) };
}

/** The factor at a point; zero beyond the end of K, where the product must vanish. */
export function factorAt(w: Writer, side: Side, point: Point, k: DepthPoint, out: Stmt[]): Expr {
  const at = meet(point, k);
  const [value] = evaluate(w, [side.factor.value], at, out);
  if (value === undefined) throw new Error("internal: a factor without a value");
  const vanishes = side.factor.plain !== undefined && side.loads.every((l) => l.otherwise === 0);
  if (vanishes || k.valid === TRUE) return value;
  const zero: Expr = { kind: "const", type: "f32", value: 0 };
  return select(k.valid, value, value.type === "vec4" ? widen(zero) : zero);
}

/** Four values of the factor along K at one point of its side. */
export function quadAlongK(w: Writer, side: Side, point: Point, k: readonly DepthPoint[], out: Stmt[]): Expr {
  const [first] = k;
  if (k.length === 1 && first !== undefined) return widen(factorAt(w, side, point, first, out));
  return fourLanes((l) => factorAt(w, side, point, part(k, l), out));
}

/** Four values of the factor along its side at one position of K. */
export function quadAlongSide(w: Writer, side: Side, quad: Quad, k: DepthPoint, out: Stmt[]): Expr {
  if (quad.kind === "vector") return widen(factorAt(w, side, quad.point, k, out));
  return fourLanes((l) => factorAt(w, side, part(quad.points, l), k, out));
}
