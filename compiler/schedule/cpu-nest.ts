/**
 * Loop nests for the CPU.
 *
 * All CPU schedules emit nests in the same way: axes are bound one after another, from the outside in, to i32
 * expressions, and with each axis whatever part of the addresses and guards it completes is computed there and then, so
 * that inner loops only add. The innermost axis may run in vectors of four with a scalar tail. This file holds that
 * machinery: accesses with their half-computed addresses, scalar expressions to L3, vector loops, and how work is split
 * over threads.
 */
import {
  add,
  and,
  binary,
  builtin,
  choose,
  compare,
  div,
  float,
  int,
  lanes,
  load,
  local,
  minimum,
  mul,
  random,
  rem,
  sub,
  toFloat,
  unary,
  when,
  widen,
} from "../kernel/build.ts";
import type { Expr, Stmt } from "../kernel/ir.ts";
import { axesOf, bounds, key, strideOf, wrapped } from "../loop/affine.ts";
import type { Affine, Atom, Guard } from "../loop/loops.ts";
import { type Counters, type Draw, foldScalars, type Leaves, type Scalar } from "../scalar.ts";

/** An affine expression of which the terms over bound axes are already in `base`. */
interface Partial {
  readonly base: Expr;
  readonly rest: Affine;
}

interface PartialGuard {
  readonly index: Partial;
  readonly size: number;
}

/** A load or store in the course of emission. */
export interface Access {
  /** Argument, local array or address variable. */
  readonly name: string;
  readonly address: Partial;
  /** Not yet fully bound. */
  readonly guards: readonly PartialGuard[];
  /** Conjunction of the guards that are bound. */
  readonly condition: Expr | undefined;
  /** Value of a load where a guard fails. */
  readonly otherwise: number;
  /** Elements behind the address: accesses that differ in nothing else share its arithmetic. */
  readonly shift: number;
  /** Within a vector: lanes are neighbours in memory, or have accesses of their own; undefined: one for all lanes. */
  readonly lanes?: "next" | "apart";
}

/** What is known at one place in a nest. */
export interface Scope {
  readonly fresh: (prefix: string) => string;
  /** Extents of the axes. */
  readonly sizes: readonly number[];
  readonly bound: ReadonlyMap<number, Expr>;
  /** The axis that runs in vectors of four here. */
  readonly vector: number | undefined;
  /** By any key a schedule likes: `load 0`, `store 1`. */
  readonly accesses: ReadonlyMap<string, Access>;
}

/** Names for locals, distinct within one kernel. */
export function freshNames(): (prefix: string) => string {
  let count = 0;
  return (prefix) => `${prefix}_${count++}`;
}

/** An access at a flat element offset; `base` is added to it. Guards that always hold are dropped. */
export function accessOf(
  name: string,
  offset: Affine,
  sizes: readonly number[],
  guards: readonly Guard[] = [],
  otherwise = 0,
  base: Expr = int(0),
): Access {
  const needed = guards.filter(({ index, size }) => {
    const { min, max } = bounds(index, sizes);
    return min < 0 || max >= size;
  });
  const rest = { terms: offset.terms, constant: 0 };
  // Only what is never below 0 can stand in front of a shift, which is added without wrapping around.
  const shifts = offset.constant > 0 && base.kind === "const" && base.value >= 0 && bounds(rest, sizes).min >= 0;
  return {
    name,
    address: { base: shifts ? base : add(base, int(offset.constant)), rest },
    shift: shifts ? offset.constant : 0,
    guards: needed.map(({ index, size }) => ({
      index: { base: int(index.constant), rest: { terms: index.terms, constant: 0 } },
      size,
    })),
    condition: undefined,
    otherwise,
  };
}

// ------------------------------------------------------------------------------------------------------------- binding

function affineExpr(e: Affine, bound: ReadonlyMap<number, Expr>): Expr {
  return e.terms.reduce(
    (sum, { coefficient, atom }) => add(sum, mul(atomExpr(atom, bound), int(coefficient))),
    int(e.constant),
  );
}

function atomExpr(atom: Atom, bound: ReadonlyMap<number, Expr>): Expr {
  if (atom.kind === "axis") {
    const value = bound.get(atom.axis);
    if (value === undefined) throw new Error(`internal: axis ${atom.axis} is not bound`);
    return value;
  }
  const of = affineExpr(atom.of, bound);
  return atom.kind === "div" ? div(of, atom.by) : rem(of, atom.by);
}

