/**
 * A store of decoded frames and flow on the disk, so that a clip is decoded and its flow computed once.
 *
 * In: a key (the SHA-256 of everything that an entry depends on, see `entryKey`), a header, and planes of bytes. Out: the
 * same. An entry is one file: magic, length and checksum of the header, the header as JSON, then pictures and flow.
 * Every part has its own checksum, so one window is read and checked without the rest; whatever does not fit (a file cut
 * short by a crash, a bad disk) is removed and counts as absent. Entries are written to a temporary name and renamed, so
 * none is seen half written; they are not synced, for a checksum finds what a power cut leaves.
 *
 * Several processes may share a folder. The store is kept below its bound by removing what was used the longest ago
 * (times of last use are the files' times); an entry that another process removes is made again. If the folder cannot be
 * written to, the store says so once and only reads from then on.
 *
 * `createCache` runs in worker threads as text (see ../flow.ts), so it uses nothing but its arguments.
 */
import { createHash } from "node:crypto";
import { homedir } from "node:os";
import { join } from "node:path";

/** What an entry holds: some windows of L + 1 consecutive frames of one clip, resized but not cropped. */
export interface EntryHeader {
  /** Frames in the clip, and the size in pixels of the resized picture. */
  readonly frames: number;
  readonly width: number;
  readonly height: number;
  /** Flow fields L of a window. */
  readonly fields: number;
  /** Number of the first frame of each window, ascending. */
  readonly starts: readonly number[];
  /** For each window, how many pairs of frames the entry holds before the window's first. */
  readonly pairAt: readonly number[];
  readonly pairs: number;
  readonly flow: "none" | "images" | "tvl1";
  readonly decoder: string;
  readonly warnings: readonly string[];
  /** CRC-32 of each window's picture (packed RGB of its middle frame); empty where no picture is wanted. */
  readonly rgbSums: readonly number[];
  /** CRC-32 of each pair's flow, a plane of x and a plane of y. */
  readonly flowSums: readonly number[];
}

/** One window: its middle frame as packed RGB, and its flow as planes x1, y1, x2, y2, … of bytes (0..255 for ±bound). */
export interface WindowBytes {
  readonly rgb: Uint8Array;
  readonly flow: Uint8Array;
}

export interface CacheOptions {
  readonly folder: string;
  /** Bytes that entries may take in all. */
  readonly bound: number;
}

/** Where the cache lies when nobody says: $NETC_CACHE, else below the system's folder for caches; 20 GiB. */
export function defaultCache(environment: NodeJS.ProcessEnv = process.env): CacheOptions {
  const { NETC_CACHE: own, XDG_CACHE_HOME: shared } = environment;
  const folder = own || join(shared || join(homedir(), ".cache"), "netc");
  return { folder, bound: 20 * 2 ** 30 };
}

/** Counted up whenever the same inputs would give other bytes. */
const ENTRY_FORMAT = 1;

/** The name of an entry: a hash of all that its bytes depend on. */
export function entryKey(facts: Readonly<Record<string, unknown>>): string {
  const sorted = Object.fromEntries(Object.entries(facts).sort(([a], [b]) => (a < b ? -1 : 1)));
  return createHash("sha256")
    .update(JSON.stringify({ ...sorted, format: ENTRY_FORMAT }))
    .digest("hex");
}

/** What `createCache` uses of Node. */
export interface CacheNode {
  readonly fs: Pick<
    typeof import("node:fs"),
    | "openSync"
    | "readSync"
    | "closeSync"
    | "fstatSync"
    | "writeSync"
    | "renameSync"
    | "rmSync"
    | "mkdirSync"
    | "readdirSync"
    | "statSync"
    | "utimesSync"
  >;
  readonly join: (...parts: string[]) => string;
  readonly crc32: (data: Uint8Array, value?: number) => number;
  /** Names this thread among all that write to the folder. */
  readonly unique: string;
}

