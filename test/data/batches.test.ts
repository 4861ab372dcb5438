/** Batches: the same numbers for the same seed whatever the cache and the threads do; views of evaluation; failures. */
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ProgramInput } from "../../compiler/program.ts";
import type { DataRecipe } from "../../compiler/recipe/recipe.ts";
import { loadClip } from "../../runtime/data/clip.ts";
import {
  type Batch,
  type BatchOptions,
  evaluationBatches,
  openBatches,
  trainedPreprocess,
} from "../../runtime/data/loader/batches.ts";
import { type DataPool, openPool, type PoolOptions } from "../../runtime/data/loader/pool.ts";
import type { Manifest } from "../../runtime/data/manifest.ts";
import { splitSides } from "../../runtime/data/sides.ts";
import { clipsOf } from "../../runtime/data/synthetic/set.ts";
import { dataRecipe, drawing, makeSet, opened, twoStreams } from "./set.ts";

const root = mkdtempSync(join(tmpdir(), "netc-batches-"));
const folder = join(root, "set");
const cache = { folder: join(root, "cache"), bound: 2 ** 30 };
const pools: DataPool[] = [];
let set: Manifest;

beforeAll(async () => {
  set = await makeSet(folder);
});
afterAll(async () => {
  await Promise.all(pools.map((pool) => pool.close()));
  rmSync(root, { recursive: true });
});

async function pool(options: PoolOptions = {}): Promise<DataPool> {
  const made = await openPool({ threads: 1, cache, ...options });
  pools.push(made);
  return made;
}
const asked = (own: DataPool, change: Partial<DataRecipe> = {}, rest: Partial<BatchOptions> = {}): BatchOptions => ({
  pool: own,
  folder,
  clips: set.clips,
  classes: set.classes,
  inputs: twoStreams(32, 4, 4),
  recipe: dataRecipe(change),
  seed: 5,
  ...rest,
});

interface Kept {
  readonly index: number;
  readonly clips: readonly number[];
  readonly labels: readonly number[];
  readonly rgb: Float32Array;
  readonly flow: Float32Array;
}
/** What two runs are compared by: element by element is slow. */
const digest = (batches: readonly Kept[]): string[] =>
  batches.map(({ index, clips, labels, rgb, flow }) =>
    createHash("sha256")
      .update(JSON.stringify([index, clips, labels]))
      .update(rgb)
      .update(flow)
      .digest("hex"),
  );
/** A batch's arrays are used again, so they are copied. */
const keep = ({ index, clips, labels, inputs }: Batch): Kept => ({
  index,
  clips,
  labels: [...labels],
  rgb: (inputs.get("rgb") ?? new Float32Array(0)).slice(),
  flow: (inputs.get("flow") ?? new Float32Array(0)).slice(),
});
async function collect(batches: AsyncIterable<Batch>): Promise<Kept[]> {
  const out: Kept[] = [];
  for await (const batch of batches) out.push(keep(batch));
  return out;
}

const same = (a: Float32Array | undefined, b: Float32Array): boolean =>
  a !== undefined && Buffer.compare(Buffer.from(a.buffer, a.byteOffset, a.byteLength), Buffer.from(b.buffer)) === 0;
/** The input as a network trained by the recipe sees it. */
const trained = (input: ProgramInput): ProgramInput =>
  input.preprocess === undefined ? input : { ...input, preprocess: trainedPreprocess(input.preprocess, dataRecipe()) };

