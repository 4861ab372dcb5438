/**
 * ATTEND: attention in tiles of rows by keys, whose table is nowhere in memory.
 *
 * A workgroup takes BM rows and up to BD features, and walks over all keys in blocks of BN. For a block it makes the tile's
 * scores as CONTRACT makes its products, turns them into weights, and adds the weights' product with the block's values to
 * what its rows have gathered, in registers. Staged, both factors of the scores, the weights and the values pass through
 * workgroup memory; without stage (a CPU behind WebGPU) an invocation has one row or two, four keys at a time, and all
 * that belongs to them in registers. Softmax is found on the way (Milakov and Gimelshein 2018): every row keeps the greatest
 * score and the sum of exponentials below it, and what was gathered shrinks when a greater one comes. Nothing is added by
 * two workgroups, and the order of every sum is fixed by the plan.
 */
import {
  add,
  binary,
  builtin,
  compare,
  div,
  float,
  groupNumber,
  int,
  LANES,
  lane,
  lanes,
  load,
  local,
  loop,
  mul,
  rem,
  select,
  store,
  TRUE,
  unary,
  when,
  widen,
} from "../kernel/build.ts";
import type { Expr, LocalArray, Stmt } from "../kernel/ir.ts";
import { axesOf } from "../loop/affine.ts";
import type { Attention } from "../loop/attention.ts";
import type { Contraction } from "../loop/contraction.ts";
import { LOWEST, type Scalar } from "../scalar.ts";
import { direct } from "./contract.ts";
import { type Dispatch, dispatchOf } from "./dispatch.ts";
import {
  bind,
  decode,
  emitStores,
  evaluate,
  fresh,
  gridOf,
  type Point,
  part,
  storesVectors,
  type Writer,
  writerFor,
} from "./emit.ts";
import { addressOf, type Flat } from "./flat.ts";
import { type AttendPlan, type ContractPlan, describePlan } from "./plan.ts";
import { type Depth, depthPoint, quadAlongSide, sideOf, sidePoint, sideQuad } from "./sides.ts";
import { fetch, multiplyStaged, type Staging, staged, stagingOf } from "./staging.ts";
import { accumulate, columnOf, range, rowOf, type Tile } from "./tile.ts";

/** What the parts of the schedule share. */
interface Context {
  readonly w: Writer;
  readonly attention: Attention;
  readonly plan: AttendPlan;
  readonly base: Point;
  /** First row of the tile, its first feature, and whether that is the first of all. */
  readonly row: Expr;
  readonly feature: Expr;
  readonly isFirst: Expr;
  readonly tx: Expr;
  readonly ty: Expr;
  readonly invocation: Expr;
  /** This invocation's rows. */
  readonly rows: readonly Point[];
  /** By row: the greatest score and the sum of exponentials; empty unless softmax is still to be found. */
  readonly most: readonly Expr[];
  readonly total: readonly Expr[];
  /** By gathered sum, row and quad of features. */
  readonly acc: readonly (readonly (readonly Expr[])[])[];
  readonly values: readonly Contraction[];
  /** Workgroup memory: names, and what has been asked for under each. */
  readonly arrays: { readonly m: string; readonly n: string; readonly weights: readonly string[] };
  readonly locals: Map<string, LocalArray>;
}

