/**
 * How quick the store of studies is: `node test/bench/store.mjs [ADDRESS…]`, on an empty SQLite store if none is given.
 * Figures for specs/performance.md, never for tests. Runs the built package (dist/).
 */
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openStore } from "../../dist/runtime/search/store/open.js";

const CANDIDATES = 8192;
const MIB = 2 ** 20;
const hex = () => randomBytes(32).toString("hex");

function studyOf() {
  const candidates = Array.from({ length: CANDIDATES }, (_, index) => ({
    index,
    levels: Array.from({ length: 13 }, (_, bit) => (index >> bit) & 1),
    label: `spots={${Array.from({ length: 13 }, (_, bit) => ((index >> bit) & 1 ? `@conv${bit}` : "")).join(" ")}}`,
    hash: hex(),
    costs: { params: 138_000_000 + index, flops: 31_000_000_000 + index, memory: 200_000_000 },
  }));
  return {
    id: hex(),
    name: "bench",
    search: { name: "bench", space: { factors: [], candidates, points: CANDIDATES }, method: { kind: "gp" } },
    searchHash: hex(),
    dataHash: hex(),
    sources: [],
    data: "data",
    netc: "0.1.0",
    state: "running",
  };
}

const trialOf = (number, candidate) => ({
  id: hex(),
  number,
  candidate,
  phase: "search",
  replicate: 0,
  seed: number,
  epochs: 9,
  state: "waiting",
  attempt: 0,
  fruitless: 0,
});

async function bench(address) {
  const store = await openStore(address);
  const rows = [];
  /** Transactions a second of `work`, so many of them at a time. */
  const rate = async (name, count, work, together = 1) => {
    let next = 0;
    const begun = performance.now();
    await Promise.all(
      Array.from({ length: together }, async () => {
        while (next < count) await work(next++);
      }),
    );
    rows.push([name, `${Math.round((1000 * count) / (performance.now() - begun))}/s`]);
  };
  const time = async (name, work) => {
    const begun = performance.now();
    const value = await work();
    rows.push([name, `${Math.round(performance.now() - begun)} ms`]);
    return value;
  };

  const given = studyOf();
  const { id } = await time("a study of 8,192 candidates, written", () => store.createStudy(given));
  await store.close();
  const again = await openStore(address);
  await time("the same, read for the first time", () => again.study(id));
  await time("the same, read again", () => again.study(id));

  const trials = Array.from({ length: 400 }, (_, index) =>
    trialOf(index + 1, given.search.space.candidates[index].hash),
  );
  const decision = (sequence) => ({ sequence, method: "gp", seen: 0, pending: [], proposals: [], reason: "" });
  await rate("decide, one trial each", 400, (index) => again.decide(id, decision(index + 1), [trials[index]]));
  const claims = [];
  await rate("claim", 400, async () => claims.push(await again.claim(id, "w")));
  const point = (epoch) => ({ name: "val.uar", epoch, value: epoch });
  await rate("metrics, one point", 1000, (index) => again.addMetrics(trials[index % 400].id, 1, [point(index)]));
  await rate(
    "metrics, one point, three at a time",
    1000,
    (index) => again.addMetrics(trials[index % 400].id, 1, [point(index)]),
    3,
  );
  const names = Array.from({ length: 10 }, (_, index) => `m${index}`);
  await rate("metrics, ten points", 500, (epoch) =>
    again.addMetrics(
      trials[epoch % 400].id,
      1,
      names.map((name) => ({ name, epoch, value: epoch })),
    ),
  );
  await rate("heartbeat", 1000, (index) => again.heartbeat(trials[index % 400].id, 1));
  const result = { metrics: {}, seconds: 1, overheadSeconds: 0, predictions: {}, kernels: {}, device: "" };
  await rate("commit", 400, (index) => again.commit(trials[index].id, 1, 0.5, result));
  await time("400 trials, listed", () => again.trials(id));
  const bytes = randomBytes(64 * MIB);
  const hash = await time("an object of 64 MiB, written", () => again.putObject(bytes));
  await time("the same, read and checked", () => again.getObject(hash));
  await time("garbage", () => again.collectGarbage());
  await again.close();
  console.log(`${again.address}\n${rows.map(([name, figure]) => `  ${name.padEnd(40)}${figure}`).join("\n")}`);
}

const addresses = process.argv.slice(2);
if (addresses.length > 0) for (const address of addresses) await bench(address);
else {
  const folder = mkdtempSync(join(tmpdir(), "netc-store-bench-"));
  await bench(folder);
  rmSync(folder, { recursive: true });
}
