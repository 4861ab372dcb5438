/**
 * `netc`: the compiler as a library. From a source text to a checked model (`elaborate`), and from there to a program for
 * one target (`compile`, or `compileStep` for one step of training); `netc/engine` runs programs.
 */
export {
  type Capability,
  WASM_DEFAULT,
  type WasmCapability,
  WEBGPU_DEFAULT,
  type WebGPUCapability,
} from "../compiler/capability.ts";
export {
  bindModel,
  type CompileOptions,
  compile,
  compileStep,
  type Staged,
  type StepCompileOptions,
  type TrainingProgram,
} from "../compiler/compile.ts";
export { elaborate } from "../compiler/elaborate/elaborate.ts";
export type { Elaboration, Model, Parameter, Position, Resolve } from "../compiler/model.ts";
export type { Program } from "../compiler/program.ts";
export { plainStage } from "../compiler/recipe/plain.ts";
export type { Stage } from "../compiler/recipe/recipe.ts";
export type { Diagnostic } from "../grammar/diagnostic.ts";
export { diagnosticToJson, renderDiagnostics } from "../grammar/render.ts";
export type { Source, Span } from "../grammar/source.ts";
export { diskResolve } from "./cli/sources.ts";
export { type AdapterReport, probeWebGPU, type WebGPUReport } from "./engine/devices.ts";
