/**
 * Trials trained in child processes: what a worker calls.
 *
 * In: a claimed trial. Out: what the trial shows, in the store, under the claim's attempt. The child knows no store; this
 * side writes its metrics and checkpoints as they come, in their order, and settles how the trial ends. A checkpoint is
 * kept in the store not more often than it takes time to write it, and always where the trial stops.
 */
import { type ChildProcess, fork } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Search } from "../../../compiler/search/search.ts";
import { metricOfName } from "../../metrics/scores.ts";
import { faultOf, RunError } from "../../train/fault.ts";
import { planOf } from "../methods/plan.ts";
import type { TrialResult } from "../study.ts";
import type { TrainTrial, TrialEnd, TrialWork } from "../training.ts";
import { packTrial, unpackTrial } from "./bundle.ts";
import type { ToTrial, TrialEvent, TrialOrder, TrialOutcome, TrialRecord } from "./messages.ts";

export interface TrainerOptions {
  /** Where to train; by default hardware WebGPU if there is any, else WASM. */
  readonly device?: TrialOrder["device"];
  /** Threads of each trial; by default as many as there are processors. */
  readonly threads?: number | undefined;
  /** Seconds that each process may try plans of kernels in all; undefined: none are tried. */
  readonly tune?: number | undefined;
  /** Seconds at least between two checkpoints that are kept in the store. */
  readonly keepSeconds?: number;
  /** Updates between two checkpoints within an epoch. */
  readonly saveEvery?: number | undefined;
  /** Folder of the data set on this machine, where it is not the study's. */
  readonly data?: string | undefined;
  /** The program of the child process, as JavaScript. */
  readonly program?: string;
  /** Told of what a trial notes, and of what its process printed before it died. */
  readonly onNote?: (trial: number, text: string) => void;
}

/** Owns the processes; `close` ends them. */
export interface TrialTrainer {
  readonly train: TrainTrial;
  /** Process ids of the children that are alive, for tests that kill one. */
  readonly processes: () => readonly number[];
  readonly close: () => void;
}

const KEEP_SECONDS = 20;
/** A checkpoint in the store may cost a tenth of the time. */
const KEEP_SHARE = 10;
/** What a process printed last, for the words about its death. */
const LAST_WORDS = 2000;

/** The objective's metric. */
export function targetOf({ objectives }: Pick<Search, "objectives">): string {
  const objective = objectives.find((each) => each.kind === "metric");
  if (objective?.kind !== "metric") throw new Error("internal: a search without a metric");
  // As the source writes it: `val.auc("severe")`.
  const metric = objective.metric.replace(/^val\./, "").replace(/^auc\(\s*"(.*)"\s*\)$/s, "auc($1)");
  if (metricOfName(metric) === undefined) throw new RunError("wrong", `there is no metric \`${objective.metric}\``);
  return metric;
}

class Child {
  readonly process: ChildProcess;
  /** What it printed last. */
  words = "";
  dead: string | undefined;

  constructor(program: string) {
    // Flags of the parent (loaders, `--input-type`) are meant for its own modules. Compiling makes much that lives
    // shortly: in the usual room of 16 MiB for it, a fifth of the time goes into collecting it.
    this.process = fork(program, [], {
      serialization: "advanced",
      stdio: ["ignore", "pipe", "pipe", "ipc"],
      execArgv: ["--max-semi-space-size=64"],
    });
    for (const stream of [this.process.stdout, this.process.stderr])
      stream?.on("data", (piece: Buffer) => {
        this.words = (this.words + piece.toString()).slice(-LAST_WORDS);
      });
    this.process.on("error", (error) => {
      this.dead ??= error.message;
    });
    this.process.on("exit", (code, signal) => {
      this.dead ??= signal === null ? `ended with code ${code}` : `was ended by ${signal}`;
    });
  }

  /** While nobody waits for it, it does not keep this process alive. */
  hold(busy: boolean): void {
    const { process: own } = this;
    if (busy) {
      own.ref();
      own.channel?.ref();
    } else {
      own.unref();
      own.channel?.unref();
      for (const stream of [own.stdout, own.stderr])
        if (stream !== null && "unref" in stream && typeof stream.unref === "function") stream.unref();
    }
  }

  send(message: ToTrial): void {
    // One that dies just now is told by its exit.
    this.process.send(message, () => {});
  }

  /** Ends it, and waits until it writes no more. */
  async kill(): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null || this.process.pid === undefined) return;
    const ended = new Promise((resolve) => this.process.once("exit", resolve));
    this.process.kill("SIGKILL");
    await ended;
  }
}

