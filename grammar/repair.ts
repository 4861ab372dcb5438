/**
 * Repairs the list of tokens before it is parsed.
 *
 * Mistakes that show in a few neighbouring tokens are reported here, in words of their own, and what was probably meant
 * is put in their place, so that the parser meets only mistakes of grammar: characters that begin no token, open strings
 * and comments, malformed numbers, names with letters outside ASCII, sizes written with spaces. Brackets are
 * `brackets.ts`'s.
 */
import type { ILexingError, IToken, TokenType } from "chevrotain";
import { type Diagnostic, diagnostic } from "./diagnostic.ts";
import { isInexact, numberValue, stringValue } from "./literals.ts";
import type { Source, Span } from "./source.ts";
import * as t from "./tokens.ts";

const MAX_STRAY_CHARACTERS = 5;

/** The place of a token. */
export function tokenSpan(source: Source, token: IToken): Span {
  return { source, start: token.startOffset, end: t.endOf(token) };
}

/** A token that was not written. */
export function virtualToken(type: TokenType, at: number): IToken {
  return { image: "", startOffset: at, tokenType: type, tokenTypeIdx: type.tokenTypeIdx ?? 0 };
}

/** What the characters of `source` give once their own mistakes are reported and mended. */
export function repairTokens(source: Source, lexed: t.Lexed): { tokens: IToken[]; diagnostics: Diagnostic[] } {
  const diagnostics = [...strayCharacters(source, lexed.errors), ...openComments(source, lexed.openComments)];
  const foreignNames = new Set<string>();
  const tokens: IToken[] = [];
  for (let i = 0; i < lexed.tokens.length; i++) {
    const token = lexed.tokens[i];
    if (token === undefined) break;
    const size = spacedSize(source, lexed.tokens, i);
    if (size !== undefined) {
      diagnostics.push(size.diagnostic);
      tokens.push(size.token);
      i += size.taken - 1;
      continue;
    }
    const at = tokenSpan(source, token);
    switch (token.tokenType) {
      case t.BadNumber:
        diagnostics.push(badNumber(token.image, at));
        t.retype(token, t.NumberToken);
        break;
      case t.NumberToken:
        if (isInexact(token.image, numberValue(token.image)))
          diagnostics.push(
            diagnostic("E0107", `\`${token.image}\` is too large to be exact`, at, {
              label: "integers are exact up to 2⁵³",
            }),
          );
        break;
      case t.BadString:
        diagnostics.push(
          diagnostic("E0106", "this string is never closed", at, {
            label: 'a `"` is missing',
            helps: ["a string ends on the line it begins on; for a line break inside it write `\\n`"],
          }),
        );
        t.retype(token, t.StringToken);
        break;
      case t.StringToken:
        for (const escape of stringValue(token.image).badEscapes)
          diagnostics.push(badEscape(source, token.startOffset + escape.start, token.startOffset + escape.end));
        break;
      case t.BadName:
        if (!foreignNames.has(token.image)) diagnostics.push(foreignName(token.image, at));
        foreignNames.add(token.image);
        t.retype(token, t.Identifier);
        break;
      case t.GreaterEquals:
        // `x: list<int>=[1]`: after type arguments the two signs are apart.
        if (lexed.tokens[i - 2]?.tokenType === t.Less && lexed.tokens[i - 4]?.tokenType === t.Colon) {
          tokens.push({ ...virtualToken(t.Greater, token.startOffset), image: ">" });
          tokens.push({ ...virtualToken(t.Equals, token.startOffset + 1), image: "=" });
          continue;
        }
        break;
      default:
    }
    tokens.push(token);
  }
  return { tokens, diagnostics };
}

/** What was meant by a character that people paste from papers and word processors. */
const LOOK_ALIKES: Readonly<Record<string, string>> = {
  "“": '"',
  "”": '"',
  "„": '"',
  "«": '"',
  "»": '"',
  "‘": '"',
  "’": '"',
  "'": '"',
  "`": '"',
  "−": "-",
  "–": "-",
  "—": "-",
  "⟶": "->",
  "⇒": "->",
  "➔": "->",
  "·": "*",
  "∗": "*",
  "÷": "/",
  "∕": "/",
  "（": "(",
  "）": ")",
  "［": "[",
  "］": "]",
  "，": ",",
  "：": ":",
  "；": ";",
  "！": "!=",
  "!": "not",
  "&": "and",
  "#": "//",
};

