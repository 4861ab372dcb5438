/**
 * Packing: weights in the order in which a matrix product reads them.
 *
 * The right operand of a contraction, where it is a parameter or a constant, is written once into panels of columns (see
 * `Layout` in loops.ts), K in the order of the product's own K axes. A load kernel does it, so that fusion joins it with
 * whatever else is done to the weights. Weights that are being learned change with every run: where there are rows enough
 * to make up for it, they are packed in every run, just before their first use; and again before a use that comes much
 * later, as where a checkpointed region is computed again, for panels take as much memory as the weights themselves.
 */
import { type Scalar, unary } from "../scalar.ts";
import { bufferAt, loadAt, loadAxes, offsetOf } from "./access.ts";
import { axis, constant, equal, flatten, key, strideOf } from "./affine.ts";
import { canonical, reindex } from "./build.ts";
import { classify } from "./contraction.ts";
import type { Draft } from "./draft.ts";
import { elementCount } from "./layout.ts";
import type { Affine, Axis, Buffer, Kernel } from "./loops.ts";

/** Rows from which on packing learned weights in every run is worth its trip through memory. */
const LEAST_ROWS = 64;

/** Kernels for which the panels of learned weights are kept in case that they are read again. */
const KEPT_FOR = 32;

/**
 * Rows from which on an activation is packed for all tiles of a product together, instead of by each tile of rows for
 * itself.
 */
const SHARED_ROWS = 128;

/** What is packed besides weights of state, and what is not. */
export interface PackOptions {
  /** Fixed weights that lie along K stay as they are where fewer rows are multiplied with them; 1 if not given. */
  readonly packFrom?: number | undefined;
  /** Also pack what else many rows are multiplied with. */
  readonly packActivations?: boolean | undefined;
  /** Panels of what is rounded to halves are made of halves, where a device reads those as well. */
  readonly halfPanels?: boolean | undefined;
}

/** The draft with every right operand that is a weight packed into panels of `width` columns. */
export function packWeights(draft: Draft, width: number, options: PackOptions): Draft {
  const buffers = [...draft.buffers];
  const load = [...draft.load];
  const packed = new Map<string, { readonly buffer: Buffer; lastRead: number }>();
  const run = draft.run.flatMap((kernel, position) => {
    const plan = planOf(kernel, buffers, options);
    if (plan === undefined) return [kernel];
    const source = bufferAt(buffers, plan.load.buffer);
    const learned = source.role !== "param" && source.role !== "constant";
    const candidate: Buffer = {
      id: buffers.length,
      name: `${source.name}.packed`,
      shape: plan.shape,
      dtype: plan.rounded && options.halfPanels === true ? "f16" : source.dtype,
      layout: { kind: "panels", width },
      role: learned ? "activation" : "constant",
    };
    const made = packing(kernel, plan, candidate);
    const now: Kernel[] = [];
    const identity = [source.id, plan.rounded, ...made.loads.flatMap((l) => l.index.map(key)), ...plan.shape].join();
    const known = packed.get(identity);
    const kept = known !== undefined && (!learned || position - known.lastRead <= KEPT_FOR) ? known : undefined;
    if (kept === undefined) {
      buffers.push(candidate);
      if (!plan.rounded && isPacked(made, buffers, source)) {
        buffers.pop();
        return [kernel];
      }
      packed.set(identity, { buffer: candidate, lastRead: position });
      (learned ? now : load).push(canonical(made, buffers));
    }
    if (kept !== undefined) kept.lastRead = position;
    const target = kept?.buffer ?? candidate;
    const read = { buffer: target.id, index: plan.index, guards: [], otherwise: 0 };
    const loads = kernel.loads.map((old, i) => (i === plan.at ? read : old));
    return [...now, { ...kernel, loads, body: plan.body }];
  });
  return { ...draft, buffers, load, run };
}

