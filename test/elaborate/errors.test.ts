/**
 * What a person is told: programs with one mistake each, the code that must come, and the whole text in
 * `golden/errors.txt`, source and drawing, to be read by people (`npx vitest run -u` writes it anew).
 */
import { describe, expect, test } from "vitest";
import { renderDiagnostics } from "../../grammar/render.ts";
import { check } from "./programs.ts";

type Case = readonly [code: string, program: string];

const CASES: readonly Case[] = [
  // ---- names and modules
  [
    "E0105",
    "model Mix(x: f32[N, 3, 8, 8], y: f32[N, 3, 8, 8]) -> [N, 8, 8, 8] {\n  a = x\n  (a, y) -> Concat -> Conv(8)\n}",
  ],
  ["E0201", "VGG16x2 with STIA at conv3, conv4"],
  ["E0201", "block Unit(c: int) = Conv(c, use_bias=false) -> BatchNorn -> ReLU"],
  ["E0201", "model M(x: RBG) -> [N, 1000] = VGG16"],
  ["E0202", 'import { Con } from "std/nn"\nVGG16'],
  ["E0202", 'import { Stage } from "std/vision"\nVGG16'],
  ["E0202", 'import { Stem } from "./nowhere.net"\nVGG16'],
  ["E0202", 'import { Stem } from "../../../outside.net"\nVGG16'],
  ["E0203", 'import { Other } from "./other.net"\nVGG16'],
  [
    "E0204",
    "block Res(c: int)(x: [N, C, H, W]) -> [N, c, H, W] {\n  h = x -> Conv(c) -> ReLU\n  h = h -> Conv(c)\n  return h\n}",
  ],
  ["E0204", "model M(x: f32[N, 8]) -> [N, 8] = Linear(8) @a -> Linear(8) @a"],
  ["E0205", "block A = Conv(3) -> B\nblock B = A\nA"],
  ["E0205", "const K = K + 1\nmodel M(x: f32[N, 8]) -> [N, 8] = Linear(K)"],
  ["E0206", "model M(x: f32[N, 8]) -> f32[N, 8] = repeat 100000 { Linear(8) }"],
  ["E0208", "assert params(VGG16) == 138_357_545\nVGG16"],
  ["E0208", 'model M(x: f32[N, 8, T]) -> f32[N, 8, T] {\n  assert 3 > 4, "three is less"\n  return x\n}'],
  // ---- shapes and types
  [
    "E0301",
    "block Down(c: int)(x: [N, C, H, W]) -> [N, c, H', W'] {\n  main = x -> Conv(c, stride=2) -> BatchNorm -> ReLU -> Conv(c) -> BatchNorm\n  return main + x -> ReLU\n}\n\nmodel Net(image: f32[N, 64, 56, 56]) -> f32[N, 128, 28, 28] = Down(128)",
  ],
  ["E0302", "model M(q: f32[N, 196, 64], k: f32[N, 50, 64]) -> [N, 196, 50] {\n  return matmul(q, k) * 64 ^ -0.5\n}"],
  ["E0303", 'model M(x: f32[N, 196, 64]) -> [N, 64] = rearrange("n c h w -> n (h w) c")'],
  ["E0304", 'model M(x: f32[N, 196, 64]) -> [N, 14, 14, 64] = rearrange("n (h w) c -> n h w c")'],
  ["E0305", 'model M(x: f32[N, 10, 384]) -> [N, 7, 10, 54] =\n  rearrange("n t (h d) -> n h t d", h=7)'],
  ["E0306", "model M(x: f32[N, 3, 8, 8]) -> [N, 96, 1, 1] =\n  Conv(96, k=11, stride=4, pad=0)"],
  ["E0307", "model M(x: f32[N, 3, 8, 8]) -> [N, 12, 8, 8] =\n  [Conv(4), Conv(8, stride=2)] -> Concat"],
  ["E0310", "model M(image: f32[N, 512, 7, 7]) -> f32[N, 10] =\n  Flatten\n  -> Conv(10, k=1)"],
  [
    "E0311",
    "model M(image: f32[N, 3, 32, 32]) -> f32[N, 40, 32, 32] =\n  Conv(40) @stem with SE(reduction=16) at stem",
  ],
  ["E0311", 'VGG16 ×2 with STIA(affinity="shared", pool="conv-pool") at conv3'],
  ["E0312", "model Net(image: f32[N, 3, H, W]) -> f32[N, 10] =\n  Conv(128) -> Flatten -> Linear(10) @fc"],
  ["E0313", "Conv(64) -> VGG16"],
  ["E0314", "model M(x: f32[N, 8]) -> [N, 4] {\n  l = Linear(4)\n  return x -> l -> l\n}"],
  ["E0315", "model M(x: f32[N, 3, H, W]) -> [N, 8, H, W] =\n  if H > 32 { Conv(8) } else { Conv(8, k=1) }"],
  [
    "E0316",
    'model M(x: f32[N, 8, T]) -> f32[N, 8, T] {\n  y = x -> rearrange("n c (t k) -> n (c k) t", k=4)\n  return x\n}',
  ],
  ["E0320", "model PainNet(image: f32[N, 3, 224, 224]) -> f32[N, 4] = VGG16"],
  ["E0330", "model M(a: f32[N, 8], b: f16[N, 8]) -> f32[N, 8] {\n  return a + b\n}"],
  ["E0331", 'VGG16 ×2 with STIA(affinity="sharde") at conv3'],
  ["E0331", 'model M(x: f32[N, 8]) -> [N, 4] = Linear("4")'],
  // ---- calls and pipelines
  ["E0401", "block Stem = Conv(64, k=7, strides=2)"],
  ["E0401", "model M(x: f32[N, 8]) -> [N, 8] {\n  return ReLU(x)\n}"],
  ["E0402", "model M(x: f32[N, 8]) -> [N, 8] {\n  k = 3\n  return x -> k\n}"],
  ["E0403", "model M(x: f32[N, 8]) -> [N, 8] = Linear -> ReLU"],
  ["E0404", "model M(x: f32[N, 3, 32, 32]) -> [N, 64, 32, 32] =\n  Conv(64) -> Conv(64) ×2 -> ReLU"],
  ["E0405", "block Res(f: block)(x: [...S]) -> [...S] = x -> f + x"],
  ["E0406", "model M(x: f32[N, 8]) -> [N, 4] {\n  a, b = x -> Linear(4)\n  return a\n}"],
  ["E0407", "model M(x: f32[N, 8]) -> [N, 4] {\n  k = 4 @four\n  return x -> Linear(k)\n}"],
  ["E0408", "const HIDDEN = 4 × 384\nmodel M(x: f32[N, 3]) -> [N, 4] = Linear(HIDDEN)"],
  ["E0409", "VGG16 ×0 with STIA at conv3"],
  // ---- streams, positions, grafts
  ["E0501", "VGG16 ×3\n  over rgb: RGB, flow: Flow"],
  ["E0502", "VGG16 ×2 with STIA at conv33, conv4"],
  ["E0503", "ResNet50 ×2 with STIA at conv1"],
  [
    "E0504",
    "block Shrink()(x: [N, C, H, W]) -> [N, C / 2, H, W] = Conv(C / 2, k=1)\nmodel Net = VGG16 with Shrink at conv3",
  ],
  ["E0505", "VGG16 with STIA at conv3, conv4"],
  ["E0505", "VGG16 ×2 with STIA at spatial.conv3"],
  [
    "E0506",
    "model M =\n  VGG16 ×2\n  over spatial: f32[N, 3, 224, 224], temporal: f32[N, 20, 112, 112]\n  with STIA at conv3",
  ],
  [
    "E0507",
    "model M =\n  VGG16 ×2\n  with STIA at (spatial.conv3_3, temporal.conv3_1)\n  with STIA at (spatial.conv3_1, temporal.conv3_3)",
  ],
  ["E0508", "unit Half()(x: [N, C, H, W]) -> [N, D, H, W] = Conv(C / 2)\nmodel Net = VGG16 with Half at conv3"],
  [
    "E0510",
    "model M(x: f32[N, 3, 32, 32]) -> [N, 1000] {\n  s = ResNet50\n  return x -> s[..layer1[0].conv2] -> s[layer1[0].conv2..]\n}",
  ],
  ["E0511", "VGG16 ×2 sharing conv1..conv2 with STIA at conv3"],
];

