import { readFileSync } from "node:fs";
import { ModuleKind, ModuleResolutionKind, Project, ScriptTarget } from "ts-morph";
import { beforeAll, expect, test } from "vitest";
import { elaborate } from "../../compiler/elaborate/elaborate.ts";
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
    streamOutputs: [],
    units: [],
    positions: places.map((place) => ({ path: place, aliases: [], node: scores, block: "Conv" })),
    parameters: [{ path, node: weight, init, kind: "param" }],
    weightMaps: [],
    classes: undefined,
  };
}

/** A model as the compiler makes it. */
function tiny(): Model {
  const read = (path: string, file: string) => ({ path, text: readFileSync(file, "utf8") });
  const { model, diagnostics } = elaborate(
    read("tiny_stia.net", "examples/tiny_stia.net"),
    (path) => read(path, `compiler/${path}.net`),
    { bind: new Map() },
  );
  expect(diagnostics).toEqual([]);
  if (model === undefined) throw new Error("no model");
  return model;
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
  project.createSourceFile(`${folder}/TinySTIA.net.ts`, emitTypeScript(tiny()));
  check = (text) => {
    project.createSourceFile(`${folder}/use.ts`, head + text, { overwrite: true });
    // Only these: checking the library of TypeScript itself takes ten times as long.
    return project
      .getSourceFiles()
      .filter((file) => /(use|STIA\.net|typed)\.ts$/.test(file.getFilePath()))
      .flatMap((file) => file.getPreEmitDiagnostics())
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

test("a model of the examples", () => {
  const use = `
import { TinySTIA } from "./TinySTIA.net.ts";
declare const input: Parameters<Awaited<ReturnType<typeof TinySTIA.open>>["run"]>[0];
const frames: readonly [number, 3, 64, 64] = input.spatial.shape;
const tiny = await TinySTIA.open(open);
const scores: readonly [number, 4] = (await tiny.run(input)).output.shape;
console.log(frames, scores, tiny.cost({ at: ["temporal.conv3", "stia_conv3.to_temporal.phi", "spatial.conv1.bn"] }));
`;
  expect(check(`declare const console: { log(...x: unknown[]): void };${use}`)).toEqual([]);
  expect(check(use.replace("64, 64]", "64, 32]")).map(({ code }) => code)).toContain(2322);
}, 60_000);

test("names that TypeScript does not allow are changed", () => {
  const text = emitTypeScript({ ...sample(), name: "5a-headline'" });
  expect(text).toContain("export const _5a_headline_: ModelDefinition<_5a_headline_Inputs,");
  expect(text).toContain(`define({ name: "5a-headline'"`);
});
