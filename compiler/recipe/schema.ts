/**
 * The settings of recipes: the one table of their names, the values they take, their defaults and what they mean.
 *
 * The grammar knows no setting. What is read (sections.ts), what is suggested after a misspelling and the tables of
 * specs/recipes.md all come from here. Defaults are written in the language and read like any value: a recipe without a
 * setting is a recipe with its default, and a file without a recipe is trained as if by `recipe Default {}`.
 */
import { choice, type Kind, type Located, number, optional } from "./kinds.ts";
import { places, type WrittenPlace } from "./places.ts";
import type { DataRecipe, EarlyStop, Goal, Precision, Schedule, Split } from "./recipe.ts";
import {
  best,
  early,
  frozenNorms,
  loss,
  type MetricOrTable,
  metrics,
  optimizer,
  precision,
  protocol,
  type Sample,
  type Source,
  sample,
  schedule,
  source,
  type Transform,
  transforms,
  undecayed,
  until,
  views,
  type WrittenOptimizer,
  type WrittenTerm,
} from "./words.ts";

export interface Row<T> {
  readonly kind: Kind<T>;
  /** The default, in the language; undefined: it must be given. */
  readonly otherwise: string | undefined;
  readonly doc: string;
}
export type Table = Readonly<Record<string, Row<unknown>>>;

/** A row for each value. */
type Rows<V> = { readonly [K in keyof V]: Row<V[K]> };

function row<T>(kind: Kind<T>, otherwise: string | undefined, doc: string): Row<T> {
  return { kind, otherwise, doc };
}

const count = number({ from: 1, whole: true });

/** What holds for a whole recipe. */
export interface RecipeValues {
  readonly precision: Precision;
  readonly seed: number;
  readonly metrics: readonly Located<MetricOrTable>[];
  readonly evaluate: DataRecipe["evaluation"];
}

export const RECIPE: Rows<RecipeValues> = {
  precision: row(
    precision,
    "f32",
    "what activations and gradients are stored in; `mixed(f16)` adapts its loss scale unless `loss_scale` fixes it",
  ),
  seed: row(number({ from: 0, whole: true }), "0", "of everything that is drawn: start, order, windows, crops"),
  metrics: row(
    metrics,
    "[accuracy, uar]",
    'logged after every epoch, besides the loss. `uar` is the mean of the classes\' recalls, `auc("class")` sets one class against the others; `confusion` is kept of every evaluation anyway',
  ),
  evaluate: row(
    views,
    "views(segments=1, crops=1)",
    "windows of a clip and crops of each whose scores are averaged; `views` alone is `segments=25, crops=10`, as in the two-stream literature",
  ),
};

/** What may differ from stage to stage. */
export interface StageValues {
  readonly epochs: number;
  readonly loss: readonly WrittenTerm[];
  readonly optimizer: WrittenOptimizer;
  readonly schedule: Schedule;
  readonly keep: Goal;
  readonly stop: EarlyStop | undefined;
  readonly no_decay: readonly Located<"biases" | "norms">[] | undefined;
  readonly freeze: readonly WrittenPlace[] | undefined;
  readonly freeze_norms: "none" | "all" | "all_but_first" | readonly WrittenPlace[];
  readonly accumulate: number;
  readonly clip_norm: number | undefined;
  readonly ema: number | undefined;
  readonly mixup: number | undefined;
}

