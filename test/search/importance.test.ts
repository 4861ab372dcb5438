/** Contributions where a position has several units: who is a player, what options weigh, and where variance comes from. */
import { describe, expect, it } from "vitest";
import type { Factor } from "../../compiler/search/search.ts";
import { type Fit, fitGaussian, posteriorAt } from "../../runtime/search/methods/gaussian.ts";
import type { Candidates, Knowledge, Observation } from "../../runtime/search/propose.ts";
import { gameOf, legendre } from "../../runtime/search/statistics/game.ts";
import { type Importance, importanceOf } from "../../runtime/search/statistics/shapley.ts";
import { generator, normals, subsetsOf } from "../tools/surfaces.mjs";
import { byForce } from "./by-force.ts";

const member = (name: string): Factor => ({
  name,
  kind: "member",
  optional: true,
  levels: ["", `@${name.split(".")[1] ?? name}`],
  values: undefined,
});

function candidatesOf(factors: readonly Factor[], rows: readonly (readonly number[])[]): Candidates {
  return { factors, levels: Uint8Array.from(rows.flat()), count: rows.length, costs: [] };
}

/**
 * Three positions, and a unit that exists where one of them is there: STIA with a ratio of 2 or 8, or SE. A rate is the
 * recipe's. Levels: a, b, c, joint, joint.reduction, lr.
 */
const UNITS = [
  [1, 1],
  [1, 2],
  [2, 0],
] as const;
/** Each unit counts a half, and a ratio half of its unit. */
const WEIGHTS = [0.25, 0.25, 0.5] as const;
const RATES = [0, 1] as const;

function oneUnit(): Candidates {
  const factors: readonly Factor[] = [
    ...["spots.a", "spots.b", "spots.c"].map(member),
    {
      name: "joint",
      kind: "category",
      optional: true,
      levels: ["", "STIA(reduction={2, 8})", "SE"],
      values: undefined,
    },
    { name: "joint.reduction", kind: "ordinal", optional: true, levels: ["", "2", "8"], values: [0, 1, 3] },
    { name: "lr", kind: "ordinal", optional: false, levels: ["0.1", "0.01"], values: [-1, -2] },
  ];
  const rows: number[][] = [];
  for (let set = 0; set < 8; set++)
    for (const unit of set === 0 ? [[0, 0]] : UNITS)
      for (const lr of RATES) rows.push([set & 1, (set >> 1) & 1, (set >> 2) & 1, ...unit, lr]);
  return candidatesOf(factors, rows);
}

/** What trials show where conv b matters, SE twice as much as STIA, and a and c stand in for each other. */
function knownOf(candidates: Candidates, trials: number): Knowledge {
  const random = generator(5);
  const normal = normals(random);
  const width = candidates.factors.length;
  const observations = Array.from({ length: trials }, (_, replicate): Observation => {
    const candidate = Math.floor(random() * candidates.count);
    const [a = 0, b = 0, c = 0, joint = 0] = candidates.levels.subarray(candidate * width, (candidate + 1) * width);
    const value = joint * b + 0.5 * Math.max(a, c) + 0.1 * normal();
    return { candidate, value, rung: 0, replicate };
  });
  return { candidates, observations, pending: [], seed: 1, step: 0 };
}

/** Every point of a coalition with its weight, as rows of levels. */
function coalition(
  set: number,
  units: readonly (readonly [readonly number[], number])[],
): readonly (readonly [number[], number])[] {
  const bits = [set & 1, (set >> 1) & 1, (set >> 2) & 1];
  const own = set === 0 ? ([[[0, 0], 1]] as const) : units;
  return own.flatMap(([unit, weight]) =>
    RATES.map((lr) => [[...bits, ...unit, lr], weight / RATES.length] as [number[], number]),
  );
}

const ALL_UNITS = UNITS.map((unit, k) => [unit, WEIGHTS[k] ?? 0] as const);

