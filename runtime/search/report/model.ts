/**
 * What a report of a study says, before it is Markdown, LaTeX, CSV or a page: all of them write this record, and
 * report.json is this record.
 *
 * Values are in the metric's own unit; an interval without bounds has NaN there, which JSON writes as null.
 */
import type { CandidateCosts, LatencySurvey, Replicates } from "../../../compiler/search/search.ts";
import type { Interval } from "../../metrics/intervals.ts";
import type { MetricText } from "../../metrics/scores.ts";
import type { MetricPoint, Phase, StudyRow, TrialState } from "../study.ts";
import type { Notation } from "./notation.ts";
import type { Seeded } from "./scores.ts";

/** A difference to another row, over the seeds that both have. */
export interface RowDifference {
  /** This row minus the other. */
  readonly difference: Interval;
  readonly pairs: number;
  /** Two-sided, of the paired t test. */
  readonly p: number;
  /** By Holm, over all differences of the table. */
  readonly corrected: number;
  /** As if the seeds were not shared: what pairing gains is measured, not taken for granted. */
  readonly unpaired: Interval;
}

/** A row of the table: a candidate that was trained on fresh seeds. */
export interface TableRow {
  readonly candidate: number;
  /** `choice`, `none`, `all`, `only conv3`, `without conv3`, `finalist 1`, `best of random`. */
  readonly roles: readonly string[];
  /** On fresh seeds; of the side that the table is about. */
  readonly seeds: readonly Seeded[];
  readonly mean: Interval;
  /** On the same trainings, of the validation side. */
  readonly validation: Interval;
  readonly toNone: RowDifference | undefined;
  readonly toRandom: RowDifference | undefined;
  /** Whether no other row is at least as good in the metric's mean and in every cost, and better in one. */
  readonly front: boolean;
}

/** A candidate as the search saw it. */
export interface SearchRow {
  readonly candidate: number;
  readonly roles: readonly string[];
  readonly seeds: readonly Seeded[];
  /** Of the validation side. Of those that were chosen for their score it is too high by chance. */
  readonly mean: Interval;
}

export interface ReportLatency {
  /** Median. */
  readonly milliseconds: number;
  /** Quartiles; NaN where there are none. */
  readonly low: number;
  readonly high: number;
  readonly device: string;
  /** With the trainings of the table; before the search; or never, but predicted from other models before the search. */
  readonly source: "table" | "before" | "predicted";
  /** Part of the processors' time that other programs took meanwhile. */
  readonly busy: number;
}

export interface ReportCandidate {
  readonly index: number;
  readonly label: string;
  /** Dots and words: `○○●●○ STIA(4)`. */
  readonly short: string;
  readonly hash: string;
  /** By set of positions. */
  readonly dots: readonly string[];
  /** By other factor. */
  readonly words: readonly string[];
  readonly levels: readonly number[];
  readonly costs: CandidateCosts;
  /** Milliseconds of a forward pass of one example, where they are known. */
  readonly latency: ReportLatency | undefined;
  /** Norm of the gradients in the first update, on average over its trainings. */
  readonly gradientNorm: number | undefined;
  readonly refused: string | undefined;
  readonly trials: number;
  readonly searched: readonly Seeded[];
  readonly final: readonly Seeded[];
}

export interface ReportTrial {
  readonly number: number;
  readonly id: string;
  readonly candidate: number;
  readonly phase: Phase;
  readonly replicate: number;
  readonly seed: number;
  readonly state: TrialState;
  /** Left behind a rung, because others did better there. */
  readonly left: boolean;
  /** Epochs that were done, and that were asked for. */
  readonly epochs: number;
  readonly asked: number;
  /** Of the metric, on the validation side, at its newest rung. */
  readonly value: number | undefined;
  readonly metrics: Readonly<Record<string, number>>;
  readonly seconds: number;
  readonly overheadSeconds: number;
  readonly latency: number | undefined;
  readonly attempts: number;
  readonly device: string;
  readonly error: string | undefined;
  readonly points: readonly MetricPoint[];
}

