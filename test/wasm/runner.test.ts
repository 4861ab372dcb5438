/**
 * Whole programs on threads: networks against the oracle, and everything that can go wrong.
 */
import { afterEach, describe, expect, it } from "vitest";
import { assemble } from "../../compiler/assemble.ts";
import { WASM_DEFAULT } from "../../compiler/capability.ts";
import type { Graph } from "../../compiler/graph/graph.ts";
import { encodeModule } from "../../compiler/kernel/wasm-encoder.ts";
import { interpret } from "../../compiler/loop/interp.ts";
import { lowerGraph } from "../../compiler/loop/lower.ts";
import type { Program } from "../../compiler/program.ts";
import { EngineError, type Runner } from "../../runtime/engine/runner.ts";
import { wasmCapability } from "../../runtime/engine/wasm/capability.ts";
import { openWasm } from "../../runtime/engine/wasm/runner.ts";
import { lenet, Net, randomLeaves } from "../graph/nets.ts";
import { assertClose } from "../tools/compare.ts";

const OPTIONS = { panelWidth: 8, maxBufferBytes: 2 ** 31, fuse: true };

function programOf(graph: Graph, threads: number, relaxedSimd = false): Program {
  const target = { ...WASM_DEFAULT, threads, relaxedSimd };
  return assemble(lowerGraph(graph, OPTIONS), { target, seed: 1, graphHash: "", classes: undefined });
}

/** A bottleneck with a shortcut, batch norm, grouped convolution, and a mean over the map. */
function bottleneck(): Graph {
  const net = new Net();
  const x = net.input("image", [2, 12, 9, 9]);
  net.layer = "conv1";
  let y = net.relu(net.batchNorm(net.conv(x, 16, 1, { bias: false }), "bn1"));
  net.layer = "conv2";
  y = net.relu(net.batchNorm(net.conv(y, 16, 3, { pad: 1, stride: 2, groups: 4, bias: false }), "bn2"));
  net.layer = "conv3";
  y = net.conv(y, 24, 1);
  net.layer = "skip";
  y = net.relu(net.binary("add", y, net.conv(x, 24, 1, { stride: 2 })));
  net.layer = "fc";
  const pooled = net.op("reduce", [y], { fn: "mean", axes: [2, 3], keep: false });
  return net.finish(net.op("softmax", [net.linear(pooled, 7)], { axis: 1 }), y);
}

/** One head of attention of a map over another. */
function attention(): Graph {
  const net = new Net();
  const [a, b] = [net.input("a", [2, 50, 24]), net.input("b", [2, 27, 20])];
  net.layer = "q";
  const q = net.linear(a, 18);
  net.layer = "k";
  const k = net.op("permute", [net.linear(b, 18)], { order: [0, 2, 1] });
  net.layer = "v";
  const v = net.linear(b, 24);
  net.layer = "scores";
  const scores = net.op("softmax", [net.op("matmul", [q, k], {})], { axis: 2 });
  net.layer = "mix";
  const mixed = net.op("matmul", [scores, v], {});
  const gelu = net.binary("mul", mixed, net.op("unary", [mixed], { fn: "erf" }));
  return net.finish(net.binary("add", a, gelu));
}

const opened: Runner[] = [];
afterEach(() => {
  for (const runner of opened.splice(0)) runner.dispose();
});

async function open(program: Program): Promise<Runner> {
  const runner = await openWasm(program);
  opened.push(runner);
  return runner;
}

async function start(graph: Graph, program: Program): Promise<{ runner: Runner; want: Map<string, Float64Array> }> {
  const { inputs, params } = randomLeaves(graph, 3);
  const want = interpret(lowerGraph(graph, { ...OPTIONS, panelWidth: 0, fuse: false }), inputs, params);
  const runner = await open(program);
  await runner.load(({ path, shape, rows }, into) => {
    const size = shape.slice(1).reduce((product, extent) => product * extent, 1);
    const whole = params.get(path) ?? new Float64Array();
    into.set(rows === undefined ? whole : whole.subarray(rows.start * size, rows.end * size));
  });
  for (const [name, data] of inputs) runner.write(name, Float32Array.from(data));
  return { runner, want };
}

const problemOf = async (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => "no error",
    (error: unknown) => (error instanceof EngineError ? error.problem : error),
  );

describe.each([
  ["lenet", lenet(2)],
  ["bottleneck", bottleneck()],
  ["attention", attention()],
] as const)("%s", (_, graph) => {
  it.each([1, 2, 3])("is right on %s threads, again and again", async (threads) => {
    const { runner, want } = await start(graph, programOf(graph, threads));
    for (let round = 0; round < 3; round++) {
      await runner.run();
      for (const [name, values] of want) assertClose(await runner.read(name), values, name, 1e-5);
    }
  });

  it("gives the same bits on any number of threads", async () => {
    const results: Float32Array[] = [];
    for (const threads of [1, 3]) {
      // The plan is made for two threads both times: it decides the order of sums.
      const program = programOf(graph, 2);
      const { runner } = await start(graph, { ...program, target: { ...WASM_DEFAULT, threads } });
      await runner.run();
      results.push(await runner.read(program.outputs[0]?.name ?? ""));
    }
    expect(results[0]).toEqual(results[1]);
  });
});

