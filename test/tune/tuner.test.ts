/**
 * The tuner on WASM threads and on a device of paper, whose clock the test holds: what may win, what is kept, and what a
 * damaged book, a device that fails or a time that is over do.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { KernelReuse, kernelHash } from "../../compiler/assemble.ts";
import { type Capability, WASM_DEFAULT } from "../../compiler/capability.ts";
import { compile } from "../../compiler/compile.ts";
import type { Program } from "../../compiler/program.ts";
import { plainStage } from "../../compiler/recipe/plain.ts";
import { candidatesFor, heaviestFirst } from "../../compiler/trial.ts";
import { EngineError, type Runner } from "../../runtime/engine/runner.ts";
import { openWasm } from "../../runtime/engine/wasm/runner.ts";
import { PlanBook } from "../../runtime/tune/book.ts";
import { TuningCompiler } from "../../runtime/tune/compiler.ts";
import { type TuneJob, tuneKernels } from "../../runtime/tune/tuner.ts";
import {
  bound,
  modelOf,
  namedInputs,
  namedParameters,
  programOf,
  runOnce,
  stagedOk,
  weightsFrom,
} from "../tools/nets.ts";
import { SOFTWARE } from "../tools/webgpu.ts";
import { paper, paperTime } from "./paper.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "netc-plans-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const TEXT = `model Net(x: f32[N, 8, 24, 24]) -> f32[N, 10] =
  Conv(32, k=3) @a -> ReLU -> Conv(64, k=3) @b -> ReLU -> GlobalAvgPool -> Linear(10) @fc`;
const model = bound(modelOf(TEXT));
const later = (seconds: number): number => performance.now() + 1000 * seconds;
function jobFor(target: Capability, job: Partial<TuneJob> & Pick<TuneJob, "open">): TuneJob {
  const reuse = new KernelReuse(target);
  stagedOk(compile(model, { target, sizes: new Map(), seed: 7, reuse }));
  const exact = job.exact ?? false;
  return {
    reuse,
    book: new PlanBook(target, { folder, exact }),
    exact,
    until: paperTime() + 1e6,
    clock: paperTime,
    ...job,
  };
}

/** The plan that was chosen for the kernel that needs the longest, by its place among the candidates. */
function heaviest({ reuse, book }: TuneJob): number | undefined {
  const [kernel] = heaviestFirst(reuse);
  if (kernel === undefined) throw new Error("no kernel");
  const plan = book.plans.get(kernelHash(kernel));
  return plan === undefined
    ? undefined
    : candidatesFor(kernel, reuse.target).findIndex((candidate) => JSON.stringify(candidate.plan) === plan);
}

describe("what wins", () => {
  test("the fastest candidate, if it is right", async () => {
    const job = jobFor(SOFTWARE, { open: paper({ ms: (step) => (step === 2 ? 1 : 2) }) });
    const report = await tuneKernels(job);
    expect(report.changed).toBeGreaterThan(0);
    expect(report.after).toBeLessThan(report.before);
    expect(heaviest(job)).toBe(2);
  });
  test("not one that computes something else", async () => {
    const job = jobFor(SOFTWARE, {
      open: paper({ ms: (step) => (step === 2 ? 1 : 2), value: (step) => (step === 2 ? 1.01 : 1) }),
    });
    await tuneKernels(job);
    expect(heaviest(job)).toBe(0);
  });
  test("not one that computes nothing, or what is no number", async () => {
    const job = jobFor(SOFTWARE, {
      open: paper({ ms: (step) => (step === 2 ? 1 : 2), value: (step) => (step === 2 ? Number.NaN : 1) }),
    });
    await tuneKernels(job);
    expect(heaviest(job)).toBe(0);
  });
  test("one that rounds differently, unless results must be equal to the bit", async () => {
    const open = paper({ ms: (step) => (step === 1 ? 1 : 2), value: (step) => (step === 1 ? 1 + 2 ** -22 : 1) });
    const free = jobFor(SOFTWARE, { open });
    await tuneKernels(free);
    expect(heaviest(free)).toBe(1);
    const exact = jobFor(SOFTWARE, { open, exact: true });
    await tuneKernels(exact);
    expect(heaviest(exact)).toBe(0);
  });
  test("plan 0, where nothing is faster by more than clocks err", async () => {
    const job = jobFor(SOFTWARE, { open: paper({ ms: (step) => (step === 1 ? 1.99 : 2) }) });
    const report = await tuneKernels(job);
    expect(report).toMatchObject({ changed: 0 });
    expect(heaviest(job)).toBe(0);
  });
  test("plan 0, where the device fails", async () => {
    const open = (): Promise<Runner> => Promise.reject(new EngineError({ kind: "failed", what: "no" }));
    const job = jobFor(SOFTWARE, { open });
    expect(await tuneKernels(job)).toMatchObject({ decided: 0, changed: 0 });
    expect(heaviest(job)).toBeUndefined();
  });
});

describe("time", () => {
  test("is kept, also where a device never answers", async () => {
    const open = (): Promise<Runner> => new Promise(() => {});
    const began = performance.now();
    const report = await tuneKernels(jobFor(SOFTWARE, { open, until: later(0.2), clock: () => performance.now() }));
    expect(report).toMatchObject({ decided: 0 });
    expect(performance.now() - began).toBeLessThan(2000);
  });
  test("without any nothing is opened, and what the book holds is used", async () => {
    const opened: Program[] = [];
    const target = SOFTWARE;
    const first = jobFor(target, { open: paper({ ms: (step) => (step === 2 ? 1 : 2), opened }) });
    await tuneKernels(first);
    expect(first.book.save()).toBe(true);
    const known = opened.length;
    const tuned = new TuningCompiler({
      target,
      open: paper({ ms: () => 1, opened }),
      seconds: 0,
      exact: false,
      folder,
    });
    const program = stagedOk(await tuned.compile(model, { target, sizes: new Map(), seed: 7 }));
    expect(opened.length).toBe(known);
    expect(program.kernels).not.toEqual(programOf(model, target).kernels);
    // The same as if it had been tuned now.
    expect(program.kernels).toEqual(
      stagedOk(compile(model, { target, sizes: new Map(), seed: 7, reuse: first.reuse })).kernels,
    );
  });
});

