/** What a report says of a study: figures of fresh seeds only, compared by hand; what it says of what is not there. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { holm, seedDifference } from "../../runtime/metrics/intervals.ts";
import { findingsOf, randomTrainings } from "../../runtime/search/report/findings.ts";
import type { StudyReport } from "../../runtime/search/report/model.ts";
import { headingOf, notationOf, placeOf, roleOf, shortLabel } from "../../runtime/search/report/notation.ts";
import { journalHash, reportOf } from "../../runtime/search/report/report.ts";
import { meanOf, scoresOf, targetOf, unpairedDifference } from "../../runtime/search/report/scores.ts";
import { readStudy, type StudyData } from "../../runtime/search/report/study-data.ts";
import { bestRandomOf, choiceOf, frontOf } from "../../runtime/search/report/table.ts";
import { ablationNotes } from "../../runtime/search/report/words.ts";
import { openStore } from "../../runtime/search/store/open.ts";
import type { StudyStore } from "../../runtime/search/study.ts";
import { encodePredictions } from "../../runtime/train/predictions.ts";
import {
  ALL,
  byMembers,
  EFFECTS,
  FACTORS,
  fakeFindings,
  fakeStudy,
  NONE,
  PAIR,
  POSITIONS,
  truth,
} from "./fake-study.ts";

const study = fakeStudy();
const report = reportOf(study, fakeFindings());

/** Values of a metric of the complete trials of a phase, by seed. */
function valuesOf(data: StudyData, index: number, phase: string, metric: string): readonly number[] {
  const hash = data.study.search.space.candidates[index]?.hash;
  return data.trials
    .filter((trial) => trial.candidate === hash && trial.phase === phase && trial.state === "complete")
    .sort((a, b) => a.seed - b.seed)
    .map(({ id }) => data.results[id]?.metrics[metric] ?? Number.NaN);
}

/** The study with every result of some phases changed. */
function withScores(data: StudyData, final: boolean, change: (value: number, trial: number) => number): StudyData {
  const chosen = new Map(
    data.trials.filter(({ phase }) => (phase === "final") === final).map(({ id, number }) => [id, number]),
  );
  return {
    ...data,
    observations: data.observations.map((row) => {
      const trial = chosen.get(row.trial);
      return trial === undefined || row.value === undefined ? row : { ...row, value: change(row.value, trial) };
    }),
    results: Object.fromEntries(
      Object.entries(data.results).map(([id, result]) => {
        const trial = chosen.get(id);
        if (trial === undefined) return [id, result];
        const metrics = Object.entries(result.metrics).map(([name, value]) => [name, change(value, trial)] as const);
        return [id, { ...result, metrics: Object.fromEntries(metrics) }];
      }),
    ),
  };
}

const rowOf = ({ rows }: StudyReport, candidate: number): StudyReport["rows"][number] => {
  const row = rows.find((one) => one.candidate === candidate);
  if (row === undefined) throw new Error(`candidate ${candidate} has no row`);
  return row;
};

