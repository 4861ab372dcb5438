/** Whole networks: every way of lowering them gives the numbers of the graph's definition. */
import { describe, expect, it } from "vitest";
import { kernelClass } from "../../compiler/loop/contraction.ts";
import { oversizedBuffers } from "../../compiler/loop/draft.ts";
import { interpret } from "../../compiler/loop/interp.ts";
import { byteSize } from "../../compiler/loop/layout.ts";
import { type LowerOptions, lowerAndExplain, lowerGraph } from "../../compiler/loop/lower.ts";
import { verifyLoops } from "../../compiler/loop/verify.ts";
import { evaluateGraph } from "../graph/evaluate.ts";
import { bottleneck, difference, maxPool2, Net, randomValues, twoStreams, vgg16 } from "./nets.ts";

const MIB = 2 ** 20;
const WAYS: readonly LowerOptions[] = [
  { panelWidth: 0, maxBufferBytes: 128 * MIB, fuse: false },
  { panelWidth: 8, maxBufferBytes: 128 * MIB, fuse: false },
  { panelWidth: 8, maxBufferBytes: 128 * MIB, fuse: true },
  { panelWidth: 8, maxBufferBytes: 128 * MIB, fuse: true, maxBindings: 4 },
  { panelWidth: 2 ** 20, maxBufferBytes: 2048, fuse: true },
];

function check(net: Net): void {
  const graph = net.graph();
  const { inputs, params } = randomValues(graph, 3);
  const expected = evaluateGraph(graph, inputs, params);
  for (const options of WAYS) {
    const loops = lowerGraph(graph, options);
    expect(verifyLoops(loops)).toEqual([]);
    const got = interpret(loops, inputs, params);
    graph.outputs.forEach(({ name }, i) => {
      expect(difference(got.get(name), expected[i]), `${name} with ${JSON.stringify(options)}`).toBeLessThan(1e-11);
    });
  }
}

describe("small networks", () => {
  it("two streams with STIA both ways", () => check(twoStreams(2, 12, 4)));

  it("batch of one, odd sizes", () => check(twoStreams(1, 11, 3)));

  it("bottlenecks with batch norm, projections and strides", () => {
    const net = new Net();
    const x = maxPool2(net, net.input("x", [2, 8, 13, 13]));
    const y = bottleneck(net, "b", bottleneck(net, "a", x, 3, 1), 4, 2);
    const pooled = net.reduce(y, "mean", [2, 3], false);
    check(
      net
        .output("features", y)
        .output("mean", pooled)
        .output("logits", net.linear(pooled, net.param("fc", [5, 16]))),
    );
  });

  it("a masked attention with heads and layer norm", () => {
    const net = new Net().at("block");
    const [batch, time, heads, width] = [2, 5, 3, 4];
    const model = heads * width;
    const x = net.input("x", [batch, time, model]);
    const vector = (name: string): ReturnType<Net["param"]> => net.param(name, [model]);
    const normal = net.layerNorm(x, vector("weight"), vector("bias"));
    const split = (name: string): ReturnType<Net["param"]> => {
      const y = net.linear(normal, net.param(name, [model, model]), vector(`${name}.bias`));
      return net.permute(net.reshape(y, [batch, time, heads, width]), [0, 2, 1, 3]);
    };
    const scores = net.matmul(split("q"), net.permute(split("k"), [0, 1, 3, 2]));
    const weights = net.softmax(net.causalMask(net.binary("mul", scores, net.constant(0.5))), 3);
    const mixed = net.permute(net.matmul(weights, split("v")), [0, 2, 1, 3]);
    const out = net.linear(net.reshape(mixed, [batch, time, model]), net.param("o", [model, model]));
    check(net.output("y", net.binary("add", x, out)));
  });

  it("weights computed from parameters", () => {
    const net = new Net().at("conv");
    const scale = net.binary("div", net.param("gamma", [6]), net.unary("sqrt", net.param("var", [6])));
    const w = net.binary("mul", net.param("w", [6, 3, 3, 3]), net.reshape(scale, [6, 1, 1, 1]));
    const shift = net.binary("mul", net.param("b", [6]), scale);
    check(net.output("y", net.conv2d(net.input("x", [1, 3, 6, 6]), w, shift, { pad: [1, 1] })));
  });

  it("a parameter that is an output, one that is transposed, one that is too long to split", () => {
    const net = new Net();
    const w = net.param("w", [7, 300]);
    net.output("w", net.permute(w, [1, 0]));
    check(net.output("y", net.matmul(net.input("x", [2, 7]), w)));
  });
});

describe("VGG16", () => {
  const { loops, decisions } = lowerAndExplain(vgg16(2).graph(), {
    panelWidth: 8,
    maxBufferBytes: 128 * MIB,
    fuse: true,
  });

  it("is 13 convolutions, 5 pools and 3 layers, the first of them in four parts of 1024 rows", () => {
    expect(verifyLoops(loops)).toEqual([]);
    expect(loops.run.length).toBe(13 + 5 + 4 + 2);
    const parts = loops.buffers.filter((buffer) => buffer.param?.path === "fc6.weight");
    expect(parts.map((part) => part.param?.rows)).toEqual(
      [0, 1024, 2048, 3072].map((start) => ({ start, end: start + 1024 })),
    );
    expect(oversizedBuffers(loops, 128 * MIB)).toEqual([]);
    expect(Math.max(...loops.buffers.map(byteSize))).toBe(98 * MIB);
  });

  it("counts its multiply-adds", () => {
    const macs = loops.run.reduce((sum, kernel) => sum + kernel.macs, 0);
    expect(macs / 2).toBe(15_470_264_320);
  });

  it("multiplies with pixels as M, output channels as N, the window as K with channels innermost", () => {
    const conv = loops.run.find((kernel) => kernel.name === "conv3.conv2+relu");
    const found = conv && kernelClass(conv, loops.buffers);
    expect(found?.kind === "contract" && found.contraction.sizes).toEqual({ batch: 1, m: 6272, n: 256, k: 2304 });
    expect(conv?.axes.map((a) => a.name)).toEqual(["n", "h", "w", "co", "kh", "kw", "ci"]);
  });

  it("leaves nothing unfused", () => {
    expect(decisions.filter((decision) => !decision.fused)).toEqual([]);
    expect(decisions.length).toBe(15);
  });
});

describe("the interpreter", () => {
  it("does 2·10⁷ multiply-adds in seconds", () => {
    const net = new Net();
    net.output(
      "y",
      net.conv2d(net.input("x", [1, 64, 24, 24]), net.param("w", [64, 64, 3, 3]), undefined, { pad: [1, 1] }),
    );
    const graph = net.graph();
    const { inputs, params } = randomValues(graph);
    const loops = lowerGraph(graph, { panelWidth: 8, maxBufferBytes: 128 * MIB, fuse: true });
    const start = performance.now();
    interpret(loops, inputs, params);
    expect(performance.now() - start).toBeLessThan(5000);
  });
});
