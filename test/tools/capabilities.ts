/**
 * Records of devices that no test machine has: what their drivers report through Dawn, in round numbers. Programs for them
 * are made and checked all the same, for the record is all that the compiler knows of a device.
 */
import { type MatrixConfig, WEBGPU_DEFAULT, type WebGPUCapability } from "../../compiler/capability.ts";

const matrix = (m: number, n: number, k: number, input: "f16" | "f32", result: "f16" | "f32"): MatrixConfig => ({
  m,
  n,
  k,
  input,
  result,
});

const { limits } = WEBGPU_DEFAULT;

/** A large accelerator by Vulkan: workgroups of 1024 with 48 KiB, subgroups of 32, 16×16×16 matrices. */
const H200_LIKE: WebGPUCapability = {
  kind: "webgpu",
  name: "H200-like",
  software: false,
  f16: true,
  subgroups: { min: 32, max: 32 },
  matrix: [matrix(16, 16, 16, "f16", "f32"), matrix(16, 16, 16, "f16", "f16")],
  limits: {
    ...limits,
    maxStorageBufferBindingSize: 4294967292,
    maxBufferSize: 1099511627776,
    maxStorageBuffersPerShaderStage: 16,
    maxComputeWorkgroupStorageSize: 49152,
    maxComputeInvocationsPerWorkgroup: 1024,
    maxComputeWorkgroupSizeX: 1024,
    maxComputeWorkgroupSizeY: 1024,
  },
};

/** A laptop's chip by Metal: 32 KiB, 8×8×8 matrices of either precision, subgroups as asked for, 10 storage buffers. */
const APPLE_LIKE: WebGPUCapability = {
  kind: "webgpu",
  name: "Apple-like",
  software: false,
  f16: true,
  subgroups: { min: 4, max: 64, sized: true },
  matrix: [matrix(8, 8, 8, "f16", "f16"), matrix(8, 8, 8, "f32", "f32")],
  limits: {
    ...limits,
    maxStorageBufferBindingSize: 4294967292,
    maxBufferSize: 4294967296,
    maxStorageBuffersPerShaderStage: 10,
    maxComputeWorkgroupStorageSize: 32768,
    maxComputeInvocationsPerWorkgroup: 1024,
    maxComputeWorkgroupSizeX: 1024,
    maxComputeWorkgroupSizeY: 1024,
  },
};

/** An integrated GPU by Vulkan: 32 KiB, subgroups of 8 to 32 as asked for, 8×16×16 matrices, bindings of 1 GiB. */
const INTEL_LIKE: WebGPUCapability = {
  kind: "webgpu",
  name: "Intel-like",
  software: false,
  f16: true,
  subgroups: { min: 8, max: 32, sized: true },
  matrix: [matrix(8, 16, 16, "f16", "f32")],
  limits: {
    ...limits,
    maxStorageBufferBindingSize: 1073741824,
    maxBufferSize: 1073741824,
    maxComputeWorkgroupStorageSize: 32768,
    maxComputeInvocationsPerWorkgroup: 512,
    maxComputeWorkgroupSizeX: 512,
    maxComputeWorkgroupSizeY: 512,
  },
};

/** A phone, below the default record as compatibility mode allows: workgroups of 128, no half precision. */
const PHONE_LIKE: WebGPUCapability = {
  kind: "webgpu",
  name: "phone-like",
  software: false,
  f16: false,
  subgroups: undefined,
  matrix: [],
  limits: {
    ...limits,
    maxComputeInvocationsPerWorkgroup: 128,
    maxComputeWorkgroupSizeX: 128,
    maxComputeWorkgroupSizeY: 128,
  },
};

/** All four. */
export const RECORDS: readonly WebGPUCapability[] = [H200_LIKE, APPLE_LIKE, INTEL_LIKE, PHONE_LIKE];
