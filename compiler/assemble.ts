/**
 * From loops to a Program: every kernel scheduled for the target and rendered, equal kernels once, memory coloured.
 */
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import type { Capability } from "./capability.ts";
import type { KernelProgram } from "./kernel/ir.ts";
import { renderWasm, wasmScratchBytes } from "./kernel/wasm.ts";
import { renderWGSL } from "./kernel/wgsl.ts";
import { boundBuffers, bufferAt } from "./loop/access.ts";
import { key } from "./loop/affine.ts";
import { byteSize } from "./loop/layout.ts";
import type { Buffer, Kernel, Layout, Load, Loops, Store } from "./loop/loops.ts";
import { type Demand, planMemory } from "./memory.ts";
import { preprocessOf } from "./preprocess.ts";
import type { LoadStep, Program, ProgramKernel, Step, Upload } from "./program.ts";
import { foldScalars } from "./scalar.ts";
import { candidatesOf, scheduleFor } from "./schedule/candidates.ts";
import type { Scheduled } from "./schedule/gpu.ts";

/** One call of a kernel program on buffers: what becomes a `Step` once memory is known. */
export interface Call {
  /** Equal kernels of different layers share one program: the same object. */
  readonly program: KernelProgram;
  readonly buffers: readonly number[];
  readonly kernel: Kernel;
  /** Multiply-adds of this call: of several calls for one kernel the first does them all. */
  readonly macs: number;
}

/** A kernel by itself: buffers numbered in the order in which it mentions them. */
export interface Isolated {
  readonly kernel: Kernel;
  readonly buffers: readonly Buffer[];
  /** Its buffers' numbers in the program. */
  readonly outer: readonly number[];
  /** Equal for kernels that differ only in names and in the buffers that they are applied to. */
  readonly key: string;
}

function isolate(kernel: Kernel, buffers: readonly Buffer[]): Isolated {
  const outer = boundBuffers(kernel);
  const rebind = <T extends Load | Store>(access: T): T => ({ ...access, buffer: outer.indexOf(access.buffer) });
  const local: Kernel = { ...kernel, loads: kernel.loads.map(rebind), stores: kernel.stores.map(rebind) };
  const own = outer.map((buffer, id): Buffer => ({ ...bufferAt(buffers, buffer), id }));
  return { kernel: local, buffers: own, outer, key: kernelKey(local, own) };
}

function kernelKey({ axes, loads, inner = [], body, reduce, stores }: Kernel, buffers: readonly Buffer[]): string {
  // Scalars are numbered, equal ones alike: written out as trees they would repeat what they share.
  const numbers = new Map<string, number>();
  const number = (text: string): number => {
    const found = numbers.get(text) ?? numbers.size;
    numbers.set(text, found);
    return found;
  };
  const scalars = [...inner.map(({ value }) => value), ...body, ...stores.map((store) => store.value)];
  const roots = foldScalars<number>(scalars, {
    constant: (value) => number(`c${Object.is(value, -0) ? "-0" : value}`),
    load: (index) => number(`l${index}`),
    state: (index) => number(`s${index}`),
    axis: (index) => number(`a${index}`),
    unary: (fn, value) => number(`${fn} ${value}`),
    binary: (fn, left, right) => number(`${fn} ${left} ${right}`),
    select: (compare, left, right, then, otherwise) => number(`${compare}? ${left} ${right} ${then} ${otherwise}`),
    random: (draw, counters) => number(`r${key(draw.element)} ${draw.key} ${counters.join(" ")}`),
  });
  const access = ({ buffer, index, guards }: Load | Store): string =>
    `${buffer}[${index.map(key).join()}]${guards.map((guard) => `${key(guard.index)}<${guard.size}`).join()}`;
  return [
    axes.map(({ name, size }) => `${name} ${size}`).join(),
    loads.map((load) => `${access(load)}:${load.otherwise}`).join(),
    stores.map(access).join(),
    `${reduce} ${inner.map((sum) => sum.axes.join(" ")).join()} ${body.length} ${roots.join()}`,
    [...numbers.keys()].join(),
    buffers.map(({ shape, dtype, layout }) => `${shape.join("x")} ${dtype} ${textOf(layout)}`).join(),
  ].join(";");
}

function textOf(layout: Layout): string {
  return layout.kind === "rows" ? layout.order.join("") : `panels ${layout.width}`;
}

