/**
 * A study as one page of HTML: no other file, no request, nothing that moves.
 *
 * In: the record of a report. Out: the text of the page. It says first whether the clips were drawn, then what the
 * search chose and how that does on seeds it has not seen, then what the search itself saw, apart. Every text that comes
 * from a study is escaped.
 */
import {
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
} from "../../report/elements.ts";
import { escapeText, type Figure, standaloneFigure, tag } from "../../report/svg.ts";
import { count, duration, grouped, significant } from "../../report/text.ts";
import { frontFigures, learningFigure, searchFigure, seedsFigure } from "./figures.ts";
import { pWords, rangeText, scoreText, signedText, unitOf } from "./format.ts";
import { contributionsFigure, pairsFigure, varianceFigure } from "./importance-figures.ts";
import type { ReportTrial, StudyReport } from "./model.ts";
import { parallelFigure } from "./parallel-figure.ts";
import {
  ablationNotes,
  ablationTable,
  candidateAt,
  headerRows,
  importanceTable,
  leadOf,
  scoreTitle,
  searchNotes,
  searchTable,
  subjectNotes,
  subjectTable,
  syntheticWords,
  type TextTable,
} from "./words.ts";

const PAGE_STYLE = `
.dots{letter-spacing:.06em;white-space:nowrap;font-size:14px;line-height:1.3}
th.dots{font-size:12.5px}
@media screen and (min-width:1120px){.breakout{width:max-content;min-width:100%;max-width:calc(100vw - 60px);position:relative;left:50%;transform:translateX(-50%)}}
td.keep,th.keep{white-space:nowrap}
.ablation{font-size:13px}
.ablation th{font-size:12.5px}
.ablation td,.ablation th{padding-right:9px}
.ablation .chosen td{background:color-mix(in srgb,var(--a) 9%,transparent)}
.ablation .chosen td:first-child{box-shadow:inset 3px 0 0 var(--a);padding-left:9px}
.ablation td:first-child,.ablation th:first-child{padding-left:9px}
.aside{color:var(--muted);font-size:.88em}
.note{margin:18px 0 4px;padding:10px 14px;border-left:3px solid var(--b);background:var(--raised)}
.small td,.small th{font-size:13px;padding-top:3px;padding-bottom:3px}
`;

/** All drawings of a report, in the page's colours. */
function figuresOf(report: StudyReport): readonly Figure[] {
  return [
    ...frontFigures(report),
    seedsFigure(report),
    contributionsFigure(report),
    varianceFigure(report),
    pairsFigure(report),
    parallelFigure(report),
    learningFigure(report),
    searchFigure(report),
  ].filter((figure) => figure !== undefined);
}

/** The drawings as files: SVG by name. */
export function figureFiles(report: StudyReport): ReadonlyMap<string, string> {
  const mark = report.synthetic ? "SYNTHETIC" : "";
  return new Map(figuresOf(report).map((figure) => [figure.name, standaloneFigure(figure, mark)]));
}

/** A cell's text, with what stands in brackets behind it made quiet. */
function quietAside(text: string): string {
  const [, before, aside] = /^(.*\S) \(([^()]*)\)$/.exec(text) ?? [];
  return before === undefined || aside === undefined
    ? escapeText(text)
    : `${escapeText(before)} ${tag("span", { class: "aside" }, escapeText(aside))}`;
}

function textTable({ columns, rows }: TextTable, className = ""): string {
  const classes = { left: "keep", right: "r", dots: "dots" } as const;
  const head = tag("tr", {}, ...columns.map(({ title, align }) => el("th", classes[align], escapeText(title))));
  const body = rows.map(({ cells, bold, chosen }) =>
    el(
      "tr",
      chosen ? "chosen" : "",
      ...cells.map((cell, index) => {
        const align = columns[index]?.align ?? "left";
        const content = quietAside(cell);
        return el("td", classes[align], bold.has(index) ? tag("strong", {}, content) : content);
      }),
    ),
  );
  // A wide table may be wider than the column where the window is.
  const frame = className === "ablation" ? "wide breakout" : "wide";
  return el("div", frame, el("table", className, tag("thead", {}, head), tag("tbody", {}, ...body)));
}

const named = (figures: readonly Figure[], names: RegExp): readonly Figure[] =>
  figures.filter(({ name }) => names.test(name));

