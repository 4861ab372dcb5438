/**
 * Making kernels: values as views of buffers, a builder that collects axes, loads and stores, and the canonical form.
 *
 * An L1 value is a literal or a view: a buffer and, for each of its dimensions, an expression in the value's own
 * indices. Reshapes, permutations and slices only compose such expressions; no kernel is made for them.
 *
 * The canonical form of a kernel has no axis of size 1, no division that splitting an axis can remove, no guard that
 * always holds, and axes ordered as loops.ts says.
 */

import type { Counters, Draw, Leaves, Scalar } from "../scalar.ts";
import { binary, num, rewriteScalars, unary, visitScalar } from "../scalar.ts";
import { bufferAt, drawsOf, innerAxes, offsetOf, outputAxes, reductionAxes, union } from "./access.ts";
import {
  add,
  axesOf,
  axis,
  bounds,
  constant,
  flatten,
  floorDiv,
  key,
  mod,
  scale,
  strideOf,
  substitute,
  unflatten,
} from "./affine.ts";
import { offset, product } from "./layout.ts";
import type { Affine, Axis, Buffer, Guard, InnerSum, Kernel, Load, ReducerName, Store } from "./loops.ts";

// --------------------------------------------------------------------------------------------------------------- values

/** A tensor that is one number everywhere. */
export interface Literal {
  readonly kind: "literal";
  readonly value: number;
}

/** A tensor read from `buffer` at `index`, whose expressions take the tensor's own indices as axes. */
export interface View {
  readonly kind: "view";
  readonly buffer: number;
  readonly shape: readonly number[];
  readonly index: readonly Affine[];
}

export type Value = Literal | View;

export function viewOf(buffer: Buffer): View {
  return { kind: "view", buffer: buffer.id, shape: buffer.shape, index: buffer.shape.map((_, d) => axis(d)) };
}

/** The value seen through new indices: `inner` gives the old ones, as expressions over the new shape's dimensions. */
export function remap(value: Value, shape: readonly number[], inner: readonly Affine[]): Value {
  if (value.kind === "literal") return value;
  return { ...value, shape, index: value.index.map((part) => substitute(part, inner, shape)) };
}

export function reshapeValue(value: Value, shape: readonly number[]): Value {
  if (value.kind === "literal") return value;
  const flat = flatten(
    shape.map((_, d) => axis(d)),
    shape,
    shape,
  );
  return remap(value, shape, unflatten(flat, value.shape, shape));
}

// -------------------------------------------------------------------------------------------------------------- builder

export interface Builder {
  readonly axis: (name: string, size: number) => Affine;
  /** `otherwise` is the value where a guard fails. */
  readonly load: (value: Value, index: readonly Affine[], guards?: readonly Guard[], otherwise?: number) => Scalar;
  readonly store: (buffer: Buffer, index: readonly Affine[], value: Scalar, guards?: readonly Guard[]) => void;
  readonly finish: (what: {
    readonly name: string;
    readonly layers: readonly string[];
    readonly reduce?: { readonly by: ReducerName; readonly body: readonly Scalar[] };
    readonly inner?: readonly InnerSum[];
    readonly macs?: number;
  }) => Kernel;
}

/** Collects one kernel over `buffers`. Loads of equal elements become one. */
export function kernelBuilder(buffers: readonly Buffer[]): Builder {
  const axes: Axis[] = [];
  const loads: Load[] = [];
  const stores: Store[] = [];
  return {
    axis: (name, size) => {
      axes.push({ name: uniqueName(name, axes), size });
      return axis(axes.length - 1);
    },
    load: (value, index, guards = [], otherwise = 0) => {
      if (value.kind === "literal") return num(value.value);
      const sizes = axes.map((a) => a.size);
      const load: Load = {
        buffer: value.buffer,
        index: value.index.map((part) => substitute(part, index, sizes)),
        guards,
        otherwise,
      };
      return { kind: "load", index: addLoad(loads, load) };
    },
    store: (buffer, index, value, guards = []) => {
      stores.push({ buffer: buffer.id, index, guards, value });
    },
    finish: ({ name, layers, reduce, inner, macs = 0 }) => {
      const own = inner === undefined ? {} : { inner };
      const body = reduce?.body ?? [];
      return canonical({ name, axes, loads, ...own, body, reduce: reduce?.by, stores, layers, macs }, buffers);
    },
  };
}

