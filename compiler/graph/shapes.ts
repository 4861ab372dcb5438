/**
 * Shape rules: from the types of an operator's inputs to the type of its result, or to the reason why there is none.
 *
 * One function an operator (or a family), referred to by the rows of `ops.ts`. Rules look forward only: they never guess
 * an input from a result. A `ShapeProblem` is a diagnostic without places; whoever knows the source adds them. The texts
 * and codes are those of specs/language.md, "Diagnostics". Operators that nobody writes and rewrites make are ruled in
 * `rewrite-shapes.ts`.
 */
import type { DiagnosticParts } from "../../grammar/diagnostic.ts";
import type { BinaryFn } from "../scalar.ts";
import { add, divExact, equal, floorDiv, isKnown, mul, product, type Size, showShape, showSize, sub } from "../size.ts";
import type { OpAttrs, TensorType } from "./graph.ts";

export interface ShapeProblem {
  readonly code: string;
  /** One sentence, lower case, no full stop. */
  readonly message: string;
  /** Words at the place of the call. */
  readonly label: string;
  readonly notes: readonly string[];
  readonly helps: readonly string[];
}

export type Ruled = TensorType | ShapeProblem;
export type Inputs = readonly TensorType[];

export function isProblem(result: object): result is ShapeProblem {
  return "code" in result;
}

/** `f32[N, 64, 56, 56]`. */
export function showType(type: TensorType): string {
  return type.dtype + showShape(type.shape);
}

/** How a binary function is written between or before its operands. */
const SYMBOLS: { readonly [K in BinaryFn]: string } = {
  add: "+",
  sub: "-",
  mul: "*",
  div: "/",
  max: "max",
  min: "min",
  pow: "^",
};

// -------------------------------------------------------------------------------------------------- rules of operators

/** The result is the first input's type. */
export function same([x]: Inputs): Ruled {
  return given(x);
}

/** The first input's shape in another element type. */
export function castTo([x]: Inputs, { dtype }: OpAttrs["cast"]): Ruled {
  return { shape: given(x).shape, dtype };
}

export function dropout([x, counters]: Inputs, { p }: OpAttrs["dropout"]): Ruled {
  if (!(p >= 0 && p < 1)) return problem("E0314", "a probability is at least 0 and below 1", { label: `p is ${p}` });
  if (counters === undefined) return given(x);
  const wanted: TensorType = { shape: [3], dtype: "f32" };
  return mixedTypes([wanted, counters]) ?? vector("dropout", "counters: [3]", counters, 3) ?? given(x);
}

export function binary([a, b]: Inputs, { fn }: OpAttrs["binary"]): Ruled {
  const left = given(a);
  const right = given(b);
  return mixedTypes([left, right]) ?? broadcast(SYMBOLS[fn], left, right);
}

export function select(inputs: Inputs): Ruled {
  const [first, ...others] = inputs;
  const all = (ruled: Ruled, other: TensorType): Ruled =>
    isProblem(ruled) ? ruled : broadcast("select", ruled, other);
  return mixedTypes(inputs) ?? others.reduce(all, given(first));
}

export function broadcastTo([x]: Inputs, { shape }: OpAttrs["broadcast"]): Ruled {
  const data = given(x);
  const result = broadcast("broadcast", data, { shape, dtype: data.dtype });
  if (isProblem(result)) return result;
  const fits = result.shape.length === shape.length && result.shape.every((size, i) => equal(size, shape[i] ?? -1));
  return fits
    ? result
    : problem("E0301", "`broadcast` only repeats", { label: `${showShape(data.shape)} to ${showShape(shape)}` });
}

