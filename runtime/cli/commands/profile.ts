/**
 * `netc profile`: where a pass of a model, or a training step, spends its time: every kernel with its rates and its share
 * of the device's roofline, which is measured first.
 *
 * Kernels are timed one after the other, each repeated on the same data: a sum of such times leaves out what a pass loses
 * or gains between kernels (caches, waiting), so the pass as a whole is timed too. Parameters are fresh and inputs noise.
 */
import { memoryUse } from "../../../compiler/memory.ts";
import type { Model } from "../../../compiler/model.ts";
import type { Program } from "../../../compiler/program.ts";
import { plainStage } from "../../../compiler/recipe/plain.ts";
import { initialise } from "../../engine/init.ts";
import { EngineError, type Runner } from "../../engine/runner.ts";
import { chooseTarget, type DeviceName, type Target } from "../devices.ts";
import { CommandError, EXIT, type ExitCode } from "../exit.ts";
import { printJson } from "../json.ts";
import { elaborateEntry, sizesOf, stage } from "../model.ts";
import { engineFailure, openRunner } from "../open.ts";
import { measureRoofline, type Roofline, roofOf, timeSteps, type Work } from "../roofline.ts";
import { openEntry } from "../sources.ts";
import { bytes, count, grouped, print, table } from "../terminal.ts";
import { compilerFor } from "../tune.ts";

export interface ProfileOptions {
  readonly device: DeviceName;
  readonly batch: number;
  readonly bind: readonly (readonly [string, number])[];
  readonly rounds: number;
  readonly train?: boolean;
  readonly tune?: number;
  readonly model?: string;
  readonly json?: boolean;
}

/** A kernel with all the dispatches of a pass that run it; times in ms. */
interface KernelProfile extends Work {
  readonly name: string;
  readonly layers: readonly string[];
  readonly dispatches: number;
  readonly ms: number;
  /** Of the time of all kernels. */
  readonly share: number;
  readonly gflops: number;
  readonly gbs: number;
  /** The roof's time as a share of `ms`: 1 is as fast as the device can be, by the bytes and multiply-adds there must be. */
  readonly roofline: number;
  readonly bound: "arithmetic" | "memory";
}

/** Whole passes, in ms. */
interface PassTimes {
  readonly median: number;
  readonly least: number;
  readonly runs: number;
}

/** What an input of a step or a pass holds while it is timed: classes, rates and gates that do something, else noise. */
function noise(name: string, shape: readonly number[]): Float32Array {
  const length = shape.reduce((product, size) => product * size, 1);
  const value = (i: number): number => {
    if (name === "step.target") return i % (shape[1] ?? 1) === 0 ? 1 : 0;
    if (name === "step.rates") return i % 3 === 0 ? 1e-4 : 1;
    return name.startsWith("step.") ? 1 : Math.sin(i * 0.37);
  };
  return Float32Array.from({ length }, (_, i) => value(i));
}

async function programOf(model: Model, options: ProfileOptions, target: Target): Promise<Program | undefined> {
  const reporting = { json: options.json === true };
  const compiling = { target: target.capability, sizes: sizesOf(model, options), seed: 0 };
  const say = (text: string): void => {
    if (!reporting.json) print(text);
  };
  const { compile, compileStep } = compilerFor(target, options, { exact: options.train === true, say });
  if (options.train !== true) return stage(await compile(model, compiling), reporting);
  return stage(await compileStep(model, plainStage(model), compiling), reporting)?.program;
}

async function timePasses(runner: Runner, rounds: number): Promise<PassTimes> {
  const times: number[] = [];
  for (let run = -2; run < rounds; run++) {
    const start = performance.now();
    await runner.run();
    if (run >= 0) times.push(performance.now() - start);
  }
  times.sort((a, b) => a - b);
  return { median: times[Math.floor(times.length / 2)] ?? 0, least: times[0] ?? 0, runs: times.length };
}

/** Kernels by time, longest first. `times` holds the ms of each step of the pass. */
function kernelProfiles(program: Program, times: readonly number[], roof: Roofline): readonly KernelProfile[] {
  const total = times.reduce((sum, ms) => sum + ms, 0);
  const profiles = program.kernels.flatMap(({ name }, kernel): KernelProfile[] => {
    const steps = program.run.flatMap((step, i) => (step.kernel === kernel ? [{ ...step, ms: times[i] ?? 0 }] : []));
    const [first] = steps;
    if (first === undefined) return [];
    const sum = (of: (step: (typeof steps)[number]) => number): number =>
      steps.reduce((added, step) => added + of(step), 0);
    const [ms, macs, moved] = [sum((step) => step.ms), sum((step) => step.macs), sum((step) => step.bytes)];
    return [
      {
        name,
        layers: [...new Set(steps.flatMap(({ layers }) => layers))],
        dispatches: steps.length,
        ms,
        share: ms / total,
        macs,
        bytes: moved,
        gflops: (2 * macs) / ms / 1e6,
        gbs: moved / ms / 1e6,
        roofline: sum((step) => roofOf(step, roof).ms) / ms,
        bound: roofOf(first, roof).bound,
      },
    ];
  });
  return profiles.sort((a, b) => b.ms - a.ms);
}

