/**
 * `netc search worker`: trains trials of a study that another process coordinates, until the study is over.
 */
import { findDevice } from "../../../engine/devices.ts";
import { pause } from "../../../search/patience.ts";
import { openQueue } from "../../../search/queue/queue.ts";
import type { StudyRow, StudyStore } from "../../../search/study.ts";
import { openTrainer } from "../../../search/trial/trial.ts";
import { pollStore, runWorker } from "../../../search/worker.ts";
import { EXIT, type ExitCode } from "../../exit.ts";
import { printJson } from "../../json.ts";
import { print } from "../../terminal.ts";
import { stopSignal } from "./run.ts";
import { type StoreOption, withStore } from "./shared.ts";

export interface WorkerOptions extends StoreOption {
  readonly queue?: string;
  readonly study?: string;
  readonly device: "auto" | "webgpu" | "wasm";
  readonly threads?: number;
  readonly tune?: number;
  readonly concurrency?: number;
  readonly data?: string;
  readonly drain?: true | number;
  readonly json?: boolean;
  readonly version: string;
}

/** Seconds without anything to do after which a draining worker leaves. */
const DRAIN_SECONDS = 30;

/** Runs the command. */
export async function searchWorker(options: WorkerOptions): Promise<ExitCode> {
  const json = options.json === true;
  const say = (text: string): void => {
    // With --json the value comes at the end.
    if (!json) print(text);
  };
  const interruption = stopSignal(() => say("stopping: trials under way are saved and handed back"));
  try {
    return await withStore(options, json, async (store) => {
      const study = await waitForStudy(store, options.study, interruption.signal, say);
      if (study === undefined) return EXIT.stopped;
      const queue = options.queue === undefined ? undefined : await openQueue(options.queue);
      const trainer = openTrainer({
        device: options.device,
        threads: options.threads,
        tune: options.tune,
        data: options.data,
        onNote: (trial, text) => say(`#${trial}: ${text}`),
      });
      try {
        say(`works for ${study.name} (${study.id.slice(0, 12)}) in ${store.address}`);
        const { why, ends } = await runWorker({
          store,
          study,
          source: queue?.source ?? pollStore(1),
          train: trainer.train,
          netc: options.version,
          concurrency: options.concurrency,
          device: 0,
          signal: interruption.signal,
          log: ({ text }) => say(text),
          refuses: (of) => tooSmall(of, options.device),
          drainSeconds:
            options.drain === undefined ? undefined : options.drain === true ? DRAIN_SECONDS : options.drain,
        });
        if (json) printJson({ study: study.id, why, ends });
        else
          say(
            `${why}: ${Object.entries(ends)
              .map(([end, number]) => `${number} ${end}`)
              .join(", ")}`,
          );
        return why === "stopped" ? EXIT.stopped : EXIT.ok;
      } finally {
        trainer.close();
        await queue?.close();
      }
    });
  } finally {
    interruption.close();
  }
}

/** The newest study that runs, or the one named; a worker may be there before its study is. */
async function waitForStudy(
  store: StudyStore,
  wanted: string | undefined,
  signal: AbortSignal,
  say: (text: string) => void,
): Promise<StudyRow | undefined> {
  let told = false;
  while (!signal.aborted) {
    const study = [...(await store.studies())]
      .sort((a, b) => a.created - b.created)
      .findLast(({ name, id, state }) =>
        wanted === undefined
          ? state === "running" || state === "paused"
          : name === wanted || (wanted.length >= 4 && id.startsWith(wanted)),
      );
    if (study !== undefined) return study;
    if (!told) say(`waits for a study${wanted === undefined ? "" : ` \`${wanted}\``} in ${store.address}`);
    told = true;
    await pause(2, signal);
  }
  return undefined;
}

/** Activations are held for a whole batch, forward and backward; what a GPU binds at once is what fails first. */
async function tooSmall({ search }: StudyRow, name: WorkerOptions["device"]): Promise<string | undefined> {
  const device = await findDevice(name);
  if (device.device === "wasm") return undefined;
  const limit = device.capability.limits.maxBufferSize;
  const most = Math.max(
    0,
    ...search.space.candidates.filter(({ refused }) => refused === undefined).map(({ costs }) => 4 * costs.params),
  );
  return most > limit ? `its largest candidate has ${most} bytes of parameters, and it binds ${limit}` : undefined;
}
