/**
 * L3 to WGSL (WebGPU Shading Language, W3C).
 *
 * One compute entry point `main` a kernel. Buffers are bound in order in group 0; an array of vec4 is counted in vec4 by
 * WGSL and in floats by L3, so indices are divided here, exactly where that is visible and by a shift elsewhere.
 */
import { PHILOX, UNIT } from "../random.ts";
import { BINARY, UNARY } from "../scalar.ts";
import { constantOf, quotient } from "./build.ts";
import type { Argument, Expr, KernelProgram, LocalArray, MatrixStmt } from "./ir.ts";
import { printBlock, type Syntax } from "./print.ts";

const LARGEST = 3.4028234663852886e38;

/**
 * A literal. WGSL has none for infinities and may assume that there are none, so the largest finite float stands for
 * them: neutral under max and min, and exp of it is 0, which is what -inf is for in masks and padding.
 */
function literal(value: number): string {
  if (Number.isNaN(value)) throw new Error("internal: a NaN constant");
  if (Object.is(value, -0)) return "-0.0";
  if (Math.abs(value) >= LARGEST) return `${value < 0 ? "-" : ""}${LARGEST}f`;
  const text = String(value);
  return /^-?\d+$/.test(text) ? `${text}.0` : `${text}f`;
}

function vec4Index(index: Expr, print: (e: Expr) => string): string {
  const exact = quotient(index, 4);
  return exact === undefined ? `${operand(print(index))} >> 2u` : print(exact);
}

/** Shifts and masks take no bare sums (WGSL, "Operator precedence"). */
function operand(text: string): string {
  return /^\w+$/.test(text) ? text : `(${text})`;
}

function syntaxOf(p: KernelProgram): Syntax {
  const halves = new Set([...p.args, ...p.locals].filter((a) => a.half === true).map((a) => a.name));
  const wide = new Set([...p.args, ...p.locals].filter((a) => a.vec4).map((a) => a.name));
  return {
    constant: (e) =>
      e.type === "bool" ? String(e.value !== 0) : e.type === "i32" ? String(e.value) : literal(e.value),
    builtin: (e) => {
      if (e.name === "local") return "i32(local_index)";
      if (e.name === "subgroup") return "i32(subgroup_lane)";
      if (e.name === "subgroup.number") return "i32(subgroup_number)";
      if (e.name === "thread" || e.name === "threads")
        throw new Error(`internal: ${p.name} asks a GPU for its ${e.name}`);
      return `i32(${e.name})`;
    },
    divide: (op, left, by) => {
      // The left side is not negative, which no shader compiler can know.
      if (!Number.isInteger(Math.log2(by))) return undefined;
      return op === "div" ? `${left} >> ${Math.log2(by)}u` : `${left} & ${by - 1}`;
    },
    unary: (e, value) => {
      const text = UNARY[e.fn].wgsl?.(value, e.type === "vec4" ? "vec4<f32>" : "f32");
      if (text === undefined) throw new Error(`internal: ${e.fn} reached a kernel uncomposed`);
      return text.startsWith("-") ? `(${text})` : text;
    },
    binary: (e, left, right) => BINARY[e.fn].wgsl(left, right),
    // Not && and ||, which are control flow: our conditions are cheap and may all be computed.
    logic: { and: "&", or: "|" },
    select: (condition, then, otherwise) => `select(${otherwise}, ${then}, ${condition})`,
    splat: (value) => `vec4<f32>(${value})`,
    vec4: (lanes) => `vec4<f32>(${lanes.join(", ")})`,
    float: (value) => `f32(${value})`,
    broadcast: (value, from) => `subgroupBroadcast(${value}, ${from}u)`,
    random: ({ type, element: at, stride, key }, element, [step, low, high]) => {
      // A conversion from i32 keeps the bits.
      const first = at.kind === "const" ? `${at.value >>> 0}u` : `u32(${element})`;
      const offsets = [0, 1, 2, 3].map((lane) => `${(lane * stride) >>> 0}u`);
      const elements = type === "vec4" ? `${first} + vec4<u32>(${offsets.join(", ")})` : first;
      return `${DRAW[type]}(${elements}, u32(${step}), (u32(${low}) | (u32(${high}) << 16u)) ^ ${key}u)`;
    },
    element: (name, type, index, print) => {
      if (!wide.has(name)) return `${name}[${print(index)}]`;
      if (type === "vec4") return `${name}[${vec4Index(index, print)}]`;
      const constant = constantOf(index);
      if (constant !== undefined) return `${name}[${constant >> 2}].${"xyzw"[constant & 3]}`;
      const at = operand(print(index));
      return `${name}[${at} >> 2u][${at} & 3]`;
    },
    loaded: (name, type, text) => (halves.has(name) ? `${type === "vec4" ? "vec4<f32>" : "f32"}(${text})` : text),
    stored: (name, type, text) => (halves.has(name) ? `${type === "vec4" ? "vec4<f16>" : "f16"}(${text})` : text),
    local: (name, mutable, value) => `${mutable ? "var" : "let"} ${name} = ${value}`,
    loop: (name, from, to, step) => `for (var ${name} = ${from}; ${name} < ${to}; ${name} += ${step})`,
    barrier: "workgroupBarrier()",
    // Places and distances are counted in an array's own elements.
    matrix: (s, print) => matrixStatement(s, print, (name) => wide.has(name)),
    end: ";",
  };
}

