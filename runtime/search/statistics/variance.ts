/**
 * What differences between candidates come from: the variance of the model's mean over the space, in shares of single
 * choices and of pairs of them (functional analysis of variance: Hooker 2004; Hutter, Hoos and Leyton-Brown 2014).
 *
 * Every position is there or not with probability ½, every option counts equally, all independently of each other. The
 * share of a choice is the variance of the mean given what it is; that of a pair, what both together explain beyond each.
 * Those conditional means have the closed form of game.ts; the whole variance is that of all points where there are few,
 * else of points drawn from a fixed seed. A share says how much a choice matters, and not in which direction.
 */

import { drawsOf } from "../methods/draws.ts";
import { crossCovariance, type Fit } from "../methods/gaussian.ts";
import {
  averageSums,
  expectations,
  type Game,
  type Group,
  type Parts,
  type Scales,
  type State,
  type Sums,
  sumsBetween,
} from "./game.ts";

export interface VarianceShares {
  /** By choice: index of its factor, and its share of the variance, 0 to 1. */
  readonly main: readonly { readonly factor: number; readonly share: number }[];
  readonly pairs: readonly { readonly first: number; readonly second: number; readonly share: number }[];
  /** What neither single choices nor pairs explain. */
  readonly rest: number;
  /** Standard deviation of the model's mean over the space, in the units of the values. */
  readonly deviation: number;
  /** Points that the whole variance is of, and whether they are all. */
  readonly points: number;
  readonly exact: boolean;
}

/** Up to so many points, all are looked at; else so many are drawn. */
const POINTS = 8192;
/** Pairs of choices that are looked at. */
const MOST_PAIRS = 2000;

/** What a choice may be, with its probability. */
interface Level extends State {
  readonly inside: boolean;
}

function levelsOf({ kind, off, on }: Group): readonly Level[] {
  if (kind !== "player") return on.map((state) => ({ ...state, inside: true }));
  return [
    ...off.map(({ row, weight }) => ({ row, weight: weight / 2, inside: false })),
    ...on.map(({ row, weight }) => ({ row, weight: weight / 2, inside: true })),
  ];
}

function varianceOf(values: readonly { readonly value: number; readonly weight: number }[]): number {
  const mean = values.reduce((sum, { value, weight }) => sum + weight * value, 0);
  return values.reduce((sum, { value, weight }) => sum + weight * (value - mean) ** 2, 0);
}

/** Points of the game as rows of levels: all of them, or some that are drawn. */
function pointsOf(
  game: Game,
  width: number,
): { readonly levels: Uint8Array; readonly weights: Float64Array; readonly exact: boolean } {
  const { groups, bundles } = game;
  const choices = groups.map(levelsOf);
  const size = choices.reduce((product, levels) => product * levels.length, 1);
  const exact = size <= POINTS;
  const count = exact ? size : POINTS;
  const levels = new Uint8Array(count * width);
  const weights = new Float64Array(count);
  const draws = drawsOf(0, "variance", 0);
  for (let point = 0; point < count; point++) {
    let rest = point;
    let weight = 1;
    const chosen = choices.map((own): Level | undefined => {
      if (exact) {
        const level = own[rest % own.length];
        rest = Math.floor(rest / own.length);
        weight *= level?.weight ?? 0;
        return level;
      }
      let left = draws.uniform();
      return own.find((level) => (left -= level.weight) < 0) ?? own.at(-1);
    });
    weights[point] = exact ? weight : 1 / count;
    for (const [index, group] of groups.entries()) {
      const empty =
        group.kind === "follower" &&
        (bundles[group.bundle]?.members.every((member) => chosen[member]?.inside !== true) ?? false);
      const row = empty ? group.off[0]?.row : chosen[index]?.row;
      for (const factor of group.own) levels[point * width + factor] = row?.[factor] ?? 0;
    }
  }
  return { levels, weights, exact };
}

const BLOCK = 1024;

/** The model's mean at points. */
function meansAt(fit: Fit, levels: Uint8Array): readonly number[] {
  const { width, observed } = fit;
  const means: number[] = [];
  for (let from = 0; from < levels.length; from += BLOCK * width) {
    const points = levels.subarray(from, from + BLOCK * width);
    const size = points.length / width;
    const cross = crossCovariance(fit, points);
    for (let i = 0; i < size; i++) {
      let sum = fit.mean;
      for (let row = 0; row < observed; row++) sum += (fit.weights[row] ?? 0) * (cross[row * size + i] ?? 0);
      means.push(sum);
    }
  }
  return means;
}

