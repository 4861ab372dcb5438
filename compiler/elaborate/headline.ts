/**
 * The headline: `VGG16 ×2 over … with STIA at conv3, conv4 fuse Average` (language 5.7, 5.8).
 *
 * A headline is a layer. Applied, it makes its streams, then its grafts in the order they are written, then the fusion.
 * Headlines of headlines are unfolded first, so that `A with SE at conv5` reaches into the streams of `A`.
 */
import type { Callable, Fuse, Node, OverItem, Type } from "../../grammar/ast.ts";
import type { Span } from "../../grammar/source.ts";
import { inputCount } from "./calls.ts";
import { applyLayer, asLayer, evaluate, lookup, pipeInto } from "./core.ts";
import type { Sharing } from "./draft.ts";
import { attempt, fail, failAt, silent, spanOf } from "./failure.ts";
import { graft, type Stream } from "./graft.ts";
import { blockOf, titleOf } from "./layers.ts";
import { placesAt } from "./places.ts";
import { describe, signatureOf } from "./types.ts";
import {
  type Context,
  type HeadlineLayer,
  isLayer,
  isTensor,
  join,
  type Layer,
  type Local,
  lanes,
  newInstance,
  type PlacedClause,
  tuple,
  type Value,
  type Written,
} from "./values.ts";

/** A headline taken apart. */
export interface Unfolded {
  readonly streams: readonly Layer[];
  readonly clauses: readonly PlacedClause[];
  /** Where `×2` stands, or the network itself. */
  readonly at: Span;
  /** How the network is written, if a headline says. */
  readonly written: Written | undefined;
}

/** Streams and clauses of a layer; clauses of inner headlines come first. */
export function unfold(layer: Layer, context: Context): Unfolded {
  switch (layer.form) {
    case "headline": {
      const inner = unfold(layer.base, context);
      const visits = new Map<Node, number>();
      const own = layer.clauses.map((placed) => ({
        clause: placed.clause,
        context: { ...placed.context, build: context.build, owner: layer.instance, visits },
      }));
      return { ...inner, clauses: [...inner.clauses, ...own], written: inner.written ?? layer.written };
    }
    case "streams":
      return { streams: layer.members, clauses: [], at: layer.at, written: undefined };
    case "block": {
      const inner = headlineOf(layer, context);
      return inner === undefined
        ? { streams: [layer], clauses: [], at: layer.at, written: undefined }
        : unfold(inner, context);
    }
    case "named":
      return { streams: [layer], clauses: [], at: layer.at, written: undefined };
    case "pipeline":
    case "op":
    case "fan":
    case "slice":
      return { streams: [layer], clauses: [], at: placeOfLayer(layer, context), written: undefined };
    default:
      return layer satisfies never;
  }
}

function placeOfLayer(layer: Layer, context: Context): Span {
  if ("at" in layer) return layer.at;
  const first = layer.form === "pipeline" ? layer.stages[0] : undefined;
  return first === undefined
    ? { source: context.module.source, start: 0, end: 0 }
    : { source: first.module.source, start: first.expr.start, end: first.expr.end };
}

/** The headline that a block consists of: `model A = VGG16 ×2 with STIA at conv3`. */
function headlineOf(layer: Layer & { readonly form: "block" }, context: Context): Layer | undefined {
  const { declaration, module } = layer.block;
  const { value } = declaration;
  if (value === undefined || (value.kind !== "Headline" && value.kind !== "Times")) return undefined;
  const names = new Map<string, Local>([...layer.args].map(([name, given]) => [name, { value: given, at: layer.at }]));
  const inside: Context = {
    ...context,
    module,
    locals: { names, up: undefined },
    owner: layer.instance,
    visits: new Map(),
    depth: context.depth + 1,
  };
  const inner = evaluate(value, inside);
  return isLayer(inner) && (inner.form === "headline" || inner.form === "streams") ? inner : undefined;
}

// --------------------------------------------------------------------------------------------------------------- inputs

