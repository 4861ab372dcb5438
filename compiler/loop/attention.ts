/**
 * Attention: recognising, in a loop nest with inner sums, what is computed in tiles of rows by keys.
 *
 *   out_t[batch, row, feature_t] = epilogue(Σ_key weight_t(row, key) · factor_t(key, feature_t))
 *
 * where weights are functions of inner sums, Σ_depth left(row, depth) · right(key, depth), and of what belongs to the row or
 * the key alone. The names are those of the forward pass; in the pass over columns (the gradients by keys and values) the
 * rows are the keys' places, and the sum runs over the queries. Axes fall into classes by where they occur, as in a
 * contraction: a tile's scores are one (batch, rows × keys, depth), what is added to a tile's results another (batch,
 * rows × features, keys), and schedules treat them as such.
 */
import type { Scalar } from "../scalar.ts";
import { axisSizes, innerAxes, loadAt, loadAxes, outputAxes, reductionAxes, scalarAxes } from "./access.ts";
import type { Contraction, Factor } from "./contraction.ts";
import { product } from "./layout.ts";
import type { InnerSum, Kernel } from "./loops.ts";

/** What is summed over the keys: weight times factor. */
export interface Gathered {
  /** In terms of the inner sums (`state`) and of loads at rows and keys. */
  readonly weight: Scalar;
  /** Number of the load at keys and features. */
  readonly factor: number;
}

export interface Attention {
  readonly batch: readonly number[];
  readonly rows: readonly number[];
  readonly keys: readonly number[];
  readonly features: readonly number[];
  /** Flattened extents; `features` may be 1. */
  readonly sizes: { readonly batch: number; readonly rows: number; readonly keys: number; readonly features: number };
  /** The inner sums as contractions: left is the rows' factor, right that of the keys, K the depth. */
  readonly scores: readonly Contraction[];
  /**
   * Under `attend` and `softmax` the weight is the score that is exponentiated, and its greatest value and sum are kept
   * beside what is gathered; `softmax` gathers nothing.
   */
  readonly online: Scalar | undefined;
  readonly gathered: readonly Gathered[];
}

/** The attention that a kernel is; undefined for one without inner sums. */
export function attentionOf(kernel: Kernel): Attention | undefined {
  const { inner, reduce, body } = kernel;
  if (inner === undefined) return undefined;
  const outputs = outputAxes(kernel);
  const keys = reductionAxes(kernel);
  const touched = (axes: readonly number[]): ReadonlySet<number> => new Set(axes);
  const loads = inner.map((sum) => factorsOf(sum).map((load) => touched(loadAxes(loadAt(kernel, load)))));
  const inScores = (axis: number): boolean => loads.flat().some((axes) => axes.has(axis));
  const everywhere = (axis: number): boolean => loads.flat().every((axes) => axes.has(axis));
  // With one key, or one row, nothing tells a batch axis from a row: it is then one as well as the other.
  const batch = outputs.filter(everywhere);
  const rows = outputs.filter((axis) => inScores(axis) && !batch.includes(axis));
  const features = outputs.filter((axis) => !inScores(axis));
  const extents = axisSizes(kernel);
  const size = (axes: readonly number[]): number => product(axes.map((axis) => extents[axis] ?? 1));
  const sizes = { batch: size(batch), rows: size(rows), keys: size(keys), features: size(features) };
  const online = reduce === "attend" || reduce === "softmax" ? body[0] : undefined;
  return {
    batch,
    rows,
    keys,
    features,
    sizes,
    scores: inner.map((sum) => scoreOf(kernel, sum, { batch, rows, keys, sizes })),
    online,
    gathered: reduce === "attend" ? body.slice(1).map(alone) : reduce === "softmax" ? [] : body.map(weighed),
  };
}

function factorsOf({ value }: InnerSum): readonly number[] {
  if (value.kind !== "binary" || value.fn !== "mul") return [];
  return [value.left, value.right].flatMap((side) => (side.kind === "load" ? [side.index] : []));
}

function scoreOf(
  kernel: Kernel,
  sum: InnerSum,
  { batch, rows, keys, sizes }: Pick<Attention, "batch" | "rows" | "keys" | "sizes">,
): Contraction {
  const [first = 0, second = 0] = factorsOf(sum);
  const reads = (load: number, axes: readonly number[]): boolean =>
    loadAxes(loadAt(kernel, load)).some((axis) => axes.includes(axis));
  const turned = reads(second, rows) || reads(first, keys);
  const [left, right] = turned ? [second, first] : [first, second];
  const extents = axisSizes(kernel);
  const depth = product(sum.axes.map((axis) => extents[axis] ?? 1));
  return {
    left: plain(left),
    right: plain(right),
    batch,
    m: rows,
    n: keys,
    k: sum.axes,
    sizes: { batch: sizes.batch, m: sizes.rows, n: sizes.keys, k: depth },
  };
}

function plain(load: number): Factor {
  return { value: { kind: "load", index: load }, loads: [load], plain: load, rounded: undefined };
}

/** Softmax's operand: its weight is its score. */
function alone(value: Scalar): Gathered {
  if (value.kind !== "load") throw new Error("internal: attention gathers what is no load");
  return { weight: { kind: "state", index: 0 }, factor: value.index };
}

function weighed(value: Scalar): Gathered {
  if (value.kind !== "binary" || value.fn !== "mul" || value.right.kind !== "load")
    throw new Error("internal: attention gathers what is no weight times a load");
  return { weight: value.left, factor: value.right.index };
}

/** What is wrong with the inner sums of a kernel, in words: the verifier's part of loops.ts's `InnerSum`. */
export function innerProblems(kernel: Kernel): readonly string[] {
  const { inner = [], reduce, body } = kernel;
  if (kernel.inner === undefined) return [];
  const problems: string[] = [];
  if (inner.length === 0 || reduce === undefined) problems.push("it has inner sums without a reduction");
  const outputs = outputAxes(kernel);
  const own = inner.flatMap(({ axes }) => axes);
  if (new Set(own).size !== own.length) problems.push("two inner sums share an axis");
  if (own.some((axis) => kernel.axes[axis] === undefined)) problems.push("an inner sum names no axis");
  if (own.some((axis) => outputs.includes(axis))) problems.push("an inner sum runs over an axis of the results");
  for (const sum of inner) {
    const loads = factorsOf(sum);
    if (loads.length !== 2) problems.push("an inner sum is no product of two loads");
    const missing = sum.axes.filter((axis) => !loads.every((load) => loadAxes(loadAt(kernel, load)).includes(axis)));
    if (missing.length > 0) problems.push("a factor of an inner sum does not run along its axes");
    const foreign = scalarAxes(kernel, sum.value).filter((axis) => own.includes(axis) && !sum.axes.includes(axis));
    if (foreign.length > 0) problems.push("an inner sum runs along an axis of another");
  }
  const above = scalarAxes(kernel, ...body);
  if (above.some((axis) => innerAxes(kernel).includes(axis)))
    problems.push("the body runs along an axis of an inner sum");
  const gathers = (value: Scalar): boolean =>
    value.kind === "binary" && value.fn === "mul" && value.right.kind === "load";
  const known =
    reduce === "attend"
      ? body.slice(1).every(({ kind }) => kind === "load")
      : reduce === "softmax" || (reduce?.startsWith("sum") === true && body.every(gathers));
  if (!known) problems.push("what it sums is no weight times a load");
  return problems;
}
