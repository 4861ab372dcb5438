/**
 * Where `netc compile` writes: it replaces its own folders and nothing else, and whatever goes wrong, what was there
 * before is there afterwards and nothing is left over.
 */
import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { WASM_DEFAULT } from "../../compiler/capability.ts";
import { compile } from "../../compiler/compile.ts";
import type { Program } from "../../compiler/program.ts";
import { CommandError } from "../../runtime/cli/exit.ts";
import { elaborateEntry } from "../../runtime/cli/model.ts";
import { readProgramFolder, writeProgramFolder } from "../../runtime/cli/program-folder.ts";
import { openEntry } from "../../runtime/cli/sources.ts";
import { netc, playground, root, words } from "./command.ts";

const { at, write } = playground();
const SOURCE = "model M(x: f32[N, 3, 8, 8]) = Conv(8) @conv1 -> GlobalAvgPool -> Linear(4) @fc\n";
const file = write("m.net", SOURCE);

/** Names and contents of everything below a folder. */
function contents(folder: string): ReadonlyMap<string, string> {
  return new Map(
    readdirSync(folder, { withFileTypes: true, recursive: true })
      .filter((entry) => entry.isFile())
      .map((entry) => [join(entry.parentPath, entry.name), readFileSync(join(entry.parentPath, entry.name), "latin1")]),
  );
}

const leftovers = (folder: string): readonly string[] => readdirSync(folder).filter((name) => name.startsWith("."));

function program(seed: number): Program {
  const model = elaborateEntry(openEntry(file), { model: undefined, bind: new Map(), json: false });
  if (model === undefined) throw new Error("the model of this test is wrong");
  const made = compile(model, { target: WASM_DEFAULT, sizes: new Map([["N", 1]]), seed });
  if (!("ok" in made)) throw new Error("the model of this test does not compile");
  return made.ok;
}

