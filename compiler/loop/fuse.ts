/**
 * Fusion: fewer kernels, fewer trips through memory.
 *
 * A MAP that reads a whole result moves into the stores of the kernel that made it (bias, ReLU, a batch norm's affine map,
 * a residual sum); a MAP whose result is read moves into the loads of its readers. Nothing crosses a reduction, no kernel
 * binds more buffers than the device takes, none reads what it writes, and a result stored in a narrower type is still
 * rounded by being stored. What was done, and why the rest was not, comes out as a list for `inspect`.
 */

import { DRAW_COST } from "../random.ts";
import type { Scalar } from "../scalar.ts";
import { BINARY, evaluateScalar, rewriteScalars, UNARY, visitScalar } from "../scalar.ts";
import { axisSizes, bufferAt, isAffineKernel, offsetOf, outputAxes } from "./access.ts";
import { axis, constant, equal, floorDiv, isLinear, mod, strideOf, substitute } from "./affine.ts";
import { addLoad, withScalars } from "./build.ts";
import { classify } from "./contraction.ts";
import {
  accept,
  besideRefusal,
  type FuseOptions,
  inlining,
  isState,
  lastStride,
  type Refusal,
  runOf,
  sharedRefusal,
  staysInside,
  substituteLoad,
} from "./fuse-rules.ts";
import { KernelList } from "./kernel-list.ts";
import { elementCount, product } from "./layout.ts";
import type { Affine, Buffer, Kernel, Load, Store } from "./loops.ts";

/** One possible fusion: what became of it, and why. */
export interface Decision {
  /** The kernel that stays. */
  readonly kernel: string;
  /** The kernel that moved into it, or would have. */
  readonly other: string;
  readonly fused: boolean;
  readonly reason: string;
}

/** A decision in the program that loads weights, or in the pass itself. */
export interface ProgramDecision extends Decision {
  readonly part: "load" | "run";
}

/** A producer recomputed for every read may cost this much, in multiply-adds and loads (see `costOf`). */
const CHEAP = 4;

/** Elements of a run that is worth keeping together. */
const LONG_RUN = 8;

/** A map is small beside a reduction that has so many times its points. */
const SMALL = 8;

/** A list of kernels under fusion, and the decisions made on the way. */
interface Progress {
  readonly list: KernelList;
  readonly done: Decision[];
  /** Of the current round: what another round may still overturn. */
  refused: Decision[];
}

/**
 * Fuses a list of kernels in the order of their execution. Buffers that fall out of use stay in `buffers`. Stores come
 * first in every round, for what moves into them costs nothing; rounds end when one changes nothing.
 */
export function fuse(
  kernels: readonly Kernel[],
  buffers: readonly Buffer[],
  options: FuseOptions,
): { readonly kernels: readonly Kernel[]; readonly decisions: readonly Decision[] } {
  const progress: Progress = { list: new KernelList(kernels), done: [], refused: [] };
  for (let before = Number.POSITIVE_INFINITY; progress.list.size < before; ) {
    before = progress.list.size;
    progress.refused = [];
    fuseStores(progress, buffers, options);
    fuseLoads(progress, buffers, options);
  }
  return { kernels: progress.list.inOrder(), decisions: [...progress.done, ...progress.refused] };
}

/** One pass over the consumers; a fused kernel is looked at again, as a consumer of its own producers. */
function fuseStores(progress: Progress, buffers: readonly Buffer[], options: FuseOptions): void {
  const { list } = progress;
  const pending: Kernel[] = list.inOrder().reverse();
  for (let consumer = pending.pop(); consumer !== undefined; consumer = pending.pop()) {
    if (consumer.reduce !== undefined) continue;
    const producers = producersOf(consumer, list, buffers).reverse();
    const reductions =
      producers.length < 2
        ? []
        : producers.filter((producer) => isSmall(consumer, producer) && isReduction(producer, buffers));
    for (const producer of producers) {
      const result =
        reductions.length > 1 && reductions.includes(producer)
          ? "it follows several reductions"
          : intoStores(producer, consumer, list, buffers, options);
      const names = { kernel: producer.name, other: consumer.name };
      if (typeof result === "string") {
        progress.refused.push({ ...names, fused: false, reason: result });
        continue;
      }
      progress.done.push({ ...names, fused: true, reason: "into its stores" });
      list.remove(producer);
      list.replace(consumer, result);
      pending.push(result);
      break;
    }
  }
}

