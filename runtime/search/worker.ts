/**
 * The worker: takes trials of a study, minds them while they are trained, and sees to it that none is trained in vain.
 *
 * In: the store, the study, a source that says when there is something to take (the store itself, asked now and then, or
 * a queue), and what trains a trial. Out: nothing but what is in the store afterwards. The worker knows nothing of queues
 * and nothing of networks.
 *
 * Who may write for a trial is decided by the store alone: taking a trial raises its attempt, and whoever holds an older
 * one changes nothing any more. So a worker may be slow, cut off, stopped, or killed at any moment: it can lose its own
 * work since the last checkpoint, and nothing else. While a trial is trained the worker says every few seconds that it is
 * alive, and hears in return whether to go on.
 */
import { setMaxListeners } from "node:events";
import { hostname } from "node:os";
import { isPassing, outlast, type Patience, pause, persist } from "./patience.ts";
import { StoreError } from "./store/error.ts";
import type { Claim, Orders, StudyRow, StudyStore, TrialRow } from "./study.ts";
import type { TrainTrial, TrialEnd } from "./training.ts";

/** Without a heartbeat for so many seconds, a trial's worker counts as gone. */
export const LOST_SECONDS = 30;
const HEARTBEAT_SECONDS = 5;
const WATCH_SECONDS = 10;
const PATIENCE_SECONDS = 900;
const GRACE_SECONDS = 30;

/** What became of a taking. `waiting`: the trial is to be trained on by somebody, at once or after a rest. */
export type Taken =
  | { readonly kind: "nothing" }
  | { readonly kind: "ended"; readonly end: TrialEnd }
  | { readonly kind: "waiting"; readonly trial: TrialRow };

/** The worker, as a source of trials sees it. */
export interface Taker {
  /** Takes this trial, or the first that waits, and resolves when it is no longer this worker's. Never rejects. */
  readonly take: (trial?: string) => Promise<Taken>;
  /** Asks the store at once whether a trial is still this worker's: for whoever has a reason to doubt it. */
  readonly check: (trial: string) => void;
}

export interface ServeOptions {
  readonly study: string;
  /** Name of the worker. */
  readonly worker: string;
  /** Trials to be taken at once, at most. */
  readonly concurrency: number;
  /** Aborted: hand out no more. */
  readonly signal: AbortSignal;
  readonly log: (event: WorkerEvent) => void;
}

/** Where trials come from. */
export interface TrialSource {
  /** Has trials taken until the signal is aborted; resolves when the last of them has ended. */
  serve(taker: Taker, options: ServeOptions): Promise<void>;
}

/** Something that a person may want to know. The text is a whole sentence without a full stop, and never has a secret in it. */
export interface WorkerEvent {
  readonly kind: "taken" | "ended" | "ordered" | "outage" | "back" | "queue" | "leaving";
  readonly text: string;
  /** Number of the trial that it is about. */
  readonly trial?: number | undefined;
}

export interface WorkerOptions {
  readonly store: StudyStore;
  readonly study: StudyRow;
  readonly source: TrialSource;
  readonly train: TrainTrial;
  /** This netc's version. */
  readonly netc: string;
  /** Trials at once; 1 by default. */
  readonly concurrency?: number | undefined;
  /** Which of the machine's devices, from 0. */
  readonly device: number;
  /** Aborted (by SIGTERM, say): save, hand back, leave. */
  readonly signal: AbortSignal;
  readonly log?: ((event: WorkerEvent) => void) | undefined;
  /** Unique among all workers that ever were; by default of the host's name, the process and a random part. */
  readonly name?: string | undefined;
  /** Why this device cannot train the study's trials, if it cannot: asked once, before anything is taken. */
  readonly refuses?: ((study: StudyRow, device: number) => Promise<string | undefined>) | undefined;
  /** Leave when nothing has waited for so many seconds; undefined: stay until the study is over. */
  readonly drainSeconds?: number | undefined;
  readonly timing?: Partial<WorkerTiming> | undefined;
}

