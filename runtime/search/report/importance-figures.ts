/**
 * What positions contribute, drawn: Shapley values as bars with their intervals, and what pairs add as a map.
 */
import { ticks } from "../../report/chart.ts";
import { type Figure, label, round, tag, textWidth } from "../../report/svg.ts";
import { differenceUnitOf, signedText, withUnit } from "./format.ts";
import type { StudyReport } from "./model.ts";
import { scoreTitle } from "./words.ts";

const WIDTH = 470;
const TOP = 34;
const ROW = 30;

const heading = (text: string): string =>
  label(0, 14, text, { fill: "var(--ink)", "font-weight": 600, "font-size": 13 });

/** Bars of the Shapley values. */
export function contributionsFigure(report: StudyReport): Figure | undefined {
  const { importance, metric } = report;
  if (importance === undefined || importance.contributions.length === 0) return undefined;
  const { contributions } = importance;
  const row = Math.min(ROW, 420 / contributions.length);
  const values = contributions
    .flatMap(({ shapley }) => [shapley.value, shapley.low, shapley.high])
    .filter(Number.isFinite);
  const [least, most] = [Math.min(0, ...values), Math.max(0, ...values)];
  const span = most - least || 1;
  const left = Math.min(150, Math.max(...contributions.map(({ name }) => textWidth(name)))) + 14;
  const right = WIDTH - 62;
  const bottom = TOP + row * contributions.length;
  const x = (value: number): number => left + ((value - least) / span) * (right - left);
  const parts = [
    heading(`Shapley value, ${withUnit(`validation ${metric.text.title}`, differenceUnitOf(metric.text))}`),
  ];
  for (const tick of ticks(least, most, 4)) {
    parts.push(tag("path", { d: `M${round(x(tick))} ${TOP}V${round(bottom)}`, stroke: "var(--grid)" }));
    const written = metric.text.unit === "share" ? String(Number((100 * tick).toFixed(2))) : String(tick);
    parts.push(label(x(tick), bottom + 17, written.replace("-", "−"), { "text-anchor": "middle" }));
  }
  for (const [k, { name, shapley }] of contributions.entries()) {
    const y = TOP + row * (k + 0.5);
    const colour = shapley.value < 0 ? "var(--b)" : "var(--a)";
    const [from, to] = [x(Math.min(0, shapley.value)), x(Math.max(0, shapley.value))];
    const height = Math.min(16, 0.6 * row);
    parts.push(
      label(left - 10, y + 4, name, { "text-anchor": "end", fill: "var(--ink)" }),
      tag("rect", { x: from, y: y - height / 2, width: to - from, height, rx: 2, fill: colour, "fill-opacity": 0.75 }),
    );
    if (Number.isFinite(shapley.low))
      parts.push(
        tag("path", {
          d: `M${round(x(shapley.low))} ${round(y)}H${round(x(shapley.high))}M${round(x(shapley.low))} ${round(y - 4)}v8M${round(x(shapley.high))} ${round(y - 4)}v8`,
          stroke: "var(--ink)",
          "stroke-width": 1.4,
          fill: "none",
        }),
      );
    parts.push(label(WIDTH, y + 4, signedText(shapley.value, metric.text), { "text-anchor": "end" }));
  }
  parts.push(tag("path", { d: `M${round(x(0))} ${TOP}V${round(bottom)}`, stroke: "var(--muted)" }));
  return {
    name: "importance",
    title: "What each position contributes",
    caption: `What a position adds to the ${scoreTitle(report).replace(/^test/, "validation")} on average over all orders of adding positions, by the search's model; whiskers: 95 % intervals.${report.method.adaptive ? " From an adaptive search: less sure than the whiskers say." : ""}`,
    width: WIDTH,
    height: bottom + 26,
    body: parts.join(""),
  };
}

/** Choices that have a bar; the others matter least. */
const MOST_CHOICES = 16;

