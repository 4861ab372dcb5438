/**
 * MAP: kernels without a reduction.
 *
 * One invocation computes one point of the output axes, or four neighbours along the last of them. Invocations are
 * numbered in the order of the output's memory, so that neighbours in a workgroup touch neighbouring addresses.
 */
import { add, builtin, compare, groupNumber, int, mul, TRUE, when } from "../kernel/build.ts";
import type { Expr, Stmt } from "../kernel/ir.ts";
import { axisSizes } from "../loop/access.ts";
import { product } from "../loop/layout.ts";
import { type Dispatch, dispatchOf } from "./dispatch.ts";
import { bind, decode, emitStores, gridOf, type Point, storesVectors, writerFor } from "./emit.ts";
import type { Flat } from "./flat.ts";
import type { MapPlan } from "./plan.ts";

/** Renders a flat kernel without a reduction. @param maxGroups workgroups in one dimension of a grid */
export function mapProgram(flat: Flat, plan: MapPlan, maxGroups: number): Dispatch {
  const { kernel } = flat;
  const w = writerFor(
    flat,
    kernel.stores.map((s) => s.buffer),
  );
  const sizes = axisSizes(kernel);
  const axes = sizes.map((_, axis) => axis);
  const units = product(sizes) / plan.vec;
  const workgroups = gridOf(Math.ceil(units / plan.workgroup), maxGroups);

  const out: Stmt[] = [];
  const group = groupNumber(workgroups);
  const unit = bind(w, "unit", add(mul(group, int(plan.workgroup)), builtin("local.x")), out);
  const inside: Stmt[] = [];
  const coords: (Expr | undefined)[] = [];
  const lanes = plan.vec === 4 ? axes.at(-1) : undefined;
  if (plan.vec === 4 && !storesVectors(flat, lanes)) throw new Error(`internal: ${kernel.name} stores no vectors`);
  decode(w, mul(unit, int(plan.vec)), axes, coords, inside);
  const point: Point = lanes === undefined ? { coords, valid: TRUE } : { coords, valid: TRUE, lanes };
  emitStores(w, point, inside);

  const exact = workgroups[0] * workgroups[1] * plan.workgroup === units;
  out.push(...when(exact ? TRUE : compare("lt", unit, int(units)), inside));
  return dispatchOf(w, {
    plan: `map, ${plan.vec} elements an invocation`,
    body: out,
    locals: [],
    workgroupSize: [plan.workgroup, 1, 1],
    workgroups,
  });
}
