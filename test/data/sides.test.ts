/** Training, validation and test: who is where, and what is refused. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Split } from "../../compiler/recipe/recipe.ts";
import type { ClipRecord, Manifest } from "../../runtime/data/manifest.ts";
import { countSide, foldNames, type Sides, type SidesError, splitSides } from "../../runtime/data/sides.ts";

const classes = ["calm", "cry", "mild"];
const folds: Split["protocol"] = { kind: "folds", folds: 3, seed: 1 };
const recipe = (split: Partial<Split> = {}, labels?: readonly string[], batch: number = 2) => ({
  split: { protocol: folds, validation: 0.2, ...split },
  labels,
  batch,
});

/** `subjects` people with `each` clips of each class. */
function makeSet(subjects: number, each: number, change: (clip: ClipRecord) => ClipRecord = (clip) => clip): Manifest {
  const clips = Array.from({ length: subjects }, (_, s) =>
    classes.flatMap((name) =>
      Array.from({ length: each }, (_, k) =>
        change({
          path: `S${s + 1}/${name}/${k + 1}.mp4`,
          class: name,
          subject: `S${s + 1}`,
          frames: 20,
          status: "ok",
          sha256: `${s}-${name}-${k}`,
        }),
      ),
    ),
  ).flat();
  return { note: "a set", layout: "pain", classes, clips };
}
function sidesOf(result: Sides | SidesError): Sides {
  if (result.kind !== "sides") throw new Error(result.message);
  return result;
}
function refusal(result: Sides | SidesError): string {
  return result.kind === "sides" ? "accepted" : [result.message, ...result.help].join("\n");
}
const people = (clips: readonly ClipRecord[]): string[] => [...new Set(clips.map((clip) => clip.subject ?? ""))].sort();

describe("the sides of a fold", () => {
  test("are three groups of people, the same for the same seed", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 4, max: 12 }),
        fc.integer({ min: 1, max: 3 }),
        fc.double({ min: 0.05, max: 0.6, noNaN: true }),
        fc.integer({ min: 0, max: 99 }),
        (subjects, each, validation, seed) => {
          const set = makeSet(subjects, each);
          const asked = recipe({ validation });
          for (const fold of [1, 2, 3]) {
            const sides = sidesOf(splitSides(set, asked, fold, seed));
            const groups = [people(sides.train), people(sides.validation), people(sides.test)];
            expect(groups.flat().sort()).toEqual(people(set.clips));
            expect(groups.every((group) => group.length > 0)).toBe(true);
            expect(splitSides(set, asked, fold, seed)).toEqual(sides);
          }
        },
      ),
      { numRuns: 30 },
    );
  });

  test("validation has its share, with the classes even, and other people for another seed", () => {
    const set = makeSet(15, 2);
    const sides = sidesOf(splitSides(set, recipe(), "fold 2 of 3", 7));
    expect(countSide(classes, sides.train)).toEqual({ clips: 48, subjects: 8, byClass: [16, 16, 16] });
    expect(countSide(classes, sides.validation)).toEqual({ clips: 12, subjects: 2, byClass: [4, 4, 4] });
    expect(countSide(classes, sides.test)).toEqual({ clips: 30, subjects: 5, byClass: [10, 10, 10] });
    const other = sidesOf(splitSides(set, recipe(), 2, 8));
    expect(people(other.test)).toEqual(people(sides.test));
    expect(people(other.validation)).not.toEqual(people(sides.validation));
    expect(sidesOf(splitSides(set, recipe({ validation: 0 }), 2, 7)).validation).toEqual([]);
  });

  test("one subject left out, by number or by name", () => {
    const set = makeSet(4, 1);
    const asked = recipe({ protocol: { kind: "leave-one-subject-out" }, validation: 0.3 });
    expect(foldNames(set, asked)).toEqual(["subject S1", "subject S2", "subject S3", "subject S4"]);
    const sides = sidesOf(splitSides(set, asked, "S3", 1));
    expect(people(sides.test)).toEqual(["S3"]);
    expect(splitSides(set, asked, 3, 1)).toEqual(sides);
    expect(people(sides.validation).length).toBe(1);
  });

  test("the set's own sides; validation comes from the training people", () => {
    const set = makeSet(6, 1, (clip) => ({ ...clip, split: clip.subject === "S6" ? "validation" : "train" }));
    const sides = sidesOf(splitSides(set, recipe({ protocol: { kind: "fixed" } }), 1, 1));
    expect(people(sides.test)).toEqual(["S6"]);
    expect(people(sides.validation).length).toBe(1);
    expect(people(sides.validation)).not.toContain("S6");
  });

  test("where nobody is named clips are held out, and it says so", () => {
    const set = makeSet(5, 4, ({ subject, ...clip }) => ({
      ...clip,
      split: subject === "S5" ? "validation" : "train",
    }));
    const sides = sidesOf(splitSides(set, recipe({ protocol: { kind: "fixed" }, validation: 0.25 }), 1, 1));
    expect(countSide(classes, sides.validation).byClass).toEqual([4, 4, 4]);
    expect(sides.notes).toEqual([expect.stringContaining("nothing says who is shown")]);
  });

  test("clips that cannot be read are not trained on, but validated and tested", () => {
    const set = makeSet(6, 2, (clip) => (clip.path.endsWith("cry/2.mp4") ? { ...clip, status: "corrupt" } : clip));
    const sides = sidesOf(splitSides(set, recipe(), 1, 1));
    const bad = (clips: readonly ClipRecord[]): number => clips.filter((clip) => clip.status !== "ok").length;
    expect([bad(sides.train), bad(sides.validation), bad(sides.test)]).toEqual([0, people(sides.validation).length, 2]);
    expect(sides.notes).toContain("2 of 12 test clips cannot be read; they count as errors");
  });
});

