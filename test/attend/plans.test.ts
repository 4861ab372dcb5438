/**
 * Kernels of attention under every plan: on SwiftShader against the oracle, with small tiles for its sake, and through
 * Dawn's validator with the plans that devices of different sizes take.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WEBGPU_DEFAULT, type WebGPUCapability } from "../../compiler/capability.ts";
import { attentionOf } from "../../compiler/loop/attention.ts";
import type { Buffer, Kernel } from "../../compiler/loop/loops.ts";
import { lowerGraph } from "../../compiler/loop/lower.ts";
import { flatten } from "../../compiler/schedule/flat.ts";
import { type AttendPlan, attendPlans, choosePlan } from "../../compiler/schedule/plan.ts";
import { Net } from "../loop/nets.ts";
import { checkCase, schedule } from "../schedule/run.ts";
import { nullDevice, pipelineOf, SOFTWARE, softwareDevice } from "../tools/webgpu.ts";
import type { Case } from "../wasm/kernels.ts";
import { attentionNet, type Sizes } from "./nets.ts";

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

function casesOf(kernels: readonly Kernel[], buffers: readonly Buffer[]): readonly Case[] {
  return kernels
    .filter(({ inner }) => inner !== undefined)
    .map((kernel) => ({
      name: kernel.name,
      kernel,
      buffers,
      ins: [...new Set(kernel.loads.map(({ buffer }) => buffer))],
      outs: [...new Set(kernel.stores.map(({ buffer }) => buffer))],
    }));
}

/** The kernels of attention's forward and backward pass: three, or four where the gradients are not equally wide. */
function kernelsOf(sizes: Sizes): readonly Case[] {
  const { run, buffers } = lowerGraph(attentionNet("attend", sizes, 0.5), {
    panelWidth: 0,
    maxBufferBytes: 2 ** 31,
    fuse: true,
  });
  return casesOf(run, buffers);
}

/** The logarithms of the rows' sums by themselves, as where a region is computed again. */
function logarithms([tables, rows, keys, depth]: Sizes): Case {
  const net = new Net();
  const log = net.add(
    "attend_log_sum",
    [net.input("q", [tables, rows, depth]), net.input("k", [tables, keys, depth])],
    {
      scale: 2,
    },
  );
  const { run, buffers } = lowerGraph(net.output("log", log).graph(), {
    panelWidth: 0,
    maxBufferBytes: 2 ** 31,
    fuse: true,
  });
  const [only] = casesOf(run, buffers);
  if (only === undefined) throw new Error("no kernel");
  return only;
}

const attend = (
  tile: AttendPlan["tile"],
  thread: AttendPlan["thread"],
  features: AttendPlan["features"],
  stage: AttendPlan["stage"],
): AttendPlan => ({ schedule: "attend", tile, thread, features, stage });

const STAGED = [
  attend([8, 8, 8], [4, 4], [8, 4], "workgroup"),
  attend([8, 16, 4], [4, 8], [16, 8], "workgroup"),
] as const;
const ALONE = [
  attend([8, 4, 64], [1, 4], [8, 8], "registers"),
  attend([16, 4, 8], [2, 4], [4, 4], "registers"),
] as const;

// SwiftShader takes seconds to compile a staged kernel: each is run where its edges are.
const RUNS: readonly (readonly [sizes: Sizes, plan: AttendPlan])[] = [
  [[2, 13, 21, 5, 5], STAGED[0]],
  [[1, 24, 16, 8, 8], STAGED[1]],
  [[3, 9, 20, 12, 4], STAGED[0]],
  [[1, 1, 1, 1, 1], ALONE[0]],
  [[2, 13, 21, 5, 5], ALONE[1]],
  [[1, 24, 16, 8, 8], ALONE[0]],
  [[3, 9, 20, 12, 4], ALONE[1]],
  [[1, 18, 35, 3, 10], ALONE[0]],
];

test.each(
  RUNS.map(
    ([sizes, plan]) => [`${sizes.join(" ")}, tile ${plan.tile.join("x")} through ${plan.stage}`, sizes, plan] as const,
  ),
)("%s", { timeout: 120_000 }, async (_, sizes, plan) => {
  for (const c of [...kernelsOf(sizes), logarithms(sizes)]) await checkCase(device, c, schedule(c, SOFTWARE, plan));
});

/** What differs between devices for attention: workgroup memory and invocations. */
const DEVICES: readonly WebGPUCapability[] = [
  WEBGPU_DEFAULT,
  SOFTWARE,
  ...(
    [
      [49152, 1024],
      [32768, 1024],
      [32768, 256],
      [16384, 128],
    ] as const
  ).map(([memory, invocations]) => ({
    ...WEBGPU_DEFAULT,
    name: `${memory} bytes, ${invocations} invocations`,
    limits: {
      ...WEBGPU_DEFAULT.limits,
      maxComputeWorkgroupStorageSize: memory,
      maxComputeInvocationsPerWorkgroup: invocations,
    },
  })),
];

describe("plans of devices", { timeout: 120_000 }, () => {
  const sizes: readonly Sizes[] = [
    [1, 12544, 12544, 64, 64],
    [2, 50176, 50176, 32, 32],
    [8, 784, 196, 256, 256],
    [1, 49, 49, 512, 512],
    [1, 300, 200, 7, 30],
  ];
  test.each(DEVICES.map((record) => [record.name, record] as const))("%s", async (_, record) => {
    for (const one of sizes) {
      for (const c of [...kernelsOf(one), logarithms(one)]) {
        const flat = flatten(c.kernel, c.buffers);
        const attention = attentionOf(flat.kernel);
        if (attention === undefined) throw new Error(`${c.name} is no attention`);
        const plans = attendPlans(attention, record);
        expect(plans.map(({ stage }) => stage)).toContain("registers");
        expect(plans).toContainEqual(choosePlan(flat, record));
        for (const plan of plans) {
          // The verifier has its say within `schedule`; only what fits the null device becomes a pipeline.
          const { dispatches } = schedule(c, record, plan);
          const fits = attendPlans(attention, WEBGPU_DEFAULT).some(
            (other) => JSON.stringify(other) === JSON.stringify(plan),
          );
          if (fits) for (const { program } of dispatches) await pipelineOf(validator, program);
        }
      }
    }
  });
  test("GPUs pass tiles through workgroup memory, software adapters do not", () => {
    const [forward] = kernelsOf([1, 12544, 12544, 64, 64]);
    if (forward === undefined) throw new Error("no kernel");
    const flat = flatten(forward.kernel, forward.buffers);
    expect(choosePlan(flat, WEBGPU_DEFAULT)).toMatchObject({ stage: "workgroup", tile: [32, 64, 16] });
    expect(choosePlan(flat, SOFTWARE)).toMatchObject({ stage: "registers" });
  });
});
