/**
 * What tells this compiler from another: results of its work that are kept on disk bear its mark.
 */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, statSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

/** Folders with the compiler's code: as single modules, and in the bundles of the built package. */
const FOLDERS = ["compiler", "chunks"] as const;

/** Where those folders are: above this very file, which may be a module of its own or be in a bundle. */
function baseOf(file: string): string {
  for (let folder = dirname(file); ; folder = dirname(folder))
    if (FOLDERS.some((name) => existsSync(join(folder, name))) || folder === dirname(folder)) return folder;
}

/** Differs wherever another compiler would make other programs; cheaper than a hash over its files. */
export function compilerMark(): string {
  const own = fileURLToPath(import.meta.url);
  const base = baseOf(own);
  const files = FOLDERS.map((name) => join(base, name))
    .filter((folder) => existsSync(folder))
    .flatMap((folder) => readdirSync(folder, { withFileTypes: true, recursive: true }))
    .filter((entry) => entry.isFile() && /\.(js|ts)$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  const facts = [...files, own].map((file) => {
    const { size, mtimeMs } = statSync(file);
    return `${relative(base, file)} ${size} ${mtimeMs}`;
  });
  return createHash("sha256")
    .update([process.versions.v8, ...facts].join("\n"))
    .digest("hex");
}
