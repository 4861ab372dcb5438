/**
 * Event files, as TensorBoard reads them: the scalars of a run as curves in a tool that many have open already.
 *
 * In: a step, a time and named numbers. Out: a file of records in TensorFlow's TFRecord framing
 *
 *     u64 length | u32 masked CRC-32C of the length | bytes | u32 masked CRC-32C of the bytes     (little-endian)
 *
 * whose bytes are `Event` messages (tensorflow/core/util/event.proto, framework/summary.proto) in the wire format of
 * protocol buffers. Only what scalars need is written:
 *
 *     Event        1 wall_time double, 2 step int64, 3 file_version string, 5 summary Summary, 7 session_log SessionLog
 *     Summary      1 repeated Value        Value   1 tag string, 2 simple_value float
 *     SessionLog   1 status, of which START is 1
 */
import { closeSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { faultOf } from "./fault.ts";
import type { MetricLine } from "./records.ts";

// -------------------------------------------------------------------------------------------------------------- CRC-32C

/** Of the Castagnoli polynomial, reflected (RFC 3720, §12.1). */
const CRC_TABLE: Uint32Array = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

/** CRC-32C of the bytes, unsigned. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (CRC_TABLE[(crc ^ byte) & 255] ?? 0) ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** As TFRecord stores it: a CRC of data that holds CRCs would be weak, so it is rotated and shifted. */
export function maskedCrc32c(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** A TFRecord that holds `bytes`. */
export function frameRecord(bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array(16 + bytes.length);
  const view = new DataView(out.buffer);
  view.setBigUint64(0, BigInt(bytes.length), true);
  view.setUint32(8, maskedCrc32c(out.subarray(0, 8)), true);
  out.set(bytes, 12);
  view.setUint32(12 + bytes.length, maskedCrc32c(bytes), true);
  return out;
}

// ------------------------------------------------------------------------------------------------------------- messages

/** Wire types of protocol buffers. */
const VARINT = 0;
const FIXED64 = 1;
const LENGTH = 2;
const FIXED32 = 5;

/** One field: its tag, then its bytes. Field numbers here are below 16, so a tag is one byte. */
function field(number: number, wire: number, bytes: readonly number[] | Uint8Array): number[] {
  return [(number << 3) | wire, ...bytes];
}

function varint(value: number): number[] {
  const out: number[] = [];
  let rest = BigInt(value);
  while (rest > 127n) {
    out.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  return [...out, Number(rest)];
}

function sized(number: number, bytes: readonly number[] | Uint8Array): number[] {
  return field(number, LENGTH, [...varint(bytes.length), ...bytes]);
}

function double(value: number): Uint8Array {
  return new Uint8Array(Float64Array.of(value).buffer);
}

function float(value: number): Uint8Array {
  return new Uint8Array(Float32Array.of(value).buffer);
}

/** An Event at a time in seconds since 1970. */
function event(seconds: number, step: number, content: readonly number[]): Uint8Array {
  return Uint8Array.from([...field(1, FIXED64, double(seconds)), ...field(2, VARINT, varint(step)), ...content]);
}

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

function summary(scalars: Iterable<readonly [string, number]>): number[] {
  const values = [...scalars].flatMap(([tag, value]) =>
    sized(1, [...sized(1, text(tag)), ...field(2, FIXED32, float(value))]),
  );
  return sized(5, values);
}

// ------------------------------------------------------------------------------------------------------------- the file

/** Owns an open file until `close`. */
export interface EventFile {
  readonly name: string;
  add(step: number, scalars: Iterable<readonly [tag: string, value: number]>): void;
  close(): void;
}

export interface EventFileOptions {
  /** Of a resumed run: TensorBoard then forgets what earlier files say of this step and of later ones. */
  readonly purgeStep?: number | undefined;
  /** Seconds since 1970. */
  readonly now?: () => number;
}

/** Files that this process has opened: two in one second have different names. */
let opened = 0;

/**
 * Begins an event file in `folder`. Each event is one write, so that a killed run loses none; TensorBoard waits at a
 * last record that is cut short.
 * @throws RunError, also when the disk is full
 */
export function openEventFile(folder: string, options: EventFileOptions = {}): EventFile {
  const { purgeStep, now = () => Date.now() / 1000 } = options;
  // TensorBoard asks for `tfevents` in the name and sorts by it. TensorFlow puts the host there, which is nobody's
  // business in a folder that is passed on.
  const seconds = String(Math.floor(now())).padStart(10, "0");
  const name = `events.out.tfevents.${seconds}.netc.${process.pid}.${opened++}`;
  const guard = <T>(work: () => T): T => {
    try {
      return work();
    } catch (error) {
      throw faultOf(`write \`${join(folder, name)}\``, error);
    }
  };
  const file = guard(() => openSync(join(folder, name), "ax"));
  const put = (step: number, content: readonly number[]): void => {
    guard(() => writeSync(file, frameRecord(event(now(), step, content))));
  };
  put(purgeStep ?? 0, sized(3, text("brain.Event:2")));
  if (purgeStep !== undefined) put(purgeStep, sized(7, field(1, VARINT, [1])));
  return {
    name,
    add: (step, scalars) => put(step, summary(scalars)),
    close: () => closeSync(file),
  };
}

/** The curves of one line of metrics.jsonl: tag and value. Tags with a common beginning share a group of charts. */
export function scalarsOf(line: MetricLine): (readonly [tag: string, value: number])[] {
  switch (line.kind) {
    case "step":
      return [
        ["step/loss", line.loss],
        ["step/gradient_norm", line.norm],
        ["step/rate", line.rate],
        ["time/step_seconds", line.seconds],
        ["time/waiting_share", line.seconds > 0 ? line.waited / line.seconds : 0],
      ];
    case "epoch":
      return [
        ["train/loss", line.train.loss],
        ["train/accuracy", line.train.accuracy],
        ...Object.entries(line.validation ?? {}).map(([name, value]) => [`validation/${name}`, value] as const),
        ["time/samples_per_second", line.samplesPerSecond],
        ["memory/resident_bytes", line.residentBytes],
        ["memory/device_bytes", line.deviceBytes],
      ];
    case "note":
      return [];
    default:
      throw new Error(`internal: no such line ${JSON.stringify(line satisfies never)}`);
  }
}
