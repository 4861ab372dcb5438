/**
 * WebAssembly binary format, as far as kernels need it.
 *
 * In: functions as lists of instruction bytes, made with the instruction builders below. Out: the bytes of a module
 * that imports one shared memory (`env.memory`) and exports one function. The format is that of the WebAssembly core
 * specification, section 5 (binary format), with the SIMD, threads and relaxed SIMD extensions.
 */

/** Value types (core specification 5.3.1). */
const VALUE_TYPE = { i32: 0x7f, f32: 0x7d, v128: 0x7b } as const;
export type ValueType = keyof typeof VALUE_TYPE;

/** Instruction bytes. */
export type Code = readonly number[];

/** Unsigned LEB128 of an integer below 2^32. */
function unsigned(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  do {
    const low = rest % 128;
    rest = Math.floor(rest / 128);
    bytes.push(rest === 0 ? low : low | 0x80);
  } while (rest !== 0);
  return bytes;
}

/** Signed LEB128 of a 32-bit integer. */
function signed(value: number): number[] {
  const bytes: number[] = [];
  let rest = value | 0;
  for (;;) {
    const low = rest & 0x7f;
    rest >>= 7;
    if ((rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0)) {
      bytes.push(low);
      return bytes;
    }
    bytes.push(low | 0x80);
  }
}

const simd = (code: number): Code => [0xfd, ...unsigned(code)];

/** Instructions without immediates. */
const PLAIN = {
  else: 0x05,
  end: 0x0b,
  return: 0x0f,
  select: 0x1b,
  "i32.eqz": 0x45,
  "i32.eq": 0x46,
  "i32.lt_s": 0x48,
  "i32.lt_u": 0x49,
  "i32.gt_s": 0x4a,
  "i32.le_s": 0x4c,
  "i32.ge_s": 0x4e,
  "f32.eq": 0x5b,
  "f32.lt": 0x5d,
  "f32.le": 0x5f,
  "i32.add": 0x6a,
  "i32.sub": 0x6b,
  "i32.mul": 0x6c,
  "i32.div_u": 0x6e,
  "i32.rem_u": 0x70,
  "i32.and": 0x71,
  "i32.or": 0x72,
  "i32.shl": 0x74,
  "i32.shr_u": 0x76,
  "f32.abs": 0x8b,
  "f32.neg": 0x8c,
  "f32.ceil": 0x8d,
  "f32.floor": 0x8e,
  "f32.sqrt": 0x91,
  "f32.add": 0x92,
  "f32.sub": 0x93,
  "f32.mul": 0x94,
  "f32.div": 0x95,
  "f32.convert_i32_s": 0xb2,
} as const;

/** Vector instructions without immediates: their numbers after the prefix 0xfd. */
const VECTOR = {
  "i32x4.splat": 17,
  "i32x4.gt_s": 59,
  "f32x4.splat": 19,
  "f32x4.eq": 65,
  "f32x4.ne": 66,
  "f32x4.lt": 67,
  "f32x4.le": 69,
  "f64x2.eq": 71,
  "f64x2.lt": 73,
  "v128.not": 77,
  "v128.and": 78,
  "v128.andnot": 79,
  "v128.or": 80,
  "v128.xor": 81,
  "v128.bitselect": 82,
  "f32x4.demote_f64x2_zero": 94,
  "f64x2.promote_low_f32x4": 95,
  "i16x8.narrow_i32x4_u": 134,
  "f32x4.ceil": 103,
  "f32x4.floor": 104,
  "f32x4.nearest": 106,
  "f64x2.nearest": 148,
  "i32x4.shl": 171,
  "i32x4.shr_s": 172,
  "i32x4.shr_u": 173,
  "i32x4.add": 174,
  "i32x4.sub": 177,
  "i64x2.extmul_low_i32x4_u": 222,
  "i64x2.extmul_high_i32x4_u": 223,
  "i64x2.shl": 203,
  "i64x2.shr_u": 205,
  "f32x4.abs": 224,
  "f32x4.neg": 225,
  "f32x4.sqrt": 227,
  "f32x4.add": 228,
  "f32x4.sub": 229,
  "f32x4.mul": 230,
  "f32x4.div": 231,
  "f32x4.min": 232,
  "f32x4.max": 233,
  "f32x4.pmin": 234,
  "f32x4.pmax": 235,
  "f64x2.add": 240,
  "f64x2.sub": 241,
  "f64x2.mul": 242,
  "f64x2.div": 243,
  "f64x2.pmin": 246,
  "f64x2.pmax": 247,
  "i32x4.trunc_sat_f32x4_s": 248,
  "f32x4.convert_i32x4_s": 250,
  "i32x4.trunc_sat_f64x2_s_zero": 252,
  /** Relaxed SIMD: a·b + c, rounded once or twice as the machine likes. */
  "f32x4.relaxed_madd": 261,
} as const;

