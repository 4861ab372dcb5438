/**
 * Names checked without elaborating anything, so that a block nobody uses yet is checked too (language 5.1).
 *
 * In: the modules that were loaded. Reported: names that stand for nothing (E0201), names given twice in a body (E0204),
 * blocks that use themselves (E0205), parameters that a block does not have (E0401) and layers where a tensor is meant
 * (E0405). What elaboration would say again it says in the same words, which are reported once.
 */
import type { Body, Callable, Clause, Expr, Ident, Item, Node, Recipe, Type } from "../../grammar/ast.ts";
import { diagnostic, span } from "../../grammar/diagnostic.ts";
import { suggest } from "../../grammar/suggest.ts";
import { layerInArithmetic } from "./arithmetic.ts";
import { BUILTINS } from "./builtins.ts";
import { newBuild, topContext } from "./draft.ts";
import { unknownName } from "./evaluate.ts";
import { attempt, isLibrary, report, spanOf } from "./failure.ts";
import { BARE, findBinding, type Module, type Program, visibleNames } from "./modules.ts";
import { unknownArgument } from "./parameters.ts";
import { signatureOf } from "./types.ts";
import { type Context, isBlock, type Local, UNKNOWN, type Value } from "./values.ts";

/** Type names that the language itself knows. */
const TYPE_NAMES: readonly string[] = [
  "int",
  "float",
  "string",
  "bool",
  "block",
  "unit",
  "dtype",
  "axis",
  "recipe",
  "position",
  "list",
  "none",
];

/** Stands for a parameter of type `block` in the tables of names. */
const A_LAYER: Value = { kind: "layer", form: "fan", members: [] };

/**
 * Checks every file of the project that was loaded. True if nothing can be made of it: a block uses itself, or a type is
 * unknown, so that inputs cannot be told from parameters.
 */
export function checkNames(program: Program): boolean {
  let hopeless = false;
  for (const module of program.modules.values()) {
    if (isLibrary(module.source) && module.source !== program.root) continue;
    const context = topContext(newBuild(program, new Map()), module);
    const uses = new Map<Item, Map<Callable, Node>>();
    for (const item of module.file.items) {
      const mentioned = new Map<Callable, Node>();
      uses.set(item, mentioned);
      const walk: Walk = { context, mentioned, unknownTypes: new Set() };
      checkItem(item, walk);
      if (walk.unknownTypes.size > 0) hopeless = true;
    }
    hopeless = checkRecursion(module, uses, program) || hopeless;
  }
  return hopeless;
}

/** Where names are looked up, and which callables were met. */
interface Walk {
  readonly context: Context;
  readonly mentioned: Map<Callable, Node>;
  readonly unknownTypes: Set<string>;
}

function checkItem(item: Item, walk: Walk): void {
  switch (item.kind) {
    case "Const":
      return checkExpr(item.value, walk);
    case "BareModel":
      return checkExpr(item.value, walk);
    case "Callable":
      return checkCallable(item, walk);
    case "TypeAlias":
      return checkType(
        item.type,
        inner(
          walk,
          item.params.map((param) => param.name),
        ),
        true,
      );
    case "Weights":
      return checkExpr(item.target, walk);
    case "Recipe":
      return checkRecipe(item, walk);
    // Assertions may speak of the sizes of a model; searches have words of their own.
    case "Assert":
    case "Import":
    case "ReExport":
    case "Search":
    case "Error":
      return;
    default:
      item satisfies never;
  }
}

/** The words of a recipe's settings are known to compiler/recipe alone. */
function checkRecipe(item: Recipe, walk: Walk): void {
  const bare = walk.context.module.file.items.some((other) => other.kind === "BareModel");
  const toBare = bare && item.target?.kind === "Name" && item.target.name === BARE;
  if (item.target !== undefined && !toBare) checkExpr(item.target, walk);
  for (const param of item.params) {
    if (param.type !== undefined) checkType(param.type, walk, false);
    if (param.default !== undefined) checkExpr(param.default, walk);
  }
}

