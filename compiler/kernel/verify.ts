/**
 * The verifier of L3.
 *
 * Says what is wrong with a kernel program before any device sees it: types, scopes, arrays, and, for a GPU, the limits
 * of the capability record and the uniformity of control flow around barriers (WGSL, "Uniformity analysis"; ours is
 * coarser: a mutable variable and a loaded value never count as uniform). A fault is a bug of the schedule, not of a
 * user, so callers throw.
 */
import type { Capability, MatrixConfig, WebGPUCapability } from "../capability.ts";
import { childrenOf } from "./build.ts";
import type { Argument, Expr, KernelProgram, LocalArray, MatrixStmt, Stmt, Type } from "./ir.ts";

/** A matrix of a subgroup. */
interface Matrix {
  readonly side: "left" | "right" | "result";
  readonly config: MatrixConfig;
}

interface Local {
  readonly type: Type | Matrix;
  readonly mutable: boolean;
  readonly uniform: boolean;
}

type Scope = ReadonlyMap<string, Local>;

interface Context {
  readonly faults: string[];
  readonly arrays: ReadonlyMap<string, Argument | LocalArray>;
  readonly gpu: boolean;
  /** Invocations of the workgroup, where that is one subgroup of the device; else 0. */
  readonly subgroup: number;
  /** Whether all subgroups are of one known size, and the shapes of matrices that the device then multiplies. */
  readonly known: boolean;
  readonly matrices: readonly MatrixConfig[];
  readonly halves: boolean;
}

/** The faults of a program on a device, in words; none for a good one. */
export function verifyKernel(program: KernelProgram, capability: Capability): readonly string[] {
  const faults: string[] = [];
  const arrays = new Map<string, Argument | LocalArray>();
  for (const array of [...program.args, ...program.locals]) {
    if (arrays.has(array.name)) faults.push(`two arrays are called ${array.name}`);
    if (!Number.isInteger(array.size) || array.size <= 0) faults.push(`${array.name} has size ${array.size}`);
    if (array.vec4 && array.size % 4 !== 0) faults.push(`${array.name} is made of vec4 but has ${array.size} elements`);
    arrays.set(array.name, array);
  }
  if (capability.kind === "webgpu") checkLimits(program, capability, faults);
  const subgroup = subgroupOf(program, capability);
  const gpu = capability.kind === "webgpu";
  const known = gpu && knowsSubgroups(program, capability);
  const matrices = known ? capability.matrix : [];
  const halves = !gpu || capability.f16;
  if (!halves && [...arrays.values()].some(({ half }) => half === true)) faults.push("the device has no halves");
  checkBlock(program.body, new Map(), true, { faults, arrays, gpu, subgroup, known, matrices, halves });
  return faults;
}

/**
 * Whether all subgroups of a kernel have one size, and are whole ones along x (which Dawn asks of kernels with matrices).
 */
function knowsSubgroups({ workgroupSize, subgroupSize }: KernelProgram, { subgroups }: WebGPUCapability): boolean {
  if (subgroups === undefined || workgroupSize[0] % subgroups.max !== 0) return false;
  return subgroups.min === subgroups.max || (subgroups.sized === true && subgroupSize !== undefined);
}

function subgroupOf({ workgroupSize: [x, y, z] }: KernelProgram, capability: Capability): number {
  if (capability.kind !== "webgpu" || capability.subgroups === undefined) return 0;
  const { min, max } = capability.subgroups;
  return min === max && x * y * z === min ? min : 0;
}

