/**
 * Writes fixtures/references.json: `node test/bench/references.mjs FOLDER`, from a folder of f32 files, one a workload, with
 * results in f64 of PyTorch rounded to f32: the whole output; for the training step the loss, and then what the step added
 * to every parameter.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { sampleOf, WORKLOADS } from "./workloads.mjs";

const [folder] = process.argv.slice(2);
if (folder === undefined) throw new Error("which folder? node test/bench/references.mjs FOLDER");
const references = {};
for (const [id, { kind }] of Object.entries(WORKLOADS)) {
  const bytes = readFileSync(join(folder, `${id}.f32`));
  const all = new Float32Array(new Uint8Array(bytes).buffer);
  references[id] = kind === "train" ? { ...sampleOf(all.subarray(1)), loss: all[0] } : sampleOf(all);
  // Nine digits are enough for a float32.
  references[id].values = references[id].values.map((value) => Number(value.toPrecision(9)));
}
writeFileSync(new URL("./fixtures/references.json", import.meta.url), `${JSON.stringify(references)}\n`);
