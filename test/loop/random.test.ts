/** Random numbers and dropout: known answers, statistics, and every lowering against the definition. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Graph, GraphNode } from "../../compiler/graph/graph.ts";
import { printGraph } from "../../compiler/graph/print.ts";
import { COUNTERS, trainingForm } from "../../compiler/graph/training.ts";
import { verifyGraph } from "../../compiler/graph/verify.ts";
import { axis } from "../../compiler/loop/affine.ts";
import { interpret } from "../../compiler/loop/interp.ts";
import type { Kernel, Loops } from "../../compiler/loop/loops.ts";
import { type LowerOptions, lowerGraph } from "../../compiler/loop/lower.ts";
import { printLoops } from "../../compiler/loop/print.ts";
import { verifyLoops } from "../../compiler/loop/verify.ts";
import { drawKey, philox, uniform } from "../../compiler/random.ts";
import { type Draw, num } from "../../compiler/scalar.ts";
import { evaluateGraph } from "../graph/evaluate.ts";
import { philox2x32, uniformNumber } from "../graph/philox.ts";
import { buffer, type Case, kernel, runOracle } from "../wasm/kernels.ts";
import { difference, Net, randomValues } from "./nets.ts";

describe("Philox2x32-10", () => {
  // The rows `philox2x32 10` of kat_vectors in the Random123 distribution.
  const KNOWN = [
    [0x00000000, 0x00000000, 0x00000000, 0xff1dae59, 0x6cd10df2],
    [0xffffffff, 0xffffffff, 0xffffffff, 0x2c3f628b, 0xab4fd7ad],
    [0x243f6a88, 0x85a308d3, 0x13198a2e, 0xdd7ce038, 0xf62a4c12],
  ] as const;
  it("gives the known answers", () => {
    for (const [a, b, key, left, right] of KNOWN) {
      expect(philox([a, b], key)).toEqual([left, right]);
      expect(philox2x32([BigInt(a), BigInt(b)], BigInt(key)).map(Number)).toEqual([left, right]);
    }
  });
  it("agrees with big integers everywhere", () => {
    const word = fc.nat(0xffffffff);
    fc.assert(
      fc.property(word, word, word, (a, b, key) => {
        expect(philox([a, b], key)).toEqual(philox2x32([BigInt(a), BigInt(b)], BigInt(key)).map(Number));
      }),
      { numRuns: 300, seed: 5 },
    );
  });
});

describe("uniform numbers", () => {
  const numbers = (count: number, step: number, seed: number, path: string, use = 0): number[] =>
    Array.from({ length: count }, (_, i) => uniform(i, step, seed & 0xffff, seed >>> 16, drawKey(path, use)));

  it("are the oracle's, and start again at 2^32 elements", () => {
    for (const [element, step, seed] of [
      [0, 0, 0],
      [7, 3, 0xdeadbeef],
      [2 ** 32 - 1, 2 ** 24 - 1, 0xffffffff],
      [2 ** 24 + 1, 1, 1],
    ] as const) {
      const counters = [step, seed & 0xffff, seed >>> 16];
      const got = uniform(element, step, seed & 0xffff, seed >>> 16, drawKey("a.dropout_1", 2));
      expect(got).toBe(uniformNumber(element, counters, "a.dropout_1", 2));
      expect(uniform(element + 2 ** 32, step, seed & 0xffff, seed >>> 16, drawKey("a.dropout_1", 2))).toBe(got);
    }
  });
  it("are uniform in [0, 1)", () => {
    const count = 40000;
    const values = numbers(count, 5, 123456789, "drop");
    expect(values.every((x) => x >= 0 && x < 1 && Number.isInteger(x * 2 ** 24))).toBe(true);
    // χ² of 64 bins: mean 63, standard deviation 11.2.
    const bins = Array.from({ length: 64 }, () => 0);
    for (const x of values) bins[Math.floor(x * 64)] = (bins[Math.floor(x * 64)] ?? 0) + 1;
    const chi = bins.reduce((sum, n) => sum + (n - count / 64) ** 2 / (count / 64), 0);
    expect(Math.abs(chi - 63)).toBeLessThan(5 * 11.3);
    // Neighbours do not go together: the correlation's standard deviation is 1/√count.
    const correlation = values.slice(1).reduce((sum, x, i) => sum + (x - 0.5) * ((values[i] ?? 0) - 0.5), 0) / count;
    expect(Math.abs(correlation * 12)).toBeLessThan(5 / Math.sqrt(count));
  });
  it("differ between steps, seeds, paths and uses", () => {
    const base = numbers(1000, 5, 70000, "drop");
    for (const other of [
      numbers(1000, 6, 70000, "drop"),
      numbers(1000, 5, 70001, "drop"),
      numbers(1000, 5, 70000 + 65536, "drop"),
      numbers(1000, 5, 70000, "drop2"),
      numbers(1000, 5, 70000, "drop", 1),
    ]) {
      const kept = other.filter((x, i) => x < 0.5 === (base[i] ?? 0) < 0.5).length;
      // Binomial(1000, 1/2): five standard deviations are 79.
      expect(Math.abs(kept - 500)).toBeLessThan(80);
    }
  });
});

const DROP = { p: 0.3, path: "drop" } as const;
const counters = (net: Net): GraphNode => net.input("step.counters", [3]);
const drop = (net: Net, x: GraphNode, attrs: { p: number; path: string; use?: number } = DROP): GraphNode =>
  net.add("dropout", [x, counters(net)], attrs);

function values(graph: Graph, step = 11): ReturnType<typeof randomValues> {
  const made = randomValues(graph);
  made.inputs.set("step.counters", Float64Array.of(step, 0xbeef, 0xdead));
  return made;
}

const FUSED: LowerOptions = { panelWidth: 8, maxBufferBytes: 2 ** 31, fuse: true };
const WAYS: readonly LowerOptions[] = [
  { panelWidth: 0, maxBufferBytes: 2 ** 31, fuse: false },
  FUSED,
  { panelWidth: 2 ** 20, maxBufferBytes: 256, fuse: true },
];

/** Plain, fused and split loops against the definition; gives the fused ones back. */
function check(net: Net): Loops {
  const graph = net.graph();
  expect(verifyGraph(graph)).toEqual([]);
  const { inputs, params } = values(graph);
  const expected = evaluateGraph(graph, inputs, params);
  for (const options of WAYS) {
    const loops = lowerGraph(graph, options);
    expect(verifyLoops(loops)).toEqual([]);
    const got = interpret(loops, inputs, params);
    graph.outputs.forEach(({ name }, i) => expect(difference(got.get(name), expected[i])).toBeLessThan(1e-12));
  }
  return lowerGraph(graph, FUSED);
}

