/**
 * The ablation table: who stands in it, and what its figures are.
 *
 * In: the scores of a study. Out: rows of candidates that were trained on fresh seeds, each with its mean, its paired
 * differences and their p values corrected for their number; apart from them, what the search saw of all it has tried.
 */
import type { Candidate, Objective, Search } from "../../../compiler/search/search.ts";
import { holm, pairClips, pairedBootstrap, seedDifference, seedsBootstrap } from "../../metrics/intervals.ts";
import { metricOfName, type ScoredClip } from "../../metrics/scores.ts";
import type { Leader, RowDifference, SearchRow, SubjectComparison, TableRow } from "./model.ts";
import { type Notation, placeOf, roleOf } from "./notation.ts";
import { meanOf, pairedValues, type Scores, type Seeded, unpairedDifference } from "./scores.ts";
import type { StudyData } from "./study-data.ts";

/**
 * What the search chose: of the candidates that were trained on fresh seeds, the one that leads by its model, among those
 * that were confirmed if any were. None of the table's figures has a part in the choice.
 */
export function choiceOf({ tried }: Scores, leaders: readonly Leader[]): number | undefined {
  const confirmed = new Set(
    [...tried.values()].flatMap(({ candidate, searched }) =>
      searched.some(({ phase }) => phase === "confirm") ? [candidate] : [],
    ),
  );
  return leaders.find(
    ({ candidate }) =>
      (tried.get(candidate)?.final.length ?? 0) > 0 && (confirmed.size === 0 || confirmed.has(candidate)),
  )?.candidate;
}

/** What search at random would hand over: of what it has drawn, the candidate of the best single score. */
export function bestRandomOf(
  trainings: readonly { readonly candidate: number; readonly value: number }[],
  sign: 1 | -1,
): { readonly candidate: number; readonly of: number } | undefined {
  const [best] = [...trainings].sort((a, b) => sign * (b.value - a.value));
  return best === undefined ? undefined : { candidate: best.candidate, of: trainings.length };
}

const FINALIST = "finalist";

interface Named {
  readonly candidate: Candidate;
  readonly roles: readonly string[];
  /** Where it stands in a table. */
  readonly rank: number;
}

/** What a candidate is called in a table, and where it stands. */
function named(
  search: Search,
  notation: Notation,
  candidate: Candidate,
  choice: number | undefined,
  random: number | undefined,
  finalist: boolean,
): Named {
  const { role, factor = 0 } = roleOf(notation, search.space, candidate);
  const place = placeOf(notation, search.space.factors, factor);
  const at = notation.placing.indexOf(factor);
  const words: Record<typeof role, readonly [string, number]> = {
    none: ["none", 0],
    all: ["all", 1],
    single: [`only ${place}`, 100 + at],
    "left out": [`without ${place}`, 300 + at],
    other: ["", 500],
  };
  const [word, rank] = words[role];
  const chosen = candidate.index === choice;
  const roles = [
    ...(chosen ? ["choice"] : []),
    ...(word === "" ? [] : [word]),
    ...(candidate.index === random ? ["best of random"] : []),
    ...(search.starts.includes(candidate.index) ? ["start"] : []),
  ];
  return {
    candidate,
    roles: roles.length === 0 && finalist ? [FINALIST] : roles,
    rank: chosen ? 2 : role !== "other" ? rank : candidate.index === random ? 4 : 3,
  };
}

function difference(
  reference: readonly Seeded[] | undefined,
  own: readonly Seeded[],
): Omit<RowDifference, "corrected"> | undefined {
  if (reference === undefined || reference.length === 0 || own.length === 0) return undefined;
  const both = pairedValues(reference, own);
  if (both.first.length === 0) return undefined;
  const { difference, pairs, p } = seedDifference(both.first, both.second);
  return { difference, pairs, p, unpaired: unpairedDifference(both.first, both.second) };
}

/** A cost as a number that is to be small; NaN where it is not known. */
function costOf(
  objective: Objective & { readonly kind: "cost" },
  candidate: Candidate,
  latency: number | undefined,
): number {
  const value = objective.cost === "latency" ? (latency ?? Number.NaN) : candidate.costs[objective.cost];
  return objective.goal === "minimize" ? value : -value;
}

/** The costs that a front is drawn over: those of the objectives, or the parameters. */
export function costsOf(search: Search): readonly (Objective & { readonly kind: "cost" })[] {
  const asked = search.objectives.filter((objective) => objective.kind === "cost");
  return asked.length > 0 ? asked : [{ kind: "cost", goal: "minimize", cost: "params" }];
}

/** Of points whose numbers are all to be large: which ones no other dominates. */
export function frontOf(points: readonly (readonly number[])[]): readonly boolean[] {
  return points.map(
    (own) =>
      own.every((value) => !Number.isNaN(value)) &&
      !points.some(
        (other) =>
          other.every((value, k) => value >= (own[k] ?? Number.NaN)) &&
          other.some((value, k) => value > (own[k] ?? Number.NaN)),
      ),
  );
}

export interface Table {
  readonly rows: readonly TableRow[];
  readonly searchRows: readonly SearchRow[];
}

