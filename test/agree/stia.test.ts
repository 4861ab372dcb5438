/**
 * What must hold of STIA whatever its numbers are, through the language and in f64: a unit with a closed gate is the
 * identity, swapping the streams swaps the answers, weights of attention sum to one, the order of keys does not matter,
 * and a stream that looks at itself is a non-local block (Wang et al. 2018). Options meet pairwise.
 */
import { describe, expect, test } from "vitest";
import type { Model } from "../../compiler/model.ts";
import { assertClose } from "../tools/compare.ts";
import {
  elaborateText,
  modelOf,
  type Numbers,
  namedInputs,
  namedParameters,
  onOracle,
  startingParameters,
} from "../tools/nets.ts";
import { argumentsOf, ILLEGAL, isLegal, LEGAL, type Options } from "../tools/stia.ts";

/** Exact but for the order of f64 additions. */
const EXACT = 1e-10;

const [N, C, H, W] = [2, 8, 7, 7] as const;
const MAP = `f32[${N}, ${C}, ${H}, ${W}]`;

const units = new Map<string, Model>();

/** STIA with these arguments between two maps. */
function unit(args: string): Model {
  const known = units.get(args);
  if (known !== undefined) return known;
  const made = modelOf(`model M(spatial: ${MAP}, temporal: ${MAP}) -> (${MAP}, ${MAP}) = STIA(${args}) @stia`);
  units.set(args, made);
  return made;
}

function pairOf(outputs: ReadonlyMap<string, Float64Array>): readonly [Float64Array, Float64Array] {
  const [s, t] = outputs.values();
  if (s === undefined || t === undefined) throw new Error("STIA has two outputs");
  return [s, t];
}

function mapNamed(numbers: Numbers, name: string): Float32Array {
  const values = numbers.get(name);
  if (values === undefined) throw new Error(`no values for ${name}`);
  return values;
}

/** The same values under other names. */
function renamed(numbers: Numbers, rename: (name: string) => string): Numbers {
  return new Map([...numbers].map(([name]) => [name, mapNamed(numbers, rename(name))]));
}

/** The same names, some values changed. */
function changed(numbers: Numbers, test: RegExp, value: (values: Float32Array) => Float32Array): Numbers {
  expect([...numbers.keys()].some((name) => test.test(name))).toBe(true);
  return new Map([...numbers].map(([name, values]) => [name, test.test(name) ? value(values) : values]));
}

/** Parameters that hold a unit's gate shut. */
const GATES = { bn0: /\.bn\.(weight|bias)$/, scalar0: /\.gate\.weight$/, conv0: /\.out\.(weight|bias)$/ } as const;

