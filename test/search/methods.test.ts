/** The methods that propose: what they promise, and that our TPE is Optuna's. */
import { readFileSync } from "node:fs";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Method } from "../../compiler/search/search.ts";
import { pickOf } from "../../runtime/search/methods/acquire.ts";
import { fitGaussian, posteriorAt } from "../../runtime/search/methods/gaussian.ts";
import { proposeOf } from "../../runtime/search/methods/propose.ts";
import type { Candidates, Knowledge, Observation } from "../../runtime/search/propose.ts";
import { CONTENDERS, regrets, summary } from "../tools/regret.mjs";
import { generator, normals, SURFACES, subsetsOf, surfaceOf } from "../tools/surfaces.mjs";

const every: readonly Method[] = [
  ...Object.values(CONTENDERS),
  { kind: "auto" },
  { kind: "factorial" },
  { kind: "halving", eta: 3 },
];

function known(candidates: Candidates, observations: readonly Observation[], more: Partial<Knowledge> = {}): Knowledge {
  return { candidates, observations, pending: [], seed: 1, step: observations.length, ...more };
}

function observed(members: number, count: number, noise: number, seed = 1): readonly Observation[] {
  const surface = surfaceOf("pairwise", members, seed);
  const normal = normals(generator(seed));
  return Array.from({ length: count }, (_, i) => {
    const candidate = (i * 389 + 17) % surface.length;
    return {
      candidate,
      value: (surface[candidate] ?? 0) + noise * normal(),
      rung: 0,
      replicate: Math.floor(i / surface.length),
    };
  });
}

describe.each(every)("$kind", (method) => {
  it("proposes open candidates only, the same each time, and as many as asked for", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 30 }),
        fc.integer({ min: 1, max: 3 }),
        fc.nat(100),
        (count, wanted, seed) => {
          const candidates = subsetsOf(5);
          const closed = new Set([3, 7, 17, 28]);
          const state = known(candidates, observed(5, count, 0.3), {
            closed,
            seed,
            pending: [{ candidate: 9, rung: 0 }],
          });
          const proposed = proposeOf(method)(state, wanted);
          expect(proposed).toHaveLength(wanted);
          for (const candidate of proposed) {
            expect(candidate).toBeGreaterThanOrEqual(0);
            expect(candidate).toBeLessThan(32);
            expect(closed.has(candidate)).toBe(false);
          }
          expect(proposeOf(method)(state, wanted)).toEqual(proposed);
        },
      ),
      { numRuns: 12 },
    );
  });
});

describe("random search and the factorial", () => {
  it("take every candidate once before any twice, whatever is under way", () => {
    const candidates = subsetsOf(4);
    const proposed = proposeOf({ kind: "random" })(known(candidates, [], { pending: [{ candidate: 5, rung: 0 }] }), 31);
    expect(new Set([5, ...proposed.slice(0, 15)]).size).toBe(16);
    expect(new Set(proposed.slice(15)).size).toBe(16);
    expect(proposed.slice(0, 15)).not.toEqual([...proposed.slice(0, 15)].sort((a, b) => a - b));
  });
});