/**
 * Subgroup matrices as Dawn has them (`chromium_experimental_subgroup_matrix`). Their types name columns before rows. A
 * `var` without a value is zeros.
 */
function matrixStatement(s: MatrixStmt, print: (e: Expr) => string, isWide: (name: string) => boolean): string {
  const place = (name: string, index: Expr): string => `u32(${isWide(name) ? vec4Index(index, print) : print(index)})`;
  const distance = (name: string, stride: number): string => `${isWide(name) ? stride / 4 : stride}u`;
  switch (s.kind) {
    case "matrix-result":
      return `var ${s.name}: subgroup_matrix_result<${s.config.result}, ${s.config.n}, ${s.config.m}>`;
    case "matrix-load": {
      const { m, n, k, input } = s.config;
      const type = `subgroup_matrix_${s.side}<${input}, ${s.side === "left" ? `${k}, ${m}` : `${n}, ${k}`}>`;
      const order = s.lines === "rows" ? "row_major" : "col_major";
      return `let ${s.name} = subgroupMatrixLoad<${type}, ${order}>(&${s.from}, ${place(s.from, s.index)}, ${distance(s.from, s.stride)})`;
    }
    case "matrix-multiply":
      return `${s.to} = subgroupMatrixMultiplyAccumulate(${s.left}, ${s.right}, ${s.to})`;
    case "matrix-store":
      return `subgroupMatrixStore<row_major>(&${s.to}, ${place(s.to, s.index)}, ${s.name}, ${distance(s.to, s.stride)})`;
    default:
      return s satisfies never;
  }
}

/** Names of the functions that draw. */
const DRAW = { f32: "uniform_random", vec4: "uniform_random_4" } as const;

/**
 * The function that draws, as random.ts defines it. WGSL gives only the lower word of a product: the upper one is put
 * together from products of halves.
 */
function drawFunction(type: "f32" | "vec4"): readonly string[] {
  const words = type === "f32" ? "u32" : "vec4<u32>";
  const all = (value: number): string => (type === "f32" ? `${value}u` : `${words}(${value}u)`);
  const [low, high] = [PHILOX.multiplier & 0xffff, PHILOX.multiplier >>> 16];
  return [
    `fn ${DRAW[type]}(element: ${words}, step: u32, key: u32) -> ${type === "f32" ? "f32" : "vec4<f32>"} {`,
    "  var left = element;",
    `  var right = ${words}(step);`,
    "  var round_key = key;",
    `  for (var turn = 0; turn < ${PHILOX.rounds}; turn += 1) {`,
    `    let low = left & ${all(0xffff)};`,
    `    let high = left >> ${all(16)};`,
    `    let lower = low * ${high}u + ((low * ${low}u) >> ${all(16)});`,
    `    let middle = high * ${low}u + (lower & ${all(0xffff)});`,
    `    let upper = high * ${high}u + (lower >> ${all(16)}) + (middle >> ${all(16)});`,
    `    let product = left * ${PHILOX.multiplier}u;`,
    `    left = upper ^ ${words}(round_key) ^ right;`,
    "    right = product;",
    `    round_key += ${PHILOX.weyl}u;`,
    "  }",
    `  return ${type === "f32" ? "f32" : "vec4<f32>"}(left >> ${all(8)}) * ${UNIT}f;`,
    "}",
    "",
  ];
}

