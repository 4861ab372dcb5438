/** Resizing, cropping and normalising, against values worked out by hand. */
import { describe, expect, test } from "vitest";
import type { Preprocess } from "../../compiler/program.ts";
import {
  flowByte,
  greyOf,
  placeCrop,
  resizeAndCrop,
  writeFlow,
  writeFlowBytes,
  writeRgb,
} from "../../runtime/data/sample.ts";

const rgb: Preprocess = { source: "rgb", size: [224, 224], mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
const flow: Preprocess = { source: "flow", size: [2, 1], mean: [0.5], std: [0.226], bound: 20, fields: 2 };

/** A grey frame from rows of values. */
const frame = (rows: readonly (readonly number[])[]) => ({
  width: rows[0]?.length ?? 0,
  height: rows.length,
  rgb: Uint8Array.from(rows.flat().flatMap((v) => [v, v, v])),
  pts: 0,
});
const greys = (bytes: Uint8Array): number[] => [...bytes].filter((_, i) => i % 3 === 0);

describe("placing the crop, as torchvision's Resize and CenterCrop", () => {
  test.each([
    // [frame, resize] -> resized size, corner; 320x240 to 256: int(256·320/240) = 341, round(117/2) = 58 (ties to even)
    [320, 240, 256, { width: 341, height: 256, left: 58, top: 16 }],
    [240, 320, 256, { width: 256, height: 341, left: 16, top: 58 }],
    [720, 576, 256, { width: 320, height: 256, left: 48, top: 16 }],
    [256, 256, 256, { width: 256, height: 256, left: 16, top: 16 }],
    [640, 480, undefined, { width: 298, height: 224, left: 37, top: 0 }],
    [100, 80, 200, { width: 280, height: 224, left: 28, top: 0 }],
  ])("%i x %i, shorter side to %s", (width, height, resize, expected) => {
    expect(placeCrop({ width, height }, resize === undefined ? rgb : { ...rgb, resize })).toEqual(expected);
  });
});

describe("resizing", () => {
  const to = (width: number, height: number): Preprocess => ({ ...rgb, size: [width, height] });
  test("a frame of the right size is left as it is", () => {
    const picture = frame([
      [1, 2, 3],
      [200, 100, 0],
      [255, 7, 9],
    ]);
    expect(resizeAndCrop(picture, to(3, 3))).toEqual(picture.rgb);
  });
  test("halving weighs three pixels 3:3:1, for the triangle is two pixels wide", () => {
    const row = [0, 70, 140, 210];
    expect(greys(resizeAndCrop(frame([row, row, row, row]), to(2, 2)))).toEqual([50, 160, 50, 160]);
  });
  test("doubling interpolates between pixel centres", () => {
    const row = [0, 100];
    expect(greys(resizeAndCrop(frame([row, row]), to(4, 4))).slice(0, 4)).toEqual([0, 25, 75, 100]);
  });
  test("a fine checkerboard becomes grey instead of aliasing", () => {
    const board = Array.from({ length: 64 }, (_, y) => Array.from({ length: 64 }, (_, x) => ((x + y) % 2) * 255));
    const out = greys(resizeAndCrop(frame(board), to(9, 9)));
    expect(Math.min(...out)).toBeGreaterThanOrEqual(120);
    expect(Math.max(...out)).toBeLessThanOrEqual(135);
  });
  test("a crop equals the same part of the whole resized picture", () => {
    const picture = frame(
      Array.from({ length: 30 }, (_, y) => Array.from({ length: 50 }, (_, x) => (x * 37 + y * 91) % 256)),
    );
    const whole = resizeAndCrop(picture, { ...rgb, size: [25, 15] });
    const part = resizeAndCrop(picture, { ...rgb, size: [11, 9], resize: 15 });
    const expected = Array.from({ length: 9 }, (_, y) =>
      Array.from(whole.subarray(((y + 3) * 25 + 7) * 3, ((y + 3) * 25 + 18) * 3)),
    ).flat();
    expect([...part]).toEqual(expected);
  });
  test("colours stay in their channels", () => {
    const picture = {
      width: 2,
      height: 2,
      rgb: Uint8Array.from([9, 80, 200, 9, 80, 200, 9, 80, 200, 9, 80, 200]),
      pts: 0,
    };
    expect([...resizeAndCrop(picture, to(1, 1))]).toEqual([9, 80, 200]);
  });
});

test("RGB becomes planes of (v/255 - mean) / std", () => {
  const into = new Float32Array(6);
  writeRgb(Uint8Array.from([0, 128, 255, 255, 0, 51]), rgb, into);
  const expected = [
    -0.485 / 0.229,
    0.515 / 0.229,
    (128 / 255 - 0.456) / 0.224,
    -0.456 / 0.224,
    0.594 / 0.225,
    -0.206 / 0.225,
  ];
  for (const [i, value] of expected.entries()) expect(into[i]).toBeCloseTo(value, 5);
});

test("grey is BT.601 luma", () => {
  expect(
    greyOf(Uint8Array.from([255, 255, 255, 100, 0, 0, 0, 100, 0, 0, 0, 100])).map((v) => Math.round(v * 10)),
  ).toEqual(Float32Array.from([2550, 299, 587, 114]));
});

describe("flow", () => {
  test("is clipped to the bound and rounded to a byte", () => {
    expect([-30, -20, 0, 0.07, 0.08, 19.9, 20, 99].map(flowByte(flow))).toEqual([0, 0, 128, 128, 128, 254, 255, 255]);
    expect([-1, 1].map(flowByte(flow))).toEqual([121, 134]);
  });
  test("keeps its fraction where it is not quantised", () => {
    expect([-30, 0, 1].map(flowByte({ ...flow, quantise: "none" }))).toEqual([0, 127.5, 133.875]);
  });
  test("is stacked x1, y1, x2, y2 and normalised by 0.5 and 0.226", () => {
    const into = new Float32Array(8);
    const fields = [
      { x: Float32Array.of(-20, 0), y: Float32Array.of(20, 20) },
      { x: Float32Array.of(4, 4), y: Float32Array.of(-4, -4) },
    ];
    writeFlow(fields, flow, into);
    const expected = [0, 128, 255, 255, 153, 153, 102, 102].map((v) => (v / 255 - 0.5) / 0.226);
    for (const [i, value] of expected.entries()) expect(into[i]).toBeCloseTo(value, 5);
    const stored = new Float32Array(8);
    writeFlowBytes(
      [
        [0, 128],
        [255, 255],
        [153, 153],
        [102, 102],
      ].map((v) => Uint8Array.from(v)),
      flow,
      stored,
    );
    expect(stored).toEqual(into);
  });
});
