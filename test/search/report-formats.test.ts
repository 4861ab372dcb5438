/** Reports as text: each format is well formed, has the numbers of the record, and escapes what it is given. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { meanText, pText, relativeText, scoreText, signedText } from "../../runtime/search/report/format.ts";
import { escapeLatex } from "../../runtime/search/report/latex.ts";
import { figureFiles } from "../../runtime/search/report/page.ts";
import { REPORT_FORMATS, renderReport, reportFiles } from "../../runtime/search/report/render.ts";
import { reportOf } from "../../runtime/search/report/report.ts";
import type { StudyData } from "../../runtime/search/report/study-data.ts";
import { ablationTable, candidateAt, importanceTable } from "../../runtime/search/report/words.ts";
import { expectWellFormed, visible } from "../report/markup.ts";
import { recordsOf } from "./csv-tools.ts";
import { fakeFindings, fakeStudy, POSITIONS } from "./fake-study.ts";

const study = fakeStudy();
const report = reportOf(study, fakeFindings());
const running = reportOf(fakeStudy({ state: "running" }));
const { text } = report.metric;

/** A study that has hostile text wherever a person or a device may have put it. */
function hostile(words: string): StudyData {
  const { search } = study.study;
  const space = {
    ...search.space,
    candidates: search.space.candidates.map((one) => ({ ...one, label: `${words}${one.index}` })),
    factors: search.space.factors.map((factor) =>
      factor.kind === "member" ? factor : { ...factor, levels: ["", words === "" ? "x" : words] },
    ),
  };
  return {
    ...study,
    note: `SYNTHETIC: ${words}`,
    study: { ...study.study, name: `n${words}`, data: words, search: { ...search, requirements: [words], space } },
    trials: study.trials.map((trial) => ({ ...trial, error: words })),
    results: Object.fromEntries(Object.entries(study.results).map(([id, one]) => [id, { ...one, device: words }])),
  };
}

const NASTY = `</script><svg onload="x">&amp; "quo'te" | \`code\` * _ % $ # \\end{table} ~ ^ {}\n# heading\u0007`;

