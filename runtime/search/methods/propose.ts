/** From the name of a method to the function that proposes. */
import type { Method } from "../../../compiler/search/search.ts";
import type { Propose } from "../propose.ts";
import { proposeGaussian } from "./acquire.ts";
import { proposeEvolution } from "./evolution.ts";
import { proposeRandom } from "./random.ts";
import { proposeTpe } from "./tpe.ts";

/**
 * What proposes by this method. A proposal is a function of what is known alone: factors, feasible candidates, what trials
 * have shown, which are under way, the study's seed and the step. `auto` is the Gaussian process; whether a space is small
 * enough for the factorial is the schedule's to say, see `planOf`. Halving proposes at random and chooses by its rungs.
 */
export function proposeOf(method: Method): Propose {
  switch (method.kind) {
    case "auto":
    case "gp":
      return proposeGaussian;
    case "random":
    case "factorial":
    case "halving":
      return proposeRandom;
    case "tpe":
      return proposeTpe(method.multivariate);
    case "evolution":
      return proposeEvolution(method.population, method.tournament);
    default:
      return method satisfies never;
  }
}
