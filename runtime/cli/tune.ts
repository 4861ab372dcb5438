/**
 * `--tune`: the compiler that a command uses, with or without plans tried on the device.
 */
import { compile, compileStep } from "../../compiler/compile.ts";
import type { Compiler } from "../train/trainer.ts";
import { type TuneReport, TuningCompiler } from "../tune/compiler.ts";
import type { Tried } from "../tune/measure.ts";
import type { Target } from "./devices.ts";
import { CommandError, EXIT } from "./exit.ts";
import { openRunner } from "./open.ts";

interface TuneOption {
  /** Seconds that trying plans may take; undefined: the cost model's plans. */
  readonly tune?: number | undefined;
}

/**
 * The compiler for a command.
 * @param how `exact`: results stay the same bit for bit; `say` hears in words what was tried
 * @throws CommandError (exit 2) where plans are asked for and there are none
 */
export function compilerFor(
  target: Target,
  { tune }: TuneOption,
  how: { readonly exact: boolean; readonly say?: (text: string) => void },
): Compiler {
  if (tune === undefined) return { compile, compileStep };
  if (target.device === "interp")
    throw new CommandError(EXIT.usage, "`--tune` times kernels, and `--device interp` has none");
  const { capability } = target;
  return new TuningCompiler({
    target: capability,
    open: (program) => openRunner(program, target),
    seconds: tune,
    exact: how.exact,
    onTuned: (report) => how.say?.(inWords(report)),
  });
}

function inWords({ convolutions, kernels }: TuneReport): string {
  const parts = [
    ...(convolutions.open > 0 ? [triedInWords(convolutions, "convolutions", "form")] : []),
    ...(kernels.open > 0 ? [triedInWords(kernels, "kernels", "plan")] : []),
  ];
  return `tuned ${parts.join("; ")}`;
}

function triedInWords({ open, decided, changed, before, after }: Tried, things: string, other: string): string {
  const gain = changed === 0 ? "" : `: ${before.toFixed(2)} ms became ${after.toFixed(2)} ms, each once`;
  const rest = open > decided ? `, ${open - decided} not tried for want of time` : "";
  return `${decided} ${things}, ${changed} with another ${other}${gain}${rest}`;
}
