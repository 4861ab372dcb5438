/**
 * Lowering of products: conv2d, linear, matmul. Each is one nest with a sum of products; the bias is added where the
 * finished sum is stored. Convolution is an implicit matrix product: nothing is unrolled into memory.
 */
import type { GraphNode } from "../graph/graph.ts";
import type { Scalar } from "../scalar.ts";
import { binary } from "../scalar.ts";
import { add, constant, scale } from "./affine.ts";
import { type Builder, kernelBuilder, type Value, viewOf } from "./build.ts";
import {
  broadcastIndex,
  type Context,
  entry,
  knownShape,
  type Lowering,
  layersOf,
  nameOf,
  operand,
} from "./context.ts";
import { product } from "./layout.ts";
import type { Affine } from "./loops.ts";

const SUM: Scalar = { kind: "state", index: 0 };

/** The sum, and the bias at `channel` if the node has a third input. */
function biased(bias: Scalar | undefined): Scalar {
  return bias === undefined ? SUM : binary("add", SUM, bias);
}

/**
 * y[n, g·O'+o, h, w] = b[g·O'+o] + Σ x[n, g·C'+c, h·s+kh·d-p, w·s+kw·d-p] · w[g·O'+o, c, kh, kw], outside of x zero;
 * g runs over groups, O' and C' are channels per group.
 */
export const lowerConv2d: Lowering<"conv2d"> = (node, context) => {
  const { stride, pad, dilation, groups } = node.attrs;
  const [x, w] = [operand(node, 0), operand(node, 1)];
  const [height, width] = [entry(knownShape(x), 2), entry(knownShape(x), 3)];
  const shape = knownShape(node);
  const channels = entry(knownShape(w), 1);
  const perGroup = entry(shape, 1) / groups;

  const b = kernelBuilder(context.buffers);
  const n = b.axis("n", entry(shape, 0));
  const h = b.axis("h", entry(shape, 2));
  const wi = b.axis("w", entry(shape, 3));
  const g = b.axis("g", groups);
  const o = b.axis("co", perGroup);
  const kh = b.axis("kh", entry(knownShape(w), 2));
  const kw = b.axis("kw", entry(knownShape(w), 3));
  const c = b.axis("ci", channels);
  const row = add(scale(h, stride[0]), scale(kh, dilation[0]), constant(-pad[0]));
  const column = add(scale(wi, stride[1]), scale(kw, dilation[1]), constant(-pad[1]));
  const channel = add(scale(g, perGroup), o);
  const guards = [
    { index: row, size: height },
    { index: column, size: width },
  ];
  const left = b.load(context.image(x), [n, add(scale(g, channels), c), row, column], guards, 0);
  const right = b.load(context.value(w), [channel, c, kh, kw]);
  return finishProduct(node, context, b, {
    name: nameOf(node, ""),
    index: [n, channel, h, wi],
    factors: [left, right],
    bias: optionalLoad(node, context, b, [channel]),
    terms: product(knownShape(w).slice(1)),
    like: "channels-last",
  });
};

/** y[..., o] = b[o] + Σ_d x[..., d] · w[o, d]. */
export const lowerLinear: Lowering<"linear"> = (node, context) => {
  const shape = knownShape(node);
  const depth = entry(knownShape(operand(node, 1)), 1);
  const b = kernelBuilder(context.buffers);
  const rows = shape.slice(0, -1).map((size, d) => b.axis(d === 0 ? "n" : `d${d}`, size));
  const o = b.axis("o", entry(shape, shape.length - 1));
  const k = b.axis("k", depth);
  const left = b.load(context.value(operand(node, 0)), [...rows, k]);
  const right = b.load(context.value(operand(node, 1)), [o, k]);
  return finishProduct(node, context, b, {
    name: nameOf(node, ""),
    index: [...rows, o],
    factors: [left, right],
    bias: optionalLoad(node, context, b, [o]),
    terms: depth,
  });
};

/** y[..., m, p] = Σ_k a[..., m, k] · b[..., k, p]; leading axes broadcast. */
export const lowerMatmul: Lowering<"matmul"> = (node, context) => {
  const shape = knownShape(node);
  const [a, second] = [operand(node, 0), operand(node, 1)];
  const [aShape, bShape] = [knownShape(a), knownShape(second)];
  const depth = entry(aShape, aShape.length - 1);
  const b = kernelBuilder(context.buffers);
  const batch = shape.slice(0, -2).map((size, d) => b.axis(`b${d}`, size));
  const m = b.axis("m", entry(shape, shape.length - 2));
  const p = b.axis("p", entry(shape, shape.length - 1));
  const k = b.axis("k", depth);
  const left = b.load(context.value(a), [...broadcastIndex(aShape.slice(0, -2), batch), m, k]);
  const right = b.load(context.value(second), [...broadcastIndex(bShape.slice(0, -2), batch), k, p]);
  return finishProduct(node, context, b, {
    name: nameOf(node, "matmul"),
    index: [...batch, m, p],
    factors: [left, right],
    bias: undefined,
    terms: depth,
  });
};

function optionalLoad(node: GraphNode, context: Context, b: Builder, index: readonly Affine[]): Scalar | undefined {
  const bias = node.inputs[2];
  return bias === undefined ? undefined : b.load(context.value(bias), index);
}

function finishProduct(
  node: GraphNode,
  context: Context,
  b: Builder,
  what: {
    readonly name: string;
    readonly index: readonly Affine[];
    readonly factors: readonly [Scalar, Scalar];
    readonly bias: Scalar | undefined;
    /** Products summed for each element of the result. */
    readonly terms: number;
    readonly like?: "channels-last";
  },
): Value {
  const shape = knownShape(node);
  const out = context.allocate({
    name: what.name === "" ? node.op : what.name,
    shape,
    dtype: node.dtype,
    from: node.inputs.map(context.value),
    ...(what.like === undefined ? {} : { like: what.like }),
  });
  b.store(out, what.index, biased(what.bias));
  const [left, right] = what.factors;
  context.emit(
    b.finish({
      name: out.name,
      layers: layersOf(node),
      reduce: { by: "sum", body: [{ kind: "binary", fn: "mul", left, right }] },
      macs: product(shape) * what.terms,
    }),
  );
  return viewOf(out);
}