/** Renders flat attention. @param maxGroups workgroups in one dimension of a grid */
export function attendProgram(flat: Flat, attention: Attention, plan: AttendPlan, maxGroups: number): Dispatch {
  const { kernel } = flat;
  const w = writerFor(
    flat,
    kernel.stores.map((s) => s.buffer),
  );
  const { sizes, gathered, scores } = attention;
  const [bm, bn] = plan.tile;
  const [tm, tn] = plan.thread;
  const [bd, td] = plan.features;
  const isStaged = plan.stage === "workgroup";
  const rowTiles = Math.ceil(sizes.rows / bm);
  const parts = gathered.length === 0 ? 1 : Math.ceil(sizes.features / bd);
  const groups = rowTiles * parts * sizes.batch;
  const workgroups = gridOf(groups, maxGroups);
  const head: Stmt[] = [];
  const out: Stmt[] = [];

  const group = bind(w, "group", groupNumber(workgroups), head);
  const part0 = bind(w, "part", parts === 1 ? int(0) : rem(group, parts), out);
  const above = bind(w, "group_row", div(group, parts), out);
  const coords: (Expr | undefined)[] = [];
  decode(w, bind(w, "batch", div(above, rowTiles), out), attention.batch, coords, out);
  const base: Point = { coords, valid: TRUE };
  const tx = isStaged ? bind(w, "tx", builtin("local.x"), out) : int(0);
  const ty = bind(w, "ty", builtin(isStaged ? "local.y" : "local.x"), out);
  const row = bind(w, "first_row", mul(rowTiles === 1 ? int(0) : rem(above, rowTiles), int(bm)), out);
  const variables = (count: number, hint: string, value: Expr): readonly Expr[] =>
    range(count).map((i) => {
      const name = fresh(w, `${hint}_${i}`);
      out.push({ kind: "var", name, value });
      return local(value.type, name);
    });
  const online = attention.online === undefined ? 0 : tm;
  const known = {
    w,
    attention,
    plan,
    base,
    row,
    feature: bind(w, "first_feature", mul(part0, int(bd)), out),
    isFirst: compare("eq", part0, int(0)),
    tx,
    ty,
    invocation: bind(w, "invocation", builtin("local"), out),
    most: variables(online, "most", float(LOWEST)),
    total: variables(online, "total", float(0)),
    acc: gathered.map((_, g) => range(tm).map((i) => variables(td / 4, `sum${g}_${i}`, widen(float(0))))),
    values: gathered.map(({ factor }) => valuesOf(attention, factor)),
    arrays: {
      m: fresh(w, "left_tile"),
      n: fresh(w, "right_tile"),
      weights: range(Math.max(scores.length, gathered.length)).map((i) => fresh(w, `weights_${i}`)),
    },
    locals: new Map<string, LocalArray>(),
  };
  const first = scoreTile({ ...known, rows: [] }, 0, int(0), []);
  const exact = sizes.rows % bm === 0;
  const ctx: Context = {
    ...known,
    rows: range(tm).map((i) => sidePoint(w, first.m, base, rowOf(first, i), exact, out)),
  };
  out.push(...loop(fresh(w, "key"), sizes.keys, bn, (key) => (isStaged ? stagedBlock(ctx, key) : ownBlock(ctx, key))));
  storeResults(ctx, first, out);

  const all = workgroups[0] * workgroups[1] === groups;
  return dispatchOf(w, {
    plan: describePlan(plan),
    body: [...head, ...when(all ? TRUE : compare("lt", group, int(groups)), out)],
    locals: [...ctx.locals.values()],
    workgroupSize: isStaged ? [bn / tn, bm / tm, 1] : [bm / tm, 1, 1],
    workgroups,
  });
}

/** What one factor is gathered by: weights of rows by keys, times keys by features. */
function valuesOf({ batch, rows, keys, features, sizes }: Attention, factor: number): Contraction {
  const weights = { value: { kind: "const", value: 0 }, loads: [], plain: undefined, rounded: undefined } as const;
  return {
    left: weights,
    right: { value: { kind: "load", index: factor }, loads: [factor], plain: factor, rounded: undefined },
    batch,
    m: rows,
    n: features,
    k: keys,
    sizes: { batch: sizes.batch, m: sizes.rows, n: sizes.features, k: sizes.keys },
  };
}

/** Products of a tile: this invocation's part of the scores of a block. */
function scoreTile(ctx: Context, number: number, key: Expr, acc: Tile["acc"]): Tile {
  const { w, attention, plan } = ctx;
  const { tile, thread, stage } = plan;
  const product: ContractPlan = { schedule: "contract", tile, thread, stage, splitK: 1 };
  return tileOf(ctx, part(attention.scores, number), product, key, acc, w);
}

/** The same of what is gathered, BK keys at a time. */
function valueTile(ctx: Context, number: number): Tile {
  const { w, plan } = ctx;
  const [bm, , bk] = plan.tile;
  const [bd, td] = plan.features;
  const depth = plan.stage === "workgroup" ? bk : 4;
  const product: ContractPlan = {
    schedule: "contract",
    tile: [bm, bd, depth],
    thread: [plan.thread[0], td],
    stage: plan.stage,
    splitK: 1,
  };
  return tileOf(ctx, part(ctx.values, number), product, ctx.feature, part(ctx.acc, number), w);
}

function tileOf(ctx: Context, c: Contraction, plan: ContractPlan, column: Expr, acc: Tile["acc"], w: Writer): Tile {
  const { row, base, tx, ty, invocation, arrays } = ctx;
  const [m, n] = [sideOf(w.flat, c, "m"), sideOf(w.flat, c, "n")];
  return { w, c, plan, m, n, row, column, base, tx, ty, invocation, acc, arrays };
}

// -------------------------------------------------------------------------------------------------------------- scores

