/**
 * The rooms' import rule (grammar <- compiler <- runtime, an engine that stands alone) is oxlint's to enforce; these
 * tests prove that it fires, on a house of four files built in a temporary folder with the project's own configuration.
 */
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
let house = "";

beforeAll(() => {
  house = mkdtempSync(join(tmpdir(), "netc-rooms-"));
  copyFileSync(join(root, ".oxlintrc.json"), join(house, ".oxlintrc.json"));
});
afterAll(() => rmSync(house, { recursive: true }));

/** Lints one file with the given text at the given place; returns the names of the rules that fired. */
function lint(file: string, text: string): string {
  mkdirSync(dirname(join(house, file)), { recursive: true });
  writeFileSync(join(house, file), text);
  const result = spawnSync(join(root, "node_modules/.bin/oxlint"), ["-c", ".oxlintrc.json", file], {
    cwd: house,
    encoding: "utf8",
  });
  return `${result.stdout}${result.stderr}`;
}

describe("the import rule", () => {
  it.each([
    ["grammar/a.ts", 'import { x } from "../compiler/x.ts";\nexport const y: number = x;\n'],
    ["grammar/b.ts", 'import { readFileSync } from "node:fs";\nexport const y: unknown = readFileSync;\n'],
    ["compiler/a.ts", 'import { x } from "../runtime/x.ts";\nexport const y: number = x;\n'],
    ["compiler/loop/b.ts", 'import { x } from "../../runtime/engine/x.ts";\nexport const y: number = x;\n'],
    ["runtime/engine/a.ts", 'import { x } from "../../compiler/x.ts";\nexport const y: number = x;\n'],
    ["runtime/engine/wasm/b.ts", 'import { x } from "../../../grammar/x.ts";\nexport const y: number = x;\n'],
    ["runtime/metrics/a.ts", 'import { x } from "../data/x.ts";\nexport const y: number = x;\n'],
    ["runtime/metrics/b.ts", 'import { readFileSync } from "node:fs";\nexport const y: unknown = readFileSync;\n'],
    ["runtime/tune/a.ts", 'import { x } from "../train/x.ts";\nexport const y: number = x;\n'],
    ["runtime/report/a.ts", 'import { x } from "../cli/x.ts";\nexport const y: number = x;\n'],
    ["runtime/cli/a.ts", 'import { x } from "../../test/x.ts";\nexport const y: number = x;\n'],
  ])("refuses the import in %s", (file, text) => {
    expect(lint(file, text)).toContain("no-restricted-imports");
  });

  it.each([
    ["compiler/c.ts", 'import { x } from "../grammar/x.ts";\nexport const y: number = x;\n'],
    ["runtime/engine/c.ts", 'import type { X } from "../../compiler/x.ts";\nexport const y = (x: X): X => x;\n'],
    [
      "runtime/metrics/c.ts",
      'import type { X } from "../../compiler/recipe/x.ts";\nexport const y = (x: X): X => x;\n',
    ],
    ["runtime/cli/c.ts", 'import { x } from "../engine/x.ts";\nexport const y: number = x;\n'],
  ])("allows the import in %s", (file, text) => {
    expect(lint(file, text)).not.toContain("no-restricted-imports");
  });
});

describe("the house", () => {
  it("has the six rooms and no other top-level folder", () => {
    const tracked = spawnSync("git", ["ls-files"], { cwd: root, encoding: "utf8" }).stdout.split("\n");
    const folders = new Set(
      tracked.filter((file) => file.includes("/") && !file.startsWith(".")).map((file) => file.split("/")[0]),
    );
    expect([...folders].sort((a, b) => ((a ?? "") < (b ?? "") ? -1 : 1))).toEqual([
      "compiler",
      "examples",
      "grammar",
      "runtime",
      "specs",
      "test",
    ]);
  });

  it("keeps every source file under 600 lines", () => {
    const long = ["grammar", "compiler", "runtime", "test"]
      .flatMap((room) =>
        readdirSync(join(root, room), { recursive: true, encoding: "utf8" }).map((file) => join(room, file)),
      )
      .filter((file) => /\.(ts|mjs|net)$/.test(file) && !file.includes("fixtures"))
      .map((file) => ({ file, lines: readFileSync(join(root, file), "utf8").split("\n").length }))
      .filter(({ lines }) => lines > 600);
    expect(long).toEqual([]);
  });
});
