/**
 * Gradients of STIA with every option: against central differences, on the oracle, on WASM and on WebGPU. Then what must
 * hold whatever the numbers are: behind a closed gate nothing is learned, and parameters that batch norm or softmax take
 * away are dead.
 */
import { describe, expect, it } from "vitest";
import type { Model } from "../../compiler/model.ts";
import { modelOf } from "../tools/nets.ts";
import { argumentsOf, LEGAL, type Options } from "../tools/stia.ts";
import { checkGradients, evaluated, gradientOf, leavesOf, type Values } from "./check.ts";
import { checkOn, loadOn, openGraph, oracleOf, runOn } from "./devices.ts";
import { namedValuesOf, trained } from "./trained.ts";

const MAP = "f32[2, 8, 4, 5]";

/** STIA between two maps. */
function unit(args: string): Model {
  return modelOf(`model M(spatial: ${MAP}, temporal: ${MAP}) -> (${MAP}, ${MAP}) = STIA(${args}) @stia`);
}

/** Several units, each between the same two maps: kernels that they share are compiled once. */
function units(all: readonly string[]): Model {
  const lines = all.map((args, i) => `  s${i}, t${i} = (spatial, temporal) -> STIA(${args}) @unit${i}`);
  const names = all.flatMap((_, i) => [`s${i}`, `t${i}`]);
  return modelOf(`model M(spatial: ${MAP}, temporal: ${MAP}) -> (${names.map(() => MAP).join(", ")}) {
${lines.join("\n")}
  return (${names.join(", ")})
}`);
}

const EXAMPLES = [
  'pool="conv-pool"',
  'pool="none", scale=true',
  'pool="pool-conv", pair="dot"',
  'affinity="shared", pool="none"',
  'pair="concat", heads=2',
  'pair="gaussian", value="self", gate="scalar0"',
  'tie=true, gate="conv0"',
];

describe("with open gates, against central differences", () => {
  it.each(EXAMPLES)("STIA(%s)", (args) => {
    const model = unit(args);
    const graph = trained(model);
    checkGradients(graph, namedValuesOf(model, graph), { sampled: 2 });
  });
});

/** As many units as one program is made of. */
const TOGETHER = 11;
const BUNDLES = Array.from({ length: Math.ceil(LEGAL.length / TOGETHER) }, (_, i) =>
  LEGAL.slice(i * TOGETHER, (i + 1) * TOGETHER).map(([args]) => args),
);

describe.each(BUNDLES.map((bundle) => [bundle.join("\n"), bundle] as const))(
  "on devices, with\n%s",
  { timeout: 120_000 },
  (_, bundle) => {
    const model = units(bundle);
    const graph = trained(model);
    const values = namedValuesOf(model, graph);
    const whole = gradientOf(graph);
    const wanted = oracleOf(whole, values);
    it("every parameter has a gradient", () => {
      for (const { path, kind } of model.parameters) {
        const gradient = wanted.get(`gradient.${path}`);
        expect(gradient?.every(Number.isFinite) ?? false, path).toBe(kind === "param");
      }
    });
    it.each(["wasm", "webgpu"] as const)("on %s", async (device) => {
      // A batch norm's bias sums gradients that nearly cancel here: what is left carries the rounding of the whole.
      await checkOn(device, whole, values, { wanted, tolerance: 3e-4 });
    });
  },
);

// --------------------------------------------------------------------------------------------------------- exact properties

/** Gradients by definition of what the named outputs lose, and by the oracle. */
function gradientsOf(
  model: Model,
  change: (values: Values) => void = () => undefined,
  only?: readonly string[],
): readonly ((name: string) => number)[] {
  const graph = trained(model, only);
  const values = namedValuesOf(model, graph);
  change(values);
  const whole = gradientOf(graph, leavesOf(graph));
  return [evaluated(whole, values), oracleOf(whole, values)].map(
    (gradients) => (name) =>
      (gradients.get(`gradient.${name}`) ?? new Float64Array()).reduce((most, x) => Math.max(most, Math.abs(x)), 0),
  );
}

const GATES = { bn0: /\.bn\.(weight|bias)$/, scalar0: /\.gate\.weight$/, conv0: /\.out\.(weight|bias)$/ } as const;
const outputsOf = (model: Model): readonly string[] => model.graph.outputs.map(({ name }) => name);

