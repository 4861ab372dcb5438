/**
 * Batches for training and for evaluation.
 *
 * In: the clips of a side, the classes, the network's inputs and what a recipe says about its data. Out: batches of
 * numbers ready for the device, assembled ahead of time by the threads of a pool.
 *
 * Before the first batch every clip is decoded once and its flow computed, into the cache; from then on it is known which
 * clips can be read, and no order depends on which thread was faster. A clip that cannot be read is left out of training
 * and named; in evaluation it is returned as failed, for a score is of the set and not of the files that opened.
 */
import { join } from "node:path";
import type { Preprocess, ProgramInput } from "../../../compiler/program.ts";
import type { DataRecipe } from "../../../compiler/recipe/recipe.ts";
import { type FlowOptions, flowDefaults } from "../flow.ts";
import type { ClipRecord } from "../manifest.ts";
import { type DataError, notDecodable } from "../source.ts";
import { type EntryHeader, entryKey } from "./cache.ts";
import { drawSample, epochOrder, viewOf } from "./order.ts";
import type { DataPool, PoolLoader } from "./pool.ts";
import type { PortSpec, RowPlan } from "./rows.ts";
import type { StripSpec, WindowRequest } from "./strip.ts";
import type { ClipSource } from "./worker.ts";

export interface LoaderOptions {
  readonly pool: DataPool;
  /** The set's folder: clips' paths start from it. */
  readonly folder: string;
  readonly clips: readonly ClipRecord[];
  /** By number of the model's output. */
  readonly classes: readonly string[];
  /** The program's inputs, [N, 3, H, W] for pictures and [N, 2L, H, W] for flow; N rows make a batch. */
  readonly inputs: readonly ProgramInput[];
  readonly recipe: DataRecipe;
  readonly flow?: FlowOptions;
  /** Batches that are assembled ahead; by default one more than there are threads, at most four. */
  readonly ahead?: number;
  /** Told of each clip that has been prepared. */
  readonly onPrepared?: (done: number, total: number) => void;
  /** Told once of each clip that cannot be read. */
  readonly onFailure?: (failure: ClipFailure) => void;
}

export interface BatchOptions extends LoaderOptions {
  readonly seed: number;
}

/** A clip that cannot be read. */
export interface ClipFailure {
  /** Its number in `clips`. */
  readonly clip: number;
  readonly problem: DataError;
}

/** Why there can be no batches. */
export interface LoaderError {
  readonly kind: "loader-error";
  readonly message: string;
  readonly help: readonly string[];
}

/** Arrays of a batch are valid until the next batch is asked for: their memory is used again. */
export interface Batch {
  /** Number in the epoch, from 0. */
  readonly index: number;
  /** By name of the input, row-major in its shape. */
  readonly inputs: ReadonlyMap<string, Float32Array>;
  /** Class number of each row. */
  readonly labels: Int32Array;
  /** Number of each row's clip in `clips`. */
  readonly clips: readonly number[];
  /** How long the caller waited for this batch, in seconds. */
  readonly waitedSeconds: number;
}

export interface BatchSource {
  readonly kind: "batches";
  /** Batches of an epoch; what does not fill a last one is left out. */
  readonly batches: number;
  /** Clips that are left out of every epoch. */
  readonly failures: readonly ClipFailure[];
  /** Warnings of decoders, each with its clip's path. */
  readonly warnings: readonly string[];
  /** The batches of epoch `epoch` from number `from` on. A clip that has become unreadable throws a `ClipError`. */
  readonly epoch: (epoch: number, from?: number) => AsyncGenerator<Batch, void>;
  readonly close: () => void;
}

export interface EvaluationBatch {
  readonly index: number;
  readonly inputs: ReadonlyMap<string, Float32Array>;
  /** What each row is: a view of a clip (both numbers, see `viewOf`), or undefined where it fills up the last batch. */
  readonly rows: readonly ({ readonly clip: number; readonly view: number } | undefined)[];
  readonly waitedSeconds: number;
}

