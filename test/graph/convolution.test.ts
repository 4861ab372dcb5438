/** Convolutions by Winograd's minimal filtering: the same numbers as the direct form, in every part of the compiler. */
import { describe, expect, test } from "vitest";
import { type Capability, WASM_DEFAULT, WEBGPU_DEFAULT } from "../../compiler/capability.ts";
import { type LoweredModel, lowerModel } from "../../compiler/compile.ts";
import { type ConvolutionForm, chooseConvolutions, type FormTimes } from "../../compiler/graph/convolution.ts";
import { verifyGraph } from "../../compiler/graph/verify.ts";
import { verifyKernel } from "../../compiler/kernel/verify.ts";
import { verifyLoops } from "../../compiler/loop/verify.ts";
import type { Model } from "../../compiler/model.ts";
import { scheduleCpu } from "../../compiler/schedule/cpu.ts";
import { scheduleKernel } from "../../compiler/schedule/gpu.ts";
import { errorsOf } from "../tools/compare.ts";
import { DEVICES, modelOf, namedInputs, namedParameters, onOracle, stagedOk } from "../tools/nets.ts";
import { evaluateGraph } from "./evaluate.ts";
import { Net, randomLeaves } from "./nets.ts";

const TILES = ["winograd 2", "winograd 4"] as const satisfies readonly ConvolutionForm[];

/** Images, channels, filters, height, width, padding. */
const SHAPES = [
  [1, 1, 1, 3, 3, 0],
  [1, 3, 5, 4, 4, 1],
  [2, 8, 12, 9, 7, 1],
  [1, 4, 8, 8, 12, 1],
  [3, 5, 3, 5, 6, 0],
  [1, 2, 2, 1, 1, 1],
  [1, 7, 9, 6, 3, 2],
] as const;

