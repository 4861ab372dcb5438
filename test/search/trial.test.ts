/** Trials in processes of their own: what they leave in the store, and what is left of them when they are interrupted. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, inject, it, vi } from "vitest";
import type { Orders, StudyRow, TrialResult, TrialRow } from "../../runtime/search/study.ts";
import type { TrialTrainer } from "../../runtime/search/trial/trial.ts";
import { decodePredictions } from "../../runtime/train/predictions.ts";
import { MemoryStore } from "./memory-store.ts";
import { decisionOf, searchGround, searchText, studyFrom, testTrainer, trialOf } from "./trials.ts";

const STIA = "spots={conv1, conv2}";
// Seconds on a machine of one's own, a minute on one that others use.
vi.setConfig({ testTimeout: 240_000 });

let at = "";
let set = "";
let study: StudyRow;
let trainer: TrialTrainer;

beforeAll(async () => {
  expect(inject("buildFailure")).toBe("");
  ({ at, set } = await searchGround());
  study = studyFrom(searchText("rungs = [1]"), at, set);
  trainer = testTrainer({ keepSeconds: 0, saveEvery: 1 });
});

async function storeWith(...rows: readonly TrialRow[]): Promise<MemoryStore> {
  const store = new MemoryStore();
  await store.createStudy(study);
  await store.decide(study.id, decisionOf(1, []), rows);
  return store;
}

/** Takes the first waiting trial and trains it, with `stop` to be aborted. */
async function trainOne(
  store: MemoryStore,
  with_: { readonly trainer?: TrialTrainer; readonly stop?: AbortController } = {},
) {
  const claim = await store.claim(study.id, "test");
  if (claim === undefined) throw new Error("nothing waits");
  const stop = (with_.stop ?? new AbortController()).signal as AbortSignal & { reason: Exclude<Orders, "go on"> };
  return (with_.trainer ?? trainer).train({ study, claim, store, stop, device: 0 });
}

/** Without what a clock says. */
function timeless({ seconds: _s, overheadSeconds: _o, latency: _l, kernels: _k, ...rest }: TrialResult): object {
  return rest;
}

async function resultOf(store: MemoryStore, { id }: TrialRow): Promise<TrialResult> {
  const result = (await store.results(study.id)).get(id);
  if (result === undefined) throw new Error(`trial ${id} has no result: ${(await store.trial(id))?.error}`);
  return result;
}

