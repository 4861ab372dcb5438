/**
 * Mixed precision: what is stored as halves and what never is, steps that follow those in f32, a loss scale that changes
 * nothing but what would vanish, and overflow, after which nothing has changed.
 */
import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { create } from "webgpu";
import { WASM_DEFAULT, WEBGPU_DEFAULT, type WebGPUCapability } from "../../compiler/capability.ts";
import { compileStep, lowerStep } from "../../compiler/compile.ts";
import { verifyLoops } from "../../compiler/loop/verify.ts";
import type { Model } from "../../compiler/model.ts";
import type { Precision, Stage } from "../../compiler/recipe/recipe.ts";
import { openWebGPU } from "../../runtime/engine/webgpu.ts";
import { modelOf, namedParameters, stagedOk } from "../tools/nets.ts";
import { plainStage } from "./stage.ts";
import { activationBytes, loweredStep, type Steps, stepProgram, stepsOnOracle, stepsOnWasm } from "./steps.ts";

const MIXED = { kind: "mixed", lossScale: undefined } as const;

let model: Model;
let stage: Stage;
beforeAll(() => {
  model = modelOf(readFileSync("test/training/two-stream.net", "utf8"), { N: 6 });
  stage = { ...plainStage(model), rate: 0.01 };
});

const losses = ({ reports }: Steps): readonly number[] => reports.map(([loss = Number.NaN]) => loss);

describe("what is stored as halves", () => {
  test("maps of features and their gradients; no parameter, statistic, score, logit or loss", () => {
    const { loops } = loweredStep(
      model,
      { ...stage, optimizer: { kind: "sgd", momentum: 0.9, nesterov: false } },
      MIXED,
    );
    expect(verifyLoops(loops)).toEqual([]);
    const types = new Map<string, Set<string>>();
    for (const { role, name, dtype } of loops.buffers)
      types.set(`${role} ${name}`, (types.get(`${role} ${name}`) ?? new Set()).add(dtype));
    for (const [name, found] of types) if (!name.startsWith("activation")) expect([...found], name).toEqual(["f32"]);
    const half = loops.buffers.filter(({ dtype }) => dtype === "f16");
    expect(half.every(({ shape }) => shape.length >= 3 && shape[0] === 6)).toBe(true);
    const names = new Set(half.map(({ name }) => name));
    for (const name of ["conv1.conv", "conv3.relu", "pool1.max_pool", "conv3.conv.input_grad"])
      expect(names).toContain(`spatial.${name}`);
    expect(names).toContain("stia_conv4.to_spatial.softmax");
    for (const { name, dtype } of loops.buffers)
      if (/mean|rsqrt|softmax\.|weight|loss|\.fc|step/.test(name)) expect(dtype, name).toBe("f32");
    // The table of scores, of which the softmax is taken.
    const scores = loops.buffers.find(({ name, shape }) => name === "stia_conv4.to_spatial.matmul" && shape[2] === 9);
    expect(scores?.dtype).toBe("f32");
  });

  test("products of halves multiply halves: weights are rounded too", () => {
    const { loops } = loweredStep(model, stage, MIXED);
    const product = (name: string): string => {
      const kernel = loops.run.find((one) => one.reduce === "sum" && one.macs > 0 && one.name.startsWith(name));
      return (kernel?.body ?? [])
        .flatMap((s) => (s.kind === "binary" && s.fn === "mul" ? [s.left, s.right] : []))
        .map((s) => (s.kind === "unary" ? `${s.fn} ${s.value.kind}` : s.kind))
        .join(" by ");
    };
    // Activations lie as halves, weights do not; the input of the network is as the caller gives it.
    expect(product("spatial.conv3.conv")).toBe("load by half load");
    expect(product("spatial.conv1.conv")).toBe("load by load");
    expect(product("spatial.fc")).toBe("load by load");
    expect(product("spatial.conv1.conv.weight_grad")).toBe("half load by load");
  });

  test("takes less memory, in hardly more kernels", () => {
    const [single, mixed] = [stepProgram(model, stage), stepProgram(model, stage, MIXED)];
    expect(activationBytes(mixed)).toBeLessThan(0.75 * activationBytes(single));
    expect(mixed.run.length).toBeLessThan(1.01 * single.run.length);
  });
});