describe.each(TILES)("%s", (form) => {
  test.each(SHAPES)("%i images, %i to %i channels, %i×%i padded by %i", (n, c, o, h, w, pad) => {
    for (const bias of [true, false]) {
      const net = new Net();
      net.layer = "conv";
      const made = net.conv(net.input("x", [n, c, h, w]), o, 3, { pad, bias });
      const graph = net.finish(net.relu(made));
      const { graph: after, choices } = chooseConvolutions(graph, { tileBytes: 0, always: { form, reason: "" } });
      expect(choices.map((choice) => choice.form)).toEqual([form]);
      expect(verifyGraph(after)).toEqual([]);
      expect(after.nodes.some(({ op }) => op === "conv2d")).toBe(false);
      const { inputs, params } = randomLeaves(graph, 5);
      const [want = []] = evaluateGraph(graph, inputs, params);
      const [got = []] = evaluateGraph(after, inputs, params);
      expect(errorsOf(got, want).max).toBeLessThan(1e-13);
    }
  });

  test.each(SHAPES)("and its gradients: %i images, %i to %i channels, %i×%i padded by %i", (n, c, o, h, w, pad) => {
    const net = new Net();
    net.layer = "conv";
    const attrs = { stride: [1, 1], pad: [pad, pad], dilation: [1, 1], groups: 1 } as const;
    const dy = net.input("dy", [n, o, h + 2 * pad - 2, w + 2 * pad - 2]);
    const byImage = net.op("conv2d_input_grad", [dy, net.param("conv.weight", [o, c, 3, 3])], {
      ...attrs,
      size: [h, w],
    });
    const byWeights = net.op("conv2d_weight_grad", [net.input("x", [n, c, h, w]), dy], { ...attrs, k: [3, 3] });
    const graph = net.finish(byImage, byWeights);
    const { graph: after, choices } = chooseConvolutions(graph, { tileBytes: 0, always: { form, reason: "" } });
    expect(choices.map((choice) => `${choice.pass} ${choice.form}`)).toEqual([
      `by image ${form}`,
      `by weights ${form}`,
    ]);
    expect(verifyGraph(after)).toEqual([]);
    expect(after.nodes.some(({ op }) => op.startsWith("conv2d"))).toBe(false);
    const { inputs, params } = randomLeaves(graph, 5);
    const want = evaluateGraph(graph, inputs, params);
    const got = evaluateGraph(after, inputs, params);
    for (const [i, values] of want.entries()) expect(errorsOf(got[i] ?? [], values).max).toBeLessThan(1e-13);
    expect(want.length).toBe(2);
  });

  // Channels that are and are not whole vectors, tiles that do and do not fill the image, a pool within the tiles, a
  // residual sum in the epilogue, an odd image under the pool, batch norm in the weights.
  const NETS = [
    "model M(x: f32[N, 8, 8, 8]) -> f32[N, 8, 8, 8] = Conv(8, k=3, pad=1) @c -> ReLU",
    "model M(x: f32[N, 5, 9, 7]) -> f32[N, 7, 4, 3] = Conv(7, k=3, pad=1) @c -> BatchNorm @b -> ReLU -> MaxPool(2) @p",
    "model M(x: f32[N, 12, 7, 10]) -> f32[N, 12, 3, 5] = Conv(12, k=3, pad=1) @c -> MaxPool(2) @p",
    "model M(x: f32[N, 8, 7, 5]) -> f32[N, 8, 7, 5] = (x + (x -> Conv(8, k=3, pad=1) @c)) -> ReLU",
    "model M(x: f32[N, 16, 6, 11]) -> f32[N, 9, 4, 9] = Conv(16, k=3, pad=1) @c -> ReLU -> Conv(9, k=3, pad=0) @d",
  ];
  test.each(NETS)("%s", { timeout: 60_000 }, async (text) => {
    for (const batch of [1, 2]) {
      const model = modelOf(text, { N: batch });
      const { loops, graph } = stagedOk(lowerModel(model, WASM_DEFAULT, undefined, form));
      expect(verifyLoops(loops)).toEqual([]);
      const kernels = [...loops.load.flatMap((step) => (step.kind === "kernel" ? [step.kernel] : [])), ...loops.run];
      for (const kernel of kernels) {
        expect(verifyKernel(scheduleCpu(kernel, loops.buffers, WASM_DEFAULT).program, WASM_DEFAULT)).toEqual([]);
        expect(scheduleKernel(kernel, loops.buffers, WEBGPU_DEFAULT).dispatches.length).toBeGreaterThan(0);
      }
      // One pipeline takes SwiftShader seconds to compile.
      await expectAlike(
        model,
        { ...model, graph },
        text === NETS[1] && batch === 1 ? ["interp", "wasm", "webgpu"] : ["interp", "wasm"],
      );
    }
  });
});

/** The rewritten model gives what the model does, on each device. */
async function expectAlike(model: Model, made: Model, devices: readonly (keyof typeof DEVICES)[]): Promise<void> {
  const [inputs, parameters] = [namedInputs(model.graph), namedParameters(model)];
  const want = onOracle(model, inputs, parameters);
  for (const device of devices) {
    const got = await DEVICES[device](made, inputs, parameters);
    for (const [name, values] of want) {
      const { relL2, max } = errorsOf(got.get(name) ?? [], values);
      expect({ device, relL2: relL2 < 3e-6, max: max < 3e-6 }).toEqual({ device, relL2: true, max: true });
    }
  }
}

test("what follows a convolution is computed where its tiles are put together", () => {
  const text = `model M(x: f32[N, 8, 8, 8]) -> f32[N, 8, 4, 4] =
    Conv(16, k=3, pad=1) @a -> BatchNorm @n -> ReLU -> Conv(16, k=3, pad=1) @b -> ReLU -> MaxPool(2) @p -> Conv(8, k=1) @c`;
  const { loops } = stagedOk(lowerModel(modelOf(text), WASM_DEFAULT, undefined, "winograd 4"));
  // The caller's planes are copied channels-last, as for any convolution, and the weights wait in panels.
  expect(loops.run.map(({ name, stores }) => `${name} ${stores.length}`)).toEqual([
    "x.channels_last 1",
    "a.winograd.input 36",
    "a.matmul 1",
    "a+relu 16",
    "b.winograd.input 36",
    "b.matmul 1",
    "b+relu 4",
    "c 1",
    "output.output 1",
  ]);
  const weights = loops.buffers.filter(({ name }) => name.includes("winograd.weight"));
  expect(weights.map(({ layout }) => layout.kind)).toEqual(["panels", "panels"]);
});

