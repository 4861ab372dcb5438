/**
 * Long sums with few results, in parts.
 *
 * A CPU shares a kernel's results among its threads, so the sum of a whole batch for sixteen channels, or the gradient of
 * a few weights, would keep one thread busy. In: a draft. Out: such sums as two kernels, one that sums every part of the
 * outer reduction axes into a buffer of its own, and one that adds the parts up and does what the kernel did with the
 * sum. The parts follow from sizes alone, so results are equal on any number of threads.
 */
import { axisSizes, bufferAt, loadAt, loadsOf, outputAxes, reductionAxes } from "./access.ts";
import { add, axis, scale } from "./affine.ts";
import { canonical, reindex, withScalars } from "./build.ts";
import { classify } from "./contraction.ts";
import type { Draft } from "./draft.ts";
import { product, rowMajor } from "./layout.ts";
import type { Affine, Axis, Buffer, Kernel, ReducerName } from "./loops.ts";

/** Parts that a sum is cut into at most, and terms that a part has at least. */
const MOST_PARTS = 16;
const LEAST_TERMS = 256;
/** Points below which a second kernel costs more than it wins. */
const LEAST_POINTS = 65536;
/** Results above which there is enough to share. */
const MOST_RESULTS = 256;
/** Tasks wanted of a product, and the tile that is taken for one. */
const TASKS = 32;
const TILE_M = 32;
const TILE_N = 128;

const SUMS: ReadonlySet<ReducerName> = new Set(["sum", "sum2", "sum3", "sum4"]);

/** The draft with long sums of its run in parts. */
export function sumInParts(draft: Draft): Draft {
  const buffers = [...draft.buffers];
  const run = draft.run.flatMap((kernel) => {
    const cuts = cutsOf(kernel, buffers);
    return cuts.length === 0 ? [kernel] : inParts(kernel, cuts, buffers);
  });
  return { ...draft, buffers, run };
}

/** A reduction axis, and the parts it is cut into: a divisor of its size. */
interface Cut {
  readonly axis: number;
  readonly parts: number;
}

function cutsOf(kernel: Kernel, buffers: readonly Buffer[]): readonly Cut[] {
  if (kernel.reduce === undefined || !SUMS.has(kernel.reduce) || kernel.inner !== undefined) return [];
  const sizes = axisSizes(kernel);
  const reduced = reductionAxes(kernel);
  const terms = product(reduced.map((a) => sizes[a] ?? 1));
  const results = product(outputAxes(kernel).map((a) => sizes[a] ?? 1));
  if (terms * results < LEAST_POINTS) return [];
  const contraction = classify(kernel, buffers);
  let most = Math.min(MOST_PARTS, Math.floor(terms / LEAST_TERMS));
  if (contraction !== undefined) {
    // Packed weights are read as they lie, whole columns at a time.
    if (contraction.right.loads.some((i) => isPacked(kernel, i, buffers))) return [];
    const { batch, m, n } = contraction.sizes;
    most = Math.min(most, Math.ceil(TASKS / (batch * Math.ceil(m / TILE_M) * Math.ceil(n / TILE_N))));
  } else if (results > MOST_RESULTS) return [];
  const cuts: Cut[] = [];
  for (const at of reduced) {
    const size = sizes[at] ?? 1;
    const parts = greatestDivisor(size, most);
    if (parts > 1) cuts.push({ axis: at, parts });
    most = Math.floor(most / parts);
    // Behind an axis that stays in one piece nothing is cut: parts are runs of memory.
    if (parts < size) break;
  }
  return cuts;
}

function isPacked(kernel: Kernel, load: number, buffers: readonly Buffer[]): boolean {
  return bufferAt(buffers, loadAt(kernel, load).buffer).layout.kind === "panels";
}

function greatestDivisor(size: number, most: number): number {
  for (let divisor = Math.min(size, most); divisor > 1; divisor--) if (size % divisor === 0) return divisor;
  return 1;
}

function inParts(kernel: Kernel, cuts: readonly Cut[], buffers: Buffer[]): readonly Kernel[] {
  const { reduce } = kernel;
  if (reduce === undefined) throw new Error(`internal: ${kernel.name} reduces nothing`);
  const outputs = outputAxes(kernel);
  const at = (a: number): Axis => kernel.axes[a] ?? { name: "", size: 1 };
  const shape = [...cuts.map(({ parts }) => parts), ...outputs.map((a) => at(a).size)];
  const partial = kernel.body.map((_, i): Buffer => {
    const name = `${kernel.name}.parts${kernel.body.length > 1 ? i : ""}`;
    const buffer: Buffer = {
      id: buffers.length,
      name,
      shape,
      dtype: "f32",
      layout: rowMajor(shape.length),
      role: "activation",
    };
    buffers.push(buffer);
    return buffer;
  });

  // The axes of the parts come first, then the kernel's own, the cut ones shorter.
  const shorter = kernel.axes.map((a, i): Axis => {
    const cut = cuts.find(({ axis: cutAxis }) => cutAxis === i);
    return cut === undefined ? a : { name: a.name, size: a.size / cut.parts };
  });
  const axes = [...cuts.map((cut): Axis => ({ name: `${at(cut.axis).name}p`, size: cut.parts })), ...shorter];
  const own = (a: number): Affine => axis(cuts.length + a);
  const moved = reindex(
    kernel,
    axes,
    kernel.axes.map((_, i) => {
      const cut = cuts.findIndex(({ axis: cutAxis }) => cutAxis === i);
      return cut < 0 ? own(i) : add(scale(axis(cut), shorter[i]?.size ?? 1), own(i));
    }),
  );
  const index = [...cuts.map((_, i) => axis(i)), ...outputs.map(own)];
  const parts: Kernel = {
    ...moved,
    ...onlyLoads(moved, moved.body),
    name: `${kernel.name}.parts`,
    stores: partial.map(({ id }, i) => ({ buffer: id, index, guards: [], value: { kind: "state", index: i } })),
  };

  // What is left runs over the results and the parts.
  const short = kernel.axes.map((a, i): Axis => (outputs.includes(i) ? a : { name: a.name, size: 1 }));
  const last = [...short, ...cuts.map((cut): Axis => ({ name: `${at(cut.axis).name}p`, size: cut.parts }))];
  const place = [...cuts.map((_, i) => axis(kernel.axes.length + i)), ...outputs.map((a) => axis(a))];
  const read = partial.map(({ id }) => ({ buffer: id, index: place, guards: [], otherwise: 0 }));
  const rest = onlyLoads(
    { ...kernel, body: [] },
    kernel.stores.map(({ value }) => value),
  );
  const total: Kernel = {
    ...kernel,
    ...rest,
    axes: last,
    loads: [...rest.loads, ...read],
    body: read.map((_, i) => ({ kind: "load", index: rest.loads.length + i })),
    macs: 0,
  };
  return [canonical(parts, buffers), canonical(total, buffers)];
}

/** The kernel with the loads alone that some of its scalars mention. */
function onlyLoads(
  kernel: Kernel,
  scalars: readonly Kernel["body"][number][],
): Pick<Kernel, "loads" | "body" | "stores"> {
  const kept = loadsOf(...scalars);
  const { body, stores } = withScalars(kernel, {
    load: (index) => ({ kind: "load", index: kept.indexOf(index) }),
    state: (index) => ({ kind: "state", index }),
    axis: (number) => ({ kind: "axis", axis: number }),
    random: (draw, counters) => ({ ...draw, counters }),
  });
  return { loads: kept.flatMap((index) => kernel.loads[index] ?? []), body, stores };
}
