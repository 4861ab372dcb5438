/** Decoding: videos whose every frame is known, damaged files, and both decoders. */
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findFfmpeg } from "../../runtime/data/ffmpeg.ts";
import type { ClipFacts, DataError, RgbFrame, Window } from "../../runtime/data/source.ts";
import { type Decoders, readVideo } from "../../runtime/data/video.ts";
import { drawScene, makeVideo } from "../tools/make-video.mjs";

const sample = "examples/clip.mp4";
const folder = mkdtempSync(join(tmpdir(), "netc-video-"));
const at = (name: string): string => join(folder, name);

beforeAll(() => {
  makeVideo(at("plain.avi"), { codec: "mpeg4", frames: 40 });
  makeVideo(at("bframes.avi"), { codec: "mpeg4", frames: 40, maxBFrames: 2 });
  makeVideo(at("clip.webm"), { codec: "libvpx", frames: 40 });
  makeVideo(at("bframes.mp4"), { codec: "mpeg4", frames: 40, maxBFrames: 2 });
  makeVideo(at("five.mp4"), { codec: "mpeg4", frames: 5 });
});
afterAll(() => rmSync(folder, { recursive: true }));

async function read(
  path: string,
  windows: readonly Window[],
  decoders: Decoders = { ffmpeg: false },
): Promise<{ result: ClipFacts | DataError; frames: RgbFrame[][] }> {
  const frames: RgbFrame[][] = windows.map(() => []);
  const result = await readVideo(path, windows, (window, frame) => frames[window]?.push(frame), decoders);
  return { result, frames };
}

const meanDifference = (a: Uint8Array, b: Uint8Array): number =>
  a.reduce((sum, v, i) => sum + Math.abs(v - (b[i] ?? 0)), 0) / a.length;
/** How far a frame is from the scene `late` seconds before its time stamp, in mean grey levels. */
const error = (frame: RgbFrame, late: number = 0): number =>
  meanDifference(frame.rgb, drawScene(frame.pts - late, frame.width, frame.height));

describe("every container gives the frames of its window", () => {
  test.each([
    // AVI keeps no presentation times: with B-frames its clock starts one frame late.
    ["clip.mp4 (H.264)", sample, 50, 0],
    ["plain.avi", "plain.avi", 40, 0],
    ["bframes.avi", "bframes.avi", 40, 0.04],
    ["clip.webm", "clip.webm", 40, 0],
    ["bframes.mp4", "bframes.mp4", 40, 0],
  ])("%s", async (_, name, count, late) => {
    const path = name === sample ? name : at(name);
    const windows = [
      { count: 11, position: 0.5 },
      { count: 4, position: 0 },
      { count: 3, position: 1 },
    ];
    const { result, frames } = await read(path, windows);
    expect(result).toEqual({
      kind: "facts",
      decoder: "node-av",
      frames: count,
      width: 320,
      height: 240,
      warnings: [],
    });
    const starts = [Math.floor((count - 11) / 2), 0, count - 3];
    for (const [w, { count: length }] of windows.entries()) {
      const expected = Array.from({ length }, (_, k) => ((starts[w] ?? 0) + k) / 25 + late);
      expect(frames[w]?.length).toBe(length);
      for (const [k, frame] of (frames[w] ?? []).entries()) expect(frame.pts).toBeCloseTo(expected[k] ?? NaN, 3);
      // The right picture: nearer to its own moment of the scene than to those of two frames before and after.
      const [frame] = frames[w] ?? [];
      if (frame === undefined) continue;
      expect(error(frame, late)).toBeLessThan(4);
      expect(error(frame, late)).toBeLessThan(error(frame, late + 0.08));
      expect(error(frame, late)).toBeLessThan(error(frame, late - 0.08));
    }
  });
});

