/**
 * The engine's one interface: a program opened on a device.
 *
 * `webgpu.ts` and `wasm/` each turn a `Program` into a `Runner`; everybody else (commands, training, a page in a
 * browser) sees only this. A runner owns device memory and, on WASM, threads: `dispose()` gives them back.
 */
import type { Program, Upload } from "../../compiler/program.ts";

/**
 * Fills `into` with the rows of a parameter that an upload asks for, row-major, as float32. The view may lie in shared
 * memory and must not be kept.
 */
export type WeightSource = (upload: Upload, into: Float32Array) => void | Promise<void>;

/** Looks at what a step wrote; false ends the pass. */
export type Look = (layers: readonly string[], written: readonly Float32Array[]) => boolean;

export interface Runner {
  readonly program: Program;
  /** The device in words: adapter name, or "wasm, 2 threads". */
  readonly device: string;
  /** Runs the load program: uploads every parameter and folds and packs it. Before the first run, and to replace them. */
  load(weights: WeightSource, onProgress?: (done: number, total: number) => void): Promise<void>;
  /** Copies an input, row-major in its declared shape. Throws `EngineError` for an unknown name or a wrong length. */
  write(input: string, data: Float32Array): void;
  /** One forward pass. Resolves when the device has finished. */
  run(): Promise<void>;
  /** A copy of an output, row-major in its declared shape. */
  read(output: string): Promise<Float32Array>;
  /** A copy of a parameter that runs replace, whole and row-major, as the last run left it. */
  readState(path: string): Promise<Float32Array>;
  /**
   * A pass of which every step is looked at: `look` gets the layers that the step works for and copies of the
   * allocations that it wrote, and ends the pass by giving false. Slow; to find the layer where numbers go wrong.
   */
  trace(look: Look): Promise<void>;
  /**
   * Runs step `step` of the pass `times` times over, submitted at once, and resolves when the device has finished: for
   * profiles. None is nothing but the way there and back. What the step leaves behind is then of no use.
   */
  repeat(step: number, times: number): Promise<void>;
  dispose(): void;
}

/** What can go wrong on a device, in terms a caller can act on. */
export type EngineProblem =
  /** The program needs more of `what` than this device has; both in bytes or counts. */
  | { readonly kind: "limit"; readonly what: string; readonly need: number; readonly have: number }
  /** The machine has no such device. */
  | { readonly kind: "no-device"; readonly what: string }
  /** The device went away or a kernel failed; `what` names the layer where it is known. */
  | { readonly kind: "failed"; readonly what: string }
  /** The caller's mistake: an unknown input, a wrong length. */
  | { readonly kind: "usage"; readonly what: string };

/** An error of the engine with its cause as data. */
export class EngineError extends Error {
  readonly problem: EngineProblem;
  constructor(problem: EngineProblem) {
    super(
      problem.kind === "limit" ? `${problem.what}: ${problem.need} needed, ${problem.have} available` : problem.what,
    );
    this.name = "EngineError";
    this.problem = problem;
  }
}
