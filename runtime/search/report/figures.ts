/**
 * Figures of a study over time and by rows: learning curves, the search against chance, seeds of each row, and fronts.
 *
 * In: the record of a report. Out: drawings in the page's colours. A search's own scores are always drawn as such, in
 * figures of their own.
 */
import { type Curve, lineChart, type Point, ticks } from "../../report/chart.ts";
import { type Figure, label, round, tag, textWidth } from "../../report/svg.ts";
import { magnitude, significant } from "../../report/text.ts";
import { unitOf, withUnit } from "./format.ts";
import type { CurveStep, ReportCandidate, StudyReport } from "./model.ts";
import { meanOf } from "./scores.ts";
import { frontOf } from "./table.ts";
import { candidateAt, scoreTitle } from "./words.ts";

/** A value of an axis: shares in percent without more digits than its steps need. */
function axisText({ metric }: StudyReport): (value: number) => string {
  return (value) => (metric.text.unit === "share" ? String(Number((100 * value).toFixed(2))) : significant(value, 4));
}

const validationTitle = ({ metric }: StudyReport): string =>
  withUnit(`Validation ${metric.text.title}`, unitOf(metric.text));

/** The name of a row in a figure: its role, or its dots and words. */
function rowName(report: StudyReport, roles: readonly string[], candidate: ReportCandidate): string {
  return candidate.index === report.space.none ? roles.join(", ") : `${roles.join(", ")}  ${candidate.short}`;
}

/** Lines and points beyond so many are only a dark area, and a large page. */
const MOST_CURVES = 200;
const MOST_DOTS = 500;

/** At most so many, evenly over their order. */
function evenly<T>(all: readonly T[], most: number): readonly T[] {
  const step = all.length / most;
  return step <= 1
    ? all
    : Array.from({ length: most }, (_, k) => all[Math.floor(k * step)]).flatMap((one) => one ?? []);
}

// ------------------------------------------------------------------------------------------------------ learning curves

/** Learning curves of the search by rung: each of one training, faint; means of `none` and of the choice, by name. */
export function learningFigure(report: StudyReport): Figure | undefined {
  const { trials, metric, choice, space, rungs, epochs } = report;
  const name = `val.${metric.name}`;
  const pointsOf = ({ points }: (typeof trials)[number]): readonly Point[] =>
    points.filter((point) => point.name === name).map(({ epoch, value }) => [epoch, value]);
  const before = trials.filter(({ phase }) => phase !== "final");
  const drawn = evenly(before, MOST_CURVES);
  const curves = drawn.flatMap((trial): readonly Curve[] => {
    const points = pointsOf(trial);
    const last = points.at(-1);
    if (last === undefined) return [];
    const colour = trial.left ? "b" : trial.state === "failed" ? "d" : "a";
    return [{ label: "", colour, look: "faint", points, marks: trial.left || trial.state === "failed" ? [last] : [] }];
  });
  if (curves.length === 0) return undefined;
  const mean = (candidate: number | undefined, label: string, colour: string): readonly Curve[] => {
    const own = trials.filter((trial) => trial.candidate === candidate && trial.state === "complete").map(pointsOf);
    if (candidate === undefined || own.length === 0) return [];
    const last = Math.max(...own.flat().map(([epoch]) => epoch));
    const points = Array.from({ length: last }, (_, k): Point => {
      const at = own.flatMap((points) => points.filter(([epoch]) => epoch === k + 1).map(([, value]) => value));
      return [k + 1, meanOf(at).value];
    });
    return [{ label, colour, points }];
  };
  const left = drawn.some((trial) => trial.left);
  const failed = drawn.some(({ state }) => state === "failed");
  return lineChart({
    name: "learning",
    title: `${validationTitle(report)}, by epoch`,
    caption: `A faint line is one training before the final ones${drawn.length < before.length ? ` (${drawn.length} of ${before.length})` : ""}.${left ? " Orange, ended by a ring: left behind a rung (dotted)." : ""}${failed ? " Ringed in violet: failed." : ""} Thick: the mean of all trainings of none${choice === undefined || choice === space.none ? "" : ", and of the choice"}.`,
    xLabel: "epoch",
    xMax: epochs,
    curves: [
      ...curves,
      ...mean(space.none, "none", "c"),
      ...(choice === space.none ? [] : mean(choice, "choice", "a")),
    ],
    rules: rungs.map((at) => ({ at, label: `${at}` })),
    scale: "linear",
    show: axisText(report),
  });
}

