/**
 * The association task does what specs/association.md proves: the label is independent of what either stream shows,
 * additive fusion stays below its bound, one STIA edge computes the label, and the clips show what their factors say.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { loadEncoder } from "../../runtime/data/encode.ts";
import { type Flow, flowDefaults, tvl1 } from "../../runtime/data/flow.ts";
import { randomOf } from "../../runtime/data/random.ts";
import { greyOf } from "../../runtime/data/sample.ts";
import type { RgbFrame } from "../../runtime/data/source.ts";
import {
  type AssociationScene,
  CELLS,
  type Cell,
  classOf,
  drawAssociation,
  drawAssociationScene,
  figureAt,
} from "../../runtime/data/synthetic/association.ts";
import { createCanvas } from "../../runtime/data/synthetic/canvas.ts";
import { clipsOf, type SetOptions } from "../../runtime/data/synthetic/set.ts";
import { readVideo } from "../../runtime/data/video.ts";

const set: SetOptions = {
  layout: "association",
  subjects: 3,
  clips: 16,
  frames: 11,
  width: 96,
  height: 96,
  seed: 4,
  format: "avi",
};
const rgbOf = ({ standing, lying }: Cell): string => `${standing} ${lying}`;
const flowOf = ({ moving, direction }: Cell): string => `${moving} ${direction}`;

describe("the design", () => {
  const clips = clipsOf(set).map(({ record: { class: label, factors = {} } }) => ({ label, factors }));
  /** Counts of the two classes for every value of `key`. */
  const table = (key: (factors: Readonly<Record<string, string>>) => string): Map<string, [number, number]> => {
    const counts = new Map<string, [number, number]>();
    for (const { label, factors } of clips) {
      const row = counts.get(key(factors)) ?? [0, 0];
      row[label === "agree" ? 0 : 1]++;
      counts.set(key(factors), row);
    }
    return counts;
  };

  test.each([
    ["all that the picture shows", ["standing", "lying", "block"], 4 * 6],
    ["all that the motion shows", ["moving", "direction", "block"], 4 * 6],
    ["the picture without its scene", ["standing", "lying"], 4],
    ["the motion without its scene", ["moving", "direction"], 4],
    ["which figure moves and both colours", ["standing", "lying", "moving"], 8],
  ])("the class is independent of %s", (_, names, cells) => {
    const rows = table((factors) => names.map((name) => factors[name]).join(" "));
    expect(rows.size).toBe(cells);
    for (const [agree, differ] of rows.values()) expect(agree).toBe(differ);
  });

  test("the class depends on the picture and the motion together", () => {
    const rows = table(({ standing, lying, moving, direction }) => [standing, lying, moving, direction].join(" "));
    expect(rows.size).toBe(16);
    for (const counts of rows.values()) expect([...counts].sort((a, b) => a - b)).toEqual([0, 6]);
  });
});

describe("additive fusion", () => {
  /** All sums f(picture) + g(motion) against a threshold, by what they do: each motion accepts the k highest pictures. */
  test("is right in 12 of 16 cells at most", () => {
    const pictures = [...new Set(CELLS.map(rgbOf))];
    const motions = [...new Set(CELLS.map(flowOf))];
    const agrees = (picture: string, motion: string): boolean => {
      const cell = CELLS.find((cell) => rgbOf(cell) === picture && flowOf(cell) === motion);
      return cell !== undefined && classOf(cell) === "agree";
    };
    let best = 0;
    for (const order of permutations(pictures)) {
      // For a fixed order of f, every motion chooses its threshold by itself.
      const right = motions.map((motion) =>
        Math.max(...[0, 1, 2, 3, 4].map((k) => order.filter((picture, i) => i < k === agrees(picture, motion)).length)),
      );
      best = Math.max(
        best,
        right.reduce((a, b) => a + b, 0),
      );
    }
    expect(best).toBe(12);
  });
});

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length < 2) return [[...items]];
  return items.flatMap((item, i) => permutations(items.toSpliced(i, 1)).map((rest) => [item, ...rest]));
}

