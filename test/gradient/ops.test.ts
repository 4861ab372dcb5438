/** The gradient of every operator, always in the middle of a graph: a product before it, a product and a sum after. */
import { describe, expect, it } from "vitest";
import { differentiate } from "../../compiler/graph/gradient.ts";
import type { GraphNode } from "../../compiler/graph/graph.ts";
import { OPS } from "../../compiler/graph/ops.ts";
import { BINARY, COMPARE, UNARY, type UnaryFn } from "../../compiler/scalar.ts";
import { Net } from "../loop/nets.ts";
import {
  CASES,
  type Case,
  CONVOLUTIONS,
  COUNTERS,
  convolution,
  GROUPS,
  graphOf,
  isTensorFn,
  valuesOf,
  wantedOf,
} from "./cases.ts";
import { checkGradients, checkLoops, evaluated, gradientOf, leavesOf, outputNamed } from "./check.ts";

function check(c: Case, sampled?: number): ReturnType<typeof checkGradients> {
  const graph = graphOf([c]);
  const options = {
    only: wantedOf(graph),
    loopTolerance: c.loopTolerance,
    ...(sampled === undefined ? {} : { sampled }),
  };
  return checkGradients(graph, valuesOf(graph), options);
}

describe.each(Object.entries(GROUPS))("%s", (_, cases) => {
  it.each(cases.map((c) => [c.name, c] as const))("%s", (_name, c) => {
    check(c);
  });
});

describe("the list of cases", () => {
  /** The operators of a case, without its leaves and its loss. */
  const own = (node: GraphNode | undefined): GraphNode[] =>
    node === undefined || node.inputs.every(({ op }) => op === "input" || op === "param")
      ? []
      : [node, ...node.inputs.flatMap(own)];
  const middle = CASES.flatMap((c) => {
    const weighted = graphOf([c]).nodes.find(({ inputs: [, by] }) => by?.op === "param" && by.attrs.path === "p");
    return own(weighted?.inputs[0]);
  });
  const found = (of: (node: GraphNode) => string | undefined): string[] =>
    [...new Set(middle.map(of))].filter((name) => name !== undefined).sort();

  it("has every operator that has a gradient", () => {
    // The gradients of a max pool and of attention are refused a second time, see below; Winograd's forms are made for
    // inference alone; every other row without one says so by its rule.
    const without = (name: string, row: { readonly gradient: unknown }): boolean =>
      row.gradient === OPS.detach.gradient || /^(max_pool2d_grad|attend_.*_grad|winograd_.*)$/.test(name);
    const wanted = Object.entries(OPS).filter(([name, row]) => !without(name, row));
    expect(wanted.length).toBeGreaterThan(20);
    expect(found(({ op }) => op)).toEqual(wanted.map(([name]) => name).sort());
  });
  it("has every scalar function, comparison and reduction", () => {
    expect(found((node) => (node.op === "unary" ? node.attrs.fn : undefined))).toEqual(
      (Object.keys(UNARY) as UnaryFn[]).filter(isTensorFn).sort(),
    );
    expect(found((node) => (node.op === "binary" ? node.attrs.fn : undefined))).toEqual(Object.keys(BINARY).sort());
    expect(found((node) => (node.op === "select" ? node.attrs.compare : undefined))).toEqual(
      Object.keys(COMPARE).sort(),
    );
    expect(found((node) => (node.op === "reduce" ? node.attrs.fn : undefined))).toEqual(["max", "mean", "min", "sum"]);
  });
  it("calls no two cases the same", () => {
    expect(new Set(CASES.map(({ name }) => name)).size).toBe(CASES.length);
  });
});

describe("convolutions", () => {
  it.each(CONVOLUTIONS)("%s: a stride costs nothing", (...entry) => {
    const [, x, w, attrs] = entry;
    const { loops } = check(convolution(entry), 1);
    const [n = 0, , height = 0, width = 0] = x;
    const [sh, sw] = attrs.stride ?? [1, 1];
    const gathers = loops.run.filter(({ name }) => name.includes("input_grad"));
    expect(gathers.length).toBe(Math.min(sh, height) * Math.min(sw, width));
    // Each element multiplies only with the taps that reach it.
    const macs = gathers.reduce((sum, kernel) => sum + kernel.macs, 0);
    const taps = Math.ceil(height / sh) * Math.ceil(width / sw) * w.reduce((a, b) => a * b, 1);
    expect(macs).toBeLessThanOrEqual(n * taps);
    // No index divides.
    const indexed = loops.run.filter(({ name }) => /_grad/.test(name));
    expect(indexed.length).toBeGreaterThan(1);
    const atoms = indexed.flatMap((kernel) =>
      [...kernel.loads, ...kernel.stores].flatMap((access) => access.index.flatMap((part) => part.terms)),
    );
    expect(atoms.every(({ atom }) => atom.kind === "axis")).toBe(true);
  });
});

