/**
 * The words of recipes: losses, optimizers, schedules, protocols, transforms, with their parameters and defaults.
 *
 * Each is read where a setting of schema.ts takes it. Defaults of parameters are written in the language; those of the
 * optimizers are PyTorch's.
 */
import type { Expr } from "../../grammar/ast.ts";
import { fail } from "../elaborate/failure.ts";
import {
  choice,
  either,
  headOf,
  imageSize,
  type Kind,
  type Located,
  list,
  number,
  oneOf,
  opened,
  optional,
  param,
  refuse,
  required,
  type Slot,
  several,
  text,
  type Use,
  type Word,
  word,
  yesOrNo,
} from "./kinds.ts";
import { places, type WrittenPlace } from "./places.ts";
import type { DataRecipe, EarlyStop, Goal, LossTerm, Metric, Optimizer, Precision, Schedule, Split } from "./recipe.ts";

// ------------------------------------------------------------------------------------------------------------- metrics

/** A metric, or `confusion`, which is a table and not a number: every evaluation keeps it anyway. */
export type MetricOrTable = Metric | { readonly kind: "confusion"; readonly labels: readonly string[] | undefined };

const labels = list(text, "a list of different texts", (items) => new Set(items).size === items.length);

const NUMBERS: readonly Word<Metric>[] = [
  word("loss", {}, () => ({ kind: "loss" as const })),
  word("accuracy", {}, () => ({ kind: "accuracy" as const })),
  word("uar", {}, () => ({ kind: "uar" as const })),
  word("macro_f1", {}, () => ({ kind: "macro_f1" as const })),
  word("auc", { class: required(text) }, (args) => ({ kind: "auc" as const, class: args.class })),
];
const CONFUSION: Word<MetricOrTable> = word("confusion", { labels: param(optional(labels), "none") }, (args) => ({
  kind: "confusion" as const,
  labels: args.labels,
}));

const anyMetric = oneOf<MetricOrTable>(...NUMBERS, CONFUSION);
export const metrics: Kind<readonly Located<MetricOrTable>[]> = several(anyMetric, `a list of ${anyMetric.what}`);

/** `val.macro_f1`: a metric of the validation clips. */
export const valMetric: Kind<Goal> = {
  what: "a metric of the validation clips: `val.accuracy`",
  read: (expr, slot) => {
    const written = opened(expr, slot.context);
    const field = written.kind === "Call" ? written.callee : written;
    if (field.kind !== "Field" || field.of.kind !== "Name" || field.of.name !== "val") {
      const known = NUMBERS.find(({ name }) => name === (field.kind === "Field" ? field.name.name : headOf(field)));
      if (known === undefined) return refuse(slot, valMetric.what, written);
      const { context } = slot;
      const test = field.kind === "Field" && field.of.kind === "Name" && field.of.name === "test";
      return fail(context, "E0703", `${slot.name} takes ${valMetric.what}`, written, {
        helps: [`\`val.${known.name}\``],
        notes: test ? ["what was chosen by the test clips is not tested by them"] : [],
      });
    }
    const { name, start, end } = field.name;
    const inner: Expr = { kind: "Name", name, start, end };
    const metric = oneOf(...NUMBERS).read(written.kind === "Call" ? { ...written, callee: inner } : inner, slot);
    return { metric, better: metric.kind === "loss" ? "smaller" : "larger" };
  },
};

// -------------------------------------------------------------------------------------------------------------- losses

/** A term of the loss, and where its parts are written. */
export interface WrittenTerm extends LossTerm {
  readonly use: Use;
}

const on = param(choice("output", "streams"), "output");
const classWeights = either(
  choice("none", "inverse_frequency"),
  (expr) => expr.kind === "None" || headOf(expr) === "inverse_frequency" || expr.kind === "String",
  list(number({ above: 0 }), "a list of numbers above 0"),
);

const LOSSES: readonly Word<WrittenTerm>[] = [
  word(
    "CrossEntropy",
    { label_smoothing: param(number({ from: 0, below: 1 }), "0"), weights: param(classWeights, "none"), on },
    (args, use) => ({
      weight: 1,
      kind: "cross_entropy" as const,
      on: args.on,
      smoothing: args.label_smoothing,
      classWeights: args.weights,
      use,
    }),
  ),
  ...(
    [
      ["BinaryCrossEntropy", "binary_cross_entropy"],
      ["MSE", "mean_squared_error"],
    ] as const
  ).map(([name, kind]) =>
    word(name, { on }, (args, use) => ({
      weight: 1,
      kind,
      on: args.on,
      smoothing: 0,
      classWeights: "none" as const,
      use,
    })),
  ),
];

