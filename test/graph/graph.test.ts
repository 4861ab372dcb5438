/** Building, binding, hashing, checking, printing and pricing graphs. */
import { describe, expect, test } from "vitest";
import { bindSizes, GraphBuilder } from "../../compiler/graph/builder.ts";
import { costOf } from "../../compiler/graph/cost.ts";
import type { Graph, GraphNode } from "../../compiler/graph/graph.ts";
import { graphHash } from "../../compiler/graph/hash.ts";
import { printGraph } from "../../compiler/graph/print.ts";
import { isProblem } from "../../compiler/graph/shapes.ts";
import { verifyGraph } from "../../compiler/graph/verify.ts";
import type { Origin } from "../../compiler/origin.ts";
import { divExact, mul, name, showShape } from "../../compiler/size.ts";
import { evaluateGraph } from "./evaluate.ts";
import { lenet, Net, randomLeaves, resnet50, vgg16 } from "./nets.ts";

const N = name("N");

function bound(graph: Graph, sizes: Readonly<Record<string, number>>): Graph {
  const result = bindSizes(graph, new Map(Object.entries(sizes)));
  if ("nodes" in result) return result;
  throw new Error(JSON.stringify(result));
}

describe("building", () => {
  const origin = (start: number): Origin => ({ span: { source: { path: "a.net", text: "" }, start, end: start + 1 } });

  test("equal pure nodes are one node with both origins", () => {
    const builder = new GraphBuilder();
    const x = builder.leaf("input", { name: "x" }, { shape: [N], dtype: "f32" }, { layer: "", origins: [] });
    const [a, b] = [1, 2].map((at) =>
      builder.add("unary", [x], { fn: "exp" }, { layer: `l${at}`, origins: [origin(at)] }),
    );
    if (a === undefined || b === undefined || isProblem(a) || isProblem(b)) throw new Error("exp fits everything");
    expect(a).toBe(b);
    const { graph, nodes } = builder.finish("G", [{ name: "y", node: a }]);
    expect(graph.nodes).toHaveLength(2);
    expect(nodes.get(a)?.origins.map((o) => o.span.start)).toEqual([1, 2]);
    expect(nodes.get(a)?.layer).toBe("l1");
  });

  test("parameters and dropouts are told apart by their paths", () => {
    const net = new Net();
    expect(net.param("a.weight", [3])).toBe(net.param("a.weight", [3]));
    expect(net.param("a.weight", [3])).not.toBe(net.param("b.weight", [3]));
    const x = net.input("x", [3]);
    const drop = (path: string): GraphNode => net.op("dropout", [x], { p: 0.5, path });
    expect(drop("a")).toBe(drop("a"));
    expect(drop("a")).not.toBe(drop("b"));
  });

  test("0 and -0, infinities and NaN are different numbers", () => {
    const net = new Net();
    const values = [0, -0, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    expect(new Set(values.map((value) => net.constant(value))).size).toBe(5);
  });

  test("dead nodes go, unused inputs stay", () => {
    const net = new Net();
    const [x, y] = [net.input("x", [2]), net.input("y", [2])];
    net.op("unary", [y], { fn: "exp" });
    const graph = net.finish(net.op("unary", [x], { fn: "abs" }));
    expect(graph.nodes.map((n) => n.op)).toEqual(["input", "input", "unary"]);
    expect(graph.inputs.map((n) => n.attrs.name)).toEqual(["x", "y"]);
    expect(graph.nodes.map((n) => n.id)).toEqual([0, 1, 2]);
    expect(verifyGraph(graph)).toEqual([]);
  });

  test("a misfit is a problem, not a node", () => {
    const net = new Net();
    const found = net.builder.add("matmul", [net.input("x", [2, 3]), net.input("y", [2, 3])], {}, net.where);
    expect(isProblem(found) && found.code).toBe("E0302");
  });
});

describe("closing sizes", () => {
  test("everywhere, also in attributes", () => {
    const net = new Net();
    const x = net.input("x", [N, 4]);
    const rows = net.op("reshape", [x], { shape: [mul(N, 2), 2] });
    const half = net.op("slice", [rows], { axis: 0, start: N, size: N });
    const graph = bound(net.finish(half), { N: 3, unused: 1 });
    expect(verifyGraph(graph)).toEqual([]);
    expect(graph.nodes.map((n) => showShape(n.shape))).toEqual(["[3, 4]", "[6, 2]", "[3, 2]"]);
    const values = Float64Array.from({ length: 12 }, (_, i) => i);
    expect([...(evaluateGraph(graph, new Map([["x", values]]), new Map())[0] ?? [])]).toEqual([6, 7, 8, 9, 10, 11]);
  });

  test("names still open, values that break facts and shapes that stop fitting are reported", () => {
    const { graph } = resnet50(N, name("H", 32), name("W", 32));
    expect(
      bindSizes(
        graph,
        new Map([
          ["H", 225],
          ["W", 0],
        ]),
      ),
    ).toEqual([
      { kind: "open", name: "N" },
      { kind: "value", name: "H", value: 225, multipleOf: 32 },
      { kind: "value", name: "W", value: 0, multipleOf: 32 },
    ]);
    const net = new Net();
    const pooled = net.maxPool(net.input("x", [1, 1, name("H"), 8]), 4);
    const found = bindSizes(net.finish(pooled), new Map([["H", 3]]));
    expect(found).toMatchObject([{ kind: "shape", problem: { code: "E0306" } }]);
  });

  test("closed before or after building is the same network", () => {
    const { graph } = resnet50(N, name("H", 32), name("W", 32));
    expect(graphHash(bound(graph, { N: 2, H: 64, W: 96 }))).toBe(graphHash(resnet50(2, 64, 96).graph));
  });

  test("ResNet-50's layer3 is a sixteenth of the image", () => {
    const H = name("H", 32);
    const { layer3 } = resnet50(N, H, name("W", 32));
    expect(showShape(layer3.shape)).toBe("[N, 1024, H / 16, W / 16]");
    expect(layer3.shape[2]).toEqual(divExact(H, 16));
  });
});

describe("the hash", () => {
  const build = (change: { order?: boolean; layer?: string; path?: string; k?: number; name?: string } = {}): Graph => {
    const net = new Net();
    net.layer = change.layer ?? "a";
    const x = net.input("x", [N, 3, 8, 8]);
    const k = change.k ?? 4;
    const pools = new Map((change.order ? [2, k] : [k, 2]).map((size) => [size, net.maxPool(x, size)]));
    const w = net.param(change.path ?? "w", [3, 1, 1]);
    const named = [k, 2].map((size, i) => {
      const pool = pools.get(size);
      if (pool === undefined) throw new Error(`there is no pool of ${size}`);
      return { name: `${change.name ?? "y"}${i}`, node: net.binary("mul", pool, w) };
    });
    return net.builder.finish(change.name ?? "G", named).graph;
  };

  test("does not see the order of making, layers and names of results", () => {
    const hash = graphHash(build());
    expect(hash).toMatch(/^[0-9a-f]{64}$/);
    expect(build({ order: true }).nodes.map((n) => showShape(n.shape))).not.toEqual(
      build().nodes.map((n) => showShape(n.shape)),
    );
    expect(graphHash(build({ order: true }))).toBe(hash);
    expect(graphHash(build({ layer: "b", name: "z" }))).toBe(hash);
  });

  test("sees attributes, shapes and paths", () => {
    const hashes = [build(), build({ k: 3 }), build({ path: "v" }), bound(build(), { N: 1 }), lenet(N), lenet(2)];
    expect(new Set(hashes.map(graphHash)).size).toBe(hashes.length);
  });
});

describe("verifying", () => {
  const graph = lenet(2);
  const broken = (change: (nodes: GraphNode[]) => void): string => {
    const nodes = [...graph.nodes];
    change(nodes);
    return verifyGraph({ ...graph, nodes }).join("\n");
  };
  const index = (op: GraphNode["op"]): number => graph.nodes.findIndex((n) => n.op === op);
  const nodeAt = (i: number): GraphNode => {
    const node = graph.nodes[i];
    if (node === undefined) throw new Error(`there is no node ${i}`);
    return node;
  };

  test("a sound graph has no findings", () => {
    for (const sound of [graph, lenet(N), vgg16(N), resnet50(N, name("H"), name("W")).graph]) {
      expect(verifyGraph(sound)).toEqual([]);
    }
  });

  test.each([
    [
      "ids",
      "has id 7",
      (nodes: GraphNode[]): void => {
        nodes[0] = { ...nodeAt(0), id: 7 };
      },
    ],
    [
      "strangers",
      "not in the graph",
      (nodes: GraphNode[]): void => {
        nodes[0] = { ...nodeAt(0) };
      },
    ],
    [
      "arity",
      "has 1 inputs",
      (nodes: GraphNode[]): void => {
        const i = index("conv2d");
        nodes[i] = { ...nodeAt(i), inputs: nodeAt(i).inputs.slice(0, 1) };
      },
    ],
    [
      "shapes",
      "its rule gives f32[2, 6, 28, 28]",
      (nodes: GraphNode[]): void => {
        const i = index("conv2d");
        nodes[i] = { ...nodeAt(i), shape: [2, 6, 28, 29] };
      },
    ],
    [
      "element types",
      "its rule gives f32",
      (nodes: GraphNode[]): void => {
        const i = index("reshape");
        nodes[i] = { ...nodeAt(i), dtype: "f16" };
      },
    ],
    [
      "misfits",
      "does not fit its inputs",
      (nodes: GraphNode[]): void => {
        const i = index("linear");
        nodes[i] = { ...nodeAt(i), inputs: nodeAt(i).inputs.toReversed() };
      },
    ],
    [
      "constants",
      "is not a scalar",
      (nodes: GraphNode[]): void => {
        const i = index("constant");
        nodes[i] = { ...nodeAt(i), shape: [2] };
      },
    ],
    [
      "shared paths",
      "parameter conv1.weight is both",
      (nodes: GraphNode[]): void => {
        const [first, second] = nodes.filter((n) => n.op === "param");
        if (first?.op === "param" && second?.op === "param") nodes[second.id] = { ...second, attrs: first.attrs };
      },
    ],
    [
      "order",
      "which comes later",
      (nodes: GraphNode[]): void => {
        const i = index("conv2d");
        const later: GraphNode = { ...nodeAt(i), inputs: [nodeAt(index("linear")), ...nodeAt(i).inputs.slice(1)] };
        nodes[i] = later;
      },
    ],
  ] as const)("%s", (_, want, change) => {
    expect(broken(change)).toContain(want);
  });

  test("dead nodes, foreign outputs and missing inputs", () => {
    const last = nodeAt(graph.nodes.length - 1);
    expect(verifyGraph({ ...graph, outputs: [] })).toEqual([`node ${last.id} (linear) is used by nothing`]);
    expect(verifyGraph({ ...graph, outputs: [{ name: "y", node: { ...last } }] })).toContain(
      "output y is not a node of the graph",
    );
    expect(verifyGraph({ ...graph, inputs: [] })).toEqual([
      "the list of inputs is not the graph's input nodes in order",
    ]);
  });
});

test("printing", () => {
  const net = new Net();
  net.layer = "conv1";
  const x = net.relu(net.conv(net.input("image", [N, 3, 32, 32]), 6, 5, { pad: 2, bias: false }));
  net.layer = "head";
  const pooled = net.op("avg_pool2d", [x], { k: [2, 2], stride: [2, 2], pad: [0, 0], countPad: false });
  const graph = net.finish(net.op("softmax", [net.flatten(pooled)], { axis: 1 }));
  expect(printGraph(graph)).toBe(
    `graph Net
  %0 = input image                                     f32[N, 3, 32, 32]  conv1
  %1 = param conv1.weight                              f32[6, 3, 5, 5]    conv1
  %2 = conv2d %0 %1 pad=2x2                            f32[N, 6, 32, 32]  conv1
  %3 = constant 0                                      f32[]              conv1
  %4 = binary %2 %3 max                                f32[N, 6, 32, 32]  conv1
  %5 = avg_pool2d %4 k=2x2 stride=2x2 count_pad=false  f32[N, 6, 16, 16]  head
  %6 = reshape %5 [N, 1536]                            f32[N, 1536]       head
  %7 = softmax %6 axis=1                               f32[N, 1536]       head
  return out0: %7
`,
  );
});

describe("cost", () => {
  test("LeNet-5", () => {
    const cost = costOf(lenet(1));
    expect(cost.total.parameters).toBe(61_706);
    expect(cost.layers.map((l) => l.layer)).toEqual(["conv1", "conv2", "fc1", "fc2", "fc3"]);
    expect(cost.layers[0]).toEqual({
      layer: "conv1",
      parameters: 156,
      macs: 6 * 28 * 28 * 25,
      activationBytes: 4 * (2 * 6 * 28 * 28 + 6 * 14 * 14),
      output: [1, 6, 14, 14],
    });
  });

  test("VGG16", () => {
    const cost = costOf(vgg16(1));
    expect(cost.total.parameters).toBe(138_357_544);
    expect(cost.total.macs).toBe(15_470_264_320);
    expect(cost.layers.find((l) => l.layer === "fc6")?.parameters).toBe(102_764_544);
    expect(costOf(vgg16(N)).total.macs).toEqual(mul(N, 15_470_264_320));
  });

  test("ResNet-50", () => {
    const cost = costOf(resnet50(1).graph);
    expect(cost.total.parameters).toBe(25_557_032);
    expect(Number(cost.total.macs) / 1e9).toBeCloseTo(4.089, 3);
  });
});

describe("the oracle, against numbers worked out by hand", () => {
  const run = (
    make: (net: Net) => GraphNode,
    inputs: Readonly<Record<string, readonly number[]>>,
    params: typeof inputs = {},
  ) => {
    const net = new Net();
    const graph = net.finish(make(net));
    const arrays = (values: typeof inputs): Map<string, Float64Array> =>
      new Map(Object.entries(values).map(([key, value]) => [key, Float64Array.from(value)]));
    return [...(evaluateGraph(graph, arrays(inputs), arrays(params))[0] ?? [])];
  };
  const image = { x: [1, 2, 3, 4, 5, 6, 7, 8, 9] };
  const window = { k: [2, 2], stride: [2, 2], pad: [1, 1] } as const;

  test("windows", () => {
    const x = (net: Net): GraphNode => net.input("x", [1, 1, 3, 3]);
    const w = { "c.weight": [1, 0, 0, -1] };
    const conv = (net: Net): GraphNode => {
      net.layer = "c";
      return net.conv(x(net), 1, 2, { bias: false });
    };
    expect(run(conv, image, w)).toEqual([-4, -4, -4, -4]);
    expect(run((net) => net.op("max_pool2d", [x(net)], window), image)).toEqual([1, 3, 7, 9]);
    const mean = (countPad: boolean) => run((net) => net.op("avg_pool2d", [x(net)], { ...window, countPad }), image);
    expect(mean(true)).toEqual([0.25, 1.25, 2.75, 7]);
    expect(mean(false)).toEqual([1, 2.5, 5.5, 7]);
  });

  test("grouped and dilated convolution", () => {
    const grouped = (net: Net): GraphNode => {
      const weight = net.param("w", [2, 1, 1, 2]);
      const attrs = { stride: [1, 1], pad: [0, 0], dilation: [1, 2], groups: 2 } as const;
      return net.op("conv2d", [net.input("x", [1, 2, 1, 3]), weight, net.param("b", [2])], attrs);
    };
    expect(run(grouped, { x: [1, 2, 3, 4, 5, 6] }, { w: [1, 10, 100, 1000], b: [0.5, 0.25] })).toEqual([31.5, 6400.25]);
  });

  test("products", () => {
    const a = { a: [1, 2, 3, 4], b: [5, 6, 7, 8] };
    expect(run((net) => net.op("matmul", [net.input("a", [2, 2]), net.input("b", [2, 2])], {}), a)).toEqual([
      19, 22, 43, 50,
    ]);
    const linear = (net: Net): GraphNode =>
      net.op("linear", [net.input("a", [2, 2]), net.param("w", [1, 2]), net.param("b", [1])], {});
    expect(run(linear, a, { w: [10, 1], b: [100] })).toEqual([112, 134]);
  });

  test("normalisation", () => {
    const soft = run((net) => net.op("softmax", [net.input("x", [2, 2])], { axis: 0 }), {
      x: [0, 1000, Math.log(3), 1000],
    });
    [0.25, 0.5, 0.75, 0.5].forEach((want, i) => expect(soft[i]).toBeCloseTo(want, 14));
    const layer = (net: Net): GraphNode =>
      net.op("layer_norm", [net.input("x", [1, 3]), net.param("w", [3]), net.param("b", [3])], { eps: 0 });
    const normal = run(layer, { x: [1, 2, 3] }, { w: [1, 1, 2], b: [0, 5, 0] });
    [-Math.sqrt(1.5), 5, 2 * Math.sqrt(1.5)].forEach((want, i) => expect(normal[i]).toBeCloseTo(want, 14));
  });

  test("axes", () => {
    const x = { x: [1, 2, 3, 4, 5, 6] };
    const input = (net: Net): GraphNode => net.input("x", [2, 3]);
    expect(run((net) => net.op("permute", [input(net)], { order: [1, 0] }), x)).toEqual([1, 4, 2, 5, 3, 6]);
    expect(run((net) => net.op("reduce", [input(net)], { fn: "sum", axes: [0], keep: true }), x)).toEqual([5, 7, 9]);
    expect(run((net) => net.op("reduce", [input(net)], { fn: "max", axes: [0, 1], keep: false }), x)).toEqual([6]);
    expect(run((net) => net.op("concat", [input(net), input(net)], { axis: 1 }), x)).toEqual([
      1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6,
    ]);
    expect(run((net) => net.op("causal_mask", [input(net)], {}), x)).toEqual([
      1,
      -Infinity,
      -Infinity,
      4,
      5,
      -Infinity,
    ]);
    expect(run((net) => net.op("cast", [input(net)], { dtype: "i32" }), { x: [1.5, -1.5, 0, 1, 2, 3] })).toEqual([
      1, -1, 0, 1, 2, 3,
    ]);
  });

  test("erf to f64", () => {
    const values = run((net) => net.op("unary", [net.input("x", [4])], { fn: "erf" }), { x: [0, 0.5, -2, 7] });
    [0, 0.5204998778130465, -0.9953222650189527, 1].forEach((want, i) => expect(values[i]).toBeCloseTo(want, 14));
  });

  test("a whole LeNet gives finite logits that depend on every image", () => {
    const graph = lenet(2);
    const { inputs, params } = randomLeaves(graph, 3);
    const logits = evaluateGraph(graph, inputs, params)[0] ?? new Float64Array();
    expect(logits).toHaveLength(20);
    expect(logits.every(Number.isFinite)).toBe(true);
    expect(new Set(logits).size).toBe(20);
  });
});
