/**
 * CONTRACT: tiled matrix products over index maps (implicit GEMM).
 *
 * A workgroup computes a tile of BM×BN outputs, an invocation TM×TN of them in registers, and K passes in steps of BK.
 * Staged through workgroup memory, all invocations together load each step's tiles of both factors through their maps
 * and guards, wait, and multiply; without stage (few rows, or a CPU behind WebGPU) each invocation loads for itself. A
 * subgroup shares rows by broadcasts, for on a CPU behind WebGPU a load is a load for every lane, and those are cheap.
 * Sizes need not divide: positions beyond M or N repeat the last one and are not stored, beyond K the factors are zero.
 *
 * Steps follow the K axes (kh, kw, ci) with the innermost in parts of BK, so that (kh, kw) is the same for a whole step and
 * addresses inside it are linear. Where the innermost axis would leave much of a step empty (ci = 3) the axes are
 * flattened instead and each load decodes its position, once a step.
 */
import {
  add,
  builtin,
  compare,
  div,
  float,
  groupNumber,
  int,
  LANES,
  type Lane,
  lane,
  lanes,
  load,
  local,
  loop,
  minimum,
  mul,
  rem,
  store,
  sub,
  TRUE,
  when,
  widen,
} from "../kernel/build.ts";
import type { Expr, LocalArray, Stmt } from "../kernel/ir.ts";
import type { Contraction } from "../loop/contraction.ts";
import { product } from "../loop/layout.ts";
import { type Dispatch, dispatchOf } from "./dispatch.ts";
import {
  argumentName,
  bind,
  decode,
  emitStores,
  fresh,
  gridOf,
  hoist,
  part,
  storesVectors,
  writerFor,
} from "./emit.ts";
import { extentsOf, type Flat } from "./flat.ts";
import { type ContractPlan, describePlan, PAD } from "./plan.ts";
import {
  type Depth,
  depthPoint,
  depthQuad,
  factorAt,
  hoistQuad,
  type Quad,
  quadAlongK,
  quadAlongSide,
  type Side,
  sideOf,
  sidePoint,
  sideQuad,
} from "./sides.ts";
import { shared } from "./subgroup.ts";
import { accumulate, columnOf, quadWithFixed, range, rowOf, type Tile, withFixed } from "./tile.ts";

/** Where the results go: the kernel's own stores, or sums of parts of K to a scratch buffer [splitK, batch, M, N]. */
export type Target = { readonly kind: "stores" } | { readonly kind: "partial"; readonly buffer: number };

