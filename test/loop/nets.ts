/**
 * Small graphs for tests of the loops, made node by node, and their values by direct definition.
 *
 * `evaluate` computes every node in f64 with row-major arrays and the plainest loops that can be written. It shares no code
 * with the compiler, so that agreement with the interpreter means something.
 */
import type { Graph, GraphNode, NodeOf, OpAttrs, OpName } from "../../compiler/graph/graph.ts";
import { UNARY } from "../../compiler/scalar.ts";

export interface Tensor {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

const INIT = { kind: "constant", value: 0 } as const;

/** Collects nodes in topological order. Shapes are computed here, as the checker would. */
export class Net {
  readonly nodes: GraphNode[] = [];
  private readonly outputs: { readonly name: string; readonly node: GraphNode }[] = [];
  private layer = "";

  /** Names the layer of the nodes that follow. */
  at(layer: string): this {
    this.layer = layer;
    return this;
  }

  private add<K extends OpName>(
    op: K,
    inputs: readonly GraphNode[],
    attrs: OpAttrs[K],
    shape: readonly number[],
  ): GraphNode {
    const node = { id: this.nodes.length, op, inputs, attrs, shape, dtype: "f32", layer: this.layer, origins: [] };
    this.nodes.push(node as unknown as GraphNode);
    return node as unknown as GraphNode;
  }

  input(name: string, shape: readonly number[]): GraphNode {
    return this.add("input", [], { name }, shape);
  }
  param(path: string, shape: readonly number[]): GraphNode {
    return this.add("param", [], { path, kind: "param", init: INIT }, shape);
  }
  constant(value: number): GraphNode {
    return this.add("constant", [], { value }, []);
  }
  conv2d(x: GraphNode, w: GraphNode, b: GraphNode | undefined, attrs: Partial<OpAttrs["conv2d"]> = {}): GraphNode {
    const full = { stride: [1, 1], pad: [0, 0], dilation: [1, 1], groups: 1, ...attrs } as const;
    const [n, , h, wi] = dims(x);
    const [o, , kh, kw] = dims(w);
    const out = (size: number, k: number, d: 0 | 1): number =>
      Math.floor((size + 2 * full.pad[d] - full.dilation[d] * (k - 1) - 1) / full.stride[d]) + 1;
    return this.add("conv2d", some(x, w, b), full, [n ?? 0, o ?? 0, out(h ?? 0, kh ?? 0, 0), out(wi ?? 0, kw ?? 0, 1)]);
  }
  linear(x: GraphNode, w: GraphNode, b?: GraphNode): GraphNode {
    return this.add("linear", some(x, w, b), {}, [...dims(x).slice(0, -1), dims(w)[0] ?? 0]);
  }
  matmul(a: GraphNode, b: GraphNode): GraphNode {
    const batch = broadcast(dims(a).slice(0, -2), dims(b).slice(0, -2));
    return this.add("matmul", [a, b], {}, [...batch, dims(a).at(-2) ?? 0, dims(b).at(-1) ?? 0]);
  }
  maxPool(x: GraphNode, k: Pair, stride: Pair, pad: Pair): GraphNode {
    return this.add("max_pool2d", [x], { k, stride, pad }, pooled(x, k, stride, pad));
  }
  avgPool(x: GraphNode, k: Pair, stride: Pair, pad: Pair, countPad: boolean): GraphNode {
    return this.add("avg_pool2d", [x], { k, stride, pad, countPad }, pooled(x, k, stride, pad));
  }
  softmax(x: GraphNode, axis: number): GraphNode {
    return this.add("softmax", [x], { axis }, dims(x));
  }
  batchNorm(x: GraphNode, params: readonly GraphNode[]): GraphNode {
    return this.add("batch_norm", [x, ...params], { eps: 1e-5, momentum: 0.1 }, dims(x));
  }
  layerNorm(x: GraphNode, weight: GraphNode, bias: GraphNode): GraphNode {
    return this.add("layer_norm", [x, weight, bias], { eps: 1e-5 }, dims(x));
  }
  reduce(x: GraphNode, fn: OpAttrs["reduce"]["fn"], axes: readonly number[], keep: boolean): GraphNode {
    const shape = dims(x).flatMap((size, d) => (axes.includes(d) ? (keep ? [1] : []) : [size]));
    return this.add("reduce", [x], { fn, axes, keep }, shape);
  }
  unary(fn: OpAttrs["unary"]["fn"], x: GraphNode): GraphNode {
    return this.add("unary", [x], { fn }, dims(x));
  }
  binary(fn: OpAttrs["binary"]["fn"], l: GraphNode, r: GraphNode): GraphNode {
    return this.add("binary", [l, r], { fn }, broadcast(dims(l), dims(r)));
  }
  relu(x: GraphNode): GraphNode {
    return this.binary("max", x, this.constant(0));
  }
  reshape(x: GraphNode, shape: readonly number[]): GraphNode {
    return this.add("reshape", [x], { shape }, shape);
  }
  permute(x: GraphNode, order: readonly number[]): GraphNode {
    return this.add(
      "permute",
      [x],
      { order },
      order.map((d) => dims(x)[d] ?? 0),
    );
  }
  concat(parts: readonly GraphNode[], axis: number): GraphNode {
    const total = parts.reduce((sum, part) => sum + (dims(part)[axis] ?? 0), 0);
    return this.add(
      "concat",
      parts,
      { axis },
      dims(parts[0] as GraphNode).map((s, d) => (d === axis ? total : s)),
    );
  }
  slice(x: GraphNode, axis: number, start: number, size: number): GraphNode {
    return this.add(
      "slice",
      [x],
      { axis, start, size },
      dims(x).map((s, d) => (d === axis ? size : s)),
    );
  }
  dropout(x: GraphNode): GraphNode {
    return this.add("dropout", [x], { p: 0.5, path: "drop" }, dims(x));
  }
  causalMask(x: GraphNode): GraphNode {
    return this.add("causal_mask", [x], {}, dims(x));
  }
  cast(x: GraphNode): GraphNode {
    return this.add("cast", [x], { dtype: "f32" }, dims(x));
  }
  output(name: string, node: GraphNode): this {
    this.outputs.push({ name, node });
    return this;
  }
  graph(name = "net"): Graph {
    const inputs = this.nodes.filter((node): node is NodeOf<"input"> => node.op === "input");
    return { name, nodes: this.nodes, inputs, outputs: this.outputs };
  }
}

type Pair = readonly [number, number];

export function dims(node: GraphNode): number[] {
  return node.shape.map(Number);
}

function some(...nodes: readonly (GraphNode | undefined)[]): GraphNode[] {
  return nodes.filter((node) => node !== undefined);
}

function broadcast(a: readonly number[], b: readonly number[]): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const [x, y] = [a[i - rank + a.length] ?? 1, b[i - rank + b.length] ?? 1];
    return x === 1 ? y : x;
  });
}