function checkLimits(p: KernelProgram, { limits, subgroups }: WebGPUCapability, faults: string[]): void {
  const atMost = (what: string, value: number, limit: number): void => {
    if (value > limit) faults.push(`${what}: ${value}, the device has ${limit}`);
  };
  const [x, y, z] = p.workgroupSize;
  atMost("invocations of a workgroup", x * y * z, limits.maxComputeInvocationsPerWorkgroup);
  atMost("workgroup size in x", x, limits.maxComputeWorkgroupSizeX);
  atMost("workgroup size in y", y, limits.maxComputeWorkgroupSizeY);
  atMost("workgroup size in z", z, limits.maxComputeWorkgroupSizeZ);
  atMost("storage buffers", p.args.length, limits.maxStorageBuffersPerShaderStage);
  for (const a of p.args)
    atMost(`bytes of ${a.name}`, a.size * (a.half === true ? 2 : 4), limits.maxStorageBufferBindingSize);
  if (p.subgroupSize !== undefined) {
    const { min, max, sized } = subgroups ?? { min: 0, max: 0 };
    if (sized !== true || p.subgroupSize < min || p.subgroupSize > max)
      faults.push(`the device makes no subgroups of ${p.subgroupSize} when asked`);
  }
  const bytes = p.locals.reduce((sum, a) => sum + (a.private === true ? 0 : a.size * (a.half === true ? 2 : 4)), 0);
  atMost("bytes of workgroup memory", bytes, limits.maxComputeWorkgroupStorageSize);
  for (const [i, count] of p.workgroups.entries()) {
    atMost(`workgroups in ${"xyz"[i]}`, count, limits.maxComputeWorkgroupsPerDimension);
    if (!Number.isInteger(count) || count < 1) faults.push(`workgroups in ${"xyz"[i]}: ${count}`);
  }
}

function checkBlock(body: readonly Stmt[], outer: Scope, uniform: boolean, c: Context): void {
  const scope = new Map(outer);
  const declare = (name: string, type: Type | Matrix, mutable: boolean, isUniform: boolean): void => {
    if (scope.has(name) || c.arrays.has(name)) c.faults.push(`${name} is declared twice`);
    scope.set(name, { type, mutable, uniform: isUniform });
  };
  for (const s of body) {
    switch (s.kind) {
      case "let":
      case "var":
        check(s.value, scope, c);
        checkTogether(s.value, uniform, c);
        declare(s.name, s.value.type, s.kind === "var", s.kind === "let" && isUniform(s.value, scope));
        break;
      case "assign": {
        check(s.value, scope, c);
        checkTogether(s.value, uniform, c);
        const target = scope.get(s.name);
        if (target === undefined) c.faults.push(`${s.name} is not declared`);
        else if (!target.mutable) c.faults.push(`${s.name} is assigned but immutable`);
        else if (target.type !== s.value.type)
          c.faults.push(`${s.name}: ${typeName(target.type)} is assigned ${s.value.type}`);
        break;
      }
      case "store": {
        check(s.value, scope, c);
        checkTogether(s.value, uniform, c);
        checkElement(s.to, s.value.type, s.index, scope, c);
        const array = c.arrays.get(s.to);
        if (array !== undefined && "access" in array && array.access === "read")
          c.faults.push(`${s.to} is stored to but read-only`);
        // A store to one lane may rewrite the whole vector (WGSL, "Memory locations"), which races with its neighbours.
        if (c.gpu && array?.vec4 === true && s.value.type === "f32")
          c.faults.push(`${s.to}: one lane of a vec4 is stored`);
        break;
      }
      case "for": {
        for (const bound of [s.from, s.to]) {
          check(bound, scope, c);
          if (bound.type !== "i32") c.faults.push(`loop ${s.name}: a bound is ${bound.type}`);
        }
        if (!Number.isInteger(s.step) || s.step < 1) c.faults.push(`loop ${s.name} steps by ${s.step}`);
        if (scope.has(s.name) || c.arrays.has(s.name)) c.faults.push(`${s.name} is declared twice`);
        const even = isUniform(s.from, scope) && isUniform(s.to, scope);
        const inner = new Map(scope).set(s.name, { type: "i32", mutable: false, uniform: even });
        checkBlock(s.body, inner, uniform && even, c);
        break;
      }
      case "if":
        check(s.condition, scope, c);
        if (s.condition.type !== "bool") c.faults.push(`the condition of an if is ${s.condition.type}`);
        checkBlock(s.then, scope, uniform && isUniform(s.condition, scope), c);
        checkBlock(s.otherwise, scope, uniform && isUniform(s.condition, scope), c);
        break;
      case "barrier":
        if (c.gpu && !uniform) c.faults.push("a barrier stands in control flow that is not uniform");
        break;
      case "matrix-result":
      case "matrix-load":
      case "matrix-multiply":
      case "matrix-store": {
        if (!uniform) c.faults.push("a matrix stands in control flow that is not uniform");
        checkMatrix(s, scope, c);
        if (s.kind === "matrix-result") declare(s.name, { side: "result", config: s.config }, true, false);
        if (s.kind === "matrix-load") declare(s.name, { side: s.side, config: s.config }, false, false);
        break;
      }
      case "comment":
        break;
      default:
        s satisfies never;
    }
  }
}

