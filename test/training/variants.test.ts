/** What a recipe and a model may be: frozen parts, weights of classes, odd batches, one stream, one number, no norms. */
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { decodeManifest, encodeManifest, MANIFEST_FILE, type Manifest } from "../../runtime/data/manifest.ts";
import { loadCheckpoint } from "../../runtime/train/checkpoint.ts";
import type { EpochLine } from "../../runtime/train/records.ts";
import type { Values } from "../../runtime/train/trainer.ts";
import { data, experimentOf, freshValues, ground, MODEL, metricsOf, type Setting, trainIn } from "./runs.ts";

let setting: Setting;
beforeAll(async () => {
  setting = { ...(await ground()), text: "" };
});

const streams = (settings: string, more?: string): string => `${MODEL}recipe Learn for Tiny {${data(more)}
  epochs = 1
  optimizer = SGD(lr=0.05, momentum=0.9)
  schedule = Constant
  ${settings}
}
`;

/** One stream of frames; `layers` between its first convolution and its numbers. */
const single = (layers: string, settings: string, batch = 4): string => `
block Eye(classes: int)(x: [N, C, H, W]) -> [N, classes] = Conv(6, stride=2) @conv1 -> ${layers} -> Linear(classes) @fc
model One(x: f32[N, 3, 16, 16]) = Eye(classes=2)
recipe Learn for One {
  data {
    split = by_subject(folds=3, seed=1)
    validation = 0.5
    batch = ${batch}
  }
  ${settings}
}
`;

async function readAll(folder: string): Promise<ReadonlyMap<string, Float32Array>> {
  const checkpoint = await loadCheckpoint(folder);
  try {
    const found = new Map<string, Float32Array>();
    for (const name of checkpoint.tensors.keys()) found.set(name, await checkpoint.read(name));
    return found;
  } finally {
    await checkpoint.close();
  }
}

/** Names of parameters and statistics that training has changed, and of those that it has not. */
async function movement(of: Setting, folder: string): Promise<{ readonly moved: string[]; readonly still: string[] }> {
  const experiment = experimentOf(of);
  const fresh = freshValues(experiment);
  const after = await readAll(folder);
  const [moved, still]: [string[], string[]] = [[], []];
  for (const { path } of experiment.model.parameters) {
    const before = await fresh(path);
    const bits = (values: Float32Array | undefined): string =>
      Buffer.from(values?.slice().buffer ?? new ArrayBuffer(0)).toString("hex");
    (bits(before) === bits(after.get(path)) ? still : moved).push(path);
  }
  return { moved, still };
}

const epochsOf = (folder: string): readonly EpochLine[] =>
  metricsOf(folder).flatMap((line) => (line.kind === "epoch" ? [line] : []));
const lossesOf = (folder: string): readonly number[] =>
  metricsOf(folder).flatMap((line) => (line.kind === "step" ? [line.loss] : []));

describe("what is frozen", () => {
  test("keeps every bit, its running statistics too", async () => {
    const of = { ...setting, text: streams("freeze = spatial.conv1") };
    const { folder } = await trainIn(of, "frozen");
    const { moved, still } = await movement(of, folder);
    expect(still.sort()).toEqual(
      ["bn.bias", "bn.running_mean", "bn.running_var", "bn.weight", "conv.weight"].map(
        (name) => `spatial.conv1.${name}`,
      ),
    );
    expect(moved.some((path) => path.startsWith("temporal.conv1."))).toBe(true);
  });

  test("partial batch norm: all norms of the backbone but the first of each stream", async () => {
    const of = { ...setting, text: streams("freeze_norms = all_but_first") };
    const { folder } = await trainIn(of, "partial");
    const { still } = await movement(of, folder);
    const names = ["bias", "running_mean", "running_var", "weight"];
    expect(still.sort()).toEqual(
      ["spatial", "temporal"].flatMap((stream) => names.map((name) => `${stream}.conv2.bn.${name}`)),
    );
  });
});

