/**
 * From a text to a syntax tree: the front door of the grammar.
 *
 * The text is split into tokens, the tokens are repaired (`repair.ts`, `brackets.ts`), and the parser reads them. Where
 * it meets a mistake, the file is cut before each item that begins a line, and every part is read by itself: a mistake
 * in one item then cannot reach the next. A correct file never takes that way.
 */
import type { IToken } from "chevrotain";
import type { File, Item } from "./ast.ts";
import { atLineStart, balance, beginsItem, checkDepth, closes, opens } from "./brackets.ts";
import { type Diagnostic, diagnostic } from "./diagnostic.ts";
import { NetParser } from "./parser/declarations.ts";
import { repairTokens } from "./repair.ts";
import { lineColumn, type Source, type Span } from "./source.ts";
import { describe, incompleteItem, wantedToken } from "./syntax-errors.ts";
import { DTypeToken, HashBracket, Identifier, type Lexed, lex, NumberToken, RESERVED, StringToken } from "./tokens.ts";

/** A syntax tree, and everything that is wrong with the text. Without an error in it the tree is complete. */
export interface Parsed {
  readonly file: File;
  /** In the order of the text. */
  readonly diagnostics: readonly Diagnostic[];
}

const MAX_PER_ITEM = 5;
const ITEM_STARTS: ReadonlySet<unknown> = new Set([HashBracket, RESERVED.assert, RESERVED.import, RESERVED.export]);
const OPERAND_ENDS: ReadonlySet<unknown> = new Set([Identifier, NumberToken, StringToken, DTypeToken, RESERVED.none]);

// Making a parser takes some 50 ms, reading a file less than one: all calls share one.
let shared: NetParser | undefined;

/** Reads `source`. Never throws: whatever the text holds, there is a tree and a list of what is wrong. */
export function parse(source: Source): Parsed {
  const binary = source.text.indexOf("\0");
  if (binary >= 0) return { file: emptyFile(source), diagnostics: [notText(source, binary)] };
  const lexed = lex(source.text);
  const repaired = repairTokens(source, lexed);
  if (repaired.tokens.length === 0) {
    const diagnostics = repaired.diagnostics.length === 0 ? [nothingHere(source)] : repaired.diagnostics;
    return { file: emptyFile(source), diagnostics };
  }
  const tooDeep = checkDepth(source, repaired.tokens);
  if (tooDeep !== undefined)
    return { file: emptyFile(source), diagnostics: [...repaired.diagnostics, tooDeep].sort(byPlace) };
  const balanced = balance(source, repaired.tokens);
  const found = [...repaired.diagnostics, ...withoutEchoes([], balanced.diagnostics)];
  const whole = read(source, balanced.tokens, lexed.docs);
  if (whole.diagnostics.length === 0 && found.length === 0) return { file: whole.file, diagnostics: [] };
  const parts = whole.diagnostics.length === 0 ? whole : readInParts(source, balanced.tokens, lexed.docs);
  const syntax = parts.diagnostics.length > 0 ? parts : whole;
  // A line with characters left out makes no sense to the parser; not all such lines have a diagnostic of their own.
  const unreadable = new Set(lexed.errors.map((error) => lineColumn(source, error.offset).line));
  const readable = syntax.diagnostics.filter(({ labels: [at] }) => !at || !unreadable.has(lineOf(at.span)));
  return { file: syntax.file, diagnostics: [...found, ...withoutEchoes(found, readable)].sort(byPlace) };
}

function emptyFile(source: Source): File {
  return { kind: "File", edition: undefined, items: [], start: 0, end: source.text.length };
}

function read(source: Source, tokens: IToken[], docs: Lexed["docs"]): Parsed {
  shared ??= new NetParser({ messages: wantedToken });
  shared.open(source, tokens, docs);
  const file = shared.file();
  const diagnostics = syntaxErrors(shared, source, tokens);
  const glued = modelBehindItem(source, file);
  return { file, diagnostics: glued === undefined || diagnostics.length > 0 ? diagnostics : [glued] };
}

function readItems(source: Source, tokens: IToken[], docs: Lexed["docs"]): Parsed {
  shared ??= new NetParser({ messages: wantedToken });
  shared.open(source, tokens, docs);
  const file: File = { ...emptyFile(source), items: shared.items() };
  return { file, diagnostics: syntaxErrors(shared, source, tokens) };
}

function syntaxErrors(parser: NetParser, source: Source, tokens: readonly IToken[]): Diagnostic[] {
  // That a part does not end where it should follows from any other error in it.
  const [first, ...rest] = parser.errors;
  const errors = first === undefined ? [] : [first, ...rest.filter((error) => error.context.ruleStack.length > 1)];
  return [...errors.map((error) => describe(source, tokens, error)), ...parser.remarks];
}

