/**
 * `netc check`: reads a model, resolves names, checks shapes and assertions, and says what it found. Sizes may stay open.
 */

import { costOf } from "../../../compiler/graph/cost.ts";
import { showShape, showSize } from "../../../compiler/size.ts";
import { EXIT, type ExitCode } from "../exit.ts";
import { printJson } from "../json.ts";
import { elaborateEntry } from "../model.ts";
import { openEntry } from "../sources.ts";
import { grouped, paint, print } from "../terminal.ts";

export async function check(
  file: string,
  options: { readonly json?: boolean; readonly model?: string },
): Promise<ExitCode> {
  const entry = openEntry(file);
  const model = elaborateEntry(entry, { model: options.model, bind: new Map(), json: options.json === true });
  if (model === undefined) return EXIT.wrong;
  const { parameters } = costOf(model.graph).total;
  const inputs = model.graph.inputs.map((node) => ({ name: node.attrs.name, shape: node.shape.map(showSize) }));
  if (options.json === true) {
    printJson({
      model: model.name,
      parameters: Number(parameters),
      inputs,
      positions: model.positions.length,
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
  return EXIT.ok;
}
