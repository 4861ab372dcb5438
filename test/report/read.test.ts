/** Reading a run's folder: what is ordinary after a crash is tolerated, anything else is named with file and line. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { historyOf } from "../../runtime/report/history.ts";
import { decodeMetrics, decodeRecord, readRun } from "../../runtime/report/read.ts";
import { decodePredictions, encodePredictions, readPredictions } from "../../runtime/train/predictions.ts";
import type { MetricLine } from "../../runtime/train/records.ts";
import { fakeMetrics, fakePredictions, fakeRecord, fakeRun, jsonLines, writeRun } from "./fake.ts";

const root = mkdtempSync(join(tmpdir(), "netc-run-"));
afterAll(() => rmSync(root, { recursive: true }));

function lines(content: string): readonly MetricLine[] {
  const read = decodeMetrics(content);
  if ("error" in read) throw new Error(read.error);
  return read;
}

describe("a run's folder", () => {
  it("comes back as it was written", () => {
    const run = fakeRun();
    expect(readRun(writeRun(join(root, "whole"), run))).toEqual(run);
  });

  it("may lack metrics and predictions", () => {
    const folder = join(root, "begun");
    mkdirSync(folder);
    writeFileSync(join(folder, "run.json"), JSON.stringify(fakeRecord("begun", 1)));
    expect(readRun(folder)).toMatchObject({ metrics: [], validation: undefined, test: undefined });
  });

  it("says what is missing or damaged, and where", () => {
    const error = (folder: string): string => {
      const read = readRun(folder);
      return "error" in read ? read.error.replaceAll(root, "…") : "";
    };
    expect(error(join(root, "nothing"))).toBe("`…/nothing` is no folder");
    mkdirSync(join(root, "bare"));
    expect(error(join(root, "bare"))).toBe("`…/bare` holds no run: it has no run.json");
    const folder = writeRun(join(root, "damaged"), fakeRun());
    writeFileSync(join(folder, "predictions/test.jsonl"), "{}\n");
    expect(error(folder)).toBe(
      "`…/damaged/predictions/test.jsonl`: line 1 is not the header of a file of predictions: `format` is missing",
    );
    writeFileSync(join(folder, "metrics.jsonl"), '{"kind":"note","step":0,"text":"x"}\n{"kind":"step"}\n');
    expect(error(folder)).toBe("`…/damaged/metrics.jsonl`: line 2: `stage` is missing");
    writeFileSync(join(folder, "run.json"), "{");
    expect(error(folder)).toBe("`…/damaged/run.json`: it is not JSON");
  });
});

describe("run.json", () => {
  const broken = (change: (record: Record<string, unknown>) => void): string => {
    const record = JSON.parse(JSON.stringify(fakeRecord("x", 1))) as Record<string, unknown>;
    change(record);
    const read = decodeRecord(JSON.stringify(record));
    return "error" in read ? read.error : "";
  };

  it("is checked down to the recipe", () => {
    expect(broken(() => {})).toBe("");
    expect(broken((record) => delete record["seed"])).toBe("`seed` is missing");
    expect(broken((record) => Object.assign(record, { version: 2 }))).toBe("`version` is not one of 1");
    expect(broken((record) => Object.assign(record, { model: { name: 3 } }))).toBe("`model.name` is not text");
    expect(
      broken((record) => {
        const recipe = record["recipe"] as { stages: { schedule: { then: { kind: string } } }[] };
        const [, second] = recipe.stages;
        if (second !== undefined) second.schedule.then.kind = "sawtooth";
      }),
    ).toBe("`recipe.stages[1].schedule.then.kind` is not one of constant, step, cosine, plateau");
  });
});

describe("metrics.jsonl", () => {
  it("may end in the middle of a line, and nowhere else", () => {
    const content = jsonLines(fakeMetrics(3, 4));
    const cut = content.slice(0, -20);
    expect(lines(cut)).toEqual(fakeMetrics(3, 4).slice(0, -1));
    const [first, second, ...rest] = content.split("\n");
    expect(decodeMetrics([first, second?.slice(0, 15), ...rest].join("\n"))).toEqual({
      error: "line 2: it is not JSON",
    });
  });

  it("keeps a loss that was not finite", () => {
    const line = { ...fakeMetrics(3, 1).find((one) => one.kind === "step"), loss: Number.NaN };
    expect(lines(jsonLines([line]))).toEqual([line]);
  });

  it("is read without what a resumed run did over again", () => {
    const record = fakeRecord("x", 3);
    const whole = fakeMetrics(3, 4).filter((line) => line.kind !== "note");
    // Killed after update 11, in the third epoch; resumed from a checkpoint of update 6, in the second.
    const until = (step: number): readonly MetricLine[] => whole.filter((line) => line.step <= step);
    const after = whole.filter((line) => line.step > 6);
    const history = historyOf([...until(11), { kind: "note", step: 6, text: "resumed" }, ...after], record);
    const straight = historyOf(whole, record);
    expect(history.steps).toEqual(straight.steps);
    expect(history.epochs).toEqual(straight.epochs);
    expect(history.repeated).toBe(5);
    expect(straight.repeated).toBe(0);
  });

  it("tells time in epochs across stages", () => {
    const history = historyOf(fakeMetrics(3, 4), fakeRecord("x", 3));
    expect([0, 2, 4, 5, 120, 122].map(history.at)).toEqual([0, 0.5, 1, 1.25, 30, 30.5]);
    expect(history.end).toBe(30);
    expect(history.stages).toEqual([
      { at: 0, label: "warm" },
      { at: 6, label: "whole" },
    ]);
    const begun = historyOf(fakeMetrics(3, 4).slice(0, 3), fakeRecord("x", 3));
    expect(begun.unit).toBe("update");
    expect(begun.at(2)).toBe(2);
  });
});

describe("files of predictions", () => {
  const { header, clips } = fakePredictions({ failed: 2, subjects: 2, each: 1 });
  const error = (content: string): string => {
    const read = decodePredictions(content);
    return "error" in read ? read.error : "";
  };

  it("come back as they were written", () => {
    expect(decodePredictions(encodePredictions(header, clips))).toEqual({ header, clips });
    const nameless = clips.map((clip) => ({ ...clip, subject: undefined }));
    expect(decodePredictions(encodePredictions(header, nameless))).toEqual({ header, clips: nameless });
  });

  it("hold an output that is not finite as a failure", () => {
    const first = clips.find((clip) => clip.probabilities !== undefined);
    if (first === undefined) throw new Error("no clips");
    const broken = { ...first, probabilities: header.classes.map(() => Number.NaN) };
    const read = decodePredictions(encodePredictions(header, [broken]));
    expect("error" in read ? read : read.clips).toEqual([
      { ...first, probabilities: undefined, failure: "the model's output is not finite" },
    ]);
  });

  it("are refused with the line and what is wrong with it", () => {
    const [, second = "", third = "", ...rest] = encodePredictions(header, clips).split("\n");
    const top = JSON.stringify(header);
    const file = (...changed: readonly string[]): string => [top, ...changed, ...rest].join("\n");
    expect(error("")).toBe("line 1 is not the header of a file of predictions: it is not JSON");
    expect(error(file(second, second))).toMatch(/^line 3: `subject 1\/.*` was listed before$/);
    expect(error(file(second, third.replace('"class":"', '"class":"dis')))).toMatch(
      /^line 3: the class `dis.*` is not in the header$/,
    );
    expect(error(file(second, third.replace("[", "[0.1,")))).toBe("line 3: 7 probabilities for 6 classes");
    expect(error(file(second, third.replace("[", "[1.5,")))).toBe(
      "line 3: `probabilities[0]` is not a number from 0 to 1",
    );
    expect(error(`${top}\n${second}\n${third.slice(0, 10)}`)).toBe("line 3 is cut short");
    expect(readPredictions(join(root, "none.jsonl"))).toEqual({
      error: `\`${join(root, "none.jsonl")}\` does not exist`,
    });
  });
});
