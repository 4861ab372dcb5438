/**
 * Threads that read clips, and the queue of work for them.
 *
 * In: loaders (clips, and what is wanted of them) and their jobs. Out: entry headers and filled buffers, in whatever
 * order they get done. Training and evaluation share one pool, so that there are never more threads than asked for.
 * Buffers are handed to a thread and back without a copy. There are as many threads as cores, for preparing a set keeps
 * them all busy; while a network computes, a batch costs them a few milliseconds, and no more batches are assembled than
 * are asked for. A lower priority for them was tried: on a busy machine the device then waits.
 */
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { readClip } from "../clip.ts";
import { findNodeAv } from "../nodeav.ts";
import { resizeWhole } from "../sample.ts";
import { type DataError, notDecodable, tooShort } from "../source.ts";
import type { Decoders } from "../video.ts";
import { type CacheOptions, defaultCache, type EntryHeader } from "./cache.ts";
import { type FileIndex, openFileIndex } from "./files.ts";
import type { PortSpec, RowPlan } from "./rows.ts";
import { readStrip, type Strip, type StripSpec } from "./strip.ts";
import {
  type ClipSource,
  type FromThread,
  type Supplied,
  type ThreadData,
  type ToThread,
  threadProgram,
} from "./worker.ts";

export interface PoolOptions {
  /** Threads; by default as many as there are cores, at most eight. */
  readonly threads?: number;
  /** Where decoded frames are kept; false: nowhere. */
  readonly cache?: CacheOptions | false;
  /** Bytes of decoded windows that stay in memory, over all threads. */
  readonly memory?: number;
  readonly decoders?: Decoders;
  /** Told once that the cache had to be turned off, and why. */
  readonly onWarning?: (message: string) => void;
}

/** Thrown where a clip that could be read when the loader was opened no longer can; its message names the clip. */
export class ClipError extends Error {
  override readonly name: string = "ClipError";
  readonly problem: DataError;
  constructor(problem: DataError) {
    super(`\`${problem.path}\`: ${problem.message}`);
    this.problem = problem;
  }
}

interface Thread {
  readonly worker: Worker;
  jobs: number;
}

interface Waiting {
  readonly thread: Thread;
  readonly resolve: (message: FromThread) => void;
  readonly reject: (error: Error) => void;
}

/** The jobs of one set of clips. */
export interface PoolLoader {
  /** Decodes the clip and computes its flow, unless the cache has it. */
  readonly prepare: (clip: number) => Promise<EntryHeader | DataError>;
  /** Fills `buffers`, one for each input, with a row for each plan. Throws a `ClipError`. */
  readonly fill: (
    rows: readonly (RowPlan | undefined)[],
    buffers: readonly ArrayBuffer[],
  ) => Promise<readonly ArrayBuffer[]>;
  readonly close: () => void;
}

/** Opens the threads and waits until they are ready. */
export async function openPool(options: PoolOptions = {}): Promise<DataPool> {
  const count = options.threads ?? Math.min(8, availableParallelism());
  const cache = options.cache === false ? undefined : (options.cache ?? defaultCache());
  const data: ThreadData = {
    module: options.decoders?.nodeAv === false ? undefined : findNodeAv(),
    cache,
    memory: Math.floor((options.memory ?? 256 * 2 ** 20) / count),
  };
  const threads = Array.from({ length: count }, () => {
    // Flags of the parent (loaders, `--input-type`) are meant for its own modules.
    const worker = new Worker(threadProgram, { eval: true, execArgv: [], workerData: data, name: "netc data" });
    return { worker, jobs: 0 };
  });
  const pool = new DataPool(threads, openFileIndex(cache?.folder), options);
  await pool.ready;
  return pool;
}

/** Owns the threads. `close` ends them. */
export class DataPool {
  readonly threads: number;
  readonly files: FileIndex;
  readonly ready: Promise<void>;
  /** What decodes videos here. */
  decoder: "node-av" | "ffmpeg" = "ffmpeg";
  readonly #threads: readonly Thread[];
  readonly #options: PoolOptions;
  readonly #waiting = new Map<number, Waiting>();
  #jobs = 0;
  #loaders = 0;
  #warned = false;
  #lost: Error | undefined;
  #closed = false;

  constructor(threads: readonly Thread[], files: FileIndex, options: PoolOptions) {
    this.#threads = threads;
    this.#options = options;
    this.threads = threads.length;
    this.files = files;
    this.ready = Promise.all(threads.map((thread) => this.#start(thread))).then(() => {
      for (const { worker } of threads) worker.unref();
    });
  }

