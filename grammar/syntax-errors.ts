/**
 * What is said about mistakes of grammar.
 *
 * Chevrotain tells which rule failed at which token, and which kind of token it wanted. Here that becomes a message in
 * the user's words: first the mistakes people make often, each recognised by rule and token, then one table of what each
 * rule wants. No text of chevrotain's is ever shown.
 */
import {
  EOF,
  type IParserErrorMessageProvider,
  type IRecognitionException,
  type IToken,
  type TokenType,
} from "chevrotain";
import { closes, opens } from "./brackets.ts";
import { type Diagnostic, type DiagnosticParts, diagnostic, type Help } from "./diagnostic.ts";
import { tokenSpan } from "./repair.ts";
import type { Source, Span } from "./source.ts";
import { suggest } from "./suggest.ts";
import * as t from "./tokens.ts";

/** Hands the name of the wanted token through chevrotain's message field; `describe` makes the text. */
export const wantedToken: IParserErrorMessageProvider = {
  buildMismatchTokenMessage: ({ expected }) => expected.name,
  buildNotAllInputParsedMessage: () => "",
  buildNoViableAltMessage: () => "",
  buildEarlyExitMessage: () => "",
};

/** Where the parser stood when it met a mistake. */
interface Place {
  readonly source: Source;
  readonly tokens: readonly IToken[];
  /** Index of the token that does not fit; `tokens.length` at the end. */
  readonly index: number;
  readonly token: IToken | undefined;
  readonly before: IToken | undefined;
  readonly span: Span;
  /** The token as it is quoted: "`mit`", "the end of the file". */
  readonly shown: string;
  /** Rules from the outermost to the one that failed. */
  readonly rules: readonly string[];
  /** The kind of token that was wanted, if only one was. */
  readonly wanted: TokenType | undefined;
}

const tokenTypes: ReadonlyMap<string, TokenType> = new Map(t.ALL_TOKENS.map((type) => [type.name, type]));

const CLAUSES = ["with", "over", "sharing", "fuse", "from"] as const;
const ITEM_WORDS: readonly string[] =
  "block unit op model const type weights recipe search import export extern private assert edition".split(" ");
/** The rule that each word of an item with a name belongs to. */
const ITEM_RULES: Readonly<Record<string, string>> = {
  block: "callable",
  unit: "callable",
  op: "callable",
  model: "callable",
  const: "const",
  type: "typeAlias",
  weights: "weights",
  recipe: "recipe",
  search: "search",
  edition: "file",
};
const STATEMENT_WORDS = ["return", "param", "state", "assert"];
const SEARCH_WORDS = ["choose", "require", "maximize", "minimize"];

/** The diagnostic for `error`, which was met while reading `tokens`. */
export function describe(source: Source, tokens: readonly IToken[], error: IRecognitionException): Diagnostic {
  const place = placeOf(source, tokens, error);
  const rule = place.rules.at(-1) ?? "file";
  const outside = rule === "items" || rule === "file";
  if (error.name === "NotAllInputParsedException" || (outside && error.message === EOF.name))
    return afterLastItem(place);
  return (
    clauseInList(place) ??
    reservedName(place, rule) ??
    missingColon(place, rule) ??
    notAStatement(place, rule) ??
    missingOperand(place, rule) ??
    betweenItems(place, rule) ??
    general(place, rule)
  );
}

function placeOf(source: Source, tokens: readonly IToken[], error: IRecognitionException): Place {
  const found = tokens.indexOf(error.token);
  const index = found < 0 ? tokens.length : found;
  const token = tokens[index];
  const before = tokens[index - 1];
  // A missing end is shown behind what was read last, not behind blank lines and comments.
  const end = before === undefined ? source.text.length : t.endOf(before);
  const written = token !== undefined && token.image !== "";
  const image = token?.image ?? "";
  return {
    source,
    tokens,
    index,
    token,
    before,
    span: written ? tokenSpan(source, token) : { source, start: end, end },
    shown: written ? `\`${image.length > 30 ? `${image.slice(0, 29)}…` : image}\`` : "the end",
    rules: error.context.ruleStack,
    wanted: tokenTypes.get(error.message),
  };
}

