/**
 * The gradient of every operator on WASM and on WebGPU, against the oracle. What belongs together is compiled into one
 * program: opening a device is what takes the time.
 */
import { describe, expect, it } from "vitest";
import { FLAT, GROUPS, graphOf, valuesOf, wantedOf } from "./cases.ts";
import { gradientOf } from "./check.ts";
import { checkOn, oracleOf } from "./devices.ts";

/** Single operators on small tensors: 1e-5 is what is seen at most. */
const TOLERANCE = 2e-5;

describe.each(Object.entries(GROUPS))("%s", { timeout: 120_000 }, (_, cases) => {
  const graph = graphOf(cases);
  const whole = gradientOf(graph, wantedOf(graph));
  const values = valuesOf(graph, 2);
  const wanted = oracleOf(whole, values);
  it("all have gradients", () => {
    for (const { name } of cases) {
      const passes = [...wanted.keys()].some((of) => of.startsWith(`gradient.${name}: `) && of.endsWith(".scale"));
      expect(passes, name).toBe(!FLAT.includes(name));
    }
    expect([...wanted.values()].every((data) => data.every(Number.isFinite))).toBe(true);
  });
  it("on WASM", async () => {
    await checkOn("wasm", whole, values, { wanted, tolerance: TOLERANCE });
  });
  it("on WebGPU", async () => {
    await checkOn("webgpu", whole, values, { wanted, tolerance: cases[0]?.wgslTolerance ?? TOLERANCE });
  });
});