test("twenty steps stay within three hundredths of those in f32, on the oracle and on WASM", async () => {
  const want = losses(stepsOnOracle(model, stage, 20));
  expect(want.at(-1)).toBeLessThan(0.2 * (want[0] ?? 0) + 0.1);
  for (const got of [stepsOnOracle(model, stage, 20, MIXED), await stepsOnWasm(model, stage, 20, MIXED)]) {
    const apart = losses(got).map((loss, step) => Math.abs(loss / (want[step] ?? 0) - 1));
    expect(Math.max(...apart)).toBeLessThan(0.03);
    expect(apart.reduce((sum, one) => sum + one, 0) / apart.length).toBeLessThan(0.01);
  }
});

describe("the loss scale", () => {
  test("changes neither report nor update, but for what it keeps from vanishing", () => {
    const [one, many] = [1, 4096].map((scale) => stepsOnOracle(model, stage, 1, MIXED, scale));
    expect(one?.reports[0]?.[0]).toBe(many?.reports[0]?.[0]);
    const [norm = 0, scaled = 0] = [one, many].map((steps) => steps?.reports[0]?.[1] ?? Number.NaN);
    expect(Math.abs(scaled / norm - 1)).toBeLessThan(1e-2);
    expect(scaled).not.toBe(norm);
  });

  test("that is too large changes nothing but the report", async () => {
    for (const steps of [
      stepsOnOracle(model, stage, 1, MIXED, 2 ** 40),
      await stepsOnWasm(model, stage, 1, MIXED, 2 ** 40),
    ]) {
      expect(Number.isFinite(steps.reports[0]?.[0])).toBe(true);
      expect(steps.reports[0]?.[2]).toBe(0);
      for (const [path, values] of namedParameters(model))
        expect([...(steps.state.get(path) ?? [])], path).toEqual([...values]);
    }
  });

  test("is an input of steps in mixed precision only", () => {
    const inputs = (program = stepProgram(model, stage)): readonly string[] => program.inputs.map(({ name }) => name);
    expect(inputs()).not.toContain("step.loss_scale");
    expect(inputs(stepProgram(model, stage, MIXED))).toContain("step.loss_scale");
  });
});

describe("on a GPU", () => {
  const options = { sizes: new Map<string, number>(), seed: 1, precision: MIXED };

  test("kernels of halves are valid", async () => {
    const target = { ...WEBGPU_DEFAULT, f16: true };
    const { program } = stagedOk(compileStep(model, stage, { ...options, target }));
    const text = program.kernels.map(({ code }) => String(code)).join("\n");
    expect(text).toContain("enable f16;");
    expect(text).toContain("array<vec4<f16>, ");
    expect(text).toContain("array<f16, ");
    // Dawn's null backend compiles and binds everything; it computes nothing.
    const runner = await openWebGPU(program, create(["backend=null"]));
    runner.dispose();
  });

  test("weights are packed as halves, and hardware for matrices takes most products", async () => {
    const target: WebGPUCapability = {
      ...WEBGPU_DEFAULT,
      f16: true,
      subgroups: { min: 32, max: 32 },
      matrix: [{ m: 16, n: 16, k: 16, input: "f16", result: "f32" }],
    };
    const wide = modelOf(
      "model Wide = Conv(64) -> ReLU -> Conv(64) @second -> GlobalAvgPool -> Linear(4) over x: f32[N, 3, 64, 64]",
      { N: 16 },
    );
    const made = stagedOk(lowerStep(wide, plainStage(wide), target, MIXED));
    const packed = made.loops.buffers.filter(({ name }) => name.endsWith(".packed"));
    expect(packed.map(({ dtype, name }) => [name, dtype])).toContainEqual(["second.weight.packed", "f16"]);
    const texts = (precision: Precision): number => {
      const { program } = stagedOk(compileStep(wide, plainStage(wide), { ...options, precision, target }));
      return program.kernels.filter(({ code }) => String(code).includes("subgroupMatrixMultiplyAccumulate")).length;
    };
    // Forward, and by the input and the weights of the second convolution; the first has an input in f32.
    expect(texts(MIXED)).toBeGreaterThanOrEqual(3);
    expect(texts({ kind: "f32" })).toBe(0);
    const { program } = stagedOk(compileStep(wide, plainStage(wide), { ...options, target }));
    await expect(openWebGPU(program, create(["backend=null"]))).rejects.toThrow(
      /chromium-experimental-subgroup-matrix.*compile it for this device/,
    );
  });

  test("without halves it is refused with what to do", () => {
    const made = lowerStep(model, stage, WEBGPU_DEFAULT, MIXED);
    const [found] = "diagnostics" in made ? made.diagnostics : [];
    expect(found?.code).toBe("E0906");
    expect(found?.message).toContain("webgpu-default has none");
    expect(found?.helps.length).toBe(2);
    expect("ok" in lowerStep(model, stage, WASM_DEFAULT, MIXED)).toBe(true);
  });
});
