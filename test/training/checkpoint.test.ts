/**
 * Checkpointing: the same gradients from less memory. Whole steps with and without `#[checkpoint]` agree to rounding on
 * the oracle and on WASM, running statistics move once and masks stay; any choice of regions gives the same gradients;
 * the second computation is made late, and the planned memory falls.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { GraphBuilder } from "../../compiler/graph/builder.ts";
import { differentiate } from "../../compiler/graph/gradient.ts";
import type { Graph, GraphNode } from "../../compiler/graph/graph.ts";
import { graphHash } from "../../compiler/graph/hash.ts";
import { meanSquaredError, withLoss } from "../../compiler/graph/losses.ts";
import type { Region } from "../../compiler/graph/region.ts";
import { trainingStep } from "../../compiler/graph/step.ts";
import { trainingForm } from "../../compiler/graph/training.ts";
import { verifyGraph } from "../../compiler/graph/verify.ts";
import type { Model } from "../../compiler/model.ts";
import { evaluated, leavesOf, outputNamed } from "../gradient/check.ts";
import { randomValues, twoStreams } from "../loop/nets.ts";
import { modelOf } from "../tools/nets.ts";
import { plainStage } from "./stage.ts";
import { activationBytes, furthest, loweredStep, stepProgram, stepsOnOracle, stepsOnWasm } from "./steps.ts";

function stageOf(model: Model) {
  return { ...plainStage(model), optimizer: { kind: "sgd", momentum: 0.9, nesterov: false }, clipNorm: 1 } as const;
}

function stepGraph(model: Model): Graph {
  const step = trainingStep(model, stageOf(model));
  if (!("graph" in step)) throw new Error(step.reason);
  return step.graph;
}

/** Texts in which `MARK` stands where a checkpoint may be. */
const NETWORKS = {
  "a chain of blocks with batch norm and dropout": `
MARK block Part(c: int) = Conv(c, use_bias=false) -> BatchNorm -> ReLU -> Conv(c) -> Dropout(0.3) -> Sigmoid
model Chain(x: f32[N, 3, 6, 5]) -> f32[N, 4] = repeat 3 { Part(4) } -> GlobalAvgPool -> Linear(4)`,
  "statements, and regions inside of regions": `
MARK block Inner(c: int) = Conv(c) -> BatchNorm -> ReLU
MARK block Outer(c: int)(x: [N, C, H, W]) -> [N, c, H, W] {
  y = x -> Inner(c) -> Inner(c) -> Tanh
  MARK z = y -> Inner(c) -> Softmax(axis=1)
  MARK return (y, z) -> Sum -> Inner(c)
}
model Nested(x: f32[N, 3, 6, 5]) -> f32[N, 4] {
  MARK a = x -> Outer(4) -> MaxPool(2)
  return a -> Outer(5) -> GlobalAvgPool -> Linear(4)
}`,
  "parts of a network, joined by a skip": `
block Body = Conv(4) @a -> BatchNorm -> ReLU @b -> Conv(4) @c -> ReLU @d -> GlobalAvgPool @e -> Linear(4) @f
model Parts(x: f32[N, 3, 6, 5]) -> f32[N, 4] {
  net = Body
  MARK u = x -> net[..b]
  MARK v = u -> net[b..d]
  w = u + v
  return w -> net[d..]
}`,
  "blocks shared by two streams, with a unit between them": `
block ConvBN(c: int) = Conv(c, use_bias=false) @conv -> BatchNorm @bn -> ReLU
MARK block Front(c: int) = ConvBN(c) @conv1 -> MaxPool(2) @pool1 -> ConvBN(c) @conv2
MARK block Back(c: int) = ConvBN(c) @conv3 -> ConvBN(c) @conv4 -> GlobalAvgPool
block Small = Front(4) -> Back(6) -> Linear(4) @fc
model Two = Small ×2 over a: f32[N, 3, 8, 6], b: f32[N, 4, 8, 6] with STIA at conv1, conv3 fuse Average`,
} as const;

describe.each(Object.entries(NETWORKS))("%s", (_, text) => {
  const plain = modelOf(text.replaceAll("MARK", ""), { N: 2 });
  const marked = modelOf(text.replaceAll("MARK", "#[checkpoint]"), { N: 2 });

  test("is the same network", () => {
    expect(graphHash(marked.graph)).toBe(graphHash(plain.graph));
    expect(plain.graph.nodes.every(({ region }) => region === undefined)).toBe(true);
    expect(new Set(marked.graph.nodes.flatMap(({ region }) => region?.id ?? [])).size).toBeGreaterThan(1);
  });

  test("takes the same steps", async () => {
    const graph = stepGraph(marked);
    expect(verifyGraph(graph)).toEqual([]);
    expect(graph.nodes.some(({ op }) => op === "recompute")).toBe(true);
    const [want, single] = [stepsOnOracle(plain, stageOf(plain), 2), await stepsOnWasm(plain, stageOf(plain), 2)];
    expect(furthest(stepsOnOracle(marked, stageOf(marked), 2), want)).toBeLessThan(1e-12);
    expect(furthest(await stepsOnWasm(marked, stageOf(marked), 2), single)).toBeLessThan(1e-5);
  });
});

