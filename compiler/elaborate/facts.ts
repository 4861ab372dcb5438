/**
 * `where` facts as tests (language 5.3, 6): checked at each use, in the words of the person who wrote the use.
 */
import type { Expr } from "../../grammar/ast.ts";
import { showSize } from "../size.ts";
import { decide } from "./arithmetic.ts";
import { evaluate } from "./core.ts";
import { madeBy } from "./explain.ts";
import { attempt, fail, textOf } from "./failure.ts";
import { describe, type Use } from "./types.ts";
import { type Context, isSize, isTensor, localOf, type Value } from "./values.ts";

/** Fails with E0311 where the fact does not hold, with E0316 where open sizes leave it undecided. */
export function checkFact(fact: Expr, inside: Context, name: string, use: Use): void {
  const holds = decide(fact, inside);
  if (holds === true) return;
  const text = textOf(inside, fact);
  const values = namesIn(fact).flatMap((n) => {
    const value = localOf(inside, n)?.value;
    return value === undefined ? [] : [`${n} = ${shown(value)}`];
  });
  const given = [...new Set(values)].join(", ");
  if (holds === undefined) {
    // The model itself may assume what it says of its open sizes.
    if (inside.build.assumed.has(fact)) return;
    const open = namesIn(fact).find((n) => !isClosed(localOf(inside, n)?.value));
    fail(use.context, "E0316", `\`${name}\` requires ${text}, and nothing here says so`, use.node, {
      label: given,
      helps: [
        `say it of the model: \`where ${withValues(fact, inside)}\``,
        ...(open === undefined ? [] : ["or fix the input's size"]),
      ],
    });
  }
  const made = [...(inside.locals?.names.values() ?? [])].map((local) => local.value).find(isTensor);
  const place = made === undefined || divisionIn(fact, inside) === undefined ? undefined : madeBy(made, use);
  fail(use.context, "E0311", `\`${name}\` requires ${text}`, use.node, {
    label: given + remainderOf(fact, inside),
    secondary:
      place === undefined
        ? []
        : [{ span: place.span, text: `makes ${made === undefined ? "" : `[${made.shape.map(showSize).join(", ")}]`}` }],
    helps: divisorsFor(fact, inside),
  });
}

function isClosed(value: Value | undefined): boolean {
  return value === undefined || typeof value !== "object";
}

function shown(value: Value): string {
  if (isSize(value)) return typeof value === "number" ? String(value) : showSize(value.size);
  return typeof value === "string" ? JSON.stringify(value) : describe(value);
}

/** The fact with the sizes of this use in place of the callable's own names: `C % 2 == 0` for `C % reduction == 0`. */
function withValues(fact: Expr, inside: Context): string {
  return textOf(inside, fact).replace(/[A-Za-z_]\w*'*/g, (word) => {
    const value = localOf(inside, word)?.value;
    return value !== undefined && isSize(value) ? shown(value) : word;
  });
}

function namesIn(expr: Expr): readonly string[] {
  switch (expr.kind) {
    case "Name":
      return [expr.name];
    case "Group":
    case "Unary":
      return namesIn(expr.value);
    case "Binary":
      return [...namesIn(expr.left), ...namesIn(expr.right)];
    case "Call":
      return expr.args.flatMap((arg) => namesIn(arg.value));
    case "Index":
      return namesIn(expr.of);
    default:
      return [];
  }
}

interface Division {
  readonly whole: number;
  readonly by: number;
  /** The name of the divisor, if it is one. */
  readonly name: string | undefined;
}

/** `a % b == 0` with both known. */
function divisionIn(fact: Expr, inside: Context): Division | undefined {
  if (fact.kind !== "Binary" || fact.op !== "==" || fact.left.kind !== "Binary" || fact.left.op !== "%")
    return undefined;
  const { left, right } = fact.left;
  const whole = attempt(() => evaluate(left, inside));
  const by = attempt(() => evaluate(right, inside));
  if (typeof whole !== "number" || typeof by !== "number") return undefined;
  return { whole, by, name: right.kind === "Name" ? right.name : undefined };
}

function remainderOf(fact: Expr, inside: Context): string {
  const division = divisionIn(fact, inside);
  return division === undefined ? "" : `: the remainder is ${division.whole % division.by}`;
}

function divisorsFor(fact: Expr, inside: Context): readonly string[] {
  const division = divisionIn(fact, inside);
  if (division?.name === undefined) return [];
  const divisors: number[] = [];
  for (let d = 2; d <= division.whole; d++) if (division.whole % d === 0) divisors.push(d);
  if (divisors.length === 0) return [];
  const near =
    divisors.length <= 8
      ? divisors
      : divisors
          .sort((a, b) => Math.abs(a - division.by) - Math.abs(b - division.by))
          .slice(0, 6)
          .sort((a, b) => a - b);
  const text = near.length === 1 ? `${near[0]}` : `${near.slice(0, -1).join(", ")} or ${near.at(-1)}`;
  return [`${division.name} can be ${text}`];
}
