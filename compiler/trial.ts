/**
 * A kernel or a convolution by itself, in several plans or forms: programs that a tuner runs to find out which is fastest.
 *
 * In: a kernel as it was scheduled for some program, and candidates. Out: a program whose inputs are all buffers that the
 * kernel reads or writes, as plain numbers of 4 bytes, whose outputs are those that it writes, and whose steps are the
 * candidates', one after the other. Nothing of it is meant to be run from beginning to end. A convolution has a program for
 * each form, which is.
 */
import { type Isolated, KernelReuse } from "./assemble.ts";
import type { Capability } from "./capability.ts";
import { compile } from "./compile.ts";
import { GraphBuilder, type Where } from "./graph/builder.ts";
import type { ConvolutionForm, ConvolutionSite } from "./graph/convolution.ts";
import type { GraphNode } from "./graph/graph.ts";
import { isProblem } from "./graph/shapes.ts";
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

export interface ConvolutionTrial {
  /** From the input `x` to the output `y`. */
  readonly program: Program;
  /** Numbers of the steps that are the convolution's. */
  readonly steps: readonly number[];
}

/** Channels on both sides of what is tried. */
const AROUND = 4;

/**
 * A convolution with bias and ReLU in one form, between two small ones of 1×1: so the image lies in memory as it does
 * within a network, and what goes in and comes out is small.
 */
export function convolutionTrial(site: ConvolutionSite, form: ConvolutionForm, target: Capability): ConvolutionTrial {
  const { images, channels, filters, size } = site;
  const builder = new GraphBuilder();
  const add = (made: GraphNode | ReturnType<GraphBuilder["add"]>): GraphNode => {
    if (isProblem(made)) throw new Error(`internal: ${made.message}`);
    return made;
  };
  const conv = (x: GraphNode, layer: string, shape: readonly [number, number, number]): GraphNode => {
    const where: Where = { layer, origins: [] };
    const [to, from, k] = shape;
    const param = (name: string, sizes: readonly number[]): GraphNode => {
      const init = { kind: "constant", value: 0 } as const;
      return builder.leaf(
        "param",
        { path: `${layer}.${name}`, kind: "param", init },
        { shape: sizes, dtype: "f32" },
        where,
      );
    };
    const operands = [x, param("weight", [to, from, k, k]), param("bias", [to])];
    const attrs = { stride: [1, 1], pad: [(k - 1) / 2, (k - 1) / 2], dilation: [1, 1], groups: 1 } as const;
    const made = add(builder.add("conv2d", operands, attrs, where));
    const zero = builder.leaf("constant", { value: 0 }, { shape: [], dtype: "f32" }, where);
    return add(builder.add("binary", [made, zero], { fn: "max" }, where));
  };
  const type = { shape: [images, AROUND, ...size], dtype: "f32" } as const;
  const x = builder.leaf("input", { name: "x" }, type, { layer: "", origins: [] });
  const before = conv(x, "before", [channels, AROUND, 1]);
  const tried = conv(before, "tried", [filters, channels, 3]);
  const after = conv(tried, "after", [AROUND, filters, 1]);
  const { graph } = builder.finish("Trial", [{ name: "y", node: after }]);
  const model = {
    name: "Trial",
    graph,
    streams: [],
    streamOutputs: [],
    units: [],
    positions: [],
    parameters: [],
    weightMaps: [],
    classes: undefined,
  };
  const made = compile(model, { target, sizes: new Map(), seed: 0, convolution: form });
  if ("diagnostics" in made) throw new Error(`internal: ${made.diagnostics.map(({ message }) => message).join("; ")}`);
  const steps = made.ok.run.flatMap(({ layers }, number) => (layers.includes("tried") ? [number] : []));
  return { program: made.ok, steps };
}
