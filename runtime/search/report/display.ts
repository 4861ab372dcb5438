/**
 * What a person sees while a study runs: in a terminal a few lines that are drawn over, elsewhere a line for every event,
 * as text or as JSON, without a control character.
 *
 * In: the study, whenever somebody has read it. Out: text on a stream. `displayOf` is pure.
 */

import { count, grouped, significant } from "../../report/text.ts";
import type { ProgressStream } from "../../train/progress.ts";
import { bar, duration, figure, fit, type Piece, plain } from "../../train/progress-line.ts";
import type { DisplayState, RunningTrial } from "./display-state.ts";
import { displayState } from "./display-state.ts";
import { eventsBetween, eventText, type StudyEvent } from "./events.ts";
import { currentFindings } from "./findings.ts";
import {
  differenceText,
  differenceUnitOf,
  meanText,
  rangeText,
  relativeText,
  scoreText,
  signedText,
  unitOf,
} from "./format.ts";
import type { Findings } from "./model.ts";
import type { StudyData } from "./study-data.ts";

const spaced = (text: string, unit: string): string => (unit === "" ? text : `${text} ${unit}`);

/** A time that is an estimate: without seconds where it is long. */
const roughly = (seconds: number): string => duration(seconds < 300 ? seconds : 60 * Math.round(seconds / 60));

function heading(state: DisplayState): readonly Piece[] {
  const { spent, spend, final, secondsLeft, workers, repeated, counts, method } = state;
  const share = final === undefined ? spent / spend : final.done / final.of;
  const done =
    final === undefined
      ? `spent ${significant(spent, 3)} of ${significant(spend, 3)} trainings`
      : `final trainings: ${final.done} of ${final.of}`;
  const time =
    secondsLeft === undefined
      ? ""
      : `about ${roughly(secondsLeft.value)} left${secondsLeft.half < 30 ? "" : ` (± ${roughly(secondsLeft.half)})`}`;
  const lost = [
    ...(counts.failed > 0 ? [`${counts.failed} failed`] : []),
    ...(repeated > 0 ? [count(repeated, "repeated attempt")] : []),
  ].join(", ");
  return [
    { rank: 0, text: plain(state.name) },
    { rank: 1, text: state.synthetic ? "SYNTHETIC" : "" },
    { rank: 2, text: state.state === "running" ? "" : state.state },
    { rank: 8, text: plain(method) },
    { rank: 3, text: done },
    { rank: 7, text: bar(share, 16), short: bar(share, 8) },
    { rank: 4, text: time },
    {
      rank: 5,
      text:
        state.state === "complete"
          ? ""
          : `${count(workers, "worker")}${counts.waiting === 0 ? "" : `, ${count(counts.waiting, "trial")} waiting`}`,
      ...(state.state === "complete" ? {} : { short: count(workers, "worker") }),
    },
    { rank: 6, text: lost },
  ];
}

function knowledge({ noise, ranks, feasible, points, tried, metric }: DisplayState): readonly Piece[] {
  const score = (value: number): string => scoreText(value, metric.text);
  return [
    {
      rank: 1,
      text:
        noise === undefined
          ? "noise between seeds not known yet"
          : `noise between seeds ${score(noise.deviation.value)} ${spaced(rangeText(noise.deviation, score), differenceUnitOf(metric.text))}`,
    },
    {
      rank: 3,
      text:
        ranks.length === 0
          ? ""
          : `rung τ ${ranks.map(({ from, to, tau }) => `${from}→${to} ${tau.value.toFixed(2)}`).join(", ")}`,
    },
    {
      rank: 2,
      text: `tried ${grouped(tried)} of ${grouped(feasible)} feasible (${count(points, "point")})`,
      short: `tried ${grouped(tried)} of ${grouped(feasible)}`,
    },
  ];
}

function leading({ leader, metric }: DisplayState, brief: boolean): readonly Piece[] {
  if (leader === undefined) return [{ rank: 0, text: "nothing leads yet: too few trainings have ended" }];
  const { candidate, expected, toNone, params, noneParams } = leader;
  const score = (value: number): string => scoreText(value, metric.text);
  return [
    { rank: 0, text: `${brief ? "leads" : "leads by the model"}  ${plain(candidate)}` },
    {
      rank: 1,
      text: `${metric.name} ${spaced(`${score(expected.value)} ${rangeText(expected, score)}`, unitOf(metric.text))} expected, not final`,
      short: `${spaced(`${score(expected.value)} ${rangeText(expected, score)}`, unitOf(metric.text))}, not final`,
    },
    {
      rank: 2,
      text:
        toNone === undefined ? "" : `${spaced(signedText(toNone, metric.text), differenceUnitOf(metric.text))} to none`,
    },
    { rank: 3, text: spaced(relativeText(params, noneParams), "params").replace(/^ .*/, "") },
  ];
}

