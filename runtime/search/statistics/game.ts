/**
 * The game that contributions are computed from, and its expectations on the model of a study.
 *
 * A player is a member of a chosen subset, or an optional choice with what is nested in it: in a coalition it is there,
 * outside it is absent. A choice that matters only where one of certain members is there (the unit of a graft at chosen
 * positions) is no player but a follower of these: where any of them is in the coalition it takes its options, where none
 * is it is as the space writes it there. Everything else (a rate) is free: it takes all its levels in every coalition.
 * Options count equally, and so do those within an option, so that a unit with three ratios weighs no more than one with
 * one.
 *
 * The kernel is a sum over factors, a sum over pairs of them and a product over them. Where every player is there with
 * probability t independently of the others, the expectation of each of these has a closed form; followers make a few
 * cases of it. Averages over all orders of players are integrals of such expectations over t (Owen 1972), polynomials in
 * t, which Gauss and Legendre's nodes integrate exactly. Nothing is sampled.
 */
import type { Factor } from "../../../compiler/search/search.ts";
import type { Fit } from "../methods/gaussian.ts";
import type { FactorKernel } from "../methods/kernel.ts";
import type { Candidates } from "../propose.ts";

/** Levels that a group's factors take together, as a row of the whole space, with a probability. */
export interface State {
  readonly row: Uint8Array;
  readonly weight: number;
}

/** A factor and what is nested in it. */
export interface Group {
  readonly name: string;
  /** Index of the factor. */
  readonly factor: number;
  /** All its factors, the root first. */
  readonly own: readonly number[];
  readonly kernels: readonly FactorKernel[];
  readonly kind: "player" | "follower" | "free";
  /** Among `Game.bundles`; −1: none. */
  readonly bundle: number;
  /** Outside a coalition and inside it; the same for what is free. */
  readonly off: readonly State[];
  readonly on: readonly State[];
}

