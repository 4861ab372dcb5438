/** Whether two orders agree: Kendall's τ-b, which allows for ties. */
import type { Interval } from "../../metrics/intervals.ts";

/** The standard normal's quantile at 0.975. */
const Z = 1.959963984540054;

/**
 * Kendall's τ-b (Kendall 1945) of paired values, with the interval of Fieller, Hartley and Pearson (1957): arctanh τ has a
 * standard error of about √(0.437/(n − 4)). Up to four pairs tell nothing: the interval is [−1, 1]. NaN where all values of
 * a side are equal.
 * @param z how many standard errors the interval reaches; 1.96 (95 %) if not given
 */
export function kendallTau(first: readonly number[], second: readonly number[], z: number = Z): Interval {
  const n = first.length;
  let [agreement, untiedFirst, untiedSecond] = [0, 0, 0];
  for (let i = 0; i < n; i++)
    for (let j = 0; j < i; j++) {
      const a = Math.sign((first[i] ?? 0) - (first[j] ?? 0));
      const b = Math.sign((second[i] ?? 0) - (second[j] ?? 0));
      agreement += a * b;
      untiedFirst += Math.abs(a);
      untiedSecond += Math.abs(b);
    }
  const value = agreement / Math.sqrt(untiedFirst * untiedSecond);
  if (Number.isNaN(value)) return { value, low: Number.NaN, high: Number.NaN };
  if (n <= 4) return { value, low: -1, high: 1 };
  const half = z * Math.sqrt(0.437 / (n - 4));
  // Perfect agreement of a few pairs is not certainty: τ is taken half a pair short of it.
  const most = 1 - 1 / ((n * (n - 1)) / 2);
  const centre = Math.atanh(Math.max(-most, Math.min(most, value)));
  return { value, low: Math.tanh(centre - half), high: value >= most ? 1 : Math.tanh(centre + half) };
}
