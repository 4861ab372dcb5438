/**
 * What to do while the store does not answer: wait, ask again, and give up only after a long time.
 *
 * In: a store, and how long to be patient. Out: the same store, whose every method outlasts a server that restarts or
 * is out of reach for a while. A training must not end because a database was restarted, and what it would write then
 * must not be lost.
 *
 * Asking again is safe: whatever changes a trial bears its attempt, so what was done already is not done twice. Only a
 * claim whose answer was lost is different, for the trial is then taken without anybody's knowing; `worker.ts` looks
 * after that itself.
 */
import type { StudyStore } from "./study.ts";

export interface Patience {
  /** Seconds without an answer after which the last error is thrown. */
  readonly seconds: number;
  /** Aborted: who asks is leaving, and has only `graceSeconds` left. */
  readonly signal: AbortSignal;
  readonly graceSeconds: number;
  /** Called once when the store stops answering, and once when it answers again. */
  readonly outage?: ((error: Error) => void) | undefined;
  readonly back?: ((seconds: number) => void) | undefined;
}

const FIRST_WAIT = 0.2;
const LONGEST_WAIT = 5;

/** Whether an error of a store or a queue passes by itself: a server that does not answer, a lock that another holds. */
export function isPassing(error: unknown): error is Error {
  return error instanceof Error && "kind" in error && (error.kind === "unreachable" || error.kind === "busy");
}

/** Resolves after so many seconds, or as soon as the signal is aborted. Never rejects. */
export function pause(seconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted === true) {
      resolve();
      return;
    }
    const done = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, 1000 * seconds);
    signal?.addEventListener("abort", done, { once: true });
  });
}

/** Asks until there is an answer. @throws the last error, when patience has ended, or any that does not pass by itself */
export async function persist<T>(ask: () => Promise<T>, patience: Patience): Promise<T> {
  const begun = performance.now();
  let left: number | undefined = patience.signal.aborted ? begun : undefined;
  let wait = FIRST_WAIT;
  let failed = false;
  for (;;) {
    try {
      const answer = await ask();
      if (failed) patience.back?.((performance.now() - begun) / 1000);
      return answer;
    } catch (error) {
      if (!isPassing(error)) throw error;
      const now = performance.now();
      if (patience.signal.aborted) left ??= now;
      const ended = now - begun >= 1000 * patience.seconds;
      if (ended || (left !== undefined && now - left >= 1000 * patience.graceSeconds)) throw error;
      if (!failed) patience.outage?.(error);
      failed = true;
      // Many workers lose the same server in the same moment: they should not all come back in the same moment too.
      const drawn = wait * (0.5 + Math.random());
      // Who is leaving is not woken by the signal any more.
      await pause(drawn, left === undefined ? patience.signal : undefined);
      wait = Math.min(2 * wait, LONGEST_WAIT);
    }
  }
}

/** The store, outlasting outages. `close` and what is not a method are the store's own. */
export function outlast(store: StudyStore, patience: Patience): StudyStore {
  return new Proxy(store, {
    get(target, key): unknown {
      const member: unknown = Reflect.get(target, key);
      if (typeof member !== "function") return member;
      const ask = (...given: unknown[]): Promise<unknown> =>
        Promise.resolve().then((): unknown => Reflect.apply(member, target, given));
      return key === "close" ? ask : (...given: unknown[]) => persist(() => ask(...given), patience);
    },
  });
}
