/**
 * The tests of the command, of searches and of the benchmark run what `npm run build` wrote: as a user's shell does, and
 * as the processes of trials do. Before them, once: build again if a source is newer than the build, so that nobody tests
 * what they have just changed away.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { TestProject } from "vitest/node";

const root = fileURLToPath(new URL("../..", import.meta.url));
const MAIN = join(root, "dist/runtime/cli/main.js");

function newest(folder: string): number {
  return Math.max(
    0,
    ...readdirSync(folder, { withFileTypes: true, recursive: true })
      .filter((entry) => entry.isFile())
      .map((entry) => statSync(join(entry.parentPath, entry.name)).mtimeMs),
  );
}

function stale(): boolean {
  if (!existsSync(MAIN)) return true;
  const sources = Math.max(...["grammar", "compiler", "runtime"].map((room) => newest(join(root, room))));
  return sources > statSync(MAIN).mtimeMs;
}

declare module "vitest" {
  interface ProvidedContext {
    /** What the build said if it failed; empty if it is fine. */
    buildFailure: string;
  }
}

/** vitest's global setup: does nothing where only tests of other rooms were asked for (`vitest run test/grammar`). */
export function setup(project: TestProject): void {
  const asked = process.argv.slice(2).filter((word) => word.includes("test/"));
  if ((asked.length > 0 && !asked.some((path) => /test\/(?:cli|search|bench)/.test(path))) || !stale()) {
    project.provide("buildFailure", "");
    return;
  }
  const { status, stdout, stderr } = spawnSync("npm run build", { cwd: root, encoding: "utf8", shell: true });
  project.provide("buildFailure", status === 0 ? "" : `npm run build failed:\n${stdout}${stderr}`);
}