function atomAxes(atom: Atom): readonly number[] {
  return atom.kind === "axis" ? [atom.axis] : axesOf(atom.of);
}

const isSimple = (e: Expr): boolean => e.kind === "const" || e.kind === "var";

/** Gives an expression a name, unless it has one. */
export function named(scope: Pick<Scope, "fresh">, prefix: string, value: Expr, out: Stmt[]): Expr {
  if (isSimple(value)) return value;
  const name = scope.fresh(prefix);
  out.push({ kind: "let", name, value });
  return local(value.type, name);
}

/**
 * Binds axes to values. What becomes computable is computed into `out`.
 */
function bindAxes(scope: Scope, values: ReadonlyMap<number, Expr>, out: Stmt[]): Scope {
  const bound = new Map([...scope.bound, ...values]);
  const made = new Map<string, Expr>();
  const advance = (partial: Partial, prefix: string): Partial => {
    const ready = partial.rest.terms.filter(({ atom }) => atomAxes(atom).every((axis) => bound.has(axis)));
    if (ready.length === 0) return partial;
    const rest = { terms: partial.rest.terms.filter((term) => !ready.includes(term)), constant: 0 };
    const now = { terms: ready, constant: 0 };
    const same = isSimple(partial.base) ? `${key(now)} ${JSON.stringify(partial.base)}` : undefined;
    const known = same === undefined ? undefined : made.get(same);
    const base = known ?? named(scope, prefix, add(affineExpr(now, bound), partial.base), out);
    if (same !== undefined) made.set(same, base);
    return { base, rest };
  };
  const accesses = new Map<string, Access>();
  for (const [key, access] of scope.accesses) {
    const address = advance(access.address, "at");
    const guards: PartialGuard[] = [];
    let condition = access.condition;
    for (const guard of access.guards) {
      const index = advance(guard.index, "in");
      if (index.rest.terms.length > 0) {
        guards.push({ index, size: guard.size });
        continue;
      }
      const holds = and(compare("le", int(0), index.base), compare("lt", index.base, int(guard.size)));
      condition = condition === undefined ? holds : and(condition, holds);
    }
    if (condition !== undefined && condition !== access.condition) condition = named(scope, "ok", condition, out);
    accesses.set(key, { ...access, address, guards, condition });
  }
  return { ...scope, bound, accesses };
}

function bindAxis(scope: Scope, axis: number, value: Expr, out: Stmt[]): Scope {
  return bindAxes(scope, new Map([[axis, value]]), out);
}

/** Binds `axes` to the coordinates of the row-major position `flat` in their box. */
export function bindFlat(scope: Scope, axes: readonly number[], flat: Expr, out: Stmt[]): Scope {
  const values = new Map<number, Expr>();
  let rest = flat;
  for (let i = axes.length - 1; i >= 0; i--) {
    const axis = axes[i] ?? 0;
    const size = scope.sizes[axis] ?? 1;
    values.set(axis, named(scope, "i", i === 0 ? rest : rem(rest, size), out));
    if (i > 0) rest = named(scope, "q", div(rest, size), out);
  }
  return bindAxes(scope, values, out);
}

/** `for` over an axis from `from` to `to`; a loop that runs once is none. */
export function loopOver(
  scope: Scope,
  axis: number,
  from: Expr,
  to: Expr,
  body: (inner: Scope) => readonly Stmt[],
): readonly Stmt[] {
  if (from.kind === "const" && to.kind === "const" && to.value === from.value + 1) {
    const out: Stmt[] = [];
    const inner = bindAxis(scope, axis, from, out);
    return [...out, ...body(inner)];
  }
  const name = scope.fresh("x");
  const out: Stmt[] = [];
  const inner = bindAxis(scope, axis, local("i32", name), out);
  out.push(...body(inner));
  return [{ kind: "for", name, from, to, step: 1, body: out }];
}

/** Nested full loops over `axes`. */
export function loopsOver(
  scope: Scope,
  axes: readonly number[],
  body: (inner: Scope) => readonly Stmt[],
): readonly Stmt[] {
  const [axis, ...others] = axes;
  if (axis === undefined) return body(scope);
  return loopOver(scope, axis, int(0), int(scope.sizes[axis] ?? 1), (inner) => loopsOver(inner, others, body));
}

