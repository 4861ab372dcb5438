/**
 * What a display shows of a study at one moment.
 *
 * In: the study as its store has it, what was found in its scores, and the time. Out: numbers and names. A single score
 * is never called the best here: what leads does so by the model, with an interval, and beside it stands what search at
 * random would have.
 */
import type { Space } from "../../../compiler/search/search.ts";
import { type Interval, seedDifference } from "../../metrics/intervals.ts";
import type { MetricText } from "../../metrics/scores.ts";
import type { StudyRow, TrialRow } from "../study.ts";
import type { Findings, Noise, RungRank } from "./model.ts";
import { notationOf, SUPER_NETWORK, shortLabel } from "./notation.ts";
import { methodText, searchCurveOf, stoppedTrials } from "./report.ts";
import { LIMITED, meanOf, pairedValues, type Scores, scoresOf, spentOf } from "./scores.ts";
import { isSynthetic, type StudyData } from "./study-data.ts";
import { choiceOf } from "./table.ts";

export interface RunningTrial {
  readonly number: number;
  readonly phase: TrialRow["phase"];
  readonly candidate: string;
  readonly epoch: number;
  /** To which it trains before somebody decides about it. */
  readonly epochs: number;
  readonly loss: number | undefined;
  readonly score: number | undefined;
  readonly worker: string;
  readonly attempt: number;
  /** Seconds without a heartbeat, where that is long. */
  readonly silent: number | undefined;
}

export interface DisplayState {
  readonly name: string;
  readonly method: string;
  readonly state: StudyRow["state"];
  readonly synthetic: boolean;
  readonly metric: { readonly name: string; readonly text: MetricText };
  /** In full trainings, without search at random and the final ones. */
  readonly spent: number;
  readonly spend: number;
  /** Final trainings that have ended, and that were asked for; undefined before there are any. */
  readonly final: { readonly done: number; readonly of: number } | undefined;
  /** Of what is left to spend and of the final trainings that were asked for; undefined until trainings have been timed. */
  readonly secondsLeft: { readonly value: number; readonly half: number } | undefined;
  readonly counts: Readonly<Record<TrialRow["state"], number>>;
  readonly workers: number;
  /** Attempts beyond the first of a trial: its worker had gone, had given it back, or it had failed. */
  readonly repeated: number;
  readonly points: number;
  readonly feasible: number;
  readonly tried: number;
  readonly noise: Noise | undefined;
  readonly ranks: readonly RungRank[];
  readonly leader:
    | {
        readonly candidate: string;
        readonly expected: Interval;
        /** Expected, minus what is expected of `none`. */
        readonly toNone: number | undefined;
        readonly params: number;
        readonly noneParams: number | undefined;
      }
    | undefined;
  /** The choice on fresh seeds, once there are any. */
  readonly result:
    | {
        readonly candidate: string;
        readonly side: "test" | "validation";
        readonly mean: Interval;
        readonly seeds: number;
        readonly toNone: Interval | undefined;
      }
    | undefined;
  /** What search at random would hand over by now, over seeds; where the noise is not known, its largest single score. */
  readonly chance: { readonly random: Interval; readonly overSeeds: boolean } | undefined;
  readonly running: readonly RunningTrial[];
  /** What ended last, the newest first, in words. */
  readonly ended: readonly string[];
}

/** Seconds without a heartbeat that are worth a word; workers send one every few seconds. */
const SILENT = 20;
const ENDED = 3;

type Timed = Pick<DisplayState, "secondsLeft">["secondsLeft"];

/** What a normal distribution says, within what the metric can be: no share is above one. */
function possible(interval: Interval, { unit }: MetricText): Interval {
  if (unit === "nats") return interval;
  const within = (value: number): number => Math.min(1, Math.max(0, value));
  return { ...interval, value: within(interval.value), low: within(interval.low), high: within(interval.high) };
}

/** The time left, from full trainings that have been timed. */
function secondsLeftOf(data: StudyData, trainings: number, workers: number): Timed {
  const { epochs } = data.study.search;
  const times = data.trials.flatMap(({ id, epochs: asked, state }) => {
    const result = data.results[id];
    return state !== "complete" || result === undefined
      ? []
      : [((result.seconds + result.overheadSeconds) * epochs) / asked];
  });
  if (times.length < 2 || data.study.state !== "running") return undefined;
  const mean = times.reduce((sum, time) => sum + time, 0) / times.length;
  const deviation = Math.sqrt(times.reduce((sum, time) => sum + (time - mean) ** 2, 0) / (times.length - 1));
  const beside = Math.max(1, workers);
  // Of the mean's own error, and of how the trainings to come will differ from it.
  const half = 1.96 * deviation * Math.sqrt(trainings + trainings ** 2 / times.length);
  return { value: (trainings * mean) / beside, half: half / beside };
}

/** What the fresh seeds say of the choice so far. */
function resultOf(
  scores: Scores,
  { leaders }: Findings,
  { none }: Space,
  name: (index: number) => string,
): DisplayState["result"] {
  const choice = choiceOf(scores, leaders);
  const own = choice === undefined ? undefined : scores.tried.get(choice)?.final;
  if (choice === undefined || own === undefined) return undefined;
  const reference = none === undefined || none === choice ? undefined : scores.tried.get(none)?.final;
  const both = pairedValues(reference ?? [], own);
  return {
    candidate: name(choice),
    side: scores.side,
    mean: meanOf(own.map(({ value }) => value)),
    seeds: own.length,
    toNone: both.first.length === 0 ? undefined : seedDifference(both.first, both.second).difference,
  };
}

