/** A store in PostgreSQL: the common behaviour, and what a server adds that goes away and comes back. */
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { openStore, type StoreOptions } from "../../runtime/search/store/open.ts";
import type { StudyStore } from "../../runtime/search/study.ts";
import { behavesAsAStore } from "../search/store-behaviour.ts";
import { failureOf, resultWith, studyIn, studyWith } from "../search/store-tools.ts";
import { PASSWORD, Postgres, Wire } from "./postgres.ts";

let server: Postgres;
let databases = 0;
const opened: StudyStore[] = [];

beforeAll(async () => {
  server = await Postgres.make();
});
afterAll(() => server.end());
afterEach(async () => {
  for (const store of opened.splice(0)) await store.close();
});

/** A schema of its own for each test: quicker than a database. */
const schema = (): string => `?schema=test_${++databases}`;
async function open(address: string, options?: StoreOptions): Promise<StudyStore> {
  const store = await openStore(address, options);
  opened.push(store);
  return store;
}

behavesAsAStore("PostgreSQL", {
  fresh: async () => {
    const address = server.address("postgres", { more: schema() });
    return { address, open: (options) => openStore(address, options) };
  },
  runs: 15,
});

describe("a server that goes away", () => {
  // One of its own: the more files there are, the longer a server takes that was killed.
  let server: Postgres;
  beforeAll(async () => {
    server = await Postgres.make();
  });
  afterAll(() => server.end());

  test("and comes back is waited for, and nothing is lost or done twice", async () => {
    const store = await open(server.address("postgres", { more: schema() }));
    const [study, trials] = await studyIn(store, 60);
    const worker = async (name: string): Promise<void> => {
      for (;;) {
        const claim = await store.claim(study, name);
        if (claim === undefined) return;
        const { attempt, trial } = claim;
        await store.addMetrics(trial.id, attempt, [{ name: "m", epoch: 1, value: 1 }]);
        expect(await store.commit(trial.id, attempt, 1, resultWith())).toBe(true);
      }
    };
    const complete = async (count: number): Promise<void> => {
      while ((await store.results(study)).size < count) await sleep(2);
    };
    const working = Promise.all([worker("a"), worker("b"), worker("c")]);
    await complete(8);
    await server.stop("SIGINT");
    await sleep(300);
    await server.start();
    await complete(20);
    await server.stop("SIGKILL");
    await server.start();
    await working;
    // No claim was lost on the way, and none was made twice.
    const rows = await store.trials(study);
    expect(rows.map(({ state, attempt }) => `${state} ${attempt}`)).toEqual(trials.map(() => "complete 1"));
    const log = await store.observations(study);
    expect(log.map(({ sequence }) => sequence)).toEqual(trials.map((_, index) => index + 1));
    expect(new Set(log.map(({ trial }) => trial)).size).toBe(trials.length);
  });

  test("is unreachable after a while, which is said without the password", async () => {
    const address = server.address("postgres", { more: schema() });
    const store = await open(address, { patienceSeconds: 0.4 });
    const { id } = await store.createStudy(studyWith("one"));
    await server.stop("SIGINT");
    const failures = [
      await failureOf(() => store.study(id)),
      await failureOf(() => store.lead(id, "a", 1)),
      await failureOf(() => openStore(address, { patienceSeconds: 0.4 })),
    ];
    await server.start();
    for (const { kind, message } of failures) {
      expect(kind).toBe("unreachable");
      expect(message).toMatch(
        /^cannot .* in `postgres:\/\/netc@127\.0\.0\.1:\d+\/postgres\?schema=test_\d+`: the server does/,
      );
      expect(message).toContain("start it, or check host and port");
    }
    noPasswordIn(failures);
    expect(await store.lead(id, "a", 1)).toBe(true);
  });

  test("while a commit is under way: it is found out whether it was written", async () => {
    const wire = await Wire.to(server.port);
    const store = await open(server.address("postgres", { port: wire.port, more: schema() }));
    const [study, trials] = await studyIn(store, 30);
    const cuts = { before: 0, after: 0, never: 0 };
    wire.watch = (sent) => {
      if (!sent.includes("COMMIT")) return "never";
      const commits = cuts.before + cuts.after + cuts.never;
      const cut = commits % 3 === 1 ? "after" : commits % 5 === 1 ? "before" : "never";
      cuts[cut] += 1;
      return cut;
    };
    for (const [index] of trials.entries()) {
      const claim = await store.claim(study, "w");
      expect(claim?.trial.number).toBe(index + 1);
      expect(claim?.attempt).toBe(1);
      expect(await store.fail(claim?.trial.id ?? "", 1, "broken")).toBe("waiting");
      expect((await store.claim(study, "w", claim?.trial.id))?.attempt).toBe(2);
    }
    expect(Math.min(cuts.before, cuts.after)).toBeGreaterThan(10);
    expect((await store.trials(study)).every(({ fruitless }) => fruitless === 1)).toBe(true);
    await wire.end();
  });
});

