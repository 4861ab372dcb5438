/**
 * Results of a tiled product: from wherever a plan has added them up to the kernel's stores, or to a scratch buffer where
 * K is split.
 *
 * Sums lie in registers, in an array that a loop counts, or in matrices of subgroups, which only workgroup memory can look
 * into. The epilogue is the same for all.
 */
import {
  add,
  compare,
  div,
  int,
  LANES,
  type Lane,
  lane,
  load,
  local,
  minimum,
  mul,
  rem,
  store,
  sub,
  TRUE,
  when,
} from "../kernel/build.ts";
import type { Expr, LocalArray, Stmt } from "../kernel/ir.ts";
import { argumentName, bind, emitStores, fresh, storesVectors } from "./emit.ts";
import type { MatrixTile } from "./matrix.ts";
import { sidePoint } from "./sides.ts";
import { columnOf, range, rowOf, type Tile } from "./tile.ts";

/** Where the sums of a tile are. */
export type Sums =
  | { readonly kind: "registers" }
  /** An array that every invocation has for itself; `none` is zero, as a loop's end may be written with it. */
  | { readonly kind: "array"; readonly array: LocalArray; readonly none: Expr }
  | { readonly kind: "matrices"; readonly tile: MatrixTile };

/** Puts the accumulators where a loop can count them: the stores' text, and what it becomes, would be long otherwise. */
export function keepResults({ w, plan, acc }: Tile, out: Stmt[]): LocalArray {
  const [tm, tn] = plan.thread;
  const name = fresh(w, "results");
  for (const [i, row] of acc.entries())
    for (const [j, quad] of row.entries()) out.push(store(name, int(i * tn + 4 * j), quad));
  return { name, size: tm * tn, vec4: true, private: true };
}

/** Writes one result, or a quad of them (`l` undefined), at a position along N. */
type Result = (column: Expr, acc: Expr, l: Lane | undefined, out: Stmt[]) => void;

/** What is done with results: for every row, then for every quad or lane in it. */
interface Sink {
  readonly t: Tile;
  readonly asVectors: boolean;
  readonly atRow: (row: Expr, out: Stmt[]) => Result;
}

/** The kernel's epilogue and stores for this invocation's outputs. */
export function storeResults(t: Tile, sums: Sums, out: Stmt[]): void {
  const { w, m, n } = t;
  const last = n.axes.at(-1);
  const atRow: Sink["atRow"] = (row, inRow) => {
    const point = sidePoint(w, m, t.base, row, true, inRow);
    return (column, acc, l, inner) => {
      const single = sidePoint(w, n, point, column, true, inner);
      const at = l === undefined && last !== undefined ? { ...single, lanes: last } : single;
      emitStores(w, at, inner, () => (l === undefined ? acc : lane(acc, l)));
    };
  };
  storeAll({ t, asVectors: storesVectors(w.flat, last), atRow }, sums, out);
}

/** This slice's sums, for the kernel that adds the slices. */
export function storePartial(t: Tile, buffer: number, plane: Expr, sums: Sums, out: Stmt[]): void {
  const { w, m, n } = t;
  const asVectors = n.total % 4 === 0;
  if (asVectors) w.wide.add(buffer);
  const name = argumentName(w, buffer);
  const atRow: Sink["atRow"] = (row) => (column, acc, l, inner) => {
    const index = add(mul(add(mul(plane, int(m.total)), row), int(n.total)), column);
    inner.push(store(name, index, l === undefined ? acc : lane(acc, l)));
  };
  storeAll({ t, asVectors, atRow }, sums, out);
}

function storeAll(sink: Sink, sums: Sums, out: Stmt[]): void {
  switch (sums.kind) {
    case "registers":
      return fromRegisters(sink, out);
    case "array":
      return fromArray(sink, sums.array, sums.none, out);
    case "matrices":
      return fromMatrices(sink, sums.tile, out);
    default:
      return sums satisfies never;
  }
}

/** Writes quads of one row, inside the test that their columns are results. */
function writeRow(sink: Sink, row: Expr, quads: readonly (readonly [Expr, Expr])[], out: Stmt[]): void {
  const { t, asVectors } = sink;
  const { w, n, plan } = t;
  const write = sink.atRow(bind(w, "row", row, out), out);
  for (const [first, acc] of quads) {
    for (const l of asVectors ? ([undefined] as const) : LANES) {
      const column = add(first, int(l ?? 0));
      const inColumn: Stmt[] = [];
      write(bind(w, "column", column, inColumn), acc, l, inColumn);
      out.push(...when(n.total % plan.tile[1] === 0 ? TRUE : compare("lt", column, int(n.total)), inColumn));
    }
  }
}

const isRow = ({ t: { m, plan } }: Sink, row: Expr): Expr =>
  m.total % plan.tile[0] === 0 ? TRUE : compare("lt", row, int(m.total));

function fromRegisters(sink: Sink, out: Stmt[]): void {
  for (const [i, accumulators] of sink.t.acc.entries()) {
    const row = rowOf(sink.t, i);
    const inRow: Stmt[] = [];
    writeRow(
      sink,
      row,
      accumulators.map((acc, j) => [columnOf(sink.t, j), acc]),
      inRow,
    );
    out.push(...when(isRow(sink, row), inRow));
  }
}

function fromArray(sink: Sink, array: LocalArray, none: Expr, out: Stmt[]): void {
  const { w, m, plan, row } = sink.t;
  const [bm] = plan.tile;
  const short = minimum(sub(int(m.total - bm), row), int(0));
  const to = add(int(bm), m.total % bm === 0 ? none : short);
  const name = fresh(w, "r");
  const at = local("i32", name);
  const body: Stmt[] = [];
  const quads = range(plan.thread[1] / 4).map((j): [Expr, Expr] => {
    const index = add(mul(at, int(plan.thread[1])), int(4 * j));
    return [columnOf(sink.t, j), bind(w, "acc", load("vec4", array.name, index), body)];
  });
  writeRow(sink, add(row, at), quads, body);
  out.push({ kind: "for", name, from: int(0), to, step: 1, body });
}

/** A row of every subgroup's matrices at a time goes through workgroup memory, and from there each invocation takes quads. */
function fromMatrices(sink: Sink, tile: MatrixTile, out: Stmt[]): void {
  const { w, plan, row, column } = sink.t;
  const { m, n } = tile.config;
  const width = plan.thread[1];
  const area = bind(w, "area", mul(tile.number, int(m * width)), out);
  for (const [i, matrices] of tile.results.entries()) {
    out.push({ kind: "barrier" });
    for (const [j, name] of matrices.entries())
      out.push({ kind: "matrix-store", name, to: tile.area.name, index: add(area, int(j * n)), stride: width });
    out.push({ kind: "barrier" });
    const name = fresh(w, "unit");
    const unit = local("i32", name);
    const body: Stmt[] = [];
    const line = bind(w, "line", div(unit, width / 4), body);
    const offset = bind(w, "quad", mul(rem(unit, width / 4), int(4)), body);
    const at = bind(w, "row", add(add(row, add(tile.row, int(i * m))), line), body);
    const inRow: Stmt[] = [];
    const acc = bind(w, "acc", load("vec4", tile.area.name, add(area, mul(unit, int(4)))), inRow);
    writeRow(sink, at, [[add(add(column, tile.column), offset), acc]], inRow);
    body.push(...when(isRow(sink, at), inRow));
    out.push({ kind: "for", name, from: tile.lane, to: int((m * width) / 4), step: tile.subgroup, body });
  }
}
