/**
 * Predictions of a model for a set of clips.
 *
 * In: a runner of the model's inference program, and the views of the clips (windows × crops) in batches. Out: for every
 * clip the mean of its views' class probabilities. A clip that cannot be read comes out without any and counts as wrong.
 */
import type { LossTerm } from "../../compiler/recipe/recipe.ts";
import type { EvaluationSource } from "../data/loader/batches.ts";
import type { ClipRecord } from "../data/manifest.ts";
import type { Runner } from "../engine/runner.ts";
import type { ClipPrediction } from "./records.ts";

/** How outputs are probabilities: by softmax, or by a sigmoid each (made to sum to 1) where the loss is binary. */
export type OutputKind = "softmax" | "sigmoid";

export function outputKindOf(loss: readonly LossTerm[]): OutputKind {
  const term = loss.find(({ on }) => on === "output");
  return term?.kind === "binary_cross_entropy" ? "sigmoid" : "softmax";
}

/** Class probabilities of one row of outputs. One number is the logit of the second of two classes. */
export function probabilitiesOf(logits: Float32Array, kind: OutputKind): number[] {
  const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
  if (logits.length === 1) {
    const p = sigmoid(logits[0] ?? 0);
    return [1 - p, p];
  }
  const greatest = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const weights = Array.from(logits, (x) => (kind === "softmax" ? Math.exp(x - greatest) : sigmoid(x)));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / total);
}

/**
 * Predicts every clip of `clips`, in their order.
 * @param source views of these very clips
 */
export async function predictClips(
  runner: Runner,
  source: EvaluationSource,
  clips: readonly ClipRecord[],
  kind: OutputKind,
): Promise<ClipPrediction[]> {
  const [output] = runner.program.outputs;
  if (output === undefined) throw new Error("internal: a model without outputs");
  const sums: number[][] = clips.map(() => []);
  for await (const { inputs, rows } of source.run()) {
    for (const [name, values] of inputs) runner.write(name, values);
    await runner.run();
    const logits = await runner.read(output.name);
    const width = logits.length / rows.length;
    rows.forEach((place, row) => {
      if (place === undefined) return;
      const sum = sums[place.clip] ?? [];
      probabilitiesOf(logits.subarray(row * width, (row + 1) * width), kind).forEach((p, c) => {
        sum[c] = (sum[c] ?? 0) + p / source.views;
      });
    });
  }
  const failures = new Map(source.failures.map(({ clip, problem }) => [clip, problem.message]));
  return clips.map(({ path, subject, class: name }, clip) => {
    const failure = failures.get(clip);
    const probabilities = failure === undefined ? sums[clip] : undefined;
    return { path, subject, class: name, probabilities, failure };
  });
}
