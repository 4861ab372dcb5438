/**
 * What a training step costs beside a forward pass: `node test/bench/training.mjs [--json] [--quick]`.
 *
 * Runs the built package (dist/) on WASM: for each net the program of inference and that of one step (SGD with momentum,
 * cross-entropy) on the same batch, in turns, so that whatever else the machine does meets both. Prints the fastest run of
 * each, for a busy machine only ever makes a run slower, with the medians in brackets, and the two ratios that a step
 * should stay below: 4 in time, 3.3 in multiply-adds.
 */
import { readFileSync } from "node:fs";
import { compile, compileStep } from "../../dist/compiler/compile.js";
import { elaborate } from "../../dist/compiler/elaborate/elaborate.js";
import { diskResolve } from "../../dist/runtime/cli/sources.js";
import { initialise } from "../../dist/runtime/engine/init.js";
import { wasmCapability } from "../../dist/runtime/engine/wasm/capability.js";
import { openWasm } from "../../dist/runtime/engine/wasm/runner.js";

const json = process.argv.includes("--json");
const quick = process.argv.includes("--quick");
const target = await wasmCapability();

const STAGE = {
  name: "",
  epochs: 1,
  loss: [{ weight: 1, kind: "cross_entropy", on: "output", smoothing: 0, classWeights: "none" }],
  optimizer: { kind: "sgd", momentum: 0.9, nesterov: false },
  rate: 0.01,
  weightDecay: 5e-4,
  schedule: {},
  parameters: [],
  frozenNorms: [],
  accumulate: 1,
};

/** Nets, their batches and their turns. */
const NETS = [
  { name: "tiny two-stream STIA", path: "examples/tiny_stia.net", batch: 8, turns: 30 },
  { name: "LeNet", path: "examples/lenet.net", batch: 32, turns: 60 },
  { name: "ResNet-50", path: "examples/resnet50.net", batch: 2, turns: 5 },
];

function take(result) {
  if (!("ok" in result)) throw new Error(result.diagnostics.map((d) => d.message).join("; "));
  return result.ok;
}

/** What the inputs of a step hold: a target of ones at every first class, small rates, all gates open. */
function fill(name, shape) {
  const length = shape.reduce((product, extent) => product * extent, 1);
  const value = (i) => {
    if (name === "step.target") return i % shape[1] === 0 ? 1 : 0;
    if (name === "step.rates") return i % 3 === 0 ? 1e-3 : 1;
    return name.startsWith("step.") ? 1 : Math.sin(i * 0.37);
  };
  return Float32Array.from({ length }, (_, i) => value(i));
}

async function open(program) {
  const runner = await openWasm(program);
  await runner.load((upload, into) => initialise(upload, program.seed, into));
  for (const { name, shape } of program.inputs) runner.write(name, fill(name, shape));
  return runner;
}

const macsOf = (program) => program.run.reduce((sum, step) => sum + step.macs, 0);

function summary(walls) {
  const sorted = [...walls].sort((a, b) => a - b);
  return { least: sorted[0], median: sorted[Math.floor(sorted.length / 2)] };
}

async function measure({ name, path, batch, turns }) {
  const source = { path, text: readFileSync(path, "utf8") };
  const { model, diagnostics } = elaborate(source, diskResolve(source, process.cwd()), {});
  if (model === undefined) throw new Error(`${path}: ${diagnostics.map((d) => d.message).join("; ")}`);
  const options = { target, sizes: new Map([["N", batch]]), seed: 1 };
  const inference = take(compile(model, options));
  const start = performance.now();
  const cpu = process.cpuUsage();
  const { program } = take(compileStep(model, STAGE, options));
  const compiled = performance.now() - start;
  const spent = process.cpuUsage(cpu);
  const runners = [await open(inference), await open(program)];
  const walls = [[], []];
  for (let turn = 0; turn < (quick ? 3 : turns); turn++) {
    for (const [i, runner] of runners.entries()) {
      const before = performance.now();
      await runner.run();
      walls[i].push(performance.now() - before);
    }
  }
  const report = await runners[1].read("step.report");
  if (!report.every(Number.isFinite)) throw new Error(`${name}: loss ${report[0]}, norm of the gradients ${report[1]}`);
  for (const runner of runners) runner.dispose();
  const [forward, step] = walls.map(summary);
  return {
    name,
    batch,
    compile: compiled,
    compileCpu: (spent.user + spent.system) / 1000,
    kernels: program.kernels.length,
    steps: program.run.length,
    forward,
    step,
    time: step.least / forward.least,
    macs: macsOf(program) / macsOf(inference),
    gflops: (2 * macsOf(program)) / step.least / 1e6,
  };
}

const rows = [];
for (const net of NETS) {
  const row = await measure(net);
  rows.push(row);
  if (json) continue;
  const ms = ({ least, median }) => `${least.toFixed(1)} ms (${median.toFixed(1)})`;
  console.log(
    `${`${row.name}, batch ${row.batch}`.padEnd(32)} forward ${ms(row.forward)}, step ${ms(row.step)}: ` +
      `${row.time.toFixed(2)} times as long, ${row.macs.toFixed(2)} times the multiply-adds, ` +
      `${row.gflops.toFixed(1)} GFLOP/s; compiled in ${row.compile.toFixed(0)} ms ` +
      `(${row.compileCpu.toFixed(0)} of processor), ${row.kernels} kernels, ${row.steps} steps`,
  );
}
if (json) console.log(JSON.stringify({ threads: target.threads, relaxedSimd: target.relaxedSimd, rows }, undefined, 1));
process.exit(0);