describe("the table", () => {
  it("has means, paired differences and corrected p of the test values of final trials", () => {
    const none = valuesOf(study, NONE, "final", "test.uar");
    expect(none).toHaveLength(5);
    const tests: number[] = [];
    for (const row of report.rows) {
      const own = valuesOf(study, row.candidate, "final", "test.uar");
      expect(row.mean).toEqual(meanOf(row.seeds.map(({ value }) => value)));
      expect(row.mean.value).toBeCloseTo(own.reduce((sum, value) => sum + value, 0) / 5, 12);
      if (row.candidate === NONE) {
        expect(row.toNone).toBeUndefined();
        continue;
      }
      const expected = seedDifference(none, own);
      expect(row.toNone?.difference.value).toBeCloseTo(expected.difference.value, 12);
      expect(row.toNone?.difference.low).toBeCloseTo(expected.difference.low, 12);
      expect(row.toNone?.p).toBeCloseTo(expected.p, 12);
      expect(row.toNone?.pairs).toBe(5);
      tests.push(expected.p);
    }
    const { choice } = report;
    if (choice === undefined) throw new Error("nothing was chosen");
    const random = valuesOf(study, report.bestRandom?.candidate ?? -1, "final", "test.uar");
    tests.push(seedDifference(random, valuesOf(study, choice, "final", "test.uar")).p);
    const corrected = holm(tests);
    const given = [...report.rows.map(({ toNone }) => toNone), rowOf(report, choice).toRandom];
    for (const [k, test] of given.filter((test) => test !== undefined).entries())
      expect(test.corrected).toBeCloseTo(corrected[k] ?? Number.NaN, 12);
  });

  it("does not move with the search's scores, nor the choice with fresh seeds", () => {
    const searched = reportOf(
      withScores(study, false, (value) => value + 0.1),
      fakeFindings(),
    );
    expect(searched.rows).toEqual(report.rows);
    expect(searched.searchRows).not.toEqual(report.searchRows);
    const fresh = reportOf(withScores(study, true, (value, trial) => (trial % 2 === 0 ? 0.99 : value)));
    expect(fresh.choice).toBe(reportOf(study).choice);
    expect(fresh.bestRandom).toEqual(report.bestRandom);
    const means = ({ searchRows }: StudyReport): readonly number[] =>
      searchRows.map(({ mean }) => mean.value).sort((a, b) => a - b);
    expect(means(fresh)).toEqual(means(report));
  });

  it("names its rows, the choice apart from the largest mean", () => {
    const roles = new Map(report.rows.map(({ candidate, roles }) => [candidate, roles]));
    expect(roles.get(NONE)).toEqual(["none"]);
    expect(roles.get(ALL)).toEqual(["all"]);
    expect(roles.get(byMembers("○○●○○"))).toEqual(["only conv3"]);
    expect(roles.get(byMembers("○●●●●"))).toEqual(["without conv1"]);
    expect(roles.get(report.choice ?? -1)).toContain("choice");
    expect(report.rows.filter(({ roles }) => roles.includes("choice"))).toHaveLength(1);
    expect(report.rows.slice(0, 3).map(({ roles }) => roles[0])).toEqual(["none", "all", "choice"]);
    // The best of random by its own scores, and never a candidate that only the search has drawn.
    const drawn = new Set(
      study.trials.filter(({ phase }) => phase === "random" || phase === "screen").map(({ candidate }) => candidate),
    );
    expect(report.bestRandom?.of).toBe(drawn.size);
    expect(drawn.has(study.study.search.space.candidates[report.bestRandom?.candidate ?? -1]?.hash ?? "")).toBe(true);
  });

  it("finds the front of means and costs", () => {
    expect(
      frontOf([
        [1, -5],
        [2, -5],
        [2, -6],
        [3, -9],
        [Number.NaN, -1],
      ]),
    ).toEqual([false, true, false, true, false]);
    const params = (index: number): number => report.candidates[index]?.costs.params ?? Number.NaN;
    for (const row of report.rows) {
      const beaten = report.rows.some(
        (other) =>
          other.mean.value >= row.mean.value &&
          params(other.candidate) <= params(row.candidate) &&
          (other.mean.value > row.mean.value || params(other.candidate) < params(row.candidate)),
      );
      expect(row.front).toBe(!beaten);
    }
  });

  it("compares over people what it compares over seeds, with the same values", () => {
    const none = report.subjects.find(({ against }) => against === "none");
    expect(none?.subjects).toBe(16);
    expect(none?.seeds).toBe(5);
    expect(none?.second).toBeCloseTo(rowOf(report, report.choice ?? -1).mean.value, 10);
    expect(none?.first).toBeCloseTo(rowOf(report, NONE).mean.value, 10);
    expect(none?.difference.value).toBeCloseTo(rowOf(report, report.choice ?? -1).toNone?.difference.value ?? 0, 10);
    expect(none?.difference.low).toBeLessThan(none?.difference.value ?? 0);
  });

  it("turns round where smaller is better", () => {
    const smaller = fakeStudy({ minimize: true });
    const found = reportOf(smaller, fakeFindings());
    expect(found.metric.goal).toBe("minimize");
    expect(found.metric.text.title).toBe("Cross-entropy");
    const chosen = rowOf(found, found.choice ?? -1);
    expect(chosen.toNone?.difference.value).toBeLessThan(0);
    const { searchCurve } = found;
    for (const [k, step] of searchCurve.entries())
      expect(step.soFar).toBe(Math.min(...searchCurve.slice(0, k + 1).map(({ value }) => value)));
  });

  it("takes the validation side where the test has not been read, and says so", () => {
    const results = Object.fromEntries(
      Object.entries(study.results).map(([id, result]) => {
        const { "test.uar": _, ...metrics } = result.metrics;
        return [id, { ...result, metrics }];
      }),
    );
    const found = reportOf({ ...study, results, predictions: {} }, fakeFindings());
    expect(found.metric.side).toBe("validation");
    expect(found.subjects).toEqual([]);
    expect(rowOf(found, ALL).mean).toEqual(rowOf(report, ALL).validation);
  });

  it("says where none differs from the rows in more than placement", () => {
    const { search } = study.study;
    const rate = { name: "lr", kind: "ordinal", optional: false, levels: ["0.001", "0.01"], values: [-3, -2] } as const;
    const space = {
      ...search.space,
      factors: [...search.space.factors, rate],
      candidates: search.space.candidates.map((one) => ({
        ...one,
        levels: [...one.levels, one.index === NONE ? 0 : 1],
      })),
    };
    const found = reportOf({ ...study, study: { ...study.study, search: { ...search, space } } }, fakeFindings());
    const said = "None was trained with lr 0.001: where a row has another, its difference is of that too.";
    expect(ablationNotes(found)).toContain(said);
    expect(ablationNotes(report).join(" ")).not.toContain("None was trained with");
    expect(found.candidates[byMembers("○○●●○")]?.short).toBe("○○●●○ STIA(4) lr=0.01");
  });

  it("leaves out what was not paired or not repeated", () => {
    const once = { ...study, trials: study.trials.filter((trial) => trial.phase !== "final" || trial.replicate === 0) };
    const found = reportOf(once, fakeFindings());
    for (const row of found.rows) {
      expect(row.mean.low).toBeNaN();
      if (row.toNone !== undefined) expect(row.toNone.corrected).toBeNaN();
    }
    const without = study.study.search.space.candidates[NONE]?.hash;
    const alone = reportOf(
      { ...study, trials: study.trials.filter(({ candidate }) => candidate !== without) },
      fakeFindings(),
    );
    expect(alone.rows.every(({ toNone }) => toNone === undefined)).toBe(true);
  });
});

