/**
 * Line charts: a few curves over time, named at their ends instead of in a legend.
 *
 * In: points in the data's own units, and how to write a value. Out: a figure. Points without a finite value leave a
 * gap; so does a logarithm of nothing.
 */
import { type Figure, label, round, tag, textWidth } from "./svg.ts";

export type Point = readonly [x: number, y: number];

export interface Curve {
  readonly label: string;
  /** A variable of the palette: `a`. */
  readonly colour: string;
  readonly points: readonly Point[];
  /** `faint`: a thin line behind the others, without a name; `dots`: points without a line or a name. */
  readonly look?: "line" | "dashed" | "faint" | "dots";
  /** Points that are ringed. */
  readonly marks?: readonly Point[];
}

/** What lies between two curves: an interval at every x. */
export interface Area {
  readonly colour: string;
  readonly points: readonly (readonly [x: number, low: number, high: number])[];
}

export interface Chart {
  readonly name: string;
  readonly title: string;
  readonly caption: string;
  readonly xLabel: string;
  readonly xMax: number;
  readonly curves: readonly Curve[];
  readonly areas?: readonly Area[];
  readonly scale: "linear" | "log";
  /** Where the y axis must reach. */
  readonly include?: readonly number[];
  readonly show: (value: number) => string;
  /** Vertical lines with a name: where stages begin. */
  readonly rules?: readonly { readonly at: number; readonly label: string }[];
  /** Horizontal lines with a name: what guessing scores. */
  readonly levels?: readonly { readonly at: number; readonly label: string }[];
}

const WIDTH = 470;
const HEIGHT = 276;
const TOP = 36;
const BOTTOM = 38;

/** Steps of 1, 2 or 5 times a power of ten, about `wanted` of them between `low` and `high`. */
export function ticks(low: number, high: number, wanted: number, least = 0): readonly number[] {
  const rough = Math.max((high - low) / wanted, least, Number.MIN_VALUE);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5].find((factor) => factor * power >= rough * 0.999) ?? 10) * power;
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  // Multiples of a decimal step are written as decimals: 0.3, not 0.30000000000000004.
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, k) => Number(((first + k) * step).toPrecision(12)));
}

interface Axis {
  readonly low: number;
  readonly high: number;
  readonly ticks: readonly number[];
  /** From 0 at the low end to 1 at the high end. */
  readonly at: (value: number) => number;
}

