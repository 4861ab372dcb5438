/** What `netc eval` prints: a name and a formula beside every number, and what the intervals take for granted. */
import { describe, expect, it } from "vitest";
import { comparisonTable, scoresTable, seedsTable } from "../../runtime/report/terminal.ts";
import { duration, magnitude, significant } from "../../runtime/report/text.ts";
import type { Predictions } from "../../runtime/train/predictions.ts";
import { fakePredictions } from "./fake.ts";

const QUICK = { replicates: 200 };

function printed(result: readonly string[] | { readonly error: string }): string {
  if ("error" in result) throw new Error(result.error);
  return result.join("\n");
}

/** A set small enough to count by hand: 2 subjects, 2 classes. */
function small(answers: string, header: Partial<Predictions["header"]> = {}): Predictions {
  const full = fakePredictions({ classes: ["calm", "pain"], subjects: 2, each: 2 });
  return {
    header: { ...full.header, note: "", ...header },
    clips: full.clips.map((clip, index) => {
      const answer = answers[index];
      const p = answer === "c" ? [0.9, 0.1] : [0.2, 0.8];
      return answer === "-"
        ? { ...clip, probabilities: undefined, failure: "no frames" }
        : { ...clip, probabilities: p, failure: undefined };
    }),
  };
}

describe("the table of scores", () => {
  // Truth: calm calm pain pain, twice.
  const { header, clips } = small("ccpccp-p");
  const text = printed(scoresTable(header, clips, QUICK));

  it("is right by hand", () => {
    // calm: c c | c p: 3 of 4. pain: p c | - p: 2 of 4.
    expect(text).toMatch(/^UAR +62\.5 % .* mean over classes of: correct clips of the class ÷ clips of the class$/m);
    expect(text).toMatch(/^Accuracy \(WAR\) +62\.5 % .* correct clips ÷ all clips$/m);
    // F1: calm 2·3/(4 + 4), pain 2·2/(3 + 4).
    expect(text).toMatch(/^Macro-F1 +66\.1 % /m);
    expect(text).toMatch(/^calm +3 +1 +0 +4$/m);
    expect(text).toMatch(/^pain +1 +2 +1 +4$/m);
    expect(text).toMatch(/^calm +75\.0 % +75\.0 % +75\.0 % /m);
    expect(text).toMatch(/^pain +50\.0 % +66\.7 % +57\.1 % /m);
  });

  it("says what the numbers rest on", () => {
    expect(text).toContain(
      "stia-conv3, test: 8 clips of 2 subjects, fold 1 of 5, update 1080, 25 segments × 10 crops a clip",
    );
    expect(text).toContain("95 % percentile interval, 200 bootstrap draws of the subjects, seed 0.");
    expect(text).toContain("There are 2 subjects only");
    expect(text).toContain("Wilson's interval takes clips as independent.");
    expect(text).toContain("A clip without a prediction counts as wrong");
    expect(text).toContain("Always answering calm scores accuracy 50.0 %.");
    expect(text).toContain(
      "1 clip without a prediction, counted as wrong:\n  subject 2/pain/sentence 1.avi: no frames",
    );
  });

  it("adds the metrics that are asked for, once, and only of classes that there are", () => {
    const asked = printed(
      scoresTable(header, clips, {
        ...QUICK,
        metrics: [{ kind: "auc", class: "pain" }, { kind: "uar" }, { kind: "auc", class: "joy" }],
      }),
    );
    // p(pain) of the pain clips: 0.8, 0.1, none, 0.8; of the calm ones: 0.1, 0.1, 0.1, 0.8. (3½ + 1½ + 0 + 3½) / 16.
    expect(asked).toMatch(/^AUC of pain +0\.531 /m);
    expect(asked.match(/^UAR/gm)).toHaveLength(1);
    expect(asked).not.toContain("joy");
  });

  it("shows the manifest's note", () => {
    const drawn = fakePredictions({ subjects: 2 });
    expect(scoresTable(drawn.header, drawn.clips, QUICK)[1]).toMatch(/^SYNTHETIC: /);
  });
});

