/**
 * Forms of convolutions tried on a device of paper and on WASM threads: which is taken, what does not count, and what stays
 * unknown.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Capability, WASM_DEFAULT, WEBGPU_DEFAULT } from "../../compiler/capability.ts";
import { compile, convolutionsOf } from "../../compiler/compile.ts";
import type { ConvolutionSite, FormTimes } from "../../compiler/graph/convolution.ts";
import type { Program } from "../../compiler/program.ts";
import { convolutionTrial } from "../../compiler/trial.ts";
import { EngineError, type Runner } from "../../runtime/engine/runner.ts";
import { openWasm } from "../../runtime/engine/wasm/runner.ts";
import { PlanBook } from "../../runtime/tune/book.ts";
import { type TuneReport, TuningCompiler } from "../../runtime/tune/compiler.ts";
import { type ConvolutionJob, tuneConvolutions } from "../../runtime/tune/convolutions.ts";
import { modelOf, namedInputs, namedParameters, programOf, runOnce, stagedOk, weightsFrom } from "../tools/nets.ts";
import { SOFTWARE } from "../tools/webgpu.ts";
import { paper, paperTime } from "./paper.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "netc-forms-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const TEXT = `model Net(x: f32[N, 4, 20, 20]) -> f32[N, 10] =
  Conv(32, k=3) @a -> ReLU -> Conv(32, k=3) @b -> ReLU -> Conv(32, k=3) @c -> ReLU -> GlobalAvgPool -> Linear(10) @fc`;
const model = modelOf(TEXT, { N: 1 });

/** The form in which a program for WebGPU has its convolutions: told by the elements of a transformed tile. */
function formIn({ kernels }: Program): "direct" | "winograd 2" | "winograd 4" {
  const text = kernels
    .map(({ code }) => (typeof code === "string" ? code : ""))
    .find((code) => /winograd_input\[[^\]]*\] = /.test(code));
  if (text === undefined) return "direct";
  const stores = text.match(/winograd_input\[[^\]]*\] = /g)?.length;
  if (stores !== 16 && stores !== 36) throw new Error(`a tile of ${stores}`);
  return stores === 16 ? "winograd 2" : "winograd 4";
}

function jobFor(job: Partial<ConvolutionJob> & Pick<ConvolutionJob, "open">): ConvolutionJob {
  const target = SOFTWARE;
  const book = new PlanBook(target, { folder, exact: false });
  const convolutions = convolutionsOf(model, target);
  return { convolutions, target, book, until: paperTime() + 1e6, clock: paperTime, ...job };
}

const timesIn = ({ convolutions, book }: ConvolutionJob): readonly (FormTimes | undefined)[] =>
  convolutions.map(({ site }) => book.formTimes(site));

const twice = <T>(value: T): readonly T[] => [value, value];

test("a model's convolutions are tried once for each kind, those first that multiply the most", () => {
  const found = convolutionsOf(model, SOFTWARE);
  expect(found.map(({ site: { channels, filters }, expected }) => ({ channels, filters, expected }))).toEqual([
    { channels: 32, filters: 32, expected: "direct" },
    { channels: 4, filters: 32, expected: "direct" },
  ]);
  expect(found.map(({ forms }) => forms.length)).toEqual([3, 3]);
});

