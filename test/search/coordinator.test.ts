/** Whole studies, tiny ones: from the first decision to the table, through interruptions, and as their journal tells it. */
import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, inject, it, vi } from "vitest";
import { replay, runStudy } from "../../runtime/search/coordinator.ts";
import { changesOf } from "../../runtime/search/differences.ts";
import { trialRowsOf } from "../../runtime/search/methods/ledger.ts";
import type { StudyRow, StudyStore, TrialRow } from "../../runtime/search/study.ts";
import type { TrainTrial } from "../../runtime/search/training.ts";
import { MemoryStore } from "./memory-store.ts";
import { decisionOf, searchGround, searchText, studyFrom } from "./trials.ts";

// Seconds on a machine of one's own, a minute on one that others use.
vi.setConfig({ testTimeout: 240_000 });

let at = "";
let set = "";
let study: StudyRow;
const SETTINGS = "seeds = Seeds(search=1, confirm=1, final=2, from=3)\n  spend = 8";

beforeAll(async () => {
  expect(inject("buildFailure")).toBe("");
  ({ at, set } = await searchGround());
  study = studyFrom(searchText(SETTINGS), at, set);
});

/** Scores that are a function of the trial, and take no time. */
const pretend: TrainTrial = async ({ study: { search }, claim: { trial, attempt }, store, stop }) => {
  await new Promise((resolve) => setTimeout(resolve, 2));
  if (stop.aborted) return (await store.release(trial.id, attempt)) ? "handed back" : "lost";
  // Twice as good with attention at conv2, and some noise that is the seed's.
  const candidate = search.space.candidates.find(({ hash }) => hash === trial.candidate);
  const value = (candidate?.label.includes("conv2") === true ? 0.8 : 0.4) + (trial.seed % 1000) / 10_000;
  const result = {
    metrics: { "val.uar": value },
    seconds: 1,
    overheadSeconds: 0,
    latency: undefined,
    weights: undefined,
    predictions: {},
    kernels: { hits: 0, misses: 0 },
    device: "none",
  };
  if (trial.epochs < search.epochs)
    return (await store.endRung({ trial: trial.id, epochs: trial.epochs, value, checkpoint: undefined }, attempt))
      ? "rung"
      : "lost";
  return (await store.commit(trial.id, attempt, value, result)) ? "complete" : "lost";
};

const FAST = {
  lookSeconds: 0.02,
  leadSeconds: 5,
  lostSeconds: 2,
  workers: { watchSeconds: 0.05, heartbeatSeconds: 0.05 },
};

async function run(
  store: StudyStore,
  train: TrainTrial = pretend,
  signal = new AbortController().signal,
): Promise<string> {
  await store.createStudy(study);
  return runStudy({ study, store, trained: { by: "workers", train, count: 2 }, netc: "test", signal, timing: FAST });
}

async function journalOf(store: StudyStore): Promise<{
  readonly trials: readonly TrialRow[];
  readonly observations: Awaited<ReturnType<StudyStore["observations"]>>;
  readonly decisions: Awaited<ReturnType<StudyStore["decisions"]>>;
}> {
  const { id } = study;
  return {
    trials: await store.trials(id),
    observations: await store.observations(id),
    decisions: await store.decisions(id),
  };
}

