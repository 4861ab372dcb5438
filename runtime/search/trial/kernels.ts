/**
 * Compiled programs and kernels, kept: candidates of a search are alike, and most of them are trained several times.
 *
 * In: what the compiler is asked for. Out: the same, from a folder that all trials of this machine share where it was
 * compiled before, and machine code of WASM kernels from memory where this process has met the same code. A program's
 * name in the folder is a hash of all that it depends on: graph, step, target, sizes, and the compiler itself. What does
 * not fit (a file cut short) counts as absent. Files are written beside their place and renamed; the folder is kept below
 * its bound by removing what was used the longest ago.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { deserialize, serialize } from "node:v8";
import { KernelReuse } from "../../../compiler/assemble.ts";
import type { Capability } from "../../../compiler/capability.ts";
import {
  type CompileOptions,
  compile,
  compileStep,
  type Staged,
  type StepCompileOptions,
} from "../../../compiler/compile.ts";
import { graphHash } from "../../../compiler/graph/hash.ts";
import type { Model } from "../../../compiler/model.ts";
import type { Program } from "../../../compiler/program.ts";
import type { Stage } from "../../../compiler/recipe/recipe.ts";
import { defaultCache } from "../../data/loader/cache.ts";
import type { Compiler } from "../../train/trainer.ts";
import { TuningCompiler, type TuningOptions } from "../../tune/compiler.ts";
import { compilerMark } from "../../tune/mark.ts";

/** Bytes of all programs that are kept. */
const BOUND = 512 * 2 ** 20;
/** Modules in memory; those met first go first. */
const MODULES = 4096;

export interface KernelCounts {
  readonly hits: number;
  readonly misses: number;
}

const sha256 = (data: string | Uint8Array): string => createHash("sha256").update(data).digest("hex");

/** Where programs are kept when nobody says: below the cache of decoded clips. */
function kernelFolder(): string {
  return join(defaultCache().folder, "programs");
}

/** What of a stage its step depends on; the rest (rates, their schedule, the stage's end) comes in from outside. */
function stepOf({ name: _n, epochs: _e, rate: _r, schedule: _s, stop: _t, keep: _k, ...rest }: Stage): unknown {
  return rest;
}

/** What of a model a program depends on, besides its graph: the names that it bears. */
function namesOf({ name, graph, parameters, classes, streams, streamOutputs }: Model): unknown {
  const places = streamOutputs.map(({ id }) => id);
  return [graphHash(graph), name, classes, streams, places, parameters.map(({ path, init }) => [path, init])];
}

/** One for a process. */
export class KernelCache implements Compiler {
  readonly #folder: string;
  #mark: string | undefined;
  readonly #reuse = new Map<Capability, KernelReuse>();
  readonly #modules = new Map<string, Promise<WebAssembly.Module>>();
  /** Programs that came from the folder. */
  readonly #kept = new WeakSet<Program>();
  #tuning: TuningCompiler | undefined;
  #hits = 0;
  #misses = 0;
  #written = 0;
  #writable = true;

  constructor(folder: string = kernelFolder()) {
    this.#folder = folder;
  }

