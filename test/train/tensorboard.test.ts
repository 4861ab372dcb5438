/** Event files: known answers for the checksums, and a small reader of the format that shares nothing with the writer. */
import { mkdtempSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { crc32c, frameRecord, maskedCrc32c, openEventFile, scalarsOf } from "../../runtime/train/tensorboard.ts";
import { messageOf, playground } from "./tools.ts";

const at = playground();
const ascii = (text: string): Uint8Array => new TextEncoder().encode(text);

describe("CRC-32C", () => {
  // The check value of the CRC catalogue, and RFC 3720, appendix B.4.
  test.each([
    ["123456789", ascii("123456789"), 0xe3069283],
    ["nothing", new Uint8Array(0), 0],
    ["32 zeros", new Uint8Array(32), 0x8a9136aa],
    ["32 ones", new Uint8Array(32).fill(255), 0x62a8ab43],
    ["0 to 31", Uint8Array.from({ length: 32 }, (_, i) => i), 0x46dd794e],
    ["31 to 0", Uint8Array.from({ length: 32 }, (_, i) => 31 - i), 0x113fdb5c],
  ])("%s", (_, bytes, expected) => expect(crc32c(bytes)).toBe(expected));

  test("a mask that LevelDB's authors can take off", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        const rotated = (maskedCrc32c(bytes) - 0xa282ead8) >>> 0;
        return ((rotated >>> 17) | (rotated << 15)) >>> 0 === crc32c(bytes);
      }),
    );
  });
});

test("a record: length and its checksum, the bytes and theirs", () => {
  const framed = frameRecord(ascii("abc"));
  expect([...framed.subarray(0, 8)]).toEqual([3, 0, 0, 0, 0, 0, 0, 0]);
  expect([...framed.subarray(12, 15)]).toEqual([97, 98, 99]);
  expect(framed.length).toBe(19);
  // TensorFlow's event files begin with a record of 24 bytes, and thus with these twelve.
  const head = [24, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22];
  expect([...frameRecord(new Uint8Array(24)).subarray(0, 12)]).toEqual(head);
});

/** A field of a message: its number, and a number or the bytes it holds. */
type Field = readonly [number, number | Uint8Array];

function* fields(bytes: Uint8Array): Generator<Field, void, undefined> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let position = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = view.getUint8(position++);
      value += (byte & 127) * 2 ** shift;
      if (byte < 128) return value;
    }
  };
  while (position < bytes.length) {
    const tag = varint();
    const wire = tag & 7;
    if (wire === 0) yield [tag >> 3, varint()];
    else if (wire === 1) {
      yield [tag >> 3, view.getFloat64(position, true)];
      position += 8;
    } else if (wire === 5) {
      yield [tag >> 3, view.getFloat32(position, true)];
      position += 4;
    } else if (wire === 2) {
      const length = varint();
      yield [tag >> 3, bytes.subarray(position, position + length)];
      position += length;
    } else throw new Error(`wire type ${wire}`);
  }
}

/** CRC-32C bit by bit, for the reader. */
function slowCrc(bytes: Uint8Array): number {
  let crc = 0xffffffffn;
  for (const byte of bytes) {
    crc ^= BigInt(byte);
    for (let bit = 0; bit < 8; bit++) crc = crc & 1n ? (crc >> 1n) ^ 0x82f63b78n : crc >> 1n;
  }
  return Number(crc ^ 0xffffffffn);
}

function* records(file: Uint8Array): Generator<Uint8Array, void, undefined> {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const check = (bytes: Uint8Array, stored: number): void => {
    const crc = BigInt(slowCrc(bytes));
    const masked = Number((((crc >> 15n) | (crc << 17n)) + 0xa282ead8n) & 0xffffffffn);
    if (masked !== stored) throw new Error("the checksum is wrong");
  };
  for (let position = 0; position < file.length; ) {
    const length = Number(view.getBigUint64(position, true));
    check(file.subarray(position, position + 8), view.getUint32(position + 8, true));
    const bytes = file.subarray(position + 12, position + 12 + length);
    check(bytes, view.getUint32(position + 12 + length, true));
    yield bytes;
    position += 16 + length;
  }
}