/** The scores of a block, by score, row and quad of keys. */
function scoresOf(ctx: Context, key: Expr, out: Stmt[]): readonly Tile[] {
  const { w, attention, plan } = ctx;
  const [, , bk] = plan.tile;
  const [tm, tn] = plan.thread;
  return attention.scores.map((score, s) => {
    const acc = range(tm).map((i) =>
      range(tn / 4).map((j): Expr => {
        const name = fresh(w, `score${s}_${i}_${j}`);
        out.push({ kind: "var", name, value: widen(float(0)) });
        return local("vec4", name);
      }),
    );
    const tile = scoreTile(ctx, s, key, acc);
    const extent = score.sizes.k;
    const depth: Depth = { axes: score.k, extent, fixed: new Map(), masked: extent % bk !== 0 };
    const multiply = plan.stage === "workgroup" ? staged : direct;
    const body = loop(fresh(w, "k"), extent, bk, (first) => {
      const inner: Stmt[] = [];
      keep(ctx, multiply(tile, depth, first, out, inner));
      return inner;
    });
    out.push(...body);
    return tile;
  });
}

/** Notes workgroup memory; an array is as large as its largest use. */
function keep({ locals }: Context, arrays: readonly LocalArray[]): void {
  for (const array of arrays) {
    const before = locals.get(array.name);
    if (before === undefined || before.size < array.size) locals.set(array.name, array);
  }
}

/** Scalars over the inner sums at a row and four keys, as vec4. */
function scalarsAt(
  ctx: Context,
  scalars: readonly Scalar[],
  scores: readonly Tile[],
  at: { readonly i: number; readonly j: number },
  out: Stmt[],
): readonly Expr[] {
  const { w, attention } = ctx;
  const [tile] = scores;
  if (tile === undefined) throw new Error("internal: attention without scores");
  const states = scores.map(({ acc }) => part(part(acc, at.i), at.j));
  const exact = attention.sizes.keys % ctx.plan.tile[1] === 0;
  const quad = sideQuad(w, tile.n, part(ctx.rows, at.i), columnOf(tile, at.j), exact, out);
  if (quad.kind === "vector")
    return evaluate(w, scalars, quad.point, out, (index) => part(states, index)).map((value) => widen(value));
  const each = quad.points.map((point, l) =>
    evaluate(w, scalars, point, out, (index) => lane(part(states, index), part(LANES, l))),
  );
  return scalars.map((_, g) => lanes((l) => part(part(each, l), g)));
}

/** `value`, or `otherwise` in lanes beyond the last key. */
function masked(ctx: Context, value: Expr, position: Expr, otherwise: number): Expr {
  const { keys } = ctx.attention.sizes;
  if (keys % ctx.plan.tile[1] === 0) return value;
  if (keys % 4 === 0) return select(compare("lt", position, int(keys)), value, widen(float(otherwise)));
  return lanes((l) => select(compare("lt", add(position, int(l)), int(keys)), lane(value, l), float(otherwise)));
}

const assign = (target: Expr, value: Expr): Stmt => {
  if (target.kind !== "var") throw new Error("internal: what changes is no variable");
  return { kind: "assign", name: target.name, value };
};

const across = (fn: "max" | "add", value: Expr): Expr =>
  binary(fn, binary(fn, lane(value, 0), lane(value, 1)), binary(fn, lane(value, 2), lane(value, 3)));

/** The greatest score of row `i` becomes `greatest` if that is greater; gives it, and what the row had shrinks. */
function raise(ctx: Context, i: number, greatest: Expr, out: Stmt[]): Expr {
  const { w } = ctx;
  const most = part(ctx.most, i);
  const now = bind(w, "now", binary("max", most, greatest), out);
  const shrink = bind(w, "shrink", unary("exp", binary("sub", most, now)), out);
  const total = part(ctx.total, i);
  out.push(assign(most, now), assign(total, binary("mul", total, shrink)));
  for (const acc of ctx.acc) for (const sum of part(acc, i)) out.push(assign(sum, binary("mul", sum, shrink)));
  return now;
}

// ------------------------------------------------------------------------------------------- one invocation by itself

