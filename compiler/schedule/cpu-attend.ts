/**
 * ATTEND on the CPU: attention in tiles, with no table in memory.
 *
 * In: a flattened kernel with inner sums and its attention record. Out: tasks, each a tile of rows that walks over all keys
 * in blocks. For a block it computes the tile's scores with the microkernel of CONTRACT, turns them into weights where they
 * lie, and adds the weights' product with the block's values to the tile's results, with the same microkernel: what is in
 * scratch memory is one tile of scores. Where softmax is still to be found (the forward pass) every row keeps the greatest
 * score so far and the sum of exponentials below it, and what was gathered shrinks when a greater one comes (Milakov and
 * Gimelshein 2018; Dao et al. 2022, algorithm 1). Each result is summed by one thread in one order.
 */
import {
  add,
  binary,
  compare,
  div,
  float,
  int,
  lane,
  load,
  local,
  minimum,
  mul,
  rem,
  sub,
  TRUE,
  unary,
  widen,
} from "../kernel/build.ts";
import type { Expr, LocalArray, Stmt } from "../kernel/ir.ts";
import { loadsOf } from "../loop/access.ts";
import type { Attention } from "../loop/attention.ts";
import type { Contraction } from "../loop/contraction.ts";
import type { Kernel } from "../loop/loops.ts";
import { LOWEST, type Scalar } from "../scalar.ts";
import {
  address,
  type Block,
  type CpuPlan,
  flatIndex,
  leftStride,
  microkernel,
  overBlock,
  PANEL,
  type Packing,
  packLeft,
  packRight,
  restrict,
  upTo,
} from "./cpu-contract.ts";
import { emitStores, storeVectorAxis } from "./cpu-map.ts";
import { accessOf, bindFlat, emitScalars, named, type Scope, shareTasks, siteOf, vectorLoop } from "./cpu-nest.ts";

/** How attention is tiled on the CPU. */
export interface AttendPlan {
  /** Rows of a tile, a multiple of 4. */
  readonly tileRows: number;
  /** Values of the outermost key axis in a block; the axes behind it run whole. */
  readonly chunk: number;
  /** Keys of a block: a multiple of 8. */
  readonly tileKeys: number;
}

const ROWS = 4;
/** Rows of a tile and keys of a block, both from timings. */
const TILE_ROWS = 96;
const TILE_KEYS = 64;
/** Bytes of scratch memory that a tile's rows, or a block's keys, may take: a part of the second cache. */
const ROW_BYTES = 262144;
const KEY_BYTES = 65536;
/** Tasks wanted for each thread, and rows below which a tile is not cut for their sake. */
const TASKS_A_THREAD = 4;
const LEAST_ROWS = 16;

/** Chooses tiles on so many threads. */
export function planAttention(kernel: Kernel, attention: Attention, threads: number): AttendPlan {
  const { sizes, scores, keys, gathered } = attention;
  const depth = scores.reduce((sum, score) => sum + score.sizes.k, 0);
  const width = gathered.length * upTo(sizes.features, PANEL);
  let tileRows = Math.min(TILE_ROWS, upTo(sizes.rows, ROWS));
  while (tileRows > LEAST_ROWS && tileRows * (depth + width) * 4 > ROW_BYTES) tileRows = upTo(tileRows / 2, ROWS);
  const tasks = (): number => sizes.batch * Math.ceil(sizes.rows / tileRows);
  while (tileRows > LEAST_ROWS && tasks() < TASKS_A_THREAD * threads) tileRows = upTo(tileRows / 2, ROWS);
  // Tiles of equal size.
  tileRows = upTo(Math.ceil(sizes.rows / Math.ceil(sizes.rows / tileRows)), ROWS);
  const deepest = Math.max(sizes.features, ...scores.map((score) => score.sizes.k));
  const wanted = Math.max(16, Math.min(TILE_KEYS, Math.floor(KEY_BYTES / (4 * deepest))));
  const outer = keys.length === 0 ? 1 : (kernel.axes[keys[0] ?? 0]?.size ?? 1);
  const inner = sizes.keys / outer;
  // Blocks start at whole panels.
  const step = PANEL / gcd(inner, PANEL);
  const chunk = Math.min(upTo(outer, step), upTo(Math.max(1, Math.floor(wanted / inner)), step));
  return { tileRows, chunk, tileKeys: chunk * inner };
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}

