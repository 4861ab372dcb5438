/**
 * A cluster of a thousand workers, simulated: `node test/bench/cluster.mjs [--queue redis,postgres] [--workers 1000]`.
 *
 * The queue and the store are real (the store is in PostgreSQL), the worker is the shipped one, and the training is a
 * sleep. The workers are logical ones in a few processes: on Redis each has connections of its own, on PostgreSQL twenty
 * share them. One trial in twenty takes four times as long; in one of a hundred its worker freezes (where twenty share,
 * all of them, and as much more seldom): it says nothing for so long that others get its trials, and then wakes up.
 *
 * The throughput is the share of the workers' time that goes into trainings that count: those that were completed, or
 * still under way in the end. "Linear" is what ten workers reach; and no trial may be lost or doubled.
 */
import { fork } from "node:child_process";
import { setMaxListeners } from "node:events";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { outlast } from "../../dist/runtime/search/patience.js";
import { openQueue } from "../../dist/runtime/search/queue/queue.js";
import { reconcile } from "../../dist/runtime/search/queue/reconcile.js";
import { openStore } from "../../dist/runtime/search/store/open.js";
import { runWorker } from "../../dist/runtime/search/worker.js";
import { freePort, PostgresServer, RedisServer, serverPrograms } from "../cluster/servers.mjs";
import { NETC, nextOf, studyOf } from "../cluster/study.mjs";

const { values } = parseArgs({
  options: {
    queue: { type: "string", default: "redis,postgres" },
    workers: { type: "string", default: "1000" },
    mean: { type: "string", default: "30" },
    warm: { type: "string", default: "60" },
    window: { type: "string", default: "120" },
    processes: { type: "string", default: "4" },
  },
});
const MEAN = Number(values.mean);
const FREEZE_SECONDS = 45;
const LOST_SECONDS = 30;
const sleep = (seconds, signal) =>
  new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, 1000 * seconds);
    signal?.addEventListener("abort", done);
  });

/** Number from 0 to 1 from a trial and a word. */
function drawn(seed, salt) {
  let z = (Math.imul(seed, 0x9e3779b1) + Math.imul(salt, 0x7feb352d)) >>> 0;
  z = Math.imul(z ^ (z >>> 15), 0x85ebca6b) >>> 0;
  return ((z ^ (z >>> 13)) >>> 0) / 2 ** 32;
}
/** From half to one and a half of the mean, and four times that for one in twenty; a mean of 1.15 over all. */
const secondsOf = ({ seed }) => MEAN * (0.5 + drawn(seed, 1)) * (drawn(seed, 2) < 0.05 ? 4 : 1);
const freezes = ({ seed }, attempt, share) => attempt === 1 && drawn(seed, 3) < 0.01 / share;

/** A store that does not answer while its worker is frozen. */
function freezing(store, worker) {
  return new Proxy(store, {
    get(target, key) {
      const member = target[key];
      if (typeof member !== "function") return member;
      return async (...given) => {
        while (worker.frozen !== undefined) await worker.frozen;
        return member.apply(target, given);
      };
    },
  });
}

async function workers({ store: storeAddress, queue: queueAddress, trials, seed, count, share }) {
  // Real workers have connections of their own; here twenty share a few.
  const stores = await Promise.all(Array.from({ length: Math.ceil(count / 20) }, () => openStore(storeAddress)));
  const stop = new AbortController();
  setMaxListeners(0, stop.signal);
  process.on("message", () => stop.abort()).on("disconnect", () => process.exit());
  const queue = await openQueue(queueAddress);
  const study = await stores[0].study(studyOf(trials, seed).id);
  const lag = { most: 0, outages: 0 };
  let before = performance.now();
  setInterval(() => {
    lag.most = Math.max(lag.most, performance.now() - before - 100);
    before = performance.now();
  }, 100).unref();
  const one = async (_, index) => {
    const worker = { frozen: undefined };
    const store = freezing(stores[index % stores.length], worker);
    const train = async ({ claim, store, stop }) => {
      const { trial, attempt } = claim;
      const seconds = secondsOf(trial);
      const from = Date.now();
      const half = claim.checkpoint === undefined ? 1 : 0.5;
      const tell = (done) => process.send({ number: trial.number, done, from, to: Date.now(), need: half * seconds });
      if (half === 1) {
        await sleep(seconds / 2, stop);
        if (!stop.aborted) {
          const object = await store.putObject(Buffer.from(`half of trial ${trial.number}`));
          await store.saveProgress(trial.id, attempt, 1, object);
        }
      }
      if (freezes(trial, attempt, share)) {
        const thaw = sleep(FREEZE_SECONDS);
        worker.frozen = thaw;
        await thaw;
        worker.frozen = undefined;
      } else await sleep(seconds / 2, stop);
      if (stop.aborted) {
        const kept = await store.release(trial.id, attempt);
        // Still under way when the simulation ended.
        if (kept) tell(false);
        return kept ? "handed back" : "lost";
      }
      const result = {
        metrics: { "val.uar": trial.seed },
        seconds,
        overheadSeconds: 0,
        latency: undefined,
        weights: undefined,
        predictions: {},
        kernels: { hits: 0, misses: 0 },
        device: "none: a sleep",
      };
      const done = await store.commit(trial.id, attempt, trial.seed, result);
      if (done) tell(true);
      return done ? "complete" : "lost";
    };
    await runWorker({
      store,
      study,
      source: queue.source,
      train,
      netc: NETC,
      device: 0,
      concurrency: share,
      signal: stop.signal,
      log: ({ kind }) => {
        if (kind === "outage") lag.outages += 1;
      },
    });
  };
  await Promise.all(Array.from({ length: Math.ceil(count / share) }, one));
  const { user, system } = process.cpuUsage();
  process.send({
    lag: lag.most,
    outages: lag.outages,
    memory: process.memoryUsage().rss,
    processor: (user + system) / 1e6,
  });
  await sleep(0.2);
  process.exit(0);
}

