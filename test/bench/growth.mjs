/**
 * How time grows with the size of the images, the batch, and the number of STIA units:
 * `npm run build && node test/bench/growth.mjs [--json] [--svg FILE] [--quick] [--from FILE]`.
 *
 * On WASM, one thread, time of the processor, the least of some runs: what others do on the machine meanwhile counts as
 * little as it can. Beside every time stand the multiply-adds of the network as it is written; a dashed line grows as they do. With --svg it
 * draws the curves; with --from it measures nothing and takes what --json has printed before. Takes some minutes of one core.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { initialise, openWasm, wasmCapability } from "../../dist/runtime/engine/index.js";
import { compile, compileStep, diskResolve, elaborate, plainStage } from "../../dist/runtime/index.js";
import { spread, ticks } from "../../dist/runtime/report/chart.js";
import { label, round, standaloneFigure, tag } from "../../dist/runtime/report/svg.js";

const json = process.argv.includes("--json");
const quick = process.argv.includes("--quick");
const from = process.argv.includes("--from") ? process.argv[process.argv.indexOf("--from") + 1] : undefined;
const known = from === undefined ? [] : JSON.parse(readFileSync(from, "utf8"));
const svg = process.argv.includes("--svg") ? process.argv[process.argv.indexOf("--svg") + 1] : undefined;
const examples = fileURLToPath(new URL("../../examples/", import.meta.url));
const target = { ...(await wasmCapability()), threads: 1 };

const BLOCKS = `
edition 2026
block ConvBN(c: int) = Conv(c, use_bias=false) @conv -> BatchNorm @bn -> ReLU
block Stage(c: int) = ConvBN(c) @a -> ConvBN(c) @b -> MaxPool(2) @pool
`;

/** Two streams of three stages, which look at each other after the last. */
const twoStreams = (size) => `${BLOCKS}
block Backbone(classes: int = 6)(x: [N, C, H, W]) -> [N, classes]
default over x: f32[N, 3, ${size}, ${size}]
  = Stage(32) @stage1 -> Stage(64) @stage2 -> Stage(128) @stage3 -> GlobalAvgPool @avgpool -> Linear(classes) @fc
model TwoStream =
  Backbone ×2 over spatial: f32[N, 3, ${size}, ${size}], temporal: f32[N, 20, ${size}, ${size}]
  with STIA at stage3
  fuse at avgpool Concat -> Linear(6) @head`;

/** Two streams of eight equal layers at 28², STIA in both directions after the first `units` of them. */
const manyUnits = (units) => {
  const names = Array.from({ length: 8 }, (_, i) => `layer${i + 1}`);
  const grafts = names.slice(0, units);
  return `${BLOCKS}
block Backbone(classes: int = 6)(x: [N, C, H, W]) -> [N, classes]
default over x: f32[N, 3, 28, 28]
  = ${names.map((name) => `ConvBN(64) @${name}`).join(" -> ")} -> GlobalAvgPool @avgpool -> Linear(classes) @fc
model TwoStream =
  Backbone ×2 over spatial: f32[N, 3, 28, 28], temporal: f32[N, 20, 28, 28]
  ${grafts.length === 0 ? "" : `with STIA at ${grafts.join(", ")}`}
  fuse at avgpool Concat -> Linear(6) @head`;
};

const resnet = (size) => `import { ResNet50 } from "std/vision"
model Sized(x: f32[N, 3, ${size}, ${size}]) -> f32[N, 1000] = ResNet50`;

function programOf(text, { batch, train }, convolution) {
  const source = { path: "<growth>", text };
  const { model, diagnostics } = elaborate(source, diskResolve(source, examples), { bind: new Map() });
  if (model === undefined) throw new Error(diagnostics.map(({ message }) => message).join("; "));
  const options = { target, sizes: new Map([["N", batch]]), seed: 0, convolution };
  const made = train ? compileStep(model, plainStage(model), options) : compile(model, options);
  if (!("ok" in made)) throw new Error(made.diagnostics.map(({ message }) => message).join("; "));
  return train ? made.ok.program : made.ok;
}

