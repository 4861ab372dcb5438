/**
 * Lowering of reductions and of what is built on them: pooling, reduce, softmax, layer norm.
 *
 * Padding under a maximum is the lowest f32 (LOWEST), as are masked logits; a window that meets only padding cannot
 * occur, for shape checking keeps pads below half the window.
 */
import type { GraphNode } from "../graph/graph.ts";
import type { Scalar } from "../scalar.ts";
import { binary, LOWEST, num, unary } from "../scalar.ts";
import { add, constant, scale } from "./affine.ts";
import { affineScalar, type Builder, kernelBuilder, type Value, viewOf } from "./build.ts";
import { axisNames, type Context, entry, knownShape, type Lowering, layersOf, nameOf, operand } from "./context.ts";
import { product } from "./layout.ts";
import type { Affine } from "./loops.ts";
import { mapKernel } from "./lower-maps.ts";

const STATE: Scalar = { kind: "state", index: 0 };

// -------------------------------------------------------------------------------------------------------------- pooling

type Pooling = {
  readonly k: readonly [number, number];
  readonly stride: readonly [number, number];
  readonly pad: readonly [number, number];
};

interface Window {
  readonly builder: Builder;
  /** The input element under the window, `otherwise` where the window hangs over the edge. */
  readonly element: Scalar;
  /** Of the result. */
  readonly index: readonly Affine[];
  /** Input row and column of the window's first element. */
  readonly origin: readonly [Affine, Affine];
  /** Row and column within the window. */
  readonly tap: readonly [Affine, Affine];
}

function window(node: GraphNode, context: Context, { k, stride, pad }: Pooling, otherwise: number): Window {
  const [height, width] = knownShape(operand(node, 0)).slice(2);
  const shape = knownShape(node);
  const builder = kernelBuilder(context.buffers);
  const n = builder.axis("n", entry(shape, 0));
  const c = builder.axis("c", entry(shape, 1));
  const h = builder.axis("h", entry(shape, 2));
  const w = builder.axis("w", entry(shape, 3));
  const kh = builder.axis("kh", k[0]);
  const kw = builder.axis("kw", k[1]);
  const origin = [add(scale(h, stride[0]), constant(-pad[0])), add(scale(w, stride[1]), constant(-pad[1]))] as const;
  const row = add(origin[0], kh);
  const column = add(origin[1], kw);
  const guards = [
    { index: row, size: height ?? 0 },
    { index: column, size: width ?? 0 },
  ];
  const element = builder.load(context.value(operand(node, 0)), [n, c, row, column], guards, otherwise);
  return { builder, element, index: [n, c, h, w], origin, tap: [kh, kw] };
}

function finishPool(
  node: GraphNode,
  context: Context,
  at: Window,
  name: string,
  reduce: { readonly by: "max" | "sum" | "argmax"; readonly body: readonly Scalar[] },
  value: Scalar,
): Value {
  const out = context.allocate({
    name,
    shape: knownShape(node),
    dtype: node.dtype,
    from: node.inputs.map(context.value),
    like: "channels-last",
  });
  at.builder.store(out, at.index, value);
  context.emit(at.builder.finish({ name, layers: layersOf(node), reduce }));
  return viewOf(out);
}

export const lowerMaxPool2d: Lowering<"max_pool2d"> = (node, context) => {
  const at = window(node, context, node.attrs, LOWEST);
  return finishPool(node, context, at, nameOf(node, "max_pool"), { by: "max", body: [at.element] }, STATE);
};

/** The reducer takes the smaller of the positions of equal elements: the first in row-major order. */
export const lowerMaxPool2dIndex: Lowering<"max_pool2d_index"> = (node, context) => {
  const at = window(node, context, node.attrs, LOWEST);
  const position = affineScalar(add(scale(at.tap[0], node.attrs.k[1]), at.tap[1]));
  const reduce = { by: "argmax", body: [at.element, position] } as const;
  return finishPool(node, context, at, nameOf(node, "max_pool_index"), reduce, { kind: "state", index: 1 });
};

/** How many of the `extent` elements from `origin` on lie in an axis of this size. */
export function insideWindow(origin: Affine, extent: number, size: number): Scalar {
  const start = affineScalar(origin);
  const end = binary("min", binary("add", start, num(extent)), num(size));
  return binary("sub", end, binary("max", start, num(0)));
}

/** The divisor counts the whole window, or (`countPad` off) only its elements inside the input. */
export const lowerAvgPool2d: Lowering<"avg_pool2d"> = (node, context) => {
  const { k, pad, countPad } = node.attrs;
  const at = window(node, context, node.attrs, 0);
  const [height, width] = knownShape(operand(node, 0)).slice(2);
  const whole = countPad || (pad[0] === 0 && pad[1] === 0);
  const divided = whole
    ? binary("mul", STATE, num(1 / (k[0] * k[1])))
    : binary(
        "div",
        STATE,
        binary("mul", insideWindow(at.origin[0], k[0], height ?? 0), insideWindow(at.origin[1], k[1], width ?? 0)),
      );
  return finishPool(node, context, at, nameOf(node, "avg_pool"), { by: "sum", body: [at.element] }, divided);
};

