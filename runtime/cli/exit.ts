/**
 * How a command ends. Four codes, the same for every command: 0 all is well, 1 the model or the data is wrong, 2 the
 * command line is wrong, 3 this machine cannot do it.
 */
export const EXIT = { ok: 0, wrong: 1, usage: 2, machine: 3 } as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** Ends a command with a message for the person who typed it. Caught once, in main.ts. */
export class CommandError extends Error {
  readonly exit: ExitCode;
  readonly help: readonly string[];
  constructor(exit: ExitCode, message: string, help: readonly string[] = []) {
    super(message);
    this.name = "CommandError";
    this.exit = exit;
    this.help = help;
  }
}

const MACHINE_CODES: Readonly<Record<string, string>> = {
  ENOSPC: "the disk is full",
  EFBIG: "a file grew past the size that this process may write",
  EDQUOT: "the disk quota is used up",
  EROFS: "the file system is read-only",
  EMFILE: "too many files are open",
};
const USER_CODES: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file or folder",
  EACCES: "permission denied",
  EPERM: "permission denied",
  EISDIR: "it is a folder",
  ENOTDIR: "a part of the path is not a folder",
  EEXIST: "a part of the path is a file",
  ENAMETOOLONG: "the name is too long",
  ELOOP: "its symbolic links lead in a circle",
};

/** The code of a system error (`ENOENT`), or undefined for anything else. */
export function systemCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}

/** A system error in words: "cannot write `out`: the disk is full". */
export function systemError(doing: string, error: unknown): CommandError {
  const code = systemCode(error) ?? "";
  const machine = MACHINE_CODES[code];
  if (machine !== undefined)
    return new CommandError(EXIT.machine, `cannot ${doing}: ${machine}`, [
      "nothing that was there before has been changed",
    ]);
  const reason = USER_CODES[code] ?? (error instanceof Error ? error.message : String(error));
  return new CommandError(EXIT.wrong, `cannot ${doing}: ${reason}`);
}