describe("a trial", () => {
  it("trains to its end and says what it found, without a look at the test side", async () => {
    const trial = trialOf(study, STIA);
    const store = await storeWith(trial);
    expect(await trainOne(store)).toBe("complete");
    const result = await resultOf(store, trial);
    const points = await store.metrics(trial.id);
    const curve = points.filter(({ name }) => name === "val.uar").map(({ value }) => value);
    expect(curve).toHaveLength(3);
    expect(points.filter(({ name }) => name === "train.loss")).toHaveLength(3);
    expect(curve).toContain(result.metrics["val.uar"]);
    expect(Object.keys(result.metrics).filter((name) => name.startsWith("test"))).toEqual([]);
    expect(result.predictions).toEqual({});
    expect(result.weights).toMatch(/^[0-9a-f]{64}$/);
    expect(result.device).toBe("netc test, wasm, 1 thread");
    expect(result.seconds).toBeGreaterThan(0);
    expect(result.overheadSeconds).toBeGreaterThan(0);
    const [seen] = await store.observations(study.id);
    expect(seen?.value).toBe(result.metrics["val.uar"]);
  });

  it("tells the metric as it is, also where less is better", async () => {
    const least = studyFrom(searchText().replace("maximize val.uar", "minimize val.loss"), join(at, "least"), set);
    const trial = trialOf(least, "none");
    const store = new MemoryStore();
    await store.createStudy(least);
    await store.decide(least.id, decisionOf(1, []), [trial]);
    const claim = await store.claim(least.id, "test");
    if (claim === undefined) throw new Error("nothing waits");
    const stop = new AbortController().signal as AbortSignal & { reason: Exclude<Orders, "go on"> };
    expect(await trainer.train({ study: least, claim, store, stop, device: 0 })).toBe("complete");
    const [seen] = await store.observations(least.id);
    const result = (await store.results(least.id)).get(trial.id);
    expect(seen?.value).toBe(result?.metrics["val.loss"]);
    expect(seen?.value).toBeGreaterThan(0);
    // What costs nothing: the gradients of the first update.
    expect(result?.gradientNorm).toBeGreaterThan(0);
  });

  it("finds its kernels ready the second time, and gives the same", async () => {
    const trial = trialOf(study, STIA);
    const [first, second] = [await storeWith(trial), await storeWith(trial)];
    await trainOne(first);
    await trainOne(second);
    const result = await resultOf(second, trial);
    expect(result.kernels.misses).toBe(0);
    expect(result.kernels.hits).toBeGreaterThan(50);
    expect(timeless(result)).toEqual(timeless(await resultOf(first, trial)));
    expect(await second.metrics(trial.id)).toEqual(await first.metrics(trial.id));
  });

  it("gives the same when another process carries it on from where it was told to stop", async () => {
    const trial = trialOf(study, STIA);
    const [alone, handed] = [await storeWith(trial), await storeWith(trial)];
    await trainOne(alone);
    let rounds = 0;
    for (let end = ""; end !== "complete"; rounds++) {
      const stop = new AbortController();
      const points = handed.addMetrics.bind(handed);
      // Within the epoch that follows the first one that this attempt has ended.
      handed.addMetrics = (...given) => {
        stop.abort("pause");
        return points(...given);
      };
      end = await trainOne(handed, { stop, trainer: testTrainer({ keepSeconds: 0, saveEvery: 1 }) });
      handed.addMetrics = points;
      if (rounds > 5) throw new Error("it does not end");
    }
    expect(rounds).toBeGreaterThan(1);
    expect(timeless(await resultOf(handed, trial))).toEqual(timeless(await resultOf(alone, trial)));
    expect(await handed.metrics(trial.id)).toEqual(await alone.metrics(trial.id));
    expect((await handed.trial(trial.id))?.fruitless).toBe(0);
  });

  it("gives the same with plans that were tried on the device", async () => {
    const trial = trialOf(study, STIA);
    const [plain, tuned] = [await storeWith(trial), await storeWith(trial)];
    await trainOne(plain);
    await trainOne(tuned, { trainer: testTrainer({ keepSeconds: 0, saveEvery: 1, tune: 2 }) });
    expect(timeless(await resultOf(tuned, trial))).toEqual(timeless(await resultOf(plain, trial)));
  });

  it("gives the same when its process was killed", async () => {
    const trial = trialOf(study, STIA);
    const [alone, killed] = [await storeWith(trial), await storeWith(trial)];
    await trainOne(alone);
    const victim = testTrainer({ keepSeconds: 0, saveEvery: 1 });
    const save = killed.saveProgress.bind(killed);
    killed.saveProgress = async (...given) => {
      const held = await save(...given);
      for (const pid of victim.processes()) process.kill(pid, "SIGKILL");
      return held;
    };
    expect(await trainOne(killed, { trainer: victim })).toBe("failed");
    const after = await killed.trial(trial.id);
    expect(after?.state).toBe("waiting");
    expect(after?.error).toMatch(/^this machine, not the trial: the process that trained it was ended by SIGKILL/);
    killed.saveProgress = save;
    expect(await trainOne(killed)).toBe("complete");
    expect(timeless(await resultOf(killed, trial))).toEqual(timeless(await resultOf(alone, trial)));
  });

  it("stops at its rung, on the schedule of the full training, and goes on from there", async () => {
    const whole = trialOf(study, "none");
    const rung = trialOf(study, "none", { epochs: 1 });
    const [alone, rungs] = [await storeWith(whole), await storeWith(rung)];
    await trainOne(alone);
    expect(await trainOne(rungs)).toBe("rung");
    const [first] = await rungs.rungs(study.id);
    expect(first?.epochs).toBe(1);
    expect(first?.value).toBe((await alone.metrics(whole.id)).find(({ name }) => name === "val.uar")?.value);
    await rungs.decide(study.id, decisionOf(2, [{ kind: "promote", trial: rung.id, epochs: 3 }]), []);
    expect(await trainOne(rungs)).toBe("complete");
    expect(timeless(await resultOf(rungs, rung))).toEqual(timeless(await resultOf(alone, whole)));
    expect(await rungs.metrics(rung.id)).toEqual(await alone.metrics(whole.id));
  });

  it("reads the test side only as a final one, and keeps what it said of every clip", async () => {
    const trial = trialOf(study, "none", { phase: "final" });
    const store = await storeWith(trial);
    expect(await trainOne(store)).toBe("complete");
    const result = await resultOf(store, trial);
    expect(result.metrics["test.uar"]).toBeGreaterThanOrEqual(0);
    expect(result.latency).toBeGreaterThan(0);
    for (const [side, own] of [
      ["validation", "val"],
      ["test", "test"],
    ] as const) {
      const bytes = await store.getObject(result.predictions[side] ?? "");
      const read = decodePredictions(new TextDecoder().decode(bytes));
      if ("error" in read) throw new Error(read.error);
      expect(read.header.side).toBe(side);
      expect(read.clips).toHaveLength(16);
      expect(result.metrics[`${own}.accuracy`]).toBeGreaterThanOrEqual(0);
    }
  });

  it("begins as its neighbours do: parameters that two candidates share start alike", async () => {
    const [one, other] = ["none", STIA].map((label, number) => trialOf(study, label, { number: number + 1 }));
    if (one === undefined || other === undefined) throw new Error("no trials");
    const store = await storeWith(one, other);
    await trainOne(store);
    await trainOne(store);
    const losses = await Promise.all(
      [one, other].map(
        async ({ id }) => (await store.metrics(id)).find(({ name }) => name === "train.loss")?.value ?? 0,
      ),
    );
    // Units start as if they were not there, so the first epoch is nearly the same.
    expect(Math.abs((losses[0] ?? 0) - (losses[1] ?? 1))).toBeLessThan(0.2);
  });

  it("is dropped where the store says that another has it, or a person that it is cancelled", async () => {
    const trial = trialOf(study, STIA);
    const store = await storeWith(trial);
    store.addMetrics = () => Promise.resolve(false);
    expect(await trainOne(store)).toBe("lost");
    const again = await storeWith(trial);
    const stop = new AbortController();
    again.addMetrics = () => {
      stop.abort("cancel");
      return Promise.resolve(true);
    };
    expect(await trainOne(again, { stop })).toBe("lost");
  });

  it("fails by itself where the clips are no longer those of the study", async () => {
    const trial = trialOf(study, STIA);
    const store = await storeWith(trial);
    const file = join(set, "manifest.jsonl");
    const before = readFileSync(file, "utf8");
    writeFileSync(file, before.replace("SYNTHETIC", "CHANGED"));
    try {
      expect(await trainOne(store)).toBe("failed");
    } finally {
      writeFileSync(file, before);
    }
    expect((await store.trial(trial.id))?.error).toMatch(/^the data set `.*` has changed since the study began/);
  });
});
