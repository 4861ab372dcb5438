/**
 * The table of a study for a terminal: what its final trainings say, and what may be read from it.
 *
 * A narrow terminal would break every line of a wide table. So the table gives up what can be done without, in a fixed
 * order, until it fits, and says what is gone; sentences are broken between words.
 */

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

const widthOf = (lines: readonly string[]): number => Math.max(0, ...lines.map((line) => line.length));

/** Sentences broken to a width, the lines after the first below its words. */
function wrapped(text: string, columns: number, indent = ""): readonly string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    const longer = line === "" ? word : `${line} ${word}`;
    if (longer.length <= columns || line === "") line = longer;
    else {
      lines.push(line);
      line = `${indent}${word}`;
    }
  }
  return [...lines, line];
}

/** What a table can do without, the first first; only by its title's beginning, for a unit may follow. */
const LEAST_NEEDED = ["FLOPs", "front", "p50", "n", "clips", "subjects", "seeds", "params", "theirs"] as const;

/** Columns that are gone, and a table that fits or is as narrow as it can be. */
function fitted(
  whole: TextTable,
  columns: number,
): { readonly lines: readonly string[]; readonly gone: readonly string[] } {
  let now: TextTable = whole;
  const gone: string[] = [];
  if (widthOf(drawn(now)) > columns)
    // What stands in brackets first: how much dearer than none.
    now = {
      ...now,
      rows: now.rows.map((row) => ({ ...row, cells: row.cells.map((cell) => cell.replace(/ \([+−][^()]*%\)$/, "")) })),
    };
  for (const title of LEAST_NEEDED) {
    if (widthOf(drawn(now)) <= columns) break;
    const index = now.columns.findIndex((column) => column.title === title || column.title.startsWith(`${title},`));
    if (index < 0) continue;
    const without = <T>(all: readonly T[]): readonly T[] => all.filter((_, k) => k !== index);
    gone.push(title);
    now = { columns: without(now.columns), rows: now.rows.map((row) => ({ ...row, cells: without(row.cells) })) };
  }
  return { lines: drawn(now), gone };
}

/** Lines of a report for a terminal of so many columns. */
export function tableLines(report: StudyReport, columns: number = Number.POSITIVE_INFINITY): readonly string[] {
  const lines: string[] = ["", ...leadOf(report).flatMap((one) => wrapped(one, columns)), ""];
  const note = (one: string): readonly string[] => wrapped(`- ${one}`, columns, "  ");
  const add = (tables: readonly [whole: TextTable, brief: TextTable], notes: readonly string[]): void => {
    const [whole, brief] = tables;
    const { lines: own, gone } = fitted(widthOf(drawn(whole)) <= columns ? whole : brief, columns);
    lines.push(...own, "", ...notes.flatMap(note));
    if (gone.length > 0)
      lines.push(...note(`Left out for want of room: ${gone.join(", ")}; \`netc search report\` has them.`));
  };
  if (report.rows.length > 0) add([ablationTable(report), ablationTable(report, true)], ablationNotes(report));
  if (report.subjects.length > 0) {
    lines.push("", "Over the people of the test:", "");
    const table = subjectTable(report);
    add([table, table], subjectNotes(report));
  }
  return lines;
}
