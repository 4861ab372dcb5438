/** `netc profile`: what it prints and refuses, and the roofline it compares kernels with. Times are never tested. */
import { describe, expect, test } from "vitest";
import { measureRoofline, roofOf } from "../../runtime/cli/roofline.ts";
import { probeWebGPU } from "../../runtime/engine/devices.ts";
import { wasmCapability } from "../../runtime/engine/wasm/capability.ts";
import { openWasm } from "../../runtime/engine/wasm/runner.ts";
import { openWebGPU } from "../../runtime/engine/webgpu.ts";
import { preloadSwiftShader } from "../tools/swiftshader.mjs";
import { netc, playground, words } from "./command.ts";

const { at, write } = playground();
write(
  "net.net",
  "model Small(x: f32[N, 3, 16, 16]) = Conv(8) @conv1 -> BatchNorm @bn1 -> ReLU -> GlobalAvgPool -> Linear(4) @fc\n",
);
write("wrong.net", "model Wrong(x: f32[N, 3, 16, 16]) = Konv(8)\n");

interface Kernel {
  readonly name: string;
  readonly layers: readonly string[];
  readonly dispatches: number;
  readonly ms: number;
  readonly share: number;
  readonly macs: number;
  readonly bytes: number;
  readonly gflops: number;
  readonly gbs: number;
  readonly roofline: number;
  readonly bound: string;
}

interface Profile {
  readonly model: string;
  readonly train: boolean;
  readonly batch: number;
  readonly roofline: { readonly gflops: number; readonly bandwidth: readonly { bytes: number; gbs: number }[] };
  readonly pass: { readonly median: number; readonly least: number; readonly runs: number };
  readonly memory: number;
  readonly dispatches: number;
  readonly macs: number;
  readonly kernels: readonly Kernel[];
}

async function profile(...more: readonly string[]): Promise<Profile> {
  const ran = await netc(["profile", "net.net", "--device", "wasm", "--rounds", "1", "--json", ...more], { cwd: at });
  expect(ran.stderr).toBe("");
  expect(ran.code).toBe(0);
  const value: { readonly ok: boolean; readonly result: Profile } = JSON.parse(ran.stdout);
  expect(value.ok).toBe(true);
  return value.result;
}

describe.concurrent("netc profile", () => {
  test("gives every kernel of a pass as JSON, longest first", async () => {
    const result = await profile("--batch", "2");
    expect(result).toMatchObject({ model: "Small", train: false, batch: 2 });
    const { kernels } = result;
    expect(kernels.reduce((sum, { dispatches }) => sum + dispatches, 0)).toBe(result.dispatches);
    expect(kernels.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 6);
    expect(kernels.map(({ ms }) => ms)).toEqual(kernels.map(({ ms }) => ms).sort((a, b) => b - a));
    // 3·3·3·8 multiply-adds at 16·16 places and 8·4 in the head, for two examples.
    expect(result.macs).toBe(2 * (27 * 8 * 256 + 32));
    expect(kernels.reduce((sum, { macs }) => sum + macs, 0)).toBe(result.macs);
    expect(kernels.some(({ layers }) => layers.some((layer) => layer.includes("conv1")))).toBe(true);
    for (const { ms, bytes, gflops, gbs, macs, roofline, bound } of kernels) {
      expect(bytes).toBeGreaterThan(0);
      expect(gflops).toBeCloseTo((2 * macs) / ms / 1e6, 6);
      expect(gbs).toBeCloseTo(bytes / ms / 1e6, 6);
      expect(roofline).toBeGreaterThan(0);
      expect(["arithmetic", "memory"]).toContain(bound);
    }
    expect(result.pass.runs).toBe(1);
    expect(result.pass.least).toBeLessThanOrEqual(result.pass.median);
    expect(result.memory).toBeGreaterThan(0);
    expect(result.roofline.gflops).toBeGreaterThan(0);
    expect(result.roofline.bandwidth.map(({ bytes }) => bytes)).toEqual([2 ** 17, 2 ** 20, 2 ** 23, 2 ** 26]);
  });

  test("times a training step, which does about three times the work", async () => {
    const [pass, step] = [await profile(), await profile("--train")];
    expect(step.train).toBe(true);
    expect(step.macs).toBeGreaterThan(1.5 * pass.macs);
    expect(step.kernels.length).toBeGreaterThan(pass.kernels.length);
    expect(step.kernels.some(({ name }) => name.startsWith("momentum"))).toBe(true);
  });

  test("prints a table with the device and its roofline", async () => {
    const ran = await netc(["profile", "net.net", "--device", "wasm", "--rounds", "1"], { cwd: at });
    expect(ran.stderr).toBe("");
    expect(ran.stdout).toMatch(/^Small, batch 1 on wasm, \d+ threads?\nroofline: \d+\.\d GFLOP\/s; GB\/s: /);
    expect(ran.stdout).toMatch(/\nkernel +× +ms +share +GFLOP\/s +GB\/s +roofline +bound by\n/);
    expect(ran.stdout).toMatch(/\nall kernels: \S+ ms; the pass: \S+ ms \(least \S+, 1 runs\), \S+ GFLOP\/s\n/);
  });

  test("refuses the interpreter, and models that are wrong", async () => {
    const interp = await netc(["profile", "net.net", "--device", "interp"], { cwd: at });
    expect(interp.code).toBe(2);
    expect(words(interp)).toMatch(/^error: `--device interp` interprets loop nests/);
    const wrong = await netc(["profile", "wrong.net", "--device", "wasm"], { cwd: at });
    expect(wrong.code).toBe(1);
    const rounds = await netc(["profile", "net.net", "--rounds", "0"], { cwd: at });
    expect(rounds.code).toBe(2);
  });
});

describe("a roof", () => {
  const roof = {
    gflops: 10,
    bandwidth: [
      { bytes: 1000, gbs: 4 },
      { bytes: 1_000_000, gbs: 2 },
    ],
  };
  test("is the longer of what multiply-adds and bytes take", () => {
    expect(roofOf({ macs: 5e6, bytes: 1000 }, roof)).toEqual({ ms: 1, bound: "arithmetic" });
    expect(roofOf({ macs: 0, bytes: 1000 }, roof)).toEqual({ ms: 1000 / 4e6, bound: "memory" });
  });
  test("takes the rate of the next larger block, and of the largest beyond it", () => {
    expect(roofOf({ macs: 0, bytes: 1001 }, roof).ms).toBeCloseTo(1001 / 2e6, 12);
    expect(roofOf({ macs: 0, bytes: 8e6 }, roof).ms).toBeCloseTo(4, 12);
  });
  test("is measured on WASM, with and without relaxed SIMD, and on an adapter", async () => {
    const wasm = await wasmCapability();
    preloadSwiftShader();
    const { gpu, adapter } = await probeWebGPU();
    if (gpu === undefined || adapter === undefined) throw new Error("no software adapter");
    for (const measured of [
      await measureRoofline(wasm, openWasm),
      await measureRoofline({ ...wasm, relaxedSimd: false, threads: 1 }, openWasm),
      await measureRoofline(adapter.capability, (program) => openWebGPU(program, gpu)),
    ]) {
      expect(measured.gflops).toBeGreaterThan(0.01);
      expect(measured.gflops).toBeLessThan(1e6);
      for (const { gbs } of measured.bandwidth) expect(gbs).toBeGreaterThan(0);
    }
  });
});