/** How well the order after so many epochs tells the order after more. */
export interface RungRank {
  readonly from: number;
  readonly to: number;
  /** Kendall's. */
  readonly tau: Interval;
  /** Trainings that have come to both. */
  readonly trials: number;
}

export interface Noise {
  /** Standard deviation between trainings of one candidate that differ in their seed. */
  readonly deviation: Interval;
  readonly trainings: number;
  readonly candidates: number;
  /** Correlation between two candidates of one seed; NaN where it cannot be told. */
  readonly pairing: number;
}

/** What a position contributes. */
export interface Contribution {
  /** Index of the factor. */
  readonly factor: number;
  readonly name: string;
  readonly shapley: Interval;
  /** Plain means of the search's scores with and without it, and how many trainings they are of. */
  readonly on: { readonly mean: number; readonly trainings: number };
  readonly off: { readonly mean: number; readonly trainings: number };
}

export interface Pairing {
  /** Indices of the factors. */
  readonly first: number;
  readonly second: number;
  /** What both together do beyond the sum of what each does. */
  readonly effect: Interval;
}

/** What a position contributes with one option alone: its own, or of a choice that is there with it. */
export interface OptionContribution {
  /** Index of the position's factor. */
  readonly factor: number;
  /** `STIA`, `STIA(4)`. */
  readonly option: string;
  readonly shapley: Interval;
  /** Its part in the position's own value. */
  readonly weight: number;
}

/** What differences between candidates come from, by the model's mean over the space. */
export interface VarianceParts {
  /** By choice, positions and others: its name and its share. */
  readonly main: readonly { readonly factor: number; readonly name: string; readonly share: number }[];
  /** Indices of the factors. */
  readonly pairs: readonly { readonly first: number; readonly second: number; readonly share: number }[];
  readonly rest: number;
  /** Standard deviation over the space, in the metric's unit. */
  readonly deviation: number;
  readonly points: number;
  /** Whether those points are all there are. */
  readonly exact: boolean;
}

export interface Importance {
  readonly contributions: readonly Contribution[];
  readonly pairs: readonly Pairing[];
  /** Empty where no position has several. */
  readonly options: readonly OptionContribution[];
  readonly variance: VarianceParts;
  /** What the model expects without any, and with all of them. */
  readonly none: number;
  readonly all: number;
  /** How it was computed. */
  readonly method: string;
  readonly notes: readonly string[];
}

/** A step of the search: a score at a spend. */
export interface CurveStep {
  readonly spent: number;
  readonly trial: number;
  readonly value: number;
  /** The largest so far: of single trainings, so too high by chance. */
  readonly soFar: number;
}

/** What search at random would have as its largest score after so many trainings. */
export interface BandStep {
  readonly spent: number;
  /** The largest single score: as optimistic as any that was chosen for being large. */
  readonly expected: Interval;
  /** What the candidate that has it is worth over seeds; undefined where the noise is not known. */
  readonly worth: Interval | undefined;
}

/** A candidate that has been trained, and what the search's model expects of it. */
export interface Leader {
  /** Index of the candidate. */
  readonly candidate: number;
  /** What a full training would show on average over seeds. Not a result: the same scores chose it. */
  readonly expected: Interval;
}

/** What is computed from the search's scores by a model, or by drawing again. */
export interface Findings {
  /** In the order in which the search would choose them. */
  readonly leaders: readonly Leader[];
  readonly noise: Noise | undefined;
  readonly ranks: readonly RungRank[];
  readonly importance: Importance | undefined;
  readonly band: readonly BandStep[];
}

/** A super-network that was asked for. */
export interface PriorReport {
  /** Of its training, and how many candidates it scores; what both cost in full trainings. 0 if it is not trained. */
  readonly epochs: number;
  readonly scored: number;
  readonly cost: number;
  /** Seconds that both took, once they have. */
  readonly seconds: number | undefined;
  /** Kendall's τ between its scores and full trainings, with the 95 % interval; undefined before there is any. */
  readonly tau: Interval | undefined;
  /** Candidates that it is judged by. */
  readonly pairs: number;
  /** Whether the search believes it. */
  readonly trusted: boolean;
  /** The same in a sentence, with the reason. */
  readonly verdict: string;
}

