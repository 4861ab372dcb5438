/**
 * What every GPU schedule emits: index arithmetic, guarded loads and stores, scalar expressions.
 *
 * A schedule decides which invocation stands where (`Point`); the functions here turn the loads, scalars and stores of a
 * flat kernel at that point into L3. A point is a single element or four lanes along one axis; lanes become vec4 loads
 * where addresses allow it and four scalar loads where they do not, so that schedules need not tell these cases apart.
 */
import {
  add,
  alwaysTrue,
  and,
  binary,
  choose,
  compare,
  div,
  float,
  int,
  lane,
  lanes,
  load,
  local,
  mul,
  random,
  rem,
  select,
  sub,
  TRUE,
  toFloat,
  unary,
  when,
  widen,
} from "../kernel/build.ts";
import type { Argument, Expr, Stmt } from "../kernel/ir.ts";
import { identifier } from "../kernel/wgsl.ts";
import { axisSizes, isInPlace } from "../loop/access.ts";
import { axesOf, bounds, key, strideOf, wrapped } from "../loop/affine.ts";
import type { Affine, Guard, Load, Store } from "../loop/loops.ts";
import { type Counters, type Draw, foldScalars, type Leaves, operands, type Scalar, visitScalar } from "../scalar.ts";
import { addressOf, type Flat, laneAccess } from "./flat.ts";

/** A kernel being written: its names and how its buffers are used. */
export interface Writer {
  readonly flat: Flat;
  readonly sizes: readonly number[];
  /** How often each name was asked for. */
  readonly names: Map<string, number>;
  /** Indices that a block has declared, by their text. */
  readonly declared: WeakMap<Stmt[], Map<string, Expr>>;
  /** Buffers in binding order and their names. */
  readonly args: ReadonlyMap<number, string>;
  readonly written: ReadonlySet<number>;
  /** Buffers that the text mentions; the others are not bound. */
  readonly used: Set<number>;
  /** Buffers that are read or written four elements at a time. */
  readonly wide: Set<number>;
}

/** Where an expression is evaluated. */
export interface Point {
  /** By axis number; axes that are not mentioned may be undefined. */
  readonly coords: readonly (Expr | undefined)[];
  /** The axis along which four lanes lie; its coordinate is lane 0's, a multiple of four. */
  readonly lanes?: number;
  /** Where it does not hold, loads give their `otherwise`. */
  readonly valid: Expr;
  /** Sums computed before, by the key of the whole expression. */
  readonly hoisted?: ReadonlyMap<string, Hoisted>;
  /** Whether a load's guards hold, where that has been computed before. */
  readonly conditions?: ReadonlyMap<Load, Expr>;
}

/** An affine expression of which a part has been computed: value + rest. */
interface Hoisted {
  readonly value: Expr;
  readonly rest: Affine;
}

/** A writer for a flat kernel that writes the given buffers. */
export function writerFor(flat: Flat, stores: readonly number[]): Writer {
  const { kernel, buffers } = flat;
  const names = new Map<string, number>();
  const args = new Map<number, string>();
  const written = new Set(stores);
  for (const id of [...kernel.loads.map((l) => l.buffer), ...written]) {
    if (!args.has(id)) args.set(id, freshName(names, identifier(buffers[id]?.name ?? `buffer${id}`)));
  }
  if (kernel.loads.some((l) => written.has(l.buffer) && !isInPlace(kernel, l.buffer)))
    throw new Error(`internal: ${kernel.name} reads what another point of it writes`);
  return {
    flat,
    sizes: axisSizes(kernel),
    names,
    declared: new WeakMap(),
    args,
    written,
    used: new Set(),
    wide: new Set(),
  };
}

/** The arguments in binding order, once everything has been emitted. */
export function argumentsOf(w: Writer): readonly Argument[] {
  return boundBy(w).map((id) => ({
    name: argumentName(w, id),
    access: w.written.has(id) ? "read_write" : "read",
    size: w.flat.buffers[id]?.shape[0] ?? 0,
    vec4: w.wide.has(id),
    ...(w.flat.buffers[id]?.dtype === "f16" ? { half: true } : {}),
  }));
}