export interface WorkerTiming {
  readonly heartbeatSeconds: number;
  readonly lostSeconds: number;
  /** How often the worker looks whether the study is over. */
  readonly watchSeconds: number;
  /** How long the store may be out of reach before the worker gives up, and how long when it is leaving anyway. */
  readonly patienceSeconds: number;
  readonly graceSeconds: number;
}

export interface WorkerSummary {
  /** `stopped` by its signal; `finished`: the study is complete or cancelled; `drained`: nothing waited any more. */
  readonly why: "stopped" | "finished" | "drained";
  readonly ends: Readonly<Record<TrialEnd, number>>;
}

/** A worker that may not work for a study. */
export class WorkerError extends Error {
  readonly kind = "refused";
  /** What to do, one sentence an entry. */
  readonly help: readonly string[];
  constructor(message: string, help: readonly string[]) {
    super(message);
    this.name = "WorkerError";
    this.help = help;
  }
}

async function admit(options: WorkerOptions): Promise<void> {
  const { study, netc, device, refuses } = options;
  if (study.netc !== netc)
    throw new WorkerError(
      `the study \`${study.name}\` was begun with netc ${study.netc}, and this worker is netc ${netc}: ` +
        "trials of one study must be trained by one version, or their differences may be the versions'",
      [
        `install the study's version here: npm install netc@${study.netc}`,
        `or go on under this version as a study of its own: netc search run --fork with netc ${netc}`,
      ],
    );
  const reason = await refuses?.(study, device);
  if (reason !== undefined)
    throw new WorkerError(`device ${device} cannot train trials of the study \`${study.name}\`: ${reason}`, [
      "choose another with --device, or start the worker on another machine",
      "or bring the largest candidate down: a `require memory(…)` in the search, or a smaller batch in its recipe",
    ]);
}

/**
 * Works for a study until it is over, or the signal is aborted.
 * @throws WorkerError if this worker may not; the store's error if it has been out of reach for too long, or is full or
 * damaged. A trial under way is handed back before, if the store lets it.
 */
