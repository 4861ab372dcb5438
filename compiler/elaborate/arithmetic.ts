/**
 * Operators: arithmetic on numbers, sizes and tensors, comparisons, and `×`.
 *
 * Comparisons of open sizes have three answers: yes, no, and "it depends". Whoever needs a yes or no says so (E0315).
 */
import type { Binary, BinaryOp, Expr, Node, Times, Unary } from "../../grammar/ast.ts";
import type { Span } from "../../grammar/source.ts";
import type { BinaryFn } from "../scalar.ts";
import { add, divExact, equal, mod, mul, type Size, showSize, sub } from "../size.ts";
import { evaluate } from "./core.ts";
import { constant, type Draft, emit } from "./draft.ts";
import { fail, spanOf, textOf } from "./failure.ts";
import { streamsOf } from "./layers.ts";
import { describe, type Use } from "./types.ts";
import {
  type Context,
  isCompound,
  isLayer,
  isSequence,
  isSize,
  isTensor,
  sizeOf,
  sizeValue,
  type Value,
} from "./values.ts";

// ---------------------------------------------------------------------------------------------------------- yes and no

/** The truth of a condition; open sizes in it are E0315. */
export function truth(expr: Expr, context: Context): boolean {
  const answer = decide(expr, context);
  if (answer !== undefined) return answer;
  return fail(context, "E0315", "this depends on a size that is open", expr, {
    label: "must be known while compiling",
    helps: ["fix the input's size, or `--bind` the name on the command line"],
  });
}

/** Yes, no, or undefined where open sizes leave it undecided. */
export function decide(expr: Expr, context: Context): boolean | undefined {
  if (expr.kind === "Group") return decide(expr.value, context);
  if (expr.kind === "Unary" && expr.op === "not") {
    const inner = decide(expr.value, context);
    return inner === undefined ? undefined : !inner;
  }
  if (expr.kind === "Binary") {
    if (expr.op === "or" || expr.op === "and") {
      const decisive = expr.op === "or";
      const left = decide(expr.left, context);
      if (left === decisive) return decisive;
      const right = decide(expr.right, context);
      if (right === decisive) return decisive;
      return left === undefined || right === undefined ? undefined : !decisive;
    }
    if (isComparison(expr.op))
      return compare(expr.op, evaluate(expr.left, context), evaluate(expr.right, context), expr, context);
  }
  const value = evaluate(expr, context);
  if (typeof value === "boolean") return value;
  return fail(context, "E0331", `a condition is \`true\` or \`false\`, this is ${describe(value)}`, expr);
}

type Comparison = "==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "is";

function isComparison(op: BinaryOp): op is Comparison {
  return (
    op === "==" || op === "!=" || op === "<" || op === "<=" || op === ">" || op === ">=" || op === "in" || op === "is"
  );
}

function compare(op: Comparison, a: Value, b: Value, expr: Binary, context: Context): boolean | undefined {
  switch (op) {
    case "==":
    case "is":
      return same(a, b);
    case "!=": {
      const equality = same(a, b);
      return equality === undefined ? undefined : !equality;
    }
    case "in": {
      if (isCompound(b) && b.kind === "range") {
        const low = compare(">=", a, b.from, expr, context);
        const high = compare("<=", a, b.to, expr, context);
        return low === undefined || high === undefined ? undefined : low && high;
      }
      if (!isSequence(b))
        return fail(context, "E0331", `\`in\` looks into a list or a range, this is ${describe(b)}`, expr.right);
      return b.items.some((item) => same(a, item) === true);
    }
    default: {
      if (!isSize(a) || !isSize(b)) {
        return fail(context, "E0331", `\`${op}\` compares numbers, not ${describe(isSize(a) ? b : a)}`, expr);
      }
      const { low, high } = bounds(sub(sizeOf(a), sizeOf(b)));
      if (op === "<") return high < 0 ? true : low >= 0 ? false : undefined;
      if (op === "<=") return high <= 0 ? true : low > 0 ? false : undefined;
      if (op === ">") return low > 0 ? true : high <= 0 ? false : undefined;
      return low >= 0 ? true : high < 0 ? false : undefined;
    }
  }
}

/** Equality of values; undefined where it depends on open sizes. */
function same(a: Value, b: Value): boolean | undefined {
  if (isSize(a) && isSize(b)) {
    if (equal(sizeOf(a), sizeOf(b))) return true;
    const { low, high } = bounds(sub(sizeOf(a), sizeOf(b)));
    return low > 0 || high < 0 ? false : undefined;
  }
  if (isSequence(a) && isSequence(b)) {
    if (a.items.length !== b.items.length) return false;
    const answers = new Set(a.items.map((item, i) => same(item, b.items[i] ?? null)));
    return answers.has(false) ? false : answers.has(undefined) ? undefined : true;
  }
  if (isCompound(a) && isCompound(b)) {
    if (a.kind === "position" && b.kind === "position") return a.path === b.path;
    if (a.kind === "dtype" && b.kind === "dtype") return a.name === b.name;
    if (a.kind === "block" && b.kind === "block") return a.declaration === b.declaration;
  }
  return a === b;
}