/** What the parts of the schedule share. */
interface Context {
  readonly kernel: Kernel;
  readonly attention: Attention;
  readonly plan: AttendPlan;
  /** Tiles of scores, and then of weights. */
  readonly tiles: readonly LocalArray[];
  readonly tileStride: number;
  /** What each gathered sum has come to. */
  readonly sums: readonly LocalArray[];
  readonly sumStride: number;
  /** By row: the greatest score, and the sum of exponentials. */
  readonly most: LocalArray;
  readonly total: LocalArray;
  readonly scores: readonly Packing[];
  readonly values: readonly Packing[];
}

function contextOf(kernel: Kernel, attention: Attention, plan: AttendPlan): Context {
  const { scores, gathered, sizes, keys } = attention;
  const { tileRows, tileKeys, chunk } = plan;
  const array = (name: string, size: number): LocalArray => ({ name, size, vec4: false });
  const features = Math.ceil(sizes.features / PANEL);
  // Not a power of two, or rows would fall into the same cache sets.
  const tileStride = tileKeys + 4;
  const sumStride = features * PANEL + 4;
  const depth = Math.max(...scores.map((score) => score.sizes.k));
  const right = array("right", Math.max(tileKeys * depth, gathered.length > 0 ? features * PANEL * tileKeys : 0));
  const common = { rows: ROWS, ways: 1, tileM: tileRows, packed: false } as const;
  const size = (axis: number | undefined): number => (axis === undefined ? 1 : (kernel.axes[axis]?.size ?? 1));
  const ofScores = scores.map((c, i): Packing => {
    const [outer] = c.k;
    const cpu: CpuPlan = {
      ...common,
      tileN: tileKeys / PANEL,
      chunkAxis: outer ?? 0,
      chunk: size(outer),
      blockK: c.sizes.k,
    };
    return { c, plan: cpu, left: array(`left${i}`, tileRows * leftStride(cpu)), right };
  });
  const tiles = Array.from({ length: Math.max(scores.length, gathered.length) }, (_, i) =>
    array(`tile${i}`, tileRows * tileStride),
  );
  const ofValues = gathered.map(({ factor }, i): Packing => {
    const c: Contraction = {
      // The left factor is the tile of weights, which lies in scratch memory already.
      left: { value: { kind: "const", value: 0 }, loads: [], plain: undefined, rounded: undefined },
      right: { value: { kind: "load", index: factor }, loads: [factor], plain: factor, rounded: undefined },
      batch: attention.batch,
      m: attention.rows,
      n: attention.features,
      k: keys,
      sizes: { batch: sizes.batch, m: sizes.rows, n: sizes.features, k: sizes.keys },
    };
    const cpu: CpuPlan = { ...common, tileN: features, chunkAxis: keys[0] ?? 0, chunk, blockK: tileKeys };
    return { c, plan: cpu, left: tiles[i] ?? right, right };
  });
  return {
    kernel,
    attention,
    plan,
    tiles,
    tileStride,
    sums: gathered.map((_, i) => array(`sums${i}`, tileRows * sumStride)),
    sumStride,
    most: array("most", attention.online === undefined ? 0 : tileRows),
    total: array("total", attention.online === undefined ? 0 : tileRows),
    scores: ofScores,
    values: ofValues,
  };
}

const forLoop = (name: string, to: Expr, body: readonly Stmt[], step = 1): Stmt => ({
  kind: "for",
  name,
  from: int(0),
  to,
  step,
  body,
});

