/**
 * A syntax tree in one line, for tests: fully bracketed, so that precedence shows.
 *
 * `VGG16 ×2 with SE at conv3` is shown as `(VGG16 × 2) {with SE at conv3}`.
 */
import type { Clause, Expr, Item, Path, Position, Stmt, Type } from "../../grammar/ast.ts";

function list(items: readonly Expr[]): string {
  return items.map(showExpr).join(", ");
}

function showPath(path: Path): string {
  return path.segments
    .map(({ name, index }) => {
      if (index === undefined) return name;
      return `${name}[${index.kind === "Every" ? "*" : showExpr(index)}]`;
    })
    .join(".");
}

function showPosition({ side, from, to }: Position): string {
  const start = from.kind === "Path" ? showPath(from) : `(${from.items.map(showPath).join(", ")})`;
  return `${side === undefined ? "" : `${side} `}${start}${to === undefined ? "" : `..${showPath(to)}`}`;
}

function showClause(clause: Clause): string {
  switch (clause.kind) {
    case "Over":
      return `over ${clause.inputs.map(({ name, type }) => `${name?.name ?? "_"}: ${showType(type)}`).join(", ")}`;
    case "Sharing":
      return `sharing ${clause.at.items.map(showPosition).join(", ")}`;
    case "With": {
      const between = clause.between === undefined ? "" : ` between ${clause.between.map((n) => n.name).join(", ")}`;
      const at = clause.at === undefined ? "" : ` at ${clause.at.items.map(showPosition).join(", ")}`;
      return `with ${showExpr(clause.unit)}${between}${at}`;
    }
    case "Fuse":
      return `fuse ${clause.at === undefined ? "" : `at ${showPosition(clause.at)} `}${showExpr(clause.by)}`;
    case "From":
      return `from ${showExpr(clause.source)}`;
    case "Error":
      return "<error>";
  }
}

export function showType(type: Type): string {
  switch (type.kind) {
    case "TensorType": {
      const dims = type.dims?.map((dim) => {
        if (dim.kind === "Error") return "<error>";
        if (dim.kind === "RestDim") return `...${dim.name?.name ?? ""}`;
        return `${dim.label === undefined ? "" : `${dim.label.name}=`}${showExpr(dim.size)}`;
      });
      return `${type.dtype ?? ""}${dims === undefined ? "" : `[${dims.join(", ")}]`}`;
    }
    case "NamedType": {
      const typeArgs = type.typeArgs.length === 0 ? "" : `<${type.typeArgs.map(showType).join(", ")}>`;
      const args = type.args?.map(
        (arg) => `${arg.name === undefined ? "" : `${arg.name.name}=`}${showExpr(arg.value)}`,
      );
      return `${showPath(type.path)}${typeArgs}${args === undefined ? "" : `(${args.join(", ")})`}`;
    }
    case "TupleType":
      return `(${type.items.map(showType).join(", ")})`;
    case "LiteralType":
      return JSON.stringify(type.value.value);
    case "OptionalType":
      return `${showType(type.type)}?`;
    case "UnionType":
      return type.options.map(showType).join(" | ");
    case "Error":
      return "<error>";
  }
}

export function showExpr(expr: Expr): string {
  switch (expr.kind) {
    case "Name":
      return expr.name;
    case "Number":
      return expr.text;
    case "Size":
      return expr.values.join("x");
    case "String":
      return JSON.stringify(expr.value);
    case "Bool":
      return String(expr.value);
    case "None":
      return "none";
    case "DType":
      return expr.name;
    case "PositionLit":
      return `@${showPath(expr.path)}`;
    case "Group":
      return `<${showExpr(expr.value)}>`;
    case "Tuple":
      return `tuple(${list(expr.items)})`;
    case "List":
      return `[${list(expr.items)}]`;
    case "Set":
      return `{${list(expr.items)}}`;
    case "If":
      return `if ${showExpr(expr.condition)} {${showExpr(expr.then)}}${expr.else === undefined ? "" : ` else {${showExpr(expr.else)}}`}`;
    case "Loop": {
      const variables = expr.variables.length === 0 ? "" : `${expr.variables.map((v) => v.name).join(", ")} in `;
      return `${expr.how} ${variables}${showExpr(expr.over)} {${showExpr(expr.body)}}`;
    }
    case "Unary":
      return `(${expr.op} ${showExpr(expr.value)})`;
    case "Binary":
      return `(${showExpr(expr.left)} ${expr.op} ${showExpr(expr.right)})`;
    case "Times":
      return `(${showExpr(expr.left)} × ${showExpr(expr.right)})`;
    case "Range":
      return `(${showExpr(expr.from)}..${showExpr(expr.to)})`;
    case "Call": {
      const args = expr.args.map((arg) => `${arg.name === undefined ? "" : `${arg.name.name}=`}${showExpr(arg.value)}`);
      return `${showExpr(expr.callee)}(${args.join(", ")})`;
    }
    case "Slice": {
      const from = expr.from === undefined ? "" : showExpr(expr.from);
      return `slice ${showExpr(expr.of)}[${from}..${expr.to === undefined ? "" : showExpr(expr.to)}]`;
    }
    case "Index":
      return `${showExpr(expr.of)}[${showExpr(expr.index)}]`;
    case "Field":
      return `${showExpr(expr.of)}.${expr.name.name}`;
    case "Tap":
      return `${showExpr(expr.of)}@${"kind" in expr.name ? JSON.stringify(expr.name.value) : expr.name.name}`;
    case "Pipe":
      return expr.stages.map(showExpr).join(" -> ");
    case "Headline":
      return `${showExpr(expr.value)} {${expr.clauses.map(showClause).join("; ")}}`;
    case "Error":
      return "<error>";
  }
}

function showStatement(stmt: Stmt): string {
  switch (stmt.kind) {
    case "Return":
      return `return ${showExpr(stmt.value)}`;
    case "Stored":
      return `${stmt.what} ${stmt.name.name}: ${showType(stmt.type)}`;
    case "Assert":
      return `assert ${showExpr(stmt.test)}`;
    case "Assign":
      return `${stmt.names.map((name) => name.name).join(", ")} = ${showExpr(stmt.value)}`;
    case "Error":
      return "<error>";
  }
}

/** The value or the body of an item; other items by their kind. */
export function showItem(item: Item): string {
  if (item.kind === "BareModel") return showExpr(item.value);
  if (item.kind === "Const") return `${item.name.name} = ${showExpr(item.value)}`;
  if (item.kind !== "Callable") return item.kind;
  if (item.value !== undefined) return `${item.name.name} = ${showExpr(item.value)}`;
  return `${item.name.name} { ${(item.body?.statements ?? []).map(showStatement).join("; ")} }`;
}
