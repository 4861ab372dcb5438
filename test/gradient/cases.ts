/**
 * Every operator in the middle of a graph: a product before it, a product and a sum after, so that its gradient comes
 * from somewhere and goes somewhere. The rules, the loops and the devices are all checked on this one list; each row of
 * the operator table that has a gradient, and each scalar function, must be in it (`ops.test.ts`).
 */
import type { Graph, GraphNode, OpAttrs } from "../../compiler/graph/graph.ts";
import {
  BINARY,
  type BinaryFn,
  COMPARE,
  type CompareFn,
  type TensorFn,
  UNARY,
  type UnaryFn,
} from "../../compiler/scalar.ts";
import { dims, Net, randomValues } from "../loop/nets.ts";
import { leavesOf, type Values } from "./check.ts";

/** Makes a leaf times a parameter of its own: what every operator of a case takes. */
export type Leaf = (name: string, shape: readonly number[]) => GraphNode;

/** The input by which dropout draws: whole numbers, through which no gradient flows. */
export const COUNTERS = "step.counters";

export interface Case {
  readonly name: string;
  readonly make: (net: Net, leaf: Leaf) => GraphNode;
  /** How far its loops may be from its definition, where they are composed of other functions. */
  readonly loopTolerance?: number;
  /** How far WebGPU may be from the oracle, where its functions are less exact than f32. */
  readonly wgslTolerance?: number;
}

/** The loss Σ (y·p + q)², which makes the gradient by y depend on y and on its place. */
function lossOf(net: Net, y: GraphNode, prefix: string): GraphNode {
  const [p, q] = [net.param(`${prefix}p`, dims(y)), net.param(`${prefix}q`, dims(y))];
  const z = net.binary("add", net.binary("mul", y, p), q);
  const all = dims(y).map((_, axis) => axis);
  return net.reduce(net.binary("mul", z, z), "sum", all, false);
}

/** One graph of all these cases, whose output `loss` is the sum of theirs. Names of leaves begin with the case's own. */
export function graphOf(cases: readonly Case[]): Graph {
  const net = new Net();
  const losses = cases.map(({ name, make }) => {
    const prefix = cases.length > 1 ? `${name}: ` : "";
    const leaf: Leaf = (of, shape) =>
      net.binary("mul", net.input(prefix + of, shape), net.param(`${prefix}${of}.scale`, shape));
    return lossOf(net, make(net, leaf), prefix);
  });
  const [first, ...others] = losses;
  if (first === undefined) throw new Error("a loss of nothing");
  return net
    .output(
      "loss",
      others.reduce((sum, loss) => net.binary("add", sum, loss), first),
    )
    .graph();
}

/** What a case is differentiated by: everything but statistics that are held, and counters. */
export function wantedOf(graph: Graph): GraphNode[] {
  return leavesOf(graph).filter((node) =>
    node.op === "param"
      ? !/bn\d\.(mean|var)$/.test(node.attrs.path)
      : node.op !== "input" || node.attrs.name !== COUNTERS,
  );
}

/** Random numbers for a graph of cases. */
export function valuesOf(graph: Graph, seed = 1): Values {
  const values = randomValues(graph, seed);
  if (values.inputs.has(COUNTERS)) values.inputs.set(COUNTERS, Float64Array.of(12345, 777, 42));
  return values;
}

// -------------------------------------------------------------------------------------------------------------- products

type Conv = OpAttrs["conv2d"];

