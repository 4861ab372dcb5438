/** Every rule keeps the values, and does what it is for. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Graph, GraphNode, OpName } from "../../compiler/graph/graph.ts";
import { inferenceRules } from "../../compiler/graph/inference.ts";
import { type Rule, rewrite } from "../../compiler/graph/rewrite.ts";
import { verifyGraph } from "../../compiler/graph/verify.ts";
import { product } from "../../compiler/size.ts";
import { evaluateGraph } from "./evaluate.ts";
import { Net, randomLeaves, resnet50 } from "./nets.ts";

/** The rewritten graph, after checking that it is sound and computes the same within 1e-12. */
function rewritten(graph: Graph): Graph {
  expect(verifyGraph(graph)).toEqual([]);
  const after = rewrite(graph, inferenceRules);
  expect(verifyGraph(after)).toEqual([]);
  const { inputs, params } = randomLeaves(graph, 7);
  const want = evaluateGraph(graph, inputs, params);
  const got = evaluateGraph(after, inputs, params);
  for (const [i, values] of want.entries()) {
    const largest = Math.max(...values.map(Math.abs));
    const error = Math.max(...values.map((v, j) => Math.abs(v - (got[i]?.[j] ?? Number.NaN))));
    expect(error / Math.max(1, largest)).toBeLessThan(1e-12);
  }
  return after;
}

function counted(graph: Graph, op: OpName): number {
  return graph.nodes.filter((node) => node.op === op).length;
}

/** Operators that work on the network's data: those with an input among their ancestors. */
function onData(graph: Graph): readonly OpName[] {
  const touched = new Set<GraphNode>(graph.inputs);
  const ops: OpName[] = [];
  for (const node of graph.nodes) {
    if (!node.inputs.some((input) => touched.has(input))) continue;
    touched.add(node);
    ops.push(node.op);
  }
  return ops;
}

describe("batch norm", () => {
  test.each([true, false])("folds into a convolution (bias: %s)", (bias) => {
    const net = new Net();
    net.layer = "conv";
    const x = net.conv(net.input("x", [2, 4, 5, 5]), 6, 3, { pad: 1, stride: 2, groups: 2, bias });
    const after = rewritten(net.finish(net.relu(net.batchNorm(x, "bn"))));
    expect(onData(after)).toEqual(["conv2d", "binary"]);
    expect(after.nodes.find((n) => n.op === "conv2d")?.layer).toBe("conv");
    expect(after.nodes.flatMap((n) => (n.op === "param" ? [n.attrs.path] : []))).toContain("conv.weight");
  });

  test("folds into a linear layer", () => {
    const net = new Net();
    net.layer = "fc";
    const after = rewritten(net.finish(net.batchNorm(net.linear(net.input("x", [3, 4]), 5), "bn")));
    expect(onData(after)).toEqual(["linear"]);
  });

  test("folds through moves that keep the channels: places to a map", () => {
    const net = new Net();
    net.layer = "out";
    const y = net.linear(net.input("x", [2, 6, 4]), 5); // [n, h·w, c]
    const places = net.op("reshape", [y], { shape: [2, 3, 2, 5] });
    const map = net.op("permute", [places], { order: [0, 3, 1, 2] });
    const after = rewritten(net.finish(net.batchNorm(map, "bn")));
    expect(onData(after)).toEqual(["linear", "reshape", "permute"]);
  });

  test("folds through a flattened map", () => {
    const net = new Net();
    net.layer = "out";
    const y = net.conv(net.input("x", [2, 3, 4, 2]), 5, 1);
    const flat = net.op("reshape", [y], { shape: [2, 5, 8] });
    expect(onData(rewritten(net.finish(net.batchNorm(flat, "bn"))))).toEqual(["conv2d", "reshape"]);
  });

  test("does not fold through moves that mix the channels", () => {
    const net = new Net();
    net.layer = "out";
    const y = (at: string): GraphNode => {
      net.layer = at;
      return net.conv(net.input("x", [2, 3, 4, 2]), 4, 1); // [2, 4, 4, 2]
    };
    const halves = net.op("reshape", [y("a")], { shape: [2, 8, 4] });
    const turned = net.op("permute", [y("b")], { order: [0, 2, 1, 3] });
    // As many rows as channels, in the place of the channels, but made of both.
    const shifted = net.op("reshape", [y("c")], { shape: [4, 4, 4] });
    const after = rewritten(net.finish(...[halves, turned, shifted].map((x, i) => net.batchNorm(x, `bn${i}`))));
    expect(onData(after).filter((op) => op === "binary")).toHaveLength(6);
  });

  test("is spelled out where others read the convolution, or where there is none", () => {
    const net = new Net();
    net.layer = "conv";
    const y = net.conv(net.input("x", [2, 3, 4, 4]), 5, 3);
    const after = rewritten(net.finish(net.batchNorm(y, "bn"), net.relu(y)));
    expect(counted(after, "batch_norm")).toBe(0);
    expect(onData(after)).toEqual(["conv2d", "binary", "binary", "binary"]);
    const alone = new Net();
    const pooled = alone.maxPool(alone.input("x", [2, 3, 4, 4]), 2);
    expect(onData(rewritten(alone.finish(alone.batchNorm(pooled, "bn"))))).toEqual(["max_pool2d", "binary", "binary"]);
  });

  test("two in a row fold one after the other, also behind dropout", () => {
    const net = new Net();
    net.layer = "conv";
    const y = net.op("dropout", [net.conv(net.input("x", [1, 3, 4, 4]), 5, 3)], { p: 0.5, path: "drop" });
    const after = rewritten(net.finish(net.batchNorm(net.batchNorm(y, "bn1"), "bn2")));
    expect(onData(after)).toEqual(["conv2d"]);
  });

  test("disappears from ResNet-50", () => {
    const { graph } = resnet50(1, 32, 32);
    const after = rewrite(graph, inferenceRules);
    expect(verifyGraph(after)).toEqual([]);
    expect(counted(graph, "batch_norm")).toBe(53);
    expect(counted(after, "batch_norm")).toBe(0);
    expect(onData(after).filter((op) => op === "conv2d")).toHaveLength(53);
    // 49 activations and 16 residual sums stay on the data; everything else moved onto the parameters.
    expect(onData(after).filter((op) => op === "binary")).toHaveLength(49 + 16);
    expect(counted(after, "param")).toBe(counted(graph, "param"));
  });
});

