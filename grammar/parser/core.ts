/**
 * What all grammar rules stand on: places, names, and rules that survive a syntax error.
 *
 * The parser writes the records of `ast.ts` as it goes (chevrotain's embedded actions). Two sorts of rule differ in what
 * is left after an error inside them: a `rule` leaves an `ErrorNode`; a `draftRule` opens its record first, fills it
 * while reading, and leaves what it had, marked `broken`. Every class below adds one part of the grammar and names the
 * rules it borrows from later parts as abstract fields; `NetParser` (`../parser.ts`) is the last of the chain.
 *
 * Chevrotain calls every rule once at the start with false tokens, to learn the grammar. Code in a rule must therefore
 * not depend on what a token says unless it stands in `ACTION`.
 */
import { EmbeddedActionsParser, type IParserErrorMessageProvider, type IToken, type ParserMethod } from "chevrotain";
import type { Arg, ErrorNode, Ident, Node, NumberLit, SizeLit, StringLit } from "../ast.ts";
import { type Diagnostic, span } from "../diagnostic.ts";
import { numberValue, sizeValues, stringValue } from "../literals.ts";
import type { Source } from "../source.ts";
import { ALL_TOKENS, Arrow, Colon, Comma, Equals, endOf, type Lexed, StringToken } from "../tokens.ts";

/** A rule that gives a `T` and may be told more by the rule that calls it. */
export type Rule<T, Args extends unknown[] = []> = ParserMethod<Args, T>;

/** A record while it is being read. */
export type Draft<T> = { -readonly [K in keyof T]: T[K] };

/** What stands before the word of an item or a statement. */
export interface Head {
  readonly start: number;
  readonly attributes: readonly Attribute[];
  readonly doc: string | undefined;
}
type Attribute = import("../ast.ts").Attribute;

/** Only the grammar's recording calls a rule without its head. */
export const NO_HEAD: Head = { start: 0, attributes: [], doc: undefined };

const INSERTABLE: ReadonlySet<unknown> = new Set([Arrow, Colon, Comma, Equals]);

export interface ParserOptions {
  /** Checks the grammar for ambiguities; slow, for a test. */
  readonly validate?: boolean;
  readonly messages?: IParserErrorMessageProvider;
}

export abstract class CoreParser extends EmbeddedActionsParser {
  protected source: Source = { path: "", text: "" };
  private docs: ReadonlyMap<number, string> = new Map();
  /** What the innermost rule that an error went through had read. */
  private cut: unknown = undefined;
  /** Mistakes in things that could be read all the same. */
  readonly remarks: Diagnostic[] = [];

  constructor(options: ParserOptions) {
    super(ALL_TOKENS, {
      recoveryEnabled: true,
      maxLookahead: 2,
      nodeLocationTracking: "none",
      skipValidations: options.validate !== true,
      ...(options.messages === undefined ? {} : { errorMessageProvider: options.messages }),
    });
  }

  /** Makes ready to read `tokens` of `source`. */
  open(source: Source, tokens: IToken[], docs: Lexed["docs"]): void {
    this.input = tokens;
    this.source = source;
    this.docs = docs;
    this.cut = undefined;
    this.remarks.length = 0;
  }

  // A missing bracket or name says more as an error than as something made up.
  protected override canTokenTypeBeInsertedInRecovery(type: unknown): boolean {
    return INSERTABLE.has(type);
  }

  // ------------------------------------------------------------------------------------------------------------- places

  /** Where the next token begins; at the end of the text, its length. */
  protected here(): number {
    const { startOffset } = this.LA(1);
    return Number.isNaN(startOffset) ? this.source.text.length : startOffset;
  }

  /** Where the last token ended, but not before `start`. */
  protected endFrom(start: number): number {
    const last = this.LA(0);
    const end = endOf(last);
    return end > start ? end : start;
  }

  /** Completes `fields` with the place from `start` to the last token. */
  protected from<T extends object>(start: number, fields: T): T & Node {
    return Object.assign(fields, { start, end: this.endFrom(start) });
  }