describe("a study", () => {
  it("comes to its end: every phase, and a table on fresh seeds", async () => {
    const store = new MemoryStore();
    expect(await run(store)).toBe("complete");
    expect(await store.studyState(study.id)).toBe("complete");
    const { trials } = await journalOf(store);
    expect(trials.every(({ state }) => state === "complete")).toBe(true);
    const phases = new Set(trials.map(({ phase }) => phase));
    for (const phase of ["search", "confirm", "final"] as const) expect(phases).toContain(phase);
    const { none, candidates } = study.search.space;
    const final = trials.filter(({ phase }) => phase === "final");
    expect(final.map(({ candidate }) => candidate)).toContain(candidates[none ?? -1]?.hash);
    // Nothing was chosen by the seeds of the table.
    const chosen = new Set(trials.filter(({ phase }) => phase !== "final").map(({ seed }) => seed));
    for (const { seed } of final) expect(chosen).not.toContain(seed);
    // One seed for all candidates of a replicate.
    expect(new Set(final.filter(({ replicate }) => replicate === 0).map(({ seed }) => seed)).size).toBe(1);
  });

  it("can be replayed: every decision comes out the same, and one that was changed does not", async () => {
    const store = new MemoryStore();
    await run(store);
    const journal = await journalOf(store);
    expect(journal.decisions.length).toBe(3);
    expect(replay(study, journal)).toEqual([]);
    const observations = journal.observations.map((row) =>
      row.value === undefined ? row : { ...row, value: -row.value },
    );
    expect(replay(study, { ...journal, observations }).length).toBeGreaterThan(0);
  });

  it("goes on where it was stopped, and what was handed back is trained once", async () => {
    const alone = new MemoryStore();
    await run(alone);
    const store = new MemoryStore();
    for (let round = 0, end = ""; end !== "complete"; round++) {
      const stop = new AbortController();
      let ended = 0;
      const train: TrainTrial = async (work) => {
        const end = await pretend(work);
        ended += 1;
        if (ended === 2) stop.abort();
        return end;
      };
      end = await run(store, train, stop.signal);
      expect(round).toBeLessThan(20);
    }
    const [one, other] = [await journalOf(alone), await journalOf(store)];
    const seen = (rows: typeof one.observations): readonly string[] =>
      rows.map(({ trial, value }) => `${trial} ${value}`).sort();
    expect(seen(other.observations)).toEqual(seen(one.observations));
    expect(replay(study, other)).toEqual([]);
  });

  it("has one coordinator: the second says so, and takes over when the first has gone", async () => {
    const store = new MemoryStore();
    await store.createStudy(study);
    const first = new AbortController();
    const held = new AbortController();
    const train: TrainTrial = async (work) => {
      while (!held.signal.aborted && !work.stop.aborted) await new Promise((resolve) => setTimeout(resolve, 5));
      return pretend(work);
    };
    const leading = run(store, train, first.signal);
    await new Promise((resolve) => setTimeout(resolve, 100));
    const notes: string[] = [];
    const second = runStudy({
      study,
      store,
      trained: { by: "workers", train: pretend, count: 1 },
      netc: "test",
      signal: new AbortController().signal,
      onNote: (text) => notes.push(text),
      timing: FAST,
    });
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(notes).toEqual(["another coordinator leads this study; this one waits until it has gone"]);
    first.abort();
    held.abort();
    expect(await leading).toBe("stopped");
    expect(await second).toBe("complete");
  });

  it("waits while it is paused, and goes on when it is resumed", async () => {
    const store = new MemoryStore();
    await store.createStudy(study);
    let trained = 0;
    const running = run(store, async (work) => {
      trained += 1;
      if (trained === 2) await store.setStudyState(study.id, "paused");
      return pretend(work);
    });
    await new Promise((resolve) => setTimeout(resolve, 400));
    const before = trained;
    expect(await store.studyState(study.id)).toBe("paused");
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(trained).toBe(before);
    await store.setStudyState(study.id, "running");
    expect(await running).toBe("complete");
  });

  it("takes trials back from a worker that is gone", async () => {
    const store = new MemoryStore();
    await store.createStudy(study);
    const child = spawn(process.execPath, ["-e", "0"]);
    await new Promise((resolve) => child.once("exit", resolve));
    const { hostname } = await import("node:os");
    const candidate = study.search.space.none ?? 0;
    const decision = decisionOf(1, [{ kind: "begin", candidate, phase: "search", replicate: 0, epochs: 3 }]);
    const known = { study: study.id, trials: [], observations: [], decisions: [] };
    await store.decide(study.id, decision, trialRowsOf(study.search, known, decision));
    await store.claim(study.id, `${hostname()}-${child.pid}-abc`);
    const began = performance.now();
    expect(await run(store)).toBe("complete");
    expect(performance.now() - began).toBeLessThan(1900);
    expect((await store.trials(study.id))[0]?.attempt).toBe(2);
  });

  it("is left when everything fails, with the reason", async () => {
    const store = new MemoryStore();
    const failing: TrainTrial = async ({ claim, store: own }) => {
      await own.fail(claim.trial.id, claim.attempt, "this machine, not the trial: the disk is full");
      return "failed";
    };
    await expect(run(store, failing)).rejects.toThrow(/have all failed.*the disk is full/);
  });
});

describe("what differs between two studies", () => {
  it("is said setting by setting", () => {
    const other = studyFrom(
      searchText("seeds = Seeds(search=1, confirm=1, final=3, from=3)\n  spend = 8").replace(
        "lr: float = 0.01",
        "lr: float = 0.02",
      ),
      join(at, "other"),
      set,
    );
    expect(other.id).not.toBe(study.id);
    expect(changesOf(study, other)).toEqual([
      "the search's replicates.final was 2 and is 3",
      "the recipe's stages[0].rate was 0.01 and is 0.02",
    ]);
  });

  it("names candidates that have come, gone, or compute something else", () => {
    const other = studyFrom(
      searchText(SETTINGS)
        .replace("subsets(@conv1..@conv2)", "subsets(@conv2..@conv2)")
        .replace("Dropout(0.3)", "Dropout(0.4)"),
      join(at, "other"),
      set,
    );
    const changes = changesOf(study, other);
    expect(changes.some((change) => change.startsWith("its space has lost 2 candidates: `spots={conv1}`"))).toBe(true);
    expect(changes.some((change) => change.endsWith("compute or train something else"))).toBe(true);
  });

  it("is the data set's too; a comment or another folder is no difference", () => {
    const commented = studyFrom(`// a comment\n${searchText(SETTINGS)}`, join(at, "other"), set);
    expect(commented.id).toBe(study.id);
    const file = join(set, "manifest.jsonl");
    const before = readFileSync(file, "utf8");
    writeFileSync(file, before.replace("SYNTHETIC", "CHANGED"));
    try {
      const other = studyFrom(searchText(SETTINGS), join(at, "other"), set);
      expect(changesOf(study, other)[0]).toMatch(/^the data set's manifest was [0-9a-f]{12} and is [0-9a-f]{12}/);
    } finally {
      writeFileSync(file, before);
    }
  });
});
