/**
 * A run as one page of HTML: no other file, no request, nothing that moves.
 *
 * In: a run as read.ts gives it. Out: the text of the page. It says first whether the clips were drawn or filmed, then
 * what the model scores and how far that can be trusted, then how it came to be. Every text that comes from a file is
 * escaped.
 */
import { type BootstrapOptions, WILSON_CAVEAT } from "../metrics/intervals.ts";
import { METRIC_RULES } from "../metrics/scores.ts";
import type { Predictions } from "../train/predictions.ts";
import { ATTENTION_STYLE, attentionSection, attentionTitle } from "./attention/section.ts";
import {
  bar,
  type Column,
  documentOf,
  el,
  figureGrid,
  pairs,
  paragraph,
  remarks,
  right,
  syntheticBox,
  tableOf,
  tile,
} from "./elements.ts";
import { type Evaluation, evaluate, type Score, showInterval, showScore } from "./evaluation.ts";
import { allFigures } from "./figures.ts";
import { type History, historyOf } from "./history.ts";
import type { Run } from "./read.ts";
import { escapeText, type Figure, standaloneFigure, tag } from "./svg.ts";
import { bytes, count, duration, grouped, magnitude, percent } from "./text.ts";
import { recipeWords } from "./words.ts";

/** A set of predictions and its scores. */
export interface EvaluatedSide {
  readonly side: "test" | "validation";
  readonly predictions: Predictions;
  readonly evaluation: Evaluation;
}

/** A run and everything that is computed from it. */
export interface Report {
  readonly run: Run;
  readonly history: History;
  /** The test first. */
  readonly sides: readonly EvaluatedSide[];
  readonly figures: readonly Figure[];
}

/** Computes what a report shows. Pure: equal runs and options give equal reports. */
export function analyse(run: Run, options: BootstrapOptions = {}): Report {
  const { record, metrics } = run;
  const history = historyOf(metrics, record);
  const sides = (["test", "validation"] as const).flatMap((side) => {
    const predictions = run[side];
    if (predictions === undefined) return [];
    return [{ side, predictions, evaluation: evaluate(predictions, record.recipe.metrics, options) }];
  });
  return { run, history, sides, figures: allFigures(history, record.data.classes.length, sides) };
}

/** The figures as files: SVG by name. */
export function figuresOf({ run, figures }: Report): ReadonlyMap<string, string> {
  const mark = isSynthetic(run) ? "SYNTHETIC" : "";
  return new Map(figures.map((figure) => [figure.name, standaloneFigure(figure, mark)]));
}

function figuresNamed({ figures }: Report, names: readonly string[]): string {
  return figureGrid(names.flatMap((name) => figures.filter((figure) => figure.name === name)));
}

// ------------------------------------------------------------------------------------------------------------- sections

function isSynthetic(run: Run): boolean {
  return run.record.data.note.trimStart().startsWith("SYNTHETIC");
}

function synthetic(run: Run): string {
  if (!isSynthetic(run)) return "";
  const rest = run.record.data.note
    .trimStart()
    .slice("SYNTHETIC".length)
    .replace(/^\s*:\s*/, "");
  return syntheticBox(rest, "The clips were drawn by a program. What is measured here says nothing about people.");
}

/** What was done, in a few sentences. */
function lead({ run, history, sides }: Report): string {
  const { model, data, recipe } = run.record;
  const sentences = [
    `${model.name}, ${count(model.parameters, "parameter")}, trained by the recipe ${recipe.name} on ${count(data.train.clips, "clip")}${data.train.subjects === 0 ? "" : ` of ${count(data.train.subjects, "subject")}`} (${data.fold}).`,
  ];
  const planned = recipe.stages.reduce((sum, stage) => sum + stage.epochs, 0);
  const done = history.epochs.length;
  const kept = history.best.at(-1);
  sentences.push(
    done === 0
      ? "No epoch is complete yet."
      : `${done} of at most ${count(planned, "epoch")} were run${kept === undefined ? "." : `; epoch ${kept.epoch} was kept.`}`,
  );
  const test = sides.find(({ side }) => side === "test");
  sentences.push(
    test === undefined
      ? "The run has no predictions for its test clips yet; “netc eval” makes them."
      : `Tested on ${count(test.predictions.clips.length, "clip")}${whose(test)}.`,
  );
  return paragraph(sentences.join(" "), "lead");
}

