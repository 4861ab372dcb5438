/**
 * What the compiler itself can do, by name: `OPERATIONS` behind `extern op`, and `BUILTINS`, functions on compile-time
 * values and the initialisers of parameters.
 *
 * An operation gets its arguments bound and matched by its declaration in std/prim; here they become nodes of the graph.
 */
import type { DType, Node } from "../../grammar/ast.ts";
import { suggest } from "../../grammar/suggest.ts";
import { costOf } from "../graph/cost.ts";
import type { Init } from "../graph/graph.ts";
import { showType } from "../graph/shapes.ts";
import type { TensorFn } from "../scalar.ts";
import { floorDiv, isKnown, product, type Size, showSize, substitute } from "../size.ts";
import { elementwise } from "./arithmetic.ts";
import { modelOf, placeOfModel } from "./core.ts";
import { type Draft, emit, sameType, scopedName } from "./draft.ts";
import { fail, silent } from "./failure.ts";
import { rearrange } from "./rearrange.ts";
import { describe, type Use } from "./types.ts";
import {
  type EvaluatedArg,
  isCompound,
  isSequence,
  isSize,
  isTensor,
  join,
  list,
  sizeOf,
  sizeValue,
  tuple,
  type Value,
} from "./values.ts";

/** A call whose arguments have their parameters' names. */
export interface BuiltinCall {
  readonly args: ReadonlyMap<string, Value>;
  /** Named arguments for a variadic parameter: `h=8` of `rearrange`. */
  readonly extra: ReadonlyMap<string, Value>;
  readonly use: Use;
}

export interface Builtin {
  readonly name: string;
  /** Names of the parameters in order; those ending in `?` may be left out. */
  readonly params: readonly string[];
  readonly run: (call: BuiltinCall) => Value;
}

// ------------------------------------------------------------------------------------------------------------ arguments

function wrong(call: BuiltinCall, name: string, wanted: string): never {
  const value = call.args.get(name) ?? null;
  return fail(call.use.context, "E0331", `\`${name}\` is ${wanted}, not ${describe(value)}`, call.use.node);
}

function tensor(call: BuiltinCall, name: string): Draft {
  const value = call.args.get(name);
  return value !== undefined && isTensor(value) ? value : wrong(call, name, "a tensor");
}

function tensors(call: BuiltinCall, name: string): readonly Draft[] {
  const value = call.args.get(name);
  const items = value !== undefined && isSequence(value) ? value.items : value === undefined ? [] : [value];
  const found = items.filter(isTensor);
  return found.length > 0 && found.length === items.length ? found : wrong(call, name, "several tensors");
}

/** `x`, `w` and, unless it is none, `b`. */
function withBias(call: BuiltinCall): readonly Draft[] {
  const bias = call.args.get("b") ?? null;
  return [tensor(call, "x"), tensor(call, "w"), ...(bias === null ? [] : [tensor(call, "b")])];
}

function number(call: BuiltinCall, name: string): number {
  const value = call.args.get(name);
  return typeof value === "number" ? value : wrong(call, name, "a number that is known while compiling");
}

function truthOf(call: BuiltinCall, name: string): boolean {
  const value = call.args.get(name);
  return typeof value === "boolean" ? value : wrong(call, name, "`true` or `false`");
}

function size(call: BuiltinCall, name: string): Size {
  const value = call.args.get(name);
  return value !== undefined && isSize(value) ? sizeOf(value) : wrong(call, name, "a size");
}

function twoNumbers(call: BuiltinCall, name: string): readonly [number, number] {
  const value = call.args.get(name);
  const [a, b] = value !== undefined && isSequence(value) ? value.items : [];
  if (typeof a !== "number" || typeof b !== "number") return wrong(call, name, "a pair of numbers");
  if (!Number.isInteger(a) || !Number.isInteger(b)) {
    const same = name === "pad";
    return fail(call.use.context, "E0331", `\`${name}\` would be ${a}x${b}, not whole numbers`, call.use.node, {
      helps: same ? ['`pad="same"` needs an odd kernel; give `pad` as a number'] : [],
    });
  }
  return [a, b];
}

/** An axis as people count it: negative from the end. */
function axisOf(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}

function axes(call: BuiltinCall, x: Draft): readonly number[] {
  const value = call.args.get("axis") ?? null;
  if (value === null) return x.shape.map((_, i) => i);
  const items = isSequence(value) ? value.items : [value];
  return items.map((item) =>
    typeof item === "number" ? axisOf(item, x.shape.length) : wrong(call, "axis", "an axis or a list of axes"),
  );
}

// ----------------------------------------------------------------------------------------------------------- operations

type Run = Builtin["run"];

