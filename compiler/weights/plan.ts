/**
 * Which tensor of a weights file fills which parameter of a model.
 *
 * In: the model, the names and shapes in the file's header, and what the user wants left out. Out: a plan that accounts
 * for every parameter (loaded, skipped on purpose, starting afresh, missing, misshapen) and for every tensor (used, set
 * aside, unused): a file that fits only in part must never load in silence. Nothing is read here; `applyTransforms`
 * works on numbers that somebody else has read.
 *
 * One file of a backbone fills every stream: a stream's name is left out where the file has no such name. A flow stem
 * takes the mean of an RGB kernel, repeated (Wang et al. 2016, "cross-modality pre-training").
 */
import { type Diagnostic, diagnostic } from "../../grammar/diagnostic.ts";
import type { Source } from "../../grammar/source.ts";
import type { Model, Parameter } from "../model.ts";
import { IDENTITY_MAP, mapResolver, patternTest, type Resolved, type Transform, type WeightMap } from "./map.ts";

type Shape = readonly number[];

/** Names and shapes of a file's tensors. */
export type WeightHeader = ReadonlyMap<string, Shape>;

export interface WeightLoad {
  /** Of the parameter. */
  readonly path: string;
  readonly shape: Shape;
  readonly tensor: string;
  readonly tensorShape: Shape;
  readonly via: readonly Transform[];
}

export interface Misshapen {
  readonly path: string;
  readonly shape: Shape;
  readonly tensor: string;
  readonly tensorShape: Shape;
}

export interface WeightPlan {
  /** Name of the map that fits the file best. */
  readonly map: string;
  readonly loads: readonly WeightLoad[];
  /** Parameters left at their start because a rule or the user said so. */
  readonly skipped: readonly string[];
  /** Parameters of grafted units, and others that no rule reaches: a backbone's file cannot have them. */
  readonly fresh: readonly string[];
  readonly missing: readonly { readonly path: string; readonly tensor: string }[];
  readonly misshapen: readonly Misshapen[];
  /** Tensors that nothing asked for. */
  readonly unused: readonly string[];
}

export interface WeightOptions {
  /** Fill this stream only. */
  readonly stream?: string;
  /** Positions to leave at their start: `fc8`, `*.fc8`. */
  readonly skip: readonly string[];
}

type Target = Pick<Model, "parameters" | "streams" | "positions" | "weightMaps">;

function shapeOf(parameter: Parameter): Shape {
  return parameter.node.shape.map((size) => {
    if (typeof size !== "number") throw new Error(`internal: ${parameter.path} has an open size`);
    return size;
  });
}

function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((size, i) => size === b[i]);
}

function count(shape: Shape): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** The shape after one transform on the way to `to`; `undefined` if it does not apply. */
function transformedShape(from: Shape, to: Shape, transform: Transform): Shape | undefined {
  switch (transform.kind) {
    case "reshape":
      return count(from) === count(to) ? to : undefined;
    case "transpose": {
      const [rows, columns] = from.slice(-2);
      return rows === undefined || columns === undefined ? undefined : [...from.slice(0, -2), columns, rows];
    }
    case "repeat_mean": {
      const size = to[transform.axis];
      return size === undefined || from.length !== to.length ? undefined : from.with(transform.axis, size);
    }
    default:
      transform satisfies never;
      return undefined;
  }
}

/** The transforms that bring `from` to `to`, or `undefined`. Adds the flow stem's where only colours stand in the way. */
function fit(from: Shape, to: Shape, via: readonly Transform[]): readonly Transform[] | undefined {
  let shape: Shape | undefined = from;
  for (const transform of via) shape = shape && transformedShape(shape, to, transform);
  if (shape === undefined) return undefined;
  if (sameShape(shape, to)) return via;
  const isFlowStem = shape.length === 4 && shape[1] === 3 && (to[1] ?? 0) % 2 === 0 && sameShape(shape, to.with(1, 3));
  return isFlowStem ? [...via, { kind: "repeat_mean", axis: 1 }] : undefined;
}

/** Leaves the stream's name out of a path. */
function withoutStream(path: string, streams: readonly string[]): string {
  const stream = streams.find((name) => path.startsWith(`${name}.`));
  return stream === undefined ? path : path.slice(stream.length + 1);
}

