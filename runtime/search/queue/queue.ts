/**
 * The queue: tells workers on other machines at once that there is a trial to take. BullMQ runs it, on Redis, Valkey or
 * PostgreSQL.
 *
 * In: an address; trials that wait, to be told of. Out: a source of trials for `runWorker`. The queue knows ids of trials
 * and nothing more: it is a cache of what waits in the store, may be lost whole, and is filled again by `reconcile`.
 *
 * One job is one invitation to take one trial, and bears the trial's attempt in its id. So it is never there twice, a trial
 * that waits again is a job of its own whatever became of the one before, and a job that comes twice or late does no harm:
 * the store gives the trial to one worker only. For that reason finished jobs are not kept either: one of the same id could
 * not be added again. Fruitless attempts are counted by the store, not here.
 */
import { createHash } from "node:crypto";
import type { BackendClasses, BackendFactory, ConnectionOptions, IQueueBackend, JobsOptions } from "bullmq";
import {
  assertSchemaCompatibility,
  createPostgresBackend,
  createRedisBackend,
  type Queue,
  runMigrations,
  type Worker,
  withBackend,
} from "bullmq";
import { Redis } from "ioredis";
import pg from "pg";
import { pause } from "../patience.ts";
import type { TrialRow } from "../study.ts";
import type { ServeOptions, Taker, TrialSource, WorkerEvent } from "../worker.ts";
import { parseQueueAddress, type QueueAddress, withoutSecrets } from "./address.ts";
import { QueueError, queueFault } from "./errors.ts";

/** Schema of the queue's tables in PostgreSQL: beside the store's, never among them. */
const SCHEMA = "netc_queue";
/** Trials are told of in portions, so that none of the server's transactions is long. */
const PORTION = 100;
const ANSWER_SECONDS = 10;

export interface QueueTiming {
  /** A job whose worker has not renewed its lock for so long is given to another. */
  readonly lockSeconds: number;
  /** How often that is looked for. */
  readonly stalledSeconds: number;
  /** How long an idle worker waits before it asks by itself. */
  readonly askSeconds: number;
}

const TIMING: QueueTiming = { lockSeconds: 30, stalledSeconds: 10, askSeconds: 5 };

export interface OpenQueueOptions {
  /** Make or renew the queue's tables in PostgreSQL; for who begins a study. Others find them, or an error that says so. */
  readonly prepare?: boolean;
  /** How long to go on asking a server that does not answer; 10 by default. */
  readonly patienceSeconds?: number;
  readonly environment?: Readonly<Record<string, string | undefined>>;
  readonly timing?: Partial<QueueTiming>;
}

/** Owns connections: `close` it. */
export interface TrialQueue {
  /** The address without secrets. */
  readonly address: string;
  /**
   * Tells of trials that wait; gives the number of those that the queue did not know of.
   * @throws QueueError of kind "unreachable"
   */
  fill(study: string, waiting: readonly TrialRow[]): Promise<number>;
  /** What is told of and what is being worked on. @throws QueueError of kind "unreachable" */
  counts(study: string): Promise<{ readonly waiting: number; readonly active: number }>;
  /** Trials of a study, as the queue tells of them. */
  readonly source: TrialSource;
  /** Forgets a study that is over. @throws QueueError of kind "unreachable" */
  forget(study: string): Promise<void>;
  close(): Promise<void>;
}

interface TrialJob {
  readonly trial: string;
}
type BullQueue = Queue<TrialJob, unknown, string, TrialJob, unknown, string, IQueueBackend>;
type BullWorker = Worker<TrialJob, unknown, string, IQueueBackend>;

/**
 * Connects to a queue.
 * @param address `redis://…`, `rediss://…`, `valkey://…` or `postgres://…`
 * @throws QueueError
 */
