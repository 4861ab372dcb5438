/**
 * Numbers, sizes, times and tables as people write them, the same in the terminal and on the page.
 */

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

/** A share as percent: `55.8 %`; `–` for NaN. */
export function percent(share: number, digits = 1): string {
  return Number.isNaN(share) ? "–" : `${(share * 100).toFixed(digits)} %`;
}

/** A number with at most `digits` significant digits, and no exponent where people expect none: `0.000312`, `1.24`, `1e−9`. */
export function significant(value: number, digits = 3): string {
  if (Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e7))
    return minus(
      value
        .toExponential(digits - 1)
        .replace(/\.?0*e/, "e")
        .replace("e-", "e−")
        .replace("e+", "e"),
    );
  return minus(size >= 10 ** (digits - 1) ? value.toFixed(0) : String(Number(value.toPrecision(digits))));
}

/** `-1` as `−1`. */
export function minus(text: string): string {
  return text.replace(/^-/, "−");
}

/** Time in words: `42.0 s`, `13 min 20 s`, `3 h 12 min`. */
export function duration(seconds: number): string {
  if (Number.isNaN(seconds)) return "–";
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  if (seconds < 90) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 5400) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  const minutes = Math.round(seconds / 60);
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Large counts by magnitude: `15.47 G`, `138.4 M`, `960`. */
export function magnitude(value: number): string {
  for (const [unit, size] of [["T", 1e12] as const, ["G", 1e9] as const, ["M", 1e6] as const, ["k", 1e4] as const])
    if (value >= size) return `${significant(value / (unit === "k" ? 1e3 : size), 4)} ${unit}`;
  return String(value);
}

/** `1 clip`, `2 clips`. */
export function count(number: number, noun: string): string {
  return `${grouped(number)} ${noun}${number === 1 ? "" : noun.endsWith("s") ? "es" : "s"}`;
}
