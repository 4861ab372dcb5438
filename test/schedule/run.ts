/** Runs kernels of loop nests through the GPU schedules, on a device, and compares with the oracle. */
import type { WebGPUCapability } from "../../compiler/capability.ts";
import { elementCount } from "../../compiler/loop/layout.ts";
import { type Scheduled, scheduleKernel } from "../../compiler/schedule/gpu.ts";
import type { Plan } from "../../compiler/schedule/plan.ts";
import { assertClose } from "../tools/compare.ts";
import { runPrograms } from "../tools/webgpu.ts";
import { type Case, noise, runOracle } from "../wasm/kernels.ts";

/** Schedules a case, with a plan of the caller's or the compiler's own. */
export function schedule(c: Case, capability: WebGPUCapability, plan?: Plan): Scheduled {
  return scheduleKernel(c.kernel, c.buffers, capability, plan);
}

/** Runs a scheduled case on noise and throws unless every output is what the oracle says. */
export async function checkCase(device: GPUDevice, c: Case, scheduled: Scheduled): Promise<void> {
  const all = [...c.buffers, ...scheduled.scratch];
  const values = new Map(c.ins.map((id) => [id, noise(sizeOf(c, id), id + 1)]));
  // NaN where nothing may be read before it is written.
  const memory = all.map((b) => values.get(b.id) ?? new Float32Array(elementCount(b)).fill(Number.NaN));
  const got = await runPrograms(device, scheduled.dispatches, memory);
  const want = runOracle(c, values);
  for (const id of c.outs) assertClose(got[id] ?? [], want.get(id) ?? [], `${c.name}, buffer ${id}`);
}

function sizeOf(c: Case, id: number): number {
  const buffer = c.buffers[id];
  if (buffer === undefined) throw new Error(`no buffer ${id}`);
  return elementCount(buffer);
}
