/**
 * Expressions to values (language 5).
 *
 * In: an expression of the syntax tree and where it stands. Out: a `Value`. Evaluating a tensor expression adds nodes to
 * the graph under construction; evaluating a layer makes an instance but no nodes, they come when it is applied.
 */
import type { Call, Expr, Field, Index, Name, Pipe, PositionLit, Slice } from "../../grammar/ast.ts";
import { lineColumn, lineText } from "../../grammar/source.ts";
import { suggest } from "../../grammar/suggest.ts";
import { applyLayer, asLayer, pipeInto } from "./apply.ts";
import { binary, times, truth, unary } from "./arithmetic.ts";
import { BUILTINS, callBuiltin, floorQuotient } from "./builtins.ts";
import { callOp, instantiate, namedBlock } from "./calls.ts";
import { attempt, fail, placeOf, silent, spanOf, textOf } from "./failure.ts";
import { compose } from "./layers.ts";
import { evaluateLoop, evaluateTap, fillIn, pathText } from "./loops.ts";
import { type Binding, exportedNames, findBinding, visibleNames } from "./modules.ts";
import { evaluateArgs } from "./parameters.ts";
import { describe, isTensorType, signatureOf } from "./types.ts";
import {
  type BlockValue,
  type Context,
  type EvaluatedArg,
  instanceFor,
  isCompound,
  isLayer,
  isSequence,
  isSize,
  isTensor,
  list,
  localOf,
  newInstance,
  type Stage,
  sizeOf,
  tuple,
  UNKNOWN,
  type Value,
  type WrittenPosition,
} from "./values.ts";

/**
 * The value of `expr`. With `stage` it stands behind an arrow, where an operation waits for what arrives:
 * `x -> softmax(axis=-1)`.
 */
export function evaluate(expr: Expr, context: Context, stage = false): Value {
  switch (expr.kind) {
    case "Name":
      return evaluateName(expr, context);
    case "Number":
      return expr.value;
    case "Size":
      return tuple(expr.values);
    case "String":
    case "Bool":
      return expr.value;
    case "None":
      return null;
    case "DType":
      return { kind: "dtype", name: expr.name };
    case "PositionLit":
      return { kind: "position", path: pathText(expr.path, context) };
    case "Group":
      return evaluate(expr.value, context, stage);
    case "Tuple":
      return tuple(expr.items.map((item) => evaluate(item, context)));
    case "List":
      return list(expr.items.map((item) => evaluate(item, context)));
    case "Set":
      return { kind: "set", items: expr.items.map((item) => evaluate(item, context)) };
    case "If": {
      if (truth(expr.condition, context)) return evaluate(expr.then, context, stage);
      if (expr.else !== undefined) return evaluate(expr.else, context, stage);
      const identity = lookup(context, "Identity");
      return identity ?? fail(context, "E0201", "an `if` without `else` needs `Identity` from std/nn", expr);
    }
    case "Loop":
      return evaluateLoop(expr, context);
    case "Unary":
      return unary(expr, context);
    case "Binary":
      return binary(expr, context);
    case "Times":
      return times(expr, evaluate(expr.left, context), evaluate(expr.right, context), context);
    case "Range":
      return evaluateRange(expr.from, expr.to, context);
    case "Call":
      return evaluateCall(expr, context, stage);
    case "Slice":
      return evaluateSlice(expr, context);
    case "Index":
      return evaluateIndex(expr, context);
    case "Field":
      return evaluateField(expr, context);
    case "Tap":
      return evaluateTap(expr, context, stage);
    case "Pipe":
      return evaluatePipe(expr, context);
    case "Headline": {
      const base = evaluate(expr.value, context);
      const layer = asLayer(base, context, expr.value);
      if (layer === undefined) {
        if (expr.clauses.length === 0) return base;
        return fail(context, "E0402", `clauses belong to a network, this is ${describe(base)}`, expr.value);
      }
      const clauses = expr.clauses.map((clause) => ({ clause, context }));
      return {
        kind: "layer",
        form: "headline",
        base: layer,
        written: { expr: expr.value, module: context.module },
        clauses,
        instance: instanceFor(context, expr),
        at: spanOf(context, expr),
      };
    }
    case "Error":
      return silent();
    default:
      return expr satisfies never;
  }
}

// ---------------------------------------------------------------------------------------------------------------- names