/** The schedule: its statements and its scratch arrays. */
export function scheduleAttention(
  kernel: Kernel,
  scope: Scope,
  attention: Attention,
  plan: AttendPlan,
): { readonly body: readonly Stmt[]; readonly locals: readonly LocalArray[] } {
  const ctx = contextOf(kernel, attention, plan);
  const { sizes, batch } = attention;
  const tiles = Math.ceil(sizes.rows / plan.tileRows);
  const body = shareTasks(scope.fresh, sizes.batch * tiles, (task) => {
    const out: Stmt[] = [];
    const row0 = named(scope, "m", mul(tiles === 1 ? int(0) : rem(task, tiles), int(plan.tileRows)), out);
    const rowCount = named(scope, "rows", minimum(int(plan.tileRows), sub(int(sizes.rows), row0)), out);
    const there = bindFlat(scope, batch, named(scope, "q", div(task, tiles), out), out);
    for (const packing of ctx.scores) out.push(...packLeft(packing, there, row0, rowCount, wholeDepth(packing)));
    if (attention.online !== undefined) {
      const row = scope.fresh("row");
      out.push(
        forLoop(row, rowCount, [
          { kind: "store", to: ctx.most.name, index: local("i32", row), value: float(LOWEST) },
          { kind: "store", to: ctx.total.name, index: local("i32", row), value: float(0) },
        ]),
      );
    }
    out.push(...overKeys(ctx, there, (block) => oneBlock(ctx, there, row0, rowCount, block)));
    out.push(...finish(ctx, there, row0, rowCount));
    return out;
  });
  const arrays = [...ctx.scores.map(({ left }) => left), ...ctx.tiles, ...ctx.sums, ctx.most, ctx.total];
  const right = ctx.scores.slice(0, 1).map((packing) => packing.right);
  return { body, locals: [...arrays, ...right].filter(({ size }) => size > 0) };
}

function wholeDepth({ plan }: Packing): Block {
  return { from: int(0), to: int(plan.chunk), length: int(plan.blockK), first: TRUE };
}

/** All blocks of keys. */
function overKeys(ctx: Context, scope: Scope, body: (block: Block) => readonly Stmt[]): readonly Stmt[] {
  const { attention, plan } = ctx;
  const outer = attention.keys.length === 0 ? 1 : (scope.sizes[attention.keys[0] ?? 0] ?? 1);
  if (plan.chunk >= outer)
    return body({ from: int(0), to: int(outer), length: int(attention.sizes.keys), first: TRUE });
  const inner = plan.tileKeys / plan.chunk;
  const name = scope.fresh("keys");
  const from = local("i32", name);
  const out: Stmt[] = [];
  const to = named(scope, "to", minimum(add(from, int(plan.chunk)), int(outer)), out);
  const length =
    outer % plan.chunk === 0 ? int(plan.tileKeys) : named(scope, "length", mul(sub(to, from), int(inner)), out);
  const first = named(scope, "first", compare("eq", from, int(0)), out);
  out.push(...body({ from, to, length, first }));
  return [{ kind: "for", name, from: int(0), to: int(outer), step: plan.chunk, body: out }];
}

function oneBlock(ctx: Context, scope: Scope, row0: Expr, rowCount: Expr, block: Block): readonly Stmt[] {
  const { plan, attention } = ctx;
  const out: Stmt[] = [];
  const key0 = mul(block.from, int(plan.tileKeys / plan.chunk));
  const panel0 = named(scope, "p", div(key0, PANEL), out);
  const panels = named(scope, "panels", div(add(block.length, int(PANEL - 1)), PANEL), out);
  ctx.scores.forEach((packing, i) => {
    out.push(...packRight(packing, scope, panel0, panels, wholeDepth(packing)));
    const tile = ctx.tiles[i];
    if (tile === undefined) throw new Error("internal: scores without a tile");
    const into = { tile, stride: ctx.tileStride };
    out.push(
      ...multiply(scope, packing, packing.left, leftStride(packing.plan), into, panels, rowCount, wholeDepth(packing)),
    );
  });
  out.push(
    ...(attention.online === undefined
      ? weights(ctx, scope, row0, rowCount, block)
      : online(ctx, scope, row0, rowCount, block)),
  );
  ctx.values.forEach((packing, i) => {
    const features = int(packing.plan.tileN);
    out.push(...packRight(packing, scope, int(0), features, block));
    const tile = ctx.sums[i];
    if (tile === undefined) throw new Error("internal: a gathered sum without a tile");
    const into = { tile, stride: ctx.sumStride };
    out.push(...multiply(scope, packing, packing.left, ctx.tileStride, into, features, rowCount, block));
  });
  return out;
}

