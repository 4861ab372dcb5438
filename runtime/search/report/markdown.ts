/**
 * A report as Markdown, for a README or a pull request: the table, how to read it, what was done, and the search's own
 * scores in a section that says what they are.
 */
import { count } from "../../report/text.ts";
import type { StudyReport } from "./model.ts";
import {
  ablationNotes,
  ablationTable,
  headerRows,
  importanceTable,
  leadOf,
  searchNotes,
  searchTable,
  subjectNotes,
  subjectTable,
  syntheticWords,
  type TextTable,
} from "./words.ts";

/** Plain text in a paragraph or a cell: nothing in it is markup, and it stays on its line. */
function escapeMarkdown(text: string): string {
  return text.replaceAll(/\s*[\r\n]+\s*/g, " ").replaceAll(/[\\`*_[\]<>|~#]/g, String.raw`\$&`);
}

function tableText({ columns, rows }: TextTable): readonly string[] {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [
    line(columns.map(({ title }) => escapeMarkdown(title))),
    line(columns.map(({ align }) => (align === "right" ? "---:" : align === "dots" ? ":---:" : ":---"))),
    ...rows.map(({ cells, bold }) =>
      line(cells.map((cell, index) => (bold.has(index) ? `**${escapeMarkdown(cell)}**` : escapeMarkdown(cell)))),
    ),
  ];
}

const list = (sentences: readonly string[]): readonly string[] => sentences.map((one) => `- ${escapeMarkdown(one)}`);

/** The report as Markdown (GitHub's tables). */
export function renderMarkdown(report: StudyReport): string {
  const synthetic = syntheticWords(report);
  const importance = importanceTable(report);
  // Longer than any row of backticks within.
  const ticks = report.commands.flatMap((command) => command.match(/`+/g) ?? []).map(({ length }) => length);
  const fence = "`".repeat(Math.max(2, ...ticks) + 1);
  const { rows, searchRows, subjects, commands, journal, checklist } = report;
  return [
    `# ${escapeMarkdown(report.name)}`,
    "",
    ...(synthetic === undefined
      ? []
      : [`> **SYNTHETIC** ${escapeMarkdown(synthetic.join(". ").replace(/^\. /, ""))}`, ""]),
    escapeMarkdown(leadOf(report).join(" ")),
    "",
    "## On fresh seeds",
    "",
    ...(rows.length === 0
      ? ["No training on fresh seeds has ended yet.", ""]
      : [...tableText(ablationTable(report)), "", ...list(ablationNotes(report)), ""]),
    ...(subjects.length === 0
      ? []
      : [
          "### Over the people of the test",
          "",
          ...tableText(subjectTable(report)),
          "",
          ...list(subjectNotes(report)),
          "",
        ]),
    ...(importance === undefined
      ? []
      : [
          "## What each position contributes",
          "",
          ...tableText(importance.table),
          "",
          ...(importance.options === undefined ? [] : [...tableText(importance.options), ""]),
          ...list(importance.notes),
          "",
          "### What differences come from",
          "",
          ...tableText(importance.variance),
          "",
          ...list(importance.varianceNotes),
          "",
        ]),
    "## What was done",
    "",
    ...headerRows(report).map(([name, text]) => `- **${escapeMarkdown(name)}**: ${escapeMarkdown(text)}`),
    "",
    ...(searchRows.length === 0
      ? []
      : [
          "## What the search saw",
          "",
          "This explains the choice; it is no result.",
          "",
          "<details>",
          `<summary>Scores of ${count(searchRows.length, "candidate")}</summary>`,
          "",
          ...tableText(searchTable(report)),
          "",
          "</details>",
          "",
          ...list(searchNotes(report)),
          "",
        ]),
    "## Checklist",
    "",
    "The questions of Lindauer and Hutter (JMLR 21, 2020), answered from what the study knows.",
    "",
    ...checklist.map(({ question, answer }) => `- **${escapeMarkdown(question)}** ${escapeMarkdown(answer)}`),
    "",
    "## To do it again",
    "",
    `${fence}sh`,
    ...commands,
    fence,
    "",
    `Journal of ${count(journal.decisions, "decision")}, SHA-256 \`${journal.hash}\`; search \`${report.searchHash}\`; data \`${report.dataHash}\`; netc ${escapeMarkdown(report.netc)}.`,
    "",
  ].join("\n");
}
