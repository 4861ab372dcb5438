/**
 * A device of paper: it computes nothing and takes as long as it is told, by a clock of its own.
 */
import type { Program } from "../../compiler/program.ts";
import type { OpenProgram } from "../../runtime/engine/devices.ts";
import type { Runner } from "../../runtime/engine/runner.ts";

let now = 0;

/** The clock of all such devices, in ms. */
export const paperTime = (): number => now;

interface Paper {
  /** ms of a step. */
  readonly ms: (step: number, program: Program) => number;
  /** What is found everywhere behind a step, or behind a whole pass (-1). */
  readonly value?: (step: number, program: Program) => number;
  readonly opened?: Program[];
  readonly disposed?: Program[];
}

/** Opens programs on such a device. */
export function paper({ ms, value = () => 1, opened = [], disposed = [] }: Paper): OpenProgram {
  return (program) => {
    opened.push(program);
    let last = -1;
    const runner: Runner = {
      program,
      device: "paper",
      load: async () => {},
      write: () => {},
      run: async () => {
        last = -1;
      },
      read: async (name) => {
        const { shape = [] } = program.outputs.find((output) => output.name === name) ?? {};
        const length = shape.reduce((product, size) => product * size, 1);
        return new Float32Array(length).fill(value(last, program));
      },
      readState: async () => new Float32Array(),
      trace: async () => {},
      repeat: async (step, times) => {
        last = step;
        now += ms(step, program) * times;
      },
      dispose: () => {
        disposed.push(program);
      },
    };
    return Promise.resolve(runner);
  };
}
