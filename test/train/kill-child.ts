/** Writes checkpoints until it is killed: `node kill-child.js RUN FIRST_STEP`. Says the step of each that is done. */
import { writeSync } from "node:fs";
import { saveCheckpoint } from "../../runtime/train/checkpoint.ts";
import { recordOfStep, stateOfStep } from "./kill-state.ts";

const [, , folder = "", first = "1"] = process.argv;
for (let step = Number(first); ; step++) {
  await saveCheckpoint(folder, recordOfStep(step), stateOfStep(step), { keep: 2 });
  writeSync(1, `${step}\n`);
}