test("one direction of STIA ends in a convolution and a residual sum", () => {
  const net = new Net();
  const [n, c, h, w] = [2, 4, 3, 2];
  const [q, kv] = [net.input("spatial", [n, c, h, w]), net.input("temporal", [n, c, h, w])];
  const project = (x: GraphNode, layer: string): GraphNode => {
    net.layer = layer;
    return net.conv(x, c / 2, 1);
  };
  const places = (x: GraphNode): GraphNode => net.op("reshape", [x], { shape: [n, c / 2, h * w] });
  const turned = (x: GraphNode): GraphNode => net.op("permute", [x], { order: [0, 2, 1] });
  const scores = net.op("matmul", [turned(places(project(q, "theta"))), places(project(kv, "phi"))], {});
  const weights = net.op("softmax", [scores], { axis: 2 });
  const gathered = net.op("matmul", [weights, turned(places(project(kv, "g")))], {});
  const map = net.op("reshape", [turned(gathered)], { shape: [n, c / 2, h, w] });
  net.layer = "out";
  const update = net.batchNorm(net.conv(map, c, 1), "bn");
  const after = rewritten(net.finish(net.binary("add", q, update)));
  expect(onData(after).slice(-2)).toEqual(["conv2d", "binary"]);
  expect(counted(after, "conv2d")).toBe(4);
});

describe("layer norm", () => {
  test("is spelled out", () => {
    const net = new Net();
    const x = net.input("x", [2, 3, 7]);
    const norm = net.op("layer_norm", [x, net.param("w", [7]), net.param("b", [7])], { eps: 1e-5 });
    const after = rewritten(net.finish(norm));
    expect(counted(after, "layer_norm")).toBe(0);
    expect(counted(after, "reduce")).toBe(2);
  });
});