/** Renders a flat contraction. @param maxGroups workgroups in one dimension of a grid */
export function contractProgram(
  flat: Flat,
  c: Contraction,
  plan: ContractPlan,
  target: Target,
  maxGroups: number,
): Dispatch {
  const { kernel } = flat;
  const w = writerFor(flat, target.kind === "stores" ? kernel.stores.map((s) => s.buffer) : [target.buffer]);
  const [bm, bn, bk] = plan.tile;
  const [tm, tn] = plan.thread;
  const rows = Math.ceil(c.sizes.m / bm);
  const columns = Math.ceil(c.sizes.n / bn);
  const groups = rows * columns * c.sizes.batch * plan.splitK;
  const workgroups = gridOf(groups, maxGroups);
  const head: Stmt[] = [];
  const out: Stmt[] = [];

  const group = bind(w, "group", groupNumber(workgroups), head);
  const column = bind(w, "first_column", mul(columns === 1 ? int(0) : rem(group, columns), int(bn)), out);
  const above = bind(w, "group_row", div(group, columns), out);
  const row = bind(w, "first_row", mul(rows === 1 ? int(0) : rem(above, rows), int(bm)), out);
  const beyond = bind(w, "group_batch", div(above, rows), out);
  const batch = bind(w, "batch", c.sizes.batch === 1 ? int(0) : rem(beyond, c.sizes.batch), out);
  const slice = plan.splitK === 1 ? int(0) : bind(w, "slice", div(beyond, c.sizes.batch), out);
  const coords: (Expr | undefined)[] = [];
  decode(w, batch, c.batch, coords, out);

  const acc = range(tm).map((i) =>
    range(tn / 4).map((j): Expr => {
      const name = fresh(w, `acc_${i}_${j}`);
      out.push({ kind: "var", name, value: widen(float(0)) });
      return local("vec4", name);
    }),
  );
  const tile: Tile = {
    w,
    c,
    plan,
    row,
    column,
    acc,
    m: sideOf(flat, c, "m"),
    n: sideOf(flat, c, "n"),
    base: { coords, valid: TRUE },
    tx: bind(w, "tx", builtin(plan.stage === "subgroup" ? "subgroup" : "local.x"), out),
    ty: plan.stage === "subgroup" ? int(0) : bind(w, "ty", builtin("local.y"), out),
    invocation: bind(w, "invocation", builtin("local"), out),
  };

  // Steps along K: runs of BK positions of the innermost K axis inside loops over the others, or of all K axes flattened.
  const inner = product(extentsOf(kernel, c.k.slice(-1)));
  const nested = plan.stage === "registers" || c.k.length <= 1 || Math.ceil(inner / bk) * bk <= 1.25 * inner;
  const extent = nested ? inner : c.sizes.k;
  const outer = nested ? c.k.slice(0, -1) : [];
  const perRun = Math.ceil(extent / bk);
  const steps = perRun * product(extentsOf(kernel, outer));
  const multiply = MULTIPLY[plan.stage];
  const depthAt = (at: readonly (Expr | undefined)[]): Depth => ({
    axes: c.k,
    extent,
    fixed: new Map(outer.flatMap((axis) => (at[axis] === undefined ? [] : [[axis, at[axis]] as const]))),
    masked: extent % bk !== 0,
  });
  let locals: readonly LocalArray[] = [];
  // A driver that unrolled short loops would undo what keeps a subgroup's text short: their ends are no constants.
  const none = plan.stage === "subgroup" ? bind(w, "none", minimum(group, int(0)), out) : int(0);
  if (plan.splitK === 1) {
    const loops = (axes: readonly number[], at: readonly (Expr | undefined)[]): readonly Stmt[] => {
      const [axis, ...rest] = axes;
      if (axis !== undefined) {
        const inside = (index: Expr): readonly Stmt[] => {
          const next = [...at];
          next[axis] = index;
          return loops(rest, next);
        };
        return loop(fresh(w, kernel.axes[axis]?.name ?? "k"), w.sizes[axis] ?? 1, 1, inside, none);
      }
      const step = (first: Expr): readonly Stmt[] => {
        const body: Stmt[] = [];
        locals = multiply(tile, depthAt(at), first, out, body);
        return body;
      };
      return loop(fresh(w, "k"), extent, bk, step, none);
    };
    out.push(...loops(outer, []));
  } else {
    // A slice is a run of steps across all loops; each step finds its place in them.
    const share = Math.ceil(steps / plan.splitK);
    const from = bind(w, "first_step", mul(slice, int(share)), out);
    const name = fresh(w, "step");
    const step = local("i32", name);
    const body: Stmt[] = [];
    const at: (Expr | undefined)[] = [];
    decode(w, div(step, perRun), outer, at, body);
    const first = bind(w, "k", mul(outer.length === 0 ? step : rem(step, perRun), int(bk)), body);
    locals = multiply(tile, depthAt(at), first, out, body);
    out.push({ kind: "for", name, from, to: minimum(add(from, int(share)), int(steps)), step: 1, body });
  }

  const own = plan.stage === "subgroup" ? [keepResults(tile, out)] : [];
  const kept = own[0] === undefined ? undefined : { results: own[0], none };
  if (target.kind === "stores") storeResults(tile, kept, out);
  else storePartial(tile, target.buffer, add(mul(slice, int(c.sizes.batch)), batch), kept, out);
  const exact = workgroups[0] * workgroups[1] === groups;
  return dispatchOf(w, {
    plan: describePlan(plan),
    body: [...head, ...when(exact ? TRUE : compare("lt", group, int(groups)), out)],
    locals: [...locals, ...own],
    workgroupSize: [bn / tn, bm / tm, 1],
    workgroups,
  });
}

