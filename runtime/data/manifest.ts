/**
 * The manifest of a data set: one line a clip, with everything that a split needs to know about it.
 *
 * In: records, or the text of a `manifest.jsonl`. Out: the other. The file is JSON lines: first the header (what the set
 * is, its classes), then a record a line, in the order of their paths. A clip that cannot be read keeps its line and
 * says so in `status`: what a model is measured on must not depend on which files happened to open.
 */
import type { DataError } from "./source.ts";

/** The directory layouts that we know. */
export type Layout = "enterface" | "afew" | "pain" | "association";
export const LAYOUTS: readonly Layout[] = ["enterface", "afew", "pain", "association"];

/** `ok`; `excluded` by a rule of its data set; or what went wrong when it was read. */
export type ClipStatus = "ok" | "excluded" | DataError["kind"];
const STATUSES: readonly string[] = [
  "ok",
  "excluded",
  "missing",
  "empty",
  "short",
  "corrupt",
  "no-decoder",
  "folder",
  "input",
] satisfies readonly ClipStatus[];

export interface ClipRecord {
  /** Path of the video from the manifest's folder, with `/`. */
  readonly path: string;
  readonly class: string;
  /** Absent where the set does not say who is shown, as in AFEW. */
  readonly subject?: string;
  readonly sentence?: string;
  /** The side that the set itself puts the clip on. */
  readonly split?: "train" | "validation";
  /** Frames that the file holds; 0 where none could be read. */
  readonly frames: number;
  readonly status: ClipStatus;
  /** Why the status is not `ok`, or a warning of the decoder. */
  readonly detail?: string;
  /** SHA-256 of the file. */
  readonly sha256?: string;
  /** What a drawn clip shows, by name of the factor. */
  readonly factors?: Readonly<Record<string, string>>;
}

export interface Manifest {
  /** What the set is, in words; of a drawn set it starts with `SYNTHETIC`. */
  readonly note: string;
  readonly layout: Layout;
  readonly classes: readonly string[];
  readonly clips: readonly ClipRecord[];
}

/** The manifest's name in the folder of its set. */
export const MANIFEST_FILE = "manifest.jsonl";
const FORMAT = "netc-data";

/** The manifest as JSON lines. */
export function encodeManifest({ note, layout, classes, clips }: Manifest): string {
  const header = { note, format: FORMAT, version: 1, layout, classes, clips: clips.length };
  return [header, ...clips].map((value) => `${JSON.stringify(value)}\n`).join("");
}

/** Reads JSON lines as `encodeManifest` writes them; what is wrong comes back as a sentence with its line. */
export function decodeManifest(text: string): Manifest | { readonly error: string } {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  const header = parse(lines[0] ?? "");
  if (header?.["format"] !== FORMAT) return { error: "line 1 is not the header of a manifest" };
  if (header["version"] !== 1) return { error: `line 1: version ${String(header["version"])} is not known` };
  const { note, layout, classes } = header;
  const known = LAYOUTS.find((name) => name === layout);
  if (typeof note !== "string" || known === undefined || !isStrings(classes))
    return { error: "line 1: `note`, `layout` or `classes` is missing or of the wrong kind" };
  if (header["clips"] !== lines.length - 1)
    return {
      error: `it announces ${String(header["clips"])} clips and holds ${lines.length - 1}: it was cut short or edited`,
    };
  const clips: ClipRecord[] = [];
  const paths = new Set<string>();
  for (const [index, line] of lines.slice(1).entries()) {
    const value = parse(line);
    const at = `line ${index + 2}`;
    if (value === undefined) return { error: `${at} is not a JSON object` };
    if (!isRecord(value)) return { error: `${at}: a field is missing or of the wrong kind` };
    if (!classes.includes(value.class)) return { error: `${at}: the class \`${value.class}\` is not in the header` };
    if (paths.has(value.path)) return { error: `${at}: \`${value.path}\` was listed before` };
    paths.add(value.path);
    clips.push(value);
  }
  return { note, layout: known, classes, clips };
}

function parse(line: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isStrings(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}

function isRecord(value: object): value is ClipRecord {
  const field: Readonly<Record<string, unknown>> = { ...value };
  const optional = (name: string): boolean => field[name] === undefined || typeof field[name] === "string";
  const { frames, status, split, factors } = field;
  return (
    typeof field["path"] === "string" &&
    typeof field["class"] === "string" &&
    typeof frames === "number" &&
    Number.isSafeInteger(frames) &&
    frames >= 0 &&
    typeof status === "string" &&
    STATUSES.includes(status) &&
    ["subject", "sentence", "detail", "sha256"].every(optional) &&
    (split === undefined || split === "train" || split === "validation") &&
    (factors === undefined || (isObject(factors) && isStrings(Object.values(factors))))
  );
}