describe("options meet pairwise", () => {
  test("and a combination is legal or not", () => {
    expect(LEGAL.every(([, options]) => isLegal(options))).toBe(true);
    expect(LEGAL.length).toBeGreaterThan(15);
    expect(ILLEGAL.length).toBeGreaterThan(5);
  });
  test.each(LEGAL)("STIA(%s)", (args, options) => {
    const model = unit(args);
    const inputs = namedInputs(model.graph);
    const parameters = namedParameters(model);
    const [spatial, temporal] = pairOf(onOracle(model, inputs, parameters));

    // It does something, where it should and only there.
    const still = (name: string) => Float64Array.from(mapNamed(inputs, name));
    expect(spatial.some(Number.isNaN) || temporal.some(Number.isNaN)).toBe(false);
    if (options.direction === "to_temporal") expect(spatial).toEqual(still("spatial"));
    else expect(spatial).not.toEqual(still("spatial"));
    if (options.direction === "to_spatial") expect(temporal).toEqual(still("temporal"));
    else expect(temporal).not.toEqual(still("temporal"));

    // A closed gate is the identity, bit for bit.
    const closed = changed(parameters, GATES[options.gate], (values) => values.map(() => 0));
    for (const shut of [closed, startingParameters(model)]) {
      expect(pairOf(onOracle(model, inputs, shut))).toEqual([still("spatial"), still("temporal")]);
    }

    // Swapping streams and parameters swaps answers. The only weights of tied edges are named after the first.
    const other = (direction: Options["direction"]): Options["direction"] =>
      direction === "both" ? "both" : direction === "to_spatial" ? "to_temporal" : "to_spatial";
    const swapped = unit(argumentsOf({ ...options, direction: other(options.direction) }));
    const partner = new Map([
      ["to_spatial", "to_temporal"],
      ["to_temporal", "to_spatial"],
      ["affinity.theta", "affinity.phi"],
      ["affinity.phi", "affinity.theta"],
      ["affinity.score_q", "affinity.score_kv"],
      ["affinity.score_kv", "affinity.score_q"],
    ]);
    const swapPath = (path: string): string =>
      path.replace(
        /(to_spatial|to_temporal|affinity\.(theta|phi|score_q|score_kv))\b/,
        (part) => partner.get(part) ?? part,
      );
    const available = (path: string): string => (parameters.has(swapPath(path)) ? swapPath(path) : path);
    const [t, s] = pairOf(
      onOracle(
        swapped,
        renamed(inputs, (name) => (name === "spatial" ? "temporal" : "spatial")),
        new Map(swapped.parameters.map(({ path }) => [path, mapNamed(parameters, available(path))])),
      ),
    );
    assertClose(s, spatial, "spatial", EXACT);
    assertClose(t, temporal, "temporal", EXACT);
  });
  test.each(ILLEGAL)("STIA(%s) is refused", (args) => {
    const { model, diagnostics } = elaborateText(
      `model M(spatial: ${MAP}, temporal: ${MAP}) -> (${MAP}, ${MAP}) = STIA(${args}) @stia`,
    );
    expect(model).toBeUndefined();
    expect(diagnostics.map(({ code }) => code)).toEqual(["E0311"]);
  });
});

describe("refused", () => {
  test.each([
    ['affinity="shared", pool="conv-pool"', MAP, MAP],
    ['affinity="shared", pool="pool-conv"', MAP, MAP],
    ["reduction=3", MAP, MAP],
    ["heads=3", MAP, MAP],
    ["", MAP, `f32[${N}, ${C}, ${H}, ${W - 1}]`],
    ["", MAP, `f32[${N}, ${C + 2}, ${H}, ${W}]`],
    ["", MAP, `f32[${N + 1}, ${C}, ${H}, ${W}]`],
    ['pair="cosine"', MAP, MAP],
    ["bottleneck=2", MAP, MAP],
  ])("STIA(%s) between %s and %s", (args, a, b) => {
    const { model, diagnostics } = elaborateText(
      `model M(spatial: ${a}, temporal: ${b}) -> (${a}, ${b}) = STIA(${args})`,
    );
    expect(model).toBeUndefined();
    expect(diagnostics.length).toBeGreaterThan(0);
    for (const { severity, labels } of diagnostics) {
      expect(severity).toBe("error");
      expect(labels.some(({ primary }) => primary)).toBe(true);
    }
  });
});

describe("a graft starts as if it were not there", () => {
  const text = (clause: string): string =>
    `block Tiny(classes: int)(x: [N, C, H, W]) -> [N, classes]
       = Conv(8, act=ReLU) @conv1 -> MaxPool(2) @pool1 -> Conv(12, act=ReLU) @conv2 -> GlobalAvgPool -> Linear(classes) @fc
     model Two = Tiny(classes=4) ×2 over a: f32[N, 3, 11, 12], b: f32[N, 4, 11, 12] ${clause} fuse Average`;
  const plain = modelOf(text(""), { N: 2 });
  const inputs = namedInputs(plain.graph);
  test.each([
    "STIA at conv1, conv2",
    'STIA(gate="scalar0") at conv2',
    'STIA(gate="conv0", pool="conv-pool") at conv1, pool1',
  ])("with %s", (clause) => {
    const grafted = modelOf(text(`with ${clause}`), { N: 2 });
    expect(grafted.parameters.length).toBeGreaterThan(plain.parameters.length);
    const start = startingParameters(grafted);
    expect(onOracle(grafted, inputs, start)).toEqual(onOracle(plain, inputs, startingParameters(plain)));
    const [opened] = onOracle(grafted, inputs, namedParameters(grafted)).values();
    const [without] = onOracle(plain, inputs, namedParameters(plain)).values();
    expect(opened).not.toEqual(without);
  });
});

