/**
 * A compiler that tries plans on the device: the compiler's own functions, with the tuner behind them.
 *
 * In: what the compiler is asked for. Out: the same programs with the fastest plans that are known. Plans that the book holds
 * are taken at once; kernels that it does not know are tried as long as the stated time lasts, which all programs of this
 * object share, and what was found out is written down. Without time left, plans of the book are all there is.
 */
import { KernelReuse } from "../../compiler/assemble.ts";
import type { Capability } from "../../compiler/capability.ts";
import { type CompileOptions, compile, compileStep, type Staged } from "../../compiler/compile.ts";
import type { OpenProgram } from "../engine/devices.ts";
import { PlanBook } from "./book.ts";
import { type TuneReport, tuneKernels } from "./tuner.ts";

export interface TuningOptions {
  readonly target: Capability;
  readonly open: OpenProgram;
  /** What trying plans may take in all; 0 uses what is known. */
  readonly seconds: number;
  /** Only plans whose results are plan 0's bit for bit: a training stays repeatable. */
  readonly exact: boolean;
  /** Where plans are kept, if not in the cache. */
  readonly folder?: string;
  /** Hears what was tried for each program. */
  readonly onTuned?: (report: TuneReport) => void;
}

export class TuningCompiler {
  readonly #options: TuningOptions;
  readonly #book: PlanBook;
  readonly #reuse: KernelReuse;
  /** ms that are left. */
  #left: number;

  constructor(options: TuningOptions) {
    const { target, folder, exact, seconds } = options;
    this.#options = options;
    this.#book = new PlanBook(target, folder === undefined ? { exact } : { folder, exact });
    this.#reuse = new KernelReuse(target, this.#book.plans);
    this.#left = 1000 * seconds;
  }

  readonly compile = async (...[model, options]: Parameters<typeof compile>): Promise<ReturnType<typeof compile>> =>
    this.#tuned((reuse) => compile(model, { ...options, reuse }), options);

  readonly compileStep = async (
    ...[model, stage, options]: Parameters<typeof compileStep>
  ): Promise<ReturnType<typeof compileStep>> =>
    this.#tuned((reuse) => compileStep(model, stage, { ...options, reuse }), options);

  async #tuned<T>(make: (reuse: KernelReuse) => Staged<T>, { target }: CompileOptions): Promise<Staged<T>> {
    if (target !== this.#options.target) throw new Error("internal: plans of another target");
    const started = performance.now();
    const first = make(this.#reuse);
    const compiling = performance.now() - started;
    // Compiling with what was found takes about as long again.
    if ("diagnostics" in first || this.#left <= compiling) return first;
    const { open, exact, onTuned } = this.#options;
    const began = performance.now();
    const until = began + this.#left - compiling;
    const report = await tuneKernels({ reuse: this.#reuse, book: this.#book, open, exact, until });
    if (report.decided > 0) this.#book.save();
    if (report.open > 0) onTuned?.(report);
    const made = report.changed > 0 ? make(this.#reuse) : first;
    this.#left -= performance.now() - began;
    return made;
  }
}
