/**
 * Every plan that the cost model can choose, on any record, over odd shapes: what it computes is what the oracle says. Plans
 * run as L3 (test/tools/run-kernel.ts); that WGSL means the same is what the other tests of this folder show on a device.
 */
import { describe, expect, test } from "vitest";
import { WEBGPU_DEFAULT, type WebGPUCapability } from "../../compiler/capability.ts";
import type { KernelProgram, Stmt } from "../../compiler/kernel/ir.ts";
import { elementCount } from "../../compiler/loop/layout.ts";
import { lowerGraph } from "../../compiler/loop/lower.ts";
import { unary } from "../../compiler/scalar.ts";
import { gpuPlans } from "../../compiler/schedule/candidates.ts";
import type { Dispatch } from "../../compiler/schedule/dispatch.ts";
import type { Plan } from "../../compiler/schedule/plan.ts";
import { attentionNet, type Sizes } from "../attend/nets.ts";
import { RECORDS } from "../tools/capabilities.ts";
import { assertClose } from "../tools/compare.ts";
import { pairwise } from "../tools/pairwise.ts";
import { runKernel } from "../tools/run-kernel.ts";
import { SOFTWARE } from "../tools/webgpu.ts";
import { type Case, conv, inputsOf, matmul, runOracle } from "../wasm/kernels.ts";
import { elementwise, fused, maxPool, pointwise, reduction } from "./cases.ts";
import { schedule } from "./run.ts";

const ALL: readonly WebGPUCapability[] = [WEBGPU_DEFAULT, SOFTWARE, ...RECORDS];

/** Runs a case under every plan that any record can lead to; how many there are. */
function checkAll(c: Case): number {
  const values = inputsOf(c);
  const want = runOracle(c, values);
  const done = new Set<string>();
  const halves = c.buffers.some(({ dtype }) => dtype === "f16");
  for (const record of ALL.filter(({ f16 }) => f16 || !halves)) {
    for (const { plan } of gpuPlans(c.kernel, c.buffers, record)) {
      const words = JSON.stringify(plan);
      if (done.has(words)) continue;
      done.add(words);
      const { dispatches, scratch } = schedule(c, record, plan);
      // NaN where nothing may be read before it is written.
      const memory = [...c.buffers, ...scratch].map(
        (buffer) => values.get(buffer.id)?.slice() ?? new Float32Array(elementCount(buffer)).fill(Number.NaN),
      );
      try {
        for (const { program, buffers } of dispatches)
          runKernel(
            program,
            buffers.map((id) => memory[id] ?? new Float32Array()),
          );
        for (const id of c.outs) assertClose(memory[id] ?? [], want.get(id) ?? [], `${c.name}, buffer ${id}`);
      } catch (error) {
        throw new Error(`${record.name}: ${words}`, { cause: error });
      }
    }
  }
  return done.size;
}

describe("what runs them here", () => {
  const c = matmul(1, 20, 24, 40, "nn");
  const staged: Plan = { schedule: "contract", tile: [32, 32, 32], thread: [4, 4], stage: "workgroup", splitK: 1 };
  const [{ program, buffers }] = schedule(c, WEBGPU_DEFAULT, staged).dispatches as [Dispatch];
  const run = (changed: KernelProgram): void => {
    const values = inputsOf(c);
    const memory = buffers.map((id) => values.get(id)?.slice() ?? new Float32Array(20 * 24).fill(Number.NaN));
    runKernel(changed, memory);
    const out = memory[buffers.indexOf(2)];
    assertClose(out ?? [], runOracle(c, values).get(2) ?? [], "product");
  };
  /** The program with every statement of a kind left out, and every number in stores changed. */
  const without = (kind: "barrier" | "assign"): KernelProgram => {
    const strip = (body: readonly Stmt[]): readonly Stmt[] =>
      body
        .filter((s) => s.kind !== kind)
        .map((s) =>
          s.kind === "for"
            ? { ...s, body: strip(s.body) }
            : s.kind === "if"
              ? { ...s, then: strip(s.then), otherwise: strip(s.otherwise) }
              : s,
        );
    return { ...program, body: strip(program.body) };
  };
  test("tells a program with barriers from one without", () => {
    run(program);
    expect(() => run(without("barrier"))).toThrow(/relL2/);
    expect(() => run(without("assign"))).toThrow(/relL2/);
  });
  test("refuses a write outside of its array", () => {
    const small = program.args.map((a) => (a.access === "read" ? a : { ...a, size: 20 }));
    expect(() => run({ ...program, args: small })).toThrow(/is outside of 20 elements/);
  });
});

describe("contractions", () => {
  const products = pairwise({
    form: ["nn", "nt", "tn", "packed"] as const,
    m: [1, 3, 126],
    n: [1, 27, 125],
    k: [1, 27, 65],
    b: [1, 2],
  });
  test.each(products)("$form $b x $m x $n x $k", ({ form, b, m, n, k }) => {
    expect(checkAll(matmul(b, m, n, k, form))).toBeGreaterThan(0);
  });
  test.each([
    [1, 3, 4097],
    [3, 27, 625],
  ] as const)("%i x %i, %i deep, is split in many ways", (m, n, k) => {
    expect(checkAll(matmul(1, m, n, k, "nn"))).toBeGreaterThan(8);
  });
  const convolutions = pairwise({
    c: [1, 3, 12],
    o: [1, 3, 27],
    size: [5, 9],
    k: [1, 3],
    stride: [1, 2],
    pad: [0, 1],
    dilation: [1, 2],
    packed: [true, false],
  });
  test.each(convolutions)("conv $c to $o, $size, k $k, $stride $pad $dilation $packed", (p) => {
    checkAll(conv({ ...p, n: 2, h: p.size, w: p.size + 1, groups: 1 }, p.packed));
  });
  test("with a prologue and an epilogue", () => {
    checkAll(fused(2, 9, 12, 7));
    checkAll(fused(1, 27, 126, 40));
  });
});