  protected docAt(start: number): string | undefined {
    return this.docs.get(start);
  }

  // -------------------------------------------------------------------------------------------------------------- rules

  /** A rule that leaves an `ErrorNode` where it fails. */
  protected rule<T, Args extends unknown[] = []>(
    name: string,
    wanted: string,
    read: (...args: Args) => T | ErrorNode,
  ): Rule<T | ErrorNode, Args> {
    return this.RULE(name, read, {
      recoveryValueFunc: () => {
        this.cut = undefined;
        return this.missing(wanted);
      },
    });
  }

  /** A rule that opens a record, fills it, and leaves what it had where it fails. */
  protected draftRule<T extends Node, Args extends unknown[] = []>(
    name: string,
    open: (...args: Args) => Omit<Draft<T>, "start" | "end">,
    fill: (draft: Draft<T>) => void,
  ): Rule<T, Args> {
    const read = (...args: Args): T => {
      const start = this.here();
      const draft = Object.assign({ start, end: start }, open(...args)) as unknown as Draft<T>;
      try {
        fill(draft);
      } catch (error) {
        draft.broken = true;
        draft.end = this.endFrom(draft.start);
        this.cut = draft;
        throw error;
      }
      draft.end = this.endFrom(draft.start);
      return draft;
    };
    return this.RULE(name, read, { recoveryValueFunc: () => this.takeCut() as T });
  }

  /** A rule that gives a list, and where it fails the part that was read. */
  protected listRule<T>(name: string, fill: (list: T[]) => void): Rule<readonly T[]> {
    const read = (): readonly T[] => {
      const list: T[] = [];
      try {
        fill(list);
      } catch (error) {
        this.cut = list;
        throw error;
      }
      return list;
    };
    return this.RULE(name, read, { recoveryValueFunc: () => this.takeCut() as readonly T[] });
  }

  /** What the rules that the current error went through had read; undefined if it went through none. */
  protected takeCut(): unknown {
    const { cut } = this;
    this.cut = undefined;
    return cut;
  }

  /** Stands for something that could not be read. */
  protected missing(wanted: string): ErrorNode {
    const at = this.here();
    return { kind: "Error", wanted, start: at, end: at };
  }

  // ------------------------------------------------------------------------------------------------------------- leaves

  protected ident(token: IToken): Ident {
    return { name: token.image, start: token.startOffset, end: endOf(token) };
  }

  /** A name to stand in a draft until the real one is read. */
  protected noName(): Ident {
    const at = this.here();
    return { name: "", start: at, end: at, broken: true };
  }

  protected noString(): StringLit {
    const at = this.here();
    return { kind: "String", value: "", start: at, end: at, broken: true };
  }

  protected numberLit(token: IToken): NumberLit {
    const text = token.image;
    return { kind: "Number", text, value: numberValue(text), start: token.startOffset, end: endOf(token) };
  }

  protected sizeLit(token: IToken): SizeLit {
    return { kind: "Size", values: sizeValues(token.image), start: token.startOffset, end: endOf(token) };
  }

  readonly string: Rule<StringLit> = this.draftRule<StringLit>(
    "string",
    () => ({ kind: "String", value: "" }),
    (draft) => {
      draft.value = stringValue(this.CONSUME(StringToken).image).value;
    },
  );

  /** Reports `stride: 2`, which is read as `stride=2`. */
  protected colonInArgument(colon: IToken, arg: Arg): void {
    if (arg.name === undefined) return;
    const { source } = this;
    const place = { start: colon.startOffset, end: endOf(colon) };
    const value = source.text.slice(arg.value.start, arg.value.end);
    this.remarks.push({
      severity: "error",
      code: "E0104",
      message: "a named argument is written with `=`",
      labels: [{ span: span(source, place), text: "write `=` here; `:` gives a type", primary: true }],
      notes: [],
      helps: [
        {
          text: `\`${arg.name.name}=${value}\``,
          edits: [{ span: { source, start: arg.name.end, end: arg.value.start }, replacement: "=" }],
        },
      ],
    });
  }
}
