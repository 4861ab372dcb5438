/**
 * Lowering of the gradients of convolutions and pools: nests that gather.
 *
 * An output (oh, ow) of a window operator reads the inputs i = o·s - p + k·d. Backward, an input gathers from the outputs
 * that read it: o = (i + p - k·d)/s, where that is whole. Whether it is whole depends on i mod s alone, so each spatial
 * axis is cut into its s phases i = i₀ + s·q, and for one phase the taps k that fit form an arithmetic progression on
 * which o is linear in q. The s×s pairs of phases are kernels of their own, each writing its lattice of the image: no
 * division and no test of divisibility is left, nothing scatters, and together they do as many products as the forward
 * pass. With stride 1 there is one phase and one kernel.
 */
import type { GraphNode } from "../graph/graph.ts";
import type { Scalar } from "../scalar.ts";
import { binary, num, select } from "../scalar.ts";
import { add, constant, scale } from "./affine.ts";
import { affineScalar, type Builder, kernelBuilder, type Value, viewOf } from "./build.ts";
import { type Context, entry, knownShape, type Lowering, layersOf, nameOf, operand } from "./context.ts";
import { product } from "./layout.ts";
import type { Affine, Guard } from "./loops.ts";
import { bufferedView } from "./lower-maps.ts";
import { insideWindow } from "./lower-reductions.ts";

const SUM: Scalar = { kind: "state", index: 0 };

type Pair = readonly [number, number];

/**
 * Windows that lie side by side, as most pools have them, need no phases: each element is under one window, and one
 * kernel over windows and their taps writes the whole image.
 */
function isTiled({ size, k, stride, pad }: WindowAxis, outputs: number): boolean {
  return stride === k && pad === 0 && size === outputs * stride;
}

/** The elements i = start + stride·q of one axis, and the taps and outputs that they gather from. */
interface Phase {
  readonly start: number;
  readonly count: number;
  /** Taps k = first + step·j for 0 <= j < taps. */
  readonly taps: number;
  readonly first: number;
  readonly step: number;
  /** Tap j reads the output base + q - back·j. */
  readonly base: number;
  readonly back: number;
}

interface WindowAxis {
  /** Of the image. */
  readonly size: number;
  readonly k: number;
  readonly stride: number;
  readonly pad: number;
  readonly dilation: number;
}

function phasesOf({ size, k, stride, pad, dilation }: WindowAxis): readonly Phase[] {
  return Array.from({ length: Math.min(stride, size) }, (_, start): Phase => {
    const taps = Array.from({ length: k }, (_, tap) => tap).filter(
      (tap) => (start + pad - tap * dilation) % stride === 0,
    );
    const [first = 0, second = first + 1] = taps;
    const step = second - first;
    return {
      start,
      count: Math.ceil((size - start) / stride),
      taps: taps.length,
      first,
      step,
      base: (start + pad - first * dilation) / stride,
      back: taps.length > 1 ? (step * dilation) / stride : 0,
    };
  });
}

/** One pair of phases, while its kernel is built. */
interface Gather {
  readonly builder: Builder;
  readonly n: Affine;
  readonly group: Affine;
  /** Channel of the image within its group, and in all. */
  readonly inner: Affine;
  readonly channel: Affine;
  /** Row and column of the tap, of the output that it reads, and where that output exists. */
  readonly tap: readonly [Affine, Affine];
  readonly output: readonly [Affine, Affine];
  readonly guards: readonly Guard[];
}

/** What is summed over the taps, and over `terms` points of axes that were added. */
interface Term {
  readonly value: Scalar;
  readonly terms: number;
}

/**
 * The image that gathers `term` from its taps, one kernel for each pair of phases. Phases without taps, which no window
 * reaches, are zero.
 */