/** Rows of `left` times the panels in scratch memory. */
function multiply(
  scope: Scope,
  { plan, right }: Packing,
  left: LocalArray,
  stride: number,
  into: { readonly tile: LocalArray; readonly stride: number },
  panels: Expr,
  rowCount: Expr,
  block: Block,
): readonly Stmt[] {
  const [panel, row] = [scope.fresh("panel"), scope.fresh("row")];
  const [p, r] = [local("i32", panel), local("i32", row)];
  const each: Stmt[] = [];
  const b = named(scope, "b", address(right, mul(p, int(plan.blockK * PANEL))), each);
  const at = {
    a: address(left, mul(r, int(stride))),
    b,
    sums: address(into.tile, add(mul(r, int(into.stride)), mul(p, int(PANEL)))),
  };
  const shape = { rows: plan.rows, ways: plan.ways, leftStride: stride, sumStride: into.stride };
  each.push(forLoop(row, rowCount, microkernel(shape, scope, at, block), ROWS));
  return [forLoop(panel, panels, each)];
}

/** The scope at a row of the tile, where `tile i` is its score i and loads of `scalars` can be read. */
function atRow(
  ctx: Context,
  scope: Scope,
  row0: Expr,
  row: Expr,
  block: Block,
  scalars: readonly Scalar[],
  out: Stmt[],
): Scope {
  const { attention, plan } = ctx;
  const key0 = mul(block.from, int(plan.tileKeys / plan.chunk));
  const base = named(scope, "from", sub(mul(row, int(ctx.tileStride)), key0), out);
  const own = restrict(scope, new Set(loadsOf(...scalars).map((index) => `load ${index}`)));
  const place = flatIndex(attention.keys, scope.sizes);
  const tiles = ctx.tiles.map(({ name }, i) => [`tile ${i}`, accessOf(name, place, scope.sizes, [], 0, base)] as const);
  return bindFlat({ ...own, accesses: new Map([...own.accesses, ...tiles]) }, attention.rows, add(row0, row), out);
}

/** Values of scalars at one place or four, in terms of the tile's scores. */
function valuesAt(scalars: readonly Scalar[], at: Scope, out: Stmt[]): readonly Expr[] {
  const site = siteOf(at, out);
  const leaves = {
    load: (index: number): Expr => site.read(`load ${index}`),
    state: (index: number): Expr => site.read(`tile ${index}`),
    axis: site.axis,
    random: site.random,
  };
  return emitScalars(scalars, leaves, at.fresh, out);
}

/** The keys of a block, the last axis in vectors. */
function alongKeys(ctx: Context, at: Scope, block: Block, body: (at: Scope) => readonly Stmt[]): readonly Stmt[] {
  const { attention, plan } = ctx;
  return overBlock({ plan }, at, attention.keys, block, body);
}

/** Scores become weights, each a function of its pair alone. */
function weights(ctx: Context, scope: Scope, row0: Expr, rowCount: Expr, block: Block): readonly Stmt[] {
  const scalars = ctx.attention.gathered.map(({ weight }) => weight);
  const row = scope.fresh("row");
  const out: Stmt[] = [];
  const there = atRow(ctx, scope, row0, local("i32", row), block, scalars, out);
  out.push(
    ...alongKeys(ctx, there, block, (at) => {
      const inner: Stmt[] = [];
      const ready = valuesAt(scalars, at, inner).map((value) => named(at, "w", value, inner));
      const site = siteOf(at, inner);
      ready.forEach((value, i) => site.write(`tile ${i}`, value));
      return inner;
    }),
  );
  return [forLoop(row, rowCount, out)];
}

