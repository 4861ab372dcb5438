/** A stage of a recipe for tests: plain SGD on everything, cross-entropy on the output. */
import type { Model } from "../../compiler/model.ts";
import type { Stage } from "../../compiler/recipe/recipe.ts";

export function plainStage(model: Model): Stage {
  return {
    name: "",
    epochs: 1,
    loss: [{ weight: 1, kind: "cross_entropy", on: "output", smoothing: 0, classWeights: "none" }],
    optimizer: { kind: "sgd", momentum: 0, nesterov: false },
    rate: 0.1,
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
    keep: { metric: { kind: "accuracy" }, better: "larger" },
  };
}
