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

// ---------------------------------------------------------------------------------------------------------- whole networks

/** A convolution with bias and ReLU, as in VGG. */
function convRelu(net: Net, path: string, x: GraphNode, channels: number): GraphNode {
  net.at(path);
  const w = net.param(`${path}.weight`, [channels, dims(x)[1] ?? 0, 3, 3]);
  return net.relu(net.conv2d(x, w, net.param(`${path}.bias`, [channels]), { pad: [1, 1] }));
}

/** A fully connected layer on [N, D]. */
function dense(net: Net, path: string, x: GraphNode, features: number): GraphNode {
  net.at(path);
  const w = net.param(`${path}.weight`, [features, dims(x)[1] ?? 0]);
  return net.linear(x, w, net.param(`${path}.bias`, [features]));
}

function conv1x1(net: Net, path: string, x: GraphNode, channels: number): GraphNode {
  const w = net.param(`${path}.weight`, [channels, dims(x)[1] ?? 0, 1, 1]);
  return net.conv2d(x, w, net.param(`${path}.bias`, [channels]));
}

/** [N,C,H,W] → [N,H·W,C]. */
function tokens(net: Net, x: GraphNode): GraphNode {
  const [n = 0, c = 0, h = 0, w = 0] = dims(x);
  return net.reshape(net.permute(x, [0, 2, 3, 1]), [n, h * w, c]);
}

/** One direction of STIA: `own` attends to max-pooled keys and values of `other`, batch norm, residual sum. */
function stia(net: Net, path: string, own: GraphNode, other: GraphNode): GraphNode {
  net.at(path);
  const [n = 0, c = 0, h = 0, w = 0] = dims(own);
  const inner = Math.max(1, Math.floor(c / 2));
  const pool = (x: GraphNode): GraphNode => net.maxPool(x, [2, 2], [2, 2], [0, 0]);
  const q = tokens(net, conv1x1(net, `${path}.theta`, own, inner));
  const k = tokens(net, pool(conv1x1(net, `${path}.phi`, other, inner)));
  const v = tokens(net, pool(conv1x1(net, `${path}.g`, other, inner)));
  const logits = net.binary("mul", net.matmul(q, net.permute(k, [0, 2, 1])), net.constant(inner ** -0.5));
  const mixed = net.matmul(net.softmax(logits, 2), v);
  const image = net.permute(net.reshape(mixed, [n, h, w, inner]), [0, 3, 1, 2]);
  return net.binary("add", own, net.batchNorm(conv1x1(net, `${path}.out`, image, c), `${path}.bn`));
}

/** VGG's stages with max pooling after each. */
function stage(net: Net, path: string, x: GraphNode, channels: number, convs: number): GraphNode {
  let y = x;
  for (let i = 1; i <= convs; i++) y = convRelu(net, `${path}.conv${i}`, y, channels);
  return y;
}

export function maxPool2(net: Net, x: GraphNode): GraphNode {
  return net.maxPool(x, [2, 2], [2, 2], [0, 0]);
}

/** Two small streams of unequal input channels with STIA both ways between them, averaged logits. */
export function twoStreams(batch: number, size: number, width: number): Net {
  const net = new Net();
  let [s, t] = [net.input("spatial", [batch, 3, size, size]), net.input("temporal", [batch, 4, size, size])];
  s = maxPool2(net, stage(net, "spatial.conv1", s, width, 2));
  t = maxPool2(net, stage(net, "temporal.conv1", t, width, 2));
  [s, t] = [stia(net, "stia.spatial", s, t), stia(net, "stia.temporal", t, s)];
  s = maxPool2(net, stage(net, "spatial.conv2", s, 2 * width, 1));
  t = maxPool2(net, stage(net, "temporal.conv2", t, 2 * width, 1));
  const head = (path: string, x: GraphNode): GraphNode => {
    const [n = 0, ...rest] = dims(x);
    const flat = net.reshape(x, [n, rest.reduce((a, b) => a * b, 1)]);
    return dense(net, `${path}.fc7`, net.relu(dense(net, `${path}.fc6`, flat, 20)), 7);
  };
  const [a, b] = [head("spatial", s), head("temporal", t)];
  const logits = net.at("").binary("mul", net.binary("add", a, b), net.constant(0.5));
  return net.output("logits", logits).output("probabilities", net.softmax(logits, 1));
}

/** A ResNet bottleneck with batch norm; `stride` 2 or new channels take a projection. */
export function bottleneck(net: Net, path: string, x: GraphNode, inner: number, stride: number): GraphNode {
  net.at(path);
  const conv = (name: string, from: GraphNode, channels: number, k: number, by: number): GraphNode => {
    const w = net.param(`${path}.${name}.weight`, [channels, dims(from)[1] ?? 0, k, k]);
    const pad = (k - 1) / 2;
    const y = net.conv2d(from, w, undefined, { stride: [by, by], pad: [pad, pad] });
    return net.batchNorm(y, `${path}.${name}.bn`);
  };
  const y = conv("c", net.relu(conv("b", net.relu(conv("a", x, inner, 1, 1)), inner, 3, stride)), inner * 4, 1, 1);
  const same = stride === 1 && dims(x)[1] === inner * 4;
  return net.relu(net.binary("add", y, same ? x : conv("project", x, inner * 4, 1, stride)));
}

/** VGG16 as in torchvision. */
export function vgg16(batch: number): Net {
  const net = new Net();
  let x = net.input("x", [batch, 3, 224, 224]);
  [64, 128, 256, 512, 512].forEach((channels, i) => {
    x = maxPool2(net.at(`pool${i + 1}`), stage(net, `conv${i + 1}`, x, channels, i < 2 ? 2 : 3));
  });
  x = net.relu(dense(net, "fc6", net.reshape(x, [batch, 25088]), 4096));
  return net.output("logits", dense(net, "fc8", net.relu(dense(net, "fc7", x, 4096)), 1000));
}