describe("training batches", () => {
  test("are the same numbers from a cold cache, a warm one, none, and any number of threads", async () => {
    const cold = opened(await openBatches(asked(await pool())));
    expect(cold).toMatchObject({ batches: 4, failures: [], warnings: [] });
    const first = await collect(cold.epoch(3));
    expect(first.map(({ index }) => index)).toEqual([0, 1, 2, 3]);
    expect(first.flatMap(({ clips }) => clips).sort((a, b) => a - b)).toEqual([...set.clips.keys()]);
    for (const { clips, labels } of first)
      expect(labels).toEqual(clips.map((clip) => set.classes.indexOf(set.clips[clip]?.class ?? "")));
    for (const options of [
      {},
      { threads: 3 },
      { cache: false },
      { memory: 0 },
      { cache: false, threads: 2, memory: 0 },
    ] as const) {
      const again = opened(await openBatches(asked(await pool(options))));
      expect(digest(await collect(again.epoch(3)))).toEqual(digest(first));
    }
  });

  test("are made again from the clips where entries of the cache are broken", async () => {
    const own = { folder: join(root, "broken-cache"), bound: 2 ** 30 };
    const recipe = { sampling: { kind: "segments", count: 2 } } as const;
    const source = opened(await openBatches(asked(await pool({ cache: own }), recipe)));
    const first = digest(await collect(source.epoch(0)));
    const entries = readdirSync(own.folder, { recursive: true, encoding: "utf8" }).filter((name) =>
      name.endsWith(".entry"),
    );
    expect(entries.length).toBe(16);
    const whole = entries.map((name) => readFileSync(join(own.folder, name)));
    for (const [i, name] of entries.entries()) {
      const bytes = Buffer.from(whole[i] ?? "");
      // Half are cut short; in the others every window's flow is damaged, which only reading it can find out.
      if (i % 2 === 0) truncateSync(join(own.folder, name), bytes.length - 100);
      else writeFileSync(join(own.folder, name), bytes.fill(0, bytes.length - 12000));
    }
    const again = opened(await openBatches(asked(await pool({ cache: own }), recipe)));
    expect(digest(await collect(again.epoch(0)))).toEqual(first);
    // Not every damaged window is drawn in an epoch.
    for (let epoch = 1; epoch < 8; epoch++) await collect(again.epoch(epoch));
    expect(entries.map((name) => readFileSync(join(own.folder, name)))).toEqual(whole);
  });

  test("go on from a batch as if they had never stopped; another epoch or seed is another order", async () => {
    const own = await pool();
    const source = opened(await openBatches(asked(own)));
    const whole = await collect(source.epoch(1));
    expect(digest(await collect(source.epoch(1, 2)))).toEqual(digest(whole.slice(2)));
    // A loop that is left early takes nothing from the next.
    for await (const batch of source.epoch(1)) if (batch.index === 1) break;
    expect(digest(await collect(source.epoch(1)))).toEqual(digest(whole));
    const orders = [
      whole,
      await collect(source.epoch(2)),
      await collect(opened(await openBatches(asked(own, {}, { seed: 6 }))).epoch(1)),
    ].map((batches) => batches.flatMap(({ clips }) => clips).join());
    expect(new Set(orders).size).toBe(3);
  });

  test("a clip's sample is its own, whatever else is in the set", async () => {
    const own = await pool();
    const all = await collect(opened(await openBatches(asked(own))).epoch(0));
    const half = set.clips.slice(0, 8);
    const some = await collect(opened(await openBatches(asked(own, {}, { clips: half }))).epoch(0));
    const find = (batches: readonly Kept[], clip: number): Float32Array | undefined => {
      const batch = batches.find(({ clips }) => clips.includes(clip));
      const row = batch?.clips.indexOf(clip) ?? 0;
      return batch?.flow.slice((row * batch.flow.length) / 4, ((row + 1) * batch.flow.length) / 4);
    };
    expect(find(all, 3)).toBeDefined();
    expect(find(some, 3)).toEqual(find(all, 3));
  });

  test("one crop and one mirror for picture and motion, whose x is negated", async () => {
    const own = await pool();
    const plain = { jitter: 0, sampling: { kind: "middle" }, crop: "centre" } as const;
    const straight = await collect(opened(await openBatches(asked(own, { ...plain, flip: 0 }))).epoch(0));
    const mirrored = await collect(opened(await openBatches(asked(own, { ...plain, flip: 1 }))).epoch(0));
    expect(mirrored.map(({ clips }) => clips)).toEqual(straight.map(({ clips }) => clips));
    const byte = (value: number | undefined): number => Math.round(((value ?? NaN) * 0.226 + 0.5) * 255);
    for (const [b, batch] of mirrored.entries()) {
      const other = straight[b];
      for (let plane = 0; plane < 4 * 3; plane++)
        for (let y = 0; y < 32; y++)
          for (let x = 0; x < 32; x++)
            if (batch.rgb[(plane * 32 + y) * 32 + x] !== other?.rgb[(plane * 32 + y) * 32 + 31 - x])
              throw new Error(`picture ${plane}, ${y}, ${x}`);
      let moving = 0;
      for (let plane = 0; plane < 4 * 8; plane++)
        for (let y = 0; y < 32; y++)
          for (let x = 0; x < 32; x++) {
            const here = byte(batch.flow[(plane * 32 + y) * 32 + x]);
            const there = byte(other?.flow[(plane * 32 + y) * 32 + 31 - x]);
            if (here !== (plane % 2 === 0 ? 255 - there : there)) throw new Error(`motion ${plane}, ${y}, ${x}`);
            if (plane % 2 === 0 && Math.abs(there - 127.5) > 5) moving++;
          }
      expect(moving).toBeGreaterThan(100);
    }
  });

  test("a random crop is cut at one place from picture and motion", async () => {
    const own = await pool();
    const change = { jitter: 0, flip: 0, sampling: { kind: "middle" } } as const;
    const crops = await collect(opened(await openBatches(asked(own, { ...change, crop: "random" }))).epoch(0));
    const whole = opened(
      await openBatches(asked(own, { ...change, crop: "centre" }, { inputs: twoStreams(36, 4, 4) })),
    );
    const pictures = await collect(whole.epoch(0));
    const places = new Set<string>();
    for (const [b, { rgb, flow, clips }] of crops.entries())
      for (let row = 0; row < 4; row++) {
        const full = pictures[b];
        expect(full?.clips).toEqual(clips);
        const fits = (part: Float32Array, all: Float32Array | undefined, planes: number, left: number, top: number) => {
          for (let plane = row * planes; plane < (row + 1) * planes; plane++)
            for (let y = 0; y < 32; y++)
              for (let x = 0; x < 32; x++)
                if (part[(plane * 32 + y) * 32 + x] !== all?.[(plane * 36 + y + top) * 36 + x + left]) return false;
          return true;
        };
        const corners = Array.from({ length: 25 }, (_, i) => [i % 5, Math.floor(i / 5)] as const);
        const found = corners.filter(([left, top]) => fits(rgb, full?.rgb, 3, left, top));
        expect(found.filter(([left, top]) => fits(flow, full?.flow, 8, left, top)).length).toBe(found.length);
        if (found.length === 1) places.add(String(found[0]));
      }
    // The picture is 43 wide, so crops left of the whole input's four pixels, or right of them, are not found.
    expect(places.size).toBeGreaterThan(2);
  });

  test("jitter changes the picture only", async () => {
    const own = await pool();
    const plain = await collect(opened(await openBatches(asked(own, { jitter: 0 }))).epoch(0));
    const jittered = await collect(opened(await openBatches(asked(own, { jitter: 0.4 }))).epoch(0));
    expect(jittered.map(({ flow }) => flow)).toEqual(plain.map(({ flow }) => flow));
    expect(jittered.map(({ rgb }) => rgb)).not.toEqual(plain.map(({ rgb }) => rgb));
  });

  test("buffers are used again: two thousand batches take no more memory than a hundred", async () => {
    const source = opened(await openBatches(asked(await pool({ threads: 2 }), { jitter: 0 })));
    let seen = 0;
    let sum = 0;
    let early = 0;
    for (let epoch = 0; seen < 2000; epoch++)
      for await (const { inputs, waitedSeconds } of source.epoch(epoch)) {
        sum += inputs.get("rgb")?.[0] ?? NaN;
        expect(waitedSeconds).toBeGreaterThanOrEqual(0);
        if (++seen === 400) early = process.memoryUsage().rss;
      }
    expect(sum).not.toBeNaN();
    // A batch is 180 kB: kept, the 1600 since then would be 290 MB.
    expect(process.memoryUsage().rss - early).toBeLessThan(60 * 2 ** 20);
  });
});

