/**
 * The tuner: tries the few best plans of each kernel on the device and keeps the fastest.
 *
 * In: the kernels of a program that was compiled (compiler/assemble.ts, `KernelReuse`), a way to open programs, and a point
 * in time. Out: plans chosen in the reuse and written into the book. Kernels that need the longest come first; each is run
 * in plan 0, which the compiler's cost model chose, and in the next best few by that model. A candidate may win only if its
 * results on noise are plan 0's, within rounding or, where a training is to be repeated exactly, bit for bit; and only if it
 * is faster by more than clocks err, twice. Whatever fails or is not finished in time leaves plan 0 where it was.
 */
import { type Isolated, type KernelReuse, kernelHash } from "../../compiler/assemble.ts";
import type { Candidate } from "../../compiler/schedule/candidates.ts";
import { candidatesFor, heaviestFirst, type Trial, trialOf } from "../../compiler/trial.ts";
import type { OpenProgram } from "../engine/devices.ts";
import { fromHalves } from "../engine/half.ts";
import type { Runner } from "../engine/runner.ts";
import type { PlanBook } from "./book.ts";

/** Candidates that are timed, plan 0 among them. Software adapters take seconds to compile one. */
const MOST = { usual: 6, software: 3 } as const;
/** What one kernel may take of the time that is left. */
const SHARE = 0.5;
/** A winner must need at most this share of plan 0's time. */
const FASTER = 0.97;
/** A measurement repeats a kernel until it takes so long, in ms. */
const MEASURED_MS = 2;
const ROUNDS = 5;
/** What results may differ by: relative to the norm, and of the greatest value. */
const NORM_ERROR = 1e-5;
const GREATEST_ERROR = 1e-4;

export interface TuneJob {
  readonly reuse: KernelReuse;
  readonly book: PlanBook;
  readonly open: OpenProgram;
  /** Only plans that give plan 0's results bit for bit. */
  readonly exact: boolean;
  /** When to be done, by the clock. */
  readonly until: number;
  /** Gives ms; by default `performance.now`. */
  readonly clock?: () => number;
}

/** The time there is. */
interface Time {
  readonly clock: () => number;
  readonly until: number;
}

export interface TuneReport {
  /** Kernels with a choice that the book did not know. */
  readonly open: number;
  /** Of them: decided, and decided for another plan than plan 0. */
  readonly decided: number;
  readonly changed: number;
  /** Time of the decided kernels in plan 0 and as chosen, each once, in ms. */
  readonly before: number;
  readonly after: number;
}

/** Tunes until nothing is left or the time is over. Never throws for what a device does. */
export async function tuneKernels(job: TuneJob): Promise<TuneReport> {
  const { reuse, book, exact, until, clock = () => performance.now() } = job;
  const report = { open: 0, decided: 0, changed: 0, before: 0, after: 0 };
  for (const kernel of heaviestFirst(reuse)) {
    const hash = kernelHash(kernel);
    if (book.has(hash)) continue;
    const { target } = reuse;
    const most = target.kind === "webgpu" && target.software ? MOST.software : MOST.usual;
    const candidates = few(candidatesFor(kernel, target), exact, most);
    if (candidates.length < 2) continue;
    report.open += 1;
    if (clock() >= until) continue;
    const found = await fastest(kernel, candidates, job, { clock, until: clock() + SHARE * (until - clock()) });
    if (found === undefined) continue;
    const plan = JSON.stringify(candidates[found.winner]?.plan);
    book.set(hash, { plan, ms: found.ms });
    report.decided += 1;
    report.before += found.ms[0];
    report.after += found.ms[1];
    if (found.winner === 0) continue;
    report.changed += 1;
    reuse.choose(kernel, plan);
  }
  return report;
}

function few(candidates: readonly Candidate[], exact: boolean, most: number): readonly Candidate[] {
  const [first] = candidates;
  return (exact ? candidates.filter(({ order }) => order === first?.order) : candidates).slice(0, most);
}

interface Found {
  readonly winner: number;
  /** Of plan 0 and of the winner. */
  readonly ms: readonly [number, number];
}

/** The time is over. */
class Late extends Error {}

