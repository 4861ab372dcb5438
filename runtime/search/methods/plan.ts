/**
 * What a study will do, as far as it is known before its first trial: the method and why, what is trained in any case, and
 * how the budget is divided.
 *
 * Budgets are in full trainings: one of half the epochs costs a half. Searching has what confirming leaves of `spend`;
 * the final trainings, and random search where it is run in full, come on top.
 */
import type { Method, Search } from "../../../compiler/search/search.ts";
import type { Candidates } from "../propose.ts";
import { randomOrder } from "./random.ts";

/** Part of the budget that is kept for confirming, and part of it that is screened at least. */
const CONFIRM_SHARE = 0.25;
const SCREEN_SHARE = 0.2;
/** A space is searched only if it costs more than the budget over this. */
const FACTORIAL_MARGIN = 1.5;
/** More candidates than a model looks through at each step. */
const MOST_ENUMERATED = 2 ** 17;
/** Of how many at a rung one is carried on, unless halving says otherwise. */
const ETA = 3;

/** The feasible candidates of a space by their own numbering, for the methods. */
export interface View {
  readonly candidates: Candidates;
  /** `Candidate.index` of each. */
  readonly indices: readonly number[];
  /** From `Candidate.index`; undefined for the refused. */
  readonly local: ReadonlyMap<number, number>;
}

const views = new WeakMap<Search, View>();

/**
 * The feasible candidates and the costs to keep low. Latencies are found before a study begins; where that has not been
 * done (a plan), FLOPs stand for them.
 */
export function viewOf(search: Search): View {
  const known = views.get(search);
  if (known !== undefined) return known;
  const { factors, candidates } = search.space;
  const feasible = candidates.filter(({ refused }) => refused === undefined);
  const levels = new Uint8Array(feasible.length * factors.length);
  for (const [index, candidate] of feasible.entries()) levels.set(candidate.levels, index * factors.length);
  const costs = search.objectives.flatMap((objective) => {
    if (objective.kind !== "cost") return [];
    const { cost, goal } = objective;
    const sign = goal === "minimize" ? 1 : -1;
    const timed = feasible.every(({ latency }) => latency !== undefined);
    return [
      Float64Array.from(feasible, ({ costs, latency }) => {
        if (cost !== "latency") return sign * costs[cost];
        return sign * (timed ? (latency?.milliseconds ?? 0) : costs.flops);
      }),
    ];
  });
  const view = {
    candidates: { factors, levels, count: feasible.length, costs },
    indices: feasible.map(({ index }) => index),
    local: new Map(feasible.map(({ index }, local) => [index, local])),
  };
  views.set(search, view);
  return view;
}

export interface PriorPlan {
  /** `Candidate.index` of the one that it is filed under. */
  readonly candidate: number;
  readonly epochs: number;
  readonly cost: number;
  /** By `Candidate.index`; a score counts as a part of an epoch. */
  readonly scored: readonly number[];
}

/** Part of an epoch that a score counts for: a pass over the validation side, without gradients. */
const SCORE_SHARE = 0.1;
/** Part of the budget that it may cost. */
const MOST_PRIOR = 0.5;

function priorOf(
  { prior, epochs, space, spend }: Search,
  method: Method,
  order: readonly number[],
): PriorPlan | string | undefined {
  if (prior === undefined) return undefined;
  if (method.kind === "factorial") return "all candidates are trained anyway";
  if (method.kind !== "gp") return "this method looks at trainings alone";
  const scored = order.slice(0, prior.scores);
  const cost = (prior.epochs + SCORE_SHARE * scored.length) / epochs;
  if (cost > MOST_PRIOR * spend)
    return `it would cost ${cost.toFixed(1)} of ${spend} trainings, and may a half at most`;
  const candidate = space.all !== undefined && order.includes(space.all) ? space.all : order[0];
  return candidate === undefined ? undefined : { candidate, epochs: prior.epochs, cost, scored };
}

export interface StudyPlan {
  /** The method that is used, never `auto`. */
  readonly method: Exclude<Method, { kind: "auto" }>;
  /** Why, in a sentence. */
  readonly why: string;
  readonly feasible: number;
  /** The super-network, if one is trained: what it costs in full trainings, and the candidates that it scores. */
  readonly prior: PriorPlan | undefined;
  /** Why one that was asked for is not trained. */
  readonly noPrior: string | undefined;
  /** `none`, `all` and the starts, as far as they are feasible; by `Candidate.index`, as everything here. */
  readonly baseline: readonly number[];
  /** Drawn uniformly from the rest of the space: what random search would have begun with. */
  readonly screen: readonly number[];
  /** What random search would train after that, if it is run in full. */
  readonly random: readonly number[];
  /** Epochs at which trials wait for a decision, rising; the last is the full training. */
  readonly rungs: readonly number[];
  /** Of the trials at a rung, one in so many is carried on. */
  readonly eta: number;
  /** Full trainings that baseline, screen and search may cost together. */
  readonly searchBudget: number;
  /** How many leaders are trained again, and how often each. */
  readonly confirm: { readonly leaders: number; readonly replicates: number };
  /** How many leaders the final table has at most. */
  readonly finalists: number;
  /** Full trainings of everything together, at most. */
  readonly most: number;
}