const oneLoss = oneOf(...LOSSES);
const factor = number({ above: 0 });

export const loss: Kind<readonly WrittenTerm[]> = {
  what: `${oneLoss.what}, and sums of them with factors`,
  read: (expr, slot) => readLoss(expr, slot),
};

function isLoss(expr: Expr): boolean {
  if (expr.kind === "Group") return isLoss(expr.value);
  if (expr.kind === "If") return isLoss(expr.then);
  if (expr.kind === "Binary") return isLoss(expr.left) || isLoss(expr.right);
  return LOSSES.some(({ name }) => name === headOf(expr));
}

function readLoss(expr: Expr, slot: Slot): readonly WrittenTerm[] {
  const written = opened(expr, slot.context);
  if (written.kind !== "Binary") return [oneLoss.read(written, slot)];
  const { op, left, right } = written;
  const times = (terms: readonly WrittenTerm[], by: number): readonly WrittenTerm[] =>
    terms.map((term) => ({ ...term, weight: term.weight * by }));
  const by: Slot = { ...slot, name: `the factor of ${slot.name}` };
  if (op === "+") return [...readLoss(left, slot), ...readLoss(right, slot)];
  if (op === "*" && isLoss(left) !== isLoss(right)) {
    const [terms, scalar] = isLoss(left) ? [left, right] : [right, left];
    return times(readLoss(terms, slot), factor.read(scalar, by));
  }
  if (op === "/" && isLoss(left) && !isLoss(right)) return times(readLoss(left, slot), 1 / factor.read(right, by));
  return refuse(slot, loss.what, written);
}

// ------------------------------------------------------------------------------------------------ optimizer, schedule

export interface WrittenOptimizer {
  readonly optimizer: Optimizer;
  readonly rate: number;
  readonly weightDecay: number;
}

const lr = required(number({ above: 0 }));
const fraction = number({ from: 0, below: 1 });
const notNegative = number({ from: 0 });

function adam(name: string, decoupled: boolean, decay: string): Word<WrittenOptimizer> {
  const params = {
    lr,
    beta1: param(fraction, "0.9"),
    beta2: param(fraction, "0.999"),
    eps: param(number({ above: 0 }), "1e-8"),
    weight_decay: param(notNegative, decay),
  };
  return word(name, params, ({ beta1, beta2, eps, lr: rate, weight_decay: weightDecay }) => ({
    optimizer: { kind: "adam", beta1, beta2, eps, decoupled },
    rate,
    weightDecay,
  }));
}

const OPTIMIZERS: readonly Word<WrittenOptimizer>[] = [
  word(
    "SGD",
    {
      lr,
      momentum: param(fraction, "0"),
      nesterov: param(yesOrNo, "false"),
      weight_decay: param(notNegative, "0"),
    },
    ({ momentum, nesterov, lr: rate, weight_decay: weightDecay }, use) => {
      if (nesterov && momentum === 0)
        fail(
          use.context,
          "E0704",
          "Nesterov's step looks ahead along the momentum, and there is none",
          use.at("nesterov"),
          {
            helps: ["`momentum=0.9`"],
          },
        );
      return { optimizer: { kind: "sgd", momentum, nesterov }, rate, weightDecay };
    },
  ),
  adam("Adam", false, "0"),
  adam("AdamW", true, "0.01"),
];

export const optimizer: Kind<WrittenOptimizer> = oneOf(...OPTIMIZERS);

type Then = Schedule["then"];