const typeName = (type: Type | Matrix): string => (typeof type === "string" ? type : `a ${type.side} matrix`);

const sameMatrices = (a: MatrixConfig, b: MatrixConfig): boolean =>
  a.m === b.m && a.n === b.n && a.k === b.k && a.input === b.input && a.result === b.result;

function checkMatrix(s: MatrixStmt, scope: Scope, c: Context): void {
  const matrix = (name: string, side: Matrix["side"]): Matrix | undefined => {
    const type = scope.get(name)?.type;
    if (typeof type === "object" && type.side === side) return type;
    c.faults.push(`${name} is no ${side} matrix`);
    return undefined;
  };
  /** Lines of `width` elements in workgroup memory. */
  const lines = (
    name: string,
    index: Expr,
    stride: number,
    count: number,
    width: number,
    type: "f16" | "f32",
  ): void => {
    check(index, scope, c);
    const array = c.arrays.get(name);
    if (array === undefined || "access" in array || array.private === true)
      c.faults.push(`${name} is no workgroup memory`);
    else {
      if (array.vec4 && stride % 4 !== 0) c.faults.push(`${name}: lines ${stride} apart in an array of vec4`);
      if ((array.half === true) !== (type === "f16")) c.faults.push(`${name}: its elements are not ${type}`);
      const first = index.kind === "const" ? index.value : 0;
      if (first < 0 || first + (count - 1) * stride + width > array.size)
        c.faults.push(`${name} has no room for ${count} lines of ${width}`);
    }
    if (index.type !== "i32") c.faults.push(`${name} is indexed by ${index.type}`);
    if (!Number.isInteger(stride) || stride < width) c.faults.push(`${name}: lines of ${width} are ${stride} apart`);
  };
  switch (s.kind) {
    case "matrix-result":
    case "matrix-load":
      if (!c.matrices.some((config) => sameMatrices(config, s.config))) {
        const { m, n, k, input, result } = s.config;
        c.faults.push(`the device multiplies no ${m}x${k} by ${k}x${n} of ${input} to ${result}`);
      }
      if (s.kind === "matrix-load") {
        const { m, n, k, input } = s.config;
        const [rows, columns] = s.side === "left" ? [m, k] : [k, n];
        const [count, width] = s.lines === "rows" ? [rows, columns] : [columns, rows];
        lines(s.from, s.index, s.stride, count, width, input);
      }
      break;
    case "matrix-multiply": {
      const [left, right, to] = [matrix(s.left, "left"), matrix(s.right, "right"), matrix(s.to, "result")];
      if (left && right && to && !(sameMatrices(left.config, to.config) && sameMatrices(right.config, to.config)))
        c.faults.push(`${s.to}: matrices of different shapes are multiplied`);
      break;
    }
    case "matrix-store": {
      const config = matrix(s.name, "result")?.config;
      if (config !== undefined) lines(s.to, s.index, s.stride, config.m, config.n, config.result);
      break;
    }
    default:
      s satisfies never;
  }
}

/** What is broadcast has to be computed by all. */
function checkTogether(e: Expr, uniform: boolean, c: Context): void {
  if (uniform) return;
  if (e.kind === "broadcast") c.faults.push("a broadcast stands in control flow that is not uniform");
  for (const child of childrenOf(e)) checkTogether(child, uniform, c);
}

/** Whether all invocations of a workgroup see the same value. */
function isUniform(e: Expr, scope: Scope): boolean {
  switch (e.kind) {
    case "const":
      return true;
    case "builtin":
      return e.name.startsWith("workgroup.");
    case "var":
      return scope.get(e.name)?.uniform ?? false;
    case "load":
      return false;
    default:
      return childrenOf(e).every((child) => isUniform(child, scope));
  }
}

