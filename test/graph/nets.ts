/**
 * Graphs written by hand for tests: a thin layer over `GraphBuilder` in which a misfit is an error, and the networks
 * whose figures everybody knows.
 */
import { GraphBuilder, type Where } from "../../compiler/graph/builder.ts";
import type { Graph, GraphNode, NodeOf, OpAttrs, OpName } from "../../compiler/graph/graph.ts";
import type { LeafName } from "../../compiler/graph/ops.ts";
import { isProblem } from "../../compiler/graph/shapes.ts";
import { product, type Size } from "../../compiler/size.ts";

type Pair = readonly [number, number];

export class Net {
  readonly builder: GraphBuilder = new GraphBuilder();
  /** Layer of the nodes made from now on. */
  layer = "";

  get where(): Where {
    return { layer: this.layer, origins: [] };
  }

  input(name: string, shape: readonly Size[]): GraphNode {
    return this.builder.leaf("input", { name }, { shape, dtype: "f32" }, this.where);
  }

  param(path: string, shape: readonly Size[], kind: "param" | "state" = "param"): GraphNode {
    const init = { kind: "constant", value: 0 } as const;
    return this.builder.leaf("param", { path, kind, init }, { shape, dtype: "f32" }, this.where);
  }

  constant(value: number): GraphNode {
    return this.builder.leaf("constant", { value }, { shape: [], dtype: "f32" }, this.where);
  }

  op<K extends Exclude<OpName, LeafName>>(op: K, inputs: readonly GraphNode[], attrs: OpAttrs[K]): GraphNode {
    const made = this.builder.add(op, inputs, attrs, this.where);
    if (isProblem(made)) throw new Error(`${made.message}: ${made.label}`);
    return made;
  }

  conv(
    x: GraphNode,
    out: number,
    k: number,
    options: { stride?: number; pad?: number; groups?: number; bias?: boolean } = {},
  ): GraphNode {
    const { stride = 1, pad = 0, groups = 1, bias = true } = options;
    const channels = x.shape[1];
    if (typeof channels !== "number") throw new Error("a convolution needs a known number of channels");
    const weight = this.param(`${this.layer}.weight`, [out, channels / groups, k, k]);
    const inputs = bias ? [x, weight, this.param(`${this.layer}.bias`, [out])] : [x, weight];
    return this.op("conv2d", inputs, { stride: [stride, stride], pad: [pad, pad], dilation: [1, 1], groups });
  }

  linear(x: GraphNode, out: number, bias = true): GraphNode {
    const weight = this.param(`${this.layer}.weight`, [out, x.shape.at(-1) ?? 1]);
    return this.op("linear", bias ? [x, weight, this.param(`${this.layer}.bias`, [out])] : [x, weight], {});
  }

  batchNorm(x: GraphNode, path: string = this.layer): GraphNode {
    const c = [x.shape[1] ?? 1];
    const learned = ["weight", "bias"].map((name) => this.param(`${path}.${name}`, c));
    const running = ["running_mean", "running_var"].map((name) => this.param(`${path}.${name}`, c, "state"));
    return this.op("batch_norm", [x, ...learned, ...running], { eps: 1e-5, momentum: 0.1 });
  }

  relu(x: GraphNode): GraphNode {
    return this.binary("max", x, this.constant(0));
  }

  binary(fn: OpAttrs["binary"]["fn"], a: GraphNode, b: GraphNode): GraphNode {
    return this.op("binary", [a, b], { fn });
  }

  maxPool(x: GraphNode, k: number, stride: number = k, pad = 0): GraphNode {
    const both = (n: number): Pair => [n, n];
    return this.op("max_pool2d", [x], { k: both(k), stride: both(stride), pad: both(pad) });
  }

  flatten(x: GraphNode): GraphNode {
    const [n = 1, ...rest] = x.shape;
    return this.op("reshape", [x], { shape: [n, product(rest)] });
  }

  finish(...outputs: readonly GraphNode[]): Graph {
    return this.builder.finish(
      "Net",
      outputs.map((node, i) => ({ name: `out${i}`, node })),
    ).graph;
  }
}

/** LeNet-5 on 28×28 digits, padded to 32×32 by the first convolution. */
export function lenet(batch: Size): Graph {
  const net = new Net();
  let x = net.input("image", [batch, 1, 28, 28]);
  net.layer = "conv1";
  x = net.maxPool(net.relu(net.conv(x, 6, 5, { pad: 2 })), 2);
  net.layer = "conv2";
  x = net.flatten(net.maxPool(net.relu(net.conv(x, 16, 5)), 2));
  for (const [layer, out] of [
    ["fc1", 120],
    ["fc2", 84],
    ["fc3", 10],
  ] as const) {
    net.layer = layer;
    x = net.linear(x, out);
    if (layer !== "fc3") x = net.relu(x);
  }
  return net.finish(x);
}