/** A score that is had without training, and how well it would have ranked. It chooses nothing. */
export interface ZeroCost {
  readonly name: string;
  /** Kendall's τ between it and the means of the search's full trainings. */
  readonly tau: Interval;
  readonly candidates: number;
}

/** The choice against another row on the same clips, over subjects. */
export interface SubjectComparison {
  readonly against: string;
  readonly first: number;
  readonly second: number;
  readonly difference: Interval;
  readonly p: number;
  readonly subjects: number;
  readonly clips: number;
  readonly seeds: number;
  readonly method: string;
  readonly notes: readonly string[];
}

export interface StudyReport extends Findings {
  readonly format: "netc-search-report";
  readonly version: 1;
  readonly name: string;
  readonly id: string;
  readonly state: StudyRow["state"];
  readonly note: string;
  readonly synthetic: boolean;
  readonly netc: string;
  readonly created: number;
  readonly metric: {
    readonly name: string;
    readonly text: MetricText;
    readonly goal: "maximize" | "minimize";
    /** What the table's figures are of. */
    readonly side: "test" | "validation";
  };
  readonly objectives: readonly string[];
  readonly requirements: readonly string[];
  /** Most milliseconds of a forward pass; what is slower, which only measuring tells, is marked. */
  readonly latencyLimit: number | undefined;
  /** What was measured before the search. */
  readonly latency: LatencySurvey | undefined;
  readonly notation: Notation;
  readonly space: {
    readonly points: number;
    readonly candidates: number;
    readonly feasible: number;
    readonly refused: number;
    /** Feasible candidates with at least one training, and with a full one. */
    readonly tried: number;
    readonly finished: number;
    /** Why candidates were refused, and how many for each reason, the most frequent first. */
    readonly reasons: readonly { readonly reason: string; readonly candidates: number }[];
    /** Some that nobody has trained, in words. */
    readonly untried: readonly string[];
    /** Candidates without and with all attention. */
    readonly none: number | undefined;
    readonly all: number | undefined;
  };
  readonly method: {
    readonly asked: string;
    /** What decided, and how many trials each began. */
    readonly used: readonly { readonly name: string; readonly trials: number }[];
    /** Whether candidates were chosen by their scores. */
    readonly adaptive: boolean;
  };
  readonly budget: {
    readonly spend: number;
    /** Of it, and on top of it, in full trainings. */
    readonly spent: number;
    readonly byPhase: Readonly<Record<Phase, number>>;
    /** `paused`: behind a rung, and not decided about. */
    readonly states: Readonly<Record<TrialState, number>>;
    /** Left behind a rung for good. */
    readonly left: number;
    readonly deviceSeconds: number;
    readonly overheadSeconds: number;
    readonly wallSeconds: number;
  };
  readonly prior: PriorReport | undefined;
  readonly zeroCost: readonly ZeroCost[];
  readonly seeds: { readonly study: number; readonly replicates: Replicates };
  readonly rungs: readonly number[];
  readonly epochs: number;
  readonly devices: readonly string[];
  readonly kernels: { readonly hits: number; readonly misses: number };
  /** Index of the candidate that the search chose, before any fresh seed was seen. */
  readonly choice: number | undefined;
  readonly bestRandom: { readonly candidate: number; readonly of: number } | undefined;
  readonly rows: readonly TableRow[];
  readonly searchRows: readonly SearchRow[];
  readonly subjects: readonly SubjectComparison[];
  readonly searchCurve: readonly CurveStep[];
  readonly randomCurve: readonly CurveStep[];
  readonly candidates: readonly ReportCandidate[];
  readonly trials: readonly ReportTrial[];
  readonly journal: { readonly decisions: number; readonly hash: string };
  readonly searchHash: string;
  readonly dataHash: string;
  readonly commands: readonly string[];
  readonly checklist: readonly { readonly question: string; readonly answer: string }[];
}
