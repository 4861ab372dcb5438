/**
 * Rules for items (imports, constants, types, blocks, units, ops, models) and for the statements in their bodies.
 *
 * Every item begins with a word of its own and every statement with `return`, `param`, `state`, `assert` or `NAME =`:
 * so no line needs an end mark, and an error in one item or statement leaves the next one whole.
 */
import type {
  Assert,
  Assign,
  Attribute,
  BareModel,
  Body,
  Callable,
  Const,
  Fact,
  Import,
  ImportName,
  Item,
  Param,
  ParamList,
  ReExport,
  Return,
  Stmt,
  Stored,
  TypeAlias,
} from "../ast.ts";
import * as t from "../tokens.ts";
import { type Head, NO_HEAD, type Rule } from "./core.ts";
import { HeadlineParser } from "./headline.ts";

export abstract class ItemParser extends HeadlineParser {
  abstract readonly weights: Rule<Item, [head?: Head]>;
  abstract readonly recipe: Rule<Item, [head?: Head]>;
  abstract readonly search: Rule<Item, [head?: Head]>;

  readonly item: Rule<Item> = this.rule("item", "item", () => {
    const head = this.head();
    this.MANY(() => head.attributes.push(this.SUBRULE(this.attribute)));
    const ARGS: [Head] = [head];
    return this.OR<Item>([
      { ALT: () => this.SUBRULE(this.import, { ARGS }) },
      { ALT: () => this.SUBRULE(this.reExport, { ARGS }) },
      { ALT: () => this.SUBRULE(this.const, { ARGS }) },
      { ALT: () => this.SUBRULE(this.typeAlias, { ARGS }) },
      { ALT: () => this.SUBRULE(this.callable, { ARGS }) },
      { ALT: () => this.SUBRULE(this.weights, { ARGS }) },
      { ALT: () => this.SUBRULE(this.recipe, { ARGS }) },
      { ALT: () => this.SUBRULE(this.search, { ARGS }) },
      { ALT: () => this.SUBRULE(this.assert, { ARGS }) },
    ]);
  });

  private head(): Head & { readonly attributes: Attribute[] } {
    const start = this.here();
    return { start, attributes: [], doc: this.docAt(start) };
  }

  /** The one-line program: a headline as the last thing in a file. */
  readonly bareModel: Rule<BareModel> = this.draftRule<BareModel>(
    "bareModel",
    () => ({ kind: "BareModel", ...this.head(), value: this.missing("expression") }),
    (draft) => {
      draft.value = this.SUBRULE(this.headline);
      this.OPTION(() => this.CONSUME(t.Semicolon));
    },
  );

  readonly attribute: Rule<Attribute> = this.draftRule<Attribute>(
    "attribute",
    () => ({ kind: "Attribute", name: this.noName(), args: [] }),
    (draft) => {
      this.CONSUME(t.HashBracket);
      draft.name = this.ident(this.CONSUME(t.Identifier));
      this.OPTION(() => {
        draft.args = this.SUBRULE(this.args);
      });
      this.CONSUME(t.RightBracket);
    },
  );

  // ----------------------------------------------------------------------------------------------------- small items

  readonly import: Rule<Import, [head?: Head]> = this.draftRule<Import, [head?: Head]>(
    "import",
    (head = NO_HEAD) => ({ kind: "Import", ...head, names: undefined, namespace: undefined, from: this.noString() }),
    (draft) => {
      this.CONSUME(t.RESERVED.import);
      this.OR([
        {
          ALT: () => {
            draft.names = this.SUBRULE(this.importNames);
          },
        },
        {
          ALT: () => {
            this.CONSUME(t.Star);
            this.CONSUME(t.RESERVED.as);
            draft.namespace = this.ident(this.CONSUME(t.Identifier));
          },
        },
      ]);
      this.CONSUME(t.RESERVED.from);
      draft.from = this.SUBRULE(this.string);
      this.OPTION(() => this.CONSUME(t.Semicolon));
    },
  );

  readonly reExport: Rule<ReExport, [head?: Head]> = this.draftRule<ReExport, [head?: Head]>(
    "reExport",
    (head = NO_HEAD) => ({ kind: "ReExport", ...head, names: [], from: this.noString() }),
    (draft) => {
      this.CONSUME(t.RESERVED.export);
      draft.names = this.SUBRULE(this.importNames);
      this.CONSUME(t.RESERVED.from);
      draft.from = this.SUBRULE(this.string);
      this.OPTION(() => this.CONSUME(t.Semicolon));
    },
  );

  readonly importNames: Rule<readonly ImportName[]> = this.listRule<ImportName>("importNames", (list) => {
    this.CONSUME(t.LeftBrace);
    this.OPTION(() => {
      list.push(this.SUBRULE(this.importName));
      this.MANY(() => {
        this.CONSUME(t.Comma);
        this.OPTION2(() => list.push(this.SUBRULE2(this.importName)));
      });
    });
    this.CONSUME(t.RightBrace);
  });

