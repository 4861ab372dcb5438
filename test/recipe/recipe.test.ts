/**
 * The records that recipes become: the example in full, then what each setting changes.
 */
import { describe, expect, test } from "vitest";
import type { ParameterRule, Recipe, Stage } from "../../compiler/recipe/recipe.ts";
import { elaborateSettings, elaborateText, exampleRecipe, MODEL, recipeOf, recipeWith } from "./programs.ts";

function stageOf(recipe: Recipe, name = ""): Stage {
  const stage = recipe.stages.find((each) => each.name === name);
  if (stage === undefined) throw new Error(`there is no stage ${name}`);
  return stage;
}

const only = (settings: string): Stage => stageOf(recipeWith(settings));

function rule(stage: Stage, path: string): ParameterRule {
  const found = stage.parameters.find((each) => each.path === path);
  if (found === undefined) throw new Error(`there is no rule for ${path}`);
  return found;
}

describe("examples/neonatal_pain.net", () => {
  const recipe = recipeOf(exampleRecipe("neonatal_pain"));

  test("as a whole", () => {
    const { stages, ...whole } = recipe;
    expect(whole).toEqual({
      name: "PainTrain",
      model: "PainSTIA",
      data: {
        folder: "data/npain",
        labels: ["calm", "cry", "mild", "severe"],
        split: { protocol: { kind: "folds", folds: 10, seed: 2026 }, validation: 0.1 },
        batch: 16,
        balance: "inverse_frequency",
        sampling: { kind: "middle" },
        resize: 256,
        crop: "random",
        flip: 0.5,
        jitter: 0.2,
        flowBound: 20,
        evaluation: { segments: 1, crops: 1 },
      },
      precision: { kind: "mixed", lossScale: undefined },
      seed: 7,
      metrics: [{ kind: "accuracy" }, { kind: "macro_f1" }, { kind: "auc", class: "severe" }],
    });
    expect(stages).toHaveLength(1);
  });

  test("its one stage", () => {
    const { parameters, ...stage } = stageOf(recipe);
    expect(stage).toEqual({
      name: "",
      epochs: 60,
      loss: [
        { weight: 1, kind: "cross_entropy", on: "output", smoothing: 0.1, classWeights: "none" },
        { weight: 0.4, kind: "cross_entropy", on: "streams", smoothing: 0, classWeights: "none" },
      ],
      optimizer: { kind: "sgd", momentum: 0.9, nesterov: true },
      rate: 1e-3,
      weightDecay: 5e-4,
      schedule: { warmup: 2, then: { kind: "step", at: [25, 45], gamma: 0.1 } },
      frozenNorms: [],
      accumulate: 1,
      clipNorm: 5,
      ema: undefined,
      mixup: undefined,
      stop: undefined,
      keep: { metric: { kind: "macro_f1" }, better: "larger" },
    });
    // 13 convolutions with weight and bias in either stream; fc6..fc8 twice, and two units of 20.
    const slow = parameters.filter(({ rate }) => rate === 0.1);
    expect(slow).toHaveLength(52);
    expect(
      slow.every(({ frozenUntil, decay, path }) => frozenUntil === 5 && decay === 1 && path.includes("conv")),
    ).toBe(true);
    expect(parameters).toHaveLength(52 + 12 + 40);
    expect(
      parameters.filter(({ rate, decay, frozenUntil }) => rate === 1 && decay === 1 && frozenUntil === 0),
    ).toHaveLength(52);
  });

  test("is plain data", () => {
    expect(JSON.parse(JSON.stringify(recipe))).toEqual(recipe);
  });

  test("its parameters, and the folder, may come from outside", () => {
    const given = recipeOf(
      exampleRecipe("neonatal_pain", {
        args: new Map([
          ["lr", 4e-3],
          ["epochs", 15],
        ]),
        folder: "/elsewhere",
      }),
    );
    expect(given.data.folder).toBe("/elsewhere");
    expect(given.data.labels).toEqual(recipe.data.labels);
    expect(stageOf(given)).toEqual({ ...stageOf(recipe), rate: 4e-3, epochs: 15 });
  });
});

