/**
 * The sentences and tables of a report, once for all formats: what a page, Markdown and LaTeX say in their own spelling.
 *
 * In: the record. Out: plain text by rows and columns; nothing is escaped here.
 */
import type { Interval } from "../../metrics/intervals.ts";
import { count, duration, grouped, percent, significant } from "../../report/text.ts";
import { isShared } from "../latency/quiet.ts";
import { foundText } from "../latency/words.ts";
import {
  costText,
  differenceText,
  differenceUnitOf,
  meanText,
  pText,
  pWords,
  rangeText,
  relativeText,
  scoreText,
  signedText,
  unitOf,
  withUnit,
} from "./format.ts";
import type { Importance, ReportCandidate, RowDifference, StudyReport, TableRow } from "./model.ts";
import { headingOf, legendOf } from "./notation.ts";
import { isBetter } from "./table.ts";

export interface TextColumn {
  readonly title: string;
  readonly align: "left" | "right" | "dots";
}

export interface TextRow {
  readonly cells: readonly string[];
  /** Columns whose cell is set in bold: a difference that survives the correction. */
  readonly bold: ReadonlySet<number>;
  /** Of the search's choice. */
  readonly chosen: boolean;
}

export interface TextTable {
  readonly columns: readonly TextColumn[];
  readonly rows: readonly TextRow[];
}

const signOf = ({ metric }: StudyReport): 1 | -1 => (metric.goal === "maximize" ? 1 : -1);

export function candidateAt(report: StudyReport, index: number | undefined): ReportCandidate | undefined {
  return index === undefined ? undefined : report.candidates.find((candidate) => candidate.index === index);
}

/** `test UAR` */
export const scoreTitle = ({ metric }: StudyReport): string => `${metric.side} ${metric.text.title}`;

const left = (title: string): TextColumn => ({ title, align: "left" });
const right = (title: string): TextColumn => ({ title, align: "right" });

/** Columns that say what a candidate is, and their cells; one column of few letters where there is little room. */
function placement(
  report: StudyReport,
  brief = false,
): {
  readonly columns: readonly TextColumn[];
  readonly cells: (candidate: ReportCandidate) => readonly string[];
} {
  const { sets, others } = report.notation;
  if (brief) return { columns: [left("candidate")], cells: ({ short }) => [short] };
  return {
    columns: [
      ...sets.map((set): TextColumn => ({ title: headingOf(set, sets.length > 1), align: "dots" })),
      ...others.map(({ title }) => left(title)),
    ],
    cells: ({ dots, words }) => [...dots, ...words],
  };
}

const withAside = (text: string, aside: string): string => (aside === "" ? text : `${text} (${aside})`);

function differenceCells(
  test: RowDifference | undefined,
  text: StudyReport["metric"]["text"],
): readonly [string, string] {
  return test === undefined ? ["–", "–"] : [differenceText(test.difference, text), pText(test.corrected)];
}

/** `12.1 [11.9, 12.4]`; `≈ 12.1` of a model that nobody has measured. */
function latencyText(latency: ReportCandidate["latency"], limit: number | undefined): string {
  if (latency === undefined) return "–";
  const { milliseconds, low, high, source } = latency;
  const write = (value: number): string => value.toPrecision(3);
  const range = Number.isNaN(low) ? "" : ` [${write(low)}, ${write(high)}]`;
  const slow = milliseconds > (limit ?? Infinity) ? "too slow" : "";
  return withAside(`${source === "predicted" ? "≈ " : ""}${write(milliseconds)}${range}`, slow);
}

/** What the latencies of the table's rows are. */
function latencyNotes({ rows, candidates, latencyLimit, latency }: StudyReport): readonly string[] {
  const own = rows.flatMap(({ candidate }) => candidates.find(({ index }) => index === candidate)?.latency ?? []);
  if (own.length === 0) return [];
  const devices = [...new Set(own.map(({ device }) => device))];
  const shared = own.filter(({ busy }) => isShared(busy));
  const slow = own.some(({ milliseconds }) => milliseconds > (latencyLimit ?? Infinity));
  return [
    `p50: median milliseconds of a forward pass of one example${own.some(({ low }) => !Number.isNaN(low)) ? " and its quartiles" : ""}, on ${devices.join("; ")}${own.some(({ source }) => source === "predicted") ? "; ≈: predicted from other models" : ""}${devices.length > 1 ? ". Rows differ in the device" : ""}.`,
    ...(latency === undefined ? [] : [`Before the search: ${foundText(latency)}.`]),
    ...(slow
      ? [`Too slow: above the limit of ${significant(latencyLimit ?? Number.NaN)} ms when it was measured again.`]
      : []),
    ...(shared.length === 0
      ? []
      : [
          `Other programs took up to ${percent(Math.max(...shared.map(({ busy }) => busy)))} of the processors while latencies were measured: they may be too long.`,
        ]),
  ];
}

