/** The super-network of a search: with the gates of a candidate it computes what the candidate does. */
import { describe, expect, it } from "vitest";
import { WASM_DEFAULT } from "../../compiler/capability.ts";
import { bindModel, compileStatistics } from "../../compiler/compile.ts";
import type { Model } from "../../compiler/model.ts";
import { superNetwork } from "../../compiler/search/elaborate.ts";
import type { Search } from "../../compiler/search/search.ts";
import { openWasm } from "../../runtime/engine/wasm/runner.ts";
import { resolveWith } from "../elaborate/programs.ts";
import { assertClose, errorsOf } from "../tools/compare.ts";
import { namedValues } from "../tools/named-values.ts";
import { namedInputs, onOracle, programOf, stagedOk, weightsFrom } from "../tools/nets.ts";
import { candidate, elaborateText, labelsOf, made, searchIn, searchOf, sourceOf, tiny } from "./programs.ts";

const GATES = "step.gates";
const SIZES = new Map([["N", 2]]);

function gatedOf(text: string, { space }: Search): { readonly model: Model; readonly gates: readonly Float32Array[] } {
  const points = space.candidates.map(({ levels }) => levels);
  const { made, diagnostics } = superNetwork(sourceOf(text), resolveWith({}), { points });
  expect(diagnostics).toEqual([]);
  if (made === undefined) throw new Error("no super-network");
  return { model: stagedOk(bindModel(made.model, SIZES)), gates: made.gates };
}

const parametersOf = ({ parameters }: Model, named: (path: string) => string = (path) => path) =>
  new Map(parameters.map(({ path, node }) => [path, namedValues(named(path), node.shape.map(Number))]));

/** Logits of every candidate, of itself and of the super-network; `renamed` is what the latter calls its parameters. */
async function both(
  lines: string,
  renamed: (path: string, label: string) => string = (path) => path,
): Promise<{ readonly search: Search; readonly own: ReadonlyMap<string, ArrayLike<number>> }> {
  const text = searchIn(lines);
  const search = searchOf(lines);
  const { model, gates } = gatedOf(text, search);
  const parameters = parametersOf(model);
  const inputs = namedInputs(model.graph);
  const runner = await openWasm(programOf(model, WASM_DEFAULT, 1));
  await runner.load(weightsFrom(parameters));
  for (const [name, values] of inputs) if (name !== GATES) runner.write(name, values);
  const own = new Map<string, ArrayLike<number>>();
  for (const [index, each] of search.space.candidates.entries()) {
    const { model: alone } = made(text, each);
    if (alone === undefined) throw new Error(`${each.label} is no model`);
    const bound = stagedOk(bindModel(alone, SIZES));
    const values = parametersOf(bound, (path) => renamed(path, each.label));
    for (const path of values.keys()) expect(parameters.has(renamed(path, each.label)), path).toBe(true);
    const [wanted] = onOracle(bound, namedInputs(bound.graph), values).values();
    const open = new Map([...inputs, [GATES, gates[index] ?? new Float32Array()]]);
    const [oracle] = onOracle(model, open, parameters).values();
    if (wanted === undefined || oracle === undefined) throw new Error("no logits");
    expect(errorsOf(oracle, wanted).max, each.label).toBeLessThan(1e-12);
    runner.write(GATES, gates[index] ?? new Float32Array());
    await runner.run();
    assertClose(await runner.read("output"), wanted, each.label);
    own.set(each.label, wanted);
  }
  runner.dispose();
  // Candidates differ, or agreement would say nothing.
  expect(new Set([...own.values()].map((logits) => Array.from(logits, (x) => x.toFixed(6)).join(" "))).size).toBe(
    own.size,
  );
  return { search, own };
}

