import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { elaborate } from "../../compiler/elaborate/elaborate.ts";
import { costOf } from "../../compiler/graph/cost.ts";
import { graphHash } from "../../compiler/graph/hash.ts";
import { printGraph } from "../../compiler/graph/print.ts";
import type { Model, Resolve } from "../../compiler/model.ts";
import { showShape, substitute } from "../../compiler/size.ts";
import { mapResolver, torchvisionName } from "../../compiler/weights/map.ts";
import { planWeights } from "../../compiler/weights/plan.ts";
import { parse } from "../../grammar/parser.ts";
import type { Source } from "../../grammar/source.ts";

const sources = new Map<string, Source>();

/** The library and the examples. */
const resolve: Resolve = (path) => {
  const known = sources.get(path);
  if (known !== undefined) return known;
  const file = path.startsWith("std/") ? join("compiler", `${path}.net`) : join("examples", path);
  if (!existsSync(file)) return undefined;
  const source = { path, text: readFileSync(file, "utf8") };
  sources.set(path, source);
  return source;
};

function run(text: string) {
  return elaborate({ path: "test.net", text }, resolve, { bind: new Map() });
}

function modelOf(text: string): Model {
  const { model, diagnostics } = run(text);
  expect(diagnostics.filter(({ severity }) => severity === "error")).toEqual([]);
  if (model === undefined) throw new Error(`no model came of ${text}`);
  return model;
}

function example(name: string): Model {
  return modelOf(readFileSync(join("examples", name), "utf8"));
}

function parameterCount(model: Model): number {
  return model.parameters
    .filter(({ kind }) => kind === "param")
    .reduce((sum, { node }) => sum + node.shape.reduce<number>((product, n) => product * Number(n), 1), 0);
}

function paths(model: Model, prefix: string): readonly string[] {
  return model.parameters.map(({ path }) => path).filter((path) => path.startsWith(prefix));
}

describe("backbones have torchvision's number of parameters", () => {
  test.each([
    ["VGG11", 132_863_336],
    ["VGG13", 133_047_848],
    ["VGG16", 138_357_544],
    ["VGG19", 143_667_240],
    ["ResNet18", 11_689_512],
    ["ResNet34", 21_797_672],
    ["ResNet50", 25_557_032],
    ["ResNet101", 44_549_160],
    ["ResNet152", 60_192_808],
  ])("%s: %i", (name, count) => {
    expect(parameterCount(modelOf(name))).toBe(count);
  });
  test("ResNet-50 has 161 parameters, 106 running statistics and the stride on its 3x3 convolutions", () => {
    const model = modelOf("ResNet50");
    expect(model.parameters.filter(({ kind }) => kind === "param")).toHaveLength(161);
    expect(model.parameters.filter(({ kind }) => kind === "state")).toHaveLength(106);
    const strided = model.graph.nodes.flatMap((node) =>
      node.op === "conv2d" && node.attrs.stride[0] === 2 ? [showShape(node.inputs[1]?.shape.slice(2) ?? [])] : [],
    );
    expect(strided.toSorted((a, b) => a.localeCompare(b))).toEqual([
      "[1, 1]",
      "[1, 1]",
      "[1, 1]",
      "[3, 3]",
      "[3, 3]",
      "[3, 3]",
      "[7, 7]",
    ]);
  });
});

