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
import type { Runner } from "../engine/runner.ts";
import type { PlanBook } from "./book.ts";
import { agree, inTime, leastTimes, noise, StepTimer, type Time, type Tried, withRunner } from "./measure.ts";

/** Candidates that are timed, plan 0 among them. Software adapters take seconds to compile one. */
const MOST = { usual: 6, software: 3 } as const;
/** What one kernel may take of the time that is left. */
const SHARE = 0.5;
/** A winner must need at most this share of plan 0's time. */
const FASTER = 0.97;
const ROUNDS = 5;

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

/** Tunes until nothing is left or the time is over. Never throws for what a device does. */
export async function tuneKernels(job: TuneJob): Promise<Tried> {
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

async function fastest(
  kernel: Isolated,
  candidates: readonly Candidate[],
  { reuse, open, exact }: TuneJob,
  time: Time,
): Promise<Found | undefined> {
  const trial = trialOf(kernel, candidates, reuse.target);
  try {
    return await withRunner(open(trial.program), time, (runner) =>
      race(new Bench(runner, trial, time), candidates.length, exact),
    );
  } catch {
    // Too large for this device beside itself, a plan that it refuses, no time: plan 0 stays.
    return undefined;
  }
}

/** Runs candidates of one kernel. */
class Bench {
  readonly #runner: Runner;
  readonly #trial: Trial;
  readonly #time: Time;
  readonly #timer: StepTimer;

  constructor(runner: Runner, trial: Trial, time: Time) {
    this.#runner = runner;
    this.#trial = trial;
    this.#time = time;
    this.#timer = new StepTimer(runner, time);
  }

  /** What a candidate makes of noise, by written buffer. */
  async results(candidate: number): Promise<readonly Float32Array[]> {
    for (const { name, length, half } of this.#trial.buffers) this.#runner.write(name, noise(name, length, half));
    for (const { name, length } of this.#trial.written.filter((buffer) => !this.#isRead(buffer.name)))
      this.#runner.write(name, new Float32Array(length).fill(Number.NaN));
    for (const step of this.#trial.steps[candidate] ?? []) await this.#timer.repeat(step, 1);
    const results: Float32Array[] = [];
    for (const { name } of this.#trial.written) results.push(await inTime(this.#runner.read(name), this.#time));
    return results;
  }

  /** Time of a candidate, in ms. */
  time(candidate: number): Promise<number> {
    return this.#timer.time(this.#trial.steps[candidate] ?? []);
  }

  get written(): Trial["written"] {
    return this.#trial.written;
  }

  #isRead(name: string): boolean {
    return this.#trial.read.has(name);
  }
}

/** The fastest of the candidates that compute what the first does. */
async function race(bench: Bench, count: number, exact: boolean): Promise<Found> {
  const right = await bench.results(0);
  const running: number[] = [0];
  for (let candidate = 1; candidate < count; candidate++) {
    const results = await bench.results(candidate);
    if (bench.written.every(({ half }, i) => agree(right[i], results[i], { half, exact }))) running.push(candidate);
  }
  const least = (field: readonly number[], rounds: number): Promise<Map<number, number>> =>
    leastTimes(field, rounds, (candidate) => bench.time(candidate));
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
