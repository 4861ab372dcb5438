/**
 * The attention form: what its outputs say is what a table written out in plain loops says, for every way that the
 * library makes a table, and the model's own outputs stay as they are.
 */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { chooseAttention } from "../../compiler/graph/attend.ts";
import { type AttentionMap, attentionForm } from "../../compiler/graph/attention.ts";
import type { GraphNode } from "../../compiler/graph/graph.ts";
import { verifyGraph } from "../../compiler/graph/verify.ts";
import type { Model } from "../../compiler/model.ts";
import {
  bound as boundModel,
  DEVICES,
  doubles,
  exampleModel,
  modelOf,
  namedInputs,
  namedParameters,
  onOracle,
} from "../tools/nets.ts";
import { evaluateGraph } from "./evaluate.ts";

const N = 2;

/** Two small streams of `size`, joined as `clauses` say. */
function net(clauses: string, size: readonly [number, number] = [10, 14]): Model {
  const [h, w] = size;
  return modelOf(
    `block Net()(x: [N, C, H, W]) -> [N, 3]
default over x: f32[N, 3, ${h}, ${w}]
  = Conv(8) @conv1 -> ReLU -> Conv(8, stride=2) @conv2 -> ReLU @relu2 -> GlobalAvgPool -> Linear(3) @fc
model Two = Net() ×2 over spatial: f32[N, 3, ${h}, ${w}], temporal: f32[N, 4, ${h}, ${w}]
  ${clauses} fuse Average`,
    { N },
  );
}

/** Values of the form's outputs by name, from the graph's plain evaluator. */
function outputsOf(model: Model, form: ReturnType<typeof attentionForm>): Map<string, Float64Array> {
  const values = evaluateGraph(form.graph, doubles(namedInputs(model.graph)), doubles(namedParameters(model)));
  return new Map(form.graph.outputs.map(({ name }, i) => [name, values[i] ?? new Float64Array()]));
}

/** The table itself, [N·heads, P, K], as an output of a graph of its own. */
function tableValues(model: Model, node: GraphNode): Float64Array {
  const graph = { ...model.graph, outputs: [{ name: "table", node }] };
  const [values] = evaluateGraph(graph, doubles(namedInputs(graph)), doubles(namedParameters(model)));
  return values ?? new Float64Array();
}

/** What the outputs should be, by loops over the whole table. */
function expected(map: AttentionMap, table: Float64Array): Record<"received" | "entropy" | "rows", number[]> {
  const [P, K] = [map.queries.size[0] * map.queries.size[1], map.keys.size[0] * map.keys.size[1]];
  const at = (n: number, i: number, j: number): readonly number[] =>
    Array.from({ length: map.heads }, (_, h) => table[((n * map.heads + h) * P + i) * K + j] ?? Number.NaN);
  const average = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
  const examples = Array.from({ length: N }, (_, n) => n);
  const [queries, keys] = [P, K].map((count) => Array.from({ length: count }, (_, i) => i));
  return {
    received: examples.flatMap((n) => (keys ?? []).map((j) => average((queries ?? []).flatMap((i) => at(n, i, j))))),
    rows: examples.flatMap((n) => map.places.flatMap((i) => (keys ?? []).map((j) => average(at(n, i, j))))),
    entropy: examples.flatMap((n) =>
      (queries ?? []).map((i) =>
        average(
          Array.from({ length: map.heads }, (_, h) =>
            (keys ?? []).reduce((sum, j) => {
              const weight = at(n, i, j)[h] ?? 0;
              return weight > 0 ? sum - weight * Math.log(weight) : sum;
            }, 0),
          ),
        ),
      ),
    ),
  };
}

function expectClose(got: ArrayLike<number> | undefined, want: readonly number[], tolerance: number): void {
  expect(got?.length).toBe(want.length);
  const worst = Math.max(...want.map((w, i) => Math.abs((got?.[i] ?? Number.NaN) - w)));
  expect(worst).toBeLessThan(tolerance);
}

const isTable = (node: GraphNode): boolean =>
  node.shape.length === 3 && (node.op === "softmax" || (node.op === "binary" && node.attrs.fn === "div"));

