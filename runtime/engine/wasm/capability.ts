/**
 * What this machine's WebAssembly can do, as the record that the compiler takes.
 */
import type { WasmCapability } from "../../../compiler/capability.ts";
import { processors, showRelaxedSimd } from "./threads.ts";

/** A module of one function that holds `f32x4.relaxed_madd`: valid where relaxed SIMD is there. */
const RELAXED_PROBE = Uint8Array.from(
  [
    [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
    // Type section: (v128) -> v128. Function section: one of that type.
    [0x01, 0x06, 0x01, 0x60, 0x01, 0x7b, 0x01, 0x7b, 0x03, 0x02, 0x01, 0x00],
    // Code section: local.get 0, thrice; f32x4.relaxed_madd; end.
    [0x0a, 0x0d, 0x01, 0x0b, 0x00, 0x20, 0x00, 0x20, 0x00, 0x20, 0x00, 0xfd, 0x85, 0x02, 0x0b],
  ].flat(),
);

/** Whether kernels may hold relaxed SIMD here. In Node 20 this turns it on, for the whole process. */
export async function hasRelaxedSimd(): Promise<boolean> {
  if (WebAssembly.validate(RELAXED_PROBE)) return true;
  await showRelaxedSimd();
  return WebAssembly.validate(RELAXED_PROBE);
}

/** More threads than this gain nothing on the sizes that one frame has. */
const MOST_THREADS = 16;

/** The record of this machine. In a browser, threads need a page that is cross-origin isolated. */
export async function wasmCapability(): Promise<WasmCapability> {
  const threads = Math.min(MOST_THREADS, await processors());
  return { kind: "wasm", name: "wasm", threads, relaxedSimd: await hasRelaxedSimd(), maxMemory: 2 ** 32 };
}
