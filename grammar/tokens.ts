/**
 * The words and signs of the `.net` language.
 *
 * In comes a text, out comes a list of tokens with offsets, the `///` comments of what follows them, and the stretches
 * that are no token at all. The lexer itself matches only *names*; a table then says which of them are words of the
 * language. That is faster than one pattern per word, and it keeps the list of words in one place.
 *
 * Words are of two sorts. Reserved words are never names. Soft words (`model`, `where`, …) have a meaning only in
 * certain places and are names elsewhere, so their token types belong to the category `Identifier`. Any word at all,
 * reserved or soft, may name an argument, a setting or a field: the category `Word`.
 *
 * What is written wrongly in a way that can be told from the characters alone (an open string, a number such as `3abc`,
 * a name with an umlaut) has token types of its own; `repair.ts` reports these and gives the parser what was meant.
 */
import { createToken, type ILexingError, type IToken, Lexer, type TokenType } from "chevrotain";
import type { DType } from "./ast.ts";

function token(name: string, label: string, pattern: RegExp | string, ...categories: TokenType[]): TokenType {
  return createToken({ name, label, pattern, categories });
}

/** A token type that no pattern matches: it is given to tokens afterwards, or is a category. */
function abstractToken(name: string, label: string, ...categories: TokenType[]): TokenType {
  return createToken({ name, label, pattern: Lexer.NA, categories });
}

// ----------------------------------------------------------------------------------------------------------- categories

export const Word: TokenType = abstractToken("Word", "a name");
/** Signs and words between two operands; one category keeps expressions flat while they are read. */
export const BinaryOperator: TokenType = abstractToken("BinaryOperator", "an operator");

// ---------------------------------------------------------------------------------------------------------------- trivia

const WhiteSpace = createToken({
  name: "WhiteSpace",
  pattern: /[ \t\r\n\f\v\u00a0\u2002-\u200b\ufeff]+/,
  group: Lexer.SKIPPED,
  line_breaks: true,
});
const DocComment = createToken({ name: "DocComment", pattern: /\/\/\/(?!\/)[^\n]*/, group: "docs" });
const LineComment = createToken({ name: "LineComment", pattern: /\/\/[^\n]*/, group: Lexer.SKIPPED });
const BlockComment = createToken({
  name: "BlockComment",
  pattern: /\/\*[^*]*\*+(?:[^/*][^*]*\*+)*\//,
  group: Lexer.SKIPPED,
  line_breaks: true,
});
const OpenComment = createToken({ name: "OpenComment", pattern: /\/\*[^]*/, group: "openComments", line_breaks: true });

// -------------------------------------------------------------------------------------------------------------- literals

export const Size: TokenType = token("Size", "a size such as 3x3", /\d+(?:[x\u00d7]\d+)+(?![A-Za-z0-9_])/);
export const NumberToken: TokenType = token(
  "Number",
  "a number",
  /\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d+)?(?:[KMGT]i?B|ms|us|[kKMGTBs])?(?![A-Za-z0-9_]|\.\d)/,
);
export const BadNumber: TokenType = token("BadNumber", "a malformed number", /\d[A-Za-z0-9_]*(?:\.\d[A-Za-z0-9_]*)*/);
export const StringToken: TokenType = token("String", "a string", /"(?:[^"\\\n]|\\[^\n])*"/);
export const BadString: TokenType = token("BadString", "an unterminated string", /"(?:[^"\\\n]|\\[^\n])*/);

