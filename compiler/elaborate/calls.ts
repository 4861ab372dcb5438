/**
 * Blocks, units, models and operations: given their parameters, then applied to tensors (language 5.3, 5.5).
 */
import type { Body, Callable, DType, Expr, Node, Param, Stmt, Stored } from "../../grammar/ast.ts";
import type { Init } from "../graph/graph.ts";
import { showType } from "../graph/shapes.ts";
import { equal, freeNames, type Size, showShape, showSize } from "../size.ts";
import { truth } from "./arithmetic.ts";
import { inRegion, isCheckpointed } from "./attributes.ts";
import { OPERATIONS } from "./builtins.ts";
import { asLayer, evaluate, lookup, pipeInto } from "./core.ts";
import { type Draft, openedAt, parameterDraft, sameType, scopedName } from "./draft.ts";
import { checkFact } from "./facts.ts";
import { Abort, attempt, fail, silent, spanOf, spend, textOf } from "./failure.ts";
import { arityOf, headlineAround } from "./layers.ts";
import { bindParameters, type Callee } from "./parameters.ts";
import {
  describe,
  type Explanation,
  evaluateSize,
  expandType,
  matchInput,
  matchOutput,
  signatureOf,
  type Use,
} from "./types.ts";
import {
  type BlockLayer,
  type BlockValue,
  type Context,
  type EvaluatedArg,
  instanceFor,
  isBlock,
  isCompound,
  isLayer,
  isSequence,
  isSize,
  isTensor,
  join,
  type Layer,
  type Local,
  list,
  newInstance,
  tuple,
  UNKNOWN,
  type Value,
} from "./values.ts";

/** A block with its parameters given: a new instance, no nodes yet. */
export function instantiate(
  block: BlockValue,
  args: readonly EvaluatedArg[],
  context: Context,
  node: Node,
): BlockLayer {
  spend(context, 1, node);
  const instance = instanceFor(context, node);
  const names = new Map<string, Local>();
  const inside: Context = { ...calleeContext(block, context, names, node), owner: instance };
  bindParameters(calleeOf(block), args, inside, { context, node });
  const given = new Map([...names].map(([name, local]) => [name, local.value]));
  return { kind: "layer", form: "block", block, args: given, instance, at: spanOf(context, node) };
}

function calleeOf(block: BlockValue): Callee {
  const { params } = signatureOf(block.declaration, block.module);
  return { name: block.declaration.name.name, params, module: block.module };
}

/** Where the inside of a callable is evaluated. The origin says which use this is. */
function calleeContext(block: BlockValue, context: Context, names: Map<string, Local>, node: Node): Context {
  return {
    build: context.build,
    module: block.module,
    locals: { names, up: undefined },
    scope: context.scope,
    owner: context.owner,
    visits: new Map(),
    origin: { span: spanOf(context, node), ...(context.origin === undefined ? {} : { parent: context.origin }) },
    region: context.region,
    depth: context.depth + 1,
  };
}

/** Applies a block to tensors. */
export function applyBlock(
  layer: BlockLayer,
  inputs: readonly Value[],
  context: Context,
  node: Node,
  named: boolean,
): Value {
  const { block, instance } = layer;
  const { declaration } = block;
  const name = declaration.name.name;
  const use: Use = { context, node };
  context.build.blocks.add(name);
  spend(context, 1, node);
  if (instance.build !== context.build) {
    instance.build = context.build;
    instance.scope = undefined;
    instance.weights.clear();
  }
  instance.scope ??=
    !named && ownsWeights(declaration)
      ? scopedName(context.build, join(context.scope, snakeCase(name)))
      : context.scope;
  const names = new Map<string, Local>();
  for (const [key, value] of layer.args)
    names.set(key, { value, at: spanOf({ ...context, module: block.module }, declaration.name) });
  const given = [...layer.args]
    .filter(([, value]) => isSize(value) || typeof value === "string")
    .map(([key, value]) => `${key} = ${showArg(value)}`);
  const base = calleeContext(block, context, names, node);
  const inside: Context = {
    ...base,
    scope: instance.scope,
    owner: instance,
    origin: {
      span: spanOf(context, node),
      // The model itself is not a use of anything.
      ...(context.depth === 0
        ? {}
        : { note: `in this use of \`${name}\`${given.length === 0 ? "" : `, with ${given.join(", ")}`}` }),
      ...(context.origin === undefined ? {} : { parent: context.origin }),
    },
  };
  const { inputs: wanted } = signatureOf(declaration, block.module);
  if (wanted !== undefined) bindInputs(block, wanted, inputs, inside, use);
  checkFacts(declaration, inside, name, use);
  const result = runBody(declaration, inputs, isCheckpointed(declaration) ? inRegion(inside) : inside, use);
  if (declaration.output !== undefined) {
    matchOutput(declaration.output, result, inside, name, use, (returned, promised) =>
      defaultBehind(declaration, inside, returned, promised),
    );
  }
  if (declaration.keyword === "unit") checkPromise(name, inputs, result, use);
  return result;
}

