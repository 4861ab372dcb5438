/**
 * What commands print: colours where the terminal has them, tables, numbers and sizes as people write them.
 */
import { styleText } from "node:util";

type Style = "red" | "green" | "yellow" | "cyan" | "blue" | "bold" | "dim";

/** True if `stream` is a terminal that shows colours (NO_COLOR and FORCE_COLOR are honoured). */
export function hasColour(stream: NodeJS.WriteStream): boolean {
  if (process.env["NO_COLOR"] !== undefined && process.env["NO_COLOR"] !== "") return false;
  if (process.env["FORCE_COLOR"] !== undefined && process.env["FORCE_COLOR"] !== "0") return true;
  return stream.isTTY && stream.hasColors();
}

/** `text` in a style, for standard error and for standard output alike. */
export function paint(style: Style, text: string, stream: NodeJS.WriteStream = process.stderr): string {
  return hasColour(stream) ? styleText(style, text) : text;
}

/** A line to standard output. */
export function print(line = ""): void {
  process.stdout.write(`${line}\n`);
}

/** `138357544` as `138,357,544`. */
export function grouped(value: number): string {
  // toLocaleString would load the language tables: 58 ms of every start.
  return String(Math.round(value)).replaceAll(/\B(?=(?:\d{3})+$)/g, ",");
}

/** Bytes with binary units: `392.0 MiB`. */
export function bytes(value: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let scaled = value;
  while (scaled >= 1024 && unit < units.length - 1) {
    scaled /= 1024;
    unit++;
  }
  return unit === 0 ? `${value} B` : `${scaled.toFixed(1)} ${units[unit] ?? ""}`;
}

/** A table with a header line; columns named in `right` are aligned to the right. Ends without a newline. */
export function table(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  right: ReadonlySet<number> = new Set(),
): string {
  const widths = header.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => (row[column] ?? "").length)),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) =>
        right.has(column) ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0),
      )
      .join("  ")
      .trimEnd();
  return [line(header), widths.map((width) => "─".repeat(width)).join("  "), ...rows.map(line)].join("\n");
}
