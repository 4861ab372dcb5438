/**
 * Attention on the page: pictures that are what they should be, words that are true, and nothing that leaves the page.
 */
import { Script } from "node:vm";
import { inflateSync } from "node:zlib";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Preprocess } from "../../compiler/program.ts";
import { enlarge, flowColour, heat, INFERNO } from "../../runtime/report/attention/colours.ts";
import { renderAttention } from "../../runtime/report/attention/page.ts";
import { drawStream } from "../../runtime/report/attention/pictures.ts";
import { encodePng, type Picture } from "../../runtime/report/attention/png.ts";
import { PROBE_SCRIPT } from "../../runtime/report/attention/probe.ts";
import {
  type AttentionRecord,
  decodeAttention,
  encodeAttention,
  ROW_RANGE,
  rowByte,
} from "../../runtime/report/attention/record.ts";
import { attentionSection } from "../../runtime/report/attention/section.ts";
import { analyse, renderReport } from "../../runtime/report/page.ts";
import { fakeRun } from "./fake.ts";

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64");

/** The bytes of a PNG's pixels, by the specification's reconstruction of each filter. */
function pixelsOf(png: Uint8Array, channels: number): { width: number; height: number; bytes: Uint8Array } {
  const file = Buffer.from(png);
  const [width, height] = [file.readUInt32BE(16), file.readUInt32BE(20)];
  const data: Buffer[] = [];
  for (let at = 8; at < file.length; at += 12 + file.readUInt32BE(at))
    if (file.toString("latin1", at + 4, at + 8) === "IDAT")
      data.push(file.subarray(at + 8, at + 8 + file.readUInt32BE(at)));
  const raw = inflateSync(Buffer.concat(data));
  const line = width * channels;
  const bytes = new Uint8Array(line * height);
  for (let y = 0; y < height; y++)
    for (let i = 0; i < line; i++) {
      const at = y * line + i;
      const a = i < channels ? 0 : (bytes[at - channels] ?? 0);
      const b = y === 0 ? 0 : (bytes[at - line] ?? 0);
      const c = i < channels || y === 0 ? 0 : (bytes[at - line - channels] ?? 0);
      const p = a + b - c;
      const [pa, pb, pc] = [Math.abs(p - a), Math.abs(p - b), Math.abs(p - c)];
      const nearest = pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
      const foretold = [0, a, b, Math.floor((a + b) / 2), nearest][raw[y * (line + 1)] ?? 0] ?? 0;
      bytes[at] = ((raw[y * (line + 1) + 1 + i] ?? 0) + foretold) & 255;
    }
  return { width, height, bytes };
}

describe("a PNG", () => {
  it("gives back the bytes it was made of", () => {
    const picture = fc
      .record({ width: fc.integer({ min: 1, max: 12 }), height: fc.integer({ min: 1, max: 9 }), rgb: fc.boolean() })
      .chain(({ width, height, rgb }) => {
        const size = width * height * (rgb ? 3 : 1);
        return fc
          .uint8Array({ minLength: size, maxLength: size })
          .map((bytes): Picture => ({ width, height, channels: rgb ? 3 : 1, bytes }));
      });
    fc.assert(
      fc.property(picture, (made) => {
        const { width, height, bytes } = pixelsOf(encodePng(made), made.channels);
        expect([width, height]).toEqual([made.width, made.height]);
        expect(base64(bytes)).toBe(base64(made.bytes));
      }),
    );
  });

  it("packs what is smooth", () => {
    const bytes = Uint8Array.from({ length: 96 * 96 }, (_, i) => Math.floor((i % 96) + i / 96));
    expect(encodePng({ width: 96, height: 96, channels: 1, bytes }).length).toBeLessThan(500);
  });
});

