/**
 * Which recipe trains which model, recipes of other files, and the check of all recipes of a file.
 */
import { describe, expect, test } from "vitest";
import { elaborateWithRecipes } from "../../compiler/recipe/elaborate.ts";
import { recipeRows } from "../../compiler/recipe/print.ts";
import { resolveWith } from "../elaborate/programs.ts";
import { elaborateText, exampleRecipe, MODEL, recipeOf } from "./programs.ts";

const DATA = 'data = Clips("c")';
const TWO = `${MODEL}model Other = VGG16(classes=4)
recipe First for Net { ${DATA} }
recipe Second for Net { ${DATA}; epochs = 2 }
recipe Third for Other { ${DATA} }
`;

const nameOf = (text: string, options = {}): string => {
  const { name, model } = recipeOf(elaborateText(text, options));
  return `${name} of ${model}`;
};

describe("the recipe of a model", () => {
  test("is the last that is for it", () => {
    expect(nameOf(TWO, { model: "Net" })).toBe("Second of Net");
    expect(nameOf(TWO)).toBe("Third of Other");
  });
  test("is the one named, which says what the model is", () => {
    expect(nameOf(TWO, { recipe: "First" })).toBe("First of Net");
    expect(nameOf(TWO, { recipe: "First", model: "Net" })).toBe("First of Net");
  });
  test("may be for a block of it, for the bare headline, or for anything", () => {
    expect(nameOf(`VGG16(classes=4)\n`, { folder: "c" })).toBe("Default of Headline");
    expect(nameOf(`recipe Any { ${DATA} }\nVGG16(classes=4)`)).toBe("Any of Headline");
    expect(
      nameOf(
        `recipe Vgg for VGG16 { ${DATA} }\nrecipe Res for ResNet18 { ${DATA} }\nVGG16(classes=4) ×2 with STIA at conv3`,
      ),
    ).toBe("Vgg of Headline");
    expect(nameOf(`recipe Bare for Headline { ${DATA} }\nVGG16(classes=4)`)).toBe("Bare of Headline");
  });
});

describe("a recipe of another file", () => {
  const FILES = { "net.net": `${MODEL}recipe Train(lr: float = 1) for Net { ${DATA}; optimizer = SGD(lr=lr) }` };

  test("brings its model", () => {
    const { recipe, model, from } = elaborateText('import { Train } from "./net.net"', { recipe: "Train" }, FILES);
    expect(recipe?.name).toBe("Train");
    expect(recipe?.data.labels).toEqual(["calm", "cry", "mild", "severe"]);
    expect(model?.name).toBe("Net");
    expect(from?.path).toBe("net.net");
  });
  test("under a name of this file, with values for its parameters", () => {
    const text = 'import { Net, Train as Slow } from "./net.net"\nmodel Mine = VGG16(classes=4)';
    const { recipe } = elaborateText(text, { recipe: "Slow", args: new Map([["lr", 0.5]]) }, FILES);
    expect(recipe?.stages[0]?.rate).toBe(0.5);
  });
});

describe("all recipes of a file", () => {
  const check = (text: string) => elaborateWithRecipes({ path: "train.net", text }, resolveWith({}));

  test("each is checked with its own model", () => {
    const { recipes, diagnostics, model } = check(TWO);
    expect(diagnostics).toEqual([]);
    expect(model?.name).toBe("Other");
    expect(recipes.map(({ name, model: trains }) => [name, trains])).toEqual([
      ["First", "Net"],
      ["Second", "Net"],
      ["Third", "Other"],
    ]);
    expect(check(`${TWO}recipe Bad for Net { freeze = conv9 }`).diagnostics.map(({ code }) => code)).toEqual(["E0502"]);
  });
  test("what a command line can give may be missing", () => {
    const text = `${MODEL}recipe Train(rounds: int, lr: float = 1) for Net { epochs = rounds; optimizer = SGD(lr=lr) }`;
    expect(check(text).diagnostics).toEqual([]);
    expect(elaborateText(text).diagnostics.map(({ code }) => code)).toEqual(["E0403"]);
  });
  test("settings are checked where there is no model at all", () => {
    expect(check("recipe Train { epohcs = 3 }").diagnostics.map(({ code }) => code)).toEqual(["E0701"]);
    expect(check("recipe Train for Nothing { epochs = 3 }").diagnostics.map(({ code }) => code)).toEqual(["E0201"]);
  });
});

test("a recipe in words names every default", () => {
  const recipe = recipeOf(exampleRecipe("staged"));
  const rows = new Map(recipeRows(recipe).map(([name, value]) => [name, value]));
  expect(rows.get("split")).toBe("5 folds by subject, seed 1; 15 % of the training subjects for validation");
  expect(
    recipeRows(recipe)
      .filter(([name]) => name === "stage")
      .map(([, value]) => value),
  ).toEqual(["streams: 35 epochs", "attention: 5 epochs", "joint: 20 epochs"]);
  expect(recipeRows(recipe)).toContainEqual([
    "parameters",
    "rate ×1, decay ×1: 10, spatial.conv1.conv.weight … temporal.fc.weight",
  ]);
});
