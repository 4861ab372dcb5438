/**
 * The table of codes and the sources say the same: no code is missing, none is there that nothing raises.
 */
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { readDocument } from "./document.ts";

const ROOMS: readonly string[] = ["grammar", "compiler", "runtime"];

/** Every code that stands in quotes in a source, with the files it stands in. */
function codesInSources(): ReadonlyMap<string, readonly string[]> {
  const found = new Map<string, string[]>();
  for (const room of ROOMS) {
    const folder = fileURLToPath(new URL(`../../${room}`, import.meta.url));
    for (const file of readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((f) => f.endsWith(".ts"))) {
      const text = readFileSync(`${folder}/${file}`, "utf8");
      for (const code of new Set([...text.matchAll(/"([EW]\d{4})"/g)].map((match) => match[1] ?? "")))
        found.set(code, [...(found.get(code) ?? []), `${room}/${file}`]);
    }
  }
  return found;
}

const rows = [...readDocument("diagnostics.md").matchAll(/^\| ([EW]\d{4}) \| ([^|]+) \|/gm)].map((match) => ({
  code: match[1] ?? "",
  meaning: match[2] ?? "",
}));

test("the table has every code of the sources, and no other", () => {
  const sources = codesInSources();
  expect(sources.size).toBeGreaterThan(60);
  expect(rows.map((row) => row.code)).toEqual([...new Set(rows.map((row) => row.code))]);
  const missing = [...sources].filter(([code]) => rows.every((row) => row.code !== code));
  expect(missing).toEqual([]);
  expect(rows.filter((row) => !sources.has(row.code))).toEqual([]);
});

test("no two codes have one meaning, and each section is in order", () => {
  expect(new Set(rows.map((row) => row.meaning)).size).toBe(rows.length);
  const errors = rows.map((row) => row.code).filter((code) => code.startsWith("E"));
  expect(errors).toEqual([...errors].sort());
});