/** Neither in the message nor in anything that prints with it. */
function noPasswordIn(errors: readonly Error[]): void {
  for (const error of errors) {
    const all = `${error.message} ${error.stack} ${JSON.stringify(error)} ${String(error.cause)}`;
    for (const secret of [PASSWORD, encodeURIComponent(PASSWORD), "sesame"]) expect(all).not.toContain(secret);
  }
}

describe("an address that cannot be opened", () => {
  const refusal = (address: string): Promise<Error & { readonly kind: string }> =>
    failureOf(() => openStore(address, { patienceSeconds: 0.4 }));

  test("says what is wrong and what to do, and no password", async () => {
    const wrong = await refusal(server.address("postgres", { password: "sesame-wrong" }));
    expect(wrong.message).toContain(
      "the user's password is wrong: set it in the address, in PGPASSWORD or in ~/.pgpass",
    );
    const missing = await refusal(server.address("nowhere"));
    expect(missing.message).toContain("there is no such database: make it with `createdb`");
    const host = await refusal(`postgres://netc:${encodeURIComponent(PASSWORD)}@netc.invalid/postgres`);
    expect(host.kind).toBe("unreachable");
    const ssl = await refusal(server.address("postgres", { more: "?sslmode=require" }));
    expect(ssl.message).toContain("see `sslmode`");
    for (const { kind } of [wrong, missing, ssl]) expect(kind).toBe("refused");
    noPasswordIn([wrong, missing, host, ssl]);
  });

  test("a user without rights", async () => {
    server.sql("postgres", "CREATE ROLE guest LOGIN PASSWORD 'sesame'; REVOKE CREATE ON DATABASE postgres FROM PUBLIC");
    const failure = await refusal(`postgres://guest:sesame@127.0.0.1:${server.port}/postgres?schema=guests`);
    expect(failure.kind).toBe("refused");
    expect(failure.message).toContain("the user may not do that: grant it the rights");
    noPasswordIn([failure]);
  });

  test("tables of another program, and of another version", async () => {
    server.sql("postgres", "CREATE SCHEMA stranger; CREATE TABLE stranger.store (id int); CREATE SCHEMA later");
    const stranger = await refusal(server.address("postgres", { more: "?schema=stranger" }));
    expect(stranger.message).toContain("holds tables of another program: name another database, or another schema");
    await (await openStore(server.address("postgres", { more: "?schema=later" }))).close();
    server.sql("postgres", "UPDATE later.store SET version = 7");
    const later = await refusal(server.address("postgres", { more: "?schema=later" }));
    expect(later.message).toContain("was made by a later netc (schema 7, and this one knows 1): use that netc");
  });
});

test("many that open an empty database at once make its tables once", async () => {
  const address = server.address("postgres", { more: schema() });
  const stores = await Promise.all(Array.from({ length: 8 }, () => open(address)));
  const ids = await Promise.all(stores.map(async (store) => (await store.createStudy(studyWith("one"))).id));
  expect(new Set(ids).size).toBe(1);
  expect(await stores[0]?.studies()).toHaveLength(1);
});

test("objects in a shared folder lie there, and not in the database", async () => {
  const folder = mkdtempSync(join(tmpdir(), "netc-shared-"));
  const own = schema();
  const address = server.address("postgres", { more: `${own}&objects=${encodeURIComponent(folder)}` });
  const store = await open(address);
  const bytes = new Uint8Array(100_000).fill(7);
  const hash = await store.putObject(bytes);
  expect(readdirSync(join(folder, hash.slice(0, 2)))).toEqual([hash.slice(2)]);
  expect(await (await open(address)).getObject(hash)).toEqual(Buffer.from(bytes));
  expect(server.sql("postgres", `SELECT count(*) FROM ${own.slice("?schema=".length)}.object_part`)).toBe("0");
  await sleep(5);
  expect(await store.collectGarbage()).toEqual({ objects: 1, bytes: 100_000 });
  expect(readdirSync(join(folder, hash.slice(0, 2)))).toEqual([]);
  rmSync(folder, { recursive: true });
});
