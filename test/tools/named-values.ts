/**
 * Numbers made up from names: the same hash as in test/fixtures/make_torch.py, so that PyTorch and netc can be given
 * the same weights without storing any.
 */

function mix(value: number): number {
  let x = value;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}

/** Values of the tensor `name`: He-uniform for weights, near one for scales and variances, small for the rest. */
export function namedValues(name: string, shape: readonly number[]): Float32Array {
  let key = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) key = Math.imul(key ^ name.charCodeAt(i), 0x01000193);
  const values = new Float32Array(shape.reduce((product, size) => product * size, 1));
  const fanIn = shape.slice(1).reduce((product, size) => product * size, 1);
  const positive = name.endsWith("running_var") || name.endsWith(".weight");
  for (let i = 0; i < values.length; i++) {
    const u = mix((mix(i ^ key) + 0x9e3779b9) | 0) / 4294967296;
    if (shape.length >= 2) values[i] = (2 * u - 1) * Math.sqrt(6 / fanIn);
    else if (positive) values[i] = 0.5 + u;
    else values[i] = 0.1 * (2 * u - 1);
  }
  return values;
}
