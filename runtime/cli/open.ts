/**
 * Opening a program on the device that a command was given.
 */
import type { Program } from "../../compiler/program.ts";
import { openOn } from "../engine/devices.ts";
import { EngineError, type Runner } from "../engine/runner.ts";
import type { Target } from "./devices.ts";
import { CommandError, EXIT } from "./exit.ts";
import { bytes } from "./terminal.ts";

/** An engine's error in words, with the exit code of a machine that cannot. */
export function engineFailure(error: EngineError): CommandError {
  const { problem } = error;
  switch (problem.kind) {
    case "limit": {
      const inBytes = /bytes|memory|size/i.test(problem.what);
      const amount = (value: number): string => (inBytes ? `${value} bytes (${bytes(value)})` : String(value));
      const memory = /^bytes of (.*)$/.exec(problem.what)?.[1];
      const needed =
        memory === undefined
          ? `${problem.what}: ${amount(problem.need)} needed`
          : `${amount(problem.need)} of ${memory} needed`;
      return new CommandError(
        EXIT.machine,
        `this does not fit: ${needed}${problem.have > 0 ? `, ${amount(problem.have)} available` : ""}`,
        ["a smaller batch, smaller inputs or fewer parameters", "`netc doctor` shows what this machine has"],
      );
    }
    case "no-device":
      return new CommandError(EXIT.machine, problem.what, ["`netc doctor` shows what this machine has"]);
    case "failed":
      return new CommandError(EXIT.machine, problem.what);
    case "usage":
      return new CommandError(EXIT.wrong, problem.what);
    default:
      return problem satisfies never;
  }
}

/** Opens `program` on `target`. @throws CommandError (exit 3) if it does not fit or the device fails */
export async function openRunner(program: Program, target: Exclude<Target, { device: "interp" }>): Promise<Runner> {
  try {
    return await openOn(program, target);
  } catch (error) {
    throw error instanceof EngineError ? engineFailure(error) : error;
  }
}
