import { expect, it } from "vitest";
import { suggest } from "../../grammar/suggest.ts";

it.each([
  ["mit", ["with", "over", "sharing", "fuse", "from"], "with"],
  ["BatchNorn", ["BatchMean", "BatchNorm", "LayerNorm"], "BatchNorm"],
  ["strides", ["out", "k", "stride", "pad"], "stride"],
  ["retrun", ["param", "return"], "return"],
  ["Batch", ["Bach", "BatchNorm", "Conv"], "Bach"],
  ["Atten", ["Concat", "Attention"], "Attention"],
  ["vgg16", ["VGG19", "VGG16"], "VGG16"],
  ["conv33", ["conv1", "conv3", "conv3_3"], "conv3"],
  ["relu", ["ReLU", "relv"], "ReLU"],
  ["frobnicate", ["Conv", "Linear"], undefined],
  ["x", ["abc", "y_long"], undefined],
  ["Conv", ["Conv"], undefined],
  ["a", [], undefined],
])("%s among %j means %s", (word, candidates, meant) => {
  expect(suggest(word, candidates)).toBe(meant);
});
