/**
 * Which attention keeps its table: by size and target, with reasons; and that a model gives the same in either form, in
 * prediction and in training, with every unit of the library.
 */
import { describe, expect, test } from "vitest";
import { type Capability, WASM_DEFAULT, WEBGPU_DEFAULT } from "../../compiler/capability.ts";
import { lowerModel, lowerStep } from "../../compiler/compile.ts";
import { type AttentionTarget, chooseAttention, TABLE_BYTES } from "../../compiler/graph/attend.ts";
import { costOf } from "../../compiler/graph/cost.ts";
import { printGraph } from "../../compiler/graph/print.ts";
import { verifyGraph } from "../../compiler/graph/verify.ts";
import { interpret } from "../../compiler/loop/interp.ts";
import { verifyLoops } from "../../compiler/loop/verify.ts";
import { plainStage } from "../../compiler/recipe/plain.ts";
import { Net } from "../loop/nets.ts";
import { bound, doubles, modelOf, namedInputs, namedParameters, stagedOk } from "../tools/nets.ts";
import { furthest, loweredStep, stepsOnOracle, stepsOnWasm } from "../training/steps.ts";
import { streams } from "./nets.ts";

const TARGET: AttentionTarget = {
  tableBytes: TABLE_BYTES,
  allBytes: 4 * TABLE_BYTES,
  training: false,
  fasterFrom: 128,
};

describe("the form", () => {
  const graphOf = (rows: number, keys: number, tables = 1): ReturnType<Net["graph"]> => {
    const net = new Net().at("unit.edge");
    const [q, k] = [net.input("q", [tables, rows, 4]), net.input("k", [tables, 4, keys])];
    const table = net.softmax(net.binary("mul", net.matmul(q, k), net.constant(0.5)), 2);
    return net.output("y", net.matmul(table, net.input("v", [tables, keys, 4]))).graph();
  };
  test.each([
    ["a table over the limit is none", graphOf(8192, 8192), {}, "attend", /256 MiB, more than the 128 MiB/],
    ["where it is faster without", graphOf(128, 196), {}, "attend", /from 128 rows and keys on it is faster/],
    ["few rows", graphOf(49, 196), {}, "table", /faster at this size/],
    ["few keys", graphOf(196, 49), {}, "table", /faster at this size/],
    ["training keeps it", graphOf(196, 196), { training: true }, "table", /kept for the backward pass/],
    ["all together too large", graphOf(196, 196), { training: true, allBytes: 1000 }, "attend", /all together/],
    ["as asked for", graphOf(49, 49), { always: "attend" as const }, "attend", /asked/],
  ] as const)("%s", (_, graph, change, form, reason) => {
    const { graph: made, choices } = chooseAttention(graph, { ...TARGET, ...change });
    expect(choices).toMatchObject([{ layer: "unit.edge", form }]);
    expect(choices[0]?.reason).toMatch(reason);
    expect(verifyGraph(made)).toEqual([]);
    expect(made.nodes.some(({ op }) => op === "attend")).toBe(form === "attend");
    expect(made.nodes.some(({ op }) => op === "softmax")).toBe(form === "table");
    if (form === "attend") expect(printGraph(made)).toMatch(/attend %\d %\d %\d scale=0\.5/);
    // Both forms multiply as much; the table is what one of them saves.
    expect(costOf(made).total.macs).toBe(costOf(graph).total.macs);
    if (form === "attend")
      expect(costOf(made).total.activationBytes).toBeLessThan(Number(costOf(graph).total.activationBytes));
  });

  test("the largest tables of a training step go first, until the others fit", () => {
    const net = new Net();
    for (const [name, rows] of [
      ["small", 64],
      ["large", 256],
      ["middle", 128],
    ] as const) {
      net.at(name);
      const x = net.input(name, [1, rows, 4]);
      const table = net.softmax(net.matmul(x, net.add("permute", [x], { order: [0, 2, 1] })), 2);
      net.output(name, net.matmul(table, x));
    }
    const { choices } = chooseAttention(net.graph(), {
      ...TARGET,
      training: true,
      allBytes: 4 * (128 * 128 + 64 * 64),
    });
    expect(choices.map(({ layer, form }) => [layer, form])).toEqual([
      ["small", "table"],
      ["large", "attend"],
      ["middle", "table"],
    ]);
  });

  test("a table that something else reads stays, and so does one of other scores", () => {
    const net = new Net();
    const x = net.input("x", [1, 200, 4]);
    const turned = net.add("permute", [x], { order: [0, 2, 1] });
    const read = net.softmax(net.matmul(x, turned), 2);
    net.output("read", net.matmul(read, x)).output("mean", net.reduce(read, "mean", [1], false));
    const masked = net.softmax(net.add("causal_mask", [net.matmul(x, turned)], {}), 2);
    net.output("masked", net.matmul(masked, x));
    const columns = net.softmax(net.matmul(x, turned), 1);
    net.output("columns", net.matmul(columns, x));
    const { graph, choices } = chooseAttention(net.graph(), { ...TARGET, always: "attend" });
    expect(choices).toEqual([]);
    expect(graph.nodes.filter(({ op }) => op === "softmax")).toHaveLength(3);
  });

  test("depends on the target: a device that binds little has smaller tables", () => {
    const model = streams("STIA", 40, 1);
    const small: Capability = {
      ...WEBGPU_DEFAULT,
      limits: { ...WEBGPU_DEFAULT.limits, maxStorageBufferBindingSize: 2 ** 20, maxBufferSize: 2 ** 20 },
    };
    const forms = (target: Capability): readonly string[] =>
      stagedOk(lowerModel(bound(model), target)).attention.map(({ form }) => form);
    expect(forms(WEBGPU_DEFAULT)).toEqual(["table", "table"]);
    expect(forms(small)).toEqual(["attend", "attend"]);
    expect(forms(WASM_DEFAULT)).toEqual(["attend", "attend"]);
    const step = stagedOk(lowerStep(bound(model), plainStage(model), WASM_DEFAULT));
    expect(step.attention.map(({ form }) => form)).toEqual(["table", "table"]);
  });
});