/** What an input holds while it is timed: classes, rates and gates that do something, else noise. */
function values(name, shape) {
  const length = shape.reduce((product, size) => product * size, 1);
  const value = (i) => {
    if (name === "step.target") return i % (shape[1] ?? 1) === 0 ? 1 : 0;
    if (name === "step.rates") return i % 3 === 0 ? 1e-4 : 1;
    return name.startsWith("step.") ? 1 : Math.sin(i * 0.37);
  };
  return Float32Array.from({ length }, (_, i) => value(i));
}

/** Processor time of a pass in ms, the least of several, and its multiply-adds. */
async function measure(text, options) {
  const program = programOf(text, options);
  const runner = await openWasm(program);
  try {
    await runner.load((upload, into) => initialise(upload, program.seed, into));
    for (const { name, shape } of program.inputs) runner.write(name, values(name, shape));
    await runner.run();
    let least = Number.POSITIVE_INFINITY;
    for (let run = 0, spent = 0; run < (quick ? 2 : 12) && (run < 3 || spent < 1500); run++) {
      const before = process.cpuUsage();
      await runner.run();
      const { user, system } = process.cpuUsage(before);
      least = Math.min(least, (user + system) / 1000);
      spent += (user + system) / 1000;
    }
    const written = programOf(text, options, "direct");
    return { ms: least, macs: written.run.reduce((sum, step) => sum + step.macs, 0) };
  } finally {
    runner.dispose();
  }
}

const SIZES = quick ? [64, 128] : [64, 96, 128, 192, 256, 384, 512];
const BATCHES = quick ? [1, 4] : [1, 2, 4, 8, 16, 32];
const UNITS = quick ? [0, 2] : [0, 1, 2, 3, 4, 6, 8];
const PANELS = [
  {
    title: "Size of the images",
    axis: "pixels a side, batch 1",
    log: true,
    at: SIZES,
    curves: [
      { name: "ResNet-50, forward", text: resnet, options: () => ({ batch: 1, train: false }) },
      { name: "two streams, forward", text: twoStreams, options: () => ({ batch: 1, train: false }) },
      { name: "two streams, step", text: twoStreams, options: () => ({ batch: 1, train: true }) },
    ],
  },
  {
    title: "Batch",
    axis: "examples",
    log: true,
    at: BATCHES,
    curves: [
      { name: "ResNet-50, forward", text: () => resnet(64), options: (batch) => ({ batch, train: false }) },
      { name: "two streams, forward", text: () => twoStreams(48), options: (batch) => ({ batch, train: false }) },
      { name: "two streams, step", text: () => twoStreams(48), options: (batch) => ({ batch, train: true }) },
    ],
  },
  {
    title: "STIA units",
    axis: "units in two streams of eight layers, 64 at 28², batch 1",
    log: false,
    at: UNITS,
    curves: [
      { name: "forward", text: manyUnits, options: () => ({ batch: 1, train: false }) },
      { name: "step", text: manyUnits, options: () => ({ batch: 1, train: true }) },
    ],
  },
];

for (const panel of PANELS)
  for (const curve of panel.curves) {
    curve.points = known.find(({ title, name }) => title === panel.title && name === curve.name)?.points ?? [];
    if (curve.points.length > 0) continue;
    for (const at of panel.at) {
      const point = { at, ...(await measure(curve.text(at), curve.options(at))) };
      curve.points.push(point);
      console.error(
        `${panel.title}, ${curve.name}, ${at}: ${point.ms.toFixed(1)} ms, ${(point.macs / 1e6).toFixed(0)} MMAC`,
      );
    }
  }

const COLOURS = ["a", "b", "c"];

