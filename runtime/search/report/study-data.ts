/**
 * A study as one plain record: what the store knows of it at one moment, for reports and displays.
 *
 * In: a store. Out: values that JSON keeps. Nothing is computed here, so that everything which is shown is a function of
 * this record.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { decodeManifest, MANIFEST_FILE } from "../../data/manifest.ts";
import { decodePredictions, type Predictions } from "../../train/predictions.ts";
import type { Decision, MetricPoint, ObservationRow, StudyRow, StudyStore, TrialResult, TrialRow } from "../study.ts";

export interface StudyData {
  readonly study: StudyRow;
  /** In order of their numbers. */
  readonly trials: readonly TrialRow[];
  readonly decisions: readonly Decision[];
  readonly observations: readonly ObservationRow[];
  /** By trial, as the next two. */
  readonly results: Readonly<Record<string, TrialResult>>;
  readonly metrics: Readonly<Record<string, readonly MetricPoint[]>>;
  /** Of final trials: what they said of the clips that the table is about. */
  readonly predictions: Readonly<Record<string, Predictions>>;
  /** What the manifest says of the data set; of a drawn one it begins with `SYNTHETIC`. Empty where it is not to be had. */
  readonly note: string;
}

/** Whether the clips were drawn by a program. */
export function isSynthetic({ note }: Pick<StudyData, "note">): boolean {
  return note.trimStart().startsWith("SYNTHETIC");
}

/** The manifest's own words, where the data lies on this machine. */
function noteOfManifest(folder: string): string | undefined {
  const file = join(folder, MANIFEST_FILE);
  if (!existsSync(file)) return undefined;
  const manifest = decodeManifest(readFileSync(file, "utf8"));
  return "error" in manifest ? undefined : manifest.note;
}

async function predictionsOf(store: StudyStore, hash: string): Promise<Predictions | undefined> {
  const bytes = await store.getObject(hash);
  if (bytes === undefined) return undefined;
  const read = decodePredictions(new TextDecoder().decode(bytes));
  // A damaged object is for `netc search verify` to tell; the report goes without.
  return "error" in read ? undefined : read;
}

/**
 * Reads everything of a study.
 * @throws StoreError as the store does, RangeError where it has no such study
 */
export async function readStudy(store: StudyStore, id: string): Promise<StudyData> {
  const study = await store.study(id);
  if (study === undefined) throw new RangeError(`\`${store.address}\` holds no study \`${id}\``);
  const [trials, decisions, observations, results] = await Promise.all([
    store.trials(id),
    store.decisions(id),
    store.observations(id),
    store.results(id),
  ]);
  const metrics: Record<string, readonly MetricPoint[]> = {};
  for (const trial of trials) {
    // One that nobody has taken has no points yet.
    if (trial.attempt === 0) continue;
    const points = await store.metrics(trial.id);
    if (points.length > 0) metrics[trial.id] = points;
  }
  const predictions: Record<string, Predictions> = {};
  let note: string | undefined;
  for (const trial of trials) {
    const objects = results.get(trial.id)?.predictions ?? {};
    const hash = trial.phase === "final" ? (objects["test"] ?? objects["validation"]) : undefined;
    if (hash === undefined) continue;
    const read = await predictionsOf(store, hash);
    if (read === undefined) continue;
    predictions[trial.id] = read;
    note ??= read.header.note;
  }
  // Before the final trials there is one side only.
  for (const result of results.values()) {
    if (note !== undefined) break;
    const [hash] = Object.values(result.predictions);
    if (hash !== undefined) note = (await predictionsOf(store, hash))?.header.note;
  }
  return {
    study,
    trials: [...trials].sort((a, b) => a.number - b.number),
    decisions,
    observations,
    results: Object.fromEntries(results),
    metrics,
    predictions,
    note: note ?? noteOfManifest(study.data) ?? "",
  };
}
