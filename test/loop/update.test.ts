/**
 * State: parameters that runs replace. A small network learns by SGD with momentum and a moving average, written out as
 * a graph; the oracle's three runs are compared with plain arithmetic, and the devices with the oracle.
 */
import { describe, expect, it } from "vitest";
import { assemble } from "../../compiler/assemble.ts";
import { WASM_DEFAULT } from "../../compiler/capability.ts";
import { GraphBuilder } from "../../compiler/graph/builder.ts";
import type { Graph, GraphNode } from "../../compiler/graph/graph.ts";
import { openInterpreter } from "../../compiler/loop/interp.ts";
import type { Loops } from "../../compiler/loop/loops.ts";
import { type LowerOptions, lowerGraph } from "../../compiler/loop/lower.ts";
import { verifyLoops } from "../../compiler/loop/verify.ts";
import type { Runner } from "../../runtime/engine/runner.ts";
import { openWasm } from "../../runtime/engine/wasm/runner.ts";
import { openWebGPU } from "../../runtime/engine/webgpu.ts";
import { gradientOf, outputNamed } from "../gradient/check.ts";
import { Net } from "../graph/nets.ts";
import { assertClose } from "../tools/compare.ts";
import { named64, softwareGPU, weightsFrom } from "../tools/nets.ts";
import { SOFTWARE } from "../tools/webgpu.ts";

const RATE = 0.05;
const MOMENTUM = 0.9;

/** conv 3×3 -> relu -> flatten -> linear -> sum of squares, with updates of all four parameters. */
function learning(): Graph {
  const net = new Net();
  net.layer = "conv";
  const x = net.conv(net.input("x", [2, 3, 6, 5]), 4, 3, { pad: 1 });
  net.layer = "fc";
  const y = net.linear(net.flatten(net.relu(x)), 3);
  const loss = net.op("reduce", [net.binary("mul", y, y)], { fn: "sum", axes: [0, 1], keep: false });
  const graph = net.builder.finish("Net", [
    { name: "y", node: y },
    { name: "loss", node: loss },
  ]).graph;
  const params = graph.nodes.filter((node) => node.op === "param");
  const differentiated = gradientOf(graph, params);
  const builder = new GraphBuilder();
  const copyOf = builder.copyAll(differentiated);
  const add = (fn: "add" | "sub" | "mul", a: GraphNode, b: GraphNode | number): GraphNode => {
    const right = typeof b === "number" ? builder.leaf("constant", { value: b }, { shape: [], dtype: "f32" }, a) : b;
    const made = builder.add("binary", [a, right], { fn }, a);
    if (!("op" in made)) throw new Error(made.message);
    return made;
  };
  const outputs = params.flatMap((param) => {
    if (param.op !== "param") return [];
    const { path } = param.attrs;
    const old = copyOf(outputParam(differentiated, path));
    const attrs = { kind: "state", init: param.attrs.init } as const;
    const momentum = builder.leaf("param", { ...attrs, path: `momentum/${path}` }, param, param);
    const average = builder.leaf("param", { ...attrs, path: `average/${path}` }, param, param);
    const gradient = copyOf(outputNamed(differentiated, `gradient.${path}`));
    const moved = add("add", add("mul", momentum, MOMENTUM), gradient);
    const next = add("sub", old, add("mul", moved, RATE));
    const smooth = add("add", add("mul", average, 0.75), add("mul", next, 0.25));
    return [
      { name: `update.${path}`, node: next },
      { name: `update.momentum/${path}`, node: moved },
      { name: `update.average/${path}`, node: smooth },
    ];
  });
  const kept = differentiated.outputs.filter(({ name }) => !name.startsWith("gradient."));
  return builder.finish("Net", [...kept.map(({ name, node }) => ({ name, node: copyOf(node) })), ...outputs]).graph;
}

function outputParam(graph: Graph, path: string): GraphNode {
  const found = graph.nodes.find((node) => node.op === "param" && node.attrs.path === path);
  if (found === undefined) throw new Error(`no parameter ${path}`);
  return found;
}

const graph = learning();
const paths = graph.nodes.flatMap((node) => (node.op === "param" ? [node.attrs.path] : []));
const start = new Map(
  graph.nodes.flatMap((node) =>
    node.op === "param"
      ? [[node.attrs.path, named64(node.attrs.path, node.shape.map(Number)).map((v) => v * 0.1)] as const]
      : [],
  ),
);
const inputsOf = (run: number): ReadonlyMap<string, Float64Array> => new Map([["x", named64(`x${run}`, [2, 3, 6, 5])]]);

