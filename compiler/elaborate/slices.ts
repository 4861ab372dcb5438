/**
 * Slices: `net[..p]`, `net[p..q]`, `net[q..]`, the parts of one instance (language 5.6).
 *
 * The network is elaborated once, whole, on stand-in inputs; that settles its weights and positions. A slice is then a
 * copy of the nodes between its two cuts, on the values that really arrive. Positions follow the first copy.
 */
import type { Node } from "../../grammar/ast.ts";
import { diagnostic } from "../../grammar/diagnostic.ts";
import { suggest } from "../../grammar/suggest.ts";
import type { Region } from "../graph/region.ts";
import { showType } from "../graph/shapes.ts";
import { compressPositions, findPositions } from "../positions.ts";
import { newRegion } from "./attributes.ts";
import { applyLayer } from "./core.ts";
import {
  type Build,
  copyDraft,
  type Draft,
  inOrder,
  inputDraft,
  openSize,
  type Place,
  sameType,
  scopedName,
  type Trace,
} from "./draft.ts";
import { Abort, fail, failAt, report, spanOf } from "./failure.ts";
import { inputsOf, unfold } from "./headline.ts";
import { titleOf } from "./layers.ts";
import { declaredTensor, describe } from "./types.ts";
import {
  type Context,
  isTensor,
  type Layer,
  lanes,
  type SliceLayer,
  tuple,
  type Value,
  type WrittenPosition,
} from "./values.ts";

export function applySlice(layer: SliceLayer, inputs: readonly Value[], context: Context, node: Node): Value {
  const { build } = context;
  const arriving = inputs.filter(isTensor);
  if (arriving.length !== inputs.length) {
    return fail(
      context,
      "E0310",
      `a part of a network takes tensors, not ${describe(inputs.find((i) => !isTensor(i)) ?? null)}`,
      node,
    );
  }
  const trace = build.traces.get(layer.of) ?? traceOf(layer, arriving, context, node);
  build.traces.set(layer.of, trace);
  const from = layer.from === undefined ? undefined : cutAt(layer.from, layer.of, trace, context);
  const to = layer.to === undefined ? undefined : cutAt(layer.to, layer.of, trace, context);
  const start = from === undefined ? trace.inputs : [from];
  const end = to === undefined ? trace.outputs : [to];
  if (arriving.length !== start.length) {
    return fail(
      context,
      "E0404",
      `this part takes ${start.length} ${start.length === 1 ? "value" : "values"}, but gets ${arriving.length}`,
      node,
    );
  }
  for (const [i, wanted] of start.entries()) {
    const value = arriving[i];
    if (value !== undefined && !sameType(wanted, value)) {
      const place = layer.from === undefined ? "the input" : `\`${layer.from.path}\``;
      return fail(
        context,
        "E0310",
        `the value at ${place} is ${showType(wanted)}, but ${showType(value)} arrives`,
        node,
        { label: "a part goes on from a value of the same shape" },
      );
    }
  }
  const results = copyBetween(
    build,
    trace,
    new Map(start.map((value, i) => [value, arriving[i] ?? value])),
    end,
    layer,
    context,
  );
  return results.length === 1 ? (results[0] ?? null) : tuple(results);
}

/** Elaborates the whole network on stand-ins shaped like the values that arrive, or like its own inputs. */
function traceOf(layer: SliceLayer, arriving: readonly Draft[], context: Context, node: Node): Trace {
  const { build } = context;
  const types = layer.from === undefined ? arriving : declaredInputs(layer.of, context);
  if (types === undefined) {
    return fail(context, "E0510", `the sizes before \`${layer.from?.path ?? ""}\` are not known yet`, node, {
      helps: [`apply the first part before: \`x -> net[..${layer.from?.path ?? "p"}]\``],
    });
  }
  const inputs = types.map((type, i) => inputDraft(build, `stand-in ${i + 1}`, type, spanOf(context, node)));
  const seen = build.places.length;
  // The parts are copied into other regions than that of their first use.
  const outputs = lanes(applyLayer(layer.of, inputs, { ...context, region: undefined }, node)).filter(isTensor);
  const places = new Map<string, Place>();
  const prefix =
    layer.of.form === "named"
      ? `${context.scope === "" ? "" : `${context.scope}.`}${layer.of.names[0] ?? ""}.`
      : context.scope === ""
        ? ""
        : `${context.scope}.`;
  for (const place of build.places.slice(seen)) {
    for (const path of [place.path, ...place.aliases])
      if (path.startsWith(prefix)) places.set(path.slice(prefix.length), place);
  }
  return { inputs, outputs, places, copied: new Set() };
}

