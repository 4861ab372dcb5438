/**
 * Makes the queue agree with the store: every trial of a study that waits is told of.
 *
 * In: the store, which is the truth, and a queue, which may have lost anything. Out: the number of trials that the queue
 * did not know of. What the queue knows too much needs no mending: a worker that is told of a trial asks the store for it,
 * and gets it only if it waits. The coordinator calls this after every decision, and every few seconds.
 */
import type { StudyStore, TrialRow } from "../study.ts";
import type { TrialQueue } from "./queue.ts";

/**
 * @param known the study's trials, if they have been read already
 * @throws the store's error, or QueueError of kind "unreachable": try again later
 */
export async function reconcile(
  store: StudyStore,
  queue: TrialQueue,
  study: string,
  known?: readonly TrialRow[],
): Promise<number> {
  // Nothing of a paused study can be taken; it is told of when the study goes on.
  if ((await store.studyState(study)) !== "running") return 0;
  const trials = known ?? (await store.trials(study));
  return queue.fill(
    study,
    trials.filter((trial) => trial.state === "waiting").toSorted((a, b) => a.number - b.number),
  );
}