function inner(walk: Walk, names: readonly Ident[], value: Value = UNKNOWN): Walk {
  const locals = new Map<string, Local>(names.map((ident) => [ident.name, { value, at: spanOf(walk.context, ident) }]));
  return { ...walk, context: { ...walk.context, locals: { names: locals, up: walk.context.locals } } };
}

function give(walk: Walk, ident: Ident, value: Value = UNKNOWN): void {
  walk.context.locals?.names.set(ident.name, { value, at: spanOf(walk.context, ident) });
}

function checkCallable(item: Callable, outer: Walk): void {
  const walk = inner(outer, []);
  const { params, inputs = [] } = signatureOf(item, outer.context.module);
  for (const param of params) {
    if (param.type !== undefined) checkType(param.type, walk, false);
    if (param.default !== undefined) checkExpr(param.default, walk);
    const layer =
      param.type?.kind === "NamedType" && ["block", "unit"].includes(param.type.path.segments[0]?.name ?? "");
    give(walk, param.name, layer ? A_LAYER : UNKNOWN);
  }
  for (const param of inputs) if (param.type !== undefined) checkType(param.type, walk, true);
  for (const param of inputs) give(walk, param.name);
  for (const fact of item.where) {
    if (fact.definition !== undefined) checkExpr(fact.definition, walk);
    if (fact.definition !== undefined && fact.left.kind === "Name") give(walk, fact.left);
    else checkExpr(fact.left, walk);
  }
  if (item.output !== undefined) checkType(item.output, walk, true);
  for (const over of item.defaultOver?.inputs ?? []) checkType(over.type, inner(walk, []), true);
  if (item.value !== undefined) checkExpr(item.value, walk);
  if (item.body !== undefined) checkBody(item.body, walk);
}

function checkBody(body: Body, walk: Walk): void {
  const taken = new Map<string, Local>(walk.context.locals?.names ?? []);
  const name = (ident: Ident, continued: boolean): void => {
    const first = taken.get(ident.name);
    if (first === undefined) taken.set(ident.name, { value: UNKNOWN, at: spanOf(walk.context, ident) });
    else givenTwice(ident, first, continued, walk);
    give(walk, ident);
  };
  for (const statement of body.statements) {
    switch (statement.kind) {
      case "Return":
        checkExpr(statement.value, walk);
        break;
      case "Assert":
        checkExpr(statement.test, walk);
        break;
      case "Assign": {
        // A statement that runs over several lines may have swallowed the next one (E0105); evaluating it tells better.
        const lines = walk.context.module.source.text.slice(statement.start, statement.end).includes("\n");
        checkExpr(statement.value, lines ? inner(walk, statement.names) : walk);
        if (statement.type !== undefined) checkType(statement.type, walk, true);
        for (const ident of statement.names)
          name(ident, statement.value.kind === "Pipe" && statement.names.length === 1);
        break;
      }
      case "Stored":
        checkType(statement.type, walk, false);
        if (statement.init !== undefined) checkExpr(statement.init, walk);
        if (statement.when !== undefined) checkExpr(statement.when, walk);
        name(statement.name, false);
        break;
      case "Error":
        break;
      default:
        statement satisfies never;
    }
  }
}

function givenTwice(ident: Ident, first: Local, continued: boolean, walk: Walk): void {
  const { build } = walk.context;
  report(
    build.program.reports,
    diagnostic("E0204", `\`${ident.name}\` already has a value`, spanOf(walk.context, ident), {
      label: "a name is given once",
      secondary: [{ span: first.at, text: "first given here" }],
      helps: [
        continued ? "continue the pipeline where the name was given, or choose another name" : "choose another name",
      ],
    }),
  );
}

// ---------------------------------------------------------------------------------------------------------------- types