/** Kernels below this share of the time are only counted. */
const WORTH_A_LINE = 0.002;

function show(
  what: string,
  program: Program,
  device: string,
  roof: Roofline,
  pass: PassTimes,
  kernels: readonly KernelProfile[],
): void {
  const rates = roof.bandwidth.map(({ bytes: block, gbs }) => `${gbs.toFixed(1)} at ${bytes(block)}`).join(", ");
  print(`${what} on ${device}`);
  print(`roofline: ${roof.gflops.toFixed(1)} GFLOP/s; GB/s: ${rates}\n`);
  const shown = kernels.filter(({ share }) => share >= WORTH_A_LINE);
  print(
    table(
      ["kernel", "×", "ms", "share", "GFLOP/s", "GB/s", "roofline", "bound by"],
      shown.map((row) => [
        row.name,
        String(row.dispatches),
        row.ms.toFixed(3),
        `${(100 * row.share).toFixed(1)} %`,
        row.macs === 0 ? "" : row.gflops.toFixed(1),
        row.gbs.toFixed(1),
        `${(100 * row.roofline).toFixed(0)} %`,
        row.bound,
      ]),
      new Set([1, 2, 3, 4, 5, 6]),
    ),
  );
  const rest = kernels.slice(shown.length);
  if (rest.length > 0) print(`and ${count(rest.length, "kernel")} of less than ${100 * WORTH_A_LINE} % each`);
  const sum = kernels.reduce((added, { ms }) => added + ms, 0);
  const macs = program.run.reduce((added, step) => added + step.macs, 0);
  print(
    `\nall kernels: ${sum.toFixed(2)} ms; the pass: ${pass.median.toFixed(2)} ms (least ${pass.least.toFixed(2)}, ${pass.runs} runs), ${((2 * macs) / pass.median / 1e6).toFixed(1)} GFLOP/s`,
  );
  print(
    `${count(kernels.length, "kernel")}, ${grouped(program.run.length)} dispatches, ${(macs / 1e6).toFixed(1)} MMAC, ${bytes(memoryOf(program))} of memory`,
  );
}

function memoryOf(program: Program): number {
  const { parameters, optimizer, activations } = memoryUse(program);
  return parameters + optimizer + activations;
}

/** Times every kernel. @throws CommandError (exit 2) for the interpreter, (exit 3) where the device fails */
export async function profile(file: string, options: ProfileOptions): Promise<ExitCode> {
  if (options.device === "interp")
    throw new CommandError(EXIT.usage, "`--device interp` interprets loop nests and has no kernels to time", [
      "`--device wasm` or `--device webgpu`",
    ]);
  const model = elaborateEntry(openEntry(file), {
    model: options.model,
    bind: new Map(),
    json: options.json === true,
  });
  if (model === undefined) return EXIT.wrong;
  const target = await chooseTarget(options.device);
  if (target.device === "interp") throw new Error("internal: no interpreter was asked for");
  const program = await programOf(model, options, target);
  if (program === undefined) return EXIT.wrong;
  const open = (opened: Program): Promise<Runner> => openRunner(opened, target);
  let runner: Runner | undefined;
  try {
    const roof = await measureRoofline(target.capability, open);
    runner = await open(program);
    await runner.load((upload, into) => initialise(upload, program.seed, into));
    for (const { name, shape } of program.inputs) runner.write(name, noise(name, shape));
    const pass = await timePasses(runner, options.rounds);
    const times = await timeSteps(
      runner,
      program.run.map((_, i) => i),
      options.rounds,
    );
    const kernels = kernelProfiles(program, times, roof);
    const what = `${model.name}${options.train === true ? ", a training step" : ""}, batch ${options.batch}`;
    if (options.json !== true) show(what, program, runner.device, roof, pass, kernels);
    else
      printJson({
        model: model.name,
        train: options.train === true,
        device: runner.device,
        batch: options.batch,
        roofline: roof,
        pass,
        memory: memoryOf(program),
        dispatches: program.run.length,
        macs: program.run.reduce((sum, step) => sum + step.macs, 0),
        kernels,
      });
    return EXIT.ok;
  } catch (error) {
    throw error instanceof EngineError ? engineFailure(error) : error;
  } finally {
    runner?.dispose();
  }
}