/** `work`, or Late when the time is over: what cannot be stopped goes on unheard. */
async function inTime<T>(work: Promise<T>, { clock, until }: Time): Promise<T> {
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

async function fastest(
  kernel: Isolated,
  candidates: readonly Candidate[],
  { reuse, open, exact }: TuneJob,
  time: Time,
): Promise<Found | undefined> {
  const trial = trialOf(kernel, candidates, reuse.target);
  const opening = open(trial.program);
  let runner: Runner | undefined;
  try {
    runner = await inTime(opening, time);
    return await race(new Bench(runner, trial, time), candidates.length, exact);
  } catch {
    // Too large for this device beside itself, a plan that it refuses, no time: plan 0 stays.
    return undefined;
  } finally {
    if (runner !== undefined) runner.dispose();
    else
      opening.then(
        (late) => late.dispose(),
        () => undefined,
      );
  }
}

/** Runs candidates of one kernel. */
class Bench {
  readonly #runner: Runner;
  readonly #trial: Trial;
  readonly #time: Time;
  readonly #repeats: number[] = [];

  constructor(runner: Runner, trial: Trial, time: Time) {
    this.#runner = runner;
    this.#trial = trial;
    this.#time = time;
  }

  /** What a candidate makes of noise, by written buffer. */
  async results(candidate: number): Promise<readonly Float32Array[]> {
    for (const { name, length, half } of this.#trial.buffers) this.#runner.write(name, noise(name, length, half));
    for (const { name, length } of this.#trial.written.filter((buffer) => !this.#isRead(buffer.name)))
      this.#runner.write(name, new Float32Array(length).fill(Number.NaN));
    for (const step of this.#trial.steps[candidate] ?? []) await this.#repeat(step, 1);
    const results: Float32Array[] = [];
    for (const { name } of this.#trial.written) results.push(await inTime(this.#runner.read(name), this.#time));
    return results;
  }

  /** Time of a candidate, in ms. */
  async time(candidate: number): Promise<number> {
    let sum = 0;
    for (const step of this.#trial.steps[candidate] ?? []) {
      let times = this.#repeats[step] ?? 1;
      let took = await this.#repeat(step, times);
      while (this.#repeats[step] === undefined) {
        if (took >= MEASURED_MS || times >= 1024) this.#repeats[step] = times;
        else {
          times = Math.min(1024, Math.ceil(times * Math.min(16, Math.max(2, (1.2 * MEASURED_MS) / took))));
          took = await this.#repeat(step, times);
        }
      }
      sum += took / times;
    }
    return sum;
  }

  get written(): Trial["written"] {
    return this.#trial.written;
  }

  #isRead(name: string): boolean {
    return this.#trial.read.has(name);
  }

  async #repeat(step: number, times: number): Promise<number> {
    const { clock } = this.#time;
    const start = clock();
    await inTime(this.#runner.repeat(step, times), this.#time);
    return clock() - start;
  }
}

/** The fastest of the candidates that compute what the first does. */
async function race(bench: Bench, count: number, exact: boolean): Promise<Found> {
  const right = await bench.results(0);
  const running: number[] = [0];
  for (let candidate = 1; candidate < count; candidate++) {
    const results = await bench.results(candidate);
    if (bench.written.every(({ half }, i) => agree(right[i], results[i], half, exact))) running.push(candidate);
  }
  // Takes turns, so that a busy moment of the machine meets all; the least counts, for others only ever add.
  const least = async (field: readonly number[], rounds: number): Promise<Map<number, number>> => {
    const times = new Map<number, number>();
    for (let round = 0; round < rounds; round++)
      for (const one of field)
        times.set(one, Math.min(times.get(one) ?? Number.POSITIVE_INFINITY, await bench.time(one)));
    return times;
  };
  const first = await least(running, 2);
  const best = Math.min(...first.values());
  // Who is far behind after two rounds does not come back.
  const close = running.filter((one) => one === 0 || (first.get(one) ?? best) <= 1.3 * best);
  const times = await least(close, ROUNDS - 2);
  for (const [one, ms] of times) times.set(one, Math.min(ms, first.get(one) ?? ms));
  const base = times.get(0) ?? 0;
  const winner = close.reduce((a, b) => ((times.get(b) ?? base) < (times.get(a) ?? base) ? b : a), 0);
  if (winner === 0 || (times.get(winner) ?? base) > FASTER * base) return { winner: 0, ms: [base, base] };
  // Once more against each other: the least of several is the luckiest too.
  const again = await least([0, winner], ROUNDS);
  const [before, after] = [again.get(0) ?? base, again.get(winner) ?? base];
  return after <= FASTER * before ? { winner, ms: [before, after] } : { winner: 0, ms: [before, before] };
}

/** Numbers in [0.25, 1.25): nothing cancels and no root or logarithm fails. Halves lie two in a word. */
function noise(name: string, length: number, half: boolean): Float32Array {
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
function agree(
  want: Float32Array = new Float32Array(),
  got: Float32Array = new Float32Array(),
  half: boolean,
  exact: boolean,
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
