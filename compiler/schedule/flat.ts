/**
 * From logical indices to addresses.
 *
 * A schedule cares for addresses, not for dimensions. `flatten` rewrites a kernel so that every load and store has one
 * index, the offset in its buffer, and joins neighbouring axes that run through memory as one (a pointwise kernel over
 * [N,H,W,C] has a single axis afterwards), which leaves fewer divisions to decode an invocation's number.
 */
import { axisSizes, offsetOf } from "../loop/access.ts";
import { axesOf, strideOf } from "../loop/affine.ts";
import { mergeAxes } from "../loop/build.ts";
import { elementCount } from "../loop/layout.ts";
import type { Affine, Buffer, Kernel } from "../loop/loops.ts";

/** A kernel whose buffers are one-dimensional: each load and store has one index, the element's offset. */
export interface Flat {
  readonly kernel: Kernel;
  /** Indexed like `Loops.buffers`, for questions of ../loop/access.ts. */
  readonly buffers: readonly Buffer[];
}

/** `kernel` over one-dimensional buffers, with as few axes as its addresses allow. */
export function flatten(kernel: Kernel, buffers: readonly Buffer[]): Flat {
  const flat = buffers.map((b): Buffer => ({ ...b, shape: [elementCount(b)], layout: { kind: "rows", order: [0] } }));
  const addressed: Kernel = {
    ...kernel,
    loads: kernel.loads.map((load) => ({ ...load, index: [offsetOf(kernel, buffers, load)] })),
    stores: kernel.stores.map((store) => ({ ...store, index: [offsetOf(kernel, buffers, store)] })),
  };
  return { kernel: mergeAxes(addressed, flat), buffers: flat };
}

/** The offset of a load or store of a flat kernel. */
export function addressOf(access: { readonly index: readonly Affine[] }): Affine {
  const [address] = access.index;
  if (address === undefined || access.index.length !== 1) throw new Error("internal: the kernel is not flat");
  return address;
}

/**
 * How four neighbours along an axis lie in memory: one aligned vec4, one element for all, or four elements with
 * addresses and guards of their own.
 */
export type LaneAccess = "vector" | "broadcast" | "gather";

/** How lanes along `axis` are reached, where the coordinate of lane 0 is a multiple of four. */
export function laneAccess(
  flat: Flat,
  access: Kernel["loads"][number] | Kernel["stores"][number],
  axis: number,
): LaneAccess {
  const address = addressOf(access);
  if (access.guards.some((g) => axesOf(g.index).includes(axis))) return "gather";
  if (!axesOf(address).includes(axis)) return "broadcast";
  const size = flat.buffers[access.buffer]?.shape[0] ?? 0;
  const aligned =
    size % 4 === 0 &&
    address.constant % 4 === 0 &&
    address.terms.every(
      ({ coefficient, atom }) => (atom.kind === "axis" && atom.axis === axis) || coefficient % 4 === 0,
    );
  return aligned && strideOf(address, axis) === 1 ? "vector" : "gather";
}

/** Extents of the given axes. */
export function extentsOf(kernel: Kernel, axes: readonly number[]): readonly number[] {
  const sizes = axisSizes(kernel);
  return axes.map((axis) => sizes[axis] ?? 1);
}
