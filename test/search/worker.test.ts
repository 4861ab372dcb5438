import { describe, expect, it } from "vitest";
import { isPassing, outlast, pause } from "../../runtime/search/patience.ts";
import { StoreError } from "../../runtime/search/store/error.ts";
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
import { resultWith } from "./store-tools.ts";
import { storeWith, type TestStore, unreachable } from "./worker-store.ts";

const TIMING = { heartbeatSeconds: 0.02, lostSeconds: 0.2, watchSeconds: 0.02, patienceSeconds: 5, graceSeconds: 0.5 };

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
    const result = resultWith({ metrics: { "val.uar": trial.seed } });
    return (await store.commit(trial.id, attempt, 0.5, result)) ? "complete" : "lost";
  };
}

function optionsOf(test: TestStore, train: TrainTrial, extra: Partial<WorkerOptions> = {}): WorkerOptions {
  return {
    store: test.store,
    study: test.study,
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

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 500 && !(await holds()); tries++) await pause(0.005);
  expect(await holds()).toBe(true);
}

/** Runs a worker whose takings the test makes itself, and stops it afterwards. */
async function byHand(
  test: TestStore,
  train: TrainTrial,
  work: (taker: Taker) => Promise<void>,
  extra: Partial<WorkerOptions> = {},
): Promise<void> {
  const stop = new AbortController();
  const source: TrialSource = {
    async serve(taker, { signal }) {
      await work(taker).finally(() => stop.abort());
      await pause(60, signal);
    },
  };
  await runWorker(optionsOf(test, train, { source, signal: stop.signal, ...extra }));
}

