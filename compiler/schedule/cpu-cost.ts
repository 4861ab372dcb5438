/**
 * What the forms of a convolution are expected to cost on the CPU: closed formulas, fitted to timings of their kernels.
 *
 * Fitted on 18 sizes from 8 channels of 8×8 to 512 of 28×28 and 64 of 224×224, one core of an AMD EPYC with relaxed SIMD: within
 * 15 % but for the smallest, and always with the fastest form in front (specs/performance.md). Other machines share the
 * proportions rather than the numbers, and only proportions decide.
 */
import type { ConvolutionForm, ConvolutionSite } from "../graph/convolution.ts";

/** Multiply-adds of the microkernel in a millisecond. */
const MACS = 25e6;
/** Milliseconds for each element that is copied for a product, or stored by it. */
const COPIED = 0.15e-6;
/** For each element of a transform: within the caches, and beyond them from so many bytes on. */
const TRANSFORMED = { near: 0.35e-6, far: 0.85e-6, from: 2.5e6 } as const;
/** Bytes of weights that come from memory in a millisecond. */
const STREAMED = 10e6;
/** What two more steps of a program cost. */
const STEPS = 0.04;
/** Rows of the microkernel. */
const ROWS = 4;

/** Expected milliseconds on one core; with `trained` weights, which are prepared in every pass and not once. */
export function convolutionMs(
  { makes, images, channels, filters, size }: ConvolutionSite,
  form: ConvolutionForm,
  { trained }: { readonly trained: boolean },
): number {
  if (makes === "weights") return weightGradientMs({ images, channels, filters, size }, form);
  if (form === "direct") {
    const packed = trained ? COPIED * 9 * channels * filters : 0;
    return packed + productMs({ planes: 1, rows: images * size[0] * size[1], depth: 9 * channels, columns: filters });
  }
  const tile = form === "winograd 2" ? 2 : 4;
  const planes = (tile + 2) ** 2;
  const rows = images * Math.ceil(size[0] / tile) * Math.ceil(size[1] / tile);
  const transforms = transformMs(planes * rows * channels) + transformMs(planes * rows * filters);
  const weights = trained ? transformMs(planes * channels * filters) : 0;
  return productMs({ planes, rows, depth: channels, columns: filters }) + transforms + weights + STEPS;
}

/** The gradient by the weights: sums over the image or its tiles, and nothing that is there before the pass. */
function weightGradientMs(
  { images, channels, filters, size }: Pick<ConvolutionSite, "images" | "channels" | "filters" | "size">,
  form: ConvolutionForm,
): number {
  if (form === "direct") {
    return productMs({ planes: 1, rows: 9 * channels, depth: images * size[0] * size[1], columns: filters });
  }
  const tile = form === "winograd 2" ? 2 : 4;
  const planes = (tile + 2) ** 2;
  const tiles = images * Math.ceil(size[0] / tile) * Math.ceil(size[1] / tile);
  const transforms = transformMs(planes * tiles * channels) + transformMs(planes * tiles * filters);
  const back = transformMs(planes * channels * filters);
  return productMs({ planes, rows: channels, depth: tiles, columns: filters }) + transforms + back + 2 * STEPS;
}

interface Product {
  readonly planes: number;
  readonly rows: number;
  readonly depth: number;
  readonly columns: number;
}

function productMs({ planes, rows, depth, columns }: Product): number {
  const padded = Math.ceil(rows / ROWS) * ROWS;
  const weights = 4 * planes * depth * columns;
  return (planes * padded * depth * columns) / MACS + COPIED * planes * rows * (depth + columns) + weights / STREAMED;
}

function transformMs(elements: number): number {
  return elements * (4 * elements < TRANSFORMED.from ? TRANSFORMED.near : TRANSFORMED.far);
}
