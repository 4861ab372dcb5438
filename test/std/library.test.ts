import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { mapResolver, readWeights, torchvisionName, type WeightMap } from "../../compiler/weights/map.ts";
import type { Weights } from "../../grammar/ast.ts";
import { parse } from "../../grammar/parser.ts";

function read(folder: string, file: string) {
  return { path: `${folder}/${file}`, text: readFileSync(`${folder}/${file}`, "utf8") };
}

describe.each(["compiler/std", "examples"])("%s", (folder) => {
  test.each(readdirSync(folder).filter((file) => file.endsWith(".net")))("%s parses", (file) => {
    expect(parse(read(folder, file)).diagnostics).toEqual([]);
  });
});

/** The maps of a file, each made after those it is made from. */
function mapsOf(folder: string, file: string, known = new Map<string, WeightMap>()): ReadonlyMap<string, WeightMap> {
  const source = read(folder, file);
  const blocks = parse(source).file.items.filter((item): item is Weights => item.kind === "Weights");
  for (const block of blocks) {
    const { map, diagnostics } = readWeights(block, source, (name) => known.get(name));
    expect(diagnostics).toEqual([]);
    known.set(map.name, map);
  }
  return known;
}

describe("std/weights", () => {
  const maps = mapsOf("compiler/std", "weights.net");
  const tensor = (map: string, path: string) => {
    const found = maps.get(map);
    if (found === undefined) throw new Error(`there is no map ${map}`);
    const answer = mapResolver(found)(path);
    return answer?.kind === "tensor" ? answer.name : answer;
  };
  test("torchvision's VGG16 has 13 convolutions and three linear layers", () => {
    const depths = [2, 2, 3, 3, 3];
    const names = depths.flatMap((n, s) =>
      Array.from({ length: n }, (_, i) => tensor("VGG16_torchvision", `conv${s + 1}.conv${s + 1}_${i + 1}.weight`)),
    );
    const indices = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28];
    expect(names).toEqual(indices.map((i) => `features.${i}.weight`));
    expect([6, 7, 8].map((i) => tensor("VGG16_torchvision", `fc${i}.bias`))).toEqual([
      "classifier.0.bias",
      "classifier.3.bias",
      "classifier.6.bias",
    ]);
    expect(tensor("VGG19_torchvision", "conv5.conv5_4.bias")).toBe("features.34.bias");
    expect(tensor("VGG11_torchvision", "conv5.conv5_2.bias")).toBe("features.18.bias");
    expect(tensor("VGG13_torchvision", "conv5.conv5_2.bias")).toBe("features.22.bias");
    expect(torchvisionName([...maps.values()].slice(2, 3), "temporal.conv3.conv3_3")).toBe("features.14");
  });
  test("timm's head is convolutions", () => {
    const map = maps.get("VGG16_timm");
    expect(map && mapResolver(map)("fc6.weight")).toEqual({
      kind: "tensor",
      name: "pre_logits.fc1.weight",
      via: [{ kind: "reshape" }],
    });
    expect(tensor("VGG16_timm", "fc6.bias")).toBe("pre_logits.fc1.bias");
    expect(tensor("VGG16_timm", "fc8.weight")).toBe("head.fc.weight");
    expect(tensor("VGG16_timm", "conv5.conv5_3.weight")).toBe("features.28.weight");
  });
  test("Caffe's names leave the stages out", () => {
    expect(tensor("VGG16_caffe", "conv4.conv4_2.weight")).toBe("conv4_2.weight");
    expect(tensor("VGG16_caffe", "fc7.bias")).toBe("fc7.bias");
  });
  test("torchvision's ResNets", () => {
    for (const map of ["ResNet50_torchvision", "ResNet101_torchvision"]) {
      expect(tensor(map, "stem.conv1.weight")).toBe("conv1.weight");
      expect(tensor(map, "stem.bn1.running_var")).toBe("bn1.running_var");
      expect(tensor(map, "layer3[2].conv2.weight")).toBe("layer3.2.conv2.weight");
      expect(tensor(map, "layer2[0].downsample.conv.weight")).toBe("layer2.0.downsample.0.weight");
      expect(tensor(map, "temporal.layer2[0].downsample.bn.bias")).toBe("layer2.0.downsample.1.bias");
      expect(tensor(map, "fc.bias")).toBe("fc.bias");
      expect(tensor(map, "stia_layer3.to_spatial.theta.weight")).toBeUndefined();
    }
  });
  test("the two-stream start of neonatal_pain.net", () => {
    const all = mapsOf("examples", "neonatal_pain.net", new Map(maps));
    const map = all.get("TwoStream");
    if (map === undefined) throw new Error("TwoStream is gone");
    const resolve = mapResolver(map);
    expect(resolve("spatial.fc8.weight")).toMatchObject({ kind: "skip" });
    expect(resolve("stia_conv3.to_spatial.bn.bias")).toMatchObject({ kind: "skip" });
    expect(resolve("temporal.conv1.conv1_1.weight")).toEqual({
      kind: "tensor",
      name: "features.0.weight",
      via: [{ kind: "repeat_mean", axis: 1 }],
    });
    expect(resolve("temporal.conv1.conv1_1.bias")).toEqual({ kind: "tensor", name: "features.0.bias", via: [] });
  });
});

describe("mistakes in a weights block", () => {
  const mistakes = (text: string) => {
    const source = { path: "w.net", text };
    const [block] = parse(source).file.items;
    if (block?.kind !== "Weights") throw new Error("not a weights block");
    return readWeights(block, source, () => undefined).diagnostics.map(({ code, message }) => [code, message]);
  };
  test("are told one by one", () => {
    expect(
      mistakes('weights W for M from Base { "a.{p}" from "{q}"; a from "b" via pad(1); colour = 3; skip "c" }'),
    ).toEqual([
      ["E0606", "`{q}` on the right has no counterpart on the left"],
      ["E0607", "a weight cannot be brought over in this way"],
      ["E0608", "`weights` has no setting `colour`"],
      ["E0201", "no `weights` here are called `Base`"],
    ]);
    expect(mistakes('weights W for M from "a.safetensors" { sha256 = "00"; conv1 from "c" via transpose }')).toEqual(
      [],
    );
  });
});