/** Window arithmetic: `⌊(n + 2·pad - dilation·(k - 1) - 1) / stride⌋ + 1`. */
export function conv2d([x, w, b]: Inputs, attrs: OpAttrs["conv2d"]): Ruled {
  const image = given(x);
  const weight = given(w);
  const wrong =
    mixedTypes([image, weight, ...(b ? [b] : [])]) ??
    atLeastOne("stride", attrs.stride) ??
    atLeastOne("dilation", attrs.dilation) ??
    atLeastOne("groups", [attrs.groups]) ??
    atLeastOne("pad", attrs.pad, 0) ??
    signature("conv2d", "x: [N, C, H, W]", image, 4) ??
    signature("conv2d", "w: [O, I, KH, KW]", weight, 4);
  if (wrong) return wrong;
  const [n, channels, height, width] = four(image);
  const [outputs, inner, kh, kw] = four(weight);
  const wanted = mul(inner, attrs.groups);
  if (!equal(channels, wanted)) {
    const per = attrs.groups === 1 ? "" : ` (${attrs.groups} groups of ${showSize(inner)})`;
    return problem(
      "E0310",
      `\`conv2d\` takes \`x: [N, C, H, W]\` with C = ${showSize(wanted)}, but gets ${showType(image)}`,
      {
        label: `the weights ${showShape(weight.shape)} expect ${showSize(wanted)} channels${per}, ${showSize(channels)} arrive`,
      },
    );
  }
  if (divExact(outputs, attrs.groups) === undefined) {
    return problem("E0311", "`conv2d` requires O % groups == 0", {
      label: `O = ${showSize(outputs)}, groups = ${attrs.groups}`,
    });
  }
  const misfit = b && vector("conv2d", "b: [O]", b, outputs);
  if (misfit) return misfit;
  return windows(image, [n, outputs], [height, width], [kh, kw], attrs.stride, attrs.pad, attrs.dilation, [
    '`pad="same"`, a smaller kernel, or a larger input',
  ]);
}

export function pool2d(
  op: "max_pool2d" | "max_pool2d_index" | "avg_pool2d",
): (inputs: Inputs, attrs: OpAttrs["max_pool2d"]) => Ruled {
  return ([x], { k, stride, pad }) => {
    const image = given(x);
    const wrong =
      atLeastOne("k", k) ??
      atLeastOne("stride", stride) ??
      atLeastOne("pad", pad, 0) ??
      signature(op, "x: [N, C, H, W]", image, 4);
    if (wrong) return wrong;
    if (pad[0] >= k[0] || pad[1] >= k[1]) {
      return problem("E0306", "the window does not fit", {
        label: `a padding of ${pad.join("x")} puts whole ${k.join("x")} windows outside the image`,
        helps: ["`pad=0`, or a larger window"],
      });
    }
    const [n, channels, height, width] = four(image);
    return windows(
      image,
      [n, channels],
      [height, width],
      k,
      stride,
      pad,
      [1, 1],
      ["a smaller window, or a larger input"],
    );
  };
}

/** [N,C,H,W], if convolving that with `w` gives dy's shape. */
export function conv2dInputGrad([dy, w]: Inputs, attrs: OpAttrs["conv2d_input_grad"]): Ruled {
  const [result, weight] = [given(dy), given(w)];
  const wrong =
    signature("conv2d_input_grad", "dy: [N, O, H, W]", result, 4) ??
    signature("conv2d_input_grad", "w: [O, C/groups, KH, KW]", weight, 4);
  if (wrong) return wrong;
  const image = {
    shape: [axisOf(result, 0), mul(axisOf(weight, 1), attrs.groups), ...attrs.size],
    dtype: result.dtype,
  };
  return inverse("conv2d_input_grad", image, conv2d([image, weight], attrs), result);
}

/** [O,C/groups,KH,KW], if convolving `x` with that gives dy's shape. */
export function conv2dWeightGrad([x, dy]: Inputs, attrs: OpAttrs["conv2d_weight_grad"]): Ruled {
  const [image, result] = [given(x), given(dy)];
  const wrong =
    signature("conv2d_weight_grad", "x: [N, C, H, W]", image, 4) ??
    signature("conv2d_weight_grad", "dy: [N, O, H, W]", result, 4);
  if (wrong) return wrong;
  const inner = divExact(axisOf(image, 1), attrs.groups) ?? 0;
  const weight = { shape: [axisOf(result, 1), inner, ...attrs.k], dtype: image.dtype };
  return inverse("conv2d_weight_grad", weight, conv2d([image, weight], attrs), result);
}

