/**
 * Networks from source texts, and their answers on every device: what the tests of agreement share.
 *
 * In: a text or the name of an example. Out: the checked model, its sizes bound, and the outputs of one forward pass on
 * the oracle (f64), on WASM threads or on SwiftShader's WebGPU, from parameters and inputs that the caller gives.
 */
import { resolve as resolvePath } from "node:path";
import { create } from "webgpu";
import { type Capability, WASM_DEFAULT, WEBGPU_DEFAULT } from "../../compiler/capability.ts";
import { bindModel, compile, type LoweredModel, lowerModel, type Staged } from "../../compiler/compile.ts";
import { elaborate } from "../../compiler/elaborate/elaborate.ts";
import type { Graph, GraphNode } from "../../compiler/graph/graph.ts";
import { interpret } from "../../compiler/loop/interp.ts";
import type { Elaboration, Model } from "../../compiler/model.ts";
import type { Program } from "../../compiler/program.ts";
import { renderDiagnostics } from "../../grammar/render.ts";
import { diskResolve, openEntry } from "../../runtime/cli/sources.ts";
import { initialise } from "../../runtime/engine/init.ts";
import type { Runner, WeightSource } from "../../runtime/engine/runner.ts";
import { openWasm } from "../../runtime/engine/wasm/runner.ts";
import { openWebGPU } from "../../runtime/engine/webgpu.ts";
import { namedValues } from "./named-values.ts";
import { preloadSwiftShader } from "./swiftshader.mjs";
import { SOFTWARE } from "./webgpu.ts";

/** Numbers by name: of inputs, parameters or outputs. */
export type Numbers = ReadonlyMap<string, Float32Array>;

/** Elaborates a text that lies beside the examples. */
export function elaborateText(text: string): Elaboration {
  const source = { path: "<test>", text };
  return elaborate(source, diskResolve(source, resolvePath("examples")));
}

function demand({ model, diagnostics }: Elaboration, what: string): Model {
  if (model === undefined) throw new Error(`no model comes of ${what}:\n${renderDiagnostics(diagnostics)}`);
  return model;
}

/** The checked model of a text, its sizes bound. Throws with the diagnostics if there is none. */
export function modelOf(text: string, sizes: Readonly<Record<string, number>> = {}): Model {
  return bound(demand(elaborateText(text), text), sizes);
}

const examples = new Map<string, Model>();

/** The checked model of `examples/<name>.net`, its sizes still open. */
export function exampleModel(name: string): Model {
  const known = examples.get(name);
  if (known !== undefined) return known;
  const { source, resolve } = openEntry(`examples/${name}.net`);
  const model = demand(elaborate(source, resolve), source.path);
  examples.set(name, model);
  return model;
}

/** The result of a stage, or its diagnostics as an error. */
export function stagedOk<T>(staged: Staged<T>): T {
  if ("ok" in staged) return staged.ok;
  throw new Error(renderDiagnostics(staged.diagnostics));
}

/** `model` with numbers for sizes; the batch is one unless given. */
export function bound(model: Model, sizes: Readonly<Record<string, number>> = {}): Model {
  return stagedOk(bindModel(model, new Map(Object.entries({ N: 1, ...sizes }))));
}

/** The loops of a model whose sizes are bound. */
export function lowered(model: Model, target: Capability = WEBGPU_DEFAULT): LoweredModel {
  return stagedOk(lowerModel(model, target));
}

/** The program of a model whose sizes are bound. */
export function programOf(model: Model, target: Capability, seed = 7): Program {
  return stagedOk(compile(model, { target, sizes: new Map(), seed }));
}

/** The shape of a node whose sizes are bound. */
export function shapeOf(node: GraphNode): readonly number[] {
  return node.shape.map(Number);
}

/** Values made from the paths of a model's parameters, so that no gate is closed and nothing is zero by chance. */
export function namedParameters(model: Model): Map<string, Float32Array> {
  return new Map(model.parameters.map(({ path, node }) => [path, namedValues(path, shapeOf(node))]));
}

/** The parameters with which a model starts from a seed. */
export function startingParameters(model: Model, seed = 7): Map<string, Float32Array> {
  return new Map(
    model.parameters.map(({ path, node, init }) => {
      const shape = shapeOf(node);
      const values = new Float32Array(shape.reduce((product, size) => product * size, 1));
      initialise(
        { path, shape, dtype: node.dtype, init, rows: undefined, order: undefined, allocation: 0 },
        seed,
        values,
      );
      return [path, values];
    }),
  );
}

/** Values made from the names of a graph's inputs. */
export function namedInputs(graph: Graph): Map<string, Float32Array> {
  return new Map(graph.inputs.map((node) => [node.attrs.name, namedValues(node.attrs.name, shapeOf(node))]));
}

/** Values made from a name, as the oracle takes them. */
export function named64(name: string, shape: readonly number[]): Float64Array {
  return Float64Array.from(namedValues(name, shape));
}

/** Numbers as the oracle takes them. */
export function doubles(numbers: Numbers): Map<string, Float64Array> {
  return new Map([...numbers].map(([name, values]) => [name, Float64Array.from(values)]));
}

/** The outputs of the oracle, in f64. */
export function onOracle(model: Model, inputs: Numbers, parameters: Numbers): Map<string, Float64Array> {
  return interpret(lowered(model).loops, doubles(inputs), doubles(parameters));
}

/** A source of weights that gives the rows asked for. */
export function weightsFrom(parameters: Numbers): WeightSource {
  return ({ path, shape, rows }, into) => {
    const values = parameters.get(path);
    if (values === undefined) throw new Error(`no values for ${path}`);
    const row = values.length / (shape[0] ?? 1);
    into.set(rows === undefined ? values : values.subarray(rows.start * row, rows.end * row));
  };
}

/** One forward pass on an opened program, which is disposed of. */
export async function runOnce(
  runner: Runner,
  inputs: Numbers,
  weights: WeightSource,
): Promise<Map<string, Float32Array>> {
  try {
    await runner.load(weights);
    for (const [name, values] of inputs) runner.write(name, values);
    await runner.run();
    const outputs = new Map<string, Float32Array>();
    for (const { name } of runner.program.outputs) outputs.set(name, await runner.read(name));
    return outputs;
  } finally {
    runner.dispose();
  }
}

/** The outputs on WASM, two threads. */
async function onWasm(model: Model, inputs: Numbers, parameters: Numbers): Promise<Map<string, Float32Array>> {
  return runOnce(await openWasm(programOf(model, WASM_DEFAULT)), inputs, weightsFrom(parameters));
}

let vulkan: GPU | undefined;

/** SwiftShader's WebGPU; one for the process, held for its life because Dawn frees its instance with it. */
export function softwareGPU(): GPU {
  preloadSwiftShader();
  vulkan ??= create(["backend=vulkan"]);
  return vulkan;
}

/** The outputs on SwiftShader's WebGPU, with the limits that every device has. */
async function onWebGPU(model: Model, inputs: Numbers, parameters: Numbers): Promise<Map<string, Float32Array>> {
  return runOnce(await openWebGPU(programOf(model, SOFTWARE), softwareGPU()), inputs, weightsFrom(parameters));
}

/** The devices, by name. */
export const DEVICES: {
  readonly [K in "interp" | "wasm" | "webgpu"]: (
    model: Model,
    inputs: Numbers,
    parameters: Numbers,
  ) => Promise<ReadonlyMap<string, ArrayLike<number>>>;
} = {
  interp: async (model, inputs, parameters) => onOracle(model, inputs, parameters),
  wasm: onWasm,
  webgpu: onWebGPU,
};