export async function openQueue(address: string, options: OpenQueueOptions = {}): Promise<TrialQueue> {
  const { prepare = false, patienceSeconds = 10, environment = process.env } = options;
  const parsed = parseQueueAddress(address, environment);
  const end = performance.now() + 1000 * patienceSeconds;
  for (let wait = 0.2; ; wait = Math.min(2 * wait, 2)) {
    try {
      await knock(parsed, prepare);
      break;
    } catch (error) {
      const fault = faultOf(parsed, error);
      // A worker may be there before who makes the tables.
      const passes = fault.kind === "unreachable" || fault.kind === "unprepared";
      if (!passes || performance.now() + 1000 * wait > end) throw fault;
      await pause(wait);
    }
  }
  return new OpenQueue(parsed, { ...TIMING, ...options.timing });
}

function faultOf(address: QueueAddress, error: unknown): QueueError {
  return queueFault(error, address.shown, (text) => withoutSecrets(text, address.secrets));
}

/** Connects once, by itself: BullMQ would go on trying without a word. */
async function knock(address: QueueAddress, prepare: boolean): Promise<void> {
  if (address.kind === "redis") {
    const redis = new Redis({ ...redisOptions(address), lazyConnect: true, retryStrategy: () => null });
    // The reason for a refused connection is in the event, not in the rejection.
    let reason: unknown;
    redis.on("error", (error) => {
      reason = error;
    });
    try {
      await redis.connect();
      await redis.ping();
    } catch (error) {
      throw reason ?? error;
    } finally {
      redis.disconnect();
    }
    return;
  }
  const client = new pg.Client({ connectionString: address.connectionString, connectionTimeoutMillis: 10_000 });
  // An error after the connection is there comes as an event; the query that runs then is rejected too.
  client.on("error", () => undefined);
  try {
    await client.connect();
    // BullMQ looks for unqualified names, as its own connections have the schema in their search path.
    if (prepare) await runMigrations(client, SCHEMA);
    else await assertSchemaCompatibility(client, SCHEMA);
  } finally {
    await client.end().catch(() => undefined);
  }
}

function redisOptions(address: QueueAddress & { readonly kind: "redis" }): {
  host: string;
  port: number;
  db: number;
  connectTimeout: number;
  username?: string;
  password?: string;
  tls?: object;
} {
  const { host, port, username, password, database, tls } = address;
  return {
    host,
    port,
    db: database,
    connectTimeout: 10_000,
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(tls ? { tls: {} } : {}),
  };
}

/** What BullMQ connects with. Who tells of trials wants an answer soon; a worker waits for as long as it takes. */
function connectionOf(address: QueueAddress, who: "teller" | "worker"): ConnectionOptions {
  if (address.kind === "redis")
    return {
      ...redisOptions(address),
      // Reconnects for ever, in at most two seconds.
      retryStrategy: (times: number) => Math.min(100 * 2 ** Math.min(times, 10), 2000),
      ...(who === "worker"
        ? { maxRetriesPerRequest: null }
        : { maxRetriesPerRequest: 2, commandTimeout: 1000 * ANSWER_SECONDS }),
    };
  return {
    connectionString: address.connectionString,
    schema: SCHEMA,
    max: 3,
    connectionTimeoutMillis: 10_000,
    query_timeout: 1000 * ANSWER_SECONDS,
    keepAlive: true,
  };
}

class OpenQueue implements TrialQueue {
  readonly address: string;
  readonly source: TrialSource;
  readonly #address: QueueAddress;
  readonly #timing: QueueTiming;
  readonly #bull: BackendClasses<IQueueBackend, ConnectionOptions>;
  readonly #queues = new Map<string, BullQueue>();