function linearAxis(values: readonly number[]): Axis {
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (!(high > low)) [low, high] = [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  const marks = ticks(low, high, 4);
  const step = (marks[1] ?? 1) - (marks[0] ?? 0) || high - low;
  low = Math.floor(low / step + 1e-9) * step;
  high = Math.ceil(high / step - 1e-9) * step;
  return { low, high, ticks: ticks(low, high, Math.round((high - low) / step)), at: (v) => (v - low) / (high - low) };
}

function logAxis(values: readonly number[]): Axis {
  const [low, high] = [Math.min(...values) / 1.15, Math.max(...values) * 1.15];
  const [from, to] = [Math.log10(low), Math.log10(high)];
  const decades = Array.from({ length: Math.floor(to) - Math.ceil(from) + 1 }, (_, k) => 10 ** (Math.ceil(from) + k));
  const between = to - from > 1.6 ? [1] : [1, 2, 5];
  const fine = [10 ** (Math.ceil(from) - 1), ...decades].flatMap((decade) => between.map((factor) => factor * decade));
  const inside = fine.filter((tick) => tick >= low && tick <= high);
  return {
    low,
    high,
    ticks: inside.length < 2 ? ticks(low, high, 4) : inside,
    at: (value) => (Math.log10(value) - from) / (to - from),
  };
}

/** A path through the points, with gaps where a value is not finite. */
function pathOf(points: readonly Point[], x: (v: number) => number, y: (v: number) => number): string {
  let path = "";
  let open = false;
  for (const [px, py] of points) {
    const at = y(py);
    if (!Number.isFinite(at)) {
      open = false;
      continue;
    }
    path += `${open ? "L" : "M"}${round(x(px))} ${round(at)}`;
    open = true;
  }
  return path;
}

/** Heights at which names stand clear of each other: each as near to its own as those above allow. */
export function spread(wanted: readonly number[], gap: number, top: number, bottom: number): readonly number[] {
  const order = wanted.map((y, index) => ({ y, index })).sort((a, b) => a.y - b.y);
  const placed = Array.from(wanted, () => 0);
  let last = top - gap;
  for (const { y, index } of order) {
    last = Math.max(last + gap, y);
    placed[index] = last;
  }
  let limit = bottom + gap;
  for (const { index } of order.reverse()) {
    limit = Math.min(limit - gap, placed[index] ?? limit);
    placed[index] = limit;
  }
  return placed;
}

/** Draws a chart. */
export function lineChart(chart: Chart): Figure {
  const { curves, areas = [], levels = [], rules = [], include = [] } = chart;
  const usable = (value: number): boolean => Number.isFinite(value) && (chart.scale === "linear" || value > 0);
  const values = [...curves.flatMap((curve) => curve.points.map(([, y]) => y)), ...levels.map(({ at }) => at)]
    .concat(
      include,
      areas.flatMap(({ points }) => points.flatMap(([, low, high]) => [low, high])),
    )
    .filter(usable);
  const axis = values.length === 0 ? linearAxis([0, 1]) : chart.scale === "log" ? logAxis(values) : linearAxis(values);
  const unnamed = new Set<Curve["look"]>(["faint", "dots"]);
  const named = curves.filter((curve) => !unnamed.has(curve.look) && curve.points.some(([, y]) => usable(y)));
  const left = 12 + Math.max(...axis.ticks.map((tick) => textWidth(chart.show(tick))), 20);
  const names = [...named.map((curve) => curve.label), ...levels.map((level) => level.label)];
  const right = WIDTH - 16 - Math.max(0, ...names.map((name) => textWidth(name)));
  const bottom = HEIGHT - BOTTOM;
  const x = (value: number): number => left + (value / (chart.xMax || 1)) * (right - left);
  const y = (value: number): number => (usable(value) ? bottom - axis.at(value) * (bottom - TOP) : Number.NaN);
  const parts: string[] = [label(0, 14, chart.title, { fill: "var(--ink)", "font-weight": 600, "font-size": 13 })];
  for (const tick of axis.ticks) {
    parts.push(tag("path", { d: `M${round(left)} ${round(y(tick))}H${round(right)}`, stroke: "var(--grid)" }));
    parts.push(label(left - 7, y(tick) + 4, chart.show(tick), { "text-anchor": "end" }));
  }
  for (const tick of ticks(0, chart.xMax, 6, 1))
    parts.push(label(x(tick), bottom + 17, String(tick), { "text-anchor": "middle" }));
  parts.push(label((left + right) / 2, HEIGHT - 5, chart.xLabel, { "text-anchor": "middle" }));
  for (const rule of rules) {
    const at = round(x(rule.at));
    parts.push(tag("path", { d: `M${at} ${TOP - 14}V${bottom}`, stroke: "var(--muted)", "stroke-dasharray": "1 4" }));
    parts.push(label(x(rule.at) + 4, TOP - 6, rule.label, { "font-size": 11 }));
  }
  for (const level of levels)
    parts.push(
      tag("path", {
        d: `M${round(left)} ${round(y(level.at))}H${round(right)}`,
        stroke: "var(--muted)",
        "stroke-dasharray": "4 4",
      }),
    );
  for (const { colour, points } of areas) {
    const inside = points.filter(([, low, high]) => usable(low) && usable(high));
    const edge = [
      ...inside.map(([px, low]) => [px, low] as const),
      ...inside.map(([px, , high]) => [px, high] as const).reverse(),
    ];
    const path = edge.map(([px, py], index) => `${index === 0 ? "M" : "L"}${round(x(px))} ${round(y(py))}`).join("");
    if (inside.length > 1) parts.push(tag("path", { d: `${path}Z`, fill: `var(--${colour})`, "fill-opacity": 0.16 }));
  }
  for (const curve of [...curves].sort((a, b) => Number(b.look === "faint") - Number(a.look === "faint"))) {
    const faint = curve.look === "faint";
    if (curve.look === "dots") {
      for (const [px, py] of curve.points)
        if (Number.isFinite(y(py)))
          parts.push(
            tag("circle", { cx: x(px), cy: y(py), r: 2.5, fill: `var(--${curve.colour})`, "fill-opacity": 0.55 }),
          );
      continue;
    }
    parts.push(
      tag("path", {
        d: pathOf(curve.points, x, y),
        fill: "none",
        stroke: `var(--${curve.colour})`,
        "stroke-width": faint ? 1 : 2,
        "stroke-opacity": faint ? 0.3 : undefined,
        "stroke-dasharray": curve.look === "dashed" ? "5 4" : undefined,
        "stroke-linejoin": "round",
        "stroke-linecap": "round",
      }),
    );
    // A single point is no line.
    const [only, second] = curve.points;
    if (only !== undefined && second === undefined && Number.isFinite(y(only[1])))
      parts.push(tag("circle", { cx: x(only[0]), cy: y(only[1]), r: 3, fill: `var(--${curve.colour})` }));
  }
  for (const curve of curves)
    for (const [mx, my] of curve.marks ?? [])
      if (Number.isFinite(y(my)))
        parts.push(
          tag("circle", {
            cx: x(mx),
            cy: y(my),
            r: 4.5,
            fill: "var(--paper)",
            stroke: `var(--${curve.colour})`,
            "stroke-width": 2,
          }),
        );
  const ends = [
    ...named.map((curve) => ({
      label: curve.label,
      colour: curve.colour,
      y: y(curve.points.findLast(([, value]) => usable(value))?.[1] ?? 0),
    })),
    ...levels.map((level) => ({ label: level.label, colour: "muted", y: y(level.at) })),
  ];
  const places = spread(
    ends.map((end) => end.y),
    15,
    TOP,
    bottom,
  );
  for (const [index, end] of ends.entries())
    parts.push(
      label(right + 8, (places[index] ?? 0) + 4, end.label, { fill: `var(--${end.colour})`, "font-weight": 500 }),
    );
  return {
    name: chart.name,
    title: chart.title,
    caption: chart.caption,
    width: WIDTH,
    height: HEIGHT,
    body: parts.join(""),
  };
}
