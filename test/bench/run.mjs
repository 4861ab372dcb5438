/**
 * Benchmarks: `npm run bench` (`-- --help` says what there is). Figures for specs/performance.md, never for tests.
 *
 * Runs the built package. Every measurement is a fresh process (child.mjs), in rounds that take turns, so that whatever
 * else the machine does meets all. Results are checked before and after they are timed. Two more rows are the command's
 * own speed: `check`, a whole process of `netc check examples/headline.net`, and `compile`, the same model from its source
 * to a program for the default WebGPU record (`cold`: first in a process).
 */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg, totalmem } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { entriesOf, median, parseArguments, ratiosOf, ratioTable, rowOf, tableOf, USAGE } from "./results.mjs";
import { WORKLOADS } from "./workloads.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));
const CHILD = fileURLToPath(new URL("./child.mjs", import.meta.url));
const MAIN = join(root, "dist/runtime/cli/main.js");
const OWN = ["check", "compile"];
/** What a software adapter does in a second. */
const SMALL = new Set(["conv_64x56", "nonlocal"]);

const words = process.argv.slice(2);
if (words.includes("--help")) {
  console.log(USAGE);
  process.exit(0);
}
let options;
let against;
try {
  options = parseArguments(words, [...Object.keys(WORKLOADS), ...OWN]);
  if (options.against !== undefined) against = entriesOf(JSON.parse(readFileSync(options.against, "utf8")));
} catch (error) {
  console.error(error.message);
  process.exit(2);
}
const { quick } = options;

/** Runs Node; resolves to what it printed. */
function node(args) {
  return new Promise((done, fail) => {
    const child = spawn(process.execPath, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (data) => {
      stdout += data;
    });
    child.stderr.on("data", (data) => {
      stderr += data;
    });
    child.on("error", fail);
    child.on("close", (code) =>
      code === 0 ? done({ stdout, stderr }) : fail(new Error(stderr.trim().split("\n").slice(-8).join("\n"))),
    );
  });
}

async function sampleOn(workload, device) {
  const request = {
    workload,
    device,
    adapter: options.adapter,
    warmMs: quick ? 300 : 1500,
    timedMs: quick ? 300 : 2000,
    leastRuns: quick ? 2 : 5,
    started: Date.now(),
  };
  try {
    return JSON.parse((await node([CHILD, JSON.stringify(request)])).stdout);
  } catch (error) {
    // The message stands in the line that Node shows it in.
    return { failed: /^\w*Error: (.*)$/m.exec(error.message)?.[1] ?? error.message };
  }
}

/** Prints what a process took when it ends. */
const SPENT = `data:text/javascript,${encodeURIComponent(
  "process.on('exit',()=>{const{user,system}=process.cpuUsage();process.stderr.write('spent '+(user+system)/1000+' '+process.resourceUsage().maxRSS)})",
)}`;

async function sampleCheck() {
  const start = performance.now();
  const { stderr } = await node(["--import", SPENT, MAIN, "check", "examples/headline.net"]);
  const [, cpu, resident] = /spent (\S+) (\S+)/.exec(stderr);
  return { ms: performance.now() - start, cpu: Number(cpu), residentBytes: Number(resident) * 1024 };
}

async function sampleCompile() {
  return JSON.parse((await node([fileURLToPath(new URL("./compile.mjs", import.meta.url))])).stdout);
}

const wanted = options.workloads ?? [...Object.keys(WORKLOADS), ...OWN];
const cells = wanted
  .filter((workload) => !OWN.includes(workload))
  .flatMap((workload) =>
    options.devices
      .filter((device) => device === "wasm" || !quick || options.workloads !== undefined || SMALL.has(workload))
      .map((device) => ({ workload, device, samples: [] })),
  );
const own = Object.fromEntries(OWN.filter((name) => wanted.includes(name)).map((name) => [name, []]));
for (let round = 1; round <= options.rounds; round++) {
  for (const { workload, device, samples } of cells) {
    const sample = await sampleOn(workload, device);
    samples.push(sample);
    const said = sample.failed === undefined ? `${sample.median.toFixed(2)} ms` : `failed: ${sample.failed}`;
    console.error(`round ${round} of ${options.rounds}: ${workload} on ${device}: ${said}`);
  }
  for (let run = 0; run < (quick ? 2 : 5); run++) own.check?.push(await sampleCheck());
  own.compile?.push(await sampleCompile());
}

const rows = cells.map(({ workload, device, samples }) => rowOf(workload, device, WORKLOADS[workload].flops, samples));
for (const [workload, samples] of Object.entries(own)) {
  const least = (of) => Math.min(...samples.map(of));
  rows.push({
    workload,
    device: "netc",
    ms: median(samples.map(({ ms }) => ms)),
    least: least(({ ms }) => ms),
    cpu: least(({ cpu }) => cpu),
    ...(workload === "compile" ? { cold: least(({ cold }) => cold), coldCpu: least(({ coldCpu }) => coldCpu) } : {}),
    residentBytes: Math.max(...samples.map(({ residentBytes }) => residentBytes)),
    rounds: options.rounds,
    runs: samples.length,
  });
}
const results = {
  date: new Date().toISOString(),
  node: process.version,
  cpu: cpus()[0]?.model,
  cores: availableParallelism(),
  memoryBytes: totalmem(),
  load: loadavg()[0],
  adapter: options.adapter,
  quick,
  rows,
};
const ratios = against === undefined ? undefined : ratiosOf(rows, against);
if (options.json)
  console.log(JSON.stringify({ ...results, ...(ratios === undefined ? {} : { ratios }) }, undefined, 1));
else {
  console.log(
    `${results.date}, ${results.cpu}, ${results.cores} cores, load ${results.load.toFixed(1)}, ${results.node}\n`,
  );
  console.log(tableOf(rows));
  if (ratios !== undefined) console.log(`\ntheirs divided by netc's: above 1 netc leads\n${ratioTable(ratios)}`);
}
process.exit(rows.some(({ failed }) => failed !== undefined) ? 1 : 0);