  constructor(address: QueueAddress, timing: QueueTiming) {
    this.#address = address;
    this.#timing = timing;
    // The factories differ in what they connect with, and `connectionOf` gives each what it wants.
    const factory: unknown = address.kind === "redis" ? createRedisBackend : createPostgresBackend;
    this.#bull = withBackend(factory as BackendFactory);
    this.address = address.shown;
    this.source = { serve: (taker, options) => this.#serve(taker, options) };
  }

  async fill(study: string, waiting: readonly TrialRow[]): Promise<number> {
    if (waiting.length === 0) return 0;
    const known = new Set(
      await this.#ask(study, (queue) => queue.getRanges(["wait", "prioritized", "delayed", "active"], 0, -1)),
    );
    const missing = waiting.filter((row) => !known.has(jobIdOf(row)));
    for (let first = 0; first < missing.length; first += PORTION)
      await this.#ask(study, (queue) => queue.addBulk(missing.slice(first, first + PORTION).map(jobOf)));
    return missing.length;
  }

  async counts(study: string): Promise<{ readonly waiting: number; readonly active: number }> {
    const counts = await this.#ask(study, (queue) => queue.getJobCounts("wait", "prioritized", "delayed", "active"));
    const { active = 0, ...others } = counts;
    return { active, waiting: Object.values(others).reduce((sum, count) => sum + count, 0) };
  }

  async forget(study: string): Promise<void> {
    await this.#ask(study, (queue) => queue.obliterate({ force: true }));
  }

  async close(): Promise<void> {
    const queues = [...this.#queues.values()];
    this.#queues.clear();
    await Promise.all(queues.map((queue) => closed(queue)));
  }

  /**
   * Asks the study's queue, within a time. On PostgreSQL a queue that failed is opened anew, for BullMQ keeps a start that
   * failed for ever; on Redis it connects again by itself.
   */
  async #ask<T>(study: string, ask: (queue: BullQueue) => Promise<T>): Promise<T> {
    let queue = this.#queues.get(study);
    if (queue === undefined) {
      queue = new this.#bull.Queue<TrialJob, unknown>(queueNameOf(study), {
        connection: connectionOf(this.#address, "teller"),
        skipMetasUpdate: true,
      });
      // Without a handler an error of a connection would end the process; the question that meets it is rejected too.
      queue.on("error", () => undefined);
      this.#queues.set(study, queue);
    }
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      const tooLate = (): void => reject(Object.assign(new Error("no answer"), { code: "ETIMEDOUT" }));
      timer = setTimeout(tooLate, 1000 * ANSWER_SECONDS);
    });
    try {
      return await Promise.race([ask(queue), late]);
    } catch (error) {
      if (this.#address.kind === "postgres") {
        if (this.#queues.get(study) === queue) this.#queues.delete(study);
        void closed(queue);
      }
      throw faultOf(this.#address, error);
    } finally {
      clearTimeout(timer);
    }
  }

  async #serve(taker: Taker, options: ServeOptions): Promise<void> {
    const { signal, log } = options;
    let down = false;
    const complain = (error: unknown): void => {
      // While the server is away every attempt to reach it is an error; a person wants to read of it once.
      if (down || signal.aborted || isBookkeeping(error)) return;
      down = true;
      log({ kind: "outage", text: faultOf(this.#address, error).message });
    };
    const recovered = (): void => {
      if (down) log({ kind: "back", text: `the queue ${this.address} answers again` });
      down = false;
    };
    while (!signal.aborted) {
      const worker = this.#worker(taker, options, complain, recovered);
      try {
        await Promise.race([worker.bull.waitUntilReady(), aborted(signal)]);
        if (!signal.aborted) {
          recovered();
          // Only now: where its start has failed, BullMQ's loop asks again at once, for ever, and lets nothing else happen.
          worker.bull.run().catch(complain);
        }
        await aborted(signal);
      } catch (error) {
        complain(error);
        await pause(2, signal);
      }
      // Everybody has been told to save and hand back, and has a time of their own for it.
      await Promise.all(worker.taking);
      await closed(worker.bull);
    }
  }

  #worker(
    taker: Taker,
    { study, worker, concurrency, signal, log }: ServeOptions,
    complain: (error: unknown) => void,
    recovered: () => void,
  ): { readonly bull: BullWorker; readonly taking: Set<Promise<void>> } {
    const { lockSeconds, stalledSeconds, askSeconds } = this.#timing;
    const taking = new Set<Promise<void>>();
    /** Trials by the jobs that told of them. */
    const told = new Map<string, string>();
    const work = async (job: { readonly id?: string | undefined; readonly data: TrialJob }): Promise<void> => {
      recovered();
      const id = job.id ?? "";
      told.set(id, job.data.trial);
      try {
        const taken = await taker.take(job.data.trial);
        if (taken.kind === "waiting") await this.#tellAgain(study, taken.trial, signal, log);
      } finally {
        told.delete(id);
      }
    };
    const bull = new this.#bull.Worker<TrialJob, unknown>(
      queueNameOf(study),
      (job) => {
        const done: Promise<void> = work(job).finally(() => taking.delete(done));
        taking.add(done);
        return done;
      },
      {
        connection: connectionOf(this.#address, "worker"),
        name: worker,
        autorun: false,
        concurrency,
        lockDuration: 1000 * lockSeconds,
        stalledInterval: 1000 * stalledSeconds,
        drainDelay: askSeconds,
        runRetryDelay: 2000,
        // A trial may lose its worker as often as it likes: the store counts those attempts that brought nothing.
        maxStalledCount: 1_000_000,
        removeOnComplete: { count: 0 },
        removeOnFail: { count: 0 },
      },
    );
    bull.on("error", complain);
    // Another worker may be told of the trial now; whether it is still ours, only the store knows.
    bull.on("lockRenewalFailed", (jobs: readonly string[]) => {
      for (const job of jobs) {
        const trial = told.get(job);
        if (trial !== undefined) taker.check(trial);
      }
    });
    return { bull, taking };
  }

  /** A trial that was handed back is told of at once; if that fails, `reconcile` does it later. */
  async #tellAgain(
    study: string,
    trial: TrialRow,
    signal: AbortSignal,
    log: (event: WorkerEvent) => void,
  ): Promise<void> {
    try {
      await this.#ask(study, (queue) => queue.addBulk([jobOf(trial)]));
    } catch (error) {
      if (!signal.aborted)
        log({
          kind: "queue",
          trial: trial.number,
          text: `trial ${trial.number}: ${faultOf(this.#address, error).message}`,
        });
    }
  }
}

