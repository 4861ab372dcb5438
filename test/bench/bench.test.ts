/** The benchmark without its figures: the command line, checks of results, rows, ratios; and one tiny run. Times are never tested. */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, inject, test } from "vitest";
import { diskResolve, elaborate } from "../../runtime/index.ts";
import { entriesOf, median, parseArguments, ratiosOf, ratioTable, rowOf, tableOf } from "./results.mjs";
import { check, fill, readReferences, sampleOf, stepInput, trainOrder, WORKLOADS } from "./workloads.mjs";

const IDS = Object.keys(WORKLOADS);

describe("the command line", () => {
  test("has defaults", () => {
    expect(parseArguments([], IDS)).toEqual({
      quick: false,
      json: false,
      against: undefined,
      workloads: undefined,
      devices: ["wasm", "webgpu"],
      adapter: "swiftshader",
      rounds: 3,
    });
    expect(parseArguments(["--quick"], IDS)).toMatchObject({ quick: true, rounds: 1 });
  });
  test("takes lists, files and numbers", () => {
    const words = "--json --against a.json --workloads nonlocal,train_step --devices wasm --adapter system --rounds 2";
    expect(parseArguments(words.split(" "), IDS)).toMatchObject({
      json: true,
      against: "a.json",
      workloads: ["nonlocal", "train_step"],
      devices: ["wasm"],
      adapter: "system",
      rounds: 2,
    });
  });
  test.each([
    ["--fast", /no option `--fast`[^]*--quick/],
    ["--workloads vgg19", /no `vgg19`; choose from matmul_1024/],
    ["--devices cuda", /no `cuda`; choose from wasm, webgpu/],
    ["--devices ,", /choose from wasm, webgpu/],
    ["--rounds 0", /`0` is not a whole number/],
    ["--against", /wants a value/],
  ])("refuses %s", (words, message) => {
    expect(() => parseArguments(words.split(" "), IDS)).toThrow(message);
  });
});

describe("workloads", () => {
  test("there is a network for each, and one for every network", () => {
    const nets = readdirSync(new URL("./nets", import.meta.url)).sort();
    expect([...new Set(Object.values(WORKLOADS).map(({ net }) => net))].sort()).toEqual(nets);
  });
  test.each(Object.entries(WORKLOADS))(
    "%s: every parameter and input has numbers, and a reference is there",
    (id, { net, inputs, numbers, kind }) => {
      const source = { path: `test/bench/nets/${net}`, text: readFileSync(`test/bench/nets/${net}`, "utf8") };
      const { model, diagnostics } = elaborate(source, diskResolve(source, process.cwd()), { bind: new Map() });
      expect(diagnostics).toEqual([]);
      if (model === undefined) throw new Error("no model");
      const names = model.parameters.map(({ path, node }) => numbers?.(path, node.shape.map(Number))?.name);
      expect(names.every((name) => typeof name === "string")).toBe(true);
      // Only running statistics, which a training step begins afresh, share a name.
      const own = names.filter((name) => name !== "");
      expect(new Set(own).size).toBe(own.length);
      expect(model.graph.inputs.map((node) => node.attrs.name)).toEqual(Object.keys(inputs));
      expect(readReferences()[id]?.norm).toBeGreaterThan(0);
      if (kind !== "train") return;
      const trained = model.parameters.filter((parameter) => parameter.kind === "param").map(({ path }) => path);
      expect([...trainOrder()].sort()).toEqual([...trained].sort());
    },
  );
  test("numbers follow from name and place alone", () => {
    const whole = fill(new Float32Array(100), { name: "vgg.c0.w", scale: 0.5, offset: 1 });
    expect(fill(new Float32Array(40), { name: "vgg.c0.w", scale: 0.5, offset: 1 }, 60)).toEqual(whole.slice(60));
    expect(whole.every((value) => value >= 0.5 && value < 1.5)).toBe(true);
    // As the other libraries' benchmark makes them.
    expect([...fill(new Float32Array(3), { name: "mm1024.a" })]).toEqual([
      0.27904844284057617, 0.9100980758666992, 0.8232889175415039,
    ]);
  });
  test("the step's examples have the classes 0 to 5, in turn", () => {
    const target = stepInput("step.target", [8, 6]);
    expect(Array.from({ length: 8 }, (_, i) => target.slice(6 * i, 6 * i + 6).indexOf(1))).toEqual([
      0, 1, 2, 3, 4, 5, 0, 1,
    ]);
    expect(target.reduce((sum, value) => sum + value, 0)).toBe(8);
    expect([...stepInput("step.rates", [6])]).toEqual([Math.fround(0.05), 1, 1, Math.fround(0.05), 1, 1]);
  });
});

