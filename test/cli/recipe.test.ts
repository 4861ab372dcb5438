/** Recipes on the command line: `check` checks all of a file, `inspect --stage recipe` spells one out. */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { netc, playground, root, words } from "./command.ts";

const { at, write } = playground();
const staged = join(root, "examples/staged.net");
write(
  "two.net",
  'model M = VGG16(classes=4)\nrecipe Short for M { epochs = 1 }\nrecipe Long for M { epochs = 90; data = Clips("clips") }\n',
);
write("wrong.net", "model M = VGG16(classes=4)\nrecipe Short for M { epohcs = 1 }\n");

describe.concurrent("recipes", () => {
  test("are checked with their models", async () => {
    const { code, stdout } = await netc(["check", staged], { cwd: at });
    expect(code).toBe(0);
    expect(stdout.split("\n").slice(1)).toEqual(["✓ InStages trains Faces: 60 epochs in 3 stages", ""]);
    const { stdout: json } = await netc(["check", "two.net", "--json"], { cwd: at });
    expect(JSON.parse(json)).toMatchObject({
      ok: true,
      result: {
        recipes: [
          { name: "Short", model: "M", epochs: 1 },
          { name: "Long", model: "M", epochs: 90 },
        ],
      },
    });
  });

  test("with mistakes are errors of the file", async () => {
    const { code, stderr, stdout } = await netc(["check", "wrong.net"], { cwd: at });
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toContain("error[E0701]: a recipe has no setting `epohcs`");
    expect(stderr).toContain("did you mean `epochs`?");
  });

  test("are shown with every default", async () => {
    const last = await netc(["inspect", "two.net", "--stage", "recipe"], { cwd: at });
    expect(last.code).toBe(0);
    expect(last.stdout).toMatch(/^Long\n/);
    expect(last.stdout).toMatch(/^stage +90 epochs$/m);
    expect(last.stdout).toMatch(/^data +clips$/m);
    const named = await netc(["inspect", "two.net", "--stage", "recipe", "--recipe", "Short", "--json"], { cwd: at });
    expect(JSON.parse(named.stdout)).toMatchObject({ result: { name: "Short", data: { folder: "" } } });
  });

  test("that are not there are 1", async () => {
    const ran = await netc(["inspect", "two.net", "--stage", "recipe", "--recipe", "Shrt"], { cwd: at });
    expect(ran.code).toBe(1);
    expect(words(ran)).toContain("this file has no recipe `Shrt`");
  });
});