test("a pooled tile has one result, and is not put together anew for each of the tiles that read it", () => {
  const text = `model M(x: f32[N, 8, 16, 16]) -> f32[N, 8, 8, 8] =
    Conv(8, k=3, pad=1) @a -> ReLU -> MaxPool(2) @p -> Conv(8, k=3, pad=1) @b`;
  const { loops, decisions } = stagedOk(lowerModel(modelOf(text), WEBGPU_DEFAULT, undefined, "winograd 2"));
  expect(loops.run.map(({ name, loads, stores }) => `${name} ${loads.length} ${stores.length}`)).toEqual([
    "a.winograd.input 16 16",
    "a.matmul 2 1",
    "a+relu 17 1",
    "b.winograd.input 16 16",
    "b.matmul 2 1",
    "b 17 4",
    "output.output 1 1",
  ]);
  expect(decisions.map(({ reason }) => reason)).toContainEqual(
    expect.stringMatching(/^it would be recomputed 4.00 times/),
  );
});

test("rounds within its bound: at most 2 times the direct form's error in tiles of 2, and 6 times in tiles of 4", async () => {
  const model = modelOf("model M(x: f32[N, 96, 13, 10]) = Conv(16, k=3, pad=1) @c");
  const [inputs, parameters] = [namedInputs(model.graph), namedParameters(model)];
  const [want = []] = onOracle(model, inputs, parameters).values();
  const errors: number[] = [];
  for (const form of ["direct", ...TILES] as const) {
    const { graph } = stagedOk(lowerModel(model, WASM_DEFAULT, undefined, form));
    const [got = []] = (await DEVICES.wasm({ ...model, graph }, inputs, parameters)).values();
    errors.push(errorsOf(got, want).relL2);
  }
  const [direct = 0, two = 0, four = 0] = errors;
  expect(direct).toBeGreaterThan(0);
  expect(two).toBeLessThan(2 * direct);
  expect(four).toBeLessThan(6 * direct);
  expect(four).toBeLessThan(2e-6);
});