function result({ result, metric }: DisplayState, brief: boolean): readonly Piece[] {
  if (result === undefined) return [];
  const { candidate, side, mean, seeds, toNone } = result;
  return [
    { rank: 0, text: `${brief ? "fresh" : "on fresh seeds"}  ${plain(candidate)}` },
    {
      rank: 1,
      text: `${side} ${metric.text.title} ${spaced(meanText(mean, metric.text), unitOf(metric.text))} (${count(seeds, "seed")})`,
      short: `${meanText(mean, metric.text)} (${seeds})`,
    },
    {
      rank: 2,
      text:
        toNone === undefined
          ? ""
          : `${spaced(differenceText(toNone, metric.text), differenceUnitOf(metric.text))} to none, paired`,
    },
  ];
}

function chance({ chance, metric }: DisplayState): readonly Piece[] {
  if (chance === undefined) return [];
  const score = (value: number): string => scoreText(value, metric.text);
  const { random, overSeeds } = chance;
  const range = `${score(random.value)} ${rangeText(random, score)}`;
  return [
    {
      rank: 0,
      text: `search at random would have  ${spaced(range, unitOf(metric.text))} by now, ${overSeeds ? "expected over seeds" : "as its luckiest single score"}`,
      short: `random would have ${range}${overSeeds ? "" : " at its luckiest"}`,
    },
  ];
}

const numberOf = ({ number }: RunningTrial): string => `#${number}`;
const candidateOf = ({ candidate }: RunningTrial): string => plain(candidate);
const epochOf = ({ epoch, epochs }: RunningTrial): string => `${epoch}/${epochs}`;

function trial(
  one: RunningTrial,
  { metric }: DisplayState,
  widths: { readonly number: number; readonly candidate: number; readonly epoch: number },
): readonly Piece[] {
  const { phase, epoch, epochs, loss, score, worker, attempt, silent } = one;
  return [
    { rank: 0, text: numberOf(one).padStart(widths.number) },
    { rank: 1, text: candidateOf(one).padEnd(widths.candidate) },
    { rank: 7, text: phase },
    { rank: 6, text: bar(epoch / epochs, 8) },
    { rank: 2, text: `epoch ${epochOf(one).padStart(widths.epoch)}` },
    { rank: 5, text: loss === undefined ? "" : `loss ${figure(loss)}` },
    { rank: 3, text: score === undefined ? "" : `${metric.name} ${scoreText(score, metric.text)}` },
    { rank: 4, text: plain(worker) },
    { rank: 8, text: attempt > 1 ? `attempt ${attempt}` : "" },
    { rank: 1, text: silent === undefined ? "" : `silent for ${duration(silent)}` },
  ];
}

/** The lines of a display: at most `rows` of them, none longer than `columns`. */
export function displayOf(
  state: DisplayState,
  columns: number = Number.POSITIVE_INFINITY,
  rows: number = Number.POSITIVE_INFINITY,
): readonly string[] {
  const indent = (pieces: readonly Piece[]): string => `  ${fit(pieces, columns - 2)}`;
  const random = chance(state);
  /** With a shorter beginning, where the whole line has no room. */
  const either = (pieces: (state: DisplayState, brief: boolean) => readonly Piece[]): string => {
    const whole = fit(pieces(state, false), Number.POSITIVE_INFINITY);
    return whole.length <= columns - 2 ? `  ${whole}` : indent(pieces(state, true));
  };
  const top = [
    fit(heading(state), columns),
    indent(knowledge(state)),
    either(leading),
    ...(random.length === 0 ? [] : [indent(random)]),
    ...(state.result === undefined ? [] : [either(result)]),
  ];
  const last =
    state.ended.length === 0
      ? []
      : [
          indent(
            state.ended.map((text, k) => ({ rank: k, text: k === 0 ? `ended last: ${plain(text)}` : plain(text) })),
          ),
        ];
  const room = Math.max(1, rows - top.length - last.length);
  const shown = state.running.length > room ? state.running.slice(0, room - 1) : state.running;
  const longest = (of: (one: RunningTrial) => string): number => Math.max(0, ...shown.map((one) => of(one).length));
  const widths = { number: longest(numberOf), candidate: longest(candidateOf), epoch: longest(epochOf) };
  const hidden = state.running.length - shown.length;
  const { waiting } = state.counts;
  const more = hidden > 0 ? `… and ${hidden} more running` : "";
  return [
    ...top,
    ...shown.map((one) => indent(trial(one, state, widths))),
    ...(more === "" ? [] : [indent([{ rank: 0, text: more, short: `… and ${hidden} more` }])]),
    ...(shown.length === 0 && state.state === "running"
      ? [
          indent([
            {
              rank: 0,
              text:
                waiting > 0
                  ? `no worker has taken any of ${count(waiting, "waiting trial")} yet`
                  : "nothing is running",
            },
          ]),
        ]
      : []),
    ...last,
  ].slice(0, Math.max(1, rows));
}

