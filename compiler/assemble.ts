/**
 * From loops to a Program: every kernel scheduled for the target and rendered, equal code kept once, memory coloured.
 */
import type { Capability } from "./capability.ts";
import type { KernelProgram } from "./kernel/ir.ts";
import { renderWasm, wasmScratchBytes } from "./kernel/wasm.ts";
import { renderWGSL } from "./kernel/wgsl.ts";
import { bufferAt } from "./loop/access.ts";
import { byteSize } from "./loop/layout.ts";
import type { Buffer, Kernel, Loops } from "./loop/loops.ts";
import { type Demand, planMemory } from "./memory.ts";
import { preprocessOf } from "./preprocess.ts";
import type { LoadStep, Program, ProgramKernel, Step } from "./program.ts";
import { scheduleCpu } from "./schedule/cpu.ts";
import { scheduleKernel } from "./schedule/gpu.ts";

/** One call of a kernel program on buffers: what becomes a `Step` once memory is known. */
export interface Call {
  readonly program: KernelProgram;
  readonly buffers: readonly number[];
  readonly kernel: Kernel;
}

/** The calls of a kernel on a target; scratch buffers are added to `buffers`. */
function callsOf(kernel: Kernel, buffers: Buffer[], target: Capability): readonly Call[] {
  if (target.kind === "wasm") return [{ ...scheduleCpu(kernel, buffers, target), kernel }];
  const { dispatches, scratch } = scheduleKernel(kernel, buffers, target);
  buffers.push(...scratch);
  return dispatches.map((dispatch) => ({ ...dispatch, kernel }));
}

/** The scheduled form of loops: what `inspect` shows as plan and as WGSL. */
export interface ScheduledLoops {
  /** Those of the loops, then scratch buffers of single kernels. */
  readonly buffers: readonly Buffer[];
  readonly load: readonly (
    | { readonly kind: "upload"; readonly buffer: number }
    | { readonly kind: "call"; readonly call: Call }
  )[];
  readonly run: readonly Call[];
}

/** Chooses plans and generates kernel programs for all loops. */
export function scheduleLoops(loops: Loops, target: Capability): ScheduledLoops {
  const buffers = [...loops.buffers];
  const load = loops.load.flatMap((step): ScheduledLoops["load"][number][] =>
    step.kind === "upload" ? [step] : callsOf(step.kernel, buffers, target).map((call) => ({ kind: "call", call })),
  );
  const run = loops.run.flatMap((kernel) => callsOf(kernel, buffers, target));
  return { buffers, load, run };
}

/**
 * A text that is equal for programs with equal code. Names, headers and grids do not count, nor do the names of buffer
 * arguments, which recall the layer that a kernel was first made for.
 */
function codeKey({ args, locals, body, workgroupSize }: KernelProgram): string {
  const positions = new Map(args.map((arg, position) => [arg.name, `argument ${position}`]));
  return JSON.stringify({ args, locals, body, workgroupSize }, (_, value: unknown) =>
    typeof value === "string" ? (positions.get(value) ?? value) : value,
  );
}

/** Rendered kernels, each different one once. */
class KernelTable {
  readonly #target: Capability;
  readonly #known = new Map<string, number>();
  readonly #programs: { readonly program: KernelProgram; readonly layers: Set<string> }[] = [];

  constructor(target: Capability) {
    this.#target = target;
  }

  /** The number of the kernel whose code this is. Names and headers do not count: equal bodies are one kernel. */
  number(program: KernelProgram, layers: readonly string[]): number {
    const key = codeKey(program);
    let number = this.#known.get(key);
    if (number === undefined) {
      number = this.#programs.length;
      this.#known.set(key, number);
      this.#programs.push({ program, layers: new Set() });
    }
    for (const layer of layers) this.#programs[number]?.layers.add(layer);
    return number;
  }

