/** The table of a study for a terminal: what its final trainings say, and what may be read from it. */

import type { StudyReport } from "../../../search/report/model.ts";
import {
  ablationNotes,
  ablationTable,
  leadOf,
  subjectNotes,
  subjectTable,
  type TextTable,
} from "../../../search/report/words.ts";
import { table } from "../../terminal.ts";

function drawn({ columns, rows }: TextTable): readonly string[] {
  const right = new Set(columns.flatMap(({ align }, index) => (align === "right" ? [index] : [])));
  return table(
    columns.map(({ title }) => title),
    rows.map(({ cells }) => cells),
    right,
  ).split("\n");
}

/** Lines of a report for a terminal. */
export function tableLines(report: StudyReport): readonly string[] {
  const lines = ["", ...leadOf(report), ""];
  if (report.rows.length > 0)
    lines.push(...drawn(ablationTable(report)), "", ...ablationNotes(report).map((one) => `- ${one}`));
  if (report.subjects.length > 0)
    lines.push(
      "",
      "Over the people of the test:",
      "",
      ...drawn(subjectTable(report)),
      "",
      ...subjectNotes(report).map((one) => `- ${one}`),
    );
  return lines;
}
