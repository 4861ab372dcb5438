/** Checkpoints: what is written is read again bit for bit, and nothing that breaks on the way takes an older one along. */
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { listCheckpoints, loadCheckpoint, type SaveOptions, saveCheckpoint } from "../../runtime/train/checkpoint.ts";
import { type Disk, realDisk } from "../../runtime/train/disk.ts";
import { elements, messageOf, numbersOf, playground, recordAt, SHAPES, stateAt, stepIn } from "./tools.ts";

const at = playground();
const run = (): string => mkdtempSync(join(at, "run-"));
const save = (folder: string, step: number, options: SaveOptions = {}, best?: number) =>
  saveCheckpoint(
    folder,
    recordAt(step, best === undefined ? {} : { best: { score: 0.5, step: best } }),
    stateAt(step),
    options,
  );
const names = (folder: string): string[] => readdirSync(join(folder, "checkpoints")).sort();
/** A message without the folder that the test happened to get. */
const plain = (text: string): string => text.replaceAll(at, "").replaceAll(/run-\w{6}/g, "RUN");
const errorOf = async (work: () => unknown): Promise<string> => plain(await messageOf(work));

function flip(file: string, byte: number): void {
  const bytes = readFileSync(file);
  bytes[byte] = (bytes[byte] ?? 0) ^ 1;
  writeFileSync(file, bytes);
}

describe("a round trip", () => {
  test("gives the record and every bit of every tensor", async () => {
    const folder = run();
    const record = recordAt(12, {
      counters: { "10": 1, order: 2 ** 53 - 1, "2": 0.1 },
      best: { score: 1 / 3, step: 10 },
      stop: { best: 1 / 3, bad: 2 },
      plateau: { factor: 0.1, best: 1e-300, bad: 1 },
    });
    await saveCheckpoint(folder, record, stateAt(12));
    const loaded = await loadCheckpoint(folder);
    expect(loaded.record).toEqual(record);
    expect([...loaded.tensors.values()].map(({ name, shape }) => ({ name, shape }))).toEqual(SHAPES);
    expect(await stepIn(loaded)).toBe(12);
    // The folder of a checkpoint is as good as that of its run.
    expect(await stepIn(await loadCheckpoint(join(folder, "checkpoints/step-00000012")))).toBe(12);
  });

  test("holds for any shapes", async () => {
    const shapes = fc.array(fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 4 }), { minLength: 0, maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(shapes, async (all) => {
        const folder = run();
        const layout = all.map((shape, i) => ({ name: i % 2 === 0 ? `layer${i}.weight` : `@v.größe${i}`, shape }));
        await saveCheckpoint(folder, recordAt(3), stateAt(3, layout));
        const loaded = await loadCheckpoint(folder);
        expect([...loaded.tensors.keys()].length).toBe(layout.length);
        expect(await stepIn(loaded)).toBe(3);
      }),
      { numRuns: 20 },
    );
  });

  test("tensors larger than one write come whole, from shared memory too", async () => {
    const folder = run();
    const length = 2 * 1024 * 1024 + 3;
    const data = new Float32Array(new SharedArrayBuffer(4 * length));
    data.set(numbersOf("big", length, 5));
    const layout = [{ name: "big", shape: [length] }];
    await saveCheckpoint(folder, recordAt(5), { layout, tensors: [{ name: "big", shape: [length], data }] });
    expect(await stepIn(await loadCheckpoint(folder))).toBe(5);
  });

  test("the state is a safetensors file of the length and hash that the record says", async () => {
    const folder = run();
    await save(folder, 1);
    const file = readFileSync(join(folder, "checkpoints/step-00000001/state.safetensors"));
    const { checkpoint } = JSON.parse(
      readFileSync(join(folder, "checkpoints/step-00000001/checkpoint.json"), "utf8"),
    ) as { checkpoint: { state: unknown } };
    expect(checkpoint.state).toEqual({ bytes: file.length, sha256: createHash("sha256").update(file).digest("hex") });
    const header = JSON.parse(file.subarray(8, 8 + Number(file.readBigUInt64LE(0))).toString("utf8")) as object;
    expect(Object.keys(header)).toEqual(["__metadata__", ...SHAPES.map(({ name }) => name)]);
  });
});