describe("behind a closed gate", () => {
  const closed: readonly Partial<Options>[] = [
    { gate: "bn0", pool: "conv-pool" },
    { gate: "bn0", affinity: "shared" },
    { gate: "bn0", tie: true, pair: "dot" },
    { gate: "bn0", value: "self", pair: "gaussian" },
    { gate: "bn0", pair: "concat", heads: 2 },
    { gate: "scalar0" },
    { gate: "conv0", pool: "pool-conv" },
  ];
  it.each(closed.map((options) => [argumentsOf(options), options] as const))(
    "only the gate is learned, and no gradient crosses the streams: STIA(%s)",
    (args, options) => {
      const model = unit(args);
      const gate = GATES[options.gate ?? "bn0"];
      const gates = model.parameters.map(({ path }) => path).filter((path) => gate.test(path));
      expect(gates.length).toBeGreaterThan(0);
      const close = ({ params }: Values): void => {
        for (const path of gates) params.get(path)?.fill(0);
      };
      for (const [at, output] of outputsOf(model).entries()) {
        const [own, other] = at === 0 ? (["spatial", "temporal"] as const) : (["temporal", "spatial"] as const);
        for (const greatest of gradientsOf(model, close, [output])) {
          for (const { path, kind } of model.parameters) {
            if (kind === "param" && !gate.test(path)) expect(greatest(path), path).toBe(0);
          }
          expect(greatest(other)).toBe(0);
          expect(greatest(own)).toBeGreaterThan(0);
        }
      }
      // Every part of the gate moves when both outputs count.
      for (const greatest of gradientsOf(model, close)) {
        for (const path of gates) expect(greatest(path), path).toBeGreaterThan(0);
      }
    },
  );
  it.each(["wasm", "webgpu"] as const)("exactly so on %s", async (device) => {
    const model = unit('pool="conv-pool"');
    const [spatial = ""] = outputsOf(model);
    const graph = trained(model, [spatial]);
    const values = namedValuesOf(model, graph);
    for (const [path, data] of values.params) if (GATES.bn0.test(path)) data.fill(0);
    const runner = await openGraph(gradientOf(graph), device);
    try {
      await loadOn(runner, values);
      const alive = [...(await runOn(runner, values.inputs))]
        .filter(([name, data]) => name.startsWith("gradient.") && data.some((x) => x !== 0))
        .map(([name]) => name);
      expect(alive.sort()).toEqual([
        "gradient.spatial",
        "gradient.stia.to_spatial.bn.bias",
        "gradient.stia.to_spatial.bn.weight",
        `gradient.target.${spatial}`,
      ]);
    } finally {
      runner.dispose();
    }
  });
  it("once it is open, gradients do cross", () => {
    const model = unit('pool="conv-pool"');
    const [spatial = ""] = outputsOf(model);
    for (const greatest of gradientsOf(model, undefined, [spatial])) expect(greatest("temporal")).toBeGreaterThan(1e-6);
  });
});

describe("biases", () => {
  const DIRECTIONS = ["to_spatial", "to_temporal"];
  const bias = (direction: string, of: string): string => `stia.${direction}.${of}.bias`;
  it.each([
    // Softmax takes φ's away, batch norm those of g and of the output.
    ['pool="conv-pool"', ["phi", "g", "out"], ["theta"]],
    ["scale=true", ["phi", "g", "out"], ["theta"]],
    // Weights that do not sum to 1 let φ's bias through, and g's adds something else at every place.
    ['pair="dot"', ["out"], ["theta", "phi", "g"]],
    // Without batch norm nothing takes the biases of g and of the output away.
    ['gate="scalar0"', ["phi"], ["theta", "g", "out"]],
  ] as const)("of STIA(%s): dead %j, alive %j", (args, dead, alive) => {
    for (const greatest of gradientsOf(unit(args))) {
      for (const direction of DIRECTIONS) {
        for (const of of dead) expect(greatest(bias(direction, of)), of).toBeLessThan(1e-12);
        for (const of of alive) expect(greatest(bias(direction, of)), of).toBeGreaterThan(1e-6);
      }
    }
  });
});