/** How much of the time of so many workers goes into trainings that count. */
async function measure(kind, count, store, queue, seed, servers) {
  const trials = Math.ceil(((Number(values.warm) + Number(values.window)) / MEAN) * count * 1.3);
  const study = studyOf(trials, seed);
  study.search.rungs = [];
  await store.createStudy(study);
  const share = kind === "redis" ? 1 : Math.min(20, count);
  const processes = Math.min(Number(values.processes), Math.ceil(count / 50));
  const takings = [];
  const facts = [];
  const job = { store: process.env.BENCH_STORE, queue: process.env.BENCH_QUEUE, trials, seed, share };
  const children = Array.from({ length: processes }, (_, index) => {
    const part = Math.floor(count / processes) + (index < count % processes ? 1 : 0);
    const child = fork(fileURLToPath(import.meta.url), process.argv.slice(2), {
      env: { ...process.env, BENCH_WORKERS: JSON.stringify({ ...job, count: part }) },
    });
    child.on("message", (message) => (message.number === undefined ? facts : takings).push(message));
    child.ended = new Promise((resolve) => child.once("exit", resolve));
    return child;
  });
  const before = new Map(servers.map((server) => [server, server.seconds()]));
  const begun = Date.now();
  const end = begun + 1000 * (Number(values.warm) + Number(values.window));
  let reclaimed = 0;
  let slowest = 0;
  while (Date.now() < end) {
    const turn = performance.now();
    reclaimed += (await store.reclaim(study.id, LOST_SECONDS)).length;
    const rows = await store.trials(study.id);
    const decisions = (await store.decisions(study.id)).length;
    // Enough waits for whoever becomes idle.
    const next = nextOf(study, rows, decisions, 0, Math.ceil(count * 1.2) + 5);
    if (next === "finished") throw new Error("too few trials: the study is complete");
    if (next !== undefined) {
      for (const trial of next.trials) Object.assign(trial, { epochs: study.search.epochs });
      await store.decide(study.id, next.decision, next.trials);
    }
    // As the shipped coordinator does: a queue that does not answer is told later.
    await reconcile(store, queue, study.id).catch((error) => {
      if (error.kind !== "unreachable") throw error;
    });
    slowest = Math.max(slowest, performance.now() - turn);
    await sleep(Math.max(0, 1 - (performance.now() - turn) / 1000));
  }
  const used = servers.map((server) => `${server.name} ${(server.seconds() - before.get(server)).toFixed(0)} s`);
  await store.setStudyState(study.id, "paused");
  for (const child of children) child.send("stop");
  await Promise.all(children.map((child) => child.ended));
  const from = begun + 1000 * Number(values.warm);
  // Of a training that took longer than it should, for whatever reason, only what it should have taken counts.
  const seconds = takings.reduce((sum, { from: began, to, done, need }) => {
    const inside = Math.max(0, Math.min(end, to) - Math.max(from, began)) / 1000;
    return sum + inside * (done ? Math.min(1, (1000 * need) / (to - began)) : 1);
  }, 0);
  const finished = takings.filter(({ done }) => done);
  const rows = await store.trials(study.id);
  const results = await store.results(study.id);
  const complete = rows.filter(({ state }) => state === "complete");
  const others = rows.filter(({ state }) => state !== "complete" && state !== "waiting" && state !== "running");
  // Finished as far as its worker was told, and finished in the store, must be the same, once each.
  const told = new Set(finished.map(({ number }) => number));
  const lost = [...told].filter((number) => rows[number - 1]?.state !== "complete").length;
  const wrong = complete.filter((row) => results.get(row.id)?.metrics["val.uar"] !== row.seed).length;
  if (lost + wrong + others.length > 0 || told.size !== finished.length || results.size !== complete.length)
    throw new Error(`${lost} lost, ${wrong} wrong, ${others.length} failed, ${finished.length - told.size} doubled`);
  return {
    count,
    perWorker: seconds / Number(values.window) / count,
    rate: finished.filter(({ to }) => to >= from && to < end).length / Number(values.window),
    complete: complete.length,
    reclaimed,
    slowest,
    outages: facts.reduce((sum, { outages }) => sum + outages, 0),
    lag: Math.max(0, ...facts.map(({ lag }) => lag)),
    memory: facts.reduce((sum, { memory }) => sum + memory, 0),
    used: [...used, `workers ${facts.reduce((sum, { processor }) => sum + processor, 0).toFixed(0)} s`].join(", "),
  };
}

