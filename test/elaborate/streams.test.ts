/**
 * Streams, grafts, sharing, fusion and slices (language 5.6 to 5.8).
 */
import { describe, expect, test } from "vitest";
import type { GraphNode } from "../../compiler/graph/graph.ts";
import { graphHash } from "../../compiler/graph/hash.ts";
import type { Model } from "../../compiler/model.ts";
import { showShape } from "../../compiler/size.ts";
import { bound } from "../tools/nets.ts";
import { check, modelOf, parameterCount } from "./programs.ts";

function at(model: Model, path: string): GraphNode {
  const found = model.positions.find((position) => position.path === path || position.aliases.includes(path));
  if (found === undefined) throw new Error(`no position ${path}`);
  return found.node;
}

function usersOf(model: Model, node: GraphNode): readonly GraphNode[] {
  return model.graph.nodes.filter((user) => user.inputs.includes(node));
}

/** Layers whose nodes use `node`. */
function usedIn(model: Model, path: string): readonly string[] {
  return [...new Set(usersOf(model, at(model, path)).map((user) => user.layer))].sort();
}

const VGG_STIA = 264_448;

describe("streams", () => {
  test("have weights of their own, and are averaged unless told otherwise", () => {
    const model = modelOf("VGG16 ×2");
    expect(model.streams).toEqual(["in1", "in2"]);
    expect(parameterCount(model)).toBe(2 * 138_357_544);
    expect(model.graph.outputs.map((output) => output.name)).toEqual(["output"]);
    expect(modelOf("VGG16 ×2 fuse none").graph.outputs.map((output) => output.name)).toEqual(["in1", "in2"]);
  });

  test("of two networks, joined at positions of different names", () => {
    const model = modelOf("(VGG16, ResNet50) over rgb: RGB, flow: RGB with STIA at (conv4, layer2)");
    expect(parameterCount(model)).toBe(138_357_544 + 25_557_032 + 1_053_184);
    expect(usedIn(model, "flow.layer2")).toEqual(expect.arrayContaining(["stia_conv4_layer2"]));
  });

  test("share what they are told to share", () => {
    const siamese = modelOf("VGG16 ×2 over a: RGB, b: RGB sharing * with STIA at conv3");
    expect(parameterCount(siamese)).toBe(138_357_544 + VGG_STIA);
    const part = modelOf("VGG16 ×2 over a: RGB, b: RGB sharing conv1..conv5");
    const convolutions = 14_714_688;
    expect(parameterCount(part)).toBe(2 * 138_357_544 - convolutions);
  });

  test("fuse at a position and go on", () => {
    const model = modelOf("VGG16 ×2 fuse at fc7 Concat -> Linear(4) @head");
    expect(showShape(at(model, "head").shape)).toBe("[N, 4]");
    expect(model.positions.some((position) => position.path.endsWith("fc8"))).toBe(false);
  });

  test("in the middle of a pipeline take one value each", () => {
    const model = modelOf(`model M(x: f32[N, 8], y: f32[N, 8]) -> f32[N, 4] = Both
block Both()(x: [N, D], y: [N, D]) -> [N, 4] {
  return (x, y) -> Linear(4) ×2 -> Average
}`);
    expect(parameterCount(model)).toBe(2 * (8 * 4 + 4));
  });
});