/** The buffers behind the arguments, in binding order. */
export function boundBy(w: Writer): readonly number[] {
  return [...w.args.keys()].filter((id) => w.used.has(id));
}

export function argumentName(w: Writer, buffer: number): string {
  const name = w.args.get(buffer);
  if (name === undefined) throw new Error(`internal: buffer ${buffer} is no argument`);
  w.used.add(buffer);
  return name;
}

function freshName(names: Map<string, number>, hint: string): string {
  const count = names.get(hint) ?? 0;
  names.set(hint, count + 1);
  return count === 0 ? hint : freshName(names, `${hint}_${count}`);
}

/** A name that nothing in this kernel has. */
export function fresh(w: Writer, hint: string): string {
  return freshName(w.names, identifier(hint));
}

/** Declares an immutable local; constants and names stay as they are, and equal indices are declared once a block. */
export function bind(w: Writer, hint: string, value: Expr, out: Stmt[]): Expr {
  if (value.kind === "const" || value.kind === "var") return value;
  // Nothing of type i32 or bool ever changes, so an equal one further up in the block will do.
  const stable = value.type === "i32" || value.type === "bool";
  const text = stable ? JSON.stringify(value) : "";
  const known = w.declared.get(out) ?? new Map<string, Expr>();
  w.declared.set(out, known);
  const before = stable ? known.get(text) : undefined;
  if (before !== undefined) return before;
  const name = fresh(w, hint);
  out.push({ kind: "let", name, value });
  const result = local(value.type, name);
  if (stable) known.set(text, result);
  return result;
}

// ------------------------------------------------------------------------------------------------------------- indices

/** An affine expression at a point. Division rounds down, also where the dividend may be negative. */
function lower(w: Writer, e: Affine, point: Point): Expr {
  const known = point.hoisted?.get(key(e));
  return known === undefined ? lowerAll(w, e, point) : add(known.value, lowerAll(w, known.rest, point));
}

function lowerAll(w: Writer, e: Affine, point: Point): Expr {
  const terms = [...e.terms].sort((a, b) => Number(a.coefficient < 0) - Number(b.coefficient < 0));
  let sum: Expr = int(0);
  for (const { coefficient, atom } of terms) {
    const value = lowerAtom(w, atom, point);
    sum = coefficient < 0 ? sub(sum, mul(value, int(-coefficient))) : add(sum, mul(value, int(coefficient)));
  }
  return add(sum, int(e.constant));
}

function lowerAtom(w: Writer, atom: Affine["terms"][number]["atom"], point: Point): Expr {
  if (atom.kind === "axis") {
    const at = point.coords[atom.axis];
    if (at === undefined) throw new Error(`internal: ${w.flat.kernel.name}: axis ${atom.axis} has no coordinate here`);
    return at;
  }
  const { min } = bounds(atom.of, w.sizes);
  const shift = min < 0 ? Math.ceil(-min / atom.by) : 0;
  const dividend = add(lowerAll(w, atom.of, point), int(shift * atom.by));
  return atom.kind === "div" ? sub(div(dividend, atom.by), int(shift)) : rem(dividend, atom.by);
}

/**
 * Computes now what depends on the axes of `known` only, so that a loop inside need not do it again: parts of addresses
 * and guards, and the conditions of loads whose guards are known altogether. May be applied again as more gets known.
 */
export function hoist(w: Writer, loads: readonly Load[], known: readonly number[], point: Point, out: Stmt[]): Point {
  const hoisted = new Map(point.hoisted);
  const conditions = new Map(point.conditions);
  const isKnown = (e: Affine): boolean => axesOf(e).every((axis) => known.includes(axis));
  for (const l of loads) {
    const name = argumentName(w, l.buffer);
    for (const [e, hint] of [
      [addressOf(l), `${name}_at`] as const,
      ...l.guards.map((g) => [g.index, "edge"] as const),
    ]) {
      const before = hoisted.get(key(e)) ?? { value: int(0), rest: e };
      const ready = before.rest.terms.filter((t) => isKnown({ terms: [t], constant: 0 }));
      if (ready.length === 0) continue;
      const part = lowerAll(w, { terms: ready, constant: before.rest.constant }, point);
      const rest = { terms: before.rest.terms.filter((t) => !ready.includes(t)), constant: 0 };
      hoisted.set(key(e), { value: bind(w, hint, add(before.value, part), out), rest });
    }
    if (l.guards.length > 0 && !conditions.has(l) && l.guards.every((g) => isKnown(g.index))) {
      const at = { ...point, hoisted };
      const holds = l.guards.reduce<Expr>((sum, g) => and(sum, guardHolds(w, g, at)), TRUE);
      conditions.set(l, bind(w, `${name}_inside`, holds, out));
    }
  }
  return { ...point, hoisted, conditions };
}

