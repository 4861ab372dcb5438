/** What has changed since a checkpoint, in words. */
import { describe, expect, test } from "vitest";
import type { Recipe } from "../../compiler/recipe/recipe.ts";
import type { ClipRecord, Manifest } from "../../runtime/data/manifest.ts";
import { compareLayouts, deviceChange, refuseChanges, whatChanged } from "../../runtime/train/changes.ts";
import { facts, messageOf, recipeWith } from "./tools.ts";

/** As a checkpoint gives it back: without the keys that are undefined. */
const stored = <T>(value: T): T => JSON.parse(JSON.stringify(value)) as T;
const against = (recipe: Recipe): string[] => whatChanged(stored(facts), { ...facts, recipe, recipeHash: "other" });

test("nothing has changed, though JSON knows no undefined", () => {
  expect(whatChanged(stored(facts), facts)).toEqual([]);
  expect(() => refuseChanges("runs/a", [], [])).not.toThrow();
});

describe("the recipe", () => {
  const base = recipeWith();
  const stage = base.stages[0];
  test("single settings, with their place and both values", () => {
    const changed = recipeWith({
      rate: 0.02,
      clipNorm: 5,
      schedule: { warmup: 1, then: { kind: "cosine", to: 0 } },
      frozenNorms: ["bn1"],
    });
    expect(
      against({ ...changed, data: { ...changed.data, batch: 32 }, precision: { kind: "mixed", lossScale: 128 } }),
    ).toMatchInlineSnapshot(`
      [
        "the recipe's data.batch was 16 and is 32",
        "the recipe's stages[0].rate was 0.01 and is 0.02",
        "the recipe's stages[0].schedule.warmup was 0 and is 1",
        "the recipe's stages[0].schedule.then.kind was "step" and is "cosine"",
        "the recipe's stages[0].schedule.then.at was [10,15] and is not set",
        "the recipe's stages[0].schedule.then.gamma was 0.1 and is not set",
        "the recipe's stages[0].schedule.then.to was not set and is 0",
        "the recipe's stages[0].frozenNorms was [] and is ["bn1"]",
        "the recipe's stages[0].clipNorm was not set and is 5",
        "the recipe's precision.kind was "f32" and is "mixed"",
        "the recipe's precision.lossScale was not set and is 128",
      ]
    `);
  });

  test("a rule that many parameters share is said once, and an inserted parameter shifts none", () => {
    const parameters = (stage?.parameters ?? []).map((rule) =>
      rule.path.startsWith("conv") ? { ...rule, rate: 0.1 } : rule,
    );
    const extra = { path: "stia.weight", rate: 1, decay: 1, frozenUntil: 2 };
    expect(against(recipeWith({ parameters: [extra, ...parameters] }))).toMatchInlineSnapshot(`
      [
        "the recipe's stages[0].parameters[*].rate was 1 and is 0.1 for 4 parameters: \`conv1.weight\`, \`conv1.bias\`, \`conv2.weight\`, …",
        "the recipe's stages[0].parameters[*] was not set and is {"path":"stia.weight","rate":1,"decay":1,"frozenUntil":2} for 1 parameter: \`stia.weight\`",
      ]
    `);
  });

  test("stages that were added", () => {
    expect(against({ ...base, stages: [...base.stages, ...base.stages] })).toMatchInlineSnapshot(`
      [
        "the recipe's stages[1] was not set and is {"name":"","epochs":20,"loss":[{"weight":1,"kind":"cross_en…",
      ]
    `);
  });

  test("the hash alone", () => {
    expect(against(base)).toEqual(["the recipe's hash was bbbbbbbbbbbb and is other"]);
  });
});

