/**
 * Compiled programs on the disk: a folder is written beside its destination and then moved there, so that a full disk or
 * an interruption leaves what was there before. A folder that is not ours, or holds files that are not ours, is refused.
 */
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
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

/** Refuses a destination that we must not replace. */
function checkDestination(folder: string, shown: string): void {
  if (!existsSync(folder)) return;
  if (!lstatSync(folder).isDirectory())
    throw new CommandError(EXIT.wrong, `\`${shown}\` exists and is not a folder`, [
      "choose another place with `-o FOLDER`",
    ]);
  const files = listFiles(folder);
  if (files.length === 0) return;
  if (!files.includes(INDEX)) {
    throw new CommandError(EXIT.wrong, `\`${shown}\` exists and was not written by netc: it is left as it is`, [
      "choose another folder with `-o FOLDER`",
    ]);
  }
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
      ["move them away, or choose another folder with `-o FOLDER`"],
    );
  }
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
  const folder = resolve(destination);
  checkDestination(folder, destination);
  let temporary: string | undefined;
  try {
    mkdirSync(dirname(folder), { recursive: true });
    temporary = join(dirname(folder), `.${basename(folder)}-${process.pid}`);
    mkdirSync(temporary);
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
    const previous = `${temporary}-previous`;
    const replaces = existsSync(folder);
    if (replaces) renameSync(folder, previous);
    renameSync(temporary, folder);
    if (replaces) rmSync(previous, { recursive: true });
    return names;
  } catch (error) {
    if (temporary !== undefined) rmSync(temporary, { recursive: true, force: true });
    throw error instanceof CommandError ? error : systemError(`write \`${destination}\``, error);
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
        `\`${path}\` has ${size} bytes where ${weights.bytes} were written: compile the model again`,
      );
    }
  }
  return result.program;
}

/** True if `path` is a folder with a program's manifest in it, or the manifest itself. */
export function isProgramFolder(path: string): boolean {
  return existsSync(join(path, MANIFEST));
}
