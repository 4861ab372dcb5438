/**
 * MAP on the CPU: a kernel without reduction.
 *
 * In: a flattened kernel (one offset an access). Out: loops in which outer axes are shared among threads and the axis
 * that the stores walk through runs in vectors of four.
 */
import type { Expr, Stmt } from "../kernel/ir.ts";
import type { Kernel } from "../loop/loops.ts";
import { emitScalars, isContiguous, named, overSplit, type Scope, siteOf, splitAxes, vectorLoop } from "./cpu-nest.ts";

/** The axis, of `axes`, that can run in vectors: every store moves along it by one element. */
export function storeVectorAxis(kernel: Kernel, scope: Scope, axes: readonly number[]): number | undefined {
  return axes.find(
    (axis) =>
      (scope.sizes[axis] ?? 1) >= 4 &&
      kernel.stores.every((_, index) => {
        const access = scope.accesses.get(`store ${index}`);
        return access !== undefined && isContiguous(access, axis);
      }),
  );
}

/** Computes and stores the kernel's results at a place where every output axis is bound. */
export function emitStores(kernel: Kernel, scope: Scope, state: (index: number) => Expr): readonly Stmt[] {
  const out: Stmt[] = [];
  const site = siteOf(scope, out);
  const leaves = {
    load: (index: number): Expr => site.read(`load ${index}`),
    state,
    axis: site.axis,
    random: site.random,
  };
  const results = kernel.stores.map((store) => store.value);
  const values = emitScalars(results, leaves, scope.fresh, out);
  // Everything is computed before anything is replaced: a kernel may write what it reads at the same point.
  const ready = values.length > 1 ? values.map((value) => named(scope, "next", value, out)) : values;
  ready.forEach((value, index) => site.write(`store ${index}`, value));
  return out;
}

export function scheduleMap(kernel: Kernel, scope: Scope): readonly Stmt[] {
  const axes = kernel.axes.map((_, axis) => axis);
  const vector = storeVectorAxis(kernel, scope, axes);
  const compute = (inner: Scope): readonly Stmt[] =>
    emitStores(kernel, inner, () => {
      throw new Error(`internal: ${kernel.name} has no reduction state`);
    });
  return overSplit(scope, splitAxes(scope.sizes, axes, vector), (inner, range) =>
    vector === undefined ? compute(inner) : vectorLoop(inner, vector, range, compute),
  );
}