function showArg(value: Value): string {
  return typeof value === "string" ? JSON.stringify(value) : describe(value).replace("the number ", "");
}

/** `BatchNorm` is `batchnorm` in made-up names, as the language writes units in parameter paths. */
function snakeCase(name: string): string {
  return name.toLowerCase();
}

/** Blocks that only arrange other blocks are transparent in parameter paths. */
function ownsWeights(declaration: Callable): boolean {
  return declaration.body?.statements.some((statement) => statement.kind === "Stored") ?? false;
}

function bindInputs(
  block: BlockValue,
  wanted: readonly Param[],
  inputs: readonly Value[],
  inside: Context,
  use: Use,
): void {
  const names = inside.locals?.names;
  if (names === undefined) throw new Error("internal: a block needs a place for its inputs");
  const { declaration } = block;
  const name = declaration.name.name;
  const [first] = wanted;
  if (first?.variadic === true) {
    // Each may have sizes of its own: `Concat` joins 8 channels and 16.
    for (const input of inputs) {
      matchInput(first, input, { ...inside, locals: { names: new Map(), up: inside.locals } }, name, use);
    }
    names.set(first.name.name, { value: list(inputs), at: spanOf(inside, first.name) });
    return;
  }
  if (inputs.length !== wanted.length) {
    const takes = wanted.map((param) => param.name.name).join(", ");
    fail(
      use.context,
      "E0404",
      `\`${name}\` takes ${wanted.length} ${wanted.length === 1 ? "input" : "inputs"}, but gets ${inputs.length}`,
      use.node,
      {
        label: `takes (${takes})`,
        notes:
          inputs.length === 0
            ? []
            : [`${inputs.length === 1 ? "it gets" : "they are"} ${inputs.map(describe).join(", ")}`],
      },
    );
  }
  for (const [i, param] of wanted.entries()) {
    const value = inputs[i] ?? null;
    matchInput(param, value, inside, name, use);
    names.set(param.name.name, { value, at: spanOf(inside, param) });
  }
}

function checkFacts(declaration: Callable, inside: Context, name: string, use: Use): void {
  for (const fact of declaration.where) {
    if (fact.definition !== undefined && fact.left.kind === "Name") {
      const size = evaluateSize(fact.definition, inside);
      const names = inside.locals?.names;
      if (!(names?.has(fact.left.name) ?? false))
        names?.set(fact.left.name, { value: sizeOrNumber(size), at: spanOf(inside, fact.left) });
    } else checkFact(fact.left, inside, name, use);
  }
}

function sizeOrNumber(size: Size): Value {
  return typeof size === "number" ? size : { kind: "size", size };
}

/** A `unit` gives as many values as it takes, of the same shapes (E0508). */
function checkPromise(name: string, inputs: readonly Value[], result: Value, use: Use): void {
  const outputs = isSequence(result) ? result.items : [result];
  const tensors = inputs.filter(isTensor);
  const results = outputs.filter(isTensor);
  const broken = tensors.length !== results.length || tensors.some((input, i) => !sameType(input, results[i]));
  if (!broken) return;
  fail(use.context, "E0508", `\`${name}\` is a unit, but changes the shape`, use.node, {
    label: `${tensors.map(showType).join(", ")} becomes ${results.map(showType).join(", ")}`,
    helps: ["a unit gives back what it takes; what changes the shape is a `block`"],
  });
}

