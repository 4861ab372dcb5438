/**
 * Questions about a kernel that every later stage asks: which axes are output, which are reduced, where does an access
 * point, which axes does it depend on, how do its addresses step.
 */

import type { Draw, Scalar } from "../scalar.ts";
import { visitScalar } from "../scalar.ts";
import { axesOf, constant, equal, isLinear } from "./affine.ts";
import { offset } from "./layout.ts";
import type { Affine, Axis, Buffer, Guard, Kernel, Load, Store } from "./loops.ts";

/** Extents of the kernel's axes, by axis number. */
export function axisSizes(kernel: Kernel): readonly number[] {
  return kernel.axes.map((axis) => axis.size);
}

const knownOutputs = new WeakMap<readonly Store[], readonly number[]>();

/** Axes that a store mentions, ascending; the loops around one finished value. */
export function outputAxes({ stores }: Kernel): readonly number[] {
  let axes = knownOutputs.get(stores);
  if (axes === undefined) {
    axes = union(stores.flatMap((store) => store.index.map(axesOf)));
    knownOutputs.set(stores, axes);
  }
  return axes;
}

/** Axes that no store mentions and no inner sum has for itself, ascending. */
export function reductionAxes(kernel: Kernel): readonly number[] {
  const others = new Set([...outputAxes(kernel), ...innerAxes(kernel)]);
  return kernel.axes.map((_, axis) => axis).filter((axis) => !others.has(axis));
}

/** Axes of the inner sums, ascending. */
export function innerAxes({ inner = [] }: Kernel): readonly number[] {
  return union(inner.map(({ axes }) => axes));
}

/** Axes on which a load's address or guards depend, ascending. */
export function loadAxes(load: Load): readonly number[] {
  return union([...load.index.map(axesOf), ...load.guards.map(guardAxes)]);
}

/** Axes on which a guard depends, ascending. */
function guardAxes(guard: Guard): readonly number[] {
  return axesOf(guard.index);
}

/** Numbers of the loads that a scalar mentions, ascending. */
export function loadsOf(...scalars: readonly Scalar[]): readonly number[] {
  const found = new Set<number>();
  for (const scalar of scalars) {
    visitScalar(scalar, (node) => {
      if (node.kind === "load") found.add(node.index);
    });
  }
  return ascending(found);
}

/** Axes that a scalar depends on, through its loads or by itself, ascending. */
export function scalarAxes(kernel: Kernel, ...scalars: readonly Scalar[]): readonly number[] {
  const found = new Set<number>();
  for (const scalar of scalars) {
    visitScalar(scalar, (node) => {
      if (node.kind === "axis") found.add(node.axis);
      if (node.kind === "random") for (const axis of axesOf(node.element)) found.add(axis);
      if (node.kind === "load") for (const axis of loadAxes(loadAt(kernel, node.index))) found.add(axis);
    });
  }
  return ascending(found);
}

/** The draws of random numbers in a kernel's values. */
export function drawsOf(kernel: Kernel): readonly Draw[] {
  const found = new Set<Draw>();
  for (const scalar of [...kernel.body, ...kernel.stores.map((store) => store.value)]) {
    visitScalar(scalar, (node) => {
      if (node.kind === "random") found.add(node);
    });
  }
  return [...found];
}

export function loadAt(kernel: Kernel, index: number): Load {
  const load = kernel.loads[index];
  if (load === undefined) throw new Error(`internal: ${kernel.name} has no load ${index}`);
  return load;
}

export function bufferAt(buffers: readonly Buffer[], id: number): Buffer {
  const buffer = buffers[id];
  if (buffer === undefined) throw new Error(`internal: no buffer ${id}`);
  return buffer;
}

const knownOffsets = new WeakMap<Load | Store, { axes: readonly Axis[]; buffer: Buffer; value: Affine }>();

/** Element offset of an access, over the kernel's axes. Remembered: every stage asks for it, fusion again and again. */
export function offsetOf(kernel: Kernel, buffers: readonly Buffer[], access: Load | Store): Affine {
  const { axes } = kernel;
  const buffer = bufferAt(buffers, access.buffer);
  const known = knownOffsets.get(access);
  if (known !== undefined && known.axes === axes && known.buffer === buffer) return known.value;
  const value = offset(buffer, access.index, axisSizes(kernel));
  knownOffsets.set(access, { axes, buffer, value });
  return value;
}

/** Distinct buffers that a kernel binds: loads in order of appearance, then stores. */
export function boundBuffers(kernel: Kernel): readonly number[] {
  return [...new Set([...kernel.loads, ...kernel.stores].map((access) => access.buffer))];
}

/**
 * Whether a buffer that the kernel writes is read only where the same point writes it: then the order of the points does
 * not matter, and the kernel may replace the buffer's values in place.
 */
export function isInPlace(kernel: Kernel, buffer: number): boolean {
  const stores = kernel.stores.filter((store) => store.buffer === buffer);
  const [store] = stores;
  if (store === undefined || stores.length > 1 || store.guards.length > 0 || kernel.reduce !== undefined) return false;
  return kernel.loads.every(
    (load) =>
      load.buffer !== buffer ||
      (load.guards.length === 0 && load.index.every((part, d) => equal(part, store.index[d] ?? constant(-1)))),
  );
}

/** Whether every address of the kernel is linear in its axes. */
export function isAffineKernel(kernel: Kernel, buffers: readonly Buffer[]): boolean {
  return [...kernel.loads, ...kernel.stores].every((access) => isLinear(offsetOf(kernel, buffers, access)));
}

/** Sorted union of axis lists. */
export function union(lists: readonly (readonly number[])[]): readonly number[] {
  return ascending(new Set(lists.flat()));
}

function ascending(values: ReadonlySet<number>): readonly number[] {
  return [...values].sort((a, b) => a - b);
}
