/** The built package: its entry points are bundles that hold what they need, and the engine's one runs in a browser. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { expect, inject, test } from "vitest";
import { root } from "./command.ts";

const dist = join(root, "dist");
const manifest: {
  readonly exports: Readonly<Record<string, { readonly types: string; readonly default: string }>>;
  readonly files: readonly string[];
  readonly dependencies: Readonly<Record<string, string>>;
} = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

/** What a file imports before it runs, by name. */
function staticImports(file: string): readonly string[] {
  return [...readFileSync(file, "utf8").matchAll(/^(?:import|export) [^;'"]*?(?:from )?"([^"]+)";/gm)].map(
    ([, name = ""]) => name,
  );
}

/** Files and packages that importing `file` loads. */
function reached(file: string, seen = new Set<string>()): ReadonlySet<string> {
  if (seen.has(file)) return seen;
  seen.add(file);
  for (const name of staticImports(file)) {
    if (name.startsWith(".")) reached(join(dirname(file), name), seen);
    else seen.add(name);
  }
  return seen;
}

test("its entry points are there, with their types, and load", async () => {
  expect(inject("buildFailure")).toBe("");
  for (const { types, default: entry } of Object.values(manifest.exports)) {
    expect(existsSync(join(root, types)), types).toBe(true);
    const module: object = await import(pathToFileURL(join(root, entry)).href);
    expect(Object.keys(module).length).toBeGreaterThan(5);
  }
});

test("what an entry point loads at once is in the package, and few files", () => {
  const inPackage = (file: string): boolean =>
    manifest.files.some((pattern) => file === pattern || file.startsWith(`${pattern}/`));
  for (const entry of ["dist/runtime/cli/main.js", "dist/runtime/index.js", "dist/runtime/engine/index.js"]) {
    const files = [...reached(join(root, entry))];
    expect(files.length).toBeLessThan(30);
    if (!entry.includes("engine")) expect(files.length).toBeGreaterThan(5);
    for (const file of files) {
      if (file.startsWith(root)) expect(inPackage(file.slice(root.length)), file).toBe(true);
      else expect(file, `${entry} imports ${file}`).toMatch(/^node:|^(events|child_process|path|fs|process)$/);
    }
  }
});

test("the engine imports nothing of Node before it runs", () => {
  const entry = join(dist, "runtime/engine/index.js");
  expect([...reached(entry)]).toEqual([entry]);
});

test("every module of the standard library lies there with its syntax tree", () => {
  const files = readdirSync(join(dist, "compiler/std"));
  const names = readdirSync(join(root, "compiler/std"));
  expect(names.length).toBeGreaterThan(3);
  for (const name of names) {
    expect(readFileSync(join(dist, "compiler/std", name), "utf8")).toBe(
      readFileSync(join(root, "compiler/std", name), "utf8"),
    );
    expect(files).toContain(name.replace(/\.net$/, ".json"));
  }
});

test("licences of the bundled packages lie beside the bundles", () => {
  const text = readFileSync(join(dist, "chunks/LICENSES.txt"), "utf8");
  for (const name of ["chevrotain", "lodash-es", "commander", "listr2", "@noble/hashes"])
    expect(text).toMatch(new RegExp(`^${name} \\d+\\.\\d+\\.\\d+ \\(\\S+\\)$`, "m"));
});
