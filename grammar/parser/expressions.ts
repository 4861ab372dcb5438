/**
 * Rules for expressions: pipelines, operators, calls, positions as values, `if`, `repeat`, `each`.
 *
 * Two optional tails need more than the next two tokens say, and both look at fixed places. `x2` is `×2` only on the
 * line of what it multiplies, so that a statement `x2 = …` on the next line is one. The `..` of `s[a..]` is no operator,
 * since `]` follows it.
 */
import type { IToken } from "chevrotain";
import type { Arg, Every, Expr, If, List, Loop, Path, PositionLit, Segment, SetLit, Times } from "../ast.ts";
import { buildExpression, type Operand, type Operator, operatorOf, type Prefix } from "../precedence.ts";
import * as t from "../tokens.ts";
import { isDType } from "../tokens.ts";
import { CoreParser, type Rule } from "./core.ts";

/** What stands in the brackets after an expression. */
interface Brackets {
  readonly range: boolean;
  readonly from: Expr | undefined;
  readonly to: Expr | undefined;
}

export abstract class ExpressionParser extends CoreParser {
  /** A pipeline with clauses; see `HeadlineParser`. */
  abstract readonly headline: Rule<Expr>;

  /** `a -> b -> c`. */
  readonly pipe: Rule<Expr> = this.rule("pipe", "expression", () => {
    const start = this.here();
    const stages = [this.SUBRULE(this.expression)];
    this.MANY(() => {
      this.CONSUME(t.Arrow);
      stages.push(this.SUBRULE2(this.expression));
    });
    const [first] = stages;
    return first !== undefined && stages.length === 1 ? first : this.from(start, { kind: "Pipe", stages });
  });

  /** Operands and operators, flat. */
  readonly expression: Rule<Expr> = this.rule("expression", "expression", () => {
    const operands = [this.SUBRULE(this.operand)];
    const operators: Operator[] = [];
    this.MANY({
      GATE: () => this.LA(1).tokenType !== t.DotDot || this.LA(2).tokenType !== t.RightBracket,
      DEF: () => {
        const sign = this.CONSUME(t.BinaryOperator);
        this.ACTION(() => operators.push({ op: operatorOf(sign.image), start: sign.startOffset, end: t.endOf(sign) }));
        operands.push(this.SUBRULE2(this.operand));
      },
    });
    return this.ACTION(() => buildExpression(operands, operators));
  });

  readonly operand: Rule<Operand> = this.RULE(
    "operand",
    (): Operand => {
      const prefixes: Prefix[] = [];
      this.MANY(() => {
        const op = this.OR<Prefix["op"]>([
          { ALT: () => (this.CONSUME(t.Minus), "-") },
          { ALT: () => (this.CONSUME(t.RESERVED.not), "not") },
        ]);
        const sign = this.LA(0);
        prefixes.push({ op, start: sign.startOffset, end: t.endOf(sign) });
      });
      return { prefixes, value: this.SUBRULE(this.postfix) };
    },
    { recoveryValueFunc: () => ({ prefixes: [], value: this.missing("expression") }) },
  );

  /** A value and what is written right behind it: arguments, brackets, fields, position names, `x2`. */
  readonly postfix: Rule<Expr> = this.rule("postfix", "expression", () => {
    const start = this.here();
    let value = this.SUBRULE(this.primary);
    this.MANY({
      GATE: () => this.LA(1).tokenType !== t.XTimes || this.onSameLine(),
      DEF: () => {
        value = this.OR<Expr>([
          {
            ALT: () => {
              const open = this.LA(1);
              const args = this.SUBRULE(this.args);
              const at = { start: open.startOffset, end: open.startOffset + 1 };
              return this.from(start, { kind: "Call", callee: value, args, open: at });
            },
          },
          {
            ALT: () => {
              const { range, from, to } = this.SUBRULE(this.brackets);
              if (range || from === undefined) return this.from(start, { kind: "Slice", of: value, from, to });
              return this.from(start, { kind: "Index", of: value, index: from });
            },
          },
          {
            ALT: () => {
              this.CONSUME(t.Dot);
              const name = this.ident(this.CONSUME(t.Word));
              return this.from(start, { kind: "Field", of: value, name });
            },
          },
          {
            ALT: () => {
              this.CONSUME(t.At);
              const name = this.OR2([
                { ALT: () => this.ident(this.CONSUME(t.Identifier)) },
                { ALT: () => this.SUBRULE(this.string) },
              ]);
              return this.from(start, { kind: "Tap", of: value, name });
            },
          },
          { ALT: () => this.times(start, value, this.CONSUME(t.XTimes)) },
        ]);
      },
    });
    return value;
  });

  private onSameLine(): boolean {
    return !this.source.text.slice(t.endOf(this.LA(0)), this.LA(1).startOffset).includes("\n");
  }

