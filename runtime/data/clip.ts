/**
 * A clip made ready for a model: from a video file or a folder of images to the tensors its inputs want.
 *
 * In: a path and the program's inputs, each with its `Preprocess` record. Out: one float32 tensor an input, row-major in
 * its declared shape, with a report of what was read; or a `DataError` that says what is wrong, where, and what to do.
 * One window of L+1 consecutive frames serves all inputs of a sample: the RGB stream sees its middle frame, the flow
 * stream the L fields between its frames. A batch of B samples is B windows spread over the clip (TSN's segments).
 */
import { stat } from "node:fs/promises";
import { availableParallelism } from "node:os";
import type { Preprocess, ProgramInput } from "../../compiler/program.ts";
import { type View, viewFlow, viewFlowBytes } from "./augment.ts";
import { type Flow, type FlowOptions, flowDefaults, flowOfFrames } from "./flow.ts";
import { readFolder } from "./images.ts";
import { greyOf, placeCrop, resizeAndCrop, resizeWhole, writeFlow, writeFlowBytes, writeRgb } from "./sample.ts";
import type { ClipFacts, DataError, RgbFrame, Window } from "./source.ts";
import { type Decoders, readVideo } from "./video.ts";

export interface ClipOptions {
  /** Where in the clip a single sample lies: 0 its start, 0.5 (the default) its middle, 1 its end. */
  readonly position?: number;
  readonly flow?: FlowOptions;
  readonly threads?: number;
  readonly decoders?: Decoders;
}

/** Called as work goes on: frames read, then pairs of frames whose flow is known. */
export type ClipProgress = (stage: "frames" | "flow", done: number, total: number) => void;

export interface ClipReport {
  /** Frames in the clip, and their size in pixels. */
  readonly frames: number;
  readonly size: readonly [number, number];
  readonly decoder: string;
  /** Time stamps in seconds of the frames used, a list for each sample of the batch. */
  readonly pts: readonly (readonly number[])[];
  /** Time stamps in seconds of the frame that the RGB stream sees, one for each sample. */
  readonly middle: readonly number[];
  /** Where the flow came from. */
  readonly flow: "none" | "images" | "tvl1";
  readonly readSeconds: number;
  readonly flowSeconds: number;
  readonly warnings: readonly string[];
}

export interface Clip {
  readonly kind: "clip";
  /** By input name. */
  readonly tensors: ReadonlyMap<string, Float32Array>;
  readonly report: ClipReport;
}

/** An input with its recipe, checked: what `loadClip` fills. */
interface Port {
  readonly name: string;
  readonly preprocess: Preprocess;
  /** Flow fields; 0 for RGB. */
  readonly fields: number;
  readonly tensor: Float32Array;
  /** Elements of one sample. */
  readonly sample: number;
}

/** What has been kept of one window for one port. */
interface Kept {
  /** For an RGB input: the crop of the window's middle frame. */
  middle: Uint8Array | undefined;
  /** For flow: the whole frames in grey, or the whole stored flow images x1, y1, x2, y2, … where there are any. */
  readonly grey: Float32Array[];
  readonly planes: Uint8Array[];
  /** For flow: the width of the whole resized picture, its height, and where the crop lies in it. */
  width: number;
  height: number;
  view: View | undefined;
}

/**
 * Reads a clip for a program's inputs. `path` is a video file, or a folder of images (see images.ts).
 */
