/**
 * Capability records: everything the compiler knows of a device.
 *
 * The record is the only input from a device to the compiler, so that compilation is a pure function and a program for
 * any GPU can be made and checked on a machine that has none.
 */

/** One shape of subgroup matrix product that a device multiplies in hardware: [m, k] by [k, n]. */
export interface MatrixConfig {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly input: "f16" | "f32";
  readonly result: "f16" | "f32";
}

export interface WebGPUCapability {
  readonly kind: "webgpu";
  /** `webgpu-default`, or the adapter's name. */
  readonly name: string;
  /** True for adapters that run on the CPU (lavapipe, SwiftShader): they want other plans than GPUs. */
  readonly software: boolean;
  readonly f16: boolean;
  /** Invocations of a subgroup; where a kernel may ask for a size between these, `sized`. */
  readonly subgroups: { readonly min: number; readonly max: number; readonly sized?: boolean } | undefined;
  readonly matrix: readonly MatrixConfig[];
  /** In bytes or counts, as in the WebGPU specification. */
  readonly limits: {
    readonly maxStorageBufferBindingSize: number;
    readonly maxBufferSize: number;
    readonly maxStorageBuffersPerShaderStage: number;
    readonly maxComputeWorkgroupStorageSize: number;
    readonly maxComputeInvocationsPerWorkgroup: number;
    readonly maxComputeWorkgroupSizeX: number;
    readonly maxComputeWorkgroupSizeY: number;
    readonly maxComputeWorkgroupSizeZ: number;
    readonly maxComputeWorkgroupsPerDimension: number;
  };
}

export interface WasmCapability {
  readonly kind: "wasm";
  readonly name: string;
  readonly threads: number;
  readonly relaxedSimd: boolean;
  /** Upper bound of the linear memory, in bytes; at most 4 GiB. */
  readonly maxMemory: number;
}

export type Capability = WebGPUCapability | WasmCapability;

/** What every WebGPU implementation guarantees (WebGPU specification, "Limits", default column). */
export const WEBGPU_DEFAULT: WebGPUCapability = {
  kind: "webgpu",
  name: "webgpu-default",
  software: false,
  f16: false,
  subgroups: undefined,
  matrix: [],
  limits: {
    maxStorageBufferBindingSize: 134217728,
    maxBufferSize: 268435456,
    maxStorageBuffersPerShaderStage: 8,
    maxComputeWorkgroupStorageSize: 16384,
    maxComputeInvocationsPerWorkgroup: 256,
    maxComputeWorkgroupSizeX: 256,
    maxComputeWorkgroupSizeY: 256,
    maxComputeWorkgroupSizeZ: 64,
    maxComputeWorkgroupsPerDimension: 65535,
  },
};

/** WASM with SIMD128, shared memory and two threads. */
export const WASM_DEFAULT: WasmCapability = {
  kind: "wasm",
  name: "wasm",
  threads: 2,
  relaxedSimd: false,
  maxMemory: 4294967296,
};