  render(): readonly ProgramKernel[] {
    const names = new Map<string, number>();
    return this.#programs.map(({ program, layers }) => {
      const times = names.get(program.name) ?? 0;
      names.set(program.name, times + 1);
      const name = times === 0 ? program.name : `${program.name}_${times + 1}`;
      const [title = program.name, ...rest] = program.header;
      const served = [...layers].filter((layer) => !title.includes(layer));
      const header =
        served.length === 0
          ? program.header
          : [title, ...wrap(`also serves ${served.join(", ")}`), ...rest.filter((line) => !line.startsWith("layers:"))];
      const named: KernelProgram = { ...program, name, header };
      return this.#target.kind === "wasm"
        ? {
            name,
            code: renderWasm(named, this.#target.relaxedSimd),
            workgroupSize: [1, 1, 1],
            scratchBytes: wasmScratchBytes(named),
          }
        : { name, code: renderWGSL(named), workgroupSize: program.workgroupSize, scratchBytes: 0 };
    });
  }
}

/** Breaks a header line at spaces, to stay readable when a kernel serves many layers. */
function wrap(line: string): readonly string[] {
  return line.match(/.{1,110}(?:\s|$)/g)?.map((part) => part.trim()) ?? [line];
}

export interface AssembleOptions {
  readonly target: Capability;
  readonly seed: number;
  readonly graphHash: string;
  readonly classes: readonly string[] | undefined;
}

/** The Program of scheduled loops. */
export function assemble(loops: Loops, { target, seed, graphHash, classes }: AssembleOptions): Program {
  const scheduled = scheduleLoops(loops, target);
  const { buffers } = scheduled;
  const demands = buffers.map((buffer): Demand => ({ bytes: byteSize(buffer), label: buffer.name, role: buffer.role }));
  const memory = planMemory(
    demands,
    scheduled.load.map((item) => (item.kind === "upload" ? [item.buffer] : item.call.buffers)),
    scheduled.run.map((call) => call.buffers),
  );
  const allocation = (buffer: number): number => {
    const found = memory.of[buffer];
    if (found === undefined || found < 0) throw new Error(`internal: ${bufferAt(buffers, buffer).name} has no memory`);
    return found;
  };
  const table = new KernelTable(target);
  const step = ({ program, buffers: bound, kernel }: Call): Step => ({
    kernel: table.number(program, kernel.layers),
    bindings: bound.map(allocation),
    workgroups: program.workgroups,
    layers: kernel.layers,
    macs: kernel.macs,
    bytes: bound.reduce((sum, buffer) => sum + (demands[buffer]?.bytes ?? 0), 0),
  });
  const load = scheduled.load.map((item): LoadStep => {
    if (item.kind === "call") return { kind: "step", step: step(item.call) };
    const buffer = bufferAt(buffers, item.buffer);
    if (buffer.param === undefined) throw new Error(`internal: ${buffer.name} is uploaded and no parameter`);
    const { path, shape, init, rows } = buffer.param;
    return {
      kind: "upload",
      upload: { path, shape, dtype: buffer.dtype, init, rows, allocation: allocation(buffer.id) },
    };
  });
  const run = scheduled.run.map(step);
  return {
    format: "netc-program",
    version: 1,
    name: loops.name,
    graphHash,
    target,
    seed,
    allocations: memory.allocations,
    kernels: table.render(),
    load,
    run,
    inputs: loops.inputs.map(({ name, buffer }) => {
      const { shape, dtype } = bufferAt(buffers, buffer);
      return { name, shape, dtype, allocation: allocation(buffer), preprocess: preprocessOf(shape) };
    }),
    outputs: loops.outputs.map(({ name, buffer }) => {
      const { shape, dtype } = bufferAt(buffers, buffer);
      return {
        name,
        shape,
        dtype,
        allocation: allocation(buffer),
        classes: classes?.length === shape.at(-1) ? classes : undefined,
      };
    }),
    weights: undefined,
  };
}