type Planned = Pick<Scheduled, "dispatches" | "scratch">;

/** Equal for kernels that are equal but for names, whatever program they are in: 64 hexadecimal digits. */
export function kernelHash(kernel: Isolated): string {
  return bytesToHex(sha256(utf8ToBytes(kernel.key)));
}

/** Plans of kernels by their hash, as JSON: what was found to be faster than what the schedules take by themselves. */
export type ChosenPlans = ReadonlyMap<string, string>;

/**
 * Kernels of earlier programs for one target: whoever compiles many networks that are alike hands the same one in again
 * and again, and every different kernel is scheduled and rendered once.
 */
export class KernelReuse {
  readonly target: Capability;
  readonly planned: Map<string, Planned> = new Map();
  readonly rendered: WeakMap<KernelProgram, Pick<ProgramKernel, "code" | "scratchBytes">> = new WeakMap();
  /** Every different kernel that was scheduled, and how often it was asked for. */
  readonly seen: Map<string, { readonly isolated: Isolated; calls: number }> = new Map();
  readonly #chosen: Map<string, string>;

  constructor(target: Capability, chosen: ChosenPlans = new Map()) {
    this.target = target;
    this.#chosen = new Map(chosen);
  }

  /** From now on kernels like this one have that plan: one of `candidatesOf`, as JSON. */
  choose(kernel: Isolated, plan: string): void {
    this.#chosen.set(kernelHash(kernel), plan);
    this.planned.delete(kernel.key);
  }

  /** The kernel's schedule, with the chosen plan if one was chosen and can be followed. */
  schedule(isolated: Isolated): Planned {
    const seen = this.seen.get(isolated.key) ?? { isolated, calls: 0 };
    seen.calls += 1;
    this.seen.set(isolated.key, seen);
    const known = this.planned.get(isolated.key);
    if (known !== undefined) return known;
    const { kernel, buffers } = isolated;
    const chosen = this.#chosen.size === 0 ? undefined : this.#chosen.get(kernelHash(isolated));
    // A plan from elsewhere counts only if it is one that could have been proposed.
    const plan =
      chosen === undefined
        ? undefined
        : candidatesOf(kernel, buffers, this.target).find((candidate) => JSON.stringify(candidate.plan) === chosen)
            ?.plan;
    const scheduled = scheduleFor(kernel, buffers, this.target, plan);
    this.planned.set(isolated.key, scheduled);
    return scheduled;
  }
}

/** Schedules the kernels of one program; equal ones once. */
class Scheduler {
  readonly #reuse: KernelReuse;
  /** All buffers, those included that schedules add. */
  readonly buffers: Buffer[];

  constructor(buffers: readonly Buffer[], reuse: KernelReuse) {
    this.buffers = [...buffers];
    this.#reuse = reuse;
  }

  calls(kernel: Kernel): readonly Call[] {
    const isolated = isolate(kernel, this.buffers);
    const scheduled = this.#reuse.schedule(isolated);
    const outer = [...isolated.outer];
    for (const scratch of scheduled.scratch) {
      outer.push(this.buffers.length);
      this.buffers.push({ ...scratch, id: this.buffers.length });
    }
    return scheduled.dispatches.map(({ program, buffers }, position) => ({
      program,
      buffers: buffers.map((local) => {
        const found = outer[local];
        if (found === undefined)
          throw new Error(`internal: ${program.name} binds a buffer that its kernel does not have`);
        return found;
      }),
      kernel,
      macs: position === 0 ? kernel.macs : 0,
    }));
  }
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
export function scheduleLoops(
  loops: Loops,
  target: Capability,
  reuse: KernelReuse = new KernelReuse(target),
): ScheduledLoops {
  const scheduler = new Scheduler(loops.buffers, reuse);
  const load = loops.load.flatMap((step): ScheduledLoops["load"][number][] =>
    step.kind === "upload" ? [step] : scheduler.calls(step.kernel).map((call) => ({ kind: "call", call })),
  );
  const run = loops.run.flatMap((kernel) => scheduler.calls(kernel));
  return { buffers: scheduler.buffers, load, run };
}

/** Rendered kernels, each different one once. */
class KernelTable {
  readonly #target: Capability;
  readonly #reuse: KernelReuse;
  readonly #numbers = new Map<KernelProgram, number>();
  readonly #layers: Set<string>[] = [];

