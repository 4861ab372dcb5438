/** Random views: picture and motion keep together, and a mirrored clip has the mirrored motion. */
import { expect, test } from "vitest";
import { drawView, type View, viewFlow, viewFlowBytes, viewRgb } from "../../runtime/data/augment.ts";
import { type Flow, flowDefaults, tvl1 } from "../../runtime/data/flow.ts";
import { randomOf } from "../../runtime/data/random.ts";
import { greyOf } from "../../runtime/data/sample.ts";
import { clipsOf } from "../../runtime/data/synthetic/set.ts";
import { endpointError, smoothMotion } from "../data/warp.ts";

const whole = (size: number): View => ({ left: 0, top: 0, width: size, height: size, mirrored: true });
const greyRgb = (grey: Float32Array): Uint8Array =>
  Uint8Array.from({ length: grey.length * 3 }, (_, i) => grey[Math.floor(i / 3)] ?? 0);
const meanError = (a: Flow, b: Flow): number =>
  a.x.reduce((sum, x, i) => sum + Math.hypot(x - (b.x[i] ?? 0), (a.y[i] ?? 0) - (b.y[i] ?? 0)), 0) / a.x.length;

test("the flow of a mirrored pair is the mirrored flow of the pair", () => {
  const size = 128;
  const motion = smoothMotion(size, 3, 1);
  const view = whole(size);
  const mirror = (grey: Float32Array): Float32Array => greyOf(viewRgb(greyRgb(grey), size, view));
  const flow = tvl1(motion.from, motion.to, size, size, flowDefaults);
  const ofMirrored = tvl1(mirror(motion.from), mirror(motion.to), size, size, flowDefaults);
  const mirrored = viewFlow(flow, size, view);
  // TV-L1 itself is not symmetric (its differences look one way): what it errs by is the measure.
  expect(endpointError(motion, flow)).toBeLessThan(0.2);
  expect(meanError(ofMirrored, mirrored)).toBeLessThan(0.2);
  // With the sign forgotten, the two are motions of some six pixels apart.
  expect(meanError(ofMirrored, { x: mirrored.x.map((x) => -x), y: mirrored.y })).toBeGreaterThan(3);
});

test("the flow of a mirrored drawn face is the mirrored flow", () => {
  const size = 96;
  const [clip] = clipsOf({
    layout: "pain",
    subjects: 1,
    clips: 1,
    frames: 12,
    width: size,
    height: size,
    seed: 5,
    format: "avi",
  }).slice(1);
  const frames = [...(clip?.frames() ?? [])].slice(5, 7);
  const [from, to] = frames.map(greyOf);
  const [mirroredFrom, mirroredTo] = frames.map((rgb) => greyOf(viewRgb(rgb, size, whole(size))));
  if (!from || !to || !mirroredFrom || !mirroredTo) throw new Error("no frames");
  const flow = tvl1(from, to, size, size, flowDefaults);
  const mirrored = tvl1(mirroredFrom, mirroredTo, size, size, flowDefaults);
  expect(meanError(flow, { x: new Float32Array(size * size), y: new Float32Array(size * size) })).toBeGreaterThan(0.2);
  expect(meanError(mirrored, viewFlow(flow, size, whole(size)))).toBeLessThan(0.1);
});

test("a view cuts picture, flow and stored flow at the same place", () => {
  const [width, height] = [11, 9];
  const number = (i: number): number => i % 251;
  const rgb = Uint8Array.from({ length: width * height * 3 }, (_, i) => number(Math.floor(i / 3)));
  const plane = Uint8Array.from({ length: width * height }, (_, i) => number(i));
  const flow = { x: Float32Array.from(plane), y: Float32Array.from(plane) };
  for (let seed = 0; seed < 20; seed++) {
    const view = drawView(randomOf(seed, "view"), [width, height], [6, 5]);
    const picture = viewRgb(rgb, width, view);
    const motion = viewFlow(flow, width, view);
    const [x, y] = viewFlowBytes([plane, plane], width, view);
    const first = picture[0] ?? -1;
    expect(first).toBe(number(view.top * width + view.left + (view.mirrored ? 5 : 0)));
    for (let i = 0; i < 30; i++) {
      const value = picture[3 * i] ?? -1;
      expect(motion.x[i]).toBe(view.mirrored ? -value : value);
      expect(motion.y[i]).toBe(value);
      expect(x?.[i]).toBe(view.mirrored ? 255 - value : value);
      expect(y?.[i]).toBe(value);
    }
  }
});

test("views reach every place and both hands", () => {
  const random = randomOf(1, "places");
  const views = Array.from({ length: 400 }, () => drawView(random, [8, 6], [6, 5]));
  expect(new Set(views.map(({ left, top, mirrored }) => `${left} ${top} ${mirrored}`)).size).toBe(3 * 2 * 2);
});
