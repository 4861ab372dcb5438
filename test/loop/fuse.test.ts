/** What is fused, what is not, and why. Numbers are compared in lower.test.ts and nets.test.ts. */
import { describe, expect, it } from "vitest";
import type { GraphNode } from "../../compiler/graph/graph.ts";
import { lowerAndExplain } from "../../compiler/loop/lower.ts";
import { printKernel, printLoops } from "../../compiler/loop/print.ts";
import { Net } from "./nets.ts";

function lower(make: (net: Net) => GraphNode, maxBindings = 8): ReturnType<typeof lowerAndExplain> {
  const net = new Net().at("layer");
  const graph = net.output("y", make(net)).graph();
  return lowerAndExplain(graph, { panelWidth: 0, maxBufferBytes: 1 << 28, fuse: true, maxBindings });
}

const names = ({ loops }: ReturnType<typeof lower>): string[] => loops.run.map((kernel) => kernel.name);
const refusals = ({ decisions }: ReturnType<typeof lower>): string =>
  decisions.flatMap((d) => (d.fused ? [] : [`${d.other} with ${d.kernel}: ${d.reason}`])).join("\n");

function conv(net: Net, x: GraphNode, w: string, channels = 4): GraphNode {
  return net.conv2d(x, net.param(w, [channels, 4, 3, 3]), undefined, { pad: [1, 1] });
}
const image = (net: Net, name = "x"): GraphNode => net.input(name, [2, 4, 6, 6]);
/** Keeps a layer out of the stores of an output: pooling ends every net here. */
const end = (net: Net, x: GraphNode): GraphNode => net.reduce(x, "max", [2, 3], false);

describe("fusion into stores", () => {
  it("takes batch norm, residual sum and ReLU into the convolution", () => {
    const result = lower((net) => {
      const y = conv(net, image(net), "w");
      return end(net, net.relu(net.binary("add", net.batchNorm(conv(net, y, "v"), "bn"), y)));
    });
    expect(names(result)).toEqual(["layer", "layer+batch_norm+add+relu", "layer.max"]);
  });
  it("follows a reshape of tokens into a picture", () => {
    const result = lower((net) => {
      const scores = net.matmul(net.input("a", [2, 36, 5]), net.input("b", [2, 5, 4]));
      const picture = net.permute(net.reshape(scores, [2, 6, 6, 4]), [0, 3, 1, 2]);
      return end(net, net.relu(picture));
    });
    expect(names(result)).toEqual(["layer.matmul+relu", "layer.max"]);
  });
  it("joins parts straight into a concatenation", () => {
    const result = lower((net) =>
      end(net, net.concat([conv(net, image(net), "w"), conv(net, image(net, "z"), "v")], 1)),
    );
    expect(names(result)).toEqual(["layer+0", "layer+1", "layer.max"]);
  });
  it("does not take a second reader's values away", () => {
    const result = lower((net) => {
      const y = conv(net, image(net), "w");
      return end(net, net.binary("add", conv(net, y, "v"), conv(net, net.unary("exp", y), "u")));
    });
    expect(refusals(result)).toMatch(/layer.exp with layer: it has other readers/);
  });
  it("does not cross a reduction", () => {
    const result = lower((net) => net.softmax(net.input("x", [3, 5]), 1));
    expect(refusals(result)).toMatch(
      /layer.softmax with layer.softmax.state: each reduced value is read several times/,
    );
  });
  it("counts bindings", () => {
    const make = (net: Net): GraphNode => end(net, net.binary("add", conv(net, image(net), "w"), image(net, "z")));
    expect(names(lower(make, 4))).toEqual(["layer+add", "layer.max"]);
    expect(names(lower(make, 3))).toEqual(["layer", "layer.add+max"]);
  });
  it("keeps output channels innermost in a product", () => {
    const result = lower((net) => conv(net, image(net), "w"));
    expect(refusals(result)).toMatch(/which axis of the product lies innermost/);
  });
});

describe("fusion into loads", () => {
  it("computes something cheap wherever it is read, padding included", () => {
    const result = lower((net) => end(net, conv(net, net.relu(image(net)), "w")));
    expect(names(result)).toEqual(["layer.relu+layer", "layer.max"]);
    const [kernel] = result.loops.run;
    expect(kernel && printKernel(kernel, result.loops.buffers)).toContain("s = sum((max(v0, 0) * v1))");
  });
  it("does not compute something dear again and again", () => {
    const result = lower((net) => end(net, conv(net, net.unary("exp", image(net)), "w")));
    expect(refusals(result)).toMatch(/recomputed .* times at a cost of 8/);
  });
  it("knows that padding is not put through the producer", () => {
    // exp(0) is 1, and 0 + 1 is 1: a padded 0 cannot come out of either.
    const result = lower((net) => end(net, conv(net, net.binary("add", image(net), net.constant(1)), "w")));
    expect(refusals(result)).toMatch(/it is padded with 0, which the producer cannot give/);
  });
  it("pads a maximum with the lowest number only through a copy", () => {
    const pool = (net: Net, x: GraphNode): GraphNode => net.maxPool(x, [3, 3], [2, 2], [1, 1]);
    const result = lower((net) => end(net, pool(net, net.relu(image(net)))));
    expect(refusals(result)).toMatch(/which the producer cannot give/);
  });
  it("gives a mask to both readers of a softmax", () => {
    const result = lower((net) => net.softmax(net.causalMask(net.input("x", [3, 5, 5])), 2));
    expect(names(result)).toEqual(["layer.causal_mask+state", "layer.causal_mask+softmax"]);
  });
});

describe("the printer", () => {
  it("writes a program down", () => {
    const { loops } = lower((net) => end(net, net.relu(conv(net, image(net), "w"))));
    expect(printLoops(loops)).toBe(`loops net
inputs  x = b0:x
outputs y = b3:layer.max

b0  input x: f32[2, 4, 6, 6]  1,152 bytes
b1  param w: f32[4, 4, 3, 3]  576 bytes
b2  activation layer.relu: f32[2, 4, 6, 6] order 0231  1,152 bytes
b3  output layer.max: f32[2, 4]  32 bytes

load:
upload b1:w

run:
kernel layer+relu: n<2 h<6 w<6 co<4 | ci<4 kh<3 kw<3  10,368 macs
  v0 = b0:x[n, ci, h + kh - 1, w + kw - 1]  where 0 <= h + kh - 1 < 6 and 0 <= w + kw - 1 < 6 else 0
  v1 = b1:w[co, ci, kh, kw]
  s = sum((v0 * v1))
  b2:layer.relu[n, co, h, w] = max(s, 0)

kernel layer.max: n<2 c<4 | hw<36
  v0 = b2:layer.relu@(144*n + c + 4*hw)
  s = max(v0)
  b3:layer.max[n, c] = s
`);
  });
});
