/**
 * What a person sees while a network trains: in a terminal one line that is drawn over, and a line for every epoch that
 * stays; elsewhere plain lines, one an epoch and one every half minute, without a control character.
 *
 * In: what is planned, every step, every epoch. Out: text on a stream. The time left is computed from measured times
 * alone, and not said before there are any.
 */
import { duration, figure, fit, type Moment, paceText, percent, piecesOf, plain, scoreText } from "./progress-line.ts";
import type { EpochLine, StepLine } from "./records.ts";

/** Where it is drawn: a terminal, or anything that takes lines. */
export interface ProgressStream {
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
  write(text: string): unknown;
  on?(event: "resize", listener: () => void): unknown;
  off?(event: "resize", listener: () => void): unknown;
}

export interface ProgressPlan {
  readonly stages: readonly {
    readonly name: string;
    readonly epochs: number;
    /** Updates of one epoch. */
    readonly steps: number;
    /** Samples of one update. */
    readonly samples: number;
    /** Name of the validation metric that chooses the best epoch; undefined: there are no validation clips. */
    readonly metric: string | undefined;
  }[];
  /** Of a resumed run: updates of its first epoch that are done, and the best score so far. */
  readonly batch?: number | undefined;
  readonly best?: number | undefined;
}

export interface Progress {
  /** After every update; `accuracy` of its batch, from 0 to 1. */
  step(line: StepLine, accuracy?: number): void;
  /** After the evaluation of an epoch. */
  epoch(line: EpochLine): void;
  /** A sentence that stays. */
  note(text: string): void;
  /** Leaves the display, with a last sentence. */
  end(text: string): void;
}

export interface ProgressOptions {
  /** Milliseconds, of any origin. */
  readonly now?: () => number;
}

/** At most ten drawings a second: a terminal over a network is slow. */
const DRAW_EVERY = 100;
/** Milliseconds between plain lines within an epoch. */
const PLAIN_EVERY = 30_000;
/** Measured steps before a time is said. */
const ENOUGH = 5;
/** Steps that the pace is the mean of. */
const PACE = 50;
/** Losses kept for the curve; when there are more, neighbours are averaged. */
const CURVE = 128;
/** Weight of the past in what is shown of loss and accuracy, each step. */
const SMOOTH = 0.95;

/** A moving average without a bias to its start (Kingma & Ba 2015, §3). */
interface Average {
  readonly sum: number;
  readonly weight: number;
}

const NOTHING: Average = { sum: 0, weight: 0 };

