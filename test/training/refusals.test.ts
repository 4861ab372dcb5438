/** What cannot be trained or gone on with: what is said of it, as a person reads it. */
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { type TrainOptions, trainCommand } from "../../runtime/cli/commands/train.ts";
import type { ClipRecord, Manifest } from "../../runtime/data/manifest.ts";
import { decodeManifest, encodeManifest, MANIFEST_FILE } from "../../runtime/data/manifest.ts";
import { loadCheckpoint } from "../../runtime/train/checkpoint.ts";
import { messageOf } from "../train/tools.ts";
import { ground } from "./runs.ts";

const NET = `
block Eye(classes: int)(x: [N, C, H, W]) -> [N, classes] =
  Conv(4, stride=4, use_bias=false) @conv1 -> BatchNorm @bn1 -> ReLU -> GlobalAvgPool -> Linear(classes) @fc
model One(x: f32[N, 3, 16, 16]) = Eye(classes=2)
recipe Learn(lr: float = 0.01, epochs: int = 2, batch: int = 4) for One {
  data {
    split = by_subject(folds=3, seed=1)
    validation = 0.5
    batch = batch
  }
  epochs = epochs
  optimizer = Adam(lr=lr)
}
`;

let at = "";
beforeAll(async () => {
  ({ at } = await ground());
  process.env["NETC_CACHE"] = join(at, "cache");
});
// The one JSON value of a command that ends well.
beforeEach(() => {
  vi.spyOn(process.stdout, "write").mockReturnValue(true);
});

/** The manifest of the drawn set, changed, beside copies of its clips. */
function changedSet(name: string, change: (manifest: Manifest) => Partial<Manifest>): string {
  const folder = join(at, name);
  cpSync(join(at, "set"), folder, { recursive: true });
  const manifest = decodeManifest(readFileSync(join(folder, MANIFEST_FILE), "utf8"));
  if ("error" in manifest) throw new Error(manifest.error);
  writeFileSync(join(folder, MANIFEST_FILE), encodeManifest({ ...manifest, ...change(manifest) }));
  return folder;
}

function writeNet(name: string, change: (text: string) => string = (text) => text): string {
  const file = join(at, name);
  writeFileSync(file, change(NET));
  return file;
}

const train = (file: string | undefined, options: Partial<TrainOptions> = {}): Promise<number> =>
  trainCommand(file, {
    data: join(at, "set"),
    set: [],
    bind: [],
    device: "wasm",
    weights: [],
    skip: [],
    workers: 1,
    test: false,
    json: true,
    version: "test",
    ...options,
  });

/** What is said, without the folder of the test. */
const said = async (file: string | undefined, options: Partial<TrainOptions> = {}): Promise<string> =>
  (await messageOf(() => train(file, options))).replaceAll(`${at}/`, "");

describe("a set of clips", () => {
  test("of which a class is missing from the training side", async () => {
    const rare = (clip: ClipRecord, { clips }: Manifest): boolean =>
      clip.class !== "differ" || clip.subject === clips[0]?.subject;
    const texts = [];
    const data = changedSet("rare", (manifest) => ({ clips: manifest.clips.filter((clip) => rare(clip, manifest)) }));
    for (const fold of [1, 2, 3])
      texts.push(await said(writeNet("net.net"), { data, fold, run: join(at, `rare-${fold}`) }));
    expect(texts).toContain(
      [
        "fold 1 of 3: no training clip shows `differ`",
        "help: training clips of each class: agree 8, differ 0",
        "help: use fewer folds, or a smaller share for validation, or leave the class out of the set",
      ].join("\n"),
    );
  });

  test("with the same people on both of its own sides", async () => {
    const data = changedSet("leak", ({ clips }) => ({
      clips: clips.map((clip, i) => ({ ...clip, split: i % 2 === 0 ? "train" : "validation" })),
    }));
    const net = writeNet("fixed.net", (text) => text.replace("by_subject(folds=3, seed=1)", "fixed"));
    const text = await said(net, { data });
    expect(text).toMatch(
      /^fixed: subject S0\d is on both sides, for example in `S0\d\S+` \(training\) and `S0\d\S+` \(test\)\n/,
    );
    expect(text).toMatch(/\nhelp: correct the folders or remove the copies, then scan the set again$/);
  });

  test("without a manifest, or that is not there", async () => {
    mkdirSync(join(at, "bare"));
    expect(await said(writeNet("net.net"), { data: join(at, "bare") })).toBe(
      [
        "`bare` is no set of clips yet: it has no manifest.jsonl",
        "help: `netc data scan bare --layout …` writes the manifest of a set",
        "help: `netc data make FOLDER --layout association` draws a synthetic set",
      ].join("\n"),
    );
    expect(await said(writeNet("net.net"), { data: join(at, "nowhere") })).toBe(
      [
        "there is no set of clips `nowhere`",
        "help: check the path: `--data` is taken from here, a recipe's own folder from where its file lies",
        "help: `netc data make FOLDER --layout association` draws a synthetic set",
      ].join("\n"),
    );
  });

  test("whose manifest was cut short", async () => {
    const data = changedSet("cut", () => ({}));
    truncateSync(join(data, MANIFEST_FILE), 3000);
    expect(await said(writeNet("net.net"), { data })).toMatch(
      /^`cut\/manifest.jsonl`: .*48 clips.* it was cut short or edited\nhelp: scan the set again: `netc data scan`$/,
    );
  });

  test("with other classes than the model's", async () => {
    const data = changedSet("three", ({ clips }) => ({
      classes: ["agree", "differ", "other"],
      clips: clips.map((clip, i) => (i % 3 === 0 ? { ...clip, class: "other" } : clip)),
    }));
    expect(await said(writeNet("net.net"), { data })).toBe(
      [
        "`three` has 3 classes (`agree`, `differ`, `other`), and `One` tells 2 apart",
        "help: make the network for as many: `classes=3`",
      ].join("\n"),
    );
  });

  test("with fewer clips than a batch", async () => {
    expect(await said(writeNet("net.net"), { set: [["batch", 17]] })).toBe(
      "fold 1 of 3: there are 16 training clips, fewer than a batch of 17\nhelp: make `batch` 16 or less",
    );
  });
});