/** `VGG16` gives 1000 classes because nobody said otherwise: the default behind a size that was not promised. */
function defaultBehind(
  declaration: Callable,
  inside: Context,
  returned: number,
  promised: Size | undefined,
): Explanation | undefined {
  const { value } = declaration;
  const last = value?.kind === "Pipe" ? value.stages.at(-1) : value;
  const callee = last?.kind === "Call" ? last.callee : last;
  const block = callee?.kind === "Name" ? lookup(inside, callee.name) : undefined;
  if (last === undefined || callee?.kind !== "Name" || block === undefined || !isBlock(block)) return undefined;
  const args = last.kind === "Call" ? last.args : [];
  const { params } = signatureOf(block.declaration, block.module);
  const param = params.find(
    (p) =>
      p.default?.kind === "Number" &&
      p.default.value === returned &&
      !args.some((arg) => arg.name?.name === p.name.name),
  );
  if (param === undefined || promised === undefined) return undefined;
  const given = args.map((arg) => `${textOf(inside, arg)}, `).join("");
  return {
    at: { span: spanOf(inside, last), text: `\`${param.name.name}\` is ${returned} unless said otherwise` },
    help: `\`${callee.name}(${given}${param.name.name}=${showSize(promised)})\``,
  };
}

// ----------------------------------------------------------------------------------------------------------------- body

function runBody(declaration: Callable, inputs: readonly Value[], inside: Context, use: Use): Value {
  if (declaration.value !== undefined) {
    const value = evaluate(declaration.value, inside);
    const network =
      isTensor(value) || (isSequence(value) && value.items.some(isTensor))
        ? undefined
        : asLayer(value, inside, declaration.value);
    const alone = network?.form === "streams" && declaration.keyword === "model";
    const layer = alone ? headlineAround(network, inside, declaration.value) : network;
    return layer === undefined
      ? value
      : pipeInto(inputs.length === 1 ? (inputs[0] ?? null) : tuple(inputs), layer, inside, declaration.value);
  }
  if (declaration.body !== undefined) return runStatements(declaration, declaration.body, inside);
  return fail(use.context, "E0402", `\`${declaration.name.name}\` has no body`, use.node);
}

/** Each statement is tried even if one before it failed; what failed is unknown, and unknown values stay silent. */
function runStatements(declaration: Callable, body: Body, inside: Context): Value {
  let failed = false;
  for (const statement of body.statements) {
    if (statement.kind === "Return") {
      const result = attempt(() => evaluateMarked(statement, inside));
      if (result === undefined) throw new Abort("");
      if (failed) return silent();
      return result;
    }
    if (attempt(() => runStatement(statement, inside) ?? true) === undefined) {
      failed = true;
      for (const ident of namesOf(statement))
        inside.locals?.names.set(ident, { value: UNKNOWN, at: spanOf(inside, statement) });
    }
  }
  if (failed || body.broken === true) return silent();
  return fail(
    { ...inside, origin: undefined },
    "E0320",
    `\`${declaration.name.name}\` returns nothing`,
    declaration.name,
    {
      helps: ["the last line of a body is `return …`"],
    },
  );
}

function namesOf(statement: Stmt): readonly string[] {
  if (statement.kind === "Assign") return statement.names.map((ident) => ident.name);
  return statement.kind === "Stored" ? [statement.name.name] : [];
}

function runStatement(statement: Stmt, inside: Context): undefined {
  const names = inside.locals?.names;
  if (names === undefined) throw new Error("internal: a body needs a place for its names");
  switch (statement.kind) {
    case "Return":
      throw new Error("internal: `return` is handled by the body");
    case "Assign": {
      const value = evaluateMarked(statement, inside);
      const [only] = statement.names;
      if (statement.type !== undefined)
        matchOutput(statement.type, value, inside, only?.name ?? "", { context: inside, node: statement.value });
      if (statement.names.length === 1 && only !== undefined) {
        names.set(only.name, { value: namedBlock(value, inside, statement), at: spanOf(inside, only) });
        return;
      }
      const items = isSequence(value) ? value.items : [value];
      if (items.length !== statement.names.length) {
        fail(
          inside,
          "E0406",
          `${statement.names.length} names for ${items.length} ${items.length === 1 ? "value" : "values"}`,
          statement,
          {
            label: `this is ${describe(value)}`,
          },
        );
      }
      for (const [i, ident] of statement.names.entries())
        names.set(ident.name, { value: items[i] ?? null, at: spanOf(inside, ident) });
      return;
    }
    case "Stored": {
      const wanted = statement.when === undefined || truth(statement.when, inside);
      names.set(statement.name.name, {
        value: wanted ? weightFor(statement, inside) : null,
        at: spanOf(inside, statement.name),
      });
      return;
    }
    case "Assert":
      if (!truth(statement.test, inside)) {
        fail(
          inside,
          "E0208",
          statement.message?.value ?? `this does not hold: \`${textOf(inside, statement.test)}\``,
          statement,
          {
            notes: sidesOf(statement.test, inside),
          },
        );
      }
      return;
    case "Error":
      return silent();
    default:
      return statement satisfies never;
  }
}