const SCALAR: Readonly<Record<string, (x: number) => number>> = {
  abs: Math.abs,
  exp: Math.exp,
  log: Math.log,
  sqrt: Math.sqrt,
  rsqrt: (x) => 1 / Math.sqrt(x),
  sin: Math.sin,
  cos: Math.cos,
  tanh: Math.tanh,
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
};

/** A scalar function of every element; of a number it is a number. */
function unary(fn: TensorFn): Run {
  return (call) => {
    const value = call.args.get("x");
    const fold = SCALAR[fn];
    if (typeof value === "number" && fold !== undefined) return fold(value);
    return emit("unary", [tensor(call, "x")], { fn }, call.use);
  };
}

function extreme(fn: "max" | "min"): Run {
  return ({ args, use }) => {
    const a = args.get("a") ?? null;
    const b = args.get("b") ?? null;
    if (typeof a === "number" && typeof b === "number") return Math[fn](a, b);
    return elementwise(fn, a, b, use);
  };
}

function reduce(fn: "sum" | "mean" | "max" | "min"): Run {
  return (call) => {
    const x = tensor(call, "x");
    return emit("reduce", [x], { fn, axes: axes(call, x), keep: truthOf(call, "keep") }, call.use);
  };
}

/** The mean of tensors of one shape. */
function average(call: BuiltinCall): Value {
  const xs = tensors(call, "xs");
  const [first, ...rest] = xs;
  if (first === undefined) return silent();
  const other = rest.find((x) => !sameType(first, x));
  if (other !== undefined) {
    fail(call.use.context, "E0307", "an average needs tensors of one shape", call.use.node, {
      label: `${showType(first)} and ${showType(other)} arrive`,
    });
  }
  const total = rest.reduce((sum, x) => emit("binary", [sum, x], { fn: "add" }, call.use), first);
  return xs.length === 1 ? total : elementwise("div", total, xs.length, call.use);
}

function dropout(call: BuiltinCall): Value {
  const x = tensor(call, "x");
  const p = number(call, "p");
  if (!(p >= 0 && p < 1)) {
    fail(
      call.use.context,
      "E0331",
      `\`p\` is the share of elements that dropout zeroes, from 0 to below 1, not ${p}`,
      call.use.node,
    );
  }
  if (p === 0) return x;
  const { build, scope } = call.use.context;
  return emit("dropout", [x], { p, path: scopedName(build, join(scope, "dropout")) }, call.use);
}

function transpose(call: BuiltinCall): Value {
  const x = tensor(call, "x");
  const order = x.shape.map((_, i) => i);
  const last = order.length - 1;
  return emit("permute", [x], { order: [...order.slice(0, -2), last, last - 1] }, call.use);
}

function reshape(call: BuiltinCall): Value {
  const value = call.args.get("shape");
  const shape = (value !== undefined && isSequence(value) ? value.items : []).map((item) =>
    isSize(item) ? sizeOf(item) : wrong(call, "shape", "a list of sizes"),
  );
  const fraction = shape.find((s) => typeof s === "number" && !Number.isInteger(s));
  if (fraction !== undefined)
    fail(call.use.context, "E0305", `an axis cannot have ${showSize(fraction)} elements`, call.use.node);
  return emit("reshape", [tensor(call, "x")], { shape }, call.use);
}

function castTo(call: BuiltinCall): Value {
  const to = call.args.get("to") ?? null;
  const x = tensor(call, "x");
  if (!isCompound(to) || to.kind !== "dtype") return wrong(call, "to", "an element type such as f32");
  const dtype: DType = to.name;
  return dtype === x.dtype ? x : emit("cast", [x], { dtype }, call.use);
}

const NORM = ["weight", "bias", "running_mean", "running_var"];

