/** Which nests are matrix products, and which of their axes is what. */
import { describe, expect, it } from "vitest";
import type { GraphNode } from "../../compiler/graph/graph.ts";
import { loadAt } from "../../compiler/loop/access.ts";
import { type Contraction, kernelClass } from "../../compiler/loop/contraction.ts";
import type { Kernel, Loops } from "../../compiler/loop/loops.ts";
import { lowerGraph } from "../../compiler/loop/lower.ts";
import { verifyLoops } from "../../compiler/loop/verify.ts";
import { Net } from "./nets.ts";

function lower(make: (net: Net) => GraphNode, fuse = false, panelWidth = 0): Loops {
  const net = new Net().at("layer");
  return lowerGraph(net.output("y", make(net)).graph(), { panelWidth, maxBufferBytes: 1 << 28, fuse });
}

function main(loops: Loops): Kernel {
  const kernel = loops.run.find((k) => k.reduce !== undefined);
  if (kernel === undefined) throw new Error("no reduction");
  return kernel;
}

function show(loops: Loops): unknown {
  const kernel = main(loops);
  const found = kernelClass(kernel, loops.buffers);
  if (found.kind !== "contract") return found.kind;
  const names = (axes: readonly number[]): string => axes.map((a) => kernel.axes[a]?.name).join(" ");
  const { batch, m, n, k, left, right }: Contraction = found.contraction;
  const buffer = (factor: typeof left): string =>
    factor.loads.map((l) => loops.buffers[loadAt(kernel, l).buffer]?.name).join();
  return { batch: names(batch), m: names(m), n: names(n), k: names(k), left: buffer(left), right: buffer(right) };
}

const conv =
  (x: readonly number[], w: readonly number[], groups = 1) =>
  (net: Net): GraphNode =>
    net.conv2d(net.input("x", x), net.param("w", w), undefined, { groups, pad: [1, 1] });

describe("classify", () => {
  it("convolution", () => {
    expect(show(lower(conv([2, 3, 5, 5], [4, 3, 3, 3])))).toEqual({
      batch: "",
      m: "n h w",
      n: "co",
      k: "ci kh kw",
      left: "x",
      right: "w",
    });
  });
  it("grouped convolution", () => {
    expect(show(lower(conv([2, 6, 5, 5], [4, 3, 3, 3], 2)))).toEqual({
      batch: "g",
      m: "n h w",
      n: "co",
      k: "ci kh kw",
      left: "x",
      right: "w",
    });
  });
  it("depthwise convolution is a reduction: its channels are a batch, and innermost", () => {
    expect(show(lower(conv([2, 6, 5, 5], [6, 1, 3, 3], 6)))).toBe("reduce");
  });
  it("a convolution to one channel has its pixels as N", () => {
    expect(show(lower(conv([2, 3, 5, 5], [1, 3, 3, 3])))).toEqual({
      batch: "",
      m: "",
      n: "n h w",
      k: "ci kh kw",
      left: "w",
      right: "x",
    });
  });
  it("a linear layer of a batch and of one row", () => {
    const linear =
      (rows: number) =>
      (net: Net): GraphNode =>
        net.linear(net.input("x", [rows, 8]), net.param("w", [5, 8]));
    expect(show(lower(linear(3)))).toEqual({ batch: "", m: "n", n: "o", k: "k", left: "x", right: "w" });
    expect(show(lower(linear(1)))).toEqual({ batch: "", m: "", n: "o", k: "k", left: "x", right: "w" });
  });
  it("a dot product is a reduction", () => {
    expect(show(lower((net) => net.linear(net.input("x", [1, 8]), net.param("w", [1, 8]))))).toBe("reduce");
  });
  it("attention", () => {
    const scores = (net: Net): GraphNode =>
      net.matmul(net.input("q", [2, 5, 8]), net.permute(net.input("k", [2, 7, 8]), [0, 2, 1]));
    const loops = lower(scores);
    expect(show(loops)).toEqual({ batch: "b0", m: "m", n: "p", k: "k", left: "q", right: "k" });
  });
  it("sees a cheap prologue of a factor", () => {
    const loops = lower((net) => net.linear(net.relu(net.input("x", [3, 8])), net.param("w", [5, 8])), true);
    expect(show(loops)).toEqual({ batch: "", m: "n", n: "o", k: "k", left: "x", right: "w" });
    const found = kernelClass(main(loops), loops.buffers);
    expect(found.kind === "contract" && found.contraction.left.plain).toBeUndefined();
  });
  it("pools, sums and maps are none", () => {
    expect(show(lower((net) => net.maxPool(net.input("x", [1, 2, 4, 4]), [2, 2], [2, 2], [0, 0])))).toBe("reduce");
    const loops = lower((net) => net.relu(net.input("x", [3])));
    expect(loops.run.map((kernel) => kernelClass(kernel, loops.buffers).kind)).toEqual(["map"]);
  });
});

describe("packing", () => {
  it("puts K in the order in which the left operand is read, batch axes first", () => {
    const loops = lower(
      (net) =>
        net.conv2d(net.relu(conv([2, 6, 5, 5], [4, 6, 1, 1])(net)), net.param("v", [6, 2, 3, 3]), undefined, {
          groups: 2,
        }),
      true,
      8,
    );
    const packed = loops.buffers.find((buffer) => buffer.name === "v.packed");
    expect(packed).toMatchObject({ shape: [2, 3, 18], layout: { kind: "panels", width: 8 }, role: "constant" });
    const kernel = loops.run.find((k) => k.loads.some((load) => load.buffer === packed?.id));
    expect(kernel?.axes.slice(-3).map((a) => a.name)).toEqual(["kh", "kw", "ci"]);
  });
  it("packs a weight that two layers share once, and reads what lies right where it is", () => {
    const shared = (net: Net): GraphNode => {
      const w = net.param("w", [8, 8]);
      return net.linear(net.linear(net.input("x", [3, 8]), w), w);
    };
    expect(lower(shared, true, 4).buffers.filter((buffer) => buffer.role === "constant").length).toBe(1);
    const plain = (net: Net): GraphNode => net.matmul(net.input("x", [3, 8]), net.param("w", [8, 5]));
    expect(lower(plain, true, 1024).buffers.map((buffer) => buffer.role)).toEqual(["input", "param", "output"]);
  });
  it("packs what many rows are multiplied with once for all of them, where asked to", () => {
    const product = (rows: number, packActivations: boolean): readonly string[] => {
      const net = new Net();
      const made = net.matmul(net.input("x", [rows, 9]), net.input("y", [9, 20]));
      const options = { panelWidth: 8, maxBufferBytes: 2 ** 30, fuse: true, packActivations };
      const loops = lowerGraph(net.output("out", made).graph(), options);
      expect(verifyLoops(loops)).toEqual([]);
      return loops.run.map(({ name }) => name);
    };
    expect(product(128, true)).toEqual(["y.pack", "matmul"]);
    expect(product(127, true)).toEqual(["matmul"]);
    expect(product(128, false)).toEqual(["matmul"]);
  });
});