/**
 * Small maps of finished reductions, such as the factors of a batch norm's gradient, become further results of the kernel
 * that reduces, also where the reduction has other readers. Each is one kernel less; a large map is left to the rules of
 * `fuse`, which know what recomputing costs. It runs when reductions have been joined, for a map of two of them can
 * follow both only then.
 */
export function followReductions(
  kernels: readonly Kernel[],
  buffers: readonly Buffer[],
  options: FuseOptions,
): { readonly kernels: readonly Kernel[]; readonly decisions: readonly Decision[] } {
  const list = new KernelList(kernels);
  const decisions: Decision[] = [];
  for (const consumer of kernels) {
    if (consumer.reduce !== undefined || !list.has(consumer)) continue;
    // Behind its last producer everything it reads is there.
    const producer = producersOf(consumer, list, buffers).at(-1);
    if (producer === undefined || !isReduction(producer, buffers) || !isSmall(consumer, producer)) continue;
    // State is replaced when everything else has read it.
    if (consumer.stores.some((store) => isState(buffers, store.buffer))) continue;
    const result = intoStores(producer, consumer, list, buffers, { ...options, beside: true });
    if (typeof result === "string") continue;
    decisions.push({ kernel: producer.name, other: consumer.name, fused: true, reason: "beside its stores" });
    list.remove(consumer);
    list.replace(producer, result);
  }
  return { kernels: list.inOrder(), decisions };
}

/** One pass over the producers. */
function fuseLoads(progress: Progress, buffers: readonly Buffer[], options: FuseOptions): void {
  const { list } = progress;
  for (const producer of list.inOrder()) {
    // An earlier fusion of this pass may have replaced it.
    if (producer.reduce !== undefined || !list.has(producer)) continue;
    const result = intoLoads(producer, list, buffers, options);
    if (result === undefined) continue;
    if (typeof result === "string") {
      const reader = readersOf(producer, list, buffers)[0]?.name ?? "";
      progress.refused.push({ kernel: reader, other: producer.name, fused: false, reason: result });
      continue;
    }
    list.remove(producer);
    for (const [reader, fused] of result) {
      progress.done.push({ kernel: reader.name, other: producer.name, fused: true, reason: "into its loads" });
      list.replace(reader, fused);
    }
  }
}

/** Kernels behind whose stores `consumer` reads. What a run leaves to the next (state) is not read behind its stores. */
function producersOf(consumer: Kernel, list: KernelList, buffers: readonly Buffer[]): Kernel[] {
  const read = consumer.loads.map((load) => load.buffer).filter((id) => !isState(buffers, id));
  return list.sorted(read.flatMap((id) => list.writers(id))).filter((kernel) => kernel !== consumer);
}

function readersOf(producer: Kernel, list: KernelList, buffers: readonly Buffer[]): readonly Kernel[] {
  const written = producer.stores.map((store) => store.buffer).filter((id) => !isState(buffers, id));
  return list.sorted(written.flatMap((id) => list.readers(id)));
}

/** Whether a kernel reduces and is no product. */
function isReduction(kernel: Kernel, buffers: readonly Buffer[]): boolean {
  return kernel.reduce !== undefined && classify(kernel, buffers) === undefined;
}

function isSmall(map: Kernel, reduction: Kernel): boolean {
  return product(axisSizes(map)) * SMALL <= product(axisSizes(reduction));
}

// --------------------------------------------------------------------------------------------------- into the stores

