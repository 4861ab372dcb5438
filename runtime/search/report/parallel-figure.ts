/**
 * Parallel coordinates: every candidate that the search has trained in full as a line through its choices, its costs and
 * its score.
 *
 * Where many candidates share a level they are spread over a band, sorted by their scores, so that one sees which levels
 * high scores come from.
 */
import { ticks } from "../../report/chart.ts";
import { type Figure, label, round, tag, textWidth } from "../../report/svg.ts";
import { magnitude, significant } from "../../report/text.ts";
import { unitOf } from "./format.ts";
import type { ReportCandidate, StudyReport } from "./model.ts";
import { candidateAt } from "./words.ts";

const WIDE = 970;
const HEIGHT = 316;
const TOP = 62;
const BOTTOM = 12;
/** Axes and lines that one can tell apart. */
const MOST_AXES = 24;
const MOST_LINES = 160;
/** Part of the room of a level that its candidates are spread over. */
const BAND = 0.55;
/** Letters of a level's name beside its axis. */
const LETTERS = 12;

interface Axis {
  readonly title: string;
  /** 0 at the bottom to 1 at the top, by candidate; the same order as the lines. */
  readonly at: readonly number[];
  readonly marks: readonly { readonly at: number; readonly text: string }[];
}

interface Line {
  readonly candidate: ReportCandidate;
  readonly score: number;
  readonly trainings: number;
}

const shortened = (text: string): string => (text.length > LETTERS ? `${text.slice(0, LETTERS - 1)}…` : text);

/** Candidates that share a level side by side, by their scores: `lines` are sorted. */
function levelAxis(
  title: string,
  lines: readonly Line[],
  levelOf: (line: Line) => string,
  order: readonly string[],
): Axis {
  const levels = order.filter((level) => lines.some((line) => levelOf(line) === level));
  const room = 1 / Math.max(1, levels.length);
  const counts = new Map<string, number>();
  for (const line of lines) counts.set(levelOf(line), (counts.get(levelOf(line)) ?? 0) + 1);
  const seen = new Map<string, number>();
  return {
    title,
    at: lines.map((line) => {
      const level = levelOf(line);
      const rank = seen.get(level) ?? 0;
      seen.set(level, rank + 1);
      const many = counts.get(level) ?? 1;
      const spread = many === 1 ? 0 : rank / (many - 1) - 0.5;
      return room * (levels.indexOf(level) + 0.5 + BAND * spread);
    }),
    marks: levels.map((level, k) => ({ at: room * (k + 0.5), text: shortened(level) })),
  };
}

function numberAxis(title: string, values: readonly number[], write: (value: number) => string, wanted = 4): Axis {
  const finite = values.filter(Number.isFinite);
  const [low, high] = [Math.min(...finite), Math.max(...finite)];
  const range = high > low ? high - low : 1;
  const scale = (value: number): number => (high > low ? 0.03 + (0.94 * (value - low)) / range : 0.5);
  return {
    title,
    at: values.map((value) => (Number.isFinite(value) ? scale(value) : Number.NaN)),
    marks: (high > low ? ticks(low, high, wanted) : [low]).map((tick) => ({ at: scale(tick), text: write(tick) })),
  };
}

/** Full trainings of the search by candidate, from the lowest score to the highest. */
function linesOf(report: StudyReport): readonly Line[] {
  const sign = report.metric.goal === "maximize" ? 1 : -1;
  const all = report.searchRows
    .flatMap(({ candidate: index, mean, seeds }): readonly Line[] => {
      const candidate = candidateAt(report, index);
      return candidate === undefined || !Number.isFinite(mean.value)
        ? []
        : [{ candidate, score: mean.value, trainings: seeds.length }];
    })
    .sort((a, b) => sign * (a.score - b.score) || a.candidate.index - b.candidate.index);
  if (all.length <= MOST_LINES) return all;
  // Evenly over the ranks, with those that have a name.
  const named = new Set([report.space.none, report.choice]);
  const step = all.length / MOST_LINES;
  return all.filter(
    (line, k) => named.has(line.candidate.index) || Math.floor(k / step) !== Math.floor((k - 1) / step),
  );
}

function axesOf(report: StudyReport, lines: readonly Line[]): readonly Axis[] {
  const { sets, others } = report.notation;
  const several = sets.length > 1;
  const positions = sets.flatMap(({ name, positions: own }) =>
    own.map(({ factor, name: position }) =>
      levelAxis(
        several ? `${name}.${position}` : position,
        lines,
        ({ candidate }) => ((candidate.levels[factor] ?? 0) > 0 ? "●" : "○"),
        ["○", "●"],
      ),
    ),
  );
  const choices = others.flatMap(({ title }, k) => {
    const wordOf = ({ candidate }: Line): string => candidate.words[k] ?? "–";
    const words = [...new Set(lines.map(wordOf))];
    const numeric = words.every((word) => word === "–" || Number.isFinite(Number(word)));
    const order = numeric
      ? words.sort((a, b) => (a === "–" ? -1 : b === "–" ? 1 : Number(a) - Number(b)))
      : words.sort((a, b) => (a === "–" ? -1 : b === "–" ? 1 : a.localeCompare(b)));
    // One that is there or not with the positions says nothing more than they do.
    return words.filter((word) => word !== "–").length < 2 ? [] : [levelAxis(title, lines, wordOf, order)];
  });
  const timed = lines.every(({ candidate }) => candidate.latency !== undefined);
  const percent = report.metric.text.unit === "share";
  return [
    ...positions,
    ...choices,
    numberAxis(
      "params",
      lines.map(({ candidate }) => candidate.costs.params),
      magnitude,
    ),
    ...(timed
      ? [
          numberAxis(
            "ms",
            lines.map(({ candidate }) => candidate.latency?.milliseconds ?? Number.NaN),
            (value) => significant(value, 3),
          ),
        ]
      : []),
    numberAxis(
      report.metric.text.title,
      lines.map(({ score }) => score),
      (value) => (percent ? String(Number((100 * value).toFixed(2))) : significant(value, 4)),
      6,
    ),
  ];
}