/** The ablation table: candidates on fresh seeds. */
export function ablationTable(report: StudyReport, brief = false): TextTable {
  const { rows, metric, choice } = report;
  const { text } = metric;
  const who = placement(report, brief);
  const none = candidateAt(report, report.space.none);
  const timed = rows.some(({ candidate }) => candidateAt(report, candidate)?.latency !== undefined);
  const columns = [
    left("row"),
    ...who.columns,
    right("params"),
    right("FLOPs"),
    ...(timed ? [right("p50, ms")] : []),
    right(withUnit(scoreTitle(report), unitOf(text))),
    right("n"),
    right(withUnit("Δ to none", differenceUnitOf(text))),
    right("p (Holm)"),
    left("front"),
  ];
  const delta = columns.findIndex(({ title }) => title.startsWith("Δ"));
  return {
    columns,
    rows: rows.flatMap((row) => {
      const candidate = candidateAt(report, row.candidate);
      if (candidate === undefined) return [];
      const { costs, latency } = candidate;
      const cost = (of: "params" | "flops"): string =>
        withAside(costText(costs[of]), relativeText(costs[of], none?.costs[of]));
      return [
        {
          cells: [
            row.roles.join(", "),
            ...who.cells(candidate),
            cost("params"),
            cost("flops"),
            ...(timed ? [latencyText(latency, report.latencyLimit)] : []),
            meanText(row.mean, text),
            String(row.seeds.length),
            ...differenceCells(row.toNone, text),
            row.front ? "yes" : "",
          ],
          bold: new Set(isBetter(row.toNone, signOf(report)) ? [delta] : []),
          chosen: row.candidate === choice,
        },
      ];
    }),
  };
}

/** Choices that are not about placing and in which rows differ from `none`, whose difference is then not of placement alone. */
function unlikeNone(report: StudyReport): readonly string[] {
  const none = candidateAt(report, report.space.none);
  if (none === undefined || !report.rows.some(({ candidate }) => candidate === none.index)) return [];
  return report.notation.others.flatMap(({ title }, k) => {
    const own = none.words[k] ?? "–";
    const differ = report.rows.some(({ candidate }) => {
      const word = candidateAt(report, candidate)?.words[k] ?? "–";
      return word !== own && word !== "–";
    });
    return own !== "–" && differ ? [`${title} ${own}`] : [];
  });
}

/** How the table's figures are to be read. */
export function ablationNotes(report: StudyReport): readonly string[] {
  const { rows, metric, notation } = report;
  const { text, side, goal } = metric;
  const tests = rows.flatMap(({ toNone, toRandom }) => [toNone, toRandom]).filter((test) => test !== undefined);
  const gains = tests
    .map(({ difference, unpaired }) => (difference.high - difference.low) / (unpaired.high - unpaired.low))
    .filter(Number.isFinite)
    .sort((a, b) => a - b);
  const gain = gains[Math.floor(gains.length / 2)];
  const unlike = unlikeNone(report);
  const few = rows.filter(({ seeds }) => seeds.length < 2).length;
  return [
    ...notation.sets.map((set) => `Dots are ${legendOf(set)}; ● there, ○ not.`),
    `${scoreTitle(report)}: mean over n trainings on fresh seeds, ± half of the 95 % t interval over seeds${text.formula === "" ? "" : `; ${text.formula}`}. ${goal === "maximize" ? "Larger" : "Smaller"} is better. Nothing was chosen by these trainings${side === "test" ? ", and only they have read the test clips" : "; the study has not read its test clips"}.`,
    `Δ: difference to none over the seeds that both have, ± half of its paired 95 % t interval. p: paired t test, corrected by Holm over the ${count(tests.length, "difference")} that ${tests.length === 1 ? "is" : "are"} tested here. Bold: p at most 0.05, in the direction that is wanted.`,
    ...(unlike.length === 0
      ? []
      : [`None was trained with ${unlike.join(", ")}: where a row has another, its difference is of that too.`]),
    ...(gain === undefined ? [] : [`${sharing(gain)} (median of the table).`]),
    ...(few === 0 ? [] : [`${count(few, "row")} with one training: no interval.`]),
    `Front: no other row has as good a mean at as low a cost (${costTitle(report)}). It is a matter of means, not of significance.`,
    ...latencyNotes(report),
    "These intervals are about other seeds on the same people, not about other people.",
  ];
}

