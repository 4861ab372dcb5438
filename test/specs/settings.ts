/**
 * The tables of settings in specs/recipes.md and specs/search.md, made from the schemas that read them.
 */
import { DATA, GROUP, RECIPE, STAGE, STREAM, type Table } from "../../compiler/recipe/schema.ts";
import { WORDS } from "../../compiler/recipe/words.ts";
import { LIMIT, SEARCH, SEARCH_WORDS } from "../../compiler/search/words.ts";

const TABLES: Readonly<Record<string, Table>> = {
  recipe: RECIPE,
  stage: STAGE,
  data: DATA,
  stream: STREAM,
  group: GROUP,
  search: SEARCH,
  limit: LIMIT,
};

const WORD_TABLES: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {
  words: WORDS,
  searchwords: SEARCH_WORDS,
};

function tableText(table: Table): string {
  const rows = Object.entries(table).map(
    ([name, { kind, otherwise, doc }]) =>
      `| \`${name}\` | ${kind.what} | ${otherwise === undefined ? "must be given" : `\`${otherwise}\``} | ${doc} |`,
  );
  return ["| setting | takes | default | meaning |", "|---|---|---|---|", ...rows].join("\n");
}

function wordsText(table: Readonly<Record<string, readonly string[]>>): string {
  const rows = Object.entries(table).map(
    ([what, words]) => `| ${what} | ${words.map((word) => `\`${word}\``).join(" · ")} |`,
  );
  return ["| | |", "|---|---|", ...rows].join("\n");
}

const MARKED = /<!-- table (\w+) -->\n[^]*?<!-- end -->/g;

/** `text` with the tables between its marks made anew. */
export function withTables(text: string): string {
  return text.replace(MARKED, (_, name: string) => {
    const [table, words] = [TABLES[name], WORD_TABLES[name]];
    const made = words !== undefined ? wordsText(words) : table === undefined ? undefined : tableText(table);
    if (made === undefined) throw new Error(`there is no table \`${name}\``);
    return `<!-- table ${name} -->\n${made}\n<!-- end -->`;
  });
}
