/**
 * Loops and names: `repeat`, `each`, and `@name` (language 5.6, 5.9).
 */
import type { Expr, Loop, Path, StringLit, Tap } from "../../grammar/ast.ts";
import { parse } from "../../grammar/parser.ts";
import type { Source, Span } from "../../grammar/source.ts";
import { showSize } from "../size.ts";
import { asLayer, evaluate } from "./core.ts";
import { nameValue } from "./draft.ts";
import { fail, spanOf, spend, textOf } from "./failure.ts";
import { addTap, compose } from "./layers.ts";
import { describe } from "./types.ts";
import {
  type Context,
  isCompound,
  isSequence,
  isSize,
  isTensor,
  type Local,
  list,
  tuple,
  type Value,
} from "./values.ts";

/** Loops longer than this are mistakes; they would only run out of memory later. */
const LONGEST_LOOP = 10_000;

/** `repeat` stacks layers one after the other, `each` puts layers or values side by side. */
export function evaluateLoop(expr: Loop, context: Context): Value {
  const over = evaluate(expr.over, context);
  const items = loopItems(expr, over, context);
  const numbered =
    isCompound(over) && over.kind === "range" ? items : typeof over === "number" ? items : [...items.keys()];
  spend(context, items.length, expr.over);
  const results = items.map((item, i) => {
    const names = new Map<string, Local>();
    const values = expr.variables.length > 1 && isSequence(item) ? item.items : [item];
    if (expr.variables.length > 0 && values.length !== expr.variables.length) {
      fail(
        context,
        "E0406",
        `${expr.variables.length} names for ${values.length} ${values.length === 1 ? "value" : "values"}`,
        expr.over,
      );
    }
    for (const [j, variable] of expr.variables.entries()) {
      names.set(variable.name, { value: values[j] ?? null, at: spanOf(context, variable) });
    }
    const inside: Context = { ...context, locals: { names, up: context.locals } };
    const value = evaluate(expr.body, inside, expr.how === "repeat");
    const layer = isTensor(value) || isSequence(value) ? undefined : asLayer(value, inside, expr.body);
    if (layer === undefined) {
      if (expr.how === "each") return value;
      return fail(context, "E0402", `\`repeat\` stacks layers, but this is ${describe(value)}`, expr.body, {
        helps: ["`each` computes values side by side"],
      });
    }
    if (
      expr.how === "each" ||
      namesItself(
        expr.body,
        expr.variables.map((v) => v.name),
      )
    )
      return layer;
    const number = numbered[i];
    return addTap(layer, `[${typeof number === "number" ? number : i}]`, spanOf(context, expr.body));
  });
  if (expr.how === "each") return results.every(isTensor) ? tuple(results) : list(results);
  return compose(
    results.map((value) => ({ value, expr: expr.body, module: context.module })),
    context,
  );
}

/** What a loop runs over: `3` is 1, 2, 3; ranges include both ends. */
function loopItems(expr: Loop, over: Value, context: Context): readonly Value[] {
  if (isSequence(over)) return over.items;
  const range = isCompound(over) && over.kind === "range" ? over : { from: 1, to: over };
  const { from, to } = range;
  if (typeof from !== "number" || typeof to !== "number") {
    if (isSize(to) && isSize(from)) {
      return fail(context, "E0315", "how often a loop runs must be known while compiling", expr.over, {
        label: `\`${textOf(context, expr.over)}\` depends on the size of the input`,
        helps: ["give the count as a parameter of the block"],
      });
    }
    return fail(context, "E0331", `a loop runs over a count, a range or a list, not ${describe(over)}`, expr.over);
  }
  if (!Number.isInteger(from) || !Number.isInteger(to)) {
    return fail(context, "E0331", "a loop counts in whole numbers", expr.over, { label: `from ${from} to ${to}` });
  }
  const count = Math.max(0, to - from + 1);
  if (count > LONGEST_LOOP) {
    return fail(context, "E0206", `this loop would run ${count} times`, expr.over, {
      label: `at most ${LONGEST_LOOP} are unrolled`,
    });
  }
  return Array.from({ length: count }, (_, i) => from + i);
}

/** Whether a loop's body makes its own names out of the variable: `Conv(c) @"conv{s}_{i}"`. */
function namesItself(body: Expr, variables: readonly string[]): boolean {
  switch (body.kind) {
    case "Tap":
      if ("kind" in body.name) {
        const { value } = body.name;
        if (variables.some((name) => new RegExp(`\\{[^}]*\\b${name}\\b[^}]*\\}`).test(value))) return true;
      }
      return namesItself(body.of, variables);
    case "Pipe":
      return body.stages.some((stage) => namesItself(stage, variables));
    case "Group":
      return namesItself(body.value, variables);
    case "If":
      return namesItself(body.then, variables);
    default:
      return false;
  }
}

/** `layer @name` and `value @name`. */
export function evaluateTap(expr: Tap, context: Context, stage: boolean): Value {
  const of = evaluate(expr.of, context, stage);
  const name = "kind" in expr.name ? fillIn(expr.name, context) : expr.name.name;
  const at = spanOf(context, expr.name);
  if (isTensor(of)) {
    nameValue(context, name, of, at);
    return of;
  }
  const layer = asLayer(of, context, expr.of);
  if (layer === undefined) {
    return fail(context, "E0407", `only a layer or a tensor can be named, this is ${describe(of)}`, expr.of);
  }
  return addTap(layer, name, at);
}

const holes = new Map<string, Expr>();

/** The text of `"conv{s}_{i}"` with its `{…}` evaluated. */
export function fillIn(text: StringLit, context: Context): string {
  return text.value.replace(/\{([^{}]*)\}/g, (_, inside: string) => {
    const at: Span = spanOf(context, text);
    const expr = holes.get(inside) ?? holeExpression(inside);
    if (expr === undefined) return fail(context, "E0331", `\`{${inside}}\` is not an expression`, text);
    holes.set(inside, expr);
    // Places inside the hole are unknown; the string stands for them.
    const value = evaluate(relocate(expr, at), context);
    if (typeof value === "number" || typeof value === "string") return String(value);
    return fail(context, "E0331", `\`{${inside}}\` is ${describe(value)}; a name is made of numbers and texts`, text);
  });
}

function holeExpression(inside: string): Expr | undefined {
  const source: Source = { path: "<name>", text: `const it = ${inside}` };
  const parsed = parse(source);
  const [item] = parsed.file.items;
  return parsed.diagnostics.length === 0 && item?.kind === "Const" ? item.value : undefined;
}

function relocate(expr: Expr, at: Span): Expr {
  const { start, end } = at;
  if (expr.kind === "Binary") {
    return {
      ...expr,
      start,
      end,
      opAt: { start, end },
      left: relocate(expr.left, at),
      right: relocate(expr.right, at),
    };
  }
  return { ...expr, start, end };
}

/** `layer3[2].conv2` as text, its indices evaluated. */
export function pathText(path: Path, context: Context): string {
  return path.segments
    .map((segment) => {
      if (segment.index === undefined) return segment.name;
      if (segment.index.kind === "Every") return `${segment.name}[*]`;
      const index = evaluate(segment.index, context);
      if (!isSize(index))
        return fail(context, "E0331", `an index is a number, this is ${describe(index)}`, segment.index);
      return `${segment.name}[${typeof index === "number" ? index : showSize(index.size)}]`;
    })
    .join(".");
}
