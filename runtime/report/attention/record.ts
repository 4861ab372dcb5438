/**
 * What is kept of the attention of a model on a handful of clips: `attention/attention.json` in a run folder.
 *
 * Numbers and pictures in one file, so that the page is made again from it without the clips and without a device. Maps
 * are row-major; attention is in multiples of 1/K, K being the places looked at, so that 1 is "no more than any other".
 */
import { existsSync, readFileSync } from "node:fs";
import {
  flag,
  list,
  numeral,
  object,
  oneOf,
  optional,
  parse,
  type Shape,
  text,
  values as valuesOf,
} from "../../train/shape.ts";

/** Its place in a run folder. */
export const ATTENTION_FILE = "attention/attention.json";

/** Height and width in places. */
type Size = readonly number[];

/** A stream as people see it. */
export interface AttentionStream {
  readonly name: string;
  readonly source: "rgb" | "flow";
}

/** A map that looks, or is looked at (compiler/graph/attention.ts). */
export interface RecordedGrid {
  readonly stream: string;
  readonly size: Size;
  readonly extent: readonly number[];
}

/** One direction of a unit. */
export interface AttentionEdge {
  readonly name: string;
  readonly unit: string;
  readonly queries: RecordedGrid;
  readonly keys: RecordedGrid;
  readonly heads: number;
  readonly weights: "softmax" | "products";
  /** Mean of |γ| over channels; undefined for a unit without a gate. */
  readonly gate: number | undefined;
  /** The probed queries, as numbers of places: a grid of `grid[0] × grid[1]`. */
  readonly places: readonly number[];
  readonly grid: Size;
  /** Height and width of a probed row as it is stored: that of the keys, or less. */
  readonly rowSize: Size;
}

/** What a stream sees of a clip. */
export interface ClipPicture {
  readonly stream: string;
  /** PNG, base64: the frame, or the motion in colours. */
  readonly png: string;
  /** PNG, base64: in grey, to draw attention on. */
  readonly base: string;
  /** Motion: pixels a frame at full colour. */
  readonly speed: number | undefined;
}

/** The attention of one edge on one clip. */
export interface EdgeMap {
  readonly edge: string;
  /** By place looked at: mean over all that look, in multiples of 1/K. */
  readonly received: readonly number[];
  /** By place that looks: over how many places its attention is spread, e to the entropy of its row. Softmax only. */
  readonly spread: readonly number[] | undefined;
  /** Base64 of bytes, a row for each probed place: 255 is the row's greatest, see `rowByte`. */
  readonly rows: string;
  /** The greatest of each row, in multiples of 1/K. */
  readonly peaks: readonly number[];
}

export interface AttendedClip {
  readonly path: string;
  readonly subject: string | undefined;
  /** Undefined where nobody said. */
  readonly class: string | undefined;
  /** Of the whole clip where it was evaluated, else of the window shown. */
  readonly probabilities: readonly number[];
  /** What a drawn clip shows. */
  readonly factors: Readonly<Record<string, string>> | undefined;
  readonly pictures: readonly ClipPicture[];
  readonly maps: readonly EdgeMap[];
}

export interface AttentionRecord {
  readonly format: "netc-attention";
  readonly version: 1;
  readonly model: string;
  readonly graphHash: string;
  /** Of the checkpoint; undefined for a model outside a run. */
  readonly step: number | undefined;
  /** False if no weights were given. */
  readonly trained: boolean;
  /** The manifest's words about the clips. */
  readonly note: string;
  readonly classes: readonly string[];
  /** How the clips were chosen, in words. */
  readonly choice: string;
  readonly streams: readonly AttentionStream[];
  readonly edges: readonly AttentionEdge[];
  readonly clips: readonly AttendedClip[];
}

/** Weights of a softmax less than this part of their row's greatest are stored as nothing. */
export const ROW_RANGE = 4096;

/**
 * A weight, divided by its row's greatest, as a byte. Weights of a softmax differ by orders of magnitude and are stored by
 * their logarithm, byte b standing for `ROW_RANGE ^ (b/255 − 1)`; products are stored as they are, negative ones as 0.
 */
export function rowByte(share: number, weights: AttentionEdge["weights"]): number {
  if (!(share > 0)) return 0;
  const level = weights === "softmax" ? 1 + Math.log(share) / Math.log(ROW_RANGE) : share;
  return Math.round(255 * Math.min(1, Math.max(0, level)));
}

const GRID = object({ stream: text, size: list(numeral), extent: list(numeral) });
/** Base64: nothing else may come into the page's markup and script unescaped. */
const BASE64: Shape = (value, at) =>
  text(value, at) ?? (/^[A-Za-z0-9+/]*={0,2}$/.test(String(value)) ? undefined : `\`${at}\` is not base64`);
const RECORD: Shape = object({
  format: oneOf("netc-attention"),
  version: oneOf(1),
  model: text,
  graphHash: text,
  step: optional(numeral),
  trained: flag,
  note: text,
  classes: list(text),
  choice: text,
  streams: list(object({ name: text, source: oneOf("rgb", "flow") })),
  edges: list(
    object({
      name: text,
      unit: text,
      queries: GRID,
      keys: GRID,
      heads: numeral,
      weights: oneOf("softmax", "products"),
      gate: optional(numeral),
      places: list(numeral),
      grid: list(numeral),
      rowSize: list(numeral),
    }),
  ),
  clips: list(
    object({
      path: text,
      subject: optional(text),
      class: optional(text),
      probabilities: list(numeral),
      factors: optional(valuesOf(text)),
      pictures: list(object({ stream: text, png: BASE64, base: BASE64, speed: optional(numeral) })),
      maps: list(
        object({
          edge: text,
          received: list(numeral),
          spread: optional(list(numeral)),
          rows: BASE64,
          peaks: list(numeral),
        }),
      ),
    }),
  ),
});

/** The file's text. */
export function encodeAttention(record: AttentionRecord): string {
  return `${JSON.stringify(record)}\n`;
}

/** Reads the text of the file. */
export function decodeAttention(content: string): AttentionRecord | { readonly error: string } {
  const read = parse(content, RECORD);
  if ("error" in read) return read;
  const record = read.ok as AttentionRecord;
  for (const clip of record.clips)
    for (const map of clip.maps) {
      const edge = record.edges.find(({ name }) => name === map.edge);
      const [height = 0, width = 0] = edge?.keys.size ?? [];
      if (edge === undefined || map.received.length !== height * width)
        return { error: `\`${clip.path}\`: the map of \`${map.edge}\` does not fit its edge` };
    }
  return record;
}

/**
 * Reads the file; undefined where there is none.
 * @throws a system error where it is there and cannot be read
 */
export function readAttention(file: string): AttentionRecord | { readonly error: string } | undefined {
  return existsSync(file) ? decodeAttention(readFileSync(file, "utf8")) : undefined;
}
