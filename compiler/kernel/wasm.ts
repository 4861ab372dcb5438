/**
 * L3 to WebAssembly: one kernel, one module.
 *
 * In: a kernel program whose schedule was made for the CPU. Out: the bytes of a module that imports the shared memory
 * `env.memory` and exports `run(thread, threads, scratch, p0, p1, …)`: this thread's number, how many there are, the
 * byte address of this thread's scratch memory, and the byte addresses of the arguments in binding order (u32, in i32).
 * One module so serves every layer that has an equal kernel.
 *
 * On the CPU an argument's or local array's name, used as a variable, is its byte address, and a load or store may name
 * any i32 variable that holds a byte address. Offsets that are constant become part of the instruction; so does a positive
 * constant that is added to an index, whose other part must then not be negative.
 */
import type { BinaryFn, UnaryFn } from "../scalar.ts";
import { LANES } from "./build.ts";
import type { Expr, KernelProgram, LocalArray, Stmt, Type } from "./ir.ts";
import {
  type Code,
  encodeModule,
  f32Const,
  i32Const,
  indexed,
  lane,
  memory,
  open,
  type PlainOp,
  plain,
  selectTyped,
  storeLow,
  type ValueType,
  v128Const,
  type WasmFunction,
} from "./wasm-encoder.ts";
import { type HalfFn, halfFunction } from "./wasm-half.ts";
import { isMathFn, type MathFn, mathFunction } from "./wasm-math.ts";
import { philoxFunction } from "./wasm-random.ts";

/** Functions that a module carries where a kernel needs them. */
type Helper = MathFn | HalfFn | "philox";

/** How a value of an L3 type is held. A boolean vector (`lanes`) is a mask of all ones or all zeros in each lane. */
const HELD: Record<Type, ValueType> = { i32: "i32", f32: "f32", vec4: "v128", bool: "i32" };

/** Unary functions that are instructions; the others are in wasm-math.ts. */
const UNARY: Partial<Record<UnaryFn, string>> = {
  neg: "neg",
  abs: "abs",
  sqrt: "sqrt",
  floor: "floor",
  ceil: "ceil",
};

/** Both `max` and `min` are one instruction that returns its first operand where the second is not beyond it. */
const BINARY: Record<Exclude<BinaryFn, "pow">, PlainOp> = {
  add: "f32x4.add",
  sub: "f32x4.sub",
  mul: "f32x4.mul",
  div: "f32x4.div",
  max: "f32x4.pmax",
  min: "f32x4.pmin",
};
const SCALAR_BINARY: Partial<Record<BinaryFn, PlainOp>> = {
  add: "f32.add",
  sub: "f32.sub",
  mul: "f32.mul",
  div: "f32.div",
};

/** Local arrays start on a cache line. */
const LINE = 64;

function localOffsets(locals: readonly LocalArray[]): { readonly offsets: readonly number[]; readonly bytes: number } {
  const offsets: number[] = [];
  let bytes = 0;
  for (const array of locals) {
    offsets.push(bytes);
    bytes += Math.ceil((array.size * 4) / LINE) * LINE;
  }
  return { offsets, bytes };
}

/** Bytes of scratch memory that each thread needs to run the kernel. */
export function wasmScratchBytes(program: KernelProgram): number {
  return localOffsets(program.locals).bytes;
}

interface Variable {
  readonly local: number;
  readonly type: ValueType;
}

/** Renders one function: numbers its locals, keeps scopes, and appends instructions to one list. */
class Body {
  readonly code: number[] = [];
  readonly locals: ValueType[] = [];
  private readonly parameters: number;
  private readonly free: Record<ValueType, number[]> = { i32: [], f32: [], v128: [] };
  private scopes: Map<string, Variable>[] = [new Map()];
  private readonly relaxed: boolean;
  private readonly helper: (fn: Helper) => number;
  /** Names of the arguments whose elements are halves. */
  private readonly halves: ReadonlySet<string>;

