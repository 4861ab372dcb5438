/**
 * Regret of every method of search at equal budget: `npm run build && node test/bench/regret.mjs [--json] [--svg FOLDER]`.
 *
 * Four response surfaces of 2^10 candidates (test/tools/surfaces.mjs), noise 0.5, 40 trials, 40 repeats; and a table of
 * trainings that netc made of every candidate of a small space (test/fixtures/placements.json), 24 trials, 40 repeats.
 * Prints both tables, the ratios that are asked of the Gaussian process, how our TPE stands beside Optuna's on the same
 * surfaces (test/fixtures/optuna.json), and how long a proposal takes; with --svg it draws the curves, `regret.svg` and
 * `regret-table.svg`. Takes some six minutes of one core.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { spread, ticks } from "../../dist/runtime/report/chart.js";
import { label, round, standaloneFigure, tag } from "../../dist/runtime/report/svg.js";
import { pickOf } from "../../dist/runtime/search/methods/acquire.js";
import { proposeOf } from "../../dist/runtime/search/methods/propose.js";
import { CONTENDERS, course, regrets, summary, tableOf } from "../tools/regret.mjs";
import { generator, normals, SURFACES, subsetsOf, surfaceOf } from "../tools/surfaces.mjs";

const json = process.argv.includes("--json");
const svg = process.argv.includes("--svg") ? process.argv[process.argv.indexOf("--svg") + 1] : undefined;
const MEMBERS = 10;
const NOISE = 0.5;
const REPEATS = 40;
const AT = Array.from({ length: 20 }, (_, index) => 2 * index + 2);

/** By method and surface, a list of runs; a run is the regrets at AT. */
const runs = {};
for (const [name, method] of Object.entries(CONTENDERS)) {
  runs[name] = {};
  for (const kind of SURFACES)
    runs[name][kind] = Array.from({ length: REPEATS }, (_, seed) =>
      regrets({ proposeOf, pickOf }, method, kind, { members: MEMBERS, noise: NOISE, seed, at: AT }),
    );
}

const at = (name, kind, index) => runs[name][kind].map((run) => run.at(index));
/** Of the mean of the four surfaces: the surfaces are four strata, their repeats a sample of each. */
function overall(name, index) {
  const each = SURFACES.map((kind) => summary(at(name, kind, index)));
  return {
    mean: each.reduce((sum, { mean }) => sum + mean, 0) / each.length,
    half: Math.sqrt(each.reduce((sum, { half }) => sum + half ** 2, 0)) / each.length,
  };
}

/** Regret in points of the table's metric, by method and trial, a list of runs. */
const trained = JSON.parse(readFileSync(new URL("../fixtures/placements.json", import.meta.url), "utf8"));
const TABLE_AT = Array.from({ length: 12 }, (_, index) => 2 * index + 2);
const tabled = Object.fromEntries(
  Object.entries(CONTENDERS).map(([name, method]) => [
    name,
    Array.from({ length: REPEATS }, (_, run) =>
      course({ proposeOf, pickOf }, method, tableOf(trained, run), { seed: run, at: TABLE_AT }).map(
        (regret) => 100 * regret,
      ),
    ),
  ]),
);
const onTable = (name, index) => summary(tabled[name].map((run) => run.at(index)));

const show = ({ mean, half }) => `${mean.toFixed(2)} ± ${half.toFixed(2)}`;
const table = Object.keys(CONTENDERS).map((name) => [
  name,
  ...SURFACES.map((kind) => show(summary(at(name, kind, -1)))),
  show(overall(name, -1)),
]);
const gp = overall("gp", -1).mean;
const ratios = ["random", "tpe", "tpe, multivariate"].map((name) => [name, gp / overall(name, -1).mean]);

const placements = Object.keys(CONTENDERS).map((name) => [
  name,
  ...[8, 12, 16, 24].map((trials) => show(onTable(name, TABLE_AT.indexOf(trials)))),
]);

const optuna = JSON.parse(readFileSync(new URL("../fixtures/optuna.json", import.meta.url), "utf8"));
const RUNS = 10;
const meanOf = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Our TPE beside Optuna's: means of ten runs on each surface, and the difference paired by surface. */
const beside = [
  ["tpe", "univariate"],
  ["tpe, multivariate", "multivariate"],
].flatMap(([ours, theirs]) =>
  SURFACES.map((kind) => {
    const other = optuna.samplers[theirs].regrets[kind];
    const own = other.values.map((_, seed) =>
      meanOf(
        Array.from({ length: RUNS }, (_, run) => {
          const options = { members: MEMBERS, noise: NOISE, seed, at: [40], run: run + 1 };
          return regrets({ proposeOf, pickOf }, CONTENDERS[ours], kind, options)[0];
        }),
      ),
    );
    const difference = summary(own.map((value, seed) => value - other.values[seed]));
    const agree = Math.abs(difference.mean) <= difference.half ? "agree" : "differ";
    return [`${theirs}, ${kind}`, show(summary(own)), show(other), `${show(difference)}, ${agree}`];
  }),
);

