/**
 * `--weights [stream=]FILE`: files on the disk become the engine's source of numbers; what no file gives starts from the
 * seed.
 */
import { closeSync, existsSync, fstatSync, openSync, readSync, writeSync } from "node:fs";
import type { Model } from "../../compiler/model.ts";
import type { Upload } from "../../compiler/program.ts";
import { applyTransforms, planWeights, reportWeights, type WeightLoad } from "../../compiler/weights/plan.ts";
import type { Diagnostic } from "../../grammar/diagnostic.ts";
import { initialise } from "../engine/init.ts";
import type { WeightSource } from "../engine/runner.ts";
import {
  openSafetensors,
  type ReadBytes,
  readTensor,
  type SafetensorsFile,
  safetensorsHead,
} from "../engine/safetensors.ts";
import { CommandError, EXIT, systemError } from "./exit.ts";

function fileReader(path: string): { readonly read: ReadBytes; readonly size: number } {
  try {
    const descriptor = openSync(path, "r");
    const stat = fstatSync(descriptor);
    if (!stat.isFile()) {
      closeSync(descriptor);
      throw new CommandError(EXIT.wrong, `cannot read the weights \`${path}\`: it is not a file`, [
        "give a .safetensors file",
      ]);
    }
    const { size } = stat;
    return {
      size,
      read: async (offset, length) => {
        const bytes = new Uint8Array(Math.min(length, Math.max(0, size - offset)));
        let done = 0;
        while (done < bytes.length) {
          const count = readSync(descriptor, bytes, done, bytes.length - done, offset + done);
          if (count === 0) break;
          done += count;
        }
        return bytes.subarray(0, done);
      },
    };
  } catch (error) {
    throw error instanceof CommandError ? error : systemError(`read the weights \`${path}\``, error);
  }
}

async function openFile(path: string): Promise<SafetensorsFile> {
  const { read, size } = fileReader(path);
  const file = await openSafetensors(read, size);
  if ("error" in file) throw new CommandError(EXIT.wrong, `\`${path}\`: ${file.error}`);
  return file;
}

async function tensor(file: SafetensorsFile, name: string, path: string): Promise<Float32Array> {
  const values = await readTensor(file, name);
  if ("error" in values) throw new CommandError(EXIT.wrong, `\`${path}\`: ${values.error}`);
  return values;
}

/** Weights of a model, ready for the engine. */
export interface Weights {
  readonly source: WeightSource;
  /** Paths of the parameters that a file gives. */
  readonly loaded: ReadonlySet<string>;
  /** Warnings, or errors that forbid to go on. */
  readonly diagnostics: readonly Diagnostic[];
}

/** Copies the rows that an upload asks for out of a whole parameter. */
function copyRows(values: Float32Array, upload: Upload, into: Float32Array): void {
  const rowSize = upload.shape.slice(1).reduce((product, size) => product * size, 1);
  into.set(
    upload.rows === undefined ? values : values.subarray(upload.rows.start * rowSize, upload.rows.end * rowSize),
  );
}

/** A source that reads parameters by path, and starts the rest from `seed`. Keeps the last one read: rows come in a row. */
function sourceOf(read: (path: string) => Promise<Float32Array> | undefined, seed: number): WeightSource {
  let last: { readonly path: string; readonly values: Float32Array } | undefined;
  return async (upload, into) => {
    if (last?.path !== upload.path) {
      const values = await read(upload.path);
      last = values === undefined ? undefined : { path: upload.path, values };
    }
    if (last === undefined) initialise(upload, seed, into);
    else copyRows(last.values, upload, into);
  };
}

/**
 * Opens `specs` (`FILE` or `stream=FILE`) for a model whose sizes are known.
 * @throws CommandError for a file that cannot be read or is no safetensors file
 */
export async function openWeights(
  model: Model,
  specs: readonly string[],
  skip: readonly string[],
  seed: number,
): Promise<Weights> {
  const found = new Map<string, { readonly load: WeightLoad; readonly file: SafetensorsFile; readonly path: string }>();
  const diagnostics: Diagnostic[] = [];
  for (const spec of specs) {
    const match = /^([A-Za-z_]\w*)=(.+)$/.exec(spec);
    const stream = match !== null && !existsSync(spec) ? match[1] : undefined;
    const path = stream === undefined ? spec : (match?.[2] ?? spec);
    if (stream !== undefined && !model.streams.includes(stream)) {
      throw new CommandError(EXIT.usage, `\`${model.name}\` has no stream \`${stream}\``, [
        model.streams.length === 0
          ? "it has a single stream: write `--weights FILE`"
          : `its streams are ${model.streams.join(", ")}`,
      ]);
    }
    const file = await openFile(path);
    // A checkpoint of netc's own: what its optimizer remembers has a `/` in its name and is no weight.
    const tensors = [...file.tensors].filter(([name]) => !name.includes("/"));
    const header = new Map(tensors.map(([name, entry]) => [name, entry.shape]));
    const plan = planWeights(model, header, stream === undefined ? { skip } : { skip, stream });
    diagnostics.push(...reportWeights(plan, path));
    for (const load of plan.loads) found.set(load.path, { load, file, path });
  }
  const read = (path: string): Promise<Float32Array> | undefined => {
    const entry = found.get(path);
    return (
      entry && tensor(entry.file, entry.load.tensor, entry.path).then((values) => applyTransforms(entry.load, values))
    );
  };
  return { source: sourceOf(read, seed), loaded: new Set(found.keys()), diagnostics };
}

/** The source of a compiled program: its own weights file by parameter path, if it has one, and its seed. */
export async function programWeights(file: string | undefined, seed: number): Promise<Weights> {
  if (file === undefined) return { source: sourceOf(() => undefined, seed), loaded: new Set(), diagnostics: [] };
  const opened = await openFile(file);
  const read = (path: string): Promise<Float32Array> | undefined =>
    opened.tensors.has(path) ? tensor(opened, path, file) : undefined;
  return { source: sourceOf(read, seed), loaded: new Set(opened.tensors.keys()), diagnostics: [] };
}

/** Writes parameters to `path`, one after the other, so that a gigabyte is never held at once. Returns the file's length. */
export async function writeWeights(path: string, uploads: readonly Upload[], source: WeightSource): Promise<number> {
  const descriptor = openSync(path, "w");
  try {
    let length = 0;
    const put = (bytes: Uint8Array): void => {
      for (let done = 0; done < bytes.length; ) done += writeSync(descriptor, bytes, done);
      length += bytes.length;
    };
    put(
      safetensorsHead(
        uploads.map(({ path: name, shape }) => ({ name, shape })),
        { format: "pt" },
      ),
    );
    for (const upload of uploads) {
      const values = new Float32Array(upload.shape.reduce((product, size) => product * size, 1));
      await source(upload, values);
      put(new Uint8Array(values.buffer));
    }
    return length;
  } finally {
    closeSync(descriptor);
  }
}
