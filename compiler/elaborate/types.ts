/**
 * Types, matched against values (language 6: "checking is elaboration").
 *
 * A bare size name that has no value yet is bound to the size that arrives; anything else is evaluated and compared. No
 * inference backwards: every message points at one value and one demand.
 */
import type { Callable, Dim, DType, Expr, NamedType, Node, Param, TensorType, Type } from "../../grammar/ast.ts";
import type { DiagnosticParts } from "../../grammar/diagnostic.ts";
import type { Span } from "../../grammar/source.ts";
import { showType } from "../graph/shapes.ts";
import { equal, type Size, showShape, showSize } from "../size.ts";
import { evaluate, lookup } from "./core.ts";
import type { Draft } from "./draft.ts";
import { madeBy } from "./explain.ts";
import { attempt, fail, failAt, isLibrary, spanOf, textOf } from "./failure.ts";
import { findBinding, type Module } from "./modules.ts";
import {
  type Context,
  isCompound,
  isLayer,
  isSequence,
  isSize,
  isTensor,
  type Local,
  list,
  sizeOf,
  sizeValue,
  type Value,
} from "./values.ts";

/** The call on whose behalf something is checked; messages point there. */
export interface Use {
  readonly context: Context;
  readonly node: Node;
  /** The operands as they are written, where there are any. */
  readonly operands?: readonly Expr[];
}

interface Signature {
  readonly params: readonly Param[];
  /** Undefined: the inputs are those of the pipeline's first stage. */
  readonly inputs: readonly Param[] | undefined;
}

const signatures = new WeakMap<Callable, Signature>();

/** Parameters and inputs of a callable: one list alone is inputs if it holds a tensor type (language 5.3). */
export function signatureOf(declaration: Callable, module: Module): Signature {
  const known = signatures.get(declaration);
  if (known !== undefined) return known;
  const [first, second] = declaration.lists;
  let signature: Signature;
  if (second !== undefined) signature = { params: first?.params ?? [], inputs: second.params };
  else if (first === undefined) signature = { params: [], inputs: undefined };
  else if (first.params.some((param) => param.type !== undefined && isTensorType(param.type, module))) {
    signature = { params: [], inputs: first.params };
  } else signature = { params: first.params, inputs: undefined };
  signatures.set(declaration, signature);
  return signature;
}

/** True for types of tensors, through aliases and lists. */
export function isTensorType(type: Type, module: Module): boolean {
  switch (type.kind) {
    case "TensorType":
      // `bool` alone is a compile-time yes or no.
      return type.dims !== undefined || type.dtype !== "bool";
    case "OptionalType":
      return isTensorType(type.type, module);
    case "UnionType":
      return type.options.some((option) => isTensorType(option, module));
    case "TupleType":
      return type.items.some((item) => isTensorType(item, module));
    case "NamedType": {
      if (nameOf(type) === "list") return type.typeArgs.some((arg) => isTensorType(arg, module));
      const binding = findBinding(module, nameOf(type));
      const value = binding?.cell.state.kind === "value" ? binding.cell.state.value : undefined;
      return (
        value !== undefined &&
        isCompound(value) &&
        value.kind === "type" &&
        isTensorType(value.declaration.type, value.module)
      );
    }
    case "LiteralType":
    case "Error":
      return false;
    default:
      return type satisfies never;
  }
}

function nameOf(type: NamedType): string {
  return type.path.segments.map((segment) => segment.name).join(".");
}

/** Follows aliases to the type they stand for, and where its names are looked up. */
export function expandType(type: Type, context: Context): { readonly type: Type; readonly context: Context } {
  if (type.kind !== "NamedType") return { type, context };
  const found = lookup(context, nameOf(type));
  if (found === undefined || !isCompound(found) || found.kind !== "type") return { type, context };
  const { declaration, module } = found;
  const names = new Map<string, Local>();
  const inside: Context = { ...context, module, locals: { names, up: undefined } };
  const args = type.args ?? [];
  const strange = args.find((arg, i) =>
    arg.name === undefined
      ? i >= declaration.params.length
      : !declaration.params.some((p) => p.name.name === arg.name?.name),
  );
  if (strange !== undefined)
    fail(context, "E0401", `\`${declaration.name.name}\` has no such parameter`, strange, { label: "unknown" });
  for (const [i, param] of declaration.params.entries()) {
    const arg =
      args.find((each) => each.name?.name === param.name.name) ?? (args[i]?.name === undefined ? args[i] : undefined);
    if (arg === undefined && param.default === undefined)
      fail(context, "E0403", `\`${declaration.name.name}\` needs \`${param.name.name}\``, type);
    const value =
      arg !== undefined
        ? evaluate(arg.value, context)
        : param.default === undefined
          ? null
          : evaluate(param.default, inside);
    names.set(param.name.name, { value, at: spanOf(inside, param.name) });
  }
  return expandType(declaration.type, inside);
}

