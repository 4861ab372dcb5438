/** The gradient of every operator, always in the middle of a graph: a product before it, a product and a sum after. */
import { describe, expect, it } from "vitest";
import { differentiate } from "../../compiler/graph/gradient.ts";
import type { GraphNode, OpAttrs } from "../../compiler/graph/graph.ts";
import { OPS } from "../../compiler/graph/ops.ts";
import { BINARY, type BinaryFn, UNARY, type UnaryFn } from "../../compiler/scalar.ts";
import { dims, Net, randomValues } from "../loop/nets.ts";
import { checkGradients, checkLoops, evaluated, gradientOf, leavesOf, outputNamed } from "./check.ts";

/** A leaf times a parameter of its own. */
function before(net: Net, name: string, shape: readonly number[]): GraphNode {
  return net.binary("mul", net.input(name, shape), net.param(`${name}.scale`, shape));
}

/** The loss Σ (y·p + q)², which makes the gradient by y depend on y and on its place. */
function after(net: Net, y: GraphNode): Net {
  const [p, q] = [net.param("p", dims(y)), net.param("q", dims(y))];
  const z = net.binary("add", net.binary("mul", y, p), q);
  const all = dims(y).map((_, axis) => axis);
  const square = net.binary("mul", z, z);
  return net.output("loss", net.reduce(square, "sum", all, false));
}

function check(make: (net: Net) => GraphNode, seed = 1): ReturnType<typeof checkGradients> {
  const net = new Net();
  const graph = after(net, make(net)).graph();
  return checkGradients(graph, randomValues(graph, seed));
}

type Conv = OpAttrs["conv2d"];
const CONVOLUTIONS: readonly (readonly [string, readonly number[], readonly number[], Partial<Conv>])[] = [
  ["3x3 pad 1", [2, 3, 5, 7], [4, 3, 3, 3], { pad: [1, 1] }],
  ["1x1", [2, 5, 3, 3], [3, 5, 1, 1], {}],
  ["1x1 stride 2, most elements unread", [1, 3, 5, 4], [2, 3, 1, 1], { stride: [2, 2] }],
  ["3x3 stride 2", [2, 3, 7, 7], [2, 3, 3, 3], { stride: [2, 2], pad: [1, 1] }],
  ["7x7 stride 2 pad 3", [1, 3, 9, 8], [2, 3, 7, 7], { stride: [2, 2], pad: [3, 3] }],
  ["uneven strides and pads", [1, 3, 9, 8], [2, 3, 3, 5], { stride: [2, 3], pad: [0, 2] }],
  ["stride above the kernel", [1, 2, 8, 7], [3, 2, 2, 1], { stride: [3, 3] }],
  ["dilation", [2, 2, 9, 9], [3, 2, 3, 3], { dilation: [2, 3], pad: [2, 3] }],
  [
    "stride 2 with dilation 2: odd phases without taps",
    [1, 2, 9, 9],
    [3, 2, 3, 3],
    { stride: [2, 2], dilation: [2, 2] },
  ],
  ["stride 3 with dilation 2", [1, 2, 11, 10], [2, 2, 3, 3], { stride: [3, 3], dilation: [2, 2], pad: [2, 1] }],
  ["stride 4 with dilation 2", [1, 2, 11, 12], [2, 2, 3, 3], { stride: [4, 4], dilation: [2, 2], pad: [1, 0] }],
  ["groups", [2, 6, 5, 5], [4, 3, 3, 3], { groups: 2, pad: [1, 1] }],
  ["groups with stride", [1, 4, 6, 5], [6, 2, 3, 3], { groups: 2, stride: [2, 2], pad: [1, 1] }],
  ["depthwise", [1, 6, 5, 5], [6, 1, 3, 3], { groups: 6, pad: [1, 1] }],
  ["rows that no window reaches", [1, 1, 6, 6], [1, 1, 2, 2], { stride: [3, 3] }],
  ["one of everything", [1, 1, 1, 1], [1, 1, 1, 1], {}],
];

