/** Command lines that are wrong end with 2 and say what is right; help and `doctor` end with 0. */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { netc, playground, root, words } from "./command.ts";

const { at, write } = playground();
const tiny = join(root, "examples/tiny_stia.net");
write("m.net", "model M(x: f32[N, 3, 8, 8]) = Conv(8) @conv1 -> GlobalAvgPool -> Linear(4) @fc\n");

describe.concurrent("a wrong command line", () => {
  const cases: readonly (readonly [args: readonly string[], expected: string])[] = [
    [
      ["chekc", "m.net"],
      "error: unknown command `chekc`\n  help: did you mean `check`?\n  help: `netc --help` shows what there is",
    ],
    [["frob"], "error: unknown command `frob`\n  help: `netc --help` shows what there is"],
    [["check"], "error: missing required argument `file`\n  help: `netc check --help` shows what there is"],
    [
      ["check", "a", "b"],
      "error: too many arguments for `check`. Expected 1 argument but got 2\n  help: `netc check --help` shows what there is",
    ],
    [
      ["check", "m.net", "--nonsense"],
      "error: unknown option `--nonsense`\n  help: `netc check --help` shows what there is",
    ],
    [
      ["check", "m.net", "--jsn"],
      "error: unknown option `--jsn`\n  help: did you mean `--json`?\n  help: `netc check --help` shows what there is",
    ],
    [
      ["compile", "m.net"],
      "error: required option `-o, --output <folder>` not specified\n  help: `netc compile --help` shows what there is",
    ],
    [["compile", "m.net", "-o", ""], "error: `-o` names no folder\n  help: for example `-o out`"],
    [
      ["predict", "m.net"],
      "error: missing required argument `clip`\n  help: `netc predict --help` shows what there is",
    ],
    [
      ["predict", "m.net", "x", "--device", "tpu"],
      "error: `--device <name>` cannot be `tpu`: choose from auto, webgpu, wasm, interp\n  help: `netc predict --help` shows what there is",
    ],
    [
      ["predict", "m.net", "x", "--seed", "-1"],
      "error: `--seed <n>` cannot be `-1`: a whole number from 0 up is wanted\n  help: `netc predict --help` shows what there is",
    ],
    [
      ["inspect", "m.net", "--stage", "nonsense"],
      "error: `--stage <name>` cannot be `nonsense`: choose from shapes, positions, cost, recipe, graph, loop, plan, wgsl\n  help: `netc inspect --help` shows what there is",
    ],
    [
      ["inspect", "m.net", "--batch", "0"],
      "error: `--batch <n>` cannot be `0`: a whole number from 1 up is wanted\n  help: `netc inspect --help` shows what there is",
    ],
    [
      ["inspect", "m.net", "--bind", "X"],
      "error: `--bind <name=size>` cannot be `X`: write NAME=SIZE, for example H=224\n  help: `netc inspect --help` shows what there is",
    ],
    [
      ["inspect", "m.net", "--bind", "X=3"],
      "error: `--bind X=…`: `M` has no open size `X`\n  help: its open sizes: N (the batch, by `--batch`)",
    ],
    [
      ["inspect", "m.net", "--stage", "wgsl", "--target", "wasm"],
      "error: `--stage wgsl` shows kernels for WebGPU\n  help: leave `--target wasm` out, or look at `--stage plan`",
    ],
  ];
  for (const [args, expected] of cases)
    test(`netc ${args.join(" ")}`, async () => {
      const ran = await netc(args, { cwd: at });
      expect(words(ran)).toBe(expected);
      expect(ran).toMatchObject({ code: 2, stdout: "" });
    });

  test("a position or a model that is not there is the model's matter: 1", async () => {
    const position = await netc(["inspect", "m.net", "--at", "conv2"], { cwd: at });
    expect(words(position)).toBe(
      "error: `M` has no position `conv2`\n  help: `netc inspect m.net --stage positions` lists them",
    );
    const model = await netc(["check", "m.net", "--model", "K"], { cwd: at });
    expect(words(model)).toMatch(/^error\[E0207\]: this file has no model `K`/);
    expect([position.code, model.code]).toEqual([1, 1]);
  });
});

