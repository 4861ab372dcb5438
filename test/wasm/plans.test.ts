/**
 * Kernels on the CPU under every plan that they could have, not only the chosen one: right against the oracle, and the
 * same numbers, bit for bit, under plans that say that they add up in the same order.
 */
import { describe, expect, test } from "vitest";
import { WASM_DEFAULT } from "../../compiler/capability.ts";
import { lowerGraph } from "../../compiler/loop/lower.ts";
import { cpuPlans } from "../../compiler/schedule/candidates.ts";
import { attentionNet, type Sizes } from "../attend/nets.ts";
import { fused } from "../schedule/cases.ts";
import { pairwise } from "../tools/pairwise.ts";
import { against, type Case, conv, inputsOf, matmul, runOracle, runWasm } from "./kernels.ts";

/** Runs a case under all of its plans; how many there are. */
function checkAll(c: Case, threads: number): number {
  const values = inputsOf(c);
  const want = runOracle(c, values);
  const plans = cpuPlans(c.kernel, c.buffers, { ...WASM_DEFAULT, threads });
  const first = new Map<string, ReadonlyMap<number, Float32Array>>();
  for (const { plan, order } of plans) {
    const got = runWasm(c, values, threads, 64, plan);
    const { relL2, max } = against(c, got, want);
    expect({ plan, right: relL2 < 1e-5 && max < 1e-4 }).toEqual({ plan, right: true });
    const same = first.get(order) ?? got;
    first.set(order, same);
    const equal = c.outs.every((id) => Buffer.compare(bytesOf(got.get(id)), bytesOf(same.get(id))) === 0);
    expect({ plan, order, equal }).toEqual({ plan, order, equal: true });
  }
  return plans.length;
}

function bytesOf(values: Float32Array = new Float32Array()): Buffer {
  return Buffer.from(values.buffer, values.byteOffset, values.byteLength);
}

describe("contractions", () => {
  const MATMULS = [
    [1, 1, 1, 4097],
    [1, 1, 4097, 27],
    [1, 4097, 1, 3],
    [1, 126, 27, 625],
    [3, 27, 126, 3],
    [1, 3, 3, 4097],
    [2, 2, 625, 126],
    [1, 126, 4097, 3],
    [1, 625, 126, 27],
  ] as const;
  test.each(
    MATMULS.flatMap(([b, m, n, k]) =>
      (["nn", "nt", "tn", "packed"] as const).map((form, i) => [matmul(b, m, n, k, form), 1 + (i % 2)] as const),
    ).map(([c, threads]) => [c.name, c, threads] as const),
  )("%s", (_, c, threads) => {
    // Whatever is no contraction (a single row by a single column) has no tiles.
    expect(checkAll(c, threads)).toBeGreaterThanOrEqual(0);
  });

  const pairs = pairwise({
    n: [1, 3],
    size: [3, 9, 27],
    perGroup: [1, 3, 27],
    outPerGroup: [1, 8, 27],
    groups: [1, 2],
    k: [1, 3],
    stride: [1, 2],
    pad: [0, 1],
    packed: [true, false],
    threads: [1, 2],
  });
  test.each(pairs)("convolution $n $size $perGroup $outPerGroup $groups $k $stride $pad $packed $threads", (p) => {
    const shape = { ...p, h: p.size, w: p.size + 1, c: p.perGroup * p.groups, o: p.outPerGroup * p.groups };
    checkAll(conv({ ...shape, dilation: 1, pad: Math.max(p.pad, p.k - p.size) }, p.packed), p.threads);
  });

  test("with a prologue and an epilogue", () => {
    expect(checkAll(fused(2, 27, 126, 40), 2)).toBeGreaterThan(4);
  });

  test("a large product has many plans, the first of them the rules' own", () => {
    const c = matmul(1, 126, 4097, 625, "packed");
    const plans = cpuPlans(c.kernel, c.buffers, WASM_DEFAULT);
    expect(plans.length).toBeGreaterThan(20);
    expect(new Set(plans.map(({ plan }) => JSON.stringify(plan))).size).toBe(plans.length);
    const costs = plans.slice(1).map(({ cost }) => cost);
    expect(costs).toEqual([...costs].sort((a, b) => a - b));
  });
});

describe("attention", () => {
  const SIZES: readonly Sizes[] = [
    [2, 13, 21, 5, 5],
    [1, 126, 27, 8, 8],
    [3, 9, 125, 12, 4],
    [1, 300, 200, 7, 30],
  ];
  test.each(SIZES.map((sizes) => [sizes.join(" "), sizes] as const))("%s", (_, sizes) => {
    const options = { panelWidth: 8, maxBufferBytes: 2 ** 31, fuse: true };
    const { run, buffers } = lowerGraph(attentionNet("attend", sizes, 0.5), options);
    for (const kernel of run.filter(({ inner }) => inner !== undefined)) {
      const [ins, outs] = [kernel.loads, kernel.stores].map((all) => [...new Set(all.map(({ buffer }) => buffer))]);
      const c: Case = { name: kernel.name, kernel, buffers, ins: ins ?? [], outs: outs ?? [] };
      expect(checkAll(c, 2)).toBeGreaterThan(1);
    }
  });
});