/** What `name` stands for here: names of the body, of the file, of the prelude, built-in functions. */
export function lookup(context: Context, name: string): Value | undefined {
  for (let locals = context.locals; locals !== undefined; locals = locals.up) {
    const local = locals.names.get(name);
    if (local !== undefined) return local.value;
  }
  if (name.includes(".")) return lookupDotted(context, name);
  const binding = findBinding(context.module, name);
  if (binding !== undefined) return valueOfBinding(binding, context);
  const builtin = BUILTINS.get(name);
  return builtin === undefined ? undefined : { kind: "builtin", builtin };
}

/** `nn.Conv` where a type or a weights declaration is named by a path. */
function lookupDotted(context: Context, path: string): Value | undefined {
  const [head = "", ...fields] = path.split(".");
  let value = lookup(context, head);
  for (const field of fields) {
    if (value === undefined || !isCompound(value) || value.kind !== "namespace") return undefined;
    const binding = value.module.names.get(field);
    value = binding === undefined || binding.private ? undefined : valueOfBinding(binding, context);
  }
  return value;
}

/** Constants are evaluated the first time somebody asks, in their own file. */
function valueOfBinding(binding: Binding, context: Context): Value {
  const { cell } = binding;
  switch (cell.state.kind) {
    case "value":
      return cell.state.value;
    case "evaluating":
      return fail(
        { ...context, module: cell.module, origin: undefined },
        "E0205",
        "this constant needs its own value",
        cell.at,
      );
    case "expression": {
      const { expr } = cell.state;
      cell.state = { kind: "evaluating" };
      const inside: Context = {
        ...context,
        module: cell.module,
        locals: undefined,
        scope: "",
        owner: newInstance(),
        visits: new Map(),
        origin: undefined,
        region: undefined,
      };
      // `none` is a value too, so that only `undefined` means that it failed.
      const value = attempt(() => namedBlock(evaluate(expr, inside), inside, expr));
      cell.state = { kind: "value", value: value === undefined ? UNKNOWN : value };
      return cell.state.value;
    }
    default:
      return cell.state satisfies never;
  }
}

function evaluateName(expr: Name, context: Context): Value {
  const value = lookup(context, expr.name);
  if (value === undefined) return unknownName(expr, context);
  if (isCompound(value) && value.kind === "unknown") return silent();
  return value;
}

/** Reports a name that stands for nothing (E0201). */
export function unknownName(expr: Name, context: Context): never {
  const at = placeOf(context, expr);
  const glued = /^(\w+?)[x×](\d+)$/.exec(expr.name);
  const [, base, count] = glued ?? [];
  if (base !== undefined && count !== undefined && lookup(context, base) !== undefined) {
    return fail(context, "E0201", `nothing here is called \`${expr.name}\``, expr, {
      label: "not found",
      helps: [
        {
          text: `for two streams put a space before the count: \`${base} x${count}\` or \`${base} ×${count}\``.replace(
            "two",
            Number(count) === 2 ? "two" : count,
          ),
          edits: [{ span: at, replacement: `${base} ×${count}` }],
        },
      ],
    });
  }
  const near = suggest(expr.name, namesInScope(context));
  return fail(context, "E0201", `nothing here is called \`${expr.name}\``, expr, {
    label: "not found",
    helps: near === undefined ? [] : [{ text: `did you mean \`${near}\`?`, edits: [{ span: at, replacement: near }] }],
  });
}

function namesInScope(context: Context): readonly string[] {
  const names: string[] = [];
  for (let locals = context.locals; locals !== undefined; locals = locals.up) names.push(...locals.names.keys());
  return [...names, ...visibleNames(context.module), ...BUILTINS.keys()];
}

// ------------------------------------------------------------------------------------------------- parts of other values

function evaluateField(expr: Field, context: Context): Value {
  const of = evaluate(expr.of, context);
  if (isCompound(of) && of.kind === "namespace") {
    const binding = of.module.names.get(expr.name.name);
    if (binding !== undefined && !binding.private) {
      const value = valueOfBinding(binding, context);
      return isCompound(value) && value.kind === "unknown" ? silent() : value;
    }
    const near = suggest(expr.name.name, exportedNames(of.module));
    return fail(context, "E0201", `\`${of.module.source.path}\` has no \`${expr.name.name}\``, expr.name, {
      label: "not found",
      helps: near === undefined ? [] : [`did you mean \`${near}\`?`],
    });
  }
  return fail(
    context,
    "E0402",
    `\`.${expr.name.name}\` asks for a member of a module, but this is ${describe(of)}`,
    expr.of,
  );
}

