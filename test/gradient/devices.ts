/**
 * Gradient graphs on devices: compiled for WASM threads or for SwiftShader's WebGPU, run, and compared with the oracle,
 * which walks their plain loops in f64.
 */
import { assemble } from "../../compiler/assemble.ts";
import { type Capability, WASM_DEFAULT } from "../../compiler/capability.ts";
import type { Graph } from "../../compiler/graph/graph.ts";
import { interpret } from "../../compiler/loop/interp.ts";
import { type LowerOptions, lowerGraph } from "../../compiler/loop/lower.ts";
import type { Runner } from "../../runtime/engine/runner.ts";
import { openWasm } from "../../runtime/engine/wasm/runner.ts";
import { openWebGPU } from "../../runtime/engine/webgpu.ts";
import { errorsOf } from "../tools/compare.ts";
import { softwareGPU, weightsFrom } from "../tools/nets.ts";
import { SOFTWARE } from "../tools/webgpu.ts";
import type { Values } from "./check.ts";

export type Device = "wasm" | "webgpu";

const PLAIN: LowerOptions = { panelWidth: 0, maxBufferBytes: 2 ** 31, fuse: false };

/** As `compile` lowers for each target. */
const TARGETS: { readonly [K in Device]: { readonly target: Capability; readonly options: LowerOptions } } = {
  wasm: {
    target: WASM_DEFAULT,
    options: { panelWidth: 8, maxBufferBytes: 2 ** 31, fuse: true, maxBindings: 16 },
  },
  webgpu: {
    target: SOFTWARE,
    options: {
      panelWidth: 2 ** 20,
      maxBufferBytes: SOFTWARE.limits.maxStorageBufferBindingSize,
      fuse: true,
      maxBindings: SOFTWARE.limits.maxStorageBuffersPerShaderStage,
    },
  },
};

/** A graph compiled for a device. Whoever opens it disposes of it. */
export function openGraph(graph: Graph, device: Device): Promise<Runner> {
  const { target, options } = TARGETS[device];
  const program = assemble(lowerGraph(graph, options), { target, seed: 1, graphHash: "", classes: undefined });
  return device === "wasm" ? openWasm(program) : openWebGPU(program, softwareGPU());
}

/** Loads the parameters, rounded to f32. */
export async function loadOn(runner: Runner, { params }: Values): Promise<void> {
  await runner.load(weightsFrom(new Map([...params].map(([path, data]) => [path, Float32Array.from(data)]))));
}

/** All outputs of one run by name, from inputs that are rounded to f32 on their way in. Parameters are loaded before. */
export async function runOn(
  runner: Runner,
  inputs: ReadonlyMap<string, Float64Array>,
): Promise<Map<string, Float32Array>> {
  const wanted = new Set(runner.program.inputs.map(({ name }) => name));
  for (const [name, data] of inputs) if (wanted.has(name)) runner.write(name, Float32Array.from(data));
  await runner.run();
  const outputs = new Map<string, Float32Array>();
  for (const { name } of runner.program.outputs) outputs.set(name, await runner.read(name));
  return outputs;
}

/** The same numbers, all of which f32 has: so that devices and the oracle compute with equal ones. */
function rounded({ inputs, params }: Values): Values {
  const round = (values: ReadonlyMap<string, Float64Array>): Map<string, Float64Array> =>
    new Map([...values].map(([name, data]) => [name, data.map(Math.fround)]));
  return { inputs: round(inputs), params: round(params) };
}

/** The outputs of the oracle, from plain loops. */
export function oracleOf(graph: Graph, values: Values): Map<string, Float64Array> {
  const { inputs, params } = rounded(values);
  return interpret(lowerGraph(graph, PLAIN), inputs, params);
}

const TOLERANCE = 1e-4;

interface CheckOptions {
  /** What the outputs should be; asked of the oracle if absent. */
  readonly wanted?: ReadonlyMap<string, Float64Array>;
  readonly tolerance?: number | undefined;
}

/**
 * Runs a graph on a device and compares every output with what the oracle has, by both measures of compare.ts. f32 has a
 * relative error of 6e-8 in each operation; sums of some hundred terms, differences in norms and the depth of the nets
 * here leave at most some 1e-5, and 1e-4 is allowed as for predictions. An output that is nothing (the gradient of a dead
 * bias) is what is left when numbers as large as other gradients cancel: it is measured against the largest of all.
 */
export async function checkOn(
  device: Device,
  graph: Graph,
  values: Values,
  { wanted = oracleOf(graph, values), tolerance = TOLERANCE }: CheckOptions = {},
): Promise<void> {
  const runner = await openGraph(graph, device);
  try {
    await loadOn(runner, values);
    const got = await runOn(runner, values.inputs);
    const largest = Math.max(...[...wanted.values()].map(greatest));
    const faults = [...wanted].flatMap(([name, want]) => {
      const data = got.get(name) ?? new Float32Array();
      if (greatest(want) < 1e-12 * largest) {
        const left = greatest(data) / largest;
        return left < 1e-6 && data.length === want.length ? [] : [`${name}: ${left} of the largest, not nothing`];
      }
      const { relL2, max } = errorsOf(data, want);
      return relL2 < tolerance && max < tolerance ? [] : [`${name}: relL2 ${relL2}, max ${max}`];
    });
    if (faults.length > 0) throw new Error(`${device}: ${faults.join("\n")}`);
  } finally {
    runner.dispose();
  }
}

function greatest(values: ArrayLike<number>): number {
  return Array.from(values).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
}
