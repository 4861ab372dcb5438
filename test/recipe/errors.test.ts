/**
 * What a person is told of a recipe: one mistake each, the codes that must come, and the whole text in
 * `golden/errors.txt`, source and drawing, to be read by people (`npx vitest run -u` writes it anew).
 */
import { describe, expect, test } from "vitest";
import type { RecipeOptions } from "../../compiler/recipe/elaborate.ts";
import { renderDiagnostics } from "../../grammar/render.ts";
import { elaborateText, MODEL } from "./programs.ts";

type Case = readonly [code: string, program: string, options?: RecipeOptions];

const CLIPS = 'source = Clips("clips", labels=LABELS)';
const recipe = (settings: string): string => `${MODEL}recipe Train for Net {\n${settings}\n}\n`;
/** With data, so that the mistake is the only one. */
const set = (settings: string): string => recipe(`  data { ${CLIPS} }\n${settings}`);
const data = (settings: string): string => recipe(`  data {\n    ${CLIPS}\n${settings}\n  }`);

const CASES: readonly Case[] = [
  // ---- names of settings and of what they hold
  ["E0701", set("  learning_rate = 1e-3")],
  ["E0701", set("  epohcs = 5")],
  ["E0701", set("  batch = 32")],
  ["E0701", set('  group "low" { at = conv1; epochs = 5 }')],
  ["E0701", set('  stage "joint" { seed = 3 }')],
  ["E0701", set("  optimiser { lr = 1 }")],
  ["E0703", set("  stage = 3")],
  ["E0703", set("  epochs { n = 3 }")],
  // ---- values
  ["E0201", set("  epochs = 2 * rounds")],
  ["E0401", set("  optimizer = SGD(lr=1e-3, momentun=0.9)")],
  ["E0401", set("  optimizer = SGD(1e-3, 0.9, false, 0, 1)")],
  ["E0403", set("  optimizer = AdamW(weight_decay=0.1)")],
  ["E0703", set("  epochs = 0.5")],
  ["E0703", set("  epochs = rounds")],
  ["E0703", set("  optimizer = SGD(lr=1e-3, momentum=1.5)")],
  ["E0703", set("  optimizer = SDG(lr=1e-3)")],
  ["E0703", set("  loss = CrossEntrpy(label_smoothing=0.1)")],
  ["E0703", set("  loss = CrossEntropy - 0.4 * MSE")],
  ["E0703", set("  schedule = Step(at=[45, 25])")],
  ["E0703", set("  schedule = Cosine -> Warmup(epochs=2)")],
  ["E0703", set("  precision = mixed(bf16)")],
  ["E0703", set("  metrics = [accuracy, f1]")],
  ["E0703", set("  keep = best(test.accuracy)")],
  ["E0703", set("  keep = best(macro_f1)")],
  ["E0703", set("  evaluate = views(crops=5)")],
  ["E0703", data("    balance = inverse")],
  ["E0703", set("  stage { epochs = 3 }")],
  ["E0403", set('  group "low" { lr = 0.1 * lr }')],
  // ---- labels and classes
  ["E0702", `${MODEL}recipe Train for Net { data = Clips("clips", labels=["calm", "cry"]) }`],
  ["E0702", set("  loss = CrossEntropy(weights=[1, 2, 3])")],
  ["E0702", set('  metrics = [auc("sever")]')],
  ["E0702", set('  metrics = [confusion(["calm", "pain"])]')],
  ["E0702", 'model One = VGG16(classes=1)\nrecipe Train for One { data = Clips("clips") }'],
  ["E0702", 'model One = VGG16(classes=1)\nrecipe Train for One { data = Clips("clips"); loss = CrossEntropy }'],
  [
    "W0702",
    'model Soft = VGG16(classes=4) ×2 over a: RGB, b: Flow fuse SoftmaxAverage\nrecipe Train for Soft { data = Clips("clips"); loss = CrossEntropy }',
  ],
  // ---- contradictions
  ["E0704", set("  seed = 1\n  seed = 2")],
  ["E0704", set("  optimizer = SGD(lr=1e-3, nesterov=true)")],
  ["E0704", recipe(`  data { ${CLIPS}; validation = 0 }\n  keep = best(val.uar)`)],
  ["E0704", set('  freeze = [spatial, temporal, "stia_*"]')],
  ["E0704", data("    train = [RandomCrop(64), RandomCrop(64)]")],
  ["E0704", set('  stage "a" { epochs = 1 }\n  stage "a" { epochs = 2 }')],
  [
    "W0701",
    recipe(`  data { ${CLIPS}; balance = inverse_frequency }\n  loss = CrossEntropy(weights=inverse_frequency)`),
  ],
  // ---- positions
  ["E0502", set('  group "low" { at = conv1..conv22; lr = 0.1 * lr }')],
  ["E0502", set("  freeze = spatail")],
  ["E0503", set("  freeze = bn")],
  ["E0503", set("  freeze = conv2..conv1")],
  ["E0705", set('  group "pools" { at = pool1; lr = 0.1 * lr }')],
  ["E0705", set('  freeze = "*.fc8"')],
  [
    "E0705",
    `model Flat = VGG16(classes=4)\nrecipe Train for Flat { data = Clips("clips"); freeze_norms = all_but_first }`,
  ],
  // ---- streams and their transforms
  ["E0501", data('    stream "spatail" { sample = middle_frame }')],
  [
    "E0706",
    data(
      '    stream "spatial" { train = [Resize(73), RandomCrop(64)] }\n    stream "temporal" { train = [Resize(80), RandomCrop(64)] }',
    ),
  ],
  [
    "E0706",
    data(
      '    stream "spatial" { train = [RandomCrop(64), HorizontalFlip(0.5)] }\n    stream "temporal" { train = [RandomCrop(64)] }',
    ),
  ],
  ["E0706", data("    train = [Resize(256), RandomCrop(224)]")],
  ["E0706", data("    train = [Resize(50), RandomCrop(64)]")],
  ["E0706", data("    train = [RandomCrop(64), Resize(73)]")],
  ["E0706", data("    eval = [Resize(73), RandomCrop(64)]")],
  ["E0706", data("    train = [Resize(73), RandomCrop(64)]\n    eval = [Resize(64), CenterCrop(64)]")],
  ["E0706", data('    stream "temporal" { train = [RandomCrop(64), HorizontalFlip(0.5)] }')],
  ["E0706", data('    stream "temporal" { train = [RandomCrop(64), ColorJitter(0.2)] }')],
  ["E0706", data('    stream "temporal" { sample = flow(L=5) }')],
  ["E0706", data('    stream "temporal" { sample = middle_frame }')],
  [
    "E0706",
    data(
      '    stream "spatial" { sample = middle_frame }\n    stream "temporal" { sample = flow(window=random_frame) }',
    ),
  ],
  // ---- models
  [
    "E0707",
    'model Flat = VGG16(classes=4)\nrecipe Train for Flat {\n  data = Clips("clips")\n  loss = CrossEntropy + 0.4 * CrossEntropy(on=streams)\n}',
  ],
  [
    "E0707",
    'model Mid = VGG16 ×2 over a: RGB, b: Flow fuse at conv5 Concat -> GlobalAvgPool -> Linear(4)\nrecipe Train for Mid { data = Clips("clips"); loss = CrossEntropy(on=streams) }',
  ],
  ["E0708", recipe("  epochs = 3")],
  ["E0708", "VGG16(classes=4)"],
  [
    "E0709",
    `${MODEL}model Other = VGG16(classes=4)\nrecipe Train for Net { epochs = 3 }`,
    { model: "Other", recipe: "Train" },
  ],
  ["E0709", set("  epochs = 3"), { recipe: "Tran" }],
  ["E0709", `const K = 3\n${MODEL}recipe Train for K { epochs = 3 }`, { recipe: "Train" }],
  ["E0710", "model Digits(x: f32[N, 1, 28, 28]) -> f32[N, 10] = Flatten -> Linear(10)"],
  ["E0710", "VGG16(classes=4) ×2 over a: RGB, b: Flow fuse none"],
  // ---- parameters of the recipe
  [
    "E0401",
    `${MODEL}recipe Train(lr: float = 1e-3) for Net { optimizer = SGD(lr=lr) }`,
    { args: new Map([["rate", 1]]), folder: "clips" },
  ],
  ["E0331", `${MODEL}recipe Train(rounds: int = 3) for Net { epochs = rounds }`, { args: new Map([["rounds", 0.5]]) }],
  ["E0403", `${MODEL}recipe Train(rounds: int) for Net { epochs = rounds }`],
];

const drawn = CASES.map(([code, program, options]) => {
  const { diagnostics } = elaborateText(program, options);
  return { code, program, codes: diagnostics.map((each) => each.code), text: renderDiagnostics(diagnostics) };
});

describe("one mistake, one message", () => {
  test.each(drawn)("$code: $text", ({ code, codes }) => {
    expect(codes).toEqual([code]);
  });
});

test("as people see them", async () => {
  await expect(`${drawn.map(({ text }) => text).join("\n\n")}\n`).toMatchFileSnapshot("golden/errors.txt");
});