describe("one STIA edge", () => {
  /** The construction of the specification, on grids of features: channels standing, lying, colour or direction. */
  function decide(cell: Cell, beta: number, positions: number): number {
    const place = { standing: 3, lying: 7 };
    const picture = Array.from({ length: positions }, () => [0, 0, 0]);
    const motion = Array.from({ length: positions }, () => [0, 0, 0]);
    for (const figure of ["standing", "lying"] as const)
      picture[place[figure]] = [
        figure === "standing" ? 1 : 0,
        figure === "lying" ? 1 : 0,
        cell[figure] === "red" ? 1 : -1,
      ];
    // The motion stream sees its figure elsewhere: no position is shared, only the outline.
    motion[positions - 1 - place[cell.moving]] = [
      cell.moving === "standing" ? 1 : 0,
      cell.moving === "lying" ? 1 : 0,
      cell.direction === "right" ? 1 : -1,
    ];
    let score = 0;
    for (const [qStanding = 0, qLying = 0, direction = 0] of motion) {
      const logits = picture.map(([kStanding = 0, kLying = 0]) => beta * (qStanding * kStanding + qLying * kLying));
      const weights = logits.map(Math.exp);
      const total = weights.reduce((a, b) => a + b, 0);
      const color = weights.reduce((sum, w, j) => sum + (w / total) * (picture[j]?.[2] ?? 0), 0);
      // After the unit: a 1x1 convolution with ReLU, and a linear head on the average.
      const relu = (x: number): number => Math.max(0, x);
      const [sum, difference] = [color + direction, color - direction];
      score += relu(sum) + relu(-sum) - relu(difference) - relu(-difference);
    }
    return score / positions;
  }

  test.each([49, 196, 784])("gives the class in all cells on %i positions", (positions) => {
    for (const cell of CELLS) {
      const score = decide(cell, 2 * Math.log(positions), positions);
      expect(Math.sign(score)).toBe(classOf(cell) === "agree" ? 1 : -1);
      // (2 / P) times the attended colour, which the background cannot dilute below 1 - 2 / P.
      expect(Math.abs(score)).toBeGreaterThan((2 / positions) * (1 - 2 / positions));
    }
  });

  test("without attention the class is lost", () => {
    expect(
      new Set(CELLS.filter((cell) => classOf(cell) === "agree").map((cell) => Math.sign(decide(cell, 0, 49)))).size,
    ).toBeGreaterThan(1);
  });
});