/** Scores become exponentials below the greatest of their row so far; what the row has gathered shrinks accordingly. */
function online(ctx: Context, scope: Scope, row0: Expr, rowCount: Expr, block: Block): readonly Stmt[] {
  const { attention } = ctx;
  const score = attention.online;
  if (score === undefined) return [];
  const name = scope.fresh("row");
  const row = local("i32", name);
  const out: Stmt[] = [];
  const there = atRow(ctx, scope, row0, row, block, [score], out);
  const pair = (prefix: string, value: number): { readonly wide: Expr; readonly one: Expr } => {
    const [wide, one] = [scope.fresh(prefix), scope.fresh(prefix)];
    out.push({ kind: "var", name: wide, value: widen(float(value)) }, { kind: "var", name: one, value: float(value) });
    return { wide: local("vec4", wide), one: local("f32", one) };
  };
  const join = (fn: "max" | "add", into: Expr, value: Expr): Stmt => {
    if (into.kind !== "var") throw new Error("internal: a running value is no variable");
    return { kind: "assign", name: into.name, value: binary(fn, into, value) };
  };
  const across = (fn: "max" | "add", { wide, one }: { readonly wide: Expr; readonly one: Expr }): Expr =>
    ([0, 1, 2, 3] as const).reduce((sum, index) => binary(fn, sum, lane(wide, index)), one);

  const greatest = pair("top", LOWEST);
  out.push(
    ...alongKeys(ctx, there, block, (at) => {
      const inner: Stmt[] = [];
      const [value] = valuesAt([score], at, inner);
      if (value === undefined) throw new Error("internal: attention without a score");
      const x = named(at, "x", value, inner);
      if (score.kind !== "state") siteOf(at, inner).write("tile 0", x);
      inner.push(join("max", at.vector === undefined ? greatest.one : greatest.wide, x));
      return inner;
    }),
  );
  const before = named(scope, "before", load("f32", ctx.most.name, row), out);
  const now = named(scope, "most", binary("max", before, across("max", greatest)), out);
  const shrink = named(scope, "shrink", unary("exp", binary("sub", before, now)), out);
  const sum = pair("sum", 0);
  out.push(
    ...alongKeys(ctx, there, block, (at) => {
      const inner: Stmt[] = [];
      const site = siteOf(at, inner);
      const value = unary("exp", binary("sub", site.read("tile 0"), now));
      const weight = named(at, "w", value, inner);
      site.write("tile 0", weight);
      inner.push(join("add", at.vector === undefined ? sum.one : sum.wide, weight));
      return inner;
    }),
  );
  const total = binary("add", binary("mul", load("f32", ctx.total.name, row), shrink), across("add", sum));
  out.push(
    { kind: "store", to: ctx.total.name, index: row, value: total },
    { kind: "store", to: ctx.most.name, index: row, value: now },
  );
  const first = block.first.kind === "const";
  if (!first && ctx.sums.length > 0) {
    const x = scope.fresh("e");
    const shrunk = ctx.sums.map((array): Stmt => {
      const index = add(mul(row, int(ctx.sumStride)), local("i32", x));
      return {
        kind: "store",
        to: array.name,
        index,
        value: binary("mul", load("vec4", array.name, index), widen(shrink)),
      };
    });
    const loop: Stmt = { kind: "for", name: x, from: int(0), to: int(ctx.sumStride - 4), step: 4, body: shrunk };
    // In the first block there is nothing yet.
    const rises: Expr = { kind: "compare", type: "bool", op: "lt", left: before, right: now };
    const inside: Stmt = { kind: "if", condition: rises, then: [loop], otherwise: [] };
    out.push({ kind: "if", condition: block.first, then: [], otherwise: [inside] });
  }
  return [forLoop(name, rowCount, out)];
}