// ------------------------------------------------------------------------------------------------------------- vectors

/** The innermost place of a nest, where values are read, computed and written: scalars, or vectors of four points. */
export interface Site {
  readonly type: "f32" | "vec4";
  readonly read: (key: string) => Expr;
  readonly axis: (axis: number) => Expr;
  readonly random: (draw: Draw, counters: Counters<Expr>) => Expr;
  readonly write: (key: string, value: Expr) => void;
}

function accessIn(scope: Scope, key: string): Access {
  const access = scope.accesses.get(key);
  if (access === undefined) throw new Error(`internal: no access ${key}`);
  return access;
}

/** Whether an access moves by one element along `axis`, with guards that do not mention it. */
export function isContiguous(access: Access, axis: number): boolean {
  return (
    strideOf(access.address.rest, axis) === 1 && access.guards.every(({ index }) => !axesOf(index.rest).includes(axis))
  );
}

/** Whether an access depends on an axis that is not bound yet. */
function depends(access: Access, axis: number): boolean {
  return [access.address.rest, ...access.guards.map(({ index }) => index.rest)].some((e) => axesOf(e).includes(axis));
}

/**
 * Binds `axis` to the four values from `first` on. From here inwards an access that does not depend on the axis is read
 * once for all lanes, a contiguous one as a vector, and any other lane by lane.
 */
export function openVector(scope: Scope, axis: number, first: Expr, out: Stmt[]): Scope {
  const together = new Map<string, Access>();
  const apart = new Map<string, Access>();
  for (const [key, access] of scope.accesses) {
    if (!depends(access, axis)) together.set(key, access);
    else if (isContiguous(access, axis)) together.set(key, { ...access, lanes: "next" });
    else apart.set(key, access);
  }
  const inner = bindAxis({ ...scope, vector: axis, accesses: together }, axis, first, out);
  const accesses = new Map(inner.accesses);
  for (const lane of [0, 1, 2, 3]) {
    const there = bindAxis({ ...scope, accesses: apart }, axis, add(first, int(lane)), out);
    for (const [key, access] of there.accesses) {
      accesses.set(`${key}#${lane}`, access);
      if (lane === 0) accesses.set(key, { ...access, lanes: "apart" });
    }
  }
  return { ...inner, accesses };
}

/** Reads and writes at a place where every axis is bound; statements go to `out`. */
export function siteOf(scope: Scope, out: Stmt[]): Site {
  const type = scope.vector === undefined ? "f32" : "vec4";
  // A sum with a constant is one with a shift: any other may have a part below 0.
  const indexOf = ({ address, shift }: Access): Expr =>
    add(shift > 0 || address.base.kind !== "int" ? address.base : named(scope, "at", address.base, out), int(shift));
  const readAs = (access: Access, as: "f32" | "vec4"): Expr => {
    if (access.address.rest.terms.length > 0) throw new Error(`internal: an address into ${access.name} is not bound`);
    const value = load(as, access.name, indexOf(access));
    if (access.condition === undefined) return named(scope, "v", value, out);
    const otherwise = as === "vec4" ? widen(float(access.otherwise)) : float(access.otherwise);
    if (access.condition.kind === "const") {
      return access.condition.value === 1 ? named(scope, "v", value, out) : otherwise;
    }
    const name = scope.fresh("v");
    out.push({ kind: "var", name, value: otherwise });
    out.push(...when(access.condition, [{ kind: "assign", name, value }]));
    return local(as, name);
  };
  return {
    type,
    read: (key) => {
      const access = accessIn(scope, key);
      if (access.lanes !== "apart") return readAs(access, access.lanes === "next" ? "vec4" : "f32");
      return named(
        scope,
        "v",
        lanes((lane) => readAs(accessIn(scope, `${key}#${lane}`), "f32")),
        out,
      );
    },
    axis: (axis) => {
      const value = toFloat(atomExpr({ kind: "axis", axis }, scope.bound));
      if (axis !== scope.vector) return value;
      return named(
        scope,
        "f",
        binary(
          "add",
          widen(value),
          lanes((lane) => float(lane)),
        ),
        out,
      );
    },
    random: (draw, counters) => drawIn(scope, draw, counters),
    write: (key, value) => {
      const access = accessIn(scope, key);
      if (type === "vec4" && access.lanes !== "next") throw new Error(`internal: lanes of ${access.name} lie apart`);
      const stored = type === "vec4" ? widen(value) : value;
      const statement: Stmt = { kind: "store", to: access.name, index: indexOf(access), value: stored };
      out.push(...(access.condition === undefined ? [statement] : when(access.condition, [statement])));
    },
  };
}