  constructor(parameters: number, relaxed: boolean, halves: ReadonlySet<string>, helper: (fn: Helper) => number) {
    this.parameters = parameters;
    this.relaxed = relaxed;
    this.halves = halves;
    this.helper = helper;
  }

  private put(...codes: Code[]): void {
    for (const code of codes) for (const byte of code) this.code.push(byte);
  }

  private allocate(type: ValueType): number {
    const reused = this.free[type].pop();
    if (reused !== undefined) return reused;
    this.locals.push(type);
    return this.parameters + this.locals.length - 1;
  }

  /** Gives a name to a local that holds a value already (a parameter). */
  bind(name: string, local: number, type: ValueType): void {
    this.scopes.at(-1)?.set(name, { local, type });
  }

  private declare(name: string, type: ValueType): number {
    const local = this.allocate(type);
    this.bind(name, local, type);
    return local;
  }

  private variable(name: string): Variable {
    for (let i = this.scopes.length - 1; i >= 0; i--) {
      const found = this.scopes[i]?.get(name);
      if (found) return found;
    }
    throw new Error(`internal: kernel uses the undeclared name ${name}`);
  }

  private scoped(work: () => void): void {
    const scope = new Map<string, Variable>();
    this.scopes.push(scope);
    work();
    this.scopes.pop();
    for (const { local, type } of scope.values()) this.free[type].push(local);
  }

  /** Declares a byte address: `base` (a parameter) plus a constant. */
  address(name: string, base: number, offset: number): void {
    this.put(indexed("local.get", base), i32Const(offset), plain("i32.add"));
    this.put(indexed("local.set", this.declare(name, "i32")));
  }

  block(statements: readonly Stmt[]): void {
    this.scoped(() => {
      for (const statement of statements) this.statement(statement);
    });
  }

  private statement(s: Stmt): void {
    switch (s.kind) {
      case "let":
      case "var": {
        this.expr(s.value);
        this.put(indexed("local.set", this.declare(s.name, isMask(s.value) ? "v128" : HELD[s.value.type])));
        return;
      }
      case "assign":
        this.expr(s.value);
        this.put(indexed("local.set", this.variable(s.name).local));
        return;
      case "store": {
        const offset = this.pointer(s.to, s.index);
        if (this.halves.has(s.to)) {
          this.storeHalves(s.value, offset);
          return;
        }
        this.expr(s.value);
        this.put(memory(s.value.type === "vec4" ? "v128.store" : "f32.store", offset));
        return;
      }
      case "for":
        this.loop(s);
        return;
      case "if":
        this.expr(s.condition);
        this.put(open("if"));
        this.block(s.then);
        if (s.otherwise.length > 0) {
          this.put(plain("else"));
          this.block(s.otherwise);
        }
        this.put(plain("end"));
        return;
      case "comment":
        return;
      case "barrier":
        throw new Error("internal: a CPU kernel cannot hold a barrier");
      case "matrix-result":
      case "matrix-load":
      case "matrix-multiply":
      case "matrix-store":
        throw new Error("internal: a CPU kernel has no matrices");
      default:
        s satisfies never;
    }
  }

  /**
   * `if (from < to) do … while (counter < to)`: the test at the end, so that one branch is taken a turn. It is unsigned,
   * because counters are never negative and may be addresses beyond 2 GiB.
   */
  private loop(s: Extract<Stmt, { kind: "for" }>): void {
    this.scoped(() => {
      this.expr(s.from);
      const from = this.allocate("i32");
      this.put(indexed("local.set", from));
      let bound: Code;
      if (s.to.kind === "const") bound = i32Const(s.to.value);
      else {
        this.expr(s.to);
        const to = this.declare(`${s.name} bound`, "i32");
        this.put(indexed("local.set", to));
        bound = indexed("local.get", to);
      }
      this.bind(s.name, from, "i32");
      const sure = s.from.kind === "const" && s.to.kind === "const" && s.from.value < s.to.value;
      if (!sure) this.put(indexed("local.get", from), bound, plain("i32.lt_u"), open("if"));
      this.put(open("loop"));
      this.block(s.body);
      this.put(indexed("local.get", from), i32Const(s.step), plain("i32.add"), indexed("local.tee", from));
      this.put(bound, plain("i32.lt_u"), indexed("br_if", 0), plain("end"));
      if (!sure) this.put(plain("end"));
    });
  }

