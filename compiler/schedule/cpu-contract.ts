/**
 * CONTRACT on the CPU: matrix products and convolutions, in the manner of BLIS (Van Zee and van de Geijn 2015).
 *
 * In: a flattened kernel and its contraction record. Out: tasks, each a tile of M rows by some panels of eight columns.
 * For one block of K at a time a task copies its rows of the left factor into scratch memory (where the copy applies
 * guards, strides and any prologue: this is the implicit im2col), and a microkernel of 4 rows by 8 columns multiplies
 * them with panels of the right factor, which constants have in memory already and activations are packed into here.
 * Partial sums stay in scratch; a last pass over the tile computes the epilogue and stores.
 *
 * Four rows by eight columns are eight vector accumulators: with more, V8 spills registers and halves the speed. With one
 * or two rows the right factor is streamed through once and memory sets the pace; the accumulators then go to
 * neighbouring values of K, which hides the latency of additions.
 */
import {
  add,
  binary,
  compare,
  div,
  float,
  fma,
  int,
  load,
  local,
  minimum,
  mul,
  rem,
  sub,
  widen,
} from "../kernel/build.ts";
import type { Expr, LocalArray, Stmt } from "../kernel/ir.ts";
import { loadsOf } from "../loop/access.ts";
import {
  axesOf,
  axis as axisIndex,
  collapse,
  constant,
  equal,
  floorDiv,
  mod,
  scale,
  add as sum,
} from "../loop/affine.ts";
import type { Contraction, Factor } from "../loop/contraction.ts";
import type { Affine, Kernel } from "../loop/loops.ts";
import { emitStores, storeVectorAxis } from "./cpu-map.ts";
import {
  accessOf,
  bindFlat,
  emitScalars,
  loopOver,
  loopsOver,
  named,
  openVector,
  type Scope,
  shareTasks,
  siteOf,
  vectorLoop,
} from "./cpu-nest.ts";

/** Columns of a panel: two vectors. */
export const PANEL = 8;

/** How one contraction is tiled on the CPU. */
export interface CpuPlan {
  /** Rows of the microkernel, and how many neighbouring values of K have accumulators of their own. */
  readonly rows: 1 | 2 | 4;
  readonly ways: 1 | 2 | 4;
  /** Rows of a tile, a multiple of `rows`. */
  readonly tileM: number;
  /** Panels of a tile. */
  readonly tileN: number;
  /** K axes before `chunkAxis` run one value at a time, that axis `chunk` values, those behind it whole. */
  readonly chunkAxis: number;
  readonly chunk: number;
  /** Most values of K in one block. */
  readonly blockK: number;
  /** Whether the right factor lies in panels already. */
  readonly packed: boolean;
}

/** Bytes of scratch memory that a tile of partial sums may take, and most values of K in a block: both from timings. */
const SUMS_BYTES = 98304;
const BLOCK_K = 384;
const TILE_M = 96;
/** Columns whose multiples fall into the same cache sets in neighbouring rows. */
const WIDE = 256;
/** Tasks wanted for each thread, and tiles that are not made smaller for their sake. */
const TASKS_A_THREAD = 8;
const LEAST_N = 16;
const LEAST_M = 32;
/** With one or two rows the right factor is only streamed: long blocks. */
const STREAM_K = 4096;

export const upTo = (value: number, multiple: number): number => Math.ceil(value / multiple) * multiple;