/** A block of four keys: scores, weights and what they gather, all in this invocation's registers. */
function ownBlock(ctx: Context, key: Expr): readonly Stmt[] {
  const { w, attention, plan } = ctx;
  const out: Stmt[] = [];
  const scores = scoresOf(ctx, key, out);
  const [tile] = scores;
  if (tile === undefined) throw new Error("internal: attention without scores");
  const position = columnOf(tile, 0);
  const { online, gathered } = attention;
  const weights = range(plan.thread[0]).map((i): readonly Expr[] => {
    const at = { i, j: 0 };
    if (online === undefined) {
      const scalars = gathered.map(({ weight }) => weight);
      return scalarsAt(ctx, scalars, scores, at, out).map((value) =>
        bind(w, "weight", masked(ctx, value, position, 0), out),
      );
    }
    const [score = float(0)] = scalarsAt(ctx, [online], scores, at, out);
    const x = bind(w, "x", masked(ctx, score, position, LOWEST), out);
    const now = raise(ctx, i, across("max", x), out);
    const exponential = unary("exp", binary("sub", x, now));
    const weight = bind(w, "weight", masked(ctx, exponential, position, 0), out);
    const total = part(ctx.total, i);
    out.push(assign(total, binary("add", total, across("add", weight))));
    return gathered.map(() => weight);
  });
  gathered.forEach((_, g) => {
    const value = valueTile(ctx, g);
    const { sizes } = attention;
    const exactFeatures = sizes.features % plan.features[0] === 0;
    const quads = range(plan.features[1] / 4).map((j) =>
      sideQuad(w, value.n, ctx.base, columnOf(value, j), exactFeatures, out),
    );
    const depth: Depth = { axes: attention.keys, extent: sizes.keys, fixed: new Map(), masked: sizes.keys % 4 !== 0 };
    for (const l of LANES) {
      const k = depthPoint(w, depth, add(key, int(l)), out);
      quads.forEach((quad, j) => {
        const v = bind(w, "v", quadAlongSide(w, value.n, quad, k, out), out);
        weights.forEach((weight, i) => {
          out.push(accumulate(part(part(value.acc, i), j), lane(part(weight, g), l), v));
        });
      });
    }
  });
  return out;
}

// -------------------------------------------------------------------------------------------- through workgroup memory

/** Where the weights of a block lie: [row][key]. */
function weightsIn(ctx: Context, number: number): Staging {
  const [bm, bn] = ctx.plan.tile;
  const name = part(ctx.arrays.weights, number);
  const array: LocalArray = { name, size: bm * bn, vec4: true };
  keep(ctx, [array]);
  return { array, along: "k", index: (row, key) => add(mul(row, int(bn)), key) };
}

/** A block of BN keys: scores in registers, weights in workgroup memory, what they gather in registers again. */
function stagedBlock(ctx: Context, key: Expr): readonly Stmt[] {
  const { w, attention, plan } = ctx;
  const [, bn, bk] = plan.tile;
  const [tm, tn] = plan.thread;
  const out: Stmt[] = [];
  const scores = scoresOf(ctx, key, out);
  const [tile] = scores;
  if (tile === undefined) throw new Error("internal: attention without scores");
  const { online, gathered, sizes } = attention;
  const local0 = { ...tile, row: int(0), column: int(0) };
  /** Element of this invocation's score (i, j) in a tile of weights. */
  const place = (into: Staging, i: number, j: number): Expr => into.index(rowOf(local0, i), columnOf(local0, j));
  const quads = range(tm).flatMap((i) => range(tn / 4).map((j) => ({ i, j })));
  if (online === undefined) {
    const scalars = gathered.map(({ weight }) => weight);
    for (const at of quads) {
      scalarsAt(ctx, scalars, scores, at, out).forEach((value, g) => {
        const into = weightsIn(ctx, g);
        out.push(store(into.array.name, place(into, at.i, at.j), masked(ctx, value, columnOf(tile, at.j), 0)));
      });
    }
  } else {
    const into = weightsIn(ctx, 0);
    const xs = quads.map((at) => {
      const [score = float(0)] = scalarsAt(ctx, [online], scores, at, out);
      const x = bind(w, "x", masked(ctx, score, columnOf(tile, at.j), LOWEST), out);
      out.push(store(into.array.name, place(into, at.i, at.j), x));
      return x;
    });
    out.push({ kind: "barrier" });
    const overRow = (hint: string, fn: "max" | "add", start: number, i: number): Expr => {
      const name = fresh(w, hint);
      out.push({ kind: "var", name, value: widen(float(start)) });
      const value = local("vec4", name);
      const index = (at: Expr): Expr => into.index(rowOf(local0, i), at);
      out.push(
        ...loop(fresh(w, "at"), bn, 4, (at) => [
          assign(value, binary(fn, value, load("vec4", into.array.name, index(at)))),
        ]),
      );
      return across(fn, value);
    };
    const greatest = range(tm).map((i) => bind(w, "greatest", overRow("row_most", "max", LOWEST, i), out));
    const now = greatest.map((value, i) => raise(ctx, i, value, out));
    // Everyone has read the scores before they become weights.
    out.push({ kind: "barrier" });
    quads.forEach((at, n) => {
      const weight = unary("exp", binary("sub", part(xs, n), part(now, at.i)));
      out.push(store(into.array.name, place(into, at.i, at.j), masked(ctx, weight, columnOf(tile, at.j), 0)));
    });
    out.push({ kind: "barrier" });
    for (const i of range(tm)) {
      const total = part(ctx.total, i);
      out.push(assign(total, binary("add", total, overRow("row_total", "add", 0, i))));
    }
  }
  gathered.forEach((_, g) => {
    const value = valueTile(ctx, g);
    const left = weightsIn(ctx, online === undefined ? g : 0);
    const right = stagingOf(value, value.n);
    keep(ctx, [right.array]);
    const depth: Depth = { axes: attention.keys, extent: sizes.keys, fixed: new Map(), masked: sizes.keys % bn !== 0 };
    const body = loop(fresh(w, "at"), bn, bk, (at) => {
      const inner: Stmt[] = [];
      const writes = fetch(value, value.n, right, depth, add(key, at), out, inner);
      const shifted: Staging = { ...left, index: (row, k) => left.index(row, add(at, k)) };
      inner.push({ kind: "barrier" }, ...writes, { kind: "barrier" }, ...multiplyStaged(value, shifted, right));
      return inner;
    });
    out.push(...body);
  });
  // Without what is gathered nothing else waits before the next block's scores replace these.
  if (gathered.length === 0) out.push({ kind: "barrier" });
  return out;
}

