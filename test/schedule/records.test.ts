/**
 * Every example, compiled for four devices that are not here: all kernels pass the verifier of L3 with the device's record,
 * all texts are shader modules for Dawn, and they become pipelines wherever its null adapter has room for them.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { KernelReuse, scheduleLoops } from "../../compiler/assemble.ts";
import type { WebGPUCapability } from "../../compiler/capability.ts";
import { lowerModel, lowerStep } from "../../compiler/compile.ts";
import type { KernelProgram } from "../../compiler/kernel/ir.ts";
import { verifyKernel } from "../../compiler/kernel/verify.ts";
import { renderWGSL } from "../../compiler/kernel/wgsl.ts";
import { plainStage } from "../../compiler/recipe/plain.ts";
import { candidatesOf, scheduleFor } from "../../compiler/schedule/candidates.ts";
import { RECORDS } from "../tools/capabilities.ts";
import { bound, exampleModel, stagedOk } from "../tools/nets.ts";
import { nullDevice } from "../tools/webgpu.ts";

let device: GPUDevice;
beforeAll(async () => {
  device = await nullDevice();
});
afterAll(() => device.destroy());

/** Those that are different networks; of the large ones no training step, whose kernels are those of smaller ones. */
const TRAINED = ["lenet", "tiny_stia", "transformer"];
/** Those whose 3×3 convolutions are also taken by Winograd's filtering. */
const FILTERED: ReadonlySet<string> = new Set(["tiny_stia", "headline", "resnet50"]);
const EXAMPLES = [...TRAINED, "headline", "linear", "resnet50", "staged", "expression", "association"];

/** Texts that were accepted, of all tests: equal kernels are validated once. */
const accepted = new Set<string>();
let pipelines = 0;
let modules = 0;
/** Modules for hardware that multiplies matrices, which the null adapter has not. */
let withMatrices = 0;

/** Whether Dawn's null adapter, which has the default limits, has room for a pipeline. */
function fits(program: KernelProgram): boolean {
  return verifyKernel(program, { ...DEFAULT, limits: limitsOf(device) }).length === 0;
}

const DEFAULT: Omit<WebGPUCapability, "limits"> = {
  kind: "webgpu",
  name: "null",
  software: false,
  f16: true,
  subgroups: undefined,
  matrix: [],
};

function limitsOf({ limits }: GPUDevice): WebGPUCapability["limits"] {
  return {
    maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
    maxBufferSize: limits.maxBufferSize,
    maxStorageBuffersPerShaderStage: limits.maxStorageBuffersPerShaderStage,
    maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
    maxComputeInvocationsPerWorkgroup: limits.maxComputeInvocationsPerWorkgroup,
    maxComputeWorkgroupSizeX: limits.maxComputeWorkgroupSizeX,
    maxComputeWorkgroupSizeY: limits.maxComputeWorkgroupSizeY,
    maxComputeWorkgroupSizeZ: limits.maxComputeWorkgroupSizeZ,
    maxComputeWorkgroupsPerDimension: limits.maxComputeWorkgroupsPerDimension,
  };
}

async function validate(program: KernelProgram, record: WebGPUCapability): Promise<void> {
  expect(verifyKernel(program, record)).toEqual([]);
  const code = renderWGSL(program);
  const bare = code.replace(/\/\/.*$/gm, "");
  if (accepted.has(bare)) return;
  accepted.add(bare);
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ code, label: program.name });
  const { messages } = await module.getCompilationInfo();
  modules += 1;
  if (code.includes("subgroup_matrix_")) withMatrices += 1;
  if (messages.length === 0 && fits(program)) {
    await device.createComputePipelineAsync({ layout: "auto", compute: { module } });
    pipelines += 1;
  }
  const error = await device.popErrorScope();
  const found = { name: program.name, messages: messages.map(({ message }) => message), error };
  expect(found).toEqual({ name: program.name, messages: [], error: null });
}

/** All kernels of a model on a device: those of a prediction and, of some, those of a training step. */
function programsOf(name: string, record: WebGPUCapability): readonly KernelProgram[] {
  const model = bound(exampleModel(name), { N: 2 });
  const precisions = [
    { kind: "f32" },
    ...(record.f16 ? [{ kind: "mixed", lossScale: undefined } as const] : []),
  ] as const;
  const stage = plainStage(model);
  const steps = TRAINED.includes(name) ? precisions.map((precision) => lowerStep(model, stage, record, precision)) : [];
  const forms = FILTERED.has(name) ? ([undefined, "winograd 2", "winograd 4"] as const) : [undefined];
  const predictions = forms.map((form) => lowerModel(model, record, undefined, form));
  const filtered = TRAINED.includes(name)
    ? forms.flatMap((form) => (form === undefined ? [] : [lowerStep(model, stage, record, undefined, undefined, form)]))
    : [];
  const all = [...predictions, ...steps, ...filtered].flatMap((staged) => {
    const { load, run } = scheduleLoops(stagedOk(staged).loops, record);
    return [...load.flatMap((step) => (step.kind === "call" ? [step.call] : [])), ...run];
  });
  return [...new Set(all.map(({ program }) => program))];
}

describe.each(RECORDS.map((record) => [record.name, record] as const))("%s", { timeout: 120_000 }, (_, record) => {
  test.each(EXAMPLES)("%s.net", async (name) => {
    const programs = programsOf(name, record);
    expect(programs.length).toBeGreaterThan(1);
    for (const program of programs) await validate(program, record);
  });

  test("every plan that a kernel of tiny_stia.net could have", async () => {
    const reuse = new KernelReuse(record);
    const model = bound(exampleModel("tiny_stia"), { N: 2 });
    scheduleLoops(stagedOk(lowerStep(model, plainStage(model), record)).loops, record, reuse);
    for (const { isolated } of reuse.seen.values())
      for (const { plan } of candidatesOf(isolated.kernel, isolated.buffers, record))
        for (const { program } of scheduleFor(isolated.kernel, isolated.buffers, record, plan).dispatches)
          expect(verifyKernel(program, record)).toEqual([]);
  });
});

test("most of them became pipelines", () => {
  expect(modules).toBeGreaterThan(300);
  expect(pipelines).toBeGreaterThan(0.9 * (modules - withMatrices));
  expect(withMatrices).toBeGreaterThan(100);
});
