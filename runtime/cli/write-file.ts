/**
 * Writing one file so that it is either the old one or the whole of the fresh one, whatever happens in between.
 */
import { mkdirSync } from "node:fs";
import { open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { systemError } from "./exit.ts";

/**
 * Writes beside `path`, waits for the disk, and renames.
 * @throws CommandError in words; what was there before is there still
 */
export async function writeFileSafely(path: string, content: string): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    mkdirSync(dirname(path), { recursive: true });
    const file = await open(temporary, "w");
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw systemError(`write \`${path}\``, error);
  }
}
