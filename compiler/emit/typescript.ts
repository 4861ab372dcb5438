/**
 * A compiled model as a TypeScript module (language 11.6).
 *
 * In: the checked model. Out: the text of a module that gives its inputs, outputs, parameters and positions as literal
 * types, so that swapped streams or a misspelt layer do not compile in the user's program. The types that it fills in
 * are in runtime/engine/typed.ts, which users know as "netc/engine".
 *
 * ts-morph brings a whole TypeScript with it and takes most of a second to load: import this file only when TypeScript
 * is asked for.
 */
import { Project, StructureKind, VariableDeclarationKind } from "ts-morph";
import type { TensorType } from "../graph/graph.ts";
import type { Model } from "../model.ts";
import { showShape } from "../size.ts";

/** Names from a source are identifiers already, but for primes and the file names that bare headlines are called by. */
function identifier(name: string): string {
  const text = name.replace(/[^A-Za-z0-9_$]/g, "_");
  return /^[0-9]/.test(text) ? `_${text}` : text;
}

function shapeType({ shape }: TensorType): string {
  return `readonly [${shape.map((size) => (typeof size === "number" ? size : "number")).join(", ")}]`;
}

function tensorProperty(name: string, type: TensorType) {
  return {
    name: JSON.stringify(name),
    type: `Tensor<"${type.dtype}", ${shapeType(type)}>`,
    isReadonly: true,
    docs: [showShape(type.shape)],
  };
}

/** The module's text. It expects `program.json` beside it. */
export function emitTypeScript(model: Model): string {
  const name = identifier(model.name);
  const positions = new Set(model.positions.flatMap(({ path, aliases }) => [path, ...aliases]));
  const module = new Project({ useInMemoryFileSystem: true }).createSourceFile("model.ts", {
    statements: [
      "// Made by netc. Changes are lost when the model is compiled again.",
      {
        kind: StructureKind.ImportDeclaration,
        moduleSpecifier: "netc/engine",
        namedImports: ["define", { name: "ModelDefinition", isTypeOnly: true }, { name: "Tensor", isTypeOnly: true }],
      },
      {
        kind: StructureKind.Interface,
        name: `${name}Inputs`,
        isExported: true,
        properties: model.graph.inputs.map((node) => tensorProperty(node.attrs.name, node)),
      },
      {
        kind: StructureKind.Interface,
        name: `${name}Outputs`,
        isExported: true,
        properties: model.graph.outputs.map((output) => tensorProperty(output.name, output.node)),
      },
      {
        kind: StructureKind.Interface,
        name: `${name}Params`,
        isExported: true,
        properties: model.parameters.map(({ path, node }) => ({
          name: JSON.stringify(path),
          type: shapeType(node),
          isReadonly: true,
        })),
      },
      {
        kind: StructureKind.TypeAlias,
        name: `${name}Position`,
        isExported: true,
        type: positions.size === 0 ? "never" : [...positions].map((path) => `\n  | ${JSON.stringify(path)}`).join(""),
      },
      {
        kind: StructureKind.VariableStatement,
        declarationKind: VariableDeclarationKind.Const,
        isExported: true,
        declarations: [
          {
            name,
            type: `ModelDefinition<${name}Inputs, ${name}Outputs, ${name}Params, ${name}Position>`,
            initializer: `define({ name: ${JSON.stringify(model.name)}, program: new URL("./program.json", import.meta.url) })`,
          },
        ],
      },
    ],
  });
  return module.getFullText();
}
