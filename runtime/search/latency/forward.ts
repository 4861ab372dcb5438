/**
 * How long a forward pass of one example takes on a device: the pass and the way back of its first output, after some
 * passes that warm everything up. In: an open program for one example. Out: median and quartiles.
 */
import type { Runner } from "../../engine/runner.ts";

/** Milliseconds of one pass. */
export interface Timing {
  readonly median: number;
  readonly low: number;
  readonly high: number;
  /** Passes that were timed. */
  readonly runs: number;
}

const WARM_RUNS = 5;
const WARM_MS = 100;
const LEAST_RUNS = 30;
/** Short passes are timed more often, up to so long in all. */
const ENOUGH_MS = 400;
const MOST_RUNS = 200;

/** The value below which a share of sorted values lies, between neighbours where it falls between. */
function quantile(sorted: readonly number[], share: number): number {
  const at = share * (sorted.length - 1);
  const [low, high] = [sorted[Math.floor(at)] ?? Number.NaN, sorted[Math.ceil(at)] ?? Number.NaN];
  return low + (high - low) * (at - Math.floor(at));
}

/** Summary of times in milliseconds. */
export function timingOf(times: readonly number[]): Timing {
  const sorted = [...times].sort((a, b) => a - b);
  return {
    median: quantile(sorted, 0.5),
    low: quantile(sorted, 0.25),
    high: quantile(sorted, 0.75),
    runs: sorted.length,
  };
}

/** Times passes of a loaded program. What its inputs hold does not change what is computed. */
export async function timeForward(runner: Runner): Promise<Timing> {
  for (const { name, shape } of runner.program.inputs) {
    const length = shape.reduce((product, size) => product * size, 1);
    runner.write(
      name,
      Float32Array.from({ length }, (_, i) => Math.sin(i * 0.37)),
    );
  }
  const [output] = runner.program.outputs;
  const pass = async (): Promise<number> => {
    const began = performance.now();
    await runner.run();
    if (output !== undefined) await runner.read(output.name);
    return performance.now() - began;
  };
  for (let [run, spent] = [0, 0]; run < WARM_RUNS || (spent < WARM_MS && run < MOST_RUNS); run++) spent += await pass();
  const times: number[] = [];
  for (let spent = 0; times.length < LEAST_RUNS || (spent < ENOUGH_MS && times.length < MOST_RUNS); ) {
    const time = await pass();
    times.push(time);
    spent += time;
  }
  return timingOf(times);
}
