/**
 * Training steps whose 3×3 convolutions and their gradients go through Winograd's minimal filtering: the same steps as the
 * direct form's, in f64 to the last digits and in f32 within rounding, and where they are taken.
 */
import { beforeAll, describe, expect, test } from "vitest";
import { WASM_DEFAULT, WEBGPU_DEFAULT } from "../../compiler/capability.ts";
import { lowerStep } from "../../compiler/compile.ts";
import type { ConvolutionForm } from "../../compiler/graph/convolution.ts";
import { verifyLoops } from "../../compiler/loop/verify.ts";
import type { Model } from "../../compiler/model.ts";
import { modelOf, stagedOk } from "../tools/nets.ts";
import { plainStage } from "./stage.ts";
import { furthest, loweredStep, type Steps, stepsOnOracle, stepsOnWasm } from "./steps.ts";

const F32 = { kind: "f32" } as const;
const FORMS = ["winograd 2", "winograd 4"] as const satisfies readonly ConvolutionForm[];

// Tiles that do not fill the image, channels that are no whole vectors, a convolution without padding, two readers of one
// image, batch norm, an odd image under a pool; a graft through which both streams' gradients come; a region made again.
const NETS = {
  plain: `model M(x: f32[N, 5, 13, 10]) -> f32[N, 6] =
    Conv(12, k=3, pad=1) @a -> BatchNorm -> ReLU -> Conv(9, k=3, pad=0) @b -> ReLU -> MaxPool(2) @p
    -> Conv(16, k=3, pad=2) @c -> ReLU -> GlobalAvgPool -> Linear(6) @fc`,
  residual: `block Twice(c: int)(x: [N, c, H, W]) -> [N, c, H, W] =
      x + (x -> Conv(c, k=3, pad=1) @a -> ReLU -> Conv(c, k=3, pad=1) @b)
    model M(x: f32[N, 3, 8, 8]) -> f32[N, 4] = Conv(8, k=3, pad=1) @first -> Twice(8) @r -> GlobalAvgPool -> Linear(4) @fc`,
  streams: `block Stage(c: int) = Conv(c, k=3, pad=1) @conv -> BatchNorm @bn -> ReLU -> MaxPool(2) @pool
    block Backbone(x: [N, C, H, W]) -> [N, 4] = Stage(6) @s1 -> Stage(8) @s2 -> GlobalAvgPool @avgpool -> Linear(4) @fc
    model M = Backbone ×2 over rgb: f32[N, 3, 12, 12], flow: f32[N, 4, 12, 12] with STIA at s1
      fuse at avgpool Concat -> Linear(4) @head`,
};

describe.each(Object.entries(NETS))("%s", { timeout: 60_000 }, (_, text) => {
  let model: Model;
  let direct: Steps;
  let rounding: number;
  beforeAll(async () => {
    model = modelOf(text, { N: 3 });
    direct = stepsOnOracle(model, plainStage(model), 3, F32, 1, undefined, "direct");
    rounding = furthest(await stepsOnWasm(model, plainStage(model), 3, F32, 1, undefined, "direct"), direct);
    expect(rounding).toBeLessThan(5e-5);
  });
  test.each(FORMS)("%s makes the steps that the direct form makes", async (form) => {
    const stage = plainStage(model);
    const { loops, convolutions } = loweredStep(model, stage, F32, undefined, form);
    expect(verifyLoops(loops)).toEqual([]);
    expect(new Set(convolutions.map((choice) => choice.form))).toEqual(new Set([form]));
    expect(new Set(convolutions.map(({ pass }) => pass))).toEqual(new Set(["forward", "by image", "by weights"]));
    const exact = stepsOnOracle(model, stage, 3, F32, 1, undefined, form);
    expect([...exact.state.keys()]).toEqual([...direct.state.keys()]);
    expect(furthest(exact, direct)).toBeLessThan(1e-11);
    const got = await stepsOnWasm(model, stage, 3, F32, 1, undefined, form);
    // As far as rounding takes the direct form itself.
    expect(furthest(got, direct)).toBeLessThan(3 * rounding);
  });
});

describe("where it is taken", () => {
  const TEXT = `model M(x: f32[N, 3, 32, 32]) -> f32[N, 6] =
    Conv(64, k=3, pad=1) @a -> ReLU -> Conv(64, k=3, pad=1) @b -> ReLU -> GlobalAvgPool -> Linear(6) @fc`;
  const forms = (batch: number): readonly string[] => {
    const model = modelOf(TEXT, { N: batch });
    const { convolutions } = stagedOk(lowerStep(model, plainStage(model), WASM_DEFAULT));
    return convolutions.map(({ layer, pass, form }) => `${layer} ${pass} ${form}`).sort();
  };

  test("on the CPU, where it is expected to be faster: not with three channels", () => {
    expect(forms(8)).toEqual([
      "a by weights direct",
      "a forward direct",
      "b by image winograd 4",
      "b by weights winograd 4",
      // What ReLUs and pools choose by is rounded as in the direct form.
      "b forward winograd 2",
    ]);
  });
  test("not where weights are transformed for few places", () => {
    const model = modelOf("model M(x: f32[N, 512, 4, 4]) = Conv(512, k=3, pad=1) @a -> Conv(4, k=1) @c", { N: 1 });
    const stage = {
      ...plainStage(model),
      loss: [{ ...(plainStage(model).loss[0] ?? never()), kind: "mean_squared_error" as const }],
    };
    const { convolutions } = stagedOk(lowerStep(model, stage, WASM_DEFAULT));
    expect(convolutions.map(({ form }) => form)).toEqual(["direct", "direct"]);
  });
  test("not where values are computed again to save memory", () => {
    const model = modelOf(
      `#[checkpoint] block Twice() = repeat 2 { Conv(64) -> ReLU }
       model M(x: f32[N, 64, 32, 32]) -> f32[N, 6] = Twice -> GlobalAvgPool -> Linear(6)`,
      { N: 8 },
    );
    const { convolutions } = stagedOk(lowerStep(model, plainStage(model), WASM_DEFAULT));
    expect(convolutions.length).toBeGreaterThan(3);
    for (const { form, reason } of convolutions)
      expect({ form, reason }).toEqual({ form: "direct", reason: "`#[checkpoint]` asks for memory before time" });
  });
  test("not in mixed precision, and not on WebGPU", () => {
    const model = modelOf(TEXT, { N: 8 });
    const mixed = lowerStep(model, plainStage(model), WASM_DEFAULT, { kind: "mixed", lossScale: undefined });
    for (const staged of [mixed, lowerStep(model, plainStage(model), WEBGPU_DEFAULT)]) {
      const { convolutions, graph } = stagedOk(staged);
      expect(convolutions).toEqual([]);
      expect(graph.nodes.some(({ op }) => op.startsWith("winograd"))).toBe(false);
    }
  });
});

function never(): never {
  throw new Error("a stage has a loss");
}