function uniqueName(name: string, axes: readonly Axis[]): string {
  const taken = axes.some((a) => a.name === name);
  return taken ? uniqueName(`${name}'`, axes) : name;
}

/** The number of `load` in `loads`, added if it is not there. */
export function addLoad(loads: Load[], load: Load): number {
  const wanted = loadKey(load);
  const at = loads.findIndex((known) => loadKey(known) === wanted);
  return at >= 0 ? at : loads.push(load) - 1;
}

const loadKeys = new WeakMap<Load, string>();

/** Equal for loads of equal elements. */
export function loadKey(load: Load): string {
  let text = loadKeys.get(load);
  if (text === undefined) {
    text = keyOf(load);
    loadKeys.set(load, text);
  }
  return text;
}

function keyOf(load: Load): string {
  const guards = load.guards.map((guard) => `${key(guard.index)}<${guard.size}`);
  const otherwise = guards.length > 0 ? load.otherwise : "";
  return `${load.buffer}[${load.index.map(key).join()}]${guards.join("&")}:${otherwise}`;
}

/** An index expression as a float scalar. Quotients are taken half a step up, so that inexact division cannot round down. */
export function affineScalar(e: Affine): Scalar {
  const quotient = (of: Affine, by: number): Scalar =>
    unary("floor", binary("div", binary("add", affineScalar(of), num(0.5)), num(by)));
  return e.terms.reduce<Scalar>((sum, { coefficient, atom }) => {
    let value: Scalar;
    if (atom.kind === "axis") value = { kind: "axis", axis: atom.axis };
    else if (atom.kind === "div") value = quotient(atom.of, atom.by);
    else value = binary("sub", affineScalar(atom.of), binary("mul", quotient(atom.of, atom.by), num(atom.by)));
    return binary("add", sum, binary("mul", value, num(coefficient)));
  }, num(e.constant));
}

/** A draw over other axes: axis i becomes `replacements[i]`, an expression in axes of these sizes. */
export function redraw(
  draw: Draw,
  counters: Counters<Scalar>,
  replacements: readonly Affine[],
  sizes: readonly number[],
): Draw {
  return { ...draw, element: substitute(draw.element, replacements, sizes), counters };
}

// ------------------------------------------------------------------------------------------------------- canonical form

/** The same kernel over other axes: axis i becomes `replacements[i]`, an expression in `axes`. */
export function reindex(kernel: Kernel, axes: readonly Axis[], replacements: readonly Affine[]): Kernel {
  const sizes = axes.map((a) => a.size);
  const index = (parts: readonly Affine[]): Affine[] => parts.map((part) => substitute(part, replacements, sizes));
  const guards = (all: readonly Guard[]): Guard[] =>
    all
      .map((guard) => ({ index: substitute(guard.index, replacements, sizes), size: guard.size }))
      .filter((guard) => !alwaysHolds(guard, sizes));
  const moved = withScalars(kernel, {
    load: (at) => ({ kind: "load", index: at }),
    state: (at) => ({ kind: "state", index: at }),
    axis: (at) => affineScalar(replacements[at] ?? constant(0)),
    random: (draw, counters) => redraw(draw, counters, replacements, sizes),
  });
  const { inner } = moved;
  const own = (old: readonly number[]): readonly number[] =>
    union(old.map((at) => axesOf(replacements[at] ?? constant(0))));
  return {
    ...moved,
    axes,
    ...(inner === undefined ? {} : { inner: inner.map((one) => ({ ...one, axes: own(one.axes) })) }),
    loads: kernel.loads.map((load) => ({ ...load, index: index(load.index), guards: guards(load.guards) })),
    stores: moved.stores.map((store) => ({ ...store, index: index(store.index), guards: guards(store.guards) })),
  };
}

