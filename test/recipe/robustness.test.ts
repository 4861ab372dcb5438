/**
 * No recipe that a person writes may end in a thrown exception: settings made at random out of the words of recipes, and
 * the examples with words exchanged.
 */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { DATA, GROUP, RECIPE, STAGE, STREAM } from "../../compiler/recipe/schema.ts";
import { WORDS } from "../../compiler/recipe/words.ts";
import type { Diagnostic } from "../../grammar/diagnostic.ts";
import { renderDiagnostics } from "../../grammar/render.ts";
import { elaborateText, MODEL } from "./programs.ts";

const NAMES = Object.keys({ ...RECIPE, ...STAGE, ...DATA, ...STREAM, ...GROUP });
const BARE = Object.values(WORDS)
  .flat()
  .map((word) => word.replace(/\(.*/, ""));

const { value } = fc.letrec<{ value: string }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    fc.constantFrom(
      "0",
      "1",
      "-1",
      "0.5",
      "1e400",
      '""',
      '"calm"',
      "none",
      "true",
      "f16",
      "LABELS",
      "Net",
      "rate",
      "x",
    ),
    fc.constantFrom(
      "conv1..conv2",
      "@conv1",
      '"*.bias"',
      "spatial.conv1",
      "spatial",
      "val.uar",
      "val.auc",
      "test.loss",
    ),
    fc.constantFrom(...BARE, "streams", "inverse_frequency", "end", "all_but_first", "biases"),
    fc
      .tuple(fc.constantFrom(...BARE), fc.array(tie("value"), { maxLength: 3 }))
      .map(([name, args]) => `${name}(${args.join(", ")})`),
    fc
      .tuple(
        fc.constantFrom(...BARE),
        fc.constantFrom("lr", "p", "size", "on", "weights", "class", "window"),
        tie("value"),
      )
      .map(([name, key, arg]) => `${name}(${key}=${arg})`),
    fc.array(tie("value"), { maxLength: 3 }).map((items) => `[${items.join(", ")}]`),
    fc
      .tuple(tie("value"), fc.constantFrom("+", "*", "/", "->", "..", "-", "%"), tie("value"))
      .map(([a, op, b]) => `(${a} ${op} ${b})`),
    fc.tuple(tie("value"), tie("value")).map(([a, b]) => `(if 1 < 2 { ${a} } else { ${b} })`),
  ),
}));
const setting = fc.tuple(fc.constantFrom(...NAMES), value).map(([name, text]) => `${name} = ${text}`);
const settings = fc.array(setting, { maxLength: 4 }).map((lines) => lines.join("; "));
const section = fc
  .tuple(
    fc.constantFrom("data", 'stream "spatial"', 'stage "a"', 'group "g"', "group", "stage", "epochs"),
    settings,
    settings,
  )
  .map(
    ([name, body, inner]) =>
      `${name} { ${body} ${name === "data" ? `stream "temporal" { ${inner} }` : `group "h" { ${inner} }`} }`,
  );
const recipe = fc
  .array(fc.oneof(setting, section), { maxLength: 5 })
  .map((lines) => `recipe Train(rate: float = 0.1) for Net {\n${lines.join("\n")}\n}`);

function expectSound(text: string, diagnostics: readonly Diagnostic[], found: unknown): void {
  if (found === undefined) expect(diagnostics.length, text).toBeGreaterThan(0);
  for (const each of diagnostics)
    for (const { span } of each.labels) {
      expect(span.end, `${text}\n${each.code}`).toBeLessThanOrEqual(span.source.text.length);
      expect(span.start, `${text}\n${each.code}`).toBeLessThanOrEqual(span.end);
    }
  renderDiagnostics(diagnostics);
}

test("settings at random give a record or a diagnostic", { timeout: 120_000 }, () => {
  fc.assert(
    fc.property(recipe, (text) => {
      const whole = MODEL + text;
      const found = elaborateText(whole, { folder: "c" });
      expectSound(whole, found.diagnostics, found.recipe);
      if (found.recipe !== undefined) {
        expect(found.recipe.stages.length).toBeGreaterThan(0);
        for (const stage of found.recipe.stages)
          for (const { rate, decay } of stage.parameters)
            expect(Number.isFinite(rate) && Number.isFinite(decay) && rate >= 0 && decay >= 0, whole).toBe(true);
      }
    }),
    { seed: 20_261_125, numRuns: Number(process.env["FUZZ_ROUNDS"] ?? 150) },
  );
});

test("the staged example with words exchanged, dropped and doubled", { timeout: 120_000 }, () => {
  const example = readFileSync("examples/staged.net", "utf8");
  const start = example.indexOf("recipe");
  const words = example.slice(start).match(/\s+|"[^"]*"|[\w']+|->|\.\.|[^\s\w]/g) ?? [];
  const solid = words.filter((word) => word.trim() !== "");
  fc.assert(
    fc.property(
      fc.array(
        fc.tuple(fc.nat(words.length - 1), fc.constantFrom("swap", "drop", "double"), fc.nat(solid.length - 1)),
        {
          minLength: 1,
          maxLength: 3,
        },
      ),
      (changes) => {
        const changed = [...words];
        for (const [at, how, other] of changes) {
          if (how === "drop") changed[at] = "";
          else changed[at] = how === "swap" ? (solid[other] ?? "") : `${changed[at] ?? ""} ${solid[other] ?? ""}`;
        }
        const text = example.slice(0, start) + changed.join("");
        const { recipe: found, diagnostics } = elaborateText(text);
        expectSound(text, diagnostics, found);
      },
    ),
    { seed: 20_261_125, numRuns: Number(process.env["FUZZ_ROUNDS"] ?? 60) },
  );
});
