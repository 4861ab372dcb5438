/**
 * A report in its formats, and the files that hold them.
 */
import { candidatesCsv, importanceCsv, metricsCsv, trialsCsv } from "./csv.ts";
import { renderLatex } from "./latex.ts";
import { renderMarkdown } from "./markdown.ts";
import type { StudyReport } from "./model.ts";
import { figureFiles, renderPage } from "./page.ts";

/** `trials`, `candidates`, `metrics` and `importance` are the tables of CSV. */
export type ReportFormat = "md" | "html" | "latex" | "json" | "trials" | "candidates" | "metrics" | "importance";

/** What `--format` takes. */
export const REPORT_FORMATS = ["md", "csv", "latex", "html", "json"] as const;

/** A report as text. JSON writes null for what is not a number. */
export function renderReport(report: StudyReport, format: ReportFormat): string {
  switch (format) {
    case "md":
      return renderMarkdown(report);
    case "html":
      return renderPage(report);
    case "latex":
      return renderLatex(report);
    case "json":
      return `${JSON.stringify(report, undefined, 1)}\n`;
    case "trials":
      return trialsCsv(report);
    case "candidates":
      return candidatesCsv(report);
    case "metrics":
      return metricsCsv(report);
    case "importance":
      return importanceCsv(report);
    default:
      return format satisfies never;
  }
}

/** The files of a report by name, for the formats that are asked for; figures come with the page. */
export function reportFiles(
  report: StudyReport,
  formats: readonly (typeof REPORT_FORMATS)[number][],
): ReadonlyMap<string, string> {
  const files = new Map<string, string>();
  const add = (name: string, format: ReportFormat): void => void files.set(name, renderReport(report, format));
  for (const format of formats)
    switch (format) {
      case "md":
        add("report.md", "md");
        break;
      case "html":
        add("report.html", "html");
        for (const [name, svg] of figureFiles(report)) files.set(`figures/${name}.svg`, svg);
        break;
      case "latex":
        add("report.tex", "latex");
        break;
      case "json":
        add("report.json", "json");
        break;
      case "csv":
        for (const table of ["trials", "candidates", "metrics", "importance"] as const) add(`${table}.csv`, table);
        break;
      default:
        format satisfies never;
    }
  return files;
}
