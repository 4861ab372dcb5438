/**
 * Precedence: builds the tree of an expression from operands and operators that were read flat.
 *
 * The grammar has one rule, `operand { operator operand }`; this is where it gets its shape. Loosest first:
 * `or` · `and` · `not` · comparisons, `in`, `is` · `..` · `+ -` · `* × / %` · unary `-` · `^` (from the right).
 * Reading flat is quicker than nine nested rules, and lets a message speak of "an operator".
 */
import type { BinaryOp, Expr, Node } from "./ast.ts";

export interface Operator extends Node {
  readonly op: BinaryOp | ".." | "×";
}

export interface Prefix extends Node {
  readonly op: "-" | "not";
}

/** An operand with the signs before it, outermost first. */
export interface Operand {
  readonly prefixes: readonly Prefix[];
  readonly value: Expr;
}

const NOT = 3;
const NEGATE = 8;
const STRENGTH: Readonly<Record<Operator["op"], number>> = {
  or: 1,
  and: 2,
  "==": 4,
  "!=": 4,
  "<": 4,
  "<=": 4,
  ">": 4,
  ">=": 4,
  in: 4,
  is: 4,
  "..": 5,
  "+": 6,
  "-": 6,
  "*": 7,
  "×": 7,
  "/": 7,
  "%": 7,
  "^": 9,
};

const UNICODE_SPELLINGS: Readonly<Record<string, Operator["op"]>> = { "≠": "!=", "≤": "<=", "≥": ">=" };

function isOperator(image: string): image is Operator["op"] {
  return Object.hasOwn(STRENGTH, image);
}

/** The operator that a token's text spells. */
export function operatorOf(image: string): Operator["op"] {
  const op = UNICODE_SPELLINGS[image] ?? image;
  if (!isOperator(op)) throw new Error(`internal: ${image} is not an operator`);
  return op;
}

/** The tree of `operands[0] operators[0] operands[1] …` (one operand more than operators). */
export function buildExpression(operands: readonly Operand[], operators: readonly Operator[]): Expr {
  // Precedence climbing. `next` is the operator that would be taken next; its left operand has been read already.
  let next = 0;

  function operand(index: number, prefix: number): Expr {
    const current = operands[index];
    if (current === undefined) throw new Error("internal: an operator without its operand");
    const sign = current.prefixes[prefix];
    if (sign === undefined) return current.value;
    const value = level(index, sign.op === "not" ? NOT : NEGATE, prefix + 1);
    return { kind: "Unary", op: sign.op, value, start: sign.start, end: value.end };
  }

  /** An expression that begins with operand `index` and holds operators of at least strength `minimum`. */
  function level(index: number, minimum: number, prefix: number): Expr {
    let left = operand(index, prefix);
    for (let operator = operators[next]; operator !== undefined; operator = operators[next]) {
      const strength = STRENGTH[operator.op];
      if (strength < minimum) break;
      next++;
      const right = level(next, operator.op === "^" ? strength : strength + 1, 0);
      left = join(left, operator, right);
    }
    return left;
  }

  return level(0, 0, 0);
}

function join(left: Expr, operator: Operator, right: Expr): Expr {
  const at = { start: left.start, end: right.end };
  const opAt = { start: operator.start, end: operator.end };
  switch (operator.op) {
    case "..":
      return { kind: "Range", from: left, to: right, ...at };
    case "×":
      return { kind: "Times", opAt, left, right, ...at };
    default:
      return { kind: "Binary", op: operator.op, opAt, left, right, ...at };
  }
}
