/**
 * A candidate as a person would have written it: an ordinary source, with nothing of the search left in it.
 *
 * In: the search's file and what was chosen. Out: the file's text without its searches, then the candidate's model, then
 * its recipe with the chosen values as defaults, so that `netc train` of the text trains what the search has found.
 */
import type * as ast from "../../grammar/ast.ts";
import type { Module } from "../elaborate/modules.ts";
import { BARE, findBinding } from "../elaborate/modules.ts";
import { labelOf, modelAt } from "./points.ts";
import type { Called } from "./recipes.ts";
import { type Edit, type Selection, splice } from "./substitute.ts";
import type { WrittenSearch } from "./written.ts";

export interface WinnerOptions {
  /** How a file is imported from where the winner will lie; undefined: as it was. */
  readonly importPath?: (written: string) => string;
}

export function winnerText(
  search: WrittenSearch,
  selection: Selection,
  called: Called,
  { importPath = (written) => written }: WinnerOptions,
): string {
  const { module } = search;
  const model = freeName(module, `${search.name}Winner`);
  const lines = [
    withoutSearches(module, importPath),
    "",
    `/// Found by the search \`${search.name}\`: ${labelOf(search, selection)}.`,
    `model ${model} = ${modelAt(search, selection).text}`,
    "",
  ];
  const recipe = recipeText(search, called, importPath);
  if (recipe !== undefined) lines.push(...recipe);
  else if (called.text !== undefined) lines.push(`// It was trained by ${called.text}.`);
  return `${lines.join("\n").trimEnd()}\n`;
}

function freeName(module: Module, wanted: string): string {
  let name = wanted;
  for (let n = 2; module.names.has(name); n++) name = `${wanted}${n}`;
  return name;
}

// -------------------------------------------------------------------------------------------------------------- recipe

/** A copy of the recipe for any model; undefined if what it needs of its own file cannot be had here. */
function recipeText(
  search: WrittenSearch,
  { declared, args, key }: Called,
  importPath: (written: string) => string,
): readonly string[] | undefined {
  const { item, module } = declared;
  const { text } = module.source;
  const name = freeName(search.module, `${search.name}Recipe`);
  // The default recipe stands nowhere.
  if (key === "" && item.settings.items.length === 0) return [`recipe ${name} {}`, ""];
  const imports = module === search.module ? [] : importsFor(declared, search, importPath);
  if (imports === undefined) return undefined;
  const params = item.params.map((param) => {
    const given = args.get(param.name.name);
    if (given === undefined) return text.slice(param.start, param.end);
    const declaration = text.slice(param.start, param.type?.end ?? param.name.end);
    return `${declaration} = ${typeof given === "string" ? JSON.stringify(given) : String(given)}`;
  });
  const head = params.length === 0 ? name : `${name}(${params.join(", ")})`;
  const settings = splice(text, item.settings, folderEdits(item.settings, importPath));
  return [...imports, `recipe ${head} ${settings}`, ""];
}

/** Imports of what a recipe of another file names there. */
function importsFor(
  { item, module }: Called["declared"],
  search: WrittenSearch,
  importPath: (written: string) => string,
): readonly string[] | undefined {
  const params = new Set(item.params.map((param) => param.name.name));
  const needed = namesOf([item.params, item.settings]).filter((name) => !params.has(name) && module.names.has(name));
  const missing = needed.filter((name) => {
    const here = findBinding(search.module, name)?.cell;
    return here === undefined || here !== module.names.get(name)?.cell;
  });
  if (missing.length === 0) return [];
  if (missing.some((name) => findBinding(search.module, name) !== undefined)) return undefined;
  const from = search.module.file.items.find(
    (each): each is ast.Import =>
      each.kind === "Import" &&
      (each.names ?? []).some(
        ({ name, as }) =>
          name.name === item.name.name &&
          search.module.names.get((as ?? name).name)?.cell === module.names.get(item.name.name)?.cell,
      ),
  );
  return from === undefined
    ? undefined
    : [`import { ${missing.join(", ")} } from ${JSON.stringify(pathOf(from, importPath))}`];
}

function namesOf(part: unknown): readonly string[] {
  const found = new Set<string>();
  const visit = (each: unknown): void => {
    if (typeof each !== "object" || each === null) return;
    if ("kind" in each && each.kind === "Name" && "name" in each && typeof each.name === "string") found.add(each.name);
    for (const inside of Object.values(each)) visit(inside);
  };
  visit(part);
  return [...found];
}

/** Folders of clips are relative to the file that names them, as imports are. */
function folderEdits(part: unknown, importPath: (written: string) => string): readonly Edit[] {
  if (typeof part !== "object" || part === null) return [];
  const inside = Object.values(part).flatMap((each) => folderEdits(each, importPath));
  if (!isCall(part) || part.callee.kind !== "Name" || part.callee.name !== "Clips") return inside;
  const folder = part.args[0]?.value;
  if (folder?.kind !== "String" || /^[/~]|^[A-Za-z]:/.test(folder.value)) return inside;
  const path = importPath(`./${folder.value}`).replace(/^\.\/(?!$)/, "");
  return path === folder.value
    ? inside
    : [...inside, { start: folder.start, end: folder.end, text: JSON.stringify(path) }];
}

function isCall(part: object): part is ast.Call {
  return "kind" in part && part.kind === "Call";
}

// ---------------------------------------------------------------------------------------------------------------- file

function pathOf({ from }: ast.Import | ast.ReExport, importPath: (written: string) => string): string {
  return from.value.startsWith(".") ? importPath(from.value) : from.value;
}

/** The file's text without its searches. A bare headline, which only the end of a file can be, becomes a model. */
function withoutSearches({ file, source }: Module, importPath: (written: string) => string): string {
  const { text } = source;
  const edits = file.items.flatMap((item): readonly Edit[] => {
    switch (item.kind) {
      case "Search":
        return [{ start: beginningOf(text, item.start), end: endOf(text, item.end), text: "" }];
      case "BareModel":
        return [{ start: item.value.start, end: item.value.start, text: `model ${BARE} = ` }];
      case "Import":
      case "ReExport": {
        const { start, end } = item.from;
        const path = pathOf(item, importPath);
        return path === item.from.value ? [] : [{ start, end, text: JSON.stringify(path) }];
      }
      case "Recipe":
        return folderEdits(item.settings, importPath);
      default:
        return [];
    }
  });
  return splice(text, { start: 0, end: text.length }, edits)
    .replace(/\n{3,}/g, "\n\n")
    .trimEnd();
}

/** Where the comments and attributes right before an item begin. */
function beginningOf(text: string, start: number): number {
  let at = text.lastIndexOf("\n", start - 1) + 1;
  if (text.slice(at, start).trim() !== "") return start;
  while (at > 0) {
    const line = text.lastIndexOf("\n", at - 2) + 1;
    if (!/^\s*(?:\/\/|#\[)/.test(text.slice(line, at))) break;
    at = line;
  }
  return at;
}

/** The end of an item, or of its line if only a comment follows. */
function endOf(text: string, end: number): number {
  const [rest = ""] = /^[ \t]*(?:\/\/[^\n]*)?(?=\n|$)/.exec(text.slice(end)) ?? [];
  return end + rest.length;
}