export async function loadClip(
  path: string,
  inputs: readonly ProgramInput[],
  onProgress: ClipProgress = () => {},
  options: ClipOptions = {},
): Promise<Clip | DataError> {
  const ports: Port[] = [];
  for (const input of inputs) {
    const port = openPort(input, path);
    if ("kind" in port) return port;
    ports.push(port);
  }
  const batch = inputs[0]?.shape[0] ?? 1;
  if (inputs.some((input) => input.shape[0] !== batch))
    throw new Error("internal: inputs of one program differ in batch");
  const count = Math.max(0, ...ports.map((port) => port.fields)) + 1;
  const windows: Window[] = Array.from({ length: batch }, (_, k) => ({
    count,
    position: batch === 1 ? (options.position ?? 0.5) : (k + 0.5) / batch,
  }));

  const started = performance.now();
  const kept: Kept[][] = windows.map(() =>
    ports.map(() => ({ middle: undefined, grey: [], planes: [], width: 0, height: 0, view: undefined })),
  );
  const pts: number[][] = windows.map(() => []);
  const middle = Math.floor((count - 1) / 2);
  let frames = 0;
  const take = (window: number, frame: RgbFrame): void => {
    const number = pts[window]?.push(frame.pts) ?? 0;
    for (const [p, port] of ports.entries()) {
      const own = kept[window]?.[p];
      if (own === undefined) continue;
      if (port.fields === 0) {
        if (number === middle + 1) own.middle = resizeAndCrop(frame, port.preprocess);
        continue;
      }
      const whole = resizeWhole(frame, port.preprocess);
      own.grey.push(greyOf(whole.rgb));
      own.width = whole.width;
      own.height = whole.height;
      const { left, top } = placeCrop(frame, port.preprocess);
      const [width, height] = port.preprocess.size;
      own.view = { left, top, width, height, mirrored: false };
    }
    onProgress("frames", ++frames, count * batch);
  };
  const takeFlow = (window: number, x: RgbFrame, y: RgbFrame): void => {
    for (const [p, port] of ports.entries())
      if (port.fields > 0)
        for (const field of [x, y])
          kept[window]?.[p]?.planes.push(firstChannel(resizeWhole(field, port.preprocess).rgb));
  };
  const facts = await readClip(path, windows, take, takeFlow, options.decoders);
  if (facts.kind !== "facts") return facts;
  const read = performance.now();

  const pairs = ports.reduce((sum, port) => sum + port.fields, 0) * batch;
  let pairsDone = 0;
  let flow: ClipReport["flow"] = "none";
  for (let w = 0; w < batch; w++)
    for (const [p, port] of ports.entries()) {
      const own = kept[w]?.[p];
      const into = port.tensor.subarray(w * port.sample, (w + 1) * port.sample);
      // An input with fewer fields than the window has takes those around the middle.
      const skip = Math.floor((count - 1 - port.fields) / 2);
      if (own !== undefined && port.fields === 0 && own.middle !== undefined) {
        writeRgb(own.middle, port.preprocess, into);
        continue;
      }
      if (own?.view === undefined) throw new Error("internal: a window came without its frames");
      const { view, planes, width, height } = own;
      if (planes.length > 0) {
        flow = "images";
        const chosen = planes.slice(2 * skip, 2 * (skip + port.fields));
        writeFlowBytes(viewFlowBytes(chosen, width, view), port.preprocess, into);
      } else {
        flow = "tvl1";
        const fields: readonly Flow[] = await flowOfFrames(
          own.grey.slice(skip, skip + port.fields + 1),
          width,
          height,
          options.flow ?? flowDefaults,
          () => onProgress("flow", ++pairsDone, pairs),
          options.threads ?? availableParallelism(),
        );
        writeFlow(
          fields.map((field) => viewFlow(field, width, view)),
          port.preprocess,
          into,
        );
      }
    }

  return {
    kind: "clip",
    tensors: new Map(ports.map((port) => [port.name, port.tensor])),
    report: {
      frames: facts.frames,
      size: [facts.width, facts.height],
      decoder: facts.decoder,
      pts,
      middle: pts.map((list) => list[middle] ?? 0),
      flow,
      readSeconds: (read - started) / 1000,
      flowSeconds: flow === "none" ? 0 : (performance.now() - read) / 1000,
      warnings: [...facts.warnings, ...pts.flatMap(jumps)],
    },
  };
}

/** A warning where time jumps within a window: the flow across it is not the motion from one frame to the next. */
function jumps(pts: readonly number[]): string[] {
  const steps = pts.slice(1).map((t, i) => t - (pts[i] ?? t));
  const usual = [...steps].sort((a, b) => a - b)[Math.floor(steps.length / 2)] ?? 0;
  const at = steps.findIndex((step) => step > 2.5 * usual);
  if (at < 0) return [];
  const [from = 0, to = 0] = pts.slice(at, at + 2);
  return [`frames are missing between ${from.toFixed(2)} s and ${to.toFixed(2)} s, and the flow there spans the gap`];
}

/** Looks at what `path` is and hands it to the reader for it. */
export async function readClip(
  path: string,
  windows: readonly Window[],
  take: (window: number, frame: RgbFrame) => void,
  takeFlow: (window: number, x: RgbFrame, y: RgbFrame) => void,
  decoders: Decoders | undefined,
): Promise<ClipFacts | DataError> {
  const found = await stat(path).catch((error: unknown) => String(error instanceof Error ? error.message : error));
  if (typeof found === "string") {
    const absent = found.startsWith("ENOENT") || found.startsWith("ENOTDIR");
    return {
      kind: "missing",
      message: absent ? "there is no such file or folder" : `it cannot be read (${found})`,
      path,
      help: absent ? "check the path; it is taken from the folder the command runs in" : "check its permissions",
    };
  }
  if (found.isDirectory()) return readFolder(path, windows, take, takeFlow);
  if (!found.isFile())
    return { kind: "missing", message: "it is neither a file nor a folder", path, help: "give a video file" };
  if (found.size === 0)
    return { kind: "empty", message: "the file is empty (0 bytes)", path, help: "copy or record the clip again" };
  return readVideo(path, windows, take, decoders);
}

/** Checks that an input can be filled from a clip. */
function openPort(input: ProgramInput, path: string): Port | DataError {
  const { name, shape, preprocess } = input;
  if (preprocess === undefined)
    return {
      kind: "input",
      message: `the input \`${name}\` [${shape.join(", ")}] is neither an RGB frame nor a stack of flow fields`,
      path,
      help: "declare it as RGB ([N, 3, H, W]) or Flow ([N, 2L, H, W]), or write its tensor yourself",
    };
  const [, channels = 0, height, width] = shape;
  const fields = preprocess.source === "flow" ? (preprocess.fields ?? channels / 2) : 0;
  const planes = preprocess.source === "flow" ? 2 * fields : 3;
  if (shape.length !== 4 || channels !== planes || width !== preprocess.size[0] || height !== preprocess.size[1])
    throw new Error(`internal: the input ${name} [${shape.join(", ")}] does not fit its preprocessing record`);
  const elements = shape.reduce((a, b) => a * b, 1);
  return { name, preprocess, fields, tensor: new Float32Array(elements), sample: elements / (shape[0] ?? 1) };
}

/** Every third byte of packed RGB: a grey image read as colour. */
function firstChannel(rgb: Uint8Array): Uint8Array {
  return Uint8Array.from({ length: rgb.length / 3 }, (_, i) => rgb[3 * i] ?? 0);
}
