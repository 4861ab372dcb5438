/**
 * What tells this compiler from another: results of its work that are kept on disk bear its mark.
 */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** Where the compiler's code lies: as single modules, and in the bundles of the built package. */
const PLACES = ["../../compiler/", "../../chunks/"] as const;

/** Differs wherever another compiler would make other programs; cheaper than a hash over its files. */
export function compilerMark(): string {
  const facts = PLACES.flatMap((place) => {
    const root = fileURLToPath(new URL(place, import.meta.url));
    if (!existsSync(root)) return [];
    const files = readdirSync(root, { withFileTypes: true, recursive: true })
      .filter((entry) => entry.isFile() && /\.(js|ts)$/.test(entry.name))
      .map((entry) => join(entry.parentPath, entry.name))
      .sort();
    return files.map((file) => {
      const { size, mtimeMs } = statSync(file);
      return `${file.slice(root.length)} ${size} ${mtimeMs}`;
    });
  });
  return createHash("sha256")
    .update([process.versions.v8, ...facts].join("\n"))
    .digest("hex");
}
