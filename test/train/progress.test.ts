/** What is seen while a network trains: the words in fixed widths, what stays in a terminal, and what a log gets. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { openProgress, type ProgressPlan } from "../../runtime/train/progress.ts";
import { duration, figure, fit, sparkline } from "../../runtime/train/progress-line.ts";
import type { EpochLine, StepLine } from "../../runtime/train/records.ts";

const STEPS = 20;
const PLAN: ProgressPlan = {
  stages: [
    { name: "head", epochs: 1, steps: STEPS, samples: 32, metric: "uar" },
    { name: "all", epochs: 3, steps: STEPS, samples: 32, metric: "uar" },
  ],
};

const stepLine = (stage: number, epoch: number, step: number): StepLine => ({
  kind: "step",
  stage,
  epoch,
  step,
  loss: 2 * 0.98 ** step,
  norm: 1,
  rate: 0.1,
  seconds: 0.5,
  waited: 0.05,
});
const epochLine = (stage: number, epoch: number, step: number, uar: number, best: boolean): EpochLine => ({
  kind: "epoch",
  stage,
  epoch,
  step,
  train: { loss: 2 * 0.98 ** step, accuracy: Math.min(1, step / 100) },
  validation: { uar, loss: 1 },
  best,
  rate: 0.1,
  seconds: 10,
  waited: 1,
  evaluationSeconds: 4,
  samplesPerSecond: 64,
  residentBytes: 1,
  deviceBytes: 1,
});

const ESCAPE = "\u001b";
/** A command to the terminal, or a character. */
const TOKEN = new RegExp(`${ESCAPE}\\[\\d*[A-Z]|[^${ESCAPE}]`, "gu");

/** What a terminal of so many columns shows: enough of one to understand what is written to it, resizing included. */
class Screen {
  readonly isTTY = true;
  columns: number;
  rows: string[] = [""];
  row = 0;
  column = 0;
  writes = 0;
  private listener: (() => void) | undefined;

  constructor(columns: number) {
    this.columns = columns;
  }

  write(text: string): void {
    this.writes++;
    const tokens = text.match(TOKEN) ?? [];
    if (tokens.join("") !== text) throw new Error(`not understood: ${JSON.stringify(text)}`);
    for (const token of tokens) {
      if (token === "\r") this.column = 0;
      else if (token === "\n") this.newline();
      else if (token === "\u001b[K") this.rows[this.row] = (this.rows[this.row] ?? "").slice(0, this.column);
      else if (token === "\u001b[1A") this.row--;
      else if (token.startsWith("\u001b")) throw new Error(`not understood: ${JSON.stringify(token)}`);
      else {
        if (this.column === this.columns) this.newline();
        const old = this.rows[this.row] ?? "";
        this.rows[this.row] = old.slice(0, this.column) + token + old.slice(this.column + 1);
        this.column++;
      }
    }
  }

  private newline(): void {
    this.row++;
    this.column = 0;
    this.rows[this.row] ??= "";
  }

  on(_: "resize", listener: () => void): void {
    this.listener = listener;
  }

  off(): void {
    this.listener = undefined;
  }

  get listening(): boolean {
    return this.listener !== undefined;
  }

  /** Breaks the rows anew, as terminals do. */
  resize(columns: number): void {
    const pieces = this.rows.map((row) => row.match(new RegExp(`.{1,${columns}}`, "gu")) ?? [""]);
    this.row = pieces.slice(0, this.row + 1).flat().length - 1;
    this.rows = pieces.flat();
    this.column = (this.rows[this.row] ?? "").length;
    this.columns = columns;
    this.listener?.();
  }
}

class Log {
  text = "";
  write(text: string): void {
    this.text += text;
  }
}

/** Half a second a step, four an evaluation; calls `after` behind every step and every epoch. */
function train(stream: Screen | Log, after: (place: string) => void = () => {}): void {
  let time = 0;
  const progress = openProgress(stream, PLAN, { now: () => time });
  progress.note("SYNTHETIC: 40 clips");
  let step = 0;
  let best = 0;
  for (const [stage, { epochs }] of PLAN.stages.entries()) {
    for (let epoch = 0; epoch < epochs; epoch++) {
      for (let batch = 0; batch < STEPS; batch++) {
        time += step === 0 ? 3000 : 500;
        step++;
        progress.step(stepLine(stage, epoch, step), Math.min(1, step / 100));
        after(`${stage}.${epoch}.${batch}`);
      }
      time += 4000;
      const uar = [0.3, 0.25, 0.5, 0.45][stage + epoch] ?? 0;
      progress.epoch(epochLine(stage, epoch, step, uar, epoch === 0 || uar > best));
      best = Math.max(best, uar);
      after(`${stage}.${epoch}`);
    }
  }
  progress.end("done: 80 updates");
}

