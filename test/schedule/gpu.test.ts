/**
 * GPU schedules against the oracle: odd shapes and varied plans in pairwise covering sets, on SwiftShader; and every
 * program, for GPUs too, through Dawn's validator.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WEBGPU_DEFAULT } from "../../compiler/capability.ts";
import { constantOf } from "../../compiler/kernel/build.ts";
import type { Expr } from "../../compiler/kernel/ir.ts";
import { kernelClass } from "../../compiler/loop/contraction.ts";
import { flatten } from "../../compiler/schedule/flat.ts";
import { type ContractPlan, choosePlan, contractPlans, type Plan } from "../../compiler/schedule/plan.ts";
import { pairwise } from "../tools/pairwise.ts";
import { nullDevice, pipelineOf, SOFTWARE, softwareDevice } from "../tools/webgpu.ts";
import { type Case, conv, matmul } from "../wasm/kernels.ts";
import { elementwise, fused, maxPool, pointwise, reduction } from "./cases.ts";
import { checkCase, schedule } from "./run.ts";

let validator: GPUDevice;
let device: GPUDevice;
beforeAll(async () => {
  validator = await nullDevice();
  device = await softwareDevice();
});
afterAll(() => {
  device.destroy();
  validator.destroy();
});

/** The case computes what the oracle says, with the given plan or the compiler's; the plan for GPUs is valid. */
async function check(c: Case, plan?: Plan): Promise<void> {
  await checkCase(device, c, schedule(c, SOFTWARE, plan));
  for (const { program } of schedule(c, WEBGPU_DEFAULT).dispatches) await pipelineOf(validator, program);
}

const contract = (
  tile: ContractPlan["tile"],
  thread: ContractPlan["thread"],
  stage: ContractPlan["stage"],
  splitK = 1,
): Plan => ({
  schedule: "contract",
  tile,
  thread,
  stage,
  splitK,
});

// Small tiles, for SwiftShader's sake; nothing in the generator knows sizes.
const CONTRACT_PLANS: readonly (Plan | undefined)[] = [
  undefined,
  contract([8, 16, 8], [4, 4], "workgroup"),
  contract([16, 8, 4], [4, 8], "workgroup", 3),
  contract([1, 16, 16], [1, 4], "registers", 2),
  contract([6, 8, 12], [2, 4], "registers"),
  contract([16, 16, 8], [8, 8], "workgroup"),
  // SwiftShader's subgroups are of four.
  contract([8, 16, 4], [8, 4], "subgroup"),
  contract([4, 32, 8], [4, 8], "subgroup", 2),
  contract([8, 16, 1], [8, 4], "subgroup"),
];

describe("contract", () => {
  const products = pairwise({
    form: ["nn", "nt", "tn", "packed"] as const,
    m: [1, 3, 27, 126],
    n: [1, 3, 8, 125],
    k: [1, 5, 27, 128],
    b: [1, 2],
    plan: CONTRACT_PLANS,
  });
  test.each(
    products.map(
      (p, i) => [`${i}: ${p.form} ${p.b}x${p.m}x${p.n}x${p.k} plan ${CONTRACT_PLANS.indexOf(p.plan)}`, p] as const,
    ),
  )("%s", async (_, { form, b, m, n, k, plan }) => {
    const c = matmul(b, m, n, k, form);
    const { kind } = kernelClass(c.kernel, c.buffers);
    await check(c, kind === "contract" ? plan : undefined);
  });

  const convolutions = pairwise({
    c: [3, 8, 12],
    o: [3, 8, 20],
    size: [5, 9],
    k: [1, 3],
    stride: [1, 2],
    pad: [0, 1],
    dilation: [1, 2],
    packed: [true, false],
    plan: CONTRACT_PLANS,
  });
  test.each(
    convolutions.map(
      (p, i) =>
        [
          `${i}: conv ${p.c}->${p.o} ${p.size} k${p.k} s${p.stride} p${p.pad} d${p.dilation} plan ${CONTRACT_PLANS.indexOf(p.plan)}`,
          p,
        ] as const,
    ),
  )("%s", async (_, { c, o, size, k, stride, pad, dilation, packed, plan }) => {
    const one = conv({ n: 2, c, h: size, w: size + 1, o, k, stride, pad, dilation, groups: 1 }, packed);
    await check(one, plan);
  });

  test.each([1, 2, 4])("grouped convolution, %i channels a group", async (perGroup) => {
    const c = conv({
      n: 1,
      c: 3 * perGroup,
      h: 6,
      w: 5,
      o: 3 * perGroup,
      k: 3,
      stride: 1,
      pad: 1,
      dilation: 1,
      groups: 3,
    });
    await check(c);
  });

  test.each(CONTRACT_PLANS.map((plan, i) => [i, plan] as const))("prologue and epilogue, plan %i", async (_, plan) => {
    await check(fused(2, 9, 12, 7), plan);
    await check(fused(1, 5, 7, 10), plan);
  });
});

