/**
 * Runs GPU kernel programs without a device: L3 as JavaScript.
 *
 * Drivers on a processor take seconds to compile a kernel with tiles in workgroup memory, so what all plans of all shapes
 * compute is found out here, from the program that WGSL is rendered from. All invocations of a workgroup advance from one
 * barrier or broadcast to the next, one after the other: a barrier that is missing shows. A write outside of its array throws; a read there
 * gives NaN, which shows where it is used. Numbers are f64 between loads and stores.
 */
import { compileFunction } from "node:vm";
import { roundToHalf } from "../../compiler/half.ts";
import type { Expr, KernelProgram, Stmt } from "../../compiler/kernel/ir.ts";
import { BINARY, COMPARE, UNARY } from "../../compiler/scalar.ts";

/**
 * How a name is reached: one value for an invocation, or a list of values of all; or the size of an array of which every
 * invocation has its own.
 */
type Names = ReadonlyMap<string, "own" | "all" | number>;

/** Runs all workgroups of a program. `memory` holds what lies behind each argument and is written to. */
export function runKernel(program: KernelProgram, memory: readonly Float32Array[]): void {
  const { args, locals, workgroups } = program;
  const run = compiled(program);
  const arrays = new Map<string, Float32Array>();
  args.forEach(({ name, size }, i) => {
    const array = memory[i];
    if (array === undefined || array.length < size)
      throw new Error(`${program.name}: too little memory behind ${name}`);
    arrays.set(name, array.subarray(0, size));
  });
  const [lx, ly, lz] = program.workgroupSize;
  for (const { name, size, private: own } of locals)
    arrays.set(name, new Float32Array(own === true ? size * lx * ly * lz : size));
  const halves = new Set([...args, ...locals].flatMap(({ name, half }) => (half === true ? [name] : [])));
  const access = accessTo(arrays, halves);
  const [x, y, z] = workgroups;
  for (let wz = 0; wz < z; wz++)
    for (let wy = 0; wy < y; wy++)
      for (let wx = 0; wx < x; wx++) {
        // What another workgroup has left is nothing to rely on.
        for (const { name } of locals) arrays.get(name)?.fill(Number.NaN);
        run(wx, wy, wz, access);
      }
}

interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly values: Float64Array;
}

type Quad = readonly [number, number, number, number];

interface Access {
  readonly read: (name: string, index: number) => number;
  readonly read4: (name: string, index: number) => Quad;
  readonly write: (name: string, index: number, value: number) => void;
  readonly write4: (name: string, index: number, value: Quad) => void;
  readonly unary: (fn: keyof typeof UNARY, value: number) => number;
  readonly unary4: (fn: keyof typeof UNARY, value: Quad) => Quad;
  readonly binary: (fn: keyof typeof BINARY, left: number, right: number) => number;
  readonly binary4: (fn: keyof typeof BINARY, left: Quad, right: Quad) => Quad;
  readonly splat: (value: number) => Quad;
  readonly fma4: (a: Quad, b: Quad, c: Quad) => Quad;
  readonly matrix: (rows: number, columns: number) => Matrix;
  readonly load: (
    name: string,
    index: number,
    stride: number,
    rows: number,
    columns: number,
    linesAreRows: boolean,
  ) => Matrix;
  readonly multiply: (left: Matrix, right: Matrix, to: Matrix) => void;
  readonly store: (name: string, index: number, stride: number, matrix: Matrix) => void;
  readonly choose: (op: "lt" | "le" | "eq", left: Quad, right: Quad, a: Quad, b: Quad) => Quad;
}

