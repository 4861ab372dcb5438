/**
 * Builds the package: `dist/` from the sources with tsc, the standard library beside it, and the `netc` command.
 *
 * npm links the commands of installed packages but not those of the package it stands in, so `npx netc` inside a clone
 * would fetch a stranger of that name; the link in node_modules/.bin keeps it at home.
 */
import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL(".", import.meta.url));
const main = join(root, "dist/runtime/cli/main.js");

rmSync(join(root, "dist"), { recursive: true, force: true });
const tsc = spawnSync(
  process.execPath,
  [join(root, "node_modules/typescript/bin/tsc"), "-p", join(root, "tsconfig.build.json")],
  { stdio: "inherit" },
);
if (tsc.status !== 0) process.exit(1);
cpSync(join(root, "compiler/std"), join(root, "dist/compiler/std"), { recursive: true });
chmodSync(main, 0o755);

const commands = join(root, "node_modules/.bin");
if (existsSync(join(root, "node_modules"))) {
  mkdirSync(commands, { recursive: true });
  const link = join(commands, "netc");
  rmSync(link, { force: true });
  if (process.platform === "win32") writeFileSync(`${link}.cmd`, `@node "${main}" %*\r\n`);
  else symlinkSync("../../dist/runtime/cli/main.js", link);
}