/** An input of a model: its name, its type and where the type's names are looked up. */
export interface DeclaredInput {
  readonly name: string;
  readonly type: Type;
  readonly context: Context;
  readonly at: Span;
}

/** What a headline's streams see: `over`, else the default of the unit between them, else that of the network. */
export function inputsOf(unfolded: Unfolded, context: Context): readonly DeclaredInput[] | undefined {
  const { streams } = unfolded;
  const over = unfolded.clauses.findLast((placed) => placed.clause.kind === "Over");
  if (over !== undefined && over.clause.kind === "Over") {
    const { inputs } = over.clause;
    if (inputs.length !== streams.length) {
      const first = inputs[0] ?? over.clause;
      return failAt(
        context,
        "E0501",
        `${streams.length} ${streams.length === 1 ? "stream" : "streams"}, but \`over\` names ${inputs.length} ${inputs.length === 1 ? "input" : "inputs"}`,
        unfolded.at,
        {
          label: streams.length === 1 ? "one stream" : `${streams.length} streams`,
          secondary: [
            {
              span: { ...spanOf(over.context, first), end: over.clause.end },
              text: `${inputs.length} ${inputs.length === 1 ? "input" : "inputs"}`,
            },
          ],
          helps: [
            inputs.length > streams.length
              ? `\`×${inputs.length}\``
              : `name ${streams.length - inputs.length} more, or write \`×${inputs.length}\``,
          ],
        },
      );
    }
    const names = jointUnit(unfolded)?.names ?? [];
    return inputs.map((item, i) =>
      declared(item, names[i] ?? (streams.length === 1 ? "x" : `in${i + 1}`), over.context),
    );
  }
  const joint = jointUnit(unfolded);
  if (joint?.declaration.defaultOver !== undefined) {
    const { context: at, names } = joint;
    return joint.declaration.defaultOver.inputs.map((item, i) => declared(item, names[i] ?? `in${i + 1}`, at));
  }
  return networkInputs(streams, context);
}

function declared(item: OverItem, otherwise: string, context: Context): DeclaredInput {
  return { name: item.name?.name ?? otherwise, type: item.type, context, at: spanOf(context, item) };
}

function networkInputs(streams: readonly Layer[], context: Context): readonly DeclaredInput[] | undefined {
  const [layer] = streams;
  const first = layer === undefined ? undefined : firstBlock(layer, context);
  const block = first === undefined ? undefined : blockOf(first);
  if (block === undefined) return undefined;
  const { declaration, module } = block;
  const names = new Map<string, Local>([...block.args].map(([name, value]) => [name, { value, at: block.at }]));
  const inside: Context = { ...context, module, locals: { names, up: undefined }, origin: undefined };
  const over = declaration.defaultOver?.inputs;
  const { inputs } = signatureOf(declaration, module);
  if (over === undefined) {
    // `[N, C, H, W]` says what a block can take, not what a model sees.
    const complete = inputs?.every((param) => param.type?.kind !== "TensorType" || param.type.dtype !== undefined);
    if (streams.length > 1 || inputs === undefined || (complete !== true && declaration.keyword !== "model"))
      return undefined;
    return inputs.flatMap((param) =>
      param.type === undefined
        ? []
        : [{ name: param.name.name, type: param.type, context: inside, at: spanOf(inside, param) }],
    );
  }
  if (streams.length === 1) return over.map((item, i) => declared(item, inputs?.[i]?.name.name ?? "x", inside));
  return streams.flatMap((_, i) => {
    const [item] = over;
    return item === undefined ? [] : [{ ...declared(item, "", inside), name: `in${i + 1}` }];
  });
}

