/**
 * Random numbers and tests for finiteness on devices: WASM and SwiftShader give the bits that the definition gives, with
 * and without vectors, in every kind of schedule.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WASM_DEFAULT, WEBGPU_DEFAULT } from "../../compiler/capability.ts";
import type { Graph, GraphNode } from "../../compiler/graph/graph.ts";
import { printKernel } from "../../compiler/kernel/print.ts";
import { renderWGSL } from "../../compiler/kernel/wgsl.ts";
import { add, axis, floorDiv, mod, scale } from "../../compiler/loop/affine.ts";
import { kernelClass } from "../../compiler/loop/contraction.ts";
import { interpret } from "../../compiler/loop/interp.ts";
import { elementCount } from "../../compiler/loop/layout.ts";
import type { Affine, Kernel, Loops } from "../../compiler/loop/loops.ts";
import { lowerGraph } from "../../compiler/loop/lower.ts";
import { binary, type Scalar } from "../../compiler/scalar.ts";
import { scheduleCpu } from "../../compiler/schedule/cpu.ts";
import { scheduleKernel } from "../../compiler/schedule/gpu.ts";
import type { Plan } from "../../compiler/schedule/plan.ts";
import { uniformNumber } from "../graph/philox.ts";
import { Net, randomValues } from "../loop/nets.ts";
import { assertClose } from "../tools/compare.ts";
import { nullDevice, pipelineOf, runPrograms, SOFTWARE, softwareDevice } from "../tools/webgpu.ts";
import { buffer, type Case, kernel, load, runOracle, runWasm, state, value } from "../wasm/kernels.ts";

let device: GPUDevice;
let validator: GPUDevice;
beforeAll(async () => {
  device = await softwareDevice();
  validator = await nullDevice();
});
afterAll(() => {
  device.destroy();
  validator.destroy();
});

type Numbers = ReadonlyMap<number, Float32Array>;

async function onGPU(c: Case, values: Numbers, plan?: Plan): Promise<Map<number, Float32Array>> {
  const { dispatches, scratch } = scheduleKernel(c.kernel, c.buffers, SOFTWARE, plan);
  const memory = [...c.buffers, ...scratch].map((b) =>
    values.has(b.id) ? Float32Array.from(values.get(b.id) ?? []) : new Float32Array(elementCount(b)).fill(Number.NaN),
  );
  const got = await runPrograms(device, dispatches, memory);
  return new Map(c.outs.map((id) => [id, got[id] ?? new Float32Array()]));
}

const COUNTERS = Float32Array.of(2 ** 24 - 1, 0xcafe, 0xf00d);
const KEY = 0xfedcba98;

/** The draw of an element, its counters in buffer 0, which are loads 0 to 2. */
const draw = (element: Affine): Scalar => ({
  kind: "random",
  key: KEY,
  element,
  counters: [value(0), value(1), value(2)],
});
const counterLoads = [0, 1, 2].map((at) => load(0, [{ terms: [], constant: at }]));

/** Kernels that only draw, into buffer 1: exact in f32, so that devices and oracle must agree in every bit. */
function drawCase(name: string, axes: Parameters<typeof kernel>[1], element: Affine, index: readonly Affine[]): Case {
  const shape = axes.map(([, size]) => size);
  const stores = [{ buffer: 1, index, value: draw(element) }];
  const made: Kernel = kernel(name, axes, { loads: counterLoads, stores });
  return {
    name,
    kernel: made,
    buffers: [buffer(0, [3]), buffer(1, index.length === 1 ? [shape.reduce((a, b) => a * b)] : shape)],
    ins: [0],
    outs: [1],
  };
}

