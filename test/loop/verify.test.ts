/** Every check of the verifier fires on loops that break it, and on nothing else. */
import { describe, expect, it } from "vitest";
import { add, axis, constant, floorDiv, mod, scale } from "../../compiler/loop/affine.ts";
import type { Buffer, Kernel, Loops } from "../../compiler/loop/loops.ts";
import { lowerGraph } from "../../compiler/loop/lower.ts";
import { verifyLoops } from "../../compiler/loop/verify.ts";
import type { Scalar } from "../../compiler/scalar.ts";
import { Net } from "./nets.ts";

/** x, w → conv with padding and bias → y; the weights are packed by a load kernel. */
function sample(): Loops {
  const net = new Net().at("conv");
  const y = net.conv2d(net.input("x", [2, 3, 6, 6]), net.param("w", [4, 3, 3, 3]), net.param("b", [4]), {
    pad: [1, 1],
  });
  net.output("y", net.relu(net.maxPool(y, [2, 2], [2, 2], [0, 0])));
  return lowerGraph(net.graph(), { panelWidth: 4, maxBufferBytes: 1 << 20, fuse: false });
}

/** The loops with one run kernel changed; kernel 0 is the convolution, 1 the pool, 2 the ReLU, 3 the output's copy. */
function withKernel(at: number, change: (kernel: Kernel) => Partial<Kernel>): Loops {
  const loops = sample();
  return { ...loops, run: loops.run.map((kernel, i) => (i === at ? { ...kernel, ...change(kernel) } : kernel)) };
}

function withBuffers(change: (buffer: Buffer) => Partial<Buffer>): Loops {
  const loops = sample();
  return { ...loops, buffers: loops.buffers.map((buffer) => ({ ...buffer, ...change(buffer) })) };
}

function first<T>(list: readonly T[]): T {
  const [value] = list;
  if (value === undefined) throw new Error("an empty list");
  return value;
}

function withValue(at: number, value: (old: Scalar) => Scalar): Loops {
  return withKernel(at, ({ stores }) => ({ stores: stores.map((s) => ({ ...s, value: value(s.value) })) }));
}