describe("classes drawn equally often", () => {
  test("rare ones come again with other windows and crops", async () => {
    const clips = [
      ...set.clips.filter((clip) => clip.class === "agree").slice(0, 2),
      ...set.clips.filter((clip) => clip.class === "differ").slice(0, 6),
    ];
    const source = opened(await openBatches(asked(await pool(), { balance: "inverse_frequency" }, { clips })));
    const batches = await collect(source.epoch(0));
    expect(batches.flatMap(({ labels }) => labels).filter((label) => label === 0).length).toBe(4);
    const twice = batches.flatMap(({ clips: own, flow }) =>
      own.flatMap((clip, row) =>
        clip === 0 ? [flow.slice((row * flow.length) / 4, ((row + 1) * flow.length) / 4)] : [],
      ),
    );
    expect(twice.length).toBe(2);
    expect(twice[0]).not.toEqual(twice[1]);
  });
});

describe("evaluation", () => {
  test("sees every view of every clip once, and marks what fills up the last batch", async () => {
    const clips = set.clips.slice(0, 3);
    const source = opened(await evaluationBatches({ ...asked(await pool()), inputs: twoStreams(32, 4, 8), clips }));
    expect(source).toMatchObject({ views: 20, batches: 8, failures: [] });
    const rows: string[] = [];
    const crops = new Map<string, Float32Array>();
    let padding = 0;
    for await (const batch of source.run())
      for (const [row, place] of batch.rows.entries()) {
        const rgb = batch.inputs.get("rgb")?.slice(row * 3072, (row + 1) * 3072) ?? new Float32Array(0);
        if (place === undefined) {
          padding++;
          expect(rgb.every((value) => value === 0)).toBe(true);
        } else {
          rows.push(`${place.clip}/${place.view}`);
          crops.set(`${place.clip}/${place.view}`, rgb);
        }
      }
    expect(rows).toEqual([0, 1, 2].flatMap((clip) => Array.from({ length: 20 }, (_, view) => `${clip}/${view}`)));
    expect(padding).toBe(4);
    // Ten crops: corners and centre overlap as their places say, and the second five are the first mirrored.
    const pixel = (view: number, x: number, y: number): number | undefined => crops.get(`1/${view}`)?.[y * 32 + x];
    for (let y = 0; y < 32; y++)
      for (let x = 0; x < 32; x++) {
        const wrong =
          [0, 1, 2, 3, 4].some((crop) => pixel(crop + 5, x, y) !== pixel(crop, 31 - x, y)) ||
          // 48 x 40 becomes 43 x 36: the corners lie 11 apart across and 4 down, the centre 6 (5.5, to even) and 2 in.
          (x < 21 && pixel(0, x + 11, y) !== pixel(1, x, y)) ||
          (y < 28 && pixel(0, x, y + 4) !== pixel(2, x, y)) ||
          (x < 26 && y < 30 && pixel(0, x + 6, y + 2) !== pixel(4, x, y));
        if (wrong) throw new Error(`crops at ${x}, ${y}`);
      }
    expect(pixel(10, 3, 3)).toBeDefined();
    expect(crops.get("1/10")).not.toEqual(crops.get("1/0"));
  });

  test("one segment and one crop are what a prediction sees, byte for byte", async () => {
    const recipe = { evaluation: { segments: 1, crops: 1 } } as const;
    const inputs = twoStreams(32, 4, 1);
    const source = opened(await evaluationBatches({ ...asked(await pool(), recipe), inputs }));
    const predicted = inputs.map(trained);
    let compared = 0;
    for await (const batch of source.run()) {
      if (batch.index % 4 !== 0) continue;
      const clip = set.clips[batch.rows[0]?.clip ?? 0]?.path ?? "";
      const alone = await loadClip(join(folder, clip), predicted);
      if (alone.kind !== "clip") throw new Error(alone.message);
      for (const [name, tensor] of alone.tensors) expect(same(batch.inputs.get(name), tensor)).toBe(true);
      compared++;
    }
    expect(compared).toBe(4);
  });

  test("folders of images, with their flow or without, are read like videos", async () => {
    const images = join(root, "images");
    const [drawn] = clipsOf({ ...drawing, width: 48, height: 40 });
    for (const name of ["plain", "flow"]) {
      mkdirSync(join(images, name), { recursive: true });
      for (const [i, rgb] of [...(drawn?.frames() ?? [])].entries()) {
        const raw = { width: 48, height: 40, channels: 3 } as const;
        const number = String(i + 1).padStart(5, "0");
        await sharp(rgb, { raw })
          .jpeg()
          .toFile(join(images, name, `img_${number}.jpg`));
        for (const axis of name === "flow" ? ["x", "y"] : [])
          await sharp(rgb, { raw })
            .greyscale()
            .jpeg()
            .toFile(join(images, name, `flow_${axis}_${number}.jpg`));
      }
    }
    const clips = ["plain", "flow"].map((path) => ({ path, class: "agree", frames: 9, status: "ok" as const }));
    const inputs = twoStreams(32, 4, 1);
    const recipe = { evaluation: { segments: 1, crops: 1 } } as const;
    const own = await pool();
    for (const _ of ["cold", "warm"]) {
      const source = opened(await evaluationBatches({ ...asked(own, recipe), inputs, clips, folder: images }));
      for await (const batch of source.run()) {
        const alone = await loadClip(join(images, clips[batch.index]?.path ?? ""), inputs.map(trained));
        if (alone.kind !== "clip") throw new Error(alone.message);
        expect(alone.report.flow).toBe(batch.index === 0 ? "tvl1" : "images");
        for (const [name, tensor] of alone.tensors) expect(same(batch.inputs.get(name), tensor)).toBe(true);
      }
    }
  });

  test("without a decoder every clip has failed, and says why", async () => {
    const own = await pool({ decoders: { nodeAv: false, ffmpeg: "no-such-program" } });
    const source = opened(await evaluationBatches(asked(own)));
    expect(source.failures.length).toBe(set.clips.length);
    expect(source.failures[0]?.problem).toMatchObject({
      kind: "no-decoder",
      path: join(folder, set.clips[0]?.path ?? ""),
    });
  });
});

