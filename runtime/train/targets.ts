/**
 * From a batch of clips to what a training step takes: rows of targets, mixup, weights of classes.
 *
 * In: arrays of the loader, class numbers, a stage of the recipe. Out: the step's inputs. Everything random is a pure
 * function of seed, stage, epoch and batch.
 */
import type { Stage } from "../../compiler/recipe/recipe.ts";
import { type Random, randomOf, shuffled } from "../data/random.ts";

/**
 * Targets of a batch, row-major: one-hot rows, or the class number itself where the model gives one number a clip.
 * @param outputs numbers that the model gives for a clip
 */
export function targetsOf(labels: Int32Array, outputs: number): Float32Array {
  if (outputs === 1) return Float32Array.from(labels);
  const rows = new Float32Array(labels.length * outputs);
  labels.forEach((label, row) => {
    rows[row * outputs + label] = 1;
  });
  return rows;
}

/** Right answers in a batch: the greatest output is that of the label, or the sign says the class where there is one. */
export function countRight(logits: Float32Array, labels: Int32Array): number {
  const outputs = logits.length / labels.length;
  let right = 0;
  labels.forEach((label, row) => {
    if (predicted(logits.subarray(row * outputs, (row + 1) * outputs)) === label) right++;
  });
  return right;
}

function predicted(logits: Float32Array): number {
  if (logits.length === 1) return (logits[0] ?? 0) > 0 ? 1 : 0;
  let best = 0;
  for (let i = 1; i < logits.length; i++) if ((logits[i] ?? 0) > (logits[best] ?? 0)) best = i;
  return best;
}

/** How much an example of each class counts: clips / (classes · clips of the class), so that their mean is 1. */
export function classWeightsOf(stage: Stage, byClass: readonly number[]): Float32Array {
  const weights = stage.loss.find((term) => term.classWeights !== "none")?.classWeights;
  if (weights === undefined || weights === "none") return new Float32Array(byClass.length).fill(1);
  if (weights !== "inverse_frequency") return Float32Array.from(weights);
  const clips = byClass.reduce((a, b) => a + b, 0);
  return Float32Array.from(byClass, (count) => clips / (byClass.length * Math.max(1, count)));
}

/**
 * Mixes every row with another of the batch, inputs and targets alike, in place: x ← λ·x + (1 − λ)·x' with one λ for the
 * batch from Beta(α, α) (Zhang et al. 2018, "mixup", eq. 1 and algorithm of figure 1).
 * @param tensors row-major, `rows` rows each
 */
export function mixUp(tensors: readonly Float32Array[], rows: number, alpha: number, random: Random): void {
  const share = betaOf(alpha, random);
  const partner = shuffled(
    random,
    Array.from({ length: rows }, (_, row) => row),
  );
  for (const tensor of tensors) {
    const length = tensor.length / rows;
    const before = tensor.slice();
    partner.forEach((other, row) => {
      for (let i = 0; i < length; i++) {
        const at = row * length + i;
        tensor[at] = share * (before[at] ?? 0) + (1 - share) * (before[other * length + i] ?? 0);
      }
    });
  }
}

/** The generator of a batch's mixup. */
export function mixRandom(seed: number, stage: number, epoch: number, batch: number): Random {
  return randomOf(seed, "mixup", stage, epoch, batch);
}

/** A number from Beta(α, α), as a ratio of two from Gamma(α). */
function betaOf(alpha: number, random: Random): number {
  const [a, b] = [gammaOf(alpha, random), gammaOf(alpha, random)];
  return a + b > 0 ? a / (a + b) : 0.5;
}

/** A number from Gamma(α, 1): Marsaglia and Tsang (2000), with their section 6 for α below 1. */
function gammaOf(alpha: number, random: Random): number {
  if (alpha < 1) return gammaOf(alpha + 1, random) * random() ** (1 / alpha);
  const d = alpha - 1 / 3;
  const c = 1 / Math.sqrt(9 * d);
  for (;;) {
    const x = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    const v = (1 + c * x) ** 3;
    if (v > 0 && Math.log(1 - random()) < 0.5 * x * x + d - d * v + d * Math.log(v)) return d * v;
  }
}