function isWord(token: IToken | undefined): boolean {
  return token !== undefined && (token.tokenType.CATEGORIES ?? []).includes(t.Word);
}
function isReserved(token: IToken | undefined): boolean {
  return (
    isWord(token) && !(token?.tokenType.CATEGORIES ?? []).includes(t.Identifier) && token?.tokenType !== t.Identifier
  );
}
function isName(token: IToken): boolean {
  return isWord(token) && !isReserved(token);
}
function isOperator(token: IToken | undefined): boolean {
  return token !== undefined && (token.tokenType.CATEGORIES ?? []).includes(t.BinaryOperator);
}
function onOneLine(source: Source, a: IToken, b: IToken): boolean {
  return !source.text.slice(a.startOffset, t.endOf(b)).includes("\n");
}

/** `a`, `b` or `c`. */
function oneOf(words: readonly string[]): string {
  const quoted = words.map((word) => `\`${word}\``);
  return quoted.length < 2 ? quoted.join("") : `${quoted.slice(0, -1).join(", ")} or ${quoted.at(-1)}`;
}

/** The help that names the word among `candidates` that `token` was probably meant to be. */
function didYouMean(token: IToken | undefined, candidates: readonly string[], source: Source): Help[] {
  const near = token === undefined || !isWord(token) ? undefined : suggest(token.image, candidates);
  if (near === undefined || token === undefined) return [];
  return [{ text: `did you mean \`${near}\`?`, edits: [{ span: tokenSpan(source, token), replacement: near }] }];
}

// -------------------------------------------------------------------------------------------------- frequent mistakes

/** What is said of a line that holds only `text`, the word of an item. */
export function incompleteItem(text: string, at: Span): Diagnostic | undefined {
  const example = EXAMPLES[ITEM_RULES[text] ?? ""];
  if (example === undefined) return undefined;
  return diagnostic("E0112", `\`${text}\` stands alone`, at, {
    label: text === "edition" ? "expected a year" : "expected a name",
    helps: [`for example ${example}`],
  });
}

/** Something stands behind what could have been the whole file. */
function afterLastItem(place: Place): Diagnostic {
  const { source, token, before, span, shown } = place;
  if (token === undefined || before === undefined) return general(place, "item");
  const edition = [token, before].find((word) => word.tokenType === t.SOFT.edition);
  if (edition !== undefined)
    return diagnostic("E0116", "the edition comes first in a file", tokenSpan(source, edition), {
      label: "something stands before it",
      helps: ["move this line to the top"],
    });
  const [first, second] = place.tokens;
  if (first !== undefined && second !== undefined && ITEM_WORDS.includes(first.image) && !isName(second)) {
    // `block in() = x` was read as a model called `block`.
    const reserved = reservedName({ ...place, token: second, span: tokenSpan(source, second) }, "callable");
    const example = EXAMPLES[ITEM_RULES[first.image] ?? ""];
    return (
      reserved ??
      diagnostic("E0112", `\`${first.image}\` needs a name`, tokenSpan(source, second), {
        label: "expected a name",
        helps: example === undefined ? [] : [`for example ${example}`],
      })
    );
  }
  if (ITEM_WORDS.includes(token.image))
    return diagnostic("E0116", "a model without a name must be the last thing in a file", span, {
      label: "another item follows it",
      helps: ["give the model a name: `model Net = …`"],
    });
  // `mdoel Net = …` was read as a model called `mdoel`.
  const word = isWord(before) ? suggest(before.image, ITEM_WORDS) : undefined;
  const alone = place.index === 1 || !onOneLine(source, place.tokens[place.index - 2] ?? before, token);
  if (word !== undefined && alone && isWord(token) && onOneLine(source, before, token))
    return diagnostic("E0117", `\`${before.image}\` begins no item`, tokenSpan(source, before), {
      label:
        "items begin with `model`, `block`, `unit`, `op`, `const`, `type`, `recipe`, `weights`, `search`, `import`",
      helps: didYouMean(before, ITEM_WORDS, source),
    });
  if (before.tokenType === t.RightBrace)
    return diagnostic("E0103", `${shown} cannot follow \`}\``, span, {
      label: "expected an item or the end",
      helps: didYouMean(token, ITEM_WORDS, source),
    });
  const words = wordsAfterModel(place);
  return diagnostic("E0103", `${shown} cannot follow a model`, span, {
    label: `expected ${oneOf(words)}`,
    helps:
      token.tokenType === t.RESERVED.at
        ? ["say what to put there: `with STIA at …`"]
        : didYouMean(token, onOneLine(source, before, token) ? words : ITEM_WORDS, source),
  });
}

