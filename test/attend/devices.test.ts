/**
 * Attention without its table on every device: the oracle against the table in f64, WASM and SwiftShader against the
 * oracle; the result, the logarithms of the rows and all three gradients, in sizes that no tile divides.
 */
import { describe, expect, it } from "vitest";
import { interpret } from "../../compiler/loop/interp.ts";
import { lowerGraph } from "../../compiler/loop/lower.ts";
import { verifyLoops } from "../../compiler/loop/verify.ts";
import { checkOn } from "../gradient/devices.ts";
import { evaluateGraph } from "../graph/evaluate.ts";
import { errorsOf } from "../tools/compare.ts";
import { attentionNet, attentionValues, type Sizes } from "./nets.ts";

const CASES: readonly (readonly [name: string, sizes: Sizes, scale: number, spread: number])[] = [
  ["one of everything", [1, 1, 1, 1, 1], 1, 1],
  ["one key", [2, 7, 1, 3, 4], 1, 1],
  ["one row", [2, 1, 75, 3, 5], 1, 1],
  ["several tables, several blocks of keys", [3, 101, 131, 8, 8], 1, 1],
  ["wider than deep", [1, 65, 67, 5, 33], 0.5, 1],
  ["deeper than wide", [2, 33, 200, 17, 2], 0.25, 1],
  ["depth and width 1", [2, 50, 70, 1, 1], 2, 1],
  ["tiles exactly", [1, 96, 128, 16, 16], 1, 1],
  ["sharp rows: scores up to some hundred", [1, 40, 150, 8, 8], 1, 100],
  ["extreme scores: weights of 0 and 1", [1, 20, 90, 4, 4], 1000, 100],
];

describe.each(CASES)("%s", { timeout: 120_000 }, (_, sizes, scale, spread) => {
  const values = attentionValues(sizes, { spread });
  const graph = attentionNet("attend", sizes, scale);
  const table = attentionNet("table", sizes, scale);
  const outputs = evaluateGraph(table, values.inputs, values.params);
  const wanted = new Map(table.outputs.map(({ name }, i) => [name, outputs[i] ?? new Float64Array()]));
  it("the oracle agrees with the table", () => {
    for (const fuse of [false, true]) {
      const loops = lowerGraph(graph, { panelWidth: 0, maxBufferBytes: 2 ** 31, fuse });
      expect(verifyLoops(loops)).toEqual([]);
      const got = interpret(loops, values.inputs, values.params);
      for (const [name, want] of wanted) {
        const size = Math.max(1, ...want.map(Math.abs));
        const { max } = errorsOf(Array.from(got.get(name) ?? []), want);
        expect((max * Math.max(...want.map(Math.abs))) / size, name).toBeLessThan(1e-9);
      }
    }
  });
  it.each(["wasm", "webgpu"] as const)("on %s", async (device) => {
    await checkOn(device, graph, values, { tolerance: 1e-4 });
  });
});