  /** `left x2`: the `x` is the sign, the rest the count. */
  private times(start: number, left: Expr, word: IToken): Times {
    const text = word.image.slice(1);
    const middle = word.startOffset + 1;
    const right = { kind: "Number", text, value: Number(text), start: middle, end: t.endOf(word) } as const;
    return { kind: "Times", opAt: { start: word.startOffset, end: middle }, left, right, start, end: right.end };
  }

  readonly primary: Rule<Expr> = this.rule("primary", "expression", () => {
    const start = this.here();
    return this.OR<Expr>([
      { ALT: () => this.from(start, { kind: "Name", name: this.CONSUME(t.Identifier).image }) },
      { ALT: () => this.numberLit(this.CONSUME(t.NumberToken)) },
      { ALT: () => this.sizeLit(this.CONSUME(t.Size)) },
      { ALT: () => this.SUBRULE(this.string) },
      { ALT: () => (this.CONSUME(t.RESERVED.true), this.from(start, { kind: "Bool", value: true })) },
      { ALT: () => (this.CONSUME(t.RESERVED.false), this.from(start, { kind: "Bool", value: false })) },
      { ALT: () => (this.CONSUME(t.RESERVED.none), this.from(start, { kind: "None" })) },
      {
        ALT: () => {
          const name = this.CONSUME(t.DTypeToken).image;
          return isDType(name) ? this.from(start, { kind: "DType", name }) : this.missing("expression");
        },
      },
      { ALT: () => this.SUBRULE(this.positionLit) },
      { ALT: () => this.SUBRULE(this.group) },
      { ALT: () => this.SUBRULE(this.list) },
      { ALT: () => this.SUBRULE(this.set) },
      { ALT: () => this.SUBRULE(this.ifExpression) },
      { ALT: () => this.SUBRULE(this.loop) },
    ]);
  });

  /** `@conv3`. */
  readonly positionLit: Rule<PositionLit> = this.draftRule<PositionLit>(
    "positionLit",
    () => ({ kind: "PositionLit", path: { kind: "Path", segments: [], start: this.here(), end: this.here() } }),
    (draft) => {
      this.CONSUME(t.At);
      const start = this.here();
      const segments = [this.SUBRULE(this.segment)];
      this.MANY(() => {
        this.CONSUME(t.Dot);
        segments.push(this.SUBRULE2(this.segment));
      });
      draft.path = this.from(start, { kind: "Path", segments });
    },
  );

  /** `layer3[2].conv2`; a leading `@` is allowed. */
  readonly path: Rule<Path> = this.draftRule<Path>(
    "path",
    () => ({ kind: "Path", segments: [] }),
    (draft) => {
      this.OPTION(() => this.CONSUME(t.At));
      const segments = [this.SUBRULE(this.segment)];
      draft.segments = segments;
      this.MANY(() => {
        this.CONSUME(t.Dot);
        segments.push(this.SUBRULE2(this.segment));
      });
    },
  );

  readonly segment: Rule<Segment> = this.draftRule<Segment>(
    "segment",
    () => ({ name: "", index: undefined }),
    (draft) => {
      draft.name = this.OR([
        { ALT: () => this.CONSUME(t.Identifier).image },
        { ALT: () => this.CONSUME(t.Star).image },
      ]);
      this.OPTION(() => {
        this.CONSUME(t.LeftBracket);
        draft.index = this.OR2<Expr | Every>([
          { ALT: () => (this.CONSUME2(t.Star), this.from(this.LA(0).startOffset, { kind: "Every" })) },
          { ALT: () => this.SUBRULE(this.expression) },
        ]);
        this.CONSUME(t.RightBracket);
      });
    },
  );

  /** `(e)` groups; `(a, b)`, `(a,)` and `()` are tuples. */
  readonly group: Rule<Expr> = this.rule("group", "expression", () => {
    const start = this.here();
    const items: Expr[] = [];
    let commas = 0;
    this.CONSUME(t.LeftParen);
    this.OPTION(() => {
      items.push(this.SUBRULE(this.headline));
      this.MANY(() => {
        this.CONSUME(t.Comma);
        commas++;
        this.OPTION2(() => items.push(this.SUBRULE2(this.headline)));
      });
    });
    this.CONSUME(t.RightParen);
    const [value] = items;
    if (commas === 0 && value !== undefined) return this.from(start, { kind: "Group", value });
    return this.from(start, { kind: "Tuple", items });
  });

  readonly list: Rule<List> = this.draftRule<List>(
    "list",
    () => ({ kind: "List", items: [] }),
    (draft) => {
      const items: Expr[] = [];
      draft.items = items;
      this.CONSUME(t.LeftBracket);
      this.OPTION(() => {
        items.push(this.SUBRULE(this.pipe));
        this.MANY(() => {
          this.CONSUME(t.Comma);
          this.OPTION2(() => items.push(this.SUBRULE2(this.pipe)));
        });
      });
      this.CONSUME(t.RightBracket);
    },
  );