/** The kernel with the leaves of its body and of what it stores replaced. What those share stays shared. */
export function withScalars(kernel: Kernel, leaves: Leaves<Scalar>): Kernel {
  const { body, inner } = kernel;
  const values = rewriteScalars([...body, ...kernel.stores.map((store) => store.value)], leaves);
  const stores = kernel.stores.map((store, i) => ({ ...store, value: values[body.length + i] ?? store.value }));
  const made = { ...kernel, body: values.slice(0, body.length), stores };
  if (inner === undefined) return made;
  const products = rewriteScalars(
    inner.map(({ value }) => value),
    leaves,
  );
  return { ...made, inner: inner.map((one, i) => ({ ...one, value: products[i] ?? one.value })) };
}

/** The kernel without guards that always hold. */
function withoutIdleGuards(kernel: Kernel): Kernel {
  const sizes = kernel.axes.map((a) => a.size);
  const lighter = <T extends Load | Store>(access: T): T =>
    access.guards.some((guard) => alwaysHolds(guard, sizes))
      ? { ...access, guards: access.guards.filter((guard) => !alwaysHolds(guard, sizes)) }
      : access;
  return { ...kernel, loads: kernel.loads.map(lighter), stores: kernel.stores.map(lighter) };
}

function alwaysHolds(guard: Guard, sizes: readonly number[]): boolean {
  const { min, max } = bounds(guard.index, sizes);
  return min >= 0 && max < guard.size;
}

/** The canonical form (see the top of this file). */
export function canonical(kernel: Kernel, buffers: readonly Buffer[]): Kernel {
  return order(splitAxes(dropIdleAxes(dropUnitAxes(kernel)), buffers), buffers);
}

function dropUnitAxes(kernel: Kernel): Kernel {
  const kept = kernel.axes.filter((a) => a.size !== 1);
  if (kept.length === kernel.axes.length) return withoutIdleGuards(kernel);
  const replacements = kernel.axes.map((a) => (a.size === 1 ? constant(0) : axis(kept.indexOf(a))));
  return reindex(kernel, kept, replacements);
}

/**
 * A reduction along axes on which nothing depends, as the gradient of a mean is: their size is a factor of a sum, and
 * nothing to an extreme. Without any other axis there is nothing left to reduce.
 */
function dropIdleAxes(kernel: Kernel): Kernel {
  const { reduce, body } = kernel;
  const [value] = body;
  if (value === undefined || (reduce !== "sum" && reduce !== "max" && reduce !== "min")) return kernel;
  const accesses = [...kernel.loads, ...kernel.stores];
  const used = new Set([
    ...accesses.flatMap((access) => [...access.index, ...access.guards.map((guard) => guard.index)].flatMap(axesOf)),
    ...axisLeaves(kernel),
    ...drawsOf(kernel).flatMap((draw) => axesOf(draw.element)),
  ]);
  const idle = kernel.axes.filter((_, at) => !used.has(at));
  if (idle.length === 0) return kernel;
  const kept = kernel.axes.filter((_, at) => used.has(at));
  const replacements = kernel.axes.map((a) => (kept.includes(a) ? axis(kept.indexOf(a)) : constant(0)));
  const times = product(idle.map((a) => a.size));
  const counted = reduce === "sum" ? binary("mul", value, num(times)) : value;
  const shorter = reindex({ ...kernel, body: [counted] }, kept, replacements);
  return reductionAxes(shorter).length > 0 ? shorter : withoutReduction(shorter);
}

