/**
 * The book of plans: which plan was the fastest for a kernel, kept on disk.
 *
 * In: a target as it is on this machine. Out: plans by the kernel's hash. A file belongs to one adapter (or processor), one
 * compiler and one way of tuning; its name is a hash of those. A plan is written as the JSON of one of the kernel's
 * candidates, and whoever reads it compares it with those, so that nothing in a damaged file can do harm: what is not
 * understood counts as not tuned. Files are written beside their place and renamed; several processes may write.
 */
import { createHash } from "node:crypto";
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeSync } from "node:fs";
import { cpus } from "node:os";
import { dirname, join } from "node:path";
import type { Capability } from "../../compiler/capability.ts";
import { defaultCache } from "../data/loader/cache.ts";
import { compilerMark } from "./mark.ts";

/** What was found for a kernel: the plan as JSON, and the times of plan 0 and of that plan in ms. */
export interface Finding {
  readonly plan: string;
  readonly ms: readonly [number, number];
}

export interface BookOptions {
  /** Where books lie; by default below the cache of decoded clips. */
  readonly folder?: string;
  /** Only plans whose results are those of plan 0 bit for bit. */
  readonly exact: boolean;
}

export class PlanBook {
  readonly path: string;
  readonly #findings: Map<string, Finding>;

  constructor(target: Capability, { folder = join(defaultCache().folder, "plans"), exact }: BookOptions) {
    // On the CPU the record does not say which processor it is.
    const processor = target.kind === "wasm" ? [process.arch, cpus()[0]?.model] : [];
    const facts = JSON.stringify([compilerMark(), target, processor, exact]);
    this.path = join(folder, `${createHash("sha256").update(facts).digest("hex")}.json`);
    this.#findings = read(this.path);
  }

  /** Plans by the hash of their kernel. */
  get plans(): ReadonlyMap<string, string> {
    return new Map([...this.#findings].map(([hash, { plan }]) => [hash, plan]));
  }

  has(hash: string): boolean {
    return this.#findings.has(hash);
  }

  set(hash: string, finding: Finding): void {
    this.#findings.set(hash, finding);
  }

  /** Writes the book, with what others have written since; false if this machine does not let it. */
  save(): boolean {
    const all = new Map([...read(this.path), ...this.#findings]);
    const text = JSON.stringify({ format: "netc-plans", version: 1, kernels: Object.fromEntries(all) });
    const fresh = `${this.path}.${process.pid}.part`;
    let begun = false;
    try {
      mkdirSync(dirname(this.path), { recursive: true });
      const file = openSync(fresh, "w");
      begun = true;
      try {
        let rest = Buffer.from(text);
        while (rest.length > 0) rest = rest.subarray(writeSync(file, rest));
        fsyncSync(file);
      } finally {
        closeSync(file);
      }
      renameSync(fresh, this.path);
      return true;
    } catch {
      if (begun) rmSync(fresh, { force: true });
      return false;
    }
  }
}

/** What a file says; of a damaged one, what can be understood of it. */
function read(path: string): Map<string, Finding> {
  const findings = new Map<string, Finding>();
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return findings;
  }
  const kernels = typeof content === "object" && content !== null && "kernels" in content ? content.kernels : undefined;
  if (typeof kernels !== "object" || kernels === null) return findings;
  for (const [hash, value] of Object.entries(kernels)) {
    const finding: unknown = value;
    if (!/^[0-9a-f]{64}$/.test(hash) || typeof finding !== "object" || finding === null) continue;
    const plan: unknown = Reflect.get(finding, "plan");
    const ms: unknown = Reflect.get(finding, "ms");
    if (typeof plan !== "string" || !Array.isArray(ms)) continue;
    const [before, after] = ms.map(Number);
    if (before === undefined || after === undefined) continue;
    findings.set(hash, { plan, ms: [before, after] });
  }
  return findings;
}