test("examples/staged.net: streams by themselves, then STIA, then everything", () => {
  const recipe = recipeOf(exampleRecipe("staged"));
  expect(recipe.stages.map(({ name, epochs }) => [name, epochs])).toEqual([
    ["streams", 35],
    ["attention", 5],
    ["joint", 20],
  ]);
  expect(recipe.data).toMatchObject({
    sampling: { kind: "segments", count: 3 },
    resize: 128,
    crop: "random",
    flip: 0.5,
  });
  const frozen = (stage: Stage): readonly string[] =>
    stage.parameters.filter(({ frozenUntil }) => frozenUntil === "end").map(({ path }) => path);
  const [streams, attention, joint] = recipe.stages;
  if (streams === undefined || attention === undefined || joint === undefined) throw new Error("three stages");
  expect(streams.loss).toEqual([
    { weight: 1, kind: "cross_entropy", on: "streams", smoothing: 0, classWeights: "none" },
  ]);
  expect(frozen(streams).every((path) => path.startsWith("stia_"))).toBe(true);
  expect(frozen(streams)).toHaveLength(40);
  expect(streams.frozenNorms).toEqual([
    "stia_conv3.to_spatial.bn",
    "stia_conv3.to_temporal.bn",
    "stia_conv4.to_spatial.bn",
    "stia_conv4.to_temporal.bn",
  ]);
  expect(frozen(attention).some((path) => path.startsWith("stia_"))).toBe(false);
  expect(frozen(attention)).toHaveLength(28);
  expect(attention.frozenNorms).toHaveLength(8);
  expect(attention.optimizer).toEqual(streams.optimizer);
  // Partial BN: all but the first norm of each stream; STIA's stay trainable.
  expect(joint.frozenNorms).toEqual(
    ["spatial", "temporal"].flatMap((stream) => ["conv2", "conv3", "conv4"].map((conv) => `${stream}.${conv}.bn`)),
  );
  expect(frozen(joint)).toEqual(joint.frozenNorms.flatMap((path) => [`${path}.weight`, `${path}.bias`]));
  expect(joint.rate).toBeCloseTo(1e-3, 12);
  expect(rule(joint, "spatial.conv1.conv.weight")).toMatchObject({ rate: 0.1, decay: 1 });
  expect(rule(joint, "spatial.fc.bias")).toMatchObject({ rate: 0.1, decay: 0 });
  expect(rule(joint, "stia_conv3.to_spatial.theta.weight")).toMatchObject({ rate: 1, decay: 1 });
});

describe("without settings", () => {
  test("a headline has a recipe as soon as there is a folder", () => {
    const { name, model, data, stages } = recipeOf(
      elaborateText("VGG16(classes=4) ×2 with STIA at conv3", { folder: "d" }),
    );
    expect({ name, model }).toEqual({ name: "Default", model: "Headline" });
    expect(data).toMatchObject({ folder: "d", labels: undefined, batch: 16, resize: 256, crop: "random", flip: 0 });
    expect(stages).toHaveLength(1);
    expect(stages[0]).toMatchObject({
      epochs: 30,
      rate: 1e-2,
      weightDecay: 5e-4,
      optimizer: { kind: "sgd", momentum: 0.9, nesterov: false },
      schedule: { warmup: 1, then: { kind: "cosine", to: 0 } },
      keep: { metric: { kind: "accuracy" }, better: "larger" },
    });
  });

  test("labels are the file's constant list, so that what is predicted has the names it was trained with", () => {
    expect(recipeOf(elaborateSettings("", { folder: "d" })).data.labels).toEqual(["calm", "cry", "mild", "severe"]);
  });
});

describe("data", () => {
  const data = (settings: string): Recipe["data"] => recipeWith(`data {\nsource = Clips("clips")\n${settings}\n}`).data;

  test.each([
    ["by_subject", { kind: "folds", folds: 10, seed: 0 }],
    ["by_subject(5)", { kind: "folds", folds: 5, seed: 0 }],
    ["leave_one_subject_out", { kind: "leave-one-subject-out" }],
    ["fixed", { kind: "fixed" }],
  ])("split = %s", (text, protocol) => {
    expect(data(`split = ${text}\nvalidation = 0.25`).split).toEqual({ protocol, validation: 0.25 });
  });

  test("transforms: what is not listed is not done", () => {
    expect(data("train = [CenterCrop(64)]")).toMatchObject({ resize: undefined, crop: "centre", flip: 0, jitter: 0 });
    expect(data("train = [Resize(80), RandomCrop(64x64), HorizontalFlip, ColorJitter(0.3)]")).toMatchObject({
      resize: 80,
      crop: "random",
      flip: 0.5,
      jitter: 0.3,
    });
    expect(data("eval = [Resize(70), CenterCrop(64)]")).toMatchObject({ resize: 70, crop: "random" });
  });

  test("a stream that says nothing follows the other", () => {
    expect(
      data('stream "temporal" { train = [Resize(90), RandomCrop(64), FlowFlip(0.25)]; sample = flow(clip=15) }'),
    ).toMatchObject({
      resize: 90,
      flip: 0.25,
      jitter: 0,
      flowBound: 15,
      sampling: { kind: "random" },
    });
  });

  test("windows", () => {
    expect(data("sample = segments(3)").sampling).toEqual({ kind: "segments", count: 3 });
    expect(data('stream "temporal" { sample = flow(L=10, window=middle_frame) }').sampling).toEqual({ kind: "middle" });
  });

  test("a source alone, and open sizes", () => {
    const open = `${MODEL.replaceAll("64, 64", "H, W")}recipe Train for Net { data = Clips("c"); evaluate = views }`;
    expect(recipeOf(elaborateText(open)).data).toMatchObject({
      folder: "c",
      resize: undefined,
      evaluation: { segments: 25, crops: 10 },
    });
  });
});