/** Name, shape of the image, shape of the weights, attributes. */
export const CONVOLUTIONS: readonly (readonly [string, readonly number[], readonly number[], Partial<Conv>])[] = [
  ["3x3 pad 1", [2, 3, 5, 7], [4, 3, 3, 3], { pad: [1, 1] }],
  ["1x1", [2, 5, 3, 3], [3, 5, 1, 1], {}],
  ["1x1 stride 2, most elements unread", [1, 3, 5, 4], [2, 3, 1, 1], { stride: [2, 2] }],
  ["3x3 stride 2", [2, 3, 7, 7], [2, 3, 3, 3], { stride: [2, 2], pad: [1, 1] }],
  ["7x7 stride 2 pad 3", [1, 3, 9, 8], [2, 3, 7, 7], { stride: [2, 2], pad: [3, 3] }],
  ["uneven strides and pads", [1, 3, 9, 8], [2, 3, 3, 5], { stride: [2, 3], pad: [0, 2] }],
  ["stride above the kernel", [1, 2, 8, 7], [3, 2, 2, 1], { stride: [3, 3] }],
  ["dilation", [2, 2, 9, 9], [3, 2, 3, 3], { dilation: [2, 3], pad: [2, 3] }],
  [
    "stride 2 with dilation 2: odd phases without taps",
    [1, 2, 9, 9],
    [3, 2, 3, 3],
    { stride: [2, 2], dilation: [2, 2] },
  ],
  ["stride 3 with dilation 2", [1, 2, 11, 10], [2, 2, 3, 3], { stride: [3, 3], dilation: [2, 2], pad: [2, 1] }],
  ["stride 4 with dilation 2", [1, 2, 11, 12], [2, 2, 3, 3], { stride: [4, 4], dilation: [2, 2], pad: [1, 0] }],
  ["groups", [2, 6, 5, 5], [4, 3, 3, 3], { groups: 2, pad: [1, 1] }],
  ["groups with stride", [1, 4, 6, 5], [6, 2, 3, 3], { groups: 2, stride: [2, 2], pad: [1, 1] }],
  ["groups with stride and dilation", [2, 4, 9, 8], [4, 2, 3, 3], { groups: 2, stride: [2, 2], dilation: [2, 2] }],
  ["depthwise", [1, 6, 5, 5], [6, 1, 3, 3], { groups: 6, pad: [1, 1] }],
  ["depthwise with stride", [2, 5, 7, 6], [5, 1, 3, 3], { groups: 5, stride: [2, 2], pad: [1, 1] }],
  ["rows that no window reaches", [1, 1, 6, 6], [1, 1, 2, 2], { stride: [3, 3] }],
  ["one of everything", [1, 1, 1, 1], [1, 1, 1, 1], {}],
];

export function convolution([name, x, w, attrs]: (typeof CONVOLUTIONS)[number]): Case {
  return {
    name: `conv2d: ${name}`,
    make: (net, leaf) => net.conv2d(leaf("x", x), leaf("w", w), leaf("b", [w[0] ?? 1]), attrs),
  };
}

const LINEAR = [
  [[5], [3, 5], [2, 3, 5], [1, 5]].map((shape) => ({
    name: `linear on [${shape.join(", ")}]`,
    make: (net: Net, leaf: Leaf) => net.linear(leaf("x", shape), leaf("w", [4, 5]), leaf("b", [4])),
  })),
  {
    name: "linear without bias",
    make: (net: Net, leaf: Leaf) => net.linear(leaf("x", [3, 5]), leaf("w", [4, 5])),
  },
].flat();

const MATMUL = (
  [
    [
      [3, 4],
      [4, 5],
    ],
    [
      [2, 1, 3, 4],
      [5, 4, 2],
    ],
    [
      [2, 3, 4],
      [4, 2],
    ],
  ] as const
).map(([a, b]) => ({
  name: `matmul of [${a.join(", ")}] and [${b.join(", ")}]`,
  make: (net: Net, leaf: Leaf) => net.matmul(leaf("a", a), leaf("b", b)),
}));