describe("clips that cannot be read", () => {
  const broken = join(root, "broken");
  let manifest: Manifest;
  beforeAll(async () => {
    manifest = await makeSet(broken, { seed: 9 });
    truncateSync(join(broken, manifest.clips[2]?.path ?? ""), 200);
    rmSync(join(broken, manifest.clips[5]?.path ?? ""));
    await makeSet(join(root, "short"), { frames: 3 });
    writeFileSync(join(broken, manifest.clips[7]?.path ?? ""), "");
  });

  test("are left out of training and named once, the same however many threads there are", async () => {
    const orders: string[] = [];
    for (const threads of [1, 3]) {
      const said: string[] = [];
      const source = opened(
        await openBatches(
          asked(
            await pool({ threads }),
            {},
            {
              folder: broken,
              clips: manifest.clips,
              onFailure: ({ problem }) => said.push(`${problem.kind} ${problem.path}`),
            },
          ),
        ),
      );
      expect(said).toEqual(
        [2, 5, 7].map(
          (clip) => `${clip === 5 ? "missing" : "corrupt"} ${join(broken, manifest.clips[clip]?.path ?? "")}`,
        ),
      );
      expect(source.failures.map(({ clip }) => clip)).toEqual([2, 5, 7]);
      expect(source.batches).toBe(3);
      const batches = [...(await collect(source.epoch(0))), ...(await collect(source.epoch(1)))];
      const seen = batches.flatMap(({ clips }) => clips);
      expect(seen.filter((clip) => [2, 5, 7].includes(clip))).toEqual([]);
      orders.push(seen.join());
    }
    expect(orders[0]).toBe(orders[1]);
  });

  test("are returned by evaluation, with those that the manifest has given up on", async () => {
    const clips = manifest.clips.map((clip, i) =>
      i === 0 ? { ...clip, status: "corrupt" as const, detail: "no key frame" } : clip,
    );
    const source = opened(await evaluationBatches(asked(await pool(), {}, { folder: broken, clips })));
    expect(source.failures.map(({ clip, problem }) => [clip, problem.kind, problem.message])).toEqual([
      [0, "corrupt", "no key frame"],
      [2, "corrupt", expect.stringContaining("no frame can be decoded")],
      [5, "missing", expect.any(String)],
      [7, "corrupt", expect.any(String)],
    ]);
    const seen = new Set<number>();
    for await (const batch of source.run()) for (const row of batch.rows) if (row !== undefined) seen.add(row.clip);
    expect([...seen]).toEqual([1, 3, 4, 6, 8, 9, 10, 11, 12, 13, 14, 15]);
  });

  test("a clip too short for the window says how many frames it has", async () => {
    const source = await openBatches(asked(await pool(), {}, { folder: join(root, "short") }));
    expect(source).toMatchObject({
      kind: "loader-error",
      message: "0 training clips can be read, fewer than a batch of 4",
    });
    if (source.kind !== "loader-error") throw new Error("accepted");
    expect(source.help[0]).toContain("the clip has 3 frames, but 5 are needed for 4 optical-flow fields");
  });

  test("one that breaks while training goes on is an error with its path", async () => {
    const own = await makeSet(join(root, "later"), { seed: 12 });
    const source = opened(
      await openBatches(
        asked(await pool({ cache: false, memory: 0 }), {}, { folder: join(root, "later"), clips: own.clips }),
      ),
    );
    const path = join(root, "later", own.clips[4]?.path ?? "");
    truncateSync(path, 100);
    await expect(collect(source.epoch(0))).rejects.toThrow(`\`${path}\`: no frame can be decoded`);
  });
});