/** Where a display is drawn. */
export interface DisplayStream extends ProgressStream {
  readonly rows?: number | undefined;
}

export interface DisplayOptions {
  /** One JSON value a line, whatever the stream is. */
  readonly json?: boolean;
  /** Milliseconds since 1970. */
  readonly now?: () => number;
  /** Findings of a study; they take time in a large space, so they are asked for only when there are further scores. */
  readonly find?: (data: StudyData) => Findings;
}

export interface Display {
  /** The study as it is now. */
  update(data: StudyData): void;
  /** A sentence that stays. */
  note(text: string): void;
  /** Leaves the display, with a last sentence. */
  end(text: string): void;
}

/** Milliseconds between summaries where nothing can be drawn over. */
const SUMMARY_EVERY = 300_000;
/** What stays above the lines that are drawn over. */
const STAYS: ReadonlySet<StudyEvent["event"]> = new Set(["failed", "lost", "state"]);

/** Shows a study on `stream` until `end`. */
export function openDisplay(stream: DisplayStream, options: DisplayOptions = {}): Display {
  const { json = false, now = Date.now, find = currentFindings } = options;
  const live = !json && stream.isTTY === true && process.env["TERM"] !== "dumb";
  let before: StudyData | undefined;
  let found: { readonly observations: number; readonly findings: Findings } | undefined;
  let drawn: readonly string[] = [];
  let lastSummary = Number.NEGATIVE_INFINITY;
  let state: DisplayState | undefined;

  const columns = (): number => Math.max(20, stream.columns ?? 80);
  /** Takes away the lines that stand there. A terminal that has become narrower has broken them into more rows. */
  const clear = (): string => {
    const rows = drawn.reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / columns())), 0);
    drawn = [];
    return "\u001b[1A\u001b[K".repeat(rows);
  };
  const draw = (): void => {
    if (state === undefined) return;
    const before = clear();
    // The last column stays free: some terminals break the line there.
    drawn = displayOf(state, columns() - 1, Math.max(2, (stream.rows ?? 24) - 2));
    stream.write(`${before}${drawn.map((line) => `${line}\n`).join("")}`);
  };
  const say = (text: string): void => {
    stream.write(`${live ? clear() : ""}${text}\n`);
  };
  const record = (value: object): void => {
    stream.write(`${JSON.stringify(value)}\n`);
  };
  if (live) stream.on?.("resize", draw);

  return {
    update(data) {
      if (found?.observations !== data.observations.length)
        found = { observations: data.observations.length, findings: find(data) };
      state = displayState(data, found.findings, now());
      // What was there before the display began is in its summary.
      const events = before === undefined ? [] : eventsBetween(before, data);
      for (const event of events)
        if (json) record(event);
        else if (!live || STAYS.has(event.event)) say(eventText(event, data.study.search));
      const first = before === undefined;
      before = data;
      if (live) draw();
      else if (first || now() - lastSummary >= SUMMARY_EVERY) {
        lastSummary = now();
        if (json) record({ event: "summary", ...state });
        else for (const line of displayOf(state)) say(line);
      }
    },
    note(text) {
      if (json) record({ event: "note", text });
      else say(plain(text));
      if (live) draw();
    },
    end(text) {
      stream.off?.("resize", draw);
      if (json) record({ event: "end", text });
      // The last lines stay, for they say how things stood.
      else stream.write(`${plain(text)}\n`);
      drawn = [];
    },
  };
}