/** The value of a statement, in a region of its own if it is checkpointed. */
function evaluateMarked(statement: Stmt & { readonly kind: "Assign" | "Return" }, inside: Context): Value {
  if (!isCheckpointed(statement)) return evaluate(statement.value, inside);
  const value = evaluate(statement.value, inRegion(inside));
  if (isTensor(value) || (isSequence(value) && value.items.some(isTensor))) return value;
  return fail(inside, "E0210", "`#[checkpoint]` has nothing to compute again here", statement.value, {
    label: `this is ${describe(value)}`,
    helps: ["put it where the layer is applied to a tensor, or on a `block`"],
  });
}

/** A block that gets a name is one instance wherever the name is used without parameters (language 5.5). */
export function namedBlock(value: Value, context: Context, node: Node): Value {
  if (!isBlock(value) || value.layer !== undefined || value.declaration.keyword === "op") return value;
  const { params } = signatureOf(value.declaration, value.module);
  const ready = params.every((param) => param.default !== undefined || param.variadic);
  return ready ? { ...value, layer: instantiate(value, [], context, node) } : value;
}

/** Both sides of a comparison that does not hold, for the note below it. */
export function sidesOf(test: Expr, context: Context): readonly string[] {
  if (test.kind !== "Binary") return [];
  const side = (expr: Expr): string | undefined => {
    const value = attempt(() => evaluate(expr, context));
    if (value === undefined) return undefined;
    if (expr.kind === "Number" || expr.kind === "List") return undefined;
    const text = showValue(value);
    return text === textOf(context, expr) ? undefined : `${textOf(context, expr)} is ${text}`;
  };
  return [side(test.left), side(test.right)].filter((text) => text !== undefined);
}

function showValue(value: Value): string {
  if (isSequence(value) && value.items.every(isSize))
    return showShape(value.items.map((item) => (typeof item === "number" ? item : item.size)));
  if (typeof value === "number") return value.toLocaleString("en-US").replaceAll(",", "_");
  return describe(value);
}

// -------------------------------------------------------------------------------------------------------------- weights

