/**
 * One network, three devices: the oracle, WASM threads and WebGPU give the same answers, and a program that was written
 * to a folder and read back gives the very same bits.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WASM_DEFAULT, WEBGPU_DEFAULT } from "../../compiler/capability.ts";
import type { Model } from "../../compiler/model.ts";
import { readProgramFolder, writeProgramFolder } from "../../runtime/cli/program-folder.ts";
import { programWeights, writeWeights } from "../../runtime/cli/weights.ts";
import { initialise } from "../../runtime/engine/init.ts";
import { encodeProgram, MANIFEST } from "../../runtime/engine/program-file.ts";
import type { WeightSource } from "../../runtime/engine/runner.ts";
import { openWasm } from "../../runtime/engine/wasm/runner.ts";
import { openWebGPU } from "../../runtime/engine/webgpu.ts";
import { assertClose, errorsOf } from "../tools/compare.ts";
import { namedValues } from "../tools/named-values.ts";
import {
  bound,
  DEVICES,
  exampleModel,
  modelOf,
  type Numbers,
  namedInputs,
  namedParameters,
  onOracle,
  programOf,
  runOnce,
  softwareGPU,
  startingParameters,
  weightsFrom,
} from "../tools/nets.ts";
import { SOFTWARE } from "../tools/webgpu.ts";

/** The only output. */
function logits(outputs: ReadonlyMap<string, ArrayLike<number>>): ArrayLike<number> {
  const [only] = outputs.values();
  if (only === undefined || outputs.size !== 1) throw new Error("the model has one output");
  return only;
}

const SEED = 2026;
const isGate = (path: string): boolean => /^stia_.*\.bn\.(weight|bias)$/.test(path);

/** As the network starts from a seed, but for the gates of its units, which would hold attention shut. */
const opened: WeightSource = (upload, into) => {
  if (isGate(upload.path)) into.set(namedValues(upload.path, upload.shape));
  else initialise(upload, SEED, into);
};

describe("tiny_stia.net from one seed, gates opened, two clips at once", () => {
  let model: Model;
  let inputs: Numbers;
  let wanted: ArrayLike<number>;
  beforeAll(() => {
    model = bound(exampleModel("tiny_stia"), { N: 2 });
    inputs = namedInputs(model.graph);
    const parameters = startingParameters(model, SEED);
    const closed = logits(onOracle(model, inputs, parameters));
    for (const path of [...parameters.keys()].filter(isGate)) {
      parameters.set(path, namedValues(path, [parameters.get(path)?.length ?? 0]));
    }
    wanted = logits(onOracle(model, inputs, parameters));
    // Attention matters: otherwise agreement would say nothing of it.
    expect(errorsOf(closed, wanted).relL2).toBeGreaterThan(0.01);
  });

  test("WASM agrees with the oracle", async () => {
    const runner = await openWasm(programOf(model, WASM_DEFAULT, SEED));
    assertClose(logits(await runOnce(runner, inputs, opened)), wanted, "wasm");
  });
  test("WebGPU agrees with the oracle", { timeout: 180_000 }, async () => {
    const runner = await openWebGPU(programOf(model, SOFTWARE, SEED), softwareGPU());
    assertClose(logits(await runOnce(runner, inputs, opened)), wanted, "webgpu");
  });
  test("a program for subgroups of another size is refused", async () => {
    const wider = programOf(model, { ...SOFTWARE, subgroups: { min: 8, max: 8 } }, SEED);
    await expect(openWebGPU(wider, softwareGPU())).rejects.toThrow(/subgroups of 8/);
  });
});

/**
 * Networks with what tiny_stia.net has not: layer norm, GELU, masks, gates over channels and places, grouped and strided
 * convolutions.
 */
