/**
 * No search that a person writes may end in a thrown exception, or in silence: lines made at random out of the words of
 * searches, and the tests' own searches with words exchanged.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { checkSearches, winnerSource } from "../../compiler/search/elaborate.ts";
import { LIMIT, SEARCH, SEARCH_WORDS } from "../../compiler/search/words.ts";
import type { Diagnostic } from "../../grammar/diagnostic.ts";
import { renderDiagnostics } from "../../grammar/render.ts";
import { resolveWith } from "../elaborate/programs.ts";
import { elaborateText, searchIn, sourceOf, tiny } from "./programs.ts";

const WORDS = Object.values(SEARCH_WORDS)
  .flat()
  .map((word) => word.replace(/\(.*/, ""));

const { expression } = fc.letrec<{ expression: string }>((tie) => ({
  expression: fc.oneof(
    { depthSize: "small" },
    fc.constantFrom(
      "0",
      "3",
      "-1",
      "0.5",
      "1e400",
      '"a"',
      "none",
      "true",
      "@conv1",
      "conv1",
      "@conv9",
      "@conv1..@conv3",
    ),
    fc.constantFrom("a", "b", "spots", "model", "all", "Tiny", "Train", "STIA", "SE(reduction=2)", "val.uar", "val"),
    fc.constantFrom("1..3", "3..1", "log(1e-3..1)", "step(1..3, 1)", "uniform(0..1)", "count(a)", "params(model)"),
    fc.constantFrom(...WORDS),
    fc.array(tie("expression"), { maxLength: 3 }).map((items) => `{${items.join(", ")}}`),
    fc.array(tie("expression"), { maxLength: 3 }).map((items) => `[${items.join(", ")}]`),
    tie("expression").map((of) => `subsets(${of})`),
    fc.tuple(tie("expression"), tie("expression")).map(([of, size]) => `subsets(${of}, size=${size})`),
    fc
      .tuple(
        fc.constantFrom("STIA", "Train", "Tiny", "start", "Seeds"),
        fc.constantFrom("lr", "a", "reduction", "width", "final"),
        tie("expression"),
      )
      .map(([head, name, value]) => `${head}(${name}=${value})`),
    fc
      .tuple(tie("expression"), fc.constantFrom("<", "!=", "+", "*", "and"), tie("expression"))
      .map((parts) => parts.join(" ")),
  ),
}));

const name = fc.constantFrom("a", "b", "spots", "lr");
const line = fc.oneof(
  fc.tuple(name, expression).map(([to, set]) => `choose ${to} in ${set}`),
  fc.tuple(name, expression, expression).map(([to, set, when]) => `choose ${to} in ${set} when ${when}`),
  expression.map((test) => `require ${test}`),
  fc.tuple(fc.constantFrom("maximize", "minimize"), expression).map((parts) => parts.join(" ")),
  fc
    .tuple(fc.constantFrom(...Object.keys(SEARCH), "model", "recipe", "epochs"), expression)
    .map(([key, value]) => `${key} = ${value}`),
  fc.tuple(fc.constantFrom(...Object.keys(LIMIT)), expression).map(([key, value]) => `limit { ${key} = ${value} }`),
  fc.tuple(name, name).map(([unit, at]) => `model = ${tiny(`with ${unit} at ${at}`)}`),
  fc.tuple(name, name).map(([unit, at]) => `model = ${tiny(`with STIA(reduction=${unit}) at before ${at}, conv2`)}`),
);

/** What is wrong is said, where it is, in words that can be drawn. */
function answered(diagnostics: readonly Diagnostic[], silent: boolean): void {
  for (const { code, labels, message } of diagnostics) {
    expect(code).toMatch(/^[EW]\d{4}$/);
    expect(message).not.toMatch(/undefined|NaN|\[object|internal/);
    for (const { span } of labels) expect(span.end).toBeLessThanOrEqual(span.source.text.length);
  }
  if (silent) expect(diagnostics.some(({ severity }) => severity === "error")).toBe(true);
  renderDiagnostics(diagnostics);
}

function tried(text: string): void {
  const { search, diagnostics } = elaborateText(text);
  answered(diagnostics, search === undefined);
  answered(checkSearches(sourceOf(text), resolveWith({})).diagnostics, false);
  const [first] = search?.space.candidates ?? [];
  if (first === undefined) return;
  const winner = winnerSource(sourceOf(text), resolveWith({}), { levels: first.levels });
  answered(winner.diagnostics, winner.text === undefined);
}

/** With it a line has something to be wrong about. */
const FINE = `choose x in {2, 4}\nmodel = ${tiny("with STIA(reduction=x) at conv2")}`;

test("lines at random", () => {
  fc.assert(
    fc.property(fc.array(line, { minLength: 1, maxLength: 4 }), fc.boolean(), (lines, whole) =>
      tried(
        searchIn(whole ? `${FINE}\n${lines.filter((each) => !each.startsWith("model")).join("\n")}` : lines.join("\n")),
      ),
    ),
    { numRuns: 150, seed: 20261126 },
  );
});

const WHOLE = `choose unit in {STIA(reduction={2, 4}), none}
choose spots in subsets({@conv2, @conv3}, size=0..1) when unit != none
choose lr in log(1e-3..1e-1, levels=2)
model = ${tiny("with unit at spots")}
recipe = Train(lr=lr)
require count(spots) <= 1, params(model) <= 2 * params(none)
limit { flops = 1G }
maximize val.uar
minimize params(model)
method = Evolution(population=4)
seeds = Seeds(final=5, from=7)
baseline = [start(unit=STIA, spots=[@conv3]), random]`;

test("one word for another", () => {
  const words = WHOLE.split(/(\s+|[(){},=])/);
  const places = words.flatMap((word, i) => (/\w/.test(word) ? [i] : []));
  fc.assert(
    fc.property(fc.constantFrom(...places), fc.option(fc.constantFrom(...places), { nil: undefined }), (at, from) => {
      const other = [...words];
      other[at] = from === undefined ? "" : (words[from] ?? "");
      tried(searchIn(other.join("")));
    }),
    { numRuns: 40, seed: 20261126 },
  );
});