describe("products", () => {
  it.each(CONVOLUTIONS)("conv2d: %s", (_, x, w, attrs) => {
    const { loops } = check((net) =>
      net.conv2d(before(net, "x", x), before(net, "w", w), before(net, "b", [w[0] ?? 1]), attrs),
    );
    const [n = 0, , height = 0, width = 0] = x;
    const [sh, sw] = attrs.stride ?? [1, 1];
    const gathers = loops.run.filter(({ name }) => name.includes("input_grad"));
    expect(gathers.length).toBe(Math.min(sh, height) * Math.min(sw, width));
    // Each element multiplies only with the taps that reach it: a stride costs nothing.
    const macs = gathers.reduce((sum, kernel) => sum + kernel.macs, 0);
    const taps = Math.ceil(height / sh) * Math.ceil(width / sw) * w.reduce((a, b) => a * b, 1);
    expect(macs).toBeLessThanOrEqual(n * taps);
  });
  it("no index of a gradient divides", () => {
    for (const [, x, w, attrs] of CONVOLUTIONS) {
      const net = new Net();
      const graph = after(net, net.conv2d(before(net, "x", x), before(net, "w", w), undefined, attrs)).graph();
      const { loops } = checkGradients(graph, randomValues(graph), { sampled: 1 });
      const gathers = loops.run.filter(({ name }) => /_grad/.test(name));
      expect(gathers.length).toBeGreaterThan(1);
      const atoms = gathers.flatMap((kernel) =>
        [...kernel.loads, ...kernel.stores].flatMap((access) => access.index.flatMap((part) => part.terms)),
      );
      expect(atoms.every(({ atom }) => atom.kind === "axis")).toBe(true);
    }
  });
  it("linear on 1, 2 and 3 axes, with and without bias", () => {
    for (const shape of [[5], [3, 5], [2, 3, 5], [1, 5]]) {
      check((net) => net.linear(before(net, "x", shape), before(net, "w", [4, 5]), before(net, "b", [4])));
    }
    check((net) => net.linear(before(net, "x", [3, 5]), before(net, "w", [4, 5])));
  });
  it("matmul, batches that broadcast", () => {
    check((net) => net.matmul(before(net, "a", [3, 4]), before(net, "b", [4, 5])));
    check((net) => net.matmul(before(net, "a", [2, 1, 3, 4]), before(net, "b", [5, 4, 2])));
    check((net) => net.matmul(before(net, "a", [2, 3, 4]), before(net, "b", [4, 2])));
  });
});

type Pool = OpAttrs["max_pool2d"];
const POOLS: readonly (readonly [string, readonly number[], Pool])[] = [
  ["2x2", [2, 3, 6, 4], { k: [2, 2], stride: [2, 2], pad: [0, 0] }],
  ["2x2 that drops a row", [1, 2, 7, 5], { k: [2, 2], stride: [2, 2], pad: [0, 0] }],
  ["3x3 stride 2 pad 1, overlapping", [2, 3, 7, 8], { k: [3, 3], stride: [2, 2], pad: [1, 1] }],
  ["3x2 stride 1x2, overlapping", [1, 2, 7, 5], { k: [3, 2], stride: [1, 2], pad: [1, 0] }],
  ["1x1 stride 3", [1, 2, 7, 5], { k: [1, 1], stride: [3, 3], pad: [0, 0] }],
  ["the whole image", [2, 3, 7, 5], { k: [7, 5], stride: [7, 5], pad: [0, 0] }],
];