  constructor(target: Capability, reuse: KernelReuse) {
    this.#target = target;
    this.#reuse = reuse;
  }

  /** The number of a kernel, which from now on serves `layers` too. */
  number(program: KernelProgram, layers: readonly string[]): number {
    let number = this.#numbers.get(program);
    if (number === undefined) {
      number = this.#numbers.size;
      this.#numbers.set(program, number);
      this.#layers.push(new Set());
    }
    for (const layer of layers) this.#layers[number]?.add(layer);
    return number;
  }

  render(): readonly ProgramKernel[] {
    const names = new Map<string, number>();
    return [...this.#numbers].map(([program, number]) => {
      const times = names.get(program.name) ?? 0;
      names.set(program.name, times + 1);
      const name = times === 0 ? program.name : `${program.name}_${times + 1}`;
      const [title = program.name, ...rest] = program.header;
      const served = [...(this.#layers[number] ?? [])].filter((layer) => !title.includes(layer));
      const header =
        served.length === 0
          ? program.header
          : [title, ...wrap(`also serves ${served.join(", ")}`), ...rest.filter((line) => !line.startsWith("layers:"))];
      const named: KernelProgram = { ...program, name, header };
      return this.#target.kind === "wasm"
        ? { name, workgroupSize: [1, 1, 1], ...this.#wasm(program, this.#target.relaxedSimd) }
        : { name, code: renderWGSL(named), workgroupSize: program.workgroupSize, scratchBytes: 0 };
    });
  }

  /** The module of a kernel, in which no name is written. */
  #wasm(program: KernelProgram, relaxedSimd: boolean): Pick<ProgramKernel, "code" | "scratchBytes"> {
    const { rendered } = this.#reuse;
    const known = rendered.get(program);
    if (known !== undefined) return known;
    const made = { code: renderWasm(program, relaxedSimd), scratchBytes: wasmScratchBytes(program) };
    rendered.set(program, made);
    return made;
  }
}

/** Breaks a header line at spaces, to stay readable when a kernel serves many layers. */
function wrap(line: string): readonly string[] {
  return line.match(/.{1,110}(?:\s|$)/g)?.map((part) => part.trim()) ?? [line];
}

/** The order of a buffer's dimensions in memory; undefined if it is row-major. */
function memoryOrder({ name, layout }: Buffer): readonly number[] | undefined {
  if (layout.kind !== "rows") throw new Error(`internal: ${name} is uploaded into panels`);
  return layout.order.every((d, i) => d === i) ? undefined : layout.order;
}

export interface AssembleOptions {
  readonly target: Capability;
  readonly seed: number;
  readonly graphHash: string;
  readonly classes: readonly string[] | undefined;
  /** For the same target. */
  readonly reuse?: KernelReuse | undefined;
}

/** The Program of scheduled loops. */
export function assemble(loops: Loops, options: AssembleOptions): Program {
  const { target, seed, graphHash, classes, reuse = new KernelReuse(target) } = options;
  if (reuse.target !== target) throw new Error("internal: kernels of another target");
  const scheduled = scheduleLoops(loops, target, reuse);
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
  const table = new KernelTable(target, reuse);
  const step = ({ program, buffers: bound, kernel, macs }: Call): Step => ({
    kernel: table.number(program, kernel.layers),
    bindings: bound.map(allocation),
    writes: program.args.flatMap(({ access, size, half = false }, binding) =>
      access === "read_write" ? [{ binding, elements: size, half }] : [],
    ),
    workgroups: program.workgroups,
    layers: kernel.layers,
    macs,
    bytes: bound.reduce((sum, buffer) => sum + (demands[buffer]?.bytes ?? 0), 0),
  });
  const upload = (buffer: Buffer): Upload => {
    if (buffer.param === undefined) throw new Error(`internal: ${buffer.name} is uploaded and no parameter`);
    const { path, shape, init, rows } = buffer.param;
    const order = memoryOrder(buffer);
    return { path, shape, dtype: buffer.dtype, init, rows, order, allocation: allocation(buffer.id) };
  };
  const load = scheduled.load.map(
    (item): LoadStep =>
      item.kind === "call"
        ? { kind: "step", step: step(item.call) }
        : { kind: "upload", upload: upload(bufferAt(buffers, item.buffer)) },
  );
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
    state: buffers.filter(({ role }) => role === "state").map(upload),
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
