/**
 * Candidates: the plans that a kernel could have, beside the one it gets.
 *
 * In: a kernel, its buffers and a target. Out: plans with their estimated costs, of which the first is the one that the
 * schedules take by themselves (plan 0), and the rest follow from cheap to dear. All are right for the kernel; which is
 * fastest only a device can tell, and whoever asks it (runtime/tune) takes the first few. A cost is comparable with
 * others of its list and has no unit.
 *
 * Plans of one `order` add up in one order: their results are the same numbers, bit for bit.
 */
import type { Capability, WasmCapability, WebGPUCapability } from "../capability.ts";
import { outputAxes, reductionAxes } from "../loop/access.ts";
import { attentionOf } from "../loop/attention.ts";
import { type Contraction, kernelClass } from "../loop/contraction.ts";
import { product } from "../loop/layout.ts";
import type { Buffer, Kernel } from "../loop/loops.ts";
import { REDUCERS } from "../loop/reducers.ts";
import { scheduleCpu, type TilePlan, tilesOf } from "./cpu.ts";
import type { AttendPlan as CpuAttendPlan } from "./cpu-attend.ts";
import { type CpuPlan, PANEL, upTo } from "./cpu-contract.ts";
import type { Dispatch } from "./dispatch.ts";
import { extentsOf, type Flat, flatten } from "./flat.ts";
import { scheduleKernel } from "./gpu.ts";
import { attendPlans, choosePlan, contractCost, contractPlans, type Plan, type ReducePlan } from "./plan.ts";

export interface Candidate<P = Plan | TilePlan> {
  readonly plan: P;
  readonly cost: number;
  readonly order: string;
}

/** The plans of a kernel for a target, plan 0 first; empty where there is nothing to choose. */
export function candidatesOf(kernel: Kernel, buffers: readonly Buffer[], target: Capability): readonly Candidate[] {
  return target.kind === "wasm" ? cpuPlans(kernel, buffers, target) : gpuPlans(kernel, buffers, target);
}

/** Schedules a kernel, with a plan of `candidatesOf` or the schedule's own. */
export function scheduleFor(
  kernel: Kernel,
  buffers: readonly Buffer[],
  target: Capability,
  plan?: Plan | TilePlan,
): { readonly dispatches: readonly Dispatch[]; readonly scratch: readonly Buffer[] } {
  if (target.kind === "wasm") {
    const tiles = plan !== undefined && "kind" in plan ? plan : undefined;
    return { dispatches: [scheduleCpu(kernel, buffers, target, tiles)], scratch: [] };
  }
  return scheduleKernel(kernel, buffers, target, plan !== undefined && "schedule" in plan ? plan : undefined);
}

/** Plan 0 in front, the others by cost, none twice. */
function ranked<P>(chosen: P, all: readonly Candidate<P>[]): readonly Candidate<P>[] {
  const key = JSON.stringify(chosen);
  const seen = new Set([key]);
  const first = all.find(({ plan }) => JSON.stringify(plan) === key);
  if (first === undefined) throw new Error(`internal: the chosen plan is no candidate: ${key}`);
  const rest = all.filter(({ plan }) => {
    const own = JSON.stringify(plan);
    return !seen.has(own) && seen.add(own);
  });
  return [first, ...rest.sort((a, b) => a.cost - b.cost)];
}

// ----------------------------------------------------------------------------------------------------------------- GPU

