/** A store in memory for the tests of the worker, with a study in it, that can be taken out of reach and made late. */
import { StoreError } from "../../runtime/search/store/error.ts";
import type { StudyRow, StudyStore, TrialRow } from "../../runtime/search/study.ts";
import { MemoryStore } from "./memory-store.ts";
import { decisionWith, studyWith, trialWith } from "./store-tools.ts";

export const unreachable = (): StoreError => new StoreError("unreachable", "nobody answers");

export interface Switches {
  /** While true every question fails. */
  down: boolean;
  /** The next claim is written, but its answer is lost. */
  loseNextClaim: boolean;
  /** Milliseconds that the store's clock is ahead. */
  ahead: number;
}

export interface TestStore {
  readonly store: StudyStore;
  readonly study: StudyRow;
  /** Ids of the trials, all waiting. */
  readonly ids: readonly string[];
  readonly switches: Switches;
  /** The trial of this number (from 1), as it is in the store, reachable or not. */
  row(number: number): Promise<TrialRow>;
}

export async function storeWith(count: number, changes: Partial<StudyRow> = {}): Promise<TestStore> {
  const switches: Switches = { down: false, loseNextClaim: false, ahead: 0 };
  const memory = new MemoryStore(() => Date.now() + switches.ahead);
  const study = await memory.createStudy({ ...studyWith("worker", count + 1), ...changes });
  const trials = Array.from({ length: count }, (_, index) => trialWith(study.id, index + 1));
  await memory.decide(study.id, decisionWith(1), trials);
  const store = new Proxy(memory, {
    get(target, key): unknown {
      const member: unknown = Reflect.get(target, key);
      if (typeof member !== "function") return member;
      return async (...given: unknown[]): Promise<unknown> => {
        if (switches.down) throw unreachable();
        const answer: unknown = await Reflect.apply(member, target, given);
        if (key !== "claim" || !switches.loseNextClaim) return answer;
        switches.loseNextClaim = false;
        throw unreachable();
      };
    },
  });
  return {
    store,
    study,
    ids: trials.map(({ id }) => id),
    switches,
    async row(number) {
      const row = await memory.trial(trials[number - 1]?.id ?? "");
      if (row === undefined) throw new Error(`there is no trial ${number}`);
      return row;
    },
  };
}
