/**
 * A program on a WebGPU device: npm `webgpu` (Dawn) in Node, `navigator.gpu` in a browser; the code is the same.
 *
 * Everything that can be made ahead is: one buffer per allocation, all pipelines at once, one bind group per step. A run
 * encodes the steps into one compute pass and submits it once. Limits are those of the program's target record and no
 * more, so that a program that runs here runs on every device of that record.
 */
import type { Allocation, Program, ProgramInput, ProgramOutput, Step } from "../../compiler/program.ts";
import { fromHalves } from "./half.ts";
import { EngineError, type Look, type Runner, type WeightSource } from "./runner.ts";
import { readState, scratchOf, toMemory, uploadLength } from "./state.ts";

/** WebGPU's flag values (specification, "GPUBufferUsage", "GPUMapMode", "GPUShaderStage"); Node has no such globals. */
const USAGE = { MAP_READ: 0x1, COPY_SRC: 0x4, COPY_DST: 0x8, STORAGE: 0x80 };
const MAP_READ = 0x1;
const COMPUTE = 0x4;

/** At most this many bytes are queued for upload before the device is waited for. */
const UPLOAD_WINDOW = 256 * 1024 * 1024;

/** Dawn frees its instance with the object it came from, even while devices live: devices hold it. */
const instances = new WeakMap<GPUDevice, GPU>();

interface PreparedStep {
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  readonly workgroups: readonly [number, number, number];
}

/** Features of WebGPU behind the extensions of WGSL that kernels ask for. The last is Dawn's, and not in the types. */
const FEATURES: Readonly<Record<string, GPUFeatureName>> = {
  f16: "shader-f16",
  subgroups: "subgroups",
  subgroup_size_control: "subgroup-size-control",
  chromium_experimental_subgroup_matrix: "chromium-experimental-subgroup-matrix" as GPUFeatureName,
};

/** The features that a program's kernels need. */
function featuresOf(program: Program): ReadonlySet<GPUFeatureName> {
  const found = new Set<GPUFeatureName>();
  for (const { code } of program.kernels) {
    if (typeof code !== "string") continue;
    for (const [, extension = ""] of code.matchAll(/^enable (\w+);$/gm)) {
      const feature = FEATURES[extension];
      if (feature === undefined) throw new Error(`internal: no feature of WebGPU gives ${extension}`);
      found.add(feature);
    }
  }
  return found;
}

/** Features and limits that the program needs and this adapter has not, the first of them as a problem. */
function checkLimits(program: Program, features: ReadonlySet<GPUFeatureName>, adapter: GPUAdapter): void {
  if (program.target.kind !== "webgpu") {
    throw new EngineError({
      kind: "usage",
      what: `this program was compiled for ${program.target.kind}, not for WebGPU`,
    });
  }
  if ((program.target.f16 || features.has("shader-f16")) && !adapter.features.has("shader-f16")) {
    throw new EngineError({
      kind: "no-device",
      what: "this program was compiled for a device with half precision (`shader-f16`), which this adapter has not; compile it for this device, in f32",
    });
  }
  // Subgroups have a message of their own below.
  const missing = [...features].find((feature) => feature !== "subgroups" && !adapter.features.has(feature));
  if (missing !== undefined) {
    throw new EngineError({
      kind: "no-device",
      what: `this program was compiled for a device with \`${missing}\`, which this adapter has not; compile it for this device`,
    });
  }
  const { subgroups } = program.target;
  const { subgroupMinSize: min, subgroupMaxSize: max } = adapter.info;
  const alike = adapter.features.has("subgroups") && min === subgroups?.min && max === subgroups?.max;
  if (features.has("subgroups") && !alike) {
    throw new EngineError({
      kind: "no-device",
      what: `this program was compiled for a device with subgroups of ${subgroups?.max}, which this adapter has not; compile it for this device`,
    });
  }
  for (const [name, need] of Object.entries(program.target.limits)) {
    const have: unknown = Reflect.get(adapter.limits, name);
    if (typeof have !== "number" || have < need) {
      throw new EngineError({ kind: "limit", what: name, need, have: typeof have === "number" ? have : 0 });
    }
  }
}