/** VGG16, configuration D, on 224×224 images. */
export function vgg16(batch: Size): Graph {
  const net = new Net();
  let x = net.input("image", [batch, 3, 224, 224]);
  for (const [stage, [count, channels]] of (
    [
      [2, 64],
      [2, 128],
      [3, 256],
      [3, 512],
      [3, 512],
    ] as const
  ).entries()) {
    for (let i = 1; i <= count; i++) {
      net.layer = `conv${stage + 1}_${i}`;
      x = net.relu(net.conv(x, channels, 3, { pad: 1 }));
    }
    net.layer = `pool${stage + 1}`;
    x = net.maxPool(x, 2);
  }
  x = net.flatten(x);
  for (const layer of ["fc6", "fc7"]) {
    net.layer = layer;
    x = net.op("dropout", [net.relu(net.linear(x, 4096))], { p: 0.5, path: layer });
  }
  net.layer = "fc8";
  return net.finish(net.linear(x, 1000));
}

/** ResNet-50 as in torchvision: the stride is on the 3×3 convolution. */
export function resnet50(
  batch: Size,
  height: Size = 224,
  width: Size = 224,
): { readonly graph: Graph; readonly layer3: GraphNode } {
  const net = new Net();
  const convNorm = (x: GraphNode, path: string, out: number, k: number, stride: number): GraphNode => {
    net.layer = path;
    return net.batchNorm(net.conv(x, out, k, { stride, pad: (k - 1) / 2, bias: false }), `${path}.bn`);
  };
  let x = net.relu(convNorm(net.input("image", [batch, 3, height, width]), "stem", 64, 7, 2));
  x = net.maxPool(x, 3, 2, 1);
  let layer3 = x;
  for (const [stage, [blocks, inner]] of (
    [
      [3, 64],
      [4, 128],
      [6, 256],
      [3, 512],
    ] as const
  ).entries()) {
    for (let block = 0; block < blocks; block++) {
      const path = `layer${stage + 1}[${block}]`;
      const stride = block === 0 && stage > 0 ? 2 : 1;
      let y = net.relu(convNorm(x, `${path}.conv1`, inner, 1, 1));
      y = net.relu(convNorm(y, `${path}.conv2`, inner, 3, stride));
      y = convNorm(y, `${path}.conv3`, 4 * inner, 1, 1);
      const skip = block === 0 ? convNorm(x, `${path}.downsample`, 4 * inner, 1, stride) : x;
      x = net.relu(net.binary("add", y, skip));
    }
    if (stage === 2) layer3 = x;
  }
  net.layer = "fc";
  const pooled = net.op("reduce", [x], { fn: "mean", axes: [2, 3], keep: false });
  return { graph: net.finish(net.linear(pooled, 1000)), layer3 };
}

/** Numbers in [-1, 1) that are the same for the same seed (mulberry32). */
function randomValues(length: number, seed: number): Float64Array {
  let state = seed;
  return Float64Array.from({ length }, () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * 2 - 1;
  });
}

/** Random values for every input and parameter of a graph with known sizes; variances are positive. */
export function randomLeaves(
  graph: Graph,
  seed: number,
): { readonly inputs: Map<string, Float64Array>; readonly params: Map<string, Float64Array> } {
  const inputs = new Map<string, Float64Array>();
  const params = new Map<string, Float64Array>();
  for (const node of graph.nodes) {
    const size = product(node.shape);
    if (typeof size !== "number") throw new Error("random values need known sizes");
    if (node.op === "input") inputs.set(node.attrs.name, randomValues(size, seed + node.id));
    if (node.op === "param") params.set(node.attrs.path, parameterValues(node, size, seed));
  }
  return { inputs, params };
}

/** By the path, so that a graph and its rewritten form get the same. */
function parameterValues(node: NodeOf<"param">, size: number, seed: number): Float64Array {
  const { path } = node.attrs;
  const hash = Array.from(path, (letter) => letter.charCodeAt(0)).reduce((h, c) => Math.imul(h ^ c, 0x01000193), seed);
  const values = randomValues(size, hash);
  return path.endsWith("running_var") ? values.map((v) => v + 1.25) : values;
}