const INDEXED = {
  br: 0x0c,
  br_if: 0x0d,
  call: 0x10,
  "local.get": 0x20,
  "local.set": 0x21,
  "local.tee": 0x22,
} as const;

/** Loads and stores. Their alignment is a hint: any address is allowed. */
const MEMORY = {
  "f32.load": [0x2a],
  "i32.load16_u": [0x2f],
  "f32.store": [0x38],
  "i32.store16": [0x3b],
  "v128.load": [0xfd, 0],
  "v128.load16x4_u": [0xfd, 4],
  "v128.load32_splat": [0xfd, 9],
  "v128.store": [0xfd, 11],
} as const;

const LANE = { "i32x4.extract_lane": 27, "f32x4.extract_lane": 31, "f32x4.replace_lane": 32 } as const;

export type PlainOp = keyof typeof PLAIN | keyof typeof VECTOR;

export const plain = (op: PlainOp): Code =>
  op in PLAIN ? [PLAIN[op as keyof typeof PLAIN]] : simd(VECTOR[op as keyof typeof VECTOR]);
export const indexed = (op: keyof typeof INDEXED, index: number): Code => [INDEXED[op], ...unsigned(index)];
/** `offset` is added to the address in 33-bit arithmetic: it never wraps. */
export const memory = (op: keyof typeof MEMORY, offset: number): Code => [
  ...MEMORY[op],
  op.includes("16") ? 1 : 2,
  ...unsigned(offset),
];
/** The lower half of a vector to memory. */
export const storeLow = (offset: number): Code => [...simd(91), 1, ...unsigned(offset), 0];
export const lane = (op: keyof typeof LANE, index: number): Code => [...simd(LANE[op]), index];
export const i32Const = (value: number): Code => [0x41, ...signed(value)];
export const f32Const = (value: number): Code => [0x43, ...new Uint8Array(new Float32Array([value]).buffer)];
/** A constant of 16 bytes, given as four floats, four integers or two doubles. */
export const v128Const = (lanes: Float32Array | Int32Array | Float64Array | BigInt64Array): Code => [
  ...simd(12),
  ...new Uint8Array(lanes.buffer, lanes.byteOffset, 16),
];
/** Bytes of the result, counted through both operands. */
export const shuffle = (bytes: readonly number[]): Code => [...simd(13), ...bytes];
/** `block`, `loop` and `if` without a result. */
export const open = (op: "block" | "loop" | "if"): Code => [op === "block" ? 0x02 : op === "loop" ? 0x03 : 0x04, 0x40];
/** `select` of vectors names its type. */
export const selectTyped = (type: ValueType): Code => [0x1c, 1, VALUE_TYPE[type]];

export interface WasmFunction {
  readonly parameters: readonly ValueType[];
  readonly results: readonly ValueType[];
  /** Beyond the parameters. */
  readonly locals: readonly ValueType[];
  /** Without the closing `end`. */
  readonly code: Code;
}

const vector = (items: readonly Code[]): number[] => [...unsigned(items.length), ...items.flat()];
const name = (text: string): number[] => vector([...new TextEncoder().encode(text)].map((byte) => [byte]));

function section(id: number, content: Bytes): Uint8Array<ArrayBuffer> {
  return joined([[id, ...unsigned(content.length)], content]);
}

type Bytes = readonly number[] | Uint8Array;

/** Functions are thousands of bytes: they are copied, not spread. */
function joined(parts: readonly Bytes[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function body(fn: WasmFunction): readonly Bytes[] {
  const groups: [number, ValueType][] = [];
  for (const type of fn.locals) {
    const last = groups.at(-1);
    if (last?.[1] === type) last[0]++;
    else groups.push([1, type]);
  }
  const declared = vector(groups.map(([count, type]) => unsigned(count).concat(VALUE_TYPE[type])));
  const size = declared.length + fn.code.length + 1;
  return [unsigned(size), declared, fn.code, [0x0b]];
}

/**
 * A module with the given functions (called by their index), which imports the shared memory `env.memory` of up to
 * 65536 pages and exports the last function as `run`.
 */
export function encodeModule(functions: readonly WasmFunction[]): Uint8Array<ArrayBuffer> {
  const types = functions.map((fn) => [
    0x60,
    ...vector(fn.parameters.map((type) => [VALUE_TYPE[type]])),
    ...vector(fn.results.map((type) => [VALUE_TYPE[type]])),
  ]);
  const sharedWithMaximum = 0x03;
  return joined([
    [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
    section(1, vector(types)),
    section(
      2,
      vector([[...name("env"), ...name("memory"), 0x02, sharedWithMaximum, ...unsigned(1), ...unsigned(65536)]]),
    ),
    section(3, vector(functions.map((_, index) => unsigned(index)))),
    section(7, vector([[...name("run"), 0x00, ...unsigned(functions.length - 1)]])),
    section(10, joined([unsigned(functions.length), ...functions.flatMap(body)])),
  ]);
}