/** `consumer`, a MAP, computed where `producer` stores what it reads. */
function intoStores(
  producer: Kernel,
  consumer: Kernel,
  list: KernelList,
  buffers: readonly Buffer[],
  options: FuseOptions & { readonly beside?: boolean },
): Kernel | Refusal {
  const shared = new Set(
    producer.stores.map((store) => store.buffer).filter((id) => consumer.loads.some((load) => load.buffer === id)),
  );
  const beside = options.beside === true;
  const refusal = beside
    ? besideRefusal(shared, producer, list, buffers)
    : sharedRefusal(shared, producer, [consumer], list, buffers, options);
  if (refusal !== undefined) return refusal;
  const others = beside ? producer.stores : producer.stores.filter((store) => !shared.has(store.buffer));
  const isEarlier = (kernel: Kernel): boolean => list.isBetween(kernel, producer, consumer);
  if (!beside && others.some((store) => list.readers(store.buffer).some(isEarlier))) {
    return "another result of the producer is needed earlier";
  }

  // A map's result in several parts, each with a store of its own: what works on it follows each of them.
  if (producer.reduce === undefined && [...shared].some((id) => isInParts(producer, id))) {
    return beside ? "it is stored in parts" : intoParts(producer, consumer, shared, others, buffers, options);
  }

  // Every shared element is read at one place: the consumer's axes follow from the producer's.
  let axes: readonly Affine[] | undefined;
  for (const load of consumer.loads) {
    if (!shared.has(load.buffer)) continue;
    const store = producer.stores.find((s) => s.buffer === load.buffer);
    if (store === undefined || load.guards.length > 0 || store.guards.length > 0) return "it is read under a guard";
    const found = solve(consumer, load, producer, store.index, buffers);
    if (found === undefined) {
      const again = producer.reduce !== undefined && product(axisSizes(consumer)) > product(outputSizes(producer));
      return again ? "each reduced value is read several times" : "it is not read element by element, each once";
    }
    if (axes !== undefined && found.some((e, a) => !equal(e, axes?.[a] ?? constant(-1))))
      return "it is read at two places";
    axes = found;
  }
  if (axes === undefined) return "nothing is shared";

  const sizes = axisSizes(producer);
  const loads: Load[] = [...producer.loads];
  const replacements = axes;
  const moved = consumer.loads.map((load): Scalar => {
    const store = shared.has(load.buffer) ? producer.stores.find((s) => s.buffer === load.buffer) : undefined;
    if (store !== undefined) return store.value;
    return { kind: "load", index: addLoad(loads, substituteLoad(load, replacements, sizes)) };
  });
  const stores = withScalars(consumer, inlining(moved, replacements, sizes)).stores.map((store) => ({
    ...store,
    index: store.index.map((part) => substitute(part, replacements, sizes)),
  }));
  const fused: Kernel = {
    ...producer,
    name: `${producer.name}+${consumer.name.split(".").at(-1)}`,
    loads,
    stores: [...others, ...stores],
    layers: [...new Set([...producer.layers, ...consumer.layers])],
  };
  return accept(fused, producer, buffers, options);
}

function isInParts({ stores }: Kernel, id: number): boolean {
  const parts = stores.filter(({ buffer }) => buffer === id);
  return parts.length > 1 || parts.some(({ guards }) => guards.length > 0);
}

/** `consumer`, a MAP, once for each part in which `producer` stores what it reads, under the guards of that part. */
function intoParts(
  producer: Kernel,
  consumer: Kernel,
  shared: ReadonlySet<number>,
  others: readonly Store[],
  buffers: readonly Buffer[],
  options: FuseOptions,
): Kernel | Refusal {
  const read = consumer.loads.filter((load) => shared.has(load.buffer));
  const [only] = read;
  if (only === undefined || read.length > 1) return "it is read at two places";
  if (only.guards.length > 0 || consumer.stores.some((store) => store.guards.length > 0)) {
    return "it is read under a guard";
  }
  const extents = axisSizes(consumer);
  if (product(extents) !== product(bufferAt(buffers, only.buffer).shape)) {
    return "it is not read element by element, each once";
  }
  const sizes = axisSizes(producer);
  const all = consumer.axes.map((_, a) => a);
  const loads: Load[] = [...producer.loads];
  const stores: Store[] = [...others];
  for (const part of producer.stores) {
    if (part.buffer !== only.buffer) continue;
    const axes = invert(only.index, extents, all, part.index, sizes);
    if (axes === undefined) return "it is not read element by element, each once";
    const moved = consumer.loads.map((load): Scalar => {
      if (load === only) return part.value;
      const own = substituteLoad(load, axes, sizes);
      // A part may reach over the edge, where nothing is stored and nothing else may be read.
      const inside = staysInside(own, bufferAt(buffers, load.buffer), sizes);
      return {
        kind: "load",
        index: addLoad(loads, inside ? own : { ...own, guards: [...own.guards, ...part.guards] }),
      };
    });
    for (const store of withScalars(consumer, inlining(moved, axes, sizes)).stores) {
      const index = store.index.map((at) => substitute(at, axes, sizes));
      stores.push({ ...store, index, guards: part.guards });
    }
  }
  const fused: Kernel = {
    ...producer,
    name: `${producer.name}+${consumer.name.split(".").at(-1)}`,
    loads,
    stores,
    layers: [...new Set([...producer.layers, ...consumer.layers])],
  };
  // The producer reads what lies side by side, and one trip through its result costs less than reading it otherwise.
  const [along, after] = [producer, fused].map((kernel) => lastStride(kernel, buffers));
  if (along !== undefined && (producer.axes[along]?.size ?? 1) >= LONG_RUN && after !== along) {
    return "it would store across memory";
  }
  return accept(fused, producer, buffers, options);
}

