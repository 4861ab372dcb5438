/**
 * Losses, gradients and running statistics against PyTorch's (fixtures/make_torch_gradients.py): the same made-up
 * numbers on both sides, in f64.
 */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { Algebra } from "../../compiler/graph/algebra.ts";
import type { Graph, GraphNode } from "../../compiler/graph/graph.ts";
import { binaryCrossEntropy, meanSquaredError, softmaxCrossEntropy, withLoss } from "../../compiler/graph/losses.ts";
import { trainingForm } from "../../compiler/graph/training.ts";
import { Net } from "../graph/nets.ts";
import { assertClose } from "../tools/compare.ts";
import { namedValues } from "../tools/named-values.ts";
import { checkGradients, checkLoops, evaluated, gradientOf, leavesOf, type Values } from "./check.ts";

const fixture: Readonly<Record<"network" | "losses", Readonly<Record<string, string>>>> = JSON.parse(
  readFileSync("test/fixtures/torch_gradients.json", "utf8"),
);

/** float32 is what is stored. */
const STORED = 2e-7;

function decoded(text: string | undefined): Float32Array {
  return new Float32Array(new Uint8Array(Buffer.from(text ?? "", "base64")).buffer);
}

const CLASSES = [2, 0, 3];
const ONE_HOT = Float64Array.from(CLASSES.flatMap((wanted) => [0, 1, 2, 3].map((c) => (c === wanted ? 1 : 0))));

/** Inputs and parameters made of their names; targets are given. */
function valuesOf(graph: Graph, given: ReadonlyMap<string, Float64Array>): Values {
  const made = (name: string, node: GraphNode): Float64Array =>
    given.get(name) ?? Float64Array.from(namedValues(name, node.shape.map(Number)));
  const inputs = graph.inputs.map((node) => [node.attrs.name, made(`input:${node.attrs.name}`, node)] as const);
  const params = graph.nodes.flatMap((node) =>
    node.op === "param" ? [[node.attrs.path, made(node.attrs.path, node)] as const] : [],
  );
  return { inputs: new Map(inputs), params: new Map(params) };
}

test("a network of strides, groups, dilation, pools and batch statistics", () => {
  const net = new Net();
  const at = (layer: string): Net => Object.assign(net, { layer });
  let x = net.input("x", [3, 4, 11, 10]);
  x = at("norm1").batchNorm(at("conv1").conv(x, 6, 3, { stride: 2, pad: 1 }), "norm1");
  x = net.maxPool(net.relu(x), 3, 2, 1);
  const weight = net.param("conv2.weight", [4, 3, 3, 3]);
  x = net.op("conv2d", [x, weight], { stride: [1, 1], pad: [2, 2], dilation: [2, 2], groups: 2 });
  const vectors = (["weight", "bias"] as const).map((name) => net.param(`norm2.${name}`, [4]));
  const running = ["running_mean", "running_var"].map((name) => net.param(`norm2.${name}`, [4], "state"));
  x = net.op("unary", [net.op("batch_norm", [x, ...vectors, ...running], { eps: 1e-5, momentum: 0.3 })], {
    fn: "tanh",
  });
  x = net.op("avg_pool2d", [x], { k: [2, 2], stride: [1, 1], pad: [1, 1], countPad: false });
  const logits = at("fc").linear(net.op("reduce", [x], { fn: "mean", axes: [2, 3], keep: false }), 4);
  const graph = withLoss(trainingForm(net.finish(logits)), ({ a, output, target }) =>
    softmaxCrossEntropy(a, output("out0"), target("one_hot", [3, 4]), {
      smoothing: 0.1,
      weights: target("weights", [4]),
    }),
  );
  const values = valuesOf(
    graph,
    new Map([
      ["input:one_hot", ONE_HOT],
      ["input:weights", Float64Array.of(1, 0.5, 2, 1.5)],
    ]),
  );
  const learned = leavesOf(graph).filter(
    (node) => node.op === "param" || (node.op === "input" && node.attrs.name === "x"),
  );
  const got = checkGradients(graph, values, { only: learned, sampled: 4 }).gradients;
  const names = Object.keys(fixture.network);
  expect(names.length).toBeGreaterThan(10);
  for (const name of names) {
    const want = decoded(fixture.network[name]);
    // Batch norm takes the first convolution's bias away: what PyTorch has is rounding.
    if (Math.max(...want.map(Math.abs)) < 1e-12)
      expect(Math.max(...(got.get(name) ?? []).map(Math.abs))).toBeLessThan(1e-12);
    else assertClose(got.get(name) ?? [], want, name, STORED);
  }
});

describe("losses of logits up to ±40", () => {
  const target = Float64Array.from(namedValues("input:target", [3, 4]), Math.abs);
  test.each<[string, (a: Algebra, x: GraphNode, t: GraphNode) => GraphNode, Float64Array]>([
    ["cross_entropy", (a, x, t) => softmaxCrossEntropy(a, x, t), ONE_HOT],
    ["binary_cross_entropy", binaryCrossEntropy, target],
    ["mean_squared_error", meanSquaredError, target],
  ])("%s", (name, formula, targets) => {
    const net = new Net();
    const graph = withLoss(net.finish(net.input("x", [3, 4])), (site) =>
      formula(site.a, site.output("out0"), site.target("target", [3, 4])),
    );
    const x = Float64Array.from(namedValues("input:x", [3, 4]), (value) => 40 * value);
    const values: Values = {
      inputs: new Map([
        ["x", x],
        ["target", targets],
      ]),
      params: new Map(),
    };
    const step = gradientOf(graph, leavesOf(graph).slice(0, 1));
    const got = evaluated(step, values);
    checkLoops(step, values, got);
    assertClose(got.get("loss") ?? [], decoded(fixture.losses[name]), name, STORED);
    assertClose(got.get("gradient.x") ?? [], decoded(fixture.losses[`gradient.${name}`]), name, STORED);
  });
  test("binary cross-entropy has the gradient 1/2 - t at 0", () => {
    const net = new Net();
    const graph = withLoss(net.finish(net.input("x", [1])), (site) =>
      binaryCrossEntropy(site.a, site.output("out0"), site.target("target", [1])),
    );
    const inputs = new Map([
      ["x", Float64Array.of(0)],
      ["target", Float64Array.of(0.2)],
    ]);
    const got = evaluated(gradientOf(graph, leavesOf(graph).slice(0, 1)), { inputs, params: new Map() });
    expect(got.get("gradient.x")?.[0]).toBeCloseTo(0.3, 12);
  });
});

test("a batch norm used twice moves its statistics twice", () => {
  const net = new Net();
  const [x, y] = [net.input("x", [4, 2]), net.input("y", [4, 2])];
  const graph = trainingForm(net.finish(net.batchNorm(x, "bn"), net.batchNorm(y, "bn")));
  const values = valuesOf(graph, new Map());
  const got = evaluated(graph, values);
  const mean = (name: string, c: number): number =>
    [0, 1, 2, 3].reduce((s, i) => s + (values.inputs.get(name)?.[2 * i + c] ?? 0), 0) / 4;
  const start = values.params.get("bn.running_mean") ?? new Float64Array();
  const want = [0, 1].map((c) => 0.9 * (0.9 * (start[c] ?? 0) + 0.1 * mean("x", c)) + 0.1 * mean("y", c));
  assertClose(got.get("update.bn.running_mean") ?? [], want, "running mean", 1e-12);
});
