/**
 * L3 as text.
 *
 * `printKernel` writes a program in a neutral syntax for people and golden files. The walk over statements and the
 * placing of parentheses are the same for every C-like language, so `wgsl.ts` uses them too and says only what differs
 * (`Syntax`).
 */
import type { Expr, KernelProgram, MatrixStmt, Stmt } from "./ir.ts";

/** What tells one C-like language from another. Operands come as text, ready to stand between commas. */
export interface Syntax {
  readonly constant: (e: Extract<Expr, { kind: "const" }>) => string;
  readonly builtin: (e: Extract<Expr, { kind: "builtin" }>) => string;
  /** Integer division and remainder by a constant; undefined for `a / b` and `a % b`. */
  readonly divide: (op: "div" | "rem", left: string, by: number) => string | undefined;
  readonly unary: (e: Extract<Expr, { kind: "unary" }>, value: string) => string;
  /** A call or another closed expression; undefined for an infix operator. */
  readonly binary: (e: Extract<Expr, { kind: "binary" }>, left: string, right: string) => string;
  readonly logic: { readonly and: string; readonly or: string };
  readonly select: (condition: string, then: string, otherwise: string) => string;
  readonly splat: (value: string) => string;
  readonly vec4: (lanes: readonly string[]) => string;
  readonly float: (value: string) => string;
  readonly broadcast: (value: string, from: number) => string;
  readonly random: (e: Extract<Expr, { kind: "random" }>, element: string, counters: readonly string[]) => string;
  /** Element of an array; `print` gives the text of any expression. */
  readonly element: (name: string, type: "f32" | "vec4", index: Expr, print: (e: Expr) => string) => string;
  /** What is read from, and what is written to, an element: `text` in the array's own type. */
  readonly loaded: (name: string, type: "f32" | "vec4", text: string) => string;
  readonly stored: (name: string, type: "f32" | "vec4", text: string) => string;
  readonly local: (name: string, mutable: boolean, value: string) => string;
  readonly loop: (name: string, from: string, to: string, step: number) => string;
  readonly barrier: string;
  /** A statement about a subgroup's matrices; `print` gives the text of any expression. */
  readonly matrix: (s: MatrixStmt, print: (e: Expr) => string) => string;
  readonly end: string;
}

// How tightly an operator binds; a closed expression (name, call, literal) has the highest number.
const CLOSED = 9;
const PRODUCT = 5;
const SUM = 4;
const RELATION = 3;
const LOGIC = 2;

const RELATIONS = { lt: "<", le: "<=", eq: "==" } as const;
const INFIX = { add: "+", sub: "-", mul: "*", div: "/", rem: "%" } as const;

/** The text of an expression in the given syntax. */
function printExpr(e: Expr, syntax: Syntax): string {
  return print(e, syntax).text;
}

interface Printed {
  readonly text: string;
  readonly binds: number;
}

function closed(text: string): Printed {
  return { text, binds: CLOSED };
}

/** `left op right`. Sums of floats keep their grouping: it decides how they round. */
function infix(left: Printed, op: string, right: Printed, binds: number): Printed {
  const l = left.binds < binds ? `(${left.text})` : left.text;
  const r = right.binds <= binds ? `(${right.text})` : right.text;
  return { text: `${l} ${op} ${r}`, binds };
}

function print(e: Expr, syntax: Syntax): Printed {
  const walk = (x: Expr): Printed => print(x, syntax);
  const text = (x: Expr): string => print(x, syntax).text;
  switch (e.kind) {
    case "const":
      return closed(syntax.constant(e));
    case "var":
      return closed(e.name);
    case "builtin":
      return closed(syntax.builtin(e));
    case "int": {
      if (e.op === "min" || e.op === "max") return closed(`${e.op}(${text(e.left)}, ${text(e.right)})`);
      if ((e.op === "div" || e.op === "rem") && e.right.kind === "const") {
        const left = walk(e.left);
        const special = syntax.divide(e.op, left.binds < CLOSED ? `(${left.text})` : left.text, e.right.value);
        if (special !== undefined) return closed(`(${special})`);
      }
      return infix(walk(e.left), INFIX[e.op], walk(e.right), e.op === "add" || e.op === "sub" ? SUM : PRODUCT);
    }
    case "compare":
    case "lanes":
      return infix(walk(e.left), RELATIONS[e.op], walk(e.right), RELATION);
    case "logic": {
      // Everything but a chain of the same operator stands in parentheses.
      const side = (x: Expr): Printed => {
        const bare = walk(x).binds === CLOSED || (x.kind === "logic" && x.op === e.op);
        return closed(bare ? text(x) : `(${text(x)})`);
      };
      return infix(side(e.left), syntax.logic[e.op], side(e.right), LOGIC);
    }
    case "unary":
      return closed(syntax.unary(e, text(e.value)));
    case "binary": {
      if (e.fn === "add" || e.fn === "sub" || e.fn === "mul" || e.fn === "div") {
        return infix(walk(e.left), INFIX[e.fn], walk(e.right), e.fn === "add" || e.fn === "sub" ? SUM : PRODUCT);
      }
      return closed(syntax.binary(e, text(e.left), text(e.right)));
    }
    case "fma":
      return closed(`fma(${text(e.left)}, ${text(e.right)}, ${text(e.add)})`);
    case "select":
      return closed(syntax.select(text(e.condition), text(e.then), text(e.otherwise)));
    case "splat":
      return closed(syntax.splat(text(e.value)));
    case "vec4":
      return closed(syntax.vec4(e.lanes.map(text)));
    case "lane": {
      const value = walk(e.value);
      return closed(`${value.binds < CLOSED ? `(${value.text})` : value.text}.${"xyzw"[e.lane]}`);
    }
    case "float":
      return closed(syntax.float(text(e.value)));
    case "broadcast":
      return closed(syntax.broadcast(text(e.value), e.from));
    case "random":
      return closed(syntax.random(e, text(e.element), e.counters.map(text)));
    case "load":
      return closed(syntax.loaded(e.from, e.type, syntax.element(e.from, e.type, e.index, text)));
    default:
      return e satisfies never;
  }
}

