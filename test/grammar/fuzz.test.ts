/** Whatever the text, `parse` gives a tree and diagnostics with places inside the text; it never throws. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parse } from "../../grammar/parser.ts";
import { diagnosticToJson, renderDiagnostics } from "../../grammar/render.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const seeds = ["examples", "compiler/std"].flatMap((folder) =>
  readdirSync(join(root, folder))
    .filter((name) => name.endsWith(".net"))
    .map((name) => readFileSync(join(root, folder, name), "utf8").slice(0, 4000)),
);

function check(text: string): void {
  const source = { path: "fuzz.net", text };
  const { file, diagnostics } = parse(source);
  const inside = (start: number, end: number): boolean => start >= 0 && start <= end && end <= text.length;
  for (const { span } of diagnostics.flatMap((d) => d.labels)) expect(inside(span.start, span.end), text).toBe(true);
  for (const { edits = [] } of diagnostics.flatMap((d) => d.helps))
    for (const { span } of edits) expect(inside(span.start, span.end), text).toBe(true);
  const visit = (value: unknown): void => {
    if (Array.isArray(value)) value.forEach(visit);
    else if (typeof value === "object" && value !== null) {
      if ("start" in value && "end" in value && !inside(Number(value.start), Number(value.end)))
        throw new Error(`${JSON.stringify(value).slice(0, 200)} is not inside ${JSON.stringify(text)}`);
      Object.values(value).forEach(visit);
    }
  };
  visit(file);
  expect(renderDiagnostics(diagnostics)).not.toContain("undefined");
  JSON.stringify(diagnostics.map(diagnosticToJson));
}

const PIECES = [
  ..."( ) [ ] { } @ . , ; : = + - * / % ^ | ? < > # ! & $ \\ \" ' ` ~".split(" "),
  ...[
    "->",
    "×2",
    "x2",
    "..",
    "...",
    "#[",
    "///",
    "//",
    "/*",
    "*/",
    '"',
    "\n",
    " ",
    "\r\n",
    "3x",
    "3 x 3",
    "1e",
    "é",
    "日本",
  ],
  ...["with", "at", "over", "fuse", "from", "in", "if", "else", "repeat", "each", "return", "param", "block", "model"],
  ...["edition 2026", "search", "choose", "weights", "recipe", "import", "\u0000", "\ud800", "\u202e", "\ufeff"],
];

/** A program with pieces cut out, put in, doubled or moved. */
const mutated = fc
  .tuple(
    fc.constantFrom(...seeds),
    fc.array(fc.tuple(fc.nat(), fc.nat(30), fc.oneof(fc.constantFrom(...PIECES), fc.constant(""))), {
      minLength: 1,
      maxLength: 6,
    }),
  )
  .map(([seed, edits]) =>
    edits.reduce((text, [where, length, piece]) => {
      const at = where % (text.length + 1);
      return text.slice(0, at) + piece + text.slice(at + (length > 20 ? length - 20 : 0));
    }, seed),
  );

describe("parse", () => {
  it("survives programs with mistakes", () => {
    fc.assert(fc.property(mutated, check), { seed: 20260101, numRuns: 300, endOnFailure: true });
  });

  it("survives heaps of tokens", () => {
    const heap = fc
      .array(fc.constantFrom(...PIECES, "x", "f(", "1", " "), { maxLength: 60 })
      .map((all) => all.join(""));
    fc.assert(fc.property(heap, check), { seed: 20260102, numRuns: 300, endOnFailure: true });
  });

  it("survives programs that end early", () => {
    const early = fc.tuple(fc.constantFrom(...seeds), fc.nat()).map(([text, n]) => text.slice(0, n % text.length));
    fc.assert(fc.property(early, check), { seed: 20260103, numRuns: 150, endOnFailure: true });
  });
});
