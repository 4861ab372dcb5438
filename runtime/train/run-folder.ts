/**
 * The folder of a run (records.ts says what lies in it), and the right to write there.
 *
 * In: what was asked for, the sources, the data set's manifest. Out: a folder that was not there before, which is made
 * beside its place and appears complete; then a line of metrics at a time, each in one write. A run that goes on from a
 * checkpoint cuts what was written after it, so that its metrics are those of a run that never stopped.
 */
import { createHash } from "node:crypto";
import {
  chmodSync,
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import { decodeManifest, type Manifest } from "../data/manifest.ts";
import { realDisk } from "./disk.ts";
import { codeOf, faultOf, RunError } from "./fault.ts";
import { type Lock, takeLock } from "./lock.ts";
import type { MetricLine, RunRecord } from "./records.ts";

const RECORD_FILE = "run.json";
const METRICS_FILE = "metrics.jsonl";
const SOURCES = "sources";
/** Where runs go when nobody says. */
const PARENT = "runs";

/** An open run: owns its lock and its metrics until `close`. */
export interface RunFolder {
  /** As it was asked for. */
  readonly path: string;
  readonly record: RunRecord;
  /** Adds a line to metrics.jsonl, in one write. Numbers that are not finite become null there. */
  append(line: MetricLine): void;
  /** Length of metrics.jsonl, for a checkpoint to note. */
  metricsBytes(): number;
  /** Waits until the metrics are on the disk: before a checkpoint, which notes their length. */
  sync(): void;
  /** Cuts what was written after a checkpoint; returns the number of lines. */
  cut(checkpoint: { readonly step: number; readonly metricsBytes: number }): number;
  /**
   * Replaces the record of a run that goes on with another model or recipe, and keeps the sources of that beside those it
   * began with. Name and beginning stay.
   */
  amend(record: Omit<RunRecord, "name" | "started">, sources: CreateRunOptions["sources"]): void;
  /** Keeps the manifest of a data set that is not the one the run began with; `findManifest` finds it. */
  keepManifest(text: string): void;
  close(): void;
}

export interface CreateRunOptions {
  /** Where to make it; undefined: `runs/<model>-<time>`, with a number behind it if that is taken. */
  readonly folder?: string | undefined;
  readonly record: Omit<RunRecord, "name">;
  /** The .net files. What is common to their paths is left away. */
  readonly sources: readonly { readonly path: string; readonly text: string }[];
  /** The text of the data set's manifest, whose SHA-256 is the record's `manifestHash`. */
  readonly manifest: string;
  /** For the name. */
  readonly now?: Date;
}

/** `20260412-090507`, in the time of the place. */
function stamp(now: Date): string {
  const two = (value: number): string => String(value).padStart(2, "0");
  return `${now.getFullYear()}${two(now.getMonth() + 1)}${two(now.getDate())}-${two(now.getHours())}${two(now.getMinutes())}${two(now.getSeconds())}`;
}

/**
 * Makes the folder of a run, and takes its lock.
 * @throws RunError for a folder that holds something already, which is left as it is
 */
export async function createRun(options: CreateRunOptions): Promise<RunFolder> {
  const { folder, record, now = new Date() } = options;
  const base = folder ?? join(PARENT, `${record.model.name.replaceAll(/[^\w.-]+/g, "-")}-${stamp(now)}`);
  if (base === "") throw new RunError("wrong", "the run's folder has no name");
  for (let number = 1; ; number++) {
    const path = number === 1 ? base : `${base}-${number}`;
    const place = existsSync(path) ? realpathSync(path) : resolve(path);
    if (!isFree(place)) {
      if (folder === undefined) continue;
      throw taken(path, place);
    }
    try {
      const made = await make(path, place, options);
      if (made !== undefined) return made;
    } catch (error) {
      throw faultOf(`make \`${path}\``, error);
    }
  }
}

/** True if nothing is there, or an empty folder. */
function isFree(place: string): boolean {
  return !existsSync(place) || (statSync(place).isDirectory() && readdirSync(place).length === 0);
}

function taken(path: string, place: string): RunError {
  if (!statSync(place).isDirectory())
    return new RunError("wrong", `\`${path}\` exists and is not a folder`, ["choose another folder for the run"]);
  return existsSync(join(place, RECORD_FILE))
    ? new RunError("wrong", `\`${path}\` holds a run already`, ["resume that run, or choose another folder"])
    : new RunError("wrong", `\`${path}\` exists and is not the folder of a run: it is left as it is`, [
        "choose another folder for the run",
      ]);
}

/** The run's folder at its place, or undefined if somebody else was faster. */
async function make(path: string, place: string, options: CreateRunOptions): Promise<RunFolder | undefined> {
  const { record, sources, manifest } = options;
  mkdirSync(dirname(place), { recursive: true });
  const temporary = mkdtempSync(join(dirname(place), `.${basename(place)}-`));
  try {
    chmodSync(temporary, 0o777 & ~process.umask());
    for (const { path: name, text } of withoutCommonFolder(sources)) write(join(temporary, SOURCES, name), text);
    write(join(temporary, SOURCES, manifestName(manifest)), manifest);
    const named: RunRecord = { ...record, name: basename(place) };
    write(join(temporary, RECORD_FILE), `${JSON.stringify(named, undefined, 1)}\n`);
    write(join(temporary, METRICS_FILE), "");
    // The lock is taken before anybody can see the folder.
    const lock = await takeLock(temporary);
    try {
      if (existsSync(place)) rmdirSync(place);
      renameSync(temporary, place);
    } catch (error) {
      if (codeOf(error) !== "ENOTEMPTY" && codeOf(error) !== "EEXIST") throw error;
      rmSync(temporary, { recursive: true, force: true });
      return undefined;
    }
    await realDisk.syncFolder(dirname(place));
    return opened(path, place, named, lock);
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true });
    throw error;
  }
}

