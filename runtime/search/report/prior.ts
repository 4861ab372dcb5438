/**
 * What is known of candidates without training them: by a super-network, if one was asked for, and by scores that cost
 * nothing. Both are shown beside how well they rank what was trained.
 */
import { type LedgerTrial, ledgerOf, scoresAmong } from "../methods/ledger.ts";
import { planOf } from "../methods/plan.ts";
import { calibrationOf, judgePrior, priorText, trustedPrior } from "../methods/prior.ts";
import { kendallTau } from "../statistics/kendall.ts";
import type { PriorReport, ReportCandidate, ZeroCost } from "./model.ts";
import { meanOf, targetOf } from "./scores.ts";
import type { StudyData } from "./study-data.ts";

/** Candidates before which nothing is said of a score. */
const FEWEST = 6;

/** Scores of a study's super-network, larger being better, and the trials that they are judged by. */
function scoredOf({ study, trials, decisions, observations, results }: StudyData): {
  readonly scores: ReadonlyMap<number, number> | undefined;
  readonly ledger: readonly LedgerTrial[];
} {
  const { search } = study;
  const { sign } = targetOf(search.objectives);
  const scores = scoresAmong(new Map(Object.entries(results)));
  return {
    scores: scores === undefined ? undefined : new Map([...scores].map(([index, score]) => [index, sign * score])),
    ledger: ledgerOf(search, { study: study.id, trials, observations, decisions }),
  };
}

/** What the search's model begins with, as far as the super-network is believed. */
export function priorOfStudy(data: StudyData): Float64Array | undefined {
  const { search } = data.study;
  if (search.prior === undefined) return undefined;
  const { scores, ledger } = scoredOf(data);
  return scores === undefined ? undefined : trustedPrior(search, ledger, scores);
}

/** The super-network of a study as it stands; undefined if none was asked for. */
export function priorReportOf(data: StudyData): PriorReport | undefined {
  const { study, trials, results } = data;
  const { search } = study;
  if (search.prior === undefined) return undefined;
  const { prior, noPrior } = planOf(search);
  const trial = trials.find(({ phase }) => phase === "prior");
  const result = trial === undefined ? undefined : results[trial.id];
  const { scores, ledger } = scoredOf(data);
  const known = {
    epochs: prior?.epochs ?? 0,
    scored: prior?.scored.length ?? 0,
    cost: prior?.cost ?? 0,
    seconds: result === undefined ? undefined : result.seconds + result.overheadSeconds,
  };
  if (scores === undefined) {
    const verdict =
      noPrior !== undefined
        ? `not trained: ${noPrior}`
        : trial?.state === "failed" || trial?.state === "cancelled"
          ? `${trial.state}${trial.error === undefined ? "" : `: ${trial.error}`}`
          : "not trained yet";
    return { ...known, tau: undefined, pairs: 0, trusted: false, verdict };
  }
  const trust = judgePrior(calibrationOf(search, ledger, scores));
  return { ...known, tau: trust.tau, pairs: trust.pairs, trusted: trust.trusted, verdict: priorText(trust) };
}

/** How well scores that cost nothing would have ranked. */
export function zeroCostOf(candidates: readonly ReportCandidate[], sign: 1 | -1): readonly ZeroCost[] {
  const trained = candidates.filter(({ searched }) => searched.length > 0);
  const named: readonly (readonly [name: string, of: (candidate: ReportCandidate) => number | undefined])[] = [
    ["params", ({ costs }) => costs.params],
    ["norm of the first gradients", ({ gradientNorm }) => gradientNorm],
  ];
  return named.flatMap(([name, of]) => {
    const pairs = trained.flatMap((candidate) => {
      const score = of(candidate);
      const value = sign * meanOf(candidate.searched.map((seeded) => seeded.value)).value;
      return score === undefined ? [] : [[score, value] as const];
    });
    const tau = kendallTau(
      pairs.map(([score]) => score),
      pairs.map(([, value]) => value),
    );
    return pairs.length < FEWEST || Number.isNaN(tau.value) ? [] : [{ name, tau, candidates: pairs.length }];
  });
}