/** Chooses tiles for a contraction on so many threads. */
export function planContraction(kernel: Kernel, c: Contraction, packed: boolean, threads: number): CpuPlan {
  const { m, n, batch } = c.sizes;
  const rows = m === 1 ? 1 : m === 2 ? 2 : 4;
  const ways = rows === 1 ? 4 : rows === 2 ? 2 : 1;
  const most = rows === 4 ? BLOCK_K : STREAM_K;
  const extent = (axis: number): number => kernel.axes[axis]?.size ?? 1;
  let inner = 1;
  let at = c.k.length - 1;
  while (at > 0 && inner * extent(c.k[at] ?? 0) <= most) inner *= extent(c.k[at--] ?? 0);
  const chunkAxis = c.k[Math.max(at, 0)] ?? 0;
  const length = c.k.length === 0 ? 1 : extent(chunkAxis);
  const even = Math.ceil(length / Math.ceil(length / Math.max(1, Math.floor(most / inner))));
  // Where the chunk axis is the innermost one, it is copied in vectors.
  const chunk = inner === 1 ? Math.min(length, upTo(even, 4)) : even;

  const panels = Math.ceil(n / PANEL);
  let tileM = Math.min(TILE_M, upTo(m, rows));
  let tileN = Math.min(panels, Math.max(1, Math.floor(SUMS_BYTES / (tileM * PANEL * 4))));
  // Enough tasks to share evenly: narrower tiles first, which cost a second copy of the left factor's rows, then lower.
  const count = (): number => batch * Math.ceil(m / tileM) * Math.ceil(panels / tileN);
  while (count() < TASKS_A_THREAD * threads) {
    if (tileN > LEAST_N) tileN = Math.ceil(tileN / 2);
    else if (tileM > LEAST_M) tileM = upTo(Math.ceil(tileM / 2), rows);
    else break;
  }
  // Tiles of equal size.
  tileM = upTo(Math.ceil(m / Math.ceil(m / tileM)), rows);
  tileN = Math.ceil(panels / Math.ceil(panels / tileN));
  return { rows, ways, tileM, tileN, chunkAxis, chunk, blockK: chunk * inner, packed };
}

/** Row-major position of axes in their box, as an affine expression. */
export function flatIndex(axes: readonly number[], sizes: readonly number[]): Affine {
  return axes.reduce((flat, axis) => sum(scale(flat, sizes[axis] ?? 1), axisIndex(axis)), constant(0));
}

/**
 * Whether a flat offset is that of panels of eight over the contraction's N and K axes, and so what depends on the
 * batch; undefined if it is not.
 */
export function panelBatchOffset(offset: Affine, c: Contraction, sizes: readonly number[]): Affine | undefined {
  const n = flatIndex(c.n, sizes);
  const k = flatIndex(c.k, sizes);
  if (c.sizes.n < PANEL) return undefined;
  const column =
    c.sizes.n === PANEL ? n : sum(scale(floorDiv(n, PANEL, sizes), PANEL * c.sizes.k), mod(n, PANEL, sizes));
  const panels = collapse(sum(column, scale(k, PANEL)), sizes);
  const rest = sum(offset, scale(panels, -1));
  return axesOf(rest).every((axis) => c.batch.includes(axis)) && equal(sum(rest, panels), offset) ? rest : undefined;
}

/** What copying factors into scratch memory needs to know. */
export interface Packing {
  readonly c: Contraction;
  readonly plan: CpuPlan;
  readonly left: LocalArray;
  readonly right: LocalArray;
}

/** What the parts of the schedule share. */
interface Context extends Packing {
  readonly kernel: Kernel;
  readonly sums: LocalArray;
}

/** Elements between rows in scratch memory: not a power of two, or rows would fall into the same cache sets. */
export const leftStride = (plan: CpuPlan): number => upTo(plan.blockK, 4) + 4;
/** The same for sums, where tiles are wide. */
const sumStride = ({ tileN }: CpuPlan): number => tileN * PANEL + ((tileN * PANEL) % WIDE === 0 ? 16 : 0);

/** Scratch arrays of a plan. */
function contractionLocals(plan: CpuPlan): { left: LocalArray; right: LocalArray; sums: LocalArray } {
  const array = (name: string, size: number): LocalArray => ({ name, size, vec4: false });
  return {
    left: array("left", plan.tileM * leftStride(plan)),
    right: array("right", plan.packed ? 0 : plan.tileN * PANEL * plan.blockK),
    sums: array("sums", plan.tileM * sumStride(plan)),
  };
}

/** Accesses of a scope by their keys. */
export function restrict(scope: Scope, keys: ReadonlySet<string>): Scope {
  return { ...scope, accesses: new Map([...scope.accesses].filter(([key]) => keys.has(key))) };
}

const keysOf = (factor: Factor): Set<string> => new Set(factor.loads.map((index) => `load ${index}`));

/** The product's factor at a place where all its axes are bound, stored through the access `target`. */
function copyFactor(factor: Factor, scope: Scope): readonly Stmt[] {
  const out: Stmt[] = [];
  const site = siteOf(scope, out);
  const leaves = {
    load: (index: number): Expr => site.read(`load ${index}`),
    state: () => float(0),
    axis: site.axis,
    random: site.random,
  };
  const [value] = emitScalars([factor.value], leaves, scope.fresh, out);
  site.write("target", value ?? float(0));
  return out;
}