export interface EvaluationSource {
  readonly kind: "evaluation";
  readonly batches: number;
  /** Views of each clip that can be read: segments × crops. */
  readonly views: number;
  /** Clips without any row: they count as errors. */
  readonly failures: readonly ClipFailure[];
  readonly warnings: readonly string[];
  /** Every view of every clip, clip after clip. */
  readonly run: () => AsyncGenerator<EvaluationBatch, void>;
  readonly close: () => void;
}

/**
 * What an input sees of a clip in a network that this recipe has trained: its own record with the recipe's resizing and
 * bound. Whoever predicts with the trained network must follow it.
 */
export function trainedPreprocess(
  preprocess: Preprocess,
  recipe: Pick<DataRecipe, "resize" | "flowBound">,
): Preprocess {
  const { resize: _, ...rest } = preprocess;
  return {
    ...rest,
    ...(recipe.resize === undefined ? {} : { resize: recipe.resize }),
    ...(preprocess.source === "flow" ? { bound: recipe.flowBound } : {}),
  };
}

/** Opens the training side. */
export async function openBatches(options: BatchOptions): Promise<BatchSource | LoaderError> {
  const { recipe, seed } = options;
  const request: WindowRequest = recipe.sampling.kind === "random" ? { kind: "all" } : recipe.sampling;
  const opened = await openLoader(options, request);
  if (opened.kind === "loader-error") return opened;
  const { rows, size, usable, headers, labels, loader } = opened;
  const batches = Math.floor(usable.length / rows);
  if (batches === 0) {
    loader.close();
    const [first] = opened.failures;
    return refuse(
      `${usable.length} training clips can be read, fewer than a batch of ${rows}`,
      ...(first === undefined ? [] : [`\`${first.problem.path}\`: ${first.problem.message}`]),
      "use a smaller batch or more clips",
    );
  }
  const classOf = usable.map((clip) => labels[clip] ?? 0);
  return {
    kind: "batches",
    batches,
    failures: opened.failures,
    warnings: opened.warnings,
    close: loader.close,
    epoch: async function* (epoch, from = 0) {
      const order = epochOrder(classOf, recipe.balance, seed, epoch);
      const plan = (index: number): RowPlan[] | undefined =>
        index >= batches
          ? undefined
          : order.slice(index * rows, (index + 1) * rows).map((draw) => {
              const clip = usable[draw.clip] ?? 0;
              const header = headers.get(clip);
              const path = options.clips[clip]?.path ?? "";
              if (header === undefined) throw new Error("internal: a clip was drawn that cannot be read");
              return drawSample({ ...draw, clip }, path, header, size, recipe, seed, epoch);
            });
      for await (const { index, plans, inputs, waitedSeconds } of opened.stream(plan, from)) {
        const clips = plans.map((row) => row?.clip ?? 0);
        yield { index, inputs, clips, labels: Int32Array.from(clips, (clip) => labels[clip] ?? 0), waitedSeconds };
      }
    },
  };
}

/** Opens a side for evaluation: the recipe's segments × crops of every clip. */
export async function evaluationBatches(options: LoaderOptions): Promise<EvaluationSource | LoaderError> {
  const { evaluation } = options.recipe;
  const opened = await openLoader(options, { kind: "segments", count: evaluation.segments });
  if (opened.kind === "loader-error") return opened;
  const { rows, size, usable, headers, loader } = opened;
  const views = evaluation.segments * evaluation.crops;
  const all = usable.length * views;
  const placeOf = (number: number): { readonly clip: number; readonly view: number } | undefined => {
    const clip = usable[Math.floor(number / views)];
    return clip === undefined || number >= all ? undefined : { clip, view: number % views };
  };
  const batches = Math.ceil(all / rows);
  return {
    kind: "evaluation",
    batches,
    views,
    failures: opened.failures,
    warnings: opened.warnings,
    close: loader.close,
    run: async function* () {
      const placesOf = (index: number): ReturnType<typeof placeOf>[] =>
        Array.from({ length: rows }, (_, row) => placeOf(index * rows + row));
      const plan = (index: number): (RowPlan | undefined)[] | undefined =>
        index >= batches
          ? undefined
          : placesOf(index).map((place) => {
              const header = place === undefined ? undefined : headers.get(place.clip);
              return place === undefined || header === undefined
                ? undefined
                : viewOf(place.clip, place.view, header, size, evaluation);
            });
      for await (const { index, inputs, waitedSeconds } of opened.stream(plan, 0))
        yield { index, inputs, rows: placesOf(index), waitedSeconds };
    },
  };
}

