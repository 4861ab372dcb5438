/**
 * Rules for types and for the headline: a pipeline with its clauses `over`, `sharing`, `with`, `fuse`, `from`.
 *
 * Clauses have lists without brackets (`at conv3, conv4`), so a headline stands only where no comma of another list
 * could follow: at the right of `=`, after `return`, in parentheses, and as a file's last line.
 */
import type {
  Clause,
  Dim,
  Expr,
  From,
  Fuse,
  Headline,
  Over,
  OverItem,
  Path,
  Position,
  Positions,
  Sharing,
  Type,
  With,
} from "../ast.ts";
import * as t from "../tokens.ts";
import { isDType } from "../tokens.ts";
import type { Rule } from "./core.ts";
import { ExpressionParser } from "./expressions.ts";

export abstract class HeadlineParser extends ExpressionParser {
  // -------------------------------------------------------------------------------------------------------------- types

  readonly type: Rule<Type> = this.rule("type", "type", () => {
    const start = this.here();
    const options = [this.SUBRULE(this.simpleType)];
    this.MANY(() => {
      this.CONSUME(t.Bar);
      options.push(this.SUBRULE2(this.simpleType));
    });
    const [first] = options;
    return first !== undefined && options.length === 1 ? first : this.from(start, { kind: "UnionType", options });
  });

  readonly simpleType: Rule<Type> = this.rule("simpleType", "type", () => {
    const start = this.here();
    const type = this.OR<Type>([
      {
        ALT: () => {
          const dtype = this.CONSUME(t.DTypeToken).image;
          const dims = this.OPTION(() => this.SUBRULE(this.dims));
          return this.from(start, { kind: "TensorType", dtype: isDType(dtype) ? dtype : undefined, dims });
        },
      },
      {
        ALT: () => {
          const dims = this.SUBRULE2(this.dims);
          return this.from(start, { kind: "TensorType", dtype: undefined, dims });
        },
      },
      {
        ALT: () => {
          const path = this.SUBRULE(this.path);
          const typeArgs: Type[] = [];
          this.OPTION2(() => {
            this.CONSUME(t.Less);
            this.AT_LEAST_ONE_SEP({ SEP: t.Comma, DEF: () => typeArgs.push(this.SUBRULE(this.type)) });
            this.CONSUME(t.Greater);
          });
          const args = this.OPTION3(() => this.SUBRULE(this.args));
          return this.from(start, { kind: "NamedType", path, typeArgs, args });
        },
      },
      {
        ALT: () => {
          const items: Type[] = [];
          this.CONSUME(t.LeftParen);
          this.AT_LEAST_ONE_SEP2({ SEP: t.Comma, DEF: () => items.push(this.SUBRULE2(this.type)) });
          this.CONSUME(t.RightParen);
          return this.from(start, { kind: "TupleType", items });
        },
      },
      { ALT: () => this.from(start, { kind: "LiteralType", value: this.SUBRULE(this.string) }) },
    ]);
    const optional = this.OPTION4(() => this.CONSUME(t.Question));
    return optional === undefined ? type : this.from(start, { kind: "OptionalType", type });
  });

  readonly dims: Rule<readonly Dim[]> = this.listRule<Dim>("dims", (list) => {
    this.CONSUME(t.LeftBracket);
    this.MANY_SEP({ SEP: t.Comma, DEF: () => list.push(this.SUBRULE(this.dim)) });
    this.CONSUME(t.RightBracket);
  });

  readonly dim: Rule<Dim> = this.rule("dim", "size", () => {
    const start = this.here();
    return this.OR<Dim>([
      {
        ALT: () => {
          this.CONSUME(t.Ellipsis);
          const name = this.OPTION(() => this.ident(this.CONSUME(t.Identifier)));
          return this.from(start, { kind: "RestDim", name });
        },
      },
      {
        ALT: () => {
          const label = this.ident(this.CONSUME2(t.Identifier));
          this.CONSUME(t.Equals);
          const size = this.SUBRULE(this.expression);
          return this.from(start, { kind: "SizeDim", label, size });
        },
      },
      {
        ALT: () => {
          const size = this.SUBRULE2(this.expression);
          return this.from(start, { kind: "SizeDim", label: undefined, size });
        },
      },
    ]);
  });

  // ------------------------------------------------------------------------------------------------------- the headline

  readonly headline: Rule<Expr> = this.rule("headline", "expression", () => {
    const headline = this.SUBRULE(this.headlineParts);
    return this.ACTION(() => (headline.clauses.length === 0 ? headline.value : headline));
  });

  readonly headlineParts: Rule<Headline> = this.draftRule<Headline>(
    "headlineParts",
    () => ({ kind: "Headline", value: this.missing("expression"), clauses: [] }),
    (draft) => {
      draft.value = this.SUBRULE(this.pipe);
      const clauses: Clause[] = [];
      draft.clauses = clauses;
      this.MANY(() => clauses.push(this.SUBRULE(this.clause)));
    },
  );

  readonly clause: Rule<Clause> = this.rule("clause", "clause", () =>
    this.OR<Clause>([
      { ALT: () => this.SUBRULE(this.over) },
      { ALT: () => this.SUBRULE(this.sharing) },
      { ALT: () => this.SUBRULE(this.with) },
      { ALT: () => this.SUBRULE(this.fuse) },
      { ALT: () => this.SUBRULE(this.fromClause) },
    ]),
  );