interface PackPlan {
  /** Number of the load that is packed. */
  readonly at: number;
  readonly load: Kernel["loads"][number];
  /** Whether halves are packed, and what the kernel's body is once they are. */
  readonly rounded: boolean;
  readonly body: Kernel["body"];
  /** Axes of the kernel it runs over: batch, then N, then K. */
  readonly axes: readonly number[];
  /** [...batch, N, K], and the place of each in terms of the kernel's axes. */
  readonly shape: readonly number[];
  readonly index: readonly Affine[];
}

function planOf(
  kernel: Kernel,
  buffers: readonly Buffer[],
  { packFrom = 1, packActivations = false }: PackOptions,
): PackPlan | undefined {
  const contraction = classify(kernel, buffers);
  const at = contraction?.right.plain ?? contraction?.right.rounded;
  if (contraction === undefined || at === undefined) return undefined;
  const rounded = contraction.right.rounded !== undefined;
  const load = loadAt(kernel, at);
  const { role, dtype } = bufferAt(buffers, load.buffer);
  const { m } = contraction.sizes;
  const fixed = role === "param" || role === "constant";
  const learned = role === "state" && m >= LEAST_ROWS;
  // Panels are read in place, which halves are not.
  const passing = packActivations && (role === "activation" || role === "input") && m >= SHARED_ROWS && dtype === "f32";
  if ((!fixed && !learned && !passing) || load.guards.length > 0) return undefined;
  const inner = contraction.k.at(-1);
  const alongK = inner !== undefined && strideOf(offsetOf(kernel, buffers, load), inner) === 1;
  if (m < packFrom && alongK) return undefined;
  const read = loadAxes(load);
  const batch = contraction.batch.filter((a) => read.includes(a));
  const { n, k } = contraction;
  const extents = kernel.axes.map((a) => a.size);
  const sizes = (axes: readonly number[]): number[] => axes.map((a) => extents[a] ?? 1);
  const flat = (axes: readonly number[]): Affine =>
    flatten(
      axes.map((a) => axis(a)),
      sizes(axes),
      extents,
    );
  return {
    at,
    load,
    rounded,
    body: rounded ? withoutRounding(kernel.body, contraction.right.value, at) : kernel.body,
    axes: [...batch, ...n, ...k],
    shape: [...sizes(batch), contraction.sizes.n, contraction.sizes.k],
    index: [...batch.map((a) => axis(a)), flat(n), flat(k)],
  };
}

/** The body of a product whose factor `right`, a rounded load, is rounded where it is read from. */
function withoutRounding(body: Kernel["body"], right: Scalar, load: number): Kernel["body"] {
  const plain = (factor: Scalar): Scalar => (factor === right ? { kind: "load", index: load } : factor);
  return body.map((s) => (s.kind === "binary" ? { ...s, left: plain(s.left), right: plain(s.right) } : s));
}

/** The kernel that packs: a copy over batch, N and K. */
function packing(kernel: Kernel, plan: PackPlan, target: Buffer): Kernel {
  const axes: Axis[] = plan.axes.map((a) => kernel.axes[a] ?? { name: "", size: 1 });
  const replacements = kernel.axes.map((_, a) => (plan.axes.includes(a) ? axis(plan.axes.indexOf(a)) : constant(0)));
  const load: Scalar = { kind: "load", index: 0 };
  const value = plan.rounded ? unary("half", load) : load;
  const copy: Kernel = {
    name: `${target.name.replace(/\.packed$/, "")}.pack`,
    axes: kernel.axes,
    loads: [plan.load],
    body: [],
    reduce: undefined,
    stores: [{ buffer: target.id, index: plan.index, guards: [], value }],
    layers: kernel.layers,
    macs: 0,
  };
  return reindex(copy, axes, replacements);
}

/** Whether the source already lies as the packed buffer would. */
function isPacked(made: Kernel, buffers: readonly Buffer[], source: Buffer): boolean {
  const [store] = made.stores;
  if (store === undefined) return false;
  const target = bufferAt(buffers, store.buffer);
  const same = equal(offsetOf(made, buffers, loadAt(made, 0)), offsetOf(made, buffers, store));
  return same && elementCount(source) === elementCount(target);
}