/** What can go on with a model whose last word stands before `place`. */
function wordsAfterModel({ tokens, index }: Place): readonly string[] {
  for (let i = index - 1; i >= 0; i--) {
    const type = tokens[i]?.tokenType;
    if (type === t.RESERVED.with) return ["at", "between", ...CLAUSES];
    if (type === t.RESERVED.fuse || type === t.Equals) break;
    if (type === t.RESERVED.at || CLAUSES.some((word) => t.RESERVED[word] === type)) return CLAUSES;
  }
  return [...CLAUSES, "->"];
}

/** `f(VGG16 ×2 with STIA at conv3)`: a clause has a list without brackets, so it cannot stand in one. */
function clauseInList(place: Place): Diagnostic | undefined {
  const { source, tokens, index, token, span, shown, rules } = place;
  if (token === undefined || !CLAUSES.some((word) => word === token.image)) return undefined;
  if (!isReserved(token) || !rules.some((rule) => rule === "args" || rule === "list" || rule === "set"))
    return undefined;
  if (isOperator(place.before) || place.before?.tokenType === t.Arrow) return undefined;
  let start = index;
  for (let depth = 0; start > 0; start--) {
    const left = tokens[start - 1];
    if (closes(left)) depth++;
    else if (opens(left)) depth--;
    if (depth < 0 || (depth === 0 && (left?.tokenType === t.Comma || left?.tokenType === t.Equals))) break;
  }
  let end = index;
  for (let depth = 0; end + 1 < tokens.length; end++) {
    const right = tokens[end + 1];
    if (opens(right)) depth++;
    else if (closes(right)) depth--;
    if (depth < 0) break;
  }
  const first = tokens[start];
  const last = tokens[end];
  const text = first === undefined || last === undefined ? "" : source.text.slice(first.startOffset, t.endOf(last));
  return diagnostic("E0113", "a model with clauses needs parentheses here", span, {
    label: `${shown} begins a clause, whose commas would be taken for those of the list`,
    helps: [text === "" || text.includes("\n") ? "put the model in parentheses" : `\`(${text})\``],
  });
}

/** What a name is wanted for, by rule. */
const NAMED: Readonly<Record<string, string>> = {
  callable: "a name",
  const: "a name",
  typeAlias: "a name",
  weights: "a name",
  recipe: "a name",
  search: "a name",
  param: "a parameter",
  stored: "a parameter",
  assign: "a name",
  importName: "a name",
  import: "a name",
  loop: "a variable",
  choose: "a variable",
  with: "a stream",
  segment: "a position",
  postfix: "a position",
  primary: "a value",
};

