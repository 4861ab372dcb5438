/**
 * Applying layers: this is where nodes are made (language 5.3 to 5.6).
 */
import type { Expr, Node } from "../../grammar/ast.ts";
import { callBuiltin } from "./builtins.ts";
import { applyBlock, callOp, instantiate } from "./calls.ts";
import { closePlace, type Draft, openPlace } from "./draft.ts";
import { fail, silent, spanOf, textOf } from "./failure.ts";
import { applyHeadline } from "./headline.ts";
import { titleOf } from "./layers.ts";
import { applySlice } from "./slices.ts";
import { describe } from "./types.ts";
import {
  type Context,
  type EvaluatedArg,
  isCompound,
  isLayer,
  isSequence,
  isTensor,
  join,
  type Layer,
  lanes,
  type Sequence,
  type StreamsLayer,
  tuple,
  type Value,
} from "./values.ts";

/** Deeper than any network nests; beyond it elaboration would not end. */
const DEEPEST = 400;

/**
 * `value` as a layer: a block whose parameters all have defaults, an operation, a list of layers (fan-out) or a tuple of
 * them (side by side). Undefined if it is nothing of the kind.
 */
export function asLayer(value: Value, context: Context, node: Node): Layer | undefined {
  if (!isCompound(value)) return undefined;
  switch (value.kind) {
    case "layer":
      return value;
    case "block":
      if (value.declaration.keyword === "op")
        return { kind: "layer", form: "op", op: value, args: [], at: spanOf(context, node) };
      return value.layer ?? instantiate(value, [], context, node);
    case "builtin":
      return { kind: "layer", form: "op", op: value, args: [], at: spanOf(context, node) };
    case "tuple":
    case "list":
      return layersOf(value, context, node);
    case "unknown":
      return silent();
    default:
      return undefined;
  }
}

function layersOf(value: Sequence, context: Context, node: Node): Layer | undefined {
  if (value.items.length === 0 || !value.items.every(isLayerLike)) return undefined;
  const members = value.items.flatMap((item) => asLayer(item, context, node) ?? []);
  return value.kind === "tuple"
    ? { kind: "layer", form: "streams", members, at: spanOf(context, node) }
    : { kind: "layer", form: "fan", members };
}

function isLayerLike(value: Value): boolean {
  return (
    isLayer(value) ||
    (isCompound(value) && (value.kind === "block" || value.kind === "builtin")) ||
    (isSequence(value) && value.items.length > 0 && value.items.every(isLayerLike))
  );
}

// ------------------------------------------------------------------------------------------------------------- applying

/** `value -> f`: the items of a tuple arrive side by side. `expr` is `f` as it is written, in `context.module`. */
export function pipeInto(value: Value, f: Value, context: Context, expr: Expr): Value {
  const layer = asLayer(f, context, expr);
  if (layer === undefined) {
    return fail(context, "E0402", `\`->\` needs a layer on its right, but this is ${describe(f)}`, expr, {
      label: isTensor(f) ? "a tensor" : "not a layer",
    });
  }
  return applyLayer(layer, lanes(value), context, expr);
}

/**
 * Applies a layer to values: this is where nodes are made. `named` says that the scope is the layer's own already, so
 * that it does not make up a name.
 */
export function applyLayer(layer: Layer, inputs: readonly Value[], context: Context, node: Node, named = false): Value {
  if (context.depth > DEEPEST) return fail(context, "E0205", "blocks are nested too deeply", node);
  switch (layer.form) {
    case "block":
      return applyBlock(layer, inputs, context, node, named);
    case "pipeline": {
      const first: Value = inputs.length === 1 ? (inputs[0] ?? null) : tuple(inputs);
      return layer.stages.reduce<Value>((value, stage) => {
        const at: Context = { ...context, module: stage.module };
        return pipeInto(value, stage.value, at, stage.expr);
      }, first);
    }
    case "named": {
      const [name = "", ...aliases] = layer.names;
      const tensors = inputs.filter((input): input is Draft => isTensor(input));
      const place = openPlace(context, name, aliases, titleOf(layer.inner), tensors, layer.at);
      const result = applyLayer(layer.inner, inputs, { ...context, scope: place.path }, node, true);
      closePlace(context.build, place, lanes(result).filter(isTensor));
      return result;
    }
    case "op": {
      const arriving = inputs.map((value): EvaluatedArg => ({ name: undefined, value, node }));
      const args = [...arriving, ...layer.args];
      return layer.op.kind === "builtin"
        ? callBuiltin(layer.op.builtin, args, { context, node })
        : callOp(layer.op, args, { context, node });
    }
    case "fan":
      return tuple(
        layer.members.flatMap((member) => lanes(applyLayer(member, inputs, context, placeIn(member, context) ?? node))),
      );
    case "streams":
      return applyStreams(layer, inputs, context, node);
    case "slice":
      return applySlice(layer, inputs, context, node);
    case "headline":
      return applyHeadline(layer, inputs, context, node);
    default:
      return layer satisfies never;
  }
}

/** Where a member of a list is written, if it is a block of its own in the same file. */
function placeIn(member: Layer, context: Context): Node | undefined {
  if (member.form === "named") return placeIn(member.inner, context);
  return member.form === "block" && member.at.source === context.module.source
    ? { start: member.at.start, end: member.at.end }
    : undefined;
}

/** Streams in the middle of a pipeline: the i-th layer takes the i-th value. */
function applyStreams(layer: StreamsLayer, inputs: readonly Value[], context: Context, node: Node): Value {
  const count = layer.members.length;
  if (inputs.length !== count) {
    const one = inputs.length === 1;
    const [first] = inputs;
    fail(
      context,
      "E0404",
      `\`×${count}\` makes ${count} streams here, but ${one ? "only one value arrives" : `${inputs.length} values arrive`}`,
      node,
      {
        label: `side by side: needs ${count === 2 ? "a pair of tensors" : `${count} tensors`}`,
        notes: first === undefined ? [] : [`${one ? "it is" : "the first is"} ${describe(first)}`],
        helps: [
          `for ${count === 2 ? "two" : count} layers one after the other write \`repeat ${count} { ${textOf(context, node).replace(/\s*[×x*]\s*\d+$/, "")} }\``,
        ],
      },
    );
  }
  const results = layer.members.map((member, i) => {
    const input = inputs[i] ?? null;
    const scope = streamName(input, i);
    const within = scopeOf(member) === undefined ? { ...context, scope: join(context.scope, scope) } : context;
    return applyLayer(member, [input], within, node);
  });
  return tuple(results);
}

/** Streams that nobody named take the names of the model's inputs if these arrive, else `in1`, `in2`, …. */
function streamName(input: Value, index: number): string {
  return isTensor(input) && input.op === "input" ? input.attrs.name : `in${index + 1}`;
}

/** Where the weights of a layer are already, if it was used before. */
function scopeOf(layer: Layer): string | undefined {
  switch (layer.form) {
    case "block":
      return layer.instance.scope;
    case "named":
      return scopeOf(layer.inner);
    case "slice":
      return scopeOf(layer.of);
    default:
      return undefined;
  }
}