/** A kernel that reduces over nothing, as a map. */
function withoutReduction(kernel: Kernel): Kernel {
  const [value] = kernel.body;
  if (value === undefined) throw new Error(`internal: ${kernel.name} reduces nothing`);
  const stored = withScalars(
    { ...kernel, body: [] },
    {
      load: (index) => ({ kind: "load", index }),
      state: () => value,
      axis: (at) => ({ kind: "axis", axis: at }),
      random: (draw, counters) => ({ ...draw, counters }),
    },
  );
  return { ...stored, reduce: undefined };
}

/** Splits axes (a = k·a₁ + a₀) wherever that removes a division or remainder from an address or a draw. */
function splitAxes(kernel: Kernel, buffers: readonly Buffer[]): Kernel {
  return cut(kernel, walked(kernel, buffers));
}

/** Everything that steps along the axes: the addresses of loads and stores, the elements that draws count. */
function walked(kernel: Kernel, buffers: readonly Buffer[]): readonly Affine[] {
  const addresses = [...kernel.loads, ...kernel.stores].map((access) => offsetOf(kernel, buffers, access));
  return [...addresses, ...drawsOf(kernel).map((draw) => draw.element)];
}

/** Splits axes until the indices of the stores have no divisions: undoes `mergeAxes`, for whoever looks at dimensions. */
export function unmergeAxes(kernel: Kernel): Kernel {
  return cut(
    kernel,
    kernel.stores.flatMap((store) => store.index),
  );
}

/** Splits every axis at the divisions that `expressions` make of it. */
function cut(kernel: Kernel, expressions: readonly Affine[]): Kernel {
  const radices = kernel.axes.map((a, at) => radicesOf(expressions, at, a.size));
  if (radices.every((parts) => parts.length === 1)) return kernel;
  const axes: Axis[] = [];
  const replacements = kernel.axes.map((a, at) => {
    const parts = radices[at] ?? [a.size];
    let whole = constant(0);
    parts.forEach((size, part) => {
      const name = uniqueName(parts.length > 1 ? `${a.name}${parts.length - 1 - part}` : a.name, axes);
      axes.push({ name, size });
      whole = add(scale(whole, size), axis(axes.length - 1));
    });
    return whole;
  });
  return reindex(kernel, axes, replacements);
}

/** The extents, outermost first, that the divisions of an axis found in `expressions` cut it into. */
function radicesOf(expressions: readonly Affine[], at: number, size: number): readonly number[] {
  const cuts = new Set<number>();
  const collect = (e: Affine): void => {
    for (const { atom } of e.terms) {
      if (atom.kind === "axis") continue;
      const step = stepOf(atom.of, at);
      if (step === undefined) collect(atom.of);
      else {
        cuts.add(step);
        cuts.add(step * atom.by);
      }
    }
  };
  expressions.forEach(collect);
  const radices: number[] = [];
  let inner = 1;
  for (const cut of [...cuts].sort((a, b) => a - b)) {
    if (cut <= inner || cut % inner !== 0 || size % cut !== 0 || cut === size) continue;
    radices.unshift(cut / inner);
    inner = cut;
  }
  radices.unshift(size / inner);
  return radices;
}

/** k if `e` is ⌊axis/k⌋ (1 for the axis itself), else undefined. */
function stepOf(e: Affine, at: number): number | undefined {
  const [term] = e.terms;
  if (term === undefined || e.terms.length !== 1 || term.coefficient !== 1 || e.constant !== 0) return undefined;
  if (term.atom.kind === "axis") return term.atom.axis === at ? 1 : undefined;
  return term.atom.kind === "div" && stepOf(term.atom.of, at) === 1 ? term.atom.by : undefined;
}

/**
 * Joins neighbouring axes (a·size + b → one axis) that every address and draw walks as one: an elementwise kernel over dense
 * tensors keeps a single axis, a 1x1 convolution one for all pixels. Indices of dimensions then divide; addresses do not.
 * Axes that occur in guards or as values stay.
 */