describe("dropout with counters", () => {
  it("joins its neighbours: x·w + b, relu, dropout and sum are one kernel", () => {
    const net = new Net();
    const x = net.binary("mul", net.input("x", [3, 7, 5]), net.param("w", [7, 1]));
    const y = drop(net, net.relu(net.binary("add", x, net.param("b", [5]))));
    const loops = check(net.output("y", net.reduce(y, "sum", [1], false)));
    expect(loops.run.map((k) => k.name)).toHaveLength(1);
    expect(printLoops(loops)).toMatch(/random\(.*; v\d, v\d, v\d; [0-9a-f]{8}\) < 0\.3/);
  });
  it("moves into the stores of a product, and is never recomputed in its loads", () => {
    const net = new Net();
    const hidden = net.relu(net.linear(net.input("x", [5, 6]), net.param("w", [10, 6]), net.param("b", [10])));
    const loops = check(net.output("y", net.linear(drop(net, hidden), net.param("v", [3, 10]))));
    expect(loops.run.map((k) => k.body.length + k.stores.length)).toEqual([2, 2]);
    expect(printLoops(loops).match(/random\(/g)).toHaveLength(1);
  });
  it("belongs to logical elements, whatever the layout", () => {
    const net = new Net();
    const conv = net.conv2d(net.input("x", [2, 3, 5, 7]), net.param("w", [6, 3, 3, 3]), net.param("b", [6]));
    const y = drop(net, net.relu(conv));
    net.output("y", y).output("nhwc", net.permute(y, [0, 2, 3, 1]));
    const turned = drop(net, net.permute(conv, [3, 1, 0, 2]), { p: 0.5, path: "turned" });
    net.output("pool", net.maxPool(drop(net, conv, { p: 0.2, path: "pooled" }), [2, 2], [1, 1], [1, 1]));
    net.output("turned", net.reshape(turned, [5, 6, 6]));
    check(net);
  });
  it("of one element, of views, of numbers, under a pad and a concatenation", () => {
    const net = new Net();
    const x = net.input("x", [4, 6]);
    net.output("one", drop(net, net.input("one", [1, 1])));
    net.output("slice", drop(net, net.slice(x, 1, 1, 4)));
    net.output("number", drop(net, net.add("broadcast", [net.constant(2)], { shape: [3, 4] })));
    net.output("pad", net.add("pad", [drop(net, x)], { axis: 1, before: 1, after: 2 }));
    net.output("both", net.concat([drop(net, x), drop(net, x, { ...DROP, use: 1 })], 0));
    check(net);
  });
  it("random chains of movements around it", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(4), fc.nat(1000)), { maxLength: 6 }),
        fc.constantFrom([2, 3, 4, 5], [6, 10], [4, 1, 9]),
        (chain, shape) => {
          const net = new Net();
          let x = net.input("x", shape);
          chain.forEach(([kind, choice], i) => {
            const sizes = x.shape.map(Number);
            const at = choice % sizes.length;
            const total = sizes.reduce((a, b) => a * b, 1);
            const factor = [2, 3, 5].find((d) => total % d === 0 && choice % 2 === 0) ?? 1;
            if (kind === 0) x = net.reshape(x, [factor, total / factor]);
            else if (kind === 1)
              x = net.permute(
                x,
                [...sizes.keys()].map((d) => (d + at) % sizes.length),
              );
            else if (kind === 2) x = net.relu(x);
            else if (kind === 3) x = net.binary("add", x, net.reduce(x, "sum", [at], true));
            else x = drop(net, x, { p: 0.4, path: `drop${i}` });
          });
          check(net.output("y", drop(net, x)));
        },
      ),
      { numRuns: 60, seed: 21 },
    );
  });
  it("keeps a share of 1 - p, and the mean", () => {
    for (const p of [0.1, 0.5, 0.9]) {
      const net = new Net();
      const graph = net.output("y", drop(net, net.input("x", [20000]), { p, path: "d" })).graph();
      const inputs = new Map([
        ["x", new Float64Array(20000).fill(1)],
        ["step.counters", Float64Array.of(3, 1, 0)],
      ]);
      const y = interpret(lowerGraph(graph, FUSED), inputs, new Map()).get("y") ?? new Float64Array();
      const kept = y.filter((v) => v !== 0).length;
      const deviation = Math.sqrt(20000 * p * (1 - p));
      expect(Math.abs(kept - 20000 * (1 - p))).toBeLessThan(4 * deviation);
      expect(Math.abs(y.reduce((a: number, b: number) => a + b, 0) / 20000 - 1)).toBeLessThan(
        (4 * deviation) / (20000 * (1 - p)),
      );
      expect(new Set(y)).toEqual(new Set([0, 1 / (1 - p)]));
    }
  });
  it("without counters, or with p = 0, is the identity", () => {
    const net = new Net();
    const x = net.input("x", [3, 4]);
    net.output("plain", net.add("dropout", [x], DROP)).output("none", drop(net, x, { p: 0, path: "d" }));
    const loops = check(net);
    expect(printLoops(loops)).not.toContain("random");
  });
});

