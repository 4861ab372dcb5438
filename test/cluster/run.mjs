/**
 * Whether a cluster keeps its word: `npm run test:cluster [-- --seed 1 --repeat 1 --faults 3 --pause 20 --queue redis]`.
 *
 * One coordinator (the shipped one, and one that decides over rungs, by turns) and three workers, each a process; the queue
 * in Redis or in PostgreSQL, the store in SQLite or in the same PostgreSQL. At random moments of a seed, so many times each:
 * a worker is killed, a worker is told to stop, the coordinator is killed, the server is restarted in order or killed, the
 * server is paused. And a Redis without a log, killed: it forgets everything. In the end every trial must be in the store
 * exactly once, with the figures that it would have had alone, and no password may be in anything that any process said.
 */
import { spawn, spawnSync } from "node:child_process";
import { createWriteStream, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { freePort, PostgresServer, RedisServer, serverPrograms } from "./servers.mjs";
import { studyOf } from "./study.mjs";
import { aloneOf, FULL_EPOCHS } from "./training.mjs";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    repeat: { type: "string", default: "1" },
    faults: { type: "string", default: "3" },
    pause: { type: "string", default: process.env.NETC_TEST_PAUSE ?? "20" },
    queue: { type: "string", default: "redis,postgres,forgetful" },
    trials: { type: "string", default: "60" },
    keep: { type: "boolean", default: false },
  },
});
const options = {
  seed: Number(values.seed),
  repeat: Number(values.repeat),
  faults: Number(values.faults),
  pause: Number(values.pause),
  queues: values.queue.split(","),
  trials: Number(values.trials),
};
const WORKERS = 3;
const MOST_SECONDS = 420;
const here = fileURLToPath(new URL(".", import.meta.url));
const root = fileURLToPath(new URL("../..", import.meta.url));
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