/** The coordinates of a row-major position in a box. `index` is below the product of the extents. */
export function decode(
  w: Writer,
  index: Expr,
  axes: readonly number[],
  coords: (Expr | undefined)[],
  out: Stmt[],
): void {
  const named = axes.map((axis) => ({ axis, size: w.sizes[axis] ?? 1, name: `${w.flat.kernel.axes[axis]?.name}` }));
  let rest = index;
  for (let i = named.length - 1; i >= 0; i--) {
    const { axis, size, name } = part(named, i);
    coords[axis] = bind(w, name, i === 0 ? rest : rem(rest, size), out);
    if (i > 0) rest = bind(w, i === 1 ? part(named, 0).name : "rest", div(rest, size), out);
  }
}

/** An element that must be there. */
export function part<T>(all: readonly T[], index: number): T {
  const value = all[index];
  if (value === undefined) throw new Error(`internal: no element ${index} of ${all.length}`);
  return value;
}

/** A grid of at least so many workgroups that respects the limit of one dimension. */
export function gridOf(groups: number, limit: number): readonly [number, number, number] {
  const x = Math.min(groups, limit);
  return [x, Math.ceil(groups / x), 1];
}

// --------------------------------------------------------------------------------------------------------------- loads

function guardHolds(w: Writer, guard: Guard, point: Point): Expr {
  const { min, max } = bounds(guard.index, w.sizes);
  const index = lower(w, guard.index, point);
  const low = min >= 0 ? TRUE : compare("le", int(0), index);
  const high = max < guard.size ? TRUE : compare("lt", index, int(guard.size));
  return and(low, high);
}

function conditionOf(w: Writer, access: Load | Store, point: Point): Expr {
  const known = "otherwise" in access ? point.conditions?.get(access) : undefined;
  if (known !== undefined) return and(point.valid, known);
  return access.guards.reduce<Expr>((sum, g) => and(sum, guardHolds(w, g, point)), point.valid);
}

/** The point that lane `l` of `point` is. What was computed for lane 0 does not hold for it. */
function laneOf(point: Point, l: number): Point {
  if (point.lanes === undefined) return point;
  const coords = [...point.coords];
  const first = coords[point.lanes];
  if (first === undefined) throw new Error("internal: the lanes' axis has no coordinate");
  coords[point.lanes] = add(first, int(l));
  return { coords, valid: point.valid };
}

function emitLoad(w: Writer, l: Load, point: Point, out: Stmt[]): Expr {
  const name = argumentName(w, l.buffer);
  const access = point.lanes === undefined ? "broadcast" : laneAccess(w.flat, l, point.lanes);
  if (access === "gather") {
    return bind(
      w,
      `${name}_v`,
      lanes((i) => emitLoad(w, l, laneOf(point, i), out)),
      out,
    );
  }
  const type = access === "vector" ? "vec4" : "f32";
  if (type === "vec4") w.wide.add(l.buffer);
  const index = lower(w, addressOf(l), point);
  const condition = conditionOf(w, l, point);
  if (alwaysTrue(condition)) return bind(w, `${name}_v`, load(type, name, index), out);
  // No branch: where the guards fail, element 0 is read and ignored, so that loads of a tile can be under way together.
  const inside = bind(w, `${name}_inside`, condition, out);
  const value = load(type, name, bind(w, `${name}_at`, select(inside, index, int(0)), out));
  const otherwise = float(l.otherwise);
  return bind(w, `${name}_v`, select(inside, value, type === "vec4" ? widen(otherwise) : otherwise), out);
}

// ------------------------------------------------------------------------------------------------------------- scalars