describe("losses", () => {
  test("sums, factors, parentheses and `if`", () => {
    const { loss } = only(
      "loss = 2 * (CrossEntropy(weights=inverse_frequency) + MSE / 4) + if 1 < 2 { 0.5 * BinaryCrossEntropy(on=streams) } else { MSE }",
    );
    expect(loss).toEqual([
      { weight: 2, kind: "cross_entropy", on: "output", smoothing: 0, classWeights: "inverse_frequency" },
      { weight: 0.5, kind: "mean_squared_error", on: "output", smoothing: 0, classWeights: "none" },
      { weight: 0.5, kind: "binary_cross_entropy", on: "streams", smoothing: 0, classWeights: "none" },
    ]);
  });
  test("weights of classes", () => {
    expect(only("loss = CrossEntropy(weights=[1, 2, 2, 4])").loss[0]?.classWeights).toEqual([1, 2, 2, 4]);
  });
});

describe("optimizers and schedules", () => {
  test.each([
    ["SGD(lr=0.1)", { kind: "sgd", momentum: 0, nesterov: false }, 0],
    ["Adam(1e-3, eps=1e-6)", { kind: "adam", beta1: 0.9, beta2: 0.999, eps: 1e-6, decoupled: false }, 0],
    ["AdamW(lr=1e-3, beta2=0.95)", { kind: "adam", beta1: 0.9, beta2: 0.95, eps: 1e-8, decoupled: true }, 0.01],
  ])("%s", (text, optimizer, weightDecay) => {
    expect(only(`optimizer = ${text}`)).toMatchObject({ optimizer, weightDecay });
  });
  test.each([
    ["Constant", { warmup: 0, then: { kind: "constant" } }],
    ["Warmup(epochs=0.5)", { warmup: 0.5, then: { kind: "constant" } }],
    ["Warmup(3) -> Cosine(to=0.01)", { warmup: 3, then: { kind: "cosine", to: 0.01 } }],
    [
      "Plateau(val.uar, gamma=0.5, patience=2)",
      {
        warmup: 0,
        then: {
          kind: "plateau",
          goal: { metric: { kind: "uar" }, better: "larger" },
          gamma: 0.5,
          patience: 2,
          least: 0,
        },
      },
    ],
  ])("%s", (text, schedule) => {
    expect(only(`schedule = ${text}`).schedule).toEqual(schedule);
  });
  test("the rest", () => {
    expect(
      only('accumulate = 4\nema = 0.99\nmixup = 0.2\nclip_norm = none\nstop = early(val.auc("cry"), patience=3)'),
    ).toMatchObject({
      accumulate: 4,
      ema: 0.99,
      mixup: 0.2,
      clipNorm: undefined,
      stop: { goal: { metric: { kind: "auc", class: "cry" }, better: "larger" }, patience: 3 },
    });
    expect(only("keep = best(val.loss)").keep).toEqual({ metric: { kind: "loss" }, better: "smaller" });
    expect(recipeWith("precision = mixed(f16, loss_scale=1024)").precision).toEqual({ kind: "mixed", lossScale: 1024 });
  });
});