function lastSegment(path: string): string {
  return path.slice(path.lastIndexOf(".") + 1);
}

/** True below `stia_conv3`: the position that a `with` clause made, called `<unit>_<position>`. */
function graftTest(model: Target): (path: string) => boolean {
  const places = new Set(
    model.positions.flatMap(({ path, aliases }) =>
      [path, ...aliases].map((name) => lastSegment(name).replace(/\[(\d+)\]/g, "_$1")),
    ),
  );
  const grafts: string[] = [];
  for (const { path, block } of model.positions) {
    const name = lastSegment(path);
    const unit = `${block.toLowerCase()}_`;
    if (block === "" || !name.startsWith(unit)) continue;
    const rest = name.slice(unit.length);
    if ([...places].some((place) => place !== name && (rest === place || rest.endsWith(`_${place}`)))) {
      grafts.push(`${path}.`);
    }
  }
  return (path) => grafts.some((graft) => path.startsWith(graft));
}

function planWith(model: Target, header: WeightHeader, map: WeightMap, options: WeightOptions): WeightPlan {
  const resolve = mapResolver(map);
  const isGraft = graftTest(model);
  const skips = options.skip.map(patternTest);
  const loads: WeightLoad[] = [];
  const skipped: string[] = [];
  const fresh: string[] = [];
  const missing: { path: string; tensor: string }[] = [];
  const misshapen: Misshapen[] = [];
  const spoken = new Set<string>();
  for (const parameter of model.parameters) {
    const { path } = parameter;
    if (options.stream !== undefined && !path.startsWith(`${options.stream}.`)) continue;
    // The path as it is first: a checkpoint of the whole model has the streams' names.
    const answers: Resolved[] = [];
    for (const name of new Set([path, withoutStream(path, model.streams)])) {
      const answer = resolve(name);
      if (answer !== undefined) answers.push(answer);
    }
    const inFile = answers.find(({ name }) => name !== undefined && header.has(name));
    const answer = inFile ?? answers[0];
    if (inFile?.name !== undefined) spoken.add(inFile.name);
    if (answers[0]?.kind === "skip" || answer?.kind === "skip" || skips.some((test) => test(path))) {
      skipped.push(path);
      continue;
    }
    const tensorShape = answer === undefined ? undefined : header.get(answer.name);
    if (answer === undefined || tensorShape === undefined) {
      if (answer === undefined || isGraft(path)) fresh.push(path);
      else missing.push({ path, tensor: answer.name });
      continue;
    }
    const shape = shapeOf(parameter);
    const via = fit(tensorShape, shape, answer.via);
    const both = { path, shape, tensor: answer.name, tensorShape };
    if (via === undefined) misshapen.push(both);
    else loads.push({ ...both, via });
  }
  const unused = [...header.keys()].filter((name) => !spoken.has(name) && !name.endsWith("num_batches_tracked"));
  return { map: map.name, loads, skipped, fresh, missing, misshapen, unused };
}

/** How well a plan fits the file: parameters filled, or at least known by name where nothing can be filled. */
function fitness({ loads, misshapen }: WeightPlan): number {
  return loads.length > 0 ? loads.length : misshapen.length / (misshapen.length + 1);
}

/**
 * The plan for one file. Of the model's maps and the identity the one that fits best is taken; among equals the first,
 * so that what the user's file says comes before the library.
 */
export function planWeights(model: Target, header: WeightHeader, options: WeightOptions): WeightPlan {
  const [first, ...others] = [...model.weightMaps, IDENTITY_MAP].map((map) => planWith(model, header, map, options));
  if (first === undefined) throw new Error("internal: there is always the identity map");
  return others.reduce((best, plan) => (fitness(plan) > fitness(best) ? plan : best), first);
}

// ------------------------------------------------------------------------------------------------------------- numbers

function transpose(data: Float32Array, shape: Shape): Float32Array {
  const [rows = 1, columns = 1] = shape.slice(-2);
  const out = new Float32Array(data.length);
  const matrix = rows * columns;
  for (let base = 0; base < data.length; base += matrix) {
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) out[base + c * rows + r] = data[base + r * columns + c] ?? 0;
    }
  }
  return out;
}

