import { describe, expect, test } from "vitest";
import type { Model, Parameter, Position } from "../../compiler/model.ts";
import { IDENTITY_MAP, mapResolver, torchvisionName, type WeightMap } from "../../compiler/weights/map.ts";
import { applyTransforms, planWeights, reportWeights, type WeightLoad } from "../../compiler/weights/plan.ts";

type Shapes = Readonly<Record<string, readonly number[]>>;

function parameter(path: string, shape: readonly number[]): Parameter {
  const init = { kind: "constant", value: 0 } as const;
  const attrs = { path, kind: "param", init } as const;
  const node = { id: 0, op: "param", inputs: [], attrs, shape, dtype: "f32", layer: "", origins: [] } as const;
  return { path, node, init, kind: "param" };
}

function modelOf(
  shapes: Shapes,
  more: { streams?: readonly string[]; maps?: readonly WeightMap[]; grafts?: Readonly<Record<string, string>> } = {},
): Pick<Model, "parameters" | "streams" | "positions" | "weightMaps"> {
  const parameters = Object.entries(shapes).map(([path, shape]) => parameter(path, shape));
  const [first] = parameters;
  if (first === undefined) throw new Error("a model has parameters");
  const places = { conv1: "Conv", ...more.grafts };
  const positions: Position[] = Object.entries(places).map(([path, block]) => ({
    path,
    aliases: [],
    node: first.node,
    block,
  }));
  return { parameters, streams: more.streams ?? [], positions, weightMaps: more.maps ?? [] };
}

function map(name: string, rules: WeightMap["rules"], base?: WeightMap): WeightMap {
  return { name, target: "Net", file: undefined, sha256: undefined, rules, base };
}

function rule(to: string, from: string, via: WeightLoad["via"] = []): WeightMap["rules"][number] {
  return { kind: "map", to, from, via };
}

function header(shapes: Shapes): ReadonlyMap<string, readonly number[]> {
  return new Map(Object.entries(shapes));
}

const torch = map("Net_torchvision", [rule("conv1_1", "features.0"), rule("fc8", "classifier.6")]);
const net: Shapes = { "conv1.conv1_1.weight": [4, 3, 3, 3], "conv1.conv1_1.bias": [4], "fc8.weight": [2, 4] };
const torchFile: Shapes = { "features.0.weight": [4, 3, 3, 3], "features.0.bias": [4], "classifier.6.weight": [2, 4] };

describe("rules", () => {
  const names = (rules: WeightMap["rules"], path: string) => mapResolver(map("m", rules))(path);
  test("enclosing names may be left out and what is below is kept", () => {
    expect(names([rule("conv1_1", "features.0")], "spatial.conv1.conv1_1.weight")).toEqual({
      kind: "tensor",
      name: "features.0.weight",
      via: [],
    });
    expect(names([rule("conv1_1", "features.0")], "conv1.conv1_10.weight")).toBeUndefined();
  });
  test("captures take segments and parts of segments", () => {
    const rules = [
      rule("layer{s}[{b}].downsample.conv", "layer{s}.{b}.downsample.0"),
      rule("layer{s}[{b}].{name}", "layer{s}.{b}.{name}"),
    ];
    expect(names(rules, "layer3[12].downsample.conv.weight")).toMatchObject({ name: "layer3.12.downsample.0.weight" });
    expect(names(rules, "temporal.layer1[0].bn1.running_mean")).toMatchObject({ name: "layer1.0.bn1.running_mean" });
    expect(names([rule("{p}", "{p}")], "a.b.c.weight")).toMatchObject({ name: "a.b.c.weight" });
    expect(names([rule("spatial.{p}", "{p}")], "spatial.a.b")).toMatchObject({ name: "a.b" });
    expect(names([rule("spatial.{p}", "{p}")], "temporal.a.b")).toBeUndefined();
    expect(names([rule("*", "*")], "a.b")).toMatchObject({ name: "a.b" });
  });
  test("the first rule that fits is taken", () => {
    const rules = [{ kind: "skip", pattern: "*.fc8" } as const, rule("{p}", "{p}")];
    expect(names(rules, "spatial.fc8.bias")).toMatchObject({ kind: "skip" });
    expect(names(rules, "spatial.fc7.bias")).toMatchObject({ kind: "tensor" });
    expect(names([{ kind: "skip", pattern: "stia_*" }], "stia_conv3.to_spatial.g.weight")).toMatchObject({
      kind: "skip",
    });
  });
  test("a map from another goes through it", () => {
    const flow = rule("temporal.conv1_1.weight", "conv1_1.weight", [{ kind: "repeat_mean", axis: 1 }]);
    const both = map("TwoStream", [rule("spatial.{p}", "{p}"), flow, rule("temporal.{p}", "{p}")], torch);
    const resolve = mapResolver(both);
    expect(resolve("spatial.conv1.conv1_1.bias")).toMatchObject({ name: "features.0.bias" });
    expect(resolve("temporal.conv1.conv1_1.weight")).toEqual({
      kind: "tensor",
      name: "features.0.weight",
      via: [{ kind: "repeat_mean", axis: 1 }],
    });
    expect(resolve("temporal.unknown.weight")).toBeUndefined();
  });
  test("torchvision's name of a layer", () => {
    expect(torchvisionName([IDENTITY_MAP, torch], "spatial.conv1.conv1_1")).toBe("features.0");
    expect(torchvisionName([torch], "stia_conv3.to_spatial.theta")).toBeUndefined();
    expect(torchvisionName([IDENTITY_MAP], "conv1")).toBeUndefined();
  });
});