/** `graph` with its nodes in the regions that `of` chooses for them. */
function inRegions(graph: Graph, of: (node: GraphNode) => Region | undefined): Graph {
  const builder = new GraphBuilder();
  const copies = new Map<GraphNode, GraphNode>();
  const copyOf = (node: GraphNode): GraphNode => copies.get(node) ?? node;
  for (const node of graph.nodes)
    copies.set(node, builder.copy({ ...node, region: of(node) }, node.inputs.map(copyOf)));
  return builder.finish(
    graph.name,
    graph.outputs.map(({ name, node }) => ({ name, node: copyOf(node) })),
  ).graph;
}

test("any regions give the same gradients", () => {
  const net = twoStreams(2, 6, 4).graph();
  const graph = trainingForm(
    withLoss(net, ({ a, output, target }) => {
      const { name } = net.outputs[0] ?? { name: "" };
      return meanSquaredError(a, output(name), target("target", output(name).shape));
    }),
  );
  const values = randomValues(graph);
  const gradients = (of: (node: GraphNode) => Region | undefined): Map<string, Float64Array> => {
    const within = inRegions(graph, of);
    const made = differentiate(within, outputNamed(within, "loss"), leavesOf(within));
    if (!("graph" in made)) throw new Error(made.reason);
    expect(verifyGraph(made.graph)).toEqual([]);
    return evaluated(made.graph, values);
  };
  const want = gradients(() => undefined);
  const outer: Region = { id: 1 };
  const middle: Region = { id: 2, parent: outer };
  const regions = [undefined, outer, middle, { id: 3, parent: middle }, { id: 4, parent: outer }, { id: 5 }];
  fc.assert(
    fc.property(
      fc.array(fc.nat(regions.length - 1), { minLength: graph.nodes.length, maxLength: graph.nodes.length }),
      (of) => {
        expect(gradients((node) => regions[of[node.id] ?? 0])).toEqual(want);
      },
    ),
    { numRuns: 30, seed: 1 },
  );
});

test("values that nothing inside needs twice are not computed twice", () => {
  const model = modelOf(
    `#[checkpoint] block Part(c: int) = Conv(c) -> ReLU -> Conv(c) -> ReLU
     model Net(x: f32[N, 3, 6, 6]) -> f32[N, 4] = Part(4) -> Part(5) -> GlobalAvgPool -> Linear(4)`,
    { N: 1 },
  );
  const graph = stepGraph(model);
  // Of each part the first convolution: what leaves the part is kept.
  expect(graph.nodes.filter(({ op }) => op === "conv2d").length).toBe(4 + 2);
});

test("regions are entered again behind the loss, the last first", () => {
  const model = modelOf(
    `#[checkpoint] block Part() = repeat 2 { Conv(16) -> ReLU }
     model Net(x: f32[N, 16, 8, 8]) -> f32[N, 4] = Part @a -> Part @b -> Part @c -> GlobalAvgPool -> Linear(4)`,
    { N: 2 },
  );
  const kernels = loweredStep(model, stageOf(model)).loops.run.map(({ name }) => name);
  const [loss, ...again] = [/^loss/, /^c.1..conv_1.relu/, /^b.1..conv_1.relu/, /^a.1..conv_1.relu/].map((name) =>
    kernels.findLastIndex((kernel) => name.test(kernel)),
  );
  const gradients = ["c", "b", "a"].map((part) => kernels.indexOf(`${part}[1].conv_1.weight_grad`));
  const order = [loss, ...again.flatMap((at, i) => [at, gradients[i]])];
  expect(order).not.toContain(-1);
  expect(order).toEqual([...order].sort((a, b) => Number(a) - Number(b)));
});

/** Gradients of parameters live until the update, whatever is checkpointed. */
function gradientBytes(model: Model): number {
  const sizes = model.parameters.filter(({ kind }) => kind === "param").map(({ node }) => node.shape.map(Number));
  return sizes.reduce((sum, shape) => sum + 4 * shape.reduce((a, b) => a * b, 1), 0);
}

describe("planned memory", () => {
  test("of a deep chain falls", () => {
    const text = (mark: string): string => `
${mark} block Part() = repeat 4 { Conv(16) -> ReLU }
model Chain(x: f32[N, 16, 24, 24]) -> f32[N, 4] = repeat 6 { Part } -> GlobalAvgPool -> Linear(4)`;
    const [plain, marked] = ["", "#[checkpoint]"].map((mark) => {
      const model = modelOf(text(mark), { N: 2 });
      return activationBytes(stepProgram(model, stageOf(model)));
    });
    expect(marked).toBeLessThan(0.55 * (plain ?? 0));
  });

  test("of VGG16 falls, whose parameters' gradients stay", () => {
    const text = (mark: string): string => `
model Net(x: f32[N, 3, 112, 112]) -> f32[N, 4] {
  net = VGG16(classes=4)
  ${mark} a = x -> net[..pool1]
  ${mark} b = a -> net[pool1..pool2]
  ${mark} c = b -> net[pool2..pool3]
  ${mark} d = c -> net[pool3..pool4]
  ${mark} e = d -> net[pool4..pool5]
  return e -> net[pool5..]
}`;
    const [plain = 0, marked = 0] = ["", "#[checkpoint]"].map((mark) => {
      const model = modelOf(text(mark), { N: 2 });
      return activationBytes(stepProgram(model, stageOf(model))) - gradientBytes(model);
    });
    expect(marked).toBeLessThan(0.8 * plain);
  });
});