/** What an open size can be, every name being at least 1. */
function bounds(size: Size): { readonly low: number; readonly high: number } {
  if (typeof size === "number") return { low: size, high: size };
  let low = 0;
  let high = 0;
  for (const term of size.terms) {
    const least = term.atoms.some((atom) => atom.kind === "floor") ? 0 : 1;
    if (term.atoms.length === 0) {
      low += term.coefficient;
      high += term.coefficient;
    } else if (term.coefficient > 0) {
      low += term.coefficient * least;
      high = Infinity;
    } else {
      low = -Infinity;
      high += term.coefficient * least;
    }
  }
  return { low, high };
}

// ----------------------------------------------------------------------------------------------------------- arithmetic

export function unary(expr: Unary, context: Context): Value {
  if (expr.op === "not") return !truth(expr.value, context);
  const value = evaluate(expr.value, context);
  if (isTensor(value)) return emit("unary", [value], { fn: "neg" }, { context, node: expr });
  if (isSize(value)) return sizeValue(mul(sizeOf(value), -1));
  return fail(context, "E0331", `\`-\` needs a number or a tensor, this is ${describe(value)}`, expr.value);
}

const ELEMENTWISE: Partial<Record<BinaryOp, BinaryFn>> = { "+": "add", "-": "sub", "*": "mul", "/": "div", "^": "pow" };

export function binary(expr: Binary, context: Context): Value {
  const { op } = expr;
  if (op === "or" || op === "and" || isComparison(op)) return truth(expr, context);
  const a = evaluate(expr.left, context);
  const b = evaluate(expr.right, context);
  if (op === "*" && isNetwork(a) !== isNetwork(b) && (typeof a === "number" || typeof b === "number"))
    return times(expr, a, b, context);
  if (isNetwork(a) || isNetwork(b)) return layerInArithmetic(expr, a, b, context);
  if (isTensor(a) || isTensor(b)) {
    const fn = ELEMENTWISE[op];
    if (fn === undefined) return fail(context, "E0331", `\`${op}\` is for numbers, not for tensors`, expr);
    return elementwise(fn, a, b, { context, node: expr, operands: [expr.left, expr.right] });
  }
  if (op === "+" && typeof a === "string" && typeof b === "string") return a + b;
  if (op === "+" && isSequence(a) && isSequence(b)) return { ...a, items: [...a.items, ...b.items] };
  if (!isSize(a) || !isSize(b)) {
    return fail(context, "E0331", `\`${op}\` needs numbers or tensors, not ${describe(isSize(a) ? b : a)}`, expr);
  }
  return sizeArithmetic(op, a, b, expr, context);
}

function sizeArithmetic(op: BinaryOp, left: Value, right: Value, expr: Binary, context: Context): Value {
  if (!isSize(left) || !isSize(right)) throw new Error("internal: sizes were checked");
  const a = sizeOf(left);
  const b = sizeOf(right);
  switch (op) {
    case "+":
      return sizeValue(add(a, b));
    case "-":
      return sizeValue(sub(a, b));
    case "*":
      return sizeValue(mul(a, b));
    case "/": {
      if (b === 0) return fail(context, "E0331", "a division by zero", expr);
      if (typeof a === "number" && typeof b === "number") return a / b;
      const quotient = divExact(a, b);
      return quotient === undefined ? undecidedDivision(a, b, expr, context) : sizeValue(quotient);
    }
    case "%": {
      if (b === 0) return fail(context, "E0331", "a division by zero", expr);
      if (typeof a === "number" && typeof b === "number") return ((a % b) + b) % b;
      const rest = mod(a, b);
      return rest === undefined ? undecidedDivision(a, b, expr, context) : sizeValue(rest);
    }
    case "^": {
      if (typeof a === "number" && typeof b === "number") return a ** b;
      if (typeof b === "number" && Number.isInteger(b) && b >= 0 && b <= 16) {
        return sizeValue(Array.from({ length: b }, () => a).reduce<Size>(mul, 1));
      }
      return fail(context, "E0316", `\`${textOf(context, expr)}\` has no whole value for an open size`, expr);
    }
    default:
      throw new Error(`internal: \`${op}\` is no arithmetic`);
  }
}

function undecidedDivision(a: Size, b: Size, expr: Binary, context: Context): never {
  return fail(context, "E0316", `nothing says that ${showSize(a)} is a multiple of ${showSize(b)}`, expr, {
    label: "must come out whole for every size",
    helps: [`say it of the model: \`where (${showSize(a)}) % ${showSize(b)} == 0\``.replace(/\((\w+)\)/, "$1")],
  });
}

