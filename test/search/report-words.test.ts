/** What a report says of latencies, of options, and of how a study is done again; and what fits into a narrow terminal. */
import { describe, expect, it } from "vitest";
import { tableLines } from "../../runtime/cli/commands/search/table.ts";
import type { StudyReport } from "../../runtime/search/report/model.ts";
import { optionText } from "../../runtime/search/report/notation.ts";
import { renderReport } from "../../runtime/search/report/render.ts";
import { reportOf } from "../../runtime/search/report/report.ts";
import { statusText } from "../../runtime/search/report/status.ts";
import type { StudyData } from "../../runtime/search/report/study-data.ts";
import { ablationNotes, ablationTable, headerRows, importanceTable } from "../../runtime/search/report/words.ts";
import { recordsOf } from "./csv-tools.ts";
import { FACTORS, fakeFindings, fakeStudy, NONE } from "./fake-study.ts";

const study = fakeStudy();
const report = reportOf(study, fakeFindings());

/** The study as one whose latencies were measured before it, some of them predicted. */
function surveyed(busy = 0): StudyData {
  const { search } = study.study;
  const candidates = search.space.candidates.map((one) => {
    if (one.refused !== undefined) return one;
    const milliseconds = 9 + one.index / 10;
    const refuses = milliseconds > 11.5;
    return {
      ...one,
      latency: { milliseconds, measured: one.index % 2 === 0, refuses },
      refused: refuses ? "latency 12 ms, measured, is above the limit 11.5 ms" : undefined,
    };
  });
  const measured = candidates
    .filter(({ latency }) => latency?.measured === true)
    .map(({ index, latency }) => {
      const median = latency?.milliseconds ?? 0;
      return { candidate: index, median, low: median - 0.1, high: median + 0.2, runs: 40 };
    });
  const latency = {
    device: "a device",
    measured,
    models: 29,
    check: { models: 12, median: 0.011, most: 0.034 },
    busy,
  };
  return {
    ...study,
    study: {
      ...study.study,
      search: { ...search, space: { ...search.space, candidates }, latency, latencyLimit: 11.5 },
    },
  };
}

const columnOf = (of: StudyReport, title: string): readonly string[] => {
  const { columns, rows } = ablationTable(of);
  const index = columns.findIndex((column) => column.title.startsWith(title));
  return rows.map(({ cells }) => cells[index] ?? "");
};

describe("latencies", () => {
  it("are those of the table's own trainings, with their quartiles", () => {
    const own = columnOf(report, "p50");
    expect(own[0]).toMatch(/^10\.\d \[9\.\d+, 10\.\d\]$/);
    expect(report.candidates[NONE]?.latency).toMatchObject({
      source: "table",
      device: "NVIDIA H100 80GB HBM3 (Vulkan)",
    });
    expect(ablationNotes(report).join(" ")).toContain(
      "median milliseconds of a forward pass of one example and its quartiles, on NVIDIA H100 80GB HBM3 (Vulkan).",
    );
    // Where nothing was measured before, and nothing in the table.
    const other = report.candidates.find(({ final }) => final.length === 0);
    expect(other?.latency).toBeUndefined();
  });

  it("are those from before the search where the table has none, and said to be predicted where they are", () => {
    const before = {
      ...surveyed(),
      results: Object.fromEntries(
        Object.entries(study.results).map(([id, { measured: _, ...result }]) => [
          id,
          { ...result, latency: undefined },
        ]),
      ),
    };
    const found = reportOf(before, fakeFindings());
    const sources = new Map(found.candidates.map(({ index, latency }) => [index, latency?.source]));
    expect(sources.get(NONE)).toBe("before");
    expect(sources.get(1)).toBe("predicted");
    const cells = columnOf(found, "p50");
    expect(cells[0]).toBe("9.00 [8.90, 9.20]");
    expect(cells.some((cell) => /^≈ [\d.]+( \(too slow\))?$/.test(cell))).toBe(true);
    const notes = ablationNotes(found).join(" ");
    expect(notes).toContain("≈: predicted from other models");
    expect(notes).toContain("Before the search: ");
    expect(notes).toContain("1.1 % off in the median and 3.4 % at most on 12 models");
    expect(new Map(headerRows(found)).get("latency")).toContain("measured on a device before any training, 40 passes");
    expect(notes).not.toContain("of the processors");
    const loaded = reportOf({ ...before, ...{ study: surveyed(0.8).study } }, fakeFindings());
    expect(ablationNotes(loaded).join(" ")).toContain("Other programs took up to 80.0 % of the processors");
  });

  it("refuse candidates as other requirements do", () => {
    const found = reportOf(surveyed(), fakeFindings());
    const reasons = found.space.reasons.map(({ reason }) => reason);
    expect(reasons).toContain("latency 12 ms, measured, is above the limit 11.5 ms");
    const rows = recordsOf(renderReport(found, "candidates"));
    expect(rows[0]).toMatchObject({ latency_source: "table" });
    expect(rows[1]?.["latency_source"]).toBe("predicted");
    expect(rows[27]?.["refused"]).toMatch(/^latency/);
  });
});