describe("what is found", () => {
  test("is what each form takes, without the steps around it, and all are closed again", async () => {
    const opened: Program[] = [];
    const disposed: Program[] = [];
    const job = jobFor({ open: paper({ ms: () => 1, opened, disposed }) });
    expect(await tuneConvolutions(job)).toMatchObject({ open: 2, decided: 2, changed: 0 });
    // One product; a transform, products, and a transform.
    expect(timesIn(job)).toEqual(twice({ direct: 1, "winograd 2": 3, "winograd 4": 3 }));
    expect(opened.map(formIn)).toEqual(twice(["direct", "winograd 2", "winograd 4"]).flat());
    expect(new Set(disposed)).toEqual(new Set(opened));
  });
  test("is nothing of a form that computes something else", async () => {
    const value = (_: number, program: Program): number => (formIn(program) === "winograd 4" ? 1.01 : 1);
    const job = jobFor({ open: paper({ ms: () => 1, value }) });
    await tuneConvolutions(job);
    expect(timesIn(job)).toEqual(twice({ direct: 1, "winograd 2": 3 }));
  });
  test("is nothing where the device fails", async () => {
    const open = (): Promise<Runner> => Promise.reject(new EngineError({ kind: "failed", what: "no" }));
    const job = jobFor({ open });
    expect(await tuneConvolutions(job)).toMatchObject({ open: 2, decided: 0 });
    expect(timesIn(job)).toEqual([undefined, undefined]);
  });
  test("is nothing where the time is over, also of a device that never answers", async () => {
    const opened: Program[] = [];
    const over = jobFor({ open: paper({ ms: () => 1, opened }), until: paperTime() });
    expect(await tuneConvolutions(over)).toMatchObject({ open: 2, decided: 0 });
    expect(opened).toEqual([]);
    const began = performance.now();
    const clock = (): number => performance.now();
    const silent = jobFor({ open: () => new Promise(() => {}), until: clock() + 200, clock });
    expect(await tuneConvolutions(silent)).toMatchObject({ decided: 0 });
    expect(performance.now() - began).toBeLessThan(2000);
  });
  test("is found once", async () => {
    const job = jobFor({ open: paper({ ms: () => 1 }) });
    await tuneConvolutions(job);
    expect(job.book.save()).toBe(true);
    const again = jobFor({ open: paper({ ms: () => 2 }) });
    expect(await tuneConvolutions(again)).toMatchObject({ open: 0 });
    expect(timesIn(again)).toEqual(timesIn(job));
  });
});

describe("a compiler that tunes", () => {
  const compiled = async (
    how: { readonly seconds: number; readonly exact: boolean; readonly ms: (program: Program) => number },
    target: Capability = SOFTWARE,
  ): Promise<{ readonly program: Program; readonly report: TuneReport | undefined }> => {
    let report: TuneReport | undefined;
    const { seconds, exact, ms } = how;
    const onTuned = (made: TuneReport): void => {
      report = made;
    };
    const open = paper({ ms: (_, program) => ms(program) });
    const tuned = new TuningCompiler({ target, open, seconds, exact, folder, onTuned, clock: paperTime });
    return { program: stagedOk(await tuned.compile(model, { target, sizes: new Map(), seed: 7 })), report };
  };
  /** Of tiles of 4×4 nine steps take what one of the direct form does. */
  const four = (program: Program): number => (formIn(program) === "winograd 4" ? 1 : 9);

  test("takes the fastest form from then on", async () => {
    const first = await compiled({ seconds: 60, exact: false, ms: four });
    expect(first.report?.convolutions).toMatchObject({ open: 2, decided: 2, changed: 2, before: 18, after: 6 });
    const want = stagedOk(compile(model, { target: SOFTWARE, sizes: new Map(), seed: 7, convolution: "winograd 4" }));
    expect(first.program.kernels).toEqual(want.kernels);
    const known = await compiled({ seconds: 0, exact: false, ms: four });
    expect(known.report).toBeUndefined();
    expect(known.program.kernels).toEqual(want.kernels);
  });
  test("tries none where results must be equal to the bit", async () => {
    await compiled({ seconds: 60, exact: false, ms: four });
    const { program, report } = await compiled({ seconds: 60, exact: true, ms: four });
    expect(report?.convolutions.open).toBe(0);
    expect(formIn(program)).toBe("direct");
  });
  test("on the CPU, what was timed counts more than what was expected", async () => {
    expect(programOf(model, WASM_DEFAULT).kernels.some(({ name }) => name.includes("winograd"))).toBe(true);
    const direct = (program: Program): number =>
      program.kernels.some(({ name }) => name.includes("winograd")) ? 9 : 1;
    const { program } = await compiled({ seconds: 60, exact: false, ms: direct }, WASM_DEFAULT);
    expect(program.kernels.some(({ name }) => name.includes("winograd"))).toBe(false);
  });
});

