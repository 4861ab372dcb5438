/**
 * Brackets: finds those without a partner and gives them one, and measures how deeply a text nests.
 *
 * An unclosed bracket would make the parser read the rest of a file as its contents. Here it is reported where it was
 * opened, with the place where its end was probably meant, and that end is put into the list of tokens. Depth is limited
 * because everything after this calls itself once for each level.
 */
import type { IToken, TokenType } from "chevrotain";
import { type Diagnostic, diagnostic } from "./diagnostic.ts";
import { tokenSpan, virtualToken } from "./repair.ts";
import type { Source } from "./source.ts";
import * as t from "./tokens.ts";

const MAX_BRACKETS = 200;
/** Operators, fields and calls that may follow one another in one expression. */
const MAX_CHAIN = 400;

const CLOSERS: ReadonlyMap<TokenType, { readonly type: TokenType; readonly image: string }> = new Map([
  [t.LeftParen, { type: t.RightParen, image: ")" }],
  [t.LeftBracket, { type: t.RightBracket, image: "]" }],
  [t.HashBracket, { type: t.RightBracket, image: "]" }],
  [t.LeftBrace, { type: t.RightBrace, image: "}" }],
]);
const CLOSING: ReadonlySet<TokenType> = new Set([t.RightParen, t.RightBracket, t.RightBrace]);

/** True for a token that opens a bracket. */
export function opens(token: IToken | undefined): boolean {
  return token !== undefined && CLOSERS.has(token.tokenType);
}

/** True for a token that closes a bracket. */
export function closes(token: IToken | undefined): boolean {
  return token !== undefined && CLOSING.has(token.tokenType);
}

const NAMED_ITEMS: ReadonlySet<TokenType> = new Set([
  t.SOFT.const,
  t.SOFT.type,
  t.SOFT.block,
  t.SOFT.model,
  t.SOFT.unit,
  t.SOFT.op,
  t.SOFT.weights,
  t.SOFT.recipe,
  t.SOFT.search,
]);

/** True where a line begins with the words of an item that has a name, so that nothing can have been open before. */
export function beginsItem(source: Source, tokens: readonly IToken[], index: number): boolean {
  const token = tokens[index];
  const next = tokens[index + 1];
  if (token === undefined || next === undefined || !atLineStart(source, token)) return false;
  if (token.tokenType === t.RESERVED.import || token.tokenType === t.RESERVED.export) {
    return next.tokenType === t.LeftBrace || next.tokenType === t.Star;
  }
  if (source.text.slice(t.endOf(token), next.startOffset).includes("\n")) return false;
  if (token.tokenType === t.SOFT.extern || token.tokenType === t.SOFT.private) return isName(next);
  return NAMED_ITEMS.has(token.tokenType) && isName(next) && next.tokenType !== t.XTimes;
}

/** True if `token` is the first character of its line. */
export function atLineStart(source: Source, token: IToken): boolean {
  return token.startOffset === 0 || source.text[token.startOffset - 1] === "\n";
}

function isName(token: IToken): boolean {
  return token.tokenType === t.Identifier || (token.tokenType.CATEGORIES ?? []).includes(t.Identifier);
}

interface Open {
  readonly token: IToken;
  /** Where the token stands in the list that is being written. */
  readonly index: number;
}

/** `tokens` with every bracket closed, and what was wrong with them. */
export function balance(source: Source, tokens: readonly IToken[]): { tokens: IToken[]; diagnostics: Diagnostic[] } {
  const diagnostics: Diagnostic[] = [];
  const out: IToken[] = [];
  const stack: Open[] = [];

  /** Closes the innermost bracket, which has no end, somewhere before `next`. */
  function closeMissing(next: IToken | undefined): void {
    const open = stack.pop();
    if (open === undefined) return;
    const at = endOfUnclosed(source, out, open, next);
    const closer = CLOSERS.get(open.token.tokenType);
    if (closer === undefined) return;
    const before = out[at - 1] ?? open.token;
    const inside = out.slice(open.index, at);
    // An open string has swallowed the bracket; that has been said.
    if (!inside.some((token) => token.tokenType === t.StringToken && !/^".*"$/s.test(token.image)))
      diagnostics.push(unclosed(source, out, open, at, next, closer.image));
    out.splice(at, 0, virtualToken(closer.type, t.endOf(before)));
  }

  for (const [i, token] of tokens.entries()) {
    if (stack.length > 0 && beginsItem(source, tokens, i)) while (stack.length > 0) closeMissing(token);
    if (opens(token)) {
      stack.push({ token, index: out.length });
    } else if (closes(token)) {
      const partner = stack.findLastIndex((open) => CLOSERS.get(open.token.tokenType)?.type === token.tokenType);
      const innermost = stack.at(-1);
      if (innermost === undefined) {
        diagnostics.push(closesNothing(source, token));
        continue;
      }
      if (partner < 0) {
        const closer = CLOSERS.get(innermost.token.tokenType);
        if (closer === undefined) continue;
        diagnostics.push(wrongCloser(source, innermost.token, token, closer.image));
        stack.pop();
        out.push({ ...virtualToken(closer.type, token.startOffset), image: token.image });
        continue;
      }
      while (stack.length - 1 > partner) closeMissing(token);
      stack.pop();
    }
    out.push(token);
  }
  while (stack.length > 0) closeMissing(undefined);
  return { tokens: out, diagnostics };
}

