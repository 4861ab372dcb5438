/**
 * Looking at attention: a model with its parameters on a few clips, to a record of pictures and maps.
 *
 * In: a job as evaluation has it, parameters, and the clips. The model's attention form (compiler/graph/attention.ts) is
 * compiled and run on the window in the middle of each clip, so that only means and a few rows of each table leave the
 * device. Out: an `AttentionRecord`, which the page draws.
 */
import { join } from "node:path";
import type { Capability } from "../../compiler/capability.ts";
import { compile } from "../../compiler/compile.ts";
import { type AttentionGrid, type AttentionMap, attentionForm } from "../../compiler/graph/attention.ts";
import type { Model } from "../../compiler/model.ts";
import type { Preprocess, Program, ProgramInput } from "../../compiler/program.ts";
import type { DataRecipe } from "../../compiler/recipe/recipe.ts";
import { loadClip } from "../data/clip.ts";
import { trainedPreprocess } from "../data/loader/batches.ts";
import type { ClipRecord } from "../data/manifest.ts";
import { randomOf, shuffled } from "../data/random.ts";
import type { Runner } from "../engine/runner.ts";
import { predictedClass } from "../metrics/scores.ts";
import { drawStream } from "../report/attention/pictures.ts";
import {
  ATTENTION_FILE,
  type AttendedClip,
  type AttentionEdge,
  type AttentionRecord,
  type EdgeMap,
  encodeAttention,
  rowByte,
} from "../report/attention/record.ts";
import { type LoadedCheckpoint, loadCheckpoint } from "../train/checkpoint.ts";
import {
  type EvaluationJob,
  evaluatedName,
  loadValues,
  type OutputKind,
  outputKindOf,
  probabilitiesOf,
} from "../train/evaluate.ts";
import type { Predictions } from "../train/predictions.ts";
import type { ClipPrediction } from "../train/records.ts";

import { SourceError, type Values } from "../train/trainer.ts";
import type { EvaluatedRun, EvaluatedSide } from "./evaluation.ts";
import { writeWhole } from "./write-file.ts";

/** A clip to look at. */
export interface ClipToShow {
  /** As it is shown. */
  readonly path: string;
  /** Where it lies. */
  readonly file: string;
  readonly subject?: string | undefined;
  readonly class?: string | undefined;
  readonly probabilities?: readonly number[] | undefined;
  readonly factors?: ClipRecord["factors"];
}

export interface AttentionJob {
  /** Sizes are numbers. */
  readonly model: Model;
  readonly target: Capability;
  readonly open: (program: Program) => Promise<Runner>;
  readonly seed: number;
  /** What inputs see of a clip; undefined: what the program's own records say. */
  readonly data: Pick<DataRecipe, "resize" | "flowBound"> | undefined;
  readonly output: OutputKind;
}

/** Clips that are shown at most, for a page that stays small. */
const MOST = 8;
/** Places of a stored row at most: what a person sees in a picture of a few centimetres. */
const ROW_PLACES = 256;

/** Clips for a picture of the whole: of each class one that was right and one that was wrong, drawn by `seed`. */
export function chooseClips(
  predictions: readonly ClipPrediction[],
  classes: readonly string[],
  seed: number,
): readonly ClipPrediction[] {
  const order = shuffled(randomOf(seed, "attention"), predictions);
  const first = (name: string, right: boolean): readonly ClipPrediction[] =>
    order
      .filter((clip) => {
        const predicted = predictedClass(clip);
        return clip.class === name && predicted !== undefined && (classes[predicted] === name) === right;
      })
      .slice(0, 1);
  const chosen = [true, false].flatMap((right) => classes.flatMap((name) => first(name, right))).slice(0, MOST);
  return classes.flatMap((name) => chosen.filter((clip) => clip.class === name));
}

/** Runs a model on clips and keeps its attention; undefined for a model that attends nowhere. */
export async function attend(
  job: AttentionJob,
  values: Values,
  clips: readonly ClipToShow[],
  about: Pick<AttentionRecord, "graphHash" | "step" | "trained" | "note" | "classes" | "choice">,
  note: (text: string) => void,
): Promise<AttentionRecord | undefined> {
  const { model, target, seed, data } = job;
  const { graph, maps } = attentionForm(model);
  if (maps.length === 0) return undefined;
  const compiled = compile({ ...model, graph }, { target, sizes: new Map(), seed });
  if ("diagnostics" in compiled) throw new SourceError(compiled.diagnostics);
  const runner = await job.open(compiled.ok);
  try {
    await loadValues(runner, values);
    const inputs = compiled.ok.inputs.map((input) => asSeen(input, data));
    const edges: AttentionEdge[] = [];
    for (const map of maps) edges.push(await edgeOf(map, values));
    const rows = compiled.ok.inputs[0]?.shape[0] ?? 1;
    const done: AttendedClip[] = [];
    for (let start = 0; start < clips.length; start += rows)
      done.push(...(await attendBatch(runner, job, inputs, maps, edges, clips.slice(start, start + rows), note)));
    return {
      format: "netc-attention",
      version: 1,
      model: model.name,
      ...about,
      streams: inputs.flatMap(({ name, preprocess }) =>
        preprocess === undefined ? [] : [{ name, source: preprocess.source }],
      ),
      edges,
      clips: done,
    };
  } finally {
    runner.dispose();
  }
}