function repeatMean(data: Float32Array, shape: Shape, axis: number, size: number): Float32Array {
  const outer = count(shape.slice(0, axis));
  const from = shape[axis] ?? 1;
  const inner = count(shape.slice(axis + 1));
  const out = new Float32Array(outer * size * inner);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      let sum = 0;
      for (let k = 0; k < from; k++) sum += data[(o * from + k) * inner + i] ?? 0;
      const mean = sum / from;
      for (let k = 0; k < size; k++) out[(o * size + k) * inner + i] = mean;
    }
  }
  return out;
}

/** The tensor's numbers, brought to the parameter's shape. Returns `data` itself where nothing is to be done. */
export function applyTransforms(load: WeightLoad, data: Float32Array): Float32Array {
  let shape = load.tensorShape;
  let values = data;
  for (const transform of load.via) {
    const next = transformedShape(shape, load.shape, transform);
    if (next === undefined) throw new Error(`internal: ${load.path} was planned with a transform that does not fit`);
    if (transform.kind === "transpose") values = transpose(values, shape);
    if (transform.kind === "repeat_mean") {
      values = repeatMean(values, shape, transform.axis, next[transform.axis] ?? 1);
    }
    shape = next;
  }
  if (values.length !== count(load.shape)) {
    throw new Error(`internal: ${load.path} wants ${count(load.shape)} numbers, ${load.tensor} has ${values.length}`);
  }
  return values;
}

// -------------------------------------------------------------------------------------------------------------- report

const SHOWN = 8;

function few(names: readonly string[]): string {
  const rest = names.length - SHOWN;
  return names.slice(0, SHOWN).join(", ") + (rest > 0 ? `, … ${rest} more` : "");
}

function plural(n: number, word: string): string {
  return `${n} ${word}${n === 1 ? "" : "s"}`;
}

/** The layer that a parameter belongs to: `spatial.fc8` of `spatial.fc8.weight`. */
function layerOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf(".")));
}

/**
 * What the plan leaves undone, as messages. Missing and misshapen parameters are errors; parameters that start afresh
 * and tensors that nothing asked for are warnings. The place is the weights file itself.
 */
export function reportWeights(plan: WeightPlan, file: string): readonly Diagnostic[] {
  const source: Source = { path: file, text: "" };
  const at = { source, start: 0, end: 0 };
  const found: Diagnostic[] = [];
  if (plan.loads.length === 0 && plan.misshapen.length === 0 && plan.missing.length > 0) {
    found.push(
      diagnostic("E0605", "no tensor of this file has a name that the model knows", at, {
        notes: [`the file has ${few(plan.unused)}`, `the model has ${few(plan.missing.map(({ path }) => path))}`],
        helps: ["a `weights` block in the source says how the names belong together"],
      }),
    );
    return found;
  }
  for (const { path, shape, tensor, tensorShape } of plan.misshapen) {
    found.push(
      diagnostic("E0601", `\`${path}\` is [${shape.join(", ")}], \`${tensor}\` has [${tensorShape.join(", ")}]`, at, {
        helps: [`\`--skip ${layerOf(path)}\` to start it afresh`],
      }),
    );
  }
  if (plan.missing.length > 0) {
    const layers = [...new Set(plan.missing.map(({ path }) => layerOf(path)))];
    found.push(
      diagnostic("E0604", `the file lacks ${plural(plan.missing.length, "parameter")} of the model`, at, {
        notes: [few(plan.missing.map(({ path, tensor }) => (path === tensor ? path : `${path} (${tensor})`)))],
        helps: layers.length <= SHOWN ? [layers.map((layer) => `--skip ${layer}`).join(" ")] : [],
      }),
    );
  }
  if (plan.fresh.length > 0) {
    found.push(
      diagnostic("W0602", `${plural(plan.fresh.length, "parameter")} keep their random start`, at, {
        notes: [few(plan.fresh)],
      }),
    );
  }
  if (plan.unused.length > 0) {
    found.push(
      diagnostic("W0603", `${plural(plan.unused.length, "tensor")} of the file fill nothing`, at, {
        notes: [few(plan.unused)],
      }),
    );
  }
  return found;
}
