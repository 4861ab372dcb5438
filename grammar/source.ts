/**
 * Source texts and places in them.
 *
 * Everything netc says to a person points at a place in a text. A place is a `Span`: a source and a half-open range of
 * UTF-16 offsets. Lines and columns are computed only when something is printed, from a table built once per source.
 */
import type { File } from "./ast.ts";

/** One text that was read: a file, standard input, or a module of the standard library. */
export interface Source {
  /** The name shown to people and used to resolve relative imports: `examples/vgg16.net`, `<stdin>`, `std/vision`. */
  readonly path: string;
  readonly text: string;
  /** The syntax tree of `text`, where it was read before and nothing was wrong with it. */
  readonly tree?: File;
}

/** A half-open range `[start, end)` of UTF-16 offsets in `source.text`. */
export interface Span {
  readonly source: Source;
  readonly start: number;
  readonly end: number;
}

/** A line and a column, both counted from 1; the column counts UTF-16 units. */
export interface LineColumn {
  readonly line: number;
  readonly column: number;
}

const lineTables = new WeakMap<Source, readonly number[]>();

/** Offsets at which the lines of `source` start. A line ends with `\n` (a `\r` before it belongs to the line's end). */
export function lineStarts(source: Source): readonly number[] {
  let table = lineTables.get(source);
  if (table === undefined) {
    const starts = [0];
    for (let i = source.text.indexOf("\n"); i >= 0; i = source.text.indexOf("\n", i + 1)) starts.push(i + 1);
    table = starts;
    lineTables.set(source, table);
  }
  return table;
}

/** Line and column of `offset`; an offset past the end is the end. */
export function lineColumn(source: Source, offset: number): LineColumn {
  const starts = lineStarts(source);
  const at = Math.max(0, Math.min(offset, source.text.length));
  let low = 0;
  let high = starts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((starts[middle] ?? 0) <= at) low = middle;
    else high = middle - 1;
  }
  return { line: low + 1, column: at - (starts[low] ?? 0) + 1 };
}

/** The text of line `line` (counted from 1), without its line end. */
export function lineText(source: Source, line: number): string {
  const starts = lineStarts(source);
  const start = starts[line - 1] ?? source.text.length;
  const end = starts[line] ?? source.text.length;
  return source.text.slice(start, end).replace(/\r?\n$/, "");
}