function accessTo(arrays: ReadonlyMap<string, Float32Array>, halves: ReadonlySet<string>): Access {
  const stored = (name: string, value: number): number => (halves.has(name) ? roundToHalf(value) : value);
  const at = (name: string, index: number, width: number): Float32Array => {
    const array = arrays.get(name);
    if (array === undefined) throw new Error(`there is no array ${name}`);
    if (!Number.isInteger(index)) throw new Error(`${name}[${index}]`);
    if (width === 4 && index % 4 !== 0) throw new Error(`${name}[${index}] is no whole vector`);
    return array;
  };
  const into = (name: string, index: number, width: number): Float32Array => {
    const array = at(name, index, width);
    if (index < 0 || index + width > array.length)
      throw new Error(`${name}[${index}] is outside of ${array.length} elements`);
    return array;
  };
  const none = Number.NaN;
  return {
    read: (name, index) => at(name, index, 1)[index] ?? none,
    read4: (name, index) => {
      const array = at(name, index, 4);
      return [array[index] ?? none, array[index + 1] ?? none, array[index + 2] ?? none, array[index + 3] ?? none];
    },
    write: (name, index, value) => {
      into(name, index, 1)[index] = stored(name, value);
    },
    write4: (name, index, value) =>
      into(name, index, 4).set(
        value.map((one) => stored(name, one)),
        index,
      ),
    unary: (fn, value) => UNARY[fn].value(value),
    unary4: (fn, [x, y, z, w]) => {
      const of = UNARY[fn].value;
      return [of(x), of(y), of(z), of(w)];
    },
    binary: (fn, left, right) => BINARY[fn].value(left, right),
    binary4: (fn, l, r) => {
      const of = BINARY[fn].value;
      return [of(l[0], r[0]), of(l[1], r[1]), of(l[2], r[2]), of(l[3], r[3])];
    },
    splat: (value) => [value, value, value, value],
    fma4: (a, b, c) => [a[0] * b[0] + c[0], a[1] * b[1] + c[1], a[2] * b[2] + c[2], a[3] * b[3] + c[3]],
    matrix: (rows, columns) => ({ rows, columns, values: new Float64Array(rows * columns) }),
    load: (name, index, stride, rows, columns, linesAreRows) => {
      const array = at(name, index, 1);
      const values = Float64Array.from({ length: rows * columns }, (_, i) => {
        const [row, column] = [Math.trunc(i / columns), i % columns];
        return array[index + (linesAreRows ? row * stride + column : column * stride + row)] ?? none;
      });
      return { rows, columns, values };
    },
    multiply: (left, right, to) => {
      for (let row = 0; row < to.rows; row++)
        for (let column = 0; column < to.columns; column++) {
          let sum = to.values[row * to.columns + column] ?? none;
          for (let k = 0; k < left.columns; k++)
            sum += (left.values[row * left.columns + k] ?? none) * (right.values[k * right.columns + column] ?? none);
          to.values[row * to.columns + column] = sum;
        }
    },
    store: (name, index, stride, { rows, columns, values }) => {
      for (let row = 0; row < rows; row++)
        for (let column = 0; column < columns; column++) {
          const place = index + row * stride + column;
          into(name, place, 1)[place] = values[row * columns + column] ?? none;
        }
    },
    choose: (op, l, r, a, b) => {
      const of = COMPARE[op].value;
      const lane = (i: 0 | 1 | 2 | 3): number => (of(l[i], r[i]) ? a[i] : b[i]);
      return [lane(0), lane(1), lane(2), lane(3)];
    },
  };
}

/** Invocations of a subgroup: as asked for, else 32, as the devices of the tests have them that do not ask, or all there are. */
function subgroupOf({ workgroupSize: [x, y, z], subgroupSize }: KernelProgram): number {
  return subgroupSize ?? Math.min(32, x * y * z);
}

function compiled(program: KernelProgram): (wx: number, wy: number, wz: number, access: Access) => void {
  const [x, y, z] = program.workgroupSize;
  const own = program.locals.filter((local) => local.private === true);
  const names = new Map(own.map(({ name, size }): [string, number] => [name, size]));
  const text = `const X = ${x}, Y = ${y}, N = ${x * y * z}, S = ${subgroupOf(program)};
const own = (index, size, t) => index < 0 || index >= size ? -4 : t * size + index;
${block(program.body, names)}`;
  return compileFunction(text, ["wx", "wy", "wz", "access"]) as ReturnType<typeof compiled>;
}

/** Whether all invocations have to come here together: some wait for others, or see what they have. */
function meets(statement: Stmt): boolean {
  switch (statement.kind) {
    case "barrier":
      return true;
    case "for":
      return statement.body.some(meets);
    case "if":
      return [...statement.then, ...statement.otherwise].some(meets);
    case "let":
    case "var":
    case "assign":
    case "store":
      return hasBroadcast(statement.value);
    default:
      return false;
  }
}

function hasBroadcast(e: Expr): boolean {
  if (e.kind === "broadcast") return true;
  return Object.values(e)
    .flat()
    .some((part) => typeof part === "object" && part !== null && "kind" in part && hasBroadcast(part as Expr));
}

