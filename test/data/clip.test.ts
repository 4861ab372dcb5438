/** Whole clips: a video or a folder of images in, the tensors of a two-stream model out. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ProgramInput } from "../../compiler/program.ts";
import { type Clip, loadClip } from "../../runtime/data/clip.ts";
import type { DataError } from "../../runtime/data/source.ts";
import { drawScene, makeVideo } from "../tools/make-video.mjs";

const sample = "examples/clip.mp4";
const folder = mkdtempSync(join(tmpdir(), "netc-clip-"));
const at = (name: string): string => join(folder, name);
afterAll(() => rmSync(folder, { recursive: true }));

const mean = [0.485, 0.456, 0.406];
const std = [0.229, 0.224, 0.225];

function rgbInput(size: number, batch: number = 1): ProgramInput {
  return {
    name: "rgb",
    shape: [batch, 3, size, size],
    dtype: "f32",
    allocation: 0,
    preprocess: { source: "rgb", size: [size, size], mean, std },
  };
}

function flowInput(size: number, fields: number, batch: number = 1): ProgramInput {
  return {
    name: "flow",
    shape: [batch, 2 * fields, size, size],
    dtype: "f32",
    allocation: 1,
    preprocess: { source: "flow", size: [size, size], mean: [0.5], std: [0.226], bound: 20, fields },
  };
}

function clipOf(result: Clip | DataError): Clip {
  if (result.kind !== "clip") throw new Error(`${result.kind}: ${result.message}`);
  return result;
}
const tensorOf = (clip: Clip, name: string): Float32Array => clip.tensors.get(name) ?? new Float32Array(0);
/** Displacement in pixels from a normalised flow value. */
const pixels = (value: number | undefined): number => ((value ?? NaN) * 0.226 * 255 + 127.5) * (40 / 255) - 20;