/** With `binds`, size names without a value are given by the type itself: `[N, C, H, W]`. */
function checkType(type: Type, walk: Walk, binds: boolean): void {
  switch (type.kind) {
    case "TensorType":
      for (const dim of type.dims ?? []) {
        if (dim.kind === "RestDim" && dim.name !== undefined && binds) give(walk, dim.name);
        if (dim.kind !== "SizeDim") continue;
        if (binds) bindSizes(dim.size, walk);
        checkExpr(dim.size, walk);
      }
      return;
    case "NamedType": {
      const [head] = type.path.segments;
      const name = head?.name ?? "";
      const known =
        TYPE_NAMES.includes(name) ||
        walk.context.locals?.names.has(name) === true ||
        findBinding(walk.context.module, name) !== undefined;
      if (!known && name !== "" && type.path.broken !== true) unknownType(name, type, walk);
      for (const arg of type.typeArgs) checkType(arg, walk, binds);
      for (const arg of type.args ?? []) checkExpr(arg.value, walk);
      return;
    }
    case "TupleType":
      for (const item of type.items) checkType(item, walk, binds);
      return;
    case "OptionalType":
      return checkType(type.type, walk, binds);
    case "UnionType":
      for (const option of type.options) checkType(option, walk, binds);
      return;
    case "LiteralType":
    case "Error":
      return;
    default:
      return type satisfies never;
  }
}

function unknownType(name: string, type: Node, walk: Walk): void {
  walk.unknownTypes.add(name);
  const at = spanOf(walk.context, type);
  const near = suggest(name, [...TYPE_NAMES, ...visibleNames(walk.context.module)]);
  report(
    walk.context.build.program.reports,
    diagnostic("E0201", `no type is called \`${name}\``, at, {
      label: "not found",
      helps:
        near === undefined
          ? []
          : [
              {
                text: `did you mean \`${near}\`?`,
                edits: [{ span: { ...at, end: at.start + name.length }, replacement: near }],
              },
            ],
    }),
  );
}

function bindSizes(size: Expr, walk: Walk): void {
  if (size.kind === "Group" || size.kind === "Unary") return bindSizes(size.value, walk);
  if (size.kind === "Binary") {
    bindSizes(size.left, walk);
    bindSizes(size.right, walk);
  }
  if (size.kind !== "Name" || isKnown(size.name, walk)) return;
  give(walk, size);
}

// ---------------------------------------------------------------------------------------------------------- expressions

function isKnown(name: string, walk: Walk): boolean {
  for (let locals = walk.context.locals; locals !== undefined; locals = locals.up)
    if (locals.names.has(name)) return true;
  return findBinding(walk.context.module, name) !== undefined || BUILTINS.has(name);
}

/** What a name stands for if that can be said without evaluating anything. */
function staticValue(expr: Expr, walk: Walk): Value | undefined {
  if (expr.kind !== "Name") return undefined;
  for (let locals = walk.context.locals; locals !== undefined; locals = locals.up) {
    const local = locals.names.get(expr.name);
    if (local !== undefined) return local.value;
  }
  const cell = findBinding(walk.context.module, expr.name)?.cell;
  return cell?.state.kind === "value" ? cell.state.value : undefined;
}

function checkExpr(expr: Expr, walk: Walk): void {
  const all = (exprs: readonly Expr[]): void => {
    for (const each of exprs) checkExpr(each, walk);
  };
  switch (expr.kind) {
    case "Name": {
      const value = staticValue(expr, walk);
      if (value !== undefined && isBlock(value) && !walk.mentioned.has(value.declaration))
        walk.mentioned.set(value.declaration, expr);
      if (!isKnown(expr.name, walk)) attempt(() => unknownName(expr, walk.context));
      return;
    }
    case "Group":
    case "Unary":
      return checkExpr(expr.value, walk);
    case "Tuple":
    case "List":
    case "Set":
      return all(expr.items);
    case "If":
      return all([expr.condition, expr.then, ...(expr.else === undefined ? [] : [expr.else])]);
    case "Loop":
      checkExpr(expr.over, walk);
      return checkExpr(expr.body, inner(walk, expr.variables));
    case "Binary":
      all([expr.left, expr.right]);
      return checkOperands(expr, walk);
    case "Times":
      return all([expr.left, expr.right]);
    case "Range":
      return all([expr.from, expr.to]);
    case "Call":
      checkExpr(expr.callee, walk);
      all(expr.args.map((arg) => arg.value));
      return checkArguments(expr, walk);
    // Cuts are positions, which are not names.
    case "Slice":
      return checkExpr(expr.of, walk);
    case "Index":
      return all([expr.of, expr.index]);
    case "Field":
    case "Tap":
      return checkExpr(expr.of, walk);
    case "Pipe":
      return all(expr.stages);
    case "Headline":
      checkExpr(expr.value, walk);
      for (const clause of expr.clauses) checkClause(clause, walk);
      return;
    case "Number":
    case "Size":
    case "String":
    case "Bool":
    case "None":
    case "DType":
    case "PositionLit":
    case "Error":
      return;
    default:
      expr satisfies never;
  }
}

