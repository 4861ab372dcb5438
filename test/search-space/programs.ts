/**
 * Searches for the tests: a small two-stream network with a recipe, and the examples from the disk.
 */
import { expect } from "vitest";
import type { Source } from "../../grammar/source.ts";
import {
  type CandidateElaboration,
  candidateOf,
  elaborateSearch,
  type SearchElaboration,
  type SearchOptions,
} from "../../compiler/search/elaborate.ts";
import type { Candidate, Search } from "../../compiler/search/search.ts";
import { resolveWith } from "../elaborate/programs.ts";

/** Two streams of three convolutions, 16 pixels, 2 fields of flow; and a recipe that takes a rate and a number of epochs. */
export const NET = `block Tiny(classes: int = 2, width: int = 8)(x: [N, C, H, W]) -> [N, classes] =
  Conv(width) @conv1 -> ReLU -> MaxPool(2) @pool1 -> Conv(width) @conv2 -> ReLU -> Conv(width) @conv3 -> ReLU
  -> GlobalAvgPool -> Linear(classes) @fc
recipe Train(lr: float = 1e-2, epochs: int = 9) {
  data { source = Clips("clips", labels=["calm", "cry"]) }
  optimizer = SGD(lr=lr)
  epochs = epochs
}
`;

export const STREAMS = "over spatial: f32[N, 3, 16, 16], temporal: f32[N, 4, 16, 16]";

/** The small network with its grafts. */
export const tiny = (grafts: string, args = ""): string => `Tiny${args} ×2 ${STREAMS} ${grafts}`;

export const sourceOf = (text: string): Source => ({ path: "search.net", text });

export function searchText(
  text: string,
  options: SearchOptions = {},
  files: Readonly<Record<string, string>> = {},
): SearchElaboration {
  return elaborateSearch(sourceOf(text), resolveWith(files), options);
}

/** The search of a text that has no errors. */
export function searchOf(body: string, options: SearchOptions = {}): Search {
  const { search, diagnostics } = searchText(`${NET}search S {\n${body}\n}\n`, options);
  expect(diagnostics).toEqual([]);
  if (search === undefined) throw new Error("there is no search");
  return search;
}

export function candidateIn(text: string, candidate: Candidate, options: SearchOptions = {}): CandidateElaboration {
  return candidateOf(sourceOf(text), resolveWith({}), { ...options, levels: candidate.levels });
}
