/**
 * The coordinator of a study: turns decisions into trials until nothing is left to decide.
 *
 * In: a study, its store, and where trials are trained: by workers of this process, or by others that a queue tells. Out:
 * a study that is complete, or one that goes on from here another time. The coordinator knows nothing that is not in the
 * store: it may be killed at any moment and begun again anywhere, and two of one study do no harm, for one of them leads
 * and the other waits.
 */
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { type StudyKnown, scoresAmong, trialRowsOf } from "./methods/ledger.ts";
import { decideAgain, nextDecision } from "./methods/schedule.ts";
import { isPassing, outlast, pause } from "./patience.ts";
import type { TrialQueue } from "./queue/queue.ts";
import { reconcile } from "./queue/reconcile.ts";
import type { Decision, StudyRow, StudyStore, TrialRow } from "./study.ts";
import type { TrainTrial } from "./training.ts";
import { LOST_SECONDS, pollStore, runWorker, type WorkerEvent, type WorkerTiming } from "./worker.ts";

export interface CoordinatorOptions {
  readonly study: StudyRow;
  readonly store: StudyStore;
  /** Who trains: so many workers here, or whoever listens to the queue. */
  readonly trained:
    | { readonly by: "workers"; readonly train: TrainTrial; readonly count: number }
    | { readonly by: "queue"; readonly queue: TrialQueue };
  /** Trials under way at once; by default as many as there are workers, or 16 with a queue. */
  readonly open?: number | undefined;
  /** This netc's version. */
  readonly netc: string;
  /** Aborted: hand back and leave. */
  readonly signal: AbortSignal;
  /** Called after whatever may have changed the study, at most every `lookSeconds`. */
  readonly onChange?: (() => Promise<void>) | undefined;
  /** A sentence for the person who watches. */
  readonly onNote?: ((text: string) => void) | undefined;
  readonly timing?: Partial<CoordinatorTiming> | undefined;
}

export interface CoordinatorTiming {
  /** How often the store is asked while nothing happens. */
  readonly lookSeconds: number;
  /** How long the lead holds without a word. */
  readonly leadSeconds: number;
  /** Without a heartbeat for so long, a trial's worker counts as gone. */
  readonly lostSeconds: number;
  readonly patienceSeconds: number;
  readonly workers: Partial<WorkerTiming>;
}

const TIMING: CoordinatorTiming = {
  lookSeconds: 1,
  leadSeconds: 15,
  lostSeconds: LOST_SECONDS,
  patienceSeconds: 900,
  workers: {},
};
const OPEN_WITH_QUEUE = 16;
/** Trials that may fail for good, and none come to a value, before the study is left. */
const HOPELESS = 3;

/** `complete`: nothing is left; `stopped`: it goes on with the same command; `cancelled`: by a person. */
export type StudyEnd = "complete" | "stopped" | "cancelled";

/** Every trial fails, and there is no sense in going on. */
export class HopelessError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "HopelessError";
  }
}

/**
 * Runs a study to its end.
 * @throws the store's or the queue's error if it has been out of reach for too long; HopelessError if all trials fail
 */
export async function runStudy(options: CoordinatorOptions): Promise<StudyEnd> {
  const coordinator = new Coordinator(options);
  return coordinator.run();
}

class Coordinator {
  readonly #options: CoordinatorOptions;
  readonly #timing: CoordinatorTiming;
  readonly #store: StudyStore;
  readonly #who = `${hostname()}-${process.pid}-${randomBytes(4).toString("hex")}`;
  /** Ends this process's workers. */
  readonly #leaving = new AbortController();
  #workers: Promise<void> | undefined;
  #fault: unknown;
  #quietUntil = 0;
  #reclaimed = Number.NEGATIVE_INFINITY;
  #told = { waits: false, paused: false };
  /** Wakes the loop. */
  #wake: () => void = () => {};
  #woken = false;