/** The consumer's axes as expressions in the producer's, if the load reads every stored element exactly once. */
function solve(
  consumer: Kernel,
  load: Load,
  producer: Kernel,
  stored: readonly Affine[],
  buffers: readonly Buffer[],
): readonly Affine[] | undefined {
  const elements = product(bufferAt(buffers, load.buffer).shape);
  const points = product(axisSizes(consumer));
  if (points !== elements || product(outputSizes(producer)) !== elements) return undefined;
  const all = consumer.axes.map((_, a) => a);
  const sizes = axisSizes(producer);
  const direct = invert(load.index, axisSizes(consumer), all, stored, sizes);
  if (direct !== undefined) return direct;
  const store = { buffer: load.buffer, index: stored, guards: [], otherwise: 0 };
  const addresses = [offsetOf(producer, buffers, store)];
  const flat = invert([offsetOf(consumer, buffers, load)], axisSizes(consumer), all, addresses, sizes);
  return flat?.every(isLinear) === true ? flat : undefined;
}

function outputSizes(kernel: Kernel): readonly number[] {
  return outputAxes(kernel).map((a) => kernel.axes[a]?.size ?? 1);
}

/**
 * Solves `index[d](axes) = target[d]` for the axes: every dimension must be a mixed-radix number of axes of its own.
 * @param axes the axes to solve for
 * @param sizes extents of the axes that `target` is written in
 */
function invert(
  index: readonly Affine[],
  extents: readonly number[],
  axes: readonly number[],
  target: readonly Affine[],
  sizes: readonly number[],
): readonly Affine[] | undefined {
  const solved = new Map<number, Affine>();
  for (const [d, part] of index.entries()) {
    const value = target[d];
    if (value === undefined || !isLinear(part) || part.constant !== 0) return undefined;
    const digits = [...part.terms].sort((a, b) => a.coefficient - b.coefficient);
    let radix = 1;
    for (const [i, { coefficient, atom }] of digits.entries()) {
      if (atom.kind !== "axis" || coefficient !== radix || solved.has(atom.axis)) return undefined;
      const extent = extents[atom.axis] ?? 1;
      const above = floorDiv(value, radix, sizes);
      solved.set(atom.axis, i === digits.length - 1 ? above : mod(above, extent, sizes));
      radix *= extent;
    }
  }
  if (axes.some((a) => !solved.has(a))) return undefined;
  return extents.map((_, a) => solved.get(a) ?? constant(0));
}

// ----------------------------------------------------------------------------------------------------- into the loads

/** Every reader of `producer`, a MAP, computing what it reads; undefined if nothing reads it here. */
function intoLoads(
  producer: Kernel,
  list: KernelList,
  buffers: readonly Buffer[],
  options: FuseOptions,
): ReadonlyMap<Kernel, Kernel> | Refusal | undefined {
  const [store, another] = producer.stores;
  const readers = readersOf(producer, list, buffers);
  if (store === undefined || readers.length === 0) return undefined;
  if (another !== undefined) return "the producer has several results";
  const refusal = sharedRefusal(new Set([store.buffer]), producer, readers, list, buffers, options);
  if (refusal !== undefined) return refusal;
  if (store.guards.length > 0) return "the producer stores under a guard";
  const elements = product(bufferAt(buffers, store.buffer).shape);
  if (product(axisSizes(producer)) !== elements) return "the producer writes a part of its result only";
  const cost = costOf(producer, buffers);
  const result = new Map<Kernel, Kernel>();
  for (const reader of readers) {
    const places = reader.loads.filter(({ buffer }) => buffer === store.buffer).length;
    const reads = (product(axisSizes(reader)) * places) / elements;
    const once = readers.length === 1 && reads <= 1 && classify(reader, buffers) === undefined;
    if (!once && cost > CHEAP) return `it would be recomputed ${reads.toPrecision(3)} times at a cost of ${cost}`;
    const fused = inlineProducer(producer, reader, buffers, options);
    if (typeof fused === "string") return fused;
    result.set(reader, fused);
  }
  return result;
}

