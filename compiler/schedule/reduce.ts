/**
 * REDUCE: kernels with a reduction that is no matrix product.
 *
 * A workgroup serves `outputs` neighbouring output points (four each with vec 4), and each of them with `slices`
 * invocations that take every slices-th point of the reduction. With one slice an invocation works alone, in plain nested
 * loops; with more, partial states meet in workgroup memory and merge as a tree. The order is fixed by the plan, so
 * results repeat bit by bit.
 */
import {
  add,
  and,
  builtin,
  compare,
  float,
  groupNumber,
  int,
  load,
  local,
  loop,
  minimum,
  mul,
  store,
  TRUE,
  when,
  widen,
} from "../kernel/build.ts";
import type { Expr, LocalArray, Stmt } from "../kernel/ir.ts";
import { outputAxes, reductionAxes } from "../loop/access.ts";
import { product } from "../loop/layout.ts";
import { REDUCERS } from "../loop/reducers.ts";
import type { Scalar } from "../scalar.ts";
import { type Dispatch, dispatchOf } from "./dispatch.ts";
import {
  bind,
  decode,
  emitScalars,
  emitStores,
  evaluate,
  fresh,
  gridOf,
  type Point,
  part,
  storesVectors,
  type Writer,
  writerFor,
} from "./emit.ts";
import { extentsOf, type Flat } from "./flat.ts";
import type { ReducePlan } from "./plan.ts";

/** Renders a flat kernel with a reduction. @param maxGroups workgroups in one dimension of a grid */
export function reduceProgram(flat: Flat, plan: ReducePlan, maxGroups: number): Dispatch {
  const { kernel } = flat;
  if (kernel.reduce === undefined) throw new Error(`internal: ${kernel.name} reduces nothing`);
  const reducer = REDUCERS[kernel.reduce];
  const w = writerFor(
    flat,
    kernel.stores.map((s) => s.buffer),
  );
  const kept = outputAxes(kernel);
  const reduced = reductionAxes(kernel);
  const units = product(extentsOf(kernel, kept)) / plan.vec;
  const workgroups = gridOf(Math.ceil(units / plan.outputs), maxGroups);
  const exact = workgroups[0] * workgroups[1] * plan.outputs === units;
  const out: Stmt[] = [];

  // Which output: a unit beyond the last works on the last one and stores nothing, so that all reach the barriers.
  const group = groupNumber(workgroups);
  const unit = bind(w, "unit", add(mul(group, int(plan.outputs)), builtin("local.x")), out);
  const inside = exact ? TRUE : compare("lt", unit, int(units));
  const safe = exact ? unit : bind(w, "safe", minimum(unit, int(units - 1)), out);
  const coords: (Expr | undefined)[] = [];
  const lanes = plan.vec === 4 ? kept.at(-1) : undefined;
  if (plan.vec === 4 && !storesVectors(flat, lanes)) throw new Error(`internal: ${kernel.name} stores no vectors`);
  decode(w, mul(safe, int(plan.vec)), kept, coords, out);
  const point: Point = lanes === undefined ? { coords, valid: TRUE } : { coords, valid: TRUE, lanes };

  const begin = (hint: string, block: Stmt[]): readonly Expr[] =>
    reducer.init.map((init, i) => {
      const name = fresh(w, `${hint}${i}`);
      block.push({ kind: "var", name, value: lanes === undefined ? float(init) : widen(float(init)) });
      return local(lanes === undefined ? "f32" : "vec4", name);
    });
  const join = (into: readonly Expr[], by: readonly Scalar[], operands: readonly Expr[], block: Stmt[]): void => {
    const load = (i: number): Expr => part(operands, i);
    const next = emitScalars(w, by, { load, state: (i) => part(into, i), axis: noAxis, random: noAxis }, block);
    block.push(...assignAll(w, into, next));
  };
  const states = begin("state", out);
  const state = (index: number): Expr => part(states, index);
  const step = (at: Point, into: readonly Expr[]): readonly Stmt[] => {
    const inner: Stmt[] = [];
    join(into, reducer.step, evaluate(w, kernel.body, at, inner), inner);
    return inner;
  };

  const none = plan.rolled === true ? bind(w, "none", minimum(group, int(0)), out) : int(0);
  const total = product(extentsOf(kernel, reduced));
  if (plan.slices === 1) {
    const inParts = kernel.reduce.startsWith("sum") && total > 2 * PART;
    const summed = (block: (into: readonly Expr[]) => readonly Stmt[]): readonly Stmt[] => {
      const inner: Stmt[] = [];
      const parts = begin("part", inner);
      inner.push(...block(parts));
      join(states, reducer.merge, parts, inner);
      return inner;
    };
    out.push(...nested(w, reduced, none, point, (at) => step(at, states), inParts ? { step, summed } : undefined));
  } else {
    const name = fresh(w, "r");
    const body: Stmt[] = [];
    const inner = [...coords];
    decode(w, local("i32", name), reduced, inner, body);
    body.push(...step({ ...point, coords: inner }, states));
    out.push({ kind: "for", name, from: builtin("local.y"), to: int(total), step: plan.slices, body });
  }
  const locals = plan.slices === 1 ? [] : mergeTree(w, plan, states, reducer.merge, out);

  const stores: Stmt[] = [];
  emitStores(w, point, stores, state);
  const first = plan.slices === 1 ? TRUE : compare("eq", builtin("local.y"), int(0));
  out.push(...when(and(first, inside), stores));
  const words = `reduce, ${plan.outputs} outputs of ${plan.vec} by ${plan.slices} slices a workgroup`;
  return dispatchOf(w, { plan: words, body: out, locals, workgroupSize: [plan.outputs, plan.slices, 1], workgroups });
}