/** What the front is drawn over: `params`. */
function costTitle({ objectives }: StudyReport): string {
  const costs = objectives.flatMap((objective) => {
    const word = objective.replace(/^\w+ /, "");
    return ["params", "flops", "memory", "latency"].includes(word) ? [word] : [];
  });
  return costs.length === 0 ? "params" : costs.join(" and ");
}

/** What the search saw: shown apart from the table, and never as a result. */
export function searchTable(report: StudyReport): TextTable {
  const { metric, searchRows, choice } = report;
  const who = placement(report);
  const scored = searchRows.some(({ candidate }) => candidateAt(report, candidate)?.gradientNorm !== undefined);
  const columns = [
    left("row"),
    ...who.columns,
    right("params"),
    ...(scored ? [right("‖∇‖ at the start")] : []),
    right(withUnit(`validation ${metric.text.title}`, unitOf(metric.text))),
    right("n"),
  ];
  return {
    columns,
    rows: searchRows.flatMap((row) => {
      const candidate = candidateAt(report, row.candidate);
      if (candidate === undefined) return [];
      return [
        {
          cells: [
            row.roles.join(", "),
            ...who.cells(candidate),
            costText(candidate.costs.params),
            ...(scored ? [candidate.gradientNorm?.toPrecision(3) ?? "–"] : []),
            meanText(row.mean, metric.text),
            String(row.seeds.length),
          ],
          bold: new Set<number>(),
          chosen: row.candidate === choice,
        },
      ];
    }),
  };
}

export function searchNotes(report: StudyReport): readonly string[] {
  const { noise, metric, zeroCost } = report;
  return [
    "Full trainings of all phases before the final ones, on the validation clips. Candidates were chosen by these scores, so those of the leaders are too high by chance; the table above is without that.",
    ...(noise === undefined
      ? []
      : [
          `A single training differs from its candidate's mean by ${scoreText(noise.deviation.value, metric.text)} ${differenceUnitOf(metric.text)} (standard deviation).`,
        ]),
    ...(zeroCost.length === 0
      ? []
      : [
          `Scores that cost no training, which chose nothing: ${zeroCost.map(({ name, tau, candidates }) => `${name}, Kendall's τ with these means ${tauText(tau)} of ${count(candidates, "candidate")}`).join("; ")}.`,
        ]),
  ];
}

/** Whether sharing seeds has made the intervals of differences narrower, by the ratio of their widths. */
function sharing(gain: number): string {
  const ratio = significant(gain, 2);
  const than = ratio === "1" ? "as wide" : `${ratio} times as wide`;
  return `Sharing seeds makes the intervals of differences ${than} as they would be without`;
}

/** The choice against others over the people of the test. */
export function subjectTable({ subjects, metric }: StudyReport): TextTable {
  return {
    columns: [
      left("choice against"),
      right(withUnit("theirs", unitOf(metric.text))),
      right(withUnit("the choice's", unitOf(metric.text))),
      right(withUnit("difference", differenceUnitOf(metric.text))),
      left("95 % interval"),
      right("p"),
      right("seeds"),
      right("subjects"),
      right("clips"),
    ],
    rows: subjects.map((row) => ({
      cells: [
        row.against,
        scoreText(row.first, metric.text),
        scoreText(row.second, metric.text),
        differenceText({ ...row.difference, low: Number.NaN }, metric.text),
        rangeText(row.difference, (value) => scoreText(value, metric.text)),
        pText(row.p),
        String(row.seeds),
        grouped(row.subjects),
        grouped(row.clips),
      ],
      bold: new Set<number>(),
      chosen: false,
    })),
  };
}