/** An input for one sample, prepared as the network was trained. */
function asSeen(input: ProgramInput, data: AttentionJob["data"]): ProgramInput {
  const { preprocess, shape } = input;
  const seen = preprocess !== undefined && data !== undefined ? trainedPreprocess(preprocess, data) : preprocess;
  return { ...input, shape: [1, ...shape.slice(1)], preprocess: seen };
}

/** Sizes of one row of keys as it is stored: whole blocks of places become one. */
function rowBlock({ size: [height, width] }: AttentionGrid): number {
  let block = 1;
  while (Math.ceil(height / block) * Math.ceil(width / block) > ROW_PLACES) block++;
  return block;
}

async function edgeOf(map: AttentionMap, values: Values): Promise<AttentionEdge> {
  const { name, unit, queries, keys, heads, weights, places, rows } = map;
  const gate = map.gate === undefined ? undefined : await values(map.gate);
  const block = rowBlock(keys);
  return {
    name,
    unit,
    queries,
    keys,
    heads,
    weights,
    gate: gate === undefined ? undefined : significant(gate.reduce((sum, g) => sum + Math.abs(g), 0) / gate.length),
    places,
    grid: rows,
    rowSize: keys.size.map((size) => Math.ceil(size / block)),
  };
}

async function attendBatch(
  runner: Runner,
  job: AttentionJob,
  inputs: readonly ProgramInput[],
  maps: readonly AttentionMap[],
  edges: readonly AttentionEdge[],
  clips: readonly ClipToShow[],
  note: (text: string) => void,
): Promise<readonly AttendedClip[]> {
  const batch = new Map(
    runner.program.inputs.map(({ name, shape }) => [name, new Float32Array(shape.reduce((a, b) => a * b, 1))]),
  );
  const read: { readonly clip: ClipToShow; readonly tensors: ReadonlyMap<string, Float32Array> }[] = [];
  for (const clip of clips) {
    const loaded = await loadClip(clip.file, inputs);
    if (loaded.kind !== "clip") {
      note(`\`${clip.path}\` is not shown: ${loaded.message}`);
      continue;
    }
    for (const [name, tensor] of loaded.tensors) batch.get(name)?.set(tensor, read.length * tensor.length);
    read.push({ clip, tensors: loaded.tensors });
  }
  if (read.length === 0) return [];
  for (const [name, tensor] of batch) runner.write(name, tensor);
  await runner.run();
  const rows = runner.program.inputs[0]?.shape[0] ?? 1;
  const outputs = new Map<string, Float32Array>();
  for (const { name } of runner.program.outputs) outputs.set(name, await runner.read(name));
  const of = (name: string, row: number): Float32Array => {
    const all = outputs.get(name) ?? new Float32Array();
    const width = all.length / rows;
    return all.subarray(row * width, (row + 1) * width);
  };
  const [output] = runner.program.outputs;
  return read.map(({ clip, tensors }, row) => ({
    path: clip.path,
    subject: clip.subject,
    class: clip.class,
    probabilities: clip.probabilities ?? probabilitiesOf(of(output?.name ?? "", row), job.output),
    factors: clip.factors,
    pictures: inputs.flatMap(({ name, preprocess }) => {
      const tensor = tensors.get(name);
      return preprocess === undefined || tensor === undefined ? [] : [drawn(name, tensor, preprocess)];
    }),
    maps: maps.map((map, index) =>
      mapOf(map, edges[index]?.rowSize ?? map.keys.size, {
        received: of(map.outputs.received, row),
        entropy: map.outputs.entropy === undefined ? undefined : of(map.outputs.entropy, row),
        rows: of(map.outputs.rows, row),
      }),
    ),
  }));
}

function drawn(stream: string, tensor: Float32Array, preprocess: Preprocess): AttendedClip["pictures"][number] {
  return { stream, ...drawStream(tensor, preprocess) };
}

const significant = (value: number): number => Number(value.toPrecision(4));

