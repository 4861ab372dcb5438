/** The course of studies: phases, budget, seeds, rungs, failures, replay; with any number of workers and any order. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Method, Search } from "../../compiler/search/search.ts";
import { trialSeed } from "../../runtime/search/methods/ledger.ts";
import { planOf } from "../../runtime/search/methods/plan.ts";
import { rungTrust } from "../../runtime/search/methods/rungs.ts";
import { decideAgain, nextDecision } from "../../runtime/search/methods/schedule.ts";
import { trialIdOf } from "../../runtime/search/store/ids.ts";
import type { Phase, TrialRow } from "../../runtime/search/study.ts";
import { surfaceOf } from "../tools/surfaces.mjs";
import { type Ended, noisyWorld, runWorld, searchOver } from "./studies.ts";

const methods: readonly Method[] = [
  { kind: "auto" },
  { kind: "gp" },
  { kind: "random" },
  { kind: "factorial" },
  { kind: "tpe", multivariate: false },
  { kind: "tpe", multivariate: true },
  { kind: "evolution", population: 6, tournament: 3 },
  { kind: "halving", eta: 3 },
];

const inPhase = ({ trials }: Ended, ...phases: readonly Phase[]): readonly TrialRow[] =>
  trials.filter(({ phase }) => phases.includes(phase));

/** Full trainings. */
const cost = (search: Search, trials: readonly TrialRow[]): number =>
  trials.reduce((sum, { epochs }) => sum + epochs, 0) / search.epochs;

const surface = surfaceOf("pairwise", 6, 3);

describe("any study", () => {
  const studies = fc.record({
    method: fc.constantFrom(...methods),
    spend: fc.integer({ min: 1, max: 30 }),
    rungs: fc.constantFrom([], [3], [1, 3]),
    seeds: fc.tuple(fc.integer({ min: 1, max: 2 }), fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 3 })),
    refused: fc.integer({ min: 0, max: 3 }),
    randomBaseline: fc.boolean(),
    costs: fc.boolean(),
    goal: fc.constantFrom("maximize" as const, "minimize" as const),
    prior: fc.constantFrom(undefined, undefined, { epochs: 18, scores: 64 }, { epochs: 9, scores: 16 }),
    workers: fc.integer({ min: 1, max: 9 }),
    order: fc.nat(1000),
    failing: fc.constantFrom(0, 0, 3, 1),
  });

  it("ends, keeps to its budget, makes no trial twice, and every decision can be made again", () => {
    fc.assert(
      fc.property(studies, ({ workers, order, failing, refused, prior, ...options }) => {
        const search = searchOver({
          members: 5,
          ...options,
          ...(prior === undefined ? {} : { prior }),
          refused: (index) => refused > 0 && index % (refused + 1) === 1,
        });
        const plan = planOf(search);
        const values = noisyWorld(surface, 0.5);
        const ended = runWorld(search, {
          workers,
          order,
          score: (candidate) => (surface[candidate] ?? 0) + (candidate % 3),
          // One in `failing` candidates always fails.
          value: (candidate, epochs, trial) =>
            failing > 0 && candidate % failing === 0 ? undefined : values(candidate, epochs, trial),
        });
        const { trials, known } = ended;
        expect(cost(search, inPhase(ended, "baseline", "screen", "search"))).toBeLessThanOrEqual(
          plan.searchBudget + 1e-9,
        );
        const priorCost = inPhase(ended, "prior").length * (plan.prior?.cost ?? 0);
        expect(priorCost + cost(search, inPhase(ended, "baseline", "screen", "search", "confirm"))).toBeLessThanOrEqual(
          search.spend + 1e-9,
        );
        expect(cost(search, inPhase(ended, "random"))).toBeLessThanOrEqual(search.spend);
        expect(cost(search, trials)).toBeLessThanOrEqual(plan.most + 1e-9);
        expect(trials.every(({ state }) => state === "complete" || state === "failed" || state === "paused")).toBe(
          true,
        );
        for (const { candidate } of trials)
          expect(search.space.candidates.find(({ hash }) => hash === candidate)?.refused).toBeUndefined();
        for (const decision of known.decisions) expect(decideAgain(search, known, decision.sequence)).toEqual(decision);
        // Seeds are a matter of phase group and replicate alone.
        for (const { seed, phase, replicate } of trials) expect(seed).toBe(trialSeed(search.seed, phase, replicate));
        expect(new Set(trials.map(({ id }) => id)).size).toBe(trials.length);
        const candidates = trials.filter(({ phase }) => phase !== "prior");
        expect(new Set(candidates.map(({ candidate, seed }) => `${candidate}/${seed}`)).size).toBe(candidates.length);
      }),
      { numRuns: 40 },
    );
  });

  it("does not depend on the order in which its log lists what came together", () => {
    const search = searchOver({ members: 6, spend: 20, rungs: [3] });
    const { known } = runWorld(search, { workers: 3, order: 5, value: noisyWorld(surface, 0.5) });
    for (const { sequence } of known.decisions.slice(2)) {
      const written = known.decisions[sequence - 1];
      const seen = known.observations.slice(0, written?.seen);
      const again = nextDecision(search, {
        study: known.study,
        trials: (written?.pending ?? []).map((id) => ({ id, state: "waiting" as const })).reverse(),
        observations: [...seen].reverse(),
        decisions: known.decisions.slice(0, sequence - 1),
      });
      expect(again).toEqual(written);
    }
  });
});

