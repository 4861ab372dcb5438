/**
 * The safetensors file format: a little-endian u64 with the length of a JSON header, the header (name -> dtype, shape,
 * byte range), then the numbers of all tensors without gaps.
 *
 * In: a reader of byte ranges, so that a file of a gigabyte is never read whole; a disk, a `Blob` and bytes in memory
 * all have one. Out: names and shapes, and single tensors as f32. A truncated or foreign file is an ordinary value
 * `{ error }` that says what is wrong with it: weights come from strangers. The writer gives pieces in order, for the
 * caller to put under a temporary name and rename.
 */
import { fromHalves } from "./half.ts";

/** Reads `length` bytes from `offset` on. Fewer bytes than asked for mean that the file ends there. */
export type ReadBytes = (offset: number, length: number) => Promise<Uint8Array>;

export interface TensorEntry {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Of its first byte in the file. */
  readonly offset: number;
  readonly byteLength: number;
}

export interface SafetensorsFile {
  /** In the order of the header. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly metadata: Readonly<Record<string, string>>;
  readonly read: ReadBytes;
}

export interface SafetensorsError {
  readonly error: string;
}

/** Bytes of one element, for every element type of the format. */
const ELEMENT_BYTES: Readonly<Record<string, number>> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  F8_E4M3: 1,
  F8_E5M2: 1,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
};

/** The format's own limit; a foreign file shows itself by a wild length here. */
const MAX_HEADER = 100_000_000;

/** A reader of bytes that are in memory already. The ranges it gives are views. */
export function bytesReader(bytes: Uint8Array): ReadBytes {
  return async (offset, length) => bytes.subarray(offset, offset + length);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isSizes(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0);
}

/** One entry of the header, or what is wrong with it. `data` is where the tensors begin in the file. */
function entryOf(name: string, value: unknown, data: number, fileSize: number): TensorEntry | SafetensorsError {
  if (!isRecord(value)) return { error: `the entry of \`${name}\` is not an object` };
  const { dtype, shape, data_offsets: range } = value;
  if (typeof dtype !== "string" || !isSizes(shape) || !isSizes(range) || range.length !== 2) {
    return { error: `the entry of \`${name}\` lacks a dtype, a shape or a byte range` };
  }
  const [start = 0, end = 0] = range;
  const elementBytes = ELEMENT_BYTES[dtype];
  if (elementBytes === undefined) return { error: `\`${name}\` has the unknown element type ${dtype}` };
  const bytes = shape.reduce((product, size) => product * size, elementBytes);
  if (end - start !== bytes) {
    return { error: `\`${name}\` is ${dtype}[${shape.join(", ")}], ${bytes} bytes, but has a range of ${end - start}` };
  }
  if (data + end > fileSize) {
    return { error: `the file is cut short: \`${name}\` ends at byte ${data + end}, the file has ${fileSize}` };
  }
  return { name, dtype, shape, offset: data + start, byteLength: bytes };
}

/** Reads the header of a file of `fileSize` bytes and checks every entry against it. */
export async function openSafetensors(read: ReadBytes, fileSize: number): Promise<SafetensorsFile | SafetensorsError> {
  const lengthBytes = await read(0, 8);
  if (lengthBytes.length < 8) return { error: `the file has ${fileSize} bytes, too few for a safetensors file` };
  const length = Number(new DataView(lengthBytes.buffer, lengthBytes.byteOffset, 8).getBigUint64(0, true));
  if (length < 2 || length > MAX_HEADER)
    return { error: "this is not a safetensors file: its header has no sane length" };
  if (8 + length > fileSize) {
    return { error: `the file is cut short or not safetensors: its header is ${length} bytes, the file ${fileSize}` };
  }
  const bytes = await read(8, length);
  if (bytes.length < length) return { error: "the file is cut short within its header" };
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    return { error: "this is not a safetensors file: its header is not JSON" };
  }
  if (!isRecord(header)) return { error: "this is not a safetensors file: its header is not an object" };
  const tensors = new Map<string, TensorEntry>();
  const metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(header)) {
    if (name === "__metadata__") {
      if (!isRecord(value)) return { error: "`__metadata__` is not an object" };
      for (const [key, text] of Object.entries(value)) if (typeof text === "string") metadata[key] = text;
      continue;
    }
    const entry = entryOf(name, value, 8 + length, fileSize);
    if ("error" in entry) return entry;
    tensors.set(name, entry);
  }
  return { tensors, metadata, read };
}