/** Whether a broadcast in it depends on a variable. */
function passesOn(e: Expr, name: string, inside = false): boolean {
  if (e.kind === "var") return inside && e.name === name;
  const deeper = inside || e.kind === "broadcast";
  return Object.values(e)
    .flat()
    .some(
      (part) => typeof part === "object" && part !== null && "kind" in part && passesOn(part as Expr, name, deeper),
    );
}

/** The position of invocation `t`, as code. */
const here = (t: string): string => `t = ${t}, lx = t % X, ly = Math.trunc(t / X) % Y, lz = Math.trunc(t / (X * Y));`;

/** A block in which all invocations advance together. */
function block(body: readonly Stmt[], outer: Names): string {
  const names = new Map(outer);
  const out: string[] = [];
  const together: string[] = [];
  const flush = (): void => {
    if (together.length > 0) out.push(`for (let n = 0; n < N; n++) { const ${here("n")}`, ...together, "}");
    together.length = 0;
  };
  /** Of the first invocation, whose value is that of all. */
  const uniform = (e: Expr): string => `(() => { const ${here("0")} return ${expression(e, names)}; })()`;
  for (const s of body) {
    if (isDeclaration(s)) {
      const value = declared(s, names);
      flush();
      out.push(`const $${s.name} = new Array(N);`);
      names.set(s.name, "all");
      together.push(`$${s.name}[t] = ${value};`);
      if (meets(s)) flush();
    } else if (!meets(s)) together.push(statement(s, names));
    else {
      flush();
      switch (s.kind) {
        case "for": {
          const inner = new Map(names).set(s.name, "own");
          const name = `$${s.name}`;
          out.push(
            `for (let ${name} = ${uniform(s.from)}; ${name} < ${uniform(s.to)}; ${name} += ${s.step}) {`,
            block(s.body, inner),
            "}",
          );
          break;
        }
        case "if":
          out.push(`if (${uniform(s.condition)}) {`, block(s.then, names), "} else {", block(s.otherwise, names), "}");
          break;
        case "assign":
          if (passesOn(s.value, s.name)) throw new Error(`${s.name} changes while it is passed on`);
          together.push(statement(s, names));
          flush();
          break;
        case "store":
          together.push(statement(s, names));
          flush();
          break;
        default:
      }
    }
  }
  flush();
  return out.join("\n");
}

/** A statement of one invocation. */
function statement(s: Stmt, names: Names): string {
  const one = (e: Expr): string => expression(e, names);
  switch (s.kind) {
    case "let":
    case "var":
      throw new Error("a declaration by itself");
    case "assign":
      return `$${s.name}${names.get(s.name) === "all" ? "[t]" : ""} = ${one(s.value)};`;
    case "store":
      return `access.write${wide(s.value)}("${s.to}", ${at(s.to, one(s.index), names)}, ${one(s.value)});`;
    case "for": {
      const name = `$${s.name}`;
      const inner = new Map(names).set(s.name, "own");
      return `for (let ${name} = ${one(s.from)}, end = ${one(s.to)}; ${name} < end; ${name} += ${s.step}) {\n${alone(s.body, inner)}\n}`;
    }
    case "if":
      return `if (${one(s.condition)}) {\n${alone(s.then, names)}\n} else {\n${alone(s.otherwise, names)}\n}`;
    case "matrix-result":
    case "matrix-load":
      throw new Error("a declaration by itself");
    case "matrix-multiply": {
      const of = (name: string): string => variable(name, names);
      return `if (t % S === 0) access.multiply(${of(s.left)}, ${of(s.right)}, ${of(s.to)});`;
    }
    case "matrix-store":
      return `if (t % S === 0) access.store("${s.to}", ${one(s.index)}, ${s.stride}, ${variable(s.name, names)});`;
    case "barrier":
      throw new Error("a barrier where invocations are alone");
    case "comment":
      return "";
    default:
      return s satisfies never;
  }
}

const variable = (name: string, names: Names): string => `$${name}${names.get(name) === "all" ? "[t]" : ""}`;

type Declaration = Extract<Stmt, { kind: "let" | "var" | "matrix-result" | "matrix-load" }>;

const isDeclaration = (s: Stmt): s is Declaration =>
  s.kind === "let" || s.kind === "var" || s.kind === "matrix-result" || s.kind === "matrix-load";

