/** Small sets of drawn clips on the disk, and inputs and recipes for them. */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { ProgramInput } from "../../compiler/program.ts";
import type { DataRecipe } from "../../compiler/recipe/recipe.ts";
import { loadEncoder } from "../../runtime/data/encode.ts";
import type { LoaderError } from "../../runtime/data/loader/batches.ts";
import { encodeManifest, MANIFEST_FILE, type Manifest } from "../../runtime/data/manifest.ts";
import { CLASSES, clipsOf, type SetOptions } from "../../runtime/data/synthetic/set.ts";

/** A tiny set: sixteen clips of nine frames. */
export const drawing: SetOptions = {
  layout: "association",
  subjects: 1,
  clips: 8,
  frames: 9,
  width: 48,
  height: 40,
  seed: 1,
  format: "mp4",
};

/** Draws a set into `folder`, as `netc data make` does. */
export async function makeSet(folder: string, options: Partial<SetOptions> = {}): Promise<Manifest> {
  const encode = await loadEncoder();
  if (encode === undefined) throw new Error("no encoder");
  const all = { ...drawing, ...options };
  const { width, height } = all;
  const clips = clipsOf(all).map(({ record, frames }) => {
    const path = join(folder, record.path);
    mkdirSync(dirname(path), { recursive: true });
    encode(path, { codec: "mpeg4", width, height, fps: 25, bitrate: "300k" }, frames());
    return { ...record, frames: all.frames, status: "ok" as const };
  });
  const manifest: Manifest = { note: "SYNTHETIC: a test", layout: all.layout, classes: CLASSES[all.layout], clips };
  writeFileSync(join(folder, MANIFEST_FILE), encodeManifest(manifest));
  return manifest;
}

/** An RGB frame and `fields` flow fields of `size` x `size`, `batch` of each. */
export function twoStreams(size: number, fields: number, batch: number): readonly ProgramInput[] {
  return [
    {
      name: "rgb",
      shape: [batch, 3, size, size],
      dtype: "f32",
      allocation: 0,
      preprocess: {
        source: "rgb",
        size: [size, size],
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
      },
    },
    {
      name: "flow",
      shape: [batch, 2 * fields, size, size],
      dtype: "f32",
      allocation: 1,
      preprocess: { source: "flow", size: [size, size], mean: [0.5], std: [0.226], bound: 20, fields },
    },
  ];
}

/** A recipe's data with everything that is random turned on. */
export function dataRecipe(change: Partial<DataRecipe> = {}): DataRecipe {
  return {
    folder: ".",
    labels: undefined,
    split: { protocol: { kind: "fixed" }, validation: 0 },
    batch: 4,
    balance: "none",
    sampling: { kind: "random" },
    resize: 36,
    crop: "random",
    flip: 0.5,
    jitter: 0.3,
    flowBound: 8,
    evaluation: { segments: 2, crops: 10 },
    ...change,
  };
}

/** The source, or its refusal as an error. */
export function opened<T extends { readonly kind: string }>(result: T | LoaderError): T {
  if ("help" in result) throw new Error(`${result.message}\n${result.help.join("\n")}`);
  return result;
}
