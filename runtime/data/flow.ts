/**
 * Optical flow: where every pixel of one frame went in the next.
 *
 * In: grey frames, 0..255, as Float32Array. Out: per pair of neighbours the displacement field in pixels, x right and y
 * down. The method is TV-L1 (Zach, Pock and Bischof, "A duality based approach for realtime TV-L1 optical flow", DAGM
 * 2007), which two-stream networks are trained on; parameters carry the names and meanings of OpenCV's DualTVL1. It
 * minimises  lambda · |I1(x + u) - I0(x)| + |grad u|  coarse to fine. At each level I1 is warped by the flow so far and
 * linearised (`warps` times), and the convex problem that is left is solved by alternating a pointwise threshold with
 * steps on the dual of the total variation (`iterations` times). A median filter removes outliers after each warp.
 *
 * Pairs are independent and run in worker threads. A worker's program is the text of the functions below, so that the
 * same code runs compiled and from source (see nodeav.ts); they use nothing but each other and the kernels' bytes.
 */
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { FLOW_KERNELS, FLOW_PLANES } from "./flow-kernel.ts";

export interface FlowOptions {
  /** Step of the dual ascent; stable up to 0.25. */
  readonly tau: number;
  /** Weight of the data term: smaller is smoother. */
  readonly lambda: number;
  /** Tightness of the coupling between the data and the smoothness problem. */
  readonly theta: number;
  /** Levels of the pyramid, each half the size of the one below; fewer where the frame is too small for them. */
  readonly scales: number;
  readonly warps: number;
  readonly iterations: number;
}

/**
 * Chosen by measurement on 224 x 224 pairs with known flow and camera noise (test/data/warp.ts); mean endpoint error in
 * pixels for smooth motion of 2-4 px, for a disc moving over a moving ground, and for smooth motion of up to 12 px, and
 * the time of one pair on one core of a 2026 server:
 *
 *     warps x iterations   smooth   disc   fast     ms
 *     1 x 15                0.043  0.080  0.859     13
 *     2 x 10                0.038  0.066  0.138     22
 *     2 x 15                0.032  0.058  0.055     24
 *     3 x 20                0.031  0.050  0.064     39
 *     5 x 30 (OpenCV's)     0.041  0.045  0.077     76
 *
 * A step of the flow image's bytes is 0.157 px, so nothing beyond 2 x 15 would reach the network.
 */
export const flowDefaults: FlowOptions = { tau: 0.25, lambda: 0.15, theta: 0.3, scales: 5, warps: 2, iterations: 15 };

/** Displacement in pixels, row-major. */
export interface Flow {
  readonly x: Float32Array;
  readonly y: Float32Array;
}

// Under names of this file: a thread's text knows no imports and declares these itself (see tvl1Program).
const flowKernels = FLOW_KERNELS;
const flowPlanes = FLOW_PLANES;

interface Level {
  readonly width: number;
  readonly height: number;
  readonly from: Float32Array;
  readonly to: Float32Array;
}

/** Half the size: every second pixel of the image smoothed by the binomial filter 1 4 6 4 1. */
function shrink(image: Float32Array, width: number, height: number): Float32Array {
  const w = (width + 1) >> 1;
  const h = (height + 1) >> 1;
  const rows = new Float32Array(w * height);
  const tap = (i: number): number => image[i] ?? 0;
  for (let y = 0; y < height; y++)
    for (let x = 0; x < w; x++) {
      const row = y * width;
      const c = 2 * x;
      const l1 = Math.max(0, c - 1);
      const l2 = Math.max(0, c - 2);
      const r1 = Math.min(width - 1, c + 1);
      const r2 = Math.min(width - 1, c + 2);
      rows[y * w + x] = (tap(row + l2) + tap(row + r2) + 4 * (tap(row + l1) + tap(row + r1)) + 6 * tap(row + c)) / 16;
    }
  const out = new Float32Array(w * h);
  const line = (x: number, y: number): number => rows[Math.min(height - 1, Math.max(0, y)) * w + x] ?? 0;
  for (let y = 0; y < h; y++)
    for (let x = 0; x < w; x++) {
      const c = 2 * y;
      out[y * w + x] = (line(x, c - 2) + line(x, c + 2) + 4 * (line(x, c - 1) + line(x, c + 1)) + 6 * line(x, c)) / 16;
    }
  return out;
}

