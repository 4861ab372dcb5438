/**
 * `netc check`: reads a model, its recipes and searches, resolves names, checks shapes, settings and assertions, and says
 * what it found. Sizes may stay open, and data may be missing.
 */

import { costOf } from "../../../compiler/graph/cost.ts";
import type { CheckedSearch } from "../../../compiler/search/elaborate.ts";
import { showShape, showSize } from "../../../compiler/size.ts";
import { EXIT, type ExitCode } from "../exit.ts";
import { printJson } from "../json.ts";
import { checkEntry } from "../model.ts";
import { openEntry } from "../sources.ts";
import { grouped, paint, print } from "../terminal.ts";

export async function check(
  file: string,
  options: { readonly json?: boolean; readonly model?: string },
): Promise<ExitCode> {
  const entry = openEntry(file);
  const found = checkEntry(entry, {
    model: options.model,
    bind: new Map(),
    json: options.json === true,
  });
  if (found === undefined) return EXIT.wrong;
  const { model, recipes, searches } = found;
  if (model === undefined) {
    if (options.json === true) printJson({ model: null, searches });
    else printSearches(searches);
    return EXIT.ok;
  }
  const { parameters } = costOf(model.graph).total;
  const inputs = model.graph.inputs.map((node) => ({ name: node.attrs.name, shape: node.shape.map(showSize) }));
  if (options.json === true) {
    printJson({
      model: model.name,
      parameters: Number(parameters),
      inputs,
      positions: model.positions.length,
      recipes: recipes.map(({ name, model: trains, stages }) => ({
        name,
        model: trains,
        epochs: stages.reduce((sum, { epochs }) => sum + epochs, 0),
      })),
      searches,
    });
    return EXIT.ok;
  }
  const shapes = model.graph.inputs
    .map((node) => `${node.attrs.name}: ${node.dtype}${showShape(node.shape)}`)
    .join(", ");
  const outputs = model.graph.outputs.map(({ node }) => `${node.dtype}${showShape(node.shape)}`).join(", ");
  print(
    `${paint("green", "✓", process.stdout)} ${model.name}(${shapes}) -> ${outputs}, ${grouped(Number(parameters))} parameters`,
  );
  for (const { name, model: trains, stages } of recipes) {
    const epochs = stages.reduce((sum, stage) => sum + stage.epochs, 0);
    const inStages = stages.length === 1 ? "" : ` in ${stages.length} stages`;
    print(
      `${paint("green", "✓", process.stdout)} ${name} trains ${trains}: ${epochs} ${epochs === 1 ? "epoch" : "epochs"}${inStages}`,
    );
  }
  printSearches(searches);
  return EXIT.ok;
}

function printSearches(searches: readonly CheckedSearch[]): void {
  for (const { name, choices } of searches)
    print(`${paint("green", "✓", process.stdout)} ${name} chooses ${choices.join(", ")}`);
}