/** Shapley value of a position by enumerating coalitions, with its interval. */
function shapleyByForce(
  fit: Fit,
  bit: number,
  units: readonly (readonly [readonly number[], number])[],
): { value: number; half: number } {
  const points: Uint8Array[] = [];
  const coefficients: number[] = [];
  const add = (set: number, weight: number): void => {
    for (const [row, own] of coalition(set, units)) {
      points.push(Uint8Array.from(row));
      coefficients.push(weight * own);
    }
  };
  for (let set = 0; set < 8; set++) {
    if (set & bit) continue;
    const size = [1, 2, 4].filter((each) => set & each).length;
    const weight = [1 / 3, 1 / 6, 1 / 3][size] ?? 0;
    add(set | bit, weight);
    add(set, -weight);
  }
  return byForce(fit, points, coefficients);
}

function found(known: Knowledge, whole?: Candidates): { readonly fit: Fit; readonly found: Importance } {
  const [fit, own] = [fitGaussian(known), importanceOf(known, whole === undefined ? {} : { candidates: whole })];
  if (fit === undefined || own === undefined) throw new Error("no model");
  return { fit, found: own };
}

describe("a unit that follows its positions", () => {
  const candidates = oneUnit();
  const known = knownOf(candidates, 40);

  it("is no player, and gives way where none of them is there", () => {
    const { kinds, bundles } = kindsOf(candidates);
    expect(kinds).toEqual(["player", "player", "player", "follower", "free"]);
    expect(bundles).toEqual([{ members: [0, 1, 2], followers: [3] }]);
    const { fit, found: own } = found(known);
    expect(own.positions.map(({ name }) => name)).toEqual(["spots.a", "spots.b", "spots.c"]);
    for (const [k, bit] of [1, 2, 4].entries()) {
      const truth = shapleyByForce(fit, bit, ALL_UNITS);
      expect(own.positions[k]?.value).toBeCloseTo(truth.value, 8);
      expect((own.positions[k]?.high ?? 0) - (own.positions[k]?.value ?? 0)).toBeCloseTo(truth.half, 8);
    }
    // Without any position it is the model of the space, not one with a unit that has no place.
    const none = posteriorAt(fit, Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])).mean;
    expect(own.none).toBeCloseTo(((none[0] ?? 0) + (none[1] ?? 0)) / 2, 9);
    expect(own.positions.reduce((sum, { value }) => sum + value, 0)).toBeCloseTo(own.all - own.none, 9);
    expect(own.notes.join(" ")).toContain("`joint` is there with the positions and counted with them");
    expect(own.notes.join(" ")).toContain("All levels of `lr` count equally.");
  });

  it("follows them too where no candidate without any may be trained", () => {
    const width = candidates.factors.length;
    // The first two are those without any position.
    const some = { ...candidates, levels: candidates.levels.slice(2 * width), count: candidates.count - 2 };
    const { found: own } = found(knownOf(some, 40), candidates);
    expect(own.options).toHaveLength(6);
    expect(own.notes.join(" ")).toContain("`joint` is there with the positions");
    expect(own.positions.reduce((sum, { value }) => sum + value, 0)).toBeCloseTo(own.all - own.none, 9);
  });

  it("is told apart by its options, whose weighted mean is the position's value", () => {
    const { fit, found: own } = found(known);
    // Two units at three positions; ratios within a unit are one option.
    expect(own.options).toHaveLength(6);
    for (const [k, bit] of [1, 2, 4].entries()) {
      const mine = own.options.filter(({ factor }) => factor === k);
      expect(mine.map(({ of, levels, weight }) => ({ of, levels, weight }))).toEqual([
        { of: 3, levels: [{ factor: 3, level: 1 }], weight: 0.5 },
        { of: 3, levels: [{ factor: 3, level: 2 }], weight: 0.5 },
      ]);
      expect(mine.reduce((sum, { value, weight }) => sum + weight * value, 0)).toBeCloseTo(
        own.positions[k]?.value ?? Number.NaN,
        9,
      );
      const [stia, se] = mine;
      const truths = [
        shapleyByForce(fit, bit, [
          [UNITS[0], 0.5],
          [UNITS[1], 0.5],
        ]),
        shapleyByForce(fit, bit, [[UNITS[2], 1]]),
      ];
      for (const [j, one] of [stia, se].entries()) {
        expect(one?.value).toBeCloseTo(truths[j]?.value ?? Number.NaN, 8);
        expect((one?.high ?? 0) - (one?.value ?? 0)).toBeCloseTo(truths[j]?.half ?? Number.NaN, 8);
      }
    }
    // SE at b is worth twice what STIA is.
    const [stia, se] = own.options.filter(({ factor }) => factor === 1);
    expect(se?.value).toBeGreaterThan(1.5);
    expect(stia?.value).toBeLessThan(1.3);
  });

  it("tells single choices, pairs and the rest apart in the variance", () => {
    const { fit, found: own } = found(known);
    const { variance } = own;
    expect(variance.exact).toBe(true);
    // By hand: every decision independently, and the unit absent where no position is there.
    const points: { row: number[]; decisions: readonly string[]; weight: number }[] = [];
    for (let set = 0; set < 8; set++)
      for (const [k, unit] of UNITS.entries())
        for (const lr of RATES)
          points.push({
            row: [set & 1, (set >> 1) & 1, (set >> 2) & 1, ...(set === 0 ? [0, 0] : unit), lr],
            decisions: [`${set & 1}`, `${(set >> 1) & 1}`, `${(set >> 2) & 1}`, `${k}`, `${lr}`],
            weight: (WEIGHTS[k] ?? 0) / 16,
          });
    const { mean } = posteriorAt(fit, Uint8Array.from(points.flatMap(({ row }) => row)));
    const explained = (by: readonly number[]): number => {
      const cells = new Map<string, { weight: number; sum: number }>();
      for (const [k, { decisions, weight }] of points.entries()) {
        const key = by.map((d) => decisions[d]).join();
        const cell = cells.get(key) ?? { weight: 0, sum: 0 };
        cells.set(key, { weight: cell.weight + weight, sum: cell.sum + weight * (mean[k] ?? 0) });
      }
      const all = [...cells.values()].reduce((sum, cell) => sum + cell.sum, 0);
      return [...cells.values()].reduce((sum, cell) => sum + cell.weight * (cell.sum / cell.weight - all) ** 2, 0);
    };
    const total = explained([0, 1, 2, 3, 4]);
    const factors = [0, 1, 2, 3, 5];
    for (const [k, factor] of factors.entries()) {
      const share = variance.main.find((one) => one.factor === factor)?.share;
      expect(share).toBeCloseTo(explained([k]) / total, 8);
    }
    for (const { first, second, share } of variance.pairs) {
      const [a, b] = [factors.indexOf(first), factors.indexOf(second)];
      const own = Math.max(0, explained([a, b]) - explained([a]) - explained([b]));
      expect(share).toBeCloseTo(own / total, 8);
    }
    expect(variance.deviation).toBeCloseTo(Math.sqrt(total), 8);
    const sum = variance.rest + [...variance.main, ...variance.pairs].reduce((part, { share }) => part + share, 0);
    expect(sum).toBeCloseTo(1, 9);
  });
});

