/**
 * Spaces by example: what they hold, how their members are called, which are joined, refused or left out.
 */
import { describe, expect, test } from "vitest";
import type { Search } from "../../compiler/search/search.ts";
import { candidate, elaborateText, labelsOf, made, searchIn, searchOf, tiny } from "./programs.ts";

const STIA_AT_SPOTS = `model = ${tiny("with STIA at spots")}`;
const rates = (text: string, { space }: Search): readonly (number | undefined)[] =>
  space.candidates.map((each) => made(text, each).recipe?.stages[0]?.rate);

describe("sets", () => {
  test("every subset of a range of positions, in the order of execution", () => {
    const search = searchOf(`choose spots in subsets(@conv1..@conv3)\n${STIA_AT_SPOTS}`);
    expect(labelsOf(search)).toEqual([
      "none",
      "spots={conv1}",
      "spots={conv1, conv2}",
      "spots={conv1, conv2, conv3}",
      "spots={conv1, conv3}",
      "spots={conv2}",
      "spots={conv2, conv3}",
      "spots={conv3}",
    ]);
    expect(search.space.factors.map(({ name, kind }) => `${name} ${kind}`)).toEqual([
      "spots.conv1 member",
      "spots.conv2 member",
      "spots.conv3 member",
    ]);
    expect([search.space.none, search.space.all]).toEqual([0, 3]);
  });

  test("a range of positions beside grafts at positions that are not chosen", () => {
    const search = searchOf(
      `choose spots in subsets(@conv1..@conv2)\nchoose gate in {SE(reduction=2), none}\nchoose r in {2, 4}\nmodel = ${tiny("with STIA at spots with gate at conv3 with SE(reduction=r) at conv1")}`,
    );
    expect(search.space.candidates).toHaveLength(16);
    expect(labelsOf(search)[0]).toBe("none, r=2");
  });

  test("sizes of subsets leave `none` and `all` where they are", () => {
    const search = searchOf(`choose spots in subsets(@conv1..@conv3, size=1)\n${STIA_AT_SPOTS}`);
    expect(search.space.points).toBe(3);
    expect(labelsOf(search)).toEqual([
      "spots={conv1}",
      "spots={conv2}",
      "spots={conv3}",
      "none",
      "spots={conv1, conv2, conv3}",
    ]);
    expect([search.space.none, search.space.all]).toEqual([3, 4]);
  });

  test.each([
    ["{0.1, 0.01}", "category", [0.1, 0.01]],
    ["{0.01, 0.1}", "ordinal", [0.01, 0.1]],
    ["1..3", "ordinal", [1, 2, 3]],
    ["step(0.2..0.6, 0.2)", "ordinal", [0.2, 0.4, 0.6]],
    ["step(1..6, 2)", "ordinal", [1, 3, 5]],
    ["uniform(0.5..1, levels=3)", "ordinal", [0.5, 0.75, 1]],
    ["log(1e-4..1e-2, levels=3)", "ordinal", [0.0001, 0.001, 0.01]],
    ["log(1e-3..1)", "ordinal", [0.001, 0.003162, 0.01, 0.03162, 0.1, 0.3162, 1]],
  ])("numbers in %s", (set, kind, numbers) => {
    const body = `choose lr in ${set}\nmodel = ${tiny("")}\nrecipe = Train(lr=lr)`;
    const search = searchOf(body);
    expect(search.space.factors[0]?.kind).toBe(kind);
    const trained = rates(searchIn(body), search);
    expect(trained).toHaveLength(numbers.length);
    for (const [i, number] of numbers.entries()) expect(trained[i]).toBeCloseTo(number, 12);
    expect([search.space.none, search.space.all]).toEqual([undefined, undefined]);
  });

  test("levels of a logarithmic range are even on its scale", () => {
    const [factor] = searchOf(`choose lr in log(1e-4..1e-2, levels=3)\nmodel = ${tiny("")}\nrecipe = Train(lr=lr)`)
      .space.factors;
    expect(factor?.values?.map((value) => Math.round(value * 1e9) / 1e9)).toEqual([-4, -3, -2]);
  });

  test("a set within a candidate exists only with it", () => {
    const search = searchOf(
      `choose unit in {STIA(reduction={2, 4}), SE(reduction={2, 4, 8}), none}\nmodel = ${tiny("with unit at conv2")}`,
    );
    expect(search.space.points).toBe(6);
    expect(search.space.factors.map(({ name }) => name)).toEqual(["unit", "unit.STIA.reduction", "unit.SE.reduction"]);
    expect(search.space.candidates.map(({ levels }) => levels.join(""))).toEqual([
      "000",
      "110",
      "120",
      "201",
      "202",
      "203",
    ]);
    expect(labelsOf(search)[2]).toBe("unit=STIA(reduction=4)");
  });

  test("what plays no part in a model has its first level, so that one model is written in one way", () => {
    const search = searchOf(
      `choose unit in {STIA(reduction={2, 4}), SE(reduction=2)}\nchoose spots in subsets(@conv1..@conv2)\nchoose lr in {1e-3, 1e-2}\nmodel = ${tiny("with unit at spots")}\nrecipe = Train(lr=lr)`,
    );
    const { factors, candidates, none, modelFactors } = search.space;
    const bare = candidates.filter(({ label }) => label.startsWith("none"));
    expect(bare.map(({ levels }) => levels.slice(0, -1).join(""))).toEqual(["0000", "0000"]);
    expect(bare.map(({ index }) => index)).toContain(none);
    expect(factors).toHaveLength(5);
    expect(modelFactors).toEqual([0, 1, 2, 3]);
    expect(candidates).toHaveLength(2 * (1 + 3 * 3));
  });

  test("two members with one name and one argument have a factor each", () => {
    const { factors, candidates } = searchOf(
      `choose unit in {STIA(reduction={2, 4}), STIA(reduction={2, 4}, direction="to_spatial")}\nmodel = ${tiny("with unit at conv2")}`,
    ).space;
    expect(new Set(factors.map(({ name }) => name)).size).toBe(3);
    expect(candidates).toHaveLength(5);
  });

  test("a member may name an earlier choice", () => {
    const search = searchOf(
      `choose r in {2, 4}\nchoose unit in {STIA(reduction=r), none}\nmodel = ${tiny("with unit at conv2")}`,
    );
    expect(labelsOf(search)).toEqual(["none", "r=2, unit=STIA(reduction=2)", "r=4, unit=STIA(reduction=4)"]);
  });
});

