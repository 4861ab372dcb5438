/**
 * The compiled training step against PyTorch (fixtures/make_torch_training.py): twenty steps of a two-stream network
 * with STIA, everything of a step inside the program. In f64 on the oracle both agree to what twenty steps leave of it;
 * in f32 the losses must follow within 1e-4, where f32 alone moves PyTorch's own by 2e-6.
 */
import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { WASM_DEFAULT } from "../../compiler/capability.ts";
import { compileStep, lowerStep } from "../../compiler/compile.ts";
import { STEP_INPUTS, STEP_REPORT } from "../../compiler/graph/step.ts";
import { openInterpreter } from "../../compiler/loop/interp.ts";
import { verifyLoops } from "../../compiler/loop/verify.ts";
import type { Model } from "../../compiler/model.ts";
import type { Stage } from "../../compiler/recipe/recipe.ts";
import type { Runner } from "../../runtime/engine/runner.ts";
import { openWasm } from "../../runtime/engine/wasm/runner.ts";
import { openWebGPU } from "../../runtime/engine/webgpu.ts";
import { namedValues } from "../tools/named-values.ts";
import { doubles, modelOf, namedParameters, softwareGPU, stagedOk, weightsFrom } from "../tools/nets.ts";
import { SOFTWARE } from "../tools/webgpu.ts";
import { plainStage } from "./stage.ts";

interface Case {
  readonly nesterov: boolean;
  readonly auxiliary: number;
  readonly draw: number;
  readonly labels: readonly (readonly number[])[];
  readonly losses: readonly number[];
  readonly norms: readonly number[];
  readonly after: Readonly<Record<string, { readonly norm: number; readonly samples: readonly number[] }>>;
}

const {
  network,
}: {
  readonly network: {
    readonly batch: number;
    readonly rate: number;
    readonly momentum: number;
    readonly decay: number;
    readonly smoothing: number;
    readonly cases: Readonly<Record<string, Case>>;
  };
} = JSON.parse(readFileSync("test/fixtures/torch_training.json", "utf8"));

const CLASSES = 4;

let model: Model;
beforeAll(() => {
  model = modelOf(readFileSync("test/training/two-stream.net", "utf8"), { N: network.batch });
});

function stageOf({ nesterov, auxiliary }: Case): Stage {
  const term = {
    weight: 1,
    kind: "cross_entropy",
    on: "output",
    smoothing: network.smoothing,
    classWeights: "none",
  } as const;
  return {
    ...plainStage(model),
    // PyTorch's side takes the mean over the two streams.
    loss: auxiliary === 0 ? [term] : [term, { ...term, on: "streams", smoothing: 0, weight: auxiliary / 2 }],
    optimizer: { kind: "sgd", momentum: network.momentum, nesterov },
    rate: network.rate,
    weightDecay: network.decay,
  };
}

function inputsOf({ draw, labels }: Case, step: number): Map<string, Float32Array> {
  const batch = step % labels.length;
  const inputs = model.graph.inputs.map((node): [string, Float32Array] => {
    const { name } = node.attrs;
    return [name, namedValues(`input:${name}.${draw}.${batch}`, node.shape.map(Number))];
  });
  const rows = (labels[batch] ?? []).flatMap((label) => Array.from({ length: CLASSES }, (_, c) => Number(c === label)));
  return new Map([
    ...inputs,
    [STEP_INPUTS.target, Float32Array.from(rows)],
    [STEP_INPUTS.rates, Float32Array.of(network.rate, 1, 1)],
    [STEP_INPUTS.control, Float32Array.of(1, 1)],
  ]);
}

function furthest(got: readonly number[], want: readonly number[]): number {
  expect(got.length).toBe(want.length);
  return Math.max(...want.map((w, i) => Math.abs((got[i] ?? Number.NaN) - w) / Math.abs(w)));
}

function compare(
  c: Case,
  reports: readonly ArrayLike<number>[],
  state: (path: string) => ArrayLike<number>,
  tolerance: number,
): void {
  const column = (i: number): number[] => reports.map((report) => report[i] ?? Number.NaN);
  expect(furthest(column(0), c.losses)).toBeLessThan(tolerance);
  expect(furthest(column(1), c.norms)).toBeLessThan(10 * tolerance);
  expect(column(2)).toEqual(c.losses.map(() => 1));
  for (const [path, { norm, samples }] of Object.entries(c.after)) {
    const values = Array.from(state(path));
    const got = [0, Math.floor(values.length / 2), values.length - 1].map((i) => values[i] ?? Number.NaN);
    samples.forEach((want, i) =>
      expect(Math.abs((got[i] ?? Number.NaN) - want), path).toBeLessThan(10 * tolerance * norm),
    );
    expect(Math.abs(Math.hypot(...values) - norm), path).toBeLessThan(tolerance * norm);
  }
}

test("the network has PyTorch's parameters, by path", () => {
  for (const { after } of Object.values(network.cases)) {
    expect(model.parameters.map(({ path }) => path).sort()).toEqual(Object.keys(after).sort());
  }
});

describe.each(Object.entries(network.cases))("twenty steps, %s", (_, c) => {
  test("in f64 on the oracle", () => {
    const { loops } = stagedOk(lowerStep(model, stageOf(c), WASM_DEFAULT));
    expect(verifyLoops(loops)).toEqual([]);
    const parameters = doubles(namedParameters(model));
    for (const { param } of loops.buffers) {
      if (param?.path.includes("/"))
        parameters.set(param.path, new Float64Array(param.shape.reduce((a, b) => a * b, 1)));
    }
    const interpreter = openInterpreter(loops, parameters);
    // 0.005 rounded to f32 would be seen.
    const rates = Float64Array.of(network.rate, 1, 1);
    const reports = c.losses.map((_loss, step) => {
      const inputs = doubles(inputsOf(c, step)).set(STEP_INPUTS.rates, rates);
      return Float64Array.from(interpreter.run(inputs).get(STEP_REPORT) ?? []);
    });
    compare(c, reports, interpreter.state, 1e-9);
  });

  async function onDevice(runner: Runner): Promise<void> {
    try {
      const parameters = namedParameters(model);
      const source = weightsFrom(parameters);
      await runner.load((upload, into) => (upload.path.includes("/") ? void into.fill(0) : source(upload, into)));
      const reports: Float32Array[] = [];
      for (let step = 0; step < c.losses.length; step++) {
        for (const [name, values] of inputsOf(c, step)) runner.write(name, values);
        await runner.run();
        reports.push(await runner.read(STEP_REPORT));
      }
      const states = new Map<string, Float32Array>();
      for (const path of Object.keys(c.after)) states.set(path, await runner.readState(path));
      compare(c, reports, (path) => states.get(path) ?? [], 1e-4);
    } finally {
      runner.dispose();
    }
  }

  test("on WASM", async () => {
    const options = { target: WASM_DEFAULT, sizes: new Map(), seed: 1 };
    await onDevice(await openWasm(stagedOk(compileStep(model, stageOf(c), options)).program));
  });

  test("on WebGPU", async () => {
    const options = { target: SOFTWARE, sizes: new Map(), seed: 1 };
    await onDevice(await openWebGPU(stagedOk(compileStep(model, stageOf(c), options)).program, softwareGPU()));
  });
});
