/**
 * `netc train` and `netc eval` as a shell runs them: signals, limits, kills, clips and disks that fail, and what is
 * printed. What is said of wrong requests is in test/training/refusals.test.ts.
 */
import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, inject, test } from "vitest";
import { makeSet } from "../data/set.ts";
import { killTest } from "../training/kill-test.mjs";
import { netc, playground, type Ran, words } from "./command.ts";

const { at, write } = playground();
write(
  "net.net",
  `block Eye(classes: int)(x: [N, C, H, W]) -> [N, classes] =
  Conv(4, stride=4, use_bias=false) @conv1 -> BatchNorm @bn1 -> ReLU -> GlobalAvgPool -> Linear(classes) @fc
model One(x: f32[N, 3, 16, 16]) = Eye(classes=2)
recipe Learn(lr: float = 0.01, epochs: int = 2) for One {
  data {
    source = Clips("set")
    split = by_subject(folds=3, seed=1)
    validation = 0.5
    batch = 4
  }
  epochs = epochs
  optimizer = Adam(lr=lr)
  metrics = [accuracy, uar, auc("differ")]
}
`,
);
// A checkpoint of some hundred kilobytes: 150 before the first update, three times that with Adam's moments.
write(
  "wide.net",
  readFileSync(join(at, "net.net"), "utf8").replace(
    "GlobalAvgPool",
    "Conv(64) @conv2 -> Conv(64) @conv3 -> GlobalAvgPool",
  ),
);

// Runs begin while tests are collected, before any `beforeAll`: they wait for the set themselves.
const set = makeSet(join(at, "set"), { subjects: 3, clips: 8, width: 32, height: 24 });
beforeAll(() => set);

interface Options {
  readonly shell?: string;
  readonly cache?: string;
}

const run = (args: readonly string[], { shell, cache = "cache" }: Options = {}): Promise<Ran> =>
  netc(args, { cwd: at, env: { NETC_CACHE: join(at, cache) }, ...(shell === undefined ? {} : { shell }) });
const train = (name: string, more: readonly string[] = [], options: Options = {}): Promise<Ran> =>
  run(["train", "net.net", "--device", "wasm", "--run", name, ...more], options);
const checkpointsOf = (name: string): readonly string[] => readdirSync(join(at, name, "checkpoints")).sort();
/** Waits in a shell until a run has made its first epoch. */
const untilEpoch = (name: string): string =>
  `until grep -qs '"kind":"epoch"' ${name}/metrics.jsonl; do sleep 0.1; done`;