function declaredInputs(
  layer: Layer,
  context: Context,
): readonly { readonly shape: Draft["shape"]; readonly dtype: Draft["dtype"] }[] | undefined {
  const declared = inputsOf(unfold(layer, context), context);
  const types = declared?.map((input) =>
    declaredTensor(input.type, input.context, (name) => openSize(context.build, name, input.at)),
  );
  return types?.every((type) => type !== undefined) ? types : undefined;
}

/** The value at a cut point: a position that every path from the inputs to the outputs crosses (E0510). */
function cutAt(written: WrittenPosition, of: Layer, trace: Trace, context: Context): Draft {
  const paths = [...trace.places.keys()];
  const found = findPositions(paths, written.path);
  const title = titleOf(of) === "" ? "this network" : `\`${titleOf(of)}\``;
  const [path, ...more] = found.matches;
  if (path === undefined) {
    const near = suggest(written.path, paths);
    return failAt(context, "E0502", `${title} has no position \`${written.path}\``, written.at, {
      label: "not a position",
      helps:
        near === undefined
          ? []
          : [{ text: `did you mean \`${near}\`?`, edits: [{ span: written.at, replacement: near }] }],
      notes: paths.length === 0 ? [] : [compressPositions(paths)],
    });
  }
  if (more.length > 0) {
    return failAt(context, "E0503", `\`${written.path}\` could be several positions of ${title}`, written.at, {
      notes: [found.matches.slice(0, 5).join(", ")],
    });
  }
  const [value, ...others] = trace.places.get(path)?.current ?? [];
  if (value === undefined || others.length > 0)
    return failAt(context, "E0510", `\`${written.path}\` is not one value`, written.at);
  const around = inOrder(context.build, trace.outputs, new Set([value]));
  const passing = trace.inputs.some((input) => around.includes(input));
  if (passing && !trace.inputs.includes(value)) {
    report(
      context.build.program.reports,
      diagnostic("E0510", `a network cannot be cut at \`${written.path}\``, written.at, {
        label: "values also go around it",
        notes: ["a cut is a position that every path from the input to the output crosses, such as the end of a stage"],
      }),
    );
    throw new Abort("no cut");
  }
  return value;
}

/** Copies what leads from the replaced values to `end`. Nodes that do not depend on them, such as weights, stay. */
function copyBetween(
  build: Build,
  trace: Trace,
  replaced: Map<Draft, Draft>,
  end: readonly Draft[],
  layer: SliceLayer,
  context: Context,
): readonly Draft[] {
  const now = new Map(replaced);
  const copies = new Map<Draft, Draft>();
  const regionOf = regionsBelow(build, context.region);
  for (const draft of inOrder(build, end, new Set(replaced.keys()))) {
    if (now.has(draft)) continue;
    if (trace.inputs.includes(draft)) {
      const from = layer.from ?? { path: "the input", at: layer.at };
      const to = layer.to?.path ?? "the output";
      return failAt(context, "E0510", `\`${to}\` does not come after \`${from.path}\``, from.at);
    }
    const inputs = draft.inputs.map((input) => now.get(input) ?? input);
    if (inputs.every((input, i) => input === draft.inputs[i])) continue;
    const again = trace.copied.has(draft);
    trace.copied.add(draft);
    // A second copy of a dropout draws numbers of its own.
    const attrs =
      again && draft.op === "dropout" ? { ...draft.attrs, path: scopedName(build, draft.attrs.path) } : draft.attrs;
    const copy = copyDraft(build, draft, { inputs, attrs, region: regionOf(draft.region) });
    now.set(draft, copy);
    if (!again) copies.set(draft, copy);
  }
  const follow = (values: readonly Draft[]): readonly Draft[] => values.map((value) => copies.get(value) ?? value);
  for (const place of new Set(trace.places.values())) {
    place.values = follow(place.values);
    place.entering = follow(place.entering);
  }
  return end.map((value) => now.get(value) ?? value);
}

/** The regions of a copy: its own for each region of the original, inside of `outer`. */
function regionsBelow(build: Build, outer: Region | undefined): (original: Region | undefined) => Region | undefined {
  const copies = new Map<Region, Region>();
  const below = (original: Region | undefined): Region | undefined => {
    if (original === undefined) return outer;
    const copy = copies.get(original) ?? newRegion(build, below(original.parent));
    copies.set(original, copy);
    return copy;
  };
  return below;
}
