/**
 * A tile of a matrix product on a GPU, as the ways to compute one share it: where it lies, whose part is whose, and the
 * accumulators.
 */
import { add, fma, int, mul, widen } from "../kernel/build.ts";
import type { Expr, Stmt } from "../kernel/ir.ts";
import type { Contraction } from "../loop/contraction.ts";
import type { Point, Writer } from "./emit.ts";
import type { ContractPlan } from "./plan.ts";
import type { Depth, Quad, Side } from "./sides.ts";

/** Everything about one product that its parts share. */
export interface Tile {
  readonly w: Writer;
  readonly c: Contraction;
  readonly plan: ContractPlan;
  readonly m: Side;
  readonly n: Side;
  /** First row and column of the tile, and the batch coordinates. */
  readonly row: Expr;
  readonly column: Expr;
  readonly base: Point;
  /** This invocation's column and row in the grid of register tiles. */
  readonly tx: Expr;
  readonly ty: Expr;
  /** Its number in the workgroup. */
  readonly invocation: Expr;
  readonly acc: readonly (readonly Expr[])[];
  /** Names of the arrays in workgroup memory, where several products take turns in them. */
  readonly arrays?: { readonly m: string; readonly n: string };
}

export function range(n: number): readonly number[] {
  return Array.from({ length: n }, (_, i) => i);
}

/** acc += a·b for one row and one quad of columns. */
export function accumulate(acc: Expr, a: Expr, b: Expr): Stmt {
  if (acc.kind !== "var") throw new Error("internal: an accumulator is no variable");
  return { kind: "assign", name: acc.name, value: fma(widen(a), b, acc) };
}

/** Position along N of this invocation's j-th quad of columns: quads of neighbours lie side by side. */
export function columnOf({ plan, column, tx }: Tile, j: number): Expr {
  const across = plan.tile[1] / plan.thread[1];
  return add(add(column, mul(tx, int(4))), int(j * across * 4));
}

export function rowOf({ plan, row, ty }: Tile, i: number): Expr {
  return add(add(row, mul(ty, int(plan.thread[0]))), int(i));
}

/** A point with the coordinates of the K axes that are fixed for a step. */
export function withFixed(p: Point, depth: Depth): Point {
  const coords = [...p.coords];
  for (const [axis, e] of depth.fixed) coords[axis] = e;
  return { ...p, coords };
}

export function quadWithFixed(q: Quad, depth: Depth): Quad {
  return q.kind === "vector"
    ? { ...q, point: withFixed(q.point, depth) }
    : { ...q, points: q.points.map((p) => withFixed(p, depth)) };
}
