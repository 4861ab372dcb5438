/**
 * What random search would have found: the expected best of n trials, from candidates that were drawn uniformly.
 *
 * The screen of a study is the beginning of a random search, so the rest can be told from it (as Dodge et al. 2019 do from
 * the empirical distribution). A sample of twelve says nothing about what is beyond its best, and the empirical estimate
 * would hold random search back at large n; so the sample is smoothed: a normal kernel of Silverman's width about each
 * value, shrunk so that mean and variance stay (Silverman 1986, section 6.4).
 *
 * The best of n noisy values is better than the candidate that had it. Where the noise is known, the second curve says
 * what that candidate is worth on average: the gain over the mean times the part of the variance that is not noise, which
 * is exact for normal values and noise. It is this one that a model's mean, or a mean on other seeds, may be held against.
 */
import { tCritical } from "../../metrics/distributions.ts";
import type { Interval } from "../../metrics/intervals.ts";
import { drawsOf } from "../methods/draws.ts";
import { normalBelow } from "./normal.ts";

export interface RandomBand {
  /** For each n asked for: the best single value that n random trials are expected to show. */
  readonly shown: readonly Interval[];
  /** What the candidate that shows it is worth over seeds; as `shown` where no noise was given. */
  readonly worth: readonly Interval[];
  /** Candidates that it is estimated from. */
  readonly sample: number;
  readonly method: string;
}

const DRAWS = 1000;
const GRID = 400;

/**
 * The band for each n of `counts`. Its intervals are t intervals with the deviation of a bootstrap of the sample, in which
 * mean and spread move and the shape about them stays: percentiles would sit too low, since no resample has a value above
 * the best of the sample. For normal values and sixteen of them they hold the truth in nine cases of ten.
 * @param values of candidates drawn uniformly, one training each; larger is better
 * @param noise standard deviation of a seed's noise
 * @param seed the same seed gives the same interval
 */
export function randomBand(values: readonly number[], counts: readonly number[], noise = 0, seed = 0): RandomBand {
  const m = values.length;
  const method = `expected best of n from ${m} random trials, smoothed; 95 % interval with the deviation of ${DRAWS} bootstrap draws of them`;
  const { mean, deviation } = momentsOf(values);
  if (m < 2 || !(deviation > 0)) {
    const unknown = counts.map(() => ({ value: mean, low: Number.NaN, high: Number.NaN }));
    return { shown: unknown, worth: unknown, sample: m, method };
  }
  // Deviations above the mean that the best of n has, by the smoothed shape of the sample.
  const gains = bestOf(values, counts).map((best) => (best - mean) / deviation);
  const reliability = (spread: number): number => Math.max(0, 1 - (noise / spread) ** 2);
  const draws = drawsOf(seed, "band");
  const resamples = Array.from({ length: DRAWS }, () =>
    momentsOf(Array.from({ length: m }, () => values[draws.below(m)] ?? 0)),
  );
  const wider = Math.sqrt(m / (m - 1)) * tCritical(0.05, m - 1);
  const interval = (of: (moments: Moments, gain: number) => number): readonly Interval[] =>
    gains.map((gain) => {
      const value = of({ mean, deviation }, gain);
      const half = wider * momentsOf(resamples.map((moments) => of(moments, gain))).deviation;
      return { value, low: value - half, high: value + half };
    });
  return {
    shown: interval((moments, gain) => moments.mean + gain * moments.deviation),
    // A resample of one value over and over has no spread, and nothing to gain.
    worth: interval(
      ({ mean, deviation }, gain) => mean + (deviation > 0 ? gain * deviation * reliability(deviation) : 0),
    ),
    sample: m,
    method,
  };
}

interface Moments {
  readonly mean: number;
  readonly deviation: number;
}

function momentsOf(values: readonly number[]): Moments {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, deviation: Math.sqrt(squares / Math.max(1, values.length - 1)) };
}

/** The expected best of n draws from the smoothed sample: E max = high − ∫ F(x)ⁿ dx. */
function bestOf(values: readonly number[], counts: readonly number[]): readonly number[] {
  const m = values.length;
  const { mean, deviation } = momentsOf(values);
  const ratio = 0.9 * m ** -0.2;
  const shrink = 1 / Math.sqrt(1 + ratio * ratio);
  const width = ratio * deviation * shrink;
  const centres = values.map((value) => mean + (value - mean) * shrink);
  const low = centres.reduce((least, centre) => Math.min(least, centre), Infinity) - 6 * width;
  const high = centres.reduce((most, centre) => Math.max(most, centre), -Infinity) + 6 * width;
  const step = (high - low) / GRID;
  const below = Array.from({ length: GRID }, (_, index) => {
    const at = low + (index + 0.5) * step;
    return centres.reduce((sum, centre) => sum + normalBelow((at - centre) / width), 0) / m;
  });
  return counts.map((n) => high - step * below.reduce((sum, p) => sum + p ** n, 0));
}
