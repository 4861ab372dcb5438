/** Reductions that become one, small maps that follow them, and long sums in parts: what is made, and that it agrees. */
import { describe, expect, it } from "vitest";
import type { Graph, GraphNode } from "../../compiler/graph/graph.ts";
import { trainingForm } from "../../compiler/graph/training.ts";
import { interpret } from "../../compiler/loop/interp.ts";
import { type LowerOptions, lowerAndExplain } from "../../compiler/loop/lower.ts";
import { verifyLoops } from "../../compiler/loop/verify.ts";
import { gradientOf, leavesOf } from "../gradient/check.ts";
import { evaluateGraph } from "../graph/evaluate.ts";
import { difference, maxPool2, Net, randomValues } from "./nets.ts";

const CPU: LowerOptions = {
  panelWidth: 8,
  maxBufferBytes: 2 ** 31,
  fuse: true,
  maxBindings: 16,
  copyPlanes: true,
  sumInParts: true,
};

/** Lowers as for a CPU, compares with the graph's own meaning, and gives the loops and the decisions. */
function check(graph: Graph, options = CPU): ReturnType<typeof lowerAndExplain> {
  const { inputs, params } = randomValues(graph);
  const expected = evaluateGraph(graph, inputs, params);
  const lowered = lowerAndExplain(graph, options);
  expect(verifyLoops(lowered.loops)).toEqual([]);
  const got = interpret(lowered.loops, inputs, params);
  graph.outputs.forEach(({ name }, i) => {
    expect(difference(got.get(name), expected[i]), name).toBeLessThan(1e-10);
  });
  return lowered;
}

const total = (net: Net, x: GraphNode, axes: readonly number[]): GraphNode => net.reduce(x, "sum", axes, false);
const reducers = ({ loops }: ReturnType<typeof check>): (string | undefined)[] => loops.run.map(({ reduce }) => reduce);

describe("joined reductions", () => {
  it("sum several values of the same data in one kernel", () => {
    const net = new Net();
    const [x, y] = [net.input("x", [4, 6, 5, 5]), net.input("y", [4, 6, 5, 5])];
    net.output("a", total(net, x, [0, 2, 3]));
    net.output("b", total(net, net.binary("mul", x, y), [0, 2, 3]));
    net.output("c", total(net, net.binary("mul", x, x), [0, 2, 3]));
    expect(reducers(check(net.graph()))).toEqual(["sum3"]);
  });
  it("stay apart where one needs the other, where the boxes differ, and where nothing is shared", () => {
    const net = new Net();
    const [x, y] = [net.input("x", [4, 6, 5, 5]), net.input("y", [4, 6, 5, 5])];
    const mean = net.reduce(x, "mean", [0, 2, 3], true);
    net.output("mean", mean);
    const centred = net.binary("sub", x, mean);
    net.output("variance", net.reduce(net.binary("mul", centred, centred), "mean", [0, 2, 3], true));
    net.output("rows", total(net, x, [1, 2, 3]));
    net.output("other", total(net, y, [0, 2, 3]));
    const { loops } = check(net.graph());
    expect(loops.run.map(({ reduce }) => reduce).filter((by) => by !== undefined)).toEqual([
      "sum",
      "sum",
      "sum",
      "sum",
    ]);
  });
  it("find a maximum and its place together", () => {
    const net = new Net();
    const graph = net
      .output("loss", total(net, maxPool2(net, net.relu(net.input("x", [2, 8, 8, 6]))), [0, 1, 2, 3]))
      .graph();
    const whole = gradientOf(graph, leavesOf(graph));
    const { loops, decisions } = check(whole);
    expect(
      loops.run.filter(({ reduce }) => reduce === "argmax" || reduce === "max").map(({ reduce }) => reduce),
    ).toEqual(["argmax"]);
    expect(decisions.some(({ reason }) => reason === "into one reduction")).toBe(true);
    // Windows side by side: the gradient is one map, which takes the one of relu in.
    expect(loops.run.filter(({ name }) => name.includes("max_pool_grad")).map(({ name }) => name)).toEqual([
      "relu+max_pool_grad+select+x",
    ]);
  });
  it("a batch norm in training reads its input twice forward, and twice backward beside what flows back", () => {
    const net = new Net().at("bn");
    const y = net.relu(net.batchNorm(net.relu(net.input("x", [4, 6, 5, 5])), "bn"));
    const graph = trainingForm(net.output("loss", total(net, net.binary("mul", y, y), [0, 1, 2, 3])).graph());
    const learned = leavesOf(graph).filter((node) => node.op === "param" && node.attrs.kind === "param");
    const whole = gradientOf(graph, [...learned, ...leavesOf(graph).filter(({ op }) => op === "input")]);
    const channels = check(whole).loops.run.filter(
      (kernel) => kernel.axes[0]?.name === "c" && kernel.reduce !== undefined,
    );
    // Mean; variance with what is left of the mean; both gradients.
    expect(channels.map(({ reduce }) => reduce)).toEqual(["sum", "sum2", "sum2"]);
  });
});

describe("sums in parts", () => {
  it("of the whole batch for few channels", () => {
    const net = new Net();
    const x = net.relu(net.input("x", [4, 8, 48, 48]));
    net.output("mean", net.reduce(x, "mean", [0, 2, 3], false));
    net.output("squares", total(net, net.binary("mul", x, x), [0, 2, 3]));
    const { loops } = check(net.graph());
    const sums = loops.run.filter(({ reduce }) => reduce === "sum2");
    expect(sums.map(({ axes }) => axes.map(({ size }) => size))).toEqual([
      [4, 4, 8, 576],
      [8, 16],
    ]);
  });
  it("of a product with few results, and not of a small one", () => {
    const products = (height: number): number => {
      const net = new Net();
      const x = net.input("x", [2, 8, height, 24]);
      const y = net.conv2d(x, net.param("w", [8, 8, 3, 3]), undefined, { pad: [1, 1] });
      const graph = net.output("loss", total(net, net.binary("mul", y, y), [0, 1, 2, 3])).graph();
      const learned = leavesOf(graph).filter(({ op }) => op === "param");
      return check(gradientOf(graph, learned)).loops.run.filter(({ name }) => /weight_grad.*parts/.test(name)).length;
    };
    expect(products(40)).toBe(1);
    expect(products(2)).toBe(0);
  });
  it("are the same where an axis has no divisor", () => {
    const net = new Net();
    net.output("loss", total(net, net.relu(net.input("x", [1, 3, 211, 113])), [0, 2, 3]));
    check(net.graph());
  });
});

describe("planes of inputs", () => {
  const run = (channels: number): readonly string[] => {
    const net = new Net();
    const x = net.input("x", [2, channels, 6, 5]);
    net.output("y", net.conv2d(x, net.param("w", [4, channels, 3, 3]), undefined, { pad: [1, 1] }));
    return check(net.graph()).loops.run.map(({ name }) => name);
  };
  it("are copied channels-last where they are many", () => {
    expect(run(20)).toEqual(["x.channels_last", "conv2d", "output.y"]);
    expect(run(3)).toEqual(["conv2d", "output.y"]);
  });
});
