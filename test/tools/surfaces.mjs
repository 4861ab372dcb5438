/**
 * Response surfaces that methods of search are tried on: the value of every candidate of a small space, known in full.
 *
 * In: a kind, a number of members (a candidate is a subset of them, as the bits of its index) and a seed. Out: 2^members
 * values with mean 0 and standard deviation 1.
 *
 * - `additive`: every member adds its own normal effect.
 * - `pairwise`: 60 % of the variance by members, 40 % by pairs of them.
 * - `rugged`: an NK landscape with K = 3 (Kauffman and Weinberger 1989): what a member adds depends on three others.
 * - `nas`: a random network of two tanh layers on the members, then bent so that there are many good candidates and few
 *   very bad ones, as in tables of trained architectures.
 *
 * Run as a program it prints surfaces as JSON for whoever does not speak JavaScript:
 *
 *   node test/tools/surfaces.mjs MEMBERS REPEATS
 */
import { fileURLToPath } from "node:url";

export const SURFACES = ["additive", "pairwise", "rugged", "nas"];

/** Numbers in [0, 1): mulberry32. Plain, and the same everywhere; these are test surfaces. */
export function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Standard normal draws from uniform ones. */
export function normals(random) {
  return () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

function standardised(values) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const deviation = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
  return values.map((value) => (value - mean) / deviation);
}

const signOf = (candidate, member) => ((candidate >> member) & 1 ? 1 : -1);

function mains(members, normal) {
  const effects = Array.from({ length: members }, normal);
  return (candidate) => effects.reduce((sum, effect, member) => sum + effect * signOf(candidate, member), 0);
}

function pairs(members, normal) {
  const effects = Array.from({ length: members }, (_, a) => Array.from({ length: a }, normal));
  return (candidate) => {
    let sum = 0;
    for (const [a, row] of effects.entries())
      for (const [b, effect] of row.entries()) sum += effect * signOf(candidate, a) * signOf(candidate, b);
    return sum;
  };
}

const table = (members, of) =>
  standardised(Float64Array.from({ length: 2 ** members }, (_, candidate) => of(candidate)));

function pairwise(members, normal) {
  const [main, pair] = [table(members, mains(members, normal)), table(members, pairs(members, normal))];
  return (candidate) => Math.sqrt(0.6) * main[candidate] + Math.sqrt(0.4) * pair[candidate];
}

function rugged(members, random) {
  const others = Math.min(3, members - 1);
  const loci = Array.from({ length: members }, (_, member) => {
    const seen = [member];
    while (seen.length <= others) {
      const other = Math.floor(random() * members);
      if (!seen.includes(other)) seen.push(other);
    }
    return { seen, adds: Array.from({ length: 2 ** seen.length }, random) };
  });
  return (candidate) =>
    loci.reduce(
      (sum, { seen, adds }) =>
        sum + adds[seen.reduce((at, member, bit) => at | (((candidate >> member) & 1) << bit), 0)],
      0,
    );
}

function nas(members, normal) {
  const width = 16;
  const layer = (inputs, outputs) =>
    Array.from({ length: outputs }, () => Array.from({ length: inputs }, () => normal() / Math.sqrt(inputs)));
  // One-hot: a member that is there, and one that is not, have weights of their own.
  const [first, second, last] = [layer(2 * members, width), layer(width, width), layer(width, 1)];
  const times = (rows, input) => rows.map((row) => row.reduce((sum, weight, i) => sum + weight * input[i], 0));
  const raw = table(members, (candidate) => {
    const input = Array.from({ length: 2 * members }, (_, i) => (((candidate >> (i >> 1)) & 1) === (i & 1) ? 1 : 0));
    const hidden = times(first, input).map((value) => Math.tanh(2 * value));
    return times(
      last,
      times(second, hidden).map((value) => Math.tanh(2 * value)),
    )[0];
  });
  return (candidate) => -Math.log1p(Math.exp(-1.5 * raw[candidate]));
}

/** The values of all candidates. */
export function surfaceOf(kind, members, seed) {
  const random = generator(seed * 4 + SURFACES.indexOf(kind) + 1);
  const normal = normals(random);
  switch (kind) {
    case "additive":
      return table(members, mains(members, normal));
    case "pairwise":
      return table(members, pairwise(members, normal));
    case "rugged":
      return table(members, rugged(members, random));
    case "nas":
      return table(members, nas(members, normal));
    default:
      throw new RangeError(`no surface \`${kind}\``);
  }
}

/** The space of all subsets of so many members, as methods see it. */
export function subsetsOf(members) {
  const factors = Array.from({ length: members }, (_, member) => ({
    name: `spots.m${member + 1}`,
    kind: "member",
    optional: true,
    levels: ["", `m${member + 1}`],
    values: undefined,
  }));
  const count = 2 ** members;
  const levels = new Uint8Array(count * members);
  for (let candidate = 0; candidate < count; candidate++)
    for (let member = 0; member < members; member++) levels[candidate * members + member] = (candidate >> member) & 1;
  return { factors, levels, count, costs: [] };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [members, repeats] = process.argv.slice(2).map(Number);
  const written = SURFACES.map((kind) => [
    kind,
    Array.from({ length: repeats }, (_, seed) => Array.from(surfaceOf(kind, members, seed))),
  ]);
  process.stdout.write(JSON.stringify(Object.fromEntries(written)));
}