describe("a result", () => {
  const values = Array.from({ length: 5000 }, (_, i) => Math.sin(i));
  const reference = sampleOf(values);

  test("is kept as a sample and its norm", () => {
    expect(reference.length).toBe(5000);
    expect(reference.values).toHaveLength(1000);
    expect(reference.values[3]).toBe(Math.sin(15));
    expect(sampleOf([3, 4])).toEqual({ length: 2, norm: 5, values: [3, 4] });
  });
  test("passes where it is right", () => {
    expect(check("x", { values }, reference, 1e-6)).toEqual({ relative: 0, norm: 0 });
    expect(check("x", { values, loss: 2 }, { ...reference, loss: 2 }, 1e-6)).toEqual({ relative: 0, norm: 0, loss: 0 });
  });
  test.each([
    ["one number of the sample is off", values.map((value, i) => (i === 500 ? value + 1 : value)), "relative"],
    ["numbers beside the sample are off", values.map((value, i) => (i % 5 === 1 ? 0 : value)), "norm"],
    ["it is all zeros", values.map(() => 0), "relative"],
    ["a number is not finite", values.map((value, i) => (i === 1 ? Number.NaN : value)), "norm"],
  ])("fails where %s", (_, wrong, what) => {
    expect(() => check("x", { values: wrong }, reference, 1e-4)).toThrow(`x is wrong: its ${what} error`);
  });
  test("fails where its length or its loss is off", () => {
    expect(() => check("x", { values: [1] }, reference, 1)).toThrow("1 numbers instead of 5000");
    expect(() => check("x", { values, loss: 3 }, { ...reference, loss: 2 }, 1e-2)).toThrow("its loss error");
  });
});

