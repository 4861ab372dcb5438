/**
 * From cached bytes to a row of a batch: crop, mirror, colour jitter, and the numbers that a network wants.
 *
 * In: a window of a clip (picture and flow, resized but whole) and a row's plan. Out: the row's numbers in each input, in
 * place. All inputs of a row have the same crop and the same mirror; a mirrored picture has the x of its flow negated
 * (byte v becomes 255 - v, as in augment.ts). Jitter is for the picture only. `createFiller` runs in worker threads as
 * text (see ../flow.ts).
 */
import type { Preprocess } from "../../../compiler/program.ts";
import type { normaliser } from "../sample.ts";
import type { WindowBytes } from "./cache.ts";

/** One of torchvision's ColorJitter: factors, and the order in which they are applied. */
export interface Jitter {
  readonly brightness: number;
  readonly contrast: number;
  readonly saturation: number;
  readonly order: readonly ("brightness" | "contrast" | "saturation")[];
}

/** What a row of a batch shows. */
export interface RowPlan {
  /** Number of the clip among the loader's. */
  readonly clip: number;
  /** Number of the window's first frame in the clip. */
  readonly start: number;
  /** Corner of the crop in the resized picture, and whether it is mirrored from left to right. */
  readonly left: number;
  readonly top: number;
  readonly mirrored: boolean;
  readonly jitter?: Jitter;
}

/** An input of the network: its rows have `planes` planes of the crop's size. */
export interface PortSpec {
  readonly name: string;
  readonly preprocess: Preprocess;
  readonly planes: number;
}

/** Fills row `row` of the inputs' buffers; `plan` undefined for a row of padding, which is zeros. */
export type FillRow = (
  buffers: readonly Float32Array[],
  row: number,
  plan: RowPlan | undefined,
  bytes: WindowBytes | undefined,
  pictureWidth: number,
  pictureHeight: number,
) => void;

/** Prepares the tables of bytes to numbers for the inputs, all of one crop size, and windows of `fields` flow fields. */
export function createFiller(
  kit: { readonly normaliser: typeof normaliser },
  ports: readonly PortSpec[],
  fields: number,
): FillRow {
  const tables = ports.map(({ preprocess, planes }) =>
    Array.from({ length: planes }, (_, channel) => {
      const normalise = kit.normaliser(preprocess, channel);
      return Float32Array.from({ length: 256 }, (_, byte) => normalise(byte));
    }),
  );
  const [width = 0, height = 0] = ports[0]?.preprocess.size ?? [];
  const plane = width * height;

  /** The factors on packed RGB, as torchvision has them: blends with black, with the mean grey, and with its own grey. */
  const jittered = (rgb: Float32Array, { order, ...factors }: Jitter): void => {
    for (const kind of order) {
      const factor = factors[kind];
      let mean = 0;
      if (kind === "contrast") {
        for (let i = 0; i < plane; i++)
          mean += 0.2989 * (rgb[3 * i] ?? 0) + 0.587 * (rgb[3 * i + 1] ?? 0) + 0.114 * (rgb[3 * i + 2] ?? 0);
        mean /= plane;
      }
      for (let i = 0; i < plane; i++) {
        const at = 3 * i;
        const other =
          kind === "saturation"
            ? 0.2989 * (rgb[at] ?? 0) + 0.587 * (rgb[at + 1] ?? 0) + 0.114 * (rgb[at + 2] ?? 0)
            : mean;
        for (let c = at; c < at + 3; c++)
          rgb[c] = Math.min(255, Math.max(0, factor * (rgb[c] ?? 0) + (1 - factor) * other));
      }
    }
  };

  const fillPicture = (
    into: Float32Array,
    table: readonly Float32Array[],
    preprocess: Preprocess,
    plan: RowPlan,
    rgb: Uint8Array,
    stride: number,
  ): void => {
    const { left, top, mirrored, jitter } = plan;
    const step = mirrored ? -3 : 3;
    if (jitter === undefined) {
      for (const [c, numbers] of table.entries())
        for (let y = 0; y < height; y++) {
          let from = ((top + y) * stride + left + (mirrored ? width - 1 : 0)) * 3 + c;
          const to = c * plane + y * width;
          for (let x = 0; x < width; x++) {
            into[to + x] = numbers[rgb[from] ?? 0] ?? 0;
            from += step;
          }
        }
      return;
    }
    const crop = new Float32Array(plane * 3);
    for (let y = 0; y < height; y++) {
      let from = ((top + y) * stride + left + (mirrored ? width - 1 : 0)) * 3;
      for (let x = 0; x < width; x++) {
        for (let c = 0; c < 3; c++) crop[(y * width + x) * 3 + c] = rgb[from + c] ?? 0;
        from += step;
      }
    }
    jittered(crop, jitter);
    for (let c = 0; c < 3; c++) {
      const normalise = kit.normaliser(preprocess, c);
      for (let i = 0; i < plane; i++) into[c * plane + i] = normalise(crop[3 * i + c] ?? 0);
    }
  };

  const fillFlow = (
    into: Float32Array,
    table: readonly Float32Array[],
    { left, top, mirrored }: RowPlan,
    flow: Uint8Array,
    stride: number,
    picture: number,
  ): void => {
    // An input with fewer fields than the window has takes those around the middle.
    const skip = Math.floor((fields - table.length / 2) / 2);
    const step = mirrored ? -1 : 1;
    for (const [channel, numbers] of table.entries()) {
      const start = (2 * skip + channel) * picture;
      const flip = mirrored && channel % 2 === 0 ? 255 : 0;
      for (let y = 0; y < height; y++) {
        let from = start + (top + y) * stride + left + (mirrored ? width - 1 : 0);
        const to = channel * plane + y * width;
        for (let x = 0; x < width; x++) {
          into[to + x] = numbers[(flow[from] ?? 0) ^ flip] ?? 0;
          from += step;
        }
      }
    }
  };

  return (buffers, row, plan, bytes, pictureWidth, pictureHeight) => {
    for (const [p, { preprocess, planes }] of ports.entries()) {
      const into = buffers[p]?.subarray(row * planes * plane, (row + 1) * planes * plane);
      const table = tables[p];
      if (into === undefined || table === undefined) throw new Error("internal: a batch without a buffer for an input");
      if (plan === undefined || bytes === undefined) into.fill(0);
      else if (preprocess.source === "rgb") fillPicture(into, table, preprocess, plan, bytes.rgb, pictureWidth);
      else fillFlow(into, table, plan, bytes.flow, pictureWidth, pictureWidth * pictureHeight);
    }
  };
}
