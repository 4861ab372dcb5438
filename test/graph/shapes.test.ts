/** The shape rules: what fits, what does not, and in which words. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { TensorType } from "../../compiler/graph/graph.ts";
import { OPS, shapeOf } from "../../compiler/graph/ops.ts";
import { isProblem, type ShapeProblem } from "../../compiler/graph/shapes.ts";
import { divExact, mul, name, type Size, showShape, substitute } from "../../compiler/size.ts";

const N = name("N");

function f32(...shape: readonly Size[]): TensorType {
  return { shape, dtype: "f32" };
}

function shapeText(result: TensorType | ShapeProblem): string {
  return isProblem(result) ? `${result.code} ${result.label}` : showShape(result.shape);
}

function problemOf(result: TensorType | ShapeProblem): ShapeProblem {
  if (isProblem(result)) return result;
  throw new Error(`${showShape(result.shape)} fits`);
}

const PLAIN = { stride: [1, 1], pad: [0, 0], dilation: [1, 1], groups: 1 } as const;

describe("what fits", () => {
  test("convolutions", () => {
    const conv = (x: TensorType, w: TensorType, attrs: object): string =>
      shapeText(shapeOf("conv2d", [x, w, f32(w.shape[0] ?? 0)], { ...PLAIN, ...attrs }));
    expect(conv(f32(N, 3, 224, 224), f32(64, 3, 3, 3), { pad: [1, 1] })).toBe("[N, 64, 224, 224]");
    expect(conv(f32(N, 3, 224, 224), f32(64, 3, 7, 7), { pad: [3, 3], stride: [2, 2] })).toBe("[N, 64, 112, 112]");
    expect(conv(f32(N, 8, 9, 9), f32(6, 4, 3, 1), { groups: 2, dilation: [2, 1] })).toBe("[N, 6, 5, 9]");
    const [H, W] = [name("H", 32), name("W")];
    expect(conv(f32(N, 3, H, W), f32(64, 3, 7, 7), { pad: [3, 3], stride: [2, 2] })).toBe(
      "[N, 64, H / 2, ⌊(W + 1) / 2⌋]",
    );
  });

  test("matrix products", () => {
    expect(shapeText(shapeOf("matmul", [f32(N, 8, 196, 64), f32(N, 8, 64, 49)], {}))).toBe("[N, 8, 196, 49]");
    expect(shapeText(shapeOf("matmul", [f32(N, 8, 196, 64), f32(64, 49)], {}))).toBe("[N, 8, 196, 49]");
    expect(shapeText(shapeOf("linear", [f32(N, 7, 64), f32(10, 64)], {}))).toBe("[N, 7, 10]");
  });

  test("broadcasting", () => {
    const add = (a: TensorType, b: TensorType): string => shapeText(shapeOf("binary", [a, b], { fn: "add" }));
    expect(add(f32(N, 3, 4), f32(4))).toBe("[N, 3, 4]");
    expect(add(f32(N, 1, 4), f32(3, 1))).toBe("[N, 3, 4]");
    expect(add(f32(), f32(N))).toBe("[N]");
  });

  test("axes", () => {
    const x = f32(N, 3, 4, 5);
    const pool = { k: [3, 3], stride: [2, 2], pad: [1, 1] } as const;
    expect(shapeText(shapeOf("max_pool2d", [f32(N, 64, 112, 112)], pool))).toBe("[N, 64, 56, 56]");
    expect(shapeText(shapeOf("reduce", [x], { fn: "mean", axes: [2, 3], keep: false }))).toBe("[N, 3]");
    expect(shapeText(shapeOf("reduce", [x], { fn: "max", axes: [1], keep: true }))).toBe("[N, 1, 4, 5]");
    expect(shapeText(shapeOf("permute", [x], { order: [0, 3, 1, 2] }))).toBe("[N, 5, 3, 4]");
    expect(shapeText(shapeOf("reshape", [x], { shape: [mul(N, 3), 20] }))).toBe("[3 * N, 20]");
    expect(shapeText(shapeOf("concat", [x, f32(N, 7, 4, 5)], { axis: 1 }))).toBe("[N, 10, 4, 5]");
    expect(shapeText(shapeOf("slice", [x], { axis: 3, start: 1, size: 4 }))).toBe("[N, 3, 4, 4]");
  });
});

describe("what does not, in words", () => {
  test("E0301: a residual sum past a stride, with the projection that repairs it", () => {
    const found = problemOf(shapeOf("binary", [f32(N, 128, 28, 28), f32(N, 64, 56, 56)], { fn: "add" }));
    expect(found).toEqual({
      code: "E0301",
      message: "`+` needs shapes that broadcast, and these do not",
      label: "axis 1: 128 and 64;  axis 2: 28 and 56;  axis 3: 28 and 56",
      notes: ["f32[N, 128, 28, 28] on the left, f32[N, 64, 56, 56] on the right"],
      helps: [
        "a skip past a stride or a change of channels needs a projection: `skip = x -> Conv(128, k=1, stride=2) -> BatchNorm`",
      ],
    });
  });

  test("E0301: a gate that lacks the last axes", () => {
    const found = problemOf(shapeOf("binary", [f32(N, 64, 7, 7), f32(N, 64)], { fn: "mul" }));
    expect(found.helps).toEqual([
      "shapes are matched from the right: `reshape(…, [N, 64, 1, 1])` matches from the left",
    ]);
  });

  test("E0302: a matrix that wants transposing", () => {
    const found = problemOf(shapeOf("matmul", [f32(N, 196, 64), f32(N, 50, 64)], {}));
    expect(found.message).toBe("`matmul` needs the last axis of the left to equal the last-but-one axis of the right");
    expect(found.label).toBe("[N, 196, 64] times [N, 50, 64]: 64 and 50 meet here");
    expect(found.helps).toEqual(["`transpose` of the right is [N, 64, 50]; did you mean `matmul(a, transpose(b))`?"]);
  });

  test("E0306: a window larger than the image", () => {
    const found = problemOf(shapeOf("conv2d", [f32(N, 3, 8, 8), f32(96, 3, 11, 11)], { ...PLAIN, stride: [4, 4] }));
    expect(found.message).toBe("the window does not fit");
    expect(found.label).toBe("an 11x11 window on an 8x8 image: the result would be 0x0");
  });

  const x = f32(N, 3, 4, 5);
  const pool = { k: [2, 2], stride: [2, 2], pad: [0, 0] } as const;
  const conv = (a: TensorType, w: TensorType, attrs: object = {}) => shapeOf("conv2d", [a, w], { ...PLAIN, ...attrs });
  test.each([
    ["rank", conv(f32(N, 25088), f32(10, 3, 1, 1)), "E0310 4 axes wanted, 2 given"],
    ["channels", conv(x, f32(8, 4, 1, 1)), "E0310 the weights [8, 4, 1, 1] expect 4 channels, 3 arrive"],
    ["groups", conv(f32(N, 4, 4, 4), f32(9, 2, 1, 1), { groups: 2 }), "E0311 O = 9, groups = 2"],
    ["stride", conv(x, f32(8, 3, 1, 1), { stride: [0, 1] }), "E0314 stride is 0"],
    ["bias", shapeOf("conv2d", [x, f32(8, 3, 1, 1), f32(7)], PLAIN), "E0310 [8] is wanted here"],
    [
      "pool",
      shapeOf("max_pool2d", [f32(N, 3, 1, 4)], pool),
      "E0306 a 2x2 window on a 1x4 image: the result would be 0x2",
    ],
    [
      "padding",
      shapeOf("avg_pool2d", [x], { ...pool, pad: [2, 0], countPad: true }),
      "E0306 a padding of 2x0 puts whole 2x2 windows outside the image",
    ],
    [
      "linear",
      shapeOf("linear", [f32(N, 8), f32(10, 9)], {}),
      "E0310 the weights [10, 9] expect a last axis of 9, it is 8",
    ],
    ["matmul of vectors", shapeOf("matmul", [f32(3), f32(3, 3)], {}), "E0310 at least 2 axes wanted, 1 given"],
    ["matmul batches", shapeOf("matmul", [f32(2, 3, 4), f32(5, 4, 6)], {}), "E0301 axis 0: 2 and 5"],
    [
      "softmax",
      shapeOf("softmax", [x], { axis: 4 }),
      "E0309 f32[N, 3, 4, 5] has 4 axes, counted from 0; there is no axis 4",
    ],
    ["reduce", shapeOf("reduce", [x], { fn: "sum", axes: [1, 1], keep: true }), "E0309 axes 1, 1"],
    ["permute", shapeOf("permute", [x], { order: [0, 1, 2] }), "E0309 4 axes, 3 named"],
    ["reshape", shapeOf("reshape", [x], { shape: [N, 50] }), "E0308 [N, 3, 4, 5] has 60 * N, [N, 50] has 50 * N"],
    [
      "concat",
      shapeOf("concat", [x, f32(N, 3, 4, 6)], { axis: 1 }),
      "E0307 [N, 3, 4, 5] and [N, 3, 4, 6] are joined on axis 1",
    ],
    ["slice", shapeOf("slice", [x], { axis: 2, start: 3, size: 2 }), "E0309 2 elements from 3 on, of 4"],
    ["causal mask", shapeOf("causal_mask", [f32(4)], {}), "E0310 at least 2 axes wanted, 1 given"],
    ["layer norm", shapeOf("layer_norm", [x, f32(5), f32(4)], { eps: 1e-5 }), "E0310 [5] is wanted here"],
    [
      "batch norm",
      shapeOf("batch_norm", [x, f32(3), f32(3), f32(3), f32(5)], { eps: 1e-5, momentum: 0.1 }),
      "E0310 [3] is wanted here",
    ],
    ["dropout", shapeOf("dropout", [x], { p: 1, path: "d" }), "E0314 p is 1"],
    ["element types", shapeOf("binary", [x, { ...x, dtype: "i32" }], { fn: "add" }), "E0330 f32 and i32"],
    ["undecided sizes", shapeOf("binary", [f32(name("H")), f32(name("W"))], { fn: "add" }), "E0301 axis 0: H and W"],
  ] as const)("%s", (_, result, want) => {
    expect(shapeText(result)).toBe(want);
  });

  test("a wrong number of inputs is a mistake of the compiler", () => {
    expect(() => shapeOf("matmul", [x], {})).toThrow("internal");
  });
});

test("open sizes, closed afterwards, give the shapes of closed sizes", () => {
  const window = fc.record({
    k: fc.integer({ min: 1, max: 7 }),
    stride: fc.integer({ min: 1, max: 4 }),
    pad: fc.integer({ min: 0, max: 3 }),
  });
  fc.assert(
    fc.property(fc.array(window, { minLength: 1, maxLength: 4 }), fc.integer({ min: 1, max: 20 }), (windows, h) => {
      const run = (height: Size): Size | undefined => {
        let type: TensorType | ShapeProblem = f32(1, 1, height, 8);
        for (const { k, stride, pad } of windows) {
          type = shapeOf("conv2d", [type, f32(1, 1, k, 1)], { ...PLAIN, stride: [stride, 1], pad: [pad, 0] });
          if (isProblem(type)) return undefined;
        }
        return type.shape[2];
      };
      const closed = run(16 * h);
      fc.pre(closed !== undefined);
      const open = run(name("H", 16));
      expect(open === undefined ? undefined : substitute(open, new Map([["H", 16 * h]]))).toBe(closed);
    }),
  );
});

test("ResNet's third stage is a sixteenth of an image that is a multiple of 32", () => {
  const H = name("H", 32);
  let type: TensorType | ShapeProblem = f32(N, 1, H, H);
  for (const k of [7, 3, 3, 3]) {
    if (isProblem(type)) break;
    type = shapeOf("conv2d", [type, f32(1, 1, k, k)], { ...PLAIN, stride: [2, 2], pad: [(k - 1) / 2, (k - 1) / 2] });
  }
  expect(shapeText(type)).toBe("[N, 1, H / 16, H / 16]");
  expect(isProblem(type) ? undefined : type.shape[2]).toEqual(divExact(H, 16));
});

test("every operator has a documented row with a rule, but leaves", () => {
  for (const [op, row] of Object.entries(OPS)) {
    expect(row.doc, op).not.toBe("");
    expect(row.shape === undefined, op).toBe(["input", "param", "constant"].includes(op));
  }
});