const PLAIN: LowerOptions = { panelWidth: 0, maxBufferBytes: 2 ** 31, fuse: false, inPlace: true };
const options: Readonly<Record<string, LowerOptions>> = {
  plain: PLAIN,
  fused: { ...PLAIN, fuse: true },
  packed: { ...PLAIN, fuse: true, panelWidth: 8 },
  "wide panels": { ...PLAIN, fuse: true, panelWidth: 2 ** 30 },
  "split rows": { ...PLAIN, fuse: true, maxBufferBytes: 1000 },
};

/** The state after three runs. */
function learned(loops: Loops): Map<string, Float64Array> {
  expect(verifyLoops(loops)).toEqual([]);
  const interpreter = openInterpreter(loops, start);
  for (const run of [0, 1, 2]) interpreter.run(inputsOf(run));
  return new Map(paths.map((path) => [path, interpreter.state(path)]));
}

/** The same from the outputs of runs that replace nothing. */
function handedOver(): Map<string, Float64Array> {
  const loops = lowerGraph(graph, { ...PLAIN, inPlace: false });
  let params = start;
  for (const run of [0, 1, 2]) {
    const outputs = openInterpreter(loops, params).run(inputsOf(run));
    params = new Map(paths.map((path) => [path, Float64Array.from(outputs.get(`update.${path}`) ?? [])]));
  }
  return params;
}

describe("state", () => {
  const want = handedOver();

  it.each(Object.entries(options))("is replaced in place: %s", (_, option) => {
    const got = learned(lowerGraph(graph, option));
    for (const path of paths) assertClose(got.get(path) ?? [], want.get(path) ?? [], path, 1e-13);
  });

  it("has one kernel for a parameter and all that belongs to it", () => {
    const loops = lowerGraph(graph, options["fused"] ?? PLAIN);
    const states = new Set(loops.buffers.flatMap(({ id, role }) => (role === "state" ? [id] : [])));
    const writers = loops.run.filter((kernel) => kernel.stores.some(({ buffer }) => states.has(buffer)));
    expect(writers.map(({ stores }) => stores.length)).toEqual([3, 3, 3, 3]);
    expect(loops.outputs.map(({ name }) => name)).toEqual(["y", "loss"]);
  });

  it("is not read after its update", () => {
    const loops = lowerGraph(graph, PLAIN);
    const update = loops.run.find(({ name }) => name === "conv.weight.update");
    if (update === undefined) throw new Error("no update");
    const run = [update, ...loops.run.filter((kernel) => kernel !== update)];
    expect(verifyLoops({ ...loops, run }).join("\n")).toMatch(/conv.weight \(state\) after its update/);
  });

  async function onDevice(runner: Runner): Promise<void> {
    try {
      await runner.load(weightsFrom(new Map([...start].map(([path, values]) => [path, Float32Array.from(values)]))));
      for (const run of [0, 1, 2]) {
        for (const [name, values] of inputsOf(run)) runner.write(name, Float32Array.from(values));
        await runner.run();
      }
      for (const path of paths) assertClose(await runner.readState(path), want.get(path) ?? [], path, 1e-5);
      const seen: string[] = [];
      await runner.trace((layers, written) => {
        seen.push(...layers);
        return written.every((values) => values.every(Number.isFinite)) && seen.length < 5;
      });
      expect(seen.length).toBeGreaterThanOrEqual(5);
      await expect(runner.readState("nothing")).rejects.toThrow("the program has no state `nothing`");
    } finally {
      runner.dispose();
    }
  }

  it("is the same on WASM", async () => {
    const loops = lowerGraph(graph, { ...PLAIN, fuse: true, panelWidth: 8, maxBindings: 16 });
    const program = assemble(loops, { target: WASM_DEFAULT, seed: 1, graphHash: "", classes: undefined });
    await onDevice(await openWasm(program));
  });

  it("is the same on WebGPU", async () => {
    const loops = lowerGraph(graph, { ...PLAIN, fuse: true, panelWidth: 2 ** 30 });
    const program = assemble(loops, { target: SOFTWARE, seed: 1, graphHash: "", classes: undefined });
    await onDevice(await openWebGPU(program, softwareGPU()));
  });
});
