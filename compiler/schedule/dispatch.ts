/**
 * The product of a GPU schedule: a kernel program together with the buffers behind its arguments.
 */
import type { KernelProgram, LocalArray, Stmt } from "../kernel/ir.ts";
import { prune } from "../kernel/prune.ts";
import { identifier } from "../kernel/wgsl.ts";
import { argumentsOf, boundBy, type Writer } from "./emit.ts";

export interface Dispatch {
  readonly program: KernelProgram;
  /** The buffer (in `Loops.buffers`, or a scratch buffer of the schedule) behind each argument. */
  readonly buffers: readonly number[];
}

/** What a schedule has decided and written. */
interface Written {
  /** The plan in a few words. */
  readonly plan: string;
  readonly body: readonly Stmt[];
  readonly locals: readonly LocalArray[];
  readonly workgroupSize: readonly [number, number, number];
  readonly subgroupSize?: number;
  readonly workgroups: readonly [number, number, number];
}

/** The finished dispatch of a writer. */
export function dispatchOf(w: Writer, { plan, body, ...rest }: Written): Dispatch {
  const { kernel } = w.flat;
  const axes = kernel.axes.map((a) => `${a.name} ${a.size}`).join(", ");
  const layers = kernel.layers.filter((layer) => layer !== kernel.name);
  const header = [
    kernel.name,
    ...(layers.length === 0 ? [] : [`layers: ${layers.join(", ")}`]),
    `axes: ${axes === "" ? "none" : axes}`,
    `plan: ${plan}`,
  ];
  return {
    program: { name: identifier(kernel.name), header, args: argumentsOf(w), ...rest, body: prune(body) },
    buffers: boundBy(w),
  };
}