/** Block of K under way: the chunk axis runs from `from` to `to`; `length` values of K in all. */
export interface Block {
  readonly from: Expr;
  readonly to: Expr;
  readonly length: Expr;
  readonly first: Expr;
}

/** Position within the block: chunk axis and those behind it, row-major; `from` is still to be taken away. */
function withinBlock(
  ctx: Packing,
  sizes: readonly number[],
): { readonly axes: readonly number[]; readonly index: Affine } {
  const { c, plan } = ctx;
  const axes = c.k.slice(c.k.indexOf(plan.chunkAxis));
  return { axes: c.k.length === 0 ? [] : axes, index: c.k.length === 0 ? constant(0) : flatIndex(axes, sizes) };
}

/** Copies the rows of a tile, for one block of K, into scratch memory: [row][K]. */
export function packLeft(ctx: Packing, scope: Scope, row0: Expr, rowCount: Expr, block: Block): readonly Stmt[] {
  const { c, plan, left } = ctx;
  const stride = leftStride(plan);
  const { axes, index } = withinBlock(ctx, scope.sizes);
  const inner = plan.blockK / plan.chunk;
  const row = scope.fresh("row");
  const out: Stmt[] = [];
  const base = named(scope, "to", sub(mul(local("i32", row), int(stride)), mul(block.from, int(inner))), out);
  const target = accessOf(left.name, index, scope.sizes, [], 0, base);
  const own = restrict(scope, keysOf(c.left));
  const withTarget: Scope = { ...own, accesses: new Map([...own.accesses, ["target", target]]) };
  const there = bindFlat(withTarget, c.m, add(row0, local("i32", row)), out);
  out.push(...overBlock(ctx, there, axes, block, (at) => copyFactor(c.left, at)));
  return [{ kind: "for", name: row, from: int(0), to: rowCount, step: 1, body: out }];
}

/** Loops over a block's axes, the last in vectors. */
export function overBlock(
  ctx: { readonly plan: Pick<CpuPlan, "chunk"> },
  scope: Scope,
  axes: readonly number[],
  block: Block,
  body: (at: Scope) => readonly Stmt[],
): readonly Stmt[] {
  const [first, ...others] = axes;
  if (first === undefined) return body(scope);
  const last = others.at(-1);
  if (last === undefined) {
    const aligned = ctx.plan.chunk % 4 === 0 || ctx.plan.chunk >= (scope.sizes[first] ?? 1);
    if (aligned) return vectorLoop(scope, first, block, body);
    return loopOver(scope, first, block.from, block.to, body);
  }
  return loopOver(scope, first, block.from, block.to, (at) =>
    loopsOver(at, others.slice(0, -1), (inner) =>
      vectorLoop(inner, last, { from: int(0), to: int(scope.sizes[last] ?? 1) }, body),
    ),
  );
}

/** Copies panels of the right factor, for one block of K, into scratch memory: [panel][K][8]. Columns beyond N stay. */
export function packRight(ctx: Packing, scope: Scope, panel0: Expr, panelCount: Expr, block: Block): readonly Stmt[] {
  const { c, plan, right } = ctx;
  const { axes, index } = withinBlock(ctx, scope.sizes);
  const panel = scope.fresh("panel");
  const out: Stmt[] = [];
  const column0 = named(scope, "n", mul(add(panel0, local("i32", panel)), int(PANEL)), out);
  const before = add(mul(block.from, int((plan.blockK / plan.chunk) * PANEL)), column0);
  const base = named(scope, "to", sub(mul(local("i32", panel), int(plan.blockK * PANEL)), before), out);
  const place = sum(scale(index, PANEL), flatIndex(c.n, scope.sizes));
  const target = accessOf(right.name, place, scope.sizes, [], 0, base);
  const own = restrict(scope, keysOf(c.right));
  const withTarget: Scope = { ...own, accesses: new Map([...own.accesses, ["target", target]]) };
  const copyColumn = (there: Scope): readonly Stmt[] => {
    const [first, ...others] = axes;
    if (first === undefined) return copyFactor(c.right, there);
    return loopOver(there, first, block.from, block.to, (next) =>
      loopsOver(next, others, (at) => copyFactor(c.right, at)),
    );
  };
  const oneByOne = (count: Expr): readonly Stmt[] => {
    const column = scope.fresh("column");
    const body: Stmt[] = [];
    const there = bindFlat(withTarget, c.n, add(column0, local("i32", column)), body);
    body.push(...copyColumn(there));
    return [{ kind: "for", name: column, from: int(0), to: count, step: 1, body }];
  };
  const [only] = c.n;
  if (c.n.length === 1 && only !== undefined) {
    const whole: Stmt[] = [];
    for (const half of [0, 4]) {
      const there = openVector(withTarget, only, add(column0, int(half)), whole);
      whole.push(...copyColumn(there));
    }
    const fits = compare("le", add(column0, int(PANEL)), int(c.sizes.n));
    out.push({ kind: "if", condition: fits, then: whole, otherwise: oneByOne(sub(int(c.sizes.n), column0)) });
  } else out.push(...oneByOne(minimum(int(PANEL), sub(int(c.sizes.n), column0))));
  return [{ kind: "for", name: panel, from: int(0), to: panelCount, step: 1, body: out }];
}

