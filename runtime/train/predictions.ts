/**
 * Files of predictions: a header, then a clip a line (records.ts).
 *
 * In: the records, or a file. Out: the other. What is wrong with a file comes back as a sentence that names its line.
 */
import { existsSync, readFileSync } from "node:fs";
import { predictedClass } from "../metrics/scores.ts";
import type { ClipPrediction, PredictionHeader } from "./records.ts";
import { list, numeral, object, oneOf, optional, parse, type Shape, share, text } from "./shape.ts";

/** What a file of predictions holds. */
export interface Predictions {
  readonly header: PredictionHeader;
  readonly clips: readonly ClipPrediction[];
}

const HEADER: Shape = object({
  format: oneOf("netc-predictions"),
  version: oneOf(1),
  run: text,
  model: text,
  graphHash: text,
  side: oneOf("validation", "test"),
  step: numeral,
  seed: numeral,
  fold: text,
  manifestHash: text,
  note: text,
  classes: list(text),
  segments: numeral,
  crops: numeral,
});
const CLIP: Shape = object({
  path: text,
  subject: optional(text),
  class: text,
  probabilities: optional(list(share)),
  failure: optional(text),
});

/**
 * The file's text. Probabilities that are not finite, which JSON cannot hold, are no prediction and are written as a
 * failure that says so.
 */
export function encodePredictions(header: PredictionHeader, clips: readonly ClipPrediction[]): string {
  const told = clips.map((clip) =>
    clip.probabilities === undefined || predictedClass(clip) !== undefined
      ? clip
      : { ...clip, probabilities: undefined, failure: clip.failure ?? "the model's output is not finite" },
  );
  return [header, ...told].map((line) => `${JSON.stringify(line)}\n`).join("");
}

/** Reads what `encodePredictions` wrote. */
export function decodePredictions(content: string): Predictions | { readonly error: string } {
  const [first = "", ...lines] = content.split("\n");
  const top = parse(first, HEADER);
  if ("error" in top) return { error: `line 1 is not the header of a file of predictions: ${top.error}` };
  const header = top.ok as PredictionHeader;
  const { classes } = header;
  if (lines.pop() !== "") return { error: `line ${lines.length + 2} is cut short` };
  const clips: ClipPrediction[] = [];
  const paths = new Set<string>();
  for (const [index, line] of lines.entries()) {
    const at = `line ${index + 2}`;
    const read = parse(line, CLIP);
    if ("error" in read) return { error: `${at}: ${read.error}` };
    const clip = read.ok as ClipPrediction;
    const { path, class: name, probabilities } = clip;
    if (!classes.includes(name)) return { error: `${at}: the class \`${name}\` is not in the header` };
    if (paths.has(path)) return { error: `${at}: \`${path}\` was listed before` };
    if (probabilities !== undefined && probabilities.length !== classes.length)
      return { error: `${at}: ${probabilities.length} probabilities for ${classes.length} classes` };
    paths.add(path);
    // A field that is undefined is not in the file.
    clips.push({ ...clip, subject: clip.subject, probabilities, failure: clip.failure });
  }
  return { header, clips };
}

/**
 * Reads a file of predictions.
 * @throws a system error where the file is there and cannot be read
 */
export function readPredictions(file: string): Predictions | { readonly error: string } {
  if (!existsSync(file)) return { error: `\`${file}\` does not exist` };
  const read = decodePredictions(readFileSync(file, "utf8"));
  return "error" in read ? { error: `\`${file}\`: ${read.error}` } : read;
}
