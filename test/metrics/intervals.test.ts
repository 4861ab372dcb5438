/** Intervals and tests against scipy, published values, closed forms, and simulations of clustered data. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { Metric } from "../../compiler/recipe/recipe.ts";
import { randomOf } from "../../runtime/data/random.ts";
import { binomialHalf, incompleteBeta, tCritical } from "../../runtime/metrics/distributions.ts";
import {
  bootstrapIntervals,
  holm,
  mcnemar,
  mcnemarP,
  type PairedClips,
  pairClips,
  pairedBootstrap,
  seedDifference,
  wilsonInterval,
} from "../../runtime/metrics/intervals.ts";
import type { ScoredClip } from "../../runtime/metrics/scores.ts";

interface Fixture {
  readonly wilson: readonly {
    readonly correct: number;
    readonly total: number;
    readonly low: number;
    readonly high: number;
  }[];
  readonly student: readonly { readonly alpha: number; readonly degrees: number; readonly t: number }[];
  readonly beta: readonly { readonly a: number; readonly b: number; readonly x: number; readonly value: number }[];
  readonly mcnemar: readonly { readonly onlyFirst: number; readonly onlySecond: number; readonly p: number }[];
  readonly pairedT: readonly {
    readonly a: readonly number[];
    readonly b: readonly number[];
    readonly mean: number;
    readonly sd: number;
    readonly p: number;
    readonly low: number;
    readonly high: number;
  }[];
}
const fixture = JSON.parse(readFileSync(new URL("../fixtures/scipy.json", import.meta.url), "utf8")) as Fixture;

const ACCURACY: Metric = { kind: "accuracy" };
const TWO = ["no", "yes"];

/** A clip that is right or wrong, of a subject. */
function clip(path: string, subject: string | undefined, right: boolean, truth: "no" | "yes" = "yes"): ScoredClip {
  return { path, subject, class: truth, probabilities: (truth === "yes") === right ? [0.2, 0.8] : [0.8, 0.2] };
}

/** `subjects` people with `each` clips; a person's clips are right with a probability drawn for that person. */
function clustered(seed: number, subjects: number, each: number): readonly ScoredClip[] {
  const random = randomOf(seed, "clustered");
  return Array.from({ length: subjects }, (_, s) => {
    const skill = 0.3 + 0.6 * random(); // mean 0.6
    return Array.from({ length: each }, (_, c) => clip(`${s}/${c}`, `s${s}`, random() < skill));
  }).flat();
}

function pair(a: readonly ScoredClip[], b: readonly ScoredClip[]): PairedClips {
  const pairs = pairClips(a, b);
  if ("error" in pairs) throw new Error(pairs.error);
  return pairs;
}

describe("distributions", () => {
  it("the incomplete beta function is scipy's", () => {
    for (const { a, b, x, value } of fixture.beta)
      expect(Math.abs(incompleteBeta(x, a, b) - value), `I_${x}(${a}, ${b})`).toBeLessThan(1e-12 + 1e-11 * value);
  });

  it("quantiles of t are scipy's", () => {
    for (const { alpha, degrees, t } of fixture.student)
      expect(tCritical(alpha, degrees) / t, `t of ${degrees} at ${alpha}`).toBeCloseTo(1, 9);
  });

  it("quantiles of t are those of the printed tables", () => {
    const table = [
      [1, 12.706],
      [2, 4.303],
      [4, 2.776],
      [9, 2.262],
      [30, 2.042],
      [120, 1.98],
    ] as const;
    for (const [degrees, value] of table) expect(tCritical(0.05, degrees)).toBeCloseTo(value, 3);
  });

  it("sums the binomial", () => {
    expect(binomialHalf(0, 8)).toBeCloseTo(1 / 256, 12);
    expect(binomialHalf(2, 5)).toBeCloseTo((1 + 5 + 10) / 32, 12);
    expect(binomialHalf(5, 5)).toBe(1);
  });
});

describe("Wilson's interval", () => {
  it("is scipy's", () => {
    for (const { correct, total, low, high } of fixture.wilson) {
      const interval = wilsonInterval(correct, total);
      expect(interval.value).toBe(correct / total);
      expect(interval.low).toBeCloseTo(low, 10);
      expect(interval.high).toBeCloseTo(high, 10);
    }
  });
});

describe("McNemar's test", () => {
  it("is scipy's binomial test", () => {
    for (const { onlyFirst, onlySecond, p } of fixture.mcnemar)
      expect(mcnemarP(onlyFirst, onlySecond), `${onlyFirst} against ${onlySecond}`).toBeCloseTo(p, 10);
  });

  it("counts the clips that one model alone has right", () => {
    const right = [true, true, false, false, true];
    const other = [true, false, true, true, true];
    const paired = pair(
      right.map((ok, index) => clip(String(index), undefined, ok)),
      other.map((ok, index) => clip(String(index), undefined, ok)),
    );
    const { onlyFirst, onlySecond, p } = mcnemar(paired, TWO);
    expect({ onlyFirst, onlySecond }).toEqual({ onlyFirst: 1, onlySecond: 2 });
    expect(p).toBeCloseTo(1, 12);
  });
});

