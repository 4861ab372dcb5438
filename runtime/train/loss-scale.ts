/**
 * The loss scale of mixed precision: the factor on the loss that keeps small gradients from vanishing in halves
 * (Micikevicius et al. 2018, "Mixed Precision Training", section 3.2).
 *
 * Adapted, it is halved whenever a gradient overflows, and that update is not made; after so many updates without any
 * overflow it is doubled. Scales are powers of two, so that dividing by them is exact. The state is two numbers, which
 * a checkpoint keeps among its counters.
 */
import type { Precision } from "../../compiler/recipe/recipe.ts";

export interface LossScale {
  readonly scale: number;
  /** Updates since the scale last changed. */
  readonly good: number;
}

/** The first scale where it is adapted: that of PyTorch's GradScaler. */
const FIRST = 2 ** 16;
/** Updates without overflow after which the scale is doubled. */
const PATIENCE = 2000;
/** Below this a scale no longer explains an overflow, and above that it gains nothing. */
const LEAST = 1;
const MOST = 2 ** 24;

/** The names of the state among the counters of a checkpoint. */
const COUNTERS = { scale: "lossScale", good: "lossScaleGood" } as const;

/** The scale before the first update; undefined in f32, which has none. */
export function firstLossScale(precision: Precision): LossScale | undefined {
  return precision.kind === "f32" ? undefined : { scale: precision.lossScale ?? FIRST, good: 0 };
}

/**
 * The scale after an update.
 * @param overflowed the gradients, not the loss, were not finite
 * @returns undefined if no other scale can help: the numbers are wrong by themselves, or the recipe gives the scale
 */
export function nextLossScale(
  { scale, good }: LossScale,
  precision: Precision,
  overflowed: boolean,
): LossScale | undefined {
  if (precision.kind === "f32" || precision.lossScale !== undefined) return overflowed ? undefined : { scale, good };
  if (overflowed) return scale <= LEAST ? undefined : { scale: Math.max(LEAST, scale / 2), good: 0 };
  return good + 1 < PATIENCE ? { scale, good: good + 1 } : { scale: Math.min(MOST, scale * 2), good: 0 };
}

/** The state as counters of a checkpoint. */
export function lossScaleCounters(state: LossScale | undefined): Readonly<Record<string, number>> {
  return state === undefined ? {} : { [COUNTERS.scale]: state.scale, [COUNTERS.good]: state.good };
}

/** The state that a checkpoint kept; undefined if it kept none. */
export function lossScaleOf(counters: Readonly<Record<string, number>>): LossScale | undefined {
  const [scale, good = 0] = [counters[COUNTERS.scale], counters[COUNTERS.good]];
  return scale === undefined ? undefined : { scale, good };
}