const ascending = list(
  number({ above: 0 }),
  "a list of epochs, each later than the one before: `[25, 45]`",
  (items) => items.length > 0 && items.every((item, i) => i === 0 || item > (items[i - 1] ?? 0)),
);
const SCHEDULES: readonly Word<Then>[] = [
  word("Constant", {}, () => ({ kind: "constant" as const })),
  word("Step", { at: required(ascending), gamma: param(number({ above: 0 }), "0.1") }, (args) => ({
    kind: "step" as const,
    ...args,
  })),
  word("Cosine", { to: param(fraction, "0") }, (args) => ({ kind: "cosine" as const, ...args })),
  word(
    "Plateau",
    {
      metric: param(valMetric, "val.loss"),
      gamma: param(number({ above: 0, below: 1 }), "0.1"),
      patience: param(number({ from: 1, whole: true }), "10"),
      least: param(fraction, "0"),
    },
    ({ metric: goal, gamma, patience, least }) => ({ kind: "plateau" as const, goal, gamma, patience, least }),
  ),
];
const WARMUP: Word<number> = word("Warmup", { epochs: required(notNegative) }, (args) => args.epochs);

const after = oneOf(...SCHEDULES);
export const schedule: Kind<Schedule> = {
  what: `${after.what}, behind \`Warmup(epochs=…) ->\` if it starts slowly`,
  read: (expr, slot) => {
    const written = opened(expr, slot.context);
    const stages = written.kind === "Pipe" ? written.stages : [written];
    const [first, second, ...more] = stages.map((stage) => opened(stage, slot.context));
    if (first === undefined || more.length > 0) return refuse(slot, schedule.what, written);
    if (headOf(first) !== WARMUP.name) {
      if (second !== undefined) return refuse(slot, schedule.what, written);
      return { warmup: 0, then: after.read(first, { ...slot }) };
    }
    const warmup = WARMUP.read(first, slot);
    return { warmup, then: second === undefined ? { kind: "constant" } : after.read(second, slot) };
  },
};

// ---------------------------------------------------------------------------------------------------------------- data

export interface Source {
  readonly folder: string;
  readonly labels: readonly string[] | undefined;
  readonly use: Use;
}

const CLIPS: Word<Source> = word(
  "Clips",
  { folder: required(text), labels: param(optional(labels), "none") },
  (args, use) => ({ ...args, use }),
);

const PROTOCOLS: readonly Word<Split["protocol"]>[] = [
  word(
    "by_subject",
    { folds: param(number({ from: 2, whole: true }), "10"), seed: param(number({ from: 0, whole: true }), "0") },
    (args) => ({ kind: "folds" as const, ...args }),
  ),
  word("leave_one_subject_out", {}, () => ({ kind: "leave-one-subject-out" as const })),
  word("fixed", {}, () => ({ kind: "fixed" as const })),
];

export const source: Kind<Source> = oneOf(CLIPS);
export const protocol: Kind<Split["protocol"]> = oneOf(...PROTOCOLS);

export type Window = DataRecipe["sampling"];

const WINDOWS: readonly Word<Window>[] = [
  word("middle_frame", {}, () => ({ kind: "middle" as const })),
  word("random_frame", {}, () => ({ kind: "random" as const })),
  word("segments", { count: required(number({ from: 1, whole: true })) }, (args) => ({
    kind: "segments" as const,
    ...args,
  })),
];

export type Sample =
  | { readonly kind: "window"; readonly window: Window; readonly use: Use }
  | {
      readonly kind: "flow";
      /** Undefined: as many as the input takes. */
      readonly fields: number | undefined;
      readonly bound: number;
      readonly window: Window | undefined;
      readonly use: Use;
    };

const FLOW: Word<Sample> = word(
  "flow",
  {
    L: param(optional(number({ from: 1, whole: true })), "none"),
    method: param(choice("tvl1"), '"tvl1"'),
    clip: param(number({ above: 0 }), "20"),
    window: param(optional(oneOf(...WINDOWS)), "none"),
  },
  ({ L, clip, window }, use) => ({ kind: "flow" as const, fields: L, bound: clip, window, use }),
);
const SAMPLES: readonly Word<Sample>[] = [
  ...WINDOWS.map(({ name, signature, read }) => ({
    name,
    signature,
    read: (expr: Expr, slot: Slot): Sample => ({
      kind: "window",
      window: read(expr, slot),
      use: { context: slot.context, node: expr, at: () => expr },
    }),
  })),
  FLOW,
];

export const sample: Kind<Sample> = oneOf(...SAMPLES);

export type Transform =
  | { readonly kind: "resize"; readonly size: number }
  | { readonly kind: "crop"; readonly where: "random" | "centre"; readonly size: readonly [number, number] }
  | { readonly kind: "flip"; readonly of: "picture" | "flow"; readonly p: number }
  | { readonly kind: "jitter"; readonly strength: number };

