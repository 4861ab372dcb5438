/**
 * What goes wrong with a run, in words: what, where, and what to do. The commands print it as it is.
 *
 * In: an error of the system (`ENOSPC`), or a finding of this room. Out: a `RunError`, which says whether the run or the
 * machine is to blame, for a command ends with another code then.
 */

/** Ends training, or keeps it from beginning. */
export class RunError extends Error {
  /** `wrong`: the files or the request; `machine`: a full disk, a device that is gone. */
  readonly kind: "wrong" | "machine";
  /** What to do, one sentence an entry. */
  readonly help: readonly string[];
  constructor(kind: "wrong" | "machine", message: string, help: readonly string[] = []) {
    super(message);
    this.name = "RunError";
    this.kind = kind;
    this.help = help;
  }
}

const MACHINE: Readonly<Record<string, string>> = {
  ENOSPC: "the disk is full",
  EDQUOT: "the disk quota is used up",
  EFBIG: "a file grew past the size that this process may write",
  EROFS: "the file system is read-only",
  EIO: "the disk reports an error",
  EMFILE: "too many files are open",
};
const WRONG: Readonly<Record<string, string>> = {
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
export function codeOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}

/** A system error in words: "cannot write `runs/a`: the disk is full". What is a `RunError` already stays one. */
export function faultOf(doing: string, error: unknown, help: readonly string[] = []): RunError {
  if (error instanceof RunError) return error;
  const code = codeOf(error) ?? "";
  const machine = MACHINE[code];
  if (machine !== undefined) return new RunError("machine", `cannot ${doing}: ${machine}`, help);
  const reason = WRONG[code] ?? (error instanceof Error ? error.message : String(error));
  return new RunError("wrong", `cannot ${doing}: ${reason}`, help);
}
