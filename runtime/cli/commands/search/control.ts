/**
 * `netc search pause|resume|cancel|retry`: what a person says to a study that runs, from anywhere that reaches its store.
 * All of them may be said twice.
 */
import type { StudyRow, StudyStore, TrialRow } from "../../../search/study.ts";
import { CommandError, EXIT, type ExitCode } from "../../exit.ts";
import { printJson } from "../../json.ts";
import { count, print } from "../../terminal.ts";
import { findStudy, type StoreOption, withStore } from "./shared.ts";

export interface StudyOptions extends StoreOption {
  readonly json?: boolean;
}

export interface TrialOptions extends StudyOptions {
  readonly study?: string;
}

/** Pauses a study: workers save, hand back, and take nothing more. */
export function searchPause(wanted: string | undefined, options: StudyOptions): Promise<ExitCode> {
  return change(wanted, options, async (store, study) => {
    if (study.state === "complete") return `\`${study.name}\` is complete already`;
    if (study.state === "cancelled") return `\`${study.name}\` is cancelled already`;
    await store.setStudyState(study.id, "paused");
    return `\`${study.name}\` is paused; \`netc search resume ${study.name}\` goes on`;
  });
}

/** Takes a pause or a cancellation back. */
export function searchResume(wanted: string | undefined, options: StudyOptions): Promise<ExitCode> {
  return change(wanted, options, async (store, study) => {
    if (study.state === "complete") return `\`${study.name}\` is complete already`;
    await store.setStudyState(study.id, "running");
    return `\`${study.name}\` goes on as soon as somebody coordinates it: \`netc search run\` with its file`;
  });
}

/** Cancels trials by number, or the whole study. */
export function searchCancel(
  trials: readonly number[],
  options: TrialOptions & { readonly all?: boolean },
): Promise<ExitCode> {
  const all = options.all === true;
  if (all === trials.length > 0)
    throw new CommandError(EXIT.usage, "say which trials to cancel, by number, or `--all` for the study", [
      "`netc search status` shows their numbers",
    ]);
  return change(options.study, options, async (store, study) => {
    if (all) {
      if (study.state === "complete") return `\`${study.name}\` is complete already`;
      await store.setStudyState(study.id, "cancelled");
      return `\`${study.name}\` is cancelled; \`netc search resume ${study.name}\` takes that back`;
    }
    return each(store, study, trials, "cancelled", (id) => store.cancel(id));
  });
}

/** Has failed or cancelled trials tried again. */
export function searchRetry(
  trials: readonly number[],
  options: TrialOptions & { readonly failed?: boolean },
): Promise<ExitCode> {
  const failed = options.failed === true;
  if (failed === trials.length > 0)
    throw new CommandError(
      EXIT.usage,
      "say which trials to try again, by number, or `--failed` for all that have failed",
    );
  return change(options.study, options, async (store, study) => {
    const numbers = failed
      ? (await store.trials(study.id)).filter(({ state }) => state === "failed").map(({ number }) => number)
      : trials;
    if (numbers.length === 0) return `no trial of \`${study.name}\` has failed`;
    const text = await each(store, study, numbers, "to be tried again", (id) => store.retry(id));
    // A study whose last trials failed may have been left as complete.
    if (study.state === "complete") await store.setStudyState(study.id, "running");
    return text;
  });
}

async function each(
  store: StudyStore,
  study: StudyRow,
  numbers: readonly number[],
  what: string,
  work: (id: string) => Promise<boolean>,
): Promise<string> {
  const trials = new Map((await store.trials(study.id)).map((trial): [number, TrialRow] => [trial.number, trial]));
  const unknown = numbers.filter((number) => !trials.has(number));
  if (unknown.length > 0)
    throw new CommandError(
      EXIT.usage,
      `\`${study.name}\` has no trial ${unknown.join(", ")}: it has ${count(trials.size, "trial")}`,
    );
  const [done, left]: [number[], number[]] = [[], []];
  for (const number of numbers) ((await work(trials.get(number)?.id ?? "")) ? done : left).push(number);
  return [
    ...(done.length > 0 ? [`${what}: ${done.map((number) => `#${number}`).join(", ")}`] : []),
    ...left.map((number) => `#${number} stays ${trials.get(number)?.state ?? ""}`),
  ].join("\n");
}

function change(
  wanted: string | undefined,
  options: StudyOptions,
  work: (store: StudyStore, study: StudyRow) => Promise<string>,
): Promise<ExitCode> {
  const json = options.json === true;
  return withStore(options, json, async (store) => {
    const study = await findStudy(store, wanted);
    const text = await work(store, study);
    if (json) printJson({ study: study.id, state: await store.studyState(study.id), text });
    else print(text);
    return EXIT.ok;
  });
}
