/**
 * From a block, a layer or a headline to a model: inputs made, everything applied, the graph finished.
 */
import type { Callable, Expr, Node, With } from "../../grammar/ast.ts";
import type { Span } from "../../grammar/source.ts";
import { suggest } from "../../grammar/suggest.ts";
import type { Graph, GraphNode } from "../graph/graph.ts";
import { STEP_INPUTS } from "../graph/step.ts";
import { compressPositions, findPositions } from "../positions.ts";
import { type Size, name as sizeName } from "../size.ts";
import { applyLayer, asLayer } from "./core.ts";
import { type Build, type Draft, finish, inputDraft, newBuild, openSize, type Place, topContext } from "./draft.ts";
import { fail, failAt, spanOf } from "./failure.ts";
import { type DeclaredInput, inputsOf, unfold } from "./headline.ts";
import { headlineAround } from "./layers.ts";
import type { Module, Program } from "./modules.ts";
import { declaredTensor, describe, signatureOf, type Use } from "./types.ts";
import { type Context, isBlock, isTensor, type Layer, lanes, type Value } from "./values.ts";

/** A model and what was found on the way. */
export interface MadeModel {
  readonly name: string;
  readonly graph: Graph;
  readonly nodes: ReadonlyMap<Draft, GraphNode>;
  readonly build: Build;
  readonly streams: readonly string[];
  /** `from W`: the weights declaration that was chosen. */
  readonly weights: Value | undefined;
}

/**
 * Makes a model of a value: a block, a layer or a headline. Problems are reported and abort.
 * @param gates clauses of the headline whose grafts get a gate, by number, and so a further input of the model
 */
export function makeModel(
  program: Program,
  value: Value,
  module: Module,
  node: Node,
  name: string,
  bind: ReadonlyMap<string, number>,
  gates: ReadonlyMap<With, number> = new Map(),
): MadeModel {
  const build = newBuild(program, bind);
  const context = topContext(build, module);
  if (gates.size > 0) {
    const type = { shape: [gates.size], dtype: "f32" } as const;
    build.gates = { of: gates, input: inputDraft(build, STEP_INPUTS.gates, type, spanOf(context, node)) };
  }
  const network = asLayer(value, context, node);
  // Streams that nothing joins are averaged, as in any headline.
  const layer = network?.form === "streams" ? headlineAround(network, context, node) : network;
  if (layer === undefined) return fail(context, "E0402", `a model is a network, this is ${describe(value)}`, node);
  const declaration = layer.form === "block" ? layer.block.declaration : undefined;
  if (declaration !== undefined) assume(build, declaration, layer, context);
  const inputs = declaredInputs(layer, context) ?? unknownInputs(layer, context, node);
  const drafts = inputs.map((input) => {
    const type = declaredTensor(input.type, input.context, (open) => openSize(build, open, input.at));
    return type === undefined
      ? failAt(context, "E0313", `the number of axes of \`${input.name}\` is not known`, input.at, {
          helps: ["`f32[N, 3, 224, 224]` says every axis"],
        })
      : inputDraft(build, input.name, type, input.at);
  });
  const result = lanes(applyLayer(layer, drafts, context, node, true));
  const outputs = result.filter(isTensor);
  if (outputs.length === 0 || outputs.length !== result.length)
    return fail(context, "E0320", `a model gives tensors, this gives ${describe(result[0] ?? null)}`, node);
  const unfolded = unfold(layer, { ...context, build: newBuild(program, bind) });
  const streams =
    unfolded.streams.length > 1 ? drafts.map((draft) => (draft.op === "input" ? draft.attrs.name : "")) : [];
  const names = outputs.map((_, i) =>
    outputs.length === 1 ? "output" : outputs.length === streams.length ? (streams[i] ?? "") : `output${i + 1}`,
  );
  const finished = finish(
    build,
    name,
    drafts,
    outputs.map((draft, i) => ({ name: names[i] ?? "", draft })),
  );
  return { name, ...finished, build, streams, weights: build.weights };
}

/** Inputs as the model declares them, as its headline says, or by default. */
function declaredInputs(layer: Layer, context: Context): readonly DeclaredInput[] | undefined {
  if (layer.form === "block" && layer.block.declaration.keyword === "model") {
    const { declaration, module } = layer.block;
    const { inputs } = signatureOf(declaration, module);
    const inside: Context = { ...context, module };
    if (inputs !== undefined && declaration.defaultOver === undefined) {
      return inputs.flatMap((param) =>
        param.type === undefined
          ? []
          : [{ name: param.name.name, type: param.type, context: inside, at: spanOf(inside, param) }],
      );
    }
  }
  return inputsOf(unfold(layer, { ...context, build: newBuild(context.build.program, context.build.bind) }), context);
}

