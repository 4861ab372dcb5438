/**
 * How far a result is from what it should be: relative in the Euclidean norm, and in the greatest element. Both are
 * wanted small, for the first hides a single wrong element in a large tensor and the second a small bias everywhere.
 */

export interface Errors {
  /** ‖y-r‖ / ‖r‖. */
  readonly relL2: number;
  /** max|y-r| / max|r|. */
  readonly max: number;
}

/** The errors of `got`; infinite where lengths differ or a value is NaN. Against zeros the errors are absolute. */
export function errorsOf(got: ArrayLike<number>, want: ArrayLike<number>): Errors {
  let difference = 0;
  let norm = 0;
  let worst = 0;
  let largest = 0;
  for (let i = 0; i < want.length; i++) {
    const w = want[i] ?? Number.NaN;
    const d = Math.abs((got[i] ?? Number.NaN) - w);
    difference += d * d;
    norm += w * w;
    worst = Math.max(worst, d);
    largest = Math.max(largest, Math.abs(w));
  }
  if (got.length !== want.length || Number.isNaN(difference)) return { relL2: Infinity, max: Infinity };
  return { relL2: Math.sqrt(difference / (norm || 1)), max: worst / (largest || 1) };
}

/** What f32 kernels may differ from the f64 oracle. */
const TOLERANCE = 1e-4;

/** Throws, with both errors, unless `got` is within `tolerance` of `want` in both measures. */
export function assertClose(
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  what: string,
  tolerance: number = TOLERANCE,
): void {
  const { relL2, max } = errorsOf(got, want);
  if (!(relL2 < tolerance && max < tolerance))
    throw new Error(`${what}: relL2 ${relL2}, max ${max}, allowed ${tolerance}`);
}