export interface Cache {
  /** Whether entries are still being kept. */
  readonly writable: () => boolean;
  readonly header: (key: string) => EntryHeader | undefined;
  /** Window number `index` of the entry, in the order of `header.starts`. */
  readonly window: (key: string, header: EntryHeader, index: number) => WindowBytes | undefined;
  /** Keeps an entry; `rgb` a picture for each window, `flow` a pair of planes for each pair of frames. */
  readonly store: (
    key: string,
    header: Omit<EntryHeader, "rgbSums" | "flowSums">,
    rgb: readonly Uint8Array[],
    flow: readonly Uint8Array[],
  ) => EntryHeader;
}

/** Opens the store for one thread. `options` undefined: nothing is kept and nothing is found. */
export function createCache(
  { fs, join, crc32, unique }: CacheNode,
  options: CacheOptions | undefined,
  warn: (message: string) => void,
): Cache {
  const magic = "netc entry 1\n";
  const prefix = magic.length + 8; // then the header's length and its checksum, 32 bits each
  const day = 24 * 3600 * 1000;
  let writing = options !== undefined && options.bound > 0;
  let counter = 0;
  /** Bytes of all entries at the last count, and written by this thread since. */
  let total: number | undefined;
  let written = 0;
  const touched = new Set<string>();

  const placeOf = (key: string): string => join(options?.folder ?? "", "entries", key.slice(0, 2), `${key}.entry`);
  const codeOf = (error: unknown): string => (error instanceof Error && "code" in error ? String(error.code) : "");
  const drop = (path: string): undefined => {
    try {
      fs.rmSync(path, { force: true });
    } catch {
      // Somebody else's, or in use: it stays, and is found wrong again.
    }
  };
  const readFully = (file: number, into: Uint8Array, from: number): boolean => {
    for (let at = 0; at < into.length; ) {
      const count = fs.readSync(file, into, at, into.length - at, from + at);
      if (count === 0) return false;
      at += count;
    }
    return true;
  };
  /** Opens an entry for `body`; what is absent or does not fit gives undefined, the latter once and for all. */
  const withEntry = <T>(key: string, body: (file: number) => T | undefined): T | undefined => {
    const path = placeOf(key);
    let file: number;
    try {
      file = fs.openSync(path, "r");
    } catch {
      return undefined;
    }
    try {
      const found = body(file);
      return found ?? drop(path);
    } catch {
      return undefined;
    } finally {
      fs.closeSync(file);
    }
  };
  const bodyOf = (header: EntryHeader): { readonly rgb: number; readonly pair: number } => ({
    rgb: header.rgbSums.length > 0 ? header.width * header.height * 3 : 0,
    pair: header.width * header.height * 2,
  });
  const startOf = (file: number): { readonly header: EntryHeader; readonly body: number } | undefined => {
    const start = new Uint8Array(prefix);
    if (!readFully(file, start, 0)) return undefined;
    const view = new DataView(start.buffer);
    if (Buffer.from(start.subarray(0, magic.length)).toString("latin1") !== magic) return undefined;
    const size = fs.fstatSync(file).size;
    const length = view.getUint32(magic.length, true);
    if (prefix + length > size) return undefined;
    const json = new Uint8Array(length);
    if (!readFully(file, json, prefix) || crc32(json) !== view.getUint32(magic.length + 4, true)) return undefined;
    const header: EntryHeader = JSON.parse(Buffer.from(json).toString("utf8"));
    const { rgb, pair } = bodyOf(header);
    if (size !== prefix + length + header.rgbSums.length * rgb + header.pairs * pair) return undefined;
    return { header, body: prefix + length };
  };

  /** Counts what there is and removes the entries used the longest ago until a tenth of the bound is free. */
  const evict = (bound: number): void => {
    const root = join(options?.folder ?? "", "entries");
    const files: { readonly path: string; readonly bytes: number; readonly used: number }[] = [];
    let sum = 0;
    for (const part of fs.readdirSync(root))
      for (const name of fs.readdirSync(join(root, part))) {
        const path = join(root, part, name);
        try {
          const { size, mtimeMs } = fs.statSync(path);
          // What a killed process was writing.
          if (!name.endsWith(".entry") && Date.now() - mtimeMs > day) drop(path);
          else {
            sum += size;
            files.push({ path, bytes: size, used: mtimeMs });
          }
        } catch {
          // Another process removed it.
        }
      }
    if (sum > bound) {
      files.sort((a, b) => a.used - b.used);
      for (const { path, bytes } of files) {
        if (sum <= 0.9 * bound) break;
        if (!path.endsWith(".entry")) continue;
        drop(path);
        sum -= bytes;
      }
    }
    total = sum;
    written = 0;
  };

  return {
    writable: () => writing,
    header: (key) =>
      options === undefined
        ? undefined
        : withEntry(key, (file) => {
            const found = startOf(file)?.header;
            if (found !== undefined && !touched.has(key)) {
              touched.add(key);
              try {
                fs.utimesSync(placeOf(key), new Date(), new Date());
              } catch {
                // A folder that may only be read: nothing is removed from it either.
              }
            }
            return found;
          }),
    window: (key, header, index) =>
      options === undefined
        ? undefined
        : withEntry(key, (file) => {
            const found = startOf(file);
            const first = header.pairAt[index];
            if (found === undefined || first === undefined) return undefined;
            const size = bodyOf(header);
            const rgb = new Uint8Array(size.rgb);
            const flow = new Uint8Array(size.pair * header.fields);
            const pictures = header.rgbSums.length * size.rgb;
            if (!readFully(file, rgb, found.body + index * size.rgb)) return undefined;
            if (!readFully(file, flow, found.body + pictures + first * size.pair)) return undefined;
            if (rgb.length > 0 && crc32(rgb) !== header.rgbSums[index]) return undefined;
            for (let k = 0; k < header.fields; k++)
              if (crc32(flow.subarray(k * size.pair, (k + 1) * size.pair)) !== header.flowSums[first + k])
                return undefined;
            return { rgb, flow };
          }),
    store: (key, facts, rgb, flow) => {
      const header: EntryHeader = {
        ...facts,
        rgbSums: rgb.map((plane) => crc32(plane)),
        flowSums: flow.map((planes) => crc32(planes)),
      };
      if (!writing || options === undefined) return header;
      const json = Buffer.from(JSON.stringify(header), "utf8");
      const start = new Uint8Array(prefix);
      start.set(Buffer.from(magic, "latin1"));
      const view = new DataView(start.buffer);
      view.setUint32(magic.length, json.length, true);
      view.setUint32(magic.length + 4, crc32(json), true);
      const parts = [start, json, ...rgb, ...flow];
      const bytes = parts.reduce((sum, part) => sum + part.length, 0);
      if (bytes > options.bound) return header;
      const path = placeOf(key);
      const temporary = `${path}.${unique}-${counter++}.part`;
      try {
        fs.mkdirSync(join(path, ".."), { recursive: true });
        if (total === undefined) evict(options.bound - bytes);
        if ((total ?? 0) + written + bytes > options.bound || written > options.bound / 20)
          evict(options.bound - bytes);
        const file = fs.openSync(temporary, "wx");
        try {
          for (const part of parts)
            for (let at = 0; at < part.length; ) at += fs.writeSync(file, part, at, part.length - at);
        } finally {
          fs.closeSync(file);
        }
        fs.renameSync(temporary, path);
        written += bytes;
        touched.add(key);
      } catch (error) {
        drop(temporary);
        writing = false;
        const code = codeOf(error);
        const why =
          code === "ENOSPC" || code === "EDQUOT"
            ? "the disk is full"
            : code === "EACCES" || code === "EPERM" || code === "EROFS"
              ? "it may not be written to"
              : error instanceof Error
                ? error.message
                : String(error);
        warn(`decoded frames are no longer kept in \`${options.folder}\`: ${why}`);
      }
      return header;
    },
  };
}