/** Gradients of gradients: they are operators as well. */
const CONV = { stride: [2, 2], pad: [1, 1], dilation: [1, 1], groups: 1 } as const;
const TWICE: readonly Case[] = [
  {
    name: "conv2d_input_grad",
    make: (net, leaf) =>
      net.add("conv2d_input_grad", [leaf("dy", [2, 4, 3, 4]), leaf("w", [4, 2, 3, 3])], {
        ...CONV,
        size: [6, 7],
      }),
  },
  {
    name: "conv2d_input_grad: groups and dilation",
    make: (net, leaf) =>
      net.add("conv2d_input_grad", [leaf("dy", [2, 4, 4, 3]), leaf("w", [4, 1, 3, 3])], {
        stride: [2, 1],
        pad: [1, 2],
        dilation: [1, 2],
        groups: 2,
        size: [8, 3],
      }),
  },
  {
    name: "conv2d_weight_grad",
    make: (net, leaf) =>
      net.add("conv2d_weight_grad", [leaf("x", [2, 2, 6, 7]), leaf("dy", [2, 4, 3, 4])], {
        ...CONV,
        k: [3, 3],
      }),
  },
  {
    name: "conv2d_weight_grad: groups and dilation",
    make: (net, leaf) =>
      net.add("conv2d_weight_grad", [leaf("x", [2, 2, 8, 3]), leaf("dy", [2, 4, 4, 3])], {
        stride: [2, 1],
        pad: [1, 2],
        dilation: [1, 2],
        groups: 2,
        k: [3, 3],
      }),
  },
  ...[false, true].map((countPad) => ({
    name: `avg_pool2d_grad, ${countPad ? "with" : "without"} padding in its count`,
    make: (net: Net, leaf: Leaf) =>
      net.add("avg_pool2d_grad", [leaf("dy", [1, 2, 3, 4])], {
        k: [3, 3],
        stride: [2, 2],
        pad: [1, 1],
        countPad,
        size: [6, 7],
      }),
  })),
];

// --------------------------------------------------------------------------------------------------------------- pooling

type Pool = OpAttrs["max_pool2d"];
const POOLS: readonly (readonly [string, readonly number[], Pool])[] = [
  ["2x2", [2, 3, 6, 4], { k: [2, 2], stride: [2, 2], pad: [0, 0] }],
  ["2x2 that drops a row", [1, 2, 7, 5], { k: [2, 2], stride: [2, 2], pad: [0, 0] }],
  ["3x3 stride 2 pad 1, overlapping", [2, 3, 7, 8], { k: [3, 3], stride: [2, 2], pad: [1, 1] }],
  ["3x2 stride 1x2, overlapping", [1, 2, 7, 5], { k: [3, 2], stride: [1, 2], pad: [1, 0] }],
  ["1x1 stride 3", [1, 2, 7, 5], { k: [1, 1], stride: [3, 3], pad: [0, 0] }],
  ["the whole image", [2, 3, 7, 5], { k: [7, 5], stride: [7, 5], pad: [0, 0] }],
];
const POOLING: readonly Case[] = POOLS.flatMap(([name, x, { k, stride, pad }]) => [
  { name: `max_pool2d: ${name}`, make: (net, leaf) => net.maxPool(leaf("x", x), k, stride, pad) },
  { name: `avg_pool2d: ${name}`, make: (net, leaf) => net.avgPool(leaf("x", x), k, stride, pad, false) },
  { name: `avg_pool2d counting pads: ${name}`, make: (net, leaf) => net.avgPool(leaf("x", x), k, stride, pad, true) },
]);

// --------------------------------------------------------------------------------------------------- reductions and norms

const REDUCTIONS: readonly Case[] = (["sum", "mean", "max", "min"] as const).flatMap((fn) =>
  (
    [
      [[2, 3, 4, 5], [1, 3], false],
      [[2, 3, 5], [1], true],
      [[3, 5], [0, 1], false],
    ] as const
  ).map(([shape, axes, keep]) => ({
    name: `reduce ${fn} of [${shape.join(", ")}] over ${axes.join(", ")}`,
    make: (net: Net, leaf: Leaf) => net.reduce(leaf("x", shape), fn, axes, keep),
  })),
);

