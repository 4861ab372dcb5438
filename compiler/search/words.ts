/**
 * The settings of searches: their names, the values they take, their defaults and what they mean, in one table.
 *
 * They are read as those of recipes are (../recipe/sections.ts), and the tables of specs/search.md are made from here.
 * Defaults are written in the language.
 */
import type { Expr } from "../../grammar/ast.ts";
import {
  either,
  headOf,
  type Kind,
  type Located,
  list,
  number,
  oneOf,
  optional,
  param,
  refuse,
  several,
  type Word,
  word,
  yesOrNo,
} from "../recipe/kinds.ts";
import type { Row } from "../recipe/schema.ts";

import type { Method, Replicates } from "./search.ts";

const whole = number({ from: 1, whole: true });

const METHODS: readonly Word<Method>[] = [
  word("Auto", {}, () => ({ kind: "auto" as const })),
  word("Factorial", {}, () => ({ kind: "factorial" as const })),
  word("GP", {}, () => ({ kind: "gp" as const })),
  word("Random", {}, () => ({ kind: "random" as const })),
  word("TPE", { multivariate: param(yesOrNo, "true") }, (args) => ({ kind: "tpe" as const, ...args })),
  word(
    "Evolution",
    { population: param(number({ from: 2, whole: true }), "24"), tournament: param(whole, "6") },
    (args) => ({ kind: "evolution" as const, ...args }),
  ),
  word("Halving", { eta: param(number({ from: 2, whole: true }), "3") }, (args) => ({
    kind: "halving" as const,
    ...args,
  })),
];

export interface Seeds {
  readonly replicates: Replicates;
  readonly from: number;
}

const SEEDS: Word<Seeds> = word(
  "Seeds",
  {
    search: param(whole, "1"),
    confirm: param(whole, "3"),
    final: param(number({ from: 2, whole: true }), "5"),
    from: param(number({ from: 0, whole: true }), "0"),
  },
  ({ from, ...replicates }) => ({ replicates, from }),
);

const finalOnly = number({ from: 2, whole: true });
const seeds: Kind<Seeds> = {
  what: "`Seeds(search=1, confirm=3, final=5, from=0)`, or the number of the final ones",
  read: (expr, slot) =>
    headOf(expr) === SEEDS.name
      ? SEEDS.read(expr, slot)
      : { replicates: { search: 1, confirm: 3, final: finalOnly.read(expr, slot) }, from: 0 },
};

/** A point that is trained in any case: `start(spots=[@conv3])`; or `random`, search at random with an equal budget. */
export type Baseline =
  | { readonly kind: "random" }
  | { readonly kind: "start"; readonly given: ReadonlyMap<string, Expr>; readonly expr: Expr };

const baselineEntry: Kind<Baseline> = {
  what: "`random` or `start(name=value, …)`",
  read: (expr, slot) => {
    if (expr.kind === "Name" && expr.name === "random") return { kind: "random" };
    if (headOf(expr) !== "start") return refuse(slot, baselineEntry.what, expr, ["random", "start"]);
    const args = expr.kind === "Call" ? expr.args : [];
    const given = new Map<string, Expr>();
    for (const arg of args) {
      if (arg.name === undefined) return refuse(slot, "names with their values: `start(spots=[@conv3])`", arg.value);
      given.set(arg.name.name, arg.value);
    }
    return { kind: "start", given, expr };
  },
};
const baseline: Kind<readonly Located<Baseline>[]> = either(
  { what: "`none`", read: () => [] },
  (expr) => expr.kind === "None",
  several(baselineEntry, `a list of ${baselineEntry.what}`),
);

const rungs: Kind<readonly number[]> = either(
  { what: "`none`", read: () => [] },
  (expr) => expr.kind === "None",
  list(
    whole,
    "a list of epochs, each more than the one before: `[3, 9]`",
    (items) => items.length > 0 && items.every((item, i) => i === 0 || item > (items[i - 1] ?? 0)),
  ),
);