/** What a name is declared with. The first invocation of a subgroup has all of its matrices, and works for the others. */
function declared(s: Declaration, names: Names): string {
  if (s.kind === "let" || s.kind === "var") return expression(s.value, names);
  const { m, n, k } = s.config;
  const first = (made: string): string => `t % S === 0 ? ${made} : undefined`;
  if (s.kind === "matrix-result") return first(`access.matrix(${m}, ${n})`);
  const [rows, columns] = s.side === "left" ? [m, k] : [k, n];
  const at = expression(s.index, names);
  return first(`access.load("${s.from}", ${at}, ${s.stride}, ${rows}, ${columns}, ${s.lines === "rows"})`);
}

/** A block of one invocation. */
function alone(body: readonly Stmt[], outer: Names): string {
  const names = new Map(outer);
  return body
    .map((s) => {
      if (!isDeclaration(s)) return statement(s, names);
      const text = `let $${s.name} = ${declared(s, names)};`;
      names.set(s.name, "own");
      return text;
    })
    .join("\n");
}

const IDENTITY: Record<string, string> = {
  "workgroup.x": "wx",
  "workgroup.y": "wy",
  "workgroup.z": "wz",
  "local.x": "lx",
  "local.y": "ly",
  "local.z": "lz",
  local: "t",
  subgroup: "t % S",
  "subgroup.number": "Math.trunc(t / S)",
};

/** An index into an array, which may be one that every invocation has for itself. */
function at(name: string, index: string, names: Names): string {
  const size = names.get(name);
  return typeof size === "number" ? `own(${index}, ${size}, t)` : index;
}

const wide = (e: Expr): string => (e.type === "vec4" ? "4" : "");

function expression(e: Expr, names: Names): string {
  const one = (inner: Expr): string => expression(inner, names);
  switch (e.kind) {
    case "const":
      return e.type === "bool" ? String(e.value !== 0) : `(${Object.is(e.value, -0) ? "-0" : e.value})`;
    case "var":
      return names.get(e.name) === "all" ? `$${e.name}[t]` : `$${e.name}`;
    case "builtin": {
      const name = IDENTITY[e.name];
      if (name === undefined) throw new Error(`a GPU has no ${e.name}`);
      return name;
    }
    case "int": {
      const [l, r] = [one(e.left), one(e.right)];
      const forms = {
        add: `(${l} + ${r})`,
        sub: `(${l} - ${r})`,
        mul: `(${l} * ${r})`,
        div: `Math.trunc(${l} / ${r})`,
        rem: `(${l} % ${r})`,
        min: `Math.min(${l}, ${r})`,
        max: `Math.max(${l}, ${r})`,
      };
      return forms[e.op];
    }
    case "compare":
      return `(${one(e.left)} ${{ lt: "<", le: "<=", eq: "===" }[e.op]} ${one(e.right)})`;
    case "logic":
      return `(${one(e.left)} ${e.op === "and" ? "&&" : "||"} ${one(e.right)})`;
    case "unary":
      return `access.unary${wide(e)}("${e.fn}", ${one(e.value)})`;
    case "binary":
      return `access.binary${wide(e)}("${e.fn}", ${one(e.left)}, ${one(e.right)})`;
    case "fma":
      return e.type === "vec4"
        ? `access.fma4(${one(e.left)}, ${one(e.right)}, ${one(e.add)})`
        : `(${one(e.left)} * ${one(e.right)} + ${one(e.add)})`;
    case "select": {
      const { condition } = e;
      return condition.kind === "lanes"
        ? `access.choose("${condition.op}", ${one(condition.left)}, ${one(condition.right)}, ${one(e.then)}, ${one(e.otherwise)})`
        : `(${one(condition)} ? ${one(e.then)} : ${one(e.otherwise)})`;
    }
    case "broadcast":
      return `(() => { const ${here(String(e.from))} return ${one(e.value)}; })()`;
    case "lanes":
      throw new Error("lanes are compared in a select only");
    case "splat":
      return `access.splat(${one(e.value)})`;
    case "vec4":
      return `[${e.lanes.map(one).join(", ")}]`;
    case "lane":
      return `${one(e.value)}[${e.lane}]`;
    case "float":
      return one(e.value);
    case "load":
      return `access.read${wide(e)}("${e.from}", ${at(e.from, one(e.index), names)})`;
    case "random":
      throw new Error("random numbers are not drawn here");
    default:
      return e satisfies never;
  }
}