/** The epilogue and the stores of a finished tile: those of a row once a row, the others for every feature. */
function finish(ctx: Context, scope: Scope, row0: Expr, rowCount: Expr): readonly Stmt[] {
  const { kernel, attention } = ctx;
  const name = scope.fresh("row");
  const row = local("i32", name);
  const out: Stmt[] = [];
  const alongFeatures = (index: number): boolean => {
    const access = scope.accesses.get(`store ${index}`);
    const axes = access?.address.rest.terms.flatMap(({ atom }) =>
      atom.kind === "axis" ? [atom.axis] : attention.features,
    );
    return attention.features.length === 0 || (axes ?? []).some((axis) => attention.features.includes(axis));
  };
  const base = named(scope, "from", mul(row, int(ctx.sumStride)), out);
  const place = flatIndex(attention.features, scope.sizes);
  const part = (wide: boolean): { readonly kernel: Kernel; readonly scope: Scope } => {
    const chosen = kernel.stores.flatMap((_, index) => (alongFeatures(index) === wide ? [index] : []));
    const stores = chosen.flatMap((index) => kernel.stores[index] ?? []);
    const needed = new Set(loadsOf(...stores.map(({ value }) => value)).map((index) => `load ${index}`));
    const accesses = new Map(restrict(scope, needed).accesses);
    chosen.forEach((index, i) => {
      const access = scope.accesses.get(`store ${index}`);
      if (access === undefined) return;
      // What is stored once a row waits for no feature.
      accesses.set(`store ${i}`, wide ? access : { ...access, guards: [] });
    });
    if (wide)
      ctx.sums.forEach((array, i) => accesses.set(`sums ${i}`, accessOf(array.name, place, scope.sizes, [], 0, base)));
    return { kernel: { ...kernel, stores }, scope: { ...scope, accesses } };
  };
  const softmaxStates =
    attention.online === undefined
      ? []
      : [ctx.most, ctx.total].map((array) => named(scope, "s", load("f32", array.name, row), out));
  const emit =
    (one: Kernel) =>
    (at: Scope): readonly Stmt[] => {
      const inner: Stmt[] = [];
      const site = siteOf(at, inner);
      const gathered = new Map<number, Expr>();
      const state = (index: number): Expr => {
        const known = softmaxStates[index];
        if (known !== undefined) return known;
        const which = index - softmaxStates.length;
        const value = gathered.get(which) ?? site.read(`sums ${which}`);
        gathered.set(which, value);
        return value;
      };
      // Sums are read before the stores, which might need them, are written out.
      const stores = emitStores(one, at, state);
      return [...inner, ...stores];
    };
  const narrow = part(false);
  if (narrow.kernel.stores.length > 0) {
    const there = bindFlat(narrow.scope, attention.rows, add(row0, row), out);
    out.push(...emit(narrow.kernel)(there));
  }
  const wide = part(true);
  if (wide.kernel.stores.length > 0) {
    const there = bindFlat(wide.scope, attention.rows, add(row0, row), out);
    const [only] = attention.features;
    const vector =
      only !== undefined &&
      attention.features.length === 1 &&
      storeVectorAxis(wide.kernel, there, [only]) !== undefined;
    const features = int(attention.sizes.features);
    if (only === undefined) out.push(...emit(wide.kernel)(there));
    else if (vector) out.push(...vectorLoop(there, only, { from: int(0), to: features }, emit(wide.kernel)));
    else {
      const column = scope.fresh("column");
      const inner: Stmt[] = [];
      const at = bindFlat(there, attention.features, local("i32", column), inner);
      out.push(forLoop(column, features, [...inner, ...emit(wide.kernel)(at)]));
    }
  }
  return [forLoop(name, rowCount, out)];
}
