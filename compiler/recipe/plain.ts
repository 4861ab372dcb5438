/**
 * The plainest way to train a model: what is looked at where no recipe says more, as by `netc inspect --stage cost`.
 */
import type { Model } from "../model.ts";
import type { Stage } from "./recipe.ts";

/** SGD with momentum 0.9 on every parameter; cross-entropy where the output is a table of classes, else squared error. */
export function plainStage(model: Model): Stage {
  const table = model.graph.outputs[0]?.node.shape.length === 2;
  return {
    name: "",
    epochs: 1,
    loss: [
      {
        weight: 1,
        kind: table ? "cross_entropy" : "mean_squared_error",
        on: "output",
        smoothing: 0,
        classWeights: "none",
      },
    ],
    optimizer: { kind: "sgd", momentum: 0.9, nesterov: false },
    rate: 0.01,
    weightDecay: 0,
    schedule: { warmup: 0, then: { kind: "constant" } },
    parameters: model.parameters
      .filter(({ kind }) => kind === "param")
      .map(({ path }) => ({ path, rate: 1, decay: 1, frozenUntil: 0 })),
    frozenNorms: [],
    accumulate: 1,
    clipNorm: undefined,
    ema: undefined,
    mixup: undefined,
    stop: undefined,
    keep: { metric: { kind: "loss" }, better: "smaller" },
  };
}
