/**
 * From logical indices to addresses.
 *
 * A schedule cares for addresses, not for dimensions. `flatten` rewrites a kernel so that every load and store has one
 * index, the offset in its buffer, and joins neighbouring axes that run through memory as one (a pointwise kernel over
 * [N,H,W,C] has a single axis afterwards), which leaves fewer divisions to decode an invocation's number.
 */
import { axisSizes, offsetOf, reductionAxes } from "../loop/access.ts";
import { axesOf, axis as axisIndex, floorDiv, mod, strideOf, substitute } from "../loop/affine.ts";
import { elementCount } from "../loop/layout.ts";
import type { Affine, Axis, Buffer, Guard, Kernel, Scalar } from "../loop/loops.ts";
import { rewriteScalar, visitScalar } from "../scalar.ts";

/** A kernel whose buffers are one-dimensional: each load and store has one index, the element's offset. */
export interface Flat {
  readonly kernel: Kernel;
  /** Indexed like `Loops.buffers`, for questions of ../loop/access.ts. */
  readonly buffers: readonly Buffer[];
}

/** `kernel` over one-dimensional buffers, with as few axes as its addresses allow. */
export function flatten(kernel: Kernel, buffers: readonly Buffer[]): Flat {
  const flat = buffers.map((b): Buffer => ({ ...b, shape: [elementCount(b)], layout: { kind: "rows", order: [0] } }));
  let current: Kernel = {
    ...kernel,
    loads: kernel.loads.map((load) => ({ ...load, index: [offsetOf(kernel, buffers, load)] })),
    stores: kernel.stores.map((store) => ({ ...store, index: [offsetOf(kernel, buffers, store)] })),
  };
  for (let inner = current.axes.length - 1; inner > 0; inner--) current = joined(current, inner) ?? current;
  return { kernel: current, buffers: flat };
}

/** `kernel` with axes inner-1 and inner joined; undefined where that would mix classes or cost a division. */
function joined(kernel: Kernel, inner: number): Kernel | undefined {
  const outer = kernel.axes[inner - 1];
  const last = kernel.axes[inner];
  if (outer === undefined || last === undefined) return undefined;
  const reduced = kernel.reduce === undefined ? [] : reductionAxes(kernel);
  if (reduced.includes(inner) !== reduced.includes(inner - 1)) return undefined;
  const scalars = [...kernel.body, ...kernel.stores.map((s) => s.value)];
  if (scalars.some((s) => mentionsAxis(s, inner - 1) || mentionsAxis(s, inner))) return undefined;

  const together: Axis = { name: `${outer.name}_${last.name}`, size: outer.size * last.size };
  const axes = [...kernel.axes.slice(0, inner - 1), together, ...kernel.axes.slice(inner + 1)];
  const sizes = axes.map((a) => a.size);
  const replacements = kernel.axes.map((_, i) => {
    if (i === inner - 1) return floorDiv(axisIndex(i), last.size, sizes);
    if (i === inner) return mod(axisIndex(i - 1), last.size, sizes);
    return axisIndex(i < inner ? i : i - 1);
  });
  let worse = false;
  const rewrite = (e: Affine): Affine => {
    const next = substitute(e, replacements, sizes);
    if (divisions(next) > divisions(e)) worse = true;
    return next;
  };
  const guards = (all: readonly Guard[]): readonly Guard[] => all.map((g) => ({ ...g, index: rewrite(g.index) }));
  const renumber = (scalar: Scalar): Scalar =>
    rewriteScalar(scalar, {
      load: (index) => ({ kind: "load", index }),
      state: (index) => ({ kind: "state", index }),
      axis: (axis) => ({ kind: "axis", axis: axis < inner ? axis : axis - 1 }),
    });
  const result: Kernel = {
    ...kernel,
    axes,
    loads: kernel.loads.map((l) => ({ ...l, index: l.index.map(rewrite), guards: guards(l.guards) })),
    body: kernel.body.map(renumber),
    stores: kernel.stores.map((s) => ({
      ...s,
      index: s.index.map(rewrite),
      guards: guards(s.guards),
      value: renumber(s.value),
    })),
  };
  return worse ? undefined : result;
}

function divisions(e: Affine): number {
  return e.terms.reduce((sum, { atom }) => sum + (atom.kind === "axis" ? 0 : 1 + divisions(atom.of)), 0);
}

function mentionsAxis(scalar: Scalar, axis: number): boolean {
  let found = false;
  visitScalar(scalar, (s) => {
    if (s.kind === "axis" && s.axis === axis) found = true;
  });
  return found;
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