describe.concurrent("a run", () => {
  const runs = set.then(() =>
    Promise.all([train("first", ["--seed", "1"]), train("second", ["--seed", "2", "--json"])]),
  );

  test("is shown line by line, and ends with scores and a report", async () => {
    const [{ code, stdout, stderr }] = await runs;
    expect(stderr).toBe("");
    expect(code).toBe(0);
    expect(stdout).toMatch(
      /^One on wasm, \d+ threads\nset: 16 to train, 16 to validate, 16 to test \(fold 1 of 3\)\nSYNTHETIC: .*\nrun folder: first\nepoch 1\/2 {2}loss \d\.\d+ {2}accuracy .*\nepoch 2\/2 .*\ntrained: 8 updates\n\nfirst, validation: 16 clips of 1 subject, /,
    );
    expect(stdout).toMatch(
      /\nfirst, test: 16 clips of 1 subject, fold 1 of 3, update [48], 1 segment × 1 crop a clip\n/,
    );
    expect(stdout).toMatch(/\nAUC.* differ/);
    expect(stdout).toMatch(/\n\nreport: first\/report.html\n$/);
    expect(existsSync(join(at, "first/report.html"))).toBe(true);
    expect(checkpointsOf("first")).toEqual(["step-00000000", "step-00000004", "step-00000008"]);
  });

  test("as one JSON value", async () => {
    const [, { code, stdout }] = await runs;
    const { ok, result } = JSON.parse(stdout);
    expect([code, ok, result.ended, result.step, result.report]).toEqual([
      0,
      true,
      "finished",
      8,
      "second/report.html",
    ]);
    const [validation, tested] = result.scores;
    expect([validation.side, tested.side, tested.clips]).toEqual(["validation", "test", 16]);
    expect(tested.scores.map(({ name }: { readonly name: string }) => name)).toEqual([
      "uar",
      "accuracy",
      "macro_f1",
      "loss",
      "auc(differ)",
    ]);
    expect(tested.confusion.counts.flat().reduce((a: number, b: number) => a + b)).toBe(16);
  });

  test("is evaluated again: the same scores, another checkpoint, more views", async () => {
    const [, trained] = await runs;
    const want = JSON.parse(trained.stdout).result.scores[1];
    const evaluated = async (...more: readonly string[]): Promise<Record<string, unknown>> =>
      JSON.parse((await run(["eval", "second", "--device", "wasm", "--json", ...more])).stdout).result.runs[0];
    expect(await evaluated()).toEqual(want);
    expect(await evaluated("--side", "validation", "--checkpoint", "4")).toMatchObject({ side: "validation", step: 4 });
    const views = await evaluated("--checkpoint", "latest", "--segments", "25", "--crops", "10");
    expect(views).toMatchObject({ step: 8, segments: 25, crops: 10, clips: 16, failed: [] });
    // What was predicted last is what is stored.
    expect(await evaluated("--stored")).toEqual(views);
    const missing = await run(["eval", "second", "--checkpoint", "5"]);
    expect(words(missing)).toBe(
      "error: `second` has no complete checkpoint of step 5\n  help: there are checkpoints of the steps 8, 4, 0",
    );
    expect(missing.code).toBe(1);
  });

  test("is compared with another one, by subjects", async () => {
    await runs;
    const { stdout } = await run(["eval", "first", "--compare", "second", "--stored"]);
    expect(stdout).toMatch(
      /^first: {2}first \(One, seed 1\)\nsecond: second \(One, seed 2\)\ntest: the same 16 clips; /,
    );
    expect(stdout).toMatch(/paired bootstrap, 10,000 draws of the subjects/);
    expect(stdout).toMatch(/McNemar, exact: \d+ clips? right in the first only, /);
    expect(stdout).toMatch(/McNemar's test takes clips as independent\. Clips of one subject are not/);
  });

  test("whose sources have changed is not evaluated", async () => {
    await runs;
    cpSync(join(at, "first"), join(at, "edited"), { recursive: true });
    const source = join(at, "edited/sources/net.net");
    writeFileSync(source, readFileSync(source, "utf8").replace("Conv(4", "Conv(5"));
    const ran = await run(["eval", "edited"]);
    expect(words(ran)).toBe(
      "error: the sources in `edited` are not those of the run: they make another model\n  help: undo the change in its `sources` folder",
    );
    expect(ran.code).toBe(1);
  });

  test("with a parameter that its recipe does not have", async () => {
    const ran = await train("typing", ["--set", "lrr=0.1"]);
    expect(ran.stderr).toMatch(/^error\[E0401\]: `Learn` has no parameter `lrr`\n[^]*= help: did you mean `lr`\?/);
    expect([ran.code, existsSync(join(at, "typing"))]).toEqual([1, false]);
  });
});

describe.concurrent("a run that is stopped", () => {
  test("by a signal: it saves, says how to go on, and nobody else trains there meanwhile", async () => {
    const other = '"$1" "$2" train --resume signal --device wasm; echo "the other ended with $?"';
    const ran = await train("signal", ["--set", "epochs=100000", "--no-test"], {
      shell: `"$@" & P=$!; ${untilEpoch("signal")}; ${other}; kill -INT $P; wait $P`,
    });
    expect(words(ran)).toMatch(
      /^error: process \d+ is training in `signal` already\n {2}help: wait for it, or end it; then resume$/,
    );
    expect(ran.stdout).toContain("the other ended with 1\n");
    expect(ran.stdout).toMatch(
      /\nstopping as soon as everything is saved \(once more to leave at once\)\n(epoch .*\n)?stopped after update [\d,]+, everything is saved; `netc train --resume signal` goes on\n$/,
    );
    expect(ran.code).toBe(0);
  });

  test("by its time", async () => {
    const ran = await train("timed", ["--set", "epochs=100000", "--no-test", "--max-time", "2s"]);
    expect(ran.stdout).toMatch(
      /\nthe time is over after update [\d,]+, everything is saved; `netc train --resume timed` goes on\n$/,
    );
    expect(ran.code).toBe(0);
    // Where the machine is slow it may not have come beyond its clips.
    expect(checkpointsOf("timed").length).toBeGreaterThan(0);
  });

  test("by numbers that are not finite: update, layer, last checkpoint, and what to do", async () => {
    const ran = await train("runaway", ["--set", "lr=1e30"]);
    expect(words(ran)).toMatch(
      new RegExp(
        [
          "^error: the loss is (not a number|infinite) in update [23] \\(epoch 1\\), first in `bn1`( \\(computed together with .*\\))?",
          "  help: this update was not made; the last checkpoint is good: `runaway/checkpoints/step-00000000`",
          "  help: a smaller learning rate, `clip_norm` or a longer `Warmup` in the recipe is what helps most often",
          "  help: `netc train MODEL.net --resume runaway --allow-changes` goes on from that checkpoint with the recipe changed$",
        ].join("\n"),
      ),
    );
    expect(ran.code).toBe(1);
    // And it does.
    const again = [
      "train",
      "--resume",
      "runaway",
      "--allow-changes",
      "--set",
      "lr=0.01",
      "--no-test",
      "--device",
      "wasm",
    ];
    const resumed = await run(again);
    expect(resumed.stdout).toMatch(
      /\nchanged: the recipe's stages\[0\]\.rate was 1e\+30 and is 0\.01\n[^]*\ntrained: 8 updates\n/,
    );
  });

  test("by a disk that is full: what was saved stays", async () => {
    const more = ["--no-test", "--set", "epochs=4"];
    const args = ["train", "wide.net", "--device", "wasm", "--run", "full", ...more];
    // Blocks of 512 bytes, in some shells of 1024: the first checkpoint fits, the second does not.
    const ran = await run(args, { shell: 'ulimit -f 400; exec "$@"' });
    expect(words(ran)).toMatch(
      /^error: cannot save the checkpoint of step 4 \(\d+\.\d KiB\) in `full\/checkpoints`: a file grew past the size that this process may write\n {2}help: earlier checkpoints are as they were; the newest is `step-00000000`\n {2}help: free some space, or make the folder writable, and resume the run$/,
    );
    expect([ran.code, checkpointsOf("full")]).toEqual([3, ["step-00000000"]]);
    const resumed = await run(["train", "--resume", "full", "--device", "wasm", "--no-test"]);
    expect([resumed.code, checkpointsOf("full").at(-1)]).toEqual([0, "step-00000016"]);
  });

  test("three times by kill -9: the same parameters, byte for byte", async () => {
    const failure = inject("buildFailure");
    if (failure !== "") throw new Error(failure);
    const { killed, resumed } = await killTest({ kills: 3, seed: 5, epochs: 3 });
    expect(killed).toBe(3);
    expect(resumed).toBeGreaterThan(0);
  });
});

describe.concurrent("clips that cannot be read", () => {
  test("are left out of training, and count as wrong where they are evaluated", async () => {
    cpSync(join(at, "set"), join(at, "damaged"), { recursive: true });
    const clips = readFileSync(join(at, "damaged/manifest.jsonl"), "utf8").trim().split("\n").slice(1);
    const spoiled = new Set<string>();
    for (const line of clips) {
      const { path, subject } = JSON.parse(line);
      if (spoiled.has(subject)) continue;
      spoiled.add(subject);
      writeFileSync(join(at, "damaged", path), "not a video");
    }
    const ran = await train("damage", ["--data", "damaged"]);
    expect(ran.code).toBe(0);
    expect(ran.stdout.match(/^left out: `damaged\/\S+`: no frame can be decoded: .*$/gm)).toHaveLength(1);
    expect(ran.stdout.match(/^counts as wrong: `damaged\/\S+`: no frame can be decoded: .*$/gm)).toHaveLength(1);
    expect(
      ran.stdout.match(/^1 clip without a prediction, counted as wrong:\n {2}\S+: no frame can be decoded: /gm),
    ).toHaveLength(2);
  });

  test("any more, while it trains", async () => {
    cpSync(join(at, "set"), join(at, "fading"), { recursive: true });
    const more = ["--data", "fading", "--set", "epochs=100000", "--no-test"];
    const gone = "for d in fading/*/; do rm -rf $d; done; rm -rf own-cache";
    const ran = await train("fade", more, {
      shell: `"$@" & P=$!; ${untilEpoch("fade")}; ${gone}; wait $P`,
      cache: "own-cache",
    });
    expect(words(ran)).toMatch(/^error: a clip has changed meanwhile: `fading\/\S+`: no frame can be decoded: /);
    expect(words(ran)).toMatch(
      /\n {2}help: what was trained before is saved: `netc train --resume fade` goes on from there$/,
    );
    expect(ran.code).toBe(1);
  });
});