export function subjectNotes({ subjects }: StudyReport): readonly string[] {
  const [one] = subjects;
  if (one === undefined) return [];
  return [
    `Means over the seeds; ${one.method}. These intervals are about other people for these trainings, not about other trainings; p is not corrected.`,
    ...one.notes,
  ];
}

export interface Importances {
  /** By position. */
  readonly table: TextTable;
  /** By position and option, where positions have several. */
  readonly options: TextTable | undefined;
  /** Shares of the variance, the largest first. */
  readonly variance: TextTable;
  readonly notes: readonly string[];
  readonly varianceNotes: readonly string[];
}

/** Pairs that are worth a line. */
const MOST_PAIRS = 8;
/** Shares below this are nothing. */
const NOTHING = 0.0005;

const plainTable = (columns: readonly TextColumn[], rows: readonly (readonly string[])[]): TextTable => ({
  columns,
  rows: rows.map((cells) => ({ cells, bold: new Set<number>(), chosen: false })),
});

function optionsTable(report: StudyReport, importance: Importance): TextTable | undefined {
  const { metric } = report;
  if (importance.options.length === 0) return undefined;
  const { options, contributions } = importance;
  return plainTable(
    [
      left("position"),
      left("with"),
      right(withUnit("Shapley value", differenceUnitOf(metric.text))),
      left("95 % interval"),
      right("weight"),
    ],
    contributions.flatMap(({ factor, name }) =>
      options
        .filter((one) => one.factor === factor)
        .map(({ option, shapley, weight }) => [
          name,
          option,
          signedText(shapley.value, metric.text),
          rangeText(shapley, (value) => scoreText(value, metric.text)),
          percent(weight, 0),
        ]),
    ),
  );
}

function varianceTable({ variance }: Importance): TextTable {
  const names = new Map(variance.main.map(({ factor, name }) => [factor, name]));
  const main = [...variance.main].sort((a, b) => b.share - a.share).map(({ name, share }) => [name, share] as const);
  const pairs = [...variance.pairs]
    .sort((a, b) => b.share - a.share)
    .map(({ first, second, share }) => [`${names.get(first) ?? ""} × ${names.get(second) ?? ""}`, share] as const);
  const shown = pairs.slice(0, MOST_PAIRS).filter(([, share]) => share >= NOTHING);
  const others = pairs.reduce((sum, [, share]) => sum + share, 0) - shown.reduce((sum, [, share]) => sum + share, 0);
  return plainTable(
    [left("choice"), right("share of variance")],
    [
      ...main,
      ...shown,
      ...(others >= NOTHING ? [["other pairs", others] as const] : []),
      ...(variance.rest >= NOTHING ? [["three and more together", variance.rest] as const] : []),
    ].map(([name, share]) => [name, percent(share)]),
  );
}

function varianceNotes({ metric, noise }: StudyReport, { variance }: Importance): readonly string[] {
  const unit = differenceUnitOf(metric.text);
  const write = (value: number): string => `${scoreText(value, metric.text)}${unit === "" ? "" : ` ${unit}`}`;
  return [
    `Functional analysis of variance of the model's mean, each position there or not with probability ½ and all options equally: a share says how much a choice matters, not whether it helps. The model's mean has a standard deviation of ${write(variance.deviation)} over the space${noise === undefined ? "" : `, where seeds differ by ${write(noise.deviation.value)}`}${variance.exact ? "" : `; of ${grouped(variance.points)} points that were drawn`}.`,
  ];
}