function arrayType(a: Argument | LocalArray): string {
  const element = "half" in a && a.half ? "f16" : "f32";
  return a.vec4 ? `array<vec4<${element}>, ${a.size / 4}>` : `array<${element}, ${a.size}>`;
}

/** What a module has to ask for. */
function enabled(p: KernelProgram, body: string): readonly string[] {
  const asks: readonly (readonly [string, boolean])[] = [
    ["f16", [...p.args, ...p.locals].some((a) => a.half === true) || /\bf16\b/.test(body)],
    ["subgroups", /\bsubgroupBroadcast\(|i32\(subgroup_(lane|number)\)/.test(body) || p.subgroupSize !== undefined],
    ["subgroup_size_control", p.subgroupSize !== undefined],
    ["chromium_experimental_subgroup_matrix", body.includes("subgroup_matrix_")],
  ];
  return asks.flatMap(([extension, is]) => (is ? [extension] : []));
}

/**
 * The WGSL module of a GPU kernel, with entry point `main`; `args[i]` is binding i of group 0.
 * Throws on programs that `verifyKernel` refuses.
 */
export function renderWGSL(p: KernelProgram): string {
  const body = printBlock(p.body, 1, syntaxOf(p)).join("\n");
  const parameters = [
    ["workgroup.", "@builtin(workgroup_id) workgroup: vec3<u32>"],
    ["local.", "@builtin(local_invocation_id) local: vec3<u32>"],
    ["local_index", "@builtin(local_invocation_index) local_index: u32"],
    ["subgroup_lane", "@builtin(subgroup_invocation_id) subgroup_lane: u32"],
    ["subgroup_number", "@builtin(subgroup_id) subgroup_number: u32"],
  ]
    .filter(([name]) => name !== undefined && body.includes(`i32(${name}`))
    .map(([, text]) => text);
  const own = p.locals.filter((a) => a.private === true);
  const shared = p.locals.filter((a) => a.private !== true);
  return [
    ...p.header.map((line) => `// ${line}`),
    "",
    ...enabled(p, body).flatMap((extension) => [`enable ${extension};`, ""]),
    ...p.args.map((a, i) => `@group(0) @binding(${i}) var<storage, ${a.access}> ${a.name}: ${arrayType(a)};`),
    ...(shared.length === 0 ? [] : ["", ...shared.map((a) => `var<workgroup> ${a.name}: ${arrayType(a)};`)]),
    "",
    ...(["f32", "vec4"] as const).flatMap((type) => (body.includes(`${DRAW[type]}(`) ? drawFunction(type) : [])),
    `@compute @workgroup_size(${p.workgroupSize.join(", ")})${p.subgroupSize === undefined ? "" : ` @subgroup_size(${p.subgroupSize})`}`,
    `fn main(${parameters.join(", ")}) {`,
    ...own.map((a) => `  var ${a.name}: ${arrayType(a)};`),
    body,
    "}",
    "",
  ].join("\n");
}

/** Words that WGSL (WGSL, "Keyword Summary" and predeclared names) or this file keeps to itself and a layer might be called. */
const RESERVED: ReadonlySet<string> = new Set(
  `alias break case const const_assert continue continuing default diagnostic discard else enable false fn for if let
  loop override requires return struct switch true var while main array atomic bool f16 f32 i32 u32 mat vec2 vec3 vec4
  ptr sampler texture abs exp log max min select fma floor ceil sqrt tanh sin cos pow workgroup local local_index
  filter final input output common module new null package part pass private protected public ref self static
  super this type union use where with yield active async attribute auto buffer class do get global goto set shared
  signed target template unless virtual volatile resource precise std namespace nil of on
  uniform_random uniform_random_4 subgroup_lane subgroup_number subgroupBroadcast row_major col_major`.split(/\s+/),
);

/** A valid identifier that recalls `name`: `spatial.fc6.weight[0:1024]` becomes `spatial_fc6_weight_0_1024`. */
export function identifier(name: string): string {
  const plain = name.replaceAll(/[^A-Za-z0-9]+/g, "_").replaceAll(/^_+|_+$/g, "");
  const word = /^[A-Za-z]/.test(plain) ? plain : `v${plain}`;
  return RESERVED.has(word) ? `${word}_` : word;
}