  readonly importName: Rule<ImportName> = this.draftRule<ImportName>(
    "importName",
    () => ({ name: this.noName(), as: undefined }),
    (draft) => {
      draft.name = this.ident(this.CONSUME(t.Identifier));
      this.OPTION(() => {
        this.CONSUME(t.RESERVED.as);
        draft.as = this.ident(this.CONSUME2(t.Identifier));
      });
    },
  );

  readonly const: Rule<Const, [head?: Head]> = this.draftRule<Const, [head?: Head]>(
    "const",
    (head = NO_HEAD) => ({
      kind: "Const",
      ...head,
      name: this.noName(),
      type: undefined,
      value: this.missing("expression"),
    }),
    (draft) => {
      this.CONSUME(t.SOFT.const);
      draft.name = this.ident(this.CONSUME(t.Identifier));
      this.OPTION(() => {
        this.CONSUME(t.Colon);
        draft.type = this.SUBRULE(this.type);
      });
      this.CONSUME(t.Equals);
      draft.value = this.SUBRULE(this.pipe);
      this.OPTION2(() => this.CONSUME(t.Semicolon));
    },
  );

  readonly typeAlias: Rule<TypeAlias, [head?: Head]> = this.draftRule<TypeAlias, [head?: Head]>(
    "typeAlias",
    (head = NO_HEAD) => ({
      kind: "TypeAlias",
      ...head,
      name: this.noName(),
      params: [],
      type: this.missing("type"),
    }),
    (draft) => {
      this.CONSUME(t.SOFT.type);
      draft.name = this.ident(this.CONSUME(t.Identifier));
      this.OPTION(() => {
        draft.params = this.SUBRULE(this.paramList).params;
      });
      this.CONSUME(t.Equals);
      draft.type = this.SUBRULE(this.type);
      this.OPTION2(() => this.CONSUME(t.Semicolon));
    },
  );

  // ------------------------------------------------------------------------------------- blocks, units, ops and models

  readonly callable: Rule<Callable, [head?: Head]> = this.draftRule<Callable, [head?: Head]>(
    "callable",
    (head = NO_HEAD) => ({
      kind: "Callable",
      ...head,
      keyword: "block",
      extern: false,
      private: false,
      name: this.noName(),
      lists: [],
      output: undefined,
      where: [],
      defaultOver: undefined,
      value: undefined,
      body: undefined,
    }),
    (draft) => {
      const lists: ParamList[] = [];
      const where: Fact[] = [];
      this.OPTION(() => {
        this.CONSUME(t.SOFT.private);
        draft.private = true;
      });
      draft.keyword = this.OR<Callable["keyword"]>([
        { ALT: () => (this.CONSUME(t.SOFT.block), "block") },
        { ALT: () => (this.CONSUME(t.SOFT.model), "model") },
        { ALT: () => (this.CONSUME(t.SOFT.unit), "unit") },
        {
          ALT: () => {
            this.OPTION2(() => {
              this.CONSUME(t.SOFT.extern);
              draft.extern = true;
            });
            this.CONSUME(t.SOFT.op);
            return "op";
          },
        },
      ]);
      draft.name = this.ident(this.CONSUME(t.Identifier));
      draft.lists = lists;
      this.MANY(() => lists.push(this.SUBRULE(this.paramList)));
      this.OPTION3(() => {
        this.CONSUME(t.Arrow);
        draft.output = this.SUBRULE(this.type);
      });
      draft.where = where;
      this.OPTION4(() => {
        this.CONSUME(t.SOFT.where);
        where.push(this.SUBRULE(this.fact));
        this.MANY2(() => {
          this.CONSUME(t.Comma);
          where.push(this.SUBRULE2(this.fact));
        });
      });
      this.OPTION5(() => {
        this.CONSUME(t.RESERVED.default);
        draft.defaultOver = this.SUBRULE(this.over);
      });
      this.OPTION6(() =>
        this.OR2([
          {
            ALT: () => {
              this.CONSUME(t.Equals);
              draft.value = this.SUBRULE(this.headline);
              this.OPTION7(() => this.CONSUME(t.Semicolon));
            },
          },
          {
            ALT: () => {
              draft.body = this.SUBRULE(this.body);
            },
          },
        ]),
      );
    },
  );

  readonly fact: Rule<Fact> = this.draftRule<Fact>(
    "fact",
    () => ({ kind: "Fact", left: this.missing("expression"), definition: undefined }),
    (draft) => {
      draft.left = this.SUBRULE(this.expression);
      this.OPTION({
        // Only a name can be defined; behind a test, `=` begins the callable's value.
        GATE: () => draft.left.kind === "Name",
        DEF: () => {
          this.CONSUME(t.Equals);
          draft.definition = this.SUBRULE2(this.expression);
        },
      });
    },
  );

