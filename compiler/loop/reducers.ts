/**
 * Reducers: what a reduction keeps while it runs over its axes, one table for every back end.
 *
 * A state is a tuple of scalars. `step` takes a state and the operands of one point to the next state; `merge` joins two
 * states, which is how threads, SIMD lanes and split reductions are put together. Both are written as scalars in which
 * `{ kind: "state", index }` is the (left) state and `{ kind: "load", index }` the operands, or the right state.
 */

import type { Scalar } from "../scalar.ts";
import { binary, LOWEST, num, select, unary } from "../scalar.ts";
import type { ReducerName } from "./loops.ts";

export interface Reducer {
  readonly doc: string;
  /** How many scalars a kernel's body feeds at each point. */
  readonly operands: number;
  /** Initial state; its length is the state's size. */
  readonly init: readonly number[];
  /** Next state, from `state(i)` and the operands `load(i)`. */
  readonly step: readonly Scalar[];
  /** One state from two: the left is `state(i)`, the right is `load(i)`. */
  readonly merge: readonly Scalar[];
}

const state = (index: number): Scalar => ({ kind: "state", index });
const operand = (index: number): Scalar => ({ kind: "load", index });

/** Sums and extremes merge as they step. */
function simple(doc: string, init: number, fn: "add" | "max" | "min"): Reducer {
  const next = [binary(fn, state(0), operand(0))];
  return { doc, operands: 1, init: [init], step: next, merge: next };
}

/** Several sums at once. */
function sums(count: number): Reducer {
  const all = Array.from({ length: count }, (_, i) => i);
  const next = all.map((i) => binary("add", state(i), operand(i)));
  return {
    doc: `${count} sums of values of their own`,
    operands: count,
    init: all.map(() => 0),
    step: next,
    merge: next,
  };
}

/**
 * The pair (m, s) for softmax: s·e^m = Σ e^x (Milakov and Gimelshein 2018, algorithm 3). Two states merge the same way as
 * a state and a point, a point x being the state (x, 1). The side with the greater maximum keeps its sum as it is, so
 * one exponential does.
 */
function joinSoftmax(m: Scalar, s: Scalar): readonly Scalar[] {
  const max = binary("max", state(0), m);
  const shrink = unary("exp", binary("sub", binary("min", state(0), m), max));
  const right = binary("add", binary("mul", state(1), shrink), s);
  const left = binary("add", state(1), binary("mul", s, shrink));
  return [max, select("lt", state(0), m, right, left)];
}

/**
 * (m, s, o): the pair of softmax, and o·e^m = Σ e^x·v, the sum that softmax's weights make of values v (Dao et al. 2022,
 * section 3.1). A pair (x, v) is the state (x, 1, v).
 */
function joinAttend(m: Scalar, s: Scalar, o: Scalar): readonly Scalar[] {
  const [max, sum] = joinSoftmax(m, s);
  if (max === undefined || sum === undefined) throw new Error("internal: softmax has two states");
  const shrink = unary("exp", binary("sub", binary("min", state(0), m), max));
  const right = binary("add", binary("mul", state(2), shrink), o);
  const left = binary("add", state(2), binary("mul", o, shrink));
  return [max, sum, select("lt", state(0), m, right, left)];
}

/** The greater value wins, then the smaller index, as in PyTorch. */
function joinArgmax(value: Scalar, index: Scalar): readonly Scalar[] {
  const earlier = select("lt", index, state(1), index, state(1));
  const tie = select("eq", value, state(0), earlier, state(1));
  return [binary("max", state(0), value), select("lt", state(0), value, index, tie)];
}

export const REDUCERS: { readonly [K in ReducerName]: Reducer } = {
  sum: simple("Σ x", 0, "add"),
  sum2: sums(2),
  sum3: sums(3),
  sum4: sums(4),
  max: simple("greatest x", LOWEST, "max"),
  min: simple("least x", -LOWEST, "min"),
  softmax: {
    doc: "(m, s): the greatest x and Σ e^(x-m)",
    operands: 1,
    init: [LOWEST, 0],
    step: joinSoftmax(operand(0), num(1)),
    merge: joinSoftmax(operand(0), operand(1)),
  },
  attend: {
    doc: "(m, s, o): the greatest x, Σ e^(x-m) and Σ e^(x-m)·v; operands x and v",
    operands: 2,
    init: [LOWEST, 0, 0],
    step: joinAttend(operand(0), num(1), operand(1)),
    merge: joinAttend(operand(0), operand(1), operand(2)),
  },
  argmax: {
    doc: "(value, index) of the greatest x; operands x and its index",
    operands: 2,
    init: [LOWEST, 0],
    step: joinArgmax(operand(0), operand(1)),
    merge: joinArgmax(operand(0), operand(1)),
  },
};
