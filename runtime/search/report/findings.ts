/**
 * What is computed from the scores of a search: noise between seeds, whether rungs rank, what positions contribute, and
 * what search at random would have found.
 */
import type { Findings } from "./model.ts";
import type { StudyData } from "./study-data.ts";

export function findingsOf(_data: StudyData): Findings {
  return { leader: undefined, noise: undefined, ranks: [], importance: undefined, band: [] };
}
