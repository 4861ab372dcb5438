/**
 * `--device interp`: the reference interpreter of the loop level behind the engine's interface. Slow, in f64, and
 * independent of every schedule and renderer. The engine may not know the compiler, so the oracle lives here.
 */
import { type Interpreter, openInterpreter } from "../../compiler/loop/interp.ts";
import type { Loops } from "../../compiler/loop/loops.ts";
import type { Program } from "../../compiler/program.ts";
import { EngineError, type Runner, type WeightSource } from "../engine/runner.ts";

/** A runner that interprets `loops`, from which `program` was made. */
export function openOracle(program: Program, loops: Loops): Runner {
  const params = new Map<string, Float64Array>();
  const inputs = new Map<string, Float64Array>();
  let outputs = new Map<string, Float64Array>();
  let opened: Interpreter | undefined;
  const interpreter = (): Interpreter => (opened ??= openInterpreter(loops, params));
  return {
    program,
    device: "interp (f64, one thread)",
    async load(weights: WeightSource, onProgress) {
      for (const [done, item] of program.load.entries()) {
        if (item.kind === "upload" && !params.has(item.upload.path)) {
          const values = new Float32Array(item.upload.shape.reduce((product, size) => product * size, 1));
          await weights({ ...item.upload, rows: undefined }, values);
          params.set(item.upload.path, Float64Array.from(values));
        }
        onProgress?.(done + 1, program.load.length);
      }
    },
    write(input, data) {
      inputs.set(input, Float64Array.from(data));
    },
    async run() {
      outputs = interpreter().run(inputs);
    },
    async read(output) {
      const values = outputs.get(output);
      if (values === undefined) throw new EngineError({ kind: "usage", what: `no output \`${output}\`` });
      return Float32Array.from(values);
    },
    async readState(path) {
      return Float32Array.from(interpreter().state(path));
    },
    async trace(look) {
      interpreter().run(inputs, ({ layers }, written) =>
        look(
          layers,
          written.map((values) => Float32Array.from(values)),
        ),
      );
    },
    repeat: () => Promise.reject(new EngineError({ kind: "usage", what: "the interpreter has no steps to time" })),
    dispose() {
      params.clear();
    },
  };
}
