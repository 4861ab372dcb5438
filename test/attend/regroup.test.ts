/**
 * Attention without a softmax: its table goes, wherever keys times values first is cheaper, and the numbers stay. Against
 * the meaning of the graph (test/graph/evaluate.ts), and every unit of the library that compares by dot products.
 */
import { describe, expect, test } from "vitest";
import { WASM_DEFAULT } from "../../compiler/capability.ts";
import { compileStep, lowerModel, lowerStep } from "../../compiler/compile.ts";
import { type AttentionTarget, chooseAttention, TABLE_BYTES } from "../../compiler/graph/attend.ts";
import { costOf } from "../../compiler/graph/cost.ts";
import type { Graph } from "../../compiler/graph/graph.ts";
import { verifyGraph } from "../../compiler/graph/verify.ts";
import { interpret } from "../../compiler/loop/interp.ts";
import { memoryUse } from "../../compiler/memory.ts";
import { plainStage } from "../../compiler/recipe/plain.ts";
import { evaluateGraph } from "../graph/evaluate.ts";
import { Net } from "../loop/nets.ts";
import { assertClose } from "../tools/compare.ts";
import { namedValues } from "../tools/named-values.ts";
import { bound, doubles, namedInputs, namedParameters, stagedOk } from "../tools/nets.ts";
import { furthest, stepsOnOracle } from "../training/steps.ts";
import { streams } from "./nets.ts";

const TARGET: AttentionTarget = {
  tableBytes: TABLE_BYTES,
  allBytes: 4 * TABLE_BYTES,
  training: false,
  fasterFrom: 128,
};

const largest = ({ nodes }: Graph): number =>
  Math.max(...nodes.map(({ shape }) => shape.reduce<number>((product, size) => product * Number(size), 1)));

function valuesOf(graph: Graph): Map<string, Float64Array> {
  return new Map(
    graph.inputs.map(({ attrs, shape }) => [attrs.name, Float64Array.from(namedValues(attrs.name, shape.map(Number)))]),
  );
}

describe("scale · (q·kᵀ)·v", () => {
  const net = (rows: number, keys: number, turned = false): { readonly net: Net; readonly made: () => Graph } => {
    const own = new Net().at("unit.edge");
    const q = own.input("q", [2, rows, 5]);
    const k = own.input("k", [2, 5, keys]);
    const product = turned
      ? own.add(
          "permute",
          [own.matmul(own.add("permute", [k], { order: [0, 2, 1] }), own.add("permute", [q], { order: [0, 2, 1] }))],
          { order: [0, 2, 1] },
        )
      : own.matmul(q, k);
    const table = own.binary("div", own.binary("mul", product, own.constant(0.5)), own.constant(keys));
    own.output("y", own.matmul(table, own.input("v", [2, keys, 3])));
    return { net: own, made: () => own.graph() };
  };

  test.each([false, true])("has no table where that is cheaper (turned: %s)", (turned) => {
    const graph = net(40, 30, turned).made();
    const { graph: made, choices } = chooseAttention(graph, TARGET);
    expect(verifyGraph(made)).toEqual([]);
    expect(choices).toMatchObject([{ layer: "unit.edge", form: "regrouped", tables: 2, rows: 40, keys: 30 }]);
    expect(choices[0]?.reason).toMatch(/keys times values first takes 0\.11 of the multiply-adds/);
    expect(largest(graph)).toBe(2 * 40 * 30);
    expect(largest(made)).toBe(2 * 40 * 5);
    expect(Number(costOf(made).total.macs) / Number(costOf(graph).total.macs)).toBeCloseTo(0.109, 3);
    const [got, want] = [made, graph].map((one) => evaluateGraph(one, valuesOf(graph), new Map())[0]);
    assertClose(got ?? [], want ?? [Number.NaN], "y", 1e-12);
  });

  test("keeps its table where that is as cheap, and where tables are asked for", () => {
    const small = net(3, 2).made();
    expect(chooseAttention(small, TARGET)).toEqual({ graph: small, choices: [] });
    const graph = net(40, 30).made();
    expect(chooseAttention(graph, { ...TARGET, always: "table" })).toEqual({ graph, choices: [] });
  });

  test("of one table for two: each goes its own way, and the table with the last", () => {
    const own = new Net();
    const [q, k] = [own.input("q", [1, 64, 4]), own.input("k", [1, 4, 64])];
    const table = own.binary("div", own.matmul(q, k), own.constant(64));
    own.output("there", own.matmul(table, own.input("v", [1, 64, 4])));
    const back = own.add("permute", [table], { order: [0, 2, 1] });
    own.output("back", own.matmul(back, own.input("w", [1, 64, 4])));
    const graph = own.graph();
    const { graph: made, choices } = chooseAttention(graph, TARGET);
    expect(choices).toHaveLength(2);
    expect(largest(made)).toBeLessThan(64 * 64);
    const [got, want] = [made, graph].map((one) => evaluateGraph(one, valuesOf(graph), new Map()));
    for (const output of [0, 1])
      assertClose(got?.[output] ?? [], want?.[output] ?? [Number.NaN], `output ${output}`, 1e-12);
  });

  test("a table that something else reads stays, and is not made twice as dear", () => {
    const own = new Net();
    const [q, k] = [own.input("q", [1, 8, 5]), own.input("k", [1, 5, 8])];
    const table = own.matmul(q, k);
    own.output("y", own.matmul(table, own.input("v", [1, 8, 5]))).output("table", table);
    expect(chooseAttention(own.graph(), TARGET).choices).toEqual([]);
  });
});

test.each([
  'STIA(pair="dot")',
  'STIA(pair="dot", heads=2, scale=true)',
  'STIA(pair="dot", affinity="shared", gate="scalar0")',
  'STIA(pair="dot", value="self", pool="conv-pool")',
  'NonLocal(pair="dot")',
])("%s gives the same with a table and without, in prediction and in training", (unit) => {
  const model = bound(streams(unit, 8, 2));
  const [inputs, params] = [doubles(namedInputs(model.graph)), doubles(namedParameters(model))];
  const [made, wanted] = ([undefined, "table"] as const).map((form) => {
    const { loops, attention } = stagedOk(lowerModel(model, WASM_DEFAULT, form));
    expect(attention.map(({ form: chosen }) => chosen)).toEqual(form === "table" ? [] : ["regrouped", "regrouped"]);
    return interpret(loops, inputs, params).get("output") ?? new Float64Array();
  });
  assertClose(made ?? [], wanted ?? [Number.NaN], "prediction", 1e-11);
  const stage = plainStage(model);
  const [free, table] = ([undefined, "table"] as const).map((form) =>
    stepsOnOracle(model, stage, 2, undefined, undefined, form),
  );
  if (free === undefined || table === undefined) throw new Error("no steps");
  expect(furthest(free, table)).toBeLessThan(1e-8);
});

test("a map of 224² is compared by dot products, whose tables would take 10 GB each", () => {
  const model = bound(streams('STIA(pair="dot")', 224, 1));
  const made = stagedOk(lowerStep(model, plainStage(model), WASM_DEFAULT));
  expect(made.attention).toMatchObject([
    { form: "regrouped", rows: 50176, bytes: 4 * 50176 ** 2 },
    { form: "regrouped" },
  ]);
  const options = { target: WASM_DEFAULT, sizes: new Map<string, number>(), seed: 1 };
  const { program } = stagedOk(compileStep(model, plainStage(model), options));
  expect(memoryUse(program).activations).toBeLessThan(128 * 2 ** 20);
});
