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
  lane,
  lanes,
  local,
  loop,
  minimum,
  mul,
  rem,
  sub,
  TRUE,
  when,
  widen,
} from "../kernel/build.ts";
import type { Expr, LocalArray, Stmt } from "../kernel/ir.ts";
import type { Contraction } from "../loop/contraction.ts";
import { product } from "../loop/layout.ts";
import { type Dispatch, dispatchOf } from "./dispatch.ts";
import { bind, decode, fresh, gridOf, hoist, part, writerFor } from "./emit.ts";
import { extentsOf, type Flat } from "./flat.ts";
import { type MatrixTile, matrixTile, multiplyMatrices } from "./matrix.ts";
import { type ContractPlan, describePlan, invocationsOf } from "./plan.ts";
import { keepResults, type Sums, storePartial, storeResults } from "./results.ts";
import {
  type Depth,
  depthPoint,
  depthQuad,
  factorAt,
  hoistQuad,
  type Quad,
  quadAlongK,
  quadAlongSide,
  sideOf,
  sidePoint,
  sideQuad,
} from "./sides.ts";
import { staged } from "./staging.ts";
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

  // Of a subgroup's matrices the device keeps the sums itself.
  const use = plan.matrix;
  const acc = (use === undefined ? range(tm) : []).map((i) =>
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
  const matrices = use === undefined ? undefined : matrixTile(tile, use, out);

  // Steps along K: runs of BK positions of the innermost K axis inside loops over the others, or of all K axes flattened.
  const inner = product(extentsOf(kernel, c.k.slice(-1)));
  const nested = plan.stage === "registers" || c.k.length <= 1 || Math.ceil(inner / bk) * bk <= 1.25 * inner;
  const extent = nested ? inner : c.sizes.k;
  const outer = nested ? c.k.slice(0, -1) : [];
  const perRun = Math.ceil(extent / bk);
  const steps = perRun * product(extentsOf(kernel, outer));
  const multiply = matrices === undefined ? MULTIPLY[plan.stage] : withMatrices(matrices);
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

  const sums = sumsOf(tile, matrices, none, out);
  if (target.kind === "stores") storeResults(tile, sums, out);
  else storePartial(tile, target.buffer, add(mul(slice, int(c.sizes.batch)), batch), sums, out);
  const exact = workgroups[0] * workgroups[1] === groups;
  return dispatchOf(w, {
    plan: describePlan(plan),
    body: [...head, ...when(exact ? TRUE : compare("lt", group, int(groups)), out)],
    locals: [...locals, ...arraysOf(sums)],
    workgroupSize: use === undefined ? [bn / tn, bm / tm, 1] : [invocationsOf(plan), 1, 1],
    ...(use?.sized === true ? { subgroupSize: use.subgroup } : {}),
    workgroups,
  });
}

type Multiply = (t: Tile, depth: Depth, first: Expr, head: Stmt[], body: Stmt[]) => readonly LocalArray[];

const withMatrices =
  (own: MatrixTile): Multiply =>
  (t, depth, first, head, body) =>
    multiplyMatrices(t, own, depth, first, head, body);

/** Where the sums are once all of K has passed. */
function sumsOf(t: Tile, matrices: MatrixTile | undefined, none: Expr, out: Stmt[]): Sums {
  if (matrices !== undefined) return { kind: "matrices", tile: matrices };
  if (t.plan.stage === "subgroup") return { kind: "array", array: keepResults(t, out), none };
  return { kind: "registers" };
}

function arraysOf(sums: Sums): readonly LocalArray[] {
  if (sums.kind === "registers") return [];
  return [sums.kind === "array" ? sums.array : sums.tile.area];
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

const MULTIPLY: Readonly<Record<ContractPlan["stage"], Multiply>> = {
  workgroup: staged,
  registers: direct,
  subgroup: shared,
};
