/**
 * A few training steps on made-up data, on the oracle and on WASM: what tests of the step's form share.
 *
 * In: a model whose sizes are bound, and a stage. Out: the reports of the steps (loss, norm of the gradients, whether
 * the update was made) and all state behind the last of them, by path.
 */
import { WASM_DEFAULT } from "../../compiler/capability.ts";
import { compileStep, type LoweredStep, lowerStep } from "../../compiler/compile.ts";
import type { AttentionForm } from "../../compiler/graph/attend.ts";
import type { ConvolutionForm } from "../../compiler/graph/convolution.ts";
import { STEP_INPUTS, STEP_REPORT } from "../../compiler/graph/step.ts";
import { COUNTERS } from "../../compiler/graph/training.ts";
import { openInterpreter } from "../../compiler/loop/interp.ts";
import type { Model } from "../../compiler/model.ts";
import type { Program } from "../../compiler/program.ts";
import type { Precision, Stage } from "../../compiler/recipe/recipe.ts";
import { openWasm } from "../../runtime/engine/wasm/runner.ts";
import { namedValues } from "../tools/named-values.ts";
import { doubles, namedParameters, stagedOk, weightsFrom } from "../tools/nets.ts";

const F32: Precision = { kind: "f32" };

export interface Steps {
  readonly reports: readonly (readonly number[])[];
  readonly state: ReadonlyMap<string, Float64Array>;
}

/** The inputs of one step; those that `program` does not have are left out. */
function inputsOf(
  inputs: readonly { readonly name: string; readonly shape: readonly number[] }[],
  step: number,
  { rate }: Stage,
  lossScale: number,
): Map<string, Float32Array> {
  // Two batches by turns, so that a network can learn them.
  const batch = step % 2;
  return new Map(
    inputs.map(({ name, shape }): [string, Float32Array] => {
      switch (name) {
        case STEP_INPUTS.target: {
          const [rows = 1, classes = 1] = shape;
          const values = Array.from({ length: rows * classes }, (_, i) =>
            Number(i % classes === (Math.floor(i / classes) + batch) % classes),
          );
          return [name, Float32Array.from(values)];
        }
        case STEP_INPUTS.rates:
          return [name, Float32Array.of(rate, 1, 1)];
        case STEP_INPUTS.control:
          return [name, Float32Array.of(1, 1)];
        case STEP_INPUTS.lossScale:
          return [name, Float32Array.of(lossScale, 1 / lossScale)];
        case COUNTERS:
          return [name, Float32Array.of(step, 0xcafe, 7)];
        default:
          return [name, namedValues(`${name} ${batch}`, shape)];
      }
    }),
  );
}

/** The form of every attention; that which suits its size if undefined. */
export type Form = AttentionForm | undefined;

export function loweredStep(
  model: Model,
  stage: Stage,
  precision: Precision = F32,
  form?: Form,
  convolution?: ConvolutionForm,
): LoweredStep {
  return stagedOk(lowerStep(model, stage, WASM_DEFAULT, precision, form, convolution));
}

export function stepProgram(
  model: Model,
  stage: Stage,
  precision: Precision = F32,
  form?: Form,
  convolution?: ConvolutionForm,
): Program {
  const attention = form === undefined ? {} : { attention: form };
  const sizes = new Map<string, number>();
  const options = { target: WASM_DEFAULT, sizes, seed: 1, precision, convolution, ...attention };
  return stagedOk(compileStep(model, stage, options)).program;
}

export function stepsOnOracle(
  model: Model,
  stage: Stage,
  count: number,
  precision: Precision = F32,
  lossScale = 1024,
  form?: Form,
  convolution?: ConvolutionForm,
): Steps {
  const { loops } = loweredStep(model, stage, precision, form, convolution);
  const parameters = doubles(namedParameters(model));
  const paths = loops.buffers.flatMap(({ role, param }) => (role === "state" && param ? [param] : []));
  for (const { path, shape } of paths)
    if (path.includes("/")) parameters.set(path, new Float64Array(shape.reduce((a, b) => a * b, 1)));
  const interpreter = openInterpreter(loops, parameters);
  const inputs = loops.inputs.map(({ name, buffer }) => ({ name, shape: loops.buffers[buffer]?.shape ?? [] }));
  const reports = Array.from({ length: count }, (_, step) => [
    ...(interpreter.run(doubles(inputsOf(inputs, step, stage, lossScale))).get(STEP_REPORT) ?? []),
  ]);
  return { reports, state: new Map(paths.map(({ path }) => [path, interpreter.state(path)])) };
}

export async function stepsOnWasm(
  model: Model,
  stage: Stage,
  count: number,
  precision: Precision = F32,
  lossScale = 1024,
  form?: Form,
  convolution?: ConvolutionForm,
): Promise<Steps> {
  const program = stepProgram(model, stage, precision, form, convolution);
  const runner = await openWasm(program);
  try {
    const source = weightsFrom(namedParameters(model));
    await runner.load((upload, into) => (upload.path.includes("/") ? void into.fill(0) : source(upload, into)));
    const reports: number[][] = [];
    for (let step = 0; step < count; step++) {
      for (const [name, values] of inputsOf(program.inputs, step, stage, lossScale)) runner.write(name, values);
      await runner.run();
      reports.push([...(await runner.read(STEP_REPORT))]);
    }
    const state = new Map<string, Float64Array>();
    for (const { path } of program.state) state.set(path, Float64Array.from(await runner.readState(path)));
    return { reports, state };
  } finally {
    runner.dispose();
  }
}

/** State that is nothing but rounding errors, as the gradient of a bias before a batch norm, is compared with this. */
const NOTHING = 1e-3;

/** The largest difference of two runs: of reports relative to the number, of state relative to its largest element. */
export function furthest(got: Steps, want: Steps): number {
  const differences = want.reports.flatMap((report, step) =>
    report.map(
      (number, i) => Math.abs((got.reports[step]?.[i] ?? Number.NaN) - number) / Math.max(1e-30, Math.abs(number)),
    ),
  );
  for (const [path, values] of want.state) {
    const other = got.state.get(path) ?? [];
    const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), NOTHING);
    const worst = values.reduce((most, value, i) => Math.max(most, Math.abs((other[i] ?? Number.NaN) - value)), 0);
    differences.push(Number.isNaN(worst) ? Infinity : worst / largest);
  }
  return differences.reduce((most, one) => (one <= most ? most : one), 0);
}

/** Bytes of one run that are neither state nor parameters. */
export function activationBytes(program: Program): number {
  const kept = new Set(program.state.map(({ allocation }) => allocation));
  return program.allocations.reduce(
    (sum, { bytes, lifetime }, i) => sum + (lifetime === "run" && !kept.has(i) ? bytes : 0),
    0,
  );
}
