/**
 * Compiled programs on the disk: written as one folder of ours (own-folder.ts), read back with every file checked.
 */
import { existsSync, lstatSync, mkdirSync, statSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Program } from "../../compiler/program.ts";
import { decodeProgram, encodeProgram, MANIFEST } from "../engine/program-file.ts";
import { CommandError, EXIT, systemCode, systemError } from "./exit.ts";
import { type FolderKind, writeOwnFolder } from "./own-folder.ts";

/** What the folder of a compiled program is known by. */
export const PROGRAM_FOLDER: FolderKind = { marker: MANIFEST, argument: "-o" };

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
  return writeOwnFolder(destination, PROGRAM_FOLDER, async (folder) => {
    let weights: Program["weights"];
    for (const { name, contents } of extras) {
      const path = join(folder, name);
      if (typeof contents === "string") writeFileSync(path, contents);
      else await contents(path);
      if (name === weightsFile) weights = { file: name, bytes: lstatSync(path).size };
    }
    const files = await encodeProgram({ ...program, weights });
    mkdirSync(join(folder, "kernels"));
    for (const [name, contents] of files) writeFileSync(join(folder, name), contents);
    return [...files.keys(), ...extras.map((extra) => extra.name)];
  });
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