/** ` of 8 subjects`, where all clips name theirs. */
function whose({ predictions, evaluation }: EvaluatedSide): string {
  const named = predictions.clips.every((clip) => clip.subject !== undefined);
  return named ? ` of ${count(evaluation.subjects, "subject")}` : "";
}

const SIDE_TITLES = { test: "Test", validation: "Validation" } as const;

function tiles({ run, history, sides }: Report): string {
  const { model } = run.record;
  const scored = sides[0];
  const score = (kind: "uar" | "accuracy"): readonly string[] => {
    const found = scored?.evaluation.scores.find(({ metric }) => metric.kind === kind);
    if (scored === undefined || found === undefined) return [];
    const { text, interval } = found;
    const range = showInterval(interval, (value) => percent(value));
    return [
      tile(
        `${SIDE_TITLES[scored.side]} ${text.title}`,
        showScore(interval.value, text),
        range === "–" ? "no interval" : `95 %: ${range}`,
      ),
    ];
  };
  const seconds = history.epochs.reduce((sum, line) => sum + line.seconds + line.evaluationSeconds, 0);
  return el(
    "div",
    "tiles",
    ...score("uar"),
    ...score("accuracy"),
    tile("Multiply-adds a sample", magnitude(model.macs), `${magnitude(model.parameters)} parameters`),
    ...(history.epochs.length === 0
      ? []
      : [tile("Time", duration(seconds), `${count(history.epochs.length, "epoch")} on ${run.record.device}`)]),
  );
}

/** An interval drawn on the line from 0 to 1. */
function whisker({ interval: { value, low, high }, text }: Score): string {
  if (text.unit === "nats" || Number.isNaN(value)) return "";
  const [width, middle] = [150, 9];
  const x = (share: number): number => 4 + share * (width - 8);
  const line = (from: number, to: number, stroke: string, thickness: number): string =>
    tag("path", {
      d: `M${x(from).toFixed(1)} ${middle}H${x(to).toFixed(1)}`,
      stroke: `var(--${stroke})`,
      "stroke-width": thickness,
      "stroke-linecap": "round",
    });
  return tag(
    "svg",
    { viewBox: `0 0 ${width} 18`, width, height: 18, "aria-hidden": "true" },
    line(0, 1, "grid", 2),
    Number.isNaN(low) ? "" : line(low, high, "a", 4),
    tag("circle", { cx: x(value), cy: middle, r: 4.5, fill: "var(--a)", stroke: "var(--paper)", "stroke-width": 1.5 }),
  );
}

function scoresOf(report: Report, scored: EvaluatedSide): string {
  const { side, predictions, evaluation } = scored;
  const { header, clips } = predictions;
  const rows = evaluation.scores.map((score) => {
    const { text, interval } = score;
    return [
      escapeText(text.title),
      showScore(interval.value, text),
      escapeText(showInterval(interval, (value) => showScore(value, text))),
      whisker(score),
      escapeText(text.formula),
    ];
  });
  const columns: readonly Column[] = [
    { title: "", className: "keep" },
    right("value"),
    { title: "95 % interval", className: "interval keep" },
    { title: "0 to 1" },
    { title: "formula", className: "formula" },
  ];
  const { largest } = evaluation;
  const byClass = evaluation.classes.map((row) => [
    escapeText(row.class),
    bar(row.recall || 0),
    percent(row.recall),
    percent(row.precision),
    percent(row.f1),
    Number.isNaN(row.auc) ? "–" : row.auc.toFixed(3),
    grouped(row.support),
    ...(evaluation.failed.length > 0 ? [grouped(row.failed)] : []),
  ]);
  const classColumns: readonly Column[] = [
    { title: "class", className: "keep" },
    { title: "recall" },
    right(""),
    right("precision"),
    right("F1"),
    right("AUC"),
    right("clips"),
    ...(evaluation.failed.length > 0 ? [right("without prediction")] : []),
  ];
  const chose = side === "validation" ? " These clips chose the epoch: their scores are optimistic." : "";
  return [
    paragraph(
      `${count(clips.length, "clip")}${whose(scored)}; update ${grouped(header.step)}; a clip's probabilities are the mean over ${count(header.segments, "segment")} × ${count(header.crops, "crop")}.${chose}`,
    ),
    tableOf(columns, rows, "main"),
    remarks([
      `Intervals: ${evaluation.method}.`,
      ...evaluation.notes,
      `Accuracy by Wilson: ${showInterval(evaluation.wilson, (value) => percent(value))}. ${WILSON_CAVEAT}`,
      `Always answering ${largest.class} scores accuracy ${percent(largest.share)} and UAR ${percent(1 / Math.max(1, evaluation.classes.filter((row) => row.support > 0).length))}.`,
      ...METRIC_RULES,
    ]),
    figuresNamed(report, [`confusion-${side}`]),
    tableOf(classColumns, byClass),
    paragraph(
      "Recall: correct ÷ clips of the class. Precision: correct ÷ clips taken for the class. F1: 2·TP ÷ (2·TP + FP + FN). AUC: the class against all others.",
      "quiet",
    ),
    ...failures(evaluation),
  ].join("");
}

