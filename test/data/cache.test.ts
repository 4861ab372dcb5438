/** The cache: what is cut short is found out, the bound is kept, several threads and processes do each other no harm. */
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import {
  chmodSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { type Cache, type CacheOptions, createCache, defaultCache, entryKey } from "../../runtime/data/loader/cache.ts";
import { openFileIndex } from "../../runtime/data/loader/files.ts";

const root = mkdtempSync(join(tmpdir(), "netc-cache-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let folders = 0;
const freshFolder = (): string => join(root, String(folders++));
const open = (options: CacheOptions, warn: (message: string) => void = () => {}): Cache =>
  createCache({ fs, join, crc32, unique: `test-${folders++}` }, options, warn);

/** Two windows over three pairs of frames, 4 x 2 pixels, all bytes made from `seed`. */
function entry(seed: number) {
  const plane = (n: number, k: number): Uint8Array =>
    Uint8Array.from({ length: n }, (_, i) => (seed * 31 + k * 7 + i) % 256);
  return {
    key: entryKey({ seed }),
    header: {
      frames: 9,
      width: 4,
      height: 2,
      fields: 2,
      starts: [3, 4],
      pairAt: [0, 1],
      pairs: 3,
      flow: "tvl1" as const,
      decoder: "test",
      warnings: ["a warning – with a dash"],
    },
    rgb: [plane(24, 0), plane(24, 1)],
    flow: [plane(16, 2), plane(16, 3), plane(16, 4)],
  };
}
function store(cache: Cache, seed: number): string {
  const { key, header, rgb, flow } = entry(seed);
  cache.store(key, header, rgb, flow);
  return key;
}
const entries = (folder: string): string[] =>
  readdirSync(join(folder, "entries"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.includes("."))
    .map((name) => join(folder, "entries", name));
const bytesIn = (folder: string): number => entries(folder).reduce((sum, file) => sum + statSync(file).size, 0);

describe("an entry", () => {
  test("comes back as it was stored, window by window", () => {
    const folder = freshFolder();
    const key = store(open({ folder, bound: 1e6 }), 1);
    const cache = open({ folder, bound: 1e6 });
    const header = cache.header(key);
    const { rgb, flow, header: stored } = entry(1);
    expect(header).toMatchObject(stored);
    if (header === undefined) throw new Error("absent");
    for (const index of [0, 1])
      expect(cache.window(key, header, index)).toEqual({
        rgb: rgb[index],
        flow: Uint8Array.from(flow.slice(index, index + 2).flatMap((planes) => [...planes])),
      });
    expect(cache.header(entryKey({ seed: 2 }))).toBeUndefined();
  });

  test("that is cut short anywhere, or has a wrong byte, is absent, and can be made again", () => {
    const folder = freshFolder();
    const cache = open({ folder, bound: 1e6 });
    const key = store(cache, 1);
    const [file = ""] = entries(folder);
    const whole = readFileSync(file);
    fc.assert(
      fc.property(fc.integer({ min: 0, max: whole.length - 1 }), fc.boolean(), (at, cut) => {
        writeFileSync(file, whole);
        if (cut) truncateSync(file, at);
        else {
          const broken = openSync(file, "r+");
          writeSync(broken, Uint8Array.of((whole[at] ?? 0) ^ 0x40), 0, 1, at);
          closeSync(broken);
        }
        const header = cache.header(key);
        const windows = header === undefined ? [] : [0, 1].map((index) => cache.window(key, header, index));
        expect(windows.length === 0 || windows.includes(undefined)).toBe(true);
        expect(entries(folder)).toEqual([]);
        store(cache, 1);
        const again = cache.header(key);
        expect(again !== undefined && cache.window(key, again, 1)).toMatchObject({ rgb: entry(1).rgb[1] });
      }),
      { numRuns: 60 },
    );
  });

  test("depends on everything in its key, in any order", () => {
    expect(entryKey({ a: 1, b: [2] })).toBe(entryKey({ b: [2], a: 1 }));
    expect(entryKey({ a: 1, b: [2] })).not.toBe(entryKey({ a: 1, b: [3] }));
  });
});

describe("the bound", () => {
  const one = ((): number => {
    const folder = freshFolder();
    store(open({ folder, bound: 1e6 }), 1);
    return bytesIn(folder);
  })();

  test("is kept by removing what was used the longest ago", () => {
    const folder = freshFolder();
    const bound = 10.5 * one;
    const keys = Array.from({ length: 10 }, (_, seed) => store(open({ folder, bound }), seed));
    for (const [i, key] of keys.entries()) {
      const file = entries(folder).find((path) => path.includes(key)) ?? "";
      utimesSync(file, 1000 + i, 1000 + i);
    }
    const cache = open({ folder, bound });
    expect(cache.header(keys[0] ?? "")).toBeDefined(); // used just now
    const key = store(cache, 100);
    expect(bytesIn(folder)).toBeLessThanOrEqual(bound);
    expect([keys[0], keys[9], key].map((name) => cache.header(name ?? "") !== undefined)).toEqual([true, true, true]);
    expect(cache.header(keys[1] ?? "")).toBeUndefined();
  });

  test("holds while several write at once", () => {
    const folder = freshFolder();
    const bound = 40 * one;
    const writers = [0, 1, 2].map(() => open({ folder, bound }));
    for (let round = 0; round < 100; round++)
      for (const [w, writer] of writers.entries()) {
        store(writer, 1000 * w + round);
        // Each counts again after a twentieth of the bound, which is how far it can be off.
        expect(bytesIn(folder)).toBeLessThan(bound * 1.15);
      }
    expect(entries(folder).length).toBeGreaterThan(25);
    expect(entries(folder).every((file) => file.endsWith(".entry"))).toBe(true);
  });

  test("is not for entries that are larger than it", () => {
    const folder = freshFolder();
    const cache = open({ folder, bound: one - 1 });
    expect(cache.header(store(cache, 1))).toBeUndefined();
    expect(cache.writable()).toBe(true);
  });

  test("what a killed process left is removed after a day", () => {
    const folder = freshFolder();
    const key = store(open({ folder, bound: 1e6 }), 1);
    const part = join(folder, "entries", key.slice(0, 2), `${key}.entry.9-9-9.part`);
    writeFileSync(part, "half");
    store(open({ folder, bound: 1e6 }), 2);
    expect(entries(folder)).toContain(part);
    utimesSync(part, 1000, 1000);
    store(open({ folder, bound: 1e6 }), 3);
    expect(entries(folder)).not.toContain(part);
  });
});

test("a folder that cannot be written to turns the cache off with one warning", () => {
  const folder = freshFolder();
  mkdirSync(folder);
  writeFileSync(join(folder, "entries"), "a file where a folder should be");
  const said: string[] = [];
  const cache = open({ folder, bound: 1e6 }, (message) => said.push(message));
  expect(cache.header(store(cache, 1))).toBeUndefined();
  store(cache, 2);
  expect(cache.writable()).toBe(false);
  expect(said).toEqual([expect.stringContaining(`decoded frames are no longer kept in \`${folder}\`: `)]);
});

test("a full disk turns the cache off with one warning and leaves nothing behind", () => {
  const folder = freshFolder();
  const said: string[] = [];
  let writes = 0;
  const full = {
    ...fs,
    writeSync: (file: number, data: Uint8Array, at: number, length: number): number => {
      if (++writes > 2) throw Object.assign(new Error("ENOSPC: no space left on device"), { code: "ENOSPC" });
      return fs.writeSync(file, data, at, length);
    },
  };
  const cache = createCache(
    { fs: { ...full, writeSync: full.writeSync as typeof fs.writeSync }, join, crc32, unique: "full" },
    { folder, bound: 1e6 },
    (message) => said.push(message),
  );
  store(cache, 1);
  store(cache, 2);
  expect(said).toEqual([`decoded frames are no longer kept in \`${folder}\`: the disk is full`]);
  expect(entries(folder)).toEqual([]);
});

test("a process that is killed while it writes leaves no broken entry", async () => {
  const folder = freshFolder();
  const { header, rgb, flow } = entry(1);
  // The same function as in a thread, writing as fast as it can.
  const program = `
    const fs = require("node:fs");
    const plain = (list) => list.map((bytes) => Uint8Array.from(bytes));
    const cache = (${createCache.toString()})(
      { fs, join: require("node:path").join, crc32: require("node:zlib").crc32, unique: "child" },
      { folder: ${JSON.stringify(folder)}, bound: 1e9 },
      () => {},
    );
    const rgb = plain(${JSON.stringify(rgb.map((bytes) => [...bytes]))});
    const flow = plain(${JSON.stringify(flow.map((bytes) => [...bytes]))});
    for (let i = 0; ; i++)
      cache.store(i.toString(16).padStart(64, "0"), ${JSON.stringify(header)}, rgb, flow);
  `;
  for (let round = 0; round < 3; round++) {
    const child = spawn(process.execPath, ["-e", program], { stdio: "ignore" });
    await new Promise((resolve) => setTimeout(resolve, 250 + 40 * round));
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await gone;
  }
  const cache = open({ folder, bound: 1e9 });
  const names = entries(folder).filter((file) => file.endsWith(".entry"));
  expect(names.length).toBeGreaterThan(10);
  for (const file of names) {
    const key = /(\w+)\.entry$/.exec(file)?.[1] ?? "";
    const found = cache.header(key);
    expect(found !== undefined && cache.window(key, found, 1)).toMatchObject({ rgb: rgb[1] });
  }
});

test("lies where the environment says", () => {
  expect(defaultCache({ NETC_CACHE: "/a", XDG_CACHE_HOME: "/b" }).folder).toBe("/a");
  expect(defaultCache({ XDG_CACHE_HOME: "/b" })).toEqual({ folder: join("/b", "netc"), bound: 20 * 2 ** 30 });
  expect(defaultCache({}).folder).toMatch(/\.cache.netc$/);
});

describe("the index of files", () => {
  const hashOf = async (folder: string, path: string): Promise<string | undefined> =>
    (await openFileIndex(folder).identify(path))?.hash;

  test("hashes a file once, and again when it has changed", async () => {
    const folder = freshFolder();
    const path = join(root, "clip.bin");
    writeFileSync(path, "one");
    utimesSync(path, 1000, 1000);
    const first = await hashOf(folder, path);
    // Changed behind its back: the same size and time mean that nobody looks again.
    writeFileSync(path, "two");
    utimesSync(path, 1000, 1000);
    expect(await hashOf(folder, path)).toBe(first);
    utimesSync(path, 2000, 2000);
    expect(await hashOf(folder, path)).not.toBe(first);
    expect(readFileSync(join(folder, "files.jsonl"), "utf8").split("\n").length).toBe(3);
    expect(await hashOf(folder, join(root, "absent"))).toBeUndefined();
  });

  test("survives a line that was cut off, and a folder that it cannot write to", async () => {
    const folder = freshFolder();
    mkdirSync(folder);
    const path = join(root, "clip.bin");
    const hash = await hashOf(folder, path);
    writeFileSync(join(folder, "files.jsonl"), `{"path":"${path}","si\n\nnull\n`);
    expect(await hashOf(folder, path)).toBe(hash);
    const closed = freshFolder();
    mkdirSync(closed);
    chmodSync(closed, 0o500);
    expect(await hashOf(closed, path)).toBe(hash);
    chmodSync(closed, 0o700);
  });

  test("is written again without what is outdated", async () => {
    const folder = freshFolder();
    mkdirSync(folder);
    const line = (changed: number): string => JSON.stringify({ path: "/x", size: 1, changed, sha256: "0" });
    writeFileSync(join(folder, "files.jsonl"), Array.from({ length: 2000 }, (_, i) => `${line(i)}\n`).join(""));
    openFileIndex(folder);
    expect(readFileSync(join(folder, "files.jsonl"), "utf8")).toBe(`${line(1999)}\n`);
  });
});
