/**
 * Numbers that are not finite: an update that has them is not made, and the layer where they first appear is named.
 *
 * One number of one parameter is made NaN, parameter after parameter: then it is known where they appear.
 */
import { beforeAll, describe, expect, test } from "vitest";
import { WASM_DEFAULT } from "../../compiler/capability.ts";
import type { Batch } from "../../runtime/data/loader/batches.ts";
import { openWasm } from "../../runtime/engine/wasm/runner.ts";
import { Trainer, type Values } from "../../runtime/train/trainer.ts";
import { namedValues } from "../tools/named-values.ts";
import { EVERYTHING, experimentOf, freshValues, ground, type Setting } from "./runs.ts";

/** Stages of convolutions with biases and no norms, pooling between, a classifier: VGG in small, on one stream. */
const PLAIN = `
block Stage(c: int) = Conv(c) @conv1 -> ReLU -> Conv(c) @conv2 -> ReLU -> MaxPool(2) @pool
block Plain(classes: int)(x: [N, C, H, W]) -> [N, classes] =
  Stage(4) @stage1 -> Stage(6) @stage2 -> Flatten -> Linear(8) @fc1 -> ReLU -> Dropout(0.5) -> Linear(classes) @fc2
model Net(x: f32[N, 3, 16, 16]) = Plain(classes=2)
recipe Learn for Net {
  data {
    split = by_subject(folds=3, seed=1)
    validation = 0.5
    batch = 4
  }
}
`;

let setting: Setting;
beforeAll(async () => {
  setting = { ...(await ground()), text: "" };
});

async function open(text: string, values: (fresh: Values) => Values = (fresh) => fresh): Promise<Trainer> {
  const experiment = experimentOf({ ...setting, text });
  const { model, recipe, seed } = experiment;
  const fresh = freshValues(experiment);
  return Trainer.open({
    model,
    recipe,
    stage: recipe.stages.length - 1,
    target: WASM_DEFAULT,
    open: openWasm,
    values: values(fresh),
    seed,
    byClass: [8, 8],
  });
}

/** Batches of made-up numbers, without an end. */
async function* batchesFor(trainer: Trainer, poisoned = false): AsyncGenerator<Batch, void> {
  for (let index = 0; ; index++) {
    const inputs = new Map(
      trainer.program.inputs
        .filter(({ name }) => !name.startsWith("step.") && !name.includes("/"))
        .filter(({ shape }) => shape.length === 4)
        .map(({ name, shape }) => [name, namedValues(`${name}${index}`, shape)]),
    );
    if (poisoned) for (const values of inputs.values()) values[7] = Number.NaN;
    yield { index, inputs, labels: Int32Array.of(0, 1, 0, 1), clips: [0, 1, 2, 3], waitedSeconds: 0 };
  }
}

const MOMENT = { step: 0, epoch: 1, rate: 0.01 };

async function bytesOf(trainer: Trainer): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>();
  for (const path of trainer.changing.keys()) {
    const values = await trainer.read(path);
    found.set(path, Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString("hex"));
  }
  return found;
}

/** Where the numbers first go wrong when one of `path`'s is NaN. */
async function firstWith(text: string, path: string): Promise<readonly string[] | undefined> {
  const trainer = await open(text, (fresh) => async (name) => {
    const values = (await fresh(name))?.slice();
    if (name === path && values !== undefined) values[0] = Number.NaN;
    return values;
  });
  try {
    const result = await trainer.step(batchesFor(trainer), MOMENT);
    expect(result?.finite).toBe(false);
    return await trainer.firstNotFinite();
  } finally {
    trainer.dispose();
  }
}

describe.each([
  ["a plain net", PLAIN, /weight$/],
  ["two streams with STIA", EVERYTHING, /^spatial\.(conv1|fc)|to_spatial/],
])("%s", (_, text, tried) => {
  test("a good step has no such layer", async () => {
    const trainer = await open(text);
    const result = await trainer.step(batchesFor(trainer), MOMENT);
    expect(result?.finite).toBe(true);
    expect(await trainer.firstNotFinite()).toBeUndefined();
    trainer.dispose();
  });

  test("inputs that are not numbers change nothing", async () => {
    const trainer = await open(text);
    const batches = batchesFor(trainer);
    await trainer.step(batches, MOMENT);
    const before = await bytesOf(trainer);
    const poisoned = batchesFor(trainer, true);
    expect((await trainer.step(poisoned, { ...MOMENT, step: 1 }))?.finite).toBe(false);
    expect(await bytesOf(trainer)).toEqual(before);
    // And it goes on from there.
    expect((await trainer.step(batches, { ...MOMENT, step: 1 }))?.finite).toBe(true);
    expect(await bytesOf(trainer)).not.toEqual(before);
    trainer.dispose();
  });

  test("the layer of a parameter that is not a number is named", async () => {
    const { model } = experimentOf({ ...setting, text });
    const paths = model.parameters.flatMap(({ path, kind }) => (kind === "param" && tried.test(path) ? [path] : []));
    expect(paths.length).toBeGreaterThan(5);
    const wrong: string[] = [];
    for (const path of paths) {
      const first = await firstWith(text, path);
      // One kernel may compute a convolution and its norm.
      if (first?.includes(path.slice(0, path.lastIndexOf("."))) !== true) wrong.push(`${path}: ${String(first)}`);
    }
    expect(wrong).toEqual([]);
  });
});