  /** Kernels that were asked for since the last call: ready (their program was kept, or their code known), and not. */
  take(): KernelCounts {
    const counts = { hits: this.#hits, misses: this.#misses };
    this.#hits = 0;
    this.#misses = 0;
    return counts;
  }

  /** From now on plans are tried, and all programs have the fastest that are known. Trials are to be repeatable: exactly. */
  tune(options: Omit<TuningOptions, "exact">): void {
    this.#tuning ??= new TuningCompiler({ ...options, exact: true });
  }

  readonly compile = async (model: Model, options: CompileOptions): Promise<Staged<Program>> => {
    const { seed } = options;
    const tuning = this.#tuning;
    const made = await this.#keep(["inference", tuning !== undefined, namesOf(model), factsOf(options)], () =>
      tuning === undefined ? compile(model, this.#reusing(options)) : tuning.compile(model, options),
    );
    if ("diagnostics" in made) return made;
    return { ok: this.#seeded(made.ok, seed) };
  };

  readonly compileStep = async (
    model: Model,
    stage: Stage,
    options: StepCompileOptions,
  ): Promise<ReturnType<typeof compileStep>> => {
    const { seed, precision } = options;
    const tuning = this.#tuning;
    const facts = ["step", tuning !== undefined, namesOf(model), stepOf(stage), factsOf(options), precision];
    const made = await this.#keep(facts, () =>
      tuning === undefined
        ? compileStep(model, stage, this.#reusing(options))
        : tuning.compileStep(model, stage, options),
    );
    if ("diagnostics" in made) return made;
    return { ok: { ...made.ok, program: this.#seeded(made.ok.program, seed) } };
  };

  /** The module of a kernel's code. */
  readonly moduleOf = (code: Uint8Array): Promise<WebAssembly.Module> => {
    const key = sha256(code);
    const known = this.#modules.get(key);
    if (known !== undefined) return known;
    const module = WebAssembly.compile(code);
    if (this.#modules.size >= MODULES) {
      const [oldest] = this.#modules.keys();
      if (oldest !== undefined) this.#modules.delete(oldest);
    }
    this.#modules.set(key, module);
    return module;
  };

  /** Counts a program that is about to be opened. */
  count(program: Program): void {
    const kept = this.#kept.has(program);
    for (const { code } of program.kernels) {
      if (kept || (typeof code !== "string" && this.#modules.has(sha256(code)))) this.#hits++;
      else this.#misses++;
    }
  }

  /** What is compiled here for one target shares its kernels. */
  #reusing<T extends CompileOptions>(options: T): T {
    const { target } = options;
    const reuse = this.#reuse.get(target) ?? new KernelReuse(target);
    this.#reuse.set(target, reuse);
    return { ...options, reuse };
  }

  /** Programs differ by the seed of their parameters only in saying so. */
  #seeded(program: Program, seed: number): Program {
    const own = { ...program, seed };
    if (this.#kept.has(program)) this.#kept.add(own);
    return own;
  }

  async #keep<T extends Program | { readonly program: Program }>(
    facts: unknown,
    make: () => Staged<T> | Promise<Staged<T>>,
  ): Promise<Staged<T>> {
    this.#mark ??= compilerMark();
    const key = sha256(JSON.stringify([this.#mark, facts]));
    const file = join(this.#folder, key.slice(0, 2), `${key}.program`);
    const kept = read(file) as T | undefined;
    if (kept !== undefined) {
      this.#kept.add("program" in kept ? kept.program : kept);
      return { ok: kept };
    }
    const made = await make();
    if ("ok" in made) this.#write(file, made.ok);
    return made;
  }

  #write(file: string, value: unknown): void {
    if (!this.#writable) return;
    const body = serialize(value);
    const temporary = `${file}.${process.pid}.part`;
    try {
      if (this.#written === 0 || this.#written > BOUND / 20) {
        evict(this.#folder);
        this.#written = 0;
      }
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(temporary, Buffer.concat([createHash("sha256").update(body).digest(), body]));
      renameSync(temporary, file);
      this.#written += body.byteLength;
    } catch {
      // A full disk, or a folder that may only be read: everything is compiled, as without a cache.
      this.#writable = false;
      rmSync(temporary, { force: true });
    }
  }
}

function factsOf({ target, sizes }: CompileOptions): unknown {
  return [target, [...sizes].sort(([a], [b]) => (a < b ? -1 : 1))];
}

/** What lies in a file; undefined for none, and for one that is not what was written. */
function read(file: string): unknown {
  try {
    const bytes = readFileSync(file);
    const body = bytes.subarray(32);
    if (!createHash("sha256").update(body).digest().equals(bytes.subarray(0, 32))) return undefined;
    const now = new Date();
    utimesSync(file, now, now);
    return deserialize(body);
  } catch {
    return undefined;
  }
}

/** Removes the programs used the longest ago until a tenth of the bound is free. */
function evict(folder: string): void {
  const files: { readonly path: string; readonly bytes: number; readonly used: number }[] = [];
  try {
    for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
      if (!entry.isFile()) continue;
      const path = join(entry.parentPath, entry.name);
      const { size, mtimeMs } = statSync(path);
      files.push({ path, bytes: size, used: mtimeMs });
    }
  } catch {
    // Nothing was kept yet, or another process is removing too.
  }
  let sum = files.reduce((all, { bytes }) => all + bytes, 0);
  if (sum <= BOUND) return;
  for (const { path, bytes } of files.sort((a, b) => a.used - b.used)) {
    if (sum <= 0.9 * BOUND) break;
    rmSync(path, { force: true });
    sum -= bytes;
  }
}