/** Milliseconds of a proposal over 8,192 candidates after 100 observations: medians of seven. */
function speed() {
  const candidates = subsetsOf(13);
  const surface = surfaceOf("pairwise", 13, 1);
  const normal = normals(generator(7));
  const observations = Array.from({ length: 100 }, (_, i) => {
    const candidate = (i * 2711) % candidates.count;
    return { candidate, value: surface[candidate] + NOISE * normal(), rung: 0, replicate: 0 };
  });
  const runs = Array.from({ length: 7 }, (_, step) => {
    const [start, before] = [performance.now(), process.cpuUsage()];
    proposeOf({ kind: "gp" })({ candidates, observations, pending: [], seed: 1, step }, 1);
    const { user, system } = process.cpuUsage(before);
    return { wall: performance.now() - start, cpu: (user + system) / 1000 };
  });
  const middle = (of) => runs.map(of).sort((a, b) => a - b)[3];
  return { wall: middle(({ wall }) => wall), cpu: middle(({ cpu }) => cpu) };
}

const COLOURS = { random: "muted", tpe: "e", "tpe, multivariate": "c", evolution: "b", gp: "a" };

/**
 * Regret over trials, with bands of 95 %.
 * @param of mean and half an interval of a method after the trials at an index of `at`
 */
function figure({ name: file, title, heading, caption, at, from, of }) {
  const [left, top, width, height] = [44, 34, 330, 230];
  const names = Object.keys(CONTENDERS);
  const last = at.at(-1);
  const first = at.findIndex((trials) => trials >= from);
  // Room for all bands from the first trial that is drawn.
  const most = 1.05 * Math.max(...names.map((name) => of(name, first)).map(({ mean, half }) => mean + half));
  const x = (trials) => left + (trials / last) * width;
  const y = (regret) => top + height - (regret / most) * height;
  const parts = [label(0, 14, heading, { fill: "var(--ink)", "font-weight": 600, "font-size": 13 })];
  for (const tick of ticks(0, most, 4)) {
    parts.push(tag("path", { d: `M${left} ${round(y(tick))}H${left + width}`, stroke: "var(--grid)" }));
    parts.push(label(left - 7, y(tick) + 4, String(tick), { "text-anchor": "end" }));
  }
  for (const tick of ticks(0, last, 4))
    parts.push(label(x(tick), top + height + 17, String(tick), { "text-anchor": "middle" }));
  parts.push(label(left + width / 2, top + height + 36, "trials", { "text-anchor": "middle" }));
  for (const name of names) {
    const points = at.map((trials, index) => ({ trials, ...of(name, index) })).slice(first);
    const colour = `var(--${COLOURS[name]})`;
    const up = points.map(({ trials, mean, half }) => `${round(x(trials))} ${round(y(mean + half))}`);
    const down = points.map(({ trials, mean, half }) => `${round(x(trials))} ${round(y(Math.max(0, mean - half)))}`);
    const line = points.map(({ trials, mean }) => `${round(x(trials))} ${round(y(mean))}`);
    parts.push(tag("path", { d: `M${[...up, ...down.reverse()].join("L")}Z`, fill: colour, "fill-opacity": 0.15 }));
    parts.push(tag("path", { d: `M${line.join("L")}`, fill: "none", stroke: colour, "stroke-width": 2 }));
  }
  const ends = names.map((name) => y(of(name, -1).mean) + 4);
  for (const [index, at] of spread(ends, 14, top, top + height + 10).entries())
    parts.push(label(left + width + 8, at, names[index], { fill: `var(--${COLOURS[names[index]]})` }));
  return { name: file, title, caption, width: 500, height: 310, body: parts.join("") };
}

const figures = [
  {
    name: "regret",
    title: "Regret at equal budget",
    heading: "Regret at equal budget, in standard deviations of the surface",
    caption: `Mean regret of four response surfaces of 2^10 candidates, noise ${NOISE}, ${REPEATS} repeats each, with bands of 95 %.`,
    at: AT,
    from: 10,
    of: overall,
  },
  {
    name: "regret-table",
    title: "Regret on a table of trainings",
    heading: "Regret at equal budget, in points of validation UAR",
    caption: `Mean regret on ${trained.candidates.length} trained placements, ${REPEATS} repeats, with bands of 95 %.`,
    at: TABLE_AT,
    from: 4,
    of: onTable,
  },
];
if (svg !== undefined)
  for (const each of figures) writeFileSync(join(svg, `${each.name}.svg`), standaloneFigure(figure(each), "netc"));
const proposal = speed();
if (json) console.log(JSON.stringify({ table, ratios, placements, beside, proposal }, null, 1));
else {
  const rows = (head, body) => {
    const all = [head, ...body];
    const widths = head.map((_, column) => Math.max(...all.map((row) => row[column].length)));
    for (const row of all) console.log(`| ${row.map((cell, column) => cell.padEnd(widths[column])).join(" | ")} |`);
    console.log();
  };
  rows(["regret", ...SURFACES, "mean"], table);
  rows(
    ["regret of gp over that of", "ratio"],
    ratios.map(([name, ratio]) => [name, ratio.toFixed(2)]),
  );
  rows(["regret on the table, pt, after", "8", "12", "16", "24 trials"], placements);
  rows(["TPE", "ours", `Optuna ${optuna.optuna}`, "difference, paired by surface"], beside);
  console.log(
    `a proposal of gp, 8,192 candidates, 100 observations: ${proposal.wall.toFixed(0)} ms, ${proposal.cpu.toFixed(0)} ms of processor`,
  );
}