  readonly over: Rule<Over> = this.draftRule<Over>(
    "over",
    () => ({ kind: "Over", inputs: [] }),
    (draft) => {
      const inputs: OverItem[] = [];
      draft.inputs = inputs;
      this.CONSUME(t.RESERVED.over);
      inputs.push(this.SUBRULE(this.overItem));
      this.MANY(() => {
        this.CONSUME(t.Comma);
        inputs.push(this.SUBRULE2(this.overItem));
      });
    },
  );

  readonly overItem: Rule<OverItem> = this.draftRule<OverItem>(
    "overItem",
    () => ({ kind: "OverItem", name: undefined, type: this.missing("type") }),
    (draft) => {
      this.OPTION(() => {
        draft.name = this.ident(this.CONSUME(t.Identifier));
        this.CONSUME(t.Colon);
      });
      draft.type = this.SUBRULE(this.type);
    },
  );

  readonly sharing: Rule<Sharing> = this.draftRule<Sharing>(
    "sharing",
    () => ({ kind: "Sharing", at: this.noPositions() }),
    (draft) => {
      this.CONSUME(t.RESERVED.sharing);
      draft.at = this.SUBRULE(this.positions);
    },
  );

  readonly with: Rule<With> = this.draftRule<With>(
    "with",
    () => ({ kind: "With", unit: this.missing("expression"), between: undefined, at: undefined }),
    (draft) => {
      this.CONSUME(t.RESERVED.with);
      draft.unit = this.SUBRULE(this.postfix);
      this.OPTION(() => {
        this.CONSUME(t.RESERVED.between);
        const between = [this.ident(this.CONSUME(t.Identifier))];
        draft.between = between;
        this.AT_LEAST_ONE(() => {
          this.CONSUME(t.Comma);
          between.push(this.ident(this.CONSUME2(t.Identifier)));
        });
      });
      this.OPTION2(() => {
        this.CONSUME(t.RESERVED.at);
        draft.at = this.SUBRULE(this.positions);
      });
    },
  );

  readonly fuse: Rule<Fuse> = this.draftRule<Fuse>(
    "fuse",
    () => ({ kind: "Fuse", at: undefined, by: this.missing("expression") }),
    (draft) => {
      this.CONSUME(t.RESERVED.fuse);
      this.OPTION(() => {
        this.CONSUME(t.RESERVED.at);
        draft.at = this.SUBRULE(this.position);
      });
      draft.by = this.SUBRULE(this.pipe);
    },
  );

  readonly fromClause: Rule<From> = this.draftRule<From>(
    "fromClause",
    () => ({ kind: "From", source: this.missing("expression") }),
    (draft) => {
      this.CONSUME(t.RESERVED.from);
      draft.source = this.SUBRULE(this.postfix);
    },
  );

  // ---------------------------------------------------------------------------------------------------------- positions

  private noPositions(): Positions {
    return { kind: "Positions", items: [], start: this.here(), end: this.here() };
  }

  /** With brackets or without. */
  readonly positions: Rule<Positions> = this.draftRule<Positions>(
    "positions",
    () => ({ kind: "Positions", items: [] }),
    (draft) => {
      const items: Position[] = [];
      draft.items = items;
      this.OR([
        {
          ALT: () => {
            this.CONSUME(t.LeftBracket);
            this.AT_LEAST_ONE_SEP({ SEP: t.Comma, DEF: () => items.push(this.SUBRULE(this.position)) });
            this.CONSUME(t.RightBracket);
          },
        },
        {
          ALT: () => {
            items.push(this.SUBRULE2(this.position));
            this.MANY(() => {
              this.CONSUME2(t.Comma);
              items.push(this.SUBRULE3(this.position));
            });
          },
        },
      ]);
    },
  );

  readonly position: Rule<Position> = this.draftRule<Position>(
    "position",
    () => ({
      kind: "Position",
      side: undefined,
      from: { kind: "Path", segments: [], start: this.here(), end: this.here() },
      to: undefined,
    }),
    (draft) => {
      draft.side = this.OPTION(() =>
        this.OR<"before" | "after">([
          { ALT: () => (this.CONSUME(t.SOFT.before), "before") },
          { ALT: () => (this.CONSUME(t.SOFT.after), "after") },
        ]),
      );
      const start = this.here();
      draft.from = this.OR2<Position["from"]>([
        { ALT: () => this.SUBRULE(this.path) },
        {
          ALT: () => {
            const items: Path[] = [];
            this.CONSUME(t.LeftParen);
            items.push(this.SUBRULE2(this.path));
            this.AT_LEAST_ONE(() => {
              this.CONSUME(t.Comma);
              items.push(this.SUBRULE3(this.path));
            });
            this.CONSUME(t.RightParen);
            return this.from(start, { kind: "PathTuple", items });
          },
        },
      ]);
      this.OPTION2(() => {
        this.CONSUME(t.DotDot);
        draft.to = this.SUBRULE4(this.path);
      });
    },
  );
}
