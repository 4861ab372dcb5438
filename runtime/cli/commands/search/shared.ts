/**
 * What the commands of searches share: the store that a command names, the study in it, and errors as commands end.
 */

import { HopelessError } from "../../../search/coordinator.ts";
import { QueueError } from "../../../search/queue/errors.ts";
import { StoreError } from "../../../search/store/error.ts";
import { openStore } from "../../../search/store/open.ts";
import type { StudyRow, StudyStore } from "../../../search/study.ts";
import { WorkerError } from "../../../search/worker.ts";
import { CommandError, EXIT, type ExitCode } from "../../exit.ts";
import { asCommandError } from "../train.ts";

export interface StoreOption {
  readonly store: string;
}

const STORE_EXITS: Readonly<Record<StoreError["kind"], ExitCode>> = {
  unreachable: EXIT.unreachable,
  busy: EXIT.unreachable,
  damaged: EXIT.wrong,
  full: EXIT.machine,
  refused: EXIT.usage,
};

const QUEUE_EXITS: Readonly<Record<QueueError["kind"], ExitCode>> = {
  unreachable: EXIT.unreachable,
  unprepared: EXIT.unreachable,
  refused: EXIT.usage,
  usage: EXIT.usage,
};

/** What a search throws, as commands end. */
export function asSearchError(error: unknown, json: boolean): unknown {
  if (error instanceof StoreError) return new CommandError(STORE_EXITS[error.kind], error.message);
  if (error instanceof QueueError) return new CommandError(QUEUE_EXITS[error.kind], error.message, error.help);
  if (error instanceof WorkerError) return new CommandError(EXIT.machine, error.message, error.help);
  if (error instanceof HopelessError)
    return new CommandError(/this machine/.test(error.message) ? EXIT.machine : EXIT.wrong, error.message, [
      "`netc search status` lists what has failed; once the cause is gone, `netc search retry --failed` tries again",
    ]);
  return asCommandError(error, json);
}

/** Opens the store that a command names, and closes it behind the work. */
export async function withStore<T>(
  { store: address }: StoreOption,
  json: boolean,
  work: (store: StudyStore) => Promise<T>,
): Promise<T> {
  try {
    const store = await openStore(address);
    try {
      return await work(store);
    } finally {
      await store.close();
    }
  } catch (error) {
    throw asSearchError(error, json);
  }
}

const short = (id: string): string => id.slice(0, 12);

/** Studies in words, the newest last. */
function listed(studies: readonly StudyRow[]): readonly string[] {
  return studies.slice(-6).map(({ name, id, state }) => `\`${name}\` (${short(id)}), ${state}`);
}

/**
 * The study that a command names: by its name (the newest of it), the beginning of its id, or the newest of all.
 * @throws CommandError (exit 2) for none
 */
export async function findStudy(store: StudyStore, wanted: string | undefined): Promise<StudyRow> {
  const studies = [...(await store.studies())].sort((a, b) => a.created - b.created);
  const found =
    wanted === undefined
      ? studies
      : studies.filter(({ name, id }) => name === wanted || (wanted.length >= 4 && id.startsWith(wanted)));
  const study = found.at(-1);
  if (study !== undefined) return study;
  throw new CommandError(
    EXIT.usage,
    wanted === undefined
      ? `the store ${store.address} holds no study yet`
      : `the store ${store.address} holds no study \`${wanted}\``,
    studies.length === 0
      ? ["`netc search run FILE` begins one", "`--store` names another store"]
      : [`it holds ${listed(studies).join("; ")}`],
  );
}