/** Shares of the variance of the model's mean. */
export function varianceShares(fit: Fit, game: Game, scales: Scales): VarianceShares {
  const { groups } = game;
  const { decay } = fit.shape;
  const choices = groups.map(levelsOf);
  const rows = Array.from({ length: fit.observed }, (_, row) => {
    const levels = fit.rowLevels.subarray(row * fit.width, (row + 1) * fit.width);
    const own: readonly State[] = [{ row: levels, weight: 1 }];
    const parts: Parts = groups.map((group) => {
      const off = averageSums(group, decay, group.off, own);
      const on = averageSums(group, decay, group.on, own);
      return [off, on, off, on];
    });
    const byLevel: readonly (readonly Sums[])[] = groups.map((group, index) =>
      (choices[index] ?? []).map((level) => sumsBetween(group, decay, level.row, levels)),
    );
    return { parts, byLevel, weight: (fit.weights[row] ?? 0) * (fit.discounts[row] ?? 1) };
  });
  const varied = groups.flatMap((_, group) => ((choices[group]?.length ?? 0) < 2 ? [] : [group]));
  const pairs = varied.flatMap((first, k) => varied.slice(k + 1).map((second) => [first, second] as const));
  const looked = pairs.length > MOST_PAIRS ? [] : pairs;
  type Question = { readonly at: readonly (readonly [group: number, level: number])[]; readonly weight: number };
  const singles = groups.map((_, group): readonly Question[] =>
    (choices[group] ?? []).map(({ weight }, level) => ({ at: [[group, level]], weight })),
  );
  const both = looked.map(([first, second]): readonly Question[] =>
    (choices[first] ?? []).flatMap((a, i) =>
      (choices[second] ?? []).map((b, j) => ({
        at: [
          [first, i],
          [second, j],
        ],
        weight: a.weight * b.weight,
      })),
    ),
  );
  const questions = [...singles, ...both].flat();
  const answers = new Float64Array(questions.length).fill(fit.mean);
  for (const { parts, byLevel, weight } of rows) {
    const own = expectations(
      game,
      parts,
      0.5,
      scales,
      questions.map(({ at }) =>
        at.flatMap(([group, level]) => {
          const sums = byLevel[group]?.[level];
          return sums === undefined ? [] : [{ group, sums, inside: choices[group]?.[level]?.inside === true }];
        }),
      ),
    );
    for (const [k, value] of own.entries()) answers[k] = (answers[k] ?? 0) + weight * value;
  }
  let next = 0;
  const explained = (asked: readonly Question[]): number =>
    varianceOf(asked.map(({ weight }) => ({ value: answers[next++] ?? 0, weight })));
  const single = singles.map(explained);
  const joint = looked.map(([first, second], k) => ({
    first,
    second,
    variance: Math.max(0, explained(both[k] ?? []) - (single[first] ?? 0) - (single[second] ?? 0)),
  }));
  const { levels, weights, exact } = pointsOf(game, fit.width);
  const drawn = varianceOf(meansAt(fit, levels).map((value, point) => ({ value, weight: weights[point] ?? 0 })));
  const parts = single.reduce((sum, value) => sum + value, 0) + joint.reduce((sum, { variance }) => sum + variance, 0);
  // Drawn points may fall short of what the parts have in closed form.
  const total = Math.max(drawn, parts, Number.MIN_VALUE);
  const factorOf = (group: number): number => groups[group]?.factor ?? 0;
  return {
    // What is there in one way only makes no difference.
    main: single.flatMap((variance, group) =>
      (choices[group]?.length ?? 0) < 2 ? [] : [{ factor: factorOf(group), share: variance / total }],
    ),
    pairs: joint.map(({ first, second, variance }) => ({
      first: factorOf(first),
      second: factorOf(second),
      share: variance / total,
    })),
    rest: Math.max(0, 1 - parts / total),
    deviation: Math.sqrt(total),
    points: weights.length,
    exact,
  };
}