describe("the rest of a report", () => {
  it("counts what was tried, spent and left", () => {
    const { space, budget, kernels } = report;
    expect(space).toMatchObject({ points: 33, candidates: 32, feasible: 29, refused: 3 });
    const tried = new Set(study.trials.map(({ candidate }) => candidate));
    expect(space.tried).toBe(tried.size);
    expect(space.reasons).toEqual([
      { reason: "memory(model) <= 7MB does not hold: 7200000 and 7000000", candidates: 3 },
    ]);
    const epochs = study.trials
      .filter(({ phase }) => phase !== "random" && phase !== "final")
      .reduce((sum, { id }) => sum + Math.max(...(study.metrics[id] ?? []).map(({ epoch }) => epoch)), 0);
    expect(budget.spent).toBeCloseTo(epochs / 27, 9);
    expect(budget.byPhase.final).toBe(report.rows.length * 5);
    expect(kernels.hits / (kernels.hits + kernels.misses)).toBeGreaterThan(0.9);
    expect(budget.deviceSeconds).toBe(Object.values(study.results).reduce((sum, { seconds }) => sum + seconds, 0));
  });

  it("has a hash of the journal that any change of a decision changes", () => {
    const [first, ...others] = study.decisions;
    if (first === undefined) throw new Error("no decisions");
    expect(report.journal.hash).toMatch(/^[0-9a-f]{64}$/);
    expect(journalHash([{ ...first, seen: first.seen + 1 }, ...others])).not.toBe(report.journal.hash);
    expect(journalHash(study.decisions)).toBe(report.journal.hash);
  });

  it("draws the largest score so far over the trainings that were paid for it", () => {
    const { searchCurve } = report;
    expect(searchCurve.length).toBe(
      study.observations.filter(({ phase, epochs }) => epochs === 27 && !["final", "random"].includes(phase)).length,
    );
    for (const [k, step] of searchCurve.entries())
      expect(step.soFar).toBe(Math.max(...searchCurve.slice(0, k + 1).map(({ value }) => value)));
    // What was left behind a rung was paid for too.
    expect(searchCurve.at(-1)?.spent).toBeCloseTo(report.budget.spent, 9);
  });

  it("says of a running study that there is nothing to conclude", () => {
    const running = reportOf(fakeStudy({ state: "running" }), fakeFindings());
    expect(running.rows).toEqual([]);
    expect(running.choice).toBeUndefined();
    expect(running.trials.find(({ state }) => state === "failed")?.error).toBe("the device was lost");
    expect(running.trials.filter(({ left }) => left)).toHaveLength(1);
  });

  it("answers the checklist without empty words", () => {
    expect(report.checklist).toHaveLength(15);
    for (const { question, answer } of report.checklist) {
      expect(question).toMatch(/\?$/);
      expect(answer).not.toBe("");
      expect(answer).not.toMatch(/undefined|NaN/);
    }
  });
});