// --------------------------------------------------------------------------------------------------------- search curve

/** A curve that keeps its height until the next step. */
function staircase(steps: readonly CurveStep[], end: number): readonly Point[] {
  const points = steps.flatMap(({ spent, soFar }, k): readonly Point[] => [
    ...(k === 0 ? [] : [[spent, steps[k - 1]?.soFar ?? soFar] as const]),
    [spent, soFar],
  ]);
  const last = steps.at(-1);
  return last === undefined || last.spent >= end ? points : [...points, [end, last.soFar]];
}

/** The largest score so far over what was spent, beside what chance would have. */
export function searchFigure(report: StudyReport): Figure | undefined {
  const { searchCurve, randomCurve, band } = report;
  const end = Math.max(0, ...[...searchCurve, ...randomCurve, ...band].map(({ spent }) => spent));
  if (searchCurve.length === 0) return undefined;
  const best = report.metric.goal === "maximize" ? "Largest" : "Smallest";
  return lineChart({
    name: "search",
    title: `${best} single score so far, v${validationTitle(report).slice(1)}`,
    caption: `A single training's score, chosen for being extreme, is better than the truth by chance: that holds for the search and for chance alike, so these curves are to be compared with each other and not with the table. Dots: each full training.${band.length > 0 ? " Band: what search at random is expected to have, 95 % interval." : ""}${randomCurve.length > 0 ? " Dashed orange: search at random as it was run." : ""}`,
    xLabel: "full trainings spent",
    xMax: Math.max(1, Math.ceil(end)),
    curves: [
      {
        label: "",
        colour: "a",
        look: "dots",
        points: evenly(searchCurve, MOST_DOTS).map(({ spent, value }) => [spent, value]),
      },
      ...(band.length === 0
        ? []
        : [
            {
              label: "random, expected",
              colour: "muted",
              look: "dashed",
              points: band.map(({ spent, expected }): Point => [spent, expected.value]),
            } as const,
          ]),
      ...(randomCurve.length === 0
        ? []
        : [{ label: "random, run", colour: "b", look: "dashed", points: staircase(randomCurve, end) } as const]),
      { label: "search", colour: "a", points: staircase(searchCurve, end) },
    ],
    areas:
      band.length === 0
        ? []
        : [{ colour: "muted", points: band.map(({ spent, expected }) => [spent, expected.low, expected.high]) }],
    scale: "linear",
    show: axisText(report),
  });
}

// ---------------------------------------------------------------------------------------------------------------- seeds

const WIDE = 970;
const ROW = 34;

