/** Tables of CSV read back. */
import { expect } from "vitest";

/** Rows of CSV (RFC 4180). */
function rowsOf(csv: string): readonly (readonly string[])[] {
  const rows: string[][] = [[]];
  const field = /"((?:[^"]|"")*)"|([^",\r\n]*)/y;
  let at = 0;
  while (at < csv.length) {
    field.lastIndex = at;
    const found = field.exec(csv);
    if (found === null) throw new Error(`no field at ${at}`);
    rows.at(-1)?.push(found[1]?.replaceAll('""', '"') ?? found[2] ?? "");
    at = field.lastIndex;
    if (csv.startsWith("\r\n", at)) {
      at += 2;
      if (at < csv.length) rows.push([]);
    } else if (csv[at] === ",") at++;
    else throw new Error(`neither comma nor end of line at ${at}`);
  }
  return rows;
}

/** Rows of a table as records, by the names of its header. */
export function recordsOf(csv: string): readonly Readonly<Record<string, string>>[] {
  const [header = [], ...rows] = rowsOf(csv);
  return rows.map((row) => {
    expect(row).toHaveLength(header.length);
    return Object.fromEntries(header.map((name, k) => [name, row[k] ?? ""]));
  });
}
