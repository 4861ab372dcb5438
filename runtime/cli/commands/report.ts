/**
 * `netc report`: writes a run as one page that needs nothing else, and its figures as SVG files, into the run's folder.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { showScore } from "../../report/evaluation.ts";
import { analyse, figuresOf, type Report, renderReport } from "../../report/page.ts";
import { readRun } from "../../report/read.ts";
import { CommandError, EXIT, type ExitCode, systemError } from "../exit.ts";
import { printJson } from "../json.ts";
import { count, paint, print } from "../terminal.ts";

export interface ReportOptions {
  /** Replicates of the bootstrap. */
  readonly bootstrap: number;
  /** Of the bootstrap. */
  readonly seed: number;
  readonly json?: boolean;
}

const PAGE = "report.html";
const FIGURES = "figures";

/** Writes a file beside its place, then moves it there: a full disk leaves the file that was there. */
function writeWhole(file: string, text: string): void {
  const fresh = `${file}.part`;
  try {
    mkdirSync(dirname(file), { recursive: true });
    const open = openSync(fresh, "w");
    try {
      let rest = Buffer.from(text);
      while (rest.length > 0) rest = rest.subarray(writeSync(open, rest));
      fsyncSync(open);
    } finally {
      closeSync(open);
    }
    renameSync(fresh, file);
  } catch (error) {
    rmSync(fresh, { force: true });
    throw systemError(`write \`${file}\``, error);
  }
}

/** Reads a run and computes its report. @throws CommandError (exit 1) for a folder that holds no run, or a damaged one */
function load(folder: string, options: ReportOptions): Report {
  let run: ReturnType<typeof readRun>;
  try {
    run = readRun(folder);
  } catch (error) {
    throw systemError(`read \`${folder}\``, error);
  }
  if ("error" in run) throw new CommandError(EXIT.wrong, run.error, run.help);
  return analyse(run, { replicates: options.bootstrap, seed: options.seed });
}

/** Writes the report of a run. */
export function report(folder: string, options: ReportOptions): ExitCode {
  const found = load(folder, options);
  const page = join(folder, PAGE);
  const figures = [...figuresOf(found)].map(([name, svg]) => ({ file: `${name}.svg`, svg }));
  writeWhole(page, renderReport(found));
  for (const { file, svg } of figures) writeWhole(join(folder, FIGURES, file), svg);
  const { record } = found.run;
  if (options.json === true) {
    printJson({
      page,
      figures: figures.map(({ file }) => join(folder, FIGURES, file)),
      note: record.data.note,
      epochs: found.history.epochs.length,
      sides: found.sides.map(({ side, predictions, evaluation }) => ({
        side,
        clips: predictions.clips.length,
        failed: evaluation.failed.length,
        subjects: evaluation.subjects,
        intervals: evaluation.method,
        notes: evaluation.notes,
        scores: evaluation.scores.map(({ name, text, interval }) => ({ name, formula: text.formula, ...interval })),
      })),
    });
    return EXIT.ok;
  }
  print(`${paint("green", "✓", process.stdout)} \`${page}\` and ${count(figures.length, "figure")}`);
  if (record.data.note !== "") print(`  ${record.data.note}`);
  const [first] = found.sides;
  if (first === undefined) print("  no predictions yet: `netc eval` makes them");
  else {
    const scores = first.evaluation.scores.slice(0, 2);
    print(
      `  ${first.side}: ${scores.map(({ text, interval }) => `${text.title} ${showScore(interval.value, text)}`).join(", ")}`,
    );
  }
  return EXIT.ok;
}