function reservedName({ source, token, before, span, wanted }: Place, rule: string): Diagnostic | undefined {
  const noun = NAMED[rule];
  if (noun === undefined || token === undefined || !isReserved(token)) return undefined;
  if (wanted !== undefined && wanted !== t.Identifier) return undefined;
  // After an operator a word such as `with` shows that an operand is missing, not that it is meant as a name.
  const goesOn = token.tokenType === t.RESERVED.at || CLAUSES.some((word) => word === token.image);
  if ((rule === "primary" && (isOperator(before) || isReserved(before) || goesOn)) || (rule === "with" && goesOn))
    return undefined;
  return diagnostic("E0114", `\`${token.image}\` is a word of the language and cannot be a name`, span, {
    helps: [
      { text: `\`${token.image}_\``, edits: [{ span: tokenSpan(source, token), replacement: `${token.image}_` }] },
    ],
  });
}

/** Index of the bracket that closes the one at `from`; `from` itself if none opens there. */
function endOfBracket(tokens: readonly IToken[], from: number): number {
  let depth = 0;
  for (let i = from; i < tokens.length; i++) {
    if (opens(tokens[i])) depth++;
    else if (closes(tokens[i])) depth--;
    if (depth <= 0) return i;
  }
  return from;
}

/** `(x [N, C])`. */
function missingColon({ source, tokens, index, token, before, span }: Place, rule: string): Diagnostic | undefined {
  if (rule !== "paramList" && rule !== "stored" && rule !== "overItem") return undefined;
  if (token === undefined || before === undefined || !isWord(before)) return undefined;
  if (!isWord(token) && token.tokenType !== t.LeftBracket && token.tokenType !== t.LeftParen) return undefined;
  const end = endOfBracket(tokens, index);
  const type = source.text.slice(token.startOffset, t.endOf(tokens[end] ?? token));
  return diagnostic("E0119", "a `:` stands between a name and its type", span, {
    label: "the type begins here",
    helps: [
      {
        text: type.includes("\n") ? "write `:` after the name" : `\`${before.image}: ${type}\``,
        edits: [{ span: { source, start: t.endOf(before), end: t.endOf(before) }, replacement: ":" }],
      },
    ],
  });
}

/** What each sort of body holds. */
const BODIES: Readonly<
  Record<string, { readonly what: string; readonly words: readonly string[]; readonly form: string }>
> = {
  body: { what: "statement", words: STATEMENT_WORDS, form: "name = …" },
  statement: { what: "statement", words: STATEMENT_WORDS, form: "name = …" },
  assign: { what: "statement", words: STATEMENT_WORDS, form: "name = …" },
  settings: { what: "setting", words: [], form: "name = …" },
  search: { what: "line of a search", words: SEARCH_WORDS, form: "name = …" },
  searchStatement: { what: "line of a search", words: SEARCH_WORDS, form: "name = …" },
  weightRule: { what: "rule", words: ["skip"], form: 'position from "tensor"' },
  mapRule: { what: "rule", words: ["skip"], form: 'position from "tensor"' },
};

function notAStatement(place: Place, rule: string): Diagnostic | undefined {
  const { source, tokens, index, token, before, wanted } = place;
  const nearWord = place.rules.includes("searchSetting") && suggest(before?.image ?? "", SEARCH_WORDS) !== undefined;
  const inSearch = rule === "tail" && nearWord;
  const afterRules = rule === "weights" && wanted === t.RightBrace;
  const body = BODIES[inSearch ? "search" : afterRules ? "weightRule" : rule];
  if (body === undefined || wanted === t.LeftBrace || wanted === t.Identifier) return undefined;
  // The first word of the line is at fault: it is the token itself, or was read already as a name to be given a value.
  const startsHere = rule !== "assign" && rule !== "mapRule" && rule !== "tail";
  const first = startsHere ? token : before;
  if (first === undefined || first.image === "") return undefined;
  // `a = x ->` and, on the next line, `b = 3`.
  const operator = tokens[index - 2];
  if (startsHere && token?.tokenType === t.Equals && before !== undefined && operator !== undefined)
    if (needsOperand(operator) && !onOneLine(source, operator, before)) return nothingOnTheRight(source, operator);
  if (startsHere && before !== undefined && token !== undefined && onOneLine(source, before, token) && !opens(before)) {
    // In the middle of a line: the expression before it has ended.
    return diagnostic("E0103", `${place.shown} cannot follow \`${before.image}\``, place.span, {
      label: "expected an operator, `->` or a new line",
      helps: didYouMean(token, [...CLAUSES, "or", "and"], source),
    });
  }
  const helps = [
    ...didYouMean(first, body.words, source),
    ...(body.what === "rule" ? didYouMean(tokens[index + 1], ["from"], source) : []),
  ];
  const next = startsHere ? tokens[index + 1] : token;
  const looksLikeValue = body.what === "statement" && helps.length === 0 && next?.tokenType !== t.Equals;
  const forms = oneOf([...body.words, body.form]);
  return diagnostic("E0120", `\`${first.image}\` cannot begin a ${body.what}`, tokenSpan(source, first), {
    label: `expected ${forms}`,
    helps: looksLikeValue ? ["begin the line with `return`, or give the value a name: `y = …`"] : helps,
  });
}

