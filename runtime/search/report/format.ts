/**
 * Numbers of a study's report as people write them: a mean with half its interval, a difference with its sign, a p.
 *
 * Shares are in percent, their differences in percentage points. The unit stands in the heading, not in every cell.
 */
import type { Interval } from "../../metrics/intervals.ts";
import type { MetricText } from "../../metrics/scores.ts";
import { magnitude, minus } from "../../report/text.ts";

type Unit = Pick<MetricText, "unit">;

/** Digits that a score is written with: hundredths of a percent, or ten-thousandths. */
function scaled(value: number, { unit }: Unit): string {
  return unit === "share" ? (100 * value).toFixed(2) : value.toFixed(4);
}

/** `73.06`; `–` for NaN. */
export function scoreText(value: number, text: Unit): string {
  return Number.isNaN(value) ? "–" : minus(scaled(value, text));
}

/** `+1.18`; without a sign where it rounds to nothing. */
export function signedText(value: number, text: Unit): string {
  if (Number.isNaN(value)) return "–";
  const written = scaled(value, text);
  if (Number(written) === 0) return written.replace("-", "");
  return value > 0 ? `+${written}` : minus(written);
}

/** ` ± 0.98`, half of a symmetric interval; empty where there is none. */
function halfText({ value, low, high }: Interval, text: Unit): string {
  return Number.isNaN(low) || Number.isNaN(high) ? "" : ` ± ${scaled(Math.max(high - value, value - low), text)}`;
}

export const meanText = (interval: Interval, text: Unit): string =>
  `${scoreText(interval.value, text)}${halfText(interval, text)}`;

export const differenceText = (interval: Interval, text: Unit): string =>
  `${signedText(interval.value, text)}${halfText(interval, text)}`;

/** `[72.10, 72.90]`; `no interval` without one. */
export function rangeText({ low, high }: Interval, write: (value: number) => string): string {
  return Number.isNaN(low) || Number.isNaN(high) ? "no interval" : `[${write(low)}, ${write(high)}]`;
}

/** A cost with four digits, so that a column of them lines up: `1.250 M`. */
export function costText(value: number): string {
  const [, number = "", unit = ""] = /^([\d.]+)( \D+)$/.exec(magnitude(value)) ?? [];
  return number === "" ? magnitude(value) : `${Number(number).toPrecision(4)}${unit}`;
}

/** `p = 0.004`, `p < 0.001` */
export const pWords = (p: number): string => `p ${pText(p).replace(/^(?=[\d–])/, "= ")}`;

/** `< 0.001`, `0.004`, `0.12`; `–` where nothing was tested. */
export function pText(p: number): string {
  if (Number.isNaN(p)) return "–";
  return p < 0.001 ? "< 0.001" : p.toFixed(p < 0.1 ? 3 : 2);
}

/** A cost beside that of `none`: `+0.9 %`; empty where there is nothing to compare. */
export function relativeText(value: number, reference: number | undefined): string {
  if (reference === undefined || reference === 0 || value === reference) return "";
  const percent = (100 * (value - reference)) / reference;
  const written = percent.toFixed(Math.abs(percent) < 0.095 ? 2 : Math.abs(percent) < 9.95 ? 1 : 0);
  return `${percent > 0 ? "+" : ""}${minus(written)} %`;
}

/** `%` for shares, else nothing; and of differences. */
export const unitOf = ({ unit }: Unit): string => (unit === "share" ? "%" : "");
export const differenceUnitOf = ({ unit }: Unit): string => (unit === "share" ? "pt" : "");

/** A heading with its unit: `test UAR, %`. */
export const withUnit = (title: string, unit: string): string => (unit === "" ? title : `${title}, ${unit}`);
