/**
 * The meaning of the tensor graph, spelled out: every operator as plain loops over row-major f64 arrays.
 *
 * This is an oracle. It shares no code with the compiler (not even the table of scalar functions), fuses nothing and
 * optimises nothing; it is for shapes of a few thousand elements whose sizes are all known. Float types of any width are
 * computed in f64. Batch norm uses its running statistics; dropout is the identity unless it has counters.
 */
import type { Graph, GraphNode, NodeOf, OpAttrs } from "../../compiler/graph/graph.ts";
import type { BinaryFn, CompareFn, TensorFn } from "../../compiler/scalar.ts";
import { isKnown } from "../../compiler/size.ts";
import { attention } from "./attend.ts";
import { uniformNumber } from "./philox.ts";
import { winograd, winogradGrad } from "./winograd.ts";

interface Tensor {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

/** The outputs of `graph`, in order. `inputs` by name, `params` by path, all row-major. */
export function evaluateGraph(
  graph: Graph,
  inputs: ReadonlyMap<string, Float64Array>,
  params: ReadonlyMap<string, Float64Array>,
): Float64Array[] {
  const values = new Map<GraphNode, Tensor>();
  const valueOf = (node: GraphNode): Tensor => some(values.get(node), `the value of node ${node.id}`);
  for (const node of graph.nodes) {
    const tensor = { shape: knownShape(node), data: compute(node, node.inputs.map(valueOf), inputs, params) };
    if (tensor.data.length !== count(tensor.shape)) {
      throw new Error(
        `node ${node.id} (${node.op}) has ${tensor.data.length} elements, ${count(tensor.shape)} were expected`,
      );
    }
    values.set(node, tensor);
  }
  return graph.outputs.map((o) => valueOf(o.node).data);
}

function compute(
  node: GraphNode,
  args: readonly Tensor[],
  inputs: ReadonlyMap<string, Float64Array>,
  params: ReadonlyMap<string, Float64Array>,
): Float64Array {
  const arg = (i: number): Tensor => some(args[i], `input ${i} of ${node.op}`);
  const shape = knownShape(node);
  switch (node.op) {
    case "input":
      return some(inputs.get(node.attrs.name), `input ${node.attrs.name}`);
    case "param":
      return some(params.get(node.attrs.path), `parameter ${node.attrs.path}`);
    case "constant":
      return Float64Array.of(node.attrs.value);
    case "conv2d":
      return conv2d(shape, arg(0), arg(1), args[2], node.attrs);
    case "conv2d_input_grad":
      return conv2dInputGrad(shape, arg(0), arg(1), node.attrs);
    case "conv2d_weight_grad":
      return conv2dWeightGrad(shape, arg(0), arg(1), node.attrs);
    case "winograd_input":
    case "winograd_weight":
    case "winograd_output":
      return winograd(node, arg(0), args[1]);
    case "winograd_output_grad":
    case "winograd_weight_grad":
      return winogradGrad(node, arg(0));
    case "linear":
      return linear(shape, arg(0), arg(1), args[2]);
    case "matmul":
      return matmul(shape, arg(0), arg(1));
    case "attend":
    case "attend_log_sum":
    case "attend_query_grad":
    case "attend_key_grad":
    case "attend_value_grad":
      return attention(node.op, node.attrs.scale, args);
    case "max_pool2d":
      return maxPool(shape, arg(0), node.attrs);
    case "max_pool2d_index":
      return maxPoolIndex(shape, arg(0), node.attrs);
    case "max_pool2d_grad":
      return maxPoolGrad(shape, arg(0), arg(1), node.attrs);
    case "avg_pool2d":
      return averagePool(shape, arg(0), node.attrs);
    case "avg_pool2d_grad":
      return averagePoolGrad(shape, arg(0), node.attrs);
    case "softmax":
      return softmax(arg(0), node.attrs.axis);
    case "batch_norm":
      return batchNorm(arg(0), arg(1), arg(2), arg(3), arg(4), node.attrs.eps);
    case "layer_norm":
      return layerNorm(arg(0), arg(1), arg(2), node.attrs.eps);
    case "reduce":
      return reduce(arg(0), node.attrs);
    case "unary":
      return arg(0).data.map(UNARY[node.attrs.fn]);
    case "binary":
      return binary(shape, arg(0), arg(1), BINARY[node.attrs.fn]);
    case "select": {
      const holds = COMPARE[node.attrs.compare];
      return fill(shape, (i) => {
        const chosen = holds(readBroadcast(arg(0), i), readBroadcast(arg(1), i)) ? arg(2) : arg(3);
        return readBroadcast(chosen, i);
      });
    }
    case "broadcast":
      return fill(shape, (i) => readBroadcast(arg(0), i));
    case "pad": {
      const { axis, before } = node.attrs;
      return fill(shape, (i) => {
        const from = at(i, axis) - before;
        return from < 0 || from >= at(arg(0).shape, axis) ? 0 : read(arg(0), i.with(axis, from));
      });
    }
    case "dropout":
      return dropout(arg(0), args[1], node.attrs);
    case "reshape":
    case "detach":
    case "recompute":
      return arg(0).data;
    case "permute":
      return permute(shape, arg(0), node.attrs.order);
    case "concat":
      return concat(shape, args, node.attrs.axis);
    case "slice":
      return slice(shape, arg(0), node.attrs);
    case "causal_mask":
      return fill(shape, (i) => {
        const [t, s] = [at(i, i.length - 2), at(i, i.length - 1)];
        return s > t ? Number.NEGATIVE_INFINITY : read(arg(0), i);
      });
    case "cast":
      return arg(0).data.map((x) => castTo(node, x));
    default:
      return node satisfies never;
  }
}

// ----------------------------------------------------------------------------------------------------------- operators

/** out[n,o,y,x] = b[o] + Σ over i, p, q of in[n, group·I + i, y·stride - pad + p·dilation, …] · w[o,i,p,q]. */
function conv2d(
  shape: readonly number[],
  x: Tensor,
  w: Tensor,
  b: Tensor | undefined,
  attrs: OpAttrs["conv2d"],
): Float64Array {
  const { stride, pad, dilation, groups } = attrs;
  const [outputs, inner, kh, kw] = [at(w.shape, 0), at(w.shape, 1), at(w.shape, 2), at(w.shape, 3)];
  return fill(shape, (index) => {
    const [n, o, y, z] = [at(index, 0), at(index, 1), at(index, 2), at(index, 3)];
    const group = Math.floor(o / (outputs / groups));
    let sum = b === undefined ? 0 : read(b, [o]);
    for (let i = 0; i < inner; i++) {
      for (let p = 0; p < kh; p++) {
        for (let q = 0; q < kw; q++) {
          const row = y * stride[0] - pad[0] + p * dilation[0];
          const column = z * stride[1] - pad[1] + q * dilation[1];
          if (row < 0 || row >= at(x.shape, 2) || column < 0 || column >= at(x.shape, 3)) continue;
          sum += read(x, [n, group * inner + i, row, column]) * read(w, [o, i, p, q]);
        }
      }
    }
    return sum;
  });
}

/** Every (output, weight, image) triple of a convolution: their indices, where the image element exists. */
function eachTap(
  dy: readonly number[],
  w: readonly number[],
  image: readonly number[],
  { stride, pad, dilation, groups }: OpAttrs["conv2d"],
  visit: (output: readonly number[], weight: readonly number[], element: readonly number[]) => void,
): void {
  eachIndex(dy, (output) => {
    const group = Math.floor(at(output, 1) / (at(w, 0) / groups));
    eachIndex(w.slice(1), (tap) => {
      const row = at(output, 2) * stride[0] - pad[0] + at(tap, 1) * dilation[0];
      const column = at(output, 3) * stride[1] - pad[1] + at(tap, 2) * dilation[1];
      if (row < 0 || row >= at(image, 2) || column < 0 || column >= at(image, 3)) return;
      visit(output, [at(output, 1), ...tap], [at(output, 0), group * at(w, 1) + at(tap, 0), row, column]);
    });
  });
}

/** The forward pass run backwards: every product scattered to where its other factor came from. */
function conv2dInputGrad(shape: readonly number[], dy: Tensor, w: Tensor, attrs: OpAttrs["conv2d"]): Float64Array {
  const data = new Float64Array(count(shape));
  eachTap(dy.shape, w.shape, shape, attrs, (output, weight, element) => {
    accumulate(data, offset(shape, element), read(dy, output) * read(w, weight));
  });
  return data;
}

function conv2dWeightGrad(shape: readonly number[], x: Tensor, dy: Tensor, attrs: OpAttrs["conv2d"]): Float64Array {
  const data = new Float64Array(count(shape));
  eachTap(dy.shape, shape, x.shape, attrs, (output, weight, element) => {
    accumulate(data, offset(shape, weight), read(dy, output) * read(x, element));
  });
  return data;
}

function accumulate(data: Float64Array, place: number, value: number): void {
  data[place] = (data[place] ?? Number.NaN) + value;
}

function linear(shape: readonly number[], x: Tensor, w: Tensor, b: Tensor | undefined): Float64Array {
  return fill(shape, (index) => {
    const o = at(index, index.length - 1);
    let sum = b === undefined ? 0 : read(b, [o]);
    for (let d = 0; d < at(w.shape, 1); d++) sum += read(x, [...index.slice(0, -1), d]) * read(w, [o, d]);
    return sum;
  });
}

function matmul(shape: readonly number[], a: Tensor, b: Tensor): Float64Array {
  return fill(shape, (index) => {
    const batch = index.slice(0, -2);
    const [m, p] = [at(index, index.length - 2), at(index, index.length - 1)];
    let sum = 0;
    for (let k = 0; k < at(a.shape, a.shape.length - 1); k++) {
      sum += readBroadcast(a, [...batch, m, k]) * readBroadcast(b, [...batch, k, p]);
    }
    return sum;
  });
}

/** An element of an image under a window, and its place there in row-major order. */
interface Covered {
  readonly element: readonly number[];
  readonly place: number;
}

/** The elements of the window at `index` that lie inside an image of this shape. */
function windowOf(image: readonly number[], index: readonly number[], attrs: OpAttrs["max_pool2d"]): Covered[] {
  const { k, stride, pad } = attrs;
  const found: Covered[] = [];
  for (let p = 0; p < k[0]; p++) {
    for (let q = 0; q < k[1]; q++) {
      const row = at(index, 2) * stride[0] - pad[0] + p;
      const column = at(index, 3) * stride[1] - pad[1] + q;
      if (row < 0 || row >= at(image, 2) || column < 0 || column >= at(image, 3)) continue;
      found.push({ element: [at(index, 0), at(index, 1), row, column], place: p * k[1] + q });
    }
  }
  return found;
}

/** Their values. */
function windowAt(x: Tensor, index: readonly number[], attrs: OpAttrs["max_pool2d"]): number[] {
  return windowOf(x.shape, index, attrs).map(({ element }) => read(x, element));
}

function maxPoolIndex(shape: readonly number[], x: Tensor, attrs: OpAttrs["max_pool2d"]): Float64Array {
  return fill(shape, (index) => {
    const inside = windowOf(x.shape, index, attrs);
    const greatest = Math.max(...inside.map(({ element }) => read(x, element)));
    return inside.find(({ element }) => read(x, element) === greatest)?.place ?? Number.NaN;
  });
}

function maxPoolGrad(shape: readonly number[], places: Tensor, dy: Tensor, attrs: OpAttrs["max_pool2d"]): Float64Array {
  const data = new Float64Array(count(shape));
  eachIndex(dy.shape, (index) => {
    const taken = windowOf(shape, index, attrs).find(({ place }) => place === read(places, index));
    if (taken !== undefined) accumulate(data, offset(shape, taken.element), read(dy, index));
  });
  return data;
}

function averagePoolGrad(shape: readonly number[], dy: Tensor, attrs: OpAttrs["avg_pool2d_grad"]): Float64Array {
  const data = new Float64Array(count(shape));
  eachIndex(dy.shape, (index) => {
    const inside = windowOf(shape, index, attrs);
    const share = read(dy, index) / (attrs.countPad ? attrs.k[0] * attrs.k[1] : inside.length);
    for (const { element } of inside) accumulate(data, offset(shape, element), share);
  });
  return data;
}

function maxPool(shape: readonly number[], x: Tensor, attrs: OpAttrs["max_pool2d"]): Float64Array {
  return fill(shape, (index) => Math.max(...windowAt(x, index, attrs)));
}

function averagePool(shape: readonly number[], x: Tensor, attrs: OpAttrs["avg_pool2d"]): Float64Array {
  return fill(shape, (index) => {
    const inside = windowAt(x, index, attrs);
    return total(inside) / (attrs.countPad ? attrs.k[0] * attrs.k[1] : inside.length);
  });
}

function softmax(x: Tensor, axis: number): Float64Array {
  return fill(x.shape, (index) => {
    const line = along(x, index, axis);
    const greatest = Math.max(...line);
    return Math.exp(read(x, index) - greatest) / total(line.map((v) => Math.exp(v - greatest)));
  });
}

function batchNorm(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: number): Float64Array {
  return fill(x.shape, (index) => {
    const c = [at(index, 1)];
    const normal = (read(x, index) - read(mean, c)) / Math.sqrt(read(variance, c) + eps);
    return normal * read(weight, c) + read(bias, c);
  });
}

function layerNorm(x: Tensor, weight: Tensor, bias: Tensor, eps: number): Float64Array {
  return fill(x.shape, (index) => {
    const line = along(x, index, x.shape.length - 1);
    const mean = total(line) / line.length;
    const variance = total(line.map((v) => (v - mean) ** 2)) / line.length;
    const d = [at(index, index.length - 1)];
    return ((read(x, index) - mean) / Math.sqrt(variance + eps)) * read(weight, d) + read(bias, d);
  });
}

function reduce(x: Tensor, { fn, axes }: OpAttrs["reduce"]): Float64Array {
  // Gather what falls onto each element of the result; whether axes are kept as 1 changes no element's place.
  const shape = x.shape.map((size, axis) => (axes.includes(axis) ? 1 : size));
  const groups = Array.from({ length: count(shape) }, (): number[] => []);
  eachIndex(x.shape, (index) => {
    const target = index.map((i, axis) => (axes.includes(axis) ? 0 : i));
    groups[offset(shape, target)]?.push(read(x, index));
  });
  return Float64Array.from(groups, (group) => {
    switch (fn) {
      case "sum":
        return total(group);
      case "mean":
        return total(group) / group.length;
      case "max":
        return Math.max(...group);
      case "min":
        return Math.min(...group);
      default:
        return fn satisfies never;
    }
  });
}

function binary(shape: readonly number[], a: Tensor, b: Tensor, fn: (x: number, y: number) => number): Float64Array {
  return fill(shape, (index) => fn(readBroadcast(a, index), readBroadcast(b, index)));
}

function permute(shape: readonly number[], x: Tensor, order: readonly number[]): Float64Array {
  return fill(shape, (index) => {
    const source = x.shape.map(() => 0);
    for (const [i, axis] of order.entries()) source[axis] = at(index, i);
    return read(x, source);
  });
}

function concat(shape: readonly number[], parts: readonly Tensor[], axis: number): Float64Array {
  return fill(shape, (index) => {
    let i = at(index, axis);
    for (const part of parts) {
      if (i < at(part.shape, axis)) return read(part, index.with(axis, i));
      i -= at(part.shape, axis);
    }
    throw new Error("an index lies behind the last part of a concat");
  });
}

function slice(shape: readonly number[], x: Tensor, { axis, start }: OpAttrs["slice"]): Float64Array {
  if (!isKnown(start)) throw new Error("the start of a slice is open");
  return fill(shape, (index) => read(x, index.with(axis, at(index, axis) + start)));
}

/** What is dropped is multiplied by 0, so that a NaN stays one. */
function dropout(x: Tensor, counters: Tensor | undefined, attrs: OpAttrs["dropout"]): Float64Array {
  if (counters === undefined) return x.data;
  const { p, path, use = 0 } = attrs;
  return x.data.map((value, i) => {
    const keep = uniformNumber(i, counters.data, path, use) >= p ? 1 : 0;
    return (value * keep) / (1 - p);
  });
}

function castTo({ attrs }: NodeOf<"cast">, x: number): number {
  if (attrs.dtype === "bool") return x === 0 ? 0 : 1;
  return /^[iu]/.test(attrs.dtype) ? Math.trunc(x) : x;
}

// ---------------------------------------------------------------------------------------------------- scalar functions

const UNARY: { readonly [K in TensorFn]: (x: number) => number } = {
  neg: (x) => -x,
  abs: Math.abs,
  exp: Math.exp,
  log: Math.log,
  sqrt: Math.sqrt,
  rsqrt: (x) => 1 / Math.sqrt(x),
  sin: Math.sin,
  cos: Math.cos,
  tanh: Math.tanh,
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  erf,
  floor: Math.floor,
  ceil: Math.ceil,
  is_finite: (x) => (x - x === 0 ? 1 : 0),
};

const BINARY: { readonly [K in BinaryFn]: (x: number, y: number) => number } = {
  add: (x, y) => x + y,
  sub: (x, y) => x - y,
  mul: (x, y) => x * y,
  div: (x, y) => x / y,
  max: Math.max,
  min: Math.min,
  pow: Math.pow,
};

const COMPARE: { readonly [K in CompareFn]: (x: number, y: number) => boolean } = {
  lt: (x, y) => x < y,
  le: (x, y) => x <= y,
  eq: (x, y) => x === y,
};

/** 2/√π · e^(-x²) · Σ 2ⁿx²ⁿ⁺¹ / (2n+1)!!, whose terms are all of one sign (Abramowitz & Stegun 7.1.6). */
function erf(x: number): number {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

// -------------------------------------------------------------------------------------------------- indices and shapes

function some<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new Error(`${what} is missing`);
  return value;
}

function at(list: readonly number[], i: number): number {
  const value = list[i];
  if (value === undefined) throw new Error(`[${list.join(", ")}] has no entry ${i}`);
  return value;
}

function knownShape(node: GraphNode): readonly number[] {
  const shape = node.shape.filter(isKnown);
  if (shape.length !== node.shape.length) throw new Error(`node ${node.id} has open sizes`);
  return shape;
}

function count(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

function total(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}

/** Row-major: the last axis is contiguous. */
function offset(shape: readonly number[], index: readonly number[]): number {
  return shape.reduce((sum, size, axis) => sum * size + at(index, axis), 0);
}

function eachIndex(shape: readonly number[], visit: (index: readonly number[]) => void): void {
  for (let flat = 0; flat < count(shape); flat++) {
    const index: number[] = [];
    let rest = flat;
    for (const size of shape.toReversed()) {
      index.unshift(rest % size);
      rest = Math.floor(rest / size);
    }
    visit(index);
  }
}

function fill(shape: readonly number[], value: (index: readonly number[]) => number): Float64Array {
  const data = new Float64Array(count(shape));
  eachIndex(shape, (index) => {
    data[offset(shape, index)] = value(index);
  });
  return data;
}

function read(x: Tensor, index: readonly number[]): number {
  const value = x.data[offset(x.shape, index)];
  if (value === undefined) throw new Error(`[${x.shape.join(", ")}] has no element [${index.join(", ")}]`);
  return value;
}

/** Reads at the last axes of `index`; axes of size 1 are stretched. */
function readBroadcast(x: Tensor, index: readonly number[]): number {
  const own = index.slice(index.length - x.shape.length);
  return read(
    x,
    own.map((i, axis) => (x.shape[axis] === 1 ? 0 : i)),
  );
}

/** The elements of the line through `index` along `axis`. */
function along(x: Tensor, index: readonly number[], axis: number): number[] {
  return Array.from({ length: at(x.shape, axis) }, (_, i) => read(x, index.with(axis, i)));
}