describe("plans", () => {
  test("the map that fits the file is found", () => {
    const model = modelOf(net, { maps: [torch] });
    const plan = planWeights(model, header(torchFile), { skip: [] });
    expect(plan.map).toBe("Net_torchvision");
    expect(plan.loads.map(({ path, tensor }) => [path, tensor])).toEqual([
      ["conv1.conv1_1.weight", "features.0.weight"],
      ["conv1.conv1_1.bias", "features.0.bias"],
      ["fc8.weight", "classifier.6.weight"],
    ]);
    expect(reportWeights(plan, "a.safetensors")).toEqual([]);
    expect(planWeights(model, header(net), { skip: [] }).map).toBe(IDENTITY_MAP.name);
  });

  const grafts = { stia_conv1: "STIA", "spatial.se_conv1": "SE" };
  const twoStream = modelOf(
    {
      ...Object.fromEntries(Object.entries(net).map(([path, shape]) => [`spatial.${path}`, shape])),
      ...Object.fromEntries(Object.entries(net).map(([path, shape]) => [`temporal.${path}`, shape])),
      "temporal.conv1.conv1_1.weight": [4, 20, 3, 3],
      "stia_conv1.to_spatial.theta.weight": [2, 4, 1, 1],
      "spatial.se_conv1.fc8.weight": [9, 9],
    },
    { streams: ["spatial", "temporal"], maps: [torch], grafts },
  );
  test("one backbone file fills both streams, the flow stem by mean and repeat, grafts start afresh", () => {
    for (const file of [torchFile, net]) {
      const plan = planWeights(twoStream, header(file), { skip: ["se_conv1"] });
      expect(plan.loads).toHaveLength(6);
      expect(plan.loads.find(({ path }) => path === "temporal.conv1.conv1_1.weight")?.via).toEqual([
        { kind: "repeat_mean", axis: 1 },
      ]);
      expect(plan).toMatchObject({ missing: [], misshapen: [], unused: [] });
      expect(plan.fresh).toEqual(["stia_conv1.to_spatial.theta.weight"]);
      expect(plan.skipped).toEqual(["spatial.se_conv1.fc8.weight"]);
      expect(reportWeights(plan, "a.safetensors").map(({ code }) => code)).toEqual(["W0602"]);
    }
  });
  test("a block that is only called like a graft is not one", () => {
    const own = modelOf({ ...net, "se_head.fc.weight": [2, 2] }, { grafts: { se_head: "SE" } });
    expect(planWeights(own, header(net), { skip: [] }).missing).toEqual([
      { path: "se_head.fc.weight", tensor: "se_head.fc.weight" },
    ]);
  });
  test("a file for one stream leaves the other alone", () => {
    const plan = planWeights(twoStream, header(torchFile), { stream: "temporal", skip: [] });
    expect(plan.loads.every(({ path }) => path.startsWith("temporal."))).toBe(true);
    expect(plan.loads).toHaveLength(3);
  });
  test("a misshapen head is an error unless it is skipped", () => {
    const file = header({ ...torchFile, "classifier.6.weight": [1000, 4] });
    const model = modelOf(net, { maps: [torch] });
    const plan = planWeights(model, file, { skip: [] });
    expect(plan.misshapen).toEqual([
      { path: "fc8.weight", shape: [2, 4], tensor: "classifier.6.weight", tensorShape: [1000, 4] },
    ]);
    const [error] = reportWeights(plan, "a.safetensors");
    expect(error).toMatchObject({
      severity: "error",
      code: "E0601",
      message: "`fc8.weight` is [2, 4], `classifier.6.weight` has [1000, 4]",
      helps: [{ text: "`--skip fc8` to start it afresh" }],
    });
    const skipping = planWeights(model, file, { skip: ["fc8"] });
    expect(skipping).toMatchObject({ misshapen: [], skipped: ["fc8.weight"], unused: [] });
    expect(reportWeights(skipping, "a.safetensors")).toEqual([]);
  });
  test("missing parameters and unused tensors are told", () => {
    const file = { "features.0.weight": [4, 3, 3, 3], "features.0.num_batches_tracked": [], extra: [1] };
    const plan = planWeights(modelOf(net, { maps: [torch] }), header(file), { skip: [] });
    expect(plan.missing).toEqual([
      { path: "conv1.conv1_1.bias", tensor: "features.0.bias" },
      { path: "fc8.weight", tensor: "classifier.6.weight" },
    ]);
    expect(plan.unused).toEqual(["extra"]);
    expect(reportWeights(plan, "a.safetensors").map(({ code }) => code)).toEqual(["E0604", "W0603"]);
  });
  test("a foreign file is one error", () => {
    const plan = planWeights(modelOf(net, { maps: [torch] }), header({ embedding: [8] }), { skip: [] });
    const [error, ...rest] = reportWeights(plan, "bert.safetensors");
    expect(rest).toEqual([]);
    expect(error?.code).toBe("E0605");
    expect(error?.notes).toEqual([
      "the file has embedding",
      "the model has conv1.conv1_1.weight, conv1.conv1_1.bias, fc8.weight",
    ]);
  });
  test("the user's map comes before the library's where both fit", () => {
    const own = map("Own", [{ kind: "skip", pattern: "fc8" }, rule("conv1_1", "features.0")]);
    const file = header({ ...torchFile, "classifier.6.weight": [7, 4] });
    expect(planWeights(modelOf(net, { maps: [own, torch] }), file, { skip: [] }).map).toBe("Own");
  });
});