// ------------------------------------------------------------------------------------------------------------- numbers

/** The same bytes at an offset that a typed array allows; a copy only where needed. */
function aligned(bytes: Uint8Array, elementBytes: number): Uint8Array {
  return bytes.byteOffset % elementBytes === 0 ? bytes : bytes.slice();
}

/** Little-endian F32, F16, BF16 or F64 as f32; other element types hold no weights. */
function toFloat32(bytes: Uint8Array, dtype: string): Float32Array | undefined {
  switch (dtype) {
    case "F32": {
      const at = aligned(bytes, 4);
      return new Float32Array(at.buffer, at.byteOffset, at.byteLength / 4);
    }
    case "F16": {
      const at = aligned(bytes, 2);
      return fromHalves(new Uint16Array(at.buffer, at.byteOffset, at.byteLength / 2));
    }
    case "BF16": {
      // The upper half of an f32.
      const at = aligned(bytes, 2);
      const upper = new Uint16Array(at.buffer, at.byteOffset, at.byteLength / 2);
      return new Float32Array(Uint32Array.from(upper, (bits) => bits << 16).buffer);
    }
    case "F64": {
      const at = aligned(bytes, 8);
      return Float32Array.from(new Float64Array(at.buffer, at.byteOffset, at.byteLength / 8));
    }
    default:
      return undefined;
  }
}

/** One tensor as f32. For an F32 tensor this is a view of the bytes read: do not write to it. */
export async function readTensor(file: SafetensorsFile, name: string): Promise<Float32Array | SafetensorsError> {
  const entry = file.tensors.get(name);
  if (entry === undefined) return { error: `the file has no tensor \`${name}\`` };
  const bytes = await file.read(entry.offset, entry.byteLength);
  if (bytes.length < entry.byteLength) return { error: `the file ends within \`${name}\`` };
  const values = toFloat32(bytes, entry.dtype);
  return values ?? { error: `\`${name}\` holds ${entry.dtype}, not floating-point numbers` };
}

// -------------------------------------------------------------------------------------------------------------- writing

export interface TensorData {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** Bytes of a little-endian machine's numbers as they are: WebGPU and WASM run on no other. */
function bytesOf(data: Float32Array): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/**
 * What comes before the numbers of a file of F32 tensors, which follow in this order without gaps. The header is padded
 * with spaces to eight bytes, so that every tensor can be read in place.
 */
export function safetensorsHead(
  tensors: readonly { readonly name: string; readonly shape: readonly number[] }[],
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const header: Record<string, unknown> = {};
  if (Object.keys(metadata).length > 0) header["__metadata__"] = metadata;
  let offset = 0;
  for (const { name, shape } of tensors) {
    const end = offset + 4 * shape.reduce((product, size) => product * size, 1);
    header[name] = { dtype: "F32", shape, data_offsets: [offset, end] };
    offset = end;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const length = Math.ceil(json.length / 8) * 8;
  const head = new Uint8Array(8 + length).fill(0x20);
  new DataView(head.buffer).setBigUint64(0, BigInt(length), true);
  head.set(json, 8);
  return head;
}

/** The pieces of a file that holds `tensors` as F32, in order. */
export function writeSafetensors(
  tensors: readonly TensorData[],
  metadata: Readonly<Record<string, string>> = {},
): readonly Uint8Array[] {
  for (const { name, shape, data } of tensors) {
    if (shape.reduce((product, size) => product * size, 1) !== data.length) {
      throw new Error(`internal: ${name} has ${data.length} numbers for the shape [${shape.join(", ")}]`);
    }
  }
  return [safetensorsHead(tensors, metadata), ...tensors.map(({ data }) => bytesOf(data))];
}
