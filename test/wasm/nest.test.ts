/**
 * Maps and reductions on the CPU against the oracle: every way in which lanes, guards, tails and threads can meet.
 */
import { describe, expect, it } from "vitest";
import { add, axis, constant, floorDiv, mod, scale } from "../../compiler/loop/affine.ts";
import { binary, num, select, unary } from "../../compiler/scalar.ts";
import { elementwise, fused, maxPool, pointwise, reduction } from "../schedule/cases.ts";
import { assertClose } from "../tools/compare.ts";
import {
  buffer,
  type Case,
  CHANNELS_LAST,
  check,
  kernel,
  load,
  PANELS,
  relu,
  rows,
  runWasm,
  state,
  value,
} from "./kernels.ts";

/** out[i, j] = in[i - 1, j - 2], zero outside: a guard along the axis of the vectors. */
function padded(h: number, w: number): Case {
  const [i, j] = [add(axis(0), constant(-1)), add(axis(1), constant(-2))];
  const guards = [
    { index: i, size: h },
    { index: j, size: w },
  ];
  return {
    name: `padded ${h} ${w}`,
    kernel: kernel(
      "pad",
      [
        ["i", h + 2],
        ["j", w + 4],
      ],
      {
        loads: [load(0, [i, j], guards, 7)],
        stores: [{ buffer: 1, index: [axis(0), axis(1)], value: value(0) }],
      },
    ),
    buffers: [buffer(0, [h, w]), buffer(1, [h + 2, w + 4])],
    ins: [0],
    outs: [1],
  };
}

/** out[j, i] = in[i, j] + i - 2j. */
function transposed(h: number, w: number): Case {
  const position = binary("sub", { kind: "axis", axis: 0 }, binary("mul", num(2), { kind: "axis", axis: 1 }));
  return {
    name: `transposed ${h} ${w}`,
    kernel: kernel(
      "transpose",
      [
        ["i", h],
        ["j", w],
      ],
      {
        loads: [load(0, [axis(0), axis(1)])],
        stores: [{ buffer: 1, index: [axis(1), axis(0)], value: binary("add", value(0), position) }],
      },
    ),
    buffers: [buffer(0, [h, w]), buffer(1, [w, h])],
    ins: [0],
    outs: [1],
  };
}

/** Weights [n, k] into panels of eight columns. */
function packing(n: number, k: number): Case {
  return {
    name: `packing ${n} ${k}`,
    kernel: kernel(
      "pack",
      [
        ["n", n],
        ["k", k],
      ],
      {
        loads: [load(0, [axis(0), axis(1)])],
        stores: [{ buffer: 1, index: [axis(0), axis(1)], value: value(0) }],
      },
    ),
    buffers: [buffer(0, [n, k]), buffer(1, [n, k], PANELS)],
    ins: [0],
    outs: [1],
  };
}

/** A reshape that no joining of axes can undo: out[i] = in[i mod 6, i / 6]. */
function shuffled(n: number): Case {
  const sizes = [6 * n];
  return {
    name: `shuffled ${n}`,
    kernel: kernel("shuffle", [["i", 6 * n]], {
      loads: [load(0, [mod(axis(0), 6, sizes), floorDiv(axis(0), 6, sizes)])],
      stores: [{ buffer: 1, index: [axis(0)], value: unary("exp", value(0)) }],
    }),
    buffers: [buffer(0, [6, n]), buffer(1, [6 * n])],
    ins: [0],
    outs: [1],
  };
}

/** Depthwise 3×3 convolution over [N,H,W,C] with padding: a reduction in vectors of channels. */
function depthwise(c: number, size: number): Case {
  const y = add(axis(0), axis(3), constant(-1));
  const x = add(axis(1), axis(4), constant(-1));
  return {
    name: `depthwise ${c} ${size}`,
    kernel: kernel(
      "depthwise",
      [
        ["y", size],
        ["x", size],
        ["c", c],
        ["kh", 3],
        ["kw", 3],
      ],
      {
        loads: [
          load(
            0,
            [constant(0), axis(2), y, x],
            [
              { index: y, size },
              { index: x, size },
            ],
          ),
          load(1, [axis(2), axis(3), axis(4)]),
          load(2, [axis(2)]),
        ],
        body: [binary("mul", value(0), value(1))],
        reduce: "sum",
        stores: [
          { buffer: 3, index: [constant(0), axis(2), axis(0), axis(1)], value: relu(binary("add", state(), value(2))) },
        ],
      },
    ),
    buffers: [
      buffer(0, [1, c, size, size], CHANNELS_LAST),
      buffer(1, [c, 3, 3], { kind: "rows", order: [1, 2, 0] }),
      buffer(2, [c]),
      buffer(3, [1, c, size, size], CHANNELS_LAST),
    ],
    ins: [0, 1, 2],
    outs: [3],
  };
}

