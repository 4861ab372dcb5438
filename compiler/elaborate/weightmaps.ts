/**
 * The weight maps of a model: `from W` of its headline, the file's own `weights` blocks, those of std/weights.
 */
import type { WeightMap } from "../weights/map.ts";
import type { MadeModel } from "./models.ts";
import type { Module, Program } from "./modules.ts";

export function weightMapsFor(_made: MadeModel, _module: Module, _program: Program): readonly WeightMap[] {
  return [];
}
