/**
 * Diagnostics: what netc says about a source text, as values.
 *
 * Nothing in the grammar or the compiler throws or prints a message for a user's mistake; it makes one of these records
 * and hands it on. `render.ts` draws them for people, editors and continuous integration.
 *
 * Rules of wording (specs/language.md, "Diagnostics"): say what is wrong in the user's words before what the compiler
 * wanted; lower case, no full stop; names in backticks; numbers with their origin; every help is something to type.
 */
import type { Source, Span } from "./source.ts";

export type Severity = "error" | "warning";

/** A stretch of source with a few words at it. The first primary label is the place of the diagnostic. */
export interface Label {
  readonly span: Span;
  /** May be empty: then only the underline is drawn. */
  readonly text: string;
  /** Drawn with `^` when true, with `-` when false. */
  readonly primary: boolean;
}

/** A replacement of source text that repairs the mistake. */
export interface Edit {
  readonly span: Span;
  readonly replacement: string;
}

/** Something to type. `edits` is given only where the repair is certain. */
export interface Help {
  readonly text: string;
  readonly edits?: readonly Edit[];
}

export interface Diagnostic {
  readonly severity: Severity;
  /** `E0502`, `W0901`: a letter and four digits, never used again for another meaning. */
  readonly code: string;
  /** One sentence, lower case, no full stop. */
  readonly message: string;
  readonly labels: readonly Label[];
  readonly notes: readonly string[];
  readonly helps: readonly Help[];
}

/** The parts of a diagnostic that are seldom all needed. */
export interface DiagnosticParts {
  /** Words at the primary label. */
  readonly label?: string;
  readonly secondary?: readonly { readonly span: Span; readonly text: string }[];
  readonly notes?: readonly string[];
  readonly helps?: readonly (string | Help)[];
}

/** Builds a diagnostic; the severity follows from the code's letter. */
export function diagnostic(code: string, message: string, at: Span, parts: DiagnosticParts = {}): Diagnostic {
  return {
    severity: code.startsWith("W") ? "warning" : "error",
    code,
    message,
    labels: [
      { span: at, text: parts.label ?? "", primary: true },
      ...(parts.secondary ?? []).map((s) => ({ span: s.span, text: s.text, primary: false })),
    ],
    notes: parts.notes ?? [],
    helps: (parts.helps ?? []).map((help) => (typeof help === "string" ? { text: help } : help)),
  };
}

/** A span of `source`. */
export function span(source: Source, range: { readonly start: number; readonly end: number }): Span {
  return { source, start: range.start, end: range.end };
}

/** True if any of `diagnostics` is an error. */
export function hasErrors(diagnostics: readonly Diagnostic[]): boolean {
  return diagnostics.some((d) => d.severity === "error");
}
