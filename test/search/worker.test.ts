import { describe, expect, it } from "vitest";
import { isPassing, outlast, pause } from "../../runtime/search/patience.ts";
import type { TrialResult, TrialRow } from "../../runtime/search/study.ts";
import type { TrainTrial, TrialWork } from "../../runtime/search/training.ts";
import {
  pollStore,
  runWorker,
  type Taken,
  type Taker,
  type TrialSource,
  type WorkerEvent,
  type WorkerOptions,
} from "../../runtime/search/worker.ts";
import { type MemoryStore, memoryStore, studyRow, trialRow, Unreachable } from "./worker-store.ts";

const TIMING = { heartbeatSeconds: 0.02, lostSeconds: 0.2, watchSeconds: 0.02, patienceSeconds: 5, graceSeconds: 0.5 };

function resultOf(row: TrialRow): TrialResult {
  return {
    metrics: { "val.uar": row.seed / 100 },
    seconds: 1,
    overheadSeconds: 0,
    latency: undefined,
    weights: undefined,
    predictions: {},
    kernels: { hits: 0, misses: 0 },
    device: "none",
  };
}

/** Commits after so many seconds, listening to its orders as a training does. */
function training(seconds: number, seen: TrialWork[] = []): TrainTrial {
  return async (work) => {
    seen.push(work);
    const { store, claim, stop } = work;
    const { trial, attempt } = claim;
    await pause(seconds, stop);
    if (stop.aborted) {
      if (stop.reason !== "pause") return "lost";
      await store.saveProgress(trial.id, attempt, 1, "half");
      await store.release(trial.id, attempt);
      return "handed back";
    }
    return (await store.commit(trial.id, attempt, 0.5, resultOf(trial))) ? "complete" : "lost";
  };
}

function optionsOf(store: MemoryStore, train: TrainTrial, extra: Partial<WorkerOptions> = {}): WorkerOptions {
  return {
    store,
    study: store.studyRow,
    source: pollStore(0.01),
    train,
    netc: "0.1.0",
    device: 0,
    signal: new AbortController().signal,
    timing: TIMING,
    drainSeconds: 0.05,
    name: "w",
    ...extra,
  };
}

async function until(holds: () => boolean): Promise<void> {
  for (let tries = 0; tries < 500 && !holds(); tries++) await pause(0.005);
  expect(holds()).toBe(true);
}

/** A source whose takings the test makes itself. */
function byHand(): { source: TrialSource; taker: Promise<Taker> } {
  let give: (taker: Taker) => void = () => undefined;
  const taker = new Promise<Taker>((resolve) => {
    give = resolve;
  });
  const source: TrialSource = {
    async serve(taker, { signal }) {
      give(taker);
      await pause(60, signal);
    },
  };
  return { source, taker };
}

