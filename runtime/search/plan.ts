/**
 * What a search would do, before it does anything: the method that its size and budget ask for, with the reason, and how
 * many seeds a difference needs.
 */
import type { Search } from "../../compiler/search/search.ts";

/** How a search is searched, and why. */
export function methodOf({ space, spend, replicates, method }: Search): {
  readonly name: string;
  readonly reason: string;
} {
  const feasible = space.candidates.filter(({ refused }) => refused === undefined).length;
  if (method.kind !== "auto") return { name: method.kind, reason: "the search says so" };
  if (feasible * replicates.search <= spend / 1.5)
    return {
      name: "factorial",
      reason: `${feasible} models fit ${spend} trainings: each is trained, which also tells what every position does`,
    };
  return {
    name: "gp",
    reason: `${feasible} models and ${spend} trainings: a model of the scores says where the next one tells most`,
  };
}

/**
 * Seeds for each of two candidates so that a difference of `size` standard deviations is found at 5 % two-sided with
 * 80 % power; with pairs whose scores correlate by 0.5. From t tests by power (Cohen 1988, ch. 2), rounded up.
 */
export function powerTable(): readonly { readonly size: number; readonly seeds: number; readonly paired: number }[] {
  return [
    { size: 0.5, seeds: 64, paired: 34 },
    { size: 1, seeds: 17, paired: 10 },
    { size: 1.5, seeds: 9, paired: 6 },
    { size: 2, seeds: 6, paired: 5 },
    { size: 3, seeds: 3, paired: 3 },
  ];
}