  readonly paramList: Rule<ParamList> = this.draftRule<ParamList>(
    "paramList",
    () => ({ params: [] }),
    (draft) => {
      const params: Param[] = [];
      draft.params = params;
      this.CONSUME(t.LeftParen);
      this.OPTION(() => {
        params.push(this.SUBRULE(this.param));
        this.MANY(() => {
          this.CONSUME(t.Comma);
          this.OPTION2(() => params.push(this.SUBRULE2(this.param)));
        });
      });
      this.CONSUME(t.RightParen);
    },
  );

  readonly param: Rule<Param> = this.draftRule<Param>(
    "param",
    () => ({ kind: "Param", variadic: false, name: this.noName(), type: undefined, default: undefined }),
    (draft) => {
      this.OPTION(() => {
        this.CONSUME(t.Ellipsis);
        draft.variadic = true;
      });
      draft.name = this.ident(this.CONSUME(t.Identifier));
      this.OPTION2(() => {
        this.CONSUME(t.Colon);
        draft.type = this.SUBRULE(this.type);
      });
      this.OPTION3(() => {
        this.CONSUME(t.Equals);
        draft.default = this.SUBRULE(this.pipe);
      });
    },
  );

  // --------------------------------------------------------------------------------------------------------- statements

  readonly body: Rule<Body> = this.draftRule<Body>(
    "body",
    () => ({ kind: "Body", statements: [] }),
    (draft) => {
      const statements: Stmt[] = [];
      draft.statements = statements;
      this.CONSUME(t.LeftBrace);
      this.MANY(() => statements.push(this.SUBRULE(this.statement)));
      this.CONSUME(t.RightBrace);
    },
  );

  readonly statement: Rule<Stmt> = this.rule("statement", "statement", () => {
    const head = this.head();
    this.MANY(() => head.attributes.push(this.SUBRULE(this.attribute)));
    const ARGS: [Head] = [head];
    const statement = this.OR<Stmt>([
      { ALT: () => this.SUBRULE(this.return, { ARGS }) },
      { ALT: () => this.SUBRULE(this.stored, { ARGS }) },
      { ALT: () => this.SUBRULE(this.assert, { ARGS }) },
      { ALT: () => this.SUBRULE(this.assign, { ARGS }) },
    ]);
    this.OPTION(() => this.CONSUME(t.Semicolon));
    return statement;
  });

  readonly return: Rule<Return, [head?: Head]> = this.draftRule<Return, [head?: Head]>(
    "return",
    (head = NO_HEAD) => ({ kind: "Return", ...head, value: this.missing("expression") }),
    (draft) => {
      this.CONSUME(t.RESERVED.return);
      draft.value = this.SUBRULE(this.headline);
    },
  );

  readonly stored: Rule<Stored, [head?: Head]> = this.draftRule<Stored, [head?: Head]>(
    "stored",
    (head = NO_HEAD) => ({
      kind: "Stored",
      ...head,
      what: "param",
      name: this.noName(),
      type: this.missing("type"),
      init: undefined,
      when: undefined,
    }),
    (draft) => {
      draft.what = this.OR<Stored["what"]>([
        { ALT: () => (this.CONSUME(t.SOFT.param), "param") },
        { ALT: () => (this.CONSUME(t.SOFT.state), "state") },
      ]);
      draft.name = this.ident(this.CONSUME(t.Identifier));
      this.CONSUME(t.Colon);
      draft.type = this.SUBRULE(this.type);
      this.OPTION(() => {
        this.CONSUME(t.Equals);
        draft.init = this.SUBRULE(this.pipe);
      });
      this.OPTION2(() => {
        this.CONSUME(t.RESERVED.when);
        draft.when = this.SUBRULE(this.expression);
      });
    },
  );

  /** Item and statement alike. */
  readonly assert: Rule<Assert, [head?: Head]> = this.draftRule<Assert, [head?: Head]>(
    "assert",
    (head = NO_HEAD) => ({ kind: "Assert", ...head, test: this.missing("expression"), message: undefined }),
    (draft) => {
      this.CONSUME(t.RESERVED.assert);
      draft.test = this.SUBRULE(this.expression);
      this.OPTION(() => {
        this.CONSUME(t.Comma);
        draft.message = this.SUBRULE(this.string);
      });
    },
  );

  readonly assign: Rule<Assign, [head?: Head]> = this.draftRule<Assign, [head?: Head]>(
    "assign",
    (head = NO_HEAD) => ({ kind: "Assign", ...head, names: [], type: undefined, value: this.missing("expression") }),
    (draft) => {
      const names = [this.ident(this.CONSUME(t.Identifier))];
      draft.names = names;
      this.MANY(() => {
        this.CONSUME(t.Comma);
        names.push(this.ident(this.CONSUME2(t.Identifier)));
      });
      this.OPTION(() => {
        this.CONSUME(t.Colon);
        draft.type = this.SUBRULE(this.type);
      });
      this.CONSUME(t.Equals);
      draft.value = this.SUBRULE(this.headline);
    },
  );
}