describe("reduce", () => {
  const plans: readonly (Plan | undefined)[] = [
    undefined,
    { schedule: "reduce", vec: 1, outputs: 4, slices: 8 },
    { schedule: "reduce", vec: 1, outputs: 1, slices: 32 },
    { schedule: "reduce", vec: 1, outputs: 16, slices: 1 },
  ];
  const reductions = pairwise({
    by: ["sum", "max", "min", "softmax", "argmax"] as const,
    a: [1, 3, 7],
    r: [2, 27, 625, 4097],
    b: [1, 3, 8],
    plan: plans,
  });
  test.each(reductions.map((p, i) => [`${i}: ${p.by} ${p.a}x${p.r}x${p.b} plan ${plans.indexOf(p.plan)}`, p] as const))(
    "%s",
    (_, { by, a, r, b, plan }) => check(reduction(by, a, r, b), plan),
  );

  test("four outputs an invocation, alone and in slices", async () => {
    await check(reduction("sum", 3, 50, 8), { schedule: "reduce", vec: 4, outputs: 4, slices: 4 });
    await check(reduction("argmax", 3, 50, 8), { schedule: "reduce", vec: 4, outputs: 4, slices: 1 });
  });

  test.each([
    [1, 8, 7, 3, 2, 1],
    [2, 3, 6, 2, 2, 0],
    [1, 4, 5, 3, 1, 1],
  ] as const)("pooling %i %i %i %i %i %i", (n, c, size, k, stride, pad) => check(maxPool(n, c, size, k, stride, pad)));
});

describe("map", () => {
  const maps = pairwise({
    a: [1, 3],
    b: [1, 5, 27],
    c: [1, 4, 126],
    order: [
      [0, 1, 2],
      [2, 0, 1],
      [1, 0, 2],
    ],
  });
  test.each(maps.map((p, i) => [`${i}: ${p.a}x${p.b}x${p.c} stored ${p.order.join("")}`, p] as const))(
    "%s",
    (_, { a, b, c, order }) => check(pointwise(a, b, c, { kind: "rows", order })),
  );
  test("axes that run through memory as one are one", async () => {
    const c = elementwise([2, 3, 5, 4]);
    expect(flatten(c.kernel, c.buffers).kernel.axes.map((a) => a.size)).toEqual([120]);
    await check(c);
    await check(elementwise([3, 5, 7]));
  });
});

/** What integers are divided by anywhere in a piece of L3. */
function divisors(part: unknown): number[] {
  if (typeof part !== "object" || part === null) return [];
  const own =
    "op" in part && (part.op === "div" || part.op === "rem") && "right" in part
      ? [constantOf(part.right as Expr) ?? 0]
      : [];
  return [...own, ...Object.values(part).flatMap(divisors)];
}