describe("examples", () => {
  test.each([
    ["headline.net", 278_042_512],
    ["lenet.net", 61_706],
    ["linear.net", 7_850],
    ["neonatal_pain.net", 269_881_288],
    ["resnet50.net", 25_557_032],
    ["stia_expanded.net", 269_881_288],
    ["stia_named.net", 269_881_288],
    ["transformer.net", 22_049_896],
    ["vgg16.net", 138_357_544],
  ])("%s has %i parameters", (name, count) => {
    expect(parameterCount(example(name))).toBe(count);
  });
  test("tiny_stia.net is small, has two streams and its classes by name", () => {
    const model = example("tiny_stia.net");
    expect(parameterCount(model)).toBeLessThan(300_000);
    expect(model.streams).toEqual(["spatial", "temporal"]);
    expect(model.classes).toEqual(["calm", "cry", "mild", "severe"]);
  });
  test("the headline written out and its expansion are one graph", () => {
    expect(graphHash(example("stia_expanded.net").graph)).toBe(graphHash(example("stia_named.net").graph));
  });
  test.each([
    ["vgg16.net", 15.47],
    ["resnet50.net", 4.089],
  ])("%s does %d billion multiply-adds for an image", (name, billions) => {
    const macs = substitute(costOf(example(name).graph).total.macs, new Map([["N", 1]]));
    expect(Number(macs) / 1e9).toBeCloseTo(billions, 3);
  });
  test("search.net is read without errors", () => {
    const { diagnostics } = run(readFileSync("examples/search.net", "utf8"));
    expect(diagnostics.filter(({ severity }) => severity === "error")).toEqual([]);
  });
});

/** Parameters of one STIA unit between two maps of 64 channels. */
function stia(args: string): Model {
  return modelOf(
    `model M(spatial: f32[N, 64, 9, 7], temporal: f32[N, 64, 9, 7]) -> (f32[N, 64, 9, 7], f32[N, 64, 9, 7]) {
       s, t = (spatial, temporal) -> STIA${args} @stia
       return (s, t)
     }`,
  );
}

describe("STIA", () => {
  const C = 64;
  const edge = 2 * C * C + 4.5 * C; // θ, φ, g, out with biases, and γ, β
  test.each([
    ["", 2 * edge],
    ['(direction="to_spatial")', edge],
    ['(direction="to_temporal")', edge],
    ['(value="self")', 2 * edge],
    ['(affinity="shared")', 3 * C * C + 8 * C],
    ["(tie=true)", edge],
    ["(scale=true)", 2 * edge],
    ['(pair="dot")', 2 * edge],
    ['(pair="gaussian")', 2 * (C * C + 3.5 * C)],
    ['(pair="concat")', 2 * (edge + C)],
    ['(pair="concat", heads=2, scale=true, affinity="shared")', 3 * C * C + 8 * C + C],
    ['(pool="conv-pool")', 2 * edge],
    ['(pool="pool-conv", value="self")', 2 * edge],
    ['(gate="scalar0")', 2 * (2 * C * C + 2.5 * C + 1)],
    ['(gate="conv0")', 2 * (2 * C * C + 2.5 * C)],
    ["(heads=4, reduction=4)", 2 * (C * C + 0.75 * C + 3 * C)],
  ])("STIA%s", (args, count) => {
    expect(parameterCount(stia(args))).toBe(count);
  });
  test("names of the parameters", () => {
    const each = (direction: string) =>
      ["theta", "phi", "g", "out"]
        .flatMap((layer) => [`${layer}.weight`, `${layer}.bias`])
        .concat(["bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"])
        .map((name) => `stia.${direction}.${name}`);
    expect(paths(stia(""), "stia").toSorted()).toEqual([...each("to_spatial"), ...each("to_temporal")].toSorted());
    expect(paths(stia('(affinity="shared")'), "stia.affinity")).toHaveLength(4);
  });
  test("a place in the headline names its parameters", () => {
    const model = example("headline.net");
    expect(paths(model, "stia_conv3.to_spatial.theta")).toEqual([
      "stia_conv3.to_spatial.theta.weight",
      "stia_conv3.to_spatial.theta.bias",
    ]);
    expect(paths(model, "temporal.conv1.conv1_1.weight")).toHaveLength(1);
  });
  test("pooling leaves the smaller map's keys", () => {
    const shapes = (args: string) =>
      stia(args).graph.nodes.flatMap((node) => (node.op === "softmax" ? [node.shape.slice(1)] : []));
    expect(shapes("")).toEqual([
      [63, 63],
      [63, 63],
    ]);
    expect(shapes('(pool="conv-pool")')[0]).toEqual([63, 12]);
    expect(shapes('(pool="pool-conv")')[0]).toEqual([63, 12]);
    expect(shapes('(pair="dot")')).toEqual([]);
  });
  test.each([
    ['(affinity="shared", pool="conv-pool")', "E0311"],
    ['(affinity="shared", tie=true)', "E0311"],
    ['(affinity="shared", direction="to_spatial")', "E0311"],
    ["(reduction=7)", "E0311"],
    ["(reduction=2, heads=5)", "E0311"],
  ])("STIA%s is refused", (args, code) => {
    const { diagnostics } = run(`VGG16 ×2 with STIA${args} at conv3`);
    expect(diagnostics.map((d) => d.code)).toEqual([code]);
  });
  test("with tied weights and one map for both, both updates are one", () => {
    const model = modelOf(
      `model M(x: f32[N, 64, 9, 7]) -> (f32[N, 64, 9, 7], f32[N, 64, 9, 7]) {
         s, t = (x, x) -> STIA(tie=true) @stia
         return (s, t)
       }`,
    );
    const [s, t] = model.graph.outputs;
    expect(s?.node).toBe(t?.node);
    const alone = modelOf("model M(x: f32[N, 64, 9, 7]) -> f32[N, 64, 9, 7] = NonLocal @one");
    expect(model.graph.nodes.map(({ op }) => op)).toEqual(alone.graph.nodes.map(({ op }) => op));
  });
  test("a value that is none of the words is refused", () => {
    expect(run('VGG16 ×2 with STIA(gate="open") at conv3').model).toBeUndefined();
  });
});