/** What the model expects of its leader, while there is no result. */
function leaderTile({ leaders: [leader], candidates, metric }: StudyReport): readonly string[] {
  const candidate = candidates.find(({ index }) => index === leader?.candidate);
  if (leader === undefined || candidate === undefined) return [];
  const { text } = metric;
  const score = (value: number): string => scoreText(value, text);
  return [
    tile(
      "Leads by the model, not final",
      candidate.short,
      `validation ${text.title} ${score(leader.expected.value)}${unitOf(text) === "" ? "" : ` ${unitOf(text)}`} expected, 95 %: ${rangeText(leader.expected, score)}`,
    ),
  ];
}

function tiles(report: StudyReport): string {
  const { rows, choice, metric, budget, space, bestRandom, noise } = report;
  const { text } = metric;
  const chosen = rows.find(({ candidate }) => candidate === choice);
  const unit = unitOf(text) === "" ? "" : ` ${unitOf(text)}`;
  const points = text.unit === "share" ? " pt" : "";
  const score = (value: number): string => scoreText(value, text);
  const random = rows.find(({ candidate }) => candidate === bestRandom?.candidate);
  return el(
    "div",
    "tiles",
    ...(chosen === undefined
      ? []
      : [
          tile(
            `${scoreTitle(report)} of the choice`,
            `${score(chosen.mean.value)}${unit}`,
            `${count(chosen.seeds.length, "fresh seed")}, 95 %: ${rangeText(chosen.mean, score)}`,
          ),
        ]),
    ...(chosen?.toNone === undefined
      ? []
      : [
          tile(
            "Difference to none",
            `${signedText(chosen.toNone.difference.value, text)}${points}`,
            `95 %: ${rangeText(chosen.toNone.difference, score)}, ${pWords(chosen.toNone.corrected)}`,
          ),
        ]),
    ...(chosen?.toRandom === undefined || random === undefined
      ? []
      : [
          tile(
            "Difference to best of random",
            `${signedText(chosen.toRandom.difference.value, text)}${points}`,
            `95 %: ${rangeText(chosen.toRandom.difference, score)}, ${pWords(chosen.toRandom.corrected)}`,
          ),
        ]),
    ...(chosen !== undefined || noise === undefined
      ? []
      : [
          tile(
            "Noise between seeds",
            `${score(noise.deviation.value)}${points}`,
            `95 %: ${rangeText(noise.deviation, score)}`,
          ),
        ]),
    ...(chosen === undefined ? leaderTile(report) : []),
    tile(
      "Trainings spent",
      `${significant(budget.spent, 3)} of ${significant(budget.spend, 3)}`,
      `${grouped(space.tried)} of ${count(space.feasible, "candidate")}; ${duration(budget.deviceSeconds)}`,
    ),
  );
}

function resultsSection(report: StudyReport, figures: readonly Figure[]): string {
  if (report.rows.length === 0)
    return paragraph(
      "No training on fresh seeds has ended yet. The table will stand here, and nothing else will stand for it.",
    );
  return [
    textTable(ablationTable(report), "ablation"),
    remarks(ablationNotes(report)),
    ...(report.subjects.length === 0
      ? []
      : [el("h3", "", "Over the people of the test"), textTable(subjectTable(report)), remarks(subjectNotes(report))]),
    figureGrid(named(figures, /^seeds$/)),
    figureGrid(named(figures, /^front-(?!search)/)),
  ].join("");
}

function importanceSection(report: StudyReport, figures: readonly Figure[]): string {
  const found = importanceTable(report);
  if (found === undefined) return "";
  const [first = "", ...rest] = found.notes;
  const warned = report.method.adaptive;
  return [
    ...(warned ? [el("p", "note", escapeText(first))] : []),
    figureGrid(named(figures, /^(?:importance|pairs|variance)$/)),
    textTable(found.table),
    ...(found.options === undefined ? [] : [el("h3", "", "With each option alone"), textTable(found.options)]),
    remarks(warned ? rest : found.notes),
    remarks(found.varianceNotes),
    tag("details", {}, tag("summary", {}, "Shares of the variance, choices and pairs"), textTable(found.variance)),
  ].join("");
}

const OPEN_UP_TO = 12;
/** Rows of the search's own scores on the page; all are in candidates.csv. */
const MOST_SCORES = 100;

function searchSection(report: StudyReport, figures: readonly Figure[]): string {
  const table = searchTable(report);
  return [
    paragraph("What follows is what the search saw while it chose. It explains the choice; it is no result."),
    figureGrid(named(figures, /^parallel$/)),
    figureGrid(["search", "learning", "front-search"].flatMap((name) => figures.filter((one) => one.name === name))),
    table.rows.length === 0
      ? ""
      : tag(
          "details",
          table.rows.length <= OPEN_UP_TO ? { open: "" } : {},
          tag("summary", {}, `Scores of ${count(table.rows.length, "candidate")}`),
          textTable({ ...table, rows: table.rows.slice(0, MOST_SCORES) }, "ablation"),
          ...(table.rows.length > MOST_SCORES
            ? [paragraph(`… and ${grouped(table.rows.length - MOST_SCORES)} more in candidates.csv.`, "quiet")]
            : []),
        ),
    remarks(searchNotes(report)),
  ].join("");
}