/**
 * Opens `program` on an adapter of `gpu`.
 * @throws EngineError `no-device`, `limit` (adapter below the target's record) or `failed` (a kernel does not compile).
 */
export async function openWebGPU(
  program: Program,
  gpu: GPU,
  options: { readonly fallback?: boolean } = {},
): Promise<Runner> {
  const adapter = await gpu.requestAdapter(
    options.fallback === true ? { forceFallbackAdapter: true } : { powerPreference: "high-performance" },
  );
  if (adapter === null) throw new EngineError({ kind: "no-device", what: "no WebGPU adapter answers on this machine" });
  const features = featuresOf(program);
  checkLimits(program, features, adapter);
  if (program.target.kind !== "webgpu") throw new EngineError({ kind: "usage", what: "not a WebGPU program" });
  const device = await adapter.requestDevice({
    requiredLimits: { ...program.target.limits },
    requiredFeatures: [...new Set([...features, ...(program.target.f16 ? (["shader-f16"] as const) : [])])],
  });
  instances.set(device, gpu);
  const info = adapter.info;
  const name = info.description || info.device || info.vendor || "WebGPU adapter";
  try {
    return await WebGPURunner.create(program, device, name);
  } catch (error) {
    device.destroy();
    throw error;
  }
}

/** Buffers for the allocations of a lifetime; undefined for the others. @throws EngineError `limit` */
async function createBuffers(
  program: Program,
  device: GPUDevice,
  lifetime: Allocation["lifetime"],
): Promise<(GPUBuffer | undefined)[]> {
  device.pushErrorScope("out-of-memory");
  const buffers = program.allocations.map((allocation) =>
    allocation.lifetime === lifetime
      ? device.createBuffer({
          label: allocation.label,
          // Kernels may read a buffer as vec4s.
          size: Math.max(16, Math.ceil(allocation.bytes / 16) * 16),
          usage: USAGE.STORAGE | USAGE.COPY_SRC | USAGE.COPY_DST,
        })
      : undefined,
  );
  const shortage = await device.popErrorScope();
  if (shortage !== null) {
    const need = program.allocations.reduce((sum, allocation) => sum + allocation.bytes, 0);
    const what = `device memory (${shortage.message.split("\n")[0] ?? ""})`;
    throw new EngineError({ kind: "limit", what, need, have: 0 });
  }
  return buffers;
}

/**
 * Layouts of bind groups: one for all kernels that read and write in the same places. A driver may set memory aside for
 * each layout (Dawn on Vulkan: for over a hundred groups), and a pipeline that makes its own shares it with nobody.
 */
function layoutsFor(device: GPUDevice): (code: string) => GPUPipelineLayout {
  const known = new Map<string, GPUPipelineLayout>();
  return (code) => {
    const accesses = [...code.matchAll(/@binding\(\d+\) var<storage, (read|read_write)>/g)].map(([, access]) => access);
    const key = accesses.join();
    const layout =
      known.get(key) ??
      device.createPipelineLayout({
        bindGroupLayouts: [
          device.createBindGroupLayout({
            entries: accesses.map((access, binding) => ({
              binding,
              visibility: COMPUTE,
              buffer: { type: access === "read" ? "read-only-storage" : "storage" },
            })),
          }),
        ],
      });
    known.set(key, layout);
    return layout;
  };
}

class WebGPURunner implements Runner {
  readonly program: Program;
  readonly device: string;
  readonly #device: GPUDevice;
  readonly #pipelines: readonly GPUComputePipeline[];
  /** By allocation; those that only loading needs live while it runs. */
  readonly #buffers: (GPUBuffer | undefined)[];
  readonly #run: readonly PreparedStep[];
  #lost: string | undefined;
  #failure: string | undefined;
  #disposed = false;