// --------------------------------------------------------------------------------------------------------------- reduce

/** Reduces `axes` of `x`; the state's components, finished by `values`, go to buffers of the shape without those axes. */
function reduceAxes(
  node: GraphNode,
  context: Context,
  what: {
    readonly x: GraphNode;
    readonly axes: readonly number[];
    readonly keep: boolean;
    readonly by: "sum" | "max" | "min" | "softmax";
    readonly label: string;
    /** What is reduced, from the element and its index. */
    readonly body?: (element: Scalar, builder: Builder, index: readonly Affine[]) => Scalar;
    /** One stored value for each result. */
    readonly values: readonly Scalar[];
    readonly names: readonly string[];
  },
): readonly Value[] {
  const { x, axes, keep } = what;
  const shape = knownShape(x);
  const value = context.value(x);
  const builder = kernelBuilder(context.buffers);
  const index = shape.map((size, d) => builder.axis(entry(axisNames(shape.length), d), size));
  const element = builder.load(value, index);
  const kept = (list: readonly Affine[], one: Affine): Affine[] =>
    list.flatMap((part, d) => (axes.includes(d) ? (keep ? [one] : []) : [part]));
  const outIndex = kept(index, constant(0));
  const outShape = shape.flatMap((size, d) => (axes.includes(d) ? (keep ? [1] : []) : [size]));
  const outs = what.values.map((stored, i) => {
    const out = context.allocate({
      name: nameOf(node, entry(what.names, i)),
      shape: outShape,
      dtype: node.dtype,
      from: [value],
      ...(outShape.length === 4 ? { like: "channels-last" } : {}),
    });
    builder.store(out, outIndex, stored);
    return viewOf(out);
  });
  const body = what.body?.(element, builder, index) ?? element;
  const name = nameOf(node, what.label);
  context.emit(builder.finish({ name, layers: layersOf(node), reduce: { by: what.by, body: [body] } }));
  return outs;
}

export const lowerReduce: Lowering<"reduce"> = (node, context) => {
  const { fn, axes, keep } = node.attrs;
  const x = operand(node, 0);
  const count = product(axes.map((d) => entry(knownShape(x), d)));
  const value = fn === "mean" ? binary("mul", STATE, num(1 / count)) : STATE;
  const by = fn === "mean" ? "sum" : fn;
  const whole = context.value(x);
  // One number everywhere: nothing to run over.
  if (whole.kind === "literal") return { ...whole, value: fn === "sum" ? whole.value * count : whole.value };
  return entry(reduceAxes(node, context, { x, axes, keep, by, label: fn, values: [value], names: [fn] }), 0);
};

/** Two kernels: the row's (m, 1/s) in one pass, then e^(x-m) · 1/s. */
export const lowerSoftmax: Lowering<"softmax"> = (node, context) => {
  const x = operand(node, 0);
  const axes = [node.attrs.axis];
  const values = [STATE, binary("div", num(1), { kind: "state", index: 1 })];
  const names = ["softmax.max", "softmax.scale"];
  const state = reduceAxes(node, context, {
    x,
    axes,
    keep: false,
    by: "softmax",
    label: "softmax.state",
    values,
    names,
  });
  return mapKernel(node, context, "softmax", [x], ([element], builder, index) => {
    const row = index.filter((_, d) => d !== node.attrs.axis);
    const shifted = binary("sub", element, builder.load(entry(state, 0), row));
    return binary("mul", unary("exp", shifted), builder.load(entry(state, 1), row));
  });
};

/** Mean, then variance about it (two passes lose no digits), then (x - mean)/√(var + eps) · weight + bias. */
export const lowerLayerNorm: Lowering<"layer_norm"> = (node, context) => {
  const x = operand(node, 0);
  const shape = knownShape(x);
  const last = shape.length - 1;
  const average = binary("mul", STATE, num(1 / entry(shape, last)));
  const common = { x, axes: [last], keep: false, by: "sum", values: [average] } as const;
  const mean = entry(reduceAxes(node, context, { ...common, label: "mean", names: ["mean"] }), 0);
  const centred = (element: Scalar, builder: Builder, index: readonly Affine[]): Scalar =>
    binary("sub", element, builder.load(mean, index.slice(0, -1)));
  const variance = entry(
    reduceAxes(node, context, {
      ...common,
      label: "variance",
      names: ["variance"],
      body: (element, builder, index) => {
        const difference = centred(element, builder, index);
        return binary("mul", difference, difference);
      },
    }),
    0,
  );
  return mapKernel(node, context, "layer_norm", [x], ([element], builder, index) => {
    const spread = binary("add", builder.load(variance, index.slice(0, -1)), num(node.attrs.eps));
    const normal = binary("mul", centred(element, builder, index), unary("rsqrt", spread));
    const channel = [entry(index, last)];
    const weighted = binary("mul", normal, builder.load(context.value(operand(node, 1)), channel));
    return binary("add", weighted, builder.load(context.value(operand(node, 2)), channel));
  });
};
