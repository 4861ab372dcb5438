/**
 * Lowering of what works element by element, of movements, and of the leaves of a graph.
 *
 * Movements (reshape, permute, slice) only compose views. An elementwise operator is one MAP kernel over the shape of its
 * result, laid out as its first operand of that shape is, so that fusion finds equal index maps on both sides.
 */
import type { GraphNode } from "../graph/graph.ts";
import { drawKey, UNIT } from "../random.ts";
import type { Scalar } from "../scalar.ts";
import { binary, LOWEST, num, select, unary } from "../scalar.ts";
import { isKnown } from "../size.ts";
import { add, axis, constant, flatten } from "./affine.ts";
import {
  affineScalar,
  type Builder,
  kernelBuilder,
  remap,
  reshapeValue,
  type Value,
  type View,
  viewOf,
} from "./build.ts";
import {
  axisNames,
  broadcastIndex,
  type Context,
  entry,
  knownShape,
  type Lowering,
  layersOf,
  nameOf,
  operand,
} from "./context.ts";
import type { Affine } from "./loops.ts";

/**
 * One kernel over the shape of `node`: `fn` takes the loaded operands, broadcast to that shape, to the element. Operands
 * that are all literals give a literal and no kernel.
 */
export function mapKernel(
  node: GraphNode,
  context: Context,
  label: string,
  operands: readonly GraphNode[],
  fn: (loaded: readonly [Scalar, ...Scalar[]], builder: Builder, index: readonly Affine[]) => Scalar,
): Value {
  const shape = knownShape(node);
  const values = operands.map(context.value);
  const builder = kernelBuilder(context.buffers);
  const index = shape.map((size, d) => builder.axis(entry(axisNames(shape.length), d), size));
  const [first, ...others] = operands.map((input, i) =>
    builder.load(entry(values, i), broadcastIndex(knownShape(input), index)),
  );
  if (first === undefined) throw new Error(`internal: ${node.op} without operands`);
  const result = fn([first, ...others], builder, index);
  if (result.kind === "const") return { kind: "literal", value: result.value };
  const name = nameOf(node, label);
  const like = values.find((value): value is View => value.kind === "view" && sameShape(value.shape, shape));
  const out = context.allocate({
    name,
    shape,
    dtype: node.dtype,
    from: node.inputs.map(context.value),
    ...(like === undefined ? {} : { like }),
  });
  builder.store(out, index, result);
  context.emit(builder.finish({ name, layers: layersOf(node) }));
  return viewOf(out);
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, d) => size === b[d]);
}

// ----------------------------------------------------------------------------------------------------------- elementwise

export const lowerUnary: Lowering<"unary"> = (node, context) =>
  mapKernel(node, context, node.attrs.fn, [operand(node, 0)], ([x]) => unary(node.attrs.fn, x));

export const lowerBinary: Lowering<"binary"> = (node, context) => {
  const { fn } = node.attrs;
  const [left, right] = [operand(node, 0), operand(node, 1)];
  const against = context.value(right);
  const relu = fn === "max" && against.kind === "literal" && against.value === 0;
  return mapKernel(node, context, relu ? "relu" : fn, [left, right], ([l, r]) => binary(fn, l, r ?? num(0)));
};

/**
 * x · scale + shift with stored statistics: what folding into weights has left over. `scale` = weight/√(var + eps) and
 * `shift` = bias - mean · scale are a kernel of their own, which runs once, when the weights arrive.
 */
export const lowerBatchNorm: Lowering<"batch_norm"> = (node, context) => {
  const channels = entry(knownShape(node), 1);
  const from = [1, 2, 3, 4].map((at) => context.value(operand(node, at)));
  const builder = kernelBuilder(context.buffers);
  const c = builder.axis("c", channels);
  const parameter = (at: number): Scalar => builder.load(entry(from, at), [c]);
  const spread = binary("add", parameter(3), num(node.attrs.eps));
  const factor = binary("mul", parameter(0), unary("rsqrt", spread));
  const offset = binary("sub", parameter(1), binary("mul", parameter(2), factor));
  const [scale, shift] = [["scale", factor] as const, ["shift", offset] as const].map(([part, value]) => {
    const name = nameOf(node, `batch_norm.${part}`);
    const buffer = context.allocate({ name, shape: [channels], dtype: node.dtype, from });
    builder.store(buffer, [c], value);
    return viewOf(buffer);
  });
  if (scale === undefined || shift === undefined) throw new Error("internal: batch_norm has a scale and a shift");
  context.emit(builder.finish({ name: nameOf(node, "batch_norm.fold"), layers: layersOf(node) }));
  return mapKernel(node, context, "batch_norm", [operand(node, 0)], ([x], map, index) => {
    const channel = [entry(index, 1)];
    return binary("add", binary("mul", x, map.load(scale, channel)), map.load(shift, channel));
  });
};

export const lowerSelect: Lowering<"select"> = (node, context) =>
  mapKernel(node, context, "select", node.inputs, ([left, right = num(0), then = num(0), otherwise = num(0)]) =>
    select(node.attrs.compare, left, right, then, otherwise),
  );

/** Column s of row t is masked (LOWEST) where s > t. */
export const lowerCausalMask: Lowering<"causal_mask"> = (node, context) =>
  mapKernel(node, context, "causal_mask", [operand(node, 0)], ([x], _, index) => {
    const row = affineScalar(entry(index, index.length - 2));
    const column = affineScalar(entry(index, index.length - 1));
    return select("le", column, row, x, num(LOWEST));
  });

