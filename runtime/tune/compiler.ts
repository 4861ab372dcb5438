/**
 * A compiler that tries plans on the device: the compiler's own functions, with the tuner behind them.
 *
 * In: what the compiler is asked for. Out: the same programs with the fastest plans that are known; in inference, where
 * results need not be equal to the bit, also with the fastest forms of convolutions. Plans that the book holds
 * are taken at once; kernels that it does not know are tried as long as the stated time lasts, which all programs of this
 * object share, and what was found out is written down. Without time left, plans of the book are all there is.
 */
import { KernelReuse } from "../../compiler/assemble.ts";
import type { Capability } from "../../compiler/capability.ts";
import {
  bindModel,
  type CompileOptions,
  compile,
  compileStep,
  convolutionsOf,
  type Staged,
} from "../../compiler/compile.ts";
import type { Model } from "../../compiler/model.ts";
import type { OpenProgram } from "../engine/devices.ts";
import { PlanBook } from "./book.ts";
import { tuneConvolutions } from "./convolutions.ts";
import type { Tried } from "./measure.ts";
import { tuneKernels } from "./tuner.ts";

/** What was tried for a program. */
export interface TuneReport {
  /** Without any in training, and where results must be equal to the bit. */
  readonly convolutions: Tried;
  readonly kernels: Tried;
}

const NOTHING: Tried = { open: 0, decided: 0, changed: 0, before: 0, after: 0 };

/** Forms of convolutions may take this share of the time that is left; the rest is for plans. */
const FORMS_SHARE = 0.6;

export interface TuningOptions {
  readonly target: Capability;
  readonly open: OpenProgram;
  /** What trying plans may take in all; 0 uses what is known. */
  readonly seconds: number;
  /** Only plans whose results are plan 0's bit for bit: a training stays repeatable. */
  readonly exact: boolean;
  /** Where plans are kept, if not in the cache. */
  readonly folder?: string;
  /** Gives ms; by default `performance.now`. */
  readonly clock?: () => number;
  /** Hears what was tried for each program. */
  readonly onTuned?: (report: TuneReport) => void;
}

export class TuningCompiler {
  readonly #options: TuningOptions;
  readonly #book: PlanBook;
  readonly #reuse: KernelReuse;
  readonly #clock: () => number;
  /** ms that are left. */
  #left: number;

  constructor(options: TuningOptions) {
    const { target, folder, exact, seconds } = options;
    this.#options = options;
    this.#book = new PlanBook(target, folder === undefined ? { exact } : { folder, exact });
    this.#reuse = new KernelReuse(target, this.#book.plans);
    this.#clock = options.clock ?? (() => performance.now());
    this.#left = 1000 * seconds;
  }

  readonly compile = async (...[model, options]: Parameters<typeof compile>): Promise<ReturnType<typeof compile>> => {
    if (this.#options.exact || options.convolution !== undefined) {
      return this.#tuned((reuse) => compile(model, { ...options, reuse }), options, NOTHING);
    }
    const tried = await this.#convolutions(model, options);
    const convolution: CompileOptions["convolution"] = (site) => this.#book.formTimes(site);
    return this.#tuned((reuse) => compile(model, { ...options, reuse, convolution }), options, tried);
  };

  readonly compileStep = async (
    ...[model, stage, options]: Parameters<typeof compileStep>
  ): Promise<ReturnType<typeof compileStep>> =>
    this.#tuned((reuse) => compileStep(model, stage, { ...options, reuse }), options, NOTHING);

  async #convolutions(model: Model, { target, sizes }: CompileOptions): Promise<Tried> {
    const bound = bindModel(model, sizes);
    if ("diagnostics" in bound || this.#left <= 0) return NOTHING;
    const began = this.#clock();
    const tried = await tuneConvolutions({
      convolutions: convolutionsOf(bound.ok, target),
      target,
      book: this.#book,
      open: this.#options.open,
      until: began + FORMS_SHARE * this.#left,
      clock: this.#clock,
    });
    if (tried.decided > 0) this.#book.save();
    this.#left -= this.#clock() - began;
    return tried;
  }

  async #tuned<T>(
    make: (reuse: KernelReuse) => Staged<T>,
    { target }: CompileOptions,
    convolutions: Tried,
  ): Promise<Staged<T>> {
    if (target !== this.#options.target) throw new Error("internal: plans of another target");
    const { open, exact, onTuned } = this.#options;
    const tell = (kernels: Tried): void => {
      if (convolutions.open + kernels.open > 0) onTuned?.({ convolutions, kernels });
    };
    const started = this.#clock();
    const first = make(this.#reuse);
    const compiling = this.#clock() - started;
    if ("diagnostics" in first) return first;
    // Compiling with what was found takes about as long again.
    if (this.#left <= compiling) {
      tell(NOTHING);
      return first;
    }
    const began = this.#clock();
    const until = began + this.#left - compiling;
    const kernels = await tuneKernels({ reuse: this.#reuse, book: this.#book, open, exact, until, clock: this.#clock });
    if (kernels.decided > 0) this.#book.save();
    tell(kernels);
    const made = kernels.changed > 0 ? make(this.#reuse) : first;
    this.#left -= this.#clock() - began;
    return made;
  }
}