const [i, j] = [axis(0), axis(1)];
const ROWS = (n: number, m: number): Parameters<typeof kernel>[1] => [
  ["i", n],
  ["j", m],
];
const DRAWS: readonly Case[] = [
  drawCase("a row", [["i", 64]], i, [i]),
  drawCase("a row with a tail", [["i", 67]], i, [i]),
  drawCase("three elements", [["i", 3]], i, [i]),
  drawCase("columns of a transposed tensor: strides of 5", ROWS(5, 12), add(i, scale(j, 5)), [i, j]),
  drawCase("one element for a row", ROWS(5, 8), i, [i, j]),
  drawCase("beyond 2^24, beyond 2^31, around 2^32", ROWS(4, 8), add(scale(i, 2 ** 31 - 1), scale(j, 3 * 2 ** 28)), [
    i,
    j,
  ]),
  drawCase("coefficients beyond an i32", ROWS(4, 8), add(scale(i, 2 ** 31 + 2 ** 30), scale(j, 2 ** 32 + 1)), [i, j]),
  drawCase(
    "divisions along the vector",
    ROWS(4, 8),
    add(scale(floorDiv(j, 3, [4, 8]), 100), add(mod(j, 3, [4, 8]), scale(i, 1000))),
    [i, j],
  ),
];