describe("positions with several units", () => {
  const importance = {
    ...fakeFindings().importance,
    options: [0, 1, 2, 3, 4].flatMap((factor) =>
      ["STIA(4)", "SE"].map((option, k) => ({
        factor,
        option,
        shapley: { value: 0.01 * k, low: 0.01 * k - 0.002, high: 0.01 * k + 0.002 },
        weight: 0.5,
      })),
    ),
  };
  const found = { ...report, importance } as StudyReport;

  it("have a table by unit", () => {
    const table = importanceTable(found)?.options;
    expect(table?.rows.map(({ cells }) => cells).slice(0, 2)).toEqual([
      ["conv1", "STIA(4)", "0.00", "[−0.20, 0.20]", "50 %"],
      ["conv1", "SE", "+1.00", "[0.80, 1.20]", "50 %"],
    ]);
    expect(renderReport(found, "md")).toContain("| conv1 | SE | +1.00 |");
    expect(renderReport(found, "html")).toContain("With each option alone");
    const rows = recordsOf(renderReport(found, "importance")).filter(({ kind }) => kind === "shapley_with_option");
    expect(rows.map(({ position, other }) => `${position} ${other}`).slice(0, 2)).toEqual([
      "conv1 STIA(4)",
      "conv1 SE",
    ]);
    expect(importanceTable(report)?.options).toBeUndefined();
  });

  it("are named by their levels", () => {
    expect(
      optionText(FACTORS, [
        { factor: 5, level: 1 },
        { factor: 6, level: 1 },
      ]),
    ).toBe("STIA(4)");
    expect(optionText(FACTORS, [{ factor: 5, level: 1 }])).toBe("STIA");
  });

  it("say what the shares of the variance are", () => {
    const { variance, varianceNotes } = importanceTable(report) ?? {};
    expect(variance?.rows.map(({ cells }) => cells)[0]).toEqual(["conv3", "55.0 %"]);
    expect(variance?.rows.map(({ cells }) => cells)).toContainEqual(["conv3 × conv4", "5.0 %"]);
    expect(variance?.rows.map(({ cells }) => cells)).toContainEqual(["three and more together", "2.1 %"]);
    expect(varianceNotes?.[0]).toContain("standard deviation of 1.42 pt over the space, where seeds differ by 0.67 pt");
  });
});

describe("doing it again", () => {
  it("names the study's own sources, every parameter, the budget, and another store", () => {
    expect(report.commands).toEqual([
      `netc search export ${study.study.id} --sources again`,
      "netc search run again/examples/placement.net --search Placement --spend 30 --data runs/association --store again/studies",
      `netc search replay ${study.study.id}`,
    ]);
    const { search } = study.study;
    const given = {
      ...study.study,
      data: "my clips",
      search: { ...search, arguments: { epochs: "12", base: "VGG16" } },
    };
    expect(reportOf({ ...study, study: given }, fakeFindings()).commands[1]).toBe(
      "netc search run again/examples/placement.net --search Placement --set epochs=12 --set base=VGG16 --spend 30 --data 'my clips' --store again/studies",
    );
  });
});

describe("a narrow terminal", () => {
  const widest = (lines: readonly string[]): number => Math.max(...lines.map((line) => line.length));

  it.each([80, 100, 120])("of %d columns has a table that fits, and says what is left out", (columns) => {
    const lines = tableLines(report, columns);
    expect(widest(lines)).toBeLessThanOrEqual(columns);
    const words = lines.join("\n");
    for (const { cells } of ablationTable(report).rows) expect(words).toContain(cells[0]);
    expect(words).toContain("Δ to none, pt");
    expect(/Left out for want of room: FLOPs/.test(words)).toBe(columns < 120);
  });

  it("has everything where there is room", () => {
    const words = tableLines(report).join("\n");
    expect(words).not.toContain("Left out");
    for (const { title } of ablationTable(report).columns) expect(words).toContain(title);
  });

  it.each([80, 120])("of %d columns has a status that fits, with names that can be copied", (columns) => {
    for (const data of [study, fakeStudy({ state: "running" })]) {
      const long = { ...data, study: { ...data.study, id: data.study.searchHash } };
      const lines = statusText(long, data.study.created + 3_600_000, fakeFindings(), columns).split("\n");
      expect(widest(lines)).toBeLessThanOrEqual(columns);
      expect(lines[0]).toBe(`study ${long.study.id.slice(0, 12)}, ${data.study.state}`);
      expect(lines.some((line) => line.includes("complete: baseline 2/2"))).toBe(true);
      if (data === study) {
        expect(lines.at(-1)).toBe(`\`netc search report ${long.study.id.slice(0, 12)}\` writes its report`);
        expect(lines.join(" ")).toContain("3 left behind a rung");
        expect(lines.join(" ")).not.toContain("0 workers");
      }
    }
  });
});
