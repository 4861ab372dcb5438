/**
 * The book of plans: which plan was the fastest for a kernel, and what a convolution's forms took, kept on disk.
 *
 * In: a target as it is on this machine. Out: plans by the kernel's hash, times by the convolution's sizes. A file belongs to one adapter (or processor), one
 * compiler and one way of tuning; its name is a hash of those. A plan is written as the JSON of one of the kernel's
 * candidates, and whoever reads it compares it with those, so that nothing in a damaged file can do harm: what is not
 * understood counts as not tuned. Files are written beside their place and renamed; several processes may write.
 */
import { createHash } from "node:crypto";
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeSync } from "node:fs";
import { cpus } from "node:os";
import { dirname, join } from "node:path";
import type { Capability } from "../../compiler/capability.ts";
import { type ConvolutionSite, convolutionKey, FORMS, type FormTimes } from "../../compiler/graph/convolution.ts";
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
  readonly #forms: Map<string, FormTimes>;

  constructor(target: Capability, { folder = join(defaultCache().folder, "plans"), exact }: BookOptions) {
    // On the CPU the record does not say which processor it is.
    const processor = target.kind === "wasm" ? [process.arch, cpus()[0]?.model] : [];
    const facts = JSON.stringify([compilerMark(), target, processor, exact]);
    this.path = join(folder, `${createHash("sha256").update(facts).digest("hex")}.json`);
    const { kernels, convolutions } = read(this.path);
    this.#findings = kernels;
    this.#forms = convolutions;
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

  /** ms of a convolution's forms, if they were timed. */
  formTimes(site: ConvolutionSite): FormTimes | undefined {
    return this.#forms.get(convolutionKey(site));
  }

  setFormTimes(site: ConvolutionSite, times: FormTimes): void {
    this.#forms.set(convolutionKey(site), times);
  }

  /** Writes the book, with what others have written since; false if this machine does not let it. */
  save(): boolean {
    const written = read(this.path);
    const text = JSON.stringify({
      format: "netc-plans",
      version: 1,
      kernels: Object.fromEntries([...written.kernels, ...this.#findings]),
      convolutions: Object.fromEntries([...written.convolutions, ...this.#forms]),
    });
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

interface Entries {
  readonly kernels: Map<string, Finding>;
  readonly convolutions: Map<string, FormTimes>;
}

/** What a file says; of a damaged one, what can be understood of it. */
function read(path: string): Entries {
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(path, "utf8"));
  } catch {
    content = undefined;
  }
  return {
    kernels: entriesOf(content, "kernels", /^[0-9a-f]{64}$/, findingOf),
    convolutions: entriesOf(content, "convolutions", /^\d+( \d+){4}$/, formTimesOf),
  };
}

function entriesOf<T>(
  content: unknown,
  part: string,
  key: RegExp,
  understand: (value: object) => T | undefined,
): Map<string, T> {
  const entries = new Map<string, T>();
  const found: unknown = typeof content === "object" && content !== null ? Reflect.get(content, part) : undefined;
  if (typeof found !== "object" || found === null) return entries;
  for (const [name, value] of Object.entries(found)) {
    const given: unknown = value;
    if (!key.test(name) || typeof given !== "object" || given === null) continue;
    const entry = understand(given);
    if (entry !== undefined) entries.set(name, entry);
  }
  return entries;
}

function findingOf(value: object): Finding | undefined {
  const plan: unknown = Reflect.get(value, "plan");
  const ms: unknown = Reflect.get(value, "ms");
  if (typeof plan !== "string" || !Array.isArray(ms)) return undefined;
  const [before, after] = ms.map(Number);
  return before === undefined || after === undefined ? undefined : { plan, ms: [before, after] };
}

/** Times of forms, the direct one among them, for the others are compared with it. */
function formTimesOf(value: object): FormTimes | undefined {
  const times = FORMS.flatMap((form) => {
    const ms: unknown = Reflect.get(value, form);
    return typeof ms === "number" && ms > 0 ? [[form, ms] as const] : [];
  });
  return times.some(([form]) => form === "direct") ? Object.fromEntries(times) : undefined;
}