export function maxPool2dGrad([index, dy]: Inputs, attrs: OpAttrs["max_pool2d_grad"]): Ruled {
  const places = given(index);
  return mixedTypes([places, given(dy)]) ?? poolGrad("max_pool2d_grad", given(dy), attrs, [places]);
}

export function avgPool2dGrad([dy]: Inputs, attrs: OpAttrs["avg_pool2d_grad"]): Ruled {
  return poolGrad("avg_pool2d_grad", given(dy), attrs, []);
}

function poolGrad(op: string, dy: TensorType, attrs: OpAttrs["max_pool2d_grad"], others: Inputs): Ruled {
  const wrong = signature(op, "dy: [N, C, H, W]", dy, 4);
  if (wrong) return wrong;
  const image = { shape: [...dy.shape.slice(0, 2), ...attrs.size], dtype: dy.dtype };
  const pooled = pool2d("max_pool2d")([image], attrs);
  return [...others, dy].reduce<Ruled>(
    (ruled, wanted) => (isProblem(ruled) ? ruled : inverse(op, image, pooled, wanted)),
    image,
  );
}

/** `made`, if the forward operator takes it to the type that is there. */
function inverse(op: string, made: TensorType, forward: Ruled, there: TensorType): Ruled {
  if (isProblem(forward)) return forward;
  const fits =
    forward.shape.length === there.shape.length && forward.shape.every((size, i) => equal(size, there.shape[i] ?? -1));
  if (fits) return mixedTypes([forward, there]) ?? made;
  return problem("E0310", `\`${op}\` gets the gradient of another result`, {
    label: `${showShape(forward.shape)} is wanted here, this is ${showShape(there.shape)}`,
  });
}

export function linear([x, w, b]: Inputs): Ruled {
  const data = given(x);
  const weight = given(w);
  const wrong =
    mixedTypes([data, weight, ...(b ? [b] : [])]) ??
    signature("linear", "x: [...B, D]", data, 1, "at least") ??
    signature("linear", "w: [O, D]", weight, 2);
  if (wrong) return wrong;
  const [outputs, inner] = [axisOf(weight, 0), axisOf(weight, 1)];
  const last = axisOf(data, data.shape.length - 1);
  if (!equal(last, inner)) {
    return problem(
      "E0310",
      `\`linear\` takes \`x: [...B, D]\` with D = ${showSize(inner)}, but gets ${showType(data)}`,
      {
        label: `the weights ${showShape(weight.shape)} expect a last axis of ${showSize(inner)}, it is ${showSize(last)}`,
      },
    );
  }
  const misfit = b && vector("linear", "b: [O]", b, outputs);
  return misfit ?? { shape: [...data.shape.slice(0, -1), outputs], dtype: data.dtype };
}

export function matmul([a, b]: Inputs): Ruled {
  const left = given(a);
  const right = given(b);
  const wrong =
    mixedTypes([left, right]) ??
    signature("matmul", "a: [...B, M, K]", left, 2, "at least") ??
    signature("matmul", "b: [...B, K, P]", right, 2, "at least");
  if (wrong) return wrong;
  const [m, k] = [axisOf(left, -2), axisOf(left, -1)];
  const [k2, p] = [axisOf(right, -2), axisOf(right, -1)];
  if (!equal(k, k2)) {
    const turned = showShape([...right.shape.slice(0, -2), p, k2]);
    return problem("E0302", "`matmul` needs the last axis of the left to equal the last-but-one axis of the right", {
      label: `${showShape(left.shape)} times ${showShape(right.shape)}: ${showSize(k)} and ${showSize(k2)} meet here`,
      helps: equal(k, p) ? [`\`transpose\` of the right is ${turned}; did you mean \`matmul(a, transpose(b))\`?`] : [],
    });
  }
  const batch = broadcast(
    "matmul",
    { shape: left.shape.slice(0, -2), dtype: left.dtype },
    { shape: right.shape.slice(0, -2), dtype: right.dtype },
  );
  return isProblem(batch) ? batch : { shape: [...batch.shape, m, p], dtype: left.dtype };
}

