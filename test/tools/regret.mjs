/**
 * Regret on response surfaces, and on a table of trainings: what a method of search misses of the best candidate, after each of its trials.
 *
 * In: the functions of runtime/search/methods, built or not, and a landscape. Out: regrets, in its own unit. The candidate that counts is the one that would be handed over: by the model's mean for the Gaussian process;
 * for the others the best single value, as their users take it.
 */
import { generator, normals, subsetsOf, surfaceOf } from "./surfaces.mjs";

export const CONTENDERS = {
  random: { kind: "random" },
  tpe: { kind: "tpe", multivariate: false },
  "tpe, multivariate": { kind: "tpe", multivariate: true },
  evolution: { kind: "evolution", population: 20, tournament: 5 },
  gp: { kind: "gp" },
};

/**
 * Regrets of one run at the trials asked for.
 * @param library `{ proposeOf, pickOf }`
 * @param landscape `candidates`, the `truth` of each, and `draw(candidate)`: what one more training of it shows
 * @param options `at` rises, its last is the number of trials
 */
export function course({ proposeOf, pickOf }, method, { candidates, truth, draw }, { seed, at }) {
  const best = truth.reduce((most, value) => Math.max(most, value), -Infinity);
  const propose = proposeOf(method);
  const random = proposeOf({ kind: "random" });
  const trials = at.at(-1);
  // As a study does: the model starts from a screen of d + 2 random trials, or a fifth.
  const screen = method.kind === "gp" ? Math.max(candidates.factors.length + 2, Math.ceil(trials / 5)) : 0;
  const observations = [];
  const uses = new Map();
  const found = [];
  const known = () => ({ candidates, observations, pending: [], seed, step: observations.length });
  for (let trial = 1; trial <= trials; trial++) {
    const [candidate] = (trial <= screen ? random : propose)(known(), 1);
    const replicate = uses.get(candidate) ?? 0;
    uses.set(candidate, replicate + 1);
    observations.push({ candidate, value: draw(candidate), rung: 0, replicate });
    if (!at.includes(trial)) continue;
    const handed =
      method.kind === "gp"
        ? pickOf(known(), 1)[0].candidate
        : observations.reduce((a, b) => (b.value > a.value ? b : a)).candidate;
    found.push(best - truth[handed]);
  }
  return found;
}

/**
 * Regrets on a response surface.
 * @param options `{ members, noise, seed, at, run }`; `seed` is the surface's; runs of one surface differ in everything drawn
 */
export function regrets(library, method, kind, { members, noise, seed, at, run = 0 }) {
  const truth = surfaceOf(kind, members, seed);
  const normal = normals(generator(1000 + seed + 7919 * run));
  const draw = (candidate) => truth[candidate] + noise * normal();
  return course(library, method, { candidates: subsetsOf(members), truth, draw }, { seed: seed + 1000 * run, at });
}

/**
 * What trainings found for every candidate of a small space (test/fixtures/placements.json): the truth is the mean of a
 * candidate's trainings, and one more training of it shows one of them.
 */
export function tableOf({ factors, candidates }, run) {
  const random = generator(1000 + run);
  const values = candidates.map((candidate) => candidate.values);
  return {
    candidates: {
      factors,
      levels: Uint8Array.from(candidates.flatMap(({ levels }) => levels)),
      count: candidates.length,
      costs: [],
    },
    truth: Float64Array.from(values, (each) => each.reduce((sum, value) => sum + value, 0) / each.length),
    draw: (candidate) => values[candidate][Math.floor(random() * values[candidate].length)],
  };
}

/** Mean and half of its 95 % interval. */
export function summary(values) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, half: (1.96 * Math.sqrt(squares / (values.length - 1))) / Math.sqrt(values.length) };
}