/** Text of a type as it is written. */
export function typeText(module: Module, type: Node): string {
  return module.source.text.slice(type.start, type.end).replace(/\s+/g, " ");
}

// --------------------------------------------------------------------------------------------------------------- inputs

/** Matches an input of a callable; sizes named in its type are bound in `callee`. `name` is what the callee is called. */
export function matchInput(param: Param, value: Value, callee: Context, name: string, use: Use): void {
  if (param.type === undefined) return;
  const wanted = expandType(param.type, callee);
  let type = wanted.type;
  if (type.kind === "OptionalType") {
    if (value === null) return;
    type = type.type;
  }
  if (type.kind === "NamedType" && nameOf(type) === "list") {
    const [element] = type.typeArgs;
    if (!isSequence(value) || element === undefined) return;
    for (const item of value.items) matchTensor(param, element, item, wanted.context, callee, name, use);
    return;
  }
  matchTensor(param, type, value, wanted.context, callee, name, use);
}

function matchTensor(
  param: Param,
  type: Type,
  value: Value,
  at: Context,
  callee: Context,
  name: string,
  use: Use,
): void {
  if (type.kind !== "TensorType" || (type.dims === undefined && type.dtype === "bool")) return;
  const takes = `\`${name}\` takes \`${param.name.name}: ${typeText(callee.module, param.type ?? type)}\``;
  if (!isTensor(value)) {
    // Operations fold numbers: `sqrt(2)`.
    if (isSize(value)) return;
    fail(use.context, "E0310", `${takes}, but gets ${describe(value)}`, use.node, {
      helps: isLayer(value) ? ["apply the layer to a tensor first: `x -> layer`"] : [],
    });
  }
  matchDType(type, value, takes, use);
  if (type.dims === undefined) {
    if (value.shape.length > 0) mismatch(takes, value, "one number wanted", use);
    return;
  }
  const problem = matchDims(type.dims, value.shape, at, callee);
  if (problem !== undefined) mismatch(takes, value, problem, use);
}

function matchDType(type: TensorType, value: Draft, takes: string, use: Use): void {
  if (type.dtype === undefined || type.dtype === value.dtype) return;
  fail(use.context, "E0330", `${takes}, but gets ${showType(value)}`, use.node, {
    label: `${value.dtype} arrives where ${type.dtype} is wanted`,
    helps: [`\`x -> cast(${type.dtype})\``],
  });
}

function mismatch(takes: string, value: Draft, why: string, use: Use): never {
  const made = madeBy(value, use);
  fail(use.context, "E0310", `${takes}, but gets ${showType(value)}`, use.node, {
    label: why,
    secondary: made === undefined ? [] : [made],
    helps: why.startsWith("4 axes wanted, 2") ? ["leave out the `Flatten` before it, or use `Linear` after it"] : [],
  });
}

/** Binds and compares sizes; words for what is wrong, or undefined. Names are bound in `callee`. */
function matchDims(dims: readonly Dim[], shape: readonly Size[], at: Context, callee: Context): string | undefined {
  const rest = dims.findIndex((dim) => dim.kind === "RestDim");
  const axes = (n: number): string => `${n} ${n === 1 ? "axis" : "axes"}`;
  if (rest < 0) {
    if (dims.length !== shape.length) return `${axes(dims.length)} wanted, ${shape.length} given`;
    return firstProblem(dims, (dim, i) => matchDim(dim, shape[i] ?? 1, i, at, callee));
  }
  if (shape.length < dims.length - 1) return `at least ${axes(dims.length - 1)} wanted, ${shape.length} given`;
  const after = dims.length - rest - 1;
  const before = firstProblem(dims.slice(0, rest), (dim, i) => matchDim(dim, shape[i] ?? 1, i, at, callee));
  if (before !== undefined) return before;
  const middle = shape.slice(rest, shape.length - after);
  const dim = dims[rest];
  if (dim?.kind === "RestDim" && dim.name !== undefined) {
    const bound = callee.locals?.names.get(dim.name.name);
    const items = bound !== undefined && isSequence(bound.value) ? bound.value.items : undefined;
    if (items === undefined) bindSize(callee, dim.name.name, list(middle.map(sizeValue)), spanOf(at, dim));
    else if (
      items.length !== middle.length ||
      items.some((item, i) => !isSize(item) || !equal(sizeOf(item), middle[i] ?? 1))
    ) {
      return `\`...${dim.name.name}\` is ${showShape(items.flatMap((item) => (isSize(item) ? [sizeOf(item)] : [])))} elsewhere and ${showShape(middle)} here`;
    }
  }
  const offset = shape.length - after;
  return firstProblem(dims.slice(rest + 1), (dim, i) => matchDim(dim, shape[offset + i] ?? 1, offset + i, at, callee));
}

