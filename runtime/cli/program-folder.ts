/**
 * Compiled programs on the disk: a folder is written beside its destination and then moved there, so that a full disk or
 * an interruption leaves what was there before. A folder that is not ours, or holds files that are not ours, is refused.
 */
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, dirname, join, resolve, sep } from "node:path";
import type { Program } from "../../compiler/program.ts";
import { decodeProgram, encodeProgram, MANIFEST } from "../engine/program-file.ts";
import { CommandError, EXIT, systemCode, systemError } from "./exit.ts";

/** Files below `folder`, as `/`-separated paths relative to it. */
function listFiles(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) =>
      join(entry.parentPath, entry.name)
        .slice(folder.length + 1)
        .replaceAll("\\", "/"),
    );
}

/** The list of its own files that every program folder carries. */
const INDEX = ".netc-files";

/**
 * The folder that `shown` names, through symbolic links.
 * @throws CommandError (exit 1) for a destination that we must not replace
 */
export function checkDestination(shown: string): string {
  try {
    return replaceable(shown);
  } catch (error) {
    throw error instanceof CommandError ? error : systemError(`write \`${shown}\``, error);
  }
}

function replaceable(shown: string): string {
  const other = ["choose another folder with `-o FOLDER`"];
  if (shown === "") throw new CommandError(EXIT.usage, "`-o` names no folder", ["for example `-o out`"]);
  if (!existsSync(shown)) return resolve(shown);
  const folder = realpathSync(shown);
  if (!statSync(folder).isDirectory())
    throw new CommandError(EXIT.wrong, `\`${shown}\` exists and is not a folder`, other);
  if (`${process.cwd()}${sep}`.startsWith(folder.endsWith(sep) ? folder : folder + sep))
    throw new CommandError(EXIT.wrong, `\`${shown}\` holds the folder you are in: it is left as it is`, other);
  const entries = readdirSync(folder);
  if (entries.length === 0) return folder;
  if (!entries.includes(INDEX)) {
    throw new CommandError(EXIT.wrong, `\`${shown}\` exists and was not written by netc: it is left as it is`, other);
  }
  const files = listFiles(folder);
  const ours = new Set(readFileSync(join(folder, INDEX), "utf8").split("\n"));
  const foreign = files.filter((file) => file !== INDEX && !ours.has(file));
  if (foreign.length > 0) {
    const names = foreign
      .slice(0, 3)
      .map((name) => `\`${name}\``)
      .join(", ");
    throw new CommandError(
      EXIT.wrong,
      `\`${shown}\` holds ${foreign.length} file${foreign.length === 1 ? "" : "s"} that netc did not write: ${names}; it is left as it is`,
      [`move ${foreign.length === 1 ? "it" : "them"} away, or choose another folder with \`-o FOLDER\``],
    );
  }
  return folder;
}

/** Moves `fresh` to `folder` and removes what was there; if that fails, what was there is put back. */
function exchange(fresh: string, folder: string): void {
  if (!existsSync(folder)) {
    renameSync(fresh, folder);
    return;
  }
  const previous = `${fresh}-previous`;
  renameSync(folder, previous);
  try {
    renameSync(fresh, folder);
  } catch (error) {
    renameSync(previous, folder);
    throw error;
  }
  rmSync(previous, { recursive: true });
}

/** Something to put into the folder beside the program itself. */
export interface ExtraFile {
  readonly name: string;
  /** Text, or a function that writes the file at the path it is given. */
  readonly contents: string | ((path: string) => void | Promise<void>);
}

/**
 * Writes `program` to `destination` and returns the files' names. `weightsFile` names the extra file that holds the
 * weights: the manifest records its length.
 * @throws CommandError for a destination that is not ours (exit 1) or a full disk (exit 3); nothing is lost then
 */
export async function writeProgramFolder(
  program: Program,
  destination: string,
  extras: readonly ExtraFile[] = [],
  weightsFile?: string,
): Promise<readonly string[]> {
  const folder = checkDestination(destination);
  let temporary: string | undefined;
  const cleanUp = (): void => {
    if (temporary !== undefined) rmSync(temporary, { recursive: true, force: true });
  };
  const interrupted = (): void => {
    cleanUp();
    process.exit(EXIT.machine);
  };
  process.once("SIGINT", interrupted).once("SIGTERM", interrupted);
  try {
    mkdirSync(dirname(folder), { recursive: true });
    temporary = mkdtempSync(join(dirname(folder), `.${basename(folder)}-`));
    // A folder made for one person only is not what `mkdir` gives.
    chmodSync(temporary, 0o777 & ~process.umask());
    let weights: Program["weights"];
    for (const { name, contents } of extras) {
      const path = join(temporary, name);
      if (typeof contents === "string") writeFileSync(path, contents);
      else await contents(path);
      if (name === weightsFile) weights = { file: name, bytes: lstatSync(path).size };
    }
    const files = await encodeProgram({ ...program, weights });
    mkdirSync(join(temporary, "kernels"));
    for (const [name, contents] of files) writeFileSync(join(temporary, name), contents);
    const names = [...files.keys(), ...extras.map((extra) => extra.name)].sort();
    writeFileSync(join(temporary, INDEX), names.join("\n"));
    exchange(temporary, folder);
    return names;
  } catch (error) {
    cleanUp();
    throw error instanceof CommandError ? error : systemError(`write \`${destination}\``, error);
  } finally {
    process.off("SIGINT", interrupted).off("SIGTERM", interrupted);
  }
}

/** Reads the program in `folder`. @throws CommandError (exit 1) that says what is wrong with which file */
export async function readProgramFolder(folder: string): Promise<Program> {
  const result = await decodeProgram(async (name) => {
    try {
      return await readFile(join(folder, name));
    } catch (error) {
      if (systemCode(error) === "ENOENT" || systemCode(error) === "ENOTDIR") return undefined;
      throw systemError(`read \`${join(folder, name)}\``, error);
    }
  });
  if ("error" in result) throw new CommandError(EXIT.wrong, `\`${folder}\`: ${result.error}`);
  const { weights } = result.program;
  if (weights !== undefined) {
    const path = join(folder, weights.file);
    const size = existsSync(path) ? lstatSync(path).size : 0;
    if (size !== weights.bytes) {
      throw new CommandError(
        EXIT.wrong,
        `\`${folder}\`: ${weights.file} has ${size} bytes where ${weights.bytes} were written: compile the model again`,
      );
    }
  }
  return result.program;
}

/**
 * The program folder that `path` names, by itself or by its manifest; undefined if it names something else.
 * @throws CommandError (exit 1) for a folder without a manifest
 */
export function programFolderOf(path: string): string | undefined {
  if (path === "-" || !existsSync(path)) return undefined;
  if (basename(path) === MANIFEST) return dirname(path);
  if (!statSync(path).isDirectory()) return undefined;
  if (existsSync(join(path, MANIFEST))) return path;
  throw new CommandError(EXIT.wrong, `\`${path}\` is no compiled program: there is no ${MANIFEST} in it`, [
    "give a .net file, or a folder that `netc compile` wrote",
  ]);
}