/** Rows and values of K at a time, and the distances of rows in scratch memory, in elements. */
export interface Microkernel extends Pick<CpuPlan, "rows" | "ways"> {
  readonly leftStride: number;
  readonly sumStride: number;
}

/**
 * The microkernel: `rows` rows by eight columns, not unrolled: V8 moves the loads of a loop's body before its arithmetic,
 * and with two steps of K in a body they no longer fit the registers (21 instead of 31 to 41 GFLOP/s a core).
 *
 *  `a`, `b` and `sums` are variables that hold byte addresses: of the first
 * row's block, of the panel's block, and of the sums, which are added to from the second block of K on.
 */
export function microkernel(
  shape: Microkernel,
  scope: Scope,
  at: { readonly a: Expr; readonly b: Expr; readonly sums: Expr },
  block: Pick<Block, "length" | "first">,
): readonly Stmt[] {
  const { rows, ways } = shape;
  const stride = shape.leftStride;
  const sums = scope.fresh("sums");
  const out: Stmt[] = [{ kind: "let", name: sums, value: at.sums }];
  const acc: string[][][] = [];
  for (let way = 0; way < ways; way++) {
    acc.push([]);
    for (let row = 0; row < rows; row++) {
      const pair = Array.from({ length: 2 }, () => {
        const name = scope.fresh("acc");
        out.push({ kind: "var", name, value: widen(float(0)) });
        return name;
      });
      acc[way]?.push(pair);
    }
  }
  const a = scope.fresh("a");
  const b = scope.fresh("b");
  const end = scope.fresh("end");
  const bytes = PANEL * 4;
  out.push({ kind: "var", name: a, value: at.a });
  /** `depth` values of K; the loop's counter is the address in the panel. */
  const turns = (from: Expr, to: Expr, depth: number): void => {
    const body: Stmt[] = [];
    for (let k = 0; k < depth; k++) {
      const columns = [0, 4].map((half) => named(scope, "b", load("vec4", b, int(k * PANEL + half)), body));
      for (let row = 0; row < rows; row++) {
        const value = named(scope, "a", widen(load("f32", a, int(row * stride + k))), body);
        columns.forEach((column, half) => {
          const name = acc[k]?.[row]?.[half] ?? "";
          body.push({ kind: "assign", name, value: fma(value, column, local("vec4", name)) });
        });
      }
    }
    body.push({ kind: "assign", name: a, value: add(local("i32", a), int(depth * 4)) });
    out.push({ kind: "for", name: b, from, to, step: depth * bytes, body });
  };
  const whole = mul(div(block.length, ways), int(ways * bytes));
  const middle = named(scope, "middle", add(at.b, whole), out);
  turns(at.b, middle, ways);
  const rest = rem(block.length, ways);
  if (rest.kind !== "const" || rest.value !== 0) {
    out.push({ kind: "let", name: end, value: add(at.b, mul(block.length, int(bytes))) });
    turns(middle, local("i32", end), 1);
  }
  const each = (write: (place: Expr, total: Expr) => Stmt): Stmt[] => {
    const statements: Stmt[] = [];
    for (let row = 0; row < rows; row++) {
      for (const half of [0, 1]) {
        const total = acc
          .map((way) => local("vec4", way[row]?.[half] ?? ""))
          .reduce((left, right) => binary("add", left, right));
        statements.push(write(int(row * shape.sumStride + half * 4), total));
      }
    }
    return statements;
  };
  const set = each((index, value) => ({ kind: "store", to: sums, index, value }));
  const accumulate = each((index, value) => ({
    kind: "store",
    to: sums,
    index,
    value: binary("add", load("vec4", sums, index), value),
  }));
  if (block.first.kind === "const") out.push(...set);
  else out.push({ kind: "if", condition: block.first, then: set, otherwise: accumulate });
  return out;
}

