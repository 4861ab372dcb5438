/**
 * Gradients of whole networks as they are trained: a small VGG, residual bottlenecks, gates and transformers with the
 * statistics of the batch, against central differences and, as loops, on the oracle, on WASM and on WebGPU. Then what a
 * step costs. STIA has a file of its own.
 */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { sum } from "../../compiler/graph/algebra.ts";
import { costOf } from "../../compiler/graph/cost.ts";
import type { Graph, GraphNode } from "../../compiler/graph/graph.ts";
import { softmaxCrossEntropy, withLoss } from "../../compiler/graph/losses.ts";
import { trainingForm } from "../../compiler/graph/training.ts";
import { lowerGraph } from "../../compiler/loop/lower.ts";
import { verifyLoops } from "../../compiler/loop/verify.ts";
import type { Model } from "../../compiler/model.ts";
import { bottleneck, dims, maxPool2, Net, randomValues, vgg16 } from "../loop/nets.ts";
import { bound, exampleModel, modelOf } from "../tools/nets.ts";
import { checkGradients, gradientOf, leavesOf, type Values } from "./check.ts";
import { checkOn, oracleOf } from "./devices.ts";
import { namedValuesOf, toTargets, trained } from "./trained.ts";

const DEVICES = ["wasm", "webgpu"] as const;

/** Central differences, the oracle, then both devices. */
async function checkEverywhere(
  graph: Graph,
  values: Values,
  options: Parameters<typeof checkGradients>[2] = {},
): Promise<Graph> {
  const { graph: whole } = checkGradients(graph, values, options);
  const wanted = oracleOf(whole, values);
  for (const device of DEVICES) await checkOn(device, whole, values, { wanted });
  return whole;
}

describe("networks", { timeout: 120_000 }, () => {
  it("a small VGG with cross-entropy", async () => {
    const net = new Net();
    let x = net.input("x", [2, 3, 9, 8]);
    for (const [i, channels] of [4, 6].entries()) {
      const w = net.param(`conv${i}.weight`, [channels, dims(x)[1] ?? 0, 3, 3]);
      x = maxPool2(net, net.relu(net.conv2d(x, w, net.param(`conv${i}.bias`, [channels]), { pad: [1, 1] })));
    }
    const flat = net.reshape(x, [
      2,
      dims(x)
        .slice(1)
        .reduce((a, b) => a * b, 1),
    ]);
    const hidden = net.relu(
      net.linear(flat, net.param("fc.weight", [7, dims(flat)[1] ?? 0]), net.param("fc.bias", [7])),
    );
    net.output("logits", net.linear(hidden, net.param("head.weight", [3, 7]), net.param("head.bias", [3])));
    const graph = withLoss(trainingForm(net.graph()), ({ a, output, target }) =>
      softmaxCrossEntropy(a, output("logits"), target("target", [2, 3]), { smoothing: 0.1 }),
    );
    const values = randomValues(graph);
    values.inputs.set("target", Float64Array.of(0, 1, 0, 1, 0, 0));
    const only = leavesOf(graph).filter((node) => node.op === "param");
    const whole = await checkEverywhere(graph, values, { only });
    // Nobody wants the gradient by the image: the first convolution has no input gradient.
    const gathers = whole.nodes.filter((node) => node.op === "conv2d_input_grad");
    expect(gathers.map((node) => node.shape[1])).toEqual([4]);
  });
  it("a bottleneck with stride 2, a projection and the statistics of the batch", async () => {
    const net = new Net();
    const x = net.binary("mul", net.input("x", [3, 5, 7, 6]), net.param("scale", [5, 1, 1]));
    const graph = toTargets(trainingForm(net.output("y", bottleneck(net, "block", x, 3, 2)).graph()), ["y"]);
    await checkEverywhere(graph, randomValues(graph), { sampled: 3 });
  });
});

