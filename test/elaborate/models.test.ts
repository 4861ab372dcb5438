/**
 * Networks that others have counted: parameters, shapes, names and hashes of elaborated models.
 */
import { describe, expect, test } from "vitest";
import { elaborate } from "../../compiler/elaborate/elaborate.ts";
import { graphHash } from "../../compiler/graph/hash.ts";
import { verifyGraph } from "../../compiler/graph/verify.ts";
import { showShape } from "../../compiler/size.ts";
import { check, modelOf, parameterCount, resolveWith, standard } from "./programs.ts";

const LENET = `model LeNet(image: f32[N, 1, 28, 28]) -> f32[N, 10] =
  Conv(6, k=5, pad=2, act=ReLU) @conv1 -> MaxPool(2)
  -> Conv(16, k=5, pad=0, act=ReLU) @conv2 -> MaxPool(2)
  -> Flatten -> Linear(120, act=ReLU) @fc1 -> Linear(84, act=ReLU) @fc2 -> Linear(10) @fc3
assert params(LeNet) == 61_706
assert shape(LeNet, at=@conv2) == [N, 16, 10, 10]`;

const VIT = `block Attention(heads: int, dropout: float = 0.0, causal: bool = false)(x: [N, T, D], ctx: [N, S, D]) -> [N, T, D]
where D % heads == 0
{
  q       = x -> Linear(D) @q_proj -> rearrange("n t (h d) -> n h t d", h=heads)
  k       = ctx -> Linear(D) @k_proj -> rearrange("n s (h d) -> n h s d", h=heads)
  v       = ctx -> Linear(D) @v_proj -> rearrange("n s (h d) -> n h s d", h=heads)
  logits  = matmul(q, transpose(k)) * (D / heads) ^ -0.5
  weights = (if causal { causal_mask(logits) } else { logits }) -> softmax(axis=-1) -> Dropout(dropout)
  return matmul(weights, v) -> rearrange("n h t d -> n t (h d)") -> Linear(D) @out_proj
}
block MLP(ratio: int = 4)(x: [N, T, D]) -> [N, T, D] = Linear(ratio * D, act=GELU) @up -> Linear(D) @down
block EncoderLayer(heads: int, dropout: float = 0.1)(x: [N, T, D]) -> [N, T, D] {
  n = x -> LayerNorm @norm1
  h = x + ((n, n) -> Attention(heads, dropout) @attn -> Dropout(dropout))
  return h + (h -> LayerNorm @norm2 -> MLP @mlp -> Dropout(dropout))
}
model ViT(image: f32[N, 3, 224, 224]) -> f32[N, 1000] {
  patches = image -> Conv(384, k=16, stride=16, pad=0) @patch -> rearrange("n c h w -> n (h w) c")
  param pos: [1, 196, 384] = normal(std=0.02)
  tokens = patches + pos -> repeat i in 0..11 { EncoderLayer(heads=6) } @layers -> LayerNorm @norm
  return mean(tokens, axis=1) -> Linear(1000) @head
}
model ViTWithAdapters = ViT with Residual(Linear(16, act=GELU) -> Linear(384)) at layers[*].mlp`;

const EXPANDED = `model PainSTIA(spatial: f32[N, 3, 224, 224], temporal: f32[N, 20, 224, 224]) -> f32[N, 4] {
  s = VGG16(classes=4) @spatial
  t = VGG16(classes=4) @temporal
  s3, t3 = (spatial -> s[..conv3], temporal -> t[..conv3]) -> STIA(reduction=2) @stia_conv3
  s4, t4 = (s3 -> s[conv3..conv4], t3 -> t[conv3..conv4]) -> STIA(reduction=2) @stia_conv4
  return (s4 -> s[conv4..], t4 -> t[conv4..]) -> Average
}`;

