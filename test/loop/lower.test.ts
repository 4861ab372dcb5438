/** Every operator through lowering and the interpreter, against its definition. */
import { describe, expect, it } from "vitest";
import { interpret } from "../../compiler/loop/interp.ts";
import type { Loops } from "../../compiler/loop/loops.ts";
import { type LowerOptions, lowerGraph } from "../../compiler/loop/lower.ts";
import { printLoops } from "../../compiler/loop/print.ts";
import { verifyLoops } from "../../compiler/loop/verify.ts";
import { evaluateGraph } from "../graph/evaluate.ts";
import { difference, Net, randomValues } from "./nets.ts";

const PLAIN: LowerOptions = { panelWidth: 0, maxBufferBytes: 2 ** 31, fuse: false };

const PACKED: LowerOptions = { panelWidth: 4, maxBufferBytes: 2 ** 31, fuse: false };
const FUSED: LowerOptions = { panelWidth: 8, maxBufferBytes: 2 ** 31, fuse: true };
const WIDE: LowerOptions = { panelWidth: 2 ** 20, maxBufferBytes: 2 ** 31, fuse: true };
/** Parameters of more than 16 numbers are split. */
const SPLIT: LowerOptions = { panelWidth: 8, maxBufferBytes: 64, fuse: true };

/** Lowers in every way, verifies, runs, compares every output; gives the plain loops back for further looks. */
function check(net: Net, tolerance = 1e-12): Loops {
  const graph = net.graph();
  const { inputs, params } = randomValues(graph);
  const expected = evaluateGraph(graph, inputs, params);
  for (const options of [PLAIN, PACKED, FUSED, WIDE, SPLIT]) {
    const loops = lowerGraph(graph, options);
    expect(verifyLoops(loops)).toEqual([]);
    expect(printLoops(loops)).toContain("run:");
    const got = interpret(loops, inputs, params);
    graph.outputs.forEach(({ name }, i) => {
      expect(difference(got.get(name), expected[i]), `output ${name}`).toBeLessThan(tolerance);
    });
  }
  return lowerGraph(graph, PLAIN);
}

describe("convolution", () => {
  for (const [name, x, w, attrs] of [
    ["3x3 pad 1", [2, 3, 7, 5], [4, 3, 3, 3], { pad: [1, 1] }],
    ["1x1", [1, 5, 4, 4], [3, 5, 1, 1], {}],
    ["stride and uneven pads", [1, 3, 9, 8], [2, 3, 3, 5], { stride: [2, 3], pad: [0, 2] }],
    ["dilation", [2, 2, 9, 9], [3, 2, 3, 3], { dilation: [2, 3], pad: [2, 3] }],
    ["groups", [2, 6, 5, 5], [4, 3, 3, 3], { groups: 2, pad: [1, 1] }],
    ["depthwise", [1, 6, 5, 5], [6, 1, 3, 3], { groups: 6, pad: [1, 1] }],
    ["one output channel", [2, 3, 5, 5], [1, 3, 3, 3], { pad: [1, 1] }],
    ["one of everything", [1, 1, 1, 1], [1, 1, 1, 1], {}],
  ] as const) {
    it(name, () => {
      const net = new Net();
      const bias = net.param("b", [w[0]]);
      const y = net.conv2d(net.input("x", x), net.param("w", w), bias, attrs);
      check(net.output("y", net.conv2d(y, net.param("v", [2, w[0], 1, 1]), undefined)));
    });
  }
});

describe("linear and matmul", () => {
  it("linear on 1, 2 and 3 axes", () => {
    for (const shape of [[5], [3, 5], [2, 3, 5], [1, 5]]) {
      const net = new Net();
      check(net.output("y", net.linear(net.input("x", shape), net.param("w", [4, 5]), net.param("b", [4]))));
    }
  });
  it("flattened channels-last activations", () => {
    const net = new Net();
    const y = net.conv2d(net.input("x", [2, 3, 4, 6]), net.param("w", [5, 3, 3, 3]), undefined, { pad: [1, 1] });
    const loops = check(net.output("z", net.linear(net.reshape(y, [2, 120]), net.param("v", [7, 120]))));
    expect(loops.run.at(-1)?.axes.map((a) => a.size)).toEqual([2, 7, 24, 5]);
  });
  it("matmul broadcasts batches", () => {
    const net = new Net();
    const y = net.matmul(net.input("a", [2, 1, 3, 4]), net.input("b", [5, 4, 2]));
    check(net.output("y", y));
  });
});