/** What is made of layers of the library and of the examples, small and odd. */
const BLOCKS = {
  "squeeze-and-excitation": "model M(x: f32[2, 8, 5, 3]) -> f32[2, 8, 5, 3] = SE(reduction=4) @se",
  "attention over channels and places": "model M(x: f32[2, 8, 6, 5]) -> f32[2, 8, 6, 5] = CBAM(reduction=4, k=3) @cbam",
  "a residual bottleneck": `
    import { Bottleneck } from "std/vision"
    model M(x: f32[3, 6, 7, 5]) -> f32[3, 5]
      = Bottleneck(4, stride=2) @one -> Bottleneck(4) @two -> GlobalAvgPool -> Linear(5) @fc`,
  "a block of VGG without dropout": `
    model M(x: f32[2, 3, 9, 8]) -> f32[2, 5]
      = Conv(6, act=ReLU) @conv1 -> Conv(6, act=ReLU) @conv2 -> MaxPool(2) @pool -> Flatten
      -> Linear(11, act=ReLU) @fc6 -> Dropout(0.0) -> Linear(5) @fc8`,
  "a vision transformer": `
    import { EncoderLayer } from "./transformer.net"
    model M(image: f32[2, 3, 8, 12]) -> f32[2, 5] {
      patches = image -> Conv(12, k=4, stride=4, pad=0) @patch -> rearrange("n c h w -> n (h w) c")
      param pos: [1, 6, 12] = normal(std=0.02)
      tokens = patches + pos -> EncoderLayer(heads=3, dropout=0.0) @layer -> LayerNorm @norm
      return mean(tokens, axis=1) -> Linear(5) @head
    }`,
} as const;

describe("blocks", { timeout: 120_000 }, () => {
  it.each(Object.entries(BLOCKS))("%s", async (name, text) => {
    const model = modelOf(text);
    const graph = trained(model);
    // The loops compose erf, which is in GELU, of other functions.
    const loopTolerance = name === "a vision transformer" ? 2e-6 : undefined;
    await checkEverywhere(graph, namedValuesOf(model, graph), { sampled: 2, loopTolerance });
  });
});

describe("cost", () => {
  /** The sum of the first output as a loss, and its gradients by every parameter. */
  function step(graph: Graph): { readonly forward: Graph; readonly whole: Graph } {
    const [first] = graph.outputs;
    const forward = withLoss(graph, ({ a, output }) => sum(a, output(first?.name ?? ""), [0, 1], false));
    return {
      forward,
      whole: gradientOf(
        forward,
        leavesOf(forward).filter((node) => node.op === "param"),
      ),
    };
  }
  const graphMacs = (graph: Graph): number => Number(costOf(graph).total.macs);
  const loopMacs = (graph: Graph): number =>
    lowerGraph(graph, { panelWidth: 0, maxBufferBytes: 2 ** 31, fuse: false }).run.reduce(
      (all, { macs }) => all + macs,
      0,
    );
  /** Gradients by a network's own inputs: they would be as large as an input. */
  const firstLayers = (graph: Graph): readonly GraphNode[] => {
    const inputs = new Set(graph.inputs.map((node) => dims(node).join()));
    return graph.nodes.filter((node) => node.op === "conv2d_input_grad" && inputs.has(dims(node).join()));
  };
  const NETWORKS: readonly (readonly [string, () => Model, number])[] = [
    [
      "a small two-stream network with STIA",
      () => modelOf(readFileSync("test/training/two-stream.net", "utf8"), { N: 2 }),
      2.832,
    ],
    ["tiny_stia.net", () => bound(exampleModel("tiny_stia"), { N: 2 }), 2.754],
    ["VGG-16", () => bound(exampleModel("vgg16"), { N: 2 }), 2.994],
    ["ResNet-50", () => bound(exampleModel("resnet50"), { N: 2 }), 2.971],
  ];
  it.each(NETWORKS)("a step of %s is at most three forward passes", (_, model, ratio) => {
    const { forward, whole } = step(trainingForm(model().graph));
    expect(firstLayers(whole)).toEqual([]);
    expect(graphMacs(whole) / graphMacs(forward)).toBeCloseTo(ratio, 3);
    // The loops know that this loss has a gradient of ones, by which nothing is multiplied.
    expect(loopMacs(forward)).toBe(graphMacs(forward));
    expect(loopMacs(whole) / loopMacs(forward)).toBeCloseTo(ratio, 2);
  });
  it("every write of a step of VGG16 at batch 8 is proved", () => {
    const { whole } = step(vgg16(8).graph());
    for (const fuse of [false, true]) {
      expect(verifyLoops(lowerGraph(whole, { panelWidth: 8, maxBufferBytes: 2 ** 31, fuse }))).toEqual([]);
    }
  });
});