function needsOperand(token: IToken): boolean {
  return isOperator(token) || token.tokenType === t.Arrow || token.tokenType === t.RESERVED.not;
}

function nothingOnTheRight(source: Source, operator: IToken, secondary: DiagnosticParts["secondary"] = []): Diagnostic {
  return diagnostic("E0121", `\`${operator.image}\` has nothing on its right`, tokenSpan(source, operator), {
    label: "a value was expected after this",
    secondary,
    helps: operator.image === "×" ? ["for two streams write `×2`"] : [],
  });
}

/** `VGG16 × with …`, `a ->`, `k=,`. */
function missingOperand({ source, token, before, span, shown }: Place, rule: string): Diagnostic | undefined {
  if (rule !== "primary" || before === undefined) return undefined;
  const at = tokenSpan(source, before);
  const end = token === undefined || token.image === "" || !onOneLine(source, before, token);
  const secondary = end ? [] : [{ span, text: `${shown} cannot begin a value` }];
  if (needsOperand(before)) return nothingOnTheRight(source, before, secondary);
  if (before.tokenType === t.Equals)
    return diagnostic("E0121", "nothing is given after `=`", at, {
      label: "a value was expected after this",
      secondary,
      helps: token?.tokenType === t.Equals ? ["to compare write `==`"] : [],
    });
  return undefined;
}

/** What stands where an item should begin or end. */
function betweenItems(place: Place, rule: string): Diagnostic | undefined {
  const { source, token, before, span, shown } = place;
  if (rule !== "item" || token === undefined) return undefined;
  const label = before === undefined ? "expected an item or a model" : "expected an item after this attribute";
  return diagnostic("E0112", `${shown} begins no item`, span, {
    label,
    helps: didYouMean(token, ITEM_WORDS, source),
  });
}

// ---------------------------------------------------------------------------------------------------------- the rest

/** What each rule wants where it has several ways to go on. */
const WANTS: Readonly<Record<string, string>> = {
  file: "an item or a model",
  item: "an item",
  primary: "a value: a name, a number, a string, `(`, `[` or `{`",
  simpleType: "a type such as `int`, `f32[N, C]` or `[N, C]`",
  dims: "a size such as `N` or `3`",
  dim: "a size such as `N` or `3`",
  segment: "a position such as `conv3`",
  path: "a position such as `conv3`",
  position: "a position such as `conv3`, or `(spatial.conv4, temporal.conv3)`",
  positions: "a position such as `conv3`",
  side: 'a position or a string such as `"features.0"`',
  tail: "`=` or `{`",
  brackets: "an index such as `[0]` or a part such as `[..conv3]`",
  import: "names such as `{ VGG16 }`, or `* as name`",
  callable: "`block`, `unit`, `op` or `model`",
  clause: "a clause",
  with: "another stream: `between rgb, flow`",
  postfix: "a name after `@`",
  arg: "`=`",
  loop: "a body in braces: `{ … }`",
  ifExpression: "`if` or `{ … }`",
  weightRule: 'a rule such as `conv1 from "features.0"`',
  searchStatement: "`choose`, `require`, `maximize`, `minimize` or `name = …`",
};