function gather(
  node: GraphNode,
  context: Context,
  what: {
    readonly label: string;
    readonly k: Pair;
    readonly windows: { readonly stride: Pair; readonly pad: Pair; readonly dilation?: Pair };
    /** Height and width of the outputs. */
    readonly outputs: Pair;
    readonly groups?: number;
    /** Whether an element takes one term from each window that covers it, in one channel: pools. */
    readonly tiles?: boolean;
    readonly countMacs?: boolean;
  },
  term: (at: Gather) => Term,
): Value {
  const { k, groups = 1 } = what;
  const { stride, pad, dilation = [1, 1] } = what.windows;
  const name = nameOf(node, what.label);
  const shape = knownShape(node);
  const channels = entry(shape, 1) / groups;
  const from = node.inputs.map(context.value);
  const out = context.allocate({ name, shape, dtype: node.dtype, from, like: "channels-last" });
  const windows = ([0, 1] as const).map((d): WindowAxis => {
    return { size: entry(shape, d + 2), k: k[d], stride: stride[d], pad: pad[d], dilation: dilation[d] };
  });
  if (what.tiles === true && windows.every((axis, d) => isTiled(axis, entry(what.outputs, d)))) {
    const builder = kernelBuilder(context.buffers);
    const n = builder.axis("n", entry(shape, 0));
    const h = builder.axis("h", what.outputs[0]);
    const jh = builder.axis("kh", k[0]);
    const w = builder.axis("w", what.outputs[1]);
    const jw = builder.axis("kw", k[1]);
    const channel = builder.axis("c", channels);
    const at = { builder, n, group: constant(0), inner: channel, channel, guards: [] };
    const { value } = term({ ...at, tap: [jh, jw], output: [h, w] });
    builder.store(out, [n, channel, add(scale(h, stride[0]), jh), add(scale(w, stride[1]), jw)], value);
    context.emit(builder.finish({ name, layers: layersOf(node) }));
    return viewOf(out);
  }
  const phases = (d: 0 | 1): readonly Phase[] => phasesOf(entry(windows, d));
  const pairs = phases(0).flatMap((row) => phases(1).map((column) => [row, column] as const));
  for (const [row, column] of pairs) {
    const builder = kernelBuilder(context.buffers);
    const n = builder.axis("n", entry(shape, 0));
    const h = builder.axis("h", row.count);
    const w = builder.axis("w", column.count);
    const group = builder.axis("g", groups);
    const inner = builder.axis("ci", channels);
    const channel = add(scale(group, channels), inner);
    const index = [n, channel, placeOf(row, stride[0], h), placeOf(column, stride[1], w)];
    const about = {
      name: pairs.length === 1 ? name : `${name}.${row.start}${column.start}`,
      layers: layersOf(node),
    };
    if (row.taps * column.taps === 0) {
      builder.store(out, index, num(0));
      context.emit(builder.finish(about));
      continue;
    }
    const [jh, jw] = [builder.axis("kh", row.taps), builder.axis("kw", column.taps)];
    const output = [outputOf(row, h, jh), outputOf(column, w, jw)] as const;
    const guards = output.map((part, d) => ({ index: part, size: what.outputs[d] ?? 0 }));
    const tap = [tapOf(row, jh), tapOf(column, jw)] as const;
    const { value, terms } = term({ builder, n, group, inner, channel, tap, output, guards });
    const summed = row.taps * column.taps * terms;
    if (summed === 1) {
      builder.store(out, index, value);
      context.emit(builder.finish(about));
    } else {
      const elements = product([entry(shape, 0), entry(shape, 1), row.count, column.count]);
      builder.store(out, index, SUM);
      const macs = what.countMacs === true ? elements * summed : 0;
      context.emit(builder.finish({ ...about, reduce: { by: "sum", body: [value] }, macs }));
    }
  }
  return viewOf(out);
}

function placeOf(phase: Phase, stride: number, q: Affine): Affine {
  return add(scale(q, stride), constant(phase.start));
}

function tapOf(phase: Phase, j: Affine): Affine {
  return add(scale(j, phase.step), constant(phase.first));
}

function outputOf(phase: Phase, q: Affine, j: Affine): Affine {
  return add(q, scale(j, -phase.back), constant(phase.base));
}

// ---------------------------------------------------------------------------------------------------------- convolution

/** dx[n, g·C'+c, i, j] = Σ dy[n, g·O'+o, oh, ow] · w[g·O'+o, c, kh, kw] over o and the taps. */
export const lowerConv2dInputGrad: Lowering<"conv2d_input_grad"> = (node, context) => {
  const [dy, weight] = [operand(node, 0), operand(node, 1)];
  const { groups } = node.attrs;
  const perGroup = entry(knownShape(weight), 0) / groups;
  const upstream = bufferedView(dy, context);
  const what = {
    label: "input_grad",
    k: plane(weight),
    windows: node.attrs,
    outputs: plane(dy),
    groups,
    countMacs: true,
  };
  return gather(node, context, what, ({ builder, n, group, inner, tap, output, guards }) => {
    const channel = add(scale(group, perGroup), builder.axis("co", perGroup));
    const left = builder.load(upstream, [n, channel, ...output], guards, 0);
    const right = builder.load(context.value(weight), [channel, inner, ...tap]);
    return { value: { kind: "binary", fn: "mul", left, right }, terms: perGroup };
  });
};

