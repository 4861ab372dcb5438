/**
 * `netc report`: writes a run as one page that needs nothing else, and its figures as SVG files, into the run's folder.
 */
import { join } from "node:path";
import { showScore } from "../../report/evaluation.ts";
import { analyse, figuresOf, type Report, renderReport } from "../../report/page.ts";
import { readRun } from "../../report/read.ts";
import { CommandError, EXIT, type ExitCode, systemError } from "../exit.ts";
import { printJson } from "../json.ts";
import { count, paint, print } from "../terminal.ts";
import { writeWhole } from "../write-file.ts";

export interface ReportOptions {
  /** Replicates of the bootstrap. */
  readonly bootstrap: number;
  /** Of the bootstrap. */
  readonly seed: number;
  readonly json?: boolean;
}

const PAGE = "report.html";
const FIGURES = "figures";

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

/** Writes the page of a run and its figures into the run's folder; the paths of the page and of the figures. */
export function writeReport(
  folder: string,
  options: ReportOptions,
): { readonly found: Report; readonly page: string; readonly figures: readonly string[] } {
  const found = load(folder, options);
  const page = join(folder, PAGE);
  writeWhole(page, renderReport(found));
  const figures = [...figuresOf(found)].map(([name, svg]) => {
    const file = join(folder, FIGURES, `${name}.svg`);
    writeWhole(file, svg);
    return file;
  });
  return { found, page, figures };
}

/** Writes the report of a run; its attention is looked at first, where that can be done and was not. */
export async function report(folder: string, options: ReportOptions): Promise<ExitCode> {
  const { run } = load(folder, { ...options, bootstrap: 1 });
  const side = run.test === undefined ? "validation" : "test";
  const { attendIfMissing } = await import("./attention.ts");
  await attendIfMissing(folder, { side, step: run[side]?.header.step, shown: run.attention?.step }, (text) => {
    process.stderr.write(`${text}\n`);
  });
  const { found, page, figures } = writeReport(folder, options);
  const { record } = found.run;
  if (options.json === true) {
    printJson({
      page,
      figures,
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
