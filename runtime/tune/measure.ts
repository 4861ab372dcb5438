/**
 * What all trials on a device share: a time that ends, steps that are timed, noise to run them on, and whether two results
 * are one.
 */
import { fromHalves } from "../engine/half.ts";
import type { Runner } from "../engine/runner.ts";

/** The time there is. */
export interface Time {
  /** Gives ms. */
  readonly clock: () => number;
  /** When to be done, by the clock. */
  readonly until: number;
}

/** What was tried of one kind of thing, and what became of it. */
export interface Tried {
  /** Those with a choice that the book did not know. */
  readonly open: number;
  /** Of them: decided, and decided for something else than the cost model does. */
  readonly decided: number;
  readonly changed: number;
  /** Time of the decided ones before and as chosen, each once, in ms. */
  readonly before: number;
  readonly after: number;
}

/** A measurement repeats a step until it takes so long, in ms. */
const MEASURED_MS = 2;
const MOST_REPEATS = 1024;
/** What results may differ by: relative to the norm, and of the greatest value. */
const NORM_ERROR = 1e-5;
const GREATEST_ERROR = 1e-4;

/** The time is over. */
class Late extends Error {}

/** `work`, or Late when the time is over: what cannot be stopped goes on unheard. */
export async function inTime<T>(work: Promise<T>, { clock, until }: Time): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Late()), Math.max(0, until - clock()));
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** A program that is being opened, `use` made of it, and it closed again, even if it comes when the time is over. */
export async function withRunner<T>(
  opening: Promise<Runner>,
  time: Time,
  use: (runner: Runner) => Promise<T>,
): Promise<T> {
  let runner: Runner | undefined;
  try {
    runner = await inTime(opening, time);
    return await use(runner);
  } finally {
    if (runner !== undefined) runner.dispose();
    else
      opening.then(
        (late) => late.dispose(),
        () => undefined,
      );
  }
}

/** Times steps of an opened program. */
export class StepTimer {
  readonly #runner: Runner;
  readonly #time: Time;
  readonly #repeats: number[] = [];

  constructor(runner: Runner, time: Time) {
    this.#runner = runner;
    this.#time = time;
  }

  /** Time of these steps, one after the other, in ms. */
  async time(steps: readonly number[]): Promise<number> {
    let sum = 0;
    for (const step of steps) {
      let times = this.#repeats[step] ?? 1;
      let took = await this.repeat(step, times);
      while (this.#repeats[step] === undefined) {
        if (took >= MEASURED_MS || times >= MOST_REPEATS) this.#repeats[step] = times;
        else {
          times = Math.min(MOST_REPEATS, Math.ceil(times * Math.min(16, Math.max(2, (1.2 * MEASURED_MS) / took))));
          took = await this.repeat(step, times);
        }
      }
      sum += took / times;
    }
    return sum;
  }

  /** Time of a step `times` times over, in ms. */
  async repeat(step: number, times: number): Promise<number> {
    const { clock } = this.#time;
    const start = clock();
    await inTime(this.#runner.repeat(step, times), this.#time);
    return clock() - start;
  }
}

/**
 * The least time of each of `field` in so many rounds. They take turns, so that a busy moment of the machine meets all; the
 * least counts, for others only ever add.
 */
export async function leastTimes<T>(
  field: readonly T[],
  rounds: number,
  time: (one: T) => Promise<number>,
): Promise<Map<T, number>> {
  const times = new Map<T, number>();
  for (let round = 0; round < rounds; round++)
    for (const one of field) times.set(one, Math.min(times.get(one) ?? Number.POSITIVE_INFINITY, await time(one)));
  return times;
}

/** Numbers in [0.25, 1.25): nothing cancels and no root or logarithm fails. Halves lie two in a word. */
export function noise(name: string, length: number, half: boolean): Float32Array {
  let state = 1;
  for (let i = 0; i < name.length; i++) state = Math.imul(state, 31) + name.charCodeAt(i);
  const next = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state;
  };
  if (!half) return Float32Array.from({ length }, () => 0.25 + next() / 2 ** 32);
  // Between 0.25 and 1: two bits of exponent and the whole mantissa.
  const bits = Uint16Array.from({ length: 2 * length }, () => ((13 + (next() >>> 31)) << 10) | (next() >>> 22));
  return new Float32Array(bits.buffer);
}

/** Whether two results are one: in all bits, or but for rounding. */
export function agree(
  want: Float32Array = new Float32Array(),
  got: Float32Array = new Float32Array(),
  { half, exact }: { readonly half: boolean; readonly exact: boolean },
): boolean {
  if (exact) {
    const bits = (values: Float32Array): Uint32Array =>
      new Uint32Array(values.buffer, values.byteOffset, values.length);
    const other = bits(got);
    return want.length === got.length && bits(want).every((word, i) => word === other[i]);
  }
  const numbers = (values: Float32Array): Float32Array =>
    half ? fromHalves(new Uint16Array(values.buffer, values.byteOffset, 2 * values.length)) : values;
  const [r, y] = [numbers(want), numbers(got)];
  let [difference, norm, worst, greatest] = [0, 0, 0, 0];
  for (const [i, value] of r.entries()) {
    const other = y[i] ?? Number.NaN;
    // What is no number, or has no bound, has to be so in both.
    if (!Number.isFinite(value) || !Number.isFinite(other)) {
      if (!Object.is(value, other)) return false;
      continue;
    }
    const d = Math.abs(other - value);
    difference += d * d;
    norm += value * value;
    worst = Math.max(worst, d);
    greatest = Math.max(greatest, Math.abs(value));
  }
  const rounding = half ? 100 : 1;
  return (
    Math.sqrt(difference) <= rounding * NORM_ERROR * Math.sqrt(norm) && worst <= rounding * GREATEST_ERROR * greatest
  );
}
