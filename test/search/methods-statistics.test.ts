/** The search's statistics against values of scipy, against counting, and against what they mean. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Factor } from "../../compiler/search/search.ts";
import { fitGaussian } from "../../runtime/search/methods/gaussian.ts";
import type { Candidates, Knowledge } from "../../runtime/search/propose.ts";
import { randomBand } from "../../runtime/search/statistics/band.ts";
import { compareArms } from "../../runtime/search/statistics/compare.ts";
import { incompleteGamma } from "../../runtime/search/statistics/gamma.ts";
import { kendallTau } from "../../runtime/search/statistics/kendall.ts";
import { noiseOf } from "../../runtime/search/statistics/noise.ts";
import { expectedImprovement, normalBelow } from "../../runtime/search/statistics/normal.ts";
import {
  dominates,
  expectedVolumeGain,
  hypervolume,
  paretoFront,
  type Valued,
} from "../../runtime/search/statistics/pareto.ts";
import { powerTable, seedsNeeded } from "../../runtime/search/statistics/power.ts";
import { importanceOf } from "../../runtime/search/statistics/shapley.ts";
import { generator, normals, subsetsOf, surfaceOf } from "../tools/surfaces.mjs";
import { byForce } from "./by-force.ts";

describe("distributions", () => {
  it.each([
    [-8, 6.22096057e-16],
    [-3.3, 4.83424142e-4],
    [-0.5, 0.308537539],
    [0, 0.5],
    [1.7, 0.955434537],
    [6, 0.999999999],
  ])("P(Z ≤ %d) is scipy's", (z, p) => {
    // Relative: the tail as well.
    expect(normalBelow(z) / p).toBeCloseTo(1, 7);
  });

  it.each([
    [0.5, 0.2, 0.47291074],
    [4, 3, 0.35276811],
    [25, 20, 0.15677262],
  ])("P(%d, %d) of the gamma function is scipy's", (a, x, p) => {
    expect(incompleteGamma(a, x)).toBeCloseTo(p, 8);
  });
});

describe("seeds that a difference needs", () => {
  // scipy's noncentral t: the least n with a power of 0.8.
  it.each([
    [0.25, 253, 254, 128, 53],
    [0.5, 64, 65, 34, 15],
    [0.75, 29, 30, 16, 8],
    [1, 17, 18, 10, 6],
    [1.5, 9, 10, 6, 4],
    [2, 6, 7, 5, 4],
    [3, 4, 5, 4, 3],
  ])("of %d deviations are scipy's", (difference, unpaired, none, half, strong) => {
    expect(seedsNeeded(difference)).toBe(unpaired);
    expect([0, 0.5, 0.8].map((pairing) => seedsNeeded(difference, pairing))).toEqual([none, half, strong]);
  });

  it("make a table", () => {
    expect(powerTable([1, 2])).toEqual([
      { difference: 1, unpaired: 17, paired: 10 },
      { difference: 2, unpaired: 6, paired: 5 },
    ]);
  });
});

describe("Kendall's tau", () => {
  it("is scipy's, with ties", () => {
    expect(kendallTau([1, 2, 2, 4, 5, 6, 7, 3], [2, 1, 4, 4, 3, 8, 7, 3]).value).toBeCloseTo(0.5661385170722979, 12);
  });

  it("knows nothing from four pairs, and has no value where all are equal", () => {
    expect(kendallTau([1, 2, 3, 4], [1, 2, 3, 4])).toEqual({ value: 1, low: -1, high: 1 });
    expect(kendallTau([1, 1, 1], [1, 2, 3]).value).toBeNaN();
  });

  it("has an interval that holds the truth about as often as it says", () => {
    // Normal values with correlation r have τ = 2/π arcsin r.
    const r = 0.7;
    const truth = (2 / Math.PI) * Math.asin(r);
    const normal = normals(generator(5));
    let inside = 0;
    for (let round = 0; round < 400; round++) {
      const first = Array.from({ length: 14 }, normal);
      const second = first.map((value) => r * value + Math.sqrt(1 - r * r) * normal());
      const { low, high } = kendallTau(first, second);
      if (low <= truth && truth <= high) inside++;
    }
    // 95 % of 400 is 380; the approximation and the draws may take 3 % each.
    expect(inside).toBeGreaterThan(356);
  });
});

describe("noise from replicates", () => {
  it("pools the candidates, with the interval of chi square", () => {
    // Squares 2, 8 and 0.5 on 1, 2 and 1 degrees; scipy's χ² quantiles for 4.
    const values = [
      ...[1, 3].map((value, seed) => ({ candidate: "a", seed, value })),
      ...[0, 2, 4].map((value, seed) => ({ candidate: "b", seed, value })),
      ...[5, 6].map((value, seed) => ({ candidate: "c", seed: seed + 10, value })),
      { candidate: "once", seed: 0, value: 100 },
    ];
    const noise = noiseOf(values);
    expect(noise.degrees).toBe(4);
    expect(noise.deviation).toBeCloseTo(Math.sqrt(10.5 / 4), 12);
    expect(noise.low).toBeCloseTo(Math.sqrt(10.5 / 11.143286781877796), 8);
    expect(noise.high).toBeCloseTo(Math.sqrt(10.5 / 0.484418557087159), 8);
  });

  it("tells what seeds have in common", () => {
    const normal = normals(generator(9));
    const seeds = Array.from({ length: 12 }, normal);
    const values = Array.from({ length: 8 }, (_, candidate) =>
      seeds.map((common, seed) => ({
        candidate,
        seed,
        value: candidate + Math.sqrt(0.6) * common + Math.sqrt(0.4) * normal(),
      })),
    ).flat();
    expect(noiseOf(values).pairing).toBeGreaterThan(0.4);
    expect(noiseOf(values).pairing).toBeLessThan(0.8);
    const alone = values.map((value) => ({ ...value, value: value.candidate + normal() }));
    expect(noiseOf(alone).pairing).toBeLessThan(0.15);
  });

  it("has no value without replicates", () => {
    expect(noiseOf([{ candidate: 1, seed: 1, value: 2 }])).toMatchObject({ degrees: 0, deviation: Number.NaN });
  });
});

describe("the band of random search", () => {
  const normal = normals(generator(3));
  const pool = Array.from({ length: 4000 }, normal);

  it("tells the best of n from a few, and its interval holds the truth", () => {
    // The expected largest of n standard normals.
    const truth = new Map([
      [1, 0],
      [10, 1.5388],
      [40, 2.1608],
    ]);
    const counts = [...truth.keys()];
    const means = counts.map(() => 0);
    let inside = 0;
    for (let round = 0; round < 60; round++) {
      const band = randomBand(pool.slice(16 * round, 16 * round + 16), counts, 0, round);
      for (const [index, { value, low, high }] of band.shown.entries()) {
        means[index] = (means[index] ?? 0) + value / 60;
        const expected = truth.get(counts[index] ?? 0) ?? 0;
        if (low <= expected && expected <= high) inside++;
      }
    }
    for (const [index, mean] of means.entries()) expect(mean).toBeCloseTo(truth.get(counts[index] ?? 0) ?? 0, 0);
    // 180 intervals from sixteen values each: they hold the truth in nine cases of ten, a little less than they say.
    expect(inside).toBeGreaterThan(155);
  });

  it("takes the noise out of what the best is worth", () => {
    const values = pool.slice(0, 200).map((value, index) => value + (pool[2000 + index] ?? 0));
    const { shown, worth } = randomBand(values, [30], 1);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    expect(((worth[0]?.value ?? 0) - mean) / ((shown[0]?.value ?? 0) - mean)).toBeCloseTo(0.5, 1);
  });

  it("rises with n, and is one line for one value", () => {
    const { shown } = randomBand(pool.slice(0, 12), [1, 2, 4, 8, 16, 32]);
    for (let i = 1; i < shown.length; i++) expect(shown[i]?.value).toBeGreaterThan(shown[i - 1]?.value ?? 0);
    expect(randomBand([3], [5]).shown[0]).toEqual({ value: 3, low: Number.NaN, high: Number.NaN });
  });
});

describe("comparisons of the final table", () => {
  const arm = (name: string, values: readonly number[]): { name: string; values: Map<number, number> } => ({
    name,
    values: new Map(values.map((value, replicate) => [replicate, value])),
  });

  it("pair by replicate and correct over all of them", () => {
    const none = arm("none", [0.5, 0.52, 0.48, 0.51]);
    const random = arm("random", [0.53, 0.55, 0.5, 0.55]);
    const best = arm("best", [0.6, 0.63, 0.57]);
    const compared = compareArms([none, random, best], [none, random]);
    expect(compared.map(({ name, reference }) => `${name}-${reference}`)).toEqual([
      "random-none",
      "best-none",
      "none-random",
      "best-random",
    ]);
    expect(compared[1]?.difference.pairs).toBe(3);
    expect(compared[1]?.difference.difference.value).toBeCloseTo(0.1, 12);
    for (const { difference, corrected } of compared) expect(corrected).toBeGreaterThanOrEqual(difference.p);
  });
});

describe("Pareto fronts", () => {
  const point = fc.record({
    value: fc.integer({ min: 0, max: 6 }),
    costs: fc.tuple(fc.integer({ min: 0, max: 6 }), fc.integer({ min: 0, max: 6 })),
  });

  it("hold what nothing dominates", () => {
    fc.assert(
      fc.property(fc.array(point, { maxLength: 12 }), (points) => {
        const front = paretoFront(points);
        for (const index of front)
          expect(points.some((other) => dominates(other, points[index] as Valued))).toBe(false);
        for (const [index, each] of points.entries()) {
          const covered = front.some((other) => {
            const own = points[other] as Valued;
            return own.value >= each.value && own.costs.every((cost, at) => cost <= (each.costs[at] ?? 0));
          });
          expect(covered, `point ${index}`).toBe(true);
        }
      }),
    );
  });

  it("dominate the volume that counting cells finds", () => {
    fc.assert(
      fc.property(fc.array(point, { maxLength: 7 }), (points) => {
        let cells = 0;
        for (let value = 0; value < 6; value++)
          for (let a = 0; a < 7; a++)
            for (let b = 0; b < 7; b++)
              if (points.some((p) => p.value > value && p.costs[0] <= a && p.costs[1] <= b)) cells++;
        expect(hypervolume(points, { value: 0, costs: [7, 7] })).toBeCloseTo(cells, 8);
      }),
    );
  });

  it("are expected to grow by what sampling finds", () => {
    const normal = normals(generator(11));
    const front: readonly Valued[] = [
      { value: 1, costs: [1, 4] },
      { value: 2, costs: [3, 2] },
      { value: 3, costs: [4, 5] },
    ];
    const reference = { value: 0, costs: [6, 6] };
    const before = hypervolume(front, reference);
    for (const costs of [
      [0.5, 0.5],
      [2.2, 3.1],
      [3.5, 5.5],
      [7, 1],
    ]) {
      const exact = expectedVolumeGain(front, reference)(1.8, 0.9, costs);
      let sum = 0;
      for (let draw = 0; draw < 1500; draw++)
        sum += hypervolume([...front, { value: 1.8 + 0.9 * normal(), costs }], reference) - before;
      expect(Math.abs(sum / 1500 - exact)).toBeLessThan(0.08 * exact + 1e-9);
    }
  });

  it("reduce to expected improvement where cost plays no part", () => {
    const gain = expectedVolumeGain([{ value: 1, costs: [0] }], { value: 0, costs: [1] });
    expect(gain(1.5, 0.7, [0])).toBeCloseTo(expectedImprovement(1.5, 0.7, 1), 12);
  });
});

/** Two members, an optional choice with a reduction in it, and a rate that is always there. */
function mixedSpace(): Candidates {
  const factors: readonly Factor[] = [
    { name: "spots.a", kind: "member", optional: true, levels: ["", "@a"], values: undefined },
    { name: "spots.b", kind: "member", optional: true, levels: ["", "@b"], values: undefined },
    { name: "joint", kind: "category", optional: true, levels: ["", "STIA", "CBAM"], values: undefined },
    { name: "joint.reduction", kind: "ordinal", optional: true, levels: ["", "2", "8"], values: [0, 1, 3] },
    { name: "lr", kind: "ordinal", optional: false, levels: ["0.1", "0.01", "0.001"], values: [-1, -2, -3] },
  ];
  const rows: number[][] = [];
  for (const a of [0, 1])
    for (const b of [0, 1])
      for (const joint of [
        [0, 0],
        [1, 1],
        [1, 2],
        [2, 1],
        [2, 2],
      ])
        for (const lr of [0, 1, 2]) rows.push([a, b, ...joint, lr]);
  return { factors, levels: Uint8Array.from(rows.flat()), count: rows.length, costs: [] };
}

