/**
 * Whole networks through the GPU schedules on SwiftShader, against the oracle: lowered, fused and packed as the compiler
 * does for GPUs, every kernel of the load and the run program in turn.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WEBGPU_DEFAULT, type WebGPUCapability } from "../../compiler/capability.ts";
import { interpret } from "../../compiler/loop/interp.ts";
import { elementCount } from "../../compiler/loop/layout.ts";
import type { Loops } from "../../compiler/loop/loops.ts";
import { lowerGraph } from "../../compiler/loop/lower.ts";
import type { Dispatch } from "../../compiler/schedule/dispatch.ts";
import { scheduleKernel } from "../../compiler/schedule/gpu.ts";
import { bottleneck, Net, randomValues, twoStreams } from "../loop/nets.ts";
import { assertClose } from "../tools/compare.ts";
import { nullDevice, pipelineOf, runPrograms, SOFTWARE, softwareDevice } from "../tools/webgpu.ts";

let device: GPUDevice;
let validator: GPUDevice;
beforeAll(async () => {
  device = await softwareDevice();
  validator = await nullDevice();
});
afterAll(() => {
  device.destroy();
  validator.destroy();
});

/** All dispatches of a network, and the sizes of all memories, scratch included. */
function scheduleAll(loops: Loops, capability: WebGPUCapability): { dispatches: Dispatch[]; sizes: number[] } {
  const buffers = [...loops.buffers];
  const dispatches: Dispatch[] = [];
  const kernels = [...loops.load.flatMap((s) => (s.kind === "kernel" ? [s.kernel] : [])), ...loops.run];
  for (const kernel of kernels) {
    const scheduled = scheduleKernel(kernel, buffers, capability);
    dispatches.push(...scheduled.dispatches);
    buffers.push(...scheduled.scratch);
  }
  return { dispatches, sizes: buffers.map(elementCount) };
}

async function check(net: Net): Promise<void> {
  const graph = net.graph();
  const { inputs, params } = randomValues(graph);
  const loops = lowerGraph(graph, { panelWidth: 2 ** 20, maxBufferBytes: 2 ** 27, fuse: true });
  const { dispatches, sizes } = scheduleAll(loops, SOFTWARE);
  const memory = sizes.map((size) => new Float32Array(size).fill(Number.NaN));
  for (const { name, buffer } of loops.inputs) memory[buffer]?.set(inputs.get(name) ?? []);
  for (const step of loops.load) {
    const path = step.kind === "upload" ? loops.buffers[step.buffer]?.param?.path : undefined;
    if (step.kind === "upload" && path !== undefined) memory[step.buffer]?.set(params.get(path) ?? []);
  }
  const got = await runPrograms(device, dispatches, memory);
  const want = interpret(loops, inputs, params);
  for (const { name, buffer } of loops.outputs) assertClose(got[buffer] ?? [], want.get(name) ?? [], name);

  for (const { program } of scheduleAll(loops, WEBGPU_DEFAULT).dispatches) await pipelineOf(validator, program);
}

describe("networks", () => {
  test("two streams with attention between them", () => check(twoStreams(2, 8, 8)), 120_000);
  test("residual bottlenecks", async () => {
    const net = new Net();
    const x = bottleneck(net, "layer1.0", net.input("x", [2, 6, 9, 9]), 4, 2);
    await check(net.output("y", bottleneck(net, "layer1.1", x, 4, 1)));
  }, 120_000);
});

test("weights travel to the GPU's layout in the load program", () => {
  const loops = lowerGraph(twoStreams(1, 8, 8).graph(), { panelWidth: 2 ** 20, maxBufferBytes: 2 ** 27, fuse: true });
  expect(loops.load.some((s) => s.kind === "kernel")).toBe(true);
});