function evaluateIndex(expr: Index, context: Context): Value {
  const of = evaluate(expr.of, context);
  const index = evaluate(expr.index, context);
  if (!isSequence(of)) {
    return fail(context, "E0331", `\`[…]\` picks from a list, but this is ${describe(of)}`, expr.of, {
      helps: isLayer(of) ? ["a part of a network is `net[..conv3]`, `net[conv3..]` or `net[conv3..conv4]`"] : [],
    });
  }
  if (typeof index !== "number")
    return fail(context, "E0331", `an index is a number, this is ${describe(index)}`, expr.index);
  const item = of.items[index < 0 ? of.items.length + index : index];
  if (item === undefined) {
    return fail(context, "E0331", `there is no item ${index}: the list has ${of.items.length}`, expr.index, {
      label: of.items.length === 0 ? "the list is empty" : `items are counted from 0 to ${of.items.length - 1}`,
    });
  }
  return item;
}

function evaluateSlice(expr: Slice, context: Context): Value {
  const of = evaluate(expr.of, context);
  if (isSequence(of) && !of.items.some(isLayer)) {
    const edge = (end: Expr | undefined, otherwise: number): number => {
      if (end === undefined) return otherwise;
      const value = evaluate(end, context);
      return typeof value === "number"
        ? value
        : fail(context, "E0331", `an index is a number, this is ${describe(value)}`, end);
    };
    return { ...of, items: of.items.slice(edge(expr.from, 0), edge(expr.to, of.items.length - 1) + 1) };
  }
  const layer = asLayer(of, context, expr.of);
  if (layer === undefined)
    return fail(context, "E0402", `only a network or a list can be cut, this is ${describe(of)}`, expr.of);
  const from = expr.from === undefined ? undefined : cutPoint(expr.from, context);
  const to = expr.to === undefined ? undefined : cutPoint(expr.to, context);
  const at = spanOf(context, expr);
  // A cut through streams is a cut through each of them.
  if (layer.form === "streams") {
    return {
      ...layer,
      members: layer.members.map((member) => ({ kind: "layer", form: "slice", of: member, from, to, at })),
    };
  }
  return { kind: "layer", form: "slice", of: layer, from, to, at };
}

/** A position in a slice is written bare: `s[..conv3]`; a name that stands for a position value is that position. */
function cutPoint(expr: Expr, context: Context): WrittenPosition {
  const at = spanOf(context, expr);
  const known = expr.kind === "Name" ? localOf(context, expr.name)?.value : undefined;
  if (known !== undefined && isCompound(known) && known.kind === "position") return { path: known.path, at };
  if (expr.kind === "PositionLit") return { path: pathText(expr.path, context), at };
  const path = writtenPath(expr, context);
  return path === undefined ? fail(context, "E0502", "a cut names a position, such as `conv3`", expr) : { path, at };
}

function writtenPath(expr: Expr, context: Context): string | undefined {
  switch (expr.kind) {
    case "Name":
      return expr.name;
    case "Field": {
      const of = writtenPath(expr.of, context);
      return of === undefined ? undefined : `${of}.${expr.name.name}`;
    }
    case "Index": {
      const of = writtenPath(expr.of, context);
      const index = evaluate(expr.index, context);
      return of === undefined || typeof index !== "number" ? undefined : `${of}[${index}]`;
    }
    case "String":
      return fillIn(expr, context);
    default:
      return undefined;
  }
}

function evaluateRange(from: Expr, to: Expr, context: Context): Value {
  const position = (expr: Expr): expr is PositionLit => expr.kind === "PositionLit";
  if (position(from) && position(to)) {
    return { kind: "position", path: `${pathText(from.path, context)}..${pathText(to.path, context)}` };
  }
  return { kind: "range", from: evaluate(from, context), to: evaluate(to, context) };
}

// ---------------------------------------------------------------------------------------------------------------- calls

