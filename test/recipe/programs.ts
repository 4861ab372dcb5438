/**
 * Recipes for the tests: a small two-stream model with a recipe behind it, and the examples from the disk.
 */
import { expect } from "vitest";
import { elaborateRecipe, type RecipeElaboration, type RecipeOptions } from "../../compiler/recipe/elaborate.ts";
import type { Recipe } from "../../compiler/recipe/recipe.ts";
import { openEntry } from "../../runtime/cli/sources.ts";
import { resolveWith } from "../elaborate/programs.ts";

/** Two streams of three convolutions with norms, and STIA between them; 64 pixels, 10 fields of flow, 4 classes. */
export const MODEL = `const LABELS = ["calm", "cry", "mild", "severe"]
block ConvBN(c: int) = Conv(c, use_bias=false) @conv -> BatchNorm @bn -> ReLU
block Tiny(classes: int)(x: [N, C, H, W]) -> [N, classes] =
  ConvBN(8) @conv1 -> MaxPool(2) @pool1 -> ConvBN(8) @conv2 -> GlobalAvgPool -> Linear(classes) @fc
model Net = Tiny(classes=4) ×2 over spatial: f32[N, 3, 64, 64], temporal: f32[N, 20, 64, 64] with STIA at conv2
`;

const CLIPS = 'data { source = Clips("clips", labels=LABELS) }';

/** A recipe with these settings, for `Net`. */
export function elaborateSettings(settings: string, options: RecipeOptions = {}): RecipeElaboration {
  return elaborateText(`${MODEL}recipe Train for Net {\n${settings}\n}\n`, options);
}

export function elaborateText(
  text: string,
  options: RecipeOptions = {},
  files: Readonly<Record<string, string>> = {},
): RecipeElaboration {
  return elaborateRecipe({ path: "train.net", text }, resolveWith(files), options);
}

/** The record of a text that has no errors. */
export function recipeOf({ recipe, diagnostics }: RecipeElaboration): Recipe {
  expect(diagnostics).toEqual([]);
  if (recipe === undefined) throw new Error("there is no recipe");
  return recipe;
}

export function recipeWith(settings: string, options: RecipeOptions = {}): Recipe {
  return recipeOf(elaborateSettings(settings.includes("data") ? settings : `${settings}\n${CLIPS}`, options));
}

export function exampleRecipe(name: string, options: RecipeOptions = {}): RecipeElaboration {
  const { source, resolve } = openEntry(`examples/${name}.net`);
  return elaborateRecipe(source, resolve, options);
}
