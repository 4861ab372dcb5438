/**
 * REDUCE on the CPU: sums, extremes, softmax pieces, and products that are no contraction.
 *
 * In: a flattened kernel with a reduction. Out: output points shared among threads; at each, loops over the reduced
 * axes. Vectors run along an output axis where stores and loads allow it (pooling over [N,H,W,C]: four channels at a
 * time, each lane with a state of its own), else along a reduced axis (softmax rows: four partial states, merged at the
 * end), else not at all.
 */
import { float, int, lane, local, widen } from "../kernel/build.ts";
import type { Expr, Stmt } from "../kernel/ir.ts";
import { loadsOf, reductionAxes } from "../loop/access.ts";
import type { Kernel } from "../loop/loops.ts";
import { REDUCERS, type Reducer } from "../loop/reducers.ts";
import { emitStores, storeVectorAxis } from "./cpu-map.ts";
import {
  emitScalars,
  isContiguous,
  loopsOver,
  noDraw,
  overSplit,
  type Scope,
  siteOf,
  splitAxes,
  vectorLoop,
} from "./cpu-nest.ts";

/** A reduction in progress: local variables, one a component. */
interface State {
  readonly reducer: Reducer;
  readonly type: "f32" | "vec4";
  readonly names: readonly string[];
}

function declareState(reducer: Reducer, type: "f32" | "vec4", fresh: Scope["fresh"], out: Stmt[]): State {
  const names = reducer.init.map((init) => {
    const name = fresh("acc");
    out.push({ kind: "var", name, value: type === "vec4" ? widen(float(init)) : float(init) });
    return name;
  });
  return { reducer, type, names };
}

const component = (state: State, index: number): Expr => local(state.type, state.names[index] ?? "");

/** `state = rule(state, operands)`, all components at once. */
function advance(
  state: State,
  rule: Reducer["step"],
  operand: (index: number) => Expr,
  fresh: Scope["fresh"],
  out: Stmt[],
): void {
  const leaves = {
    load: operand,
    state: (index: number): Expr => component(state, index),
    axis: () => float(0),
    random: noDraw,
  };
  const next = emitScalars(rule, leaves, fresh, out);
  state.names.forEach((name, index) => {
    const value = next[index] ?? float(0);
    out.push({ kind: "assign", name, value: state.type === "vec4" ? widen(value) : value });
  });
}

/** Feeds the kernel's body at a place where every axis is bound into the state. */
function accumulate(kernel: Kernel, scope: Scope, state: State): readonly Stmt[] {
  const out: Stmt[] = [];
  const site = siteOf(scope, out);
  const leaves = {
    load: (index: number): Expr => site.read(`load ${index}`),
    state: (): Expr => {
      throw new Error(`internal: the body of ${kernel.name} uses its own result`);
    },
    axis: site.axis,
    random: site.random,
  };
  const operands = emitScalars(kernel.body, leaves, scope.fresh, out);
  advance(state, state.reducer.step, (index) => operands[index] ?? float(0), scope.fresh, out);
  return out;
}

export function scheduleReduce(kernel: Kernel, scope: Scope): readonly Stmt[] {
  if (kernel.reduce === undefined) throw new Error(`internal: ${kernel.name} reduces nothing`);
  const reducer = REDUCERS[kernel.reduce];
  const reduced = reductionAxes(kernel);
  const outputs = kernel.axes.map((_, axis) => axis).filter((axis) => !reduced.includes(axis));
  const bodyKeys = new Set(loadsOf(...kernel.body).map((index) => `load ${index}`));
  /** Results must not carry half-bound addresses of the body, nor the other way round. */
  const bodyOnly = (at: Scope): Scope => ({
    ...at,
    accesses: new Map([...at.accesses].filter(([key]) => bodyKeys.has(key.split("#")[0] ?? ""))),
  });
  const walks = (axis: number): boolean =>
    [...bodyKeys].some((key) => {
      const access = scope.accesses.get(key);
      return access !== undefined && isContiguous(access, axis);
    });
  const outputVector = storeVectorAxis(kernel, scope, outputs);
  const laneAxis = reduced.find((axis) => (scope.sizes[axis] ?? 1) >= 8 && walks(axis));
  const useOutput = outputVector !== undefined && (laneAxis === undefined || walks(outputVector));

  /** All loops over the reduced axes and the stores, at one output point or four neighbouring ones. */
  const reduceHere = (at: Scope): readonly Stmt[] => {
    const out: Stmt[] = [];
    const state = declareState(reducer, at.vector === undefined ? "f32" : "vec4", at.fresh, out);
    if (useOutput || laneAxis === undefined) {
      out.push(...loopsOver(bodyOnly(at), reduced, (inner) => accumulate(kernel, inner, state)));
    } else {
      const wide = declareState(reducer, "vec4", at.fresh, out);
      const others = reduced.filter((axis) => axis !== laneAxis);
      const range = { from: int(0), to: int(scope.sizes[laneAxis] ?? 1) };
      out.push(
        ...loopsOver(bodyOnly(at), others, (inner) =>
          vectorLoop(inner, laneAxis, range, (point) =>
            accumulate(kernel, point, point.vector === undefined ? state : wide),
          ),
        ),
      );
      for (const index of [0, 1, 2, 3] as const) {
        advance(state, reducer.merge, (i) => lane(component(wide, i), index), at.fresh, out);
      }
    }
    out.push(...emitStores(kernel, at, (index) => component(state, index)));
    return out;
  };

  const split = splitAxes(scope.sizes, outputs, useOutput ? outputVector : undefined);
  return overSplit(scope, split, (there, range) =>
    split.vector === undefined ? reduceHere(there) : vectorLoop(there, split.vector, range, reduceHere),
  );
}