/** The panels side by side. */
function figure() {
  const [wide, high, gap, top] = [230, 210, 178, 56];
  const parts = [
    label(0, 14, "Processor time of a pass on one WASM thread", {
      fill: "var(--ink)",
      "font-weight": 600,
      "font-size": 13,
    }),
    label(0, 30, "dashed: as the multiply-adds grow, from the last point back"),
  ];
  for (const [index, { title, axis, log, at, curves }] of PANELS.entries()) {
    const left = 46 + index * (wide + gap);
    const all = curves.flatMap(({ points }) => points.map(({ ms }) => ms));
    const [low, most] = log ? [Math.min(...all) / 1.5, Math.max(...all) * 1.5] : [0, Math.max(...all) * 1.1];
    const share = (value, from, to) =>
      log ? Math.log(value / from) / Math.log(to / from) : (value - from) / (to - from);
    const x = (value) => left + share(value, at[0], at.at(-1)) * wide;
    const y = (ms) => top + high - Math.max(0, share(ms, low, most)) * high;
    parts.push(label(left, top - 10, title, { fill: "var(--ink)", "font-weight": 600 }));
    const marks = log ? [1, 10, 100, 1000, 10000, 100000].filter((ms) => ms >= low && ms <= most) : ticks(0, most, 5);
    for (const mark of marks) {
      parts.push(tag("path", { d: `M${left} ${round(y(mark))}H${left + wide}`, stroke: "var(--grid)" }));
      parts.push(
        label(left - 6, y(mark) + 4, mark >= 1000 ? `${mark / 1000} s` : `${mark} ms`, { "text-anchor": "end" }),
      );
    }
    for (const value of at) parts.push(label(x(value), top + high + 16, String(value), { "text-anchor": "middle" }));
    parts.push(label(left + wide / 2, top + high + 34, axis, { "text-anchor": "middle" }));
    for (const [number, { points }] of curves.entries()) {
      const colour = `var(--${COLOURS[number]})`;
      const line = (of) => `M${points.map((point) => `${round(x(point.at))} ${round(y(of(point)))}`).join("L")}`;
      const last = points.at(-1);
      parts.push(
        tag("path", {
          d: line(({ macs }) => (macs / last.macs) * last.ms),
          fill: "none",
          stroke: colour,
          "stroke-dasharray": "3 3",
          "stroke-opacity": 0.6,
        }),
      );
      parts.push(tag("path", { d: line(({ ms }) => ms), fill: "none", stroke: colour, "stroke-width": 2 }));
    }
    const ends = spread(
      curves.map(({ points }) => y(points.at(-1).ms) + 4),
      14,
      top,
      top + high + 10,
    );
    for (const [number, end] of ends.entries())
      parts.push(label(left + wide + 6, end, curves[number].name, { fill: `var(--${COLOURS[number]})` }));
  }
  return {
    name: "growth",
    title: "How time grows",
    caption: "Processor time of a pass over the size of the images, the batch, and the number of STIA units.",
    width: 46 + PANELS.length * (wide + gap),
    height: top + high + 48,
    body: parts.join(""),
  };
}

if (svg !== undefined) writeFileSync(svg, standaloneFigure(figure(), "netc"));
if (json) {
  const curves = PANELS.flatMap(({ title, curves }) => curves.map(({ name, points }) => ({ title, name, points })));
  console.log(JSON.stringify(curves, undefined, 1));
} else
  for (const { title, at, curves } of PANELS) {
    console.log(`\n| ${title} | ${at.join(" | ")} |\n|---${"|---".repeat(at.length)}|`);
    for (const { name, points } of curves) {
      console.log(`| ${name}, ms | ${points.map(({ ms }) => ms.toFixed(ms < 10 ? 1 : 0)).join(" | ")} |`);
      console.log(`| GFLOP/s | ${points.map(({ ms, macs }) => ((2 * macs) / ms / 1e6).toFixed(0)).join(" | ")} |`);
    }
  }
process.exit(0);
