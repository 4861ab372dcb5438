/**
 * WebGPU devices for the tests.
 *
 * `nullDevice` validates: Dawn checks WGSL, limits and bindings and computes nothing. `softwareDevice` computes, slowly,
 * on SwiftShader. `runPrograms` runs kernel programs on a device the shortest way there is; the engine has its own.
 */
import { create, globals } from "webgpu";
import { type Capability, WEBGPU_DEFAULT, type WebGPUCapability } from "../../compiler/capability.ts";
import type { KernelProgram } from "../../compiler/kernel/ir.ts";
import { renderWGSL } from "../../compiler/kernel/wgsl.ts";
import { preloadSwiftShader } from "./swiftshader.mjs";

Object.assign(globalThis, globals);

/** Dawn crashes when the object of `create()` is collected while one of its devices lives. */
const instances = new WeakMap<GPUDevice, GPU>();

async function deviceOf(
  gpu: GPU,
  limits: Readonly<Record<string, number>>,
  wanted: readonly string[] = ["subgroups"],
): Promise<GPUDevice> {
  const adapter = await gpu.requestAdapter();
  if (adapter === null) throw new Error("no WebGPU adapter");
  // Dawn's own features are not among the types.
  const features = wanted.filter((feature) => adapter.features.has(feature)) as GPUFeatureName[];
  const device = await adapter.requestDevice({ requiredLimits: limits, requiredFeatures: features });
  instances.set(device, gpu);
  return device;
}

/** A device that validates and does not compute. It takes halves, and modules with matrices, of which it makes no pipelines. */
export function nullDevice(): Promise<GPUDevice> {
  return deviceOf(create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]), {}, [
    "subgroups",
    "subgroup-size-control",
    "shader-f16",
    "chromium-experimental-subgroup-matrix",
  ]);
}

/** A device that computes on the CPU, with the default limits and subgroups of four. */
export function softwareDevice(): Promise<GPUDevice> {
  preloadSwiftShader();
  return deviceOf(create(["backend=vulkan"]), {});
}

/** The record of `softwareDevice()`. */
export const SOFTWARE: WebGPUCapability & Capability = {
  ...WEBGPU_DEFAULT,
  name: "swiftshader",
  software: true,
  subgroups: { min: 4, max: 4 },
};

/** The pipeline of a program. Rejects with the validator's message and the numbered text. */
export async function pipelineOf(device: GPUDevice, program: KernelProgram): Promise<GPUComputePipeline> {
  const code = renderWGSL(program);
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ code, label: program.name });
  const info = await module.getCompilationInfo();
  const scoped = await device.popErrorScope();
  const numbered = (): string =>
    code
      .split("\n")
      .map((line, i) => `${i + 1}: ${line}`)
      .join("\n");
  const message = info.messages.find((m) => m.type === "error");
  if (message !== undefined || scoped !== null) {
    throw new Error(`${program.name}: line ${message?.lineNum}: ${message?.message ?? scoped?.message}\n${numbered()}`);
  }
  try {
    return await device.createComputePipelineAsync({ layout: "auto", compute: { module } });
  } catch (error) {
    throw new Error(`${program.name}: ${String(error)}\n${numbered()}`, { cause: error });
  }
}

/** A dispatch: a program and the number of the memory behind each of its arguments. */
export interface Dispatch {
  readonly program: KernelProgram;
  readonly buffers: readonly number[];
}

/** Runs dispatches in order on zeroed or given memory, and returns what each memory holds in the end. */
export async function runPrograms(
  device: GPUDevice,
  dispatches: readonly Dispatch[],
  memory: readonly Float32Array<ArrayBuffer>[],
): Promise<Float32Array[]> {
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC;
  const buffers = memory.map((data) => {
    const buffer = device.createBuffer({ size: Math.ceil(data.byteLength / 16) * 16, usage });
    device.queue.writeBuffer(buffer, 0, data);
    return buffer;
  });
  const bufferOf = (id: number): GPUBuffer => {
    const buffer = buffers[id];
    if (buffer === undefined) throw new Error(`no memory ${id}`);
    return buffer;
  };
  const encoder = device.createCommandEncoder();
  for (const { program, buffers: ids } of dispatches) {
    const pipeline = await pipelineOf(device, program);
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(
      0,
      device.createBindGroup({
        layout: pipeline.getBindGroupLayout(0),
        entries: ids.map((id, binding) => ({ binding, resource: { buffer: bufferOf(id) } })),
      }),
    );
    pass.dispatchWorkgroups(...program.workgroups);
    pass.end();
  }
  const readers = buffers.map((buffer) => {
    const reader = device.createBuffer({ size: buffer.size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    encoder.copyBufferToBuffer(buffer, 0, reader, 0, buffer.size);
    return reader;
  });
  device.queue.submit([encoder.finish()]);
  const results = [];
  for (const [i, reader] of readers.entries()) {
    await reader.mapAsync(GPUMapMode.READ);
    results.push(new Float32Array(reader.getMappedRange().slice(0, memory[i]?.byteLength)));
    reader.destroy();
  }
  for (const buffer of buffers) buffer.destroy();
  return results;
}