  /** Pushes a byte address; what is returned belongs into the instruction. */
  private pointer(name: string, index: Expr): number {
    const half = this.halves.has(name);
    this.put(indexed("local.get", this.variable(name).local));
    if (index.kind === "const" && index.value >= 0) return index.value * (half ? 2 : 4);
    // An offset is added without wrapping around: what it is added to must not be below 0, as schedules see to.
    const shifted = index.kind === "int" && index.op === "add" && index.right.kind === "const" && index.right.value > 0;
    this.expr(shifted ? index.left : index);
    this.put(i32Const(half ? 1 : 2), plain("i32.shl"), plain("i32.add"));
    return shifted && index.right.kind === "const" ? index.right.value * (half ? 2 : 4) : 0;
  }

  /** One half or four from memory, as f32: a vector in either case. */
  private loadHalves(e: Extract<Expr, { kind: "load" }>): void {
    const offset = this.pointer(e.from, e.index);
    if (e.type === "vec4") this.put(memory("v128.load16x4_u", offset));
    else this.put(memory("i32.load16_u", offset), plain("i32x4.splat"));
    this.put(indexed("call", this.helper("widen_halves")));
  }

  /** Rounds a value to halves and stores them; the address is on the stack. */
  private storeHalves(value: Expr, offset: number): void {
    this.expr(value.type === "vec4" ? value : { kind: "splat", type: "vec4", value });
    this.put(indexed("call", this.helper("narrow_to_halves")));
    if (value.type !== "vec4") this.put(lane("i32x4.extract_lane", 0), memory("i32.store16", offset));
    else {
      const halves = this.allocate("v128");
      this.put(indexed("local.tee", halves), indexed("local.get", halves), plain("i16x8.narrow_i32x4_u"));
      this.put(storeLow(offset));
      this.free.v128.push(halves);
    }
  }

  private pair(left: Expr, right: Expr): void {
    this.expr(left);
    this.expr(right);
  }