describe("a worker", () => {
  it("trains what waits, several at once, and leaves when nothing does", async () => {
    const trials = Array.from({ length: 9 }, (_, index) => trialRow(index + 1));
    const store = memoryStore(trials);
    let most = 0;
    let now = 0;
    const train: TrainTrial = async (work) => {
      most = Math.max(most, ++now);
      const end = await training(0.02)(work);
      now--;
      return end;
    };
    const summary = await runWorker(optionsOf(store, train, { concurrency: 3 }));
    expect(summary).toMatchObject({ why: "drained", ends: { complete: 9, lost: 0, failed: 0 } });
    expect(most).toBe(3);
    expect(store.done.size).toBe(9);
    for (const row of store.rows.values()) expect(row).toMatchObject({ state: "complete", attempt: 1, worker: "w" });
  });

  it("leaves when the study is over, whatever still waits", async () => {
    const store = memoryStore([], studyRow());
    const { drainSeconds: _, ...options } = optionsOf(store, training(0));
    const running = runWorker(options);
    await pause(0.05);
    store.studyRow = studyRow({ state: "complete" });
    await expect(running).resolves.toMatchObject({ why: "finished" });
  });

  it("hands back with a checkpoint when it is told to stop", async () => {
    const store = memoryStore([trialRow(1), trialRow(2)]);
    const stop = new AbortController();
    const running = runWorker(optionsOf(store, training(30), { signal: stop.signal }));
    await until(() => store.rows.get(trialRow(1).id)?.state === "running");
    stop.abort();
    expect(await running).toMatchObject({ why: "stopped", ends: { "handed back": 1, complete: 0 } });
    expect(store.rows.get(trialRow(1).id)).toMatchObject({ state: "waiting", attempt: 1, fruitless: 0 });
    expect(store.checkpoints.get(trialRow(1).id)).toBe("half");
    expect(store.rows.get(trialRow(2).id)).toMatchObject({ state: "waiting", attempt: 0 });
  });

  it("gives the next attempt the checkpoint of the last", async () => {
    const store = memoryStore([trialRow(1, { attempt: 3 })]);
    store.checkpoints.set(trialRow(1).id, "older");
    const seen: TrialWork[] = [];
    await runWorker(optionsOf(store, training(0, seen)));
    expect(seen[0]?.claim).toMatchObject({ attempt: 4, checkpoint: "older" });
  });

  it("passes a person's pause and cancellation on to the training", async () => {
    const store = memoryStore([trialRow(1), trialRow(2)]);
    const seen: TrialWork[] = [];
    const events: WorkerEvent[] = [];
    const running = runWorker(
      optionsOf(store, training(30, seen), { concurrency: 2, log: (event) => events.push(event) }),
    );
    await until(() => seen.length === 2);
    await store.cancel(trialRow(1).id);
    await until(() => events.some((event) => event.kind === "ended"));
    store.studyRow = studyRow({ state: "paused" });
    expect(await running).toMatchObject({ why: "drained", ends: { lost: 1, "handed back": 1 } });
    expect(seen.map((work) => work.stop.reason)).toEqual(["cancel", "pause"]);
    expect(store.rows.get(trialRow(1).id)?.state).toBe("cancelled");
    expect(store.rows.get(trialRow(2).id)?.state).toBe("waiting");
  });

  it("drops a trial that another has taken, and the store has the other's result", async () => {
    const store = memoryStore([trialRow(1)]);
    const seen: TrialWork[] = [];
    const { source, taker } = byHand();
    const stop = new AbortController();
    const running = runWorker(optionsOf(store, training(30, seen), { source, signal: stop.signal }));
    const taking = (await taker).take(trialRow(1).id);
    await until(() => seen.length === 1);
    store.ahead += 60_000;
    await store.reclaim("study-1", 30);
    const other = await store.claim("study-1", "other", trialRow(1).id);
    expect(other?.attempt).toBe(2);
    expect(await taking).toEqual<Taken>({ kind: "ended", end: "lost" });
    expect(seen[0]?.stop.reason).toBe("lost");
    expect(await store.commit(trialRow(1).id, 1, 0, resultOf(trialRow(7)))).toBe(false);
    expect(await store.commit(trialRow(1).id, 2, 0, resultOf(trialRow(1)))).toBe(true);
    expect(store.done.get(trialRow(1).id)).toEqual(resultOf(trialRow(1)));
    stop.abort();
    await running;
  });

  it("asks at once when its source doubts", async () => {
    const store = memoryStore([trialRow(1)]);
    const seen: TrialWork[] = [];
    const { source, taker } = byHand();
    const stop = new AbortController();
    const timing = { ...TIMING, heartbeatSeconds: 30 };
    const running = runWorker(optionsOf(store, training(30, seen), { source, signal: stop.signal, timing }));
    const { take, check } = await taker;
    const taking = take(trialRow(1).id);
    await until(() => seen.length === 1);
    check(trialRow(1).id);
    await pause(0.05);
    expect(seen[0]?.stop.aborted).toBe(false);
    const row = store.rows.get(trialRow(1).id);
    if (row !== undefined) store.rows.set(row.id, { ...row, attempt: 9 });
    check(trialRow(1).id);
    expect(await taking).toEqual<Taken>({ kind: "ended", end: "lost" });
    stop.abort();
    await running;
  });

  it("takes over the trial of a worker that is gone, once its heartbeat is old, and not before", async () => {
    const store = memoryStore([trialRow(1, { state: "running", attempt: 1, worker: "gone", heartbeat: Date.now() })]);
    const { source, taker } = byHand();
    const stop = new AbortController();
    const running = runWorker(optionsOf(store, training(0), { source, signal: stop.signal }));
    const { take } = await taker;
    expect(await take(trialRow(1).id)).toEqual<Taken>({ kind: "nothing" });
    store.ahead += 1000;
    expect(await take(trialRow(1).id)).toEqual<Taken>({ kind: "ended", end: "complete" });
    expect(store.rows.get(trialRow(1).id)).toMatchObject({ state: "complete", attempt: 2 });
    stop.abort();
    await running;
  });

  it("says of a failed trial whether it is to be told of again, and the store counts how often", async () => {
    const store = memoryStore([trialRow(1)]);
    const { source, taker } = byHand();
    const stop = new AbortController();
    const train: TrainTrial = () => Promise.reject(new Error("the device is gone"));
    const running = runWorker(optionsOf(store, train, { source, signal: stop.signal }));
    const { take } = await taker;
    const ends: string[] = [];
    for (let attempt = 0; attempt < 5; attempt++) {
      const taken = await take(trialRow(1).id);
      ends.push(taken.kind === "waiting" ? `waiting ${taken.trial.fruitless}` : taken.kind);
    }
    expect(ends).toEqual(["waiting 1", "waiting 2", "waiting 3", "ended", "nothing"]);
    expect(store.rows.get(trialRow(1).id)).toMatchObject({ state: "failed", error: "the device is gone" });
    stop.abort();
    await running;
  });
});

