/**
 * Rules for what stands beside a model: weights, recipes, searches; and the rule of a whole file.
 *
 * A recipe's settings are names with values or with more settings; which names mean something is not the grammar's
 * affair.
 */
import type {
  Choose,
  File,
  Item,
  MapRule,
  Objective,
  Path,
  Recipe,
  Require,
  Search,
  SearchStmt,
  Setting,
  Settings,
  SkipRule,
  StringLit,
  WeightRule,
  Weights,
} from "../ast.ts";
import * as t from "../tokens.ts";
import { type Head, NO_HEAD, type ParserOptions, type Rule } from "./core.ts";
import { ItemParser } from "./items.ts";

interface Tail {
  readonly label: StringLit | undefined;
  readonly value: Setting["value"];
  readonly settings: Settings | undefined;
}

const ITEM_KINDS: ReadonlySet<unknown> = new Set<Item["kind"]>([
  "Import",
  "ReExport",
  "Const",
  "TypeAlias",
  "Callable",
  "Weights",
  "Recipe",
  "Search",
  "Assert",
]);

function isItem(value: unknown): value is Item {
  return typeof value === "object" && value !== null && "kind" in value && ITEM_KINDS.has(value.kind);
}

/** The parser of `.net` files. One instance reads any number of them, one after the other. */
export class NetParser extends ItemParser {
  constructor(options: ParserOptions = {}) {
    super(options);
    this.performSelfAnalysis();
  }

  readonly file: Rule<File> = this.draftRule<File>(
    "file",
    () => ({ kind: "File", edition: undefined, items: [] }),
    (draft) => {
      const items: Item[] = [];
      draft.items = items;
      this.OPTION(() => {
        this.CONSUME(t.SOFT.edition);
        draft.edition = this.ident(this.CONSUME(t.NumberToken));
        this.OPTION2(() => this.CONSUME(t.Semicolon));
      });
      this.MANY(() => items.push(this.SUBRULE(this.item)));
      this.OPTION3(() => items.push(this.SUBRULE(this.bareModel)));
    },
  );

  /** Items only: how a part of a file is read that begins with one. What an error cuts short is kept. */
  readonly items: Rule<readonly Item[]> = this.listRule<Item>("items", (list) => {
    try {
      this.MANY(() => list.push(this.SUBRULE(this.item)));
    } catch (error) {
      const cut = this.takeCut();
      if (isItem(cut)) list.push(cut);
      throw error;
    }
  });

  // ------------------------------------------------------------------------------------------------------------ weights

  readonly weights: Rule<Weights, [head?: Head]> = this.draftRule<Weights, [head?: Head]>(
    "weights",
    (head = NO_HEAD) => ({
      kind: "Weights",
      ...head,
      name: this.noName(),
      target: this.missing("expression"),
      from: undefined,
      rules: [],
    }),
    (draft) => {
      const rules: WeightRule[] = [];
      draft.rules = rules;
      this.CONSUME(t.SOFT.weights);
      draft.name = this.ident(this.CONSUME(t.Identifier));
      this.CONSUME(t.RESERVED.for);
      draft.target = this.SUBRULE(this.postfix);
      this.OPTION(() => {
        this.CONSUME(t.RESERVED.from);
        draft.from = this.SUBRULE(this.side);
      });
      this.CONSUME(t.LeftBrace);
      this.MANY(() => rules.push(this.SUBRULE(this.weightRule)));
      this.CONSUME(t.RightBrace);
    },
  );

  readonly weightRule: Rule<WeightRule> = this.rule("weightRule", "rule", () => {
    const rule = this.OR<WeightRule>([
      { ALT: () => this.SUBRULE(this.weightSetting) },
      { ALT: () => this.SUBRULE(this.skipRule) },
      { ALT: () => this.SUBRULE(this.mapRule) },
    ]);
    this.OPTION(() => this.CONSUME(t.Semicolon));
    return rule;
  });

  readonly weightSetting: Rule<Setting> = this.draftRule<Setting>(
    "weightSetting",
    () => ({ kind: "Setting", name: this.noName(), label: undefined, value: undefined, settings: undefined }),
    (draft) => {
      draft.name = this.ident(this.CONSUME(t.Identifier));
      this.CONSUME(t.Equals);
      draft.value = this.SUBRULE(this.pipe);
    },
  );

  readonly skipRule: Rule<SkipRule> = this.draftRule<SkipRule>(
    "skipRule",
    () => ({ kind: "SkipRule", what: this.noString() }),
    (draft) => {
      this.CONSUME(t.SOFT.skip);
      draft.what = this.SUBRULE(this.side);
    },
  );

  readonly mapRule: Rule<MapRule> = this.draftRule<MapRule>(
    "mapRule",
    () => ({ kind: "MapRule", to: this.noString(), from: this.noString(), via: undefined }),
    (draft) => {
      draft.to = this.SUBRULE(this.side);
      this.CONSUME(t.RESERVED.from);
      draft.from = this.SUBRULE2(this.side);
      this.OPTION(() => {
        this.CONSUME(t.SOFT.via);
        draft.via = this.SUBRULE(this.postfix);
      });
    },
  );

  /** A pattern or a position: one side of a rule. */
  readonly side: Rule<StringLit | Path> = this.RULE(
    "side",
    () => this.OR<StringLit | Path>([{ ALT: () => this.SUBRULE(this.string) }, { ALT: () => this.SUBRULE(this.path) }]),
    { recoveryValueFunc: () => this.noString() },
  );

  // ------------------------------------------------------------------------------------------------------------- recipe