export async function runWorker(options: WorkerOptions): Promise<WorkerSummary> {
  await admit(options);
  const { store, study, source, signal, concurrency = 1, drainSeconds } = options;
  const log = options.log ?? (() => undefined);
  const timing: WorkerTiming = {
    heartbeatSeconds: HEARTBEAT_SECONDS,
    lostSeconds: LOST_SECONDS,
    watchSeconds: WATCH_SECONDS,
    patienceSeconds: PATIENCE_SECONDS,
    graceSeconds: GRACE_SECONDS,
    ...options.timing,
  };
  const worker = options.name ?? `${hostname()}-${process.pid}-${Math.random().toString(36).slice(2, 8)}`;

  const ends: Record<TrialEnd, number> = { complete: 0, rung: 0, "handed back": 0, failed: 0, lost: 0 };
  const leaving = new AbortController();
  // One listener a trial, and as many trials as one likes.
  setMaxListeners(0, leaving.signal);
  let why: WorkerSummary["why"] = "stopped";
  let fault: unknown;
  const leave = (reason: WorkerSummary["why"], text: string): void => {
    if (leaving.signal.aborted) return;
    why = reason;
    log({ kind: "leaving", text });
    leaving.abort();
  };
  const onSignal = (): void => leave("stopped", "told to stop: trials under way are saved and handed back");
  if (signal.aborted) onSignal();
  else signal.addEventListener("abort", onSignal, { once: true });

  let out = false;
  const patience: Patience = {
    seconds: timing.patienceSeconds,
    graceSeconds: timing.graceSeconds,
    signal: leaving.signal,
    outage: (error) => {
      if (!out) log({ kind: "outage", text: `the study store ${store.address} does not answer: ${error.message}` });
      out = true;
    },
    back: (seconds) => {
      if (out)
        log({ kind: "back", text: `the study store ${store.address} answers again, after ${seconds.toFixed(1)} s` });
      out = false;
    },
  };
  const patient = outlast(store, patience);

  /** Trials that are this worker's, from the answer to its claim on. */
  const held = new Set<string>();
  /** Of those that are being trained, what asks about them at once. */
  const checks = new Map<string, () => void>();
  let idleSince = performance.now();

  /**
   * Takes a trial. An answer that was lost on its way may have been a claim: then the trial is this worker's without its
   * knowing, so before it asks again it gives back what bears its name and is not held. Claims go one after the other, so
   * that none is taken for such a lost one.
   */
  let claiming: Promise<unknown> = Promise.resolve();
  let asking = 0;
  function claimOf(trial: string | undefined): Promise<Claim | undefined> {
    asking += 1;
    const claim = claiming.then(() => claimInTurn(trial)).finally(() => (asking -= 1));
    claiming = claim.catch(() => undefined);
    return claim;
  }
  async function claimInTurn(trial: string | undefined): Promise<Claim | undefined> {
    let asked = false;
    const ask = async (): Promise<Claim | undefined> => {
      if (asked) await giveBackUnknown();
      if (leaving.signal.aborted || (trial !== undefined && held.has(trial))) return undefined;
      asked = true;
      const claim = await store.claim(study.id, worker, trial);
      if (claim !== undefined || trial === undefined) return claim;
      // The queue may have found out before the coordinator that a worker is gone.
      const row = await store.trial(trial);
      if (row?.state !== "running") return undefined;
      const freed = await store.reclaim(study.id, timing.lostSeconds);
      return freed.includes(trial) ? store.claim(study.id, worker, trial) : undefined;
    };
    const claim = await persist(ask, { ...patience, graceSeconds: 0 });
    if (claim !== undefined) held.add(claim.trial.id);
    return claim;
  }
  async function giveBackUnknown(): Promise<void> {
    for (const row of await store.trials(study.id))
      if (row.state === "running" && row.worker === worker && !held.has(row.id))
        await store.release(row.id, row.attempt);
  }

  async function train(claim: Claim): Promise<TrialEnd> {
    const { trial, attempt } = claim;
    const order = new AbortController();
    const give = (orders: Exclude<Orders, "go on">): void => {
      if (order.signal.aborted) return;
      if (!leaving.signal.aborted)
        log({ kind: "ordered", trial: trial.number, text: `trial ${trial.number}: ${ORDERS[orders]}` });
      order.abort(orders);
    };
    const onLeaving = (): void => give("pause");
    leaving.signal.addEventListener("abort", onLeaving, { once: true });
    if (leaving.signal.aborted) onLeaving();

    let over = false;
    let doubt = new AbortController();
    checks.set(trial.id, () => doubt.abort());
    const beating = (async (): Promise<void> => {
      let failed: number | undefined;
      for (;;) {
        await pause(timing.heartbeatSeconds, doubt.signal);
        if (over) return;
        if (doubt.signal.aborted) doubt = new AbortController();
        try {
          const orders = await store.heartbeat(trial.id, attempt);
          if (failed !== undefined) patience.back?.((performance.now() - failed) / 1000);
          failed = undefined;
          if (orders !== "go on") give(orders);
        } catch (error) {
          // The training goes on: if another has taken the trial meanwhile, the store will say so when it is back.
          if (error instanceof Error) patience.outage?.(error);
          failed ??= performance.now();
        }
      }
    })();
    try {
      return await options.train({ study, claim, store: patient, stop: order.signal, device: options.device });
    } finally {
      over = true;
      doubt.abort();
      leaving.signal.removeEventListener("abort", onLeaving);
      await beating;
      checks.delete(trial.id);
    }
  }

  /** Trains, and settles with the store what the training did not. */
  async function mind(claim: Claim): Promise<TrialEnd> {
    const { trial, attempt } = claim;
    try {
      const end = await train(claim);
      // Usually done by the training itself; then this changes nothing.
      if (end === "handed back") await patient.release(trial.id, attempt);
      return end;
    } catch (error) {
      // The store's fault, not the trial's.
      if (error instanceof StoreError) {
        await patient.release(trial.id, attempt).catch(() => false);
        throw error;
      }
      const text = error instanceof Error ? error.message : String(error);
      return (await patient.fail(trial.id, attempt, text)) === "lost" ? "lost" : "failed";
    }
  }

  async function take(trial?: string): Promise<Taken> {
    try {
      const claim = await claimOf(trial);
      if (claim === undefined) return { kind: "nothing" };
      const { id, number } = claim.trial;
      log({ kind: "taken", trial: number, text: `trial ${number} taken, attempt ${claim.attempt}` });
      const end = await mind(claim).finally(() => {
        held.delete(id);
        idleSince = performance.now();
      });
      ends[end] += 1;
      log({ kind: "ended", trial: number, text: `trial ${number}: ${end}` });
      if (end !== "handed back" && end !== "failed") return { kind: "ended", end };
      const row = await patient.trial(id);
      return row?.state === "waiting" && row.attempt === claim.attempt
        ? { kind: "waiting", trial: row }
        : { kind: "ended", end };
    } catch (error) {
      // Out of reach while leaving: the trial's heartbeat ends, and it will be taken again.
      if (leaving.signal.aborted && isPassing(error)) return { kind: "nothing" };
      fault ??= error;
      leave("stopped", `leaving: ${error instanceof Error ? error.message : String(error)}`);
      return { kind: "nothing" };
    }
  }

  /** Looks now and then whether the study is over, or nothing is left to do. */
  async function watch(): Promise<void> {
    while (!leaving.signal.aborted) {
      const period = drainSeconds === undefined ? timing.watchSeconds : Math.min(timing.watchSeconds, drainSeconds);
      await pause(period, leaving.signal);
      if (leaving.signal.aborted || held.size > 0) continue;
      try {
        const state = await store.studyState(study.id);
        if (state === undefined || state === "complete" || state === "cancelled")
          leave("finished", `the study \`${study.name}\` is ${state ?? "gone from the store"}`);
        else if (drainSeconds !== undefined && performance.now() - idleSince >= 1000 * drainSeconds) {
          const waiting = (await store.trials(study.id)).some((row) => row.state === "waiting");
          if ((!waiting || state === "paused") && held.size === 0 && asking === 0)
            leave("drained", "nothing waits to be trained");
        }
      } catch (error) {
        // Whoever takes the next trial meets the same error, and has the patience for it.
        if (!isPassing(error)) throw error;
      }
    }
  }

  const taker: Taker = { take, check: (trial) => checks.get(trial)?.() };
  try {
    const watching = watch().catch((error: unknown) => {
      fault ??= error;
      leave("stopped", `leaving: ${error instanceof Error ? error.message : String(error)}`);
    });
    await source
      .serve(taker, { study: study.id, worker, concurrency, signal: leaving.signal, log })
      .finally(() => leaving.abort());
    await watching;
  } finally {
    signal.removeEventListener("abort", onSignal);
  }
  if (fault !== undefined) throw fault;
  return { why, ends };
}

const ORDERS: Readonly<Record<Exclude<Orders, "go on">, string>> = {
  pause: "to be saved and handed back",
  cancel: "cancelled",
  lost: "another worker has it, so it is dropped here",
};

/** Asks the store itself for trials, every so many seconds while there is none. */
export function pollStore(seconds = 0.25): TrialSource {
  return {
    async serve(taker, { concurrency, signal }) {
      const one = async (): Promise<void> => {
        while (!signal.aborted) {
          const taken = await taker.take();
          // A trial that has just failed is left for a moment, so that a device has time to come round.
          if (taken.kind !== "ended") await pause(seconds, signal);
        }
      };
      await Promise.all(Array.from({ length: concurrency }, one));
    },
  };
}
