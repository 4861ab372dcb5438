/**
 * What a stream sees, as a picture: its numbers turned back into a frame, or into motion as colours.
 *
 * In: one sample of an input, as the network gets it, and how it was made from a clip. Out: PNGs, the one for people and
 * a grey one that attention is drawn on.
 */
import type { Preprocess } from "../../../compiler/program.ts";
import { flowColour, heat, INFERNO } from "./colours.ts";
import { encodePng, type Picture } from "./png.ts";

interface StreamPicture {
  /** Base64. */
  readonly png: string;
  readonly base: string;
  readonly speed: number | undefined;
}

/** Pictures larger than this are drawn smaller: a page shows them at about this size. */
const MOST = 160;

/** Slower motion than this, in pixels a frame, is not blown up to full colour: it is mostly the rounding of the flow. */
const LEAST_SPEED = 1;

function base64(picture: Picture): string {
  return Buffer.from(encodePng(picture)).toString("base64");
}

/** Draws one sample [C, H, W] of an input. */
export function drawStream(tensor: Float32Array, preprocess: Preprocess): StreamPicture {
  const [width, height] = preprocess.size;
  const planes = tensor.length / (width * height);
  const plane = (channel: number): Float32Array => {
    const mean = preprocess.mean[channel % preprocess.mean.length] ?? 0;
    const std = preprocess.std[channel % preprocess.std.length] ?? 1;
    const part = tensor.subarray(channel * width * height, (channel + 1) * width * height);
    return shrink(
      part.map((value) => 255 * (value * std + mean)),
      width,
      height,
    );
  };
  const [wide, high] = [sizeOf(width, width, height), sizeOf(height, width, height)];
  const pixels = (channels: 1 | 3, at: (i: number, channel: number) => number): Picture => ({
    width: wide,
    height: high,
    channels,
    bytes: Uint8Array.from({ length: wide * high * channels }, (_, i) =>
      Math.min(255, Math.max(0, Math.round(at(Math.floor(i / channels), i % channels)))),
    ),
  });
  if (preprocess.source === "rgb") {
    const colours = [0, 1, 2].map(plane);
    const value = (i: number, channel: number): number => colours[channel]?.[i] ?? 0;
    const grey = (i: number): number => 0.299 * value(i, 0) + 0.587 * value(i, 1) + 0.114 * value(i, 2);
    return { png: base64(pixels(3, value)), base: base64(pixels(1, grey)), speed: undefined };
  }
  // The field that leaves the frame shown: of 2L planes x1, y1, … the one in the middle.
  const field = 2 * Math.floor(planes / 4);
  const bound = preprocess.bound ?? 20;
  // Flow comes rounded to bytes, and rest lies between 127 and 128: half a level is none.
  const level = (2 * bound) / 255;
  const displacement = (bytes: Float32Array): Float32Array =>
    bytes.map((byte) => Math.sign(byte - 127.5) * level * Math.max(0, Math.abs(byte - 127.5) - 0.5));
  const [x, y] = [displacement(plane(field)), displacement(plane(field + 1))];
  const speeds = x.map((value, i) => Math.hypot(value, y[i] ?? 0));
  const speed = Math.max(LEAST_SPEED, [...speeds].sort((a, b) => a - b)[Math.floor(0.99 * (speeds.length - 1))] ?? 0);
  return {
    png: base64(pixels(3, (i, channel) => flowColour(x[i] ?? 0, y[i] ?? 0, speed)[channel] ?? 0)),
    base: base64(pixels(1, (i) => 24 + (206 * (speeds[i] ?? 0)) / speed)),
    speed: Number(speed.toPrecision(2)),
  };
}

/** A side in pixels where the longer of the two becomes `MOST`. */
function sizeOf(side: number, width: number, height: number): number {
  return Math.max(1, Math.round(side * Math.min(1, MOST / Math.max(width, height))));
}

/** A plane at the size at which it is drawn: means of what falls on a pixel. */
function shrink(plane: Float32Array, width: number, height: number): Float32Array {
  const [wide, high] = [sizeOf(width, width, height), sizeOf(height, width, height)];
  if (wide === width) return plane;
  const out = new Float32Array(wide * high);
  for (let y = 0; y < high; y++)
    for (let x = 0; x < wide; x++) {
      const [top, left] = [Math.floor((y * height) / high), Math.floor((x * width) / wide)];
      const bottom = Math.max(top + 1, Math.floor(((y + 1) * height) / high));
      const right = Math.max(left + 1, Math.floor(((x + 1) * width) / wide));
      let sum = 0;
      for (let j = top; j < bottom; j++) for (let i = left; i < right; i++) sum += plane[j * width + i] ?? 0;
      out[y * wide + x] = sum / ((bottom - top) * (right - left));
    }
  return out;
}

const LEVELS = 128;
const PALETTE = Array.from({ length: LEVELS }, (_, level) => heat(INFERNO, level / (LEVELS - 1)));

/** Attention as a picture that covers another: `values` from 0 to 1, `side` × `side`, in inferno with its opacity. */
export function drawHeat(values: Float32Array, side: number): Uint8Array {
  const bytes = Uint8Array.from(values, (value) => Math.round(Math.min(1, Math.max(0, value)) * (LEVELS - 1)));
  return encodePng({ width: side, height: side, channels: 1, bytes, palette: PALETTE });
}

/** The wheel of motion, as its legend: `side` × `side`. */
export function drawWheel(side: number): Uint8Array {
  const centre = (side - 1) / 2;
  return encodePng({
    width: side,
    height: side,
    channels: 3,
    bytes: Uint8Array.from({ length: side * side * 3 }, (_, i) => {
      const pixel = Math.floor(i / 3);
      const [x, y] = [(pixel % side) - centre, Math.floor(pixel / side) - centre];
      return flowColour(x, y, centre)[i % 3] ?? 255;
    }),
  });
}
