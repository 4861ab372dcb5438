/** A linear functional of the model's posterior, point by point: what closed forms are held against. */
import { solveLower } from "../../runtime/search/methods/cholesky.ts";
import { crossCovariance, type Fit, posteriorAt } from "../../runtime/search/methods/gaussian.ts";
import { emptyTerms, termsBetween } from "../../runtime/search/methods/kernel.ts";

/** The functional's posterior by brute force: coefficients on points, then means and covariances of all of them. */
export function byForce(
  fit: Fit,
  points: readonly Uint8Array[],
  coefficients: readonly number[],
): { value: number; half: number } {
  const levels = new Uint8Array(points.flatMap((row) => Array.from(row)));
  const count = points.length;
  const { mean } = posteriorAt(fit, levels);
  const value = coefficients.reduce((sum, c, index) => sum + c * (mean[index] ?? 0), 0);
  const cross = crossCovariance(fit, levels);
  const combined = Float64Array.from({ length: fit.rows }, (_, row) =>
    coefficients.reduce((sum, c, index) => sum + c * (cross[row * count + index] ?? 0), 0),
  );
  let prior = 0;
  for (const [index, row] of points.entries()) {
    const terms = emptyTerms(count, 1);
    termsBetween(fit.kernels, row, levels, fit.width, [fit.shape.decay], terms);
    for (let other = 0; other < count; other++) {
      const { main, pair, rest } = fit.shape;
      const k =
        main * (terms.main[other] ?? 0) + pair * (terms.pair[other] ?? 0) + rest * (terms.rest[0]?.[other] ?? 0);
      prior += (coefficients[index] ?? 0) * (coefficients[other] ?? 0) * k;
    }
  }
  solveLower(fit.lower, fit.rows, fit.rows, combined, 1);
  const explained = combined.reduce((sum, each) => sum + each * each, 0);
  // One rung: HᵀV⁻¹H is a number.
  const moved = fit.basis[0]?.reduce((sum, each, row) => sum + each * (combined[row] ?? 0), 0) ?? 0;
  const variance = Math.max(0, prior - explained) + (moved / (fit.basisFactor[0] ?? 1)) ** 2;
  return { value, half: 1.959963984540054 * Math.sqrt(variance * fit.variance) };
}
