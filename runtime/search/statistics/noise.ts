/** How much a training differs from another of the same model, from candidates that were trained several times. */
import { incompleteGamma } from "./gamma.ts";

/** One full training. Values of the same `seed` are of trainings with one seed. */
export interface Replicated {
  readonly candidate: string | number;
  readonly seed: string | number;
  readonly value: number;
}

export interface NoiseEstimate {
  /** Standard deviation of one training about its candidate's mean over seeds; NaN without replicates. */
  readonly deviation: number;
  /** Its interval of 95 %, for normal noise. */
  readonly low: number;
  readonly high: number;
  readonly degrees: number;
  /** Correlation between two candidates of one seed, from 0: what pairing gains. NaN where it cannot be told. */
  readonly pairing: number;
}

/**
 * Pooled over candidates: Σ(y − ȳ)² / Σ(n − 1), with the interval of χ². `pairing` is the part of that which seeds have in
 * common, from the fit of candidates and seeds together.
 */
export function noiseOf(values: readonly Replicated[]): NoiseEstimate {
  const candidates = grouped(values, ({ candidate }) => candidate).filter(({ length }) => length > 1);
  const degrees = candidates.reduce((sum, { length }) => sum + length - 1, 0);
  if (degrees === 0) return { deviation: Number.NaN, low: Number.NaN, high: Number.NaN, degrees, pairing: Number.NaN };
  const squares = candidates.reduce((sum, group) => sum + scatterOf(group), 0);
  const variance = squares / degrees;
  return {
    deviation: Math.sqrt(variance),
    low: Math.sqrt(squares / chiSquareQuantile(0.975, degrees)),
    high: Math.sqrt(squares / chiSquareQuantile(0.025, degrees)),
    degrees,
    pairing: pairingOf(candidates.flat(), degrees, variance),
  };
}

const meanOf = (values: readonly Replicated[]): number =>
  values.reduce((sum, { value }) => sum + value, 0) / values.length;

function scatterOf(values: readonly Replicated[]): number {
  const mean = meanOf(values);
  return values.reduce((sum, { value }) => sum + (value - mean) ** 2, 0);
}

function grouped(
  values: readonly Replicated[],
  key: (value: Replicated) => string | number,
): readonly (readonly Replicated[])[] {
  const groups = new Map<string | number, Replicated[]>();
  for (const value of values) groups.set(key(value), [...(groups.get(key(value)) ?? []), value]);
  return [...groups.values()];
}

const MOST_SWEEPS = 500;

/** 1 − (residual variance beside candidates and seeds) / (variance beside candidates), at least 0. */
function pairingOf(values: readonly Replicated[], degrees: number, variance: number): number {
  // A seed that one candidate alone has tells nothing of pairing.
  const shared = grouped(values, ({ seed }) => seed).filter(({ length }) => length > 1);
  const left = degrees - (shared.length - 1);
  if (shared.length < 2 || left < 1 || !(variance > 0)) return Number.NaN;
  let rest: readonly Replicated[] = values;
  // The least squares of two-way classifications with gaps, by taking away means in turns.
  for (let sweep = 0; sweep < MOST_SWEEPS; sweep++) {
    const before = rest.reduce((sum, { value }) => sum + value * value, 0);
    rest = grouped(rest, ({ candidate }) => candidate).flatMap(centred);
    rest = grouped(rest, ({ seed }) => seed).flatMap((group) => (group.length > 1 ? centred(group) : group));
    const after = rest.reduce((sum, { value }) => sum + value * value, 0);
    if (sweep > 0 && before - after <= 1e-12 * before) break;
  }
  const residual = rest.reduce((sum, { value }) => sum + value * value, 0) / left;
  return Math.max(0, 1 - residual / variance);
}

function centred(group: readonly Replicated[]): readonly Replicated[] {
  const mean = meanOf(group);
  return group.map((each) => ({ ...each, value: each.value - mean }));
}

/** The x that a χ² with so many degrees stays below with probability `p`. */
function chiSquareQuantile(p: number, degrees: number): number {
  let [low, high] = [0, degrees + 1];
  while (incompleteGamma(degrees / 2, high / 2) < p) high *= 2;
  for (let step = 0; step < 200 && high - low > 1e-12 * high; step++) {
    const middle = (low + high) / 2;
    if (incompleteGamma(degrees / 2, middle / 2) < p) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}
