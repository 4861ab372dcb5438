/**
 * Where source texts come from: a file, standard input, the standard library, an import.
 *
 * The compiler asks for modules through a `Resolve` function; this one knows the disk. Imports may not leave the
 * project: the nearest folder above the entry file with a `net.json`, a `package.json` or a `.git`, else the file's own.
 */
import { existsSync, readFileSync, realpathSync, statSync } from "node:fs";
import { dirname, isAbsolute, join, relative, resolve as resolvePath, sep } from "node:path";
import type { Resolve } from "../../compiler/model.ts";
import type { Source } from "../../grammar/source.ts";
import { builtTree, STD_FOLDER } from "../train/std.ts";
import { CommandError, EXIT, systemError } from "./exit.ts";

/** Source texts larger than this are not models. */
const MAX_SOURCE_BYTES = 16 * 1024 * 1024;

/** What a command works on: the entry text and how its imports are found. */
export interface Entry {
  readonly source: Source;
  readonly resolve: Resolve;
}

function decode(bytes: Uint8Array, shown: string): string {
  if (bytes.length > MAX_SOURCE_BYTES) {
    throw new CommandError(
      EXIT.wrong,
      `\`${shown}\` is ${Math.round(bytes.length / 1048576)} MiB: that is not a model`,
      ["models are texts of a few kilobytes"],
    );
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new CommandError(EXIT.wrong, `\`${shown}\` is not a text: it is not valid UTF-8`, [
      "a model is a UTF-8 text such as `VGG16 ×2 with STIA at conv3, conv4`",
    ]);
  }
}

function projectRoot(folder: string): string {
  for (let at = folder; ; at = dirname(at)) {
    if (["net.json", "package.json", ".git"].some((mark) => existsSync(join(at, mark)))) return at;
    if (dirname(at) === at) return folder;
  }
}

/** Reads `path` (`-` is standard input) and prepares its imports. Throws `CommandError` if it cannot be read. */
export function openEntry(path: string): Entry {
  const stdin = path === "-";
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(stdin ? 0 : path);
  } catch (error) {
    throw systemError(`read \`${stdin ? "standard input" : path}\``, error);
  }
  const source: Source = { path: stdin ? "<stdin>" : path, text: decode(bytes, stdin ? "standard input" : path) };
  const folder = stdin ? process.cwd() : dirname(realpathSync(path));
  return { source, resolve: diskResolve(source, folder) };
}

/** A `Resolve` over the disk for an entry text that lies in the folder `from`. Every module is read once. */
export function diskResolve(entry: Source, from: string): Resolve {
  const folder = realpathSync(from);
  const root = projectRoot(folder);
  const files = new Map<Source, string>([
    [entry, entry.path.startsWith("<") ? join(folder, "<stdin>") : realpathSync(entry.path)],
  ]);
  const read = new Map<string, Source>([...files].map(([source, file]) => [file, source]));
  const open = (file: string, shown: string): Source | { readonly error: string } | undefined => {
    const known = read.get(file);
    if (known !== undefined) return known;
    if (!existsSync(file)) return undefined;
    if (!statSync(file).isFile()) return { error: `\`${shown}\` is a folder` };
    let text: string;
    try {
      text = decode(readFileSync(file), shown);
    } catch (error) {
      return { error: error instanceof Error ? error.message : String(error) };
    }
    const tree = file.startsWith(STD_FOLDER) ? builtTree(file) : undefined;
    const source: Source = { path: shown, text, ...(tree === undefined ? {} : { tree }) };
    files.set(source, file);
    read.set(file, source);
    return source;
  };
  return (path, from) => {
    if (path.startsWith("std/"))
      return /^std\/[a-z]+$/.test(path) ? open(join(STD_FOLDER, `${path.slice(4)}.net`), path) : undefined;
    if (!path.startsWith("./") && !path.startsWith("../") && !isAbsolute(path)) return undefined;
    const base = files.get(from);
    const target = resolvePath(base === undefined ? folder : dirname(base), path);
    const real = existsSync(target) ? realpathSync(target) : target;
    if (real !== root && !real.startsWith(root.endsWith(sep) ? root : root + sep)) {
      return { error: `\`${path}\` lies outside the project (${relative(process.cwd(), root) || "this folder"})` };
    }
    return open(real, relative(process.cwd(), real));
  };
}
