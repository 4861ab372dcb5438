/**
 * A recipe in words: what `netc inspect --stage recipe` shows, every default spelled out.
 *
 * In: the record. Out: rows of a name and a value, in the order of the language; an empty name continues the row before.
 */
import type {
  DataRecipe,
  Goal,
  LossTerm,
  Metric,
  Optimizer,
  ParameterRule,
  Recipe,
  Schedule,
  Stage,
} from "./recipe.ts";

export type RecipeRow = readonly [name: string, value: string];

/** The rows of a whole recipe; a stage begins with a row called `stage`. */
export function recipeRows(recipe: Recipe): readonly RecipeRow[] {
  const { data, precision } = recipe;
  return [
    ["model", recipe.model],
    ...dataRows(data),
    [
      "precision",
      precision.kind === "f32" ? "f32" : `mixed, loss scale ${precision.lossScale ?? "adapted while training"}`,
    ],
    ["seed", String(recipe.seed)],
    ["metrics", recipe.metrics.map(metricText).join(", ") || "the loss only"],
    ...recipe.stages.flatMap(stageRows),
  ];
}

function dataRows(data: DataRecipe): readonly RecipeRow[] {
  const { split, sampling, evaluation } = data;
  const { protocol } = split;
  const who =
    protocol.kind === "folds"
      ? `${protocol.folds} folds by subject, seed ${protocol.seed}`
      : protocol.kind === "fixed"
        ? "the sides that the set names"
        : "one subject left out at a time";
  const window =
    sampling.kind === "segments"
      ? `the middle of one of ${sampling.count} segments`
      : sampling.kind === "middle"
        ? "the middle of the clip"
        : "anywhere in the clip";
  return [
    ["data", data.folder === "" ? "to be given" : data.folder],
    ["labels", data.labels?.join(", ") ?? "as in the manifest"],
    ["split", `${who}; ${percent(split.validation)} of the training subjects for validation`],
    ["batch", `${data.batch}${data.balance === "none" ? "" : ", classes equally often"}`],
    ["sample", `${window}; flow clipped at ${data.flowBound} pixels`],
    [
      "train",
      [
        data.resize === undefined ? "resized to cover the input" : `shorter side resized to ${data.resize}`,
        data.crop === "random" ? "cropped anywhere" : "cropped in the centre",
        ...(data.flip === 0 ? [] : [`mirrored with probability ${data.flip}`]),
        ...(data.jitter === 0 ? [] : [`colours jittered by ${data.jitter}`]),
      ].join(", "),
    ],
    [
      "evaluate",
      `${evaluation.segments} ${evaluation.segments === 1 ? "window" : "windows"} × ${evaluation.crops} ${evaluation.crops === 1 ? "crop" : "crops"}`,
    ],
  ];
}

function percent(share: number): string {
  return share === 0 ? "none" : `${Number((share * 100).toPrecision(6))} %`;
}

function stageRows(stage: Stage): readonly RecipeRow[] {
  const { stop, ema, mixup, clipNorm, accumulate, frozenNorms } = stage;
  return [
    [
      "stage",
      `${stage.name === "" ? "" : `${stage.name}: `}${stage.epochs} ${stage.epochs === 1 ? "epoch" : "epochs"}`,
    ],
    ["loss", stage.loss.map(lossText).join(" + ")],
    ["optimizer", optimizerText(stage.optimizer, stage.rate, stage.weightDecay)],
    ["schedule", scheduleText(stage.schedule)],
    ["keep", `the epoch with the best ${goalText(stage.keep)}`],
    ...(stop === undefined
      ? []
      : ([["stop", `after ${stop.patience} epochs without a better ${goalText(stop.goal)}`]] as const)),
    ...(accumulate === 1 ? [] : ([["accumulate", `${accumulate} batches an update`]] as const)),
    ...(clipNorm === undefined ? [] : ([["clip_norm", String(clipNorm)]] as const)),
    ...(ema === undefined ? [] : ([["ema", `decay ${ema}`]] as const)),
    ...(mixup === undefined ? [] : ([["mixup", `α = ${mixup}`]] as const)),
    ...ruleRows(stage.parameters),
    ...(frozenNorms.length === 0 ? [] : ([["still norms", `${frozenNorms.length}: ${span(frozenNorms)}`]] as const)),
  ];
}

/** Parameters with one rule share a row. */
function ruleRows(rules: readonly ParameterRule[]): readonly RecipeRow[] {
  const groups = new Map<string, string[]>();
  for (const { path, rate, decay, frozenUntil } of rules) {
    const words =
      frozenUntil === "end"
        ? "frozen"
        : [
            `rate ×${rate}`,
            `decay ×${decay}`,
            ...(frozenUntil === 0 ? [] : [`frozen until epoch ${frozenUntil}`]),
          ].join(", ");
    groups.set(words, [...(groups.get(words) ?? []), path]);
  }
  return [...groups].map(([words, paths], i) => [
    i === 0 ? "parameters" : "",
    `${words}: ${paths.length}, ${span(paths)}`,
  ]);
}

function span(paths: readonly string[]): string {
  const [first = "", ...more] = paths;
  return more.length === 0 ? first : `${first} … ${more.at(-1) ?? ""}`;
}

function metricText(metric: Metric): string {
  return metric.kind === "auc" ? `auc(${metric.class})` : metric.kind;
}

function goalText({ metric }: Goal): string {
  return `val.${metricText(metric)}`;
}

const LOSS = {
  cross_entropy: "cross-entropy",
  binary_cross_entropy: "binary cross-entropy",
  mean_squared_error: "mean squared error",
} as const;

function lossText({ weight, kind, on, smoothing, classWeights }: LossTerm): string {
  const weights = typeof classWeights === "string" ? classWeights : `[${classWeights.join(", ")}]`;
  const options = [
    ...(smoothing === 0 ? [] : [`label smoothing ${smoothing}`]),
    ...(weights === "none" ? [] : [`weights ${weights}`]),
    ...(on === "streams" ? ["of each stream"] : []),
  ];
  return `${weight === 1 ? "" : `${weight} · `}${LOSS[kind]}${options.length === 0 ? "" : ` (${options.join(", ")})`}`;
}

function optimizerText(optimizer: Optimizer, rate: number, decay: number): string {
  const name =
    optimizer.kind === "sgd"
      ? `SGD, momentum ${optimizer.momentum}${optimizer.nesterov ? ", Nesterov" : ""}`
      : `${optimizer.decoupled ? "AdamW" : "Adam"}, β ${optimizer.beta1} and ${optimizer.beta2}, ε ${optimizer.eps}`;
  return `${name}; rate ${rate}, weight decay ${decay}`;
}

function scheduleText({ warmup, then }: Schedule): string {
  const rising = warmup === 0 ? "" : `warm-up over ${warmup} ${warmup === 1 ? "epoch" : "epochs"}, then `;
  switch (then.kind) {
    case "constant":
      return `${rising}constant`;
    case "step":
      return `${rising}×${then.gamma} at ${then.at.join(", ")}`;
    case "cosine":
      return `${rising}cosine to ${then.to}`;
    case "plateau":
      return `${rising}×${then.gamma} after ${then.patience} epochs without a better ${goalText(then.goal)}, not below ${then.least}`;
    default:
      return then satisfies never;
  }
}