describe("scores and intervals", () => {
  it("give Welch's interval", () => {
    // By SciPy 1.10: variances and degrees of ttest_ind(b, a, equal_var=False), quantile of t.ppf(0.975, 3.92847).
    const { value, low, high } = unpairedDifference([0.4, 1, 1.3], [1.1, 2.3, 2.9, 4.2]);
    expect(value).toBeCloseTo(1.725, 12);
    expect(low).toBeCloseTo(-0.22378843847, 9);
    expect(high).toBeCloseTo(3.67378843847, 9);
    expect(unpairedDifference([1], [2, 3]).low).toBeNaN();
    expect(unpairedDifference([1, 1], [2, 2])).toEqual({ value: 1, low: 1, high: 1 });
  });

  it("know the target with and without its side", () => {
    for (const metric of ["uar", "val.uar"])
      expect(targetOf([{ kind: "metric", goal: "maximize", metric }])).toMatchObject({ name: "uar", sign: 1 });
    expect(() => targetOf([{ kind: "cost", goal: "minimize", cost: "params" }])).toThrow(/metric/);
  });
});

/** The study without the choice of a unit, which goes with the positions and would share their effects. */
function membersOnly(data: StudyData): StudyData {
  const { search } = data.study;
  const space = {
    ...search.space,
    factors: search.space.factors.slice(0, 5),
    candidates: search.space.candidates.map((one) => ({ ...one, levels: one.levels.slice(0, 5) })),
  };
  return { ...data, study: { ...data.study, search: { ...search, space } } };
}