/** Terms of a long sum that are added up by themselves: an error that grows with the number of terms grows with its root. */
const PART = 256;

/** How a long sum is taken in parts: a step that adds to other states, and what joins those to the sum. */
interface InParts {
  readonly step: (at: Point, into: readonly Expr[]) => readonly Stmt[];
  readonly summed: (block: (into: readonly Expr[]) => readonly Stmt[]) => readonly Stmt[];
}

/** A loop for every axis, around a step; `none` is zero. The innermost one runs in parts, if at all. */
function nested(
  w: Writer,
  axes: readonly number[],
  none: Expr,
  point: Point,
  step: (at: Point) => readonly Stmt[],
  parts?: InParts,
): readonly Stmt[] {
  const [axis, ...rest] = axes;
  const described = axis === undefined ? undefined : w.flat.kernel.axes[axis];
  if (axis === undefined || described === undefined) return step(point);
  const { name, size } = described;
  const at = (index: Expr): Point => {
    const coords = [...point.coords];
    coords[axis] = index;
    return { ...point, coords };
  };
  if (rest.length > 0 || parts === undefined)
    return loop(fresh(w, name), size, 1, (index) => nested(w, rest, none, at(index), step, parts), none);
  return loop(
    fresh(w, "first"),
    size,
    PART,
    (first) =>
      parts.summed((into) => {
        const index = fresh(w, name);
        const to = size <= PART ? add(int(size), none) : minimum(add(first, int(PART)), int(size));
        return [
          { kind: "for", name: index, from: first, to, step: 1, body: parts.step(at(local("i32", index)), into) },
        ];
      }),
    none,
  );
}

/** All slices' states of an output merge into that of slice 0. */
function mergeTree(
  w: Writer,
  plan: ReducePlan,
  states: readonly Expr[],
  merge: Parameters<typeof emitScalars>[1],
  out: Stmt[],
): readonly LocalArray[] {
  const arrays = states.map(
    (_, i): LocalArray => ({
      name: fresh(w, `partial${i}`),
      size: plan.outputs * plan.slices * plan.vec,
      vec4: plan.vec === 4,
    }),
  );
  const type = plan.vec === 4 ? "vec4" : "f32";
  const slot = (slice: Expr): Expr => mul(add(mul(slice, int(plan.outputs)), builtin("local.x")), int(plan.vec));
  const mine = slot(builtin("local.y"));
  for (let stride = plan.slices / 2; stride >= 1; stride /= 2) {
    // Whoever merges next has its own state in registers; only the upper half has to hand its states over.
    const upper = and(
      compare("le", int(stride), builtin("local.y")),
      compare("lt", builtin("local.y"), int(2 * stride)),
    );
    out.push(
      ...when(
        upper,
        arrays.map((a, i) => store(a.name, mine, part(states, i))),
      ),
      { kind: "barrier" },
    );
    const merged: Stmt[] = [];
    const theirs = arrays.map((a) =>
      bind(w, "other", load(type, a.name, slot(add(builtin("local.y"), int(stride)))), merged),
    );
    const next = emitScalars(
      w,
      merge,
      { load: (i) => part(theirs, i), state: (i) => part(states, i), axis: noAxis, random: noAxis },
      merged,
    );
    merged.push(...assignAll(w, states, next));
    out.push(...when(compare("lt", builtin("local.y"), int(stride)), merged));
  }
  return arrays;
}

/** Assigns all at once: no new value sees another. */
function assignAll(w: Writer, targets: readonly Expr[], values: readonly Expr[]): readonly Stmt[] {
  const out: Stmt[] = [];
  const ready = values.length === 1 ? values : values.map((value) => bind(w, "next", value, out));
  for (const [i, target] of targets.entries()) {
    const value = part(ready, i);
    if (target.kind === "var")
      out.push({ kind: "assign", name: target.name, value: target.type === "vec4" ? widen(value) : value });
  }
  return out;
}

function noAxis(): Expr {
  throw new Error("internal: a reducer mentions an axis or draws random numbers");
}