const CLAUSE_WORDS: ReadonlySet<TokenType> = new Set([
  t.RESERVED.with,
  t.RESERVED.over,
  t.RESERVED.sharing,
  t.RESERVED.fuse,
  t.RESERVED.from,
]);
const LITERALS: ReadonlySet<TokenType> = new Set([
  t.NumberToken,
  t.Size,
  t.StringToken,
  t.RESERVED.true,
  t.RESERVED.false,
]);
const STATEMENT_WORDS: ReadonlySet<TokenType> = new Set([t.RESERVED.return, t.RESERVED.assert, t.RESERVED.choose]);

/** What a pipeline in an argument cannot begin with. */
const ENDS_ARGUMENT: ReadonlySet<TokenType> = new Set([...LITERALS, t.Comma]);

/** Index in `out` before which the end of `open` was probably meant. */
function endOfUnclosed(source: Source, out: readonly IToken[], open: Open, next: IToken | undefined): number {
  if (open.token.tokenType === t.LeftBrace) return out.length;
  const isCall = open.token.tokenType === t.LeftParen && touches(out[open.index - 1], open.token);
  let named = false;
  let depth = 0;
  for (let i = open.index + 1; i < out.length; i++) {
    const token = out[i];
    const before = out[i - 1];
    const after = out[i + 1] ?? next;
    if (token === undefined || before === undefined) break;
    if (opens(token)) depth++;
    else if (closes(token)) depth--;
    else if (depth > 0) continue;
    else if (token.tokenType === t.Comma) named = false;
    else if (token.tokenType === t.Equals) named = true;
    else if (isCall && CLAUSE_WORDS.has(token.tokenType)) return i;
    // A number has no layer to flow into, and nor has the value of a named argument: `Conv(64, k=3 -> ReLU`.
    else if (isCall && token.tokenType === t.Arrow && (named || ENDS_ARGUMENT.has(before.tokenType))) return i;
    else if (startsLine(source, before, token) && before.tokenType !== t.Comma && i > open.index + 1) {
      const startsStatement = isName(token) && (after?.tokenType === t.Equals || after?.tokenType === t.Comma);
      if (startsStatement || STATEMENT_WORDS.has(token.tokenType)) return i;
    }
  }
  return out.length;
}

function touches(before: IToken | undefined, token: IToken): boolean {
  return before !== undefined && t.endOf(before) === token.startOffset && isName(before);
}

function startsLine(source: Source, before: IToken, token: IToken): boolean {
  return source.text.slice(t.endOf(before), token.startOffset).includes("\n");
}

function unclosed(
  source: Source,
  out: readonly IToken[],
  open: Open,
  at: number,
  next: IToken | undefined,
  closer: string,
): Diagnostic {
  const before = out[at - 1] ?? open.token;
  const after = out[at] ?? next;
  const wanted = open.token.tokenType === t.LeftBrace ? `a \`${closer}\`` : `a \`${closer}\` or \`,\``;
  const place = t.endOf(before);
  const atLineEnd = after === undefined || startsLine(source, before, after);
  const secondary = atLineEnd
    ? { span: { source, start: place, end: place }, text: `${wanted} was expected here` }
    : { span: tokenSpan(source, after), text: `${wanted} was expected before this` };
  // The repair is shown only where it fits a line.
  const callee = out[open.index - 1];
  const from = callee !== undefined && touches(callee, open.token) ? callee.startOffset : open.token.startOffset;
  const lineEnd = source.text.indexOf("\n", place);
  const rest = source.text.slice(place, lineEnd < 0 ? undefined : lineEnd).trimEnd();
  const contents = source.text.slice(from, before.tokenType === t.Comma ? before.startOffset : place);
  const repaired = `${contents}${closer}${atLineEnd ? "" : rest}`;
  const short = !/\n|\/\//.test(repaired) && repaired.length <= 100 && isBalanced(repaired);
  return diagnostic("E0102", `this \`${open.token.image}\` is never closed`, tokenSpan(source, open.token), {
    label: "opened here",
    secondary: [secondary],
    helps: short ? [`\`${repaired}\``] : [`close it with \`${closer}\``],
  });
}