export function batchNorm([x, ...vectors]: Inputs): Ruled {
  const data = given(x);
  const wrong = mixedTypes([data, ...vectors]) ?? signature("batch_norm", "x: [N, C, ...]", data, 2, "at least");
  if (wrong) return wrong;
  const names = ["weight: [C]", "bias: [C]", "running_mean: [C]", "running_var: [C]"];
  for (const [i, v] of vectors.entries()) {
    const misfit = vector("batch_norm", names[i] ?? "", v, axisOf(data, 1));
    if (misfit) return misfit;
  }
  return data;
}

export function layerNorm([x, ...vectors]: Inputs): Ruled {
  const data = given(x);
  const wrong = mixedTypes([data, ...vectors]) ?? signature("layer_norm", "x: [...B, D]", data, 1, "at least");
  if (wrong) return wrong;
  for (const [i, v] of vectors.entries()) {
    const misfit = vector("layer_norm", i === 0 ? "weight: [D]" : "bias: [D]", v, axisOf(data, -1));
    if (misfit) return misfit;
  }
  return data;
}

export function softmax([x]: Inputs, { axis }: OpAttrs["softmax"]): Ruled {
  return outside("softmax", given(x), [axis]) ?? given(x);
}

export function causalMask([x]: Inputs): Ruled {
  return signature("causal_mask", "x: [...B, T, S]", given(x), 2, "at least") ?? given(x);
}

export function reduce([x]: Inputs, { fn, axes, keep }: OpAttrs["reduce"]): Ruled {
  const data = given(x);
  const wrong = outside(fn, data, axes);
  if (wrong) return wrong;
  const shape = data.shape.flatMap((size, i) => (axes.includes(i) ? (keep ? [1] : []) : [size]));
  return { shape, dtype: data.dtype };
}

export function reshape([x]: Inputs, { shape }: OpAttrs["reshape"]): Ruled {
  const data = given(x);
  const [before, after] = [product(data.shape), product(shape)];
  if (!equal(before, after)) {
    return problem("E0308", "`reshape` keeps the number of elements, and these differ", {
      label: `${showShape(data.shape)} has ${showSize(before)}, ${showShape(shape)} has ${showSize(after)}`,
    });
  }
  const wrong = shape.some((size) => isKnown(size) && size < 1);
  if (wrong) return problem("E0308", "every size is at least 1", { label: `${showShape(shape)} is wanted here` });
  return { shape, dtype: data.dtype };
}

export function permute([x]: Inputs, { order }: OpAttrs["permute"]): Ruled {
  const data = given(x);
  const wrong = outside("permute", data, order);
  if (wrong) return wrong;
  if (order.length !== data.shape.length) {
    return problem("E0309", "`permute` names every axis once", {
      label: `${data.shape.length} axes, ${order.length} named`,
    });
  }
  return { shape: order.map((axis) => axisOf(data, axis)), dtype: data.dtype };
}

export function concat(inputs: Inputs, { axis }: OpAttrs["concat"]): Ruled {
  const first = given(inputs[0]);
  const wrong = mixedTypes(inputs) ?? outside("concat", first, [axis]);
  if (wrong) return wrong;
  let joined: Size = 0;
  for (const input of inputs) {
    const differ = (size: Size, i: number): boolean => i !== axis && !equal(size, input.shape[i] ?? -1);
    if (input.shape.length !== first.shape.length || first.shape.some(differ)) {
      return problem("E0307", "`concat` needs equal sizes on every axis but the joined one", {
        label: `${showShape(first.shape)} and ${showShape(input.shape)} are joined on axis ${axis}`,
      });
    }
    joined = add(joined, axisOf(input, axis));
  }
  return { shape: first.shape.with(axis, joined), dtype: first.dtype };
}

export function slice([x]: Inputs, { axis, start, size }: OpAttrs["slice"]): Ruled {
  const data = given(x);
  const wrong = outside("slice", data, [axis]);
  if (wrong) return wrong;
  const left = sub(axisOf(data, axis), add(start, size)); // what remains behind the slice
  if ((isKnown(start) && start < 0) || (isKnown(size) && size < 1) || (isKnown(left) && left < 0)) {
    return problem("E0309", `a slice must lie inside its axis`, {
      label: `${showSize(size)} elements from ${showSize(start)} on, of ${showSize(axisOf(data, axis))}`,
    });
  }
  return { shape: data.shape.with(axis, size), dtype: data.dtype };
}

