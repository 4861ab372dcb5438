/**
 * What tuning gains: `npm run build && node test/bench/tune.mjs [SECONDS] [wasm|swiftshader|webgpu] [WORKLOADS…]`.
 *
 * Each workload of the benchmark is compiled with the cost model's plans and forms and with those that were tried for so many
 * seconds (30 by default), into a book of its own; `webgpu` is this machine's own adapter. Passes of both take turns; printed
 * are processor times, the least of some, and what the tuner took. Of a training step only plans that give the same bits are
 * tried, of predictions any, and the forms of convolutions.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { initialise, openWasm, openWebGPU, wasmCapability } from "../../dist/runtime/engine/index.js";
import { compile, compileStep, diskResolve, elaborate, plainStage, probeWebGPU } from "../../dist/runtime/index.js";
import { TuningCompiler } from "../../dist/runtime/tune/compiler.js";
import { WORKLOADS } from "./workloads.mjs";

const [seconds = "30", device = "wasm", ...wanted] = process.argv.slice(2);
const names = wanted.length > 0 ? wanted : ["conv_64x56", "conv_256x28", "nonlocal", "resnet50_224", "train_step"];
const folder = mkdtempSync(join(tmpdir(), "netc-tune-"));

async function deviceOf() {
  if (device === "wasm") return { target: await wasmCapability(), open: openWasm };
  if (device === "swiftshader") (await import("../tools/swiftshader.mjs")).preloadSwiftShader();
  const { gpu, adapter } = await probeWebGPU();
  return { target: adapter.capability, open: (program) => openWebGPU(program, gpu) };
}

const { target, open } = await deviceOf();
const take = (made) => {
  if (!("ok" in made)) throw new Error(made.diagnostics.map(({ message }) => message).join("; "));
  return made.ok;
};

function noise(name, shape) {
  const length = shape.reduce((product, size) => product * size, 1);
  const value = (i) => {
    if (name === "step.target") return i % (shape[1] ?? 1) === 0 ? 1 : 0;
    if (name === "step.rates") return i % 3 === 0 ? 1e-4 : 1;
    return name.startsWith("step.") ? 1 : Math.sin(i * 0.37);
  };
  return Float32Array.from({ length }, (_, i) => value(i));
}

async function opened(program) {
  const runner = await open(program);
  await runner.load((upload, into) => initialise(upload, program.seed, into));
  for (const { name, shape } of program.inputs) runner.write(name, noise(name, shape));
  await runner.run();
  return runner;
}

console.log(
  "| workload | cost model, processor ms | tuned | | convolutions tried, changed | kernels | seconds |\n|---|---|---|---|---|---|---|",
);
for (const name of names) {
  const workload = WORKLOADS[name];
  const path = fileURLToPath(new URL(`./nets/${workload.net}`, import.meta.url));
  const source = { path, text: readFileSync(path, "utf8") };
  const { model } = elaborate(source, diskResolve(source, process.cwd()), { bind: new Map() });
  const options = { target, sizes: new Map([["N", workload.batch]]), seed: 0 };
  const train = workload.kind === "train";
  let report;
  const tuning = new TuningCompiler({
    target,
    open,
    seconds: Number(seconds),
    exact: train,
    folder,
    onTuned: (made) => {
      report = made;
    },
  });
  const of = async (compiler) =>
    train
      ? take(await compiler.compileStep(model, plainStage(model), options)).program
      : take(await compiler.compile(model, options));
  const plain = await opened(await of({ compile, compileStep }));
  const began = performance.now();
  const program = await of(tuning);
  const took = (performance.now() - began) / 1000;
  const tuned = await opened(program);
  const least = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  for (let run = 0, spent = 0; run < 40 && (run < 4 || spent < 8000); run++)
    for (const [i, runner] of [plain, tuned].entries()) {
      const before = process.cpuUsage();
      await runner.run();
      const { user, system } = process.cpuUsage(before);
      least[i] = Math.min(least[i], (user + system) / 1000);
      spent += (user + system) / 1000;
    }
  for (const runner of [plain, tuned]) runner.dispose();
  const [before, after] = least;
  const inWords = ({ open, decided, changed }) => (open === 0 ? "none" : `${decided} of ${open}, ${changed}`);
  const tried = report === undefined ? "none | none" : `${inWords(report.convolutions)} | ${inWords(report.kernels)}`;
  console.log(
    `| ${name} | ${before.toFixed(1)} | ${after.toFixed(1)} | ${(before / after).toFixed(2)}× | ${tried} | ${took.toFixed(1)} |`,
  );
}
rmSync(folder, { recursive: true, force: true });
process.exit(0);