function methodOf(search: Search, feasible: number): { readonly method: StudyPlan["method"]; readonly why: string } {
  const { method, spend, replicates } = search;
  if (method.kind !== "auto") return { method, why: "the search asks for it" };
  const cost = feasible * replicates.search;
  if (cost <= spend / FACTORIAL_MARGIN)
    return {
      method: { kind: "factorial" },
      why: `${feasible} candidates, ${count(replicates.search, "seed")} each, cost ${count(cost, "training")} and ${spend} may be spent: all are trained`,
    };
  if (feasible > MOST_ENUMERATED)
    return {
      method: { kind: "tpe", multivariate: true },
      why: `${feasible} candidates are more than a model of all of them can look through`,
    };
  const costs = search.objectives.some(({ kind }) => kind === "cost");
  return {
    method: { kind: "gp" },
    why: costs
      ? `${feasible} candidates are too many to train them all, and their costs are exact: a model learns the values and looks for what widens the front`
      : `${feasible} candidates are too many to train them all: a model of members, pairs and distances learns which lead`,
  };
}

const count = (many: number, what: string): string => `${many} ${what}${many === 1 ? "" : "s"}`;

/** Rungs of a study: its own, or for halving without any, the full training over powers of η. */
function rungsOf({ rungs, epochs, method }: Search, eta: number): readonly number[] {
  const given = rungs.filter((rung) => rung >= 1 && rung < epochs);
  const halved = [eta ** 2, eta].map((part) => Math.floor(epochs / part)).filter((rung) => rung >= 1 && rung < epochs);
  const partial = given.length > 0 || method.kind !== "halving" ? given : halved;
  return [...new Set([...partial, epochs])].sort((a, b) => a - b);
}

function confirmOf({ spend, replicates }: Search, feasible: number): StudyPlan["confirm"] {
  const budget = Math.floor(spend * CONFIRM_SHARE);
  if (budget < 2 || replicates.confirm < 1 || feasible < 2) return { leaders: 0, replicates: 0 };
  const leaders = Math.min(feasible, Math.max(2, Math.floor(budget / replicates.confirm)));
  return { leaders, replicates: Math.min(replicates.confirm, Math.floor(budget / leaders)) };
}

const plans = new WeakMap<Search, StudyPlan>();

/** What a study of this search will do. A function of the search alone. */
export function planOf(search: Search): StudyPlan {
  const known = plans.get(search);
  if (known !== undefined) return known;
  const plan = makePlan(search);
  plans.set(search, plan);
  return plan;
}

function makePlan(search: Search): StudyPlan {
  const { space, spend, seed } = search;
  const { candidates, indices, local } = viewOf(search);
  const feasible = candidates.count;
  const { method, why } = methodOf(search, feasible);
  const eta = method.kind === "halving" ? Math.max(2, method.eta) : ETA;
  const confirm = confirmOf(search, feasible);
  const order = Array.from(randomOrder(feasible, seed), (candidate) => indices[candidate] ?? 0);
  const extremes = [space.none, space.all].filter((index) => index !== undefined && local.has(index));
  const asPlanned = priorOf(search, method, [...new Set([...extremes.flatMap((index) => index ?? []), ...order])]);
  const [prior, noPrior] = typeof asPlanned === "string" ? [undefined, asPlanned] : [asPlanned, undefined];
  const searchBudget = spend - confirm.leaders * confirm.replicates - (prior?.cost ?? 0);
  const each = Math.max(1, search.replicates.search);
  const asked = [space.none, space.all, ...search.starts].filter((index) => index !== undefined && local.has(index));
  const baseline = [...new Set(asked.flatMap((index) => index ?? []))].slice(0, Math.floor(searchBudget / each));
  const others = order.filter((index) => !baseline.includes(index));
  // With few trainings, half of what the baseline leaves at most: the other half is for the method.
  const affordable = Math.floor(searchBudget / each) - baseline.length;
  const room = Math.ceil(affordable / 2);
  const wanted = Math.max(space.factors.length + 2, Math.ceil((SCREEN_SHARE * spend) / each));
  const screen = others.slice(0, Math.max(0, Math.min(wanted, room)));
  const random = search.randomBaseline ? others.slice(screen.length, Math.max(screen.length, Math.floor(spend))) : [];
  const finalists = candidates.costs.length === 0 ? 3 : 5;
  const finals = Math.min(feasible, finalists + 3) * search.replicates.final;
  return {
    method,
    why,
    feasible,
    prior,
    noPrior,
    baseline,
    screen,
    random,
    rungs: rungsOf({ ...search, method }, eta),
    eta,
    searchBudget,
    confirm,
    finalists,
    most: spend + random.length + finals,
  };
}