export function pad([x]: Inputs, { axis, before, after }: OpAttrs["pad"]): Ruled {
  const data = given(x);
  const wrong = outside("pad", data, [axis]) ?? atLeastOne("pad", [before, after], 0);
  return wrong ?? { shape: data.shape.with(axis, add(axisOf(data, axis), before + after)), dtype: data.dtype };
}

// ------------------------------------------------------------------------------------------------------- shared pieces

export function problem(
  code: string,
  message: string,
  parts: DiagnosticParts & { readonly helps?: string[] },
): ShapeProblem {
  return { code, message, label: parts.label ?? "", notes: parts.notes ?? [], helps: parts.helps ?? [] };
}

/** Arity is checked before any rule runs; a hole here is a mistake of the compiler. */
export function given(type: TensorType | undefined): TensorType {
  if (type === undefined) throw new Error("internal: a shape rule ran with too few inputs");
  return type;
}

/** The size of an axis that is known to exist; negative axes count from the end. */
export function axisOf(type: TensorType, axis: number): Size {
  const size = type.shape.at(axis);
  if (size === undefined) throw new Error(`internal: ${showType(type)} has no axis ${axis}`);
  return size;
}

function four(type: TensorType): readonly [Size, Size, Size, Size] {
  return [axisOf(type, 0), axisOf(type, 1), axisOf(type, 2), axisOf(type, 3)];
}

function mixedTypes(types: Inputs): ShapeProblem | undefined {
  const [first, ...rest] = types;
  const other = rest.find((t) => t.dtype !== first?.dtype);
  if (first === undefined || other === undefined) return undefined;
  return problem("E0330", "these tensors differ in their element types", {
    label: `${first.dtype} and ${other.dtype}`,
    helps: [`\`cast(${first.dtype})\` on one of them`],
  });
}

function atLeastOne(what: string, values: readonly number[], least = 1): ShapeProblem | undefined {
  const bad = values.find((v) => !Number.isInteger(v) || v < least);
  if (bad === undefined) return undefined;
  return problem("E0314", `\`${what}\` is a whole number of at least ${least}`, { label: `${what} is ${bad}` });
}

/** The number of axes that an operator's signature asks for. */
export function signature(
  op: string,
  wanted: string,
  got: TensorType,
  axes: number,
  least: "at least" | "" = "",
): ShapeProblem | undefined {
  const count = got.shape.length;
  if (least === "" ? count === axes : count >= axes) return undefined;
  const number = `${least === "" ? "" : "at least "}${axes} ${axes === 1 ? "axis" : "axes"}`;
  return problem("E0310", `\`${op}\` takes \`${wanted}\`, but gets ${showType(got)}`, {
    label: `${number} wanted, ${count} given`,
  });
}

/** A parameter of one axis whose length is given by another input. */
export function vector(op: string, wanted: string, got: TensorType, length: Size): ShapeProblem | undefined {
  if (got.shape.length === 1 && equal(axisOf(got, 0), length)) return undefined;
  return problem("E0310", `\`${op}\` takes \`${wanted}\`, but gets ${showType(got)}`, {
    label: `${showShape([length])} is wanted here`,
  });
}

/** Axes must exist and be named once. */
function outside(op: string, type: TensorType, axes: readonly number[]): ShapeProblem | undefined {
  const rank = type.shape.length;
  const missing = axes.find((axis) => !Number.isInteger(axis) || axis < 0 || axis >= rank);
  if (missing !== undefined) {
    return problem("E0309", `\`${op}\` names an axis that is not there`, {
      label: `${showType(type)} has ${rank} ${rank === 1 ? "axis" : "axes"}, counted from 0; there is no axis ${missing}`,
    });
  }
  if (new Set(axes).size === axes.length) return undefined;
  return problem("E0309", `\`${op}\` names an axis twice`, { label: `axes ${axes.join(", ")}` });
}