/** Every fresh seed of every row of the table, with mean and interval. */
export function seedsFigure(report: StudyReport): Figure | undefined {
  const { rows, metric, choice } = report;
  const named = rows.flatMap((row) => {
    const candidate = candidateAt(report, row.candidate);
    return candidate === undefined ? [] : [{ ...row, name: rowName(report, row.roles, candidate) }];
  });
  const values = named.flatMap(({ seeds, mean }) => [...seeds.map(({ value }) => value), mean.low, mean.high]);
  const finite = values.filter(Number.isFinite);
  if (named.length === 0 || finite.length === 0) return undefined;
  const left = Math.min(460, Math.max(...named.map(({ name }) => textWidth(name))) + 24);
  const right = WIDE - 20;
  const top = 34;
  const bottom = top + ROW * named.length;
  const marks = ticks(Math.min(...finite), Math.max(...finite), 8);
  const step = (marks[1] ?? 1) - (marks[0] ?? 0) || 1;
  const low = Math.floor(Math.min(...finite) / step) * step;
  const high = Math.max(Math.ceil(Math.max(...finite) / step) * step, low + step);
  const x = (value: number): number => left + ((value - low) / (high - low)) * (right - left);
  const write = axisText(report);
  const parts = [
    label(0, 14, `${withUnit(scoreTitle(report), unitOf(metric.text))}, each fresh seed`, {
      fill: "var(--ink)",
      "font-weight": 600,
      "font-size": 13,
    }),
  ];
  for (const tick of ticks(low, high, Math.round((high - low) / step))) {
    parts.push(tag("path", { d: `M${round(x(tick))} ${top}V${bottom}`, stroke: "var(--grid)" }));
    parts.push(label(x(tick), bottom + 17, write(tick), { "text-anchor": "middle" }));
  }
  const replicates = [...new Set(named.flatMap(({ seeds }) => seeds.map(({ seed }) => seed)))];
  for (const [k, { name, seeds, mean, candidate }] of named.entries()) {
    const y = top + ROW * (k + 0.5);
    const chosen = candidate === choice;
    const colour = chosen ? "var(--a)" : "var(--muted)";
    parts.push(
      label(left - 14, y + 4, name, {
        "text-anchor": "end",
        fill: chosen ? "var(--a)" : "var(--ink)",
        "font-weight": chosen ? 600 : undefined,
      }),
    );
    if (Number.isFinite(mean.low))
      parts.push(
        tag("path", {
          d: `M${round(x(mean.low))} ${round(y)}H${round(x(mean.high))}`,
          stroke: colour,
          "stroke-width": 8,
          "stroke-opacity": 0.25,
          "stroke-linecap": "round",
        }),
      );
    parts.push(tag("path", { d: `M${round(x(mean.value))} ${round(y - 9)}v18`, stroke: colour, "stroke-width": 2.5 }));
    for (const { seed, value } of seeds) {
      const at = replicates.length < 2 ? 0 : replicates.indexOf(seed) / (replicates.length - 1) - 0.5;
      parts.push(
        tag("circle", {
          cx: x(value),
          cy: y + 14 * at,
          r: 3.2,
          fill: colour,
          stroke: "var(--paper)",
          "stroke-width": 1,
        }),
      );
    }
  }
  return {
    name: "seeds",
    title: "Seeds",
    caption:
      "A dot is one training on a fresh seed; trainings with the same seed lie at the same height within their rows. Tick: mean. Bar: its 95 % t interval.",
    width: WIDE,
    height: bottom + 26,
    body: parts.join(""),
  };
}

// --------------------------------------------------------------------------------------------------------------- fronts

const WIDTH = 470;
const HEIGHT = 300;
const TOP = 36;
const BOTTOM = 40;

interface Dot {
  readonly x: number;
  readonly y: number;
  readonly low: number;
  readonly high: number;
  readonly name: string;
  readonly chosen: boolean;
}

const NAME_SIZE = 11;

interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

const overlap = (a: Box, b: Box): number =>
  Math.max(0, Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x)) *
  Math.max(0, Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y));

/** Where names stand: beside their points, on whatever side covers least of the points, their bars and other names. */
function placeNames(
  dots: readonly Dot[],
  frame: { readonly left: number; readonly right: number; readonly top: number; readonly bottom: number },
): readonly { readonly at: { readonly x: number; readonly y: number }; readonly text: string; readonly dot: Dot }[] {
  const taken: Box[] = dots.flatMap(({ x, y, low, high }) => [
    { x: x - 5, y: y - 5, width: 10, height: 10 },
    ...(Number.isFinite(low) ? [{ x: x - 1.5, y: high, width: 3, height: low - high }] : []),
  ]);
  return dots.flatMap((dot) => {
    if (dot.name === "") return [];
    const [width, height] = [textWidth(dot.name, NAME_SIZE), 13];
    const places = [0, -1, 1, -2, 2, -3, 3].flatMap((step) =>
      [dot.x + 9, dot.x - 9 - width].map((x): Box => ({ x, y: dot.y - height / 2 + 12 * step, width, height })),
    );
    let best: { readonly box: Box; readonly cost: number } | undefined;
    for (const [rank, box] of places.entries()) {
      const outside =
        box.x < frame.left || box.x + width > frame.right || box.y < frame.top || box.y + height > frame.bottom;
      const cost = taken.reduce((sum, other) => sum + overlap(box, other), 0) + (outside ? 1e6 : 0) + 1.5 * rank;
      if (best === undefined || cost < best.cost) best = { box, cost };
    }
    if (best === undefined) return [];
    taken.push(best.box);
    return [{ at: { x: best.box.x, y: best.box.y + height / 2 }, text: dot.name, dot }];
  });
}

