/** Latencies before a search: which models are timed, what is predicted for the others, and who is refused for it. */
import { existsSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { elaborateSearch } from "../../compiler/search/elaborate.ts";
import type { Candidate, Factor, Search } from "../../compiler/search/search.ts";
import { diskResolve } from "../../runtime/cli/sources.ts";
import { randomOf } from "../../runtime/data/random.ts";
import { findDevice } from "../../runtime/engine/devices.ts";
import { changesOf } from "../../runtime/search/differences.ts";
import { measureSearch } from "../../runtime/search/latency/device.ts";
import { timingOf } from "../../runtime/search/latency/forward.ts";
import { isShared, quietly, waitWhileMeasured, watchOthers } from "../../runtime/search/latency/quiet.ts";
import {
  asksLatency,
  nearestToLimit,
  surveyOf,
  type TimeModel,
  withLatencies,
  withoutLatencies,
} from "../../runtime/search/latency/survey.ts";
import { foundText, latencyLines, surveyText } from "../../runtime/search/latency/words.ts";
import { planOf, viewOf } from "../../runtime/search/methods/plan.ts";
import { fakeStudy } from "./fake-study.ts";
import { searchText } from "./trials.ts";

const scratch = mkdtempSync(join(tmpdir(), "netc-latency-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const timing = (median: number): { median: number; low: number; high: number; runs: number } => ({
  median,
  low: 0.99 * median,
  high: 1.01 * median,
  runs: 30,
});
const silent = { name: "a device", busy: () => 0 };

/** A space of `positions` members, a unit of three kinds, and a rate that is the recipe's. */
function spaceOf(positions: number, limit: number | undefined): Search {
  const member = (k: number): Factor => ({
    name: `spots.conv${k}`,
    kind: "member",
    optional: true,
    levels: ["", `@conv${k}`],
    values: undefined,
  });
  const factors: readonly Factor[] = [
    ...Array.from({ length: positions }, (_, k) => member(k)),
    { name: "unit", kind: "category", optional: false, levels: ["STIA", "SE", "CBAM"], values: undefined },
    { name: "lr", kind: "ordinal", optional: false, levels: ["0.001", "0.01"], values: [-3, -2] },
  ];
  const candidates: Candidate[] = [];
  for (let set = 0; set < 2 ** positions; set++)
    for (let unit = 0; unit < (set === 0 ? 1 : 3); unit++)
      for (let rate = 0; rate < 2; rate++) {
        const members = Array.from({ length: positions }, (_, k) => (set >> k) & 1);
        const flops = 1e9 + members.reduce((sum, on, k) => sum + on * 1e7 * (unit + 1) * (k + 1), 0);
        candidates.push({
          index: candidates.length,
          levels: [...members, unit, rate],
          label: `set ${set} unit ${unit} rate ${rate}`,
          hash: `${set}/${unit}/${rate}`,
          costs: { params: 1e6, flops, memory: 5e6 + members.reduce((sum, on) => sum + on * 1e5, 0) },
          refused: undefined,
        });
      }
  const { search } = fakeStudy().study;
  return {
    ...search,
    space: {
      factors,
      candidates,
      points: candidates.length,
      none: 0,
      all: candidates.length - 1,
      modelFactors: Array.from({ length: positions + 1 }, (_, k) => k),
    },
    latencyLimit: limit,
    objectives: [
      { kind: "metric", goal: "maximize", metric: "val.uar" },
      { kind: "cost", goal: "minimize", cost: "latency" },
    ],
  };
}

/** Each graft costs by its place and unit, with noise of one in a hundred. */
function trueTime({ levels }: Candidate): number {
  const unit = 1 + (levels.at(-2) ?? 0);
  return levels.slice(0, -2).reduce((sum, on, k) => sum + on * (0.3 + 0.11 * ((k * 7) % 5)) * Math.sqrt(unit), 10);
}
const noisy: TimeModel = (candidate) => {
  const random = randomOf(3, candidate.hash);
  return Promise.resolve(timing(trueTime(candidate) * (1 + 0.01 * (2 * random() - 1))));
};

describe("a survey of latencies", () => {
  it("is made where a latency is asked for, of each different model once", async () => {
    const plain = fakeStudy().study.search;
    expect(asksLatency(plain)).toBe(false);
    expect(surveyOf(plain)).toBeUndefined();
    const search = spaceOf(3, undefined);
    const survey = surveyOf(search);
    if (survey === undefined) throw new Error("no survey");
    // Without attention the unit does not matter, and the rate never does.
    expect(survey.models).toHaveLength(1 + 7 * 3);
    expect(survey.each).toBe(true);
    const asked: number[] = [];
    const found = await withLatencies(search, survey, {
      ...silent,
      time: (candidate) => {
        asked.push(candidate.index);
        return noisy(candidate);
      },
    });
    expect(new Set(asked).size).toBe(22);
    expect(asked).toHaveLength(22);
    expect(found.latency).toMatchObject({ device: "a device", models: 22, check: undefined, busy: 0 });
    for (const { latency, levels, refused } of found.space.candidates) {
      expect(latency).toMatchObject({ measured: true, refuses: false });
      expect(refused).toBeUndefined();
      const twin = found.space.candidates.find(
        (one) => one.levels.slice(0, 4).join() === levels.slice(0, 4).join() && one.levels[4] !== levels[4],
      );
      expect(twin?.latency).toEqual(latency);
    }
    // The methods see the times, and no longer FLOPs.
    expect([...(viewOf(found).candidates.costs[0] ?? [])]).toEqual(
      found.space.candidates.map(({ latency }) => latency?.milliseconds),
    );
    expect(surveyText(survey)).toBe("22 models, 30 passes of one example each at least");
    expect(foundText(found.latency ?? never())).toBe(
      "22 models measured on a device before any training, 30 passes of one example each at least",
    );
  });

  it("predicts a large space from some, within what its check says", async () => {
    const search = spaceOf(9, 14);
    const survey = surveyOf(search);
    if (survey === undefined) throw new Error("no survey");
    expect(survey.models).toHaveLength(1 + 511 * 3);
    expect(survey.each).toBe(false);
    expect(survey.fit.length + survey.check.length).toBeLessThanOrEqual(40);
    expect(survey.check).toHaveLength(12);
    expect(survey.fit.filter((place) => survey.check.includes(place))).toEqual([]);
    const first = survey.fit.map((place) => survey.models[place]?.[0]);
    expect(first).toContain(0);
    const counts: number[] = [];
    const found = await withLatencies(search, survey, { ...silent, time: noisy }, (done) => counts.push(done));
    const { latency } = found;
    if (latency?.check === undefined) throw new Error("nothing was checked");
    expect(latency.check.most).toBeLessThan(0.05);
    expect(latency.check.median).toBeLessThan(0.02);
    // Some that are too close to the limit to tell were measured too.
    expect(latency.measured.length).toBeGreaterThan(36);
    expect(latency.measured.length).toBeLessThanOrEqual(36 + 16);
    expect(counts).toEqual(latency.measured.map((_, k) => k + 1));
    const errors = found.space.candidates.map((one) => (one.latency?.milliseconds ?? 0) / trueTime(one) - 1);
    const rms = Math.sqrt(errors.reduce((sum, error) => sum + error * error, 0) / errors.length);
    expect(rms).toBeLessThan(0.015);
    for (const candidate of found.space.candidates) {
      const { latency: own, refused } = candidate;
      expect(own?.refuses).toBe((own?.milliseconds ?? 0) > 14);
      expect(refused === undefined).toBe(own?.refuses === false);
    }
    const slow = found.space.candidates.find(({ latency: own }) => own?.refuses === true && !own.measured);
    expect(slow?.refused).toMatch(
      /^latency 1\d(\.\d)? ms, predicted from \d+ models that were measured, is above the limit 14 ms$/,
    );
    expect(planOf(found).feasible).toBe(
      found.space.candidates.filter(({ latency: own }) => own?.refuses === false).length,
    );
    expect(latencyLines(found)[0]).toMatch(
      /^latency 9\.\d+ to 1\d(\.\d)? ms; [\d,]+ of 3,068 candidates are above the limit of 14 ms$/,
    );
    expect(latencyLines(found)[1]).toMatch(
      /the others are predicted, \d\.\d % off in the median and \d\.\d % at most on 12 models/,
    );
  });

  it("sees every level of every factor", () => {
    const search = spaceOf(7, undefined);
    const rare = search.space.candidates.filter(({ levels }) => levels[7] !== 2 || levels[0] === 1);
    const survey = surveyOf({
      ...search,
      space: { ...search.space, candidates: rare.map((one, index) => ({ ...one, index })) },
    });
    if (survey === undefined) throw new Error("no survey");
    const levels = survey.fit.map((place) => rare[survey.models[place]?.[0] ?? 0]?.levels ?? []);
    for (const factor of [0, 1, 2, 3, 4, 5, 6]) expect(new Set(levels.map((own) => own[factor])).size).toBe(2);
    expect(new Set(levels.map((own) => own[7])).size).toBe(3);
  });

  it("leaves what other requirements refuse alone, and is taken back", async () => {
    const search = spaceOf(3, 10.5);
    const candidates = search.space.candidates.map((one) => (one.index === 7 ? { ...one, refused: "params" } : one));
    const asked = { ...search, space: { ...search.space, candidates } };
    const survey = surveyOf(asked);
    if (survey === undefined) throw new Error("no survey");
    const found = await withLatencies(asked, survey, { ...silent, time: noisy });
    expect(found.space.candidates[7]?.refused).toBe("params");
    expect(found.space.candidates.some(({ refused }) => refused?.startsWith("latency") ?? false)).toBe(true);
    expect(withoutLatencies(found)).toEqual(asked);
    // A study that is gone on with is compared as it was asked for.
    const { study } = fakeStudy();
    expect(changesOf({ ...study, search: found }, { ...study, search: asked })).toEqual([]);
    expect(nearestToLimit(found)).toBeUndefined();
    const none = await withLatencies({ ...asked, latencyLimit: 5 }, survey, { ...silent, time: noisy });
    expect(nearestToLimit(none)?.levels.slice(0, 3)).toEqual([0, 0, 0]);
  });
});

function never(): never {
  throw new Error("nothing was found");
}

describe("the moment of a measurement", () => {
  it("is one at a time, holds trials, and ends with its process", async () => {
    const file = join(scratch, "quiet");
    const order: string[] = [];
    const one = quietly(
      async () => {
        order.push("begins");
        await new Promise((resolve) => setTimeout(resolve, 60));
        order.push("ends");
      },
      { file, patience: 0 },
    );
    const other = quietly(() => Promise.resolve(order.push("other")), { file, patience: 0 });
    await Promise.all([one, other]);
    expect(order).toEqual(["begins", "ends", "other"]);
    expect(existsSync(file)).toBe(false);
    // A process that has died, and one that only has its number.
    writeFileSync(file, "999999999");
    const before = performance.now();
    waitWhileMeasured(file);
    writeFileSync(file, String(process.ppid));
    utimesSync(file, 0, 0);
    waitWhileMeasured(file);
    expect(performance.now() - before).toBeLessThan(500);
    expect(await quietly(() => Promise.resolve(3), { file, patience: 0 })).toBe(3);
    await expect(quietly(() => Promise.reject(new Error("broken")), { file, patience: 0 })).rejects.toThrow("broken");
    expect(existsSync(file)).toBe(false);
  });

  it("knows what others take of the processors", () => {
    const others = watchOthers();
    for (let end = performance.now() + 50; performance.now() < end; );
    expect(others()).toBeGreaterThanOrEqual(0);
    expect(others()).toBeLessThanOrEqual(1);
    expect([isShared(0.02), isShared(0.9)]).toEqual([false, true]);
  });

  it("gives median and quartiles", () => {
    expect(timingOf([5, 1, 2, 4, 3])).toEqual({ median: 3, low: 2, high: 4, runs: 5 });
    expect(timingOf([1, 2, 3, 4])).toEqual({ median: 2.5, low: 1.75, high: 3.25, runs: 4 });
  });
});

describe("models of a search", () => {
  const source = (limit: string): { path: string; text: string } => ({
    path: "<stdin>",
    text: searchText(`minimize latency(model)\n  limit { latency = ${limit} }`),
  });

  it("are timed on this machine's device, each once", async () => {
    const entry = source("10s");
    const resolve = diskResolve(entry, scratch);
    const { search } = elaborateSearch(entry, resolve, { folder: "." });
    if (search === undefined) throw new Error("no search");
    expect(search.space.modelFactors).toEqual([0, 1]);
    const device = await findDevice("wasm");
    const found = await measureSearch(search, { entry, resolve }, device, {
      quiet: { patience: 0, file: join(scratch, "quiet") },
    });
    expect(found.latency?.measured).toHaveLength(4);
    expect(found.latency?.device).toMatch(/^wasm, \d+ threads?$/);
    for (const { median, low, high, runs } of found.latency?.measured ?? []) {
      expect(low).toBeGreaterThan(0);
      expect(median).toBeGreaterThanOrEqual(low);
      expect(high).toBeGreaterThanOrEqual(median);
      expect(runs).toBeGreaterThanOrEqual(30);
    }
    expect(planOf(found).feasible).toBe(4);
  });

  it("are all refused by a limit that none is within, and the nearest is named", async () => {
    const entry = source("1us");
    const resolve = diskResolve(entry, scratch);
    const { search } = elaborateSearch(entry, resolve, { folder: "." });
    if (search === undefined) throw new Error("no search");
    await expect(
      measureSearch(search, { entry, resolve }, await findDevice("wasm"), {
        quiet: { patience: 0, file: join(scratch, "quiet") },
      }),
    ).rejects.toThrow(
      /^no model of `Tiny` is within its limits on wasm, .*: the nearest is `.*`, whose latency [\d.]+ ms, measured, is above the limit 0.001 ms$/,
    );
  });
});