/** Makes a trainer of trials. */
export function openTrainer(options: TrainerOptions = {}): TrialTrainer {
  const { program = fileURLToPath(new URL("./child.js", import.meta.url)) } = options;
  const children = new Set<Child>();
  const idle: Child[] = [];

  const take = (): Child => {
    for (let child = idle.pop(); child !== undefined; child = idle.pop()) if (child.dead === undefined) return child;
    const child = new Child(program);
    children.add(child);
    child.process.once("exit", () => children.delete(child));
    return child;
  };

  return {
    async train(work) {
      const child = take();
      child.hold(true);
      const { end, good } = await new Minding(work, options, child).run();
      child.hold(false);
      if (good) idle.push(child);
      return end;
    },
    processes: () => [...children].flatMap(({ process: { pid } }) => (pid === undefined ? [] : [pid])),
    close() {
      for (const child of children) void child.kill();
      idle.length = 0;
    },
  };
}
/** One trial, from its order to its end. */
class Minding {
  readonly #work: TrialWork;
  readonly #options: TrainerOptions;
  readonly #child: Child;
  readonly #began: number = performance.now();
  /** What is written goes one after the other. */
  #writing: Promise<void> = Promise.resolve();
  #fault: unknown;
  #lost = false;
  #kept: number = performance.now();
  #cost = 0;
  /** Seconds of earlier attempts, as their checkpoint says. */
  #before = 0;
  /** Leaves the conversation. */
  #drop: () => void = () => {};

  constructor(work: TrialWork, options: TrainerOptions, child: Child) {
    this.#work = work;
    this.#options = options;
    this.#child = child;
  }

  /** How it ended, and whether the child may train another. */
  async run(): Promise<{ readonly end: TrialEnd; readonly good: boolean }> {
    let folder: string | undefined;
    let good = false;
    try {
      folder = mkdtempSync(join(tmpdir(), "netc-trial-"));
      await this.#restore(folder);
      const outcome = await this.#converse(folder);
      await this.#writing;
      if (this.#fault !== undefined) throw this.#fault;
      if (outcome === "lost" || this.#lost) return { end: "lost", good: false };
      good = outcome.kind !== "failed";
      return { end: await this.#settle(outcome), good };
    } catch (error) {
      // What the disk of this machine says; the store's own errors are the worker's to see.
      const fault = faultOf("train the trial", error);
      if (!(error instanceof RunError) && fault.kind !== "machine") throw error;
      return { end: await this.#fail(fault.kind === "machine", fault.message), good: false };
    } finally {
      if (!good) await this.#child.kill();
      if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
    }
  }

  /** Lays out what an earlier attempt left. */
  async #restore(folder: string): Promise<void> {
    const { claim, store } = this.#work;
    mkdirSync(join(folder, "run"));
    if (claim.checkpoint === undefined) return;
    const bytes = await store.getObject(claim.checkpoint);
    const record = bytes === undefined ? undefined : unpackTrial(bytes, join(folder, "run"));
    if (record === undefined) this.#note("its checkpoint cannot be had any more: it is trained anew");
    else {
      this.#before = record.seconds + record.overheadSeconds;
      writeFileSync(join(folder, "record.json"), JSON.stringify(record));
    }
  }

  #orderOf(folder: string): TrialOrder {
    const { study, claim } = this.#work;
    const { search } = study;
    const { trial } = claim;
    const candidate = search.space.candidates.find(({ hash }) => hash === trial.candidate);
    if (candidate === undefined) throw new RunError("wrong", "the study has no such candidate");
    const { device = "auto", threads, tune, saveEvery, data } = this.#options;
    const gated = trial.phase === "prior";
    const scored = gated ? (planOf(search).prior?.scored ?? []) : undefined;
    return {
      sources: study.sources,
      search: search.name,
      arguments: search.arguments ?? {},
      levels: candidate.levels,
      data: data ?? study.data,
      dataHash: study.dataHash,
      metric: targetOf(search),
      phase: trial.phase,
      seed: trial.seed,
      epochs: trial.epochs,
      fullEpochs: gated ? trial.epochs : search.epochs,
      scored: scored?.map((index) => ({ candidate: index, levels: search.space.candidates[index]?.levels ?? [] })),
      // Seeds do not change what is computed: once for each row of the table.
      measure: trial.phase === "final" && trial.replicate === 0,
      folder,
      device,
      threads,
      tune,
      saveEvery,
    };
  }

  /** Has the child train; resolves with its outcome, or "lost" where the trial is to be dropped. */
  async #converse(folder: string): Promise<TrialOutcome | "lost"> {
    const { stop } = this.#work;
    const child = this.#child;
    const order = this.#orderOf(folder);
    return await new Promise((resolve) => {
      const heard = (message: TrialEvent): void => {
        if (message.kind === "end") done(message.end);
        else this.#hear(message);
      };
      const told = (): void => {
        if (stop.reason === "pause") child.send({ kind: "pause" });
        else done("lost");
      };
      const died = (): void =>
        done({
          kind: "failed",
          machine: true,
          message: `the process that trained it ${child.dead ?? "ended"}${lastWords(child.words)}`,
        });
      const done = (outcome: TrialOutcome | "lost"): void => {
        child.process.off("message", heard).off("exit", died);
        stop.removeEventListener("abort", told);
        resolve(outcome);
      };
      child.process.on("message", heard).on("exit", died);
      if (child.dead !== undefined) {
        died();
        return;
      }
      child.send({ kind: "start", order });
      stop.addEventListener("abort", told, { once: true });
      if (stop.aborted) told();
      this.#drop = () => done("lost");
    });
  }

  #hear(message: Exclude<TrialEvent, { kind: "end" }>): void {
    switch (message.kind) {
      case "note":
        this.#note(message.text);
        return;
      case "epoch": {
        const { points } = message;
        this.#write(async ({ store, claim }) => store.addMetrics(claim.trial.id, claim.attempt, points));
        return;
      }
      case "saved": {
        const { record, folder } = message;
        const passed = (performance.now() - this.#kept) / 1000;
        const due = passed >= Math.max(this.#options.keepSeconds ?? KEEP_SECONDS, KEEP_SHARE * this.#cost);
        if (due) this.#kept = performance.now();
        this.#write(async ({ store, claim }) => {
          if (!due) {
            rmSync(folder, { recursive: true, force: true });
            return true;
          }
          const began = performance.now();
          const hash = await this.#keep(folder, record);
          const held = await store.saveProgress(claim.trial.id, claim.attempt, record.epochs, hash);
          this.#cost = (performance.now() - began) / 1000;
          return held;
        });
        return;
      }
      default:
        message satisfies never;
    }
  }