function isBalanced(text: string): boolean {
  const count = (pattern: RegExp): number => text.match(pattern)?.length ?? 0;
  return count(/[([{]/g) === count(/[)\]}]/g);
}

function closesNothing(source: Source, token: IToken): Diagnostic {
  const at = tokenSpan(source, token);
  return diagnostic("E0102", `this \`${token.image}\` closes nothing`, at, {
    label: "nothing is open here",
    helps: [{ text: "remove it", edits: [{ span: at, replacement: "" }] }],
  });
}

function wrongCloser(source: Source, open: IToken, token: IToken, closer: string): Diagnostic {
  const at = tokenSpan(source, token);
  return diagnostic("E0102", `\`${open.image}\` is closed by \`${token.image}\``, at, {
    label: `\`${closer}\` was expected`,
    secondary: [{ span: tokenSpan(source, open), text: "opened here" }],
    helps: [{ text: `write \`${closer}\``, edits: [{ span: at, replacement: closer }] }],
  });
}

// -------------------------------------------------------------------------------------------------------------- depth

const SEPARATORS: ReadonlySet<TokenType> = new Set([t.Comma, t.Semicolon, t.Equals, t.Arrow, t.Colon, t.Bar]);
const SUFFIXES: ReadonlySet<TokenType> = new Set([t.Dot, t.At, t.XTimes, t.Question]);

/** What makes an expression one level higher. */
function climbs({ tokenType }: IToken): boolean {
  if (SUFFIXES.has(tokenType) || tokenType === t.RESERVED.not || tokenType === t.RESERVED.else) return true;
  return (tokenType.CATEGORIES ?? []).includes(t.BinaryOperator);
}

function isWordOrLiteral({ tokenType }: IToken): boolean {
  return LITERALS.has(tokenType) || tokenType === t.Identifier || (tokenType.CATEGORIES ?? []).includes(t.Word);
}

/** What begins an expression anew: a separator, or a word or literal that does not follow an operator. */
function restarts(token: IToken, before: IToken | undefined): boolean {
  if (SEPARATORS.has(token.tokenType)) return true;
  if (before === undefined || climbs(token) || !isWordOrLiteral(token)) return false;
  const reserved = isWordOrLiteral(before) && !isName(before) && !LITERALS.has(before.tokenType);
  return closes(before) || (isWordOrLiteral(before) && !reserved);
}

/** A diagnostic if `tokens`, whose brackets need not be closed yet, nest more deeply than can be read. */
export function checkDepth(source: Source, tokens: readonly IToken[]): Diagnostic | undefined {
  // For each open bracket, how high the expression in it has grown and the highest it was.
  let levels = [{ height: 0, highest: 0 }];
  for (const [i, token] of tokens.entries()) {
    if (beginsItem(source, tokens, i)) levels = [{ height: 0, highest: 0 }];
    const level = levels.at(-1) ?? { height: 0, highest: 0 };
    if (opens(token)) {
      levels.push({ height: 0, highest: 0 });
      if (levels.length > MAX_BRACKETS + 1)
        return diagnostic("E0110", "brackets are nested too deeply", tokenSpan(source, token), {
          label: `this is level ${MAX_BRACKETS + 1}; ${MAX_BRACKETS} can be read`,
          helps: ["give parts of it names: `part = …`"],
        });
    } else if (closes(token)) {
      if (levels.length > 1) levels.pop();
      const outer = levels.at(-1);
      if (outer !== undefined) outer.height = Math.max(outer.height, level.highest) + 1;
    } else if (restarts(token, tokens[i - 1])) {
      level.height = 0;
    } else if (climbs(token)) {
      level.height++;
    }
    const now = levels.at(-1);
    if (now === undefined) break;
    now.highest = Math.max(now.highest, now.height);
    if (now.height > MAX_CHAIN)
      return diagnostic("E0110", "this expression is too long", tokenSpan(source, token), {
        label: `here it has more than ${MAX_CHAIN} operators`,
        helps: ["give parts of it names: `part = …`, or use `repeat`"],
      });
  }
  return undefined;
}
