/**
 * Draws diagnostics: for people (a frame with the source lines), and as data for other programs.
 *
 * ```text
 * error[E0103]: `mit` cannot follow a model
 *    ┌─ pain.net:1:10
 *    │
 * 1  │ VGG16 ×2 mit STIA at conv3, conv4
 *    │          ^^^ expected `with`, `over`, `sharing`, `fuse`, `from` or `->`
 *    │
 *    = help: did you mean `with`?
 * ```
 *
 * The place after `┌─` is that of the first primary label. Lines are drawn in the order of the file; `·` stands for
 * lines left out. Labels in other files follow, each file with a head of its own.
 */
import type { Diagnostic, Label, Severity } from "./diagnostic.ts";
import { lineColumn, lineStarts, lineText, type Source, type Span } from "./source.ts";
import { displayWidth, printable } from "./width.ts";

/** What a piece of the drawing is, for colouring. */
type Part = "error" | "warning" | "title" | "frame" | "primary" | "secondary";

export interface RenderOptions {
  /** Draw the frame in ASCII. */
  readonly ascii?: boolean;
  /** Colours a piece of the drawing; `ansiStyle` does it for terminals. */
  readonly style?: (part: Part, text: string) => string;
}

/** A style of ANSI escape codes. */
export function ansiStyle(part: Part, text: string): string {
  const codes: Readonly<Record<Part, string>> = {
    error: "1;31",
    warning: "1;33",
    title: "1",
    frame: "34",
    primary: "1;31",
    secondary: "34",
  };
  return `\u001b[${codes[part]}m${text}\u001b[0m`;
}

interface Frame {
  readonly corner: string;
  readonly bar: string;
  readonly gap: string;
  readonly cut: string;
}
const UNICODE_FRAME: Frame = { corner: "┌─", bar: "│", gap: "·", cut: "…" };
const ASCII_FRAME: Frame = { corner: "-->", bar: "|", gap: ":", cut: "..." };

/** Longer lines are cut around their labels. */
const MAX_COLUMNS = 160;
const CUT_MARGIN = 40;
const MAX_PER_FILE = 20;

/** The drawing of one diagnostic, without a line end. */
export function renderDiagnostic(diagnostic: Diagnostic, options: RenderOptions = {}): string {
  const style = options.style ?? ((_part: Part, text: string) => text);
  const frame = options.ascii === true ? ASCII_FRAME : UNICODE_FRAME;
  const { severity, code, labels } = diagnostic;
  const main = labels.find((label) => label.primary) ?? labels[0];
  const lastLine = Math.max(1, ...labels.map((label) => lineColumn(label.span.source, label.span.start).line));
  const gutter = " ".repeat(String(lastLine).length);
  const bar = style("frame", frame.bar);
  const title = `: ${diagnostic.message.split("\n").map(printable).join("\n")}`;
  const out = [`${style(severity, `${severity}[${code}]`)}${style("title", title)}`];

  if (main !== undefined) {
    const sources = new Set([main.span.source, ...labels.map((label) => label.span.source)]);
    for (const source of sources) {
      const here = labels.filter((label) => label.span.source === source);
      const first = source === main.span.source ? main : (here.find((label) => label.primary) ?? here[0] ?? main);
      const { line, column } = lineColumn(source, first.span.start);
      const path = printable(source.path);
      if (out.length > 1) out.push(`${gutter}  ${bar}`);
      out.push(`${gutter}  ${style("frame", frame.corner)} ${path}:${line}:${column}`, `${gutter}  ${bar}`);
      for (const row of drawLines(source, here, frame, style)) {
        const number = row.number === undefined ? gutter : String(row.number).padStart(gutter.length);
        if (row.text === undefined) out.push(`${gutter}  ${style("frame", frame.gap)}`);
        else out.push(`${style("frame", number)}  ${bar} ${row.text}`.trimEnd());
      }
    }
  }

  const remarks = [
    ...diagnostic.notes.map((text) => ({ word: "note", text })),
    ...diagnostic.helps.map(({ text }) => ({ word: "help", text })),
  ];
  if (remarks.length > 0 && main !== undefined) out.push(`${gutter}  ${bar}`);
  for (const { word, text } of remarks) {
    const [head = "", ...rest] = text.split("\n").map(printable);
    out.push(`${gutter}  ${style("frame", "=")} ${style("title", `${word}:`)} ${head}`);
    for (const line of rest) out.push(`${gutter}  ${" ".repeat(word.length + 4)}${line}`);
  }
  return out.join("\n");
}