describe("the paired t test over seeds", () => {
  it("is scipy's", () => {
    for (const { a, b, mean, sd, p, low, high } of fixture.pairedT) {
      const result = seedDifference(a, b);
      expect(result.pairs).toBe(a.length);
      expect(result.difference.value).toBeCloseTo(mean, 12);
      expect(result.deviation).toBeCloseTo(sd, 12);
      expect(result.p).toBeCloseTo(p, 9);
      expect(result.difference.low).toBeCloseTo(low, 8);
      expect(result.difference.high).toBeCloseTo(high, 8);
    }
  });

  it("has no interval for one seed, and refuses unequal lists", () => {
    const one = seedDifference([0.5], [0.75]);
    expect(one.difference.value).toBe(0.25);
    expect(one.difference.low).toBeNaN();
    expect(one.p).toBeNaN();
    expect(() => seedDifference([1, 2], [1])).toThrow("2 scores cannot be paired with 1");
  });
});

describe("Holm's correction", () => {
  it("multiplies by what is left, never falling, at most 1", () => {
    expect(holm([0.01, 0.04, 0.03, 0.005])).toEqual([0.03, 0.06, 0.06, 0.02]);
    expect(holm([0.6, 0.9])).toEqual([1, 1]);
    expect(holm([Number.NaN, 0.02])).toEqual([Number.NaN, 0.02]);
  });
});

describe("the bootstrap over subjects", () => {
  it("is a function of the seed", () => {
    const clips = clustered(1, 30, 5);
    const interval = (seed: number): unknown =>
      bootstrapIntervals([ACCURACY], clips, TWO, { replicates: 500, seed }).intervals;
    expect(interval(3)).toEqual(interval(3));
    expect(interval(3)).not.toEqual(interval(4));
  });

  it("agrees with the binomial where every clip is its own subject", () => {
    // 60 of 100 independent clips: the percentiles are those of a binomial, about ± 1.96·√(0.24/100).
    const clips = Array.from({ length: 100 }, (_, index) => clip(String(index), `s${index}`, index < 60));
    const { intervals, notes, subjects } = bootstrapIntervals([ACCURACY], clips, TWO);
    expect(subjects).toBe(100);
    expect(notes).toEqual([]);
    const [{ low, high, value } = { low: 0, high: 0, value: 0 }] = intervals;
    expect(value).toBe(0.6);
    expect(Math.abs(low - 0.504)).toBeLessThan(0.011); // clips are whole: steps of 0.01
    expect(Math.abs(high - 0.696)).toBeLessThan(0.011);
  });

  it("is wider than Wilson's interval where clips of a person agree", () => {
    // 20 people, 10 clips each, all right or all wrong: 20 observations, not 200.
    const clips = Array.from({ length: 200 }, (_, index) =>
      clip(String(index), `s${Math.floor(index / 10)}`, Math.floor(index / 10) < 12),
    );
    const [{ low, high } = { low: 0, high: 0 }] = bootstrapIntervals([ACCURACY], clips, TWO).intervals;
    const wilson = wilsonInterval(120, 200);
    expect((high - low) / (wilson.high - wilson.low)).toBeGreaterThan(2.5); // √10 in the limit
    expect(high - low).toBeCloseTo(2 * 1.96 * Math.sqrt(0.24 / 20), 1);
  });

  it("covers the truth in about 95 % of simulated sets, and one that draws clips does not", () => {
    // 40 people of different skill, 12 clips each; the truth is the mean skill, 0.6. Of 300 sets the share that is
    // covered has a standard error of 1.3 points; the percentile interval itself is a point or two too narrow at 40.
    let [bySubject, byClip] = [0, 0];
    const sets = 300;
    for (let set = 0; set < sets; set++) {
      const clips = clustered(set, 40, 12);
      const cover = (of: readonly ScoredClip[]): number => {
        const [{ low, high } = { low: 1, high: 0 }] = bootstrapIntervals([ACCURACY], of, TWO, {
          replicates: 400,
          seed: set,
        }).intervals;
        return low <= 0.6 && 0.6 <= high ? 1 : 0;
      };
      bySubject += cover(clips);
      byClip += cover(clips.map((one) => ({ ...one, subject: undefined })));
    }
    expect(bySubject / sets).toBeGreaterThan(0.9);
    expect(bySubject / sets).toBeLessThan(0.985);
    expect(byClip / sets).toBeLessThan(0.88);
  });

  it("says what it cannot know: clips without subject, few subjects, one subject, no clip of a class", () => {
    const notes = (clips: readonly ScoredClip[], metric: Metric = ACCURACY): readonly string[] =>
      bootstrapIntervals([metric], clips, TWO, { replicates: 50 }).notes;
    expect(notes([...clustered(1, 30, 2), clip("x", undefined, true)])).toEqual([
      "1 of 61 clips name no subject: each counts as a subject of its own.",
    ]);
    expect(notes(clustered(1, 30, 2).map((one) => ({ ...one, subject: undefined })))[0]).toMatch(/^No clip names/);
    expect(notes(clustered(1, 4, 2))).toEqual([
      "There are 4 subjects only: intervals of a bootstrap over so few tend to be too narrow.",
    ]);
    const one = bootstrapIntervals([ACCURACY], clustered(1, 1, 8), TWO, { replicates: 50 });
    expect(one.notes[0]).toMatch(/^There is one subject only/);
    expect(one.intervals[0]?.low).toBeNaN();
    const rare = [...clustered(1, 25, 1), clip("rare", "s0", true, "no")];
    expect(notes(rare, { kind: "auc", class: "no" })[0]).toMatch(/^Up to \d+ of 50 draws held no clip/);
  });

  it("takes well under a second for 10,000 draws of 1,300 clips", () => {
    const clips = clustered(2, 43, 30);
    const metrics: readonly Metric[] = [ACCURACY, { kind: "uar" }, { kind: "macro_f1" }, { kind: "loss" }];
    const started = performance.now();
    bootstrapIntervals(metrics, clips, TWO);
    // Measured at 0.05 s; the limit is for a machine that does other things as well.
    expect(performance.now() - started).toBeLessThan(1500);
  });
});

