/** What the process that is killed writes, and its test expects. */
import type { CheckpointRecord, StateStream } from "../../runtime/train/checkpoint.ts";

/** Numbers of one tensor: large enough to be killed in the midst of. */
const LENGTH = 200_000;
const LAYOUT = ["a.weight", "b.weight", "momentum/a.weight"].map((name) => ({ name, shape: [LENGTH] }));

export function recordOfStep(step: number): CheckpointRecord {
  return {
    step,
    stage: 0,
    epoch: 0,
    batch: step,
    counters: {},
    plateau: { factor: 1, best: undefined, bad: 0 },
    stop: { best: undefined, bad: 0 },
    best: undefined,
    metricsBytes: 0,
    // The writer does not look at them.
    facts: {} as CheckpointRecord["facts"],
  };
}

export function stateOfStep(step: number): StateStream {
  const data = new Float32Array(LENGTH).fill(step);
  return { layout: LAYOUT, tensors: LAYOUT.map((tensor) => ({ ...tensor, data })) };
}
