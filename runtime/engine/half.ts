/** Half precision (IEEE 754 binary16) as it lies in files and on devices, to f32. */

/** Sign, five bits of exponent, ten of fraction. */
function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** All 65536 halves, made when first asked for: a table is a hundred times as fast as the arithmetic. */
let table: Float32Array | undefined;

/** Halves given by their bits. */
export function fromHalves(halves: Uint16Array): Float32Array {
  const values = (table ??= Float32Array.from({ length: 65536 }, (_, bits) => halfToNumber(bits)));
  return Float32Array.from(halves, (bits) => values[bits] ?? 0);
}
