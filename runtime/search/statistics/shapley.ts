/**
 * What each position contributes: Shapley values on the model of a study, exactly, with the model's own intervals.
 *
 * v(S) is the model's mean over the points of a coalition S of the game (game.ts), whether or not a requirement refuses
 * some of them. φ is a player's marginal contribution averaged over all orders in which players may come (Shapley 1953),
 * and the φ of all players add up to v(all) − v(none). For two players, what they add together beyond each alone is
 * averaged in the same way (the interaction index: Grabisch and Roubens 1999).
 *
 * Where a player has several options, φ is of the average of them and not of the best: φ is linear in what a player is
 * where it is there, so it is the weighted mean of values of each option, which are given too. The same for followers:
 * with several units, a position's value is the mean of its values with each unit alone.
 *
 * φ is a linear functional of the Gaussian process, so it is normal a posteriori, with a variance that comes from the same
 * sums over pairs of coalitions.
 */
import { solveLower } from "../methods/cholesky.ts";
import { type Fit, fitGaussian } from "../methods/gaussian.ts";
import type { Candidates, Knowledge } from "../propose.ts";
import {
  averageChanges,
  averageSums,
  expectations,
  type Game,
  type Group,
  gameOf,
  type Parts,
  type Scales,
  type State,
  scalesOf,
} from "./game.ts";
import { type VarianceShares, varianceShares } from "./variance.ts";

