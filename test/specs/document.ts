/**
 * Documents that are checked: Markdown whose code blocks say, behind the language, what they are.
 *
 * In: the text of a document. Out: its blocks, and the same text with generated blocks made anew, which a file snapshot
 * compares with the document itself, so that `npx vitest run test/specs -u` brings a document up to date.
 */
import { readFileSync } from "node:fs";

/** A fenced block. `kind` is what stands behind its language: `error E0502` of a block that begins "```net error E0502". */
export interface Block {
  readonly language: string;
  readonly kind: string;
  /** Without the fences, with the last line's end. */
  readonly body: string;
  /** Line of the opening fence, from 1. */
  readonly line: number;
}

/** Where a document lies, as seen from the tests beside this file. */
export function pathOf(document: string): string {
  return `../../specs/${document}`;
}

export function readDocument(document: string): string {
  return readFileSync(new URL(pathOf(document), import.meta.url), "utf8");
}

const FENCED = /^```(\w+)(?: ([^\n]*))?\n([^]*?)^```$/gm;

/** The fenced blocks of a document, in order. */
export function blocksOf(text: string): readonly Block[] {
  return [...text.matchAll(FENCED)].map((match) => ({
    language: match[1] ?? "",
    kind: match[2] ?? "",
    body: match[3] ?? "",
    line: text.slice(0, match.index).split("\n").length,
  }));
}

/** `text` with the bodies that `made` gives, by the number of the block; other blocks stay as they are. */
export function withBodies(text: string, made: ReadonlyMap<number, string>): string {
  let index = 0;
  return text.replace(FENCED, (whole: string, language: string, kind: string | undefined) => {
    const body = made.get(index++);
    if (body === undefined) return whole;
    const info = kind === undefined ? language : `${language} ${kind}`;
    return `\`\`\`${info}\n${body.trimEnd()}\n\`\`\``;
  });
}