/** The plans that a kernel could have on a WebGPU device, plan 0 first. */
export function gpuPlans(
  kernel: Kernel,
  buffers: readonly Buffer[],
  capability: WebGPUCapability,
): readonly Candidate<Plan>[] {
  const flat = flatten(kernel, buffers);
  const found = kernelClass(flat.kernel, flat.buffers);
  const chosen = choosePlan(flat, capability);
  const none: Candidate<Plan> = { plan: chosen, cost: 0, order: "" };
  switch (found.kind) {
    case "contract":
      return ranked(
        chosen,
        contractPlans(flat, found.contraction, capability).map((plan) => ({
          plan,
          cost: contractCost(found.contraction, plan, capability),
          order: `split ${plan.splitK}${plan.matrix === undefined ? "" : `, ${JSON.stringify(plan.matrix.config)}`}`,
        })),
      );
    case "attend":
      // In the order of the rules: the larger tile reads less.
      return ranked(
        chosen,
        attendPlans(found.attention, capability).map((plan, cost) => ({
          plan,
          cost,
          order: `${plan.stage} ${plan.tile[1]}`,
        })),
      );
    case "reduce":
      return ranked(chosen, chosen.schedule === "reduce" ? reducePlans(flat, chosen, capability) : [none]);
    case "map": {
      const most = capability.limits.maxComputeInvocationsPerWorkgroup;
      const others = [32, 64, 128, 256].filter((workgroup) => workgroup <= most);
      if (chosen.schedule !== "map") return [none];
      const plans = [chosen.workgroup, ...others].map((workgroup) => ({ ...chosen, workgroup }));
      return ranked<Plan>(
        chosen,
        plans.map((plan, cost) => ({ plan, cost, order: "" })),
      );
    }
    default:
      return found satisfies never;
  }
}

/** More and fewer invocations for one output than the rules take. */
function reducePlans(flat: Flat, chosen: ReducePlan, { limits }: WebGPUCapability): readonly Candidate<ReducePlan>[] {
  const { kernel } = flat;
  const units = product(extentsOf(kernel, outputAxes(kernel))) / chosen.vec;
  const reduced = product(extentsOf(kernel, reductionAxes(kernel)));
  const states = kernel.reduce === undefined ? 1 : REDUCERS[kernel.reduce].init.length;
  const most = Math.min(256, limits.maxComputeInvocationsPerWorkgroup);
  const factors = [1 / 16, 1 / 4, 1 / 2, 1, 2, 4, 16];
  const plans = factors.flatMap((factor): ReducePlan[] => {
    const slices = chosen.slices * factor;
    if (factor === 1) return [chosen];
    if (slices < 1 || slices > most || slices > Math.max(1, reduced / 2)) return [];
    const wanted = slices === 1 ? 64 : Math.max(1, most / slices);
    const room = limits.maxComputeWorkgroupStorageSize / (slices * chosen.vec * states * 4);
    const fits = slices === 1 ? wanted : 2 ** Math.floor(Math.log2(room));
    const outputs = Math.min(wanted, most, 2 ** Math.ceil(Math.log2(units)), fits);
    return outputs < 1 ? [] : [{ ...chosen, slices, outputs }];
  });
  return plans.map((plan) => ({
    plan,
    cost: Math.abs(Math.log2(plan.slices / chosen.slices)),
    order: `slices ${plan.slices}`,
  }));
}

// ----------------------------------------------------------------------------------------------------------------- CPU

/** The plans that a kernel could have on the CPU, plan 0 first; none for maps and reductions. */
export function cpuPlans(
  original: Kernel,
  all: readonly Buffer[],
  capability: WasmCapability,
): readonly Candidate<TilePlan>[] {
  const tiles = tilesOf(original, all, capability);
  if (tiles === undefined) return [];
  const { kernel, buffers, chosen } = tiles;
  if (chosen.kind === "attend") {
    const attention = attentionOf(kernel);
    if (attention === undefined) throw new Error(`internal: ${kernel.name} is no attention`);
    return attendTiles(chosen.plan, attention.sizes.rows);
  }
  const found = kernelClass(kernel, buffers);
  if (found.kind !== "contract") throw new Error(`internal: ${kernel.name} is no contraction`);
  return contractTiles(kernel, found.contraction, chosen.plan, capability.threads);
}

const FACTORS = [1 / 4, 1 / 2, 1, 2, 4] as const;
/** Scratch memory of a tile, in elements: what a core's second cache holds several times over is not worth a trial. */
const MOST_SCRATCH = 2 ** 20;

