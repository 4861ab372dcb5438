/** Scores against values worked out by hand, and against scipy and numpy (test/fixtures/make_scipy.py). */
import { readFileSync } from "node:fs";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Metric } from "../../compiler/recipe/recipe.ts";
import {
  classScores,
  confusionOf,
  countAt,
  hitsOf,
  metricName,
  metricOfName,
  metricText,
  metricValue,
  type ScoredClip,
} from "../../runtime/metrics/scores.ts";

interface Fixture {
  readonly scores: readonly {
    readonly truth: readonly number[];
    readonly probabilities: readonly (readonly number[])[];
    readonly confusion: readonly (readonly number[])[];
    readonly accuracy: number;
    readonly uar: number;
    readonly macro_f1: number;
    readonly auc: readonly number[];
    readonly loss: number;
  }[];
}
const fixture = JSON.parse(readFileSync(new URL("../fixtures/scipy.json", import.meta.url), "utf8")) as Fixture;

const CLASSES = ["calm", "cry", "pain"];

/** A clip of class `truth` that was taken for `taken` with certainty, or has no prediction. */
function clip(truth: string, taken: string | undefined, index: number): ScoredClip {
  return {
    path: `${index}.avi`,
    subject: undefined,
    class: truth,
    probabilities: taken === undefined ? undefined : CLASSES.map((name) => (name === taken ? 1 : 0)),
  };
}

/** 4 calm (3 right, 1 as cry), 2 cry (1 right, 1 without prediction), 1 pain (as calm). */
const SMALL: readonly ScoredClip[] = (
  [
    ["calm", "calm"],
    ["calm", "calm"],
    ["calm", "calm"],
    ["calm", "cry"],
    ["cry", "cry"],
    ["cry", undefined],
    ["pain", "calm"],
  ] as const
).map(([truth, taken], index) => clip(truth, taken, index));

describe("by hand", () => {
  it("counts a clip without a prediction in its row and in no class's column", () => {
    const confusion = confusionOf(SMALL, CLASSES);
    expect([...confusion.counts]).toEqual([3, 1, 0, 0, 0, 1, 0, 1, 1, 0, 0, 0]);
    expect(countAt(confusion, 1, "none")).toBe(1);
    expect(hitsOf(confusion)).toEqual({ correct: 4, total: 7 });
  });

  it("gives WAR, UAR and macro-F1", () => {
    expect(metricValue({ kind: "accuracy" }, SMALL, CLASSES)).toBeCloseTo(4 / 7, 12);
    expect(metricValue({ kind: "uar" }, SMALL, CLASSES)).toBeCloseTo((3 / 4 + 1 / 2 + 0) / 3, 12);
    // F1: calm 2·3/(4 + 4), cry 2·1/(2 + 2), pain 0.
    expect(metricValue({ kind: "macro_f1" }, SMALL, CLASSES)).toBeCloseTo((6 / 8 + 2 / 4 + 0) / 3, 12);
  });

  it("gives precision, recall, F1 and support of each class", () => {
    expect(classScores(confusionOf(SMALL, CLASSES))).toEqual([
      { class: "calm", support: 4, failed: 0, precision: 3 / 4, recall: 3 / 4, f1: 6 / 8 },
      { class: "cry", support: 2, failed: 1, precision: 1 / 2, recall: 1 / 2, f1: 2 / 4 },
      { class: "pain", support: 1, failed: 0, precision: Number.NaN, recall: 0, f1: 0 },
    ]);
  });

  it("takes means over the classes that have clips", () => {
    const two = SMALL.filter((one) => one.class !== "pain");
    expect(metricValue({ kind: "uar" }, two, CLASSES)).toBeCloseTo((3 / 4 + 1 / 2) / 2, 12);
    expect(metricValue({ kind: "uar" }, [], CLASSES)).toBeNaN();
    expect(metricValue({ kind: "accuracy" }, [], CLASSES)).toBeNaN();
  });

  it("counts half of a tie in the AUC, and a missing prediction as wrongly ranked", () => {
    const scored = (truth: string, p: number | undefined, index: number): ScoredClip => ({
      path: String(index),
      subject: undefined,
      class: truth,
      probabilities: p === undefined ? undefined : [1 - p, p],
    });
    const auc = (clips: readonly (readonly [string, number | undefined])[]): number =>
      metricValue(
        { kind: "auc", class: "b" },
        clips.map(([truth, p], index) => scored(truth, p, index)),
        ["a", "b"],
      );
    // Pairs (b, a): 0.5 against 0.25 and 0.5; 0.75 against both: (1 + ½ + 1 + 1) / 4.
    const pairs = [["a", 0.25] as const, ["a", 0.5] as const, ["b", 0.5] as const, ["b", 0.75] as const];
    expect(auc(pairs)).toBeCloseTo(3.5 / 4, 12);
    expect(auc([...pairs, ["b", undefined]])).toBeCloseTo(3.5 / 6, 12);
    expect(auc([...pairs, ["a", undefined]])).toBeCloseTo(3.5 / 6, 12);
    expect(auc([["b", 0.5]])).toBeNaN();
  });

  it("takes a prediction that is not finite for none", () => {
    const broken: ScoredClip = { path: "x", subject: undefined, class: "calm", probabilities: [Number.NaN, 0, 1] };
    expect(metricValue({ kind: "accuracy" }, [broken], CLASSES)).toBe(0);
    expect(countAt(confusionOf([broken], CLASSES), 0, "none")).toBe(1);
    expect(metricValue({ kind: "loss" }, [broken, clip("cry", "cry", 1)], CLASSES)).toBe(0);
  });

  it("keeps the cross-entropy of a rounded zero finite", () => {
    expect(metricValue({ kind: "loss" }, [clip("calm", "cry", 0)], CLASSES)).toBeCloseTo(126 * Math.LN2, 10);
  });

  it("refuses clips of another class, another number of probabilities, and an AUC of no class", () => {
    const [first] = SMALL;
    if (first === undefined) throw new Error("no clips");
    const accuracy: Metric = { kind: "accuracy" };
    expect(() => metricValue(accuracy, [{ ...first, class: "joy" }], CLASSES)).toThrow(
      "`0.avi` is of class `joy`, which is not a class here",
    );
    expect(() => metricValue(accuracy, [{ ...first, probabilities: [1] }], CLASSES)).toThrow(
      "`0.avi` has 1 probabilities for 3 classes",
    );
    expect(() => metricValue({ kind: "auc", class: "joy" }, SMALL, CLASSES)).toThrow("there is no class `joy`");
  });
});