/** Points in the plane of a cost and a score: those on the front in colour with their names, the others grey. */
function scatter(
  report: StudyReport,
  dots: readonly Dot[],
  words: { readonly name: string; readonly title: string; readonly caption: string; readonly xLabel: string },
  writeX: (value: number) => string,
  limit?: number,
): Figure {
  const sign = report.metric.goal === "maximize" ? 1 : -1;
  const front = frontOf(dots.map(({ x, y }) => [sign * y, -x]));
  const write = axisText(report);
  const range = (
    values: readonly number[],
    wanted: number,
  ): { low: number; high: number; ticks: readonly number[] } => {
    const finite = values.filter(Number.isFinite);
    let [low, high] = [Math.min(...finite), Math.max(...finite)];
    if (!(high > low)) [low, high] = [low - (Math.abs(low) || 1) / 10, high + (Math.abs(high) || 1) / 10];
    const margin = 0.06 * (high - low);
    return { low: low - margin, high: high + margin, ticks: ticks(low - margin, high + margin, wanted) };
  };
  const xs = range(
    dots.map(({ x }) => x),
    4,
  );
  const ys = range(
    dots.flatMap(({ y, low, high }) => [y, low, high]),
    7,
  );
  const left = 14 + Math.max(...ys.ticks.map((tick) => textWidth(write(tick))), 20);
  const right = WIDTH - 10;
  const bottom = HEIGHT - BOTTOM;
  const x = (value: number): number => left + ((value - xs.low) / (xs.high - xs.low)) * (right - left);
  const y = (value: number): number => bottom - ((value - ys.low) / (ys.high - ys.low)) * (bottom - TOP);
  const parts = [label(0, 14, words.title, { fill: "var(--ink)", "font-weight": 600, "font-size": 13 })];
  for (const tick of ys.ticks) {
    parts.push(tag("path", { d: `M${round(left)} ${round(y(tick))}H${right}`, stroke: "var(--grid)" }));
    parts.push(label(left - 7, y(tick) + 4, write(tick), { "text-anchor": "end" }));
  }
  for (const tick of xs.ticks) parts.push(label(x(tick), bottom + 17, writeX(tick), { "text-anchor": "middle" }));
  parts.push(label((left + right) / 2, HEIGHT - 5, words.xLabel, { "text-anchor": "middle" }));
  // A limit that no point comes near says nothing here.
  if (limit !== undefined && limit >= xs.low && limit <= xs.high) {
    parts.push(
      tag("path", { d: `M${round(x(limit))} ${TOP}V${bottom}`, stroke: "var(--b)", "stroke-dasharray": "2 3" }),
    );
    parts.push(
      label(x(limit) - 4, TOP + 8, "limit", { "text-anchor": "end", fill: "var(--b)", "font-size": NAME_SIZE }),
    );
  }
  const order = dots.map((dot, k) => ({ dot, k })).sort((a, b) => a.dot.x - b.dot.x);
  const steps = order.filter(({ k }) => front[k] === true).map(({ dot }) => dot);
  const path = steps
    .map((dot, k) => (k === 0 ? `M${round(x(dot.x))} ${round(y(dot.y))}` : `H${round(x(dot.x))}V${round(y(dot.y))}`))
    .join("");
  if (path !== "")
    parts.push(
      tag("path", {
        d: `${path}H${right}`,
        fill: "none",
        stroke: "var(--a)",
        "stroke-opacity": 0.6,
        "stroke-dasharray": "5 4",
      }),
    );
  for (const [k, dot] of dots.entries()) {
    const colour = front[k] === true ? "var(--a)" : "var(--muted)";
    if (Number.isFinite(dot.low))
      parts.push(
        tag("path", {
          d: `M${round(x(dot.x))} ${round(y(dot.low))}V${round(y(dot.high))}`,
          stroke: colour,
          "stroke-width": 1.5,
          "stroke-opacity": 0.55,
        }),
      );
    parts.push(
      tag("circle", {
        cx: x(dot.x),
        cy: y(dot.y),
        r: dot.chosen ? 5 : 3.8,
        fill: front[k] === true ? colour : "var(--paper)",
        stroke: colour,
        "stroke-width": 1.6,
      }),
    );
  }
  const shown = dots.map((dot) => ({ ...dot, x: x(dot.x), y: y(dot.y), low: y(dot.low), high: y(dot.high) }));
  for (const { at, text, dot } of placeNames(shown, { left, right, top: TOP - 6, bottom }))
    parts.push(
      label(at.x, at.y + 4, text, {
        "font-size": NAME_SIZE,
        fill: dot.chosen ? "var(--a)" : "var(--ink)",
        "font-weight": dot.chosen ? 600 : undefined,
        stroke: "var(--paper)",
        "stroke-width": 3,
        "paint-order": "stroke",
        "stroke-linejoin": "round",
      }),
    );
  return { ...words, width: WIDTH, height: HEIGHT, body: parts.join("") };
}

