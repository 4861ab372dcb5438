/**
 * A program on the CPU: WASM kernels run by threads on one shared memory.
 *
 * Memory is laid out and refused before anything is allocated (memory.ts). Kernels are compiled once, here, and their
 * modules are handed to the threads (threads.ts, worker.ts), which run all steps of a forward pass upon one message and
 * meet at a barrier after each. This thread only writes inputs and reads outputs, so a page stays responsive.
 */
import type { Program, ProgramInput, ProgramOutput, Step } from "../../../compiler/program.ts";
import { fromHalves } from "../half.ts";
import { EngineError, type Look, type Runner, type WeightSource } from "../runner.ts";
import { readState, scratchOf, toMemory, uploadLength } from "../state.ts";
import { hasRelaxedSimd } from "./capability.ts";
import { type MemoryPlan, PAGE, planAddresses } from "./memory.ts";
import { moduleOf } from "./modules.ts";
import { hostThreads, type Thread, withKernelFlags } from "./threads.ts";
import type { FromThread, ThreadStep } from "./worker.ts";

const count = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);

export interface WasmOptions {
  /** Makes the module of a kernel's code that this process has not met: for whoever keeps modules. By default it is compiled. */
  readonly moduleOf?: (code: Uint8Array) => Promise<WebAssembly.Module>;
}

/**
 * Opens `program` on this machine's processors.
 * @throws EngineError `limit` (memory), `no-device` (no threads, no shared memory, no SIMD), `usage` (another target)
 */
export async function openWasm(program: Program, options: WasmOptions = {}): Promise<Runner> {
  const { target } = program;
  if (target.kind !== "wasm") {
    throw new EngineError({ kind: "usage", what: `this program was compiled for ${target.kind}, not for WASM` });
  }
  if (target.relaxedSimd && !(await hasRelaxedSimd())) {
    throw new EngineError({ kind: "no-device", what: "this program uses relaxed SIMD, which this machine has not" });
  }
  const plan = planAddresses(program, target.threads, target.maxMemory);
  const spawn = await hostThreads();
  if (spawn === undefined || typeof SharedArrayBuffer !== "function") {
    throw new EngineError({ kind: "no-device", what: "no threads with shared memory on this machine" });
  }
  const modules = await compileKernels(program, options);
  const runner = new WasmRunner(program, plan, allocate(plan), target.threads);
  try {
    await runner.open(modules, (listener) => spawn(listener));
    return runner;
  } catch (error) {
    runner.dispose();
    throw error;
  }
}

function allocate({ pages }: MemoryPlan): WebAssembly.Memory {
  try {
    return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  } catch {
    throw new EngineError({
      kind: "limit",
      what: "bytes of WASM memory, which this machine does not give",
      need: pages * PAGE,
      have: 0,
    });
  }
}

function compileKernels(
  program: Program,
  { moduleOf: make = (code) => WebAssembly.compile(code) }: WasmOptions,
): Promise<readonly WebAssembly.Module[]> {
  return withKernelFlags(() =>
    Promise.all(
      program.kernels.map(async ({ name, code }) => {
        if (typeof code === "string") throw new EngineError({ kind: "usage", what: `kernel ${name} holds no WASM` });
        try {
          return await moduleOf(code, make);
        } catch (error) {
          const why = error instanceof Error ? error.message : String(error);
          throw new EngineError({ kind: "no-device", what: `kernel ${name} does not compile on this machine: ${why}` });
        }
      }),
    ),
  );
}

type SpawnHere = (listener: Parameters<NonNullable<Awaited<ReturnType<typeof hostThreads>>>>[0]) => Thread;

class WasmRunner implements Runner {
  readonly program: Program;
  readonly device: string;
  readonly #plan: MemoryPlan;
  readonly #memory: WebAssembly.Memory;
  readonly #control: Int32Array<SharedArrayBuffer> = new Int32Array(new SharedArrayBuffer(16));
  readonly #threadCount: number;
  readonly #runSteps: readonly ThreadStep[];
  #threads: readonly Thread[] = [];
  /** Answers still to come for the job under way, and whom to tell. */
  #job:
    | { waiting: number; readonly steps: readonly Step[]; resolve: () => void; reject: (e: Error) => void }
    | undefined;
  #failure: EngineError | undefined;

  constructor(program: Program, plan: MemoryPlan, memory: WebAssembly.Memory, threads: number) {
    this.program = program;
    this.device = `wasm, ${threads} ${threads === 1 ? "thread" : "threads"}`;
    this.#plan = plan;
    this.#memory = memory;
    this.#threadCount = threads;
    this.#runSteps = program.run.map((step) => this.#threadStep(step));
  }

  /** Starts the threads; resolves when each has instantiated every kernel. */
  async open(modules: readonly WebAssembly.Module[], spawn: SpawnHere): Promise<void> {
    this.#threads = Array.from({ length: this.#threadCount }, () =>
      spawn({ message: (message) => this.#answer(message), lost: (why) => this.#lost(why) }),
    );
    await this.#start([], (thread, index) =>
      thread.post({
        kind: "open",
        memory: this.#memory,
        modules,
        control: this.#control,
        threads: this.#threadCount,
        scratch: this.#plan.scratch[index] ?? 0,
      }),
    );
  }