/** What is behind each `extern op` of std/prim. */
export const OPERATIONS: ReadonlyMap<string, Run> = new Map<string, Run>([
  [
    "conv2d",
    (call) =>
      emit(
        "conv2d",
        withBias(call),
        {
          stride: twoNumbers(call, "stride"),
          pad: twoNumbers(call, "pad"),
          dilation: twoNumbers(call, "dilation"),
          groups: number(call, "groups"),
        },
        call.use,
      ),
  ],
  ["linear", (call) => emit("linear", withBias(call), {}, call.use)],
  [
    "batch_norm",
    (call) =>
      emit(
        "batch_norm",
        [tensor(call, "x"), ...NORM.map((n) => tensor(call, n))],
        { eps: number(call, "eps"), momentum: number(call, "momentum") },
        call.use,
      ),
  ],
  [
    "layer_norm",
    (call) =>
      emit(
        "layer_norm",
        [tensor(call, "x"), tensor(call, "weight"), tensor(call, "bias")],
        { eps: number(call, "eps") },
        call.use,
      ),
  ],
  [
    "max_pool2d",
    (call) =>
      emit(
        "max_pool2d",
        [tensor(call, "x")],
        { k: twoNumbers(call, "k"), stride: twoNumbers(call, "stride"), pad: twoNumbers(call, "pad") },
        call.use,
      ),
  ],
  [
    "avg_pool2d",
    (call) =>
      emit(
        "avg_pool2d",
        [tensor(call, "x")],
        {
          k: twoNumbers(call, "k"),
          stride: twoNumbers(call, "stride"),
          pad: twoNumbers(call, "pad"),
          countPad: truthOf(call, "count_pad"),
        },
        call.use,
      ),
  ],
  ["matmul", (call) => emit("matmul", [tensor(call, "a"), tensor(call, "b")], {}, call.use)],
  [
    "softmax",
    (call) => {
      const x = tensor(call, "x");
      return emit("softmax", [x], { axis: axisOf(number(call, "axis"), x.shape.length) }, call.use);
    },
  ],
  ["causal_mask", (call) => emit("causal_mask", [tensor(call, "x")], {}, call.use)],
  ["sum", reduce("sum")],
  ["mean", reduce("mean")],
  ["amax", reduce("max")],
  ["amin", reduce("min")],
  ["exp", unary("exp")],
  ["log", unary("log")],
  ["sqrt", unary("sqrt")],
  ["rsqrt", unary("rsqrt")],
  ["abs", unary("abs")],
  ["sin", unary("sin")],
  ["cos", unary("cos")],
  ["tanh", unary("tanh")],
  ["sigmoid", unary("sigmoid")],
  ["erf", unary("erf")],
  ["max", extreme("max")],
  ["min", extreme("min")],
  ["dropout", dropout],
  ["detach", (call) => emit("detach", [tensor(call, "x")], {}, call.use)],
  ["average", average],
  ["transpose", transpose],
  [
    "rearrange",
    (call) => {
      const pattern = call.args.get("pattern");
      return rearrange(
        tensor(call, "x"),
        typeof pattern === "string" ? pattern : wrong(call, "pattern", "a pattern in quotes"),
        call.extra,
        call.use,
      );
    },
  ],
  ["reshape", reshape],
  [
    "slice",
    (call) => {
      const x = tensor(call, "x");
      return emit(
        "slice",
        [x],
        { axis: axisOf(number(call, "axis"), x.shape.length), start: size(call, "start"), size: size(call, "size") },
        call.use,
      );
    },
  ],
  [
    "concat",
    (call) => {
      const xs = tensors(call, "xs");
      return emit("concat", xs, { axis: axisOf(number(call, "axis"), xs[0]?.shape.length ?? 0) }, call.use);
    },
  ],
  ["cast", castTo],
]);

// ------------------------------------------------------------------------------------------------ compile-time functions

function init(make: (call: BuiltinCall) => Init): Run {
  return (call) => ({ kind: "init", init: make(call) });
}

function optional(call: BuiltinCall, name: string, otherwise: number): number {
  return call.args.has(name) ? number(call, name) : otherwise;
}

function fan(call: BuiltinCall): "in" | "out" {
  const value = call.args.get("fan") ?? "in";
  return value === "in" || value === "out" ? value : wrong(call, "fan", '"in" or "out"');
}

function sizesOf(call: BuiltinCall, name: string): readonly Size[] {
  const value = call.args.get(name);
  const items = value !== undefined && isSequence(value) ? value.items : undefined;
  return items?.every(isSize) ? items.filter(isSize).map(sizeOf) : wrong(call, name, "a list of sizes");
}

/** `⌊a / b⌋` of sizes; `floor` of a number is what it always is. */
export function floorQuotient(a: Size, b: Size, use: Use): Value {
  if (isKnown(a) && isKnown(b)) return Math.floor(a / b);
  const quotient = floorDiv(a, b);
  if (quotient !== undefined) return sizeValue(quotient);
  return fail(
    use.context,
    "E0316",
    `⌊${showSize(a)} / ${showSize(b)}⌋ cannot be said without a value for ${showSize(b)}`,
    use.node,
  );
}

function parameterCount(call: BuiltinCall): Value {
  const { graph } = modelOf(call.args.get("model") ?? null, call.use);
  return graph.nodes.reduce(
    (sum, n) => (n.op === "param" && n.attrs.kind === "param" ? sum + Number(product(n.shape)) : sum),
    0,
  );
}

