/**
 * A recipe in words: what was done to the network, for people who do not read `.net`.
 */
import type { Goal, LossTerm, Optimizer, Recipe, Schedule, Stage } from "../../compiler/recipe/recipe.ts";
import { metricText } from "../metrics/scores.ts";
import { count, percent, significant } from "./text.ts";

/** A heading and its lines, or a list of name and words. */
export interface Words {
  readonly title: string;
  readonly rows: readonly (readonly [name: string, words: string])[];
}

const plain = (value: number): string => significant(value, 4);

function goalWords({ metric, better }: Goal): string {
  return `${better === "larger" ? "largest" : "smallest"} ${metricText(metric).title} of the validation clips`;
}

function lossWords({ weight, kind, on, smoothing, classWeights }: LossTerm, alone: boolean): string {
  const name = kind
    .replaceAll("_", " ")
    .replace("cross entropy", "cross-entropy")
    .replace("mean squared", "mean squared");
  const where = on === "output" ? (alone ? "" : " of the output") : " of each stream before fusion, averaged";
  const details = [
    ...(smoothing > 0 ? [`label smoothing ${plain(smoothing)}`] : []),
    ...(classWeights === "none"
      ? []
      : [
          classWeights === "inverse_frequency"
            ? "classes weighted by inverse frequency"
            : `class weights ${classWeights.map(plain).join(", ")}`,
        ]),
  ];
  const factor = alone && weight === 1 ? "" : `${plain(weight)} × `;
  return `${factor}${name}${where}${details.length === 0 ? "" : ` (${details.join(", ")})`}`;
}

function optimizerWords(optimizer: Optimizer): string {
  switch (optimizer.kind) {
    case "sgd":
      return optimizer.momentum === 0
        ? "SGD without momentum"
        : `SGD with ${optimizer.nesterov ? "Nesterov " : ""}momentum ${plain(optimizer.momentum)}`;
    case "adam":
      return `${optimizer.decoupled ? "AdamW" : "Adam"}, β₁ ${plain(optimizer.beta1)}, β₂ ${plain(optimizer.beta2)}, ε ${significant(optimizer.eps)}`;
    default:
      return optimizer satisfies never;
  }
}

function scheduleWords({ warmup, then }: Schedule): string {
  const first = warmup > 0 ? `rises linearly over ${count(warmup, "epoch")}, then ` : "";
  switch (then.kind) {
    case "constant":
      return `${first}constant`;
    case "step":
      return `${first}× ${plain(then.gamma)} after ${then.at.length === 1 ? "epoch" : "epochs"} ${then.at.join(", ")}`;
    case "cosine":
      return `${first}half a cosine down to ${then.to === 0 ? "0" : `${plain(then.to)} of it`}`;
    case "plateau":
      return `${first}× ${plain(then.gamma)} after ${count(then.patience, "epoch")} without progress towards the ${goalWords(then.goal)}, not below ${significant(then.least)}`;
    default:
      return then satisfies never;
  }
}

/** The layers of paths, by what is done to them: `12 parameters: conv1_1.weight, …`. */
function group(paths: readonly string[]): string {
  const shown = paths.slice(0, 4).join(", ");
  return `${count(paths.length, "parameter")}: ${shown}${paths.length > 4 ? ", …" : ""}`;
}

function parameterWords({ parameters }: Stage): readonly (readonly [string, string])[] {
  const sets = new Map<string, string[]>();
  const add = (key: string, path: string): void => {
    const known = sets.get(key);
    if (known === undefined) sets.set(key, [path]);
    else known.push(path);
  };
  for (const { path, rate, decay, frozenUntil } of parameters) {
    if (frozenUntil === "end") {
      add("not trained", path);
      continue;
    }
    if (frozenUntil > 0) add(`frozen until epoch ${plain(frozenUntil)}`, path);
    if (rate !== 1) add(`rate × ${plain(rate)}`, path);
    if (decay !== 1) add(decay === 0 ? "no weight decay" : `weight decay × ${plain(decay)}`, path);
  }
  return [...sets].map(([key, paths]) => [key, group(paths)]);
}

