/**
 * From frames and flow to numbers: which part of a frame a model sees, and how bytes become its inputs.
 *
 * In: RGB frames of any size, flow fields, and an input's `Preprocess` record. Out: row-major channel planes (CHW) of
 * `(value/255 - mean) / std`. The order, for both streams, is: resize the shorter side, (flow only) grey, optical flow,
 * clip to ±bound, quantise to bytes; then crop, and normalise. Flow is computed on the whole resized picture, so it does
 * not depend on where a crop lies, and cut where the picture is cut, so a position means the same in both streams.
 * Resizing follows torchvision's documented transforms, with Pillow's arithmetic: bilinear with antialiasing, rounded to
 * bytes after each direction.
 */
import type { Preprocess } from "../../compiler/program.ts";
import type { Flow } from "./flow.ts";
import type { RgbFrame } from "./source.ts";

type FrameSize = Pick<RgbFrame, "width" | "height">;

/** A picture's size after resizing, and the corner of a crop in it, in pixels. */
export interface Placement {
  readonly width: number;
  readonly height: number;
  readonly left: number;
  readonly top: number;
}

/** Where `preprocess` cuts. */
export function placeCrop(frame: FrameSize, preprocess: Pick<Preprocess, "size" | "resize">): Placement {
  const [cropWidth, cropHeight] = preprocess.size;
  const short = Math.min(frame.width, frame.height);
  // A crop never reaches outside the picture: the scale is at least what covers it.
  const cover = Math.max(cropWidth / frame.width, cropHeight / frame.height);
  const scale = Math.max((preprocess.resize ?? 0) / short, cover);
  // The longer side is cut off, not rounded, as torchvision does; the nudge keeps exact products whole.
  const width = Math.max(cropWidth, Math.floor(frame.width * scale + 1e-9));
  const height = Math.max(cropHeight, Math.floor(frame.height * scale + 1e-9));
  return { width, height, left: halfToEven(width - cropWidth), top: halfToEven(height - cropHeight) };
}

/** n/2 rounded to the nearest integer, ties to even, as torchvision's centre crop has it from Python's `round`. */
function halfToEven(n: number): number {
  const down = Math.floor(n / 2);
  return n % 2 === 0 || down % 2 === 0 ? down : down + 1;
}

/** The part of a frame that a model sees, as packed RGB bytes of `preprocess.size`. */
export function resizeAndCrop(frame: RgbFrame, preprocess: Preprocess): Uint8Array {
  const [width, height] = preprocess.size;
  return resample(frame, placeCrop(frame, preprocess), width, height);
}

/** The whole of a frame, resized as `preprocess` asks for, before anything is cut off. */
export function resizeWhole(frame: RgbFrame, preprocess: Preprocess): RgbFrame {
  const { width, height } = placeCrop(frame, preprocess);
  return { width, height, rgb: resample(frame, { width, height, left: 0, top: 0 }, width, height), pts: frame.pts };
}

/** The `width` x `height` pixels from the corner of `place` on, of `frame` resized to the size of `place`; packed RGB. */
function resample(frame: RgbFrame, place: Placement, width: number, height: number): Uint8Array {
  const { rgb } = frame;
  if (frame.width === place.width && frame.height === place.height && width === place.width && height === place.height)
    return rgb.slice();
  const columns = triangle(frame.width, place.width, place.left, width);
  const rows = triangle(frame.height, place.height, place.top, height);
  // Only the rows that the second pass reads are resized by the first.
  const firstRow = rows.first[0] ?? 0;
  const endRow = (rows.first[height - 1] ?? 0) + (rows.count[height - 1] ?? 0);
  const line = width * 3;
  const wide = new Uint8Array(line * (endRow - firstRow));
  for (let y = firstRow; y < endRow; y++)
    for (let x = 0; x < width; x++) {
      let r = 0;
      let g = 0;
      let b = 0;
      let at = (y * frame.width + (columns.first[x] ?? 0)) * 3;
      const tap = x * columns.most;
      const end = tap + (columns.count[x] ?? 0);
      for (let k = tap; k < end; k++) {
        const weight = columns.weights[k] ?? 0;
        r += weight * (rgb[at] ?? 0);
        g += weight * (rgb[at + 1] ?? 0);
        b += weight * (rgb[at + 2] ?? 0);
        at += 3;
      }
      const to = (y - firstRow) * line + x * 3;
      wide[to] = Math.min(255, Math.floor(r + 0.5));
      wide[to + 1] = Math.min(255, Math.floor(g + 0.5));
      wide[to + 2] = Math.min(255, Math.floor(b + 0.5));
    }
  const out = new Uint8Array(line * height);
  const sums = new Float64Array(line);
  for (let y = 0; y < height; y++) {
    sums.fill(0);
    const tap = y * rows.most;
    const count = rows.count[y] ?? 0;
    for (let k = 0; k < count; k++) {
      const weight = rows.weights[tap + k] ?? 0;
      const at = ((rows.first[y] ?? 0) - firstRow + k) * line;
      for (let i = 0; i < line; i++) sums[i] = (sums[i] ?? 0) + weight * (wide[at + i] ?? 0);
    }
    for (let i = 0; i < line; i++) out[y * line + i] = Math.min(255, Math.floor((sums[i] ?? 0) + 0.5));
  }
  return out;
}