/** A copy into a buffer of the new type, which is where rounding happens. */
export const lowerCast: Lowering<"cast"> = (node, context) => {
  const x = operand(node, 0);
  return x.dtype === node.dtype ? context.value(x) : mapKernel(node, context, "cast", [x], ([value]) => value);
};

export const lowerRecompute: Lowering<"recompute"> = (node, context) => context.value(operand(node, 0));

export const lowerDetach: Lowering<"detach"> = (node, context) => context.value(operand(node, 0));

/** x times 0 or 1/(1 - p). The mask belongs to the logical elements, however they lie in memory. */
export const lowerDropout: Lowering<"dropout"> = (node, context) => {
  const [x, counters] = [operand(node, 0), node.inputs[1]];
  const { p, path, use = 0 } = node.attrs;
  if (counters === undefined || p === 0) return context.value(x);
  const shape = knownShape(node);
  return mapKernel(node, context, "dropout", [x], ([value], builder, index) => {
    const counter = (at: number): Scalar => builder.load(context.value(counters), [constant(at)]);
    const draw: Scalar = {
      kind: "random",
      key: drawKey(path, use),
      element: flatten(index, shape, shape),
      counters: [counter(0), counter(1), counter(2)],
    };
    // A draw is a multiple of the unit: it is below p where it is below the next multiple, which an f32 holds exactly.
    const dropped = num(Math.ceil(p / UNIT) * UNIT);
    return binary("mul", value, select("lt", draw, dropped, num(0), num(1 / (1 - p))));
  });
};

/** The value in a buffer, for a load with guards: a literal would be itself outside of its bounds too. */
export function bufferedView(node: GraphNode, context: Context): View {
  const value = context.value(node);
  if (value.kind === "view") return value;
  const shape = knownShape(node);
  const name = nameOf(node, "filled");
  const filled = context.allocate({ name, shape, dtype: node.dtype, from: [] });
  const builder = kernelBuilder(context.buffers);
  const index = shape.map((size, d) => builder.axis(entry(axisNames(shape.length), d), size));
  builder.store(filled, index, num(value.value));
  context.emit(builder.finish({ name, layers: layersOf(node) }));
  return viewOf(filled);
}

// ------------------------------------------------------------------------------------------------------------- movements

export const lowerReshape: Lowering<"reshape"> = (node, context) =>
  reshapeValue(context.value(operand(node, 0)), knownShape(node));

export const lowerPermute: Lowering<"permute"> = (node, context) => {
  const { order } = node.attrs;
  const inner = order.map((_, d) => axis(order.indexOf(d)));
  return remap(context.value(operand(node, 0)), knownShape(node), inner);
};

export const lowerSlice: Lowering<"slice"> = (node, context) => {
  const { axis: along, start } = node.attrs;
  if (!isKnown(start)) throw new Error("internal: a slice starts at an unknown place");
  const shape = knownShape(node);
  const inner = shape.map((_, d) => (d === along ? add(axis(d), constant(start)) : axis(d)));
  return remap(context.value(operand(node, 0)), shape, inner);
};

/** A view that reads the same element again and again. */
export const lowerBroadcast: Lowering<"broadcast"> = (node, context) => {
  const x = operand(node, 0);
  const shape = knownShape(node);
  const index = shape.map((_, d) => axis(d));
  return remap(context.value(x), shape, broadcastIndex(knownShape(x), index));
};

export const lowerPad: Lowering<"pad"> = (node, context) => {
  const x = operand(node, 0);
  const value = bufferedView(x, context);
  const { axis: along, before } = node.attrs;
  const shape = knownShape(node);
  const name = nameOf(node, "pad");
  const builder = kernelBuilder(context.buffers);
  const index = shape.map((size, d) => builder.axis(entry(axisNames(shape.length), d), size));
  const inner = add(entry(index, along), constant(-before));
  const guards = [{ index: inner, size: entry(knownShape(x), along) }];
  const out = context.allocate({ name, shape, dtype: node.dtype, from: [value], like: value });
  builder.store(out, index, builder.load(value, index.with(along, inner), guards, 0));
  context.emit(builder.finish({ name, layers: layersOf(node) }));
  return viewOf(out);
};

/** One kernel for each part, writing its own slice of the result. */
export const lowerConcat: Lowering<"concat"> = (node, context) => {
  const along = node.attrs.axis;
  const values = node.inputs.map(context.value);
  const first = values.find((value): value is View => value.kind === "view");
  const name = nameOf(node, "concat");
  const out = context.allocate({
    name,
    shape: knownShape(node),
    dtype: node.dtype,
    from: values,
    ...(first === undefined ? {} : { like: first }),
  });
  let start = 0;
  node.inputs.forEach((input, part) => {
    const shape = knownShape(input);
    const builder = kernelBuilder(context.buffers);
    const index = shape.map((size, d) => builder.axis(entry(axisNames(shape.length), d), size));
    const value = builder.load(entry(values, part), index);
    const at = start;
    builder.store(
      out,
      index.map((i, d) => (d === along ? add(i, constant(at)) : i)),
      value,
    );
    context.emit(builder.finish({ name: `${name}.${part}`, layers: layersOf(node) }));
    start += entry(shape, along);
  });
  return viewOf(out);
};

// ---------------------------------------------------------------------------------------------------------------- leaves

export const lowerInput: Lowering<"input"> = (node, context) => viewOf(context.input(node.attrs.name, node));

export const lowerParam: Lowering<"param"> = (node, context) => viewOf(context.param(node));

export const lowerConstant: Lowering<"constant"> = (node) => ({ kind: "literal", value: node.attrs.value });
