/**
 * The library against PyTorch: the same networks with the same made-up weights (fixtures/make_torch.py) give the same
 * numbers. Backbones are filled through their maps of torchvision's names, so that the maps are proved too.
 */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { Model } from "../../compiler/model.ts";
import { applyTransforms, planWeights } from "../../compiler/weights/plan.ts";
import { assertClose } from "../tools/compare.ts";
import { namedValues } from "../tools/named-values.ts";
import { DEVICES, modelOf, type Numbers } from "../tools/nets.ts";

interface Case {
  readonly name: string;
  readonly inputs: Readonly<Record<string, readonly number[]>>;
  readonly outputs: readonly { readonly shape: readonly number[]; readonly float32: string }[];
}

const fixture: { readonly cases: readonly Case[] } = JSON.parse(readFileSync("test/fixtures/torch.json", "utf8"));

function caseOf(name: string): Case {
  const found = fixture.cases.find((each) => each.name === name);
  if (found === undefined) throw new Error(`the fixture has no case ${name}`);
  return found;
}

function inputsOf({ name, inputs }: Case): Numbers {
  return new Map(Object.entries(inputs).map(([key, shape]) => [key, namedValues(`input:${name}.${key}`, shape)]));
}

/** PyTorch's answers. */
function answersOf({ outputs }: Case): readonly Float32Array[] {
  return outputs.map(({ float32 }) => new Float32Array(new Uint8Array(Buffer.from(float32, "base64")).buffer));
}

/** Every parameter from a file with these tensors, through the model's own maps; nothing may be left over. */
function fillByMap(model: Model, header: ReadonlyMap<string, readonly number[]>): Numbers {
  const plan = planWeights(model, header, { skip: [] });
  const { skipped, fresh, missing, misshapen, unused } = plan;
  expect({ skipped, fresh, missing, misshapen, unused }).toEqual({
    skipped: [],
    fresh: [],
    missing: [],
    misshapen: [],
    unused: [],
  });
  return new Map(
    plan.loads.map((load) => [load.path, applyTransforms(load, namedValues(load.tensor, load.tensorShape))]),
  );
}

async function agree(device: keyof typeof DEVICES, model: Model, wanted: Case, parameters: Numbers): Promise<void> {
  const outputs = [...(await DEVICES[device](model, inputsOf(wanted), parameters)).values()];
  const answers = answersOf(wanted);
  expect(outputs).toHaveLength(answers.length);
  answers.forEach((answer, i) => {
    assertClose(outputs[i] ?? [], answer, `${wanted.name} on ${device}, output ${i}`);
  });
}

/** torchvision's VGG-16, whose classifier is that of the fixture. */
function vggHeader(hidden: number, classes: number): Map<string, readonly number[]> {
  const header = new Map<string, readonly number[]>();
  const layer = (name: string, shape: readonly number[]): void => {
    header.set(`${name}.weight`, shape).set(`${name}.bias`, shape.slice(0, 1));
  };
  let channels = 3;
  let index = 0;
  for (const [count, width] of [
    [2, 64],
    [2, 128],
    [3, 256],
    [3, 512],
    [3, 512],
  ] as const) {
    for (let i = 0; i < count; i++) {
      layer(`features.${index}`, [width, channels, 3, 3]);
      channels = width;
      index += 2; // A ReLU follows each convolution,
    }
    index++; // and a pool each stage.
  }
  layer("classifier.0", [hidden, 512]);
  layer("classifier.3", [hidden, hidden]);
  layer("classifier.6", [classes, hidden]);
  return header;
}

/** torchvision's ResNet-50. */
function resnetHeader(): Map<string, readonly number[]> {
  const header = new Map<string, readonly number[]>();
  const norm = (name: string, channels: number): void => {
    for (const part of ["weight", "bias", "running_mean", "running_var"]) header.set(`${name}.${part}`, [channels]);
    header.set(`${name}.num_batches_tracked`, []);
  };
  header.set("conv1.weight", [64, 3, 7, 7]);
  norm("bn1", 64);
  let channels = 64;
  for (const [stage, count] of [3, 4, 6, 3].entries()) {
    const width = 64 * 2 ** stage;
    for (let i = 0; i < count; i++) {
      const block = `layer${stage + 1}.${i}`;
      header.set(`${block}.conv1.weight`, [width, channels, 1, 1]);
      header.set(`${block}.conv2.weight`, [width, width, 3, 3]);
      header.set(`${block}.conv3.weight`, [4 * width, width, 1, 1]);
      norm(`${block}.bn1`, width);
      norm(`${block}.bn2`, width);
      norm(`${block}.bn3`, 4 * width);
      if (i === 0) {
        header.set(`${block}.downsample.0.weight`, [4 * width, channels, 1, 1]);
        norm(`${block}.downsample.1`, 4 * width);
      }
      channels = 4 * width;
    }
  }
  header.set("fc.weight", [1000, 2048]).set("fc.bias", [1000]);
  return header;
}

describe.each(["wasm", "webgpu"] as const)(
  "backbones, filled by torchvision's names, on %s",
  { timeout: 180_000 },
  (device) => {
    test("VGG-16", async () => {
      const model = modelOf("VGG16(classes=10, hidden=64) over x: f32[N, 3, 32, 32]");
      await agree(device, model, caseOf("vgg16"), fillByMap(model, vggHeader(64, 10)));
    });
    test("ResNet-50", async () => {
      const model = modelOf("ResNet50 over x: f32[N, 3, 64, 64]");
      await agree(device, model, caseOf("resnet50"), fillByMap(model, resnetHeader()));
    });
  },
);

describe.each(["interp", "wasm", "webgpu"] as const)("attention on %s", { timeout: 180_000 }, (device) => {
  test("NonLocal", async () => {
    const model = modelOf("model M(x: f32[2, 16, 7, 5]) -> f32[2, 16, 7, 5] = NonLocal @block");
    const parameters = new Map(
      model.parameters.map(({ path, node }) => [path, namedValues(path, node.shape.map(Number))]),
    );
    expect([...parameters.keys()]).toContain("block.theta.weight");
    await agree(device, model, caseOf("nonlocal"), parameters);
  });
  test("STIA", async () => {
    const map = "f32[2, 12, 6, 7]";
    const model = modelOf(`model M(spatial: ${map}, temporal: ${map}) -> (${map}, ${map}) = STIA @stia`);
    const torchName = (path: string): string => path.replace(/^stia\./, "");
    const parameters = new Map(
      model.parameters.map(({ path, node }) => [path, namedValues(torchName(path), node.shape.map(Number))]),
    );
    expect([...parameters.keys()].map(torchName)).toContain("to_temporal.bn.running_var");
    await agree(device, model, caseOf("stia"), parameters);
  });
});