describe("the Gaussian process", () => {
  it("passes through what it has seen without noise, and is unsure where it has seen nothing", () => {
    const candidates = subsetsOf(6);
    const seen = observed(6, 30, 0);
    const fit = fitGaussian(known(candidates, seen));
    if (fit === undefined) throw new Error("no model");
    const { mean, deviation } = posteriorAt(fit, candidates.levels);
    const trained = new Set(seen.map(({ candidate }) => candidate));
    let [inside, outside] = [0, 0];
    for (let i = 0; i < 64; i++) {
      if (trained.has(i)) inside = Math.max(inside, deviation[i] ?? 0);
      else outside += (deviation[i] ?? 0) / (64 - trained.size);
    }
    expect(outside).toBeGreaterThan(inside);
    for (const { candidate, value } of seen) expect(Math.abs((mean[candidate] ?? 0) - value)).toBeLessThan(0.3);
  });

  it("has intervals that hold the truth about as often as they say", () => {
    const candidates = subsetsOf(8);
    let [inside, all] = [0, 0];
    for (let repeat = 0; repeat < 6; repeat++) {
      const surface = surfaceOf("pairwise", 8, repeat + 30);
      const normal = normals(generator(repeat));
      const observations = Array.from({ length: 40 }, (_, i) => {
        const candidate = (i * 71 + repeat) % 256;
        return { candidate, value: (surface[candidate] ?? 0) + 0.5 * normal(), rung: 0, replicate: 0 };
      });
      const fit = fitGaussian(known(candidates, observations));
      if (fit === undefined) throw new Error("no model");
      const { mean, deviation } = posteriorAt(fit, candidates.levels);
      for (let i = 0; i < 256; i++) {
        all++;
        if (Math.abs((mean[i] ?? 0) - (surface[i] ?? 0)) < 1.96 * (deviation[i] ?? 0)) inside++;
      }
    }
    expect(inside / all).toBeGreaterThan(0.88);
  });

  it("estimates the noise from replicates", () => {
    const candidates = subsetsOf(6);
    const surface = surfaceOf("additive", 6, 1);
    const normal = normals(generator(8));
    const observations = Array.from({ length: 60 }, (_, i) => {
      const candidate = (i * 13) % 20;
      return { candidate, value: (surface[candidate] ?? 0) + 0.4 * normal(), rung: 0, replicate: Math.floor(i / 20) };
    });
    const fit = fitGaussian(known(candidates, observations));
    expect(Math.sqrt(fit?.noise ?? 0)).toBeGreaterThan(0.28);
    expect(Math.sqrt(fit?.noise ?? 0)).toBeLessThan(0.56);
  });

  it("believes what is under way: two workers are not sent to one place", () => {
    const candidates = subsetsOf(8);
    const seen = observed(8, 25, 0.3);
    const proposed = proposeOf({ kind: "gp" })(known(candidates, seen), 4);
    expect(new Set(proposed).size).toBe(4);
    const [first] = proposed;
    const [second] = proposeOf({ kind: "gp" })(
      known(candidates, seen, { pending: [{ candidate: first ?? 0, rung: 0 }] }),
      1,
    );
    expect(second).toBe(proposed[1]);
  });

  it("learns from partial trainings, at a discount", () => {
    const candidates = subsetsOf(7);
    const surface = surfaceOf("pairwise", 7, 4);
    const normal = normals(generator(2));
    const low = Array.from({ length: 50 }, (_, i) => {
      const candidate = (i * 37) % 128;
      return { candidate, value: 0.5 * (surface[candidate] ?? 0) + 3 + 0.1 * normal(), rung: 0, replicate: 0 };
    });
    const full = low
      .slice(0, 10)
      .map((each) => ({ ...each, value: (surface[each.candidate] ?? 0) + 0.2 * normal(), rung: 1 }));
    const error = (observations: readonly Observation[]): number => {
      const fit = fitGaussian(known(candidates, observations));
      if (fit === undefined) throw new Error("no model");
      const { mean } = posteriorAt(fit, candidates.levels);
      return Math.sqrt(mean.reduce((sum, value, i) => sum + (value - (surface[i] ?? 0)) ** 2, 0) / 128);
    };
    expect(error([...low, ...full])).toBeLessThan(0.6 * error(full));
  });

  it("does not mind values that are all equal, one value, or a space of one factor", () => {
    for (const values of [[1], [2, 2, 2], [0, 1]]) {
      const observations = values.map((value, candidate) => ({ candidate, value, rung: 0, replicate: 0 }));
      for (const members of [1, 2]) {
        const own = observations.filter(({ candidate }) => candidate < 2 ** members);
        const [proposed] = proposeOf({ kind: "gp" })(known(subsetsOf(members), own), 1);
        expect(proposed).toBeLessThan(2 ** members);
        for (const { mean, deviation } of pickOf(known(subsetsOf(members), own), 2)) {
          expect(mean).not.toBeNaN();
          expect(deviation).not.toBeNaN();
        }
      }
    }
  });

  it("with a cost looks along the front instead of at its end", () => {
    const plain = subsetsOf(7);
    const cost = Float64Array.from({ length: 128 }, (_, i) => i.toString(2).replaceAll("0", "").length);
    const candidates = { ...plain, costs: [cost] };
    // Every member adds one: all sizes are on the front.
    const observations = Array.from({ length: 24 }, (_, i) => {
      const candidate = (i * 51 + 3) % 128;
      return { candidate, value: (cost[candidate] ?? 0) + ((candidate & 1) === 1 ? 0.5 : 0), rung: 0, replicate: 0 };
    });
    const leaders = pickOf(known(candidates, observations), 4).map(({ candidate }) => cost[candidate]);
    expect(new Set(leaders).size).toBe(4);
    const [proposed] = proposeOf({ kind: "gp" })(known(candidates, observations), 1);
    // A candidate of its cost with the half point more.
    expect((proposed ?? 0) & 1).toBe(1);
  });

  it("keeps few of many observations, and stays fast", () => {
    const candidates = subsetsOf(10);
    const seen = observed(10, 900, 0.5);
    const start = performance.now();
    expect(proposeOf({ kind: "gp" })(known(candidates, seen), 1)).toHaveLength(1);
    // Ten times what it takes on a quiet machine.
    expect(performance.now() - start).toBeLessThan(15_000);
  });
});