/** A draw where every axis is bound: four in a vector, unless its lanes share one element. */
function drawIn({ bound, vector }: Scope, draw: Draw, counters: Counters<Expr>): Expr {
  const element = wrapped(draw.element);
  const at = (where: ReadonlyMap<number, Expr>, stride: number): Expr =>
    random(draw.key, affineExpr(element, where), stride, counters);
  if (vector === undefined) return at(bound, 0);
  const stride = strideOf(element, vector);
  if (stride !== undefined) return at(bound, stride);
  const first = atomExpr({ kind: "axis", axis: vector }, bound);
  return lanes((l) => at(new Map(bound).set(vector, add(first, int(l))), 0));
}

/** For leaves of reducers, which draw nothing. */
export function noDraw(): Expr {
  throw new Error("internal: a reducer draws random numbers");
}

/** Part of an axis, `from` a multiple of four. */
export interface Range {
  readonly from: Expr;
  readonly to: Expr;
}

/**
 * Runs `body` over part of `axis`: in vectors of four, then one by one.
 * Where a single condition over outer axes guards the loads, it is tested once, outside of the loops; where there are
 * several, all together are, so that places where all of them hold go without.
 */
export function vectorLoop(
  scope: Scope,
  axis: number,
  range: Range,
  body: (inner: Scope) => readonly Stmt[],
): readonly Stmt[] {
  const conditions = conditionsAlong(scope, axis);
  const all = conditions.reduce<Expr | undefined>(
    (both, one) => (both === undefined ? one : and(both, one)),
    undefined,
  );
  if (all !== undefined) {
    const known = (value: 0 | 1): Scope => ({
      ...scope,
      accesses: new Map(
        [...scope.accesses].map(([at, access]) => [
          at,
          access.condition === undefined ? access : { ...access, condition: { kind: "const", type: "bool", value } },
        ]),
      ),
    });
    const otherwise = conditions.length === 1 ? known(0) : scope;
    return [
      {
        kind: "if",
        condition: all,
        then: plainLoop(known(1), axis, range, body),
        otherwise: plainLoop(otherwise, axis, range, body),
      },
    ];
  }
  return plainLoop(scope, axis, range, body);
}

/** A loop in vectors and its rest, conditions tested where they are. */
function plainLoop(scope: Scope, axis: number, range: Range, body: (inner: Scope) => readonly Stmt[]): readonly Stmt[] {
  const size = scope.sizes[axis] ?? 1;
  const whole = size - (size % 4);
  const statements: Stmt[] = [];
  const run = (from: Expr, to: Expr, step: 1 | 4): void => {
    if (from.kind === "const" && to.kind === "const" && from.value >= to.value) return;
    const name = scope.fresh("x");
    const out: Stmt[] = [];
    const at = local("i32", name);
    const inner = step === 4 ? openVector(scope, axis, at, out) : bindAxis(scope, axis, at, out);
    out.push(...body(inner));
    statements.push({ kind: "for", name, from, to, step, body: out });
  };
  const most = size % 4 === 0 ? range.to : minimum(range.to, int(whole));
  if (whole > 0) run(range.from, most, 4);
  if (size % 4 !== 0) run(whole === 0 ? range.from : maximum(range.from, int(whole)), range.to, 1);
  return statements;
}

function maximum(left: Expr, right: Expr): Expr {
  if (left.kind === "const" && right.kind === "const") return int(Math.max(left.value, right.value));
  return { kind: "int", type: "i32", op: "max", left, right };
}

/** The conditions that guard accesses here, if none of them changes along `axis`. */
function conditionsAlong(scope: Scope, axis: number): readonly Expr[] {
  const conditions = new Set<Expr>();
  for (const { condition, guards } of scope.accesses.values()) {
    if (guards.some(({ index }) => axesOf(index.rest).includes(axis))) return [];
    if (condition !== undefined && condition.kind !== "const") conditions.add(condition);
  }
  return [...conditions];
}