describe("a state that is not what it announces is an error of ours, and leaves nothing behind", () => {
  const data = new Float32Array(2);
  test.each([
    ["another name", [{ name: "b", shape: [2], data }], "internal: the state announces a where b comes"],
    ["another shape", [{ name: "a", shape: [1, 2], data }], "internal: the state announces a where a comes"],
    ["too few", [], "internal: the state ends after 0 of 1 tensors"],
    [
      "too many",
      [
        { name: "a", shape: [2], data },
        { name: "b", shape: [2], data },
      ],
      "internal: the state announces its end where b comes",
    ],
    [
      "a wrong length",
      [{ name: "a", shape: [2], data: new Float32Array(3) }],
      "internal: a has 3 numbers for the shape [2]",
    ],
  ])("%s", async (_, tensors, message) => {
    const folder = run();
    const layout = [{ name: "a", shape: [2] }];
    expect(await messageOf(() => saveCheckpoint(folder, recordAt(1), { layout, tensors }))).toContain(message);
    expect(names(folder)).toEqual([]);
  });

  test("a number of the record that JSON has no word for", async () => {
    const folder = run();
    const record = recordAt(1, { best: { score: Number.NaN, step: 1 } });
    expect(await messageOf(() => saveCheckpoint(folder, record, stateAt(1)))).toContain(
      "internal: score of a checkpoint is NaN",
    );
  });
});

describe("which one", () => {
  test("the latest, the best, one of a step", async () => {
    const folder = run();
    for (const step of [10, 20, 30]) await save(folder, step, {}, 20);
    expect(await stepIn(await loadCheckpoint(folder))).toBe(30);
    expect(await stepIn(await loadCheckpoint(folder, "best"))).toBe(20);
    expect(await stepIn(await loadCheckpoint(folder, 10))).toBe(10);
    expect((await listCheckpoints(folder)).checkpoints.map(({ record }) => record.step)).toEqual([30, 20, 10]);
    expect(await errorOf(() => loadCheckpoint(folder, 11))).toBe(
      "`/RUN` has no complete checkpoint of step 11\nhelp: there are checkpoints of the steps 30, 20, 10",
    );
  });

  test("no best one where no epoch was measured", async () => {
    const folder = run();
    await save(folder, 10);
    expect(await errorOf(() => loadCheckpoint(folder, "best"))).toMatchInlineSnapshot(`
      "no epoch of \`/RUN\` was measured before its checkpoints were written: none is the best
      help: take the latest, of step 10"
    `);
  });

  test("another one does not stand in for the best", async () => {
    const folder = run();
    for (const step of [10, 20, 30]) await save(folder, step, {}, 20);
    flip(join(folder, "checkpoints/step-00000020/state.safetensors"), 550);
    expect(await errorOf(() => loadCheckpoint(folder, "best"))).toMatchInlineSnapshot(`
      "\`/RUN\` has no complete checkpoint of its best epoch, step 20; \`step-00000020\`: state.safetensors does not agree with its SHA-256: some of its bytes were changed
      help: there are checkpoints of the steps 30, 10"
    `);
    expect(await stepIn(await loadCheckpoint(folder))).toBe(30);
  });

  test("nothing to load", async () => {
    const folder = run();
    expect(await errorOf(() => loadCheckpoint(folder))).toMatchInlineSnapshot(`
      "\`/RUN\` has no checkpoint
      help: it is not the folder of a run, or was ended before its first checkpoint: train it anew"
    `);
    mkdirSync(join(folder, "checkpoints"));
    expect(await errorOf(() => loadCheckpoint(folder))).toMatchInlineSnapshot(`
      "\`/RUN\` has no complete checkpoint
      help: train it anew"
    `);
    expect(await errorOf(() => loadCheckpoint(join(folder, "other")))).toMatchInlineSnapshot(`
      "there is no \`/RUN/other\`
      help: give the folder of a run, or of one of its checkpoints"
    `);
    expect(await listCheckpoints(join(folder, "other"))).toEqual({ checkpoints: [], skipped: [] });
  });

  test("after going back, the newest is the one written last, not that of the last step", async () => {
    const folder = run();
    for (const step of [10, 20, 30]) await save(folder, step);
    await save(folder, 15);
    expect(await stepIn(await loadCheckpoint(folder))).toBe(15);
    expect(names(folder)).toEqual(["step-00000015", "step-00000020", "step-00000030"]);
  });
});

