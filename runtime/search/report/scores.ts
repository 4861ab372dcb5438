/**
 * What the trials of a study have shown, by candidate, and what they have cost.
 *
 * Two kinds of scores never mix here. Those of the search chose candidates, so the highest of them is too high by chance;
 * those of final trials are on seeds by which nothing was chosen, and only they are for the table. Every mean has its
 * number of trainings and its t interval over seeds.
 */
import type { Objective } from "../../../compiler/search/search.ts";
import { tCritical } from "../../metrics/distributions.ts";
import type { Interval } from "../../metrics/intervals.ts";
import { type MetricText, metricOfName, metricText } from "../../metrics/scores.ts";
import { planOf } from "../methods/plan.ts";
import type { Phase, TrialRow } from "../study.ts";
import type { StudyData } from "./study-data.ts";

/** The metric that trials are compared by. */
export interface Target {
  /** Without its side: `uar`. */
  readonly name: string;
  readonly text: MetricText;
  /** 1 where larger is better, else −1. */
  readonly sign: 1 | -1;
}

const SIDE = /^(?:val|validation|test)\./;

export function targetOf(objectives: readonly Objective[]): Target {
  const metric = objectives.find((objective) => objective.kind === "metric");
  if (metric === undefined) throw new RangeError("a search without a metric among its objectives has no table");
  const name = metric.metric.replace(SIDE, "");
  const known = metricOfName(name);
  const better = metric.goal === "maximize" ? "larger" : "smaller";
  const text: MetricText = known === undefined ? { title: name, formula: "", better, unit: "nats" } : metricText(known);
  return { name, text, sign: metric.goal === "maximize" ? 1 : -1 };
}

/** Mean and its t interval over seeds; without an interval for one value, all NaN for none. */
export function meanOf(values: readonly number[]): Interval {
  const n = values.length;
  const value = values.reduce((sum, x) => sum + x, 0) / n;
  if (n < 2) return { value, low: Number.NaN, high: Number.NaN };
  const variance = values.reduce((sum, x) => sum + (x - value) ** 2, 0) / (n - 1);
  const half = tCritical(0.05, n - 1) * Math.sqrt(variance / n);
  return { value, low: value - half, high: value + half };
}

/** Welch's t interval (1947) of the difference of two means, second minus first, as if the seeds were not shared. */
export function unpairedDifference(first: readonly number[], second: readonly number[]): Interval {
  const [a, b] = [meanOf(first), meanOf(second)];
  const value = b.value - a.value;
  if (first.length < 2 || second.length < 2) return { value, low: Number.NaN, high: Number.NaN };
  const share = (values: readonly number[], mean: number): number =>
    values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (values.length - 1) / values.length;
  const [va, vb] = [share(first, a.value), share(second, b.value)];
  if (va + vb === 0) return { value, low: value, high: value };
  const degrees = (va + vb) ** 2 / (va ** 2 / (first.length - 1) + vb ** 2 / (second.length - 1));
  const half = tCritical(0.05, degrees) * Math.sqrt(va + vb);
  return { value, low: value - half, high: value + half };
}

/** A value of one training. */
export interface Seeded {
  readonly phase: Phase;
  readonly replicate: number;
  readonly seed: number;
  readonly value: number;
}

/** The seeds that two candidates share, in one order. */
export function pairedValues(
  first: readonly Seeded[],
  second: readonly Seeded[],
): { readonly first: readonly number[]; readonly second: readonly number[] } {
  const known = new Map(first.map(({ seed, value }) => [seed, value]));
  const both = second.flatMap(({ seed, value }) => {
    const other = known.get(seed);
    return other === undefined ? [] : [[other, value] as const];
  });
  return { first: both.map(([value]) => value), second: both.map(([, value]) => value) };
}

/** The trials of a candidate. */
export interface Tried {
  /** Index of the candidate. */
  readonly candidate: number;
  readonly trials: readonly TrialRow[];
  /** Full trainings before the final ones: of the validation side, and what choices were made by. */
  readonly searched: readonly Seeded[];
  /** Fresh seeds: of the side that the table is about. */
  readonly final: readonly Seeded[];
  /** Fresh seeds: of the validation side. */
  readonly finalValidation: readonly Seeded[];
}

