/**
 * The grammar as the parser recorded it, in EBNF: `[ … ]` may be left out, `{ … }` may stand any number of times.
 */
import type { IProduction } from "chevrotain";
import { Alternation, NonTerminal, Terminal } from "chevrotain";
import { NetParser } from "../../grammar/parser/declarations.ts";

/** Rules that only serve to read a part of a file again after an error. */
const NOT_SHOWN: ReadonlySet<string> = new Set(["items"]);

const TOKENS: Readonly<Record<string, string>> = {
  Identifier: "NAME",
  Word: "WORD",
  Number: "NUMBER",
  Size: "SIZE",
  String: "STRING",
  DType: "DTYPE",
  XTimes: "TIMES",
  BinaryOperator: "OPERATOR",
};

interface WithDefinition {
  readonly definition: readonly IProduction[];
}

function hasDefinition(production: IProduction): production is IProduction & WithDefinition {
  return "definition" in production && Array.isArray(production.definition);
}

function separatorOf(production: IProduction): string | undefined {
  return "separator" in production ? tokenText(production.separator as Terminal["terminalType"]) : undefined;
}

function tokenText(token: Terminal["terminalType"]): string {
  const sign = /^`(.*)`$/.exec(token.LABEL ?? "")?.[1];
  return TOKENS[token.name] ?? `"${sign ?? token.name}"`;
}

function sequence(productions: readonly IProduction[]): string {
  return productions.map(show).join(" ");
}

function show(production: IProduction): string {
  if (production instanceof Terminal) return tokenText(production.terminalType);
  if (production instanceof NonTerminal) return production.nonTerminalName;
  if (!hasDefinition(production)) throw new Error("a production of an unknown kind");
  if (production instanceof Alternation) return `( ${production.definition.map(show).join(" | ")} )`;
  const inside = sequence(production.definition);
  const separator = separatorOf(production);
  const kind = production.constructor.name;
  switch (kind) {
    case "Alternative":
      return inside;
    case "Option":
      return `[ ${inside} ]`;
    case "Repetition":
      return `{ ${inside} }`;
    case "RepetitionMandatory":
      return `${inside} { ${inside} }`;
    case "RepetitionWithSeparator":
      return `[ ${inside} { ${separator} ${inside} } ]`;
    case "RepetitionMandatoryWithSeparator":
      return `${inside} { ${separator} ${inside} }`;
    default:
      throw new Error(`a production of kind ${kind}`);
  }
}

const WIDTH = 110;

/** Breaks a long rule at spaces. */
function wrapped(text: string, indent: string): string {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && indent.length + line.length + 1 + word.length > WIDTH) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, line].join(`\n${indent}`);
}

/** Every rule of the parser, in the order of its classes: values first, files last. */
export function grammarText(): string {
  const rules = Object.values(new NetParser().getGAstProductions()).filter((rule) => !NOT_SHOWN.has(rule.name));
  const width = Math.max(...rules.map((rule) => rule.name.length));
  return rules
    .map((rule) => {
      const text = sequence(rule.definition).replace(/^\( (.*) \)$/, (whole, inside: string) =>
        rule.definition.length === 1 && rule.definition[0] instanceof Alternation ? inside : whole,
      );
      return `${rule.name.padEnd(width)} = ${wrapped(text, " ".repeat(width + 3))}`;
    })
    .join("\n");
}
