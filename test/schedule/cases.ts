/** L2 kernels for the schedule tests beyond what test/wasm/kernels.ts makes: reductions and maps of every kind. */
import { add, axis, constant, scale } from "../../compiler/loop/affine.ts";
import type { Layout, ReducerName } from "../../compiler/loop/loops.ts";
import { binary, num, unary } from "../../compiler/scalar.ts";
import {
  buffer,
  type Case,
  CHANNELS_LAST,
  kernel,
  load,
  rows,
  state,
  value,
  withoutUnitAxes,
} from "../wasm/kernels.ts";

/** Reduces the middle axis of [a, r, b]: windows and rows, with b contiguous or, if b = 1, r itself. */
export function reduction(by: ReducerName, a: number, r: number, b: number): Case {
  const outputs =
    by === "softmax" ? [state(0), unary("log", state(1))] : by === "argmax" ? [state(0), state(1)] : [state(0)];
  const body = by === "argmax" ? [value(0), { kind: "axis", axis: 2 } as const] : [binary("mul", value(0), num(3))];
  const k = kernel(
    "reduction",
    [
      ["a", a],
      ["b", b],
      ["r", r],
    ],
    {
      // Axes in the order a kernel has them: outputs, then reduced.
      loads: [load(0, [axis(0), axis(2), axis(1)])],
      body,
      reduce: by,
      stores: outputs.map((o, i) => ({ buffer: i + 1, index: [axis(0), axis(1)], value: o })),
    },
  );
  return {
    name: `${by} ${a} ${r} ${b}`,
    kernel: by === "argmax" ? k : withoutUnitAxes(k),
    buffers: [buffer(0, [a, r, b]), ...outputs.map((_, i) => buffer(i + 1, [a, b]))],
    ins: [0],
    outs: outputs.map((_, i) => i + 1),
  };
}

/** Max-pooling over [N,H,W,C]: a window with padding that counts as -∞. */
export function maxPool(n: number, c: number, size: number, k: number, stride: number, pad: number): Case {
  const out = Math.floor((size + 2 * pad - k) / stride) + 1;
  const y = add(scale(axis(1), stride), axis(4), constant(-pad));
  const x = add(scale(axis(2), stride), axis(5), constant(-pad));
  const guards = [
    { index: y, size },
    { index: x, size },
  ];
  return {
    name: `max_pool ${n} ${c} ${size} ${k} ${stride} ${pad}`,
    kernel: withoutUnitAxes(
      kernel(
        "pool",
        [
          ["n", n],
          ["y", out],
          ["x", out],
          ["c", c],
          ["kh", k],
          ["kw", k],
        ],
        {
          loads: [load(0, [axis(0), axis(3), y, x], guards, Number.NEGATIVE_INFINITY)],
          body: [value(0)],
          reduce: "max",
          stores: [{ buffer: 1, index: [axis(0), axis(3), axis(1), axis(2)], value: state() }],
        },
      ),
    ),
    buffers: [buffer(0, [n, c, size, size], CHANNELS_LAST), buffer(1, [n, c, out, out], CHANNELS_LAST)],
    ins: [0],
    outs: [1],
  };
}

/** y[a,b,c] = max(x[a,b,c]·w[c] + z[a,c,b], 0) and its square: broadcast, transposition and two stores. */
export function pointwise(a: number, b: number, c: number, layout: Layout = rows(3)): Case {
  const [ia, ib, ic] = [axis(0), axis(1), axis(2)];
  const y = binary("max", binary("add", binary("mul", value(0), value(1)), value(2)), num(0));
  return {
    name: `pointwise ${a} ${b} ${c} ${layout.kind === "rows" ? layout.order.join("") : ""}`,
    kernel: withoutUnitAxes(
      kernel(
        "pointwise",
        [
          ["a", a],
          ["b", b],
          ["c", c],
        ],
        {
          loads: [load(0, [ia, ib, ic]), load(1, [ic]), load(2, [ia, ic, ib])],
          stores: [
            { buffer: 3, index: [ia, ib, ic], value: y },
            { buffer: 4, index: [ia, ib, ic], value: binary("mul", y, y) },
          ],
        },
      ),
    ),
    buffers: [
      buffer(0, [a, b, c], layout),
      buffer(1, [c]),
      buffer(2, [a, c, b]),
      buffer(3, [a, b, c]),
      buffer(4, [a, b, c]),
    ],
    ins: [0, 1, 2],
    outs: [3, 4],
  };
}

/** y[a,b,c,d] = exp(x[a,b,c,d]): all axes run through memory as one. */
export function elementwise(shape: readonly number[]): Case {
  const index = shape.map((_, d) => axis(d));
  return {
    name: `elementwise ${shape.join(" ")}`,
    kernel: withoutUnitAxes(
      kernel(
        "elementwise",
        shape.map((size, d) => [`d${d}`, size] as const),
        {
          loads: [load(0, index)],
          stores: [{ buffer: 1, index, value: unary("exp", value(0)) }],
        },
      ),
    ),
    buffers: [buffer(0, shape), buffer(1, shape)],
    ins: [0],
    outs: [1],
  };
}

/** out[b,m,n] = relu(Σ_k exp(l[b,m,k])·r[b,k,n] + bias[n]) + residual[b,m,n]: prologue and epilogue with loads. */
export function fused(b: number, m: number, n: number, k: number): Case {
  const [ib, im, inn, ik] = [axis(0), axis(1), axis(2), axis(3)];
  return {
    name: `fused ${b} ${m} ${n} ${k}`,
    kernel: withoutUnitAxes(
      kernel(
        "fused",
        [
          ["b", b],
          ["m", m],
          ["n", n],
          ["k", k],
        ],
        {
          loads: [load(0, [ib, im, ik]), load(1, [ib, ik, inn]), load(2, [inn]), load(3, [ib, im, inn])],
          body: [binary("mul", unary("exp", value(0)), value(1))],
          reduce: "sum",
          stores: [
            {
              buffer: 4,
              index: [ib, im, inn],
              value: binary("add", binary("max", binary("add", state(), value(2)), num(0)), value(3)),
            },
          ],
        },
      ),
    ),
    buffers: [buffer(0, [b, m, k]), buffer(1, [b, k, n]), buffer(2, [n]), buffer(3, [b, m, n]), buffer(4, [b, m, n])],
    ins: [0, 1, 2, 3],
    outs: [4],
  };
}