const UNITS = [
  "STIA",
  "STIA(scale=true, heads=2)",
  'STIA(pool="conv-pool")',
  'STIA(affinity="shared")',
  'STIA(value="self", gate="scalar0", tie=true)',
  'STIA(pair="gaussian", gate="conv0")',
  "NonLocal",
  "NonLocal(heads=4, reduction=1)",
];

describe("either form gives the same", () => {
  test.each(UNITS)("with %s: predictions and a training step", (unit) => {
    const model = bound(streams(unit));
    const inputs = doubles(namedInputs(model.graph));
    const params = doubles(namedParameters(model));
    const predicted = (["table", "attend"] as const).map((form) => {
      const { loops, graph } = stagedOk(lowerModel(model, WASM_DEFAULT, form));
      expect(graph.nodes.filter(({ op }) => op === "attend")).toHaveLength(form === "attend" ? 2 : 0);
      expect(verifyLoops(loops)).toEqual([]);
      return interpret(loops, inputs, params).get("output") ?? new Float64Array();
    });
    expectEqual(predicted, 1e-11);

    const stage = plainStage(model);
    const [table, attend] = (["table", "attend"] as const).map((form) =>
      stepsOnOracle(model, stage, 2, undefined, undefined, form),
    );
    if (table === undefined || attend === undefined) throw new Error("no steps");
    expect(furthest(attend, table)).toBeLessThan(1e-8);
    // The gradients by keys and by values share their scores, and the forward pass keeps the logarithms.
    const { loops, decisions } = loweredStep(model, stage, undefined, "attend");
    expect(verifyLoops(loops)).toEqual([]);
    // But for those of maps that are compared as they are: their gradients are wider than the values'.
    const alike = !unit.includes("gaussian");
    expect(loops.run.filter(({ inner }) => inner !== undefined)).toHaveLength(2 * (alike ? 3 : 4));
    const shared = decisions.filter(({ fused, reason }) => fused && reason === "they share their scores");
    expect(shared).toHaveLength(2 * (alike ? 2 : 1));
  });

  test("with WASM, in f32 and in mixed precision, and where a region is computed again", {
    timeout: 60_000,
  }, async () => {
    const model = bound(streams('STIA(heads=2, gate="scalar0")', 13));
    const stage = plainStage(model);
    const want = stepsOnOracle(model, stage, 2, undefined, undefined, "table");
    expect(furthest(await stepsOnWasm(model, stage, 2, undefined, undefined, "attend"), want)).toBeLessThan(1e-3);
    const halves = { kind: "mixed", lossScale: undefined } as const;
    const rounded = stepsOnOracle(model, stage, 1, halves, 64, "attend");
    const mixed = await stepsOnWasm(model, stage, 1, halves, 64, "attend");
    expect(mixed.reports[0]?.[0]).toBeCloseTo(rounded.reports[0]?.[0] ?? Number.NaN, 2);
    expect(mixed.reports[0]?.[0]).toBeCloseTo(want.reports[0]?.[0] ?? Number.NaN, 2);
    expect(mixed.reports[0]?.[2]).toBe(1);

    const again = bound(
      modelOf(
        `#[checkpoint] block Net()(x: [N, C, H, W]) -> [N, C, H, W] = Conv(8) @conv1 -> ReLU -> NonLocal(heads=2, gate="scalar0") @look -> Conv(C) @conv2
model Again(image: f32[N, 3, 9, 9]) -> f32[N, 3] = Net @net -> GlobalAvgPool -> Linear(3) @fc`,
        { N: 2 },
      ),
    );
    const [table, attend] = (["table", "attend"] as const).map((form) =>
      stepsOnOracle(again, plainStage(again), 2, undefined, undefined, form),
    );
    if (table === undefined || attend === undefined) throw new Error("no steps");
    expect(furthest(attend, table)).toBeLessThan(1e-8);
    const onWasm = await stepsOnWasm(again, plainStage(again), 2, undefined, undefined, "attend");
    expect(furthest(onWasm, table)).toBeLessThan(1e-3);
  });
});

function expectEqual([want, got]: readonly ArrayLike<number>[], tolerance: number): void {
  if (want === undefined || got === undefined) throw new Error("nothing to compare");
  const values = Array.from(want);
  const size = Math.max(...values.map(Math.abs));
  expect(size).toBeGreaterThan(0);
  const worst = Math.max(...values.map((value, i) => Math.abs(value - (got[i] ?? Number.NaN))));
  expect(worst / size).toBeLessThan(tolerance);
}
