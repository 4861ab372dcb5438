/**
 * The types behind `netc compile`'s TypeScript.
 *
 * For each model the compiler writes a small module (compiler/emit/typescript.ts) with the model's shapes, parameter
 * paths and positions as literal types, and one call of `define`. With it, feeding flow to the spatial stream or
 * misspelling a layer is an error in the editor. At run time there is only a name, the place of the program, and a
 * runner that somebody else opens.
 */
import type { Program } from "../../compiler/program.ts";
import type { Runner } from "./runner.ts";

/** Numbers in row-major order; open sizes are `number` in `Shape`. */
export interface Tensor<DType extends string, Shape extends readonly number[]> {
  readonly dtype: DType;
  readonly shape: Shape;
  readonly data: Float32Array;
}

type AnyTensor = Tensor<string, readonly number[]>;

/** Gives all numbers of one parameter, row-major in `shape`. */
export type ParameterSource<Params> = (
  path: keyof Params & string,
  shape: readonly number[],
) => Float32Array | Promise<Float32Array>;

export interface Model<Inputs, Outputs, Params, Position extends string> {
  readonly program: Program;
  /** In words: adapter name, or "wasm, 2 threads". */
  readonly device: string;
  /** Fills every parameter. Once, before the first run. */
  load(parameters: ParameterSource<Params>): Promise<void>;
  run(inputs: Inputs): Promise<Outputs>;
  /** Multiply-adds and bytes moved in one run by the layers at and below these positions. */
  cost(layers: { readonly at: readonly Position[] }): { readonly macs: number; readonly bytes: number };
  dispose(): void;
}

export interface ModelDefinition<Inputs, Outputs, Params, Position extends string> {
  readonly name: string;
  /** Of `program.json`. */
  readonly program: URL;
  /** Opens the model with a function that fetches a program and opens it on a device. */
  open(openProgram: (program: URL) => Promise<Runner>): Promise<Model<Inputs, Outputs, Params, Position>>;
}

/** Copies the rows that an upload asks for out of the whole parameter. */
async function loadParameters<Params>(runner: Runner, source: ParameterSource<Params>): Promise<void> {
  await runner.load(async ({ path, shape, rows }, into) => {
    // The program and `Params` were made together: its paths are the keys.
    const values = await source(path as keyof Params & string, shape);
    const size = shape.reduce((product, n) => product * n, 1);
    if (values.length !== size) throw new RangeError(`${path} has ${size} numbers, ${values.length} were given`);
    const rowLength = size / (shape[0] ?? 1);
    into.set(rows === undefined ? values : values.subarray(rows.start * rowLength, rows.end * rowLength));
  });
}

function isWithin(layer: string, position: string): boolean {
  return layer === position || layer.startsWith(`${position}.`) || layer.startsWith(`${position}[`);
}

/** Names a compiled model. The type parameters come from the generated module; nothing checks them again at run time. */
export function define<
  Inputs extends { readonly [Name in keyof Inputs]: AnyTensor },
  Outputs extends { readonly [Name in keyof Outputs]: AnyTensor },
  Params,
  Position extends string,
>(model: { readonly name: string; readonly program: URL }): ModelDefinition<Inputs, Outputs, Params, Position> {
  return {
    ...model,
    async open(openProgram) {
      const runner = await openProgram(model.program);
      const { program } = runner;
      return {
        program,
        device: runner.device,
        load: (parameters) => loadParameters(runner, parameters),
        async run(inputs) {
          for (const [name, tensor] of Object.entries<AnyTensor>(inputs)) runner.write(name, tensor.data);
          await runner.run();
          const outputs: Record<string, AnyTensor> = {};
          for (const { name, dtype, shape } of program.outputs) {
            outputs[name] = { dtype, shape, data: await runner.read(name) };
          }
          // The generated types say what the program, compiled together with them, gives.
          return outputs as Outputs;
        },
        cost({ at }) {
          const steps = program.run.filter(({ layers }) => layers.some((layer) => at.some((p) => isWithin(layer, p))));
          return {
            macs: steps.reduce((sum, step) => sum + step.macs, 0),
            bytes: steps.reduce((sum, step) => sum + step.bytes, 0),
          };
        },
        dispose: () => runner.dispose(),
      };
    },
  };
}