function firstProblem(dims: readonly Dim[], check: (dim: Dim, i: number) => string | undefined): string | undefined {
  for (const [i, dim] of dims.entries()) {
    const problem = check(dim, i);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

function matchDim(dim: Dim, size: Size, axis: number, at: Context, callee: Context): string | undefined {
  if (dim.kind !== "SizeDim") return undefined;
  const { size: expr } = dim;
  if (expr.kind === "Name" && isUnboundSize(expr.name, at)) {
    bindSize(callee, expr.name, sizeValue(size), spanOf(at, expr));
    return undefined;
  }
  const wanted = evaluateSize(expr, at);
  if (equal(wanted, size)) return undefined;
  const written = textOf(at, expr);
  const value = showSize(wanted);
  return `axis ${axis} must be ${value}${written === value ? "" : ` (\`${written}\`)`}, it is ${showSize(size)}`;
}

/** A size name that nothing in the callable or its own file gives a value to. */
function isUnboundSize(name: string, context: Context): boolean {
  for (let scope = context.locals; scope !== undefined; scope = scope.up) if (scope.names.has(name)) return false;
  return !context.module.names.has(name);
}

function bindSize(callee: Context, name: string, value: Value, at: Span): void {
  callee.locals?.names.set(name, { value, at });
}

/** The value of a size expression: a whole number or an expression of open sizes. */
export function evaluateSize(expr: Expr, context: Context): Size {
  const value = evaluate(expr, context);
  if (!isSize(value)) fail(context, "E0331", `a size is a whole number, this is ${describe(value)}`, expr);
  const size = sizeOf(value);
  if (typeof size === "number" && !Number.isInteger(size)) {
    fail(context, "E0305", `\`${textOf(context, expr)}\` is ${size}, not a whole number`, expr, {
      label: "a size is a whole number",
    });
  }
  return size;
}

// -------------------------------------------------------------------------------------------------------------- outputs

/** Why a callable returns what it does, and what to write instead. */
export interface Explanation {
  readonly at: { readonly span: Span; readonly text: string };
  readonly help: string;
}

/** Checks what a callable returns against the type after its `->` (E0320). */
export function matchOutput(
  type: Type,
  value: Value,
  callee: Context,
  name: string,
  use: Use,
  explain?: (returned: number, promised: Size | undefined) => Explanation | undefined,
): void {
  const wanted = expandType(type, callee);
  const broken = (why: string, axis?: number): never => {
    const own = !isLibrary(callee.module.source) || callee.build.program.root === callee.module.source;
    const promise = `\`${name}\` promises ${typeText(callee.module, type)} and returns ${describe(value)}`;
    return own
      ? failAt(callee, "E0320", promise, spanOf(callee, type), outputParts(why, axis))
      : fail(use.context, "E0320", promise, use.node, { label: why });
  };
  const outputParts = (why: string, axis: number | undefined): DiagnosticParts => {
    const returned = axis !== undefined && isTensor(value) ? value.shape[axis] : undefined;
    const dim = wanted.type.kind === "TensorType" && axis !== undefined ? wanted.type.dims?.[axis] : undefined;
    const promised = dim?.kind === "SizeDim" ? attempt(() => evaluateSize(dim.size, wanted.context)) : undefined;
    const found = typeof returned === "number" ? explain?.(returned, promised) : undefined;
    if (found === undefined) return { label: "promised here", notes: [why] };
    return { label: "promised here", secondary: [found.at], helps: [found.help] };
  };
  if (wanted.type.kind === "TupleType") {
    const { items } = wanted.type;
    const values = isSequence(value) ? value.items : [value];
    if (values.length !== items.length) return broken(`${items.length} values promised, ${values.length} returned`);
    for (const [i, item] of items.entries()) matchOutput(item, values[i] ?? null, wanted.context, name, use);
    return;
  }
  if (wanted.type.kind !== "TensorType") return;
  if (isSequence(value)) broken(`one value promised, ${value.items.length} returned`);
  if (!isTensor(value)) {
    if (isSize(value)) return;
    return broken("a tensor is promised");
  }
  if (wanted.type.dtype !== undefined && wanted.type.dtype !== value.dtype) {
    return broken(`${wanted.type.dtype} is promised, ${value.dtype} is returned`);
  }
  const problem = matchDims(wanted.type.dims ?? [], value.shape, wanted.context, callee);
  if (problem === undefined) return;
  const axis = /^axis (\d+)/.exec(problem)?.[1];
  broken(
    problem.replace("wanted", "promised").replace("given", "returned"),
    axis === undefined ? undefined : Number(axis),
  );
}

// ---------------------------------------------------------------------------------------------------------- declaration

/**
 * The shape and element type that a type declares for an input of the model. Names without a value become open sizes
 * by `open`. Undefined if the type leaves the number of axes open.
 */
