/**
 * What the compiler rearranges must not change what is computed: for every example, fused loops equal unfused ones,
 * packed and split weights equal plain ones, and a folded batch norm equals one that is computed where it stands. In f64,
 * where nothing but the order of additions can differ.
 *
 * The examples are made thin for this, an eighth as many channels and pictures of 32 x 32, with all their layers.
 */
import { readdirSync, readFileSync } from "node:fs";
import { resolve as resolvePath } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { elaborate } from "../../compiler/elaborate/elaborate.ts";
import type { Graph } from "../../compiler/graph/graph.ts";
import { graphHash } from "../../compiler/graph/hash.ts";
import { inferenceRules } from "../../compiler/graph/inference.ts";
import { rewrite } from "../../compiler/graph/rewrite.ts";
import { interpret } from "../../compiler/loop/interp.ts";
import { type LowerOptions, lowerGraph } from "../../compiler/loop/lower.ts";
import type { Model, Resolve } from "../../compiler/model.ts";
import type { Source } from "../../grammar/source.ts";
import { diskResolve } from "../../runtime/cli/sources.ts";
import { assertClose } from "../tools/compare.ts";
import { bound, doubles, namedInputs, namedParameters } from "../tools/nets.ts";

/** Sizes of the examples and of the library's backbones, and what stands for them here. */
const THIN = new Map([
  ["64", "8"],
  ["128", "16"],
  ["256", "32"],
  ["512", "64"],
  ["4096", "64"],
  ["384", "48"], // ViT's tokens, of six heads,
  ["196", "4"], // and how many there are.
  ["224", "32"],
]);

/** Modules that name such sizes. */
const THINNED = new Set(["std/vision", "std/attention"]);

function thin(text: string): string {
  return text.replace(/^assert .*$/gm, "").replace(/(?<![\w.])\d+(?![\w.])/g, (size) => THIN.get(size) ?? size);
}

/** An example as it is, or thin; undefined for one without a model. */
function exampleOf(name: string, change: (text: string) => string): Model | undefined {
  const source: Source = { path: "<test>", text: change(readFileSync(`examples/${name}.net`, "utf8")) };
  const disk = diskResolve(source, resolvePath("examples"));
  const modules = new Map<Source, Source>();
  const resolve: Resolve = (path, from) => {
    const found = disk(path, from);
    if (found === undefined || "error" in found || !THINNED.has(path)) return found;
    const changed = modules.get(found) ?? { path: found.path, text: change(found.text) };
    modules.set(found, changed);
    return changed;
  };
  const { model, diagnostics } = elaborate(source, resolve);
  expect(diagnostics.filter(({ severity }) => severity === "error")).toEqual([]);
  return model && bound(model);
}

/** Small enough as they are. */
const SMALL = new Set(["lenet", "linear", "tiny_stia"]);

const names = readdirSync("examples")
  .filter((file) => file.endsWith(".net"))
  .map((file) => file.slice(0, -".net".length));

const models = names.flatMap((name) => {
  const model = exampleOf(name, SMALL.has(name) ? (text) => text : thin);
  return model === undefined ? [] : [{ name, model, folded: rewrite(model.graph, inferenceRules) }];
});

/** Several examples are one network, once nothing is learned any more. */
const distinct = [...new Map(models.map((each) => [graphHash(each.folded), each])).values()];

test("only searches have no model", () => {
  expect(names.filter((name) => !models.some((known) => known.name === name))).toEqual(["placement", "search"]);
  expect(distinct.length).toBeGreaterThan(5);
});

/** As for a GPU. */
const PLAIN: LowerOptions = { panelWidth: 2 ** 30, maxBufferBytes: 2 ** 27, fuse: true };

describe.each(distinct)("the example $name", ({ model, folded }) => {
  const inputs = doubles(namedInputs(model.graph));
  const parameters = doubles(namedParameters(model));
  const answer = (graph: Graph, options: LowerOptions): ArrayLike<number> => {
    const outputs = [...interpret(lowerGraph(graph, options), inputs, parameters).values()];
    return Float64Array.from(outputs.flatMap((values) => [...values]));
  };
  let wanted: ArrayLike<number>;
  beforeAll(() => {
    wanted = answer(folded, { ...PLAIN, panelWidth: 0, fuse: false });
    expect(new Set(Array.from(wanted)).size).toBeGreaterThan(1);
  });

  test("fused is unfused", () => {
    assertClose(answer(folded, PLAIN), wanted, "fused", 1e-12);
    expect(lowerGraph(folded, PLAIN).run.length).toBeLessThanOrEqual(
      lowerGraph(folded, { ...PLAIN, fuse: false }).run.length,
    );
  });
  test("packed into panels and split by rows is whole and plain", () => {
    assertClose(answer(folded, { panelWidth: 8, maxBufferBytes: 2 ** 15, fuse: true }), wanted, "packed", 1e-12);
  });
  if (model.graph.nodes.some(({ op }) => op === "batch_norm")) {
    test("no batch norm folded is all folded", () => {
      const unfolded = rewrite(
        model.graph,
        inferenceRules.filter(({ name }) => name !== "fold-batch-norm"),
      );
      assertClose(answer(unfolded, PLAIN), wanted, "batch norm by itself", 1e-10);
    });
  }
  test("nothing rewritten is all rewritten", () => {
    assertClose(answer(model.graph, { ...PLAIN, fuse: false }), wanted, "as written", 1e-10);
  });
});
