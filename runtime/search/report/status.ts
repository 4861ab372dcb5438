/**
 * `netc search status`: how a study stands, in a few lines that need no terminal.
 */
import { count, grouped } from "../../report/text.ts";
import type { Phase } from "../study.ts";
import { displayOf } from "./display.ts";
import { displayState } from "./display-state.ts";
import { currentFindings } from "./findings.ts";
import type { Findings } from "./model.ts";
import { stoppedTrials } from "./report.ts";
import type { StudyData } from "./study-data.ts";

const PHASES: readonly Phase[] = ["prior", "baseline", "screen", "search", "random", "confirm", "final"];

/** What one may do next. */
function advice({ study, trials }: StudyData, columns: number): readonly string[] {
  // As commands take it, and short enough to be copied from a narrow terminal.
  const name = study.id.slice(0, 12);
  const failed = trials.filter(({ state }) => state === "failed");
  const lines: string[] = [];
  if (study.state === "paused") lines.push(`\`netc search resume ${name}\` goes on`);
  if (study.state === "complete") lines.push(`\`netc search report ${name}\` writes its report`);
  for (const { number, error } of failed.slice(0, 3)) lines.push(`#${number} failed: ${error ?? "no reason is given"}`);
  if (failed.length > 3) lines.push(`… and ${count(failed.length - 3, "more failed trial")}`);
  if (failed.length > 0) lines.push("`netc search retry TRIAL` tries one again");
  return lines.map((line) => (line.length > columns ? `${line.slice(0, columns - 1)}…` : line));
}

/** Words with commas, on as many lines as they need; the lines after the first begin below the words. */
function broken(begin: string, words: readonly string[], columns: number): readonly string[] {
  const lines: string[] = [];
  let line = begin;
  for (const [k, word] of words.entries()) {
    const text = k < words.length - 1 ? `${word},` : word;
    const longer = line === begin || line.trim() === "" ? `${line}${text}` : `${line} ${text}`;
    if (longer.length <= columns || line.trim() === begin.trim()) line = longer;
    else {
      lines.push(line);
      line = `${" ".repeat(begin.length)}${text}`;
    }
  }
  return [...lines, line];
}

/** The status of a study at the time `now`, in milliseconds since 1970; ends without a newline. */
export function statusText(
  data: StudyData,
  now: number,
  findings: Findings = currentFindings(data),
  columns: number = Number.POSITIVE_INFINITY,
): string {
  const state = displayState(data, findings, now);
  const phases = PHASES.flatMap((phase) => {
    const own = data.trials.filter((trial) => trial.phase === phase);
    const done = own.filter((trial) => trial.state === "complete").length;
    return own.length === 0 ? [] : [`${phase} ${grouped(done)}/${grouped(own.length)}`];
  });
  const left = stoppedTrials(data.decisions).size;
  const done = [...phases, ...(left === 0 ? [] : [`${grouped(left)} left behind a rung`])];
  return [
    `study ${data.study.id.slice(0, 12)}, ${data.study.state}`,
    ...displayOf(state, columns),
    ...(phases.length === 0 ? ["  no trial has been asked for yet"] : broken("  complete: ", done, columns)),
    ...advice(data, columns),
  ].join("\n");
}