export function declaredTensor(
  type: Type,
  context: Context,
  open: (name: string) => Size,
): { readonly shape: readonly Size[]; readonly dtype: DType } | undefined {
  const expanded = expandType(type, context);
  if (expanded.type.kind !== "TensorType") return undefined;
  const { dims = [], dtype = "f32" } = expanded.type;
  if (dims.some((dim) => dim.kind !== "SizeDim")) return undefined;
  const shape = dims.map((dim) => {
    if (dim.kind !== "SizeDim") return 1;
    const names = new Map<string, Local>();
    for (const name of freeNames(dim.size)) {
      if (isUnboundSize(name, expanded.context)) {
        names.set(name, { value: sizeValue(open(name)), at: spanOf(expanded.context, dim) });
      }
    }
    return evaluateSize(dim.size, { ...expanded.context, locals: { names, up: expanded.context.locals } });
  });
  return { shape, dtype };
}

/** Size names in an expression; names of functions that are called are not among them. */
function freeNames(expr: Expr): readonly string[] {
  switch (expr.kind) {
    case "Name":
      return [expr.name];
    case "Group":
    case "Unary":
      return freeNames(expr.value);
    case "Binary":
    case "Times":
      return [...freeNames(expr.left), ...freeNames(expr.right)];
    case "Call":
      return expr.args.flatMap((arg) => freeNames(arg.value));
    case "Index":
      return [...freeNames(expr.of), ...freeNames(expr.index)];
    default:
      return [];
  }
}

// ----------------------------------------------------------------------------------------------------------- parameters

/** A few words for a value, as messages name it. */
export function describe(value: Value): string {
  if (value === null) return "`none`";
  if (typeof value === "string") return `the text "${value}"`;
  if (typeof value === "number") return `the number ${value}`;
  if (typeof value === "boolean") return `\`${value}\``;
  switch (value.kind) {
    case "tensor":
      return showType(value);
    case "size":
      return showSize(value.size);
    case "layer":
      return "a layer";
    case "block":
      return value.declaration.keyword === "op"
        ? "an operation"
        : `the ${value.declaration.keyword} \`${value.declaration.name.name}\``;
    case "builtin":
      return `the function \`${value.builtin.name}\``;
    case "tuple":
      return value.items.every(isTensor) ? `(${value.items.map(describe).join(", ")})` : `${value.items.length} values`;
    case "list":
      return `a list of ${value.items.length}`;
    case "set":
      return `a set of ${value.items.length}`;
    case "range":
      return "a range";
    case "position":
      return `the position \`${value.path}\``;
    case "dtype":
      return `the element type ${value.name}`;
    case "init":
      return "an initialiser";
    case "namespace":
      return "a module";
    case "type":
      return "a type";
    case "declaration":
      return value.what === "weights" ? "a `weights` declaration" : `a ${value.what}`;
    case "unknown":
      return "something unknown";
    default:
      return value satisfies never;
  }
}

/** True if `value` can be given to a parameter of this type. Unknown type names accept anything. */
export function fits(type: Type, value: Value, context: Context): boolean {
  switch (type.kind) {
    case "OptionalType":
      return value === null || fits(type.type, value, context);
    case "UnionType":
      return type.options.some((option) => fits(option, value, context));
    case "LiteralType":
      return value === type.value.value;
    case "TupleType":
      return (
        isSequence(value) &&
        value.items.length === type.items.length &&
        type.items.every((item, i) => fits(item, value.items[i] ?? null, context))
      );
    case "NamedType":
      return fitsNamed(type, value, context);
    case "TensorType":
      return type.dims !== undefined || type.dtype !== "bool" || typeof value === "boolean";
    case "Error":
      return true;
    default:
      return type satisfies never;
  }
}

function fitsNamed(type: NamedType, value: Value, context: Context): boolean {
  switch (nameOf(type)) {
    case "none":
      return value === null;
    case "int":
    case "axis":
      return isSize(value) && (typeof value !== "number" || Number.isInteger(value));
    case "float":
      return isSize(value);
    case "string":
      return typeof value === "string";
    case "dtype":
      return isCompound(value) && value.kind === "dtype";
    case "position":
      return (isCompound(value) && value.kind === "position") || isSequence(value);
    case "block":
    case "unit":
      return (
        value === null ||
        isLayer(value) ||
        (isCompound(value) && (value.kind === "block" || value.kind === "builtin")) ||
        isSequence(value)
      );
    case "list": {
      const [element] = type.typeArgs;
      return isSequence(value) && (element === undefined || value.items.every((item) => fits(element, item, context)));
    }
    default: {
      const expanded = attempt(() => expandType(type, context));
      return expanded === undefined || expanded.type === type || fits(expanded.type, value, expanded.context);
    }
  }
}
