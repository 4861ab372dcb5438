/**
 * Checkpoints: everything that training needs to go on as if it had never stopped.
 *
 *     checkpoints/step-00001234/
 *         state.safetensors    f32 tensors: parameters and running statistics by their own names (`conv1.weight`), so that
 *                              other programs read them; what the optimizer keeps of them as `momentum/conv1.weight`,
 *                              which is no name of a parameter, for none has a `/`
 *         checkpoint.json      where training stood, what it was, and the SHA-256 of both files
 *
 * In: a record and a stream of tensors, never a second copy of them. Out: a folder that is complete or is not there: it
 * is written beside its place, brought to the disk file by file, renamed, and only then are older ones removed. Readers
 * check lengths and hashes, and take the newest one that is complete.
 *
 * Whoever writes holds the lock of the run (run-folder.ts).
 */
import { createHash } from "node:crypto";
import { existsSync, type Stats } from "node:fs";
import { type FileHandle, mkdir, open, readdir, readFile, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Recipe } from "../../compiler/recipe/recipe.ts";
import {
  openSafetensors,
  type ReadBytes,
  readTensor,
  safetensorsHead,
  type TensorData,
  type TensorEntry,
} from "../engine/safetensors.ts";
import { type Disk, realDisk, type Sink, writeText } from "./disk.ts";
import { codeOf, faultOf, RunError } from "./fault.ts";
import type { PlateauState, StopState } from "./schedule.ts";

/** What must be the same when training goes on: see changes.ts. */
export interface RunFacts {
  readonly model: string;
  readonly graphHash: string;
  readonly recipe: Recipe;
  /** SHA-256 of the recipe as JSON. */
  readonly recipeHash: string;
  /** SHA-256 of the manifest. */
  readonly manifestHash: string;
  readonly seed: number;
  /** As the device names itself; training goes on elsewhere with other roundings. */
  readonly device: string;
  /** Of the WASM engine; undefined on a GPU. */
  readonly threads: number | undefined;
}

/** Where training stood. All of its numbers are finite. */
export interface CheckpointRecord {
  /** Updates since the run began. */
  readonly step: number;
  /** From 0. */
  readonly stage: number;
  /** From 0, within the stage. */
  readonly epoch: number;
  /** Updates of this epoch that are done; 0: it has not begun. */
  readonly batch: number;
  /** Numbers that the loop counts on, by name: draws of each generator, the loss scale. */
  readonly counters: Readonly<Record<string, number>>;
  readonly plateau: PlateauState;
  readonly stop: StopState;
  /** The best epoch so far; undefined: none was measured. */
  readonly best: { readonly score: number; readonly step: number } | undefined;
  /** Length of metrics.jsonl when this was written. */
  readonly metricsBytes: number;
  readonly facts: RunFacts;
}

/** Names and shapes in the order in which the tensors come: the file's header stands before them. */
export interface StateStream {
  readonly layout: readonly Pick<TensorData, "name" | "shape">[];
  /** The arrays may be used again for the next tensor. */
  readonly tensors: AsyncIterable<TensorData> | Iterable<TensorData>;
}

/** What checkpoint.json holds. */
interface StoredCheckpoint extends CheckpointRecord {
  /** Counts the checkpoints of a run in the order of writing: the newest is not always that of the last step. */
  readonly serial: number;
  readonly state: { readonly bytes: number; readonly sha256: string };
}

export interface CheckpointInfo {
  /** The path as it was asked for, with the checkpoint's folder at its end. */
  readonly folder: string;
  readonly record: CheckpointRecord;
  readonly bytes: number;
}

/** A checkpoint that was passed over, and why. */
export interface SkippedCheckpoint {
  readonly folder: string;
  readonly reason: string;
}

const RECORD_FILE = "checkpoint.json";
const STATE_FILE = "state.safetensors";
const FOLDER = "checkpoints";
const FORMAT = "netc-checkpoint";
/** Checkpoints; with `.old` while another of the same step takes the place of one. */
const NAME = /^step-(\d{8,})(\.old)?$/;
/** Folders that were being written, or removed, when the process ended. */
const LEFT_OVER = /^\.(step|removed)-/;
/** Bytes that are hashed and written at a time. */
const CHUNK = 4 * 1024 * 1024;