export function tableOf(
  search: Search,
  notation: Notation,
  scores: Scores,
  choice: number | undefined,
  random: number | undefined,
  latencies: ReadonlyMap<number, number>,
): Table {
  const { tried, target } = scores;
  const { candidates, none } = search.space;
  const inOrder = [...tried.values()]
    .flatMap((one) => {
      const candidate = candidates[one.candidate];
      return candidate === undefined
        ? []
        : [{ ...one, ...named(search, notation, candidate, choice, random, one.final.length > 0) }];
    })
    .sort((a, b) => a.rank - b.rank || (a.trials[0]?.number ?? 0) - (b.trials[0]?.number ?? 0));
  // Finalists have numbers, so that a figure can name them.
  const finalists = inOrder.filter(({ roles }) => roles[0] === FINALIST);
  const rolesOf = ({ candidate, roles }: Named): readonly string[] => {
    const number = finalists.findIndex((one) => one.candidate === candidate);
    return number < 0 ? roles : [`${FINALIST} ${number + 1}`];
  };
  const finals = inOrder.filter(({ final }) => final.length > 0);
  const reference = (index: number | undefined): readonly Seeded[] | undefined =>
    index === undefined ? undefined : tried.get(index)?.final;
  const toNone = finals.map(({ candidate, final }) =>
    candidate.index === none ? undefined : difference(reference(none), final),
  );
  // Only the choice claims to be better than what chance finds.
  const toRandom = finals.map(({ candidate, final }) =>
    candidate.index === choice && choice !== random ? difference(reference(random), final) : undefined,
  );
  const tests = [...toNone, ...toRandom];
  const corrected = holm(tests.map((test) => test?.p ?? Number.NaN));
  const withCorrected = (index: number): RowDifference | undefined => {
    const test = tests[index];
    return test === undefined ? undefined : { ...test, corrected: corrected[index] ?? Number.NaN };
  };
  const means = finals.map(({ final }) => meanOf(final.map(({ value }) => value)));
  const costs = costsOf(search);
  const front = frontOf(
    finals.map(({ candidate }, k) => [
      target.sign * (means[k]?.value ?? Number.NaN),
      ...costs.map((cost) => -costOf(cost, candidate, latencies.get(candidate.index))),
    ]),
  );
  return {
    rows: finals.map((one, k) => ({
      candidate: one.candidate.index,
      roles: rolesOf(one),
      seeds: one.final,
      mean: means[k] ?? meanOf([]),
      validation: meanOf(one.finalValidation.map(({ value }) => value)),
      toNone: withCorrected(k),
      toRandom: withCorrected(finals.length + k),
      front: front[k] ?? false,
    })),
    searchRows: inOrder
      .filter(({ searched }) => searched.length > 0)
      .map((one) => ({
        candidate: one.candidate.index,
        roles: rolesOf(one),
        seeds: one.searched,
        mean: meanOf(one.searched.map(({ value }) => value)),
      })),
  };
}

/** Whether a difference is one: the paired test survives the correction, in the direction that is wanted. */
export function isBetter(test: RowDifference | undefined, sign: 1 | -1): boolean {
  return test !== undefined && test.corrected <= 0.05 && sign * test.difference.value > 0;
}

/** The choice against `none` and against the best of random search on the same clips, over subjects. */
export function subjectComparisons(
  data: StudyData,
  scores: Scores,
  choice: number | undefined,
  others: readonly { readonly name: string; readonly candidate: number | undefined }[],
): readonly SubjectComparison[] {
  const metric = metricOfName(scores.target.name);
  if (choice === undefined || metric === undefined) return [];
  const finalsOf = (index: number): ReadonlyMap<number, readonly ScoredClip[]> =>
    new Map(
      (scores.tried.get(index)?.trials ?? []).flatMap(({ id, phase, seed }) => {
        const read = phase === "final" ? data.predictions[id] : undefined;
        return read === undefined || read.header.side !== scores.side ? [] : [[seed, read.clips] as const];
      }),
    );
  const own = finalsOf(choice);
  const [base] = own.values();
  const classes = Object.values(data.predictions)[0]?.header.classes ?? [];
  if (base === undefined) return [];
  return others.flatMap(({ name, candidate }) => {
    if (candidate === undefined || candidate === choice) return [];
    const pairs = [...finalsOf(candidate)].flatMap(([seed, clips]) => {
      const mine = own.get(seed);
      if (mine === undefined) return [];
      // Every seed's clips in the order of one of them.
      const [first, second] = [pairClips(base, clips), pairClips(base, mine)];
      return "error" in first || "error" in second ? [] : [{ a: first.b, b: second.b }];
    });
    const [one] = pairs;
    if (one === undefined) return [];
    const found =
      pairs.length === 1
        ? pairedBootstrap([metric], one, classes)
        : seedsBootstrap([metric], pairs, classes, { replicates: 4000 });
    const [result] = found.differences;
    if (result === undefined) return [];
    return [
      {
        against: name,
        first: result.a,
        second: result.b,
        difference: result.difference,
        p: result.p,
        subjects: found.subjects,
        clips: one.a.length,
        seeds: pairs.length,
        method: found.method,
        notes: found.notes,
      },
    ];
  });
}
