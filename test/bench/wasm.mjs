/**
 * What each kernel of a program takes on one core: `node test/bench/wasm.mjs [examples/vgg16.net] [--plain]`.
 *
 * Runs the built package (dist/) step by step on this thread, on noise, and prints processor time (least of five), so
 * that figures hold on a machine that others use too. `--plain` leaves relaxed SIMD out. For profiling schedules; whole
 * runs on threads are timed by run.mjs.
 */
import { readFileSync } from "node:fs";
import { compile } from "../../dist/compiler/compile.js";
import { elaborate } from "../../dist/compiler/elaborate/elaborate.js";
import { diskResolve } from "../../dist/runtime/cli/sources.js";
import { wasmCapability } from "../../dist/runtime/engine/wasm/capability.js";
import { planAddresses } from "../../dist/runtime/engine/wasm/memory.js";
import { withKernelFlags } from "../../dist/runtime/engine/wasm/threads.js";

const ROUNDS = 5;
const path = process.argv.slice(2).find((argument) => !argument.startsWith("--")) ?? "examples/vgg16.net";
const source = { path, text: readFileSync(path, "utf8") };
const { model, diagnostics } = elaborate(source, diskResolve(source, process.cwd()), {});
if (model === undefined) throw new Error(diagnostics.map((d) => d.message).join("; "));
const capability = await wasmCapability();
const target = { ...capability, relaxedSimd: capability.relaxedSimd && !process.argv.includes("--plain") };
const compiled = compile(model, { target, sizes: new Map([["N", 1]]), seed: 1 });
if (!("ok" in compiled)) throw new Error(compiled.diagnostics.map((d) => d.message).join("; "));
const program = compiled.ok;

const plan = planAddresses(program, 1, target.maxMemory);
const memory = new WebAssembly.Memory({ initial: plan.pages, maximum: plan.pages, shared: true });
const floats = new Float32Array(memory.buffer);
for (let i = 0, x = 1; i < floats.length; i++) {
  x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
  floats[i] = (x / 2147483648 - 1) * 0.05;
}
const kernels = await withKernelFlags(() =>
  Promise.all(
    program.kernels.map(async ({ code }) => {
      const module = await WebAssembly.compile(code);
      return new WebAssembly.Instance(module, { env: { memory } }).exports.run;
    }),
  ),
);

function cpuMs() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function time(step) {
  const addresses = step.bindings.map((allocation) => plan.allocations[allocation]);
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) {
    const start = cpuMs();
    kernels[step.kernel](0, 1, plan.scratch[0], ...addresses);
    best = Math.min(best, cpuMs() - start);
  }
  return best;
}

function report(step, ms) {
  const rate =
    step.macs > 0 ? `${((2 * step.macs) / ms / 1e6).toFixed(1)} GFLOP/s` : `${(step.bytes / ms / 1e6).toFixed(1)} GB/s`;
  console.log(`${program.kernels[step.kernel].name.padEnd(48)} ${ms.toFixed(2).padStart(8)} ms ${rate.padStart(14)}`);
}

let total = 0;
for (const item of program.load) if (item.kind === "step") report(item.step, time(item.step));
for (const step of program.run) {
  const ms = time(step);
  total += ms;
  report(step, ms);
}
const macs = program.run.reduce((sum, step) => sum + step.macs, 0);
console.log(
  `${"one run, processor time".padEnd(48)} ${total.toFixed(2).padStart(8)} ms ${((2 * macs) / total / 1e6).toFixed(1).padStart(6)} GFLOP/s`,
);