export function mergeAxes(kernel: Kernel, buffers: readonly Buffer[]): Kernel {
  const outputs = new Set(outputAxes(kernel));
  const inner = new Set(innerAxes(kernel));
  const pinned = new Set<number>([
    ...[...kernel.loads, ...kernel.stores].flatMap((access) => access.guards.flatMap((guard) => axesOf(guard.index))),
    ...axisLeaves(kernel),
  ]);
  let addresses: readonly Affine[] | undefined;
  const joins = (outer: number): boolean => {
    const [a, b] = [kernel.axes[outer], kernel.axes[outer + 1]];
    if (a === undefined || b === undefined || pinned.has(outer) || pinned.has(outer + 1)) return false;
    if (outputs.has(outer) !== outputs.has(outer + 1) || inner.has(outer) !== inner.has(outer + 1)) return false;
    addresses ??= walked(kernel, buffers);
    return addresses.every((address) => {
      const [far, near] = [strideOf(address, outer), strideOf(address, outer + 1)];
      return far !== undefined && near !== undefined && far === near * b.size;
    });
  };
  /** For each new axis, the old ones that it walks. */
  const runs: number[][] = [];
  kernel.axes.forEach((_, at) => {
    const last = runs.at(-1);
    if (last !== undefined && joins(at - 1)) last.push(at);
    else runs.push([at]);
  });
  if (runs.length === kernel.axes.length) return kernel;
  const part = (at: number): Axis => kernel.axes[at] ?? { name: "", size: 1 };
  const axes = runs.map((run) => ({
    name: run.map((at) => part(at).name).join(""),
    size: product(run.map((at) => part(at).size)),
  }));
  const sizes = axes.map((one) => one.size);
  const replacements = runs.flatMap((run, at) =>
    run.map((old, digit) => {
      const inner = product(run.slice(digit + 1).map((a) => part(a).size));
      const above = floorDiv(axis(at), inner, sizes);
      return digit === 0 ? above : mod(above, part(old).size, sizes);
    }),
  );
  return reindex(kernel, axes, replacements);
}

/** Axes that scalars use as numbers. */
export function axisLeaves(kernel: Kernel): readonly number[] {
  const found: number[] = [];
  for (const scalar of [...kernel.body, ...kernel.stores.map((store) => store.value)]) {
    visitScalar(scalar, (node) => {
      if (node.kind === "axis") found.push(node.axis);
    });
  }
  return found;
}

/** Output axes by falling stride in the first store, then reduction axes by falling stride in the first load. */
function order(kernel: Kernel, buffers: readonly Buffer[]): Kernel {
  const [store] = kernel.stores;
  const [load] = kernel.loads;
  if (store === undefined) throw new Error(`internal: ${kernel.name} stores nothing`);
  const outputs = byStride(outputAxes(kernel), offsetOf(kernel, buffers, store));
  const reduced = reductionAxes(kernel);
  const behind = load === undefined ? reduced : byStride(reduced, offsetOf(kernel, buffers, load));
  const order = [...outputs, ...behind, ...innerAxes(kernel)];
  if (order.every((from, to) => from === to)) return kernel;
  const axes = order.map((from) => kernel.axes[from] ?? { name: "", size: 0 });
  return reindex(
    kernel,
    axes,
    kernel.axes.map((_, from) => axis(order.indexOf(from))),
  );
}

function byStride(axes: readonly number[], address: Affine): readonly number[] {
  const strides = new Map(axes.map((at) => [at, strideOf(address, at)]));
  if ([...strides.values()].includes(undefined)) return axes;
  return [...axes].sort((a, b) => Math.abs(strides.get(b) ?? 0) - Math.abs(strides.get(a) ?? 0) || a - b);
}

/** How the dimensions of a value lie in memory, outermost first; undefined if its address is not linear. */
export function memoryOrder(view: View, buffers: readonly Buffer[]): readonly number[] | undefined {
  const address = offset(bufferAt(buffers, view.buffer), view.index, view.shape);
  const dims = view.shape.map((_, d) => d);
  return dims.some((d) => strideOf(address, d) === undefined) ? undefined : byStride(dims, address);
}