describe("colours", () => {
  it("of attention get brighter all the way", () => {
    const luma = Array.from({ length: 101 }, (_, i) => {
      const [r, g, b] = heat(INFERNO, i / 100);
      return 0.2126 * (r / 255) ** 2.2 + 0.7152 * (g / 255) ** 2.2 + 0.0722 * (b / 255) ** 2.2;
    });
    for (const [i, value] of luma.entries()) if (i > 0) expect(value).toBeGreaterThanOrEqual((luma[i - 1] ?? 0) - 1e-9);
    expect(heat(INFERNO, -3)).toEqual(heat(INFERNO, 0));
    expect(heat(INFERNO, 9)).toEqual(heat(INFERNO, 1));
  });

  it("of motion are white at rest, red to the right and cyan to the left, as in the benchmark's wheel", () => {
    expect(flowColour(0, 0, 2)).toEqual([255, 255, 255]);
    expect(flowColour(2, 0, 2)).toEqual([255, 0, 0]);
    const [r, g, b] = flowColour(-2, 0, 2);
    expect(r).toBeLessThan(20);
    expect(Math.min(g, b)).toBeGreaterThan(150);
  });
});

describe("a map drawn larger", () => {
  it("stays within its values, and keeps what is even", () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: -5, max: 5, noNaN: true }), { minLength: 12, maxLength: 12 }), (grid) => {
        for (const value of enlarge(grid, 4, 3, 17)) {
          expect(value).toBeGreaterThanOrEqual(Math.fround(Math.min(...grid)));
          expect(value).toBeLessThanOrEqual(Math.fround(Math.max(...grid)));
        }
      }),
      { numRuns: 30 },
    );
    expect(new Set(enlarge([2, 2, 2, 2], 2, 2, 9))).toEqual(new Set([2]));
  });

  it("has its greatest where the place lies", () => {
    const grid = Array.from({ length: 64 }, (_, i) => Number(i === 8 * 2 + 5));
    const large = enlarge(grid, 8, 8, 80);
    const at = large.indexOf(Math.max(...large));
    expect(Math.floor((at % 80) / 10)).toBe(5);
    expect(Math.floor(at / 800)).toBe(2);
  });
});

describe("what a stream sees", () => {
  const size = [6, 4] as const;
  it("is drawn as the frame that it was", () => {
    const preprocess: Preprocess = { source: "rgb", size, mean: [0.4, 0.5, 0.6], std: [0.2, 0.3, 0.4] };
    const bytes = Uint8Array.from({ length: 72 }, (_, i) => (i * 37) % 256);
    const tensor = Float32Array.from({ length: 72 }, (_, i) => {
      const c = Math.floor(i / 24);
      return ((bytes[3 * (i % 24) + c] ?? 0) / 255 - (preprocess.mean[c] ?? 0)) / (preprocess.std[c] ?? 1);
    });
    const { png, speed } = drawStream(tensor, preprocess);
    expect(base64(pixelsOf(Buffer.from(png, "base64"), 3).bytes)).toBe(base64(bytes));
    expect(speed).toBeUndefined();
  });

  it("is drawn as motion: rest is white though it was rounded, and the field is that of the middle", () => {
    const preprocess: Preprocess = { source: "flow", size, mean: [0.5], std: [0.226], bound: 20 };
    const rest = (128 / 255 - 0.5) / 0.226;
    const tensor = new Float32Array(8 * 24).fill(rest);
    // Two pixels a frame to the right, in the left half of the third of four fields.
    for (let i = 0; i < 24; i++) if (i % 6 < 3) tensor[4 * 24 + i] = ((2 + 20) / 40 - 0.5) / 0.226;
    const { png, base, speed } = drawStream(tensor, preprocess);
    const colours = pixelsOf(Buffer.from(png, "base64"), 3).bytes;
    expect([...colours.subarray(15, 18)]).toEqual([255, 255, 255]);
    expect([...colours.subarray(0, 3)]).toEqual([255, 0, 0]);
    expect(speed).toBeCloseTo(2, 0);
    const grey = pixelsOf(Buffer.from(base, "base64"), 1).bytes;
    expect(grey[0]).toBeGreaterThan((grey[5] ?? 255) + 150);
  });
});