/** The lines of a block, indented by `depth` steps of two blanks. */
export function printBlock(body: readonly Stmt[], depth: number, syntax: Syntax): string[] {
  const pad = "  ".repeat(depth);
  const text = (e: Expr): string => printExpr(e, syntax);
  return body.flatMap((s): string[] => {
    switch (s.kind) {
      case "let":
      case "var":
        return [`${pad}${syntax.local(s.name, s.kind === "var", text(s.value))}${syntax.end}`];
      case "assign":
        return [`${pad}${s.name} = ${text(s.value)}${syntax.end}`];
      case "store": {
        const type = s.value.type === "vec4" ? "vec4" : "f32";
        const stored = syntax.stored(s.to, type, text(s.value));
        return [`${pad}${syntax.element(s.to, type, s.index, text)} = ${stored}${syntax.end}`];
      }
      case "for":
        return [
          `${pad}${syntax.loop(s.name, text(s.from), text(s.to), s.step)} {`,
          ...printBlock(s.body, depth + 1, syntax),
          `${pad}}`,
        ];
      case "if": {
        const otherwise =
          s.otherwise.length === 0 ? [] : [`${pad}} else {`, ...printBlock(s.otherwise, depth + 1, syntax)];
        return [`${pad}if (${text(s.condition)}) {`, ...printBlock(s.then, depth + 1, syntax), ...otherwise, `${pad}}`];
      }
      case "barrier":
        return [`${pad}${syntax.barrier}${syntax.end}`];
      case "matrix-result":
      case "matrix-load":
      case "matrix-multiply":
      case "matrix-store":
        return [`${pad}${syntax.matrix(s, text)}${syntax.end}`];
      case "comment":
        return [`${pad}// ${s.text}`];
      default:
        return s satisfies never;
    }
  });
}

/** A statement about matrices in words of no language. */
function neutralMatrix(s: MatrixStmt, print: (e: Expr) => string): string {
  switch (s.kind) {
    case "matrix-result":
      return `matrix ${s.name} = zeros ${s.config.m}x${s.config.n}`;
    case "matrix-load": {
      const { m, n, k, input } = s.config;
      const shape = s.side === "left" ? `${m}x${k}` : `${k}x${n}`;
      return `matrix ${s.name} = ${s.side} ${shape} of ${input} from ${s.from}[${print(s.index)}], ${s.lines} ${s.stride} apart`;
    }
    case "matrix-multiply":
      return `${s.to} += ${s.left} * ${s.right}`;
    case "matrix-store":
      return `${s.to}[${print(s.index)}], rows ${s.stride} apart = ${s.name}`;
    default:
      return s satisfies never;
  }
}

const NEUTRAL: Syntax = {
  constant: (e) =>
    e.type === "bool"
      ? String(e.value !== 0)
      : e.type === "f32" && Number.isInteger(e.value)
        ? `${e.value}.0`
        : `${e.value}`,
  builtin: (e) => `@${e.name}`,
  divide: () => undefined,
  unary: (e, value) => `${e.fn}(${value})`,
  binary: (e, left, right) => `${e.fn}(${left}, ${right})`,
  logic: { and: "and", or: "or" },
  select: (condition, then, otherwise) => `(${condition} ? ${then} : ${otherwise})`,
  splat: (value) => `splat(${value})`,
  vec4: (lanes) => `vec4(${lanes.join(", ")})`,
  float: (value) => `float(${value})`,
  broadcast: (value, from) => `broadcast(${value}, ${from})`,
  random: (e, element, counters) =>
    `random(${element}${e.stride === 0 ? "" : ` step ${e.stride}`}, ${counters.join(", ")}, ${e.key})`,
  element: (name, type, index, print) => `${name}[${print(index)}${type === "vec4" ? " ..4" : ""}]`,
  loaded: (_name, _type, text) => text,
  stored: (_name, _type, text) => text,
  local: (name, mutable, value) => `${mutable ? "var" : "let"} ${name} = ${value}`,
  loop: (name, from, to, step) => `for ${name} in ${from} .. ${to} step ${step}`,
  barrier: "barrier",
  matrix: neutralMatrix,
  end: "",
};

/** A kernel program in the neutral syntax. */
export function printKernel(p: KernelProgram): string {
  const args = p.args.map(
    (a) =>
      `  ${a.access === "read" ? "in" : "out"} ${a.name}: ${a.vec4 ? "vec4" : "f32"}${a.half === true ? " of f16" : ""} x ${a.vec4 ? a.size / 4 : a.size}`,
  );
  const locals = p.locals.map(
    (a) =>
      `  ${a.private === true ? "private" : "local"} ${a.name}: ${a.vec4 ? "vec4" : "f32"}${a.half === true ? " of f16" : ""} x ${a.vec4 ? a.size / 4 : a.size}`,
  );
  return [
    ...p.header.map((line) => `// ${line}`),
    `kernel ${p.name} workgroup ${p.workgroupSize.join("x")}${p.subgroupSize === undefined ? "" : ` of subgroups of ${p.subgroupSize}`} grid ${p.workgroups.join("x")}`,
    ...args,
    ...locals,
    "{",
    ...printBlock(p.body, 1, NEUTRAL),
    "}",
    "",
  ].join("\n");
}