// -------------------------------------------------------------------------------------------------------------- shared

interface Filled {
  readonly index: number;
  readonly plans: readonly (RowPlan | undefined)[];
  readonly inputs: ReadonlyMap<string, Float32Array>;
  readonly waitedSeconds: number;
}

interface Opened {
  readonly kind: "opened";
  /** Rows of a batch, and width and height of the inputs. */
  readonly rows: number;
  readonly size: readonly [number, number];
  readonly loader: PoolLoader;
  /** Numbers of the clips that can be read, in order; their entries; the class number of every clip. */
  readonly usable: readonly number[];
  readonly headers: ReadonlyMap<number, EntryHeader>;
  readonly labels: readonly number[];
  readonly failures: readonly ClipFailure[];
  readonly warnings: readonly string[];
  /** Assembles the batches of `plan` from `from` on, ahead of time, until it gives none. */
  readonly stream: (
    plan: (index: number) => readonly (RowPlan | undefined)[] | undefined,
    from: number,
  ) => AsyncGenerator<Filled, void>;
}

function refuse(message: string, ...help: readonly string[]): LoaderError {
  return { kind: "loader-error", message, help };
}

async function openLoader(options: LoaderOptions, request: WindowRequest): Promise<Opened | LoaderError> {
  const { pool, folder, clips, classes, inputs, recipe } = options;
  const ports: PortSpec[] = [];
  for (const input of inputs) {
    const port = openPort(input, recipe);
    if ("kind" in port) return port;
    ports.push(port);
  }
  const rows = inputs[0]?.shape[0] ?? 0;
  const [first] = ports;
  if (first === undefined) return refuse("the network has no input", "declare one as RGB or Flow");
  const { size } = first.preprocess;
  const other = ports.find(({ preprocess }) => preprocess.size.some((side, axis) => side !== size[axis]));
  if (other !== undefined)
    return refuse(
      `the inputs \`${first.name}\` (${size.join("×")}) and \`${other.name}\` (${other.preprocess.size.join("×")}) differ in size`,
      "all streams of a sample share one crop: give them one size",
    );
  const labels = clips.map((clip) => classes.indexOf(clip.class));
  const stranger = clips[labels.indexOf(-1)];
  if (stranger !== undefined)
    return refuse(
      `\`${stranger.path}\` shows \`${stranger.class}\`, which is not among the classes`,
      `the classes are ${classes.map((name) => `\`${name}\``).join(", ")}`,
    );

  const fields = Math.max(...ports.map(({ preprocess, planes }) => (preprocess.source === "flow" ? planes / 2 : 0)));
  const spec: StripSpec = {
    request,
    fields,
    rgb: ports.some(({ preprocess }) => preprocess.source === "rgb"),
    size,
    resize: recipe.resize,
    bound: recipe.flowBound,
    flow: options.flow ?? flowDefaults,
  };
  const sources: ClipSource[] = [];
  const failures: ClipFailure[] = [];
  const fail = (clip: number, problem: DataError): void => {
    failures.push({ clip, problem });
    options.onFailure?.({ clip, problem });
  };
  const bad: (DataError | undefined)[] = [];
  await inParallel(clips, 8, async (record, number) => {
    const path = join(folder, record.path);
    const found = record.status === "ok" || record.status === "excluded" ? await pool.files.identify(path) : undefined;
    const decoder = found?.folder === true ? "sharp" : pool.decoder;
    sources[number] = {
      path,
      key: found === undefined ? "" : entryKey({ content: found.hash, decoder, ...spec }),
      own: decoder === "node-av",
    };
    if (found !== undefined) return;
    bad[number] =
      record.status === "ok" || record.status === "excluded"
        ? { kind: "missing", message: "there is no such file or folder", path, help: "scan the set again" }
        : recordedProblem(record, record.status, path);
  });

  const loader = pool.open(spec, ports, sources);
  const headers = new Map<number, EntryHeader>();
  const results: (EntryHeader | DataError | undefined)[] = [];
  let done = 0;
  // Two for each thread: one at work, one waiting for it.
  await inParallel(clips, 2 * pool.threads, async (_, number) => {
    results[number] = bad[number] ?? (await loader.prepare(number));
    options.onPrepared?.(++done, clips.length);
  });
  const usable: number[] = [];
  const warnings: string[] = [];
  for (const [number, result] of results.entries()) {
    if (result === undefined) continue;
    if ("kind" in result) fail(number, result);
    else {
      usable.push(number);
      headers.set(number, result);
      for (const warning of result.warnings) warnings.push(`\`${clips[number]?.path ?? ""}\`: ${warning}`);
    }
  }

  const lengths = ports.map(({ planes }) => rows * planes * size[0] * size[1]);
  const ahead = Math.max(1, options.ahead ?? Math.min(4, pool.threads + 1));
  const free: (readonly ArrayBuffer[])[] = [];
  const stream: Opened["stream"] = async function* (plan, from) {
    interface Flight {
      readonly plans: readonly (RowPlan | undefined)[];
      readonly filled: Promise<readonly ArrayBuffer[]>;
    }
    const flights: Flight[] = [];
    let next = from;
    const launch = (): void => {
      while (flights.length < ahead) {
        const plans = plan(next);
        if (plans === undefined) return;
        next++;
        const buffers = free.pop() ?? lengths.map((length) => new ArrayBuffer(length * 4));
        const filled = loader.fill(plans, buffers);
        filled.catch(() => {}); // it is thrown where the batch is awaited, if it ever is
        flights.push({ plans, filled });
      }
    };
    try {
      for (let index = from; ; index++) {
        const asked = performance.now();
        launch();
        const flight = flights.shift();
        if (flight === undefined) return;
        const buffers = await flight.filled;
        const waitedSeconds = (performance.now() - asked) / 1000;
        launch();
        const arrays = new Map(ports.map(({ name }, p) => [name, new Float32Array(buffers[p] ?? new ArrayBuffer(0))]));
        yield { index, plans: flight.plans, inputs: arrays, waitedSeconds };
        free.push(buffers);
      }
    } finally {
      for (const { filled } of flights)
        filled.then(
          (buffers) => free.push(buffers),
          () => {},
        );
    }
  };
  return { kind: "opened", rows, size, loader, usable, headers, labels, failures, warnings, stream };
}