export interface Game {
  readonly groups: readonly Group[];
  /** Indices of groups. */
  readonly players: readonly number[];
  /** Members, with those that follow them. */
  readonly bundles: readonly { readonly members: readonly number[]; readonly followers: readonly number[] }[];
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

/** Rows with equal weights for the options of each factor, one after the other. */
function weighted(rows: readonly Uint8Array[], own: readonly number[]): readonly State[] {
  const share = (some: readonly Uint8Array[], depth: number, weight: number): readonly State[] => {
    const factor = own[depth];
    if (factor === undefined) return some.map((row) => ({ row, weight: weight / some.length }));
    const levels = [...new Set(some.map((row) => row[factor] ?? 0))];
    return levels.flatMap((level) =>
      share(
        some.filter((row) => row[factor] === level),
        depth + 1,
        weight / levels.length,
      ),
    );
  };
  return share(rows, 0, 1);
}

interface Root {
  readonly root: number;
  readonly own: readonly number[];
  readonly rows: readonly Uint8Array[];
}

/** Different rows of a group among some candidates. */
function rowsAmong(
  { factors, levels, count }: Candidates,
  own: readonly number[],
  among: (row: Uint8Array) => boolean,
): readonly Uint8Array[] {
  const width = factors.length;
  const rows = new Map<string, Uint8Array>();
  for (let i = 0; i < count; i++) {
    const row = levels.subarray(i * width, (i + 1) * width);
    if (!among(row)) continue;
    const key = own.map((index) => row[index]).join();
    if (!rows.has(key)) rows.set(key, row);
  }
  return [...rows.values()];
}

/** Members that a choice follows: where none of them is there it is always the same, and where one is it is not. */
function followed(
  candidates: Candidates,
  { root, own }: Root,
  sets: readonly (readonly number[])[],
):
  | { readonly set: readonly number[]; readonly off: readonly Uint8Array[]; readonly on: readonly Uint8Array[] }
  | undefined {
  if (candidates.factors[root]?.kind === "member") return undefined;
  for (const set of sets) {
    const none = (row: Uint8Array): boolean => set.every((factor) => row[factor] === 0);
    const off = rowsAmong(candidates, own, none);
    const on = rowsAmong(candidates, own, (row) => !none(row));
    const [only] = off;
    if (only === undefined || off.length > 1 || on.length === 0) continue;
    const same = on.every((row) => own.every((factor) => row[factor] === only[factor]));
    // What is there and absent whatever the members are is a player of its own.
    const absent = candidates.factors[root]?.optional === true && on.some((row) => row[root] === 0);
    if (!same && !absent) return { set, off, on };
  }
  return undefined;
}

/**
 * The game of a space.
 * @param modelFactors factors that the models depend on; a choice of the recipe follows nobody
 */
export function gameOf(
  candidates: Candidates,
  kernels: readonly FactorKernel[],
  modelFactors?: readonly number[],
): Game {
  const { factors } = candidates;
  const roots = factors.map((_, index) => rootOf(factors, index));
  const all = [...new Set(roots)].flatMap((root): readonly Root[] => {
    const own = factors.map((_, index) => index).filter((index) => roots[index] === root);
    if (!kernels.some(({ factor }) => own.includes(factor))) return [];
    return [{ root, own, rows: rowsAmong(candidates, own, () => true) }];
  });
  const isPlayer = ({ root, rows }: Root): boolean =>
    factors[root]?.optional === true &&
    rows.some((row) => row[root] === 0) &&
    rows.some((row) => (row[root] ?? 0) !== 0);
  const members = all.filter((one) => factors[one.root]?.kind === "member" && isPlayer(one));
  const setOf = (root: number): string => (factors[root]?.name ?? "").split(".")[0] ?? "";
  const names = [...new Set(members.map(({ root }) => setOf(root)))];
  const single = names.map((name) => members.filter(({ root }) => setOf(root) === name).map(({ root }) => root));
  const sets = names.length > 1 ? [...single, members.map(({ root }) => root)] : single;
  const bundles: { members: readonly number[]; followers: number[] }[] = [];
  const groups = all.map((one, index): Group => {
    const { root, own, rows } = one;
    const name = factors[root]?.name ?? "";
    const base = { name, factor: root, own, kernels: kernels.filter(({ factor }) => own.includes(factor)) };
    const recipes = modelFactors !== undefined && !own.some((factor) => modelFactors.includes(factor));
    const found = recipes ? undefined : followed(candidates, one, sets);
    const set = found?.set.map((factor) => all.findIndex((other) => other.root === factor)) ?? [];
    // Followers of sets that meet would make cases of cases.
    const known = bundles.find((bundle) => bundle.members.join() === set.join());
    if (
      found !== undefined &&
      (known !== undefined || !bundles.some((bundle) => bundle.members.some((member) => set.includes(member))))
    ) {
      if (known === undefined) bundles.push({ members: set, followers: [index] });
      else known.followers.push(index);
      const bundle = bundles.findIndex((each) => each.followers.includes(index));
      return { ...base, kind: "follower", bundle, off: weighted(found.off, own), on: weighted(found.on, own) };
    }
    if (!isPlayer(one)) {
      const states = weighted(rows, own);
      return { ...base, kind: "free", bundle: -1, off: states, on: states };
    }
    const off = rows.filter((row) => row[root] === 0);
    const on = rows.filter((row) => row[root] !== 0);
    return { ...base, kind: "player", bundle: -1, off: weighted(off, own), on: weighted(on, own) };
  });
  const bundled = groups.map((group, index) =>
    group.kind === "player" ? { ...group, bundle: bundles.findIndex((each) => each.members.includes(index)) } : group,
  );
  return {
    groups: bundled,
    players: bundled.flatMap(({ kind }, index) => (kind === "player" ? [index] : [])),
    bundles,
  };
}

/** What a group is to another row or distribution: sum, sum over pairs, product. */
export interface Sums {
  readonly main: number;
  readonly pair: number;
  readonly product: number;
}

export function sumsBetween({ kernels }: Group, decay: number, a: Uint8Array, b: Uint8Array): Sums {
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

/** The average of several, each with its weight. */
function mixed(parts: readonly { readonly sums: Sums; readonly weight: number }[]): Sums {
  let [main, pair, product] = [0, 0, 0];
  for (const { sums, weight } of parts) {
    main += weight * sums.main;
    pair += weight * sums.pair;
    product += weight * sums.product;
  }
  return { main, pair, product };
}

export function averageSums(group: Group, decay: number, first: readonly State[], second: readonly State[]): Sums {
  return mixed(
    first.flatMap((a) =>
      second.map((b) => ({ sums: sumsBetween(group, decay, a.row, b.row), weight: a.weight * b.weight })),
    ),
  );
}

/** Weights of the kernel's three terms, for sums over all groups. */
export interface Scales {
  readonly main: number;
  readonly pair: number;
  readonly rest: number;
}

export function scalesOf({ shape, kernels: { length: d } }: Fit): Scales {
  return { main: shape.main / d, pair: d < 2 ? 0 : (2 * shape.pair) / (d * (d - 1)), rest: shape.rest };
}

/**
 * By group, its sums in the four states of two coalitions: outside both, inside the first, inside the second, inside both.
 * Where there is one coalition and a row, the second makes no difference.
 */
export type Parts = readonly (readonly [Sums, Sums, Sums, Sums])[];

/** Groups as sums over all of them, from which some can be taken out again. */
interface Whole {
  readonly main: number;
  readonly squares: number;
  readonly pair: number;
  readonly product: number;
}

function wholeOf(own: readonly Sums[]): Whole {
  let [all, squares, pairs, products] = [0, 0, 0, 1];
  for (const { main, pair, product } of own) {
    all += main;
    squares += main * main;
    pairs += pair;
    products *= product;
  }
  return { main: all, squares, pair: pairs, product: products };
}

/**
 * One case of a coalition: in which bundles no member is there, and of these, in which the followers are as they are then.
 * The cases' signs make them the expectation: followers inside, and what it changes where no member is there.
 */
interface Case {
  readonly empty: readonly boolean[];
  readonly off: readonly boolean[];
  readonly sign: number;
}

function casesOf({ bundles }: Game): readonly Case[] {
  return bundles.reduce<readonly Case[]>(
    (cases) =>
      cases.flatMap(({ empty, off, sign }) => [
        { empty: [...empty, false], off: [...off, false], sign },
        { empty: [...empty, true], off: [...off, true], sign },
        { empty: [...empty, true], off: [...off, false], sign: -sign },
      ]),
    [{ empty: [], off: [], sign: 1 }],
  );
}

/** How probable it is that a group is inside, in a case of a coalition whose players are there with probability t. */
function inside(group: Group, { empty, off }: Case, t: number): number {
  switch (group.kind) {
    case "free":
      return 0;
    case "follower":
      return off[group.bundle] === true ? 0 : 1;
    case "player":
      return empty[group.bundle] === true ? 0 : t;
    default:
      return group.kind satisfies never;
  }
}

/** By bundle, how many of these groups are its members. */
function membersAmong({ groups, bundles }: Game, some: readonly number[]): readonly number[] {
  return bundles.map(
    (_, bundle) => some.filter((index) => groups[index]?.kind === "player" && groups[index].bundle === bundle).length,
  );
}

/**
 * How probable it is that no member of the empty bundles is there, apart from those that are given.
 * @param given how many those are, by bundle
 */
function emptiness({ bundles }: Game, { empty }: Case, t: number, given: readonly number[]): number {
  let product = 1;
  for (const [bundle, { members }] of bundles.entries())
    if (empty[bundle] === true) product *= (1 - t) ** (members.length - (given[bundle] ?? 0));
  return product;
}

function between([a, b, c, d]: readonly [Sums, Sums, Sums, Sums], x: number, y: number): Sums {
  const one = (of: keyof Sums): number => (1 - y) * ((1 - x) * a[of] + x * b[of]) + y * ((1 - x) * c[of] + x * d[of]);
  return { main: one("main"), pair: one("pair"), product: one("product") };
}

/** Nodes and weights on (0, 1) that integrate polynomials of degree 2n − 1 (Gauss and Legendre), by Newton's method. */
export function legendre(n: number): readonly { readonly at: number; readonly weight: number }[] {
  return Array.from({ length: n }, (_, k) => {
    let x = Math.cos((Math.PI * (k + 0.75)) / (n + 0.5));
    let slope = 1;
    for (let step = 0; step < 100; step++) {
      let [before, value] = [1, x];
      for (let degree = 2; degree <= n; degree++)
        [before, value] = [value, ((2 * degree - 1) * x * value - (degree - 1) * before) / degree];
      slope = n === 0 ? 1 : (n * (x * value - before)) / (x * x - 1);
      const next = x - value / slope;
      const done = Math.abs(next - x) < 1e-15;
      x = next;
      if (done) break;
    }
    return { at: (1 - x) / 2, weight: 1 / ((1 - x * x) * slope * slope) };
  });
}

/** A side of the expectation: its nodes and its cases. */
interface Side {
  readonly nodes: readonly { readonly at: number; readonly weight: number }[];
  readonly cases: readonly Case[];
  readonly moves: boolean;
}

/** What a player's coming changes, summed over its states with their signs; `signs` is the sum of these alone. */
interface Change extends Sums {
  readonly signs: number;
}

/**
 * The change of one player in a case for each coalition. Where its bundle is empty it cannot come, and what is left of the
 * difference is what is taken away.
 */
function changeOf(parts: Parts[number], inX: boolean, inY: boolean | undefined): Change {
  let [main, pair, product, signs] = [0, 0, 0, 0];
  const add = (state: number, sign: number): void => {
    const sums = parts[state];
    if (sums === undefined) return;
    main += sign * sums.main;
    pair += sign * sums.pair;
    product += sign * sums.product;
    signs += sign;
  };
  for (const x of inX ? [0, 1] : [0])
    if (inY === undefined) add(x, x === 1 ? 1 : -1);
    else for (const y of inY ? [0, 1] : [0]) add(x + 2 * y, x === y ? 1 : -1);
  return { main, pair, product, signs };
}

const NO_CHANGE: Change = { main: 0, pair: 0, product: 0, signs: 0 };

/** Σ of signs × value over the states of one player or two, the others as they are on average. */
function changed(
  whole: Whole,
  own: readonly Sums[],
  changes: readonly Change[],
  target: readonly number[],
  scales: Scales,
): number {
  const [first = -1, second = -1] = target;
  const [a, b] = [own[first] ?? ZERO, own[second]];
  const main = whole.main - a.main - (b?.main ?? 0);
  const squares = whole.squares - a.main * a.main - (b?.main ?? 0) ** 2;
  const pair = whole.pair - a.pair - (b?.pair ?? 0);
  const product = whole.product / (a.product * (b?.product ?? 1));
  const others = scales.main * main + scales.pair * (pair + (main * main - squares) / 2);
  const slope = scales.main + scales.pair * main;
  const x = changes[first] ?? NO_CHANGE;
  if (b === undefined)
    return x.signs * others + slope * x.main + scales.pair * x.pair + scales.rest * product * x.product;
  const y = changes[second] ?? NO_CHANGE;
  return (
    x.signs * y.signs * others +
    slope * (x.main * y.signs + x.signs * y.main) +
    scales.pair * (x.pair * y.signs + x.signs * y.pair + x.main * y.main) +
    scales.rest * product * x.product * y.product
  );
}

/**
 * For each set of players (one or two), the average over all orders of what their coming changes: of one its marginal
 * contribution, of two what they do together beyond each (Shapley 1953; Grabisch and Roubens 1999). Of two coalitions,
 * the same on both sides.
 */
export function averageChanges(
  game: Game,
  parts: Parts,
  targets: readonly (readonly number[])[],
  scales: Scales,
  coalitions: 1 | 2,
): Float64Array {
  const { groups, players } = game;
  const nodes = legendre(Math.max(1, Math.ceil(players.length / 2)));
  const moving: Side = { nodes, cases: casesOf(game), moves: true };
  const [still] = casesOf({ ...game, bundles: [] });
  const second: Side =
    coalitions === 2 || still === undefined ? moving : { nodes: [{ at: 0, weight: 1 }], cases: [still], moves: false };
  const sums = new Float64Array(targets.length);
  const among = targets.map((target) => membersAmong(game, target));
  const comes = (one: Case, group: Group): boolean => one.empty[group.bundle] !== true;
  for (const x of moving.cases)
    for (const y of second.cases) {
      const changes = groups.map((group, index) =>
        group.kind === "player"
          ? changeOf(parts[index] ?? NOTHING, comes(x, group), second.moves ? comes(y, group) : undefined)
          : NO_CHANGE,
      );
      for (const { at: t, weight: first } of moving.nodes)
        for (const { at: s, weight: other } of second.nodes) {
          const own = groups.map((group, index) =>
            between(parts[index] ?? NOTHING, inside(group, x, t), second.moves ? inside(group, y, s) : 0),
          );
          const whole = wholeOf(own);
          const sign = first * other * x.sign * y.sign;
          for (const [k, target] of targets.entries()) {
            const given = among[k] ?? [];
            const weight = sign * emptiness(game, x, t, given) * (second.moves ? emptiness(game, y, s, given) : 1);
            sums[k] = (sums[k] ?? 0) + weight * changed(whole, own, changes, target, scales);
          }
        }
    }
  return sums;
}

const ZERO: Sums = { main: 0, pair: 0, product: 0 };
const NOTHING: readonly [Sums, Sums, Sums, Sums] = [ZERO, ZERO, ZERO, ZERO];

/** What a group is, whatever t says. */
export interface Given {
  readonly group: number;
  readonly sums: Sums;
  readonly inside: boolean;
}

/**
 * The expectation where each player is there with probability t, of one coalition: for each question, where these groups
 * are what they are said to be.
 */
export function expectations(
  game: Game,
  parts: Parts,
  t: number,
  scales: Scales,
  questions: readonly (readonly Given[])[],
): Float64Array {
  const { groups } = game;
  const answers = new Float64Array(questions.length);
  for (const one of casesOf(game)) {
    const own = groups.map((group, index) => between(parts[index] ?? NOTHING, inside(group, one, t), 0));
    const whole = wholeOf(own);
    for (const [k, question] of questions.entries()) {
      let { main, squares, pair, product } = whole;
      let possible = true;
      for (const { group: index, sums, inside } of question) {
        const group = groups[index];
        const before = own[index];
        if (group === undefined || before === undefined) continue;
        if (group.kind === "player" && inside && one.empty[group.bundle] === true) possible = false;
        // A follower has nothing to choose where no member is there.
        if (group.kind === "follower" && one.off[group.bundle] === true) continue;
        main += sums.main - before.main;
        squares += sums.main * sums.main - before.main * before.main;
        pair += sums.pair - before.pair;
        product *= sums.product / before.product;
      }
      if (!possible) continue;
      const given =
        game.bundles.length === 0
          ? []
          : membersAmong(
              game,
              question.map(({ group }) => group),
            );
      const value = scales.main * main + scales.pair * (pair + (main * main - squares) / 2) + scales.rest * product;
      answers[k] = (answers[k] ?? 0) + one.sign * emptiness(game, one, t, given) * value;
    }
  }
  return answers;
}
