/**
 * Forms of convolutions tried on the device: one product over windows, or Winograd's minimal filtering.
 *
 * In: the convolutions of a model, a way to open programs, and a point in time. Out: what each form took, written into the
 * book, from which the compiler chooses. Each kind of convolution runs by itself in all its forms; a form counts only if its
 * results on noise are the direct form's within rounding. What fails or is not finished in time stays unknown.
 */
import type { Capability } from "../../compiler/capability.ts";
import type { ConvolutionKind } from "../../compiler/compile.ts";
import { type ConvolutionForm, type FormTimes, fastestForm } from "../../compiler/graph/convolution.ts";
import { convolutionTrial } from "../../compiler/trial.ts";
import type { OpenProgram } from "../engine/devices.ts";
import type { Runner } from "../engine/runner.ts";
import type { PlanBook } from "./book.ts";
import { agree, inTime, leastTimes, noise, StepTimer, type Time, type Tried, withRunner } from "./measure.ts";

/** What one convolution may take of the time that is left. */
const SHARE = 0.5;
const ROUNDS = 5;

export interface ConvolutionJob {
  readonly convolutions: readonly ConvolutionKind[];
  readonly target: Capability;
  readonly book: PlanBook;
  readonly open: OpenProgram;
  readonly until: number;
  /** Gives ms; by default `performance.now`. */
  readonly clock?: () => number;
}

/** Tries forms until nothing is left or the time is over. Never throws for what a device does. */
export async function tuneConvolutions(job: ConvolutionJob): Promise<Tried> {
  const { convolutions, target, book, open, until, clock = () => performance.now() } = job;
  const report = { open: 0, decided: 0, changed: 0, before: 0, after: 0 };
  for (const { site, forms, expected } of convolutions) {
    if (book.formTimes(site) !== undefined) continue;
    report.open += 1;
    if (clock() >= until) continue;
    const time = { clock, until: clock() + SHARE * (until - clock()) };
    const times = await timesOf(forms, time, (form) => {
      const { program, steps } = convolutionTrial(site, form, target);
      return { steps, opening: open(program) };
    });
    if (times === undefined) continue;
    book.setFormTimes(site, times);
    const chosen = fastestForm(times);
    const [before, after] = [times[expected] ?? times[chosen], times[chosen]];
    report.decided += 1;
    report.before += before ?? 0;
    report.after += after ?? 0;
    if (chosen !== expected) report.changed += 1;
  }
  return report;
}

interface Opening {
  readonly steps: readonly number[];
  readonly opening: Promise<Runner>;
}

/** ms of each form whose results are right; undefined where that could not be found out. */
async function timesOf(
  forms: readonly ConvolutionForm[],
  time: Time,
  begin: (form: ConvolutionForm) => Opening,
): Promise<FormTimes | undefined> {
  const running = new Map<ConvolutionForm, () => Promise<number>>();
  /** Opens one form inside of the other, so that all are there when they take turns. */
  const withAll = async (rest: readonly ConvolutionForm[], right: Float32Array | undefined): Promise<FormTimes> => {
    const [form, ...others] = rest;
    if (form === undefined) {
      const times = await leastTimes([...running.keys()], ROUNDS, (one) => running.get(one)?.() ?? Promise.resolve(0));
      return Object.fromEntries(times);
    }
    const { steps, opening } = begin(form);
    return withRunner(opening, time, async (runner) => {
      const result = await inTime(resultOf(runner), time);
      if (right === undefined || agree(right, result, { half: false, exact: false })) {
        const timer = new StepTimer(runner, time);
        running.set(form, () => timer.time(steps));
      }
      return withAll(others, right ?? result);
    });
  };
  try {
    return await withAll(forms, undefined);
  } catch {
    return undefined;
  }
}

/** What a program makes of noise; its weights have both signs. */
async function resultOf(runner: Runner): Promise<Float32Array> {
  await runner.load(({ path }, into) => {
    into.set(noise(path, into.length, false).map((value) => value - 0.75));
  });
  for (const { name, shape } of runner.program.inputs)
    runner.write(
      name,
      noise(
        name,
        shape.reduce((product, size) => product * size, 1),
        false,
      ),
    );
  await runner.run();
  return runner.read("y");
}