describe("weights of attention", () => {
  test.each([
    "",
    'pool="conv-pool"',
    'pool="pool-conv"',
    "heads=2",
    "scale=true",
    'pair="gaussian"',
    'value="self"',
    'affinity="shared"',
  ])("sum to one: constant values come through STIA(%s) unchanged", (args) => {
    const model = unit(args);
    const inputs = namedInputs(model.graph);
    const ones = changed(
      changed(namedParameters(model), /\.g\.weight$/, (values) => values.map(() => 0)),
      /\.g\.bias$/,
      (values) => values.map(() => 1),
    );
    const updated = pairOf(onOracle(model, inputs, ones));
    for (const [i, stream] of ["spatial", "temporal"].entries()) {
      const at = (name: string): Float32Array => mapNamed(ones, `stia.to_${stream}.${name}`);
      const [weight, bias] = [at("out.weight"), at("out.bias")];
      const [gamma, beta, mean, variance] = ["weight", "bias", "running_mean", "running_var"].map((n) => at(`bn.${n}`));
      const x = mapNamed(inputs, stream);
      const inner = weight.length / C;
      const wanted = Float64Array.from(x, (value, index) => {
        const c = Math.floor(index / (H * W)) % C;
        const sum = weight.subarray(c * inner, (c + 1) * inner).reduce((total, w) => total + w, bias[c] ?? 0);
        const scale = (gamma?.[c] ?? 0) / Math.sqrt((variance?.[c] ?? 0) + 1e-5);
        return value + (sum - (mean?.[c] ?? 0)) * scale + (beta?.[c] ?? 0);
      });
      // Sums of float32 numbers: `reduce` adds them in f64, as the oracle does.
      assertClose(updated[i] ?? [], wanted, stream, EXACT);
    }
  });
  test("do not see the bias of keys where they are a softmax, and do where they are not", () => {
    const shifted = (parameters: Numbers): Numbers =>
      changed(parameters, /\.phi\.bias$/, (b) => b.map((v, i) => v + i - 2));
    for (const args of ["", 'pool="conv-pool"', "heads=2"]) {
      const model = unit(args);
      const inputs = namedInputs(model.graph);
      const parameters = namedParameters(model);
      const wanted = pairOf(onOracle(model, inputs, parameters));
      pairOf(onOracle(model, inputs, shifted(parameters))).forEach((got, i) => {
        assertClose(got, wanted[i] ?? [], args, EXACT);
      });
    }
    const dot = unit('pair="dot"');
    const inputs = namedInputs(dot.graph);
    const parameters = namedParameters(dot);
    const [s] = pairOf(onOracle(dot, inputs, parameters));
    const [live] = pairOf(onOracle(dot, inputs, shifted(parameters)));
    expect(() => {
      assertClose(live, s, "dot", 1e-6);
    }).toThrow();
  });
  test("`scale` divides scores by the root of a head's width", () => {
    const [plain, scaled] = [unit("heads=2"), unit("heads=2, scale=true")];
    const inputs = namedInputs(plain.graph);
    const parameters = namedParameters(plain);
    // Width C/2/2 = 2; by four heads' worth of doubling the factor stays a power of two, exact in f32.
    const [wide, wideScaled] = [unit("reduction=2"), unit("reduction=2, scale=true")];
    const halved = changed(parameters, /\.theta\./, (values) => values.map((v) => v / 2));
    const wanted = pairOf(onOracle(wide, inputs, halved));
    pairOf(onOracle(wideScaled, inputs, parameters)).forEach((got, i) => {
      assertClose(got, wanted[i] ?? [], "one head of four channels", EXACT);
    });
    expect(onOracle(plain, inputs, parameters)).not.toEqual(onOracle(scaled, inputs, parameters));
  });
});

/** Places of a map in another order, the same for every channel: y[p] = x[order(p)]. */
function reordered(map: Float32Array | Float64Array): Float64Array {
  const places = H * W;
  // 10 and 49 have no common divisor.
  return Float64Array.from(map, (_, i) => map[i - (i % places) + (((i % places) * 10 + 3) % places)] ?? Number.NaN);
}