  async load(weights: WeightSource, onProgress?: (done: number, total: number) => void): Promise<void> {
    const { load } = this.program;
    for (const [index, item] of load.entries()) {
      if (item.kind === "upload") {
        const { upload } = item;
        const view = this.#view(upload.allocation, uploadLength(upload));
        if (upload.order === undefined) await weights(upload, view);
        else {
          const values = new Float32Array(view.length);
          await weights(upload, values);
          view.set(toMemory(upload, values));
        }
      } else await this.#runAll([item.step], [this.#threadStep(item.step)]);
      onProgress?.(index + 1, load.length);
    }
  }

  write(input: string, data: Float32Array): void {
    const entry = find(this.program.inputs, input, "input");
    const length = count(entry.shape);
    if (data.length !== length) {
      const shape = entry.shape.join("×");
      throw new EngineError({
        kind: "usage",
        what: `input \`${input}\` has ${length} numbers (${shape}), not ${data.length}`,
      });
    }
    this.#view(entry.allocation, length).set(data);
  }

  run(): Promise<void> {
    return this.#runAll(this.program.run, this.#runSteps);
  }

  async read(output: string): Promise<Float32Array> {
    const entry = find(this.program.outputs, output, "output");
    if (this.#failure !== undefined) throw this.#failure;
    // Out of shared memory, which others (text decoders, devices) refuse.
    return new Float32Array(this.#view(entry.allocation, count(entry.shape)));
  }

  async readState(path: string): Promise<Float32Array> {
    if (this.#failure !== undefined) throw this.#failure;
    return readState(this.program, path, (allocation, length) => new Float32Array(this.#view(allocation, length)));
  }

  async trace(look: Look): Promise<void> {
    // Buffers share allocations: behind a small one still lies what the last run left of a larger one.
    for (const allocation of scratchOf(this.program)) {
      const { bytes = 0 } = this.program.allocations[allocation] ?? {};
      this.#view(allocation, Math.floor(bytes / 4)).fill(0);
    }
    for (const step of this.program.run) {
      await this.#runAll([step], [this.#threadStep(step)]);
      const written = step.writes.map(({ binding, elements, half }) => {
        const view = this.#view(step.bindings[binding] ?? -1, half ? Math.ceil(elements / 2) : elements);
        if (!half) return new Float32Array(view);
        return fromHalves(new Uint16Array(view.buffer, view.byteOffset, elements));
      });
      if (!look(step.layers, written)) return;
    }
  }

  repeat(index: number, times: number): Promise<void> {
    const [step, prepared] = [this.program.run[index], this.#runSteps[index]];
    if (step === undefined || prepared === undefined)
      return Promise.reject(new EngineError({ kind: "usage", what: `the program has no step ${index}` }));
    return this.#runAll(
      Array.from({ length: times }, () => step),
      Array.from({ length: times }, () => prepared),
    );
  }

  dispose(): void {
    this.#fail(new EngineError({ kind: "usage", what: "the runner is disposed of" }));
    for (const thread of this.#threads) thread.end();
    this.#threads = [];
  }

  #view(allocation: number, length: number): Float32Array {
    const address = this.#plan.allocations[allocation];
    if (address === undefined)
      throw new EngineError({ kind: "failed", what: `allocation ${allocation} does not exist` });
    return new Float32Array(this.#memory.buffer, address, length);
  }

  #threadStep({ kernel, bindings }: Step): ThreadStep {
    return { kernel, addresses: bindings.map((allocation) => this.#plan.allocations[allocation] ?? 0) };
  }

  #runAll(steps: readonly Step[], threadSteps: readonly ThreadStep[]): Promise<void> {
    return this.#start(steps, (thread) => thread.post({ kind: "run", steps: threadSteps }));
  }

  /** Gives every thread a job and waits for all answers. */
  #start(steps: readonly Step[], tell: (thread: Thread, index: number) => void): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#job !== undefined) {
      return Promise.reject(new EngineError({ kind: "usage", what: "the runner is still at work on an earlier call" }));
    }
    return new Promise((resolve, reject) => {
      this.#job = { waiting: this.#threads.length, steps, resolve, reject };
      this.#threads.forEach((thread, index) => {
        thread.hold(true);
        tell(thread, index);
      });
    });
  }

  #answer(message: FromThread): void {
    const job = this.#job;
    if (job === undefined) return;
    if (message.kind === "failed") {
      const step = job.steps[message.step];
      const where = step === undefined ? "" : ` at ${step.layers.join(", ")}`;
      this.#fail(new EngineError({ kind: "failed", what: `a kernel failed${where}: ${message.message}` }));
      return;
    }
    job.waiting -= 1;
    if (job.waiting > 0) return;
    this.#job = undefined;
    for (const thread of this.#threads) thread.hold(false);
    job.resolve();
  }

  #lost(why: string): void {
    // Those who wait for it at the barrier must not wait for ever.
    Atomics.store(this.#control, 2, 1);
    Atomics.notify(this.#control, 1);
    this.#fail(new EngineError({ kind: "failed", what: `a compute thread was lost: ${why}` }));
  }

  #fail(failure: EngineError): void {
    this.#failure ??= failure;
    const job = this.#job;
    this.#job = undefined;
    for (const thread of this.#threads) thread.hold(false);
    job?.reject(failure);
  }
}

function find<T extends ProgramInput | ProgramOutput>(list: readonly T[], name: string, what: string): T {
  const entry = list.find((item) => item.name === name);
  if (entry === undefined) {
    const names = list.map((item) => item.name).join(", ");
    throw new EngineError({ kind: "usage", what: `the program has no ${what} \`${name}\`; it has ${names}` });
  }
  return entry;
}