describe("other attention", () => {
  test("CrossNonLocal takes maps of unequal size and channels", () => {
    const model = modelOf(
      "model M(q: f32[N, 64, 8, 8], kv: f32[N, 32, 4, 4]) -> f32[N, 64, 8, 8] { return CrossNonLocal()(q, kv) }",
    );
    expect(parameterCount(model)).toBe(64 * 32 + 32 + 2 * (32 * 32 + 32) + 32 * 64 + 64 + 128);
  });
  test.each(['value="self"', 'pair="gaussian"'])("%s needs equal maps", (args) => {
    const { diagnostics } = run(
      `model M(q: f32[N, 64, 8, 8], kv: f32[N, 32, 4, 4]) -> f32[N, 64, 8, 8] { return CrossNonLocal(${args})(q, kv) }`,
    );
    expect(diagnostics.map(({ code }) => code)).toEqual(["E0311"]);
  });
  test.each([
    ["SE", 2 * (512 * 32) + 32 + 512],
    ["CBAM", 2 * (512 * 32) + 32 + 512 + 2 * 49 + 1],
    ["NonLocal", 2 * 512 * 512 + 4.5 * 512],
  ])("%s within each stream", (unit, count) => {
    const both = parameterCount(modelOf(`VGG16(classes=4) ×2 over a: RGB, b: RGB with ${unit} at conv5`));
    expect(both - 2 * 134_276_932).toBe(2 * count);
  });
});

/** The header that torchvision's file of a backbone has: our own names, read through the map. */
function torchvisionHeader(backbone: string): Map<string, readonly number[]> {
  const { parameters, weightMaps } = modelOf(backbone);
  const map = weightMaps.find(({ name }) => name.endsWith("_torchvision"));
  if (map === undefined) throw new Error(`no map for ${backbone}`);
  const header = new Map<string, readonly number[]>();
  for (const { path, node } of parameters) {
    const tensor = mapResolver(map)(path);
    if (tensor?.kind !== "tensor") throw new Error(`${path} is in no rule`);
    header.set(tensor.name, node.shape.map(Number));
    if (path.endsWith("running_var")) header.set(tensor.name.replace("running_var", "num_batches_tracked"), []);
  }
  return header;
}