function kindsOf(
  candidates: Candidates,
  modelFactors?: readonly number[],
): { readonly kinds: readonly string[]; readonly bundles: ReturnType<typeof gameOf>["bundles"] } {
  const known = knownOf(candidates, 12);
  const fit = fitGaussian(known);
  if (fit === undefined) throw new Error("no model");
  const { groups, bundles } = gameOf(candidates, fit.kernels, modelFactors);
  return { kinds: groups.map(({ kind }) => kind), bundles };
}

describe("who plays", () => {
  it("a choice at each position, whose options count equally", () => {
    const unit = (name: string): Factor => ({
      name,
      kind: "category",
      optional: true,
      levels: ["", "STIA", "SE", "CBAM"],
      values: undefined,
    });
    const rows = [0, 1, 2, 3].flatMap((a) => [0, 1, 2, 3].map((b) => [a, b]));
    const candidates = candidatesOf([unit("first"), unit("second")], rows);
    const observations = rows.map(([a = 0, b = 0], candidate) => ({
      candidate,
      value: ([0, 1, 2, 6][a] ?? 0) + (b > 0 ? 1 : 0),
      rung: 0,
      replicate: candidate,
    }));
    const { found: own } = found({ candidates, observations, pending: [], seed: 1, step: 0 });
    expect(own.positions.map(({ name }) => name)).toEqual(["first", "second"]);
    // Of the average option, 3, not of the best one, 6.
    expect(Math.abs((own.positions[0]?.value ?? 0) - 3)).toBeLessThan(0.3);
    expect(own.options.filter(({ factor }) => factor === 0).map(({ value }) => Math.round(value))).toEqual([1, 2, 6]);
    expect(own.options.filter(({ factor }) => factor === 1).map(({ value }) => Math.round(value))).toEqual([1, 1, 1]);
    expect(own.notes.join(" ")).toContain("a value is of the average option, not of the best one");
  });

  it("two sets with a unit each, two bundles; a unit that both share follows both", () => {
    const sets = ["left.a", "left.b", "right.a", "right.b"].map(member);
    const choice = (name: string): Factor => ({
      name,
      kind: "category",
      optional: false,
      levels: ["STIA", "SE"],
      values: undefined,
    });
    const bits = Array.from({ length: 16 }, (_, set) => [0, 1, 2, 3].map((k) => (set >> k) & 1));
    const own = bits.flatMap((row) => {
      const [a = 0, b = 0, c = 0, d = 0] = row;
      return (a + b > 0 ? [0, 1] : [0]).flatMap((one) => (c + d > 0 ? [0, 1] : [0]).map((two) => [...row, one, two]));
    });
    const two = kindsOf(candidatesOf([...sets, choice("one"), choice("two")], own));
    expect(two.kinds.slice(4)).toEqual(["follower", "follower"]);
    expect(two.bundles.map(({ members }) => members)).toEqual([
      [0, 1],
      [2, 3],
    ]);
    const shared = bits.flatMap((row) => (row.includes(1) ? [0, 1] : [0]).map((unit) => [...row, unit]));
    const one = kindsOf(candidatesOf([...sets, choice("unit")], shared));
    expect(one.bundles).toEqual([{ members: [0, 1, 2, 3], followers: [4] }]);
    // Values of two bundles are still those of all coalitions: they add up.
    const known = knownOf(candidatesOf([...sets, choice("one"), choice("two")], own), 30);
    const { found: values } = found(known);
    expect(values.positions.reduce((sum, { value }) => sum + value, 0)).toBeCloseTo(values.all - values.none, 9);
    expect(values.options).toHaveLength(8);
  });

  it("a rate of the recipe is free, although `none` has only one of its levels", () => {
    const factors = [
      ...["spots.a", "spots.b"].map(member),
      { name: "lr", kind: "category", optional: false, levels: ["1", "2", "3"], values: undefined } as const,
    ];
    const rows = [[0, 0, 1], ...[1, 2, 3].flatMap((set) => [0, 1, 2].map((lr) => [set & 1, set >> 1, lr]))];
    expect(kindsOf(candidatesOf(factors, rows), [0, 1]).kinds).toEqual(["player", "player", "free"]);
  });
});

describe("a large game", () => {
  it("is computed in seconds, and adds up", () => {
    const candidates = subsetsOf(12);
    const random = generator(3);
    const observations = Array.from({ length: 60 }, (_, replicate) => {
      const candidate = Math.floor(random() * candidates.count);
      return { candidate, value: random(), rung: 0, replicate };
    });
    const { found: own } = found({ candidates, observations, pending: [], seed: 1, step: 0 });
    expect(own.positions.reduce((sum, { value }) => sum + value, 0)).toBeCloseTo(own.all - own.none, 8);
    expect(own.pairs).toHaveLength(66);
    expect(own.variance.exact).toBe(true);
  });
});

describe("nodes of Gauss and Legendre", () => {
  it.each([1, 2, 5, 9, 27])("%d of them integrate polynomials of degree 2n − 1", (n) => {
    const nodes = legendre(n);
    for (let degree = 0; degree < 2 * n; degree++) {
      const sum = nodes.reduce((total, { at, weight }) => total + weight * at ** degree, 0);
      expect(sum).toBeCloseTo(1 / (degree + 1), 12);
    }
  });
});
