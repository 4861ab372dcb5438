/**
 * Searches for the tests: a small two-stream network with a recipe, and the examples from the disk.
 */
import { expect } from "vitest";
import {
  type CandidateElaboration,
  candidateOf,
  elaborateSearch,
  type SearchElaboration,
  type SearchOptions,
} from "../../compiler/search/elaborate.ts";
import type { Candidate, Search } from "../../compiler/search/search.ts";
import type { Source } from "../../grammar/source.ts";
import { resolveWith } from "../elaborate/programs.ts";

/** Three convolutions, and a recipe that takes a rate and a number of epochs. */
export const NET = `block Tiny(classes: int = 2, width: int = 8)(x: [N, C, H, W]) -> [N, classes] =
  Conv(width) @conv1 -> ReLU -> MaxPool(2) @pool1 -> Conv(width) @conv2 -> ReLU -> Conv(width) @conv3 -> ReLU
  -> GlobalAvgPool -> Linear(classes) @fc
recipe Train(lr: float = 1e-2, epochs: int = 9) {
  data { source = Clips("clips", labels=["calm", "cry"]) }
  optimizer = SGD(lr=lr)
  epochs = epochs
}
`;

const STREAMS = "over spatial: f32[N, 3, 8, 8], temporal: f32[N, 4, 8, 8]";

/** Two streams of it, 8 pixels and 2 fields of flow, with grafts. */
export const tiny = (grafts: string, args = ""): string => `Tiny${args} ×2 ${STREAMS} ${grafts}`.trimEnd();

/** A search over it. */
export const searchIn = (body: string, before = ""): string => `${NET}${before}search S {\n${body}\n}\n`;

export const sourceOf = (text: string): Source => ({ path: "search.net", text });

export function elaborateText(text: string, options: SearchOptions = {}): SearchElaboration {
  return elaborateSearch(sourceOf(text), resolveWith({}), options);
}

/** The search with these lines, about which there is nothing to say. */
export function searchOf(body: string, options: SearchOptions = {}): Search {
  const { search, diagnostics } = elaborateText(searchIn(body), options);
  expect(diagnostics).toEqual([]);
  if (search === undefined) throw new Error("there is no search");
  return search;
}

export const labelsOf = ({ space }: Search): readonly string[] => space.candidates.map(({ label }) => label);

export function candidate(search: Search, label: string): Candidate {
  const found = search.space.candidates.find((each) => each.label === label);
  if (found === undefined) throw new Error(`no candidate is ${label}: ${labelsOf(search).join(" | ")}`);
  return found;
}

export function made(text: string, { levels }: Candidate, options: SearchOptions = {}): CandidateElaboration {
  return candidateOf(sourceOf(text), resolveWith({}), { ...options, levels, complete: false });
}
