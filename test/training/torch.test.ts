/**
 * Twenty steps of training a two-stream network with attention against PyTorch's (fixtures/make_torch_training.py): the
 * same parameters, examples and labels made up from names, losses and gradients by netc, SGD written out here.
 *
 * In f64 both must agree to the last digits that twenty steps leave. In f32 PyTorch itself moves the losses by 2e-6; the
 * examples are drawn so that no ReLU and no maximum is near enough to its corner for rounding to turn it.
 */
import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { binary } from "../../compiler/graph/algebra.ts";
import { GraphBuilder } from "../../compiler/graph/builder.ts";
import { differentiate } from "../../compiler/graph/gradient.ts";
import type { Graph, GraphNode } from "../../compiler/graph/graph.ts";
import { softmaxCrossEntropy, withLoss } from "../../compiler/graph/losses.ts";
import { trainingForm } from "../../compiler/graph/training.ts";
import { interpret } from "../../compiler/loop/interp.ts";
import { lowerGraph } from "../../compiler/loop/lower.ts";
import type { Model } from "../../compiler/model.ts";
import { openGraph, runOn } from "../gradient/devices.ts";
import { namedValues } from "../tools/named-values.ts";
import { doubles, modelOf, namedParameters } from "../tools/nets.ts";

interface Case {
  readonly nesterov: boolean;
  readonly auxiliary: number;
  readonly draw: number;
  readonly labels: readonly (readonly number[])[];
  readonly losses: readonly number[];
  readonly norms: readonly number[];
  readonly after: Readonly<Record<string, { readonly norm: number; readonly samples: readonly number[] }>>;
}

const {
  network,
}: {
  readonly network: {
    readonly batch: number;
    readonly rate: number;
    readonly momentum: number;
    readonly decay: number;
    readonly smoothing: number;
    readonly cases: Readonly<Record<string, Case>>;
  };
} = JSON.parse(readFileSync("test/fixtures/torch_training.json", "utf8"));

const CLASSES = 4;

/** The outputs of one step by name, from inputs and parameters by name. */
type Step = (
  inputs: Map<string, Float64Array>,
  parameters: Map<string, Float64Array>,
) => Promise<ReadonlyMap<string, ArrayLike<number>>>;

/** Loss, gradients of all parameters and next running statistics of the network. */
function stepGraph(model: Model, { auxiliary }: Case): Graph {
  const streams = ["spatial", "temporal"].map((name) => {
    const node = model.graph.nodes.find(({ op, layer }) => op === "linear" && layer === `${name}.fc`);
    if (node === undefined) throw new Error(`no logits of ${name}`);
    return { name, node };
  });
  const whole = trainingForm({ ...model.graph, outputs: [...model.graph.outputs, ...streams] });
  const graph = withLoss(whole, ({ a, output, target }) => {
    const wanted = target("target", [network.batch, CLASSES]);
    const loss = softmaxCrossEntropy(a, output("output"), wanted, { smoothing: network.smoothing });
    if (auxiliary === 0) return loss;
    const [s, t] = streams.map(({ name }) => softmaxCrossEntropy(a, output(name), wanted));
    if (s === undefined || t === undefined) throw new Error("the network has two streams");
    return binary(a, "add", loss, binary(a, "mul", binary(a, "add", s, t), auxiliary / 2));
  });
  const loss = graph.outputs.find(({ name }) => name === "loss")?.node;
  if (loss === undefined) throw new Error("no loss");
  const isLearned = (node: GraphNode): boolean => node.op === "param" && node.attrs.kind === "param";
  const result = differentiate(graph, loss, graph.nodes.filter(isLearned));
  if (!("graph" in result)) throw new Error(result.reason);
  return result.graph;
}

/** Parameters as inputs: they change from step to step, and weights are loaded once. */
function withoutParameters(graph: Graph): Graph {
  const builder = new GraphBuilder();
  const copies = new Map<GraphNode, GraphNode>();
  const copyOf = (node: GraphNode): GraphNode => copies.get(node) ?? node;
  for (const node of graph.nodes) {
    const copy =
      node.op === "param"
        ? builder.leaf("input", { name: node.attrs.path }, node, node)
        : builder.copy(node, node.inputs.map(copyOf));
    copies.set(node, copy);
  }
  return builder.finish(
    graph.name,
    graph.outputs.map(({ name, node }) => ({ name, node: copyOf(node) })),
  ).graph;
}

function inputsOf(graph: Graph, { draw, labels }: Case, batch: number): Map<string, Float64Array> {
  return new Map(
    graph.inputs.map((node) => {
      const { name } = node.attrs;
      const wanted = labels[batch] ?? [];
      const values =
        name === "target"
          ? wanted.flatMap((label) => Array.from({ length: CLASSES }, (_, c) => Number(c === label)))
          : namedValues(`input:${name}.${draw}.${batch}`, node.shape.map(Number));
      return [name, Float64Array.from(values)];
    }),
  );
}