describe("the rest", () => {
  test("model and seed", () => {
    expect(whatChanged(facts, { ...facts, graphHash: "d".repeat(64), seed: 8 })).toMatchInlineSnapshot(`
      [
        "the model \`Pain\` computes something else: its graph was aaaaaaaaaaaa and is dddddddddddd",
        "the seed was 7 and is 8",
      ]
    `);
    expect(whatChanged(facts, { ...facts, graphHash: "d".repeat(64), model: "Face" })).toMatchInlineSnapshot(`
      [
        "the model was \`Pain\` (graph aaaaaaaaaaaa) and is \`Face\` (graph dddddddddddd)",
      ]
    `);
  });

  const clip = (path: string, changes: Partial<ClipRecord> = {}): ClipRecord => ({
    path,
    class: "calm",
    subject: "s1",
    frames: 30,
    status: "ok",
    sha256: "1",
    ...changes,
  });
  const manifestOf = (clips: readonly ClipRecord[]): Manifest => ({
    note: "SYNTHETIC: nobody",
    layout: "pain",
    classes: ["calm", "pain"],
    clips,
  });
  const before = manifestOf(["a", "b", "c", "d", "e", "f"].map((path) => clip(path)));

  test("clips that were added, removed, changed", () => {
    const after = manifestOf([
      clip("a", { class: "pain" }),
      clip("b", { sha256: "2", frames: 31 }),
      clip("c", { status: "corrupt" }),
      clip("d", { subject: "s2" }),
      ...["g", "h", "i", "j"].map((path) => clip(path)),
    ]);
    const changes = whatChanged({ ...facts, manifest: before }, { ...facts, manifestHash: "e", manifest: after });
    expect(changes).toMatchInlineSnapshot(`
      [
        "the data set has gained 4 clips: \`g\`, \`h\`, \`i\`, …",
        "the data set has lost 2 clips: \`e\`, \`f\`",
        "the clip \`a\` has changed: its class was "calm" and is "pain"",
        "the clip \`b\` has changed: its number of frames was 30 and is 31, its file has other bytes",
        "the clip \`c\` has changed: its status was "ok" and is "corrupt"",
        "and so have 1 more",
      ]
    `);
    expect(
      whatChanged(
        { ...facts, manifest: before },
        { ...facts, manifestHash: "e", manifest: { ...before, classes: ["pain", "calm"] } },
      ),
    ).toEqual(['the data set\'s classes were ["calm","pain"] and are ["pain","calm"]']);
  });

  test("without the manifest at hand, its hash", () => {
    expect(whatChanged(facts, { ...facts, manifestHash: "e".repeat(64) })).toEqual([
      "the data set's manifest was cccccccccccc and is eeeeeeeeeeee",
    ]);
  });

  test("another device is no reason to refuse", () => {
    const other = { ...facts, device: "NVIDIA H100", threads: undefined };
    expect(whatChanged(facts, other)).toEqual([]);
    expect(deviceChange(facts, facts)).toBeUndefined();
    expect(deviceChange(facts, other)).toMatchInlineSnapshot(
      `"it was trained on WASM SIMD with 2 threads and goes on on NVIDIA H100: its numbers may differ in the last digits from those of an uninterrupted run"`,
    );
  });

  test("tensors that do not fit", () => {
    const saved = [
      { name: "conv1.weight", shape: [3, 1, 5] },
      { name: "fc.weight", shape: [4, 10] },
      { name: "old.weight", shape: [1] },
    ];
    const current = [
      { name: "conv1.weight", shape: [3, 1, 5] },
      { name: "fc.weight", shape: [7, 10] },
      ...[1, 2, 3, 4].map((n) => ({ name: `stia${n}.weight`, shape: [] })),
    ];
    expect(compareLayouts(saved, current)).toMatchInlineSnapshot(`
      [
        "the checkpoint lacks 4 tensors: \`stia1.weight\`, \`stia2.weight\`, \`stia3.weight\`, …",
        "the model has no place for 1 tensor: \`old.weight\`",
        "\`fc.weight\` is [4, 10] in the checkpoint and [7, 10] here",
      ]
    `);
    expect(compareLayouts(saved, saved)).toEqual([]);
  });

  test("the refusal", async () => {
    const many = Array.from({ length: 14 }, (_, i) => `change ${i + 1}`);
    expect(await messageOf(() => refuseChanges("runs/a", many, ["train anew"]))).toMatchInlineSnapshot(`
      "\`runs/a\` was trained differently:
        - change 1
        - change 2
        - change 3
        - change 4
        - change 5
        - change 6
        - change 7
        - change 8
        - change 9
        - change 10
        - change 11
        - change 12
        - and 2 more
      help: train anew"
    `);
  });
});