/** The parameter or state that a statement declares: made at the first use of its instance, found at later ones. */
function weightFor(statement: Stored, inside: Context): Draft {
  const { build, owner, scope } = inside;
  const path = join(scope, statement.name.name);
  const expanded = expandType(statement.type, inside);
  if (expanded.type.kind !== "TensorType")
    return fail(
      inside,
      "E0331",
      `\`${statement.name.name}\` needs a shape: \`param ${statement.name.name}: [C]\``,
      statement.type,
    );
  const shape = (expanded.type.dims ?? []).map((dim) =>
    dim.kind === "SizeDim" ? evaluateSize(dim.size, expanded.context) : restOf(dim, expanded.context),
  );
  const open = shape.flatMap((size) => [...freeNames(size)]);
  if (open.length > 0) {
    const which = [...new Set(open)];
    return fail(inside, "E0312", `\`${path}\` has no fixed size: ${showShape(shape)}`, statement, {
      label: "the weights of a model cannot depend on the size of its input",
      secondary: openedAt(build, which),
      helps: [
        "`GlobalAvgPool` instead of `Flatten` leaves the image size out of the weights",
        `or fix the input's size: ${which.map((n) => `\`${n}\``).join(" and ")} as numbers`,
      ],
    });
  }
  const bad = shape.find((size) => typeof size === "number" && size < 1);
  if (bad !== undefined)
    return fail(inside, "E0306", `\`${path}\` would have the shape ${showShape(shape)}`, statement, {
      label: "every axis has at least 1 element",
    });
  const known = owner.weights.get(statement.name.name);
  if (known !== undefined) {
    if (known.shape.every((size, i) => equal(size, shape[i] ?? -1)) && known.shape.length === shape.length)
      return known;
    return fail(inside, "E0314", `\`${scope}\` is used twice with different sizes`, statement, {
      label: `\`${statement.name.name}\` is ${showShape(known.shape)} at the first use and ${showShape(shape)} here`,
      helps: ["two layers with weights of their own: write the block twice instead of naming it once"],
    });
  }
  const weight = parameterDraft(
    inside,
    statement,
    path,
    { shape, dtype: expanded.type.dtype ?? elementType(inside) },
    initOf(statement, inside),
  );
  owner.weights.set(statement.name.name, weight);
  return weight;
}

/** Weights without an element type of their own have that of the values they meet. */
function elementType(inside: Context): DType {
  for (const { value } of inside.locals?.names.values() ?? []) {
    if (isTensor(value) && value.op !== "param" && ["f16", "f64", "bf16"].includes(value.dtype)) return value.dtype;
  }
  return "f32";
}

function restOf(dim: Node, context: Context): Size {
  return fail(context, "E0331", "the shape of a parameter is written axis by axis", dim);
}

function initOf(statement: Stored, inside: Context): Init {
  if (statement.init === undefined) return { kind: "constant", value: 0 };
  const value = evaluate(statement.init, inside);
  if (typeof value === "number") return { kind: "constant", value };
  if (isCompound(value) && value.kind === "init") return value.init;
  if (isCompound(value) && value.kind === "builtin") {
    const called = value.builtin.run({
      args: new Map(),
      extra: new Map(),
      use: { context: inside, node: statement.init },
    });
    if (isCompound(called) && called.kind === "init") return called.init;
  }
  return fail(inside, "E0331", `a parameter starts with an initialiser, not ${describe(value)}`, statement.init, {
    helps: ['`he_normal(fan="out")`, `he_uniform()`, `normal(std=0.02)`, `zeros()`, `ones()` or `constant(0.5)`'],
  });
}

// ------------------------------------------------------------------------------------------------------------ operations

/** Calls an operation: its inputs are ordinary arguments (language 5.3). */
export function callOp(op: BlockValue, args: readonly EvaluatedArg[], use: Use): Value {
  const { declaration, module } = op;
  const name = declaration.name.name;
  const { params, inputs } = signatureOf(declaration, module);
  const all = declaration.lists.length > 1 ? [...(inputs ?? []), ...params] : (inputs ?? params);
  const names = new Map<string, Local>();
  const inside: Context = { ...calleeContext(op, use.context, names, use.node), owner: newInstance() };
  const extra = bindParameters({ name, params: all, module }, args, inside, use);
  const bound = new Map([...names].map(([key, local]) => [key, local.value]));
  if (declaration.extern) {
    // Its row in the table of operators checks the shapes, in words made for the operator.
    const run = OPERATIONS.get(name);
    if (run === undefined) return fail(use.context, "E0402", `the compiler has no operation \`${name}\``, use.node);
    return run({ args: bound, extra, use });
  }
  for (const param of all) {
    const value = bound.get(param.name.name);
    if (value !== undefined && !param.variadic) matchInput(param, value, inside, name, use);
  }
  checkFacts(declaration, inside, name, use);
  const result = runBody(declaration, [], isCheckpointed(declaration) ? inRegion(inside) : inside, use);
  if (declaration.output !== undefined) matchOutput(declaration.output, result, inside, name, use);
  return result;
}

/** How many tensors a layer takes, looking into blocks that do not say; undefined if any number will do. */
export function inputCount(layer: Layer, context: Context): number | undefined {
  const known = arityOf(layer);
  if (known !== undefined || layer.form !== "block") return known;
  const { declaration } = layer.block;
  if (declaration.value === undefined || signatureOf(declaration, layer.block.module).inputs !== undefined)
    return undefined;
  const names = new Map<string, Local>([...layer.args].map(([name, value]) => [name, { value, at: layer.at }]));
  const inside: Context = { ...calleeContext(layer.block, context, names, declaration), owner: newInstance() };
  const value = evaluate(declaration.value, inside);
  const inner = isLayer(value) ? value : asLayer(value, inside, declaration.value);
  return inner === undefined ? undefined : inputCount(inner, inside);
}
