/**
 * What a person is told of a search: one mistake each, the codes that must come, and the whole text in
 * `golden/errors.txt`, source and drawing, to be read by people (`npx vitest run -u` writes it anew).
 */
import { describe, expect, test } from "vitest";
import type { SearchOptions } from "../../compiler/search/elaborate.ts";
import { renderDiagnostics } from "../../grammar/render.ts";
import { elaborateText, NET, searchIn, tiny } from "./programs.ts";

type Case = readonly [code: string, program: string, options?: SearchOptions];

const SPOTS = "  choose spots in subsets(@conv1..@conv3)";
const MODEL = `  model = ${tiny("with STIA at spots")}`;
const chosen = (choices: string, grafts = "with STIA at spots", args = ""): string =>
  searchIn(`${choices}\n  model = ${tiny(grafts, args)}`);
/** With choices and a model, so that the mistake is the only one. */
const set = (lines: string): string => searchIn(`${SPOTS}\n${MODEL}\n${lines}`);

const CASES: readonly Case[] = [
  // ---- the search itself
  ["E0802", NET],
  ["E0802", set(""), { search: "Serach" }],
  ["E0802", searchIn(SPOTS)],
  ["E0802", searchIn(`  model = ${tiny("with STIA at conv2")}`)],
  ["E0802", chosen("  choose spots in subsets(@conv1..@conv3)\n  choose spots in {@conv1}")],
  ["E0802", searchIn("  choose spots in subsets({@conv1, @conv2})\n  model = VGG16 ×2 with STIA at spots")],
  // ---- sets
  ["E0804", chosen("  choose spots in subset(@conv1..@conv3)")],
  ["E0804", chosen("  choose spots in conv1..conv3")],
  ["E0804", chosen("  choose spots in subsets({conv1, conv3})")],
  ["E0804", chosen("  choose unit in {STIA, none}\n  choose spot in {unit, @conv2}", "with unit at spot")],
  ["E0804", chosen("  choose spots in {}")],
  ["E0804", chosen("  choose unit in {none}", "with unit at conv2")],
  ["E0804", chosen("  choose unit in {STIA, SE(reduction=2), STIA}", "with unit at conv2")],
  ["E0804", chosen("  choose unit in {STIA(reduction={2, {4, 8}})}", "with unit at conv2")],
  ["E0804", chosen("  choose spots in {{@conv1, @conv2}, @conv3}")],
  ["E0804", chosen("  choose spots in subsets(@conv1..@conv3, size=4)")],
  ["E0804", chosen("  choose spots in subsets(@conv1..@conv3, sizes=1..2)")],
  ["E0804", chosen("  choose spots in subsets({@conv1, none})")],
  ["E0804", chosen("  choose w in 8..4", "", "(width=w)")],
  ["E0804", chosen("  choose w in 1..1000", "", "(width=w)")],
  ["E0804", chosen("  choose w in step(4..8)", "", "(width=w)")],
  ["E0804", chosen("  choose w in log(0..1)", "", "(width=w)")],
  ["E0804", chosen("  choose w in log(1..8, level=3)", "", "(width=w)")],
  ["E0804", chosen("  choose w in uniform(4..8, levels=1)", "", "(width=w)")],
  ["E0804", chosen("  choose p in @conv1..@conv3", "", "(width=p)")],
  ["E0502", chosen("  choose spots in subsets(@conv1..@conv9)")],
  ["E0503", chosen("  choose spots in subsets(@conv3..@conv1)")],
  // ---- conditions
  [
    "E0803",
    chosen(
      "  choose spots in subsets({@conv1, @conv2}) when unit != none\n  choose unit in {STIA, none}",
      "with unit at spots",
    ),
  ],
  [
    "E0803",
    chosen("  choose unit in {STIA, none}\n  choose w in {4, 8} when unit != none", "with unit at conv2", "(width=w)"),
  ],
  [
    "E0803",
    searchIn(
      `  choose unit in {STIA, none}\n  choose lr in {0.1, 0.2} when unit != none\n  model = ${tiny("with unit at conv2")}\n  recipe = Train(lr=lr)`,
    ),
  ],
  ["E0201", chosen("  choose spots in subsets({@conv1}) when joint != none")],
  // ---- requirements
  ["E0801", set("  require params(model) < 2500")],
  ["E0801", set("  limit { params = 3000; flops = 100K }")],
  ["E0801", set("  require count(spots) > 3, params(model) < 10M")],
  ["E0802", set("  require params(spots) < 10M")],
  ["E0802", set("  require count(units) < 3")],
  ["E0802", set("  require latency(model) < 12ms")],
  [
    "E0802",
    searchIn(`  choose w in {4, 8}\n  model = ${tiny("", "(width=w)")}\n  require params(model) < 2 * params(none)`),
  ],
  ["E0201", set("  require parms(model) < 10M")],
  // ---- settings
  ["E0701", set("  methd = GP")],
  ["E0701", set("  strategy = GP")],
  ["E0701", set("  epochs = 12")],
  ["E0701", set("  limit { parameters = 10M }")],
  ["E0703", set("  method = Bayes")],
  ["E0401", set("  method = Evolution(populaton=12)")],
  ["E0703", set("  spend = 0")],
  ["E0703", set("  seeds = 1")],
  ["E0703", set("  rungs = [9, 3]")],
  ["E0703", set("  limit = 10M")],
  ["E0704", set("  limit { params = 10M }\n  limit { flops = 1G }")],
  ["E0704", set("  spend = 10\n  spend = 20")],
  ["E0802", set("  rungs = [3, 9]\n  recipe = Train(epochs=9)")],
  ["E0703", set("  maximize val.acuracy")],
  ["E0802", set("  minimize val.accuracy")],
  ["E0802", set("  maximize val.accuracy\n  minimize val.loss")],
  ["E0802", set("  baseline = [start(spot=[@conv2])]")],
  ["E0802", set("  baseline = [start(spots=[@conv7])]")],
  ["E0703", set("  baseline = [begin(spots=[@conv2])]")],
  // ---- recipes
  ["E0709", set("  recipe = Trian(lr=0.1)")],
  ["E0401", set("  recipe = Train(rate=0.1)")],
  ["E0802", set("  recipe = 3")],
  ["E0802", searchIn(`  choose n in {3, 9}\n  model = ${tiny("")}\n  recipe = Train(epochs=n)`)],
  // ---- parameters of the search
  [
    "E0403",
    searchIn("", "").replace(
      "search S {\n\n}",
      `search S(base: block) {\n${SPOTS}\n  model = base ×2 with STIA at spots\n}`,
    ),
  ],
  [
    "E0201",
    searchIn("", "").replace(
      "search S {\n\n}",
      `search S(base: block = Tiny) {\n${SPOTS}\n${MODEL.replace("Tiny", "base")}\n}`,
    ),
    { args: new Map([["base", "VGG61(classes=4)"]]) },
  ],
  ["E0401", set(""), { args: new Map([["bse", "VGG16"]]) }],
  // ---- spaces
  ["E0311", chosen("  choose r in {3, 5}", "with STIA(reduction=r) at conv2")],
  ["E0805", chosen("  choose a in 1..60\n  choose b in 1..60\n  choose c in 1..60", "", "(width=a * b * c)")],
  [
    "E0805",
    searchIn(
      "  choose spots in subsets({@conv1})\n  model = Tiny over x: f32[N, 3, H, W] with SE(reduction=2) at spots",
    ),
  ],
  ["W0801", chosen("  choose spots in subsets({@conv1})\n  choose width in {4, 8}")],
  [
    "W0802",
    chosen("  choose r in {2, 3}\n  choose spots in subsets({@conv1, @conv2})", "with STIA(reduction=r) at spots"),
  ],
  ["W0802", chosen("  choose spots in subsets({@conv1, @conv22})")],
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
