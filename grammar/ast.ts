/**
 * The syntax tree of the `.net` language.
 *
 * One record type per construct, told apart by `kind`; every node carries the half-open range of offsets it was read
 * from. The tree is what the parser saw, nothing more: names are unresolved, numbers are text with a value, and a
 * construct cut short by a syntax error is an `ErrorNode` (or has `broken: true`), so that the rest can be checked.
 * Field names are those of specs/language.md, section "Grammar".
 */

export interface Node {
  /** Half-open range of UTF-16 offsets in the source. */
  readonly start: number;
  readonly end: number;
  /** Set where a syntax error cut the construct short. */
  readonly broken?: true;
}

/** Stands where something could not be read. Whoever meets it stays silent: the syntax error was reported already. */
export interface ErrorNode extends Node {
  readonly kind: "Error";
  /** What was wanted: "expression", "type", … */
  readonly wanted: string;
}

/** A name with its own place, for labels and suggestions. */
export interface Ident extends Node {
  readonly name: string;
}

// ---------------------------------------------------------------------------------------------------------------- file

export interface File extends Node {
  readonly kind: "File";
  readonly edition: Ident | undefined;
  readonly items: readonly Item[];
}

export type Item =
  | Import
  | ReExport
  | Const
  | TypeAlias
  | Callable
  | Weights
  | Recipe
  | Search
  | Assert
  | BareModel
  | ErrorNode;

/** `#[name(args)]` before an item or a statement. */
export interface Attribute extends Node {
  readonly kind: "Attribute";
  readonly name: Ident;
  readonly args: readonly Arg[];
}

/** Items and statements may carry attributes and a `///` comment. */
export interface Documented {
  readonly attributes: readonly Attribute[];
  /** Text of the `///` lines right before, joined by newlines, markers removed. */
  readonly doc: string | undefined;
}

export interface ImportName extends Node {
  readonly name: Ident;
  readonly as: Ident | undefined;
}

/** `import { A as B } from "path"` or `import * as ns from "path"`. */
export interface Import extends Node, Documented {
  readonly kind: "Import";
  readonly names: readonly ImportName[] | undefined;
  readonly namespace: Ident | undefined;
  readonly from: StringLit;
}

/** `export { A } from "path"`. */
export interface ReExport extends Node, Documented {
  readonly kind: "ReExport";
  readonly names: readonly ImportName[];
  readonly from: StringLit;
}

export interface Const extends Node, Documented {
  readonly kind: "Const";
  readonly name: Ident;
  readonly type: Type | undefined;
  readonly value: Expr;
}

export interface TypeAlias extends Node, Documented {
  readonly kind: "TypeAlias";
  readonly name: Ident;
  readonly params: readonly Param[];
  readonly type: Type;
}

/** `block`, `unit`, `op` and `model` declarations. */
export interface Callable extends Node, Documented {
  readonly kind: "Callable";
  readonly keyword: "block" | "unit" | "op" | "model";
  readonly extern: boolean;
  readonly private: boolean;
  readonly name: Ident;
  /** Zero, one or two parameter lists, as written; which is which is decided by the elaborator (language 5.3). */
  readonly lists: readonly ParamList[];
  /** The type after `->`. */
  readonly output: Type | undefined;
  readonly where: readonly Fact[];
  readonly defaultOver: Over | undefined;
  /** The right side of `=`. */
  readonly value: Expr | undefined;
  readonly body: Body | undefined;
}

export interface ParamList extends Node {
  readonly params: readonly Param[];
}

export interface Param extends Node {
  readonly kind: "Param";
  readonly variadic: boolean;
  readonly name: Ident;
  readonly type: Type | undefined;
  readonly default: Expr | undefined;
}

/** `C % groups == 0` (a test) or `H' = …` (a definition: `left` is the name, `definition` its value). */
export interface Fact extends Node {
  readonly kind: "Fact";
  readonly left: Expr;
  readonly definition: Expr | undefined;
}

/** A last line without a keyword: the one-line program. */
export interface BareModel extends Node, Documented {
  readonly kind: "BareModel";
  readonly value: Expr;
}

