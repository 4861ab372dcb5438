/**
 * Regularised evolution (Real, Aggarwal, Huang and Le 2019): the population is the newest trials, however good; of a few
 * drawn from it the best is the parent; a child differs from its parent in one factor. Random trials come first, until
 * there is a population.
 */

import type { Candidates, Knowledge, Observation, Propose } from "../propose.ts";
import { type Draws, drawsOf } from "./draws.ts";
import { compareTrials, trialsOf } from "./history.ts";
import { nearestWith } from "./nearest.ts";
import { proposeRandom } from "./random.ts";

export function proposeEvolution(population: number, tournament: number): Propose {
  return (known, count) => {
    const proposals: number[] = [];
    while (proposals.length < count) {
      const now = { ...known, pending: [...known.pending, ...proposals.map((candidate) => ({ candidate, rung: 0 }))] };
      const draws = drawsOf(known.seed, "evolution", known.step + proposals.length);
      const next = proposeOne(now, population, tournament, draws);
      if (next === undefined) break;
      proposals.push(next);
    }
    return proposals;
  };
}

function proposeOne(known: Knowledge, population: number, tournament: number, draws: Draws): number | undefined {
  const trials = trialsOf(known.observations);
  if (trials.length + known.pending.length < population || trials.length === 0) return proposeRandom(known, 1)[0];
  const alive = [...trials.slice(-population)];
  // Without replacement: a tournament of the whole population takes its best.
  const entrants: Observation[] = Array.from({ length: Math.min(tournament, alive.length) }, () =>
    alive.splice(draws.below(alive.length), 1),
  ).flat();
  const [parent] = entrants.sort(compareTrials);
  return parent === undefined ? undefined : mutated(known.candidates, parent.candidate, known.closed, draws);
}

/** The parent with one factor at another level; what hangs on that factor follows, by the nearest candidate that has it. */
function mutated(
  candidates: Candidates,
  parent: number,
  closed: ReadonlySet<number> | undefined,
  draws: Draws,
): number | undefined {
  const width = candidates.factors.length;
  const row = Array.from(candidates.levels.subarray(parent * width, (parent + 1) * width));
  const changes = candidates.factors.flatMap((factor, index) =>
    factor.levels.map((_, level) => ({ factor: index, level })).filter(({ level }) => level !== row[index]),
  );
  while (changes.length > 0) {
    // First a factor, then one of its levels, so that a factor of many levels is not changed more often.
    const open = [...new Set(changes.map(({ factor }) => factor))];
    const factor = open[draws.below(open.length)] ?? 0;
    const own = changes.filter((change) => change.factor === factor);
    const change = own[draws.below(own.length)];
    if (change === undefined) break;
    const child = row.with(change.factor, change.level);
    const found = nearestWith(candidates, child, closed, draws, change.factor);
    if (found !== undefined) return found;
    changes.splice(changes.indexOf(change), 1);
  }
  return closed?.has(parent) === true ? undefined : parent;
}