type Cost = "params" | "flops" | "memory" | "latency";
const COST_TITLES: Readonly<Record<Cost, string>> = {
  params: "learned parameters",
  flops: "FLOPs of one example",
  memory: "bytes of activations of one example",
  latency: "ms for one example, median",
};

function costIn(candidate: ReportCandidate, cost: Cost): number {
  return cost === "latency" ? (candidate.latency?.milliseconds ?? Number.NaN) : candidate.costs[cost];
}

/** The first cost among the objectives; parameters where there is none. */
function firstCost({ objectives }: StudyReport): Cost {
  const words = new Set(objectives.map((objective) => objective.replace(/^\w+ /, "")));
  return (["params", "flops", "memory", "latency"] as const).find((cost) => words.has(cost)) ?? "params";
}

/** Scores against the cost: rows of the table, and apart from them all that was tried. */
export function frontFigures(report: StudyReport): readonly Figure[] {
  const { rows, searchRows, metric, choice } = report;
  const asked = firstCost(report);
  const timed = rows.some(({ candidate }) => candidateAt(report, candidate)?.latency !== undefined);
  const costs: readonly Cost[] = timed && asked !== "latency" ? [asked, "latency"] : [asked];
  const dotsOf = (
    of: readonly {
      readonly candidate: number;
      readonly roles: readonly string[];
      readonly mean: (typeof rows)[number]["mean"];
    }[],
    cost: Cost,
    named: boolean,
  ): readonly Dot[] =>
    of.flatMap(({ candidate: index, roles, mean }) => {
      const candidate = candidateAt(report, index);
      if (candidate === undefined || Number.isNaN(costIn(candidate, cost)) || Number.isNaN(mean.value)) return [];
      const name = !named ? "" : (roles[0] ?? candidate.short);
      return [
        {
          x: costIn(candidate, cost),
          y: mean.value,
          low: named ? mean.low : Number.NaN,
          high: named ? mean.high : Number.NaN,
          name: index === choice && !named ? "choice" : name,
          chosen: index === choice,
        },
      ];
    });
  const writeX = (cost: Cost): ((value: number) => string) =>
    cost === "latency" ? (value) => significant(value, 3) : magnitude;
  const finals = costs.flatMap((cost) => {
    const dots = dotsOf(rows, cost, true);
    if (dots.length === 0) return [];
    return [
      scatter(
        report,
        dots,
        {
          name: `front-${cost}`,
          title: `${withUnit(scoreTitle(report), unitOf(metric.text))}, against ${cost}`,
          caption:
            "Means over fresh seeds with their 95 % intervals. Blue: no other row is as good at as low a cost; grey: some other is.",
          xLabel: COST_TITLES[cost],
        },
        writeX(cost),
        cost === "latency" ? report.latencyLimit : undefined,
      ),
    ];
  });
  const tried = evenly(dotsOf(searchRows, asked, false), MOST_DOTS);
  return tried.length < 2
    ? finals
    : [
        ...finals,
        scatter(
          report,
          tried,
          {
            name: "front-search",
            title: `${validationTitle(report)} as the search saw it, against ${asked}`,
            caption: `${tried.length < searchRows.length ? `${tried.length} of ${searchRows.length} candidates` : "Every candidate"} with a full training: means of the search's own scores, of one training mostly. Those on top are too high by chance.`,
            xLabel: COST_TITLES[asked],
          },
          writeX(asked),
        ),
      ];
}
