/**
 * Compiles examples/headline.net from its source to a program for the default WebGPU record, cold and warm, in a process of
 * its own: `node test/bench/compile.mjs`. Prints one JSON value; times in ms, by the wall and by the processor.
 */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const { compile, diskResolve, elaborate, WEBGPU_DEFAULT } = await import("../../dist/runtime/index.js");
const path = fileURLToPath(new URL("../../examples/headline.net", import.meta.url));

function once() {
  const cpu = process.cpuUsage();
  const start = performance.now();
  const source = { path, text: readFileSync(path, "utf8") };
  const { model } = elaborate(source, diskResolve(source, process.cwd()), { bind: new Map() });
  const made = compile(model, { target: WEBGPU_DEFAULT, sizes: new Map([["N", 1]]), seed: 0 });
  if (!("ok" in made)) throw new Error(made.diagnostics.map(({ message }) => message).join("; "));
  const { user, system } = process.cpuUsage(cpu);
  return { ms: performance.now() - start, cpu: (user + system) / 1000, kernels: made.ok.kernels.length };
}

const cold = once();
const warm = [once(), once(), once()].sort((a, b) => a.ms - b.ms);
console.log(
  JSON.stringify({
    ms: warm[1].ms,
    cpu: Math.min(...warm.map(({ cpu }) => cpu)),
    cold: cold.ms,
    coldCpu: cold.cpu,
    kernels: cold.kernels,
    residentBytes: process.resourceUsage().maxRSS * 1024,
  }),
);
