/**
 * Seeded initialisation: the numbers a parameter starts with when no file gives them.
 *
 * Every number is a pure function of seed, parameter path and element index (a counter-based generator), so grafting a
 * unit changes no other layer's start, rows of a split parameter are made apart, and any thread may make any part.
 */
import type { Upload } from "../../compiler/program.ts";

/** 32-bit mixing function with low bias: Wellons, "Prospecting for Hash Functions" (2018), `lowbias32`. */
function mix(value: number): number {
  let x = value;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}

/** Two 32-bit keys from a seed and a path (FNV-1a over UTF-16 units, then mixed). */
function keys(seed: number, path: string): readonly [number, number] {
  let hash = 0x811c9dc5;
  for (let i = 0; i < path.length; i++) hash = Math.imul(hash ^ path.charCodeAt(i), 0x01000193);
  const low = mix(hash ^ mix(seed >>> 0));
  const high = mix(low ^ mix(Math.floor(seed / 4294967296) + 0x9e3779b9));
  return [low, high];
}

const TWO_TO_MINUS_32 = 1 / 4294967296;

function fillUniform(
  into: Float32Array,
  first: number,
  key: readonly [number, number],
  low: number,
  high: number,
): void {
  const [a, b] = key;
  const width = high - low;
  for (let i = 0; i < into.length; i++) into[i] = low + width * (mix(mix((first + i) ^ a) + b) * TWO_TO_MINUS_32);
}

/** Box and Muller (1958), one pair of numbers for elements 2i and 2i+1. */
function fillNormal(
  into: Float32Array,
  first: number,
  key: readonly [number, number],
  mean: number,
  std: number,
): void {
  const [a, b] = key;
  const end = first + into.length;
  for (let even = first - (first % 2); even < end; even += 2) {
    const u = (mix(mix(even ^ a) + b) + 1) * TWO_TO_MINUS_32;
    const v = mix(mix((even + 1) ^ a) + b) * TWO_TO_MINUS_32;
    const radius = std * Math.sqrt(-2 * Math.log(u));
    const angle = 2 * Math.PI * v;
    if (even >= first) into[even - first] = mean + radius * Math.cos(angle);
    if (even + 1 < end) into[even + 1 - first] = mean + radius * Math.sin(angle);
  }
}

/**
 * Fan of a weight: [O, I, ...kernel] has fan_in I·k and fan_out O·k, k the product of the kernel's sizes (PyTorch's
 * `_calculate_fan_in_and_fan_out`). Vectors have their length as both.
 */
function fanOf(shape: readonly number[], side: "in" | "out"): number {
  const kernel = shape.slice(2).reduce((product, size) => product * size, 1);
  const [out = 1, input = out] = shape;
  return kernel * (side === "in" ? input : out);
}

/** Fills `into` with the start of the rows that `upload` asks for. */
export function initialise(upload: Upload, seed: number, into: Float32Array): void {
  const { init, shape } = upload;
  if (init.kind === "constant") {
    into.fill(init.value);
    return;
  }
  const rowSize = shape.slice(1).reduce((product, size) => product * size, 1);
  const first = (upload.rows?.start ?? 0) * rowSize;
  const key = keys(seed, upload.path);
  switch (init.kind) {
    case "normal":
      fillNormal(into, first, key, init.mean, init.std);
      return;
    case "uniform":
      fillUniform(into, first, key, init.low, init.high);
      return;
    case "he_normal":
      fillNormal(into, first, key, 0, Math.sqrt(2 / fanOf(shape, init.fan)));
      return;
    case "he_uniform": {
      const bound = 1 / Math.sqrt(fanOf(shape, init.fan));
      fillUniform(into, first, key, -bound, bound);
      return;
    }
    default:
      init satisfies never;
  }
}