// ------------------------------------------------------------------------------------------------------------- results

/** The epilogue and stores: those that no feature has a part in once a row, the others for every feature. */
function storeResults(ctx: Context, rows: Tile, out: Stmt[]): void {
  const { w, attention, plan } = ctx;
  const { features, sizes, gathered } = attention;
  const { kernel } = w.flat;
  const along = kernel.stores.map(
    (s) => features.length === 0 || axesOf(addressOf(s)).some((axis) => features.includes(axis)),
  );
  const writer = (wide: boolean): Writer => {
    const stores = kernel.stores.filter((_, i) => along[i] === wide);
    return { ...w, flat: { ...w.flat, kernel: { ...kernel, stores } } };
  };
  const [narrow, wide] = [writer(false), writer(true)];
  for (const i of range(plan.thread[0])) {
    const row = rowOf(rows, i);
    const inRow: Stmt[] = [];
    const at = sidePoint(w, rows.m, ctx.base, bind(w, "row", row, inRow), true, inRow);
    const states = [...(ctx.most.length > 0 ? [part(ctx.most, i), part(ctx.total, i)] : [])];
    if (narrow.flat.kernel.stores.length > 0) {
      const coords = [...at.coords];
      for (const axis of features) coords[axis] = int(0);
      const once: Stmt[] = [];
      emitStores(narrow, { ...at, coords }, once, (index) => part(states, index));
      inRow.push(...when(compare("eq", ctx.tx, int(0)), when(ctx.isFirst, once)));
    }
    if (wide.flat.kernel.stores.length > 0 && gathered.length === 0) {
      const once: Stmt[] = [];
      emitStores(wide, at, once, (index) => part(states, index));
      inRow.push(...when(compare("eq", ctx.tx, int(0)), once));
    } else if (wide.flat.kernel.stores.length > 0) storeFeatures(ctx, wide, i, at, states, inRow);
    const exact = sizes.rows % plan.tile[0] === 0;
    out.push(...when(exact ? TRUE : compare("lt", row, int(sizes.rows)), inRow));
  }
}

function storeFeatures(ctx: Context, w: Writer, i: number, at: Point, states: readonly Expr[], out: Stmt[]): void {
  const { attention, plan } = ctx;
  const { sizes } = attention;
  const last = attention.features.at(-1);
  const asVectors = storesVectors(w.flat, last);
  const tile = valueTile(ctx, 0);
  for (const j of range(plan.features[1] / 4)) {
    for (const l of asVectors ? ([undefined] as const) : LANES) {
      const column = add(columnOf(tile, j), int(l ?? 0));
      const inner: Stmt[] = [];
      const single = sidePoint(w, tile.n, at, bind(w, "column", column, inner), true, inner);
      const point = l === undefined && last !== undefined ? { ...single, lanes: last } : single;
      emitStores(w, point, inner, (index) => {
        const known = states[index];
        if (known !== undefined) return known;
        const sum = part(part(part(ctx.acc, index - states.length), i), j);
        return l === undefined ? sum : lane(sum, l);
      });
      const exact = sizes.features % plan.features[0] === 0;
      out.push(...when(exact ? TRUE : compare("lt", column, int(sizes.features)), inner));
    }
  }
}
