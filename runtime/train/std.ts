/** The standard library's texts: they lie beside the compiler, in the source tree as in the built package. */
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { File } from "../../grammar/ast.ts";

export const STD_FOLDER: string = fileURLToPath(new URL("../../compiler/std/", import.meta.url));

/** The syntax tree that the build has put beside a module of the standard library; a source tree has none. */
export function builtTree(file: string): File | undefined {
  const tree = file.replace(/\.net$/, ".json");
  return existsSync(tree) ? JSON.parse(readFileSync(tree, "utf8")) : undefined;
}
