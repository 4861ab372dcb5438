/**
 * Attention of a network on clips: the right clips are chosen, and what is kept of them is what the graph gives.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WASM_DEFAULT } from "../../compiler/capability.ts";
import { attentionForm } from "../../compiler/graph/attention.ts";
import { attend, chooseClips } from "../../runtime/cli/attention.ts";
import { loadClip } from "../../runtime/data/clip.ts";
import { trainedPreprocess } from "../../runtime/data/loader/batches.ts";
import type { Manifest } from "../../runtime/data/manifest.ts";
import { openWasm } from "../../runtime/engine/wasm/runner.ts";
import { type AttentionRecord, ROW_RANGE } from "../../runtime/report/attention/record.ts";
import type { ClipPrediction } from "../../runtime/train/records.ts";
import { makeSet } from "../data/set.ts";
import { modelOf, namedParameters, onOracle, programOf } from "../tools/nets.ts";

describe("the clips that are shown", () => {
  const classes = ["a", "b", "c"];
  const clips = Array.from({ length: 60 }, (_, i): ClipPrediction => {
    const truth = i % 3;
    // Nobody takes a `b` for anything else; one clip of ten cannot be read.
    const said = truth === 1 || i % 4 > 0 ? truth : (truth + 1) % 3;
    return {
      path: `${i}.avi`,
      subject: undefined,
      class: classes[truth] ?? "",
      probabilities: i % 10 === 9 ? undefined : classes.map((_name, c) => (c === said ? 0.8 : 0.1)),
      failure: i % 10 === 9 ? "damaged" : undefined,
    };
  });
  const isRight = ({ class: name, probabilities }: ClipPrediction): boolean =>
    classes[probabilities?.indexOf(0.8) ?? -1] === name;

  test("are of each class one that is right and one that is wrong, if there is one", () => {
    const chosen = chooseClips(clips, classes, 1);
    expect(chosen.map((clip) => [clip.class, isRight(clip)])).toEqual([
      ["a", true],
      ["a", false],
      ["b", true],
      ["c", true],
      ["c", false],
    ]);
    expect(chooseClips(clips, classes, 1)).toEqual(chosen);
    const others = [2, 3, 4].map((seed) => chooseClips(clips, classes, seed).map(({ path }) => path));
    expect(others.some((paths) => paths.join() !== chosen.map(({ path }) => path).join())).toBe(true);
  });

  test("are eight at most, right ones before wrong ones", () => {
    const many = Array.from({ length: 7 }, (_, c) => `class ${c}`);
    const all = many.flatMap((name, c) =>
      [c, (c + 1) % 7].map(
        (said, i): ClipPrediction => ({
          path: `${name}/${i}`,
          subject: undefined,
          class: name,
          probabilities: many.map((_name, k) => Number(k === said)),
          failure: undefined,
        }),
      ),
    );
    const chosen = chooseClips(all, many, 0);
    expect(chosen.filter(({ path }) => path.endsWith("/0"))).toHaveLength(7);
    expect(chosen).toHaveLength(8);
  });

  test("are none of no predictions", () => {
    expect(chooseClips([], classes, 0)).toEqual([]);
  });
});

describe("what is kept", () => {
  const folder = mkdtempSync(join(tmpdir(), "netc-attention-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const N = 2;
  const data = { resize: 36, flowBound: 8 };
  const model = modelOf(
    `block Net()(x: [N, C, H, W]) -> [N, 2]
default over x: f32[N, 3, 32, 32]
  = Conv(4, stride=4) @conv1 -> ReLU -> GlobalAvgPool -> Linear(2) @fc
model Two = Net() ×2 over spatial: f32[N, 3, 32, 32], temporal: f32[N, 4, 32, 32]
  with STIA(pool="conv-pool", reduction=1) at conv1 fuse Average`,
    { N },
  );
  const parameters = namedParameters(model);
  const job = {
    model,
    target: WASM_DEFAULT,
    open: openWasm,
    seed: 1,
    data,
    output: "softmax",
  } as const;
  const about = { graphHash: "g", step: 7, trained: true, note: "", classes: ["agree", "differ"], choice: "all" };
  const notes: string[] = [];
  let manifest: Manifest;
  let record: AttentionRecord | undefined;
  beforeAll(async () => {
    manifest = await makeSet(folder);
    const clips = [
      ...manifest.clips.slice(0, 3).map((clip) => ({ path: clip.path, file: join(folder, clip.path) })),
      { path: "gone.mp4", file: join(folder, "gone.mp4") },
    ];
    record = await attend(
      job,
      (path) => parameters.get(path),
      clips,
      about,
      (text) => notes.push(text),
    );
  });

  test("are the clips that can be read, whatever the batch; the others are named", () => {
    expect(record?.clips).toHaveLength(3);
    expect(record?.clips.map(({ path }) => path)).toEqual(manifest.clips.slice(0, 3).map(({ path }) => path));
    expect(notes).toEqual(["`gone.mp4` is not shown: there is no such file or folder"]);
    expect(record).toMatchObject({ format: "netc-attention", model: "Two", step: 7 });
    expect(record?.edges.map(({ name, queries, keys }) => [name, queries.size, keys.size])).toEqual([
      ["stia_conv1.to_spatial", [8, 8], [4, 4]],
      ["stia_conv1.to_temporal", [8, 8], [4, 4]],
    ]);
    const gate = parameters.get("stia_conv1.to_spatial.bn.weight") ?? new Float32Array();
    const mean = gate.reduce((sum, g) => sum + Math.abs(g), 0) / gate.length;
    expect(record?.edges[0]?.gate).toBeCloseTo(mean, 3);
  });

  test("is what the graph gives for the window that was loaded", async () => {
    const attended = { ...model, graph: attentionForm(model).graph };
    const inputs = programOf(model, WASM_DEFAULT).inputs.map((input) => {
      if (input.preprocess === undefined) throw new Error("an input without a recipe");
      const preprocess = trainedPreprocess(input.preprocess, data);
      return { ...input, shape: [1, ...input.shape.slice(1)], preprocess };
    });
    // The third clip is alone in the second batch.
    const path = manifest.clips[2]?.path ?? "";
    const loaded = await loadClip(join(folder, path), inputs);
    if (loaded.kind !== "clip") throw new Error(loaded.message);
    const batch = new Map(
      [...loaded.tensors].map(([name, tensor]) => {
        const twice = new Float32Array(tensor.length * N);
        twice.set(tensor);
        return [name, twice];
      }),
    );
    const outputs = onOracle(attended, batch, parameters);
    const kept = record?.clips[2];
    for (const map of kept?.maps ?? []) {
      const of = (what: string, count: number): number[] => [
        ...(outputs.get(`attention.${map.edge}.${what}`) ?? []).slice(0, count),
      ];
      const received = of("received", 16);
      expect(received.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 9);
      // Even attention would hide a mistake of order.
      expect(Math.max(...received)).toBeGreaterThan(1.3 * Math.min(...received));
      received.forEach((value, i) => expect((map.received[i] ?? 0) / 16).toBeCloseTo(value, 4));
      of("entropy", 64).forEach((nats, i) => expect(Math.log(map.spread?.[i] ?? 0)).toBeCloseTo(nats, 3));
      const bytes = Buffer.from(map.rows, "base64");
      of("rows", 64 * 16).forEach((weight, i) => {
        const peak = map.peaks[Math.floor(i / 16)] ?? 0;
        const read = (peak / 16) * ROW_RANGE ** ((bytes[i] ?? 0) / 255 - 1);
        expect(Math.abs(read - weight)).toBeLessThan(0.03 * weight + 1e-3);
      });
    }
    const [logits = new Float64Array()] = [outputs.get("output")];
    const odds = Math.exp((logits[0] ?? 0) - (logits[1] ?? 0));
    expect(kept?.probabilities[0]).toBeCloseTo(odds / (1 + odds), 4);
    expect(kept?.pictures.map(({ stream }) => stream)).toEqual(["spatial", "temporal"]);
  });

  test("is nothing for a model that attends nowhere", async () => {
    const plain = modelOf("model Plain(image: f32[N, 3, 32, 32]) = Conv(2) -> GlobalAvgPool -> Linear(2)", { N });
    expect(
      await attend(
        { ...job, model: plain },
        () => undefined,
        [],
        about,
        () => {},
      ),
    ).toBeUndefined();
  });
});
