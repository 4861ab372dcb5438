/**
 * What each position contributes: Shapley values on the model of a study, exactly, with the model's own intervals.
 *
 * The game. A player is a member of a chosen subset or an optional choice; in a coalition it is there, outside it is
 * absent. A choice that is there takes its options with equal weights, together with what is nested in it; everything that
 * is no player (a rate, a choice without "absent") takes all its levels with equal weights, in every coalition. v(S) is the
 * model's mean of that, over the product of all these, whether or not a requirement refuses some of it. φ is a player's
 * marginal contribution averaged over all orders in which players may come (Shapley 1953), and the φ of all players add
 * up to v(all) − v(none). For two players, what they add together beyond each alone is averaged in the same way (the
 * interaction index: Grabisch and Roubens 1999).
 *
 * Nothing is sampled and no coalition enumerated. The kernel is a sum over factors, a sum over pairs of them and a product
 * over them; of such functions the average over coalitions has a closed form, the product's by a polynomial whose k-th
 * coefficient gathers the coalitions of k players. φ is a linear functional of the Gaussian process, so it is normal a
 * posteriori, with a variance that comes from the same sums over pairs of coalitions.
 */
import type { Factor } from "../../../compiler/search/search.ts";
import { solveLower } from "../methods/cholesky.ts";
import { type Fit, fitGaussian } from "../methods/gaussian.ts";
import type { FactorKernel } from "../methods/kernel.ts";
import type { Candidates, Knowledge } from "../propose.ts";