// -------------------------------------------------------------------------------------------- through workgroup memory

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
  const invocations = (bm / plan.thread[0]) * (bn / plan.thread[1]);
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

// ---------------------------------------------------------------------------------------------- without workgroup memory

export function direct(t: Tile, depth: Depth, first: Expr, head: Stmt[], body: Stmt[]): readonly LocalArray[] {
  const { w, plan, c, m, n } = t;
  const [bm, bn, bk] = plan.tile;
  const [tm, tn] = plan.thread;
  const byRow = m.total % bm === 0;
  const byColumn = n.total % bn === 0;
  const ownM = [...c.batch, ...m.axes];
  const ownN = [...c.batch, ...n.axes];
  const rowsAtHead = range(tm).map((i) =>
    hoist(w, m.loads, ownM, sidePoint(w, m, t.base, rowOf(t, i), byRow, head), head),
  );
  const quadsAtHead = range(tn / 4).map((j): Quad => {
    const at = columnOf(t, j);
    const quad: Quad =
      n.along === "side"
        ? sideQuad(w, n, t.base, at, byColumn, head)
        : { kind: "four", points: range(4).map((l) => sidePoint(w, n, t.base, add(at, int(l)), byColumn, head)) };
    return hoistQuad(w, n, ownN, quad, head);
  });

  // What the fixed K axes decide (for a convolution: whether the window's point is inside the image) is known now.
  const fixed = [...depth.fixed.keys()];
  const rows = rowsAtHead.map((p) => hoist(w, m.loads, [...ownM, ...fixed], withFixed(p, depth), body));
  const quads = quadsAtHead.map((q) => hoistQuad(w, n, [...ownN, ...fixed], quadWithFixed(q, depth), body));

  const inner = depth.axes.at(-1);
  const innerSize = inner === undefined ? 1 : (w.flat.kernel.axes[inner]?.size ?? 1);
  const wide = innerSize % 4 === 0 && bk % 4 === 0 && (m.along === "k" || n.along === "k");
  const inside: Depth = { ...depth, masked: false };
  const name = fresh(w, "kk");
  const position = add(first, local("i32", name));
  const out: Stmt[] = [];
  const lanesOfK = wide ? LANES : ([0] as const);
  const four = wide ? depthQuad(w, inside, position, out) : [];
  const a = wide && m.along === "k" ? rows.map((p) => bind(w, "a", quadAlongK(w, m, p, four, out), out)) : [];
  const b =
    wide && n.along === "k"
      ? quads.flatMap((q) =>
          q.kind === "four" ? q.points.map((p) => bind(w, "b", quadAlongK(w, n, p, four, out), out)) : [],
        )
      : [];
  for (const l of lanesOfK) {
    const k = depthPoint(w, inside, add(position, int(l)), out);
    const valuesA = rows.map((p, i) => (a.length > 0 ? lane(part(a, i), l) : factorAt(w, m, p, k, out)));
    quads.forEach((q, j) => {
      const quad =
        b.length > 0
          ? bind(
              w,
              "b",
              lanes((column) => lane(part(b, 4 * j + column), l)),
              out,
            )
          : bind(w, "b", quadAlongSide(w, n, q, k, out), out);
      for (const i of range(tm)) out.push(accumulate(part(part(t.acc, i), j), part(valuesA, i), quad));
    });
  }
  const to = depth.masked ? bind(w, "depth", minimum(int(bk), sub(int(depth.extent), first)), body) : int(bk);
  body.push({ kind: "for", name, from: int(0), to, step: wide ? 4 : 1, body: out });
  return [];
}