/** All that the search trained in full, as lines. */
export function parallelFigure(report: StudyReport): Figure | undefined {
  const lines = linesOf(report);
  const all = axesOf(report, lines);
  if (lines.length < 3 || all.length < 3) return undefined;
  // Costs and the score always; of many positions the first.
  const axes = all.length <= MOST_AXES ? all : [...all.slice(0, MOST_AXES - 3), ...all.slice(-3)];
  const { metric, choice, space } = report;
  const last = axes.length - 1;
  const right = WIDE - 52;
  const left = 16;
  const x = (k: number): number => left + (k / last) * (right - left);
  const bottom = HEIGHT - BOTTOM;
  const y = (at: number): number => bottom - at * (bottom - TOP);
  const unit = unitOf(metric.text);
  const title = `Choices, costs and validation ${metric.text.title}${unit === "" ? "" : ` (${unit})`}, as the search saw them`;
  const parts = [label(0, 14, title, { fill: "var(--ink)", "font-weight": 600, "font-size": 13 })];
  const named = (index: number): "choice" | "none" | undefined =>
    index === choice ? "choice" : index === space.none ? "none" : undefined;
  const path = (line: number): string => {
    let d = "";
    for (const [k, { at }] of axes.entries()) {
      const height = at[line] ?? Number.NaN;
      if (!Number.isFinite(height)) continue;
      const [cx, cy] = [x(k), y(height)];
      if (d === "") d = `M${round(cx)} ${round(cy)}`;
      else {
        const half = (x(k) - x(k - 1)) / 2;
        const before = axes[k - 1]?.at[line] ?? height;
        d += `C${round(cx - half)} ${round(y(before))} ${round(cx - half)} ${round(cy)} ${round(cx)} ${round(cy)}`;
      }
    }
    return d;
  };
  // Named ones on top.
  const order = lines
    .map(({ candidate }, line) => ({ line, name: named(candidate.index) }))
    .sort((a, b) => (a.name === undefined ? 0 : 1) - (b.name === undefined ? 0 : 1));
  for (const { line, name } of order) {
    const rank = lines.length < 2 ? 1 : line / (lines.length - 1);
    const top = rank >= 0.75;
    parts.push(
      tag("path", {
        d: path(line),
        fill: "none",
        stroke:
          name === "choice" || (name === undefined && top) ? "var(--a)" : name === "none" ? "var(--c)" : "var(--muted)",
        "stroke-width": name === undefined ? 1.3 : 2.6,
        "stroke-opacity": name === undefined ? (top ? 0.6 : 0.12 + 0.25 * rank) : 1,
      }),
    );
  }
  for (const [k, { title: name, marks }] of axes.entries()) {
    parts.push(
      tag("path", { d: `M${round(x(k))} ${TOP - 8}V${bottom + 4}`, stroke: "var(--muted)", "stroke-opacity": 0.5 }),
    );
    const room = (right - left) / last;
    const turned = textWidth(name) > room - 6 && k !== last;
    const anchor = k === 0 ? "start" : "middle";
    parts.push(
      turned
        ? label(x(k), TOP - 14, name, {
            fill: "var(--ink)",
            "text-anchor": "start",
            "font-size": 11,
            transform: `rotate(-28 ${round(x(k))} ${TOP - 14})`,
          })
        : label(k === 0 ? 0 : x(k), TOP - 14, name, { fill: "var(--ink)", "text-anchor": anchor, "font-weight": 600 }),
    );
    for (const { at, text } of marks)
      parts.push(
        label(x(k) + 5, y(at) + 4, text, {
          "font-size": 10.5,
          fill: "var(--ink)",
          stroke: "var(--paper)",
          "stroke-width": 3,
          "paint-order": "stroke",
          "stroke-linejoin": "round",
        }),
      );
  }
  const ends = order.flatMap(({ line, name }) =>
    name === undefined ? [] : [{ name, at: y(axes[last]?.at[line] ?? 0) }],
  );
  for (const [k, { name, at }] of ends.entries()) {
    const other = ends[1 - k]?.at ?? Number.POSITIVE_INFINITY;
    const apart = Math.abs(other - at) < 13 ? (at < other ? -7 : 7) : 0;
    parts.push(
      label(x(last) - 8, at - 6 + apart, name, {
        "text-anchor": "end",
        fill: name === "choice" ? "var(--a)" : "var(--c)",
        "font-weight": 600,
        stroke: "var(--paper)",
        "stroke-width": 3,
        "paint-order": "stroke",
      }),
    );
  }
  const shown = report.searchRows.length;
  return {
    name: "parallel",
    title: "Parallel coordinates",
    caption: `A line is a candidate with a full training before the final ones${lines.length < shown ? ` (${lines.length} of ${shown}, evenly by rank)` : ""}; blue: the upper quarter by these scores, which are too high by chance. Candidates that share a level lie above each other by their scores.${all.length > axes.length ? ` The first ${axes.length - 3} choices.` : ""}`,
    width: WIDE,
    height: HEIGHT,
    body: parts.join(""),
  };
}