/** A network with every unit at every position, trained once with the units switched on and off. */
export interface SuperNetwork {
  readonly kind: "super-network";
  /** Undefined: twice those of a full training. */
  readonly epochs: number | undefined;
  readonly scores: number;
}

const SUPER_NETWORK: Word<SuperNetwork> = word(
  "SuperNetwork",
  { epochs: param(optional(whole), "none"), scores: param(number({ from: 16, whole: true }), "256") },
  (args) => ({ kind: "super-network" as const, ...args }),
);

const prior: Kind<SuperNetwork | undefined> = either(
  { what: "`none`", read: () => undefined },
  (expr) => expr.kind === "None",
  oneOf(SUPER_NETWORK),
);

export interface SearchValues {
  readonly method: Method;
  readonly prior: SuperNetwork | undefined;
  readonly spend: number;
  readonly seeds: Seeds;
  readonly rungs: readonly number[];
  readonly baseline: readonly Located<Baseline>[];
}

type Rows<V> = { readonly [K in keyof V]: Row<V[K]> };

function row<T>(kind: Kind<T>, otherwise: string | undefined, doc: string): Row<T> {
  return { kind, otherwise, doc };
}

export const SEARCH: Rows<SearchValues> = {
  method: row(
    oneOf(...METHODS),
    "Auto",
    "how points are proposed; `Auto` tries all of a space that is small enough, else follows a Gaussian process over it",
  ),
  prior: row(
    prior,
    "none",
    "what the Gaussian process expects beforehand: the scores of a super-network, if they rank what was trained in full; `epochs` are twice those of a full training if not given, `scores` is how many points it scores at most",
  ),
  spend: row(
    number({ from: 1 }),
    "40",
    "full trainings that searching and confirming may cost together; the final ones come on top",
  ),
  seeds: row(
    seeds,
    "Seeds(search=1, confirm=3, final=5, from=0)",
    "how many trainings a point gets while searching, as one of the leaders, and for the table; `from` is the seed of the study",
  ),
  rungs: row(
    rungs,
    "none",
    "epochs after which a training may be left because others do better; used only while their order tells that of full trainings",
  ),
  baseline: row(
    baseline,
    "none",
    "points that are trained in any case, beside those without and with all attention; `random` runs search at random with an equal budget",
  ),
};

/** The section `limit { … }`. */
export interface LimitValues {
  readonly params: number | undefined;
  readonly flops: number | undefined;
  readonly memory: number | undefined;
  readonly latency: number | undefined;
}

const most = optional(number({ above: 0 }));

export const LIMIT: Rows<LimitValues> = {
  params: row(most, "none", "learned parameters: `300M`"),
  flops: row(most, "none", "FLOPs of a forward pass of one example: `80G`; a multiply-add counts two"),
  memory: row(
    most,
    "none",
    "bytes of all activations of one example, before any fusion, as `netc inspect --stage cost` tells: `2GiB`",
  ),
  latency: row(most, "none", "of a forward pass of one example on the device at hand, measured: `12ms`"),
};

/** All words with their parameters, by what they are. */
export const SEARCH_WORDS: Readonly<Record<string, readonly string[]>> = {
  methods: METHODS.map(({ signature }) => signature),
  others: [SUPER_NETWORK.signature, SEEDS.signature, "start(name=value, …)", "random"],
};

/** What other tools call these settings. */
export const OTHER_NAMES: Readonly<Record<string, string>> = {
  strategy: "method",
  sampler: "method",
  algorithm: "method",
  trials: "spend",
  budget: "spend",
  seed: "seeds",
  supernet: "prior",
  oneshot: "prior",
  warm: "baseline",
  start: "baseline",
  net: "model",
  network: "model",
  train: "recipe",
};

export const OTHER_LIMITS: Readonly<Record<string, string>> = { parameters: "params", macs: "flops" };
