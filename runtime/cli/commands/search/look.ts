/**
 * `netc search status|watch|report|export`: what a study's store holds, for people and for other programs. They change
 * nothing.
 */
import { mkdirSync } from "node:fs";
import { dirname, isAbsolute, join, relative } from "node:path";
import { pause } from "../../../search/patience.ts";
import { openDisplay } from "../../../search/report/display.ts";
import { exportOptuna } from "../../../search/report/optuna.ts";
import { type REPORT_FORMATS, renderReport, reportFiles } from "../../../search/report/render.ts";
import { reportOf } from "../../../search/report/report.ts";
import { statusText } from "../../../search/report/status.ts";
import { readStudy } from "../../../search/report/study-data.ts";
import { CommandError, EXIT, type ExitCode } from "../../exit.ts";
import { printJson } from "../../json.ts";
import { print } from "../../terminal.ts";
import { writeWhole } from "../../write-file.ts";
import { stopSignal } from "./run.ts";
import { findStudy, type StoreOption, withStore } from "./shared.ts";

export interface LookOptions extends StoreOption {
  readonly json?: boolean;
}

/** How a study stands. */
export function searchStatus(wanted: string | undefined, options: LookOptions): Promise<ExitCode> {
  const json = options.json === true;
  return withStore(options, json, async (store) => {
    const { id } = await findStudy(store, wanted);
    const data = await readStudy(store, id);
    if (json) {
      const { search: _, sources: __, ...study } = data.study;
      printJson({
        study,
        trials: data.trials,
        observations: data.observations.length,
        decisions: data.decisions.length,
      });
    } else print(statusText(data, Date.now(), undefined, process.stdout.columns));
    return EXIT.ok;
  });
}

/** Shows a study while others run it, until it is over. */
export function searchWatch(
  wanted: string | undefined,
  options: LookOptions & { readonly every: number },
): Promise<ExitCode> {
  const json = options.json === true;
  return withStore(options, json, async (store) => {
    const { id } = await findStudy(store, wanted);
    const display = openDisplay(process.stdout, { json });
    const interruption = stopSignal(() => {});
    try {
      for (;;) {
        const data = await readStudy(store, id);
        display.update(data);
        const { state, name } = data.study;
        if (state === "complete" || state === "cancelled") {
          display.end(`the study \`${name}\` is ${state}`);
          return EXIT.ok;
        }
        await pause(options.every, interruption.signal);
        if (interruption.signal.aborted) {
          display.end("the study goes on");
          return EXIT.ok;
        }
      }
    } finally {
      interruption.close();
    }
  });
}

/** Writes the report of a study, in the formats asked for, or prints it as Markdown. */
export function searchReport(
  wanted: string | undefined,
  options: LookOptions & { readonly output?: string; readonly format: readonly (typeof REPORT_FORMATS)[number][] },
): Promise<ExitCode> {
  const json = options.json === true;
  return withStore(options, json, async (store) => {
    const { id } = await findStudy(store, wanted);
    const report = reportOf(await readStudy(store, id));
    const { output } = options;
    if (output === undefined) {
      if (json) printJson(report);
      else print(renderReport(report, "md"));
      return EXIT.ok;
    }
    const files = reportFiles(report, options.format);
    for (const [name, text] of files) {
      const file = join(output, name);
      mkdirSync(dirname(file), { recursive: true });
      writeWhole(file, text);
    }
    if (json) printJson({ study: id, files: [...files.keys()].map((name) => join(output, name)) });
    else for (const name of files.keys()) print(join(output, name));
    return EXIT.ok;
  });
}

/** Writes a study as a journal of Optuna, or the sources that its trials are trained from. */
export function searchExport(
  wanted: string | undefined,
  options: LookOptions & { readonly optuna?: string; readonly sources?: string },
): Promise<ExitCode> {
  const json = options.json === true;
  const { optuna, sources } = options;
  if (optuna === undefined && sources === undefined)
    throw new CommandError(EXIT.usage, "what is to be written?", [
      "`--optuna FILE`: a journal for Optuna",
      "`--sources FOLDER`: the sources that the study keeps",
    ]);
  return withStore(options, json, async (store) => {
    const { id } = await findStudy(store, wanted);
    const data = await readStudy(store, id);
    const files: string[] = [];
    if (optuna !== undefined) {
      writeWhole(optuna, exportOptuna(data));
      files.push(optuna);
    }
    if (sources !== undefined)
      for (const { path, text } of data.study.sources) {
        const file = join(sources, path);
        // A store may come from elsewhere: it says what is written, and not where.
        if (relative(sources, file).startsWith("..") || isAbsolute(path))
          throw new CommandError(EXIT.wrong, `the study keeps a source outside its own folder: \`${path}\``);
        mkdirSync(dirname(file), { recursive: true });
        writeWhole(file, text);
        files.push(file);
      }
    if (json) printJson({ study: id, files });
    else for (const file of files) print(file);
    return EXIT.ok;
  });
}