function strayCharacters(source: Source, errors: readonly ILexingError[]): Diagnostic[] {
  // One for each line: quotation marks come in pairs.
  const places = errors.filter((error, i) => {
    const before = errors[i - 1];
    return before === undefined || source.text.slice(before.offset, error.offset).includes("\n");
  });
  return places.slice(0, MAX_STRAY_CHARACTERS).map((error, i) => {
    const text = source.text.slice(error.offset, error.offset + error.length);
    const [char = ""] = text;
    const meant = LOOK_ALIKES[char];
    const hidden = places.length - MAX_STRAY_CHARACTERS;
    const one = Array.from(text).length === 1;
    const what = one
      ? `the character \`${text}\``
      : text.length <= 12
        ? `the characters \`${text}\``
        : "these characters";
    return diagnostic(
      "E0108",
      `${what} ${one ? "means" : "mean"} nothing here`,
      { source, start: error.offset, end: error.offset + error.length },
      {
        label: char < " " ? "a control character" : "",
        notes:
          i === MAX_STRAY_CHARACTERS - 1 && hidden > 0
            ? [`${hidden} more ${hidden === 1 ? "line" : "lines"} with such characters`]
            : [],
        helps: meant === undefined ? [] : [`did you mean \`${meant}\`?`],
      },
    );
  });
}

function openComments(source: Source, comments: readonly IToken[]): Diagnostic[] {
  return comments.map((comment) =>
    diagnostic(
      "E0115",
      "this comment is never closed",
      { source, start: comment.startOffset, end: comment.startOffset + 2 },
      { label: "everything after it is comment", helps: ["close it with `*/`, or use `//` for one line"] },
    ),
  );
}

function badNumber(image: string, at: Span): Diagnostic {
  const suffix = /^[\d_.]*\d([A-Za-z]\w*)$/.exec(image)?.[1];
  const known = "`k M G T` (thousands), `KB MB GB KiB MiB GiB` (bytes), `ms us s` (time)";
  return diagnostic("E0107", `\`${image}\` is not a number`, at, {
    label: suffix === undefined ? "" : `\`${suffix}\` is no suffix`,
    notes: suffix === undefined ? [] : [`suffixes are ${known}`],
    helps: /^\d+[xX]$/.test(image) ? ["a size is written without spaces: `3x3`"] : [],
  });
}

function badEscape(source: Source, start: number, end: number): Diagnostic {
  const written = source.text.slice(start, end);
  return diagnostic(
    "E0118",
    `\`${written}\` is no escape`,
    { source, start, end },
    {
      helps: ['the escapes are `\\"`, `\\\\`, `\\n`, `\\t` and `\\u{1F600}`; for a backslash write `\\\\`'],
    },
  );
}

function foreignName(name: string, at: Span): Diagnostic {
  const ascii = name.normalize("NFD").replaceAll(/\p{M}/gu, "").replaceAll("ß", "ss");
  return diagnostic("E0109", `the name \`${name}\` has letters outside ASCII`, at, {
    label: "names are written with a-z, A-Z, 0-9 and _",
    notes: ["names reach kernels and TypeScript; strings and comments may hold any letters"],
    helps: /^[A-Za-z0-9_']+$/.test(ascii) ? [`\`${ascii}\``] : [],
  });
}

/** `5 x 5`, `5 x5`, `5 × 5 x 2` … on one line: the size they were meant to be. */
function spacedSize(
  source: Source,
  tokens: readonly IToken[],
  from: number,
): { token: IToken; taken: number; diagnostic: Diagnostic } | undefined {
  const first = tokens[from];
  // Only the ASCII `x` is read as a size: `2 × 3` is the product of two numbers, which has a message of its own.
  if (first === undefined || !isPlainInteger(first) || tokens[from + 1]?.image !== "x") return undefined;
  const numbers = [first.image];
  let last = first;
  let taken = 1;
  while (tokens[from + taken]?.image === "x") {
    const number = tokens[from + taken + 1];
    if (number === undefined || !isPlainInteger(number)) break;
    numbers.push(number.image);
    last = number;
    taken += 2;
  }
  const at = { source, start: first.startOffset, end: t.endOf(last) };
  if (numbers.length === 1 || source.text.slice(at.start, at.end).includes("\n")) return undefined;
  const size = numbers.join("x");
  const square = numbers.every((number) => number === first.image);
  const words = ["three", "", "five"][numbers.length - 2] || "several";
  const message = diagnostic("E0101", "a size is written without spaces", at, {
    label: `${words} words where one size is meant`,
    helps: [
      {
        text: `write \`${size}\`${square && numbers.length === 2 ? `, or just \`${first.image}\` for a square kernel` : ""}`,
        edits: [{ span: at, replacement: size }],
      },
    ],
  });
  return { token: { ...virtualToken(t.Size, at.start), image: size }, taken, diagnostic: message };
}

function isPlainInteger(token: IToken): boolean {
  return token.tokenType === t.NumberToken && /^\d+$/.test(token.image);
}
