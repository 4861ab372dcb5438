/**
 * Grafts: `with UNIT at POSITIONS` (language 5.8).
 *
 * The value at a position is replaced, for everything that uses it, by what a unit makes of it. One unit between the
 * streams takes the values of all of them as they are before any is replaced; a unit of one input goes into each stream.
 */
import type { With } from "../../grammar/ast.ts";
import type { Span } from "../../grammar/source.ts";
import { showType } from "../graph/shapes.ts";
import { showShape } from "../size.ts";
import { inputCount } from "./calls.ts";
import { applyLayer, asLayer, evaluate } from "./core.ts";
import { constant, type Draft, emit, type Graft, type Place, sameType } from "./draft.ts";
import { fail, failAt, isLibrary, silent, spanOf, textOf } from "./failure.ts";
import { addTap, blockOf, titleOf } from "./layers.ts";
import { placesAt, type Target } from "./places.ts";
import { describe, signatureOf, typeText } from "./types.ts";
import { type Context, isTensor, join, type Layer, lanes, newInstance } from "./values.ts";

/** One stream of a headline while it is being made. */
export interface Stream {
  /** Empty if there is only one. */
  readonly name: string;
  readonly scope: string;
  /** The block it is made of, for messages. */
  readonly title: string;
  readonly layer: Layer;
  outputs: readonly Draft[];
  /** The `×2`, or the network. */
  readonly at: Span;
}

/** Places one `with` clause. `start` is the serial of the headline's first node. */
export function graft(clause: With, context: Context, streams: readonly Stream[], start: number): void {
  const positions = clause.at?.items;
  const concerned =
    clause.between === undefined
      ? streams
      : clause.between.map((ident) => {
          const stream = streams.find((each) => each.name === ident.name);
          return (
            stream ??
            fail(context, "E0501", `no stream is called \`${ident.name}\``, ident, {
              notes: [`the streams are ${streams.map((each) => each.name).join(", ")}`],
            })
          );
        });
  // Looked at first, so that `with none` and a wrong number of inputs are said before any position is.
  const look = evaluate(clause.unit, { ...context, owner: newInstance(), visits: new Map() });
  if (look === null) return;
  const kind = asLayer(look, context, clause.unit);
  if (kind === undefined) {
    const choice = typeof look === "object" && look.kind === "set";
    return fail(context, "E0402", `\`with\` needs a unit, this is ${describe(look)}`, clause.unit, {
      helps: choice ? ["a set is a choice; `search` tries its members"] : [],
    });
  }
  const arity = inputCount(kind, context) ?? concerned.length;
  if (arity !== 1 && arity !== concerned.length) return wrongArity(clause, kind, arity, context, concerned);
  if (positions === undefined) {
    // After a syntax error the positions may be what could not be read.
    if (context.build.program.reports.diagnostics.some((found) => found.code.startsWith("E01"))) return silent();
    return fail(context, "E0502", "`with` needs positions: `with … at conv3`", clause, { label: "where?" });
  }
  const all = positions.map((item) => ({ item, targets: placesAt(item, context, concerned, start) }));
  const many = all.reduce((sum, each) => sum + each.targets.length, 0) > 1;
  for (const { item, targets } of all) {
    for (const target of targets) {
      const label = `${item.side === "before" ? "before_" : ""}${target.label}`;
      if (arity > 1) {
        if (target.places.length !== concerned.length) oneStreamOnly(clause, kind, target, context, concerned);
        const places = target.streams.map((_, i) => target.places[i]).filter((place) => place !== undefined);
        put(clause, context, places, context.scope, label, many, target, item.side === "before", streams, start);
      } else {
        for (const [i, place] of target.places.entries()) {
          const stream = concerned[target.streams[i] ?? 0];
          if (stream !== undefined)
            put(clause, context, [place], stream.scope, label, many, target, item.side === "before", streams, start);
        }
      }
    }
  }
}