describe("the outputs", () => {
  test.each([
    ["STIA"],
    ["STIA(scale=true)"],
    ['STIA(pool="conv-pool")'],
    ['STIA(pool="pool-conv")'],
    ["STIA(heads=2)"],
    ['STIA(affinity="shared")'],
    ["STIA(tie=true)"],
    ['STIA(value="self", gate="scalar0")'],
    ['STIA(pair="gaussian", gate="conv0")'],
    ['STIA(pair="dot")'],
    ['STIA(pair="concat", heads=2)'],
    ['STIA(direction="to_temporal")'],
  ])("of %s are those of the table", (unit) => {
    const model = net(`with ${unit} at conv2`);
    const form = attentionForm(model, { side: 3 });
    expect(verifyGraph(form.graph)).toEqual([]);
    const outputs = outputsOf(model, form);
    const tables = model.graph.nodes.filter(isTable);
    const oneWay = unit.includes("direction");
    expect(form.maps.map(({ name }) => name)).toEqual(
      oneWay ? ["stia_conv2.to_temporal"] : ["stia_conv2.to_spatial", "stia_conv2.to_temporal"],
    );
    expect(tables).toHaveLength(form.maps.length);
    for (const [i, map] of form.maps.entries()) {
      const toSpatial = map.name.endsWith("to_spatial");
      const size = unit.includes("pool") ? [2, 3] : [5, 7];
      expect(map).toMatchObject({
        unit: "stia_conv2",
        queries: { stream: toSpatial ? "spatial" : "temporal", size: [5, 7], extent: [1, 1] },
        keys: { stream: toSpatial ? "temporal" : "spatial", size },
        heads: unit.includes("heads=2") ? 2 : 1,
        weights: /dot|concat/.test(unit) ? "products" : "softmax",
        // Every other row, every third column, in the middle of what they stand for.
        rows: [2, 2],
        places: [8, 11, 22, 25],
      });
      expect(map.keys.extent).toEqual(unit.includes("pool") ? [4 / 5, 6 / 7] : [1, 1]);
      const table = tables[i];
      if (table === undefined) throw new Error("a map without a table");
      const want = expected(map, tableValues(model, table));
      expectClose(outputs.get(map.outputs.received), want.received, 1e-12);
      expectClose(outputs.get(map.outputs.rows), want.rows, 1e-12);
      if (map.weights === "products") expect(map.outputs.entropy).toBeUndefined();
      else expectClose(outputs.get(map.outputs.entropy ?? ""), want.entropy, 1e-12);
    }
  });

  test.each([
    ["STIA"],
    ["STIA(scale=true)"],
    ['STIA(pool="conv-pool")'],
    ["STIA(heads=2)"],
    ['STIA(affinity="shared")'],
    ['STIA(pair="gaussian", gate="conv0")'],
    ["NonLocal"],
  ])("of %s are the same where a table is too large to be there", (unit) => {
    const model = net(`with ${unit} at conv2`);
    const form = attentionForm(model, { side: 3, tableBytes: 0 });
    expect(verifyGraph(form.graph)).toEqual([]);
    const table = attentionForm(model, { side: 3 });
    expect(form.maps).toEqual(table.maps);
    const [got, want] = [outputsOf(model, form), outputsOf(model, table)];
    expect([...got.keys()]).toEqual([...want.keys()]);
    for (const [name, values] of want) expectClose(got.get(name), [...values], 1e-12);
    // Nothing but the gathering itself reads the tables any more.
    const target = { tableBytes: 0, allBytes: 0, training: false, fasterFrom: Number.POSITIVE_INFINITY };
    const { graph, choices } = chooseAttention(form.graph, target);
    expect(choices.map(({ form: chosen }) => chosen)).toEqual(form.maps.map(() => "attend"));
    const places = form.maps.flatMap((map) => map.places).length / form.maps.length;
    const tables = graph.nodes.filter(({ op }) => op === "softmax");
    expect(tables.map(({ shape }) => shape[1])).toEqual(form.maps.map(() => places));
  });

  test.each(["wasm", "webgpu"] as const)("leave the model's own as they are, on the oracle and on %s", async (name) => {
    const model = net('with STIA(heads=2, pool="conv-pool") at conv1, conv2');
    const form = attentionForm(model);
    const attended = { ...model, graph: form.graph };
    const inputs = namedInputs(model.graph);
    const parameters = namedParameters(model);
    const oracle = onOracle(attended, inputs, parameters);
    expect(form.graph.outputs[0]?.name).toBe("output");
    expectClose(oracle.get("output"), [...(onOracle(model, inputs, parameters).get("output") ?? [])], 1e-12);
    const device = await DEVICES[name](attended, inputs, parameters);
    expect(device.size).toBe(1 + 3 * 4);
    for (const [output, values] of oracle) expectClose(device.get(output), [...values], 1e-4);
  });
});

