/**
 * Runs the built `netc` as a child process, as a shell would, two at a time. Every run is checked for what must never
 * happen: a stack trace, an internal error, an exit code that is not one of the four.
 */
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, inject, vi } from "vitest";

/** The repository. */
export const root: string = fileURLToPath(new URL("../..", import.meta.url));
/** The built command. */
const MAIN: string = join(root, "dist/runtime/cli/main.js");

export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly cwd: string;
  readonly stdin?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** A shell line in which `"$@"` is the command, for example with a limit before it. */
  readonly shell?: string;
}

// Tests of a file start together and wait for their turn: the wait counts as their time.
vi.setConfig({ testTimeout: 240_000 });

let running = 0;
const waiting: (() => void)[] = [];

async function turn(): Promise<() => void> {
  if (running >= 2) await new Promise<void>((go) => waiting.push(go));
  running++;
  return () => {
    running--;
    waiting.shift()?.();
  };
}

/** Runs `netc args`. */
export async function netc(args: readonly string[], options: RunOptions): Promise<Ran> {
  const failure = inject("buildFailure");
  if (failure !== "") throw new Error(failure);
  const done = await turn();
  try {
    const command = [process.execPath, MAIN, ...args];
    const [program = "", ...rest] =
      options.shell === undefined ? command : ["/bin/sh", "-c", options.shell, "sh", ...command];
    const child = spawn(program, rest, {
      cwd: options.cwd,
      // No colours, whatever terminal the tests run in.
      env: { ...process.env, NO_COLOR: "1", FORCE_COLOR: "0", ...options.env },
    });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    child.stdin.on("error", () => {}); // a command that does not read its input may be gone before it is written
    child.stdin.end(options.stdin ?? "");
    const code = await new Promise<number | null>((close, fail) => child.on("error", fail).on("close", close));
    // Dawn names its own source line in a warning; only traces of JavaScript are ours.
    if (/^\s+at .*(\.js|\.ts|node:\S+):\d+/m.test(stderr) || stderr.includes("internal error"))
      throw new Error(`netc ${args.join(" ")} broke down:\n${stderr}`);
    if (code === null || code > 3) throw new Error(`netc ${args.join(" ")} ended with ${code}:\n${stderr}`);
    return { code, stdout, stderr };
  } finally {
    done();
  }
}

/** What a person reads first: the lines that say what is wrong, where, and what to do; not the pictures between. */
export function words({ stderr }: Ran): string {
  return stderr
    .split("\n")
    .filter((line) => /^(error|warning)|┌─|^\s*(= )?help: /.test(line))
    .map((line) => line.replace(/^ +/, "  "))
    .join("\n");
}

/** A folder of its own for a test file, a project of its own for netc, removed afterwards. `write` fills it. */
export function playground(): {
  readonly at: string;
  readonly write: (path: string, contents: string | Uint8Array) => string;
} {
  const at = mkdtempSync(join(tmpdir(), "netc-cli-"));
  const write = (path: string, contents: string | Uint8Array): string => {
    const file = join(at, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, contents);
    return file;
  };
  write("net.json", "{}");
  afterAll(() => rmSync(at, { recursive: true, force: true }));
  return { at, write };
}
