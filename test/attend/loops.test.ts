/** The loops of attention: as they are printed, and every check of the verifier on inner sums, on loops that break it. */
import { describe, expect, it } from "vitest";
import { add, axis, constant } from "../../compiler/loop/affine.ts";
import type { Kernel, Loops } from "../../compiler/loop/loops.ts";
import { lowerGraph } from "../../compiler/loop/lower.ts";
import { printKernel } from "../../compiler/loop/print.ts";
import { verifyLoops } from "../../compiler/loop/verify.ts";
import { binary, type Scalar } from "../../compiler/scalar.ts";
import { attentionNet } from "./nets.ts";

function sample(): Loops {
  return lowerGraph(attentionNet("attend", [2, 5, 7, 4, 4], 0.5), {
    panelWidth: 0,
    maxBufferBytes: 2 ** 31,
    fuse: true,
  });
}

function attentionIn(loops: Loops): readonly Kernel[] {
  return loops.run.filter(({ inner }) => inner !== undefined);
}

describe("what is printed", () => {
  it("are the inner sums, which the body reads", () => {
    const loops = sample();
    const text = attentionIn(loops).map((kernel) => printKernel(kernel, loops.buffers));
    expect(text[0]).toMatch(/kernel attend\S*\+log_sum: b0<2 row<5 e<4 \| key<7 {2}560 macs/);
    expect(text[0]).toContain("  x0 = sum((v0 * v1)) over c<4\n");
    expect(text[0]).toMatch(/ {2}s = attend\(\(x0 \* 0\.5\), v2\)\n/);
    expect(text[0]).toMatch(/log_sum\[b0, row\] = \(s \+ log\(s\.1\)\) {2}where 0 <= e < 1\n/);
    expect(text[2]).toMatch(/kernel key_grad\+value_grad: b0<2 key<7 e<4 \| row<5 {2}1,120 macs/);
    expect(text[2]).toContain("  x1 = sum((v2 * v3)) over d<4\n");
    expect(text[2]).toMatch(/s = sum2\(/);
  });
});

/** The loops with one of attention's kernels changed: 0 is forward, 1 by the queries, 2 by keys and values. */
function withKernel(number: number, change: (kernel: Kernel) => Partial<Kernel>): Loops {
  const loops = sample();
  const target = attentionIn(loops)[number];
  return { ...loops, run: loops.run.map((kernel) => (kernel === target ? { ...kernel, ...change(kernel) } : kernel)) };
}

const named = (kernel: Kernel, name: string): number => kernel.axes.findIndex((a) => a.name === name);
const value = (index: number): Scalar => ({ kind: "load", index });

describe("the verifier", () => {
  it("finds nothing in loops that are right", () => {
    expect(verifyLoops(sample())).toEqual([]);
  });
  const broken: readonly (readonly [string, () => Loops, RegExp])[] = [
    [
      "no inner sum at all",
      () => withKernel(0, () => ({ inner: [], body: [value(2), value(2)] })),
      /inner sums without a reduction|is not used/,
    ],
    [
      "a body that reads a sum that is not there",
      () => withKernel(0, (k) => ({ body: [{ kind: "state", index: 1 }, ...k.body.slice(1)] })),
      /there is no state 1 here/,
    ],
    [
      "an inner sum that reads another",
      () =>
        withKernel(1, (k) => ({
          inner: (k.inner ?? []).map((sum) => ({ ...sum, value: { kind: "state", index: 0 } })),
        })),
      /there is no state 0 here/,
    ],
    [
      "two sums over one axis",
      () => withKernel(1, (k) => ({ inner: (k.inner ?? []).map((sum) => ({ ...sum, axes: [named(k, "c")] })) })),
      /two inner sums share an axis/,
    ],
    [
      "a sum over an axis of the results",
      () => withKernel(0, (k) => ({ inner: (k.inner ?? []).map((sum) => ({ ...sum, axes: [named(k, "row")] })) })),
      /runs over an axis of the results/,
    ],
    [
      "a sum of something else than a product",
      () =>
        withKernel(0, (k) => ({
          inner: (k.inner ?? []).map((sum) => ({ ...sum, value: binary("add", value(0), value(1)) })),
        })),
      /no product of two loads/,
    ],
    [
      "a factor that does not run along the sum",
      () =>
        withKernel(0, (k) => ({
          inner: (k.inner ?? []).map((sum) => ({ ...sum, value: binary("mul", value(0), value(2)) })),
        })),
      /does not run along its axes/,
    ],
    [
      "a sum along the axis of another",
      () =>
        withKernel(1, (k) => ({
          loads: k.loads.map((load, i) =>
            i === 0 ? { ...load, index: load.index.map((e, d) => (d === 2 ? axis(named(k, "d")) : e)) } : load,
          ),
        })),
      /along an axis of another|does not run along/,
    ],
    [
      "a body along a sum's axis",
      () => withKernel(0, (k) => ({ body: [value(0), ...k.body.slice(1)] })),
      /the body runs along an axis of an inner sum/,
    ],
    [
      "a gathered value that is no load",
      () => withKernel(0, (k) => ({ body: [...k.body.slice(0, 1), binary("mul", value(2), value(2))] })),
      /what it sums is no weight times a load/,
    ],
    [
      "a store that leaves an axis out and is not held at one point of it",
      () => withKernel(0, (k) => ({ stores: k.stores.map((store) => ({ ...store, guards: [] })) })),
      /stores run over different axes/,
    ],
    [
      "a store that is held at the wrong point",
      () =>
        withKernel(0, (k) => ({
          stores: k.stores.map((store) => ({
            ...store,
            guards: store.guards.map((guard) => ({ ...guard, index: add(guard.index, constant(1)) })),
          })),
        })),
      /stores run over different axes/,
    ],
  ];
  for (const [name, loops, message] of broken) {
    it(name, () => {
      expect(verifyLoops(loops()).join("\n")).toMatch(message);
    });
  }
});
