/**
 * Writing one file so that it is either the old one or the whole of the fresh one, whatever happens in between.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { systemError } from "./exit.ts";

/**
 * Writes a file beside its place, waits for the disk, then moves it there.
 * @throws CommandError in words; what was there before is there still
 */
export function writeWhole(file: string, text: string): void {
  const fresh = `${file}.part`;
  try {
    mkdirSync(dirname(file), { recursive: true });
    const open = openSync(fresh, "w");
    try {
      let rest = Buffer.from(text);
      while (rest.length > 0) rest = rest.subarray(writeSync(open, rest));
      fsyncSync(open);
    } finally {
      closeSync(open);
    }
    renameSync(fresh, file);
  } catch (error) {
    rmSync(fresh, { force: true });
    throw systemError(`write \`${file}\``, error);
  }
}
