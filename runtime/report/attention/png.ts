/**
 * PNG files from bytes: pictures small enough to lie inside a page.
 *
 * In: grey, RGB, or numbers of a palette. Out: the file's bytes. Each row takes the filter whose differences are
 * smallest, as the specification suggests (PNG, third edition, section 12.7).
 */
import { crc32, deflateSync } from "node:zlib";

export interface Picture {
  readonly width: number;
  readonly height: number;
  /** Rows from the top; packed RGB, or a byte a pixel. */
  readonly bytes: Uint8Array;
  readonly channels: 1 | 3;
  /** For one channel: what its numbers stand for, red, green, blue, opacity each; absent: grey. */
  readonly palette?: readonly (readonly [number, number, number, number])[];
}

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];

function chunk(type: string, data: Uint8Array): Buffer {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const [length, check] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  check.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, check]);
}

/** The neighbour among left, up and upper left that is nearest to left + up − upper left. */
function paeth(left: number, up: number, corner: number): number {
  const [a, b, c] = [Math.abs(up - corner), Math.abs(left - corner), Math.abs(left + up - 2 * corner)];
  return a <= b && a <= c ? left : b <= c ? up : corner;
}

/** What each filter foretells of a byte, by the filter's number. */
const FORETOLD: readonly ((left: number, up: number, corner: number) => number)[] = [
  () => 0,
  (left) => left,
  (_left, up) => up,
  (left, up) => (left + up) >> 1,
  paeth,
];

function filtered({ bytes, width, height, channels, palette }: Picture): Uint8Array {
  const line = width * channels;
  const out = new Uint8Array((line + 1) * height);
  // Neighbouring numbers of a palette are neighbouring colours here, but without a filter they pack as well.
  const filters = palette === undefined ? FORETOLD.entries() : [...FORETOLD.entries()].slice(0, 3);
  const choices = [...filters];
  const row = new Uint8Array(line);
  for (let y = 0; y < height; y++) {
    let least = Number.POSITIVE_INFINITY;
    for (const [number, foretell] of choices) {
      let total = 0;
      for (let i = 0; i < line; i++) {
        const at = y * line + i;
        const left = i < channels ? 0 : (bytes[at - channels] ?? 0);
        const up = y === 0 ? 0 : (bytes[at - line] ?? 0);
        const corner = i < channels || y === 0 ? 0 : (bytes[at - line - channels] ?? 0);
        const difference = ((bytes[at] ?? 0) - foretell(left, up, corner)) & 255;
        row[i] = difference;
        total += Math.min(difference, 256 - difference);
      }
      if (total >= least) continue;
      least = total;
      out[y * (line + 1)] = number;
      out.set(row, y * (line + 1) + 1);
    }
  }
  return out;
}

/** The file of a picture. */
export function encodePng(picture: Picture): Uint8Array {
  const { width, height, channels, palette } = picture;
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header[8] = 8;
  header[9] = channels === 3 ? 2 : palette === undefined ? 0 : 3;
  return Buffer.concat([
    Buffer.from(SIGNATURE),
    chunk("IHDR", header),
    ...(palette === undefined
      ? []
      : [
          chunk("PLTE", Uint8Array.from(palette.flatMap(([r, g, b]) => [r, g, b]))),
          chunk("tRNS", Uint8Array.from(palette.map(([, , , opacity]) => opacity))),
        ]),
    chunk("IDAT", deflateSync(filtered(picture), { level: 9 })),
    chunk("IEND", new Uint8Array(0)),
  ]);
}

/** A picture as the address of itself. */
export function dataUri(png: Uint8Array): string {
  return `data:image/png;base64,${Buffer.from(png).toString("base64")}`;
}