describe("what stays", () => {
  test("the newest three and the best", async () => {
    const folder = run();
    for (const step of [10, 20, 30, 40, 50, 60]) await save(folder, step, {}, 20);
    expect(names(folder)).toEqual(["step-00000020", "step-00000040", "step-00000050", "step-00000060"]);
    const { removed } = await save(folder, 70, { keep: 1 }, 60);
    expect([...removed].sort()).toEqual(["step-00000020", "step-00000040", "step-00000050"]);
    expect(names(folder)).toEqual(["step-00000060", "step-00000070"]);
  });

  test("nothing is removed before the next one is on the disk", async () => {
    const folder = run();
    for (const step of [10, 20]) await save(folder, step, { keep: 2 });
    const events: string[] = [];
    const watched: Disk = {
      ...realDisk,
      async rename(from, to) {
        events.push(`rename to ${to.replace(/^.*\//, "")}`);
        await realDisk.rename(from, to);
      },
      async syncFolder(path) {
        events.push(`sync ${path.replace(/^.*\//, "").replace(/-\w{6}$/, "-X")}`);
        await realDisk.syncFolder(path);
      },
      async remove(path) {
        events.push(`remove ${path.replace(/^.*\//, "")}`);
        await realDisk.remove(path);
      },
    };
    await save(folder, 30, { keep: 2, disk: watched });
    expect(events).toEqual([
      "sync .step-00000030-X",
      "rename to step-00000030",
      "sync checkpoints",
      "rename to .removed-step-00000010",
      "remove .removed-step-00000010",
    ]);
  });

  test("broken ones do not count, and are left as they are", async () => {
    const folder = run();
    for (const step of [10, 20]) await save(folder, step);
    truncateSync(join(folder, "checkpoints/step-00000020/state.safetensors"), 100);
    await save(folder, 30, { keep: 2 });
    expect(names(folder)).toEqual(["step-00000010", "step-00000020", "step-00000030"]);
  });

  test("what cannot be removed is a warning", async () => {
    const folder = run();
    await save(folder, 10);
    const stubborn: Disk = {
      ...realDisk,
      remove: () => Promise.reject(Object.assign(new Error("x"), { code: "EIO" })),
    };
    const { warnings } = await save(folder, 20, { keep: 1, disk: stubborn });
    expect(warnings.map(plain)).toEqual([
      "cannot remove the older checkpoint `/RUN/checkpoints/step-00000010`: the disk reports an error",
    ]);
    await save(folder, 30, { keep: 1 });
    expect(names(folder)).toEqual(["step-00000030"]);
  });
});

describe("broken checkpoints are passed over, and the reason is said", () => {
  const STATE = "state.safetensors";
  const RECORD = "checkpoint.json";
  const breakages: readonly (readonly [string, (folder: string) => void])[] = [
    ["a state cut short", (folder) => truncateSync(join(folder, STATE), 200)],
    ["no state", (folder) => renameSync(join(folder, STATE), join(folder, "x"))],
    ["no record", (folder) => renameSync(join(folder, RECORD), join(folder, "x"))],
    ["a record cut short", (folder) => truncateSync(join(folder, RECORD), 200)],
    ["an empty record", (folder) => truncateSync(join(folder, RECORD), 0)],
    [
      "a state that is a folder",
      (folder) => {
        renameSync(join(folder, STATE), join(folder, "x"));
        mkdirSync(join(folder, STATE));
      },
    ],
    ["a number changed in the record", (folder) => edit(folder, '"epoch": 2', '"epoch": 3')],
    ["a record of another kind", (folder) => edit(folder, "netc-checkpoint", "netc-program")],
    ["a record of a later version", (folder) => edit(folder, '"version": 1', '"version": 2')],
  ];
  function edit(folder: string, from: string, to: string): void {
    const text = readFileSync(join(folder, RECORD), "utf8");
    if (!text.includes(from)) throw new Error(`nothing to change: ${text}`);
    writeFileSync(join(folder, RECORD), text.replace(from, to));
  }

  test.each(breakages)("%s", async (_, damage) => {
    const folder = run();
    for (const step of [10, 20]) await save(folder, step);
    damage(join(folder, "checkpoints/step-00000020"));
    const loaded = await loadCheckpoint(folder);
    expect(await stepIn(loaded)).toBe(10);
    expect(loaded.skipped.map(({ folder, reason }) => `${plain(folder)}: ${reason}`).join("\n")).toMatchSnapshot();
    expect(await errorOf(() => loadCheckpoint(folder, 20))).toContain("/RUN` has no complete checkpoint of step 20; ");
    expect(await errorOf(() => loadCheckpoint(join(folder, "checkpoints/step-00000020")))).toMatchSnapshot();
    // It goes on from there: the broken one gives its place to a whole one.
    await save(folder, 20);
    expect((await listCheckpoints(folder)).skipped).toEqual([]);
    expect(names(folder)).toEqual(["step-00000010", "step-00000020"]);
  });

  test("any byte of either file", async () => {
    const folder = run();
    for (const step of [10, 20]) await save(folder, step);
    const place = join(folder, "checkpoints/step-00000020");
    for (const file of [STATE, RECORD]) {
      const good = readFileSync(join(place, file));
      // Every 13th, which meets lengths, names, numbers and hashes.
      for (let byte = 0; byte < good.length; byte += 13) {
        flip(join(place, file), byte);
        const loaded = await loadCheckpoint(folder);
        // A blank of the record's indentation may become another one: then nothing has changed.
        const step = await stepIn(loaded);
        if (file === STATE) expect({ byte, step }).toEqual({ byte, step: 10 });
        else if (step === 20) expect({ byte, was: good[byte] }).toSatisfy(({ was }) => was === 10 || was === 32);
        writeFileSync(join(place, file), good);
      }
    }
  });

  test("none is left", async () => {
    const folder = run();
    for (const step of [10, 20]) await save(folder, step);
    truncateSync(join(folder, "checkpoints/step-00000010", STATE), 100);
    flip(join(folder, "checkpoints/step-00000020", STATE), 500);
    expect(await errorOf(() => loadCheckpoint(folder))).toMatchInlineSnapshot(`
      "\`/RUN\` has no complete checkpoint; \`step-00000010\`: state.safetensors has 100 bytes instead of 604: it was cut short or changed; \`step-00000020\`: state.safetensors does not agree with its SHA-256: some of its bytes were changed
      help: train it anew"
    `);
    expect(await errorOf(() => loadCheckpoint(folder, "best"))).toContain("was measured before");
  });
});

