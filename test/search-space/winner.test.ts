/**
 * Candidates one by one: the model and recipe to train, and the ordinary source that says the same.
 */
import { describe, expect, test } from "vitest";
import { graphHash } from "../../compiler/graph/hash.ts";
import type { Resolve } from "../../compiler/model.ts";
import { elaborateRecipe } from "../../compiler/recipe/elaborate.ts";
import type { Recipe } from "../../compiler/recipe/recipe.ts";
import { candidateOf, elaborateSearch, type SearchOptions, winnerSource } from "../../compiler/search/elaborate.ts";
import type { Candidate } from "../../compiler/search/search.ts";
import { renderDiagnostics } from "../../grammar/render.ts";
import type { Source } from "../../grammar/source.ts";
import { openEntry } from "../../runtime/cli/sources.ts";
import { resolveWith } from "../elaborate/programs.ts";
import { NET, sourceOf, tiny } from "./programs.ts";

/** What a recipe says, apart from what it and its model are called. */
const said = (recipe: Recipe | undefined): unknown => ({ ...recipe, name: "", model: "" });

/** A winner's text makes the model and recipe of its candidate. */
function sameAgain(
  source: Source,
  resolve: Resolve,
  { levels, label }: Candidate,
  options: SearchOptions = {},
): string {
  const given = { ...options, levels, folder: "clips" };
  const one = candidateOf(source, resolve, given);
  expect(renderDiagnostics(one.diagnostics), label).toBe("");
  const { text = "", diagnostics } = winnerSource(source, resolve, given);
  expect(renderDiagnostics(diagnostics), label).toBe("");
  const again = elaborateRecipe({ path: source.path, text }, resolve, { folder: "clips" });
  expect(renderDiagnostics(again.diagnostics), text).toBe("");
  if (one.model === undefined || again.model === undefined) throw new Error("there is no model");
  expect(graphHash(again.model.graph), text).toBe(graphHash(one.model.graph));
  expect(said(again.recipe), text).toEqual(said(one.recipe));
  return text;
}

const SEARCHES = {
  "grafts at chosen and other positions": `choose spots in subsets({@conv2, @conv3})
    choose unit in {SE(reduction={2, 4}), none}
    choose lr in {0.1, 0.01}
    model = ${tiny("with STIA at spots with unit at conv1, spots")}
    recipe = Train(lr=lr, epochs=3)`,
  "a choice before the others in a list of positions": `choose spot in {@conv3, @conv2, none}
    model = ${tiny("with NonLocal(reduction=1) at before spot, conv3")}
    recipe = Train`,
  "sizes, sums and names of earlier choices": `choose w in step(4..8, 4)
    choose r in {2, 4}
    choose unit in {STIA(reduction=r), none}
    model = ${tiny("with unit at conv2", "(width=2 * w)")}
    recipe = Train(lr=w * 0.001)`,
  "the network itself": `choose net in {Tiny(width=4), Tiny(width={8, 12})}
    choose how in {Train(lr={0.1, 0.2}), Train}
    model = net ×2 over a: f32[N, 3, 8, 8], b: f32[N, 4, 8, 8]
    recipe = how`,
  "no recipe named": `choose spots in subsets({@conv2})
    model = ${tiny("with STIA at spots")}`,
} as const;

