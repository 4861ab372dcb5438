/**
 * A kernel by itself, in several plans: the program that a tuner runs to find out which is fastest.
 *
 * In: a kernel as it was scheduled for some program, and candidates. Out: a program whose inputs are all buffers that the
 * kernel reads or writes, as plain numbers of 4 bytes, whose outputs are those that it writes, and whose steps are the
 * candidates', one after the other. Nothing of it is meant to be run from beginning to end.
 */
import { type Isolated, KernelReuse } from "./assemble.ts";
import type { Capability } from "./capability.ts";
import type { KernelProgram } from "./kernel/ir.ts";
import { renderWasm, wasmScratchBytes } from "./kernel/wasm.ts";
import { renderWGSL } from "./kernel/wgsl.ts";
import { byteSize } from "./loop/layout.ts";
import type { Allocation, Program, ProgramInput, ProgramKernel, Step } from "./program.ts";
import { type Candidate, candidatesOf, scheduleFor } from "./schedule/candidates.ts";

/** A buffer of the kernel. */
export interface TrialBuffer {
  readonly name: string;
  /** In words of 4 bytes. */
  readonly length: number;
  readonly half: boolean;
}

export interface Trial {
  readonly program: Program;
  /** Numbers of the steps that run each candidate. */
  readonly steps: readonly (readonly number[])[];
  readonly buffers: readonly TrialBuffer[];
  readonly written: readonly TrialBuffer[];
  /** Names of the buffers that it reads. */
  readonly read: ReadonlySet<string>;
}

/** The candidates of a kernel that a program asked for. */
export function candidatesFor({ kernel, buffers }: Isolated, target: Capability): readonly Candidate[] {
  return candidatesOf(kernel, buffers, target);
}

/** Kernels that were asked for, those first that need the longest: in bytes and multiply-adds, times how often. */
export function heaviestFirst({ seen }: KernelReuse): readonly Isolated[] {
  const weight = ({ isolated: { kernel, buffers }, calls }: { readonly isolated: Isolated; readonly calls: number }) =>
    calls * (kernel.macs / 2 + buffers.reduce((sum, buffer) => sum + byteSize(buffer), 0));
  return [...seen.values()].sort((a, b) => weight(b) - weight(a)).map(({ isolated }) => isolated);
}

const words = (bytes: number): number => Math.ceil(bytes / 4);

/** The program that runs a kernel in every plan of `candidates`. */
export function trialOf({ kernel, buffers }: Isolated, candidates: readonly Candidate[], target: Capability): Trial {
  const allocations: Allocation[] = buffers.map((buffer) => ({
    bytes: words(byteSize(buffer)) * 4,
    label: buffer.name,
    lifetime: "run",
  }));
  const kernels: ProgramKernel[] = [];
  const run: Step[] = [];
  const render = (program: KernelProgram): ProgramKernel => {
    const name = `${program.name}_${kernels.length}`;
    return target.kind === "wasm"
      ? {
          name,
          code: renderWasm(program, target.relaxedSimd),
          scratchBytes: wasmScratchBytes(program),
          workgroupSize: [1, 1, 1],
        }
      : { name, code: renderWGSL({ ...program, name }), scratchBytes: 0, workgroupSize: program.workgroupSize };
  };
  const steps = candidates.map(({ plan }) => {
    const { dispatches, scratch } = scheduleFor(kernel, buffers, target, plan);
    const own = scratch.map((buffer) => {
      allocations.push({ bytes: byteSize(buffer), label: buffer.name, lifetime: "run" });
      return allocations.length - 1;
    });
    return dispatches.map(({ program, buffers: bound }) => {
      kernels.push(render(program));
      run.push({
        kernel: kernels.length - 1,
        bindings: bound.map((id) => (id < buffers.length ? id : (own[id - buffers.length] ?? -1))),
        workgroups: program.workgroups,
        writes: [],
        layers: kernel.layers,
        macs: kernel.macs,
        bytes: 0,
      });
      return run.length - 1;
    });
  });
  const stored = new Set(kernel.stores.map((store) => store.buffer));
  const entry = (id: number): ProgramInput => ({
    name: `b${id}`,
    shape: [words(byteSize(buffers[id] ?? never(id)))],
    dtype: "f32",
    allocation: id,
    preprocess: undefined,
  });
  const described = buffers.map(
    (buffer, id): TrialBuffer => ({ name: `b${id}`, length: words(byteSize(buffer)), half: buffer.dtype === "f16" }),
  );
  const written = described.filter((_, id) => stored.has(id));
  return {
    program: {
      format: "netc-program",
      version: 1,
      name: kernel.name,
      graphHash: "",
      target,
      seed: 0,
      allocations,
      kernels,
      load: [],
      run,
      state: [],
      inputs: buffers.map((_, id) => entry(id)),
      outputs: buffers.flatMap((_, id) => (stored.has(id) ? [{ ...entry(id), classes: undefined }] : [])),
      weights: undefined,
    },
    steps,
    buffers: described,
    written,
    read: new Set(kernel.loads.map((load) => `b${load.buffer}`)),
  };
}

function never(id: number): never {
  throw new Error(`internal: the kernel has no buffer ${id}`);
}