/** Lets `count` operations happen and no more, as if the machine went down; or fails one of them, as a full disk does. */
function failing(count: number, kind: "crash" | "full"): { readonly disk: Disk; readonly used: () => number } {
  let used = 0;
  const once = async <T>(work: () => Promise<T>): Promise<T> => {
    const fails = kind === "crash" ? used >= count : used === count;
    used++;
    if (fails) throw Object.assign(new Error("ENOSPC: no space left on device"), { code: "ENOSPC" });
    return work();
  };
  const disk: Disk = {
    temporaryFolder: (prefix) => once(() => realDisk.temporaryFolder(prefix)),
    async create(path) {
      const sink = await once(() => realDisk.create(path));
      return {
        write: (bytes) => once(() => sink.write(bytes)),
        async finish() {
          // A dead process has no open files either.
          await once(() => sink.finish()).catch(async (error: unknown) => {
            await sink.abandon();
            throw error;
          });
        },
        abandon: () => sink.abandon(),
      };
    },
    rename: (from, to) => once(() => realDisk.rename(from, to)),
    remove: (path) => once(() => realDisk.remove(path)),
    syncFolder: (path) => once(() => realDisk.syncFolder(path)),
    list: (path) => once(() => realDisk.list(path)),
  };
  return { disk, used: () => used };
}

describe("whatever operation is the last", () => {
  test.each(["crash", "full"] as const)(
    "%s: a complete checkpoint is there, and the next one can be written",
    async (kind) => {
      for (const step of [20, 30]) {
        // Step 20 is written a second time, step 30 for the first.
        for (let count = 0; ; count++) {
          const folder = run();
          for (const earlier of [10, 20]) await save(folder, earlier, { keep: 2 });
          const { disk, used } = failing(count, kind);
          let failed = false;
          const saved = await save(folder, step, { keep: 2, disk }).catch(() => {
            failed = true;
          });
          expect([20, step]).toContain(await stepIn(await loadCheckpoint(folder)));
          if (!failed) expect(await stepIn(await loadCheckpoint(folder))).toBe(step);
          // Half-written folders never look like checkpoints.
          expect((await listCheckpoints(folder)).skipped).toEqual([]);
          await save(folder, 40, { keep: 1 });
          expect(names(folder)).toEqual(["step-00000040"]);
          if (saved?.warnings.length === 0 && used() <= count) break;
          expect(count).toBeLessThan(100);
        }
      }
    },
  );

  test("a full disk says what it needed, what is there, and what to do", async () => {
    const folder = run();
    await save(folder, 10);
    const full: Disk = {
      ...realDisk,
      async create(path) {
        const sink = await realDisk.create(path);
        return {
          ...sink,
          write: () => Promise.reject(Object.assign(new Error("ENOSPC"), { code: "ENOSPC" })),
        };
      },
    };
    expect(await errorOf(() => save(folder, 20, { disk: full }))).toMatchInlineSnapshot(`
      "cannot save the checkpoint of step 20 (0.2 KiB) in \`/RUN/checkpoints\`: the disk is full
      help: earlier checkpoints are as they were; the newest is \`step-00000010\`
      help: free some space, or make the folder writable, and resume the run"
    `);
    expect(names(folder)).toEqual(["step-00000010"]);
    expect(await errorOf(() => save(run(), 20, { disk: full }))).toContain("help: no earlier checkpoint was written");
  });

  test("the folder of a run that is not there", async () => {
    const folder = join(run(), "gone");
    expect(await errorOf(() => save(folder, 1))).toContain("there is no such file or folder");
    expect(existsSync(folder)).toBe(false);
  });
});

test("sizes of the test's shapes", () => {
  expect(SHAPES.map(({ shape }) => elements(shape))).toEqual([15, 7, 1, 0, 15, 1]);
});