describe("phases", () => {
  const search = searchOver({ members: 6, spend: 24, seeds: [1, 2, 4], randomBaseline: true });
  const ended = runWorld(search, { workers: 2, order: 1, value: noisyWorld(surface, 0.5) });

  it("come in order and get what the plan says", () => {
    const plan = planOf(search);
    expect(plan.method).toEqual({ kind: "gp" });
    expect(plan.confirm).toEqual({ leaders: 3, replicates: 2 });
    expect(inPhase(ended, "baseline").map(({ candidate }) => candidate)).toEqual(["candidate-0", "candidate-63"]);
    expect(inPhase(ended, "screen")).toHaveLength(8);
    expect(inPhase(ended, "search")).toHaveLength(8);
    expect(inPhase(ended, "confirm")).toHaveLength(6);
    expect(inPhase(ended, "random")).toHaveLength(16);
    const order = ["baseline", "screen", "search", "confirm", "final"];
    const main = ended.trials.filter(({ phase }) => phase !== "random").map(({ phase }) => order.indexOf(phase));
    expect(main).toEqual([...main].sort((a, b) => a - b));
  });

  it("end with none, all, the leaders and the best of random search, each on all final seeds", () => {
    const final = inPhase(ended, "final");
    const finalists = new Set(final.map(({ candidate }) => candidate));
    expect(final).toHaveLength(4 * finalists.size);
    expect(finalists.has("candidate-0")).toBe(true);
    expect(finalists.has("candidate-63")).toBe(true);
    const random = ended.known.observations.filter(({ phase }) => phase === "screen" || phase === "random");
    const best = random.reduce((a, b) => ((b.value ?? 0) > (a.value ?? 0) ? b : a));
    expect(finalists.has(best.candidate)).toBe(true);
    const confirmed = new Set(inPhase(ended, "confirm").map(({ candidate }) => candidate));
    for (const candidate of finalists)
      expect(
        confirmed.has(candidate) || ["candidate-0", "candidate-63", best.candidate].includes(candidate),
        candidate,
      ).toBe(true);
  });

  it("pair by replicate, and have seeds that no other phase has", () => {
    const seeds = (...phases: readonly Phase[]): ReadonlySet<number> =>
      new Set(inPhase(ended, ...phases).map(({ seed }) => seed));
    expect(seeds("final").size).toBe(4);
    expect(seeds("confirm").size).toBe(2);
    const before = seeds("baseline", "screen", "search", "random");
    for (const seed of [...seeds("final"), ...seeds("confirm")]) expect(before.has(seed)).toBe(false);
    for (const seed of seeds("final")) expect(seeds("confirm").has(seed)).toBe(false);
  });

  it("know how much they had seen, and what was under way", () => {
    for (const { seen, pending, sequence } of ended.known.decisions) {
      expect(seen).toBeLessThanOrEqual(ended.known.observations.length);
      if (sequence > 2) expect(pending.length).toBeLessThanOrEqual(2);
    }
  });
});

describe("small spaces", () => {
  it("are trained whole, with as many seeds as fit, and then confirmed", () => {
    const search = searchOver({ members: 3, spend: 32, seeds: [2, 3, 5] });
    expect(planOf(search)).toMatchObject({ method: { kind: "factorial" }, confirm: { leaders: 2, replicates: 3 } });
    const ended = runWorld(search, { workers: 4, order: 2, value: noisyWorld(surface, 0.5) });
    const trained = inPhase(ended, "search");
    // 26 trainings are three passes over eight candidates.
    expect(trained).toHaveLength(24);
    for (const { hash } of search.space.candidates)
      expect(trained.filter(({ candidate }) => candidate === hash).map(({ replicate }) => replicate)).toEqual([
        0, 1, 2,
      ]);
    expect(inPhase(ended, "confirm")).toHaveLength(6);
  });

  it("are searched when they cost more than the budget over one and a half", () => {
    expect(planOf(searchOver({ members: 3, spend: 12 })).method.kind).toBe("factorial");
    expect(planOf(searchOver({ members: 3, spend: 11 })).method.kind).toBe("gp");
    expect(planOf(searchOver({ members: 3, spend: 12, seeds: [2, 1, 1] })).method.kind).toBe("gp");
  });
});