describe("findings", () => {
  const quiet = fakeStudy({ shared: 0.0004, own: 0.0004, costs: false });
  const found = findingsOf(quiet);

  it("order candidates by the model, so that the choice is the best of those that were confirmed", () => {
    const leaders = ["○○●●○", "○○●●●", "○●●●○", "○○●○●"].map(byMembers);
    const best = leaders.reduce((a, b) => (truth(levelsOf(b)) > truth(levelsOf(a)) ? b : a));
    expect(choiceOf(scoresOf(quiet), found.leaders)).toBe(best);
    const [first] = found.leaders;
    expect(first?.expected.value).toBeCloseTo(truth(levelsOf(first?.candidate ?? 0)), 2);
    expect(first?.expected.low).toBeLessThan(first?.expected.value ?? 0);
    const trained = new Set(
      quiet.trials.filter(({ phase }) => phase !== "random" && phase !== "final").map(({ candidate }) => candidate),
    );
    expect(found.leaders).toHaveLength(trained.size);
    // Without a choice nothing is chosen: single scores never choose.
    expect(choiceOf(scoresOf(quiet), [])).toBeUndefined();
  });

  it("know nothing of fresh seeds and of search at random", () => {
    const fresh = findingsOf(withScores(study, true, (value, trial) => (trial % 2 === 0 ? 0.99 : value)));
    const known = findingsOf(study);
    expect(fresh.leaders).toEqual(known.leaders);
    expect(fresh.importance?.contributions.map(({ shapley }) => shapley)).toEqual(
      known.importance?.contributions.map(({ shapley }) => shapley),
    );
    expect(fresh.band.map(({ expected }) => expected)).toEqual(known.band.map(({ expected }) => expected));
  });

  it("find the effects that the study was made with, and the pair", () => {
    const { importance } = findingsOf(membersOnly(quiet));
    for (const [k, effect] of EFFECTS.entries()) {
      const own = importance?.contributions[k];
      expect(own?.name).toBe(POSITIONS[k]);
      expect(own?.shapley.value).toBeCloseTo(effect + (k === 2 || k === 3 ? PAIR / 2 : 0), 2);
    }
    const pair = importance?.pairs.find(({ first, second }) => first === 2 && second === 3)?.effect;
    expect(pair?.value).toBeLessThan(-0.004);
    const sum = importance?.contributions.reduce((sum, { shapley }) => sum + shapley.value, 0);
    expect(sum).toBeCloseTo((importance?.all ?? 0) - (importance?.none ?? 0), 6);
    const three = importance?.contributions[2];
    expect((three?.on.trainings ?? 0) + (three?.off.trainings ?? 0)).toBe(
      quiet.trials.filter(({ phase, state }) => phase !== "final" && state === "complete").length,
    );
    expect(three?.on.mean).toBeGreaterThan(three?.off.mean ?? 1);
  });

  it("turn effects and chance round where smaller is better", () => {
    const smaller = findingsOf(membersOnly(fakeStudy({ minimize: true, shared: 0.0004, own: 0.0004, costs: false })));
    expect(smaller.importance?.contributions[2]?.shapley.value).toBeLessThan(-0.02);
    const [first, last] = [smaller.band[0], smaller.band.at(-1)];
    expect(last?.expected.value).toBeLessThan(first?.expected.value ?? 0);
    for (const { expected } of smaller.band) expect(expected.low).toBeLessThan(expected.high);
    expect(smaller.leaders[0]?.expected.value).toBeLessThan(smaller.leaders.at(-1)?.expected.value ?? 0);
  });

  it("measure the noise and the ranks of rungs", () => {
    const { noise, ranks } = findingsOf(fakeStudy({ shared: 0.006, own: 0.003 }));
    expect(noise?.deviation.low).toBeLessThan(Math.hypot(0.006, 0.003));
    expect(noise?.deviation.high).toBeGreaterThan(Math.hypot(0.006, 0.003));
    expect(noise?.pairing).toBeGreaterThan(0.5);
    expect(ranks.map(({ from, to }) => [from, to])).toEqual([
      [3, 27],
      [9, 27],
    ]);
    for (const { tau, trials } of ranks) {
      expect(trials).toBeGreaterThan(10);
      expect(tau.low).toBeLessThan(tau.value);
    }
  });

  it("take the best of random from one training of each that was drawn", () => {
    const trainings = randomTrainings(study);
    const drawn = study.trials.filter(({ phase }) => phase === "random" || phase === "screen");
    expect(trainings).toHaveLength(new Set(drawn.map(({ candidate }) => candidate)).size);
    const largest = Math.max(...trainings.map(({ value }) => value));
    expect(trainings.find(({ candidate }) => candidate === bestRandomOf(trainings, 1)?.candidate)?.value).toBe(largest);
    expect(bestRandomOf([], 1)).toBeUndefined();
  });

  it("are empty before anything has ended", () => {
    const nothing = { ...study, trials: [], observations: [], results: {}, metrics: {}, decisions: [] };
    expect(findingsOf(nothing)).toEqual({ leaders: [], noise: undefined, ranks: [], importance: undefined, band: [] });
  });
});

