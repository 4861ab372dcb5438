/**
 * Source texts that are no models, or wrong ones: check, inspect and compile say what, where and what to do, end with 1,
 * and write nothing.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { netc, playground, words } from "./command.ts";

const { at, write } = playground();

const cases: readonly (readonly [name: string, contents: string | Uint8Array, expected: readonly RegExp[]])[] = [
  ["empty", "", [/^error.*: there is nothing in this file|is empty/]],
  [
    "no model",
    "block B(x: [N, C]) -> [N, C] = ReLU\n",
    [/^error: `no model.net` defines no model/, /help: a model is a line/],
  ],
  [
    "rubbish",
    Uint8Array.from({ length: 3000 }, (_, i) => (i * 131 + (i >> 3) * 17) % 256),
    [/^error: `rubbish.net` is not a text/],
  ],
  [
    "invalid utf-8",
    Uint8Array.of(0x6d, 0x20, 0xff, 0xfe),
    [/^error: `invalid utf-8.net` is not a text: it is not valid UTF-8/, /help: a model is a UTF-8 text/],
  ],
  ["parentheses", `model M(x: f32[N, 3]) = ${"(".repeat(10_000)}ReLU${")".repeat(10_000)}\n`, [/nested too deeply/]],
  ["open calls", `model M(x: f32[N, 3]) = ${"Linear(".repeat(10_000)}`, [/nested too deeply/]],
  ["large", "// padding\n".repeat(2_000_000), [/^error: `large.net` is 21 MiB: that is not a model/]],
  [
    "unknown position",
    "VGG16(classes=4) ×2 with STIA at conv3, conv44\n",
    [/^error\[E0502\]: `VGG16` has no position `conv44`/, /unknown position.net:1:41/, /help: did you mean `conv4`\?/],
  ],
  [
    "shapes",
    "block A(x: [N, C, H, W]) -> [N, 4] = Conv(8) @conv1 -> GlobalAvgPool -> Linear(4)\n" +
      "model M = A ×2 over spatial: f32[N, 3, 32, 32], temporal: f32[N, 20, 16, 16] with STIA at conv1 fuse Average\n",
    [/^error\[E0506\]: the two streams differ in shape at `conv1`/, /shapes.net:2:/],
  ],
  [
    "no streams",
    "VGG16 ×0 with STIA at conv3\n",
    [/^error\[E0409\]: `×0` makes no streams/, /help: `×2` for two streams/],
  ],
  [
    "one stream",
    "VGG16 with STIA at conv3\n",
    [/^error\[E0505\]: `STIA` joins 2 streams, but this model has 1/, /help: `VGG16 ×2 with STIA at conv3`/],
  ],
  [
    "cycle",
    'import { B } from "./back.net"\nmodel M(x: f32[N, 3]) = B\n',
    [/^error\[E0203\]: these files import each other in a circle/, /back.net:1:/],
  ],
  [
    "outside",
    'import { B } from "../outside.net"\nmodel M(x: f32[N, 3]) = B\n',
    [/^error\[E0202\]: .*`..\/outside.net` lies outside the project/],
  ],
  [
    "no import",
    'import { B } from "./nowhere.net"\nmodel M(x: f32[N, 3]) = B\n',
    [/^error\[E0202\]: there is no module `.\/nowhere.net`/],
  ],
  [
    "import of a folder",
    'import { B } from "./folder"\nmodel M(x: f32[N, 3]) = B\n',
    [/^error\[E0202\]: .*`folder` is a folder/],
  ],
  [
    "import of rubbish",
    'import { B } from "./rubbish.net"\nmodel M(x: f32[N, 3]) = B\n',
    [/^error\[E0202\]: .*not a text/],
  ],
  [
    "no std",
    'import { B } from "std/nonsense"\nmodel M(x: f32[N, 3]) = B\n',
    [/^error\[E0202\]: there is no module `std\/nonsense`/],
  ],
];

write("back.net", 'import { M } from "./cycle.net"\nblock B(x: [N, C]) -> [N, C] = ReLU\n');
write("folder/readme.txt", "nothing");
for (const [name, contents] of cases) write(`${name}.net`, contents);

describe.concurrent("a wrong source", () => {
  for (const [name, , expected] of cases)
    test(name, async () => {
      const ran = await netc(["compile", `${name}.net`, "-o", `out of ${name}`], { cwd: at });
      for (const line of expected) expect(words(ran)).toMatch(new RegExp(line.source, "m"));
      expect(ran).toMatchObject({ code: 1, stdout: "" });
      expect(existsSync(join(at, `out of ${name}`))).toBe(false);
    });

  for (const [file, expected] of [
    ["missing.net", "error: cannot read `missing.net`: there is no such file or folder"],
    ["folder", "error: cannot read `folder`: it is a folder"],
    ["net.json/model.net", "error: cannot read `net.json/model.net`: a part of the path is not a folder"],
  ] as const)
    test(`${file} cannot be read`, async () => {
      const ran = await netc(["inspect", file], { cwd: at });
      expect(words(ran)).toBe(expected);
      expect(ran).toMatchObject({ code: 1, stdout: "" });
    });

  test("check, inspect and predict say the same as compile", async () => {
    const file = "unknown position.net";
    const compiled = await netc(["compile", file, "-o", "out"], { cwd: at });
    for (const args of [
      ["check", file],
      ["inspect", file],
      ["predict", file, "clip.mp4"],
    ])
      expect(await netc(args, { cwd: at })).toEqual(compiled);
  });
});

describe.concurrent("sizes", () => {
  write("open.net", "model M(x: f32[N, 3, H, W]) = Conv(8) -> GlobalAvgPool -> Linear(4)\n");

  test("an open size may stay open for check, and is asked for by everything that needs numbers", async () => {
    expect(await netc(["check", "open.net"], { cwd: at })).toMatchObject({ code: 0, stderr: "" });
    const ran = await netc(["compile", "open.net", "-o", "open", "--bind", "H=32"], { cwd: at });
    expect(words(ran)).toMatchInlineSnapshot(`
      "error[E0317]: the size \`W\` is open, and kernels need a number
        ┌─ open.net:1:9
        = help: --bind W=224"
    `);
    expect(ran.code).toBe(1);
    const bound = await netc(["inspect", "open.net", "--bind", "H=32", "--bind", "W=48", "--batch", "2"], { cwd: at });
    expect(bound).toMatchObject({ code: 0, stderr: "" });
    expect(bound.stdout).toContain("[2, 3, 32, 48]");
  });

  test("a size that breaks the model's own condition is refused with the nearest that keeps it", async () => {
    write(
      "multiple.net",
      "model M(x: f32[N, 3, H, W]) -> f32[N, 4]\nwhere H % 4 == 0\n{ return x -> Conv(8) -> GlobalAvgPool -> Linear(4) }\n",
    );
    const ran = await netc(["inspect", "multiple.net", "--bind", "H=30", "--bind", "W=5"], { cwd: at });
    expect(words(ran)).toMatch(/E0318\]: `H` must be a multiple of 4, and 30 is not/);
    expect(ran.code).toBe(1);
  });

  test("a size that the model does not have is a mistake of the command line", async () => {
    const ran = await netc(["inspect", "open.net", "--bind", "h=32"], { cwd: at });
    expect(words(ran)).toMatchInlineSnapshot(`
      "error: \`--bind h=…\`: \`M\` has no open size \`h\`
        help: its open sizes: N (the batch, by \`--batch\`), H, W"
    `);
    expect(ran).toMatchObject({ code: 2, stdout: "" });
  });

  test("attention whose table is read twice is refused over the budget with its size, in little memory", async () => {
    write(
      "budget.net",
      `model Twice(x: f32[N, 4, 128, 128]) -> (f32[N, 16384, 4], f32[N, 16384]) {
  q = x -> rearrange("n c h w -> n (h w) c")
  a = softmax(matmul(q, transpose(q)), axis=-1)
  return (matmul(a, q), mean(a, axis=1))
}
`,
    );
    const started = performance.now();
    // A heap that would not hold a thirtieth of it.
    const ran = await netc(["compile", "budget.net", "-o", "budget"], {
      cwd: at,
      env: { NODE_OPTIONS: "--max-old-space-size=300" },
    });
    expect(words(ran)).toMatch(/^error\[E0901\]: attention needs 1\.0 GiB for one image/);
    expect(words(ran)).toContain("budget.net:3:");
    expect(words(ran)).toMatch(/help: a table of .* need not be there/);
    expect(ran).toMatchObject({ code: 1, stdout: "" });
    expect(performance.now() - started).toBeLessThan(20_000);
    expect(existsSync(join(at, "budget"))).toBe(false);
    write("conv1.net", "VGG16 ×2 with STIA at conv1\n");
    const large = await netc(["compile", "conv1.net", "-o", "conv1"], { cwd: at });
    expect(large).toMatchObject({ code: 0 });
    expect(large.stdout).toMatch(/1\.\d GiB of device memory/);
  });
});
