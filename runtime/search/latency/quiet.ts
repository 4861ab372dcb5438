/**
 * A moment in which a device works for one measurement alone.
 *
 * Whoever measures holds a file of this user on this machine; trials look for it between two updates and wait until it is
 * gone. A file whose process has died holds nobody up. Programs that are none of netc's cannot be held, but what they take
 * of the processors is told.
 */
import { readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

export interface QuietOptions {
  /** Seconds that others get to fall silent. */
  readonly patience?: number;
  readonly file?: string;
}

const PATIENCE = 10;
/** Longer than any measurement: a file that is older was left behind, whoever has its process number now. */
const STALE_MS = 15 * 60_000;
/** Below this share of the processors' time others count as silent. */
const SILENT = 0.1;

function quietFile(): string {
  return join(tmpdir(), `netc-measures-${userInfo().uid}`);
}

/** Whose process holds the file; undefined if nobody does. */
function holder(file: string): number | undefined {
  try {
    if (Date.now() - statSync(file).mtimeMs > STALE_MS) return undefined;
    const pid = Number(readFileSync(file, "utf8"));
    // Signal 0 asks only whether there is such a process.
    process.kill(pid, 0);
    return pid;
  } catch {
    return undefined;
  }
}

/** Processor seconds since the machine began: all that were used, and all that there were. */
function processors(): { readonly used: number; readonly all: number } {
  let [used, all] = [0, 0];
  for (const { times } of cpus()) {
    const busy = times.user + times.nice + times.sys + times.irq;
    used += busy / 1000;
    all += (busy + times.idle) / 1000;
  }
  return { used, all };
}

/** Measures what others take of the processors: call, work, call what it gave. */
export function watchOthers(): () => number {
  const before = processors();
  const own = process.cpuUsage();
  return () => {
    const { user, system } = process.cpuUsage(own);
    const after = processors();
    const all = after.all - before.all;
    const others = after.used - before.used - (user + system) / 1e6;
    return all > 0 ? Math.min(1, Math.max(0, others / all)) : 0;
  };
}

/**
 * Does something while no trial of this user on this machine goes on, and no other measurement; waits for a moment until
 * other programs are silent too.
 */
export async function quietly<T>(work: () => Promise<T>, options: QuietOptions = {}): Promise<T> {
  const { patience = PATIENCE, file = quietFile() } = options;
  for (;;) {
    try {
      writeFileSync(file, String(process.pid), { flag: "wx" });
      break;
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
      if (holder(file) === undefined) rmSync(file, { force: true });
      else await pause(50);
    }
  }
  try {
    const end = performance.now() + 1000 * patience;
    while (performance.now() < end) {
      const others = watchOthers();
      await pause(200);
      if (others() < SILENT) break;
    }
    return await work();
  } finally {
    rmSync(file, { force: true });
  }
}

const sleeper = new Int32Array(new SharedArrayBuffer(4));

/**
 * Holds this thread while another process measures. For a process that does nothing but train: between two updates it has
 * nothing else to do.
 */
export function waitWhileMeasured(file: string = quietFile()): void {
  for (let pid = holder(file); pid !== undefined && pid !== process.pid; pid = holder(file))
    Atomics.wait(sleeper, 0, 0, 50);
}

/** Whether so much was taken that times are too long: more than others may have without being in the way. */
export function isShared(busy: number): boolean {
  return busy > Math.max(SILENT, 0.5 / availableParallelism());
}
