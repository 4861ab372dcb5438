/** A super-network as a prior: when it is believed, what it then changes, and a study with one from end to end. */
import { join } from "node:path";
import { beforeAll, describe, expect, inject, it, vi } from "vitest";
import { replay, runStudy, scoresOf } from "../../runtime/search/coordinator.ts";
import { fitGaussian, posteriorAt } from "../../runtime/search/methods/gaussian.ts";
import { planOf } from "../../runtime/search/methods/plan.ts";
import { judgePrior, priorOf, priorText } from "../../runtime/search/methods/prior.ts";
import { decideAgain } from "../../runtime/search/methods/schedule.ts";
import { renderMarkdown } from "../../runtime/search/report/markdown.ts";
import { reportOf } from "../../runtime/search/report/report.ts";
import { readStudy, type StudyData } from "../../runtime/search/report/study-data.ts";
import { searchNotes, searchTable } from "../../runtime/search/report/words.ts";
import { openStore } from "../../runtime/search/store/open.ts";
import type { Orders, StudyRow, TrialResult } from "../../runtime/search/study.ts";
import { gatesOf } from "../../runtime/search/trial/gates.ts";
import { generator, normals, subsetsOf, surfaceOf } from "../tools/surfaces.mjs";
import { fakeFindings, fakeStudy } from "./fake-study.ts";
import { MemoryStore } from "./memory-store.ts";
import { noisyWorld, runWorld, searchOver } from "./studies.ts";
import { decisionOf, searchGround, searchText, studyFrom, testTrainer, trialOf } from "./trials.ts";

vi.setConfig({ testTimeout: 240_000 });

describe("a super-network is believed", () => {
  const pairs = (scores: readonly number[]) => scores.map((score, value) => ({ score, value }));

  it("if it ranks eight candidates or more, well enough for chance to be unlikely", () => {
    expect(judgePrior(pairs([1, 2, 3, 4, 5, 6, 7, 8])).trusted).toBe(true);
    expect(judgePrior(pairs([2, 1, 3, 5, 4, 6, 8, 7])).trusted).toBe(true);
    expect(judgePrior(pairs([1, 2, 3, 4, 5, 6, 7]))).toMatchObject({ pairs: 7, trusted: false });
    expect(judgePrior(pairs([3, 8, 1, 6, 2, 7, 5, 4])).trusted).toBe(false);
    expect(judgePrior(pairs([8, 7, 6, 5, 4, 3, 2, 1])).trusted).toBe(false);
    expect(judgePrior(pairs([1, 1, 1, 1, 1, 1, 1, 1])).trusted).toBe(false);
  });

  it("and it is said why not", () => {
    expect(priorText(judgePrior(pairs([1, 2, 3])))).toBe("3 of 8 candidates to judge it by, not used yet");
    expect(priorText(judgePrior(pairs([3, 8, 1, 6, 2, 7, 5, 4])))).toMatch(
      /^tau 0\.\d\d of 8, at least -0\.\d\d, not above 0: not used$/,
    );
    expect(priorText(judgePrior(pairs([2, 2, 2, 2, 2, 2, 2, 2])))).toMatch(/all have one score/);
  });
});

describe("its scores", () => {
  const candidates = subsetsOf(6);
  const surface = surfaceOf("pairwise", 6, 2);

  it("have mean 0 and deviation 1, and reach candidates without one by their likeness to others", () => {
    const some = new Map(Array.from({ length: 40 }, (_, i) => [(i * 29) % 64, 5 + 3 * (surface[(i * 29) % 64] ?? 0)]));
    const prior = priorOf(candidates, some);
    if (prior === undefined) throw new Error("no prior");
    expect(prior.reduce((sum, value) => sum + value, 0)).toBeCloseTo(0);
    expect(prior.reduce((sum, value) => sum + value * value, 0) / 64).toBeCloseTo(1);
    const left = Array.from({ length: 64 }, (_, i) => i).filter((i) => !some.has(i));
    const product = left.reduce((sum, i) => sum + (prior[i] ?? 0) * (surface[i] ?? 0), 0);
    expect(product / left.length).toBeGreaterThan(0.5);
    expect(priorOf(candidates, new Map([...some.keys()].map((i) => [i, 1])))).toBeUndefined();
  });

  it("are the model's mean as far as trainings agree with them, and no further", () => {
    const normal = normals(generator(4));
    const observations = Array.from({ length: 20 }, (_, i) => {
      const candidate = (i * 23) % 64;
      return { candidate, value: 2 * (surface[candidate] ?? 0) + 0.5 * normal(), rung: 0, replicate: 0 };
    });
    const known = { candidates, observations, pending: [], seed: 1, step: 0 };
    const misses = (prior: Float64Array | undefined): number => {
      const fit = fitGaussian({ ...known, prior });
      if (fit === undefined) throw new Error("no fit");
      const { mean } = posteriorAt(fit, candidates.levels, prior);
      return Math.sqrt(mean.reduce((sum, value, i) => sum + (value - 2 * (surface[i] ?? 0)) ** 2, 0) / 64);
    };
    const [without, right] = [misses(undefined), misses(surface)];
    const wrong = misses(Float64Array.from({ length: 64 }, () => normal()));
    expect(right).toBeLessThan(0.5 * without);
    expect(wrong).toBeLessThan(1.3 * without);
    // In the unit of the values, whatever that is.
    const fit = fitGaussian({ ...known, prior: surface });
    expect(fit?.slope).toBeGreaterThan(1.5);
    expect(fit?.slope).toBeLessThan(2.5);
  });
});

