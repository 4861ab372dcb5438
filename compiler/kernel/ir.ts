/**
 * L3: kernels as programs.
 *
 * What one invocation (GPU) or one thread (CPU) executes: typed expressions and about twenty kinds of statements, still
 * free of any one text syntax. `wgsl.ts` and `wasm.ts` render it. Four value types: `i32` for indices, `f32`, `vec4`
 * (four f32 lanes: `vec4<f32>` in WGSL, `v128` in WASM) and `bool`. Control flow must be uniform around barriers.
 *
 * A GPU kernel is run once per invocation of a grid of workgroups; `thread` builtins tell which. A CPU kernel is run
 * once by each of `threadCount` threads, and splits the work itself.
 */
import type { MatrixConfig } from "../capability.ts";
import type { BinaryFn, Counters, UnaryFn } from "../scalar.ts";

export type Type = "i32" | "f32" | "vec4" | "bool";

/** Identity of the invocation. CPU kernels use `thread` and `threads` only. */
export type Builtin =
  | "workgroup.x"
  | "workgroup.y"
  | "workgroup.z"
  | "local.x"
  | "local.y"
  | "local.z"
  /** Index of this invocation within its workgroup. */
  | "local"
  /** Index of this invocation within its subgroup, and the subgroup's within the workgroup: where their size is known. */
  | "subgroup"
  | "subgroup.number"
  /** CPU: this thread's number, and how many there are. */
  | "thread"
  | "threads";

export type Expr =
  | { readonly kind: "const"; readonly type: "i32" | "f32" | "bool"; readonly value: number }
  | { readonly kind: "var"; readonly type: Type; readonly name: string }
  | { readonly kind: "builtin"; readonly type: "i32"; readonly name: Builtin }
  /** i32 arithmetic; `div` and `rem` take a non-negative left side and a positive (on a GPU, constant) right side. */
  | {
      readonly kind: "int";
      readonly type: "i32";
      readonly op: "add" | "sub" | "mul" | "div" | "rem" | "min" | "max";
      readonly left: Expr;
      readonly right: Expr;
    }
  | {
      readonly kind: "compare";
      readonly type: "bool";
      readonly op: "lt" | "le" | "eq";
      readonly left: Expr;
      readonly right: Expr;
    }
  | {
      readonly kind: "logic";
      readonly type: "bool";
      readonly op: "and" | "or";
      readonly left: Expr;
      readonly right: Expr;
    }
  /** Lane-wise on vec4. */
  | { readonly kind: "unary"; readonly type: "f32" | "vec4"; readonly fn: UnaryFn; readonly value: Expr }
  | {
      readonly kind: "binary";
      readonly type: "f32" | "vec4";
      readonly fn: BinaryFn;
      readonly left: Expr;
      readonly right: Expr;
    }
  /** left · right + add. */
  | {
      readonly kind: "fma";
      readonly type: "f32" | "vec4";
      readonly left: Expr;
      readonly right: Expr;
      readonly add: Expr;
    }
  /** Scalar condition: both sides are evaluated. On vec4 with a `lanes` condition (see `lanes`) it selects lane-wise. */
  | {
      readonly kind: "select";
      readonly type: Type;
      readonly condition: Expr;
      readonly then: Expr;
      readonly otherwise: Expr;
    }
  /** Lane-wise comparison of two vec4, usable only as the condition of a vec4 `select`. */
  | {
      readonly kind: "lanes";
      readonly type: "bool";
      readonly op: "lt" | "le" | "eq";
      readonly left: Expr;
      readonly right: Expr;
    }
  | { readonly kind: "splat"; readonly type: "vec4"; readonly value: Expr }
  | { readonly kind: "vec4"; readonly type: "vec4"; readonly lanes: readonly [Expr, Expr, Expr, Expr] }
  | { readonly kind: "lane"; readonly type: "f32"; readonly value: Expr; readonly lane: 0 | 1 | 2 | 3 }
  | { readonly kind: "float"; readonly type: "f32"; readonly value: Expr }
  /**
   * GPU: the value that another invocation has here. All invocations of the workgroup, which is one subgroup, take part.
   */
  | { readonly kind: "broadcast"; readonly type: "f32"; readonly value: Expr; readonly from: number }
  /**
   * A draw of random.ts, or four: lane l's element is `element` + l · `stride` (a vec4 has a stride, an f32 has none).
   * `element`, an i32, is taken as a u32 and wraps; the counters are f32.
   */
  | {
      readonly kind: "random";
      readonly type: "f32" | "vec4";
      readonly key: number;
      readonly element: Expr;
      readonly stride: number;
      readonly counters: Counters<Expr>;
    }
  /**
   * Element `index` (counted in elements) of a buffer, a workgroup array or a scratch array; `vec4` reads four.
   * On the CPU an array's name, used as an i32 variable, is its byte address, `from` may name any i32 variable that
   * holds one, and a vector may start at any element.
   */
  | { readonly kind: "load"; readonly type: "f32" | "vec4"; readonly from: string; readonly index: Expr };

