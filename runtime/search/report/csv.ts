/**
 * A report as tables for other programs: a row for every trial, for every candidate, for every point of a learning curve,
 * and for every contribution. RFC 4180, numbers with a point and all their digits, an empty field for what is not known.
 *
 * A drawn data set is named as such in a column of its own, because a file of numbers loses the page around it.
 */
import type { ReportTrial, StudyReport } from "./model.ts";
import { SUPER_NETWORK } from "./notation.ts";
import { meanOf } from "./scores.ts";
import { candidateAt } from "./words.ts";

type Value = string | number | boolean | undefined;

function field(value: Value): string {
  if (value === undefined || (typeof value === "number" && Number.isNaN(value))) return "";
  const text = String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function csv(header: readonly string[], rows: readonly (readonly Value[])[]): string {
  return [header, ...rows].map((row) => `${row.map(field).join(",")}\r\n`).join("");
}

const named = (report: StudyReport, { phase, candidate }: ReportTrial): string =>
  phase === "prior" ? SUPER_NETWORK : (candidateAt(report, candidate)?.label ?? "");

export function trialsCsv(report: StudyReport): string {
  const names = [...new Set(report.trials.flatMap(({ metrics }) => Object.keys(metrics)))].sort();
  return csv(
    [
      "trial",
      "id",
      "candidate",
      "label",
      "phase",
      "replicate",
      "seed",
      "state",
      "left_behind_rung",
      "epochs",
      "epochs_asked",
      `value.val.${report.metric.name}`,
      ...names,
      "seconds",
      "overhead_seconds",
      "latency_ms",
      "attempts",
      "device",
      "error",
      "synthetic",
    ],
    report.trials.map((trial) => [
      trial.number,
      trial.id,
      trial.candidate,
      named(report, trial),
      trial.phase,
      trial.replicate,
      trial.seed,
      trial.state,
      trial.left,
      trial.epochs,
      trial.asked,
      trial.value,
      ...names.map((name) => trial.metrics[name]),
      trial.seconds === 0 ? undefined : trial.seconds,
      trial.seconds === 0 ? undefined : trial.overheadSeconds,
      trial.latency,
      trial.attempts,
      trial.device,
      trial.error,
      report.synthetic,
    ]),
  );
}

export function candidatesCsv(report: StudyReport): string {
  const { notation, rows } = report;
  const positions = notation.sets.flatMap(({ name, positions }) =>
    positions.map((position) => ({ ...position, column: `${name === "" ? "" : `${name}.`}${position.name}` })),
  );
  return csv(
    [
      "candidate",
      "label",
      "hash",
      ...positions.map(({ column }) => column),
      ...notation.others.map(({ name }) => name),
      "params",
      "flops",
      "memory",
      "latency_ms",
      "latency_low",
      "latency_high",
      "latency_device",
      "gradient_norm",
      "latency_source",
      "refused",
      "trials",
      "search_n",
      "search_mean",
      "final_n",
      "final_mean",
      "final_low",
      "final_high",
      "to_none",
      "to_none_low",
      "to_none_high",
      "to_none_p",
      "to_none_p_holm",
      "to_none_unpaired_low",
      "to_none_unpaired_high",
      "front",
      "roles",
      "side",
      "synthetic",
    ],
    report.candidates.map((candidate) => {
      const row = rows.find((one) => one.candidate === candidate.index);
      const final = row?.mean;
      const test = row?.toNone;
      return [
        candidate.index,
        candidate.label,
        candidate.hash,
        ...positions.map(({ factor }) => candidate.levels[factor]),
        ...candidate.words.map((word) => (word === "–" ? "" : word)),
        candidate.costs.params,
        candidate.costs.flops,
        candidate.costs.memory,
        candidate.latency?.milliseconds,
        candidate.latency?.low,
        candidate.latency?.high,
        candidate.latency?.device,
        candidate.gradientNorm,
        candidate.latency?.source,
        candidate.refused,
        candidate.trials,
        candidate.searched.length,
        meanOf(candidate.searched.map(({ value }) => value)).value,
        candidate.final.length,
        final?.value,
        final?.low,
        final?.high,
        test?.difference.value,
        test?.difference.low,
        test?.difference.high,
        test?.p,
        test?.corrected,
        test?.unpaired.low,
        test?.unpaired.high,
        row?.front,
        row?.roles.join("; "),
        row === undefined ? undefined : report.metric.side,
        report.synthetic,
      ];
    }),
  );
}

export function metricsCsv(report: StudyReport): string {
  return csv(
    ["trial", "candidate", "label", "phase", "name", "epoch", "value", "synthetic"],
    report.trials.flatMap((trial) =>
      trial.points.map(({ name, epoch, value }) => [
        trial.number,
        trial.candidate,
        named(report, trial),
        trial.phase,
        name,
        epoch,
        value,
        report.synthetic,
      ]),
    ),
  );
}

/** What positions contribute, alone, by option and in pairs, and shares of the variance: a row each. */
export function importanceCsv(report: StudyReport): string {
  const { importance } = report;
  if (importance === undefined)
    return csv(["kind", "position", "other", "value", "low", "high", "n", "adaptive", "synthetic"], []);
  const { contributions, options, pairs, variance } = importance;
  const names = new Map([...contributions, ...variance.main].map(({ factor, name }) => [factor, name]));
  const nameOf = (factor: number): string => names.get(factor) ?? "";
  const rows: readonly (readonly Value[])[] = [
    ...contributions.flatMap(({ name, shapley, on, off }) => [
      ["shapley", name, undefined, shapley.value, shapley.low, shapley.high, undefined],
      ["mean_with", name, undefined, on.mean, undefined, undefined, on.trainings],
      ["mean_without", name, undefined, off.mean, undefined, undefined, off.trainings],
    ]),
    ...options.map(({ factor, option, shapley }) => [
      "shapley_with_option",
      nameOf(factor),
      option,
      shapley.value,
      shapley.low,
      shapley.high,
      undefined,
    ]),
    ...pairs.map(({ first, second, effect }) => [
      "interaction",
      nameOf(first),
      nameOf(second),
      effect.value,
      effect.low,
      effect.high,
      undefined,
    ]),
    ...variance.main.map(({ name, share }) => ["variance_share", name, undefined, share]),
    ...variance.pairs.map(({ first, second, share }) => ["variance_share", nameOf(first), nameOf(second), share]),
    ["variance_share_rest", undefined, undefined, variance.rest],
  ];
  return csv(
    ["kind", "position", "other", "value", "low", "high", "n", "adaptive", "synthetic"],
    rows.map((row) => [...Array.from({ length: 7 }, (_, k) => row[k]), report.method.adaptive, report.synthetic]),
  );
}
