/**
 * The programs in the documents: complete ones elaborate without errors, wrong ones give exactly the code they name, and
 * what is said of them stands there as it is drawn today.
 */
import { describe, expect, test } from "vitest";
import { elaborateWithRecipes } from "../../compiler/recipe/elaborate.ts";
import { elaborateSearch } from "../../compiler/search/elaborate.ts";
import type { Diagnostic } from "../../grammar/diagnostic.ts";
import { renderDiagnostics } from "../../grammar/render.ts";
import { resolveWith } from "../elaborate/programs.ts";
import { blocksOf, pathOf, readDocument, withBodies } from "./document.ts";
import { grammarText } from "./ebnf.ts";
import { withTables } from "./settings.ts";

/** The texts of other files that programs in the documents import. */
const FILES: Readonly<Record<string, string>> = {
  "layers.net": "block ConvBN(c: int) = Conv(c, use_bias=false) @conv -> BatchNorm @bn -> ReLU\n",
};

/** Everything that a file says; a search is enumerated. */
function check(text: string): { readonly diagnostics: readonly Diagnostic[] } {
  const source = { path: "test.net", text };
  const resolve = resolveWith(FILES);
  const found = elaborateWithRecipes(source, resolve);
  return found.diagnostics.length === 0 && /^search /m.test(text) ? elaborateSearch(source, resolve) : found;
}

const codesOf = (diagnostics: readonly Diagnostic[]): readonly string[] => diagnostics.map((each) => each.code);

describe.each(["language.md", "recipes.md", "search.md", "diagnostics.md", "ir.md"])("%s", (document) => {
  const text = readDocument(document);
  const blocks = blocksOf(text);

  for (const { language, kind, body, line } of blocks) {
    if (language !== "net" || kind === "fragment") continue;
    test(`the program in line ${line}`, () => {
      const { diagnostics } = check(body);
      const wanted = /^error (E\d{4})$/.exec(kind)?.[1];
      expect(kind === "" || wanted !== undefined).toBe(true);
      expect(codesOf(diagnostics)).toEqual(wanted === undefined ? [] : [wanted]);
    });
  }

  test("what is said of wrong programs, the grammar and the tables", async () => {
    const made = new Map<number, string>();
    for (const [i, block] of blocks.entries()) {
      if (block.language === "ebnf") made.set(i, grammarText());
      if (block.language !== "text" || block.kind !== "diagnostics") continue;
      const program = blocks[i - 1];
      expect(program?.language, `the block before line ${block.line}`).toBe("net");
      const drawn = renderDiagnostics(check(program?.body ?? "").diagnostics);
      made.set(i, drawn);
    }
    // A document is written by one test only: who has nothing to say of it leaves it alone.
    if (made.size > 0) await expect(withTables(withBodies(text, made))).toMatchFileSnapshot(pathOf(document));
  });
});