  readonly set: Rule<SetLit> = this.draftRule<SetLit>(
    "set",
    () => ({ kind: "Set", items: [] }),
    (draft) => {
      const items: Expr[] = [];
      draft.items = items;
      this.CONSUME(t.LeftBrace);
      this.OPTION(() => {
        items.push(this.SUBRULE(this.pipe));
        this.MANY(() => {
          this.CONSUME(t.Comma);
          this.OPTION2(() => items.push(this.SUBRULE2(this.pipe)));
        });
      });
      this.CONSUME(t.RightBrace);
    },
  );

  readonly ifExpression: Rule<If> = this.draftRule<If>(
    "ifExpression",
    () => ({
      kind: "If",
      condition: this.missing("expression"),
      // oxlint-disable-next-line unicorn/no-thenable -- the tree's name for this branch; nothing awaits a tree
      then: this.missing("expression"),
      else: undefined,
    }),
    (draft) => {
      this.CONSUME(t.RESERVED.if);
      draft.condition = this.SUBRULE(this.expression);
      this.CONSUME(t.LeftBrace);
      // oxlint-disable-next-line unicorn/no-thenable
      draft.then = this.SUBRULE(this.pipe);
      this.CONSUME(t.RightBrace);
      this.OPTION(() => {
        this.CONSUME(t.RESERVED.else);
        draft.else = this.OR<Expr>([
          { ALT: () => this.SUBRULE(this.ifExpression) },
          {
            ALT: () => {
              this.CONSUME2(t.LeftBrace);
              const value = this.SUBRULE2(this.pipe);
              this.CONSUME2(t.RightBrace);
              return value;
            },
          },
        ]);
      });
    },
  );

  readonly loop: Rule<Loop> = this.draftRule<Loop>(
    "loop",
    () => ({
      kind: "Loop",
      how: "repeat",
      variables: [],
      over: this.missing("expression"),
      body: this.missing("expression"),
    }),
    (draft) => {
      draft.how = this.OR<Loop["how"]>([
        { ALT: () => (this.CONSUME(t.RESERVED.repeat), "repeat") },
        { ALT: () => (this.CONSUME(t.RESERVED.each), "each") },
      ]);
      this.OPTION(() => {
        const variables = [this.ident(this.CONSUME(t.Identifier))];
        this.MANY(() => {
          this.CONSUME(t.Comma);
          variables.push(this.ident(this.CONSUME2(t.Identifier)));
        });
        this.CONSUME(t.RESERVED.in);
        draft.variables = variables;
      });
      draft.over = this.SUBRULE(this.expression);
      this.CONSUME(t.LeftBrace);
      draft.body = this.SUBRULE(this.pipe);
      this.CONSUME(t.RightBrace);
    },
  );

  readonly args: Rule<readonly Arg[]> = this.listRule<Arg>("args", (list) => {
    this.CONSUME(t.LeftParen);
    this.OPTION(() => {
      list.push(this.SUBRULE(this.arg));
      this.MANY(() => {
        this.CONSUME(t.Comma);
        this.OPTION2(() => list.push(this.SUBRULE2(this.arg)));
      });
    });
    this.CONSUME(t.RightParen);
  });

  readonly arg: Rule<Arg> = this.draftRule<Arg>(
    "arg",
    () => ({ kind: "Arg", name: undefined, value: this.missing("expression") }),
    (draft) => {
      let colon: IToken | undefined;
      this.OPTION(() => {
        draft.name = this.ident(this.CONSUME(t.Word));
        this.OR([
          { ALT: () => this.CONSUME(t.Equals) },
          {
            ALT: () => {
              colon = this.CONSUME(t.Colon);
            },
          },
        ]);
      });
      draft.value = this.SUBRULE(this.pipe);
      if (colon !== undefined) this.colonInArgument(colon, draft);
    },
  );

  /** `[..b]`, `[a]`, `[a..b]`, `[a..]`. */
  readonly brackets: Rule<Brackets> = this.RULE(
    "brackets",
    (): Brackets => {
      let range = false;
      let from: Expr | undefined;
      let to: Expr | undefined;
      this.CONSUME(t.LeftBracket);
      this.OR([
        {
          ALT: () => {
            this.CONSUME(t.DotDot);
            range = true;
            to = this.SUBRULE(this.expression);
          },
        },
        {
          ALT: () => {
            from = this.SUBRULE2(this.expression);
            this.OPTION(() => {
              this.CONSUME2(t.DotDot);
              range = true;
            });
          },
        },
      ]);
      this.CONSUME(t.RightBracket);
      if (from?.kind === "Range") return { range: true, from: from.from, to: from.to };
      return { range, from, to };
    },
    { recoveryValueFunc: () => ({ range: false, from: this.missing("expression"), to: undefined }) },
  );
}