/** That a job was given to another meanwhile, or lost: of no concern, for the store knows who has the trial. */
function isBookkeeping(error: unknown): boolean {
  return (
    error instanceof Error &&
    /^Missing (lock|key)|^Lock mismatch|renew lock|is not in the active state/.test(error.message)
  );
}

/** One queue a study, of a name without a colon, and short, for PostgreSQL shows it beside the worker's. */
function queueNameOf(study: string): string {
  const hash = /^[0-9a-f]{24,}$/.test(study) ? study : createHash("sha256").update(study).digest("hex");
  return `netc-${hash.slice(0, 24)}`;
}

/** Neither a colon, nor a number. */
export function jobIdOf(row: Pick<TrialRow, "id" | "epochs" | "attempt">): string {
  return `t${row.id.replaceAll(":", "_")}-${row.epochs}-${row.attempt}`;
}

function jobOf(row: TrialRow): { readonly name: string; readonly data: TrialJob; readonly opts: JobsOptions } {
  const opts: JobsOptions = {
    jobId: jobIdOf(row),
    // A hiccup between worker and queue; not the trial's own failures.
    attempts: 3,
    backoff: { type: "exponential", delay: 5000 },
    // Failed by its own fault: a device may come round in some seconds.
    ...(row.fruitless > 0 ? { delay: 1000 * Math.min(5 * 2 ** (row.fruitless - 1), 60) } : {}),
    // One that was begun goes first: its rung or its study waits for it.
    ...(row.attempt > 0 && row.fruitless === 0 ? { lifo: true } : {}),
  };
  return { name: "trial", data: { trial: row.id }, opts };
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/** Closes, by force if the server does not answer. Never rejects, and takes ten seconds at most. */
async function closed(owner: BullQueue | BullWorker): Promise<void> {
  const done = owner.close().catch(() => undefined);
  const over = new AbortController();
  await Promise.race([done.then(() => over.abort()), pause(5, over.signal)]);
  if (over.signal.aborted) return;
  await Promise.race([owner.disconnect().catch(() => undefined), pause(5)]);
}