  private expr(e: Expr): void {
    switch (e.kind) {
      case "const":
        this.put(e.type === "f32" ? f32Const(e.value) : i32Const(e.value));
        return;
      case "var":
        this.put(indexed("local.get", this.variable(e.name).local));
        return;
      case "builtin":
        if (e.name !== "thread" && e.name !== "threads") throw new Error(`internal: no ${e.name} on the CPU`);
        this.put(indexed("local.get", e.name === "thread" ? 0 : 1));
        return;
      case "int":
        this.int(e);
        return;
      case "compare": {
        this.pair(e.left, e.right);
        const integers = e.left.type === "i32" || e.left.type === "bool";
        if (integers) this.put(plain(({ lt: "i32.lt_s", le: "i32.le_s", eq: "i32.eq" } as const)[e.op]));
        else this.put(plain(({ lt: "f32.lt", le: "f32.le", eq: "f32.eq" } as const)[e.op]));
        return;
      }
      case "logic":
        this.pair(e.left, e.right);
        if (isMask(e)) this.put(plain(e.op === "and" ? "v128.and" : "v128.or"));
        else this.put(plain(e.op === "and" ? "i32.and" : "i32.or"));
        return;
      case "lanes":
        this.pair(e.left, e.right);
        this.put(plain(({ lt: "f32x4.lt", le: "f32x4.le", eq: "f32x4.eq" } as const)[e.op]));
        return;
      case "unary":
        this.unary(e.fn, e.type, e.value);
        return;
      case "binary":
        this.binary(e.fn, e.type, e.left, e.right);
        return;
      case "fma":
        if (e.type === "vec4" && this.relaxed) {
          this.pair(e.left, e.right);
          this.expr(e.add);
          this.put(plain("f32x4.relaxed_madd"));
          return;
        }
        this.expr(e.add);
        this.pair(e.left, e.right);
        this.put(
          plain(e.type === "vec4" ? "f32x4.mul" : "f32.mul"),
          plain(e.type === "vec4" ? "f32x4.add" : "f32.add"),
        );
        return;
      case "select":
        this.pair(e.then, e.otherwise);
        this.expr(e.condition);
        if (isMask(e.condition)) this.put(plain("v128.bitselect"));
        else this.put(selectTyped(HELD[e.type]));
        return;
      case "splat":
        if (e.value.kind === "load" && this.halves.has(e.value.from)) this.loadHalves(e.value);
        else if (e.value.kind === "load") {
          const offset = this.pointer(e.value.from, e.value.index);
          this.put(memory("v128.load32_splat", offset));
        } else if (e.value.kind === "const") this.put(v128Const(new Float32Array(4).fill(e.value.value)));
        else {
          this.expr(e.value);
          this.put(plain("f32x4.splat"));
        }
        return;
      case "vec4":
        if (e.lanes.every((value) => value.kind === "const")) {
          this.put(v128Const(Float32Array.from(e.lanes, (value) => (value.kind === "const" ? value.value : 0))));
          return;
        }
        e.lanes.forEach((value, index) => {
          this.expr(value);
          this.put(index === 0 ? plain("f32x4.splat") : lane("f32x4.replace_lane", index));
        });
        return;
      case "lane":
        this.expr(e.value);
        this.put(lane("f32x4.extract_lane", e.lane));
        return;
      case "float":
        this.expr(e.value);
        this.put(plain("f32.convert_i32_s"));
        return;
      case "broadcast":
        throw new Error("internal: no subgroups on the CPU");
      case "random":
        this.random(e);
        return;
      case "load": {
        if (this.halves.has(e.from)) {
          this.loadHalves(e);
          if (e.type === "f32") this.put(lane("f32x4.extract_lane", 0));
          return;
        }
        const offset = this.pointer(e.from, e.index);
        this.put(memory(e.type === "vec4" ? "v128.load" : "f32.load", offset));
        return;
      }
      default:
        e satisfies never;
    }
  }

  /** All in vectors, whatever the type: elements, then step and key in every lane. */
  private random(e: Extract<Expr, { kind: "random" }>): void {
    this.expr(e.element);
    this.put(plain("i32x4.splat"));
    if (e.stride !== 0) this.put(v128Const(Int32Array.from(LANES, (l) => l * e.stride)), plain("i32x4.add"));
    // Whole numbers below 2^24: nothing saturates.
    const [step, low, high] = e.counters.map((value) => (): void => {
      this.expr({ kind: "splat", type: "vec4", value });
      this.put(plain("i32x4.trunc_sat_f32x4_s"));
    });
    step?.();
    high?.();
    this.put(i32Const(16), plain("i32x4.shl"));
    low?.();
    this.put(plain("v128.or"), v128Const(new Int32Array(4).fill(e.key)), plain("v128.xor"));
    this.put(indexed("call", this.helper("philox")));
    if (e.type === "f32") this.put(lane("f32x4.extract_lane", 0));
  }

  private int(e: Extract<Expr, { kind: "int" }>): void {
    if (e.op === "min" || e.op === "max") {
      // Operands are cheap (locals and constants) in every schedule; they are pushed twice.
      this.pair(e.left, e.right);
      this.pair(e.left, e.right);
      this.put(plain(e.op === "min" ? "i32.lt_s" : "i32.gt_s"), plain("select"));
      return;
    }
    this.pair(e.left, e.right);
    const ops = { add: "i32.add", sub: "i32.sub", mul: "i32.mul", div: "i32.div_u", rem: "i32.rem_u" } as const;
    this.put(plain(ops[e.op]));
  }

  /** Runs vector instructions on a scalar: in lane 0 of a vector. */
  private widened(type: "f32" | "vec4", values: readonly Expr[], operate: () => void): void {
    for (const value of values) {
      if (type === "vec4") this.expr(value);
      else this.expr({ kind: "splat", type: "vec4", value });
    }
    operate();
    if (type === "f32") this.put(lane("f32x4.extract_lane", 0));
  }