/** Two for every multiply-add, for one example: the first open size of each input counts as 1. */
function flops(call: BuiltinCall): Value {
  const { graph } = modelOf(call.args.get("model") ?? null, call.use);
  const batches = new Map<string, Size>();
  for (const input of graph.inputs) {
    const [batch] = input.shape;
    if (batch !== undefined && !isKnown(batch)) batches.set(showSize(batch), 1);
  }
  const { macs } = costOf(graph).total;
  const total = substitute(macs, batches);
  return isKnown(total) ? 2 * total : sizeValue(total);
}

function shapeOfModel(call: BuiltinCall): Value {
  const model = modelOf(call.args.get("model") ?? null, call.use);
  const at = call.args.get("at") ?? null;
  if (at === null) return list((model.graph.outputs[0]?.node.shape ?? []).map(sizeValue));
  if (!isCompound(at) || at.kind !== "position") return wrong(call, "at", "a position such as `@conv3`");
  return list(placeOfModel(model, at.path, call.use).shape.map(sizeValue));
}

const FUNCTIONS: readonly Builtin[] = [
  {
    name: "floor",
    params: ["x"],
    run: (call) => {
      const value = call.args.get("x") ?? null;
      if (isTensor(value)) return emit("unary", [value], { fn: "floor" }, call.use);
      return typeof value === "number" ? Math.floor(value) : isSize(value) ? value : wrong(call, "x", "a number");
    },
  },
  {
    name: "pair",
    params: ["x"],
    run: ({ args }) => {
      const value = args.get("x") ?? null;
      return isSequence(value) ? tuple(value.items) : tuple([value, value]);
    },
  },
  { name: "product", params: ["sizes"], run: (call) => sizeValue(product(sizesOf(call, "sizes"))) },
  {
    name: "count",
    params: ["items"],
    run: (call) => {
      const value = call.args.get("items") ?? null;
      return isSequence(value) ? value.items.length : wrong(call, "items", "a list");
    },
  },
  { name: "params", params: ["model"], run: parameterCount },
  { name: "flops", params: ["model"], run: flops },
  { name: "shape", params: ["model", "at?"], run: shapeOfModel },
  { name: "zeros", params: [], run: init(() => ({ kind: "constant", value: 0 })) },
  { name: "ones", params: [], run: init(() => ({ kind: "constant", value: 1 })) },
  { name: "constant", params: ["value"], run: init((call) => ({ kind: "constant", value: number(call, "value") })) },
  {
    name: "normal",
    params: ["mean?", "std?"],
    run: init((call) => ({ kind: "normal", mean: optional(call, "mean", 0), std: optional(call, "std", 1) })),
  },
  {
    name: "uniform",
    params: ["low?", "high?"],
    run: init((call) => ({ kind: "uniform", low: optional(call, "low", 0), high: optional(call, "high", 1) })),
  },
  { name: "he_normal", params: ["fan?"], run: init((call) => ({ kind: "he_normal", fan: fan(call) })) },
  { name: "he_uniform", params: ["fan?"], run: init((call) => ({ kind: "he_uniform", fan: fan(call) })) },
];

/** Functions on compile-time values, found when no file defines the name. */
export const BUILTINS: ReadonlyMap<string, Builtin> = new Map(FUNCTIONS.map((f) => [f.name, f]));

/** Gives the arguments their names and runs the function. */
export function callBuiltin(builtin: Builtin, args: readonly EvaluatedArg[], use: Use): Value {
  const names = builtin.params.map((param) => param.replace("?", ""));
  const bound = new Map<string, Value>();
  const note = `${builtin.name}(${builtin.params.join(", ")})`;
  let place = 0;
  for (const arg of args) {
    const name = arg.name ?? names[place++];
    if (name === undefined || !names.includes(name)) {
      const near = arg.name === undefined ? undefined : suggest(arg.name, names);
      strangeArgument(builtin, arg.node, arg.name, near, note, use);
    }
    if (bound.has(name)) fail(use.context, "E0401", `\`${name}\` is given twice`, arg.node);
    bound.set(name, arg.value);
  }
  const missing = builtin.params.find((param) => !param.endsWith("?") && !bound.has(param));
  if (missing !== undefined)
    fail(use.context, "E0403", `\`${builtin.name}\` needs \`${missing}\``, use.node, { notes: [note] });
  return builtin.run({ args: bound, extra: new Map(), use });
}

function strangeArgument(
  builtin: Builtin,
  node: Node,
  name: string | undefined,
  near: string | undefined,
  note: string,
  use: Use,
): never {
  const message =
    name === undefined
      ? `\`${builtin.name}\` takes at most ${builtin.params.length} arguments`
      : `\`${builtin.name}\` has no parameter \`${name}\``;
  return fail(use.context, "E0401", message, node, {
    helps: near === undefined ? [] : [`did you mean \`${near}\`?`],
    notes: [note],
  });
}