function averaged({ sum, weight }: Average, value: number): Average {
  return { sum: SMOOTH * sum + (1 - SMOOTH) * value, weight: SMOOTH * weight + (1 - SMOOTH) };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** The losses of a run of any length in at most `CURVE` numbers. */
class LossCurve {
  points: readonly number[] = [];
  private perPoint = 1;
  private waiting: number[] = [];

  add(value: number): void {
    this.waiting.push(value);
    if (this.waiting.length < this.perPoint) return;
    const points = [...this.points, mean(this.waiting)];
    this.waiting = [];
    if (points.length < CURVE) {
      this.points = points;
      return;
    }
    this.points = Array.from({ length: CURVE / 2 }, (_, i) => mean(points.slice(2 * i, 2 * i + 2)));
    this.perPoint *= 2;
  }
}

/** What has been measured, and what the line says of it. */
class Measurements {
  private readonly plan: ProgressPlan;
  private readonly now: () => number;
  private current: StepLine | undefined;
  /** Updates of the current epoch. */
  private batch: number;
  private loss = NOTHING;
  private accuracy = NOTHING;
  private readonly curve = new LossCurve();
  /** Milliseconds from step to step, and of them those of waiting; the newest last. */
  private paces: readonly { readonly time: number; readonly waited: number }[] = [];
  private lastStep = 0;
  /** Milliseconds between the last update of an epoch and the next epoch: evaluation, checkpoint. */
  private between: number | undefined;
  private last: number | undefined;
  private best: number | undefined;

  constructor(plan: ProgressPlan, now: () => number) {
    this.plan = plan;
    this.now = now;
    this.batch = plan.batch ?? 0;
    this.best = plan.best;
  }

  get epochs(): number {
    return this.numberOf(this.plan.stages.length, 0) - 1;
  }

  /** From 1, over all stages. */
  numberOf(stage: number, epoch: number): number {
    return this.plan.stages.slice(0, stage).reduce((sum, { epochs }) => sum + epochs, 0) + epoch + 1;
  }

  /** Whether the epoch's last update is done. */
  step(line: StepLine, accuracy: number | undefined): boolean {
    const time = this.now();
    const { current } = this;
    if (current !== undefined && current.stage === line.stage && current.epoch === line.epoch) {
      this.batch++;
      this.paces = [...this.paces, { time: time - this.lastStep, waited: 1000 * line.waited }].slice(-PACE);
    } else {
      // The first step of an epoch has an evaluation before it, the very first one the compilation of kernels.
      if (current !== undefined) {
        this.batch = 0;
        if (this.paces.length > 0)
          this.between = Math.max(0, time - this.lastStep - mean(this.paces.map(({ time }) => time)));
        // Another stage trains other parameters, at another pace, and its own best counts.
        if (current.stage !== line.stage) {
          this.paces = [];
          this.last = undefined;
          this.best = undefined;
        }
      }
      this.batch++;
    }
    this.lastStep = time;
    this.current = line;
    if (accuracy !== undefined) this.accuracy = averaged(this.accuracy, accuracy);
    if (Number.isFinite(line.loss)) {
      this.loss = averaged(this.loss, line.loss);
      this.curve.add(this.loss.sum / this.loss.weight);
    }
    return this.batch === this.plan.stages[line.stage]?.steps;
  }

  epoch(line: EpochLine): void {
    if (this.current !== undefined) this.between = this.now() - this.lastStep;
    const metric = this.plan.stages[line.stage]?.metric;
    this.last = metric === undefined ? undefined : line.validation?.[metric];
    if (line.best) this.best = this.last;
  }

  moment(): Moment | undefined {
    const { current, paces, between } = this;
    const stage = current === undefined ? undefined : this.plan.stages[current.stage];
    if (current === undefined || stage === undefined) return undefined;
    const time = paces.length < ENOUGH ? undefined : mean(paces.map(({ time }) => time)) / 1000;
    const left = (): number | undefined => {
      if (time === undefined) return undefined;
      const later = this.plan.stages.slice(current.stage + 1);
      const steps = stage.steps - this.batch + (stage.epochs - current.epoch - 1) * stage.steps;
      // At the present stage's pace: that of a later one is not known.
      const laterSteps = later.reduce((sum, { epochs, steps }) => sum + epochs * steps, 0);
      const evaluations = stage.epochs - current.epoch + later.reduce((sum, { epochs }) => sum + epochs, 0);
      return time * (steps + laterSteps) + (evaluations * (between ?? 0)) / 1000;
    };
    return {
      stage: plain(stage.name),
      epoch: this.numberOf(current.stage, current.epoch),
      epochs: this.epochs,
      batch: this.batch,
      batches: stage.steps,
      evaluating: this.batch === stage.steps && stage.metric !== undefined,
      // A loss that is not finite is to be seen, not averaged away.
      loss: Number.isFinite(current.loss) ? this.loss.sum / this.loss.weight : current.loss,
      curve: this.curve.points,
      accuracy: this.accuracy.weight > 0 ? this.accuracy.sum / this.accuracy.weight : undefined,
      metric: stage.metric,
      last: this.last,
      best: this.best,
      samplesPerSecond: time === undefined || time <= 0 ? undefined : stage.samples / time,
      waiting: time === undefined || time <= 0 ? undefined : mean(paces.map(({ waited }) => waited)) / 1000 / time,
      secondsLeft: left(),
      complete: between !== undefined || stage.metric === undefined,
    };
  }

  /** The line of an epoch that stays. */
  epochText(line: EpochLine): string {
    const { name = "", metric } = this.plan.stages[line.stage] ?? {};
    const { epochs } = this;
    const number = String(this.numberOf(line.stage, line.epoch)).padStart(String(epochs).length);
    const value = metric === undefined ? undefined : line.validation?.[metric];
    const waiting = line.seconds > 0 ? line.waited / line.seconds : 0;
    return [
      `epoch ${number}/${epochs}${name === "" ? "" : ` ${plain(name)}`}`,
      `loss ${figure(line.train.loss)}`,
      `accuracy ${percent(line.train.accuracy)}`,
      ...(metric === undefined || value === undefined
        ? []
        : [`validation ${metric} ${scoreText(metric, value)}${line.best ? " (best)" : ""}`]),
      paceText(line.samplesPerSecond),
      // Less is of no interest to anybody.
      ...(waiting >= 0.05 ? [`waiting ${Math.round(100 * waiting)} %`] : []),
      duration(line.seconds + line.evaluationSeconds),
    ].join("  ");
  }
}

/** Shows training on `stream` until `end`. */
export function openProgress(stream: ProgressStream, plan: ProgressPlan, options: ProgressOptions = {}): Progress {
  const { now = () => performance.now() } = options;
  const live = stream.isTTY === true && process.env["TERM"] !== "dumb";
  const measured = new Measurements(plan, now);
  let lastDrawn = Number.NEGATIVE_INFINITY;
  let lastPlain = now();
  /** Columns of the line that stands in the terminal. */
  let drawn = 0;

  const columns = (): number => Math.max(2, stream.columns ?? 80);
  /** Takes away what stands there. A terminal that has become narrower has broken it into rows. */
  const clear = (): string => {
    if (drawn === 0) return "";
    const rows = Math.floor((drawn - 1) / columns());
    drawn = 0;
    // Row by row: where all of the screen below is cleared, tmux keeps a copy in its history.
    return `\r\u001b[K${"\u001b[1A\u001b[K".repeat(rows)}`;
  };
  const draw = (): void => {
    const moment = measured.moment();
    // The last column stays free: some terminals break the line there.
    const line = moment === undefined ? "" : fit(piecesOf(moment, false), columns() - 1);
    stream.write(`${clear()}${line}`);
    drawn = line.length;
    lastDrawn = now();
  };
  const say = (text: string): void => {
    stream.write(`${clear()}${text}\n`);
  };
  if (live) stream.on?.("resize", draw);

  return {
    step(line, accuracy) {
      // While an evaluation runs nothing is drawn: the line has to say before that it does.
      const last = measured.step(line, accuracy);
      if (live) {
        if (last || now() - lastDrawn >= DRAW_EVERY) draw();
      } else if (now() - lastPlain >= PLAIN_EVERY) {
        lastPlain = now();
        const moment = measured.moment();
        if (moment !== undefined) say(fit(piecesOf(moment, true), Number.POSITIVE_INFINITY));
      }
    },
    epoch(line) {
      measured.epoch(line);
      lastPlain = now();
      say(measured.epochText(line));
    },
    note(text) {
      say(plain(text));
      if (live) draw();
    },
    end(text) {
      stream.off?.("resize", draw);
      say(plain(text));
    },
  };
}