function stateText({ state, left, epochs, asked }: ReportTrial): string {
  if (left) return `left after ${epochs}`;
  return state === "complete" ? `${epochs} epochs` : `${state}, ${epochs}/${asked}`;
}

/** Up to so many trials stand on the page; all are in trials.csv. */
const MOST_TRIALS = 200;

function trialsSection(report: StudyReport): string {
  const { trials, metric } = report;
  const columns: readonly Column[] = [
    right("trial"),
    { title: "candidate", className: "keep" },
    { title: "part" },
    right("seed"),
    { title: "state", className: "keep" },
    right(`validation ${metric.text.title}`),
    right("time"),
    right("tries"),
    { title: "why it failed" },
  ];
  const rows = trials
    .slice(0, MOST_TRIALS)
    .map((trial) => [
      String(trial.number),
      escapeText(candidateAt(report, trial.candidate)?.short ?? "–"),
      trial.phase,
      String(trial.seed),
      escapeText(stateText(trial)),
      trial.value === undefined ? "–" : scoreText(trial.value, metric.text),
      trial.seconds === 0 ? "–" : escapeText(duration(trial.seconds)),
      String(trial.attempts),
      escapeText(trial.error ?? ""),
    ]);
  return tag(
    "details",
    {},
    tag("summary", {}, count(trials.length, "trial")),
    tableOf(columns, rows, "small"),
    ...(trials.length > MOST_TRIALS
      ? [paragraph(`… and ${grouped(trials.length - MOST_TRIALS)} more in trials.csv.`, "quiet")]
      : []),
  );
}

function reproduceSection(report: StudyReport): string {
  const code = (text: string): string => tag("code", {}, escapeText(text));
  const { journal, commands, id, searchHash, dataHash, netc, created } = report;
  return pairs([
    ...commands.map((command, k): readonly [string, string] => [k === 0 ? "commands" : "", code(command)]),
    ["study", code(id)],
    [
      "begun",
      escapeText(
        new Date(created)
          .toISOString()
          .replace("T", " ")
          .replace(/\.\d+Z$/, " UTC"),
      ),
    ],
    ["netc", escapeText(netc)],
    ["search, SHA-256", code(searchHash)],
    ["data, SHA-256", code(dataHash)],
    [`journal of ${count(journal.decisions, "decision")}, SHA-256`, code(journal.hash)],
    ...(report.note === "" ? [] : [["data", escapeText(report.note)] as const]),
  ]);
}

function checklistSection({ checklist }: StudyReport): string {
  return [
    paragraph("The questions of Lindauer and Hutter (JMLR 21, 2020), answered from what the study knows."),
    tableOf(
      [{ title: "question" }, { title: "answer" }],
      checklist.map(({ question, answer }) => [escapeText(question), escapeText(answer)]),
    ),
  ].join("");
}

/** The page. */
export function renderPage(report: StudyReport): string {
  const figures = figuresOf(report);
  const warning = syntheticWords(report);
  return documentOf({
    title: `${report.synthetic ? "SYNTHETIC · " : ""}${report.name} · netc`,
    kind: "Architecture search",
    heading: report.name,
    style: PAGE_STYLE,
    head: [
      warning === undefined ? "" : syntheticBox(...warning),
      paragraph(leadOf(report).join(" "), "lead"),
      tiles(report),
    ].join(""),
    sections: [
      { id: "results", title: "On fresh seeds", short: "Results", content: resultsSection(report, figures) },
      {
        id: "importance",
        title: "What each position contributes",
        short: "Positions",
        content: importanceSection(report, figures),
      },
      { id: "search", title: "What the search saw", short: "Search", content: searchSection(report, figures) },
      {
        id: "study",
        title: "What was done",
        short: "Study",
        content: pairs(headerRows(report).map(([name, text]) => [name, escapeText(text)])),
      },
      { id: "trials", title: "All trials", short: "Trials", content: trialsSection(report) },
      { id: "checklist", title: "Checklist", short: "Checklist", content: checklistSection(report) },
      { id: "reproduce", title: "To do it again", short: "Reproduce", content: reproduceSection(report) },
    ],
  });
}