  private unary(fn: UnaryFn, type: "f32" | "vec4", value: Expr): void {
    const instruction = UNARY[fn];
    if (instruction !== undefined) {
      this.expr(value);
      this.put(plain(`${type === "vec4" ? "f32x4" : "f32"}.${instruction}` as PlainOp));
    } else if (fn === "rsqrt") {
      const one: Expr = { kind: "const", type: "f32", value: 1 };
      const root: Expr = { kind: "unary", type, fn: "sqrt", value };
      this.binary("div", type, type === "vec4" ? { kind: "splat", type: "vec4", value: one } : one, root);
    } else if (fn === "is_finite") {
      // |x| < ∞ is false for a NaN too.
      const infinity: Expr = { kind: "const", type: "f32", value: Number.POSITIVE_INFINITY };
      this.expr({ kind: "unary", type, fn: "abs", value });
      this.expr(type === "vec4" ? { kind: "splat", type, value: infinity } : infinity);
      if (type === "f32") this.put(plain("f32.lt"), plain("f32.convert_i32_s"));
      else this.put(plain("f32x4.lt"), v128Const(new Float32Array(4).fill(1)), plain("v128.and"));
    } else if (fn === "half") {
      this.widened(type, [value], () => {
        for (const conversion of ["narrow_to_halves", "widen_halves"] as const)
          this.put(indexed("call", this.helper(conversion)));
      });
    } else if (isMathFn(fn)) this.widened(type, [value], () => this.put(indexed("call", this.helper(fn))));
    else throw new Error(`internal: ${fn} is composed of other functions before it reaches a kernel`);
  }

  private binary(fn: BinaryFn, type: "f32" | "vec4", left: Expr, right: Expr): void {
    const scalar = SCALAR_BINARY[fn];
    if (fn === "pow") this.widened(type, [left, right], () => this.put(indexed("call", this.helper("pow"))));
    else if (type === "f32" && scalar !== undefined) {
      this.pair(left, right);
      this.put(plain(scalar));
    } else {
      // A constant goes second: the instruction then keeps a NaN of the other operand.
      const swap = (fn === "max" || fn === "min") && isConstant(left);
      this.widened(type, swap ? [right, left] : [left, right], () => this.put(plain(BINARY[fn])));
    }
  }
}

const isConstant = (e: Expr): boolean => e.kind === "const" || (e.kind === "splat" && e.value.kind === "const");

function isHalfFn(fn: Helper): fn is HalfFn {
  return fn === "widen_halves" || fn === "narrow_to_halves";
}

function isMask(e: Expr): boolean {
  return e.kind === "lanes" || (e.kind === "logic" && isMask(e.left));
}

/**
 * Renders a kernel for WASM.
 * @param relaxedSimd Whether the device has relaxed SIMD: products and sums then become one instruction.
 */
export function renderWasm(program: KernelProgram, relaxedSimd: boolean): Uint8Array<ArrayBuffer> {
  const functions: WasmFunction[] = [];
  const helpers = new Map<Helper, number>();
  const helper = (fn: Helper): number => {
    const known = helpers.get(fn);
    if (known !== undefined) return known;
    const made = fn === "philox" ? philoxFunction() : isHalfFn(fn) ? halfFunction(fn) : mathFunction(fn, helper);
    functions.push(made);
    helpers.set(fn, functions.length - 1);
    return functions.length - 1;
  };
  const first = 3;
  const parameters = program.args.length + first;
  const halves = new Set(program.args.filter(({ half }) => half === true).map(({ name }) => name));
  const body = new Body(parameters, relaxedSimd, halves, helper);
  program.args.forEach((argument, index) => body.bind(argument.name, first + index, "i32"));
  const { offsets } = localOffsets(program.locals);
  program.locals.forEach((array, index) => body.address(array.name, 2, offsets[index] ?? 0));
  body.block(program.body);
  functions.push({
    parameters: Array.from({ length: parameters }, () => "i32"),
    results: [],
    locals: body.locals,
    code: body.code,
  });
  return encodeModule(functions);
}