function inlineProducer(
  producer: Kernel,
  reader: Kernel,
  buffers: readonly Buffer[],
  options: FuseOptions,
): Kernel | Refusal {
  const [store] = producer.stores;
  if (store === undefined) return "the producer stores nothing";
  if (reader.inner !== undefined) return "attention reads it once for every tile";
  const sizes = axisSizes(reader);
  const all = producer.axes.map((_, a) => a);
  const loads: Load[] = [];
  const values: Scalar[] = [];
  for (const load of reader.loads) {
    if (load.buffer !== store.buffer) {
      values.push({ kind: "load", index: addLoad(loads, load) });
      continue;
    }
    const axes =
      invert(store.index, axisSizes(producer), all, load.index, sizes) ??
      invert([offsetOf(producer, buffers, store)], axisSizes(producer), all, [offsetOf(reader, buffers, load)], sizes);
    if (axes === undefined) return "the index maps do not fit";
    const otherwise = load.guards.length === 0 ? 0 : guardedValue(producer, store.value, load.otherwise);
    if (otherwise === undefined) return `it is padded with ${load.otherwise}, which the producer cannot give`;
    const inner = producer.loads.map((l): Scalar => {
      const moved = substituteLoad(l, axes, sizes);
      const guarded = load.guards.length === 0 ? moved : { ...moved, guards: load.guards, otherwise };
      return { kind: "load", index: addLoad(loads, guarded) };
    });
    values.push(...rewriteScalars([store.value], inlining(inner, axes, sizes)));
  }
  const same = reader.axes.map((_, a) => axis(a));
  const fused: Kernel = {
    ...withScalars(reader, inlining(values, same, sizes)),
    name: `${producer.name}+${reader.name.split(".").at(-1)}`,
    loads,
    layers: [...new Set([...producer.layers, ...reader.layers])],
  };
  if (isAffineKernel(reader, buffers) && !isAffineKernel(fused, buffers)) return "its addresses would need divisions";
  const again = reader.loads.filter((load) => load.buffer === store.buffer).length > 1;
  if ((again || classify(reader, buffers) !== undefined) && isTurned(producer, reader, fused, buffers)) {
    return `the ${again ? "reader" : "product"} would read across memory`;
  }
  return accept(fused, reader, buffers, options);
}

/** Whether `reader` reads a long run of the producer's result, and `fused` reads what the producer reads across it. */
function isTurned(producer: Kernel, reader: Kernel, fused: Kernel, buffers: readonly Buffer[]): boolean {
  const written = new Set(producer.stores.map((store) => store.buffer));
  const source = new Set(producer.loads.map((load) => load.buffer));
  return reader.loads.some((load) => {
    const run = written.has(load.buffer) ? runOf(offsetOf(reader, buffers, load)) : undefined;
    if (run === undefined || (reader.axes[run]?.size ?? 1) < LONG_RUN) return false;
    return fused.loads.some((other) => {
      const stride = source.has(other.buffer) ? strideOf(offsetOf(fused, buffers, other), run) : 0;
      return stride === undefined || stride > 1;
    });
  });
}

/**
 * A number which, read for all of the producer's loads, makes its result `wanted`: what its loads give where the
 * reader's guard fails. Undefined if neither `wanted` itself nor 0 does.
 */
function guardedValue(producer: Kernel, value: Scalar, wanted: number): number | undefined {
  let plain = producer.loads.every((load) => load.guards.length === 0);
  visitScalar(value, (node) => {
    if (node.kind === "axis" || node.kind === "random") plain = false;
  });
  if (!plain) return undefined;
  const nothing = (): number => 0;
  const gives = (x: number): number =>
    evaluateScalar(value, { load: () => x, state: nothing, axis: nothing, random: nothing });
  return [wanted, 0].find((x) => gives(x) === wanted);
}

/** Operations of the store, and for every load after the first 4, or 1 if it is small beside the result. */
function costOf(kernel: Kernel, buffers: readonly Buffer[]): number {
  let cost = 0;
  for (const store of kernel.stores) {
    visitScalar(store.value, (node) => {
      if (node.kind === "unary") cost += UNARY[node.fn].cost;
      if (node.kind === "binary") cost += BINARY[node.fn].cost;
      if (node.kind === "select") cost += 1;
      if (node.kind === "random") cost += DRAW_COST;
    });
  }
  const points = product(axisSizes(kernel));
  const small = kernel.loads.filter((load) => elementCount(bufferAt(buffers, load.buffer)) * 8 <= points).length;
  return cost + small + 4 * Math.max(0, kernel.loads.length - small - 1);
}