const LISTED = 200;

function failures({ failed }: Evaluation): readonly string[] {
  if (failed.length === 0) return [];
  const rows = failed
    .slice(0, LISTED)
    .map((clip) => [
      tag("code", {}, escapeText(clip.path)),
      escapeText(clip.class),
      escapeText(clip.failure ?? "no reason is given"),
    ]);
  return [
    el("h3", "warn", escapeText(`${count(failed.length, "clip")} without a prediction, counted as wrong`)),
    tableOf([{ title: "clip" }, { title: "class", className: "keep" }, { title: "why" }], rows),
    ...(failed.length > LISTED ? [paragraph(`… and ${failed.length - LISTED} more.`, "quiet")] : []),
  ];
}

function learning(report: Report): string {
  const { history } = report;
  const lost = history.steps.filter((step) => !Number.isFinite(step.loss)).length;
  const notes = history.notes.map((note): readonly [string, string] => [
    `update ${grouped(note.step)}`,
    escapeText(note.text),
  ]);
  return [
    history.epochs.length === 0 ? paragraph("No epoch is complete yet.") : "",
    figuresNamed(report, ["loss", "scores", "rate", "gradient"]),
    lost === 0
      ? ""
      : el("p", "warn", escapeText(`The loss was not finite in ${count(lost, "update")}: training diverged there.`)),
    history.repeated === 0
      ? ""
      : paragraph(
          `${count(history.repeated, "update")} were lost when the run was interrupted, and done again.`,
          "quiet",
        ),
    notes.length === 0 ? "" : tag("details", {}, tag("summary", {}, count(notes.length, "note")), pairs(notes)),
  ].join("");
}

function dataSection({ run }: Report): string {
  const { data } = run.record;
  const { classes } = data;
  const sides = [data.train, data.validation, data.test];
  const largest = Math.max(1, ...data.train.byClass);
  const rows = classes.map((name, k) => [
    escapeText(name),
    bar((data.train.byClass[k] ?? 0) / largest),
    ...sides.map((side) => grouped(side.byClass[k] ?? 0)),
  ]);
  const sums = [
    ["all clips", "", ...sides.map((side) => grouped(side.clips))],
    ["subjects", "", ...sides.map((side) => (side.subjects === 0 && side.clips > 0 ? "–" : grouped(side.subjects)))],
  ];
  return [
    paragraph(data.note === "" ? "The manifest has no note." : data.note),
    tableOf(
      [{ title: "class", className: "keep" }, { title: "" }, right("training"), right("validation"), right("test")],
      [...rows, ...sums],
      "",
      sums.length,
    ),
    pairs([
      ["folder", tag("code", {}, escapeText(data.folder))],
      ["fold", escapeText(data.fold)],
      ["manifest, SHA-256", tag("code", {}, escapeText(data.manifestHash))],
    ]),
  ].join("");
}

const OPEN_UP_TO = 24;

function modelSection({ run }: Report): string {
  const { model } = run.record;
  const most = Math.max(1, ...model.layers.map((layer) => layer.macs));
  const rows = model.layers.map((layer) => [
    escapeText(layer.path),
    layer.shape.join(" × "),
    grouped(layer.parameters),
    grouped(layer.macs),
    bar(layer.macs / most),
  ]);
  const sum = ["the model", "", grouped(model.parameters), grouped(model.macs), ""];
  const table = tableOf(
    [
      { title: "layer", className: "keep" },
      { title: "shape of its value", className: "keep" },
      right("parameters"),
      right("multiply-adds"),
      { title: "" },
    ],
    [...rows, sum],
    "",
    1,
  );
  return [
    paragraph(
      `${model.name}: ${count(model.parameters, "parameter")}, ${grouped(model.macs)} multiply-adds for one forward pass on one sample.`,
    ),
    tag(
      "details",
      model.layers.length <= OPEN_UP_TO ? { open: "" } : {},
      tag("summary", {}, count(model.layers.length, "layer")),
      table,
    ),
  ].join("");
}

