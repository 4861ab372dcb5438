/**
 * Lowering of attention that keeps no table: sums over keys whose weights are made of sums of their own.
 *
 * Each operator is one kernel. The scores are inner sums, which exist at one pair of a row and a key at a time; what is
 * kept of them is what the reduction keeps. How many pairs are under way at once is the schedule's affair.
 */
import type { GraphNode } from "../graph/graph.ts";
import { binary, num, type Scalar, unary } from "../scalar.ts";
import { type Builder, kernelBuilder, type Value, type View, viewOf } from "./build.ts";
import { axisNames, type Context, entry, knownShape, type Lowering, layersOf, nameOf, operand } from "./context.ts";
import { product } from "./layout.ts";
import type { Affine, InnerSum, ReducerName } from "./loops.ts";

const state = (index: number): Scalar => ({ kind: "state", index });
const scaled = (value: Scalar, by: number): Scalar => (by === 1 ? value : binary("mul", value, num(by)));

/** A kernel of attention under construction. The names of axes tell `join-attend.ts` which are the same in two kernels. */
interface Attending {
  readonly b: Builder;
  readonly batch: readonly Affine[];
  readonly row: Affine;
  readonly key: Affine;
  /** Along the result's rows; undefined where each row or key has one number. */
  readonly feature: Affine | undefined;
  /** Σ_c q_ic·k_jc. */
  readonly score: InnerSum;
}

/** Axes of results in the order in which they lie, then what is summed. */
function attending(
  context: Context,
  [q, k]: readonly [View, View],
  results: { readonly along: "rows" | "keys"; readonly width: number | undefined },
): Attending {
  const b = kernelBuilder(context.buffers);
  const rank = q.shape.length;
  const batch = q.shape.slice(0, -2).map((size, d) => b.axis(`b${d}`, size));
  const row = (): Affine => b.axis("row", entry(q.shape, rank - 2));
  const key = (): Affine => b.axis("key", entry(k.shape, rank - 2));
  const feature = (): Affine | undefined => (results.width === undefined ? undefined : b.axis("e", results.width));
  const own = results.along === "rows" ? row() : key();
  const along = feature();
  const other = results.along === "rows" ? key() : row();
  const [i, j] = results.along === "rows" ? [own, other] : [other, own];
  return { b, batch, row: i, key: j, feature: along, score: innerSum(b, batch, [q, i], [k, j], "c") };
}

type Side = readonly [view: View, place: Affine];

/** Σ over the last axis of products of rows of two tensors. */
function innerSum(b: Builder, batch: readonly Affine[], [left, i]: Side, [right, j]: Side, name: string): InnerSum {
  const depth = b.axis(name, entry(left.shape, left.shape.length - 1));
  const value = binary("mul", b.load(left, [...batch, i, depth]), b.load(right, [...batch, j, depth]));
  return { axes: depth.terms.flatMap(({ atom }) => (atom.kind === "axis" ? [atom.axis] : [])), value };
}

/** A product is made of two loads: a tensor that is one number everywhere is written out. */
function viewIn(node: GraphNode, at: number, context: Context): View {
  const input = operand(node, at);
  const value = context.value(input);
  if (value.kind === "view") return value;
  const shape = knownShape(input);
  const out = context.allocate({ name: nameOf(input, "all"), shape, dtype: input.dtype, from: [value] });
  const b = kernelBuilder(context.buffers);
  const index = shape.map((size, d) => b.axis(entry(axisNames(shape.length), d), size));
  b.store(out, index, num(value.value));
  context.emit(b.finish({ name: out.name, layers: layersOf(node) }));
  return viewOf(out);
}

interface Finish {
  readonly label: string;
  readonly index: readonly Affine[];
  readonly reduce: ReducerName;
  readonly body: readonly Scalar[];
  readonly inner: readonly InnerSum[];
  readonly value: Scalar;
  readonly macs: number;
}

function finish(node: GraphNode, context: Context, b: Builder, what: Finish): Value {
  const out = context.allocate({
    name: nameOf(node, what.label),
    shape: knownShape(node),
    dtype: node.dtype,
    from: node.inputs.map(context.value),
  });
  b.store(out, what.index, what.value);
  const { reduce, body, inner, macs } = what;
  context.emit(b.finish({ name: out.name, layers: layersOf(node), reduce: { by: reduce, body }, inner, macs }));
  return viewOf(out);
}

/** Pairs of rows and keys. */
function pairsOf(q: View, k: View): number {
  return product(q.shape.slice(0, -1)) * entry(k.shape, k.shape.length - 2);
}

