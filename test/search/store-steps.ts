/** Steps of the property test of stores: anything that anybody may ask for, in any order, also out of turn. */
import { createHash } from "node:crypto";
import fc from "fast-check";
import type { StudyStore } from "../../runtime/search/study.ts";
import { decisionWith, resultWith, trialWith } from "./store-tools.ts";

export type Step = { readonly do: string } & (
  | { readonly do: "claim"; readonly study: number; readonly trial: number | null }
  | { readonly do: "heartbeat" | "fail" | "release"; readonly trial: number; readonly age: number }
  | { readonly do: "metrics"; readonly trial: number; readonly age: number; readonly epochs: number }
  | {
      readonly do: "progress";
      readonly trial: number;
      readonly age: number;
      readonly epochs: number;
      readonly object: number;
    }
  | {
      readonly do: "rung";
      readonly trial: number;
      readonly age: number;
      readonly epochs: number;
      readonly object: number | null;
    }
  | { readonly do: "commit"; readonly trial: number; readonly age: number; readonly object: number }
  | { readonly do: "cancel" | "retry"; readonly trial: number }
  | { readonly do: "reclaim"; readonly study: number }
  | { readonly do: "state"; readonly study: number; readonly state: "running" | "paused" | "cancelled" }
  | { readonly do: "lead"; readonly study: number; readonly who: string; readonly seconds: number }
  | {
      readonly do: "decide";
      readonly study: number;
      readonly late: number;
      readonly begin: number;
      readonly trial: number;
    }
  | { readonly do: "put"; readonly object: number }
  | { readonly do: "collect" }
  | { readonly do: "wait"; readonly ms: number }
);

const trial = fc.nat({ max: 3 });
const age = fc.constantFrom(0, 0, 0, 1);
const study = fc.constantFrom(0, 0, 0, 1);
const object = fc.nat({ max: 3 });
const epochs = fc.integer({ min: 1, max: 4 });
export const anyStep: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant("claim"), study, trial: fc.option(trial) }),
  fc.record({ do: fc.constant("claim"), study, trial: fc.option(trial) }),
  fc.record({ do: fc.constant("heartbeat"), trial, age }),
  fc.record({ do: fc.constant("metrics"), trial, age, epochs }),
  fc.record({ do: fc.constant("progress"), trial, age, epochs, object }),
  fc.record({ do: fc.constant("rung"), trial, age, epochs, object: fc.option(object) }),
  fc.record({ do: fc.constant("commit"), trial, age, object }),
  fc.record({ do: fc.constant("fail"), trial, age }),
  fc.record({ do: fc.constant("fail"), trial, age }),
  fc.record({ do: fc.constant("release"), trial, age }),
  fc.record({ do: fc.constant("cancel"), trial }),
  fc.record({ do: fc.constant("retry"), trial }),
  fc.record({ do: fc.constant("reclaim"), study }),
  fc.record({
    do: fc.constant("state"),
    study,
    state: fc.constantFrom("running", "running", "paused", "cancelled"),
  }),
  fc.record({ do: fc.constant("lead"), study, who: fc.constantFrom("a", "b"), seconds: fc.nat({ max: 4 }) }),
  fc.record({
    do: fc.constant("decide"),
    study,
    late: fc.constantFrom(0, 0, 0, 1),
    begin: fc.nat({ max: 5 }),
    trial,
  }),
  fc.record({ do: fc.constant("put"), object }),
  fc.record({ do: fc.constant("collect") }),
  fc.record({ do: fc.constant("wait"), ms: fc.constantFrom(1, 1_000, 4_000_000) }),
) as fc.Arbitrary<Step>;

const objectBytes = (index: number): Uint8Array => new TextEncoder().encode(`object ${index}`);
export const objectHash = (index: number): string => createHash("sha256").update(objectBytes(index)).digest("hex");

/** What a step means where `model` stands now, to be done to any store. */
export async function actOf(
  step: Step,
  model: StudyStore,
  ids: readonly string[],
): Promise<(store: StudyStore) => Promise<unknown>> {
  const studyAt = (index: number): string => ids[index] ?? "";
  // The fourth belongs to the other study, once it has been decided.
  const idAt = (index: number): string =>
    index === 3 ? trialWith(studyAt(1), 1).id : trialWith(studyAt(0), index + 1).id;
  const attemptOf = async ({ trial, age }: { readonly trial: number; readonly age: number }): Promise<number> =>
    ((await model.trial(idAt(trial)))?.attempt ?? 0) - age;
  switch (step.do) {
    case "claim":
      return (store) => store.claim(studyAt(step.study), "w", step.trial === null ? undefined : idAt(step.trial));
    case "heartbeat": {
      const attempt = await attemptOf(step);
      return (store) => store.heartbeat(idAt(step.trial), attempt);
    }
    case "fail": {
      const attempt = await attemptOf(step);
      return (store) => store.fail(idAt(step.trial), attempt, "broken");
    }
    case "release": {
      const attempt = await attemptOf(step);
      return (store) => store.release(idAt(step.trial), attempt);
    }
    case "metrics": {
      const attempt = await attemptOf(step);
      const points = ["a", "b"].map((name) => ({ name, epoch: step.epochs, value: attempt + step.epochs }));
      return (store) => store.addMetrics(idAt(step.trial), attempt, points);
    }
    case "progress": {
      const attempt = await attemptOf(step);
      return (store) => store.saveProgress(idAt(step.trial), attempt, step.epochs, objectHash(step.object));
    }
    case "rung": {
      const attempt = await attemptOf(step);
      const checkpoint = step.object === null ? undefined : objectHash(step.object);
      const rung = { trial: idAt(step.trial), epochs: step.epochs, value: step.epochs / 8, checkpoint };
      return (store) => store.endRung(rung, attempt);
    }
    case "commit": {
      const attempt = await attemptOf(step);
      const result = resultWith({ predictions: { val: objectHash(step.object) } });
      return (store) => store.commit(idAt(step.trial), attempt, 0.5, result);
    }
    case "cancel":
      return (store) => store.cancel(idAt(step.trial));
    case "retry":
      return (store) => store.retry(idAt(step.trial));
    case "reclaim":
      return (store) => store.reclaim(studyAt(step.study), 1);
    case "state":
      return (store) => store.setStudyState(studyAt(step.study), step.state);
    case "lead":
      return (store) => store.lead(studyAt(step.study), step.who, step.seconds);
    case "decide": {
      const study = studyAt(step.study);
      const sequence = (await model.decisions(study)).length + 1 - step.late;
      const kind = step.begin % 2 === 0 ? "stop" : "promote";
      const decision = decisionWith(sequence, [
        kind === "stop" ? { kind, trial: idAt(step.trial) } : { kind, trial: idAt(step.trial), epochs: 9 },
      ]);
      return (store) => store.decide(study, decision, [trialWith(study, step.begin)]);
    }
    case "put":
      return (store) => store.putObject(objectBytes(step.object));
    case "collect":
      return (store) => store.collectGarbage();
    case "wait":
      return () => Promise.resolve();
    default:
      return step satisfies never;
  }
}
