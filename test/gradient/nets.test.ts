/**
 * Gradients of whole networks as they are trained: a small VGG, a bottleneck and STIA with the statistics of the batch,
 * against central differences and, as loops, on the oracle and on WASM. Then what must hold of STIA whatever its numbers
 * are (a closed gate, parameters that batch norm or softmax make dead), and what a step costs.
 */
import { describe, expect, it } from "vitest";
import { assemble } from "../../compiler/assemble.ts";
import { WASM_DEFAULT } from "../../compiler/capability.ts";
import { binary, sum } from "../../compiler/graph/algebra.ts";
import { costOf } from "../../compiler/graph/cost.ts";
import type { Graph } from "../../compiler/graph/graph.ts";
import { meanSquaredError, softmaxCrossEntropy, withLoss } from "../../compiler/graph/losses.ts";
import { trainingForm } from "../../compiler/graph/training.ts";
import { lowerGraph } from "../../compiler/loop/lower.ts";
import { verifyLoops } from "../../compiler/loop/verify.ts";
import type { Model } from "../../compiler/model.ts";
import { openWasm } from "../../runtime/engine/wasm/runner.ts";
import { bottleneck, dims, maxPool2, Net, randomValues, vgg16 } from "../loop/nets.ts";
import { assertClose } from "../tools/compare.ts";
import { bound, doubles, exampleModel, modelOf, namedInputs, namedParameters, runOnce } from "../tools/nets.ts";
import { checkGradients, evaluated, gradientOf, leavesOf, type Values } from "./check.ts";

/** The mean squared distance of every output from a target of its own. */
function toTargets(graph: Graph, names: readonly string[] = graph.outputs.map(({ name }) => name)): Graph {
  return withLoss(graph, ({ a, output, target }) => {
    const [first, ...others] = names.map((name) =>
      meanSquaredError(a, output(name), target(`target.${name}`, output(name).shape)),
    );
    if (first === undefined) throw new Error("a loss of nothing");
    return others.reduce((total, other) => binary(a, "add", total, other), first);
  });
}

/** Values made from names, which open every gate. */
function namedValuesOf(model: Model, graph: Graph): Values {
  return { inputs: doubles(namedInputs(graph)), params: doubles(namedParameters(model)) };
}

/**
 * Batch norm takes most of a gradient away, and the rounding errors of the whole stay beside the little that is left: in
 * these networks up to 150 times as much.
 */
const TOLERANCE = 5e-4;

/** The same on WASM, within what f32 allows. */
async function checkOnWasm(
  graph: Graph,
  { inputs, params }: Values,
  gradients: Map<string, Float64Array>,
): Promise<void> {
  const loops = lowerGraph(graph, { panelWidth: 8, maxBufferBytes: 2 ** 31, fuse: true, maxBindings: 16 });
  const program = assemble(loops, { target: WASM_DEFAULT, seed: 1, graphHash: "", classes: undefined });
  const single = (values: Map<string, Float64Array>): Map<string, Float32Array> =>
    new Map([...values].map(([name, data]) => [name, Float32Array.from(data)]));
  const outputs = await runOnce(await openWasm(program), single(inputs), ({ path }, into) =>
    into.set(Float32Array.from(params.get(path) ?? [])),
  );
  for (const [name, want] of gradients) {
    // A gradient that is nothing has only rounding errors to be compared.
    if (Math.max(...want.map(Math.abs)) < 1e-9)
      expect(Math.max(...(outputs.get(name) ?? []).map(Math.abs))).toBeLessThan(1e-5);
    else assertClose(outputs.get(name) ?? [], want, name, TOLERANCE);
  }
}

describe("networks", () => {
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
    const result = checkGradients(graph, values, { only });
    // Nobody wants the gradient by the image: the first convolution has no input gradient.
    const gathers = result.graph.nodes.filter((node) => node.op === "conv2d_input_grad");
    expect(gathers.map((node) => node.shape[1])).toEqual([4]);
    await checkOnWasm(result.graph, values, result.gradients);
  });
  it("a bottleneck with stride 2, a projection and the statistics of the batch", async () => {
    const net = new Net();
    const x = net.binary("mul", net.input("x", [3, 5, 7, 6]), net.param("scale", [5, 1, 1]));
    const graph = toTargets(trainingForm(net.output("y", bottleneck(net, "block", x, 3, 2)).graph()), ["y"]);
    const values = randomValues(graph);
    const result = checkGradients(graph, values);
    await checkOnWasm(result.graph, values, result.gradients);
  });
});