/** What PyTorch's SGD does (documentation of `torch.optim.SGD`), weight decay on every parameter. */
async function train(
  graph: Graph,
  c: Case,
  parameters: Map<string, Float64Array>,
  step: Step,
): Promise<{ readonly losses: number[]; readonly norms: number[] }> {
  const { rate, momentum, decay } = network;
  const buffers = new Map<string, Float64Array>();
  const losses: number[] = [];
  const norms: number[] = [];
  for (let at = 0; at < c.losses.length; at++) {
    const outputs = await step(inputsOf(graph, c, at % c.labels.length), parameters);
    losses.push(outputs.get("loss")?.[0] ?? Number.NaN);
    let square = 0;
    for (const [path, values] of parameters) {
      const update = outputs.get(`update.${path}`);
      if (update !== undefined) values.set(Array.from(update));
      const gradient = outputs.get(`gradient.${path}`);
      if (gradient === undefined) continue;
      const buffer = buffers.get(path) ?? new Float64Array(values.length);
      buffers.set(path, buffer);
      for (let i = 0; i < values.length; i++) {
        const own = gradient[i] ?? Number.NaN;
        square += own * own;
        const g = own + decay * (values[i] ?? 0);
        buffer[i] = momentum * (buffer[i] ?? 0) + g;
        values[i] = (values[i] ?? 0) - rate * (c.nesterov ? g + momentum * (buffer[i] ?? 0) : (buffer[i] ?? 0));
      }
    }
    norms.push(Math.sqrt(square));
  }
  return { losses, norms };
}

/** The greatest relative difference. */
function furthest(got: readonly number[], want: readonly number[]): number {
  expect(got.length).toBe(want.length);
  return Math.max(...want.map((w, i) => Math.abs((got[i] ?? Number.NaN) - w) / Math.abs(w)));
}

describe("a two-stream network with STIA at two positions, trained for twenty steps", () => {
  let model: Model;
  beforeAll(() => {
    model = modelOf(readFileSync("test/training/two-stream.net", "utf8"), { N: network.batch });
  });

  test("has PyTorch's parameter paths", () => {
    for (const { after } of Object.values(network.cases)) {
      expect(model.parameters.map(({ path }) => path).sort()).toEqual(Object.keys(after).sort());
    }
  });

  test.each(Object.entries(network.cases))("%s, in f64 on the oracle", async (_, c) => {
    const graph = stepGraph(model, c);
    const loops = lowerGraph(graph, { panelWidth: 0, maxBufferBytes: 2 ** 31, fuse: true, maxBindings: 16 });
    const parameters = doubles(namedParameters(model));
    const { losses, norms } = await train(graph, c, parameters, async (inputs, params) =>
      interpret(loops, inputs, params),
    );
    // It learned something: the first batch is met again every fourth step.
    expect(losses[16]).toBeLessThan((losses[0] ?? 0) / 1.5);
    expect(furthest(losses, c.losses)).toBeLessThan(1e-11);
    expect(furthest(norms, c.norms)).toBeLessThan(1e-11);
    for (const [path, { norm, samples }] of Object.entries(c.after)) {
      const values = parameters.get(path) ?? new Float64Array();
      const got = [0, Math.floor(values.length / 2), values.length - 1].map((i) => values[i] ?? Number.NaN);
      const error = Math.max(...samples.map((want, i) => Math.abs((got[i] ?? Number.NaN) - want)));
      expect(error, path).toBeLessThan(1e-9 * norm);
      expect(Math.abs(Math.hypot(...values) - norm), path).toBeLessThan(1e-10 * norm);
    }
  });

  test.each([
    ["momentum", "wasm"],
    ["nesterov", "wasm"],
    ["auxiliary", "wasm"],
    ["nesterov", "webgpu"],
  ] as const)("%s, in f32 on %s", { timeout: 120_000 }, async (name, device) => {
    const c = network.cases[name];
    if (c === undefined) throw new Error(`no case ${name}`);
    const graph = stepGraph(model, c);
    const runner = await openGraph(withoutParameters(graph), device);
    try {
      const { losses, norms } = await train(graph, c, doubles(namedParameters(model)), (inputs, params) =>
        runOn(runner, new Map([...inputs, ...params])),
      );
      expect(furthest(losses, c.losses)).toBeLessThan(1e-4);
      expect(furthest(norms, c.norms)).toBeLessThan(1e-3);
    } finally {
      runner.dispose();
    }
  });
});