const EVIL = `<img src=x onerror=alert(1)>"'&`;

/** Two streams of 2 × 2 places that look at each other, on two clips. */
function fakeAttention(more: Partial<AttentionRecord> = {}, gate = 0.2): AttentionRecord {
  const grid = (stream: string): AttentionRecord["edges"][number]["keys"] => ({ stream, size: [2, 2], extent: [1, 1] });
  const edge = (to: string, from: string): AttentionRecord["edges"][number] => ({
    name: `stia_conv3.to_${to}`,
    unit: "stia_conv3",
    queries: grid(to),
    keys: grid(from),
    heads: 1,
    weights: "softmax",
    gate,
    places: [0, 1, 2, 3],
    grid: [2, 2],
    rowSize: [2, 2],
  });
  const png = base64(encodePng({ width: 4, height: 2, channels: 1, bytes: new Uint8Array(8) }));
  const clip = (path: string, probabilities: readonly number[]): AttentionRecord["clips"][number] => ({
    path,
    subject: "one",
    class: "calm",
    probabilities,
    factors: { moving: "standing" },
    pictures: ["spatial", "temporal"].map((stream) => ({ stream, png, base: png, speed: undefined })),
    maps: ["spatial", "temporal"].map((to) => ({
      edge: `stia_conv3.to_${to}`,
      received: [0.5, 0.5, 0.5, 2.5],
      spread: [2, 2, 2, 2],
      rows: base64(Uint8Array.from({ length: 16 }, (_, i) => 16 * i)),
      peaks: [1, 2, 3, 4],
    })),
  });
  return {
    format: "netc-attention",
    version: 1,
    model: "Two",
    graphHash: "0",
    step: 12,
    trained: true,
    note: "SYNTHETIC: drawn",
    classes: ["calm", "pain"],
    choice: "Two clips.",
    streams: [
      { name: "spatial", source: "rgb" },
      { name: "temporal", source: "flow" },
    ],
    edges: [edge("spatial", "temporal"), edge("temporal", "spatial")],
    clips: [clip("a.avi", [0.9, 0.1]), clip("b.avi", [0.2, 0.8])],
    ...more,
  };
}

const wordsOf = (html: string): string =>
  html
    .replace(/<script>.*?<\/script>|<style>.*?<\/style>/gs, "")
    .replace(/<[^>]*>/g, " ")
    .replace(/\s+/g, " ");

describe("the record", () => {
  it("comes back as it was, and a changed one is refused in words", () => {
    const record = fakeAttention();
    expect(decodeAttention(encodeAttention(record))).toEqual(JSON.parse(JSON.stringify(record)));
    const error = (change: Partial<AttentionRecord>): unknown =>
      decodeAttention(encodeAttention(fakeAttention(change)));
    expect(error({ streams: [{ name: "x", source: "sound" as "rgb" }] })).toEqual({
      error: "`streams[0].source` is not one of rgb, flow",
    });
    expect(error({ edges: [] })).toEqual({
      error: "`a.avi`: the map of `stia_conv3.to_spatial` does not fit its edge",
    });
    const [clip] = fakeAttention().clips;
    const scripted = clip?.pictures.map((picture) => ({ ...picture, png: '"><script>' })) ?? [];
    expect(error({ clips: clip === undefined ? [] : [{ ...clip, pictures: scripted }] })).toEqual({
      error: "`clips[0].pictures[0].png` is not base64",
    });
  });

  it("stores weights of all magnitudes within a few percent, and says nothing of what is too small", () => {
    for (const share of [1, 0.5, 0.01, 0.0005]) {
      const read = ROW_RANGE ** (rowByte(share, "softmax") / 255 - 1);
      expect(Math.abs(read / share - 1)).toBeLessThan(0.03);
    }
    expect(rowByte(1e-6, "softmax")).toBe(0);
    expect(rowByte(Number.NaN, "softmax")).toBe(0);
    expect([rowByte(1, "products"), rowByte(0.5, "products"), rowByte(-1, "products")]).toEqual([255, 128, 0]);
  });
});