  /** Writes to the store behind all that is being written; an answer of false means that the trial is another's. */
  #write(write: (work: TrialWork) => Promise<boolean>): void {
    this.#writing = this.#writing.then(async () => {
      if (this.#fault !== undefined || this.#lost) return;
      try {
        if (await write(this.#work)) return;
        this.#lost = true;
      } catch (error) {
        this.#fault = error;
      }
      this.#drop();
    });
  }

  async #keep(folder: string, record: TrialRecord): Promise<string> {
    const bytes = packTrial(folder, record);
    rmSync(folder, { recursive: true, force: true });
    return this.#work.store.putObject(bytes);
  }

  async #settle(outcome: TrialOutcome): Promise<TrialEnd> {
    const { store, claim } = this.#work;
    const { trial, attempt } = claim;
    switch (outcome.kind) {
      case "failed":
        return this.#fail(outcome.machine, outcome.message);
      case "paused": {
        const { record, folder } = outcome;
        if (folder !== undefined) {
          const hash = await this.#keep(folder, record);
          if (!(await store.saveProgress(trial.id, attempt, record.epochs, hash))) return "lost";
        }
        return (await store.release(trial.id, attempt)) ? "handed back" : "lost";
      }
      case "rung": {
        const { value, record, folder } = outcome;
        const checkpoint = await this.#keep(folder, record);
        const rung = { trial: trial.id, epochs: trial.epochs, value, checkpoint };
        return (await store.endRung(rung, attempt)) ? "rung" : "lost";
      }
      case "complete": {
        const { value, record, metrics, weights, scores, device } = outcome;
        const predictions: Record<string, string> = {};
        for (const [side, text] of Object.entries(outcome.predictions))
          predictions[side] = await store.putObject(new TextEncoder().encode(text));
        const wall = (performance.now() - this.#began) / 1000;
        const result: TrialResult = {
          metrics,
          seconds: record.seconds,
          // What passed here before the child began and after it ended counts too.
          overheadSeconds:
            record.overheadSeconds + Math.max(0, wall - (record.seconds + record.overheadSeconds - this.#before)),
          latency: record.latency?.median,
          ...(record.latency === undefined ? {} : { measured: record.latency }),
          ...(record.gradientNorm === undefined ? {} : { gradientNorm: record.gradientNorm }),
          weights,
          predictions,
          ...(scores === undefined ? {} : { scores }),
          kernels: record.kernels,
          device: device.replace(/^netc/, `netc ${this.#work.study.netc}`),
        };
        return (await store.commit(trial.id, attempt, value, result)) ? "complete" : "lost";
      }
      default:
        return outcome satisfies never;
    }
  }

  async #fail(machine: boolean, message: string): Promise<TrialEnd> {
    const { store, claim } = this.#work;
    const words = machine ? `this machine, not the trial: ${message}` : message;
    return (await store.fail(claim.trial.id, claim.attempt, words)) === "lost" ? "lost" : "failed";
  }

  #note(text: string): void {
    this.#options.onNote?.(this.#work.claim.trial.number, text);
  }
}

function lastWords(words: string): string {
  const lines = words.trim().split("\n").slice(-6);
  return lines.join("").trim() === "" ? "" : `; its last words: ${lines.join(" | ")}`;
}
