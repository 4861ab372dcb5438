/**
 * Files that import one another, names that shadow one another, types with parameters.
 */
import { describe, expect, test } from "vitest";
import { elaborate } from "../../compiler/elaborate/elaborate.ts";
import { graphHash } from "../../compiler/graph/hash.ts";
import { showShape } from "../../compiler/size.ts";
import { check, modelOf, parameterCount } from "./programs.ts";

describe("modules", () => {
  const files = {
    "blocks.net": `const WIDTH = 4 * 8
type Clip(L: int = 5) = f32[N, 2 * L, 32, 32]
private block Hidden(c: int) = Conv(c, act=ReLU)
block Stem(c: int = WIDTH) = Hidden(c) @first -> MaxPool(2)`,
    "more.net": 'export { Stem as Start, WIDTH } from "./blocks.net"',
  };

  test("import names, rename them and hand them on", () => {
    const { model, diagnostics } = check(
      `import { Start, WIDTH as W0 } from "./more.net"
import * as own from "./blocks.net"
model M(x: f32[N, 3, 32, 32]) -> f32[N, 64, 8, 8] = Start @a -> own.Stem(2 * W0) @b`,
      {},
      files,
    );
    expect(diagnostics).toEqual([]);
    expect(model?.parameters.map((p) => `${p.path} ${showShape(p.node.shape)}`)).toEqual([
      "a.first.conv_1.weight [32, 3, 3, 3]",
      "a.first.conv_1.bias [32]",
      "b.first.conv_1.weight [64, 32, 3, 3]",
      "b.first.conv_1.bias [64]",
    ]);
  });

  test("take types with parameters", () => {
    const { model, diagnostics } = check(
      `import { Clip } from "./blocks.net"
ResNet18(classes=2) ×2 over a: Clip, b: Clip(L=7) with STIA at layer3`,
      {},
      files,
    );
    expect(diagnostics).toEqual([]);
    expect(model?.graph.inputs.map((input) => showShape(input.shape))).toEqual(["[N, 10, 32, 32]", "[N, 14, 32, 32]"]);
  });

  test("a mistake in an imported file is reported there", () => {
    const { diagnostics } = check(
      'import { Bad } from "./bad.net"\nmodel M(x: f32[N, 3, 8, 8]) -> [N, 4, 8, 8] = Bad',
      {},
      { "bad.net": "block Bad = Conv(4) -> Relu" },
    );
    expect(diagnostics.map((found) => [found.code, found.labels[0]?.span.source.path])).toEqual([["E0201", "bad.net"]]);
  });

  test("a file's own names come before those of the library", () => {
    const model = modelOf("block ReLU()(x: [...S]) -> [...S] = x\nmodel M(x: f32[N, 8]) -> [N, 8] = ReLU");
    expect(model.graph.nodes.map((node) => node.op)).toEqual(["input"]);
  });

  test("without a library there are errors, not exceptions", () => {
    const { diagnostics } = elaborate({ path: "a.net", text: "VGG16 ×2 with STIA at conv3" }, () => undefined);
    expect(diagnostics.map((found) => found.code)).toEqual(["E0201", "E0201"]);
  });
});

describe("parameters", () => {
  test("exist when their condition holds", () => {
    const text = (bias: boolean): string => `block B(bias: bool)(x: [N, D]) -> [N, D] {
  param scale: [D] = ones()
  param shift: [D] = zeros() when bias
  y = x * scale
  return if bias { y + shift } else { y }
}
model M(x: f32[N, 8]) -> f32[N, 8] = B(${bias}) @b`;
    expect(modelOf(text(true)).parameters.map((p) => p.path)).toEqual(["b.scale", "b.shift"]);
    expect(modelOf(text(false)).parameters.map((p) => p.path)).toEqual(["b.scale"]);
  });

  test("start as their initialisers say", () => {
    const model = modelOf(`model M(x: f32[N, 8]) -> f32[N, 8] {
  param a: [8, 8] = he_normal(fan="out")
  param b: [8] = uniform(low=-0.5, high=0.5)
  param c: [8] = 0.25
  state d: [8] = ones()
  return linear(x, a, b) * c + d
}`);
    expect(model.parameters.map((p) => [p.path, p.kind, p.init])).toEqual([
      ["a", "param", { kind: "he_normal", fan: "out" }],
      ["b", "param", { kind: "uniform", low: -0.5, high: 0.5 }],
      ["c", "param", { kind: "constant", value: 0.25 }],
      ["d", "state", { kind: "constant", value: 1 }],
    ]);
  });

  test("have the element type of what they meet", () => {
    const model = modelOf("model M(x: f16[N, 8]) -> f16[N, 4] = Linear(4) @fc");
    expect(model.parameters.map((p) => p.node.dtype)).toEqual(["f16", "f16"]);
    expect(parameterCount(model)).toBe(36);
  });
});

test("facts of a model make sizes whole, and bound values must keep them", () => {
  const text = `model M(x: f32[N, 3, H, W]) -> f32[N, 8, H / 4, W / 4]
where H % 4 == 0, W == H
{
  return x -> Conv(8, stride=2) -> MaxPool(2)
}`;
  expect(showShape(modelOf(text).graph.outputs[0]?.node.shape ?? [])).toBe("[N, 8, H / 4, H / 4]");
  expect(showShape(modelOf(text, { bind: new Map([["H", 8]]) }).graph.outputs[0]?.node.shape ?? [])).toBe(
    "[N, 8, 2, 2]",
  );
  expect(check(text, { bind: new Map([["H", 9]]) }).diagnostics.map((found) => found.code)).toContain("E0311");
});

test("operations take their arguments through arrows or in parentheses", () => {
  const wrap = (body: string): string => `op mix(a: [...S], b: [...S], by: float = 0.5) -> [...S] = a * by + b
model M(x: f32[N, 8], y: f32[N, 8]) -> f32[N, 8] {
  return ${body}
}`;
  const direct = graphHash(modelOf(wrap("relu(mix(x, y, by=0.25))")).graph);
  expect(graphHash(modelOf(wrap("(x, y) -> mix(by=0.25) -> relu")).graph)).toBe(direct);
  expect(graphHash(modelOf(wrap("x -> mix(y, by=0.25) -> relu")).graph)).toBe(direct);
});
