/**
 * A training that takes time and nothing else: what it gives is a pure function of its seed and its length, so that a
 * trial's figures can be compared with those that it would have had alone, however often it was interrupted.
 */
import { createHash } from "node:crypto";

export const STEPS = 5;
export const FULL_EPOCHS = 6;
export const RUNG_EPOCHS = 2;

const hash = (text) => createHash("sha256").update(text).digest("hex");
const begin = (seed) => ({ seed, epoch: 0, step: 0, state: hash(`begin ${seed}`) });

function advance({ seed, epoch, step, state }) {
  const next = hash(`${state} ${seed} ${epoch} ${step}`);
  return step + 1 < STEPS
    ? { seed, epoch, step: step + 1, state: next }
    : { seed, epoch: epoch + 1, step: 0, state: next };
}

const valueOf = ({ state }) => Number.parseInt(state.slice(0, 12), 16) / 2 ** 48;

/** The figures of an uninterrupted training. */
export function aloneOf(seed, epochs) {
  const curve = [];
  let at = begin(seed);
  while (at.epoch < epochs) {
    at = advance(at);
    if (at.step === 0) curve.push({ name: "val.uar", epoch: at.epoch, value: valueOf(at) });
  }
  return { value: valueOf(at), weights: at.state, curve };
}

/** Sleeps between steps, saves after every epoch, and hands back in the middle of one. */
export function trainingOf({ secondsOf }) {
  return async ({ claim, store, stop }) => {
    const begun = performance.now();
    const { trial, attempt } = claim;
    const bytes = claim.checkpoint === undefined ? undefined : await store.getObject(claim.checkpoint);
    let at = bytes === undefined ? begin(trial.seed) : JSON.parse(Buffer.from(bytes).toString());
    if (at.seed !== trial.seed) throw new Error(`trial ${trial.number} was given another's checkpoint`);
    const save = async () => store.putObject(Buffer.from(JSON.stringify(at)));
    while (at.epoch < trial.epochs) {
      await sleepUnless(stop, secondsOf(trial) / STEPS / FULL_EPOCHS);
      if (stop.aborted) {
        if (stop.reason !== "pause") return "lost";
        const saved = await store.saveProgress(trial.id, attempt, at.epoch, await save());
        return saved && (await store.release(trial.id, attempt)) ? "handed back" : "lost";
      }
      at = advance(at);
      if (at.step > 0) continue;
      const point = { name: "val.uar", epoch: at.epoch, value: valueOf(at) };
      if (!(await store.addMetrics(trial.id, attempt, [point]))) return "lost";
      if (at.epoch === trial.epochs) break;
      if (!(await store.saveProgress(trial.id, attempt, at.epoch, await save()))) return "lost";
    }
    const value = valueOf(at);
    if (trial.epochs < FULL_EPOCHS) {
      const rung = { trial: trial.id, epochs: at.epoch, value, checkpoint: await save() };
      return (await store.endRung(rung, attempt)) ? "rung" : "lost";
    }
    const result = {
      metrics: { "val.uar": value },
      seconds: (performance.now() - begun) / 1000,
      overheadSeconds: 0,
      latency: undefined,
      weights: at.state,
      predictions: {},
      kernels: { hits: 0, misses: 0 },
      device: "none: a sleep",
    };
    return (await store.commit(trial.id, attempt, value, result)) ? "complete" : "lost";
  };
}

function sleepUnless(signal, seconds) {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, 1000 * seconds);
    signal.addEventListener("abort", done);
  });
}