test("sets in every layout are read, trained on and tested", async () => {
  for (const layout of ["enterface", "afew", "pain"] as const) {
    const own = await makeSet(join(root, layout), { layout, subjects: 4, clips: 1, frames: 5, width: 40, height: 40 });
    const protocol = layout === "afew" ? ({ kind: "fixed" } as const) : ({ kind: "folds", folds: 2, seed: 1 } as const);
    const recipe = dataRecipe({ split: { protocol, validation: 0.4 }, resize: 34 });
    const sides = splitSides(own, recipe, 1, 1);
    if (sides.kind !== "sides") throw new Error(sides.message);
    const threads = await pool();
    const rest = { folder: join(root, layout), classes: sides.classes, recipe };
    const source = opened(await openBatches(asked(threads, {}, { ...rest, clips: sides.train })));
    expect((await collect(source.epoch(0))).length).toBe(Math.floor(sides.train.length / 4));
    const tested = opened(await evaluationBatches({ ...asked(threads), ...rest, clips: sides.test }));
    expect(tested.failures).toEqual([]);
    expect(tested.batches).toBe(sides.test.length * 5);
  }
});

describe("refused", () => {
  test.each<[string, Partial<BatchOptions>, string]>([
    ["another class", { classes: ["agree"] }, "shows `differ`, which is not among the classes"],
    [
      "streams of different size",
      { inputs: [...twoStreams(32, 4, 4).slice(0, 1), ...twoStreams(24, 4, 4).slice(1)] },
      "the inputs `rgb` (32×32) and `flow` (24×24) differ in size",
    ],
    [
      "an input that no clip fills",
      { inputs: [{ name: "x", shape: [4, 10], dtype: "f32", allocation: 0, preprocess: undefined }] },
      "the input `x` [4, 10] is neither an RGB frame nor a stack of flow fields",
    ],
  ])("%s", async (_, rest, message) => {
    const result = await openBatches(asked(pools[0] ?? (await pool()), {}, rest));
    expect(result.kind === "loader-error" && result.message).toContain(message);
  });
});