describe("plans", () => {
  const sizes: readonly (readonly [number, number, number])[] = [
    [401408, 64, 27],
    [50176, 64, 576],
    [1568, 512, 4608],
    [1, 1024, 25088],
    [576, 64, 50000],
    [784, 784, 64],
    [3, 3, 3],
  ];
  test.each(sizes)(
    "at most forty for %i x %i x %i, each valid on the default device, and one is chosen",
    async (m, n, k) => {
      const c = matmul(1, m, n, k, "nn");
      const flat = flatten(c.kernel, c.buffers);
      const found = kernelClass(flat.kernel, flat.buffers);
      if (found.kind !== "contract") throw new Error("no contraction");
      const plans = contractPlans(flat, found.contraction, WEBGPU_DEFAULT);
      expect(plans.length).toBeGreaterThan(0);
      expect(plans.length).toBeLessThanOrEqual(40);
      const chosen = choosePlan(flat, WEBGPU_DEFAULT);
      expect(plans).toContainEqual(chosen);
      expect(choosePlan(flatten(c.kernel, c.buffers), WEBGPU_DEFAULT)).toEqual(chosen);
      for (const plan of plans) {
        for (const { program } of schedule(c, WEBGPU_DEFAULT, plan).dispatches) await pipelineOf(validator, program);
      }
    },
  );

  test("no loop of a staged convolution divides", () => {
    const c = conv({ n: 2, c: 64, h: 14, w: 14, o: 64, k: 3, stride: 1, pad: 1, dilation: 1, groups: 1 }, false);
    const [dispatch] = schedule(c, WEBGPU_DEFAULT, contract([64, 64, 16], [4, 4], "workgroup")).dispatches;
    const loops = (dispatch?.program.body ?? []).filter((s) => s.kind === "for");
    expect(loops.map((s) => s.name)).toEqual(["kh"]);
    // The right tile's rows are shuffled by quads: divisions by four, which are shifts.
    expect(new Set(divisors(loops))).toEqual(new Set([4]));
    expect(JSON.stringify(loops)).toContain('"kind":"barrier"');
  });

  test("a plan that a kernel cannot follow is refused", () => {
    expect(() => schedule(pointwise(3, 5, 7), SOFTWARE, { schedule: "map", vec: 4, workgroup: 64 })).toThrow(/vectors/);
    const odd = reduction("sum", 3, 9, 7);
    expect(() => schedule(odd, SOFTWARE, { schedule: "reduce", vec: 4, outputs: 4, slices: 1 })).toThrow(/vectors/);
    expect(() => schedule(odd, SOFTWARE, contract([8, 8, 8], [4, 4], "workgroup"))).toThrow(/no contraction/);
  });

  test("a plan beyond the record is refused", () => {
    const c = matmul(1, 512, 512, 512, "nn");
    expect(() => schedule(c, WEBGPU_DEFAULT, contract([128, 128, 64], [8, 8], "workgroup"))).toThrow(
      /workgroup memory/,
    );
    expect(() => schedule(c, WEBGPU_DEFAULT, contract([128, 128, 8], [4, 4], "workgroup"))).toThrow(/invocations/);
  });

  test("a grid beyond one dimension goes on in the next", async () => {
    for (const c of [elementwise([7, 100]), matmul(1, 10, 100, 8, "nn"), reduction("max", 5, 9, 70)]) {
      const groups = schedule(c, SOFTWARE).dispatches[0]?.program.workgroups[0] ?? 0;
      expect(groups).toBeGreaterThan(2);
      const most = Math.ceil(Math.sqrt(groups));
      const scheduled = schedule(c, {
        ...SOFTWARE,
        limits: { ...SOFTWARE.limits, maxComputeWorkgroupsPerDimension: most },
      });
      expect(scheduled.dispatches[0]?.program.workgroups[1]).toBeGreaterThan(1);
      await checkCase(device, c, scheduled);
    }
  });
});
