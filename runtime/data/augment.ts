/**
 * Random views of a sample for training: the same crop and the same mirror for its picture and its motion.
 *
 * In: packed RGB frames and flow fields of one size, and a `View`. Out: the same, cut and mirrored. A unit that compares
 * positions of the two streams needs them to be the same positions, so there is one `View` for both. A mirror turns
 * motion to the right into motion to the left: the x component changes its sign, the y component does not.
 */
import type { Flow } from "./flow.ts";
import { between, type Random } from "./random.ts";

/** A part of a picture, in pixels, and whether it is mirrored from left to right afterwards. */
export interface View {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
  readonly mirrored: boolean;
}

/**
 * A place for a crop of `crop` in a picture of `size` (both width and height), each place as likely, mirrored with
 * probability `flip`.
 */
export function drawView(
  random: Random,
  size: readonly [number, number],
  crop: readonly [number, number],
  flip: number = 0.5,
): View {
  const [width, height] = crop;
  const room = (whole: number, part: number): number => Math.floor(between(random, 0, whole - part + 1));
  if (width > size[0] || height > size[1]) throw new Error("internal: a crop is larger than its picture");
  return { left: room(size[0], width), top: room(size[1], height), width, height, mirrored: random() < flip };
}

/** Copies a view of `source` (`channels` values a pixel, rows of `stride` pixels) into `into`. */
function cut(
  source: ArrayLike<number>,
  stride: number,
  channels: number,
  { left, top, width, height, mirrored }: View,
  into: Uint8Array | Float32Array,
): void {
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const from = ((top + y) * stride + left + (mirrored ? width - 1 - x : x)) * channels;
      for (let c = 0; c < channels; c++) into[(y * width + x) * channels + c] = source[from + c] ?? 0;
    }
}

/** A view of a packed RGB picture `stride` pixels wide. */
export function viewRgb(rgb: Uint8Array, stride: number, view: View): Uint8Array {
  const out = new Uint8Array(view.width * view.height * 3);
  cut(rgb, stride, 3, view, out);
  return out;
}

/** A view of a flow field in pixels. */
export function viewFlow(flow: Flow, stride: number, view: View): Flow {
  const x = new Float32Array(view.width * view.height);
  const y = new Float32Array(view.width * view.height);
  cut(flow.x, stride, 1, view, x);
  cut(flow.y, stride, 1, view, y);
  if (view.mirrored) for (let i = 0; i < x.length; i++) x[i] = -(x[i] ?? 0);
  return { x, y };
}

/**
 * A view of stored flow, planes x1, y1, x2, y2, … of bytes (255 stands for the bound, 0 for minus the bound).
 * Mirrored, a byte v of an x plane becomes 255 - v. Motion of nothing is rounded to 128 and so becomes 127: half a grey
 * level of bias, 0.08 pixels at a bound of 20, which mirroring the pictures before their flow is computed does not have.
 */
export function viewFlowBytes(planes: readonly Uint8Array[], stride: number, view: View): Uint8Array[] {
  return planes.map((plane, channel) => {
    const out = new Uint8Array(view.width * view.height);
    cut(plane, stride, 1, view, out);
    return view.mirrored && channel % 2 === 0 ? out.map((byte) => 255 - byte) : out;
  });
}