const NORMS: readonly Case[] = [
  ...[0, 1, 2].map((axis) => ({
    name: `softmax along axis ${axis}`,
    make: (net: Net, leaf: Leaf) => net.softmax(leaf("x", [2, 3, 4]), axis),
  })),
  { name: "softmax of masked rows", make: (net, leaf) => net.softmax(net.causalMask(leaf("x", [2, 4, 6])), 2) },
  ...[
    [2, 3, 4, 5],
    [4, 3],
  ].map((shape) => ({
    name: `batch_norm of [${shape.join(", ")}], its statistics held`,
    make: (net: Net, leaf: Leaf) => net.batchNorm(leaf("x", shape), `bn${shape.length}`),
  })),
  {
    name: "layer_norm",
    make: (net, leaf) => net.layerNorm(leaf("x", [2, 3, 5]), leaf("weight", [5]), leaf("bias", [5])),
  },
];

// ----------------------------------------------------------------------------------------------------------- elementwise

function positive(net: Net, x: GraphNode): GraphNode {
  return net.binary("add", net.binary("mul", x, x), net.constant(0.5));
}

/** Cases of functions whose derivative is 0 everywhere. */
export const FLAT: readonly string[] = ["unary floor", "unary ceil", "unary is_finite"];

/** Every function of a tensor graph: all but `half`, which only kernels have. */
export const isTensorFn = (fn: UnaryFn): fn is TensorFn => fn !== "half";

const UNARIES: readonly Case[] = (Object.keys(UNARY) as UnaryFn[]).filter(isTensorFn).map((fn) => ({
  name: `unary ${fn}`,
  make: (net, leaf) => {
    const x = leaf("x", [3, 5]);
    return net.unary(fn, fn === "log" || fn === "sqrt" || fn === "rsqrt" ? positive(net, x) : x);
  },
  // Loops compose it of other functions, within 2e-7: only its rule can be checked to the last digit.
  ...(fn === "erf" ? { loopTolerance: 2e-6 } : {}),
  // WGSL asks for an absolute error of 2^-11 (specification, "Accuracy of built-in functions"), which is 5e-4.
  ...(fn === "sin" || fn === "cos" ? { wgslTolerance: 1e-3 } : {}),
}));

const BROADCASTS = [
  [
    [3, 5],
    [3, 5],
  ],
  [[2, 3, 5], [5]],
  [[5], [2, 3, 5]],
  [
    [3, 1, 5],
    [2, 1, 4, 1],
  ],
  [[], [3, 5]],
] as const;

const BINARIES: readonly Case[] = (Object.keys(BINARY) as BinaryFn[]).flatMap((fn) => {
  const left = (net: Net, x: GraphNode): GraphNode => (fn === "pow" ? positive(net, x) : x);
  const right = (net: Net, x: GraphNode): GraphNode => (fn === "div" ? positive(net, x) : x);
  return [
    ...BROADCASTS.map(([l, r]) => ({
      name: `binary ${fn} of [${l.join(", ")}] and [${r.join(", ")}]`,
      make: (net: Net, leaf: Leaf) => net.binary(fn, left(net, leaf("l", l)), right(net, leaf("r", r))),
    })),
    {
      name: `binary ${fn} with a number`,
      make: (net: Net, leaf: Leaf) => net.binary(fn, left(net, leaf("l", [3, 5])), net.constant(0.3)),
    },
    {
      name: `binary ${fn} of a number`,
      make: (net: Net, leaf: Leaf) => net.binary(fn, net.constant(0.3), right(net, leaf("r", [3, 5]))),
    },
  ];
});

const SELECTS: readonly Case[] = (Object.keys(COMPARE) as CompareFn[]).map((compare) => ({
  name: `select ${compare}`,
  make: (net, leaf) => {
    const [l, r] = [leaf("l", [3, 5]), leaf("r", [5])];
    // Equal numbers do not come by chance: for them some of the left side is compared with itself.
    const other = compare === "eq" ? net.binary("max", l, net.constant(0)) : r;
    return net.add("select", [l, other, leaf("then", [3, 1]), leaf("else", [])], { compare });
  },
}));

// ------------------------------------------------------------------------------------------------- movements and the rest

