/**
 * One workload on one device in a process of its own: `node test/bench/child.mjs REQUEST`, where REQUEST is JSON with
 * `workload`, `device` (`wasm` or `webgpu`), `adapter`, `warmMs`, `timedMs`, `leastRuns`, and `started`, the time at
 * which the parent started this process. Prints one JSON value.
 *
 * The first result is checked, then runs are timed after a warm-up, for V8 swaps its optimised code in late, and the last
 * result is checked again. It uses the built package as anybody would.
 */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { check, fill, inventingMs, numbersOf, readReferences, stepInput, trainOrder, WORKLOADS } from "./workloads.mjs";

const request = JSON.parse(process.argv[2]);
const { workload: id, device } = request;
const workload = WORKLOADS[id];
const reference = readReferences()[id];
const product = (shape) => shape.reduce((all, size) => all * size, 1);

const { compile, compileStep, diskResolve, elaborate, plainStage, probeWebGPU } = await import(
  "../../dist/runtime/index.js"
);
const { openWasm, openWebGPU, wasmCapability } = await import("../../dist/runtime/engine/index.js");

function take(result) {
  if (!("ok" in result)) throw new Error(result.diagnostics.map(({ message }) => message).join("; "));
  return result.ok;
}

/** The device's record, and how to open a program on it. */
async function openDevice() {
  if (device === "wasm") return { target: await wasmCapability(), open: openWasm };
  if (request.adapter === "swiftshader") (await import("../tools/swiftshader.mjs")).preloadSwiftShader();
  const { gpu, adapter, reason } = await probeWebGPU();
  if (gpu === undefined || adapter === undefined) throw new Error(`no WebGPU adapter: ${reason}`);
  return { target: adapter.capability, open: (program) => openWebGPU(program, gpu) };
}

function compileFor(target) {
  const path = fileURLToPath(new URL(`./nets/${workload.net}`, import.meta.url));
  const source = { path, text: readFileSync(path, "utf8") };
  const { model, diagnostics } = elaborate(source, diskResolve(source, process.cwd()), { bind: new Map() });
  if (model === undefined) throw new Error(diagnostics.map(({ message }) => message).join("; "));
  const options = { target, sizes: new Map([["N", workload.batch]]), seed: 0 };
  if (workload.kind === "forward") {
    // Rates are by the multiply-adds of the network as it is written, however its convolutions are computed.
    const macs = () => macsOf(take(compile(model, { ...options, convolution: "direct" })));
    return { model, program: take(compile(model, options)), macs };
  }
  const program = take(compileStep(model, { ...plainStage(model), rate: 0.05 }, options)).program;
  return { model, program, macs: () => macsOf(program) };
}

const macsOf = (program) => program.run.reduce((all, step) => all + step.macs, 0);

/** Parameters by name; what belongs to the optimizer starts at zero. */
function weights({ path, shape, rows }, into) {
  if (path.includes("/")) into.fill(0);
  else fill(into, workload.numbers(path, shape), (rows?.start ?? 0) * product(shape.slice(1)));
}

const { target, open } = await openDevice();
const compiling = performance.now();
const { model, program, macs } = compileFor(target);
const compileMs = performance.now() - compiling;
const opening = performance.now();
const runner = await open(program);
const openMs = performance.now() - opening;
await runner.load(weights);

const inputs = program.inputs.map(({ name, shape }) => {
  const made = workload.inputs[name];
  return [name, made === undefined ? stepInput(name, shape) : numbersOf({ name: made }, shape)];
});
const upload = () => {
  for (const [name, values] of inputs) runner.write(name, values);
};
const output = workload.kind === "train" ? "step.report" : program.outputs[0].name;

/** What a run gives, as its reference lists it; `before` are the parameters that a step began with. */
async function result(before) {
  const read = await runner.read(output);
  if (workload.kind === "forward") return { values: read };
  const added = [];
  for (const [path, old] of before) {
    const now = await runner.readState(path);
    for (let i = 0; i < old.length; i++) added.push(now[i] - old[i]);
  }
  return { values: added, loss: read[0] };
}

/** Parameters as they start. */
function startingParameters() {
  const shapes = new Map(model.parameters.map(({ path, node }) => [path, node.shape.map(Number)]));
  return trainOrder().map((path) => {
    const shape = shapes.get(path);
    return [path, numbersOf(workload.numbers(path, shape), shape)];
  });
}

upload();
const firstRun = performance.now();
await runner.run();
await runner.read(output);
const coldMs = performance.now() - firstRun;
const firstMs = Date.now() - request.started - inventingMs();
let errors = check(id, await result(workload.kind === "train" ? startingParameters() : []), reference, workload.limit);

async function once() {
  const start = performance.now();
  if (workload.transfer) upload();
  await runner.run();
  if (workload.transfer) await runner.read(output);
  return performance.now() - start;
}

const warmUntil = performance.now() + request.warmMs;
for (let last = coldMs, runs = 0; last < request.warmMs && (runs < 2 || performance.now() < warmUntil); runs++)
  last = await once();
const times = [];
const cpu = process.cpuUsage();
for (let spent = 0; times.length < request.leastRuns || spent < request.timedMs; spent += times.at(-1))
  times.push(await once());
const { user, system } = process.cpuUsage(cpu);

if (workload.kind === "train") {
  // The state has moved on: the same first step again, from the same start.
  await runner.load(weights);
  upload();
  await runner.run();
}
const again = check(id, await result(workload.kind === "train" ? startingParameters() : []), reference, workload.limit);
errors = Object.fromEntries(Object.entries(errors).map(([what, error]) => [what, Math.max(error, again[what])]));

const sorted = [...times].sort((a, b) => a - b);
process.stdout.write(
  JSON.stringify({
    device: runner.device,
    median: sorted[Math.floor(sorted.length / 2)],
    least: sorted[0],
    runs: times.length,
    cpu: (user + system) / 1000 / times.length,
    cold: coldMs,
    first: firstMs,
    compile: compileMs,
    open: openMs,
    residentBytes: process.resourceUsage().maxRSS * 1024,
    deviceBytes: program.allocations.reduce((all, { bytes }) => all + bytes, 0),
    kernels: new Set(program.run.map(({ kernel }) => kernel)).size,
    dispatches: program.run.length,
    macs: macs(),
    bytes: program.run.reduce((all, step) => all + step.bytes, 0),
    errors,
  }),
  () => process.exit(0),
);