// ------------------------------------------------------------------------------------------------------- source lines

/** A line of the drawing right of the bar; without text it stands for lines left out. */
interface Row {
  readonly number?: number;
  readonly text?: string;
}

/** A label in columns of the drawn line. */
interface Mark {
  readonly from: number;
  readonly width: number;
  readonly text: string;
  readonly part: "primary" | "secondary";
}

type Style = NonNullable<RenderOptions["style"]>;

function* drawLines(source: Source, labels: readonly Label[], frame: Frame, style: Style): Generator<Row> {
  const byLine = new Map<number, Label[]>();
  for (const label of labels) {
    const { line } = lineColumn(source, label.span.start);
    byLine.set(line, [...(byLine.get(line) ?? []), label]);
  }
  let last: number | undefined;
  for (const number of [...byLine.keys()].sort((a, b) => a - b)) {
    if (last !== undefined && number > last + 1) yield {};
    last = number;
    const { text, marks } = layOut(source, number, byLine.get(number) ?? [], frame);
    yield { number, text };
    yield* drawMarks(marks, frame, style);
  }
}

/** The text of a line as it is shown, and where its labels stand in it. */
function layOut(source: Source, line: number, labels: readonly Label[], frame: Frame): { text: string; marks: Mark[] } {
  const start = lineStarts(source)[line - 1] ?? 0;
  const whole = lineText(source, line);
  const [from, to] = visiblePart(
    whole.length,
    labels.map((label) => label.span.start - start),
  );
  const shown = whole.slice(from, to);
  const before = from > 0 ? frame.cut : "";
  const column = (offset: number): number =>
    before.length + displayWidth(shown.slice(0, Math.max(0, Math.min(offset - start, to) - from)));
  const marks = labels.map((label): Mark => {
    const left = column(label.span.start);
    // A label over several lines is underlined to the end of its first; an empty one gets one mark.
    const width = Math.max(1, column(label.span.end) - left);
    return { from: left, width, text: printable(label.text), part: label.primary ? "primary" : "secondary" };
  });
  return { text: `${before}${printable(shown)}${to < whole.length ? frame.cut : ""}`, marks };
}

/** Which part of a line of `length` characters to show, given where its labels begin. */
function visiblePart(length: number, starts: readonly number[]): readonly [number, number] {
  if (length <= MAX_COLUMNS) return [0, length];
  const from = Math.max(0, Math.min(Math.min(...starts) - CUT_MARGIN, length - MAX_COLUMNS));
  return [from, Math.min(length, from + MAX_COLUMNS)];
}

/** Underlines of all labels in one row, with the words of the rightmost; those of the others in rows below. */
function* drawMarks(marks: readonly Mark[], frame: Frame, style: Style): Generator<Row> {
  // Long marks first and primary ones last, so that the more telling one is on top where two overlap.
  const cells: { char: string; part: Mark["part"] }[] = [];
  const rank = (mark: Mark): number => (mark.part === "primary" ? 1e6 : 0) - mark.width;
  for (const mark of [...marks].sort((a, b) => rank(a) - rank(b))) {
    for (let i = mark.from; i < mark.from + mark.width; i++) {
      while (cells.length <= i) cells.push({ char: " ", part: "secondary" });
      cells[i] = { char: mark.part === "primary" ? "^" : "-", part: mark.part };
    }
  }
  const [rightmost, ...others] = [...marks].sort((a, b) => b.from - a.from || b.width - a.width);
  const underlines = cells.map((cell) => (cell.char === " " ? " " : style(cell.part, cell.char))).join("");
  const words = rightmost === undefined || rightmost.text === "" ? "" : ` ${style(rightmost.part, rightmost.text)}`;
  yield { text: underlines + words };

  const worded = others.filter((mark) => mark.text !== "");
  for (const [i, mark] of worded.entries()) {
    let row = "";
    let column = 0;
    for (const left of worded.slice(i + 1).reverse()) {
      // Labels that begin together need no line between them.
      if (left.from < column || left.from === mark.from) continue;
      row += " ".repeat(left.from - column) + style(left.part, frame.bar);
      column = left.from + 1;
    }
    yield { text: `${row}${" ".repeat(Math.max(0, mark.from - column))}${style(mark.part, mark.text)}` };
  }
}