describe("parameters", () => {
  test("a later group goes before, and `lr` is the stage's rate", () => {
    const stage = only(
      'optimizer = SGD(lr=2e-2, weight_decay=1e-3)\ngroup "stem" { at = conv1; lr = lr / 4 }\ngroup "flow" { at = temporal.conv1; lr = 1e-2; weight_decay = 0 }\ngroup "biases" { at = "*.bias"; lr = 2 * lr }',
    );
    expect(rule(stage, "spatial.conv1.conv.weight")).toMatchObject({ rate: 0.25, decay: 1 });
    expect(rule(stage, "temporal.conv1.conv.weight")).toMatchObject({ rate: 0.5, decay: 0 });
    expect(rule(stage, "temporal.conv1.bn.bias")).toMatchObject({ rate: 2, decay: 0 });
    expect(rule(stage, "stia_conv2.to_spatial.theta.bias")).toMatchObject({ rate: 2, decay: 1 });
    expect(rule(stage, "spatial.fc.weight")).toMatchObject({ rate: 1, decay: 1, frozenUntil: 0 });
  });
  test("a group outside acts in every stage, by the stage's rate", () => {
    const recipe = recipeWith(
      'group "stem" { at = conv1; lr = 0.1 * lr }\nstage "a" { optimizer = SGD(lr=1) }\nstage "b" { optimizer = SGD(lr=0.1); group "head" { at = fc; lr = 1 } }',
    );
    for (const stage of recipe.stages) expect(rule(stage, "spatial.conv1.conv.weight").rate).toBe(0.1);
    expect(rule(stageOf(recipe, "a"), "spatial.fc.bias").rate).toBe(1);
    expect(rule(stageOf(recipe, "b"), "spatial.fc.bias").rate).toBe(10);
  });
  test("a decay that only a group has", () => {
    const stage = only('optimizer = SGD(lr=1e-2)\ngroup "head" { at = fc; weight_decay = 2e-4 }');
    expect(stage.weightDecay).toBe(2e-4);
    expect(rule(stage, "spatial.fc.weight").decay).toBe(1);
    expect(rule(stage, "spatial.conv1.conv.weight").decay).toBe(0);
  });
  test("nothing decays that `no_decay` names", () => {
    const biases = only("no_decay = biases");
    expect(rule(biases, "spatial.conv1.bn.weight").decay).toBe(1);
    expect(rule(biases, "spatial.conv1.bn.bias").decay).toBe(0);
    const norms = only("no_decay = [norms]");
    expect(rule(norms, "spatial.conv1.bn.weight").decay).toBe(0);
    expect(rule(norms, "spatial.fc.bias").decay).toBe(1);
  });
  test("frozen for a while, or for good", () => {
    const stage = only('group "low" { at = conv1..conv2; frozen_until = epochs(3) }\nfreeze = [temporal, @stia_conv2]');
    expect(rule(stage, "spatial.conv2.conv.weight").frozenUntil).toBe(3);
    expect(rule(stage, "temporal.conv2.conv.weight").frozenUntil).toBe("end");
    expect(rule(stage, "spatial.fc.weight").frozenUntil).toBe(0);
    expect(stage.frozenNorms).toEqual([
      "temporal.conv1.bn",
      "temporal.conv2.bn",
      "stia_conv2.to_spatial.bn",
      "stia_conv2.to_temporal.bn",
    ]);
  });
  test.each([
    ["all", ["spatial.conv1.bn", "spatial.conv2.bn", "temporal.conv1.bn", "temporal.conv2.bn"]],
    ["all_but_first", ["spatial.conv2.bn", "temporal.conv2.bn"]],
    ["conv1", ["spatial.conv1.bn", "temporal.conv1.bn"]],
    ['"stia_*"', ["stia_conv2.to_spatial.bn", "stia_conv2.to_temporal.bn"]],
  ])("freeze_norms = %s", (text, norms) => {
    const stage = only(`freeze_norms = ${text}`);
    expect(stage.frozenNorms.toSorted()).toEqual(norms.toSorted());
    for (const path of norms) expect(rule(stage, `${path}.weight`).frozenUntil).toBe("end");
    expect(rule(stage, "spatial.conv1.conv.weight").frozenUntil).toBe(0);
  });
  test("positions from a parameter of the recipe", () => {
    const text = `${MODEL}const SPOTS = [@conv1, "fc"]\nrecipe Train(still: position = SPOTS) for Net { data = Clips("c"); freeze = still }`;
    const stage = stageOf(recipeOf(elaborateText(text)));
    expect(stage.parameters.filter(({ frozenUntil }) => frozenUntil === "end")).toHaveLength(10);
  });
});
