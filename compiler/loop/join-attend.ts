/**
 * Joining kernels of attention that make the same scores.
 *
 * In: fused kernels in the order of their execution. Out: the same, with two kinds of pairs as one kernel each, so that
 * the scores are computed once for both: the forward pass with the logarithms of its rows' sums, which only the backward
 * pass asks for, and the gradients by keys and by values, where both are equally wide. Lowering gives axes that are the
 * same the same names (lower-attend.ts); here loads are compared over axes matched by name.
 */
import { rewriteScalars, type Scalar } from "../scalar.ts";
import { axisSizes, boundBuffers, loadAt, loadAxes, outputAxes } from "./access.ts";
import { axesOf, axis } from "./affine.ts";
import { addLoad, loadKey, reindex, withScalars } from "./build.ts";
import type { Decision } from "./fuse.ts";
import { placeOf } from "./join.ts";
import { KernelList } from "./kernel-list.ts";
import { product } from "./layout.ts";
import type { InnerSum, Kernel, Load, Store } from "./loops.ts";

/** @param maxBindings buffers a kernel may bind */
export function joinAttention(
  kernels: readonly Kernel[],
  maxBindings: number,
): { readonly kernels: readonly Kernel[]; readonly decisions: readonly Decision[] } {
  if (kernels.every(({ inner }) => inner === undefined)) return { kernels, decisions: [] };
  const list = new KernelList(kernels);
  const decisions: Decision[] = [];
  for (const later of kernels) {
    if (later.inner === undefined) continue;
    const candidates = list.sorted(later.loads.flatMap((load) => list.readers(load.buffer)));
    for (const earlier of candidates) {
      if (earlier.inner === undefined || !list.has(later) || !list.isBefore(earlier, later)) continue;
      const joined = joinPair(earlier, later);
      if (joined === undefined || boundBuffers(joined).length > maxBindings) continue;
      const place = placeOf(earlier, later, list);
      if (place === undefined) continue;
      decisions.push({ kernel: earlier.name, other: later.name, fused: true, reason: "they share their scores" });
      list.remove(place === earlier ? later : earlier);
      list.replace(place, joined);
      break;
    }
  }
  return { kernels: list.inOrder(), decisions };
}

function joinPair(earlier: Kernel, later: Kernel): Kernel | undefined {
  if (earlier.reduce === "attend" && later.reduce === "softmax") return withLogarithms(earlier, later);
  return earlier.reduce === "sum" && later.reduce === "sum" ? bothGradients(earlier, later) : undefined;
}

/** `kernel` over the axes of `onto`, matched by name; undefined if one is missing there. */
function over(kernel: Kernel, onto: Kernel): Kernel | undefined {
  const found = kernel.axes.map(({ name, size }) =>
    onto.axes.findIndex((other) => other.name === name && other.size === size),
  );
  if (found.includes(-1)) return undefined;
  return reindex(
    kernel,
    onto.axes,
    found.map((at) => axis(at)),
  );
}

/** Both kernels' loads, and the second with its scalars in terms of them. */
interface Combined {
  readonly loads: readonly Load[];
  readonly second: Kernel;
}

function combine(first: Kernel, second: Kernel): Combined {
  const loads = [...first.loads];
  const moved = second.loads.map((load) => addLoad(loads, load));
  const renamed = withScalars(second, {
    load: (index) => ({ kind: "load", index: moved[index] ?? 0 }),
    state: (index) => ({ kind: "state", index }),
    axis: (at) => ({ kind: "axis", axis: at }),
    random: (draw, counters) => ({ ...draw, counters }),
  });
  return { loads, second: renamed };
}

const text = (value: unknown): string => JSON.stringify(value);

/** Equal for inner sums over the same loads, of kernels whose loads are numbered alike. */
function sumKey({ axes, value }: InnerSum): string {
  return `${[...axes].sort((a, b) => a - b).join()} ${text(value)}`;
}

function named(first: Kernel, second: Kernel): Pick<Kernel, "name" | "layers"> {
  return {
    name: `${first.name}+${second.name.split(".").at(-1)}`,
    layers: [...new Set([...first.layers, ...second.layers])],
  };
}

/** The forward pass that also stores what `log` does, once a row: where the features are at their first. */
function withLogarithms(forward: Kernel, log: Kernel): Kernel | undefined {
  const there = over(log, forward);
  const known = new Set(forward.loads.map(loadKey));
  if (there === undefined || !there.loads.every((load) => known.has(loadKey(load)))) return undefined;
  const { loads, second } = combine(forward, there);
  if (text(second.inner?.map(sumKey)) !== text(forward.inner?.map(sumKey))) return undefined;
  if (text(second.body[0]) !== text(forward.body[0])) return undefined;
  const stores = second.stores.map((store): Store => {
    const own = new Set(store.index.flatMap(axesOf));
    const left = outputAxes(forward).filter((at) => !own.has(at));
    return { ...store, guards: [...store.guards, ...left.map((at) => ({ index: axis(at), size: 1 }))] };
  });
  return { ...forward, ...named(forward, log), loads, stores: [...forward.stores, ...stores] };
}

/** Two sums of weights made of the same scores, of which either may need more scores than the other. */
function bothGradients(first: Kernel, second: Kernel): Kernel | undefined {
  // The axes are those of the one with more of them.
  const [wide, narrow] = (second.inner?.length ?? 0) > (first.inner?.length ?? 0) ? [second, first] : [first, second];
  const there = over(narrow, wide);
  if (there === undefined || outputAxes(there).join() !== outputAxes(wide).join()) return undefined;
  const { loads, second: other } = combine(wide, there);
  const inner = [...(wide.inner ?? [])];
  const keys = inner.map(sumKey);
  const shared = (other.inner ?? []).filter((sum) => keys.includes(sumKey(sum)));
  if (shared.length === 0) return undefined;
  const places = (other.inner ?? []).map((sum) => {
    const at = keys.indexOf(sumKey(sum));
    return at >= 0 ? at : inner.push(sum) - 1;
  });
  const added = other.body.map((value) => withStates(value, (index) => places[index] ?? 0));
  const stores = other.stores.map((store) => ({
    ...store,
    value: withStates(store.value, (i) => i + wide.body.length),
  }));
  // What is shared is multiplied once.
  const sizes = axisSizes({ ...wide, loads });
  const saved = shared.map((sum) => product(sumAxes(sum, { ...wide, loads }).map((at) => sizes[at] ?? 1)));
  return {
    ...wide,
    ...named(first, second),
    loads,
    inner,
    body: [...wide.body, ...added],
    reduce: "sum2",
    stores: [...wide.stores, ...stores],
    macs: wide.macs + narrow.macs - saved.reduce((a, b) => a + b, 0),
  };
}

/** All axes that an inner sum's loads mention. */
function sumAxes({ value }: InnerSum, kernel: Kernel): readonly number[] {
  const sides = value.kind === "binary" ? [value.left, value.right] : [];
  const loads = sides.flatMap((side) => (side.kind === "load" ? [loadAt(kernel, side.index)] : []));
  return [...new Set(loads.flatMap(loadAxes))];
}

function withStates(value: Scalar, to: (index: number) => number): Scalar {
  const [made = value] = rewriteScalars([value], {
    load: (index) => ({ kind: "load", index }),
    state: (index) => ({ kind: "state", index: to(index) }),
    axis: (at) => ({ kind: "axis", axis: at }),
    random: (draw, counters) => ({ ...draw, counters }),
  });
  return made;
}