describe("two models on the same clips", () => {
  it("differ by nothing from themselves", () => {
    const clips = clustered(5, 25, 6);
    const { differences } = pairedBootstrap([ACCURACY, { kind: "loss" }], pair(clips, [...clips].reverse()), TWO, {
      replicates: 300,
    });
    for (const { difference, p } of differences)
      expect({ difference, p }).toEqual({ difference: { value: 0, low: 0, high: 0 }, p: 1 });
  });

  it("differ clearly where one is better for everybody", () => {
    const worse = clustered(6, 30, 8);
    const better = worse.map((one, index) => (index % 4 === 0 ? clip(one.path, one.subject, true) : one));
    const { differences, subjects, method } = pairedBootstrap([ACCURACY], pair(worse, better), TWO, { seed: 1 });
    const [found] = differences;
    expect(subjects).toBe(30);
    expect(method).toBe("paired bootstrap, 10,000 draws of the subjects, the same for both, seed 1");
    expect(found?.difference.value).toBeCloseTo((found?.b ?? 0) - (found?.a ?? 0), 12);
    expect(found?.difference.low).toBeGreaterThan(0);
    expect(found?.p).toBeCloseTo(2 / 10_001, 12);
  });

  it("reject equal models in about 5 % of simulated sets", () => {
    let rejected = 0;
    const sets = 300;
    for (let set = 0; set < sets; set++) {
      const first = clustered(set, 40, 6);
      const random = randomOf(set, "second");
      // The same clips, each right or wrong anew with the same mean for everyone.
      const second = first.map((one) => clip(one.path, one.subject, random() < 0.6));
      const [found] = pairedBootstrap([ACCURACY], pair(first, second), TWO, { replicates: 400, seed: set }).differences;
      if ((found?.p ?? 1) <= 0.05) rejected++;
    }
    // A standard error of 1.3 points, and the percentile interval is slightly too narrow.
    expect(rejected / sets).toBeGreaterThan(0.015);
    expect(rejected / sets).toBeLessThan(0.1);
  });

  it("are refused on other clips, with what differs", () => {
    const clips = clustered(7, 2, 2);
    const error = (a: readonly ScoredClip[], b: readonly ScoredClip[]): string => {
      const result = pairClips(a, b);
      return "error" in result ? result.error : "";
    };
    const [first] = clips;
    if (first === undefined) throw new Error("no clips");
    const rest = clips.slice(1);
    expect(error(clips, rest)).toBe("the clips are not the same: 1 only in the first (`0/0`), 0 only in the second");
    expect(error(clips, [...rest, { ...first, path: "z" }])).toBe(
      "the clips are not the same: 1 only in the first (`0/0`), 1 only in the second (`z`)",
    );
    expect(error([...clips, first], clips)).toBe("the first lists 1 clips twice");
    expect(error(clips, [...rest, { ...first, class: "no" }])).toBe(
      "`0/0` is `yes` in the first and `no` in the second",
    );
    expect(error(clips, [...rest, { ...first, subject: "s9" }])).toBe(
      "`0/0` shows s0 in the first and s9 in the second",
    );
    expect(error(clips, [...rest, first])).toBe("");
  });
});
