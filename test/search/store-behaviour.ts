/** What every store must do, whatever it is kept in: one suite, run on each. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { randomOf } from "../../runtime/data/random.ts";
import { MOST_FRUITLESS, type StudyStore, type TrialRow } from "../../runtime/search/study.ts";
import { MemoryStore } from "./memory-store.ts";
import { actOf, anyStep, objectHash } from "./store-steps.ts";
import {
  allOf,
  type Backend,
  buildChild,
  decisionWith,
  failureOf,
  outcomeOf,
  resultWith,
  studyIn,
  studyWith,
  trialWith,
} from "./store-tools.ts";

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

interface Suite {
  /** An empty store for each test. */
  readonly fresh: () => Promise<Backend>;
  /** Runs of the property test. */
  readonly runs: number;
}

export function behavesAsAStore(name: string, { fresh, runs }: Suite): void {
  describe(name, () => {
    let now = 1_800_000_000_000;
    const clock = (): number => now;
    let backend: Backend;
    let store: StudyStore;
    const opened: StudyStore[] = [];
    const openAnother = async (): Promise<StudyStore> => {
      const another = await backend.open({ clock });
      opened.push(another);
      return another;
    };
    beforeEach(async () => {
      backend = await fresh();
      store = await openAnother();
      return async () => {
        for (const one of opened.splice(0)) await one.close();
      };
    });

    const rowOf = async (id: string): Promise<TrialRow> => {
      const row = await store.trial(id);
      if (row === undefined) throw new Error("no such trial");
      return row;
    };
    const one = async (): Promise<readonly [string, TrialRow]> => {
      const [study, [trial]] = await studyIn(store, 1);
      if (trial === undefined) throw new Error("no trial");
      return [study, trial];
    };

    describe("studies", () => {
      test("come back as they were, also after the store was closed", async () => {
        const given = studyWith("place");
        const made = await store.createStudy(given);
        expect(made).toEqual({ ...given, created: now });
        now += 5;
        const again = await openAnother();
        expect(await again.createStudy({ ...given, name: "other" })).toEqual(made);
        expect(await again.study(given.id)).toEqual(made);
        expect(await again.studies()).toEqual([made]);
        expect(await again.study("nobody")).toBeUndefined();
      });

      test("with more candidates than a statement takes", async () => {
        const given = studyWith("large", 1203);
        await store.createStudy(given);
        expect((await (await openAnother()).study(given.id))?.search).toEqual(given.search);
      });

      test("have a state that others see", async () => {
        const { id } = await store.createStudy(studyWith("place"));
        await (await openAnother()).setStudyState(id, "paused");
        expect(await store.studyState(id)).toBe("paused");
        expect((await store.study(id))?.state).toBe("paused");
        expect(await store.studyState("nobody")).toBeUndefined();
        expect((await failureOf(() => store.setStudyState("nobody", "paused"))).message).toMatch(
          /^there is no study nobody in `.*`: `netc search status` lists those that there are$/,
        );
      });
    });

    describe("coordinators", () => {
      test("lead one at a time", async () => {
        const { id } = await store.createStudy(studyWith("place"));
        const other = await openAnother();
        expect(await store.lead(id, "a", 10)).toBe(true);
        expect(await other.lead(id, "b", 10)).toBe(false);
        now += 9_000;
        expect(await store.lead(id, "a", 10)).toBe(true);
        now += 9_000;
        expect(await other.lead(id, "b", 10)).toBe(false);
        now += 1_000;
        expect(await other.lead(id, "b", 10)).toBe(true);
        expect(await store.lead(id, "a", 10)).toBe(false);
        // Who leaves says so.
        expect(await other.lead(id, "b", 0)).toBe(true);
        expect(await store.lead(id, "a", 10)).toBe(true);
        expect(await outcomeOf(() => store.lead("nobody", "a", 10))).toBe("StoreError refused");
      });

      test("that decide at the same time: one decision is written, with its trials", async () => {
        const { id } = await store.createStudy(studyWith("place"));
        const other = await openAnother();
        const mine = [trialWith(id, 1), trialWith(id, 2)];
        const theirs = [trialWith(id, 1, { epochs: 9 }), trialWith(id, 3)];
        const written = await Promise.all([
          store.decide(id, { ...decisionWith(1), method: "a" }, mine),
          other.decide(id, { ...decisionWith(1), method: "b" }, theirs),
        ]);
        expect(written.filter(Boolean)).toHaveLength(1);
        const [winner, trials] = written[0] ? ["a", mine] : ["b", theirs];
        expect(await store.trials(id)).toEqual(trials);
        expect(await store.decisions(id)).toEqual([{ ...decisionWith(1), method: winner }]);
        expect(await store.decide(id, decisionWith(3), [])).toBe(false);
        expect(await store.decide(id, decisionWith(2), [])).toBe(true);
        expect(await outcomeOf(() => store.decide("nobody", decisionWith(1), []))).toBe("StoreError refused");
      });

      test("a trial is not made twice, and a decision that would is not written", async () => {
        const [study, trial] = await one();
        const twins: Partial<TrialRow>[] = [{}, { id: "other", number: 2 }, { candidate: "other", id: "other" }];
        for (const twin of twins) {
          const failure = await failureOf(() =>
            store.decide(study, decisionWith(2), [trialWith(study, 9), { ...trial, ...twin }]),
          );
          expect(failure.kind).toBe("refused");
          expect(failure.message).toMatch(/^cannot write decision 2 in `/);
        }
        expect(await store.trials(study)).toEqual([trial]);
        expect(await store.decisions(study)).toHaveLength(1);
        expect(await store.decide(study, decisionWith(2), [trialWith(study, 2)])).toBe(true);
      });
    });

    describe("trials", () => {
      test("go to one worker each, in their order", async () => {
        const [study, trials] = await studyIn(store, 12);
        const others = [store, await openAnother(), await openAnother()];
        const claims = await Promise.all(
          Array.from({ length: 15 }, (_, index) => (others[index % 3] ?? store).claim(study, `w${index}`)),
        );
        // PostgreSQL passes over a trial that somebody else is just taking, and takes the next.
        const taken = claims.flatMap((claim) => (claim === undefined ? [] : [claim.trial.id]));
        expect(new Set(taken).size).toBe(taken.length);
        const rest = async (): Promise<number> =>
          (await store.claim(study, "last")) === undefined ? 0 : 1 + (await rest());
        expect(taken.length + (await rest())).toBe(trials.length);
        expect((await store.trials(study)).map(({ state, attempt }) => `${state} ${attempt}`)).toEqual(
          trials.map(() => "running 1"),
        );
      });

      test("can be asked for by name, and not while the study is paused", async () => {
        const [study, trials] = await studyIn(store, 2);
        const [first, second] = trials.map(({ id }) => id);
        await store.setStudyState(study, "paused");
        expect(await store.claim(study, "w", second)).toBeUndefined();
        await store.setStudyState(study, "running");
        now += 7;
        const claim = await store.claim(study, "w", second);
        expect(claim).toEqual({
          trial: { ...trials[1], state: "running", attempt: 1, worker: "w", heartbeat: now, started: now },
          attempt: 1,
          checkpoint: undefined,
        });
        expect(await store.claim(study, "v", second)).toBeUndefined();
        expect((await store.claim(study, "v"))?.trial.id).toBe(first);
        expect(await store.claim("nobody", "v")).toBeUndefined();
      });

      test("come back when their worker is silent, and what it writes then is refused", async () => {
        const [study, { id }] = await one();
        const late = await openAnother();
        await late.claim(study, "late");
        await late.addMetrics(id, 1, [{ name: "val.uar", epoch: 1, value: 0.1 }]);
        now += 10_000;
        expect(await store.reclaim(study, 10)).toEqual([]);
        now += 1;
        expect(await store.reclaim(study, 10)).toEqual([id]);
        expect(await late.commit(id, 1, 0.1, resultWith())).toBe(false);
        expect((await store.claim(study, "next"))?.attempt).toBe(2);
        const before = await allOf(store, study);
        now += 1;
        expect([
          await late.heartbeat(id, 1),
          await late.addMetrics(id, 1, [{ name: "val.uar", epoch: 2, value: 0.2 }]),
          await late.saveProgress(id, 1, 2, "c"),
          await late.endRung({ trial: id, epochs: 3, value: 0.3, checkpoint: "c" }, 1),
          await late.commit(id, 1, 0.1, resultWith()),
          await late.fail(id, 1, "late"),
          await late.release(id, 1),
        ]).toEqual(["lost", false, false, false, false, "lost", false]);
        expect(await allOf(store, study)).toEqual(before);
        expect(await store.commit(id, 2, 0.9, resultWith({ seconds: 2 }))).toBe(true);
        expect((await store.results(study)).get(id)?.seconds).toBe(2);
        expect((await store.observations(study)).map(({ value }) => value)).toEqual([0.9]);
      });

      test("end once: said again by the same attempt, nothing is written twice", async () => {
        const [study, { id }] = await one();
        await store.claim(study, "w");
        const rung = { trial: id, epochs: 3, value: 0.5, checkpoint: "c" };
        expect(await store.endRung(rung, 1)).toBe(true);
        expect(await store.endRung(rung, 1)).toBe(true);
        await store.decide(study, decisionWith(2, [{ kind: "promote", trial: id, epochs: 9 }]), []);
        expect(await store.endRung(rung, 1)).toBe(false);
        expect((await store.claim(study, "w"))?.checkpoint).toBe("c");
        expect(await store.commit(id, 2, 0.75, resultWith())).toBe(true);
        expect(await store.commit(id, 2, 0.25, resultWith({ seconds: 1 }))).toBe(true);
        expect(await store.commit(id, 1, 0.25, resultWith())).toBe(false);
        expect(await store.results(study)).toEqual(new Map([[id, resultWith()]]));
        expect(
          (await store.observations(study)).map(({ sequence, epochs, value }) => [sequence, epochs, value]),
        ).toEqual([
          [1, 3, 0.5],
          [2, 9, 0.75],
        ]);
      });

      test("fail after attempts without progress, and not while they come further", async () => {
        const [study, { id }] = await one();
        const attempt = async (progress?: number): Promise<string> => {
          const claim = await store.claim(study, "w");
          if (claim === undefined) return "none";
          if (progress !== undefined) await store.saveProgress(id, claim.attempt, progress, `c${progress}`);
          return store.fail(id, claim.attempt, "device lost\0");
        };
        for (let step = 1; step < 9; step++) expect(await attempt(step)).toBe("waiting");
        expect((await rowOf(id)).fruitless).toBe(0);
        // The same checkpoint again is no progress, nor is one before it.
        expect(await attempt(8)).toBe("waiting");
        expect(await attempt(5)).toBe("waiting");
        for (let more = 2; more < MOST_FRUITLESS; more++) expect(await attempt()).toBe("waiting");
        expect(await store.observations(study)).toEqual([]);
        expect(await attempt()).toBe("failed");
        expect(await rowOf(id)).toMatchObject({
          state: "failed",
          error: expect.stringContaining("device lost"),
          ended: now,
        });
        expect((await store.observations(study)).map(({ value }) => value)).toEqual([undefined]);
        expect(await attempt()).toBe("none");
        expect(await store.retry(id)).toBe(true);
        expect(await rowOf(id)).toMatchObject({ state: "waiting", fruitless: 0, error: undefined, ended: undefined });
        expect((await store.claim(study, "w"))?.checkpoint).toBe("c5");
      });

      test("are paused, cancelled and handed back by order", async () => {
        const [study, trials] = await studyIn(store, 2);
        const [first = "", second = ""] = trials.map(({ id }) => id);
        await store.claim(study, "w", first);
        expect(await store.heartbeat(first, 1)).toBe("go on");
        await store.setStudyState(study, "paused");
        expect(await store.heartbeat(first, 1)).toBe("pause");
        expect(await store.release(first, 1)).toBe(true);
        expect(await rowOf(first)).toMatchObject({ state: "waiting", attempt: 1, fruitless: 0, worker: undefined });
        expect(await store.heartbeat(first, 1)).toBe("lost");
        await store.setStudyState(study, "running");
        await store.claim(study, "w", first);
        expect(await store.cancel(first)).toBe(true);
        expect(await store.cancel(first)).toBe(false);
        expect(await store.heartbeat(first, 2)).toBe("cancel");
        expect(await store.heartbeat(first, 1)).toBe("lost");
        expect(await store.commit(first, 2, 1, resultWith())).toBe(false);
        await store.claim(study, "w", second);
        await store.setStudyState(study, "cancelled");
        expect(await store.heartbeat(second, 1)).toBe("cancel");
        expect(await store.retry(second)).toBe(false);
        expect(await store.heartbeat("nobody", 1)).toBe("lost");
        expect(await store.cancel("nobody")).toBe(false);
      });

      test("behind a rung are carried on or end there", async () => {
        const [study, trials] = await studyIn(store, 3);
        const [first = "", second = "", third = ""] = trials.map(({ id }) => id);
        for (const [index, trial] of [first, second, third].entries()) {
          await store.claim(study, "w", trial);
          await store.endRung({ trial, epochs: 3, value: index, checkpoint: `c${index}` }, 1);
        }
        await store.cancel(third);
        const proposals = [
          { kind: "promote", trial: first, epochs: 9 },
          { kind: "stop", trial: second },
          { kind: "promote", trial: third, epochs: 9 },
        ] as const;
        expect(await store.decide(study, decisionWith(2, proposals), [])).toBe(true);
        expect(await rowOf(first)).toMatchObject({ state: "waiting", epochs: 9, ended: undefined });
        expect(await rowOf(second)).toMatchObject({ state: "paused", epochs: 3, ended: now });
        expect(await rowOf(third)).toMatchObject({ state: "cancelled" });
        // An end is an end.
        await store.decide(study, decisionWith(3, [{ kind: "promote", trial: second, epochs: 9 }]), []);
        expect(await rowOf(second)).toMatchObject({ state: "paused", epochs: 3 });
        expect(await store.rungs(study)).toEqual([
          { trial: first, epochs: 3, value: 0, checkpoint: "c0" },
          { trial: second, epochs: 3, value: 1, checkpoint: "c1" },
          { trial: third, epochs: 3, value: 2, checkpoint: "c2" },
        ]);
      });

      test("have curves, which a later attempt writes anew from where it went on", async () => {
        const [study, { id }] = await one();
        await store.claim(study, "w");
        const points = [1, 2, 3, 4].map((epoch) => ({ name: "val.uar", epoch, value: epoch / 3 }));
        const odd = [
          { name: "train.loss", epoch: 1, value: Number.NaN },
          { name: "train.loss", epoch: 1.5, value: Number.POSITIVE_INFINITY },
        ];
        expect(await store.addMetrics(id, 1, [...points, ...odd])).toBe(true);
        expect(await store.addMetrics(id, 1, [{ name: "val.uar", epoch: 4, value: 8 }])).toBe(true);
        expect(await store.addMetrics(id, 1, [])).toBe(true);
        expect(await store.metrics(id)).toEqual(
          [...points.slice(0, 3), { name: "val.uar", epoch: 4, value: 8 }, ...odd].toSorted(
            (a, b) => a.epoch - b.epoch || (a.name < b.name ? -1 : 1),
          ),
        );
        await store.release(id, 1);
        await store.claim(study, "w");
        await store.addMetrics(id, 2, [{ name: "val.uar", epoch: 3, value: 3 }]);
        const uar = (await store.metrics(id)).filter(({ name }) => name === "val.uar");
        expect(uar.map(({ epoch, value }) => [epoch, value])).toEqual([
          [1, 1 / 3],
          [2, 2 / 3],
          [3, 3],
        ]);
      });

      test("without a number for a value are refused", async () => {
        const [study, { id }] = await one();
        await store.claim(study, "w");
        const failure = await failureOf(() => store.commit(id, 1, Number.NaN, resultWith()));
        expect(failure.message).toContain("a trial without a number has failed");
        expect(
          (await failureOf(() => store.endRung({ trial: id, epochs: 3, value: 1 / 0, checkpoint: undefined }, 1))).kind,
        ).toBe("refused");
        expect((await rowOf(id)).state).toBe("running");
      });
    });

    describe("objects", () => {
      test("are kept by their hash, once", async () => {
        const large = new Uint8Array(3 * 1024 * 1024 + 5).map((_, index) => index % 251);
        for (const bytes of [new Uint8Array(0), bytesOf("abc"), large]) {
          const hash = await store.putObject(bytes);
          expect(await (await openAnother()).putObject(bytes)).toBe(hash);
          const back = await store.getObject(hash);
          expect(back !== undefined && Buffer.compare(back, bytes)).toBe(0);
        }
        expect(await store.putObject(bytesOf("abc"))).toBe(
          "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        );
        expect(await store.getObject("0".repeat(64))).toBeUndefined();
        expect(await store.getObject("../../etc/passwd")).toBeUndefined();
        expect(await store.verify()).toEqual([]);
      });

      test("go when no trial refers to them, and not before", async () => {
        const [study, trials] = await studyIn(store, 3);
        const [first = "", second = "", third = ""] = trials.map(({ id }) => id);
        const put = (text: string): Promise<string> => store.putObject(bytesOf(text));
        const collect = async (): Promise<number> => {
          now += 1;
          return (await store.collectGarbage()).objects;
        };
        const has = async (hash: string): Promise<boolean> => (await store.getObject(hash)) !== undefined;
        const [a, b, c, d] = [await put("a"), await put("b"), await put("c"), await put("d")];
        await store.claim(study, "w", first);
        await store.saveProgress(first, 1, 1, a);
        await store.saveProgress(first, 1, 2, b);
        // While one runs, it may be about to refer to what was brought lately.
        expect(await collect()).toBe(0);
        now += 3_600_000;
        await store.putObject(bytesOf("d"));
        expect(await collect()).toBe(2);
        expect(await Promise.all([a, b, c, d].map(has))).toEqual([false, true, false, true]);
        await store.endRung({ trial: first, epochs: 3, value: 0, checkpoint: d }, 1);
        expect(await store.collectGarbage()).toEqual({ objects: 1, bytes: 1 });
        await store.claim(study, "w", second);
        const [e, f] = [await put("e"), await put("f")];
        await store.saveProgress(second, 1, 1, e);
        await store.commit(second, 1, 1, resultWith({ predictions: { val: f }, weights: "9".repeat(64) }));
        await store.claim(study, "w", third);
        const g = await put("g");
        await store.endRung({ trial: third, epochs: 3, value: 0, checkpoint: g }, 1);
        // The checkpoint of a complete trial has served; its predictions are its result.
        expect(await collect()).toBe(1);
        expect(await Promise.all([d, e, f, g].map(has))).toEqual([true, false, true, true]);
        expect(await store.verify()).toEqual([]);
        await store.decide(study, decisionWith(2, [{ kind: "stop", trial: third }]), []);
        expect(await collect()).toBe(1);
        expect(await has(g)).toBe(false);
        expect(await store.verify()).toEqual([]);
        await store.claim(study, "w");
        expect(await collect()).toBe(0);
      });

      test("that a trial needs and that are not there are named", async () => {
        const [study, { id }] = await one();
        await store.claim(study, "w");
        await store.saveProgress(id, 1, 1, "e".repeat(64));
        expect(await store.verify()).toEqual([
          { hash: "e".repeat(64), problem: "it is missing; it is the checkpoint of trial 1" },
        ]);
      });

      test("brought and removed at the same time by several are never half there", async () => {
        const others = [store, await openAnother(), await openAnother()];
        const [study] = await studyIn(store, 1);
        const claim = await store.claim(study, "w");
        const bytes = bytesOf("wanted".repeat(50_000));
        for (let round = 0; round < 8; round++) {
          await store.release(claim?.trial.id ?? "", round + 1);
          now += 1;
          const [hash] = await Promise.all([
            others[0]?.putObject(bytes),
            others[1]?.collectGarbage(),
            others[2]?.putObject(bytes),
            others[1]?.collectGarbage(),
          ]);
          // The clock stands still: what was brought in this round is not yet garbage.
          expect((await store.getObject(hash ?? ""))?.byteLength).toBe(bytes.byteLength);
          await store.claim(study, "w");
        }
        expect(await store.verify()).toEqual([]);
      });
    });

    test("does, step by step, what the plain store in memory does", async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(anyStep, { minLength: 8, maxLength: 40 }), async (steps) => {
          const model = new MemoryStore(clock);
          const place = await fresh();
          const real = await place.open({ clock });
          try {
            const both = [model, real] as const;
            const studies = [studyWith("one"), studyWith("two")];
            const ids = studies.map(({ id }) => id);
            for (const target of both) for (const given of studies) await target.createStudy(given);
            for (const target of both)
              await target.decide(
                ids[0] ?? "",
                decisionWith(1),
                [1, 2, 3].map((number) => trialWith(ids[0] ?? "", number)),
              );
            for (const one of steps) {
              if (one.do === "wait") now += one.ms;
              // What the step means is asked of the model, once.
              const act = await actOf(one, model, ids);
              const expected = await outcomeOf(() => act(model));
              expect([one, await outcomeOf(() => act(real))]).toEqual([one, expected]);
            }
            for (const id of ids) expect(await allOf(real, id)).toEqual(await allOf(model, id));
            for (let index = 0; index < 4; index++)
              expect(await real.getObject(objectHash(index))).toEqual(
                (await model.getObject(objectHash(index))) === undefined ? undefined : expect.anything(),
              );
            expect((await real.verify()).map(({ hash }) => hash).toSorted()).toEqual(
              (await model.verify()).map(({ hash }) => hash).toSorted(),
            );
          } finally {
            await real.close();
          }
        }),
        { numRuns: runs },
      );
    });

    describe("four processes, one of them killed", () => {
      const at = mkdtempSync(join(tmpdir(), "netc-store-child-"));
      let child = "";
      beforeAll(() => {
        child = buildChild(at);
      });
      afterAll(() => rmSync(at, { recursive: true, force: true }));

      test("what was acknowledged is there, and nothing is half there", { timeout: 120_000 }, async () => {
        const [study] = await studyIn(store, 3);
        const random = randomOf(7, "kill");
        const victim = Math.floor(4 * random());
        const last = 5 + Math.floor(60 * random());
        const said = await Promise.all(
          [0, 1, 2, 3].map((index) =>
            run(child, [backend.address, study, `w${index}`, "200"], index === victim ? last : undefined),
          ),
        );
        expect(said[victim]?.length).toBeGreaterThanOrEqual(last);
        expect(said[victim]?.at(-1)).not.toBe(ENDED);
        expect(said.filter((lines) => lines.at(-1) === ENDED)).toHaveLength(3);
        const facts = said.flat().map((line) => JSON.parse(line) as [string, string, number, number]);
        const [trials, results] = [await store.trials(study), await store.results(study)];
        const of = (what: string): typeof facts => facts.filter(([kind]) => kind === what);
        const ids = new Set(trials.map(({ id }) => id));
        expect(of("begun").every(([, id]) => ids.has(id))).toBe(true);
        // Each taking was a taking of its own.
        const takings = of("claimed").map(([, id, attempt]) => `${id} ${attempt}`);
        expect(new Set(takings).size).toBe(takings.length);
        for (const [, id, epoch, value] of of("metric"))
          expect(await store.metrics(id)).toContainEqual({ name: "val.uar", epoch, value });
        expect(of("done").length).toBeGreaterThan(20);
        expect(of("done").every(([, id]) => results.has(id))).toBe(true);
        const log = await store.observations(study);
        expect(log.map(({ sequence }) => sequence)).toEqual(log.map((_, index) => index + 1));
        expect(log.map(({ trial }) => trial).toSorted()).toEqual([...results.keys()].toSorted());
        const decisions = await store.decisions(study);
        expect(decisions.map(({ sequence }) => sequence)).toEqual(decisions.map((_, index) => index + 1));
        expect(trials.length).toBe(3 + decisions.length - 1);
        // The killed one's trial is taken back; the others have ended theirs or were cut off at 200.
        expect(trials.filter(({ state }) => state === "running").length).toBeLessThanOrEqual(4);
        expect(await store.verify()).toEqual([]);
      });
    });
  });
}

const ENDED = '["ended"]';

/** What a child says before it ends, or before it is killed after its `last` line. */
function run(child: string, args: readonly string[], last: number | undefined): Promise<readonly string[]> {
  return new Promise((resolve, reject) => {
    const spawned = spawn(process.execPath, [child, ...args]);
    let said = "";
    let failed = "";
    spawned.stderr.setEncoding("utf8").on("data", (text: string) => {
      failed += text;
    });
    spawned.stdout.setEncoding("utf8").on("data", (text: string) => {
      said += text;
      if (last !== undefined && said.split("\n").length > last) spawned.kill("SIGKILL");
    });
    spawned.on("close", (code, signal) => {
      if (code !== 0 && signal !== "SIGKILL") reject(new Error(failed));
      // A line that was cut off was not said.
      else
        resolve(
          said
            .slice(0, said.lastIndexOf("\n") + 1)
            .trim()
            .split("\n"),
        );
    });
  });
}
