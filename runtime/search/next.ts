/**
 * What is to be trained next: the schedule of a study, as a pure function of what its store holds.
 *
 * First what is trained in any case (`none`, `all`, the starts), then every candidate if the budget allows, else a random
 * choice; the leaders again on seeds of their own; at the end the table's trainings on fresh seeds.
 */
import type { Search } from "../../compiler/search/search.ts";
import { randomOf } from "../data/random.ts";
import type { Decision, ObservationRow, Phase, Proposal, TrialRow } from "./study.ts";

/** What is known when something is decided. */
export interface KnownStudy {
  readonly trials: readonly TrialRow[];
  readonly observations: readonly ObservationRow[];
  readonly decisions: readonly Decision[];
  /** Trials that may be under way at once. */
  readonly open: number;
}

/** Share of the budget that confirms. */
const CONFIRM = 0.25;
const LEADERS = 3;

const under = ({ state }: TrialRow): boolean => state === "waiting" || state === "running";

export function nextDecision(search: Search, known: KnownStudy): Decision | "wait" | "finished" {
  const { trials, observations, decisions, open } = known;
  const { space, replicates, epochs, spend } = search;
  const pending = trials.filter(under);
  const done = (phase: Phase, candidate: number, replicate: number): boolean =>
    trials.some(
      (trial) =>
        trial.phase === phase && trial.replicate === replicate && trial.candidate === space.candidates[candidate]?.hash,
    );
  const decide = (method: string, reason: string, wanted: readonly Proposal[]): Decision | "wait" => {
    const room = open - pending.length;
    if (room <= 0 || wanted.length === 0) return "wait";
    return {
      sequence: decisions.length + 1,
      method,
      seen: observations.length,
      pending: pending.map(({ id }) => id),
      proposals: wanted.slice(0, room),
      reason,
    };
  };
  const begin = (phase: Phase, candidates: readonly number[], seeds: number): readonly Proposal[] =>
    Array.from({ length: seeds }, (_, replicate) => replicate).flatMap((replicate) =>
      candidates.flatMap((candidate) =>
        done(phase, candidate, replicate)
          ? []
          : [{ kind: "begin", candidate, phase, replicate, epochs } satisfies Proposal],
      ),
    );
  const feasible = space.candidates.filter(({ refused }) => refused === undefined).map(({ index }) => index);
  const base = [...new Set([space.none, space.all, ...search.starts])].filter((one) => one !== undefined);
  const first = begin("baseline", base, replicates.search);
  if (first.length > 0) return decide("baseline", "trained in any case", first);

  const budget = Math.floor(spend * (replicates.confirm > 0 ? 1 - CONFIRM : 1));
  const others = feasible.filter((one) => !base.includes(one));
  const trained = base.length * replicates.search;
  const everything = others.length * replicates.search <= budget - trained;
  const random = randomOf(search.seed, "screen");
  const drawn = everything
    ? others
    : others
        .map((one) => ({ one, key: random() }))
        .sort((a, b) => a.key - b.key)
        .slice(0, Math.max(0, Math.floor((budget - trained) / replicates.search)))
        .map(({ one }) => one);
  const searching = begin("search", drawn, replicates.search);
  if (searching.length > 0)
    return decide(everything ? "factorial" : "random", everything ? "every candidate" : "drawn at random", searching);

  const meanOf = (candidate: number, phases: readonly Phase[]): number => {
    const hash = space.candidates[candidate]?.hash;
    const values = observations.flatMap((row) =>
      row.candidate === hash && row.epochs === epochs && phases.includes(row.phase) && row.value !== undefined
        ? [row.value]
        : [],
    );
    return values.length === 0 ? Number.NEGATIVE_INFINITY : values.reduce((a, b) => a + b, 0) / values.length;
  };
  const searched: readonly Phase[] = ["baseline", "screen", "search"];
  const waiting = (...phases: readonly Phase[]): boolean => pending.some(({ phase }) => phases.includes(phase));
  if (waiting(...searched)) return "wait";
  const ranked = (phases: readonly Phase[], among: readonly number[]): readonly number[] =>
    [...among].sort((a, b) => meanOf(b, phases) - meanOf(a, phases) || a - b);
  const leaders = ranked(searched, [...base, ...drawn]).slice(0, LEADERS);
  const confirming = begin("confirm", leaders, replicates.confirm);
  if (confirming.length > 0) return decide("confirm", "the leaders again", confirming);
  if (waiting("confirm")) return "wait";

  const [winner] = ranked(replicates.confirm > 0 ? ["confirm"] : searched, leaders);
  const table = [...new Set([winner, space.none, space.all])].filter((one) => one !== undefined);
  const final = begin("final", table, replicates.final);
  if (final.length > 0) return decide("final", "the table, on fresh seeds", final);
  return pending.length > 0 ? "wait" : "finished";
}