describe("a worker", () => {
  it("trains what waits, several at once, and leaves when nothing does", async () => {
    const test = await storeWith(9);
    let most = 0;
    let now = 0;
    const train: TrainTrial = async (work) => {
      most = Math.max(most, ++now);
      const end = await training(0.02)(work);
      now--;
      return end;
    };
    const summary = await runWorker(optionsOf(test, train, { concurrency: 3 }));
    expect(summary).toMatchObject({ why: "drained", ends: { complete: 9, lost: 0, failed: 0 } });
    expect(most).toBe(3);
    const results = await test.store.results(test.study.id);
    for (const row of await test.store.trials(test.study.id)) {
      expect(row).toMatchObject({ state: "complete", attempt: 1 });
      expect(results.get(row.id)?.metrics["val.uar"]).toBe(row.seed);
    }
  });

  it("leaves when the study is over", async () => {
    const test = await storeWith(0);
    const { drainSeconds: _, ...options } = optionsOf(test, training(0));
    const running = runWorker(options);
    await pause(0.05);
    await test.store.setStudyState(test.study.id, "complete");
    await expect(running).resolves.toMatchObject({ why: "finished" });
  });

  it("hands back with a checkpoint when it is told to stop", async () => {
    const test = await storeWith(2);
    const stop = new AbortController();
    const seen: TrialWork[] = [];
    const running = runWorker(optionsOf(test, training(30, seen), { signal: stop.signal }));
    await until(() => seen.length === 1);
    stop.abort();
    expect(await running).toMatchObject({ why: "stopped", ends: { "handed back": 1, complete: 0 } });
    expect(await test.row(1)).toMatchObject({ state: "waiting", attempt: 1, fruitless: 0 });
    expect(await test.row(2)).toMatchObject({ state: "waiting", attempt: 0 });
    expect(await test.store.claim(test.study.id, "next", test.ids[0])).toMatchObject({
      checkpoint: "half",
      attempt: 2,
    });
  });

  it("hands back what a training leaves without a word", async () => {
    const test = await storeWith(1);
    const stop = new AbortController();
    const train: TrainTrial = async (work) => {
      stop.abort();
      await pause(5, work.stop);
      return "handed back";
    };
    await runWorker(optionsOf(test, train, { signal: stop.signal }));
    expect(await test.row(1)).toMatchObject({ state: "waiting", attempt: 1, fruitless: 0 });
  });

  it("gives the next attempt the checkpoint of the last", async () => {
    const test = await storeWith(1);
    const { id } = await test.row(1);
    await test.store.claim(test.study.id, "before");
    await test.store.saveProgress(id, 1, 2, "older");
    await test.store.release(id, 1);
    const seen: TrialWork[] = [];
    await runWorker(optionsOf(test, training(0, seen)));
    expect(seen[0]?.claim).toMatchObject({ attempt: 2, checkpoint: "older" });
  });

  it("passes a person's pause and cancellation on to the training", async () => {
    const test = await storeWith(2);
    const seen: TrialWork[] = [];
    const events: WorkerEvent[] = [];
    const log = (event: WorkerEvent): unknown => events.push(event);
    const running = runWorker(optionsOf(test, training(30, seen), { concurrency: 2, log }));
    await until(() => seen.length === 2);
    await test.store.cancel((await test.row(1)).id);
    await until(() => events.some((event) => event.kind === "ended"));
    await test.store.setStudyState(test.study.id, "paused");
    expect(await running).toMatchObject({ why: "drained", ends: { lost: 1, "handed back": 1 } });
    expect(seen.map((work) => work.stop.reason)).toEqual(["cancel", "pause"]);
    expect(await test.row(1)).toMatchObject({ state: "cancelled" });
    expect(await test.row(2)).toMatchObject({ state: "waiting" });
  });

  it("drops a trial that another has taken, and the store has the other's result", async () => {
    const test = await storeWith(1);
    const seen: TrialWork[] = [];
    const { id } = await test.row(1);
    await byHand(test, training(30, seen), async ({ take }) => {
      const taking = take(id);
      await until(() => seen.length === 1);
      test.switches.ahead += 60_000;
      await test.store.reclaim(test.study.id, 30);
      expect(await test.store.claim(test.study.id, "other")).toMatchObject({ attempt: 2 });
      expect(await taking).toEqual<Taken>({ kind: "ended", end: "lost" });
    });
    expect(seen[0]?.stop.reason).toBe("lost");
    expect(await test.store.commit(id, 1, 0, resultWith({ seconds: 1 }))).toBe(false);
    expect(await test.store.commit(id, 2, 0, resultWith({ seconds: 2 }))).toBe(true);
    expect((await test.store.results(test.study.id)).get(id)).toMatchObject({ seconds: 2 });
  });

  it("asks at once when its source doubts", async () => {
    const test = await storeWith(1);
    const seen: TrialWork[] = [];
    const { id } = await test.row(1);
    const work = async ({ take, check }: Taker): Promise<void> => {
      const taking = take(id);
      await until(() => seen.length === 1);
      check(id);
      await pause(0.05);
      expect(seen[0]?.stop.aborted).toBe(false);
      test.switches.ahead += 60_000;
      await test.store.reclaim(test.study.id, 30);
      check(id);
      expect(await taking).toEqual<Taken>({ kind: "ended", end: "lost" });
    };
    await byHand(test, training(30, seen), work, { timing: { ...TIMING, heartbeatSeconds: 30 } });
  });

  it("takes over the trial of a worker that is gone, once its heartbeat is old, and not before", async () => {
    const test = await storeWith(1);
    const { id } = await test.row(1);
    await test.store.claim(test.study.id, "gone");
    await byHand(test, training(0), async ({ take }) => {
      expect(await take(id)).toEqual<Taken>({ kind: "nothing" });
      test.switches.ahead += 1000;
      expect(await take(id)).toEqual<Taken>({ kind: "ended", end: "complete" });
    });
    expect(await test.row(1)).toMatchObject({ state: "complete", attempt: 2 });
  });

  it("says of a failed trial whether it is to be told of again, and the store counts how often", async () => {
    const test = await storeWith(1);
    const { id } = await test.row(1);
    const ends: string[] = [];
    const train: TrainTrial = () => Promise.reject(new Error("the device is gone"));
    await byHand(test, train, async ({ take }) => {
      for (let attempt = 0; attempt < 5; attempt++) {
        const taken = await take(id);
        ends.push(taken.kind === "waiting" ? `waiting ${taken.trial.fruitless}` : taken.kind);
      }
    });
    expect(ends).toEqual(["waiting 1", "waiting 2", "waiting 3", "ended", "nothing"]);
    expect(await test.row(1)).toMatchObject({ state: "failed", error: expect.stringContaining("the device is gone") });
  });
});