describe("draws", () => {
  test.each(DRAWS)("$name: the same bits everywhere", async (c) => {
    const values = new Map([[0, COUNTERS]]);
    const [want] = runOracle(c, values).values();
    expect(new Set(want).size).toBeGreaterThan(1);
    for (const threads of [1, 3]) {
      const [wasm] = runWasm(c, values, threads).values();
      expect([...(wasm ?? [])]).toEqual([...(want ?? [])]);
    }
    const [gpu] = (await onGPU(c, values)).values();
    expect([...(gpu ?? [])]).toEqual([...(want ?? [])]);
    const single: Plan = { schedule: "map", vec: 1, workgroup: 64 };
    const [one] = (await onGPU(c, values, single)).values();
    expect([...(one ?? [])]).toEqual([...(want ?? [])]);
    for (const { program } of scheduleKernel(c.kernel, c.buffers, WEBGPU_DEFAULT).dispatches) {
      await pipelineOf(validator, program);
    }
  });
  test("take four elements at a time where the output lies so", () => {
    const [c = DRAWS[0]] = DRAWS.slice(3);
    if (c === undefined) throw new Error("no case");
    const [gpu] = scheduleKernel(c.kernel, c.buffers, WEBGPU_DEFAULT).dispatches;
    if (gpu === undefined) throw new Error("no dispatch");
    expect(renderWGSL(gpu.program)).toContain("+ vec4<u32>(0u, 5u, 10u, 15u), u32(");
    expect(renderWGSL(gpu.program)).not.toContain("fn uniform_random(");
    expect(printKernel(scheduleCpu(c.kernel, c.buffers, WASM_DEFAULT).program)).toMatch(/random\([^,]* step 5, /);
  });
  test("in sums, and in a factor and the stores of a product", async () => {
    const reduce: Case = {
      name: "sum of draws",
      kernel: kernel("sum", ROWS(7, 37), {
        loads: counterLoads,
        body: [draw(add(scale(i, 37), j))],
        reduce: "sum",
        stores: [{ buffer: 1, index: [i], value: binary("add", state(), draw(scale(i, 1000))) }],
      }),
      buffers: [buffer(0, [3]), buffer(1, [7])],
      ins: [0],
      outs: [1],
    };
    const k = axis(2);
    const product: Case = {
      name: "draws in a product",
      kernel: kernel("product", [...ROWS(9, 20), ["k", 33]], {
        loads: [...counterLoads, load(1, [i, k]), load(2, [j, k])],
        body: [binary("mul", binary("mul", value(3), draw(add(scale(i, 33), k))), value(4))],
        reduce: "sum",
        stores: [{ buffer: 3, index: [i, j], value: binary("mul", state(), draw(add(scale(i, 20), j))) }],
      }),
      buffers: [buffer(0, [3]), buffer(1, [9, 33]), buffer(2, [20, 33]), buffer(3, [9, 20])],
      ins: [0, 1, 2],
      outs: [3],
    };
    expect(kernelClass(product.kernel, product.buffers).kind).toBe("contract");
    for (const c of [reduce, product]) {
      const values = new Map<number, Float32Array>([[0, COUNTERS]]);
      for (const id of c.ins.slice(1)) {
        values.set(
          id,
          Float32Array.from(
            { length: elementCount(c.buffers[id] ?? buffer(0, [1])) },
            (_, e) => ((e * 7) % 11) / 11 - 0.3,
          ),
        );
      }
      const want = runOracle(c, values);
      const [wasm, gpu] = [runWasm(c, values, 2), await onGPU(c, values)];
      for (const id of c.outs) {
        assertClose(wasm.get(id) ?? [], want.get(id) ?? [], `${c.name} on wasm`);
        assertClose(gpu.get(id) ?? [], want.get(id) ?? [], `${c.name} on webgpu`);
      }
      if (c !== product) continue;
      for (const splitK of [1, 2]) {
        const plan: Plan = { schedule: "contract", tile: [32, 32, 16], thread: [4, 4], stage: "workgroup", splitK };
        const staged = await onGPU(c, values, plan);
        assertClose(staged.get(3) ?? [], want.get(3) ?? [], `${c.name} through workgroup memory, K split in ${splitK}`);
      }
    }
  });
});

// ------------------------------------------------------------------------------------------------------------- graphs

function loopsFor(graph: Graph, target: "wasm" | "webgpu"): Loops {
  return lowerGraph(graph, { panelWidth: target === "wasm" ? 8 : 2 ** 20, maxBufferBytes: 2 ** 27, fuse: true });
}

/** The outputs of fused loops on a device, kernel by kernel. */
async function onDevice(
  loops: Loops,
  target: "wasm" | "webgpu",
  inputs: ReadonlyMap<string, Float64Array>,
  params: ReadonlyMap<string, Float64Array>,
): Promise<Map<string, Float32Array>> {
  const memory = new Map<number, Float32Array>();
  for (const { name, buffer } of loops.inputs) memory.set(buffer, Float32Array.from(inputs.get(name) ?? []));
  for (const b of loops.buffers) {
    if (b.param !== undefined) memory.set(b.id, Float32Array.from(params.get(b.param.path) ?? []));
  }
  const kernels = [...loops.load.flatMap((s) => (s.kind === "kernel" ? [s.kernel] : [])), ...loops.run];
  for (const k of kernels) {
    const ids = (accesses: readonly { readonly buffer: number }[]): number[] => [
      ...new Set(accesses.map((a) => a.buffer)),
    ];
    const c: Case = { name: k.name, kernel: k, buffers: loops.buffers, ins: ids(k.loads), outs: ids(k.stores) };
    const values = new Map(c.ins.map((id) => [id, memory.get(id) ?? new Float32Array()]));
    for (const [id, got] of target === "wasm" ? runWasm(c, values, 2) : await onGPU(c, values)) memory.set(id, got);
  }
  return new Map(loops.outputs.map(({ name, buffer }) => [name, memory.get(buffer) ?? new Float32Array()]));
}

const drop = (net: Net, x: GraphNode, p: number): GraphNode =>
  net.add("dropout", [x, net.input("step.counters", [3])], { p, path: "d" });

/** Networks with an output `mask`, a dropout of ones, and `y`, the same mask among neighbours. */
const NETS: readonly (readonly [string, () => Net, readonly number[], number])[] = [
  [
    "x·w + b, relu, dropout, sum",
    () => {
      const net = new Net();
      const x = net.binary("mul", net.input("x", [3, 7, 5]), net.param("w", [7, 1]));
      const y = drop(net, net.relu(net.binary("add", x, net.param("b", [5]))), 0.3);
      return net.output("mask", drop(net, ones(net, [3, 7, 5]), 0.3)).output("y", net.reduce(y, "sum", [1], false));
    },
    [3, 7, 5],
    0.3,
  ],
  [
    "a convolution, channels last",
    () => {
      const net = new Net();
      const x = net.conv2d(net.input("x", [2, 3, 5, 7]), net.param("w", [8, 3, 3, 3]), net.param("b", [8]));
      return net
        .output("mask", drop(net, ones(net, [2, 8, 3, 5]), 0.7))
        .output("y", net.permute(drop(net, net.relu(x), 0.7), [0, 2, 3, 1]));
    },
    [2, 8, 3, 5],
    0.7,
  ],
  [
    "a linear layer of odd width",
    () => {
      const net = new Net();
      const x = net.relu(net.linear(net.input("x", [9, 6]), net.param("w", [13, 6]), net.param("b", [13])));
      return net
        .output("mask", drop(net, ones(net, [9, 13]), 0.5))
        .output("y", net.linear(drop(net, x, 0.5), net.param("v", [4, 13])));
    },
    [9, 13],
    0.5,
  ],
];

function ones(net: Net, shape: readonly number[]): GraphNode {
  return net.add("broadcast", [net.constant(1)], { shape });
}

describe("dropout", () => {
  test.each(NETS)("%s", { timeout: 60_000 }, async (_, make, shape, p) => {
    const graph = make().graph();
    const { inputs, params } = randomValues(graph);
    inputs.set("step.counters", Float64Array.of(9, 0x1234, 0xabcd));
    const count = shape.reduce((a, b) => a * b, 1);
    const mask = Array.from({ length: count }, (_, e) => uniformNumber(e, [9, 0x1234, 0xabcd], "d", 0) >= p);
    for (const target of ["wasm", "webgpu"] as const) {
      const loops = loopsFor(graph, target);
      const want = interpret(loops, inputs, params);
      const got = await onDevice(loops, target, inputs, params);
      assertClose(got.get("y") ?? [], want.get("y") ?? [], target);
      expect([...(want.get("mask") ?? [])].map((x) => x > 0)).toEqual(mask);
      expect([...(got.get("mask") ?? [])].map((x) => x > 0)).toEqual(mask);
    }
  });
});

describe("is_finite", () => {
  const SPECIAL = [
    0,
    -0,
    1,
    -1,
    3.4028234663852886e38,
    -3.4028234663852886e38,
    1.4e-45,
    1e-40,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    Number.NaN,
    2,
    5e37,
  ];

  test.each([12, 13, 3])("of %i numbers read from memory", async (count) => {
    const finite: Scalar = { kind: "unary", fn: "is_finite", value: value(0) };
    const c: Case = {
      name: "finite",
      kernel: kernel("finite", [["i", count]], {
        loads: [load(0, [i])],
        stores: [{ buffer: 1, index: [i], value: finite }],
      }),
      buffers: [buffer(0, [count]), buffer(1, [count])],
      ins: [0],
      outs: [1],
    };
    const xs = SPECIAL.slice(-count);
    const values = new Map([[0, Float32Array.from(xs)]]);
    const want = xs.map((x) => Number(Number.isFinite(x)));
    expect([...(runOracle(c, values).get(1) ?? [])]).toEqual(want);
    expect([...(runWasm(c, values, 2).get(1) ?? [])]).toEqual(want);
    expect([...((await onGPU(c, values)).get(1) ?? [])]).toEqual(want);
  });

  test.each([
    ["no", [1, -2, 1e18], 1],
    ["an overflowing product", [1, 1e30, 2], 0],
    ["an infinity", [1, 2, Number.POSITIVE_INFINITY], 0],
    ["a NaN", [Number.NaN, 1, 1], 0],
  ] as const)("over a fused graph, with %s among many", async (_, found, want) => {
    const net = new Net();
    const x = net.input("x", [5, 8]);
    const finite = net.unary("is_finite", net.binary("mul", x, x));
    const graph = net.output("y", net.reduce(finite, "min", [0, 1], false)).graph();
    const inputs = new Map([["x", new Float64Array(40).fill(0.5)]]);
    inputs.get("x")?.set(found, 17);
    for (const target of ["wasm", "webgpu"] as const) {
      const loops = loopsFor(graph, target);
      expect(loops.run).toHaveLength(1);
      expect([...((await onDevice(loops, target, inputs, new Map())).get("y") ?? [])]).toEqual([want]);
    }
  });
});