const levelsOf = (index: number): readonly number[] => study.study.search.space.candidates[index]?.levels ?? [];

describe("notation", () => {
  const { space } = study.study.search;
  const notation = notationOf(FACTORS);

  it("writes dots for positions and words for the rest", () => {
    const [candidate, none] = [space.candidates[byMembers("○○●●○")], space.candidates[NONE]];
    if (candidate === undefined || none === undefined) throw new Error("no candidate");
    expect(shortLabel(notation, space, candidate)).toBe("○○●●○ STIA(4)");
    expect(shortLabel(notation, space, none)).toBe("○○○○○ none");
    expect(notation.sets.map(({ stem }) => stem)).toEqual(["conv"]);
  });

  it("writes arguments that are chosen as they were chosen", () => {
    const factors = [
      { name: "joint", kind: "category", optional: true, values: undefined },
      { name: "joint.reduction", kind: "ordinal", optional: true, values: [0, 2, 4] },
      { name: "lr", kind: "ordinal", optional: false, values: [-4, -3] },
      { name: "spots.conv4", kind: "member", optional: true, values: undefined },
      { name: "deep.conv4", kind: "member", optional: true, values: undefined },
    ] as const;
    const written = (level: string, ...levels: number[]): string => {
      const named = factors.map((factor, k) => ({
        ...factor,
        levels:
          [
            ["", level],
            ["", "2", "4"],
            ["0.0001", "0.001"],
            ["", "@conv4"],
            ["", "@conv4"],
          ][k] ?? [],
      }));
      const [candidate] = space.candidates;
      if (candidate === undefined) throw new Error("no candidate");
      return shortLabel(notationOf(named), { ...space, factors: named, none: undefined }, { ...candidate, levels });
    };
    expect(written("STIA(reduction={2, 4})", 1, 2, 1, 1, 0)).toBe("● ○ STIA(4) lr=0.001");
    expect(written("STIA(reduction={2, 4}, both=true)", 1, 1, 0, 0, 0)).toBe(
      "○ ○ STIA(both=true, reduction=2) lr=0.0001",
    );
    expect(written("STIA(a=1, reduction={2, 4}, b=2)", 1, 1, 0, 0, 0)).toBe(
      "○ ○ STIA(a=1, b=2, reduction=2) lr=0.0001",
    );
    expect(written("STIA", 0, 0, 0, 0, 0)).toBe("○ ○ lr=0.0001");
    const two = notationOf(factors.map((factor) => ({ ...factor, levels: ["", "@conv4"] })));
    expect(two.sets.map((set) => headingOf(set, true))).toEqual(["spots: conv4", "deep: conv4"]);
    expect(placeOf(two, FACTORS, 2)).toBe("conv3");
    const shared = factors.map((factor) => ({ ...factor, levels: ["", "@conv4"] }));
    expect(placeOf(two, shared, 4)).toBe("deep.conv4");
  });

  it("knows singles, what is left out, and choices of positions without members", () => {
    const stages = notationOf(
      ["stage1", "stage2", "stage3"].map((name) => ({
        name,
        kind: "category",
        optional: true,
        levels: ["", "to spatial", "both"],
        values: undefined,
      })),
    );
    expect(stages.placing).toEqual([0, 1, 2]);
    const candidate = { ...(space.candidates[1] as (typeof space.candidates)[number]) };
    const role = (...levels: number[]): ReturnType<typeof roleOf> =>
      roleOf(stages, { ...space, none: 99, all: 98 }, { ...candidate, levels });
    expect(role(0, 2, 0)).toEqual({ role: "single", factor: 1 });
    expect(role(1, 0, 2)).toEqual({ role: "left out", factor: 1 });
    expect(role(1, 1, 1)).toEqual({ role: "other" });
  });
});