describe("weights", () => {
  test("torchvision's names of layers", () => {
    const { weightMaps } = example("headline.net");
    expect(torchvisionName(weightMaps, "spatial.conv3.conv3_3")).toBe("features.14");
    expect(torchvisionName(weightMaps, "stia_conv3.to_spatial.theta")).toBeUndefined();
    expect(torchvisionName(example("resnet50.net").weightMaps, "layer2[0].downsample.conv")).toBe(
      "layer2.0.downsample.0",
    );
  });
  test("torchvision's VGG16 fills both streams of the headline; STIA starts afresh", () => {
    const header = torchvisionHeader("VGG16");
    expect([...header.keys()].slice(0, 2)).toEqual(["features.0.weight", "features.0.bias"]);
    const plan = planWeights(example("headline.net"), header, { skip: [] });
    expect(plan.map).toBe("VGG16_torchvision");
    expect(plan.loads).toHaveLength(64);
    expect(plan.fresh).toHaveLength(2 * 2 * 12);
    expect(plan.fresh.every((path) => path.startsWith("stia_conv"))).toBe(true);
    expect(plan).toMatchObject({ missing: [], misshapen: [], unused: [], skipped: [] });
    expect(plan.loads.filter(({ via }) => via.length > 0).map(({ path }) => path)).toEqual([
      "temporal.conv1.conv1_1.weight",
    ]);
  });
  test("a head for other classes is an error unless it is skipped", () => {
    const header = torchvisionHeader("VGG16");
    const model = example("stia_named.net");
    expect(planWeights(model, header, { skip: [] }).misshapen).toHaveLength(4);
    const plan = planWeights(model, header, { skip: ["fc8"] });
    expect(plan).toMatchObject({ misshapen: [], missing: [], unused: [] });
    expect(plan.skipped).toHaveLength(4);
  });
  test("the rules of neonatal_pain.net account for every parameter", () => {
    const plan = planWeights(example("neonatal_pain.net"), torchvisionHeader("VGG16"), { skip: [] });
    expect(plan.map).toBe("TwoStream");
    expect(plan.loads).toHaveLength(60);
    expect(plan).toMatchObject({ fresh: [], missing: [], misshapen: [], unused: [] });
    expect(plan.skipped).toHaveLength(4 + 48);
  });
  test("torchvision's ResNet-50, with its batch counters", () => {
    const header = torchvisionHeader("ResNet50");
    expect(header.size).toBe(320);
    const plan = planWeights(example("resnet50.net"), header, { skip: [] });
    expect(plan.loads).toHaveLength(267);
    expect(plan).toMatchObject({ fresh: [], missing: [], misshapen: [], unused: [] });
    const grafted = modelOf("ResNet50 ×2 with STIA at layer3 with SE at layer3[2]");
    expect(planWeights(grafted, header, { skip: [] }).loads).toHaveLength(2 * 267);
  });
  test("a file that netc wrote fills the model that it was written from, and its backbone another", () => {
    const header = (model: Model) =>
      new Map(model.parameters.map(({ path, node }) => [path, node.shape.map(Number)] as const));
    const model = example("tiny_stia.net");
    const plan = planWeights(model, header(model), { skip: [] });
    expect(plan).toMatchObject({ fresh: [], missing: [], misshapen: [], unused: [] });
    const backbone = planWeights(example("headline.net"), header(modelOf("VGG16")), { skip: [] });
    expect(backbone.loads).toHaveLength(64);
    expect(backbone.missing).toEqual([]);
    expect(backbone.fresh).toHaveLength(48);
  });
});

test.each(["tiny_stia.net", "resnet50.net"])("%s is the same from syntax trees that went through JSON", (name) => {
  const built = new Map<string, Source>();
  const fromTrees: Resolve = (path, from) => {
    const source = resolve(path, from);
    if (source === undefined || "error" in source || !path.startsWith("std/")) return source;
    const known = built.get(path) ?? { ...source, tree: JSON.parse(JSON.stringify(parse(source).file)) };
    built.set(path, known);
    return known;
  };
  const text = readFileSync(join("examples", name), "utf8");
  const { model, diagnostics } = elaborate({ path: "test.net", text }, fromTrees, { bind: new Map() });
  expect(diagnostics).toEqual([]);
  if (model === undefined) throw new Error("no model");
  expect(built.size).toBeGreaterThan(2);
  expect(printGraph(model.graph)).toBe(printGraph(example(name).graph));
});