describe("a video", () => {
  test("gives an RGB frame and ten flow fields", async () => {
    const stages: string[] = [];
    const result = await loadClip(sample, [rgbInput(112), flowInput(112, 10)], (stage, done, total) =>
      stages.push(`${stage} ${done}/${total}`),
    );
    const clip = clipOf(result);
    expect(clip.report).toMatchObject({ frames: 50, size: [320, 240], decoder: "node-av", flow: "tvl1", warnings: [] });
    expect(clip.report.pts[0]?.map((t) => Math.round(t * 25))).toEqual([19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29]);
    expect(clip.report.middle).toEqual([0.96]);
    expect(stages.slice(0, 11)).toEqual(Array.from({ length: 11 }, (_, i) => `frames ${i + 1}/11`));
    expect(stages.slice(11)).toEqual(Array.from({ length: 10 }, (_, i) => `flow ${i + 1}/10`));

    // The RGB input is the scene at 0.96 s, its height made 112 and its centre cut out.
    const rgb = tensorOf(clip, "rgb");
    const scene = drawScene(0.96, 149, 112);
    let difference = 0;
    for (let c = 0; c < 3; c++)
      for (let y = 0; y < 112; y++)
        for (let x = 0; x < 112; x++) {
          const value = ((rgb[(c * 112 + y) * 112 + x] ?? NaN) * (std[c] ?? 1) + (mean[c] ?? 0)) * 255;
          difference += Math.abs(value - (scene[(y * 149 + x + 18) * 3 + c] ?? 0)) / rgb.length;
        }
    expect(difference).toBeLessThan(4);

    // To within a step of the bytes (0.16 px) and the coder's loss, the cheeks move with the head, whose centre is at 12·sin(pi t), 4·sin(2 pi t) on a scene 240 high.
    const flow = tensorOf(clip, "flow");
    expect(flow.length).toBe(20 * 112 * 112);
    const average = (channel: number, x0: number, y0: number, side: number): number => {
      let sum = 0;
      for (let y = y0; y < y0 + side; y++)
        for (let x = x0; x < x0 + side; x++) sum += pixels(flow[(channel * 112 + y) * 112 + x]);
      return sum / side ** 2;
    };
    const head = (t: number): [number, number] => [12 * Math.sin(Math.PI * t), 4 * Math.sin(2 * Math.PI * t)];
    for (let k = 0; k < 10; k++) {
      const t = (19 + k) / 25;
      const [before, after] = [head(t), head(t + 0.04)];
      const moved = [0, 1].map((axis) => ((after[axis] ?? 0) - (before[axis] ?? 0)) * (112 / 240));
      const cheek = Math.round(56 + before[0] * (112 / 240) + 44 * (112 / 240)) - 2;
      expect(Math.abs(average(2 * k, cheek, 68, 5) - (moved[0] ?? NaN))).toBeLessThan(0.25);
      expect(Math.abs(average(2 * k + 1, cheek, 68, 5) - (moved[1] ?? NaN))).toBeLessThan(0.25);
      // The background stands still (half a step of the quantisation is 0.08 px).
      expect(Math.abs(average(2 * k, 0, 0, 8))).toBeLessThan(0.12);
    }
  });

  test("gives a batch of windows spread over the clip, the same on any number of threads", async () => {
    const inputs = [rgbInput(32, 2), flowInput(32, 3, 2)];
    const clip = clipOf(await loadClip(sample, inputs, undefined, { threads: 1 }));
    expect(clip.report.pts.map((list) => Math.round((list[0] ?? NaN) * 25))).toEqual([11, 34]);
    const again = clipOf(await loadClip(sample, inputs, undefined, { threads: 3 }));
    expect(again.tensors).toEqual(clip.tensors);
    const rgb = tensorOf(clip, "rgb");
    expect(rgb.subarray(0, 3072)).not.toEqual(rgb.subarray(3072));
  });

  test("with a hole in it is used, with a warning", async () => {
    makeVideo(at("whole.webm"), { codec: "libvpx", frames: 40 });
    const bytes = readFileSync(at("whole.webm"));
    bytes.fill(0x5a, Math.floor(bytes.length * 0.3), Math.floor(bytes.length * 0.4));
    writeFileSync(at("hole.webm"), bytes);
    const clip = clipOf(await loadClip(at("hole.webm"), [flowInput(24, 10)]));
    expect(clip.report.warnings).toEqual([
      expect.stringMatching(/^frames are missing between \d\.\d\d s and \d\.\d\d s, and the flow there spans the gap$/),
    ]);
  });

  test("is read where it is asked to be", async () => {
    const clip = clipOf(await loadClip(sample, [rgbInput(16)], undefined, { position: 1 }));
    expect(clip.report).toMatchObject({ middle: [1.96], flow: "none", flowSeconds: 0 });
  });
});