export interface Contribution {
  /** Mean, and interval of 95 %, a posteriori; in the units of the values. */
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

/** A position with one of several options alone. */
export interface OptionContribution extends Contribution {
  /** Index of the factor of the position. */
  readonly factor: number;
  /** The factor whose option it is (the position itself, or what follows it), and levels of all that belongs to it. */
  readonly of: number;
  readonly levels: readonly { readonly factor: number; readonly level: number }[];
  /** Its part in the position's own value. */
  readonly weight: number;
}

export interface Importance {
  readonly positions: readonly (Contribution & { readonly name: string; readonly factor: number })[];
  readonly pairs: readonly (Contribution & { readonly first: string; readonly second: string })[];
  /** Only where there is more than one. */
  readonly options: readonly OptionContribution[];
  /** v of no player and of all players. */
  readonly none: number;
  readonly all: number;
  readonly variance: VarianceShares;
  readonly method: string;
  readonly notes: readonly string[];
}

const Z = 1.959963984540054;

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

/** The parts of each observed row, and of two coalitions. */
function partsOf(fit: Fit, { groups }: Game): { readonly byRow: readonly Parts[]; readonly prior: Parts } {
  const { decay } = fit.shape;
  const byRow = Array.from({ length: fit.observed }, (_, row): Parts => {
    const levels: readonly State[] = [
      { row: fit.rowLevels.subarray(row * fit.width, (row + 1) * fit.width), weight: 1 },
    ];
    return groups.map((group) => {
      const off = averageSums(group, decay, group.off, levels);
      const on = group.kind === "free" ? off : averageSums(group, decay, group.on, levels);
      return [off, on, off, on];
    });
  });
  const prior: Parts = groups.map((group) => {
    const of = (first: readonly State[], second: readonly State[]): ReturnType<typeof averageSums> =>
      averageSums(group, decay, first, second);
    const { off, on } = group;
    return [of(off, off), of(on, off), of(off, on), of(on, on)];
  });
  return { byRow, prior };
}

/** Contributions of sets of players. */
function contributionsOf(
  fit: Fit,
  game: Game,
  targets: readonly (readonly number[])[],
  scales: Scales,
): readonly Contribution[] {
  const { byRow, prior } = partsOf(fit, game);
  const rows = byRow.map((parts) => averageChanges(game, parts, targets, scales, 1));
  const variances = averageChanges(game, prior, targets, scales, 2);
  return targets.map((_, k) =>
    contributionOf(
      fit,
      Float64Array.from(rows, (own, row) => (fit.discounts[row] ?? 1) * (own[k] ?? 0)),
      variances[k] ?? 0,
    ),
  );
}

/** Options that are told apart: of the root where it has several, else everything within its one. */
function optionsOf({ on, factor }: Group): readonly (readonly State[])[] {
  const byLevel = new Map<number, State[]>();
  for (const state of on) {
    const level = state.row[factor] ?? 0;
    const known = byLevel.get(level);
    if (known === undefined) byLevel.set(level, [state]);
    else known.push(state);
  }
  return byLevel.size > 1 ? [...byLevel.values()] : on.map((state) => [state]);
}

/** More options than a table has room for. */
const MOST_OPTIONS = 8;

/** Values of positions with one option alone, where there are several. */
function byOption(fit: Fit, game: Game, scales: Scales): readonly OptionContribution[] {
  return game.groups.flatMap((group, index) => {
    const options = optionsOf(group);
    const whose = group.kind === "player" ? [index] : (game.bundles[group.bundle]?.members ?? []);
    if (group.kind === "free" || options.length < 2 || options.length > MOST_OPTIONS) return [];
    return options.flatMap((states) => {
      const weight = states.reduce((sum, state) => sum + state.weight, 0);
      const on = states.map((state) => ({ ...state, weight: state.weight / weight }));
      const groups = game.groups.map((other, k) => (k === index ? { ...other, on } : other));
      const targets = whose.map((player) => [player]);
      const [first] = on;
      // What differs among the states of one option is not its name.
      const levels = group.own.flatMap((factor) => {
        const level = first?.row[factor] ?? 0;
        const named = level > 0 || factor === group.factor;
        return named && on.every(({ row }) => row[factor] === level) ? [{ factor, level }] : [];
      });
      return contributionsOf(fit, { ...game, groups }, targets, scales).map((found, k) => ({
        ...found,
        factor: game.groups[whose[k] ?? -1]?.factor ?? 0,
        of: group.factor,
        levels,
        weight,
      }));
    });
  });
}

const METHOD =
  "exact Shapley values of the Gaussian process's mean over the product of all members and choices; 95 % posterior intervals";

const quoted = (groups: readonly Group[]): string => groups.map(({ name }) => `\`${name}\``).join(", ");

function notesOf({ groups }: Game): readonly string[] {
  const followers = groups.filter(({ kind, on }) => kind === "follower" && on.length > 0);
  const several = groups.filter(({ kind, on }) => kind === "player" && on.length > 1);
  const free = groups.filter(({ kind }) => kind === "free");
  return [
    ...(followers.length > 0
      ? [
          `${quoted(followers)} ${followers.length === 1 ? "is" : "are"} there with the positions and counted with them${followers.some(({ on }) => on.length > 1) ? ", all options equally: a position's value is the mean of its values with each option, not its value with the best one" : ""}.`,
        ]
      : []),
    ...(several.length > 0
      ? [
          `${several.length === 1 ? "One position has" : "Positions have"} several options (${quoted(several)}), which count equally: a value is of the average option, not of the best one.`,
        ]
      : []),
    ...(free.length > 0 ? [`All levels of ${quoted(free)} count equally.`] : []),
  ];
}

/**
 * Contributions of all positions, and of all pairs of them; undefined where nothing is known or nothing is optional.
 * @param known what trials have shown; those under way are left out
 * @param space all candidates, also those that are refused: what plays is a matter of what there is, not of what may be
 * trained; and the factors that models depend on, see `gameOf`
 */
export function importanceOf(
  known: Knowledge,
  space: { readonly candidates?: Candidates; readonly modelFactors?: readonly number[] | undefined } = {},
): Importance | undefined {
  const fit = fitGaussian({ ...known, pending: [] });
  if (fit === undefined) return undefined;
  const game = gameOf(space.candidates ?? known.candidates, fit.kernels, space.modelFactors);
  const { groups, players } = game;
  if (players.length === 0) return undefined;
  const scales = scalesOf(fit);
  const pairs = players.flatMap((first, k) => players.slice(k + 1).map((second) => [first, second] as const));
  const found = contributionsOf(fit, game, [...players.map((player) => [player]), ...pairs], scales);
  const nothing: Contribution = { value: Number.NaN, low: Number.NaN, high: Number.NaN };
  const { byRow } = partsOf(fit, game);
  const value = (t: 0 | 1): number =>
    byRow.reduce(
      (sum, parts, row) =>
        sum +
        (fit.weights[row] ?? 0) * (fit.discounts[row] ?? 1) * (expectations(game, parts, t, scales, [[]])[0] ?? 0),
      fit.mean,
    );
  const nameOf = (index: number): string => groups[index]?.name ?? "";
  return {
    positions: players.map((player, k) => ({
      name: nameOf(player),
      factor: groups[player]?.factor ?? 0,
      ...(found[k] ?? nothing),
    })),
    pairs: pairs.map(([first, second], k) => ({
      first: nameOf(first),
      second: nameOf(second),
      ...(found[players.length + k] ?? nothing),
    })),
    options: byOption(fit, game, scales),
    none: value(0),
    all: value(1),
    variance: varianceShares(fit, game, scales),
    method: METHOD,
    notes: notesOf(game),
  };
}