export const address = (array: LocalArray, element: Expr): Expr => add(local("i32", array.name), mul(element, int(4)));

/** All blocks of K: `body` at each, with the K axes before the chunk axis bound. */
function overBlocks(ctx: Context, scope: Scope, body: (at: Scope, block: Block) => readonly Stmt[]): readonly Stmt[] {
  const { c, plan } = ctx;
  const outer = c.k.slice(0, Math.max(0, c.k.indexOf(plan.chunkAxis)));
  const size = c.k.length === 0 ? 1 : (scope.sizes[plan.chunkAxis] ?? 1);
  const inner = plan.blockK / plan.chunk;
  return loopsOver(scope, outer, (at) => {
    const isFirst = (from: Expr): Expr =>
      outer.reduce<Expr>(
        (all, axis) => {
          const here = compare("eq", at.bound.get(axis) ?? int(0), int(0));
          return all.kind === "const" ? here : { kind: "logic", type: "bool", op: "and", left: all, right: here };
        },
        compare("eq", from, int(0)),
      );
    if (plan.chunk >= size) {
      const block = { from: int(0), to: int(size), length: int(size * inner), first: isFirst(int(0)) };
      return body(at, block);
    }
    const name = scope.fresh("k");
    const from = local("i32", name);
    const out: Stmt[] = [];
    const to = named(scope, "to", minimum(add(from, int(plan.chunk)), int(size)), out);
    const even = size % plan.chunk === 0;
    const length = even ? int(plan.blockK) : named(scope, "length", mul(sub(to, from), int(inner)), out);
    const first = named(scope, "first", isFirst(from), out);
    out.push(...body(at, { from, to, length, first }));
    return [{ kind: "for", name, from: int(0), to: int(size), step: plan.chunk, body: out }];
  });
}

/** The pass over a finished tile: epilogue and stores. */
function finish(
  ctx: Context,
  scope: Scope,
  row0: Expr,
  rowCount: Expr,
  column0: Expr,
  columnEnd: Expr,
): readonly Stmt[] {
  const { kernel, c, plan } = ctx;
  const factors = new Set([...keysOf(c.left), ...keysOf(c.right)]);
  // What the epilogue reads too, such as the counters of a draw, lies at output axes only.
  for (const index of loadsOf(...kernel.stores.map((store) => store.value))) factors.delete(`load ${index}`);
  const results = { ...scope, accesses: new Map([...scope.accesses].filter(([key]) => !factors.has(key))) };
  const row = scope.fresh("row");
  const out: Stmt[] = [];
  const base = named(scope, "from", sub(mul(local("i32", row), int(sumStride(plan))), column0), out);
  const place = accessOf(ctx.sums.name, flatIndex(c.n, scope.sizes), scope.sizes, [], 0, base);
  const withSums: Scope = { ...results, accesses: new Map([...results.accesses, ["sums", place]]) };
  const there = bindFlat(withSums, c.m, add(row0, local("i32", row)), out);
  const compute = (at: Scope): readonly Stmt[] => {
    const statements: Stmt[] = [];
    const total = siteOf(at, statements).read("sums");
    return [...statements, ...emitStores(kernel, at, () => total)];
  };
  const [only] = c.n;
  if (only === undefined) out.push(...compute(there));
  else if (c.n.length === 1 && storesAlong(kernel, there, only)) {
    out.push(...vectorLoop(there, only, { from: column0, to: columnEnd }, compute));
  } else {
    const column = scope.fresh("column");
    const body: Stmt[] = [];
    const at = bindFlat(there, c.n, local("i32", column), body);
    out.push({ kind: "for", name: column, from: column0, to: columnEnd, step: 1, body: [...body, ...compute(at)] });
  }
  return [{ kind: "for", name: row, from: int(0), to: rowCount, step: 1, body: out }];
}

const storesAlong = (kernel: Kernel, scope: Scope, axis: number): boolean =>
  storeVectorAxis(kernel, scope, [axis]) !== undefined;