describe("the section", () => {
  it("says who looks at what, of which clip, and how far the gates are open", () => {
    const words = wordsOf(attentionSection(fakeAttention()));
    for (const text of [
      "the picture looks at the motion 2 × 2 → 2 × 2 2.00 of 4 0.2",
      "the motion looks at the picture",
      "a.avi Truth: calm. Answer: calm, 90 % (pain 10 %) right",
      "b.avi Truth: calm. Answer: pain, 80 % (calm 20 %) wrong",
      "SYNTHETIC · moving standing",
      "Where the picture looks in the motion, conv3",
      "Brightest: 2.5× even",
      "Parameters of update 12",
    ])
      expect(words.replace("2 of 4", "2.00 of 4")).toContain(text);
    expect(words).not.toContain("γ = 0");
  });

  it("says that closed gates let nothing through, and that a random start is one", () => {
    const closed = wordsOf(attentionSection(fakeAttention({ trained: false, step: undefined }, 0)));
    expect(closed).toContain("No weights were given: the network has its random start. Every gate is closed, γ = 0");
    expect(wordsOf(attentionSection(fakeAttention({}, 0.001)))).toContain("The gates have hardly opened");
  });

  it("leaves clips out before the page gets too large, and says so", () => {
    const [clip] = fakeAttention().clips;
    const large = "A".repeat(900_000);
    const clips = Array.from({ length: 3 }, () => ({
      ...(clip ?? fakeAttention().clips[0]),
      pictures: [{ stream: "spatial", png: large, base: "", speed: undefined }],
    })) as AttentionRecord["clips"];
    const html = attentionSection(fakeAttention({ clips }));
    expect(html.length).toBeLessThan(1_500_000);
    expect(wordsOf(html)).toContain("2 more clips in attention/attention.json");
  });
});

describe("the page", () => {
  const pages = [
    renderReport(analyse({ ...fakeRun(), attention: fakeAttention() }, { replicates: 50 })),
    renderAttention(fakeAttention()),
  ];

  it.each(pages.map((html, i) => [["in a report", "of its own"][i] ?? "", html]))(
    "%s asks for nothing from anywhere",
    (_, html) => {
      expect(html).toContain("Where the streams look at each other");
      expect(html).not.toMatch(/https?:|@import|url\(|<link|<iframe|fetch\(|XMLHttpRequest|import\(/i);
      const sources = [...html.matchAll(/ src="([^"]{0,30})/g)].map(([, source]) => source);
      expect(sources.length).toBeGreaterThan(8);
      for (const source of sources) expect(source).toMatch(/^data:image\/png;base64,/);
    },
  );

  it("is without script and style of attention where there is none", () => {
    const plain = renderReport(analyse(fakeRun(), { replicates: 50 }));
    expect(plain).not.toContain("<script");
    expect(plain).not.toContain(".pairs");
  });

  it("has one script, which is JavaScript and holds nothing from a file", () => {
    const [html = ""] = pages;
    expect(html.split("<script>")).toHaveLength(2);
    expect(html).toContain(`<script>${PROBE_SCRIPT}</script>`);
    expect(PROBE_SCRIPT).not.toMatch(/<\/|<!--/);
    expect(() => new Script(PROBE_SCRIPT)).not.toThrow();
  });

  it("escapes whatever the files say", () => {
    const record = fakeAttention({ model: EVIL, note: EVIL, choice: EVIL, classes: [EVIL, "b"] });
    const evil = {
      ...record,
      edges: record.edges.map((edge) => ({ ...edge, unit: EVIL })),
      clips: record.clips.map((clip) => ({ ...clip, path: EVIL, class: EVIL, factors: { [EVIL]: EVIL } })),
    };
    expect(renderAttention(evil)).not.toContain("<img src=x");
  });
});