describe("grafts", () => {
  test("go between streams, and everything after uses the new values", () => {
    const model = modelOf("VGG16 ×2 with STIA at conv3");
    expect(usedIn(model, "spatial.conv3").some((layer) => layer.startsWith("spatial."))).toBe(false);
    const first = usersOf(model, at(model, "stia_conv3")).find((user) => user.op === "max_pool2d");
    expect(first?.layer).toBe("spatial.pool3");
  });

  test("see the values before any of them is replaced", () => {
    const model = modelOf("VGG16 ×2 with STIA at conv3");
    const theta = model.graph.nodes.filter((node) => node.op === "conv2d" && node.layer.endsWith("theta"));
    expect(theta.map((node) => node.inputs[0])).toEqual([at(model, "spatial.conv3"), at(model, "temporal.conv3")]);
  });

  test("work inside residual branches", () => {
    const model = modelOf("ResNet18 with SE at layer1[0].conv2");
    const plain = modelOf("ResNet18");
    expect(model.graph.nodes.length).toBeGreaterThan(plain.graph.nodes.length);
    expect(usedIn(model, "layer1[0].conv2")).toEqual(
      ["se_layer1_0_conv2", "se_layer1_0_conv2.fc1"].filter((layer) =>
        usedIn(model, "layer1[0].conv2").includes(layer),
      ),
    );
  });

  test("stack at one position, in the order written", () => {
    const model = modelOf("VGG16 ×2 with STIA at conv3 with STIA at conv3");
    expect(parameterCount(model)).toBe(2 * 138_357_544 + 64 * 9 * 17 + 2 * VGG_STIA);
    expect(usersOf(model, at(model, "stia_conv3")).some((user) => user.layer.startsWith("stia_conv3_2"))).toBe(true);
  });

  test("stack also where the first leaves a stream as it is", () => {
    const one = 'STIA(direction="to_spatial")';
    const other = 'STIA(direction="to_temporal")';
    // The first looks at the temporal map as it was, the second at the spatial map that the first has made.
    const model = modelOf(`VGG16 ×2 with ${one} at conv3 with ${other} at conv3 with SE at conv3`);
    const looksAt = (unit: string): readonly string[] =>
      [...new Set(model.graph.nodes.flatMap((node) => (node.layer.startsWith(unit) ? node.inputs : [])))]
        .filter((input) => input.op !== "param" && input.op !== "constant" && !input.layer.startsWith(unit))
        .map((input) => input.layer);
    expect(looksAt("stia_conv3.").toSorted()).toEqual(["spatial.conv3.conv3_3", "temporal.conv3.conv3_3"]);
    expect(looksAt("stia_conv3_2.").toSorted()).toEqual(["stia_conv3", "temporal.conv3.conv3_3"]);
    expect(looksAt("spatial.se_conv3")).toEqual(["stia_conv3"]);
    expect(looksAt("temporal.se_conv3")).toEqual(["stia_conv3_2"]);
  });

  test("before a position touch only what enters it", () => {
    const model = modelOf("ResNet18 with SE at before layer2[0].conv1");
    const conv = model.graph.nodes.find((node) => node.layer === "layer2[0].conv1" && node.op === "conv2d");
    expect(conv?.inputs[0]).toBe(at(model, "se_before_layer2_0_conv1"));
    const skip = model.graph.nodes.find((node) => node.layer === "layer2[0].downsample.conv" && node.op === "conv2d");
    expect(skip?.inputs[0]).toBe(at(model, "layer1[1]"));
  });

  test("take ranges, all of a kind, and positions as values", () => {
    expect(graphHash(modelOf("VGG16 ×2 with STIA at conv3..conv5").graph)).toBe(
      graphHash(modelOf("VGG16 ×2 with STIA at conv3, conv4, conv5").graph),
    );
    const every = modelOf("ResNet18 with SE at layer2[*].conv2");
    expect(every.positions.filter((p) => /^se_layer2_\d_conv2$/.test(p.path))).toHaveLength(2);
    const spots = modelOf(`block Spotted(spots: list<position>) = VGG16 with SE at spots
model M(x: f32[N, 3, 224, 224]) -> f32[N, 1000] = Spotted([@conv4, @conv5])`);
    expect(graphHash(spots.graph)).toBe(graphHash(modelOf("VGG16 with SE at conv4, conv5").graph));
  });

  test("pick two of three streams", () => {
    const model = modelOf("VGG16 ×3 over a: RGB, b: RGB, c: RGB with STIA between a, c at conv3");
    expect(usedIn(model, "b.conv3")).toEqual(["b.pool3"]);
    expect(parameterCount(model)).toBe(3 * 138_357_544 + VGG_STIA);
  });

  test("between named streams may be what names them", () => {
    expect(graphHash(modelOf("VGG16 ×2 with STIA between spatial, temporal at conv3").graph)).toBe(
      graphHash(modelOf("VGG16 ×2 with STIA at conv3").graph),
    );
  });

  test("share a unit that has a name, and make a new one otherwise", () => {
    const shared = modelOf("const u = STIA()\nVGG16 ×2 with u at conv4, conv5");
    const apart = modelOf("VGG16 ×2 with STIA at conv4, conv5");
    expect(parameterCount(apart) - parameterCount(shared)).toBe(1_053_184);
  });

  test("of headlines reach into their streams", () => {
    const model = modelOf("model A = VGG16 ×2 with STIA at conv3\nA with SE at conv5");
    expect(graphHash(model.graph)).toBe(graphHash(modelOf("VGG16 ×2 with STIA at conv3 with SE at conv5").graph));
  });

  test("with none are nothing", () => {
    expect(graphHash(modelOf("VGG16 with none at conv3").graph)).toBe(graphHash(modelOf("VGG16").graph));
  });
});

