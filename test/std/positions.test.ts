import { describe, expect, test } from "vitest";
import { compressPositions, findPositions, positionRange, shortestName } from "../../compiler/positions.ts";

/** The positions of VGG16, in order of execution. */
function vggPositions(): readonly string[] {
  const paths: string[] = [];
  for (const [s, n] of [2, 2, 3, 3, 3].entries()) {
    paths.push(`conv${s + 1}`);
    for (let i = 1; i <= n; i++) paths.push(`conv${s + 1}.conv${s + 1}_${i}`);
    paths.push(`pool${s + 1}`);
  }
  return paths.concat("fc6", "fc7", "fc8");
}

/** Those of ResNet-50, with their aliases. */
function resnetPositions(): readonly string[] {
  const paths = ["stem", "stem.conv1", "stem.bn1", "maxpool"];
  for (const [s, n] of [3, 4, 6, 3].entries()) {
    paths.push(`layer${s + 1}`, `conv${s + 2}_x`);
    for (let b = 0; b < n; b++) {
      paths.push(`layer${s + 1}[${b}]`);
      for (const layer of ["conv1", "bn1", "conv2", "bn2", "conv3", "bn3"]) paths.push(`layer${s + 1}[${b}].${layer}`);
    }
  }
  return paths.concat("avgpool", "fc");
}

const vgg = vggPositions();
const resnet = resnetPositions();

describe("findPositions", () => {
  test("an exact path wins over paths that end so", () => {
    expect(findPositions([...vgg, "stia_conv3.conv3"], "conv3")).toEqual({ kind: "one", matches: ["conv3"] });
  });
  test("enclosing names may be left out", () => {
    expect(findPositions(vgg, "conv3_2").matches).toEqual(["conv3.conv3_2"]);
    const streams = ["spatial", "temporal"].flatMap((s) => vgg.map((p) => `${s}.${p}`));
    expect(findPositions(streams, "temporal.conv1_1").matches).toEqual(["temporal.conv1.conv1_1"]);
    expect(findPositions(streams, "conv3").kind).toBe("many");
    expect(findPositions(streams, "*.fc8").matches).toEqual(["spatial.fc8", "temporal.fc8"]);
  });
  test("the written segments keep their order and the last is last", () => {
    expect(findPositions(vgg, "conv3_2.conv3").kind).toBe("none");
    expect(findPositions(["a.b.c"], "a.b").kind).toBe("none");
    expect(findPositions(["a.b.a.c"], "b.c").kind).toBe("one");
    expect(findPositions(["conv1"], "conv1.conv1").kind).toBe("none");
  });
  test("a position that does not exist is none", () => {
    expect(findPositions(vgg, "conv33")).toEqual({ kind: "none", matches: [] });
    expect(findPositions(vgg, "")).toEqual({ kind: "none", matches: [] });
  });
  test("indices", () => {
    expect(findPositions(resnet, "layer3[2]").matches).toEqual(["layer3[2]"]);
    expect(findPositions(resnet, "layer3[2].conv2").matches).toEqual(["layer3[2].conv2"]);
    expect(findPositions(resnet, "layer3[9]").kind).toBe("none");
    expect(findPositions(resnet, "layer3.conv2").matches).toHaveLength(6);
    expect(findPositions(resnet, "layer3").matches).toEqual(["layer3"]);
    expect(findPositions(resnet, "layer1[*].conv2").matches).toEqual([
      "layer1[0].conv2",
      "layer1[1].conv2",
      "layer1[2].conv2",
    ]);
    expect(findPositions(resnet, "layer1[*]").matches).toEqual(["layer1[0]", "layer1[1]", "layer1[2]"]);
    expect(findPositions(resnet, "*[*].conv1").matches).toHaveLength(16);
  });
  test("`conv1` of ResNet-50 is 17 positions, the stem first", () => {
    const found = findPositions(resnet, "conv1");
    expect(found.kind).toBe("many");
    expect(found.matches).toHaveLength(17);
    expect(found.matches[0]).toBe("stem.conv1");
  });
  test("`@` is only a mark", () => {
    expect(findPositions(vgg, "@conv3").matches).toEqual(["conv3"]);
  });
});

describe("positionRange", () => {
  test("a family has only its members", () => {
    expect(positionRange(vgg, "conv1", "conv5")).toEqual({
      kind: "range",
      matches: ["conv1", "conv2", "conv3", "conv4", "conv5"],
    });
    expect(positionRange(resnet, "conv3_x", "conv5_x")).toEqual({
      kind: "range",
      matches: ["conv3_x", "conv4_x", "conv5_x"],
    });
  });
  test("across stages at one depth", () => {
    expect(positionRange(vgg, "conv1_2", "conv3_1")).toMatchObject({
      matches: ["conv1.conv1_2", "conv2.conv2_1", "conv2.conv2_2", "conv3.conv3_1"],
    });
  });
  test("between unlike names lies everything of that level", () => {
    expect(positionRange(vgg, "conv4", "fc6")).toMatchObject({
      matches: ["conv4", "pool4", "conv5", "pool5", "fc6"],
    });
  });
  test("what is no range says why", () => {
    expect(positionRange(vgg, "conv5", "conv1")).toEqual({ kind: "backwards", from: "conv5", to: "conv1" });
    expect(positionRange(vgg, "conv1", "conv3_1")).toEqual({ kind: "levels", from: "conv1", to: "conv3.conv3_1" });
    expect(positionRange(vgg, "conv1", "conv9")).toEqual({ kind: "none", end: "conv9", matches: [] });
    expect(positionRange(resnet, "conv1", "fc")).toMatchObject({ kind: "many", end: "conv1" });
  });
});

describe("names for people", () => {
  test("shortestName", () => {
    expect(shortestName(vgg, "conv3.conv3_1")).toBe("conv3_1");
    expect(shortestName(resnet, "layer3[2].conv2")).toBe("layer3[2].conv2");
    expect(shortestName(resnet, "stem.conv1")).toBe("stem.conv1");
  });
  test("VGG16 in one line", () => {
    expect(compressPositions(vgg)).toBe("conv1..conv5, conv1_1..conv5_3, pool1..pool5, fc6..fc8");
  });
  test("long lists are cut", () => {
    expect(compressPositions(["a", "b", "c"], 2)).toBe("a, b, … 1 more");
  });
});