// -------------------------------------------------------------------------------------------------------------- lists

/** Drawings of all diagnostics with blank lines between them, and how many there are. Empty for an empty list. */
export function renderDiagnostics(diagnostics: readonly Diagnostic[], options: RenderOptions = {}): string {
  if (diagnostics.length === 0) return "";
  const seen = new Map<string, number>();
  const out: string[] = [];
  for (const diagnostic of diagnostics) {
    const key = `${diagnostic.severity} ${diagnostic.labels[0]?.span.source.path ?? ""}`;
    const count = (seen.get(key) ?? 0) + 1;
    seen.set(key, count);
    if (count <= MAX_PER_FILE) out.push(renderDiagnostic(diagnostic, options));
  }
  for (const [key, count] of seen) {
    const [severity = "", ...path] = key.split(" ");
    const hidden = count - MAX_PER_FILE;
    const where = path.join(" ") === "" ? "" : ` in ${printable(path.join(" "))}`;
    if (hidden > 0) out.push(`and ${hidden} more ${hidden === 1 ? severity : `${severity}s`}${where}`);
  }
  out.push(countDiagnostics(diagnostics));
  return out.join("\n\n");
}

/** `2 errors, 1 warning`. */
function countDiagnostics(diagnostics: readonly Diagnostic[]): string {
  const counts = (["error", "warning"] as const).map((severity) => {
    const count = diagnostics.filter((diagnostic) => diagnostic.severity === severity).length;
    return count === 0 ? "" : `${count} ${severity}${count === 1 ? "" : "s"}`;
  });
  return counts.filter((count) => count !== "").join(", ");
}

// --------------------------------------------------------------------------------------------------------------- data

/** A place: `offset` and `column` count UTF-16 units, `byte` bytes of UTF-8; line and column begin at 1. */
interface JsonPoint {
  readonly offset: number;
  readonly byte: number;
  readonly line: number;
  readonly column: number;
}
interface JsonSpan {
  readonly path: string;
  readonly start: JsonPoint;
  readonly end: JsonPoint;
}

/** A diagnostic as plain data. */
export interface JsonDiagnostic {
  readonly code: string;
  readonly severity: Severity;
  readonly message: string;
  readonly labels: readonly (JsonSpan & { readonly text: string; readonly primary: boolean })[];
  readonly notes: readonly string[];
  readonly helps: readonly {
    readonly text: string;
    readonly edits: readonly (JsonSpan & { readonly replacement: string })[];
  }[];
}

/** `diagnostic` for `JSON.stringify`: one object, no reference to source texts. */
export function diagnosticToJson(diagnostic: Diagnostic): JsonDiagnostic {
  return {
    code: diagnostic.code,
    severity: diagnostic.severity,
    message: diagnostic.message,
    labels: diagnostic.labels.map(({ span, text, primary }) => ({ ...jsonSpan(span), text, primary })),
    notes: diagnostic.notes,
    helps: diagnostic.helps.map(({ text, edits = [] }) => ({
      text,
      edits: edits.map(({ span, replacement }) => ({ ...jsonSpan(span), replacement })),
    })),
  };
}

function jsonSpan({ source, start, end }: Span): JsonSpan {
  const point = (offset: number): JsonPoint => {
    const byte = new TextEncoder().encode(source.text.slice(0, offset)).length;
    return { offset, byte, ...lineColumn(source, offset) };
  };
  return { path: source.path, start: point(start), end: point(end) };
}