/** A flow component at twice the size (bilinear), its displacements doubled. */
function enlarge(coarse: Float32Array, w: number, h: number, width: number, height: number): Float32Array {
  const out = new Float32Array(width * height);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const x0 = x >> 1;
      const y0 = y >> 1;
      const x1 = (x & 1) === 1 ? Math.min(w - 1, x0 + 1) : x0;
      const y1 = (y & 1) === 1 ? Math.min(h - 1, y0 + 1) : y0;
      const sum =
        (coarse[y0 * w + x0] ?? 0) +
        (coarse[y0 * w + x1] ?? 0) +
        (coarse[y1 * w + x0] ?? 0) +
        (coarse[y1 * w + x1] ?? 0);
      out[y * width + x] = sum / 2;
    }
  return out;
}

/** Replaces every inner pixel by the median of its 3 x 3 neighbourhood. */
function median(image: Float32Array, width: number, height: number): void {
  const source = image.slice();
  const { min, max } = Math;
  for (let y = 1; y < height - 1; y++) {
    // Each column of three is sorted once and serves three pixels. The median of nine is then the median of
    // {the largest of the lows, the median of the middles, the smallest of the highs}.
    let [lo0, mid0, hi0, lo1, mid1, hi1] = [0, 0, 0, 0, 0, 0];
    for (let x = 0; x < width; x++) {
      const i = y * width + x;
      const a = source[i - width] ?? 0;
      const b = source[i] ?? 0;
      const c = source[i + width] ?? 0;
      const small = min(a, b);
      const large = max(a, b);
      const lo2 = min(small, c);
      const hi2 = max(large, c);
      const mid2 = max(small, min(large, c));
      if (x >= 2) {
        const low = max(lo0, lo1, lo2);
        const high = min(hi0, hi1, hi2);
        const middle = max(min(mid0, mid1), min(max(mid0, mid1), mid2));
        image[i - 1] = max(min(low, middle), min(max(low, middle), high));
      }
      lo0 = lo1;
      lo1 = lo2;
      mid0 = mid1;
      mid1 = mid2;
      hi0 = hi1;
      hi1 = hi2;
    }
  }
}

/**
 * Warps `level.to` by the flow and linearises it there: gx, gy are its gradient, and rho + gx·u + gy·v the difference
 * from `level.from`. Where the flow leaves the frame all three are zero, so that only smoothness speaks.
 * The image is interpolated by cubic convolution (Keys, a = -1/2), its gradient from the same 16 pixels.
 */
