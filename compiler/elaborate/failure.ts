/**
 * How elaboration reports a mistake and goes on.
 *
 * A mistake becomes a diagnostic at once and an `Abort` is thrown; statements catch it, give their names the unknown
 * value, and the next statement is tried. Reading an unknown value throws again without a word, so that one cause makes
 * one message. No `Abort` leaves `elaborate`.
 */
import type { Node } from "../../grammar/ast.ts";
import { type Diagnostic, type DiagnosticParts, diagnostic } from "../../grammar/diagnostic.ts";
import type { Source, Span } from "../../grammar/source.ts";
import type { Origin } from "../origin.ts";
import type { Context } from "./values.ts";

/** Control flow only: what went wrong was reported before it was thrown. */
export class Abort extends Error {}

export interface Reports {
  readonly diagnostics: Diagnostic[];
  /** One line for every diagnostic reported, for a block elaborated twice makes the same mistake twice. */
  readonly seen: Set<string>;
}

export function newReports(): Reports {
  return { diagnostics: [], seen: new Set() };
}

export function report(reports: Reports, found: Diagnostic): void {
  const at = found.labels.find((l) => l.primary) ?? found.labels[0];
  const key = `${found.code} ${at?.span.source.path} ${at?.span.start} ${found.message}`;
  if (reports.seen.has(key)) return;
  reports.seen.add(key);
  reports.diagnostics.push(found);
}

export function spanOf(context: Context, node: Node): Span {
  return { source: context.module.source, start: node.start, end: node.end };
}

/** Files of the standard library; people cannot change them, so nothing is reported there. */
export function isLibrary(source: Source): boolean {
  return source.path.startsWith("std/");
}

/** The innermost place in a person's own text: the node itself, or the call that led into the library. */
export function placeOf(context: Context, node: Node): Span {
  return ownPlace(context, { span: spanOf(context, node), ...(context.origin ? { parent: context.origin } : {}) });
}

/** The innermost link of an origin chain outside the library; the outermost link if the root is a library file itself. */
export function ownPlace(context: Context, origin: Origin): Span {
  const root = context.build.program.root;
  let at: Origin | undefined = origin;
  while (at !== undefined) {
    if (!isLibrary(at.span.source) || at.span.source === root) return at.span;
    if (at.parent === undefined) return at.span;
    at = at.parent;
  }
  return origin.span;
}

/** Reports an error at `node` and leaves the statement. */
export function fail(context: Context, code: string, message: string, node: Node, parts: DiagnosticParts = {}): never {
  return failAt(context, code, message, placeOf(context, node), parts);
}

export function failAt(context: Context, code: string, message: string, at: Span, parts: DiagnosticParts = {}): never {
  report(context.build.program.reports, diagnostic(code, message, at, parts));
  throw new Abort(message);
}

/** More layers than any network has; blocks that double themselves forty times would otherwise never end. */
const MOST_STEPS = 150_000;

/** Counts work done for `node`; too much of it is E0206. */
export function spend(context: Context, steps: number, node: Node): void {
  const { program } = context.build;
  program.steps += steps;
  if (program.steps > MOST_STEPS)
    fail(context, "E0206", `this network would have more than ${MOST_STEPS} layers`, node);
}

/** Leaves the statement without a word: the cause was reported elsewhere. */
export function silent(): never {
  throw new Abort("");
}

/** Runs `action`; `undefined` if it was abandoned. */
export function attempt<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch (error) {
    if (error instanceof Abort) return undefined;
    throw error;
  }
}

/** The source text of a node, on one line. */
export function textOf(context: Context, node: Node): string {
  return context.module.source.text.slice(node.start, node.end).replace(/\s+/g, " ");
}