test.each(["", 'pair="dot"', 'pair="concat"', 'pair="gaussian", heads=2', 'affinity="shared"', "tie=true"])(
  "the order of the keys does not matter to STIA(%s), and the order of queries is kept",
  (args) => {
    const model = unit(args);
    const inputs = namedInputs(model.graph);
    const parameters = namedParameters(model);
    const [spatial, temporal] = pairOf(onOracle(model, inputs, parameters));
    const shuffled = changed(inputs, /^temporal$/, (values) => Float32Array.from(reordered(values)));
    const [s, t] = pairOf(onOracle(model, shuffled, parameters));
    assertClose(s, spatial, "spatial", EXACT);
    assertClose(t, reordered(temporal), "temporal", EXACT);
    expect(t).not.toEqual(temporal);
  },
);

describe("a stream that looks at itself", () => {
  test.each([
    "",
    "reduction=4, heads=2",
    'pair="dot", scale=true',
    'pair="gaussian"',
    'pair="concat"',
    'pool="pool-conv"',
    'gate="scalar0"',
    'gate="conv0", pool="conv-pool"',
  ])("by STIA(%s) is a non-local block", (args) => {
    const alone = modelOf(`model M(x: ${MAP}) -> ${MAP} = NonLocal(${args}) @block`);
    const block = namedParameters(alone);
    const inputs = namedInputs(alone.graph);
    const x = mapNamed(inputs, "x");
    const [wanted] = onOracle(alone, inputs, block).values();
    for (const [value, tie] of [
      ["other", true],
      ["other", false],
      ["self", false],
    ] as const) {
      const stia = unit([`value="${value}"`, `tie=${tie}`, ...(args === "" ? [] : [args])].join(", "));
      const tied = new Map(
        stia.parameters.map(({ path }) => [path, mapNamed(block, path.replace(/^stia\.to_\w+\./, "block."))]),
      );
      for (const got of pairOf(
        onOracle(
          stia,
          new Map([
            ["spatial", x],
            ["temporal", x],
          ]),
          tied,
        ),
      )) {
        expect(got).toEqual(wanted);
      }
    }
  });
});

describe("pooled keys", () => {
  const keys = (args: string): unknown[] =>
    unit(args).graph.nodes.flatMap((node) => (node.op === "softmax" ? [node.shape] : []));
  test("of 7 x 7 places are 9: the last row and column are left out", () => {
    expect(keys("")).toEqual([
      [N, 49, 49],
      [N, 49, 49],
    ]);
    expect(keys('pool="conv-pool"')).toEqual([
      [N, 49, 9],
      [N, 49, 9],
    ]);
    expect(keys('pool="pool-conv", heads=2')).toEqual([
      [N * 2, 49, 9],
      [N * 2, 49, 9],
    ]);
  });
  test.each(["conv-pool", "pool-conv"])("do not see the last row and column with pool=%s", (pool) => {
    const model = unit(`pool="${pool}", direction="to_spatial"`);
    const inputs = namedInputs(model.graph);
    const parameters = namedParameters(model);
    const raised = (edge: boolean): Numbers =>
      changed(inputs, /^temporal$/, (map) =>
        map.map((v, i) => {
          const isEdge = i % W === W - 1 || Math.floor(i / W) % H === H - 1;
          return isEdge === edge ? v + 1 : v;
        }),
      );
    const [wanted] = pairOf(onOracle(model, inputs, parameters));
    expect(pairOf(onOracle(model, raised(true), parameters))[0]).toEqual(wanted);
    expect(pairOf(onOracle(model, raised(false), parameters))[0]).not.toEqual(wanted);
  });
  test("before and after the convolution are two things", () => {
    const [before, after] = [unit('pool="pool-conv"'), unit('pool="conv-pool"')];
    const inputs = namedInputs(before.graph);
    const parameters = namedParameters(before);
    const [s] = pairOf(onOracle(before, inputs, parameters));
    const [t] = pairOf(onOracle(after, inputs, parameters));
    expect(() => {
      assertClose(s, t, "order of pool and conv", 1e-6);
    }).toThrow();
  });
});