/** Two stores, the second guarded, with comparisons. */
function branching(n: number): Case {
  const k = kernel("branch", [["i", n]], {
    loads: [load(0, [axis(0)]), load(1, [axis(0)])],
    stores: [
      {
        buffer: 2,
        index: [axis(0)],
        value: select("lt", value(0), value(1), binary("sub", value(1), value(0)), num(-3)),
      },
      {
        buffer: 3,
        index: [axis(0)],
        value: select("le", value(0), num(0), value(1), unary("sqrt", unary("abs", value(0)))),
      },
    ],
  });
  return {
    name: `branching ${n}`,
    kernel: k,
    buffers: [buffer(0, [n]), buffer(1, [n]), buffer(2, [n]), buffer(3, [n])],
    ins: [0, 1],
    outs: [2, 3],
  };
}

const REDUCERS = ["sum", "max", "min", "softmax", "argmax"] as const;
const SHAPES = [
  [1, 27, 3],
  [3, 625, 1],
  [27, 4097, 1],
  [2, 3, 126],
  [126, 27, 27],
  [4097, 3, 3],
  [1, 1, 4097],
  [1, 4097, 1],
] as const;

const CASES: readonly Case[] = [
  padded(27, 126),
  padded(3, 1),
  transposed(126, 27),
  transposed(3, 625),
  packing(27, 126),
  packing(8, 625),
  packing(3, 5),
  shuffled(27),
  shuffled(126),
  depthwise(27, 9),
  depthwise(64, 5),
  depthwise(3, 12),
  branching(4097),
  branching(3),
  elementwise([3, 27, 126]),
  elementwise([4097]),
  pointwise(3, 27, 126),
  pointwise(1, 3, 625),
  pointwise(27, 1, 3),
  fused(1, 27, 126, 27),
  fused(2, 3, 27, 625),
  maxPool(2, 27, 12, 3, 2, 1),
  maxPool(1, 64, 8, 2, 2, 0),
  maxPool(1, 3, 27, 3, 1, 1),
  ...REDUCERS.flatMap((by) => SHAPES.map(([a, r, b]) => reduction(by, a, r, b))),
];

describe.each([1, 2, 5])("%s threads", (threads) => {
  it.each(CASES)("$name", (c) => {
    const { relL2, max } = check(c, threads);
    expect(relL2).toBeLessThan(1e-5);
    expect(max).toBeLessThan(1e-5);
  });
});

it("argmax takes the first of equal values, across lanes and tail", () => {
  const c: Case = {
    name: "ties",
    kernel: kernel("ties", [["r", 27]], {
      loads: [load(0, [axis(0)])],
      body: [value(0), { kind: "axis", axis: 0 }],
      reduce: "argmax",
      stores: [{ buffer: 1, index: [constant(0)], value: state(1) }],
    }),
    buffers: [buffer(0, [27], rows(1)), buffer(1, [1])],
    ins: [0],
    outs: [1],
  };
  for (const places of [
    [26, 5],
    [25, 26],
    [9, 6, 2, 26],
    [0, 26],
  ]) {
    const values = new Float32Array(27).fill(-1);
    for (const place of places) values[place] = 2;
    assertClose(runWasm(c, new Map([[0, values]]), 1).get(1) ?? [], [Math.min(...places)], `ties at ${places.join()}`);
  }
});

it("strides over a store's axis still write every element once", () => {
  const c: Case = {
    name: "even",
    kernel: kernel("even", [["i", 27]], {
      loads: [load(0, [axis(0)])],
      stores: [{ buffer: 1, index: [scale(axis(0), 2)], value: value(0) }],
    }),
    buffers: [buffer(0, [27]), buffer(1, [54])],
    ins: [0],
    outs: [1],
  };
  const values = Float32Array.from({ length: 27 }, (_, i) => i);
  const got = runWasm(c, new Map([[0, values]]), 2).get(1) ?? new Float32Array();
  expect([...got].map((x) => (Number.isNaN(x) ? -1 : x))).toEqual(
    Array.from({ length: 54 }, (_, i) => (i % 2 === 0 ? i / 2 : -1)),
  );
});
