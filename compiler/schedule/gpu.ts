/**
 * From an L2 kernel to GPU dispatches: the room's front door for WebGPU targets.
 *
 * Flatten, choose a plan (or take the caller's), generate, verify. A contraction with split K becomes two dispatches and a
 * scratch buffer between them: partial sums, and a reduction over the slices that carries the kernel's epilogue.
 */
import type { WebGPUCapability } from "../capability.ts";
import { verifyKernel } from "../kernel/verify.ts";
import { loadsOf, outputAxes } from "../loop/access.ts";
import { add, axis, constant, scale } from "../loop/affine.ts";
import { reindex } from "../loop/build.ts";
import { type Contraction, kernelClass } from "../loop/contraction.ts";
import type { Affine, Axis, Buffer, Kernel, Load } from "../loop/loops.ts";
import { attendProgram } from "./attend.ts";
import { contractProgram } from "./contract.ts";
import type { Dispatch } from "./dispatch.ts";
import { type Flat, flatten } from "./flat.ts";
import { mapProgram } from "./map.ts";
import { type ContractPlan, choosePlan, chooseReduce, type Plan } from "./plan.ts";
import { reduceProgram } from "./reduce.ts";

export interface Scheduled {
  readonly plan: Plan;
  /** In order of execution. */
  readonly dispatches: readonly Dispatch[];
  /** Buffers that live between these dispatches only; ids go on from `buffers.length`. */
  readonly scratch: readonly Buffer[];
}

/**
 * The dispatches that run a kernel on a WebGPU device.
 * @param buffers all buffers that the kernel's ids count, scratch buffers of other kernels included
 * @param plan instead of the one that `choosePlan` would take; of the kernel's own schedule
 */
export function scheduleKernel(
  kernel: Kernel,
  buffers: readonly Buffer[],
  capability: WebGPUCapability,
  plan?: Plan,
): Scheduled {
  const flat = flatten(kernel, buffers);
  const chosen = plan ?? choosePlan(flat, capability);
  const scheduled = generate(flat, chosen, capability);
  for (const { program } of scheduled.dispatches) {
    const faults = verifyKernel(program, capability);
    if (faults.length > 0)
      throw new Error(`internal: ${program.name} (${program.header.at(-1)}): ${faults.join("; ")}`);
  }
  return scheduled;
}

function generate(flat: Flat, plan: Plan, capability: WebGPUCapability): Scheduled {
  const maxGroups = capability.limits.maxComputeWorkgroupsPerDimension;
  const found = kernelClass(flat.kernel, flat.buffers);
  switch (plan.schedule) {
    case "map":
      return { plan, dispatches: [mapProgram(flat, plan, maxGroups)], scratch: [] };
    case "reduce":
      return { plan, dispatches: [reduceProgram(flat, plan, maxGroups)], scratch: [] };
    case "contract":
      if (found.kind !== "contract") throw new Error(`internal: ${flat.kernel.name} is no contraction`);
      if (plan.splitK > 1) return splitContraction(flat, found.contraction, plan, capability);
      return {
        plan,
        dispatches: [contractProgram(flat, found.contraction, plan, { kind: "stores" }, maxGroups)],
        scratch: [],
      };
    case "attend":
      if (found.kind !== "attend") throw new Error(`internal: ${flat.kernel.name} is no attention`);
      return { plan, dispatches: [attendProgram(flat, found.attention, plan, maxGroups)], scratch: [] };
    default:
      return plan satisfies never;
  }
}

function splitContraction(flat: Flat, c: Contraction, plan: ContractPlan, capability: WebGPUCapability): Scheduled {
  const maxGroups = capability.limits.maxComputeWorkgroupsPerDimension;
  const { batch, m, n } = c.sizes;
  const scratch: Buffer = {
    id: flat.buffers.length,
    name: `${flat.kernel.name}.partial`,
    shape: [plan.splitK * batch * m * n],
    dtype: "f32",
    layout: { kind: "rows", order: [0] },
    role: "activation",
  };
  const buffers = [...flat.buffers, scratch];
  const partialKernel = { ...flat.kernel, name: `${flat.kernel.name}.partial` };
  const first = contractProgram(
    { kernel: partialKernel, buffers },
    c,
    plan,
    { kind: "partial", buffer: scratch.id },
    maxGroups,
  );
  // Flattened again: the slices' sums often run through memory as the outputs do.
  const sum = flatten(sumOfSlices(flat.kernel, c, plan.splitK, scratch.id), buffers);
  const second = reduceProgram(sum, chooseReduce(sum, capability), maxGroups);
  return { plan, dispatches: [first, second], scratch: [scratch] };
}

/** The kernel that adds the slices of a split contraction, axes [outputs…, slice], with the contraction's stores. */
function sumOfSlices(kernel: Kernel, c: Contraction, slices: number, scratch: number): Kernel {
  const outputs = outputAxes(kernel);
  const slice = outputs.length;
  const axes: Axis[] = [...outputs.flatMap((old) => kernel.axes[old] ?? []), { name: "slice", size: slices }];
  const at = (old: number): Affine => (outputs.includes(old) ? axis(outputs.indexOf(old)) : constant(0));
  // The partial sums lie as [slice, batch, M, N].
  let address = axis(slice);
  for (const old of [...c.batch, ...c.m, ...c.n]) address = add(scale(address, kernel.axes[old]?.size ?? 1), at(old));
  const partial: Load = { buffer: scratch, index: [address], guards: [], otherwise: 0 };
  // The stores keep their loads; the factors' are needed no more.
  const kept = new Set(loadsOf(...kernel.stores.map((s) => s.value)));
  const moved = reindex(
    kernel,
    axes,
    kernel.axes.map((_, old) => at(old)),
  );
  return {
    ...moved,
    name: `${kernel.name}.sum`,
    loads: [...moved.loads.map((l, i) => (kept.has(i) ? l : partial)), partial],
    body: [{ kind: "load", index: moved.loads.length }],
    macs: 0,
  };
}
