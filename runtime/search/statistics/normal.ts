/** The standard normal distribution, to double precision. */

function normalDensity(z: number): number {
  return Math.exp(-0.5 * z * z) / Math.sqrt(2 * Math.PI);
}

/** P(Z ≤ z), by Hart's rational approximation in West's form (West 2005, "Better approximations to cumulative normal functions"). */
export function normalBelow(z: number): number {
  const size = Math.abs(z);
  if (size > 37) return z > 0 ? 1 : 0;
  const tail = Math.exp(-0.5 * size * size);
  let above: number;
  if (size < 7.07106781186547) {
    const numerator =
      (((((3.52624965998911e-2 * size + 0.700383064443688) * size + 6.37396220353165) * size + 33.912866078383) * size +
        112.079291497871) *
        size +
        221.213596169931) *
        size +
      220.206867912376;
    const denominator =
      ((((((8.83883476483184e-2 * size + 1.75566716318264) * size + 16.064177579207) * size + 86.7807322029461) * size +
        296.564248779674) *
        size +
        637.333633378831) *
        size +
        793.826512519948) *
        size +
      440.413735824752;
    above = (tail * numerator) / denominator;
  } else {
    const fraction = size + 1 / (size + 2 / (size + 3 / (size + 4 / (size + 0.65))));
    above = tail / fraction / 2.506628274631;
  }
  return z > 0 ? 1 - above : above;
}

/** E max(0, Y − level) of a normal Y: the expected improvement over a level (Jones, Schonlau and Welch 1998). */
export function expectedImprovement(mean: number, deviation: number, level: number): number {
  const gain = mean - level;
  if (!(deviation > 0)) return Math.max(0, gain);
  const z = gain / deviation;
  return gain * normalBelow(z) + deviation * normalDensity(z);
}