describe("classes that are not equally frequent", () => {
  let uneven: Setting;
  beforeAll(() => {
    // Of the clips of one class only every fourth stays.
    const folder = join(setting.at, "uneven");
    cpSync(setting.set, folder, { recursive: true });
    const manifest = decodeManifest(readFileSync(join(folder, MANIFEST_FILE), "utf8"));
    if ("error" in manifest) throw new Error(manifest.error);
    const [rare] = manifest.classes;
    let seen = 0;
    const fewer: Manifest = {
      ...manifest,
      clips: manifest.clips.filter((clip) => clip.class !== rare || seen++ % 4 === 0),
    };
    writeFileSync(join(folder, MANIFEST_FILE), encodeManifest(fewer));
    uneven = { ...setting, set: folder };
  });

  test("weights of classes scale the loss of each example", async () => {
    const plain = await trainIn({ ...uneven, text: streams("") }, "unweighted");
    const weighted = await trainIn(
      { ...uneven, text: streams("loss = CrossEntropy(weights=inverse_frequency)") },
      "weighted",
    );
    const given = await trainIn({ ...uneven, text: streams("loss = CrossEntropy(weights=[1, 1])") }, "given");
    expect(lossesOf(given.folder)[0]).toBeCloseTo(lossesOf(plain.folder)[0] ?? 0, 6);
    expect(Math.abs((lossesOf(weighted.folder)[0] ?? 0) - (lossesOf(plain.folder)[0] ?? 0))).toBeGreaterThan(1e-3);
  });

  test("balanced draws keep the number of updates", async () => {
    const { folder, step } = await trainIn(
      { ...uneven, text: streams("", "batch = 3\n    balance = inverse_frequency") },
      "balanced",
    );
    expect(step).toBe(3); // ten clips
    expect(lossesOf(folder).every(Number.isFinite)).toBe(true);
  });
});

test("a batch of five: what does not fill a last one is left out, and every clip is evaluated", async () => {
  const { folder, step } = await trainIn({ ...setting, text: streams("", "batch = 5") }, "five");
  expect(step).toBe(3);
  const accuracy = epochsOf(folder)[0]?.validation?.["accuracy"] ?? Number.NaN;
  expect((accuracy * 16) % 1).toBe(0);
});

test("one stream without norms", async () => {
  const text = single("ReLU -> MaxPool(2) -> Flatten", "epochs = 2\n  optimizer = Adam(lr=0.01)");
  const { folder, ended } = await trainIn({ ...setting, text }, "one");
  expect(ended).toBe("finished");
  expect(epochsOf(folder)).toHaveLength(2);
  expect([...(await readAll(folder)).keys()].filter((name) => !name.includes("/"))).toEqual([
    "conv1.weight",
    "conv1.bias",
    "fc.weight",
    "fc.bias",
  ]);
});

test("one number for two classes", async () => {
  const text = single(
    "ReLU -> GlobalAvgPool",
    'epochs = 2\n  loss = BinaryCrossEntropy\n  metrics = [accuracy, uar, auc("differ")]',
  ).replace("Eye(classes=2)", "Eye(classes=1)");
  const { folder } = await trainIn({ ...setting, text }, "binary");
  const [first] = epochsOf(folder);
  // A network that knows nothing.
  expect(first?.train.loss).toBeGreaterThan(0.4);
  expect(first?.train.loss).toBeLessThan(1.2);
  expect(Object.keys(first?.validation ?? {})).toEqual(["loss", "accuracy", "uar", "auc(differ)"]);
  expect(first?.validation?.["loss"]).toBeLessThan(1.2);
});

test("weights that are not numbers are refused before anything is computed", async () => {
  const of = { ...setting, text: single("ReLU -> GlobalAvgPool", "epochs = 1") };
  const fresh = freshValues(experimentOf(of));
  const start: Values = async (path) => {
    const values = (await fresh(path))?.slice();
    if (path === "fc.weight" && values !== undefined) values[3] = Number.POSITIVE_INFINITY;
    return values;
  };
  await expect(trainIn(of, "infinite", { start })).rejects.toThrow(
    "`fc.weight` holds Infinity (number 3): nothing can be learned from there",
  );
});

test("eight clips are learned by heart", async () => {
  const folder = join(setting.at, "eight");
  cpSync(setting.set, folder, { recursive: true });
  const manifest = decodeManifest(readFileSync(join(folder, MANIFEST_FILE), "utf8"));
  if ("error" in manifest) throw new Error(manifest.error);
  const subjects = [...new Set(manifest.clips.map(({ subject }) => subject))];
  let kept = new Map<string, number>();
  const clips = manifest.clips.flatMap((clip) => {
    const key = `${clip.subject} ${clip.class}`;
    kept = kept.set(key, (kept.get(key) ?? 0) + 1);
    if ((kept.get(key) ?? 0) > 4 || clip.subject === subjects[2]) return [];
    return [{ ...clip, split: clip.subject === subjects[0] ? ("train" as const) : ("validation" as const) }];
  });
  writeFileSync(join(folder, MANIFEST_FILE), encodeManifest({ ...manifest, clips }));
  const text = `${MODEL.replace("Dropout(0.3)", "Dropout(0)")}recipe Learn for Tiny {
  data {
    split = fixed
    validation = 0
    batch = 8
    sample = middle_frame
    train = [Resize(18), CenterCrop(16)]
  }
  epochs = 60
  optimizer = Adam(lr=0.02)
  schedule = Constant
}
`;
  const began = performance.now();
  const { folder: run } = await trainIn({ ...setting, set: folder, text }, "overfit");
  expect(performance.now() - began).toBeLessThan(30_000);
  expect(epochsOf(run).at(-1)?.train.accuracy).toBe(1);
});