/** The layer that inputs come to first, through pipelines and blocks that leave their inputs to it. */
function firstBlock(layer: Layer, context: Context): Layer | undefined {
  if (layer.form === "named") return firstBlock(layer.inner, context);
  if (layer.form === "pipeline") {
    const first = layer.stages[0]?.value;
    return first !== undefined && isLayer(first) ? firstBlock(first, context) : undefined;
  }
  if (layer.form !== "block") return layer;
  const { declaration, module } = layer.block;
  const silentAbout = signatureOf(declaration, module).inputs === undefined && declaration.defaultOver === undefined;
  if (!silentAbout || declaration.value === undefined) return layer;
  const names = new Map<string, Local>([...layer.args].map(([name, given]) => [name, { value: given, at: layer.at }]));
  const inside: Context = {
    ...context,
    module,
    locals: { names, up: undefined },
    owner: layer.instance,
    visits: new Map(),
    depth: context.depth + 1,
  };
  const inner = asLayer(evaluate(declaration.value, inside), inside, declaration.value);
  return inner === undefined ? undefined : firstBlock(inner, inside);
}

interface JointUnit {
  readonly declaration: Callable;
  readonly names: readonly string[];
  readonly context: Context;
}

/** The first unit that takes as many values as there are streams. */
function jointUnit(unfolded: Unfolded): JointUnit | undefined {
  if (unfolded.streams.length < 2) return undefined;
  for (const { clause, context } of unfolded.clauses) {
    if (clause.kind !== "With" || (clause.between ?? unfolded.streams).length !== unfolded.streams.length) continue;
    // Only a look: the unit is made again where it is placed.
    const looking: Context = { ...context, owner: newInstance(), visits: new Map() };
    const layer = attempt(() => asLayer(evaluate(clause.unit, looking), looking, clause.unit));
    const block = layer === undefined ? undefined : blockOf(layer);
    if (layer === undefined || block === undefined) continue;
    if (attempt(() => inputCount(layer, looking)) !== unfolded.streams.length) continue;
    const { inputs } = signatureOf(block.declaration, block.module);
    const inside: Context = { ...looking, module: block.module, locals: undefined };
    return { declaration: block.declaration, names: inputs?.map((param) => param.name.name) ?? [], context: inside };
  }
  return undefined;
}

// ------------------------------------------------------------------------------------------------------------- applying

/** Applies a headline: one value a stream in, the fused value (or, with `fuse none`, one value a stream) out. */
export function applyHeadline(layer: HeadlineLayer, inputs: readonly Value[], context: Context, node: Node): Value {
  const unfolded = unfold(layer, context);
  const { streams: members, clauses } = unfolded;
  if (members.length > 1 && inputs.length !== members.length) {
    fail(
      context,
      "E0404",
      `this model has ${members.length} streams, but ${inputs.length === 1 ? "one value arrives" : `${inputs.length} values arrive`}`,
      node,
      {
        label: `needs ${members.length} values`,
      },
    );
  }
  const { build } = context;
  const start = build.drafts.length;
  const names = members.length > 1 ? streamNames(unfolded, inputs) : [""];
  const streams: Stream[] = [];
  for (const [i, member] of members.entries()) {
    const name = names[i] ?? "";
    const scope = name === "" ? context.scope : join(context.scope, name);
    const first = streams[0];
    if (first !== undefined) build.sharing = sharingOf(unfolded, first, scope, start, context);
    const arriving = members.length === 1 ? inputs : [inputs[i] ?? null];
    const { written } = unfolded;
    const inside: Context = { ...context, scope, module: written?.module ?? context.module };
    const result = applyLayer(member, arriving, inside, written?.expr ?? node);
    build.sharing = undefined;
    streams.push({
      name,
      scope,
      title: titleOf(member),
      outputs: lanes(result).filter(isTensor),
      at: unfolded.at,
      layer: member,
    });
  }
  for (const { clause, context: at } of clauses) {
    if (clause.kind === "With")
      graft(
        clause,
        {
          ...at,
          scope: context.scope,
          origin: context.origin ?? at.origin,
          region: context.region,
          depth: context.depth + 1,
        },
        streams,
        start,
      );
    else if (clause.kind === "From") build.weights = evaluate(clause.source, at);
    else if (clause.kind === "Error") return silent();
  }
  return fuse(unfolded, streams, start, context, node);
}

