/**
 * kill -9 at random moments: `npm run kill-test [-- KILLS [SEED]]`.
 *
 * A small network is trained once in peace. Then the same training is killed again and again, each time after a random
 * time, and resumed. Whatever was killed when, the parameters in the end must be those of the peaceful run, byte for
 * byte, and so must be the metrics but for their timings. Runs the built package, as a user does; when a run has ended before all kills are used up, another one begins.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const MAIN = fileURLToPath(new URL("../../dist/runtime/cli/main.js", import.meta.url));

const NET = `
const L = 2
block ConvBN(c: int, stride: int = 1) = Conv(c, stride=stride, use_bias=false) @conv -> BatchNorm @bn -> ReLU
block Eyes(classes: int = 2)(x: [N, C, H, W]) -> [N, classes]
default over x: f32[N, 3, 16, 16]
  = ConvBN(8, stride=2) @conv1 -> ConvBN(16, stride=2) @conv2 -> GlobalAvgPool -> Dropout(0.3) -> Linear(classes) @fc
model Tiny = Eyes(classes=2) ×2 over spatial: f32[N, 3, 16, 16], temporal: f32[N, 2 * L, 16, 16]
  with STIA at conv2 fuse Average
recipe Learn(epochs: int = 10) for Tiny {
  data {
    split = by_subject(folds=3, seed=1)
    validation = 0.5
    batch = 4
  }
  ema = 0.9
  mixup = 0.3
  stage "first" {
    epochs = epochs
    optimizer = Adam(lr=0.01)
    freeze = conv1
  }
  stage "second" {
    epochs = epochs
    optimizer = SGD(lr=0.01, momentum=0.9)
    accumulate = 2
  }
}
`;

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

/** Runs `netc`. With a moment it is killed so many milliseconds after it is so far, unless it ends before. */
async function netc(at, args, moment) {
  const child = spawn(process.execPath, [MAIN, ...args], {
    cwd: at,
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, NETC_CACHE: join(at, "cache"), NO_COLOR: "1" },
  });
  let said = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text) => {
      said += text;
    });
  let kill;
  const watch =
    moment &&
    setInterval(() => {
      if (!moment.isThere()) return;
      clearInterval(watch);
      kill = setTimeout(() => child.kill("SIGKILL"), moment.milliseconds);
    }, 5);
  const code = await new Promise((done) => child.on("close", done));
  clearInterval(watch);
  clearTimeout(kill);
  if (code !== 0 && code !== null) throw new Error(`netc ${args.join(" ")} ended with ${code}:\n${said}`);
  return { killed: code === null, said };
}

/** Name and bytes of the newest checkpoint's state. */
function lastState(run) {
  const folder = join(run, "checkpoints");
  const name = readdirSync(folder)
    .filter((entry) => /^step-\d+$/.test(entry))
    .sort()
    .at(-1);
  return { name, bytes: readFileSync(join(folder, name, "state.safetensors")) };
}

const TIMINGS = new Set(["seconds", "waited", "evaluationSeconds", "samplesPerSecond", "residentBytes"]);

/** The metrics without what a clock or the system says. */
function metricsOf(run) {
  const lines = readFileSync(join(run, "metrics.jsonl"), "utf8").trim().split("\n");
  const kept = (key, value) => (TIMINGS.has(key) ? undefined : value);
  return lines.map((line) => JSON.stringify(JSON.parse(line), kept)).join("\n");
}

function updatesOf(run) {
  const file = join(run, "metrics.jsonl");
  return existsSync(file) ? readFileSync(file, "utf8").split('"kind":"step"').length - 1 : 0;
}

/** Kills and resumes; throws where the bytes differ. Returns what happened. */
export async function killTest({ kills, seed = 1, epochs = 20, log = () => {} }) {
  const at = mkdtempSync(join(tmpdir(), "netc-kill-"));
  const random = randomOf(seed);
  const train = ["train", "tiny.net", "--data", "set", "--device", "wasm", "--save-every", "3", "--no-test"];
  const fixed = [...train, "--set", `epochs=${epochs}`];
  try {
    writeFileSync(join(at, "net.json"), "{}");
    writeFileSync(join(at, "tiny.net"), NET);
    await netc(at, "data make set --layout association --subjects 3 --clips 8 --frames 9 --size 48x40".split(" "));
    const began = performance.now();
    await netc(at, [...fixed, "--run", "peace"]);
    const seconds = (performance.now() - began) / 1000;
    const want = lastState(join(at, "peace"));
    const updates = updatesOf(join(at, "peace"));
    log(`uninterrupted: ${updates} updates in ${seconds.toFixed(1)} s`);
    /** While the command starts and loads, or within the updates that follow; the clock of a busy machine says little. */
    const momentIn = (run) => {
      if (random() < 0.25) return { isThere: () => true, milliseconds: 1500 * random() };
      const ahead = Math.floor((2 * updates * random()) / (kills + 1));
      const target = Math.min(updates - 1, updatesOf(run) + ahead);
      // Lines behind the checkpoint are cut when it goes on: until then the old ones are there.
      let low = Number.POSITIVE_INFINITY;
      const isThere = () => {
        const now = updatesOf(run);
        low = Math.min(low, now);
        return now >= target && now > low;
      };
      return { isThere, milliseconds: 60 * random() };
    };
    let [killed, runs, resumed] = [0, 0, 0];
    while (killed < kills || runs === 0) {
      const run = `killed-${runs + 1}`;
      for (let ended = false; !ended; ) {
        const go = existsSync(join(at, run));
        const moment = killed < kills ? momentIn(join(at, run)) : undefined;
        const command = go ? ["train", "--resume", run, ...train.slice(4)] : [...fixed, "--run", run];
        const result = await netc(at, command, moment);
        if (go) resumed++;
        ended = !result.killed;
        if (!ended) log(`kill ${++killed} of ${kills} at update ${updatesOf(join(at, run))}`);
      }
      const got = lastState(join(at, run));
      if (got.name !== want.name || !got.bytes.equals(want.bytes))
        throw new Error(`\`${run}\` ended with other parameters than the run that was left in peace`);
      if (metricsOf(join(at, run)) !== metricsOf(join(at, "peace")))
        throw new Error(`\`${run}\` has other metrics than the run that was left in peace`);
      runs++;
      log(`run ${runs} ended: ${got.name}, ${got.bytes.length} bytes, the same as without a kill`);
    }
    return { killed, runs, resumed, updates };
  } finally {
    rmSync(at, { recursive: true, force: true });
  }
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [, , kills = "20", seed = "1"] = process.argv;
  const result = await killTest({ kills: Number(kills), seed: Number(seed), log: (text) => console.log(text) });
  console.log(`${result.killed} kills, ${result.resumed} resumptions, ${result.runs} runs: all bytes agree`);
}
