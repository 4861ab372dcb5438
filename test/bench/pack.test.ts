/** The packed benchmark runs where there is no Node, from its folder alone. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const PACK = resolve("test/bench/pack.mjs");
let parent = "";
let folder = "";
beforeAll(() => {
  parent = mkdtempSync(join(tmpdir(), "netc-pack-"));
  folder = join(parent, "netc-bench");
  const { status, stderr } = spawnSync(process.execPath, [PACK, folder, "--no-archive"], { encoding: "utf8" });
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
});
afterAll(() => rmSync(parent, { recursive: true, force: true }));

/** Runs the packed benchmark in an environment that has only what is given. */
function bench(args: readonly string[], env: Readonly<Record<string, string>>) {
  return spawnSync("/bin/sh", [join(folder, "run.sh"), ...args], { cwd: parent, encoding: "utf8", env: { ...env } });
}

describe("the packed benchmark", { timeout: 180_000 }, () => {
  test("runs on WASM and on SwiftShader without anything on the path", () => {
    // The driver of the test suite is no part of the package: a real machine has its own.
    const env = { PATH: parent, NODE_PATH: resolve("node_modules") };
    expect(spawnSync("/bin/sh", ["-c", "command -v node"], { env }).status).not.toBe(0);
    const args = ["--json", "--quick", "--workloads", "nonlocal", "--adapter", "swiftshader"];
    const { stdout, stderr } = bench(args, env);
    expect(stderr).not.toContain("failed");
    const { rows } = JSON.parse(stdout) as { rows: readonly { workload: string; device: string }[] };
    expect(rows.map(({ workload, device }) => `${workload} ${device}`)).toEqual(["nonlocal wasm", "nonlocal webgpu"]);
  });

  test("says what there is to be said, and asks the machine's own adapter", () => {
    expect(bench(["--help"], { PATH: parent }).stdout).toContain("--quick");
    const { stderr } = bench(["--quick", "--workloads", "nonlocal", "--devices", "webgpu"], { PATH: parent });
    // No adapter here, or a real one: in any case not one of ours.
    expect(stderr).not.toContain("swiftshader");
    expect(stderr).toContain("nonlocal on webgpu");
  });

  test("holds no sources, tests or files of other systems", () => {
    const files = readdirSync(folder, { recursive: true, encoding: "utf8" });
    expect(files.filter((file) => /\.(ts|map)$/.test(file))).toEqual([]);
    expect(files.filter((file) => file.endsWith("dawn.node"))).toHaveLength(1);
  });

  test("leaves alone a folder that is not its own", () => {
    const other = join(parent, "other");
    spawnSync("mkdir", [other]);
    writeFileSync(join(other, "mine.txt"), "mine");
    const { status, stderr } = spawnSync(process.execPath, [PACK, other, "--no-archive"], { encoding: "utf8" });
    expect(status).toBe(1);
    expect(stderr).toContain("is there and is none of ours");
    expect(existsSync(join(other, "mine.txt"))).toBe(true);
  });
});