function linearise(
  level: Level,
  u: Float32Array,
  v: Float32Array,
  gx: Float32Array,
  gy: Float32Array,
  rho: Float32Array,
): void {
  const { width, height, from, to } = level;
  // Of the four rows; those of the four pixels in a row are plain variables.
  const weight = new Float64Array(4);
  const slope = new Float64Array(4);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const i = y * width + x;
      const du = u[i] ?? 0;
      const dv = v[i] ?? 0;
      const px = x + du;
      const py = y + dv;
      if (!(px >= 0 && px <= width - 1 && py >= 0 && py <= height - 1)) {
        gx[i] = 0;
        gy[i] = 0;
        rho[i] = 0;
        continue;
      }
      const ix = Math.min(width - 2, Math.floor(px));
      const iy = Math.min(height - 2, Math.floor(py));
      const fx = px - ix;
      const fy = py - iy;
      // Weights of the four pixels in a row, and their derivatives by position.
      const a0 = fx * (-0.5 + fx * (1 - 0.5 * fx));
      const a1 = 1 + fx * fx * (-2.5 + 1.5 * fx);
      const a2 = fx * (0.5 + fx * (2 - 1.5 * fx));
      const a3 = fx * fx * (-0.5 + 0.5 * fx);
      const d0 = -0.5 + fx * (2 - 1.5 * fx);
      const d1 = fx * (-5 + 4.5 * fx);
      const d2 = 0.5 + fx * (4 - 4.5 * fx);
      const d3 = fx * (-1 + 1.5 * fx);
      weight[0] = fy * (-0.5 + fy * (1 - 0.5 * fy));
      weight[1] = 1 + fy * fy * (-2.5 + 1.5 * fy);
      weight[2] = fy * (0.5 + fy * (2 - 1.5 * fy));
      weight[3] = fy * fy * (-0.5 + 0.5 * fy);
      slope[0] = -0.5 + fy * (2 - 1.5 * fy);
      slope[1] = fy * (-5 + 4.5 * fy);
      slope[2] = 0.5 + fy * (4 - 4.5 * fy);
      slope[3] = fy * (-1 + 1.5 * fy);
      const c0 = Math.max(0, ix - 1);
      const c3 = Math.min(width - 1, ix + 2);
      let value = 0;
      let dx = 0;
      let dy = 0;
      for (let k = 0; k < 4; k++) {
        const row = Math.min(height - 1, Math.max(0, iy + k - 1)) * width;
        const p0 = to[row + c0] ?? 0;
        const p1 = to[row + ix] ?? 0;
        const p2 = to[row + ix + 1] ?? 0;
        const p3 = to[row + c3] ?? 0;
        const along = a0 * p0 + a1 * p1 + a2 * p2 + a3 * p3;
        const b = weight[k] ?? 0;
        value += b * along;
        dx += b * (d0 * p0 + d1 * p1 + d2 * p2 + d3 * p3);
        dy += (slope[k] ?? 0) * along;
      }
      gx[i] = dx;
      gy[i] = dy;
      rho[i] = value - dx * du - dy * dv - (from[i] ?? 0);
    }
}

/** Instances of the kernels of flow-kernel.ts, by number, with their memories. */
const flowRunners: { readonly run: FlowRun; readonly floats: Float32Array }[] = [];

type FlowRun = (
  from: number,
  to: number,
  row: number,
  iterations: number,
  limit: number,
  theta: number,
  step: number,
) => void;

export type Solve = (u: Float32Array, v: Float32Array, gx: Float32Array, gy: Float32Array, rho: Float32Array) => void;

/**
 * The convex problem at one level of the pyramid: `options.iterations` times a threshold on the linearised difference
 * (u, v change in place), then a step of the dual fields, which are zero at first and kept from call to call. The work is
 * done by flow-kernel.ts, in planes with a column of zeros beside the picture and zeros above it.
 */
export function openSolver(width: number, height: number, options: FlowOptions): Solve {
  const stride = (width + 4) & ~3; // floats a row, at least one of them beside the picture
  const guard = stride + 8;
  const which = flowKernels.findIndex(({ pitch }) => (2 * guard + stride * height) * 4 <= pitch);
  const kernel = flowKernels[which];
  if (kernel === undefined)
    throw new Error(`optical flow of ${width}x${height} pixels: at most 4096x4096 are possible`);
  let runner = flowRunners[which];
  if (runner === undefined) {
    const pages = Math.ceil((kernel.pitch * flowPlanes) / 65536);
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(kernel.bytes), { env: { memory } });
    runner = { run: exports["run"] as FlowRun, floats: new Float32Array(memory.buffer) };
    flowRunners[which] = runner;
  }
  const { run, floats } = runner;
  const pitch = kernel.pitch / 4;
  const planeAt = (plane: number): number => plane * pitch + guard;
  for (let plane = 0; plane < flowPlanes; plane++)
    floats.fill(0, plane * pitch, plane * pitch + 2 * guard + stride * height);
  for (let y = 0; y < height; y++) {
    floats.fill(1, planeAt(9) + y * stride, planeAt(9) + y * stride + width - 1);
    if (y + 1 < height) floats.fill(1, planeAt(10) + y * stride, planeAt(10) + y * stride + width);
  }
  const { theta, lambda, tau, iterations } = options;
  return (u, v, gx, gy, rho) => {
    if (iterations < 1) return;
    for (const [plane, values] of [gx, gy, rho, u, v].entries())
      for (let y = 0; y < height; y++)
        floats.set(values.subarray(y * width, (y + 1) * width), planeAt(plane) + y * stride);
    run(guard * 4, (guard + stride * height) * 4, stride * 4, iterations, lambda * theta, theta, tau / theta);
    for (const [plane, values] of [u, v].entries())
      for (let y = 0; y < height; y++) {
        const at = planeAt(plane + 3) + y * stride;
        values.set(floats.subarray(at, at + width), y * width);
      }
  };
}