function check(e: Expr, scope: Scope, c: Context): void {
  for (const child of childrenOf(e)) check(child, scope, c);
  const want = (ok: boolean): void => {
    if (!ok)
      c.faults.push(
        `${e.kind}: ${childrenOf(e)
          .map((x) => x.type)
          .join(", ")} make no ${e.type}`,
      );
  };
  const all = (type: Type): boolean => childrenOf(e).every((x) => x.type === type);
  switch (e.kind) {
    case "const":
      if (e.type === "i32" && !Number.isInteger(e.value)) c.faults.push(`${e.value} is no i32`);
      if (e.type === "i32" && Math.abs(e.value) > 2147483647) c.faults.push(`${e.value} does not fit an i32`);
      break;
    case "builtin":
      if (e.name.startsWith("subgroup") && c.subgroup === 0 && !c.known)
        c.faults.push("subgroups of the device are of no known size");
      break;
    case "var": {
      // On the CPU an array's name is its byte address.
      if (!c.gpu && c.arrays.has(e.name) && e.type === "i32") break;
      const declared = scope.get(e.name);
      if (declared === undefined) c.faults.push(`${e.name} is not declared`);
      else if (declared.type !== e.type) c.faults.push(`${e.name}: ${typeName(declared.type)} is used as ${e.type}`);
      break;
    }
    case "int":
      want(all("i32"));
      // A CPU thread divides by the number of threads to find its share.
      if ((e.op === "div" || e.op === "rem") && c.gpu && !(e.right.kind === "const" && e.right.value > 0)) {
        c.faults.push(`${e.op} by something other than a positive constant`);
      }
      break;
    case "compare":
      want(e.left.type === e.right.type && (e.left.type === "i32" || e.left.type === "f32"));
      break;
    case "logic":
      want(all("bool"));
      break;
    case "unary":
      want(all(e.type));
      if (e.fn === "half" && !c.halves) c.faults.push("the device has no halves");
      break;
    case "binary":
    case "fma":
      want(all(e.type));
      break;
    case "select": {
      want(e.condition.type === "bool" && e.then.type === e.type && e.otherwise.type === e.type);
      if (e.condition.kind === "lanes" && e.type !== "vec4")
        c.faults.push("a lane-wise condition selects something other than a vec4");
      break;
    }
    case "lanes":
      want(all("vec4"));
      break;
    case "splat":
    case "vec4":
      want(all("f32"));
      break;
    case "lane":
      want(all("vec4"));
      break;
    case "float":
      want(all("i32"));
      break;
    case "broadcast":
      want(all("f32"));
      if (c.subgroup === 0) c.faults.push("the workgroup is no subgroup of the device");
      else if (!(e.from >= 0 && e.from < c.subgroup)) c.faults.push(`a subgroup has no invocation ${e.from}`);
      break;
    case "random":
      want(e.element.type === "i32" && e.counters.every((x) => x.type === "f32"));
      if ((e.type === "vec4") !== (e.stride !== 0)) c.faults.push(`random: a stride of ${e.stride} in a ${e.type}`);
      if (e.key !== e.key >>> 0) c.faults.push(`random: the key ${e.key} is no u32`);
      break;
    case "load":
      checkElement(e.from, e.type, e.index, scope, c);
      break;
    default:
      e satisfies never;
  }
}

function checkElement(name: string, type: Type, index: Expr, scope: Scope, c: Context): void {
  check(index, scope, c);
  const array = c.arrays.get(name);
  // A CPU kernel may read and write through a local that holds a byte address.
  const pointer = !c.gpu && scope.get(name)?.type === "i32";
  if (array === undefined && !pointer) c.faults.push(`there is no array ${name}`);
  else if (c.gpu && type === "vec4" && array?.vec4 === false) c.faults.push(`${name} is not made of vec4`);
  if (type !== "f32" && type !== "vec4") c.faults.push(`${name}: elements are not ${type}`);
  if (index.type !== "i32") c.faults.push(`${name} is indexed by ${index.type}`);
  if (index.kind === "const" && array !== undefined && (index.value < 0 || index.value >= array.size)) {
    c.faults.push(`${name} has no element ${index.value}`);
  }
}
