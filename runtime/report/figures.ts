/**
 * The figures of a run: curves over time, and the confusion matrices.
 */
import { metricOfName, metricText } from "../metrics/scores.ts";
import type { EpochLine } from "../train/records.ts";
import { type Chart, type Curve, lineChart, type Point } from "./chart.ts";
import type { Evaluation } from "./evaluation.ts";
import type { History } from "./history.ts";
import { confusionFigure } from "./matrix.ts";
import type { Figure } from "./svg.ts";
import { count, percent, significant } from "./text.ts";

/** Points of every update as at most `bins` means, so that a run of a million updates draws as fast as one of a hundred. */
function binned(points: readonly Point[], bins: number): readonly Point[] {
  if (points.length <= bins) return points;
  return Array.from({ length: bins }, (_, bin) => {
    const own = points.slice(Math.floor((bin * points.length) / bins), Math.floor(((bin + 1) * points.length) / bins));
    const mean = (of: 0 | 1): number => own.reduce((sum, point) => sum + point[of], 0) / own.length;
    return [mean(0), mean(1)];
  });
}

const BINS = 300;

/** Charts of a run that has begun; empty before its first update. */
function curvesOf(history: History, classes: number): readonly Figure[] {
  const { epochs, steps, at, stages, best, unit, end } = history;
  if (epochs.length === 0 && steps.length === 0) return [];
  const perStep = (of: (line: (typeof steps)[number]) => number): readonly Point[] =>
    binned(
      steps.map((line) => [at(line.step), of(line)]),
      BINS,
    );
  const perEpoch = (of: (line: EpochLine) => number): readonly Point[] =>
    epochs.map((line, index) => [index + 1, of(line)]);
  const validated = (name: string): Pick<Curve, "points" | "marks"> => ({
    points: perEpoch((line) => line.validation?.[name] ?? Number.NaN),
    marks: best.map(({ epoch, line }) => [epoch, line.validation?.[name] ?? Number.NaN]),
  });
  const base = { xLabel: unit, xMax: end, rules: stages, scale: "linear" } as const;
  const names = [...new Set(epochs.flatMap((line) => Object.keys(line.validation ?? {})))];
  const trainLoss: Curve =
    epochs.length > 0
      ? { label: "training", colour: "a", points: perEpoch((line) => line.train.loss) }
      : { label: "training", colour: "a", points: perStep((line) => line.loss) };
  const rates = perStep((line) => line.rate);
  const spanned = rates.map(([, rate]) => rate).filter((rate) => rate > 0);
  const wide = spanned.length > 0 && Math.max(...spanned) > 30 * Math.min(...spanned);
  const shares = names.filter((name) => name !== "loss");
  const charts: readonly Chart[] = [
    {
      ...base,
      name: "loss",
      title: "Loss",
      caption: `Training: the recipe's loss, mean of each ${unit}${epochs.length > 0 ? "; faint: of updates" : ""}. ${names.includes("loss") ? "Validation: cross-entropy. The ring marks the epoch that was kept." : ""}`,
      curves: [
        ...(epochs.length > 0
          ? [{ label: "", colour: "a", look: "faint", points: perStep((line) => line.loss) } as const]
          : []),
        trainLoss,
        ...(names.includes("loss") ? [{ label: "validation", colour: "b", ...validated("loss") }] : []),
      ],
      include: [0],
      show: (value) => significant(value),
    },
    {
      ...base,
      name: "scores",
      title: "Scores",
      caption: `Of the validation clips; dashed: accuracy of the training batches.${best.length > 0 && shares.length > 0 ? " The ring marks the epoch that was kept." : ""}`,
      curves: [
        { label: "training", colour: "a", look: "dashed", points: perEpoch((line) => line.train.accuracy) },
        ...shares.map((name, index) => ({
          label: shortTitle(name),
          colour: ["b", "c", "d", "e"][index % 4] ?? "b",
          ...validated(name),
        })),
      ],
      include: [0, 1],
      levels: [{ at: 1 / classes, label: "1 ÷ classes" }],
      show: (value) => percent(value, 0),
    },
    {
      ...base,
      name: "rate",
      title: "Learning rate",
      caption: "Before the parameters' own factors.",
      curves: [{ label: "rate", colour: "a", points: rates }],
      scale: wide ? "log" : "linear",
      include: wide ? [] : [0],
      show: (value) => significant(value),
    },
    {
      ...base,
      name: "gradient",
      title: "Norm of the gradient",
      caption: "Of all gradients together, before clipping.",
      curves: [{ label: "norm", colour: "a", points: perStep((line) => line.norm) }],
      scale: "log",
      show: (value) => significant(value),
    },
    {
      ...base,
      name: "throughput",
      title: "Samples per second",
      caption: "In training, mean of each epoch.",
      curves: [{ label: "samples/s", colour: "a", points: perEpoch((line) => line.samplesPerSecond) }],
      include: [0],
      show: (value) => significant(value),
    },
    {
      ...base,
      name: "waiting",
      title: "Waiting for data",
      caption: "Share of an epoch's training time in which the device waited for clips.",
      curves: [{ label: "waiting", colour: "b", points: perEpoch((line) => line.waited / line.seconds) }],
      include: [0, 0.1],
      show: (value) => percent(value, 0),
    },
    {
      ...base,
      name: "memory",
      title: "Memory, GiB",
      caption: "Of the process, and of the buffers on the device, at the end of each epoch.",
      curves: [
        { label: "process", colour: "a", points: perEpoch((line) => line.residentBytes / 2 ** 30) },
        { label: "device", colour: "c", points: perEpoch((line) => line.deviceBytes / 2 ** 30) },
      ],
      include: [0],
      show: (value) => significant(value),
    },
  ];
  // Without a whole epoch there is nothing to draw by epochs.
  return charts.filter((chart) => chart.curves.some((curve) => curve.points.length > 0)).map(lineChart);
}

/** `UAR`, `Accuracy (WAR)`, `AUC of fear`; a name that we do not know as it is. */
function shortTitle(name: string): string {
  const metric = metricOfName(name);
  return metric === undefined ? name : metric.kind === "accuracy" ? "Accuracy" : metricText(metric).title;
}

/** All figures, by side where they show predictions. */
export function allFigures(
  history: History,
  classes: number,
  evaluations: readonly { readonly side: string; readonly evaluation: Evaluation }[],
): readonly Figure[] {
  return [
    ...curvesOf(history, classes),
    ...evaluations.map(({ side, evaluation }) => {
      const clips = evaluation.confusion.counts.reduce((sum, value) => sum + value, 0);
      return confusionFigure(`confusion-${side}`, `${side}: ${count(clips, "clip")}`, evaluation.confusion);
    }),
  ];
}