describe("every candidate, written as a source", () => {
  test.each(Object.entries(SEARCHES))("%s", (_, body) => {
    const source = sourceOf(`// A file.\n${NET}\n// About the search.\nsearch S {\n${body}\n} // Its end.\n`);
    const resolve = resolveWith({});
    const { search, diagnostics } = elaborateSearch(source, resolve);
    expect(diagnostics).toEqual([]);
    expect(search?.space.candidates.length).toBeGreaterThan(1);
    for (const each of search?.space.candidates ?? []) {
      const text = sameAgain(source, resolve, each);
      expect(text).toMatch(/^\/\/ A file\./);
      expect(text).not.toMatch(/search S|About|Its end/);
    }
  });

  test.each([
    ["examples/placement.net", undefined],
    ["examples/search.net", "Ablation"],
    ["examples/search.net", "Placement"],
    ["examples/search.net", "Stages"],
  ])("%s %s", (file, name) => {
    const { source, resolve } = openEntry(file);
    const options = name === undefined ? {} : { search: name };
    const { search } = elaborateSearch(source, resolve, options);
    const { candidates = [], none, all } = search?.space ?? {};
    const few = candidates.length <= 8 ? candidates : [none, all, 5, 7].flatMap((i) => candidates[i ?? -1] ?? []);
    expect(few.length).toBeGreaterThan(3);
    for (const each of few) sameAgain(source, resolve, each, options);
  });

  test("parameters of the search are written out", () => {
    const source = sourceOf(
      `${NET}search S(base: block = Tiny, deep: int = 2) {\n  choose lr in {0.1, 0.2}\n  model = base(width=2 * deep) ×2 over a: f32[N, 3, 8, 8], b: f32[N, 3, 8, 8]\n  recipe = Train(lr=lr)\n}\n`,
    );
    const options = { args: new Map([["deep", "1 + 2"]]) };
    const { search } = elaborateSearch(source, resolveWith({}), options);
    const [first] = search?.space.candidates ?? [];
    if (first === undefined) throw new Error("there is no candidate");
    expect(sameAgain(source, resolveWith({}), first, options)).toContain("Tiny(width=2 * (1 + 2)) ×2");
  });

  test("a recipe of another file comes with what it names there", () => {
    const files = {
      "train.net": `const LABELS = ["calm", "cry"]\nconst RATE = 0.3\nmodel Other(x: f32[N, 4]) -> f32[N, 2] = Linear(2)\nrecipe Train(epochs: int, lr: float = RATE) for Other {\n  data { source = Clips("clips", labels=LABELS) }\n  optimizer = SGD(lr=lr)\n  epochs = epochs\n}\n`,
    };
    const net = NET.slice(0, NET.indexOf("recipe Train"));
    const source = sourceOf(
      `import { Train } from "./train.net"\n${net}search S {\n  choose spots in subsets({@conv2})\n  model = ${tiny("with STIA at spots")}\n  recipe = Train(epochs=4)\n}\n`,
    );
    const resolve = resolveWith(files);
    const { search, diagnostics } = elaborateSearch(source, resolve);
    expect(renderDiagnostics(diagnostics)).toBe("");
    for (const each of search?.space.candidates ?? []) {
      const text = sameAgain(source, resolve, each);
      expect(text).toContain('import { RATE, LABELS } from "./train.net"');
    }
    const [first] = search?.space.candidates ?? [];
    const { text } = winnerSource(source, resolve, {
      levels: first?.levels ?? [],
      importPath: (path) => `../there/${path.slice(2)}`,
    });
    expect(text?.match(/from ".*"/g)).toEqual(['from "../there/train.net"', 'from "../there/train.net"']);
    expect(text).toContain('Clips("../there/clips", labels=LABELS)');
  });

  test("a bare headline stays a model, and names that are taken are not taken again", () => {
    const source = sourceOf(
      `${NET}model SWinner = ${tiny("")}\nrecipe SRecipe for Headline {}\nsearch S {\n  choose spots in subsets({@conv2})\n  model = ${tiny("with STIA at spots")}\n  recipe = Train\n}\n${tiny("")}\n`,
    );
    const { search, diagnostics } = elaborateSearch(source, resolveWith({}));
    expect(renderDiagnostics(diagnostics)).toBe("");
    for (const each of search?.space.candidates ?? []) {
      const text = sameAgain(source, resolveWith({}), each);
      expect(text).toContain("model Headline = ");
      expect(text).toContain("model SWinner2 = ");
      expect(text).toContain("recipe SRecipe2(");
    }
  });
});

describe("one candidate", () => {
  const { source, resolve } = openEntry("examples/placement.net");

  test("is made alone, in a moment", () => {
    const levels = [1, 1, 1];
    candidateOf(source, resolve, { levels, folder: "clips" });
    const begun = process.cpuUsage();
    const { model, recipe, from } = candidateOf(source, resolve, { levels, folder: "clips" });
    const { user, system } = process.cpuUsage(begun);
    expect((user + system) / 1e6).toBeLessThan(0.5);
    expect(model?.units).toHaveLength(3);
    expect(recipe?.stages[0]?.epochs).toBe(12);
    expect(from?.path).toMatch(/placement\.net$/);
  });

  test("needs its data when a training is to begin", () => {
    const nowhere = { ...source, text: source.text.replace(/^ *source .*$/m, "") };
    const { diagnostics } = candidateOf(nowhere, resolve, { levels: [0, 0, 0] });
    expect(diagnostics.map(({ code }) => code)).toEqual(["E0708"]);
  });

  test.each([[[1, 1]], [[1, 1, 2]], [[0, 0, 0, 0]]])("of another space is refused: %s", (levels) => {
    const { model, diagnostics } = candidateOf(source, resolve, { levels, folder: "clips" });
    expect(model).toBeUndefined();
    expect(diagnostics.map(({ code, message }) => `${code} ${message}`)).toEqual([
      "E0802 this candidate is not of this space",
    ]);
  });
});

test("a search names the files that it is made of, its own first", () => {
  const { source, resolve } = openEntry("examples/search.net");
  const { sources } = elaborateSearch(source, resolve, { search: "Ablation" });
  expect(sources.map(({ path }) => path.replace(/^.*\//, ""))).toEqual(["search.net", "neonatal_pain.net"]);
});
