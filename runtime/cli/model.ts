/**
 * From an entry text to a checked model, with its diagnostics printed on the way.
 */
import type { Staged } from "../../compiler/compile.ts";
import { elaborate } from "../../compiler/elaborate/elaborate.ts";
import type { Model } from "../../compiler/model.ts";
import { type Diagnostic, hasErrors } from "../../grammar/diagnostic.ts";
import { ansiStyle, diagnosticToJson, renderDiagnostics } from "../../grammar/render.ts";
import type { Entry } from "./sources.ts";
import { hasColour } from "./terminal.ts";

export interface ReportOptions {
  /** Print one JSON object a line to standard output instead of pictures to standard error. */
  readonly json: boolean;
}

/** Prints diagnostics; true if one of them is an error. */
export function report(diagnostics: readonly Diagnostic[], { json }: ReportOptions): boolean {
  if (diagnostics.length > 0) {
    if (json)
      for (const diagnostic of diagnostics) process.stdout.write(`${JSON.stringify(diagnosticToJson(diagnostic))}\n`);
    else
      process.stderr.write(
        `${renderDiagnostics(diagnostics, hasColour(process.stderr) ? { style: ansiStyle } : {})}\n`,
      );
  }
  return hasErrors(diagnostics);
}

/** Elaborates and checks an entry; undefined after printing what is wrong with it. */
export function elaborateEntry(
  entry: Entry,
  options: { readonly model: string | undefined; readonly bind: ReadonlyMap<string, number> } & ReportOptions,
): Model | undefined {
  const { model, diagnostics } = elaborate(entry.source, entry.resolve, {
    bind: options.bind,
    ...(options.model === undefined ? {} : { model: options.model }),
  });
  return report(diagnostics, options) ? undefined : model;
}

/** The result of a stage; undefined after printing why there is none. */
export function stage<T>(staged: Staged<T>, options: ReportOptions): T | undefined {
  if ("ok" in staged) return staged.ok;
  report(staged.diagnostics, options);
  return undefined;
}

/** Sizes from `--batch` and `--bind`. */
export function sizesOf(options: {
  readonly batch?: number;
  readonly bind?: readonly (readonly [string, number])[];
}): ReadonlyMap<string, number> {
  return new Map<string, number>([["N", options.batch ?? 1], ...(options.bind ?? [])]);
}
