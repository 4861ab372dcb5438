/**
 * The process that trains trials for a worker: a crash of a driver, or a kernel that takes the process down, costs a
 * trial and not the worker. One trial after the other, so that what they share (threads, compiled kernels) is made once.
 *
 * It ends when its worker is gone. Signals of the terminal reach it too; it leaves them to the worker, who says what is
 * to be done.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { ToTrial, TrialEvent, TrialRecord } from "./messages.ts";
import { TrialHouse, trainHere } from "./training.ts";

const house = new TrialHouse();
let paused = false;

const say = (event: TrialEvent): void => {
  if (process.connected) process.send?.(event);
};

process.on("SIGINT", () => {}).on("SIGTERM", () => {});
process.on("disconnect", () => process.exit(1));
process.on("message", (message: ToTrial) => {
  if (message.kind === "pause") {
    paused = true;
    return;
  }
  paused = false;
  const { order } = message;
  const file = join(order.folder, "record.json");
  const before: TrialRecord | undefined = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : undefined;
  void trainHere(order, before, house, { say, paused: () => paused }).then((end) => say({ kind: "end", end }));
});
