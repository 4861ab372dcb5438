/**
 * What the document on IRs shows is what `netc inspect` prints.
 */
import { expect, test } from "vitest";
import { netc, root } from "../cli/command.ts";
import { blocksOf, pathOf, readDocument, withBodies } from "./document.ts";

test("the network of the document at every level", async () => {
  const text = readDocument("ir.md");
  const blocks = blocksOf(text);
  const program = blocks.find((block) => block.language === "net" && block.kind === "");
  expect(program).toBeDefined();
  const made = new Map<number, string>();
  for (const [i, { language, kind }] of blocks.entries()) {
    const [command, stage = "", at] = kind.split(" ");
    if (language !== "text" || command !== "inspect") continue;
    const args = ["inspect", "-", "--stage", stage, ...(at === undefined ? [] : ["--at", at])];
    const { code, stdout } = await netc(args, { cwd: root, stdin: program?.body ?? "" });
    expect(code, `--stage ${stage}`).toBe(0);
    made.set(i, stdout.replace(/ +$/gm, ""));
  }
  expect(made.size).toBe(4);
  await expect(withBodies(text, made)).toMatchFileSnapshot(pathOf("ir.md"));
});