const OTHERS = {
  "a causal transformer": `
    import { Attention, EncoderLayer } from "./transformer.net"
    model T(x: f32[2, 10, 24]) -> f32[2, 10, 24] {
      y = x -> repeat i in 0..1 { EncoderLayer(heads=3) } @layers -> LayerNorm @norm
      return y + Attention(heads=2, causal=true)(y, x)
    }`,
  "a residual network with gates": `
    import { BasicBlock, Bottleneck } from "std/vision"
    model R(x: f32[2, 6, 13, 11]) -> f32[2, 5]
      = Conv(16, k=(3, 5), stride=(2, 1), groups=2, act=SiLU) @stem -> AvgPool(3, stride=2, pad=1)
      -> BasicBlock(16) @basic -> SE(reduction=4) @se -> Bottleneck(8, stride=2) @bottle -> CBAM(reduction=8, k=3) @cbam
      -> GlobalAvgPool -> Linear(5) @fc -> Softmax`,
} as const;

describe.each(Object.entries(OTHERS))("%s", { timeout: 180_000 }, (_, text) => {
  test.each(["wasm", "webgpu"] as const)("on %s agrees with the oracle", async (device) => {
    const model = modelOf(text);
    const inputs = namedInputs(model.graph);
    const parameters = namedParameters(model);
    const wanted = logits(onOracle(model, inputs, parameters));
    assertClose(logits(await DEVICES[device](model, inputs, parameters)), wanted, device);
  });
});

describe("parameters", () => {
  test.each(["wasm", "webgpu"] as const)("can be replaced in a program that runs on %s", async (device) => {
    const model = modelOf(
      "model M(x: f32[2, 3, 8, 8]) -> f32[2, 4] = Conv(8) @conv -> BatchNorm @bn -> ReLU -> GlobalAvgPool -> Linear(4) @fc",
    );
    const inputs = namedInputs(model.graph);
    const [first, second] = [startingParameters(model, 1), namedParameters(model)];
    const runner =
      device === "wasm"
        ? await openWasm(programOf(model, WASM_DEFAULT))
        : await openWebGPU(programOf(model, SOFTWARE), softwareGPU());
    try {
      for (const parameters of [first, second, first]) {
        await runner.load(weightsFrom(parameters));
        for (const [name, values] of inputs) runner.write(name, values);
        await runner.run();
        assertClose(await runner.read("output"), logits(onOracle(model, inputs, parameters)), device);
      }
    } finally {
      runner.dispose();
    }
  });
});

describe("a program in a folder", () => {
  const folder = mkdtempSync(join(tmpdir(), "netc-agree-"));
  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  test("gives the same bits after it was read back", async () => {
    const model = bound(exampleModel("tiny_stia"));
    const inputs = namedInputs(model.graph);
    const source = weightsFrom(namedParameters(model));
    const program = programOf(model, WASM_DEFAULT);
    const uploads = program.load.flatMap((step) => (step.kind === "upload" ? [step.upload] : []));
    const destination = join(folder, "tiny");
    const file = "weights.safetensors";
    const write = async (path: string): Promise<void> => {
      await writeWeights(path, uploads, source);
    };
    await writeProgramFolder(program, destination, [{ name: file, contents: write }], file);
    const again = await readProgramFolder(destination);
    expect(again.weights?.file).toBe(file);
    const weights = await programWeights(join(destination, file), again.seed);
    const before = await runOnce(await openWasm(program), inputs, source);
    expect(await runOnce(await openWasm(again), inputs, weights.source)).toEqual(before);
    expect(await runOnce(await openWasm(again), inputs, (await programWeights(undefined, 1)).source)).not.toEqual(
      before,
    );
  });
  test.each([
    ["wasm", WASM_DEFAULT],
    ["webgpu", WEBGPU_DEFAULT],
  ])("for %s is the program itself", async (name, target) => {
    const program = programOf(bound(exampleModel("tiny_stia")), target);
    await writeProgramFolder(program, join(folder, name));
    const again = await readProgramFolder(join(folder, name));
    // The manifest holds every field, and checksums of every kernel's own bytes.
    expect((await encodeProgram(again)).get(MANIFEST)).toBe((await encodeProgram(program)).get(MANIFEST));
    expect(again.kernels.map(({ code }) => code.length)).toEqual(program.kernels.map(({ code }) => code.length));
  });
});