describe("slices", () => {
  test("of streams: the core rule of grafting", () => {
    const inputs = "rgb: f32[N, 3, 224, 224], flow: f32[N, 20, 224, 224]";
    const cut = modelOf(`model M(${inputs}) -> [N, 5] {
  m = VGG16(classes=5) ×2
  return (rgb, flow) -> m[..conv3] -> STIA @stia_conv3 -> m[conv3..] -> Average
}`);
    const headline = modelOf(`model M(${inputs}) -> [N, 5] = VGG16(classes=5) ×2 with STIA at conv3`);
    expect(graphHash(cut.graph)).toBe(graphHash(headline.graph));
  });

  test("put together again are the whole", () => {
    const parts = modelOf(`model M(x: f32[N, 3, 64, 64]) -> f32[N, 1000] {
  r = ResNet18
  return x -> r[..layer1] -> r[layer1..layer3] -> r[layer3..]
}`);
    const whole = modelOf("model M(x: f32[N, 3, 64, 64]) -> f32[N, 1000] = ResNet18");
    expect(graphHash(parts.graph)).toBe(graphHash(whole.graph));
  });
});

describe("instances", () => {
  test("a name used twice shares its weights, nested ones included", () => {
    const model = modelOf(`model M(x: f32[N, 64, 8, 8]) -> [N, 64, 8, 8] {
  s = SE()
  return x -> s -> s
}`);
    expect(parameterCount(model)).toBe(64 * 4 + 4 + 4 * 64 + 64);
  });

  test("two layers of one name are refused", () => {
    const { diagnostics } = check("model M(x: f32[N, 8]) -> [N, 8] = Linear(8) @a -> Linear(8) @a");
    expect(diagnostics.map((d) => d.code)).toEqual(["E0204"]);
  });

  test("loops number their iterations unless the body names itself", () => {
    const model = modelOf(`model M(x: f32[N, 4]) -> [N, 4] =
  repeat 2 { Linear(4) } @a -> repeat i in 0..1 { Linear(4) @"b{i + 1}" }`);
    expect(model.parameters.map((p) => p.path).filter((path) => path.endsWith("weight"))).toEqual([
      "a[1].weight",
      "a[2].weight",
      "b1.weight",
      "b2.weight",
    ]);
  });
});

describe("what streams give before they are fused", () => {
  const streams = "over a: f32[N, 3, 32, 32], b: f32[N, 3, 32, 32]";
  const net = "block Small(c: int) = Conv(8) @conv -> GlobalAvgPool -> Linear(c) @fc";
  const outputs = (headline: string): readonly string[] =>
    modelOf(`${net}\nSmall(4) ×2 ${streams} ${headline}`).streamOutputs.map((node) => `${node.op} ${node.layer}`);

  test("is kept with the model, one value for each stream", () => {
    expect(outputs("fuse Average")).toEqual(["linear a.fc", "linear b.fc"]);
    expect(outputs("")).toEqual(["linear a.fc", "linear b.fc"]);
    expect(outputs("fuse SoftmaxAverage")).toEqual(["linear a.fc", "linear b.fc"]);
    expect(outputs("fuse none")).toEqual(["linear a.fc", "linear b.fc"]);
    expect(outputs("with SE(reduction=2) at conv with STIA at conv")).toEqual(["linear a.fc", "linear b.fc"]);
  });
  test("is what is fused, where that is in the middle, after grafts", () => {
    expect(outputs("fuse at conv Concat -> GlobalAvgPool -> Linear(4) @end")).toEqual([
      "conv2d a.conv",
      "conv2d b.conv",
    ]);
    expect(outputs("with SE(reduction=2) at conv fuse at conv Concat -> GlobalAvgPool -> Linear(4) @end")).toEqual([
      "binary a.se_conv",
      "binary b.se_conv",
    ]);
  });
  test("stays with the model when sizes become numbers", () => {
    const { streamOutputs, graph } = bound(modelOf(`${net}\nSmall(4) ×2 ${streams}`), { N: 3 });
    expect(streamOutputs.map(({ shape }) => shape)).toEqual([
      [3, 4],
      [3, 4],
    ]);
    for (const node of streamOutputs) expect(graph.nodes[node.id]).toBe(node);
  });
  test("is nothing for one stream, and where a stream is not needed", () => {
    expect(modelOf("VGG16").streamOutputs).toEqual([]);
    const first = "block First()(x: [...S], y: [...S]) -> [...S] = x";
    const model = modelOf(`${net}\n${first}\nSmall(4) ×2 ${streams} fuse First`);
    expect(model.streams).toEqual(["a", "b"]);
    expect(model.streamOutputs).toEqual([]);
  });
  test("units are told from the backbone", () => {
    expect(
      modelOf(`${net}\nSmall(4) ×2 ${streams} with SE(reduction=2) @gate at conv with STIA at conv`).units,
    ).toEqual(["a.gate", "b.gate", "stia_conv"]);
  });
});