describe("rows and ratios", () => {
  const sample = (ms: number) => ({
    device: "wasm, 2 threads",
    median: ms,
    least: ms - 1,
    runs: 5,
    cpu: 2 * ms,
    cold: 3 * ms,
    first: 100 * ms,
    compile: 5,
    open: 6,
    residentBytes: ms * 2 ** 20,
    deviceBytes: 1000,
    kernels: 2,
    dispatches: 3,
    macs: 500,
    bytes: 4e6,
    errors: { relative: 1e-7, norm: 1e-8 },
  });

  test("a row holds medians of rounds and the least of all", () => {
    expect(median([4, 1, 2, 3])).toBe(2.5);
    expect(rowOf("nonlocal", "wasm", 2e9, [sample(30), sample(10), sample(20)])).toMatchObject({
      workload: "nonlocal",
      device: "wasm",
      on: "wasm, 2 threads",
      ms: 20,
      least: 9,
      cpu: 20,
      cold: 60,
      first: 1000,
      gflops: 100,
      gbs: 0.2,
      kernels: 2,
      dispatches: 3,
      deviceBytes: 1000,
      residentBytes: 30 * 2 ** 20,
      rounds: 3,
      runs: 15,
    });
  });
  test("a round that fails makes the row fail", () => {
    const row = rowOf("nonlocal", "webgpu", 1, [sample(10), { failed: "no adapter" }]);
    expect(row).toEqual({ workload: "nonlocal", device: "webgpu", failed: "no adapter" });
    expect(tableOf([row])).toContain("failed: no adapter");
  });
  test("ratios are theirs by ours, to results of before", () => {
    const before = {
      rows: [rowOf("nonlocal", "wasm", 2e9, [sample(20)]), rowOf("nonlocal", "webgpu", 1, [{ failed: "x" }])],
    };
    const now = [rowOf("nonlocal", "wasm", 2e9, [sample(10)])];
    expect(ratiosOf(now, entriesOf(before))).toEqual([
      {
        workload: "nonlocal",
        device: "wasm",
        name: "before, wasm",
        ms: 2,
        least: 19 / 9,
        cpu: 2,
        first: 2,
        residentBytes: 2,
      },
    ]);
  });
  test("and to other libraries, each on its kind of device", () => {
    const others = {
      table: {
        nonlocal: {
          "ort-web-wasm": {
            ok: true,
            ms: 15,
            best_ms: 9,
            cpu_ms: 40,
            first_cold_ms: 3000,
            first_warm_ms: 2000,
            rss_mb: 20,
          },
          "tfjs-webgpu": { ok: true, ms: 150, best_ms: 90 },
          "jax-js-wasm": { ok: false, error: "wrong result" },
        },
        matmul_512: { "ort-web-wasm": { ok: true, ms: 1, best_ms: 1 } },
      },
    };
    const rows = [rowOf("nonlocal", "wasm", 2e9, [sample(10)]), rowOf("nonlocal", "webgpu", 2e9, [sample(100)])];
    const ratios = ratiosOf(rows, entriesOf(others));
    expect(ratios).toEqual([
      {
        workload: "nonlocal",
        device: "wasm",
        name: "ort-web-wasm",
        ms: 1.5,
        least: 1,
        cpu: 2,
        first: 2,
        residentBytes: 2,
      },
      { workload: "nonlocal", device: "webgpu", name: "tfjs-webgpu", ms: 1.5, least: 90 / 99 },
    ]);
    expect(ratioTable(ratios)).toMatch(/ort-web-wasm +1\.50× +1\.00× +2\.00× +2\.00× +2\.00×/);
  });
  test("other files are refused", () => {
    expect(() => entriesOf({})).toThrow("neither results of this benchmark");
  });
});

// Five processes, one of them on a software adapter: a minute on a machine that is busy with other things.
test("one tiny run prints checked rows as JSON", { timeout: 240_000 }, () => {
  expect(inject("buildFailure")).toBe("");
  const run = (...words: readonly string[]) =>
    spawnSync(process.execPath, ["test/bench/run.mjs", ...words], { encoding: "utf8" });
  const { stdout, status } = run("--quick", "--json", "--workloads", "conv_64x56,check");
  expect(status).toBe(0);
  const results = JSON.parse(stdout);
  expect(results).toMatchObject({ quick: true, adapter: "swiftshader", node: process.version });
  expect(Date.parse(results.date)).not.toBeNaN();
  const [wasm, webgpu, own] = results.rows;
  for (const [row, device] of [
    [wasm, "wasm"],
    [webgpu, "webgpu"],
  ]) {
    expect(row).toMatchObject({ workload: "conv_64x56", device, rounds: 1, macs: 115605504 });
    for (const name of [
      "ms",
      "least",
      "cpu",
      "cold",
      "first",
      "compile",
      "open",
      "gflops",
      "gbs",
      "kernels",
      "dispatches",
      "deviceBytes",
      "residentBytes",
      "runs",
    ])
      expect(row[name], name).toBeGreaterThan(0);
    expect(row.errors.relative).toBeLessThan(1e-5);
    expect(row.errors.relative).toBeGreaterThan(0);
  }
  expect(own).toMatchObject({ workload: "check", device: "netc" });
  expect(own.cpu).toBeGreaterThan(0);
  expect(run("--nonsense").status).toBe(2);
});