describe("in the course of a study", () => {
  const surface = surfaceOf("pairwise", 6, 3);
  const search = searchOver({ members: 6, spend: 24, seeds: [1, 2, 2], prior: { epochs: 9, scores: 64 } });
  const run = (score: (candidate: number) => number) =>
    runWorld(search, { workers: 2, order: 1, value: noisyWorld(surface, 0.3), score });

  it("it comes first, is paid from the budget, and every decision can be made again", () => {
    const { known, trials } = run((candidate) => surface[candidate] ?? 0);
    const plan = planOf(search);
    // Nine of nine epochs, and 64 scores of a tenth of an epoch each.
    expect(plan.prior?.cost).toBeCloseTo(1 + 6.4 / 9);
    expect(known.decisions[0]).toMatchObject({ method: "prior", proposals: [{ phase: "prior", candidate: 63 }] });
    const paid = trials.filter(({ phase }) => !["prior", "final"].includes(phase)).length;
    expect(paid).toBe(22);
    for (const { sequence } of known.decisions)
      expect(decideAgain(search, known, sequence)).toEqual(known.decisions[sequence - 1]);
    // With other scores than those recorded, decisions come out otherwise.
    const others = { ...known, scores: new Map([...(known.scores ?? [])].map(([index, score]) => [index, -score])) };
    expect(
      known.decisions.some(
        ({ sequence }) =>
          JSON.stringify(decideAgain(search, others, sequence)) !== JSON.stringify(known.decisions[sequence - 1]),
      ),
    ).toBe(true);
  });

  it("good scores are used and bad ones are not, and each decision says so", () => {
    const last = (score: (candidate: number) => number): string =>
      run(score).known.decisions.findLast(({ method }) => method === "gp")?.reason ?? "";
    expect(last((candidate) => surface[candidate] ?? 0)).toMatch(
      /; super-network: tau 0\.\d+ of \d+, at least 0\.\d+: used$/,
    );
    expect(last((candidate) => -(surface[candidate] ?? 0))).toMatch(/not above 0: not used$/);
    const proposals = (score: (candidate: number) => number) =>
      run(score).known.decisions.map(({ proposals }) => proposals);
    const without = proposals((candidate) => -(surface[candidate] ?? 0));
    expect(proposals(() => 0)).toEqual(without);
    expect(proposals((candidate) => surface[candidate] ?? 0)).not.toEqual(without);
  });

  it("it is left out where it would be of no use", () => {
    expect(planOf(searchOver({ members: 3, spend: 40, prior: { epochs: 18, scores: 64 } }))).toMatchObject({
      prior: undefined,
      noPrior: "all candidates are trained anyway",
    });
    expect(planOf(searchOver({ members: 6, spend: 5, prior: { epochs: 27, scores: 64 } }))).toMatchObject({
      prior: undefined,
      noPrior: "it would cost 3.7 of 5 trainings, and may a half at most",
    });
    expect(planOf(searchOver({ members: 6, spend: 20 }))).toMatchObject({ prior: undefined, noPrior: undefined });
  });
});

describe("in every update the gates of one candidate are open", () => {
  it("most and fewest of them in turn, and in between any, by seed and update alone", () => {
    const all = [
      [1, 0, 0],
      [0, 0, 0],
      [1, 1, 1],
      [0, 1, 0],
    ].map((gates) => Float32Array.from(gates));
    const drawn = Array.from({ length: 400 }, (_, update) => gatesOf(all, 7, update));
    for (let update = 0; update < 400; update += 4) {
      expect(drawn[update]).toBe(all[2]);
      expect(drawn[update + 1]).toBe(all[1]);
    }
    const free = drawn.filter((_, update) => update % 4 > 1);
    for (const gates of all) expect(free.filter((each) => each === gates).length).toBeGreaterThan(30);
    expect(Array.from({ length: 400 }, (_, update) => gatesOf(all, 7, update))).toEqual(drawn);
    expect(Array.from({ length: 400 }, (_, update) => gatesOf(all, 8, update))).not.toEqual(drawn);
  });
});