test("a picture that asks to be turned is turned", async () => {
  const bytes = readFileSync(sample);
  // The track header's matrix, here for 90° clockwise: [0 1 0; -1 0 0; 0 0 1] in 16.16 and 2.30 fixed point.
  const matrix = bytes.indexOf("tkhd") + 4 + 40;
  const values = [0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000];
  for (const [i, value] of values.entries()) bytes.writeInt32BE(value, matrix + 4 * i);
  writeFileSync(at("turned.mp4"), bytes);
  const window = [{ count: 1, position: 0 }];
  const upright = (await read(sample, window)).frames[0]?.[0];
  const { result, frames } = await read(at("turned.mp4"), window);
  expect(result).toMatchObject({ kind: "facts", width: 240, height: 320 });
  const turned = frames[0]?.[0];
  const pixel = (frame: RgbFrame | undefined, x: number, y: number): number[] =>
    [0, 1, 2].map((c) => frame?.rgb[(y * frame.width + x) * 3 + c] ?? NaN);
  for (const [x, y] of [
    [0, 0],
    [160, 130],
    [300, 20],
  ] as const)
    expect(pixel(turned, 239 - y, x)).toEqual(pixel(upright, x, y));
});

describe("damage", () => {
  test("a file cut off after half its frames still serves, with a warning", async () => {
    const bytes = readFileSync(at("plain.avi"));
    writeFileSync(at("cut.avi"), bytes.subarray(0, Math.floor(bytes.length * 0.6)));
    const { result, frames } = await read(at("cut.avi"), [{ count: 5, position: 1 }]);
    expect(result).toMatchObject({
      kind: "facts",
      warnings: expect.arrayContaining([expect.stringMatching(/announces 40 frames and holds \d+/)]),
    });
    expect(frames[0]?.length).toBe(5);
    for (const frame of frames[0] ?? []) expect(error(frame)).toBeLessThan(4);
  });
  test("an .mp4 without its index has no frames", async () => {
    const bytes = readFileSync(sample);
    writeFileSync(at("cut.mp4"), bytes.subarray(0, Math.floor(bytes.length * 0.6)));
    const { result } = await read(at("cut.mp4"), [{ count: 1, position: 0 }]);
    expect(result).toMatchObject({ kind: "corrupt", path: at("cut.mp4") });
  });
  test.each([
    ["clip.mp4", sample, [/^\d+ damaged frames/]],
    ["plain.avi", at("plain.avi"), [/announces 40 frames/, /^\d+ damaged frames?/]],
    ["clip.webm", at("clip.webm"), []], // whose packets around the damage are lost without a word: see jumps in clip.ts
  ])("broken bytes inside %s cost frames, not the clip", async (_, path, warnings) => {
    const bytes = Buffer.from(readFileSync(path));
    bytes.fill(0x5a, Math.floor(bytes.length * 0.3), Math.floor(bytes.length * 0.4));
    const broken = at(`broken-${basename(path)}`);
    writeFileSync(broken, bytes);
    const { result, frames } = await read(broken, [{ count: 11, position: 0.5 }]);
    expect(result).toMatchObject({ kind: "facts", warnings: warnings.map((text) => expect.stringMatching(text)) });
    expect(frames[0]?.length).toBe(11);
    const pts = (frames[0] ?? []).map((frame) => frame.pts);
    expect(pts).toEqual([...pts].sort((a, b) => a - b));
  });
  test.each([
    ["noise", Buffer.from(Array.from({ length: 5000 }, (_, i) => (i * i * 31 + 7 * i) % 251))],
    ["text", Buffer.from("This is a letter, not a video.\n".repeat(20))],
  ])("%s is not a video", async (name, bytes) => {
    writeFileSync(at(`${name}.mp4`), bytes);
    const { result } = await read(at(`${name}.mp4`), [{ count: 1, position: 0 }]);
    expect(result).toMatchObject({ kind: "corrupt", message: expect.stringMatching(/^no frame can be decoded/) });
  });
  test("five frames do not serve ten flow fields", async () => {
    const { result, frames } = await read(at("five.mp4"), [{ count: 11, position: 0.5 }]);
    expect(result).toEqual({
      kind: "short",
      message: "the clip has 5 frames, but 11 are needed for 10 optical-flow fields",
      path: at("five.mp4"),
      help: "use a longer clip, or a model with at most 4 flow fields",
    });
    expect(frames[0]).toEqual([]);
  });
});