/** Writes a file that does not exist, and the folders above it, to the disk. */
function write(file: string, text: string): void {
  mkdirSync(dirname(file), { recursive: true });
  const handle = openSync(file, "wx");
  try {
    const bytes = new TextEncoder().encode(text);
    for (let at = 0; at < bytes.length; ) at += writeSync(handle, bytes, at);
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

/** Paths below the deepest folder that they have in common: nobody's home is written down. */
export function withoutCommonFolder<T extends { readonly path: string }>(files: readonly T[]): T[] {
  const paths = files.map(({ path }) => resolve(path));
  let common = dirname(paths[0] ?? sep);
  while (!paths.every((path) => path.startsWith(common.endsWith(sep) ? common : common + sep)))
    common = dirname(common);
  return files.map((file) => ({ ...file, path: relative(common, resolve(file.path)) }));
}

function manifestName(text: string): string {
  return `manifest-${createHash("sha256").update(text).digest("hex").slice(0, 12)}.jsonl`;
}

/** The manifest with this SHA-256 that the run kept, for a comparison clip by clip; undefined if it did not. */
export function findManifest(path: string, manifestHash: string): Manifest | undefined {
  const file = join(path, SOURCES, `manifest-${manifestHash.slice(0, 12)}.jsonl`);
  if (!existsSync(file)) return undefined;
  const manifest = decodeManifest(readFileSync(file, "utf8"));
  return "error" in manifest ? undefined : manifest;
}

/**
 * What a run was asked to do.
 * @throws RunError for a folder that is not a run's
 */
export function readRun(path: string): RunRecord {
  const file = join(path, RECORD_FILE);
  if (!existsSync(file))
    throw new RunError(
      "wrong",
      existsSync(path) ? `\`${path}\` is not the folder of a run: it has no ${RECORD_FILE}` : `there is no \`${path}\``,
      ["give the folder that training made, for example below `runs/`"],
    );
  const wrong = (reason: string): RunError => new RunError("wrong", `\`${file}\` ${reason}`, ["train the model anew"]);
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    throw error instanceof SyntaxError ? wrong("is not JSON: it was changed") : faultOf(`read \`${file}\``, error);
  }
  if (typeof value !== "object" || value === null || !("format" in value) || value.format !== "netc-run")
    throw wrong("is not the record of a run");
  if (!("version" in value) || value.version !== 1) throw wrong("has a version that this netc does not know");
  return value as RunRecord;
}

/**
 * Opens a run to go on with it, and takes its lock. A last line of metrics that was cut short is removed.
 * @throws RunError for a folder that is not a run's, or in which another process trains
 */
export async function openRun(path: string): Promise<RunFolder> {
  const record = readRun(path);
  const place = realpathSync(path);
  try {
    const lock = await takeLock(place, path);
    try {
      return opened(path, place, record, lock);
    } catch (error) {
      lock.release(place);
      throw error;
    }
  } catch (error) {
    throw faultOf(`open \`${path}\``, error);
  }
}

/** The lines of metrics.jsonl; a number that was not finite comes back as NaN, a line cut short not at all. */
export function readMetrics(path: string): MetricLine[] {
  const file = join(path, METRICS_FILE);
  if (!existsSync(file)) return [];
  const text = readFileSync(file, "utf8");
  const whole = text.slice(0, text.lastIndexOf("\n") + 1);
  return whole.split("\n").flatMap((line, index) => {
    if (line === "") return [];
    try {
      return [JSON.parse(line, (_key, value: unknown) => value ?? Number.NaN) as MetricLine];
    } catch {
      throw new RunError("wrong", `\`${file}\`, line ${index + 1}, is not JSON: it was changed`, ["remove that line"]);
    }
  });
}

const NEWLINE = 10;

/** Where the first line begins that belongs to a later step, or is cut short. */
function endOfStep(bytes: Uint8Array, step: number): number {
  let start = 0;
  for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, start)) {
    const text = new TextDecoder().decode(bytes.subarray(start, end));
    if (Number(/"step":(\d+)/.exec(text)?.[1] ?? 0) > step) return start;
    start = end + 1;
  }
  return start;
}

