/**
 * What every fusion has to respect, and what it is made with: the rules under which a result may stop being in memory, and
 * accesses and scalars carried over from one kernel's axes to another's.
 */
import type { Leaves, Scalar } from "../scalar.ts";
import { boundBuffers, bufferAt, isInPlace, offsetOf } from "./access.ts";
import { boundsUnder, constant, substitute } from "./affine.ts";
import { affineScalar, canonical, redraw } from "./build.ts";
import { classify } from "./contraction.ts";
import type { KernelList } from "./kernel-list.ts";
import { elementBytes } from "./layout.ts";
import type { Affine, Buffer, Guard, Kernel, Load } from "./loops.ts";

export interface FuseOptions {
  /** Buffers a kernel may bind. */
  readonly maxBindings: number;
  /** Buffers that something outside of these kernels reads: they are never fused away. */
  readonly keep: ReadonlySet<number>;
}

/** Why a fusion is refused. */
export type Refusal = string;

export function isState(buffers: readonly Buffer[], id: number): boolean {
  return bufferAt(buffers, id).role === "state";
}

/** Why the buffers between a producer and its readers must stay, if they must. */
export function sharedRefusal(
  shared: ReadonlySet<number>,
  producer: Kernel,
  readers: readonly Kernel[],
  list: KernelList,
  buffers: readonly Buffer[],
  options: FuseOptions,
): Refusal | undefined {
  for (const id of shared) {
    const buffer = bufferAt(buffers, id);
    if (buffer.role === "output" || buffer.role === "state" || options.keep.has(id))
      return "the result is needed by itself";
    if (elementBytes(buffer.dtype) < 4) return `storing rounds it to ${buffer.dtype}`;
    const writer = list.first(list.writers(id).filter((kernel) => kernel !== producer));
    const reader = list.first(list.readers(id).filter((kernel) => !readers.includes(kernel)));
    if (writer !== undefined && (reader === undefined || !list.isBefore(reader, writer))) {
      return "several kernels write it";
    }
    if (reader !== undefined) return "it has other readers";
  }
  for (const reader of readers) {
    const replaced = replacedBefore(producer, reader, list, buffers);
    if (replaced !== undefined) return `it reads ${replaced.name} as it was before its update`;
  }
  return undefined;
}

/** Why a map of a producer's results cannot be computed beside them, if it cannot. */
export function besideRefusal(
  shared: ReadonlySet<number>,
  producer: Kernel,
  list: KernelList,
  buffers: readonly Buffer[],
): Refusal | undefined {
  for (const id of shared) {
    const { role, dtype } = bufferAt(buffers, id);
    if (role === "state") return "it is state";
    if (elementBytes(dtype) < 4) return `storing rounds it to ${dtype}`;
    if (list.writers(id).some((kernel) => kernel !== producer)) return "several kernels write it";
  }
  return undefined;
}

/** The fused kernel in canonical form, unless it breaks a rule. */
export function accept(
  fused: Kernel,
  base: Kernel,
  buffers: readonly Buffer[],
  options: FuseOptions,
): Kernel | Refusal {
  const bound = boundBuffers(fused);
  if (bound.length > options.maxBindings) return `it would bind ${bound.length} buffers of ${options.maxBindings}`;
  const written = new Set(fused.stores.map((store) => store.buffer));
  const inPlace = (id: number): boolean => isState(buffers, id) && isInPlace(fused, id);
  if (fused.loads.some(({ buffer }) => written.has(buffer) && !inPlace(buffer))) return "it would read what it writes";
  const before = classify(base, buffers);
  if (before === undefined) return canonical(fused, buffers);
  const after = classify(fused, buffers);
  const kept = after !== undefined && after.n.join() === before.n.join() && after.m.join() === before.m.join();
  if (!kept || lastStride(fused, buffers) !== lastStride(base, buffers)) {
    return "it would change which axis of the product lies innermost";
  }
  return fused;
}

/** The output axis along which the first store is contiguous. */
export function lastStride(kernel: Kernel, buffers: readonly Buffer[]): number | undefined {
  const [store] = kernel.stores;
  if (store === undefined) return undefined;
  return runOf(offsetOf(kernel, buffers, store));
}

export function substituteLoad(load: Load, axes: readonly Affine[], sizes: readonly number[]): Load {
  const guards = load.guards.map((guard): Guard => ({ index: substitute(guard.index, axes, sizes), size: guard.size }));
  return { ...load, index: load.index.map((part) => substitute(part, axes, sizes)), guards };
}

/** Loads become these values, and axes expressions in axes of these sizes. */
export function inlining(loads: readonly Scalar[], axes: readonly Affine[], sizes: readonly number[]): Leaves<Scalar> {
  return {
    load: (i) => {
      const load = loads[i];
      if (load === undefined) throw new Error(`internal: no load ${i} to inline`);
      return load;
    },
    state: (i) => ({ kind: "state", index: i }),
    axis: (i) => affineScalar(axes[i] ?? constant(0)),
    random: (draw, counters) => redraw(draw, counters, axes, sizes),
  };
}

/** The state that `producer` reads and that has been replaced before `reader` runs, if there is any. */
function replacedBefore(
  producer: Kernel,
  reader: Kernel,
  list: KernelList,
  buffers: readonly Buffer[],
): Buffer | undefined {
  const replaced = producer.loads.find(
    ({ buffer }) =>
      isState(buffers, buffer) && list.writers(buffer).some((kernel) => list.isBetween(kernel, producer, reader)),
  );
  return replaced && bufferAt(buffers, replaced.buffer);
}

/** The axis along which an address moves by one element. */
export function runOf(address: Affine): number | undefined {
  const unit = address.terms.find((term) => term.coefficient === 1);
  return unit?.atom.kind === "axis" ? unit.atom.axis : undefined;
}

/** Whether a load reads nothing but elements of its buffer. */
export function staysInside({ index, guards }: Load, { shape }: Buffer, sizes: readonly number[]): boolean {
  return index.every((part, d) => {
    const { min, max } = boundsUnder(part, guards, sizes);
    return min >= 0 && max < (shape[d] ?? 0);
  });
}