/** Scalars as expressions, given what their leaves are. Parts that are used twice become locals. */
export function emitScalars(w: Writer, scalars: readonly Scalar[], leaves: Leaves<Expr>, out: Stmt[]): readonly Expr[] {
  const uses = new Map<Scalar, number>();
  const use = (s: Scalar): void => void uses.set(s, (uses.get(s) ?? 0) + 1);
  const seen = new Set<Scalar>();
  for (const root of scalars) {
    visitScalar(root, (s) => {
      if (seen.has(s)) return;
      seen.add(s);
      operands(s).forEach(use);
    });
  }
  const algebra = { ...leaves, constant: float, unary, binary, select: choose };
  return foldScalars<Expr>(scalars, algebra, (s, value) =>
    (uses.get(s) ?? 0) > 1 && operands(s).length > 0 ? bind(w, "t", value, out) : value,
  );
}

/** Scalars of the kernel at a point; a vec4 where the point has lanes and the value differs between them. */
export function evaluate(
  w: Writer,
  scalars: readonly Scalar[],
  point: Point,
  out: Stmt[],
  state: (index: number) => Expr = noState,
): readonly Expr[] {
  const loaded = new Map<number, Expr>();
  return emitScalars(
    w,
    scalars,
    {
      load: (index) => {
        const described = w.flat.kernel.loads[index];
        if (described === undefined) throw new Error(`internal: ${w.flat.kernel.name} has no load ${index}`);
        const value = loaded.get(index) ?? emitLoad(w, described, point, out);
        loaded.set(index, value);
        return value;
      },
      state,
      axis: (axis) => {
        const at = point.coords[axis];
        if (at === undefined) throw new Error(`internal: axis ${axis} has no coordinate here`);
        return axis === point.lanes ? lanes((l) => toFloat(add(at, int(l)))) : toFloat(at);
      },
      random: (draw, counters) => drawAt(w, draw, counters, point),
    },
    out,
  );
}

/** A draw at a point: four where its element differs between lanes. */
function drawAt(w: Writer, draw: Draw, counters: Counters<Expr>, point: Point): Expr {
  const element = wrapped(draw.element);
  const stride = point.lanes === undefined ? 0 : strideOf(element, point.lanes);
  if (stride !== undefined) return random(draw.key, lower(w, element, point), stride, counters);
  return lanes((l) => drawAt(w, draw, counters, laneOf(point, l)));
}

function noState(): Expr {
  throw new Error("internal: a state outside a reduction");
}

// -------------------------------------------------------------------------------------------------------------- stores

/** Whether four lanes along `axis` never cross its end and are one vec4 in every store. */
export function storesVectors(flat: Flat, axis: number | undefined): boolean {
  if (axis === undefined || (flat.kernel.axes[axis]?.size ?? 0) % 4 !== 0) return false;
  return flat.kernel.stores.every((s) => laneAccess(flat, s, axis) === "vector");
}

/** Writes a store's value at a point, whose validity the caller has checked. Lanes need `storesVectors`. */
function emitStore(w: Writer, s: Store, point: Point, value: Expr, out: Stmt[]): void {
  if (point.lanes !== undefined) w.wide.add(s.buffer);
  const statement: Stmt = {
    kind: "store",
    to: argumentName(w, s.buffer),
    index: lower(w, addressOf(s), point),
    value: point.lanes === undefined ? lane(value, 0) : widen(value),
  };
  out.push(...when(conditionOf(w, s, { ...point, valid: TRUE }), [statement]));
}

/** Computes and writes all stores of the kernel at a point. */
export function emitStores(w: Writer, point: Point, out: Stmt[], state?: (index: number) => Expr): void {
  const { stores } = w.flat.kernel;
  const values = evaluate(
    w,
    stores.map((s) => s.value),
    point,
    out,
    state,
  );
  // Everything is computed before anything is replaced: a kernel may write what it reads at the same point.
  const ready = stores.length > 1 ? values.map((value) => bind(w, "next", value, out)) : values;
  for (const [i, s] of stores.entries()) {
    const value = ready[i];
    if (value !== undefined) emitStore(w, s, point, value, out);
  }
}