function pooled(x: GraphNode, k: Pair, stride: Pair, pad: Pair): number[] {
  const [n, c, h, w] = dims(x);
  const out = (size: number, d: 0 | 1): number => Math.floor((size + 2 * pad[d] - k[d]) / stride[d]) + 1;
  return [n ?? 0, c ?? 0, out(h ?? 0, 0), out(w ?? 0, 1)];
}

// -------------------------------------------------------------------------------------------------------------- values

/** Uniform numbers in [-1, 1) from a seed (mulberry32). */
export function random(seed: number): () => number {
  let s = seed >>> 0;
  return () => {
    s = (s + 0x6d2b79f5) >>> 0;
    let t = Math.imul(s ^ (s >>> 15), s | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2147483648 - 1;
  };
}

/** Values for every input and parameter; parameters called `…var` are positive. */
export function randomValues(
  graph: Graph,
  seed = 1,
): { inputs: Map<string, Float64Array>; params: Map<string, Float64Array> } {
  const next = random(seed);
  const inputs = new Map<string, Float64Array>();
  const params = new Map<string, Float64Array>();
  for (const node of graph.nodes) {
    const size = dims(node).reduce((a, b) => a * b, 1);
    if (node.op === "input") inputs.set(node.attrs.name, Float64Array.from({ length: size }, next));
    if (node.op === "param") {
      const positive = node.attrs.path.endsWith("var");
      params.set(
        node.attrs.path,
        Float64Array.from({ length: size }, () => (positive ? 1.5 + next() : next())),
      );
    }
  }
  return { inputs, params };
}

function make(shape: readonly number[], value: (index: readonly number[]) => number): Tensor {
  const data = new Float64Array(shape.reduce((a, b) => a * b, 1));
  const index = shape.map(() => 0);
  for (let i = 0; i < data.length; i++) {
    data[i] = value(index);
    for (let d = shape.length - 1; d >= 0; d--) {
      index[d] = (index[d] ?? 0) + 1;
      if ((index[d] ?? 0) < (shape[d] ?? 0)) break;
      index[d] = 0;
    }
  }
  return { shape, data };
}

function get({ shape, data }: Tensor, index: readonly number[]): number {
  const skip = index.length - shape.length;
  let at = 0;
  shape.forEach((size, d) => {
    at = at * size + (size === 1 ? 0 : (index[d + skip] ?? 0));
  });
  return data[at] ?? Number.NaN;
}

/** Every index of a box. */
function* box(shape: readonly number[]): Generator<number[]> {
  const total = shape.reduce((a, b) => a * b, 1);
  for (let i = 0; i < total; i++) {
    let rest = i;
    const index = shape.map(() => 0);
    for (let d = shape.length - 1; d >= 0; d--) {
      index[d] = rest % (shape[d] ?? 1);
      rest = Math.floor(rest / (shape[d] ?? 1));
    }
    yield index;
  }
}

/** The outputs of a graph. */
export function evaluate(
  graph: Graph,
  inputs: ReadonlyMap<string, Float64Array>,
  params: ReadonlyMap<string, Float64Array>,
): Map<string, Float64Array> {
  const values: Tensor[] = [];
  for (const node of graph.nodes) {
    const ins = node.inputs.map((input) => values[input.id] as Tensor);
    values.push(evaluateNode(node, ins, inputs, params));
  }
  return new Map(graph.outputs.map(({ name, node }) => [name, (values[node.id] as Tensor).data]));
}

function evaluateNode(
  node: GraphNode,
  ins: readonly Tensor[],
  inputs: ReadonlyMap<string, Float64Array>,
  params: ReadonlyMap<string, Float64Array>,
): Tensor {
  const shape = dims(node);
  const [x, w, bias] = ins as [Tensor, Tensor, Tensor | undefined];
  switch (node.op) {
    case "input":
      return { shape, data: inputs.get(node.attrs.name) as Float64Array };
    case "param":
      return { shape, data: params.get(node.attrs.path) as Float64Array };
    case "constant":
      return { shape, data: Float64Array.of(node.attrs.value) };
    case "conv2d": {
      const { stride, pad, dilation, groups } = node.attrs;
      const [o, c, kh, kw] = w.shape as [number, number, number, number];
      const [, , height, width] = x.shape as [number, number, number, number];
      return make(shape, ([n = 0, co = 0, h = 0, v = 0]) => {
        let sum = bias?.data[co] ?? 0;
        const group = Math.floor(co / (o / groups));
        for (const [ci = 0, i = 0, j = 0] of box([c, kh, kw])) {
          const row = h * stride[0] + i * dilation[0] - pad[0];
          const column = v * stride[1] + j * dilation[1] - pad[1];
          if (row < 0 || row >= height || column < 0 || column >= width) continue;
          sum += get(x, [n, group * c + ci, row, column]) * get(w, [co, ci, i, j]);
        }
        return sum;
      });
    }
    case "linear":
      return make(shape, (index) => {
        const o = index.at(-1) ?? 0;
        let sum = bias?.data[o] ?? 0;
        for (let d = 0; d < (w.shape[1] ?? 0); d++) sum += get(x, [...index.slice(0, -1), d]) * get(w, [o, d]);
        return sum;
      });
    case "matmul":
      return make(shape, (index) => {
        let sum = 0;
        const batch = index.slice(0, -2);
        for (let k = 0; k < (x.shape.at(-1) ?? 0); k++) {
          sum += get(x, [...batch, index.at(-2) ?? 0, k]) * get(w, [...batch, k, index.at(-1) ?? 0]);
        }
        return sum;
      });
    case "max_pool2d":
    case "avg_pool2d": {
      const { k, stride, pad } = node.attrs;
      const [, , height, width] = x.shape as [number, number, number, number];
      return make(shape, ([n = 0, c = 0, h = 0, v = 0]) => {
        const seen: number[] = [];
        for (const [i = 0, j = 0] of box(k)) {
          const [row, column] = [h * stride[0] + i - pad[0], v * stride[1] + j - pad[1]];
          if (row >= 0 && row < height && column >= 0 && column < width) seen.push(get(x, [n, c, row, column]));
        }
        if (node.op === "max_pool2d") return Math.max(...seen);
        return seen.reduce((a, b) => a + b, 0) / (node.attrs.countPad ? k[0] * k[1] : seen.length);
      });
    }
    case "softmax":
      return make(shape, (index) => {
        const row = Array.from({ length: shape[node.attrs.axis] ?? 0 }, (_, i) =>
          get(
            x,
            index.map((at, d) => (d === node.attrs.axis ? i : at)),
          ),
        );
        const max = Math.max(...row);
        return Math.exp(get(x, index) - max) / row.reduce((sum, v) => sum + Math.exp(v - max), 0);
      });
    case "batch_norm": {
      const [, scale, shift, mean, variance] = ins as [Tensor, Tensor, Tensor, Tensor, Tensor];
      return make(shape, (index) => {
        const c = [index[1] ?? 0];
        const normal = (get(x, index) - get(mean, c)) / Math.sqrt(get(variance, c) + node.attrs.eps);
        return normal * get(scale, c) + get(shift, c);
      });
    }
    case "layer_norm":
      return make(shape, (index) => {
        const size = shape.at(-1) ?? 0;
        const row = Array.from({ length: size }, (_, i) => get(x, [...index.slice(0, -1), i]));
        const mean = row.reduce((a, b) => a + b, 0) / size;
        const variance = row.reduce((a, b) => a + (b - mean) ** 2, 0) / size;
        const c = [index.at(-1) ?? 0];
        return ((get(x, index) - mean) / Math.sqrt(variance + node.attrs.eps)) * get(w, c) + get(bias as Tensor, c);
      });
    case "reduce": {
      const { fn, axes, keep } = node.attrs;
      const inner = axes.map((d) => x.shape[d] ?? 0);
      return make(shape, (index) => {
        const seen: number[] = [];
        for (const at of box(inner)) {
          let next = 0;
          seen.push(
            get(
              x,
              x.shape.map((_, d) => {
                const a = axes.indexOf(d);
                if (a >= 0) {
                  if (keep) next++;
                  return at[a] ?? 0;
                }
                return index[next++] ?? 0;
              }),
            ),
          );
        }
        if (fn === "max") return Math.max(...seen);
        if (fn === "min") return Math.min(...seen);
        return seen.reduce((a, b) => a + b, 0) / (fn === "mean" ? seen.length : 1);
      });
    }
    case "unary":
      return make(shape, (index) => UNARY[node.attrs.fn].value(get(x, index)));
    case "binary":
      return make(shape, (index) => {
        const [l, r] = [get(x, index), get(w, index)];
        switch (node.attrs.fn) {
          case "add":
            return l + r;
          case "sub":
            return l - r;
          case "mul":
            return l * r;
          case "div":
            return l / r;
          case "max":
            return Math.max(l, r);
          case "min":
            return Math.min(l, r);
          case "pow":
            return l ** r;
        }
      });
    case "reshape":
      return { shape, data: x.data };
    case "permute":
      return make(shape, (index) =>
        get(
          x,
          node.attrs.order.map((_, d) => index[node.attrs.order.indexOf(d)] ?? 0),
        ),
      );
    case "concat": {
      const { axis } = node.attrs;
      return make(shape, (index) => {
        let at = index[axis] ?? 0;
        for (const part of ins) {
          const size = part.shape[axis] ?? 0;
          if (at < size)
            return get(
              part,
              index.map((i, d) => (d === axis ? at : i)),
            );
          at -= size;
        }
        return Number.NaN;
      });
    }
    case "slice": {
      const { axis, start } = node.attrs;
      return make(shape, (index) =>
        get(
          x,
          index.map((i, d) => (d === axis ? i + Number(start) : i)),
        ),
      );
    }
    case "causal_mask":
      return make(shape, (index) =>
        (index.at(-1) ?? 0) > (index.at(-2) ?? 0) ? -3.4028234663852886e38 : get(x, index),
      );
    case "dropout":
    case "detach":
    case "cast":
      return { shape, data: x.data };
    default:
      return node satisfies never;
  }
}

/** The greatest difference, relative to the greatest reference value. */
export function difference(got: Float64Array | undefined, expected: Float64Array | undefined): number {
  if (got === undefined || expected === undefined || got.length !== expected.length) return Number.POSITIVE_INFINITY;
  let most = 0;
  let largest = 1e-300;
  for (let i = 0; i < got.length; i++) {
    const [a, b] = [got[i] ?? Number.NaN, expected[i] ?? Number.NaN];
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.NaN;
    most = Math.max(most, Math.abs(a - b));
    largest = Math.max(largest, Math.abs(b));
  }
  return most / largest;
}
