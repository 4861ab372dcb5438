/**
 * Tiles in workgroup memory: how they lie, how all invocations together put them there, and what each multiplies.
 */
import {
  add,
  compare,
  div,
  float,
  int,
  LANES,
  lane,
  lanes,
  load,
  local,
  loop,
  mul,
  rem,
  store,
  TRUE,
  when,
  widen,
} from "../kernel/build.ts";
import type { Expr, LocalArray, Stmt } from "../kernel/ir.ts";
import { bind, fresh, hoist, part } from "./emit.ts";
import { invocationsOf, PAD } from "./plan.ts";
import {
  type Depth,
  depthPoint,
  depthQuad,
  hoistQuad,
  quadAlongK,
  quadAlongSide,
  type Side,
  sidePoint,
  sideQuad,
} from "./sides.ts";
import { accumulate, range, type Tile } from "./tile.ts";

/** How a tile lies in workgroup memory: [K][side], or [side][K] with rows padded and shuffled to spread over the banks. */
export interface Staging {
  readonly array: LocalArray;
  readonly along: Side["along"];
  /** Element of a position of the side and one of K, both within the tile; quads along K need multiples of four. */
  readonly index: (position: Expr, k: Expr) => Expr;
}

export function stagingOf({ w, plan, arrays }: Tile, side: Side): Staging {
  const [bm, bn, bk] = plan.tile;
  const extent = side.name === "m" ? bm : bn;
  const name = arrays?.[side.name] ?? fresh(w, side.name === "m" ? "left_tile" : "right_tile");
  const { along } = side;
  if (along === "side") {
    return {
      along,
      array: { name, size: bk * extent, vec4: true },
      index: (position, k) => add(mul(k, int(extent)), position),
    };
  }
  if (side.name === "m") {
    const index = (position: Expr, k: Expr): Expr => add(mul(position, int(bk)), k);
    return { along, array: { name, size: bk * extent, vec4: true }, index };
  }
  // Neighbouring invocations read columns four apart: rows of one remainder by four are stored together, a quad wider
  // than needed, so that these reads fall on different banks.
  const pitch = bk + PAD;
  const row = (position: Expr): Expr => add(mul(rem(position, 4), int(bn / 4)), div(position, 4));
  return {
    along,
    array: { name, size: bn * pitch, vec4: true },
    index: (position, k) => add(mul(row(position), int(pitch)), k),
  };
}

export function staged(t: Tile, depth: Depth, first: Expr, head: Stmt[], body: Stmt[]): readonly LocalArray[] {
  const left = stagingOf(t, t.m);
  const right = stagingOf(t, t.n);
  const writes = [...fetch(t, t.m, left, depth, first, head, body), ...fetch(t, t.n, right, depth, first, head, body)];
  body.push({ kind: "barrier" }, ...writes, { kind: "barrier" }, ...multiplyStaged(t, left, right));
  return [left.array, right.array];
}

/** The product of two tiles in workgroup memory, added to the accumulators. */
export function multiplyStaged(t: Tile, left: Staging, right: Staging): readonly Stmt[] {
  const { w, plan } = t;
  const [tm, tn] = plan.thread;
  const across = plan.tile[1] / tn;
  return loop(fresh(w, "kk"), plan.tile[2], 4, (kk) => {
    const out: Stmt[] = [];
    const row = (i: number): Expr => add(mul(t.ty, int(tm)), int(i));
    const column = (j: number): Expr => add(mul(t.tx, int(4)), int(j * across * 4));
    const read = (s: Staging, what: string, position: Expr, k: Expr): Expr =>
      bind(w, what, load("vec4", s.array.name, s.index(position, k)), out);
    const a = left.along === "k" ? range(tm).map((i) => read(left, "a", row(i), kk)) : [];
    const b = right.along === "k" ? range(tn).map((i) => read(right, "b", add(column(i >> 2), int(i & 3)), kk)) : [];
    for (const l of LANES) {
      const k = add(kk, int(l));
      const ra = left.along === "k" ? [] : range(tm / 4).map((q) => read(left, "a", row(4 * q), k));
      const valueA = (i: number): Expr =>
        left.along === "k" ? lane(part(a, i), l) : lane(part(ra, i >> 2), LANES[i & 3] ?? 0);
      for (const j of range(tn / 4)) {
        const quad =
          right.along === "k"
            ? bind(
                w,
                "b",
                lanes((column) => lane(part(b, 4 * j + column), l)),
                out,
              )
            : read(right, "b", column(j), k);
        for (const i of range(tm)) out.push(accumulate(part(part(t.acc, i), j), valueA(i), quad));
      }
    }
    return out;
  });
}

/** Loads this invocation's quads of a tile into registers and returns the statements that put them into place. */
export function fetch(
  t: Tile,
  side: Side,
  staging: Staging,
  depth: Depth,
  first: Expr,
  head: Stmt[],
  body: Stmt[],
): readonly Stmt[] {
  const { w, plan, c } = t;
  const [bm, bn, bk] = plan.tile;
  const extent = side.name === "m" ? bm : bn;
  const start = side.name === "m" ? t.row : t.column;
  const exact = side.total % extent === 0;
  const invocations = invocationsOf(plan);
  const quads = (extent * bk) / 4;
  const perLine = (side.along === "k" ? bk : extent) / 4;
  const known = [...c.batch, ...side.axes];
  const writes: Stmt[] = [];
  for (const j of range(Math.ceil(quads / invocations))) {
    const unit = add(t.invocation, int(j * invocations));
    // Whole lines are skipped from one round to the next wherever a line divides the workgroup.
    const even = invocations % perLine === 0;
    const number = even ? t.invocation : unit;
    const line = bind(w, "line", add(div(number, perLine), int(even ? (j * invocations) / perLine : 0)), head);
    const offset = bind(w, "quad", mul(rem(number, perLine), int(4)), head);
    const partial = (j + 1) * invocations > quads;
    const guarded: Stmt[] = partial ? [] : body;
    let value: Expr;
    if (side.along === "k") {
      const point = hoist(w, side.loads, known, sidePoint(w, side, t.base, add(start, line), exact, head), head);
      value = quadAlongK(w, side, point, depthQuad(w, depth, add(first, offset), guarded), guarded);
    } else {
      const quad = hoistQuad(w, side, known, sideQuad(w, side, t.base, add(start, offset), exact, head), head);
      value = quadAlongSide(w, side, quad, depthPoint(w, depth, add(first, line), guarded), guarded);
    }
    const index = side.along === "k" ? staging.index(line, offset) : staging.index(offset, line);
    const inTile = partial ? compare("lt", unit, int(quads)) : TRUE;
    if (!partial) writes.push(store(staging.array.name, index, bind(w, "staged", value, body)));
    else {
      const name = fresh(w, "staged");
      body.push({ kind: "var", name, value: widen(float(0)) });
      body.push(...when(inTile, [...guarded, { kind: "assign", name, value }]));
      writes.push(...when(inTile, [store(staging.array.name, index, local("vec4", name))]));
    }
  }
  return writes;
}