describe("the choice", () => {
  const choose = (text: string, target: Capability = WASM_DEFAULT): LoweredModel =>
    stagedOk(lowerModel(modelOf(text), target));
  const forms = (lowered: LoweredModel): readonly string[] => lowered.convolutions.map(({ form }) => form);

  test("follows the expected cost, and few channels stay as they are", () => {
    const text =
      "model M(x: f32[N, 3, 64, 64]) -> f32[N, 64, 64, 64] = Conv(64, k=3, pad=1) @a -> Conv(64, k=3, pad=1) @b";
    expect(forms(choose(text))).toEqual(["direct", "winograd 4"]);
  });
  test("is made by what was timed, where it was, and is worth a tenth", () => {
    const model = modelOf("model M(x: f32[N, 64, 32, 32]) = Conv(64, k=3, pad=1) @a -> Conv(32, k=3, pad=1) @b");
    const chosen = (target: Capability, times: FormTimes): readonly string[] =>
      stagedOk(
        lowerModel(model, target, undefined, ({ filters }) => (filters === 64 ? times : undefined)),
      ).convolutions.map(({ form }) => form);
    for (const [target, other] of [
      [WEBGPU_DEFAULT, "direct"],
      [WASM_DEFAULT, "winograd 4"],
    ] as const) {
      expect(chosen(target, { direct: 2, "winograd 2": 1, "winograd 4": 1.5 })).toEqual(["winograd 2", other]);
      expect(chosen(target, { direct: 2, "winograd 2": 1, "winograd 4": 0.85 })).toEqual(["winograd 4", other]);
      expect(chosen(target, { direct: 1, "winograd 2": 0.95, "winograd 4": 0.91 })).toEqual(["direct", other]);
      expect(chosen(target, { direct: 1 })).toEqual(["direct", other]);
    }
    const small = { ...WEBGPU_DEFAULT, limits: { ...WEBGPU_DEFAULT.limits, maxStorageBufferBindingSize: 500_000 } };
    expect(chosen(small, { direct: 2, "winograd 2": 1, "winograd 4": 0.5 })).toEqual(["direct", "direct"]);
  });
  test("says why it is what it is", () => {
    const model = modelOf("model M(x: f32[N, 64, 32, 32]) = Conv(64, k=3, pad=1) @a");
    const reason = (target: Capability, times?: FormTimes): string | undefined =>
      stagedOk(lowerModel(model, target, undefined, () => times)).convolutions[0]?.reason;
    expect(reason(WASM_DEFAULT)).toMatch(/^expected on one core: direct .* ms, winograd 2 .* ms, winograd 4 .* ms$/);
    expect(reason(WEBGPU_DEFAULT)).toBe("another only where `--tune SECONDS` has found it faster on the device");
    expect(reason(WEBGPU_DEFAULT, { direct: 2.04, "winograd 2": 1 })).toBe(
      "timed on this device: direct 2.0 ms, winograd 2 1.0 ms",
    );
  });
  test("leaves what has another form alone: strides, dilations, groups, windows", () => {
    for (const options of ["k=3, stride=2", "k=3, dilation=2", "k=3, groups=2", "k=5", "k=1"]) {
      const model = modelOf(`model M(x: f32[N, 64, 32, 32]) = Conv(64, pad=0, ${options}) @c`);
      expect(stagedOk(lowerModel(model, WASM_DEFAULT)).convolutions).toEqual([]);
    }
  });
  test("leaves weights alone that depend on the input", () => {
    const net = new Net();
    const image = net.input("x", [1, 8, 8, 8]);
    const made = net.op("conv2d", [image, net.input("w", [8, 8, 3, 3])], {
      stride: [1, 1],
      pad: [1, 1],
      dilation: [1, 1],
      groups: 1,
    });
    const { choices } = chooseConvolutions(net.finish(made), {
      tileBytes: 0,
      always: { form: "winograd 2", reason: "" },
    });
    expect(choices).toEqual([]);
  });
  test("does without where tiles would take too much memory", () => {
    const model = modelOf("model M(x: f32[N, 64, 32, 32]) = Conv(64, k=3, pad=1) @c");
    const [choice] = stagedOk(lowerModel(model, { ...WASM_DEFAULT, maxMemory: 500_000 })).convolutions;
    expect(choice?.form).toBe("direct");
    expect(choice?.reason).toContain("too large");
  });

  const POOLS = [
    ["ReLU -> MaxPool(2) @p", true, "its windows align with the tiles"],
    ["MaxPool(2) @p", true, "its windows align with the tiles"],
    ["ReLU -> MaxPool(3, stride=2) @p", false, "windows of 3×3 at 2×2 padded by 0×0 do not align with tiles"],
  ] as const;
  test.each(POOLS)("a pool: %s", (rest, fused, reason) => {
    const model = modelOf(`model M(x: f32[N, 64, 16, 16]) = Conv(64, k=3, pad=1) @c -> ${rest}`);
    const lowered = stagedOk(lowerModel(model, WASM_DEFAULT));
    expect(lowered.convolutions.map(({ pool }) => pool)).toEqual([{ fused, reason }]);
    expect(lowered.graph.nodes.some(({ op }) => op === "max_pool2d")).toBe(!fused);
    const again = stagedOk(lowerModel(model, WASM_DEFAULT, undefined, "direct"));
    expect(again.convolutions[0]?.pool?.fused).toBe(false);
  });
  test("a result with other readers is not pooled away", () => {
    const net = new Net();
    net.layer = "conv";
    const made = net.conv(net.input("x", [1, 8, 8, 8]), 8, 3, { pad: 1 });
    const most = net.op("reduce", [made], { fn: "max", axes: [2, 3], keep: true });
    const graph = net.finish(net.op("binary", [net.maxPool(made, 2), most], { fn: "add" }));
    const after = chooseConvolutions(graph, { tileBytes: 0, always: { form: "winograd 2", reason: "" } });
    expect(after.choices.map(({ pool }) => pool)).toEqual([
      { fused: false, reason: "the result before the pool has other readers" },
    ]);
    expect(after.graph.nodes.some(({ op }) => op === "max_pool2d")).toBe(true);
  });
});
