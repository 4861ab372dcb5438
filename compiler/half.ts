/**
 * Half precision: IEEE 754 binary16, in which mixed precision stores activations and their gradients.
 *
 * One bit of sign, five of exponent, ten of fraction: about three decimal digits, from 6·10⁻⁸ to 65504. What is stored
 * is rounded to the nearest half, to the even one where two are as near, and to infinity from 65520 on.
 */

/** From here on the nearest half is infinite. */
const OVERFLOW = 65520;
/** Exponent of the least normal half, and of the distance between the halves below it. */
const LEAST_EXPONENT = -14;

const bits = new Float64Array(1);
const words = new Uint32Array(bits.buffer);
// The upper word of a double: its last on machines that begin with the lower one, as all that run Node do.
const UPPER = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1 ? 1 : 0;

/** Distances between halves by exponent, from 2⁻¹⁴ to 2¹⁵. */
const SPACING = Array.from({ length: 30 }, (_, i) => 2 ** (i + LEAST_EXPONENT - 10));

/** The half nearest to `x`. */
export function roundToHalf(x: number): number {
  const size = Math.abs(x);
  if (!(size < OVERFLOW)) return x * Number.POSITIVE_INFINITY;
  bits[0] = size;
  const exponent = Math.max(LEAST_EXPONENT, ((words[UPPER] ?? 0) >>> 20) - 1023);
  const spacing = SPACING[exponent - LEAST_EXPONENT] ?? Number.NaN;
  // Powers of two: exact.
  const scaled = x / spacing;
  const below = Math.floor(scaled);
  const rest = scaled - below;
  const up = rest > 0.5 || (rest === 0.5 && below % 2 !== 0);
  const rounded = (up ? below + 1 : below) * spacing;
  return rounded === 0 && (x < 0 || Object.is(x, -0)) ? -0 : rounded;
}