  #start(thread: Thread): Promise<void> {
    return new Promise((resolve, reject) => {
      const lose = (error: Error): void => {
        this.#lost ??= error;
        reject(error);
        for (const { reject: give } of this.#waiting.values()) give(error);
        this.#waiting.clear();
      };
      thread.worker.on("message", (message: FromThread) => {
        switch (message.kind) {
          case "ready":
            if (message.decodes) this.decoder = "node-av";
            resolve();
            return;
          case "warning":
            if (!this.#warned) this.#options.onWarning?.(message.message);
            this.#warned = true;
            return;
          default: {
            const waiting = this.#waiting.get(message.job);
            this.#waiting.delete(message.job);
            if (--thread.jobs === 0) thread.worker.unref();
            waiting?.resolve(message);
          }
        }
      });
      thread.worker.on("error", (error) => lose(error instanceof Error ? error : new Error(String(error))));
      thread.worker.on("exit", (code) => {
        if (!this.#closed) lose(new Error(`internal: a data thread ended with code ${code}`));
      });
    });
  }

  /** Gives a job to the thread that has the least to do. */
  #ask(make: (job: number) => ToThread, move: readonly ArrayBuffer[]): Promise<FromThread> {
    if (this.#closed) return Promise.reject(new Error("internal: the pool is closed"));
    if (this.#lost !== undefined) return Promise.reject(this.#lost);
    const thread = this.#threads.reduce((a, b) => (b.jobs < a.jobs ? b : a));
    const job = this.#jobs++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(job, { thread, resolve, reject });
      if (thread.jobs++ === 0) thread.worker.ref();
      thread.worker.postMessage(make(job), move);
    });
  }

  /** Announces clips to the threads. */
  open(spec: StripSpec, ports: readonly PortSpec[], clips: readonly ClipSource[]): PoolLoader {
    const loader = this.#loaders++;
    const tell = (message: ToThread): void => {
      for (const { worker } of this.#threads) worker.postMessage(message);
    };
    tell({ kind: "open", loader, spec, ports, clips });
    const none: Supplied = new Map();
    const supply = async (wanted: readonly number[]): Promise<Supplied | DataError> => {
      const supplied = new Map<number, Strip>();
      for (const clip of wanted) {
        const strip = await readElsewhere(clips[clip]?.path ?? "", spec, this.#options.decoders);
        if ("kind" in strip) return strip;
        supplied.set(clip, strip);
      }
      return supplied;
    };
    const problem = (message: FromThread): DataError => {
      if (message.kind === "short") return tooShort(clips[message.clip]?.path ?? "", message.have, message.need);
      if (message.kind === "corrupt") return notDecodable(clips[message.clip]?.path ?? "", message.detail);
      if (message.kind === "failed")
        throw new Error(`internal: \`${clips[message.clip]?.path ?? ""}\`: ${message.detail}`);
      throw new Error(`internal: a data thread answered ${message.kind}`);
    };
    return {
      prepare: async (clip) => {
        let supplied = none;
        for (;;) {
          const given = supplied;
          const message = await this.#ask((job) => ({ kind: "prepare", job, loader, clip, supplied: given }), []);
          if (message.kind === "prepared") return message.header;
          if (message.kind !== "needs") return problem(message);
          const read = await supply(message.clips);
          if ("kind" in read) return read;
          supplied = read;
        }
      },
      fill: async (rows, buffers) => {
        let supplied = none;
        let own = buffers;
        for (;;) {
          const [given, moved] = [supplied, own];
          const message = await this.#ask(
            (job) => ({ kind: "fill", job, loader, rows, buffers: moved, supplied: given }),
            moved,
          );
          if (message.kind === "filled") return message.buffers;
          if (message.kind !== "needs") throw new ClipError(problem(message));
          const read = await supply(message.clips);
          if ("kind" in read) throw new ClipError(read);
          supplied = read;
          own = message.buffers;
        }
      },
      close: () => tell({ kind: "close", loader }),
    };
  }

  /** Lets the threads finish what they are doing and ends them. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    // A thread is left to end by itself: stopped in the middle of a native call, node-av takes the process down.
    await Promise.all(
      this.#threads.map(
        ({ worker }) =>
          new Promise<void>((resolve) => {
            worker.once("exit", () => resolve());
            worker.ref();
            worker.postMessage({ kind: "end" } satisfies ToThread);
          }),
      ),
    );
  }
}

/** Reads a clip's frames with a reader that a thread does not have, on this thread. */
async function readElsewhere(path: string, spec: StripSpec, decoders: Decoders = {}): Promise<Strip | DataError> {
  const reader = readStrip({ resizeWhole }, spec);
  for (let round = 0; round < 4; round++) {
    const facts = await readClip(path, reader.windows(), reader.take, reader.takeFlow, decoders);
    if (facts.kind !== "facts") return facts;
    const strip = reader.finish(facts);
    if (strip !== undefined) return strip;
  }
  return notDecodable(path, "reading it twice gave different frames");
}
