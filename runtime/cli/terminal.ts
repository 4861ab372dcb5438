/**
 * What commands print: colours where the terminal has them. Tables, numbers and sizes are those of reports.
 */
import { styleText } from "node:util";

export { bytes, count, grouped, table } from "../report/text.ts";

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