/** Shares of the variance: a choice alone, and behind it with all its pairs. */
export function varianceFigure(report: StudyReport): Figure | undefined {
  const { importance } = report;
  if (importance === undefined || importance.variance.main.length === 0) return undefined;
  const { main, pairs, rest } = importance.variance;
  const bars = main
    .map(({ factor, name, share }) => ({
      name,
      share,
      together: pairs.reduce(
        (sum, pair) => sum + (pair.first === factor || pair.second === factor ? pair.share : 0),
        share,
      ),
    }))
    .sort((a, b) => b.together - a.together)
    .slice(0, MOST_CHOICES);
  const row = Math.min(ROW, 420 / bars.length);
  const most = Math.max(...bars.map(({ together }) => together), 0.01);
  const left = Math.min(150, Math.max(...bars.map(({ name }) => textWidth(name)))) + 14;
  const right = WIDTH - 48;
  const bottom = TOP + row * bars.length;
  const x = (value: number): number => left + (value / most) * (right - left);
  const parts = [heading("Share of the variance, %")];
  for (const tick of ticks(0, most, 4)) {
    parts.push(tag("path", { d: `M${round(x(tick))} ${TOP}V${round(bottom)}`, stroke: "var(--grid)" }));
    parts.push(label(x(tick), bottom + 17, String(Number((100 * tick).toFixed(2))), { "text-anchor": "middle" }));
  }
  for (const [k, { name, share, together }] of bars.entries()) {
    const y = TOP + row * (k + 0.5);
    const height = Math.min(16, 0.6 * row);
    const bar = (value: number, opacity: number): string =>
      tag("rect", {
        x: left,
        y: y - height / 2,
        width: x(value) - left,
        height,
        rx: 2,
        fill: "var(--c)",
        "fill-opacity": opacity,
      });
    parts.push(
      label(left - 10, y + 4, name, { "text-anchor": "end", fill: "var(--ink)" }),
      bar(together, 0.28),
      bar(share, 0.85),
      label(WIDTH, y + 4, (100 * share).toFixed(1), { "text-anchor": "end" }),
    );
  }
  parts.push(tag("path", { d: `M${left} ${TOP}V${round(bottom)}`, stroke: "var(--muted)" }));
  const paired = pairs.reduce((sum, { share }) => sum + share, 0);
  return {
    name: "variance",
    title: "What differences come from",
    caption: `Share of the variance of the search's model over the space. Dark, and the number: the choice alone; light: with its pairs, which both partners have. All pairs together: ${(100 * paired).toFixed(1)} %; more than two at once: ${(100 * rest).toFixed(1)} %.${bars.length < main.length ? ` The ${bars.length} largest of ${main.length}.` : ""} Not whether a choice helps.`,
    width: WIDTH,
    height: bottom + 26,
    body: parts.join(""),
  };
}

/** From this share of the largest effect on a cell is dark enough for white numbers. */
const WHITE_ABOVE = 0.7;
/** Cells below this size have no room for a number. */
const READABLE = 30;

/** What two positions add together beyond each by itself. */
export function pairsFigure(report: StudyReport): Figure | undefined {
  const { importance, metric } = report;
  if (importance === undefined || importance.pairs.length === 0) return undefined;
  const { contributions, pairs } = importance;
  const factors = contributions.map(({ factor }) => factor);
  const size = Math.min(56, (WIDTH - 96) / factors.length);
  // Against what single positions do: noise among pairs is to look like nothing.
  const largest = Math.max(
    ...pairs.map(({ effect }) => Math.abs(effect.value)),
    ...contributions.map(({ shapley }) => Math.abs(shapley.value) / 2),
    Number.MIN_VALUE,
  );
  const parts = [
    heading(`Beyond the sum, ${withUnit(`validation ${metric.text.title}`, differenceUnitOf(metric.text))}`),
  ];
  const font = Math.min(12, 0.5 * size);
  for (const [k, { name }] of contributions.entries()) {
    const [x, y] = [size * k, TOP + size * k];
    parts.push(label(x + 6, y + size / 2 + font / 3, name, { fill: "var(--ink)", "font-size": font }));
  }
  for (const { first, second, effect } of pairs) {
    const [a, b] = [factors.indexOf(first), factors.indexOf(second)];
    const [row, column] = [Math.max(a, b), Math.min(a, b)];
    if (column < 0 || row === column) continue;
    const share = Math.abs(effect.value) / largest;
    const sure = Number.isFinite(effect.low) && (effect.low > 0 || effect.high < 0);
    const [x, y] = [size * column, TOP + size * row];
    parts.push(
      tag("rect", {
        x: x + 1,
        y: y + 1,
        width: size - 2,
        height: size - 2,
        rx: 3,
        fill: effect.value < 0 ? "var(--b)" : "var(--cell)",
        "fill-opacity": 0.08 + 0.85 * share,
        stroke: sure ? "var(--ink)" : undefined,
        "stroke-width": sure ? 1.4 : undefined,
      }),
    );
    if (size >= READABLE)
      parts.push(
        label(x + size / 2, y + size / 2 + 4, signedText(effect.value, metric.text), {
          "text-anchor": "middle",
          "font-size": Math.min(12, size / 4),
          // Orange is dark on light paper and light on dark paper.
          fill: share <= WHITE_ABOVE ? "var(--ink)" : effect.value < 0 ? "var(--paper)" : "var(--onCell)",
          "font-weight": sure ? 600 : undefined,
        }),
      );
  }
  return {
    name: "pairs",
    title: "What pairs of positions add",
    caption:
      "What two positions do together beyond the sum of what each does alone, by the search's model. Blue: they help each other; orange: they stand in for each other; full colour: " +
      `${signedText(largest, metric.text).replace("+", "")}${differenceUnitOf(metric.text) === "" ? "" : ` ${differenceUnitOf(metric.text)}`}. Outlined: the 95 % interval is without zero.`,
    width: WIDTH,
    height: TOP + size * factors.length + 8,
    body: parts.join(""),
  };
}