describe("in a terminal", () => {
  /** The last row at a place, in a terminal of so many columns. */
  function lineAt(place: string, columns: number): string {
    const screen = new Screen(columns);
    let line = "";
    train(screen, (now) => {
      if (now === place) line = screen.rows[screen.row] ?? "";
    });
    return line;
  }

  test("the line of an epoch in terminals of all widths", () => {
    const lines = [200, 120, 100, 80, 60, 40, 30, 20, 10, 4].map((columns) => lineAt("1.2.9", columns));
    expect(lines.map((line) => `|${line}`).join("\n")).toMatchInlineSnapshot(`
      "|epoch 4/4  all  ━━━━━━╌╌╌╌╌╌  step 10/20  loss 0.724  █▇▇▆▅▄▄▃▃▂▁▁  accuracy 53.0 %  uar 50.0 %, best 50.0 %  64 samples/s  waiting 10 %  9 s left
      |epoch 4/4  all  ━━━━━━╌╌╌╌╌╌  step 10/20  loss 0.724  accuracy 53.0 %  uar 50.0 %, best 50.0 %  64 samples/s  9 s left
      |epoch 4/4  step 10/20  loss 0.724  accuracy 53.0 %  uar 50.0 %, best 50.0 %  64 samples/s  9 s left
      |epoch 4/4  step 10/20  loss 0.724  uar 50.0 %, best 50.0 %  9 s left
      |epoch 4/4  step 10/20  loss 0.724  9 s left
      |epoch 4/4  step 10/20  loss 0.724
      |epoch 4/4  10/20  loss 0.724
      |epoch 4/4
      |epoch 4/4
      |4/4"
    `);
  });

  test("the first steps, before anything is known", () => {
    const lines = ["0.0.0", "0.0.3", "0.0.10", "0.0.19", "1.0.0", "1.0.10"].map((place) => lineAt(place, 160));
    expect(lines.map((line) => `|${line}`).join("\n")).toMatchInlineSnapshot(`
      "|epoch 1/4  head  ╌╌╌╌╌╌╌╌╌╌╌╌  step 1/20  loss 1.960  ▁  accuracy 1.0 %
      |epoch 1/4  head  ━━╌╌╌╌╌╌╌╌╌╌  step 4/20  loss 1.900  █▆▃▁  accuracy 2.6 %
      |epoch 1/4  head  ━━━━━━╌╌╌╌╌╌  step 11/20  loss 1.757  █▇▇▆▅▅▄▃▂▂▁  accuracy 6.5 %  64 samples/s  waiting 10 %  > 35 s left
      |epoch 1/4  head  ━━━━━━━━━━━━  evaluating  loss 1.574  █▇▇▆▆▅▄▄▃▂▂▁  accuracy 12.2 %  64 samples/s  waiting 10 %  > 30 s left
      |epoch 2/4  all  ╌╌╌╌╌╌╌╌╌╌╌╌  step 1/20  loss 1.554  █▇▇▆▅▅▄▄▃▂▂▁  accuracy 12.8 %
      |epoch 2/4  all  ━━━━━━╌╌╌╌╌╌  step 11/20  loss 1.357  █▇▇▆▆▅▄▄▃▂▂▁  accuracy 19.9 %  64 samples/s  waiting 10 %  37 s left"
    `);
  });

  test("what stays", () => {
    const screen = new Screen(160);
    train(screen);
    expect(screen.rows.map((row) => row.trimEnd()).join("\n")).toMatchInlineSnapshot(`
      "SYNTHETIC: 40 clips
      epoch 1/4 head  loss 1.335  accuracy 20.0 %  validation uar 30.0 % (best)  64 samples/s  waiting 10 %  14 s
      epoch 2/4 all  loss 0.891  accuracy 40.0 %  validation uar 25.0 % (best)  64 samples/s  waiting 10 %  14 s
      epoch 3/4 all  loss 0.595  accuracy 60.0 %  validation uar 50.0 % (best)  64 samples/s  waiting 10 %  14 s
      epoch 4/4 all  loss 0.397  accuracy 80.0 %  validation uar 45.0 %  64 samples/s  waiting 10 %  14 s
      done: 80 updates
      "
    `);
    expect(screen.listening).toBe(false);
  });

  test("the time left is what the rest takes", () => {
    // 10 steps of half a second and one evaluation of four.
    expect(lineAt("1.2.9", 200)).toContain("  9 s left");
    // 10 + 3·20 steps and four evaluations, whose length is not known yet.
    expect(lineAt("0.0.9", 200)).toContain("  > 35 s left");
  });

  test("resized at any time, each line that stays is there once and nothing else is", () => {
    const widths = fc.array(fc.integer({ min: 12, max: 150 }), { minLength: 84, maxLength: 84 });
    fc.assert(
      fc.property(widths, (widths) => {
        const screen = new Screen(100);
        let index = 0;
        train(screen, () => {
          const width = widths[index++] ?? 100;
          if (width % 3 === 0) screen.resize(width);
        });
        const wide = new Screen(1000);
        train(wide);
        const letters = (rows: readonly string[]): string => rows.join("").replaceAll(/\s/g, "");
        return letters(screen.rows) === letters(wide.rows);
      }),
      { numRuns: 30 },
    );
  });

  test("it is drawn ten times a second at most", () => {
    const screen = new Screen(80);
    let time = 0;
    const plan = { stages: [{ name: "", epochs: 1, steps: 1e6, samples: 1, metric: undefined }] };
    const progress = openProgress(screen, plan, { now: () => time });
    for (let step = 1; step <= 3000; step++) {
      time += 1;
      progress.step(stepLine(0, 0, step));
    }
    expect(screen.writes).toBeGreaterThanOrEqual(29);
    expect(screen.writes).toBeLessThanOrEqual(31);
    progress.end("stopped");
  });

  test("a loss that is not a number is seen at once, and gone when it is", () => {
    const screen = new Screen(60);
    let time = 0;
    const progress = openProgress(screen, PLAN, { now: () => time });
    const losses = [1, Number.NaN, Number.POSITIVE_INFINITY, 1].map((loss, index) => {
      time += 500;
      progress.step({ ...stepLine(0, 0, index + 1), loss });
      return /loss \S+/.exec(screen.rows[screen.row] ?? "")?.[0];
    });
    expect(losses).toEqual(["loss 1.000", "loss NaN", "loss ∞", "loss 1.000"]);
  });

  test("a resumed run goes on within its epoch", () => {
    const screen = new Screen(200);
    const progress = openProgress(screen, { ...PLAN, batch: 7, best: 0.6 }, { now: () => 0 });
    progress.step(stepLine(1, 1, 48));
    expect(screen.rows[0]).toContain("epoch 3/4  all");
    expect(screen.rows[0]).toContain("step 8/20");
    expect(screen.rows[0]).toContain("uar best 60.0 %");
  });
});