/** Seconds from the end of one trial to the beginning of the next on an idle cluster of one worker. */
async function overhead(kind, store, queue, seed) {
  const study = studyOf(60, seed);
  await store.createStudy(study);
  const stop = new AbortController();
  const told = new Map();
  const waits = [];
  const gaps = [];
  let ended;
  let release;
  const train = async ({ claim: { trial, attempt }, store }) => {
    const now = performance.now();
    waits.push(now - told.get(trial.id));
    if (ended !== undefined) gaps.push(now - ended);
    await store.commit(trial.id, attempt, 1, {
      metrics: {},
      seconds: 0,
      overheadSeconds: 0,
      latency: undefined,
      weights: undefined,
      predictions: {},
      kernels: { hits: 0, misses: 0 },
      device: "",
    });
    ended = performance.now();
    release?.();
    return "complete";
  };
  const running = runWorker({ store, study, source: queue.source, train, netc: NETC, device: 0, signal: stop.signal });
  // One by one: decided, told of, taken, trained, committed.
  for (let number = 1; number <= 30; number++) {
    const committed = new Promise((resolve) => {
      release = resolve;
    });
    ended = undefined;
    const next = nextOf(study, await store.trials(study.id), number - 1, 0, 1);
    for (const trial of next.trials) {
      Object.assign(trial, { epochs: study.search.epochs });
      told.set(trial.id, performance.now());
    }
    await store.decide(study.id, next.decision, next.trials);
    await reconcile(store, queue, study.id);
    await committed;
  }
  // Thirty that wait already: from one commit to the next beginning.
  release = undefined;
  const next = nextOf(study, await store.trials(study.id), 30, 0, 30);
  for (const trial of next.trials) {
    Object.assign(trial, { epochs: study.search.epochs });
    told.set(trial.id, performance.now());
  }
  await store.decide(study.id, next.decision, next.trials);
  await reconcile(store, queue, study.id);
  while (waits.length < 60) await sleep(0.02);
  stop.abort();
  await running;
  const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];
  console.log(
    `${kind}: from a decision to its training ${median(waits.slice(0, 30)).toFixed(0)} ms ` +
      `(to ${Math.max(...waits.slice(0, 30)).toFixed(0)}); from one trial's end to the next one's beginning ` +
      `${median(gaps).toFixed(0)} ms (to ${Math.max(...gaps).toFixed(0)})`,
  );
}

if (process.env.BENCH_WORKERS !== undefined) await workers(JSON.parse(process.env.BENCH_WORKERS));
else {
  const programs = serverPrograms(["redis", "postgres"], (text) => console.log(text));
  for (const kind of values.queue.split(",")) {
    const postgres = new PostgresServer(programs.postgres, await freePort());
    await postgres.start();
    const redis = kind === "redis" ? new RedisServer(programs.redis, await freePort()) : undefined;
    await redis?.start();
    process.env.BENCH_STORE = postgres.address;
    process.env.BENCH_QUEUE = (redis ?? postgres).address;
    const store = outlast(await openStore(postgres.address), {
      seconds: 600,
      graceSeconds: 0,
      signal: new AbortController().signal,
    });
    const queue = await openQueue(process.env.BENCH_QUEUE, { prepare: true });
    await overhead(kind, store, queue, 1);
    const servers = redis === undefined ? [postgres] : [postgres, redis];
    const few = await measure(kind, 10, store, queue, 2, servers);
    const many = await measure(kind, Number(values.workers), store, queue, 3, servers);
    for (const { count, perWorker, rate, complete, reclaimed, slowest, lag, outages, memory, used } of [few, many])
      console.log(
        `${kind}: ${count} workers, ${rate.toFixed(2)} trials/s, ${(100 * perWorker).toFixed(1)} % of each one's time ` +
          `in trainings that count; ${complete} complete, none lost; ${reclaimed} taken over; ` +
          `coordinator's slowest turn ${slowest.toFixed(0)} ms, workers' lag ${lag.toFixed(0)} ms, ${outages} outages, ` +
          `${(memory / 2 ** 20).toFixed(0)} MiB; processor ${used} of ${Number(values.warm) + Number(values.window)}`,
      );
    console.log(`${kind}: ${(100 * (many.perWorker / few.perWorker)).toFixed(1)} % of linear`);
    await queue.close();
    await store.close();
    redis?.end();
    postgres.end();
  }
  process.exit(0);
}
