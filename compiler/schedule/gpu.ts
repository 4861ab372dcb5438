/**
 * From an L2 kernel to GPU dispatches: the room's front door for WebGPU targets.
 *
 * Flatten, choose a plan (or take the caller's), generate, verify. A contraction with split K becomes two dispatches and a
 * scratch buffer between them: partial sums, and a reduction over the slices that carries the kernel's epilogue.
 */
import type { WebGPUCapability } from "../capability.ts";
import { verifyKernel } from "../kernel/verify.ts";
import { loadsOf, outputAxes } from "../loop/access.ts";
import { add, axis, scale } from "../loop/affine.ts";
import { type Contraction, kernelClass } from "../loop/contraction.ts";
import type { Affine, Buffer, Guard, Kernel, Load } from "../loop/loops.ts";
import { rewriteScalar } from "../scalar.ts";
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
  const renumbered = new Map(outputs.map((old, i) => [old, i]));
  const at = (old: number): number => {
    const found = renumbered.get(old);
    if (found === undefined) throw new Error(`internal: an epilogue of ${kernel.name} mentions a reduced axis`);
    return found;
  };
  const move = (e: Affine): Affine => ({
    constant: e.constant,
    terms: e.terms.map(({ coefficient, atom }) => ({
      coefficient,
      atom: atom.kind === "axis" ? { kind: "axis", axis: at(atom.axis) } : { ...atom, of: move(atom.of) },
    })),
  });
  const moveGuards = (guards: readonly Guard[]): readonly Guard[] =>
    guards.map(({ index, size }) => ({ index: move(index), size }));
  // The partial sums lie as [slice, batch, M, N].
  let address = axis(outputs.length);
  for (const old of [...c.batch, ...c.m, ...c.n])
    address = add(scale(address, kernel.axes[old]?.size ?? 1), axis(at(old)));
  const partial: Load = { buffer: scratch, index: [address], guards: [], otherwise: 0 };
  const kept = loadsOf(...kernel.stores.map((s) => s.value));
  const loads = kept.flatMap((old): Load[] => {
    const l = kernel.loads[old];
    return l === undefined ? [] : [{ ...l, index: l.index.map(move), guards: moveGuards(l.guards) }];
  });
  return {
    ...kernel,
    name: `${kernel.name}.sum`,
    axes: [...outputs.flatMap((old) => kernel.axes[old] ?? []), { name: "slice", size: slices }],
    loads: [partial, ...loads],
    body: [{ kind: "load", index: 0 }],
    reduce: "sum",
    stores: kernel.stores.map((s) => ({
      ...s,
      index: s.index.map(move),
      guards: moveGuards(s.guards),
      value: rewriteScalar(s.value, {
        load: (old) => ({ kind: "load", index: 1 + kept.indexOf(old) }),
        state: (index) => ({ kind: "state", index }),
        axis: (old) => ({ kind: "axis", axis: at(old) }),
      }),
    })),
    macs: 0,
  };
}