export function importanceTable(report: StudyReport): Importances | undefined {
  const { importance, metric, method } = report;
  if (importance === undefined) return undefined;
  const mean = ({ mean, trainings }: { readonly mean: number; readonly trainings: number }): string =>
    trainings === 0 ? "–" : `${scoreText(mean, metric.text)} (${trainings})`;
  const shares = new Map(importance.variance.main.map(({ factor, share }) => [factor, share]));
  return {
    table: plainTable(
      [
        left("position"),
        right(withUnit("Shapley value", differenceUnitOf(metric.text))),
        left("95 % interval"),
        right("variance, alone"),
        right(withUnit("mean with it (n)", unitOf(metric.text))),
        right(withUnit("mean without (n)", unitOf(metric.text))),
      ],
      importance.contributions.map(({ factor, name, shapley, on, off }) => [
        name,
        signedText(shapley.value, metric.text),
        rangeText(shapley, (value) => scoreText(value, metric.text)),
        percent(shares.get(factor) ?? 0),
        mean(on),
        mean(off),
      ]),
    ),
    options: optionsTable(report, importance),
    variance: varianceTable(importance),
    notes: [
      ...(method.adaptive
        ? [
            "Warning: the search chose what it trained by the scores it saw, so good positions were trained more often and in good company. Effects from such trainings are less sure than these intervals say; a full factorial or a random design tells them better.",
          ]
        : []),
      `A Shapley value is what a position adds on average over all orders in which positions may be added; together they are the difference between all, of which the model expects ${scoreText(importance.all, metric.text)}, and none, ${scoreText(importance.none, metric.text)}.`,
      `Method: ${importance.method}.`,
      ...importance.notes.map((note) => note.replaceAll("`", "")),
      "Plain means with and without a position are of the trainings that there are: what else was placed differs between them.",
    ],
    varianceNotes: varianceNotes(report, importance),
  };
}

const chosenRow = (report: StudyReport): TableRow | undefined =>
  report.rows.find(({ candidate }) => candidate === report.choice);

