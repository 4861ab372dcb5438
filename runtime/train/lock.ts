/**
 * Who trains in a run's folder: one process at a time.
 *
 * Each process puts up a claim, a file of its own, and then looks for the claims of others: two that come together see
 * each other, whoever was first. A claim of a process that is gone counts for nothing and is taken away; since numbers of
 * processes are used again, a claim also says when its process began, and in which start of the machine.
 */
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { closeSync, fsyncSync, openSync, readdirSync, readFileSync, renameSync, rmSync, writeSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { codeOf, RunError } from "./fault.ts";

interface Claim {
  readonly pid: number;
  /** When the process began, in the words of its system; undefined where that cannot be asked. */
  readonly began: string | undefined;
  readonly host: string;
  /** Which start of the machine this is; undefined where that cannot be asked. */
  readonly boot: string | undefined;
}

const PREFIX = ".lock-";
/** Two claims that saw each other are both withdrawn, and tried again after a while that chance chooses. */
const ATTEMPTS = 4;

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

/** When a process began; undefined: it is gone, or its system does not say. */
function beganAt(pid: number): string | undefined {
  if (process.platform === "linux") {
    // The 22nd field; the second is the command in brackets and may hold blanks and brackets itself.
    const stat = textOf(`/proc/${pid}/stat`);
    return stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  }
  if (process.platform === "win32") return undefined;
  const { stdout } = spawnSync("ps", ["-o", "lstart=", "-p", String(pid)], { encoding: "utf8" });
  return stdout?.trim() === "" ? undefined : stdout?.trim();
}

function bootOf(): string | undefined {
  return process.platform === "linux" ? textOf("/proc/sys/kernel/random/boot_id")?.trim() : undefined;
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return codeOf(error) === "EPERM"; // somebody else's
  }
}

/** Another machine's process cannot be asked after: it counts as alive. */
function isAlive(claim: Claim): boolean {
  if (claim.host !== hostname()) return true;
  if (claim.boot !== undefined && claim.boot !== bootOf()) return false;
  if (!exists(claim.pid)) return false;
  const began = beganAt(claim.pid);
  return claim.began === undefined || began === undefined || began === claim.began;
}

function decodeClaim(text: string): Claim | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null || !("pid" in value) || !("host" in value)) return undefined;
    return typeof value.pid === "number" && typeof value.host === "string" ? (value as Claim) : undefined;
  } catch {
    return undefined;
  }
}

/** Puts up a claim; it appears whole. Returns its name. */
function putUp(folder: string): string {
  const name = `${PREFIX}${randomBytes(6).toString("hex")}`;
  const temporary = join(folder, `.claim-${name.slice(PREFIX.length)}`);
  const claim = { pid: process.pid, began: beganAt(process.pid), host: hostname(), boot: bootOf() } satisfies Claim;
  const file = openSync(temporary, "wx");
  try {
    writeSync(file, `${JSON.stringify(claim)}\n`);
    fsyncSync(file);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  } finally {
    closeSync(file);
  }
  renameSync(temporary, join(folder, name));
  return name;
}

/** The claim of another living process, or undefined; those of dead ones are taken away. */
function otherClaim(
  folder: string,
  own: string,
): { readonly name: string; readonly claim: Claim | undefined } | undefined {
  for (const name of readdirSync(folder)) {
    if (!name.startsWith(PREFIX) || name === own) continue;
    const text = textOf(join(folder, name));
    if (text === undefined) continue; // it was withdrawn meanwhile
    const claim = decodeClaim(text);
    if (claim === undefined || isAlive(claim)) return { name, claim };
    rmSync(join(folder, name), { force: true });
  }
  return undefined;
}

/** A claim that stands. The folder may be renamed meanwhile. */
export interface Lock {
  release(folder: string): void;
}

/**
 * Takes the lock of a folder, which messages call `shown`.
 * @throws RunError that names the process that holds it
 */
export async function takeLock(folder: string, shown: string = folder): Promise<Lock> {
  for (let attempt = 1; ; attempt++) {
    const own = putUp(folder);
    const other = otherClaim(folder, own);
    if (other === undefined) return { release: (at) => rmSync(join(at, own), { force: true }) };
    rmSync(join(folder, own), { force: true });
    if (attempt === ATTEMPTS) throw held(shown, other.name, other.claim);
    await new Promise((done) => setTimeout(done, 20 + 100 * Math.random()));
  }
}

function held(folder: string, name: string, claim: Claim | undefined): RunError {
  const file = join(folder, name);
  if (claim === undefined)
    return new RunError("wrong", `\`${file}\` is not a lock that this netc can read`, [
      "if nobody trains in this folder, remove that file",
    ]);
  const here = claim.host === hostname();
  return new RunError(
    "wrong",
    `process ${claim.pid}${here ? "" : ` on \`${claim.host}\``} is training in \`${folder}\` already`,
    here
      ? ["wait for it, or end it; then resume"]
      : [`if it does not run any more, remove \`${file}\`: from here this cannot be seen`],
  );
}