/** Of one trial: how far it has come, and its value there. */
export interface Progressed {
  readonly epochs: number;
  readonly value: number | undefined;
}

export interface Scores {
  readonly target: Target;
  /** Whether all final trials have been on the test clips. */
  readonly side: "test" | "validation";
  /** By index of the candidate, in order of their first trial. */
  readonly tried: ReadonlyMap<number, Tried>;
  /** By trial. */
  readonly progress: ReadonlyMap<string, Progressed>;
  /** Trainings, in units of a full one, by phase. */
  readonly spent: Readonly<Record<Phase, number>>;
}

const NOTHING_SPENT: Readonly<Record<Phase, number>> = {
  prior: 0,
  baseline: 0,
  screen: 0,
  search: 0,
  random: 0,
  confirm: 0,
  final: 0,
};

/** Phases that `spend` limits; search at random and the final trainings come on top. */
export const LIMITED: readonly Phase[] = ["prior", "baseline", "screen", "search", "confirm"];

export const spentOf = (spent: Readonly<Record<Phase, number>>, phases: readonly Phase[]): number =>
  phases.reduce((sum, phase) => sum + spent[phase], 0);

export function scoresOf(data: StudyData): Scores {
  const { search } = data.study;
  const target = targetOf(search.objectives);
  const [validation, test] = [`val.${target.name}`, `test.${target.name}`];
  const indices = new Map(search.space.candidates.map(({ hash, index }) => [hash, index]));
  const observed = new Map<string, { epochs: number; value: number | undefined }>();
  for (const { trial, epochs, value } of data.observations)
    if (value !== undefined && epochs >= (observed.get(trial)?.epochs ?? 0)) observed.set(trial, { epochs, value });
  const finals = data.trials.filter(({ phase, state }) => phase === "final" && state === "complete");
  const side =
    finals.length > 0 && finals.every(({ id }) => data.results[id]?.metrics[test] !== undefined)
      ? "test"
      : "validation";
  const spent = { ...NOTHING_SPENT };
  const progress = new Map<string, Progressed>();
  const byCandidate = new Map<number, TrialRow[]>();
  for (const trial of data.trials) {
    const seen = observed.get(trial.id);
    const reached = Math.max(
      0,
      ...(data.metrics[trial.id] ?? []).map(({ epoch }) => epoch),
      trial.state === "complete" ? trial.epochs : 0,
      seen?.epochs ?? 0,
    );
    progress.set(trial.id, { epochs: reached, value: seen?.value });
    if (trial.phase === "prior") {
      // A network of its own, whichever candidate it is filed under.
      const whole = trial.state === "complete" ? planOf(search).prior?.cost : undefined;
      spent.prior += whole ?? reached / search.epochs;
      continue;
    }
    spent[trial.phase] += reached / search.epochs;
    const index = indices.get(trial.candidate);
    if (index === undefined) continue;
    const known = byCandidate.get(index);
    if (known === undefined) byCandidate.set(index, [trial]);
    else known.push(trial);
  }
  const tried = new Map<number, Tried>();
  for (const [candidate, trials] of byCandidate) {
    // A training that was left behind a rung is no full one, whatever its state is called.
    const complete = trials.filter(({ state, epochs }) => state === "complete" && epochs >= search.epochs);
    const of = (final: boolean, name: string): readonly Seeded[] =>
      complete.flatMap(({ id, phase, replicate, seed }) => {
        if ((phase === "final") !== final) return [];
        const value = data.results[id]?.metrics[name] ?? (name === validation ? observed.get(id)?.value : undefined);
        return value === undefined ? [] : [{ phase, replicate, seed, value }];
      });
    tried.set(candidate, {
      candidate,
      trials,
      searched: of(false, validation),
      final: of(true, side === "test" ? test : validation),
      finalValidation: of(true, validation),
    });
  }
  return { target, side, tried, progress, spent };
}
