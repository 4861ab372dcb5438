/**
 * Benchmarks: `npm run bench [-- --json] [-- --quick]`. Figures for specs/performance.md, never for tests.
 *
 * Runs the built package (dist/), one case after the other in this process, and prints the median, the fastest and the
 * slowest run of each. Compilation is timed cold, the first time in the process, after the modules were loaded.
 */
import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import { scheduleLoops } from "../../dist/compiler/assemble.js";
import { WEBGPU_DEFAULT } from "../../dist/compiler/capability.js";
import { bindModel, compile, lowerModel } from "../../dist/compiler/compile.js";
import { elaborate } from "../../dist/compiler/elaborate/elaborate.js";
import { diskResolve } from "../../dist/runtime/cli/sources.js";
import { initialise } from "../../dist/runtime/engine/init.js";
import { wasmCapability } from "../../dist/runtime/engine/wasm/capability.js";
import { openWasm } from "../../dist/runtime/engine/wasm/runner.js";

const json = process.argv.includes("--json");
const quick = process.argv.includes("--quick");
const capability = await wasmCapability();
const { threads } = capability;
const batch = new Map([["N", 1]]);

function read(path) {
  const source = { path, text: readFileSync(path, "utf8") };
  const { model, diagnostics } = elaborate(source, diskResolve(source, process.cwd()), {});
  if (model === undefined) throw new Error(`${path}: ${diagnostics.map((d) => d.message).join("; ")}`);
  return model;
}

function take(result) {
  if (!("ok" in result)) throw new Error(result.diagnostics.map((d) => d.message).join("; "));
  return result.ok;
}

/** Milliseconds of `work`, by the wall and by the processor. */
async function timed(work) {
  const cpu = process.cpuUsage();
  const start = performance.now();
  const value = await work();
  const wall = performance.now() - start;
  const { user, system } = process.cpuUsage(cpu);
  return { value, wall, cpu: (user + system) / 1000 };
}

const results = [];
function record(name, walls, extra = {}) {
  const sorted = [...walls].sort((a, b) => a - b);
  const row = {
    name,
    median: sorted[Math.floor(sorted.length / 2)],
    best: sorted[0],
    worst: sorted.at(-1),
    runs: sorted.length,
    ...extra,
  };
  results.push(row);
  if (!json) {
    const rate = row.gflops === undefined ? "" : `  ${row.gflops.toFixed(1)} GFLOP/s`;
    console.log(
      `${name.padEnd(44)} ${row.median.toFixed(1).padStart(9)} ms  (${row.best.toFixed(1)} to ${row.worst.toFixed(1)}, ${row.runs} runs)${rate}`,
    );
  }
}

// ---- compiling the headline, cold: what a person waits for after start-up
const HEADLINE = "examples/headline.net";
const stages = {};
const front = await timed(() => read(HEADLINE));
stages.elaborate = front.wall;
const bound = await timed(() => take(bindModel(front.value, batch)));
const lowered = await timed(() => take(lowerModel(bound.value, WEBGPU_DEFAULT)));
stages.lower = lowered.wall;
const scheduled = await timed(() => scheduleLoops(lowered.value.loops, WEBGPU_DEFAULT));
stages.schedule = scheduled.wall;
const whole = front.wall + bound.wall + lowered.wall + scheduled.wall;
const processor = front.cpu + bound.cpu + lowered.cpu + scheduled.cpu;
record("headline: source to kernels, cold (WebGPU)", [whole], { cpu: processor, stages });
const again = [];
for (let run = 0; run < (quick ? 1 : 3); run++)
  again.push(
    (await timed(() => take(compile(read(HEADLINE), { target: WEBGPU_DEFAULT, sizes: batch, seed: 0 })))).wall,
  );
record("headline: source to program, warm (WebGPU)", again);

// ---- running on the CPU
async function forward(name, path, runs) {
  const model = read(path);
  const program = take(compile(model, { target: capability, sizes: batch, seed: 0 }));
  const runner = await openWasm(program);
  await runner.load((upload, into) => initialise(upload, program.seed, into));
  for (const { name: input, shape } of program.inputs) {
    const size = shape.reduce((product, extent) => product * extent, 1);
    runner.write(
      input,
      Float32Array.from({ length: size }, (_, i) => Math.sin(i * 0.37)),
    );
  }
  const [output] = program.outputs;
  await runner.run();
  const first = await runner.read(output.name);
  if (!first.every(Number.isFinite)) throw new Error(`${name}: the output is not finite`);
  const walls = [];
  for (let run = 0; run < runs; run++) walls.push((await timed(() => runner.run())).wall);
  const last = await runner.read(output.name);
  if (!last.every((value, i) => value === first[i])) throw new Error(`${name}: two runs gave different outputs`);
  runner.dispose();
  const macs = program.run.reduce((sum, step) => sum + step.macs, 0);
  const median = [...walls].sort((a, b) => a - b)[Math.floor(walls.length / 2)];
  record(name, walls, { macs, gflops: (2 * macs) / median / 1e6 });
}

await forward(`tiny two-stream STIA, wasm, ${threads} threads`, "examples/tiny_stia.net", quick ? 5 : 20);
await forward(`VGG16 at 224, batch 1, wasm, ${threads} threads`, "examples/vgg16.net", quick ? 3 : 9);
await forward(`ResNet-50 at 224, batch 1, wasm, ${threads} threads`, "examples/resnet50.net", quick ? 3 : 9);
if (!quick) await forward(`headline at 224, batch 1, wasm, ${threads} threads`, HEADLINE, 5);

if (json)
  console.log(
    JSON.stringify(
      {
        date: new Date().toISOString().slice(0, 10),
        node: process.version,
        cpu: cpus()[0]?.model,
        threads,
        relaxedSimd: capability.relaxedSimd,
        results,
      },
      undefined,
      1,
    ),
  );
process.exit(0);