describe("what is asked for", () => {
  test("a fold that there is not", async () => {
    for (const [fold, name] of [
      [4, "4"],
      ["S09", "`S09`"],
    ] as const)
      expect(await said(writeNet("net.net"), { fold })).toBe(
        `there is no fold ${name}\nhelp: the folds are \`fold 1 of 3\`, \`fold 2 of 3\`, \`fold 3 of 3\``,
      );
  });

  test("a learning rate that is always 0", async () => {
    expect(await said(writeNet("net.net"), { set: [["epochs", 1]] })).toBe(
      [
        "the learning rate is 0 for all of the training: its warm-up takes 1 epoch of 1, and ends where the schedule is at 0",
        "help: more epochs, or a shorter `Warmup`, or `schedule = Constant`",
      ].join("\n"),
    );
  });

  test("options that contradict each other, or nothing at all", async () => {
    const net = writeNet("net.net");
    expect(await said(undefined)).toMatch(/^there is nothing to train: no .net file was given\n/);
    expect(await said(net, { allowChanges: true })).toBe(
      "`--allow-changes` is about a run that goes on: `--resume RUN`",
    );
    expect(await said(undefined, { resume: at, run: at })).toMatch(/`--run` and `--resume` exclude each other$/);
    expect(await said(undefined, { resume: at, weights: ["a"] })).toMatch(
      /^a run that goes on has its weights from its checkpoint, not from `--weights`\n/,
    );
    expect(await said(net, { maxTime: "5" })).toBe("`5` has no unit: write for example 90s, 45m or 2h30m");
  });

  test("a folder that is taken, or is no run", async () => {
    mkdirSync(join(at, "holiday"));
    writeFileSync(join(at, "holiday/photo.jpg"), "");
    const run = join(at, "holiday");
    expect(await said(writeNet("net.net"), { run })).toBe(
      "`holiday` exists and is not the folder of a run: it is left as it is\nhelp: choose another folder for the run",
    );
    expect(await said(undefined, { resume: run })).toBe(
      "`holiday` is not the folder of a run: it has no run.json\nhelp: give the folder that training made, for example below `runs/`",
    );
    expect(await said(undefined, { resume: join(at, "nowhere") })).toMatch(/^there is no `nowhere`\n/);
    expect(readdirSync(run)).toEqual(["photo.jpg"]);
  });
});