describe("with the gates of a candidate a super-network gives its logits", () => {
  it("where a unit goes to any positions", async () => {
    const { search } = await both(`choose spots in subsets(@conv1..@conv3)
      model = ${tiny("with STIA at spots")}`);
    expect(labelsOf(search)).toHaveLength(8);
  });

  it("where one of several units goes to a position, and others follow it there", async () => {
    const { search } = await both(
      `choose joint in {STIA(direction={"both", "to_temporal"}), none}
      choose gate in {SE(reduction=2), none}
      choose spots in subsets({@conv1, @conv3})
      model = ${tiny("with joint at spots with gate at conv1")}`,
      // The second STIA at a position is the one of one direction.
      (path, label) => (label.includes('"to_temporal"') ? path.replace(/^(stia_conv\d)\./, "$1_2.") : path),
    );
    expect(search.space.candidates.length).toBeGreaterThan(12);
  });
});

describe("statistics of batch norms", () => {
  it("are those of the batch, whatever the running ones were", async () => {
    const lines = `choose spots in subsets({@conv2})
      model = ${tiny("with STIA at spots")}`;
    const { model, gates } = gatedOf(searchIn(lines), searchOf(lines));
    const program = stagedOk(compileStatistics(model, { target: WASM_DEFAULT, sizes: SIZES, seed: 1 }));
    const paths = program.state.map(({ path }) => path).sort();
    expect(paths).toEqual(model.parameters.flatMap(({ path, kind }) => (kind === "state" ? [path] : [])).sort());
    const run = async (shift: number) => {
      const parameters = parametersOf(model);
      for (const path of paths)
        parameters.set(
          path,
          (parameters.get(path) ?? new Float32Array()).map((x) => x + shift),
        );
      const runner = await openWasm(program);
      await runner.load(weightsFrom(parameters));
      for (const [name, values] of namedInputs(model.graph)) runner.write(name, values);
      runner.write(GATES, gates[0] ?? new Float32Array());
      await runner.run();
      const found = await Promise.all(paths.map((path) => runner.readState(path)));
      runner.dispose();
      return found.map((values) => Array.from(values));
    };
    const first = await run(0);
    expect(first.flat().every(Number.isFinite)).toBe(true);
    expect(first.flat().some((value) => value !== 0)).toBe(true);
    expect(await run(3)).toEqual(first);
  });
});

describe("a search whose candidates differ in more than grafts has none", () => {
  const code = (lines: string): readonly string[] =>
    elaborateText(searchIn(lines)).diagnostics.map(({ code, message }) => `${code}: ${message}`);
  const model = tiny("with STIA at spots");

  it("and says why", () => {
    expect(
      code(`choose spots in subsets(@conv1..@conv2)
      choose lr in {0.1, 0.01}
      model = ${model}
      recipe = Train(lr=lr)
      prior = SuperNetwork`),
    ).toEqual(["E0802: `lr` is no graft, and a super-network has one of everything else"]);
    expect(
      code(`choose width in {8, 16}
      model = ${tiny("", "(width=width)")}
      prior = SuperNetwork`),
    ).toEqual(["E0802: this search chooses no grafts, so there is nothing to put a gate before"]);
    expect(
      code(`choose spots in subsets(@conv1..@conv2)
      choose width in {8, 16}
      model = ${tiny("with STIA at spots", "(width=width)")}
      prior = SuperNetwork(epochs=4)`),
    ).toEqual(["E0802: `width` is no graft, and a super-network has one of everything else"]);
    expect(
      code(`choose joint in {STIA, none}
      model = ${tiny("with joint at conv1..conv2")}
      prior = SuperNetwork`),
    ).toEqual(["E0802: a super-network needs a headline with grafts at single positions"]);
    expect(
      code(`choose spots in subsets(@conv1..@conv2)
      model = ${model}
      method = Random
      prior = SuperNetwork`),
    ).toEqual(["E0802: only the Gaussian process takes a prior"]);
  });

  it("while one that can be is part of the search", () => {
    const lines = `choose spots in subsets(@conv1..@conv2)
      model = ${model}
      prior = `;
    expect(searchOf(`${lines}SuperNetwork(epochs=4, scores=20)`).prior).toEqual({ epochs: 4, scores: 20 });
    expect(searchOf(`${lines}SuperNetwork`).prior).toEqual({ epochs: 18, scores: 256 });
    expect(searchOf(`${lines}none`)).not.toHaveProperty("prior");
    expect(candidate(searchOf(`${lines}none`), "none").index).toBe(0);
  });
});