const text = (value: number | Uint8Array | undefined): string =>
  value instanceof Uint8Array ? new TextDecoder().decode(value) : "not text";

/** An event in words. */
function describeEvent(bytes: Uint8Array): unknown {
  const event = new Map(fields(bytes));
  const [seconds, step] = [event.get(1), event.get(2)];
  const [version, summary, session] = [event.get(3), event.get(5), event.get(7)];
  return {
    seconds,
    step,
    ...(version === undefined ? {} : { version: text(version) }),
    ...(session instanceof Uint8Array ? { session: [...fields(session)] } : {}),
    ...(summary instanceof Uint8Array
      ? {
          scalars: [...fields(summary)].map(([number, value]) => {
            if (number !== 1 || !(value instanceof Uint8Array)) throw new Error("not a value");
            const entry = new Map(fields(value));
            return [text(entry.get(1)), entry.get(2)];
          }),
        }
      : {}),
  };
}

describe("an event file", () => {
  test("is read by another reader", () => {
    const folder = mkdtempSync(join(at, "tb-"));
    let time = 1776000000.25;
    const file = openEventFile(folder, { now: () => time });
    time += 1;
    file.add(1, [["train/loss", 1.5]]);
    time += 1;
    const longTag = `train/${"ä".repeat(100)}`;
    file.add(2 ** 40, [
      ["train/loss", Number.NaN],
      [longTag, -0.25],
    ]);
    file.close();
    expect(file.name).toMatch(/^events\.out\.tfevents\.1776000000\.netc\.\d+\.\d+$/);
    expect([...records(readFileSync(join(folder, file.name)))].map(describeEvent)).toEqual([
      { seconds: 1776000000.25, step: 0, version: "brain.Event:2" },
      { seconds: 1776000001.25, step: 1, scalars: [["train/loss", 1.5]] },
      {
        seconds: 1776000002.25,
        step: 2 ** 40,
        scalars: [
          ["train/loss", Number.NaN],
          [longTag, -0.25],
        ],
      },
    ]);
  });

  test("of a resumed run makes TensorBoard forget later steps; files of one second have different names", () => {
    const folder = mkdtempSync(join(at, "tb-"));
    const files = [1, 2].map(() => openEventFile(folder, { purgeStep: 301, now: () => 5 }));
    for (const file of files) file.close();
    expect(new Set(files.map(({ name }) => name)).size).toBe(2);
    expect([...records(readFileSync(join(folder, files[0]?.name ?? "")))].map(describeEvent)).toEqual([
      { seconds: 5, step: 301, version: "brain.Event:2" },
      { seconds: 5, step: 301, session: [[1, 1]] },
    ]);
  });

  test("a folder that is not there", async () => {
    expect(await messageOf(() => openEventFile(join(at, "gone")))).toContain("there is no such file or folder");
  });
});

test("the curves of a line", () => {
  const step = {
    kind: "step",
    stage: 0,
    epoch: 0,
    step: 3,
    loss: 1,
    norm: 2,
    rate: 0.1,
    seconds: 4,
    waited: 1,
  } as const;
  expect(Object.fromEntries(scalarsOf(step))).toEqual({
    "step/loss": 1,
    "step/gradient_norm": 2,
    "step/rate": 0.1,
    "time/step_seconds": 4,
    "time/waiting_share": 0.25,
  });
  const epoch = {
    kind: "epoch",
    stage: 0,
    epoch: 0,
    step: 3,
    train: { loss: 1, accuracy: 0.5 },
    validation: { uar: 0.4 },
    best: true,
    rate: 0.1,
    seconds: 1,
    waited: 0,
    evaluationSeconds: 1,
    samplesPerSecond: 9,
    residentBytes: 5,
    deviceBytes: 6,
  } as const;
  expect(Object.fromEntries(scalarsOf(epoch))).toMatchObject({ "train/loss": 1, "validation/uar": 0.4 });
  expect(scalarsOf({ ...epoch, validation: undefined }).some(([tag]) => tag.startsWith("validation"))).toBe(false);
  expect(scalarsOf({ kind: "note", step: 3, text: "hello" })).toEqual([]);
});