/** Checks that an input can be filled from clips by this recipe. */
function openPort(input: ProgramInput, recipe: DataRecipe): PortSpec | LoaderError {
  const { name, shape, preprocess } = input;
  const [, planes = 0, height, width] = shape;
  if (preprocess === undefined || shape.length !== 4)
    return refuse(
      `the input \`${name}\` [${shape.join(", ")}] is neither an RGB frame nor a stack of flow fields`,
      "declare it as RGB ([N, 3, H, W]) or Flow ([N, 2L, H, W])",
    );
  if (preprocess.quantise === "none")
    return refuse(
      `the input \`${name}\` wants flow that is not rounded to bytes, and decoded flow is kept as bytes`,
      "leave `quantise` out of its preprocessing",
    );
  if (width !== preprocess.size[0] || height !== preprocess.size[1])
    throw new Error(`internal: the input ${name} [${shape.join(", ")}] does not fit its preprocessing record`);
  return { name, preprocess: trainedPreprocess(preprocess, recipe), planes };
}

/** What the manifest says of a clip that could not be read when the set was scanned. */
function recordedProblem(
  record: ClipRecord,
  status: Exclude<ClipRecord["status"], "ok" | "excluded">,
  path: string,
): DataError {
  return {
    ...notDecodable(path, ""),
    kind: status,
    message: record.detail ?? "it could not be read when it was scanned",
  };
}

/** Calls `work` for each item, up to `limit` at a time. */
async function inParallel<T>(
  items: readonly T[],
  limit: number,
  work: (item: T, index: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let index = next++; index < items.length; index = next++) {
      const item = items[index];
      if (item !== undefined) await work(item, index);
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, lane));
}
