/**
 * A super-network's training and its scores: which gates are open in which update, and what its validation side says with
 * the gates of each candidate.
 *
 * In: the job of a training whose model has gates (compiler/search/gates.ts), and the gates of the candidates. Out: how it
 * is trained, and a score for each candidate. Every update opens the gates of one candidate: of four in a row the first has
 * most of them, the second fewest (the "sandwich" of Yu and Huang 2019), the others are drawn uniformly (single path
 * one-shot: Guo et al. 2020). Which, is a function of seed and update, so a training that goes on goes on the same. The
 * running statistics of batch norms are of all candidates mixed, so for every candidate they are found anew, on training
 * clips, before it is scored. Test clips are not opened.
 */
import { compileStatistics } from "../../../compiler/compile.ts";
import { STEP_INPUTS } from "../../../compiler/graph/step.ts";
import type { ProgramInput } from "../../../compiler/program.ts";
import type { Metric, Recipe } from "../../../compiler/recipe/recipe.ts";
import { openBatches } from "../../data/loader/batches.ts";
import type { Runner } from "../../engine/runner.ts";
import { metricValue } from "../../metrics/scores.ts";
import type { LoadedCheckpoint } from "../../train/checkpoint.ts";
import {
  demand,
  evaluatedName,
  loadValues,
  openEvaluation,
  openInference,
  outputKindOf,
  predictClips,
} from "../../train/evaluate.ts";
import type { TrainingJob } from "../../train/train.ts";
import { SourceError } from "../../train/trainer.ts";
import { drawsOf } from "../methods/draws.ts";

/** Batches that statistics are found on, as far as they fit. */
const BATCHES = 16;
const BATCH_BYTES = 256 * 2 ** 20;

/** The recipe of a super-network: to its own end, whatever the validation side would say. */
export function gatedRecipe(recipe: Recipe, epochs: number): Recipe {
  return { ...recipe, stages: recipe.stages.map((stage) => ({ ...stage, epochs, stop: undefined })) };
}

/** The training of a super-network: nothing is validated on the way, for no one setting of its gates is the network. */
export function gatedJob(job: TrainingJob, gates: readonly Float32Array[]): TrainingJob {
  return { ...job, sides: { ...job.sides, validation: [] }, gates: (update) => gatesOf(gates, job.seed, update) };
}

const openOf = (gates: Float32Array): number => gates.reduce((sum, gate) => sum + gate, 0);

/** The gates that are open in an update. */
export function gatesOf(all: readonly Float32Array[], seed: number, update: number): Float32Array {
  const drawn = drawsOf(seed, "gates", update).below(all.length);
  const better = (a: Float32Array, b: Float32Array): Float32Array => {
    const apart = openOf(b) - openOf(a);
    return (update % 4 === 0 ? apart > 0 : apart < 0) ? b : a;
  };
  const found = update % 4 < 2 ? all.reduce(better) : all[drawn];
  if (found === undefined) throw new Error("internal: a super-network without candidates");
  return found;
}

/**
 * The metric of the validation side with the gates of each candidate.
 * @param leave whether to give up; asked before each
 * @returns undefined if it gave up
 */
export async function scoreGates(
  job: TrainingJob,
  checkpoint: LoadedCheckpoint,
  gates: readonly Float32Array[],
  metric: Metric,
  leave: () => boolean,
): Promise<readonly number[] | undefined> {
  const { model, recipe, sides } = job;
  const learned = new Map<string, Float32Array>();
  for (const { path } of model.parameters) learned.set(path, await checkpoint.read(evaluatedName(checkpoint, path)));
  const statistics = await openStatistics(job);
  const evaluator = await openInference(job);
  const inputs = clipInputs(evaluator);
  const source = await openEvaluation(job, "validation", inputs, {});
  const kind = outputKindOf(recipe.stages.at(-1)?.loss ?? []);
  try {
    await loadValues(statistics, (path) => learned.get(path));
    const batches = await batchesOf(job, inputs);
    const scores: number[] = [];
    for (const open of gates) {
      if (leave()) return undefined;
      const norms = await statisticsOf(statistics, batches, open);
      await loadValues(evaluator, (path) => norms.get(path) ?? learned.get(path));
      evaluator.write(STEP_INPUTS.gates, open);
      scores.push(metricValue(metric, await predictClips(evaluator, source, sides.validation, kind), sides.classes));
    }
    return scores;
  } finally {
    source.close();
    statistics.dispose();
    evaluator.dispose();
  }
}

/** Without the gates. */
function clipInputs({ program }: Runner): readonly ProgramInput[] {
  return program.inputs.filter(({ name }) => !name.startsWith("step."));
}

async function openStatistics({ model, recipe, target, seed, open }: TrainingJob): Promise<Runner> {
  const made = compileStatistics(model, { target, sizes: new Map([["N", recipe.data.batch]]), seed });
  if ("diagnostics" in made) throw new SourceError(made.diagnostics);
  return open(made.ok);
}

/** The first batches of training, kept: every candidate sees the same. */
async function batchesOf(
  { pool, folder, sides, recipe, seed }: TrainingJob,
  inputs: readonly ProgramInput[],
): Promise<readonly ReadonlyMap<string, Float32Array>[]> {
  const source = demand(
    await openBatches({ pool, folder, clips: sides.train, classes: sides.classes, inputs, recipe: recipe.data, seed }),
  );
  const kept: ReadonlyMap<string, Float32Array>[] = [];
  let bytes = 0;
  try {
    for await (const batch of source.epoch(0)) {
      const copy = new Map([...batch.inputs].map(([name, values]) => [name, values.slice()]));
      const own = [...copy.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
      if (kept.length > 0 && bytes + own > BATCH_BYTES) break;
      bytes += own;
      if (kept.push(copy) >= BATCHES) break;
    }
  } finally {
    source.close();
  }
  return kept;
}

/** Means over the batches of each batch norm's mean and unbiased variance. */
async function statisticsOf(
  runner: Runner,
  batches: readonly ReadonlyMap<string, Float32Array>[],
  open: Float32Array,
): Promise<ReadonlyMap<string, Float32Array>> {
  const sums = new Map(
    runner.program.state.map(({ path, shape }) => [path, new Float64Array(shape.reduce((a, b) => a * b, 1))]),
  );
  runner.write(STEP_INPUTS.gates, open);
  for (const batch of sums.size === 0 ? [] : batches) {
    for (const [name, values] of batch) runner.write(name, values);
    await runner.run();
    for (const [path, sum] of sums) {
      const own = await runner.readState(path);
      own.forEach((value, i) => {
        sum[i] = (sum[i] ?? 0) + value / batches.length;
      });
    }
  }
  return new Map([...sums].map(([path, sum]) => [path, Float32Array.from(sum)]));
}
