/**
 * The journal for Optuna: the lines that Optuna 3.1 (Debian's) and 5 read. What they are is written here in full, because
 * there is no Optuna beside the tests; a journal of the same study was loaded into 3.1.0 and asked on by hand.
 */
import { describe, expect, it } from "vitest";
import { exportOptuna } from "../../runtime/search/report/optuna.ts";
import { fakeStudy } from "./fake-study.ts";

interface Line {
  readonly op_code: number;
  readonly worker_id: string;
  readonly [field: string]: unknown;
}

const linesOf = (text: string): readonly Line[] =>
  text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);

const study = fakeStudy();
const text = exportOptuna(study);
const lines = linesOf(text);
const FIELDS: Readonly<Record<number, readonly string[]>> = {
  0: ["study_name", "directions"],
  2: ["study_id", "user_attr"],
  3: ["study_id", "system_attr"],
  4: ["study_id", "datetime_start"],
  5: ["trial_id", "param_name", "param_value_internal", "distribution"],
  6: ["trial_id", "state", "values", "datetime_complete"],
  7: ["trial_id", "step", "intermediate_value"],
  8: ["trial_id", "user_attr"],
};

describe("the journal for Optuna", () => {
  it("begins with these lines", () => {
    const worker = `netc-${study.study.id}`;
    expect(text.split("\n").slice(0, 2)).toEqual([
      `{"op_code":0,"worker_id":"${worker}","study_name":"Placement","directions":[2,1]}`,
      `{"op_code":3,"worker_id":"${worker}","study_id":0,"system_attr":{"study:metric_names":["val.uar","params"]}}`,
    ]);
    const first = text.split("\n").findIndex((line) => line.startsWith('{"op_code":4'));
    expect(text.split("\n").slice(first, first + 3)).toEqual([
      `{"op_code":4,"worker_id":"${worker}","study_id":0,"datetime_start":"2026-11-24T09:00:00.000000"}`,
      `{"op_code":5,"worker_id":"${worker}","trial_id":0,"param_name":"spots.conv1","param_value_internal":0,"distribution":"{\\"name\\":\\"CategoricalDistribution\\",\\"attributes\\":{\\"choices\\":[false,true]}}"}`,
      `{"op_code":5,"worker_id":"${worker}","trial_id":0,"param_name":"spots.conv2","param_value_internal":0,"distribution":"{\\"name\\":\\"CategoricalDistribution\\",\\"attributes\\":{\\"choices\\":[false,true]}}"}`,
    ]);
    expect(text.endsWith("\n")).toBe(true);
  });

  it("has the fields of every operation, one attribute at a time, and numbers trials as they come", () => {
    let trials = 0;
    for (const line of lines) {
      const { op_code: operation, worker_id: worker, ...fields } = line;
      expect(worker).toBe(`netc-${study.study.id}`);
      expect(Object.keys(fields)).toEqual(FIELDS[operation]);
      if (operation === 4) trials++;
      if ("trial_id" in fields) expect(fields["trial_id"]).toBe(trials - 1);
      for (const key of ["user_attr", "system_attr"])
        if (key in fields) expect(Object.keys(fields[key] as object)).toHaveLength(1);
      if (operation === 7) expect(Number.isFinite(fields["intermediate_value"])).toBe(true);
    }
    expect(trials).toBe(study.trials.length);
  });

  it("ends complete trials with both values, and those behind a rung as pruned", () => {
    const ends = lines.filter((line) => line.op_code === 6);
    const complete = study.trials.filter(({ state }) => state === "complete");
    expect(ends.filter((line) => line["state"] === 1)).toHaveLength(complete.length);
    expect(ends.filter((line) => line["state"] === 2)).toHaveLength(3);
    for (const line of ends) {
      if (line["state"] === 2) expect(line["values"]).toBeNull();
      else expect(line["values"]).toHaveLength(2);
    }
    const [first] = study.trials;
    expect(ends[0]?.["values"]).toEqual([study.results[first?.id ?? ""]?.metrics["val.uar"], 1_240_000]);
  });

  it("leaves open what runs, leaves out what waits, and says what failed", () => {
    const running = fakeStudy({ state: "running" });
    const found = linesOf(exportOptuna(running));
    const begun = found.filter((line) => line.op_code === 4).length;
    expect(begun).toBe(running.trials.filter(({ state }) => state !== "waiting").length);
    expect(found.filter((line) => line.op_code === 6 && line["state"] === 3)).toHaveLength(1);
    expect(begun - found.filter((line) => line.op_code === 6).length).toBe(2);
    const errors = found.flatMap((line) => (line.op_code === 8 ? [line["user_attr"] as Record<string, unknown>] : []));
    expect(errors).toContainEqual({ error: "the device was lost" });
  });

  it("minimises where the search does", () => {
    expect(linesOf(exportOptuna(fakeStudy({ minimize: true })))[0]?.["directions"]).toEqual([1, 1]);
  });
});