describe("regret", () => {
  it("of the Gaussian process is at most 0.7 of random's and of univariate TPE's", () => {
    const at = { members: 10, noise: 0.5, at: [40] };
    const mean = (name: keyof typeof CONTENDERS): number =>
      summary(
        SURFACES.flatMap((kind) =>
          [0, 1].flatMap((seed) => regrets({ proposeOf, pickOf }, CONTENDERS[name], kind, { ...at, seed })),
        ),
      ).mean;
    const gp = mean("gp");
    // The benchmark asks for 0.5 from 40 repeats of each surface; from two, the ratio is uncertain by some 0.3;
    // the seeds are fixed, so what is tested is that nothing has become much worse.
    expect(gp).toBeLessThan(0.7 * mean("random"));
    expect(gp).toBeLessThan(0.7 * mean("tpe"));
  });
});

interface Optuna {
  readonly samplers: Readonly<
    Record<
      "univariate" | "multivariate",
      {
        readonly proposals: readonly {
          readonly trials: number;
          readonly draws: number;
          readonly on: readonly number[];
          readonly firstTwoAlike: number;
        }[];
      }
    >
  >;
}

describe("TPE", () => {
  const optuna = JSON.parse(readFileSync(new URL("../fixtures/optuna.json", import.meta.url), "utf8")) as Optuna;

  // Ours in proportion to Optuna's sampling: how often each member is in the next proposal, from three histories.
  it.each([
    ["univariate", false],
    ["multivariate", true],
  ] as const)("%s proposes as often as Optuna's what that proposes", (name, multivariate) => {
    const candidates = subsetsOf(10);
    const propose = proposeOf({ kind: "tpe", multivariate });
    const own = 400;
    for (const { trials, draws, on, firstTwoAlike } of optuna.samplers[name].proposals) {
      const observations = Array.from({ length: trials }, (_, number) => {
        const candidate = (number * 389 + 17) % 1024;
        const value = Math.sin(number * 1.7) + 0.3 * candidate.toString(2).replaceAll("0", "").length;
        return { candidate, value, rung: 0, replicate: 0 };
      });
      const counts = on.map(() => 0);
      let alike = 0;
      for (let seed = 0; seed < own; seed++) {
        const [candidate = 0] = propose(known(candidates, observations, { seed }), 1);
        for (const member of counts.keys()) counts[member] = (counts[member] ?? 0) + ((candidate >> member) & 1);
        if ((candidate & 1) === ((candidate >> 1) & 1)) alike++;
      }
      for (const [member, count] of [...on, firstTwoAlike].entries()) {
        const ours = [...counts, alike][member] ?? 0;
        const p = (ours + count) / (own + draws);
        // Four standard errors of the difference of two shares: 66 are compared.
        expect(Math.abs(ours / own - count / draws), `member ${member} after ${trials}`).toBeLessThanOrEqual(
          4 * Math.sqrt(p * (1 - p) * (1 / own + 1 / draws)) + 1e-9,
        );
      }
    }
  });
});
