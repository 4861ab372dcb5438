/**
 * Names that say what they name: the same study or trial has the same id on every machine, so that none is made twice.
 */
import { createHash } from "node:crypto";
import type { Phase, StudyRow } from "../study.ts";

function hashOf(...parts: readonly string[]): string {
  // As JSON, so that no two lists run together into one text.
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
}

/** What a study is: a search with its sources, on one data set. */
export function studyIdOf({ name, searchHash, dataHash }: Pick<StudyRow, "name" | "searchHash" | "dataHash">): string {
  return hashOf("study", name, searchHash, dataHash);
}

/** What a trial is: a candidate of a study, by its hash, and which of its trainings. */
export function trialIdOf(study: string, candidate: string, phase: Phase, replicate: number): string {
  return hashOf("trial", study, candidate, phase, String(replicate));
}
