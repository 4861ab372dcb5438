/** `--tune`: what is tried and kept, and where it can be asked for. */
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { netc, playground, words } from "./command.ts";

const { at, write } = playground();
write(
  "net.net",
  "model Small(x: f32[N, 16, 28, 28]) = Conv(32) @conv1 -> ReLU -> Conv(32) @conv2 -> GlobalAvgPool -> Linear(4) @fc\n",
);

describe("--tune", () => {
  test("tries plans once and knows them afterwards, also beside a damaged file", async () => {
    const env = { NETC_CACHE: join(at, "cache") };
    const profile = ["profile", "net.net", "--device", "wasm", "--rounds", "1"];
    const first = await netc([...profile, "--tune", "20"], { cwd: at, env });
    expect(first.code).toBe(0);
    expect(first.stdout).toMatch(
      /^tuned 2 convolutions, \d with another form.*; [1-9]\d* kernels, \d+ with another plan/m,
    );
    const plans = join(at, "cache/plans");
    const [book = ""] = readdirSync(plans);
    expect(readdirSync(plans)).toEqual([book]);
    const again = await netc([...profile, "--tune", "20"], { cwd: at, env });
    expect(again.code).toBe(0);
    expect(again.stdout).not.toContain("tuned");
    writeFileSync(join(plans, book), "{ damaged");
    const known = await netc([...profile, "--tune", "0"], { cwd: at, env });
    expect(known.code).toBe(0);
    expect(known.stdout).toContain("Small, batch 1");
  });

  test.each([
    [
      ["profile", "net.net", "--tune", "soon"],
      "`--tune <seconds>` cannot be `soon`: a number of seconds from 0 up is wanted",
    ],
    [
      ["profile", "net.net", "--tune", "-1"],
      "`--tune <seconds>` cannot be `-1`: a number of seconds from 0 up is wanted",
    ],
    [
      ["compile", "net.net", "-o", "out", "--tune", "1"],
      "`--tune` tries plans on this device, and the program is for another",
    ],
  ])("%j is a mistake", async (args, message) => {
    const ran = await netc(args, { cwd: at });
    expect(ran.code).toBe(2);
    expect(words(ran)).toContain(message);
  });

  test("of a compiled program comes too late", async () => {
    expect((await netc(["compile", "net.net", "-o", "program", "--target", "wasm"], { cwd: at })).code).toBe(0);
    const ran = await netc(["predict", "program", "clip.mp4", "--tune", "1"], { cwd: at });
    expect(ran.code).toBe(2);
    expect(words(ran)).toContain("a compiled program has its plans already");
  });

  test("of this device goes into the program", async () => {
    const env = { NETC_CACHE: join(at, "cache2") };
    const args = ["compile", "net.net", "-o", "tuned", "--target", "this-device", "--tune", "5"];
    const ran = await netc(args, { cwd: at, env });
    expect({ code: ran.code, stderr: ran.stderr }).toEqual({ code: 0, stderr: "" });
    expect(ran.stdout).toContain("tuned");
  });
});