function knowledge(candidates: Candidates, trials: number): Knowledge {
  const random = generator(21);
  const normal = normals(random);
  const effects = Array.from({ length: candidates.factors.length }, normal);
  return {
    candidates,
    observations: Array.from({ length: trials }, (_, replicate) => {
      const candidate = Math.floor(random() * candidates.count);
      const row = candidates.levels.subarray(candidate * effects.length, (candidate + 1) * effects.length);
      const value = row.reduce((sum, level, factor) => sum + level * (effects[factor] ?? 0), 0);
      return { candidate, value: value + (row[0] ?? 0) * (row[1] ?? 0) + 0.3 * normal(), rung: 0, replicate };
    }),
    pending: [],
    seed: 1,
    step: 0,
  };
}

describe("Shapley values", () => {
  it("are those of enumerating all coalitions, with the posterior's intervals, absent and nested options included", () => {
    const space = mixedSpace();
    const known = knowledge(space, 25);
    const fit = fitGaussian(known);
    const found = importanceOf(known);
    if (fit === undefined || found === undefined) throw new Error("no model");
    // By hand: players a, b, joint. A coalition averages over the options of joint and over the rates.
    const points: Uint8Array[] = [];
    const coalitions = new Map<number, readonly number[]>();
    for (let coalition = 0; coalition < 8; coalition++) {
      const joint =
        coalition & 4
          ? [
              [1, 1],
              [1, 2],
              [2, 1],
              [2, 2],
            ]
          : [[0, 0]];
      const rows = joint.flatMap((own) =>
        [0, 1, 2].map((lr) => Uint8Array.from([coalition & 1, (coalition >> 1) & 1, ...own, lr])),
      );
      coalitions.set(
        coalition,
        rows.map((row) => points.push(row) - 1),
      );
    }
    const average = (coalition: number, weight: number, into: number[]): void => {
      const own = coalitions.get(coalition) ?? [];
      for (const point of own) into[point] = (into[point] ?? 0) + weight / own.length;
    };
    const orders = [1 / 3, 1 / 6, 1 / 3];
    const sizeOf = (coalition: number): number => [1, 2, 4].filter((bit) => coalition & bit).length;
    for (const [index, bit] of [1, 2, 4].entries()) {
      const coefficients = points.map(() => 0);
      for (let coalition = 0; coalition < 8; coalition++) {
        if (coalition & bit) continue;
        const weight = orders[sizeOf(coalition)] ?? 0;
        average(coalition | bit, weight, coefficients);
        average(coalition, -weight, coefficients);
      }
      const truth = byForce(fit, points, coefficients);
      const own = found.positions[index];
      expect(own?.value).toBeCloseTo(truth.value, 9);
      expect((own?.high ?? 0) - (own?.value ?? 0)).toBeCloseTo(truth.half, 9);
    }
    for (const [index, [a, b]] of (
      [
        [1, 2],
        [1, 4],
        [2, 4],
      ] as const
    ).entries()) {
      const coefficients = points.map(() => 0);
      const third = 7 - a - b;
      for (const rest of [0, third]) {
        average(rest | a | b, 0.5, coefficients);
        average(rest | a, -0.5, coefficients);
        average(rest | b, -0.5, coefficients);
        average(rest, 0.5, coefficients);
      }
      const truth = byForce(fit, points, coefficients);
      expect(found.pairs[index]?.value).toBeCloseTo(truth.value, 9);
      expect((found.pairs[index]?.high ?? 0) - (found.pairs[index]?.value ?? 0)).toBeCloseTo(truth.half, 9);
    }
    expect(found.positions.map(({ name }) => name)).toEqual(["spots.a", "spots.b", "joint"]);
    expect(found.notes.join(" ")).toContain("`lr`");
  });

  it("add up to what all gains over none", () => {
    const candidates = subsetsOf(8);
    const surface = surfaceOf("pairwise", 8, 2);
    const found = importanceOf({
      candidates,
      observations: Array.from({ length: 60 }, (_, i) => ({
        candidate: (i * 37) % 256,
        value: surface[(i * 37) % 256] ?? 0,
        rung: 0,
        replicate: 0,
      })),
      pending: [],
      seed: 1,
      step: 0,
    });
    if (found === undefined) throw new Error("no model");
    const sum = found.positions.reduce((total, { value }) => total + value, 0);
    expect(sum).toBeCloseTo(found.all - found.none, 9);
    expect(found.pairs).toHaveLength(28);
  });

  it("find the true contributions, within their intervals", () => {
    const members = 6;
    const candidates = subsetsOf(members);
    let [inside, all] = [0, 0];
    for (let repeat = 0; repeat < 12; repeat++) {
      const surface = surfaceOf("additive", members, repeat);
      const normal = normals(generator(repeat + 50));
      const found = importanceOf({
        candidates,
        observations: Array.from({ length: 40 }, (_, i) => {
          const candidate = (i * 23 + repeat) % 64;
          return { candidate, value: (surface[candidate] ?? 0) + 0.5 * normal(), rung: 0, replicate: i };
        }),
        pending: [],
        seed: 1,
        step: 0,
      });
      for (const { value, low, high, factor } of found?.positions ?? []) {
        const truth = (surface[1 << factor] ?? 0) - (surface[0] ?? 0);
        expect(Math.abs(value - truth)).toBeLessThan(1);
        all++;
        if (low <= truth && truth <= high) inside++;
      }
    }
    // 72 intervals of 95 %.
    expect(all).toBe(72);
    expect(inside).toBeGreaterThan(62);
  });
});