/** Puts the accumulators where a loop can count them: the stores' text, and what it becomes, would be long otherwise. */
function keepResults({ w, plan, acc }: Tile, out: Stmt[]): LocalArray {
  const [tm, tn] = plan.thread;
  const name = fresh(w, "results");
  for (const [i, row] of acc.entries())
    for (const [j, quad] of row.entries()) out.push(store(name, int(i * tn + 4 * j), quad));
  return { name, size: tm * tn, vec4: true, private: true };
}

const MULTIPLY = { workgroup: staged, registers: direct, subgroup: shared } as const;

// ------------------------------------------------------------------------------------------------------------- results

/** Results that a loop takes out of an array. */
interface Kept {
  readonly results: LocalArray;
  /** Zero, as a loop's end may be written with it. */
  readonly none: Expr;
}

/** Writes one result, or a quad of them (`l` undefined), at a position along N. */
type Result = (column: Expr, acc: Expr, l: Lane | undefined, out: Stmt[]) => void;

/** The kernel's epilogue and stores for this invocation's outputs. */
function storeResults(t: Tile, kept: Kept | undefined, out: Stmt[]): void {
  const { w, m, n } = t;
  const last = n.axes.at(-1);
  forEachResult(t, kept, storesVectors(w.flat, last), out, (row, inRow) => {
    const atRow = sidePoint(w, m, t.base, row, true, inRow);
    return (column, acc, l, inner) => {
      const single = sidePoint(w, n, atRow, column, true, inner);
      const point = l === undefined && last !== undefined ? { ...single, lanes: last } : single;
      emitStores(w, point, inner, () => (l === undefined ? acc : lane(acc, l)));
    };
  });
}

/** This slice's sums, for the kernel that adds the slices. */
function storePartial(t: Tile, buffer: number, plane: Expr, kept: Kept | undefined, out: Stmt[]): void {
  const { w, m, n } = t;
  const asVectors = n.total % 4 === 0;
  if (asVectors) w.wide.add(buffer);
  const name = argumentName(w, buffer);
  forEachResult(t, kept, asVectors, out, (row) => (column, acc, l, inner) => {
    const index = add(mul(add(mul(plane, int(m.total)), row), int(n.total)), column);
    inner.push(store(name, index, l === undefined ? acc : lane(acc, l)));
  });
}

/** Calls for every row of this invocation, then for every quad or lane in it, inside the tests that these are results. */
function forEachResult(
  t: Tile,
  kept: Kept | undefined,
  asVectors: boolean,
  out: Stmt[],
  atRow: (row: Expr, out: Stmt[]) => Result,
): void {
  const { w, m, n, plan } = t;
  const [bm, bn] = plan.tile;
  const writeRow = (row: Expr, accumulators: readonly Expr[], inRow: Stmt[]): void => {
    const write = atRow(bind(w, "row", row, inRow), inRow);
    for (const [j, acc] of accumulators.entries()) {
      for (const l of asVectors ? ([undefined] as const) : LANES) {
        const column = add(columnOf(t, j), int(l ?? 0));
        const inColumn: Stmt[] = [];
        write(bind(w, "column", column, inColumn), acc, l, inColumn);
        inRow.push(...when(n.total % bn === 0 ? TRUE : compare("lt", column, int(n.total)), inColumn));
      }
    }
  };
  if (kept !== undefined) {
    const short = minimum(sub(int(m.total - bm), t.row), int(0));
    const to = add(int(bm), m.total % bm === 0 ? kept.none : short);
    const name = fresh(w, "r");
    const at = local("i32", name);
    const body: Stmt[] = [];
    const accumulators = range(plan.thread[1] / 4).map((j) =>
      bind(w, "acc", load("vec4", kept.results.name, add(mul(at, int(plan.thread[1])), int(4 * j))), body),
    );
    writeRow(add(t.row, at), accumulators, body);
    out.push({ kind: "for", name, from: int(0), to, step: 1, body });
    return;
  }
  for (const [i, accumulators] of t.acc.entries()) {
    const row = rowOf(t, i);
    const inRow: Stmt[] = [];
    writeRow(row, accumulators, inRow);
    out.push(...when(m.total % bm === 0 ? TRUE : compare("lt", row, int(m.total)), inRow));
  }
}