/** Numbers from 0 to 1 from a seed (mulberry32). */
function randomOf(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = Math.imul(state ^ (state >>> 15), state | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A process that is begun again after it was killed. */
class Child {
  constructor(cluster, role) {
    this.cluster = cluster;
    this.role = role;
    this.begin();
  }

  begin() {
    const { settings, log, events } = this.cluster;
    const child = spawn(process.execPath, [join(here, `${this.role.replace(/-.*/, "")}.mjs`)], {
      env: { ...process.env, CLUSTER: JSON.stringify(settings) },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.child = child;
    this.ready = false;
    for (const stream of [child.stdout, child.stderr])
      createInterface({ input: stream }).on("line", (line) => {
        log.write(`${this.role} ${child.pid} ${line}\n`);
        if (!line.startsWith('{"at"')) return;
        const event = JSON.parse(line);
        events.push(event);
        if (event.kind === "ready") this.ready = true;
      });
    this.ended = new Promise((resolve) => child.once("close", (code, signal) => resolve({ code, signal })));
  }

  async fell(signal, rest) {
    this.child.kill(signal);
    const end = await this.ended;
    if (this.cluster.over) return end;
    await sleep(rest);
    if (!this.cluster.over) this.begin();
    return end;
  }
}

/** One study from its beginning to its end, with faults; throws what is wrong with it. */
async function runOnce({ kind, seed, shipped, programs }) {
  const random = randomOf(seed);
  const folder = mkdtempSync(join(tmpdir(), "netc-cluster-"));
  const forgetful = kind === "forgetful";
  const server =
    kind === "postgres"
      ? new PostgresServer(programs.postgres, await freePort())
      : new RedisServer(programs.redis, await freePort(), { kept: !forgetful });
  await server.start();
  const settings = {
    store: kind === "postgres" ? server.address : join(folder, "study.db"),
    queue: server.address,
    trials: options.trials,
    seed,
    open: 2 * WORKERS,
    shipped,
    seconds: 3,
    lostSeconds: 4,
    queueTiming: { lockSeconds: 4, stalledSeconds: 2, askSeconds: 1 },
    workerTiming: { heartbeatSeconds: 0.5, lostSeconds: 4, watchSeconds: 1, patienceSeconds: 120, graceSeconds: 5 },
  };
  const logFile = join(folder, "log");
  const cluster = { settings, log: createWriteStream(logFile), events: [], over: false };
  const note = (text) => cluster.log.write(`# ${Date.now()} ${text}\n`);
  const begun = performance.now();
  const coordinator = new Child(cluster, "coordinator");
  const workers = Array.from({ length: WORKERS }, (_, index) => new Child(cluster, `worker-${index + 1}`));
  const one = () => workers[Math.floor(WORKERS * random())];
  const orderly = kind === "postgres" ? "SIGINT" : "SIGTERM";

  const faults = {
    "worker killed": () => one().fell("SIGKILL", 2 * random()),
    "worker stopped": async () => {
      const worker = one();
      // Before that a signal ends it as it would any program.
      while (!worker.ready && !cluster.over) await within(begun, 0.1);
      const { code } = await worker.fell("SIGTERM", 2 * random());
      if (code !== 0) throw new Error(`a worker that was told to stop ended with ${code}`);
    },
    "coordinator killed": () => coordinator.fell("SIGKILL", 3 * random()),
    "server restarted": async () => {
      await server.stop(random() < 0.5 ? orderly : "SIGKILL");
      await sleep(4 * random());
      await server.start();
    },
    "server paused": () => server.pause(options.pause),
  };
  const kinds = forgetful ? ["server restarted"] : Object.keys(faults);
  if (forgetful)
    faults["server restarted"] = async () => {
      await server.stop("SIGKILL");
      await sleep(2 * random());
      await server.start();
    };
  const plan = kinds
    .flatMap((name) => Array.from({ length: options.faults }, () => ({ name, when: random() })))
    .sort((a, b) => a.when - b.when)
    // Spread over the study's course, and not so late that it is over before the last.
    .map(({ name }, index, all) => ({ name, done: (0.85 * (index + random())) / all.length }));

  const complete = () =>
    cluster.events.filter(({ kind, text }) => kind === "ended" && text.endsWith("complete")).length;
  const finished = coordinatorFinished(cluster, coordinator);
  finished.catch(() => {
    cluster.over = true;
  });
  const done = [];
  try {
    for (const { name, done: share } of plan) {
      while (complete() < share * options.trials && !cluster.over) await within(begun, 0.1);
      await sleep(random());
      if (cluster.over) break;
      note(name);
      done.push(name);
      await faults[name]();
    }
    await Promise.race([finished, new Promise((_, reject) => setTimeout(() => reject(late()), left(begun)).unref())]);
    const seconds = (performance.now() - begun) / 1000;
    // The workers see that the study is over, and leave by themselves.
    const ends = await Promise.all(workers.map(({ ended }) => Promise.race([ended, sleep(20)])));
    if (ends.some((end) => end?.code !== 0)) throw new Error("a worker did not leave after the study's end");
    if (done.length < plan.length) throw new Error(`only ${done.length} of ${plan.length} faults came before the end`);
    await new Promise((resolve) => cluster.log.end(resolve));
    const facts = await check(settings, logFile, server.password);
    return { kind, seed, seconds, faults: done.length, ...facts };
  } catch (error) {
    error.message += `\n  log: ${logFile}`;
    values.keep = true;
    throw error;
  } finally {
    cluster.over = true;
    for (const { child } of [coordinator, ...workers]) child.kill("SIGKILL");
    server.end();
    if (!values.keep) rmSync(folder, { recursive: true, force: true });
  }
}

const late = () => new Error(`the study was not complete after ${MOST_SECONDS} s`);
const left = (begun) => 1000 * MOST_SECONDS - (performance.now() - begun);
async function within(begun, seconds) {
  if (left(begun) < 0) throw late();
  await sleep(seconds);
}

async function coordinatorFinished(cluster, coordinator) {
  for (;;) {
    const { child } = coordinator;
    const { code } = await coordinator.ended;
    if (code === 0) {
      cluster.over = true;
      return;
    }
    // Killed by us, and begun again, or wrong.
    if (code !== null) throw new Error(`the coordinator ended with ${code}`);
    while (coordinator.child === child) await sleep(0.05);
  }
}

/** Everything that is asked of the store afterwards. */
async function check(settings, logFile, password) {
  const { openStore } = await import("../../dist/runtime/search/store/open.js");
  const store = await openStore(settings.store);
  const study = studyOf(settings.trials, settings.seed);
  const wrong = [];
  const same = (what, is, ought) => {
    const [left, right] = [JSON.stringify(is), JSON.stringify(ought)];
    if (left !== right) wrong.push(`${what}: ${left} instead of ${right}`);
  };
  const trials = await store.trials(study.id);
  const results = await store.results(study.id);
  const observations = await store.observations(study.id);
  const rungs = await store.rungs(study.id);
  const decisions = await store.decisions(study.id);
  const wanted = epochsOf(study, decisions, trials);
  same("number of trials", trials.length, wanted.size);
  same("number of results", results.size, [...wanted.values()].filter((all) => all.at(-1) === FULL_EPOCHS).length);
  if (!settings.shipped) same("number of trials", trials.length, settings.trials);
  for (const trial of trials) {
    const what = `trial ${trial.number}`;
    const epochs = wanted.get(trial.id) ?? [];
    const last = epochs.at(-1);
    const alone = aloneOf(trial.seed, last);
    const result = results.get(trial.id);
    const full = last === FULL_EPOCHS;
    same(`${what}, state`, trial.state, full ? "complete" : "paused");
    same(`${what}, metrics`, result?.metrics, full ? { "val.uar": alone.value } : undefined);
    same(`${what}, weights`, result?.weights, full ? alone.weights : undefined);
    same(`${what}, curve`, await curveOf(store, trial), alone.curve);
    const values = epochs.map((count) => [count, aloneOf(trial.seed, count).value]);
    const pairs = (rows) => rows.filter((row) => row.trial === trial.id).map(({ epochs, value }) => [epochs, value]);
    same(`${what}, observations`, pairs(observations), values);
    same(`${what}, rungs`, pairs(rungs), full ? values.slice(0, -1) : values);
  }
  const upTo = (count) => Array.from({ length: count }, (_, index) => index + 1);
  same(
    "observations, numbers",
    observations.map(({ sequence }) => sequence),
    upTo(observations.length),
  );
  same(
    "decisions, numbers",
    decisions.map(({ sequence }) => sequence),
    upTo(decisions.length),
  );
  same("objects", await store.verify(), []);
  await store.close();
  const log = readFileSync(logFile, "utf8");
  if (log.includes(password)) wrong.push("the password is in what the processes said");
  if (wrong.length > 0) throw new Error(`${wrong.length} things are wrong:\n  ${wrong.slice(0, 10).join("\n  ")}`);
  return { takings: trials.reduce((sum, { attempt }) => sum + attempt, 0), trials: trials.length };
}

/** To how many epochs each trial was to be trained, rising, by what was decided. */
function epochsOf(study, decisions, trials) {
  const wanted = new Map();
  for (const { proposals } of decisions)
    for (const proposal of proposals) {
      if (proposal.kind === "promote") wanted.get(proposal.trial)?.push(proposal.epochs);
      if (proposal.kind !== "begin") continue;
      const { hash } = study.search.space.candidates[proposal.candidate];
      const trial = trials.find(
        ({ candidate, phase, replicate }) =>
          candidate === hash && phase === proposal.phase && replicate === proposal.replicate,
      );
      wanted.set(trial?.id ?? `decision without a trial: ${hash}`, [proposal.epochs]);
    }
  return wanted;
}

async function curveOf(store, trial) {
  const points = await store.metrics(trial.id);
  return points.map(({ name, epoch, value }) => ({ name, epoch, value })).sort((a, b) => a.epoch - b.epoch);
}

function build() {
  const built = join(root, "dist/runtime/search/worker.js");
  if (existsSync(built) && !stale()) return;
  if (spawnSync(process.execPath, [join(root, "build.mjs")], { stdio: "inherit" }).status !== 0) process.exit(1);
}

function stale() {
  const newest = (folder) =>
    readdirSync(folder, { withFileTypes: true, recursive: true })
      .filter((entry) => entry.isFile())
      .reduce((latest, entry) => Math.max(latest, statSync(join(entry.parentPath, entry.name)).mtimeMs), 0);
  const sources = ["grammar", "compiler", "runtime"].map((room) => newest(join(root, room)));
  return Math.max(...sources) > statSync(join(root, "dist/runtime/search/worker.js")).mtimeMs;
}

build();
const programs = serverPrograms(["redis", "postgres"], (text) => console.log(text));
let failures = 0;
const begun = performance.now();
// The queues of a round at once: they share nothing but the machine, and wait most of the time.
for (let round = 0; round < options.repeat; round++)
  await Promise.all(
    options.queues.map(async (kind, index) => {
      const seed = options.seed + round;
      // By turns, so that both are met with every queue when it is repeated.
      const shipped = (round + index) % 2 === 1;
      try {
        const { seconds, faults, takings, trials } = await runOnce({ kind, seed, shipped, programs });
        console.log(
          `ok    ${kind.padEnd(9)} ${shipped ? "shipped" : "rungs  "} seed ${seed}: ${trials} trials complete, each once, ` +
            `as alone; ${takings} takings, ${faults} faults, ${seconds.toFixed(0)} s`,
        );
      } catch (error) {
        failures += 1;
        console.log(`WRONG ${kind.padEnd(9)} seed ${seed}: ${error.message}`);
      }
    }),
  );
const minutes = (performance.now() - begun) / 60_000;
console.log(`${failures === 0 ? "all well" : `${failures} runs failed`}, ${minutes.toFixed(1)} min`);
process.exit(failures === 0 ? 0 : 1);