describe("pooling", () => {
  it.each(POOLS)("max: %s", (_, x, { k, stride, pad }) => {
    check((net) => net.maxPool(before(net, "x", x), k, stride, pad));
  });
  it.each(POOLS)("average: %s", (_, x, { k, stride, pad }) => {
    check((net) => net.avgPool(before(net, "x", x), k, stride, pad, true));
    check((net) => net.avgPool(before(net, "x", x), k, stride, pad, false));
  });
  it("of equal elements the first takes all", () => {
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
});

describe("reductions and norms", () => {
  it("reduce over some axes and all, kept and dropped", () => {
    for (const fn of ["sum", "mean", "max", "min"] as const) {
      check((net) => net.reduce(before(net, "x", [2, 3, 4, 5]), fn, [1, 3], false));
      check((net) => net.reduce(before(net, "x", [2, 3, 5]), fn, [1], true));
      check((net) => net.reduce(before(net, "x", [3, 5]), fn, [0, 1], false));
    }
  });
  it("a maximum divides evenly among equal elements", () => {
    const net = new Net();
    const x = net.input("x", [2, 3]);
    const graph = net.output("loss", net.reduce(net.reduce(x, "max", [1], false), "sum", [0], false)).graph();
    const got = evaluated(gradientOf(graph), {
      inputs: new Map([["x", Float64Array.of(1, 1, 0, 2, 3, 1)]]),
      params: new Map(),
    });
    expect([...(got.get("gradient.x") ?? [])]).toEqual([0.5, 0.5, 0, 0, 1, 0]);
  });
  it("softmax along each axis, and masked", () => {
    for (const axis of [0, 1, 2]) check((net) => net.softmax(before(net, "x", [2, 3, 4]), axis));
    check((net) => net.softmax(net.causalMask(before(net, "x", [2, 4, 6])), 2));
  });
  it("batch norm with its statistics held, layer norm", () => {
    for (const shape of [
      [2, 3, 4, 5],
      [4, 3],
    ]) {
      const net = new Net();
      const graph = after(net, net.batchNorm(before(net, "x", shape), "bn")).graph();
      const held = (node: GraphNode): boolean => node.op === "param" && /bn\.(mean|var)/.test(node.attrs.path);
      checkGradients(graph, randomValues(graph), { only: leavesOf(graph).filter((node) => !held(node)) });
    }
    check((net) => net.layerNorm(before(net, "x", [2, 3, 5]), before(net, "weight", [5]), before(net, "bias", [5])));
  });
});

describe("elementwise", () => {
  const positive = (net: Net, x: GraphNode): GraphNode => net.binary("add", net.binary("mul", x, x), net.constant(0.5));
  it.each(Object.keys(UNARY) as UnaryFn[])("%s", (fn) => {
    const roots = fn === "log" || fn === "sqrt" || fn === "rsqrt";
    // The loops compose erf of other functions, within 2e-7: only its rule can be checked to the last digit.
    if (fn !== "erf") {
      check((net) => net.unary(fn, roots ? positive(net, before(net, "x", [3, 5])) : before(net, "x", [3, 5])));
    } else {
      const net = new Net();
      const graph = after(net, net.unary(fn, before(net, "x", [3, 5]))).graph();
      expect(() => checkGradients(graph)).toThrow(/expected .* to be less than 1e-10/);
    }
  });
  it.each(Object.keys(BINARY) as BinaryFn[])("%s, broadcast both ways and with numbers", (fn) => {
    const left = (net: Net, x: GraphNode): GraphNode => (fn === "pow" ? positive(net, x) : x);
    const right = (net: Net, x: GraphNode): GraphNode => (fn === "div" ? positive(net, x) : x);
    const pairs = [
      [
        [3, 5],
        [3, 5],
      ],
      [[2, 3, 5], [5]],
      [[5], [2, 3, 5]],
      [
        [3, 1, 5],
        [2, 1, 4, 1],
      ],
      [[], [3, 5]],
    ] as const;
    for (const [l, r] of pairs) {
      check((net) => net.binary(fn, left(net, before(net, "l", l)), right(net, before(net, "r", r))));
    }
    check((net) => net.binary(fn, left(net, before(net, "l", [3, 5])), net.constant(0.3)));
    check((net) => net.binary(fn, net.constant(0.3), right(net, before(net, "r", [3, 5]))));
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
  it("select", () => {
    check((net) => {
      const [l, r] = [before(net, "l", [3, 5]), before(net, "r", [5])];
      return net.add("select", [l, r, before(net, "then", [3, 1]), before(net, "else", [])], { compare: "le" });
    });
  });
  it("cast, and dropout without counters", () => {
    check((net) =>
      net.add("cast", [net.add("dropout", [before(net, "x", [3])], { p: 0.5, path: "d" })], { dtype: "f32" }),
    );
  });
  it("dropout with counters: the same mask again", () => {
    const net = new Net();
    const x = before(net, "x", [3, 4, 5]);
    const counters = net.input("step.counters", [3]);
    const y = net.add("dropout", [net.unary("sin", x), counters], { p: 0.4, path: "d" });
    const graph = after(net, net.permute(y, [2, 0, 1])).graph();
    const values = randomValues(graph);
    values.inputs.set("step.counters", Float64Array.of(12345, 777, 42));
    const only = leavesOf(graph).filter((leaf) => leaf !== graph.inputs[1]);
    const { gradients } = checkGradients(graph, values, { only, sampled: 60 });
    const zeros = gradients.get("gradient.x")?.filter((g) => g === 0).length ?? 0;
    expect(zeros).toBeGreaterThan(12);
    expect(zeros).toBeLessThan(36);
    // Nothing flows to the counters.
    const whole = differentiate(graph, outputNamed(graph, "loss"), leavesOf(graph));
    if (!("graph" in whole)) throw new Error(whole.reason);
    expect(whole.gradients[leavesOf(graph).findIndex((leaf) => leaf === graph.inputs[1])]).toBeUndefined();
  });
});

describe("movements", () => {
  it("reshape, permute, slice, pad, concat, broadcast", () => {
    check((net) => net.reshape(net.permute(before(net, "x", [2, 3, 4]), [2, 0, 1]), [8, 3]));
    check((net) => net.permute(before(net, "x", [2, 3, 4, 5]), [3, 1, 0, 2]));
    for (const [start, size] of [
      [0, 2],
      [1, 3],
      [3, 2],
      [0, 5],
    ] as const) {
      check((net) => net.slice(before(net, "x", [2, 5, 3]), 1, start, size));
    }
    check((net) => net.add("pad", [before(net, "x", [2, 3])], { axis: 0, before: 1, after: 2 }));
    check((net) => {
      const x = before(net, "x", [2, 3, 2]);
      return net.concat([x, before(net, "y", [2, 1, 2]), net.slice(x, 1, 1, 2)], 1);
    });
    check((net) => net.add("broadcast", [before(net, "x", [3, 1])], { shape: [2, 3, 4] }));
  });
});

describe("gradients of gradients", () => {
  it("convolution and average pool", () => {
    const conv = { stride: [2, 2], pad: [1, 1], dilation: [1, 1], groups: 1 } as const;
    check((net) =>
      net.add("conv2d_input_grad", [before(net, "dy", [2, 4, 3, 4]), before(net, "w", [4, 2, 3, 3])], {
        ...conv,
        size: [6, 7],
      }),
    );
    check((net) =>
      net.add("conv2d_weight_grad", [before(net, "x", [2, 2, 6, 7]), before(net, "dy", [2, 4, 3, 4])], {
        ...conv,
        k: [3, 3],
      }),
    );
    const pool = { k: [3, 3], stride: [2, 2], pad: [1, 1], countPad: false } as const;
    check((net) => net.add("avg_pool2d_grad", [before(net, "dy", [1, 2, 3, 4])], { ...pool, size: [6, 7] }));
  });
});

describe("what has no gradient", () => {
  const refusal = (make: (net: Net, x: GraphNode) => GraphNode): string => {
    const net = new Net();
    const graph = after(net, make(net, before(net, "x", [1, 1, 4, 4]))).graph();
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
  it("every operator has a rule", () => {
    expect(Object.values(OPS).every((row) => typeof row.gradient === "function")).toBe(true);
  });
});
