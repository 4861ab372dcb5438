/**
 * Every example, at its full size, through every stage that needs no arithmetic: it elaborates without errors, has the
 * parameters it should have, passes the verifiers of graph and loops, and all its WGSL is accepted by Dawn's validator,
 * for the WebGPU that every browser has and for a large GPU.
 */
import { readdirSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Capability, WASM_DEFAULT, WEBGPU_DEFAULT, type WebGPUCapability } from "../../compiler/capability.ts";
import { elaborate } from "../../compiler/elaborate/elaborate.ts";
import { graphHash } from "../../compiler/graph/hash.ts";
import { verifyGraph } from "../../compiler/graph/verify.ts";
import { verifyLoops } from "../../compiler/loop/verify.ts";
import type { Model } from "../../compiler/model.ts";
import type { ProgramKernel } from "../../compiler/program.ts";
import { openEntry } from "../../runtime/cli/sources.ts";
import { bound, exampleModel, lowered, modelOf, programOf, shapeOf } from "../tools/nets.ts";
import { nullDevice } from "../tools/webgpu.ts";

/** A data centre's GPU with everything that WebGPU may tell of it. */
const LARGE: WebGPUCapability = {
  kind: "webgpu",
  name: "large",
  software: false,
  f16: true,
  subgroups: { min: 32, max: 32 },
  matrix: [],
  limits: {
    maxStorageBufferBindingSize: 2 ** 31 - 4,
    maxBufferSize: 2 ** 34,
    maxStorageBuffersPerShaderStage: 10,
    maxComputeWorkgroupStorageSize: 49152,
    maxComputeInvocationsPerWorkgroup: 1024,
    maxComputeWorkgroupSizeX: 1024,
    maxComputeWorkgroupSizeY: 1024,
    maxComputeWorkgroupSizeZ: 64,
    maxComputeWorkgroupsPerDimension: 65535,
  },
};

/** Learned parameters of every example; a file of searches has no model of its own. */
const PARAMETERS = {
  // Two streams of 67 794 and 70 242, and 2·(2C² + 4.5C) for C = 48; four classes more have 4·65 more in each stream.
  association: 67_794 + 70_242 + 9_648,
  expression: 67_794 + 70_242 + 9_648 + 520,
  headline: 278_042_512,
  lenet: 61_706,
  linear: 7_850,
  neonatal_pain: 269_881_288,
  placement: undefined,
  resnet50: 25_557_032,
  search: undefined,
  // Two streams of 186 598 and 191 494, and 2·(2C² + 4.5C) for C = 96 and 128.
  staged: 186_598 + 191_494 + 37_728 + 66_688,
  stia_expanded: 269_881_288,
  stia_named: 269_881_288,
  // Two streams of 79 572 and 82 020, and 2·(2C² + 4.5C) for C = 64 and 96.
  tiny_stia: 79_572 + 82_020 + 16_960 + 37_728,
  transformer: 22_049_896,
  vgg16: 138_357_544,
} as const;

function parameterCount(model: Model): number {
  return model.parameters
    .filter(({ kind }) => kind === "param")
    .reduce((sum, { node }) => sum + shapeOf(node).reduce((product, size) => product * size, 1), 0);
}

describe("elaboration", () => {
  test("knows every example", () => {
    const files = readdirSync("examples").filter((file) => file.endsWith(".net"));
    expect(files.sort()).toEqual(Object.keys(PARAMETERS).map((name) => `${name}.net`));
  });
  test.each(Object.entries(PARAMETERS))("%s.net has no errors, and %s parameters", (name, count) => {
    const { source, resolve } = openEntry(`examples/${name}.net`);
    const { model, diagnostics } = elaborate(source, resolve);
    expect(diagnostics.filter(({ severity }) => severity === "error")).toEqual([]);
    expect(model && parameterCount(model)).toBe(count);
  });
  test("the headline for four classes", () => {
    expect(parameterCount(modelOf("VGG16(classes=4) ×2 with STIA at conv3,conv4"))).toBe(269_881_288);
  });
});

test("the headline, its named form and its expansion by slices are one graph", () => {
  const named = graphHash(exampleModel("stia_named").graph);
  expect(graphHash(exampleModel("stia_expanded").graph)).toBe(named);
  expect(graphHash(exampleModel("headline").graph)).not.toBe(named);
  // Without a name for the model, the graph differs in that name alone.
  const bare = modelOf("VGG16(classes=4) ×2 with STIA at conv3,conv4");
  expect(graphHash({ ...bare.graph, name: "PainSTIA" })).toBe(graphHash(bound(exampleModel("stia_named")).graph));
});

const names = Object.entries(PARAMETERS).flatMap(([name, count]) => (count === undefined ? [] : [name]));
/** Neither of these differs from stia_named in what is computed. */
const compiled = names.filter((name) => name !== "stia_expanded" && name !== "neonatal_pain");

describe("verifiers", () => {
  test.each(names)("%s.net is a sound graph, open, bound and folded", (name) => {
    const model = exampleModel(name);
    expect(verifyGraph(model.graph)).toEqual([]);
    const one = bound(model);
    expect(verifyGraph(one.graph)).toEqual([]);
    expect(verifyGraph(lowered(one).graph)).toEqual([]);
  });
  test.each(
    compiled.flatMap((name) => [WEBGPU_DEFAULT, WASM_DEFAULT].map((target) => [name, target.name, target] as const)),
  )("%s.net has sound loops for %s", (name, _, target) => {
    expect(verifyLoops(lowered(bound(exampleModel(name)), target).loops)).toEqual([]);
  });
});

describe("WGSL", () => {
  let device: GPUDevice;
  beforeAll(async () => {
    device = await nullDevice();
  });
  afterAll(() => {
    device.destroy();
  });

  /** Texts that were accepted, of all examples: equal kernels are validated once. */
  const accepted = new Set<string>();

  async function validate({ name, code }: ProgramKernel, pipeline: boolean): Promise<void> {
    if (typeof code !== "string") throw new Error(`${name} is no text`);
    const bare = code.replace(/\/\/.*$/gm, "");
    if (accepted.has(bare)) return;
    device.pushErrorScope("validation");
    const module = device.createShaderModule({ code, label: name });
    const { messages } = await module.getCompilationInfo();
    if (pipeline && messages.length === 0) {
      await device.createComputePipelineAsync({ layout: "auto", compute: { module } });
    }
    const error = await device.popErrorScope();
    expect({ name, messages: messages.map(({ message }) => message), error }).toEqual({
      name,
      messages: [],
      error: null,
    });
    accepted.add(bare);
  }

  const kernelsOf = (name: string, target: Capability, batch: number): readonly ProgramKernel[] =>
    programOf(bound(exampleModel(name), { N: batch }), target).kernels;

  test("of a wrong kernel is refused", async () => {
    const wrong = { name: "wrong", code: "@compute @workgroup_size(1) fn main() { let x: f32 = 1u; }" };
    await expect(validate({ ...wrong, workgroupSize: [1, 1, 1], scratchBytes: 0 }, true)).rejects.toThrow();
  });
  test.each(compiled)("of %s.net is valid for every WebGPU", async (name) => {
    const kernels = kernelsOf(name, WEBGPU_DEFAULT, 1);
    expect(kernels.length).toBeGreaterThan(0);
    for (const kernel of kernels) await validate(kernel, true);
  });
  test.each(compiled)("of %s.net for a large GPU, three at once, is valid", async (name) => {
    // Dawn's null adapter has the default limits only: texts are checked, pipelines are not made.
    for (const kernel of kernelsOf(name, LARGE, 3)) await validate(kernel, false);
  });
});