export interface Contribution {
  /** Mean, and interval of 95 %, a posteriori; in the units of the values. */
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

export interface Importance {
  readonly positions: readonly (Contribution & { readonly name: string; readonly factor: number })[];
  readonly pairs: readonly (Contribution & { readonly first: string; readonly second: string })[];
  /** v of no player and of all players. */
  readonly none: number;
  readonly all: number;
  readonly method: string;
  readonly notes: readonly string[];
}

const Z = 1.959963984540054;

/** A factor and what is nested in it, with the rows of levels that they take together. */
interface Group {
  readonly name: string;
  readonly factor: number;
  readonly kernels: readonly FactorKernel[];
  readonly player: boolean;
  /** Rows of levels of the whole space (only the group's own factors count), with equal weights: outside, and inside. */
  readonly off: readonly Uint8Array[];
  readonly on: readonly Uint8Array[];
}

/** The factor that another is nested in, at the root: `joint` for `joint.unit.reduction`. */
function rootOf(factors: readonly Factor[], index: number): number {
  const name = factors[index]?.name ?? "";
  for (let dot = name.indexOf("."); dot >= 0; dot = name.indexOf(".", dot + 1)) {
    const found = factors.findIndex((factor) => factor.name === name.slice(0, dot));
    if (found >= 0) return found;
  }
  return index;
}

function groupsOf({ factors, levels, count }: Candidates, kernels: readonly FactorKernel[]): readonly Group[] {
  const width = factors.length;
  const roots = factors.map((_, index) => rootOf(factors, index));
  return [...new Set(roots)].flatMap((root) => {
    const own = factors.map((_, index) => index).filter((index) => roots[index] === root);
    const inGroup = kernels.filter(({ factor }) => own.includes(factor));
    if (inGroup.length === 0) return [];
    const rows = new Map<string, Uint8Array>();
    for (let i = 0; i < count; i++) {
      const row = levels.subarray(i * width, (i + 1) * width);
      const key = own.map((index) => row[index]).join();
      if (!rows.has(key)) rows.set(key, row);
    }
    const all = [...rows.values()];
    const factor = factors[root];
    const off = all.filter((row) => row[root] === 0);
    const on = all.filter((row) => row[root] !== 0);
    const player = factor !== undefined && factor.optional && off.length > 0 && on.length > 0;
    const name = factor?.name ?? "";
    return [{ name, factor: root, kernels: inGroup, player, off: player ? off : all, on: player ? on : all }];
  });
}

/** What a group is to a row of levels, or to another distribution: sum, sum over pairs, product. */
interface Sums {
  readonly main: number;
  readonly pair: number;
  readonly product: number;
}

function sumsBetween({ kernels }: Group, decay: number, a: Uint8Array, b: Uint8Array): Sums {
  let [main, squares, product] = [0, 0, 1];
  for (const kernel of kernels) {
    const at = (a[kernel.factor] ?? 0) * kernel.levels + (b[kernel.factor] ?? 0);
    const value = kernel.main[at] ?? 0;
    main += value;
    squares += value * value;
    product *= decay + (1 - decay) * (kernel.alike[at] ?? 0);
  }
  return { main, pair: (main * main - squares) / 2, product };
}

function averageSums(group: Group, decay: number, first: readonly Uint8Array[], second: readonly Uint8Array[]): Sums {
  let [main, pair, product] = [0, 0, 0];
  for (const a of first)
    for (const b of second) {
      const sums = sumsBetween(group, decay, a, b);
      main += sums.main;
      pair += sums.pair;
      product += sums.product;
    }
  const many = first.length * second.length;
  return { main: main / many, pair: pair / many, product: product / many };
}

/**
 * A function of coalitions, by group: its parts for every state that the group may be in. One coalition has two states,
 * outside and inside; two coalitions, as variances need, have four, the second's inside counting two.
 */
type Parts = readonly (readonly Sums[])[];

/** The change from outside to inside, for one coalition or for both. */
function change(parts: readonly Sums[] | undefined, of: keyof Sums): number {
  const at = (state: number): number => parts?.[state]?.[of] ?? 0;
  return parts?.length === 4 ? at(3) - at(1) - at(2) + at(0) : at(1) - at(0);
}

function average(parts: readonly Sums[], of: keyof Sums): number {
  return parts.reduce((sum, part) => sum + part[of], 0) / parts.length;
}

/**
 * Σ over coalitions of the players that are left, of weight(size) × Π of the groups' products: for one coalition, or for
 * two with a weight each. `weights` are by size.
 */
function coalitionSum(
  parts: Parts,
  groups: readonly Group[],
  left: readonly number[],
  weights: readonly number[],
): number {
  const several = parts[0]?.length === 4;
  const size = left.length + 1;
  // Entry a + size·b gathers the pairs of coalitions with a and b players.
  let gathered = new Float64Array(several ? size * size : size);
  gathered[0] = 1;
  for (const [index, group] of groups.entries()) {
    const own = parts[index] ?? [];
    if (!group.player) {
      const factor = own[0]?.product ?? 1;
      gathered = gathered.map((value) => value * factor);
    } else if (left.includes(index)) {
      const next = new Float64Array(gathered.length);
      for (const [state, { product }] of own.entries()) {
        const shift = (state & 1) + (state & 2 ? size : 0);
        for (let at = 0; at + shift < next.length; at++)
          next[at + shift] = (next[at + shift] ?? 0) + (gathered[at] ?? 0) * product;
      }
      gathered = next;
    }
  }
  let sum = 0;
  for (let at = 0; at < gathered.length; at++)
    sum += (gathered[at] ?? 0) * (weights[at % size] ?? 0) * (several ? (weights[Math.floor(at / size)] ?? 0) : 1);
  return sum;
}

/** k! (n − k)! / (n + 1)! for k from 0 to n: how often a coalition of k of n others comes before a player. */
function orderWeights(n: number): readonly number[] {
  const weights: number[] = [];
  let weight = 1 / (n + 1);
  for (let k = 0; k <= n; k++) {
    weights.push(weight);
    weight *= (k + 1) / Math.max(1, n - k);
  }
  return weights;
}

interface Scales {
  readonly main: number;
  readonly pair: number;
  readonly rest: number;
}

function scalesOf({ shape, kernels: { length: d } }: Fit): Scales {
  return { main: shape.main / d, pair: d < 2 ? 0 : (2 * shape.pair) / (d * (d - 1)), rest: shape.rest };
}

/** The Shapley value of a group for the function of coalitions that `parts` make with the kernel's weights. */
function shapleyOf(
  parts: Parts,
  groups: readonly Group[],
  players: readonly number[],
  player: number,
  scales: Scales,
): number {
  const own = parts[player];
  let others = 0;
  for (const [index, part] of parts.entries()) if (index !== player) others += average(part, "main");
  const left = players.filter((index) => index !== player);
  const products = change(own, "product") * coalitionSum(parts, groups, left, orderWeights(left.length));
  const main = change(own, "main");
  return scales.main * main + scales.pair * (change(own, "pair") + main * others) + scales.rest * products;
}

function interactionOf(
  parts: Parts,
  groups: readonly Group[],
  players: readonly number[],
  [first, second]: readonly [number, number],
  scales: Scales,
): number {
  const left = players.filter((index) => index !== first && index !== second);
  const products =
    change(parts[first], "product") *
    change(parts[second], "product") *
    coalitionSum(parts, groups, left, orderWeights(left.length));
  return scales.pair * change(parts[first], "main") * change(parts[second], "main") + scales.rest * products;
}

/** The value of the coalition of none (state 0) or all (state 1) of the players. */
function valueOf(parts: Parts, state: 0 | 1, scales: Scales): number {
  let [sum, squares, pair, product] = [0, 0, 0, 1];
  for (const part of parts) {
    const own = part[state];
    if (own === undefined) continue;
    sum += own.main;
    squares += own.main * own.main;
    pair += own.pair;
    product *= own.product;
  }
  return scales.main * sum + scales.pair * (pair + (sum * sum - squares) / 2) + scales.rest * product;
}

/** A posteriori: mean and interval of a linear functional with these covariances to the rows, and this prior variance. */
function contributionOf(fit: Fit, covariances: Float64Array, prior: number): Contribution {
  const { observed, rows, basis, basisFactor } = fit;
  let value = 0;
  for (let row = 0; row < observed; row++) value += (fit.weights[row] ?? 0) * (covariances[row] ?? 0);
  const solved = covariances.slice(0, observed);
  solveLower(fit.lower, rows, observed, solved, 1);
  let left = prior;
  for (const each of solved) left -= each * each;
  // A difference of values has no mean of its own, but the estimate of the means moves with it.
  const rest = Float64Array.from(basis, (own) => -own.reduce((sum, each, row) => sum + each * (solved[row] ?? 0), 0));
  solveLower(basisFactor, basis.length, basis.length, rest, 1);
  const variance = Math.max(0, left) + rest.reduce((sum, each) => sum + each * each, 0);
  const half = Z * Math.sqrt(variance * fit.variance);
  return { value, low: value - half, high: value + half };
}

const METHOD =
  "exact Shapley values of the Gaussian process's mean over the product of all members and choices; 95 % posterior intervals";

/**
 * Contributions of all positions, and of all pairs of them; undefined where nothing is known or nothing is optional.
 * @param known what trials have shown; those under way are left out
 */
export function importanceOf(known: Knowledge): Importance | undefined {
  const fit = fitGaussian({ ...known, pending: [] });
  if (fit === undefined) return undefined;
  const groups = groupsOf(known.candidates, fit.kernels);
  const players = groups.flatMap(({ player }, index) => (player ? [index] : []));
  if (players.length === 0) return undefined;
  const { decay } = fit.shape;
  const scales = scalesOf(fit);
  const byRow = Array.from({ length: fit.observed }, (_, row): Parts => {
    const levels = [fit.rowLevels.subarray(row * fit.width, (row + 1) * fit.width)];
    return groups.map((group) => [group.off, group.on].map((states) => averageSums(group, decay, states, levels)));
  });
  const prior: Parts = groups.map((group) =>
    [group.off, group.on].flatMap((second) =>
      [group.off, group.on].map((first) => averageSums(group, decay, first, second)),
    ),
  );
  const functional = (of: (parts: Parts) => number): Contribution =>
    contributionOf(
      fit,
      Float64Array.from(byRow, (parts, row) => (fit.discounts[row] ?? 1) * of(parts)),
      of(prior),
    );
  const value = (state: 0 | 1): number =>
    byRow.reduce(
      (sum, parts, row) => sum + (fit.weights[row] ?? 0) * (fit.discounts[row] ?? 1) * valueOf(parts, state, scales),
      fit.mean,
    );
  const nameOf = (index: number): string => groups[index]?.name ?? "";
  const others = groups.filter(({ player }) => !player).map(({ name }) => `\`${name}\``);
  return {
    positions: players.map((player) => ({
      name: nameOf(player),
      factor: groups[player]?.factor ?? 0,
      ...functional((parts) => shapleyOf(parts, groups, players, player, scales)),
    })),
    pairs: players.flatMap((first, index) =>
      players.slice(index + 1).map((second) => ({
        first: nameOf(first),
        second: nameOf(second),
        ...functional((parts) => interactionOf(parts, groups, players, [first, second], scales)),
      })),
    ),
    none: value(0),
    all: value(1),
    method: METHOD,
    notes: [
      ...(players.some((index) => (groups[index]?.on.length ?? 0) > 1)
        ? ["A choice that is there takes its options with equal weights."]
        : []),
      ...(others.length > 0 ? [`All levels of ${others.join(", ")} count equally.`] : []),
    ],
  };
}