function evaluateCall(expr: Call, context: Context, stage: boolean): Value {
  const callee = evaluate(expr.callee, context);
  if (isTensor(callee)) return callOfTensor(expr, context);
  if (!isCompound(callee)) return notCallable(expr, callee, context);
  switch (callee.kind) {
    case "block": {
      const args = evaluateArgs(expr.args, context);
      if (callee.declaration.keyword !== "op") return instantiate(callee, args, context, expr);
      if (stage || waits(callee, args))
        return { kind: "layer", form: "op", op: callee, args, at: spanOf(context, expr) };
      return callOp(callee, args, { context, node: expr });
    }
    case "builtin": {
      const quotient = callee.builtin.name === "floor" ? quotientIn(expr, context) : undefined;
      if (quotient !== undefined) return quotient;
      const args = evaluateArgs(expr.args, context);
      if (stage) return { kind: "layer", form: "op", op: callee, args, at: spanOf(context, expr) };
      return callBuiltin(callee.builtin, args, { context, node: expr });
    }
    case "layer": {
      const args = evaluateArgs(expr.args, context);
      const named = args.find((arg) => arg.name !== undefined);
      if (named !== undefined) {
        return fail(context, "E0401", "a layer that has its parameters takes tensors only", named.node, {
          label: "its parameters were given already",
        });
      }
      return applyLayer(
        callee,
        args.map((arg) => arg.value),
        context,
        expr,
      );
    }
    default:
      return notCallable(expr, callee, context);
  }
}

/** `floor(a / b)` of sizes: the division need not come out whole. */
function quotientIn(expr: Call, context: Context): Value | undefined {
  const [arg] = expr.args;
  if (arg === undefined || expr.args.length !== 1 || arg.value.kind !== "Binary" || arg.value.op !== "/")
    return undefined;
  const a = evaluate(arg.value.left, context);
  const b = evaluate(arg.value.right, context);
  return isSize(a) && isSize(b) ? floorQuotient(sizeOf(a), sizeOf(b), { context, node: expr }) : undefined;
}

/** True if the first input of an operation is not among the arguments: `rearrange("n c h w -> n (h w) c")`. */
function waits(op: BlockValue, args: readonly EvaluatedArg[]): boolean {
  const { params, inputs } = signatureOf(op.declaration, op.module);
  const [first] = [...(inputs ?? []), ...params];
  if (first?.type === undefined || !isTensorType(first.type, op.module)) return false;
  if (args.some((arg) => arg.name === first.name.name)) return false;
  const given = args.find((arg) => arg.name === undefined)?.value;
  if (given === undefined) return true;
  if (isSequence(given)) return !given.items.some((item) => isTensor(item));
  return !isTensor(given) && !isSize(given);
}

function notCallable(expr: Call, callee: Value, context: Context): never {
  return fail(context, "E0402", `\`${textOf(context, expr.callee)}\` cannot be called`, expr.callee, {
    label: `this is ${describe(callee)}`,
  });
}

/** `a = x` and then `(a, y) -> …` on the next line reads as a call of `x`. */
function callOfTensor(expr: Call, context: Context): never {
  const { source } = context.module;
  const { line, column } = lineColumn(source, expr.open.start);
  const begins =
    lineText(source, line)
      .slice(0, column - 1)
      .trim() === "";
  const name = textOf(context, expr.callee);
  if (!begins) {
    return fail(context, "E0402", `\`${name}\` is a tensor, it cannot be called`, expr, {
      helps: ["`->` applies a layer to a tensor: `x -> layer`"],
    });
  }
  const item = context.module.file.items.find((i) => i.start <= expr.start && expr.start < i.end);
  const owner = item?.kind === "Callable" ? `\`${item.name.name}\`` : "the block";
  return fail(context, "E0105", "`(` on a new line continues the line before", expr.open, {
    label: `this is read as a call: \`${name}${textOf(context, { start: expr.open.start, end: expr.end })}\``,
    secondary: [{ span: spanOf(context, expr.callee), text: `\`${name}\` is a tensor, it cannot be called` }],
    helps: [
      {
        text: `if this is the result of ${owner}, begin the line with \`return\``,
        edits: [{ span: { ...spanOf(context, expr.open), end: expr.open.start }, replacement: "return " }],
      },
    ],
  });
}

// ------------------------------------------------------------------------------------------------ pipelines, loops, taps

function evaluatePipe(expr: Pipe, context: Context): Value {
  const [first, ...rest] = expr.stages;
  if (first === undefined) return silent();
  const start = evaluate(first, context);
  const items = isSequence(start) ? start.items : [start];
  if (items.some(isTensor)) {
    const from = isSequence(start) ? tuple(start.items) : start;
    return rest.reduce((value, next) => pipeInto(value, evaluate(next, context, true), context, next), from);
  }
  const stages: Stage[] = [{ value: start, expr: first, module: context.module }];
  for (const next of rest) stages.push({ value: evaluate(next, context, true), expr: next, module: context.module });
  return compose(stages, context);
}
