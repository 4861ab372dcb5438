/**
 * Folders that netc writes: each is written beside its destination and then moved there, so that a full disk or an
 * interruption leaves what was there before. Every such folder carries the list of its own files; a folder without one,
 * or with files that are not on it, is somebody else's and is refused.
 */
import {
  chmodSync,
  existsSync,
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
import { basename, dirname, join, resolve, sep } from "node:path";
import { CommandError, EXIT, systemError } from "./exit.ts";

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

/** The list of its own files that every such folder carries. */
const INDEX = ".netc-files";

/** What a command writes into a folder of its own. */
export interface FolderKind {
  /** A file that every folder of this kind has: a data set does not replace a program. */
  readonly marker: string;
  /** What stands before the folder on the command line: `-o`. */
  readonly argument: string;
}

/**
 * The folder that `shown` names, through symbolic links.
 * @throws CommandError (exit 1) for a destination that we must not replace
 */
export function checkDestination(shown: string, kind: FolderKind): string {
  try {
    return replaceable(shown, kind);
  } catch (error) {
    throw error instanceof CommandError ? error : systemError(`write \`${shown}\``, error);
  }
}

function replaceable(shown: string, { marker, argument }: FolderKind): string {
  const other = [`choose another folder with \`${argument} FOLDER\``];
  if (shown === "")
    throw new CommandError(EXIT.usage, `\`${argument}\` names no folder`, [`for example \`${argument} out\``]);
  if (!existsSync(shown)) return resolve(shown);
  const folder = realpathSync(shown);
  if (!statSync(folder).isDirectory())
    throw new CommandError(EXIT.wrong, `\`${shown}\` exists and is not a folder`, other);
  if (`${process.cwd()}${sep}`.startsWith(folder.endsWith(sep) ? folder : folder + sep))
    throw new CommandError(EXIT.wrong, `\`${shown}\` holds the folder you are in: it is left as it is`, other);
  const entries = readdirSync(folder);
  if (entries.length === 0) return folder;
  if (!entries.includes(INDEX) || !entries.includes(marker)) {
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
      [`move ${foreign.length === 1 ? "it" : "them"} away, or choose another folder with \`${argument} FOLDER\``],
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

/**
 * Writes a folder of `kind` to `destination`: `fill` writes into an empty folder and returns the names of its files.
 * @throws CommandError for a destination that is not ours (exit 1) or a full disk (exit 3); nothing is lost then
 */
export async function writeOwnFolder(
  destination: string,
  kind: FolderKind,
  fill: (folder: string) => Promise<readonly string[]>,
): Promise<readonly string[]> {
  const folder = checkDestination(destination, kind);
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
    const names = [...(await fill(temporary))].sort();
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
