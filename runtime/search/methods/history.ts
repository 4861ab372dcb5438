/** Observations as trials, for the methods that compare trials instead of modelling values. */
import type { Observation } from "../propose.ts";

/** The furthest that each trial has come, in the order in which the trials were begun. */
export function trialsOf(observations: readonly Observation[]): readonly Observation[] {
  const furthest = new Map<string, Observation>();
  for (const observation of observations) {
    const key = `${observation.candidate}/${observation.replicate}`;
    const known = furthest.get(key);
    // A Map keeps the place of the first: the trial's, not the rung's.
    if (known === undefined || known.rung <= observation.rung) furthest.set(key, observation);
  }
  return [...furthest.values()];
}

/** Better first: what came further, then the larger value; of equals the earlier. */
export function compareTrials(a: Observation, b: Observation): number {
  return b.rung - a.rung || b.value - a.value;
}

/** Indices of trials, the best first. */
export function byMerit(trials: readonly Observation[]): readonly number[] {
  return trials
    .map((trial, index) => ({ trial, index }))
    .sort((a, b) => compareTrials(a.trial, b.trial) || a.index - b.index)
    .map(({ index }) => index);
}

/** How often each candidate has been tried or is being tried. */
export function usesOf(
  observations: readonly Observation[],
  pending: readonly { readonly candidate: number }[],
): Map<number, number> {
  const uses = new Map<number, number>();
  for (const { candidate } of [...trialsOf(observations), ...pending])
    uses.set(candidate, (uses.get(candidate) ?? 0) + 1);
  return uses;
}
