/**
 * What `--json` prints: one JSON value on standard output, whatever happens.
 *
 *   { "ok": true, "diagnostics": [warnings], "result": … }       the command's own value
 *   { "ok": false, "diagnostics": [errors and warnings] }        and an exit code above 0
 *
 * Diagnostics are collected while a command runs. What has no place in a source (a missing file, a wrong option) is a
 * diagnostic as well, without code and labels, so that a program reads one kind of thing.
 */
import type { JsonDiagnostic } from "../../grammar/render.ts";
import type { CommandError } from "./exit.ts";

/** A diagnostic of a command: like one of the compiler, with `code` null where no source text is at fault. */
type Collected = JsonDiagnostic | (Omit<JsonDiagnostic, "code"> & { readonly code: null });

const collected: Collected[] = [];

/** Keeps a diagnostic for the value that the command will print. */
export function collect(diagnostic: JsonDiagnostic): void {
  collected.push(diagnostic);
}

function write(value: object): void {
  process.stdout.write(`${JSON.stringify(value, undefined, 2)}\n`);
}

/** Prints a command's result with the warnings so far. */
export function printJson(result: unknown): void {
  write({ ok: true, diagnostics: collected, result });
}

/** Prints why there is no result: the diagnostics so far, and `error` if the command ended with one. */
export function printJsonFailure(error?: Pick<CommandError, "message" | "help">): void {
  const last: readonly Collected[] =
    error === undefined
      ? []
      : [
          {
            code: null,
            severity: "error",
            message: error.message,
            labels: [],
            notes: [],
            helps: error.help.map((text) => ({ text, edits: [] })),
          },
        ];
  write({ ok: false, diagnostics: [...collected, ...last] });
}