describe("in a log", () => {
  test("a line an epoch, and one every half minute", () => {
    const log = new Log();
    train(log);
    expect(log.text).toMatchInlineSnapshot(`
      "SYNTHETIC: 40 clips
      epoch 1/4 head  loss 1.335  accuracy 20.0 %  validation uar 30.0 % (best)  64 samples/s  waiting 10 %  14 s
      epoch 2/4 all  loss 0.891  accuracy 40.0 %  validation uar 25.0 % (best)  64 samples/s  waiting 10 %  14 s
      epoch 3/4 all  loss 0.595  accuracy 60.0 %  validation uar 50.0 % (best)  64 samples/s  waiting 10 %  14 s
      epoch 4/4 all  loss 0.397  accuracy 80.0 %  validation uar 45.0 %  64 samples/s  waiting 10 %  14 s
      done: 80 updates
      "
    `);
  });

  test("long epochs", () => {
    const log = new Log();
    let time = 0;
    const progress = openProgress(log, PLAN, { now: () => time });
    for (let step = 1; step <= STEPS; step++) {
      time += 6000;
      progress.step(stepLine(0, 0, step), 0.5);
    }
    expect(log.text).toMatchInlineSnapshot(`
      "epoch 1/4  head  step 5/20  loss 1.879  accuracy 50.0 %
      epoch 1/4  head  step 10/20  loss 1.777  accuracy 50.0 %  5.3 samples/s  waiting 1 %  > 7 min left
      epoch 1/4  head  step 15/20  loss 1.675  accuracy 50.0 %  5.3 samples/s  waiting 1 %  > 6 min 30 s left
      epoch 1/4  head  evaluating  loss 1.574  accuracy 50.0 %  5.3 samples/s  waiting 1 %  > 6 min left
      "
    `);
  });

  test("no control characters, whatever names hold", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        const log = new Log();
        const progress = openProgress(log, PLAN);
        progress.note(`\u001b[2J${text}`);
        progress.end(text);
        return !/[^\P{Cc}\n]/u.test(log.text) && log.text.split("\n").length === 3;
      }),
    );
  });
});

describe("words", () => {
  test.each([
    [0.2, "0 s"],
    [8.4, "8 s"],
    [59.6, "1 min"],
    [200, "3 min 20 s"],
    [3600, "1 h"],
    [7504, "2 h 5 min"],
    [273_600, "3 d 4 h"],
  ])("%s seconds: %s", (seconds, text) => expect(duration(seconds)).toBe(text));

  test.each([
    [0, "0.000"],
    [2.3051, "2.305"],
    [0.04123, "0.0412"],
    [17.25, "17.25"],
    [123.45, "123.5"],
    [1234.5, "1235"],
    [1.2e-5, "1.2e-5"],
    [3e7, "3.0e+7"],
    [Number.NaN, "NaN"],
    [Number.NEGATIVE_INFINITY, "−∞"],
  ])("%s: %s", (value, text) => expect(figure(value)).toBe(text));

  test("curves", () => {
    expect(sparkline([1, 2, 3, 4, 5, 6, 7, 8], 8)).toBe("▁▂▃▄▅▆▇█");
    expect(sparkline([8, 8, 1, 1], 2)).toBe("█▁");
    expect(sparkline([3, 3], 8)).toBe("▁▁");
    expect(sparkline([], 8)).toBe("");
  });

  test("a line is never wider than it may be", () => {
    const piece = fc.record(
      { rank: fc.integer(), text: fc.string(), short: fc.string() },
      { requiredKeys: ["rank", "text"] },
    );
    fc.assert(fc.property(fc.array(piece), fc.nat(60), (pieces, width) => fit(pieces, width).length <= width));
  });
});