/** Names of the streams: as `over` says, as the inputs are called, as the unit between them calls them, `in1`, …. */
function streamNames(unfolded: Unfolded, inputs: readonly Value[]): readonly string[] {
  const over = unfolded.clauses.findLast((placed) => placed.clause.kind === "Over")?.clause;
  const unit = jointUnit(unfolded)?.names;
  const names = inputs.map((input, i) => {
    const said = over?.kind === "Over" ? over.inputs[i]?.name?.name : undefined;
    const called = isTensor(input) && input.op === "input" ? input.attrs.name : undefined;
    return said ?? called ?? unit?.[i] ?? `in${i + 1}`;
  });
  return new Set(names).size === names.length ? names : names.map((_, i) => `in${i + 1}`);
}

/** What the stream at `scope` shares with the first one. */
function sharingOf(
  unfolded: Unfolded,
  first: Stream,
  scope: string,
  start: number,
  context: Context,
): Sharing | undefined {
  const regions: string[] = [];
  let all = false;
  let at: Span | undefined;
  for (const { clause, context: inside } of unfolded.clauses) {
    if (clause.kind !== "Sharing") continue;
    at ??= spanOf(inside, clause.at);
    for (const item of clause.at.items) {
      const path = item.from.kind === "Path" && item.to === undefined ? item.from.segments : [];
      if (path.length === 1 && path[0]?.name === "*" && path[0].index === undefined) all = true;
      else
        for (const target of placesAt(item, { ...inside, origin: context.origin }, [first], start))
          regions.push(...target.places.map((place) => place.path.slice(first.scope.length + 1)));
    }
  }
  if (at === undefined) return undefined;
  return { stream: scope, owner: first.scope, regions: all ? "all" : regions, at };
}

// --------------------------------------------------------------------------------------------------------------- fusion

function fuse(unfolded: Unfolded, streams: readonly Stream[], start: number, context: Context, node: Node): Value {
  const placed = unfolded.clauses.findLast((each) => each.clause.kind === "Fuse");
  const clause: Fuse | undefined = placed?.clause.kind === "Fuse" ? placed.clause : undefined;
  const ends = streams.flatMap((stream) => stream.outputs);
  // Headlines of headlines fuse from the inside out, so that the outermost has the last word.
  context.build.streamOutputs = ends;
  if (placed === undefined || clause === undefined) {
    const outputs = ends;
    if (streams.length === 1) return outputs.length === 1 ? (outputs[0] ?? null) : tuple(outputs);
    const average =
      lookup(context, "Average") ??
      fail(context, "E0201", "streams end in `Average` from std/nn, which is not there", node, {
        helps: ["`fuse none` keeps them apart"],
      });
    const layer = asLayer(average, context, node);
    if (layer === undefined) return fail(context, "E0402", `\`Average\` is ${describe(average)}`, node);
    return applyLayer(
      layer,
      outputs,
      {
        ...context,
        origin: {
          span: unfolded.at,
          note: "streams are averaged unless `fuse` says otherwise",
          ...(context.origin === undefined ? {} : { parent: context.origin }),
        },
      },
      node,
    );
  }
  const inside: Context = {
    ...placed.context,
    scope: context.scope,
    origin: context.origin ?? placed.context.origin,
    region: context.region,
    depth: context.depth + 1,
  };
  let outputs = ends;
  if (clause.at !== undefined) {
    const [target, ...more] = placesAt(clause.at, inside, streams, start);
    if (target === undefined || more.length > 0)
      return fail(inside, "E0503", "streams are fused at one position", clause.at);
    outputs = target.places.flatMap((place) => place.current);
    context.build.streamOutputs = outputs;
  }
  const by = evaluate(clause.by, inside, true);
  if (by === null) return tuple(outputs);
  return pipeInto(outputs.length === 1 ? (outputs[0] ?? null) : tuple(outputs), by, inside, clause.by);
}