/** Reads every item by itself. */
function readInParts(source: Source, tokens: readonly IToken[], docs: Lexed["docs"]): Parsed {
  const parts = cutAtItems(source, tokens).map((part) => (part.isItem ? readItems : read)(source, part.tokens, docs));
  const items: Item[] = [];
  const diagnostics: Diagnostic[] = [];
  for (const [i, part] of parts.entries()) {
    items.push(...part.file.items);
    diagnostics.push(...withoutEchoes([], [...part.diagnostics].sort(byPlace)).slice(0, MAX_PER_ITEM));
    const last = part.file.items.at(-1);
    if (last?.kind === "BareModel" && i < parts.length - 1 && part.diagnostics.length === 0)
      diagnostics.push(modelInTheMiddle(source, last));
  }
  const edition = parts[0]?.file.edition;
  return { file: { kind: "File", edition, items, start: 0, end: source.text.length }, diagnostics };
}

interface Part {
  readonly tokens: IToken[];
  /** True if it begins with the words of an item. */
  readonly isItem: boolean;
}

/**
 * Cuts before each item and each model without a name that begins a line outside brackets. The attributes of an item
 * stay with it.
 */
function cutAtItems(source: Source, tokens: readonly IToken[]): Part[] {
  const parts: Part[] = [];
  let depth = 0;
  let onlyAttributes = false;
  for (const [i, token] of tokens.entries()) {
    const attribute = token.tokenType === HashBracket;
    const atStart = depth === 0 && atLineStart(source, token);
    const item = atStart && (ITEM_STARTS.has(token.tokenType) || beginsItem(source, tokens, i));
    const model = atStart && token.tokenType === Identifier && endsOperand(tokens[i - 1]);
    if (parts.length === 0 || ((item || model) && !onlyAttributes)) {
      parts.push({ tokens: [], isItem: item });
      onlyAttributes = true;
    }
    if (depth === 0 && !attribute) onlyAttributes = false;
    if (opens(token)) depth++;
    else if (closes(token)) depth--;
    parts.at(-1)?.tokens.push(token);
  }
  return parts;
}

/** True for a token after which a name can only begin something else. */
function endsOperand(token: IToken | undefined): boolean {
  return token !== undefined && (closes(token) || OPERAND_ENDS.has(token.tokenType));
}

function lineOf(span: Span): number {
  return lineColumn(span.source, span.start).line;
}

function byPlace(a: Diagnostic, b: Diagnostic): number {
  return (a.labels[0]?.span.start ?? 0) - (b.labels[0]?.span.start ?? 0);
}

/** Drops what is said about a line of which something was said already: it is most likely the same mistake. */
function withoutEchoes(said: readonly Diagnostic[], diagnostics: readonly Diagnostic[]): readonly Diagnostic[] {
  const lines = new Set<number>();
  const linesOf = (found: Diagnostic): readonly number[] => found.labels.map(({ span }) => lineOf(span));
  for (const found of said) for (const line of linesOf(found)) lines.add(line);
  return diagnostics.filter((found) => {
    const [line = 0] = linesOf(found);
    if (lines.has(line)) return false;
    lines.add(line);
    return true;
  });
}

// ------------------------------------------------------------------------------------------------------ whole files

const ONE_LINE_MODEL = "VGG16 ×2 with STIA at conv3, conv4";

function nothingHere(source: Source): Diagnostic {
  const at: Span = { source, start: 0, end: 0 };
  return diagnostic("E0111", "there is nothing in this file", at, {
    label: source.text.trim() === "" ? "" : "only comments",
    helps: [`a model can be one line: \`${ONE_LINE_MODEL}\``],
  });
}

function notText(source: Source, at: number): Diagnostic {
  return diagnostic(
    "E0122",
    "this is not a text file",
    { source, start: at, end: at + 1 },
    {
      label: "a zero byte",
      helps: ["a `.net` file is text in UTF-8"],
    },
  );
}

/** `over rgb RGB`: what stands last on an item's line would be a model of its own, which nobody means. */
function modelBehindItem(source: Source, file: File): Diagnostic | undefined {
  const [item, model] = file.items.slice(-2);
  if (item === undefined || model?.kind !== "BareModel") return undefined;
  const between = source.text.slice(item.end, model.start);
  if (/[\n;]/.test(between) || source.text[item.end - 1] === ";") return undefined;
  const word = /^[\w']+|^./su.exec(source.text.slice(model.start))?.[0] ?? "";
  const at = { source, start: model.start, end: model.start + word.length };
  return diagnostic("E0103", `\`${word}\` cannot follow what stands before it`, at, {
    label: "expected an operator, `->`, a clause or a new line",
  });
}

function modelInTheMiddle(source: Source, item: Item): Diagnostic {
  const at = { source, start: item.start, end: item.end };
  const text = source.text.slice(item.start, item.end);
  const incomplete = incompleteItem(text, at);
  if (incomplete !== undefined) return incomplete;
  return diagnostic("E0116", "a model without a name must be the last thing in a file", at, {
    label: "other items follow",
    helps: [text.includes("\n") ? "give it a name: `model Net = …`" : `\`model Net = ${text}\``],
  });
}