function recipeSection({ run }: Report): string {
  return recipeWords(run.record.recipe)
    .map(
      ({ title, rows }) =>
        el("h3", "", escapeText(title)) + pairs(rows.map(([name, words]) => [name, escapeText(words)])),
    )
    .join("");
}

function timeSection(report: Report): string {
  const { epochs, steps } = report.history;
  if (epochs.length === 0) return "";
  const total = (of: (line: (typeof epochs)[number]) => number): number =>
    epochs.reduce((sum, line) => sum + of(line), 0);
  const [training, waited, evaluation] = [
    total((e) => e.seconds),
    total((e) => e.waited),
    total((e) => e.evaluationSeconds),
  ];
  const peak = (of: (line: (typeof epochs)[number]) => number): string => bytes(Math.max(...epochs.map(of)));
  const table = pairs([
    [
      "training",
      escapeText(`${duration(training)}, ${count(epochs.length, "epoch")}, ${count(steps.length, "update")}`),
    ],
    ["waiting for data", escapeText(`${percent(waited / training)} of it`)],
    ["evaluation", escapeText(duration(evaluation))],
    ["samples per second", escapeText((total((e) => e.samplesPerSecond) / epochs.length).toFixed(1))],
    [
      "most memory",
      escapeText(`${peak((e) => e.residentBytes)} in the process, ${peak((e) => e.deviceBytes)} on the device`),
    ],
  ]);
  return table + figuresNamed(report, ["throughput", "waiting", "memory"]);
}

function environmentSection({ run }: Report): string {
  const { record } = run;
  const code = (text: string): string => tag("code", {}, escapeText(text));
  const quoted = record.command.map((word) =>
    /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`,
  );
  return pairs([
    ["command", code(quoted.join(" "))],
    ["started", escapeText(record.started.replace("T", " ").replace(/\.\d+Z$/, " UTC"))],
    ["seed", escapeText(String(record.seed))],
    ["device", escapeText(record.device)],
    ["netc", escapeText(record.netc)],
    [
      "system",
      escapeText(
        `${record.environment.system}, Node ${record.environment.node}, ${count(record.environment.processors, "processor")}, ${bytes(record.environment.memoryBytes)}`,
      ),
    ],
    ["graph, SHA-256", code(record.model.graphHash)],
    ["recipe, SHA-256", code(record.recipeHash)],
    ["manifest, SHA-256", code(record.data.manifestHash)],
  ]);
}

/** The page. */
export function renderReport(report: Report): string {
  const { record, attention } = report.run;
  const sections = [
    ...report.sides.map((scored) => ({
      id: scored.side,
      title: scored.side === "test" ? "Scores on the test clips" : "Scores on the validation clips",
      short: SIDE_TITLES[scored.side],
      content: scoresOf(report, scored),
    })),
    ...(attention === undefined
      ? []
      : [
          {
            id: "attention",
            title: attentionTitle(attention),
            short: "Attention",
            content: attentionSection(attention),
          },
        ]),
    { id: "learning", title: "Learning", short: "Learning", content: learning(report) },
    { id: "data", title: "Data", short: "Data", content: dataSection(report) },
    { id: "recipe", title: "Recipe", short: "Recipe", content: recipeSection(report) },
    { id: "model", title: "Model", short: "Model", content: modelSection(report) },
    { id: "time", title: "Time and memory", short: "Time", content: timeSection(report) },
    { id: "environment", title: "Environment", short: "Environment", content: environmentSection(report) },
  ];
  const mark = isSynthetic(report.run) ? "SYNTHETIC · " : "";
  return documentOf({
    title: `${mark}${record.name} · netc`,
    kind: "Training run",
    heading: record.name,
    head: [synthetic(report.run), lead(report), tiles(report)].join(""),
    ...(attention === undefined ? {} : { style: ATTENTION_STYLE }),
    sections,
  });
}
