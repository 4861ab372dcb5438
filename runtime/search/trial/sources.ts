/**
 * The sources of a study, as the compiler finds them: not on the disk, where they may have changed since, but as the
 * study keeps them. Only the standard library, which belongs to netc, is read from where the compiler lies.
 */
import { existsSync, readFileSync } from "node:fs";
import { join, posix } from "node:path";
import type { Resolve } from "../../../compiler/model.ts";
import type { Source } from "../../../grammar/source.ts";
import { builtTree, STD_FOLDER } from "../../train/std.ts";

/** The entry of a study's sources, and how its imports are found among the others. */
export function storedSources(sources: readonly Source[]): { readonly entry: Source; readonly resolve: Resolve } {
  const [entry] = sources;
  if (entry === undefined) throw new Error("internal: a study without sources");
  const known = new Map<string, Source>(sources.map((source) => [posixPath(source.path), source]));
  const open = (path: string): Source | undefined => {
    const file = join(STD_FOLDER, `${path.slice(4)}.net`);
    const found = known.get(path);
    if (found !== undefined || !existsSync(file)) return found;
    const tree = builtTree(file);
    const source: Source = { path, text: readFileSync(file, "utf8"), ...(tree === undefined ? {} : { tree }) };
    known.set(path, source);
    return source;
  };
  return {
    entry,
    resolve: (path, from) => {
      if (path.startsWith("std/")) return /^std\/[a-z]+$/.test(path) ? open(path) : undefined;
      return known.get(posix.normalize(posix.join(posix.dirname(posixPath(from.path)), path)));
    },
  };
}

function posixPath(path: string): string {
  return posix.normalize(path.replaceAll("\\", "/"));
}