describe("one model is one candidate", () => {
  test("options of a unit that is nowhere make no candidates", () => {
    const search = searchOf(
      `choose spots in subsets({@conv2})\nchoose r in {2, 4}\nmodel = ${tiny("with STIA(reduction=r) at spots")}`,
    );
    expect(search.space.points).toBe(4);
    expect(labelsOf(search)).toEqual(["none", "spots={conv2}, r=2", "spots={conv2}, r=4"]);
  });

  test("what is written differently and is the same", () => {
    const search = searchOf(
      `choose unit in {STIA, STIA(reduction=2), STIA(reduction = 1 + 1), SE(reduction=2)}\nmodel = ${tiny("with unit at conv2")}`,
    );
    expect(labelsOf(search)).toEqual(["unit=STIA", "unit=SE(reduction=2)", "none"]);
  });

  test("two choices that place the same", () => {
    const search = searchOf(
      `choose a in {SE(reduction=2), none}\nchoose b in {SE(reduction=2), none}\nmodel = ${tiny("with a at conv2 with b at conv2")}`,
    );
    expect(labelsOf(search)).toEqual(["none", "b=SE(reduction=2)", "a=SE(reduction=2), b=SE(reduction=2)"]);
  });

  test("recipes are one if their values are, defaults among them", () => {
    const search = searchOf(
      `choose how in {Train, Train(lr=0.01), Train(1e-2, epochs=9), Train(lr=0.1)}\nmodel = ${tiny("")}\nrecipe = how`,
    );
    expect(labelsOf(search)).toEqual(["how=Train", "how=Train(lr=0.1)"]);
  });

  test("hashes do not depend on the order of choices, or on what else there is to choose", () => {
    const one = searchOf(
      `choose spots in subsets(@conv1..@conv2)\nchoose lr in {0.1, 0.2}\n${STIA_AT_SPOTS}\nrecipe = Train(lr=lr)`,
    );
    const other = searchOf(
      `choose lr in {0.2}\nchoose spots in subsets({@conv2, @conv3})\n${STIA_AT_SPOTS}\nrecipe = Train(lr=lr)`,
    );
    expect(candidate(one, "spots={conv2}, lr=0.2").hash).toBe(candidate(other, "lr=0.2, spots={conv2}").hash);
    expect(candidate(one, "spots={conv2}, lr=0.1").hash).not.toBe(candidate(one, "spots={conv2}, lr=0.2").hash);
  });
});

