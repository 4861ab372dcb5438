/**
 * A product by the hardware that multiplies small matrices (tensor cores), which a subgroup holds together.
 *
 * Tiles of both factors pass through workgroup memory, in the hardware's own precision and without the shuffling that
 * single reads want; each subgroup multiplies a part of the tile, TM×TN results, as matrices of the device's shape. Sums are
 * f32 always.
 */
import type { MatrixConfig } from "../capability.ts";
import { add, builtin, div, int, loop, mul, rem } from "../kernel/build.ts";
import type { Expr, LocalArray, Stmt } from "../kernel/ir.ts";
import { bind, fresh } from "./emit.ts";
import { type MatrixUse, PAD_BYTES } from "./matrix-use.ts";
import type { Depth, Side } from "./sides.ts";
import { fetch, type Staging } from "./staging.ts";
import { range, type Tile } from "./tile.ts";

/** This subgroup's part of a tile. */
export interface MatrixTile {
  readonly config: MatrixConfig;
  /** Invocations of a subgroup. */
  readonly subgroup: number;
  /** Its number in the workgroup, this invocation's in it, and where its part begins in the tile. */
  readonly number: Expr;
  readonly lane: Expr;
  readonly row: Expr;
  readonly column: Expr;
  /** Names of the results, in rows and columns of matrices. */
  readonly results: readonly (readonly string[])[];
  /** Workgroup memory for one row of each subgroup's matrices. */
  readonly area: LocalArray;
}

/** Declares the results of this subgroup. */
export function matrixTile({ w, plan }: Tile, use: MatrixUse, out: Stmt[]): MatrixTile {
  const { config, subgroup } = use;
  const [bm, bn] = plan.tile;
  const [tm, tn] = plan.thread;
  const number = bind(w, "subgroup", builtin("subgroup.number"), out);
  const across = bn / tn;
  const results = range(tm / config.m).map((i) =>
    range(tn / config.n).map((j) => {
      const name = fresh(w, `sum_${i}_${j}`);
      out.push({ kind: "matrix-result", name, config });
      return name;
    }),
  );
  return {
    config,
    subgroup,
    number,
    lane: bind(w, "member", builtin("subgroup"), out),
    row: bind(w, "own_row", mul(div(number, across), int(tm)), out),
    column: bind(w, "own_column", mul(rem(number, across), int(tn)), out),
    results,
    area: { name: fresh(w, "results"), size: (bm / tm) * across * config.m * tn, vec4: true },
  };
}

function stagingOf({ w, plan }: Tile, side: Side, { input }: MatrixConfig): Staging & { readonly stride: number } {
  const [bm, bn, bk] = plan.tile;
  const extent = side.name === "m" ? bm : bn;
  const name = fresh(w, side.name === "m" ? "left_tile" : "right_tile");
  const { along } = side;
  const stride = (along === "k" ? bk : extent) + PAD_BYTES / (input === "f16" ? 2 : 4);
  const size = stride * (along === "k" ? extent : bk);
  return {
    along,
    stride,
    array: { name, size, vec4: true, ...(input === "f16" ? { half: true } : {}) },
    index: (position, k) => (along === "k" ? add(mul(position, int(stride)), k) : add(mul(k, int(stride)), position)),
  };
}

/** One step along K: both tiles to workgroup memory, and their product to the results. */
export function multiplyMatrices(
  t: Tile,
  own: MatrixTile,
  depth: Depth,
  first: Expr,
  head: Stmt[],
  body: Stmt[],
): readonly LocalArray[] {
  const { w, plan } = t;
  const { config, results } = own;
  const left = stagingOf(t, t.m, config);
  const right = stagingOf(t, t.n, config);
  const writes = [...fetch(t, t.m, left, depth, first, head, body), ...fetch(t, t.n, right, depth, first, head, body)];
  const product = loop(fresh(w, "kk"), plan.tile[2], config.k, (kk) => {
    const out: Stmt[] = [];
    const read = (side: "left" | "right", staging: typeof left, position: Expr): string => {
      const name = fresh(w, side);
      // A line of a tile along K holds a row of the left factor, and a column of the right one.
      const lines = (side === "left") === (staging.along === "k") ? "rows" : "columns";
      const { array, stride } = staging;
      const index = staging.index(position, kk);
      out.push({ kind: "matrix-load", name, side, config, from: array.name, index, stride, lines });
      return name;
    };
    const a = results.map((_, i) => read("left", left, add(own.row, int(i * config.m))));
    const b = (results[0] ?? []).map((_, j) => read("right", right, add(own.column, int(j * config.n))));
    for (const [i, row] of results.entries())
      for (const [j, to] of row.entries())
        out.push({ kind: "matrix-multiply", left: a[i] ?? "", right: b[j] ?? "", to });
    return out;
  });
  body.push({ kind: "barrier" }, ...writes, { kind: "barrier" }, ...product);
  return [left.array, right.array];
}