  readonly recipe: Rule<Recipe, [head?: Head]> = this.draftRule<Recipe, [head?: Head]>(
    "recipe",
    (head = NO_HEAD) => ({
      kind: "Recipe",
      ...head,
      name: this.noName(),
      params: [],
      target: undefined,
      settings: { kind: "Settings", items: [], start: this.here(), end: this.here() },
    }),
    (draft) => {
      this.CONSUME(t.SOFT.recipe);
      draft.name = this.ident(this.CONSUME(t.Identifier));
      this.OPTION(() => {
        draft.params = this.SUBRULE(this.paramList).params;
      });
      this.OPTION2(() => {
        this.CONSUME(t.RESERVED.for);
        draft.target = this.SUBRULE(this.postfix);
      });
      draft.settings = this.SUBRULE(this.settings);
    },
  );

  readonly settings: Rule<Settings> = this.draftRule<Settings>(
    "settings",
    () => ({ kind: "Settings", items: [] }),
    (draft) => {
      const items: Setting[] = [];
      draft.items = items;
      this.CONSUME(t.LeftBrace);
      this.MANY(() => items.push(this.SUBRULE(this.setting)));
      this.CONSUME(t.RightBrace);
    },
  );

  readonly setting: Rule<Setting> = this.draftRule<Setting>(
    "setting",
    () => ({ kind: "Setting", name: this.noName(), label: undefined, value: undefined, settings: undefined }),
    (draft) => {
      draft.name = this.ident(this.CONSUME(t.Word));
      Object.assign(draft, this.SUBRULE(this.tail));
    },
  );

  /** `= value`, `{ … }` or `"label" { … }`. */
  readonly tail: Rule<Tail> = this.RULE(
    "tail",
    (): Tail => {
      let label: StringLit | undefined;
      let value: Setting["value"];
      let settings: Settings | undefined;
      this.OR([
        {
          ALT: () => {
            this.CONSUME(t.Equals);
            value = this.SUBRULE(this.headline);
          },
        },
        {
          ALT: () => {
            label = this.OPTION(() => this.SUBRULE(this.string));
            settings = this.SUBRULE(this.settings);
          },
        },
      ]);
      this.OPTION2(() => this.CONSUME(t.Semicolon));
      return { label, value, settings };
    },
    { recoveryValueFunc: () => ({ label: undefined, value: this.missing("expression"), settings: undefined }) },
  );

  // ------------------------------------------------------------------------------------------------------------- search

  readonly search: Rule<Search, [head?: Head]> = this.draftRule<Search, [head?: Head]>(
    "search",
    (head = NO_HEAD) => ({ kind: "Search", ...head, name: this.noName(), params: [], statements: [] }),
    (draft) => {
      const statements: SearchStmt[] = [];
      draft.statements = statements;
      this.CONSUME(t.SOFT.search);
      draft.name = this.ident(this.CONSUME(t.Identifier));
      this.OPTION(() => {
        draft.params = this.SUBRULE(this.paramList).params;
      });
      this.CONSUME(t.LeftBrace);
      this.MANY(() => statements.push(this.SUBRULE(this.searchStatement)));
      this.CONSUME(t.RightBrace);
    },
  );

  readonly searchStatement: Rule<SearchStmt> = this.rule("searchStatement", "statement", () => {
    const statement = this.OR<SearchStmt>([
      { ALT: () => this.SUBRULE(this.choose) },
      { ALT: () => this.SUBRULE(this.objective) },
      { ALT: () => this.SUBRULE(this.require) },
      { ALT: () => this.SUBRULE(this.searchSetting) },
    ]);
    this.OPTION(() => this.CONSUME(t.Semicolon));
    return statement;
  });

  readonly choose: Rule<Choose> = this.draftRule<Choose>(
    "choose",
    () => ({ kind: "Choose", name: this.noName(), domain: this.missing("expression"), when: undefined }),
    (draft) => {
      this.CONSUME(t.RESERVED.choose);
      draft.name = this.ident(this.CONSUME(t.Identifier));
      this.CONSUME(t.RESERVED.in);
      draft.domain = this.SUBRULE(this.expression);
      this.OPTION(() => {
        this.CONSUME(t.RESERVED.when);
        draft.when = this.SUBRULE2(this.expression);
      });
    },
  );

  readonly objective: Rule<Objective> = this.draftRule<Objective>(
    "objective",
    () => ({ kind: "Objective", how: "maximize", value: this.missing("expression") }),
    (draft) => {
      draft.how = this.OR<Objective["how"]>([
        { ALT: () => (this.CONSUME(t.RESERVED.maximize), "maximize") },
        { ALT: () => (this.CONSUME(t.RESERVED.minimize), "minimize") },
      ]);
      draft.value = this.SUBRULE(this.pipe);
    },
  );

  readonly require: Rule<Require> = this.draftRule<Require>(
    "require",
    () => ({ kind: "Require", tests: [] }),
    (draft) => {
      this.CONSUME(t.RESERVED.require);
      const tests = [this.SUBRULE(this.expression)];
      draft.tests = tests;
      this.MANY(() => {
        this.CONSUME(t.Comma);
        tests.push(this.SUBRULE2(this.expression));
      });
    },
  );

  readonly searchSetting: Rule<Setting> = this.draftRule<Setting>(
    "searchSetting",
    () => ({ kind: "Setting", name: this.noName(), label: undefined, value: undefined, settings: undefined }),
    (draft) => {
      draft.name = this.ident(this.CONSUME(t.Identifier));
      Object.assign(draft, this.SUBRULE(this.tail));
    },
  );
}
