/**
 * What happened in a run, in order: the lines of metrics.jsonl without what a resumption did over again.
 *
 * Time is counted in epochs from the start of the run, across stages; an update within an epoch lies between them.
 */
import type { EpochLine, MetricLine, NoteLine, RunRecord, StepLine } from "../train/records.ts";

export interface History {
  readonly steps: readonly StepLine[];
  readonly epochs: readonly EpochLine[];
  readonly notes: readonly NoteLine[];
  /** Updates that were lost in a crash and done again. */
  readonly repeated: number;
  /** What time is counted in: updates, as long as no epoch is complete. */
  readonly unit: "epoch" | "update";
  /** The time of an update. */
  readonly at: (step: number) => number;
  readonly end: number;
  /** Where stages begin, if there are several. */
  readonly stages: readonly { readonly at: number; readonly label: string }[];
  /** The last epoch of each stage that was the best so far, by its number from 1. */
  readonly best: readonly { readonly epoch: number; readonly line: EpochLine }[];
}

/** Takes off the end of `lines` what lies at `step` or after it; says how many those were. */
function rewind(lines: { readonly step: number }[], step: number): number {
  const before = lines.length;
  while ((lines.at(-1)?.step ?? -1) >= step) lines.pop();
  return before - lines.length;
}

/** Orders the lines of a run. */
export function historyOf(metrics: readonly MetricLine[], record: RunRecord): History {
  const steps: StepLine[] = [];
  const epochs: EpochLine[] = [];
  const notes: NoteLine[] = [];
  let repeated = 0;
  for (const line of metrics) {
    // A step that was written before, and all that followed it, was lost in a crash and is done again.
    if (line.kind === "step") {
      repeated += rewind(steps, line.step);
      rewind(epochs, line.step);
      steps.push(line);
    } else if (line.kind === "epoch") {
      rewind(epochs, line.step);
      epochs.push(line);
    } else notes.push(line);
  }
  const knots = [0, ...epochs.map((line) => line.step)];
  const unit = epochs.length === 0 ? "update" : "epoch";
  const at = (step: number): number => {
    if (unit === "update") return step;
    let k = Math.max(
      1,
      knots.findIndex((knot) => knot >= step),
    );
    if (step > (knots.at(-1) ?? 0)) k = knots.length - 1;
    const [from, to] = [knots[k - 1] ?? 0, knots[k] ?? 1];
    return k - 1 + (step - from) / (to - from || 1);
  };
  const names = record.recipe.stages;
  const stages =
    names.length < 2
      ? []
      : epochs.flatMap((line, index) =>
          line.stage === epochs[index - 1]?.stage
            ? []
            : [{ at: index, label: names[line.stage]?.name || `stage ${line.stage + 1}` }],
        );
  const best = names.flatMap((_, stage) => {
    const epoch = epochs.findLastIndex((line) => line.stage === stage && line.best);
    const line = epochs[epoch];
    return line === undefined ? [] : [{ epoch: epoch + 1, line }];
  });
  const end = Math.max(epochs.length, at(steps.at(-1)?.step ?? 0));
  return { steps, epochs, notes, repeated, unit, at, end, stages, best };
}
