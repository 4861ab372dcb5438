/**
 * A step of a product within one subgroup: what a CPU behind WebGPU is good at.
 *
 * Such an adapter runs the invocations of a subgroup as the lanes of a vector. A load is a load for every lane with a test
 * of its own, whatever the address, so that reading both factors costs far more than multiplying them; what another lane
 * has read costs an instruction. specs/performance.md has the figures.
 */
import { add, broadcast, div, int, LANES, lane, lanes, mul, rem } from "../kernel/build.ts";
import type { Expr, LocalArray, Stmt } from "../kernel/ir.ts";
import { bind, type Point, part } from "./emit.ts";
import {
  type Depth,
  type DepthPoint,
  depthPoint,
  depthQuad,
  factorAt,
  hoistQuad,
  type Quad,
  quadAlongK,
  quadAlongSide,
  type Side,
  sidePoint,
  sideQuad,
} from "./sides.ts";
import { accumulate, columnOf, quadWithFixed, range, type Tile } from "./tile.ts";

/**
 * The left factor's rows are spread over the subgroup and broadcast one by one; each invocation reads columns of its own.
 * With BK below 4 a step is one position along K, and the text a third as long; else rows come four numbers a load,
 * whichever way they lie.
 */
export function shared(t: Tile, depth: Depth, first: Expr, head: Stmt[], body: Stmt[]): readonly LocalArray[] {
  const { w, plan, c, m, n } = t;
  const [bm, bn, bk] = plan.tile;
  const [tm, tn] = plan.thread;
  const size = bn / tn;
  const wide = bk % 4 === 0;
  const byRow = m.total % bm === 0;
  const byColumn = n.total % bn === 0;
  const ready = (side: Side, quad: Quad): Quad => {
    const known = [...c.batch, ...side.axes];
    const early = hoistQuad(w, side, known, quad, head);
    return hoistQuad(w, side, [...known, ...depth.fixed.keys()], quadWithFixed(early, depth), body);
  };
  const rowsApart = m.along === "k" || !wide;
  // A load of the left factor is of row tx and its likes, or of quads of rows at one of four positions along K.
  const shares = range(tm / size).map((j) => {
    const unit = add(t.tx, int(j * size));
    if (rowsApart) {
      const point = sidePoint(w, m, t.base, add(t.row, unit), byRow, head);
      return { quad: ready(m, { kind: "vector", point }), k: int(0) };
    }
    const at = bind(w, "quad", add(t.row, mul(rem(unit, tm / 4), int(4))), head);
    return { quad: ready(m, sideQuad(w, m, t.base, at, byRow, head)), k: bind(w, "k", div(unit, tm / 4), head) };
  });
  const quads = range(tn / 4).map((j) => {
    const at = columnOf(t, j);
    const points = (): readonly Point[] =>
      range(4).map((l) => sidePoint(w, n, t.base, add(at, int(l)), byColumn, head));
    const quad = n.along === "side" ? sideQuad(w, n, t.base, at, byColumn, head) : undefined;
    return ready(n, quad ?? { kind: "four", points: points() });
  });

  for (let u = 0; u < bk; u += wide ? 4 : 1) {
    const position = add(first, int(u));
    const four = wide && (m.along === "k" || n.along === "k") ? depthQuad(w, depth, position, body) : [];
    const a = shares.map(({ quad, k }) => {
      const point = quad.kind === "vector" && rowsApart ? quad.point : undefined;
      const at = (): DepthPoint => depthPoint(w, depth, add(position, k), body);
      if (point === undefined) return bind(w, "a", quadAlongSide(w, m, quad, at(), body), body);
      return bind(w, "a", wide ? quadAlongK(w, m, point, four, body) : factorAt(w, m, point, at(), body), body);
    });
    const b =
      wide && n.along === "k"
        ? quads.flatMap((q) =>
            q.kind === "four" ? q.points.map((p) => bind(w, "b", quadAlongK(w, n, p, four, body), body)) : [],
          )
        : [];
    for (const l of wide ? LANES : ([0] as const)) {
      const k = depthPoint(w, depth, add(position, int(l)), body);
      const columns = quads.map((q, j) => {
        const column = b.length > 0 ? lanes((i) => lane(part(b, 4 * j + i), l)) : quadAlongSide(w, n, q, k, body);
        return bind(w, "b", column, body);
      });
      for (const i of range(tm)) {
        const unit = rowsApart ? i : l * (tm / 4) + (i >> 2);
        const own = lane(part(a, Math.floor(unit / size)), rowsApart ? l : (LANES[i & 3] ?? 0));
        const value = broadcast(own, unit % size);
        const row = columns.length === 1 ? value : bind(w, "row", value, body);
        for (const [j, column] of columns.entries()) body.push(accumulate(part(part(t.acc, i), j), row, column));
      }
    }
  }
  return [];
}
