/**
 * The weight maps of a model: `from W` of its headline first, then the file's own `weights` blocks, then those of
 * std/weights (language 5.13).
 *
 * A map fits if it is for the model itself or for a block the model is made of: the map of VGG16 fits every headline on
 * VGG16, because rules find their positions under any stream.
 */
import type { Weights } from "../../grammar/ast.ts";
import { diagnostic, span } from "../../grammar/diagnostic.ts";
import { readWeights, type WeightMap } from "../weights/map.ts";
import { isLibrary, report } from "./failure.ts";
import type { MadeModel } from "./models.ts";
import { findBinding, loadModule, type Module, type Program } from "./modules.ts";
import { isCompound, type Value } from "./values.ts";

/** The maps that fit `made`, the most particular first. Mistakes in the blocks are reported. */
export function weightMapsFor(made: MadeModel, module: Module, program: Program): readonly WeightMap[] {
  const maps: WeightMap[] = [];
  const add = (map: WeightMap | undefined): void => {
    if (map !== undefined && !maps.some((known) => known.name === map.name && known.target === map.target))
      maps.push(map);
  };
  const fits = (map: WeightMap): boolean => map.target === made.name || made.build.blocks.has(map.target);
  if (made.weights !== undefined) add(mapOf(made.weights, program));
  for (const item of module.file.items) {
    if (item.kind !== "Weights") continue;
    const map = read(item, module, program, []);
    if (map !== undefined && fits(map)) add(map);
  }
  const library = program.resolve("std/weights", module.source);
  if (library !== undefined && !("error" in library)) {
    const weights = loadModule(program, library);
    for (const item of weights.file.items) {
      if (item.kind !== "Weights" || !made.build.blocks.has(item.target.kind === "Name" ? item.target.name : ""))
        continue;
      add(read(item, weights, program, []));
    }
  }
  return maps;
}

function mapOf(value: Value, program: Program): WeightMap | undefined {
  if (!isCompound(value) || value.kind !== "declaration" || value.weights === undefined) return undefined;
  return read(value.weights, value.module, program, []);
}

/** A block as a map; the map it is made `from` is found like any name. */
function read(item: Weights, module: Module, program: Program, inside: readonly Weights[]): WeightMap | undefined {
  if (inside.includes(item)) {
    const at = item.from ?? item;
    report(
      program.reports,
      diagnostic("E0203", "these weights are made from each other in a circle", span(module.source, at)),
    );
    return undefined;
  }
  const lookup = (name: string): WeightMap | undefined => {
    const cell = findBinding(module, name)?.cell;
    const value = cell?.state.kind === "value" ? cell.state.value : undefined;
    if (value === undefined || !isCompound(value) || value.kind !== "declaration" || value.weights === undefined)
      return undefined;
    return read(value.weights, value.module, program, [...inside, item]);
  };
  const { map, diagnostics } = readWeights(item, module.source, lookup);
  if (!isLibrary(module.source) || module.source === program.root)
    for (const found of diagnostics) report(program.reports, found);
  return map;
}