it("uses relaxed SIMD where the machine has it", async () => {
  const capability = await wasmCapability();
  expect(capability.threads).toBeGreaterThan(0);
  const graph = lenet(1);
  const { runner, want } = await start(graph, programOf(graph, 2, capability.relaxedSimd));
  await runner.run();
  for (const [name, values] of want) assertClose(await runner.read(name), values, name, 1e-5);
  expect(runner.device).toBe("wasm, 2 threads");
});

it("repeats a step alone, and is right again in the next pass", async () => {
  const graph = bottleneck();
  const program = programOf(graph, 2);
  const { runner, want } = await start(graph, program);
  for (const [index] of program.run.entries()) await runner.repeat(index, 3);
  await runner.repeat(0, 0);
  await runner.run();
  for (const [name, values] of want) assertClose(await runner.read(name), values, name, 1e-5);
  expect(await problemOf(runner.repeat(program.run.length, 1))).toMatchObject({ kind: "usage" });
});

it("opens a program again, alone and beside itself", async () => {
  const graph = lenet(1);
  const program = programOf(graph, 2);
  const { runner: first, want } = await start(graph, program);
  const { runner: second } = await start(graph, program);
  for (const runner of [first, second]) {
    await runner.run();
    for (const [name, values] of want) assertClose(await runner.read(name), values, name, 1e-5);
  }
});

it("compiles equal code once in a process, whatever program it is in", async () => {
  const program = programOf(lenet(3), 2);
  const made: Uint8Array[] = [];
  const moduleOf = (code: Uint8Array): Promise<WebAssembly.Module> => {
    made.push(code);
    return WebAssembly.compile(code);
  };
  (await openWasm(program, { moduleOf })).dispose();
  const first = made.length;
  expect(first).toBeGreaterThan(0);
  // The same bytes in other arrays, as another compilation gives them.
  const kernels = program.kernels.map((kernel) => ({
    ...kernel,
    code: typeof kernel.code === "string" ? kernel.code : kernel.code.slice(),
  }));
  (await openWasm({ ...program, kernels }, { moduleOf })).dispose();
  expect(made.length).toBe(first);
});

describe("errors", () => {
  const graph = lenet(1);

  it("refuses what does not fit, before it allocates", async () => {
    const program = programOf(graph, 2);
    const huge = [...program.allocations, { bytes: 5 * 2 ** 30, label: "huge", lifetime: "run" } as const];
    const problem = await problemOf(openWasm({ ...program, allocations: huge }));
    expect(problem).toMatchObject({ kind: "limit", what: "bytes of WASM memory", have: 2 ** 32 - 65536 });
    expect(problem).toHaveProperty(
      "need",
      expect.toSatisfy((need: number) => need > 5 * 2 ** 30),
    );
  });

  it("refuses programs for other targets", async () => {
    const { WEBGPU_DEFAULT } = await import("../../compiler/capability.ts");
    const problem = await problemOf(openWasm({ ...programOf(graph, 1), target: WEBGPU_DEFAULT }));
    expect(problem).toMatchObject({ kind: "usage" });
  });

  it("refuses kernels that are no WASM", async () => {
    const program = programOf(graph, 1);
    const broken = program.kernels.map((kernel) => ({ ...kernel, code: Uint8Array.of(1, 2, 3) }));
    expect(await problemOf(openWasm({ ...program, kernels: broken }))).toMatchObject({ kind: "no-device" });
  });

  it("names unknown inputs and wrong lengths", async () => {
    const runner = await open(programOf(graph, 1));
    expect(() => runner.write("picture", new Float32Array(1))).toThrow(/no input `picture`; it has image/);
    expect(() => runner.write("image", new Float32Array(1))).toThrow(/784 numbers/);
    await expect(runner.read("nothing")).rejects.toThrow(/no output `nothing`/);
  });

  it.each([1, 2, 3])("names the layer at which a kernel traps, and hangs no thread (%s threads)", async (threads) => {
    const program = programOf(graph, threads);
    const unreachable = encodeModule([{ parameters: [], results: [], locals: [], code: [0x00] }]);
    const fc2 = program.run.find((step) => step.layers.includes("fc2"));
    const kernels = program.kernels.map((kernel, i) => (i === fc2?.kernel ? { ...kernel, code: unreachable } : kernel));
    const runner = await open({ ...program, kernels });
    const problem = await problemOf(runner.run());
    expect(problem).toMatchObject({ kind: "failed", what: expect.stringMatching(/kernel failed at fc2.*unreachable/) });
    // A runner that has failed stays so.
    expect(await problemOf(runner.run())).toEqual(problem);
  });

  it("does one run at a time, and none when disposed of", async () => {
    const runner = await open(programOf(graph, 2));
    const first = runner.run();
    expect(await problemOf(runner.run())).toMatchObject({ kind: "usage" });
    await first;
    const last = runner.run();
    runner.dispose();
    expect(await problemOf(last)).toMatchObject({ kind: "usage" });
    expect(await problemOf(runner.run())).toMatchObject({ kind: "usage" });
  });
});