test("without a decoder the error names both", async () => {
  const { result } = await read(sample, [{ count: 1, position: 0 }], { nodeAv: false, ffmpeg: "no-such-program" });
  expect(result).toMatchObject({ kind: "no-decoder", message: expect.stringMatching(/node-av.*ffmpeg/) });
});

describe("an ffmpeg program", () => {
  /** A stand-in that prints what ffmpeg prints, for a clip of `n` grey frames of 4 x 2 at 10 a second from 0.5 s on. */
  const standIn = (n: number, version: string): string => {
    const path = at(`ffmpeg-${n}-${version}`);
    const script = `#!${process.execPath}
const args = process.argv.slice(2);
if (args.includes("-version")) console.log("ffmpeg version ${version} Copyright");
else if (args.includes("showinfo")) {
  for (let i = 0; i < ${n}; i++) console.error("[Parsed_showinfo_0 @ 0x1] [info] n:%s pts:%s pts_time:%s pos: 1 fmt:yuv420p sar:0/1 s:4x2 i:P iskey:1", i, i + 5, (i + 5) / 10);
  if (${n} === 0) { console.error("[error] in.mp4: Invalid data found when processing input"); process.exit(1); }
} else {
  const flag = ${JSON.stringify(version)}.startsWith("4") ? "-vsync 0" : "-fps_mode passthrough";
  if (!args.join(" ").includes(flag)) process.exit(1);
  const [, a, b] = /between\\(n,(\\d+),(\\d+)\\)/.exec(args.join(" "));
  for (let i = Number(a); i <= Number(b); i++)
    for (const part of [10, 14]) process.stdout.write(Buffer.alloc(part, i)); // pieces that do not fit the frames
}`;
    writeFileSync(path, script);
    chmodSync(path, 0o755);
    return path;
  };
  test.each(["4.4.2-0ubuntu1", "5.1.9-0+deb12u1", "n8.0", "N-120000-gabcdef"])("version %s", async (version) => {
    const decoders = { nodeAv: false, ffmpeg: standIn(9, version) };
    const { result, frames } = await read(sample, [{ count: 3, position: 0.5 }], decoders);
    expect(result).toEqual({
      kind: "facts",
      decoder: `ffmpeg ${version}`,
      frames: 9,
      width: 4,
      height: 2,
      warnings: [],
    });
    expect(frames[0]?.map((frame) => [frame.pts, frame.rgb[0], frame.rgb[23]])).toEqual([
      [0.8, 3, 3],
      [0.9, 4, 4],
      [1, 5, 5],
    ]);
  });
  test("short and unreadable clips are errors of the same kinds", async () => {
    const window = [{ count: 11, position: 0.5 }];
    const short = await read(sample, window, { nodeAv: false, ffmpeg: standIn(9, "7.0") });
    expect(short.result).toMatchObject({ kind: "short", message: expect.stringContaining("9 frames, but 11") });
    const corrupt = await read(sample, window, { nodeAv: false, ffmpeg: standIn(0, "7.0") });
    expect(corrupt.result).toMatchObject({ kind: "corrupt", message: expect.stringContaining("Invalid data") });
  });
  test("the one on this machine, if any, agrees with node-av", async ({ skip }) => {
    const ffmpeg = process.env["NETC_FFMPEG"] ?? "ffmpeg";
    if ((await findFfmpeg(ffmpeg)) === undefined) skip();
    for (const path of [sample, at("bframes.avi"), at("clip.webm")]) {
      const windows = [
        { count: 5, position: 0.5 },
        { count: 2, position: 1 },
      ];
      const ours = await read(path, windows);
      const theirs = await read(path, windows, { nodeAv: false, ffmpeg });
      expect(theirs.result).toMatchObject({
        kind: "facts",
        frames: "frames" in ours.result ? ours.result.frames : NaN,
      });
      const [a, b] = [ours.frames.flat(), theirs.frames.flat()];
      expect(b.map((frame) => frame.pts)).toEqual(a.map((frame) => frame.pts));
      for (const [i, frame] of a.entries()) expect(meanDifference(frame.rgb, b[i]?.rgb ?? frame.rgb)).toBeLessThan(0.5);
    }
  });
});
