/**
 * Which products the hardware that multiplies small matrices (tensor cores) may take, and what it costs in memory.
 *
 * Of halves it takes only factors that are halves already: what rounds is said in the loops (`half`, or a buffer of
 * halves), never here. Of f32 it takes f32, where it has such a shape.
 */
import type { MatrixConfig, WebGPUCapability } from "../capability.ts";
import type { Contraction, Factor } from "../loop/contraction.ts";
import type { Flat } from "./flat.ts";

/** How a plan uses the hardware. */
export interface MatrixUse {
  readonly config: MatrixConfig;
  /** Invocations of a subgroup, and whether the kernel has to ask for them. */
  readonly subgroup: number;
  readonly sized: boolean;
}

/** Bytes between lines in workgroup memory beyond the lines' own, so that lines begin at different banks. */
export const PAD_BYTES = 16;

/** Whether a factor is made of halves. */
function isHalf(flat: Flat, { value, plain }: Factor): boolean {
  if (value.kind === "unary" && value.fn === "half") return true;
  const load = plain === undefined ? undefined : flat.kernel.loads[plain];
  return load !== undefined && flat.buffers[load.buffer]?.dtype === "f16" && load.otherwise === 0;
}

/** The shapes of matrices that a product may be computed with on a device: the same numbers, added up in another order. */
export function matrixUses(flat: Flat, c: Contraction, device: WebGPUCapability): readonly MatrixUse[] {
  const { subgroups, matrix, f16 } = device;
  if (subgroups === undefined || !(subgroups.min === subgroups.max || subgroups.sized === true)) return [];
  const sized = subgroups.min !== subgroups.max;
  const subgroup = Math.min(subgroups.max, Math.max(subgroups.min, 32));
  const input = f16 && isHalf(flat, c.left) && isHalf(flat, c.right) ? "f16" : "f32";
  return matrix
    .filter((config) => config.input === input && config.result === "f32")
    .map((config) => ({ config, subgroup, sized }));
}

/** What a workgroup and a subgroup compute, as in plans. */
interface MatrixShape {
  readonly tile: readonly [number, number, number];
  readonly thread: readonly [number, number];
}

/** Bytes of workgroup memory that a plan needs. */
export function matrixBytes({ tile: [bm, bn, bk], thread: [tm, tn] }: MatrixShape, { config }: MatrixUse): number {
  const element = config.input === "f16" ? 2 : 4;
  // Either way a side may lie.
  const staged = (side: number): number =>
    Math.max(side * (bk * element + PAD_BYTES), bk * (side * element + PAD_BYTES));
  return staged(bm) + staged(bn) + (bm / tm) * (bn / tn) * config.m * tn * 4;
}