describe.concurrent("netc compile -o", () => {
  const cases: readonly (readonly [name: string, prepare: () => string, expected: string])[] = [
    [
      "a folder of someone else",
      () => {
        write("theirs/note.txt", "hello");
        return "theirs";
      },
      "error: `theirs` exists and was not written by netc: it is left as it is\n  help: choose another folder with `-o FOLDER`",
    ],
    [
      "a file",
      () => {
        write("a file", "hello");
        return "a file";
      },
      "error: `a file` exists and is not a folder\n  help: choose another folder with `-o FOLDER`",
    ],
    [
      "below a file",
      () => {
        write("plain", "hello");
        return "plain/out";
      },
      "error: cannot write `plain/out`: a part of the path is a file",
    ],
    [
      "the working folder",
      () => ".",
      "error: `.` holds the folder you are in: it is left as it is\n  help: choose another folder with `-o FOLDER`",
    ],
    [
      "the root of the file system",
      () => "/",
      "error: `/` holds the folder you are in: it is left as it is\n  help: choose another folder with `-o FOLDER`",
    ],
  ];
  for (const [name, prepare, expected] of cases)
    test(name, async () => {
      const output = prepare();
      const ran = await netc(["compile", "m.net", "-o", output], { cwd: at });
      expect(words(ran)).toBe(expected);
      expect(ran).toMatchObject({ code: 1, stdout: "" });
      expect(readFileSync(join(at, "m.net"), "utf8")).toBe(SOURCE);
      if (output === "theirs") expect([...contents(join(at, "theirs")).values()]).toEqual(["hello"]);
    });

  test("a folder of ours is replaced, unless someone has put a file into it", async () => {
    const first = await netc(["compile", "m.net", "-o", "ours", "--target", "wasm"], { cwd: at });
    expect(first.stdout).toMatch(
      /^✓ M for wasm.* in `ours`\n .* kernels, .* steps a run, .* of device memory\n {2}weights: made from seed 0 when/,
    );
    const again = await netc(["compile", "-", "-o", "ours", "--emit", "ts", "--seed", "3", "--materialize"], {
      cwd: at,
      stdin: SOURCE,
    });
    expect(again).toMatchObject({ code: 0, stderr: "" });
    const names = readdirSync(join(at, "ours")).sort();
    expect(names).toEqual([".netc-files", "M.net.ts", "kernels", "program.json", "weights.safetensors"]);
    expect(readdirSync(join(at, "ours/kernels")).every((name) => name.endsWith(".wgsl"))).toBe(true);

    write("ours/mine.txt", "do not lose this");
    const before = contents(join(at, "ours"));
    const refused = await netc(["compile", "m.net", "-o", "ours"], { cwd: at });
    expect(words(refused)).toBe(
      "error: `ours` holds 1 file that netc did not write: `mine.txt`; it is left as it is\n  help: move it away, or choose another folder with `-o FOLDER`",
    );
    expect(refused.code).toBe(1);
    expect(contents(join(at, "ours"))).toEqual(before);
  });

  test("an empty folder, a new one below others, one behind a link", async () => {
    mkdirSync(join(at, "nothing"));
    symlinkSync("nothing", join(at, "link"));
    for (const output of ["nothing", "new/deep/out", "link"])
      expect(await netc(["compile", "m.net", "-o", output], { cwd: at })).toMatchObject({ code: 0, stderr: "" });
    expect(readdirSync(join(at, "nothing"))).toContain("program.json");
    expect(readdirSync(join(at, "new/deep"))).toEqual(["out"]);
  });

  test("weights of another file become the program's own", async () => {
    await netc(["compile", "m.net", "-o", "given", "--materialize", "--seed", "7"], { cwd: at });
    const ran = await netc(["compile", "m.net", "-o", "taken", "--weights", "given/weights.safetensors"], { cwd: at });
    expect(ran.stdout).toContain("weights: weights.safetensors");
    const weights = (folder: string): Buffer => readFileSync(join(at, folder, "weights.safetensors"));
    expect(weights("taken").equals(weights("given"))).toBe(true);
  });

  test.skipIf(process.platform === "win32")(
    "a file that may not grow any more: the earlier program stays",
    async () => {
      write("limited/m.net", SOURCE);
      const cwd = join(at, "limited");
      await netc(["compile", "m.net", "-o", "out"], { cwd });
      const before = contents(cwd);
      const ran = await netc(["compile", join(root, "examples/tiny_stia.net"), "-o", "out"], {
        cwd,
        shell: 'ulimit -f 16; exec "$@"',
      });
      expect(words(ran)).toBe(
        "error: cannot write `out`: a file grew past the size that this process may write\n  help: nothing that was there before has been changed",
      );
      expect(ran).toMatchObject({ code: 3, stdout: "" });
      expect(contents(cwd)).toEqual(before);
      expect(leftovers(cwd)).toEqual([]);
    },
  );
});

describe("a write that fails in the middle", () => {
  const failing = (code: string) => (): never => {
    throw Object.assign(new Error(code), { code });
  };

  test("a full disk is this machine's matter, and costs nothing", async () => {
    const folder = join(at, "full/out");
    await writeProgramFolder(program(1), folder);
    const before = contents(join(at, "full"));
    const write = writeProgramFolder(program(2), folder, [
      { name: "weights.safetensors", contents: failing("ENOSPC") },
    ]);
    await expect(write).rejects.toThrow(
      expect.objectContaining({ message: `cannot write \`${folder}\`: the disk is full`, exit: 3 }),
    );
    await expect(write).rejects.toBeInstanceOf(CommandError);
    expect(contents(join(at, "full"))).toEqual(before);
    expect(leftovers(join(at, "full"))).toEqual([]);
    expect((await readProgramFolder(folder)).seed).toBe(1);
    await writeProgramFolder(program(2), folder);
    expect((await readProgramFolder(folder)).seed).toBe(2);
  });

  test("the folder has the rights that mkdir gives", async () => {
    const folder = join(at, "rights/out");
    await writeProgramFolder(program(0), folder);
    mkdirSync(join(at, "rights/plain"));
    expect(statSync(folder).mode).toBe(statSync(join(at, "rights/plain")).mode);
  });
});