/** What the study says, in a few sentences. */
export function leadOf(report: StudyReport): readonly string[] {
  const { space, budget, metric, choice, rows, state } = report;
  const chosen = chosenRow(report);
  const candidate = candidateAt(report, choice);
  const sentences = [
    `Of ${count(space.feasible, "feasible candidate")} ${space.tried === space.feasible ? "all" : grouped(space.tried)} were trained.`,
  ];
  if (chosen === undefined || candidate === undefined)
    sentences.push(
      rows.length === 0
        ? "No training on fresh seeds has ended yet, so there is nothing to conclude: what the search has seen stands apart below."
        : "The search has no choice among the candidates on fresh seeds.",
    );
  else {
    const { toNone } = chosen;
    sentences.push(
      `The search chose ${candidate.short}, before any fresh seed was seen.`,
      `On ${count(chosen.seeds.length, "fresh seed")} its ${scoreTitle(report)} is ${meanText(chosen.mean, metric.text)}${metric.text.unit === "share" ? " %" : ""}${
        toNone === undefined
          ? "."
          : `: ${differenceText(toNone.difference, metric.text)}${metric.text.unit === "share" ? " pt" : ""} to none, paired by seed (${pWords(toNone.corrected)} after Holm's correction)${isBetter(toNone, signOf(report)) ? "." : "; that is no proof of a difference."}`
      }`,
    );
  }
  if (state !== "complete")
    sentences.push(
      `The study is ${state === "running" ? "still running" : state}: ${significant(budget.spent, 3)} of ${significant(budget.spend, 3)} trainings are spent.`,
    );
  return sentences;
}

const tauText = (tau: Interval): string => `${tau.value.toFixed(2)} ${rangeText(tau, (value) => value.toFixed(2))}`;

/** What was asked of a super-network, and what came of it. */
function priorWords({ prior }: StudyReport): readonly (readonly [name: string, text: string])[] {
  if (prior === undefined) return [];
  const { epochs, scored, cost, seconds, tau, pairs, verdict } = prior;
  const what = `${count(epochs, "epoch")} with ${grouped(scored)} candidates scored, which counts as ${significant(cost, 3)} trainings`;
  const took = seconds === undefined ? "" : ` and took ${duration(seconds)}`;
  const ranks =
    tau === undefined || Number.isNaN(tau.value)
      ? ""
      : `; Kendall's τ with full trainings ${tauText(tau)} of ${count(pairs, "candidate")}`;
  return [["super-network", epochs === 0 ? verdict : `${what}${took}${ranks}; ${verdict}`]];
}

/** The header: what was searched, how, and at what cost. */
export function headerRows(report: StudyReport): readonly (readonly [name: string, text: string])[] {
  const { space, budget, method, seeds, noise, ranks, metric, rungs, epochs, kernels, devices } = report;
  const { byPhase } = budget;
  const phases = (Object.keys(byPhase) as (keyof typeof byPhase)[]).filter((phase) => byPhase[phase] > 0);
  const asked = kernels.hits + kernels.misses;
  const states = (["complete", "paused", "running", "waiting", "failed", "cancelled"] as const).filter(
    (state) => budget.states[state] > 0,
  );
  const score = (value: number): string => scoreText(value, metric.text);
  return [
    [
      "space",
      `${grouped(space.points)} points as written, ${count(space.candidates, "different model")}; ${grouped(space.feasible)} feasible, ${grouped(space.refused)} refused`,
    ],
    ["objectives", report.objectives.join(", ")],
    ...(report.requirements.length === 0 ? [] : [["required", report.requirements.join(", ")] as const]),
    [
      "budget",
      `${significant(budget.spent, 4)} of ${significant(budget.spend, 4)} full trainings of ${count(epochs, "epoch")}; by part: ${phases.length === 0 ? "none yet" : phases.map((phase) => `${phase} ${significant(byPhase[phase], 4)}`).join(", ")} (random and final come on top)`,
    ],
    [
      "trials",
      states.length === 0
        ? "none yet"
        : [
            ...states.map((state) => `${grouped(budget.states[state])} ${state}`),
            ...(budget.left > 0 ? [`${grouped(budget.left)} left behind a rung`] : []),
          ].join(", "),
    ],
    [
      "time",
      `${duration(budget.deviceSeconds)} of training, ${duration(budget.overheadSeconds)} beside it, over all devices; ${duration(budget.wallSeconds)} from the first start to the last end`,
    ],
    [
      "method",
      `${method.asked}${method.used.length === 0 ? "" : `; trials begun by ${method.used.map(({ name, trials }) => `${name} ${trials}`).join(", ")}`}`,
    ],
    ...priorWords(report),
    [
      "rungs",
      rungs.length === 0
        ? "none: full trainings only"
        : `${rungs.join(", ")}, then ${epochs} epochs${ranks.length === 0 ? "; too few trainings have passed several to say how well they rank" : `; Kendall's τ ${ranks.map(({ from, to, tau, trials }) => `${from}→${to} ${tau.value.toFixed(2)} ${rangeText(tau, (value) => value.toFixed(2))} of ${count(trials, "training")}`).join(", ")}`}`,
    ],
    [
      "noise",
      noise === undefined
        ? "not known: no candidate has been trained with two seeds"
        : `standard deviation between seeds ${score(noise.deviation.value)} ${rangeText(noise.deviation, score)}${metric.text.unit === "share" ? " pt" : ""}, of ${count(noise.trainings, "training")} of ${count(noise.candidates, "candidate")}`,
    ],
    [
      "seeds",
      `${seeds.study} of the study; ${seeds.replicates.search} searching, ${seeds.replicates.confirm} confirming, ${seeds.replicates.final} for the table; trainings of one phase and replicate share theirs`,
    ],
    ...(report.latency === undefined ? [] : [["latency", foundText(report.latency)] as const]),
    ["hardware", devices.length === 0 ? "no trial has ended yet" : devices.join("; ")],
    [
      "kernels",
      asked === 0
        ? "none asked for yet"
        : `${percent(kernels.hits / asked)} of ${grouped(asked)} compiled programs were shared`,
    ],
    [
      "not tried",
      [
        space.feasible === space.tried
          ? "every feasible candidate was tried"
          : `${grouped(space.feasible - space.tried)} of ${grouped(space.feasible)} feasible candidates, such as ${space.untried.join("; ")}`,
        ...(space.tried > space.finished
          ? [`${count(space.tried - space.finished, "candidate")} without a full training`]
          : []),
        ...space.reasons.map(({ reason, candidates }) => `${grouped(candidates)} refused: ${reason}`),
      ].join("; "),
    ],
  ];
}

/** Warnings that stand before everything else. */
export function syntheticWords(report: StudyReport): readonly [what: string, warning: string] | undefined {
  if (!report.synthetic) return undefined;
  const rest = report.note
    .trimStart()
    .slice("SYNTHETIC".length)
    .replace(/^\s*:\s*/, "");
  return [rest, "The clips were drawn by a program. What is measured here says nothing about people."];
}