describe("hardware for matrices", () => {
  /** A case with all inputs in halves. */
  const ofHalves = (c: Case): Case => ({
    ...c,
    name: `${c.name}, halves`,
    buffers: c.buffers.map((b) => (c.ins.includes(b.id) ? { ...b, dtype: "f16" } : b)),
  });
  /** A case with a right factor that is rounded. */
  const rounded = (c: Case): Case => {
    const body = c.kernel.body.map((s) => (s.kind === "binary" ? { ...s, right: unary("half", s.right) } : s));
    const buffers = c.buffers.map((b) => (b.id === 0 ? { ...b, dtype: "f16" as const } : b));
    return { ...c, name: `${c.name}, rounded`, buffers, kernel: { ...c.kernel, body } };
  };
  const shapesFor = (c: Case): readonly string[] => {
    const plans = RECORDS.flatMap((record) => gpuPlans(c.kernel, c.buffers, record).map(({ plan }) => plan));
    const found = plans.flatMap((plan) => (plan.schedule === "contract" && plan.matrix ? [plan.matrix.config] : []));
    return [...new Set(found.map(({ m, n, k, input }) => `${m}x${n}x${k} ${input}`))].sort();
  };
  test("multiplies halves where both factors are halves, else f32 where it can", () => {
    const c = matmul(1, 64, 64, 64, "nn");
    expect(shapesFor(c)).toEqual(["8x8x8 f32"]);
    for (const of of [ofHalves(c), rounded(c)]) expect(shapesFor(of)).toEqual(["16x16x16 f16", "8x16x16 f16"]);
    const half: Case = { ...c, buffers: c.buffers.map((b) => (b.id === 0 ? { ...b, dtype: "f16" } : b)) };
    expect(shapesFor(half)).toEqual(["8x8x8 f32"]);
  });
  test("serves large products of halves on a device that has it", () => {
    const { kernel, buffers } = ofHalves(matmul(1, 8192, 1024, 512, "nn"));
    const [first] = gpuPlans(kernel, buffers, ALL.find(({ name }) => name === "H200-like") ?? WEBGPU_DEFAULT);
    expect(first?.plan).toMatchObject({ tile: [128, 128, 32], matrix: { config: { m: 16, input: "f16" } } });
  });
  const products = pairwise({
    form: ["nn", "nt", "tn", "packed"] as const,
    m: [1, 33, 126],
    n: [3, 64, 125],
    k: [1, 48, 65],
    b: [1, 2],
  });
  test.each(products)("$form $b x $m x $n x $k", ({ form, b, m, n, k }) => {
    const c = matmul(b, m, n, k, form);
    expect(checkAll(ofHalves(c))).toBeGreaterThan(3);
    checkAll(rounded(c));
  });
  test("a convolution, and one with a prologue and an epilogue", () => {
    const geometry = { n: 2, h: 9, w: 10, c: 12, o: 27, k: 3, stride: 1, pad: 1, dilation: 1, groups: 1 };
    for (const packed of [true, false]) checkAll(ofHalves(conv(geometry, packed)));
    checkAll(ofHalves(conv({ ...geometry, stride: 2, c: 3 }, true)));
    checkAll(fused(1, 27, 126, 40));
  });
});

describe("reductions", () => {
  const reductions = pairwise({
    by: ["sum", "max", "min", "softmax", "argmax"] as const,
    a: [1, 3, 7],
    r: [2, 27, 625],
    b: [1, 3, 8],
  });
  test.each(reductions)("$by $a x $r x $b", ({ by, a, r, b }) => {
    expect(checkAll(reduction(by, a, r, b))).toBeGreaterThan(0);
  });
  test("of a long row", () => {
    expect(checkAll(reduction("softmax", 1, 4097, 1))).toBeGreaterThan(3);
  });
  test("over windows", () => {
    checkAll(maxPool(1, 8, 7, 3, 2, 1));
    checkAll(maxPool(2, 3, 6, 2, 2, 0));
  });
});

test("maps", () => {
  expect(checkAll(pointwise(3, 27, 126, { kind: "rows", order: [1, 0, 2] }))).toBeGreaterThan(2);
  expect(checkAll(elementwise([3, 5, 7]))).toBeGreaterThan(2);
});

describe("attention", () => {
  const SIZES: readonly Sizes[] = [
    [2, 13, 21, 5, 5],
    [1, 33, 27, 7, 12],
  ];
  test.each(SIZES.map((sizes) => [sizes.join(" "), sizes] as const))("%s", (_, sizes) => {
    const options = { panelWidth: 0, maxBufferBytes: 2 ** 31, fuse: true };
    const { run, buffers } = lowerGraph(attentionNet("attend", sizes, 0.5), options);
    for (const kernel of run.filter(({ inner }) => inner !== undefined)) {
      const [ins, outs] = [kernel.loads, kernel.stores].map((all) => [...new Set(all.map(({ buffer }) => buffer))]);
      expect(checkAll({ name: kernel.name, kernel, buffers, ins: ins ?? [], outs: outs ?? [] })).toBeGreaterThan(3);
    }
  });
});
