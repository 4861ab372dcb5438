/**
 * What the forms of a convolution are expected to cost on the CPU: closed formulas, fitted to timings of their kernels.
 *
 * Fitted on 18 sizes from 8 channels of 8×8 to 512 of 28×28 and 64 of 224×224, one core of an AMD EPYC with relaxed SIMD: within
 * 15 % but for the smallest, and always with the fastest form in front (specs/performance.md). Other machines share the
 * proportions rather than the numbers, and only proportions decide.
 */
import { type ConvolutionForm, type ConvolutionPass, type ConvolutionSite, tilesOf } from "../graph/convolution.ts";

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
  site: ConvolutionSite,
  pass: ConvolutionPass,
  form: ConvolutionForm,
  { trained }: { readonly trained: boolean },
): number {
  const { images, channels, filters, size } = site;
  const places = images * size[0] * size[1];
  if (form === "direct") {
    // The gradient by the weights sums over the places, and nothing is there before the pass.
    if (pass === "by weights") return productMs({ planes: 1, rows: 9 * channels, depth: places, columns: filters });
    const packed = trained ? COPIED * 9 * channels * filters : 0;
    return packed + productMs({ planes: 1, rows: places, depth: 9 * channels, columns: filters });
  }
  const { planes, tiles } = tilesOf(site, form);
  const transforms = transformMs(planes * tiles * channels) + transformMs(planes * tiles * filters);
  const weights = trained ? transformMs(planes * channels * filters) : 0;
  const product =
    pass === "by weights"
      ? productMs({ planes, rows: channels, depth: tiles, columns: filters }) + STEPS
      : productMs({ planes, rows: tiles, depth: channels, columns: filters });
  return product + transforms + weights + STEPS;
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