function put(
  clause: With,
  context: Context,
  places: readonly Place[],
  scope: string,
  label: string,
  many: boolean,
  target: Target,
  before: boolean,
  streams: readonly Stream[],
  start: number,
): void {
  const { build } = context;
  const made = evaluate(clause.unit, context);
  const unit = asLayer(made, context, clause.unit);
  if (unit === undefined)
    return fail(context, "E0402", `\`with\` needs a unit, this is ${describe(made)}`, clause.unit);
  const olds = places.map((place) => valueAt(place, before, target, context));
  if (olds.length > 1) sameShapes(unit, olds, target, context, streams);
  const name = nameOfUnit(unit, scope, label, many, context);
  const named = addTap(unit.form === "named" ? unit.inner : unit, name, target.at);
  const first = build.drafts.length;
  const origin = {
    span: target.at,
    note: `grafted at \`${target.label}\``,
    ...(context.origin === undefined ? {} : { parent: context.origin }),
  };
  const result = lanes(applyLayer(named, olds, { ...context, scope, origin }, clause.unit));
  const news = result.filter(isTensor);
  for (const [i, old] of olds.entries()) {
    const now = news[i];
    if (now === undefined || news.length !== olds.length || !sameType(old, now))
      changedShape(clause, unit, olds, news, target, context);
  }
  const written = target.at.source.text.slice(target.at.start, target.at.end);
  const earlier = build.grafts.filter(({ takes }) => takes.some((value) => olds.includes(value)));
  build.grafts.push({
    at: target.at,
    label: written,
    path: join(scope, name),
    takes: olds,
    first,
    end: build.drafts.length,
  });
  replace(context, places, olds, gated(clause, context, olds, news), before, start, first, streams, earlier);
}

/** In a super-network: gate · new + (1 − gate) · old, which is one of the two to the last bit. */
function gated(clause: With, context: Context, olds: readonly Draft[], news: readonly Draft[]): readonly Draft[] {
  const { gates } = context.build;
  const gate = gates?.of.get(clause);
  if (gates === undefined || gate === undefined) return news;
  const use = { context, node: clause };
  const open = emit(
    "reshape",
    [emit("slice", [gates.input], { axis: 0, start: gate, size: 1 }, use)],
    { shape: [] },
    use,
  );
  const shut = emit("binary", [constant(1, "f32", use), open], { fn: "sub" }, use);
  return news.map((now, i) => {
    const old = olds[i];
    // What the unit leaves as it is, as one of two directions does, needs no gate.
    if (old === undefined || now === old) return now;
    const parts = [emit("binary", [now, open], { fn: "mul" }, use), emit("binary", [old, shut], { fn: "mul" }, use)];
    return emit("binary", parts, { fn: "add" }, use);
  });
}

/** The one value that a graft at `place` takes. */
function valueAt(place: Place, before: boolean, target: Target, context: Context): Draft {
  const values = before ? place.entering : place.current;
  const [only, ...more] = values;
  if (only !== undefined && more.length === 0) return only;
  const why = values.length === 0 ? "nothing enters it" : `it has ${values.length} values`;
  return failAt(context, "E0502", `one value is needed at \`${target.label}\`, but ${why}`, target.at);
}

/** Uses of the old values become uses of the new ones: everywhere after `earlier` grafts, or inside the region for `before`. */
function replace(
  context: Context,
  places: readonly Place[],
  olds: readonly Draft[],
  news: readonly Draft[],
  before: boolean,
  start: number,
  unitStart: number,
  streams: readonly Stream[],
  earlier: readonly Graft[],
): void {
  const { drafts, places: all } = context.build;
  const swap = (from: readonly Draft[]): readonly Draft[] => from.map((value) => news[olds.indexOf(value)] ?? value);
  if (before) {
    for (const [i, place] of places.entries()) {
      const old = olds[i];
      const now = news[i];
      if (old === undefined || now === undefined) continue;
      const into = (value: Draft): Draft => (value === old ? now : value);
      for (const draft of drafts.slice(place.first, place.end)) draft.inputs = draft.inputs.map(into);
      place.entering = place.entering.map(into);
    }
    return;
  }
  for (const [i, draft] of drafts.slice(start, unitStart).entries()) {
    if (!draft.inputs.some((input) => olds.includes(input))) continue;
    // A unit that came before and left the value as it is, as one of two directions does, saw it without this one.
    if (earlier.some(({ first, end }) => first <= start + i && start + i < end)) continue;
    draft.inputs = swap(draft.inputs);
  }
  for (const place of all) {
    if (place.current.some((value) => olds.includes(value))) place.current = swap(place.current);
    if (place.first >= start && place.first < unitStart) place.entering = swap(place.entering);
  }
  for (const stream of streams) stream.outputs = swap(stream.outputs);
}

/** `stia_conv3`: the unit's name, or the one it was given, and the position. */
function nameOfUnit(unit: Layer, scope: string, label: string, many: boolean, context: Context): string {
  const own = unit.form === "named" ? unit.names[0] : undefined;
  const suffix = label.replace(/[.[\]]+/g, "_").replace(/_+$/, "");
  const title = titleOf(unit).toLowerCase();
  const base = own === undefined ? `${title === "" ? "unit" : title}_${suffix}` : many ? `${own}_${suffix}` : own;
  let name = base;
  for (let n = 2; context.build.placeByPath.has(join(scope, name)); n++) name = `${base}_${n}`;
  return name;
}

// --------------------------------------------------------------------------------------------------------------- errors