describe("failures", () => {
  it("close a candidate: it is proposed no more, and the study goes on", () => {
    const search = searchOver({ members: 6, spend: 30 });
    const values = noisyWorld(surface, 0.3);
    // Everything with the third member fails.
    const ended = runWorld(search, {
      workers: 1,
      order: 3,
      value: (candidate, epochs, trial) => (candidate & 4 ? undefined : values(candidate, epochs, trial)),
    });
    const failed = ended.trials.filter(({ state }) => state === "failed").map(({ candidate }) => candidate);
    expect(failed.length).toBeGreaterThan(0);
    expect(new Set(failed).size).toBe(failed.length);
    expect(inPhase(ended, "final").some(({ candidate }) => failed.includes(candidate))).toBe(false);
  });

  it("that are all there is end the study", () => {
    const search = searchOver({ members: 4, spend: 30, seeds: [1, 2, 2] });
    const ended = runWorld(search, { workers: 3, order: 3, value: () => undefined });
    expect(inPhase(ended, "final")).toHaveLength(0);
    expect(ended.trials.length).toBeLessThanOrEqual(30);
  });

  it("of a cancelled trial count as such, and a retried one is under way again", () => {
    const search = searchOver({ members: 6, spend: 30 });
    const [none, all] = [0, 63].map((index) => trialIdOf("study", `candidate-${index}`, "baseline", 0));
    const first = nextDecision(search, { study: "study", trials: [], observations: [], decisions: [] });
    if (first === "wait" || first === "finished" || none === undefined || all === undefined)
      throw new Error("no start");
    const decisions = [first];
    const screened = nextDecision(search, {
      study: "study",
      trials: [{ id: none, state: "waiting" }],
      observations: [],
      decisions,
    });
    // `all` was cancelled: only `none` is under way.
    expect(screened).toMatchObject({ pending: [none], method: "random" });
  });
});

describe("rungs", () => {
  const rungs = [1, 3];

  it("let only some through, all of baseline and screen among them", () => {
    const search = searchOver({ members: 8, spend: 24, rungs, seed: 4 });
    const ended = runWorld(search, { workers: 3, order: 7, value: noisyWorld(surfaceOf("additive", 8, 1), 0.1) });
    for (const { epochs } of inPhase(ended, "baseline", "screen")) expect(epochs).toBe(9);
    const searched = inPhase(ended, "search");
    const full = searched.filter(({ epochs }) => epochs === 9);
    // Full trainings alone, eight would fit.
    expect(searched.length).toBeGreaterThan(10);
    expect(searched.length).toBeGreaterThanOrEqual(2 * full.length);
    expect(full.length).toBeGreaterThan(0);
    const reasons = ended.known.decisions.map(({ reason }) => reason).join("\n");
    expect(reasons).toMatch(/1 epoch: tau 0\.\d\d of \d+, at least 0\.\d\d/);
  });

  it("that do not rank are used no more, and the reason says so", () => {
    const search = searchOver({ members: 8, spend: 30, rungs: [1], seed: 4 });
    const values = noisyWorld(surfaceOf("additive", 8, 1), 0.1);
    const ended = runWorld(search, {
      workers: 1,
      order: 7,
      // The first epoch shows the opposite of the end.
      value: (candidate, epochs, trial) => (epochs === 1 ? -1 : 1) * (values(candidate, epochs, trial) ?? 0),
    });
    for (const { epochs } of inPhase(ended, "search")) expect(epochs).toBe(9);
    expect(ended.known.decisions.some(({ reason }) => reason.includes("not used any more"))).toBe(true);
  });

  it("are judged by a rank correlation from six pairs on", () => {
    const trial = (values: readonly (readonly [number, number])[]): Parameters<typeof rungTrust>[1][number] => ({
      id: "",
      candidate: 0,
      phase: "screen",
      replicate: 0,
      goal: 9,
      state: "complete",
      values: new Map(values),
    });
    const good = Array.from({ length: 12 }, (_, i) =>
      trial([
        [3, i + (i % 3)],
        [9, i],
      ]),
    );
    expect(rungTrust([3, 9], good)[0]).toMatchObject({ pairs: 12, trusted: true });
    const bad = Array.from({ length: 12 }, (_, i) =>
      trial([
        [3, (i * 5) % 12],
        [9, i],
      ]),
    );
    expect(rungTrust([3, 9], bad)[0]).toMatchObject({ pairs: 12, trusted: false });
    expect(rungTrust([3, 9], bad.slice(0, 5))[0]).toMatchObject({ pairs: 5, trusted: true });
  });
});