/**
 * The flow from one grey frame to the next, so that from(x, y) ≈ to(x + flow.x, y + flow.y).
 * Both frames are row-major, `width * height` values of 0..255.
 */
export function tvl1(from: Float32Array, to: Float32Array, width: number, height: number, options: FlowOptions): Flow {
  const levels: Level[] = [{ width, height, from, to }];
  for (let k = 1; k < options.scales; k++) {
    const fine = levels[k - 1];
    if (fine === undefined || Math.min(fine.width, fine.height) < 32) break;
    const { width: w, height: h } = fine;
    levels.push({
      width: (w + 1) >> 1,
      height: (h + 1) >> 1,
      from: shrink(fine.from, w, h),
      to: shrink(fine.to, w, h),
    });
  }
  let u: Float32Array = new Float32Array(0);
  let v: Float32Array = new Float32Array(0);
  let coarser: Level | undefined;
  for (const level of levels.reverse()) {
    const { width: w, height: h } = level;
    const size = w * h;
    u = coarser === undefined ? new Float32Array(size) : enlarge(u, coarser.width, coarser.height, w, h);
    v = coarser === undefined ? new Float32Array(size) : enlarge(v, coarser.width, coarser.height, w, h);
    const field = (): Float32Array => new Float32Array(size);
    const [gx, gy, rho] = [field(), field(), field()];
    const solve = openSolver(w, h, options);
    for (let warp = 0; warp < options.warps; warp++) {
      linearise(level, u, v, gx, gy, rho);
      solve(u, v, gx, gy, rho);
      median(u, w, h);
      median(v, w, h);
    }
    coarser = level;
  }
  return { x: u, y: v };
}

/** `tvl1` and all that it uses, as the text of a script. */
export const tvl1Program: string = `
const flowKernels = [${flowKernels.map(({ pitch, bytes }) => `{ pitch: ${pitch}, bytes: Uint8Array.of(${bytes.join()}) }`).join()}];
const flowPlanes = ${flowPlanes};
const flowRunners = [];
${[shrink, enlarge, median, linearise, openSolver, tvl1].join("\n")}
`;

const program = `
const { parentPort, workerData } = require("node:worker_threads");
${tvl1Program}
const { frames, width, height, options } = workerData;
for (let i = 0; i + 1 < frames.length; i++) {
  const flow = tvl1(frames[i], frames[i + 1], width, height, options);
  parentPort.postMessage({ pair: i, flow }, [flow.x.buffer, flow.y.buffer]);
}
`;

/**
 * The flow of every pair of neighbours among `frames` (grey, 0..255, all of one size), in order, computed by up to
 * `threads` threads. The result does not depend on how many.
 */
export async function flowOfFrames(
  frames: readonly Float32Array[],
  width: number,
  height: number,
  options: FlowOptions,
  onPair?: (done: number, total: number) => void,
  threads: number = availableParallelism(),
): Promise<Flow[]> {
  const pairs = frames.length - 1;
  const flows: Flow[] = [];
  let done = 0;
  const share = Math.ceil(pairs / Math.max(1, Math.min(threads, pairs)));
  const jobs: Promise<void>[] = [];
  for (let first = 0; first < pairs; first += share) {
    const workerData = { frames: frames.slice(first, Math.min(pairs, first + share) + 1), width, height, options };
    jobs.push(
      new Promise((resolve, reject) => {
        const worker = new Worker(program, { eval: true, workerData });
        worker.on("message", (message: { readonly pair: number; readonly flow: Flow }) => {
          flows[first + message.pair] = message.flow;
          onPair?.(++done, pairs);
        });
        worker.on("error", reject);
        worker.on("exit", (code) =>
          code === 0 ? resolve() : reject(new Error(`internal: a flow thread ended with code ${code}`)),
        );
      }),
    );
  }
  await Promise.all(jobs);
  return flows;
}