describe("scores that cost nothing", () => {
  it("stand beside how well they rank what was trained, and choose nothing", () => {
    const study = fakeStudy();
    const norms = (of: (value: number) => number): StudyData => ({
      ...study,
      results: Object.fromEntries(
        Object.entries(study.results).map(([id, result]) => [
          id,
          { ...result, gradientNorm: of(result.metrics["val.uar"] ?? 0) },
        ]),
      ),
    });
    const [plain, right, wrong] = [study, norms((value) => value), norms((value) => -value)].map((data) =>
      reportOf(data, fakeFindings()),
    );
    const tauOf = (report: typeof plain): number | undefined =>
      report?.zeroCost.find(({ name }) => name.includes("gradients"))?.tau.value;
    expect(tauOf(plain)).toBeUndefined();
    expect(tauOf(right)).toBeGreaterThan(0.7);
    expect(tauOf(wrong)).toBeLessThan(-0.7);
    expect(right?.choice).toBe(plain?.choice);
    expect(plain?.zeroCost.map(({ name }) => name)).toEqual(["params"]);
    if (right === undefined || plain === undefined) throw new Error("no report");
    const titles = (report: typeof right) => searchTable(report).columns.map(({ title }) => title);
    expect(titles(right)).toContain("‖∇‖ at the start");
    expect(titles(plain)).not.toContain("‖∇‖ at the start");
    expect(searchNotes(right).join(" ")).toMatch(/which chose nothing: params, .*; norm of the first gradients, /);
  });
});

describe("on clips", () => {
  const SETTINGS =
    "method = GP\n  prior = SuperNetwork(epochs=2)\n  spend = 8\n  seeds = Seeds(search=1, confirm=1, final=2, from=3)";
  let at = "";
  let set = "";
  let study: StudyRow;

  beforeAll(async () => {
    expect(inject("buildFailure")).toBe("");
    ({ at, set } = await searchGround());
    study = studyFrom(searchText(SETTINGS, 1), join(at, "prior"), set);
  });

  it("it is trained and scores every candidate, the same if it is handed over on the way", async () => {
    const trial = trialOf(study, "spots={conv1, conv2}", { phase: "prior", epochs: 2 });
    const train = async (pause: boolean): Promise<TrialResult> => {
      const store = new MemoryStore();
      await store.createStudy(study);
      await store.decide(study.id, decisionOf(1, []), [trial]);
      for (let round = 0; round < 5; round++) {
        const claim = await store.claim(study.id, "test");
        if (claim === undefined) throw new Error("nothing waits");
        const stop = new AbortController();
        const trainer = testTrainer({ keepSeconds: 0, saveEvery: 1 });
        const progress = store.saveProgress.bind(store);
        if (pause && round === 0)
          store.saveProgress = (...given) => {
            stop.abort("pause");
            return progress(...given);
          };
        const signal = stop.signal as AbortSignal & { reason: Exclude<Orders, "go on"> };
        const end = await trainer.train({ study, claim, store, stop: signal, device: 0 });
        store.saveProgress = progress;
        if (end !== "complete") continue;
        expect(round > 0).toBe(pause);
        const result = (await store.results(study.id)).get(trial.id);
        if (result !== undefined) return result;
      }
      throw new Error(`it does not end: ${(await store.trial(trial.id))?.error}`);
    };
    const alone = await train(false);
    expect(Object.keys(alone.scores ?? {}).sort()).toEqual(["0", "1", "2", "3"]);
    for (const score of Object.values(alone.scores ?? {})) {
      expect(score).toBeGreaterThanOrEqual(0);
      expect(score).toBeLessThanOrEqual(1);
    }
    expect(alone.metrics).toEqual({});
    const handed = await train(true);
    expect([handed.scores, handed.weights]).toEqual([alone.scores, alone.weights]);
  });

  it("a study with one comes to its end, can be replayed, and its report says what became of it", async () => {
    const store = await openStore(join(at, "studies"));
    await store.createStudy(study);
    const { train } = testTrainer();
    const { signal } = new AbortController();
    const end = await runStudy({ study, store, trained: { by: "workers", train, count: 1 }, netc: "test", signal });
    expect(end).toBe("complete");
    const [first] = await store.trials(study.id);
    expect(first).toMatchObject({ phase: "prior", replicate: 0, state: "complete", epochs: 2 });
    const scores = await scoresOf(store, study);
    expect(scores?.size).toBe(4);
    const data = await readStudy(store, study.id);
    const { trials, decisions, observations } = data;
    expect(replay(study, { trials, decisions, observations, scores })).toEqual([]);
    expect(data.observations.filter(({ phase }) => phase === "prior")).toHaveLength(1);
    const report = reportOf(data);
    expect(report.prior).toMatchObject({ epochs: 2, scored: 4, trusted: false, pairs: 3 });
    // Not a training of the candidate that it is filed under.
    const all = report.candidates.find(({ label }) => label === "spots={conv1, conv2}");
    expect(all?.searched.every(({ phase }) => phase !== "prior")).toBe(true);
    expect(report.budget.byPhase.prior).toBeCloseTo(2.4);
    for (const { gradientNorm, searched } of report.candidates)
      expect(gradientNorm === undefined).toBe(searched.length === 0);
    expect(renderMarkdown(report)).toMatch(/super-network.*3 of 8 candidates to judge it by, not used yet/);
    await store.close();
  });
});