export const STAGE: Rows<StageValues> = {
  epochs: row(count, "30", "how often each clip is seen"),
  loss: row(
    loss,
    "CrossEntropy",
    "a term, or a sum of terms with factors. `on=streams` is one loss for what each stream gives before they are fused, added; `weights` are those of the classes",
  ),
  optimizer: row(
    optimizer,
    "SGD(lr=1e-2, momentum=0.9, weight_decay=5e-4)",
    "how parameters are updated, and how fast",
  ),
  schedule: row(
    schedule,
    "Warmup(epochs=1) -> Cosine(to=0)",
    "a factor on the learning rate over time. `Step(at=[25, 45])` times `gamma` at these epochs, `Cosine(to=0)` down to `to`, `Plateau` times `gamma` after `patience` epochs without a better metric, but not below `least`",
  ),
  keep: row(best, "best(val.accuracy)", "which epoch is the result"),
  stop: row(
    optional(early),
    "none",
    "`early(val.loss, patience=10)` ends the stage when the metric has not become better for so many epochs",
  ),
  no_decay: row(
    optional(undecayed),
    "none",
    "what weight decay leaves alone: `biases`, `norms` (weights and biases of batch and layer norm)",
  ),
  freeze: row(
    optional(places),
    "none",
    "what is not trained. A batch norm that is frozen keeps its running statistics too",
  ),
  freeze_norms: row(
    frozenNorms,
    "none",
    "batch norms that keep their running statistics, their weights and biases: `all` or `all_but_first` of each stream's backbone (partial BN, Wang et al. 2016), or positions. Norms of grafted units are frozen by position only",
  ),
  accumulate: row(count, "1", "batches whose gradients are averaged for one update"),
  clip_norm: row(optional(number({ above: 0 })), "none", "largest norm of all gradients together"),
  ema: row(
    optional(number({ above: 0, below: 1 })),
    "none",
    "decay of a moving average of the parameters, which is then evaluated and kept",
  ),
  mixup: row(optional(number({ above: 0 })), "none", "α of Beta(α, α) (Zhang et al. 2018)"),
};

export interface DataValues {
  readonly source: Source | undefined;
  readonly split: Split["protocol"];
  readonly validation: number;
  readonly batch: number;
  readonly balance: DataRecipe["balance"];
}

export const DATA: Rows<DataValues> = {
  source: row(
    optional(source),
    "none",
    "a folder with a manifest, and the classes in the order of the outputs; `--data` goes before it",
  ),
  split: row(
    protocol,
    "by_subject(folds=10, seed=0)",
    "who trains and who is tested: no subject is on both sides. `fixed` takes the sides that the set names",
  ),
  validation: row(
    number({ from: 0, below: 1 }),
    "0.1",
    "share of the training subjects that is held out to choose the epoch",
  ),
  batch: row(count, "16", "clips at once"),
  balance: row(
    choice("none", "inverse_frequency"),
    "none",
    "draws clips so that classes are equally frequent, instead of each clip once an epoch",
  ),
};

/** Of one input; in `data` itself they are of all inputs. */
export interface StreamValues {
  readonly sample: Sample | undefined;
  readonly train: readonly Located<Transform>[] | undefined;
  readonly eval: readonly Located<Transform>[] | undefined;
}

export const STREAM: Rows<StreamValues> = {
  sample: row(
    optional(sample),
    "none",
    "where in a clip the window of a training sample lies; by default anywhere, `random_frame`. `flow` stands for L fields of optical flow, clipped at `clip` pixels, from the same window",
  ),
  train: row(
    optional(transforms),
    "none",
    "transforms in training. By default the shorter side is resized to 8/7 of the input and a crop is drawn; nothing is mirrored, for a mirror also changes what motion means",
  ),
  eval: row(optional(transforms), "none", "transforms otherwise; by default the same size, cropped in the centre"),
};

/** Inside a group `lr` and `weight_decay` are those of the stage. */
export interface GroupValues {
  readonly at: readonly WrittenPlace[];
  readonly lr: number;
  readonly weight_decay: number;
  readonly frozen_until: number | "end";
}

export const GROUP: Rows<GroupValues> = {
  at: row(places, undefined, 'the parameters below these positions, or whose paths fit a text such as `"*.bias"`'),
  lr: row(number({ from: 0 }), "lr", "their learning rate"),
  weight_decay: row(number({ from: 0 }), "weight_decay", "their weight decay"),
  frozen_until: row(until, "epochs(0)", "not trained before this epoch of the stage, or `end`: not at all"),
};
