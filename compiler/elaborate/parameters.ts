/**
 * Arguments meet parameters: by place, then by name, then by default (language 5.3).
 */
import type { Arg, Node, Param, Type } from "../../grammar/ast.ts";
import type { Help } from "../../grammar/diagnostic.ts";
import { suggest } from "../../grammar/suggest.ts";
import { asLayer, evaluate } from "./core.ts";
import { fail, spanOf, textOf } from "./failure.ts";
import type { Module } from "./modules.ts";
import { describe, fits, isTensorType, typeText, type Use } from "./types.ts";
import { type Context, type EvaluatedArg, isTensor, list, type Value } from "./values.ts";

/** What is called: its name and parameters, and the file they are written in. */
export interface Callee {
  readonly name: string;
  readonly params: readonly Param[];
  readonly module: Module;
}

/** Evaluates arguments in the order they are written. */
export function evaluateArgs(args: readonly Arg[], context: Context): readonly EvaluatedArg[] {
  return args.map((arg) => ({ name: arg.name?.name, value: evaluate(arg.value, context), node: arg }));
}

/**
 * Gives every parameter its value, in `inside` (whose innermost names receive them): arguments first, then defaults,
 * which may use the parameters before them. Named arguments nobody asked for go to a variadic parameter if there is one
 * and are returned.
 */
export function bindParameters(
  callee: Callee,
  args: readonly EvaluatedArg[],
  inside: Context,
  use: Use,
): ReadonlyMap<string, Value> {
  const names = inside.locals?.names;
  if (names === undefined) throw new Error("internal: parameters need a place to be bound in");
  const variadic = callee.params.find((param) => param.variadic);
  const extra = new Map<string, Value>();
  const many: Value[] = [];
  let place = 0;
  for (const arg of args) {
    const param: Param | undefined =
      arg.name === undefined
        ? callee.params[place]
        : callee.params.find((p) => p.name.name === arg.name && !p.variadic);
    if (arg.name === undefined && param !== undefined && !param.variadic) place++;
    if (param === undefined) {
      if (arg.name === undefined || variadic === undefined) unknownArgument(callee, arg, args, use);
      extra.set(arg.name, arg.value);
    } else if (param.variadic) {
      many.push(arg.value);
    } else if (names.has(param.name.name)) {
      fail(use.context, "E0401", `\`${param.name.name}\` is given twice`, arg.node, { label: "the second time" });
    } else {
      give(callee, param, arg.value, arg.node, inside, use);
    }
  }
  for (const param of callee.params) {
    if (param.variadic) names.set(param.name.name, { value: list(many), at: spanOf(inside, param.name) });
    else if (!names.has(param.name.name)) {
      if (param.default === undefined) {
        fail(use.context, "E0403", `\`${callee.name}\` needs \`${param.name.name}\``, use.node, {
          label:
            param.type === undefined
              ? "not given"
              : `\`${param.name.name}: ${typeText(callee.module, param.type)}\` is not given`,
          notes: [signatureText(callee)],
        });
      }
      give(callee, param, evaluate(param.default, inside), param.default, inside, {
        context: inside,
        node: param.default,
      });
    }
  }
  return extra;
}

const layerTypes = new WeakMap<Type, boolean>();

/** True for `block` and `unit`, and types made of them. */
function takesLayer(type: Type): boolean {
  const known = layerTypes.get(type);
  if (known !== undefined) return known;
  const inside =
    type.kind === "NamedType"
      ? ["block", "unit"].includes(type.path.segments[0]?.name ?? "")
      : type.kind === "OptionalType"
        ? takesLayer(type.type)
        : type.kind === "UnionType" && type.options.some(takesLayer);
  layerTypes.set(type, inside);
  return inside;
}

/** Checks a value against its parameter's type and gives it its name. Layers are made here, once. */
function give(callee: Callee, param: Param, value: Value, node: Node, inside: Context, use: Use): void {
  const names = inside.locals?.names;
  const { type } = param;
  let given = value;
  if (type !== undefined && !isTensorType(type, inside.module)) {
    if (!fits(type, value, inside)) {
      const wanted = typeText(callee.module, type);
      fail(
        use.context,
        "E0331",
        `\`${param.name.name}\` of \`${callee.name}\` takes \`${wanted}\`, but gets ${describe(value)}`,
        node,
        {
          label: isTensor(value) ? "tensors are inputs; they come through `->` or the second pair of parentheses" : "",
          helps: nearText(type, value),
          notes: [signatureText(callee)],
        },
      );
    }
    if (given !== null && typeof given === "object" && takesLayer(type)) {
      given = asLayer(given, use.context, node) ?? given;
    }
  }
  names?.set(param.name.name, { value: given, at: spanOf(inside, param.name) });
}

/** The text that was probably meant, where a type lists the texts it takes. */
function nearText(type: Type, value: Value): readonly string[] {
  if (typeof value !== "string") return [];
  const options = type.kind === "UnionType" ? type.options : [type];
  const near = suggest(
    value,
    options.flatMap((option) => (option.kind === "LiteralType" ? [option.value.value] : [])),
  );
  return near === undefined ? [] : [`did you mean \`"${near}"\`?`];
}

/** Reports an argument that nothing asked for (E0401). */
export function unknownArgument(callee: Callee, arg: EvaluatedArg, args: readonly EvaluatedArg[], use: Use): never {
  const notes = [signatureText(callee)];
  if (arg.name !== undefined) {
    const near = suggest(
      arg.name,
      callee.params.map((param) => param.name.name),
    );
    const at = spanOf(use.context, arg.node);
    const help: Help | undefined =
      near === undefined
        ? undefined
        : {
            text: `did you mean \`${near}\`?`,
            edits: [{ span: { ...at, end: at.start + arg.name.length }, replacement: near }],
          };
    const place = { start: arg.node.start, end: arg.node.start + arg.name.length };
    return fail(use.context, "E0401", `\`${callee.name}\` has no parameter \`${arg.name}\``, place, {
      label: "unknown",
      helps: help === undefined ? [] : [help],
      notes,
    });
  }
  const count = callee.params.length;
  const takes = count === 0 ? "no parameters" : count === 1 ? "1 parameter" : `${count} parameters`;
  const tensor = args.length > 0 && args.every((a) => isTensor(a.value));
  const text = textOf(use.context, arg.node);
  return fail(use.context, "E0401", `\`${callee.name}\` takes ${takes}, but gets ${args.length}`, arg.node, {
    label: "one too many",
    helps: tensor ? [`tensors come through \`->\`: \`${text} -> ${callee.name}\``] : [],
    notes,
  });
}

/** `Conv(out, k=3, stride=1, …)`. */
function signatureText(callee: Callee): string {
  const params = callee.params.map((param) => {
    const dots = param.variadic ? "..." : "";
    if (param.default === undefined) return dots + param.name.name;
    const { start, end } = param.default;
    return `${param.name.name}=${callee.module.source.text.slice(start, end)}`;
  });
  return `${callee.name}(${params.join(", ")})`;
}
