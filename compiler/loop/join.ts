/**
 * Joining reductions: several sums over the same data become one kernel, and a maximum joins the search for its place.
 *
 * In: kernels in the order of their execution, fused. Out: the same, with reductions over axes of the same sizes that
 * share a load joined, where nothing between them needs the results of the first; the data is then read once for all of
 * them. The gradient of a batch norm asks for sums over its input and what flows back; that of a max pool for the places
 * of the maxima that the forward pass finds. Products are left alone: their schedules are worth more than one reading.
 */
import { axisSizes, boundBuffers, outputAxes } from "./access.ts";
import { addLoad, loadKey, withScalars } from "./build.ts";
import { classify } from "./contraction.ts";
import type { Decision } from "./fuse.ts";
import { KernelList } from "./kernel-list.ts";
import { product } from "./layout.ts";
import type { Buffer, Kernel, Load, ReducerName } from "./loops.ts";

/** Sums of so many values at once, by their number. */
const SUMS: readonly (ReducerName | undefined)[] = [undefined, "sum", "sum2", "sum3", "sum4"];

/** Points from which on reading the data once is worth a wider kernel. */
const LEAST_POINTS = 64;

/** @param maxBindings buffers a kernel may bind */
export function joinReductions(
  kernels: readonly Kernel[],
  buffers: readonly Buffer[],
  maxBindings: number,
): { readonly kernels: readonly Kernel[]; readonly decisions: readonly Decision[] } {
  const list = new KernelList(kernels);
  const decisions: Decision[] = [];
  for (const kernel of kernels) {
    let later = kernel;
    if (!isJoinable(later, buffers)) continue;
    for (const earlier of list.sorted(later.loads.flatMap((load) => list.readers(load.buffer)))) {
      if (!list.has(earlier) || !list.isBefore(earlier, later) || !isJoinable(earlier, buffers)) continue;
      const joined = join(earlier, later, maxBindings);
      const place = joined === undefined ? undefined : placeOf(earlier, later, list);
      if (joined === undefined || place === undefined) continue;
      decisions.push({ kernel: earlier.name, other: later.name, fused: true, reason: "into one reduction" });
      list.remove(place === earlier ? later : earlier);
      list.replace(place, joined);
      later = joined;
      // At the place of the earlier kernel it is no longer behind those that the loop still has to see.
      if (place === earlier) break;
    }
  }
  return { kernels: list.inOrder(), decisions };
}

function isJoinable(kernel: Kernel, buffers: readonly Buffer[]): boolean {
  const { reduce } = kernel;
  if (reduce === undefined || kernel.inner !== undefined || product(axisSizes(kernel)) < LEAST_POINTS) return false;
  return reduce === "max" || reduce === "argmax" || (SUMS.includes(reduce) && classify(kernel, buffers) === undefined);
}

/** Whose place a joined kernel can take: all it reads is there, and nobody has needed its results before. */
export function placeOf(earlier: Kernel, later: Kernel, list: KernelList): Kernel | undefined {
  const between = (kernel: Kernel): boolean => list.isBetween(kernel, earlier, later);
  const touched = (kernel: Kernel): readonly Kernel[] => kernel.stores.flatMap(({ buffer }) => list.readers(buffer));
  const sources = (kernel: Kernel): readonly Kernel[] => kernel.loads.flatMap(({ buffer }) => list.writers(buffer));
  const depends = sources(later).includes(earlier);
  if (depends) return undefined;
  if (!touched(earlier).some(between) && !sources(earlier).some(between)) return later;
  return sources(later).some(between) ? undefined : earlier;
}

/** Both kernels as one, if they walk the same box and share what they read. */
function join(first: Kernel, second: Kernel, maxBindings: number): Kernel | undefined {
  if (!sameBox(first, second)) return undefined;
  const known = new Set(first.loads.map(loadKey));
  if (!second.loads.some((load) => known.has(loadKey(load)) && isLong(load, second))) return undefined;
  const loads: Load[] = [...first.loads];
  const moved = second.loads.map((load) => addLoad(loads, load));
  const shift = first.reduce !== undefined && SUMS.includes(first.reduce) ? first.body.length : 0;
  const other = withScalars(second, {
    load: (index) => ({ kind: "load", index: moved[index] ?? 0 }),
    state: (index) => ({ kind: "state", index: index + shift }),
    axis: (axis) => ({ kind: "axis", axis }),
    random: (draw, counters) => ({ ...draw, counters }),
  });
  const reduction = joinedReduction(first, other);
  if (reduction === undefined) return undefined;
  const joined: Kernel = {
    ...first,
    ...reduction,
    name: `${first.name}+${second.name.split(".").at(-1)}`,
    loads,
    stores: [...first.stores, ...other.stores],
    layers: [...new Set([...first.layers, ...second.layers])],
  };
  return boundBuffers(joined).length > maxBindings ? undefined : joined;
}

/** What both reduce, over the same loads. The place of a maximum has the maximum beside it, as its first state. */
function joinedReduction(first: Kernel, second: Kernel): Pick<Kernel, "reduce" | "body"> | undefined {
  const isSum = ({ reduce }: Kernel): boolean => reduce !== undefined && SUMS.includes(reduce);
  if (isSum(first) && isSum(second)) {
    const reduce = SUMS[first.body.length + second.body.length];
    return reduce && { reduce, body: [...first.body, ...second.body] };
  }
  // Both are written over the same loads, so that equal scalars are written alike.
  if (JSON.stringify(first.body[0]) !== JSON.stringify(second.body[0])) return undefined;
  const pair = [first, second];
  const place = pair.find(({ reduce }) => reduce === "argmax");
  const other = pair.find((kernel) => kernel !== place);
  return place !== undefined && other?.reduce === "max" ? { reduce: "argmax", body: place.body } : undefined;
}

/** Axes of the same sizes in the same order, of which the same are reduced. */
function sameBox(first: Kernel, second: Kernel): boolean {
  return axisSizes(first).join() === axisSizes(second).join() && outputAxes(first).join() === outputAxes(second).join();
}

/** Whether a load walks through more than the results have. */
function isLong(load: Load, kernel: Kernel): boolean {
  const axes = new Set(outputAxes(kernel));
  return load.index.some(({ terms }) => terms.some(({ atom }) => atom.kind !== "axis" || !axes.has(atom.axis)));
}