  constructor(options: CoordinatorOptions) {
    this.#options = options;
    this.#timing = { ...TIMING, ...options.timing };
    let out = false;
    this.#store = outlast(options.store, {
      seconds: this.#timing.patienceSeconds,
      graceSeconds: 5,
      signal: options.signal,
      outage: (error) => {
        if (!out) this.#note(`the study store ${options.store.address} does not answer: ${error.message}`);
        out = true;
      },
      back: (seconds) => {
        if (out) this.#note(`the study store ${options.store.address} answers again, after ${seconds.toFixed(1)} s`);
        out = false;
        // Workers were cut off too, and get the time to say that they are alive.
        this.#quietUntil = performance.now() + 1000 * this.#timing.lostSeconds;
      },
    });
  }

  async run(): Promise<StudyEnd> {
    const { signal, study } = this.#options;
    const onSignal = (): void => {
      this.#leaving.abort();
      this.#poke();
    };
    signal.addEventListener("abort", onSignal, { once: true });
    if (signal.aborted) onSignal();
    try {
      return await this.#loop();
    } finally {
      signal.removeEventListener("abort", onSignal);
      this.#leaving.abort();
      await this.#workers;
      // Whoever comes next need not wait until the lead runs out.
      await this.#options.store.lead(study.id, this.#who, 0).catch(() => false);
    }
  }

  async #loop(): Promise<StudyEnd> {
    const { study, signal, onChange } = this.#options;
    const { lookSeconds, leadSeconds } = this.#timing;
    while (!signal.aborted) {
      if (this.#fault !== undefined) throw this.#fault;
      if (!(await this.#store.lead(study.id, this.#who, leadSeconds))) {
        if (!this.#told.waits) this.#note("another coordinator leads this study; this one waits until it has gone");
        this.#told.waits = true;
        await pause(lookSeconds, signal);
        continue;
      }
      this.#told.waits = false;
      const state = await this.#store.studyState(study.id);
      if (state === "cancelled" || state === undefined) return "cancelled";
      if (state === "complete") return "complete";
      if (state === "paused" && !this.#told.paused)
        this.#note("paused: trials under way are saved and handed back; `netc search resume` goes on");
      this.#told.paused = state === "paused";
      await this.#takeBack();
      this.#startWorkers();
      const end = state === "paused" ? "wait" : await this.#decide();
      await onChange?.();
      if (end === "complete") {
        // Its last word: whoever looks sees a complete study.
        await this.#store.setStudyState(study.id, "complete");
        await onChange?.();
        return "complete";
      }
      if (end === "wait") await this.#rest();
    }
    return "stopped";
  }

  /** Until something has happened here, or it is time to look. */
  async #rest(): Promise<void> {
    if (!this.#woken) {
      const waking = new AbortController();
      this.#wake = () => waking.abort();
      await pause(this.#timing.lookSeconds, waking.signal);
    }
    this.#woken = false;
  }

  #poke(): void {
    this.#woken = true;
    this.#wake();
  }

  async #decide(): Promise<"wait" | "decided" | "complete"> {
    const { study } = this.#options;
    const store = this.#store;
    // The trials before what was observed of them: one that ends in between has ended.
    const trials = await store.trials(study.id);
    const observations = await store.observations(study.id);
    const decisions = await store.decisions(study.id);
    const scores = await scoresOf(store, study);
    this.#lookForHope(trials);
    const under = trials.filter(({ state }) => state === "waiting" || state === "running").length;
    const known: StudyKnown = { study: study.id, trials, observations, decisions, scores };
    // With enough under way only the end is to be found out.
    const next = under >= this.#open() ? "wait" : nextDecision(study.search, known);
    if (next === "finished") return "complete";
    if (next !== "wait") await store.decide(study.id, next, trialRowsOf(study.search, known, next));
    await this.#tell();
    return next === "wait" ? "wait" : "decided";
  }

  /** Tells the queue of what waits. A queue that is out of reach is told later: nothing is lost meanwhile. */
  async #tell(): Promise<void> {
    const { trained, study } = this.#options;
    if (trained.by !== "queue") return;
    try {
      await reconcile(this.#store, trained.queue, study.id);
    } catch (error) {
      if (!isPassing(error)) throw error;
      this.#note(error.message);
    }
  }

  #open(): number {
    const { open, trained } = this.#options;
    return open ?? (trained.by === "workers" ? trained.count : OPEN_WITH_QUEUE);
  }

  /** Trials whose worker has gone wait again. */
  async #takeBack(): Promise<void> {
    const { study } = this.#options;
    const now = performance.now();
    if (now < this.#quietUntil || now - this.#reclaimed < 1000 * Math.min(5, this.#timing.lostSeconds)) return;
    if (this.#reclaimed === Number.NEGATIVE_INFINITY) await this.#takeBackFromTheDead();
    this.#reclaimed = now;
    const ids = await this.#store.reclaim(study.id, this.#timing.lostSeconds);
    if (ids.length > 0)
      this.#note(`${ids.length} trial${ids.length === 1 ? "" : "s"} lost their worker and wait again`);
  }

  /** A worker of an earlier process on this machine that is gone needs no waiting for. */
  async #takeBackFromTheDead(): Promise<void> {
    const { study } = this.#options;
    for (const { id, attempt, state, worker } of await this.#store.trials(study.id)) {
      const pid = state === "running" ? processOf(worker) : undefined;
      if (pid !== undefined && !isAlive(pid)) await this.#store.release(id, attempt);
    }
  }

  #startWorkers(): void {
    const { trained, study, netc, signal } = this.#options;
    if (trained.by !== "workers" || this.#workers !== undefined || signal.aborted) return;
    this.#workers = runWorker({
      store: this.#options.store,
      study,
      source: pollStore(),
      train: trained.train,
      netc,
      concurrency: trained.count,
      device: 0,
      signal: this.#leaving.signal,
      log: (event) => this.#worked(event),
      timing: this.#timing.workers,
    }).then(
      () => this.#poke(),
      (error: unknown) => {
        this.#fault ??= error;
        this.#poke();
      },
    );
  }

  #worked({ kind, text }: WorkerEvent): void {
    if (kind === "outage" || kind === "back" || kind === "queue") this.#note(text);
    if (kind === "taken" || kind === "ended") this.#poke();
  }

  /** Where everything fails from the beginning, going on would only spend the budget. */
  #lookForHope(trials: readonly TrialRow[]): void {
    const failed = trials.filter(({ state }) => state === "failed");
    const [last] = failed.slice(-1);
    if (
      last === undefined ||
      failed.length < HOPELESS ||
      trials.some(({ state }) => state === "complete" || state === "paused")
    )
      return;
    throw new HopelessError(
      `the first ${failed.length} trials have all failed, the last one with: ${last.error ?? "no reason"}`,
    );
  }

  #note(text: string): void {
    this.#options.onNote?.(text);
  }
}

/** The process of a worker on this machine, by the name that workers give themselves. */
function processOf(worker: string | undefined): number | undefined {
  const prefix = `${hostname()}-`;
  if (worker?.startsWith(prefix) !== true) return undefined;
  const pid = Number(worker.slice(prefix.length).split("-")[0]);
  return Number.isSafeInteger(pid) && pid > 0 ? pid : undefined;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}

/** What the super-network of a study has made of its candidates; undefined while there is nothing, or no such network. */
export async function scoresOf(store: StudyStore, { id, search }: StudyRow): Promise<StudyKnown["scores"]> {
  return search.prior === undefined ? undefined : scoresAmong(await store.results(id));
}

/** Makes every decision again; gives those that come out otherwise. */
export function replay(
  study: StudyRow,
  journal: Omit<StudyKnown, "study">,
): readonly { readonly decision: Decision; readonly made: Decision | "wait" | "finished" }[] {
  return journal.decisions.flatMap((decision) => {
    const made = decideAgain(study.search, { study: study.id, ...journal }, decision.sequence);
    return typeof made !== "string" && JSON.stringify(made) === JSON.stringify(decision) ? [] : [{ decision, made }];
  });
}