describe("a worker whose store goes away", () => {
  it("trains on, commits when it is back, and says both once", async () => {
    const store = memoryStore([trialRow(1)]);
    const events: WorkerEvent[] = [];
    const running = runWorker(optionsOf(store, training(0.1), { log: (event) => events.push(event) }));
    await until(() => store.rows.get(trialRow(1).id)?.state === "running");
    store.down = true;
    await pause(0.4);
    store.down = false;
    expect(await running).toMatchObject({ ends: { complete: 1 } });
    expect(store.rows.get(trialRow(1).id)).toMatchObject({ state: "complete", attempt: 1 });
    const kinds = events.map((event) => event.kind).filter((kind) => kind === "outage" || kind === "back");
    expect(kinds).toEqual(["outage", "back"]);
  });

  it("gives back a trial that it took without learning of it", async () => {
    const store = memoryStore([trialRow(1)]);
    store.loseNextClaim = true;
    expect(await runWorker(optionsOf(store, training(0)))).toMatchObject({ ends: { complete: 1 } });
    expect(store.rows.get(trialRow(1).id)).toMatchObject({ state: "complete", attempt: 2, fruitless: 0 });
  });

  it("gives up after its patience, with the store's own error", async () => {
    const store = memoryStore([trialRow(1)]);
    store.down = true;
    const timing = { ...TIMING, patienceSeconds: 0.3 };
    await expect(runWorker(optionsOf(store, training(0), { timing }))).rejects.toBeInstanceOf(Unreachable);
  });

  it("leaves soon when it is told to stop meanwhile", async () => {
    const store = memoryStore([trialRow(1)]);
    const stop = new AbortController();
    const timing = { ...TIMING, patienceSeconds: 600, graceSeconds: 0.3 };
    const running = runWorker(optionsOf(store, training(30), { signal: stop.signal, timing }));
    await until(() => store.rows.get(trialRow(1).id)?.state === "running");
    store.down = true;
    const begun = performance.now();
    stop.abort();
    expect(await running).toMatchObject({ why: "stopped" });
    expect(performance.now() - begun).toBeLessThan(3000);
    // Nobody told the store; whoever looks for old heartbeats finds the trial.
    expect(store.rows.get(trialRow(1).id)?.state).toBe("running");
  });

  it("does not take a broken store for a broken trial", async () => {
    const store = memoryStore([trialRow(1)]);
    const full = Object.assign(new Error("the disk is full"), { name: "StoreError", kind: "full" });
    const train: TrainTrial = () => Promise.reject(full);
    await expect(runWorker(optionsOf(store, train))).rejects.toBe(full);
    expect(store.rows.get(trialRow(1).id)).toMatchObject({ state: "waiting", fruitless: 0 });
  });
});

describe("a worker that may not work", () => {
  it("is refused with another version, before it takes anything", async () => {
    const store = memoryStore([trialRow(1)], studyRow({ netc: "0.0.9" }));
    const running = runWorker(optionsOf(store, training(0)));
    await expect(running).rejects.toMatchObject({
      kind: "refused",
      message: expect.stringMatching(/begun with netc 0\.0\.9, and this worker is netc 0\.1\.0/),
      help: [expect.stringContaining("npm install netc@0.0.9"), expect.stringContaining("--fork")],
    });
    expect(store.rows.get(trialRow(1).id)?.attempt).toBe(0);
  });

  it("is refused with too small a device", async () => {
    const store = memoryStore([trialRow(1)]);
    const refuses = async (): Promise<string> => "the largest candidate needs 9 GiB, and it has 4";
    await expect(runWorker(optionsOf(store, training(0), { refuses }))).rejects.toMatchObject({
      kind: "refused",
      message: expect.stringContaining("device 0 cannot train trials of the study `placement`: the largest candidate"),
    });
    expect(store.rows.get(trialRow(1).id)?.attempt).toBe(0);
  });
});

describe("patience", () => {
  it("passes answers, what is not a method, and errors that do not pass", async () => {
    const store = memoryStore([trialRow(1)]);
    const patience = { seconds: 1, graceSeconds: 0, signal: new AbortController().signal };
    const patient = outlast(store, patience);
    expect(patient.address).toBe("memory:");
    expect(await patient.trial(trialRow(1).id)).toEqual(trialRow(1));
    await expect(patient.createStudy(studyRow())).rejects.toThrow("does not ask");
    expect(isPassing(new Unreachable())).toBe(true);
    expect(isPassing(new Error("no"))).toBe(false);
  });
});