describe("published networks", () => {
  test.each([
    ["VGG16", 138_357_544],
    ["ResNet50", 25_557_032],
    ["ResNet18", 11_689_512],
    ["VGG16 ×2 with STIA at conv3,conv4", 278_042_512],
    ["VGG16(classes=4) ×2 with STIA at conv3, conv4", 269_881_288],
  ])("%s has %d parameters", (text, count) => {
    const model = modelOf(text);
    expect(parameterCount(model)).toBe(count);
    expect(verifyGraph(model.graph)).toEqual([]);
  });

  test("LeNet, with its assertions", () => expect(parameterCount(modelOf(LENET))).toBe(61_706));

  test("ViT-S/16 as the language's reference writes it", () => {
    expect(parameterCount(modelOf(VIT, { model: "ViT" }))).toBe(22_049_896);
    // Twelve adapters of 384·16 + 16 and 16·384 + 384.
    expect(parameterCount(modelOf(VIT))).toBe(22_049_896 + 12 * (384 * 16 + 16 + 16 * 384 + 384));
  });

  test("ResNet-50 with an open image size", () => {
    const { model, diagnostics } = check(`model Net(image: f32[N, 3, H, W]) -> f32[N, 1000]
where H % 32 == 0, W % 32 == 0
{
  return image -> ResNet50
}
assert shape(Net, at=@layer3) == [N, 1024, H / 16, W / 16]
assert params(Net) == 25_557_032`);
    expect(diagnostics).toEqual([]);
    const layer3 = model?.positions.find((position) => position.path === "layer3");
    expect(layer3 && showShape(layer3.node.shape)).toBe("[N, 1024, H / 16, W / 16]");
    expect(layer3?.aliases).toEqual(["conv4_x"]);
  });

  test.each(["std/prim", "std/nn", "std/attention", "std/vision", "std/weights"])("%s is right in itself", (path) => {
    expect(elaborate(standard(path), resolveWith({})).diagnostics).toEqual([]);
  });
});

describe("the headline", () => {
  test("is its expansion, to the last parameter name", () => {
    const headline = modelOf("VGG16(classes=4) ×2 with STIA at conv3, conv4");
    const expanded = modelOf(EXPANDED);
    expect(graphHash(expanded.graph)).toBe(graphHash(headline.graph));
    const names = (model: typeof headline): readonly string[] => model.parameters.map((p) => p.path).sort();
    expect(names(expanded)).toEqual(names(headline));
    const places = (model: typeof headline): readonly string[] =>
      model.positions.map((p) => `${p.path} ${showShape(p.node.shape)}`).sort();
    expect(places(expanded)).toEqual(places(headline));
  });

  test.each(["VGG16 x2", "VGG16 × 2", "2 × VGG16", "VGG16 * 2", "VGG16×2"])("%s is `VGG16 ×2`", (text) => {
    const wanted = modelOf("VGG16 ×2 with STIA at conv3");
    expect(graphHash(modelOf(`${text} with STIA at conv3`).graph)).toBe(graphHash(wanted.graph));
  });

  test("names streams, positions and parameters as papers do", () => {
    const model = modelOf("VGG16 ×2 with STIA at conv3 with SE at conv5");
    expect(model.name).toBe("Headline");
    expect(model.streams).toEqual(["spatial", "temporal"]);
    expect(model.graph.inputs.map((input) => `${input.attrs.name} ${showShape(input.shape)}`)).toEqual([
      "spatial [N, 3, 224, 224]",
      "temporal [N, 20, 224, 224]",
    ]);
    const paths = model.parameters.map((p) => p.path);
    expect(paths).toContain("temporal.conv1.conv1_1.weight");
    expect(paths).toContain("stia_conv3.to_spatial.theta.weight");
    expect(paths).toContain("spatial.se_conv5.fc1.weight");
    expect(model.positions.map((p) => p.path).slice(0, 3)).toEqual([
      "spatial.conv1",
      "spatial.conv1.conv1_1",
      "spatial.conv1.conv1_2",
    ]);
    expect(model.positions.find((p) => p.path === "spatial.conv3")?.block).toBe("Stage");
  });

  test("fixes open sizes that are given", () => {
    const model = modelOf("VGG16", { bind: new Map([["N", 3]]) });
    expect(showShape(model.graph.outputs[0]?.node.shape ?? [])).toBe("[3, 1000]");
  });

  test("takes class names and weight maps from the source", () => {
    const model = modelOf('const CLASSES = ["calm", "cry", "mild", "severe"]\nVGG16(classes=4) ×2 with STIA at conv3');
    expect(model.classes).toEqual(["calm", "cry", "mild", "severe"]);
    expect(model.weightMaps.map((map) => map.target)).toContain("VGG16");
    expect(modelOf("ResNet50").weightMaps.every((map) => map.target === "ResNet50")).toBe(true);
  });

  test("every node knows the call that made it", () => {
    const model = modelOf("VGG16 ×2 with STIA at conv3");
    const conv = model.graph.nodes.find((node) => node.op === "conv2d" && node.layer === "spatial.conv1.conv1_1");
    const chain: string[] = [];
    for (let at = conv?.origins[0]; at !== undefined; at = at.parent) {
      chain.push(at.span.source.text.slice(at.span.start, at.span.end));
    }
    expect(chain[0]).toMatch(/^conv2d\(/);
    expect(chain).toContain("VGG16 ×2");
  });
});