describe("the tables", () => {
  test("behind another unit belong to the stream that goes on", () => {
    const { maps } = attentionForm(net("with STIA at conv1, conv2 with STIA at conv2"));
    expect(maps.map(({ name, queries, keys }) => [name, queries.stream, keys.stream])).toEqual([
      ["stia_conv1.to_spatial", "spatial", "temporal"],
      ["stia_conv1.to_temporal", "temporal", "spatial"],
      ["stia_conv2.to_spatial", "spatial", "temporal"],
      ["stia_conv2.to_temporal", "temporal", "spatial"],
      ["stia_conv2_2.to_spatial", "spatial", "temporal"],
      ["stia_conv2_2.to_temporal", "temporal", "spatial"],
    ]);
  });

  test("of streams that share weights are told apart", () => {
    const { maps } = attentionForm(net("sharing conv2 with STIA at conv2"));
    expect(maps.map(({ queries, keys }) => [queries.stream, keys.stream])).toEqual([
      ["spatial", "temporal"],
      ["temporal", "spatial"],
    ]);
  });

  test("of a unit within one stream look at that stream", () => {
    const { maps } = attentionForm(net("with NonLocal at conv2"));
    expect(maps.map(({ name, queries, keys }) => [name, queries.stream, keys.stream])).toEqual([
      ["spatial.nonlocal_conv2", "spatial", "spatial"],
      ["temporal.nonlocal_conv2", "temporal", "temporal"],
    ]);
  });

  test("are found in the library's networks, with the gates that start at zero", () => {
    const { maps } = attentionForm(boundModel(exampleModel("stia_named")));
    expect(maps.map(({ name, queries, gate, rows }) => [name, queries.size, gate, rows])).toEqual(
      ["stia_conv3", "stia_conv4"].flatMap((unit) =>
        ["to_spatial", "to_temporal"].map((edge) => [
          `${unit}.${edge}`,
          unit === "stia_conv3" ? [56, 56] : [28, 28],
          `${unit}.${edge}.bn.weight`,
          unit === "stia_conv3" ? [8, 8] : [7, 7],
        ]),
      ),
    );
    const expanded = attentionForm(boundModel(exampleModel("stia_expanded")));
    expect(expanded.maps).toEqual(maps);
  });

  test.each([
    ["STIA", "bn.weight"],
    ['STIA(gate="scalar0")', "gate.weight"],
    ['STIA(gate="conv0")', "out.weight"],
  ])("of %s are let through by %s", (unit, gate) => {
    const { maps } = attentionForm(net(`with ${unit} at conv2`));
    expect(maps.map((map) => map.gate)).toEqual([`stia_conv2.to_spatial.${gate}`, `stia_conv2.to_temporal.${gate}`]);
  });

  test("are none where nothing attends", () => {
    const model = net("with SE(reduction=2) at conv2");
    const { graph, maps } = attentionForm(model);
    expect(maps).toEqual([]);
    expect(graph.outputs.map(({ name }) => name)).toEqual(["output"]);
    const lone = boundModel(exampleModel("transformer"));
    expect(attentionForm(lone).maps).toEqual([]);
    expect(readFileSync("examples/transformer.net", "utf8")).toContain("softmax");
  });
});