describe("the training form", () => {
  it("gives dropouts counters, and numbers those of one path", () => {
    const net = new Net();
    const x = net.input("x", [2, 8]);
    const once = net.add("dropout", [x], DROP);
    const twice = net.add("dropout", [net.relu(once)], DROP);
    const other = net.add("dropout", [net.add("dropout", [twice], { p: 0, path: "none" })], { p: 0.5, path: "other" });
    const graph = trainingForm(net.output("y", other).output("once", once).output("twice", twice).graph());
    expect(verifyGraph(graph)).toEqual([]);
    expect(graph.inputs.map((i) => [i.attrs.name, i.shape, i.dtype])).toEqual([
      ["x", [2, 8], "f32"],
      [COUNTERS, [3], "f32"],
    ]);
    const drops = graph.nodes.flatMap((n) => (n.op === "dropout" ? [{ ...n.attrs, inputs: n.inputs.length }] : []));
    expect(drops).toEqual([
      { p: 0.3, path: "drop", use: 0, inputs: 2 },
      { p: 0.3, path: "drop", use: 1, inputs: 2 },
      { p: 0.5, path: "other", use: 0, inputs: 2 },
    ]);
    expect(printGraph(graph)).toContain("p=0.3 drop use=1");
    expect(trainingForm(graph).nodes).toHaveLength(graph.nodes.length);
  });
  it("adds no input where nothing is dropped", () => {
    const net = new Net();
    const graph = trainingForm(net.output("y", net.relu(net.input("x", [2]))).graph());
    expect(graph.inputs).toHaveLength(1);
  });
});

describe("draws in loops", () => {
  const draw = (element: Draw["element"]): Draw => ({
    kind: "random",
    key: 77,
    element,
    counters: [num(1), num(2), num(3)],
  });
  const one = (value: Draw): Kernel =>
    kernel("draws", [["i", 8]], { loads: [], stores: [{ buffer: 0, index: [axis(0)], value }] });
  const loopsOf = (k: Kernel): Loops => ({
    name: "draws",
    buffers: [{ ...buffer(0, [8]), role: "output" }],
    load: [],
    run: [k],
    inputs: [],
    outputs: [{ name: "y", buffer: 0 }],
  });
  it("are verified", () => {
    expect(verifyLoops(loopsOf(one(draw(axis(0)))))).toEqual([]);
    expect(verifyLoops(loopsOf(one(draw(axis(1)))))).toEqual(["draws: an index names no axis"]);
    expect(verifyLoops(loopsOf(one(draw(axis(0, -1)))))).toEqual(["draws: a draw counts elements below 0"]);
  });
  it("wrap at 2^32", () => {
    const c: Case = {
      name: "wrap",
      kernel: one(draw(axis(0, 2 ** 30))),
      buffers: [buffer(0, [8])],
      ins: [],
      outs: [0],
    };
    const [y = new Float64Array()] = runOracle(c, new Map()).values();
    expect([...y.slice(4)]).toEqual([...y.slice(0, 4)]);
    expect(new Set(y).size).toBe(4);
    expect(y[0]).toBe(uniform(0, 1, 2, 3, 77));
  });
});