describe("the comparison of two runs", () => {
  it("is right by hand", () => {
    const text = printed(comparisonTable(small("ccpccp-p", { run: "a" }), small("ccppccpp", { run: "b" }), QUICK));
    expect(text).toMatch(/^Accuracy \(WAR\) +62\.5 % +100\.0 % +\+37\.5 pt +\+25\.0 pt to \+50\.0 pt +\d/m);
    expect(text).toContain("McNemar, exact: 0 clips right in the first only, 3 in the second only, p = 0.2500.");
    expect(text).toContain("McNemar's test takes clips as independent.");
    expect(text).toContain("p (Holm) is corrected");
    expect(text).toContain("first:  a (VGG16x2, seed 7)");
  });

  it("refuses what cannot be compared", () => {
    const error = (a: Predictions, b: Predictions): string => {
      const result = comparisonTable(a, b, QUICK);
      return "error" in result ? result.error : "";
    };
    const one = small("ccppccpp");
    expect(error(one, small("ccppccpp", { side: "validation" }))).toBe(
      "the first predicts its test clips, the second its validation clips",
    );
    expect(error(one, small("ccppccpp", { classes: ["pain", "calm"] }))).toMatch(
      /^the classes are not the same: calm, pain/,
    );
    expect(error(one, { ...one, clips: one.clips.slice(1) })).toMatch(
      /^the clips are not the same: 1 only in the first/,
    );
  });
});

describe("the comparison over seeds", () => {
  const runs = (answers: readonly string[], run: string): readonly Predictions[] =>
    answers.map((text, seed) => small(text, { seed, run: `${run}-${seed}` }));

  it("is right by hand", () => {
    // Accuracies 5/8, 6/8, 7/8 against 7/8, 7/8, 8/8: differences 2, 1, 1 of 8.
    const first = runs(["ccpccp-p", "ccppcp-p", "ccppcppp"], "a");
    const second = runs(["ccppcppp", "ccppcppp", "ccppccpp"], "b");
    const text = printed(seedsTable(first, second));
    // Mean 4/24 = 16.7 pt, sd 7.2 pt; t(2) = 4.303: 16.7 ± 17.9.
    expect(text).toMatch(/^Accuracy \(WAR\) +75\.0 % +91\.7 % +\+16\.7 pt +7\.2 pt +−1\.3 pt to \+34\.6 pt +0\.0572 /m);
    expect(text).toContain("seeds 0, 1, 2");
    expect(text).toContain("paired t test over 3 seeds");
  });

  it("refuses runs that are no pairs", () => {
    const error = (a: readonly Predictions[], b: readonly Predictions[]): string => {
      const result = seedsTable(a, b);
      return "error" in result ? result.error : "";
    };
    const three = runs(["ccppccpp", "ccppccpp", "ccppccpp"], "a");
    expect(error([], three)).toBe("there are no runs to compare");
    expect(error(three, three.slice(1))).toBe("seed 0 has a run on one side only");
    const [first] = three;
    if (first === undefined) throw new Error("no runs");
    expect(error([...three, first], three)).toBe("two runs of the first have the same seed");
    expect(error(three, [{ ...first, clips: first.clips.slice(1) }])).toMatch(
      /^`a-0` and `a-0`: the clips are not the same/,
    );
  });
});

describe("numbers as people write them", () => {
  it("significant digits", () => {
    const pairs = [
      [0, "0"],
      [1234, "1234"],
      [0.5, "0.5"],
      [-0.25, "−0.25"],
      [0.001, "0.001"],
      [0.00001, "1e−5"],
      [0.0000125, "1.25e−5"],
      [1e9, "1e9"],
      [Number.NaN, "–"],
    ] as const;
    for (const [value, text] of pairs) expect(significant(value)).toBe(text);
  });

  it("times and magnitudes", () => {
    expect([0.5, 42, 800, 11_520].map(duration)).toEqual(["0.50 s", "42.0 s", "13 min 20 s", "3 h 12 min"]);
    expect([960, 138_357_544, 15_470_000_000].map(magnitude)).toEqual(["960", "138.4 M", "15.47 G"]);
  });
});