describe("what does nothing", () => {
  test("dropout and detach", () => {
    const net = new Net();
    const x = net.relu(net.input("x", [4]));
    const after = rewritten(net.finish(net.op("detach", [net.op("dropout", [x], { p: 0.5, path: "d" })], {})));
    expect(onData(after)).toEqual(["binary"]);
  });

  test("neutral operands", () => {
    const net = new Net();
    const x = net.input("x", [4]);
    const [zero, one] = [net.constant(0), net.constant(1)];
    let y = net.binary("add", zero, net.binary("add", x, zero));
    y = net.binary("mul", one, net.binary("mul", y, one));
    y = net.binary("pow", net.binary("div", net.binary("sub", y, zero), one), one);
    expect(onData(rewritten(net.finish(y)))).toEqual([]);
  });

  test("operands that are not neutral stay", () => {
    const net = new Net();
    const x = net.input("x", [4]);
    const [zero, one] = [net.constant(0), net.constant(1)];
    const outputs = [
      net.binary("sub", zero, x),
      net.binary("div", one, x),
      net.binary("max", x, zero),
      net.binary("add", x, one),
    ];
    expect(onData(rewritten(net.finish(...outputs)))).toHaveLength(4);
  });

  test("moves there and back", () => {
    const net = new Net();
    const x = net.input("x", [2, 3, 4]);
    const turned = net.op("permute", [x], { order: [2, 0, 1] });
    const back = net.op("permute", [turned], { order: [1, 2, 0] });
    const flat = net.op("reshape", [back], { shape: [24] });
    const shaped = net.op("reshape", [flat], { shape: [2, 3, 4] });
    expect(onData(rewritten(net.finish(net.relu(shaped))))).toEqual(["binary"]);
  });

  test("moves in a row are one", () => {
    const net = new Net();
    const x = net.input("x", [2, 3, 4]);
    const turned = net.op("permute", [net.op("permute", [x], { order: [2, 0, 1] })], { order: [2, 1, 0] });
    const flat = net.op("reshape", [net.op("reshape", [turned], { shape: [6, 4] })], { shape: [24] });
    expect(onData(rewritten(net.finish(flat)))).toEqual(["permute", "reshape"]);
  });
});

test("random pipelines keep their values", () => {
  // Each step takes the value so far, always [2, C, …], and gives another one.
  const steps: readonly ((net: Net, x: GraphNode, at: string) => GraphNode)[] = [
    (net, x, at) => {
      net.layer = at;
      return x.shape.length === 4 ? net.conv(x, 4, 1) : net.linear(x, 4);
    },
    (net, x, at) => net.batchNorm(x, at),
    (net, x) => net.relu(x),
    (net, x) => net.binary("add", x, net.constant(0)),
    (net, x) => net.binary("mul", net.constant(1), x),
    (net, x, at) => net.op("dropout", [x], { p: 0.5, path: at }),
    (net, x) => net.op("permute", [x], { order: x.shape.length === 4 ? [0, 3, 1, 2] : [0, 2, 1] }),
    (net, x) => net.op("permute", [x], { order: x.shape.length === 4 ? [0, 2, 3, 1] : [0, 2, 1] }),
    (net, x) => net.op("reshape", [x], { shape: [2, x.shape[1] ?? 1, product(x.shape.slice(2))] }),
    (net, x) => net.op("reshape", [x], { shape: [2, ...x.shape.slice(1, 2), 1, product(x.shape.slice(2))] }),
    (net, x) => net.op("reshape", [x], { shape: [2, product(x.shape.slice(2)), x.shape[1] ?? 1] }),
    (net, x, at) => {
      const d = [x.shape.at(-1) ?? 1];
      return net.op("layer_norm", [x, net.param(`${at}.w`, d), net.param(`${at}.b`, d)], { eps: 1e-3 });
    },
  ];
  const choice = fc.record({ step: fc.nat(steps.length - 1), keep: fc.boolean() });
  fc.assert(
    fc.property(fc.array(choice, { minLength: 1, maxLength: 10 }), (choices) => {
      const net = new Net();
      let x = net.input("x", [2, 3, 2, 4]);
      const kept: GraphNode[] = [];
      for (const [i, { step, keep }] of choices.entries()) {
        x = steps[step]?.(net, x, `layer${i}`) ?? x;
        if (keep && i % 3 === 0) kept.push(x); // read by an output as well
      }
      rewritten(net.finish(x, ...kept));
    }),
    { numRuns: 200 },
  );
});

test("rules that undo each other are found out", () => {
  const net = new Net();
  const graph = net.finish(net.op("unary", [net.input("x", [2])], { fn: "abs" }));
  const restless: Rule = {
    name: "restless",
    doc: "abs and neg in turns",
    ops: ["unary"],
    apply: (node, site) =>
      node.op === "unary" ? site.add("unary", node.inputs, { fn: node.attrs.fn === "abs" ? "neg" : "abs" }) : undefined,
  };
  expect(() => rewrite(graph, [restless])).toThrow("does not end");
});