const last = (view: View): number => entry(view.shape, view.shape.length - 1);

/** y_id = Σ_j e^(x_ij) v_jd / Σ_j e^(x_ij), x_ij = scale · Σ_c q_ic·k_jc. */
export const lowerAttend: Lowering<"attend"> = (node, context) => {
  const [q, k, v] = [viewIn(node, 0, context), viewIn(node, 1, context), viewIn(node, 2, context)];
  const at = attending(context, [q, k], { along: "rows", width: last(v) });
  const { b, batch, row, key, score } = at;
  const features = at.feature === undefined ? [] : [at.feature];
  return finish(node, context, b, {
    label: "attend",
    index: [...batch, row, ...features],
    reduce: "attend",
    body: [scaled(state(0), node.attrs.scale), b.load(v, [...batch, key, ...features])],
    inner: [score],
    value: binary("div", state(2), state(1)),
    macs: pairsOf(q, k) * (last(q) + last(v)),
  });
};

/** log_i = m + ln s. */
export const lowerAttendLogSum: Lowering<"attend_log_sum"> = (node, context) => {
  const [q, k] = [viewIn(node, 0, context), viewIn(node, 1, context)];
  const { b, batch, row, score } = attending(context, [q, k], { along: "rows", width: undefined });
  return finish(node, context, b, {
    label: "log_sum",
    index: [...batch, row],
    reduce: "softmax",
    body: [scaled(state(0), node.attrs.scale)],
    inner: [score],
    value: binary("add", state(0), unary("log", state(1))),
    macs: pairsOf(q, k) * last(q),
  });
};

/** A_ij = exp(x_ij - log_i), the weight itself. */
function weightAt(b: Builder, log: View, batch: readonly Affine[], row: Affine, scale: number): Scalar {
  return unary("exp", binary("sub", scaled(state(0), scale), b.load(log, [...batch, row])));
}

/** scale · Σ A_ij (Σ_d dy_id·v_jd - row_i) · other, over keys for the queries and over rows for the keys. */
function lowerGradient(
  node: GraphNode & { readonly op: "attend_query_grad" | "attend_key_grad" },
  context: Context,
): Value {
  const [q, k, v] = [viewIn(node, 0, context), viewIn(node, 1, context), viewIn(node, 2, context)];
  const [dy, log, row] = [viewIn(node, 3, context), viewIn(node, 4, context), viewIn(node, 5, context)];
  const byQuery = node.op === "attend_query_grad";
  const at = attending(context, [q, k], { along: byQuery ? "rows" : "keys", width: last(q) });
  const { b, batch, score } = at;
  const features = at.feature === undefined ? [] : [at.feature];
  const upstream = innerSum(b, batch, [dy, at.row], [v, at.key], "d");
  const ofScore = binary(
    "mul",
    weightAt(b, log, batch, at.row, node.attrs.scale),
    binary("sub", state(1), b.load(row, [...batch, at.row])),
  );
  const factor = byQuery ? b.load(k, [...batch, at.key, ...features]) : b.load(q, [...batch, at.row, ...features]);
  return finish(node, context, b, {
    label: byQuery ? "query_grad" : "key_grad",
    index: [...batch, byQuery ? at.row : at.key, ...features],
    reduce: "sum",
    body: [binary("mul", ofScore, factor)],
    inner: [score, upstream],
    value: scaled(state(0), node.attrs.scale),
    macs: pairsOf(q, k) * (2 * last(q) + last(v)),
  });
}

export const lowerAttendQueryGrad: Lowering<"attend_query_grad"> = lowerGradient;
export const lowerAttendKeyGrad: Lowering<"attend_key_grad"> = lowerGradient;

/** Σ_i A_ij·dy_id. */
export const lowerAttendValueGrad: Lowering<"attend_value_grad"> = (node, context) => {
  const [q, k] = [viewIn(node, 0, context), viewIn(node, 1, context)];
  const [dy, log] = [viewIn(node, 2, context), viewIn(node, 3, context)];
  const at = attending(context, [q, k], { along: "keys", width: last(dy) });
  const { b, batch, row, key, score } = at;
  const features = at.feature === undefined ? [] : [at.feature];
  return finish(node, context, b, {
    label: "value_grad",
    index: [...batch, key, ...features],
    reduce: "sum",
    body: [binary("mul", weightAt(b, log, batch, row, node.attrs.scale), b.load(dy, [...batch, row, ...features]))],
    inner: [score],
    value: state(0),
    macs: pairsOf(q, k) * (last(q) + last(dy)),
  });
};