// ----------------------------------------------------------------------------------------------------------- statements

export interface Body extends Node {
  readonly kind: "Body";
  readonly statements: readonly Stmt[];
}

export type Stmt = Return | Stored | Assert | Assign | ErrorNode;

export interface Return extends Node, Documented {
  readonly kind: "Return";
  readonly value: Expr;
}

/** `param weight: [O, I] = init when cond`, or `state …`. */
export interface Stored extends Node, Documented {
  readonly kind: "Stored";
  readonly what: "param" | "state";
  readonly name: Ident;
  readonly type: Type;
  readonly init: Expr | undefined;
  readonly when: Expr | undefined;
}

export interface Assert extends Node, Documented {
  readonly kind: "Assert";
  readonly test: Expr;
  readonly message: StringLit | undefined;
}

/** `a, b: type = value`. */
export interface Assign extends Node, Documented {
  readonly kind: "Assign";
  readonly names: readonly Ident[];
  readonly type: Type | undefined;
  readonly value: Expr;
}

// ---------------------------------------------------------------------------------------------------------------- types

export type Type = TensorType | NamedType | TupleType | LiteralType | OptionalType | UnionType | ErrorNode;

/** `f32[N, C]`, `[N, C]` (`dtype` undefined) or a bare `f32` (`dims` undefined: a scalar). */
export interface TensorType extends Node {
  readonly kind: "TensorType";
  readonly dtype: DType | undefined;
  readonly dims: readonly Dim[] | undefined;
}

export type DType =
  | "f16"
  | "f32"
  | "f64"
  | "bf16"
  | "i8"
  | "i16"
  | "i32"
  | "i64"
  | "u8"
  | "u16"
  | "u32"
  | "u64"
  | "bool";

/** `...B` (`rest: true`), `C=3` (labelled) or a size expression. */
export type Dim = SizeDim | RestDim | ErrorNode;
export interface SizeDim extends Node {
  readonly kind: "SizeDim";
  readonly label: Ident | undefined;
  readonly size: Expr;
}
export interface RestDim extends Node {
  readonly kind: "RestDim";
  readonly name: Ident | undefined;
}

/** `int`, `list<int>`, `Flow(L=5)`. */
export interface NamedType extends Node {
  readonly kind: "NamedType";
  readonly path: Path;
  readonly typeArgs: readonly Type[];
  readonly args: readonly Arg[] | undefined;
}

export interface TupleType extends Node {
  readonly kind: "TupleType";
  readonly items: readonly Type[];
}

/** `"same"` as a type: exactly this string. */
export interface LiteralType extends Node {
  readonly kind: "LiteralType";
  readonly value: StringLit;
}

export interface OptionalType extends Node {
  readonly kind: "OptionalType";
  readonly type: Type;
}

export interface UnionType extends Node {
  readonly kind: "UnionType";
  readonly options: readonly Type[];
}

// --------------------------------------------------------------------------------------------------------- the headline

/** A pipeline with clauses. A pipeline without clauses is just its expression. */
export interface Headline extends Node {
  readonly kind: "Headline";
  readonly value: Expr;
  readonly clauses: readonly Clause[];
}

export type Clause = Over | Sharing | With | Fuse | From | ErrorNode;

export interface Over extends Node {
  readonly kind: "Over";
  readonly inputs: readonly OverItem[];
}
export interface OverItem extends Node {
  readonly kind: "OverItem";
  readonly name: Ident | undefined;
  readonly type: Type;
}
export interface Sharing extends Node {
  readonly kind: "Sharing";
  readonly at: Positions;
}
export interface With extends Node {
  readonly kind: "With";
  readonly unit: Expr;
  readonly between: readonly Ident[] | undefined;
  readonly at: Positions | undefined;
}
export interface Fuse extends Node {
  readonly kind: "Fuse";
  readonly at: Position | undefined;
  readonly by: Expr;
}
export interface From extends Node {
  readonly kind: "From";
  readonly source: Expr;
}

