import { expect, test } from "vitest";
import { bytesReader, openSafetensors, readTensor, writeSafetensors } from "../../runtime/engine/safetensors.ts";

function concat(pieces: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    out.set(piece, at);
    at += piece.length;
  }
  return out;
}

function fileOf(header: unknown, data: Uint8Array): Uint8Array {
  const json = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(json.length), true);
  return concat([length, json, data]);
}

function open(bytes: Uint8Array) {
  return openSafetensors(bytesReader(bytes), bytes.length);
}

async function opened(bytes: Uint8Array) {
  const file = await open(bytes);
  if ("error" in file) throw new Error(file.error);
  return file;
}

async function errorOf(bytes: Uint8Array): Promise<string> {
  const file = await open(bytes);
  return "error" in file ? file.error : "no error";
}

const sample = concat(
  writeSafetensors(
    [
      { name: "conv.weight", shape: [2, 1, 1, 2], data: Float32Array.of(1, -2.5, 3, 1e-8) },
      { name: "scale", shape: [], data: Float32Array.of(7) },
      { name: "empty", shape: [0, 3], data: new Float32Array(0) },
    ],
    { format: "pt", note: "größer" },
  ),
);

test("what is written is read again, with its metadata", async () => {
  const file = await opened(sample);
  expect([...file.tensors.keys()]).toEqual(["conv.weight", "scale", "empty"]);
  expect(file.metadata).toEqual({ format: "pt", note: "größer" });
  expect(file.tensors.get("conv.weight")?.shape).toEqual([2, 1, 1, 2]);
  expect(await readTensor(file, "conv.weight")).toEqual(Float32Array.of(1, -2.5, 3, 1e-8));
  expect(await readTensor(file, "scale")).toEqual(Float32Array.of(7));
  expect(await readTensor(file, "empty")).toEqual(new Float32Array(0));
});

test("tensors begin at multiples of eight bytes and f32 is read without a copy", async () => {
  const file = await opened(sample);
  expect((file.tensors.get("conv.weight")?.offset ?? 1) % 8).toBe(0);
  const values = await readTensor(file, "conv.weight");
  expect("buffer" in values && values.buffer).toBe(sample.buffer);
});

test("only the ranges asked for are read", async () => {
  const ranges: [number, number][] = [];
  const file = await openSafetensors(async (offset, length) => {
    ranges.push([offset, length]);
    return sample.subarray(offset, offset + length);
  }, sample.length);
  if ("error" in file) throw new Error(file.error);
  await readTensor(file, "scale");
  const header = (file.tensors.get("conv.weight")?.offset ?? 0) - 8;
  expect(ranges).toEqual([
    [0, 8],
    [8, header],
    [8 + header + 16, 4],
  ]);
});

test("f16, bf16 and f64 become f32, at odd offsets too", async () => {
  const data = new Uint8Array(1 + 12 + 4 + 8);
  const view = new DataView(data.buffer);
  // 1, -2, smallest subnormal, largest, infinity, NaN
  [0x3c00, 0xc000, 0x0001, 0x7bff, 0x7c00, 0x7e00].forEach((bits, i) => view.setUint16(1 + 2 * i, bits, true));
  [0x3f80, 0xc049].forEach((bits, i) => view.setUint16(13 + 2 * i, bits, true));
  view.setFloat64(17, Math.PI, true);
  const file = await opened(
    fileOf(
      {
        pad: { dtype: "U8", shape: [1], data_offsets: [0, 1] },
        half: { dtype: "F16", shape: [6], data_offsets: [1, 13] },
        brain: { dtype: "BF16", shape: [2], data_offsets: [13, 17] },
        double: { dtype: "F64", shape: [1], data_offsets: [17, 25] },
      },
      data,
    ),
  );
  expect(await readTensor(file, "half")).toEqual(
    Float32Array.of(1, -2, 2 ** -24, 65504, Number.POSITIVE_INFINITY, Number.NaN),
  );
  expect(await readTensor(file, "brain")).toEqual(Float32Array.of(1, -3.140625));
  expect(await readTensor(file, "double")).toEqual(Float32Array.of(Math.PI));
  expect(await readTensor(file, "pad")).toEqual({ error: "`pad` holds U8, not floating-point numbers" });
  expect(await readTensor(file, "none")).toEqual({ error: "the file has no tensor `none`" });
});

test("truncated and foreign files say what is wrong", async () => {
  expect(await errorOf(new Uint8Array(3))).toBe("the file has 3 bytes, too few for a safetensors file");
  expect(await errorOf(new TextEncoder().encode("PK\u0003\u0004 a zip archive"))).toMatch(/not a safetensors file/);
  expect(await errorOf(sample.subarray(0, 40))).toMatch(/cut short or not safetensors/);
  expect(await errorOf(sample.subarray(0, sample.length - 1))).toMatch(/cut short: `scale` ends at byte/);
  expect(await errorOf(fileOf("{broken", new Uint8Array(0)))).toMatch(/header is not JSON/);
  expect(await errorOf(fileOf("[1]", new Uint8Array(0)))).toMatch(/not an object/);
  expect(await errorOf(fileOf({ a: 5 }, new Uint8Array(0)))).toBe("the entry of `a` is not an object");
  expect(await errorOf(fileOf({ a: { dtype: "F32", shape: [-1], data_offsets: [0, 4] } }, new Uint8Array(4)))).toMatch(
    /lacks a dtype, a shape or a byte range/,
  );
  expect(await errorOf(fileOf({ a: { dtype: "F4", shape: [1], data_offsets: [0, 4] } }, new Uint8Array(4)))).toBe(
    "`a` has the unknown element type F4",
  );
  expect(await errorOf(fileOf({ a: { dtype: "F32", shape: [2], data_offsets: [0, 4] } }, new Uint8Array(4)))).toBe(
    "`a` is F32[2], 8 bytes, but has a range of 4",
  );
});

test("a file that ends while it is read gives an error, not numbers", async () => {
  const file = await openSafetensors(async (offset, length) => sample.subarray(offset, offset + length), 1e6);
  if ("error" in file) throw new Error(file.error);
  const short = { ...file, read: async () => new Uint8Array(2) };
  expect(await readTensor(short, "scale")).toEqual({ error: "the file ends within `scale`" });
});
