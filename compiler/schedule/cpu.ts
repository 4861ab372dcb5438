/**
 * CPU schedules: from a loop nest to what one thread of several runs.
 *
 * In: an L2 kernel, the buffers it names, a WASM capability record. Out: an L3 program for `renderWasm` with the buffers
 * behind its arguments. The class of the kernel picks the schedule: MAP
 * (cpu-map.ts), REDUCE (cpu-reduce.ts), CONTRACT (cpu-contract.ts) or ATTEND (cpu-attend.ts); nests and vectors are cpu-nest.ts.
 */
import type { WasmCapability } from "../capability.ts";
import type { Argument, LocalArray, Stmt } from "../kernel/ir.ts";
import { boundBuffers, bufferAt } from "../loop/access.ts";
import { constant } from "../loop/affine.ts";
import { attentionOf } from "../loop/attention.ts";
import { kernelClass } from "../loop/contraction.ts";
import { elementCount } from "../loop/layout.ts";
import type { Buffer, Kernel } from "../loop/loops.ts";
import { type AttendPlan, planAttention, scheduleAttention } from "./cpu-attend.ts";
import { type CpuPlan, panelBatchOffset, planContraction, scheduleContraction } from "./cpu-contract.ts";
import { scheduleMap } from "./cpu-map.ts";
import { type Access, accessOf, freshNames, type Scope } from "./cpu-nest.ts";
import { scheduleReduce } from "./cpu-reduce.ts";
import type { Dispatch } from "./dispatch.ts";
import { flatten } from "./flat.ts";

/** A plan of a kernel that is computed in tiles; maps and reductions have none to choose. */
export type TilePlan =
  | { readonly kind: "contract"; readonly plan: CpuPlan }
  | { readonly kind: "attend"; readonly plan: AttendPlan };

/** The plan that `scheduleCpu` takes by itself, with what it is for; undefined for maps and reductions. */
export function tilesOf(
  original: Kernel,
  all: readonly Buffer[],
  { threads }: WasmCapability,
): { readonly kernel: Kernel; readonly buffers: readonly Buffer[]; readonly chosen: TilePlan } | undefined {
  const { kernel, buffers } = flatten(original, all);
  const attention = attentionOf(kernel);
  if (attention !== undefined)
    return { kernel, buffers, chosen: { kind: "attend", plan: planAttention(kernel, attention, threads) } };
  const contraction = contractionPlan(kernel, outermost(kernel), buffers, threads, undefined);
  return contraction === undefined
    ? undefined
    : { kernel, buffers, chosen: { kind: "contract", plan: contraction.plan } };
}

const argumentName = (bound: readonly number[], buffer: number): string => `arg${bound.indexOf(buffer)}`;

/** The outermost scope of a flattened kernel: every access, nothing bound. */
function outermost(kernel: Kernel): Scope {
  const sizes = kernel.axes.map((axis) => axis.size);
  const bound = boundBuffers(kernel);
  const accesses = new Map<string, Access>();
  kernel.loads.forEach((l, i) => {
    const name = argumentName(bound, l.buffer);
    accesses.set(`load ${i}`, accessOf(name, l.index[0] ?? constant(0), sizes, l.guards, l.otherwise));
  });
  kernel.stores.forEach((s, i) => {
    const name = argumentName(bound, s.buffer);
    accesses.set(`store ${i}`, accessOf(name, s.index[0] ?? constant(0), sizes, s.guards));
  });
  return { fresh: freshNames(), sizes, bound: new Map(), vector: undefined, accesses };
}

/** Whether a buffer's elements are halves. */
const isHalf = (buffers: readonly Buffer[], id: number): boolean => bufferAt(buffers, id).dtype === "f16";

/** The plan of a contraction, `given` or the closed rules', and whether its right factor lies in panels already. */
function contractionPlan(
  kernel: Kernel,
  scope: Scope,
  buffers: readonly Buffer[],
  threads: number,
  given: CpuPlan | undefined,
): { readonly plan: CpuPlan; readonly schedule: () => ReturnType<typeof scheduleContraction> } | undefined {
  const kind = kernelClass(kernel, buffers);
  if (kind.kind !== "contract") return undefined;
  const c = kind.contraction;
  const right = c.right.plain === undefined ? undefined : kernel.loads[c.right.plain];
  const batchOffset =
    right === undefined || right.guards.length > 0 || right.index[0] === undefined
      ? undefined
      : panelBatchOffset(right.index[0], c, scope.sizes);
  const panels =
    // The microkernel reads panels in place and takes no halves; elsewhere they are widened when they are copied.
    right === undefined || batchOffset === undefined || isHalf(buffers, right.buffer)
      ? undefined
      : { name: argumentName(boundBuffers(kernel), right.buffer), batchOffset };
  const plan = given ?? planContraction(kernel, c, panels !== undefined, threads);
  return { plan, schedule: () => scheduleContraction(kernel, scope, c, plan, panels) };
}

/**
 * Schedules a kernel for the CPU. Arguments are named by position, so that equal kernels of different layers are equal
 * programs.
 * @param capability its thread count sets how work is cut; the program is right for any number of threads
 * @param given instead of the plan that the closed rules would take: one of `cpuPlans` for this kernel
 */
export function scheduleCpu(
  original: Kernel,
  all: readonly Buffer[],
  capability: WasmCapability,
  given?: TilePlan,
): Dispatch {
  const { kernel, buffers } = flatten(original, all);
  const scope = outermost(kernel);
  const tiles = given?.kind === "contract" ? given.plan : undefined;
  const contraction = contractionPlan(kernel, scope, buffers, capability.threads, tiles);
  const axes = kernel.axes.map((axis) => `${axis.name} ${axis.size}`).join(", ");
  const header = [kernel.name, `axes: ${axes === "" ? "none" : axes}`];
  let body: readonly Stmt[];
  let locals: readonly LocalArray[] = [];
  const attention = attentionOf(kernel);
  if (attention !== undefined) {
    const plan = given?.kind === "attend" ? given.plan : planAttention(kernel, attention, capability.threads);
    ({ body, locals } = scheduleAttention(kernel, scope, attention, plan));
    header.push(`plan: ${JSON.stringify(plan)}`);
  } else if (contraction !== undefined) {
    ({ body, locals } = contraction.schedule());
    header.push(`plan: ${JSON.stringify(contraction.plan)}`);
  } else body = kernel.reduce === undefined ? scheduleMap(kernel, scope) : scheduleReduce(kernel, scope);
  const written = new Set(kernel.stores.map((store) => store.buffer));
  const bound = boundBuffers(kernel);
  const args = bound.map(
    (id): Argument => ({
      name: argumentName(bound, id),
      access: written.has(id) ? "read_write" : "read",
      size: elementCount(bufferAt(buffers, id)),
      vec4: false,
      ...(isHalf(buffers, id) ? { half: true } : {}),
    }),
  );
  const name = kernel.name.replaceAll(/\W+/g, "_");
  return {
    program: { name, header, args, locals, body, workgroupSize: [1, 1, 1], workgroups: [1, 1, 1] },
    buffers: bound,
  };
}