function broadcast(symbol: string, left: TensorType, right: TensorType): Ruled {
  const rank = Math.max(left.shape.length, right.shape.length);
  const shape: Size[] = [];
  const clashes: string[] = [];
  for (let axis = 0; axis < rank; axis++) {
    const a = left.shape[left.shape.length - rank + axis] ?? 1;
    const b = right.shape[right.shape.length - rank + axis] ?? 1;
    if (a !== 1 && b !== 1 && !equal(a, b)) clashes.push(`axis ${axis}: ${showSize(a)} and ${showSize(b)}`);
    shape.push(a === 1 ? b : a);
  }
  if (clashes.length === 0) return { shape, dtype: left.dtype };
  return problem("E0301", `\`${symbol}\` needs shapes that broadcast, and these do not`, {
    label: clashes.join(";  "),
    notes: [`${showType(left)} on the left, ${showType(right)} on the right`],
    helps: [...projection(left.shape, right.shape), ...missingOnes(left.shape, right.shape)],
  });
}

/** A residual sum past a stride or a change of channels: the larger image has to be brought to the smaller one. */
function projection(a: readonly Size[], b: readonly Size[]): string[] {
  if (a.length !== 4 || b.length !== 4) return [];
  const stride = ratio(a[2], b[2]);
  const channels = stride !== undefined && stride < 1 ? b[1] : a[1];
  if (stride === undefined || stride !== ratio(a[3], b[3]) || channels === undefined) return [];
  const by = Math.max(stride, 1 / stride);
  if (!Number.isInteger(by)) return [];
  const step = by === 1 ? "" : `, stride=${by}`;
  return [
    "a skip past a stride or a change of channels needs a projection: " +
      `\`skip = x -> Conv(${showSize(channels)}, k=1${step}) -> BatchNorm\``,
  ];
}

/** How much longer the second of two sizes is than the first; undefined if that is not a number. */
function ratio(a: Size | undefined, b: Size | undefined): number | undefined {
  if (a === undefined || b === undefined) return undefined;
  if (equal(a, b)) return 1;
  const up = divExact(b, a);
  const down = divExact(a, b);
  if (up !== undefined && isKnown(up)) return up;
  return down !== undefined && isKnown(down) ? 1 / down : undefined;
}

/** A gate `[N, C]` against a map `[N, C, H, W]`: broadcasting is from the right, so the map's last axes must be named. */
function missingOnes(a: readonly Size[], b: readonly Size[]): string[] {
  const [short, long] = a.length < b.length ? [a, b] : [b, a];
  if (short.length === long.length || short.length < 2) return [];
  if (!short.every((size, i) => equal(size, long[i] ?? -1))) return [];
  const filled = [...short, ...long.slice(short.length).map(() => 1)];
  return [`shapes are matched from the right: \`reshape(…, ${showShape(filled)})\` matches from the left`];
}

type Two<T> = readonly [T, T];

function windows(
  image: TensorType,
  outer: Two<Size>,
  sizes: Two<Size>,
  k: Two<Size>,
  stride: Two<number>,
  pad: Two<number>,
  dilation: Two<number>,
  helps: string[],
): Ruled {
  const along = (i: 0 | 1): Size => {
    const span = add(mul(dilation[i], sub(k[i], 1)), 1);
    const steps = floorDiv(sub(add(sizes[i], 2 * pad[i]), span), stride[i]);
    if (steps === undefined) throw new Error("internal: a stride below 1");
    return add(steps, 1);
  };
  const result = [along(0), along(1)];
  if (result.every((size) => !isKnown(size) || size >= 1)) return { shape: [...outer, ...result], dtype: image.dtype };
  const by = (two: readonly Size[]): string => two.map(showSize).join("x");
  const shown = result.map((size) => (isKnown(size) ? Math.max(0, size) : size));
  return problem("E0306", "the window does not fit", {
    label: `${article(by(k))} window on ${article(by(sizes))} image: the result would be ${by(shown)}`,
    helps,
  });
}

function article(text: string): string {
  return `${/^(8|11x|18x)/.test(text) ? "an" : "a"} ${text}`;
}