describe("the book", () => {
  const finding = { plan: "{}", ms: [2, 1] } as const;
  const hash = "ab".repeat(32);
  test("is read again, and joins what others have written", () => {
    const [one, two] = [
      new PlanBook(WASM_DEFAULT, { folder, exact: true }),
      new PlanBook(WASM_DEFAULT, { folder, exact: true }),
    ];
    one.set(hash, finding);
    expect(one.save()).toBe(true);
    two.set("cd".repeat(32), finding);
    two.save();
    const again = new PlanBook(WASM_DEFAULT, { folder, exact: true });
    expect([...again.plans.keys()].sort()).toEqual([hash, "cd".repeat(32)]);
    expect(readdirSync(folder)).toHaveLength(1);
  });
  test("is another one for another device, and for results that need not be equal", () => {
    const paths = [
      new PlanBook(WASM_DEFAULT, { folder, exact: true }),
      new PlanBook(WASM_DEFAULT, { folder, exact: false }),
      new PlanBook({ ...WASM_DEFAULT, threads: 7 }, { folder, exact: true }),
      new PlanBook(SOFTWARE, { folder, exact: true }),
    ].map(({ path }) => path);
    expect(new Set(paths).size).toBe(4);
  });
  test.each([
    ["cut short", '{"format":"netc-plans","kernels":{"'],
    ["empty", ""],
    ["something else", "[1, 2, 3]"],
    ["null", "null"],
    [
      "with nonsense in it",
      JSON.stringify({ kernels: { [hash]: 3, nonsense: finding, ["cd".repeat(32)]: { plan: 4, ms: [] } } }),
    ],
  ])("counts as blank where it is %s", (_, text) => {
    const { path } = new PlanBook(WASM_DEFAULT, { folder, exact: true });
    writeFileSync(path, text);
    const damaged = new PlanBook(WASM_DEFAULT, { folder, exact: true });
    expect(damaged.plans.size).toBe(0);
    damaged.set(hash, finding);
    expect(damaged.save()).toBe(true);
    expect(new PlanBook(WASM_DEFAULT, { folder, exact: true }).has(hash)).toBe(true);
  });
  test("a plan that the kernel could not have is not followed", () => {
    const plain = programOf(model, WASM_DEFAULT);
    const reuse = new KernelReuse(WASM_DEFAULT);
    stagedOk(compile(model, { target: WASM_DEFAULT, sizes: new Map(), seed: 7, reuse }));
    for (const kernel of heaviestFirst(reuse)) reuse.choose(kernel, '{"kind":"contract","plan":{"rows":4,"tileM":-1}}');
    expect(stagedOk(compile(model, { target: WASM_DEFAULT, sizes: new Map(), seed: 7, reuse })).kernels).toEqual(
      plain.kernels,
    );
  });
  test("where nothing can be written, tuning works all the same", async () => {
    const file = join(folder, "file");
    writeFileSync(file, "");
    const target = WASM_DEFAULT;
    const tuned = new TuningCompiler({
      target,
      open: paper({ ms: () => 1 }),
      seconds: 1,
      exact: true,
      folder: join(file, "in"),
    });
    expect(stagedOk(await tuned.compile(model, { target, sizes: new Map(), seed: 7 })).kernels.length).toBeGreaterThan(
      0,
    );
    expect(existsSync(join(file, "in"))).toBe(false);
  });
});

describe("on WASM threads", () => {
  test("a tuned model predicts what the plain one does, bit for bit where it must", { timeout: 60_000 }, async () => {
    const target = WASM_DEFAULT;
    const [inputs, parameters] = [namedInputs(model.graph), namedParameters(model)];
    const result = async (program: Program): Promise<Float32Array> => {
      const outputs = await runOnce(await openWasm(program), inputs, weightsFrom(parameters));
      return [...outputs.values()][0] ?? new Float32Array();
    };
    const plain = await result(programOf(model, target));
    for (const exact of [true, false]) {
      let decided = 0;
      const tuned = new TuningCompiler({
        target,
        open: openWasm,
        seconds: 6,
        exact,
        folder,
        onTuned: (report) => {
          decided += report.kernels.decided;
        },
      });
      const got = await result(stagedOk(await tuned.compile(model, { target, sizes: new Map(), seed: 7 })));
      expect(decided).toBeGreaterThan(0);
      for (const [i, value] of got.entries()) expect(value).toBeCloseTo(plain[i] ?? Number.NaN, 4);
      if (exact) expect(got).toEqual(plain);
    }
    expect(readdirSync(folder)).toHaveLength(2);
    for (const name of readdirSync(folder))
      expect(() => JSON.parse(readFileSync(join(folder, name), "utf8"))).not.toThrow();
  });
  test("the kernels of a training step can be tried, in-place updates and halves among them", {
    timeout: 60_000,
  }, async () => {
    const target = WASM_DEFAULT;
    const tuned = new TuningCompiler({ target, open: openWasm, seconds: 4, exact: true, folder });
    const stage = plainStage(model);
    const { program } = stagedOk(
      await tuned.compileStep(model, stage, {
        target,
        sizes: new Map(),
        seed: 7,
        precision: { kind: "mixed", lossScale: 1024 },
      }),
    );
    expect(program.state.length).toBeGreaterThan(0);
  });
});