describe("none and all", () => {
  test.each([
    ["a unit that no member leaves out", "choose unit in {STIA, SE(reduction=2)}", "with unit at conv2", "unit=STIA"],
    ["one position of several", "choose spot in {@conv1, @conv2}", "with STIA at spot", "spot=conv1"],
    ["one position, or none", "choose spot in {@conv1, none}", "with STIA at spot", "spot=conv1"],
    [
      "a unit of a condition",
      "choose mode in {1, 2}\nchoose unit in {STIA} when mode == 2",
      "with unit at conv2",
      "unit=STIA",
    ],
  ])("%s", (_, choices, grafts, all) => {
    const search = searchOf(`${choices}\nmodel = ${tiny(grafts)}`);
    const { candidates, none, all: most } = search.space;
    expect(candidates[most ?? -1]?.label).toBe(all);
    expect(candidates[none ?? -1]).toEqual(candidate(search, "none"));
    expect(candidate(search, "none").costs.params).toBe(2892);
  });

  test("with a graft that is not chosen, `none` still has it", () => {
    const search = searchOf(
      `choose spots in subsets({@conv2})\nmodel = ${tiny("with SE(reduction=2) at conv1, spots")}`,
    );
    expect(search.space.candidates.map(({ costs }) => costs.params)).toEqual([3044, 3196]);
    expect(labelsOf(search)).toEqual(["none", "spots={conv2}"]);
  });
});

describe("conditions", () => {
  test("nothing varies within what is absent", () => {
    const search = searchOf(
      `choose unit in {STIA, none}\nchoose spots in subsets(@conv1..@conv3, size=1..2) when unit != none\nchoose lr in {1, 2}\nmodel = ${tiny("with unit at spots")}\nrecipe = Train(lr=lr)`,
    );
    // Six subsets with the unit, and one point without; each with two rates. All positions come on top.
    expect(search.space.points).toBe(14);
    expect(search.space.candidates).toHaveLength(15);
  });

  test("on how many are chosen", () => {
    const search = searchOf(
      `choose spots in subsets(@conv1..@conv2)\nchoose unit in {STIA, SE(reduction=2)} when count(spots) == 2\nmodel = ${tiny("with unit at spots")}`,
    );
    expect(labelsOf(search)).toEqual([
      "none",
      "spots={conv1, conv2}, unit=STIA",
      "spots={conv1, conv2}, unit=SE(reduction=2)",
    ]);
  });
});