/** Examples of what should have been written, by rule. */
const EXAMPLES: Readonly<Record<string, string>> = {
  callable: "`model Net = VGG16(classes=4)`",
  const: "`const CLASSES = 4`",
  typeAlias: "`type RGB = f32[N, 3, 224, 224]`",
  import: '`import { VGG16 } from "std/vision"`',
  reExport: '`export { VGG16 } from "std/vision"`',
  weights: '`weights Name for Model from "file.safetensors" { … }`',
  recipe: "`recipe Train for Model { epochs = 5 }`",
  search: "`search Where { choose p in {@conv3, @conv4} }`",
  stored: "`param weight: [out, C] = he_normal()`",
  loop: "`repeat i in 1..3 { Conv(64) }`",
  ifExpression: "`if s != 1 { a } else { b }`",
  choose: "`choose lr in log(1e-4..1e-2)`",
  attribute: "`#[checkpoint]`",
  file: "`edition 2026`",
};

/** How the kinds of token that can be wanted alone are called. */
function wantedWords({ wanted, before }: Place, rule: string): string {
  if (wanted === undefined) return WANTS[rule] ?? "something else";
  if (wanted === t.Identifier) {
    const noun = NAMED[rule];
    return noun === undefined || noun === "a name"
      ? `a name${before === undefined ? "" : ` after \`${before.image}\``}`
      : noun;
  }
  const inList = ["args", "group", "list", "set", "paramList", "importNames", "dims", "positions"].includes(rule);
  if (inList && closesList(wanted)) return `\`,\` or ${wanted.LABEL ?? wanted.name}`;
  return wanted.LABEL ?? wanted.name;
}

function closesList(type: TokenType): boolean {
  return type === t.RightParen || type === t.RightBracket || type === t.RightBrace;
}

function general(place: Place, rule: string): Diagnostic {
  const { source, token, before, span, shown, wanted } = place;
  const words = wantedWords(place, rule);
  const example = EXAMPLES[rule];
  const helps = [
    ...didYouMean(token, wanted === undefined || !isWordType(wanted) ? [] : [wordOf(wanted)], source),
    ...(example === undefined ? [] : [`for example ${example}`]),
  ];
  if (token !== undefined && before !== undefined && wanted === undefined && dangles(before))
    if (!onOneLine(source, before, token))
      return diagnostic("E0112", `something is missing after \`${before.image}\``, tokenSpan(source, before), {
        label: `expected ${words} after this`,
        helps,
      });
  if (token === undefined || token.image === "")
    return diagnostic(
      "E0112",
      before === undefined ? "something is missing here" : `something is missing after \`${before.image}\``,
      span,
      {
        label: `expected ${words}`,
        helps,
      },
    );
  const follows = before !== undefined && onOneLine(source, before, token) && !isOperator(before);
  return diagnostic(
    "E0112",
    follows ? `${shown} cannot follow \`${before.image}\`` : `${shown} cannot stand here`,
    span,
    {
      label: `expected ${words}`,
      helps,
    },
  );
}

/** True for what cannot be the last thing of anything. */
function dangles(token: IToken): boolean {
  return isReserved(token) || DANGLING.has(token.tokenType);
}
const DANGLING: ReadonlySet<TokenType> = new Set([t.Colon, t.Comma, t.Equals, t.At, t.Dot, t.Bar, t.Ellipsis]);

function isWordType(type: TokenType): boolean {
  return (type.CATEGORIES ?? []).includes(t.Word) || (type.CATEGORIES ?? []).includes(t.Identifier);
}

function wordOf(type: TokenType): string {
  return (type.LABEL ?? "").replaceAll("`", "");
}
