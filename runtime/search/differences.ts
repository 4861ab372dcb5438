/**
 * What differs between two studies of one name: the reason why one is not gone on with as if it were the other, in words.
 *
 * In: the study in the store, and what would be run now. Out: a sentence a difference: settings of the search, candidates
 * that have come or gone, the recipe, the data set.
 */
import type { Search } from "../../compiler/search/search.ts";
import { compareRecords } from "../train/changes.ts";
import { withoutFolder } from "../train/experiment.ts";
import { recipeOf } from "./begin.ts";
import { withoutLatencies } from "./latency/survey.ts";
import type { StudyRow } from "./study.ts";
import { storedSources } from "./trial/sources.ts";

type Compared = Omit<StudyRow, "created">;

/** Candidates that a sentence names. */
const NAMED = 3;

/** The recipe of a study's first candidate, from its own sources. */
function ownRecipe({ search, sources, data }: Compared): unknown {
  const { recipe } = recipeOf(search, storedSources(sources), data);
  return recipe === undefined ? undefined : withoutFolder(recipe);
}

/** What has changed from one to the other; never empty for studies with different ids. */
export function changesOf(measured: Compared, after: Compared): readonly string[] {
  // What a device takes is no part of what was asked.
  const before = { ...measured, search: withoutLatencies(measured.search) };
  const changes: string[] = [];
  if (before.searchHash !== after.searchHash) {
    changes.push(...compareRecords("the search's", settingsOf(before.search), settingsOf(after.search)));
    const recipe = compareRecords("the recipe's", ownRecipe(before), ownRecipe(after));
    changes.push(...candidateChanges(before.search, after.search, recipe.length > 0), ...recipe);
    if (changes.length === 0)
      changes.push(`the search's hash was ${before.searchHash.slice(0, 12)} and is ${after.searchHash.slice(0, 12)}`);
  }
  if (before.dataHash !== after.dataHash)
    changes.push(
      `the data set's manifest was ${before.dataHash.slice(0, 12)} and is ${after.dataHash.slice(0, 12)} (\`${after.data}\`)`,
    );
  return changes;
}

function settingsOf({ space: _space, name: _name, starts, ...settings }: Search): unknown {
  return { ...settings, starts: starts.length };
}

/** @param explained whether the recipe says why all are trained otherwise */
function candidateChanges(before: Search, after: Search, explained: boolean): readonly string[] {
  const [old, now] = [before, after].map(({ space }) => new Map(space.candidates.map((one) => [one.label, one])));
  if (old === undefined || now === undefined) return [];
  const gone = [...old.keys()].filter((label) => !now.has(label));
  const come = [...now.keys()].filter((label) => !old.has(label));
  const others = [...now].flatMap(([label, { hash }]) => {
    const was = old.get(label);
    return was !== undefined && was.hash !== hash ? [label] : [];
  });
  const refused = [...now].flatMap(([label, one]) => {
    const was = old.get(label);
    return was !== undefined && was.hash === one.hash && was.refused !== one.refused ? [label] : [];
  });
  return [
    ...(come.length > 0 ? [`its space has gained ${named(come)}`] : []),
    ...(gone.length > 0 ? [`its space has lost ${named(gone)}`] : []),
    ...(others.length > 0 && !(explained && others.length === now.size)
      ? [`${named(others)} compute or train something else`]
      : []),
    ...(refused.length > 0 ? [`the requirements judge ${named(refused)} otherwise`] : []),
  ];
}

function named(labels: readonly string[]): string {
  const shown = labels.slice(0, NAMED).map((label) => `\`${label}\``);
  return `${labels.length} candidate${labels.length === 1 ? "" : "s"}: ${shown.join(", ")}${labels.length > NAMED ? ", …" : ""}`;
}
