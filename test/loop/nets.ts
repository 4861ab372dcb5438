/** Small graphs for tests of the loops, made in a line a node, and random values for their inputs and parameters. */
import { GraphBuilder } from "../../compiler/graph/builder.ts";
import type { Graph, GraphNode, OpAttrs, OpName } from "../../compiler/graph/graph.ts";
import type { LeafName } from "../../compiler/graph/ops.ts";
import { isProblem } from "../../compiler/graph/shapes.ts";

/** A graph builder for tests: everything is f32, and shapes that do not fit are thrown. */
export class Net {
  readonly #builder = new GraphBuilder();
  readonly #outputs: { readonly name: string; readonly node: GraphNode }[] = [];
  #layer = "";

  /** Names the layer of the nodes that follow. */
  at(layer: string): this {
    this.#layer = layer;
    return this;
  }

  #leaf<K extends LeafName>(op: K, attrs: OpAttrs[K], shape: readonly number[]): GraphNode {
    return this.#builder.leaf(op, attrs, { shape, dtype: "f32" }, { layer: this.#layer, origins: [] });
  }

  add<K extends Exclude<OpName, LeafName>>(op: K, inputs: readonly GraphNode[], attrs: OpAttrs[K]): GraphNode {
    const node = this.#builder.add(op, inputs, attrs, { layer: this.#layer, origins: [] });
    if (isProblem(node)) throw new Error(JSON.stringify(node));
    return node;
  }

  input(name: string, shape: readonly number[]): GraphNode {
    return this.#leaf("input", { name }, shape);
  }
  param(path: string, shape: readonly number[]): GraphNode {
    return this.#leaf("param", { path, kind: "param", init: { kind: "constant", value: 0 } }, shape);
  }
  constant(value: number): GraphNode {
    return this.#leaf("constant", { value }, []);
  }
  conv2d(x: GraphNode, w: GraphNode, b: GraphNode | undefined, attrs: Partial<OpAttrs["conv2d"]> = {}): GraphNode {
    const full = { stride: [1, 1], pad: [0, 0], dilation: [1, 1], groups: 1, ...attrs } as const;
    return this.add("conv2d", some(x, w, b), full);
  }
  linear(x: GraphNode, w: GraphNode, b?: GraphNode): GraphNode {
    return this.add("linear", some(x, w, b), {});
  }
  matmul(a: GraphNode, b: GraphNode): GraphNode {
    return this.add("matmul", [a, b], {});
  }
  maxPool(x: GraphNode, k: Pair, stride: Pair, pad: Pair): GraphNode {
    return this.add("max_pool2d", [x], { k, stride, pad });
  }
  avgPool(x: GraphNode, k: Pair, stride: Pair, pad: Pair, countPad: boolean): GraphNode {
    return this.add("avg_pool2d", [x], { k, stride, pad, countPad });
  }
  softmax(x: GraphNode, axis: number): GraphNode {
    return this.add("softmax", [x], { axis });
  }
  /** Parameters `name.weight`, `.bias`, `.mean` and `.var`, a size each. */
  batchNorm(x: GraphNode, name: string): GraphNode {
    const channels = dims(x)[1] ?? 0;
    const params = ["weight", "bias", "mean", "var"].map((part) => this.param(`${name}.${part}`, [channels]));
    return this.add("batch_norm", [x, ...params], { eps: 1e-5, momentum: 0.1 });
  }
  layerNorm(x: GraphNode, weight: GraphNode, bias: GraphNode): GraphNode {
    return this.add("layer_norm", [x, weight, bias], { eps: 1e-5 });
  }
  reduce(x: GraphNode, fn: OpAttrs["reduce"]["fn"], axes: readonly number[], keep: boolean): GraphNode {
    return this.add("reduce", [x], { fn, axes, keep });
  }
  unary(fn: OpAttrs["unary"]["fn"], x: GraphNode): GraphNode {
    return this.add("unary", [x], { fn });
  }
  binary(fn: OpAttrs["binary"]["fn"], l: GraphNode, r: GraphNode): GraphNode {
    return this.add("binary", [l, r], { fn });
  }
  relu(x: GraphNode): GraphNode {
    return this.binary("max", x, this.constant(0));
  }
  reshape(x: GraphNode, shape: readonly number[]): GraphNode {
    return this.add("reshape", [x], { shape });
  }
  permute(x: GraphNode, order: readonly number[]): GraphNode {
    return this.add("permute", [x], { order });
  }
  concat(parts: readonly GraphNode[], axis: number): GraphNode {
    return this.add("concat", parts, { axis });
  }
  slice(x: GraphNode, axis: number, start: number, size: number): GraphNode {
    return this.add("slice", [x], { axis, start, size });
  }
  causalMask(x: GraphNode): GraphNode {
    return this.add("causal_mask", [x], {});
  }
  output(name: string, node: GraphNode): this {
    this.#outputs.push({ name, node });
    return this;
  }
  graph(name = "net"): Graph {
    return this.#builder.finish(name, this.#outputs).graph;
  }
}

type Pair = readonly [number, number];

export function dims(node: GraphNode): number[] {
  return node.shape.map(Number);
}

function some(...nodes: readonly (GraphNode | undefined)[]): GraphNode[] {
  return nodes.filter((node) => node !== undefined);
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
