import { createServer } from "node:net";
import { inspect } from "node:util";
import { describe, expect, it } from "vitest";
import { parseQueueAddress, withoutSecrets } from "../../runtime/search/queue/address.ts";
import { QueueError, queueFault } from "../../runtime/search/queue/errors.ts";
import { jobIdOf, openQueue, type TrialQueue } from "../../runtime/search/queue/queue.ts";
import { reconcile } from "../../runtime/search/queue/reconcile.ts";
import type { TrialRow } from "../../runtime/search/study.ts";
import { trialWith } from "./store-tools.ts";
import { storeWith } from "./worker-store.ts";

const SECRET = "hunter2/é";
const WRITTEN = encodeURIComponent(SECRET);

/** Port on which nobody listens. */
async function closedPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === "object" && address !== null ? address.port : 0;
}

async function thrown(act: () => unknown): Promise<unknown> {
  try {
    await act();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
}

describe("an address of a queue", () => {
  it("is taken apart, and shown without its password", () => {
    expect(parseQueueAddress(`redis://me:${WRITTEN}@[::1]:7000/3`, {})).toEqual({
      kind: "redis",
      shown: "redis://me@[::1]:7000/3",
      secrets: [SECRET, WRITTEN],
      host: "::1",
      port: 7000,
      username: "me",
      password: SECRET,
      database: 3,
      tls: false,
    });
    expect(parseQueueAddress("rediss://host", {})).toMatchObject({ host: "host", port: 6379, database: 0, tls: true });
    expect(parseQueueAddress("valkey://host", {})).toMatchObject({ kind: "redis", password: undefined });
    const postgres = parseQueueAddress(`postgres://me:${WRITTEN}@host/db?password=other&sslmode=require`, {});
    expect(postgres).toMatchObject({ kind: "postgres", shown: "postgres://me@host/db" });
    expect(postgres.secrets).toEqual([SECRET, WRITTEN, "other"]);
  });

  it("takes a password from the environment, and the address's first", () => {
    const environment = { REDISCLI_AUTH: "theirs", PGPASSWORD: "postgres's" };
    expect(parseQueueAddress("redis://host", environment)).toMatchObject({ password: "theirs", secrets: ["theirs"] });
    expect(parseQueueAddress("redis://:mine@host", environment)).toMatchObject({ password: "mine" });
    expect(parseQueueAddress("postgresql://me@host/db", environment).secrets).toEqual(["postgres's"]);
  });

  it.each([
    ["host:6379", "is no kind of queue"],
    ["nonsense", "cannot be read"],
    [`redis://me:${WRITTEN}@host:port`, "cannot be read"],
    [`http://me:${WRITTEN}@host`, "`http://` is no kind of queue"],
    [`redis://me:${WRITTEN}@host/name`, "`name` in `redis://me@host/name` is not the number of a Redis database"],
  ])("refuses %s", async (address, message) => {
    const error = await thrown(() => parseQueueAddress(address, {}));
    expect(error).toBeInstanceOf(QueueError);
    expect(error).toMatchObject({ kind: "usage", message: expect.stringContaining(message) });
    expect(inspect(error)).not.toMatch(/hunter2/);
  });
});

describe("what goes wrong with a queue", () => {
  const clean = (text: string): string => withoutSecrets(text, ["hunter2"]);
  const coded = (code: string): Error => Object.assign(new Error(`said hunter2 ${code}`), { code, command: "hunter2" });

  it.each([
    [coded("ECONNREFUSED"), "unreachable", "cannot reach the queue redis://h: nobody listens there"],
    [new AggregateError([coded("ECONNREFUSED"), coded("ECONNREFUSED")]), "unreachable", "nobody listens there"],
    [coded("57P03"), "unreachable", "the server is starting up"],
    [coded("28P01"), "refused", "the queue redis://h refuses: the password is wrong, or missing"],
    [new Error("WRONGPASS invalid username-password pair"), "refused", "the password is wrong, or missing"],
    [new Error("NOAUTH Authentication required."), "refused", "the password is wrong, or missing"],
    [Object.assign(new Error("run it"), { name: "SchemaMigrationRequiredError" }), "unprepared", "not ready"],
    [coded("XX000"), "unreachable", "does not work: said *** XX000"],
  ])("is said in words: %s", (error, kind, message) => {
    const fault = queueFault(error, "redis://h", clean);
    expect(fault).toMatchObject({ kind, message: expect.stringContaining(message) });
    expect(fault.help.length).toBeGreaterThan(0);
    expect(inspect(fault)).not.toContain("hunter2");
  });

  it.each(["redis", "postgres"])("is said of a %s that does not listen, within the patience given", async (kind) => {
    const port = await closedPort();
    const begun = performance.now();
    const address = `${kind}://me:${WRITTEN}@127.0.0.1:${port}/0`;
    const error = await thrown(() => openQueue(address, { patienceSeconds: 0.5 }));
    expect(performance.now() - begun).toBeLessThan(5000);
    expect(error).toMatchObject({
      kind: "unreachable",
      message: `cannot reach the queue ${kind}://me@127.0.0.1:${port}/0: nobody listens there`,
      help: [expect.stringContaining("see that the server runs"), expect.stringContaining("nothing is lost")],
    });
    expect(inspect(error, { depth: 9, showHidden: true })).not.toMatch(/hunter2/);
  });
});

describe("jobs", () => {
  it("have ids that BullMQ takes, one for each time that a trial waits", () => {
    const rows = [
      trialWith("study", 1),
      trialWith("study", 1, { attempt: 1 }),
      trialWith("study", 1, { attempt: 1, epochs: 9 }),
      trialWith("study", 2),
      trialWith("study", 3, { id: "12" }),
      trialWith("study", 3, { id: "a:b:c" }),
    ];
    const ids = rows.map(jobIdOf);
    expect(new Set(ids).size).toBe(rows.length);
    for (const id of ids) {
      expect(id).not.toContain(":");
      expect(`${Number.parseInt(id, 10)}`).not.toBe(id);
    }
  });
});

describe("reconciling", () => {
  function listening(): { queue: TrialQueue; told: TrialRow[][] } {
    const told: TrialRow[][] = [];
    const queue: TrialQueue = {
      address: "none:",
      fill: async (_study, waiting) => told.push([...waiting]) && waiting.length,
      counts: async () => ({ waiting: 0, active: 0 }),
      forget: async () => undefined,
      source: { serve: async () => undefined },
      close: async () => undefined,
    };
    return { queue, told };
  }

  it("tells of what waits, in order, and of nothing else", async () => {
    const test = await storeWith(4);
    const { queue, told } = listening();
    await test.store.claim(test.study.id, "w", test.ids[1]);
    await test.store.cancel(test.ids[3] ?? "");
    expect(await reconcile(test.store, queue, test.study.id)).toBe(2);
    const known = [...(await test.store.trials(test.study.id))].reverse();
    expect(await reconcile(test.store, queue, test.study.id, known)).toBe(2);
    expect(told.map((rows) => rows.map((row) => row.number))).toEqual([
      [1, 3],
      [1, 3],
    ]);
  });

  it.each(["paused", "complete", "cancelled"] as const)("leaves a %s study alone", async (state) => {
    const test = await storeWith(1);
    const { queue, told } = listening();
    await test.store.setStudyState(test.study.id, state);
    expect(await reconcile(test.store, queue, test.study.id)).toBe(0);
    expect(told).toEqual([]);
  });
});