describe("the verifier", () => {
  it("finds nothing in loops that are right", () => expect(verifyLoops(sample())).toEqual([]));

  const broken: readonly (readonly [string, () => Loops, RegExp])[] = [
    [
      "a load without its guards",
      () => withKernel(0, (k) => ({ loads: k.loads.map((l) => ({ ...l, guards: [] })) })),
      /dimension 2 of x, of size 6, is indexed -1 to 6/,
    ],
    [
      "a store out of bounds",
      () =>
        withKernel(2, (k) => ({
          stores: k.stores.map((s) => ({ ...s, index: s.index.map((e, d) => (d === 1 ? add(e, constant(1)) : e)) })),
        })),
      /is indexed 1 to 4/,
    ],
    [
      "too few dimensions",
      () => withKernel(2, (k) => ({ loads: k.loads.map((l) => ({ ...l, index: l.index.slice(1) })) })),
      /indexed by 3 expressions/,
    ],
    [
      "an unknown buffer",
      () => withKernel(1, (k) => ({ loads: k.loads.map((l) => ({ ...l, buffer: 99 })) })),
      /names no buffer/,
    ],
    [
      "an unknown axis",
      () => withKernel(1, (k) => ({ loads: k.loads.map((l) => ({ ...l, index: l.index.map(() => axis(9)) })) })),
      /names no axis/,
    ],
    ["no store", () => withKernel(1, () => ({ stores: [] })), /stores nothing/],
    [
      "axes with one name",
      () => withKernel(1, (k) => ({ axes: k.axes.map((a) => ({ ...a, name: "a" })) })),
      /two axes have one name/,
    ],
    [
      "an axis of no size",
      () => withKernel(2, (k) => ({ axes: k.axes.map((a, i) => (i === 0 ? { ...a, size: 1.5 } : a)) })),
      /no whole size/,
    ],
    [
      "an axis that nothing uses",
      () => withKernel(1, (k) => ({ axes: [...k.axes, { name: "extra", size: 3 }] })),
      /axis extra is not used/,
    ],
    ["a reduction without reducer", () => withKernel(1, () => ({ reduce: undefined, body: [] })), /no reducer/],
    ["a missing operand", () => withKernel(1, () => ({ body: [] })), /max takes 1 operands, not 0/],
    ["a state in a map", () => withValue(2, () => ({ kind: "state", index: 0 })), /no state 0/],
    ["a state too many", () => withValue(1, () => ({ kind: "state", index: 1 })), /no state 1/],
    ["a load that does not exist", () => withValue(2, () => ({ kind: "load", index: 7 })), /no load 7/],
    [
      "a stored value that is loaded along reduced axes",
      () => withValue(1, () => ({ kind: "load", index: 0 })),
      /along reduced axes/,
    ],
    [
      "a stored value that counts a reduced axis",
      () => withValue(1, () => ({ kind: "axis", axis: 4 })),
      /uses axis kh/,
    ],
    ["erf", () => withValue(2, (value) => ({ kind: "unary", fn: "erf", value })), /erf is not composed/],
    [
      "stores over different axes",
      () =>
        withKernel(2, (k) => ({
          stores: [
            ...k.stores,
            { ...first(k.stores), index: first(k.stores).index.map((e, d) => (d === 0 ? constant(0) : e)) },
          ],
        })),
      /different axes/,
    ],
    [
      "reading what is written",
      () => withKernel(2, (k) => ({ stores: k.stores.map((s) => ({ ...s, buffer: first(k.loads).buffer })) })),
      /reads and writes/,
    ],
    ["kernels in the wrong order", () => ({ ...sample(), run: [...sample().run].reverse() }), /before it is written/],
    [
      "a parameter that is not uploaded",
      () => ({ ...sample(), load: sample().load.filter((step) => step.kind === "kernel") }),
      /reads (w|b) \(param\) before/,
    ],
    [
      "an upload twice",
      () => ({ ...sample(), load: [...sample().load, ...sample().load.slice(0, 1)] }),
      /uploaded out of turn/,
    ],
    [
      "an activation written while loading",
      () => ({
        ...sample(),
        load: [...sample().load, ...sample().run.map((kernel) => ({ kind: "kernel", kernel }) as const)],
        run: [],
      }),
      /may not write/,
    ],
    [
      "a part that is never written",
      () => withKernel(2, (k) => ({ axes: k.axes.map((a) => (a.name === "c" ? { ...a, size: 3 } : a)) })),
      /not written exactly once/,
    ],
    [
      "a part that is written twice",
      () => ({ ...sample(), run: [...sample().run, ...sample().run.slice(-1)] }),
      /not written exactly once/,
    ],
    ["a buffer with another's number", () => withBuffers((b) => ({ id: b.id === 3 ? 2 : b.id })), /calls itself 2/],
    [
      "an order that is no permutation",
      () => withBuffers((b) => ({ layout: { kind: "rows", order: b.shape.map(() => 0) } })),
      /no permutation/,
    ],
    [
      "panels of a vector",
      () => withBuffers((b) => (b.name === "b" ? { layout: { kind: "panels", width: 4 } } : {})),
      /cannot lie in panels/,
    ],
    ["an empty shape", () => withBuffers((b) => (b.name === "b" ? { shape: [0] } : {})), /has shape \[0\]/],
  ];
  for (const [name, loops, message] of broken) {
    it(name, () => expect(verifyLoops(loops()).join("\n")).toMatch(message));
  }

  /** A copy of 24 numbers, stored at `index` of the axis. */
  function copy(index: (size: readonly number[]) => ReturnType<typeof axis>): Loops {
    const rows = { kind: "rows", order: [0] } as const;
    const buffer = { shape: [24], dtype: "f32", layout: rows } as const;
    const load = { buffer: 0, index: [axis(0)], guards: [], otherwise: 0 };
    const store = { buffer: 1, index: [index([24])], guards: [], value: { kind: "load", index: 0 } } as const;
    return {
      name: "copy",
      buffers: [
        { ...buffer, id: 0, name: "x", role: "input" },
        { ...buffer, id: 1, name: "y", role: "output" },
      ],
      load: [],
      run: [
        {
          name: "k",
          axes: [{ name: "a", size: 24 }],
          loads: [load],
          body: [],
          reduce: undefined,
          stores: [store],
          layers: [],
          macs: 0,
        },
      ],
      inputs: [{ name: "x", buffer: 0 }],
      outputs: [{ name: "y", buffer: 1 }],
    };
  }

  it("lists writes that have no closed form", () => {
    // The transpose of 6×4, and a shear of rows of 5 that meets itself.
    const transposed = copy((s) => add(scale(mod(axis(0), 4, s), 6), floorDiv(axis(0), 4, s)));
    const sheared = copy((s) => mod(add(axis(0), floorDiv(axis(0), 5, s)), 24, s));
    expect(verifyLoops(transposed)).toEqual([]);
    expect(verifyLoops(sheared).join()).toMatch(/no proof that k write it exactly once/);
  });
});