describe("names", () => {
  it("are read back as written", () => {
    const metrics: readonly Metric[] = [
      { kind: "loss" },
      { kind: "accuracy" },
      { kind: "uar" },
      { kind: "macro_f1" },
      { kind: "auc", class: "pain (severe)" },
    ];
    for (const metric of metrics) expect(metricOfName(metricName(metric))).toEqual(metric);
    expect(metricOfName("war")).toBeUndefined();
  });

  it("tell WAR from UAR", () => {
    expect(metricText({ kind: "accuracy" })).toMatchObject({
      title: "Accuracy (WAR)",
      formula: "correct clips ÷ all clips",
    });
    expect(metricText({ kind: "uar" }).formula).toMatch(/^mean over classes/);
    expect(metricText({ kind: "auc", class: "severe" }).title).toBe("AUC of severe");
  });
});

describe("scipy and numpy", () => {
  it.each(fixture.scores)("$truth.length clips", ({ truth, probabilities, confusion, auc, ...expected }) => {
    const classes = confusion.map((_, index) => `c${index}`);
    const clips = truth.map((k, index) => ({
      path: String(index),
      subject: undefined,
      class: classes[k] ?? "",
      probabilities: probabilities[index],
    }));
    const own = confusionOf(clips, classes);
    expect(classes.map((_, row) => classes.map((_, column) => countAt(own, row, column)))).toEqual(confusion);
    expect(metricValue({ kind: "accuracy" }, clips, classes)).toBeCloseTo(expected.accuracy, 12);
    expect(metricValue({ kind: "uar" }, clips, classes)).toBeCloseTo(expected.uar, 12);
    expect(metricValue({ kind: "macro_f1" }, clips, classes)).toBeCloseTo(expected.macro_f1, 12);
    expect(metricValue({ kind: "loss" }, clips, classes)).toBeCloseTo(expected.loss, 10);
    for (const [k, value] of auc.entries())
      expect(metricValue({ kind: "auc", class: `c${k}` }, clips, classes)).toBeCloseTo(value, 12);
  });
});

describe("of any predictions", () => {
  const clips = fc
    .array(fc.tuple(fc.nat(2), fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 3, maxLength: 3 })))
    .map((rows) =>
      rows.map(([k, scores], index) => ({
        path: String(index),
        subject: undefined,
        class: CLASSES[k] ?? "",
        probabilities: scores.map((score) => score / 12),
      })),
    );

  it("WAR is the mean of recalls weighted by clips", () => {
    fc.assert(
      fc.property(clips, (predictions) => {
        fc.pre(predictions.length > 0);
        const rows = classScores(confusionOf(predictions, CLASSES)).filter((row) => row.support > 0);
        const weighted = rows.reduce((sum, row) => sum + row.recall * row.support, 0) / predictions.length;
        expect(metricValue({ kind: "accuracy" }, predictions, CLASSES)).toBeCloseTo(weighted, 12);
      }),
    );
  });

  it("the AUC of the reversed order is one minus the AUC", () => {
    fc.assert(
      fc.property(clips, (predictions) => {
        const auc = (of: readonly ScoredClip[]): number => metricValue({ kind: "auc", class: "cry" }, of, CLASSES);
        const reversed = predictions.map((one) => ({ ...one, probabilities: one.probabilities.map((p) => 1 - p) }));
        const value = auc(predictions);
        fc.pre(!Number.isNaN(value));
        expect(auc(reversed)).toBeCloseTo(1 - value, 12);
      }),
    );
  });
});