function stageWords(stage: Stage, index: number, of: number): Words {
  const { loss, accumulate, clipNorm, ema, mixup, stop, frozenNorms } = stage;
  const name = stage.name === "" ? "" : ` “${stage.name}”`;
  return {
    title: of === 1 ? `Training${name}` : `Stage ${index + 1} of ${of}${name}`,
    rows: [
      ["epochs", `at most ${stage.epochs}`.replace(stop === undefined ? "at most " : "", "")],
      ["loss", loss.map((term) => lossWords(term, loss.length === 1)).join(" + ")],
      ["optimizer", optimizerWords(stage.optimizer)],
      ["learning rate", `${significant(stage.rate)}; ${scheduleWords(stage.schedule)}`],
      ["weight decay", stage.weightDecay === 0 ? "none" : significant(stage.weightDecay)],
      ...(accumulate > 1 ? [["update", `after ${accumulate} batches, their gradients averaged`] as const] : []),
      ...(clipNorm === undefined ? [] : [["gradient", `norm limited to ${plain(clipNorm)}`] as const]),
      ...(mixup === undefined ? [] : [["mixup", `α ${plain(mixup)}`] as const]),
      ...(ema === undefined ? [] : [["evaluated", `moving average of the parameters, decay ${plain(ema)}`] as const]),
      ...parameterWords(stage),
      ...(frozenNorms.length === 0
        ? []
        : [
            [
              "batch norm",
              `running statistics kept in ${frozenNorms.slice(0, 4).join(", ")}${frozenNorms.length > 4 ? ", …" : ""}`,
            ] as const,
          ]),
      ["kept", `the epoch with the ${goalWords(stage.keep)}`],
      ...(stop === undefined
        ? []
        : [
            [
              "stops early",
              `after ${count(stop.patience, "epoch")} without progress towards the ${goalWords(stop.goal)}`,
            ] as const,
          ]),
    ],
  };
}

function dataWords({ data, precision, seed }: Recipe): Words {
  const { split, sampling, evaluation } = data;
  const protocols = {
    folds: "folds of subjects",
    "leave-one-subject-out": "one subject at a time is tested",
    fixed: "the sides that the set itself names",
  };
  const { protocol } = split;
  const how =
    protocol.kind === "folds"
      ? `${protocol.folds} ${protocols.folds}, seed ${protocol.seed}`
      : protocols[protocol.kind];
  const windows = {
    middle: "the middle of the clip",
    random: "anywhere in the clip",
    segments: `a random one of ${sampling.kind === "segments" ? sampling.count : 0} equal parts, its middle`,
  };
  return {
    title: "Data",
    rows: [
      [
        "split",
        `${how}; ${split.validation === 0 ? "no validation clips" : `${percent(split.validation, 0)} of the training subjects choose the epoch`}`,
      ],
      [
        "batch",
        `${count(data.batch, "clip")}, ${data.balance === "none" ? "each clip once an epoch" : "classes drawn equally often"}`,
      ],
      ["window", windows[sampling.kind]],
      [
        "augmentation",
        [
          ...(data.resize === undefined ? [] : [`shorter side ${data.resize}`]),
          data.crop === "random" ? "random crop" : "centre crop",
          ...(data.flip === 0 ? [] : [`mirrored with probability ${plain(data.flip)}`]),
          ...(data.jitter === 0 ? [] : [`colour jitter ${plain(data.jitter)}`]),
          `flow clipped at ±${plain(data.flowBound)} px`,
        ].join(", "),
      ],
      [
        "evaluation",
        `mean of ${count(evaluation.segments, "segment")} × ${evaluation.crops === 1 ? "the centre crop" : "10 crops (corners and centre, mirrored too)"}`,
      ],
      [
        "precision",
        precision.kind === "f32"
          ? "f32"
          : `mixed: f16 stored, sums in f32; loss scale ${precision.lossScale === undefined ? "adapted" : plain(precision.lossScale)}`,
      ],
      ["seed", String(seed)],
    ],
  };
}

/** The recipe as headings with rows of name and words. */
export function recipeWords(recipe: Recipe): readonly Words[] {
  return [dataWords(recipe), ...recipe.stages.map((stage, index) => stageWords(stage, index, recipe.stages.length))];
}