/** Larger and smaller tiles, and longer and shorter blocks of K. */
function contractTiles(
  kernel: Kernel,
  c: Contraction,
  chosen: CpuPlan,
  threads: number,
): readonly Candidate<TilePlan>[] {
  const panels = Math.ceil(c.sizes.n / PANEL);
  const inner = chosen.blockK / chosen.chunk;
  const extent = c.k.length === 0 ? 1 : (kernel.axes[chosen.chunkAxis]?.size ?? 1);
  const heights = FACTORS.map((f) => upTo(Math.max(1, chosen.tileM * f), chosen.rows)).filter(
    (tileM) => tileM <= upTo(c.sizes.m, chosen.rows),
  );
  const widths = FACTORS.map((f) => Math.ceil(chosen.tileN * f)).filter((tileN) => tileN <= panels);
  const chunks = ([1 / 2, 1, 2] as const).flatMap((f): number[] => {
    if (f === 1) return [chosen.chunk];
    // The copy of the innermost axis is in vectors.
    const chunk = inner === 1 ? upTo(chosen.chunk * f, 4) : Math.ceil(chosen.chunk * f);
    return [Math.min(chunk, extent)];
  });
  const plans = chunks.flatMap((chunk) =>
    heights.flatMap((tileM) =>
      widths.map((tileN): CpuPlan => ({ ...chosen, tileM, tileN, chunk, blockK: chunk * inner })),
    ),
  );
  const fits = plans.filter(
    ({ tileM, tileN, blockK }) => tileM * blockK + tileN * PANEL * (blockK + tileM) <= MOST_SCRATCH,
  );
  const same = JSON.stringify(chosen);
  const some = fits.some((plan) => JSON.stringify(plan) === same) ? fits : [chosen, ...fits];
  return ranked<TilePlan>(
    { kind: "contract", plan: chosen },
    some.map((plan) => ({
      plan: { kind: "contract", plan },
      cost: tileCost(c, plan, threads),
      order: `block ${plan.blockK}`,
    })),
  );
}

/** Bytes that a core's second cache holds of a task without losing them. */
const CACHE = 512 * 1024;

/**
 * Estimated multiply-adds: the padded product, and what copying costs in their terms, times how unevenly the tasks fall to
 * threads.
 */
function tileCost(c: Contraction, plan: CpuPlan, threads: number): number {
  const { m, n, k, batch } = c.sizes;
  const panels = Math.ceil(n / PANEL);
  const rows = Math.ceil(m / plan.tileM);
  const columns = Math.ceil(panels / plan.tileN);
  const blocks = Math.ceil(k / plan.blockK);
  const product = upTo(m, plan.rows) * panels * PANEL * k;
  // A row's copy is in vectors where it can be; columns are gathered.
  const copies = 4 * m * k * columns + (plan.packed ? 0 : 6 * n * k * rows);
  const sums = 2 * m * n * blocks;
  const scratch = 4 * (plan.tileM * plan.blockK + plan.tileN * PANEL * (plan.tileM + (plan.packed ? 0 : plan.blockK)));
  const tasks = batch * rows * columns;
  const uneven = (Math.ceil(tasks / threads) * threads) / tasks;
  return batch * (product + copies + sums) * uneven * (scratch > CACHE ? 1.2 : 1);
}

/** Higher and lower tiles of rows, longer and shorter blocks of keys. */
function attendTiles(chosen: CpuAttendPlan, rows: number): readonly Candidate<TilePlan>[] {
  const heights = FACTORS.map((f) => upTo(Math.max(1, chosen.tileRows * f), 4)).filter(
    (tileRows) => tileRows <= upTo(rows, 4) && tileRows <= 384,
  );
  // Blocks start at whole panels, so only doubled ones are sure to.
  const wider = [1, 2];
  const plans = wider.flatMap((f) =>
    heights.map((tileRows): CpuAttendPlan => ({ tileRows, chunk: chosen.chunk * f, tileKeys: chosen.tileKeys * f })),
  );
  return ranked<TilePlan>(
    { kind: "attend", plan: chosen },
    plans.map((plan) => ({
      plan: { kind: "attend", plan },
      cost: Math.abs(Math.log2(plan.tileRows / chosen.tileRows)) + plan.chunk / chosen.chunk,
      order: `keys ${plan.tileKeys}`,
    })),
  );
}
