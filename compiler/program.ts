/**
 * The Program: what the compiler makes and the engine runs.
 *
 * A plain value without functions, so that it can be written to a folder (specs/program.md), checked, read in a browser
 * and run there. It holds no device object and the engine needs nothing else: buffers with their colours, kernels as
 * text or bytes, the steps that run them, and either weights or the seed that makes them.
 */
import type { DType } from "../grammar/ast.ts";
import type { Capability } from "./capability.ts";
import type { Init } from "./graph/graph.ts";

/** A piece of device memory; several buffers of the loop nests may share one (they have one colour). */
export interface Allocation {
  readonly bytes: number;
  /** Of the buffers that live here, for people. */
  readonly label: string;
  /** `load`: needed only until loading has finished. */
  readonly lifetime: "load" | "run";
}

export interface ProgramKernel {
  /** File name without extension, named after the layers it serves; unique. */
  readonly name: string;
  /** Rendered WGSL, or the bytes of a WASM module. */
  readonly code: string | Uint8Array;
  readonly workgroupSize: readonly [number, number, number];
  /** WASM: bytes of scratch memory that each thread needs. */
  readonly scratchBytes: number;
}

export interface Step {
  /** Index in `kernels`. */
  readonly kernel: number;
  /** Index in `allocations`, one per kernel argument, in binding order. */
  readonly bindings: readonly number[];
  readonly workgroups: readonly [number, number, number];
  /** What it writes. */
  readonly writes: readonly Written[];
  /** Layers this step works for. */
  readonly layers: readonly string[];
  /** Multiply-adds (2 FLOPs each) and bytes moved at least, for profiles. */
  readonly macs: number;
  readonly bytes: number;
}

/** What a step leaves in one of its bindings. */
export interface Written {
  /** Position in `bindings`. */
  readonly binding: number;
  readonly elements: number;
  /** Elements are halves (f16), else f32. */
  readonly half: boolean;
}

/** One parameter, or some rows of it, put into an allocation. */
export interface Upload {
  readonly path: string;
  /** Shape of the whole parameter. */
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly init: Init;
  readonly rows: { readonly start: number; readonly end: number } | undefined;
  /** Dimensions as they lie in the allocation, outermost first; undefined: row-major. Only whole parameters have one. */
  readonly order: readonly number[] | undefined;
  readonly allocation: number;
}

export type LoadStep =
  | { readonly kind: "upload"; readonly upload: Upload }
  | { readonly kind: "step"; readonly step: Step };

/** How raw pixels or flow become this input's numbers: `(value/scale - mean[c]) / std[c]`. */
export interface Preprocess {
  readonly source: "rgb" | "flow";
  /** Width and height that frames are resized and cropped to. */
  readonly size: readonly [number, number];
  readonly mean: readonly number[];
  readonly std: readonly number[];
  /** Flow only: pixels at which displacement is clipped; a stack of `fields` x,y pairs. */
  readonly bound?: number;
  readonly fields?: number;
  /** Shorter side that a frame is resized to before the centre crop to `size`; absent: just enough to cover `size`. */
  readonly resize?: number;
  /** Flow only: whether displacements go through the bytes of a flow image, round((f + bound) · 255 / (2 · bound)). */
  readonly quantise?: "round" | "none";
  /** Flow only: order of the channels; x1, y1, x2, y2, … unless the weights were trained otherwise. */
  readonly order?: "xyxy";
}

export interface ProgramInput {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly allocation: number;
  readonly preprocess: Preprocess | undefined;
}

export interface ProgramOutput {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly allocation: number;
  readonly classes: readonly string[] | undefined;
}

export interface Program {
  readonly format: "netc-program";
  readonly version: 1;
  readonly name: string;
  /** SHA-256 over the canonical graph: the model's identity. */
  readonly graphHash: string;
  readonly target: Capability;
  readonly seed: number;
  readonly allocations: readonly Allocation[];
  readonly kernels: readonly ProgramKernel[];
  readonly load: readonly LoadStep[];
  readonly run: readonly Step[];
  /** Parameters, and parts of them, that a run replaces (training): what is in their allocation after it. */
  readonly state: readonly Upload[];
  readonly inputs: readonly ProgramInput[];
  readonly outputs: readonly ProgramOutput[];
  /** A safetensors file beside the program, by parameter path; without it every parameter starts from `seed`. */
  readonly weights: { readonly file: string; readonly bytes: number } | undefined;
}