/** What a display shows at the time `now`, in milliseconds since 1970. */
export function displayState(data: StudyData, findings: Findings, now: number): DisplayState {
  const { study, trials } = data;
  const { search } = study;
  const { space } = search;
  const scores = scoresOf(data);
  const { target } = scores;
  const notation = notationOf(space.factors);
  const byHash = new Map(space.candidates.map((candidate) => [candidate.hash, candidate]));
  const name = (hash: string): string => {
    const candidate = byHash.get(hash);
    return candidate === undefined ? hash.slice(0, 8) : shortLabel(notation, space, candidate);
  };
  const running = trials.filter(({ state }) => state === "running");
  const workers = new Set(running.flatMap(({ worker }) => (worker === undefined ? [] : [worker]))).size;
  const finals = trials.filter(({ phase }) => phase === "final");
  const finalDone = finals.reduce((sum, { id }) => sum + (scores.progress.get(id)?.epochs ?? 0) / search.epochs, 0);
  const spent = spentOf(scores.spent, LIMITED);
  const unspent = Math.max(0, search.spend - spent);
  // Once the final trainings are asked for, nothing else is to come.
  const left = finals.length > 0 ? finals.length - finalDone : unspent;
  const stopped = stoppedTrials(data.decisions);
  const curve = searchCurveOf(data, target, LIMITED);
  const newest = curve.at(-1);
  const band = newest === undefined ? undefined : findings.band.findLast((step) => step.spent <= newest.spent + 1e-9);
  const [leader] = findings.leaders;
  const withoutAny = findings.leaders.find(({ candidate }) => candidate === space.none)?.expected;
  const leading = leader === undefined ? undefined : space.candidates[leader.candidate];
  const none = space.none === undefined ? undefined : space.candidates[space.none];
  const feasible = space.candidates.filter(({ refused }) => refused === undefined);
  const lastPoint = (id: string, ends: RegExp): number | undefined =>
    data.metrics[id]?.findLast((point) => ends.test(point.name))?.value;
  const scoreName = `val.${target.name}`;
  return {
    name: study.name,
    method: methodText(search.method),
    state: study.state,
    synthetic: isSynthetic(data),
    metric: { name: scoreName, text: target.text },
    spent,
    spend: search.spend,
    final:
      finals.length === 0
        ? undefined
        : { done: finals.filter(({ state }) => state === "complete").length, of: finals.length },
    secondsLeft: secondsLeftOf(data, left, workers),
    counts: Object.fromEntries(
      (["waiting", "running", "paused", "complete", "failed", "cancelled"] as const).map((state) => [
        state,
        trials.filter((trial) => trial.state === state).length,
      ]),
    ) as DisplayState["counts"],
    workers,
    repeated: trials.reduce((sum, { attempt }) => sum + Math.max(0, attempt - 1), 0),
    points: space.points,
    feasible: feasible.length,
    tried: feasible.filter(({ index }) => scores.tried.has(index)).length,
    noise: findings.noise,
    ranks: findings.ranks,
    leader:
      leader === undefined || leading === undefined
        ? undefined
        : {
            candidate: shortLabel(notation, space, leading),
            expected: possible(leader.expected, target.text),
            toNone:
              withoutAny === undefined || leading.index === space.none
                ? undefined
                : leader.expected.value - withoutAny.value,
            params: leading.costs.params,
            noneParams: none?.costs.params,
          },
    result: resultOf(scores, findings, space, (index) => name(space.candidates[index]?.hash ?? "")),
    chance:
      band === undefined
        ? undefined
        : { random: possible(band.worth ?? band.expected, target.text), overSeeds: band.worth !== undefined },
    running: running.map((trial) => {
      const quiet = trial.heartbeat === undefined ? 0 : (now - trial.heartbeat) / 1000;
      return {
        number: trial.number,
        phase: trial.phase,
        candidate: trial.phase === "prior" ? SUPER_NETWORK : name(trial.candidate),
        epoch: scores.progress.get(trial.id)?.epochs ?? 0,
        epochs: trial.epochs,
        loss: lastPoint(trial.id, /^(?:train\.)?loss$/),
        score: data.metrics[trial.id]?.findLast((point) => point.name === scoreName)?.value,
        worker: trial.worker ?? "?",
        attempt: trial.attempt,
        silent: quiet >= SILENT ? quiet : undefined,
      };
    }),
    ended: [...trials]
      .filter(({ id, state }) => ["complete", "failed", "cancelled"].includes(state) || stopped.has(id))
      .sort((a, b) => (b.ended ?? b.heartbeat ?? 0) - (a.ended ?? a.heartbeat ?? 0) || b.number - a.number)
      .slice(0, ENDED)
      .map(({ id, number, phase, state, error, candidate }) => {
        const who = `#${number} ${phase === "prior" ? SUPER_NETWORK : name(candidate)}`;
        if (stopped.has(id)) return `${who} left after epoch ${scores.progress.get(id)?.epochs ?? 0}`;
        return state === "complete" ? `${who} done` : `${who} ${state}${error === undefined ? "" : `: ${error}`}`;
      }),
  };
}