export interface Positions extends Node {
  readonly kind: "Positions";
  readonly items: readonly Position[];
}

/** `before conv3`, `(spatial.conv4, temporal.conv3)`, `conv3..conv5`. */
export interface Position extends Node {
  readonly kind: "Position";
  readonly side: "before" | "after" | undefined;
  /** One path, or a tuple of paths (one for each stream). */
  readonly from: Path | PathTuple;
  readonly to: Path | undefined;
}

export interface PathTuple extends Node {
  readonly kind: "PathTuple";
  readonly items: readonly Path[];
}

/** `layer3[2].conv2`, `*.fc8`; a leading `@` is allowed and means nothing here. */
export interface Path extends Node {
  readonly kind: "Path";
  readonly segments: readonly Segment[];
}

export interface Segment extends Node {
  /** A name, or `*`. */
  readonly name: string;
  readonly index: Expr | Every | undefined;
}

/** `[*]`. */
export interface Every extends Node {
  readonly kind: "Every";
}

// ---------------------------------------------------------------------------------------------------------- expressions

export type Expr =
  | Name
  | NumberLit
  | SizeLit
  | StringLit
  | BoolLit
  | NoneLit
  | DTypeLit
  | PositionLit
  | Group
  | Tuple
  | List
  | SetLit
  | If
  | Loop
  | Unary
  | Binary
  | Range
  | Call
  | Slice
  | Index
  | Field
  | Tap
  | Times
  | Pipe
  | Headline
  | ErrorNode;

export interface Name extends Node {
  readonly kind: "Name";
  readonly name: string;
}

export interface NumberLit extends Node {
  readonly kind: "Number";
  /** As written: `300M`, `138_357_544`, `1e-3`. */
  readonly text: string;
  /** Its value, suffix applied (`300M` = 3e8, `1KiB` = 1024, `2ms` = 0.002). */
  readonly value: number;
}

/** `3x3`, `2x2x2`: a tuple of integers in one token. */
export interface SizeLit extends Node {
  readonly kind: "Size";
  readonly values: readonly number[];
}

export interface StringLit extends Node {
  readonly kind: "String";
  /** Contents with escapes resolved; `{…}` is left as it is (only position names fill it in). */
  readonly value: string;
}

export interface BoolLit extends Node {
  readonly kind: "Bool";
  readonly value: boolean;
}
export interface NoneLit extends Node {
  readonly kind: "None";
}
export interface DTypeLit extends Node {
  readonly kind: "DType";
  readonly name: DType;
}

/** `@conv3`: a position as a value. */
export interface PositionLit extends Node {
  readonly kind: "PositionLit";
  readonly path: Path;
}

/** `(e)`: grouping, kept so that messages can quote it. */
export interface Group extends Node {
  readonly kind: "Group";
  readonly value: Expr;
}
export interface Tuple extends Node {
  readonly kind: "Tuple";
  readonly items: readonly Expr[];
}
export interface List extends Node {
  readonly kind: "List";
  readonly items: readonly Expr[];
}
export interface SetLit extends Node {
  readonly kind: "Set";
  readonly items: readonly Expr[];
}

export interface If extends Node {
  readonly kind: "If";
  readonly condition: Expr;
  readonly then: Expr;
  readonly else: Expr | undefined;
}

/** `repeat i in 1..3 { … }` (in sequence) and `each k in [1, 3] { … }` (side by side). */
export interface Loop extends Node {
  readonly kind: "Loop";
  readonly how: "repeat" | "each";
  readonly variables: readonly Ident[];
  readonly over: Expr;
  readonly body: Expr;
}

export interface Unary extends Node {
  readonly kind: "Unary";
  readonly op: "-" | "not";
  readonly value: Expr;
}

export type BinaryOp =
  | "or"
  | "and"
  | "=="
  | "!="
  | "<"
  | "<="
  | ">"
  | ">="
  | "in"
  | "is"
  | "+"
  | "-"
  | "*"
  | "/"
  | "%"
  | "^";

