/**
 * What is in a file, remembered: an entry of the cache is named by content, and a file is read once to hash it.
 *
 * In: paths of clips. Out: their SHA-256. `files.jsonl` in the cache's folder keeps a line for each file that has been
 * hashed: its path, size and time of change; while these stay the same, so does the hash. Lines are only appended (a
 * short append is whole even with several processes), a line that cannot be read is skipped, and the last one counts. A
 * folder of images is named by its listing instead: names, sizes and times of change.
 */
import { createHash } from "node:crypto";
import { appendFileSync, createReadStream, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join, resolve } from "node:path";

interface Known {
  readonly size: number;
  readonly changed: number;
  readonly sha256: string;
}

export interface FileIndex {
  /** The content's hash, and whether it is a folder; undefined where there is nothing. */
  readonly identify: (path: string) => Promise<{ readonly hash: string; readonly folder: boolean } | undefined>;
}

const FILE = "files.jsonl";

/** Opens the index in `folder`; undefined: hashes are remembered until the process ends. */
export function openFileIndex(folder: string | undefined): FileIndex {
  const known = new Map<string, Known>();
  const file = folder === undefined ? undefined : join(folder, FILE);
  if (file !== undefined) load(file, known);
  let keeping = file !== undefined;
  return {
    identify: async (path) => {
      const full = resolve(path);
      const found = await stat(full).catch(() => undefined);
      if (found === undefined) return undefined;
      if (found.isDirectory()) return { hash: await hashListing(full), folder: true };
      const before = known.get(full);
      if (before !== undefined && before.size === found.size && before.changed === found.mtimeMs)
        return { hash: before.sha256, folder: false };
      const hash = createHash("sha256");
      try {
        for await (const chunk of createReadStream(full)) hash.update(chunk);
      } catch {
        return undefined;
      }
      const entry = { size: found.size, changed: found.mtimeMs, sha256: hash.digest("hex") };
      known.set(full, entry);
      if (keeping && folder !== undefined && file !== undefined)
        try {
          mkdirSync(folder, { recursive: true });
          appendFileSync(file, `${JSON.stringify({ path: full, ...entry })}\n`);
        } catch {
          keeping = false; // it is hashed again next time
        }
      return { hash: entry.sha256, folder: false };
    },
  };
}

/** Reads the index, and writes it again without its outdated lines where most are. */
function load(file: string, known: Map<string, Known>): void {
  let lines: string[];
  try {
    lines = readFileSync(file, "utf8").split("\n");
  } catch {
    return;
  }
  for (const line of lines)
    try {
      const value: {
        readonly path: unknown;
        readonly size: unknown;
        readonly changed: unknown;
        readonly sha256: unknown;
      } = JSON.parse(line);
      const { path, size, changed, sha256 } = value;
      if (typeof path !== "string" || typeof size !== "number" || typeof changed !== "number") continue;
      if (typeof sha256 === "string") known.set(path, { size, changed, sha256 });
    } catch {
      // Cut off by a crash.
    }
  if (lines.length < 2 * known.size + 1000) return;
  const temporary = `${file}.${process.pid}.part`;
  try {
    writeFileSync(temporary, [...known].map(([path, entry]) => `${JSON.stringify({ path, ...entry })}\n`).join(""));
    renameSync(temporary, file);
  } catch {
    rmSync(temporary, { force: true });
  }
}

async function hashListing(folder: string): Promise<string> {
  const hash = createHash("sha256").update(folder);
  for (const name of (await readdir(folder)).sort()) {
    const found = await stat(join(folder, name)).catch(() => undefined);
    hash.update(`\n${name}\n${found?.size ?? -1}\n${found?.mtimeMs ?? -1}`);
  }
  return hash.digest("hex");
}
