/**
 * Layers before they are applied: made, composed, named, copied (language 5.3 to 5.6).
 */
import type { Callable, Node } from "../../grammar/ast.ts";
import type { Span } from "../../grammar/source.ts";
import { asLayer } from "./core.ts";
import { fail } from "./failure.ts";
import { describe, signatureOf } from "./types.ts";
import {
  type Context,
  type Instance,
  instanceFor,
  isBlock,
  isLayer,
  isSequence,
  type Layer,
  type Stage,
  type StreamsLayer,
  type Value,
} from "./values.ts";

/** `a -> b -> c` without a value: one layer. */
export function compose(stages: readonly Stage[], context: Context): Layer {
  const layers = stages.map((stage): Stage => {
    const layer = asLayer(stage.value, context, stage.expr);
    if (layer !== undefined) return { ...stage, value: layer };
    return fail(context, "E0402", `\`->\` joins layers, but this is ${describe(stage.value)}`, stage.expr);
  });
  return { kind: "layer", form: "pipeline", stages: layers };
}

/** Adds a name to a layer; the first is in parameter paths, later ones are aliases. */
export function addTap(layer: Layer, name: string, at: Span): Layer {
  if (layer.form === "named") return { ...layer, names: [...layer.names, name] };
  return { kind: "layer", form: "named", inner: layer, names: [name], at };
}

/** A copy with weights of its own. What was one instance inside stays one instance inside the copy. */
function renew(layer: Layer, context: Context, node: Node, copies: Map<Instance, Instance> = new Map()): Layer {
  const fresh = (instance: Instance): Instance => {
    const copy = copies.get(instance) ?? instanceFor(context, node);
    copies.set(instance, copy);
    return copy;
  };
  const value = (of: Value): Value => {
    if (isLayer(of)) return renew(of, context, node, copies);
    if (isSequence(of)) return { ...of, items: of.items.map(value) };
    return of;
  };
  const inner = (of: Layer): Layer => renew(of, context, node, copies);
  switch (layer.form) {
    case "block":
      return {
        ...layer,
        instance: fresh(layer.instance),
        args: new Map([...layer.args].map(([k, v]) => [k, value(v)])),
      };
    case "pipeline":
      return { ...layer, stages: layer.stages.map((stage) => ({ ...stage, value: value(stage.value) })) };
    case "named":
      return { ...layer, inner: inner(layer.inner) };
    case "op":
      return { ...layer, args: layer.args.map((arg) => ({ ...arg, value: value(arg.value) })) };
    case "fan":
    case "streams":
      return { ...layer, members: layer.members.map(inner) };
    case "slice":
      return { ...layer, of: inner(layer.of) };
    case "headline":
      return { ...layer, instance: fresh(layer.instance), base: inner(layer.base) };
    default:
      return layer satisfies never;
  }
}

/** `B ×n`. */
export function streamsOf(
  value: Value,
  count: number,
  context: Context,
  node: Node,
  at: Span,
): StreamsLayer | undefined {
  const members: Layer[] = [];
  for (let i = 0; i < count; i++) {
    const layer = asLayer(value, context, node);
    if (layer === undefined) return undefined;
    const named = isLayer(value) || (isBlock(value) && value.layer !== undefined);
    members.push(named ? renew(layer, context, node) : layer);
  }
  return { kind: "layer", form: "streams", members, at };
}

/** Streams as a headline without clauses: they end in the average of their outputs. */
export function headlineAround(base: StreamsLayer, context: Context, node: Node): Layer {
  return {
    kind: "layer",
    form: "headline",
    base,
    written: undefined,
    clauses: [],
    instance: instanceFor(context, node),
    at: base.at,
  };
}

/** How many tensors a layer takes; undefined if any number will do, or if only applying it can tell. */
export function arityOf(layer: Layer): number | undefined {
  switch (layer.form) {
    case "block": {
      const { inputs } = signatureOf(layer.block.declaration, layer.block.module);
      if (inputs !== undefined) return inputs.some((param) => param.variadic) ? undefined : inputs.length;
      return undefined;
    }
    case "pipeline": {
      const first = layer.stages[0]?.value;
      return first !== undefined && isLayer(first) ? arityOf(first) : undefined;
    }
    case "named":
      return arityOf(layer.inner);
    case "op":
      return 1;
    case "fan":
      return layer.members[0] === undefined ? undefined : arityOf(layer.members[0]);
    case "streams":
      return layer.members.length;
    case "slice":
      return 1;
    case "headline":
      return arityOf(layer.base);
    default:
      return layer satisfies never;
  }
}

/** What a layer is called in messages and in the list of positions: the block's name, or nothing. */
export function titleOf(layer: Layer): string {
  switch (layer.form) {
    case "block":
      return layer.block.declaration.name.name;
    case "named":
      return titleOf(layer.inner);
    case "op":
      return layer.op.kind === "builtin" ? layer.op.builtin.name : layer.op.declaration.name.name;
    case "headline":
      return titleOf(layer.base);
    case "slice":
      return titleOf(layer.of);
    case "pipeline":
    case "fan":
    case "streams":
      return "";
    default:
      return layer satisfies never;
  }
}

/** The block whose inputs a layer has. */
export function blockOf(layer: Layer):
  | {
      readonly declaration: Callable;
      readonly module: Context["module"];
      readonly args: ReadonlyMap<string, Value>;
      readonly at: Span;
    }
  | undefined {
  switch (layer.form) {
    case "block":
      return { ...layer.block, args: layer.args, at: layer.at };
    case "named":
      return blockOf(layer.inner);
    case "slice":
      return blockOf(layer.of);
    default:
      return undefined;
  }
}