/** `≠ ≤ ≥` arrive as their ASCII spelling; `×` is `Times`. */
export interface Binary extends Node {
  readonly kind: "Binary";
  readonly op: BinaryOp;
  /** Where the operator stands. */
  readonly opAt: Node;
  readonly left: Expr;
  readonly right: Expr;
}

/** `a × b`, `a×2`, `a x2`: makes streams (language 5.7). `*` between a block and a number is read by the elaborator. */
export interface Times extends Node {
  readonly kind: "Times";
  readonly opAt: Node;
  readonly left: Expr;
  readonly right: Expr;
}

/** `a..b`, both ends included. */
export interface Range extends Node {
  readonly kind: "Range";
  readonly from: Expr;
  readonly to: Expr;
}

export interface Call extends Node {
  readonly kind: "Call";
  readonly callee: Expr;
  readonly args: readonly Arg[];
  /** Where the opening parenthesis stands (E0105 looks whether it begins a line). */
  readonly open: Node;
}

export interface Arg extends Node {
  readonly kind: "Arg";
  readonly name: Ident | undefined;
  readonly value: Expr;
}

/** `s[..a]`, `s[a..b]`, `s[b..]`: a part of a network. */
export interface Slice extends Node {
  readonly kind: "Slice";
  readonly of: Expr;
  readonly from: Expr | undefined;
  readonly to: Expr | undefined;
}

/** `xs[0]`. */
export interface Index extends Node {
  readonly kind: "Index";
  readonly of: Expr;
  readonly index: Expr;
}

export interface Field extends Node {
  readonly kind: "Field";
  readonly of: Expr;
  readonly name: Ident;
}

/** `layer @name`, `layer @"conv{i}"`: gives a position its name. */
export interface Tap extends Node {
  readonly kind: "Tap";
  readonly of: Expr;
  /** A plain name, or a string whose `{…}` are filled in. */
  readonly name: Ident | StringLit;
}

/** `a -> b -> c`. At least two stages. */
export interface Pipe extends Node {
  readonly kind: "Pipe";
  readonly stages: readonly Expr[];
}

// --------------------------------------------------------------------------------------------- weights, recipe, search

export interface Weights extends Node, Documented {
  readonly kind: "Weights";
  readonly name: Ident;
  readonly target: Expr;
  readonly from: StringLit | Path | undefined;
  readonly rules: readonly WeightRule[];
}

export type WeightRule = Setting | SkipRule | MapRule | ErrorNode;

/** `skip "*.fc8"`. */
export interface SkipRule extends Node {
  readonly kind: "SkipRule";
  readonly what: StringLit | Path;
}

/** `"temporal.{p}" from "{p}" via op`. */
export interface MapRule extends Node {
  readonly kind: "MapRule";
  readonly to: StringLit | Path;
  readonly from: StringLit | Path;
  readonly via: Expr | undefined;
}

export interface Recipe extends Node, Documented {
  readonly kind: "Recipe";
  readonly name: Ident;
  readonly params: readonly Param[];
  readonly target: Expr | undefined;
  readonly settings: Settings;
}

export interface Settings extends Node {
  readonly kind: "Settings";
  readonly items: readonly (Setting | ErrorNode)[];
}

/** `name = value`, `name { … }` or `name "label" { … }`. */
export interface Setting extends Node {
  readonly kind: "Setting";
  readonly name: Ident;
  readonly label: StringLit | undefined;
  readonly value: Expr | undefined;
  readonly settings: Settings | undefined;
}

export interface Search extends Node, Documented {
  readonly kind: "Search";
  readonly name: Ident;
  readonly params: readonly Param[];
  readonly statements: readonly SearchStmt[];
}

export type SearchStmt = Choose | Objective | Require | Setting | ErrorNode;

export interface Choose extends Node {
  readonly kind: "Choose";
  readonly name: Ident;
  readonly domain: Expr;
  readonly when: Expr | undefined;
}
export interface Objective extends Node {
  readonly kind: "Objective";
  readonly how: "maximize" | "minimize";
  readonly value: Expr;
}
export interface Require extends Node {
  readonly kind: "Require";
  readonly tests: readonly Expr[];
}