describe("refused", () => {
  test("a file that is on two sides, with both paths", () => {
    const set = makeSet(6, 1, (clip) =>
      clip.path === "S1/cry/1.mp4" || clip.path === "S4/mild/1.mp4" ? { ...clip, sha256: "twins" } : clip,
    );
    const said = [1, 2, 3].map((fold) => refusal(splitSides(set, recipe({ validation: 0 }), fold, 1)));
    expect(said.join("\n")).toMatch(/`S\d\/\w+\/1\.mp4` \(test\) is the same file as `S\d\/\w+\/1\.mp4` \(training\)/);
  });
  test("a person whom the set puts on both of its sides", () => {
    const set = makeSet(4, 2, (clip) => ({ ...clip, split: clip.path.includes("S4/cry/2") ? "validation" : "train" }));
    expect(refusal(splitSides(set, recipe({ protocol: { kind: "fixed" }, validation: 0 }), 1, 1))).toContain(
      "subject S4 is on both sides, for example in `S4/mild/2.mp4` (training) and `S4/cry/2.mp4` (test)",
    );
  });
  test("a class that no training clip shows", () => {
    const set = makeSet(4, 2, (clip) =>
      clip.class === "mild" && clip.subject !== "S4" ? { ...clip, class: "cry" } : clip,
    );
    const asked = recipe({ protocol: { kind: "leave-one-subject-out" }, validation: 0 });
    expect(refusal(splitSides(set, asked, "S4", 1))).toMatch(
      /^subject S4: no training clip shows `mild`\ntraining clips of each class: calm 6, cry 12, mild 0/,
    );
  });
  test("fewer training clips than a batch", () => {
    expect(refusal(splitSides(makeSet(3, 1), recipe({ validation: 0 }, undefined, 8), 1, 1))).toMatch(
      /there are 6 training clips, fewer than a batch of 8\nmake `batch` 6 or less/,
    );
  });
  test("labels that are not the set's classes; another order is followed", () => {
    const set = makeSet(6, 1);
    expect(sidesOf(splitSides(set, recipe({}, ["mild", "calm", "cry"]), 1, 1)).classes).toEqual([
      "mild",
      "calm",
      "cry",
    ]);
    expect(refusal(splitSides(set, recipe({}, ["mild", "calm"]), 1, 1))).toContain("the labels leave out `cry`");
    expect(refusal(splitSides(set, recipe({}, [...classes, "joy"]), 1, 1))).toContain("the set has no class `joy`");
    expect(refusal(splitSides(set, recipe({}, [...classes, "cry"]), 1, 1))).toContain("`cry` is given twice");
  });
  test("folds that are not there, and people who cannot be told apart", () => {
    expect(refusal(splitSides(makeSet(6, 1), recipe(), 4, 1))).toBe(
      "there is no fold 4\nthe folds are `fold 1 of 3`, `fold 2 of 3`, `fold 3 of 3`",
    );
    const nameless = makeSet(6, 1, ({ subject: _, ...clip }) => clip);
    expect(refusal(splitSides(nameless, recipe(), 1, 1))).toContain("nothing says who is shown in `S1/calm/1.mp4`");
    const two = makeSet(2, 2);
    const asked = recipe({ protocol: { kind: "leave-one-subject-out" } });
    expect(refusal(splitSides(two, asked, 1, 1))).toContain("there is only one training subject");
  });
});