describe("a worker whose store goes away", () => {
  it("trains on, commits when it is back, and says both once", async () => {
    const test = await storeWith(1);
    const seen: TrialWork[] = [];
    const events: WorkerEvent[] = [];
    const log = (event: WorkerEvent): unknown => events.push(event);
    const running = runWorker(optionsOf(test, training(0.1, seen), { log }));
    await until(() => seen.length === 1);
    test.switches.down = true;
    await pause(0.4);
    test.switches.down = false;
    expect(await running).toMatchObject({ ends: { complete: 1 } });
    expect(await test.row(1)).toMatchObject({ state: "complete", attempt: 1 });
    const kinds = events.map((event) => event.kind).filter((kind) => kind === "outage" || kind === "back");
    expect(kinds).toEqual(["outage", "back"]);
  });

  it("gives back a trial that it took without learning of it", async () => {
    const test = await storeWith(1);
    test.switches.loseNextClaim = true;
    expect(await runWorker(optionsOf(test, training(0)))).toMatchObject({ ends: { complete: 1 } });
    expect(await test.row(1)).toMatchObject({ state: "complete", attempt: 2, fruitless: 0 });
  });

  it("gives up after its patience, with the store's own error", async () => {
    const test = await storeWith(1);
    test.switches.down = true;
    const timing = { ...TIMING, patienceSeconds: 0.3 };
    const running = runWorker(optionsOf(test, training(0), { timing }));
    await expect(running).rejects.toMatchObject({ name: "StoreError", kind: "unreachable" });
  });

  it("leaves soon when it is told to stop meanwhile", async () => {
    const test = await storeWith(1);
    const stop = new AbortController();
    const seen: TrialWork[] = [];
    const timing = { ...TIMING, patienceSeconds: 600, graceSeconds: 0.3 };
    const running = runWorker(optionsOf(test, training(30, seen), { signal: stop.signal, timing }));
    await until(() => seen.length === 1);
    test.switches.down = true;
    const begun = performance.now();
    stop.abort();
    expect(await running).toMatchObject({ why: "stopped" });
    expect(performance.now() - begun).toBeLessThan(3000);
    // Nobody told the store; whoever looks for old heartbeats finds the trial.
    expect(await test.row(1)).toMatchObject({ state: "running" });
  });

  it("does not take a broken store for a broken trial", async () => {
    const test = await storeWith(1);
    const full = new StoreError("full", "the disk is full");
    const train: TrainTrial = () => Promise.reject(full);
    await expect(runWorker(optionsOf(test, train))).rejects.toBe(full);
    expect(await test.row(1)).toMatchObject({ state: "waiting", fruitless: 0 });
  });
});

describe("a worker that may not work", () => {
  it("is refused with another version, before it takes anything", async () => {
    const test = await storeWith(1, { netc: "0.0.9" });
    await expect(runWorker(optionsOf(test, training(0)))).rejects.toMatchObject({
      kind: "refused",
      message: expect.stringMatching(/begun with netc 0\.0\.9, and this worker is netc 0\.1\.0/),
      help: [expect.stringContaining("npm install netc@0.0.9"), expect.stringContaining("--fork")],
    });
    expect(await test.row(1)).toMatchObject({ attempt: 0 });
  });

  it("is refused with too small a device", async () => {
    const test = await storeWith(1);
    const refuses = async (): Promise<string> => "the largest candidate needs 9 GiB, and it has 4";
    await expect(runWorker(optionsOf(test, training(0), { refuses }))).rejects.toMatchObject({
      kind: "refused",
      message: expect.stringContaining("device 0 cannot train trials of the study `worker`: the largest candidate"),
    });
    expect(await test.row(1)).toMatchObject({ attempt: 0 });
  });
});

describe("patience", () => {
  it("passes answers, what is not a method, and errors that do not pass", async () => {
    const test = await storeWith(1);
    const patient = outlast(test.store, { seconds: 1, graceSeconds: 0, signal: new AbortController().signal });
    expect(patient.address).toBe("memory:");
    expect(await patient.trial((await test.row(1)).id)).toEqual(await test.row(1));
    await expect(patient.setStudyState("none", "paused")).rejects.toMatchObject({ kind: "refused" });
    expect(isPassing(unreachable())).toBe(true);
    expect(isPassing(new Error("no"))).toBe(false);
  });
});
