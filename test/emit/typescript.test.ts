import { ModuleKind, ModuleResolutionKind, Project, ScriptTarget } from "ts-morph";
import { beforeAll, expect, test } from "vitest";
import { emitTypeScript } from "../../compiler/emit/typescript.ts";
import type { GraphNode, NodeOf } from "../../compiler/graph/graph.ts";
import type { Model } from "../../compiler/model.ts";
import { name, type Size } from "../../compiler/size.ts";

const N = name("N");

function input(id: number, called: string, shape: readonly Size[]): NodeOf<"input"> {
  return { id, op: "input", inputs: [], attrs: { name: called }, shape, dtype: "f32", layer: "", origins: [] };
}

/** Two streams that end in one table of four scores. */
function sample(): Model {
  const inputs = [input(0, "spatial", [N, 3, 64, 64]), input(1, "temporal", [N, 20, 64, 64])];
  const init = { kind: "constant", value: 0 } as const;
  const path = "spatial.conv1.weight";
  const weight: NodeOf<"param"> = {
    id: 2,
    op: "param",
    inputs: [],
    attrs: { path, kind: "param", init },
    shape: [16, 3, 3, 3],
    dtype: "f32",
    layer: "spatial.conv1",
    origins: [],
  };
  const scores: GraphNode = {
    ...weight,
    id: 3,
    op: "reshape",
    attrs: { shape: [N, 4] },
    shape: [N, 4],
  };
  const places = ["spatial.conv1", "spatial.conv3", "stia_conv3.to_spatial.theta"];
  return {
    name: "PainSTIA",
    graph: {
      name: "PainSTIA",
      nodes: [...inputs, weight, scores],
      inputs,
      outputs: [{ name: "scores", node: scores }],
    },
    streams: ["spatial", "temporal"],
    positions: places.map((place) => ({ path: place, aliases: [], node: scores, block: "Conv" })),
    parameters: [{ path, node: weight, init, kind: "param" }],
    weightMaps: [],
    classes: undefined,
  };
}

const head = `
import { PainSTIA, type PainSTIAInputs, type PainSTIAOutputs, type PainSTIAParams } from "./PainSTIA.net.ts";
declare const rgb: PainSTIAInputs["spatial"], flow: PainSTIAInputs["temporal"];
declare const open: Parameters<typeof PainSTIA.open>[0];
const model = await PainSTIA.open(open);
`;
let check: (text: string) => readonly { code: number; text: string }[];

beforeAll(() => {
  const project = new Project({
    skipAddingFilesFromTsConfig: true,
    compilerOptions: {
      strict: true,
      noEmit: true,
      target: ScriptTarget.ES2022,
      module: ModuleKind.ESNext,
      moduleResolution: ModuleResolutionKind.Bundler,
      allowImportingTsExtensions: true,
      skipLibCheck: true,
      types: [],
      paths: { "netc/engine": [`${process.cwd()}/runtime/engine/typed.ts`] },
    },
  });
  const folder = `${process.cwd()}/test/emit`;
  project.createSourceFile(`${folder}/PainSTIA.net.ts`, emitTypeScript(sample()));
  check = (text) => {
    project.createSourceFile(`${folder}/use.ts`, head + text, { overwrite: true });
    return project
      .getPreEmitDiagnostics()
      .filter((d) => /(use|PainSTIA\.net|typed)\.ts$/.test(d.getSourceFile()?.getFilePath() ?? ""))
      .map((d) => {
        const message = d.getMessageText();
        return { code: d.getCode(), text: typeof message === "string" ? message : message.getMessageText() };
      });
  };
}, 60_000);

test("the module's text", () => {
  const text = emitTypeScript(sample());
  expect(text).toContain('readonly "temporal": Tensor<"f32", readonly [number, 20, 64, 64]>;');
  expect(text).toContain('readonly "spatial.conv1.weight": readonly [16, 3, 3, 3];');
  expect(text).toContain('| "stia_conv3.to_spatial.theta"');
  expect(text).toContain('new URL("./program.json", import.meta.url)');
});

test("a right use compiles", () => {
  const good = `
const { scores } = await model.run({ spatial: rgb, temporal: flow });
const classes: 4 = scores.shape[1];
const kernel: readonly [16, 3, 3, 3] = null as unknown as PainSTIAParams["spatial.conv1.weight"];
await model.load((path) => (path === "spatial.conv1.weight" ? new Float32Array(432) : new Float32Array(0)));
console.log(classes, kernel, model.cost({ at: ["spatial.conv3"] }).macs, null as unknown as PainSTIAOutputs);
`;
  expect(check(`declare const console: { log(...x: unknown[]): void };${good}`)).toEqual([]);
}, 60_000);

test("swapped streams do not compile", () => {
  expect(check("await model.run({ spatial: flow, temporal: rgb });").map(({ code }) => code)).toEqual([2322, 2322]);
}, 60_000);

test("a misspelt position does not compile and is corrected", () => {
  const [error, ...rest] = check('model.cost({ at: ["spatial.conv33"] });');
  expect(rest).toEqual([]);
  expect(error?.code).toBe(2820);
  expect(error?.text).toContain(`Did you mean '"spatial.conv3"'?`);
}, 60_000);

test("names that TypeScript does not allow are changed", () => {
  const text = emitTypeScript({ ...sample(), name: "5a-headline'" });
  expect(text).toContain("export const _5a_headline_: ModelDefinition<_5a_headline_Inputs,");
  expect(text).toContain(`define({ name: "5a-headline'"`);
});
