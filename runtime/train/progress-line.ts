/**
 * The words of a training's display: lengths of time, figures, curves, and a line that fits where it has to.
 *
 * In: what has been measured so far. Out: text without control characters, every character one column wide.
 */

/** `8 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`: two units are enough. */
export function duration(seconds: number): string {
  const units: readonly (readonly [string, number])[] = [
    ["d", 86400],
    ["h", 3600],
    ["min", 60],
    ["s", 1],
  ];
  const whole = Math.round(seconds);
  const first = units.findIndex(([, length]) => whole >= length);
  if (first < 0) return "0 s";
  let rest = whole;
  const parts = units.slice(first, first + 2).map(([unit, length]) => {
    const count = Math.floor(rest / length);
    rest -= count * length;
    return count === 0 ? "" : `${count} ${unit}`;
  });
  return parts.filter((part) => part !== "").join(" ");
}

/** Digits that tell something: `2.303`, `0.0412`, `17.25`, `1.2e-5`. */
export function figure(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e5)) return value.toExponential(1);
  if (size >= 100) return value.toFixed(size >= 1000 ? 0 : 1);
  if (size >= 10) return value.toFixed(2);
  return value.toFixed(size >= 0.1 || size === 0 ? 3 : 4);
}

export function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

/** A score of the validation clips: shares as percentages, losses as they are. */
export function scoreText(metric: string, value: number): string {
  return metric !== "loss" && value >= 0 && value <= 1 ? percent(value) : figure(value);
}

export function paceText(samplesPerSecond: number): string {
  return `${samplesPerSecond.toFixed(samplesPerSecond >= 10 ? 0 : 1)} samples/s`;
}

/** One line without control characters: names of files may hold any. */
export function plain(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, " ");
}

const BLOCKS = "▁▂▃▄▅▆▇█";

/** The curve of `values` in at most `cells` characters, from the smallest to the largest; all of them finite. */
export function sparkline(values: readonly number[], cells: number): string {
  const count = Math.min(cells, values.length);
  const edge = (cell: number): number => Math.floor((cell * values.length) / count);
  const means = Array.from({ length: count }, (_, cell) => {
    const part = values.slice(edge(cell), edge(cell + 1));
    return part.reduce((sum, value) => sum + value, 0) / part.length;
  });
  const [low, high] = [Math.min(...means), Math.max(...means)];
  return means.map((mean) => BLOCKS[high > low ? Math.round((7 * (mean - low)) / (high - low)) : 0] ?? "").join("");
}

/** How much of a whole is done: `━━━━╌╌╌╌`. */
export function bar(share: number, cells: number): string {
  const full = Math.floor(Math.min(1, Math.max(0, share)) * cells);
  return "━".repeat(full) + "╌".repeat(cells - full);
}

/** A piece of a line; the larger its rank, the sooner it is shortened and then left away where there is no room. */
export interface Piece {
  readonly rank: number;
  readonly text: string;
  readonly short?: string;
}

/** As many pieces as fit into `width` columns, two blanks between them. */
export function fit(pieces: readonly Piece[], width: number): string {
  let left = pieces.filter(({ text }) => text !== "");
  const line = (): string => left.map(({ text }) => text).join("  ");
  while (line().length > width) {
    const worst = left.reduce((worst, piece) => (piece.rank > worst.rank ? piece : worst));
    if (worst.short !== undefined) {
      const { rank, short } = worst;
      left = left.map((piece) => (piece === worst ? { rank, text: short } : piece));
    } else if (left.length > 1) left = left.filter((piece) => piece !== worst);
    else return line().slice(0, width);
  }
  return line();
}

/** What the line of a running epoch says. Undefined: not known yet. */
export interface Moment {
  /** Of the stage, empty where there is one only. */
  readonly stage: string;
  /** From 1, over all stages. */
  readonly epoch: number;
  readonly epochs: number;
  readonly batch: number;
  readonly batches: number;
  readonly evaluating: boolean;
  readonly loss: number;
  /** Smoothed losses of the run so far. */
  readonly curve: readonly number[];
  readonly accuracy: number | undefined;
  /** Of the validation clips: the last epoch's score, and the best. */
  readonly metric: string | undefined;
  readonly last: number | undefined;
  readonly best: number | undefined;
  readonly samplesPerSecond: number | undefined;
  /** Share of the time that was spent waiting for data. */
  readonly waiting: number | undefined;
  readonly secondsLeft: number | undefined;
  /** False while no evaluation has been measured: the rest takes longer than `secondsLeft`. */
  readonly complete: boolean;
}

/** The pieces of the line; those that only a terminal's short-lived line has are left away in a `log`. */
export function piecesOf(moment: Moment, log: boolean): Piece[] {
  const { epoch, epochs, batch, batches, evaluating, loss, accuracy, metric, last, best } = moment;
  const { curve, samplesPerSecond, waiting, secondsLeft, complete } = moment;
  const scores: string[] = [];
  if (metric !== undefined && last !== undefined) scores.push(`${metric} ${scoreText(metric, last)}`);
  if (metric !== undefined && best !== undefined)
    scores.push(`${scores.length === 0 ? `${metric} ` : ""}best ${scoreText(metric, best)}`);
  const step = evaluating ? "evaluating" : `step ${batch}/${batches}`;
  const share = batch / batches;
  return [
    { rank: 0, text: `epoch ${epoch}/${epochs}`, short: `${epoch}/${epochs}` },
    { rank: 7, text: moment.stage },
    { rank: 8, text: log ? "" : bar(share, 12), short: bar(share, 6) },
    { rank: 2, text: step, ...(evaluating ? {} : { short: `${batch}/${batches}` }) },
    { rank: 1, text: `loss ${figure(loss)}` },
    { rank: 9, text: log ? "" : sparkline(curve, 12), short: sparkline(curve, 6) },
    ...(accuracy === undefined
      ? []
      : [{ rank: 5, text: `accuracy ${percent(accuracy)}`, short: `acc ${percent(accuracy)}` }]),
    { rank: 4, text: scores.join(", ") },
    { rank: 6, text: samplesPerSecond === undefined ? "" : paceText(samplesPerSecond) },
    { rank: 10, text: waiting === undefined ? "" : `waiting ${Math.round(100 * waiting)} %` },
    { rank: 3, text: secondsLeft === undefined ? "" : `${complete ? "" : "> "}${duration(secondsLeft)} left` },
  ];
}
