/**
 * `netc search run`: begins a study or goes on with it, until its table is there.
 */
import { availableParallelism } from "node:os";
import type { Search } from "../../../../compiler/search/search.ts";
import { splitSides } from "../../../data/sides.ts";
import { deviceName, findDevice } from "../../../engine/devices.ts";
import { studyOf } from "../../../search/begin.ts";
import { runStudy, type StudyEnd } from "../../../search/coordinator.ts";
import { changesOf } from "../../../search/differences.ts";
import { measureSearch } from "../../../search/latency/device.ts";
import { surveyOf } from "../../../search/latency/survey.ts";
import { latencyLines, surveyText } from "../../../search/latency/words.ts";
import { openQueue } from "../../../search/queue/queue.ts";
import { openDisplay } from "../../../search/report/display.ts";
import { reportOf } from "../../../search/report/report.ts";
import { readStudy } from "../../../search/report/study-data.ts";
import type { StudyRow, StudyStore } from "../../../search/study.ts";
import { openTrainer, targetOf } from "../../../search/trial/trial.ts";
import { type DataSet, openDataSet } from "../../../train/experiment.ts";
import { onInterrupt } from "../../../train/interruption.ts";
import { CommandError, EXIT, type ExitCode } from "../../exit.ts";
import { printJson } from "../../json.ts";
import { count, print } from "../../terminal.ts";
import { asSearchError, type StoreOption, withStore } from "./shared.ts";
import { emitWinner, type OpenedSearch, openSearch, type SearchOptions } from "./source.ts";
import { tableLines } from "./table.ts";

export interface RunOptions extends SearchOptions, StoreOption {
  readonly queue?: string;
  readonly workers?: number;
  readonly threads?: number;
  readonly tune?: number;
  readonly device: "auto" | "webgpu" | "wasm";
  readonly fork?: boolean;
  readonly emit?: string;
  readonly json?: boolean;
  readonly version: string;
}

/** Seconds at least between two looks at the whole study for the display. */
const SHOW_SECONDS = 1;

/** Runs the command. */
export async function searchRun(file: string, options: RunOptions): Promise<ExitCode> {
  const json = options.json === true;
  checkOptions(options);
  const opened = openSearch(file, options, json, false);
  if (opened === undefined) return EXIT.wrong;
  const { folder, search, recipe, sources } = opened;
  if (folder === undefined) throw new Error("internal: a complete recipe without a folder");
  let set: DataSet;
  try {
    set = openDataSet(folder);
    checkSides(opened, set);
  } catch (error) {
    throw asSearchError(error, json);
  }
  const row = studyOf(search, { recipe, sources, set, data: folder, netc: options.version });
  return withStore(options, json, async (store) => {
    const study = await beginOrGoOn(store, row, options.fork === true, () => measured(opened, options, json));
    return follow(store, study, opened, options, json);
  });
}

function checkOptions({ queue, workers, store }: RunOptions): void {
  if (queue === undefined) return;
  if (workers !== undefined)
    throw new CommandError(
      EXIT.usage,
      "with `--queue` trials are trained by `netc search worker`: leave `--workers` out",
    );
  if (!/^postgres(ql)?:/i.test(store))
    throw new CommandError(EXIT.usage, "workers on other machines need a store that they reach", [
      "`--store postgres://USER@HOST/DATABASE` beside `--queue`",
    ]);
}

/** Trials are compared on validation people, so there must be some. */
function checkSides({ recipe, search }: OpenedSearch, set: DataSet): void {
  targetOf(search);
  const sides = splitSides(set.manifest, recipe.data, 1, recipe.seed);
  if (sides.kind === "sides-error") throw new CommandError(EXIT.wrong, sides.message, sides.help);
  if (sides.validation.length === 0)
    throw new CommandError(EXIT.wrong, `\`${recipe.name}\` holds nobody out to compare candidates by`, [
      "`validation = 0.2` in the recipe's `data` section: a share of the training subjects",
    ]);
}

/** The study of this row, if there is one; one that differs is not gone on with by mistake. */
async function beginOrGoOn(
  store: StudyStore,
  row: Omit<StudyRow, "created">,
  fork: boolean,
  measure: () => Promise<Search>,
): Promise<StudyRow> {
  const studies = [...(await store.studies())].sort((a, b) => a.created - b.created);
  const same = studies.find(({ id }) => id === row.id);
  if (same !== undefined) {
    if (same.netc !== row.netc)
      throw new CommandError(
        EXIT.machine,
        `the study \`${same.name}\` was begun with netc ${same.netc}, and this is netc ${row.netc}: trials of one study are trained by one version`,
        [`install the study's version: npm install netc@${same.netc}`, "`--store` with another folder begins anew"],
      );
    // A set may have moved; its manifest says that it is the same.
    return { ...same, data: row.data };
  }
  const before = studies.findLast(({ name }) => name === row.name);
  if (before !== undefined && !fork) {
    const changes = changesOf(before, row);
    throw new CommandError(
      EXIT.wrong,
      [
        `the store ${store.address} holds a study \`${before.name}\` of another search:`,
        ...changes.map((change) => `  - ${change}`),
      ].join("\n"),
      [
        "undo the change, and the study goes on",
        "`--fork` begins another study with what is here now; the one before stays as it is",
      ],
    );
  }
  // What a device takes is found once, and is no part of what the study's id says.
  return store.createStudy({ ...row, search: await measure() });
}