const FILES = { "other.net": 'import { It } from "./test.net"\nblock Other = Conv(3)' };

describe("mistakes", () => {
  test.each(CASES)("%s: %s", (code, program) => {
    const { model, diagnostics } = check(program, {}, { ...FILES, "test.net": program });
    expect(model).toBeUndefined();
    // One cause, one message.
    expect(diagnostics.map((found) => found.code)).toEqual([code]);
  });

  test("are drawn as in the golden file", async () => {
    const drawn = CASES.map(([, program]) => {
      const { diagnostics } = check(program, {}, { ...FILES, "test.net": program });
      return renderDiagnostics(diagnostics);
    });
    await expect(`${drawn.join("\n")}\n`).toMatchFileSnapshot("golden/errors.txt");
  });
});

test("a model that is not there", () => {
  const { diagnostics } = check(
    "model Aa(x: f32[N, 8]) -> [N, 8] = Linear(8)\nmodel Bb(x: f32[N, 8]) -> [N, 8] = Linear(8)",
    { model: "Ab" },
  );
  expect(diagnostics.map((found) => found.code)).toEqual(["E0207"]);
  expect(diagnostics[0]?.notes).toEqual(["its models are Aa, Bb"]);
});

test("a file of blocks has no model and no errors", () => {
  expect(check("block Stem = Conv(64, k=7, stride=2)")).toEqual({ model: undefined, diagnostics: [] });
});

test("independent mistakes in one body are all reported, at most five for an item", () => {
  const lines = Array.from({ length: 8 }, (_, i) => `  a${i} = x -> Nothing${i}`);
  const { diagnostics } = check(`model M(x: f32[N, 8]) -> [N, 8] {\n${lines.join("\n")}\n  return a0 + a1\n}`);
  expect(diagnostics).toHaveLength(5);
});