describe("the page", () => {
  const html = renderReport(report, "html");

  it("is well formed, of a study that has ended, that runs, and of nasty names", () => {
    expectWellFormed(html);
    expectWellFormed(renderReport(running, "html"));
    expectWellFormed(renderReport(reportOf(hostile(NASTY), fakeFindings()), "html"));
  });

  it("asks for nothing from anywhere, and its links lead to its own sections", () => {
    for (const page of [html, renderReport(reportOf(hostile(NASTY), fakeFindings()), "html")]) {
      expect(page.replace(/<code>[^<]*<\/code>/g, "")).not.toMatch(
        /<script|<link|<img|<iframe|<object|@import|url\(|\ssrc=|\son\w+="/i,
      );
      expect(page).not.toMatch(/https?:/);
      for (const [, target = ""] of page.matchAll(/href="([^"]*)"/g)) {
        expect(target).toMatch(/^#[a-z]+$/);
        expect(page).toContain(`id="${target.slice(1)}"`);
      }
    }
  });

  it("has every figure of the table, and the interval beside it", () => {
    const seen = visible(html);
    for (const row of report.rows) {
      expect(seen).toContain(meanText(row.mean, text));
      if (row.toNone !== undefined) expect(seen).toContain(signedText(row.toNone.difference.value, text));
    }
    expect(seen).toContain(report.journal.hash);
    expect(seen).toContain("Kendall's τ 3→27 0.41 [0.05, 0.68]");
    for (const { question } of report.checklist) expect(seen).toContain(question);
    expect(seen).not.toMatch(/undefined|NaN|\[object/);
  });

  it("does not have every candidate and trial of a large study, and says where they are", () => {
    const [row] = report.searchRows;
    const [trial] = report.trials;
    if (row === undefined || trial === undefined) throw new Error("nothing was tried");
    const large = {
      ...report,
      searchRows: Array.from({ length: 3000 }, (_, k) => ({ ...row, candidate: 1 + (k % 10) })),
      trials: Array.from({ length: 3000 }, () => ({ ...trial, points: [] })),
    };
    const page = renderReport(large, "html");
    expect(visible(page)).toContain("… and 2,900 more in candidates.csv.");
    expect(visible(page)).toContain("… and 2,800 more in trials.csv.");
    expect(page.length).toBeLessThan(400_000);
  });

  it("never calls a single score the best", () => {
    for (const page of [report, running].map((one) => visible(renderReport(one, "html")))) {
      expect(page).not.toMatch(/\bbest (?:score|so far|trial|training|candidate|placement)\b/i);
      const [largest] = [...report.searchCurve].sort((a, b) => b.value - a.value);
      const tiles = page.slice(0, page.indexOf("On fresh seeds"));
      expect(tiles).not.toContain(scoreText(largest?.value ?? 0, text));
    }
  });

  it("warns of effects from an adaptive search, and not of those from a full factorial", () => {
    expect(visible(html)).toContain("Warning: the search chose what it trained");
    const factorial = { ...report, method: { ...report.method, adaptive: false } };
    expect(visible(renderReport(factorial, "html"))).not.toContain("Warning");
  });

  it("says that clips were drawn, in the title, on the page and in every figure, and only where they were", () => {
    expect(html).toContain("<title>SYNTHETIC · Placement · netc</title>");
    expect(html).toContain("<strong>SYNTHETIC</strong>");
    for (const svg of figureFiles(report).values()) expect(svg).toContain(">SYNTHETIC</text>");
    const filmed = reportOf(fakeStudy({ note: "filmed in 2005" }), fakeFindings());
    for (const words of [...reportFiles(filmed, REPORT_FORMATS).values()])
      if (!words.startsWith("{")) expect(words).not.toMatch(/SYNTHETIC/);
    for (const format of ["md", "latex"] as const) expect(renderReport(report, format)).toContain("SYNTHETIC");
    for (const format of ["trials", "candidates", "metrics", "importance"] as const)
      for (const row of recordsOf(renderReport(report, format))) expect(row["synthetic"]).toBe("true");
  });
});

describe("figures", () => {
  const files = figureFiles(report);

  it("are XML of their own with all colours written in", () => {
    expect([...files.keys()].sort()).toEqual([
      "front-latency",
      "front-params",
      "front-search",
      "importance",
      "learning",
      "pairs",
      "parallel",
      "search",
      "seeds",
      "variance",
    ]);
    for (const svg of files.values()) {
      expectWellFormed(svg);
      expect(svg).not.toMatch(/var\(--|NaN|undefined|Infinity/);
      expect(svg).toMatch(/^<svg xmlns="http:\/\/www.w3.org\/2000\/svg"/);
    }
  });

  it("have a dot for every seed of every row, from left to right by value", () => {
    const svg = files.get("seeds") ?? "";
    const dots = [...svg.matchAll(/<circle cx="([\d.]+)"/g)].map(([, x]) => Number(x));
    const values = report.rows.flatMap(({ seeds }) => seeds.map(({ value }) => value));
    expect(dots).toHaveLength(values.length);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const [left, right] = [Math.min(...dots), Math.max(...dots)];
    for (const [k, x] of dots.entries())
      expect((x - left) / (right - left)).toBeCloseTo(((values[k] ?? 0) - low) / (high - low), 3);
  });

  it("draw bars as long as their Shapley values, on the side of their sign", () => {
    const svg = files.get("importance") ?? "";
    const bars = [...svg.matchAll(/<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)" height="[\d.]+" rx="2"/g)];
    const values = report.importance?.contributions.map(({ shapley }) => shapley.value) ?? [];
    expect(bars).toHaveLength(values.length);
    const scale = Number(bars[2]?.[2]) / Math.abs(values[2] ?? 1);
    for (const [k, [, x, width]] of bars.entries()) {
      expect(Number(width)).toBeCloseTo(scale * Math.abs(values[k] ?? 0), 1);
      if ((values[k] ?? 0) < 0) expect(Number(x) + Number(width)).toBeCloseTo(Number(bars[2]?.[1]), 1);
    }
    for (const value of values) expect(svg).toContain(`>${signedText(value, text)}</text>`);
  });

  it("draw shares of the variance as long as they are, a choice alone within it and its pairs", () => {
    const svg = files.get("variance") ?? "";
    const bars = [...svg.matchAll(/<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"/g)].map(([, , width]) =>
      Number(width),
    );
    const { variance } = report.importance ?? {};
    if (variance === undefined) throw new Error("no variance");
    expect(bars).toHaveLength(2 * variance.main.length);
    const together = (factor: number): number =>
      variance.pairs.reduce(
        (sum, { first, second, share }) => sum + (first === factor || second === factor ? share : 0),
        0,
      );
    const sorted = variance.main
      .map(({ factor, share }) => [share + together(factor), share] as const)
      .sort((a, b) => b[0] - a[0]);
    const scale = (bars[0] ?? 0) / (sorted[0]?.[0] ?? 1);
    for (const [k, [both, alone]] of sorted.entries()) {
      expect(bars[2 * k]).toBeCloseTo(scale * both, 1);
      expect(bars[2 * k + 1]).toBeCloseTo(scale * alone, 1);
    }
  });

  it("draw a line for every candidate with a full training, and not for more than can be told apart", () => {
    const lines = (svg: string): number => [...svg.matchAll(/<path d="M[^"]*C/g)].length;
    expect(lines(files.get("parallel") ?? "")).toBe(report.searchRows.length);
    const svg = files.get("parallel") ?? "";
    for (const name of [...POSITIONS, "params", "UAR", "choice", "none"]) expect(svg).toContain(`>${name}</text>`);
    const [row] = report.searchRows;
    if (row === undefined) throw new Error("no row");
    const many = {
      ...report,
      searchRows: Array.from({ length: 400 }, (_, k) => ({
        ...row,
        candidate: k % 32,
        mean: { ...row.mean, value: 0.6 + k / 4000 },
      })),
    };
    const drawn = lines(figureFiles(many).get("parallel") ?? "");
    expect(drawn).toBeGreaterThan(100);
    expect(drawn).toBeLessThan(220);
  });

  it("show a limit of latency where points are near it", () => {
    expect(files.get("front-latency")).not.toContain(">limit</text>");
    expect(figureFiles({ ...report, latencyLimit: 11.5 }).get("front-latency")).toContain(">limit</text>");
    expect(figureFiles({ ...report, latencyLimit: 500 }).get("front-latency")).not.toContain(">limit</text>");
  });

  it("show what pairs add once each", () => {
    const svg = files.get("pairs") ?? "";
    expect([...svg.matchAll(/<rect [^>]*rx="3"/g)]).toHaveLength(10);
    expect([...svg.matchAll(/>−0\.80<\/text>/g)]).toHaveLength(1);
  });

  it("can be drawn of very little", () => {
    const few = { ...report, rows: report.rows.slice(0, 1), searchRows: [], trials: report.trials.slice(0, 1) };
    for (const svg of figureFiles(few).values()) expectWellFormed(svg);
    const none = { ...report, rows: [], searchRows: [], trials: [], searchCurve: [], importance: undefined };
    expect([...figureFiles(none).keys()]).toEqual([]);
  });
});

describe("Markdown", () => {
  it("has tables whose rows are as wide as their heads", () => {
    for (const words of [report, reportOf(hostile(NASTY), fakeFindings()), running].map((one) =>
      renderReport(one, "md"),
    )) {
      let width = 0;
      for (const line of words.split("\n")) {
        const cells = line.startsWith("|") ? (line.match(/(?<!\\)\|/g)?.length ?? 0) : 0;
        if (cells > 0 && width > 0) expect(cells, line).toBe(width);
        width = cells;
      }
      // The nasty text begins no heading of its own.
      expect(words.replaceAll(/^(`{3,})sh\n[^]*?\n\1$/gm, "")).not.toMatch(/^# heading/m);
    }
  });

  it("has bold differences exactly where they survive the correction", () => {
    const words = renderReport(report, "md");
    const sure = report.rows.filter(
      ({ toNone }) => toNone !== undefined && toNone.corrected <= 0.05 && toNone.difference.value > 0,
    );
    expect(words.match(/\*\*[+−][^*]*\*\*/g) ?? []).toHaveLength(sure.length);
  });
});

describe("LaTeX", () => {
  it("closes its groups and environments, and gives every row all its cells", () => {
    for (const data of [study, hostile(NASTY)]) {
      const found = reportOf(data, fakeFindings());
      const lines = renderReport(found, "latex")
        .split("\n")
        .filter((line) => !line.startsWith("%"));
      const words = lines.join("\n");
      let depth = 0;
      for (const [brace] of words.replaceAll(/\\[{}]/g, "").matchAll(/[{}]/g)) {
        depth += brace === "{" ? 1 : -1;
        expect(depth).toBeGreaterThanOrEqual(0);
      }
      expect(depth).toBe(0);
      const open: string[] = [];
      for (const [, which, name = ""] of words.matchAll(/\\(begin|end)\{([a-z]+\*?)\}/g))
        if (which === "begin") open.push(name);
        else expect(open.pop()).toBe(name);
      expect(open).toEqual([]);
      expect((words.match(/(?<!\\)\$/g) ?? []).length % 2).toBe(0);
      const rows = lines.filter((line) => line.endsWith(String.raw`\\`));
      const tables = [ablationTable(found), importanceTable(found)?.table].filter((table) => table !== undefined);
      expect(tables).toHaveLength(2);
      expect(rows).toHaveLength(tables.reduce((sum, table) => sum + table.rows.length + 1, 0));
      let at = 0;
      for (const { columns, rows: own } of tables)
        for (const row of rows.slice(at, (at += own.length + 1)))
          expect(row.match(/(?<!\\)&/g) ?? []).toHaveLength(columns.length - 1);
      expect(words).toContain(String.raw`\toprule`);
    }
  });

  it("sets bold only what survives the correction", () => {
    const words = renderReport(report, "latex");
    const sure = report.rows.filter(
      ({ toNone }) => toNone !== undefined && toNone.corrected <= 0.05 && toNone.difference.value > 0,
    );
    expect(words.match(/\\mathbf/g) ?? []).toHaveLength(sure.length);
    const equal = fakeStudy({ shared: 0.2, own: 0.2 });
    const unsure = reportOf(equal, fakeFindings());
    expect(unsure.rows.some(({ toNone }) => toNone !== undefined && toNone.corrected > 0.05)).toBe(true);
    for (const line of renderReport(unsure, "latex").split("\n"))
      for (const row of unsure.rows)
        if (row.toNone !== undefined && row.toNone.corrected > 0.05 && line.includes(meanText(row.mean, text)))
          expect(line).not.toContain("\\mathbf");
  });

  it("escapes what has a meaning", () => {
    expect(escapeLatex("a_b & 50 % of {x} ±1 ○●●")).toBe(
      String.raw`a\_b \& 50 \% of \{x\} $\pm$1 $\circ\bullet\bullet$`,
    );
    fc.assert(
      fc.property(fc.string(), (words) => {
        const written = escapeLatex(words);
        expect(written.replaceAll(/\\[&%$#_{}]/g, "")).not.toMatch(/[&%#_~^]/);
        expect((written.replaceAll(String.raw`\$`, "").match(/\$/g) ?? []).length % 2).toBe(0);
      }),
    );
  });
});

describe("CSV", () => {
  it("has a row for every trial, candidate and point, with all digits", () => {
    const trials = recordsOf(renderReport(report, "trials"));
    expect(trials).toHaveLength(study.trials.length);
    for (const [k, row] of trials.entries()) {
      const trial = study.trials[k];
      expect(row["id"]).toBe(trial?.id);
      const value = study.results[trial?.id ?? ""]?.metrics["test.uar"];
      expect(row["test.uar"]).toBe(value === undefined ? "" : String(value));
    }
    const candidates = recordsOf(renderReport(report, "candidates"));
    expect(candidates).toHaveLength(32);
    for (const row of report.rows) {
      const line = candidates[row.candidate];
      expect(Number(line?.["final_mean"])).toBe(row.mean.value);
      expect(line?.["to_none_p_holm"]).toBe(row.toNone === undefined ? "" : String(row.toNone.corrected));
      expect(line?.["spots.conv3"]).toBe(String(candidateAt(report, row.candidate)?.levels[2]));
    }
    const points = recordsOf(renderReport(report, "metrics"));
    expect(points).toHaveLength(Object.values(study.metrics).flat().length);
  });

  it("has what positions contribute, alone, with each option, in pairs, and their shares of the variance", () => {
    const rows = recordsOf(renderReport(report, "importance"));
    const { importance } = report;
    if (importance === undefined) throw new Error("nothing was found");
    const of = (kind: string): readonly Record<string, string>[] => rows.filter((row) => row["kind"] === kind);
    expect(of("shapley").map((row) => Number(row["value"]))).toEqual(
      importance.contributions.map(({ shapley }) => shapley.value),
    );
    expect(of("mean_with").map((row) => Number(row["n"]))).toEqual(
      importance.contributions.map(({ on }) => on.trainings),
    );
    expect(of("interaction")).toHaveLength(10);
    const shares = [...of("variance_share"), ...of("variance_share_rest")].map((row) => Number(row["value"]));
    expect(shares.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 9);
    for (const row of rows) expect(row["adaptive"]).toBe("true");
  });

  it("keeps commas, quotes and ends of lines", () => {
    const trials = recordsOf(renderReport(reportOf(hostile(NASTY), fakeFindings()), "trials"));
    for (const row of trials) expect(row["error"]).toBe(NASTY);
  });
});

describe("JSON and files", () => {
  it("is the record, and null what is no number", () => {
    const back: unknown = JSON.parse(renderReport(running, "json"));
    expect(back).toMatchObject({ format: "netc-search-report", version: 1, name: "Placement", rows: [] });
    const full = JSON.parse(renderReport(report, "json")) as typeof report;
    expect(full.rows).toEqual(JSON.parse(JSON.stringify(report.rows)));
  });

  it("come under their names", () => {
    expect([...reportFiles(report, ["md", "csv", "latex", "json"]).keys()]).toEqual([
      "report.md",
      "trials.csv",
      "candidates.csv",
      "metrics.csv",
      "importance.csv",
      "report.tex",
      "report.json",
    ]);
    expect([...reportFiles(report, ["html"]).keys()].filter((name) => !name.startsWith("figures/"))).toEqual([
      "report.html",
    ]);
  });
});

describe("numbers", () => {
  it("have their signs, and none where they round to nothing", () => {
    expect(signedText(0.0118, { unit: "share" })).toBe("+1.18");
    expect(signedText(-0.0118, { unit: "share" })).toBe("−1.18");
    expect(signedText(-0.00001, { unit: "share" })).toBe("0.00");
    expect(scoreText(Number.NaN, { unit: "share" })).toBe("–");
    expect(meanText({ value: 0.7192, low: 0.7161, high: 0.7223 }, { unit: "share" })).toBe("71.92 ± 0.31");
    expect(meanText({ value: 0.7192, low: Number.NaN, high: Number.NaN }, { unit: "share" })).toBe("71.92");
  });

  it("write p and relative costs as people do", () => {
    expect([0.0004, 0.0042, 0.123, Number.NaN].map(pText)).toEqual(["< 0.001", "0.004", "0.12", "–"]);
    expect(relativeText(1009, 1000)).toBe("+0.9 %");
    expect(relativeText(1400, 1000)).toBe("+40 %");
    expect(relativeText(999.5, 1000)).toBe("−0.05 %");
    expect(relativeText(5, undefined)).toBe("");
  });
});