/** Which inputs an output reads: `count` from `first` on; its weights begin at `most` times its number. */
interface Taps {
  readonly most: number;
  readonly first: Int32Array;
  readonly count: Int32Array;
  readonly weights: Float64Array;
}

/**
 * The weights with which `count` outputs from `start` on read their inputs, when `from` samples become `to`: a triangle
 * around the output's centre, as wide as one output where the picture shrinks and as one input where it grows.
 */
function triangle(from: number, to: number, start: number, count: number): Taps {
  const scale = from / to;
  const radius = Math.max(1, scale);
  const most = Math.ceil(2 * radius) + 2;
  const taps = {
    most,
    first: new Int32Array(count),
    count: new Int32Array(count),
    weights: new Float64Array(count * most),
  };
  for (let k = 0; k < count; k++) {
    const centre = (start + k + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - radius + 0.5));
    const end = Math.min(from, Math.floor(centre + radius + 0.5));
    let total = 0;
    for (let i = 0; first + i < end; i++) {
      const weight = Math.max(0, 1 - Math.abs((first + i - centre + 0.5) / radius));
      taps.weights[k * most + i] = weight;
      total += weight;
    }
    for (let i = 0; first + i < end; i++) taps.weights[k * most + i] = (taps.weights[k * most + i] ?? 0) / total;
    taps.first[k] = first;
    taps.count[k] = end - first;
  }
  return taps;
}

/** Luma of packed RGB, 0..255, weighted as OpenCV does (BT.601). */
export function greyOf(rgb: Uint8Array): Float32Array {
  const grey = new Float32Array(rgb.length / 3);
  for (let i = 0; i < grey.length; i++)
    grey[i] = 0.299 * (rgb[3 * i] ?? 0) + 0.587 * (rgb[3 * i + 1] ?? 0) + 0.114 * (rgb[3 * i + 2] ?? 0);
  return grey;
}

/** Writes a cropped frame into three planes at `into`. */
export function writeRgb(rgb: Uint8Array, preprocess: Preprocess, into: Float32Array): void {
  const plane = rgb.length / 3;
  for (let c = 0; c < 3; c++) {
    const normalise = normaliser(preprocess, c);
    for (let i = 0; i < plane; i++) into[c * plane + i] = normalise(rgb[3 * i + c] ?? 0);
  }
}

/** Writes flow fields as planes x1, y1, x2, y2, … at `into`. */
export function writeFlow(flows: readonly Flow[], preprocess: Preprocess, into: Float32Array): void {
  const bytes = flowByte(preprocess);
  for (const [k, flow] of flows.entries())
    for (const [axis, field] of [flow.x, flow.y].entries()) {
      const channel = 2 * k + axis;
      const normalise = normaliser(preprocess, channel);
      for (let i = 0; i < field.length; i++) into[channel * field.length + i] = normalise(bytes(field[i] ?? 0));
    }
}

/** Writes stored flow images (one byte a pixel, bound already applied) as `writeFlow` does. */
export function writeFlowBytes(planes: readonly Uint8Array[], preprocess: Preprocess, into: Float32Array): void {
  for (const [channel, plane] of planes.entries()) {
    const normalise = normaliser(preprocess, channel);
    for (let i = 0; i < plane.length; i++) into[channel * plane.length + i] = normalise(plane[i] ?? 0);
  }
}

/**
 * Displacement in pixels to the scale of a flow image, 0..255 for ±bound. Rounded, no motion is 128, as in the images
 * that the literature's weights were trained on (some extractors cut off instead: 127); the mean taken off afterwards
 * is 127.5, so half a grey level stays. `quantise: "none"` keeps the fraction and with it the exact zero.
 */
export function flowByte(preprocess: Preprocess): (displacement: number) => number {
  const bound = preprocess.bound ?? 20;
  const round = (preprocess.quantise ?? "round") === "round";
  return (displacement) => {
    const clipped = Math.min(bound, Math.max(-bound, displacement));
    const value = ((clipped + bound) * 255) / (2 * bound);
    return round ? Math.floor(value + 0.5) : value;
  };
}

/** Bytes to numbers of one channel; lists shorter than the channels repeat (one mean for all, or one for x and y). */
export function normaliser(preprocess: Preprocess, channel: number): (byte: number) => number {
  const { mean, std } = preprocess;
  const m = mean[channel % Math.max(1, mean.length)] ?? 0;
  const s = std[channel % Math.max(1, std.length)] ?? 1;
  return (byte) => (byte / 255 - m) / s;
}

/** The functions above that the threads of loader/ use, as the text of a script (see flow.ts). */
export const sampleProgram: string = [
  placeCrop,
  halfToEven,
  resizeWhole,
  resample,
  triangle,
  greyOf,
  flowByte,
  normaliser,
].join("\n");