describe("reading a study", () => {
  it("reads from SQLite what was written there, whole", async () => {
    const folder = mkdtempSync(join(tmpdir(), "netc-report-"));
    const store = await openStore(join(folder, "studies.db"));
    try {
      const [first, second] = study.trials;
      const said = Object.values(study.predictions)[0];
      if (first === undefined || second === undefined || said === undefined) throw new Error("the study has no trials");
      const { created: _, ...row } = study.study;
      const { id } = await store.createStudy({ ...row, state: "running" });
      const waiting = [first, { ...second, phase: "final" as const }].map((trial) => ({
        ...trial,
        state: "waiting" as const,
        attempt: 0,
        started: undefined,
        ended: undefined,
      }));
      const decision = study.decisions[0];
      if (decision === undefined) throw new Error("no decision");
      expect(await store.decide(id, { ...decision, seen: 0 }, waiting)).toBe(true);
      for (const trial of waiting) {
        const claim = await store.claim(id, "w", trial.id);
        if (claim === undefined) throw new Error("the trial cannot be taken");
        await store.addMetrics(trial.id, claim.attempt, study.metrics[trial.id] ?? []);
        const bytes = new TextEncoder().encode(encodePredictions(said.header, said.clips));
        const test = await store.putObject(bytes);
        const result = study.results[trial.id];
        if (result === undefined) throw new Error("no result");
        await store.commit(trial.id, claim.attempt, 0.7, { ...result, predictions: { test } });
      }
      const read = await readStudy(store, id);
      expect(read.trials.map(({ state }) => state)).toEqual(["complete", "complete"]);
      expect(read.observations.map(({ value }) => value)).toEqual([0.7, 0.7]);
      expect(read.note).toBe(study.note);
      expect(Object.keys(read.predictions)).toEqual([second.id]);
      expect(read.metrics[first.id]).toHaveLength(study.metrics[first.id]?.length ?? -1);
      const found = reportOf(read, fakeFindings());
      expect(found.budget.spent).toBe(1);
      expect(found.rows).toHaveLength(1);
    } finally {
      await store.close();
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it("gives all that the store has, with the note of the predictions", async () => {
    const objects = new Map<string, Uint8Array>();
    for (const { id } of study.trials) {
      const said = study.predictions[id];
      const hash = study.results[id]?.predictions["test"];
      if (said !== undefined && hash !== undefined)
        objects.set(hash, new TextEncoder().encode(encodePredictions(said.header, said.clips)));
    }
    const store: Partial<StudyStore> = {
      address: "sqlite:study.db",
      study: async (id) => (id === study.study.id ? study.study : undefined),
      trials: async () => [...study.trials].reverse(),
      decisions: async () => study.decisions,
      observations: async () => study.observations,
      results: async () => new Map(Object.entries(study.results)),
      metrics: async (id) => study.metrics[id] ?? [],
      getObject: async (hash) => objects.get(hash),
    };
    const read = await readStudy(store as StudyStore, study.study.id);
    expect(read).toEqual(study);
    await expect(readStudy(store as StudyStore, "other")).rejects.toThrow(/`sqlite:study.db` holds no study `other`/);
    objects.clear();
    const bare = await readStudy(store as StudyStore, study.study.id);
    expect(bare.predictions).toEqual({});
    expect(bare.note).toBe("");
  });
});