function wrongArity(clause: With, unit: Layer, arity: number, context: Context, concerned: readonly Stream[]): never {
  const title = titleOf(unit);
  const block = blockOf(unit);
  const names =
    block === undefined
      ? undefined
      : signatureOf(block.declaration, block.module).inputs?.map((param) => param.name.name);
  const [first] = concerned;
  const text = textOf(context, clause.unit);
  const helps: string[] = [];
  if (concerned.length === 1 && first !== undefined) {
    const network = first.at.source.text.slice(first.at.start, first.at.end).replace(/\s+/g, " ");
    const at = clause.at === undefined ? "" : ` at ${textOf(context, clause.at)}`;
    if (arity > 1) helps.push(`\`${network} ×${arity} with ${text}${at}\``);
    if (title === "STIA") helps.push("within one stream use `NonLocal`, which looks at itself");
  } else if (concerned.length > arity)
    helps.push(
      `\`with ${text} between ${concerned
        .slice(0, arity)
        .map((s) => s.name)
        .join(", ")}\` picks ${arity} of them`,
    );
  const at = spanOf(context, clause.unit);
  return fail(
    context,
    "E0505",
    `\`${title === "" ? text : title}\` joins ${arity} streams, but this model has ${concerned.length}`,
    clause.unit,
    {
      label: names === undefined ? `takes ${arity} values` : `takes (${names.join(", ")})`,
      secondary:
        first === undefined || isLibrary(first.at.source) || first.at.start === at.start
          ? []
          : [{ span: first.at, text: concerned.length === 1 ? "one stream" : `${concerned.length} streams` }],
      helps,
    },
  );
}

/** `with STIA at spatial.conv3`: the other stream's place is missing. */
function oneStreamOnly(
  clause: With,
  unit: Layer,
  target: Target,
  context: Context,
  concerned: readonly Stream[],
): never {
  const [place] = target.places;
  const stream = concerned.find((each) => place?.path.startsWith(`${each.scope}.`) === true);
  const inside = target.label;
  return failAt(
    context,
    "E0505",
    `\`${titleOf(unit)}\` joins ${concerned.length} streams, but \`${stream?.name ?? ""}.${inside}\` is a place in one`,
    target.at,
    {
      helps: [
        `\`with ${textOf(context, clause.unit)} at ${inside}\` for the same place in every stream`,
        `\`at (${concerned.map((each) => `${each.name}.${inside}`).join(", ")})\` for places of different depths`,
      ],
    },
  );
}

/** Streams that must be alike where they are joined, and are not (E0506). */
function sameShapes(
  unit: Layer,
  olds: readonly Draft[],
  target: Target,
  context: Context,
  streams: readonly Stream[],
): void {
  const [first] = olds;
  const block = blockOf(unit);
  const inputs = block === undefined ? undefined : signatureOf(block.declaration, block.module).inputs;
  if (first === undefined || block === undefined || inputs === undefined || olds.every((old) => sameType(first, old)))
    return;
  const types = new Set(inputs.map((param) => (param.type === undefined ? "" : typeText(block.module, param.type))));
  if (types.size !== 1) return;
  const names = target.places.map(
    (place) => streams.find((stream) => place.path.startsWith(`${stream.scope}.`))?.name ?? "",
  );
  const shapes = olds.map((old, i) => `${names[i]} is ${showShape(old.shape)}`).join(", ");
  failAt(
    context,
    "E0506",
    `the ${olds.length === 2 ? "two " : ""}streams differ in shape at \`${target.label}\``,
    target.at,
    {
      label: shapes,
      notes: [
        `\`${titleOf(unit)}\` takes ${inputs.map((param) => param.name.name).join(" and ")} of one shape ${[...types][0]}`,
      ],
      helps: ["give the streams inputs of the same sizes with `over`, or join them at places where their sizes meet"],
    },
  );
}

function changedShape(
  clause: With,
  unit: Layer,
  olds: readonly Draft[],
  news: readonly Draft[],
  target: Target,
  context: Context,
): never {
  const title = titleOf(unit);
  const block = blockOf(unit);
  const output = block?.declaration.output;
  const library = block === undefined || isLibrary(block.module.source);
  const secondary =
    output === undefined || library
      ? []
      : [{ span: { source: block.module.source, start: output.start, end: output.end }, text: "this comes out" }];
  return fail(
    context,
    "E0504",
    `\`${title === "" ? textOf(context, clause.unit) : title}\` changes the shape at \`${target.label}\``,
    clause.unit,
    {
      label: `${olds.map(showType).join(", ")} becomes ${news.map(showType).join(", ")}`,
      secondary,
      notes: [`what comes after ${target.label} was built for the old shape`],
      helps: ["a `unit` keeps its shape: end with `Conv(C, k=1)`, or put the change in the backbone"],
    },
  );
}
