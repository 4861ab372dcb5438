/**
 * A run that is stopped and goes on ends as one that was never stopped: the same bytes of parameters, running statistics,
 * moments and averages, the same metrics. The recipe has everything that a checkpoint must remember (runs.ts).
 */
import { cpSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { openWebGPU } from "../../runtime/engine/webgpu.ts";
import type { MetricLine } from "../../runtime/train/records.ts";
import { softwareGPU } from "../tools/nets.ts";
import { SOFTWARE } from "../tools/webgpu.ts";
import { EVERYTHING, experimentOf, ground, metricsOf, type Setting, stateOf, trainIn } from "./runs.ts";

let setting: Setting;
beforeAll(async () => {
  setting = { ...(await ground()), text: EVERYTHING };
});

/** Trains in pieces of so many updates, and then to the end. */
async function inPieces(of: Setting, name: string, pieces: readonly number[]): Promise<string> {
  for (const stopAfter of pieces) {
    const { ended } = await trainIn(of, name, { stopAfter });
    expect(ended).toBe("SIGINT");
  }
  const { ended, folder } = await trainIn(of, name);
  expect(ended).toBe("finished");
  return folder;
}

describe("on WASM", () => {
  let whole: { readonly state: Buffer; readonly metrics: readonly MetricLine[] };
  beforeAll(async () => {
    // Stage 1: three epochs of two updates; stage 2: two epochs of four.
    const { folder, step, ended } = await trainIn(setting, "whole");
    expect([ended, step]).toEqual(["finished", 14]);
    whole = { state: await stateOf(folder), metrics: metricsOf(folder) };
  });

  test("the run is one that learns something everywhere", () => {
    const steps = whole.metrics.filter((line) => line.kind === "step");
    expect(steps.map(({ step }) => step)).toEqual(Array.from({ length: 14 }, (_, step) => step + 1));
    expect(new Set(steps.map(({ loss }) => loss)).size).toBe(14);
    // The warm-up of the second stage.
    const rates = steps.slice(6, 10).map(({ rate }) => rate);
    expect(rates).toEqual(rates.toSorted((a, b) => a - b));
  });

  test.each([
    ["while its clips are prepared, and within an epoch", [0, 1]],
    ["at an epoch's end", [2]],
    ["at a stage's end", [6]],
    ["in the second stage, while a group is frozen", [8]],
    ["in the second stage, when it is not any more", [12]],
    ["again and again", [1, 2, 4, 3]],
  ] as const)("stopped %s", async (name, pieces) => {
    const folder = await inPieces(setting, name, pieces);
    expect(metricsOf(folder)).toEqual(whole.metrics);
    expect((await stateOf(folder)).equals(whole.state)).toBe(true);
  });

  test("another seed gives other bytes", async () => {
    const { folder } = await trainIn({ ...setting, seed: 8 }, "seed");
    expect((await stateOf(folder)).equals(whole.state)).toBe(false);
  });
});

// One stream, one stage, few kernels: SwiftShader takes most of its time for compiling.
const SMALL = `
block Eye(classes: int)(x: [N, C, H, W]) -> [N, classes] =
  Conv(4, stride=4, use_bias=false) @conv1 -> BatchNorm @bn1 -> ReLU -> GlobalAvgPool -> Dropout(0.3) -> Linear(classes) @fc
model One(x: f32[N, 3, 16, 16]) = Eye(classes=2)
recipe Learn for One {
  data {
    split = by_subject(folds=3, seed=1)
    validation = 0.5
    batch = 4
  }
  epochs = 2
  optimizer = Adam(lr=0.01)
  ema = 0.9
}
`;

test("with clips that cannot be read, which are told once", async () => {
  const set = join(setting.at, "damaged");
  cpSync(setting.set, set, { recursive: true });
  const { sides } = experimentOf({ ...setting, text: SMALL });
  for (const side of [sides.train, sides.validation]) writeFileSync(join(set, side[0]?.path ?? ""), "not a video");
  const of: Setting = { ...setting, set, text: SMALL };
  const { folder, step } = await trainIn(of, "damaged run");
  expect(step).toBe(6);
  const pieces = await inPieces(of, "damaged in pieces", [0, 2, 1]);
  const told = metricsOf(folder).flatMap((line) => (line.kind === "note" ? [line.text.split(":")[0]] : []));
  expect(told).toEqual(["left out", "counts as wrong"]);
  expect(metricsOf(pieces)).toEqual(metricsOf(folder));
  expect((await stateOf(pieces)).equals(await stateOf(folder))).toBe(true);
});

test("on WebGPU", async () => {
  const of: Setting = {
    ...setting,
    text: SMALL,
    target: SOFTWARE,
    open: (program) => openWebGPU(program, softwareGPU()),
  };
  const { folder } = await trainIn(of, "gpu");
  const pieces = await inPieces(of, "gpu in pieces", [5]);
  expect(metricsOf(pieces)).toEqual(metricsOf(folder));
  expect((await stateOf(pieces)).equals(await stateOf(folder))).toBe(true);
});