function unknownInputs(layer: Layer, context: Context, node: Node): never {
  const two = layer.form === "headline" || layer.form === "streams";
  return fail(context, "E0313", "the inputs of this model are not known", node, {
    label: "what does it see?",
    helps: [two ? "`over a: f32[N, 3, 224, 224], b: f32[N, 20, 224, 224]`" : "`over x: f32[N, 3, 224, 224]`"],
  });
}

/** What a model says of its own open sizes holds: `where H % 32 == 0` makes H a multiple, `H == W` makes them one. */
function assume(build: Build, declaration: Callable, layer: Layer, context: Context): void {
  const inside: Context = layer.form === "block" ? { ...context, module: layer.block.module } : context;
  for (const fact of declaration.where) {
    if (fact.definition !== undefined && fact.left.kind === "Name") continue;
    build.assumed.add(fact.left);
    assumeFact(build, fact.left, spanOf(inside, fact));
  }
}

function assumeFact(build: Build, fact: Expr, at: Span): void {
  if (fact.kind !== "Binary") return;
  if (fact.op === "and") {
    assumeFact(build, fact.left, at);
    assumeFact(build, fact.right, at);
  }
  if (fact.op !== "==") return;
  const { left, right } = fact;
  const zero = right.kind === "Number" && right.value === 0;
  if (zero && left.kind === "Binary" && left.op === "%" && left.left.kind === "Name" && left.right.kind === "Number") {
    const { name } = left.left;
    const by = left.right.value;
    const bound = build.bind.get(name);
    const size: Size = bound ?? sizeName(name, by);
    if (Number.isInteger(by) && by > 0) build.open.set(name, { size, at });
  } else if (left.kind === "Name" && right.kind === "Name") {
    const known = [left.name, right.name].map((n) => build.open.get(n)?.size ?? build.bind.get(n));
    const size = known.find((each) => each !== undefined) ?? sizeName(left.name);
    build.open.set(left.name, { size, at });
    build.open.set(right.name, { size, at });
  }
}

const made = new WeakMap<Program, Map<Callable, MadeModel>>();

/** The model that an assertion speaks of, made once. */
export function modelOf(value: Value, use: Use): MadeModel {
  const { context, node } = use;
  const { program } = context.build;
  const key = isBlock(value) ? value.declaration : undefined;
  const known = made.get(program) ?? new Map<Callable, MadeModel>();
  made.set(program, known);
  const found = key === undefined ? undefined : known.get(key);
  if (found !== undefined) return found;
  const model = makeModel(program, value, context.module, node, key?.name.name ?? "Model", context.build.bind);
  if (key !== undefined) known.set(key, model);
  return model;
}

/** The value at a position of a finished model. */
export function placeOfModel(model: MadeModel, written: string, use: Use): GraphNode {
  const { node, path } = findPlace(model, written, use);
  return node ?? fail(use.context, "E0502", `nothing uses the value at \`${path}\``, use.node);
}

function findPlace(
  model: MadeModel,
  written: string,
  use: Use,
): { readonly node: GraphNode | undefined; readonly path: string } {
  const known = new Map<string, Place>();
  for (const place of model.build.places) for (const path of [place.path, ...place.aliases]) known.set(path, place);
  const paths = [...known.keys()];
  const found = findPositions(paths, written);
  const places = new Set(found.matches.map((path) => known.get(path)));
  const [place, ...more] = places;
  if (place === undefined) {
    const near = suggest(written, paths);
    return fail(use.context, "E0502", `\`${model.name}\` has no position \`${written}\``, use.node, {
      helps: near === undefined ? [] : [`did you mean \`${near}\`?`],
      notes: paths.length === 0 ? [] : [compressPositions(paths)],
    });
  }
  if (more.length > 0) {
    return fail(use.context, "E0503", `\`${written}\` could be several positions of \`${model.name}\``, use.node, {
      notes: [found.matches.slice(0, 5).join(", ")],
    });
  }
  const [value] = place.values;
  return { node: value === undefined ? undefined : model.nodes.get(value), path: place.path };
}