/** The name of a checkpoint's folder. */
export function checkpointName(step: number): string {
  return `step-${String(step).padStart(8, "0")}`;
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

function size(bytes: number): string {
  const unit = bytes < 2 ** 20 ? 1 : bytes < 2 ** 30 ? 2 : 3;
  return `${(bytes / 1024 ** unit).toFixed(1)} ${["", "KiB", "MiB", "GiB"][unit] ?? ""}`;
}

// -------------------------------------------------------------------------------------------------------------- writing

export interface SaveOptions {
  /** How many of the newest stay, besides the best. */
  readonly keep?: number;
  readonly disk?: Disk;
}

export interface Saved {
  readonly folder: string;
  readonly bytes: number;
  /** Names of older ones that were removed. */
  readonly removed: readonly string[];
  /** What could not be tidied away; the checkpoint itself is safe. */
  readonly warnings: readonly string[];
}

/**
 * Writes a checkpoint, and then removes those that are neither among the newest `keep` nor the best.
 * @throws RunError (machine: a full disk) after which all earlier checkpoints are what they were
 */
export async function saveCheckpoint(
  runFolder: string,
  record: CheckpointRecord,
  state: StateStream,
  options: SaveOptions = {},
): Promise<Saved> {
  const { keep = 3, disk = realDisk } = options;
  const parent = join(runFolder, FOLDER);
  const name = checkpointName(record.step);
  const bytes = state.layout.reduce((sum, { shape }) => sum + 4 * shape.reduce((product, n) => product * n, 1), 0);
  let before: readonly Readable[] = [];
  let temporary: string | undefined;
  try {
    if (!existsSync(parent)) {
      await mkdir(parent);
      await disk.syncFolder(runFolder);
    }
    // They are incomplete, and may be what fills the disk.
    for (const entry of await disk.list(parent)) if (LEFT_OVER.test(entry)) await disk.remove(join(parent, entry));
    before = (await survey(parent)).readable;
    const serial = 1 + Math.max(0, ...before.map(({ stored }) => stored.serial));
    temporary = await disk.temporaryFolder(join(parent, `.${name}-`));
    const written = await writeState(await disk.create(join(temporary, STATE_FILE)), state);
    await writeText(disk, join(temporary, RECORD_FILE), encodeRecord({ ...record, serial, state: written }));
    await disk.syncFolder(temporary);
    await putInPlace(disk, temporary, parent, name);
  } catch (error) {
    // The disk may be too broken for that too; the next save tries again.
    if (temporary !== undefined) await disk.remove(temporary).catch(() => {});
    const newest = before[0];
    throw faultOf(`save the checkpoint of step ${record.step} (${size(bytes)}) in \`${parent}\``, error, [
      newest === undefined
        ? "no earlier checkpoint was written"
        : `earlier checkpoints are as they were; the newest is \`${basename(newest.folder)}\``,
      "free some space, or make the folder writable, and resume the run",
    ]);
  }
  const stale = before
    .filter(({ stored }) => stored.step !== record.step)
    .slice(Math.max(0, keep - 1))
    .filter(({ stored }) => stored.step !== record.best?.step);
  return { folder: join(parent, name), bytes, ...(await removeAll(disk, parent, name, stale)) };
}

/** The head and the numbers, to the disk and through the hash. */
async function writeState(sink: Sink, { layout, tensors }: StateStream): Promise<StoredCheckpoint["state"]> {
  const hash = createHash("sha256");
  let bytes = 0;
  const put = async (piece: Uint8Array): Promise<void> => {
    for (let at = 0; at < piece.byteLength; at += CHUNK) {
      const chunk = piece.subarray(at, at + CHUNK);
      hash.update(chunk);
      await sink.write(chunk);
    }
    bytes += piece.byteLength;
  };
  try {
    await put(safetensorsHead(layout, { format: "pt" }));
    let index = 0;
    for await (const { name, shape, data } of tensors) {
      const announced = layout[index++];
      if (announced?.name !== name || announced.shape.join() !== shape.join())
        throw new Error(`internal: the state announces ${announced?.name ?? "its end"} where ${name} comes`);
      if (shape.reduce((product, n) => product * n, 1) !== data.length)
        throw new Error(`internal: ${name} has ${data.length} numbers for the shape [${shape.join(", ")}]`);
      await put(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    }
    if (index !== layout.length) throw new Error(`internal: the state ends after ${index} of ${layout.length} tensors`);
  } catch (error) {
    await sink.abandon();
    throw error;
  }
  await sink.finish();
  return { bytes, sha256: hash.digest("hex") };
}

/** Renames the complete folder. One of the same step stays, under a name that readers know, until that is done. */
async function putInPlace(disk: Disk, temporary: string, parent: string, name: string): Promise<void> {
  const place = join(parent, name);
  if (existsSync(place)) {
    await removeWhole(disk, parent, `${name}.old`);
    await disk.rename(place, `${place}.old`);
  }
  await disk.rename(temporary, place);
  await disk.syncFolder(parent);
}

/** Under another name first: what is half removed is not to look like a checkpoint that broke. */
async function removeWhole(disk: Disk, parent: string, name: string): Promise<void> {
  if (!existsSync(join(parent, name))) return;
  const removed = join(parent, `.removed-${name}`);
  await disk.rename(join(parent, name), removed);
  await disk.remove(removed);
}

async function removeAll(
  disk: Disk,
  parent: string,
  saved: string,
  stale: readonly Readable[],
): Promise<Pick<Saved, "removed" | "warnings">> {
  const removed: string[] = [];
  const warnings: string[] = [];
  const names = stale.map(({ folder }) => basename(folder));
  for (const name of [...names, `${saved}.old`]) {
    try {
      await removeWhole(disk, parent, name);
      if (name !== `${saved}.old`) removed.push(name);
    } catch (error) {
      warnings.push(faultOf(`remove the older checkpoint \`${join(parent, name)}\``, error).message);
    }
  }
  return { removed, warnings };
}

function encodeRecord(checkpoint: StoredCheckpoint): string {
  const body = JSON.stringify(checkpoint, (key, value: unknown) => {
    // JSON has no NaN and would write null, which nobody could read back.
    if (typeof value === "number" && !Number.isFinite(value))
      throw new Error(`internal: ${key} of a checkpoint is ${value}`);
    return value;
  });
  // The hash is that of what a reader will have parsed: JavaScript puts keys like "1" first.
  const parsed: unknown = JSON.parse(body);
  const outer = { format: FORMAT, version: 1, checksum: sha256(JSON.stringify(parsed)), checkpoint: parsed };
  return `${JSON.stringify(outer, undefined, 1)}\n`;
}

// -------------------------------------------------------------------------------------------------------------- reading

/** A folder whose record is intact and whose state has the right length. */
interface Readable {
  readonly folder: string;
  readonly stored: StoredCheckpoint;
}

async function statOf(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    if (codeOf(error) === "ENOENT" || codeOf(error) === "ENOTDIR") return undefined;
    throw error;
  }
}

/** The record of one folder, or why it is not a complete checkpoint. Does not hash the state. */
async function inspect(folder: string): Promise<Readable | SkippedCheckpoint> {
  const wrong = (reason: string): SkippedCheckpoint => ({ folder, reason });
  try {
    if ((await statOf(join(folder, RECORD_FILE))) === undefined) return wrong(`it has no ${RECORD_FILE}`);
    const stored = decodeRecord(await readFile(join(folder, RECORD_FILE), "utf8"));
    if (typeof stored === "string") return wrong(stored);
    const file = await statOf(join(folder, STATE_FILE));
    if (!file?.isFile()) return wrong(`it has no ${STATE_FILE}`);
    if (file.size !== stored.state.bytes)
      return wrong(
        `${STATE_FILE} has ${file.size} bytes instead of ${stored.state.bytes}: it was cut short or changed`,
      );
    return { folder, stored };
  } catch (error) {
    return wrong(faultOf("read it", error).message);
  }
}

/** The checkpoint in a text, or what is wrong with it. */
function decodeRecord(text: string): StoredCheckpoint | string {
  let outer: unknown;
  try {
    outer = JSON.parse(text);
  } catch {
    return `${RECORD_FILE} is not JSON: it was cut short or changed`;
  }
  if (typeof outer !== "object" || outer === null || !("format" in outer) || outer.format !== FORMAT)
    return `${RECORD_FILE} is not that of a checkpoint`;
  if (!("version" in outer) || outer.version !== 1)
    return `${RECORD_FILE} has a version that this netc does not know: it is of a later one, or was changed`;
  if (!("checkpoint" in outer) || !("checksum" in outer) || sha256(JSON.stringify(outer.checkpoint)) !== outer.checksum)
    return `${RECORD_FILE} does not agree with its own SHA-256: it was changed`;
  // The checksum says that we wrote it.
  return outer.checkpoint as StoredCheckpoint;
}

/** Every folder of a run that is named like a checkpoint; the readable ones by age, the newest first. */
async function survey(
  parent: string,
): Promise<{ readable: readonly Readable[]; skipped: readonly SkippedCheckpoint[] }> {
  const readable: Readable[] = [];
  const skipped: SkippedCheckpoint[] = [];
  for (const name of (await readdir(parent)).filter((name) => NAME.test(name)).sort()) {
    const found = await inspect(join(parent, name));
    if ("stored" in found) readable.push(found);
    else skipped.push(found);
  }
  readable.sort((a, b) => b.stored.serial - a.stored.serial);
  return { readable, skipped };
}

/**
 * The checkpoints of a run, the newest first, and what only looks like one. Lengths and records are checked, the hash of
 * the tensors is not: see `loadCheckpoint`.
 */
export async function listCheckpoints(
  runFolder: string,
): Promise<{ readonly checkpoints: readonly CheckpointInfo[]; readonly skipped: readonly SkippedCheckpoint[] }> {
  const parent = join(runFolder, FOLDER);
  if ((await statOf(parent)) === undefined) return { checkpoints: [], skipped: [] };
  const { readable, skipped } = await survey(parent);
  return {
    checkpoints: readable.map(({ folder, stored }) => ({
      folder,
      record: recordOf(stored),
      bytes: stored.state.bytes,
    })),
    skipped,
  };
}

function recordOf({ serial: _serial, state: _state, ...record }: StoredCheckpoint): CheckpointRecord {
  // JSON has no undefined: keys that had this value are not there.
  return record;
}

/** A checkpoint whose every byte has been checked. Owns an open file until `close`. */
export interface LoadedCheckpoint {
  readonly folder: string;
  readonly record: CheckpointRecord;
  /** Those that were passed over: for `latest` all that are broken, for one step those of this step. */
  readonly skipped: readonly SkippedCheckpoint[];
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /** One tensor, read when asked for. */
  read(name: string): Promise<Float32Array>;
  close(): Promise<void>;
}

/** Which checkpoint of a run: the newest, that of the best epoch, or that after so many updates. */
export type WhichCheckpoint = "latest" | "best" | number;

/**
 * Opens a checkpoint: a folder of one, or a run's. `latest` passes over what is incomplete; `best` and a step do not put
 * another in the place of the one asked for.
 * @throws RunError that says what was found instead
 */
export async function loadCheckpoint(path: string, which: WhichCheckpoint = "latest"): Promise<LoadedCheckpoint> {
  try {
    if (existsSync(join(path, RECORD_FILE)) || NAME.test(basename(path))) return await loadFolder(path);
    return await loadFromRun(path, which);
  } catch (error) {
    throw faultOf(`read the checkpoint in \`${path}\``, error);
  }
}

async function loadFolder(folder: string): Promise<LoadedCheckpoint> {
  if ((await statOf(folder)) === undefined) throw missing(folder);
  const found = await inspect(folder);
  const opened = "stored" in found ? await openState(found) : found;
  if ("read" in opened) return { ...opened, skipped: [] };
  throw new RunError("wrong", `\`${folder}\` is not a complete checkpoint: ${opened.reason}`, [
    `take another one of the run: \`${dirname(dirname(folder))}\``,
  ]);
}

function missing(path: string): RunError {
  return new RunError("wrong", `there is no \`${path}\``, ["give the folder of a run, or of one of its checkpoints"]);
}

async function loadFromRun(run: string, which: WhichCheckpoint): Promise<LoadedCheckpoint> {
  if ((await statOf(run)) === undefined) throw missing(run);
  const parent = join(run, FOLDER);
  if ((await statOf(parent)) === undefined)
    throw new RunError("wrong", `\`${run}\` has no checkpoint`, [
      "it is not the folder of a run, or was ended before its first checkpoint: train it anew",
    ]);
  const { readable, skipped } = await survey(parent);
  const step = which === "best" ? bestStep(run, readable, skipped) : which;
  const candidates = step === "latest" ? readable : readable.filter(({ stored }) => stored.step === step);
  const passed = skipped.filter(({ folder }) => step === "latest" || stepOf(folder) === step);
  for (const candidate of candidates) {
    const opened = await openState(candidate);
    if ("read" in opened) return { ...opened, skipped: passed };
    passed.push(opened);
  }
  const what =
    which === "latest"
      ? "complete checkpoint"
      : `complete checkpoint of ${which === "best" ? "its best epoch, " : ""}step ${step}`;
  const others = readable.filter((other) => !candidates.includes(other)).map(({ stored }) => stored.step);
  throw new RunError(
    "wrong",
    [`\`${run}\` has no ${what}`, ...passed.map(({ folder, reason }) => `\`${basename(folder)}\`: ${reason}`)].join(
      "; ",
    ),
    [others.length === 0 ? "train it anew" : `there are checkpoints of the steps ${others.join(", ")}`],
  );
}

function stepOf(folder: string): number {
  return Number(NAME.exec(basename(folder))?.[1]);
}

function bestStep(
  run: string,
  readable: readonly Readable[],
  skipped: readonly SkippedCheckpoint[],
): number | "latest" {
  const newest = readable[0];
  if (newest === undefined) return "latest"; // which says what is wrong with each
  if (newest.stored.best !== undefined) return newest.stored.best.step;
  throw new RunError(
    "wrong",
    `no epoch of \`${run}\` was measured before its checkpoints were written: none is the best`,
    [
      `take the latest, of step ${newest.stored.step}`,
      ...skipped.map(({ folder, reason }) => `\`${basename(folder)}\` was passed over: ${reason}`),
    ],
  );
}

/** Checks the hash of the tensors, and leaves their file open. */
async function openState({ folder, stored }: Readable): Promise<Omit<LoadedCheckpoint, "skipped"> | SkippedCheckpoint> {
  const path = join(folder, STATE_FILE);
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, "r");
    const opened = handle;
    if ((await hashOf(opened)) !== stored.state.sha256) {
      await opened.close();
      return { folder, reason: `${STATE_FILE} does not agree with its SHA-256: some of its bytes were changed` };
    }
    const read: ReadBytes = (offset, length) => readRange(opened, offset, length);
    const file = await openSafetensors(read, stored.state.bytes);
    if ("error" in file) throw new Error(file.error);
    return {
      folder,
      record: recordOf(stored),
      tensors: file.tensors,
      async read(name) {
        const data = await readTensor(file, name);
        if ("error" in data) throw new RunError("wrong", `cannot read \`${name}\` of \`${folder}\`: ${data.error}`);
        return data;
      },
      close: () => opened.close(),
    };
  } catch (error) {
    await handle?.close();
    return { folder, reason: faultOf(`read ${STATE_FILE}`, error).message };
  }
}

async function hashOf(handle: FileHandle): Promise<string> {
  const hash = createHash("sha256");
  const buffer = new Uint8Array(CHUNK);
  for (let at = 0; ; ) {
    const { bytesRead } = await handle.read(buffer, 0, CHUNK, at);
    if (bytesRead === 0) return hash.digest("hex");
    hash.update(buffer.subarray(0, bytesRead));
    at += bytesRead;
  }
}

/** Also more than the 2 GiB that one read gives. */
async function readRange(handle: FileHandle, offset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await handle.read(bytes, done, Math.min(CHUNK, length - done), offset + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return bytes.subarray(0, done);
}