/**
 * dw[g·O'+o, c, kh, kw] = Σ x[n, g·C'+c, h·s+kh·d-p, w·s+kw·d-p] · dy[n, g·O'+o, h, w] over n, h and w: a product with
 * M = (kh, kw, c) and N = o, stored with o innermost, for that is how both factors lie.
 */
export const lowerConv2dWeightGrad: Lowering<"conv2d_weight_grad"> = (node, context) => {
  const { stride, pad, dilation, groups } = node.attrs;
  const [x, dy] = [operand(node, 0), operand(node, 1)];
  const shape = knownShape(node);
  const [height, width] = plane(x);
  const perGroup = entry(shape, 0) / groups;
  const image = bufferedView(x, context);
  const b = kernelBuilder(context.buffers);
  const g = b.axis("g", groups);
  const kh = b.axis("kh", entry(shape, 2));
  const kw = b.axis("kw", entry(shape, 3));
  const c = b.axis("ci", entry(shape, 1));
  const o = b.axis("co", perGroup);
  const n = b.axis("n", entry(knownShape(dy), 0));
  const h = b.axis("h", entry(knownShape(dy), 2));
  const w = b.axis("w", entry(knownShape(dy), 3));
  const row = add(scale(h, stride[0]), scale(kh, dilation[0]), constant(-pad[0]));
  const column = add(scale(w, stride[1]), scale(kw, dilation[1]), constant(-pad[1]));
  const guards = [
    { index: row, size: height },
    { index: column, size: width },
  ];
  const channel = add(scale(g, perGroup), o);
  const left = b.load(image, [n, add(scale(g, entry(shape, 1)), c), row, column], guards, 0);
  const right = b.load(context.value(dy), [n, channel, h, w]);
  const name = nameOf(node, "weight_grad");
  const from = node.inputs.map(context.value);
  const out = context.allocate({ name, shape, dtype: node.dtype, from, like: "filters-last" });
  b.store(out, [channel, c, kh, kw], SUM);
  const macs = product(shape) * product(plane(dy)) * entry(knownShape(dy), 0);
  const reduce = { by: "sum", body: [{ kind: "binary", fn: "mul", left, right }] } as const;
  context.emit(b.finish({ name, layers: layersOf(node), reduce, macs }));
  return viewOf(out);
};

// -------------------------------------------------------------------------------------------------------------- pooling

/** dx = Σ dy over the windows whose first maximum the element is: those whose index is the element's tap. */
export const lowerMaxPool2dGrad: Lowering<"max_pool2d_grad"> = (node, context) => {
  const [places, dy] = [bufferedView(operand(node, 0), context), bufferedView(operand(node, 1), context)];
  const { k } = node.attrs;
  const what = { label: "max_pool_grad", k, windows: node.attrs, outputs: plane(operand(node, 1)), tiles: true };
  return gather(node, context, what, ({ builder, n, channel, tap, output, guards }) => {
    const at = [n, channel, ...output];
    const own = affineScalar(add(scale(tap[0], k[1]), tap[1]));
    const value = builder.load(dy, at, guards, 0);
    return { value: select("eq", builder.load(places, at, guards, -1), own, value, num(0)), terms: 1 };
  });
};

/** dx = Σ dy / (elements of the window) over the windows that cover the element. */
export const lowerAvgPool2dGrad: Lowering<"avg_pool2d_grad"> = (node, context) => {
  const dy = bufferedView(operand(node, 0), context);
  const { k, stride, pad, countPad, size } = node.attrs;
  const whole = countPad || (pad[0] === 0 && pad[1] === 0);
  const what = { label: "avg_pool_grad", k, windows: node.attrs, outputs: plane(operand(node, 0)), tiles: true };
  return gather(node, context, what, ({ builder, n, channel, output, guards }) => {
    const value = builder.load(dy, [n, channel, ...output], guards, 0);
    if (whole) return { value: binary("mul", value, num(1 / (k[0] * k[1]))), terms: 1 };
    // Outputs that do not exist count as having one element: their zero must not be divided by zero.
    const along = (d: 0 | 1): Scalar =>
      binary("max", insideWindow(add(scale(output[d], stride[d]), constant(-pad[d])), k[d], size[d]), num(1));
    return { value: binary("div", value, binary("mul", along(0), along(1))), terms: 1 };
  });
};

/** Height and width of an image, or of the windows of weights. */
function plane(node: GraphNode): Pair {
  const shape = knownShape(node);
  return [entry(shape, 2), entry(shape, 3)];
}
