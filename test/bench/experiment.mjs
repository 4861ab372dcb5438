/**
 * Six ways to join two streams, on one task, over several seeds: `node test/bench/experiment.mjs association` (or
 * `expression`) [FOLDER] [SEEDS] [EPOCHS].
 *
 * Every run has the same data, split, recipe and budget; the seed sets parameters, order and the validation people. What
 * is finished in FOLDER is not trained again. Prints UAR on the test people, and for every way the paired difference of
 * attention to it with its t interval over seeds.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";

const { readPredictions } = await import("../../dist/runtime/train/predictions.js");
const { metricValue } = await import("../../dist/runtime/metrics/scores.js");
const { seedDifference } = await import("../../dist/runtime/metrics/intervals.js");
const { table } = await import("../../dist/runtime/report/text.js");

const [task = "association", folder = "runs/experiment", seeds = "5", epochs = ""] = process.argv.slice(2);
const SETS = {
  association: ["--layout", "association", "--subjects", "80", "--size", "64x64"],
  expression: ["--layout", "enterface", "--subjects", "20", "--clips", "3", "--frames", "16", "--size", "64x64"],
};
const WAYS = ["Spatial", "Temporal", "LateAverage", "LateLinear", "LateMLP", "Attention"];
const set = SETS[task];
if (set === undefined) throw new Error(`no task ${task}: choose association or expression`);

function netc(...args) {
  const { status } = spawnSync(process.execPath, ["dist/runtime/cli/main.js", ...args], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  if (status !== 0) throw new Error(`netc ${args.join(" ")} ended with ${status}`);
}

const data = join(folder, task);
if (!existsSync(join(data, "manifest.jsonl"))) netc("data", "make", data, ...set, "--seed", "7");

const scores = new Map(WAYS.map((way) => [way, []]));
for (let seed = 1; seed <= Number(seeds); seed++) {
  for (const way of WAYS) {
    const run = join(folder, `${task}-${way}-${seed}`);
    const file = join(run, "predictions", "test.jsonl");
    const started = performance.now();
    if (!existsSync(file)) {
      const more = epochs === "" ? [] : ["--set", `epochs=${epochs}`];
      const resume = existsSync(join(run, "run.json")) ? ["--resume", run] : ["--run", run];
      netc("train", `examples/${task}.net`, "--model", way, "--data", data, "--seed", String(seed), ...resume, ...more);
    }
    const predictions = readPredictions(file);
    if ("error" in predictions) throw new Error(predictions.error);
    const uar = metricValue({ kind: "uar" }, predictions.clips, predictions.header.classes);
    scores.get(way).push(uar);
    console.error(
      `seed ${seed} ${way}: ${(100 * uar).toFixed(1)} % (${((performance.now() - started) / 1000).toFixed(0)} s)`,
    );
  }
}

const percent = (value) => (100 * value).toFixed(1);
const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
const attention = scores.get("Attention");
const rows = WAYS.map((way) => {
  const own = scores.get(way);
  const spread = Math.sqrt(own.reduce((sum, x) => sum + (x - mean(own)) ** 2, 0) / Math.max(1, own.length - 1));
  const row = [way, own.map(percent).join(" "), percent(mean(own)), percent(spread)];
  if (way === "Attention" || own.length < 2) return [...row, "", ""];
  const { difference, p } = seedDifference(own, attention);
  return [
    ...row,
    `${percent(difference.value)} (${percent(difference.low)} to ${percent(difference.high)})`,
    p < 0.0001 ? "< 0.0001" : p.toFixed(4),
  ];
});
console.log(`UAR in % on the test people of the ${task} task (synthetic clips), ${seeds} seeds`);
console.log(
  table(["way", "by seed", "mean", "s.d.", "attention minus it (95 % t interval)", "p"], rows, new Set([2, 3])),
);
