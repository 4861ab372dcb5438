/** The queue in PostgreSQL, where the server does not answer just when a worker begins. */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openQueue } from "../../runtime/search/queue/queue.ts";
import type { WorkerEvent } from "../../runtime/search/worker.ts";
import { trialWith } from "../search/store-tools.ts";
import { Postgres } from "./postgres.ts";

let server: Postgres;
beforeAll(async () => {
  server = await Postgres.make();
});
afterAll(() => server.end());

test("a worker that cannot begin lets everything else go on, and begins when the server is back", async () => {
  const queue = await openQueue(server.address(), { prepare: true, timing: { askSeconds: 1 } });
  const stop = new AbortController();
  const events: WorkerEvent[] = [];
  const taken: (string | undefined)[] = [];
  server.freeze(true);
  const served = queue.source.serve(
    {
      take: async (trial) => {
        taken.push(trial);
        return { kind: "nothing" };
      },
      check: () => undefined,
    },
    { study: "study", worker: "w", concurrency: 1, signal: stop.signal, log: (event) => void events.push(event) },
  );
  // Connections are given up after ten seconds; timers must have their turn all the time.
  let turns = 0;
  const clock = setInterval(() => void turns++, 100);
  await expect.poll(() => events.map(({ kind }) => kind), { timeout: 20_000 }).toContain("outage");
  const before = turns;
  await sleep(2000);
  expect(turns - before).toBeGreaterThan(5);
  clearInterval(clock);
  server.freeze(false);
  const trial = trialWith("study", 1);
  await expect.poll(() => queue.fill("study", [trial]).catch(() => -1), { timeout: 20_000 }).toBe(1);
  await expect.poll(() => taken, { timeout: 30_000 }).toContain(trial.id);
  stop.abort();
  await served;
  await queue.close();
}, 120_000);
