/**
 * What a `search` says, checked: the space that is searched, what is asked of it, and how much may be spent.
 *
 * Elaboration makes these records from a `search` of the source; the methods of runtime/search see of a space only its
 * factors and candidates. Everything here is plain data that JSON keeps, so that a study stores it, hashes it, and says
 * what has changed when it goes on.
 */

/**
 * One thing that varies. Every candidate has one level of every factor; level 0 of an optional factor means that what it
 * describes is absent, so that a choice within an absent one makes no further candidates.
 */
export interface Factor {
  /** `spots.conv3` for a member of a chosen subset, `joint` for a choice, `joint.reduction` for one within it, `lr`. */
  readonly name: string;
  /** A member is there or not (levels 0 and 1); categories have no order; ordinal levels have. */
  readonly kind: "member" | "category" | "ordinal";
  /** Whether level 0 means "absent". Always so for a member. */
  readonly optional: boolean;
  /** The levels as the source would write them; "" for absent. */
  readonly levels: readonly string[];
  /** Numbers of the levels of an ordinal factor, on the scale that the set is even on (log10 for `log(…)`); 0 for absent. */
  readonly values: readonly number[] | undefined;
}

/** Costs that are exact before any training. */
export interface CandidateCosts {
  /** Learned parameters. */
  readonly params: number;
  /** FLOPs of one forward pass of one example; a multiply-add counts two. */
  readonly flops: number;
  /** Bytes of all activations of one example, before any fusion: what training keeps of it. */
  readonly memory: number;
}

/** One model of the space. No two candidates have the same `hash`. */
export interface Candidate {
  /** Its place among `Space.candidates`. */
  readonly index: number;
  /** One level per factor. */
  readonly levels: readonly number[];
  /** In words, canonical: `joint=STIA(reduction=4), spots={conv3, conv4}, lr=0.001`; `none` where nothing is placed. */
  readonly label: string;
  /** SHA-256 over the graph's hash and the recipe's: what is trained. */
  readonly hash: string;
  readonly costs: CandidateCosts;
  /** Undefined if it may be trained; else the requirements that it breaks, with their values. */
  readonly refused: string | undefined;
  /** Where a latency is asked for and was looked for on a device; never known to the compiler. */
  readonly latency?: CandidateLatency;
}

/** How long a forward pass of one example takes. */
export interface CandidateLatency {
  readonly milliseconds: number;
  /** Of this very model; else predicted from others. */
  readonly measured: boolean;
  /** Whether it is the reason, and the only one, why the candidate is refused. */
  readonly refuses: boolean;
}

/** How latencies were found before a study began. */
export interface LatencySurvey {
  /** In words. */
  readonly device: string;
  /** The models that were measured: a candidate of each, median and quartiles in milliseconds, passes that were timed. */
  readonly measured: readonly {
    readonly candidate: number;
    readonly median: number;
    readonly low: number;
    readonly high: number;
    readonly runs: number;
  }[];
  /** Different models among the feasible candidates. */
  readonly models: number;
  /** Of models that the predictions did not know: how far off they were, as shares of what was measured. */
  readonly check: { readonly models: number; readonly median: number; readonly most: number } | undefined;
  /** Part of the processors' time that other programs took meanwhile. */
  readonly busy: number;
}

export interface Space {
  readonly factors: readonly Factor[];
  /** All that are different models, also the refused ones. */
  readonly candidates: readonly Candidate[];
  /** Points as written, before equal models were joined. */
  readonly points: number;
  /**
   * Without any attention, and with all there can be: always candidates, whatever the sets say. Undefined where the
   * search places nothing, or there is no such model.
   */
  readonly none: number | undefined;
  readonly all: number | undefined;
  /** Indices of the factors that the model depends on; the others are the recipe's. Absent: not told. */
  readonly modelFactors?: readonly number[];
  /** Points that are no models, or that their recipe cannot train, and why; they are no candidates. */
  readonly unsound?: readonly { readonly label: string; readonly reason: string }[];
}

export type Objective =
  /** A metric of the validation side, learned by training. */
  | { readonly kind: "metric"; readonly goal: "maximize" | "minimize"; readonly metric: string }
  /** Known without training: exact, or measured. */
  | {
      readonly kind: "cost";
      readonly goal: "maximize" | "minimize";
      readonly cost: "params" | "flops" | "memory" | "latency";
    };

export type Method =
  /** The space's size, the budget and the objectives decide; `netc search plan` says what and why. */
  | { readonly kind: "auto" }
  /** Every candidate, `replicates` times at least. */
  | { readonly kind: "factorial" }
  | { readonly kind: "gp" }
  | { readonly kind: "random" }
  | { readonly kind: "tpe"; readonly multivariate: boolean }
  | { readonly kind: "evolution"; readonly population: number; readonly tournament: number }
  | { readonly kind: "halving"; readonly eta: number };

/** Scores of a network that has every unit at every position, each behind a gate, trained once. */
export interface SuperNetworkPrior {
  /** Epochs of its training. */
  readonly epochs: number;
  /** Candidates that it scores at most. */
  readonly scores: number;
}

/** How many trainings, each with a seed of its own, a candidate gets in each part of a study. */
export interface Replicates {
  readonly search: number;
  readonly confirm: number;
  readonly final: number;
}

export interface Search {
  readonly name: string;
  /** Values of the search's parameters that were given, as the source would write them; absent: none were. */
  readonly arguments?: Readonly<Record<string, string>>;
  readonly space: Space;
  /** The first metric is what trials are compared by; costs make a front. */
  readonly objectives: readonly Objective[];
  /** The requirements and limits as written, for the report. */
  readonly requirements: readonly string[];
  /** Most milliseconds of a forward pass of one example on the device at hand, which only measuring tells. */
  readonly latencyLimit: number | undefined;
  /** What measuring told, once it was done: before the first trial. */
  readonly latency?: LatencySurvey;
  readonly method: Method;
  /** Absent: nothing is expected beforehand. */
  readonly prior?: SuperNetworkPrior;
  /** Full trainings that searching and confirming may cost together; the final ones come on top. */
  readonly spend: number;
  readonly replicates: Replicates;
  /** Epochs of the partial trainings that may come before a full one, rising; empty: full trainings only. */
  readonly rungs: readonly number[];
  /** Epochs of a full training. */
  readonly epochs: number;
  /** Seed of the whole study: proposals, and the seeds of trials. */
  readonly seed: number;
  /** Candidates that are trained in any case, beside `none` and `all`. */
  readonly starts: readonly number[];
  /** Whether random search at equal budget is run too, or only estimated. */
  readonly randomBaseline: boolean;
}