function mapOf(
  map: AttentionMap,
  rowSize: readonly number[],
  {
    received,
    entropy,
    rows,
  }: Readonly<Record<"received" | "rows", Float32Array>> & { entropy: Float32Array | undefined },
): EdgeMap {
  const [height, width] = map.keys.size;
  const places = height * width;
  // A softmax's weights count against an even spread; products have no such measure and stay as they are.
  const unit = map.weights === "softmax" ? places : 1;
  const [rowHeight = height, rowWidth = width] = rowSize;
  const block = Math.ceil(height / rowHeight);
  const peaks: number[] = [];
  const bytes = new Uint8Array(map.places.length * rowHeight * rowWidth);
  for (const [index] of map.places.entries()) {
    const row = pooled(rows.subarray(index * places, (index + 1) * places), height, width, block);
    const peak = row.reduce((a, b) => Math.max(a, b), 0);
    peaks.push(significant(peak * unit));
    row.forEach((value, i) => {
      bytes[index * row.length + i] = rowByte(value / peak, map.weights);
    });
  }
  return {
    edge: map.name,
    received: Array.from(received, (value) => significant(value * unit)),
    spread: entropy === undefined ? undefined : Array.from(entropy, (nats) => significant(Math.exp(nats))),
    rows: Buffer.from(bytes).toString("base64"),
    peaks,
  };
}

/** Means of blocks of places, so that a row of many keys stays small; at the edges a block has fewer. */
function pooled(row: Float32Array, height: number, width: number, block: number): Float32Array {
  const [high, wide] = [Math.ceil(height / block), Math.ceil(width / block)];
  const [sums, counts] = [new Float32Array(high * wide), new Float32Array(high * wide)];
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const at = Math.floor(y / block) * wide + Math.floor(x / block);
      sums[at] = (sums[at] ?? 0) + (row[y * width + x] ?? 0);
      counts[at] = (counts[at] ?? 0) + 1;
    }
  return sums.map((sum, i) => sum / Math.max(1, counts[i] ?? 1));
}

/** Clips of a run's predictions as clips of its folder. */
function clipsToShow(
  chosen: readonly ClipPrediction[],
  folder: string,
  records: readonly ClipRecord[],
): readonly ClipToShow[] {
  return chosen.map((clip) => ({
    path: clip.path,
    file: join(folder, clip.path),
    subject: clip.subject,
    class: clip.class,
    probabilities: clip.probabilities,
    factors: records.find(({ path }) => path === clip.path)?.factors,
  }));
}

// ---------------------------------------------------------------------------------------------------------------- runs

/** A checkpoint's parameters as they are evaluated. */
export function checkpointValues(checkpoint: LoadedCheckpoint): Values {
  return (path) => checkpoint.read(evaluatedName(checkpoint, path));
}

export function attentionJob({ model, target, open, seed, recipe }: EvaluationJob): AttentionJob {
  return { model, target, open, seed, data: recipe.data, output: outputKindOf(recipe.stages.at(-1)?.loss ?? []) };
}

/** Looks at a few evaluated clips of a run and keeps that in its folder; undefined for a model that attends nowhere. */
export async function attendRun(
  job: EvaluationJob,
  run: EvaluatedRun,
  { header, clips }: Predictions,
  note: (text: string) => void,
): Promise<AttentionRecord | undefined> {
  if (attentionForm(job.model).maps.length === 0) return undefined;
  const checkpoint = await loadCheckpoint(run.path, header.step);
  try {
    const chosen = chooseClips(clips, header.classes, job.seed);
    const record = await attend(
      attentionJob(job),
      checkpointValues(checkpoint),
      clipsToShow(chosen, job.folder, [...job.sides.test, ...job.sides.validation]),
      {
        graphHash: header.graphHash,
        step: header.step,
        trained: true,
        note: header.note,
        classes: header.classes,
        choice: `The window in the middle of ${chosen.length} ${header.side} clips: of each class one that the model gets right and one that it gets wrong, where there are such, drawn by seed ${job.seed}.`,
      },
      note,
    );
    if (record !== undefined && record.clips.length > 0)
      writeWhole(join(run.path, ATTENTION_FILE), encodeAttention(record));
    return record;
  } finally {
    await checkpoint.close();
  }
}

/**
 * As `attendRun`, on the sides that were just evaluated, the test first. What goes wrong is told and not thrown: a
 * trained run is not to fail for its pictures.
 */
export async function tryAttendRun(
  job: EvaluationJob,
  run: EvaluatedRun,
  evaluated: readonly EvaluatedSide[],
  note: (text: string) => void,
): Promise<void> {
  const side = evaluated.find(({ header }) => header.side === "test") ?? evaluated[0];
  if (side === undefined) return;
  try {
    await attendRun(job, run, { header: side.header, clips: side.predictions }, note);
  } catch (error) {
    note(`attention is not shown: ${error instanceof Error ? error.message : String(error)}`);
  }
}