describe("a folder of images", () => {
  const byte = (dx: number): number => Math.round(((dx + 20) * 255) / 40);
  const digits = (i: number): string => String(i).padStart(5, "0");
  const grey = (value: number): Promise<Buffer> =>
    sharp(Buffer.alloc(40 * 30 * 3, value), { raw: { width: 40, height: 30, channels: 3 } })
      .greyscale()
      .png()
      .toBuffer();
  const frame = (i: number): Promise<Buffer> =>
    sharp(drawScene(i / 25, 40, 30), { raw: { width: 40, height: 30, channels: 3 } })
      .png()
      .toBuffer();

  beforeAll(async () => {
    for (const name of ["frames", "both", "gap"]) mkdirSync(at(name));
    for (let i = 1; i <= 6; i++) {
      for (const name of ["frames", "both", "gap"])
        writeFileSync(join(at(name), `img_${digits(i)}.png`), await frame(i));
      for (const [axis, value] of [
        ["x", i],
        ["y", -i],
      ] as const)
        for (const name of ["both", "gap"])
          if (i < 6 && !(name === "gap" && axis === "y" && i === 3))
            writeFileSync(join(at(name), `flow_${axis}_${digits(i)}.png`), await grey(byte(value)));
    }
  });

  test("serves its frames and its flow", async () => {
    const clip = clipOf(await loadClip(at("both"), [rgbInput(24), flowInput(24, 3)]));
    expect(clip.report).toMatchObject({ frames: 6, size: [40, 30], decoder: "sharp", flow: "images" });
    const flow = tensorOf(clip, "flow");
    // Six frames, a window of four: frames 2 to 5 and the flow from 2, 3 and 4.
    for (const [channel, value] of [2, -2, 3, -3, 4, -4].entries())
      expect(pixels(flow[channel * 576 + 100])).toBeCloseTo((byte(value) * 40) / 255 - 20, 4);
  });
  test("has its flow computed where it keeps none", async () => {
    const clip = clipOf(await loadClip(at("frames"), [rgbInput(24), flowInput(24, 3)]));
    expect(clip.report).toMatchObject({ flow: "tvl1", warnings: [] });
    expect(tensorOf(clip, "flow").some((v) => v !== tensorOf(clip, "flow")[0])).toBe(true);
  });
  test("names a flow image that is missing", async () => {
    expect(await loadClip(at("gap"), [flowInput(24, 3)])).toMatchObject({
      kind: "folder",
      message: "the flow image flow_y_00003.png is missing, which belongs to frame img_00003.png",
      path: join(at("gap"), "flow_y_00003.png"),
    });
  });
  test("is not needed for RGB alone to have all flow images", async () => {
    expect((await loadClip(at("gap"), [rgbInput(24)])).kind).toBe("clip");
  });
  test("names an image that is damaged", async () => {
    mkdirSync(at("torn"));
    const image = await sharp(drawScene(0, 40, 30), { raw: { width: 40, height: 30, channels: 3 } })
      .jpeg()
      .toBuffer();
    writeFileSync(join(at("torn"), "img_00001.jpg"), image.subarray(0, image.length / 2));
    expect(await loadClip(at("torn"), [rgbInput(24)])).toMatchObject({
      kind: "corrupt",
      path: join(at("torn"), "img_00001.jpg"),
    });
  });
  test("warns of numbers left out", async () => {
    mkdirSync(at("jump"));
    for (const i of [3, 4, 7]) writeFileSync(join(at("jump"), `img_${digits(i)}.png`), await frame(i));
    const clip = clipOf(await loadClip(at("jump"), [rgbInput(24)]));
    expect(clip.report.warnings).toEqual(["frame numbers are not consecutive at img_00007.png"]);
  });
});

describe("what is wrong, where, and what to do", () => {
  beforeAll(() => {
    mkdirSync(at("nothing"));
    writeFileSync(join(at("nothing"), "notes.txt"), "no frames here");
    writeFileSync(at("empty.mp4"), "");
    writeFileSync(at("cut.mp4"), readFileSync(sample).subarray(0, 20_000));
  });
  const inputs = [rgbInput(24), flowInput(24, 10)];
  test.each([
    ["missing", "absent.mp4", "there is no such file or folder"],
    ["empty", "empty.mp4", "the file is empty (0 bytes)"],
    ["folder", "nothing", "the folder has no frames: no image in it has a name that ends in a number"],
    ["corrupt", "cut.mp4", "no frame can be decoded: it is damaged, cut off, or not a video"],
    ["short", "frames", "the clip has 6 frames, but 11 are needed for 10 optical-flow fields"],
  ])("%s", async (kind, name, message) => {
    const result = await loadClip(at(name), inputs);
    expect(result).toMatchObject({ kind, path: at(name), message: expect.stringContaining(message) });
    expect("help" in result && result.help.length).toBeGreaterThan(10);
  });
  test("an input that no clip can fill", async () => {
    expect(
      await loadClip(sample, [{ ...rgbInput(24), name: "tokens", shape: [1, 512], preprocess: undefined }]),
    ).toMatchObject({
      kind: "input",
      message: "the input `tokens` [1, 512] is neither an RGB frame nor a stack of flow fields",
    });
  });
});
