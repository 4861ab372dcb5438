/** `netc predict` on clips and weights that are missing, damaged, foreign or too short, and on devices that are not there. */
import { readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { cp } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { CommandError, EXIT } from "../../runtime/cli/exit.ts";
import { readProgramFolder } from "../../runtime/cli/program-folder.ts";
import { writeSafetensors } from "../../runtime/engine/safetensors.ts";
import { netc, playground, type Ran, root, words } from "./command.ts";

const { at, write } = playground();
const clip = join(root, "examples/clip.mp4");

// One convolution on frames, the same on flow fields, and both together.
write("rgb.net", "model Rgb(x: f32[N, 3, 16, 16]) = Conv(8) @conv1 -> GlobalAvgPool -> Linear(4) @fc8\n");
write("wide.net", "model Wide(x: f32[N, 3, 16, 16]) = Conv(8) @conv1 -> GlobalAvgPool -> Linear(7) @fc8\n");
write("flow.net", "model Motion(x: f32[N, 20, 16, 16]) = Conv(8) @conv1 -> GlobalAvgPool -> Linear(4) @fc8\n");
write("two.net", readFileSync(join(root, "examples/tiny_stia.net")));

const predict = (model: string, path: string, ...more: readonly string[]): Promise<Ran> =>
  netc(["predict", model, path, "--device", "wasm", ...more], { cwd: at });

const FETCH = "help: check that it plays elsewhere; if it was copied or downloaded, fetch it again";

describe.concurrent("a clip that cannot be used", () => {
  write("empty.mp4", "");
  write("cut.mp4", readFileSync(clip).subarray(0, 20_000));
  write("text.mp4", "a diary, not a video\n");
  write("no frames/readme.txt", "nothing here");
  const cases: readonly (readonly [path: string, expected: string | RegExp])[] = [
    [
      "missing.mp4",
      "error: `missing.mp4`: there is no such file or folder\n  help: check the path; it is taken from the folder the command runs in",
    ],
    ["empty.mp4", "error: `empty.mp4`: the file is empty (0 bytes)\n  help: copy or record the clip again"],
    [
      "cut.mp4",
      /^error: `cut.mp4`: no frame can be decoded: it is damaged, cut off, or not a video .*\n {2}help: check that it plays/,
    ],
    ["text.mp4", new RegExp(`^error: \`text.mp4\`: no frame can be decoded: .*\n {2}${FETCH}$`)],
    [
      "no frames",
      "error: `no frames`: the folder has no frames: no image in it has a name that ends in a number\n  help: give a video file, or a folder with img_00001.jpg, img_00002.jpg, …",
    ],
  ];
  for (const [path, expected] of cases)
    test(path, async () => {
      const ran = await predict("rgb.net", path);
      if (typeof expected === "string") expect(words(ran)).toBe(expected);
      else expect(words(ran)).toMatch(expected);
      expect(ran.code).toBe(1);
      expect(ran.stdout).not.toContain("probability");
    });

  test("too few frames, and a flow image that is missing", async ({ expect, skip }) => {
    const sharp = await import("sharp").then(
      (module) => module.default,
      () => undefined,
    );
    // The package is optional, and without it the command reads no folders of images either.
    if (sharp === undefined) return skip();
    const grey = { create: { width: 32, height: 32, channels: 3, background: "#808080" } } as const;
    for (const frame of [1, 2, 3]) {
      const jpeg = await sharp(grey).jpeg().toBuffer();
      write(`short/img_0000${frame}.jpg`, jpeg);
      for (const axis of ["x", "y"]) write(`short/flow_${axis}_0000${frame}.jpg`, jpeg);
    }
    expect(words(await predict("flow.net", "short"))).toMatchInlineSnapshot(`
      "error: \`short\`: the clip has 3 frames, but 11 are needed for 10 optical-flow fields
        help: use a longer clip, or a model with at most 2 flow fields"
    `);
    for (let frame = 4; frame <= 12; frame++)
      write(`short/img_${String(frame).padStart(5, "0")}.jpg`, await sharp(grey).jpeg().toBuffer());
    const missing = await predict("flow.net", "short");
    expect(words(missing)).toMatchInlineSnapshot(`
      "error: \`short/flow_x_00004.jpg\`: the flow image flow_x_00004.jpg is missing, which belongs to frame img_00004.jpg
        help: extract the flow again, or remove all flow_* images to have it computed from the frames"
    `);
    expect(missing.code).toBe(1);
  });

  test("a model whose input is no video", async () => {
    const ran = await predict(join(root, "examples/linear.net"), clip);
    expect(words(ran)).toMatch(
      /^error: `Logistic`: the input `image` \[1, 28, 28\] is neither an RGB frame nor a stack/,
    );
    expect(ran.code).toBe(1);
  });
});

describe.concurrent("weights that cannot be used", () => {
  beforeAll(async () => {
    await netc(["compile", "rgb.net", "-o", "rgb", "--materialize"], { cwd: at });
    const whole = readFileSync(join(at, "rgb/weights.safetensors"));
    write("whole.safetensors", whole);
    write("cut.safetensors", whole.subarray(0, whole.length - 100));
    write("head.safetensors", whole.subarray(0, 40));
    write("empty.safetensors", "");
    write("text.safetensors", "these are no weights at all\n");
    write(
      "foreign.safetensors",
      Buffer.concat(writeSafetensors([{ name: "encoder.block.0.q", shape: [2, 2], data: new Float32Array(4) }])),
    );
  });

  const cases: readonly (readonly [file: string, expected: RegExp])[] = [
    ["missing.safetensors", /^error: cannot read the weights `missing.safetensors`: there is no such file or folder$/],
    ["empty.safetensors", /^error: `empty.safetensors`: the file has 0 bytes, too few for a safetensors file$/],
    ["text.safetensors", /^error: `text.safetensors`: this is not a safetensors file/],
    [
      "head.safetensors",
      /^error: `head.safetensors`: the file is cut short or not safetensors: its header is \d+ bytes, the file 40$/,
    ],
    ["cut.safetensors", /^error: `cut.safetensors`: the file is cut short: `.*` ends at byte \d+, the file has \d+$/],
    ["rgb", /^error: cannot read the weights `rgb`: it is not a file/],
    ["foreign.safetensors", /^error\[E0605\]: no tensor of this file .*\n.*foreign.safetensors/],
  ];
  for (const [file, expected] of cases)
    test(file, async () => {
      const ran = await predict("rgb.net", "missing.mp4", "--weights", file);
      expect(words(ran)).toMatch(expected);
      expect(ran.code).toBe(1);
    });

  test("a head of another size: an error, unless it is skipped", async () => {
    const ran = await predict("wide.net", clip, "--weights", "whole.safetensors");
    expect(words(ran)).toMatch(/^error\[E0601\]: .*fc8.weight.*\[7, 8\].*\[4, 8\]/);
    expect(words(ran)).toMatch(/help: `--skip fc8`/);
    expect(ran).toMatchObject({ code: 1, stdout: "" });
    const skipped = await predict("wide.net", clip, "--weights", "whole.safetensors", "--skip", "fc8");
    expect(skipped.code).toBe(0);
    expect(skipped.stdout).toContain("probability");
    expect(skipped.stdout).not.toContain("untrained");
  });

  test("a stream that the model does not have", async () => {
    const ran = await predict("two.net", clip, "--weights", "audio=whole.safetensors");
    expect(words(ran)).toBe("error: `TinySTIA` has no stream `audio`\n  help: its streams are spatial, temporal");
    expect(ran.code).toBe(2);
    const single = await predict("rgb.net", clip, "--weights", "audio=whole.safetensors");
    expect(words(single)).toBe(
      "error: `Rgb` has no stream `audio`\n  help: it has a single stream: write `--weights FILE`",
    );
  });
});

describe.concurrent("devices", () => {
  test("webgpu where there is an adapter, and where there is none", async () => {
    const doctor: unknown = JSON.parse((await netc(["doctor", "--json"], { cwd: at })).stdout);
    const ran = await netc(["predict", "rgb.net", clip, "--device", "webgpu"], { cwd: at });
    const available = JSON.stringify(doctor).includes('"webgpu":{"available":true');
    expect(ran.code).toBe(available ? 0 : 3);
    if (!available)
      expect(words(ran)).toMatch(
        /^error: this machine has no WebGPU adapter: .*\n {2}help: `--device wasm` runs on the CPU\n {2}help: `netc doctor`/m,
      );
  });

  test("the reference interpreter agrees with wasm", async () => {
    const probabilities = async (device: string): Promise<readonly number[]> => {
      const ran = await netc(["predict", "rgb.net", clip, "--device", device, "--json"], { cwd: at });
      return [...ran.stdout.matchAll(/"logit": (\S+)/g)].map((match) => Number(match[1]));
    };
    const [wasm, interp] = [await probabilities("wasm"), await probabilities("interp")];
    expect(wasm).toHaveLength(4);
    for (const [index, logit] of wasm.entries()) expect(logit).toBeCloseTo(interp[index] ?? Number.NaN, 5);
  });

  test("a program beyond WASM's 4 GiB is refused with its bytes before anything is allocated", async () => {
    write(
      "large.net",
      "model Large(x: f32[N, 3, 64, 64]) = Flatten -> Linear(100000) -> Linear(20000) -> Linear(10)\n",
    );
    write(
      "rss.mjs",
      'process.on("exit", () => process.stderr.write(`\\nrss ${process.resourceUsage().maxRSS} KiB\\n`));\n',
    );
    const ran = await netc(["predict", "large.net", clip, "--device", "wasm"], {
      cwd: at,
      env: { NODE_OPTIONS: `--import=${join(at, "rss.mjs")}` },
    });
    expect(words(ran)).toMatch(
      /^error: this does not fit: 1\d{10} bytes \(1\d\.\d GiB\) of WASM memory needed, 429\d{7} bytes \(4\.0 GiB\) available\n {2}help: a smaller batch/,
    );
    expect(ran.code).toBe(3);
    const rss = Number(/rss (\d+) KiB/.exec(ran.stderr)?.[1]);
    expect(rss).toBeGreaterThan(0);
    expect(rss).toBeLessThan(600_000);
  });
});

describe("a compiled program", () => {
  let weightBytes = 0;
  beforeAll(async () => {
    expect(await compile()).toMatchObject({ code: 0, stderr: "" });
    weightBytes = statSync(join(at, "wasm/weights.safetensors")).size;
  });

  const edit = (folder: string, change: (text: string) => string): void => {
    const manifest = join(folder, "program.json");
    writeFileSync(manifest, change(readFileSync(manifest, "utf8")));
  };
  const kernel = (folder: string): string => {
    const file = /kernels\/\w+\.wasm/.exec(readFileSync(join(folder, "program.json"), "utf8"))?.[0];
    if (file === undefined) throw new Error("the program has no kernels");
    return file;
  };
  const compile = (): Promise<Ran> =>
    netc(["compile", "rgb.net", "-o", "wasm", "--target", "wasm", "--materialize"], { cwd: at });

  test("gives what the source gives", async () => {
    const logits = async (model: string): Promise<readonly number[]> => {
      const { stdout } = await predict(model, clip, "--json");
      return [...stdout.matchAll(/"logit": (\S+)/g)].map((match) => Number(match[1]));
    };
    const [source = [], ...compiled] = await Promise.all(["rgb.net", "wasm", "wasm/program.json"].map(logits));
    expect(source).toHaveLength(4);
    // Not to the last bit: the folder's kernels were cut for the default number of threads, not for this machine's.
    for (const folder of compiled)
      for (const [index, logit] of source.entries()) expect(folder[index]).toBeCloseTo(logit, 6);
  });

  test("refuses what it cannot honour", async () => {
    const refused = await Promise.all(
      [
        ["--device", "interp"],
        ["--device", "webgpu"],
        ["--weights", "x.safetensors"],
        ["--model", "Other"],
      ].map((more) => netc(["predict", "wasm", clip, ...more], { cwd: at })),
    );
    expect(refused.map(words)).toMatchInlineSnapshot(`
      [
        "error: \`--device interp\` takes a .net file: a compiled program has no loop nests
        help: netc predict MODEL.net CLIP --device interp",
        "error: \`wasm\` was compiled for wasm, not for \`--device webgpu\`
        help: compile it for this device: \`netc compile … --target webgpu-default\`",
        "error: a compiled program brings its own weights
        help: give \`--weights\` to \`netc compile\`, or predict from the .net file",
        "error: a compiled program is one model with fixed sizes
        help: give \`--model\` and \`--bind\` to \`netc compile\`",
      ]
    `);
    expect(refused.map(({ code }) => code)).toEqual([2, 2, 2, 2]);
    const folder = await predict("no frames", clip);
    expect(words(folder)).toBe(
      "error: `no frames` is no compiled program: there is no program.json in it\n  help: give a .net file, or a folder that `netc compile` wrote",
    );
  });

  const AGAIN = ": compile the model again";
  const damages: readonly (readonly [
    name: string,
    damage: (folder: string) => void,
    expected: (folder: string) => string,
  ])[] = [
    [
      "truncated program.json",
      (folder) => truncateSync(join(folder, "program.json"), 1000),
      () => ": program.json is not complete JSON (1000 bytes): it was cut short or is another kind of file",
    ],
    [
      "edited program.json",
      (folder) => edit(folder, (text) => text.replace('"seed": 0', '"seed": 1')),
      () => `: program.json was changed after it was written (its checksum does not match)${AGAIN}`,
    ],
    [
      "foreign JSON",
      (folder) => edit(folder, () => '{"name": "other"}'),
      () => ": program.json was not written by netc",
    ],
    ["JSON that is no object", (folder) => edit(folder, () => "[]"), () => ": program.json was not written by netc"],
    [
      "another version",
      (folder) => edit(folder, (text) => text.replace('"version": 1', '"version": 9')),
      () => `: program.json has format version 9; this netc reads version 1${AGAIN}`,
    ],
    [
      "missing kernel",
      (folder) => rmSync(join(folder, kernel(folder))),
      (folder) => `: ${kernel(folder)} is missing${AGAIN}`,
    ],
    [
      "truncated kernel",
      (folder) => truncateSync(join(folder, kernel(folder)), 10),
      (folder) => `: ${kernel(folder)} was cut short or changed (its checksum does not match)${AGAIN}`,
    ],
    [
      "truncated weights",
      (folder) => truncateSync(join(folder, "weights.safetensors"), 500),
      () => `: weights.safetensors has 500 bytes where ${weightBytes} were written${AGAIN}`,
    ],
  ];
  for (const [index, [name, damage, expected]] of damages.entries())
    test(`${name} is refused by name`, async () => {
      const folder = join(at, name);
      await cp(join(at, "wasm"), folder, { recursive: true });
      damage(folder);
      const message = `\`${folder}\`${expected(folder)}`;
      await expect(readProgramFolder(folder)).rejects.toThrow(new CommandError(EXIT.wrong, message));
      if (index > 0) return;
      // The command itself once: the others differ in nothing but these words.
      const ran = await predict(folder, clip);
      expect(words(ran)).toBe(`error: ${message}`);
      expect(ran).toMatchObject({ code: 1, stdout: "" });
    });
});
