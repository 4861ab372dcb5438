/**
 * What a super-network as a prior is worth, and how much trust it must earn: `npm run build && node test/bench/prior.mjs`.
 *
 * On the surfaces of test/tools/surfaces.mjs (2^10 candidates, noise 0.5, 40 trainings) the scores of a super-network are
 * simulated: correlated with the truth by so much, the rest being either chance or a surface of its own, as where the
 * super-network is wrong in the same way about like candidates. It costs some of the trainings. For each correlation the
 * regret of three studies: without it, with it whatever it is worth, and with it if Kendall's τ on the candidates that are
 * trained first has a lower end, at one standard error, above a threshold. Takes some twenty minutes of one core.
 */

import { pickOf } from "../../dist/runtime/search/methods/acquire.js";
import { judgePrior } from "../../dist/runtime/search/methods/prior.js";
import { proposeOf } from "../../dist/runtime/search/methods/propose.js";
import { summary } from "../tools/regret.mjs";
import { generator, normals, SURFACES, subsetsOf, surfaceOf } from "../tools/surfaces.mjs";

const option = (name, otherwise) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? otherwise : Number(process.argv[at + 1]);
};
const [MEMBERS, NOISE, TRIALS] = [10, option("noise", 0.5), option("trials", 40)];
const COST = option("cost", 2);
const REPEATS = option("repeats", 10);
const CORRELATIONS = [0, 0.3, 0.5, 0.7, 0.9];
const THRESHOLDS = [-1, 0, 0.1, 0.2, 0.3, 0.4, 0.5];
const candidates = subsetsOf(MEMBERS);
const propose = proposeOf({ kind: "gp" });
const random = proposeOf({ kind: "random" });

/** Scores of mean 0 and deviation 1. */
function scoresOf(surface, correlation, error) {
  const raw = surface.map((value, i) => correlation * value + Math.sqrt(1 - correlation ** 2) * error[i]);
  const mean = raw.reduce((sum, value) => sum + value, 0) / raw.length;
  const deviation = Math.sqrt(raw.reduce((sum, value) => sum + (value - mean) ** 2, 0) / raw.length);
  return raw.map((value) => (value - mean) / deviation);
}

/** Regret after so many trials; those before the method begins are `none`, `all` and a screen. */
function study(surface, trials, seed, prior) {
  const normal = normals(generator(1000 + seed));
  const observations = [];
  const uses = new Map();
  const screen = Math.max(MEMBERS + 2, Math.ceil(TRIALS / 5)) + 2;
  const known = (more) => ({ candidates, observations, pending: [], seed, step: observations.length, ...more });
  let trust;
  for (let trial = 0; trial < trials; trial++) {
    if (trial === screen && prior !== undefined)
      trust = judgePrior(observations.map(({ candidate, value }) => ({ score: prior[candidate], value })));
    const [candidate] =
      trial < 2
        ? [trial * (candidates.count - 1)]
        : (trial < screen ? random : propose)(known({ prior: trial < screen ? undefined : prior }), 1);
    const replicate = uses.get(candidate) ?? 0;
    uses.set(candidate, replicate + 1);
    observations.push({ candidate, value: surface[candidate] + NOISE * normal(), rung: 0, replicate });
  }
  const best = surface.reduce((most, value) => Math.max(most, value), -Infinity);
  return { regret: best - surface[pickOf(known({ prior }), 1)[0].candidate], bound: trust?.bound ?? 0 };
}

const runs = SURFACES.flatMap((kind) =>
  Array.from({ length: REPEATS }, (_, seed) => {
    const surface = surfaceOf(kind, MEMBERS, seed);
    const whole = study(surface, TRIALS, seed);
    const less = study(surface, TRIALS - COST, seed);
    const normal = normals(generator(77 + seed));
    const errors = { chance: surface.map(() => normal()), like: surfaceOf("pairwise", MEMBERS, 5000 + seed) };
    const gated = Object.entries(errors).flatMap(([error, values]) =>
      CORRELATIONS.map((correlation) => ({
        error,
        correlation,
        ...study(surface, TRIALS - COST, seed, scoresOf(surface, correlation, values)),
      })),
    );
    return { kind, whole: whole.regret, less: less.regret, gated };
  }),
);

const show = (values) => {
  const { mean, half } = summary(values);
  return `${mean.toFixed(2)} ± ${half.toFixed(2)}`;
};
console.log(
  `without ${show(runs.map(({ whole }) => whole))}, with ${COST} trainings fewer ${show(runs.map(({ less }) => less))}`,
);
for (const error of ["chance", "like"])
  for (const correlation of CORRELATIONS) {
    const own = runs.map((run) => ({
      ...run,
      ...run.gated.find((one) => one.error === error && one.correlation === correlation),
    }));
    const cells = THRESHOLDS.map((least) => {
      const trusted = own.filter(({ bound }) => bound > least).length / own.length;
      return `${least}: ${show(own.map(({ regret, less, bound }) => (bound > least ? regret : less)))} (${(100 * trusted).toFixed(0)} %)`;
    });
    console.log(`${error} ${correlation} | ${cells.join(" | ")}`);
  }
