/**
 * What a recipe says, checked against its model: how a network is trained.
 *
 * Elaboration (elaborate.ts) makes this record from a `recipe` of the source; the training step is compiled from it
 * (../graph/step.ts) and the loop follows it (runtime/train). It is plain data that JSON keeps, so that a run can store
 * it, hash it and refuse to go on when it has changed. Positions and patterns are already resolved to parameter paths.
 */

export interface Recipe {
  readonly name: string;
  /** The model that it trains. */
  readonly model: string;
  readonly data: DataRecipe;
  /** One after the other, each from where the one before it ended; at least one. */
  readonly stages: readonly Stage[];
  readonly precision: Precision;
  readonly seed: number;
  /** What is logged after every epoch, besides the loss. */
  readonly metrics: readonly Metric[];
}

/** Element type of activations and gradients inside the step; parameters and optimizer state are f32 always. */
export type Precision =
  | { readonly kind: "f32" }
  /** Stored f16, summed in f32; `lossScale` undefined: adapted while training. */
  | { readonly kind: "mixed"; readonly lossScale: number | undefined };

// ----------------------------------------------------------------------------------------------------------------- data

export interface DataRecipe {
  /** As written; relative paths are taken from the source file's folder. */
  readonly folder: string;
  /** The classes by number of the model's output; undefined: the manifest's order. */
  readonly labels: readonly string[] | undefined;
  readonly split: Split;
  readonly batch: number;
  /** How often clips are drawn: each once an epoch, or classes equally often. */
  readonly balance: "none" | "inverse_frequency";
  /**
   * Where in a clip the window of one training sample lies: its middle, anywhere, or in the middle of one of `count`
   * equal parts, drawn anew each time. All streams of a sample share the window.
   */
  readonly sampling:
    | { readonly kind: "middle" }
    | { readonly kind: "random" }
    | { readonly kind: "segments"; readonly count: number };
  /** Shorter side that frames are resized to before they are cropped; undefined: just enough to cover the input. */
  readonly resize: number | undefined;
  /** Where the training crop lies. One crop and one flip for all streams of a sample. */
  readonly crop: "random" | "centre";
  /** Probability of a horizontal flip in training; the flow's x changes its sign with it. */
  readonly flip: number;
  /** Strength of brightness, contrast and saturation jitter of the RGB frame, 0 for none (torchvision's ColorJitter). */
  readonly jitter: number;
  /** Displacement in pixels at which flow is clipped. */
  readonly flowBound: number;
  readonly evaluation: {
    /** Windows spread evenly over the clip, whose scores are averaged; 25 in the two-stream literature. */
    readonly segments: number;
    /** Crops of each: the centre, or the four corners and the centre, each also mirrored. */
    readonly crops: 1 | 10;
  };
}

/** Who trains, who chooses the epoch (validation), who is tested. */
export interface Split {
  readonly protocol:
    | { readonly kind: "folds"; readonly folds: number; readonly seed: number }
    | { readonly kind: "leave-one-subject-out" }
    /** The sides that the set itself names. */
    | { readonly kind: "fixed" };
  /** Share of the training subjects that is held out to choose the epoch, from 0 to below 1. */
  readonly validation: number;
}

// ---------------------------------------------------------------------------------------------------------------- stage

export interface Stage {
  /** Empty where a recipe has one stage only. */
  readonly name: string;
  readonly epochs: number;
  readonly loss: readonly LossTerm[];
  readonly optimizer: Optimizer;
  /** Learning rate before the schedule and the parameters' own factors. */
  readonly rate: number;
  readonly weightDecay: number;
  readonly schedule: Schedule;
  /** Every learned parameter of the model (running statistics are none), in the model's order. */
  readonly parameters: readonly ParameterRule[];
  /**
   * Paths of the batch norms (of their layer, without `.weight`) that keep their running statistics and use them, as
   * outside of training: those of partial BN, and those whose own parameters are frozen for the whole stage.
   */
  readonly frozenNorms: readonly string[];
  /** Batches whose gradients are averaged for one update. */
  readonly accumulate: number;
  /** Largest norm of all gradients together; undefined: no limit. */
  readonly clipNorm: number | undefined;
  /** Decay of the moving average of the parameters that is evaluated and kept; undefined: the parameters themselves. */
  readonly ema: number | undefined;
  /** α of mixup's Beta(α, α) (Zhang et al. 2018); undefined: none. */
  readonly mixup: number | undefined;
  readonly stop: EarlyStop | undefined;
  /** Which epoch is the best. */
  readonly keep: Goal;
}

export interface LossTerm {
  readonly weight: number;
  readonly kind: "cross_entropy" | "binary_cross_entropy" | "mean_squared_error";
  /** The model's output; or one loss for what each stream gives before they are fused, added. */
  readonly on: "output" | "streams";
  /** Label smoothing ε; cross-entropy only. */
  readonly smoothing: number;
  /** How much an example of each class counts; cross-entropy only. */
  readonly classWeights: "none" | "inverse_frequency" | readonly number[];
}

export type Optimizer =
  | { readonly kind: "sgd"; readonly momentum: number; readonly nesterov: boolean }
  /** `decoupled`: AdamW (Loshchilov & Hutter 2019), else the decay is added to the gradient (Kingma & Ba 2015). */
  | {
      readonly kind: "adam";
      readonly beta1: number;
      readonly beta2: number;
      readonly eps: number;
      readonly decoupled: boolean;
    };

/** A factor on the learning rate as a function of the time in epochs. */
export interface Schedule {
  /** Epochs during which the factor rises linearly to that of `then`. */
  readonly warmup: number;
  /** Time in `then` counts from the start of the stage, warm-up included. */
  readonly then:
    | { readonly kind: "constant" }
    | { readonly kind: "step"; readonly at: readonly number[]; readonly gamma: number }
    /** Half a cosine from 1 to `to` at the end of the stage (Loshchilov & Hutter 2017, eq. 5). */
    | { readonly kind: "cosine"; readonly to: number }
    /** Times `gamma` whenever the metric has not become better for `patience` epochs; the factor stays at `least` or above. */
    | {
        readonly kind: "plateau";
        readonly goal: Goal;
        readonly gamma: number;
        readonly patience: number;
        readonly least: number;
      };
}

export interface ParameterRule {
  readonly path: string;
  /** Factor on the learning rate. */
  readonly rate: number;
  /** Factor on the weight decay. */
  readonly decay: number;
  /** Not updated before this epoch of the stage: 0 never frozen, "end" not trained in this stage. */
  readonly frozenUntil: number | "end";
}

export interface EarlyStop {
  readonly goal: Goal;
  /** Epochs without an improvement after which the stage ends. */
  readonly patience: number;
}

// -------------------------------------------------------------------------------------------------------------- metrics

/** A number that is computed from the predictions for a set of clips. */
export type Metric =
  | { readonly kind: "loss" | "accuracy" | "uar" | "macro_f1" }
  /** Area under the ROC curve of one class against the others. */
  | { readonly kind: "auc"; readonly class: string };

/** A metric of the validation clips that is to become large, or small. */
export interface Goal {
  readonly metric: Metric;
  readonly better: "larger" | "smaller";
}