describe("a run that goes on", () => {
  let run = "";
  beforeAll(async () => {
    vi.spyOn(process.stdout, "write").mockReturnValue(true);
    run = join(at, "run");
    expect(await train(writeNet("net.net"), { run })).toBe(0);
  });
  const copy = (name: string): string => {
    cpSync(run, join(at, name), { recursive: true });
    return join(at, name);
  };
  const HELP = [
    "help: undo the change, or start a run of its own: leave `--resume` out",
    "help: `--allow-changes` goes on from the checkpoint all the same",
  ];

  test("not where there is one already", async () => {
    expect(await said(writeNet("net.net"), { run })).toBe(
      "`run` holds a run already\nhelp: resume that run, or choose another folder",
    );
  });

  test("with another recipe: what changed is said, and allowed it is followed", async () => {
    const resume = copy("recipe");
    const options = { resume, set: [["lr", 0.02] as const, ["epochs", 3] as const] };
    expect(await said(undefined, options)).toBe(
      [
        "`recipe` was trained differently:",
        "  - the recipe's stages[0].epochs was 2 and is 3",
        "  - the recipe's stages[0].rate was 0.01 and is 0.02",
        ...HELP,
      ].join("\n"),
    );
    expect(await train(undefined, { ...options, allowChanges: true })).toBe(0);
    expect(readdirSync(join(resume, "checkpoints"))).toContain("step-00000012");
    // From then on that is what the run trains.
    expect(await train(undefined, { resume })).toBe(0);
    const record = JSON.parse(readFileSync(join(resume, "run.json"), "utf8"));
    expect(record.request).toMatchObject({ source: "changed-1/net.net", arguments: { lr: 0.02, epochs: 3 } });
  });

  test("with another model", async () => {
    const same = writeNet("smooth.net", (text) => text.replace("ReLU", "GELU"));
    expect(await said(same, { resume: copy("smooth") })).toMatch(
      /^`smooth` was trained differently:\n {2}- the model `One` computes something else: its graph was \w{12} and is \w{12}\n/,
    );
    const wide = writeNet("wide.net", (text) => text.replace("Conv(4", "Conv(5"));
    expect(await said(wide, { resume: copy("wide"), allowChanges: true })).toMatch(
      /- `conv1.weight` is \[4, 3, 3, 3\] in the checkpoint and \[5, 3, 3, 3\] here\n[^]*help: `--weights wide\/checkpoints\/step-00000008\/state.safetensors --skip conv1,bn1,fc`$/,
    );
    // The refused one is what it was.
    expect(await train(undefined, { resume: join(at, "wide") })).toBe(0);
  });

  test("with another data set", async () => {
    const data = changedSet("fewer", ({ clips }) => ({ clips: clips.slice(0, -1) }));
    expect(await said(undefined, { resume: copy("data"), data })).toMatch(
      /^`data` was trained differently:\n {2}- the data set has lost 1 clip: `\S+`\n/,
    );
    const moved = changedSet("moved", () => ({}));
    expect(await train(undefined, { resume: join(at, "data"), data: moved })).toBe(0);
  });

  test("without its newest checkpoint, or any", async () => {
    const resume = copy("broken");
    const folder = join(resume, "checkpoints");
    const states = readdirSync(folder).map((name) => join(folder, name, "state.safetensors"));
    truncateSync(states.at(-1) ?? "", 100);
    expect(await train(undefined, { resume })).toBe(0);
    for (const state of states) truncateSync(state, 100);
    expect(await said(undefined, { resume })).toMatch(
      /^`broken` has no complete checkpoint; `step-00000000`: state.safetensors has 100 bytes instead of \d+: it was cut short or changed; .*\nhelp: train it anew$/,
    );
  });

  test("from its beginning, where it was ended before its first checkpoint", async () => {
    const resume = copy("young");
    for (const name of readdirSync(join(resume, "checkpoints")))
      cpSync(join(resume, "checkpoints", name), join(at, "gone", name), { recursive: true });
    rmSync(join(resume, "checkpoints"), { recursive: true });
    expect(await train(undefined, { resume })).toBe(0);
    const state = join("step-00000008", "state.safetensors");
    expect(readFileSync(join(resume, "checkpoints", state)).equals(readFileSync(join(at, "gone", state)))).toBe(true);
  });

  test("from its weights in a run of its own", async () => {
    const weights = [join(run, "checkpoints/step-00000008/state.safetensors")];
    const deep = writeNet("deep.net", (text) => text.replace("-> Linear(c", "-> Linear(3) @more -> Linear(c"));
    expect(await train(deep, { run: join(at, "own"), weights, skip: ["more", "fc"] })).toBe(0);
    const [from, begun] = [await loadCheckpoint(run), await loadCheckpoint(join(at, "own"), 0)];
    for (const path of ["conv1.weight", "bn1.weight", "bn1.running_var"])
      expect(await begun.read(path)).toEqual(await from.read(path));
    await from.close();
    await begun.close();
  });
});