/** An elementwise operation of tensors and numbers, broadcasting from the right; folded if both are numbers. */
export function elementwise(fn: BinaryFn, a: Value, b: Value, use: Use): Value {
  const { context, node } = use;
  const operand = (value: Value): Draft => {
    if (isTensor(value)) return value;
    if (typeof value === "number") return constant(value, isTensor(a) ? a.dtype : isTensor(b) ? b.dtype : "f32", use);
    if (isSize(value)) {
      return fail(context, "E0316", `${showSize(sizeOf(value))} must be a number here`, node, {
        label: "an open size cannot be computed with tensors",
        helps: ["fix the input's size, or `--bind` the name on the command line"],
      });
    }
    return fail(context, "E0331", `\`${fn}\` joins tensors and numbers, not ${describe(value)}`, node);
  };
  return emit("binary", [operand(a), operand(b)], { fn }, use);
}

function isNetwork(value: Value): boolean {
  return isLayer(value) || (isCompound(value) && (value.kind === "block" || value.kind === "builtin"));
}

/** Reports a layer where a tensor is meant: `x -> f + x` (E0405). */
export function layerInArithmetic(expr: Binary, a: Value, b: Value, context: Context): never {
  const side = isNetwork(a)
    ? isNetwork(b)
      ? "both sides are layers"
      : "its left side is a layer"
    : "its right side is a layer";
  const left = textOf(context, expr.left);
  const right = textOf(context, expr.right);
  const feed = feedingText(expr, context);
  return fail(context, "E0405", `\`${expr.op}\` joins two tensors, but ${side}`, expr, {
    label:
      feed === undefined
        ? "a layer gives a tensor only when it is applied"
        : `\`->\` binds less tightly than \`${expr.op}\`, so this is \`${feed} -> (${left} ${expr.op} ${right})\``,
    helps: [
      feed !== undefined && isNetwork(a)
        ? `\`(${feed} -> ${left}) ${expr.op} ${right}\`, or \`${left}(${feed}) ${expr.op} ${right}\``
        : `apply it first: \`${isNetwork(a) ? `${left}(x)` : left} ${expr.op} ${isNetwork(b) ? `${right}(x)` : right}\``,
    ],
  });
}

/** The text before the arrow that leads into `expr`, if one does. */
function feedingText(expr: Node, context: Context): string | undefined {
  const before = context.module.source.text.slice(0, expr.start);
  const match = /([\w.]+)\s*(?:->|→)\s*$/.exec(before);
  return match?.[1];
}

// -------------------------------------------------------------------------------------------------------------- streams

/** `B × n`, `n × B`, and `B * n`. */
export function times(expr: Times | Binary, a: Value, b: Value, context: Context): Value {
  const [network, count] = isNetworkLike(a) ? [a, b] : [b, a];
  const sign = { node: expr.opAt };
  if (isSize(a) && isSize(b)) {
    return fail(context, "E0408", "`×` counts streams; to multiply numbers write `*`", sign.node, {
      label: "both sides are numbers",
      helps: [
        {
          text: `\`${textOf(context, expr.left)} * ${textOf(context, expr.right)}\``,
          edits: [
            {
              span: spanOf(context, expr),
              replacement: `${textOf(context, expr.left)} * ${textOf(context, expr.right)}`,
            },
          ],
        },
      ],
    });
  }
  if (!isNetworkLike(network)) {
    return fail(
      context,
      "E0408",
      `\`×\` makes streams of a network, but this is ${describe(isSize(a) ? b : a)}`,
      expr,
      {
        helps: isTensor(a) || isTensor(b) ? ["to multiply tensors write `*`"] : [],
      },
    );
  }
  if (typeof count !== "number") {
    return fail(context, "E0409", `\`×\` needs a count, this is ${describe(count)}`, expr, {
      helps: ["`×2` for two streams"],
    });
  }
  if (!Number.isInteger(count) || count < 1 || count > 64) {
    return fail(context, "E0409", `\`×${count}\` makes ${count === 0 ? "no streams" : "no sense"}`, expr, {
      label: "a whole number from 1 to 64",
      helps: ["`×2` for two streams"],
    });
  }
  const at = { ...spanOf(context, expr), start: Math.max(expr.left.end, expr.start), end: expr.end };
  const streams = streamsOf(
    network,
    count,
    context,
    expr,
    expr.right === undefined ? spanOf(context, expr) : trimmed(at),
  );
  return streams ?? fail(context, "E0408", `\`×\` makes streams of a network, but this is ${describe(network)}`, expr);
}

function isNetworkLike(value: Value): boolean {
  return isNetwork(value) || (isSequence(value) && value.items.length > 0 && value.items.every(isNetworkLike));
}

function trimmed(span: Span): Span {
  const text = span.source.text.slice(span.start, span.end);
  return { ...span, start: span.start + (text.length - text.trimStart().length) };
}
