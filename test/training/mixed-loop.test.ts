/**
 * The loop in mixed precision: updates whose gradients overflow are skipped and the loss scale falls, a checkpoint
 * remembers the scale, and a run that is stopped and goes on ends as one that was never stopped.
 */
import { beforeAll, describe, expect, test } from "vitest";
import { WASM_DEFAULT } from "../../compiler/capability.ts";
import type { Batch } from "../../runtime/data/loader/batches.ts";
import { openWasm } from "../../runtime/engine/wasm/runner.ts";
import { loadCheckpoint } from "../../runtime/train/checkpoint.ts";
import type { LossScale } from "../../runtime/train/loss-scale.ts";
import { Trainer } from "../../runtime/train/trainer.ts";
import { namedValues } from "../tools/named-values.ts";
import { data, experimentOf, freshValues, ground, MODEL, metricsOf, type Setting, stateOf, trainIn } from "./runs.ts";

const recipe = (precision: string): string => `${MODEL}
recipe Learn for Tiny {${data()}
  precision = ${precision}
  epochs = 2
  optimizer = Adam(lr=0.01)
  accumulate = 2
  clip_norm = 5
}
`;

let setting: Setting;
beforeAll(async () => {
  setting = { ...(await ground()), text: recipe("mixed(f16)") };
});

async function open(text: string, lossScale?: LossScale): Promise<Trainer> {
  const experiment = experimentOf({ ...setting, text });
  const { model, recipe: made, seed } = experiment;
  return Trainer.open(
    {
      model,
      recipe: made,
      stage: 0,
      target: WASM_DEFAULT,
      open: openWasm,
      values: freshValues(experiment),
      seed,
      byClass: [8, 8],
    },
    { lossScale },
  );
}

/** Batches of made-up numbers, without an end; `taken` counts them. */
async function* batchesFor(trainer: Trainer, taken: number[]): AsyncGenerator<Batch, void> {
  for (let index = 0; ; index++) {
    const inputs = new Map(
      trainer.program.inputs
        .filter(({ name }) => !name.startsWith("step."))
        .map(({ name, shape }) => [name, namedValues(`${name}${index}`, shape)]),
    );
    taken.push(index);
    yield { index, inputs, labels: Int32Array.of(0, 1, 0, 1), clips: [0, 1, 2, 3], waitedSeconds: 0 };
  }
}

const MOMENT = { step: 0, epoch: 0, rate: 0.01 };

describe("a loss scale that is too large", () => {
  test("is halved update by update until gradients fit; nothing changes before", async () => {
    const trainer = await open(setting.text, { scale: 2 ** 40, good: 0 });
    try {
      const path = "spatial.conv1.conv.weight";
      const before = await trainer.read(path);
      const taken: number[] = [];
      const batches = batchesFor(trainer, taken);
      let skipped = 0;
      for (;;) {
        const result = await trainer.step(batches, MOMENT);
        expect(Number.isFinite(result?.loss)).toBe(true);
        if (result?.finite === true) break;
        expect(result?.skipped).toBe(true);
        skipped += 1;
        expect(trainer.lossScale).toEqual({ scale: 2 ** (40 - skipped), good: 0 });
        expect(await trainer.read(path)).toEqual(before);
        // Both batches of the update are gone, so that an epoch has as many updates as without.
        expect(taken.length).toBe(2 * skipped);
      }
      expect(skipped).toBeGreaterThan(5);
      expect(trainer.lossScale).toEqual({ scale: 2 ** (40 - skipped), good: 1 });
      expect(trainer.updates).toEqual([1]);
      expect(await trainer.read(path)).not.toEqual(before);
    } finally {
      trainer.dispose();
    }
  });

  test("ends the run where the recipe fixes it", async () => {
    const trainer = await open(recipe("mixed(f16, loss_scale=1e12)"));
    try {
      const result = await trainer.step(batchesFor(trainer, []), MOMENT);
      expect(result).toMatchObject({ finite: false, skipped: false });
      expect(await trainer.firstNotFinite()).toBeDefined();
    } finally {
      trainer.dispose();
    }
  });
});

test("f32 has no loss scale", async () => {
  const trainer = await open(recipe("f32"));
  expect(trainer.lossScale).toBeUndefined();
  trainer.dispose();
});

test("a run that is stopped and goes on ends as one that was not", async () => {
  const whole = await trainIn(setting, "whole");
  expect(whole.ended).toBe("finished");
  const losses = metricsOf(whole.folder).flatMap((line) => (line.kind === "step" ? [line.loss] : []));
  expect(losses.length).toBe(4);
  expect(losses.every(Number.isFinite)).toBe(true);
  await trainIn(setting, "parts", { stopAfter: 1 });
  const checkpoint = await loadCheckpoint(`${setting.at}/parts`);
  const { lossScale, lossScaleGood } = checkpoint.record.counters;
  await checkpoint.close();
  expect(lossScale).toBeGreaterThanOrEqual(2 ** 15);
  expect(lossScaleGood).toBe(lossScale === 2 ** 16 ? 1 : 0);
  await trainIn(setting, "parts", { stopAfter: 1 });
  const parts = await trainIn(setting, "parts");
  expect(metricsOf(parts.folder)).toEqual(metricsOf(whole.folder));
  expect((await stateOf(parts.folder)).equals(await stateOf(whole.folder))).toBe(true);
});
