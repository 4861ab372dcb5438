/**
 * From a text to a syntax tree.
 */
import type { File } from "./ast.ts";
import type { Diagnostic } from "./diagnostic.ts";
import { diagnostic } from "./diagnostic.ts";
import { NetParser } from "./parser/declarations.ts";
import type { Source } from "./source.ts";
import { lex } from "./tokens.ts";

let shared: NetParser | undefined;

/** Reads `source`. */
export function parse(source: Source): { readonly file: File; readonly diagnostics: readonly Diagnostic[] } {
  shared ??= new NetParser();
  const lexed = lex(source.text);
  shared.open(source, lexed.tokens, lexed.docs);
  const file = shared.file();
  const diagnostics = [
    ...lexed.errors.map((e) =>
      diagnostic("E0108", "unexpected character", { source, start: e.offset, end: e.offset + e.length }),
    ),
    ...shared.errors.map((e) => {
      const at = Number.isNaN(e.token.startOffset) ? source.text.length : e.token.startOffset;
      return diagnostic("E0112", e.message, { source, start: at, end: at });
    }),
    ...shared.remarks,
  ];
  return { file, diagnostics };
}