describe.concurrent("help", () => {
  test("without a command: help on standard error, 2", async () => {
    const ran = await netc([], { cwd: at });
    expect(ran).toMatchObject({ code: 2, stdout: "" });
    expect(ran.stderr).toMatch(/^Usage: netc .*check.*compile.*inspect.*predict.*doctor.*Exit codes: 0 fine.*--json/s);
  });

  for (const command of ["", "check", "compile", "inspect", "profile", "predict", "report", "doctor"])
    test(`netc ${command} --help`, async () => {
      const ran = await netc([...(command === "" ? [] : [command]), "--help"], { cwd: at });
      expect(ran).toMatchObject({ code: 0, stderr: "" });
      expect(ran.stdout).toMatch(new RegExp(`^Usage: netc ${command}`));
      expect(ran.stdout).toContain("--help");
    });

  test("--version", async () => {
    expect((await netc(["--version"], { cwd: at })).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  test("doctor names devices, decoders and its choice", async () => {
    const ran = await netc(["doctor"], { cwd: at });
    expect(ran.code).toBe(0);
    expect(ran.stdout).toMatch(
      /^machine .*^webgpu .*^wasm .*^decoders .*^auto .*--device auto runs on (webgpu|wasm)/ms,
    );
  });
});

describe.concurrent("--json", () => {
  const result = async (args: readonly string[]): Promise<unknown> => {
    const ran = await netc([...args, "--json"], { cwd: at });
    expect(ran.code).toBe(0);
    const value: unknown = JSON.parse(ran.stdout);
    expect(value).toMatchObject({ ok: true, diagnostics: [] });
    return typeof value === "object" && value !== null && "result" in value ? value.result : undefined;
  };

  test("check, compile and doctor print one value", async () => {
    expect(await result(["check", "m.net"])).toMatchObject({ model: "M", parameters: 260 });
    expect(await result(["compile", "m.net", "-o", "json"])).toMatchObject({ model: "M", output: "json" });
    expect(await result(["doctor"])).toMatchObject({ auto: expect.stringMatching(/^(webgpu|wasm)$/) });
  });

  test("failures are values as well: diagnostics of a source, of a command, of a command line", async () => {
    write("wrong.net", "VGG16 ×2 with STIA at conv44\n");
    const failures = [
      [["check", "wrong.net"], 1, { code: "E0502", severity: "error" }],
      [
        ["inspect", "missing.net"],
        1,
        { code: null, message: "cannot read `missing.net`: there is no such file or folder" },
      ],
      [
        ["predict", "m.net", "missing.mp4", "--device", "wasm"],
        1,
        { code: null, message: "`missing.mp4`: there is no such file or folder" },
      ],
      [["compile", "m.net"], 2, { code: null, message: "required option `-o, --output <folder>` not specified" }],
    ] as const;
    for (const [args, code, diagnostic] of failures) {
      const ran = await netc([...args, "--json"], { cwd: at });
      expect(ran).toMatchObject({ code, stderr: "" });
      expect(JSON.parse(ran.stdout)).toMatchObject({ ok: false, diagnostics: [diagnostic] });
    }
  });
});

describe.concurrent("inspect shows the examples", () => {
  const vgg = join(root, "examples/vgg16.net");
  test("parameters and multiply-adds of VGG-16 and ResNet-50 as published", async () => {
    const first = await netc(["inspect", vgg, "--stage", "cost"], { cwd: at });
    expect(first.stdout).toContain("138,357,544 parameters, 15.470 GMAC");
    expect(first.stdout).toMatch(/^memory for inference: .* \(parameters 527\.8 MiB, activations .*\)$/m);
    expect(first.stdout).toMatch(
      /^memory for a training step, SGD with momentum: not on this target: `fc6.weight` is/m,
    );
    const second = await netc(["inspect", join(root, "examples/resnet50.net"), "--stage", "cost"], { cwd: at });
    expect(second.stdout).toContain("25,557,032 parameters, 4.089 GMAC");
    expect(second.stdout).toMatch(
      /^memory for a training step.*\(parameters .*, optimizer 97\.5 MiB, activations .*\)$/m,
    );
  });

  test("what was fused, in how many layers, and why something was not", async () => {
    const { stdout } = await netc(["inspect", join(root, "examples/tiny_stia.net"), "--stage", "cost"], { cwd: at });
    expect(stdout).toMatch(
      /^conv +relu +fused +into its stores +spatial\.conv1 spatial\.conv2 spatial\.conv3 temporal\.conv1 and 4 more$/m,
    );
    expect(stdout).toMatch(/^softmax\.state +softmax +apart +each reduced value is read several times +stia_conv3/m);
  });

  const stages = ["shapes", "positions", "cost", "graph", "loop", "plan", "wgsl"];

  test("every stage of tiny_stia.net as text", async () => {
    const all = await Promise.all(stages.map((stage) => netc(["inspect", tiny, "--stage", stage], { cwd: at })));
    for (const ran of all) {
      expect(ran).toMatchObject({ code: 0, stderr: "" });
      expect(ran.stdout).toMatch(/spatial[._]conv1/);
    }
  });

  test("every stage of vgg16.net as JSON", async () => {
    const all = await Promise.all(
      stages.map((stage) => netc(["inspect", vgg, "--stage", stage, "--json"], { cwd: at })),
    );
    for (const ran of all) {
      expect(ran).toMatchObject({ code: 0, stderr: "" });
      expect(JSON.parse(ran.stdout)).toMatchObject({ ok: true, diagnostics: [], result: expect.anything() });
      expect(ran.stdout).toContain("conv1_1");
    }
  });
});