function checkClause(clause: Clause, walk: Walk): void {
  switch (clause.kind) {
    case "With":
      return checkExpr(clause.unit, walk);
    case "Fuse":
      return checkExpr(clause.by, walk);
    case "From":
      return checkExpr(clause.source, walk);
    case "Over":
      for (const input of clause.inputs) checkType(input.type, inner(walk, []), true);
      return;
    case "Sharing":
    case "Error":
      return;
    default:
      clause satisfies never;
  }
}

function checkOperands(expr: Expr & { readonly kind: "Binary" }, walk: Walk): void {
  if (!["+", "-", "*", "/"].includes(expr.op)) return;
  const isNetwork = (side: Expr): boolean => {
    const value = staticValue(side, walk);
    return value === A_LAYER || (value !== undefined && isBlock(value) && value.declaration.keyword !== "op");
  };
  const [left, right] = [isNetwork(expr.left), isNetwork(expr.right)];
  if ((!left && !right) || expr.op === "*") return;
  attempt(() => layerInArithmetic(expr, left ? A_LAYER : UNKNOWN, right ? A_LAYER : UNKNOWN, walk.context));
}

function checkArguments(expr: Expr & { readonly kind: "Call" }, walk: Walk): void {
  const value = staticValue(expr.callee, walk);
  if (value === undefined || !isBlock(value) || value.declaration.keyword === "op") return;
  const { params } = signatureOf(value.declaration, value.module);
  if (params.some((param) => param.variadic)) return;
  const callee = { name: value.declaration.name.name, params, module: value.module };
  for (const arg of expr.args) {
    const { name } = arg;
    if (name === undefined || params.some((param) => param.name.name === name.name)) continue;
    const given = { name: name.name, value: UNKNOWN, node: arg };
    attempt(() => unknownArgument(callee, given, [given], { context: walk.context, node: expr }));
  }
}

// ------------------------------------------------------------------------------------------------------------ recursion

/** Blocks may use one another but not in a circle: then elaboration would not end. */
function checkRecursion(
  module: Module,
  uses: ReadonlyMap<Item, ReadonlyMap<Callable, Node>>,
  program: Program,
): boolean {
  const state = new Map<Item, "open" | "done">();
  let found = false;
  const visit = (item: Callable, path: readonly Callable[]): void => {
    state.set(item, "open");
    for (const [used, at] of uses.get(item) ?? []) {
      if (state.get(used) === "open") {
        found = true;
        const circle = [...path.slice(path.indexOf(used)), used].map((each) => `\`${each.name.name}\``);
        const message =
          circle.length === 2 ? `\`${used.name.name}\` uses itself` : "these blocks use each other in a circle";
        report(
          program.reports,
          diagnostic("E0205", message, span(module.source, at), {
            label: "closes the circle",
            notes: circle.length === 2 ? [] : [circle.join(" uses ")],
            helps: ["`repeat` stacks a block several times"],
          }),
        );
      } else if (state.get(used) === undefined) visit(used, [...path, used]);
    }
    state.set(item, "done");
  };
  for (const item of module.file.items)
    if (item.kind === "Callable" && state.get(item) === undefined) visit(item, [item]);
  return found;
}
