/**
 * Which device this machine has: a hardware WebGPU adapter, else its processors; software adapters only when asked for.
 *
 * An adapter becomes a Capability record here, and from there on the compiler needs no device.
 */
import { readdirSync } from "node:fs";
import type { MatrixConfig, WasmCapability, WebGPUCapability } from "../../compiler/capability.ts";
import type { Program } from "../../compiler/program.ts";
import { EngineError, type Runner } from "./runner.ts";
import { wasmCapability } from "./wasm/capability.ts";
import { openWasm, type WasmOptions } from "./wasm/runner.ts";
import { openWebGPU } from "./webgpu.ts";

/** A WebGPU adapter of this machine. */
export interface AdapterReport {
  readonly capability: WebGPUCapability;
  readonly vendor: string;
  readonly architecture: string;
  readonly features: readonly string[];
}

export interface WebGPUReport {
  readonly gpu: GPU | undefined;
  readonly adapter: AdapterReport | undefined;
  /** Why there is no adapter. */
  readonly reason: string | undefined;
}

// Dawn frees its instance when this object is collected, even while devices live: it is held for the process's life.
const held: Set<GPU> = new Set();
Reflect.set(globalThis, Symbol.for("netc.gpu"), held);

/** What Dawn has to be told: hardware for matrices is an experiment of its, and halves are left out on NVIDIA's by default. */
const OPTIONS = ["enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia"];

function subgroupSizes(features: readonly string[], info: GPUAdapterInfo): WebGPUCapability["subgroups"] {
  const { subgroupMinSize: min, subgroupMaxSize: max } = info;
  if (!features.includes("subgroups") || min === undefined || max === undefined) return undefined;
  return features.includes("subgroup-size-control") ? { min, max, sized: true } : { min, max };
}

/** The shapes that an adapter's hardware multiplies, of halves and f32; Dawn's `GPUSubgroupMatrixConfig`. */
function matrixConfigs(features: readonly string[], info: GPUAdapterInfo): readonly MatrixConfig[] {
  if (!features.includes("chromium-experimental-subgroup-matrix")) return [];
  const found: unknown = Reflect.get(info, "subgroupMatrixConfigs");
  const isFloat = (type: unknown): type is "f16" | "f32" => type === "f16" || type === "f32";
  return (Array.isArray(found) ? found : []).flatMap((each: object): MatrixConfig[] => {
    const [m, n, k] = ["M", "N", "K"].map((name) => Number(Reflect.get(each, name)));
    const [input, result] = ["componentType", "resultComponentType"].map((name): unknown => Reflect.get(each, name));
    const known = m !== undefined && n !== undefined && k !== undefined && isFloat(input) && isFloat(result);
    return known ? [{ m, n, k, input, result }] : [];
  });
}

function describe(adapter: GPUAdapter): AdapterReport {
  const { info, limits } = adapter;
  const name = info.description || info.device || info.vendor || "unnamed adapter";
  const software =
    info.isFallbackAdapter ||
    /swiftshader|llvmpipe|lavapipe|software|warp/i.test(`${name} ${info.vendor} ${info.architecture}`);
  const features = [...adapter.features].sort();
  return {
    capability: {
      kind: "webgpu",
      name,
      software,
      f16: features.includes("shader-f16"),
      subgroups: subgroupSizes(features, info),
      matrix: matrixConfigs(features, info),
      limits: {
        maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
        maxBufferSize: limits.maxBufferSize,
        maxStorageBuffersPerShaderStage: limits.maxStorageBuffersPerShaderStage,
        maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
        maxComputeInvocationsPerWorkgroup: limits.maxComputeInvocationsPerWorkgroup,
        maxComputeWorkgroupSizeX: limits.maxComputeWorkgroupSizeX,
        maxComputeWorkgroupSizeY: limits.maxComputeWorkgroupSizeY,
        maxComputeWorkgroupSizeZ: limits.maxComputeWorkgroupSizeZ,
        maxComputeWorkgroupsPerDimension: limits.maxComputeWorkgroupsPerDimension,
      },
    },
    vendor: info.vendor,
    architecture: info.architecture,
    features,
  };
}

/** Asks npm `webgpu` for this machine's adapter. Never throws: what is missing is a reason in words. */
export async function probeWebGPU(): Promise<WebGPUReport> {
  let gpu: GPU;
  try {
    const { create } = await import("webgpu");
    gpu = create(OPTIONS);
  } catch (error) {
    return {
      gpu: undefined,
      adapter: undefined,
      reason: `npm webgpu does not load here: ${error instanceof Error ? error.message : String(error)}`,
    };
  }
  held.add(gpu);
  try {
    const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
    if (adapter === null)
      return { gpu, adapter: undefined, reason: "no Vulkan, Metal or Direct3D 12 driver that Dawn accepts" };
    return { gpu, adapter: describe(adapter), reason: undefined };
  } catch (error) {
    return { gpu, adapter: undefined, reason: error instanceof Error ? error.message : String(error) };
  }
}

/**
 * False if this is a Linux machine without any graphics device, where asking Dawn for hardware only costs time and a
 * warning of its own on standard error. Other systems are always asked.
 */
function mayHaveHardware(): boolean {
  if (process.platform !== "linux") return true;
  const list = (folder: string): string[] => {
    try {
      return readdirSync(folder);
    } catch {
      return [];
    }
  };
  return (
    list("/dev/dri").some((name) => name.startsWith("render")) ||
    list("/dev").some((name) => /^(nvidia\d|kfd$|dxg$|mali)/.test(name))
  );
}

/** A device that runs programs, and the record to compile for. */
export type Device =
  | { readonly device: "webgpu"; readonly capability: WebGPUCapability; readonly gpu: GPU }
  | { readonly device: "wasm"; readonly capability: WasmCapability };

/**
 * Finds a device: `auto` is a hardware adapter, else the processors.
 * @throws EngineError `no-device` if WebGPU was asked for and there is none
 */
export async function findDevice(name: "auto" | "webgpu" | "wasm"): Promise<Device> {
  if (name === "wasm" || (name === "auto" && !mayHaveHardware()))
    return { device: "wasm", capability: await wasmCapability() };
  const { gpu, adapter, reason } = await probeWebGPU();
  if (gpu !== undefined && adapter !== undefined && (name === "webgpu" || !adapter.capability.software))
    return { device: "webgpu", capability: adapter.capability, gpu };
  if (name === "auto") return { device: "wasm", capability: await wasmCapability() };
  throw new EngineError({
    kind: "no-device",
    what: `this machine has no WebGPU adapter: ${reason ?? "none answered"}`,
  });
}

/** Opens a program on a device that the caller has chosen. */
export type OpenProgram = (program: Program) => Promise<Runner>;

/** Opens `program` on `device`. @throws EngineError if it does not fit or the device fails */
export function openOn(program: Program, device: Device, options: WasmOptions = {}): Promise<Runner> {
  return device.device === "webgpu" ? openWebGPU(program, device.gpu) : openWasm(program, options);
}

/** How a device names itself in records. */
export function deviceName({ device, capability }: Device): string {
  if (device === "webgpu") return capability.name;
  return `wasm, ${capability.threads} thread${capability.threads === 1 ? "" : "s"}`;
}
