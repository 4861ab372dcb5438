/** `netc attention`, from a model and a clip to a page of its own; and what it says where there is nothing to show. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { fakeRun, writeRun } from "../report/fake.ts";
import { netc, playground, root, words } from "./command.ts";

const { at, write } = playground();
const clip = join(root, "examples/clip.mp4");
write("two.net", readFileSync(join(root, "examples/tiny_stia.net")));
write("plain.net", "model Plain(x: f32[N, 3, 16, 16]) = Conv(8) -> GlobalAvgPool -> Linear(4)\n");

describe.concurrent("netc attention", () => {
  test("shows a model on a clip, says that its gates are closed, and writes over its own folder only", async () => {
    const ran = await netc(["attention", "two.net", clip, "-o", "seen", "--device", "wasm"], { cwd: at });
    expect(ran.code, ran.stderr).toBe(0);
    expect(ran.stdout).toMatch(/stia_conv3\.to_spatial +16×16 +16×16 +0\.00/);
    expect(ran.stdout).toContain("✓ 1 clip: `seen/attention.html`");
    const page = readFileSync(join(at, "seen/attention.html"), "utf8");
    expect(page).toContain("Every gate is closed");
    expect(page).toContain("clip.mp4");
    write("taken/letter.txt", "mine");
    const taken = await netc(["attention", "two.net", clip, "-o", "taken", "--device", "wasm"], { cwd: at });
    expect(taken.code).toBe(1);
    expect(words(taken)).toContain("`taken` exists and was not written by netc");
  });

  test("a model without attention, or no clip, is told what to do", async () => {
    const plain = await netc(["attention", "plain.net", clip], { cwd: at });
    expect(plain.code).toBe(1);
    expect(words(plain)).toMatch(/^error: `Plain` has no attention to show\n {2}help: graft a unit that attends/);
    const none = await netc(["attention", "two.net"], { cwd: at });
    expect(none.code).toBe(2);
    expect(words(none)).toContain("there is nothing to look at: no clip was given");
    expect(existsSync(join(at, "attention"))).toBe(false);
  });

  test("a run without predictions says how to make them", async () => {
    writeRun(join(at, "run"), { ...fakeRun(), test: undefined });
    const ran = await netc(["attention", "run"], { cwd: at });
    expect(ran.code).toBe(1);
    expect(words(ran)).toContain("`netc eval run --side test` makes them; or name the clips to look at");
  });
});