/** A name with letters outside ASCII. Ends where letters, digits and primes end. */
const FOREIGN_NAME = /[\p{L}_][\p{L}\p{M}\p{Nd}_]*'*/uy;
const ASCII_NAME = /[A-Za-z0-9_']*/y;
/**
 * Characters a name may begin with that are not ASCII, one for each bucket of the lexer's dispatch table: beyond 255 it
 * has one for every 255 characters. All 65,366 of them would take the lexer 5 ms at every start.
 */
const FOREIGN_STARTS: readonly number[] = [
  ...Array.from({ length: 0x100 - 0xaa }, (_, i) => i + 0xaa),
  ...Array.from({ length: 257 }, (_, i) => Math.max(0x100, 255 * (i + 1))),
];
export const BadName: TokenType = createToken({
  name: "BadName",
  label: "a name with letters outside ASCII",
  line_breaks: false,
  start_chars_hint: [...Array.from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_"), ...FOREIGN_STARTS],
  pattern: (text: string, offset: number) => {
    // Names in ASCII are by far the most frequent: they are left to `Identifier`, and a text that has no others never
    // needs the tables of letters, which take V8 10 ms to build.
    ASCII_NAME.lastIndex = offset;
    const [ascii = ""] = ASCII_NAME.exec(text) ?? [];
    const next = text.charCodeAt(offset + ascii.length);
    if (Number.isNaN(next) || next < 0x80) return null;
    FOREIGN_NAME.lastIndex = offset;
    const match = FOREIGN_NAME.exec(text);
    return match === null || match[0].length <= ascii.length ? null : [match[0]];
  },
});

export const Identifier: TokenType = token("Identifier", "a name", /[A-Za-z_][A-Za-z0-9_]*'*/, Word);
export const DTypeToken: TokenType = abstractToken("DType", "an element type", Word);
/** `x2`, `x3`: a name everywhere, and the ASCII spelling of `×2` after an expression on the same line. */
export const XTimes: TokenType = abstractToken("XTimes", "`x2`", Identifier, Word);

const DTYPES: readonly DType[] = [
  "f16",
  "f32",
  "f64",
  "bf16",
  "i8",
  "i16",
  "i32",
  "i64",
  "u8",
  "u16",
  "u32",
  "u64",
  "bool",
];
const dtypeNames: ReadonlySet<string> = new Set(DTYPES);

/** True if `word` is the name of an element type. */
export function isDType(word: string): word is DType {
  return dtypeNames.has(word);
}

// ----------------------------------------------------------------------------------------------------------------- words

function reserved(word: string, ...categories: TokenType[]): TokenType {
  return abstractToken(`Reserved_${word}`, `\`${word}\``, Word, ...categories);
}

function soft(word: string): TokenType {
  return abstractToken(`Soft_${word}`, `\`${word}\``, Identifier, Word);
}

type ReservedWord =
  | "import"
  | "export"
  | "as"
  | "from"
  | "for"
  | "in"
  | "is"
  | "if"
  | "else"
  | "repeat"
  | "each"
  | "return"
  | "assert"
  | "with"
  | "at"
  | "over"
  | "sharing"
  | "fuse"
  | "between"
  | "default"
  | "when"
  | "choose"
  | "require"
  | "maximize"
  | "minimize"
  | "not"
  | "and"
  | "or"
  | "true"
  | "false"
  | "none";

/** Words that are never names. */
export const RESERVED: Readonly<Record<ReservedWord, TokenType>> = {
  import: reserved("import"),
  export: reserved("export"),
  as: reserved("as"),
  from: reserved("from"),
  for: reserved("for"),
  in: reserved("in", BinaryOperator),
  is: reserved("is", BinaryOperator),
  if: reserved("if"),
  else: reserved("else"),
  repeat: reserved("repeat"),
  each: reserved("each"),
  return: reserved("return"),
  assert: reserved("assert"),
  with: reserved("with"),
  at: reserved("at"),
  over: reserved("over"),
  sharing: reserved("sharing"),
  fuse: reserved("fuse"),
  between: reserved("between"),
  default: reserved("default"),
  when: reserved("when"),
  choose: reserved("choose"),
  require: reserved("require"),
  maximize: reserved("maximize"),
  minimize: reserved("minimize"),
  not: reserved("not"),
  and: reserved("and", BinaryOperator),
  or: reserved("or", BinaryOperator),
  true: reserved("true"),
  false: reserved("false"),
  none: reserved("none"),
};

type SoftWord =
  | "edition"
  | "const"
  | "type"
  | "block"
  | "model"
  | "unit"
  | "op"
  | "extern"
  | "private"
  | "recipe"
  | "weights"
  | "search"
  | "param"
  | "state"
  | "where"
  | "before"
  | "after"
  | "skip"
  | "via";

/** Words with a meaning in certain places only. */
export const SOFT: Readonly<Record<SoftWord, TokenType>> = {
  edition: soft("edition"),
  const: soft("const"),
  type: soft("type"),
  block: soft("block"),
  model: soft("model"),
  unit: soft("unit"),
  op: soft("op"),
  extern: soft("extern"),
  private: soft("private"),
  recipe: soft("recipe"),
  weights: soft("weights"),
  search: soft("search"),
  param: soft("param"),
  state: soft("state"),
  where: soft("where"),
  before: soft("before"),
  after: soft("after"),
  skip: soft("skip"),
  via: soft("via"),
};

const words: ReadonlyMap<string, TokenType> = new Map<string, TokenType>([
  ...Object.entries(RESERVED),
  ...Object.entries(SOFT),
  ...DTYPES.map((name) => [name, DTypeToken] as const),
]);
const TIMES_WORD = /^x\d+$/;

// ----------------------------------------------------------------------------------------------------------------- signs

export const Arrow: TokenType = token("Arrow", "`->`", /->|\u2192/);
export const HashBracket: TokenType = token("HashBracket", "`#[`", "#[");
export const Ellipsis: TokenType = token("Ellipsis", "`...`", "...");
export const DotDot: TokenType = token("DotDot", "`..`", "..", BinaryOperator);
export const Dot: TokenType = token("Dot", "`.`", ".");
const EqualsEquals = token("EqualsEquals", "`==`", "==", BinaryOperator);
const NotEquals = token("NotEquals", "`!=`", /!=|\u2260/, BinaryOperator);
const LessEquals = token("LessEquals", "`<=`", /<=|\u2264/, BinaryOperator);
export const GreaterEquals: TokenType = token("GreaterEquals", "`>=`", />=|\u2265/, BinaryOperator);
export const Less: TokenType = token("Less", "`<`", "<", BinaryOperator);
export const Greater: TokenType = token("Greater", "`>`", ">", BinaryOperator);
export const Equals: TokenType = token("Equals", "`=`", "=");
export const Bar: TokenType = token("Bar", "`|`", "|");
export const Question: TokenType = token("Question", "`?`", "?");
const Plus = token("Plus", "`+`", "+", BinaryOperator);
export const Minus: TokenType = token("Minus", "`-`", "-", BinaryOperator);
export const Star: TokenType = token("Star", "`*`", "*", BinaryOperator);
const Slash = token("Slash", "`/`", "/", BinaryOperator);
const Percent = token("Percent", "`%`", "%", BinaryOperator);
const Caret = token("Caret", "`^`", "^", BinaryOperator);
const Cross = token("Cross", "`×`", /\u00d7/, BinaryOperator);
export const At: TokenType = token("At", "`@`", "@");
export const Colon: TokenType = token("Colon", "`:`", ":");
export const Comma: TokenType = token("Comma", "`,`", ",");
export const Semicolon: TokenType = token("Semicolon", "`;`", ";");
export const LeftParen: TokenType = token("LeftParen", "`(`", "(");
export const RightParen: TokenType = token("RightParen", "`)`", ")");
export const LeftBracket: TokenType = token("LeftBracket", "`[`", "[");
export const RightBracket: TokenType = token("RightBracket", "`]`", "]");
export const LeftBrace: TokenType = token("LeftBrace", "`{`", "{");
export const RightBrace: TokenType = token("RightBrace", "`}`", "}");

/** Every token type, in the order in which the lexer tries those that can begin alike. */
export const ALL_TOKENS: TokenType[] = [
  WhiteSpace,
  DocComment,
  LineComment,
  BlockComment,
  OpenComment,
  Size,
  NumberToken,
  BadNumber,
  StringToken,
  BadString,
  BadName,
  Word,
  Identifier,
  DTypeToken,
  XTimes,
  ...Object.values(RESERVED),
  ...Object.values(SOFT),
  BinaryOperator,
  Arrow,
  HashBracket,
  Ellipsis,
  DotDot,
  Dot,
  EqualsEquals,
  NotEquals,
  LessEquals,
  GreaterEquals,
  Less,
  Greater,
  Equals,
  Bar,
  Question,
  Plus,
  Minus,
  Star,
  Slash,
  Percent,
  Caret,
  Cross,
  At,
  Colon,
  Comma,
  Semicolon,
  LeftParen,
  RightParen,
  LeftBracket,
  RightBracket,
  LeftBrace,
  RightBrace,
];

// `positionTracking: "onlyOffset"` leaves `endOffset` out of tokens: use `endOf`.
const lexer = new Lexer(ALL_TOKENS, {
  ensureOptimizations: true,
  positionTracking: "onlyOffset",
  skipValidations: true,
  deferDefinitionErrorsHandling: false,
});

/** What the lexer made of a text. */
export interface Lexed {
  readonly tokens: IToken[];
  /** `///` text for the thing that begins at this offset. */
  readonly docs: ReadonlyMap<number, string>;
  /** Stretches of characters that begin no token. */
  readonly errors: readonly ILexingError[];
  /** A `/*` without an end; it took the rest of the file with it. */
  readonly openComments: readonly IToken[];
}

/** Offset just behind `token`. */
export function endOf(token: IToken): number {
  return token.startOffset + token.image.length;
}

/** Splits `text` into tokens. Never fails: what cannot be read is in `errors`. */
export function lex(text: string): Lexed {
  const { tokens, groups, errors } = lexer.tokenize(text);
  for (const token of tokens) {
    if (token.tokenType !== Identifier) continue;
    const type = words.get(token.image) ?? (TIMES_WORD.test(token.image) ? XTimes : undefined);
    if (type !== undefined) retype(token, type);
  }
  return {
    tokens,
    docs: attachDocs(text, groups["docs"] ?? [], tokens),
    errors,
    openComments: groups["openComments"] ?? [],
  };
}

/** Makes `token` one of type `type`. The parser looks at the index, so both fields change. */
export function retype(token: IToken, type: TokenType): void {
  token.tokenType = type;
  token.tokenTypeIdx = type.tokenTypeIdx ?? 0;
}

/**
 * Gives each run of `///` lines to the token after it. A blank line ends a run, so a comment at the head of a file does
 * not become the documentation of its first item.
 */
function attachDocs(text: string, docs: readonly IToken[], tokens: readonly IToken[]): ReadonlyMap<number, string> {
  const attached = new Map<number, string>();
  let run: string[] = [];
  let index = 0;
  docs.forEach((doc, i) => {
    run.push(doc.image.slice(3).replace(/^ /, "").trimEnd());
    while (index < tokens.length && (tokens[index]?.startOffset ?? 0) < doc.startOffset) index++;
    const target = tokens[index];
    const following = docs[i + 1];
    const sameRun = following !== undefined && (target === undefined || following.startOffset < target.startOffset);
    const nextOffset = sameRun ? following.startOffset : target?.startOffset;
    const blankLine = nextOffset !== undefined && /\n[ \t\r]*\n/.test(text.slice(endOf(doc), nextOffset));
    if (sameRun && !blankLine) return;
    if (!sameRun && !blankLine && target !== undefined) attached.set(target.startOffset, run.join("\n"));
    run = [];
  });
  return attached;
}