/** The search with the latencies of its models on this machine's device, where it asks for them. */
async function measured({ search, entry }: OpenedSearch, { device: name }: RunOptions, json: boolean): Promise<Search> {
  const survey = surveyOf(search);
  if (survey === undefined) return search;
  const device = await findDevice(name);
  // With --json standard output has the result alone.
  const say = (text: string): void => void (json ? process.stderr.write(`${text}\n`) : print(text));
  if (!json) say(`measures ${surveyText(survey)} on ${deviceName(device)}, before any training`);
  const found = await measureSearch(search, { entry: entry.source, resolve: entry.resolve }, device, {
    told: (done, of) => {
      if (json) say(JSON.stringify({ event: "measured", done, of }));
      else if (done === of || done % 10 === 0) say(`measured ${done} of ${count(of, "model")}`);
    },
  });
  if (!json) for (const line of latencyLines(found)) say(line);
  return found;
}

async function follow(
  store: StudyStore,
  study: StudyRow,
  opened: OpenedSearch,
  options: RunOptions,
  json: boolean,
): Promise<ExitCode> {
  // With --json standard output has the result alone; events come on the other, a line each.
  const display = openDisplay(json ? process.stderr : process.stdout, { json });
  const interruption = stopSignal(() => {
    display.note("stopping: trials under way are saved and handed back (once more to leave at once)");
  });
  const workers = options.workers ?? (await usualWorkers(options.device));
  const threads = options.threads ?? Math.max(1, Math.floor(availableParallelism() / workers));
  const trainer = openTrainer({
    device: options.device,
    threads,
    tune: options.tune,
    ...(options.data === undefined ? {} : { data: options.data }),
    onNote: (trial, text) => display.note(`#${trial}: ${text}`),
  });
  let shown = Number.NEGATIVE_INFINITY;
  const show = async (): Promise<void> => {
    if (performance.now() - shown < 1000 * SHOW_SECONDS) return;
    display.update(await readStudy(store, study.id));
    shown = performance.now();
  };
  const queue = options.queue === undefined ? undefined : await openQueue(options.queue, { prepare: true });
  let end: StudyEnd;
  try {
    if (!json) print(`study ${study.name} (${study.id.slice(0, 12)}) in ${store.address}`);
    end = await runStudy({
      study,
      store,
      trained: queue === undefined ? { by: "workers", train: trainer.train, count: workers } : { by: "queue", queue },
      netc: options.version,
      signal: interruption.signal,
      onChange: show,
      onNote: (text) => display.note(text),
    });
    shown = Number.NEGATIVE_INFINITY;
    await show();
  } finally {
    interruption.close();
    trainer.close();
    await queue?.close();
  }
  display.end(endText(end, study));
  if (end !== "complete") {
    if (json) throw new CommandError(EXIT.stopped, endText(end, study));
    return EXIT.stopped;
  }
  return finish(store, study, opened, options, json);
}

function endText(end: StudyEnd, { name, id }: StudyRow): string {
  switch (end) {
    case "complete":
      return `the study \`${name}\` is complete; \`netc search report ${id.slice(0, 12)}\` writes its report`;
    case "stopped":
      return `the study \`${name}\` is saved; the same command goes on with it`;
    case "cancelled":
      return `the study \`${name}\` was cancelled; \`netc search resume ${id.slice(0, 12)}\` takes that back`;
    default:
      return end satisfies never;
  }
}

async function finish(
  store: StudyStore,
  study: StudyRow,
  opened: OpenedSearch,
  options: RunOptions,
  json: boolean,
): Promise<ExitCode> {
  const report = reportOf(await readStudy(store, study.id));
  if (!json) for (const line of tableLines(report, process.stdout.columns)) print(line);
  let emitted: string | undefined;
  if (options.emit !== undefined) {
    if (report.choice === undefined) throw new CommandError(EXIT.wrong, "the search has chosen no candidate to write");
    if (!emitWinner(opened, report.choice, options.emit, json)) return EXIT.wrong;
    emitted = options.emit;
    if (!json) print(`the winner as a source: ${emitted}`);
  }
  if (json) printJson({ study: study.id, store: store.address, state: "complete", winner: emitted, report });
  return EXIT.ok;
}

/** On a GPU one after the other; on processors one trial each, which loses nothing to waiting for each other. */
async function usualWorkers(device: RunOptions["device"]): Promise<number> {
  const found = await findDevice(device);
  return found.device === "webgpu" ? 1 : Math.min(8, availableParallelism());
}

/** Aborted by the first SIGINT or SIGTERM; the second ends the process. */
export function stopSignal(heard: () => void): { readonly signal: AbortSignal; readonly close: () => void } {
  const controller = new AbortController();
  const interruption = onInterrupt({
    heard: () => {
      heard();
      controller.abort();
    },
    leave: () => process.exit(EXIT.stopped),
  });
  return { signal: controller.signal, close: () => interruption.close() };
}