describe("requirements", () => {
  const body = `choose spots in subsets(@conv1..@conv3)\n${STIA_AT_SPOTS}`;
  const refusals = (more: string): readonly (string | undefined)[] =>
    searchOf(`${body}\n${more}`).space.candidates.map(({ refused }) => refused);

  test("over costs, compared with those without and with all attention", () => {
    const refused = refusals("require params(model) <= 1.15 * params(none), flops(model) < flops(all)");
    expect(refused.flatMap((reason, i) => (reason === undefined ? [i] : []))).toEqual([0, 1, 5, 7]);
    expect(refused[2]).toBe("`params(model) <= 1.15 * params(none)` does not hold: 3,548 and 3,325.8");
    expect(refused[3]).toMatch(/^`params\(model\) .*; `flops\(model\) < flops\(all\)` does not hold/);
  });

  test("limits are the same, shorter", () => {
    expect(refusals("limit { params = 3.3K }")).toEqual(refusals("limit { params = 3300 }"));
    expect(refusals("limit { params = 3300 }").filter((reason) => reason === undefined)).toHaveLength(4);
    expect(refusals("limit { memory = 20KiB }")[3]).toMatch(/^memory [\d,]+ is above the limit 20,480$/);
  });

  test("over what is chosen", () => {
    expect(refusals("require count(spots) <= 1").filter((reason) => reason === undefined)).toHaveLength(4);
  });

  test("stand in the search as they are written", () => {
    const search = searchOf(`${body}\nrequire count(spots)  <=  2\nlimit { flops = 1G }`);
    expect(search.requirements).toEqual(["count(spots) <= 2", "flops <= 1,000,000,000"]);
    const timed = searchOf(`${body}\nlimit { latency = 12ms }`);
    expect(timed.latencyLimit).toBeCloseTo(12, 9);
    expect(timed.requirements).toEqual(["latency <= 12 ms"]);
  });
});

describe("points that are no models", () => {
  test("are left out, and why is said", () => {
    const { search, diagnostics } = elaborateText(
      searchIn(
        `choose r in {2, 3, 4}\nchoose spots in subsets({@conv1, @conv2})\nmodel = ${tiny("with STIA(reduction=r) at spots")}`,
      ),
    );
    expect(search?.space.points).toBe(12);
    expect(search?.space.candidates).toHaveLength(7);
    expect(search?.space.unsound?.map(({ label }) => label)).toEqual([
      "r=3, spots={conv1}",
      "r=3, spots={conv1, conv2}",
      "r=3, spots={conv2}",
    ]);
    expect(search?.space.unsound?.[0]?.reason).toBe("E0311: `STIA` requires C % reduction == 0");
    expect(diagnostics.map(({ code }) => code)).toEqual(["W0802"]);
  });

  test("or that their recipe cannot train", () => {
    const { search, diagnostics } = elaborateText(
      searchIn(`choose lr in {0.1, -1}\nmodel = ${tiny("")}\nrecipe = Train(lr=lr)`),
    );
    expect(search && labelsOf(search)).toEqual(["lr=0.1"]);
    expect(diagnostics.map(({ code }) => code)).toEqual(["W0802"]);
  });
});

describe("points that are trained in any case", () => {
  const body = `choose unit in {STIA(reduction={2, 4}), none}\nchoose spots in subsets(@conv1..@conv3) when unit != none\nchoose lr in {0.1, 0.01}\nmodel = ${tiny("with unit at spots")}\nrecipe = Train(lr=lr)`;
  test.each([
    ["start(unit=STIA, spots=[@conv2], lr=0.01)", "unit=STIA(reduction=2), spots={conv2}, lr=0.01"],
    ["start(unit=STIA(reduction=4), spots=[@conv3, @conv1])", "unit=STIA(reduction=4), spots={conv1, conv3}, lr=0.1"],
    ["start(unit=STIA(reduction = 4), spots=@conv3)", "unit=STIA(reduction=4), spots={conv3}, lr=0.1"],
    ["start(lr=0.01)", "none, lr=0.01"],
    ["start(unit=none)", "none, lr=0.1"],
  ])("%s", (start, label) => {
    const search = searchOf(`${body}\nbaseline = [${start}, random]`);
    expect(search.starts.map((index) => search.space.candidates[index]?.label)).toEqual([label]);
    expect(search.randomBaseline).toBe(true);
  });
});

describe("parameters of a search", () => {
  const text = `search S(base: block = Tiny, most: int = 2, rate: float = 0.1) {
  choose spots in subsets(@conv1..@conv3, size=0..most)
  choose lr in {rate, 0.5}
  model = base ×2 over a: f32[N, 3, 8, 8], b: f32[N, 3, 8, 8] with STIA at spots
  recipe = Train(lr=lr)
  spend = 4 * most
}`;
  const run = (args: Readonly<Record<string, string>>): Search => {
    const { search, diagnostics } = elaborateText(searchIn("", "").replace(/search S[^]*/, text), {
      args: new Map(Object.entries(args)),
    });
    expect(diagnostics).toEqual([]);
    if (search === undefined) throw new Error("there is no search");
    return search;
  };

  test("have defaults", () => {
    const search = run({});
    expect([search.space.points, search.spend]).toEqual([14, 8]);
  });

  test("and can be given, as the source would write them", () => {
    const search = run({ base: "Tiny(width=4, classes=2)", most: "1", rate: "0.25" });
    expect([search.space.points, search.spend]).toEqual([8, 4]);
    expect(candidate(search, "none, lr=0.25").costs.params).toBeLessThan(1000);
  });
});

describe("what else a search says", () => {
  test("defaults", () => {
    const { method, spend, replicates, rungs, epochs, seed, objectives } = searchOf(
      `choose spots in subsets({@conv2})\n${STIA_AT_SPOTS}`,
    );
    expect({ method, spend, replicates, rungs, epochs, seed, objectives }).toEqual({
      method: { kind: "auto" },
      spend: 40,
      replicates: { search: 1, confirm: 3, final: 5 },
      rungs: [],
      epochs: 9,
      seed: 0,
      objectives: [{ kind: "metric", goal: "maximize", metric: "val.accuracy" }],
    });
  });

  test("settings", () => {
    const search = searchOf(`choose spots in subsets({@conv2})\n${STIA_AT_SPOTS}\nrecipe = Train(epochs=27)
method = Evolution(population=12)\nspend = 60\nseeds = Seeds(search=2, confirm=4, final=7, from=11)\nrungs = [3, 9]
maximize val.uar\nminimize params(model)`);
    const { method, spend, replicates, rungs, epochs, seed, objectives } = search;
    expect({ method, spend, replicates, rungs, epochs, seed, objectives }).toEqual({
      method: { kind: "evolution", population: 12, tournament: 6 },
      spend: 60,
      replicates: { search: 2, confirm: 4, final: 7 },
      rungs: [3, 9],
      epochs: 27,
      seed: 11,
      objectives: [
        { kind: "metric", goal: "maximize", metric: "val.uar" },
        { kind: "cost", goal: "minimize", cost: "params" },
      ],
    });
  });

  test("is plain data, the same each time", () => {
    const body = `choose spots in subsets(@conv1..@conv2)\nchoose lr in {0.1, 0.2}\n${STIA_AT_SPOTS}\nrecipe = Train(lr=lr)`;
    const text = JSON.stringify(searchOf(body));
    expect(JSON.stringify(JSON.parse(text))).toBe(text);
    expect(JSON.stringify(searchOf(body))).toBe(text);
    // What has no value in JSON must have none in a search either.
    expect(JSON.parse(text).space.candidates).toHaveLength(8);
    expect(text).not.toMatch(/null/);
  });
});
