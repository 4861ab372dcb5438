/**
 * Frames and flow from a folder of images, the form in which two-stream data sets are usually kept:
 * `img_00001.jpg`, `flow_x_00001.jpg`, `flow_y_00001.jpg`, … (denseflow, TSN). Any image whose name ends in a number
 * serves as a frame. Where the folder has flow images they are used, and then none may be missing.
 *
 * Decoding is by the optional package `sharp`. It only decodes here: shrinking a JPEG while loading it, or libvips's own
 * kernels, would make the numbers depend on its version, so resizing is left to sample.ts.
 */
import { readdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import {
  type ClipFacts,
  type DataError,
  notDecodable,
  type RgbFrame,
  type TakeFrame,
  tooShort,
  type Window,
} from "./source.ts";

// What we use of sharp, said here because the package is optional and its types may not be installed.
interface Sharp {
  autoOrient(): Sharp;
  removeAlpha(): Sharp;
  toColourspace(space: "srgb"): Sharp;
  raw(): Sharp;
  toBuffer(options: { readonly resolveWithObject: true }): Promise<{
    readonly data: Uint8Array;
    readonly info: { readonly width: number; readonly height: number; readonly channels: number };
  }>;
}
type MakeSharp = (path: string, options: { readonly failOn: "error" }) => Sharp;

/** A folder's frames by their numbers, and its flow images by theirs. */
interface Folder {
  readonly frames: readonly { readonly file: string; readonly number: number; readonly digits: string }[];
  readonly names: ReadonlySet<string>;
  /** The ending of the first flow image, or undefined where there are none. */
  readonly flowEnding: string | undefined;
}

/** Takes the flow images from one frame of a window to the next. */
export type TakeFlow = (window: number, x: RgbFrame, y: RgbFrame) => void;

/**
 * Reads windows of frames from a folder, and the flow images between them where it has any. A folder has no clock, so
 * time stamps are those of 25 frames a second.
 */
export async function readFolder(
  path: string,
  windows: readonly Window[],
  take: TakeFrame,
  takeFlow: TakeFlow,
): Promise<ClipFacts | DataError> {
  const folder = listFolder(await readdir(path));
  if (folder.frames.length === 0)
    return {
      kind: "folder",
      message: "the folder has no frames: no image in it has a name that ends in a number",
      path,
      help: "give a video file, or a folder with img_00001.jpg, img_00002.jpg, …",
    };
  const sharp = await loadSharp();
  if (sharp === undefined)
    return {
      kind: "no-decoder",
      message: "no image decoder: the package sharp is not on this machine",
      path,
      help: "run `npm install sharp`, or give a video file",
    };

  let size: { readonly width: number; readonly height: number } | undefined;
  const read = async (file: string, pts: number): Promise<RgbFrame | DataError> => {
    try {
      const image = sharp(join(path, file), { failOn: "error" }).autoOrient().removeAlpha().toColourspace("srgb");
      const { data, info } = await image.raw().toBuffer({ resolveWithObject: true });
      const { width, height } = info;
      if (size !== undefined && (width !== size.width || height !== size.height))
        return notDecodable(
          join(path, file),
          `it is ${width}x${height}, the images before it ${size.width}x${size.height}`,
        );
      size = { width, height };
      return { width, height, rgb: data, pts };
    } catch (error) {
      return notDecodable(join(path, file), error instanceof Error ? error.message : String(error));
    }
  };

  for (const [index, { count, position }] of windows.entries()) {
    if (folder.frames.length < count) return tooShort(path, folder.frames.length, count);
    const first = Math.floor((folder.frames.length - count) * position);
    for (let k = first; k < first + count; k++) {
      const entry = folder.frames[k];
      if (entry === undefined) continue;
      const frame = await read(entry.file, k / 25);
      if ("kind" in frame) return frame;
      take(index, frame);
      if (folder.flowEnding === undefined || k + 1 === first + count) continue;
      const fields: RgbFrame[] = [];
      for (const axis of ["x", "y"]) {
        const file = `flow_${axis}_${entry.digits}.${folder.flowEnding}`;
        if (!folder.names.has(file))
          return {
            kind: "folder",
            message: `the flow image ${file} is missing, which belongs to frame ${entry.file}`,
            path: join(path, file),
            help: "extract the flow again, or remove all flow_* images to have it computed from the frames",
          };
        const field = await read(file, k / 25);
        if ("kind" in field) return field;
        fields.push(field);
      }
      const [x, y] = fields;
      if (x !== undefined && y !== undefined) takeFlow(index, x, y);
    }
  }
  const { width, height } = size ?? { width: 0, height: 0 };
  return { kind: "facts", decoder: "sharp", frames: folder.frames.length, width, height, warnings: gaps(folder) };
}

function listFolder(names: readonly string[]): Folder {
  const frames = names.flatMap((file) => {
    const digits = /^(?!flow_).*?(\d+)\.(?:jpe?g|png|webp)$/i.exec(file)?.[1];
    return digits === undefined ? [] : [{ file, number: Number(digits), digits }];
  });
  const flow = names.find((file) => /^flow_[xy]_\d+\.(?:jpe?g|png|webp)$/i.test(file));
  return {
    frames: frames.sort((a, b) => a.number - b.number || (a.file < b.file ? -1 : 1)),
    names: new Set(names),
    flowEnding: flow?.slice(flow.lastIndexOf(".") + 1),
  };
}

/** A warning where frame numbers jump, for the motion across a gap is not the motion of one frame. */
function gaps(folder: Folder): string[] {
  const after = folder.frames.find((frame, i) => {
    const before = folder.frames[i - 1];
    return before !== undefined && frame.number !== before.number + 1;
  });
  return after === undefined ? [] : [`frame numbers are not consecutive at ${after.file}`];
}

async function loadSharp(): Promise<MakeSharp | undefined> {
  try {
    const url = pathToFileURL(createRequire(import.meta.url).resolve("sharp")).href;
    const module: { readonly default: MakeSharp } = await import(url);
    return module.default;
  } catch {
    return undefined;
  }
}
