/** How many seeds a difference needs: the power of the two-sided t test, exactly, by the noncentral t distribution. */
import { tCritical } from "../../metrics/distributions.ts";
import { normalBelow } from "./normal.ts";

const ALPHA = 0.05;
const POWER = 0.8;
const STEPS = 400;

/**
 * P(|T| > t) of a noncentral t: the normal's tail averaged over the scatter of the estimated deviation, whose density is
 * that of a χ with `degrees` degrees of freedom over its square root.
 */
function powerOf(noncentrality: number, degrees: number): number {
  const critical = tCritical(ALPHA, degrees);
  // The scatter s = χ/√ν is about 1 ± 1/√(2ν); ten of its deviations and a little hold all of it.
  const spread = 1 / Math.sqrt(2 * degrees);
  const [low, high] = [Math.max(1e-9, 1 - 10 * spread), 1 + 10 * spread];
  let [sum, total] = [0, 0];
  for (let step = 0; step <= STEPS; step++) {
    const s = low + ((high - low) * step) / STEPS;
    // ∝ s^(ν−1) exp(−ν s²/2), scaled to 1 at s = 1; Simpson's weights.
    const density = Math.exp((degrees - 1) * Math.log(s) - (degrees * (s * s - 1)) / 2);
    const weight = density * (step === 0 || step === STEPS ? 1 : step % 2 === 1 ? 4 : 2);
    total += weight;
    sum += weight * (normalBelow(noncentrality - critical * s) + normalBelow(-noncentrality - critical * s));
  }
  return sum / total;
}

/**
 * Seeds for each of two arms, so that a t test at 5 % (two-sided) finds a difference with 80 % probability.
 * @param difference in standard deviations of the seeds' noise; above 0
 * @param pairing undefined: arms with seeds of their own; else paired by seed, with this correlation between the arms
 */
export function seedsNeeded(difference: number, pairing?: number): number {
  const found = (seeds: number): boolean =>
    pairing === undefined
      ? powerOf(difference * Math.sqrt(seeds / 2), 2 * seeds - 2) >= POWER
      : powerOf((difference / Math.sqrt(2 * (1 - pairing))) * Math.sqrt(seeds), seeds - 1) >= POWER;
  let high = 2;
  while (!found(high) && high < 2 ** 20) high *= 2;
  let low = Math.max(2, high / 2);
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (found(middle)) high = middle;
    else low = middle + 1;
  }
  return high;
}

export interface PowerRow {
  /** Difference over the standard deviation of the noise. */
  readonly difference: number;
  /** Seeds for each arm. */
  readonly unpaired: number;
  readonly paired: number;
}

export const POWER_METHOD = "two-sided t test at 5 %, 80 % power";

/**
 * Seeds for each arm, by size of the difference.
 * @param pairing correlation between two models of one seed, for the paired column; a half where it is not known
 */
export function powerTable(
  differences: readonly number[] = [0.5, 0.75, 1, 1.5, 2, 3],
  pairing = 0.5,
): readonly PowerRow[] {
  return differences.map((difference) => ({
    difference,
    unpaired: seedsNeeded(difference),
    paired: seedsNeeded(difference, Math.max(0, Math.min(0.99, pairing))),
  }));
}