export type Stmt =
  /** An immutable local. */
  | { readonly kind: "let"; readonly name: string; readonly value: Expr }
  /** A mutable local. */
  | { readonly kind: "var"; readonly name: string; readonly value: Expr }
  | { readonly kind: "assign"; readonly name: string; readonly value: Expr }
  | { readonly kind: "store"; readonly to: string; readonly index: Expr; readonly value: Expr }
  /** `for (name = from; name < to; name += step)`; `name` is an i32, immutable inside. */
  | {
      readonly kind: "for";
      readonly name: string;
      readonly from: Expr;
      readonly to: Expr;
      readonly step: number;
      readonly body: readonly Stmt[];
    }
  | {
      readonly kind: "if";
      readonly condition: Expr;
      readonly then: readonly Stmt[];
      readonly otherwise: readonly Stmt[];
    }
  /** GPU: all invocations of the workgroup wait, workgroup memory becomes visible. */
  | { readonly kind: "barrier" }
  /**
   * Matrices that a subgroup holds together, for the hardware that multiplies them (WGSL, "Subgroup matrices"); how they lie
   * in its registers is the device's. They pass through workgroup memory, from `index` on, lines `stride` elements apart.
   * All invocations of a subgroup take part, with equal indices. A `result` is declared with zeros.
   */
  | { readonly kind: "matrix-result"; readonly name: string; readonly config: MatrixConfig }
  | {
      readonly kind: "matrix-load";
      readonly name: string;
      readonly side: "left" | "right";
      readonly config: MatrixConfig;
      readonly from: string;
      readonly index: Expr;
      readonly stride: number;
      /** What a line is. */
      readonly lines: "rows" | "columns";
    }
  /** to += left · right. */
  | { readonly kind: "matrix-multiply"; readonly left: string; readonly right: string; readonly to: string }
  /** Lines are rows. */
  | {
      readonly kind: "matrix-store";
      readonly name: string;
      readonly to: string;
      readonly index: Expr;
      readonly stride: number;
    }
  | { readonly kind: "comment"; readonly text: string };

/** A statement about a subgroup's matrices. */
export type MatrixStmt = Extract<Stmt, { kind: `matrix-${string}` }>;

/** A buffer argument. `vec4` buffers are declared as arrays of vec4 and their byte size is a multiple of 16. */
export interface Argument {
  readonly name: string;
  readonly access: "read" | "read_write";
  /** Number of elements. */
  readonly size: number;
  readonly vec4: boolean;
  /** Elements are halves (f16): a load widens them to f32, a store rounds to them. */
  readonly half?: boolean;
}

/** Workgroup memory (GPU) or per-thread scratch memory (CPU). */
export interface LocalArray {
  /** GPU: every invocation has one of its own instead. */
  readonly private?: boolean;
  readonly name: string;
  /** In elements. */
  readonly size: number;
  readonly vec4: boolean;
  /** GPU: elements are halves, as those of an argument may be. */
  readonly half?: boolean;
}

export interface KernelProgram {
  /** A valid identifier in both languages, from the layers it serves. */
  readonly name: string;
  /** First lines of the rendered text: layers, shapes, plan. */
  readonly header: readonly string[];
  /** In binding order. */
  readonly args: readonly Argument[];
  readonly locals: readonly LocalArray[];
  readonly body: readonly Stmt[];
  /** GPU: [x, y, z]; CPU: [1, 1, 1]. */
  readonly workgroupSize: readonly [number, number, number];
  /** GPU: invocations of a subgroup, where the kernel counts on it and the device has several sizes. */
  readonly subgroupSize?: number;
  /** GPU: how many workgroups; CPU: [1, 1, 1] (every thread runs once). */
  readonly workgroups: readonly [number, number, number];
}
