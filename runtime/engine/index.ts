/**
 * `netc/engine`: runs compiled programs, in Node and in a browser. It holds no compiler.
 *
 *     const { program } = await decodeProgram((name) => fetchBytes(name));
 *     const runner = await openWebGPU(program, navigator.gpu);
 *     await runner.load((upload, into) => initialise(upload, program.seed, into));
 */

export type { Program } from "../../compiler/program.ts";
export { initialise } from "./init.ts";
export { decodeProgram, encodeProgram } from "./program-file.ts";
export { EngineError, type EngineProblem, type Runner, type WeightSource } from "./runner.ts";
export {
  bytesReader,
  openSafetensors,
  readTensor,
  type SafetensorsError,
  type SafetensorsFile,
} from "./safetensors.ts";
export { define, type Model, type ModelDefinition, type ParameterSource, type Tensor } from "./typed.ts";
export { wasmCapability } from "./wasm/capability.ts";
export { openWasm } from "./wasm/runner.ts";
export { openWebGPU } from "./webgpu.ts";