// ------------------------------------------------------------------------------------------------------------- scalars

/** Several scalars as L3; operations get names so that sharing survives. */
export function emitScalars(
  scalars: readonly Scalar[],
  leaves: Leaves<Expr>,
  fresh: (prefix: string) => string,
  out: Stmt[],
): readonly Expr[] {
  const algebra = { ...leaves, constant: float, unary, binary, select: choose };
  return foldScalars<Expr>(scalars, algebra, (s, value) =>
    s.kind === "const" ? value : named({ fresh }, "s", value, out),
  );
}

// ------------------------------------------------------------------------------------------------------------- threads

/**
 * This thread's share of `count` tasks: a loop over a contiguous range of them.
 */
export function shareTasks(
  fresh: (prefix: string) => string,
  count: number,
  body: (task: Expr) => readonly Stmt[],
): readonly Stmt[] {
  if (count === 1) return when(compare("eq", builtin("thread"), int(0)), body(int(0)));
  const out: Stmt[] = [];
  const quotient: Expr = { kind: "int", type: "i32", op: "div", left: int(count), right: builtin("threads") };
  const each = named({ fresh }, "each", quotient, out);
  const rest = named({ fresh }, "rest", sub(int(count), mul(each, builtin("threads"))), out);
  // The first `rest` threads have one more.
  const edge = (thread: Expr): Expr => add(mul(thread, each), minimum(thread, rest));
  const name = fresh("task");
  const next = named({ fresh }, "next", add(builtin("thread"), int(1)), out);
  return [
    ...out,
    {
      kind: "for",
      name,
      from: edge(builtin("thread")),
      to: edge(next),
      step: 1,
      body: body(local("i32", name)),
    },
  ];
}

/**
 * How a box of output points is cut into tasks: leading axes whose positions are the tasks, the others run inside, and
 * where there are too few positions, blocks of the vector axis.
 */
export interface Split {
  readonly outer: readonly number[];
  readonly inner: readonly number[];
  readonly vector: number | undefined;
  /** Length of a block of the vector axis, a multiple of four. */
  readonly block: number;
  readonly tasks: number;
}

/** Enough tasks to share evenly, few enough that decoding a task's number costs nothing. */
const TASKS = 64;
/** A block of the vector axis that is worth a task. */
const MIN_BLOCK = 256;

export function splitAxes(sizes: readonly number[], axes: readonly number[], vector: number | undefined): Split {
  const others = axes.filter((axis) => axis !== vector);
  let positions = 1;
  let taken = 0;
  while (taken < others.length && positions < TASKS) positions *= sizes[others[taken++] ?? 0] ?? 1;
  const length = vector === undefined ? 1 : (sizes[vector] ?? 1);
  let block = Math.ceil(length / 4) * 4;
  if (positions < TASKS) {
    const wanted = Math.min(Math.ceil(TASKS / positions), Math.floor(length / MIN_BLOCK));
    if (wanted > 1) block = Math.ceil(length / wanted / 4) * 4;
  }
  const blocks = Math.ceil(length / block);
  return { outer: others.slice(0, taken), inner: others.slice(taken), vector, block, tasks: positions * blocks };
}

/** Runs `body` at every position of the split's axes but the vector one, with this task's part of that axis. */
export function overSplit(
  scope: Scope,
  split: Split,
  body: (inner: Scope, range: Range) => readonly Stmt[],
): readonly Stmt[] {
  const length = split.vector === undefined ? 1 : (scope.sizes[split.vector] ?? 1);
  const blocks = Math.ceil(length / split.block);
  return shareTasks(scope.fresh, split.tasks, (task) => {
    const out: Stmt[] = [];
    let range: Range = { from: int(0), to: int(length) };
    if (blocks > 1) {
      const from = named(scope, "from", mul(rem(task, blocks), int(split.block)), out);
      range = { from, to: named(scope, "to", minimum(add(from, int(split.block)), int(length)), out) };
    }
    const position = blocks > 1 ? named(scope, "q", div(task, blocks), out) : task;
    const there = bindFlat(scope, split.outer, position, out);
    return [...out, ...loopsOver(there, split.inner, (inner) => body(inner, range))];
  });
}