/** The record, and its sources in a folder of their own, which is there before anything points to it. */
function amended(place: string, record: RunRecord, sources: CreateRunOptions["sources"]): RunRecord {
  let number = 1;
  while (existsSync(join(place, SOURCES, `changed-${number}`))) number++;
  const folder = `changed-${number}`;
  for (const { path, text } of withoutCommonFolder(sources)) write(join(place, SOURCES, folder, path), text);
  const made = { ...record, request: { ...record.request, source: join(folder, record.request.source) } };
  const temporary = join(place, `.${RECORD_FILE}-${process.pid}`);
  rmSync(temporary, { force: true });
  write(temporary, `${JSON.stringify(made, undefined, 1)}\n`);
  renameSync(temporary, join(place, RECORD_FILE));
  return made;
}

function opened(path: string, place: string, before: RunRecord, lock: Lock): RunFolder {
  let record = before;
  const name = join(path, METRICS_FILE);
  const guard = <T>(doing: string, work: () => T): T => {
    try {
      return work();
    } catch (error) {
      throw faultOf(`${doing} \`${name}\``, error, ["free some space, or make the file writable, and resume the run"]);
    }
  };
  // For reading too: the end of the file is looked at when it is cut.
  const file = guard("open", () => openSync(join(place, METRICS_FILE), "a+"));
  const read = (): Uint8Array => readFileSync(join(place, METRICS_FILE));
  let length = guard("read", () => fstatSync(file).size);
  const truncate = (to: number): void => {
    ftruncateSync(file, to);
    length = to;
  };
  if (length > 0) guard("cut", () => truncate(read().lastIndexOf(NEWLINE) + 1));
  return {
    path,
    get record() {
      return record;
    },
    append(line) {
      const bytes = new TextEncoder().encode(`${JSON.stringify(line)}\n`);
      guard("write", () => {
        let written = 0;
        try {
          while (written < bytes.length) written += writeSync(file, bytes, written);
        } catch (error) {
          // Half a line would be taken for the beginning of the next one.
          ftruncateSync(file, length);
          throw error;
        }
        length += bytes.length;
      });
    },
    metricsBytes: () => length,
    sync: () => guard("write", () => fsyncSync(file)),
    cut({ step, metricsBytes }) {
      return guard("cut", () => {
        const bytes = read();
        const byStep = endOfStep(bytes, step);
        // The length is exact, unless somebody has edited the file since.
        const exact = metricsBytes <= byStep && (metricsBytes === 0 || bytes[metricsBytes - 1] === NEWLINE);
        const end = exact ? metricsBytes : byStep;
        const lines = bytes.subarray(end).filter((byte) => byte === NEWLINE).length;
        truncate(end);
        fsyncSync(file);
        return lines;
      });
    },
    amend(changed, sources) {
      const { name, started } = record;
      guard("change the record beside", () => {
        record = amended(place, { ...changed, name, started }, sources);
      });
    },
    keepManifest(text) {
      const target = join(place, SOURCES, manifestName(text));
      if (!existsSync(target)) guard("keep the manifest beside", () => write(target, text));
    },
    close() {
      closeSync(file);
      lock.release(place);
    },
  };
}