describe("transforms", () => {
  const load = (shape: readonly number[], tensorShape: readonly number[], via: WeightLoad["via"]): WeightLoad => ({
    path: "p",
    shape,
    tensor: "t",
    tensorShape,
    via,
  });
  test("repeat_mean", () => {
    const data = Float32Array.of(1, 10, 2, 20, 3, 30);
    expect(applyTransforms(load([1, 4, 2], [1, 3, 2], [{ kind: "repeat_mean", axis: 1 }]), data)).toEqual(
      Float32Array.of(2, 20, 2, 20, 2, 20, 2, 20),
    );
  });
  test("transpose", () => {
    const data = Float32Array.of(1, 2, 3, 4, 5, 6);
    expect(applyTransforms(load([3, 2], [2, 3], [{ kind: "transpose" }]), data)).toEqual(
      Float32Array.of(1, 4, 2, 5, 3, 6),
    );
  });
  test("reshape keeps the numbers", () => {
    const data = Float32Array.of(1, 2, 3, 4);
    expect(applyTransforms(load([1, 4], [1, 1, 2, 2], [{ kind: "reshape" }]), data)).toBe(data);
  });
  test("a reshape to another count is misshapen", () => {
    const timm = map("t", [rule("fc8.weight", "head.fc.weight", [{ kind: "reshape" }])]);
    const model = modelOf({ "fc8.weight": [2, 8] }, { maps: [timm] });
    expect(planWeights(model, header({ "head.fc.weight": [2, 2, 2, 2] }), { skip: [] }).loads).toHaveLength(1);
    expect(planWeights(model, header({ "head.fc.weight": [2, 2, 2, 1] }), { skip: [] }).misshapen).toHaveLength(1);
  });
});
