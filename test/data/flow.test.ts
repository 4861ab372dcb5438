/** TV-L1 flow against motion that is known exactly. */
import { describe, expect, test } from "vitest";
import { type Flow, flowDefaults, flowOfFrames, tvl1 } from "../../runtime/data/flow.ts";
import { discMotion, endpointError, type KnownMotion, smoothMotion } from "./warp.ts";

const size = 224;
const flowOf = (motion: KnownMotion): Flow => tvl1(motion.from, motion.to, size, size, flowDefaults);

describe("mean endpoint error in pixels, 224 x 224, camera noise of 1.5 grey levels", () => {
  test("smooth motion of 2 to 4 pixels", () => {
    expect(endpointError(smoothMotion(size, 2, 1.5), flowOf(smoothMotion(size, 2, 1.5)))).toBeLessThan(0.06);
  });
  test("a disc over a background that moves another way", () => {
    const motion = discMotion(size, [3, -1.5], [-1.2, 0.8], 1.5);
    expect(endpointError(motion, flowOf(motion))).toBeLessThan(0.1);
  });
  test("fast motion, up to 12 pixels", () => {
    const motion = smoothMotion(size, 6, 1.5);
    expect(endpointError(motion, flowOf(motion))).toBeLessThan(0.15);
  });
  test("no motion but noise", () => {
    const motion = smoothMotion(size, 0, 1.5);
    expect(endpointError(motion, flowOf(motion))).toBeLessThan(0.03);
  });
});

test("x points right and y points down, from the first frame to the second", () => {
  const motion = discMotion(size, [2, 0], [2, 0], 0);
  const flow = flowOf(motion);
  const centre = (size / 2) * size + size / 2;
  expect(flow.x[centre]).toBeCloseTo(2, 1);
  expect(flow.y[centre]).toBeCloseTo(0, 1);
});

test.each([
  [33, 17],
  [1, 9],
  [2, 2],
  [5, 64],
])("a frame of %i x %i, without texture, does not move", (width, height) => {
  const grey = new Float32Array(width * height).fill(90);
  const flow = tvl1(grey, grey, width, height, flowDefaults);
  expect([...flow.x, ...flow.y].every((v) => v === 0)).toBe(true);
  expect(flow.x.length).toBe(width * height);
});

test("the flow of a sequence is that of its pairs, on any number of threads", async () => {
  const [w, h] = [48, 40];
  const frame = (t: number): Float32Array =>
    Float32Array.from({ length: w * h }, (_, i) => {
      const [x, y] = [(i % w) - t, Math.floor(i / w) - 0.5 * t];
      return 128 + 60 * Math.sin(x / 4) * Math.cos(y / 5) + 30 * Math.sin(x / 7 + y / 3);
    });
  const frames = [0, 1, 2, 3, 4].map(frame);
  const alone = frames.slice(1).map((to, i) => tvl1(frames[i] ?? to, to, w, h, flowDefaults));
  const seen: number[] = [];
  const one = await flowOfFrames(frames, w, h, flowDefaults, (done) => seen.push(done), 1);
  const three = await flowOfFrames(frames, w, h, flowDefaults, undefined, 3);
  expect(one).toEqual(alone);
  expect(three).toEqual(alone);
  expect(seen).toEqual([1, 2, 3, 4]);
});
