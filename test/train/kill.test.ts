/** kill -9 while checkpoints are written, at twenty moments: the newest complete one is always there, and whole. */
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { beforeAll, expect, test } from "vitest";
import { randomOf } from "../../runtime/data/random.ts";
import { listCheckpoints, loadCheckpoint } from "../../runtime/train/checkpoint.ts";
import { playground } from "./tools.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const at = playground();
const built = join(at, "built");

beforeAll(() => {
  // Node 20 runs no TypeScript: the child and what it imports are built for it.
  const config = join(at, "tsconfig.json");
  writeFileSync(
    config,
    JSON.stringify({
      extends: join(root, "tsconfig.json"),
      compilerOptions: {
        noEmit: false,
        outDir: built,
        rootDir: root,
        allowImportingTsExtensions: false,
        typeRoots: [join(root, "node_modules/@types")],
        types: ["node"],
      },
      include: [],
      files: [join(root, "test/train/kill-child.ts")],
    }),
  );
  const { status, stdout } = spawnSync(
    process.execPath,
    [join(root, "node_modules/typescript/bin/tsc"), "-p", config],
    {
      encoding: "utf8",
    },
  );
  if (status !== 0) throw new Error(stdout);
  writeFileSync(join(built, "package.json"), '{"type":"module"}');
  symlinkSync(join(root, "node_modules"), join(built, "node_modules"));
});

/** Lets the child write for `milliseconds` after its first checkpoint; returns the steps that it said were done. */
async function writeAndKill(folder: string, first: number, milliseconds: number): Promise<readonly number[]> {
  const child = spawn(process.execPath, [join(built, "test/train/kill-child.js"), folder, String(first)]);
  let said = "";
  let failed = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    failed += text;
  });
  const closed = new Promise((done) => child.on("close", done));
  await new Promise<void>((begun) => {
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      said += text;
      begun();
    });
    child.on("close", () => begun());
  });
  await pause(milliseconds);
  child.kill("SIGKILL");
  await closed;
  if (failed !== "") throw new Error(failed);
  return said.trim().split("\n").map(Number);
}

test("twenty kills", async () => {
  const folder = join(at, "run");
  mkdirSync(folder);
  const random = randomOf(1, "kill");
  let next = 1;
  for (let kill = 0; kill < 20; kill++) {
    const done = await writeAndKill(folder, next, Math.floor(60 * random()));
    const loaded = await loadCheckpoint(folder);
    const { step } = loaded.record;
    // The last one may have been complete before it could be said.
    expect([done.at(-1), (done.at(-1) ?? 0) + 1]).toContain(step);
    for (const name of loaded.tensors.keys()) {
      const data = await loaded.read(name);
      expect(data.every((value) => value === step)).toBe(true);
    }
    await loaded.close();
    const { checkpoints, skipped } = await listCheckpoints(folder);
    expect(skipped).toEqual([]);
    expect(checkpoints.length).toBeLessThanOrEqual(3);
    next = step + 1;
  }
});