const MOVEMENTS: readonly Case[] = [
  {
    name: "reshape of a permuted tensor",
    make: (net, leaf) => net.reshape(net.permute(leaf("x", [2, 3, 4]), [2, 0, 1]), [8, 3]),
  },
  { name: "permute", make: (net, leaf) => net.permute(leaf("x", [2, 3, 4, 5]), [3, 1, 0, 2]) },
  ...(
    [
      [0, 2],
      [1, 3],
      [3, 2],
      [0, 5],
    ] as const
  ).map(([start, size]) => ({
    name: `slice of ${size} from ${start}`,
    make: (net: Net, leaf: Leaf) => net.slice(leaf("x", [2, 5, 3]), 1, start, size),
  })),
  { name: "pad", make: (net, leaf) => net.add("pad", [leaf("x", [2, 3])], { axis: 0, before: 1, after: 2 }) },
  {
    name: "concat, one part twice",
    make: (net, leaf) => {
      const x = leaf("x", [2, 3, 2]);
      return net.concat([x, leaf("y", [2, 1, 2]), net.slice(x, 1, 1, 2)], 1);
    },
  },
  { name: "broadcast", make: (net, leaf) => net.add("broadcast", [leaf("x", [3, 1])], { shape: [2, 3, 4] }) },
  {
    name: "recompute",
    make: (net, leaf) => net.add("recompute", [net.unary("tanh", leaf("x", [3, 4]))], { region: 0 }),
  },
  {
    name: "dropout without counters",
    make: (net, leaf) => net.add("dropout", [leaf("x", [3])], { p: 0.5, path: "d" }),
  },
  {
    name: "dropout",
    make: (net, leaf) =>
      net.permute(
        net.add("dropout", [net.unary("tanh", leaf("x", [3, 4, 5])), net.input(COUNTERS, [3])], { p: 0.4, path: "d" }),
        [2, 0, 1],
      ),
  },
  { name: "cast", make: (net, leaf) => net.add("cast", [leaf("x", [3])], { dtype: "f32" }) },
];

/** Attention without its table: odd sizes, several tables, depth and width apart, one key, one row. */
const ATTENTION: readonly Case[] = (
  [
    ["attend", [3, 5, 4], [3, 7, 4], 4, 1],
    ["attend, scaled, wider than deep", [2, 6, 3], [2, 5, 3], 5, 0.5],
    ["attend, one key", [2, 3, 2], [2, 1, 2], 2, 1],
    ["attend, one row of one table", [1, 1, 3], [1, 4, 3], 1, 1],
    ["attend, depth 1, without batch", [5, 1], [3, 1], 2, 2],
    ["attend, heads of their own axis", [2, 2, 3, 2], [2, 2, 4, 2], 2, 1],
  ] as const
).map(([name, q, k, width, scale]): Case => {
  const make: Case["make"] = (net, leaf) =>
    net.add("attend", [leaf("a", q), leaf("b", k), leaf("c", [...k.slice(0, -1), width])], { scale });
  return { name, make };
});
const LOG_SUM: readonly Case[] = [
  {
    name: "attend_log_sum",
    make: (net, leaf) => net.add("attend_log_sum", [leaf("a", [2, 5, 3]), leaf("b", [2, 4, 3])], { scale: 0.7 }),
  },
];

/** The cases by what they have in common. */
export const GROUPS: Readonly<Record<string, readonly Case[]>> = {
  convolutions: CONVOLUTIONS.map(convolution),
  "products of matrices": [...LINEAR, ...MATMUL],
  attention: [...ATTENTION, ...LOG_SUM],
  pooling: POOLING,
  reductions: REDUCTIONS,
  norms: NORMS,
  "functions of one number": UNARIES.filter((c) => c.wgslTolerance === undefined),
  "functions of one number that WGSL approximates": UNARIES.filter((c) => c.wgslTolerance !== undefined),
  "functions of two numbers": [...BINARIES, ...SELECTS],
  movements: MOVEMENTS,
  "gradients of gradients": TWICE,
};

export const CASES: readonly Case[] = Object.values(GROUPS).flat();
