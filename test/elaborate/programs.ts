/**
 * Programs for the tests of elaboration: texts in memory, and the standard library from the repository.
 */
import { readFileSync } from "node:fs";
import type { ElaborateOptions } from "../../compiler/elaborate/elaborate.ts";
import { elaborate } from "../../compiler/elaborate/elaborate.ts";
import type { Elaboration, Model, Resolve } from "../../compiler/model.ts";
import type { Source } from "../../grammar/source.ts";

const library = new Map<string, Source>();

/** A module of the standard library. */
export function standard(path: string): Source {
  const known = library.get(path);
  if (known !== undefined) return known;
  const source = { path, text: readFileSync(new URL(`../../compiler/${path}.net`, import.meta.url), "utf8") };
  library.set(path, source);
  return source;
}

const LIBRARY = new Set(["std/prim", "std/nn", "std/attention", "std/vision", "std/weights"]);

/** Finds modules of the library and the files given. */
export function resolveWith(files: Readonly<Record<string, string>>): Resolve {
  const sources = new Map(Object.entries(files).map(([path, text]) => [path, { path, text }]));
  return (path) => {
    if (LIBRARY.has(path)) return standard(path);
    if (path.startsWith("../../..")) return { error: "it is outside the project" };
    return sources.get(path.replace(/^\.\//, ""));
  };
}

export function check(
  text: string,
  options: ElaborateOptions = {},
  files: Readonly<Record<string, string>> = {},
): Elaboration {
  return elaborate({ path: "test.net", text }, resolveWith(files), options);
}

/** The model of a text that has no errors. */
export function modelOf(text: string, options: ElaborateOptions = {}): Model {
  const { model, diagnostics } = check(text, options);
  if (model === undefined) throw new Error(`no model: ${diagnostics.map((d) => `${d.code} ${d.message}`).join("; ")}`);
  return model;
}

/** The number of learned numbers. */
export function parameterCount(model: Model): number {
  return model.parameters
    .filter((p) => p.kind === "param")
    .reduce((sum, p) => sum + p.node.shape.reduce<number>((n, size) => n * Number(size), 1), 0);
}
