/** The learning rate over time, against PyTorch's schedulers (fixtures/make_torch_schedules.py) and the papers. */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Goal, Schedule } from "../../compiler/recipe/recipe.ts";
import {
  isBetter,
  PLATEAU_START,
  rateAt,
  STOP_START,
  updateEarlyStop,
  updatePlateau,
} from "../../runtime/train/schedule.ts";

interface Fixture {
  readonly step: { readonly at: number[]; readonly gamma: number; readonly rates: number[] };
  readonly multistep: Fixture["step"];
  readonly cosine: readonly { readonly epochs: number; readonly to: number; readonly rates: number[] }[];
  readonly scores: number[];
  readonly plateau: readonly {
    readonly better: Goal["better"];
    readonly gamma: number;
    readonly patience: number;
    readonly least: number;
    readonly rates: number[];
  }[];
}

const torch = JSON.parse(readFileSync(new URL("../fixtures/torch_schedules.json", import.meta.url), "utf8")) as Fixture;
const goal = (better: Goal["better"]): Goal => ({ metric: { kind: "uar" }, better });
const at = (schedule: Schedule, time: number, epochs = 20, update = 0): number =>
  rateAt(schedule, time, epochs, PLATEAU_START, update);
/** PyTorch multiplies epoch by epoch, with a rounding in each. */
const DIGITS = 12;

describe("as PyTorch", () => {
  test.each(["step", "multistep"] as const)("%s", (kind) => {
    const { at: milestones, gamma, rates } = torch[kind];
    const schedule: Schedule = { warmup: 0, then: { kind: "step", at: milestones, gamma } };
    for (const [epoch, rate] of rates.entries()) {
      expect(at(schedule, epoch)).toBeCloseTo(rate, DIGITS);
      expect(at(schedule, epoch + 0.999)).toBeCloseTo(rate, DIGITS);
    }
  });

  test.each(torch.cosine)("cosine over $epochs epochs to $to", ({ epochs, to, rates }) => {
    for (const [epoch, rate] of rates.entries())
      expect(at({ warmup: 0, then: { kind: "cosine", to } }, epoch, epochs)).toBeCloseTo(rate, DIGITS);
  });

  test.each(torch.plateau)(
    "plateau: $better, γ $gamma, patience $patience",
    ({ better, gamma, patience, least, rates }) => {
      const then = { kind: "plateau", goal: goal(better), gamma, patience, least } as const;
      const schedule: Schedule = { warmup: 0, then };
      let state = PLATEAU_START;
      const ours = torch.scores.map((score) => {
        // A checkpoint after every epoch changes nothing.
        state = JSON.parse(JSON.stringify(updatePlateau(schedule, state, score))) as typeof state;
        return rateAt(schedule, 0, 1, state);
      });
      expect(new Set(rates).size).toBeGreaterThan(2);
      for (const [epoch, rate] of rates.entries()) expect(ours[epoch]).toBeCloseTo(rate, DIGITS);
    },
  );
});

describe("warm-up", () => {
  const schedule: Schedule = { warmup: 2, then: { kind: "cosine", to: 0 } };
  test("rises on a line to what the schedule gives where it ends", () => {
    const top = 0.5 * (1 + Math.cos((Math.PI * 2) / 20));
    expect(at(schedule, 0)).toBe(0);
    expect(at(schedule, 0.5)).toBeCloseTo(top / 4, 14);
    expect(at(schedule, 1)).toBeCloseTo(top / 2, 14);
    expect(at(schedule, 2)).toBeCloseTo(top, 14);
    expect(at(schedule, 2 - 1e-9)).toBeCloseTo(top, 8);
  });

  test("the first of four updates is not lost, the last one has all of it", () => {
    const constant: Schedule = { warmup: 1, then: { kind: "constant" } };
    expect([0, 1, 2, 3, 4].map((update) => at(constant, update / 4, 20, 1 / 4))).toEqual([0.25, 0.5, 0.75, 1, 1]);
  });

  test("milestones within it have been passed at its end", () => {
    const steps: Schedule = { warmup: 2, then: { kind: "step", at: [1], gamma: 0.1 } };
    expect(at(steps, 2)).toBe(0.1);
    expect(at(steps, 1)).toBeCloseTo(0.05, 15);
  });

  test("no factor is below 0 or above 1, whatever the time", () => {
    const then = fc.oneof(
      fc.constant({ kind: "constant" } as const),
      fc.record({ kind: fc.constant("cosine" as const), to: fc.double({ min: 0, max: 1, noNaN: true }) }),
      fc.record({
        kind: fc.constant("step" as const),
        at: fc.array(fc.integer({ min: 0, max: 30 })),
        gamma: fc.double({ min: 0, max: 1, noNaN: true }),
      }),
    );
    const time = fc.double({ min: 0, max: 40, noNaN: true });
    fc.assert(
      fc.property(then, fc.integer({ min: 0, max: 5 }), time, (then, warmup, time) => {
        const rate = at({ warmup, then }, time);
        return rate >= 0 && rate <= 1 + 1e-12;
      }),
    );
  });
});

describe("plateau and early stopping", () => {
  const then = { kind: "plateau", goal: goal("larger"), gamma: 0.1, patience: 1, least: 0.05 } as const;
  test("the factor does not fall below the least, and does not rise to it either", () => {
    const schedule: Schedule = { warmup: 0, then };
    let state = PLATEAU_START;
    const factors = [0.5, 0.5, 0.5, 0.5, 0.5, 0.5].map((score) => {
      state = updatePlateau(schedule, state, score);
      return state.factor;
    });
    expect(factors).toEqual([1, 1, 0.1, 0.1, 0.05, 0.05]);
    expect(updatePlateau(schedule, { factor: 0.01, best: 1, bad: 1 }, 0).factor).toBe(0.01);
  });

  test("another schedule keeps its state", () => {
    expect(updatePlateau({ warmup: 0, then: { kind: "constant" } }, PLATEAU_START, 0.5)).toBe(PLATEAU_START);
  });

  test("a stage ends after `patience` epochs that were not better", () => {
    const rule = { goal: goal("smaller"), patience: 3 };
    let state = STOP_START;
    const ends = [1, 0.9, 0.9, 0.95, 0.8, 0.8, Number.NaN, 0.81].map((score) => {
      const after = updateEarlyStop(rule, state, score);
      state = JSON.parse(JSON.stringify(after.state)) as typeof state;
      return after.ends;
    });
    expect(ends).toEqual([false, false, false, false, false, false, false, true]);
    expect(updateEarlyStop(undefined, STOP_START, 1)).toEqual({ state: STOP_START, ends: false });
  });

  test("a score that is not finite is never better", () => {
    for (const score of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      expect(isBetter(goal("larger"), score, undefined)).toBe(false);
      expect(isBetter(goal("smaller"), score, 1)).toBe(false);
    }
    expect(isBetter(goal("larger"), 0, undefined)).toBe(true);
    expect(isBetter(goal("larger"), 0.5, 0.5)).toBe(false);
    expect(isBetter(goal("smaller"), 0.4, 0.5)).toBe(true);
  });
});