const MAP = "f32[2, 4, 4, 5]";

/** STIA between two maps. */
function unit(args: string): Model {
  return modelOf(`model M(spatial: ${MAP}, temporal: ${MAP}) -> (${MAP}, ${MAP}) = STIA(${args}) @stia`);
}

const UNITS = [
  'pool="conv-pool"',
  'pool="none", scale=true',
  'pool="pool-conv", pair="dot"',
  'affinity="shared", pool="none"',
];

describe("STIA", () => {
  it.each(UNITS)("STIA(%s) with open gates", async (args) => {
    const model = unit(args);
    const graph = toTargets(
      trainingForm(model.graph),
      model.graph.outputs.map(({ name }) => name),
    );
    const values = namedValuesOf(model, graph);
    const result = checkGradients(graph, values, { sampled: 3 });
    await checkOnWasm(result.graph, values, result.gradients);
  });
  it("behind a closed gate nothing is learned, and no gradient crosses the streams", () => {
    const model = unit('pool="conv-pool"');
    const [spatial] = model.graph.outputs;
    const graph = toTargets(trainingForm(model.graph), [spatial?.name ?? ""]);
    const values = namedValuesOf(model, graph);
    const gates = [...values.params.keys()].filter((path) => /bn\.(weight|bias)$/.test(path));
    expect(gates.length).toBeGreaterThan(1);
    for (const path of gates) values.params.get(path)?.fill(0);
    const gradients = evaluated(gradientOf(graph), values);
    const greatest = (name: string): number => Math.max(...(gradients.get(`gradient.${name}`) ?? [0]).map(Math.abs));
    for (const { path, kind } of model.parameters) {
      if (kind === "param" && !/bn\.(weight|bias)$/.test(path)) expect(greatest(path), path).toBe(0);
    }
    expect(greatest("temporal")).toBe(0);
    expect(greatest("spatial")).toBeGreaterThan(0);
    expect(Math.max(...gates.filter((path) => path.endsWith("weight")).map(greatest))).toBeGreaterThan(0);
  });
  it("biases that softmax or batch norm take away are dead, the query's is not", () => {
    const model = unit('pool="conv-pool"');
    const graph = toTargets(
      trainingForm(model.graph),
      model.graph.outputs.map(({ name }) => name),
    );
    const gradients = evaluated(gradientOf(graph), namedValuesOf(model, graph));
    const greatest = (path: string): number => Math.max(...(gradients.get(`gradient.${path}`) ?? []).map(Math.abs));
    for (const direction of ["to_spatial", "to_temporal"]) {
      for (const dead of ["phi", "g", "out"])
        expect(greatest(`stia.${direction}.${dead}.bias`), dead).toBeLessThan(1e-12);
      expect(greatest(`stia.${direction}.theta.bias`)).toBeGreaterThan(1e-5);
    }
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
  it("a step is at most three forward passes", () => {
    const ratio = ({ forward, whole }: ReturnType<typeof step>): number =>
      Number(costOf(whole).total.macs) / Number(costOf(forward).total.macs);
    expect(ratio(step(vgg16(1).graph()))).toBeCloseTo(2.994, 3);
    expect(ratio(step(trainingForm(bound(exampleModel("tiny_stia"), { N: 2 }).graph)))).toBeCloseTo(2.754, 3);
  });
  it("every write of a step of VGG16 at batch 8 is proved", () => {
    const { whole } = step(vgg16(8).graph());
    for (const fuse of [false, true]) {
      expect(verifyLoops(lowerGraph(whole, { panelWidth: 8, maxBufferBytes: 2 ** 31, fuse }))).toEqual([]);
    }
  });
});
