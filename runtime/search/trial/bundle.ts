/**
 * A folder of few files as one object of the store: what a trial needs to go on elsewhere.
 *
 * In: files below a folder, and a record beside them. Out: bytes, and the other way round. The store checks the bytes by
 * their name, which is their SHA-256, and checkpoints have hashes of their own; here only the form is checked.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { TrialRecord } from "./messages.ts";

const MAGIC = "netc trial 1\n";

interface Head {
  readonly record: TrialRecord;
  readonly files: readonly { readonly path: string; readonly bytes: number }[];
}

/** The files below `folder`, in the order of their names, behind a head that tells their places. */
export function packTrial(folder: string, record: TrialRecord): Uint8Array {
  const paths = readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) =>
      join(entry.parentPath, entry.name)
        .slice(folder.length + 1)
        .replaceAll("\\", "/"),
    )
    .sort();
  const contents = paths.map((path) => readFileSync(join(folder, path)));
  const files = paths.map((path, index) => ({ path, bytes: contents[index]?.byteLength ?? 0 }));
  const head = Buffer.from(`${MAGIC}${JSON.stringify({ record, files } satisfies Head)}\n`);
  return Buffer.concat([head, ...contents]);
}

/** Writes the files of a bundle below `folder`; undefined for bytes that are no bundle of this netc. */
export function unpackTrial(bytes: Uint8Array, folder: string): TrialRecord | undefined {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (buffer.subarray(0, MAGIC.length).toString() !== MAGIC) return undefined;
  const end = buffer.indexOf(10, MAGIC.length);
  const { record, files }: Head = JSON.parse(buffer.subarray(MAGIC.length, end).toString());
  let at = end + 1;
  for (const { path, bytes: length } of files) {
    const file = join(folder, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, buffer.subarray(at, at + length));
    at += length;
  }
  return record;
}