describe("pooling", () => {
  for (const [k, stride, pad] of [
    [
      [2, 2],
      [2, 2],
      [0, 0],
    ],
    [
      [3, 3],
      [2, 2],
      [1, 1],
    ],
    [
      [3, 2],
      [1, 2],
      [1, 0],
    ],
    [
      [7, 5],
      [7, 5],
      [0, 0],
    ],
  ] as const) {
    it(`k ${k} stride ${stride} pad ${pad}`, () => {
      const net = new Net();
      const x = net.input("x", [2, 3, 7, 5]);
      net.output("max", net.maxPool(x, k, stride, pad));
      net.output("avg", net.avgPool(x, k, stride, pad, true));
      check(net.output("inside", net.avgPool(x, k, stride, pad, false)));
    });
  }
});

describe("reductions", () => {
  it("softmax along each axis", () => {
    for (const axis of [0, 1, 2, 3]) {
      const net = new Net();
      check(net.output("y", net.softmax(net.input("x", [2, 3, 4, 5]), axis)));
    }
  });
  it("reduce", () => {
    for (const fn of ["sum", "mean", "max", "min"] as const) {
      const net = new Net();
      const x = net.input("x", [2, 3, 4, 5]);
      net.output("a", net.reduce(x, fn, [2, 3], false)).output("b", net.reduce(x, fn, [1], true));
      check(net.output("c", net.reduce(x, fn, [0, 1, 2, 3], false)));
    }
  });
  it("norms", () => {
    const net = new Net();
    const x = net.input("x", [2, 3, 4, 5]);
    net.output("bn", net.batchNorm(x, "bn"));
    check(net.output("ln", net.layerNorm(x, net.param("weight", [5]), net.param("bias", [5]))));
  });
});

describe("elementwise and movements", () => {
  it("functions", () => {
    const net = new Net();
    const x = net.input("x", [3, 5]);
    for (const fn of ["neg", "abs", "exp", "sin", "cos", "tanh", "sigmoid", "floor", "ceil"] as const) {
      net.output(fn, net.unary(fn, x));
    }
    const positive = net.binary("add", net.unary("abs", x), net.constant(0.5));
    for (const fn of ["log", "sqrt", "rsqrt"] as const) net.output(fn, net.unary(fn, positive));
    for (const fn of ["add", "sub", "mul", "div", "max", "min"] as const) {
      net.output(fn, net.binary(fn, x, net.input(`row_${fn}`, [5])));
    }
    for (const power of [0, 1, 2, 3, 5, -1, -2, 0.5, -0.5, 1.7]) {
      net.output(`pow${power}`, net.binary("pow", positive, net.constant(power)));
    }
    check(net);
  });
  it("erf is composed of other functions, within 2e-7", () => {
    const net = new Net();
    check(net.output("y", net.unary("erf", net.binary("mul", net.input("x", [1000]), net.constant(5)))), 2e-7);
  });
  it("broadcasting a scalar, constants of constants", () => {
    const net = new Net();
    const two = net.binary("add", net.constant(1), net.unary("exp", net.constant(0)));
    net.output("y", net.binary("mul", net.input("x", [2, 3]), two)).output("two", two);
    check(net);
  });
  it("views compose without kernels", () => {
    const net = new Net();
    const x = net.input("x", [2, 6, 4, 5]);
    const y = net.reshape(net.permute(net.slice(x, 1, 1, 4), [0, 2, 3, 1]), [2, 20, 2, 2]);
    const loops = check(net.output("y", net.permute(y, [0, 2, 1, 3])));
    expect(loops.run.length).toBe(1);
  });
  it("concat of unequal parts", () => {
    const net = new Net();
    const x = net.input("x", [2, 3, 4, 5]);
    const y = net.conv2d(x, net.param("w", [2, 3, 3, 3]), undefined, { pad: [1, 1] });
    check(net.output("y", net.relu(net.concat([x, y, net.slice(x, 1, 1, 1)], 1))));
  });
  it("causal mask, then softmax", () => {
    const net = new Net();
    check(net.output("y", net.softmax(net.causalMask(net.input("x", [2, 4, 6])), 2)));
  });
  it("dropout, cast, an input as output, one node under two names", () => {
    const net = new Net();
    const x = net.input("x", [3, 2]);
    const y = net.add("cast", [net.add("dropout", [net.relu(x)], { p: 0.5, path: "drop" })], { dtype: "f32" });
    check(net.output("x", x).output("y", y).output("again", y));
  });
});
