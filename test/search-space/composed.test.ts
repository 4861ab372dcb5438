/**
 * Large spaces: costs are composed from single grafts and must be what making the model gives; the limits of
 * enumeration; and how fast a space is costed.
 */
import { describe, expect, test } from "vitest";
import { costOf } from "../../compiler/graph/cost.ts";
import { graphHash } from "../../compiler/graph/hash.ts";
import { elaborateSearch, winnerSource } from "../../compiler/search/elaborate.ts";
import type { Candidate, Search } from "../../compiler/search/search.ts";
import { openEntry } from "../../runtime/cli/sources.ts";
import { modelOf, resolveWith } from "../elaborate/programs.ts";
import { elaborateText, labelsOf, searchIn, searchOf, sourceOf, tiny } from "./programs.ts";

/** Grafts that can be had in several ways: three choices of units, one of them at chosen positions; and a width. */
const LARGE = `choose w in {4, 8}
choose c1 in {SE(reduction={2, 4}), STIA(reduction=2, direction={"both", "to_spatial"}), none}
choose c2 in {SE(reduction=2), CBAM(reduction=4, k=3), STIA, STIA(reduction=2), none}
choose joint in {STIA(reduction={2, 4}), none}
choose spots in subsets(@conv1..@conv3)
model = ${tiny("with c1 at conv1 with c2 at conv2, conv3 with joint at spots", "(width=w)")}`;

/** Its models by hand: the width, and at each position the units that follow one another. */
function modelsOf(c2s: readonly string[]): ReadonlySet<string> {
  const models = new Set<string>();
  for (const w of [4, 8])
    for (const c1 of ["se2", "se4", "stia2", "stia2 to_spatial", ""])
      for (const c2 of c2s)
        for (const joint of ["stia2", "stia4", ""])
          for (let spots = 0; spots < 8; spots++) {
            const at = (bit: number): string => ((spots >> bit) & 1 ? joint : "");
            const follow = (...units: readonly string[]): string => units.filter((unit) => unit !== "").join(" then ");
            models.add([w, follow(c1, at(0)), follow(c2, at(1)), follow(c2, at(2))].join(" | "));
          }
  return models;
}

/** Some of the candidates, from all over the space. */
function some({ space: { candidates } }: Search, count: number): readonly Candidate[] {
  return Array.from({ length: count }, (_, i) => candidates[(i * 7919 + 13) % candidates.length]).flatMap(
    (each) => each ?? [],
  );
}

describe("composed costs", () => {
  const search = searchOf(LARGE);

  test("are those of the models, and so are identities", () => {
    const hashes = new Map<string, string>();
    for (const each of some(search, 48)) {
      const { text = "" } = winnerSource(sourceOf(searchIn(LARGE)), resolveWith({}), { levels: each.levels });
      const { graph } = modelOf(text, { bind: new Map([["N", 1]]) });
      const { parameters, macs, activationBytes } = costOf(graph).total;
      const costs = { params: parameters, flops: 2 * Number(macs), memory: activationBytes };
      expect(each.costs, each.label).toEqual(costs);
      hashes.set(each.hash, graphHash(graph));
    }
    expect(hashes.size).toBe(48);
    expect(new Set(hashes.values()).size).toBe(48);
  });

  test("equal models are joined, however they are put together", () => {
    expect(search.space.points).toBe(2 * 5 * 5 * 3 * 8);
    expect(search.space.candidates).toHaveLength(modelsOf(["se2", "cbam", "stia2", ""]).size);
    const labels = new Set(labelsOf(search));
    // The stages one by one, or all of them at once.
    expect(labels.has("w=4, joint=STIA(reduction=2), spots={conv2, conv3}")).not.toBe(labels.has("w=4, c2=STIA"));
    // What follows what at one position is told apart.
    expect(labels.has("w=4, c1=SE(reduction=2), joint=STIA(reduction=2), spots={conv1}")).toBe(true);
  });

  test("one graft that is no model makes every point with it none", () => {
    const { search: found, diagnostics } = elaborateText(
      searchIn(LARGE.replace("CBAM(reduction=4, k=3)", "STIA(reduction=3)")),
    );
    expect(found?.space.candidates).toHaveLength(modelsOf(["se2", "stia2", ""]).size);
    expect(found?.space.unsound?.every(({ label }) => label.includes("c2=STIA(reduction=3)"))).toBe(true);
    expect(diagnostics.map(({ code }) => code)).toEqual(["W0802"]);
  });
});

describe("limits", () => {
  test("more points than can be looked through", () => {
    const { diagnostics } = elaborateText(
      searchIn(`choose a in 1..100\nchoose b in 1..100\nchoose c in 1..100\nmodel = ${tiny("", "(width=a + b + c)")}`),
    );
    expect(diagnostics.map(({ code, message }) => `${code} ${message}`)).toEqual([
      "E0805 this space has more than 131,072 points",
    ]);
  });

  test("pairs of different depths can be in each other's way, so their costs are not composed", () => {
    const search = searchOf(
      `choose a in {STIA, none}\nchoose b in {STIA, none}\nmodel = ${tiny("with a at (spatial.conv1, temporal.conv1) with b at (spatial.conv2, temporal.conv2)")}`,
    );
    expect(labelsOf(search)).toEqual(["none", "b=STIA", "a=STIA", "a=STIA, b=STIA"]);
  });
});

describe("the examples", () => {
  test("all 1024 coarse placements of VGG-16, with their costs, in seconds", () => {
    const { source, resolve } = openEntry("examples/search.net");
    const begun = process.cpuUsage();
    const { search, diagnostics } = elaborateSearch(source, resolve, { search: "Stages" });
    const { user, system } = process.cpuUsage(begun);
    expect(diagnostics).toEqual([]);
    expect(search?.space.candidates).toHaveLength(1024);
    const { none = 0, all = 0, candidates = [] } = search?.space ?? {};
    expect(candidates[none]?.costs.params).toBe(2 * 134_276_932 + 9 * 64 * (20 - 3));
    expect(candidates[all]?.label).toMatch(/^c1=STIA\(direction="both"\), .*c5=STIA\(direction="both"\)$/);
    // Seconds of a processor, for the machine may have other things to do.
    expect((user + system) / 1e6).toBeLessThan(20);
  });
});