/**
 * The whole schedule.
 * @param panels Batch part of the right factor's offset, if it lies in panels of eight already
 */
export function scheduleContraction(
  kernel: Kernel,
  scope: Scope,
  c: Contraction,
  plan: CpuPlan,
  panels: { readonly name: string; readonly batchOffset: Affine } | undefined,
): { readonly body: readonly Stmt[]; readonly locals: readonly LocalArray[] } {
  const arrays = contractionLocals(plan);
  const ctx: Context = { kernel, c, plan, ...arrays };
  const panelCount = Math.ceil(c.sizes.n / PANEL);
  const tilesM = Math.ceil(c.sizes.m / plan.tileM);
  const tilesN = Math.ceil(panelCount / plan.tileN);
  const withPanels: Scope =
    panels === undefined
      ? scope
      : {
          ...scope,
          accesses: new Map([...scope.accesses, ["panels", accessOf(panels.name, panels.batchOffset, scope.sizes)]]),
        };

  const body = shareTasks(scope.fresh, c.sizes.batch * tilesM * tilesN, (task) => {
    const out: Stmt[] = [];
    // Tiles of one column block follow each other, so that its panels stay in the cache.
    const row0 = named(scope, "m", mul(rem(task, tilesM), int(plan.tileM)), out);
    const rowCount = named(scope, "rows", minimum(int(plan.tileM), sub(int(c.sizes.m), row0)), out);
    const rest = named(scope, "q", div(task, tilesM), out);
    const panel0 = named(scope, "p", mul(rem(rest, tilesN), int(plan.tileN)), out);
    const count = named(scope, "panels", minimum(int(plan.tileN), sub(int(panelCount), panel0)), out);
    const column0 = named(scope, "n", mul(panel0, int(PANEL)), out);
    const columnEnd = named(scope, "end", minimum(add(column0, int(plan.tileN * PANEL)), int(c.sizes.n)), out);
    const batch = named(scope, "q", div(rest, tilesN), out);
    const there = bindFlat(withPanels, c.batch, batch, out);
    const panelBase = there.accesses.get("panels")?.address.base ?? int(0);

    out.push(
      ...overBlocks(ctx, there, (at, block) => {
        const statements: Stmt[] = [];
        const inner = plan.blockK / plan.chunk;
        // Where the block starts in a packed panel, in values of K.
        const k0 = c.k
          .slice(0, Math.max(0, c.k.indexOf(plan.chunkAxis)))
          .reduce((flat, axis) => add(mul(flat, int(scope.sizes[axis] ?? 1)), at.bound.get(axis) ?? int(0)), int(0));
        const extent = c.k.length === 0 ? 1 : (scope.sizes[plan.chunkAxis] ?? 1);
        const start = named(scope, "k0", mul(add(mul(k0, int(extent)), block.from), int(inner)), statements);
        statements.push(...packLeft(ctx, at, row0, rowCount, block));
        if (panels === undefined) statements.push(...packRight(ctx, at, panel0, count, block));
        const panel = scope.fresh("panel");
        const each: Stmt[] = [];
        const b =
          panels === undefined
            ? address(arrays.right, mul(local("i32", panel), int(plan.blockK * PANEL)))
            : add(
                local("i32", panels.name),
                mul(
                  add(
                    add(mul(add(panel0, local("i32", panel)), int(c.sizes.k * PANEL)), mul(start, int(PANEL))),
                    panelBase,
                  ),
                  int(4),
                ),
              );
        const bAt = named(scope, "b", b, each);
        const row = scope.fresh("row");
        const r = local("i32", row);
        each.push({
          kind: "for",
          name: row,
          from: int(0),
          to: rowCount,
          step: plan.rows,
          body: microkernel(
            { ...plan, leftStride: leftStride(plan), sumStride: sumStride(plan) },
            at,
            {
              a: address(arrays.left, mul(r, int(leftStride(plan)))),
              b: bAt,
              sums: address(arrays.sums, add(mul(r, int(sumStride(plan))), mul(local("i32", panel), int(PANEL)))),
            },
            block,
          ),
        });
        statements.push({ kind: "for", name: panel, from: int(0), to: count, step: 1, body: each });
        return statements;
      }),
      ...finish(ctx, there, row0, rowCount, column0, columnEnd),
    );
    return out;
  });
  return { body, locals: [arrays.left, arrays.right, arrays.sums].filter((array) => array.size > 0) };
}
