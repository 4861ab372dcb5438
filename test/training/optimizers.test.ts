/**
 * Every optimizer, clipping, accumulation, moving averages and the factors of single parameters against PyTorch's
 * (fixtures/make_torch_training.py): six steps of least squares on one linear layer, in f64 on the oracle.
 */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { WASM_DEFAULT } from "../../compiler/capability.ts";
import { lowerStep } from "../../compiler/compile.ts";
import { STATE_PREFIX, STEP_INPUTS, STEP_REPORT } from "../../compiler/graph/step.ts";
import { openInterpreter } from "../../compiler/loop/interp.ts";
import { verifyLoops } from "../../compiler/loop/verify.ts";
import type { Optimizer, Stage } from "../../compiler/recipe/recipe.ts";
import { assertClose } from "../tools/compare.ts";
import { doubles, modelOf, named64, namedParameters, stagedOk } from "../tools/nets.ts";
import { plainStage } from "./stage.ts";

type Named = Readonly<Record<"weight" | "bias", readonly number[]>>;

interface Case {
  readonly kind: "sgd" | "adam" | "adamw";
  readonly momentum?: number;
  readonly nesterov?: boolean;
  readonly beta1?: number;
  readonly beta2?: number;
  readonly eps?: number;
  readonly rate: number;
  readonly decay: number;
  readonly clip?: number;
  readonly accumulate?: number;
  readonly ema?: number;
  readonly rates?: Readonly<Record<string, number>>;
  readonly decays?: Readonly<Record<string, number>>;
  readonly steps: readonly {
    readonly loss: number;
    readonly norm?: number;
    readonly parameters: Named;
    readonly average?: Named;
  }[];
}

const { optimizers }: { readonly optimizers: Readonly<Record<string, Case>> } = JSON.parse(
  readFileSync("test/fixtures/torch_training.json", "utf8"),
);

const model = modelOf("model Line(x: f32[4, 5]) -> f32[4, 3] = Linear(3)");
/** The layer has no name of its own in PyTorch's fixture. */
const pathOf = (name: string): string => {
  const path = model.parameters.find((parameter) => parameter.path.endsWith(`.${name}`))?.path;
  if (path === undefined) throw new Error(`no ${name}`);
  return path;
};

function optimizerOf({
  kind,
  momentum = 0,
  nesterov = false,
  beta1 = 0.9,
  beta2 = 0.999,
  eps = 1e-8,
}: Case): Optimizer {
  return kind === "sgd"
    ? { kind, momentum, nesterov }
    : { kind: "adam", beta1, beta2, eps, decoupled: kind === "adamw" };
}

function stageOf(c: Case): Stage {
  return {
    ...plainStage(model),
    loss: [{ weight: 1, kind: "mean_squared_error", on: "output", smoothing: 0, classWeights: "none" }],
    optimizer: optimizerOf(c),
    rate: c.rate,
    weightDecay: c.decay,
    accumulate: c.accumulate ?? 1,
    clipNorm: c.clip,
    ema: c.ema,
    parameters: ["weight", "bias"].map((name) => ({
      path: pathOf(name),
      rate: c.rates?.[name] ?? 1,
      decay: c.decays?.[name] ?? 1,
      frozenUntil: 0,
    })),
  };
}

describe("six steps as PyTorch makes them", () => {
  test.each(Object.entries(optimizers))("%s", (_, c) => {
    const stage = stageOf(c);
    const { loops } = stagedOk(lowerStep(model, stage, WASM_DEFAULT));
    expect(verifyLoops(loops)).toEqual([]);
    const start = new Map(
      ["weight", "bias"].map((name) => [
        pathOf(name),
        named64(name, model.parameters.find(({ path }) => path === pathOf(name))?.node.shape.map(Number) ?? []),
      ]),
    );
    const parameters = new Map([...doubles(namedParameters(model)), ...start]);
    for (const { param } of loops.buffers) {
      const { path = "", shape = [] } = param ?? {};
      if (!path.includes("/")) continue;
      const average = path.startsWith(STATE_PREFIX.average)
        ? start.get(path.slice(STATE_PREFIX.average.length))
        : undefined;
      parameters.set(path, average ?? new Float64Array(shape.reduce((a, b) => a * b, 1)));
    }
    const interpreter = openInterpreter(loops, parameters);
    c.steps.forEach((want, step) => {
      const { beta1 = 0.9, beta2 = 0.999 } = c;
      const adam = c.kind === "sgd" ? [1, 1] : [1 / (1 - beta1 ** (step + 1)), 1 / Math.sqrt(1 - beta2 ** (step + 1))];
      let loss = 0;
      let norm = 0;
      for (let part = 0; part < stage.accumulate; part++) {
        const report = interpreter
          .run(
            new Map([
              ["x", named64(`input:x.${step}.${part}`, [4, 5])],
              [STEP_INPUTS.target, named64(`input:y.${step}.${part}`, [4, 3])],
              [STEP_INPUTS.rates, Float64Array.of(c.rate, ...adam)],
              [STEP_INPUTS.control, Float64Array.of(part === stage.accumulate - 1 ? 1 : 0, part === 0 ? 1 : 0)],
            ]),
          )
          .get(STEP_REPORT);
        loss += (report?.[0] ?? Number.NaN) / stage.accumulate;
        norm = report?.[1] ?? Number.NaN;
        expect(report?.[2]).toBe(1);
      }
      expect(loss).toBeCloseTo(want.loss, 10);
      if (want.norm !== undefined) expect(norm).toBeCloseTo(want.norm, 10);
      for (const name of ["weight", "bias"] as const) {
        // The fixture has sixteen digits; adding in another order leaves fourteen.
        assertClose(interpreter.state(pathOf(name)), want.parameters[name], `${name}, step ${step}`, 1e-12);
        const average = want.average?.[name];
        if (average !== undefined)
          assertClose(interpreter.state(STATE_PREFIX.average + pathOf(name)), average, `average of ${name}`, 1e-12);
      }
    });
  });
});