  private constructor(
    program: Program,
    device: GPUDevice,
    name: string,
    buffers: (GPUBuffer | undefined)[],
    pipelines: readonly GPUComputePipeline[],
  ) {
    this.program = program;
    this.device = name;
    this.#device = device;
    this.#buffers = buffers;
    this.#pipelines = pipelines;
    this.#run = program.run.map((step) => this.#prepare(step));
    void device.lost.then((reason) => {
      if (!this.#disposed) this.#lost = reason.message || reason.reason;
    });
    device.addEventListener("uncapturederror", (event) => {
      this.#failure ??= event.error.message;
    });
  }

  static async create(program: Program, device: GPUDevice, name: string): Promise<WebGPURunner> {
    const buffers = await createBuffers(program, device, "run");
    const layoutOf = layoutsFor(device);
    const pipelines = await Promise.all(
      program.kernels.map(async (kernel) => {
        if (typeof kernel.code !== "string")
          throw new EngineError({ kind: "usage", what: `kernel ${kernel.name} holds no WGSL` });
        const module = device.createShaderModule({ label: kernel.name, code: kernel.code });
        try {
          return await device.createComputePipelineAsync({
            label: kernel.name,
            layout: layoutOf(kernel.code),
            compute: { module, entryPoint: "main" },
          });
        } catch (error) {
          const message = error instanceof Error ? error.message : String(error);
          throw new EngineError({
            kind: "failed",
            what: `kernel ${kernel.name} does not compile on this device: ${message}`,
          });
        }
      }),
    );
    const runner = new WebGPURunner(program, device, name, buffers, pipelines);
    if (program.target.kind === "webgpu" && program.target.software) runner.#warmUp();
    return runner;
  }

  /**
   * A CPU behind WebGPU compiles a kernel when it first runs, one after the other in a thread of its own. That begins now,
   * while weights are read: one workgroup of each, on memory that is filled or written again before anything counts.
   */
  #warmUp(): void {
    const first = new Map(this.program.run.map((step, i) => [step.kernel, i] as const).reverse());
    const steps = [...first.values()].flatMap((i) => this.#run[i] ?? []);
    this.#submit(steps.map((step) => ({ ...step, workgroups: [1, 1, 1] as const })));
  }

  #prepare(step: Step): PreparedStep {
    const pipeline = this.#pipelines[step.kernel];
    if (pipeline === undefined)
      throw new EngineError({ kind: "failed", what: `step refers to kernel ${step.kernel}, which does not exist` });
    const entries = step.bindings.map((allocation, binding) => ({
      binding,
      resource: { buffer: this.#buffer(allocation) },
    }));
    return {
      pipeline,
      group: this.#device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }),
      workgroups: step.workgroups,
    };
  }

  async load(weights: WeightSource, onProgress?: (done: number, total: number) => void): Promise<void> {
    const own = await createBuffers(this.program, this.#device, "load");
    for (const [index, buffer] of own.entries()) if (buffer !== undefined) this.#buffers[index] = buffer;
    let queued = 0;
    let staging = new Float32Array(0);
    for (const [done, item] of this.program.load.entries()) {
      if (item.kind === "upload") {
        const { upload } = item;
        const length = uploadLength(upload);
        if (staging.length < length) staging = new Float32Array(length);
        const view = staging.subarray(0, length);
        await weights(upload, view);
        const values = upload.order === undefined ? view : new Float32Array(toMemory(upload, view));
        this.#device.queue.writeBuffer(this.#buffer(upload.allocation), 0, values);
        queued += view.byteLength;
      } else {
        this.#submit([this.#prepare(item.step)]);
      }
      // Queued uploads are copies in the driver's memory: without a wait, all weights would be there twice.
      if (queued > UPLOAD_WINDOW) {
        await this.#device.queue.onSubmittedWorkDone();
        queued = 0;
      }
      onProgress?.(done + 1, this.program.load.length);
    }
    await this.#finish();
    for (const [index, buffer] of own.entries()) {
      if (buffer === undefined) continue;
      buffer.destroy();
      this.#buffers[index] = undefined;
    }
  }

  write(input: string, data: Float32Array): void {
    const entry = find(this.program.inputs, input, "input");
    const length = entry.shape.reduce((product, size) => product * size, 1);
    if (data.length !== length) {
      throw new EngineError({
        kind: "usage",
        what: `input \`${input}\` has ${length} numbers (${entry.shape.join("×")}), not ${data.length}`,
      });
    }
    this.#device.queue.writeBuffer(this.#buffer(entry.allocation), 0, new Float32Array(data));
  }

  async run(): Promise<void> {
    this.#submit(this.#run);
    await this.#finish();
  }

  async read(output: string): Promise<Float32Array> {
    const { shape, allocation } = find(this.program.outputs, output, "output");
    return this.#copy(
      allocation,
      shape.reduce((product, extent) => product * extent, 1),
    );
  }

  readState(path: string): Promise<Float32Array> {
    return readState(this.program, path, (allocation, length) => this.#copy(allocation, length));
  }

  async trace(look: Look): Promise<void> {
    // Buffers share allocations: behind a small one still lies what the last run left of a larger one.
    const encoder = this.#device.createCommandEncoder();
    for (const allocation of scratchOf(this.program)) encoder.clearBuffer(this.#buffer(allocation));
    this.#device.queue.submit([encoder.finish()]);
    for (const [i, step] of this.program.run.entries()) {
      const prepared = this.#run[i];
      if (prepared !== undefined) this.#submit([prepared]);
      const written: Float32Array[] = [];
      for (const { binding, elements, half } of step.writes) {
        const values = await this.#copy(step.bindings[binding] ?? -1, half ? Math.ceil(elements / 2) : elements);
        written.push(half ? fromHalves(new Uint16Array(values.buffer, 0, elements)) : values);
      }
      if (!look(step.layers, written)) return;
    }
  }

  async repeat(index: number, times: number): Promise<void> {
    const prepared = this.#run[index];
    if (prepared === undefined) throw new EngineError({ kind: "usage", what: `the program has no step ${index}` });
    this.#submit(Array.from({ length: times }, () => prepared));
    await this.#finish();
  }

  /** The first `length` numbers of an allocation, when the device has done all it was given. */
  async #copy(allocation: number, length: number): Promise<Float32Array> {
    const size = length * 4;
    const staging = this.#device.createBuffer({ size, usage: USAGE.MAP_READ | USAGE.COPY_DST });
    try {
      const encoder = this.#device.createCommandEncoder();
      encoder.copyBufferToBuffer(this.#buffer(allocation), 0, staging, 0, size);
      this.#device.queue.submit([encoder.finish()]);
      await staging.mapAsync(MAP_READ);
      return new Float32Array(staging.getMappedRange().slice(0));
    } catch (error) {
      this.#check();
      throw error;
    } finally {
      staging.destroy();
    }
  }

  dispose(): void {
    this.#disposed = true;
    for (const buffer of this.#buffers) buffer?.destroy();
    this.#device.destroy();
  }

  #buffer(allocation: number): GPUBuffer {
    const buffer = this.#buffers[allocation];
    if (buffer === undefined)
      throw new EngineError({ kind: "failed", what: `allocation ${allocation} does not exist` });
    return buffer;
  }

  #submit(steps: readonly PreparedStep[]): void {
    const encoder = this.#device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    let current: GPUComputePipeline | undefined;
    for (const step of steps) {
      if (step.pipeline !== current) {
        pass.setPipeline(step.pipeline);
        current = step.pipeline;
      }
      pass.setBindGroup(0, step.group);
      pass.dispatchWorkgroups(...step.workgroups);
    }
    pass.end();
    this.#device.queue.submit([encoder.finish()]);
  }

  async #finish(): Promise<void> {
    await this.#device.queue.onSubmittedWorkDone();
    this.#check();
  }

  #check(): void {
    if (this.#lost !== undefined)
      throw new EngineError({
        kind: "failed",
        what: `the ${this.device} was lost (${this.#lost})`,
      });
    if (this.#failure !== undefined) throw new EngineError({ kind: "failed", what: this.#failure });
  }
}

function find<T extends ProgramInput | ProgramOutput>(list: readonly T[], name: string, what: string): T {
  const entry = list.find((item) => item.name === name);
  if (entry === undefined) {
    throw new EngineError({
      kind: "usage",
      what: `the program has no ${what} \`${name}\`; it has ${list.map((item) => item.name).join(", ")}`,
    });
  }
  return entry;
}
