/**
 * How a command ends. Four codes, the same for every command: 0 all is well, 1 the model or the data is wrong, 2 the
 * command line is wrong, 3 this machine cannot do it. Searches know two more: 4 stopped and to be gone on with, 5 the
 * study's store or its queue cannot be reached.
 */
import { faultOf, RunError } from "../train/fault.ts";

export { codeOf as systemCode } from "../train/fault.ts";

export const EXIT = { ok: 0, wrong: 1, usage: 2, machine: 3, stopped: 4, unreachable: 5 } as const;
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

/** A system error in words: "cannot write `out`: the disk is full". A `RunError` keeps its own. */
export function systemError(doing: string, error: unknown): CommandError {
  const { kind, message, help } = faultOf(doing, error, ["nothing that was there before has been changed"]);
  if (kind === "machine") return new CommandError(EXIT.machine, message, help);
  return new CommandError(EXIT.wrong, message, error instanceof RunError ? help : []);
}