describe("what the clips show", () => {
  const { width, height, frames } = set;
  const folder = mkdtempSync(join(tmpdir(), "netc-association-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const middle = Math.floor((frames - 1) / 2);
  const scenes = [1, 2].map((seed) => drawAssociationScene(randomOf(seed, "scene")));
  const draw = (cell: Cell, scene: AssociationScene, frame: number): Uint8Array => {
    const canvas = createCanvas(width, height);
    drawAssociation(canvas, cell, scene, frame, frames);
    return canvas.rgb;
  };
  /** Mean of `value` over a circle within the bar, around its centre. */
  const inFigure = (
    figure: "standing" | "lying",
    cell: Cell,
    scene: AssociationScene,
    value: (i: number) => number,
  ): number => {
    const [cx, cy] = figureAt(figure, cell, scene, middle, frames, width, height);
    let [sum, n] = [0, 0];
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) {
        if (Math.hypot(x + 0.5 - cx, y + 0.5 - cy) > 0.4 * scene.radius * width) continue;
        sum += value(y * width + x);
        n++;
      }
    return sum / n;
  };
  const redness =
    (rgb: Uint8Array) =>
    (i: number): number =>
      (rgb[3 * i] ?? 0) - (rgb[3 * i + 1] ?? 0);
  const flowBetween = (a: Uint8Array, b: Uint8Array): Flow => tvl1(greyOf(a), greyOf(b), width, height, flowDefaults);

  test("the middle frame is the same whatever moves and wherever to", () => {
    for (const scene of scenes)
      for (const cell of CELLS) {
        const still = CELLS.find(({ standing, lying }) => standing === cell.standing && lying === cell.lying) ?? cell;
        expect(draw(cell, scene, middle)).toEqual(draw(still, scene, middle));
      }
  });

  test("grey pictures are the same whatever the colours", () => {
    for (const scene of scenes)
      for (const cell of CELLS) {
        const other =
          CELLS.find(({ moving, direction }) => moving === cell.moving && direction === cell.direction) ?? cell;
        const [a, b] = [greyOf(draw(cell, scene, 2)), greyOf(draw(other, scene, 2))];
        expect(Math.max(...a.map((v, i) => Math.abs(v - (b[i] ?? 0))))).toBeLessThan(1);
      }
  });

  test("colours and motion are those of the factors, in every cell", () => {
    for (const scene of scenes)
      for (const cell of CELLS) {
        const [a, b] = [draw(cell, scene, middle), draw(cell, scene, middle + 1)];
        const flow = flowBetween(a, b);
        for (const figure of ["standing", "lying"] as const) {
          expect(inFigure(figure, cell, scene, redness(a)) > 0).toBe(cell[figure] === "red");
          const x = inFigure(figure, cell, scene, (i) => flow.x[i] ?? 0);
          if (figure !== cell.moving) expect(Math.abs(x)).toBeLessThan(0.1);
          else expect(x * (cell.direction === "right" ? 1 : -1)).toBeGreaterThan(1);
        }
      }
  });

  test.each(["mpeg4 avi", "mpeg4 mp4"])(
    "the middle picture of an encoded clip (%s) says nothing of the motion",
    async (kind) => {
      const encode = await loadEncoder();
      const [scene] = scenes;
      if (encode === undefined || scene === undefined) return expect(encode, "node-av is not installed").toBeDefined();
      const [codec = "", ending = ""] = kind.split(" ");
      const seen = new Map<string, Set<string>>();
      for (const [index, cell] of CELLS.entries()) {
        const path = join(folder, `middle${index}.${ending}`);
        const pictures = Array.from({ length: frames }, (_, frame) => draw(cell, scene, frame));
        encode(path, { codec, width, height, fps: 25, bitrate: "300k", apart: true }, pictures);
        const colours = `${cell.standing} standing, ${cell.lying} lying`;
        await readVideo(path, [{ count: 1, position: 0.5 }], (_, { rgb }) => {
          seen.set(colours, (seen.get(colours) ?? new Set()).add(Buffer.from(rgb).toString("base64")));
        });
      }
      expect([...seen].map(([colours, pictures]) => [colours, pictures.size])).toEqual(
        [
          "red standing, red lying",
          "red standing, green lying",
          "green standing, red lying",
          "green standing, green lying",
        ].map((colours) => [colours, 1]),
      );
    },
  );

  test("the encoded clip still shows them", async () => {
    const encode = await loadEncoder();
    const [scene] = scenes;
    if (encode === undefined || scene === undefined) return expect(encode, "node-av is not installed").toBeDefined();
    for (const [index, cell] of CELLS.entries()) {
      if (index % 5 !== 0) continue;
      const path = join(folder, `${index}.avi`);
      const pictures = Array.from({ length: frames }, (_, frame) => draw(cell, scene, frame));
      encode(path, { codec: "mpeg4", width, height, fps: 25, bitrate: "300k", apart: true }, pictures);
      const read: RgbFrame[] = [];
      await readVideo(path, [{ count: 2, position: 0.5 }], (_, frame) => read.push(frame), { ffmpeg: false });
      const [a, b] = read;
      if (a === undefined || b === undefined) throw new Error("the clip has no frames");
      const flow = flowBetween(a.rgb, b.rgb);
      for (const figure of ["standing", "lying"] as const) {
        expect(inFigure(figure, cell, scene, redness(a.rgb)) > 0).toBe(cell[figure] === "red");
        const x = inFigure(figure, cell, scene, (i) => flow.x[i] ?? 0);
        if (figure !== cell.moving) expect(Math.abs(x)).toBeLessThan(0.3);
        else expect(x * (cell.direction === "right" ? 1 : -1)).toBeGreaterThan(1);
      }
    }
  });
});
