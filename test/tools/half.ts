/** Halves as devices hold them, for tests: bits of numbers. */
import { roundToHalf } from "../../compiler/half.ts";

/** The bits of the half nearest to each number. */
export function toHalves(values: ArrayLike<number>): Uint16Array<ArrayBuffer> {
  return Uint16Array.from({ length: values.length }, (_, i) => {
    const half = roundToHalf(values[i] ?? Number.NaN);
    if (Number.isNaN(half)) return 0x7e00;
    const sign = half < 0 || Object.is(half, -0) ? 0x8000 : 0;
    const size = Math.abs(half);
    if (size === Number.POSITIVE_INFINITY) return sign | 0x7c00;
    if (size < 2 ** -14) return sign | (size * 2 ** 24);
    const exponent = Math.floor(Math.log2(size));
    return sign | ((exponent + 15) << 10) | ((size / 2 ** exponent - 1) * 1024);
  });
}