describe("the book", () => {
  const site: ConvolutionSite = { layer: "a", images: 1, channels: 8, filters: 16, size: [9, 7] };
  test("knows times by sizes, not by layers", () => {
    const book = new PlanBook(WASM_DEFAULT, { folder, exact: false });
    book.setFormTimes(site, { direct: 2, "winograd 4": 1 });
    book.save();
    const again = new PlanBook(WASM_DEFAULT, { folder, exact: false });
    expect(again.formTimes({ ...site, layer: "b" })).toEqual({ direct: 2, "winograd 4": 1 });
    expect(again.formTimes({ ...site, images: 2 })).toBeUndefined();
  });
  test.each([
    ["a negative time", { direct: -1 }],
    ["text", { direct: "1", "winograd 2": 1 }],
    ["nothing of the direct form", { "winograd 2": 1 }],
    ["no object", 3],
  ])("does not believe %s", (_, times) => {
    const { path } = new PlanBook(WASM_DEFAULT, { folder, exact: false });
    writeFileSync(path, JSON.stringify({ convolutions: { "1 8 16 9 7": times, nonsense: { direct: 1 } } }));
    expect(new PlanBook(WASM_DEFAULT, { folder, exact: false }).formTimes(site)).toBeUndefined();
  });
  test("leaves out what is no form", () => {
    const { path } = new PlanBook(WASM_DEFAULT, { folder, exact: false });
    writeFileSync(path, JSON.stringify({ convolutions: { "1 8 16 9 7": { direct: 2, other: 1 } } }));
    expect(new PlanBook(WASM_DEFAULT, { folder, exact: false }).formTimes(site)).toEqual({ direct: 2 });
  });
});

describe("on WASM threads", { timeout: 60_000 }, () => {
  test("all forms are right, and are timed", async () => {
    const job = jobFor({
      open: openWasm,
      target: WASM_DEFAULT,
      until: performance.now() + 30_000,
      clock: () => performance.now(),
    });
    expect(await tuneConvolutions(job)).toMatchObject({ open: 2, decided: 2 });
    for (const times of timesIn(job)) {
      expect(Object.keys(times ?? {})).toEqual(["direct", "winograd 2", "winograd 4"]);
      for (const ms of Object.values(times ?? {})) expect(ms).toBeGreaterThan(0);
    }
  });
  test("a model in the forms of a book predicts what it does in others", async () => {
    const [inputs, parameters] = [namedInputs(model.graph), namedParameters(model)];
    const result = async (form: "direct" | "winograd 2" | "winograd 4"): Promise<Float32Array> => {
      const book = new PlanBook(WASM_DEFAULT, { folder, exact: false });
      for (const { site } of convolutionsOf(model, WASM_DEFAULT)) book.setFormTimes(site, { direct: 2, [form]: 1 });
      book.save();
      const compiler = new TuningCompiler({ target: WASM_DEFAULT, open: openWasm, seconds: 0, exact: false, folder });
      const made = stagedOk(await compiler.compile(model, { target: WASM_DEFAULT, sizes: new Map(), seed: 7 }));
      const outputs = await runOnce(await openWasm(made), inputs, weightsFrom(parameters));
      return [...outputs.values()][0] ?? new Float32Array();
    };
    const direct = await result("direct");
    expect(direct.length).toBe(10);
    for (const form of ["winograd 2", "winograd 4"] as const) {
      const other = await result(form);
      expect(other).not.toEqual(direct);
      for (const [i, value] of other.entries()) expect(value).toBeCloseTo(direct[i] ?? Number.NaN, 5);
    }
  });
});

test("a trial is the convolution in its form, from and to images that lie as they do in a network", () => {
  const site: ConvolutionSite = { layer: "a", images: 2, channels: 8, filters: 16, size: [9, 7] };
  for (const target of [WASM_DEFAULT, WEBGPU_DEFAULT]) {
    const steps = (["direct", "winograd 2", "winograd 4"] as const).map((form) => {
      const { program, steps: own } = convolutionTrial(site, form, target);
      expect(program.inputs.map(({ shape }) => shape)).toEqual([[2, 4, 9, 7]]);
      expect(program.outputs.map(({ shape }) => shape)).toEqual([[2, 4, 9, 7]]);
      // One behind another, and something before and behind them.
      expect(own.every((step, i) => step === (own[0] ?? 0) + i && step > 0 && step < program.run.length - 1)).toBe(
        true,
      );
      return own.length;
    });
    expect(steps).toEqual([1, 3, 3]);
  }
});
