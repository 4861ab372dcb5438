/** Run folders: nobody else's is touched, one process trains at a time, and a resumed run's metrics show no seam. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { encodeManifest, type Manifest } from "../../runtime/data/manifest.ts";
import type { MetricLine } from "../../runtime/train/records.ts";
import { createRun, findManifest, openRun, readMetrics, readRun } from "../../runtime/train/run-folder.ts";
import { messageOf, playground, runRecord } from "./tools.ts";

const at = realpathSync(playground());
const home = process.cwd();
let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(at, "in-"));
  process.chdir(folder);
});
afterEach(() => process.chdir(home));

const manifest: Manifest = { note: "SYNTHETIC: nobody", layout: "pain", classes: ["calm", "pain"], clips: [] };
const manifestText = encodeManifest(manifest);
const sources = [
  { path: "nets/pain.net", text: "import stia\n" },
  { path: "nets/lib/stia.net", text: "unit\n" },
];
const create = (path?: string, now = new Date(2026, 3, 12, 9, 5, 7)) =>
  createRun({ folder: path, record: runRecord, sources, manifest: manifestText, now });

const step = (number: number): MetricLine => ({
  kind: "step",
  stage: 0,
  epoch: Math.floor(number / 10),
  step: number,
  loss: 1 / number,
  norm: 1,
  rate: 0.1,
  seconds: 0.5,
  waited: 0,
});
const note = (number: number, text: string): MetricLine => ({ kind: "note", step: number, text });

describe("making one", () => {
  test("under a name of model and time, with all that it begins with", async () => {
    const run = await create();
    expect(run.path).toBe("runs/Pain-20260412-090507");
    expect(run.record.name).toBe("Pain-20260412-090507");
    expect(readRun(run.path)).toEqual(run.record);
    expect(readRun(run.path)).toEqual({ ...JSON.parse(JSON.stringify(runRecord)), name: run.record.name });
    expect(readFileSync(join(run.path, "sources/pain.net"), "utf8")).toBe("import stia\n");
    expect(readFileSync(join(run.path, "sources/lib/stia.net"), "utf8")).toBe("unit\n");
    expect(readMetrics(run.path)).toEqual([]);
    const hash = createHash("sha256").update(manifestText).digest("hex");
    expect(findManifest(run.path, hash)).toEqual(manifest);
    expect(findManifest(run.path, "0".repeat(64))).toBeUndefined();
    run.close();
    expect(readdirSync(run.path).sort()).toEqual(["metrics.jsonl", "run.json", "sources"]);
    expect(readdirSync("runs")).toEqual(["Pain-20260412-090507"]);
    // Others may read it.
    expect(statSync(run.path).mode & 0o777).toBe(0o777 & ~process.umask());
  });

  test("two that begin in the same second have different folders", async () => {
    const runs = await Promise.all([create(), create(), create()]);
    expect(runs.map(({ record }) => record.name).sort()).toEqual([
      "Pain-20260412-090507",
      "Pain-20260412-090507-2",
      "Pain-20260412-090507-3",
    ]);
    for (const run of runs) run.close();
  });

  test("in a folder that is empty, also through a link", async () => {
    mkdirSync("there");
    symlinkSync("there", "link");
    const run = await create("link");
    run.close();
    expect(existsSync("there/run.json")).toBe(true);
    expect(readRun("link").name).toBe("there");
  });

  test("never over something", async () => {
    mkdirSync("mine");
    writeFileSync("mine/thesis.txt", "all of it");
    writeFileSync("file", "");
    (await create("a")).close();
    expect(await messageOf(() => create("mine"))).toMatchInlineSnapshot(`
      "\`mine\` exists and is not the folder of a run: it is left as it is
      help: choose another folder for the run"
    `);
    expect(await messageOf(() => create("file"))).toMatchInlineSnapshot(`
      "\`file\` exists and is not a folder
      help: choose another folder for the run"
    `);
    expect(await messageOf(() => create("a"))).toMatchInlineSnapshot(`
      "\`a\` holds a run already
      help: resume that run, or choose another folder"
    `);
    expect(await messageOf(() => create("file/below"))).toMatchInlineSnapshot(
      `"cannot make \`file/below\`: a part of the path is a file"`,
    );
    expect(await messageOf(() => create(""))).toMatchInlineSnapshot(`"the run's folder has no name"`);
    expect(readdirSync(".").sort()).toEqual(["a", "file", "mine"]);
    expect(readdirSync("mine")).toEqual(["thesis.txt"]);
  });
});

describe("opening one", () => {
  test("what is no run", async () => {
    mkdirSync("other");
    expect(await messageOf(() => openRun("gone"))).toMatchInlineSnapshot(`
      "there is no \`gone\`
      help: give the folder that training made, for example below \`runs/\`"
    `);
    expect(await messageOf(() => openRun("other"))).toMatchInlineSnapshot(`
      "\`other\` is not the folder of a run: it has no run.json
      help: give the folder that training made, for example below \`runs/\`"
    `);
    writeFileSync("other/run.json", "{");
    expect(await messageOf(() => openRun("other"))).toMatchInlineSnapshot(`
      "\`other/run.json\` is not JSON: it was changed
      help: train the model anew"
    `);
    writeFileSync("other/run.json", "{}");
    expect(await messageOf(() => openRun("other"))).toContain("is not the record of a run");
    writeFileSync("other/run.json", '{"format":"netc-run","version":2}');
    expect(await messageOf(() => openRun("other"))).toContain("has a version that this netc does not know");
  });

  test("only one process trains in it", async () => {
    const first = await create("a");
    expect(await messageOf(() => openRun("a"))).toBe(
      [`process ${process.pid} is training in \`a\` already`, "help: wait for it, or end it; then resume"].join("\n"),
    );
    first.close();
    const second = await openRun("a");
    second.close();
    expect(readdirSync("a").filter((name) => name.startsWith("."))).toEqual([]);
  });

  test("of many that come at once, at most one gets in", async () => {
    (await create("a")).close();
    const results = await Promise.allSettled(Array.from({ length: 6 }, () => openRun("a")));
    const runs = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
    expect(runs.length).toBeLessThanOrEqual(1);
    for (const run of runs) run.close();
    (await openRun("a")).close();
  });

  test("the lock of a process that is gone is taken over", async () => {
    (await create("a")).close();
    const { pid } = spawnSync(process.execPath, ["-e", ""]);
    const alive = { pid: process.pid, host: hostname() };
    const gone = [
      { pid, host: hostname() },
      // The number is in use again: by a process that began at another time, or after another start of the machine.
      { ...alive, began: "1" },
      { ...alive, boot: "another" },
    ];
    for (const claim of gone) {
      writeFileSync("a/.lock-old", JSON.stringify(claim));
      (await openRun("a")).close();
      expect(existsSync("a/.lock-old")).toBe(false);
    }
  });

  test("a lock that cannot be judged from here is left alone", async () => {
    (await create("a")).close();
    writeFileSync("a/.lock-far", JSON.stringify({ pid: 1, host: "far-away" }));
    expect(await messageOf(() => openRun("a"))).toMatchInlineSnapshot(`
      "process 1 on \`far-away\` is training in \`a\` already
      help: if it does not run any more, remove \`a/.lock-far\`: from here this cannot be seen"
    `);
    writeFileSync("a/.lock-far", "{");
    expect(await messageOf(() => openRun("a"))).toMatchInlineSnapshot(`
      "\`a/.lock-far\` is not a lock that this netc can read
      help: if nobody trains in this folder, remove that file"
    `);
    expect(existsSync("a/.lock-far")).toBe(true);
  });
});

describe("metrics", () => {
  test("every line is in the file at once, and its length is known", async () => {
    const run = await create("a");
    for (const number of [1, 2]) run.append(step(number));
    expect(readMetrics("a")).toEqual([step(1), step(2)]);
    expect(run.metricsBytes()).toBe(statSync("a/metrics.jsonl").size);
    run.append({ ...step(3), loss: Number.NaN } as MetricLine);
    expect(readMetrics("a")[2]).toEqual({ ...step(3), loss: Number.NaN });
    run.sync();
    run.close();
  });

  test("a line that was cut short is no line, and goes when the run is opened", async () => {
    const run = await create("a");
    run.append(step(1));
    run.close();
    appendFileSync("a/metrics.jsonl", '{"kind":"st');
    expect(readMetrics("a")).toEqual([step(1)]);
    const again = await openRun("a");
    again.append(step(2));
    again.close();
    expect(readMetrics("a")).toEqual([step(1), step(2)]);
    writeFileSync("a/metrics.jsonl", "{}\n{\n");
    expect(await messageOf(() => readMetrics("a"))).toBe(
      "`a/metrics.jsonl`, line 2, is not JSON: it was changed\nhelp: remove that line",
    );
  });

  test("a run that was interrupted anywhere and resumed has those of one that never was", async () => {
    const line = fc.record({ after: fc.integer({ min: 0, max: 2 }), text: fc.string() });
    await fc.assert(
      fc.asyncProperty(fc.array(line, { minLength: 1, maxLength: 12 }), fc.nat(), fc.nat(), async (all, a, b) => {
        rmSync("a", { recursive: true, force: true });
        let number = 1;
        const lines = all.map(({ after, text }) => {
          number += after;
          return after === 0 ? note(number, text) : step(number);
        });
        const [checkpoint, end] = [a % lines.length, b % lines.length].sort((x, y) => x - y);
        const run = await create("a");
        let saved = { step: 0, metricsBytes: 0 };
        for (const [index, line] of lines.slice(0, (end ?? 0) + 1).entries()) {
          run.append(line);
          if (index === checkpoint) saved = { step: line.step, metricsBytes: run.metricsBytes() };
        }
        run.close();
        const again = await openRun("a");
        expect(again.cut(saved)).toBe((end ?? 0) - (checkpoint ?? 0));
        for (const line of lines.slice((checkpoint ?? 0) + 1)) again.append(line);
        again.close();
        expect(readFileSync("a/metrics.jsonl", "utf8")).toBe(lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
      }),
      { numRuns: 30 },
    );
  });

  test("where the file was edited since, the steps say where to cut", async () => {
    const run = await create("a");
    for (const number of [1, 2, 3, 4]) run.append(step(number));
    for (const metricsBytes of [10, 1e6, run.metricsBytes()]) {
      run.append(note(4, '"step":1'));
      run.cut({ step: 2, metricsBytes });
      expect(readMetrics("a")).toEqual([step(1), step(2)]);
      for (const number of [3, 4]) run.append(step(number));
    }
    expect(run.cut({ step: 0, metricsBytes: 0 })).toBe(4);
    expect(readFileSync("a/metrics.jsonl", "utf8")).toBe("");
    run.close();
  });

  test("another data set's manifest is kept beside the first", async () => {
    const run = await create("a");
    const other = encodeManifest({ ...manifest, note: "another" });
    run.keepManifest(other);
    run.keepManifest(other);
    expect(findManifest("a", createHash("sha256").update(other).digest("hex"))?.note).toBe("another");
    run.close();
  });
});