const probability = number({ from: 0, to: 1 });
const TRANSFORMS: readonly Word<Transform>[] = [
  word("Resize", { size: required(number({ from: 1, whole: true })) }, (args) => ({
    kind: "resize" as const,
    ...args,
  })),
  word("RandomCrop", { size: required(imageSize) }, (args) => ({
    kind: "crop" as const,
    where: "random" as const,
    ...args,
  })),
  word("CenterCrop", { size: required(imageSize) }, (args) => ({
    kind: "crop" as const,
    where: "centre" as const,
    ...args,
  })),
  word("HorizontalFlip", { p: param(probability, "0.5") }, (args) => ({
    kind: "flip" as const,
    of: "picture" as const,
    ...args,
  })),
  word("FlowFlip", { p: param(probability, "0.5") }, (args) => ({
    kind: "flip" as const,
    of: "flow" as const,
    ...args,
  })),
  word("ColorJitter", { strength: required(fraction) }, (args) => ({ kind: "jitter" as const, ...args })),
];

export const transforms: Kind<readonly Located<Transform>[]> = several(oneOf(...TRANSFORMS), "a list of transforms");

// -------------------------------------------------------------------------------------------------------------- others

const MIXED: Word<Precision> = word(
  "mixed",
  { type: required(choice("f16")), loss_scale: param(optional(number({ above: 0 })), "none") },
  (args) => ({ kind: "mixed" as const, lossScale: args.loss_scale }),
);
const F32: Word<Precision> = { name: "f32", signature: "f32", read: () => ({ kind: "f32" }) };

export const precision: Kind<Precision> = oneOf(F32, MIXED);

const VIEWS: Word<DataRecipe["evaluation"]> = word(
  "views",
  {
    segments: param(number({ from: 1, whole: true }), "25"),
    crops: param(number({ from: 1, to: 10, whole: true }), "10"),
  },
  (args, use): DataRecipe["evaluation"] => {
    const { segments, crops } = args;
    if (crops === 1 || crops === 10) return { segments, crops };
    return fail(use.context, "E0703", `\`crops\` of \`views\` is 1 or 10, not ${crops}`, use.at("crops"), {
      notes: ["the centre, or the four corners and the centre, each also mirrored"],
    });
  },
);

export const views: Kind<DataRecipe["evaluation"]> = oneOf(VIEWS);

const BEST: Word<Goal> = word("best", { metric: required(valMetric) }, (args) => args.metric);
export const best: Kind<Goal> = oneOf(BEST);

const EARLY: Word<EarlyStop> = word(
  "early",
  { metric: param(valMetric, "val.loss"), patience: param(number({ from: 1, whole: true }), "10") },
  ({ metric: goal, patience }) => ({ goal, patience }),
);

export const early: Kind<EarlyStop> = oneOf(EARLY);

const EPOCHS: Word<number | "end"> = word("epochs", { n: required(notNegative) }, (args) => args.n);
const END: Word<number | "end"> = word("end", {}, () => "end" as const);

export const until: Kind<number | "end"> = oneOf(EPOCHS, END);

export const frozenNorms: Kind<"none" | "all" | "all_but_first" | readonly WrittenPlace[]> = either(
  choice("none", "all", "all_but_first"),
  (expr) => expr.kind === "None" || ["all", "all_but_first"].includes(headOf(expr) ?? ""),
  places,
);
export const undecayed: Kind<readonly Located<"biases" | "norms">[]> = several(
  choice("biases", "norms"),
  "`biases`, `norms` or both",
);

/** All words with their parameters, by what they are. */
export const WORDS: Readonly<Record<string, readonly string[]>> = {
  losses: LOSSES.map(({ signature }) => signature),
  optimizers: OPTIMIZERS.map(({ signature }) => signature),
  schedules: [WARMUP, ...SCHEDULES].map(({ signature }) => signature),
  metrics: [...NUMBERS, CONFUSION].map(({ signature }) => signature),
  data: [CLIPS, ...PROTOCOLS].map(({ signature }) => signature),
  samples: SAMPLES.map(({ signature }) => signature),
  transforms: TRANSFORMS.map(({ signature }) => signature),
  others: [MIXED, VIEWS, BEST, EARLY, EPOCHS].map(({ signature }) => signature),
};
