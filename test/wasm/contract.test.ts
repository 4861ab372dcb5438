/**
 * Contractions on the CPU against the oracle, over odd shapes.
 */
import { describe, expect, it } from "vitest";
import { elementCount } from "../../compiler/loop/layout.ts";
import { assertClose } from "../tools/compare.ts";
import { pairwise } from "../tools/pairwise.ts";
import { check, conv, matmul, noise, runWasm } from "./kernels.ts";

const base = { n: 1, c: 3, h: 9, w: 7, o: 5, k: 3, stride: 1, pad: 1, dilation: 1, groups: 1 };

const CONVS = [
  base,
  { ...base, c: 8, o: 16 },
  { ...base, c: 27, o: 8, stride: 2 },
  { ...base, c: 126, o: 9, k: 1, pad: 0 },
  { ...base, n: 3, c: 12, o: 27, dilation: 2, pad: 2 },
  { ...base, c: 12, o: 24, groups: 3 },
  { ...base, c: 4, o: 126, k: 2, pad: 0, stride: 3 },
  { ...base, c: 625, o: 3 },
  { ...base, c: 1, o: 1, h: 126, w: 27 },
  { ...base, n: 2, c: 64, o: 40, h: 12, w: 12 },
  { ...base, c: 5, o: 625, h: 3, w: 3 },
];

describe.each([1, 2])("%s threads", (threads) => {
  it.each(CONVS.flatMap((shape) => [conv(shape), conv(shape, false)]))("$name", (c) => {
    const { relL2, max } = check(c, threads);
    expect(relL2).toBeLessThan(1e-5);
    expect(max).toBeLessThan(1e-4);
  });

  const MATMULS = [
    [1, 1, 1, 4097],
    [1, 1, 4097, 27],
    [1, 4097, 1, 3],
    [1, 126, 27, 625],
    [3, 27, 126, 3],
    [1, 3, 3, 4097],
    [1, 4097, 27, 27],
    [2, 2, 625, 126],
    [1, 625, 3, 126],
    [27, 3, 1, 27],
    [1, 126, 4097, 3],
    [1, 4, 8, 4],
    [2, 27, 27, 1],
    [1, 1, 126, 1],
    [1, 1, 24, 10000],
  ] as const;
  it.each(
    MATMULS.flatMap(([b, m, n, k]) => (["nn", "nt", "tn", "packed"] as const).map((form) => matmul(b, m, n, k, form))),
  )("$name", (c) => {
    const { relL2, max } = check(c, threads);
    expect(relL2).toBeLessThan(1e-5);
    expect(max).toBeLessThan(1e-4);
  });
});

const PAIRS = pairwise({
  n: [1, 3],
  size: [3, 9, 27],
  perGroup: [1, 3, 8, 27],
  outPerGroup: [1, 3, 8, 27],
  groups: [1, 2],
  k: [1, 2, 3],
  stride: [1, 2],
  pad: [0, 1, 2],
  dilation: [1, 2],
  packed: [true, false],
  threads: [1, 2, 7],
});

it.each(PAIRS)("convolution $n $size $perGroup $outPerGroup $groups $k $stride $pad $dilation $threads", (p) => {
  const pad = Math.max(p.pad, p.dilation * (p.k - 1) + 1 - p.size);
  const c = p.perGroup * p.groups;
  const o = p.outPerGroup * p.groups;
  const { relL2, max } = check(conv({ ...p, h: p.size, w: p.size + 1, c, o, pad }, p.packed), p.threads);
  expect(relL2).toBeLessThan(1e-5);
  expect(max).toBeLessThan(1e-4);
});

it.each(["packed", "nn"] as const)("arrays may lie across 2 GiB (%s)", (form) => {
  const c = matmul(1, 27, 126, 625, form);
  const values = new Map(
    c.ins.map((id) => [id, noise(c.buffers[id] === undefined ? 0 : elementCount(c.buffers[id]), id)]),
  );
  const want = runWasm(c, values, 1).get(2) ?? [];
  // The right factor takes 312 KiB and lies behind the left one (66 KiB) and scratch memory.
  for (const before of [100_000, 200_000, 300_000, 400_000]) {
    assertClose(runWasm(c, values, 1, 2 ** 31 - Math.floor(before / 64) * 64).get(2) ?? [], want, `${before}`, 1e-7);
  }
});
