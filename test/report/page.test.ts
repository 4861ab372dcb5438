/** The page and its figures: well formed, alone, honest about drawn clips, and with the numbers on it. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { spread, ticks } from "../../runtime/report/chart.ts";
import { analyse, figuresOf, renderReport } from "../../runtime/report/page.ts";
import type { Run } from "../../runtime/report/read.ts";
import { escapeText } from "../../runtime/report/svg.ts";
import { fakePredictions, fakeRun } from "./fake.ts";
import { expectWellFormed, visible } from "./markup.ts";

const QUICK = { replicates: 200 };
function withNote(run: Run, note: string): Run {
  return { ...run, record: { ...run.record, data: { ...run.record.data, note } } };
}

describe("the page", () => {
  const report = analyse(fakeRun(), QUICK);
  const html = renderReport(report);

  it("is well formed", () => {
    expectWellFormed(html);
  });

  it("asks for nothing from anywhere", () => {
    expect(html).not.toMatch(/https?:|\/\/[a-z]|@import|url\(|<script|<link|<img|<iframe|\ssrc=/i);
    for (const [, target] of html.matchAll(/href="([^"]*)"/g)) expect(target).toMatch(/^#[a-z]+$/);
    for (const [, target = ""] of html.matchAll(/href="#([^"]*)"/g)) expect(html).toContain(`id="${target}"`);
  });

  it("says SYNTHETIC where the manifest does, in the title, on the page and in every figure, and only there", () => {
    expect(html).toContain("<title>SYNTHETIC · stia-conv3 · netc</title>");
    expect(html).toContain("<strong>SYNTHETIC</strong>");
    for (const svg of figuresOf(report).values()) expect(svg).toContain(">SYNTHETIC</text>");
    const filmed = analyse(withNote(fakeRun(), "filmed in 2005"), QUICK);
    expect(visible(renderReport(filmed))).not.toContain("SYNTHETIC");
    for (const svg of figuresOf(filmed).values()) expect(svg).not.toContain("SYNTHETIC");
  });

  it("shows the numbers, each with its name and formula", () => {
    const text = visible(html);
    const [test] = report.sides;
    for (const { interval, text: words } of test?.evaluation.scores ?? []) {
      const shown = words.unit === "share" ? `${(100 * interval.value).toFixed(1)} %` : interval.value.toFixed(3);
      expect(text).toContain(`${words.title} ${shown}`);
      expect(text).toContain(words.formula);
    }
    expect(test?.evaluation.scores.map(({ name }) => name)).toEqual([
      "uar",
      "accuracy",
      "macro_f1",
      "loss",
      "auc(fear)",
    ]);
    expect(text).toContain("360 clips of 12 subjects");
    expect(text).toContain("135,589,318 parameters");
    expect(text).toContain("NVIDIA L4");
    expect(text).toContain("netc train pain.net --seed 7");
    expect(text).toContain("not a medical device");
    expect(text).toContain("epoch 30 was kept");
    expect(text).toContain("stia.conv3 1 × 256 × 56 × 56 264,448 5,860,000,000");
  });

  it("lists the clips that failed, and says that they count", () => {
    const text = visible(html);
    expect(text).toContain("3 clips without a prediction, counted as wrong");
    expect(text).toContain("subject 3/anger/sentence 1.avi anger the file ends in the middle of a frame");
    expect(text).toContain("A clip without a prediction counts as wrong");
  });

  it("puts the recipe into words", () => {
    const text = visible(html);
    for (const words of [
      "5 folds of subjects, seed 0; 20 % of the training subjects choose the epoch",
      "1 × cross-entropy of the output (label smoothing 0.1) + 0.3 × cross-entropy of each stream before fusion",
      "SGD with Nesterov momentum 0.9",
      "0.01; rises linearly over 1 epoch, then constant",
      "AdamW, β₁ 0.9, β₂ 0.999, ε 1e−8",
      "0.001; half a cosine down to 0.01 of it",
      "not trained 1 parameter: flow.conv1_1.weight",
      "after 8 epochs without progress towards the largest UAR of the validation clips",
    ])
      expect(text).toContain(words);
  });

  it("is the same for the same run", () => {
    expect(renderReport(analyse(fakeRun(), QUICK))).toBe(html);
  });

  it("can be made of a run that has just begun, of one subject, and of one that diverged", () => {
    const run = fakeRun();
    const begun = renderReport(analyse({ ...run, metrics: [], validation: undefined, test: undefined }, QUICK));
    expectWellFormed(begun);
    expect(visible(begun)).toContain("No epoch is complete yet.");
    const one = fakePredictions({ subjects: 1, failed: 30 });
    const lone = renderReport(analyse({ ...run, metrics: run.metrics.slice(0, 20), test: one }, QUICK));
    expectWellFormed(lone);
    expect(visible(lone)).toContain("There is one subject only");
    expect(lone).not.toContain("NaN");
    const metrics = run.metrics.map((line) => (line.kind === "step" ? { ...line, loss: Number.NaN } : line));
    const lost = renderReport(analyse({ ...run, metrics }, QUICK));
    expectWellFormed(lost);
    expect(lost).not.toContain("NaN");
    expect(visible(lost)).toContain("The loss was not finite in 1,350 updates");
  });

  it("escapes whatever the files say", () => {
    const evil = `<script>alert("1")</script>&amp;'\u0000`;
    const run = fakeRun();
    const { record } = run;
    const classes = record.data.classes.map((name) => `${name}${evil}`);
    const { header, clips } = fakePredictions({ classes, failed: 2, note: evil });
    const html = renderReport(
      analyse(
        {
          ...run,
          record: {
            ...record,
            name: evil,
            device: evil,
            command: [evil],
            model: { ...record.model, name: evil, layers: [{ path: evil, shape: [1], parameters: 1, macs: 1 }] },
            data: { ...record.data, note: evil, folder: evil, fold: evil, classes },
            recipe: { ...record.recipe, name: evil, stages: record.recipe.stages.map((s) => ({ ...s, name: evil })) },
          },
          metrics: [...run.metrics, { kind: "note", step: 1, text: evil }],
          test: { header, clips: clips.map((clip) => ({ ...clip, path: `${clip.path}${evil}`, failure: evil })) },
        },
        QUICK,
      ),
    );
    expectWellFormed(html);
    expect(html).not.toContain("<script");
    expect(html).not.toContain("\u0000");
  });
});

describe("the figures", () => {
  const figures = figuresOf(analyse(fakeRun(), QUICK));

  it("are these", () => {
    expect([...figures.keys()]).toEqual([
      "loss",
      "scores",
      "rate",
      "gradient",
      "throughput",
      "waiting",
      "memory",
      "confusion-test",
      "confusion-validation",
    ]);
  });

  it("are well-formed SVG with their colours written in and no number that is none", () => {
    for (const svg of figures.values()) {
      expectWellFormed(svg.trimEnd());
      expect(svg).toMatch(/^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" /);
      expect(svg).not.toMatch(/var\(|NaN|Infinity|undefined/);
    }
  });

  it("leave a gap in a curve where a value is missing", () => {
    const run = fakeRun();
    const metrics = run.metrics.map((line) =>
      line.kind === "epoch" && line.step === 450 ? { ...line, train: { ...line.train, loss: Number.NaN } } : line,
    );
    const thick = (svg = ""): string => /d="([^"]*)"[^>]*stroke="#0072b2" stroke-width="2"/.exec(svg)?.[1] ?? "";
    expect(thick(figures.get("loss")).match(/M/g)).toHaveLength(1);
    expect(thick(figuresOf(analyse({ ...run, metrics }, QUICK)).get("loss")).match(/M/g)).toHaveLength(2);
  });

  it("hold every count of the confusion matrix", () => {
    const numbers = [...(figures.get("confusion-test") ?? "").matchAll(/>(\d+)<\/text>/g)].map(([, n]) => Number(n));
    // Counts and supports of the left panel: 360 clips twice.
    const half = numbers.slice(
      0,
      numbers.findIndex((_, k) => numbers.slice(0, k).reduce((a, b) => a + b, 0) === 720),
    );
    expect(half.length).toBeGreaterThan(36);
    expect(half.filter((n) => n === 60)).toHaveLength(6);
  });
});

describe("small parts", () => {
  it("escape text, and replace what XML forbids", () => {
    expect(escapeText(`a<b>&"'`)).toBe("a&lt;b&gt;&amp;&quot;&#39;");
    expect(escapeText("\u0007\ud800x😀\n")).toBe("\ufffd\ufffdx😀\n");
  });

  it("ticks are round, inside, and about as many as wanted", () => {
    expect(ticks(0, 1, 4)).toEqual([0, 0.5, 1]);
    expect(ticks(0, 30, 6, 1)).toEqual([0, 5, 10, 15, 20, 25, 30]);
    expect(ticks(0, 2, 6, 1)).toEqual([0, 1, 2]);
    fc.assert(
      fc.property(
        fc.double({ min: -1e6, max: 1e6, noNaN: true }),
        fc.double({ min: 1e-3, max: 1e6, noNaN: true }),
        (low, size) => {
          const found = ticks(low, low + size, 5);
          expect(found.length).toBeLessThanOrEqual(6);
          expect(found.length).toBeGreaterThanOrEqual(1);
          for (const tick of found) {
            expect(tick).toBeGreaterThanOrEqual(low - size * 1e-6 - 1e-6);
            expect(tick).toBeLessThanOrEqual(low + size + size * 1e-6 + 1e-6);
          }
        },
      ),
    );
  });

  it("names stand clear of each other where there is room", () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 200, noNaN: true }), { maxLength: 8 }), (wanted) => {
        const placed = [...spread(wanted, 15, 0, 200)].sort((a, b) => a - b);
        expect(placed).toHaveLength(wanted.length);
        for (const [index, y] of placed.entries()) {
          expect(y).toBeGreaterThanOrEqual(-1e-9);
          expect(y).toBeLessThanOrEqual(200 + 1e-9);
          if (index > 0) expect(y - (placed[index - 1] ?? 0)).toBeGreaterThanOrEqual(15 - 1e-9);
        }
      }),
    );
  });
});