describe("dropout", () => {
  it("hides the same elements from the gradient as from the result, and counters have none", () => {
    const c = CASES.find(({ name }) => name === "dropout");
    if (c === undefined) throw new Error("no case of dropout");
    const { gradients } = check(c, 60);
    const zeros = gradients.get("gradient.x")?.filter((g) => g === 0).length ?? 0;
    expect(zeros).toBeGreaterThan(12);
    expect(zeros).toBeLessThan(36);
    const graph = graphOf([c]);
    const whole = differentiate(graph, outputNamed(graph, "loss"), graph.inputs);
    if (!("graph" in whole)) throw new Error(whole.reason);
    expect(whole.gradients.map((gradient) => gradient !== undefined)).toEqual(
      graph.inputs.map((node) => node.attrs.name !== COUNTERS),
    );
  });
});

describe("ties and corners", () => {
  it("of equal elements in a window the first takes all", () => {
    const net = new Net();
    const y = net.maxPool(net.relu(net.input("x", [1, 1, 4, 4])), [3, 3], [1, 1], [0, 0]);
    const graph = net.output("loss", net.reduce(y, "sum", [0, 1, 2, 3], false)).graph();
    const relu = graph.nodes.filter((node) => node.op === "binary");
    const result = gradientOf(graph, relu);
    const values = { inputs: new Map([["x", new Float64Array(16).fill(-1)]]), params: new Map() };
    const got = evaluated(result, values);
    checkLoops(result, values, got);
    // All are 0 after relu: each of the four windows takes its own upper left corner.
    const gradient = [...got].find(([name]) => name.startsWith("gradient"));
    expect([...(gradient?.[1] ?? [])]).toEqual([1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  });
  it("a reduced maximum divides evenly among equal elements", () => {
    const net = new Net();
    const x = net.input("x", [2, 3]);
    const graph = net.output("loss", net.reduce(net.reduce(x, "max", [1], false), "sum", [0], false)).graph();
    const got = evaluated(gradientOf(graph), {
      inputs: new Map([["x", Float64Array.of(1, 1, 0, 2, 3, 1)]]),
      params: new Map(),
    });
    expect([...(got.get("gradient.x") ?? [])]).toEqual([0.5, 0.5, 0, 0, 1, 0]);
  });
  it("relu has none at 0", () => {
    const net = new Net();
    const graph = net.output("loss", net.reduce(net.relu(net.input("x", [3])), "sum", [0], false)).graph();
    const got = evaluated(gradientOf(graph), {
      inputs: new Map([["x", Float64Array.of(-1, 0, 2)]]),
      params: new Map(),
    });
    expect([...(got.get("gradient.x") ?? [])]).toEqual([0, 0, 1]);
  });
});

describe("what has no gradient", () => {
  const refusal = (make: (net: Net, x: GraphNode) => GraphNode): string => {
    const net = new Net();
    const graph = net
      .output("loss", net.reduce(make(net, net.input("x", [1, 1, 4, 4])), "sum", [0, 1, 2, 3], false))
      .graph();
    const result = differentiate(graph, outputNamed(graph, "loss"), leavesOf(graph));
    return "reason" in result ? result.reason : "none";
  };
  it("a max pool's gradient by the image is refused a second time", () => {
    const pool = { k: [2, 2], stride: [2, 2], pad: [0, 0] } as const;
    const twice = (net: Net, x: GraphNode): GraphNode => {
      const index = net.add("max_pool2d_index", [x], pool);
      return net.add("max_pool2d_grad", [index, net.maxPool(x, [2, 2], [2, 2], [0, 0])], { ...pool, size: [4, 4] });
    };
    expect(refusal(twice)).toContain("max pool");
  });
  it("detach, running statistics and comparisons give none", () => {
    const net = new Net();
    const x = net.input("x", [3]);
    const bn = net.batchNorm(net.reshape(net.add("detach", [x], {}), [3, 1]), "bn");
    const y = net.add("select", [net.param("l", [1]), net.constant(0), bn, net.constant(1)], { compare: "lt" });
    const graph = net.output("loss", net.reduce(y, "sum", [0, 1], false)).graph();
    const result = differentiate(
      graph,
      outputNamed(graph, "loss"),
      graph.nodes.filter((n) => n.op === "param" || n.op === "input"),
    );
    if (!("graph" in result)) throw new Error(result.reason);
    expect(result.graph.outputs.map((o) => o.name)).toEqual(["loss", "gradient.bn.weight", "gradient.bn.bias"]);
  });
});
